//! The open incidents of one subject, and what a person was told about them.

use std::collections::VecDeque;
use std::time::Duration;

use crate::bell::{Caller, HEAL_GRACE, Ring, SAME_WITHIN, SAME_WITHIN_MAX};
use crate::command::{Command, MemoryIncident};
use crate::event::{Outcome, What};
use crate::ids::{Generation, IncidentId};
use crate::notice::{IncidentKind, Notice, StormMember, Story};
use crate::plan::Severity;
use crate::reason::Reason;
use crate::time::Mono;
use crate::turn::Turn;

/// The open incidents of one service or monitor: at most one of a kind and detail.
#[derive(Clone, Debug)]
pub(crate) struct Incidents {
    subject: String,
    open: Vec<Incident>,
    /// Those that ended lately, and when, oldest first.
    closed: VecDeque<(Mono, Incident)>,
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
    /// Version of the last notice; 0: nobody was ever told.
    pub(crate) version: u32,
    /// Why it was opened, for people.
    because: String,
    /// A person was told since it was opened, or opened again.
    pub(crate) told: bool,
    /// How often it has come back.
    returns: u32,
    pub(crate) severity: Severity,
    pub(crate) needs_you: bool,
    /// The last thing told of it was an end.
    pub(crate) answered: bool,
    /// What would have made a noise, and has not yet.
    muted: Option<Muted>,
    /// It has rung.
    rang: bool,
    /// It has rung for help, and not for the end of that.
    rang_for_help: bool,
}

/// A noise that was not made.
#[derive(Clone, Debug)]
struct Muted {
    story: Story,
    /// It is made then, if it still is so; `None`: when a maintenance window ends, or what rings for it.
    until: Option<Mono>,
}

/// Ended incidents that are remembered, per subject.
const CLOSED_MAX: usize = 16;

impl Incidents {
    pub(crate) fn new(subject: &str) -> Self {
        Self { subject: subject.to_owned(), open: Vec::new(), closed: VecDeque::new(), changed: false }
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
                because: String::new(),
                told: memory.version > 0,
                returns: 0,
                severity: memory.severity,
                needs_you: memory.needs_you,
                answered: memory.answered,
                // The storm that it was a part of, and when it was to ring, are forgotten.
                muted: memory.muted.clone().map(|story| Muted { story, until: Some(now + HEAL_GRACE) }),
                rang: memory.rang,
                rang_for_help: memory.rang_for_help,
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
            muted: incident.muted.as_ref().map(|muted| muted.story.clone()),
            rang: incident.rang,
            rang_for_help: incident.rang_for_help,
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

    /// The open incident of that kind and detail, opened now if there was none. One that has ended a short while ago is opened
    /// again.
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
        let incident = self.take_back(turn.now, kind, detail, severity);
        let incident =
            incident.unwrap_or_else(|| Incident::new(turn.next_incident(), kind, detail, severity));
        self.admit(turn, generation, incident, reason)
    }

    /// A new incident that has its identifier already.
    pub(crate) fn open_as(
        &mut self,
        turn: &mut Turn<'_>,
        id: IncidentId,
        kind: IncidentKind,
        severity: Severity,
        reason: &Reason,
    ) {
        if self.open.iter().all(|incident| incident.id != id) {
            self.admit(turn, None, Incident::new(id, kind, "", severity), reason);
        }
    }

    fn admit(
        &mut self,
        turn: &mut Turn<'_>,
        generation: Option<Generation>,
        incident: Incident,
        reason: &Reason,
    ) -> IncidentId {
        let (id, kind, severity) = (incident.id, incident.kind, incident.severity);
        self.changed = true;
        self.open.push(Incident { opened: turn.now, because: reason.text.clone(), ..incident });
        let what = What::IncidentOpened { kind, severity, reason: reason.clone() };
        turn.record(&self.subject, generation, Some(id), what);
        id
    }

    /// The same trouble, a short while after its end.
    fn take_back(
        &mut self,
        now: Mono,
        kind: IncidentKind,
        detail: &str,
        severity: Severity,
    ) -> Option<Incident> {
        let index = self.closed.iter().rposition(|(at, incident)| {
            let within = SAME_WITHIN.saturating_mul(1 << incident.returns.min(8)).min(SAME_WITHIN_MAX);
            incident.kind == kind && incident.detail == detail && now.since(*at) < within
        })?;
        let (_, incident) = self.closed.remove(index)?;
        let returns = incident.returns.saturating_add(1);
        Some(Incident { returns, told: false, needs_you: false, muted: None, severity, ..incident })
    }

