//! The journal's vocabulary: what happened, in the past tense.
//!
//! Everything that Horus shows is computed from these. The serialised form is a stored format: variants and fields
//! are only ever added, and a reader that meets an unknown one shows it as text.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Generation, IncidentId, ProcessId, ServiceName};
use crate::notice::{IncidentKind, Story};
use crate::observation::{CaptureStage, Exit, Finding};
use crate::plan::Severity;
use crate::reason::{Reason, Rule};
use crate::verdict::Verdict;

/// One row of the journal, before it has a number and a time of day (the store adds both).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The service or monitor it is about; `horus` for Horus itself.
    pub subject: String,
    /// Which run, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// The incident it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<IncidentId>,
    /// What happened.
    pub what: What,
}

/// A step of a program's work that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTaken {
    /// Its name.
    pub name: String,
    /// How long it took.
    #[serde(rename = "took_ms", with = "crate::time::millis")]
    pub took: Duration,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A plan came into force.
    PlanLoaded {
        /// What changed, for people.
        summary: String,
    },
    /// A start was asked of the keeper.
    StartAsked {
        /// Why.
        reason: Reason,
    },
    /// The process exists and may run.
    Started {
        /// The process.
        process: ProcessId,
    },
    /// A process from an earlier life of Horus was taken over.
    Adopted {
        /// The process.
        process: ProcessId,
    },
    /// The start failed before the program ran.
    StartFailed {
        /// What failed.
        error: String,
    },
    /// First fresh tick of this run.
    BecameReady {
        /// Since its start.
        #[serde(rename = "took_ms", with = "crate::time::millis")]
        took: Duration,
        /// What counted.
        by: String,
    },
    /// The verdict's word changed.
    Judged {
        /// What it was.
        from: Verdict,
        /// What it is.
        to: Verdict,
        /// Why.
        reason: Reason,
    },
    /// The process ended.
    Exited {
        /// How.
        exit: Exit,
        /// How long it lived.
        #[serde(rename = "lifetime_ms", with = "crate::time::millis")]
        lifetime: Duration,
        /// Whose doing it was.
        cause: DeathCause,
    },
    /// Processes outlived their parent and were killed.
    StraysKilled {
        /// How many.
        count: u32,
    },
    /// A start is delayed.
    Delayed {
        /// By how long.
        #[serde(rename = "delay_ms", with = "crate::time::millis")]
        delay: Duration,
        /// Why.
        reason: Reason,
    },
    /// An incident was opened.
    IncidentOpened {
        /// What it is about.
        kind: IncidentKind,
        /// How bad it is.
        severity: Severity,
        /// Why.
        reason: Reason,
    },
    /// Evidence was captured, before anything was touched.
    EvidenceCaptured {
        /// Which of the captures.
        stage: CaptureStage,
        /// What was found.
        finding: Finding,
    },
    /// A message about the incident was put into the outbox.
    Told {
        /// Its version.
        version: u32,
        /// What it says.
        story: Story,
        /// This incident tells of it, too, so that no message was begun for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        within: Option<IncidentId>,
    },
    /// The judge decided on a restart.
    KillDecided {
        /// Why.
        reason: Reason,
        /// Which unproven kill this is.
        kill: u32,
        /// How many are allowed.
        limit: u32,
    },
    /// Observe mode: this would have been done.
    WouldHave {
        /// What.
        what: String,
        /// Why.
        reason: Reason,
    },
    /// A signal was sent.
    Signalled {
        /// Which.
        signal: String,
        /// To the whole tree, not only the main process.
        tree: bool,
        /// Why.
        reason: Reason,
    },
    /// No process of the tree is left, checked by pid and start time.
    VerifiedGone {
        /// How many had to be killed.
        killed: u32,
    },
    /// The service shows fresh ticks again after a fault.
    Recovered {
        /// Since the fault's first sign.
        #[serde(rename = "after_ms", with = "crate::time::millis")]
        after: Duration,
    },
    /// Fresh ticks for long enough: the restart cured.
    Proven {
        /// For how long.
        #[serde(rename = "after_ms", with = "crate::time::millis")]
        after: Duration,
    },
    /// Restarts do not cure; Horus stops killing.
    BreakerOpened {
        /// Why.
        reason: Reason,
    },
    /// The breaker closed.
    BreakerClosed {
        /// Why.
        reason: Reason,
    },
    /// The incident is over.
    IncidentClosed {
        /// How it ended.
        outcome: Outcome,
        /// From opening to end.
        #[serde(rename = "lasted_ms", with = "crate::time::millis")]
        lasted: Duration,
    },
    /// A person asked for something.
    OperatorAsked {
        /// What.
        request: String,
        /// Why, if it was said.
        reason: Option<String>,
    },
    /// A hold is in force.
    HoldSet {
        /// Why.
        reason: String,
        /// It ends by itself after so long.
        #[serde(rename = "expires_in_ms", with = "crate::time::millis::option", default)]
        expires_in: Option<Duration>,
    },
    /// A hold ended.
    HoldEnded {
        /// Lifted by a person, or expired.
        how: String,
    },
    /// The program said that it is in another step of its work.
    StepBegun {
        /// Which; `None`: it is in none any more.
        step: Option<String>,
        /// The one before, and how long that took.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<StepTaken>,
    },
    /// The program's own status line changed.
    SaidStatus {
        /// The line.
        text: String,
    },
    /// Horus itself was late, so that nothing is concluded from that time.
    OwnLateness {
        /// By how much.
        #[serde(rename = "late_ms", with = "crate::time::millis")]
        late: Duration,
    },
    /// Half of the deadline or more passed without a fresh tick, and then one came.
    Stalled {
        /// How long.
        #[serde(rename = "lasted_ms", with = "crate::time::millis")]
        lasted: Duration,
        /// The numbers.
        reason: Reason,
    },
    /// Nothing is killed for now: several services turned red at once, or the machine is in trouble.
    GuardClosed {
        /// Why.
        reason: Reason,
        /// The services that are red.
        services: Vec<ServiceName>,
    },
    /// Kills are possible again.
    GuardOpened {
        /// Why.
        reason: Reason,
    },
    /// This incident is told of by another one.
    Folded {
        /// Which.
        into: IncidentId,
    },
    /// A run of a job ended well.
    RunFinished {
        /// How long it took.
        #[serde(rename = "took_ms", with = "crate::time::millis")]
        took: Duration,
    },
    /// A job was not started at its time.
    RunSkipped {
        /// Why.
        reason: Reason,
    },
    /// A detector was wrong too often: it only tells from now on.
    DetectorDemoted {
        /// Which.
        detector: Rule,
        /// Restarts that brought a service back for good.
        right: u32,
        /// Restarts that did not.
        wrong: u32,
    },
    /// A demoted detector may act again.
    DetectorTrusted {
        /// Which.
        detector: Rule,
        /// Why.
        reason: Reason,
    },
    /// Something about the machine: "suspended for 8 min 39 s", "the clock was set back by 1 h".
    Host {
        /// What.
        reason: Reason,
    },
    /// A maintenance window began.
    MaintenanceBegan {
        /// Its name.
        name: String,
        /// How long it lasts.
        #[serde(rename = "lasts_ms", with = "crate::time::millis")]
        lasts: Duration,
    },
    /// A maintenance window ended.
    MaintenanceEnded {
        /// Its name.
        name: String,
    },
    /// A person noted what was done so that it does not happen again: a rule, a test, a changed threshold.
    RuleNoted {
        /// What.
        text: String,
    },
    /// Horus began or ended.
    Horus {
        /// "started 0.1.0", "stopped", "store degraded: ...".
        text: String,
    },
}

