//! The handle that the rest of Horus holds.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use horus_core::command::Memory;
use horus_core::event::Event;
use horus_core::ids::{IncidentId, ServiceName, SinkName};
use horus_core::notice::Notice;
use horus_core::outbox::{Delivery, DeliveryState, OutboxItem};
use jiff::Timestamp;

use crate::backlog::Backlog;
use crate::open::{OpenError, Restored, open};
use crate::outbox::Outbox;
use crate::read::{ReadError, Reader};
use crate::rows::whole_millis;
use crate::watch::{InFlight, watch};
use crate::writer::Writer;

/// The name of the database in the state directory.
pub const DATABASE_FILE: &str = "horus.db";

/// What one step of the engine wants to be remembered. It becomes durable as a whole or (after a crash) not at all.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// The time of day of the step.
    pub at: Timestamp,
    /// The journal, in order. Incident rows follow from it.
    pub events: Vec<Event>,
    /// The wanted state of messages, already chosen per sink.
    pub notices: Vec<(SinkName, Notice)>,
    /// What must survive a restart of Horus.
    pub memories: Vec<(ServiceName, Memory)>,
    /// What was heard, compacted.
    pub digest: Vec<horus_core::digest::Row>,
    /// Incidents for which [`StoreOptions::on_stored`] is to be called once all this is durable.
    pub confirm: Vec<IncidentId>,
}

/// How a store behaves and whom it tells. The callbacks run on the store's threads (and in [`Store::open`], which speaks
/// of a fault and of messages that are left to do): they must return at once, as a send into a channel does, and may not
/// call the store's blocking methods.
pub struct StoreOptions {
    /// Older rows are removed, in small batches, every hour. What belongs to an open incident or is not delivered
    /// yet is kept.
    pub retention: Duration,
    /// `Some(why)` once when writes stop to work, `None` once when they work again.
    pub on_health: Box<dyn Fn(Option<String>) + Send + Sync>,
    /// The answer to each of [`Transaction::confirm`]: true after it is on disk, false if the disk takes
    /// no writes or has not answered for a second. One answer each.
    pub on_stored: Box<dyn Fn(IncidentId, bool) + Send + Sync>,
    /// There is a new message for this sink, or it is on disk that one is being sent.
    pub on_outbox: Box<dyn Fn(&SinkName) + Send + Sync>,
    /// Events up to this number can be read.
    pub on_commit: Box<dyn Fn(u64) + Send + Sync>,
}

impl Default for StoreOptions {
    /// A month, and nobody is told.
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(30 * 24 * 3600),
            on_health: Box::new(|_| {}),
            on_stored: Box::new(|_, _| {}),
            on_outbox: Box::new(|_| {}),
            on_commit: Box::new(|_| {}),
        }
    }
}

impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreOptions").field("retention", &self.retention).finish_non_exhaustive()
    }
}

/// What the handle and the writer share. Held for microseconds at a time, never across I/O.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) backlog: Backlog,
    pub(crate) outbox: Outbox,
    /// How often the writer has taken what was queued.
    pub(crate) taken: u64,
    /// The last of these times of which everything is on disk.
    pub(crate) written: u64,
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) fault: Option<String>,
    pub(crate) stopping: bool,
    pub(crate) finished: bool,
}

impl State {
    pub(crate) fn has_work(&self) -> bool {
        !self.backlog.is_empty() || self.outbox.is_dirty()
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) path: PathBuf,
    state: Mutex<State>,
    /// Something to do for the writer.
    pub(crate) wake: Condvar,
    /// The writer has done something.
    pub(crate) progress: Condvar,
    /// Something to do for the watch.
    pub(crate) watch: Condvar,
    #[cfg(test)]
    pub(crate) faults: tests::Faults,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is complete before anything can panic: a poisoned lock holds nothing broken.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the writer with the last handle.
#[derive(Debug)]
struct Lifeline(Arc<Shared>);

impl Drop for Lifeline {
    fn drop(&mut self) {
        self.0.lock().stopping = true;
        self.0.wake.notify_all();
    }
}

/// The store. Clones are handles to the same one; the last of them ends the writer, after it has written what is
/// queued. None of the methods but [`Store::flush`] and [`Store::close`] waits for the disk.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
    _lifeline: Arc<Lifeline>,
}

impl Store {
    /// Opens `horus.db` in the state directory `dir` and starts the writer thread.
    ///
    /// A disk that takes no writes is no error: the store starts degraded ([`Restored::fault`]) and retries. A
    /// damaged database, or one of a newer Horus, is kept aside and a fresh one started ([`Restored::note`]).
    ///
    /// # Errors
    /// If `dir` is no directory, or no thread can be started.
    pub fn open(dir: &Path, options: StoreOptions) -> Result<(Store, Restored), OpenError> {
        let metadata = std::fs::metadata(dir);
        match metadata {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(OpenError::NoDirectory { path: dir.to_owned(), source: None }),
            Err(error) => return Err(OpenError::NoDirectory { path: dir.to_owned(), source: Some(error) }),
        }
        let path = dir.join(DATABASE_FILE);
        let mut opened = open(&path, Timestamp::now());
        let shared = Arc::new(Shared {
            path,
            state: Mutex::default(),
            wake: Condvar::new(),
            progress: Condvar::new(),
            watch: Condvar::new(),
            #[cfg(test)]
            faults: tests::Faults::default(),
        });
        let options = Arc::new(options);
        let writer =
            Writer::new(shared.clone(), options.clone(), opened.sql, opened.restored.fault.as_deref());
        opened.restored.fault.clone_from(&shared.lock().fault);
        let lifeline = Arc::new(Lifeline(shared.clone()));
        let thread = |name: &str| std::thread::Builder::new().name(name.into());
        thread("horus-store").spawn(move || writer.run()).map_err(OpenError::Thread)?;
        let watched = shared.clone();
        thread("horus-store-watch").spawn(move || watch(&watched, &options)).map_err(OpenError::Thread)?;
        Ok((Store { shared, _lifeline: lifeline }, opened.restored))
    }

