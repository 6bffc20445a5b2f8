//! Declared work in the world: it moves with the loop, stands still while the loop turns, and moves again.

use super::World;
use super::options::{Mishap, nanos};
use super::queue::{Happening, MS, Nanos};

impl World {
    /// The limit of a service's declared work; without any, none.
    pub(super) fn limit_of_work(&self, place: usize) -> Nanos {
        let plan = self.plan.services.get(&self.places[place].name);
        let limits = plan.into_iter().flat_map(|plan| plan.progress.values());
        limits.map(|work| nanos(work.stalled)).min().unwrap_or(Nanos::MAX)
    }

    /// In some runs the work never begins to move.
    pub(super) fn plan_work(&mut self, place: usize) {
        let never = self.places[place].habits.idle_work;
        if never > 0.0 && !self.calm && self.random.chance(never) {
            self.hold_work(place, true);
        }
    }

    /// The loop goes on to turn, and the work does not move: for good, or for a while.
    pub(super) fn work_stands(&mut self, place: usize, what: Mishap) {
        if self.hold_work(place, true) && what == Mishap::WorkPauses {
            let limit = self.limit_of_work(place);
            let lasts = self.random.between(limit / 4, limit.saturating_mul(3));
            if let Some(process) = &self.places[place].process {
                let epoch = process.work_epoch;
                self.program_later(place, lasts.max(MS), Happening::WorkMoves { epoch });
            }
        }
        self.plan_mishap(place);
    }

    /// A pause of its work is over.
    pub(super) fn work_moves(&mut self, place: usize, epoch: u32) {
        if self.places[place].process.as_ref().is_some_and(|process| process.work_epoch == epoch) {
            self.hold_work(place, false);
        }
    }

    /// True if that is new.
    fn hold_work(&mut self, place: usize, stands: bool) -> bool {
        let now = self.now;
        let Some(process) = &mut self.places[place].process else { return false };
        let new = process.hold_work(now, stands);
        if new {
            self.witness.counts.stalls += u64::from(stands);
            self.log.happened(now, self.places[place].name.as_str(), || {
                format!("truth: its work {}", if stands { "stands still" } else { "moves" })
            });
        }
        new
    }
}
