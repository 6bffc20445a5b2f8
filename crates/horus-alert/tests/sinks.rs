//! Every sink against the fake, over real sockets.

mod support;

use std::sync::Arc;
use std::time::Duration;

use horus_alert::fake::{Accepted, Bucket, Fake, Fault, Service};
use horus_alert::sink::PERHAPS_TWICE;
use horus_alert::{Form, HttpSink, MemoryOutbox, Sink, Verdict, samples, test_sink, wall_clock};
use horus_core::notice::{Notice, Story};
use horus_core::outbox::{Move, OutboxItem};
use horus_core::plan::SinkKind;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::{FAILSAFE, PERSON, http_sink, item, name, notice, start, urgent};

const KINDS: [SinkKind; 3] = [SinkKind::Discord, SinkKind::Slack, SinkKind::Webhook];

fn url(fake: &Fake, kind: SinkKind) -> String {
    match kind {
        SinkKind::Discord => fake.discord_url(),
        SinkKind::Slack => fake.slack_url(),
        SinkKind::Webhook => fake.webhook_url(),
    }
}

fn sink(fake: &Fake, kind: SinkKind) -> HttpSink {
    http_sink(kind, &url(fake, kind), FAILSAFE, wall_clock())
}

fn unlimited(fake: &Fake) {
    fake.set_bucket(Bucket { limit: u32::MAX, window: Duration::from_secs(1) });
}

/// The body with every number of the moment taken out.
fn body(accepted: &Accepted) -> String {
    format!("{:#}", accepted.body)
}

#[tokio::test]
async fn every_story_is_accepted_by_every_sink_in_both_forms() {
    let fake = Fake::start().await.unwrap();
    unlimited(&fake);
    for kind in KINDS {
        let sink = sink(&fake, kind);
        for notice in samples::notices() {
            for form in [Form::Rich, Form::Plain] {
                let item = item(notice.clone(), "2026-03-05T14:32:00Z".parse().unwrap());
                let answer = sink.deliver(&item, Move::Post, form).await;
                assert!(
                    matches!(answer.verdict, Verdict::Delivered { .. }),
                    "{kind:?}: {answer:?} {:?}",
                    fake.rejected()
                );
                let seen = fake.accepted().pop().unwrap();
                let mentioned = match kind {
                    SinkKind::Discord => vec![PERSON.to_owned()],
                    SinkKind::Slack => vec!["U012AB3CD".to_owned()],
                    SinkKind::Webhook => vec![],
                };
                assert_eq!(seen.pings, if notice.needs_you { mentioned } else { vec![] }, "{}", body(&seen));
                if kind == SinkKind::Discord {
                    assert_eq!(seen.loud, notice.loud);
                }
                assert!(seen.full_text().contains(&notice.incident.to_string()), "{}", body(&seen));
            }
        }
    }
    assert_eq!(fake.rejected(), []);
}

#[tokio::test]
async fn the_bodies_are_as_documented() {
    let fake = Fake::start().await.unwrap();
    unlimited(&fake);
    let at = "2026-03-05T14:32:00Z".parse().unwrap();
    let now = seventy_seconds_after(at);
    for kind in KINDS {
        let sink = http_sink(kind, &url(&fake, kind), FAILSAFE, now.clone());
        for sample in [4, 2] {
            sink.deliver(&item(samples::notices()[sample].clone(), at), Move::Post, Form::Rich).await;
        }
    }
    let bodies: Vec<_> =
        fake.accepted().iter().map(|seen| format!("{:?}\n{}", seen.service, body(seen))).collect();
    insta::assert_snapshot!(bodies.join("\n\n"));
    let discord = &fake.accepted()[0];
    assert!(discord.header("user-agent").unwrap().starts_with("DiscordBot (https://"));
    let webhook = &fake.accepted()[5];
    assert_eq!(webhook.header("webhook-timestamp"), Some("1772721190"));
    assert!(webhook.header("webhook-id").unwrap().ends_with(".1772721120.1"), "{webhook:?}");
}

