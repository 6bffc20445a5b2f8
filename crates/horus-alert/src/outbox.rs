//! Where workers take their messages from.
//!
//! The store implements [`Outbox`] over SQLite. [`MemoryOutbox`] is the same without a disk: for tests, and for a
//! Horus whose state directory takes no writes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use horus_core::ids::{IncidentId, SinkName};
use horus_core::notice::Notice;
use horus_core::outbox::{Delivery, OutboxItem};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::WallClock;

/// The messages that wait, per sink. One worker per sink asks; anybody may put.
pub trait Outbox: Send + Sync + 'static {
    /// The message that should be sent next to this sink, in its newest version: those that need somebody first,
    /// then the oldest. `None` if nothing is due now. Asking changes nothing: until it is settled, the same item
    /// comes again.
    fn due(&self, sink: &SinkName) -> impl Future<Output = Option<OutboxItem>> + Send;

    /// Something that makes a message is about to be sent. Returns when that is on disk, or after a bounded time when the
    /// disk does not answer: should nobody ever hear of the outcome, the item is offered as [`OutboxItem::in_doubt`].
    fn begin(&self, sink: &SinkName, incident: IncidentId) -> impl Future<Output = ()> + Send;

    /// What became of one try of this version. A newer version that was put meanwhile stays wanted, and due.
    fn settle(
        &self,
        sink: &SinkName,
        incident: IncidentId,
        version: u32,
        delivery: Delivery,
    ) -> impl Future<Output = ()> + Send;

    /// When the next message to this sink becomes due; `None` if none waits.
    fn next_due_at(&self, sink: &SinkName) -> impl Future<Output = Option<Timestamp>> + Send;

    /// A value that changes whenever a message is put. Watched, not awaited once: no change is missed between two
    /// looks.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// The most incidents that a [`MemoryOutbox`] holds per sink. Beyond, the oldest settled one goes, then the oldest
/// that needs nobody, then the oldest.
pub const MEMORY_ITEMS_MAX: usize = 500;

/// An outbox without a disk.
pub struct MemoryOutbox {
    clock: WallClock,
    entries: Mutex<BTreeMap<(SinkName, IncidentId), Entry>>,
    changes: watch::Sender<u64>,
}

#[derive(Clone)]
struct Entry {
    item: OutboxItem,
    /// Which put it was, for those that happened at the same instant.
    order: u64,
    /// A noise is owed since this version.
    rings: Option<u32>,
    due_at: Timestamp,
    last_error: Option<String>,
    settled: bool,
}

impl MemoryOutbox {
    /// An empty outbox.
    pub fn new(clock: WallClock) -> Self {
        Self { clock, entries: Mutex::default(), changes: watch::Sender::new(0) }
    }

    /// Makes `notice` the wanted state at `sink`. An older version is replaced, a newer one stays.
    pub fn put(&self, sink: &SinkName, notice: Notice, happened_at: Timestamp) {
        let now = (self.clock)();
        let mut entries = self.entries();
        let key = (sink.clone(), notice.incident);
        let before = entries.get(&key);
        if before.is_some_and(|entry| entry.item.notice.version >= notice.version) {
            return;
        }
        let owed = before.and_then(|entry| entry.rings).filter(|_| !notice.story.is_end());
        let rings = Some(notice.version).filter(|_| notice.loud).or(owed);
        let item = OutboxItem {
            sink: sink.clone(),
            notice,
            happened_at,
            opened_at: before.map_or(happened_at, |entry| entry.item.opened_at),
            delivered_version: before.and_then(|entry| entry.item.delivered_version),
            remote_id: before.and_then(|entry| entry.item.remote_id.clone()),
            in_doubt: before.is_some_and(|entry| entry.item.in_doubt),
            attempts: 0,
        };
        let order = *self.changes.borrow();
        entries.insert(key, Entry { item, order, rings, due_at: now, last_error: None, settled: false });
        make_room(&mut entries, sink);
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// What is known of one message: the item, the last error, and whether nothing more is to be done.
    pub fn look(&self, sink: &SinkName, incident: IncidentId) -> Option<(OutboxItem, Option<String>, bool)> {
        let entries = self.entries();
        let entry = entries.get(&(sink.clone(), incident))?;
        Some((entry.item.clone(), entry.last_error.clone(), entry.settled))
    }

    /// A panic elsewhere leaves the map whole: every change is a single insert or assignment.
    fn entries(&self) -> MutexGuard<'_, BTreeMap<(SinkName, IncidentId), Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn offered(&self) -> OutboxItem {
        let mut item = self.item.clone();
        item.notice.loud = self.rings.is_some();
        item
    }
}

fn make_room(entries: &mut BTreeMap<(SinkName, IncidentId), Entry>, sink: &SinkName) {
    let mut mine: Vec<_> = entries.iter().filter(|((name, _), _)| name == sink).collect();
    if mine.len() <= MEMORY_ITEMS_MAX {
        return;
    }
    mine.sort_by_key(|(_, entry)| {
        (!entry.settled, entry.item.notice.needs_you, entry.item.happened_at, entry.order)
    });
    if let Some((key, entry)) = mine.first().map(|(key, entry)| ((*key).clone(), entry.settled)) {
        if !entry {
            tracing::warn!(sink = %sink, incident = %key.1, "too many messages wait: the oldest is dropped");
        }
        entries.remove(&key);
    }
}

