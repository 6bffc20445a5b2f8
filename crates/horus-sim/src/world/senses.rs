//! Probes: when they ask, what they meet, when their answer arrives. Mirrors `horus-probe`.
//!
//! One event is one poll: it stands at the instant at which the answer is there, or would be. A program that hangs then
//! costs its timeout from the instant of the question.

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::ids::Generation;
use horus_core::observation::{Beat, Declared, Input, Observation, ProbeFault};
use horus_core::plan::{BeatKind, BeatPlan, ServicePlan};

use super::World;
use super::extras::WORK_COUNTER;
use super::options::nanos;
use super::queue::{Event, MS, Nanos};
use crate::programs::{Condition, Endpoint, Process};

/// A hastened poll is never faster.
const HASTENED_EVERY_MIN: Nanos = 250 * MS;

/// What one poll brings.
enum Answer {
    Sign {
        tick: Option<u64>,
        declared: Option<Declared>,
        progress: BTreeMap<String, u64>,
    },
    Fault(ProbeFault),
    /// Nothing until the timeout.
    Nothing,
}

impl World {
    /// Every probe of the service looks at this run from now on.
    pub(super) fn watch(&mut self, place: usize, generation: Generation) {
        let Some(plan) = self.plan.services.get(&self.places[place].name) else { return };
        let sources: Vec<usize> =
            (0..plan.beats.len()).filter(|source| !plan.beats[*source].every().is_zero()).collect();
        let truth = &mut self.places[place];
        truth.watch += 1;
        (truth.watched, truth.fast, truth.answered) = (Some(generation), false, false);
        for source in sources {
            self.poll_at(place, source, self.now);
        }
        // It may have been said before anybody read it: the socket was there, and keeps it.
        self.say_ready(place);
    }

    /// `READY=1`, once.
    pub(super) fn say_ready(&mut self, place: usize) {
        let watched = self.places[place].watched;
        let Some(process) = &mut self.places[place].process else { return };
        let heard = watched == Some(process.generation);
        if heard
            && process.condition != Condition::Starting
            && !std::mem::replace(&mut process.said_ready, true)
        {
            let generation = process.generation;
            self.notify_later(place, Observation::SaidReady { generation });
        }
    }

    fn notify_later(&mut self, place: usize, observation: Observation) {
        let name = self.places[place].name.clone();
        if self.plan.services.get(&name).is_some_and(ServicePlan::is_notified) {
            self.tell_later(0, Input::Service(name, observation));
        }
    }

    pub(super) fn unwatch(&mut self, place: usize) {
        let truth = &mut self.places[place];
        truth.watch += 1;
        (truth.watched, truth.fast) = (None, false);
    }

    pub(super) fn hasten(&mut self, place: usize, fast: bool) {
        let Some(generation) = self.places[place].watched else { return };
        if fast {
            self.watch(place, generation);
        }
        self.places[place].fast = fast;
    }

    /// Plans a poll that asks at `asked`.
    fn poll_at(&mut self, place: usize, source: usize, asked: Nanos) {
        let mut latency = self.random.between(MS / 2, 6 * MS);
        if self.random.chance(0.01) {
            latency = self.random.between(MS, self.timeout(place, source) / 2);
        }
        latency *= u64::from(self.host.slowness(self.now));
        let watch = self.places[place].watch;
        let at = asked + latency.min(self.timeout(place, source) / 4 * 3);
        self.queue.push(at, Event::Poll { service: place, source, watch, asked });
    }

    fn timeout(&self, place: usize, source: usize) -> Nanos {
        let plan = self.plan.services.get(&self.places[place].name);
        match plan.and_then(|plan| plan.beats.get(source)) {
            Some(BeatPlan::Http(http)) => nanos(http.timeout),
            _ => 1000 * MS,
        }
    }

