//! `horus alerts test`: one real message, and what the sink really said.

use std::fmt;
use std::time::Duration;

use horus_core::ids::{IncidentId, SinkName};
use horus_core::notice::{IncidentKind, Notice, Story};
use horus_core::outbox::{Move, OutboxItem};
use horus_core::plan::Severity;
use horus_core::time::Human;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::sink::{Form, Sink, Verdict};

/// What became of a test message.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// What the sink said.
    pub verdict: Verdict,
    /// It took the message only without its form.
    pub plain: bool,
    /// From the request to the answer.
    pub took: Duration,
}

impl Trial {
    /// Did it arrive?
    pub fn is_delivered(&self) -> bool {
        matches!(self.verdict, Verdict::Delivered { .. })
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Delivered { remote_id } => {
                write!(f, "delivered in {}", Human(self.took))?;
                if let Some(id) = remote_id {
                    write!(f, " as message {id}")?;
                }
                if self.plain { write!(f, " (as plain text: it refused the usual form)") } else { Ok(()) }
            }
            Verdict::Retry { after: Some(after), error } => {
                write!(f, "not delivered, it asks to wait {}: {error}", Human(*after))
            }
            Verdict::Retry { after: None, error } => write!(f, "not delivered, for now: {error}"),
            Verdict::Dead { error } => write!(f, "not delivered, the URL is not a working sink: {error}"),
            Verdict::Anew { error } | Verdict::Fallback { error } | Verdict::Refused { error } => {
                write!(f, "refused: {error}")
            }
        }
    }
}

/// Sends one test message past the outbox, without retries.
pub async fn test_sink<S: Sink>(name: &SinkName, sink: &S, now: Timestamp) -> Trial {
    let start = Instant::now();
    let item = test_item(name, now);
    let mut verdict = sink.deliver(&item, Move::Post, Form::Rich).await.verdict;
    let plain = matches!(verdict, Verdict::Fallback { .. });
    if plain {
        verdict = sink.deliver(&item, Move::Post, Form::Plain).await.verdict;
    }
    Trial { verdict, plain, took: start.elapsed() }
}

fn test_item(name: &SinkName, now: Timestamp) -> OutboxItem {
    let notice = Notice {
        incident: IncidentId::nth(0),
        version: 1,
        subject: "horus".into(),
        kind: IncidentKind::SinkDead,
        severity: Severity::Info,
        needs_you: false,
        // A test is to be heard: it shows what a loud alert does to the phone.
        loud: true,
        within: None,
        story: Story::Test,
    };
    let (happened_at, opened_at) = (now, now);
    let (delivered_version, remote_id, in_doubt, attempts) = (None, None, false, 0);
    OutboxItem {
        sink: name.clone(),
        notice,
        happened_at,
        opened_at,
        delivered_version,
        remote_id,
        in_doubt,
        attempts,
    }
}
