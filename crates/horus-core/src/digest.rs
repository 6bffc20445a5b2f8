//! The digest: what was heard, small enough to be kept for a month.
//!
//! The journal keeps what was *decided*. To ask later what other thresholds would have decided, the observations
//! themselves are needed, and there are far too many: fifty services that beat once a second make 130 million in a
//! month. A lighthouse log does not list every flash either; it says "regular until 16:18:06, then dark".
//!
//! ```text
//!   beats   |||||||||||||||||||||          x x x x x x     |||||||||||
//!   rows    [ticks: 21, longest 1.1 s]     [miss: 6]       [ticks: 11 ...
//!                                  ^-- the gap itself: exact, from the end of one row to the start of the next
//! ```
//!
//! A stretch of regular fresh ticks is one row with the *distribution* of its gaps. A gap of more than twice what is usual
//! ends it, so every gap that anybody would notice lies between two rows and is known to the millisecond. What was heard
//! instead of a tick is counted by kind. Starts, ends, orders, signals and changes of the plan are single rows.
//!
//! What is kept and what is not:
//! - Inside a stretch the order of the gaps is lost, and their lengths are known to one part in eight; the longest is exact.
//! - Of counters there is one row in [`STRETCH_MAX`] while they move as usual, one a minute at most when they do not.
//! - Rows are handed out when a stretch ends, after [`STRETCH_MAX`] at the latest. If Horus is killed, the open stretch of
//!   each source is lost: up to [`STRETCH_MAX`] of regular ticks, [`SWEEP_EVERY`] of anything else. Never the first tick of
//!   an instance, a start, an end or a signal.
//!
//! Rejected: sampling every nth beat (a gap between two samples is then no gap), and fixed-size ring files of raw beats
//! (a month of fifty services is 10 GB).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::event::What;
use crate::ids::{Generation, ServiceName};
use crate::observation::{
    CaptureStage, Declared, Exit, Finding, HostObservation, Input, Observation, OperatorRequest, ProbeFault,
};
use crate::plan::{BeatKind, Mode, Plan, ServicePlan};
use crate::reason::Rule;
use crate::time::Mono;

mod gaps;
mod track;

pub use gaps::{Gaps, Quantile};
use track::Track;

/// The version that rows are written with. Variants and fields are only ever added; a reader leaves out what it does not
/// know and counts it.
pub const DIGEST_VERSION: u32 = 1;

/// A stretch is written down after so long at the latest.
pub const STRETCH_MAX: Duration = Duration::from_secs(600);

/// Open stretches are looked at so often, whatever is heard.
pub const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// A gap of more than so many times the usual one ends a stretch.
pub const IRREGULAR: u32 = 2;

/// A shorter gap is never irregular.
pub const IRREGULAR_MIN: Duration = Duration::from_millis(500);

/// What was usual is forgotten in about this time.
pub const USUAL_MEMORY: Duration = Duration::from_secs(3600);

/// Rows about counters and gauges of one service come at least so far apart.
pub const COUNTERS_EVERY_MIN: Duration = Duration::from_secs(60);

/// Counters, and gauges, that are followed per service; more are left out.
pub const COUNTERS_MAX: usize = 64;

/// A counter of a longer name is left out.
pub const COUNTER_NAME_MAX: usize = 64;

/// The end of a declared step is written again when it has moved by more than this.
pub const DECLARED_MOVED_MIN: Duration = Duration::from_secs(30);

/// Rows that irregularity may make per service and hour. Beyond it, stretches are only as exact as their distribution,
/// and a changed declaration waits.
pub const IRREGULAR_ROWS_PER_HOUR: u32 = 120;

/// What a probe said, cut to so many bytes.
pub const DETAIL_BYTES_MAX: usize = 160;

/// Services that are followed; more are left out.
pub const SERVICES_MAX: usize = 4096;

/// Plans that stay as they are are written down again after so long: old rows are removed.
pub const PLANS_AGAIN_EVERY: Duration = Duration::from_secs(24 * 3600);

/// A change of the host's pressure by less is not written down.
pub const PRESSURE_MOVED_MIN: f64 = 0.1;

/// One row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The time of day of its last moment.
    #[serde(rename = "at_ms", with = "jiff::fmt::serde::timestamp::millisecond::required")]
    pub at: Timestamp,
    /// The same moment on the engine's clock, milliseconds. That clock is another one after each [`Entry::Began`].
    pub clock_ms: u64,
    /// Which service. `None`: Horus, or the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// Which run, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// What.
    pub what: Entry,
}

