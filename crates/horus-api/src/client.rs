//! The API from the other side: what the command line speaks.
//!
//! One connection per request. Every answer is bounded in size and in time; "there is no daemon" is told apart from
//! everything else, because it is the one fault that a person can cure by one command.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use horus_core::command::Answer;
use horus_core::explain::Explanation;
use horus_core::ids::{IncidentId, ServiceName};
use horus_core::observation::OperatorRequest;
use horus_core::status::{ServiceStatus, StatusReport};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::problem::Problem;
use crate::wire::{
    AlertsReport, AskLine, AskStep, DebtsReport, EventLine, EventQuery, EventsReport, HealthReport,
    IncidentReport, IncidentsReport, ReloadReport, RuleReport, ServiceReport, UpgradeReport, VersionReport,
};

/// Longest answer that is taken, bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Longest line of a stream that is taken, bytes.
const LINE_BYTES_MAX: usize = 4 << 20;

/// The daemon accepts a connection within this, or it is hung.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// An answer begins within this. Longer than the server's own patience, so that its explanation arrives.
const ANSWER_PATIENCE: Duration = Duration::from_secs(75);

/// A stream that shows no sign of life for so long is dead: three of the server's `alive_every`.
const STREAM_PATIENCE: Duration = Duration::from_secs(45);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens at the socket.
    #[error("no horus is running here (nobody listens at {socket})")]
    NoDaemon {
        /// Where the socket was expected.
        socket: PathBuf,
    },
    /// The socket may not be opened.
    #[error("{socket} may not be opened by this user")]
    NotPermitted {
        /// The socket.
        socket: PathBuf,
    },
    /// The daemon answered with a problem.
    #[error(transparent)]
    Problem(#[from] Box<Problem>),
    /// The daemon accepts connections and says nothing.
    #[error("horus did not answer within {patience:?}")]
    Silent {
        /// How long was waited.
        patience: Duration,
    },
    /// The conversation broke off.
    #[error("the connection to horus broke off while {doing}")]
    Broken {
        /// What was being done.
        doing: &'static str,
        /// What the system or the protocol said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The answer is not one of this version of the API.
    #[error("the answer of horus is not understood ({what}); are daemon and command of the same version?")]
    NotUnderstood {
        /// What is wrong with it.
        what: String,
    },
}

fn broken(doing: &'static str) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> ClientError {
    move |source| ClientError::Broken { doing, source }
}

/// Speaks to the daemon at one socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon whose socket is at `socket`. Nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Where the socket is expected.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Which Horus answers there.
    ///
    /// # Errors
    /// [`ClientError`], as for every method.
    pub async fn version(&self) -> Result<VersionReport, ClientError> {
        self.get("/api/v1/version".into()).await
    }

    /// Is Horus itself well?
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn health(&self) -> Result<HealthReport, ClientError> {
        self.get("/healthz".into()).await
    }

    /// Everything at this instant.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn status(&self) -> Result<StatusReport, ClientError> {
        self.get("/api/v1/status".into()).await
    }

    /// One service.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn service(&self, name: &ServiceName) -> Result<ServiceStatus, ClientError> {
        let report: ServiceReport = self.get(format!("/api/v1/services/{name}")).await?;
        Ok(report.service)
    }

    /// What is known of one service, and what would have to happen for Horus to act.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn explain(&self, name: &ServiceName) -> Result<Explanation, ClientError> {
        self.get(format!("/api/v1/services/{name}/explanation")).await
    }

    /// Asks for something and gives its steps as they come.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal at once is a [`ClientError::Problem`] of the kind
    /// [`Refused`](crate::ProblemKind::Refused).
    pub async fn ask(&self, request: &OperatorRequest) -> Result<AskStream, ClientError> {
        let (verb, said) = match request {
            OperatorRequest::Start(_) => ("start", json!({})),
            OperatorRequest::Stop(_) => ("stop", json!({})),
            OperatorRequest::Restart(_) => ("restart", json!({})),
            OperatorRequest::Hold { reason, expires_in, stop, .. } => {
                let for_ms = expires_in.map(|length| u64::try_from(length.as_millis()).unwrap_or(u64::MAX));
                ("hold", json!({ "reason": reason, "for_ms": for_ms, "stop": stop }))
            }
            OperatorRequest::Resume { reason, .. } => ("resume", json!({ "reason": reason })),
        };
        let path = format!("/api/v1/services/{}/{verb}", request.service());
        Ok(AskStream(Lines::new(self.post(path, &said).await?)))
    }

    /// Events from the journal.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn events(&self, query: &EventQuery) -> Result<EventsReport, ClientError> {
        self.get(events_path(query, false)).await
    }

    /// Events from the journal, and then as they happen.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn follow_events(&self, query: &EventQuery) -> Result<EventStream, ClientError> {
        Ok(EventStream(Lines::new(self.ask_for(events_path(query, true)).await?)))
    }

    /// Incidents, newest first.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn incidents(&self, open_only: bool, limit: usize) -> Result<IncidentsReport, ClientError> {
        self.get(format!("/api/v1/incidents?open={open_only}&limit={limit}")).await
    }

    /// One incident's whole story.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn incident(&self, id: IncidentId) -> Result<IncidentReport, ClientError> {
        self.get(format!("/api/v1/incidents/{id}")).await
    }

    /// Surprises without a rule, the oldest first.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn debts(&self) -> Result<DebtsReport, ClientError> {
        self.get("/api/v1/debts".to_owned()).await
    }

    /// Notes what was done against an incident, and against older ones of the same kind.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn note_rule(&self, id: IncidentId, text: &str) -> Result<RuleReport, ClientError> {
        let path = format!("/api/v1/incidents/{id}/rule");
        whole(self.post(path, &json!({ "text": text })).await?).await
    }

    /// Notes that an incident was a drill: it owes nothing, and pays for no other.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn note_drill(&self, id: IncidentId, text: &str) -> Result<RuleReport, ClientError> {
        let path = format!("/api/v1/incidents/{id}/rule");
        whole(self.post(path, &json!({ "text": text, "drill": true })).await?).await
    }

    /// The last `lines` lines of a service's output, and with `follow` whatever comes then.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn logs(
        &self,
        name: &ServiceName,
        lines: usize,
        follow: bool,
    ) -> Result<LogStream, ClientError> {
        let path = format!("/api/v1/services/{name}/logs?lines={lines}&follow={follow}");
        Ok(LogStream(self.ask_for(path).await?.into_body()))
    }

    /// Sends a test message to one sink, or to all.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn alerts_test(&self, sink: Option<&str>) -> Result<AlertsReport, ClientError> {
        let response = self.post("/api/v1/alerts/test".into(), &json!({ "sink": sink })).await?;
        whole(response).await
    }

    /// Has the daemon read its configuration again.
    ///
    /// # Errors
    /// [`ClientError`]; faults of the file are in the report.
    pub async fn reload(&self, dry_run: bool) -> Result<ReloadReport, ClientError> {
        whole(self.post("/api/v1/reload".into(), &json!({ "dry_run": dry_run })).await?).await
    }

    /// Has the daemon become another program, or only try it out. Its answer comes before the change; see
    /// [`Client::upgrade_report`].
    ///
    /// # Errors
    /// [`ClientError`]; a refusal at once is a [`ClientError::Problem`].
    pub async fn upgrade(&self, executable: Option<&Path>, dry_run: bool) -> Result<AskStream, ClientError> {
        let said = json!({ "executable": executable, "dry_run": dry_run });
        Ok(AskStream(Lines::new(self.post("/api/v1/upgrade".into(), &said).await?)))
    }

    /// How the last upgrade went.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn upgrade_report(&self) -> Result<UpgradeReport, ClientError> {
        self.get("/api/v1/upgrade".into()).await
    }

    async fn get<T: DeserializeOwned>(&self, path: String) -> Result<T, ClientError> {
        whole(self.ask_for(path).await?).await
    }

    async fn ask_for(&self, path: String) -> Result<Response<Incoming>, ClientError> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    async fn post(&self, path: String, said: &serde_json::Value) -> Result<Response<Incoming>, ClientError> {
        self.send(Method::POST, path, Bytes::from(said.to_string())).await
    }

    async fn send(
        &self,
        method: Method,
        path: String,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken("opening it")(error.into()))?;
        // Ends with the response body. Its error, if any, also reaches whoever reads that.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "horus")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| broken("asking")(error.into()))?;
        let response = timeout(ANSWER_PATIENCE, sender.send_request(request))
            .await
            .map_err(|_elapsed| ClientError::Silent { patience: ANSWER_PATIENCE })?
            .map_err(|error| broken("asking")(error.into()))?;
        // An unhealthy daemon answers 503 with its report; everything else that is no success is a problem.
        let is_problem =
            response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/problem+json");
        if is_problem {
            let problem: Problem = whole(response).await?;
            return Err(ClientError::Problem(Box::new(problem)));
        }
        Ok(response)
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let socket = || self.socket.clone();
        match timeout(CONNECT_PATIENCE, UnixStream::connect(&self.socket)).await {
            Err(_elapsed) => Err(ClientError::Silent { patience: CONNECT_PATIENCE }),
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                    ClientError::NoDaemon { socket: socket() }
                }
                io::ErrorKind::PermissionDenied => ClientError::NotPermitted { socket: socket() },
                _ => broken("opening it")(error.into()),
            }),
        }
    }
}

