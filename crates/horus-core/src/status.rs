//! The read model of the present: what `horus status` and the dashboard show.
//!
//! Computed from the engine's state at one instant. A versioned wire format: fields are only added within a version.

use serde::{Deserialize, Serialize};

use crate::ids::{GroupName, IncidentId, MonitorName, ServiceName};
use crate::observation::KernelWord;
use crate::plan::{BeatKind, Mode};
use crate::tree::TreeLimit;
use crate::verdict::{LoopAxis, ProcessAxis, ProgressAxis, ValueAxis, Verdict};

/// Version of [`StatusReport`].
pub const STATUS_SCHEMA: u32 = 1;

/// Everything at one instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Version of this format.
    pub schema: u32,
    /// Name of this machine.
    pub host: String,
    /// Enforce or observe.
    pub mode: Mode,
    /// Services in the order of their names.
    pub services: Vec<ServiceStatus>,
    /// Monitors in the order of their names.
    pub monitors: Vec<MonitorStatus>,
    /// Why the state directory takes no writes, if so.
    pub store_fault: Option<String>,
    /// Sinks that take no messages, with the reason.
    pub dead_sinks: Vec<SinkStatus>,
}

/// One axis, with the numbers that led to its value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AxisStatus<T> {
    /// Where the service stands on this axis.
    pub is: T,
    /// Why.
    pub because: String,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: ServiceName,
    /// What was concluded.
    pub verdict: Verdict,
    /// Why.
    pub because: String,
    /// What the plan and the operator want: "up" or "down".
    pub wanted: String,
    /// Phase of the state machine: "down", "waiting", "backoff", "launching", "starting", "running", "condemned",
    /// "stopping".
    pub phase: String,
    /// The process axis.
    pub process: AxisStatus<ProcessAxis>,
    /// The loop axis.
    #[serde(rename = "loop")]
    pub loop_axis: AxisStatus<LoopAxis>,
    /// The progress axis.
    pub progress: AxisStatus<ProgressAxis>,
    /// The value axis.
    pub value: AxisStatus<ValueAxis>,
    /// Nothing is signalled, only recorded.
    pub observe: bool,
    /// A hold is in force.
    pub hold: Option<HoldStatus>,
    /// Process id of the instance, if one lives.
    pub pid: Option<i32>,
    /// Which run; 0 if it was never started.
    pub generation: u64,
    /// Age of the instance.
    pub up_for_ms: Option<u64>,
    /// Until the next start, while one is delayed or a job waits for its time.
    pub next_start_in_ms: Option<u64>,
    /// The deadline in force (it doubles with each unproven kill).
    pub deadline_ms: u64,
    /// Kills that no proof has followed, and their limit.
    pub kills_unproven: u32,
    /// Limit of unproven kills.
    pub kills_limit: u32,
    /// Kills in the last 24 h.
    pub kills_today: u32,
    /// The breaker is open.
    pub breaker_open: bool,
    /// Exits in the sliding window.
    pub exits_recent: u32,
    /// Its beat sources.
    pub beats: Vec<BeatStatus>,
    /// What the kernel shows of it, if it is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelStatus>,
    /// What its whole tree may use, as far as that is limited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tree_limits: Vec<LimitStatus>,
    /// Its groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupName>,
    /// Its own status line.
    pub said: Option<String>,
    /// Open incidents.
    pub incidents: Vec<IncidentId>,
}

/// A hold in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldStatus {
    /// Why.
    pub reason: String,
    /// Since when.
    pub for_ms: u64,
    /// Ends by itself after so long.
    pub left_ms: Option<u64>,
}

/// One beat source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BeatStatus {
    /// Which.
    pub source: BeatKind,
    /// Age of the last fresh tick.
    pub fresh_ms: Option<u64>,
    /// Age of the last beat, fresh or not.
    pub heard_ms: Option<u64>,
    /// The last tick.
    pub tick: Option<u64>,
    /// The program's own measure of its loop lag.
    pub loop_lag_ms: Option<f64>,
    /// What the last probe heard instead of a beat, if so.
    pub fault: Option<String>,
}

/// What the kernel shows of a process, looked at from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelStatus {
    /// In one word.
    pub word: KernelWord,
    /// For people: "its loop comes home".
    pub phrase: String,
    /// For how long, in time in which the program could have run.
    pub lasted_ms: u64,
}

/// One limit of a whole tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitStatus {
    /// Which.
    pub limit: TreeLimit,
    /// What is allowed, for people: "512 MiB".
    pub value: String,
    /// Whether the kernel keeps it for the program that runs. `None`: nothing runs, or it is not known yet.
    pub enforced: Option<bool>,
    /// Why it is not enforced, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

impl LimitStatus {
    /// A limit of which nobody has said yet whether it is enforced.
    pub fn unknown((limit, value): (TreeLimit, String)) -> Self {
        Self { limit, value, enforced: None, because: None }
    }
}

/// One monitor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MonitorStatus {
    /// Its name.
    pub name: MonitorName,
    /// As expected? `None`: not asked yet.
    pub up: Option<bool>,
    /// Why.
    pub because: String,
    /// Since when it is so.
    pub for_ms: Option<u64>,
}

/// A sink that takes no messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// What it said.
    pub fault: String,
}