    /// The answer of a poll is there, or would be.
    pub(super) fn poll_answers(&mut self, place: usize, source: usize, watch: u32, asked: Nanos) {
        if self.places[place].watch != watch || self.engine.is_none() {
            return;
        }
        let Some(generation) = self.places[place].watched else { return };
        let Some(plan) = self.plan.services.get(&self.places[place].name) else { return };
        let Some(beat) = plan.beats.get(source) else { return };
        let (kind, every, timeout) = (beat.kind(), nanos(beat.every()), self.timeout(place, source));
        let answer = if kind == BeatKind::File {
            self.look_at_file(place)
        } else {
            let counts = Counts {
                products: !plan.values.is_empty() || !plan.funnels.is_empty(),
                work: !plan.progress.is_empty(),
            };
            let ticks = matches!(beat, BeatPlan::Http(http) if http.seq.is_some());
            self.ask(place, ticks, counts)
        };
        let name = self.places[place].name.clone();
        let mut busy_until = self.now;
        match answer {
            Answer::Sign { tick, declared, progress } => {
                self.places[place].answered = true;
                let beat = Beat {
                    source: kind,
                    tick,
                    progress,
                    declared,
                    gauges: BTreeMap::new(),
                    loop_lag_ms: None,
                };
                self.tell(Input::Service(name, Observation::Beat { generation, beat }));
            }
            Answer::Fault(fault) => {
                self.places[place].answered = false;
                let detail = "refused".to_owned();
                self.tell(Input::Service(
                    name,
                    Observation::NoBeat { generation, source: kind, fault, detail },
                ));
            }
            Answer::Nothing => {
                // On a connection that was kept it may have been the path.
                let kept = std::mem::take(&mut self.places[place].answered) && self.random.chance(0.3);
                let fault = if kept { ProbeFault::ReusedConnectionSilent } else { ProbeFault::NoAnswer };
                let detail = "no answer".to_owned();
                busy_until = asked + timeout;
                let input =
                    Input::Service(name, Observation::NoBeat { generation, source: kind, fault, detail });
                self.tell_later(busy_until.saturating_sub(self.now), input);
            }
        }
        if self.places[place].watch != watch {
            return;
        }
        let fast = self.places[place].fast;
        let period = if fast { (every / 4).max(HASTENED_EVERY_MIN).min(every) } else { every };
        let period = period / 1000 * self.random.between(800, 1000);
        self.poll_at(place, source, (asked + period).max(busy_until));
    }

    /// One question over HTTP.
    fn ask(&mut self, place: usize, ticks: bool, counts: Counts) -> Answer {
        let now = self.now;
        let lossy = !self.calm && self.random.chance(self.places[place].habits.lossy);
        let listens_after = self.places[place].habits.start / 4;
        let Some(process) = &self.places[place].process else { return Answer::Fault(ProbeFault::NoPath) };
        match process.endpoint(now, listens_after) {
            Endpoint::NoPath => Answer::Fault(ProbeFault::NoPath),
            Endpoint::NotReady => Answer::Fault(ProbeFault::NotABeat),
            Endpoint::Hangs => Answer::Nothing,
            Endpoint::Answers if lossy => {
                let faults = [
                    ProbeFault::Prober,
                    ProbeFault::NoPath,
                    ProbeFault::NotABeat,
                    ProbeFault::ReusedConnectionSilent,
                ];
                Answer::Fault(self.random.pick(&faults).copied().unwrap_or(ProbeFault::Prober))
            }
            Endpoint::Answers => Answer::Sign {
                tick: ticks.then(|| process.ticks(now)),
                declared: declared(process, now),
                progress: counts.of(process, now),
            },
        }
    }

    fn look_at_file(&mut self, place: usize) -> Answer {
        let now = self.now;
        let truth = &mut self.places[place];
        if let Some(process) =
            truth.process.as_ref().filter(|process| process.condition != Condition::Starting)
        {
            truth.file_tick = (u64::from(process.serial) << 32) + process.ticks(now);
        }
        if truth.file_tick == 0 {
            return Answer::Fault(ProbeFault::NoPath);
        }
        Answer::Sign { tick: Some(truth.file_tick), declared: None, progress: BTreeMap::new() }
    }

