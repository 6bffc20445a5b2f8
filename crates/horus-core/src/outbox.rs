//! The outbox's vocabulary, shared by the store that keeps it and the workers that empty it.
//!
//! An item is the *wanted state* of the message about one incident at one sink: a newer notice replaces an older one
//! that was not delivered yet, so ten changes during a network outage become one message.
//!
//! ```text
//!  sink that can change a message           no message there      a message is there       its noise is made
//!    quiet notice                           Post, silent           Edit                     Edit
//!    loud notice                            Post                   Ring, then Edit          Edit
//!  any other sink                           Post                   Post                     Post
//! ```
//!
//! A changed message makes no noise on any phone, so a noise is always a message of its own ([`Move::Ring`]): one line
//! beside the message that has the whole.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{IncidentId, SinkName};
use crate::notice::Notice;

/// One message that has to be brought to one sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutboxItem {
    /// Where to.
    pub sink: SinkName,
    /// What is to be said (the newest version). It is loud if a noise is owed: that of this version, or of an earlier one
    /// that never got through.
    pub notice: Notice,
    /// When the state change that it tells of was committed.
    pub happened_at: Timestamp,
    /// When the incident was first put into the outbox.
    pub opened_at: Timestamp,
    /// The newest version that the sink has acknowledged.
    pub delivered_version: Option<u32>,
    /// What the sink calls the message that it acknowledged, if it says.
    pub remote_id: Option<String>,
    /// Something was sent whose outcome nobody knows: Horus was killed, or no answer came. It may be there already.
    #[serde(default)]
    pub in_doubt: bool,
    /// Failed tries of this version.
    pub attempts: u32,
}

impl OutboxItem {
    /// How this item is brought to a sink that can change its messages (`edits`), or cannot.
    pub fn next_move(&self, edits: bool) -> Move {
        match &self.remote_id {
            Some(_) if edits && self.notice.loud => Move::Ring,
            Some(_) if edits => Move::Edit,
            Some(_) | None => Move::Post,
        }
    }
}

/// How a notice is brought to a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Move {
    /// As a message of its own.
    Post,
    /// As one loud line beside the message that is there, which is changed afterwards.
    Ring,
    /// By changing the message that is there. May be repeated: the second time changes nothing.
    Edit,
}

impl Move {
    /// Does it bring about a new message? What is sent twice is there twice.
    pub fn posts(self) -> bool {
        matches!(self, Self::Post | Self::Ring)
    }
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
    /// Its noise is made, by a line of its own ([`Move::Ring`]). The message itself is still to be changed.
    Rang,
    /// Not now: try again at that time.
    RetryAt {
        /// When.
        at: Timestamp,
        /// Why, without the URL.
        error: String,
        /// It may have arrived all the same.
        #[serde(default)]
        in_doubt: bool,
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
