//! Rows to SQL and back.

use horus_core::command::Memory;
use horus_core::digest::{DIGEST_VERSION, Row as DigestRow};
use horus_core::event::{Event, What};
use horus_core::ids::{Generation, IncidentId, ServiceName, SinkName};
use horus_core::plan::Severity;
use horus_core::record::{IncidentRecord, Recorded};
use jiff::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backlog::{EventRow, IncidentChange};
use crate::limits::{DIGEST_BYTES_MAX, INCIDENT_GAP_MAX};
use crate::outbox::{Delivered, Key, Row};

/// What happened to one row that was to be written.
pub(crate) enum Written {
    /// It is part of the transaction.
    Yes,
    /// SQLite refuses this row and would refuse it again (a constraint, a size): it is given up, the rest goes on.
    Never(rusqlite::Error),
}

/// Tells a fault of the disk (`Err`: try again later) from a row that can never be written.
pub(crate) fn sort_out(result: rusqlite::Result<()>) -> rusqlite::Result<Written> {
    use rusqlite::ErrorCode::{ConstraintViolation, ParameterOutOfRange, TooBig, TypeMismatch};
    match result {
        Ok(()) => Ok(Written::Yes),
        Err(error) => match error.sqlite_error_code() {
            Some(ConstraintViolation | ParameterOutOfRange | TooBig | TypeMismatch) => {
                Ok(Written::Never(error))
            }
            None if !matches!(error, rusqlite::Error::SqliteFailure(..)) => Ok(Written::Never(error)),
            _ => Err(error),
        },
    }
}

/// Milliseconds since 1970, as they are stored.
pub(crate) fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// `at` as it reads back from the disk.
pub(crate) fn whole_millis(at: Timestamp) -> Timestamp {
    instant(at.as_millisecond())
}

fn instant(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn version(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// A unit variant's word, without the quotes.
fn word<T: Serialize>(value: &T) -> String {
    json(value).trim_matches('"').to_owned()
}

fn from_word<T: DeserializeOwned>(word: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(word.to_owned())).ok()
}

/// A text, whatever its bytes: SQLite takes any for one, and a bit that a disk has turned must not hide the other rows.
fn text(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    })
}

/// A stored text that this Horus cannot read.
fn unreadable(column: usize, what: &str) -> rusqlite::Error {
    let text = format!("unreadable {what}");
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, text.into())
}

fn severity_number(severity: Severity) -> i64 {
    match severity {
        Severity::Info => 0,
        Severity::Warning => 1,
        Severity::Critical => 2,
    }
}

fn severity(number: i64) -> Severity {
    match number {
        0 => Severity::Info,
        1 => Severity::Warning,
        _ => Severity::Critical,
    }
}

