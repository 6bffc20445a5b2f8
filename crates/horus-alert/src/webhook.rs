//! Any URL that takes JSON by POST.
//!
//! The headers follow the Standard Webhooks convention: `webhook-id` is the same for every try of the same version of
//! an incident, so a receiver can throw doubles away; `webhook-timestamp` is the time of the try. For the same reason
//! the body does not depend on the time of the try either. (A signature is not sent yet.)

use horus_core::ids::IncidentId;
use horus_core::notice::{IncidentKind, Story};
use horus_core::plan::Severity;
use jiff::Timestamp;
use reqwest::Method;
use serde::Serialize;
use url::Url;

use crate::sink::{Answer, Form, HttpRequest, HttpResponse, Sending, Verdict, by_status};
use crate::text::clean;

/// The convention asks for bodies below 20 kB. A longer one loses `story`.
pub const BODY_MAX: usize = 20_000;

/// The version of the body's shape. Fields may be added without a new version.
pub const SCHEMA: u32 = 1;

const SUBJECT_MAX: usize = 256;

const USER_AGENT: &str = concat!("horus/", env!("CARGO_PKG_VERSION"));

/// A URL that takes JSON.
#[derive(Clone)]
pub struct Webhook {
    url: Url,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").finish_non_exhaustive()
    }
}

/// The body. Documented in docs/reference/alerts.md.
#[derive(Debug, Serialize)]
struct Body<'a> {
    schema: u32,
    #[serde(rename = "type")]
    kind_of_event: &'static str,
    incident: IncidentId,
    version: u32,
    host: String,
    subject: String,
    kind: IncidentKind,
    severity: Severity,
    needs_you: bool,
    loud: bool,
    opened_at: Timestamp,
    happened_at: Timestamp,
    text: String,
    details: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    story: Option<&'a Story>,
}

impl Webhook {
    /// Takes the URL as it is.
    pub fn new(url: Url) -> Self {
        Self { url }
    }

    /// Where requests go. The credential.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The request that sends an item.
    pub fn request(&self, sending: &Sending<'_>) -> HttpRequest {
        let item = sending.item;
        let notice = &item.notice;
        // The words of the moment of the event: the receiver has both times and can judge lateness itself.
        let message = Sending { now: item.happened_at, ..*sending }.message();
        let mut body = Body {
            schema: SCHEMA,
            kind_of_event: "horus.incident",
            incident: notice.incident,
            version: notice.version,
            host: clean(sending.host, SUBJECT_MAX),
            subject: clean(&notice.subject, SUBJECT_MAX),
            kind: notice.kind,
            severity: notice.severity,
            needs_you: notice.needs_you,
            loud: notice.loud,
            opened_at: item.opened_at,
            happened_at: item.happened_at,
            text: message.first_line,
            details: message.detail_lines,
            story: Some(&notice.story).filter(|_| sending.form == Form::Rich),
        };
        let mut bytes = serialised(&body);
        if bytes.len() > BODY_MAX {
            body.story = None;
            bytes = serialised(&body);
        }
        // Identifiers of incidents repeat after a million; the second of the opening makes this one unique.
        let id = format!("{}.{}.{}", notice.incident, item.opened_at.as_second(), notice.version);
        HttpRequest {
            method: Method::POST,
            url: self.url.clone(),
            headers: vec![
                ("content-type", "application/json".into()),
                ("user-agent", USER_AGENT.into()),
                ("webhook-id", id),
                ("webhook-timestamp", sending.now.as_second().to_string()),
            ],
            body: bytes,
        }
    }

    /// What a response means: any 2xx is an acknowledgement.
    pub fn classify(response: &HttpResponse) -> Answer {
        by_status(response).unwrap_or(Verdict::Delivered { remote_id: None }).into()
    }
}

/// Serialising strings, numbers and enums into memory does not fail; if it did, `{}` is still an alert.
fn serialised(body: &Body<'_>) -> Vec<u8> {
    serde_json::to_vec(body).unwrap_or_else(|_| b"{}".to_vec())
}
