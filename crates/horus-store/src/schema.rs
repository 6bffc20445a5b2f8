//! The tables, how they came about, and how a connection is set up.
//!
//! `PRAGMA user_version` is the number of migrations that a file has seen. A migration is never edited once it was
//! released; a change is a new one at the end of [`MIGRATIONS`]. The reference is docs/reference/database.md.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::limits::{BUSY_WAIT, CACHE_KIB, WAL_BYTES_KEPT};

/// Marks the file as one of Horus: "HORS".
pub const APPLICATION_ID: i32 = 0x484F_5253;

/// The newest version that this Horus writes and reads.
pub const SCHEMA_VERSION: usize = MIGRATIONS.len();

/// Instants are whole milliseconds since 1970 (`_ms`); incidents and JSON are text as the rest of Horus writes them.
///
/// No table refers to another by a foreign key: after a time without a disk, rows may arrive whose incident's opening
/// was dropped, and a half story is better than none.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE event (
        seq        INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms      INTEGER NOT NULL,
        subject    TEXT    NOT NULL,
        generation INTEGER,
        incident   TEXT,
        what       TEXT    NOT NULL
    ) STRICT;
    CREATE INDEX event_by_subject  ON event (subject, seq);
    CREATE INDEX event_by_incident ON event (incident, seq) WHERE incident IS NOT NULL;
    CREATE INDEX event_by_age      ON event (at_ms);

    CREATE TABLE incident (
        id        TEXT    PRIMARY KEY,
        subject   TEXT    NOT NULL,
        kind      TEXT    NOT NULL,
        severity  INTEGER NOT NULL CHECK (severity BETWEEN 0 AND 2),
        reason    TEXT    NOT NULL,
        opened_ms INTEGER NOT NULL,
        closed_ms INTEGER,
        outcome   TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX incident_by_opening ON incident (opened_ms);
    CREATE INDEX incident_open       ON incident (opened_ms) WHERE closed_ms IS NULL;

    CREATE TABLE outbox (
        incident          TEXT    NOT NULL,
        sink              TEXT    NOT NULL,
        notice            TEXT    NOT NULL,
        wanted_version    INTEGER NOT NULL,
        needs_you         INTEGER NOT NULL CHECK (needs_you IN (0, 1)),
        happened_ms       INTEGER NOT NULL,
        opened_ms         INTEGER NOT NULL,
        delivered_version INTEGER,
        delivered_ms      INTEGER,
        remote_id         TEXT,
        attempts          INTEGER NOT NULL,
        next_try_ms       INTEGER NOT NULL,
        last_error        TEXT,
        refused           INTEGER NOT NULL CHECK (refused IN (0, 1)),
        settled           INTEGER NOT NULL AS (refused OR coalesce(delivered_version, 0) >= wanted_version) STORED,
        PRIMARY KEY (incident, sink)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX outbox_pending ON outbox (needs_you DESC, opened_ms) WHERE settled = 0;
    CREATE INDEX outbox_by_age  ON outbox (happened_ms);

    CREATE TABLE memory (
        service TEXT    PRIMARY KEY,
        at_ms   INTEGER NOT NULL,
        memory  TEXT    NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE counter (
        name  TEXT    PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    INSERT INTO counter VALUES ('next_incident', 0), ('writes_tried', 0);
", "
    CREATE TABLE digest (
        seq        INTEGER PRIMARY KEY,
        at_ms      INTEGER NOT NULL,
        clock_ms   INTEGER NOT NULL,
        service    TEXT,
        generation INTEGER,
        version    INTEGER NOT NULL,
        what       TEXT    NOT NULL
    ) STRICT;
    CREATE INDEX digest_by_age ON digest (at_ms);
", "
    ALTER TABLE outbox ADD COLUMN rings_version INTEGER;
    ALTER TABLE outbox ADD COLUMN rang_version  INTEGER;
    ALTER TABLE outbox ADD COLUMN begun         INTEGER NOT NULL DEFAULT 0 CHECK (begun IN (0, 1));
    UPDATE outbox SET rings_version = wanted_version WHERE json_extract(notice, '$.loud');
    UPDATE outbox SET rang_version = delivered_version;
"];

/// Why a file cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// SQLite says so, or it is another program's.
    #[error("{0}")]
    Corrupt(String),
    /// A later Horus wrote it.
    #[error("it was written by a newer Horus (schema {found}, this one knows {SCHEMA_VERSION})")]
    Newer { found: i64 },
    /// The file may be good: the disk or a lock is in the way.
    #[error("{0}")]
    Fault(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match error.sqlite_error_code() {
            Some(DatabaseCorrupt | NotADatabase) => Self::Corrupt(error.to_string()),
            _ => Self::Fault(error),
        }
    }
}

/// Opens `path` for writing, checks that it is ours, and brings it to the newest version.
pub(crate) fn connect(path: &Path) -> Result<Connection, Unusable> {
    // The file exists already, with its mode; SQLite gives its -wal and -shm the same one.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let application: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION_ID && (tables > 0 || application != 0) {
        return Err(Unusable::Corrupt(format!(
            "it belongs to another program (application id {application})"
        )));
    }
    if usize::try_from(version).map_or(true, |version| version > SCHEMA_VERSION) {
        return Err(Unusable::Newer { found: version });
    }
    set_up(&connection)?;
    migrate(&mut connection, MIGRATIONS)?;
    Ok(connection)
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    // Takes effect only before the first table exists.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        tracing::warn!(
            mode,
            "the database does not take a write-ahead log; readers will wait for the writer"
        );
    }
    // An acknowledged write survives the loss of power. One fsync serves the whole backlog, so it is never many.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES_KEPT, |_| Ok(()))
}

