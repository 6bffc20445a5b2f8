//! The transition table: the whole behaviour of a service's process, on one screen.
//!
//! ```text
//!            +--------> Waiting ----+
//!            |                      v
//!   Down --Settle--> Backoff --> Launching --> Starting --> Running --> Condemned
//!    ^                                            |            |            |
//!    |                                            v            v            v
//!    +---------------- Sweeping <------------------------- Stopping <-------+
//! ```
//!
//! [`next_step`] says what is to be done when a trigger meets a phase; it knows nothing of time, plans or ledgers.
//! [`Step::Settle`] is where those come in: it chooses between down, waiting, backoff and launching by the order of
//! precedence *hold > operator's stop > breaker > policy*. Every pair is written out; there is no `_` arm, so a new
//! phase or trigger does not compile before each of its cells was thought about. The table in
//! `docs/reference/transitions.md` is generated from this function.

/// Where a service's process stands, without the data that belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PhaseKind {
    /// Nothing lives and nothing is planned.
    Down,
    /// To be started when the services it comes after are ready.
    Waiting,
    /// To be started when its delay is over.
    Backoff,
    /// The keeper was asked to start it and has not answered.
    Launching,
    /// The process lives and has not shown a first fresh tick.
    Starting,
    /// It has shown a fresh tick (or needs none).
    Running,
    /// The judge has decided on a kill; evidence and alert are on their way to the disk; nothing was touched yet.
    Condemned,
    /// It was told to end.
    Stopping,
    /// Its main process has ended; what it left behind is being killed.
    Sweeping,
}

impl PhaseKind {
    /// All phases, in the order of a life.
    pub const ALL: [Self; 9] = [
        Self::Down,
        Self::Waiting,
        Self::Backoff,
        Self::Launching,
        Self::Starting,
        Self::Running,
        Self::Condemned,
        Self::Stopping,
        Self::Sweeping,
    ];

    /// The phase's word in status and docs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Waiting => "waiting",
            Self::Backoff => "backoff",
            Self::Launching => "launching",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Condemned => "condemned",
            Self::Stopping => "stopping",
            Self::Sweeping => "sweeping",
        }
    }
}

/// What can happen to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trigger {
    /// Something that a start depends on may have changed: time, a dependency, a hold.
    Reconsider,
    /// It is wanted up.
    WantUp,
    /// It is wanted down.
    WantDown,
    /// It is wanted up, by a fresh instance.
    WantRestart,
    /// A living process of an earlier life of Horus was found.
    Adopted,
    /// The keeper started it.
    Spawned,
    /// The keeper could not start it.
    SpawnFailed,
    /// The keeper was lost before it could start it.
    StartLost,
    /// The keeper did not start it: somebody holds a lock that it needs.
    Blocked,
    /// Its first fresh tick (or all that it needs to be ready).
    FirstTick,
    /// A fresh tick after the first.
    FreshTick,
    /// The judge wants a restart.
    KillDecided,
    /// Evidence is on disk and the alert in the outbox.
    EvidenceStored,
    /// Its main process ended and left nothing behind.
    Exited,
    /// Its main process ended; other processes of its tree live.
    ExitedWithStrays,
    /// No process of its tree is left.
    Gone,
    /// The time for ending by itself is over.
    GraceOver,
    /// A signal could not be delivered, or had no effect in time.
    Undead,
    /// The manager of a foreign unit refused what was asked of it.
    Refused,
}

impl Trigger {
    /// All triggers.
    pub const ALL: [Self; 19] = [
        Self::Reconsider,
        Self::WantUp,
        Self::WantDown,
        Self::WantRestart,
        Self::Adopted,
        Self::Spawned,
        Self::SpawnFailed,
        Self::StartLost,
        Self::Blocked,
        Self::FirstTick,
        Self::FreshTick,
        Self::KillDecided,
        Self::EvidenceStored,
        Self::Exited,
        Self::ExitedWithStrays,
        Self::Gone,
        Self::GraceOver,
        Self::Undead,
        Self::Refused,
    ];

