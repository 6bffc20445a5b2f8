//! What the pipeline answers over HTTP: `/heartbeat`, `/healthz` and `/v1/items`, all read-only.
//!
//! Answers come from the last snapshot that the loop left behind, never from the journal, so that no request can slow the
//! work. The server runs in the loop's own runtime: when the loop hangs the beat is silent too, and that is honest.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use horus_heartbeat::Beat;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::journal::{ItemSummary, MissedSummary};

/// Most connections at once; one more is closed at once.
pub const CONNECTIONS_LIMIT: usize = 32;
/// Largest request head, in bytes.
pub const HEADER_LIMIT_BYTES: usize = 8192;
/// How long a head may take, also between two requests of one connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
/// How long to wait when no connection can be accepted (out of descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Most items and most gaps in `/v1/items`.
pub const ITEMS_LIMIT: usize = 100;

/// What the loop last knew.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Snapshot {
    /// Version of this shape.
    pub schema: u32,
    /// What keeps the pipeline from its work, if anything.
    pub problem: Option<String>,
    /// The newest items, newest slot first, at most [`ITEMS_LIMIT`].
    pub items: Vec<ItemSummary>,
    /// The newest gaps, newest first, at most [`ITEMS_LIMIT`].
    pub missed: Vec<MissedSummary>,
}

/// The version of [`Snapshot`] as JSON.
pub const SNAPSHOT_SCHEMA: u32 = 1;

/// A bound listener, not yet serving.
#[derive(Debug)]
pub struct Web {
    listener: TcpListener,
    beat: Beat,
    snapshot: watch::Receiver<Arc<Snapshot>>,
}

impl Web {
    /// Binds `address`.
    pub async fn bind(
        address: SocketAddr,
        beat: Beat,
        snapshot: watch::Receiver<Arc<Snapshot>>,
    ) -> Result<Self, std::io::Error> {
        Ok(Self { listener: TcpListener::bind(address).await?, beat, snapshot })
    }

    /// Where it listens; the port is known here when 0 was asked for.
    pub fn address(&self) -> Result<SocketAddr, std::io::Error> {
        self.listener.local_addr()
    }

    /// Serves until dropped.
    pub async fn serve(self) {
        // Owned here, so that the connections end with this task.
        let mut connections = JoinSet::new();
        loop {
            let accepted = self.listener.accept().await;
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, _)) if connections.len() < CONNECTIONS_LIMIT => {
                    connections.spawn(connection(stream, self.beat.clone(), self.snapshot.clone()));
                }
                Ok(_) => tracing::debug!("connection refused: {CONNECTIONS_LIMIT} are open"),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }
}

async fn connection(stream: TcpStream, beat: Beat, snapshot: watch::Receiver<Arc<Snapshot>>) {
    let service = hyper::service::service_fn(move |request| {
        let (beat, snapshot) = (beat.clone(), snapshot.clone());
        async move { Ok::<_, Infallible>(respond(&request, &beat, &snapshot).await) }
    });
    // An error here is the peer's: it went away, spoke nonsense or was too slow.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_LIMIT_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn respond(
    request: &Request<Incoming>,
    beat: &Beat,
    snapshot: &watch::Receiver<Arc<Snapshot>>,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, String::new());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let snapshot = Arc::clone(&snapshot.borrow());
    match request.uri().path() {
        "/heartbeat" => answer(StatusCode::OK, beat.answer().await),
        "/healthz" => {
            let status = if snapshot.problem.is_some() { "degraded" } else { "ok" };
            let body = serde_json::json!({ "status": status, "problem": snapshot.problem });
            answer(StatusCode::OK, body.to_string())
        }
        "/v1/items" => match serde_json::to_string(snapshot.as_ref()) {
            Ok(body) => answer(StatusCode::OK, body),
            Err(_) => answer(StatusCode::INTERNAL_SERVER_ERROR, String::new()),
        },
        _ => answer(
            StatusCode::NOT_FOUND,
            r#"{"title":"not found; there are /heartbeat, /healthz and /v1/items"}"#.to_owned(),
        ),
    }
}

fn answer(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
