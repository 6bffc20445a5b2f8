//! The paths. Each handler reads its request strictly, asks the daemon within a time limit, and answers.

mod debts;
mod said;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use horus_core::command::Answer;
use horus_core::ids::{IncidentId, ServiceName, SinkName};
use horus_core::observation::OperatorRequest;
use horus_core::record::Recorded;
use horus_core::status::ServiceStatus;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};
use tokio::time::timeout;

use self::said::checked_line;
use crate::backend::Backend;
use crate::problem::{Problem, ProblemKind};
use crate::server::Limits;
use crate::stream::{Connection, LineWriter, Unwritable};
use crate::wire::{
    API_SCHEMA, AskLine, AskStep, End, EndWhy, EventLine, EventQuery, ServiceReport, service_name,
};
use crate::{EVENTS_MAX, INCIDENTS_MAX, LOG_LINES_MAX};

/// How many events, incidents or log lines are answered when nobody says.
const DEFAULT_COUNT: usize = 100;

/// What every handler has.
struct Shared<B> {
    backend: Arc<B>,
    followers: Arc<Semaphore>,
    limits: Limits,
}

impl<B> Clone for Shared<B> {
    fn clone(&self) -> Self {
        Self {
            backend: Arc::clone(&self.backend),
            followers: Arc::clone(&self.followers),
            limits: self.limits,
        }
    }
}

/// All paths over one daemon. It expects the extension that [`crate::serve`] adds to each connection.
pub fn router<B: Backend>(backend: Arc<B>, limits: Limits) -> Router {
    let shared = Shared { backend, followers: Arc::new(Semaphore::new(limits.followers_max)), limits };
    Router::new()
        .route("/healthz", get(health))
        .route("/api/v1/version", get(version))
        .route("/api/v1/status", get(status))
        .route("/api/v1/services/{name}", get(service))
        .route("/api/v1/services/{name}/explanation", get(explanation))
        .route("/api/v1/services/{name}/logs", get(logs))
        .route("/api/v1/services/{name}/{verb}", post(act))
        .route("/api/v1/events", get(events))
        .route("/api/v1/incidents", get(incidents))
        .route("/api/v1/incidents/{id}", get(incident))
        .route("/api/v1/incidents/{id}/rule", post(debts::note_rule))
        .route("/api/v1/debts", get(debts::debts))
        .route("/api/v1/alerts/test", post(alerts_test))
        .route("/api/v1/reload", post(reload))
        .route("/api/v1/upgrade", get(upgrade_report).post(upgrade))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(shared)
}

// === reading ===

async fn health<B: Backend>(State(shared): State<Shared<B>>) -> Result<Response, Problem> {
    let report = within(shared.limits.backend_patience, async { Ok(shared.backend.health().await) }).await?;
    let status = if report.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(report)).into_response())
}

async fn version<B: Backend>(State(shared): State<Shared<B>>) -> Result<Response, Problem> {
    let report = within(shared.limits.backend_patience, async { Ok(shared.backend.version().await) }).await?;
    Ok(Json(report).into_response())
}

async fn status<B: Backend>(State(shared): State<Shared<B>>) -> Result<Response, Problem> {
    Ok(Json(within(shared.limits.backend_patience, shared.backend.status()).await?).into_response())
}

async fn service<B: Backend>(
    State(shared): State<Shared<B>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let name = service_name(&part(path)?)?;
    let service = find(&shared, &name).await?;
    Ok(Json(ServiceReport { schema: API_SCHEMA, service }).into_response())
}

async fn explanation<B: Backend>(
    State(shared): State<Shared<B>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let name = service_name(&part(path)?)?;
    find(&shared, &name).await?;
    let explanation = within(shared.limits.backend_patience, shared.backend.explain(name.clone())).await?;
    // It may have left the plan in between.
    let gone = || Problem::no_such_service(name.as_str(), "it has just left the plan");
    Ok(Json(explanation.ok_or_else(gone)?).into_response())
}

