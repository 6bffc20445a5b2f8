//! What every sink has in common: a request out, an answer back, and what the answer means.
//!
//! A service is described by two pure functions, [`Route::request`] and [`Route::classify`]; everything that waits,
//! retries or counts is elsewhere. So each odd answer of a real service is one line in a test.

use std::fmt;
use std::time::Duration;

use horus_core::outbox::{Move, OutboxItem};
use horus_core::plan::{Secret, SinkKind};
use jiff::Timestamp;
use jiff::tz::TimeZone;
/// The method of a request.
pub use reqwest::Method;
use url::Url;

use crate::discord::Discord;
use crate::slack::Slack;
use crate::text::{clean, cut};
use crate::webhook::Webhook;
use crate::words::FOOTER_MAX;

/// The longest wait that a service may ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The longest error text, in UTF-16 units.
pub const ERROR_MAX: usize = 240;

/// Stands at the foot of a message that may be there already.
pub const PERHAPS_TWICE: &str = " · perhaps sent twice";

/// Something that takes messages.
pub trait Sink: Send + Sync + 'static {
    /// Can it change a message that is there?
    fn edits(&self) -> bool {
        false
    }

    /// Tries once to bring the item's notice there. Ends within a bounded time.
    fn deliver(&self, item: &OutboxItem, how: Move, form: Form) -> impl Future<Output = Answer> + Send;
}

/// In which form a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// With colour, title and footer.
    Rich,
    /// Text only, for a service that refused the rich form. Better an ugly alert than none.
    Plain,
}

/// What a try came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What became of the message.
    pub verdict: Verdict,
    /// The service asks for a pause before the *next* message, whatever became of this one.
    pub pause: Option<Duration>,
    /// It may have arrived, whatever the verdict says: the request was sent and no answer came, or one that says nothing
    /// about it.
    pub in_doubt: bool,
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, pause: None, in_doubt: false }
    }
}

/// What became of one message.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The sink has acknowledged it.
    Delivered {
        /// What the sink calls the message, if it says.
        remote_id: Option<String>,
    },
    /// Not now.
    Retry {
        /// What the service asks for; at most [`RETRY_AFTER_MAX`].
        after: Option<Duration>,
        /// Why, without the URL.
        error: String,
    },
    /// The URL is not (or no longer) a sink. Nothing will get through until a person changes something.
    Dead {
        /// Why, without the URL.
        error: String,
    },
    /// The message that was to be changed is gone, or cannot be changed any more: a new one has to take its place.
    Anew {
        /// Why, without the URL.
        error: String,
    },
    /// The service does not like the form of this message.
    Fallback {
        /// Why, without the URL.
        error: String,
    },
    /// The service refuses this message in any form.
    Refused {
        /// Why, without the URL.
        error: String,
    },
}

impl Verdict {
    /// The same with another error text.
    #[must_use]
    pub fn map_error(self, map: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Delivered { remote_id } => Self::Delivered { remote_id },
            Self::Retry { after, error } => Self::Retry { after, error: map(error) },
            Self::Dead { error } => Self::Dead { error: map(error) },
            Self::Anew { error } => Self::Anew { error: map(error) },
            Self::Fallback { error } => Self::Fallback { error: map(error) },
            Self::Refused { error } => Self::Refused { error: map(error) },
        }
    }
}

/// A secret that is no sink. The texts do not repeat the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSink {
    /// Not a URL, or one without a host.
    #[error("the secret is not a URL")]
    NotAUrl,
    /// Neither http nor https.
    #[error("the URL starts neither with https:// nor with http://")]
    Scheme,
    /// Over plain http the URL, which is the password, is readable on the way.
    #[error("a Discord or Slack URL must start with https:// (http:// is for tests on this machine)")]
    Unencrypted,
    /// Not `/api/webhooks/ID/TOKEN`.
    #[error("the URL is not a Discord webhook: its path should be /api/webhooks/ID/TOKEN")]
    NotDiscord,
}

/// A request, complete but for the sending.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// POST, or PATCH for a change.
    pub method: Method,
    /// Where to. The credential: not shown by `Debug`.
    pub url: Url,
    /// Names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Vec<u8>,
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("headers", &self.headers)
            .field("body", &body)
            .finish_non_exhaustive()
    }
}

/// A response, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The beginning of the body.
    pub body: Vec<u8>,
    /// When it arrived.
    pub received_at: Timestamp,
}

impl HttpResponse {
    /// The first header of that name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON, if it is some.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Is it a page for people? Proxies and captive portals answer with such, whatever was asked.
    pub fn is_page(&self) -> bool {
        self.body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<')
    }

