//! The API over a real unix socket, with a daemon that answers by script.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it expects")]

mod asking;
mod bounds;
mod reading;
mod streams;

use std::future::Future;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use horus_api::{
    API_SCHEMA, AlertsReport, AskStep, Backend, BindError, Client, ClientError, Debt, DebtsReport, EndWhy,
    EventLine, EventQuery, EventsReport, HealthReport, IncidentReport, IncidentsReport, LIVE_EVENTS_MAX,
    Limits, Listener, Problem, ProblemKind, Progress, ReloadFault, ReloadReport, RuleReport, SinkTest,
    UpgradeReport, VersionReport, bind, serve,
};
use horus_core::command::Answer;
use horus_core::event::{Event, What};
use horus_core::explain::{EXPLANATION_SCHEMA, Explanation};
use horus_core::ids::{IncidentId, ServiceName, SinkName};
use horus_core::notice::IncidentKind;
use horus_core::observation::OperatorRequest;
use horus_core::outbox::DeliveryState;
use horus_core::plan::{Mode, Severity};
use horus_core::record::{IncidentRecord, Recorded};
use horus_core::status::{AxisStatus, STATUS_SCHEMA, ServiceStatus, StatusReport};
use horus_core::verdict::{LoopAxis, ProcessAxis, ProgressAxis, ValueAxis, Verdict};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Notify, broadcast, mpsc, oneshot};

/// No test takes longer; one that does has hung.
const FAILSAFE: Duration = Duration::from_secs(30);

fn name(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

fn axis<T>(is: T) -> AxisStatus<T> {
    AxisStatus { is, because: "as scripted".into() }
}

fn service(text: &str) -> ServiceStatus {
    ServiceStatus {
        name: name(text),
        verdict: Verdict::Healthy,
        because: "fresh tick 0.4 s ago".into(),
        wanted: "up".into(),
        phase: "running".into(),
        process: axis(ProcessAxis::Running),
        loop_axis: axis(LoopAxis::Beating),
        progress: axis(ProgressAxis::Advancing),
        value: axis(ValueAxis::Fresh),
        observe: false,
        hold: None,
        pid: Some(4711),
        generation: 3,
        up_for_ms: Some(60_000),
        next_start_in_ms: None,
        deadline_ms: 10_000,
        kills_unproven: 0,
        kills_limit: 3,
        kills_today: 0,
        breaker_open: false,
        exits_recent: 0,
        beats: Vec::new(),
        kernel: None,
        tree_limits: Vec::new(),
        groups: Vec::new(),
        said: None,
        incidents: Vec::new(),
    }
}

fn event(seq: u64, subject: &str, text: &str) -> Recorded {
    Recorded {
        seq,
        at: Timestamp::from_second(1_790_000_000).unwrap(),
        event: Event {
            subject: subject.into(),
            generation: None,
            incident: (seq == 2).then(|| IncidentId::nth(7)),
            what: What::SaidStatus { text: text.into() },
        },
    }
}

/// A daemon that does what the test says.
struct Script {
    journal: Mutex<Vec<Recorded>>,
    live: broadcast::Sender<Arc<Recorded>>,
    asked: Mutex<Vec<OperatorRequest>>,
    steps: Mutex<Vec<AskStep>>,
    /// The answer of a request waits for this, if set.
    gate: Mutex<Option<oneshot::Receiver<()>>>,
    log_pieces: Mutex<Option<mpsc::Receiver<Bytes>>>,
    healthy: bool,
    /// `status` never answers.
    hung: bool,
    reached: Notify,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            journal: Mutex::new(Vec::new()),
            live: broadcast::channel(LIVE_EVENTS_MAX).0,
            asked: Mutex::default(),
            steps: Mutex::default(),
            gate: Mutex::default(),
            log_pieces: Mutex::default(),
            healthy: true,
            hung: false,
            reached: Notify::new(),
        }
    }
}

impl Script {
    fn happened(&self, event: Recorded) {
        self.journal.lock().unwrap().push(event.clone());
        let _ = self.live.send(Arc::new(event));
    }
}

