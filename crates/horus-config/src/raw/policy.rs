//! Keys that a service and `[defaults]` share.

use std::collections::BTreeMap;

use horus_core::plan::{Mode, RestartOn};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    AccountText, DurationText, ModeWord, PathText, PercentText, RetryText, SecretText, SizeText, Text, words,
};
use crate::at::At;
use crate::defaults as built_in;
use crate::words::{duration_text as text, size_text};

/// What holds for every service that does not say otherwise. Each key means what it means in `[service.NAME]`; tables
/// are merged key by key.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table [defaults]")]
pub(crate) struct RawDefaults {
    /// Working directory.
    pub(crate) directory: Option<At<PathText>>,
    /// Environment, under the service's own `env`.
    pub(crate) env: BTreeMap<At<String>, At<SecretText>>,
    /// A file of `KEY=VALUE` lines; a service's own `env_file` replaces it.
    pub(crate) env_file: Option<At<PathText>>,
    /// Variables that are passed on from Horus's own environment; a service's own list replaces it.
    pub(crate) inherit_env: Option<At<Vec<At<Text>>>>,
    /// Run as this user.
    pub(crate) user: Option<At<AccountText>>,
    /// Run as this group.
    pub(crate) group: Option<At<AccountText>>,
    /// Resource limits.
    pub(crate) limits: Option<RawLimits>,
    /// Files that output goes to.
    pub(crate) log: Option<RawLog>,
    /// How services are stopped.
    pub(crate) stop: Option<RawStop>,
    /// How often heartbeats are polled.
    pub(crate) heartbeat: Option<RawPolling>,
    /// No fresh tick for so long is a fault.
    pub(crate) deadline: Option<At<DurationText>>,
    /// Cap on waiting for the first fresh tick.
    pub(crate) startup: Option<At<DurationText>>,
    /// When they are started again after they ended by themselves.
    pub(crate) restart: Option<RawRestart>,
    /// Limits on restarts that Horus decides on.
    pub(crate) kills: Option<RawKills>,
    /// Never signal, only record what would have been done.
    pub(crate) observe: Option<At<bool>>,
    /// `"enforce"` or `"observe"`.
    #[schemars(with = "Option<ModeWord>")]
    pub(crate) mode: Option<At<Mode>>,
    /// Start them when Horus starts.
    pub(crate) autostart: Option<At<bool>>,
    /// `false`: do not look at their processes from outside.
    pub(crate) sampler: Option<At<bool>>,
}

/// How often heartbeats are polled.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { every = \"1s\", timeout = \"2s\" }")]
pub(crate) struct RawPolling {
    /// Poll period of `http`, `file`, `tcp` and `exec`.
    pub(crate) every: Option<At<DurationText>>,
    /// Deadline of one poll.
    pub(crate) timeout: Option<At<DurationText>>,
}

/// Resource limits: those of each process (`setrlimit`), and below `tree` those of all that came from the service together.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { address_space = \"8GiB\", open_files = 4096 }"
)]
pub(crate) struct RawLimits {
    /// Address space of each process, used or only reserved. Runtimes that reserve much and use little (Go, Java, Node) need
    /// far more than they use.
    pub(crate) address_space: Option<At<SizeText>>,
    /// The older name of `address_space`, which is all that it limits: not the memory in use, and not that of the whole
    /// tree, for which there is `tree.memory`. `horus check` warns of it.
    pub(crate) memory: Option<At<SizeText>>,
    /// Open files.
    pub(crate) open_files: Option<At<u64>>,
    /// Processes and threads of the *user*, not of the service.
    pub(crate) processes: Option<At<u64>>,
    /// Size of a core dump; `"0"` for none.
    pub(crate) core: Option<At<SizeText>>,
    /// Limits of the whole tree.
    pub(crate) tree: Option<RawTreeLimits>,
}

/// Limits of all that came from the service, together, wherever it hides. The kernel keeps them in the control group of
/// the service, so they need one, with the controller: as a service of systemd Horus has that. Where it is not there,
/// nothing is limited, the service is started all the same, and `horus status` says so. A change takes effect at once,
/// without a restart.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { memory = \"512MiB\", tasks = 200, cpu = \"150%\" }"
)]
pub(crate) struct RawTreeLimits {
    /// Memory in use by all of them, file cache included. When no cache is left to give back, the kernel kills the whole
    /// tree, which is told as what it is and counts as a crash. Default: none.
    pub(crate) memory: Option<At<SizeText>>,
    /// Processes and threads at a time; one more is refused (`EAGAIN`). Default: none.
    pub(crate) tasks: Option<At<u64>>,
    /// Processor time in per cent of one processor: `"150%"` is one and a half. Who wants more waits. Default: none.
    pub(crate) cpu: Option<At<PercentText>>,
}

