//! One drill: the fault, the journal after it, and the verdict on each step.

use std::time::Duration;

use horus_api::{API_SCHEMA, Client, EVENTS_MAX, EventLine, EventQuery};
use horus_core::event::What;
use horus_core::ids::{IncidentId, ServiceName};
use horus_core::observation::CaptureStage;
use horus_core::record::Recorded;
use horus_core::status::ServiceStatus;
use horus_sys::process::{ProcessId, identify, is_alive};
use horus_sys::signal::{Signal, send};
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::args::DrillFault;
use crate::cli::exit::ExitStatus;
use crate::cli::fault::Fault;
use crate::cli::words;

/// The program is well, and has beaten for a deadline, within this and that deadline, or there is nothing to drill.
const UP_WITHIN: Duration = Duration::from_secs(30);

/// How often it is looked whether it is up.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Room beside the deadlines of a service for its end, its start and a slow machine; then the drill has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What Horus promises beyond the deadlines: a look and a second.
const BOUND_BEYOND: Duration = Duration::from_secs(1);

/// The first restart after an end is at once; a busy machine takes so long for it.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What is drilled.
pub(super) struct Drilled<'a> {
    pub(super) client: &'a Client,
    pub(super) service: &'a ServiceName,
    pub(super) fault: DrillFault,
}

/// What became of it.
#[derive(Debug, Serialize)]
pub(crate) struct Drill {
    /// Version of this format.
    pub(crate) schema: u32,
    /// The service.
    pub(crate) service: ServiceName,
    /// The fault.
    pub(crate) fault: DrillFault,
    /// Its incident.
    pub(crate) incident: Option<IncidentId>,
    /// When the fault was fired.
    pub(crate) at: Timestamp,
    /// What happened, in order.
    pub(crate) steps: Vec<Step>,
    /// What was looked at besides, each with whether it is so.
    pub(crate) checks: Vec<(String, bool)>,
    /// The private Horus of the drill was seen gone. `None`: there was none.
    pub(crate) cleaned_up: Option<bool>,
}

/// A step of the healing.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    /// What.
    pub(crate) name: &'static str,
    /// How long after the fault. `None`: it did not happen.
    pub(crate) after_ms: Option<u64>,
    /// How long it may take.
    pub(crate) bound_ms: Option<u64>,
    /// What the journal says.
    pub(crate) text: String,
}

impl Step {
    /// It happened, and in time.
    pub(crate) fn is_kept(&self) -> bool {
        self.after_ms.is_some_and(|after| self.bound_ms.is_none_or(|bound| after <= bound))
    }
}

impl Drill {
    /// Every step was kept and every check is so.
    pub(crate) fn passed(&self) -> bool {
        self.steps.iter().all(Step::is_kept)
            && self.checks.iter().all(|(_, so)| *so)
            && self.cleaned_up != Some(false)
    }
}

/// Fires the fault and follows what becomes of it.
pub(super) async fn conduct(drilled: &Drilled<'_>) -> Result<Drill, Fault> {
    let (status, old) = up(drilled).await?;
    let query = EventQuery {
        after: None,
        limit: EVENTS_MAX,
        subject: Some(drilled.service.to_string()),
        incident: None,
    };
    let last = drilled.client.events(&query).await?.events.last().map_or(0, |row| row.seq);
    let mut stream = drilled.client.follow_events(&EventQuery { after: Some(last), ..query }).await?;
    let at = Timestamp::now();
    send(&old, drilled.fault.signal()).map_err(|error| {
        Fault::new(
            ExitStatus::Failed,
            format!("{} cannot be signalled", drilled.service),
            "as the user of horus, or root?",
        )
        .because(&error)
    })?;
    let deadline = Duration::from_millis(status.deadline_ms);
    let mut rows: Vec<Recorded> = Vec::new();
    let following = async {
        while let Some(line) = stream.next().await? {
            let EventLine::Event(row) = line else { break };
            rows.push(row);
            if rows.len() >= EVENTS_MAX || healed_and_told(&rows) {
                break;
            }
        }
        Ok::<(), Fault>(())
    };
    // What did not happen by then is told as a step that is missing.
    let ended = tokio::time::timeout(deadline.saturating_mul(4).saturating_add(PATIENCE), following).await;
    ended.unwrap_or(Ok(()))?;
    let incident = rows.iter().find_map(|row| match row.event.what {
        What::IncidentOpened { .. } => row.event.incident,
        _ => None,
    });
    let steps = steps(drilled.fault, deadline, at, &rows);
    let checks = checks(drilled.fault, &rows, old);
    let (schema, service) = (API_SCHEMA, drilled.service.clone());
    Ok(Drill { schema, service, fault: drilled.fault, incident, at, steps, checks, cleaned_up: None })
}

/// Both the first sign of work and a message: the message about an end comes after the sign.
fn healed_and_told(rows: &[Recorded]) -> bool {
    let has = |is_it: &dyn Fn(&What) -> bool| rows.iter().any(|row| is_it(&row.event.what));
    has(&|what| matches!(what, What::Recovered { .. })) && has(&|what| matches!(what, What::Told { .. }))
}

