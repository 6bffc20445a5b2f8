//! What the engine asks of the world.
//!
//! Commands are data. The executors carry them out in the order in which they were given and report back by
//! observations; they decide nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::ids::{Generation, IncidentId, ProcessId, ServiceName};
use crate::notice::Notice;
use crate::observation::{CaptureStage, ProbeFault};
use crate::reason::Reason;

/// One thing to be done.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum Command {
    /// Start a run of a service.
    Start {
        /// Which service.
        service: ServiceName,
        /// Which run this will be.
        generation: Generation,
        /// Why.
        reason: Reason,
    },
    /// Send the soft signal to the main process.
    Signal {
        /// Which service.
        service: ServiceName,
        /// Which run.
        generation: Generation,
        /// Name of the signal; for a foreign unit the word of a [`crate::foreign::UnitOrder`].
        signal: String,
        /// Why.
        reason: Reason,
    },
    /// SIGKILL for the whole tree, until it is verified gone.
    KillTree {
        /// Which service.
        service: ServiceName,
        /// Which run.
        generation: Generation,
        /// Why.
        reason: Reason,
    },
    /// Watch this run with every probe of the service (again, if it does already: the plan may have changed).
    Watch {
        /// Which service.
        service: ServiceName,
        /// Which run.
        generation: Generation,
    },
    /// Probe at once, and faster than usual until told otherwise.
    Hasten {
        /// Which service.
        service: ServiceName,
        /// Faster (true) or as usual.
        fast: bool,
    },
    /// No run is there to be probed.
    Unwatch {
        /// Which service.
        service: ServiceName,
    },
    /// Look at the process, touch nothing, report by [`crate::observation::Observation::Captured`].
    Capture {
        /// Which service.
        service: ServiceName,
        /// Which run.
        generation: Generation,
        /// Which of the captures.
        stage: CaptureStage,
        /// The incident it belongs to, if one is open.
        incident: Option<IncidentId>,
        /// The thread that the kernel's view shows stuck, if it is not the main one: the evidence speaks of it first.
        thread: Option<u64>,
    },
    /// Write to the journal. All records of one step are one transaction.
    Record(Box<Event>),
    /// Bring the message about an incident to this state at every matching sink. Part of the step's transaction.
    Tell(Box<Notice>),
    /// Remember this about a service for the next life of Horus. Part of the step's transaction.
    Remember {
        /// Which service.
        service: ServiceName,
        /// What to remember.
        memory: Box<Memory>,
    },
    /// The incident's opening and notice are in this step's transaction: report
    /// [`crate::observation::Input::IncidentStored`] when it is durable.
    Confirm {
        /// Which incident.
        incident: IncidentId,
    },
    /// The outcome of a person's request.
    Answer {
        /// Which request.
        ticket: u64,
        /// What became of it.
        answer: Answer,
    },
    /// Everything has ended after a shut-down: Horus may exit.
    Finished,
}

/// The outcome of a person's request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is so now, and it was verified.
    Done(String),
    /// It was refused.
    Refused {
        /// Why.
        why: String,
        /// What to type instead.
        hint: String,
    },
    /// It was tried and did not come about.
    Failed(String),
}

