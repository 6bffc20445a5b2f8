//! The one thread that writes.
//!
//! ```text
//!            work              write fails                       pause over
//!   Good ----------> write ------------------> Fault(pause) -----------------> reconnect, write
//!     ^                |                          |    ^                            |
//!     +----------------+ ok                       +----+ urgent work: notices       | ok: report, back to Good
//!                                                        into memory, "not stored"  | fails: longer pause
//! ```

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use horus_core::ids::{IncidentId, SinkName};
use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior};

use crate::backlog::{Backlog, EventRow, Told};
use crate::limits::{OUTBOX_PENDING_MAX, PRUNE_EVERY, RETRY_FIRST, RETRY_MAX};
use crate::open::{make_private, make_private_directory};
use crate::outbox::{Dirty, Key, Row};
use crate::prune::Prune;
use crate::rows::{self, Written};
use crate::schema::{Unusable, connect};
use crate::store::{Shared, State, StoreOptions};
use crate::watch::InFlight;

/// Writes do not work.
struct Fault {
    /// Until the next try.
    pause: Duration,
    retry_at: Instant,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    options: Arc<StoreOptions>,
    sql: Option<Connection>,
    /// Which file that connection writes to.
    file: Option<FileId>,
    /// The file was taken away under us and written anew; the journal does not say so yet.
    rescued: bool,
    fault: Option<Fault>,
    /// The outbox on disk has been read.
    loaded: bool,
    prune: Prune,
    prune_at: Instant,
}

/// What the writer does next.
enum Call {
    Write,
    KeepInMemory,
    Prune,
    Stop,
}

/// What became part of a transaction.
struct Done {
    dirty: Vec<Dirty>,
    /// For each notice the row that was on disk before.
    before: Vec<Option<Row>>,
    last_seq: Option<u64>,
}

/// Which file a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|found| Self { device: found.dev(), inode: found.ino() })
    }
}

