//! From what an earlier life remembered to an engine that goes on where it was.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use horus_core::command::MemoryIncident;
use horus_core::event::{Event, Outcome, What};
use horus_core::ids::{Generation, IncidentId, ServiceName};
use horus_core::notice::{IncidentKind, Notice, Story};
use horus_core::plan::{Plan, Severity};
use horus_core::reason::{Reason, Rule};
use horus_core::record::IncidentRecord;
use horus_core::{Engine, Remembered};
use horus_store::{Restored, Store, Transaction};
use jiff::Timestamp;

use super::{boot_clock, last_words};

/// The engine with what an earlier life remembered. Open incidents go on where their subject does; the others end here,
/// and whoever was told of them is told of that. `beginning`: how this life begins, for the journal.
/// `past`: what was over before it could be told.
pub(super) fn wake_engine(
    restored: &Restored,
    store: &Store,
    plan: &Plan,
    beginning: String,
    past: &[Past],
) -> Engine {
    let remembered = restored.memories.iter().map(|memory| Remembered {
        service: memory.service.clone(),
        memory: memory.memory.clone(),
        elapsed: memory.age,
        away: boot_clock::away(&memory.memory),
    });
    let mut remembered: Vec<Remembered> = remembered.collect();
    for item in remembered.iter_mut().filter(|item| !plan.services.contains_key(&item.service)) {
        // They end below; if the service comes back, they do not.
        item.memory.incidents.clear();
        item.memory.hang = None;
    }
    let planned = remembered.iter().filter(|item| plan.services.contains_key(&item.service));
    let kept: Vec<_> =
        planned.flat_map(|item| item.memory.incidents.iter().map(|incident| incident.id)).collect();
    let mut transaction =
        Transaction { at: Timestamp::now(), events: vec![about_horus(beginning)], ..Transaction::default() };
    let mut next_incident = restored.next_incident_number;
    for past in past {
        tell_of_past(IncidentId::nth(next_incident), past, plan, &mut transaction);
        next_incident += 1;
    }
    let mut orphans: BTreeMap<String, Vec<MemoryIncident>> = BTreeMap::new();
    for record in restored.open_incidents.iter().filter(|record| !kept.contains(&record.id)) {
        let age = transaction.at.duration_since(record.opened_at).unsigned_abs();
        if plan.monitors.keys().any(|name| name.as_str() == record.subject) {
            orphans.entry(record.subject.clone()).or_default().push(remembered_incident(record, age));
        } else {
            end_orphan(record, age, plan, &mut transaction);
        }
    }
    store.commit(transaction);
    let seed = Timestamp::now().as_nanosecond().unsigned_abs() as u64 ^ u64::from(std::process::id());
    Engine::with_orphans(seed, next_incident, remembered, orphans)
}

fn remembered_incident(record: &IncidentRecord, age: Duration) -> MemoryIncident {
    MemoryIncident {
        id: record.id,
        kind: record.kind,
        detail: String::new(),
        // The store counts on from what was told.
        version: 1,
        age,
        severity: record.severity,
        needs_you: false,
        answered: false,
        muted: None,
        rang: true,
        rang_for_help: false,
    }
}

/// Something that is over before anybody could be told, and worth an incident all the same.
#[derive(Debug)]
pub(super) struct Past {
    kind: IncidentKind,
    rule: Rule,
    /// In full, for the journal.
    note: String,
    /// One short line.
    how: String,
}

impl Past {
    /// The database was put aside and a fresh one started: a history has ended, and its file is kept until a person looks at it.
    pub(super) fn fresh_start(note: String) -> Self {
        let how = "records begin anew; the old ones are kept".to_owned();
        Self { kind: IncidentKind::Store, rule: Rule::Store, note, how }
    }

    /// The program that was to run dies at its start, and another one stands in for it.
    pub(super) fn former_program(note: String) -> Self {
        let (kind, rule) = (IncidentKind::StartFailed, Rule::StartFailed);
        Self { kind, rule, how: note.clone(), note }
    }
}

fn tell_of_past(incident: IncidentId, past: &Past, plan: &Plan, transaction: &mut Transaction) {
    let (kind, note, severity) = (past.kind, &past.note, Severity::Critical);
    let event = |what| Event { subject: "horus".into(), generation: None, incident: Some(incident), what };
    let reason = Reason::new(past.rule, note);
    let (outcome, lasted) = (Outcome::CameBackAlone, Duration::ZERO);
    transaction.events.push(event(What::IncidentOpened { kind, severity, reason }));
    transaction.events.push(event(What::Horus { text: note.clone() }));
    transaction.events.push(event(What::IncidentClosed { outcome, lasted }));
    // One short line: what the note says in full is in the journal, under the incident's name.
    let story = Story::Over { lasted, how: past.how.clone() };
    for sink in plan.sinks.iter().filter(|(_, sink)| sink.severity <= severity).map(|(name, _)| name) {
        let notice = Notice {
            incident,
            version: 1,
            subject: "horus".into(),
            kind,
            severity,
            needs_you: true,
            loud: true,
            within: None,
            story: story.clone(),
        };
        transaction.notices.push((sink.clone(), notice));
    }
}

fn end_orphan(record: &IncidentRecord, lasted: Duration, plan: &Plan, transaction: &mut Transaction) {
    transaction.events.push(Event {
        subject: record.subject.clone(),
        generation: None,
        incident: Some(record.id),
        what: What::IncidentClosed { outcome: Outcome::Superseded, lasted },
    });
    let story = Story::Over { lasted, how: "Horus was restarted; what still lasts is told anew".into() };
    for (sink, _) in plan.sinks.iter().filter(|(_, sink)| sink.severity <= record.severity) {
        let notice = Notice {
            incident: record.id,
            version: 1,
            subject: record.subject.clone(),
            kind: record.kind,
            severity: record.severity,
            needs_you: false,
            loud: false,
            within: None,
            story: story.clone(),
        };
        transaction.notices.push((sink.clone(), notice));
    }
}

pub(super) fn about_horus(text: String) -> Event {
    Event { subject: "horus".into(), generation: None, incident: None, what: What::Horus { text } }
}

/// Tells of earlier lives that ended themselves: what their last words were is in the evidence.
pub(super) fn tell_of_last_words(store: &Store, room: &Path) {
    let untold = last_words::untold(room);
    if untold.is_empty() {
        return;
    }
    let (paths, texts): (Vec<_>, Vec<_>) = untold.into_iter().unzip();
    for text in &texts {
        tracing::error!("{text}");
    }
    let events = texts.into_iter().map(about_horus).collect();
    store.commit(Transaction { at: Timestamp::now(), events, ..Transaction::default() });
    if store.fault().is_none() {
        paths.iter().for_each(|path| last_words::told(room, path));
    }
}

/// The runs that an earlier life of Horus believed alive.
pub(super) fn believed_alive(restored: &Restored) -> BTreeMap<ServiceName, Generation> {
    let alive = restored.memories.iter().filter(|memory| memory.memory.may_live());
    alive.map(|memory| (memory.service.clone(), memory.memory.generation)).collect()
}
