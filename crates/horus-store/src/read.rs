//! Reading. A reader never waits for the writer and the writer never waits for a reader.

use std::path::Path;
use std::sync::Arc;

use horus_core::ids::IncidentId;
use horus_core::outbox::DeliveryState;
use horus_core::record::{IncidentRecord, Recorded};
use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use crate::limits::QUERY_ROWS_MAX;
use crate::rows::{self, EVENT_COLUMNS, INCIDENT_COLUMNS};
use crate::schema::connect_read_only;
use crate::store::{DATABASE_FILE, Shared};

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database cannot be opened.
    #[error("the database cannot be opened")]
    Open(#[source] rusqlite::Error),
    /// The database does not answer.
    #[error("the database cannot be read")]
    Query(#[from] rusqlite::Error),
}

/// The schema of the database in the state directory `dir`; `None` if there is no database yet. Changes nothing, and a
/// Horus may work on it meanwhile. Compare with [`crate::SCHEMA_VERSION`].
///
/// # Errors
/// It is there and cannot be read.
pub fn schema_of(dir: &Path) -> Result<Option<u32>, ReadError> {
    let path = dir.join(DATABASE_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let sql = connect_read_only(&path).map_err(ReadError::Open)?;
    Ok(Some(sql.query_row("PRAGMA user_version", [], |row| row.get(0))?))
}

/// Which events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Only about this service, monitor, or `horus`.
    pub subject: Option<String>,
    /// Only of this incident.
    pub incident: Option<IncidentId>,
    /// Only later than this one. Together with [`crate::StoreOptions::on_commit`] this follows the journal.
    pub after_seq: Option<u64>,
    /// Only earlier than this one.
    pub before_seq: Option<u64>,
    /// At most so many; 0 or more than [`QUERY_ROWS_MAX`] means that limit.
    pub limit: u32,
    /// The newest first. Otherwise the oldest first.
    pub newest_first: bool,
}

/// How large the memory of Horus is.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SizeReport {
    /// Bytes of the database file.
    pub database_bytes: u64,
    /// Bytes of its write-ahead log.
    pub log_bytes: u64,
    /// Bytes in the database file that hold nothing.
    pub free_bytes: u64,
    /// Journal rows.
    pub events: u64,
    /// Incidents.
    pub incidents: u64,
    /// Messages, delivered ones included.
    pub messages: u64,
    /// The time of the oldest journal row.
    pub oldest_event_at: Option<Timestamp>,
}

/// A connection for reading. Its methods block for as long as the disk does: call them on a blocking thread.
#[derive(Debug)]
pub struct Reader {
    sql: Connection,
    shared: Arc<Shared>,
}

fn limited(limit: u32) -> u32 {
    if limit == 0 { QUERY_ROWS_MAX } else { limit.min(QUERY_ROWS_MAX) }
}

impl Reader {
    pub(crate) fn open(shared: Arc<Shared>) -> Result<Self, ReadError> {
        let sql = connect_read_only(&shared.path).map_err(ReadError::Open)?;
        Ok(Self { sql, shared })
    }

