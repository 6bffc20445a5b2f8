//! Opening: take up the old life, or put it aside and begin a new one, but begin.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use horus_core::command::Memory;
use horus_core::ids::ServiceName;
use horus_core::record::IncidentRecord;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::limits::{OUTBOX_PENDING_MAX, QUERY_ROWS_MAX, QUICK_CHECK_BYTES_MAX};
use crate::outbox::{Key, Row};
use crate::read::incidents;
use crate::rows;
use crate::schema::{Unusable, connect, connect_read_only};

/// Why there can be no store at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The state directory is not there.
    #[error("{} is no directory", path.display())]
    NoDirectory {
        /// What was given.
        path: PathBuf,
        /// What the system said.
        source: Option<io::Error>,
    },
    /// No thread could be started.
    #[error("the writer thread cannot be started")]
    Thread(#[source] io::Error),
}

/// What an earlier life of Horus left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Restored {
    /// What each service must not forget.
    pub memories: Vec<RestoredMemory>,
    /// The number that the next event will get.
    pub next_seq: u64,
    /// The number for [`horus_core::ids::IncidentId::nth`] of the next incident.
    pub next_incident_number: u64,
    /// Incidents that were open, the newest first.
    pub open_incidents: Vec<IncidentRecord>,
    /// A damaged or newer database was put aside: what happened, where it is kept, what was taken over.
    pub note: Option<String>,
    /// Writes do not work; the store has started without them and retries.
    pub fault: Option<String>,
}

/// What was remembered of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct RestoredMemory {
    /// Which service.
    pub service: ServiceName,
    /// What was remembered.
    pub memory: Memory,
    /// How long ago it was written, by the time of day (zero if the clock was set back since).
    pub age: Duration,
}

pub(crate) struct Opened {
    pub(crate) sql: Option<Connection>,
    pub(crate) restored: Restored,
}

/// Opens the database at `path`, whatever it takes.
pub(crate) fn open(path: &Path, now: Timestamp) -> Opened {
    let unusable = match open_good(path, now) {
        Ok(opened) => return opened,
        Err(unusable) => unusable,
    };
    match unusable {
        Unusable::Fault(error) => degraded(path, now, error.to_string()),
        unusable => {
            let word = if matches!(unusable, Unusable::Newer { .. }) { "newer" } else { "corrupt" };
            replace(path, word, &unusable.to_string(), now)
                .unwrap_or_else(|fault| degraded(path, now, format!("{unusable}; {fault}")))
        }
    }
}

fn open_good(path: &Path, now: Timestamp) -> Result<Opened, Unusable> {
    make_private(path)?;
    if !has_header(path) {
        // SQLite would remove the log beside such a file, and the log may be all that is left.
        return Err(Unusable::Corrupt("file is not a database".into()));
    }
    let bytes = fs::metadata(path).map_or(0, |found| found.len());
    let sql = connect(path)?;
    if bytes <= QUICK_CHECK_BYTES_MAX {
        let found: String = sql.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Err(Unusable::Corrupt(found));
        }
    }
    let restored = restore(&sql, now)?;
    Ok(Opened { sql: Some(sql), restored })
}

/// The file is empty or begins like a database. (One that cannot be read is SQLite's to complain about.)
fn has_header(path: &Path) -> bool {
    const HEADER: &[u8; 16] = b"SQLite format 3\0";
    let mut found = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(16).read_to_end(&mut found));
    read.is_err() || found.is_empty() || found == HEADER
}

/// As [`private_file`], with the error that a database that cannot be opened has.
pub(crate) fn make_private(path: &Path) -> Result<(), Unusable> {
    private_file(path).map_err(cannot_open)
}

/// Makes the directory of a database, for its owner only, with the same error.
pub(crate) fn make_private_directory(path: &Path) -> Result<(), Unusable> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(cannot_open)
}

fn cannot_open(error: io::Error) -> Unusable {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
    Unusable::Fault(rusqlite::Error::SqliteFailure(code, Some(error.to_string())))
}

/// Creates the file if there is none; only its owner may read it.
fn private_file(path: &Path) -> io::Result<()> {
    let file = fs::OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    file.set_permissions(fs::Permissions::from_mode(0o600))
}

fn restore(sql: &Connection, now: Timestamp) -> rusqlite::Result<Restored> {
    let memories = rows::memories(sql)?.into_iter().map(|(service, at, memory)| RestoredMemory {
        service,
        memory,
        age: Duration::try_from(now.duration_since(at)).unwrap_or_default(),
    });
    Ok(Restored {
        memories: memories.collect(),
        next_seq: rows::next_seq(sql)?,
        next_incident_number: rows::next_incident(sql)?,
        open_incidents: incidents(sql, true, QUERY_ROWS_MAX)?,
        note: None,
        fault: None,
    })
}

