//! The limit of every queue, row and wait, in one place.

use std::time::Duration;

/// Events that wait for the disk. Beyond it the oldest ordinary ones are dropped and counted.
pub const BACKLOG_EVENTS_MAX: usize = 10_000;
/// Bytes of the events that wait for the disk. Beyond it the oldest ordinary ones are dropped and counted.
pub const BACKLOG_BYTES_MAX: usize = 16 << 20;
/// Rows of the digest that wait for the disk. Beyond it the oldest are dropped, and a row says how many.
pub const BACKLOG_DIGEST_MAX: usize = 20_000;
/// A row of the digest whose content is longer is dropped and counted. (The longest honest one is a service's plan.)
pub const DIGEST_BYTES_MAX: usize = 64 << 10;
/// Notices that wait for the writer. (At a disk fault they move to the outbox at once.)
pub const BACKLOG_NOTICES_MAX: usize = 4096;
/// Services whose newest memory waits for the disk.
pub const BACKLOG_MEMORIES_MAX: usize = 4096;
/// Confirmations that wait for the writer.
pub const BACKLOG_CONFIRMS_MAX: usize = 4096;
/// An event's serialised content; a larger one is replaced by its beginning.
pub const EVENT_BYTES_MAX: usize = 64 << 10;
/// Messages that wait for their sinks, over all sinks. Beyond it the least urgent oldest one is given up and counted.
pub const OUTBOX_PENDING_MAX: usize = 4096;
/// What a sink said; the rest is cut.
pub const ERROR_BYTES_MAX: usize = 512;
/// What a sink calls a message; a longer name is not kept (the next state is then a new message, not an edit).
pub const REMOTE_ID_BYTES_MAX: usize = 512;
/// A next try further ahead than this is the work of a stepped clock, and is due now.
pub const RETRY_AHEAD_MAX: Duration = Duration::from_secs(24 * 3600);
/// Rows that one read returns at most.
pub const QUERY_ROWS_MAX: u32 = 1000;
/// A database file larger than this is not checked as a whole at open: a check reads about 300 MB/s, and programs wait
/// to be watched meanwhile. Damage in a larger one is met when it is read, and degrades the store.
pub const QUICK_CHECK_BYTES_MAX: u64 = 128 << 20;

/// How long a statement waits for a lock that somebody else holds, before it counts as a fault.
pub(crate) const BUSY_WAIT: Duration = Duration::from_millis(500);
/// The write-ahead log is cut back to this size after a checkpoint.
pub(crate) const WAL_BYTES_KEPT: i64 = 4 << 20;
/// Page cache of one connection, KiB.
pub(crate) const CACHE_KIB: i64 = 1024;
/// First pause after a failed write.
pub(crate) const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest pause between two tries to write.
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(15);
/// A write that takes longer holds up neither the sinks nor a healing: they are served without the disk.
pub(crate) const STALL_SERVE: Duration = Duration::from_secs(1);
/// A write that takes longer is a fault.
pub(crate) const STALL_FAULT: Duration = Duration::from_secs(10);
/// Retention is looked after so often.
pub(crate) const PRUNE_EVERY: Duration = Duration::from_secs(3600);
/// Rows that one retention step deletes from one table. Between two steps the writer looks at its backlog.
pub(crate) const PRUNE_ROWS: i64 = 500;
/// Pages that one retention step gives back to the file system.
pub(crate) const VACUUM_PAGES: i64 = 256;
/// Numbers that may be missing between two incidents (their opening was dropped while the disk took no writes).
pub(crate) const INCIDENT_GAP_MAX: u64 = 4096;

/// `text`, cut to at most `bytes` at a character boundary.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[..end]
}