    /// Journal rows. What waits for a faulty disk is not among them yet.
    ///
    /// # Errors
    /// If the database does not answer.
    pub fn events(&self, query: &EventQuery) -> Result<Vec<Recorded>, ReadError> {
        let mut conditions = Vec::new();
        let mut values: Vec<Value> = Vec::new();
        let mut only = |condition: &str, value: Value| {
            values.push(value);
            conditions.push(format!("{condition} ?{}", values.len()));
        };
        let seq = |seq: u64| Value::Integer(i64::try_from(seq).unwrap_or(i64::MAX));
        if let Some(subject) = &query.subject {
            only("subject =", Value::Text(subject.clone()));
        }
        if let Some(incident) = query.incident {
            only("incident =", Value::Text(incident.to_string()));
        }
        if let Some(after) = query.after_seq {
            only("seq >", seq(after));
        }
        if let Some(before) = query.before_seq {
            only("seq <", seq(before));
        }
        let filter = if conditions.is_empty() { "1".to_owned() } else { conditions.join(" AND ") };
        let order = if query.newest_first { "DESC" } else { "ASC" };
        let limit = limited(query.limit);
        let select =
            format!("SELECT {EVENT_COLUMNS} FROM event WHERE {filter} ORDER BY seq {order} LIMIT {limit}");
        let mut select = self.sql.prepare(&select)?;
        let rows = select.query_map(params_from_iter(values), rows::event)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Incidents, the newest first; at most `limit` of them (0 or more than [`QUERY_ROWS_MAX`] means that limit).
    ///
    /// # Errors
    /// If the database does not answer.
    pub fn incidents(&self, open_only: bool, limit: u32) -> Result<Vec<IncidentRecord>, ReadError> {
        Ok(incidents(&self.sql, open_only, limited(limit))?)
    }

    /// One incident.
    ///
    /// # Errors
    /// If the database does not answer.
    pub fn incident(&self, id: IncidentId) -> Result<Option<IncidentRecord>, ReadError> {
        let select = format!("SELECT {INCIDENT_COLUMNS} FROM incident WHERE id = ?1");
        Ok(self.sql.query_row(&select, [id.to_string()], rows::incident).optional()?)
    }

    /// Incidents that owe a rule and have none noted, the oldest first; at most [`QUERY_ROWS_MAX`].
    ///
    /// # Errors
    /// If the database does not answer.
    pub fn debts(&self) -> Result<Vec<IncidentRecord>, ReadError> {
        Ok(debts(&self.sql)?)
    }

    /// Where the messages about one incident stand, by sink.
    ///
    /// # Errors
    /// If the database does not answer.
    pub fn deliveries(&self, incident: IncidentId) -> Result<Vec<DeliveryState>, ReadError> {
        // What is in memory is as new as the disk or newer, and is asked first: a row that is settled and written in
        // between is then on disk.
        let mut states = self.shared.lock().outbox.states(incident);
        for ((_, sink), row) in rows::outbox_of(&self.sql, incident)? {
            if !states.iter().any(|state| state.sink == sink) {
                states.push(row.state(&sink));
            }
        }
        states.sort_by(|a, b| a.sink.cmp(&b.sink));
        Ok(states)
    }

    /// The number of the newest journal row; 0 if there is none.
    ///
    /// # Errors
    /// If the database does not answer.
    pub fn last_seq(&self) -> Result<u64, ReadError> {
        Ok(rows::next_seq(&self.sql)?.saturating_sub(1))
    }

    /// How large everything is. Counts all rows: not for every second.
    ///
    /// # Errors
    /// If the database does not answer.
    pub fn size(&self) -> Result<SizeReport, ReadError> {
        let number = |select: &str| -> Result<u64, ReadError> {
            let found: i64 = self.sql.query_row(select, [], |row| row.get(0))?;
            Ok(u64::try_from(found).unwrap_or(0))
        };
        let oldest: Option<i64> = self.sql.query_row("SELECT min(at_ms) FROM event", [], |row| row.get(0))?;
        let page = number("PRAGMA page_size")?;
        let mut log = self.shared.path.clone().into_os_string();
        log.push("-wal");
        Ok(SizeReport {
            database_bytes: std::fs::metadata(&self.shared.path).map_or(0, |found| found.len()),
            log_bytes: std::fs::metadata(log).map_or(0, |found| found.len()),
            free_bytes: number("PRAGMA freelist_count")?.saturating_mul(page),
            events: number("SELECT count(*) FROM event")?,
            incidents: number("SELECT count(*) FROM incident")?,
            messages: number("SELECT count(*) FROM outbox")?,
            oldest_event_at: oldest.and_then(|millis| Timestamp::from_millisecond(millis).ok()),
        })
    }
}

/// How the content of the event that pays a debt begins.
const RULE_NOTED: &str = r#"{"rule_noted":%"#;

fn debts(sql: &Connection) -> rusqlite::Result<Vec<IncidentRecord>> {
    let mut select = sql.prepare(&format!(
        "SELECT {INCIDENT_COLUMNS} FROM incident WHERE closed_ms IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM event WHERE event.incident = incident.id AND event.what LIKE ?1)
         ORDER BY opened_ms, id"
    ))?;
    let mut rows = select.query([RULE_NOTED])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        match rows::incident(row) {
            Ok(incident) if incident.owes_a_rule() => found.push(incident),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "an incident cannot be read; it is left out"),
        }
        if found.len() >= usize::try_from(QUERY_ROWS_MAX).unwrap_or(usize::MAX) {
            break;
        }
    }
    Ok(found)
}

/// Incidents, the newest first. One that this Horus cannot read is left out with a warning in the log.
pub(crate) fn incidents(
    sql: &Connection,
    open_only: bool,
    limit: u32,
) -> rusqlite::Result<Vec<IncidentRecord>> {
    let filter = if open_only { "WHERE closed_ms IS NULL" } else { "" };
    let select =
        format!("SELECT {INCIDENT_COLUMNS} FROM incident {filter} ORDER BY opened_ms DESC, id LIMIT {limit}");
    let mut select = sql.prepare(&select)?;
    let mut rows = select.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        match rows::incident(row) {
            Ok(incident) => found.push(incident),
            Err(error) => tracing::warn!(%error, "an incident cannot be read; it is left out"),
        }
    }
    Ok(found)
}