/// The writer paces itself; nothing is judged by this clock.
fn now() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "pauses of this thread only; the store knows no other room's clock"
    )]
    Instant::now()
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        options: Arc<StoreOptions>,
        sql: Option<Connection>,
        fault: Option<&str>,
    ) -> Self {
        let file = sql.as_ref().and_then(|_| FileId::of(&shared.path));
        let mut writer = Self {
            shared,
            options,
            sql,
            file,
            rescued: false,
            fault: None,
            loaded: false,
            prune: Prune::default(),
            prune_at: now() + PRUNE_EVERY,
        };
        // The undelivered messages have to be there before the first sink asks.
        if let Err(error) = writer.load_outbox() {
            writer.fail(&error.to_string());
        }
        if let Some(fault) = fault {
            writer.fail(fault);
        }
        writer
    }

    pub(crate) fn run(mut self) {
        loop {
            match self.wait() {
                Call::Write => self.write(),
                Call::KeepInMemory => {
                    let mut state = self.shared.lock();
                    let notices = std::mem::take(&mut state.backlog.notices);
                    let confirms = std::mem::take(&mut state.backlog.confirms);
                    drop(state);
                    self.keep_in_memory(notices.into(), confirms.into());
                }
                Call::Prune => self.prune(),
                Call::Stop => break,
            }
        }
        if self.shared.lock().has_work() {
            self.write();
        }
        self.sql = None;
        self.shared.lock().finished = true;
        self.shared.progress.notify_all();
        self.shared.watch.notify_all();
    }

    fn wait(&self) -> Call {
        let mut state = self.shared.lock();
        loop {
            if state.stopping {
                return Call::Stop;
            }
            let now = now();
            let deadline = match &self.fault {
                None if now >= self.prune_at => return Call::Prune,
                None if state.has_work() => {
                    return Call::Write;
                }
                None => self.prune_at,
                Some(fault) if now >= fault.retry_at => {
                    return Call::Write;
                }
                Some(_) if state.backlog.is_urgent() => return Call::KeepInMemory,
                Some(fault) => fault.retry_at,
            };
            let pause = deadline.saturating_duration_since(now);
            state = self.shared.wake.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Writes all that is queued as one SQL transaction.
    fn write(&mut self) {
        let mut state = self.shared.lock();
        state.taken += 1;
        let taken = state.taken;
        let mut batch = std::mem::take(&mut state.backlog);
        batch.dropped = batch.dropped.saturating_add(state.outbox.take_dropped());
        state.in_flight = Some(InFlight {
            since: now(),
            notices: batch.notices.iter().cloned().collect(),
            confirms: std::mem::take(&mut batch.confirms).into(),
            served: false,
        });
        drop(state);
        self.shared.watch.notify_one();
        let result = self.try_write(&batch);
        let in_flight = self.shared.lock().in_flight.take();
        if in_flight.as_ref().is_none_or(|in_flight| in_flight.served) {
            // The watch has put them into the outbox; they are written from there.
            batch.notices.clear();
        }
        let confirms = in_flight.map(|in_flight| in_flight.confirms).unwrap_or_default();
        match result {
            Ok(done) => {
                self.wrote(batch, confirms, done);
                self.shared.lock().written = taken;
            }
            Err(error) => self.could_not_write(batch, confirms, &error.to_string()),
        }
        self.shared.progress.notify_all();
    }

    fn try_write(&mut self, batch: &Backlog) -> Result<Done, Unusable> {
        self.rescue()?;
        let probing = self.fault.is_some();
        if probing {
            // A connection that has met an I/O error may not see that the disk is back.
            self.sql = None;
        }
        if self.sql.is_none() {
            // A disk that took no writes from the start has no file yet.
            make_private(&self.shared.path)?;
            self.sql = Some(connect(&self.shared.path)?);
            self.file = FileId::of(&self.shared.path);
        }
        self.load_outbox()?;
        let Some(sql) = &mut self.sql else { return Err(Unusable::Corrupt("there is no connection".into())) };
        let dirty = settle_on_disk(&self.shared, sql)?;
        let transaction = sql.transaction_with_behavior(TransactionBehavior::Immediate)?;
        #[cfg(test)]
        self.shared.faults.inject(&transaction)?;
        if probing || batch.prove {
            transaction.execute("UPDATE counter SET value = value + 1 WHERE name = 'writes_tried'", [])?;
        }
        if self.rescued {
            let text = "store: the database was taken away while Horus ran; it was written anew, with all that was in it";
            rows::insert_event(&transaction, &EventRow::about_horus(Timestamp::now(), text.into()))?;
        }
        let last_seq = write_events(&transaction, batch)?;
        for (service, (at, memory)) in &batch.memories {
            keep_going("memory", rows::upsert_memory(&transaction, service, *at, memory))?;
        }
        write_digest(&transaction, batch)?;
        for Dirty { key: (_, sink), row, .. } in &dirty {
            keep_going("message", rows::upsert_outbox(&transaction, sink, row))?;
        }
        let before = write_notices(&self.shared, &transaction, batch)?;
        transaction.commit()?;
        self.rescued = false;
        Ok(Done { dirty, before, last_seq })
    }

    /// Somebody removed the file (or its directory): what is written would be gone with this process. The open connection still has
    /// everything, so it is written to the path anew. A file that was put there in its place is used as it is.
    fn rescue(&mut self) -> Result<(), Unusable> {
        let path = &self.shared.path;
        let Some(sql) = self.sql.as_ref().filter(|_| self.file.is_some() && self.file != FileId::of(path))
        else {
            return Ok(());
        };
        if std::fs::metadata(path).map_or(0, |found| found.len()) == 0 {
            if let Some(directory) = path.parent() {
                make_private_directory(directory)?;
            }
            make_private(path)?;
            sql.execute("VACUUM INTO ?1", [path.to_string_lossy()])?;
            tracing::error!("{} was taken away, and was written anew", path.display());
            self.rescued = true;
        }
        self.sql = None;
        Ok(())
    }

    /// Reads the undelivered messages, once, when the disk can be read for the first time.
    fn load_outbox(&mut self) -> Result<(), rusqlite::Error> {
        let Some(sql) = self.sql.as_ref().filter(|_| !self.loaded) else { return Ok(()) };
        let pending = rows::outbox_pending(sql, OUTBOX_PENDING_MAX)?;
        let sinks: BTreeSet<SinkName> = pending.iter().map(|((_, sink), _)| sink.clone()).collect();
        let mut state = self.shared.lock();
        for (key, row) in pending {
            state.outbox.restore(key, row);
        }
        drop(state);
        self.loaded = true;
        sinks.iter().for_each(|sink| (self.options.on_outbox)(sink));
        Ok(())
    }

    fn wrote(&mut self, batch: Backlog, confirms: Vec<IncidentId>, done: Done) {
        let mut state = self.shared.lock();
        for (told, before) in batch.notices.iter().zip(done.before) {
            state.outbox.tell_written(told, before);
        }
        state.outbox.wrote(&done.dirty);
        self.fault = None;
        let recovered = state.fault.take().is_some();
        drop(state);
        if recovered {
            tracing::info!(dropped = batch.dropped, "the database takes writes again");
            (self.options.on_health)(None);
        }
        if let Some(seq) = done.last_seq {
            (self.options.on_commit)(seq);
        }
        confirms.iter().for_each(|incident| (self.options.on_stored)(*incident, true));
        self.wake_sinks(batch.notices.iter());
        let begun =
            done.dirty.iter().filter(|dirty| dirty.row.begun).map(|Dirty { key: (_, sink), .. }| sink);
        begun.collect::<BTreeSet<_>>().into_iter().for_each(|sink| (self.options.on_outbox)(sink));
    }

    fn could_not_write(&mut self, mut batch: Backlog, confirms: Vec<IncidentId>, error: &str) {
        let notices = std::mem::take(&mut batch.notices);
        self.shared.lock().backlog.put_back(batch);
        self.fail(error);
        self.keep_in_memory(notices.into(), confirms);
    }

    /// Serves notices and confirmations without the disk.
    fn keep_in_memory(&mut self, notices: Vec<Told>, confirms: Vec<IncidentId>) {
        for told in &notices {
            let key = (told.notice.incident, told.sink.clone());
            let before = self.sql.as_ref().map(|sql| rows::outbox_row(sql, &key));
            let before = before.and_then(Result::ok).ok_or(());
            self.shared.lock().outbox.tell_unwritten(told, before);
        }
        confirms.iter().for_each(|incident| (self.options.on_stored)(*incident, false));
        self.wake_sinks(notices.iter());
    }

    fn wake_sinks<'a>(&self, notices: impl Iterator<Item = &'a Told>) {
        let sinks: BTreeSet<&SinkName> = notices.map(|told| &told.sink).collect();
        sinks.into_iter().for_each(|sink| (self.options.on_outbox)(sink));
    }

    /// Says once that writes do not work, and plans the next try.
    fn fail(&mut self, error: &str) {
        let pause = self.fault.as_ref().map_or(RETRY_FIRST, |fault| (fault.pause * 2).min(RETRY_MAX));
        #[cfg(test)]
        let pause = pause.min(crate::store::tests::RETRY_PAUSE);
        self.fault = Some(Fault { pause, retry_at: now() + pause });
        let text = format!("cannot write {}: {error}", self.shared.path.display());
        let mut state = self.shared.lock();
        // The watch may have said it already: that the disk does not answer.
        let first = state.fault.is_none();
        state.fault = Some(text.clone());
        drop(state);
        if first {
            tracing::error!("{text}; Horus goes on without, and tries again");
            (self.options.on_health)(Some(text));
        }
    }

    fn prune(&mut self) {
        let now_of_day = Timestamp::now();
        let kept_since = now_of_day.checked_sub(self.options.retention).unwrap_or(Timestamp::MIN);
        let Some(sql) = &mut self.sql else {
            self.prune_at = now() + PRUNE_EVERY;
            return;
        };
        match self.prune.step(&self.shared, sql, kept_since) {
            Ok(pause) => self.prune_at = now() + pause,
            Err(error) => {
                self.prune_at = now() + PRUNE_EVERY;
                self.fail(&error.to_string());
            }
        }
    }
}

