//! The undelivered part of the outbox: for each (incident, sink) the state that the sink ought to know.
//!
//! Think of a whiteboard, not of a queue: a newer notice wipes the older one out. A row stays here until its newest
//! version is delivered (or refused for good) *and* that is written down; then SQLite alone remembers it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use horus_core::ids::{IncidentId, SinkName};
use horus_core::notice::Notice;
use horus_core::outbox::{Delivery, DeliveryState, OutboxItem};
use jiff::Timestamp;

use crate::backlog::Told;
use crate::limits::{ERROR_BYTES_MAX, OUTBOX_PENDING_MAX, REMOTE_ID_BYTES_MAX, RETRY_AHEAD_MAX, cut};

/// Which row: one per incident and sink.
pub(crate) type Key = (IncidentId, SinkName);

/// The wanted and the delivered state of one message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// The newest state; its version is the one that is wanted.
    pub(crate) notice: Notice,
    pub(crate) happened_at: Timestamp,
    pub(crate) opened_at: Timestamp,
    pub(crate) delivered: Option<Delivered>,
    /// The newest version that asked for a noise, and the newest whose noise was made.
    pub(crate) rings: Option<u32>,
    pub(crate) rang: Option<u32>,
    /// A message was begun to be sent, and no outcome of that is known.
    pub(crate) begun: bool,
    pub(crate) attempts: u32,
    pub(crate) next_try_at: Timestamp,
    pub(crate) last_error: Option<String>,
    pub(crate) refused: bool,
}

/// The newest version that the sink has acknowledged.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Delivered {
    pub(crate) version: u32,
    pub(crate) at: Timestamp,
    pub(crate) remote_id: Option<String>,
}

impl Row {
    /// The row after `told`, given what was there before. `None`: it says nothing new.
    ///
    /// Versions only grow: an engine that starts to count anew after a restart is put behind the version that is
    /// wanted here, else its news would look old. What another incident tells of, too, begins no message of its own.
    /// A noise that was not made yet is still owed by the quieter news that replace it, unless these end the matter.
    pub(crate) fn told(before: Option<&Row>, told: &Told) -> Option<Row> {
        let mut notice = told.notice.clone();
        if let Some(before) = before {
            if before.notice == notice {
                return None;
            }
            notice.version = notice.version.max(before.notice.version.saturating_add(1));
        } else if notice.within.is_some() {
            return None;
        }
        let owed = before.and_then(|before| before.rings);
        Some(Row {
            rings: Some(notice.version).filter(|_| notice.loud).or(owed.filter(|_| !notice.story.is_end())),
            notice,
            happened_at: told.at,
            opened_at: before.map_or(told.at, |before| before.opened_at),
            delivered: before.and_then(|before| before.delivered.clone()),
            rang: before.and_then(|before| before.rang),
            begun: before.is_some_and(|before| before.begun),
            attempts: 0,
            next_try_at: told.at,
            last_error: None,
            refused: false,
        })
    }

    pub(crate) fn is_settled(&self) -> bool {
        let delivered =
            self.delivered.as_ref().is_some_and(|delivered| delivered.version >= self.notice.version);
        self.refused || delivered
    }

    /// What became of a try of `version`. A failure of an older version says nothing about the newer one, which is
    /// due already; a pause that the whole sink asked for is the business of the sink's worker.
    fn settle(&mut self, version: u32, delivery: Delivery, now: Timestamp) {
        let current = version == self.notice.version;
        match delivery {
            Delivery::Delivered { remote_id } => {
                if self.delivered.as_ref().is_some_and(|delivered| delivered.version >= version) {
                    return;
                }
                let remote_id = remote_id.filter(|id| id.len() <= REMOTE_ID_BYTES_MAX);
                self.delivered = Some(Delivered { version, at: now, remote_id });
                self.rang = self.rang.max(Some(version));
                self.begun = false;
                if current {
                    self.last_error = None;
                }
            }
            Delivery::Rang => {
                self.rang = self.rang.max(Some(version));
                self.begun = false;
            }
            Delivery::RetryAt { at, error, in_doubt } => {
                self.begun &= in_doubt;
                self.last_error = Some(cut(&error, ERROR_BYTES_MAX).to_owned());
                if current {
                    self.attempts = self.attempts.saturating_add(1);
                    self.next_try_at = at.min(ahead(now, RETRY_AHEAD_MAX));
                }
            }
            Delivery::Refused { error } => {
                self.begun = false;
                self.last_error = Some(cut(&error, ERROR_BYTES_MAX).to_owned());
                if current {
                    self.attempts = self.attempts.saturating_add(1);
                    self.refused = true;
                }
            }
        }
    }