impl What {
    /// The reason of a decision, with its rule and its numbers. `None`: it is none.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::StartAsked { reason }
            | Self::Judged { reason, .. }
            | Self::Delayed { reason, .. }
            | Self::IncidentOpened { reason, .. }
            | Self::KillDecided { reason, .. }
            | Self::WouldHave { reason, .. }
            | Self::Signalled { reason, .. }
            | Self::BreakerOpened { reason }
            | Self::BreakerClosed { reason }
            | Self::Stalled { reason, .. }
            | Self::GuardClosed { reason, .. }
            | Self::GuardOpened { reason }
            | Self::RunSkipped { reason }
            | Self::DetectorTrusted { reason, .. }
            | Self::Host { reason } => Some(reason),
            Self::PlanLoaded { .. }
            | Self::Started { .. }
            | Self::Adopted { .. }
            | Self::StartFailed { .. }
            | Self::BecameReady { .. }
            | Self::Exited { .. }
            | Self::StraysKilled { .. }
            | Self::EvidenceCaptured { .. }
            | Self::Told { .. }
            | Self::VerifiedGone { .. }
            | Self::Recovered { .. }
            | Self::Proven { .. }
            | Self::IncidentClosed { .. }
            | Self::OperatorAsked { .. }
            | Self::HoldSet { .. }
            | Self::HoldEnded { .. }
            | Self::StepBegun { .. }
            | Self::SaidStatus { .. }
            | Self::Folded { .. }
            | Self::RunFinished { .. }
            | Self::DetectorDemoted { .. }
            | Self::MaintenanceEnded { .. }
            | Self::RuleNoted { .. }
            | Self::OwnLateness { .. }
            | Self::MaintenanceBegan { .. }
            | Self::Horus { .. } => None,
        }
    }
}

/// Whose doing the end of a process was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeathCause {
    /// It ended by itself (or a stranger ended it).
    Itself,
    /// The judge's kill.
    Kill,
    /// A person's stop or restart, a reload, the end of Horus.
    Planned,
}

/// How an incident ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A restart by Horus cured it.
    HealedByRestart,
    /// It came back without any act of Horus.
    CameBackAlone,
    /// A person ended it.
    EndedByOperator,
    /// It became part of a worse one.
    Superseded,
    /// The service left the plan.
    Removed,
}