    /// The trigger's words in docs.
    pub fn words(self) -> &'static str {
        match self {
            Self::Reconsider => "reconsider",
            Self::WantUp => "want up",
            Self::WantDown => "want down",
            Self::WantRestart => "want restart",
            Self::Adopted => "adopted",
            Self::Spawned => "spawned",
            Self::SpawnFailed => "spawn failed",
            Self::StartLost => "start lost",
            Self::Blocked => "blocked",
            Self::FirstTick => "first tick",
            Self::FreshTick => "fresh tick",
            Self::KillDecided => "kill decided",
            Self::EvidenceStored => "evidence stored",
            Self::Exited => "exited",
            Self::ExitedWithStrays => "exited, strays",
            Self::Gone => "gone",
            Self::GraceOver => "grace over",
            Self::Undead => "undead",
            Self::Refused => "refused",
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[must_use]
pub enum Step {
    /// Nothing; the wish, if it was one, is remembered.
    Nothing,
    /// Choose between down, waiting, backoff and launching.
    Settle,
    /// Take a living process under control.
    Adopt,
    /// The process lives: wait for its first fresh tick.
    AwaitTick,
    /// Write the failed start down, then settle.
    CountFailure,
    /// Ask again later; nobody is to blame.
    AwaitLock,
    /// It is ready.
    BecomeReady,
    /// Prepare a kill: evidence, alert; touch nothing.
    Condemn,
    /// It showed life: drop the kill.
    Pardon,
    /// Soft signal, grace.
    StopSoftly,
    /// SIGKILL for the whole tree.
    StopHard,
    /// Write its death down, then settle.
    Bury,
    /// Write its death down, kill what it left behind.
    Sweep,
    /// Say that it will not die, and try again.
    ReportUndead,
    /// Nothing was touched: it goes on as it was.
    TakeBack,
}

impl Step {
    /// The step's words in docs.
    pub fn words(self) -> &'static str {
        match self {
            Self::Nothing => "·",
            Self::Settle => "settle",
            Self::Adopt => "adopt",
            Self::AwaitTick => "await tick",
            Self::CountFailure => "count failure",
            Self::AwaitLock => "await lock",
            Self::BecomeReady => "become ready",
            Self::Condemn => "condemn",
            Self::Pardon => "pardon",
            Self::StopSoftly => "stop softly",
            Self::StopHard => "stop hard",
            Self::Bury => "bury",
            Self::Sweep => "sweep",
            Self::ReportUndead => "report undead",
            Self::TakeBack => "take back",
        }
    }
}

/// What is to be done when `trigger` meets `phase`.
pub fn next_step(phase: PhaseKind, trigger: Trigger) -> Step {
    use PhaseKind as P;
    use Trigger as T;
    match (phase, trigger) {
        // Nothing lives.
        (P::Down | P::Waiting | P::Backoff, T::Reconsider | T::WantUp | T::WantDown | T::WantRestart) => {
            Step::Settle
        }
        // A process that we did not wait for is taken under control rather than doubled.
        (P::Down | P::Waiting | P::Backoff, T::Adopted | T::Spawned) => Step::Adopt,
        (
            P::Down | P::Waiting | P::Backoff,
            T::SpawnFailed
            | T::StartLost
            | T::Blocked
            | T::FirstTick
            | T::FreshTick
            | T::KillDecided
            | T::EvidenceStored
            | T::Exited
            | T::ExitedWithStrays
            | T::Gone
            | T::GraceOver
            | T::Undead
            | T::Refused,
        ) => Step::Nothing,

        // The keeper is at work. Wishes wait for its answer.
        (P::Launching, T::Spawned) => Step::AwaitTick,
        (P::Launching, T::SpawnFailed) => Step::CountFailure,
        (P::Launching, T::StartLost) => Step::Settle,
        (P::Launching, T::Blocked) => Step::AwaitLock,
        (P::Launching, T::Adopted) => Step::Adopt,
        (P::Launching, T::Exited) => Step::Bury,
        (P::Launching, T::ExitedWithStrays) => Step::Sweep,
        (
            P::Launching,
            T::Reconsider
            | T::WantUp
            | T::WantDown
            | T::WantRestart
            | T::FirstTick
            | T::FreshTick
            | T::KillDecided
            | T::EvidenceStored
            | T::Gone
            | T::GraceOver
            | T::Undead
            | T::Refused,
        ) => Step::Nothing,

        // A process lives.
        (P::Starting, T::FirstTick) => Step::BecomeReady,
        (P::Running | P::Condemned, T::FirstTick) => Step::Nothing,
        (P::Starting | P::Running, T::FreshTick) => Step::Nothing,
        (P::Condemned, T::FreshTick) => Step::Pardon,
        (P::Starting | P::Running, T::KillDecided) => Step::Condemn,
        (P::Condemned, T::KillDecided) => Step::Nothing,
        (P::Starting | P::Running, T::EvidenceStored) => Step::Nothing,
        (P::Condemned, T::EvidenceStored) => Step::StopSoftly,
        (P::Starting | P::Running | P::Condemned, T::WantDown | T::WantRestart) => Step::StopSoftly,
        (P::Starting | P::Running | P::Condemned, T::Exited) => Step::Bury,
        (P::Starting | P::Running | P::Condemned, T::ExitedWithStrays) => Step::Sweep,
        (
            P::Starting | P::Running | P::Condemned,
            T::Reconsider
            | T::WantUp
            | T::Adopted
            | T::Spawned
            | T::SpawnFailed
            | T::StartLost
            | T::Blocked
            | T::Gone
            | T::GraceOver
            | T::Undead
            | T::Refused,
        ) => Step::Nothing,

        // It is on its way out. Wishes are remembered and met when it is gone.
        (P::Stopping, T::Exited) => Step::Bury,
        (P::Stopping, T::ExitedWithStrays) => Step::Sweep,
        (P::Stopping, T::GraceOver) => Step::StopHard,
        (P::Stopping, T::Undead) => Step::ReportUndead,
        (P::Stopping, T::Refused) => Step::TakeBack,
        (
            P::Stopping,
            T::Reconsider
            | T::WantUp
            | T::WantDown
            | T::WantRestart
            | T::Adopted
            | T::Spawned
            | T::SpawnFailed
            | T::StartLost
            | T::Blocked
            | T::FirstTick
            | T::FreshTick
            | T::KillDecided
            | T::EvidenceStored
            | T::Gone,
        ) => Step::Nothing,

        // Only what it left behind lives.
        (P::Sweeping, T::Gone) => Step::Settle,
        (P::Sweeping, T::Undead) => Step::ReportUndead,
        (
            P::Sweeping,
            T::Reconsider
            | T::WantUp
            | T::WantDown
            | T::WantRestart
            | T::Adopted
            | T::Spawned
            | T::SpawnFailed
            | T::StartLost
            | T::Blocked
            | T::FirstTick
            | T::FreshTick
            | T::KillDecided
            | T::EvidenceStored
            | T::Exited
            | T::ExitedWithStrays
            | T::GraceOver
            | T::Refused,
        ) => Step::Nothing,
    }
}
