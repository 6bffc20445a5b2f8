//! Why. Every command and every verdict carries one.

use serde::{Deserialize, Serialize};

/// The rule that led to a decision. The word is the same in status, journal, alerts and docs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The plan asks for the service to run.
    Wanted,
    /// A person asked.
    Operator,
    /// A hold forbids it.
    Held,
    /// A dependency is not ready.
    After,
    /// Somebody else holds what it wants for itself.
    Exclusive,
    /// The exits ledger.
    Exit,
    /// The program said of itself that it stopped on purpose.
    Halted,
    /// The start failed before the program ran.
    StartFailed,
    /// The startup cap passed without a first fresh tick.
    StartOverdue,
    /// No beat for longer than the deadline.
    Silent,
    /// Beats arrive, the tick stands still.
    Lying,
    /// The program itself says that it hangs.
    OwnWord,
    /// The probe's path fails; nothing is known about the loop.
    ProbePath,
    /// The kills ledger: restarts do not cure.
    Breaker,
    /// So many exits in the window.
    CrashLoop,
    /// It dies at the same age every time.
    SameAge,
    /// The tree would not die.
    WillNotDie,
    /// A product counter stands still.
    Value,
    /// A stage of a funnel lets nothing through.
    Funnel,
    /// A monitor is not as expected.
    MonitorDown,
    /// The plan changed.
    Reload,
    /// Horus is ending.
    ShutDown,
    /// The state directory does not take writes.
    Store,
    /// A sink does not take messages.
    Sink,
    /// Fresh ticks for long enough.
    Proof,
    /// Processes of an earlier run were still there.
    Strays,
    /// The whole machine or Horus itself was late; nothing is concluded.
    OwnLateness,
    /// A counter of work that has to move stands still.
    Stalled,
    /// It has less to work on than it ought to.
    Expect,
    /// Several services turned red at once: something that they share is suspected.
    CommonCause,
    /// Several services are in trouble at once, each in its own way: one message for all.
    Storm,
    /// The machine was suspended.
    Suspended,
    /// The time of day was set.
    ClockStepped,
    /// Everybody on the machine waits for something.
    HostPressure,
    /// Horus's own echo port does not answer its own prober.
    Canary,
    /// The detector was wrong too often.
    Demoted,
    /// A person works on it by plan.
    Maintenance,
    /// The calendar of a job.
    Schedule,
    /// A job has not finished in time.
    RunOverdue,
    /// A job was not started at its time.
    RunMissed,
    /// The same stall, day after day at the same time.
    Recurrence,
    /// What the kernel shows of its loop.
    KernelView,
}

impl Rule {
    /// All rules.
    pub const ALL: [Self; 42] = [
        Self::Wanted,
        Self::Operator,
        Self::Held,
        Self::After,
        Self::Exclusive,
        Self::Exit,
        Self::Halted,
        Self::StartFailed,
        Self::StartOverdue,
        Self::Silent,
        Self::Lying,
        Self::OwnWord,
        Self::ProbePath,
        Self::Breaker,
        Self::CrashLoop,
        Self::SameAge,
        Self::WillNotDie,
        Self::Value,
        Self::Funnel,
        Self::MonitorDown,
        Self::Reload,
        Self::ShutDown,
        Self::Store,
        Self::Sink,
        Self::Proof,
        Self::Strays,
        Self::OwnLateness,
        Self::Stalled,
        Self::Expect,
        Self::CommonCause,
        Self::Storm,
        Self::Suspended,
        Self::ClockStepped,
        Self::HostPressure,
        Self::Canary,
        Self::Demoted,
        Self::Maintenance,
        Self::Schedule,
        Self::RunOverdue,
        Self::RunMissed,
        Self::Recurrence,
        Self::KernelView,
    ];

    /// The rule's word, as it is serialised.
    pub fn word(self) -> &'static str {
        match self {
            Self::Wanted => "wanted",
            Self::Operator => "operator",
            Self::Held => "held",
            Self::After => "after",
            Self::Exclusive => "exclusive",
            Self::Exit => "exit",
            Self::Halted => "halted",
            Self::StartFailed => "start-failed",
            Self::StartOverdue => "start-overdue",
            Self::Silent => "silent",
            Self::Lying => "lying",
            Self::OwnWord => "own-word",
            Self::ProbePath => "probe-path",
            Self::Breaker => "breaker",
            Self::CrashLoop => "crash-loop",
            Self::SameAge => "same-age",
            Self::WillNotDie => "will-not-die",
            Self::Value => "value",
            Self::Funnel => "funnel",
            Self::MonitorDown => "monitor-down",
            Self::Reload => "reload",
            Self::ShutDown => "shut-down",
            Self::Store => "store",
            Self::Sink => "sink",
            Self::Proof => "proof",
            Self::Strays => "strays",
            Self::OwnLateness => "own-lateness",
            Self::Stalled => "stalled",
            Self::Expect => "expect",
            Self::CommonCause => "common-cause",
            Self::Storm => "storm",
            Self::Suspended => "suspended",
            Self::ClockStepped => "clock-stepped",
            Self::HostPressure => "host-pressure",
            Self::Canary => "canary",
            Self::Demoted => "demoted",
            Self::Maintenance => "maintenance",
            Self::Schedule => "schedule",
            Self::RunOverdue => "run-overdue",
            Self::RunMissed => "run-missed",
            Self::Recurrence => "recurrence",
            Self::KernelView => "kernel-view",
        }
    }
}

/// A rule together with the numbers that made it apply: "no fresh tick for 12.4 s, deadline 10 s".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Which rule.
    pub rule: Rule,
    /// The numbers, as a sentence fragment.
    pub text: String,
}

impl Reason {
    /// A reason by `rule` with its numbers.
    pub fn new(rule: Rule, text: impl Into<String>) -> Self {
        Self { rule, text: text.into() }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}