fn seventy_seconds_after(at: jiff::Timestamp) -> horus_alert::WallClock {
    Arc::new(move || at + jiff::SignedDuration::from_secs(70))
}

#[tokio::test]
async fn every_fault_gets_its_verdict() {
    let fake = Fake::start().await.unwrap();
    for kind in KINDS {
        let patient = sink(&fake, kind);
        let hasty = http_sink(kind, &url(&fake, kind), Duration::from_millis(300), wall_clock());
        let item = item(notice(1, 1), jiff::Timestamp::now());
        let faults = [
            (Fault::Unauthorized, "dead"),
            (Fault::NotFound, "dead"),
            (Fault::Gone, "dead"),
            (Fault::Redirect, "dead"),
            (Fault::RateLimited { after_s: 1.5 }, "retry after 2s"),
            (Fault::RateLimitedPage { after_s: 3 }, "retry after 3s"),
            (Fault::ServerError, "retry"),
            (Fault::BadGatewayPage, "retry"),
            (Fault::LoginPage, if kind == SinkKind::Webhook { "delivered" } else { "retry" }),
            (Fault::BadForm, "fallback"),
            (Fault::EndlessBody, "fallback"),
            (Fault::Reset, "retry"),
            (Fault::Hang, "retry"),
            (Fault::AcceptThenHang, "retry"),
        ];
        for (fault, want) in faults {
            fake.script([fault]);
            let hangs = matches!(fault, Fault::Hang | Fault::AcceptThenHang);
            let sink = if hangs { &hasty } else { &patient };
            let verdict = sink.deliver(&item, Move::Post, Form::Rich).await.verdict;
            let got = match &verdict {
                Verdict::Delivered { .. } => "delivered".to_owned(),
                Verdict::Retry { after: Some(after), .. } => format!("retry after {after:?}"),
                Verdict::Retry { after: None, .. } => "retry".into(),
                Verdict::Dead { .. } => "dead".into(),
                Verdict::Fallback { .. } => "fallback".into(),
                Verdict::Anew { .. } => "anew".into(),
                Verdict::Refused { .. } => "refused".into(),
            };
            assert_eq!(got, want, "{kind:?} {fault:?}: {verdict:?}");
        }
    }
}

#[tokio::test]
async fn the_bucket_is_respected_without_a_single_429() {
    let fake = Fake::start().await.unwrap();
    fake.set_bucket(Bucket { limit: 2, window: Duration::from_millis(400) });
    let clock = wall_clock();
    let outbox = Arc::new(MemoryOutbox::new(clock.clone()));
    for number in 1..=6 {
        outbox.put(&name("ops"), notice(number, 1), clock());
    }
    let (_worker, _health) = start("ops", sink(&fake, SinkKind::Discord), outbox, clock);
    fake.wait_for(6).await.unwrap();
    assert_eq!(fake.requests().len(), 6, "a request more is a 429");
}

#[tokio::test]
async fn a_storm_of_faults_loses_nothing_and_keeps_the_order() {
    let fake = Fake::start().await.unwrap();
    unlimited(&fake);
    fake.script([
        Fault::RateLimitedPage { after_s: 1 },
        Fault::ServerError,
        Fault::Reset,
        Fault::RateLimited { after_s: 0.2 },
        Fault::BadForm,
    ]);
    let clock = wall_clock();
    let outbox = Arc::new(MemoryOutbox::new(clock.clone()));
    outbox.put(&name("ops"), urgent(1, 1), clock());
    let (_worker, _health) = start("ops", sink(&fake, SinkKind::Discord), Arc::clone(&outbox), clock.clone());
    let first = fake.wait_for(1).await.unwrap();
    assert!(first[0].body.get("embeds").is_none(), "the last fault was about the form");
    assert!(first[0].first_line().contains("service-1"));
    outbox.put(&name("ops"), urgent(1, 2), clock());
    let both = fake.wait_for(2).await.unwrap();
    assert!(both[1].first_line().contains("2 s"), "{}", both[1].first_line());
    assert_eq!(fake.accepted().len(), 2);
}

