//! A simulated world around the real engine.
//!
//! ```text
//!   seed --> options --> World ---- events in the order of their instants ----+
//!                          |                                                  |
//!            programs, host, people, keeper, probes, store, sinks             |
//!                          |  inputs                      commands            v
//!                          +---------> horus_core::Engine ---------> carried out, and checked by the Witness
//! ```
//!
//! There are no ticks: the world jumps from event to event, so that a quiet hour of a service costs as many steps as it has
//! polls. First faults happen for as long as the options say; then they stop, people tidy up, and within a bound everything
//! has to be well again.
//!
//! Rejected: a model of the engine to compare with (it would have the same faults), and fixed ticks (a week of them costs
//! more than a year of events).

/// What the witness looks at, borrowed beside it.
macro_rules! scene {
    ($world:expr) => {
        crate::invariants::Scene {
            now: $world.now,
            plan: &$world.plan,
            places: &$world.places,
            names: &$world.names,
            host: &$world.host,
        }
    };
}
pub(crate) use scene;

pub mod extras;
mod fates;
mod horus;
mod jobs;
mod keeper;
pub mod log;
pub mod options;
pub mod queue;
pub mod random;
mod senses;
mod store;
mod views;
mod work;

use std::collections::{BTreeMap, VecDeque};

use horus_core::Engine;
use horus_core::command::Command;
use horus_core::ids::{Generation, ServiceName};
use horus_core::observation::Input;
use horus_core::plan::{BeatPlan, Plan};

use crate::host::Host;
use crate::invariants::{Check, Fate, Violation, Witness};
use crate::programs::Process;
use keeper::{Keeper, Slot};
use log::Log;
use options::{Habits, Length, Options, nanos};
use queue::{Event, MINUTE, Nanos, Queue, SECOND};
use random::Random;
use store::Store;

/// More steps than these at one instant: the daemon would spin.
const WAKES_MAX: u32 = 200;

/// So often it is looked at whether all is well again, and whether people have to do something.
const TIDY_ROUNDS: u32 = 24;

/// Changes commands before they are carried out: how tests break the engine on purpose.
pub type Shim = fn(&mut Vec<Command>, &Probe<'_>);

/// What a [`Shim`] may look at.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    /// Steps so far.
    pub step: u64,
    /// The services with a living process, and its run.
    pub living: &'a [(ServiceName, Generation)],
}

/// One service of the world: its program, its place at the keeper, and the probes that look at it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) name: ServiceName,
    pub(crate) habits: Habits,
    pub(crate) process: Option<Process>,
    pub(crate) slot: Slot,
    /// Which watch is in force; polls of an earlier one are void.
    watch: u32,
    watched: Option<Generation>,
    fast: bool,
    /// The last poll was answered, on a connection that was kept.
    answered: bool,
    /// The number that its file beat shows.
    file_tick: u64,
    /// Its starts crash until then.
    broken_until: Nanos,
    /// A job: which row of its times is followed; until when they were looked for; the latest that has come.
    calendar: u32,
    times_looked_at: Option<jiff::Timestamp>,
    times_until: Option<jiff::Timestamp>,
}

/// What a world was like when it ended.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Seeds that were run.
    pub seeds: u64,
    /// Steps of the engine.
    pub steps: u64,
    /// Simulated time of all services together, nanoseconds.
    pub service_nanos: u128,
    /// Soft signals by the judge.
    pub kills: u64,
    /// Of those: at programs that truly hung at that instant.
    pub kills_of_hung: u64,
    /// Of those: at programs that were truly well.
    pub kills_of_healthy: u64,
    /// Soft signals by order of people or plans.
    pub signals_by_order: u64,
    /// Hangs that could be seen by the beats of their plan.
    pub hangs: u64,
    /// Of those: seen.
    pub seen: u64,
    /// Of those: came back by themselves before their bound.
    pub healed: u64,
    /// Of those: the process ended, or was told to, before the bound.
    pub ended: u64,
    /// Of those: their bound was not over when the world ended.
    pub open: u64,
    /// Delays of detection over their bounds, in thousandths.
    pub delays: Vec<u32>,
    /// Incidents opened.
    pub incidents: u64,
    /// Notices told.
    pub notices: u64,
    /// Restarts that were proven.
    pub proofs: u64,
    /// Breakers that opened.
    pub breakers: u64,
    /// Runs of jobs that finished.
    pub runs: u64,
    /// Times of jobs that were skipped or told as missed.
    pub skipped: u64,
    /// Of the kills: for declared work that stood still.
    pub kills_of_stalled: u64,
    /// Standstills of declared work.
    pub stalls: u64,
    /// Verdicts about them.
    pub stalls_seen: u64,
    /// Lives of Horus.
    pub lives: u64,
    /// Kills that a killed Horus had not written down.
    pub kills_forgotten: u64,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// What was counted.
    pub tally: Tally,
    /// The guarantee that was broken, if one was.
    pub violation: Option<Violation>,
    /// What was written down, if that was asked for.
    pub log: Log,
}

