//! The API over a real unix socket, with a daemon that answers by script.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it expects")]

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use horus_api::{
    API_SCHEMA, AlertsReport, AskStep, Backend, BindError, Client, ClientError, EndWhy, EventLine,
    EventQuery, EventsReport, HealthReport, IncidentReport, IncidentsReport, LIVE_EVENTS_MAX, Limits,
    Problem, ProblemKind, Progress, ReloadFault, ReloadReport, SinkTest, VersionReport, bind, serve,
};
use horus_core::command::Answer;
use horus_core::event::{Event, What};
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

#[tokio::test]
async fn every_reading_path_answers() {
    let stage = Stage::plain().await;
    in_time(async {
        assert_eq!(stage.client.version().await.unwrap().version, "0.1.0");
        assert!(stage.client.health().await.unwrap().healthy);
        assert_eq!(stage.client.status().await.unwrap().services.len(), 2);
        assert_eq!(stage.client.service(&name("trading")).await.unwrap().pid, Some(4711));
        assert_eq!(stage.client.incidents(false, 10).await.unwrap().incidents.len(), 2);
        assert_eq!(stage.client.incidents(true, 10).await.unwrap().incidents.len(), 1);
        let story = stage.client.incident(IncidentId::nth(0)).await.unwrap();
        assert_eq!((story.events.len(), story.deliveries.len(), story.evidence.len()), (1, 1, 1));
        let mut logs = stage.client.logs(&name("trading"), 5, false).await.unwrap();
        assert_eq!(logs.next().await.unwrap().unwrap(), "trading 5\n\u{fffd}\n");
        assert_eq!(logs.next().await.unwrap(), None);
        let tests = stage.client.alerts_test(None).await.unwrap();
        assert_eq!(tests.sinks[0].sink.as_str(), "ops");
        let reload = stage.client.reload(true).await.unwrap();
        assert!(reload.dry_run && reload.faults[0].place.ends_with(":3:7"));
    })
    .await;
}

#[tokio::test]
async fn an_ill_daemon_says_so_with_its_status_code_too() {
    let stage = Stage::set(Script { healthy: false, ..Script::default() }, Limits::default()).await;
    in_time(async {
        assert!(stage.get("/healthz").await.starts_with("HTTP/1.1 503"));
        assert_eq!(stage.client.health().await.unwrap().faults, ["the state directory takes no writes"]);
    })
    .await;
}

