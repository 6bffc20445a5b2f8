//! The server: connections, scripts, buckets, answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Accepted, Fault, Rejected, Service, Shared, discord, slack};

/// More than any message of Horus, less than what the services take.
const REQUEST_MAX: usize = 1024 * 1024;

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// What a service's rules say of a body.
pub(super) enum Ruling {
    Accept { pings: Vec<String>, loud: bool },
    Reject { status: u16, body: String, why: String },
}

/// The answer is that there is none.
#[derive(Debug, thiserror::Error)]
#[error("the fake closes the connection")]
struct Closed;

pub(super) async fn accept_loop(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task: all connections end with the fake.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(connection(stream, Arc::clone(&shared)));
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // A second descriptor of the same socket: closing with no linger sends a reset instead of an orderly end.
    let Some((stream, twin)) = twins(stream) else {
        return;
    };
    let service = service_fn(|request| {
        let (shared, twin) = (Arc::clone(&shared), &twin);
        async move {
            let answer = respond(request, &shared).await;
            if matches!(answer, Err(Closed)) {
                let _best_effort = twin.set_zero_linger();
            }
            answer
        }
    });
    let _ended_somehow =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

fn twins(stream: TcpStream) -> Option<(TcpStream, TcpStream)> {
    let stream = stream.into_std().ok()?;
    let twin = stream.try_clone().ok()?;
    Some((TcpStream::from_std(stream).ok()?, TcpStream::from_std(twin).ok()?))
}

async fn respond(request: Request<Incoming>, shared: &Shared) -> Result<Answer, Closed> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let wait = parts.uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "wait=true"));
    let headers: Vec<(String, String)> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().into(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let Ok(body) = Limited::new(body, REQUEST_MAX).collect().await else {
        return Ok(answer(413, &[], "too large"));
    };
    let body = body.to_bytes();
    let service = service_of(&path);
    let fault = {
        let mut state = shared.state();
        state.requests.push(Instant::now());
        shared.requests.send_replace(state.requests.len());
        if state.deleted { Some(Fault::NotFound) } else { state.script.pop_front() }
    };
    match fault {
        None | Some(Fault::AcceptThenHang) => {}
        Some(fault) => return misbehave(fault, service, &path).await,
    }
    let rate = match spend(shared) {
        Ok(rate) => rate,
        Err(after) => return Ok(limited(service, after)),
    };
    let ruling = match service {
        Some(Service::Discord) => match discord::rule(parts.method.as_str(), &path, &headers, &body) {
            Ruling::Accept { .. } if discord::message_of(&path).is_some() => change(shared, &path, &body),
            ruling => ruling,
        },
        Some(Service::Slack) => slack::rule(parts.method.as_str(), &headers, &body),
        Some(Service::Webhook) => rule_webhook(&headers, &body),
        None => Ruling::Reject { status: 404, body: "not found".into(), why: "no such path".into() },
    };
    let (pings, loud) = match ruling {
        Ruling::Accept { pings, loud } => (pings, loud),
        Ruling::Reject { status, body, why } => {
            shared.state().rejected.push(Rejected { status, why });
            return Ok(answer(status, &rate, &body));
        }
    };
    let service = service.unwrap_or(Service::Webhook);
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let changed = discord::message_of(&path).filter(|_| service == Service::Discord);
    let next = || format!("{}", 1_300_000_000_000_000_000_u64 + shared.state().accepted.len() as u64);
    let id = changed.map_or_else(next, str::to_owned);
    let (text_id, text_body) =
        (id.clone(), if service == Service::Discord { discord::saved(&id, &body) } else { String::new() });
    let is_change = changed.is_some();
    shared.accept(Accepted {
        service,
        id: text_id,
        at: Instant::now(),
        body,
        headers,
        pings,
        loud,
        is_change,
    });
    if fault == Some(Fault::AcceptThenHang) {
        return std::future::pending().await;
    }
    Ok(match service {
        Service::Discord if wait || is_change => answer(200, &rate, &text_body),
        Service::Discord => answer(204, &rate, ""),
        Service::Slack => answer(200, &[], "ok"),
        Service::Webhook => answer(202, &[], ""),
    })
}

fn service_of(path: &str) -> Option<Service> {
    match path.split('/').nth(1)? {
        "api" => Some(Service::Discord),
        "services" => Some(Service::Slack),
        "hook" => Some(Service::Webhook),
        _ => None,
    }
}

/// Changes a message of the Discord channel.
fn change(shared: &Shared, path: &str, body: &[u8]) -> Ruling {
    let change: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let mut state = shared.state();
    let most = state.changes_max.unwrap_or(u32::MAX);
    let id = discord::message_of(path).unwrap_or_default();
    let Some(shown) = state.shown.iter_mut().find(|shown| shown.id == id) else {
        return discord::unknown_message();
    };
    if shown.changes >= most {
        return discord::too_many_edits();
    }
    match discord::changed(&shown.body, &change) {
        Ok(body) => {
            (shown.body, shown.changes) = (body, shown.changes + 1);
            Ruling::Accept { pings: Vec::new(), loud: false }
        }
        Err(why) => discord::bad_change(&why),
    }
}

