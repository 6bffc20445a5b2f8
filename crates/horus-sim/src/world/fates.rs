//! What happens to programs: they start, work, hang in all the known ways, come back, crash, and obey signals or not.

use std::time::Duration;

use horus_core::ids::Generation;
use horus_core::observation::{Exit, Observation};

use super::World;
use super::options::{Mishap, nanos, possible};
use super::queue::{Event, Happening, MS, Nanos, SECOND};
use crate::invariants::Fate;
use crate::programs::{Condition, Process};

/// A program that may not be killed soon enough: so long the kernel takes.
const UNDEAD_MAX: Nanos = 180 * SECOND;

/// The longest declared step.
const STEP_MAX: Nanos = 100 * 60 * SECOND;

impl World {
    /// A process runs from now on.
    pub(super) fn begin_program(&mut self, place: usize, serial: u32, generation: Generation) {
        let habits = self.places[place].habits.clone();
        let mut process = Process::new(serial, generation, self.now, habits.period);
        let startup =
            self.plan.services.get(&self.places[place].name).map_or(SECOND, |plan| nanos(plan.startup));
        let random = &mut self.random;
        if !self.calm {
            process.ignores_term = random.chance(habits.ignores_term);
            process.strays = if random.chance(habits.strays) { 2 } else { 0 };
            process.dies_slowly =
                if random.chance(habits.undead) { random.magnitude(SECOND, UNDEAD_MAX) } else { 0 };
        }
        let never = !self.calm && random.chance(habits.start_hang);
        let late = !self.calm && random.chance(habits.start_tail);
        let takes = if late {
            random.magnitude(startup, startup * 4)
        } else {
            random.between(habits.start / 2, habits.start)
        };
        let broken = self.now < self.places[place].broken_until;
        let mut plan = Vec::new();
        if broken {
            plan.push((random.magnitude(5 * MS, 20 * SECOND), Happening::Ends { code: 1 }));
        }
        if let Some(age) = habits.dies_at {
            plan.push((age + random.below(age / 100 + 1), Happening::Dies { signal: 9 }));
        }
        if !never {
            plan.push((takes.max(MS), Happening::Ready));
        }
        self.places[place].process = Some(process);
        for (after, what) in plan {
            self.queue.push(self.now + after, Event::Program { service: place, process: serial, what });
        }
        if never {
            self.hang_begins(place, Mishap::Silent);
        }
    }

    pub(super) fn program_does(&mut self, place: usize, serial: u32, what: Happening) {
        if what == Happening::StraysGone {
            self.strays_gone(place);
            return;
        }
        let Some(process) = self.places[place].process.as_ref().filter(|process| process.serial == serial)
        else {
            return;
        };
        match what {
            Happening::Ready => self.program_is_ready(place),
            Happening::Mishap => {
                let (what, works) = (process.next, process.condition == Condition::Works);
                // The plan may have changed since: a helper's beats need somebody who listens to them.
                let plan = self.plan.services.get(&self.places[place].name);
                let possible = |what: &Mishap| plan.is_some_and(|plan| possible(*what, plan));
                match what.filter(possible) {
                    Some(what) if works && !self.calm => self.mishap(place, what),
                    _ => self.plan_mishap(place),
                }
            }
            Happening::Heals { epoch } => {
                if process.epoch == epoch {
                    self.program_heals(place);
                }
            }
            Happening::Finishes => self.a_run_finishes(place),
            Happening::WorkMoves { epoch } => self.work_moves(place, epoch),
            Happening::Ends { code } => self.program_ends(place, Exit::Code(code)),
            Happening::Dies { signal } => self.program_ends(place, Exit::Signal(signal)),
            Happening::StraysGone => {}
        }
    }

    fn program_is_ready(&mut self, place: usize) {
        let (now, slowness) = (self.now, u64::from(self.host.slowness(self.now).min(3)));
        let Some(process) = &mut self.places[place].process else { return };
        process.become_(Condition::Works);
        let period = process.period * slowness;
        process.turn(now, period);
        self.say_ready(place);
        self.begin_pushing(place);
        self.plan_the_end_of_a_run(place);
        self.plan_work(place);
        self.plan_mishap(place);
    }

