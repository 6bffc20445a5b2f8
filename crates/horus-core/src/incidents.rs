//! The open incidents of one subject, and what a person was told about them.

use std::time::Duration;

use crate::command::{Command, MemoryIncident};
use crate::event::{Outcome, What};
use crate::ids::{Generation, IncidentId};
use crate::notice::{IncidentKind, Notice, Story};
use crate::plan::Severity;
use crate::reason::Reason;
use crate::time::Mono;
use crate::turn::Turn;

/// The open incidents of one service or monitor: at most one of a kind and detail.
#[derive(Clone, Debug)]
pub(crate) struct Incidents {
    subject: String,
    open: Vec<Incident>,
    /// Something has changed that the next life of Horus has to know.
    changed: bool,
}

/// One open incident.
#[derive(Clone, Debug)]
pub(crate) struct Incident {
    pub(crate) id: IncidentId,
    pub(crate) kind: IncidentKind,
    /// Which of several of that kind, or empty.
    pub(crate) detail: String,
    pub(crate) opened: Mono,
    /// Version of the last notice; 0: nobody was told.
    pub(crate) version: u32,
    pub(crate) severity: Severity,
    pub(crate) needs_you: bool,
    /// The last thing told of it was an end.
    pub(crate) answered: bool,
    /// What would have made a noise, were it not for a maintenance window.
    pub(crate) muted: Option<Story>,
}

impl Incidents {
    pub(crate) fn new(subject: &str) -> Self {
        Self { subject: subject.to_owned(), open: Vec::new(), changed: false }
    }

    pub(crate) fn restore(&mut self, remembered: &[MemoryIncident], now: Mono) {
        self.open = remembered
            .iter()
            .map(|memory| Incident {
                id: memory.id,
                kind: memory.kind,
                detail: memory.detail.clone(),
                opened: now.before(memory.age),
                version: memory.version,
                severity: memory.severity,
                needs_you: memory.needs_you,
                answered: memory.answered,
                muted: memory.muted.clone(),
            })
            .collect();
    }

    pub(crate) fn remember(&self, now: Mono) -> Vec<MemoryIncident> {
        let incidents = self.open.iter().map(|incident| MemoryIncident {
            id: incident.id,
            kind: incident.kind,
            detail: incident.detail.clone(),
            version: incident.version,
            age: now.since(incident.opened),
            severity: incident.severity,
            needs_you: incident.needs_you,
            answered: incident.answered,
            muted: incident.muted.clone(),
        });
        incidents.collect()
    }

    /// Has anything changed since this was last asked?
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(crate) fn ids(&self) -> Vec<IncidentId> {
        self.open.iter().map(|incident| incident.id).collect()
    }

    pub(crate) fn any(&self) -> bool {
        !self.open.is_empty()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Incident> {
        self.open.iter()
    }

    pub(crate) fn find(&self, kind: IncidentKind) -> Option<&Incident> {
        self.open.iter().find(|incident| incident.kind == kind)
    }

    pub(crate) fn find_detail(&self, kind: IncidentKind, detail: &str) -> Option<&Incident> {
        self.open.iter().find(|incident| incident.kind == kind && incident.detail == detail)
    }

    /// The open incident of that kind and detail, opened now if there was none.
    pub(crate) fn open(
        &mut self,
        turn: &mut Turn<'_>,
        generation: Option<Generation>,
        kind: IncidentKind,
        detail: &str,
        severity: Severity,
        reason: &Reason,
    ) -> IncidentId {
        if let Some(incident) = self.find_detail(kind, detail) {
            return incident.id;
        }
        let id = turn.next_incident();
        self.changed = true;
        self.open.push(Incident {
            id,
            kind,
            detail: detail.to_owned(),
            opened: turn.now,
            version: 0,
            severity,
            needs_you: false,
            answered: false,
            muted: None,
        });
        let what = What::IncidentOpened { kind, severity, reason: reason.clone() };
        turn.record(&self.subject, generation, Some(id), what);
        id
    }

    /// It has happened again: what was told as an end is none any more.
    pub(crate) fn revive(&mut self, id: IncidentId) {
        for incident in self.open.iter_mut().filter(|incident| incident.id == id) {
            self.changed |= incident.answered;
            incident.answered = false;
        }
    }

    /// Brings the message about an incident to a new state. An incident only ever gets worse until it is over.
    pub(crate) fn tell(
        &mut self,
        turn: &mut Turn<'_>,
        id: IncidentId,
        severity: Severity,
        needs_you: bool,
        loud: bool,
        story: Story,
    ) {
        let muted = loud && turn.shared.maintenance.covers(&self.subject).is_some();
        let loud = loud && !muted;
        let Some(incident) = self.open.iter_mut().find(|incident| incident.id == id) else { return };
        self.changed = true;
        incident.version = incident.version.saturating_add(1);
        incident.severity = incident.severity.max(severity);
        incident.needs_you = needs_you;
        incident.answered = story.is_end();
        incident.muted = muted.then(|| story.clone());
        let notice = Notice {
            incident: id,
            version: incident.version,
            subject: self.subject.clone(),
            kind: incident.kind,
            severity: incident.severity,
            needs_you,
            loud,
            story: story.clone(),
        };
        let version = notice.version;
        turn.push(Command::Tell(Box::new(notice)));
        turn.record(&self.subject, None, Some(id), What::Told { version, story });
    }

    /// A maintenance window is over: what was told in silence and is still so is told again.
    pub(crate) fn unmute(&mut self, turn: &mut Turn<'_>) {
        if turn.shared.maintenance.covers(&self.subject).is_some() {
            return;
        }
        let muted = self.open.iter_mut().filter_map(|incident| Some((incident.id, incident.muted.take()?)));
        for (id, story) in muted.collect::<Vec<_>>() {
            let Some(incident) = self.open.iter().find(|incident| incident.id == id) else { continue };
            let (severity, needs_you) = (incident.severity, incident.needs_you);
            self.tell(turn, id, severity, needs_you, true, story);
        }
    }

    /// Ends an incident. Whoever was told of it and not of its end is told of that, too; `last` replaces the plain "it
    /// is over".
    pub(crate) fn close(
        &mut self,
        turn: &mut Turn<'_>,
        id: IncidentId,
        outcome: Outcome,
        how: &str,
        last: Option<Story>,
    ) {
        let Some(incident) = self.open.iter().find(|incident| incident.id == id).cloned() else { return };
        let lasted = turn.now.since(incident.opened);
        let story = last.or_else(|| {
            (incident.version > 0 && !incident.answered).then(|| Story::Over { lasted, how: how.to_owned() })
        });
        if let Some(story) = story {
            let loud = incident.needs_you;
            self.tell(turn, id, incident.severity, false, loud, story);
        }
        self.open.retain(|incident| incident.id != id);
        self.changed = true;
        turn.record(&self.subject, None, Some(id), What::IncidentClosed { outcome, lasted });
    }

    pub(crate) fn close_kind(
        &mut self,
        turn: &mut Turn<'_>,
        kind: IncidentKind,
        outcome: Outcome,
        how: &str,
    ) -> Option<Duration> {
        let incident = self.find(kind)?;
        let (id, lasted) = (incident.id, turn.now.since(incident.opened));
        self.close(turn, id, outcome, how, None);
        Some(lasted)
    }
}