    /// The status and what the body says of it, in one line. Never the whole body.
    pub fn summary(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let said = if self.is_page() {
            let title = between(&body, "<title>", "</title>").unwrap_or("no title");
            format!("a web page: {title}")
        } else {
            body.into_owned()
        };
        let reason = reqwest::StatusCode::from_u16(self.status).ok().and_then(|code| code.canonical_reason());
        let status = format!("{} {}", self.status, reason.unwrap_or("unknown status"));
        let said = clean(&said, ERROR_MAX);
        clean(&if said.is_empty() { status } else { format!("{status}: {said}") }, ERROR_MAX)
    }

    /// How long the service asks to wait, whichever way it says so: the greatest of `Retry-After` (seconds or a
    /// date), `retry_after` in a JSON body and `X-RateLimit-Reset-After`; at most [`RETRY_AFTER_MAX`].
    pub fn retry_after(&self) -> Option<Duration> {
        let header = self.header("retry-after").and_then(|text| seconds(text).or_else(|| self.until(text)));
        let body = self.json().and_then(|json| seconds(&json.get("retry_after")?.to_string()));
        [header, body, self.reset_after()].into_iter().flatten().max()
    }

    /// `X-RateLimit-Reset-After`; at most [`RETRY_AFTER_MAX`].
    pub fn reset_after(&self) -> Option<Duration> {
        self.header("x-ratelimit-reset-after").and_then(seconds)
    }

    /// An HTTP date as a wait, by the sender's clock if it tells it.
    fn until(&self, date: &str) -> Option<Duration> {
        let parse = |text| jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp());
        let now = self.header("date").and_then(parse).unwrap_or(self.received_at);
        let wait = Duration::try_from(parse(date)?.duration_since(now)).unwrap_or_default();
        Some(wait.min(RETRY_AFTER_MAX))
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(inside, _)| inside)
}

/// Seconds with or without a fraction, of any size a service may come up with. Not a number: nothing.
fn seconds(text: &str) -> Option<Duration> {
    let number: f64 = text.trim().parse().ok()?;
    if number.is_nan() || number < 0.0 {
        return None;
    }
    Some(Duration::try_from_secs_f64(number).unwrap_or(RETRY_AFTER_MAX).min(RETRY_AFTER_MAX))
}

/// What a status means that a service gives no meaning of its own. `None`: success.
pub fn by_status(response: &HttpResponse) -> Option<Verdict> {
    let error = response.summary();
    Some(match response.status {
        200..300 => return None,
        408 | 425 | 429 | 500..600 => Verdict::Retry { after: asked_for(response), error },
        300..400 => Verdict::Dead { error: format!("{error} (redirects are not followed)") },
        401 | 403 | 404 | 410 => Verdict::Dead { error },
        400..500 => Verdict::Fallback { error },
        _ => Verdict::Retry { after: None, error },
    })
}

/// A limit's wait. A plain server error obeys `Retry-After` only: the rate headers there speak of the next window.
fn asked_for(response: &HttpResponse) -> Option<Duration> {
    if response.status == 429 {
        response.retry_after()
    } else {
        response.header("retry-after").and(response.retry_after())
    }
}

/// Everything but the message that a request may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// The item to be brought there.
    pub item: &'a OutboxItem,
    /// The name of this machine.
    pub host: &'a str,
    /// In which times of day are given.
    pub time_zone: &'a TimeZone,
    /// When it is sent.
    pub now: Timestamp,
    /// As a message, or as a change of one.
    pub how: Move,
    /// In which form.
    pub form: Form,
}

impl Sending<'_> {
    /// The item in words.
    pub fn message(&self) -> crate::words::Message {
        let context = crate::words::Context {
            host: self.host,
            time_zone: self.time_zone,
            now: self.now,
            happened_at: self.item.happened_at,
            opened_at: self.item.opened_at,
        };
        let mut message = crate::words::message(&self.item.notice, &context);
        if self.item.in_doubt && self.how.posts() {
            message.footer = cut(&format!("{}{PERHAPS_TWICE}", message.footer), FOOTER_MAX);
        }
        message
    }
}

/// A service at the other end of a URL.
#[derive(Clone, Debug)]
pub enum Route {
    /// A Discord webhook.
    Discord(Discord),
    /// A Slack incoming webhook.
    Slack(Slack),
    /// Any URL that takes JSON by POST.
    Webhook(Webhook),
}

