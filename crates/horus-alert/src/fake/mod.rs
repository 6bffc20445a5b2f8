//! A Discord, a Slack and a webhook receiver on loopback, as strict as the documents say.
//!
//! Not a mock that nods: it checks version, headers, lengths and mentions as the real services do (and
//! `allowed_mentions` more strictly: it has to be there), counts against rate buckets, answers with the real codes,
//! and can be told to fail the next requests in all the ways that were seen in the wild. What it accepted can be
//! awaited and read.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use horus_alert::fake::{Fake, Fault};
//! let fake = Fake::start().await?;
//! fake.script([Fault::RateLimitedPage { after_s: 1 }, Fault::ServerError]);
//! let url = fake.discord_url(); // give it to a sink
//! let messages = fake.wait_for(1).await?;
//! assert!(messages[0].first_line().contains("working again"));
//! # Ok(()) }
//! ```

mod discord;
mod serve;
mod slack;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The failsafe of [`Fake::wait_for`].
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// The path segment that stands for the password in all URLs. A test that finds it in an output has found a leak.
pub const CANARY: &str = "cAnArY-tOkEn_0123456789abcdefghijklmnopqrstuvwxyz-never-in-any-output";

/// Which of the three services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `/api/v10/webhooks/ID/TOKEN`
    Discord,
    /// `/services/T/B/TOKEN`
    Slack,
    /// `/hook/TOKEN`
    Webhook,
}

/// What happens to one request instead of the usual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// 401 and, at Discord, code 50027.
    Unauthorized,
    /// 404 and, at Discord, code 10015; at Slack `no_service`. The body repeats the path.
    NotFound,
    /// 410.
    Gone,
    /// 429 as JSON with `retry_after`, and headers.
    RateLimited {
        /// Seconds.
        after_s: f64,
    },
    /// 429 as a web page, as the service's edge sends it: only `Retry-After`.
    RateLimitedPage {
        /// Seconds.
        after_s: u32,
    },
    /// 500 with an empty body.
    ServerError,
    /// 502 as a web page that repeats the path.
    BadGatewayPage,
    /// 200 as a web page: somebody in between wants a login.
    LoginPage,
    /// 400 and, at Discord, code 50035, whatever the message.
    BadForm,
    /// 302 to another place on the same host.
    Redirect,
    /// No answer, the connection stays open.
    Hang,
    /// The message is accepted, but the answer never comes.
    AcceptThenHang,
    /// The connection is reset.
    Reset,
    /// 400 with a body without end (until the reader has enough).
    EndlessBody,
}

/// A message that was accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// By which service.
    pub service: Service,
    /// The id that Discord gave it; a counter elsewhere.
    pub id: String,
    /// When.
    pub at: Instant,
    /// The body.
    pub body: Value,
    /// Request headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Who was notified: user ids, `everyone`, `here`, `channel`, roles as `&id`.
    pub pings: Vec<String>,
    /// It made a push notification (Discord's silent flag was not set).
    pub loud: bool,
    /// It is no new message: the one of this id was changed.
    pub is_change: bool,
}

/// A message as the channel shows it now.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its id.
    pub id: String,
    /// It was posted with a noise.
    pub loud: bool,
    /// The body, with all changes.
    pub body: Value,
    /// How often it was changed.
    pub changes: u32,
}

impl Shown {
    /// All texts, one per line, without the escapes of Discord's markup.
    pub fn full_text(&self) -> String {
        let mut texts = Vec::new();
        collect_texts(&self.body, &mut texts);
        texts.join("\n").replace(['\\', '\u{200B}'], "")
    }
}

impl Accepted {
    /// What a phone shows: `content`, `text`.
    pub fn first_line(&self) -> &str {
        let key = if self.service == Service::Discord { "content" } else { "text" };
        self.body[key].as_str().unwrap_or_default().lines().next().unwrap_or_default()
    }

    /// It is the loud line beside a message that says the same and more.
    pub fn is_line(&self) -> bool {
        self.service == Service::Discord && !self.is_change && self.body["embeds"].is_null()
    }

    /// All texts of the body, one per line, without the escapes of Discord's markup.
    pub fn full_text(&self) -> String {
        let mut texts = Vec::new();
        collect_texts(&self.body, &mut texts);
        texts.join("\n").replace(['\\', '\u{200B}'], "")
    }

