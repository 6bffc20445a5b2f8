//! Incidents become messages, messages reach sinks.
//!
//! ```text
//!  outbox ──due──> worker ──Notice──> words ──Message──> discord | slack | webhook ──HttpRequest──> http
//!    ^  (one per sink)                                   └─classify <──────HttpResponse──────────────┘
//!    └──────────────────settle: delivered | retry at | refused────────────┘
//! ```
//!
//! The engine says *that* something is to be told ([`horus_core::notice::Notice`], data only) and the store keeps it
//! until each sink has acknowledged it. Here it gets its words ([`words`]) and its shape for one service
//! ([`discord`], [`slack`], [`webhook`]: pure functions from a message to a request and from a response to a verdict),
//! and a [`worker`] per sink brings it there. A sink that hangs, limits or dies delays no other sink and nothing else
//! in Horus.
//!
//! Delivery is at least once: a send whose answer was lost is sent again. The incident's identifier in the footer
//! (and the `webhook-id` header) makes a double recognisable. Discord offers no idempotency key for webhooks.
//!
//! The URL of a webhook is its password. It is wrapped in [`horus_core::plan::Secret`], never formatted, taken out of
//! the errors of the HTTP client, and finally searched for in every text that leaves this crate
//! ([`http::Scrubber`]).
#![forbid(unsafe_code)]

pub mod discord;
#[cfg(feature = "fake")]
pub mod fake;
pub mod http;
pub mod outbox;
pub mod pace;
pub mod printer;
pub mod rehearsal;
pub mod samples;
pub mod sink;
pub mod slack;
mod text;
pub mod trial;
pub mod webhook;
pub mod words;
pub mod worker;

pub use http::{Client, HttpSink, Letterhead};
pub use outbox::{MemoryOutbox, Outbox};
pub use printer::Printer;
pub use sink::{Answer, BadSink, Form, Route, Sink, Verdict};
pub use trial::{Trial, test_sink};
pub use worker::{SinkHealth, Worker, WorkerHandle};

use std::sync::Arc;

use jiff::Timestamp;

/// Tells the wall-clock time. Injected, so that tests can decide what "late" means.
pub type WallClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The machine's own wall clock.
pub fn wall_clock() -> WallClock {
    Arc::new(Timestamp::now)
}
