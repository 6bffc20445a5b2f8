//! The store from outside, with a disk that can be made to fail.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use horus_core::event::{Outcome, What};
use horus_core::notice::{IncidentKind, Story};
use horus_core::plan::Severity;
use horus_core::reason::{Reason, Rule};
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::limits::{BACKLOG_EVENTS_MAX, OUTBOX_PENDING_MAX};
use crate::read::EventQuery;
use crate::schema::SCHEMA_VERSION;

mod digest;
mod faults;
mod messages;
mod model;
mod opening;

/// Pause between two tries to write, in tests.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Failsafe for every wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the disk does instead of working.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Every write ends in an I/O error.
    io: AtomicBool,
    /// Held: every write hangs.
    hang: Mutex<()>,
    /// The watch loses its patience early.
    hasty: AtomicBool,
    /// The disk holds so many pages. 0: as many as you like.
    pages: AtomicI64,
}

impl Faults {
    pub(crate) fn is_hasty(&self) -> bool {
        self.hasty.load(Ordering::SeqCst)
    }

    pub(crate) fn inject(&self, sql: &Connection) -> rusqlite::Result<()> {
        drop(self.hang.lock().unwrap());
        let pages = match self.pages.load(Ordering::SeqCst) {
            0 => i64::from(u32::MAX) - 1,
            pages => pages,
        };
        sql.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
        if self.io.load(Ordering::SeqCst) {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_WRITE);
            return Err(rusqlite::Error::SqliteFailure(code, Some("disk I/O error".into())));
        }
        Ok(())
    }
}

pub(crate) fn horus_event(text: &str) -> Event {
    Event {
        subject: "horus".into(),
        generation: None,
        incident: None,
        what: What::Horus { text: text.into() },
    }
}

pub(crate) fn opened(incident: IncidentId) -> Event {
    let what = What::IncidentOpened {
        kind: IncidentKind::Stuck,
        severity: Severity::Warning,
        reason: Reason::new(Rule::Silent, "no fresh tick for 12.4 s, deadline 10 s"),
    };
    Event { subject: "trading".into(), generation: None, incident: Some(incident), what }
}

pub(crate) fn closed(incident: IncidentId) -> Event {
    let what = What::IncidentClosed { outcome: Outcome::HealedByRestart, lasted: Duration::from_secs(94) };
    Event { subject: "trading".into(), generation: None, incident: Some(incident), what }
}

pub(crate) fn transaction(second: i64, events: Vec<Event>) -> Transaction {
    Transaction { at: at(second), events, ..Transaction::default() }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn sink(name: &str) -> SinkName {
    SinkName::parse(name).unwrap()
}

fn notice(incident: IncidentId, version: u32) -> Notice {
    Notice {
        incident,
        version,
        subject: "trading".into(),
        kind: IncidentKind::Stuck,
        severity: Severity::Warning,
        needs_you: false,
        loud: true,
        within: None,
        story: Story::Halted,
    }
}

fn tell(second: i64, to: &str, notice: Notice) -> Transaction {
    Transaction { at: at(second), notices: vec![(sink(to), notice)], ..Transaction::default() }
}

fn delivered(id: &str) -> Delivery {
    Delivery::Delivered { remote_id: Some(id.into()) }
}

fn retry_at(second: i64) -> Delivery {
    Delivery::RetryAt { at: at(second), error: "status 503".into(), in_doubt: false }
}

/// What the callbacks said.
#[derive(Debug, PartialEq)]
enum Said {
    Health(Option<String>),
    Stored(IncidentId, bool),
    Outbox(SinkName),
    Commit(u64),
}

struct Bench {
    store: Store,
    restored: Restored,
    said: Receiver<Said>,
    directory: TempDir,
}

fn options(said: &Sender<Said>) -> StoreOptions {
    let [health, stored, outbox, commit] = [(); 4].map(|()| said.clone());
    StoreOptions {
        retention: Duration::from_secs(3600),
        on_health: Box::new(move |fault| drop(health.send(Said::Health(fault)))),
        on_stored: Box::new(move |incident, persisted| drop(stored.send(Said::Stored(incident, persisted)))),
        on_outbox: Box::new(move |sink| drop(outbox.send(Said::Outbox(sink.clone())))),
        on_commit: Box::new(move |seq| drop(commit.send(Said::Commit(seq)))),
    }
}

impl Bench {
    fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap())
    }

    fn on(directory: TempDir) -> Self {
        let (sender, said) = channel();
        let (store, restored) = Store::open(directory.path(), options(&sender)).unwrap();
        Self { store, restored, said, directory }
    }

    /// A life of Horus later.
    fn reopened(self) -> Self {
        self.store.close(PATIENCE);
        drop(self.store);
        Self::on(self.directory)
    }

    fn flushed(&self) -> &Self {
        assert!(self.store.flush(PATIENCE), "{:?}", self.store.fault());
        self
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(DATABASE_FILE)
    }

    /// Waits for the callback that `wanted` picks; returns it and what was said before it.
    fn wait_for(&self, wanted: impl Fn(&Said) -> bool) -> Vec<Said> {
        let mut heard = Vec::new();
        loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(said) => heard.push(said),
                Err(error) => panic!("{error}; heard {heard:?}"),
            }
            if heard.last().is_some_and(&wanted) {
                return heard;
            }
        }
    }

    fn texts(&self) -> Vec<String> {
        let events = self.store.reader().unwrap().events(&EventQuery::default()).unwrap();
        let text = |what| match what {
            What::Horus { text } => text,
            other => format!("{other:?}"),
        };
        events.into_iter().map(|recorded| text(recorded.event.what)).collect()
    }

    fn kept_aside(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.directory.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.contains(".db.")).collect();
        names.sort();
        names
    }
}

