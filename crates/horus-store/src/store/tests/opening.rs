//! What is found at the start.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn a_file_that_is_no_database_is_kept_aside() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = std::fs::File::create(directory.path().join(DATABASE_FILE)).unwrap();
    std::io::Write::write_all(&mut file, &b"this is no database ".repeat(1000)).unwrap();
    let bench = Bench::on(directory);
    let note = bench.restored.note.as_ref().unwrap();
    assert!(note.contains("not a database") && note.contains("horus.db.corrupt-"), "{note}");
    assert_eq!(bench.kept_aside().len(), 1);
    assert!(bench.restored.next_seq > 1_000_000_000, "numbers do not begin anew");
    bench.store.commit(transaction(0, vec![horus_event("a")]));
    assert_eq!(bench.flushed().texts(), ["a"]);
    let again = bench.reopened();
    assert_eq!((again.restored.note.as_ref(), again.kept_aside().len()), (None, 1));
}

/// A database with a hold, an open incident and an undelivered message; closed.
fn lived_in() -> TempDir {
    let bench = Bench::new();
    let id = IncidentId::nth(0);
    bench.store.commit(Transaction {
        notices: vec![(sink("ops"), notice(id, 1))],
        memories: vec![(service("trading"), held())],
        ..transaction(0, vec![opened(id)])
    });
    let filler = (0..900).map(|n| horus_event(&format!("{n:01000}")));
    bench.store.commit(transaction(0, filler.collect()));
    bench.flushed();
    assert!(bench.store.close(PATIENCE));
    bench.directory
}

fn assert_taken_over(bench: &Bench) {
    assert_eq!(bench.restored.memories.len(), 1, "{:?}", bench.restored);
    assert_eq!(bench.restored.memories[0].memory, held());
    assert_eq!(bench.restored.open_incidents.len(), 1);
    assert_eq!(bench.store.due(&sink("ops"), at(0)).unwrap().notice.incident, IncidentId::nth(0));
}

#[test]
fn a_damaged_database_is_kept_aside_and_holds_are_taken_over() {
    let directory = lived_in();
    let path = directory.path().join(DATABASE_FILE);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xA5; 40_960], middle & !4095).unwrap();
    let bench = Bench::on(directory);
    assert!(bench.restored.note.as_ref().unwrap().contains("horus.db.corrupt-"), "{:?}", bench.restored.note);
    assert_taken_over(&bench);
}

#[test]
fn a_database_of_a_newer_horus_is_kept_aside_and_holds_are_taken_over() {
    let directory = lived_in();
    let newer = Connection::open(directory.path().join(DATABASE_FILE)).unwrap();
    newer.pragma_update(None, "user_version", SCHEMA_VERSION as i64 + 1).unwrap();
    drop(newer);
    let bench = Bench::on(directory);
    assert!(bench.restored.note.as_ref().unwrap().contains("newer Horus"), "{:?}", bench.restored.note);
    assert!(bench.kept_aside()[0].starts_with("horus.db.newer-"));
    assert_taken_over(&bench);
}

#[test]
fn the_database_of_another_program_is_kept_aside() {
    let directory = tempfile::tempdir().unwrap();
    let other = Connection::open(directory.path().join(DATABASE_FILE)).unwrap();
    other.execute_batch("CREATE TABLE songs (title TEXT)").unwrap();
    drop(other);
    let bench = Bench::on(directory);
    assert!(bench.restored.note.as_ref().unwrap().contains("another program"), "{:?}", bench.restored.note);
}

#[test]
fn a_database_that_cannot_be_opened_is_taken_up_once_it_can() {
    let directory = lived_in();
    let (path, away) = (directory.path().join(DATABASE_FILE), directory.path().join("away"));
    std::fs::rename(&path, &away).unwrap();
    std::fs::create_dir(&path).unwrap();
    let bench = Bench::on(directory);
    assert!(bench.restored.fault.is_some() && bench.restored.memories.is_empty());
    bench.wait_for(|said| matches!(said, Said::Health(Some(_))));
    let id = IncidentId::nth(0);
    let news = Notice { needs_you: true, ..notice(id, 1) };
    bench.store.commit(Transaction { confirm: vec![id], ..tell(7, "ops", news) });
    bench.wait_for(|said| *said == Said::Stored(id, false));
    assert_eq!(bench.store.due(&sink("ops"), at(7)).unwrap().notice.version, 1);

    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&away, &path).unwrap();
    bench.wait_for(|said| *said == Said::Health(None));
    let item = bench.flushed().store.due(&sink("ops"), at(7)).unwrap();
    assert!(item.notice.needs_you);
    assert_eq!((item.notice.version, item.opened_at), (2, at(0)), "put behind what was on disk");
    assert_eq!(bench.store.reader().unwrap().last_seq().unwrap(), 901);
}

#[test]
fn a_missing_state_directory_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("nope");
    let error = Store::open(&missing, StoreOptions::default()).unwrap_err();
    assert!(error.to_string().ends_with("nope is no directory"), "{error}");
}

#[test]
fn only_the_owner_may_read_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(DATABASE_FILE);
    std::fs::File::create(&path).unwrap().set_permissions(std::fs::Permissions::from_mode(0o644)).unwrap();
    let bench = Bench::on(directory);
    bench.store.commit(transaction(0, vec![horus_event("a")]));
    bench.flushed();
    let names = std::fs::read_dir(bench.directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let modes: Vec<_> = names.map(|path| path.metadata().unwrap().permissions().mode() & 0o777).collect();
    assert_eq!(modes, [0o600; 3]);
}

#[test]
fn without_the_right_to_write_what_can_be_read_is_restored() {
    let directory = lived_in();
    let odd = directory.path().join("50% of #1?.db");
    std::fs::rename(directory.path().join(DATABASE_FILE), &odd).unwrap();
    let restored = crate::open::degraded(&odd, at(60), "read-only file system".into()).restored;
    assert_eq!(restored.memories[0].memory, held());
    assert_eq!(restored.memories[0].age, Duration::from_secs(60));
    assert_eq!((restored.next_seq, restored.next_incident_number), (902, 1));
    let immutable = crate::open::connect_immutable(&odd).unwrap();
    assert_eq!(crate::rows::memories(&immutable).unwrap().len(), 1);
}

#[test]
fn the_log_of_a_damaged_database_goes_with_it() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["horus.db", "horus.db-wal"] {
        let mut file = std::fs::File::create(directory.path().join(name)).unwrap();
        std::io::Write::write_all(&mut file, &b"this is no database ".repeat(1000)).unwrap();
    }
    let bench = Bench::on(directory);
    let kept = bench.kept_aside();
    let logs: Vec<_> = kept.iter().filter(|name| name.ends_with("Z-wal")).collect();
    assert_eq!(logs.len(), 1, "{kept:?}");
    bench.store.commit(transaction(0, vec![horus_event("a")]));
    assert_eq!(bench.flushed().texts(), ["a"]);
}
