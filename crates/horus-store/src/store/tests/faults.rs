//! The disk fails and works again.

use super::*;

/// The disk fails by `break_it`, later works again: nothing is lost, and everybody is told the truth.
fn degrade_and_recover(break_it: fn(&Faults), heal: fn(&Faults), says: &str) {
    let bench = Bench::new();
    bench.store.commit(tell(0, "ops", notice(IncidentId::nth(0), 1)));
    bench.store.commit(transaction(0, vec![horus_event("before")]));
    bench.flushed();
    break_it(&bench.store.shared.faults);

    let long = "x".repeat(40_000);
    let id = IncidentId::nth(1);
    bench.store.commit(Transaction {
        events: vec![opened(id), horus_event(&long)],
        notices: vec![(sink("ops"), Notice { needs_you: true, ..notice(id, 1) })],
        memories: vec![(service("trading"), held())],
        confirm: vec![id],
        ..transaction(1, vec![])
    });
    let heard = bench.wait_for(|said| *said == Said::Stored(id, false));
    let [.., Said::Health(Some(fault)), Said::Stored(..)] = heard.as_slice() else { panic!("{heard:?}") };
    assert!(fault.contains(says) && fault.contains("horus.db"), "{fault}");
    assert_eq!(bench.store.fault().as_ref(), Some(fault));

    // The sinks go on without the disk.
    let item = bench.store.due(&sink("ops"), at(2)).unwrap();
    assert_eq!(item.notice.incident, id, "the one that needs a person comes first");
    bench.store.settle(&sink("ops"), id, 1, delivered("m1"), at(2));
    assert_eq!(bench.store.due(&sink("ops"), at(2)).unwrap().notice.incident, IncidentId::nth(0));
    bench.store.commit(tell(3, "ops", notice(id, 2)));
    for n in 0..5 {
        bench.store.commit(transaction(3, vec![horus_event(&n.to_string())]));
    }
    let later = IncidentId::nth(2);
    bench.store.commit(Transaction { confirm: vec![later], ..transaction(4, vec![opened(later)]) });
    bench.wait_for(|said| *said == Said::Stored(later, false));
    assert!(!bench.store.flush(Duration::ZERO));

    heal(&bench.store.shared.faults);
    let heard = bench.wait_for(|said| *said == Said::Health(None));
    let reports = heard.iter().filter(|said| matches!(said, Said::Health(_))).count();
    assert_eq!(reports, 1, "a fault is reported once: {heard:?}");
    let bench = bench.flushed();
    assert_eq!(bench.store.fault(), None);
    let texts = bench.texts();
    assert_eq!((texts[0].as_str(), texts[2].as_str()), ("before", long.as_str()));
    assert_eq!(texts[3..8], ["0", "1", "2", "3", "4"]);
    let reader = bench.store.reader().unwrap();
    let states = reader.deliveries(id).unwrap();
    assert_eq!((states[0].wanted_version, states[0].delivered_version), (2, Some(1)));
}

#[test]
fn a_full_disk_degrades_and_loses_nothing() {
    let full = |faults: &Faults| faults.pages.store(1, Ordering::SeqCst);
    let free = |faults: &Faults| faults.pages.store(0, Ordering::SeqCst);
    degrade_and_recover(full, free, "full");
}

#[test]
fn a_failing_disk_degrades_and_loses_nothing() {
    let fail = |faults: &Faults| faults.io.store(true, Ordering::SeqCst);
    let work = |faults: &Faults| faults.io.store(false, Ordering::SeqCst);
    degrade_and_recover(fail, work, "disk I/O error");
}