fn rule_webhook(headers: &[(String, String)], body: &[u8]) -> Ruling {
    let has = |name: &str| headers.iter().any(|(known, value)| known == name && !value.is_empty());
    let reject = |why: &str| Ruling::Reject { status: 400, body: why.into(), why: why.into() };
    if !has("webhook-id") || !has("webhook-timestamp") {
        return reject("webhook-id and webhook-timestamp are required");
    }
    if body.len() > 20_000 {
        return Ruling::Reject { status: 413, body: "too large".into(), why: "body above 20 kB".into() };
    }
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(body) => Ruling::Accept { pings: Vec::new(), loud: body["loud"] == true },
        Err(_) => reject("not JSON"),
    }
}

/// Takes one from the bucket: the headers of the answer, or how long to wait.
fn spend(shared: &Shared) -> Result<Vec<(&'static str, String)>, Duration> {
    let now = Instant::now();
    let mut state = shared.state();
    let bucket = state.bucket;
    let (start, used) = match state.window {
        Some((start, used)) if now.duration_since(start) < bucket.window => (start, used),
        _ => (now, 0),
    };
    let left = bucket.window.saturating_sub(now.duration_since(start));
    if used >= bucket.limit {
        return Err(left);
    }
    state.window = Some((start, used + 1));
    Ok(vec![
        ("x-ratelimit-limit", bucket.limit.to_string()),
        ("x-ratelimit-remaining", (bucket.limit - used - 1).to_string()),
        ("x-ratelimit-reset-after", format!("{:.3}", left.as_secs_f64())),
        ("x-ratelimit-bucket", "fake".into()),
    ])
}

fn limited(service: Option<Service>, after: Duration) -> Answer {
    let seconds = after.as_secs_f64();
    let retry_after = ("retry-after", format!("{}", seconds.ceil().max(1.0)));
    if service == Some(Service::Slack) {
        return answer(429, &[retry_after], "rate_limited");
    }
    let headers = [
        retry_after,
        ("x-ratelimit-remaining", "0".into()),
        ("x-ratelimit-reset-after", format!("{seconds:.3}")),
        ("x-ratelimit-scope", "user".into()),
    ];
    let body = json!({ "message": "You are being rate limited.", "retry_after": seconds, "global": false });
    answer(429, &headers, &body.to_string())
}

async fn misbehave(fault: Fault, service: Option<Service>, path: &str) -> Result<Answer, Closed> {
    let discord = service == Some(Service::Discord);
    let coded = |status, message: &str, code: u32, other: &str| {
        let body = json!({ "message": message, "code": code }).to_string();
        answer(status, &[], if discord { &body } else { other })
    };
    let page = |status, title: &str| {
        let body = format!(
            "<!DOCTYPE html>\n<html><head><title>{title} {path}</title></head><body>{path}</body></html>"
        );
        answer(status, &[("content-type", "text/html".into())], &body)
    };
    Ok(match fault {
        Fault::Unauthorized => coded(401, "Invalid Webhook Token", 50_027, "invalid_token"),
        Fault::NotFound => coded(404, "Unknown Webhook", 10_015, &format!("no_service {path}")),
        Fault::Gone => answer(410, &[], "channel_is_archived"),
        Fault::RateLimited { after_s } => {
            limited(service, Duration::try_from_secs_f64(after_s).unwrap_or_default())
        }
        Fault::RateLimitedPage { after_s } => {
            let headers = [("content-type", "text/html".into()), ("retry-after", after_s.to_string())];
            answer(429, &headers, "<html><head><title>error 1015</title></head></html>")
        }
        Fault::ServerError => answer(500, &[], ""),
        Fault::BadGatewayPage => page(502, "Bad gateway"),
        Fault::LoginPage => page(200, "Please log in"),
        Fault::BadForm => coded(400, "Invalid Form Body", 50_035, "invalid_payload"),
        Fault::Redirect => answer(302, &[("location", format!("{path}/elsewhere"))], ""),
        Fault::Hang | Fault::AcceptThenHang => std::future::pending().await,
        Fault::Reset => return Err(Closed),
        Fault::EndlessBody => {
            let mut response = Response::new(Endless.boxed());
            *response.status_mut() = hyper::StatusCode::BAD_REQUEST;
            response
        }
    })
}

fn answer(status: u16, headers: &[(&'static str, String)], body: &str) -> Answer {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())).boxed());
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    if body.starts_with('{') {
        response
            .headers_mut()
            .insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    }
    for (name, value) in headers {
        if let Ok(value) = hyper::header::HeaderValue::from_str(value) {
            response.headers_mut().insert(*name, value);
        }
    }
    response
}

struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 8192])))))
    }
}
