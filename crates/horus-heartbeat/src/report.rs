//! One beat as data: what `GET /heartbeat` answers. Version 1; a reader ignores fields that it does not know,
//! and a field is never given another meaning under the same version.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The version of the beat's shape.
pub const SCHEMA: u32 = 1;

/// What the program says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Working; the tick is expected to move.
    Ok,
    /// In a declared long step, until `busy_until_ms`.
    Busy,
    /// Nothing to do, on purpose.
    Idle,
    /// Stopped itself on purpose; a restart would not help.
    Halted,
}

/// One beat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// The tick: turns of the main loop since the process started.
    pub seq: u64,
    /// The worst lateness of a runtime timer in the last 5 to 10 s, in milliseconds, including a lateness
    /// that still grows. `None` when no meter runs.
    pub loop_lag_ms: Option<f64>,
    /// How long ago each worker of the runtime was last seen to turn, at most, in milliseconds. Empty when nobody looks.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub worker_lag_ms: Vec<f64>,
    /// What the program declares.
    pub state: State,
    /// End of the declared long step: milliseconds since 1970-01-01 UTC. Only while busy.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub busy_until_ms: Option<u64>,
    /// Whether the program has said that its start is done.
    pub ready: bool,
    /// One line for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<String>,
    /// Counters and gauges by name.
    pub progress: BTreeMap<String, u64>,
    /// Those names in `progress` that are gauges and may fall.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub gauges: Vec<String>,
    /// The process that answers.
    pub pid: u32,
    /// Names that are not reported because there was no room or the kind was in conflict.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub names_dropped: u64,
    /// Datagrams that could not be sent.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub notify_dropped: u64,
}

impl Report {
    /// One line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Maps with string keys and finite numbers cannot fail to serialise; should it ever, an empty object
        // is no beat.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// `left` from now on the wall clock, in milliseconds since 1970.
pub(crate) fn unix_ms_after(left: Duration) -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one wall clock reading here; a date library is not earned by it"
    )]
    let now = std::time::SystemTime::now();
    let since_epoch = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from((since_epoch + left).as_millis()).unwrap_or(u64::MAX)
}
