//! The rows of the database.
//!
//! Promised: what was committed reads back equal and in its order; a row that this Horus cannot read costs no other row,
//! neither in the journal nor when Horus begins again; what is remembered survives.

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use horus_core::command::Memory;
use horus_core::event::{Event, What};
use horus_core::ids::{Generation, ServiceName};
use horus_store::{DATABASE_FILE, EVENT_BYTES_MAX, EventQuery, Reader, Store, StoreOptions, Transaction};
use jiff::Timestamp;
use rusqlite::{Connection, params};
use tempfile::TempDir;

use crate::dream::{NAMES, dream};
use crate::source::Source;
use crate::{mutate, now, seeds};

/// Rows of one input.
const ROWS_MAX: usize = 6;
/// Rows in one database: then a fresh one is begun.
const INPUTS_PER_ROOM: u32 = 5_000;
/// The disk may take so long.
const PATIENCE: Duration = Duration::from_secs(60);
const WORDS: [&str; 22] = [
    "judged",
    "exited",
    "reason",
    "rule",
    "text",
    "kind",
    "severity",
    "critical",
    "outcome",
    "took_ms",
    "lifetime_ms",
    "horus",
    "stage",
    "verdict",
    "finding",
    "story",
    "version",
    "null",
    "{}",
    "levitated",
    "\u{0}",
    "\u{202e}",
];

/// A store and a second door to its file.
struct Room {
    store: Store,
    reader: Reader,
    behind: Connection,
    inputs: u32,
    /// Removed last.
    _directory: TempDir,
}

impl Room {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let (store, restored) = Store::open(directory.path(), StoreOptions::default()).expect("a store");
        assert_eq!((restored.note, restored.fault), (None, None), "a fresh directory is a good one");
        let reader = store.reader().expect("a reader");
        let behind = behind(&directory);
        Self { store, reader, behind, inputs: 0, _directory: directory }
    }
}

fn behind(directory: &TempDir) -> Connection {
    let path: PathBuf = directory.path().join(DATABASE_FILE);
    let behind = Connection::open(path).expect("a second connection");
    behind.busy_timeout(PATIENCE).expect("a patient connection");
    behind.pragma_update(None, "synchronous", "OFF").expect("a test need not survive the loss of power");
    behind
}

/// A row as somebody else wrote it: a newer Horus, or a disk that turned a bit.
#[derive(Debug)]
struct Foreign {
    at_ms: i64,
    subject: Vec<u8>,
    generation: Option<i64>,
    incident: Option<Vec<u8>>,
    what: Vec<u8>,
}

/// Dreamed events between rows that are none, in one journal.
pub fn check_rows(bytes: &[u8]) {
    static ROOM: OnceLock<Mutex<Option<Room>>> = OnceLock::new();
    let mut room = ROOM.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    // After a failure the room is not used again: the next input is to be judged by itself.
    let mut taken = room.take().filter(|room| room.inputs < INPUTS_PER_ROOM).unwrap_or_else(Room::new);
    taken.inputs += 1;
    check_rows_in(&taken, bytes);
    *room = Some(taken);
}

fn check_rows_in(room: &Room, bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let before = room.reader.last_seq().expect("the journal can be read");
    let mut expected = Vec::new();
    for _ in 0..=source.below(ROWS_MAX) {
        if source.once_in(2) {
            insert(&room.behind, &foreign(&mut source));
            expected.push(None);
        } else if let Some(mut event) = dream::<Event>(&mut source) {
            // SQLite counts to 2^63 - 1; a service that starts once a nanosecond needs 292 years to get there.
            event.generation =
                event.generation.map(|generation| generation.min(Generation(i64::MAX.unsigned_abs())));
            let transaction =
                Transaction { at: now(), events: vec![event.clone()], ..Transaction::default() };
            room.store.commit(transaction);
            assert!(room.store.flush(PATIENCE), "the disk is slow: {:?}", room.store.fault());
            expected.push(Some(event));
        }
    }
    let query = EventQuery { after_seq: Some(before), limit: 1_000, ..EventQuery::default() };
    let read = room.reader.events(&query).expect("no row stops the reading");
    assert_eq!(read.len(), expected.len(), "a row is missing: {read:?}");
    assert!(
        read.iter().map(|row| row.seq).eq(before + 1..=before + expected.len() as u64),
        "the order is lost"
    );
    for (row, event) in read.iter().zip(&expected) {
        let Some(event) = event else { continue };
        assert_eq!(row.at, now());
        let written = serde_json::to_string(&event.what).expect("an event is JSON");
        match &row.event.what {
            What::Horus { text } if written.len() > EVENT_BYTES_MAX => {
                assert!(text.starts_with("an event of "))
            }
            _ => assert_eq!(row.event, *event, "an event changes when it is stored: {written}"),
        }
    }
}

