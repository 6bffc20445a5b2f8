//! The machine: it starves, is suspended, has its clock set, starts anew; and what all programs share may stall.

use std::time::Duration;

use horus_core::observation::{HostObservation, Input};

use crate::programs::Condition;
use crate::world::World;
use crate::world::options::Mishap;
use crate::world::queue::{Event, HOUR, HostEvent, MINUTE, MS, Nanos, SECOND};

/// The wall clock when a world begins: an instant in 2026, seconds since 1970.
const WALL_AT_START: i64 = 1_780_000_000;

/// The machine.
#[derive(Debug, Default)]
pub(crate) struct Host {
    /// Horus gets no processor until then.
    pub(crate) asleep_until: Nanos,
    /// Everything takes so many times as long.
    slow: Option<u32>,
    /// How far the wall clock is ahead of the engine's.
    wall_offset: i128,
}

impl Host {
    /// So many times as long as usual everything takes.
    pub(crate) fn slowness(&self, _now: Nanos) -> u32 {
        self.slow.unwrap_or(1)
    }

    /// The wall clock, nanoseconds since the world began by the first setting.
    pub(crate) fn wall(&self, now: Nanos) -> i128 {
        i128::from(now) + self.wall_offset
    }

    /// The time of day.
    pub(crate) fn timestamp(&self, now: Nanos) -> Option<jiff::Timestamp> {
        let since_start = i128::from(WALL_AT_START) * i128::from(SECOND) + self.wall(now);
        jiff::Timestamp::from_nanosecond(since_start).ok()
    }
}

impl World {
    pub(crate) fn host_does(&mut self, what: HostEvent) {
        let rates = self.options.rates.clone();
        let mean = match what {
            HostEvent::Starves => rates.starves,
            HostEvent::StarvesHorus => rates.horus_starves,
            HostEvent::Suspends => rates.suspends,
            HostEvent::StepsClock => rates.clock_steps,
            HostEvent::Reboots => rates.reboots,
            HostEvent::SharedStall => rates.shared_stall,
            HostEvent::Midnight => rates.midnight.map(|_| crate::world::queue::DAY),
            HostEvent::Calms | HostEvent::HorusRuns => None,
        };
        self.again(mean, Event::Host(what));
        if self.calm && !matches!(what, HostEvent::Calms | HostEvent::HorusRuns) {
            return;
        }
        self.log.happened(self.now, "host", || format!("{what:?}"));
        match what {
            HostEvent::Starves => self.starves(),
            HostEvent::Calms => self.host_calms(),
            HostEvent::StarvesHorus => self.starves_horus(),
            HostEvent::HorusRuns => {
                self.there_since = self.now;
                self.empty_inbox();
            }
            HostEvent::Suspends => self.suspends(),
            HostEvent::StepsClock => self.steps_clock(),
            HostEvent::Reboots => self.reboots(),
            HostEvent::SharedStall => {
                let lasts = self.random.magnitude(SECOND, HOUR);
                self.shared_stall(lasts);
            }
            HostEvent::Midnight => self.shared_stall(rates.midnight.unwrap_or(MINUTE)),
        }
    }

    fn starves(&mut self) {
        let slow = u32::try_from(self.random.between(2, 20)).unwrap_or(2);
        self.host.slow = Some(slow);
        self.tell_pressure();
        self.set_pace();
        let lasts = self.random.magnitude(10 * SECOND, 30 * MINUTE);
        self.queue.push(self.now + lasts, Event::Host(HostEvent::Calms));
    }

    /// Everybody gets time again.
    pub(crate) fn host_calms(&mut self) {
        if self.host.slow.take().is_some() {
            self.tell_pressure();
            self.set_pace();
        }
    }

    /// What the kernel says of how long everybody waits.
    pub(crate) fn tell_pressure(&mut self) {
        let share = 1.0 - 1.0 / f64::from(self.host.slow.unwrap_or(1));
        self.tell(Input::Host(HostObservation::Pressure { cpu: share, memory: 0.0, io: share / 2.0 }));
    }

    /// Loops turn as fast as the machine lets them; always within a fraction of their deadline.
    fn set_pace(&mut self) {
        let factor = u64::from(self.host.slow.unwrap_or(1).min(3));
        let now = self.now;
        for place in &mut self.places {
            let period = place.habits.period * factor;
            if let Some(process) = &mut place.process
                && process.turns()
                && !process.slow
            {
                process.turn(now, period);
            }
        }
    }

    /// Horus alone gets no processor: what arrives waits.
    fn starves_horus(&mut self) {
        let lasts = self.random.magnitude(20 * MS, 20 * MINUTE);
        let until = (self.now + lasts).max(self.host.asleep_until);
        self.witness.register.starved += until - self.now.max(self.host.asleep_until);
        self.host.asleep_until = until;
        self.queue.push(until, Event::Host(HostEvent::HorusRuns));
    }

    /// The lid is closed. The engine's clock stands with everything else; the wall clock does not.
    fn suspends(&mut self) {
        let slept = self.random.magnitude(SECOND, 12 * HOUR);
        self.host.wall_offset += i128::from(slept);
        self.witness.register.slept += slept;
        self.tell(Input::Host(HostObservation::Suspended { slept: Duration::from_nanos(slept) }));
        self.tell_wall();
    }

    fn steps_clock(&mut self) {
        let by = i128::from(self.random.magnitude(SECOND, 48 * HOUR));
        let by = if self.random.chance(0.5) { by } else { -by };
        self.keep_latest_wall();
        self.host.wall_offset += by;
        self.witness.register.clock_is_set(self.now);
        if by < 0 {
            (0..self.places.len()).for_each(|place| self.witness.owes_no_time(place));
        }
        let by_ms = i64::try_from(by / i128::from(MS)).unwrap_or_default();
        self.tell(Input::Host(HostObservation::ClockStepped { by_ms }));
        self.tell_wall();
    }

    pub(crate) fn tell_wall(&mut self) {
        self.follow_calendars();
        if let Some(timestamp) = self.host.timestamp(self.now) {
            self.tell(Input::Wall(timestamp));
        }
    }

    /// Nothing runs any more; Horus begins from what its disk has.
    fn reboots(&mut self) {
        for place in 0..self.places.len() {
            if self.places[place].process.is_some() {
                self.witness.hang_ends(&crate::world::scene!(self), place, crate::invariants::Fate::Ended);
            }
            self.places[place].process = None;
        }
        self.keeper_after_reboot();
        if self.has_horus() {
            self.end_life();
            let away = self.random.magnitude(10 * SECOND, 10 * MINUTE);
            self.queue.push(self.now + away, Event::HorusComes);
        }
    }

    /// Something that all programs need does not answer: their loops stand, and come back together.
    fn shared_stall(&mut self, lasts: Nanos) {
        for place in 0..self.places.len() {
            let works = |process: &crate::programs::Process| {
                process.condition == Condition::Works && !process.slow && process.blocked_until <= self.now
            };
            if self.places[place].process.as_ref().is_some_and(works) && self.random.chance(0.9) {
                self.program_stands(place, Mishap::Silent, Some(lasts));
            }
        }
    }
}