fn held() -> Memory {
    let hold =
        horus_core::command::MemoryHold { reason: "maintenance".into(), age: Duration::ZERO, left: None };
    Memory { version: 1, hold: Some(hold), ..Memory::default() }
}

fn service(name: &str) -> ServiceName {
    ServiceName::parse(name).unwrap()
}

#[test]
fn a_step_is_stored_as_a_whole_and_survives() {
    let bench = Bench::new();
    let id = IncidentId::nth(0);
    assert_eq!((bench.restored.next_seq, bench.restored.next_incident_number), (1, 0));
    bench.store.commit(Transaction {
        at: at(0),
        events: vec![horus_event("started"), opened(id)],
        notices: vec![(sink("ops"), Notice { severity: Severity::Critical, ..notice(id, 1) })],
        memories: vec![(service("trading"), held())],
        confirm: vec![id],
        ..Transaction::default()
    });
    let heard = bench.wait_for(|said| matches!(said, Said::Outbox(_)));
    assert_eq!(heard, [Said::Commit(2), Said::Stored(id, true), Said::Outbox(sink("ops"))]);

    let bench = bench.reopened();
    assert_eq!((bench.restored.next_seq, bench.restored.next_incident_number), (3, 1));
    assert_eq!(bench.restored.memories[0].memory, held());
    assert_eq!(bench.restored.open_incidents.len(), 1);
    assert_eq!((&bench.restored.note, &bench.restored.fault), (&None, &None));
    assert_eq!(
        bench.wait_for(|_| true),
        [Said::Outbox(sink("ops"))],
        "the sink is told of what is left to do"
    );
    assert_eq!(bench.store.due(&sink("ops"), at(0)).unwrap().notice.version, 1);
    let reader = bench.store.reader().unwrap();
    let incident = reader.incident(id).unwrap().unwrap();
    assert_eq!(incident.reason, "no fresh tick for 12.4 s, deadline 10 s");
    assert_eq!((incident.severity, incident.closed_at), (Severity::Critical, None));

    bench.store.commit(transaction(94, vec![closed(id)]));
    bench.flushed();
    let incident = reader.incident(id).unwrap().unwrap();
    assert_eq!((incident.closed_at, incident.outcome), (Some(at(94)), Some(Outcome::HealedByRestart)));
    assert_eq!(reader.incidents(true, 0).unwrap(), []);
    assert_eq!(reader.incidents(false, 0).unwrap(), [incident]);
}

