//! Rows as they come back from the store: events with their number and time of day, incidents with their life.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Event, Outcome};
use crate::ids::IncidentId;
use crate::notice::IncidentKind;
use crate::plan::Severity;

/// A journal row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its number: the order of the journal. Never reused.
    pub seq: u64,
    /// When it was written.
    pub at: Timestamp,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// An incident's row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentRecord {
    /// Which.
    pub id: IncidentId,
    /// The service or monitor; `horus` for Horus itself.
    pub subject: String,
    /// What it is about.
    pub kind: IncidentKind,
    /// How bad it is (the worst so far).
    pub severity: Severity,
    /// Why it was opened.
    pub reason: String,
    /// When.
    pub opened_at: Timestamp,
    /// When it ended. `None`: open.
    pub closed_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

impl IncidentRecord {
    /// Does it owe a rule or a test, so that the same surprise does not come twice?
    ///
    /// Every incident that is over does, but for those that surprised nobody or whose cause is looked for elsewhere: the
    /// program stopped itself on purpose, a monitor is somebody else's, a short silence passed by itself (one that comes
    /// back every day is an incident of its own), a worse incident tells of it, the service is not ours any more.
    pub fn owes_a_rule(&self) -> bool {
        if self.closed_at.is_none() || matches!(self.outcome, Some(Outcome::Superseded | Outcome::Removed)) {
            return false;
        }
        match self.kind {
            // What is in a storm owes for itself.
            IncidentKind::Halted | IncidentKind::MonitorDown | IncidentKind::Storm => false,
            IncidentKind::Stuck | IncidentKind::KernelView | IncidentKind::StartOverdue => {
                self.outcome != Some(Outcome::CameBackAlone)
            }
            IncidentKind::Exit
            | IncidentKind::CrashLoop
            | IncidentKind::SameAge
            | IncidentKind::StartFailed
            | IncidentKind::ProbePath
            | IncidentKind::Valueless
            | IncidentKind::FunnelBlocked
            | IncidentKind::WillNotDie
            | IncidentKind::Store
            | IncidentKind::SinkDead
            | IncidentKind::Expectation
            | IncidentKind::CommonCause
            | IncidentKind::RunOverdue
            | IncidentKind::RunMissed
            | IncidentKind::Demoted
            | IncidentKind::Recurrence => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surprises_owe_a_rule_and_nothing_else_does() {
        let end = Some(Timestamp::UNIX_EPOCH);
        let row = |kind, outcome, closed_at| IncidentRecord {
            id: IncidentId::nth(0),
            subject: "trading".into(),
            kind,
            severity: Severity::Warning,
            reason: String::new(),
            opened_at: Timestamp::UNIX_EPOCH,
            closed_at,
            outcome,
        };
        let owes = |kind, outcome| row(kind, Some(outcome), end).owes_a_rule();
        assert!(owes(IncidentKind::Stuck, Outcome::HealedByRestart));
        assert!(owes(IncidentKind::Stuck, Outcome::EndedByOperator), "a person cured it; the surprise stays");
        assert!(!owes(IncidentKind::Stuck, Outcome::CameBackAlone));
        assert!(owes(IncidentKind::Recurrence, Outcome::CameBackAlone), "day after day is no chance");
        assert!(
            owes(IncidentKind::Valueless, Outcome::CameBackAlone),
            "nobody restarts for it: it always does"
        );
        assert!(!owes(IncidentKind::Halted, Outcome::EndedByOperator), "on purpose");
        assert!(!owes(IncidentKind::MonitorDown, Outcome::CameBackAlone), "somebody else's");
        assert!(!owes(IncidentKind::Exit, Outcome::Superseded), "the worse one owes");
        assert!(!owes(IncidentKind::Exit, Outcome::Removed));
        assert!(!row(IncidentKind::Stuck, None, None).owes_a_rule(), "first it is healed");
    }
}
