//! The worker's manners, in virtual time: a day of retries takes milliseconds.

mod support;

use std::sync::Arc;
use std::time::Duration;

use horus_alert::outbox::MemoryOutbox;
use horus_alert::pace::{BUDGET, BUDGET_RESERVED, BUDGET_WINDOW};
use horus_alert::words::{Context, message};
use horus_alert::worker::{DEAD_PROBE_AFTER, GIVE_UP_AFTER, GIVE_UP_URGENT_AFTER, UNSETTLED_WAIT};
use horus_alert::{Answer, Form, Outbox, SinkHealth, Verdict};
use horus_core::ids::{IncidentId, SinkName};
use horus_core::outbox::{Delivery, OutboxItem};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use support::{Stage, clock, dead, delivered, name, notice, retry, urgent};
use tokio::sync::watch;

const HAIR: Duration = Duration::from_millis(50);

#[tokio::test(start_paused = true)]
async fn a_limit_is_obeyed_to_the_second() {
    let mut stage = Stage::new("ops", [retry(Some(7)), delivered()]);
    stage.put(notice(1, 1));
    stage.put(notice(2, 1));
    let first = stage.call().await;
    let second = stage.call().await;
    let waited = second.at.duration_since(first.at);
    assert!(waited >= Duration::from_secs(7) && waited < Duration::from_secs(7) + HAIR, "{waited:?}");
    assert_eq!(second.item.notice.incident, first.item.notice.incident);
    assert_eq!(second.item.attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn an_unreasonable_limit_is_capped_at_an_hour() {
    let mut stage = Stage::new("ops", [retry(Some(90_000)), delivered()]);
    stage.put(notice(1, 1));
    let first = stage.call().await;
    let waited = stage.call().await.at.duration_since(first.at);
    assert!(waited >= Duration::from_secs(3600) && waited < Duration::from_secs(3600) + HAIR, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn an_empty_bucket_is_waited_for_before_it_is_asked() {
    let spent = Answer { pause: Some(Duration::from_secs(3)), ..delivered() };
    let mut stage = Stage::new("ops", [spent, delivered()]);
    stage.put(notice(1, 1));
    stage.put(notice(2, 1));
    let first = stage.call().await;
    let waited = stage.call().await.at.duration_since(first.at);
    assert!(waited >= Duration::from_secs(3) && waited < Duration::from_secs(3) + HAIR, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_superseded_version_is_never_sent() {
    let mut stage = Stage::new("ops", [retry(Some(30)), delivered()]);
    stage.put(notice(1, 1));
    assert_eq!(stage.call().await.item.notice.version, 1);
    for version in 2..=10 {
        stage.put(notice(1, version));
    }
    let second = stage.call().await;
    assert_eq!(second.item.notice.version, 10);
    assert!(tokio::time::timeout(Duration::from_secs(7200), stage.calls.recv()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn who_needs_somebody_goes_first_then_the_oldest() {
    let mut stage = Stage::new("ops", [retry(Some(60)), delivered()]);
    stage.put(notice(1, 1));
    stage.call().await;
    tokio::time::advance(Duration::from_secs(1)).await;
    stage.put(notice(2, 1));
    tokio::time::advance(Duration::from_secs(1)).await;
    stage.put(urgent(3, 1));
    let mut order = Vec::new();
    for _ in 0..3 {
        order.push(stage.call().await.item.notice.subject);
    }
    assert_eq!(order, ["service-3", "service-1", "service-2"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_form_is_tried_once_as_plain_text() {
    let fallback = || Answer::from(Verdict::Fallback { error: "400 Invalid Form Body (50035)".into() });
    let mut stage = Stage::new("ops", [fallback(), delivered(), fallback(), fallback(), delivered()]);
    stage.put(notice(1, 1));
    let forms = [stage.call().await.form, stage.call().await.form];
    assert_eq!(forms, [Form::Rich, Form::Plain]);
    stage.put(notice(2, 1));
    let forms = [stage.call().await.form, stage.call().await.form];
    assert_eq!(forms, [Form::Rich, Form::Plain]);
    // Refused in both forms: not again, and the next one is not held up.
    stage.put(notice(3, 1));
    assert_eq!(stage.call().await.item.notice.subject, "service-3");
    let (_, error, settled) = stage.outbox.look(&name("ops"), IncidentId::nth(2)).unwrap();
    assert_eq!((error.as_deref(), settled), (Some("400 Invalid Form Body (50035)"), true));
}

#[tokio::test(start_paused = true)]
async fn a_dead_sink_is_left_alone_reported_once_and_probed_after_an_hour() {
    let mut stage = Stage::new("ops", [dead(), dead(), delivered()]);
    stage.put(urgent(1, 1));
    let first = stage.call().await;
    let health = stage.health.recv().await.unwrap();
    let fault = Some("404 Unknown Webhook (10015)".to_owned());
    assert_eq!(health, SinkHealth { sink: name("ops"), fault });
    // More messages do not make it more alive.
    for number in 2..10 {
        stage.put(urgent(number, 1));
    }
    let second = stage.call().await;
    let waited = second.at.duration_since(first.at);
    assert!(waited >= DEAD_PROBE_AFTER && waited < DEAD_PROBE_AFTER + HAIR, "{waited:?}");
    assert!(stage.health.try_recv().is_err(), "reported twice");
    // A person has repaired it and says so.
    stage.worker.retry_now();
    let third = stage.call().await;
    assert!(third.at.duration_since(second.at) < HAIR);
    assert_eq!(stage.health.recv().await.unwrap(), SinkHealth { sink: name("ops"), fault: None });
    for _ in 0..8 {
        stage.call().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_success_closes_what_an_earlier_life_reported() {
    let mut stage = Stage::new("ops", [delivered()]);
    stage.put(notice(1, 1));
    stage.call().await;
    assert_eq!(stage.health.recv().await.unwrap().fault, None);
    stage.put(notice(2, 1));
    stage.call().await;
    assert!(stage.health.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn retries_slow_down_to_minutes_and_end_after_a_day() {
    let mut stage = Stage::new("ops", [retry(None)]);
    stage.put(notice(1, 1));
    let mut times = Vec::new();
    let day = GIVE_UP_AFTER + Duration::from_secs(3600);
    while let Ok(Some(call)) = tokio::time::timeout(day, stage.calls.recv()).await {
        times.push(stage.since_start(&call));
    }
    let last = times.last().unwrap();
    assert!(*last > GIVE_UP_AFTER - Duration::from_secs(601) && *last <= GIVE_UP_AFTER + HAIR, "{last:?}");
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[0] < Duration::from_secs(2) + HAIR, "{:?}", gaps[0]);
    let longest = gaps.iter().max().unwrap();
    // The gate and the item's own wait add up.
    assert!(*longest > Duration::from_secs(240) && *longest < Duration::from_secs(601), "{longest:?}");
    let (item, error, settled) = stage.outbox.look(&name("ops"), IncidentId::nth(1)).unwrap();
    assert!(settled, "{item:?}");
    assert_eq!(error.unwrap(), format!("given up after {} tries", times.len()));
}

#[tokio::test(start_paused = true)]
async fn who_needs_somebody_is_not_given_up_after_a_day() {
    let mut stage = Stage::new("ops", [retry(None)]);
    stage.put(urgent(1, 1));
    let mut last = Duration::ZERO;
    while last < GIVE_UP_AFTER * 3 {
        let call = stage.call().await;
        last = stage.since_start(&call);
    }
    assert!(last < GIVE_UP_URGENT_AFTER);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_always_fails_lets_the_others_pass() {
    let mut stage = Stage::new("ops", [retry(None), delivered(), retry(None), delivered(), delivered()]);
    stage.put(urgent(1, 1));
    assert_eq!(stage.call().await.item.notice.subject, "service-1");
    stage.put(notice(2, 1));
    assert_eq!(stage.call().await.item.notice.subject, "service-2");
    assert_eq!(stage.call().await.item.notice.subject, "service-1");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_delays_no_other() {
    let hung = Stage::new("hung", []);
    let mut good = Stage::new("good", [delivered()]);
    hung.put(urgent(1, 1));
    for number in 1..10 {
        good.put(notice(number, 1));
        let call = good.call().await;
        assert!(good.since_start(&call) < HAIR);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_sent_at_a_measured_pace_and_urgent_ones_pass() {
    let mut stage = Stage::new("ops", [delivered()]);
    for number in 1..=40 {
        stage.put(notice(number, 1));
    }
    for _ in 0..BUDGET - BUDGET_RESERVED {
        let call = stage.call().await;
        assert!(stage.since_start(&call) < HAIR);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    stage.put(urgent(99, 1));
    let call = stage.call().await;
    assert_eq!(call.item.notice.subject, "service-99");
    assert!(stage.since_start(&call) < Duration::from_secs(5) + HAIR);
    let call = stage.call().await;
    assert!(stage.since_start(&call) >= BUDGET_WINDOW);
}

#[tokio::test(start_paused = true)]
async fn ten_changes_during_an_outage_become_one_late_message() {
    let mut answers = vec![retry(None); 12];
    answers.push(delivered());
    let mut stage = Stage::new("ops", answers);
    for version in 1..=10 {
        stage.put(notice(1, version));
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let mut sent = None;
    while let Ok(Some(call)) = tokio::time::timeout(Duration::from_secs(3600), stage.calls.recv()).await {
        sent = Some(call);
    }
    let OutboxItem { notice, happened_at, opened_at, .. } = sent.unwrap().item;
    assert_eq!(notice.version, 10);
    let (item, _, settled) = stage.outbox.look(&name("ops"), notice.incident).unwrap();
    assert!(settled && item.delivered_version == Some(10));
    let now = happened_at + jiff::SignedDuration::from_mins(22);
    let context = Context { host: "mini", time_zone: &TimeZone::UTC, now, happened_at, opened_at };
    let line = message(&notice, &context).first_line;
    assert!(line.starts_with("(late: happened 14:01, sent 14:23) ✅ service-1 "), "{line}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_sends_what_is_due_and_leaves_the_rest() {
    let mut stage = Stage::new("ops", [delivered(), retry(Some(600))]);
    for number in 1..=2 {
        stage.put(notice(number, 1));
    }
    assert!(stage.worker.stop(Duration::from_secs(5)).await);
    assert_eq!(stage.calls.recv().await.unwrap().item.notice.subject, "service-1");
    assert_eq!(stage.calls.recv().await.unwrap().item.notice.subject, "service-2");
    assert!(stage.calls.recv().await.is_none(), "the worker is gone");
    let (item, error, settled) = stage.outbox.look(&name("ops"), IncidentId::nth(2)).unwrap();
    assert_eq!((item.attempts, settled), (1, false));
    assert!(error.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_sink_that_hangs() {
    let mut stage = Stage::new("ops", []);
    stage.put(notice(1, 1));
    stage.call().await;
    let before = tokio::time::Instant::now();
    assert!(!stage.worker.stop(Duration::from_secs(5)).await);
    assert!(before.elapsed() < Duration::from_secs(5) + HAIR);
    let (.., settled) = stage.outbox.look(&name("ops"), IncidentId::nth(1)).unwrap();
    assert!(!settled, "what was not acknowledged stays");
}

/// An outbox whose disk takes no writes.
struct Forgetful(MemoryOutbox);

impl Outbox for Forgetful {
    async fn due(&self, sink: &SinkName) -> Option<OutboxItem> {
        self.0.due(sink).await
    }
    async fn begin(&self, _: &SinkName, _: IncidentId) {}

    async fn settle(&self, _: &SinkName, _: IncidentId, _: u32, _: Delivery) {}
    async fn next_due_at(&self, sink: &SinkName) -> Option<Timestamp> {
        self.0.next_due_at(sink).await
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes()
    }
}

#[tokio::test(start_paused = true)]
async fn an_outbox_that_cannot_write_makes_no_doubles_and_no_busy_loop() {
    let clock = clock();
    let outbox = Arc::new(Forgetful(MemoryOutbox::new(clock.clone())));
    let mut stage = Stage::with_outbox("ops", [delivered()], outbox, clock);
    stage.outbox.0.put(&name("ops"), notice(1, 1), (stage.clock)());
    stage.call().await;
    assert!(tokio::time::timeout(UNSETTLED_WAIT * 1000, stage.calls.recv()).await.is_err());
}