/// Numbers for a journal whose predecessor cannot be asked: far behind all that it can have handed out, so that an
/// incident in an old message is never taken for a new one.
fn fresh_number(now: Timestamp) -> u64 {
    u64::try_from(now.as_second()).unwrap_or(0)
}

/// The disk is in the way. What can be read is restored; the writer will try again.
pub(crate) fn degraded(path: &Path, now: Timestamp, fault: String) -> Opened {
    let reading = |sql: rusqlite::Result<Connection>| sql.and_then(|sql| restore(&sql, now));
    let restored = reading(connect_read_only(path)).or_else(|_| reading(connect_immutable(path)));
    let nothing =
        |_| Restored { next_seq: 1, next_incident_number: fresh_number(now), ..Restored::default() };
    let restored = Restored { fault: Some(fault), ..restored.unwrap_or_else(nothing) };
    Opened { sql: None, restored }
}

/// For a file on a read-only disk, where SQLite cannot make the shared memory that it wants beside a write-ahead log.
/// What is in that log and not in the file yet is not seen.
pub(crate) fn connect_immutable(path: &Path) -> rusqlite::Result<Connection> {
    let escaped = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(format!("file:{escaped}?immutable=1"), flags)
}

/// Puts the database aside, starts a fresh one, and takes over what must not be lost and can be read.
fn replace(path: &Path, word: &str, why: &str, now: Timestamp) -> Result<Opened, String> {
    let kept = put_aside(path, word, now).map_err(|error| format!("it cannot be put aside: {error}"))?;
    let saved = Saved::read(&kept);
    private_file(path).map_err(|error| error.to_string())?;
    let mut sql = connect(path).map_err(|error| error.to_string())?;
    saved.write(&mut sql, now).map_err(|error| error.to_string())?;
    let mut restored = restore(&sql, now).map_err(|error| error.to_string())?;
    restored.note = Some(format!(
        "the database could not be used ({why}); it is kept as {}, and a fresh one was started with {} service \
         memories, {} open incidents and {} undelivered messages from it",
        kept.display(),
        saved.memories.len(),
        saved.incidents.len(),
        saved.messages.len(),
    ));
    Ok(Opened { sql: Some(sql), restored })
}

/// `horus.db` becomes `horus.db.corrupt-20261122T094146Z`, and so do the files that belong to it.
fn put_aside(path: &Path, word: &str, now: Timestamp) -> io::Result<PathBuf> {
    let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let beside = |base: &Path, suffix: &str| {
        let mut name: OsString = base.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let names = (0..1000).map(|n| match n {
        0 => beside(path, &format!(".{word}-{stamp}")),
        n => beside(path, &format!(".{word}-{stamp}-{n}")),
    });
    let free = |kept: &PathBuf| ["", "-wal", "-shm"].iter().all(|end| !beside(kept, end).exists());
    let kept = names.into_iter().find(free).ok_or(io::ErrorKind::AlreadyExists)?;
    // The log first: should this end half-way, the next start must not find it beside a fresh database.
    for end in ["-wal", "-shm", ""] {
        match fs::rename(beside(path, end), beside(&kept, end)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(kept)
}

/// What must not be lost with a database: holds, open incidents, messages that nobody has got.
#[derive(Default)]
struct Saved {
    memories: Vec<(ServiceName, Timestamp, Memory)>,
    incidents: Vec<IncidentRecord>,
    messages: Vec<(Key, Row)>,
}

impl Saved {
    /// Reads what can be read.
    fn read(kept: &Path) -> Self {
        let Ok(sql) = connect_read_only(kept) else { return Self::default() };
        Self {
            memories: rows::memories(&sql).unwrap_or_default(),
            incidents: incidents(&sql, true, QUERY_ROWS_MAX).unwrap_or_default(),
            messages: rows::outbox_pending(&sql, OUTBOX_PENDING_MAX).unwrap_or_default(),
        }
    }

    fn write(&self, sql: &mut Connection, now: Timestamp) -> rusqlite::Result<()> {
        let transaction = sql.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (service, at, memory) in &self.memories {
            rows::upsert_memory(&transaction, service, *at, memory)?;
        }
        for incident in &self.incidents {
            rows::upsert_incident(&transaction, incident)?;
        }
        for ((_, sink), row) in &self.messages {
            rows::upsert_outbox(&transaction, sink, row)?;
        }
        rows::set_next_seq(&transaction, fresh_number(now))?;
        rows::set_next_incident(&transaction, fresh_number(now))?;
        transaction.commit()
    }
}
