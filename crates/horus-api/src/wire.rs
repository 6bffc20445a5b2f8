//! What travels: one type per answer, each with the version of its format.
//!
//! Fields are only added within a version; readers ignore what they do not know.

use std::time::Duration;

use horus_core::command::Answer;
use horus_core::event::{Event, What};
use horus_core::ids::{IncidentId, ServiceName, SinkName};
use horus_core::outbox::DeliveryState;
use horus_core::record::{IncidentRecord, Recorded};
use horus_core::status::ServiceStatus;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Version of every format in this module.
pub const API_SCHEMA: u32 = 1;

/// `GET /api/v1/version`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionReport {
    /// Version of this format.
    pub schema: u32,
    /// Version of the daemon: "0.1.0".
    pub version: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// When it was started.
    pub started_at: Timestamp,
}

/// `GET /healthz`: is Horus itself well? (The health of the services is `status`.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// Version of this format.
    pub schema: u32,
    /// Nothing is wrong with Horus. Answered with 200 if so, with 503 if not.
    pub healthy: bool,
    /// What is wrong, one sentence each.
    pub faults: Vec<String>,
}

/// `GET /api/v1/services/{name}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// Version of this format.
    pub schema: u32,
    /// The service.
    pub service: ServiceStatus,
}

/// Which events are asked for. All conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventQuery {
    /// Only events with a greater number. With it, the *oldest* of these are answered; without it, the newest of all.
    pub after: Option<u64>,
    /// At most so many. The server cuts it to [`crate::EVENTS_MAX`].
    pub limit: usize,
    /// Only events about this service or monitor (`horus` for Horus itself).
    pub subject: Option<String>,
    /// Only events that belong to this incident.
    pub incident: Option<IncidentId>,
}

impl EventQuery {
    /// Does the event pass the conditions other than `limit`?
    pub fn admits(&self, event: &Recorded) -> bool {
        self.after.is_none_or(|after| event.seq > after)
            && self.subject.as_ref().is_none_or(|subject| *subject == event.event.subject)
            && self.incident.is_none_or(|incident| event.event.incident == Some(incident))
    }
}

/// `GET /api/v1/events`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventsReport {
    /// Version of this format.
    pub schema: u32,
    /// The events, oldest first.
    pub events: Vec<Recorded>,
}

/// `GET /api/v1/incidents`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentsReport {
    /// Version of this format.
    pub schema: u32,
    /// The incidents, newest first.
    pub incidents: Vec<IncidentRecord>,
}

/// `GET /api/v1/incidents/{id}`: the whole story.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentReport {
    /// Version of this format.
    pub schema: u32,
    /// Its row.
    pub incident: IncidentRecord,
    /// Every event that belongs to it, oldest first.
    pub events: Vec<Recorded>,
    /// Where its message stands at each sink.
    pub deliveries: Vec<DeliveryState>,
    /// Paths of its evidence files.
    pub evidence: Vec<String>,
}

/// `GET /api/v1/debts`: surprises without a rule or a test against the next one, the oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DebtsReport {
    /// Version of this format.
    pub schema: u32,
    /// One row for each subject and kind.
    pub debts: Vec<Debt>,
}

/// One surprise, however often it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Debt {
    /// How often it came since a rule was last noted for it.
    pub times: usize,
    /// The first of them.
    pub oldest: IncidentRecord,
    /// The last of them, the same as `oldest` if there is one only.
    pub newest: IncidentId,
}

impl Debt {
    /// One debt for each subject and kind. `unpaid`: the oldest first; so are the debts.
    pub fn gather(unpaid: Vec<IncidentRecord>) -> Vec<Self> {
        let mut debts: Vec<Self> = Vec::new();
        for incident in unpaid {
            let same = |debt: &&mut Self| {
                (debt.oldest.subject.as_str(), debt.oldest.kind) == (incident.subject.as_str(), incident.kind)
            };
            match debts.iter_mut().find(same) {
                Some(debt) => {
                    debt.times += 1;
                    debt.newest = incident.id;
                }
                None => debts.push(Self { times: 1, newest: incident.id, oldest: incident }),
            }
        }
        debts
    }
}

/// `POST /api/v1/incidents/{id}/rule`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleReport {
    /// Version of this format.
    pub schema: u32,
    /// The incidents that the note was written to: the one that was named, and older ones of the same subject and kind.
    pub incidents: Vec<IncidentId>,
    /// Why it is not on disk yet, and may be lost with this Horus. `None`: it is.
    pub unsaved: Option<String>,
}

/// `POST /api/v1/alerts/test`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertsReport {
    /// Version of this format.
    pub schema: u32,
    /// One row per sink that was tried.
    pub sinks: Vec<SinkTest>,
}

/// What became of the test message at one sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkTest {
    /// Which.
    pub sink: SinkName,
    /// It acknowledged the message.
    pub delivered: bool,
    /// What it said, or what to do; never its URL.
    pub detail: String,
}

/// `POST /api/v1/reload`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// Version of this format.
    pub schema: u32,
    /// It was only looked at.
    pub dry_run: bool,
    /// The new plan is in force. False for a dry run, and if there are faults.
    pub applied: bool,
    /// What differs, one sentence each. Empty: nothing.
    pub changes: Vec<String>,
    /// What is wrong with the file. If any is, nothing was changed.
    pub faults: Vec<ReloadFault>,
}