    /// It has happened again: what was told as an end is none any more.
    pub(crate) fn revive(&mut self, id: IncidentId) {
        for incident in self.open.iter_mut().filter(|incident| incident.id == id) {
            self.changed |= incident.answered;
            incident.answered = false;
        }
    }

    /// Brings the message about an incident to a new state. An incident only ever gets worse until it is over. `loud`: it is worth a
    /// noise, if one may be made. True: one is made now.
    pub(crate) fn tell(
        &mut self,
        turn: &mut Turn<'_>,
        id: IncidentId,
        severity: Severity,
        needs_you: bool,
        loud: bool,
        story: Story,
    ) -> bool {
        let Some(at) = self.open.iter().position(|incident| incident.id == id) else { return false };
        let noise = self.noise(turn, at, needs_you, loud, &story, true);
        self.send(turn, at, severity, needs_you, noise, story);
        noise == Noise::Now
    }

    /// The same, and it may ring although it rang before.
    pub(crate) fn tell_anew(
        &mut self,
        turn: &mut Turn<'_>,
        id: IncidentId,
        severity: Severity,
        needs_you: bool,
        story: Story,
    ) -> bool {
        for incident in self.open.iter_mut().filter(|incident| incident.id == id) {
            (incident.rang, incident.rang_for_help) = (false, false);
        }
        self.tell(turn, id, severity, needs_you, true, story)
    }

    /// Whether what is told now makes a noise. `graceful`: it may be given time to heal.
    fn noise(
        &self,
        turn: &mut Turn<'_>,
        at: usize,
        needs_you: bool,
        loud: bool,
        story: &Story,
        graceful: bool,
    ) -> Noise {
        let Some(incident) = self.open.get(at) else { return Noise::None };
        let help = needs_you && !incident.rang_for_help;
        let end = story.is_end() && incident.rang_for_help;
        let again = incident.rang && !help && !end;
        // Of what never rang the end does not, either.
        let unheard = story.is_end() && !end;
        if !loud || again || unheard {
            return Noise::None;
        }
        if turn.shared.maintenance.covers(&self.subject).is_some() {
            return Noise::Muted(None);
        }
        if graceful && story.may_heal() && !needs_you && incident.severity < Severity::Critical {
            let since = incident.muted.as_ref().and_then(|muted| muted.until);
            return Noise::Muted(Some(since.unwrap_or(turn.now + HEAL_GRACE)));
        }
        if self.subject == OWN {
            // What Horus says of itself is in nobody's place.
            return Noise::Now;
        }
        let caller = Caller {
            incident: incident.id,
            member: StormMember {
                subject: self.subject.clone(),
                kind: incident.kind,
                because: incident.because.clone(),
                needs_you,
                over: story.is_end(),
            },
        };
        let (now, shared) = (turn.now, &mut *turn.shared);
        if end {
            let rings =
                shared.bell.storm_of(incident.id).is_none() && shared.bell.has_noise_left(now, &self.subject);
            if !rings {
                return Noise::None;
            }
            shared.bell.rings(now, caller);
            return Noise::Now;
        }
        let incidents = &mut shared.incidents;
        let next = || {
            let id = IncidentId::nth(*incidents);
            *incidents += 1;
            id
        };
        match shared.bell.ask(now, caller, next) {
            Ring::Now => Noise::Now,
            Ring::At(at) => Noise::Muted(Some(at)),
            Ring::Within(id) => Noise::Within(id),
        }
    }