#[tokio::test]
async fn every_answer_carries_its_schema() {
    let stage = Stage::plain().await;
    in_time(async {
        for path in [
            "/healthz",
            "/api/v1/version",
            "/api/v1/status",
            "/api/v1/services/trading",
            "/api/v1/events",
            "/api/v1/incidents",
            "/api/v1/nope",
        ] {
            assert!(stage.get(path).await.contains("\"schema\":1"), "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_socket_is_for_its_owner_only_and_goes_with_the_server() {
    let mut stage = Stage::plain().await;
    let mode = std::fs::metadata(&stage.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    stage.end.take().unwrap().send(()).unwrap();
    in_time(&mut stage.served).await.unwrap();
    assert!(!stage.socket.exists());
    assert!(matches!(stage.client.status().await, Err(ClientError::NoDaemon { .. })));
}

#[tokio::test]
async fn a_dead_socket_is_replaced_a_living_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("horus.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(matches!(Client::new(&socket).status().await, Err(ClientError::NoDaemon { .. })));
    let listener = bind(&socket).await.unwrap();
    assert!(matches!(bind(&socket).await, Err(BindError::InUse { .. })));
    drop(listener);
    std::fs::create_dir(&socket).unwrap();
    assert!(matches!(bind(&socket).await, Err(BindError::NotASocket { .. })));
    let long = directory.path().join("x".repeat(120));
    assert!(matches!(bind(&long).await, Err(BindError::PathTooLong { .. })));
}

#[tokio::test]
async fn a_stop_tells_its_progress_and_is_done_when_it_is_verified() {
    let script = Script::default();
    let progress = Progress { text: "SIGTERM sent".into(), limit_ms: Some(20_000) };
    *script.steps.lock().unwrap() = vec![
        AskStep::Progress(progress.clone()),
        AskStep::Answer(Answer::Done("stopped; pid 4711 is gone".into())),
    ];
    let (open, gate) = oneshot::channel();
    *script.gate.lock().unwrap() = Some(gate);
    let stage = Stage::set(script, Limits::default()).await;
    in_time(async {
        let mut steps = stage.client.ask(&OperatorRequest::Stop(name("trading"))).await.unwrap();
        assert_eq!(steps.next().await.unwrap(), AskStep::Progress(progress));
        open.send(()).unwrap();
        let answer = steps.next().await.unwrap();
        assert_eq!(answer, AskStep::Answer(Answer::Done("stopped; pid 4711 is gone".into())));
    })
    .await;
}

#[tokio::test]
async fn requests_arrive_as_they_were_meant() {
    let stage = Stage::plain().await;
    let hold = OperatorRequest::Hold {
        service: name("trading"),
        reason: "disk \"swap\"".into(),
        expires_in: Some(Duration::from_secs(7_200)),
        stop: true,
    };
    let resume = OperatorRequest::Resume { service: name("trading"), reason: Some("done".into()) };
    let wanted = vec![
        OperatorRequest::Start(name("trading")),
        OperatorRequest::Restart(name("pipeline")),
        hold,
        resume,
        OperatorRequest::Resume { service: name("trading"), reason: None },
    ];
    in_time(async {
        for request in &wanted {
            *stage.script.steps.lock().unwrap() = vec![AskStep::Answer(Answer::Done("so".into()))];
            let answer = stage.client.ask(request).await.unwrap().answer().await.unwrap();
            assert_eq!(answer, Answer::Done("so".into()));
        }
    })
    .await;
    assert_eq!(*stage.script.asked.lock().unwrap(), wanted);
}

#[tokio::test]
async fn a_refusal_is_a_conflict_and_carries_the_way_out() {
    let script = Script::default();
    let refused = Answer::Refused { why: "trading is held".into(), hint: "horus resume trading".into() };
    *script.steps.lock().unwrap() = vec![AskStep::Answer(refused)];
    let stage = Stage::set(script, Limits::default()).await;
    let fault = in_time(stage.client.ask(&OperatorRequest::Start(name("trading")))).await.unwrap_err();
    let ClientError::Problem(problem) = fault else { panic!("{fault:?}") };
    assert_eq!((problem.status, problem.kind), (409, ProblemKind::Refused));
    assert_eq!(problem.hint, "horus resume trading");
}

#[tokio::test]
async fn a_request_that_is_lost_inside_is_not_reported_as_done() {
    let stage = Stage::plain().await;
    let steps = in_time(stage.client.ask(&OperatorRequest::Start(name("trading")))).await.unwrap();
    assert!(matches!(in_time(steps.answer()).await, Err(ClientError::Broken { .. })));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_reason() {
    let stage = Stage::plain().await;
    let long_reason = format!("{{\"reason\":\"{}\"}}", "x".repeat(2_000));
    in_time(async {
        for (path, body, status, part) in [
            ("/api/v1/services/nobody/stop", "", 404, "known: pipeline, trading"),
            ("/api/v1/services/NOT%20A%20NAME/stop", "", 404, "a name is made of"),
            ("/api/v1/services/trading/explode", "", 404, "no path"),
            ("/api/v1/services/trading/stop", "{\"reason\":\"x\"}", 400, "unknown field"),
            ("/api/v1/services/trading/stop", "{", 400, "not understood"),
            ("/api/v1/services/trading/stop", "[1]", 400, "not understood"),
            ("/api/v1/services/trading/hold", "", 400, "`reason` is missing"),
            ("/api/v1/services/trading/hold", "{\"reason\":\"  \"}", 400, "`reason` is missing"),
            ("/api/v1/services/trading/hold", "{\"reason\":\"a\\nb\"}", 400, "control character"),
            ("/api/v1/services/trading/hold", "{\"reason\":\"a\",\"for_ms\":0}", 400, "`for_ms` is 0"),
            ("/api/v1/services/trading/hold", "{\"reason\":\"a\",\"for_ms\":-1}", 400, "not understood"),
            ("/api/v1/services/trading/hold", &long_reason, 400, "more than 1000"),
            ("/api/v1/alerts/test", "{\"sink\":\"../x\"}", 404, "no sink"),
            ("/api/v1/reload", "{\"dry\":true}", 400, "unknown field"),
            ("/api/v1/status", "", 405, "POST is not allowed"),
        ] {
            let (got, problem) = problem(&stage.post(path, body).await);
            assert_eq!(got, status, "{path} {body}: {problem:?}");
            assert!(problem.detail.contains(part), "{path} {body}: {}", problem.detail);
        }
        for (path, status, part) in [
            ("/", 404, "no path"),
            ("/api/v1/services/nobody", 404, "known: pipeline, trading"),
            ("/api/v1/services/trading/stop", 405, "GET is not allowed"),
            ("/api/v1/services/nobody/logs", 404, "known: pipeline, trading"),
            ("/api/v1/services/trading/logs?lines=many", 400, "lines"),
            ("/api/v1/events?since=3", 400, "since"),
            ("/api/v1/events?incident=zzz", 400, "incident"),
            ("/api/v1/incidents?open=perhaps", 400, "open"),
            ("/api/v1/incidents/nope!", 404, "no incident"),
            ("/api/v1/incidents/H-0000", 404, "no incident"),
        ] {
            let (got, problem) = problem(&stage.get(path).await);
            assert_eq!(got, status, "{path}: {problem:?}");
            assert!(problem.detail.contains(part), "{path}: {}", problem.detail);
        }
    })
    .await;
    assert!(stage.script.asked.lock().unwrap().is_empty(), "nothing reached the daemon");
}

#[tokio::test]
async fn bodies_are_bounded_in_size_time_and_kind() {
    let limits = Limits { body_patience: Duration::from_millis(100), ..Limits::default() };
    let stage = Stage::set(Script::default(), limits).await;
    in_time(async {
        let huge = format!("{{\"reason\":\"{}\"}}", "x".repeat(100_000));
        let (status, _) = problem(&stage.post("/api/v1/services/trading/hold", &huge).await);
        assert_eq!(status, 413);
        let slow = "POST /api/v1/reload HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\n{";
        let (status, _) = problem(&stage.raw(slow.as_bytes()).await);
        assert_eq!(status, 408);
        let form =
            "POST /api/v1/reload HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 3\r\n\r\na=b";
        let (status, _) = problem(&stage.raw(form.as_bytes()).await);
        assert_eq!(status, 415);
    })
    .await;
}

#[tokio::test]
async fn garbage_disturbs_nobody() {
    let limits = Limits { head_patience: Duration::from_millis(100), ..Limits::default() };
    let stage = Stage::set(Script::default(), limits).await;
    in_time(async {
        assert!(stage.raw(b"\x16\x03\x01\x02\x00 hello\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        let huge_head = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(100_000));
        assert!(stage.raw(huge_head.as_bytes()).await.starts_with("HTTP/1.1 431"));
        // A head that never ends: the connection is closed.
        stage.raw(b"GET /api/v1/sta").await;
        assert_eq!(stage.client.status().await.unwrap().services.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_hung_daemon_is_said_to_be_hung() {
    let limits = Limits { backend_patience: Duration::from_millis(50), ..Limits::default() };
    let stage = Stage::set(Script { hung: true, ..Script::default() }, limits).await;
    let (status, problem) = problem(&in_time(stage.get("/api/v1/status")).await);
    assert_eq!((status, problem.kind), (504, ProblemKind::NoAnswer));
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let stage = Stage::set(
        Script { hung: true, ..Script::default() },
        Limits { connections_max: 1, ..Limits::default() },
    )
    .await;
    in_time(async {
        let client = stage.client.clone();
        let first = tokio::spawn(async move { client.status().await });
        stage.script.reached.notified().await;
        let Err(ClientError::Problem(second)) = stage.client.version().await else {
            panic!("it was admitted")
        };
        assert_eq!(second.kind, ProblemKind::TooMany);
        first.abort();
    })
    .await;
}

#[tokio::test]
async fn events_are_filtered_and_paged() {
    let stage = Stage::plain().await;
    for seq in 1..=5 {
        stage.script.happened(event(seq, if seq % 2 == 0 { "trading" } else { "pipeline" }, "x"));
    }
    let seqs = async |query: EventQuery| -> Vec<u64> {
        stage.client.events(&query).await.unwrap().events.iter().map(|event| event.seq).collect()
    };
    let all = EventQuery { limit: 100, ..EventQuery::default() };
    in_time(async {
        assert_eq!(seqs(all.clone()).await, [1, 2, 3, 4, 5]);
        assert_eq!(seqs(EventQuery { limit: 2, ..all.clone() }).await, [4, 5]);
        assert_eq!(seqs(EventQuery { limit: 2, after: Some(1), ..all.clone() }).await, [2, 3]);
        assert_eq!(seqs(EventQuery { subject: Some("trading".into()), ..all.clone() }).await, [2, 4]);
        assert_eq!(seqs(EventQuery { subject: Some("a&b=c d".into()), ..all.clone() }).await, [0_u64; 0]);
        assert_eq!(seqs(EventQuery { incident: Some(IncidentId::nth(7)), ..all.clone() }).await, [2]);
    })
    .await;
}

#[tokio::test]
async fn a_follower_sees_every_event_once_and_in_order() {
    let stage = Stage::plain().await;
    for seq in 1..=3 {
        stage.script.happened(event(seq, "trading", "before"));
    }
    let query = EventQuery { limit: 2, ..EventQuery::default() };
    let mut stream = in_time(stage.client.follow_events(&query)).await.unwrap();
    // Far more than the channel keeps: the follower must return to the journal.
    let script = Arc::clone(&stage.script);
    let writer = tokio::spawn(async move {
        for seq in 4..=5_000 {
            script.happened(event(seq, if seq % 7 == 0 { "pipeline" } else { "trading" }, "after"));
        }
    });
    in_time(async {
        for wanted in 2..=5_000 {
            match stream.next().await.unwrap() {
                Some(EventLine::Event(event)) => assert_eq!(event.seq, wanted),
                other => panic!("{other:?}"),
            }
        }
        writer.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_browser_gets_server_sent_events_and_resumes_by_number() {
    let stage = Stage::plain().await;
    for seq in 1..=3 {
        stage.script.happened(event(seq, "trading", "x"));
    }
    let mut stream = UnixStream::connect(&stage.socket).await.unwrap();
    let request = "GET /api/v1/events?follow=true HTTP/1.1\r\nhost: h\r\naccept: text/event-stream\r\nlast-event-id: 2\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    in_time(async {
        while !text.contains("\"text\":\"x\"") {
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece).await.unwrap();
            text += &String::from_utf8_lossy(&piece[..count]);
        }
    })
    .await;
    assert!(text.contains("text/event-stream"), "{text}");
    assert!(text.contains("id: 3\nevent: event\ndata: {\"event\":{\"seq\":3,"), "{text}");
    assert!(!text.contains("id: 2"), "{text}");
}

#[tokio::test]
async fn a_silent_stream_shows_that_it_is_alive() {
    let limits = Limits { alive_every: Duration::from_millis(20), ..Limits::default() };
    let stage = Stage::set(Script::default(), limits).await;
    let mut stream = UnixStream::connect(&stage.socket).await.unwrap();
    let request = "GET /api/v1/events?follow=true HTTP/1.1\r\nhost: h\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    in_time(async {
        while !text.contains("1\r\n\n\r\n1\r\n\n\r\n") {
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece).await.unwrap();
            text += &String::from_utf8_lossy(&piece[..count]);
        }
    })
    .await;
}

/// More than all buffers between the journal and a reader that does not read.
fn flood(script: &Script) {
    for seq in 1..=400 {
        script.happened(event(seq, "trading", &"x".repeat(10_000)));
    }
}

#[tokio::test]
async fn a_slow_follower_is_dropped_and_told_so() {
    let limits = Limits {
        follower_stall: Duration::from_millis(50),
        last_line_patience: FAILSAFE,
        ..Limits::default()
    };
    let stage = Stage::set(Script::default(), limits).await;
    flood(&stage.script);
    let mut stream = in_time(stage.client.follow_events(&EventQuery {
        after: Some(0),
        limit: 1,
        ..EventQuery::default()
    }))
    .await
    .unwrap();
    // Nothing is read until the daemon has given up on us.
    in_time(stage.script.live.closed()).await;
    let mut seen = 0;
    let end = in_time(async {
        loop {
            match stream.next().await.unwrap() {
                Some(EventLine::Event(event)) => {
                    seen += 1;
                    assert_eq!(event.seq, seen);
                }
                other => return other,
            }
        }
    })
    .await;
    assert!(seen > 0 && seen < 400, "{seen}");
    assert!(matches!(end, Some(EventLine::End(end)) if end.why == EndWhy::TooSlow));
}

#[tokio::test]
async fn a_follower_that_never_reads_frees_its_place() {
    let limits = Limits {
        follower_stall: Duration::from_millis(50),
        last_line_patience: Duration::from_millis(50),
        connections_max: 1,
        followers_max: 1,
        ..Limits::default()
    };
    let stage = Stage::set(Script::default(), limits).await;
    flood(&stage.script);
    let mut stuck = UnixStream::connect(&stage.socket).await.unwrap();
    let request = "GET /api/v1/events?after=0&follow=true HTTP/1.1\r\nhost: h\r\n\r\n";
    stuck.write_all(request.as_bytes()).await.unwrap();
    in_time(async {
        // Its connection is the only one there may be: whoever comes is turned away until it is closed.
        while stage.client.version().await.is_err() {
            tokio::task::yield_now().await;
        }
        let mut rest = Vec::new();
        stuck.read_to_end(&mut rest).await.unwrap();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "the answer is cut, not complete");
    })
    .await;
}

#[tokio::test]
async fn followers_do_not_take_the_place_of_a_stop() {
    let stage = Stage::set(Script::default(), Limits { followers_max: 1, ..Limits::default() }).await;
    let query = EventQuery { limit: 1, ..EventQuery::default() };
    in_time(async {
        let _first = stage.client.follow_events(&query).await.unwrap();
        let Err(ClientError::Problem(second)) = stage.client.follow_events(&query).await else {
            panic!("a second follower was admitted");
        };
        assert_eq!(second.kind, ProblemKind::TooMany);
        *stage.script.steps.lock().unwrap() = vec![AskStep::Answer(Answer::Done("stopped".into()))];
        let stopped = stage.client.ask(&OperatorRequest::Stop(name("trading"))).await.unwrap();
        assert_eq!(stopped.answer().await.unwrap(), Answer::Done("stopped".into()));
    })
    .await;
}

#[tokio::test]
async fn logs_are_followed_byte_for_byte() {
    let script = Script::default();
    let (pieces, receiver) = mpsc::channel(1);
    *script.log_pieces.lock().unwrap() = Some(receiver);
    let stage = Stage::set(script, Limits::default()).await;
    in_time(async {
        let mut logs = stage.client.logs(&name("trading"), 5, true).await.unwrap();
        for piece in [&b"half a li"[..], b"ne\n", b"\xff\x00\n"] {
            pieces.send(Bytes::from_static(piece)).await.unwrap();
            assert_eq!(logs.next().await.unwrap().unwrap(), piece);
        }
        drop(logs);
        // The daemon learns that nobody reads.
        pieces.closed().await;
    })
    .await;
}

#[tokio::test]
async fn the_end_of_horus_ends_streams_with_a_word() {
    let mut stage = Stage::plain().await;
    let mut stream = in_time(stage.client.follow_events(&EventQuery::default())).await.unwrap();
    stage.end.take().unwrap().send(()).unwrap();
    let end = in_time(stream.next()).await.unwrap();
    assert!(matches!(end, Some(EventLine::End(end)) if end.why == EndWhy::ShuttingDown));
    assert!(matches!(in_time(stream.next()).await, Ok(None)));
    in_time(&mut stage.served).await.unwrap();
}

#[tokio::test]
async fn an_answer_in_the_making_is_finished_when_horus_ends() {
    let script = Script::default();
    *script.steps.lock().unwrap() = vec![
        AskStep::Progress(Progress { text: "SIGTERM sent".into(), limit_ms: None }),
        AskStep::Answer(Answer::Done("stopped".into())),
    ];
    let (open, gate) = oneshot::channel();
    *script.gate.lock().unwrap() = Some(gate);
    let mut stage = Stage::set(script, Limits { drain: FAILSAFE, ..Limits::default() }).await;
    in_time(async {
        let mut steps = stage.client.ask(&OperatorRequest::Stop(name("trading"))).await.unwrap();
        steps.next().await.unwrap();
        stage.end.take().unwrap().send(()).unwrap();
        while stage.socket.exists() {
            tokio::task::yield_now().await;
        }
        open.send(()).unwrap();
        assert_eq!(steps.answer().await.unwrap(), Answer::Done("stopped".into()));
        (&mut stage.served).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_stranger_at_the_socket_is_not_mistaken_for_horus() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("other.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let stranger = tokio::spawn(async move {
        for answer in ["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "SSH-2.0-OpenSSH\r\n"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    in_time(async {
        let client = Client::new(&socket);
        assert!(matches!(client.status().await, Err(ClientError::NotUnderstood { .. })));
        assert!(matches!(client.status().await, Err(ClientError::Broken { .. })));
        stranger.await.unwrap();
    })
    .await;
}
