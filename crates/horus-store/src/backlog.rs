//! What was committed by the engine and is not on disk yet.
//!
//! Transactions are taken apart on the way in: the writer always takes the whole backlog and makes it one SQL
//! transaction, so each of them stays atomic, and the limits can be kept per kind. At the limit the oldest *ordinary*
//! events go first; the opening and the end of an incident go last, because the incident's row is made of them.

use std::collections::{BTreeMap, VecDeque};

use horus_core::command::Memory;
use horus_core::digest::Row as DigestRow;
use horus_core::event::{Event, Outcome, What};
use horus_core::ids::{IncidentId, ServiceName, SinkName};
use horus_core::notice::{IncidentKind, Notice};
use horus_core::plan::Severity;
use jiff::Timestamp;

use crate::limits::{
    BACKLOG_BYTES_MAX, BACKLOG_CONFIRMS_MAX, BACKLOG_DIGEST_MAX, BACKLOG_EVENTS_MAX, BACKLOG_MEMORIES_MAX,
    BACKLOG_NOTICES_MAX, EVENT_BYTES_MAX, cut,
};
use crate::store::Transaction;

/// An event as it will stand in its row.
#[derive(Clone, Debug)]
pub(crate) struct EventRow {
    pub(crate) at: Timestamp,
    pub(crate) subject: String,
    pub(crate) generation: Option<u64>,
    pub(crate) incident: Option<IncidentId>,
    /// The serialised [`What`].
    pub(crate) what: String,
    /// What it does to its incident's row.
    pub(crate) change: Option<IncidentChange>,
}

/// What an event does to its incident's row.
#[derive(Clone, Debug)]
pub(crate) enum IncidentChange {
    Opened { kind: IncidentKind, severity: Severity, reason: String },
    Closed { outcome: Outcome },
}

impl EventRow {
    pub(crate) fn new(at: Timestamp, event: Event) -> Self {
        let change = match &event.what {
            What::IncidentOpened { kind, severity, reason } => {
                Some(IncidentChange::Opened { kind: *kind, severity: *severity, reason: reason.to_string() })
            }
            What::IncidentClosed { outcome, .. } => Some(IncidentChange::Closed { outcome: *outcome }),
            _ => None,
        };
        Self {
            at,
            what: content(&event.what),
            subject: event.subject,
            generation: event.generation.map(|generation| generation.0),
            incident: event.incident,
            change,
        }
    }

    /// An event about Horus itself.
    pub(crate) fn about_horus(at: Timestamp, text: String) -> Self {
        let what = What::Horus { text };
        Self::new(at, Event { subject: "horus".into(), generation: None, incident: None, what })
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.subject.len() + self.what.len()
    }
}

/// The serialised form of `what`, at most about [`EVENT_BYTES_MAX`] long.
fn content(what: &What) -> String {
    let text = serde_json::to_string(what).unwrap_or_else(|_| format!("{what:?}"));
    if text.len() <= EVENT_BYTES_MAX {
        return text;
    }
    let bytes = text.len();
    // Quotes and backslashes double when they are quoted once more; a third leaves room for that.
    let beginning = cut(&text, EVENT_BYTES_MAX / 3);
    let short = What::Horus { text: format!("an event of {bytes} bytes was cut: {beginning}") };
    serde_json::to_string(&short).unwrap_or_default()
}

/// A notice on its way to one sink.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) at: Timestamp,
    pub(crate) sink: SinkName,
    pub(crate) notice: Notice,
}

/// Everything that waits for the writer.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    pub(crate) events: VecDeque<EventRow>,
    bytes: usize,
    pub(crate) notices: VecDeque<Told>,
    pub(crate) memories: BTreeMap<ServiceName, (Timestamp, Memory)>,
    pub(crate) confirms: VecDeque<IncidentId>,
    pub(crate) digest: VecDeque<DigestRow>,
    /// Rows of the digest that were given up since the last successful write.
    pub(crate) digest_dropped: u64,
    /// Rows that were given up since the last successful write.
    pub(crate) dropped: u64,
    /// Somebody wants to see that a write comes through. Not put back: a failed write has answered.
    pub(crate) prove: bool,
}

