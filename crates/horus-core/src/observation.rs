//! What the world tells the engine.
//!
//! Probes yield observations and never decisions: an observation says what was seen, from which source, about which
//! instance. "Not observed" is told apart from "seen to be bad" everywhere.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{Generation, IncidentId, Instance, MonitorName, ServiceName};
use crate::plan::{BeatKind, Plan};
use crate::tree::Bytes;

/// Everything that can be told to `Engine::step`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Nothing happened; time has passed.
    Wake,
    /// The plan to follow from now on. The engine works out the difference itself.
    PlanChanged(Box<Plan>),
    /// The keeper cannot be reached: nothing is to be started until [`Input::Reconciled`].
    KeeperLost,
    /// Every process that the keeper has was told by [`Observation::Adopted`]: what is missing may be started.
    Reconciled,
    /// Something about a service.
    Service(ServiceName, Observation),
    /// Something about a monitor.
    Monitor(MonitorName, MonitorObservation),
    /// A person asked for something. The answer is an [`crate::command::Command::Answer`] with the same ticket.
    Operator {
        /// Which request this is, so that its answer finds its way back.
        ticket: u64,
        /// What was asked.
        request: OperatorRequest,
    },
    /// The store has made an incident's opening, evidence and alert durable (or has given up: `persisted` is false).
    IncidentStored {
        /// Which incident.
        incident: IncidentId,
        /// It is on disk. If not, the disk is in trouble and the alert is kept in memory.
        persisted: bool,
    },
    /// The state directory stopped or started taking writes.
    StoreHealth {
        /// `None`: writes work. `Some`: why they do not.
        fault: Option<String>,
    },
    /// A sink stopped or started taking messages.
    SinkHealth {
        /// The sink's name.
        sink: String,
        /// `None`: it works. `Some`: why it does not, without its URL.
        fault: Option<String>,
    },
    /// The time of day: at the start, and whenever the clock was set. Calendars are followed by it.
    Wall(jiff::Timestamp),
    /// Something about the machine.
    Host(HostObservation),
    /// Horus was asked to end: stop everything in reverse order.
    ShutDown,
}

/// Something seen of the machine that everybody runs on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostObservation {
    /// It was suspended. The engine's clock does not count that time.
    Suspended {
        /// For how long.
        #[serde(rename = "slept_ms", with = "crate::time::millis")]
        slept: Duration,
    },
    /// The time of day was set, by more than clocks drift.
    ClockStepped {
        /// By how much; negative: back.
        by_ms: i64,
    },
    /// How much of the last ten seconds tasks that could run had to wait (the kernel's "some" figures), 0 to 1.
    Pressure {
        /// For a processor.
        cpu: f64,
        /// For memory.
        memory: f64,
        /// For disks.
        io: f64,
    },
    /// Horus's own echo port was asked by the same prober that asks the programs.
    Canary {
        /// `None`: it answered. `Some`: what was heard instead; then a missing answer of a program proves nothing.
        fault: Option<String>,
    },
}

/// Something seen of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observation {
    /// A process that an earlier Horus started was found alive.
    Adopted(Instance),
    /// The keeper has recorded the process and let it `exec`.
    Spawned(Instance),
    /// The start failed before the program ran.
    SpawnFailed {
        /// Which start.
        generation: Generation,
        /// What failed, for people: "exec: /usr/bin/nope: not found".
        error: String,
    },
    /// The keeper that was asked to start it is gone and has not: nothing runs, nobody is to blame.
    StartLost {
        /// Which start.
        generation: Generation,
    },
    /// Nothing was started: another service holds what this one wants for itself.
    Blocked {
        /// Which start.
        generation: Generation,
        /// For people: "waits for repo:/srv/app, held by service web of horus pid 4711".
        by: String,
    },
    /// The main process ended.
    Exited {
        /// Which run.
        generation: Generation,
        /// How.
        exit: Exit,
        /// How many processes of its tree are still there.
        strays: u32,
    },
    /// No process of the tree is left (checked by pid and start time).
    Gone {
        /// Which run.
        generation: Generation,
        /// How many had to be killed.
        killed: u32,
    },
    /// A foreign unit has no run, and why. Whatever its last run was, its end was told before.
    Unit {
        /// What its manager shows.
        state: UnitState,
    },
    /// A signal could not be delivered, or the tree would not die.
    SignalFailed {
        /// Which run.
        generation: Generation,
        /// What the kernel said.
        error: String,
    },
    /// A sign of life, or a lie about one.
    Beat {
        /// About which run. Beats about an earlier run are ignored.
        generation: Generation,
        /// What was heard.
        beat: Beat,
    },
    /// A probe heard nothing it can use.
    NoBeat {
        /// About which run.
        generation: Generation,
        /// Which source.
        source: BeatKind,
        /// What happened instead.
        fault: ProbeFault,
        /// For people: "connection refused", "no answer in 2 s", "status 503".
        detail: String,
    },
    /// `READY=1`.
    SaidReady {
        /// About which run.
        generation: Generation,
    },
    /// `STOPPING=1`.
    SaidStopping {
        /// About which run.
        generation: Generation,
    },
    /// `WATCHDOG=trigger`, said by the main process itself: it holds that it hangs.
    SaidStuck {
        /// About which run.
        generation: Generation,
    },
    /// `STATUS=...`: one line for people.
    SaidStatus {
        /// About which run.
        generation: Generation,
        /// The line, cut to a limit by the probe.
        text: String,
    },
    /// `X_HORUS_STEP=`: which step of its work it is in.
    SaidStep {
        /// About which run.
        generation: Generation,
        /// The step's name; `None`: it is in none any more.
        step: Option<String>,
    },
    /// Counters were read where the plan says so (`counter.*`), or could not be. That there was an answer is no sign of life.
    Counts {
        /// About which run.
        generation: Generation,
        /// Those that were read, by name.
        counts: BTreeMap<String, u64>,
        /// Why the others were not, by name; for people.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        unread: BTreeMap<String, String>,
    },
    /// `EXTEND_TIMEOUT_USEC=`: nothing is overdue for so long from now.
    AskedForTime {
        /// About which run.
        generation: Generation,
        /// For how long.
        #[serde(rename = "extend_ms", with = "crate::time::millis")]
        extend: Duration,
    },
    /// What the kernel shows of it: told when that changes, and again and again while it lasts.
    KernelView {
        /// About which run.
        generation: Generation,
        /// What it shows.
        view: KernelView,
    },
    /// What it does, counted from outside.
    Activity {
        /// About which run.
        generation: Generation,
        /// The counters.
        activity: Activity,
    },
    /// A capture of evidence ended.
    Captured {
        /// About which run.
        generation: Generation,
        /// Which of the captures.
        stage: CaptureStage,
        /// What was found.
        finding: Finding,
    },
}

