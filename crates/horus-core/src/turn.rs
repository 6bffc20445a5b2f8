//! One turn of the engine: the instant, the commands that it yields, and what all services share.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::bell::Bell;
use crate::command::Command;
use crate::event::{Event, What};
use crate::guard::Guard;
use crate::ids::{Generation, IncidentId, ServiceName};
use crate::maintenance::Maintenance;
use crate::plan::Mode;
use crate::random::Random;
use crate::reason::Rule;
use crate::time::Mono;

/// What all services share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) mode: Mode,
    pub(crate) random: Random,
    /// Incidents opened so far, over all lives of Horus.
    pub(crate) incidents: u64,
    /// Everything is to end.
    pub(crate) shutting_down: bool,
    /// The keeper's processes are known: starting is allowed.
    pub(crate) reconciled: bool,
    /// Services that are ready for those after them.
    pub(crate) ready: BTreeSet<ServiceName>,
    /// `ready` has changed in this turn: those that wait are to be reconsidered.
    pub(crate) ready_changed: bool,
    pub(crate) guard: Guard,
    /// When a person is disturbed.
    pub(crate) bell: Bell,
    /// Horus's own echo port does not answer its own prober: what was heard instead.
    pub(crate) canary: Option<String>,
    pub(crate) maintenance: Maintenance,
    /// Detectors that only tell, because they were wrong too often.
    pub(crate) demoted: BTreeSet<Rule>,
    /// A kill was recorded, proven or forgiven: the record of the detectors has changed.
    pub(crate) record_changed: bool,
    /// The time of day at an instant.
    pub(crate) wall: Option<(Mono, Timestamp)>,
}

impl Shared {
    /// What a new engine begins with.
    pub(crate) fn new(seed: u64, incidents: u64) -> Self {
        Self { mode: Mode::Enforce, random: Random::new(seed), incidents, ..Self::empty() }
    }

    /// The time of day.
    pub(crate) fn wall_at(&self, now: Mono) -> Option<Timestamp> {
        let (then, wall) = self.wall?;
        wall.checked_add(now.since(then)).ok()
    }

    /// Stands in for the real one while a turn has it.
    pub(crate) fn empty() -> Self {
        Self {
            mode: Mode::Observe,
            random: Random::new(0),
            incidents: 0,
            shutting_down: false,
            reconciled: false,
            ready: BTreeSet::new(),
            ready_changed: false,
            guard: Guard::default(),
            bell: Bell::default(),
            canary: None,
            maintenance: Maintenance::default(),
            demoted: BTreeSet::new(),
            record_changed: false,
            wall: None,
        }
    }
}

/// One turn.
pub(crate) struct Turn<'a> {
    pub(crate) now: Mono,
    pub(crate) commands: Vec<Command>,
    pub(crate) shared: &'a mut Shared,
}

impl Turn<'_> {
    pub(crate) fn push(&mut self, command: Command) {
        self.commands.push(command);
    }

    pub(crate) fn record(
        &mut self,
        subject: &str,
        generation: Option<Generation>,
        incident: Option<IncidentId>,
        what: What,
    ) {
        let event = Event { subject: subject.to_owned(), generation, incident, what };
        self.push(Command::Record(Box::new(event)));
    }

    pub(crate) fn next_incident(&mut self) -> IncidentId {
        let id = IncidentId::nth(self.shared.incidents);
        self.shared.incidents += 1;
        id
    }
}