pub(crate) fn insert_event(sql: &Connection, event: &EventRow) -> rusqlite::Result<()> {
    let mut insert = sql.prepare(
        "INSERT INTO event (at_ms, subject, generation, incident, what) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let incident = event.incident.map(|id| id.to_string());
    let generation = event.generation.map(signed);
    insert.execute(params![millis(event.at), event.subject, generation, incident, event.what])?;
    match (&event.change, event.incident) {
        (Some(change), Some(id)) => change_incident(sql, event, id, change),
        _ => Ok(()),
    }
}

pub(crate) fn insert_digest(sql: &Connection, row: &DigestRow) -> rusqlite::Result<()> {
    let what = json(&row.what);
    if what.len() > DIGEST_BYTES_MAX {
        tracing::warn!(bytes = what.len(), "a row of the digest is too long and is left out");
        return Ok(());
    }
    let mut insert = sql.prepare(
        "INSERT INTO digest (at_ms, clock_ms, service, generation, version, what) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    let (service, generation) = (row.service.as_ref().map(ServiceName::as_str), row.generation);
    let generation = generation.map(|generation| signed(generation.0));
    let (at, clock) = (millis(row.at), signed(row.clock_ms));
    insert.execute(params![at, clock, service, generation, DIGEST_VERSION, what])?;
    Ok(())
}

/// `None`: of a later Horus, or damaged.
pub(crate) fn digest(row: &SqlRow<'_>) -> rusqlite::Result<Option<DigestRow>> {
    let (service, generation): (Option<String>, Option<i64>) = (row.get(2)?, row.get(3)?);
    let (version, what): (u32, String) = (row.get(4)?, row.get(5)?);
    let service = service.map(|name| ServiceName::parse(&name)).transpose();
    let what = serde_json::from_str(&what);
    let (Ok(service), Ok(what), true) = (service, what, version <= DIGEST_VERSION) else { return Ok(None) };
    let generation = generation.map(|number| Generation(unsigned(number)));
    let (at, clock_ms) = (instant(row.get(0)?), unsigned(row.get(1)?));
    Ok(Some(DigestRow { at, clock_ms, service, generation, what }))
}

/// The columns that [`digest`] reads.
pub(crate) const DIGEST_COLUMNS: &str = "at_ms, clock_ms, service, generation, version, what";

fn change_incident(
    sql: &Connection,
    event: &EventRow,
    id: IncidentId,
    change: &IncidentChange,
) -> rusqlite::Result<()> {
    match change {
        IncidentChange::Opened { kind, severity, reason } => {
            // A second opening makes an open incident worse; after the first million incidents it may also be
            // another one that has been given the same id, and then it is written over the old one.
            sql.execute(
                "INSERT INTO incident (id, subject, kind, severity, reason, opened_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (id) DO UPDATE SET
                    subject = excluded.subject, kind = excluded.kind, reason = excluded.reason,
                    severity = iif(closed_ms IS NULL, max(severity, excluded.severity), excluded.severity),
                    opened_ms = iif(closed_ms IS NULL, opened_ms, excluded.opened_ms),
                    closed_ms = NULL, outcome = NULL",
                params![
                    id.to_string(),
                    event.subject,
                    word(kind),
                    severity_number(*severity),
                    reason,
                    millis(event.at)
                ],
            )?;
            count_incident(sql, id)
        }
        IncidentChange::Closed { outcome } => {
            sql.execute(
                "UPDATE incident SET closed_ms = ?2, outcome = ?3 WHERE id = ?1 AND closed_ms IS NULL",
                params![id.to_string(), millis(event.at), word(outcome)],
            )?;
            Ok(())
        }
    }
}

/// Moves the counter behind `id`. Numbers may be missing: openings that were dropped while the disk took no writes.
fn count_incident(sql: &Connection, id: IncidentId) -> rusqlite::Result<()> {
    let next = next_incident(sql)?;
    let number = (next..next.saturating_add(INCIDENT_GAP_MAX)).find(|&n| IncidentId::nth(n) == id);
    if let Some(number) = number {
        set_next_incident(sql, number.saturating_add(1))?;
    }
    Ok(())
}

pub(crate) fn next_incident(sql: &Connection) -> rusqlite::Result<u64> {
    sql.query_row("SELECT value FROM counter WHERE name = 'next_incident'", [], |row| row.get(0))
        .map(unsigned)
}

pub(crate) fn set_next_incident(sql: &Connection, next: u64) -> rusqlite::Result<()> {
    sql.execute("UPDATE counter SET value = ?1 WHERE name = 'next_incident'", [signed(next)]).map(drop)
}

/// The number that the next event will get.
pub(crate) fn next_seq(sql: &Connection) -> rusqlite::Result<u64> {
    let last: Option<i64> = sql
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'event'", [], |row| row.get(0))
        .optional()?;
    Ok(unsigned(last.unwrap_or(0)).saturating_add(1))
}

pub(crate) fn set_next_seq(sql: &Connection, next: u64) -> rusqlite::Result<()> {
    sql.execute("DELETE FROM sqlite_sequence WHERE name = 'event'", [])?;
    let last = signed(next.saturating_sub(1));
    sql.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('event', ?1)", [last]).map(drop)
}

/// The incident's severity follows its worst notice.
pub(crate) fn raise_severity(sql: &Connection, id: IncidentId, to: Severity) -> rusqlite::Result<()> {
    let change = "UPDATE incident SET severity = max(severity, ?2) WHERE id = ?1 AND closed_ms IS NULL";
    sql.execute(change, params![id.to_string(), severity_number(to)]).map(drop)
}

pub(crate) fn upsert_incident(sql: &Connection, incident: &IncidentRecord) -> rusqlite::Result<()> {
    sql.execute(
        "INSERT OR IGNORE INTO incident VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            incident.id.to_string(),
            incident.subject,
            word(&incident.kind),
            severity_number(incident.severity),
            incident.reason,
            millis(incident.opened_at),
            incident.closed_at.map(millis),
            incident.outcome.as_ref().map(word),
        ],
    )
    .map(drop)
}

pub(crate) fn upsert_memory(
    sql: &Connection,
    service: &ServiceName,
    at: Timestamp,
    memory: &Memory,
) -> rusqlite::Result<()> {
    sql.execute(
        "INSERT INTO memory VALUES (?1, ?2, ?3)
         ON CONFLICT (service) DO UPDATE SET at_ms = excluded.at_ms, memory = excluded.memory",
        params![service.as_str(), millis(at), json(memory)],
    )
    .map(drop)
}

/// All memories that can be read; what cannot is left out with a warning in the log.
pub(crate) fn memories(sql: &Connection) -> rusqlite::Result<Vec<(ServiceName, Timestamp, Memory)>> {
    let mut select = sql.prepare("SELECT service, at_ms, memory FROM memory ORDER BY service")?;
    let mut rows = select.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let service = text(row, 0)?.unwrap_or_default();
        let memory: Result<Memory, _> = serde_json::from_str(&text(row, 2)?.unwrap_or_default());
        match (ServiceName::parse(&service), memory) {
            (Ok(name), Ok(memory)) => found.push((name, instant(row.get(1)?), memory)),
            _ => tracing::warn!(
                service,
                "what was remembered of this service cannot be read; it starts afresh"
            ),
        }
    }
    Ok(found)
}