    /// Puts this row behind `before`, which was on disk unseen while this one came about.
    fn rebase(&mut self, before: Row) {
        let shift = before.notice.version;
        let same = Notice { version: shift, ..self.notice.clone() } == before.notice;
        if same {
            self.notice.version = self.notice.version.max(shift);
        } else if self.notice.version <= shift {
            self.notice.version = self.notice.version.saturating_add(shift);
            if let Some(delivered) = &mut self.delivered {
                delivered.version = delivered.version.saturating_add(shift);
            }
            for version in [&mut self.rings, &mut self.rang].into_iter().flatten() {
                *version = version.saturating_add(shift);
            }
        }
        self.opened_at = self.opened_at.min(before.opened_at);
        self.delivered = self.delivered.take().or(before.delivered);
        self.rings = self.rings.max(before.rings);
        self.rang = self.rang.max(before.rang);
        self.begun |= before.begun;
    }

    fn is_due(&self, now: Timestamp) -> bool {
        // A time far ahead is the work of a clock that has been stepped back since.
        !self.is_settled() && (self.next_try_at <= now || self.next_try_at > ahead(now, RETRY_AHEAD_MAX))
    }

    /// Smaller is more urgent.
    fn urgency(&self) -> (bool, Timestamp, Timestamp, IncidentId) {
        (!self.notice.needs_you, self.opened_at, self.happened_at, self.notice.incident)
    }

    pub(crate) fn state(&self, sink: &SinkName) -> DeliveryState {
        DeliveryState {
            sink: sink.clone(),
            incident: self.notice.incident,
            wanted_version: self.notice.version,
            delivered_version: self.delivered.as_ref().map(|delivered| delivered.version),
            delivered_at: self.delivered.as_ref().map(|delivered| delivered.at),
            attempts: self.attempts,
            last_error: self.last_error.clone(),
            refused: self.refused,
        }
    }
}

fn ahead(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// A row and how it stands to its copy on disk.
#[derive(Clone, Debug)]
struct Entry {
    row: Row,
    /// The revision of its last change that is not on disk. `None`: the copy on disk is the same.
    dirty: Option<u64>,
    /// The row on disk was looked at before this one came about (or is known not to exist).
    based: bool,
}

/// All rows that are not both settled and written.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    entries: BTreeMap<Key, Entry>,
    revision: u64,
    dirty: usize,
    /// Sinks that asked for work in this life of Horus: the others are not in the plan.
    asked: BTreeSet<SinkName>,
    /// Rows that were given up at the limit since the last call of [`Outbox::take_dropped`].
    dropped: u64,
}

/// A row that has to be written down, as it stood when it was taken.
#[derive(Clone, Debug)]
pub(crate) struct Dirty {
    pub(crate) key: Key,
    pub(crate) row: Row,
    revision: u64,
    pub(crate) based: bool,
}

impl Outbox {
    pub(crate) fn due(&mut self, sink: &SinkName, now: Timestamp) -> Option<OutboxItem> {
        self.ask(sink);
        let due = self.entries.iter().filter(|((_, to), entry)| to == sink && entry.row.is_due(now));
        let (_, entry) = due.min_by_key(|(_, entry)| entry.row.urgency())?;
        let row = &entry.row;
        Some(OutboxItem {
            sink: sink.clone(),
            notice: Notice { loud: row.rings > row.rang, ..row.notice.clone() },
            happened_at: row.happened_at,
            opened_at: row.opened_at,
            delivered_version: row.delivered.as_ref().map(|delivered| delivered.version),
            remote_id: row.delivered.as_ref().and_then(|delivered| delivered.remote_id.clone()),
            in_doubt: row.begun,
            attempts: row.attempts,
        })
    }

    pub(crate) fn next_due_at(&mut self, sink: &SinkName) -> Option<Timestamp> {
        self.ask(sink);
        let pending = self.entries.iter().filter(|((_, to), entry)| to == sink && !entry.row.is_settled());
        pending.map(|(_, entry)| entry.row.next_try_at).min()
    }

    fn ask(&mut self, sink: &SinkName) {
        if !self.asked.contains(sink) {
            self.asked.insert(sink.clone());
        }
    }