/// A fault of the configuration file, as text: the daemon has the file, the reader may not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadFault {
    /// `watchdog.toml:12:7`, as far as it is known.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// `GET /api/v1/upgrade`: how the last try to become another program went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeReport {
    /// Version of this format.
    pub schema: u32,
    /// Process id of the daemon: an upgrade keeps it.
    pub pid: u32,
    /// What runs: `0.1.0 (build 3f2a91c07be4)`.
    pub program: String,
    /// How many tries this process has seen to their end, whatever that was. Dry runs do not count.
    pub tries: u32,
    /// One goes on: Horus itself is at it, or its keeper after it.
    pub under_way: bool,
    /// The last that has ended.
    pub last: Option<UpgradeOutcome>,
}

/// How a try to become another program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeOutcome {
    /// Horus is the new program. False: it is what it was.
    pub upgraded: bool,
    /// What ran before.
    pub from: String,
    /// What was to run: a program if it could be asked, else a path.
    pub to: String,
    /// Services whose processes go on under the same pid. 0 if nothing was tried.
    pub services_kept: usize,
    /// What became of the keeper: "keeper upgraded", "the keeper stays as it is: ...".
    pub keeper: Option<String>,
    /// All of it in one sentence.
    pub text: String,
    /// What to do about it, if it did not work.
    pub hint: Option<String>,
}

/// One step of an answer to a request that takes time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskStep {
    /// It goes on.
    Progress(Progress),
    /// It is over. Nothing follows.
    Answer(Answer),
}

/// How a request gets on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What was done, or is waited for: "SIGTERM sent".
    pub text: String,
    /// The step ends after at most so long, counted from this line; the reader shows the time itself.
    pub limit_ms: Option<u64>,
}

impl Progress {
    /// The line that tells a waiting person about an event of the service, if it is one that they wait for.
    ///
    /// `grace` is how long the soft signal may take to work, `startup` the cap on the first fresh tick.
    pub fn of(event: &Event, grace: Duration, startup: Duration) -> Option<Self> {
        let plain = |text: String| Some(Self { text, limit_ms: None });
        let within = |text: String, limit: Duration| {
            Some(Self { text, limit_ms: Some(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)) })
        };
        match &event.what {
            What::StartAsked { .. } => plain("asked of the keeper".into()),
            What::Started { process } => {
                within(format!("started as {process}, waiting until it is ready"), startup)
            }
            What::StartFailed { error } => plain(format!("the start failed: {error}")),
            What::BecameReady { by, .. } => plain(format!("ready ({by})")),
            What::Delayed { delay, reason } => within(format!("start delayed: {reason}"), *delay),
            What::Signalled { signal, tree: false, .. } => within(format!("{signal} sent"), grace),
            What::Signalled { signal, tree: true, .. } => plain(format!("{signal} sent to the whole tree")),
            What::Exited { exit, .. } => plain(exit.verb()),
            What::StraysKilled { count } => plain(format!("{count} left-over processes killed")),
            What::VerifiedGone { .. } => plain("verified gone".into()),
            What::HoldSet { .. } => plain("held".into()),
            What::HoldEnded { how } => plain(format!("hold ended: {how}")),
            What::BreakerClosed { .. } => plain("breaker closed".into()),
            _ => None,
        }
    }
}

/// A line of the stream that answers `POST /api/v1/services/{name}/stop` and its like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskLine {
    /// It goes on.
    Progress(Progress),
    /// It is over.
    Answer(Answer),
    /// The stream ends without an answer.
    End(End),
}

/// A line of `GET /api/v1/events?follow=true`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    clippy::large_enum_variant,
    reason = "each line is made, written and dropped; a box would buy nothing"
)]
pub enum EventLine {
    /// It happened.
    Event(Recorded),
    /// The stream ends.
    End(End),
}

/// The last line of a stream that did not end by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why, for programs.
    pub why: EndWhy,
    /// Why, for people.
    pub detail: String,
}

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndWhy {
    /// The reader did not read.
    TooSlow,
    /// Horus is ending.
    ShuttingDown,
    /// The journal could not be read, or the request was dropped inside Horus.
    Fault,
}

/// The service of a path, or why it is none.
pub(crate) fn service_name(text: &str) -> Result<ServiceName, crate::Problem> {
    ServiceName::parse(text).map_err(|fault| crate::Problem::no_such_service(text, &fault.to_string()))
}

#[cfg(test)]
mod tests {
    use horus_core::reason::{Reason, Rule};

    use super::*;

    fn progress(what: What) -> Option<(String, Option<u64>)> {
        let event = Event { subject: "trading".into(), generation: None, incident: None, what };
        let progress = Progress::of(&event, Duration::from_secs(20), Duration::from_secs(60))?;
        Some((progress.text, progress.limit_ms))
    }

    #[test]
    fn a_waiting_person_hears_what_they_wait_for() {
        let signalled = |signal: &str, tree: bool| What::Signalled {
            signal: signal.into(),
            tree,
            reason: Reason::new(Rule::Operator, "a person asked for a stop"),
        };
        assert_eq!(progress(signalled("SIGTERM", false)), Some(("SIGTERM sent".into(), Some(20_000))));
        assert_eq!(
            progress(signalled("SIGKILL", true)),
            Some(("SIGKILL sent to the whole tree".into(), None))
        );
        assert_eq!(progress(What::SaidStatus { text: "bar 812".into() }), None);
    }
}