/// One run: which seed, for how long, watched how.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Decides everything.
    pub seed: u64,
    /// Short or long.
    pub length: Length,
    /// Keep a recording, and so many lines of the story. 0: neither; the run is the same.
    pub record: usize,
    /// Breaks the engine on purpose.
    pub shim: Option<Shim>,
}

impl Run {
    /// A plain run of a seed.
    pub fn of(seed: u64, length: Length) -> Self {
        Self { seed, length, record: 0, shim: None }
    }

    /// Lets the world live until its end, or until a guarantee is broken.
    pub fn live(self) -> Outcome {
        let options = Options::of(self.seed, self.length);
        World::new(self, options).live()
    }
}

/// The world.
pub(crate) struct World {
    pub(crate) run: Run,
    pub(crate) now: Nanos,
    pub(crate) queue: Queue,
    pub(crate) random: Random,
    pub(crate) options: Options,
    pub(crate) plan: Plan,
    pub(crate) places: Vec<Place>,
    pub(crate) names: BTreeMap<ServiceName, usize>,
    pub(crate) host: Host,
    pub(crate) witness: Witness,
    pub(crate) log: Log,
    /// Faults have stopped.
    pub(crate) calm: bool,
    engine: Option<Engine>,
    pub(crate) life: u32,
    wake_at: Option<Nanos>,
    inbox: VecDeque<Input>,
    pub(crate) next_ticket: u64,
    next_serial: u32,
    pub(crate) steps: u64,
    keeper: Keeper,
    store: Store,
    /// Horus is there, has a keeper and gets time, since then.
    pub(crate) there_since: Nanos,
    ends_at: Nanos,
}

impl World {
    fn new(run: Run, options: Options) -> Self {
        let (mut places, mut names) = (Vec::new(), BTreeMap::new());
        for (name, habits) in options.plan.services.keys().zip(0..) {
            names.insert(name.clone(), habits);
            let Some(habits) = options.habits.get(habits).cloned() else { continue };
            places.push(Place::new(name.clone(), habits));
        }
        let witness = Witness::new(places.len(), &options.plan, &names);
        let mut world = Self {
            run,
            now: 0,
            queue: Queue::default(),
            random: Random::new(run.seed),
            plan: options.plan.clone(),
            host: Host::default(),
            store: Store::new(places.len()),
            log: Log::new(run.record),
            options,
            places,
            names,
            witness,
            calm: false,
            engine: None,
            life: 0,
            wake_at: None,
            inbox: VecDeque::new(),
            next_ticket: 1,
            next_serial: 1,
            steps: 0,
            keeper: Keeper::default(),
            there_since: 0,
            ends_at: Nanos::MAX,
        };
        world.plan_faults();
        world.queue.push(0, Event::HorusComes);
        let span = world.options.span;
        world.queue.push(span, Event::Calm);
        world
    }

