//! One turn of the engine: the instant, the commands that it yields, and what all services share.

use std::collections::BTreeSet;

use crate::command::Command;
use crate::event::{Event, What};
use crate::ids::{Generation, IncidentId, ServiceName};
use crate::plan::Mode;
use crate::random::Random;
use crate::time::Mono;

/// What all services share.
#[derive(Debug)]
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
}

impl Shared {
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
