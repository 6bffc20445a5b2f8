//! The HTTP beat: one poll, one connection, and exact words for what went wrong.
//!
//! ```text
//!   look up -> connect -> send -> head -> body -> JSON
//!   NoPath     NoPath    \______ NoAnswer ____/   NotABeat       on a fresh connection
//!                        \ ReusedConnectionSilent /              on one that had answered before
//! ```
//!
//! One timeout covers all of it, so an answer that comes a byte a second ends like one that never comes. A connection
//! is kept between polls (a program that is polled every second should not pay for a handshake each time), and a
//! silence on a kept one is told apart, because a dead path looks the same: the next poll connects anew, at once.
//! Redirects are answers, not instructions. Rejected: a client library with a pool, which hides exactly the
//! difference between a fresh and a kept connection.

use std::time::Duration;

use horus_core::observation::ProbeFault;
use horus_core::plan::HttpBeat;
use horus_core::time::Human;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::beat_json::{self, Pointers};
use crate::limits::{BODY_BYTES_MAX, HEAD_BYTES_MAX, HEADERS_MAX};
use crate::sign::{Miss, Sign};
use crate::target::{HttpTarget, is_late, own_lateness};
use crate::text;

/// What Horus calls itself.
pub(crate) const USER_AGENT: &str = concat!("horus/", env!("CARGO_PKG_VERSION"));

/// A connection that answers, and the task that drives it.
#[derive(Debug)]
struct Link {
    requests: http1::SendRequest<Empty<Bytes>>,
    driver: JoinHandle<()>,
    /// Whether an answer was heard on it.
    proven: bool,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Asks one URL, again and again.
#[derive(Debug)]
pub(crate) struct HttpAsker {
    target: HttpTarget,
    timeout: Duration,
    /// The longest body that is taken, in bytes.
    body_max: usize,
    /// What kinds of answer are asked for.
    accept: &'static str,
    link: Option<Link>,
}

/// What is asked of an answer.
#[derive(Clone, Copy, Debug)]
struct Want {
    status: StatusCode,
    /// Read the body, too.
    body: bool,
}

/// How far an exchange came.
#[derive(Debug)]
enum Exchange {
    Answered(StatusCode, Bytes),
    /// The other side closed the kept connection before it answered: that is its right.
    Stale,
    Failed(Miss),
}

impl HttpAsker {
    pub(crate) fn new(url: &str, timeout: Duration) -> Result<Self, Miss> {
        let target = HttpTarget::parse(url)?;
        let accept = "application/json, */*;q=0.5";
        Ok(Self { target, timeout, body_max: BODY_BYTES_MAX, accept, link: None })
    }

    /// The same for answers that are longer than a beat.
    pub(crate) fn with_answers(mut self, body_max: usize, accept: &'static str) -> Self {
        (self.body_max, self.accept) = (body_max, accept);
        self
    }

    /// One whole answer with its body, or the reason why not. After any miss the next question goes over a fresh
    /// connection.
    pub(crate) async fn ask(&mut self, wanted: StatusCode) -> Result<Bytes, Miss> {
        let until = Instant::now() + self.timeout;
        let want = Want { status: wanted, body: true };
        if let Some(link) = self.link.take().filter(|link| !link.requests.is_closed()) {
            match self.exchange(link, until, want).await {
                Exchange::Answered(status, body) => return expect_status(status, wanted, body),
                Exchange::Failed(miss) => return Err(miss),
                Exchange::Stale => {}
            }
        }
        let link = self.connect(until).await?;
        match self.exchange(link, until, want).await {
            Exchange::Answered(status, body) => expect_status(status, wanted, body),
            Exchange::Failed(miss) => Err(miss),
            Exchange::Stale => Err(closed_unanswered()),
        }
    }

    /// The status alone, over a fresh connection; the body is not read.
    pub(crate) async fn ask_status(mut self, wanted: StatusCode) -> Result<(), Miss> {
        let until = Instant::now() + self.timeout;
        let link = self.connect(until).await?;
        match self.exchange(link, until, Want { status: wanted, body: false }).await {
            Exchange::Answered(status, body) => expect_status(status, wanted, body).map(|_empty| ()),
            Exchange::Failed(miss) => Err(miss),
            Exchange::Stale => Err(closed_unanswered()),
        }
    }

    async fn connect(&self, until: Instant) -> Result<Link, Miss> {
        let stream = self.target.target.connect(self.timeout, until).await?;
        let handshake = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .handshake(TokioIo::new(stream));
        let (requests, connection) =
            handshake.await.map_err(|error| Miss::prober(format!("handshake: {}", text::chain(&error))))?;
        let driver = tokio::spawn(async move {
            // Its errors reach the request that is under way.
            let _ = connection.await;
        });
        Ok(Link { requests, driver, proven: false })
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, Miss> {
        Request::get(&self.target.path)
            .header(header::HOST, &self.target.authority)
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, self.accept)
            .header(header::CONNECTION, "keep-alive")
            .body(Empty::new())
            .map_err(|_| Miss::prober("the URL makes no request"))
    }