/// What has to survive a restart of Horus. Ages are as of the moment of writing; the shell adds the time that has
/// passed since.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Version of this record. A reader meets an unknown one by starting afresh.
    pub version: u32,
    /// The last generation that was handed out.
    pub generation: Generation,
    /// A person had started it, although the plan does not: the next Horus has to know.
    #[serde(default)]
    pub wanted_up: bool,
    /// A person's stop is in force.
    pub stopped: bool,
    /// It stopped itself on purpose and must not be started by a rule.
    #[serde(default)]
    pub halted: bool,
    /// It ended, and its restart policy leaves it down.
    #[serde(default)]
    pub completed: bool,
    /// A hold, with what is left of it.
    pub hold: Option<MemoryHold>,
    /// Ages of the exits in the window, newest first, with lifetimes.
    pub exits: Vec<MemoryDeath>,
    /// Exits since the last proof.
    pub exits_unproven: u32,
    /// Ages of the kills of the last day, newest first, with "proven".
    pub kills: Vec<MemoryKill>,
    /// Kills since the last proof.
    pub kills_unproven: u32,
    /// The breaker is open since so long.
    #[serde(rename = "breaker_open_ms", with = "crate::time::millis::option", default)]
    pub breaker_open: Option<Duration>,
    /// Starts in a row that passed the startup cap.
    pub overdue_starts: u32,
    /// Age of the last increase, by value name.
    pub values: Vec<MemoryValue>,
    /// Incidents that are open.
    pub incidents: Vec<MemoryIncident>,
    /// Age of the current instance's start, if one lives.
    #[serde(rename = "started_ms", with = "crate::time::millis::option", default)]
    pub started: Option<Duration>,
    /// A start of this generation was asked of the keeper, and what became of that was not heard.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub starting: bool,
    /// A tick had been seen fresh in the current instance.
    pub was_ready: bool,
    /// The sources whose tick had been seen to move (fingerprints).
    #[serde(default)]
    pub moved: Vec<u64>,
    /// A hang that was acted on and has not been answered by a fresh tick.
    #[serde(default)]
    pub hang: Option<MemoryHang>,
    /// The counter whose standstill led to the last restart of that kind.
    #[serde(default)]
    pub stalled_work: Option<String>,
    /// The step that its run is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<MemoryStep>,
    /// Stalls that ended by themselves, newest first.
    #[serde(default)]
    pub stalls: Vec<MemoryStall>,
    /// A foreign unit: what is needed to know it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<crate::foreign::MemoryUnit>,
    /// A job: how long ago its last run was begun.
    #[serde(rename = "job_started_ms", with = "crate::time::millis::option", default)]
    pub job_started: Option<Duration>,
    /// A job: how long ago the run that goes on was begun.
    #[serde(rename = "job_running_ms", with = "crate::time::millis::option", default)]
    pub job_running: Option<Duration>,
    /// A job: the last time of its calendar that was served or skipped.
    #[serde(default)]
    pub job_slot: Option<jiff::Timestamp>,
    /// A silence, a standstill or a start that goes on, as far as it was witnessed. One that cannot be read is as none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "readable")]
    pub silent: Option<MemorySilence>,
}

/// A part that cannot be read is left out, and the rest is kept.
fn readable<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<MemorySilence>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Part {
        Readable(Box<MemorySilence>),
        Other(serde::de::IgnoredAny),
    }
    Ok(match Option::<Part>::deserialize(from)? {
        Some(Part::Readable(silence)) => Some(*silence),
        Some(Part::Other(_)) | None => None,
    })
}

impl Memory {
    /// Whether a process of this generation may live, or may have ended unheard of.
    pub fn may_live(&self) -> bool {
        self.started.is_some() || self.starting
    }
}

/// The version that [`Memory`] is written with.
pub const MEMORY_VERSION: u32 = 1;

/// What was witnessed of the waits of one instance. Every age is time in which a Horus was there and heard nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemorySilence {
    /// Whose: of another process it says nothing.
    pub process: ProcessId,
    /// Fingerprint of the limits that it was judged by: what was lawful under others is not held against it.
    pub rules: u64,
    /// Sources whose tick used to move and is missed, with the age of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<MemorySource>,
    /// Declared work that was heard to stand still.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub work: Vec<MemoryWork>,
    /// For how long its first fresh tick was waited for.
    #[serde(
        rename = "waited_ms",
        with = "crate::time::millis::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub waited: Option<Duration>,
    /// Why a restart that was due did not happen, as far as that was told: it is not told again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub declined: Vec<String>,
    /// Written at the end of a life that hands over: nothing was heard after it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub handed_over: bool,
    /// When it was written. The engine has no clock of that kind: the shell fills it in, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<BootTime>,
}

/// An instant by the clock of one boot, which nobody sets and which goes on while the machine sleeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootTime {
    /// The kernel's id of the boot.
    pub boot: String,
    /// Since that boot began.
    #[serde(rename = "since_ms", with = "crate::time::millis")]
    pub since: Duration,
}

impl BootTime {
    /// How long ago `earlier` was. `None` if it was another boot, or lies ahead.
    pub fn since(&self, earlier: &Self) -> Option<Duration> {
        (self.boot == earlier.boot).then(|| self.since.checked_sub(earlier.since)).flatten()
    }
}

