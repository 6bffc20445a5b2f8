//! The memory of the pipeline: which slots are served, and how far each item got.
//!
//! SQLite in WAL mode with `synchronous = FULL`: when a method returns, its transaction is on the disk, and a torn tail
//! of the log is found by its checksums and dropped. The journal is always written *before* an effect (intent) and
//! *after* it (marker), never instead of it.
//!
//! A journal that cannot be read any more is set aside, not repaired: the output folder knows what was published (see
//! [`crate::folder`]), so losing the journal costs history and never a second publication.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, Transaction, params};
use serde::Serialize;

use crate::generator::{Draft, Research};
use crate::item::{RunId, State};
use crate::slot::{Missed, Slot};
use crate::topic::{InvalidTopic, Topic};

/// The version of the schema that this program reads and writes.
pub const SCHEMA_VERSION: i64 = 1;
/// Most items that are on their way at once; a slot beyond that is recorded as missed.
pub const QUEUE_LIMIT: usize = 32;
/// How many finished items the journal keeps.
pub const FINISHED_KEPT: u32 = 2000;
/// How many gaps of missed slots the journal keeps.
pub const MISSED_KEPT: u32 = 500;
/// How long a statement waits for a reader that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
const FILE: &str = "journal.sqlite3";

/// What the journal could not do.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Full or read-only disk, a lock: retried.
    #[error("the journal cannot be used: {0}")]
    Storage(String),
    /// The file is no journal any more.
    #[error("the journal is damaged: {0}")]
    Damaged(String),
    /// Written by a newer program.
    #[error(
        "the journal has schema version {found}; this program knows {SCHEMA_VERSION}: start the newer program or use another --state"
    )]
    Newer {
        /// Its version.
        found: i64,
    },
    /// A row that says something impossible.
    #[error("the journal holds an impossible {what} for the run {run_id}")]
    Impossible {
        /// Which column.
        what: &'static str,
        /// Which row.
        run_id: String,
    },
}

impl From<rusqlite::Error> for JournalError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error.to_string()),
            _ => Self::Storage(error.to_string()),
        }
    }
}

/// One item with the payload that its next stage needs.
#[derive(Debug, Clone)]
pub struct Item {
    /// Identity.
    pub run_id: RunId,
    /// The slot it serves.
    pub slot: Slot,
    /// For logs.
    pub title: String,
    /// How far it got, with what is true from there on.
    pub progress: Progress,
}

/// How far a live item got. Each variant carries exactly what its next stage needs.
#[derive(Debug, Clone)]
pub enum Progress {
    /// Next: gather.
    Queued(Topic),
    /// Next: synthesise.
    Researched(Research),
    /// Next: format.
    Drafted(Research, Draft),
    /// Next: deliver.
    Validated {
        /// The article.
        markdown: String,
    },
    /// Next: distribute.
    Staged {
        /// Stem of the file names.
        slug: String,
        /// The article.
        markdown: String,
        /// The page.
        html: String,
    },
}

impl Progress {
    /// The state.
    #[must_use]
    pub fn state(&self) -> State {
        match self {
            Self::Queued(_) => State::Queued,
            Self::Researched(_) => State::Researched,
            Self::Drafted(..) => State::Drafted,
            Self::Validated { .. } => State::Validated,
            Self::Staged { .. } => State::Staged,
        }
    }
}

/// One item as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ItemSummary {
    /// Identity.
    pub run_id: String,
    /// Start of the slot, RFC 3339.
    pub slot: String,
    /// The title, or the place of an invalid topic.
    pub title: String,
    /// How far it got.
    pub state: State,
    /// Stem of the published files.
    pub slug: Option<String>,
    /// Why it is quarantined.
    pub reason: Option<String>,
    /// The last change, RFC 3339.
    pub changed: String,
}

/// Slots that nobody served, as people see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissedSummary {
    /// Start of the first one, RFC 3339.
    pub first: String,
    /// Start of the last one, RFC 3339.
    pub last: String,
    /// How many.
    pub slots: i64,
    /// Why.
    pub reason: String,
}

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
}