#[test]
fn what_was_settled_and_told_while_degraded_is_there_after_a_restart() {
    let bench = Bench::new();
    let [told, done] = [IncidentId::nth(0), IncidentId::nth(1)];
    bench.store.commit(tell(0, "ops", notice(done, 1)));
    bench.flushed();
    bench.store.shared.faults.io.store(true, Ordering::SeqCst);
    bench.store.settle(&sink("ops"), done, 1, delivered("m1"), at(1));
    bench.store.commit(tell(1, "ops", notice(told, 1)));
    bench.wait_for(|said| matches!(said, Said::Health(Some(_))));
    bench.wait_for(|said| matches!(said, Said::Outbox(_)));
    bench.store.shared.faults.io.store(false, Ordering::SeqCst);
    bench.flushed();
    let bench = bench.reopened();
    assert_eq!(bench.store.pending().len(), 1);
    assert_eq!(bench.store.due(&sink("ops"), at(1)).unwrap().notice.incident, told);
    let states = bench.store.reader().unwrap().deliveries(done).unwrap();
    assert_eq!((states[0].delivered_version, states[0].delivered_at), (Some(1), Some(at(1))));
}

#[test]
fn events_beyond_the_limit_are_counted_in_the_journal() {
    let bench = Bench::new();
    bench.store.shared.faults.io.store(true, Ordering::SeqCst);
    for n in 0..BACKLOG_EVENTS_MAX + 7 {
        bench.store.commit(transaction(0, vec![horus_event(&n.to_string())]));
    }
    // A batch that is on the way comes back first.
    let shared = &bench.store.shared;
    let waited =
        shared.progress.wait_timeout_while(shared.lock(), PATIENCE, |state| state.backlog.dropped < 7);
    assert!(!waited.unwrap().1.timed_out());
    shared.faults.io.store(false, Ordering::SeqCst);
    bench.flushed();
    let texts = bench.texts();
    assert_eq!(texts[..2], ["store: 7 events were dropped while the disk took no writes", "7"]);
    assert_eq!(bench.store.reader().unwrap().last_seq().unwrap(), BACKLOG_EVENTS_MAX as u64 + 1);
}

