//! What was heard: written with everything else, read by somebody else, removed when it is old.

use horus_core::digest::{Entry, Row};
use horus_core::ids::Generation;
use horus_core::observation::Exit;

use super::*;
use crate::digest::{DigestError, read_digest};

fn row(second: i64, what: Entry) -> Row {
    let (service, generation) = (ServiceName::parse("trading").ok(), Some(Generation(7)));
    Row { at: at(second), clock_ms: u64::try_from(second).unwrap() * 1000, service, generation, what }
}

fn exited(second: i64) -> Row {
    row(second, Entry::Exited { exit: Exit::Signal(15), strays: 0 })
}

fn heard(rows: Vec<Row>) -> Transaction {
    Transaction { at: at(0), digest: rows, ..Transaction::default() }
}

#[test]
fn the_digest_is_read_back_while_the_writer_lives() {
    let bench = Bench::new();
    let rows = vec![row(1, Entry::Began), row(2, Entry::Spawned), exited(131)];
    bench.store.commit(heard(rows.clone()));
    let read = read_digest(bench.flushed().directory.path(), at(0)).unwrap();
    assert_eq!((read.rows, read.unknown), (rows.clone(), 0));
    bench.store.commit(heard(vec![exited(140)]));
    let read = read_digest(bench.flushed().directory.path(), at(100)).unwrap();
    assert_eq!(read.rows, [exited(131), exited(140)]);
}

#[test]
fn rows_of_a_later_horus_are_left_out_and_counted() {
    let bench = Bench::new();
    bench.store.commit(heard(vec![exited(1)]));
    bench.flushed();
    let sql = Connection::open(bench.path()).unwrap();
    for (version, what) in [(1, r#"{"teleported":7}"#), (2, r#""began""#)] {
        let insert = "INSERT INTO digest (at_ms, clock_ms, version, what) VALUES (1800000001000, 1, ?1, ?2)";
        sql.execute(insert, rusqlite::params![version, what]).unwrap();
    }
    let read = read_digest(bench.directory.path(), at(0)).unwrap();
    assert_eq!((read.rows.len(), read.unknown), (1, 2));
}

#[test]
fn rows_that_could_not_be_written_for_want_of_room_are_told_of() {
    let bench = Bench::new();
    let room = i64::try_from(crate::limits::BACKLOG_DIGEST_MAX).unwrap();
    bench.store.commit(heard((0..room + 5).map(exited).collect()));
    let read = read_digest(bench.flushed().directory.path(), at(0)).unwrap();
    assert_eq!(read.rows[0].what, Entry::Lost(5));
    assert_eq!((read.rows.len(), &read.rows[1]), (crate::limits::BACKLOG_DIGEST_MAX + 1, &exited(5)));
}

#[test]
fn what_is_old_goes() {
    let bench = Bench::new();
    let many = (0..1200).map(exited);
    bench.store.commit(heard(many.chain([exited(5000)]).collect()));
    prune(bench.flushed(), at(5000));
    let read = read_digest(bench.directory.path(), Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(read.rows, [exited(5000)]);
}

#[test]
fn what_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let read = || read_digest(directory.path(), at(0));
    assert!(matches!(read(), Err(DigestError::Nothing(_))));
    let path = directory.path().join(DATABASE_FILE);
    let sql = Connection::open(&path).unwrap();
    sql.execute_batch("CREATE TABLE theirs (n INTEGER)").unwrap();
    assert!(matches!(read(), Err(DigestError::Foreign(_))));
    sql.pragma_update(None, "application_id", crate::schema::APPLICATION_ID).unwrap();
    assert!(matches!(read(), Err(DigestError::TooOld(_))));
}
