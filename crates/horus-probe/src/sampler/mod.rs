//! The kernel sampler: what can be known of a program from outside, every second, without its help.
//!
//! ```text
//!   services ──> pulse ── is the thread of the loop where it was? ── yes ──> nothing else is read
//!                  | no, or it is time
//!                  v
//!                close look ── threads, their calls, freezer, tracer ──> rules (pure) ──> word, where, for how long
//!   all sockets of the machine, once a tick ── queues that do not shrink ──┘                     |
//!                                                                 descriptor ─> socket ─> peer ──┘
//! ```
//!
//! A tick reads one small file for a process that is well, and more only where something asks for it. What it yields are
//! [`View`]s: observations. Who may be signalled for them is decided elsewhere, by rules that also know the beats, the work
//! and the machine. The idea of the rules is in [`rules`]; every number that bounds them is a constant beside its use.
//!
//! Rejected: tracing system calls (eBPF needs rights that a container does not give, ptrace stops the program), and a thread per
//! process (a thousand of them would be a load of their own).

pub mod home;
pub mod queues;
pub mod rules;
pub mod take;
pub mod view;

mod look;
mod sockets;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use horus_core::ids::{Generation, ProcessId, ServiceName};
use horus_sys::clock;
use horus_sys::fact::{Fact, Missing};
use horus_sys::sample::Socket;

use rules::{Machine, Rules};
use sockets::Stuck;
use view::{View, Word};

/// How often every process is looked at.
pub const TICK: Duration = Duration::from_secs(1);
/// Most processes that are looked at.
pub const PROCESSES_MAX: usize = 4_096;
/// A sleep of the machine from which the time since the last tick is void.
const SLEPT_MIN: Duration = Duration::from_millis(100);

/// There are [`PROCESSES_MAX`] processes already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{PROCESSES_MAX} processes are sampled already")]
pub struct TooMany;

/// What is known of one run of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The service.
    pub service: ServiceName,
    /// Which run of it.
    pub generation: Generation,
    /// What is known.
    pub view: View,
}

/// What a tick cost and found, for those who watch the watcher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Processes that were looked at.
    pub processes: usize,
    /// Those for which one small file was enough.
    pub pulses: usize,
    /// How long the tick took.
    pub took: Duration,
    /// It came more than a tick too late, or the machine slept: it is charged to nobody.
    pub void: bool,
}

/// Looks at many processes. A tick blocks for as long as /proc takes: call it where that delays nobody.
#[derive(Debug)]
pub struct Sampler {
    interval: Duration,
    watched: BTreeMap<(ServiceName, Generation), Watched>,
    stuck: Stuck,
    asleep: Option<Duration>,
    at: Option<Duration>,
    cost: Cost,
}

#[derive(Debug)]
struct Watched {
    process: ProcessId,
    machine: Machine,
    gone: bool,
    /// What its place is on, once it was asked for, with the place it was asked for.
    named: Option<view::Place>,
    runtime: look::Runtime,
    descriptors: sockets::Descriptors,
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new(TICK)
    }
}

impl Sampler {
    /// Somebody will call [`Sampler::tick`] once per `interval`.
    pub fn new(interval: Duration) -> Self {
        Self {
            interval,
            watched: BTreeMap::new(),
            stuck: Stuck::default(),
            asleep: None,
            at: None,
            cost: Cost::default(),
        }
    }

    /// Looks at this process from the next tick on. `deadline` is for how long anything has to last to be said. The same run
    /// again only changes its deadline; another process of the same run (a new main process) begins anew.
    pub fn watch(
        &mut self,
        service: ServiceName,
        generation: Generation,
        process: ProcessId,
        deadline: Duration,
    ) -> Result<(), TooMany> {
        let key = (service, generation);
        let full = self.watched.len() >= PROCESSES_MAX;
        match self.watched.get_mut(&key) {
            Some(watched) if watched.process == process => {
                watched.machine.set_deadline(deadline);
                return Ok(());
            }
            None if full => return Err(TooMany),
            _ => {}
        }
        let rules = Rules { deadline, interval: self.interval };
        let main = u64::try_from(process.pid).unwrap_or_default();
        let watched = Watched {
            process,
            machine: Machine::new(main, rules),
            gone: false,
            named: None,
            runtime: look::Runtime::default(),
            descriptors: sockets::Descriptors::default(),
        };
        self.watched.insert(key, watched);
        Ok(())
    }