    /// The first request header of that name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn collect_texts<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.iter().for_each(|value| collect_texts(value, texts)),
        Value::Object(fields) => fields.values().for_each(|value| collect_texts(value, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A request that was answered with an error by the fake's own rules, not by a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The status.
    pub status: u16,
    /// Why, in the fake's words.
    pub why: String,
}

/// [`Fake::wait_for`] waited too long.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{got} of {wanted} messages after {WAIT_MAX:?}; rejected: {rejected:?}")]
pub struct TimedOut {
    wanted: usize,
    got: usize,
    rejected: Vec<Rejected>,
}

/// A rate bucket: so many messages per window.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Messages per window.
    pub limit: u32,
    /// The window; it starts with the first message in it.
    pub window: Duration,
}

impl Default for Bucket {
    /// What third parties report of Discord.
    fn default() -> Self {
        Self { limit: 5, window: Duration::from_secs(2) }
    }
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Fault>,
    bucket: Bucket,
    window: Option<(Instant, u32)>,
    accepted: Vec<Accepted>,
    rejected: Vec<Rejected>,
    /// All requests, whatever became of them.
    requests: Vec<Instant>,
    deleted: bool,
    /// The channel of the Discord webhook.
    shown: Vec<Shown>,
    /// More changes of one message are refused with 30046.
    changes_max: Option<u32>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    accepted: watch::Sender<usize>,
    requests: watch::Sender<usize>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(&self, accepted: Accepted) {
        let mut state = self.state();
        if accepted.service == Service::Discord && !accepted.is_change {
            let Accepted { id, loud, body, .. } = accepted.clone();
            state.shown.push(Shown { id, loud, body, changes: 0 });
        }
        state.accepted.push(accepted);
        self.accepted.send_replace(state.accepted.len());
    }
}

/// The running fake. Ends when dropped.
#[derive(Debug)]
pub struct Fake {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Fake {
    /// Starts on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (accepted, requests) = (watch::Sender::new(0), watch::Sender::new(0));
        let shared = Arc::new(Shared { state: Mutex::default(), accepted, requests });
        let task = tokio::spawn(serve::accept_loop(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, task })
    }

    /// A Discord webhook URL as people paste it: without API version.
    pub fn discord_url(&self) -> String {
        format!("http://{}/api/webhooks/123456789012345678/{CANARY}", self.address)
    }

    /// A Slack incoming webhook's URL.
    pub fn slack_url(&self) -> String {
        format!("http://{}/services/T00000000/B00000000/{CANARY}", self.address)
    }

    /// A URL that takes any JSON.
    pub fn webhook_url(&self) -> String {
        format!("http://{}/hook/{CANARY}", self.address)
    }

    /// These happen to the next requests, one each, before any rule is looked at.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.state().script.extend(faults);
    }

    /// Forgets what of the script has not happened yet.
    pub fn clear_script(&self) {
        self.shared.state().script.clear();
    }

    /// Another rate bucket from now on.
    pub fn set_bucket(&self, bucket: Bucket) {
        let mut state = self.shared.state();
        state.bucket = bucket;
        state.window = None;
    }

    /// From now on (or no longer) the webhook is deleted: every request gets [`Fault::NotFound`].
    pub fn set_deleted(&self, deleted: bool) {
        self.shared.state().deleted = deleted;
    }

    /// What the Discord channel shows now, oldest first.
    pub fn channel(&self) -> Vec<Shown> {
        self.shared.state().shown.clone()
    }

    /// Somebody deletes all messages of the Discord channel.
    pub fn delete_messages(&self) {
        self.shared.state().shown.clear();
    }

    /// From now on a message can be changed so often.
    pub fn set_changes_max(&self, most: u32) {
        self.shared.state().changes_max = Some(most);
    }

    /// What was accepted so far, in order: new messages and changes.
    pub fn accepted(&self) -> Vec<Accepted> {
        self.shared.state().accepted.clone()
    }

    /// What broke a rule so far.
    pub fn rejected(&self) -> Vec<Rejected> {
        self.shared.state().rejected.clone()
    }

    /// When requests came, whatever became of them.
    pub fn requests(&self) -> Vec<Instant> {
        self.shared.state().requests.clone()
    }

    /// Waits until `count` messages were accepted, and returns all.
    ///
    /// # Errors
    /// If that takes longer than [`WAIT_MAX`].
    pub async fn wait_for(&self, count: usize) -> Result<Vec<Accepted>, TimedOut> {
        self.wait(self.shared.accepted.subscribe(), count).await?;
        Ok(self.accepted())
    }

    /// Waits until `count` requests came, whatever became of them.
    ///
    /// # Errors
    /// If that takes longer than [`WAIT_MAX`].
    pub async fn wait_for_requests(&self, count: usize) -> Result<(), TimedOut> {
        self.wait(self.shared.requests.subscribe(), count).await
    }

    async fn wait(&self, mut counter: watch::Receiver<usize>, wanted: usize) -> Result<(), TimedOut> {
        let outcome = tokio::time::timeout(WAIT_MAX, counter.wait_for(|count| *count >= wanted)).await;
        match outcome {
            Ok(Ok(_)) => Ok(()),
            _ => Err(TimedOut { wanted, got: *self.shared.accepted.borrow(), rejected: self.rejected() }),
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// UTF-16 units: never fewer than what a service that counts code points counts.
fn length(text: &str) -> usize {
    text.encode_utf16().count()
}
