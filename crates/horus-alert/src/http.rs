//! The one place that speaks HTTP: sends a request, bounded in time and size, and lets no secret out.
//!
//! The HTTP client prints the whole URL, token included, in its errors. Three things stand against that: the URL is
//! taken out of an error before it is formatted, all texts of an answer pass the [`Scrubber`] (a 404 page likes to
//! repeat the path), and neither this module nor the client logs a URL.

use std::error::Error;
use std::sync::Once;
use std::time::Duration;

use horus_core::outbox::{Move, OutboxItem};
use horus_core::plan::Secret;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use url::Url;

use crate::WallClock;
use crate::sink::{
    Answer, ERROR_MAX, Form, HttpRequest, HttpResponse, Route, Sending, Sink, Verdict, is_loopback,
};
use crate::text::clean;

/// A connection must stand within this time.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// An answer must be complete within this time.
pub const TOTAL_TIMEOUT: Duration = Duration::from_secs(15);

/// So much of an answer is read.
pub const BODY_MAX: usize = 64 * 1024;

/// So many headers of an answer are kept.
const HEADERS_MAX: usize = 64;

/// Parts of a secret URL that are shorter than this are too common to be searched for.
const FRAGMENT_MIN: usize = 6;

/// Makes ring the process's TLS provider. Every client of this workspace may call it, as often as it likes.
pub fn install_tls_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that somebody else has installed one: just as good.
        let _already = rustls::crypto::ring::default_provider().install_default();
    });
}

/// Why no answer came. The text holds no URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SendError {
    text: String,
    /// The request may have arrived.
    in_doubt: bool,
}

/// Why there is no HTTP client.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot be set up")]
pub struct ClientError(#[source] reqwest::Error);

/// Sends requests. Cheap to clone; all sinks share one.
#[derive(Clone, Debug)]
pub struct Client {
    outside: reqwest::Client,
    /// Without proxy and without TLS roots.
    loopback: reqwest::Client,
    total_timeout: Duration,
}

impl Client {
    /// A client with [`TOTAL_TIMEOUT`].
    ///
    /// A machine without any root certificate gets a client that can only speak plain http: its https sinks say
    /// so when they are used.
    ///
    /// # Errors
    /// If the TLS library refuses its own defaults.
    pub fn new() -> Result<Self, ClientError> {
        Self::with_timeout(TOTAL_TIMEOUT)
    }

    /// A client whose answers must be complete within `total_timeout`.
    ///
    /// # Errors
    /// As for [`Client::new`].
    pub fn with_timeout(total_timeout: Duration) -> Result<Self, ClientError> {
        install_tls_provider();
        let builder = || {
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT.min(total_timeout))
                .timeout(total_timeout)
                .pool_max_idle_per_host(1)
                .referer(false)
        };
        let loopback = builder().no_proxy().tls_certs_only([]).build().map_err(ClientError)?;
        let outside = builder().build().unwrap_or_else(|error| {
            tracing::warn!(error = chain(&error), "no root certificates: https sinks will not work");
            loopback.clone()
        });
        Ok(Self { outside, loopback, total_timeout })
    }

    /// Sends a request and reads the beginning of the answer. Follows no redirect.
    ///
    /// # Errors
    /// If no answer came in time.
    pub async fn send(
        &self,
        request: HttpRequest,
        now: impl Fn() -> Timestamp,
    ) -> Result<HttpResponse, SendError> {
        // The client's own timeout covers the same span; this one does not depend on the client.
        let limit = self.total_timeout + Duration::from_secs(1);
        match tokio::time::timeout(limit, self.exchange(request, now)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                let in_doubt = !error.is_connect() && !error.is_builder();
                Err(SendError { text: self.describe(error), in_doubt })
            }
            Err(_) => Err(SendError { text: self.no_answer(), in_doubt: true }),
        }
    }

    async fn exchange(
        &self,
        request: HttpRequest,
        now: impl Fn() -> Timestamp,
    ) -> Result<HttpResponse, reqwest::Error> {
        let client = if is_loopback(&request.url) { &self.loopback } else { &self.outside };
        let mut sending = client.request(request.method, request.url).body(request.body);
        for (name, value) in request.headers {
            sending = sending.header(name, value);
        }
        let mut response = sending.send().await?;
        let headers = response
            .headers()
            .iter()
            .take(HEADERS_MAX)
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
            .collect();
        let status = response.status().as_u16();
        let mut body = Vec::new();
        // A status that arrived counts, even if its body breaks off: else a delivered message would be sent again.
        while body.len() < BODY_MAX
            && let Ok(Some(chunk)) = response.chunk().await
        {
            let room = BODY_MAX - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
        Ok(HttpResponse { status, headers, body, received_at: now() })
    }

    fn describe(&self, error: reqwest::Error) -> String {
        if error.is_timeout() && !error.is_connect() {
            return self.no_answer();
        }
        chain(&error.without_url())
    }

    fn no_answer(&self) -> String {
        format!("no answer within {}", horus_core::time::Human(self.total_timeout))
    }
}

