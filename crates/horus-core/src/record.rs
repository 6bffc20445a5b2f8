//! Rows as they come back from the store: events with their number and time of day, incidents with their life.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Event, Outcome};
use crate::ids::IncidentId;
use crate::notice::IncidentKind;
use crate::plan::Severity;

/// A journal row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its number: the order of the journal. Never reused.
    pub seq: u64,
    /// When it was written.
    pub at: Timestamp,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// An incident's row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentRecord {
    /// Which.
    pub id: IncidentId,
    /// The service or monitor; `horus` for Horus itself.
    pub subject: String,
    /// What it is about.
    pub kind: IncidentKind,
    /// How bad it is (the worst so far).
    pub severity: Severity,
    /// Why it was opened.
    pub reason: String,
    /// When.
    pub opened_at: Timestamp,
    /// When it ended. `None`: open.
    pub closed_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<Outcome>,
}