/// The service's status, or a problem that names the services there are.
async fn find<B: Backend>(shared: &Shared<B>, name: &ServiceName) -> Result<ServiceStatus, Problem> {
    let report = within(shared.limits.backend_patience, shared.backend.status()).await?;
    let names: Vec<&str> = report.services.iter().map(|service| service.name.as_str()).collect();
    let known =
        if names.is_empty() { "the plan has none".into() } else { format!("known: {}", names.join(", ")) };
    let unknown = Problem::no_such_service(name.as_str(), &known);
    report.services.into_iter().find(|service| service.name == *name).ok_or(unknown)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogsQuery {
    lines: Option<usize>,
    #[serde(default)]
    follow: bool,
}

async fn logs<B: Backend>(
    State(shared): State<Shared<B>>,
    Extension(connection): Extension<Connection>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<LogsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let name = service_name(&part(path)?)?;
    let LogsQuery { lines, follow } = asked(query)?;
    let lines = lines.unwrap_or(DEFAULT_COUNT).min(LOG_LINES_MAX);
    find(&shared, &name).await?;
    let kind = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
    if !follow {
        let text = within(shared.limits.backend_patience, shared.backend.logs(name, lines)).await?;
        return Ok((kind, text).into_response());
    }
    let (writer, body) = follower(&shared, connection)?;
    let pieces = within(shared.limits.backend_patience, shared.backend.follow_logs(name, lines)).await?;
    tokio::spawn(pump_logs(writer, pieces));
    Ok((kind, body).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    after: Option<u64>,
    limit: Option<usize>,
    service: Option<String>,
    incident: Option<IncidentId>,
    #[serde(default)]
    follow: bool,
}

async fn events<B: Backend>(
    State(shared): State<Shared<B>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let EventsQuery { after, limit, service, incident, follow } = asked(query)?;
    let limit = limit.unwrap_or(DEFAULT_COUNT).min(EVENTS_MAX);
    let query = EventQuery { after, limit, subject: service, incident };
    if !follow {
        let report = within(shared.limits.backend_patience, shared.backend.events(query)).await?;
        return Ok(Json(report).into_response());
    }
    let (writer, body) = follower(&shared, connection)?;
    let framing = Framing::wanted(&headers);
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let query = EventQuery { after: resumed.or(query.after), ..query };
    // Subscribed before the journal is read, so that nothing falls between the two.
    let live = shared.backend.live_events();
    tokio::spawn(pump_events(writer, Arc::clone(&shared.backend), live, query, framing));
    Ok(([(CONTENT_TYPE, framing.media_type())], body).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IncidentsQuery {
    #[serde(default)]
    open: bool,
    limit: Option<usize>,
}

async fn incidents<B: Backend>(
    State(shared): State<Shared<B>>,
    query: Result<Query<IncidentsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let IncidentsQuery { open, limit } = asked(query)?;
    let limit = limit.unwrap_or(DEFAULT_COUNT).min(INCIDENTS_MAX);
    Ok(Json(within(shared.limits.backend_patience, shared.backend.incidents(open, limit)).await?)
        .into_response())
}

async fn incident<B: Backend>(
    State(shared): State<Shared<B>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let text = part(path)?;
    let id = IncidentId::parse(&text).ok_or_else(|| Problem::no_such_incident(&text))?;
    Ok(Json(within(shared.limits.backend_patience, shared.backend.incident(id)).await?).into_response())
}

// === acting ===

/// Nothing may be said with a start, a stop or a restart. A field that is not known is refused rather than dropped.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NothingSaid {}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HoldSaid {
    #[serde(default)]
    reason: String,
    for_ms: Option<u64>,
    #[serde(default)]
    stop: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ResumeSaid {
    reason: Option<String>,
}

async fn act<B: Backend>(
    State(shared): State<Shared<B>>,
    Extension(connection): Extension<Connection>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Path((name, verb)) = path.map_err(|fault| Problem::bad_request(fault.body_text()))?;
    let path = request.uri().path().to_owned();
    let name = service_name(&name)?;
    let limits = shared.limits;
    let wanted = match verb.as_str() {
        "start" => said(request, limits).await.map(|NothingSaid {}| OperatorRequest::Start(name))?,
        "stop" => said(request, limits).await.map(|NothingSaid {}| OperatorRequest::Stop(name))?,
        "restart" => said(request, limits).await.map(|NothingSaid {}| OperatorRequest::Restart(name))?,
        "hold" => hold(name, said(request, limits).await?)?,
        "resume" => {
            let ResumeSaid { reason } = said(request, limits).await?;
            let reason = reason.map(|reason| checked_reason(&reason)).transpose()?;
            OperatorRequest::Resume { service: name, reason }
        }
        _ => return Err(unknown_path(&path)),
    };
    find(&shared, wanted.service()).await?;
    let steps = within(limits.backend_patience, shared.backend.ask(wanted)).await?;
    told_as_it_goes(connection, steps).await
}

/// The steps of a request, each as a line.
async fn told_as_it_goes(
    connection: Connection,
    mut steps: mpsc::Receiver<AskStep>,
) -> Result<Response, Problem> {
    let (writer, body) = LineWriter::new(connection, None);
    // What is refused at once is an error of HTTP too. What takes time has begun with 200 before its end is known.
    let first = match timeout(writer.limits().alive_every, steps.recv()).await {
        Ok(Some(AskStep::Answer(Answer::Refused { why, hint }))) => {
            return Err(Problem::new(ProblemKind::Refused, why, hint));
        }
        Ok(first) => Some(first),
        Err(_elapsed) => None,
    };
    tokio::spawn(pump_steps(writer, steps, first));
    Ok(([(CONTENT_TYPE, Framing::Lines.media_type())], body).into_response())
}

fn hold(service: ServiceName, said: HoldSaid) -> Result<OperatorRequest, Problem> {
    let reason = checked_reason(&said.reason)?;
    let expires_in = said.for_ms.map(Duration::from_millis);
    if expires_in.is_some_and(|length| length.is_zero()) {
        return Err(Problem::bad_request("`for_ms` is 0: a hold of no length holds nothing"));
    }
    Ok(OperatorRequest::Hold { service, reason, expires_in, stop: said.stop })
}

fn checked_reason(reason: &str) -> Result<String, Problem> {
    checked_line("reason", reason, "say why, whoever finds this tomorrow will ask")
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestSaid {
    sink: Option<String>,
}

async fn alerts_test<B: Backend>(
    State(shared): State<Shared<B>>,
    request: Request,
) -> Result<Response, Problem> {
    let TestSaid { sink } = said(request, shared.limits).await?;
    let unknown = |text: &str| {
        let detail = format!("there is no sink '{}'", text.escape_debug());
        Problem::new(ProblemKind::NoSuchSink, detail, "horus alerts test")
    };
    let sink = sink.map(|text| SinkName::parse(&text).map_err(|_| unknown(&text))).transpose()?;
    Ok(Json(within(shared.limits.work_patience, shared.backend.alerts_test(sink)).await?).into_response())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReloadSaid {
    #[serde(default)]
    dry_run: bool,
}

async fn reload<B: Backend>(State(shared): State<Shared<B>>, request: Request) -> Result<Response, Problem> {
    let ReloadSaid { dry_run } = said(request, shared.limits).await?;
    Ok(Json(within(shared.limits.work_patience, shared.backend.reload(dry_run)).await?).into_response())
}

async fn upgrade_report<B: Backend>(State(shared): State<Shared<B>>) -> Result<Response, Problem> {
    let report = async { Ok(shared.backend.upgrade_report().await) };
    Ok(Json(within(shared.limits.backend_patience, report).await?).into_response())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct UpgradeSaid {
    executable: Option<PathBuf>,
    #[serde(default)]
    dry_run: bool,
}

async fn upgrade<B: Backend>(
    State(shared): State<Shared<B>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Result<Response, Problem> {
    let UpgradeSaid { executable, dry_run } = said(request, shared.limits).await?;
    if executable.as_ref().is_some_and(|path| !path.is_absolute()) {
        return Err(Problem::bad_request("`executable` has to be an absolute path"));
    }
    let upgrading = shared.backend.upgrade(executable, dry_run);
    told_as_it_goes(connection, within(shared.limits.backend_patience, upgrading).await?).await
}

// === streams ===

/// How lines are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// One JSON value per line.
    Lines,
    /// Server-sent events.
    Sse,
}

impl Framing {
    fn wanted(headers: &HeaderMap) -> Self {
        let accepts = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if accepts.contains("text/event-stream") { Self::Sse } else { Self::Lines }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Sse => "text/event-stream",
        }
    }

    fn alive(self) -> Bytes {
        match self {
            Self::Lines => Bytes::from_static(b"\n"),
            Self::Sse => Bytes::from_static(b": alive\n\n"),
        }
    }

    fn frame(self, line: &EventLine) -> Bytes {
        let json = serde_json::to_string(line).unwrap_or_default();
        match (self, line) {
            (Self::Lines, _) => format!("{json}\n"),
            (Self::Sse, EventLine::Event(event)) => {
                format!("id: {}\nevent: event\ndata: {json}\n\n", event.seq)
            }
            (Self::Sse, EventLine::End(_)) => format!("event: end\ndata: {json}\n\n"),
        }
        .into()
    }
}

/// A place for one more follower.
fn follower<B>(shared: &Shared<B>, connection: Connection) -> Result<(LineWriter, Body), Problem> {
    let full = || {
        Problem::new(
            ProblemKind::TooMany,
            format!("{} streams are open, as many as are allowed", shared.limits.followers_max),
            "close some (horus logs -f, horus events -f) and try again",
        )
    };
    let place: OwnedSemaphorePermit =
        Arc::clone(&shared.followers).try_acquire_owned().map_err(|_| full())?;
    Ok(LineWriter::new(connection, Some(place)))
}

fn too_slow() -> End {
    let detail = "this reader did not read for too long and was dropped; ask again with `after`";
    End { why: EndWhy::TooSlow, detail: detail.into() }
}

fn shutting_down() -> End {
    End { why: EndWhy::ShuttingDown, detail: "horus is shutting down".into() }
}

/// First the journal, then what happens; back to the journal whenever more happened than was kept for us.
async fn pump_events<B: Backend>(
    writer: LineWriter,
    backend: Arc<B>,
    mut live: broadcast::Receiver<Arc<Recorded>>,
    mut query: EventQuery,
    framing: Framing,
) {
    let alive_every = writer.limits().alive_every;
    let mut behind = true;
    loop {
        if behind {
            match catch_up(&writer, backend.as_ref(), &mut query, framing).await {
                Ok(()) => behind = false,
                Err(Some(end)) => return writer.finish(framing.frame(&EventLine::End(end))),
                Err(None) => return,
            }
        }
        let line = tokio::select! {
            biased;
            () = writer.gone() => return,
            () = writer.closing() => return writer.finish(framing.frame(&EventLine::End(shutting_down()))),
            event = live.recv() => match event {
                Ok(event) if query.admits(&event) => {
                    query.after = Some(event.seq);
                    framing.frame(&EventLine::Event(Arc::unwrap_or_clone(event)))
                }
                Ok(_) => continue,
                Err(RecvError::Lagged(_)) => {
                    behind = true;
                    continue;
                }
                Err(RecvError::Closed) => {
                    return writer.finish(framing.frame(&EventLine::End(shutting_down())));
                }
            },
            () = tokio::time::sleep(alive_every) => framing.alive(),
        };
        match writer.write(line).await {
            Ok(()) => {}
            Err(Unwritable::Gone) => return,
            Err(Unwritable::Stalled) => return writer.finish(framing.frame(&EventLine::End(too_slow()))),
        }
    }
}

/// Writes everything that the journal has for `query`, and moves `query.after` behind it. `Err(None)`: nobody reads.
async fn catch_up<B: Backend>(
    writer: &LineWriter,
    backend: &B,
    query: &mut EventQuery,
    framing: Framing,
) -> Result<(), Option<End>> {
    loop {
        // Without `after` the newest events are wanted, once; with it every one, page by page.
        let paged = query.after.is_some();
        let limit = if paged { EVENTS_MAX } else { query.limit };
        let page = if limit == 0 { Vec::new() } else { read_page(writer, backend, query, limit).await? };
        let count = page.len();
        for event in page {
            query.after = Some(event.seq);
            match writer.write(framing.frame(&EventLine::Event(event))).await {
                Ok(()) => {}
                Err(Unwritable::Gone) => return Err(None),
                Err(Unwritable::Stalled) => return Err(Some(too_slow())),
            }
        }
        if !paged || count < limit {
            return Ok(());
        }
    }
}

async fn read_page<B: Backend>(
    writer: &LineWriter,
    backend: &B,
    query: &EventQuery,
    limit: usize,
) -> Result<Vec<Recorded>, Option<End>> {
    let query = EventQuery { limit, ..query.clone() };
    let page = within(writer.limits().backend_patience, backend.events(query)).await;
    page.map(|report| report.events)
        .map_err(|problem| Some(End { why: EndWhy::Fault, detail: problem.detail }))
}

async fn pump_logs(writer: LineWriter, mut pieces: mpsc::Receiver<Bytes>) {
    loop {
        let piece = tokio::select! {
            biased;
            () = writer.gone() => return,
            () = writer.closing() => return writer.finish(Bytes::from_static(b"--- horus is shutting down\n")),
            piece = pieces.recv() => match piece {
                Some(piece) => piece,
                None => return,
            },
        };
        match writer.write(piece).await {
            Ok(()) => {}
            Err(Unwritable::Gone) => return,
            Err(Unwritable::Stalled) => {
                let line = b"\n--- this reader did not read for too long and was dropped by horus\n";
                return writer.finish(Bytes::from_static(line));
            }
        }
    }
}

/// `first` is what was already received while the status code was undecided (`Some(None)`: the end).
async fn pump_steps(writer: LineWriter, mut steps: mpsc::Receiver<AskStep>, first: Option<Option<AskStep>>) {
    let frame = |line: &AskLine| Bytes::from(serde_json::to_string(line).unwrap_or_default() + "\n");
    let alive_every = writer.limits().alive_every;
    let mut first = first;
    loop {
        let step = match first.take() {
            Some(step) => Some(step),
            None => tokio::select! {
                biased;
                () = writer.gone() => return,
                step = steps.recv() => Some(step),
                () = tokio::time::sleep(alive_every) => None,
            },
        };
        let written = match step {
            // A stop is still carried out while Horus ends: its answer is waited for, the drain bounds it.
            Some(Some(AskStep::Progress(progress))) => {
                writer.write(frame(&AskLine::Progress(progress))).await
            }
            Some(Some(AskStep::Answer(answer))) => return writer.finish(frame(&AskLine::Answer(answer))),
            Some(None) => {
                let detail = "the request ended inside horus without an answer";
                let end = End { why: EndWhy::Fault, detail: detail.into() };
                return writer.finish(frame(&AskLine::End(end)));
            }
            None => writer.write(Bytes::from_static(b"\n")).await,
        };
        match written {
            Ok(()) => {}
            Err(Unwritable::Gone) => return,
            Err(Unwritable::Stalled) => return writer.finish(frame(&AskLine::End(too_slow()))),
        }
    }
}

// === reading requests strictly ===

async fn within<T>(patience: Duration, work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    timeout(patience, work).await.unwrap_or_else(|_elapsed| {
        let detail = format!("a part of horus did not answer within {} s", patience.as_secs());
        Err(Problem::new(
            ProblemKind::NoAnswer,
            detail,
            "try again; if it stays, look at the log of horus itself",
        ))
    })
}

fn part(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    path.map(|Path(text)| text).map_err(|fault| Problem::bad_request(fault.body_text()))
}

fn asked<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    query.map(|Query(query)| query).map_err(|fault| Problem::bad_request(fault.body_text()))
}

/// The JSON body; no body says nothing.
async fn said<T: DeserializeOwned + Default>(request: Request, limits: Limits) -> Result<T, Problem> {
    let is_json = request.headers().get(CONTENT_TYPE).is_some_and(|kind| {
        kind.to_str()
            .is_ok_and(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json"))
    });
    let body = Limited::new(request.into_body(), limits.body_bytes_max).collect();
    let slow = |_elapsed| {
        let detail = format!("the body was not there after {} s", limits.body_patience.as_secs());
        Problem::new(ProblemKind::BodyTooSlow, detail, "send it at once, or without a content-length")
    };
    let body = match timeout(limits.body_patience, body).await.map_err(slow)? {
        Ok(body) => body.to_bytes(),
        Err(fault) if fault.is::<LengthLimitError>() => {
            let detail = format!("the body is longer than {} bytes", limits.body_bytes_max);
            return Err(Problem::new(ProblemKind::BodyTooLarge, detail, "no request of this API is so long"));
        }
        Err(_broken) => return Err(Problem::bad_request("the body broke off")),
    };
    if body.is_empty() {
        return Ok(T::default());
    }
    if !is_json {
        let detail = "the body has to be JSON, and say so";
        return Err(Problem::new(ProblemKind::NotJson, detail, "content-type: application/json"));
    }
    serde_json::from_slice(&body)
        .map_err(|fault| Problem::bad_request(format!("the body is not understood: {fault}")))
}

fn unknown_path(path: &str) -> Problem {
    let path: String = path.chars().take(200).collect();
    let detail = format!("there is no path '{}'", path.escape_debug());
    Problem::new(ProblemKind::NoSuchPath, detail, "see docs/reference/api.md")
}

async fn no_such_path(request: Request) -> Problem {
    unknown_path(request.uri().path())
}

async fn no_such_method(request: Request) -> Problem {
    let detail = format!("{} is not allowed for '{}'", request.method(), request.uri().path().escape_debug());
    Problem::new(
        ProblemKind::MethodNotAllowed,
        detail,
        "reading is GET, acting is POST; see docs/reference/api.md",
    )
}