/// An error and what caused it, as one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Takes a secret out of texts: the last line of defence, for texts that others wrote.
#[derive(Clone)]
pub struct Scrubber {
    /// Longest first, so that a part does not tear a hole into the whole.
    fragments: Vec<Secret>,
}

impl std::fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrubber").finish_non_exhaustive()
    }
}

impl Scrubber {
    /// Searches for the secret, and for every part of its URL that could be the secret one.
    pub fn new(secret: &Secret, url: &Url) -> Self {
        let mut fragments: Vec<String> =
            vec![secret.expose().trim().to_owned(), url.to_string(), url.path().into()];
        fragments.extend(url.path_segments().into_iter().flatten().map(str::to_owned));
        fragments.extend(url.query().map(str::to_owned));
        fragments.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
        fragments.extend(url.password().map(str::to_owned));
        fragments.push(url.username().to_owned());
        fragments.retain(|fragment| {
            fragment.len() >= FRAGMENT_MIN && fragment != "webhooks" && fragment != "services"
        });
        fragments.sort_by_key(|fragment| std::cmp::Reverse(fragment.len()));
        fragments.dedup();
        Self { fragments: fragments.into_iter().map(Secret::new).collect() }
    }

    /// The text without the secret.
    pub fn scrub(&self, text: String) -> String {
        self.fragments.iter().fold(text, |text, fragment| text.replace(fragment.expose(), "***"))
    }

    fn scrub_body(&self, response: HttpResponse) -> HttpResponse {
        let body = self.scrub(String::from_utf8_lossy(&response.body).into_owned()).into_bytes();
        HttpResponse { body, ..response }
    }
}

/// What stands at the foot of every message from this machine.
#[derive(Clone, Debug)]
pub struct Letterhead {
    /// The name of this machine.
    pub host: String,
    /// In which times of day are given.
    pub time_zone: TimeZone,
}

/// A sink at the other end of a URL.
#[derive(Clone)]
pub struct HttpSink {
    route: Route,
    scrubber: Scrubber,
    client: Client,
    letterhead: Letterhead,
    clock: WallClock,
}

impl std::fmt::Debug for HttpSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpSink").field("route", &self.route).finish_non_exhaustive()
    }
}

impl HttpSink {
    /// A sink that sends by `client`. `secret` is what `route` was made from: it is taken out of all errors.
    pub fn new(
        route: Route,
        secret: &Secret,
        client: Client,
        letterhead: Letterhead,
        clock: WallClock,
    ) -> Self {
        let scrubber = Scrubber::new(secret, route.url());
        Self { route, scrubber, client, letterhead, clock }
    }
}

impl Sink for HttpSink {
    fn edits(&self) -> bool {
        self.route.edits()
    }

    async fn deliver(&self, item: &OutboxItem, how: Move, form: Form) -> Answer {
        let sending = Sending {
            item,
            host: &self.letterhead.host,
            time_zone: &self.letterhead.time_zone,
            now: (self.clock)(),
            how,
            form,
        };
        // Scrubbed before anything is cut: half a secret would not be found any more.
        let answer = match self.client.send(self.route.request(&sending), || (self.clock)()).await {
            Ok(response) => {
                // Something broke there: before the message was kept, or after.
                let in_doubt = response.status >= 500;
                Answer { in_doubt, ..self.route.classify(&self.scrubber.scrub_body(response)) }
            }
            Err(SendError { text, in_doubt }) => {
                Answer { in_doubt, ..Verdict::Retry { after: None, error: text }.into() }
            }
        };
        let error = |text| clean(&self.scrubber.scrub(text), ERROR_MAX);
        Answer { verdict: answer.verdict.map_error(error), ..answer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_secret_url_is_taken_out() {
        let text = "https://user:hunter22@host/api/webhooks/1234567/toktoktok?key=abcdefgh";
        let url = Url::parse(text).unwrap();
        let scrubber = Scrubber::new(&Secret::new(text.into()), &url);
        let said =
            format!("no {text} and no /api/webhooks/1234567/toktoktok, hunter22, toktoktok, abcdefgh, host");
        let scrubbed = scrubber.scrub(said);
        for secret in ["hunter22", "toktoktok", "abcdefgh", "1234567"] {
            assert!(!scrubbed.contains(secret), "{scrubbed}");
        }
        assert!(scrubbed.ends_with("host"), "{scrubbed}");
    }
}
