//! The words in which the judge speaks. The same in status, journal, alerts and metrics.

use serde::{Deserialize, Serialize};

/// What the judge concludes about a service from all axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Fresh ticks within the deadline.
    Healthy,
    /// The program declares that it has nothing to do.
    Idle,
    /// The program declares a long step, or asked for time.
    Busy,
    /// A fresh tick is overdue by half the deadline.
    Slow,
    /// No first fresh tick of this instance yet.
    Starting,
    /// No beat for longer than the deadline.
    Silent,
    /// Beats arrive, the tick stands still.
    Lying,
    /// The probe's path fails; the loop is not known.
    ProbePath,
    /// A stage of its work lets nothing through.
    WorkStalled,
    /// It lives and beats, and produces nothing.
    Valueless,
    /// It ends again and again.
    CrashLooping,
    /// The program stopped itself on purpose.
    Halted,
    /// A hold is in force.
    Held,
    /// It is not running, as wanted.
    Down,
    /// It is on its way to its end.
    Stopping,
    /// There is nothing to judge by.
    Unknown,
    /// Late, while everybody on the machine waits: it was not given the chance.
    Starved,
    /// Its loop is stuck in one call: proven by two captures.
    Blocked,
    /// Its loop burns CPU and turns no more: proven by two captures.
    Spinning,
    /// Its loop lives, but takes no work: connections or bytes wait.
    Undrained,
    /// Somebody has stopped it.
    Stopped,
    /// Its control group is frozen.
    Paused,
    /// It waits in the kernel where no signal ends it.
    Uninterruptible,
    /// It waits for pages of its memory to be read back from a disk.
    Thrashing,
}

impl Verdict {
    /// All verdicts.
    pub const ALL: [Self; 24] = [
        Self::Healthy,
        Self::Idle,
        Self::Busy,
        Self::Slow,
        Self::Starting,
        Self::Silent,
        Self::Lying,
        Self::ProbePath,
        Self::WorkStalled,
        Self::Valueless,
        Self::CrashLooping,
        Self::Halted,
        Self::Held,
        Self::Down,
        Self::Stopping,
        Self::Unknown,
        Self::Starved,
        Self::Blocked,
        Self::Spinning,
        Self::Undrained,
        Self::Stopped,
        Self::Paused,
        Self::Uninterruptible,
        Self::Thrashing,
    ];

    /// The verdict's word, as it is serialised.
    pub fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Slow => "slow",
            Self::Starting => "starting",
            Self::Silent => "silent",
            Self::Lying => "lying",
            Self::ProbePath => "probe-path",
            Self::WorkStalled => "work-stalled",
            Self::Valueless => "valueless",
            Self::CrashLooping => "crash-looping",
            Self::Halted => "halted",
            Self::Held => "held",
            Self::Down => "down",
            Self::Stopping => "stopping",
            Self::Unknown => "unknown",
            Self::Starved => "starved",
            Self::Blocked => "blocked",
            Self::Spinning => "spinning",
            Self::Undrained => "undrained",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Uninterruptible => "uninterruptible",
            Self::Thrashing => "thrashing",
        }
    }
}

/// The process axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessAxis {
    /// Never started, or ended and gone.
    Absent,
    /// Started; no first fresh tick yet.
    Starting,
    /// Ready.
    Running,
    /// Told to end.
    Stopping,
}

/// The loop axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoopAxis {
    /// No source, or no fresh tick of this instance yet.
    Unknown,
    /// A fresh tick within half the deadline.
    Beating,
    /// None for half the deadline.
    Late,
    /// None for the deadline, and nobody answers.
    Silent,
    /// None for the deadline, while beats arrive.
    Lying,
    /// None for the deadline, and the probe's own path fails.
    Unreachable,
}

/// The progress axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgressAxis {
    /// No counter is declared, or none was heard yet.
    Unknown,
    /// A counter that the plan names moved within the deadline.
    Advancing,
    /// The program declares that it has nothing to do.
    Idle,
    /// A counter of work that has to move (`progress.*`) stands still for longer than its limit.
    Stalled,
    /// A stage of a funnel lets nothing through.
    Blocked,
}

impl ProgressAxis {
    /// All values.
    pub const ALL: [Self; 5] = [Self::Unknown, Self::Advancing, Self::Idle, Self::Stalled, Self::Blocked];

    /// The axis value's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Advancing => "advancing",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Blocked => "blocked",
        }
    }
}

/// The value axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueAxis {
    /// Nothing declared, or nothing heard yet.
    Unknown,
    /// Every value increased within its bound.
    Fresh,
    /// One is past its `stale` bound.
    Stale,
    /// One is past its `dead` bound.
    Dead,
}

impl ProcessAxis {
    /// All values.
    pub const ALL: [Self; 4] = [Self::Absent, Self::Starting, Self::Running, Self::Stopping];

    /// The axis value's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
        }
    }
}

impl LoopAxis {
    /// All values.
    pub const ALL: [Self; 6] =
        [Self::Unknown, Self::Beating, Self::Late, Self::Silent, Self::Lying, Self::Unreachable];

    /// The axis value's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Beating => "beating",
            Self::Late => "late",
            Self::Silent => "silent",
            Self::Lying => "lying",
            Self::Unreachable => "unreachable",
        }
    }
}

impl ValueAxis {
    /// All values.
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Fresh, Self::Stale, Self::Dead];

    /// The axis value's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Dead => "dead",
        }
    }
}