impl Route {
    /// Reads a sink's secret URL. `mention` is a user id in the service's own form; one that is not is left out.
    ///
    /// # Errors
    /// If the secret is no URL of such a service.
    pub fn new(kind: SinkKind, secret: &Secret, mention: Option<&str>) -> Result<Self, BadSink> {
        let url = parse_url(secret)?;
        if kind != SinkKind::Webhook && url.scheme() == "http" && !is_loopback(&url) {
            return Err(BadSink::Unencrypted);
        }
        Ok(match kind {
            SinkKind::Discord => Self::Discord(Discord::new(url, mention)?),
            SinkKind::Slack => Self::Slack(Slack::new(url, mention)),
            SinkKind::Webhook => Self::Webhook(Webhook::new(url)),
        })
    }

    /// Can a message be changed there?
    pub fn edits(&self) -> bool {
        matches!(self, Self::Discord(_))
    }

    /// The request that brings an item there.
    pub fn request(&self, sending: &Sending<'_>) -> HttpRequest {
        match self {
            Self::Discord(discord) => discord.request(&sending.message(), sending),
            Self::Slack(slack) => slack.request(&sending.message(), sending.form),
            Self::Webhook(webhook) => webhook.request(sending),
        }
    }

    /// What a response means.
    pub fn classify(&self, response: &HttpResponse) -> Answer {
        match self {
            Self::Discord(_) => Discord::classify(response),
            Self::Slack(_) => Slack::classify(response),
            Self::Webhook(_) => Webhook::classify(response),
        }
    }

    /// Where requests go. The credential.
    pub fn url(&self) -> &Url {
        match self {
            Self::Discord(discord) => discord.url(),
            Self::Slack(slack) => slack.url(),
            Self::Webhook(webhook) => webhook.url(),
        }
    }
}

fn parse_url(secret: &Secret) -> Result<Url, BadSink> {
    let mut url = Url::parse(secret.expose().trim()).map_err(|_| BadSink::NotAUrl)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(BadSink::Scheme);
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(BadSink::NotAUrl);
    }
    url.set_fragment(None);
    Ok(url)
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, headers: &[(&str, &str)], body: &str) -> HttpResponse {
        HttpResponse {
            status,
            headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            body: body.into(),
            received_at: "2026-03-05T14:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn a_wait_is_read_however_it_is_said() {
        let wait = |headers: &[(&str, &str)], body: &str| response(429, headers, body).retry_after();
        let secs = |secs: f64| Some(Duration::from_secs_f64(secs));
        assert_eq!(wait(&[("retry-after", "7")], "<html>"), secs(7.0));
        assert_eq!(wait(&[("retry-after", "Thu, 05 Mar 2026 14:00:09 GMT")], ""), secs(9.0));
        let dated =
            [("retry-after", "Thu, 05 Mar 2026 14:00:09 GMT"), ("date", "Thu, 05 Mar 2026 14:00:05 GMT")];
        assert_eq!(wait(&dated, ""), secs(4.0));
        assert_eq!(wait(&[], r#"{"retry_after": 0.65, "global": false}"#), secs(0.65));
        assert_eq!(wait(&[("retry-after", "1"), ("x-ratelimit-reset-after", "1.25")], "{}"), secs(1.25));
        assert_eq!(wait(&[("retry-after", "1e300")], ""), Some(RETRY_AFTER_MAX));
        assert_eq!(wait(&[("retry-after", "inf")], ""), Some(RETRY_AFTER_MAX));
        for nonsense in ["NaN", "-4", "soon", ""] {
            assert_eq!(wait(&[("retry-after", nonsense)], r#"{"retry_after": "later"}"#), None, "{nonsense}");
        }
    }

    #[test]
    fn a_web_page_is_summed_up_by_its_title() {
        let page = response(502, &[], "\n<!doctype html><title>Bad\n gateway</title><p>Ray 7");
        assert_eq!(page.summary(), "502 Bad Gateway: a web page: Bad gateway");
        assert_eq!(response(404, &[], "").summary(), "404 Not Found");
        assert_eq!(response(400, &[], "invalid_payload").summary(), "400 Bad Request: invalid_payload");
    }

    #[test]
    fn a_bad_url_is_refused_without_being_repeated() {
        let bad = |kind, url: &str| Route::new(kind, &Secret::new(url.into()), None).map(|_| ()).unwrap_err();
        assert_eq!(bad(SinkKind::Discord, "hunter2"), BadSink::NotAUrl);
        assert_eq!(bad(SinkKind::Webhook, "ftp://a/b"), BadSink::Scheme);
        assert_eq!(bad(SinkKind::Slack, "http://hooks.slack.com/services/T/B/x"), BadSink::Unencrypted);
        assert_eq!(bad(SinkKind::Discord, "https://discord.com/channels/1/2"), BadSink::NotDiscord);
        assert!(
            Route::new(SinkKind::Webhook, &Secret::new(" http://10.0.0.7:9000/in\n".into()), None).is_ok()
        );
    }
}