/// The rows of the outbox that have changed since they were written, each put behind what the disk holds.
fn settle_on_disk(shared: &Shared, sql: &Connection) -> rusqlite::Result<Vec<Dirty>> {
    let dirty = shared.lock().outbox.dirty();
    if dirty.iter().all(|dirty| dirty.based) {
        return Ok(dirty);
    }
    for Dirty { key, .. } in dirty.iter().filter(|dirty| !dirty.based) {
        let before = rows::outbox_row(sql, key)?;
        shared.lock().outbox.rebase(key, before);
    }
    Ok(shared.lock().outbox.dirty())
}

/// The number of the last event, if there was one.
fn write_events(sql: &Connection, batch: &Backlog) -> rusqlite::Result<Option<u64>> {
    let mut last_seq = None;
    let first_at = batch.events.front().map_or_else(Timestamp::now, |event| event.at);
    let gap = (batch.dropped > 0).then(|| {
        let count = batch.dropped;
        EventRow::about_horus(
            first_at,
            format!("store: {count} events were dropped while the disk took no writes"),
        )
    });
    for event in gap.iter().chain(&batch.events) {
        keep_going("event", rows::insert_event(sql, event))?;
    }
    if gap.is_some() || !batch.events.is_empty() {
        last_seq = Some(rows::next_seq(sql)?.saturating_sub(1));
    }
    Ok(last_seq)
}