fn events_path(query: &EventQuery, follow: bool) -> String {
    let mut path = format!("/api/v1/events?limit={}&follow={follow}", query.limit);
    if let Some(after) = query.after {
        path += &format!("&after={after}");
    }
    if let Some(subject) = &query.subject {
        path += &format!("&service={}", percent_encoded(subject));
    }
    if let Some(incident) = query.incident {
        path += &format!("&incident={incident}");
    }
    path
}

/// Only what never needs to be encoded stays as it is.
fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

async fn whole<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, ClientError> {
    let body = timeout(ANSWER_PATIENCE, Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect())
        .await
        .map_err(|_elapsed| ClientError::Silent { patience: ANSWER_PATIENCE })?
        .map_err(broken("reading the answer"))?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|fault| ClientError::NotUnderstood { what: fault.to_string() })
}

/// Lines of JSON out of a body that grows.
#[derive(Debug)]
struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    fn new(response: Response<Incoming>) -> Self {
        Self { body: response.into_body(), buffer: Vec::new() }
    }

    /// The next line, without the empty ones that only show that the stream is alive. `None`: the end.
    async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if line.len() == 1 {
                    continue;
                }
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|fault| ClientError::NotUnderstood { what: fault.to_string() });
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(ClientError::NotUnderstood { what: "a line without end".into() });
            }
            match timeout(STREAM_PATIENCE, piece(&mut self.body)).await {
                Err(_elapsed) => return Err(ClientError::Silent { patience: STREAM_PATIENCE }),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(Some(data))) => self.buffer.extend_from_slice(&data),
                Ok(Ok(None)) => return Ok(None),
            }
        }
    }
}