impl Outbox for MemoryOutbox {
    async fn due(&self, sink: &SinkName) -> Option<OutboxItem> {
        let now = (self.clock)();
        let entries = self.entries();
        let waiting = entries.values().filter(|entry| entry.item.sink == *sink && !entry.settled);
        waiting
            .filter(|entry| entry.due_at <= now)
            .min_by_key(|entry| (!entry.item.notice.needs_you, entry.item.happened_at, entry.order))
            .map(Entry::offered)
    }

    async fn begin(&self, sink: &SinkName, incident: IncidentId) {
        if let Some(entry) = self.entries().get_mut(&(sink.clone(), incident)) {
            entry.item.in_doubt = true;
        }
    }

    async fn settle(&self, sink: &SinkName, incident: IncidentId, version: u32, delivery: Delivery) {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(&(sink.clone(), incident)) else {
            return;
        };
        let current = entry.item.notice.version == version;
        entry.item.in_doubt &= matches!(delivery, Delivery::RetryAt { in_doubt: true, .. });
        match delivery {
            Delivery::Delivered { remote_id } => {
                entry.item.delivered_version = Some(version);
                entry.item.remote_id = remote_id.or(entry.item.remote_id.take());
                entry.rings = entry.rings.filter(|since| *since > version);
                entry.settled = current;
            }
            Delivery::Rang => entry.rings = entry.rings.filter(|since| *since > version),
            Delivery::RetryAt { at, error, .. } if current => {
                entry.item.attempts = entry.item.attempts.saturating_add(1);
                entry.last_error = Some(error);
                entry.due_at = at;
            }
            Delivery::Refused { error } if current => {
                entry.last_error = Some(error);
                entry.settled = true;
            }
            Delivery::RetryAt { .. } | Delivery::Refused { .. } => {}
        }
    }

    async fn next_due_at(&self, sink: &SinkName) -> Option<Timestamp> {
        let entries = self.entries();
        let waiting = entries.values().filter(|entry| entry.item.sink == *sink && !entry.settled);
        waiting.map(|entry| entry.due_at).min()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn outbox() -> (MemoryOutbox, SinkName) {
        (MemoryOutbox::new(Arc::new(|| Timestamp::UNIX_EPOCH)), SinkName::parse("ops").unwrap())
    }

    fn notice(number: u64, version: u32) -> Notice {
        let mut notice = crate::samples::notices().remove(3);
        notice.incident = IncidentId::nth(number);
        notice.version = version;
        notice
    }

    #[tokio::test]
    async fn an_older_version_replaces_nothing_and_settles_nothing() {
        let (outbox, ops) = outbox();
        outbox.put(&ops, notice(1, 3), Timestamp::UNIX_EPOCH);
        outbox.put(&ops, notice(1, 2), Timestamp::UNIX_EPOCH);
        assert_eq!(outbox.due(&ops).await.unwrap().notice.version, 3);
        let remote_id = Some("7".to_owned());
        outbox.settle(&ops, IncidentId::nth(1), 2, Delivery::Delivered { remote_id }).await;
        outbox.settle(&ops, IncidentId::nth(1), 2, Delivery::Refused { error: "late".into() }).await;
        let due = outbox.due(&ops).await.unwrap();
        assert_eq!(
            (due.notice.version, due.delivered_version, due.remote_id.as_deref()),
            (3, Some(2), Some("7"))
        );
        outbox.settle(&ops, IncidentId::nth(1), 3, Delivery::Delivered { remote_id: None }).await;
        assert_eq!((outbox.due(&ops).await, outbox.next_due_at(&ops).await), (None, None));
    }

    #[tokio::test]
    async fn a_full_outbox_drops_what_matters_least() {
        let (outbox, ops) = outbox();
        let other = SinkName::parse("other").unwrap();
        outbox.put(&other, notice(0, 1), Timestamp::UNIX_EPOCH);
        outbox.put(&ops, Notice { needs_you: true, ..notice(0, 1) }, Timestamp::UNIX_EPOCH);
        outbox.put(&ops, notice(1, 1), Timestamp::UNIX_EPOCH);
        outbox.settle(&ops, IncidentId::nth(1), 1, Delivery::Delivered { remote_id: None }).await;
        for number in 2..=MEMORY_ITEMS_MAX as u64 + 1 {
            outbox.put(&ops, notice(number, 1), Timestamp::UNIX_EPOCH);
        }
        let held = |number| outbox.look(&ops, IncidentId::nth(number)).is_some();
        assert_eq!([held(0), held(1), held(2), held(3)], [true, false, false, true]);
        assert!(outbox.look(&other, IncidentId::nth(0)).is_some());
    }
}