#[test]
fn a_confirmation_comes_after_the_row_can_be_read() {
    let bench = Bench::new();
    let other = Connection::open(bench.path()).unwrap();
    for n in 0..50 {
        let id = IncidentId::nth(n);
        bench.store.commit(Transaction { confirm: vec![id], ..transaction(0, vec![opened(id)]) });
        bench.wait_for(|said| *said == Said::Stored(id, true));
        let found: i64 = other
            .query_row("SELECT count(*) FROM incident WHERE id = ?1", [id.to_string()], |row| row.get(0))
            .unwrap();
        assert_eq!(found, 1, "incident {n}");
    }
}

#[test]
fn events_are_found_by_subject_incident_and_number() {
    let bench = Bench::new();
    let id = IncidentId::nth(3);
    let mixed = (0..10).flat_map(|n| [horus_event(&n.to_string()), opened(id)]);
    bench.store.commit(transaction(0, mixed.collect()));
    bench.flushed();
    let reader = bench.store.reader().unwrap();
    let seqs = |query| -> Vec<u64> { reader.events(&query).unwrap().iter().map(|found| found.seq).collect() };
    assert_eq!(seqs(EventQuery::default()), (1..=20).collect::<Vec<_>>());
    assert_eq!(seqs(EventQuery { limit: 2, newest_first: true, ..Default::default() }), [20, 19]);
    let of_incident =
        EventQuery { incident: Some(id), after_seq: Some(4), before_seq: Some(9), ..Default::default() };
    assert_eq!(seqs(of_incident), [6, 8]);
    assert_eq!(seqs(EventQuery { subject: Some("horus".into()), limit: 2, ..Default::default() }), [1, 3]);
    assert!(seqs(EventQuery { subject: Some("' OR 1 --".into()), ..Default::default() }).is_empty());
    assert_eq!(reader.last_seq().unwrap(), 20);
}

#[test]
fn what_a_newer_horus_wrote_reads_back_as_text() {
    let bench = Bench::new();
    bench.store.commit(transaction(0, vec![horus_event("old")]));
    bench.flushed();
    let other = Connection::open(bench.path()).unwrap();
    let newer = r#"{"teleported":{"to":"mars"}}"#;
    other.execute("INSERT INTO event (at_ms, subject, what) VALUES (1, 'trading', ?1)", [newer]).unwrap();
    assert_eq!(bench.texts(), ["old", newer]);
}

/// Makes the writer do a whole round of retention.
fn prune(bench: &Bench, now: Timestamp) {
    let mut sql = crate::schema::connect(&bench.path()).unwrap();
    let mut step = crate::prune::Prune::default();
    let kept_since = now - Duration::from_secs(3600);
    while step.step(&bench.store.shared, &mut sql, kept_since).unwrap() < crate::limits::PRUNE_EVERY {}
}

#[test]
fn retention_keeps_what_is_open_or_undelivered() {
    let bench = Bench::new();
    let [open, over] = [IncidentId::nth(0), IncidentId::nth(1)];
    let many = (0..1200).map(|_| horus_event("old"));
    bench.store.commit(transaction(0, many.collect()));
    bench.store.commit(transaction(1, vec![opened(open), opened(over), closed(over)]));
    for id in [open, over, IncidentId::nth(2)] {
        bench.store.commit(tell(1, "ops", notice(id, 1)));
        bench.store.commit(tell(1, "gone", notice(id, 1)));
    }
    bench.store.commit(transaction(5000, vec![horus_event("new")]));
    bench.flushed();
    for id in [open, over] {
        bench.store.settle(&sink("ops"), id, 1, delivered("m"), at(1));
    }
    bench.store.due(&sink("ops"), at(1));
    bench.flushed();
    let before = bench.store.reader().unwrap().size().unwrap();
    assert_eq!((before.events, before.incidents, before.messages), (1204, 2, 6));

    prune(&bench, at(5000));
    let reader = bench.store.reader().unwrap();
    let after = reader.size().unwrap();
    assert_eq!((after.events, after.incidents, after.messages), (2, 1, 2));
    assert!(reader.incident(open).unwrap().is_some());
    assert_eq!(reader.deliveries(open).unwrap().len(), 1, "delivered, but the incident is open");
    let pending: Vec<_> =
        bench.store.pending().iter().map(|state| (state.incident, state.sink.clone())).collect();
    assert_eq!(pending, [(IncidentId::nth(2), sink("ops"))]);
    assert!(bench.texts().contains(&"new".to_owned()));
    let next = reader.last_seq().unwrap() + 1;
    drop(reader);
    assert_eq!(bench.reopened().restored.next_seq, next, "numbers are never used again");
}

