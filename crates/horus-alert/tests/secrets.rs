//! The URL is the password: it occurs in nothing that leaves this crate, whatever goes wrong.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod support;

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use horus_alert::fake::{CANARY, Fake, Fault};
use horus_alert::{BadSink, Form, MemoryOutbox, Route, Sink, test_sink, wall_clock};
use horus_core::outbox::Move;
use horus_core::plan::{Secret, SinkKind};
use support::{FAILSAFE, http_sink, item, name, notice, start, urgent};

/// Everything that anybody logged.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The `log` crate is what the HTTP client writes to.
impl log::Log for Logged {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}\n", record.target(), record.args());
        self.0.lock().unwrap().extend_from_slice(line.as_bytes());
    }
    fn flush(&self) {}
}

fn capture() -> Logged {
    let logged = Logged::default();
    let writer = logged.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .init();
    log::set_boxed_logger(Box::new(logged.clone())).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    logged
}

fn assert_clean(text: &str, from: &str) {
    // Half a secret is a leak as well.
    for part in [&CANARY[..16], &CANARY[20..40], &CANARY[CANARY.len() - 16..]] {
        assert!(!text.contains(part), "the secret leaks through {from}: {text}");
    }
}

async fn refused_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn the_secret_leaks_nowhere() {
    let logged = capture();
    let fake = Fake::start().await.unwrap();
    let port = refused_port().await;
    let paths = [
        (SinkKind::Discord, format!("/api/webhooks/123456789012345678/{CANARY}"), fake.discord_url()),
        (SinkKind::Slack, format!("/services/T00000000/B00000000/{CANARY}"), fake.slack_url()),
        (SinkKind::Webhook, format!("/hook/{CANARY}?key={CANARY}"), fake.webhook_url()),
    ];
    let faults = [
        Fault::Unauthorized,
        Fault::NotFound,
        Fault::Gone,
        Fault::RateLimited { after_s: 0.1 },
        Fault::RateLimitedPage { after_s: 1 },
        Fault::ServerError,
        Fault::BadGatewayPage,
        Fault::LoginPage,
        Fault::BadForm,
        Fault::Redirect,
        Fault::Hang,
        Fault::AcceptThenHang,
        Fault::Reset,
        Fault::EndlessBody,
    ];
    let mut said = String::new();
    let quick = Duration::from_millis(400);
    for (kind, path, good) in &paths {
        let item = item(urgent(1, 1), jiff::Timestamp::now());
        for fault in faults {
            fake.script([fault]);
            let sink = http_sink(*kind, good, quick, wall_clock());
            writeln!(said, "{fault:?}: {:?} {sink:?}", sink.deliver(&item, Move::Post, Form::Rich).await)
                .unwrap();
        }
        let own = fake.webhook_url().replace("http://", "https://").replace(&format!("/hook/{CANARY}"), path);
        let broken = [
            ("connect refused", format!("http://127.0.0.1:{port}{path}")),
            ("no such host", format!("https://no-such-host.invalid{path}")),
            ("not TLS", own),
        ];
        for (what, url) in broken {
            let sink = http_sink(*kind, &url, Duration::from_secs(5), wall_clock());
            let answer = sink.deliver(&item, Move::Post, Form::Rich).await;
            assert!(matches!(answer.verdict, horus_alert::Verdict::Retry { .. }), "{what}: {answer:?}");
            writeln!(
                said,
                "{what}: {answer:?} {}",
                test_sink(&name("ops"), &sink, jiff::Timestamp::now()).await
            )
            .unwrap();
        }
        let route = Route::new(*kind, &Secret::new(good.clone()), None).unwrap();
        writeln!(said, "{route:?}").unwrap();
    }
    let bad: [(SinkKind, String, BadSink); 3] = [
        (SinkKind::Discord, format!("{CANARY} is no URL"), BadSink::NotAUrl),
        (SinkKind::Webhook, format!("ftp://host/{CANARY}"), BadSink::Scheme),
        (SinkKind::Discord, format!("https://discord.com/{CANARY}"), BadSink::NotDiscord),
    ];
    for (kind, url, want) in bad {
        let error = Route::new(kind, &Secret::new(url), None).unwrap_err();
        assert_eq!(error, want);
        writeln!(said, "{error} {error:?}").unwrap();
    }
    said.push_str(&through_a_worker(&fake).await);
    assert_clean(&said, "an answer, an error or a Debug");
    let logged = String::from_utf8_lossy(&logged.0.lock().unwrap()).into_owned();
    // The capture works, for both kinds of log.
    assert!(logged.contains("horus_alert::worker"), "nothing of tracing was captured");
    assert!(logged.contains("reqwest"), "nothing of log was captured");
    assert_clean(&logged, "a log");
}

/// What the outbox, the health report and the handle say.
async fn through_a_worker(fake: &Fake) -> String {
    fake.script([Fault::BadGatewayPage, Fault::NotFound]);
    let clock = wall_clock();
    let outbox = Arc::new(MemoryOutbox::new(clock.clone()));
    outbox.put(&name("ops"), notice(1, 1), clock());
    let sink = http_sink(SinkKind::Slack, &fake.slack_url(), FAILSAFE, clock.clone());
    let (worker, mut health) = start("ops", sink, Arc::clone(&outbox), clock);
    let report = tokio::time::timeout(FAILSAFE, health.recv()).await.unwrap().unwrap();
    assert!(report.fault.is_some());
    let look = outbox.look(&name("ops"), notice(1, 1).incident);
    format!("{report:?} {worker:?} {look:?}")
}
