//! What the sinks are asked to bring.

use super::*;

#[test]
fn ten_changes_while_offline_become_one_message() {
    let bench = Bench::new();
    let id = IncidentId::nth(0);
    for version in 1..=10 {
        bench.store.commit(tell(version.into(), "ops", notice(id, version)));
        bench.flushed();
    }
    let item = bench.store.due(&sink("ops"), at(20)).unwrap();
    assert_eq!((item.notice.version, item.opened_at, item.happened_at), (10, at(1), at(10)));
    bench.store.settle(&sink("ops"), id, 10, delivered("m1"), at(20));
    assert_eq!(bench.store.due(&sink("ops"), at(30)), None);
    assert_eq!(bench.store.next_due_at(&sink("ops")), None);

    // The next state is an edit of the message that is there, also after a restart.
    bench.flushed();
    let bench = bench.reopened();
    bench.store.commit(tell(40, "ops", notice(id, 11)));
    bench.flushed();
    let item = bench.store.due(&sink("ops"), at(40)).unwrap();
    assert_eq!(
        (item.delivered_version, item.remote_id.as_deref(), item.opened_at),
        (Some(10), Some("m1"), at(1))
    );
}

#[test]
fn the_result_of_an_older_version_leaves_the_newer_one_due() {
    let bench = Bench::new();
    let id = IncidentId::nth(0);
    bench.store.commit(tell(0, "ops", notice(id, 1)));
    bench.flushed();
    bench.store.commit(tell(1, "ops", notice(id, 2)));
    bench.flushed();
    for late in [retry_at(500), Delivery::Refused { error: "status 400".into() }, delivered("m1")] {
        bench.store.settle(&sink("ops"), id, 1, late, at(2));
        let item = bench.store.due(&sink("ops"), at(2)).unwrap();
        assert_eq!((item.notice.version, item.attempts), (2, 0));
    }
    assert_eq!(bench.store.due(&sink("ops"), at(2)).unwrap().remote_id.as_deref(), Some("m1"));
    bench.store.settle(&sink("ops"), id, 2, retry_at(60), at(2));
    assert_eq!(bench.store.due(&sink("ops"), at(59)), None);
    assert_eq!(bench.store.next_due_at(&sink("ops")), Some(at(60)));
    assert_eq!(bench.store.due(&sink("ops"), at(60)).unwrap().attempts, 1);
    bench.store.settle(&sink("ops"), id, 2, Delivery::Refused { error: "e".repeat(5000) }, at(60));
    assert_eq!(bench.store.due(&sink("ops"), at(60)), None);
    let states = bench.flushed().store.reader().unwrap().deliveries(id).unwrap();
    assert!(states[0].refused && states[0].attempts == 2);
    assert_eq!(states[0].last_error.as_ref().unwrap().len(), crate::ERROR_BYTES_MAX);
}

#[test]
fn an_engine_that_counts_anew_is_heard() {
    let bench = Bench::new();
    let id = IncidentId::nth(0);
    bench.store.commit(tell(0, "ops", notice(id, 5)));
    bench.flushed();
    bench.store.settle(&sink("ops"), id, 5, delivered("m1"), at(0));
    bench.flushed();
    bench.store.commit(tell(1, "ops", notice(id, 5)));
    bench.flushed();
    assert_eq!(bench.store.due(&sink("ops"), at(1)), None, "the same notice twice is one");
    let over = Story::Over { lasted: Duration::from_secs(1), how: "working again".into() };
    bench.store.commit(tell(2, "ops", Notice { story: over, ..notice(id, 1) }));
    bench.flushed();
    assert_eq!(bench.store.due(&sink("ops"), at(2)).unwrap().notice.version, 6);
}

#[test]
fn a_stepped_clock_does_not_silence_a_message() {
    let bench = Bench::new();
    let id = IncidentId::nth(0);
    bench.store.commit(tell(400 * 86_400, "ops", notice(id, 1)));
    bench.flushed();
    assert!(bench.store.due(&sink("ops"), at(0)).is_some());
}

#[test]
fn a_thousand_dead_sinks_do_not_fill_the_memory() {
    let bench = Bench::new();
    let urgent = IncidentId::nth(0);
    bench.store.commit(tell(0, "ops", Notice { needs_you: true, ..notice(urgent, 1) }));
    for n in 1..=OUTBOX_PENDING_MAX as u64 + 10 {
        bench.store.commit(tell(1, "ops", notice(IncidentId::nth(n), 1)));
    }
    bench.flushed();
    assert_eq!(bench.store.pending().len(), OUTBOX_PENDING_MAX);
    assert_eq!(bench.store.due(&sink("ops"), at(1)).unwrap().notice.incident, urgent);
}