/// What a row tells. The serialised form is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// A Horus began. Its clock starts anew.
    Began,
    /// A Horus ended in order: up to here nothing is missing.
    Ended,
    /// So many rows before this one could not be written.
    Lost(u64),
    /// What a service is judged by from now on. Environments by their names only.
    Planned(Box<ServicePlan>),
    /// The service left the plan.
    Unplanned,
    /// Enforce, or observe everything.
    Mode(Mode),
    /// There is no keeper.
    KeeperLost,
    /// The keeper has told what it has.
    Reconciled,
    /// Horus was late by so many milliseconds, and excuses everybody.
    Late(u64),
    /// Something about the machine.
    Host(HostObservation),
    /// A person asked for something.
    Asked(OperatorRequest),
    /// A run began.
    Spawned,
    /// A run of an earlier Horus was found alive.
    Adopted,
    /// The start failed.
    StartFailed(String),
    /// The start was lost with its keeper.
    StartLost,
    /// Horus sent a signal; an end that follows is its doing.
    Signalled {
        /// Why.
        rule: Rule,
        /// SIGKILL to the whole tree.
        tree: bool,
    },
    /// The main process ended.
    Exited {
        /// How.
        exit: Exit,
        /// Processes of its tree that were left.
        strays: u32,
    },
    /// No process of the tree is left.
    Gone(u32),
    /// `READY=1`.
    SaidReady,
    /// It asked for so many milliseconds from now.
    AskedForTime(u64),
    /// It declares another state.
    Declares(Declared),
    /// A stretch of fresh ticks.
    Ticks(Ticks),
    /// A stretch of something else.
    Heard(Heard),
    /// Counters that have changed.
    Counters(BTreeMap<String, Counter>),
    /// Gauges that have changed.
    Gauges(BTreeMap<String, f64>),
    /// A capture, without the lines of output.
    Captured {
        /// Which.
        stage: CaptureStage,
        /// What was found.
        finding: Box<Finding>,
    },
}

/// A stretch of fresh ticks. It ends at the row's time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticks {
    /// From where.
    pub source: BeatKind,
    /// The beats carry a tick.
    pub numbered: bool,
    /// How many fresh ticks, the first and the last included.
    pub count: u32,
    /// From the first to the last, milliseconds.
    pub lasted_ms: u64,
    /// The longest gap between two of them, milliseconds.
    #[serde(default)]
    pub longest_ms: u64,
    /// How the gaps between them are distributed.
    #[serde(default, skip_serializing_if = "Gaps::is_empty")]
    pub gaps: Gaps,
    /// Answers without a fresh tick in between, too short to be noticed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u32,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What is heard instead of a fresh tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Instead {
    /// A beat whose tick stands still.
    Still,
    /// The probe heard nothing it can use.
    Miss(ProbeFault),
}

/// A stretch of something that is no fresh tick. It ends at the row's time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// From where.
    pub source: BeatKind,
    /// What.
    pub what: Instead,
    /// How often.
    pub count: u32,
    /// From the first to the last, milliseconds.
    pub lasted_ms: u64,
    /// The last one, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// How a counter has changed since the last row about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Its value.
    pub value: u64,
    /// How often it moved.
    pub moves: u32,
    /// The longest gap between two moves, milliseconds; the one that ended with the first of these moves included.
    pub longest_ms: u64,
    /// The last move was so many milliseconds before the row.
    pub moved_before_ms: u64,
}

/// Makes rows out of what an engine is told and what it commands.
#[derive(Debug, Default)]
pub struct Digest {
    services: BTreeMap<ServiceName, Track>,
    plans: BTreeMap<ServiceName, ServicePlan>,
    mode: Option<Mode>,
    pressure: [f64; 3],
    canary_bad: bool,
    began: bool,
    sweep_at: Mono,
    plans_again_at: Mono,
    rows: Rows,
}

/// Rows on their way out, and what time it is.
#[derive(Debug, Default)]
struct Rows {
    now: Mono,
    wall: Timestamp,
    made: Vec<Row>,
}

impl Rows {
    fn push_at(&mut self, moment: Mono, service: Option<&ServiceName>, run: Option<Generation>, what: Entry) {
        let ago = self.now.since(moment);
        let at = self.wall.checked_sub(ago).unwrap_or(self.wall);
        self.made.push(Row {
            at: Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at),
            clock_ms: whole_ms(moment.since_origin()),
            service: service.cloned(),
            generation: run,
            what,
        });
    }

    fn push(&mut self, service: Option<&ServiceName>, run: Option<Generation>, what: Entry) {
        self.push_at(self.now, service, run, what);
    }
}