impl Journal {
    /// Opens `state/journal.sqlite3`, or makes it. A damaged one gives [`JournalError::Damaged`]: see [`set_aside`].
    pub fn open(state: &Path) -> Result<Self, JournalError> {
        let mut connection = Connection::open(state.join(FILE))?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        let health: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if health != "ok" {
            return Err(JournalError::Damaged(health));
        }
        match schema_version(&connection)? {
            0 => {
                let transaction = connection.transaction()?;
                transaction.execute_batch(include_str!("schema.sql"))?;
                transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
                transaction.commit()?;
            }
            SCHEMA_VERSION => (),
            found => return Err(JournalError::Newer { found }),
        }
        Ok(Self { connection })
    }

    /// Opens an existing journal for reading only, also while the pipeline runs; `None` when there is none.
    pub fn open_to_read(state: &Path) -> Result<Option<Self>, JournalError> {
        let path = state.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        match schema_version(&connection)? {
            0 => Ok(None),
            SCHEMA_VERSION => Ok(Some(Self { connection })),
            found => Err(JournalError::Newer { found }),
        }
    }

    /// The latest slot that was decided on, whatever became of it.
    pub fn latest_slot(&self) -> Result<Option<Slot>, JournalError> {
        let second: Option<i64> =
            self.connection.query_row("SELECT max(start_s) FROM slot", [], |row| row.get(0))?;
        Ok(second.and_then(Slot::from_second))
    }

    /// How many topics the rotation has handed out.
    pub fn rotation(&self) -> Result<u64, JournalError> {
        let taken: i64 = self.connection.query_row("SELECT taken FROM rotation", [], |row| row.get(0))?;
        Ok(u64::try_from(taken).unwrap_or(0))
    }

    /// Opens a slot with its topic. `rotation` is the new count of topics handed out.
    pub fn open_slot(
        &mut self,
        slot: Slot,
        topic: &Topic,
        rotation: u64,
        now: Timestamp,
    ) -> Result<RunId, JournalError> {
        let digest = topic.digest();
        let run_id = RunId::derive(&digest, slot);
        let transaction = self.connection.transaction()?;
        transaction.execute(
            "INSERT INTO slot (start_s, outcome) VALUES (?1, 'open')
             ON CONFLICT (start_s) DO UPDATE SET outcome = 'open', reason = NULL WHERE outcome = 'empty'",
            [slot.second()],
        )?;
        transaction.execute(
            "INSERT INTO item (run_id, slot_s, title, state, topic, digest, changed_ms) VALUES (?1, ?2, ?3, 'queued', ?4, ?5, ?6)",
            params![run_id.as_str(), slot.second(), topic.title, json(topic), digest, now.as_millisecond()],
        )?;
        take_topics(&transaction, rotation)?;
        transaction.commit()?;
        Ok(run_id)
    }

    /// Closes a slot that gets no item of its own: the folder already holds a publication (`adopted`), or no topic is
    /// fit to print (`empty`).
    pub fn close_slot(&mut self, slot: Slot, outcome: Closed, reason: &str) -> Result<(), JournalError> {
        let outcome = match outcome {
            Closed::Adopted => "adopted",
            Closed::Empty => "empty",
        };
        self.connection.execute(
            "INSERT INTO slot (start_s, outcome, reason) VALUES (?1, ?2, ?3)
             ON CONFLICT (start_s) DO UPDATE SET outcome = ?2, reason = ?3",
            params![slot.second(), outcome, reason],
        )?;
        Ok(())
    }