impl Backend for Script {
    async fn version(&self) -> VersionReport {
        VersionReport {
            schema: API_SCHEMA,
            version: "0.1.0".into(),
            pid: 1,
            started_at: Timestamp::UNIX_EPOCH,
        }
    }

    async fn health(&self) -> HealthReport {
        let faults = if self.healthy { vec![] } else { vec!["the state directory takes no writes".into()] };
        HealthReport { schema: API_SCHEMA, healthy: self.healthy, faults }
    }

    async fn status(&self) -> Result<StatusReport, Problem> {
        self.reached.notify_one();
        if self.hung {
            std::future::pending::<()>().await;
        }
        Ok(StatusReport {
            schema: STATUS_SCHEMA,
            host: "mini".into(),
            mode: Mode::Enforce,
            services: vec![service("pipeline"), service("trading")],
            monitors: Vec::new(),
            store_fault: None,
            dead_sinks: Vec::new(),
        })
    }

    async fn explain(&self, service: ServiceName) -> Result<Option<Explanation>, Problem> {
        Ok((service.as_str() == "trading").then(|| Explanation {
            schema: EXPLANATION_SCHEMA,
            service,
            verdict: Verdict::Healthy,
            because: "fresh ticks within the deadline".into(),
            known: Vec::new(),
            next: Vec::new(),
            forbids: Vec::new(),
        }))
    }

    async fn ask(&self, request: OperatorRequest) -> Result<mpsc::Receiver<AskStep>, Problem> {
        self.asked.lock().unwrap().push(request);
        let (steps, receiver) = mpsc::channel(8);
        let script = std::mem::take(&mut *self.steps.lock().unwrap());
        let mut gate = self.gate.lock().unwrap().take();
        tokio::spawn(async move {
            for step in script {
                if matches!(step, AskStep::Answer(_))
                    && let Some(gate) = gate.take()
                {
                    let _ = gate.await;
                }
                let _ = steps.send(step).await;
            }
        });
        Ok(receiver)
    }

    async fn events(&self, query: EventQuery) -> Result<EventsReport, Problem> {
        let journal = self.journal.lock().unwrap();
        let mut events: Vec<Recorded> = journal.iter().filter(|event| query.admits(event)).cloned().collect();
        if query.after.is_some() {
            events.truncate(query.limit);
        } else {
            events.drain(..events.len().saturating_sub(query.limit));
        }
        Ok(EventsReport { schema: API_SCHEMA, events })
    }

    fn live_events(&self) -> broadcast::Receiver<Arc<Recorded>> {
        self.live.subscribe()
    }

    async fn incidents(&self, open_only: bool, limit: usize) -> Result<IncidentsReport, Problem> {
        let all = vec![incident(1, false), incident(0, true)];
        let incidents =
            all.into_iter().filter(|row| !open_only || row.closed_at.is_none()).take(limit).collect();
        Ok(IncidentsReport { schema: API_SCHEMA, incidents })
    }

    async fn incident(&self, id: IncidentId) -> Result<IncidentReport, Problem> {
        if id != IncidentId::nth(0) {
            return Err(Problem::no_such_incident(&id.to_string()));
        }
        Ok(IncidentReport {
            schema: API_SCHEMA,
            incident: incident(0, true),
            events: vec![event(2, "trading", "stuck")],
            deliveries: vec![DeliveryState {
                sink: SinkName::parse("ops").unwrap(),
                incident: id,
                wanted_version: 2,
                delivered_version: Some(2),
                delivered_at: Some(Timestamp::UNIX_EPOCH),
                attempts: 0,
                last_error: None,
                refused: false,
            }],
            evidence: vec!["evidence/H-1/verdict.txt".into()],
        })
    }

    async fn debts(&self) -> Result<DebtsReport, Problem> {
        let debts = Debt::gather(vec![incident(0, true), incident(2, true)]);
        Ok(DebtsReport { schema: API_SCHEMA, debts })
    }

