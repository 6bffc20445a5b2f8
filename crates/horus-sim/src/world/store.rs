//! The store: transactions wait a little and are written together. Who is killed before that has lost them.

use std::collections::{BTreeMap, VecDeque};

use horus_core::command::Memory;
use horus_core::ids::{IncidentId, ServiceName};
use horus_core::observation::Input;

use super::World;
use super::queue::{Event, MS, Nanos, SECOND};
use crate::invariants::{Book, Entry};

/// The steps of one engine, as far as they have to be kept.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) memories: Vec<(ServiceName, Memory)>,
    pub(crate) confirms: Vec<IncidentId>,
    /// Incidents that were opened.
    pub(crate) opened: u64,
    pub(crate) entries: Vec<Entry>,
    /// The wall clock when it was made.
    pub(crate) wall: i128,
}

/// What was remembered of a service, and when by the wall clock.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) memory: Memory,
    pub(crate) wall: i128,
}

/// The disk.
#[derive(Debug)]
pub(crate) struct Store {
    waiting: VecDeque<Transaction>,
    planned: bool,
    pub(crate) fails: bool,
    /// It failed until then, or so.
    pub(crate) failed_until: Nanos,
    pub(crate) memories: BTreeMap<ServiceName, Kept>,
    /// Incidents ever opened, as far as they are on disk.
    pub(crate) incidents: u64,
    pub(crate) book: Book,
}

impl Store {
    pub(crate) fn new(places: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            planned: false,
            fails: false,
            failed_until: 0,
            memories: BTreeMap::new(),
            incidents: 0,
            book: Book::new(places),
        }
    }

    /// Whoever writes is killed: what waits is lost.
    pub(crate) fn lose(&mut self) {
        self.waiting.clear();
        self.planned = false;
    }

    /// Are the times of this job on disk, so that the next Horus can miss them?
    pub(crate) fn knows_times_of(&self, name: &ServiceName) -> bool {
        self.memories.get(name).is_some_and(|kept| kept.memory.job_slot.is_some())
    }

    fn write_all(&mut self) -> Vec<IncidentId> {
        let mut confirmed = Vec::new();
        self.planned = false;
        for transaction in self.waiting.drain(..) {
            for (service, memory) in transaction.memories {
                self.memories.insert(service, Kept { memory, wall: transaction.wall });
            }
            self.incidents += transaction.opened;
            transaction.entries.iter().for_each(|entry| self.book.apply(entry));
            confirmed.extend(transaction.confirms);
        }
        confirmed
    }
}

impl World {
    /// Takes the transaction of one step.
    pub(super) fn keep(&mut self, transaction: Transaction) {
        let confirms = !transaction.confirms.is_empty();
        self.store.waiting.push_back(transaction);
        if self.store.fails {
            if confirms {
                self.confirm_without_disk();
            }
            return;
        }
        if !self.store.planned {
            self.store.planned = true;
            let wait = self.random.between(MS, self.options.rates.commit_after.max(MS));
            self.queue.push(self.now + wait, Event::Commit { life: self.life });
        }
    }

    /// The store writes what waits.
    pub(super) fn commit(&mut self, life: u32) {
        if life != self.life || !self.store.planned {
            return;
        }
        if self.store.fails {
            self.store.planned = false;
            self.confirm_without_disk();
            return;
        }
        for incident in self.store.write_all() {
            self.confirm(incident, true);
        }
    }

    /// The disk takes no writes: the notices are kept in memory, and that is said.
    fn confirm_without_disk(&mut self) {
        let waiting = self.store.waiting.iter_mut().flat_map(|transaction| transaction.confirms.drain(..));
        for incident in waiting.collect::<Vec<_>>() {
            self.confirm(incident, false);
        }
    }

    fn confirm(&mut self, incident: IncidentId, persisted: bool) {
        if self.random.chance(self.options.rates.confirms_lost) && !self.calm {
            return;
        }
        let wait: Nanos = self.random.between(0, 20 * MS);
        let input = Box::new(Input::IncidentStored { incident, persisted });
        self.queue.push(self.now + wait, Event::Arrives { life: self.life, input });
    }

    /// The disk stops or starts taking writes.
    pub(super) fn disk(&mut self, fails: bool) {
        let was = std::mem::replace(&mut self.store.fails, fails);
        if fails {
            if self.calm {
                self.store.fails = false;
                return;
            }
            let lasts = self.random.magnitude(100 * MS, 600 * SECOND);
            self.queue.push(self.now + lasts, Event::Store { fails: false });
            self.again(self.options.rates.disk_fails, Event::Store { fails: true });
        }
        if was == fails {
            return;
        }
        // What it has not taken is taken soon.
        self.store.failed_until = self.now + 10 * SECOND;
        self.log.happened(self.now, "disk", || {
            if fails { "takes no writes".into() } else { "takes writes".into() }
        });
        let fault = fails.then(|| "no space left on device".to_owned());
        self.tell(Input::StoreHealth { fault });
        if !fails && self.engine.is_some() {
            self.store.planned = true;
            self.queue.push(self.now + MS, Event::Commit { life: self.life });
        }
    }

    /// A sink stops or starts taking messages.
    pub(super) fn sink(&mut self, fails: bool) {
        if fails {
            if self.calm {
                return;
            }
            let lasts = self.random.magnitude(SECOND, 3600 * SECOND);
            self.queue.push(self.now + lasts, Event::Sink { fails: false });
            self.again(self.options.rates.sink_fails, Event::Sink { fails: true });
        }
        let fault = fails.then(|| "status 500".to_owned());
        self.tell(Input::SinkHealth { sink: "ops".into(), fault });
    }
}