    pub(crate) fn has_asked(&self, sink: &SinkName) -> bool {
        self.asked.contains(sink)
    }

    /// True if there is something new to be written.
    pub(crate) fn settle(
        &mut self,
        sink: &SinkName,
        incident: IncidentId,
        version: u32,
        delivery: Delivery,
        now: Timestamp,
    ) -> bool {
        let key = (incident, sink.clone());
        let Some(entry) = self.entries.get_mut(&key) else { return false };
        if entry.row.is_settled() || version > entry.row.notice.version {
            return false;
        }
        entry.row.settle(version, delivery, now);
        self.touch(&key);
        true
    }

    /// A message about `incident` is about to be sent: whoever finds this and no outcome knows that it may be there.
    pub(crate) fn begin(&mut self, sink: &SinkName, incident: IncidentId) -> bool {
        let key = (incident, sink.clone());
        let Some(entry) = self.entries.get_mut(&key).filter(|entry| !entry.row.begun) else { return false };
        entry.row.begun = true;
        self.touch(&key);
        true
    }

    /// Nothing of this row waits to be written.
    pub(crate) fn is_written(&self, sink: &SinkName, incident: IncidentId) -> bool {
        self.entries.get(&(incident, sink.clone())).is_none_or(|entry| entry.dirty.is_none())
    }

    pub(crate) fn pending(&self) -> Vec<DeliveryState> {
        let open = self.entries.iter().filter(|(_, entry)| !entry.row.is_settled());
        open.map(|((_, sink), entry)| entry.row.state(sink)).collect()
    }

    pub(crate) fn states(&self, incident: IncidentId) -> Vec<DeliveryState> {
        let rows = self.entries.iter().filter(|((about, _), _)| *about == incident);
        rows.map(|((_, sink), entry)| entry.row.state(sink)).collect()
    }

    pub(crate) fn row(&self, key: &Key) -> Option<Row> {
        self.entries.get(key).map(|entry| entry.row.clone())
    }

    /// Takes over a row that was read from disk, unless a newer one is here.
    pub(crate) fn restore(&mut self, key: Key, row: Row) {
        if !row.is_settled() {
            self.entries.entry(key).or_insert(Entry { row, dirty: None, based: true });
        }
    }

    /// A notice that is on disk by now: only a settle in the meantime still has to be written. `before` is the row
    /// that was on disk, for the case that none is here.
    pub(crate) fn tell_written(&mut self, told: &Told, before: Option<Row>) {
        let key = (told.notice.incident, told.sink.clone());
        let here = self.row(&key).or(before);
        let Some(row) = Row::told(here.as_ref(), told) else { return };
        let dirty = self.entries.get(&key).and_then(|entry| entry.dirty);
        self.insert(key, Entry { row, dirty, based: true });
    }

    /// A notice that could not be written yet. `before`: the row on disk, if the disk could be asked.
    pub(crate) fn tell_unwritten(&mut self, told: &Told, before: Result<Option<Row>, ()>) {
        let key = (told.notice.incident, told.sink.clone());
        let based = before.is_ok() || self.entries.get(&key).is_some_and(|entry| entry.based);
        let here = self.row(&key).or(before.ok().flatten());
        let Some(row) = Row::told(here.as_ref(), told) else { return };
        let dirty = self.entries.get(&key).and_then(|entry| entry.dirty);
        self.insert(key.clone(), Entry { row, dirty, based });
        self.touch(&key);
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        if !self.entries.contains_key(&key) && self.entries.len() >= OUTBOX_PENDING_MAX {
            let asked = &self.asked;
            let least = self.entries.iter().max_by_key(|((_, sink), entry)| {
                let (quiet, opened, ..) = entry.row.urgency();
                (!asked.contains(sink), quiet, std::cmp::Reverse(opened))
            });
            if let Some(victim) = least.map(|(key, _)| key.clone()) {
                self.forget(&victim);
                self.dropped += 1;
            }
        }
        self.entries.insert(key, entry);
    }

    /// Gives a row up.
    pub(crate) fn forget(&mut self, key: &Key) {
        if self.entries.remove(key).is_some_and(|entry| entry.dirty.is_some()) {
            self.dirty -= 1;
        }
    }

    /// Gives the rows up that wait for `sink` since before `kept_since`.
    pub(crate) fn forget_older(&mut self, sink: &SinkName, kept_since: Timestamp) {
        let old =
            self.entries.iter().filter(|((_, to), entry)| to == sink && entry.row.happened_at < kept_since);
        let old: Vec<Key> = old.map(|(key, _)| key.clone()).collect();
        old.iter().for_each(|key| self.forget(key));
    }