/// What was heard; after a time without a disk, first how much of it is missing.
fn write_digest(sql: &Connection, batch: &Backlog) -> rusqlite::Result<()> {
    let lost = (batch.digest_dropped > 0).then(|| horus_core::digest::Row {
        at: batch.digest.front().map_or_else(Timestamp::now, |row| row.at),
        clock_ms: batch.digest.front().map_or(0, |row| row.clock_ms),
        service: None,
        generation: None,
        what: horus_core::digest::Entry::Lost(batch.digest_dropped),
    });
    for row in lost.iter().chain(&batch.digest) {
        keep_going("digest", rows::insert_digest(sql, row))?;
    }
    Ok(())
}

/// For each notice the row that was there before, in order.
fn write_notices(shared: &Shared, sql: &Connection, batch: &Backlog) -> rusqlite::Result<Vec<Option<Row>>> {
    let mut before = Vec::with_capacity(batch.notices.len());
    let mut told_here: std::collections::BTreeMap<Key, Row> = std::collections::BTreeMap::new();
    for told in &batch.notices {
        let key = (told.notice.incident, told.sink.clone());
        let on_disk = rows::outbox_row(sql, &key)?;
        let here =
            told_here.get(&key).cloned().or_else(|| shared.lock().outbox.row(&key)).or(on_disk.clone());
        if let Some(row) = Row::told(here.as_ref(), told) {
            keep_going("message", rows::upsert_outbox(sql, &told.sink, &row))?;
            keep_going("severity", rows::raise_severity(sql, told.notice.incident, told.notice.severity))?;
            told_here.insert(key, row);
        }
        before.push(on_disk);
    }
    Ok(before)
}

/// A row that SQLite will never take is given up with a line in the log; a fault of the disk ends the transaction.
fn keep_going(what: &str, result: rusqlite::Result<()>) -> rusqlite::Result<()> {
    if let Written::Never(error) = rows::sort_out(result)? {
        tracing::error!(%error, "a row ({what}) cannot be written and is given up");
    }
    Ok(())
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state: &State = &self.shared.lock();
        f.debug_struct("Writer").field("state", state).finish_non_exhaustive()
    }
}