    // --- pushed beats ---

    /// How often the program pushes.
    fn push_every(&self, place: usize) -> Option<Nanos> {
        let plan = self.plan.services.get(&self.places[place].name)?;
        let pushed = |beat: &BeatPlan| matches!(beat, BeatPlan::Notify | BeatPlan::Log(_));
        plan.beats.iter().any(pushed).then(|| nanos(plan.deadline) / 3)
    }

    /// The program begins to push (again).
    pub(super) fn begin_pushing(&mut self, place: usize) {
        if self.push_every(place).is_none() {
            return;
        }
        let Some(process) = &mut self.places[place].process else { return };
        process.pushing += 1;
        let (process, epoch) = (process.serial, process.pushing);
        let after = self.random.between(0, 50 * MS);
        self.queue.push(self.now + after, Event::Push { service: place, process, epoch });
    }

    /// Its loop (or a helper thread) pushes a beat.
    pub(super) fn push_beat(&mut self, place: usize, serial: u32, epoch: u32) {
        let Some(every) = self.push_every(place) else { return };
        let Some(process) = &self.places[place].process else { return };
        if process.serial != serial || process.pushing != epoch || !process.pushes() {
            return;
        }
        let generation = process.generation;
        // A slow loop pushes seldom, but within its deadline.
        let slow = process.slow;
        let every = if slow { every / 2 * 5 } else { self.random.between(every / 2, every) };
        self.queue.push(self.now + every, Event::Push { service: place, process: serial, epoch });
        if self.places[place].watched != Some(generation) {
            return;
        }
        let Some(plan) = self.plan.services.get(&self.places[place].name) else { return };
        let pushed = plan
            .beats
            .iter()
            .map(BeatPlan::kind)
            .find(|kind| matches!(kind, BeatKind::Notify | BeatKind::Log));
        let Some(source) = pushed else { return };
        let (tick, progress, gauges) = (None, BTreeMap::new(), BTreeMap::new());
        let beat = Beat { source, tick, progress, declared: None, gauges, loop_lag_ms: None };
        let name = self.places[place].name.clone();
        self.tell(Input::Service(name, Observation::Beat { generation, beat }));
    }

    /// A datagram of the program, if it has a notify socket and somebody listens there.
    pub(super) fn notify(&mut self, place: usize, observation: impl FnOnce(Generation) -> Observation) {
        let Some(plan) = self.plan.services.get(&self.places[place].name) else { return };
        let Some(process) = &self.places[place].process else { return };
        let generation = process.generation;
        if plan.is_notified() && self.places[place].watched == Some(generation) {
            let name = self.places[place].name.clone();
            self.tell(Input::Service(name, observation(generation)));
        }
    }
}

fn declared(process: &Process, now: Nanos) -> Option<Declared> {
    match process.condition {
        Condition::Busy { until } if until > now => Some(Declared::Busy(Duration::from_nanos(until - now))),
        Condition::Busy { .. } => None,
        Condition::Idle => Some(Declared::Idle),
        Condition::Halted => Some(Declared::Halted),
        Condition::Starting | Condition::Works | Condition::Stands { .. } => Some(Declared::Ok),
    }
}

/// Which counters a program shows: those that its plan asks for.
#[derive(Clone, Copy)]
struct Counts {
    products: bool,
    work: bool,
}

impl Counts {
    fn of(self, process: &Process, now: Nanos) -> BTreeMap<String, u64> {
        let mut shown = BTreeMap::new();
        if self.products {
            let (signals, orders) = process.counters(now);
            shown.extend([("signals".to_owned(), signals), ("orders".to_owned(), orders)]);
        }
        if self.work {
            shown.insert(WORK_COUNTER.to_owned(), process.work(now));
        }
        shown
    }
}
