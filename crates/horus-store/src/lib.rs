//! The memory of Horus: one SQLite file that holds the journal, the incidents, the alert outbox and what each service
//! must not forget.
//!
//! ```text
//!   engine --commit()--> Backlog --+                    +--> on_stored, on_outbox, on_commit, on_health
//!                       (bounded)  +--> writer thread --+
//!   sinks --due/settle--> Outbox --+        | one SQL transaction for all that is queued
//!                       (pending)           v
//!                                        horus.db  <--- Reader (own read-only connection)
//! ```
//!
//! Nothing that a caller does waits for the disk. [`Store::commit`] puts a transaction into a bounded backlog; the
//! writer takes all of it at once and makes it durable with one `fsync`. The undelivered part of the outbox lives in
//! memory with SQLite as its durable copy, so [`Store::due`] and [`Store::settle`] answer alike whether the disk
//! works, is full or is gone. A second thread watches the first: a disk that hangs raises no error. A fault of the disk is reported once, the backlog keeps what fits its limits (the
//! oldest ordinary events go first, and are counted), and everything is written in order when writes work again.
//!
//! Rejected: a queue of messages with replies (a hung disk would hold up the sinks); a second code path for a
//! degraded outbox (it would be the least tested one, used on the worst day); one fsync per transaction (a burst of
//! faults would wait in line).
#![forbid(unsafe_code)]

mod backlog;
mod digest;
mod limits;
mod open;
mod outbox;
mod prune;
mod read;
mod rows;
mod schema;
mod store;
mod watch;
mod writer;

pub use crate::digest::{DIGEST_ROWS_MAX, DigestError, DigestRead, read_digest};
pub use crate::limits::{
    BACKLOG_BYTES_MAX, BACKLOG_CONFIRMS_MAX, BACKLOG_DIGEST_MAX, BACKLOG_EVENTS_MAX, BACKLOG_MEMORIES_MAX,
    BACKLOG_NOTICES_MAX, DIGEST_BYTES_MAX, ERROR_BYTES_MAX, EVENT_BYTES_MAX, OUTBOX_PENDING_MAX,
    QUERY_ROWS_MAX, QUICK_CHECK_BYTES_MAX, REMOTE_ID_BYTES_MAX, RETRY_AHEAD_MAX,
};
pub use crate::open::{OpenError, Restored, RestoredMemory};
pub use crate::read::{EventQuery, ReadError, Reader, SizeReport, schema_of};
pub use crate::schema::{APPLICATION_ID, SCHEMA_VERSION};
pub use crate::store::{DATABASE_FILE, Store, StoreOptions, Transaction};