    fn touch(&mut self, key: &Key) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        self.revision += 1;
        if entry.dirty.replace(self.revision).is_none() {
            self.dirty += 1;
        }
    }

    /// How many rows were given up at the limit since the last call.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty > 0
    }

    pub(crate) fn dirty(&self) -> Vec<Dirty> {
        if self.dirty == 0 {
            return Vec::new();
        }
        let taken = self.entries.iter().filter_map(|(key, entry)| {
            let revision = entry.dirty?;
            Some(Dirty { key: key.clone(), row: entry.row.clone(), revision, based: entry.based })
        });
        taken.collect()
    }

    /// The disk could be asked at last: `before` is what it holds under `key`.
    pub(crate) fn rebase(&mut self, key: &Key, before: Option<Row>) -> Option<Row> {
        let entry = self.entries.get_mut(key)?;
        if !std::mem::replace(&mut entry.based, true)
            && let Some(before) = before
        {
            entry.row.rebase(before);
            self.touch(key);
        }
        self.row(key)
    }

    /// `written` are on disk; what is settled by that is forgotten here.
    pub(crate) fn wrote(&mut self, written: &[Dirty]) {
        for Dirty { key, revision, .. } in written {
            if let Some(entry) = self.entries.get_mut(key)
                && entry.dirty == Some(*revision)
            {
                entry.dirty = None;
                self.dirty -= 1;
            }
        }
        self.entries.retain(|_, entry| entry.dirty.is_some() || !entry.row.is_settled());
    }
}

#[cfg(test)]
mod tests {
    use horus_core::notice::{IncidentKind, Story};
    use horus_core::plan::Severity;

    use super::*;

    fn told(version: u32) -> Told {
        let notice = Notice {
            incident: IncidentId::nth(0),
            version,
            subject: "trading".into(),
            kind: IncidentKind::Stuck,
            severity: Severity::Warning,
            needs_you: false,
            loud: true,
            within: None,
            story: Story::Halted,
        };
        Told { at: Timestamp::UNIX_EPOCH, sink: SinkName::parse("ops").unwrap(), notice }
    }

    #[test]
    fn what_changes_while_it_is_written_is_written_again() {
        let mut outbox = Outbox::default();
        let [first, second] = [told(1), told(2)];
        outbox.tell_unwritten(&first, Ok(None));
        let taken = outbox.dirty();
        let delivered = Delivery::Delivered { remote_id: Some("m1".into()) };
        assert!(outbox.settle(&first.sink, first.notice.incident, 1, delivered, Timestamp::UNIX_EPOCH));
        outbox.tell_unwritten(&second, Ok(None));
        outbox.wrote(&taken);
        let [again] = outbox.dirty().try_into().unwrap();
        assert_eq!(again.row.notice.version, 2);
        assert_eq!(again.row.delivered.as_ref().map(|delivered| delivered.version), Some(1));
        outbox.wrote(&[again]);
        assert!(!outbox.is_dirty());
        assert_eq!(outbox.pending().len(), 1, "version 2 is still to be delivered");
    }

    #[test]
    fn a_settled_row_leaves_the_memory_only_when_it_is_written() {
        let mut outbox = Outbox::default();
        let first = told(1);
        outbox.tell_written(&first, None);
        outbox.settle(
            &first.sink,
            first.notice.incident,
            1,
            Delivery::Refused { error: "status 400".into() },
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!((outbox.pending().len(), outbox.states(first.notice.incident).len()), (0, 1));
        let taken = outbox.dirty();
        outbox.wrote(&taken);
        assert_eq!(outbox.states(first.notice.incident).len(), 0);
    }

    #[test]
    fn what_a_storm_tells_of_begins_no_message_and_goes_on_with_one_that_is_there() {
        let within = |version| {
            let told = told(version);
            Told { notice: Notice { within: Some(IncidentId::nth(9)), ..told.notice }, ..told }
        };
        let mut outbox = Outbox::default();
        outbox.tell_unwritten(&within(1), Ok(None));
        assert_eq!(outbox.pending().len(), 0);
        outbox.tell_unwritten(&told(2), Ok(None));
        outbox.tell_unwritten(&within(3), Ok(None));
        assert_eq!(outbox.pending().iter().map(|state| state.wanted_version).collect::<Vec<_>>(), [3]);
    }
}
