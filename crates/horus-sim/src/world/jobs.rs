//! Jobs in the world: how long their runs truly take, and the times at which they are due.
//!
//! The times are worked out here, from the calendar and the wall clock of the world; what the engine makes of them is compared
//! by [`crate::invariants`].

use horus_core::observation::Exit;
use horus_core::plan::When;
use jiff::Timestamp;

use super::World;
use super::options::nanos;
use super::queue::{DAY, Event, Happening, MS, Nanos, SECOND};
use crate::programs::Condition;

/// A job whose loop stands cannot finish: looked at again after so long.
const LOOK_AGAIN: Nanos = 10 * SECOND;

impl World {
    /// A run of a job will finish, unless something happens to it.
    pub(super) fn plan_the_end_of_a_run(&mut self, place: usize) {
        let Some(runs) = self.places[place].habits.runs.clone() else { return };
        let Some(finish) = self.finish_of(place) else { return };
        let overlong = !self.calm && self.random.chance(runs.overlong);
        let takes = if overlong {
            self.random.between(finish, finish * 2)
        } else {
            self.random.between(MS, runs.takes)
        };
        self.program_later(place, takes.max(MS), Happening::Finishes);
    }

    fn finish_of(&self, place: usize) -> Option<Nanos> {
        let plan = self.plan.services.get(&self.places[place].name)?;
        plan.schedule.as_ref().map(|schedule| nanos(schedule.finish))
    }

    /// It has done what it was started for, if its loop turns.
    pub(super) fn a_run_finishes(&mut self, place: usize) {
        let Some(process) = &self.places[place].process else { return };
        if process.condition == Condition::Works {
            self.program_ends(place, Exit::Code(0));
        } else {
            self.program_later(place, LOOK_AGAIN, Happening::Finishes);
        }
    }

    /// The time of day is known to Horus, or was set: every job's next time is worked out anew. Times that were jumped over are
    /// due now.
    pub(crate) fn follow_calendars(&mut self) {
        for place in 0..self.places.len() {
            self.plan_due_time(place, None);
        }
    }

    /// The clock is about to be set: what comes again after that is left open.
    pub(crate) fn keep_latest_wall(&mut self) {
        // Who gets no processor goes on by the old clock until it does.
        let asleep = if self.host.asleep_until > self.now { DAY } else { 0 };
        let wall = self.host.timestamp(self.now + asleep);
        for truth in self.places.iter_mut().filter(|truth| truth.habits.runs.is_some()) {
            truth.times_until = truth.times_until.max(wall);
        }
    }

    /// Another Horus has begun: what is due so often is due so often from now on, at the latest.
    pub(super) fn await_regular_times(&mut self) {
        for place in 0..self.places.len() {
            self.witness.begins_to_count(place, self.now);
            self.await_next_times();
        }
    }

    /// The next time of a job that is due so often counts from what became of the last one.
    pub(super) fn await_next_times(&mut self) {
        let Some((place, from)) = self.witness.counted_from.take() else { return };
        let Some(plan) = self.plan.services.get(&self.places[place].name) else {
            // Another life of Horus knows only when it was last started: when it comes back is counted from what becomes of it.
            self.places[place].calendar += 1;
            return;
        };
        if let Some(When::Every(every)) = plan.schedule.as_ref().map(|schedule| &schedule.when) {
            let truth = &mut self.places[place];
            truth.calendar += 1;
            let event = Event::Due { service: place, calendar: truth.calendar };
            self.queue.push(from + nanos(*every), event);
        }
    }

    /// Horus is killed: times of which it had written nothing down are not missed by anybody.
    pub(super) fn forget_unwritten_times(&mut self) {
        for place in 0..self.places.len() {
            if !self.store.knows_times_of(&self.places[place].name) {
                self.witness.owes_no_time(place);
            }
        }
    }

    /// Plans the next time of a job by its calendar; one that was jumped over has come now. `from`: what lies before is over.
    fn plan_due_time(&mut self, place: usize, from: Option<Timestamp>) {
        let Some(wall) = self.host.timestamp(self.now) else { return };
        let truth = &mut self.places[place];
        let Some(plan) = self.plan.services.get(&truth.name) else { return };
        let Some(When::Cron(calendar)) = plan.schedule.as_ref().map(|schedule| &schedule.when) else {
            return;
        };
        let looked = truth.times_looked_at.replace(from.unwrap_or(wall));
        let passed = |from: Option<Timestamp>| {
            from.and_then(|from| calendar.next_after(from)).is_some_and(|at| at <= wall)
        };
        let (passed, first) = (passed(looked), passed(looked.max(truth.times_until)));
        let Some(next) = calendar.next_after(from.unwrap_or(wall)) else { return };
        let ahead = u64::try_from(next.duration_since(wall).as_nanos()).unwrap_or_default();
        truth.calendar += 1;
        let event = Event::Due { service: place, calendar: truth.calendar };
        // Before Horus can notice.
        self.queue.push(self.now + ahead.saturating_sub(MS), event);
        if passed && from.is_none() {
            self.a_time_has_come(place, wall, !first);
        }
    }

    /// A time of the calendar, or of what is due so often, has come.
    pub(super) fn due_time(&mut self, place: usize, calendar: u32) {
        if self.places[place].calendar != calendar {
            return;
        }
        if let Some(wall) = self.host.timestamp(self.now + MS) {
            // A clock that was set back brings times again; whether they are met again is left open.
            let again = self.places[place].times_until.is_some_and(|until| wall <= until);
            self.a_time_has_come(place, wall, again);
            self.plan_due_time(place, Some(wall));
        }
    }

    fn a_time_has_come(&mut self, place: usize, wall: Timestamp, again: bool) {
        let truth = &mut self.places[place];
        truth.times_until = truth.times_until.max(Some(wall));
        if self.calm && !self.has_horus() {
            return;
        }
        // What Horus has never written down it cannot miss.
        let knows = self.has_horus() || self.store.knows_times_of(&self.places[place].name);
        if knows && self.plan.services.contains_key(&self.places[place].name) {
            self.witness.a_time_has_come(self.now, place, again);
            self.queue.push(self.now + SECOND, Event::CheckTime { service: place });
        }
    }

    /// Has anything become of the last time of a job?
    pub(super) fn check_time(&mut self, place: usize) {
        let there = self.has_horus() && self.keeper.is_attached() && self.host.asleep_until <= self.now;
        let check = self.witness.check_time(&super::scene!(self), place, there.then_some(self.there_since));
        if let crate::invariants::Check::At(at) = check {
            self.queue.push(at.max(self.now + SECOND / 10), Event::CheckTime { service: place });
        }
    }
}