/// A source of beats that is silent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemorySource {
    /// Its fingerprint.
    pub source: u64,
    /// Where its tick stands, if it carries one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tick: Option<u64>,
    /// The strongest evidence against the program in this silence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strongest: Option<ProbeFault>,
    /// For how long it was witnessed.
    #[serde(rename = "age_ms", with = "crate::time::millis")]
    pub age: Duration,
}

/// Declared work that stands still.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryWork {
    /// Its counter.
    pub counter: String,
    /// Where that stands.
    pub count: u64,
    /// It had moved in this instance.
    pub moved: bool,
    /// For how long it was heard to stand.
    #[serde(rename = "age_ms", with = "crate::time::millis")]
    pub age: Duration,
}

/// A remembered hang that was acted on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryHang {
    /// How long ago its first sign was.
    #[serde(rename = "first_sign_ms", with = "crate::time::millis")]
    pub first_sign: Duration,
    /// How long it was stuck when it was acted on.
    #[serde(rename = "stuck_for_ms", with = "crate::time::millis")]
    pub stuck_for: Duration,
    /// What was seen.
    pub how: String,
    /// Where it hung.
    pub place: Option<String>,
}

/// When a value last increased.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryValue {
    /// Name of the value.
    pub name: String,
    /// How long ago it last increased (or, if it never did, was first watched).
    #[serde(rename = "age_ms", with = "crate::time::millis")]
    pub age: Duration,
    /// It has increased while it was watched. Older records do not say.
    #[serde(default)]
    pub ever: bool,
}

/// A remembered hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryHold {
    /// Why.
    pub reason: String,
    /// How long ago.
    #[serde(rename = "age_ms", with = "crate::time::millis")]
    pub age: Duration,
    /// What is left of it. `None`: until lifted.
    #[serde(rename = "left_ms", with = "crate::time::millis::option", default)]
    pub left: Option<Duration>,
}

/// A remembered death that nobody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryDeath {
    /// How long ago.
    #[serde(rename = "age_ms", with = "crate::time::millis")]
    pub age: Duration,
    /// How long the instance had lived.
    #[serde(rename = "lifetime_ms", with = "crate::time::millis")]
    pub lifetime: Duration,
}

/// A remembered kill.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryKill {
    /// How long ago.
    #[serde(rename = "age_ms", with = "crate::time::millis")]
    pub age: Duration,
    /// Fresh ticks for `prove` followed.
    pub proven: bool,
    /// A person has taken the responsibility since.
    #[serde(default)]
    pub forgiven: bool,
    /// The detector that asked for it.
    #[serde(default = "silent")]
    pub rule: crate::reason::Rule,
    /// How old the instance was when the hang began.
    #[serde(rename = "onset_ms", with = "crate::time::millis", default)]
    pub onset: Duration,
}

/// What asked for a kill that was remembered before detectors had a record.
fn silent() -> crate::reason::Rule {
    crate::reason::Rule::Silent
}

/// The remembered step of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryStep {
    /// Its name.
    pub name: String,
    /// How long ago it began.
    #[serde(rename = "age_ms", with = "crate::time::millis")]
    pub age: Duration,
}

/// A remembered stall that ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryStall {
    /// How long ago it ended.
    #[serde(rename = "age_ms", with = "crate::time::millis")]
    pub age: Duration,
    /// How long it lasted.
    #[serde(rename = "lasted_ms", with = "crate::time::millis")]
    pub lasted: Duration,
}

/// A remembered open incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryIncident {
    /// Which.
    pub id: IncidentId,
    /// What it is about.
    pub kind: crate::notice::IncidentKind,
    /// Which of several of that kind (the value's or funnel's name), or empty.
    pub detail: String,
    /// Version of the last notice about it.
    pub version: u32,
    /// How long ago it was opened.
    #[serde(rename = "age_ms", with = "crate::time::millis")]
    pub age: Duration,
    /// How bad it is.
    pub severity: crate::plan::Severity,
    /// It has told a person that they are needed.
    pub needs_you: bool,
    /// The last thing told of it was an end.
    #[serde(default)]
    pub answered: bool,
    /// What would have made a noise, and has not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted: Option<crate::notice::Story>,
    /// It has rung.
    #[serde(default)]
    pub rang: bool,
    /// It has rung for help, and not for the end of that.
    #[serde(default)]
    pub rang_for_help: bool,
}