#[test]
fn a_lock_of_somebody_else_degrades_until_it_is_gone() {
    let bench = Bench::new();
    let other = Connection::open(bench.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let id = IncidentId::nth(0);
    bench.store.commit(Transaction { confirm: vec![id], ..transaction(0, vec![opened(id)]) });
    let heard = bench.wait_for(|said| *said == Said::Stored(id, false));
    let [Said::Health(Some(fault)), _] = heard.as_slice() else { panic!("{heard:?}") };
    assert!(fault.contains("locked"), "{fault}");
    other.execute_batch("ROLLBACK").unwrap();
    bench.wait_for(|said| *said == Said::Health(None));
    assert!(bench.flushed().store.reader().unwrap().incident(id).unwrap().is_some());
}

#[test]
fn a_disk_that_hangs_holds_up_nobody() {
    let bench = Bench::new();
    let faults = &bench.store.shared.faults;
    faults.hasty.store(true, Ordering::SeqCst);
    let hanging = faults.hang.lock().unwrap();
    let [id, later] = [IncidentId::nth(0), IncidentId::nth(1)];
    bench.store.commit(Transaction {
        events: vec![opened(id)],
        confirm: vec![id],
        ..tell(0, "ops", notice(id, 1))
    });
    bench.wait_for(|said| *said == Said::Stored(id, false));
    bench.wait_for(|said| *said == Said::Outbox(sink("ops")));
    assert_eq!(bench.store.due(&sink("ops"), at(0)).unwrap().notice.version, 1);
    bench.store.settle(&sink("ops"), id, 1, delivered("m1"), at(0));
    let heard = bench.wait_for(|said| matches!(said, Said::Health(_)));
    let [Said::Health(Some(fault))] = heard.as_slice() else { panic!("{heard:?}") };
    assert!(fault.contains("not answered"), "{fault}");

    // What comes while it hangs is served as well.
    bench.store.commit(Transaction { confirm: vec![later], ..tell(1, "phone", notice(later, 1)) });
    bench.wait_for(|said| *said == Said::Stored(later, false));
    bench.wait_for(|said| *said == Said::Outbox(sink("phone")));
    assert!(!bench.store.flush(Duration::ZERO));

    drop(hanging);
    let heard = bench.wait_for(|said| *said == Said::Health(None));
    assert_eq!(heard, [Said::Health(None)]);
    bench.flushed();
    let again: Vec<_> = bench.said.try_iter().filter(|said| matches!(said, Said::Stored(..))).collect();
    assert_eq!(again, [], "each confirmation is answered once");
    let states = bench.store.reader().unwrap().deliveries(id).unwrap();
    assert_eq!(
        (states[0].wanted_version, states[0].delivered_version),
        (1, Some(1)),
        "nothing is told twice"
    );
    let bench = bench.reopened();
    let pending: Vec<_> =
        bench.store.pending().iter().map(|state| (state.incident, state.wanted_version)).collect();
    assert_eq!(pending, [(later, 1)]);
    assert_eq!(bench.restored.open_incidents.len(), 1);
}

/// A quiet journal proves nothing: the proof is a write, and leaves no row behind.
#[test]
fn a_write_is_proven_by_a_write_and_only_while_the_disk_takes_it() {
    let bench = Bench::new();
    bench.store.commit(transaction(0, vec![horus_event("before")]));
    assert!(bench.store.prove(Duration::from_secs(10)));
    assert!(bench.store.prove(Duration::from_secs(10)));
    assert_eq!(bench.texts(), ["before"], "the journal does not grow by it");
    bench.store.shared.faults.pages.store(1, Ordering::SeqCst);
    let long = "x".repeat(40_000);
    bench.store.commit(transaction(1, vec![horus_event(&long)]));
    assert!(!bench.store.prove(Duration::from_millis(300)));
    bench.store.shared.faults.pages.store(0, Ordering::SeqCst);
    bench.wait_for(|said| *said == Said::Health(None));
    assert!(bench.store.prove(Duration::from_secs(10)));
}

/// What is on the disk after the state directory was removed under a living store, which is given one thing more to write.
fn rescued(take_away: impl FnOnce(&Bench)) -> Bench {
    let bench = Bench::new();
    bench.store.commit(Transaction {
        memories: vec![(service("trading"), held())],
        ..transaction(1, vec![horus_event("before")])
    });
    bench.store.commit(tell(1, "ops", notice(IncidentId::nth(0), 1)));
    bench.flushed();
    take_away(&bench);
    bench.store.commit(transaction(2, vec![horus_event("after")]));
    bench.flushed();
    bench
}

#[test]
fn a_database_that_was_taken_away_is_written_anew() {
    let remove_file = |bench: &Bench| {
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", bench.path().display()));
        }
    };
    let remove_directory = |bench: &Bench| std::fs::remove_dir_all(bench.directory.path()).unwrap();
    for take_away in [&remove_file as &dyn Fn(&Bench), &remove_directory] {
        let bench = rescued(take_away).reopened();
        assert_eq!(bench.restored.note, None);
        assert_eq!(bench.restored.memories[0].memory, held());
        let texts = bench.texts();
        assert!(texts[1].contains("taken away"), "{texts:?}");
        assert_eq!((texts[0].as_str(), texts[2].as_str()), ("before", "after"));
        assert!(bench.store.due(&sink("ops"), at(3)).is_some(), "an undelivered message is lost");
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(bench.path()).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_database_that_was_put_in_its_place_is_used() {
    let other = Bench::new();
    other.store.commit(transaction(0, vec![horus_event("of a backup")]));
    other.flushed().store.close(PATIENCE);
    let bench = rescued(|bench| {
        for end in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", bench.path().display()));
        }
        std::fs::rename(other.path(), bench.path()).unwrap();
    });
    assert_eq!(bench.reopened().texts(), ["of a backup", "after"]);
}