/// Why a foreign unit has no main process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitState {
    /// It is inactive: nobody wants it to run.
    Stopped,
    /// Its manager has given it up.
    Failed {
        /// What the manager says of that.
        how: String,
    },
    /// Its manager is about to start it, or is at it.
    Returning,
    /// There is no such unit, none with a main process, or no way to ask.
    Absent {
        /// For people.
        why: String,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// The kernel killed it, because there was no memory left.
    OutOfMemory {
        /// What its whole tree may use, bytes, if that was too little. `None`: the machine had no more, or a group of
        /// programs that it is part of.
        limit_bytes: Option<u64>,
    },
    /// It is gone, and nobody saw how.
    Unknown,
}

impl Exit {
    /// It ended by itself and called it a success.
    pub fn is_clean(self) -> bool {
        self == Self::Code(0)
    }

    /// What can be said of a program that ended so: "ended with exit code 1".
    pub fn verb(self) -> String {
        match self {
            Self::OutOfMemory { .. } => format!("was {self}"),
            Self::Code(_) | Self::Signal(_) | Self::Unknown => format!("ended with {self}"),
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => write!(f, "signal {number}"),
            Self::OutOfMemory { limit_bytes: Some(limit) } => {
                write!(f, "killed by the kernel for want of memory (limit {})", Bytes(*limit))
            }
            Self::OutOfMemory { limit_bytes: None } => {
                write!(
                    f,
                    "killed by the kernel for want of memory (the machine's, not by a limit of its own)"
                )
            }
            Self::Unknown => write!(f, "an unknown exit status"),
        }
    }
}

/// One beat, as it was heard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    /// Which source.
    pub source: BeatKind,
    /// The tick, if the source carries one. A source without one beats by arriving.
    pub tick: Option<u64>,
    /// Progress counters, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub progress: BTreeMap<String, u64>,
    /// What the program says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<Declared>,
    /// Quantities that go up and down, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gauges: BTreeMap<String, f64>,
    /// Its own measure of how late its loop runs, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loop_lag_ms: Option<f64>,
}

/// What a program does, as Horus counts it from outside, since it began to count for this run. `None`: it cannot be counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// Bytes that it has printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
    /// Processor time that its tree has used, milliseconds; less than 1 % of a processor is not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// Bytes that its tree has read and written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_bytes: Option<u64>,
}

/// What a program declares about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Declared {
    /// Working as usual.
    Ok,
    /// In a long step, for at most so long from now.
    Busy(#[serde(with = "crate::time::millis")] Duration),
    /// Nothing to do, on purpose.
    Idle,
    /// It stopped itself on purpose and must not be started again.
    Halted,
}

/// Why a probe heard nothing it can use. The order of the variants is the strength as evidence against the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeFault {
    /// The probe itself could not work (no descriptor, bad address, own lateness). Says nothing about the program.
    Prober,
    /// No connection: refused, no route, name unknown, or the connect timed out. Says nothing about the loop.
    NoPath,
    /// Somebody answered, but not with a beat: an error status, a redirect, garbage. Somebody is alive there.
    NotABeat,
    /// A connection stood on which an answer had been heard before, and now there was none. May be the path.
    ReusedConnectionSilent,
    /// A fresh connection was accepted and then nothing came within the timeout.
    NoAnswer,
}