    /// Something else speaks against it: until that is over each look at it is a close one.
    pub fn suspect(&mut self, service: &ServiceName, generation: Generation, suspected: bool) {
        if let Some(watched) = self.watched.get_mut(&(service.clone(), generation)) {
            watched.machine.suspect(suspected);
        }
    }

    /// Does not look at it any more.
    pub fn forget(&mut self, service: &ServiceName, generation: Generation) {
        self.watched.remove(&(service.clone(), generation));
    }

    /// What the last tick cost.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Looks at all of them once.
    pub fn tick(&mut self) -> Vec<Sighting> {
        let begun = clock::monotonic();
        let void = self.is_void(begun);
        self.cost = Cost { void, ..Cost::default() };
        let sockets = horus_sys::sample::sockets().known().unwrap_or_default();
        self.stuck.take(&sockets);
        let mut sightings = Vec::with_capacity(self.watched.len());
        for ((service, generation), watched) in &mut self.watched {
            let (view, pulse) = watched.look(void, &sockets, &mut self.stuck);
            self.cost.processes += 1;
            self.cost.pulses += usize::from(pulse);
            sightings.push(Sighting { service: service.clone(), generation: *generation, view });
        }
        self.cost.took = clock::monotonic().saturating_sub(begun);
        sightings
    }

    /// Whether the time since the last tick says something about the tick, and not about the processes.
    fn is_void(&mut self, now: Duration) -> bool {
        let asleep = clock::since_boot().saturating_sub(now);
        let slept =
            self.asleep.replace(asleep).is_some_and(|before| asleep.saturating_sub(before) >= SLEPT_MIN);
        let before = self.at.replace(now);
        slept || before.is_some_and(|before| now.saturating_sub(before) > self.interval * 2)
    }
}

impl Watched {
    fn look(&mut self, void: bool, sockets: &HashMap<u64, Socket>, stuck: &mut Stuck) -> (View, bool) {
        if self.gone {
            return (View::plain(Word::Gone), true);
        }
        let mut taken = match look::take(&self.process, &self.machine, &mut self.runtime) {
            Ok(taken) => taken,
            Err(Missing::Gone) if !horus_sys::process::is_alive(&sys(&self.process)) => {
                self.gone = true;
                return (View::plain(Word::Gone), true);
            }
            Err(missing) => {
                return (View { missing: Some(missing), ..View::plain(Word::NoEvidence) }, false);
            }
        };
        taken.sample.void = void;
        let sets = self.machine.sets();
        taken.sample.queues = self.descriptors.queues(self.process.pid, &sets, sockets, stuck);
        let mut view = self.machine.step(&taken.sample);
        self.name(&mut view, sockets);
        (view, taken.pulse)
    }

    /// Says on what the place is. Asked once per place: it stands as long as that stands.
    fn name(&mut self, view: &mut View, sockets: &HashMap<u64, Socket>) {
        let Some(place) = &mut view.place else {
            self.named = None;
            return;
        };
        match &self.named {
            Some(named) if named.call == place.call => place.subject.clone_from(&named.subject),
            _ => {
                place.subject = sockets::subject(self.process.pid, &place.call, sockets);
                self.named = Some(place.clone());
            }
        }
    }
}

fn sys(process: &ProcessId) -> horus_sys::process::ProcessId {
    horus_sys::process::ProcessId { pid: process.pid, start_time: process.start_time }
}

/// Whether a fact is missing because whoever it is about is.
fn gone<T>(fact: &Fact<T>) -> bool {
    matches!(fact, Fact::Missing(Missing::Gone))
}
