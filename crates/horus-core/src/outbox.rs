//! The outbox's vocabulary, shared by the store that keeps it and the workers that empty it.
//!
//! An item is the *wanted state* of the message about one incident at one sink: a newer notice replaces an older one
//! that was not delivered yet, so ten changes during a network outage become one message.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{IncidentId, SinkName};
use crate::notice::Notice;

/// One message that has to be brought to one sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutboxItem {
    /// Where to.
    pub sink: SinkName,
    /// What is to be said (the newest version).
    pub notice: Notice,
    /// When the state change that it tells of was committed.
    pub happened_at: Timestamp,
    /// When the incident was first put into the outbox.
    pub opened_at: Timestamp,
    /// The newest version that the sink has acknowledged.
    pub delivered_version: Option<u32>,
    /// What the sink calls the message that it acknowledged, if it says.
    pub remote_id: Option<String>,
    /// Failed tries of this version.
    pub attempts: u32,
}

/// What became of one try.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// The sink has acknowledged it.
    Delivered {
        /// What the sink calls the message, if it says.
        remote_id: Option<String>,
    },
    /// Not now: try again at that time.
    RetryAt {
        /// When.
        at: Timestamp,
        /// Why, without the URL.
        error: String,
    },
    /// Never: the sink refuses this message in any form.
    Refused {
        /// Why, without the URL.
        error: String,
    },
}

/// Where one message stands, for `horus incident` and `horus doctor`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeliveryState {
    /// Where to.
    pub sink: SinkName,
    /// About what.
    pub incident: IncidentId,
    /// The version that is wanted.
    pub wanted_version: u32,
    /// The version that was acknowledged.
    pub delivered_version: Option<u32>,
    /// When it was acknowledged.
    pub delivered_at: Option<Timestamp>,
    /// Failed tries.
    pub attempts: u32,
    /// The last error, without the URL.
    pub last_error: Option<String>,
    /// The sink refused it for good.
    pub refused: bool,
}