    /// Draws what happens next; whatever has the shortest wait.
    pub(super) fn plan_mishap(&mut self, place: usize) {
        if self.calm {
            return;
        }
        let mishaps = self.places[place].habits.mishaps.clone();
        let waits = mishaps.iter().map(|(mishap, mean)| (self.random.wait(*mean), *mishap));
        let Some((wait, mishap)) = waits.min() else { return };
        let Some(process) = &mut self.places[place].process else { return };
        process.next = Some(mishap);
        let event = Event::Program { service: place, process: process.serial, what: Happening::Mishap };
        self.queue.push(self.now + wait.max(10 * MS), event);
    }

    fn mishap(&mut self, place: usize, what: Mishap) {
        self.log.happened(self.now, &self.places[place].name.to_string(), || format!("truth: {what:?}"));
        let deadline =
            self.plan.services.get(&self.places[place].name).map_or(SECOND, |plan| nanos(plan.deadline));
        match what {
            Mishap::Silent | Mishap::Lying | Mishap::Helped => self.program_stands(place, what, None),
            Mishap::Stall => {
                let lasts = self.random.between(deadline / 10, deadline / 10 * 9);
                self.program_stands(place, Mishap::Silent, Some(lasts));
            }
            Mishap::LongStall => {
                let lasts = self.random.between(deadline, deadline * 4);
                let how = if self.random.chance(0.5) { Mishap::Silent } else { Mishap::LongStall };
                self.program_stands(place, how, Some(lasts));
            }
            Mishap::Slow => self.program_is_slow(place, deadline),
            Mishap::Busy | Mishap::BusyForEver => self.program_is_busy(place, what, deadline),
            Mishap::Idle => {
                let lasts = self.random.between(deadline, deadline * 30);
                self.program_rests(place, Condition::Idle, Some(lasts));
            }
            Mishap::Halted => {
                self.program_rests(place, Condition::Halted, None);
                if self.random.chance(0.5) {
                    let after = self.random.between(MS, deadline * 4);
                    self.program_later(place, after, Happening::Ends { code: 0 });
                }
            }
            Mishap::Crash => self.program_ends(place, Exit::Code(2)),
            Mishap::Completes => self.program_ends(place, Exit::Code(0)),
            Mishap::CrashLoop => {
                self.places[place].broken_until =
                    self.now + self.random.magnitude(10 * SECOND, 3600 * SECOND);
                self.program_ends(place, Exit::Signal(11));
            }
            Mishap::PathBlocked => self.path_is_blocked(place, deadline),
            Mishap::WorkStalls | Mishap::WorkPauses => self.work_stands(place, what),
            Mishap::Barren => {
                let now = self.now;
                let lasts = self.random.between(deadline * 4, deadline * 200);
                if let Some(process) = &mut self.places[place].process {
                    let (_, orders) = process.counters(now);
                    process.barren_at = if process.barren_at.is_some() { None } else { Some(orders) };
                }
                self.program_later(place, lasts, Happening::Mishap);
            }
        }
    }

    pub(super) fn program_later(&mut self, place: usize, after: Nanos, what: Happening) {
        if let Some(process) = &self.places[place].process {
            self.queue
                .push(self.now + after, Event::Program { service: place, process: process.serial, what });
        }
    }

    /// The loop stands still: for good, or for so long.
    pub(crate) fn program_stands(&mut self, place: usize, how: Mishap, lasts: Option<Nanos>) {
        let since = self.now;
        let Some(process) = &mut self.places[place].process else { return };
        process.stand(since);
        process.become_(Condition::Stands { how, since });
        let epoch = process.epoch;
        if how == Mishap::Helped {
            self.begin_pushing(place);
        }
        self.hang_begins(place, how);
        self.begin_to_look(place, how);
        if let Some(lasts) = lasts {
            self.program_later(place, lasts.max(MS), Happening::Heals { epoch });
        }
    }

