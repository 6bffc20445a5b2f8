//! One case: the program is seen to be well, goes into its mode, and whatever Horus says and does is written down.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use horus_core::event::What;
use horus_core::notice::Story;
use horus_core::observation::{KernelWord, OperatorRequest};
use horus_core::record::Recorded;
use horus_core::status::ServiceStatus;
use horus_core::verdict::{LoopAxis, Verdict};
use horus_tests::{FAILSAFE, Rig, name};
use jiff::Timestamp;
use tokio::sync::OwnedSemaphorePermit;

use crate::board::Board;
use crate::cases::{Act, Case, Did, Truth};
use crate::holds::Hold;
use crate::programs::{Place, Programs};

/// A program is well for so long before anything happens to it.
const WARM_UP: Duration = Duration::from_secs(20);

/// What was not said by then is not said: far more than any bound, since on a busy machine only time is counted in which the program
/// could have run.
const SAID_WITHIN: Duration = Duration::from_secs(150);

/// Whoever is to be left alone is watched for so many deadlines.
const QUIET_DEADLINES: u32 = 4;

/// What came of a case.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) did: Did,
    /// The word that led to it; all that were said, if nothing was done.
    pub(crate) verdicts: BTreeSet<Verdict>,
    /// Everything that was said about where; what a person was told; what the kernel shows.
    pub(crate) places: Vec<String>,
    pub(crate) told: Option<String>,
    /// Evidence came, with stacks: on a starved machine it may not.
    pub(crate) evidence: bool,
    pub(crate) kernel: Option<String>,
    /// From the fault to the word, and to the deed.
    pub(crate) said_after: Option<Duration>,
    pub(crate) did_after: Option<Duration>,
    /// Signals that Horus sent to the process that went into its mode.
    pub(crate) signals: usize,
    /// After a restart: it works again.
    pub(crate) recovered: bool,
}

/// It is known to be well: what was learned of it can be relied on.
pub(crate) async fn warm_up(board: &Board, case: &Case) -> Result<(), String> {
    let known = |status: &ServiceStatus| {
        let beats = !case.beats || status.loop_axis.is == LoopAxis::Beating;
        let word = status.kernel.as_ref().map(|kernel| kernel.word);
        let seen = matches!(word, Some(KernelWord::Alive | KernelWord::NoLoop));
        beats && seen && status.up_for_ms >= Some(u64::try_from(WARM_UP.as_millis()).unwrap())
    };
    board.until(&case.name(), SAID_WITHIN, known).await
}

/// Sends it into its mode, and waits for what comes of it.
pub(crate) async fn play(
    rig: &Rig,
    board: &Board,
    case: &Case,
    programs: &Programs,
    place: &Place,
    turn: OwnedSemaphorePermit,
) -> Result<Outcome, String> {
    let service = case.name();
    let before = rig.journal.last();
    let process = board.process(&service)?;
    let act = case.mode.act;
    let squeezed = if act == Act::Squeeze { Some(Hold::squeeze(&process, &place.order)?) } else { None };
    if act.is_ordered() {
        std::fs::File::create(place.order.join("go")).unwrap();
    }
    let since = gone(&service, act, &place.order).await?;
    let mut hold = match squeezed {
        Some(hold) => hold,
        None => Hold::take(act, &process, programs, place.port).await?,
    };

    let is_ours = |event: &Recorded| event.event.subject == service;
    let deed = |event: &Recorded| {
        is_ours(event) && matches!(event.event.what, What::KillDecided { .. } | What::Told { .. })
    };
    let kill = |event: &Recorded| is_ours(event) && matches!(event.event.what, What::KillDecided { .. });
    let quiet = (case.deadline() * QUIET_DEADLINES + Duration::from_secs(2)).max(case.mode.takes);
    let patience = if case.expected.did == Did::Nothing { quiet } else { SAID_WITHIN };
    let first = rig.journal.wait(before, patience, deed).await;
    // What burns ends before the next one begins.
    let turn = case.mode.burns.then_some(turn);
    if let Some(first) = &first {
        // Who is told first may act later: absence alone restarts at twice the deadline.
        let age = Duration::try_from(Timestamp::now().duration_since(since)).unwrap_or_default();
        let later = (case.deadline() * 2 + Duration::from_secs(3)).saturating_sub(age);
        if !kill(first) {
            rig.journal.wait(before, later, kill).await;
        }
    }
    let killed = rig.journal.all().iter().any(|event| event.seq > before && kill(event));
    let well = |event: &Recorded| is_ours(event) && matches!(event.event.what, What::Recovered { .. });
    let recovered = killed && rig.journal.wait(before, FAILSAFE, well).await.is_some();
    let mut outcome = read(&rig.journal.all(), &service, before, since);
    outcome.recovered = recovered;
    outcome.kernel = board.of(&service).and_then(|status| status.kernel).map(|kernel| kernel.phrase);
    hold.let_go().await;
    // Whoever is well again stays: of many that are well a few may hang.
    if outcome.did == Did::Told || case.mode.burns {
        stop(rig, &service).await;
    }
    drop(turn);
    Ok(outcome)
}