    /// Until everything has converged, or a guarantee is broken.
    fn live(mut self) -> Outcome {
        loop {
            let next = self.queue.next_at().unwrap_or(Nanos::MAX);
            let wakes = self
                .wake_at
                .filter(|_| self.engine.is_some())
                .map_or(Nanos::MAX, |at| at.max(self.host.asleep_until));
            if next.min(wakes) >= self.ends_at {
                self.now = self.now.max(self.ends_at);
                self.judge_the_end();
                break;
            }
            if wakes <= next {
                self.now = self.now.max(wakes);
                self.empty_inbox();
                self.step(Input::Wake);
            } else if let Some((at, event)) = self.queue.pop() {
                self.now = self.now.max(at);
                self.happen(event);
            }
            if self.witness.violation.is_some() {
                break;
            }
        }
        self.note_beliefs();
        Outcome { tally: self.tally(), violation: self.witness.violation.take(), log: self.log }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Poll { service, source, watch, asked } => self.poll_answers(service, source, watch, asked),
            Event::Push { service, process, epoch } => self.push_beat(service, process, epoch),
            Event::View { service, process, epoch, count } => {
                self.look_from_outside(service, process, epoch, count);
            }
            Event::Program { service, process, what } => self.program_does(service, process, what),
            Event::Arrives { life, input } => {
                if life == self.life {
                    self.tell(*input);
                }
            }
            Event::News { links, input } => self.news_arrives(links, *input),
            Event::Keeper { keeper, what } => self.keeper_does(keeper, what),
            Event::Commit { life } => self.commit(life),
            Event::Store { fails } => self.disk(fails),
            Event::Sink { fails } => self.sink(fails),
            Event::Host(what) => self.host_does(what),
            Event::Person => self.a_person_asks(),
            Event::Reload => self.the_plan_changes(),
            Event::HorusDies => self.horus_dies(),
            Event::HorusComes => self.horus_comes(),
            Event::Due { service, calendar } => self.due_time(service, calendar),
            Event::CheckTime { service } => self.check_time(service),
            Event::CheckHang { hang } => self.check_hang(hang),
            Event::Calm => self.calm_down(),
            Event::Tidy { round } => self.people_tidy_up(round),
        }
    }

    /// What the engine believed at the end, for whoever reads the story of a seed that failed.
    fn note_beliefs(&mut self) {
        let Some(engine) = self.engine.as_ref().filter(|_| self.witness.violation.is_some()) else { return };
        for service in engine.status(horus::mono(self.now)).services {
            let open: Vec<String> = service.incidents.iter().map(ToString::to_string).collect();
            self.log.happened(self.now, service.name.as_str(), || {
                let (phase, verdict, because) = (&service.phase, service.verdict.word(), &service.because);
                let (kills, breaker) = (service.kills_unproven, service.breaker_open);
                format!(
                    "believed: {phase}, {verdict}: {because}; kills {kills}, breaker {breaker}, open {open:?}"
                )
            });
        }
    }

    /// Draws when each kind of fault happens first.
    fn plan_faults(&mut self) {
        use queue::HostEvent as H;
        let rates = self.options.rates.clone();
        let firsts = [
            (rates.person, Event::Person),
            (rates.reload, Event::Reload),
            (rates.horus_dies, Event::HorusDies),
            (rates.keeper_dies, Event::Keeper { keeper: 0, what: queue::KeeperEvent::Dies }),
            (rates.link_breaks, Event::Keeper { keeper: 0, what: queue::KeeperEvent::LinkBreaks }),
            (rates.disk_fails, Event::Store { fails: true }),
            (rates.sink_fails, Event::Sink { fails: true }),
            (rates.horus_starves, Event::Host(H::StarvesHorus)),
            (rates.starves, Event::Host(H::Starves)),
            (rates.suspends, Event::Host(H::Suspends)),
            (rates.clock_steps, Event::Host(H::StepsClock)),
            (rates.reboots, Event::Host(H::Reboots)),
            (rates.shared_stall, Event::Host(H::SharedStall)),
            (rates.midnight.map(|_| queue::DAY), Event::Host(H::Midnight)),
        ];
        for (mean, event) in firsts {
            self.again(mean, event);
        }
    }

    /// Lets an event happen (again) after a random wait, unless faults have stopped.
    pub(crate) fn again(&mut self, mean: Option<Nanos>, event: Event) {
        let Some(mean) = mean.filter(|_| !self.calm) else { return };
        let wait = if matches!(event, Event::Host(queue::HostEvent::Midnight)) {
            mean
        } else {
            self.random.wait(mean).max(queue::MS)
        };
        if self.now + wait < self.options.span {
            self.queue.push(self.now + wait, event);
        }
    }

    fn check_hang(&mut self, hang: usize) {
        let there = self.engine.is_some() && self.keeper.is_attached();
        let check = self.witness.check_hang(&scene!(self), hang, there && self.host.asleep_until <= self.now);
        if let Check::At(at) = check {
            self.queue.push(at.max(self.now + SECOND / 10), Event::CheckHang { hang });
        }
    }

    /// A program begins to hang.
    pub(crate) fn hang_begins(&mut self, place: usize, how: options::Mishap) {
        let Some(hang) = self.witness.hang_begins(&scene!(self), place, how) else { return };
        if let Some(process) = &mut self.places[place].process {
            process.hang = Some(hang);
        }
        let patience =
            self.plan.services.get(&self.places[place].name).map_or(SECOND, |plan| nanos(plan.deadline));
        self.queue.push(self.now + patience, Event::CheckHang { hang });
    }

    /// Faults stop. From here on new programs behave, and within a bound all has to be well.
    fn calm_down(&mut self) {
        self.calm = true;
        self.host_calms();
        let mut bound = 10 * MINUTE;
        for place in &mut self.places {
            place.broken_until = 0;
            let dies_at = place.habits.dies_at.take().unwrap_or_default();
            if let Some(process) = &mut place.process {
                process.blocked_until = process.blocked_until.min(self.now);
                process.barren_at = None;
            }
            let Some(plan) = self.plan.services.get(&place.name) else { continue };
            let deadline = nanos(plan.deadline);
            let delays = nanos(plan.restart.max).max(nanos(plan.restart.next)).saturating_mul(11);
            let start = nanos(plan.startup).saturating_mul(3) + nanos(plan.stop.grace);
            let stalled = plan.progress.values().map(|work| nanos(work.stalled)).max().unwrap_or_default();
            bound = bound.max(
                (deadline + stalled) * 40
                    + nanos(plan.kills.prove) * 2
                    + delays
                    + start
                    + dies_at * 4
                    + 20 * MINUTE,
            );
        }
        self.disk(false);
        self.sink(false);
        // One at a time, and each has to be proven; a trial that failed before lets the next one wait for an hour.
        let proofs: Nanos = self.plan.services.values().map(|plan| nanos(plan.kills.prove)).sum();
        // What died at the same age every time has to outlive that twice, a day at most, and people restart things in the first half.
        bound += proofs + 52 * queue::HOUR;
        let round = bound / u64::from(TIDY_ROUNDS);
        for number in 0..=TIDY_ROUNDS {
            self.queue.push(self.now + SECOND + u64::from(number) * round, Event::Tidy { round: number });
        }
        // What people begin when they look for the last time has the whole bound before it.
        self.ends_at = self.now + 2 * bound;
    }

    /// Is all well before its bound? Then nothing more can be seen, and nobody has anything to do.
    pub(crate) fn ends_early(&mut self) -> bool {
        self.judge_the_end();
        let well = self.witness.violation.take().is_none() && self.engine.is_some();
        if well {
            self.ends_at = self.now;
        }
        well
    }

    fn judge_the_end(&mut self) {
        let Some(engine) = &self.engine else { return };
        let status = engine.status(horus::mono(self.now));
        self.witness.invariant_everything_converges(&scene!(self), &status);
    }

    fn tally(&self) -> Tally {
        let (counts, register) = (&self.witness.counts, &self.witness.register);
        let fates = |fate: Fate| register.hangs.iter().filter(|hang| hang.fate == fate).count() as u64;
        Tally {
            seeds: 1,
            steps: self.steps,
            service_nanos: u128::from(self.now) * self.places.len() as u128,
            kills: counts.kills,
            kills_of_hung: counts.kills_of_hung,
            kills_of_healthy: counts.kills_of_healthy,
            signals_by_order: counts.signals_by_order,
            hangs: register.hangs.len() as u64,
            seen: fates(Fate::Seen),
            healed: fates(Fate::Healed),
            ended: fates(Fate::Ended),
            open: fates(Fate::Unseen),
            delays: register.delays.clone(),
            incidents: counts.incidents,
            notices: counts.notices,
            proofs: counts.proofs,
            breakers: counts.breakers,
            runs: counts.runs,
            skipped: counts.skipped,
            kills_of_stalled: counts.kills_of_stalled,
            stalls: counts.stalls,
            stalls_seen: counts.stalls_seen,
            lives: u64::from(self.life),
            kills_forgotten: counts.kills_forgotten,
        }
    }

    /// Is there a Horus?
    pub(crate) fn has_horus(&self) -> bool {
        self.engine.is_some()
    }

    /// The longest poll of a service.
    pub(crate) fn poll_of(&self, place: usize) -> Nanos {
        let plan = self.plan.services.get(&self.places[place].name);
        plan.and_then(|plan| plan.beats.iter().map(BeatPlan::every).max()).map_or(SECOND, nanos)
    }
}

impl Place {
    fn new(name: ServiceName, habits: Habits) -> Self {
        Self {
            name,
            habits,
            process: None,
            slot: Slot::default(),
            watch: 0,
            watched: None,
            fast: false,
            answered: false,
            file_tick: 0,
            broken_until: 0,
            calendar: 0,
            times_looked_at: None,
            times_until: None,
        }
    }
}