/// Output files: `NAME.log`, `NAME.log.1` ...
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { max_size = \"16MiB\", keep = 4 }")]
pub(crate) struct RawLog {
    /// A file is rotated at the first line end after so much. 16 MiB opens in any editor.
    #[schemars(extend("default" = size_text(built_in::LOG_MAX_BYTES)))]
    pub(crate) max_size: Option<At<SizeText>>,
    /// How many rotated files are kept beside the current one: with 4, a hundred services fill at most 8 GiB.
    #[schemars(extend("default" = built_in::LOG_KEEP))]
    pub(crate) keep: Option<At<u32>>,
}

/// How a service is stopped: soft signal, grace, then SIGKILL for the whole tree.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { signal = \"SIGTERM\", grace = \"10s\" }"
)]
pub(crate) struct RawStop {
    /// The soft signal: SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGABRT. SIGTERM is what every init sends.
    #[schemars(extend("default" = built_in::STOP_SIGNAL))]
    pub(crate) signal: Option<At<Text>>,
    /// How long it may take to end by itself. Ten seconds flush a database and are what containers give.
    #[schemars(extend("default" = text(built_in::STOP_GRACE)))]
    pub(crate) grace: Option<At<DurationText>>,
}

/// When it is started again after it ended by itself: the first restart, then geometric backoff; slower, never given
/// up.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { on = \"failure\", next = \"1s\", max = \"5m\" }"
)]
pub(crate) struct RawRestart {
    /// After which ends: `"always"`, `"failure"` (unless it ended with exit code 0) or `"never"`. A long-lived program
    /// that ends is a fault whatever its exit code says.
    #[schemars(with = "Option<RestartWord>", extend("default" = "always"))]
    pub(crate) on: Option<At<RestartOn>>,
    /// Delay before the first restart. Most crashes are single ones: waiting would only cost uptime.
    #[schemars(extend("default" = text(built_in::RESTART_FIRST)))]
    pub(crate) first: Option<At<DurationText>>,
    /// Delay before the second; doubles from there. A second is above the start cost of most programs.
    #[schemars(extend("default" = text(built_in::RESTART_NEXT)))]
    pub(crate) next: Option<At<DurationText>>,
    /// The delay never exceeds this: a dependency that comes back is used again within five minutes.
    #[schemars(extend("default" = text(built_in::RESTART_MAX)))]
    pub(crate) max: Option<At<DurationText>>,
    /// So many exits within `within` are a crash loop: an alert; the restarts go on, slowly.
    #[schemars(extend("default" = built_in::CRASH_LOOP))]
    pub(crate) crash_loop: Option<At<u32>>,
    /// The sliding window in which exits are counted. The backoff between five exits is seven seconds, so ten minutes
    /// also catch a program that lives for two minutes each time.
    #[schemars(extend("default" = text(built_in::CRASH_LOOP_WITHIN)))]
    pub(crate) within: Option<At<DurationText>>,
}

/// Limits on restarts that Horus decides on. Each is a bound on the harm that Horus itself can do.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { limit = 3, prove = \"5m\", retry = \"6h\" }"
)]
pub(crate) struct RawKills {
    /// Unproven kills until the breaker opens: after three that cured nothing, restarting is not the cure.
    #[schemars(extend("default" = built_in::KILLS_LIMIT))]
    pub(crate) limit: Option<At<u32>>,
    /// Fresh ticks for so long prove that a restart cured. Default: ten deadlines, at least 5 min, so that a hang that
    /// comes back a while after each start still counts as not cured.
    pub(crate) prove: Option<At<DurationText>>,
    /// With the breaker open, at most one kill per this; `"never"` is allowed. Six hours: a fault of the night gets one
    /// more try before the morning.
    #[schemars(extend("default" = text(built_in::KILLS_RETRY)))]
    pub(crate) retry: Option<At<RetryText>>,
    /// Kills per 24 h, proven or not, until the breaker opens: one an hour. A kill loop of 129 s would make 670.
    #[schemars(extend("default" = built_in::KILLS_DAILY))]
    pub(crate) daily: Option<At<u32>>,
}

words!(RestartWord: Always = "always", Failure = "failure", Never = "never");