/// The service's process, once it runs and beats.
async fn up(drilled: &Drilled<'_>) -> Result<(ServiceStatus, ProcessId), Fault> {
    let waiting = async {
        loop {
            let status = drilled.client.service(drilled.service).await?;
            // Absence counts only against what was heard for a whole deadline.
            let heard = drilled.fault != DrillFault::Hang || status.up_for_ms >= Some(status.deadline_ms);
            // What is not over yet would go on with the drill, as the same incident.
            if heard
                && status.incidents.is_empty()
                && status.verdict == horus_core::verdict::Verdict::Healthy
                && let Some(pid) = status.pid
                && let Ok(Some(process)) = identify(pid)
            {
                return Ok((status, process));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let late = || {
        let name = drilled.service;
        let text = format!(
            "{name} is not healthy, or its last incident is not over: what is ill already proves nothing in a drill"
        );
        Fault::new(ExitStatus::Failed, text, format!("horus explain {name}"))
    };
    let status = drilled.client.service(drilled.service).await?;
    let within = UP_WITHIN.saturating_add(Duration::from_millis(status.deadline_ms));
    tokio::time::timeout(within, waiting).await.map_err(|_| late())?
}

fn steps(fault: DrillFault, deadline: Duration, at: Timestamp, rows: &[Recorded]) -> Vec<Step> {
    let step = |name: &'static str, bound: Option<Duration>, is_it: fn(&What) -> bool| {
        let row = rows.iter().find(|row| is_it(&row.event.what));
        let millis = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let after = |row: &Recorded| Duration::try_from(row.at.duration_since(at)).unwrap_or_default();
        Step {
            name,
            after_ms: row.map(|row| millis(after(row))),
            bound_ms: bound.map(millis),
            text: row.map_or_else(|| "did not happen".to_owned(), |row| words::sentence(&row.event.what)),
        }
    };
    let seen = deadline.saturating_mul(2).saturating_add(BOUND_BEYOND);
    let started: fn(&What) -> bool = |what| matches!(what, What::Started { .. });
    let recovered: fn(&What) -> bool = |what| matches!(what, What::Recovered { .. });
    let told: fn(&What) -> bool = |what| matches!(what, What::Told { .. });
    match fault {
        DrillFault::Hang => vec![
            step("seen", Some(seen), |what| matches!(what, What::IncidentOpened { .. })),
            step("evidence", Some(seen.saturating_add(BOUND_BEYOND)), |what| {
                matches!(what, What::EvidenceCaptured { stage: CaptureStage::Verdict, .. })
            }),
            step("restart decided", Some(seen), |what| matches!(what, What::KillDecided { .. })),
            step("told", Some(seen.saturating_add(BOUND_BEYOND)), told),
            step("old one ended", None, |what| matches!(what, What::Exited { .. })),
            step("new one started", None, started),
            step("works again", None, recovered),
        ],
        DrillFault::Exit | DrillFault::Kill => vec![
            step("seen", Some(AT_ONCE), |what| matches!(what, What::Exited { .. })),
            step("new one started", Some(AT_ONCE), started),
            step("works again", None, recovered),
            step("told", None, told),
        ],
    }
}

/// What the times do not show.
fn checks(fault: DrillFault, rows: &[Recorded], old: ProcessId) -> Vec<(String, bool)> {
    let seq = |is_it: fn(&What) -> bool| rows.iter().find(|row| is_it(&row.event.what)).map(|row| row.seq);
    let new = rows.iter().rev().find_map(|row| match &row.event.what {
        What::Started { process } => Some(ProcessId { pid: process.pid, start_time: process.start_time }),
        _ => None,
    });
    let mut checks =
        vec![(format!("the old process, pid {}, is gone, by pid and start time", old.pid), !is_alive(&old))];
    let (name, lives) = match new {
        Some(new) => (format!("the new process, pid {}, lives", new.pid), new != old && is_alive(&new)),
        None => ("a new process lives".to_owned(), false),
    };
    checks.push((name, lives));
    if fault == DrillFault::Hang {
        let signalled = seq(|what| matches!(what, What::Signalled { .. }));
        let before =
            |earlier: Option<u64>| earlier.zip(signalled).is_some_and(|(earlier, later)| earlier < later);
        let evidence =
            seq(|what| matches!(what, What::EvidenceCaptured { stage: CaptureStage::Verdict, .. }));
        checks.push(("evidence was taken before the first signal".to_owned(), before(evidence)));
        let told = seq(|what| matches!(what, What::Told { .. }));
        checks.push(("the alert was in the outbox before the first signal".to_owned(), before(told)));
    }
    checks
}

impl DrillFault {
    /// How it is fired. A sample obeys the first two by hanging and by ending.
    fn signal(self) -> Signal {
        match self {
            Self::Hang => Signal::USR1,
            Self::Exit => Signal::USR2,
            Self::Kill => Signal::KILL,
        }
    }
}