    async fn exchange(&mut self, mut link: Link, until: Instant, want: Want) -> Exchange {
        let request = match self.request() {
            Ok(request) => request,
            Err(miss) => return Exchange::Failed(miss),
        };
        let mut heard = 0_usize;
        let body_max = self.body_max;
        let answer = async {
            link.requests.ready().await?;
            let answer = link.requests.send_request(request).await?;
            let status = answer.status();
            // The body of an answer that is refused anyway is not waited for.
            let body = if want.body && status == want.status {
                read_body(answer, body_max, &mut heard).await?
            } else {
                None
            };
            Ok::<_, Cut>((status, body))
        };
        match timeout_at(until, answer).await {
            Ok(Ok((status, body))) => {
                if let Some(body) = body {
                    link.proven = true;
                    self.link = Some(link);
                    return Exchange::Answered(status, body);
                }
                Exchange::Answered(status, Bytes::new())
            }
            Ok(Err(Cut::TooLong)) => Exchange::Failed(Miss::not_a_beat(format!(
                "the answer is longer than {} KiB",
                body_max >> 10
            ))),
            Ok(Err(Cut::Broken(error))) if link.proven && heard == 0 && closed_early(&error) => {
                Exchange::Stale
            }
            Ok(Err(Cut::Broken(error))) => Exchange::Failed(broken(&error, heard)),
            Err(_) if is_late(until) => Exchange::Failed(own_lateness()),
            Err(_) => Exchange::Failed(self.silent(link.proven, heard)),
        }
    }

    fn silent(&self, proven: bool, heard: usize) -> Miss {
        let timeout = Human(self.timeout);
        let detail = match heard {
            0 => format!("no answer in {timeout}"),
            bytes => format!("answer not complete in {timeout} ({bytes} bytes of it came)"),
        };
        if proven {
            Miss::new(ProbeFault::ReusedConnectionSilent, format!("{detail} on a kept connection"))
        } else {
            Miss::no_answer(detail)
        }
    }
}

/// Why reading stopped.
#[derive(Debug)]
enum Cut {
    TooLong,
    Broken(hyper::Error),
}

impl From<hyper::Error> for Cut {
    fn from(error: hyper::Error) -> Self {
        Self::Broken(error)
    }
}

async fn read_body(
    answer: Response<Incoming>,
    body_max: usize,
    heard: &mut usize,
) -> Result<Option<Bytes>, Cut> {
    let mut incoming = answer.into_body();
    if incoming.size_hint().lower() > body_max as u64 {
        return Err(Cut::TooLong);
    }
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame?;
        let Some(data) = frame.data_ref() else { continue };
        *heard += data.len();
        if *heard > body_max {
            return Err(Cut::TooLong);
        }
        body.extend_from_slice(data);
    }
    Ok(Some(body.into()))
}

fn expect_status(status: StatusCode, wanted: StatusCode, body: Bytes) -> Result<Bytes, Miss> {
    if status == wanted {
        return Ok(body);
    }
    Err(Miss::not_a_beat(wrong_status(status.as_u16(), wanted.as_u16())))
}

/// Words for a status that was not asked for.
pub(crate) fn wrong_status(status: u16, wanted: u16) -> String {
    let hint = if (300..400).contains(&status) { " (a redirect; it is not followed)" } else { "" };
    if wanted == 200 {
        format!("status {status}{hint}")
    } else {
        format!("status {status} instead of {wanted}{hint}")
    }
}

fn closed_unanswered() -> Miss {
    Miss::not_a_beat("the connection was closed without an answer")
}

fn closed_early(error: &hyper::Error) -> bool {
    error.is_canceled() || error.is_closed() || error.is_incomplete_message() || reset(error) || ended(error)
}

/// The end of the stream came inside the body.
fn ended(error: &hyper::Error) -> bool {
    io_kind(error) == Some(std::io::ErrorKind::UnexpectedEof)
}

fn reset(error: &hyper::Error) -> bool {
    use std::io::ErrorKind as Kind;
    matches!(io_kind(error), Some(Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted))
}

fn io_kind(error: &hyper::Error) -> Option<std::io::ErrorKind> {
    let source = std::error::Error::source(error)?;
    source.downcast_ref::<std::io::Error>().map(std::io::Error::kind)
}

fn broken(error: &hyper::Error, heard: usize) -> Miss {
    if error.is_parse_too_large() {
        return Miss::not_a_beat(format!(
            "the head of the answer is longer than {} KiB",
            HEAD_BYTES_MAX >> 10
        ));
    }
    if error.is_parse() {
        return Miss::not_a_beat(format!("the answer is not HTTP ({})", text::chain(error)));
    }
    if closed_early(error) {
        let how = if reset(error) { "reset" } else { "closed" };
        return Miss::not_a_beat(match heard {
            0 => format!("the connection was {how} without a whole answer"),
            bytes => format!("the connection was {how} after {bytes} bytes of the body"),
        });
    }
    Miss::not_a_beat(format!("the answer broke off: {}", text::chain(error)))
}

/// `heartbeat.http`.
#[derive(Debug)]
pub(crate) struct HttpProbe {
    asker: HttpAsker,
    pointers: Pointers,
    /// What was left out of a beat is told once for each new text.
    told: Option<Vec<String>>,
}

impl HttpProbe {
    pub(crate) fn new(beat: &HttpBeat) -> Result<Self, Miss> {
        let asker = HttpAsker::new(&beat.url, beat.timeout)?;
        Ok(Self { asker, pointers: Pointers::from(beat), told: None })
    }

    pub(crate) async fn poll(&mut self) -> Result<Sign, Miss> {
        let body = self.asker.ask(StatusCode::OK).await?;
        let reading = beat_json::read(&body, &self.pointers, Timestamp::now())?;
        if !reading.left_out.is_empty() && self.told.is_none() {
            let left_out = reading.left_out.join("; ");
            tracing::warn!(url = %self.asker.target.authority, left_out = %text::detail(&left_out), "parts of the beat cannot be read");
            self.told = Some(reading.left_out);
        }
        Ok(reading.sign)
    }
}
