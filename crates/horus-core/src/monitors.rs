//! Monitors: things that Horus only watches. Bad for longer than `down_after` is worth an incident; good ends it.

use crate::command::MemoryIncident;
use crate::event::Outcome;
use crate::ids::MonitorName;
use crate::incidents::Incidents;
use crate::notice::{IncidentKind, Story};
use crate::observation::MonitorObservation;
use crate::plan::{MonitorPlan, Severity};
use crate::reason::{Reason, Rule};
use crate::status::MonitorStatus;
use crate::time::{Human, Mono};
use crate::turn::Turn;

/// One monitor.
#[derive(Clone, Debug)]
pub(crate) struct Monitor {
    name: MonitorName,
    pub(crate) plan: MonitorPlan,
    state: State,
    pub(crate) incidents: Incidents,
    pub(crate) due: Option<Mono>,
}

#[derive(Clone, Debug)]
enum State {
    NotAsked,
    Up { since: Mono, because: String },
    Down { since: Mono, because: String },
}

impl Monitor {
    /// Incidents of an earlier life of Horus go on.
    pub(crate) fn with_open(
        name: MonitorName,
        plan: MonitorPlan,
        open: &[MemoryIncident],
        now: Mono,
    ) -> Self {
        let mut incidents = Incidents::new(name.as_str());
        incidents.restore(open, now);
        Self { name, plan, state: State::NotAsked, incidents, due: None }
    }

    /// When it has to be looked at.
    pub(crate) fn due(&self) -> Option<Mono> {
        [self.due, self.incidents.due()].into_iter().flatten().min()
    }

    pub(crate) fn observe(&mut self, turn: &mut Turn<'_>, observation: MonitorObservation) {
        let now = turn.now;
        match observation {
            MonitorObservation::Up { took } => {
                let because = format!("as expected, in {}", Human(took));
                let since = if let State::Up { since, .. } = self.state { since } else { now };
                self.state = State::Up { since, because };
                let (kind, outcome) = (IncidentKind::MonitorDown, Outcome::CameBackAlone);
                self.incidents.close_kind(turn, kind, outcome, "it answers as expected again");
                self.due = None;
            }
            MonitorObservation::Down { detail, .. } => {
                let since = if let State::Down { since, .. } = self.state { since } else { now };
                self.state = State::Down { since, because: detail };
                self.look(turn);
            }
        }
    }

    pub(crate) fn look(&mut self, turn: &mut Turn<'_>) {
        self.due = None;
        let State::Down { since, because } = &self.state else { return };
        if self.incidents.any() {
            return;
        }
        let lasted = turn.now.since(*since);
        if lasted < self.plan.down_after {
            self.due = Some(*since + self.plan.down_after);
            return;
        }
        let heard = because.clone();
        let reason =
            Reason::new(Rule::MonitorDown, format!("not as expected for {}; {heard}", Human(lasted)));
        let (kind, severity) = (IncidentKind::MonitorDown, Severity::Critical);
        let id = self.incidents.open(turn, None, kind, "", severity, &reason);
        self.incidents.tell(turn, id, severity, false, true, Story::MonitorDown { since: lasted, heard });
    }

    pub(crate) fn remove(&mut self, turn: &mut Turn<'_>) {
        for id in self.incidents.ids() {
            self.incidents.close(turn, id, Outcome::Removed, "it left the plan", None);
        }
    }

    pub(crate) fn status(&self, now: Mono) -> MonitorStatus {
        let (up, because, since) = match &self.state {
            State::NotAsked => (None, "not asked yet".to_owned(), None),
            State::Up { since, because } => (Some(true), because.clone(), Some(*since)),
            State::Down { since, because } => (Some(false), because.clone(), Some(*since)),
        };
        let for_ms = since.map(|at| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX));
        MonitorStatus { name: self.name.clone(), up, because, for_ms }
    }
}
