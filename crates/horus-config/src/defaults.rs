//! The numbers that hold where the file is silent. Why each is what it is stands in the documentation of its key in
//! `raw`, from which `docs/reference/config.md` is made.

use std::time::Duration;

use horus_core::plan::{KillPlan, LogPlan, RestartOn, RestartPlan, Severity, StopPlan};

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const STARTUP: Duration = Duration::from_secs(120);

/// `heartbeat.*.every` is the deadline divided by this, but within the two bounds below.
pub(crate) const POLLS_PER_DEADLINE: u32 = 10;
pub(crate) const POLL_MIN: Duration = Duration::from_millis(250);
pub(crate) const POLL_MAX: Duration = Duration::from_secs(5);
/// `heartbeat.*.timeout` is two polls, but at most this.
pub(crate) const TIMEOUT_MAX: Duration = Duration::from_secs(2);
/// A command is dearer than a request: it is run no oftener than this by itself.
pub(crate) const EXEC_POLL_MIN: Duration = Duration::from_secs(1);
/// Horus's own slack in the detection bounds.
pub(crate) const DETECTION_SLACK: Duration = Duration::from_secs(1);

pub(crate) const STOP_SIGNAL: &str = "SIGTERM";
/// The manager's own patience is 90 s unless the unit says otherwise; ours begins after that.
pub(crate) const UNIT_GRACE: Duration = Duration::from_secs(100);
pub(crate) const STOP_GRACE: Duration = Duration::from_secs(10);

pub(crate) const RESTART_FIRST: Duration = Duration::ZERO;
pub(crate) const RESTART_NEXT: Duration = Duration::from_secs(1);
pub(crate) const RESTART_MAX: Duration = Duration::from_secs(5 * 60);
pub(crate) const CRASH_LOOP: u32 = 5;
pub(crate) const CRASH_LOOP_WITHIN: Duration = Duration::from_secs(10 * 60);

pub(crate) const KILLS_LIMIT: u32 = 3;
pub(crate) const PROVE_DEADLINES: u32 = 10;
pub(crate) const PROVE_MIN: Duration = Duration::from_secs(5 * 60);
pub(crate) const KILLS_RETRY: Duration = Duration::from_secs(6 * 3600);
pub(crate) const KILLS_DAILY: u32 = 24;

pub(crate) const LOG_MAX_BYTES: u64 = 16 << 20;
pub(crate) const LOG_KEEP: u32 = 4;

pub(crate) const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
pub(crate) const PING_EVERY: Duration = Duration::from_secs(60);
pub(crate) const PING_MIN: Duration = Duration::from_secs(1);
pub(crate) const PING_MAX: Duration = Duration::from_secs(24 * 3600);
pub(crate) const BLOCKED_AFTER: u64 = 5;
pub(crate) const EXPECT_MIN: f64 = 1.0;
pub(crate) const EXPECT_WITHIN: Duration = Duration::from_secs(120);
/// `counter.*.every` is a quarter of the shortest limit of what names it, but within these bounds.
pub(crate) const COUNTER_EVERY_MIN: Duration = Duration::from_secs(1);
pub(crate) const COUNTER_EVERY_MAX: Duration = Duration::from_secs(15);
pub(crate) const COUNTER_TIMEOUT_MAX: Duration = Duration::from_secs(5);
pub(crate) const TIME_ZONE: &str = "UTC";
pub(crate) const INHERIT_ENV: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "USER"];
/// For a child that would have no `PATH` at all.
pub(crate) const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

pub(crate) const MONITOR_EVERY: Duration = Duration::from_secs(30);
pub(crate) const MONITOR_TIMEOUT: Duration = Duration::from_secs(5);
pub(crate) const MONITOR_STATUS: u16 = 200;
/// `monitor.*.down_after` is so many polls.
pub(crate) const MONITOR_POLLS: u32 = 4;
pub(crate) const SINK_SEVERITY: Severity = Severity::Warning;

/// The poll period of a beat of a service with this deadline.
pub(crate) fn poll(deadline: Duration) -> Duration {
    (deadline / POLLS_PER_DEADLINE).clamp(POLL_MIN, POLL_MAX)
}

/// The deadline of one poll.
pub(crate) fn poll_timeout(every: Duration) -> Duration {
    every.saturating_mul(2).min(TIMEOUT_MAX)
}

/// How often a counter is read that has to move within `limit`.
pub(crate) fn counter_every(limit: Option<Duration>) -> Duration {
    limit.map_or(COUNTER_EVERY_MAX, |limit| (limit / 4).clamp(COUNTER_EVERY_MIN, COUNTER_EVERY_MAX))
}

/// How long fresh ticks have to last to prove a cure.
pub(crate) fn prove(deadline: Duration) -> Duration {
    deadline.saturating_mul(PROVE_DEADLINES).max(PROVE_MIN)
}

pub(crate) fn stop() -> StopPlan {
    StopPlan { signal: STOP_SIGNAL.to_owned(), grace: STOP_GRACE }
}

pub(crate) fn restart() -> RestartPlan {
    RestartPlan {
        on: RestartOn::Always,
        first: RESTART_FIRST,
        next: RESTART_NEXT,
        max: RESTART_MAX,
        crash_loop: CRASH_LOOP,
        within: CRASH_LOOP_WITHIN,
    }
}

pub(crate) fn kills(deadline: Duration) -> KillPlan {
    KillPlan { limit: KILLS_LIMIT, prove: prove(deadline), retry: Some(KILLS_RETRY), daily: KILLS_DAILY }
}

pub(crate) fn log() -> LogPlan {
    LogPlan { max_bytes: LOG_MAX_BYTES, keep: LOG_KEEP }
}
