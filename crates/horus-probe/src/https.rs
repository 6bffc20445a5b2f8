//! HTTP for monitors: plain HTTP with our own connection (exact faults), HTTPS with `reqwest`.
//!
//! Each check uses a fresh connection: a monitor asks "would somebody who comes now be served?".

use std::error::Error as _;
use std::time::Duration;

use horus_core::time::Human;
use hyper::StatusCode;
use reqwest::redirect::Policy;
use tokio::time::Instant;
use url::Url;

use crate::http::{HttpAsker, USER_AGENT, wrong_status};
use crate::limits::LATENESS_MAX;
use crate::sign::Miss;
use crate::target::own_lateness;
use crate::text;

/// `check.http`.
#[derive(Debug)]
pub(crate) enum HttpCheck {
    Plain { url: String, timeout: Duration, status: StatusCode },
    Tls { client: reqwest::Client, url: Url, timeout: Duration, status: u16 },
}

impl HttpCheck {
    pub(crate) fn new(url: &str, timeout: Duration, status: u16) -> Result<Self, Miss> {
        let parsed = Url::parse(url).map_err(|error| Miss::prober(format!("bad URL: {error}")))?;
        if parsed.scheme() == "https" {
            let client = client(timeout)?;
            return Ok(Self::Tls { client, url: parsed, timeout, status });
        }
        HttpAsker::new(url, timeout)?;
        let status = StatusCode::from_u16(status).map_err(|_| Miss::prober("bad status to expect"))?;
        Ok(Self::Plain { url: url.to_owned(), timeout, status })
    }

    pub(crate) async fn poll(&mut self) -> Result<(), Miss> {
        match self {
            Self::Plain { url, timeout, status } => HttpAsker::new(url, *timeout)?.ask_status(*status).await,
            Self::Tls { client, url, timeout, status } => {
                let started = Instant::now();
                match client.get(url.clone()).timeout(*timeout).send().await {
                    // The body is not read: dropping the answer drops the connection.
                    Ok(answer) if answer.status().as_u16() == *status => Ok(()),
                    Ok(answer) => Err(Miss::not_a_beat(wrong_status(answer.status().as_u16(), *status))),
                    Err(_) if started.elapsed() > *timeout + LATENESS_MAX => Err(own_lateness()),
                    Err(error) => Err(tls_fault(error, *timeout)),
                }
            }
        }
    }
}

fn client(timeout: Duration) -> Result<reqwest::Client, Miss> {
    // Somebody else may have installed a provider before: then that one serves.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // A little less than the whole timeout, so that a connect that hangs is told apart from an answer that does not come.
    let connect_timeout = timeout.saturating_mul(9) / 10;
    reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(Policy::none())
        .connect_timeout(connect_timeout)
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|error| {
            Miss::prober(format!("TLS does not work here: {}", text::chain(&error.without_url())))
        })
}

fn tls_fault(error: reqwest::Error, timeout: Duration) -> Miss {
    let error = error.without_url();
    if is_tls(&error) {
        return Miss::not_a_beat(format!("no TLS: {}", text::chain(&error)));
    }
    if error.is_connect() && error.is_timeout() {
        return Miss::no_path(format!("no connection in {}", Human(timeout)));
    }
    if error.is_connect() {
        return Miss::no_path(text::chain(&error));
    }
    if error.is_timeout() {
        return Miss::no_answer(format!("no answer in {}", Human(timeout)));
    }
    Miss::not_a_beat(text::chain(&error))
}

/// Was it the TLS layer that gave up? Then somebody was there.
fn is_tls(error: &reqwest::Error) -> bool {
    const LINKS_MAX: usize = 16;
    let mut source = error.source();
    for _ in 0..LINKS_MAX {
        let Some(inner) = source else { return false };
        if holds_tls(inner) {
            return true;
        }
        source = inner.source();
    }
    false
}

/// An I/O error wraps the TLS error, sometimes twice, and its `source` steps over what it wraps.
fn holds_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    const WRAPPINGS_MAX: usize = 4;
    let mut error = error;
    for _ in 0..WRAPPINGS_MAX {
        if error.is::<rustls::Error>() {
            return true;
        }
        match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => error = wrapped,
            None => return false,
        }
    }
    false
}