fn whole_ms(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

impl Digest {
    /// A digest that has heard nothing yet. Its first row is [`Entry::Began`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what the engine is told at `now`, which is `wall` by the time of day.
    pub fn take(&mut self, now: Mono, wall: Timestamp, input: &Input) {
        self.turn_to(now, wall);
        match input {
            Input::PlanChanged(plan) => self.change_plan(plan),
            Input::KeeperLost => self.rows.push(None, None, Entry::KeeperLost),
            Input::Reconciled => self.rows.push(None, None, Entry::Reconciled),
            Input::Service(name, observation) => self.observe(name, observation),
            Input::Operator { request, .. } => {
                let what = Entry::Asked(request.clone());
                self.rows.push(Some(request.service()), None, what);
            }
            Input::Host(observation) => self.host(observation),
            Input::Wake
            | Input::Monitor(..)
            | Input::IncidentStored { .. }
            | Input::StoreHealth { .. }
            | Input::SinkHealth { .. }
            | Input::Wall(_)
            | Input::ShutDown => {}
        }
    }

    /// Takes a command that the engine answered with: its signals, and its own lateness.
    pub fn commanded(&mut self, now: Mono, wall: Timestamp, command: &Command) {
        match command {
            Command::Signal { service, generation, reason, .. } => {
                self.turn_to(now, wall);
                let what = Entry::Signalled { rule: reason.rule, tree: false };
                self.rows.push(Some(service), Some(*generation), what);
            }
            Command::KillTree { service, generation, reason } => {
                self.turn_to(now, wall);
                let what = Entry::Signalled { rule: reason.rule, tree: true };
                self.rows.push(Some(service), Some(*generation), what);
            }
            Command::Record(event) => {
                if let What::OwnLateness { late } = event.what {
                    self.turn_to(now, wall);
                    self.rows.push(None, None, Entry::Late(whole_ms(late)));
                }
            }
            _ => {}
        }
    }

    /// Horus ends: every open stretch is closed.
    pub fn finish(&mut self, now: Mono, wall: Timestamp) {
        self.turn_to(now, wall);
        for (name, track) in &mut self.services {
            track.close(&mut self.rows, name);
        }
        self.rows.push(None, None, Entry::Ended);
    }

    /// Rows that are done, in the order in which they belong on disk.
    #[must_use]
    pub fn drain(&mut self) -> Vec<Row> {
        std::mem::take(&mut self.rows.made)
    }

    /// How many rows wait to be drained.
    pub fn pending(&self) -> usize {
        self.rows.made.len()
    }

    fn turn_to(&mut self, now: Mono, wall: Timestamp) {
        self.rows.now = now.max(self.rows.now);
        self.rows.wall = wall;
        if !std::mem::replace(&mut self.began, true) {
            self.rows.push(None, None, Entry::Began);
            self.sweep_at = now + SWEEP_EVERY;
            self.plans_again_at = now + PLANS_AGAIN_EVERY;
        }
        if now >= self.plans_again_at {
            self.plans_again_at = now + PLANS_AGAIN_EVERY;
            for (name, plan) in &self.plans {
                self.rows.push(Some(name), None, Entry::Planned(Box::new(plan.clone())));
            }
        }
        if now >= self.sweep_at {
            self.sweep_at = now + SWEEP_EVERY;
            for (name, track) in &mut self.services {
                track.sweep(&mut self.rows, name);
            }
        }
    }

    fn change_plan(&mut self, plan: &Plan) {
        if self.mode != Some(plan.daemon.mode) {
            self.mode = Some(plan.daemon.mode);
            self.rows.push(None, None, Entry::Mode(plan.daemon.mode));
        }
        let rows = &mut self.rows;
        self.plans.retain(|name, _| {
            let stays = plan.services.contains_key(name);
            if !stays {
                rows.push(Some(name), None, Entry::Unplanned);
            }
            stays
        });
        for (name, service) in &plan.services {
            if self.plans.get(name) != Some(service) {
                rows.push(Some(name), None, Entry::Planned(Box::new(service.clone())));
                self.plans.insert(name.clone(), service.clone());
            }
        }
    }

    fn observe(&mut self, name: &ServiceName, observation: &Observation) {
        if !self.services.contains_key(name) {
            if self.services.len() >= SERVICES_MAX {
                return;
            }
            self.services.insert(name.clone(), Track::default());
        }
        if let Some(track) = self.services.get_mut(name) {
            track.observe(&mut self.rows, name, observation);
        }
    }

    fn host(&mut self, observation: &HostObservation) {
        let worth = match observation {
            HostObservation::Suspended { .. } | HostObservation::ClockStepped { .. } => true,
            HostObservation::Pressure { cpu, memory, io } => {
                let new = [*cpu, *memory, *io];
                let moved = new.iter().zip(&self.pressure).any(|(a, b)| (a - b).abs() >= PRESSURE_MOVED_MIN);
                if moved {
                    self.pressure = new;
                }
                moved
            }
            HostObservation::Canary { fault } => {
                let bad = fault.is_some();
                std::mem::replace(&mut self.canary_bad, bad) != bad
            }
        };
        if worth {
            self.rows.push(None, None, Entry::Host(observation.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
