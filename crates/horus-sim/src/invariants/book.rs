//! What the world has been told, kept apart from what the engine believes it told; and what of it is on disk.
//!
//! Entries of one step are one transaction. A Horus that is killed loses those that the store had not written: the book is
//! rolled back to what was committed, because the next Horus cannot know more.

use std::collections::BTreeMap;

use horus_core::ids::IncidentId;
use horus_core::notice::IncidentKind;

use crate::world::queue::{DAY, Nanos};

/// An open incident, as far as it was told.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    /// The place of its service; `None`: about Horus itself.
    pub(crate) place: Option<usize>,
    pub(crate) kind: IncidentKind,
    pub(crate) version: u32,
    /// The last thing told of it was an end.
    pub(crate) ended: bool,
    pub(crate) needs_you: bool,
}

/// What is known of one service across lives of Horus.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// Kills of the last day, newest last.
    pub(crate) kills: Vec<Nanos>,
    /// Kills since the last proof or pardon.
    pub(crate) unproven: u32,
    /// The last kill was for declared work that stood still.
    pub(crate) stalled: bool,
    pub(crate) breaker_open: Option<Nanos>,
    pub(crate) exits_unproven: u32,
    /// A hold is in force, until then if it expires.
    pub(crate) hold: Option<Option<Nanos>>,
    /// A person's stop is in force.
    pub(crate) stopped: bool,
    /// It ended after it had declared itself halted.
    pub(crate) halted: bool,
}

impl Ledger {
    pub(crate) fn held(&self, now: Nanos) -> bool {
        self.hold.is_some_and(|until| until.is_none_or(|until| now < until))
    }

    pub(crate) fn kills_of_the_day(&self, now: Nanos) -> usize {
        self.kills.iter().filter(|at| now.saturating_sub(**at) < DAY).count()
    }
}

/// One change.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// `open.version`: how far it was told, if it was open before.
    Opened {
        id: IncidentId,
        open: Open,
    },
    Told {
        id: IncidentId,
        version: u32,
        ended: bool,
        needs_you: bool,
    },
    Closed {
        id: IncidentId,
    },
    Ledger {
        place: usize,
        ledger: Box<Ledger>,
    },
}

/// Everything that was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    pub(crate) incidents: BTreeMap<IncidentId, Open>,
    /// Those that are over, with the version of their last notice: one that comes back goes on from there.
    pub(crate) closed: BTreeMap<IncidentId, u32>,
    pub(crate) ledgers: Vec<Ledger>,
}

impl Book {
    pub(crate) fn new(places: usize) -> Self {
        Self { incidents: BTreeMap::new(), closed: BTreeMap::new(), ledgers: vec![Ledger::default(); places] }
    }

    pub(crate) fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Opened { id, open } => {
                self.closed.remove(id);
                self.incidents.insert(*id, open.clone());
            }
            Entry::Told { id, version, ended, needs_you } => {
                if let Some(open) = self.incidents.get_mut(id) {
                    (open.version, open.ended, open.needs_you) = (*version, *ended, *needs_you);
                }
            }
            Entry::Closed { id } => {
                if let Some(open) = self.incidents.remove(id) {
                    self.closed.insert(*id, open.version);
                }
            }
            Entry::Ledger { place, ledger } => {
                if let Some(old) = self.ledgers.get_mut(*place) {
                    old.clone_from(ledger);
                }
            }
        }
    }

    /// The open incidents of a service.
    pub(crate) fn open_of(&self, place: usize) -> impl Iterator<Item = (&IncidentId, &Open)> {
        self.incidents.iter().filter(move |(_, open)| open.place == Some(place))
    }

    pub(crate) fn has_open(&self, place: usize, kinds: &[IncidentKind]) -> bool {
        self.open_of(place).any(|(_, open)| kinds.contains(&open.kind))
    }
}