    /// It lives and says so, and does nothing.
    fn program_rests(&mut self, place: usize, condition: Condition, lasts: Option<Nanos>) {
        let (now, still) = (self.now, self.random.chance(0.5));
        let Some(process) = &mut self.places[place].process else { return };
        if still {
            process.stand(now);
        }
        process.become_(condition);
        let epoch = process.epoch;
        if let Some(lasts) = lasts {
            self.program_later(place, lasts, Happening::Heals { epoch });
        }
    }

    fn program_is_slow(&mut self, place: usize, deadline: Nanos) {
        let (now, poll) = (self.now, self.poll_of(place));
        let lasts = self.random.between(deadline, deadline * 20);
        // However slow it is, its declared work moves within its limit.
        let slowest = (deadline / 10 * 8).min(self.limit_of_work(place) / 4);
        let period = slowest.saturating_sub(poll).max(self.places[place].habits.period);
        let Some(process) = &mut self.places[place].process else { return };
        process.slow = true;
        process.turn(now, period);
        let epoch = process.epoch;
        self.program_later(place, lasts, Happening::Heals { epoch });
    }

    /// A long step, declared before it begins.
    fn program_is_busy(&mut self, place: usize, what: Mishap, deadline: Nanos) {
        let step = self.random.between(deadline, deadline * 6).min(STEP_MAX);
        let until = self.now + step;
        let extend = Duration::from_nanos(step);
        self.notify(place, |generation| Observation::AskedForTime { generation, extend });
        let now = self.now;
        let Some(process) = &mut self.places[place].process else { return };
        process.stand(now);
        process.become_(Condition::Busy { until });
        let epoch = process.epoch;
        let ends = if what == Mishap::Busy { self.random.between(step / 4, step) } else { step };
        process.next = Some(what);
        self.program_later(place, ends.max(MS), Happening::Heals { epoch });
    }

    /// What was the matter with it is over. Only a step that never ends becomes a hang.
    fn program_heals(&mut self, place: usize) {
        let now = self.now;
        let Some(process) = &mut self.places[place].process else { return };
        if matches!(process.condition, Condition::Busy { .. }) && process.next == Some(Mishap::BusyForEver) {
            let plan = self.plan.services.get(&self.places[place].name);
            let lies = plan.is_some_and(|plan| possible(Mishap::Lying, plan)) && self.random.chance(0.5);
            let how = if lies { Mishap::Lying } else { Mishap::Silent };
            self.program_stands(place, how, None);
            return;
        }
        self.witness.hang_ends(&super::scene!(self), place, Fate::Healed);
        let period = self.places[place].habits.period * u64::from(self.host.slowness(now).min(3));
        let Some(process) = &mut self.places[place].process else { return };
        (process.hang, process.slow) = (None, false);
        let was_working = process.condition == Condition::Works;
        process.become_(Condition::Works);
        process.turn(now, period);
        if !was_working {
            self.begin_pushing(place);
        }
        self.plan_mishap(place);
    }

    fn path_is_blocked(&mut self, place: usize, deadline: Nanos) {
        let lasts = self.random.between(deadline / 2, deadline * 20);
        let now = self.now;
        let Some(process) = &mut self.places[place].process else { return };
        process.blocked_until = now + lasts;
        // What hangs behind a blocked path cannot be told from what does not: the next mishap waits.
        self.program_later(place, lasts + SECOND, Happening::Mishap);
        if let Some(process) = &mut self.places[place].process {
            process.next = None;
        }
    }

    pub(crate) fn program_ends(&mut self, place: usize, exit: Exit) {
        self.witness.hang_ends(&super::scene!(self), place, Fate::Ended);
        let Some(process) = self.places[place].process.take() else { return };
        self.log.happened(self.now, &self.places[place].name.to_string(), || format!("truth: {exit}"));
        self.process_ended(place, &process, exit);
    }
}