/// The instant in which it goes wrong.
async fn gone(service: &str, act: Act, order: &Path) -> Result<Timestamp, String> {
    if !act.is_ordered() {
        return Ok(Timestamp::now());
    }
    let path = order.join("gone");
    let going = async {
        loop {
            if let Ok(changed) = std::fs::metadata(&path).and_then(|found| found.modified()) {
                return Timestamp::try_from(changed).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(FAILSAFE, going).await.map_err(|_| format!("{service} does not take its order"))
}

/// Reads what came of it from the journal.
fn read(events: &[Recorded], service: &str, before: u64, since: Timestamp) -> Outcome {
    let ours: Vec<&Recorded> =
        events.iter().filter(|event| event.seq > before && event.event.subject == service).collect();
    let kill = ours.iter().find(|event| matches!(event.event.what, What::KillDecided { .. }));
    let told = ours.iter().find(|event| matches!(event.event.what, What::Told { .. }));
    let deed = kill.or(told);
    // The word of a decision is written down after it, and before the first signal.
    let signal = ours.iter().find(|event| matches!(event.event.what, What::Signalled { .. }));
    let (did, end) = match (kill, told) {
        (Some(kill), _) => (Did::Restarted, signal.map_or(kill.seq, |signal| signal.seq)),
        (None, Some(told)) => (Did::Told, told.seq),
        (None, None) => (Did::Nothing, u64::MAX),
    };
    let after = |event: &Recorded| Duration::try_from(event.at.duration_since(since)).ok();
    let did_after = deed.and_then(|event| after(event));
    let judged = |event: &&&Recorded| matches!(event.event.what, What::Judged { .. }) && event.seq < end;
    let word = |event: &Recorded| match &event.event.what {
        What::Judged { to, .. } => Some(*to),
        _ => None,
    };
    let last = ours.iter().rev().find(judged);
    let verdicts = match did {
        Did::Nothing => ours.iter().filter_map(|event| word(event)).collect(),
        _ => last.and_then(|event| word(event)).into_iter().collect(),
    };
    let signals = ours.iter().filter(|event| matches!(event.event.what, What::Signalled { .. })).count();
    Outcome {
        did,
        verdicts,
        places: ours
            .iter()
            .filter(|event| event.seq <= end)
            .flat_map(|event| places(&event.event.what))
            .collect(),
        told: ours.iter().find_map(|event| place(&event.event.what)),
        kernel: None,
        evidence: ours.iter().filter(|event| event.seq <= end).any(|event| is_evidence(&event.event.what)),
        // The word may be written down after the deed that it led to.
        said_after: last.filter(|_| deed.is_some()).and_then(|event| after(event)).min(did_after),
        did_after,
        signals,
        recovered: false,
    }
}

/// What a person was told of where it is.
fn place(what: &What) -> Option<String> {
    match what {
        What::Told { story: Story::KernelView { seen, place, .. }, .. } => {
            Some(place.clone().unwrap_or_else(|| seen.clone()))
        }
        What::Told { story: Story::StuckRestarting { place, how, .. }, .. } => {
            Some(place.clone().unwrap_or_else(|| how.clone()))
        }
        _ => None,
    }
}

/// A whole capture: what could not be seen in time is said in it.
fn is_evidence(what: &What) -> bool {
    let What::EvidenceCaptured { finding, .. } = what else { return false };
    let late = |missing: &String| missing.contains("stacks") || missing.contains("evidence");
    !finding.phrase.is_empty() && !finding.missing.iter().any(late)
}

/// What an event says about where it is.
fn places(what: &What) -> Vec<String> {
    match what {
        What::EvidenceCaptured { finding, .. } => vec![finding.phrase.clone()],
        What::Judged { reason, .. } | What::KillDecided { reason, .. } => vec![reason.text.clone()],
        What::Told { story: Story::KernelView { seen, place, .. }, .. } => {
            [Some(seen.clone()), place.clone()].into_iter().flatten().collect()
        }
        What::Told { story: Story::StuckRestarting { place, how, .. }, .. } => {
            [Some(how.clone()), place.clone()].into_iter().flatten().collect()
        }
        _ => Vec::new(),
    }
}

/// Ends it, so that it costs nobody anything any more.
async fn stop(rig: &Rig, service: &str) {
    if let Ok(asked) = rig.client.ask(&OperatorRequest::Stop(name(service))).await {
        let _ = tokio::time::timeout(FAILSAFE, asked.answer()).await;
    }
}

/// What is wrong with an outcome.
pub(crate) fn faults(case: &Case, outcome: &Outcome) -> Vec<String> {
    let (expected, mut faults) = (case.expected, Vec::new());
    if outcome.did != expected.did {
        faults.push(format!("did {:?}, expected {:?}", outcome.did, expected.did));
    }
    let strange: Vec<_> = outcome.verdicts.iter().filter(|word| !expected.verdicts.contains(word)).collect();
    if !strange.is_empty() {
        faults.push(format!("said {strange:?}, expected one of {:?}", expected.verdicts));
    }
    if expected.did != Did::Restarted && outcome.signals > 0 {
        faults.push(format!("{} signals", outcome.signals));
    }
    if outcome.did == Did::Restarted && !outcome.recovered {
        faults.push("it did not recover".into());
    }
    if expected.did != Did::Nothing && outcome.evidence {
        let all = outcome.places.join("\n");
        let unnamed: Vec<_> = expected.place.iter().filter(|part| !all.contains(**part)).collect();
        if !unnamed.is_empty() {
            faults.push(format!("{unnamed:?} is named nowhere in {:#?}", outcome.places));
        }
    }
    if case.mode.truth == Truth::Hung && outcome.did != Did::Nothing && outcome.did_after.is_none() {
        faults.push("it was said before it was so".into());
    }
    faults
}