async fn piece(body: &mut Incoming) -> Result<Option<Bytes>, ClientError> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => return Err(broken("reading the stream")(error.into())),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// The steps of a request, as they come.
#[derive(Debug)]
pub struct AskStream(Lines);

impl AskStream {
    /// The next step. After [`AskStep::Answer`] there is none.
    ///
    /// # Errors
    /// [`ClientError`]; a stream that ends without an answer is [`ClientError::Broken`].
    pub async fn next(&mut self) -> Result<AskStep, ClientError> {
        match self.0.next().await? {
            Some(AskLine::Progress(progress)) => Ok(AskStep::Progress(progress)),
            Some(AskLine::Answer(answer)) => Ok(AskStep::Answer(answer)),
            Some(AskLine::End(end)) => Err(broken("waiting for the outcome")(end.detail.into())),
            None => Err(broken("waiting for the outcome")("no answer came".into())),
        }
    }

    /// The answer; what happens on the way to it is left out.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn answer(mut self) -> Result<Answer, ClientError> {
        loop {
            if let AskStep::Answer(answer) = self.next().await? {
                return Ok(answer);
            }
        }
    }
}

/// Events, as they come.
#[derive(Debug)]
pub struct EventStream(Lines);

impl EventStream {
    /// The next line; `None` when the daemon is gone.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn next(&mut self) -> Result<Option<EventLine>, ClientError> {
        self.0.next().await
    }
}

/// Output of a service, in pieces that know nothing of lines.
#[derive(Debug)]
pub struct LogStream(Incoming);

impl LogStream {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        piece(&mut self.0).await
    }
}
