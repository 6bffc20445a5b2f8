//! Reading the digest of a state directory, whether a Horus runs there or not.

use std::path::{Path, PathBuf};

use horus_core::digest::Row;
use jiff::Timestamp;
use rusqlite::Connection;

use crate::open::connect_immutable;
use crate::rows::{self, DIGEST_COLUMNS, millis};
use crate::schema::{APPLICATION_ID, connect_read_only};
use crate::store::DATABASE_FILE;

/// Rows that are read at most; the newest ones. A month of five hundred calm services.
pub const DIGEST_ROWS_MAX: usize = 5_000_000;

/// Why there is nothing to read.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    /// There is no database.
    #[error("there is no database {}", .0.display())]
    Nothing(PathBuf),
    /// An older Horus wrote it, which kept no digest.
    #[error("{} was written by a Horus that kept no record of what it heard", .0.display())]
    TooOld(PathBuf),
    /// The database cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// It is another program's.
    #[error("{} is no database of Horus", .0.display())]
    Foreign(PathBuf),
}

/// A plan is written down at least once a day.
const PLANS_BEFORE_MS: i64 = 25 * 3600 * 1000;

/// What was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DigestRead {
    /// The rows, in the order in which they were written.
    pub rows: Vec<Row>,
    /// Rows that are not understood (a later Horus wrote them) and left out.
    pub unknown: u64,
}

/// Reads what was heard since `since` from the database of the state directory `directory`. Writes nothing, and holds
/// up nobody: the writer of a running Horus does not wait for readers.
///
/// The last plan of each service from before `since` is among the rows, so that its thresholds are known.
///
/// # Errors
/// [`DigestError`]
pub fn read_digest(directory: &Path, since: Timestamp) -> Result<DigestRead, DigestError> {
    let path = directory.join(DATABASE_FILE);
    if !path.exists() {
        return Err(DigestError::Nothing(path));
    }
    let unreadable = |source| DigestError::Unreadable { path: path.clone(), source };
    let open =
        |sql: rusqlite::Result<Connection>| sql.and_then(|sql| application(&sql).map(|found| (sql, found)));
    // Without the right to write beside it, SQLite cannot open a database that keeps a write-ahead log.
    let (sql, found) =
        open(connect_read_only(&path)).or_else(|_| open(connect_immutable(&path))).map_err(unreadable)?;
    if found != APPLICATION_ID {
        return Err(DigestError::Foreign(path));
    }
    let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'digest'";
    if sql.query_row(tables, [], |row| row.get::<_, i64>(0)).map_err(unreadable)? == 0 {
        return Err(DigestError::TooOld(path));
    }
    select(&sql, millis(since)).map_err(unreadable)
}

fn application(sql: &Connection) -> rusqlite::Result<i32> {
    sql.query_row("PRAGMA application_id", [], |row| row.get(0))
}

fn select(sql: &Connection, since: i64) -> rusqlite::Result<DigestRead> {
    let limit = i64::try_from(DIGEST_ROWS_MAX).unwrap_or(i64::MAX);
    let mut read = DigestRead::default();
    let mut take = |statement: &str, parameters: &[i64]| -> rusqlite::Result<()> {
        let mut statement = sql.prepare(statement)?;
        let mut found = statement.query(rusqlite::params_from_iter(parameters))?;
        while let Some(row) = found.next()? {
            match rows::digest(row)? {
                Some(row) => read.rows.push(row),
                None => read.unknown += 1,
            }
        }
        Ok(())
    };
    take(
        &format!(
            "SELECT {DIGEST_COLUMNS} FROM digest WHERE seq IN (
                SELECT max(seq) FROM digest WHERE at_ms BETWEEN ?1 AND ?2 AND what LIKE '{{\"planned\"%' GROUP BY service)
             ORDER BY seq"
        ),
        &[since.saturating_sub(PLANS_BEFORE_MS), since.saturating_sub(1)],
    )?;
    take(
        &format!(
            "SELECT * FROM (SELECT {DIGEST_COLUMNS}, seq FROM digest WHERE at_ms >= ?1 ORDER BY seq DESC LIMIT ?2)
             ORDER BY seq"
        ),
        &[since, limit],
    )?;
    Ok(read)
}
