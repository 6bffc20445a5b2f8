//! What went wrong, for programs (`type`, `status`) and for people (`detail`, `hint`): RFC 9457.

use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::{Deserialize, Serialize};

/// The media type of a problem.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// What kind of problem. The word is part of the interface and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProblemKind {
    /// The request makes no sense as it is.
    #[serde(rename = "urn:horus:problem:bad-request")]
    BadRequest,
    /// The caller is not allowed here.
    #[serde(rename = "urn:horus:problem:not-permitted")]
    NotPermitted,
    /// There is no such path.
    #[serde(rename = "urn:horus:problem:no-such-path")]
    NoSuchPath,
    /// The plan has no such service.
    #[serde(rename = "urn:horus:problem:no-such-service")]
    NoSuchService,
    /// The journal has no such incident.
    #[serde(rename = "urn:horus:problem:no-such-incident")]
    NoSuchIncident,
    /// The plan has no such sink.
    #[serde(rename = "urn:horus:problem:no-such-sink")]
    NoSuchSink,
    /// The path exists, the method does not.
    #[serde(rename = "urn:horus:problem:method-not-allowed")]
    MethodNotAllowed,
    /// The body took too long to arrive.
    #[serde(rename = "urn:horus:problem:body-too-slow")]
    BodyTooSlow,
    /// A rule forbids what was asked: a hold, a stop, the plan.
    #[serde(rename = "urn:horus:problem:refused")]
    Refused,
    /// The body is too long.
    #[serde(rename = "urn:horus:problem:body-too-large")]
    BodyTooLarge,
    /// The body is not JSON by its own account.
    #[serde(rename = "urn:horus:problem:not-json")]
    NotJson,
    /// A fault inside Horus.
    #[serde(rename = "urn:horus:problem:internal")]
    Internal,
    /// Too many connections or followers.
    #[serde(rename = "urn:horus:problem:too-many")]
    TooMany,
    /// The state directory cannot be read now.
    #[serde(rename = "urn:horus:problem:store")]
    Store,
    /// Horus is ending.
    #[serde(rename = "urn:horus:problem:shutting-down")]
    ShuttingDown,
    /// A part of Horus did not answer in time.
    #[serde(rename = "urn:horus:problem:no-answer")]
    NoAnswer,
}

impl ProblemKind {
    /// Every kind, in the order of their status codes.
    pub const ALL: [Self; 16] = [
        Self::BadRequest,
        Self::NotPermitted,
        Self::NoSuchPath,
        Self::NoSuchService,
        Self::NoSuchIncident,
        Self::NoSuchSink,
        Self::MethodNotAllowed,
        Self::BodyTooSlow,
        Self::Refused,
        Self::BodyTooLarge,
        Self::NotJson,
        Self::Internal,
        Self::TooMany,
        Self::Store,
        Self::ShuttingDown,
        Self::NoAnswer,
    ];

    /// The HTTP status code.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::NotPermitted => 403,
            Self::NoSuchPath | Self::NoSuchService | Self::NoSuchIncident | Self::NoSuchSink => 404,
            Self::MethodNotAllowed => 405,
            Self::BodyTooSlow => 408,
            Self::Refused => 409,
            Self::BodyTooLarge => 413,
            Self::NotJson => 415,
            Self::Internal => 500,
            Self::TooMany | Self::Store | Self::ShuttingDown => 503,
            Self::NoAnswer => 504,
        }
    }

    /// A short name of the kind, the same for every case of it.
    pub fn title(self) -> &'static str {
        match self {
            Self::BadRequest => "bad request",
            Self::NotPermitted => "not permitted",
            Self::NoSuchPath => "no such path",
            Self::NoSuchService => "no such service",
            Self::NoSuchIncident => "no such incident",
            Self::NoSuchSink => "no such sink",
            Self::MethodNotAllowed => "method not allowed",
            Self::BodyTooSlow => "body too slow",
            Self::Refused => "refused",
            Self::BodyTooLarge => "body too large",
            Self::NotJson => "not JSON",
            Self::Internal => "internal fault",
            Self::TooMany => "too many at once",
            Self::Store => "state not readable",
            Self::ShuttingDown => "shutting down",
            Self::NoAnswer => "no answer in time",
        }
    }
}

/// A problem, as it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// Version of this format.
    pub schema: u32,
    /// What kind.
    #[serde(rename = "type")]
    pub kind: ProblemKind,
    /// A short name of the kind.
    pub title: String,
    /// The HTTP status code.
    pub status: u16,
    /// What is wrong in this case.
    pub detail: String,
    /// What to do now; a command where there is one.
    pub hint: String,
}

impl Problem {
    /// A problem of `kind`: what is wrong in this case, and what to do now.
    pub fn new(kind: ProblemKind, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            schema: crate::API_SCHEMA,
            kind,
            title: kind.title().into(),
            status: kind.status(),
            detail: detail.into(),
            hint: hint.into(),
        }
    }

    /// No service has this name. `known` says which there are ("known: pipeline, trading"), or what is wrong with the
    /// name.
    pub fn no_such_service(name: &str, known: &str) -> Self {
        let name = printable(name);
        Self::new(
            ProblemKind::NoSuchService,
            format!("there is no service '{name}': {known}"),
            "horus status",
        )
    }

    /// No incident has this identifier.
    pub fn no_such_incident(id: &str) -> Self {
        let id = printable(id);
        Self::new(ProblemKind::NoSuchIncident, format!("there is no incident '{id}'"), "horus incidents")
    }

    /// The request makes no sense: `detail` says why, in words about the request.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(ProblemKind::BadRequest, detail, "see docs/reference/api.md for paths and parameters")
    }

    /// Horus is ending and takes no more requests.
    pub fn shutting_down() -> Self {
        Self::new(ProblemKind::ShuttingDown, "horus is shutting down", "start it again: horus run")
    }
}

/// Longest part of a caller's text that is repeated in a problem, in characters.
const ECHO_LENGTH_MAX: usize = 80;

/// A caller's text, safe to be shown on a terminal: cut, without control characters.
fn printable(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(ECHO_LENGTH_MAX).map(clean).collect()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        (status, [(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON))], body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_kinds_is_an_interface() {
        let rows: Vec<String> = ProblemKind::ALL
            .iter()
            .map(|kind| {
                format!("{} {} ({})", kind.status(), serde_json::to_string(kind).unwrap(), kind.title())
            })
            .collect();
        insta::assert_snapshot!(rows.join("\n"));
    }

    #[test]
    fn a_hostile_name_is_shown_harmlessly() {
        let problem = Problem::no_such_service(&format!("\u{1b}[2J{}", "x".repeat(10_000)), "known: none");
        assert!(!problem.detail.contains('\u{1b}'));
        assert!(problem.detail.len() < 200);
    }
}
