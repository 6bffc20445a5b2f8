//! What several tests need.
#![expect(dead_code, reason = "each test binary uses another part")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on ends")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use horus_alert::pace::Jitter;
use horus_alert::{
    Answer, Client, Form, HttpSink, Letterhead, MemoryOutbox, Outbox, Route, Sink, SinkHealth, Verdict,
    WallClock, Worker, WorkerHandle,
};
use horus_core::ids::{IncidentId, SinkName};
use horus_core::notice::{IncidentKind, Notice, Story};
use horus_core::outbox::{Move, OutboxItem};
use horus_core::plan::{Secret, Severity, SinkKind};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The user who is mentioned.
pub(crate) const PERSON: &str = "987654321098765432";

/// The failsafe of every wait.
pub(crate) const FAILSAFE: Duration = Duration::from_secs(30);

pub(crate) fn name(text: &str) -> SinkName {
    SinkName::parse(text).unwrap()
}

/// A wall clock that follows tokio's, so that it stands still and jumps with it.
pub(crate) fn clock() -> WallClock {
    let start = Instant::now();
    let epoch: Timestamp = "2026-03-05T14:00:00Z".parse().unwrap();
    Arc::new(move || epoch + SignedDuration::try_from(start.elapsed()).unwrap())
}

pub(crate) fn letterhead() -> Letterhead {
    Letterhead { host: "mini".into(), time_zone: TimeZone::UTC }
}

pub(crate) fn notice(number: u64, version: u32) -> Notice {
    Notice {
        incident: IncidentId::nth(number),
        version,
        subject: format!("service-{number}"),
        kind: IncidentKind::Stuck,
        severity: Severity::Warning,
        needs_you: false,
        loud: true,
        within: None,
        story: Story::CameBack { away_for: Duration::from_secs(u64::from(version)) },
    }
}

pub(crate) fn urgent(number: u64, version: u32) -> Notice {
    Notice { needs_you: true, severity: Severity::Critical, ..notice(number, version) }
}

pub(crate) fn item(notice: Notice, at: Timestamp) -> OutboxItem {
    OutboxItem {
        sink: name("ops"),
        notice,
        happened_at: at,
        opened_at: at,
        delivered_version: None,
        remote_id: None,
        in_doubt: false,
        attempts: 0,
    }
}

pub(crate) fn http_sink(kind: SinkKind, url: &str, timeout: Duration, clock: WallClock) -> HttpSink {
    let secret = Secret::new(url.to_owned());
    let mention = if kind == SinkKind::Slack { "U012AB3CD" } else { PERSON };
    let route = Route::new(kind, &secret, Some(mention)).unwrap();
    HttpSink::new(route, &secret, Client::with_timeout(timeout).unwrap(), letterhead(), clock)
}

/// One call of a scripted sink.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) at: Instant,
    pub(crate) item: OutboxItem,
    pub(crate) how: Move,
    pub(crate) form: Form,
}

/// A sink that answers as written, then with the last answer again and again.
pub(crate) struct Scripted {
    answers: Mutex<VecDeque<Answer>>,
    calls: mpsc::UnboundedSender<Call>,
}

pub(crate) fn delivered() -> Answer {
    Verdict::Delivered { remote_id: None }.into()
}

pub(crate) fn retry(after: Option<u64>) -> Answer {
    Verdict::Retry { after: after.map(Duration::from_secs), error: "503 Service Unavailable".into() }.into()
}

pub(crate) fn dead() -> Answer {
    Verdict::Dead { error: "404 Unknown Webhook (10015)".into() }.into()
}

impl Sink for Scripted {
    async fn deliver(&self, item: &OutboxItem, how: Move, form: Form) -> Answer {
        self.calls.send(Call { at: Instant::now(), item: item.clone(), how, form }).ok();
        let next = {
            let mut answers = self.answers.lock().unwrap();
            if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
        };
        // No answer at all: a sink that hangs.
        match next {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

/// A worker with a scripted sink.
pub(crate) struct Stage<O = MemoryOutbox> {
    pub(crate) outbox: Arc<O>,
    pub(crate) clock: WallClock,
    pub(crate) calls: mpsc::UnboundedReceiver<Call>,
    pub(crate) health: mpsc::UnboundedReceiver<SinkHealth>,
    pub(crate) worker: WorkerHandle,
    pub(crate) start: Instant,
}

impl Stage {
    pub(crate) fn new(sink: &str, answers: impl IntoIterator<Item = Answer>) -> Self {
        let clock = clock();
        let outbox = Arc::new(MemoryOutbox::new(clock.clone()));
        Stage::with_outbox(sink, answers, outbox, clock)
    }

    pub(crate) fn put(&self, notice: Notice) {
        self.outbox.put(self.worker.name(), notice, (self.clock)());
    }
}

impl<O: Outbox> Stage<O> {
    pub(crate) fn with_outbox(
        sink: &str,
        answers: impl IntoIterator<Item = Answer>,
        outbox: Arc<O>,
        clock: WallClock,
    ) -> Self {
        let (sender, calls) = mpsc::unbounded_channel();
        let scripted = Scripted { answers: Mutex::new(answers.into_iter().collect()), calls: sender };
        let (worker, health) = start(sink, scripted, Arc::clone(&outbox), clock.clone());
        Self { outbox, clock, calls, health, worker, start: Instant::now() }
    }

    /// The next call; a failsafe of a virtual month.
    pub(crate) async fn call(&mut self) -> Call {
        let month = Duration::from_secs(30 * 24 * 3600);
        tokio::time::timeout(month, self.calls.recv()).await.expect("no call").unwrap()
    }

    pub(crate) fn since_start(&self, call: &Call) -> Duration {
        call.at.duration_since(self.start)
    }
}

pub(crate) fn start<O: Outbox, S: Sink>(
    sink: &str,
    end: S,
    outbox: Arc<O>,
    clock: WallClock,
) -> (WorkerHandle, mpsc::UnboundedReceiver<SinkHealth>) {
    let (sender, health) = mpsc::unbounded_channel();
    let report = Arc::new(move |health| {
        sender.send(health).ok();
    });
    let worker = Worker { name: name(sink), sink: end, outbox, clock, jitter: Jitter::seeded(42), report };
    (worker.start(), health)
}
