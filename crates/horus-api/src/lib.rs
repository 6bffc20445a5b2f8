//! The HTTP API: how people and pages speak with the daemon.
//!
//! The daemon implements [`Backend`]; this crate turns it into paths under `/api/v1`, served over a unix socket in the
//! run directory. The command line is its first reader ([`Client`]), the dashboard will be the second, by the same
//! paths.
//!
//! ```text
//!   horus status ──> Client ──┐                                         ┌──> Backend (the daemon)
//!                             ├──> horus.sock ──> peer check ──> routes ─┤
//!   dashboard (later) ────────┘      0600         uid: ours, root       └──> one line at a time, for followers
//! ```
//!
//! Three rules hold for every path:
//!
//! - Whatever goes wrong is a [`Problem`] (RFC 9457, `application/problem+json`) with a `type` that never changes, a
//!   `detail` that a person can act on and a `hint` that says what to type next.
//! - Everything is bounded: connections, followers, bodies, heads, lines, and the time each may take ([`Limits`]). A
//!   reader that does not read costs one connection for a while and nothing else.
//! - What takes long is told while it happens. `POST services/trading/stop` streams its progress, line by line, and
//!   its last line is the answer, given when the outcome was verified and not when it was asked for.
//!
//! Streams are lines of JSON (`application/x-ndjson`); `events` also speaks `text/event-stream` to those who ask for
//! it. An empty line means "still here".
#![forbid(unsafe_code)]

mod backend;
mod client;
mod problem;
mod routes;
mod server;
mod stall;
mod stream;
mod wire;

pub use backend::Backend;
pub use client::{AskStream, Client, ClientError, EventStream, LogStream};
pub use problem::{Problem, ProblemKind};
pub use routes::router;
pub use server::{BindError, Limits, Listener, Spot, bind, serve};
pub use wire::{
    API_SCHEMA, AlertsReport, AskLine, AskStep, Debt, DebtsReport, End, EndWhy, EventLine, EventQuery,
    EventsReport, HealthReport, IncidentReport, IncidentsReport, Progress, ReloadFault, ReloadReport,
    RuleReport, ServiceReport, SinkTest, UpgradeOutcome, UpgradeReport, VersionReport,
};

/// File name of the socket in the run directory.
pub const SOCKET_NAME: &str = "horus.sock";

/// Most events in one answer; who wants more asks again with `after`.
pub const EVENTS_MAX: usize = 1_000;

/// Most incidents in one answer.
pub const INCIDENTS_MAX: usize = 1_000;

/// Most log lines in one answer.
pub const LOG_LINES_MAX: usize = 10_000;

/// How many live events the daemon should keep for followers that are behind: the capacity of its broadcast channel.
pub const LIVE_EVENTS_MAX: usize = 1_024;