/// When a capture was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureStage {
    /// A quarter of the deadline: silent, in case it is needed.
    Early,
    /// Half of the deadline: to be compared with the first.
    Second,
    /// The bundle that goes with the verdict, before anything is touched.
    Verdict,
    /// After an exit that nobody asked for: the last log lines.
    Exit,
}

/// The outcome of one capture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// One phrase for the alert: "waiting in futex for 11 s". Empty if nothing could be seen.
    pub phrase: String,
    /// File name of the bundle in the evidence directory, if it could be written.
    pub bundle: Option<String>,
    /// What forbids to conclude anything from its silence: somebody has stopped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// What could not be seen and why ("no evidence: permission").
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Main thread's place in the kernel, to be compared between captures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// CPU time of the process so far, nanoseconds, to be compared between captures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ns: Option<u64>,
    /// What the kernel's view says of its main loop. `None`: not looked, or no rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<LoopSeen>,
    /// The last lines of its output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
}

/// Where a capture saw the thread that runs the main loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoopSeen {
    /// In the call in which it waits for work: a sign of life.
    Home,
    /// In another call. Twice in the same one, without a nanosecond of CPU between: a proof of death.
    Blocked,
    /// Burning CPU outside of its poll call. Twice: a proof of death of a loop that shows no tick.
    Spinning,
}

/// What the kernel shows of a process that is looked at from outside, every second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelView {
    /// In one word.
    pub word: KernelWord,
    /// For how long, in time in which the program could have run.
    #[serde(rename = "lasted_ms", with = "crate::time::millis")]
    pub lasted: Duration,
    /// No other loop of the process came home meanwhile.
    pub alone: bool,
    /// The thread that it is about, by the kernel's number, if that is another one than the main thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<u64>,
    /// Who holds it or may at any moment, so that nothing is proven: "traced by pid 4711".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// For people: "blocked in recvfrom from 10.0.0.7:443 for 12 s, no CPU used since".
    pub phrase: String,
}

/// The word of a [`KernelView`]. What has to last to be said has lasted for the deadline of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelWord {
    /// Too few looks so far.
    Learning,
    /// A loop is known, and comes home.
    Alive,
    /// It was never seen waiting for events: no opinion.
    NoLoop,
    /// Its loop was not met at home for improbably long: a suspicion.
    Away,
    /// Its loop is stuck in one call, without a nanosecond of CPU.
    Blocked,
    /// Its loop burns CPU and never comes home. Honest work looks the same.
    Spinning,
    /// Its wait should have ended by itself, and did not.
    Frozen,
    /// Its loop lives, but takes no work.
    Undrained,
    /// Stopped by a signal or a tracer.
    Stopped,
    /// Its control group is frozen.
    Paused,
    /// In a wait of the kernel that no signal ends.
    Uninterruptible,
    /// It waits for pages of its memory, one after the other, and does not come home meanwhile.
    Thrashing,
    /// It cannot be looked at: neither healthy nor hung.
    NoEvidence,
}

impl KernelWord {
    /// The word as it is serialised.
    pub fn word(self) -> &'static str {
        match self {
            Self::Learning => "learning",
            Self::Alive => "alive",
            Self::NoLoop => "no-loop",
            Self::Away => "away",
            Self::Blocked => "blocked",
            Self::Spinning => "spinning",
            Self::Frozen => "frozen",
            Self::Undrained => "undrained",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Uninterruptible => "uninterruptible",
            Self::Thrashing => "thrashing",
            Self::NoEvidence => "no-evidence",
        }
    }
}

/// Something seen of a monitor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MonitorObservation {
    /// As expected.
    Up {
        /// How long the answer took.
        #[serde(rename = "took_ms", with = "crate::time::millis")]
        took: Duration,
    },
    /// Not as expected.
    Down {
        /// What kind of fault.
        fault: ProbeFault,
        /// For people.
        detail: String,
    },
}

/// What a person can ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorRequest {
    /// Run it.
    Start(ServiceName),
    /// End it and leave it ended.
    Stop(ServiceName),
    /// End it and run it again.
    Restart(ServiceName),
    /// Nothing may start, kill or restart it.
    Hold {
        /// Which service.
        service: ServiceName,
        /// Why. Never empty.
        reason: String,
        /// The hold ends by itself after so long.
        #[serde(rename = "expires_in_ms", with = "crate::time::millis::option", default)]
        expires_in: Option<Duration>,
        /// Stop it first.
        stop: bool,
    },
    /// Lift the hold, close the breaker.
    Resume {
        /// Which service.
        service: ServiceName,
        /// Why, if it was said.
        reason: Option<String>,
    },
}

impl OperatorRequest {
    /// The service that is meant.
    pub fn service(&self) -> &ServiceName {
        match self {
            Self::Start(service) | Self::Stop(service) | Self::Restart(service) => service,
            Self::Hold { service, .. } | Self::Resume { service, .. } => service,
        }
    }
}
