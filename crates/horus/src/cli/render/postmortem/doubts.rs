//! What else it could have been: each doubt with what speaks for it, or with what rules it out.
//!
//! Only the journal is asked. A doubt for which a row speaks is not ruled out, whatever was decided later; one for which
//! none speaks is ruled out only by a decision before which Horus has to ask for it. Everything else stays open, and that
//! is said.

use horus_core::event::{DeathCause, What};
use horus_core::notice::IncidentKind;
use horus_core::reason::Rule;
use horus_core::record::Recorded;
use horus_core::verdict::Verdict;

/// What else it could have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    Machine,
    Horus,
    CommonCause,
    ProbePath,
    Starved,
    Stopped,
    Meant,
    Person,
    HorusEndedIt,
}

/// What became of a doubt.
#[derive(Debug)]
pub(super) enum Answer<'a> {
    /// These rows speak for it.
    Seen(Vec<&'a Recorded>),
    /// No row does, and a restart was decided, before which this is asked.
    RuledOut,
    /// No row does, and nothing was decided that would have asked.
    NoSign,
}

impl Doubt {
    pub(super) const ALL: [Self; 9] = [
        Self::Machine,
        Self::Horus,
        Self::CommonCause,
        Self::ProbePath,
        Self::Starved,
        Self::Stopped,
        Self::Meant,
        Self::Person,
        Self::HorusEndedIt,
    ];

    /// As a claim, of which it is said whether it is ruled out.
    pub(super) fn claim(self) -> &'static str {
        match self {
            Self::Machine => "the machine (suspended, its clock set, or everybody on it waits)",
            Self::Horus => "Horus itself (late, or its own prober broken)",
            Self::CommonCause => "a common cause (many in trouble at once)",
            Self::ProbePath => "the way to the program, not the program",
            Self::Starved => "starved (it wanted to run and was not let)",
            Self::Stopped => "stopped, traced or frozen by somebody",
            Self::Meant => "meant by the program (a declared step, a pause, a stop of its own)",
            Self::Person => "a person or a plan (an order, a hold, maintenance, a changed configuration)",
            Self::HorusEndedIt => "ended by Horus",
        }
    }

    /// Why a restart that was decided rules it out.
    pub(super) fn asked(self) -> &'static str {
        match self {
            Self::Machine => {
                "after a suspend nobody is restarted before a fresh look, lengths are measured by a clock that nobody \
                 sets, and while everybody waits the limits are stretched"
            }
            Self::Horus => {
                "time in which Horus was late is not charged, and nobody who is asked over the network is restarted \
                 while Horus cannot reach itself"
            }
            Self::CommonCause => "several in trouble at once close the guard, and nobody is restarted",
            Self::ProbePath => "a silence counts only against what was heard to move before",
            Self::Starved => "only time in which it could run is charged",
            Self::Stopped => "each capture looks for it, and a stop forbids the restart",
            Self::Meant => "a declared step, pause or stop forbids the restart",
            Self::Person => "a hold, and maintenance, forbid the restart",
            Self::HorusEndedIt => "the process was there when the restart was decided",
        }
    }

    /// Is it a question at all, for an incident of this kind?
    pub(super) fn concerns(self, kind: IncidentKind) -> bool {
        let ended = matches!(kind, IncidentKind::Exit | IncidentKind::CrashLoop | IncidentKind::SameAge);
        match self {
            Self::HorusEndedIt => ended,
            Self::ProbePath | Self::Starved | Self::Stopped | Self::Meant => !ended,
            Self::CommonCause => kind != IncidentKind::CommonCause,
            Self::Machine | Self::Horus | Self::Person => true,
        }
    }

    /// Does this row speak for it?
    fn is_in(self, row: &Recorded, subject: &str) -> bool {
        let own = row.event.subject == subject;
        match (self, &row.event.what) {
            (Self::Machine, What::Host { .. }) => true,
            (Self::Horus, What::OwnLateness { .. }) => true,
            (Self::Horus, What::IncidentOpened { reason, .. }) => reason.rule == Rule::Canary,
            (Self::CommonCause, What::GuardClosed { reason, services }) => {
                reason.rule == Rule::CommonCause && services.iter().any(|name| name.as_str() == subject)
            }
            (Self::CommonCause, What::Folded { .. }) => own,
            (Self::ProbePath, What::IncidentOpened { kind, .. }) => own && *kind == IncidentKind::ProbePath,
            (Self::ProbePath, What::Judged { to, .. }) => own && *to == Verdict::ProbePath,
            (Self::Starved, What::Judged { to, .. }) => own && *to == Verdict::Starved,
            (Self::Stopped, What::EvidenceCaptured { finding, .. }) => own && finding.stopped.is_some(),
            (Self::Stopped, What::Judged { to, .. }) => {
                own && matches!(to, Verdict::Stopped | Verdict::Paused)
            }
            (Self::Meant, What::Judged { to, .. }) => {
                own && matches!(to, Verdict::Busy | Verdict::Idle | Verdict::Halted)
            }
            (Self::Person, What::OperatorAsked { .. } | What::HoldSet { .. }) => own,
            (Self::Person, What::MaintenanceBegan { .. } | What::PlanLoaded { .. }) => true,
            (Self::HorusEndedIt, What::Signalled { .. } | What::KillDecided { .. }) => own,
            (Self::HorusEndedIt, What::Exited { cause, .. }) => own && *cause != DeathCause::Itself,
            _ => false,
        }
    }

    /// What the rows until the decision say of it.
    pub(super) fn answer<'a>(self, rows: &[&'a Recorded], subject: &str, decided: bool) -> Answer<'a> {
        let seen: Vec<_> = rows.iter().copied().filter(|row| self.is_in(row, subject)).collect();
        match (seen.is_empty(), decided) {
            (false, _) => Answer::Seen(seen),
            (true, true) => Answer::RuledOut,
            (true, false) => Answer::NoSign,
        }
    }
}
