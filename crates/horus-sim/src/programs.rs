//! Simulated programs, and the truth about them.
//!
//! A program is a loop that turns every `period`; its tick is how often it turned. Nothing is simulated turn by turn: while
//! the loop turns, the tick at any instant follows from the instant at which it began to. What a probe would see and what is
//! *true* come from here; what the engine believes never does.

use horus_core::ids::Generation;

use crate::world::options::Mishap;
use crate::world::queue::Nanos;

/// What is the matter with a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It has not begun to work.
    Starting,
    /// Its loop turns.
    Works,
    /// Its loop stands still.
    Stands {
        /// In which way.
        how: Mishap,
        /// Since when.
        since: Nanos,
    },
    /// In a declared step, until then.
    Busy { until: Nanos },
    /// It declares that it has nothing to do.
    Idle,
    /// It declares that it has stopped itself.
    Halted,
}

/// What a probe of its endpoint meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// Nobody listens, or the way is blocked.
    NoPath,
    /// It listens, and is not ready to say anything useful.
    NotReady,
    /// It answers.
    Answers,
    /// It accepts and says nothing.
    Hangs,
}

/// One process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) serial: u32,
    pub(crate) generation: Generation,
    pub(crate) started: Nanos,
    pub(crate) condition: Condition,
    /// Counts the changes of condition: an end that was planned for an earlier one is void.
    pub(crate) epoch: u32,
    pub(crate) period: Nanos,
    /// Turns of the loop before `turning_since`.
    ticks: u64,
    turning_since: Option<Nanos>,
    /// When the loop last began to turn again after it had stood.
    pub(crate) healed: Nanos,
    /// The way to its endpoint is blocked until then.
    pub(crate) blocked_until: Nanos,
    /// Its products do not grow any more beyond this.
    pub(crate) barren_at: Option<u64>,
    /// Its work stands still at this count, and how often that has begun.
    work_stands_at: Option<u64>,
    pub(crate) work_epoch: u32,
    /// When its work last began to move.
    work_healed: Nanos,
    pub(crate) ignores_term: bool,
    /// SIGKILL takes so long.
    pub(crate) dies_slowly: Nanos,
    /// Children that will outlive it.
    pub(crate) strays: u32,
    /// A signal is on its way or has come.
    pub(crate) dying: bool,
    /// READY=1 was heard.
    pub(crate) said_ready: bool,
    /// Which row of pushed beats is going on.
    pub(crate) pushing: u32,
    /// Everything takes long.
    pub(crate) slow: bool,
    /// What happens to it next.
    pub(crate) next: Option<Mishap>,
    /// The place of its hang in the register, while it hangs.
    pub(crate) hang: Option<usize>,
}

impl Process {
    pub(crate) fn new(serial: u32, generation: Generation, started: Nanos, period: Nanos) -> Self {
        Self {
            serial,
            generation,
            started,
            condition: Condition::Starting,
            epoch: 0,
            period,
            ticks: 0,
            turning_since: None,
            healed: started,
            blocked_until: 0,
            barren_at: None,
            work_stands_at: None,
            work_epoch: 0,
            work_healed: started,
            ignores_term: false,
            dies_slowly: 0,
            strays: 0,
            dying: false,
            said_ready: false,
            pushing: 0,
            slow: false,
            next: None,
            hang: None,
        }
    }

    /// How often the loop has turned.
    pub(crate) fn ticks(&self, now: Nanos) -> u64 {
        self.ticks + self.turning_since.map_or(0, |since| now.saturating_sub(since) / self.period)
    }

    /// When the loop last turned.
    pub(crate) fn last_turn(&self, now: Nanos) -> Nanos {
        match self.turning_since {
            Some(since) => since + now.saturating_sub(since) / self.period * self.period,
            None => match self.condition {
                Condition::Stands { since, .. } => since,
                _ => self.started,
            },
        }
    }

    /// The loop begins to turn, every `period`. That is a turn in any case: a loop whose pace changes again and again before a turn is
    /// complete would be called turning, and its tick would stand still.
    pub(crate) fn turn(&mut self, now: Nanos, period: Nanos) {
        self.ticks = self.ticks(now) + 1;
        if self.turning_since.is_none() {
            self.healed = now;
        }
        (self.period, self.turning_since) = (period.max(1), Some(now));
    }

    /// The loop stands still.
    pub(crate) fn stand(&mut self, now: Nanos) {
        self.ticks = self.ticks(now);
        self.turning_since = None;
    }

    /// Does the loop turn?
    pub(crate) fn turns(&self) -> bool {
        self.turning_since.is_some()
    }

    /// It hangs and will not come back, as far as it knows, or has stood for longer than it said.
    pub(crate) fn hangs(&self, now: Nanos) -> bool {
        match self.condition {
            Condition::Stands { .. } => true,
            Condition::Busy { until } => until <= now,
            Condition::Starting | Condition::Works | Condition::Idle | Condition::Halted => false,
        }
    }

    /// Its work stands still from now on, or moves again. True if that is new.
    pub(crate) fn hold_work(&mut self, now: Nanos, stands: bool) -> bool {
        if self.work_stands_at.is_some() == stands {
            return false;
        }
        (self.work_stands_at, self.work_healed) = (stands.then(|| self.ticks(now)), now);
        self.work_epoch += 1;
        true
    }

    /// The counter of its declared work: one step with each turn of its loop.
    pub(crate) fn work(&self, now: Nanos) -> u64 {
        self.work_stands_at.map_or(self.ticks(now), |stop| self.ticks(now).min(stop))
    }

    /// Does its work stand still, whether its loop turns or not?
    pub(crate) fn work_stands(&self, now: Nanos) -> bool {
        self.work_stands_at.is_some() || self.hangs(now)
    }

    /// Whoever has asked since then has heard its work move. `None`: it does not.
    pub(crate) fn work_moves_since(&self) -> Option<Nanos> {
        let turning = self.turning_since.filter(|_| self.work_stands_at.is_none());
        turning.map(|since| since.max(self.work_healed) + 2 * self.period)
    }

    pub(crate) fn become_(&mut self, condition: Condition) {
        self.condition = condition;
        self.epoch += 1;
    }

    /// What a probe of its endpoint meets at `now`.
    pub(crate) fn endpoint(&self, now: Nanos, listens_after: Nanos) -> Endpoint {
        if self.blocked_until > now || now < self.started + listens_after {
            return Endpoint::NoPath;
        }
        match self.condition {
            Condition::Starting => Endpoint::NotReady,
            Condition::Stands { how: Mishap::Lying | Mishap::Helped, .. } => Endpoint::Answers,
            Condition::Stands { .. } => Endpoint::Hangs,
            Condition::Works | Condition::Busy { .. } | Condition::Idle | Condition::Halted => {
                Endpoint::Answers
            }
        }
    }

    /// Does its loop (or a helper thread) push beats?
    pub(crate) fn pushes(&self) -> bool {
        match self.condition {
            Condition::Works | Condition::Idle | Condition::Halted => true,
            Condition::Stands { how, .. } => how == Mishap::Helped,
            Condition::Starting | Condition::Busy { .. } => false,
        }
    }

    /// The counter of its input, and that of its products.
    pub(crate) fn counters(&self, now: Nanos) -> (u64, u64) {
        let ticks = self.ticks(now);
        let orders = ticks / 3;
        (ticks, self.barren_at.map_or(orders, |stop| orders.min(stop)))
    }
}