    /// Queues `transaction`; never waits. Transactions become durable in the order of these calls.
    pub fn commit(&self, mut transaction: Transaction) {
        transaction.at = whole_millis(transaction.at);
        let mut state = self.shared.lock();
        if state.finished {
            tracing::error!("the store is closed; a transaction is lost");
            return;
        }
        state.backlog.push(transaction);
        self.shared.wake.notify_one();
        if state.in_flight.as_ref().is_some_and(|in_flight| in_flight.served) {
            self.shared.watch.notify_one();
        }
    }

    /// The most urgent message for `sink` that may be tried at `now`: those that need a person first, then the
    /// oldest incident. The same one again until it is settled.
    pub fn due(&self, sink: &SinkName, now: Timestamp) -> Option<OutboxItem> {
        self.shared.lock().outbox.due(sink, now)
    }

    /// When the next message for `sink` may be tried (it may be in the past). `None`: nothing waits.
    pub fn next_due_at(&self, sink: &SinkName) -> Option<Timestamp> {
        self.shared.lock().outbox.next_due_at(sink)
    }

    /// A message about `incident` is about to be sent to `sink`. Should nobody ever hear of the outcome, it will be known
    /// that there may be one ([`OutboxItem::in_doubt`]): wait for [`Store::has_begun`] before anything is sent.
    pub fn begin(&self, sink: &SinkName, incident: IncidentId) {
        if self.shared.lock().outbox.begin(sink, incident) {
            self.shared.wake.notify_one();
        }
    }

    /// Is that on disk? Also true if the disk takes nothing: an alert does not wait for a disk. When it becomes true,
    /// [`StoreOptions::on_outbox`] is called.
    pub fn has_begun(&self, sink: &SinkName, incident: IncidentId) -> bool {
        let state = self.shared.lock();
        state.fault.is_some() || state.outbox.is_written(sink, incident)
    }

    /// What became of the try to bring `version` about `incident` to `sink`. A newer version that came about in the
    /// meantime stays due.
    pub fn settle(
        &self,
        sink: &SinkName,
        incident: IncidentId,
        version: u32,
        delivery: Delivery,
        now: Timestamp,
    ) {
        if self.shared.lock().outbox.settle(sink, incident, version, delivery, whole_millis(now)) {
            self.shared.wake.notify_one();
        }
    }

    /// All undelivered messages, also those for sinks that are no longer in the plan.
    pub fn pending(&self) -> Vec<DeliveryState> {
        self.shared.lock().outbox.pending()
    }

    /// Why writes do not work. `None`: they do.
    pub fn fault(&self) -> Option<String> {
        self.shared.lock().fault.clone()
    }

    /// A connection of its own for reading.
    ///
    /// # Errors
    /// If the database cannot be opened.
    pub fn reader(&self) -> Result<Reader, ReadError> {
        Reader::open(self.shared.clone())
    }

    /// Whether the disk takes writes now: writes a row that is there already, in place, and waits for it at most `within`.
    /// A quiet journal proves nothing.
    pub fn prove(&self, within: Duration) -> bool {
        self.shared.lock().backlog.prove = true;
        self.shared.wake.notify_one();
        self.flush(within) && self.fault().is_none()
    }

    /// Waits until everything that is queued now is on disk, at most `within`. False if it is not.
    pub fn flush(&self, within: Duration) -> bool {
        let state = self.shared.lock();
        // What is queued is taken next; what comes after that is not waited for, however much it is.
        let wanted = if state.has_work() { state.taken + 1 } else { state.taken };
        let is_done =
            |state: &State| state.written >= wanted || (!state.has_work() && state.written == state.taken);
        let waiting = |state: &mut State| !is_done(state) && !state.finished;
        let waited = self.shared.progress.wait_timeout_while(state, within, waiting);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        is_done(&state)
    }

    /// Ends the writer after a last try to write what is queued; waits for it at most `within`. True if everything
    /// is on disk. What is committed later is lost.
    pub fn close(&self, within: Duration) -> bool {
        self.shared.lock().stopping = true;
        self.shared.wake.notify_all();
        let waited =
            self.shared.progress.wait_timeout_while(self.shared.lock(), within, |state| !state.finished);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.finished && !state.has_work()
    }
}

#[cfg(test)]
pub(crate) mod tests;