fn foreign(source: &mut Source<'_>) -> Foreign {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    const BYTES: [&[u8]; 5] = [b"a", b"", b"\xff\xfe", b"H-7F3K", b"a\0b"];
    let seeds = seeds::of(&SEEDS, "journal_what");
    let what = match source.byte() % 4 {
        0 => mutate::text(source, seeds, &WORDS),
        1 => source.take(24).to_vec(),
        _ => mutate::json(source, seeds, &WORDS),
    };
    let number = |source: &mut Source<'_>| source.number().cast_signed();
    Foreign {
        at_ms: number(source),
        subject: source.pick(&BYTES).to_vec(),
        generation: source.once_in(2).then(|| number(source)),
        incident: source.once_in(2).then(|| source.pick(&BYTES).to_vec()),
        what,
    }
}

/// The column types are strict, but SQLite takes any bytes for a text.
fn insert(behind: &Connection, row: &Foreign) {
    let insert = "INSERT INTO event (at_ms, subject, generation, incident, what)
        VALUES (?1, CAST(?2 AS TEXT), ?3, CAST(?4 AS TEXT), CAST(?5 AS TEXT))";
    let values = params![row.at_ms, row.subject, row.generation, row.incident, row.what];
    behind.execute(insert, values).expect("SQLite takes any bytes");
}

/// A text as the content of a row: what can be read is written again and means the same.
pub fn check_what(bytes: &[u8]) {
    if let Ok(what) = serde_json::from_slice::<What>(bytes) {
        let written = serde_json::to_string(&what).expect("an event is JSON");
        let read: What = serde_json::from_str(&written).expect("a written event can be read");
        assert_eq!(read, what, "an event changes when it is stored: {written}");
    }
}

/// A real row, edited.
pub fn check_edited(bytes: &[u8]) {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let seeds = seeds::of(&SEEDS, "journal_what");
    let mut source = Source::new(bytes);
    let as_text = source.once_in(4);
    check_what(&if as_text {
        mutate::text(&mut source, seeds, &WORDS)
    } else {
        mutate::json(&mut source, seeds, &WORDS)
    });
}

/// Horus begins again on a database in which some rows of each table are damaged.
pub fn check_restored(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let directory = tempfile::tempdir().expect("a directory for the test");
    let (store, _) = Store::open(directory.path(), StoreOptions::default()).expect("a store");
    let mut memories = Vec::new();
    for name in NAMES.iter().take(1 + source.below(NAMES.len())) {
        if let Some(memory) = dream::<Memory>(&mut source) {
            memories.push((ServiceName::parse(name).expect("a name"), memory));
        }
    }
    store.commit(Transaction { at: Timestamp::now(), memories: memories.clone(), ..Transaction::default() });
    assert!(store.close(PATIENCE), "the disk is slow");
    drop(store);

    let behind = behind(&directory);
    damage(&mut source, &behind);
    drop(behind);

    let (store, restored) = Store::open(directory.path(), StoreOptions::default()).expect("a store");
    assert_eq!((&restored.note, &restored.fault), (&None, &None), "a bad row is no bad database");
    for (service, memory) in &memories {
        let found = restored.memories.iter().find(|found| found.service == *service);
        let found = found.unwrap_or_else(|| panic!("the memory of {service} is lost beside a bad row"));
        assert_eq!(found.memory, *memory, "a memory changes when it is stored");
    }
    assert!(store.close(PATIENCE), "the disk is slow");
}

/// Adds bad rows to each table. No good one is touched.
fn damage(source: &mut Source<'_>, behind: &Connection) {
    let mut bad = || match source.byte() % 4 {
        0 => b"\xff\xfe".to_vec(),
        1 => b"{}".to_vec(),
        2 => b"H-7F3K".to_vec(),
        _ => source.take(16).to_vec(),
    };
    let statements = [
        "INSERT OR IGNORE INTO memory (service, at_ms, memory) VALUES (CAST(?1 AS TEXT), -1, CAST(?2 AS TEXT))",
        "INSERT OR IGNORE INTO incident (id, subject, kind, severity, reason, opened_ms)
            VALUES (CAST(?1 AS TEXT), CAST(?2 AS TEXT), CAST(?1 AS TEXT), 1, CAST(?2 AS TEXT), 9223372036854775807)",
        "INSERT OR IGNORE INTO outbox (incident, sink, notice, wanted_version, needs_you, happened_ms, opened_ms, attempts, next_try_ms)
            VALUES (CAST(?1 AS TEXT), CAST(?2 AS TEXT), CAST(?1 AS TEXT), 1, 0, -1, -1, -1, -1)",
        "INSERT INTO event (at_ms, subject, what) VALUES (-1, CAST(?1 AS TEXT), CAST(?2 AS TEXT))",
    ];
    for statement in statements {
        let (first, second) = (bad(), bad());
        // A name that is one of ours would be a good row.
        if !NAMES.iter().any(|name| name.as_bytes() == first) {
            behind.execute(statement, params![first, second]).expect("SQLite takes any bytes");
        }
    }
}
