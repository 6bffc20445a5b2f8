//! Retention: what is old goes, in steps small enough that nobody waits for them.
//!
//! An incident's story goes as one: its events and messages stay as long as its row, and its row stays while it is
//! open and for `retention` after its end. Memories stay for ever: there is one per service name, and a hold must not
//! lapse because nothing has changed for a month.

use std::time::Duration;

use horus_core::ids::SinkName;
use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::limits::{PRUNE_EVERY, PRUNE_ROWS, VACUUM_PAGES};
use crate::rows::millis;
use crate::store::Shared;

/// Between two steps of the same round.
const PAUSE: Duration = Duration::from_millis(50);

/// Which step is next. The order matters: stories are held by their incidents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Prune {
    #[default]
    Incidents,
    Events,
    Messages,
    Digest,
    LostSinks,
    Pages,
}

impl Prune {
    /// Does one step. Returns when the next one is due.
    pub(crate) fn step(
        &mut self,
        shared: &Shared,
        sql: &mut Connection,
        kept_since: Timestamp,
    ) -> rusqlite::Result<Duration> {
        let before = millis(kept_since);
        let (more, next) = match self {
            Self::Incidents => (delete(sql, INCIDENTS, before)?, Self::Events),
            Self::Events => (delete(sql, EVENTS, before)?, Self::Messages),
            Self::Messages => (delete(sql, MESSAGES, before)?, Self::Digest),
            Self::Digest => (delete(sql, DIGEST, before)?, Self::LostSinks),
            Self::LostSinks => (forget_lost_sinks(shared, sql, kept_since)?, Self::Pages),
            Self::Pages => (give_pages_back(sql)?, Self::Incidents),
        };
        if more {
            return Ok(PAUSE);
        }
        *self = next;
        Ok(if next == Self::Incidents { PRUNE_EVERY } else { PAUSE })
    }
}

const INCIDENTS: &str = "DELETE FROM incident WHERE id IN (
    SELECT id FROM incident WHERE closed_ms < ?1 ORDER BY opened_ms LIMIT ?2)";

const EVENTS: &str = "DELETE FROM event WHERE seq IN (
    SELECT seq FROM event WHERE at_ms < ?1 AND NOT EXISTS (SELECT 1 FROM incident WHERE id = event.incident)
    ORDER BY at_ms LIMIT ?2)";

const MESSAGES: &str = "DELETE FROM outbox WHERE (incident, sink) IN (
    SELECT incident, sink FROM outbox WHERE settled = 1 AND happened_ms < ?1
        AND NOT EXISTS (SELECT 1 FROM incident WHERE id = outbox.incident)
    ORDER BY happened_ms LIMIT ?2)";

const DIGEST: &str = "DELETE FROM digest WHERE seq IN (
    SELECT seq FROM digest WHERE at_ms < ?1 ORDER BY at_ms LIMIT ?2)";

/// True if there may be more.
fn delete(sql: &Connection, statement: &str, before: i64) -> rusqlite::Result<bool> {
    let deleted = sql.execute(statement, params![before, PRUNE_ROWS])?;
    Ok(i64::try_from(deleted).is_ok_and(|deleted| deleted >= PRUNE_ROWS))
}

/// Undelivered messages for sinks that nobody serves in this life of Horus: they have left the plan.
fn forget_lost_sinks(shared: &Shared, sql: &Connection, kept_since: Timestamp) -> rusqlite::Result<bool> {
    let before = millis(kept_since);
    let mut select =
        sql.prepare("SELECT DISTINCT sink FROM outbox WHERE settled = 0 AND happened_ms < ?1")?;
    let sinks = select.query_map([before], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    for name in sinks {
        let sink = SinkName::parse(&name).ok();
        if sink.as_ref().is_some_and(|sink| shared.lock().outbox.has_asked(sink)) {
            continue;
        }
        sql.execute(
            "DELETE FROM outbox WHERE sink = ?1 AND settled = 0 AND happened_ms < ?2",
            params![name, before],
        )?;
        if let Some(sink) = sink {
            shared.lock().outbox.forget_older(&sink, kept_since);
        }
    }
    Ok(false)
}

/// Gives free pages back to the file system; a few are kept for the next writes.
fn give_pages_back(sql: &Connection) -> rusqlite::Result<bool> {
    let free = |sql: &Connection| sql.query_row("PRAGMA freelist_count", [], |row| row.get::<_, i64>(0));
    let before = free(sql)?;
    if before <= VACUUM_PAGES {
        return Ok(false);
    }
    // The pragma frees one page per step.
    let mut vacuum = sql.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    let after = free(sql)?;
    Ok(after < before && after > VACUUM_PAGES)
}