/// A lost answer makes a double: it is recognisable.
#[tokio::test]
async fn a_lost_answer_makes_a_recognisable_double() {
    let fake = Fake::start().await.unwrap();
    for kind in KINDS {
        let before = fake.accepted().len();
        fake.script([Fault::AcceptThenHang]);
        let clock = wall_clock();
        let outbox = Arc::new(MemoryOutbox::new(clock.clone()));
        outbox.put(&name("ops"), notice(1, 1), clock());
        let sink = http_sink(kind, &url(&fake, kind), Duration::from_millis(300), clock.clone());
        let (_worker, _health) = start("ops", sink, outbox, clock);
        let seen = fake.wait_for(before + 2).await.unwrap();
        let (one, two) = (&seen[before], &seen[before + 1]);
        let id = notice(1, 1).incident.to_string();
        assert!(one.full_text().contains(&id) && two.full_text().contains(&id));
        assert_eq!(one.header("webhook-id"), two.header("webhook-id"));
        if kind != SinkKind::Webhook {
            assert!(!one.full_text().contains(PERHAPS_TWICE) && two.full_text().contains(PERHAPS_TWICE));
        }
        assert_eq!(one.full_text(), two.full_text().replace(PERHAPS_TWICE, ""));
    }
}

#[tokio::test]
async fn a_deleted_webhook_is_reported_and_a_hung_one_disturbs_nobody() {
    let (gone, hung, good) =
        (Fake::start().await.unwrap(), Fake::start().await.unwrap(), Fake::start().await.unwrap());
    gone.set_deleted(true);
    hung.script([Fault::Hang]);
    let clock = wall_clock();
    let outbox = Arc::new(MemoryOutbox::new(clock.clone()));
    for sink in ["gone", "hung", "good"] {
        outbox.put(&name(sink), urgent(1, 1), clock());
    }
    let (_hung, _) = start("hung", sink(&hung, SinkKind::Slack), Arc::clone(&outbox), clock.clone());
    hung.wait_for_requests(1).await.unwrap();
    let (_gone, mut health) =
        start("gone", sink(&gone, SinkKind::Discord), Arc::clone(&outbox), clock.clone());
    let (_good, _) = start("good", sink(&good, SinkKind::Webhook), Arc::clone(&outbox), clock);
    let report = tokio::time::timeout(FAILSAFE, health.recv()).await.unwrap().unwrap();
    assert_eq!(report.fault.as_deref(), Some("404 Unknown Webhook (10015)"));
    assert_eq!(good.wait_for(1).await.unwrap()[0].service, Service::Webhook);
    assert_eq!(gone.requests().len(), 1);
}

#[tokio::test]
async fn a_test_says_what_the_sink_said() {
    let fake = Fake::start().await.unwrap();
    let now = jiff::Timestamp::now();
    let discord = sink(&fake, SinkKind::Discord);
    let trial = test_sink(&name("ops"), &discord, now).await;
    assert!(trial.is_delivered());
    let said = trial.to_string();
    assert!(said.starts_with("delivered in ") && said.ends_with(" as message 1300000000000000000"), "{said}");
    let line = fake.accepted()[0].first_line().to_owned();
    assert_eq!(line, "🔔 horus: this is a test, alerts from mini arrive here. Nothing to do.");
    fake.script([Fault::BadForm]);
    assert!(test_sink(&name("ops"), &discord, now).await.plain);
    fake.script([Fault::NotFound]);
    let said = test_sink(&name("ops"), &discord, now).await.to_string();
    assert_eq!(said, "not delivered, the URL is not a working sink: 404 Unknown Webhook (10015)");
    fake.script([Fault::RateLimitedPage { after_s: 9 }]);
    let said = test_sink(&name("ops"), &sink(&fake, SinkKind::Slack), now).await.to_string();
    assert_eq!(said, "not delivered, it asks to wait 9 s: 429 Too Many Requests: a web page: error 1015");
}

