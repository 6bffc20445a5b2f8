//! What the kernel shows of every other service: that its loop is stuck, from a deadline after it began to be until it moves.
//! Mirrors `horus-probe`'s sampler, which never says more than is true.

use std::time::Duration;

use horus_core::notice::IncidentKind;
use horus_core::observation::{Input, KernelView, KernelWord, Observation};

use super::World;
use super::options::{Mishap, nanos};
use super::queue::{Event, Nanos, SECOND};
use crate::programs::Condition;

/// While something is wrong it is told every second; after this many times, so that long hangs stay cheap, every ten.
const OFTEN: u32 = 60;

impl World {
    /// Its loop begins to stand still: whoever looks will have something to tell.
    pub(super) fn begin_to_look(&mut self, place: usize, how: Mishap) {
        let is_seen =
            place.is_multiple_of(2) && matches!(how, Mishap::Silent | Mishap::Lying | Mishap::LongStall);
        let Some(plan) = self.plan.services.get(&self.places[place].name).filter(|_| is_seen) else { return };
        let first = nanos(plan.deadline) + SECOND;
        if let Some(process) = &self.places[place].process {
            let (process, epoch) = (process.serial, process.epoch);
            self.queue.push(self.now + first, Event::View { service: place, process, epoch, count: 0 });
        }
    }

    /// Somebody looks at it from outside.
    pub(super) fn look_from_outside(&mut self, place: usize, serial: u32, epoch: u32, count: u32) {
        let now = self.now;
        let Some(process) = self.places[place].process.as_ref().filter(|process| process.serial == serial)
        else {
            return;
        };
        let generation = process.generation;
        let stands = match process.condition {
            Condition::Stands { since, .. } if process.epoch == epoch => Some(since),
            _ => None,
        };
        let (word, lasted): (KernelWord, Nanos) = match stands {
            Some(since) => (KernelWord::Blocked, now - since),
            None => (KernelWord::Alive, 0),
        };
        let open = self.witness.book.has_open(place, &[IncidentKind::KernelView]);
        if stands.is_some() || open {
            let next = if count < OFTEN { SECOND } else { 10 * SECOND };
            let again =
                Event::View { service: place, process: serial, epoch, count: count.saturating_add(1) };
            self.queue.push(now + next, again);
        }
        if self.engine.is_some() && self.places[place].watched == Some(generation) {
            let (lasted, phrase) = (Duration::from_nanos(lasted), format!("{} (simulated)", word.word()));
            let view = KernelView { word, lasted, alone: true, thread: None, held: None, phrase };
            let name = self.places[place].name.clone();
            self.tell(Input::Service(name, Observation::KernelView { generation, view }));
        }
    }
}