    /// Records slots that passed unserved.
    pub fn record_missed(
        &mut self,
        missed: Missed,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        let transaction = self.connection.transaction()?;
        transaction.execute(
            "INSERT OR REPLACE INTO missed (first_s, last_s, slots, reason, noticed_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                missed.first.second(),
                missed.last.second(),
                i64::try_from(missed.count).unwrap_or(i64::MAX),
                reason,
                now.as_millisecond()
            ],
        )?;
        transaction.execute(
            "DELETE FROM missed WHERE first_s NOT IN (SELECT first_s FROM missed ORDER BY first_s DESC LIMIT ?1)",
            [MISSED_KEPT],
        )?;
        // The gap is decided on: the next look starts after it.
        transaction.execute(
            "INSERT OR IGNORE INTO slot (start_s, outcome, reason) VALUES (?1, 'empty', ?2)",
            params![missed.last.second(), reason],
        )?;
        transaction.commit()?;
        Ok(())
    }

    /// Records an invalid topic, once for each content. True when it was not known yet.
    pub fn record_invalid(
        &mut self,
        slot: Slot,
        topic: &InvalidTopic,
        now: Timestamp,
    ) -> Result<bool, JournalError> {
        let known: Option<i64> = self
            .connection
            .query_row(
                "SELECT 1 FROM item WHERE digest = ?1 AND state = 'quarantined' LIMIT 1",
                [&topic.digest],
                |row| row.get(0),
            )
            .optional()?;
        if known.is_some() {
            return Ok(false);
        }
        self.connection.execute(
            "INSERT INTO item (run_id, slot_s, title, state, digest, reason, changed_ms) VALUES (?1, ?2, ?3, 'quarantined', ?4, ?5, ?6)",
            params![
                RunId::derive(&topic.digest, slot).as_str(),
                slot.second(),
                topic.label,
                topic.digest,
                topic.reason(),
                now.as_millisecond()
            ],
        )?;
        Ok(true)
    }

    /// The items on their way, oldest slot first, at most [`QUEUE_LIMIT`].
    pub fn live(&self) -> Result<Vec<Item>, JournalError> {
        let mut statement = self.connection.prepare(
            "SELECT run_id, slot_s, title, state, topic, research, draft, slug, markdown, html FROM item
             WHERE state NOT IN ('published', 'quarantined') ORDER BY slot_s LIMIT ?1",
        )?;
        let limit = i64::try_from(QUEUE_LIMIT).unwrap_or(i64::MAX);
        let rows = statement.query_map([limit], |row| Ok(item_of(row)))?;
        rows.map(|row| row?).collect()
    }

    /// The run that has this slug, quarantined ones aside.
    pub fn slug_owner(&self, slug: &str) -> Result<Option<RunId>, JournalError> {
        let owner: Option<String> = self
            .connection
            .query_row("SELECT run_id FROM item WHERE slug = ?1 AND state <> 'quarantined'", [slug], |row| {
                row.get(0)
            })
            .optional()?;
        Ok(owner.as_deref().map(RunId::from_stored))
    }

    /// queued > researched.
    pub fn researched(
        &mut self,
        run_id: &RunId,
        research: &Research,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        self.advance(
            "UPDATE item SET state = 'researched', research = ?2, changed_ms = ?3 WHERE run_id = ?1 AND state = 'queued'",
            params![run_id.as_str(), json(research), now.as_millisecond()],
            run_id,
        )
    }

    /// researched > drafted.
    pub fn drafted(&mut self, run_id: &RunId, draft: &Draft, now: Timestamp) -> Result<(), JournalError> {
        self.advance(
            "UPDATE item SET state = 'drafted', draft = ?2, changed_ms = ?3 WHERE run_id = ?1 AND state = 'researched'",
            params![run_id.as_str(), json(draft), now.as_millisecond()],
            run_id,
        )
    }

    /// drafted > validated.
    pub fn validated(
        &mut self,
        run_id: &RunId,
        slug: &str,
        markdown: &str,
        now: Timestamp,
    ) -> Result<(), JournalError> {
        self.advance(
            "UPDATE item SET state = 'validated', slug = ?2, markdown = ?3, changed_ms = ?4 WHERE run_id = ?1 AND state = 'drafted'",
            params![run_id.as_str(), slug, markdown, now.as_millisecond()],
            run_id,
        )
    }

    /// validated > staged.
    pub fn staged(&mut self, run_id: &RunId, html: &str, now: Timestamp) -> Result<(), JournalError> {
        self.advance(
            "UPDATE item SET state = 'staged', html = ?2, changed_ms = ?3 WHERE run_id = ?1 AND state = 'validated'",
            params![run_id.as_str(), html, now.as_millisecond()],
            run_id,
        )
    }

    /// The row that comes before the effect. Made once; a second attempt finds the first one's.
    pub fn intend(&mut self, run_id: &RunId, slot: Slot, now: Timestamp) -> Result<(), JournalError> {
        self.connection.execute(
            "INSERT INTO intent (run_id, slot_s, made_ms) VALUES (?1, ?2, ?3) ON CONFLICT (run_id) DO NOTHING",
            params![run_id.as_str(), slot.second(), now.as_millisecond()],
        )?;
        Ok(())
    }

    /// staged > published: the marker, only after the sink acknowledged. Also drops the oldest finished items.
    pub fn published(&mut self, run_id: &RunId, slot: Slot, now: Timestamp) -> Result<(), JournalError> {
        let transaction = self.connection.transaction()?;
        let changed = transaction.execute(
            "UPDATE item SET state = 'published', changed_ms = ?2 WHERE run_id = ?1 AND state = 'staged'
             AND EXISTS (SELECT 1 FROM intent WHERE intent.run_id = ?1)",
            params![run_id.as_str(), now.as_millisecond()],
        )?;
        expect_one(changed, run_id)?;
        transaction.execute("UPDATE slot SET outcome = 'published' WHERE start_s = ?1", [slot.second()])?;
        prune(&transaction)?;
        transaction.commit()?;
        Ok(())
    }

    /// Any live state > quarantined. Its slot is vacant then: see [`Journal::vacant_slots`].
    pub fn quarantine(&mut self, run_id: &RunId, reason: &str, now: Timestamp) -> Result<(), JournalError> {
        let transaction = self.connection.transaction()?;
        let changed = transaction.execute(
            "UPDATE item SET state = 'quarantined', reason = ?2, changed_ms = ?3 WHERE run_id = ?1
             AND state NOT IN ('published', 'quarantined')",
            params![run_id.as_str(), reason, now.as_millisecond()],
        )?;
        expect_one(changed, run_id)?;
        transaction.execute("DELETE FROM intent WHERE run_id = ?1", [run_id.as_str()])?;
        transaction.commit()?;
        Ok(())
    }

    /// Slots that are open without an item on its way: their item was quarantined and the next topic is due.
    pub fn vacant_slots(&self) -> Result<Vec<Slot>, JournalError> {
        let mut statement = self.connection.prepare(
            "SELECT start_s FROM slot WHERE outcome = 'open'
             AND NOT EXISTS (SELECT 1 FROM item WHERE slot_s = start_s AND state <> 'quarantined')
             ORDER BY start_s LIMIT ?1",
        )?;
        let limit = i64::try_from(QUEUE_LIMIT).unwrap_or(i64::MAX);
        let seconds = statement.query_map([limit], |row| row.get::<_, i64>(0))?;
        let slots: Result<Vec<Option<Slot>>, _> =
            seconds.map(|second| second.map(Slot::from_second)).collect();
        Ok(slots?.into_iter().flatten().collect())
    }

    /// True when this slot already turned away this topic content.
    pub fn was_tried(&self, run_id: &RunId) -> Result<bool, JournalError> {
        let found: Option<i64> = self
            .connection
            .query_row("SELECT 1 FROM item WHERE run_id = ?1", [run_id.as_str()], |row| row.get(0))
            .optional()?;
        Ok(found.is_some())
    }

    /// How many items are on their way.
    pub fn queue_length(&self) -> Result<u64, JournalError> {
        let count: i64 = self.connection.query_row(
            "SELECT count(*) FROM item WHERE state NOT IN ('published', 'quarantined')",
            [],
            |row| row.get(0),
        )?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The newest items, newest slot first.
    pub fn newest(&self, limit: usize) -> Result<Vec<ItemSummary>, JournalError> {
        let mut statement = self.connection.prepare(
            "SELECT run_id, slot_s, title, state, slug, reason, changed_ms FROM item
             ORDER BY slot_s DESC, rowid DESC LIMIT ?1",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map([limit], |row| {
            let state: String = row.get(3)?;
            Ok(ItemSummary {
                run_id: row.get(0)?,
                slot: date_of(row.get(1)?),
                title: row.get(2)?,
                state: State::from_word(&state).unwrap_or(State::Quarantined),
                slug: row.get(4)?,
                reason: row.get(5)?,
                changed: Timestamp::from_millisecond(row.get(6)?)
                    .map_or_else(|_| String::new(), |at| at.to_string()),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The newest gaps, newest first.
    pub fn missed(&self, limit: usize) -> Result<Vec<MissedSummary>, JournalError> {
        let mut statement = self
            .connection
            .prepare("SELECT first_s, last_s, slots, reason FROM missed ORDER BY first_s DESC LIMIT ?1")?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map([limit], |row| {
            Ok(MissedSummary {
                first: date_of(row.get(0)?),
                last: date_of(row.get(1)?),
                slots: row.get(2)?,
                reason: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn advance(
        &mut self,
        statement: &str,
        parameters: &[&dyn rusqlite::ToSql],
        run_id: &RunId,
    ) -> Result<(), JournalError> {
        expect_one(self.connection.prepare(statement)?.execute(parameters)?, run_id)
    }
}

/// How a slot without an item ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The output folder already holds its publication.
    Adopted,
    /// There is nothing fit to print.
    Empty,
}

/// Renames a damaged journal and its companions out of the way, and returns the new name. Nothing is deleted.
pub fn set_aside(state: &Path, now: Timestamp) -> Result<PathBuf, std::io::Error> {
    let stamp = now.strftime("%Y%m%dt%H%M%S%3fz").to_string();
    let aside = state.join(format!("{FILE}.damaged-{stamp}"));
    for suffix in ["-wal", "-shm"] {
        let companion = state.join(format!("{FILE}{suffix}"));
        if companion.exists() {
            std::fs::rename(&companion, state.join(format!("{FILE}.damaged-{stamp}{suffix}")))?;
        }
    }
    std::fs::rename(state.join(FILE), &aside)?;
    Ok(aside)
}

fn schema_version(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn take_topics(transaction: &Transaction<'_>, taken: u64) -> Result<(), rusqlite::Error> {
    let taken = i64::try_from(taken).unwrap_or(0);
    transaction.execute("UPDATE rotation SET taken = ?1", [taken])?;
    Ok(())
}

/// An item that is not in the state that its stage started from was changed by somebody else.
fn expect_one(changed: usize, run_id: &RunId) -> Result<(), JournalError> {
    if changed == 1 {
        Ok(())
    } else {
        Err(JournalError::Impossible { what: "state", run_id: run_id.to_string() })
    }
}

fn prune(transaction: &Transaction<'_>) -> Result<(), rusqlite::Error> {
    transaction.execute(
        "DELETE FROM item WHERE state IN ('published', 'quarantined') AND slot_s <
         (SELECT slot_s FROM item WHERE state IN ('published', 'quarantined') ORDER BY slot_s DESC LIMIT 1 OFFSET ?1)",
        [FINISHED_KEPT],
    )?;
    transaction.execute(
        "DELETE FROM slot WHERE outcome <> 'open' AND start_s < (SELECT min(slot_s) FROM item)
         AND start_s < (SELECT max(start_s) FROM slot)",
        [],
    )?;
    Ok(())
}

fn item_of(row: &Row<'_>) -> Result<Item, JournalError> {
    let run_id: String = row.get(0)?;
    let impossible = |what| JournalError::Impossible { what, run_id: run_id.clone() };
    let slot = Slot::from_second(row.get(1)?).ok_or_else(|| impossible("slot"))?;
    let state: String = row.get(3)?;
    let text = |index: usize, what: &'static str| -> Result<String, JournalError> {
        row.get::<_, Option<String>>(index)?.ok_or_else(|| impossible(what))
    };
    let research = || read_json(&text(5, "research")?, || impossible("research"));
    let progress = match State::from_word(&state) {
        Some(State::Queued) => Progress::Queued(read_json(&text(4, "topic")?, || impossible("topic"))?),
        Some(State::Researched) => Progress::Researched(research()?),
        Some(State::Drafted) => {
            Progress::Drafted(research()?, read_json(&text(6, "draft")?, || impossible("draft"))?)
        }
        Some(State::Validated) => Progress::Validated { markdown: text(8, "markdown")? },
        Some(State::Staged) => Progress::Staged {
            slug: text(7, "slug")?,
            markdown: text(8, "markdown")?,
            html: text(9, "html")?,
        },
        Some(State::Published | State::Quarantined) | None => return Err(impossible("state")),
    };
    let run_id = RunId::from_stored(&run_id);
    Ok(Item { run_id, slot, title: row.get(2)?, progress })
}

fn read_json<T: serde::de::DeserializeOwned>(
    text: &str,
    impossible: impl FnOnce() -> JournalError,
) -> Result<T, JournalError> {
    serde_json::from_str(text).map_err(|_| impossible())
}

/// The stored types have string keys and no floats, so this cannot fail; an empty text would be found when it is read.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn date_of(second: i64) -> String {
    Slot::from_second(second).map_or_else(|| second.to_string(), |slot| slot.to_string())
}