    async fn note_rule(&self, id: IncidentId, text: String, drill: bool) -> Result<RuleReport, Problem> {
        if id != IncidentId::nth(0) {
            return Err(Problem::no_such_incident(&id.to_string()));
        }
        assert_eq!(text, if drill { "a drill" } else { "a test in ci" });
        Ok(RuleReport { schema: API_SCHEMA, incidents: vec![id], unsaved: None })
    }

    async fn logs(&self, service: ServiceName, lines: usize) -> Result<Bytes, Problem> {
        Ok(format!("{service} {lines}\n\u{fffd}\n").into())
    }

    async fn follow_logs(&self, _: ServiceName, _: usize) -> Result<mpsc::Receiver<Bytes>, Problem> {
        Ok(self.log_pieces.lock().unwrap().take().unwrap())
    }

    async fn alerts_test(&self, sink: Option<SinkName>) -> Result<AlertsReport, Problem> {
        let sink = sink.unwrap_or_else(|| SinkName::parse("ops").unwrap());
        let sinks = vec![SinkTest { sink, delivered: true, detail: "204".into() }];
        Ok(AlertsReport { schema: API_SCHEMA, sinks })
    }

    async fn reload(&self, dry_run: bool) -> Result<ReloadReport, Problem> {
        let fault = ReloadFault {
            place: "watchdog.toml:3:7".into(),
            message: "unknown key".into(),
            help: Some("deadline".into()),
        };
        Ok(ReloadReport { schema: API_SCHEMA, dry_run, applied: false, changes: vec![], faults: vec![fault] })
    }

    async fn upgrade(
        &self,
        executable: Option<PathBuf>,
        dry_run: bool,
    ) -> Result<mpsc::Receiver<AskStep>, Problem> {
        let (steps, receiver) = mpsc::channel(8);
        let answer = match executable {
            Some(path) if path.ends_with("broken") => Answer::Refused {
                why: "tried out, it ended with code 1".into(),
                hint: "horus upgrade --dry-run".into(),
            },
            path => Answer::Done(format!("{path:?} {dry_run}")),
        };
        steps.send(AskStep::Answer(answer)).await.unwrap();
        Ok(receiver)
    }

    async fn upgrade_report(&self) -> UpgradeReport {
        UpgradeReport { schema: API_SCHEMA, pid: 1, tries: 3, ..UpgradeReport::default() }
    }
}

fn incident(n: u64, closed: bool) -> IncidentRecord {
    IncidentRecord {
        id: IncidentId::nth(n),
        subject: "trading".into(),
        kind: IncidentKind::Stuck,
        severity: Severity::Critical,
        reason: "no fresh tick for 12.4 s, deadline 10 s".into(),
        opened_at: Timestamp::UNIX_EPOCH,
        closed_at: closed.then_some(Timestamp::UNIX_EPOCH),
        outcome: None,
    }
}

/// A server in a directory of its own, ended when dropped.
struct Stage {
    script: Arc<Script>,
    client: Client,
    socket: PathBuf,
    end: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Stage {
    async fn set(script: Script, limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("horus.sock");
        let listener = bind(&socket).await.unwrap();
        let script = Arc::new(script);
        let (end, ended) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(listener, Arc::clone(&script), limits, async move {
            let _ = ended.await;
        }));
        let client = Client::new(&socket);
        Self { script, client, socket, end: Some(end), served, _directory: directory }
    }

    async fn plain() -> Self {
        Self::set(Script::default(), Limits::default()).await
    }

    /// Sends bytes as they are and reads everything that comes back.
    async fn raw(&self, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn get(&self, path: &str) -> String {
        self.raw(format!("GET {path} HTTP/1.1\r\nhost: horus\r\nconnection: close\r\n\r\n").as_bytes()).await
    }

    async fn post(&self, path: &str, body: &str) -> String {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: horus\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.raw(format!("{head}{body}").as_bytes()).await
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(FAILSAFE, work).await.expect("the test hangs")
}

/// Status code and problem of an answer.
fn problem(answer: &str) -> (u16, Problem) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer:?}"));
    assert!(head.contains("application/problem+json"), "{answer}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let problem: Problem = serde_json::from_str(body).unwrap();
    assert_eq!(problem.status, status);
    assert!(!problem.hint.is_empty());
    (status, problem)
}