/// Applies the migrations that `connection` has not seen, each in a transaction of its own.
pub(crate) fn migrate(connection: &mut Connection, migrations: &[&str]) -> rusqlite::Result<()> {
    let seen: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    for (index, migration) in migrations.iter().enumerate().skip(usize::try_from(seen).unwrap_or(0)) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", i64::try_from(index + 1).unwrap_or(i64::MAX))?;
        transaction.commit()?;
    }
    Ok(())
}

/// Opens `path` for reading only.
pub(crate) fn connect_read_only(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(connection: &Connection) -> String {
        let mut statement = connection
            .prepare("SELECT sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' ORDER BY type DESC, name")
            .unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_schema_is_the_one_that_was_reviewed() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, MIGRATIONS).unwrap();
        insta::assert_snapshot!(schema(&connection));
    }

    #[test]
    fn a_file_of_version_1_takes_the_migrations_that_came_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("horus.db");
        let mut old = Connection::open(&path).unwrap();
        set_up(&old).unwrap();
        migrate(&mut old, &MIGRATIONS[..1]).unwrap();
        old.execute("INSERT INTO event (at_ms, subject, what) VALUES (1, 'a', '{}')", []).unwrap();
        old.query_row("SELECT count(*) FROM digest", [], |_| Ok(())).unwrap_err();
        drop(old);
        for _ in 0..2 {
            let connection = connect(&path).unwrap();
            let number = |select: &str| connection.query_row(select, [], |row| row.get::<_, i64>(0)).unwrap();
            assert_eq!(usize::try_from(number("PRAGMA user_version")).unwrap(), SCHEMA_VERSION);
            assert_eq!(number("SELECT count(*) FROM event WHERE subject = 'a'"), 1);
            assert_eq!(number("SELECT count(*) FROM digest"), 0);
        }
    }

    #[test]
    fn a_writer_is_durable_and_gives_space_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("horus.db");
        std::fs::File::create(&path).unwrap();
        let connection = connect(&path).unwrap();
        let number = |name: &str| -> i64 {
            connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).unwrap()
        };
        assert_eq!(
            (number("synchronous"), number("auto_vacuum"), number("application_id")),
            (2, 2, 0x484F_5253)
        );
        let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }

    #[test]
    fn a_migration_that_fails_leaves_no_trace() {
        let mut connection = Connection::open_in_memory().unwrap();
        let broken = [MIGRATIONS[0], "CREATE TABLE more (n INTEGER) STRICT; CREATE TABLE event (n INTEGER)"];
        migrate(&mut connection, &broken).unwrap_err();
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, 1);
        assert!(!schema(&connection).contains("more"));
    }
}