pub(crate) const EVENT_COLUMNS: &str = "seq, at_ms, subject, generation, incident, what";

/// An event; content that this Horus does not know is shown as text.
pub(crate) fn event(row: &SqlRow<'_>) -> rusqlite::Result<Recorded> {
    let what = text(row, 5)?.unwrap_or_default();
    let what = serde_json::from_str(&what).unwrap_or(What::Horus { text: what });
    Ok(Recorded {
        seq: unsigned(row.get(0)?),
        at: instant(row.get(1)?),
        event: Event {
            subject: text(row, 2)?.unwrap_or_default(),
            generation: row.get::<_, Option<i64>>(3)?.map(|number| Generation(unsigned(number))),
            incident: text(row, 4)?.and_then(|id| IncidentId::parse(&id)),
            what,
        },
    })
}

pub(crate) const INCIDENT_COLUMNS: &str =
    "id, subject, kind, severity, reason, opened_ms, closed_ms, outcome";

pub(crate) fn incident(row: &SqlRow<'_>) -> rusqlite::Result<IncidentRecord> {
    let id: String = row.get(0)?;
    let kind: String = row.get(2)?;
    let outcome: Option<String> = row.get(7)?;
    Ok(IncidentRecord {
        id: IncidentId::parse(&id).ok_or_else(|| unreadable(0, "incident id"))?,
        subject: row.get(1)?,
        kind: from_word(&kind).ok_or_else(|| unreadable(2, "incident kind"))?,
        severity: severity(row.get(3)?),
        reason: row.get(4)?,
        opened_at: instant(row.get(5)?),
        closed_at: row.get::<_, Option<i64>>(6)?.map(instant),
        outcome: outcome.and_then(|word| from_word(&word)),
    })
}