#[tokio::test]
async fn the_printer_prints() {
    #[derive(Clone, Default)]
    struct Paper(Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let paper = Paper::default();
    let at = "2026-03-05T14:32:00Z".parse().unwrap();
    let printer = horus_alert::Printer::new(paper.clone(), support::letterhead(), seventy_seconds_after(at));
    printer.deliver(&item(samples::notices()[7].clone(), at), Move::Post, Form::Rich).await;
    insta::assert_snapshot!(String::from_utf8(paper.0.lock().unwrap().clone()).unwrap());
}

/// Texts that try to mention, to mark up, to break limits, to look like something else.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = prop::collection::vec(
        prop_oneof![
            Just("@everyone".to_owned()),
            Just("@here ".to_owned()),
            Just("@\u{200B}everyone".to_owned()),
            Just(format!("<@{PERSON}>")),
            Just(format!("<@!{PERSON}>")),
            Just("<@&123456789012345678>".to_owned()),
            Just("<!channel>".to_owned()),
            Just("<@U012AB3CD>".to_owned()),
            Just("```\n".to_owned()),
            Just("\u{202E}\u{2066}\u{200F}".to_owned()),
            Just("\u{0}\u{7}\u{1b}[2J".to_owned()),
            Just("👩‍👩‍👧‍👦🏳️‍🌈".to_owned()),
            Just("&&&<<<>>>".to_owned()),
            Just("_*~|`\\".to_owned()),
            Just("x".repeat(3000)),
            Just("*".repeat(3000)),
            Just("👍".repeat(1500)),
            "\\PC{0,40}",
            any::<String>(),
        ],
        0..8,
    );
    pieces.prop_map(|pieces| pieces.concat())
}

fn hostile_notice() -> impl Strategy<Value = Notice> {
    (hostile(), hostile(), hostile(), any::<bool>(), 0..5_u8).prop_map(|(subject, a, b, needs_you, which)| {
        let story = match which {
            0 => Story::BreakerOpen { kills: 3, how: a, places: vec![b; 30], retry: None },
            1 => Story::CrashLoop {
                exits: 5,
                within: Duration::MAX,
                exit: a,
                next_in: Duration::MAX,
                last_line: Some(b),
            },
            2 => Story::FunnelBlocked { funnel: a.clone(), from: b.clone(), moved: u64::MAX, to: a },
            3 => Story::SinkDead { sink: a, fault: b },
            _ => Story::StuckHealed {
                stuck_for: Duration::MAX,
                down_for: Duration::MAX,
                how: a,
                place: Some(b),
            },
        };
        Notice { subject, needs_you, story, ..notice(1, 1) }
    })
}

#[test]
fn no_text_breaks_a_limit_or_mentions_anybody() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fake = runtime.block_on(Fake::start()).unwrap();
    unlimited(&fake);
    let sinks = KINDS.map(|kind| sink(&fake, kind));
    let mut runner = TestRunner::new(Config { cases: 96, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&hostile_notice(), |notice| {
        for sink in &sinks {
            let mut remote_id = None;
            let moves = if sink.edits() { &[Move::Post, Move::Edit, Move::Ring][..] } else { &[Move::Post] };
            for (how, form) in moves.iter().flat_map(|how| [(*how, Form::Rich), (*how, Form::Plain)]) {
                let now = jiff::Timestamp::UNIX_EPOCH;
                let item = OutboxItem { remote_id: remote_id.clone(), ..item(notice.clone(), now) };
                let verdict = runtime.block_on(sink.deliver(&item, how, form)).verdict;
                if let (Verdict::Delivered { remote_id: Some(id) }, Move::Post) = (&verdict, how) {
                    remote_id = Some(id.clone());
                }
                prop_assert!(
                    matches!(verdict, Verdict::Delivered { .. }),
                    "{verdict:?} {:?}",
                    fake.rejected()
                );
                let seen = fake.accepted().pop().unwrap();
                let can_ask = seen.service != Service::Webhook && how != Move::Edit;
                let asked = usize::from(notice.needs_you && can_ask);
                prop_assert_eq!(seen.pings.len(), asked, "{}", body(&seen));
            }
        }
        Ok(())
    });
    outcome.unwrap();
    assert_eq!(fake.rejected(), []);
}