#[test]
fn a_reader_sees_whole_steps_while_the_writer_writes() {
    let bench = Bench::new();
    let reader = bench.store.reader().unwrap();
    let following = std::thread::spawn(move || {
        let mut seen = 0;
        while seen < 4000 {
            let found = reader.events(&EventQuery { after_seq: Some(seen), ..Default::default() }).unwrap();
            for (expected, recorded) in (seen + 1..).zip(&found) {
                assert_eq!(recorded.seq, expected, "a gap");
            }
            seen += found.len() as u64;
            assert_eq!(seen % 2, 0, "half a step");
        }
    });
    for n in 0..2000 {
        bench.store.commit(transaction(n, vec![horus_event("a"), horus_event("b")]));
    }
    bench.flushed();
    following.join().unwrap();
}

#[test]
fn incident_numbers_go_on_behind_openings_that_were_lost() {
    let bench = Bench::new();
    bench.store.commit(transaction(0, vec![opened(IncidentId::nth(0)), opened(IncidentId::nth(7))]));
    bench.flushed();
    assert_eq!(bench.reopened().restored.next_incident_number, 8);
}

#[test]
fn the_last_handle_ends_the_writer_after_it_has_written() {
    let bench = Bench::new();
    let clone = bench.store.clone();
    for n in 0..100 {
        clone.commit(transaction(n, vec![horus_event("a")]));
    }
    let shared = bench.store.shared.clone();
    drop(clone);
    drop(bench.store);
    let waited =
        shared.progress.wait_timeout_while(shared.lock(), PATIENCE, |state| !state.finished).unwrap();
    assert!(!waited.1.timed_out() && !waited.0.has_work());
}

/// Not a test: run with `--ignored --nocapture` to see what this disk does.
#[test]
#[ignore = "a measurement"]
fn measure() {
    let bench = Bench::new();
    let started = jiff::Timestamp::now();
    let seconds = |since: Timestamp| Timestamp::now().duration_since(since).as_secs_f64();
    for n in 0..500 {
        let id = IncidentId::nth(n);
        bench.store.commit(Transaction { confirm: vec![id], ..transaction(0, vec![opened(id)]) });
        bench.wait_for(|said| *said == Said::Stored(id, true));
    }
    println!("one at a time, FULL: {:.0} transactions/s", 500.0 / seconds(started));
    let started = jiff::Timestamp::now();
    for n in 0..50_000 {
        bench.store.commit(transaction(n, vec![horus_event("tick"), opened(IncidentId::nth(n as u64))]));
        if n % 4000 == 0 {
            bench.flushed();
        }
    }
    bench.flushed();
    println!("grouped, FULL: {:.0} transactions/s of two events", 50_000.0 / seconds(started));
    println!("{:?}", bench.store.reader().unwrap().size().unwrap());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!(
        "{}",
        status
            .lines()
            .filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"))
            .collect::<String>()
    );
    let started = jiff::Timestamp::now();
    let bench = bench.reopened();
    println!("reopen with quick_check: {:.3} s", seconds(started));
    drop(bench);
}

#[test]
fn a_surprise_owes_a_rule_until_one_is_noted_and_again_when_it_comes_again() {
    let bench = Bench::new();
    let store = &bench.store;
    let [first, second, third] = [0, 1, 2].map(IncidentId::nth);
    let note = |incident| Event {
        subject: "trading".into(),
        generation: None,
        incident: Some(incident),
        what: What::RuleNoted { text: "a test in ci".into() },
    };
    let owed = || -> Vec<IncidentId> {
        bench.flushed();
        store.reader().unwrap().debts().unwrap().iter().map(|row| row.id).collect()
    };
    store.commit(transaction(0, vec![opened(first)]));
    assert!(owed().is_empty(), "it is not over");
    store.commit(transaction(9, vec![closed(first), opened(second), closed(second)]));
    assert_eq!(owed(), [first, second]);
    store.commit(transaction(20, vec![note(first), note(second)]));
    assert!(owed().is_empty());
    store.commit(transaction(30, vec![opened(third), closed(third)]));
    assert_eq!(owed(), [third], "the rule did not hold");
}