pub(crate) fn upsert_outbox(sql: &Connection, sink: &SinkName, row: &Row) -> rusqlite::Result<()> {
    let delivered = row.delivered.as_ref();
    sql.execute(
        "INSERT INTO outbox (incident, sink, notice, wanted_version, needs_you, happened_ms, opened_ms,
            delivered_version, delivered_ms, remote_id, attempts, next_try_ms, last_error, refused, rings_version, rang_version,
            begun)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
         ON CONFLICT (incident, sink) DO UPDATE SET
            notice = excluded.notice, wanted_version = excluded.wanted_version, needs_you = excluded.needs_you,
            happened_ms = excluded.happened_ms, opened_ms = excluded.opened_ms,
            delivered_version = excluded.delivered_version, delivered_ms = excluded.delivered_ms,
            remote_id = excluded.remote_id, attempts = excluded.attempts, next_try_ms = excluded.next_try_ms,
            last_error = excluded.last_error, refused = excluded.refused,
            rings_version = excluded.rings_version, rang_version = excluded.rang_version, begun = excluded.begun",
        params![
            row.notice.incident.to_string(),
            sink.as_str(),
            json(&row.notice),
            row.notice.version,
            row.notice.needs_you,
            millis(row.happened_at),
            millis(row.opened_at),
            delivered.map(|delivered| delivered.version),
            delivered.map(|delivered| millis(delivered.at)),
            delivered.and_then(|delivered| delivered.remote_id.as_deref()),
            row.attempts,
            millis(row.next_try_at),
            row.last_error,
            row.refused,
            row.rings,
            row.rang,
            row.begun,
        ],
    )
    .map(drop)
}

const OUTBOX_COLUMNS: &str =
    "sink, notice, happened_ms, opened_ms, delivered_version, delivered_ms, remote_id,
    attempts, next_try_ms, last_error, refused, rings_version, rang_version, begun";

fn outbox(row: &SqlRow<'_>) -> rusqlite::Result<(Key, Row)> {
    let sink: String = row.get(0)?;
    let sink = SinkName::parse(&sink).map_err(|_| unreadable(0, "sink name"))?;
    let notice: String = row.get(1)?;
    let notice: horus_core::notice::Notice =
        serde_json::from_str(&notice).map_err(|_| unreadable(1, "notice"))?;
    let delivered = match row.get::<_, Option<i64>>(4)? {
        Some(number) => Some(Delivered {
            version: version(number),
            at: instant(row.get::<_, Option<i64>>(5)?.unwrap_or(0)),
            remote_id: row.get(6)?,
        }),
        None => None,
    };
    let key = (notice.incident, sink);
    let row = Row {
        notice,
        happened_at: instant(row.get(2)?),
        opened_at: instant(row.get(3)?),
        delivered,
        attempts: version(row.get(7)?),
        next_try_at: instant(row.get(8)?),
        last_error: row.get(9)?,
        refused: row.get(10)?,
        rings: row.get::<_, Option<i64>>(11)?.map(version),
        rang: row.get::<_, Option<i64>>(12)?.map(version),
        begun: row.get(13)?,
    };
    Ok((key, row))
}

/// One message's row. A row that this Horus cannot read counts as none.
pub(crate) fn outbox_row(sql: &Connection, (incident, sink): &Key) -> rusqlite::Result<Option<Row>> {
    let select = format!("SELECT {OUTBOX_COLUMNS} FROM outbox WHERE incident = ?1 AND sink = ?2");
    let found = sql.query_row(&select, params![incident.to_string(), sink.as_str()], outbox).optional();
    match found {
        Ok(found) => Ok(found.map(|(_, row)| row)),
        Err(rusqlite::Error::FromSqlConversionFailure(..)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The undelivered rows, the most urgent first.
pub(crate) fn outbox_pending(sql: &Connection, limit: usize) -> rusqlite::Result<Vec<(Key, Row)>> {
    let select = format!(
        "SELECT {OUTBOX_COLUMNS} FROM outbox WHERE settled = 0 ORDER BY needs_you DESC, opened_ms LIMIT {limit}"
    );
    outbox_rows(sql, &select, [])
}

/// All rows of one incident.
pub(crate) fn outbox_of(sql: &Connection, incident: IncidentId) -> rusqlite::Result<Vec<(Key, Row)>> {
    let select = format!("SELECT {OUTBOX_COLUMNS} FROM outbox WHERE incident = ?1 ORDER BY sink");
    outbox_rows(sql, &select, [incident.to_string()])
}

fn outbox_rows(
    sql: &Connection,
    select: &str,
    with: impl rusqlite::Params,
) -> rusqlite::Result<Vec<(Key, Row)>> {
    let mut select = sql.prepare(select)?;
    let mut rows = select.query(with)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        match outbox(row) {
            Ok(row) => found.push(row),
            Err(error) => tracing::warn!(%error, "a message in the outbox cannot be read; it is left alone"),
        }
    }
    Ok(found)
}
