//! What has changed lately: of a service, of its neighbours, of Horus and the machine. It goes into the evidence: who hangs after a
//! deploy, a change of the plan or the end of a neighbour hangs because of it more often than not.

use std::collections::VecDeque;
use std::fs::Metadata;
use std::time::Duration;

use horus_core::event::{Event, What};
use horus_core::ids::ServiceName;
use horus_core::plan::LaunchPlan;
use horus_probe::Change;
use jiff::Timestamp;

use crate::cli::words;

/// For how long a change is worth a line.
const KEPT_FOR: Duration = Duration::from_secs(5 * 60);

/// So many are kept, of all services together.
const KEPT_MAX: usize = 512;

/// So many words of a command may be files of it.
const WORDS_MAX: usize = 8;

/// So many lines go into one bundle: the newest.
const TOLD_MAX: usize = 20;

/// The changes of the last minutes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    kept: VecDeque<Kept>,
}

#[derive(Debug)]
struct Kept {
    at: Timestamp,
    subject: String,
    /// Others may feel it.
    spreads: bool,
    what: String,
}

impl Changes {
    /// Keeps it, if it is one.
    pub(super) fn take(&mut self, at: Timestamp, event: &Event) {
        let Some(spreads) = reach(&event.what) else { return };
        if self.kept.len() >= KEPT_MAX {
            self.kept.pop_front();
        }
        let what = words::sentence(&event.what);
        self.kept.push_back(Kept { at, subject: event.subject.clone(), spreads, what });
    }

    /// What may have to do with this service, the oldest first.
    pub(super) fn about(&self, service: &ServiceName, now: Timestamp) -> Vec<Change> {
        let lately = |kept: &&Kept| now.duration_since(kept.at).unsigned_abs() <= KEPT_FOR;
        let concerns = |kept: &&Kept| kept.spreads || kept.subject == service.as_str();
        let newest = self.kept.iter().rev().filter(lately).filter(concerns).take(TOLD_MAX);
        let change =
            |kept: &Kept| Change { at: kept.at, subject: kept.subject.clone(), what: kept.what.clone() };
        let mut changes: Vec<Change> = newest.map(change).collect();
        changes.reverse();
        changes
    }
}

/// Files of its command that were written a short time ago: somebody has deployed. Blocks.
pub(super) fn of_files(launch: &LaunchPlan, subject: &str) -> Vec<Change> {
    let now = Timestamp::now();
    let words = launch.command.iter().take(WORDS_MAX).filter(|word| !word.starts_with('-'));
    let written = words.filter_map(|word| {
        let metadata = std::fs::metadata(launch.directory.join(word)).ok().filter(Metadata::is_file)?;
        let at = Timestamp::try_from(metadata.modified().ok()?).ok()?;
        let lately = at <= now && now.duration_since(at).unsigned_abs() <= KEPT_FOR;
        lately.then(|| Change {
            at,
            subject: subject.to_owned(),
            what: format!("its file {word} was written"),
        })
    });
    written.collect()
}

/// Whether it is a change, and whether others than its subject may feel it. What Horus thinks, says and captures is none.
fn reach(what: &What) -> Option<bool> {
    match what {
        What::PlanLoaded { .. }
        | What::Exited { .. }
        | What::OperatorAsked { .. }
        | What::OwnLateness { .. }
        | What::Host { .. }
        | What::MaintenanceBegan { .. }
        | What::MaintenanceEnded { .. }
        | What::Horus { .. } => Some(true),
        What::Started { .. }
        | What::Adopted { .. }
        | What::StartFailed { .. }
        | What::BecameReady { .. }
        | What::StraysKilled { .. }
        | What::Signalled { .. }
        | What::Recovered { .. }
        | What::HoldSet { .. }
        | What::HoldEnded { .. }
        | What::StepBegun { .. }
        | What::SaidStatus { .. }
        | What::Stalled { .. }
        | What::RunFinished { .. } => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(subject: &str, what: What) -> Event {
        Event { subject: subject.into(), generation: None, incident: None, what }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn said(text: &str) -> What {
        What::SaidStatus { text: text.into() }
    }

    #[test]
    fn what_changed_lately_for_a_service_is_told_the_oldest_first_and_few() {
        let mut changes = Changes::default();
        let plan = || What::PlanLoaded { summary: "bot: deadline".into() };
        changes.take(at(0), &event("horus", plan()));
        changes.take(at(10), &event("bot", said("connecting")));
        changes.take(at(20), &event("other", said("busy")));
        changes.take(at(30), &event("bot", What::VerifiedGone { killed: 0 }));
        let bot = ServiceName::parse("bot").unwrap();
        let told: Vec<String> =
            changes.about(&bot, at(60)).into_iter().map(|change| change.subject).collect();
        assert_eq!(told, ["horus", "bot"], "its own, and what all may feel");
        assert_eq!(changes.about(&bot, at(305)).len(), 1, "the first is too old");
        for second in 0..2_000 {
            changes.take(at(400 + second / 100), &event("bot", said("x")));
        }
        assert_eq!((changes.about(&bot, at(420)).len(), changes.kept.len()), (TOLD_MAX, KEPT_MAX));
    }
}