    fn send(
        &mut self,
        turn: &mut Turn<'_>,
        at: usize,
        severity: Severity,
        needs_you: bool,
        noise: Noise,
        story: Story,
    ) {
        let Some(incident) = self.open.get_mut(at) else { return };
        self.changed = true;
        incident.version = incident.version.saturating_add(1);
        incident.told = true;
        incident.severity = incident.severity.max(severity);
        incident.needs_you = needs_you;
        incident.answered = story.is_end();
        let kept = incident.muted.take().filter(|_| !story.is_end() && noise == Noise::None);
        incident.muted = match noise {
            Noise::Muted(until) => Some(Muted { story: story.clone(), until }),
            // It is still to be rung for, by what is newest.
            Noise::None => kept.map(|muted| Muted { story: story.clone(), ..muted }),
            // The next life of Horus does not know of what rings for it.
            Noise::Within(_) => Some(Muted { story: story.clone(), until: None }),
            Noise::Now => None,
        };
        if noise == Noise::Now {
            incident.rang = true;
            incident.rang_for_help = needs_you;
        }
        turn.shared.bell.heard(incident.id, needs_you);
        let within = match noise {
            Noise::Within(id) => Some(id),
            _ => turn.shared.bell.storm_of(incident.id),
        };
        let notice = Notice {
            incident: incident.id,
            version: incident.version,
            subject: self.subject.clone(),
            kind: incident.kind,
            severity: incident.severity,
            needs_you,
            loud: noise == Noise::Now,
            within,
            story: story.clone(),
        };
        let (id, version) = (incident.id, notice.version);
        turn.push(Command::Tell(Box::new(notice)));
        turn.record(&self.subject, None, Some(id), What::Told { version, story, within });
    }

    /// When a noise is due by itself.
    pub(crate) fn due(&self) -> Option<Mono> {
        self.open.iter().filter_map(|incident| incident.muted.as_ref()?.until).min()
    }

    /// Rings for what was given time and has not healed.
    pub(crate) fn ring_if_due(&mut self, turn: &mut Turn<'_>) {
        if self.due().is_none_or(|due| due > turn.now) {
            return;
        }
        for at in 0..self.open.len() {
            let Some(incident) = self.open.get_mut(at) else { continue };
            let due = |muted: &mut Muted| muted.until.is_some_and(|until| until <= turn.now);
            let Some(Muted { story, .. }) = incident.muted.take_if(due) else { continue };
            let (severity, needs_you) = (incident.severity, incident.needs_you);
            let noise = self.noise(turn, at, needs_you, true, &story, false);
            match noise {
                Noise::None => {}
                Noise::Now => self.send(turn, at, severity, needs_you, noise, story),
                // Nothing is said twice for the sake of silence.
                Noise::Muted(_) | Noise::Within(_) => {
                    let until = if let Noise::Muted(until) = noise { until } else { None };
                    if let Some(incident) = self.open.get_mut(at) {
                        incident.muted = Some(Muted { story, until });
                    }
                }
            }
        }
    }

    /// A maintenance window, a storm or a common cause is over: what was told in silence and is still so is told again.
    pub(crate) fn unmute(&mut self, turn: &mut Turn<'_>) {
        if turn.shared.maintenance.covers(&self.subject).is_some() {
            return;
        }
        for incident in &mut self.open {
            let within = turn.shared.bell.storm_of(incident.id).is_some();
            if let Some(muted) = incident.muted.as_mut().filter(|muted| muted.until.is_none() && !within) {
                muted.until = Some(turn.now);
            }
        }
        self.ring_if_due(turn);
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
            (incident.told && !incident.answered).then(|| Story::Over { lasted, how: how.to_owned() })
        });
        if let Some(story) = story {
            let loud = incident.needs_you || incident.rang_for_help;
            self.tell(turn, id, incident.severity, false, loud, story);
        }
        turn.shared.bell.over(id);
        if let Some(at) = self.open.iter().position(|incident| incident.id == id) {
            if self.closed.len() >= CLOSED_MAX {
                self.closed.pop_front();
            }
            self.closed.push_back((turn.now, self.open.remove(at)));
        }
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

impl Incident {
    /// Opened at the beginning of time: whoever keeps it says when.
    fn new(id: IncidentId, kind: IncidentKind, detail: &str, severity: Severity) -> Self {
        Self {
            id,
            kind,
            detail: detail.to_owned(),
            opened: Mono::default(),
            version: 0,
            because: String::new(),
            told: false,
            returns: 0,
            severity,
            needs_you: false,
            answered: false,
            muted: None,
            rang: false,
            rang_for_help: false,
        }
    }
}

/// The subject of what Horus says of itself.
pub(crate) const OWN: &str = "horus";

/// What a message sounds like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noise {
    /// It makes none.
    None,
    Now,
    /// It would, later: then, or when a maintenance window ends.
    Muted(Option<Mono>),
    /// This incident makes it for all.
    Within(IncidentId),
}
