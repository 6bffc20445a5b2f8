//! Stalls that end by themselves: half of the deadline or more without a fresh tick, and then one. Nobody is restarted for
//! them, but one that comes every night at the same time has a cause, and somebody wants to know of it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::command::MemoryStall;
use crate::event::What;
use crate::notice::{IncidentKind, Story};
use crate::plan::Severity;
use crate::reason::{Reason, Rule};
use crate::service::Service;
use crate::time::{Human, Mono};
use crate::turn::Turn;

/// Stalls that are kept per service.
pub const STALLS_KEPT_MAX: usize = 64;

/// So many days in a row make a recurrence.
pub const RECURS_DAYS: u64 = 3;

/// Two stalls are at the same time of day if they are no further apart than this.
pub const RECURS_WITHIN: Duration = Duration::from_secs(15 * 60);

/// A recurrence that has not come again for so long is over.
pub const RECURS_OVER_AFTER: Duration = Duration::from_secs(2 * 24 * 3600);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The stalls of one service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stalls {
    /// Newest first.
    kept: VecDeque<Stall>,
}

#[derive(Clone, Copy, Debug)]
struct Stall {
    at: Mono,
    lasted: Duration,
}

impl Stalls {
    pub(crate) fn record(&mut self, now: Mono, lasted: Duration) {
        self.kept.push_front(Stall { at: now, lasted });
        self.kept.truncate(STALLS_KEPT_MAX);
    }

    /// How many days in a row it has stalled at this time of day, the newest stall being one of them.
    fn days_in_a_row(&self) -> u64 {
        let Some(newest) = self.kept.front() else { return 0 };
        let near = |day: u32| {
            let then = newest.at.before(DAY * day);
            self.kept.iter().any(|stall| stall.at.since(then).max(then.since(stall.at)) <= RECURS_WITHIN)
        };
        let mut days = 1;
        while days < 60 && near(days) {
            days += 1;
        }
        u64::from(days)
    }

    /// When the newest one is so old that it does not recur any more.
    pub(crate) fn over_at(&self) -> Option<Mono> {
        self.kept.front().map(|stall| stall.at + RECURS_OVER_AFTER)
    }

    pub(crate) fn remember(&self, now: Mono) -> Vec<MemoryStall> {
        self.kept.iter().map(|stall| MemoryStall { age: now.since(stall.at), lasted: stall.lasted }).collect()
    }

    pub(crate) fn restore(remembered: &[MemoryStall], now: Mono) -> Self {
        let kept = remembered.iter().take(STALLS_KEPT_MAX);
        Self { kept: kept.map(|stall| Stall { at: now.before(stall.age), lasted: stall.lasted }).collect() }
    }
}

impl Service {
    /// A silence of half of the deadline or more has ended with a fresh tick.
    pub(crate) fn note_stall(&mut self, turn: &mut Turn<'_>, lasted: Duration) {
        if lasted.is_zero() {
            return;
        }
        self.stalls.record(turn.now, lasted);
        self.dirty = true;
        let reason = Reason::new(Rule::Silent, format!("no fresh tick for {}, then one", Human(lasted)));
        self.record(turn, None, What::Stalled { lasted, reason });
        let days = self.stalls.days_in_a_row();
        if days < RECURS_DAYS || self.incidents.find(IncidentKind::Recurrence).is_some() {
            return;
        }
        let text = format!(
            "it stalled {days} days in a row at this time of day, the last time for {}",
            Human(lasted)
        );
        let reason = Reason::new(Rule::Recurrence, text);
        let (generation, severity) = (Some(self.generation), Severity::Warning);
        let id = self.incidents.open(turn, generation, IncidentKind::Recurrence, "", severity, &reason);
        self.incidents.tell(turn, id, severity, false, false, Story::Recurs { days, lasted });
    }

    /// A recurrence that has not come again for two days is over.
    pub(crate) fn end_recurrence(&mut self, turn: &mut Turn<'_>) {
        if self.incidents.find(IncidentKind::Recurrence).is_some()
            && self.stalls.over_at().is_none_or(|at| at <= turn.now)
        {
            let outcome = crate::event::Outcome::CameBackAlone;
            self.incidents.close_kind(turn, IncidentKind::Recurrence, outcome, "it has not come again");
            self.dirty = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: u64, minute: u64) -> Mono {
        Mono::from_origin(Duration::from_secs((100 + day) * 86_400 + minute * 60))
    }

    #[test]
    fn days_in_a_row_at_the_same_time_are_counted() {
        let mut stalls = Stalls::default();
        for day in 0..4 {
            stalls.record(at(day, 3 + day), Duration::from_secs(200));
            assert_eq!(stalls.days_in_a_row(), day + 1);
        }
        stalls.record(at(4, 300), Duration::from_secs(200));
        assert_eq!(stalls.days_in_a_row(), 1, "another time of day");
        stalls.record(at(6, 5), Duration::from_secs(200));
        assert_eq!(stalls.days_in_a_row(), 1, "a day is missing");
    }
}