impl Backlog {
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.notices.is_empty()
            && self.memories.is_empty()
            && self.confirms.is_empty()
            && self.digest.is_empty()
            && self.dropped == 0
            && !self.prove
    }

    /// Notices or confirmations are there: they are looked after even while the disk takes no writes.
    pub(crate) fn is_urgent(&self) -> bool {
        !self.notices.is_empty() || !self.confirms.is_empty()
    }

    pub(crate) fn push(&mut self, transaction: Transaction) {
        let at = transaction.at;
        for event in transaction.events {
            self.push_event(EventRow::new(at, event));
        }
        for (sink, notice) in transaction.notices {
            self.notices.push_back(Told { at, sink, notice });
        }
        for (service, memory) in transaction.memories {
            self.memories.insert(service, (at, memory));
        }
        self.confirms.extend(transaction.confirm);
        self.digest.extend(transaction.digest);
        self.trim();
    }

    fn push_event(&mut self, event: EventRow) {
        self.bytes += event.bytes();
        self.events.push_back(event);
    }

    /// A batch could not be written: its events and memories go back to where they were taken from. (Its notices and
    /// confirmations are the outbox's and the caller's by now.)
    pub(crate) fn put_back(&mut self, batch: Backlog) {
        for event in batch.events.into_iter().rev() {
            self.bytes += event.bytes();
            self.events.push_front(event);
        }
        for (service, memory) in batch.memories {
            self.memories.entry(service).or_insert(memory);
        }
        for row in batch.digest.into_iter().rev() {
            self.digest.push_front(row);
        }
        self.digest_dropped = self.digest_dropped.saturating_add(batch.digest_dropped);
        self.dropped = self.dropped.saturating_add(batch.dropped);
        self.trim();
    }

    fn trim(&mut self) {
        while self.events.len() > BACKLOG_EVENTS_MAX || self.bytes > BACKLOG_BYTES_MAX {
            let ordinary = self.events.iter().position(|event| event.change.is_none());
            let Some(event) = self.events.remove(ordinary.unwrap_or(0)) else { break };
            self.bytes = self.bytes.saturating_sub(event.bytes());
            self.dropped += 1;
        }
        while self.digest.len() > BACKLOG_DIGEST_MAX {
            self.digest.pop_front();
            self.digest_dropped += 1;
        }
        while self.notices.len() > BACKLOG_NOTICES_MAX {
            self.drop_notice();
        }
        while self.confirms.len() > BACKLOG_CONFIRMS_MAX {
            self.confirms.pop_front();
            self.dropped += 1;
        }
        while self.memories.len() > BACKLOG_MEMORIES_MAX {
            self.memories.pop_first();
            self.dropped += 1;
        }
    }

    /// The oldest notice that a later one replaces goes for nothing; without one, the oldest that needs nobody.
    fn drop_notice(&mut self) {
        let newest: BTreeMap<_, _> = self
            .notices
            .iter()
            .enumerate()
            .map(|(at, told)| ((&told.sink, told.notice.incident), at))
            .collect();
        let replaced = self
            .notices
            .iter()
            .enumerate()
            .find(|(at, told)| newest.get(&(&told.sink, told.notice.incident)) != Some(at))
            .map(|(at, _)| at);
        let quiet = || self.notices.iter().position(|told| !told.notice.needs_you).unwrap_or(0);
        let victim = replaced.unwrap_or_else(quiet);
        if replaced.is_none() {
            self.dropped += 1;
        }
        self.notices.remove(victim);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{closed, horus_event, opened, transaction};

    #[test]
    fn the_oldest_ordinary_events_go_first_and_are_counted() {
        let mut backlog = Backlog::default();
        let incident = IncidentId::nth(1);
        backlog.push(transaction(0, vec![opened(incident)]));
        for n in 0..BACKLOG_EVENTS_MAX + 10 {
            backlog.push(transaction(1, vec![horus_event(&n.to_string())]));
        }
        backlog.push(transaction(2, vec![closed(incident)]));
        assert_eq!(backlog.events.len(), BACKLOG_EVENTS_MAX);
        assert_eq!(backlog.dropped, 12);
        assert!(matches!(backlog.events[0].change, Some(IncidentChange::Opened { .. })));
        assert_eq!(backlog.events[1].what, r#"{"horus":{"text":"12"}}"#);
    }

    #[test]
    fn the_bytes_are_limited_too_and_given_back() {
        let mut backlog = Backlog::default();
        let text = "x".repeat(EVENT_BYTES_MAX - 100);
        for _ in 0..2 * BACKLOG_BYTES_MAX / EVENT_BYTES_MAX {
            backlog.push(transaction(0, vec![horus_event(&text)]));
        }
        assert!(backlog.bytes <= BACKLOG_BYTES_MAX);
        assert!(backlog.dropped > 0);
        let batch = std::mem::take(&mut backlog);
        let (bytes, dropped) = (batch.bytes, batch.dropped);
        backlog.put_back(batch);
        assert_eq!((backlog.bytes, backlog.dropped), (bytes, dropped));
    }

    #[test]
    fn an_event_beyond_its_limit_is_cut_and_still_readable() {
        let row = EventRow::about_horus(Timestamp::UNIX_EPOCH, "\"\\ü".repeat(EVENT_BYTES_MAX));
        assert!(row.what.len() <= EVENT_BYTES_MAX, "{}", row.what.len());
        let What::Horus { text } = serde_json::from_str(&row.what).unwrap() else { panic!("{}", row.what) };
        assert!(text.starts_with("an event of "), "{text}");
    }

    #[test]
    fn the_oldest_of_the_digest_goes_first_and_is_counted_apart() {
        let mut backlog = Backlog::default();
        let row = |n: usize| DigestRow {
            at: Timestamp::UNIX_EPOCH,
            clock_ms: n as u64,
            service: None,
            generation: None,
            what: horus_core::digest::Entry::Began,
        };
        let digest = (0..BACKLOG_DIGEST_MAX + 3).map(row).collect();
        backlog.push(Transaction { digest, ..Transaction::default() });
        assert_eq!(
            (backlog.digest.len(), backlog.digest_dropped, backlog.dropped),
            (BACKLOG_DIGEST_MAX, 3, 0)
        );
        let batch = std::mem::take(&mut backlog);
        backlog.push(Transaction { digest: vec![row(9)], ..Transaction::default() });
        backlog.put_back(batch);
        assert_eq!((backlog.digest.len(), backlog.digest_dropped), (BACKLOG_DIGEST_MAX, 4));
        assert_eq!((backlog.digest[0].clock_ms, backlog.digest.back().unwrap().clock_ms), (4, 9));
    }

    #[test]
    fn events_go_back_before_those_that_came_since() {
        let mut backlog = Backlog::default();
        backlog.push(transaction(0, vec![horus_event("1"), horus_event("2")]));
        let batch = std::mem::take(&mut backlog);
        backlog.push(transaction(0, vec![horus_event("3")]));
        backlog.put_back(batch);
        let order: Vec<_> = backlog.events.iter().map(|event| event.what.as_str()).collect();
        assert_eq!(order, ["1", "2", "3"].map(|n| format!(r#"{{"horus":{{"text":"{n}"}}}}"#)));
    }
}
