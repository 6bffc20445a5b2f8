//! Times of the calendar: jobs and maintenance.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{CronText, DurationText, Text, ZoneText};
use crate::at::At;
use crate::defaults as built_in;

/// When a job is started, and how long it may take: exactly one of `every` and `cron`.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { every = \"1h\", finish = \"20m\" }")]
pub(crate) struct RawSchedule {
    /// So often, counted from the start before; the first run begins at once. Default: none; then there is a `cron`.
    pub(crate) every: Option<At<DurationText>>,
    /// By the calendar: minute, hour, day of the month, month, weekday. `"0 6 * * *"` is every day at six. Default: none;
    /// then there is an `every`.
    pub(crate) cron: Option<At<CronText>>,
    /// Whose clock `cron` means. In a zone with summer time, a time that is skipped is taken at the change and one that comes
    /// twice is taken once.
    #[schemars(extend("default" = built_in::TIME_ZONE))]
    pub(crate) time_zone: Option<At<ZoneText>>,
    /// A run has to finish within so long of its start. One that takes longer is told and left alone: whether it hangs is for
    /// its heartbeat to say, if it has one. Horus has no default for this: only you know the longest honest run. Write that,
    /// times two.
    #[schemars(extend("x-required" = true))]
    pub(crate) finish: Option<At<DurationText>>,
    /// `true`: times of `cron` that passed while nothing could be started (the machine was off or asleep) are made up for by
    /// one run. `false`: they are told.
    #[schemars(extend("default" = false))]
    pub(crate) catch_up: Option<At<bool>>,
}

/// A time in which a person works on services.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table [maintenance.NAME]")]
pub(crate) struct RawMaintenance {
    /// For these services. Default: all.
    pub(crate) services: Option<At<Vec<At<Text>>>>,
    /// When it begins: minute, hour, day of the month, month, weekday. `"0 3 * * SUN"` is Sunday at three.
    #[schemars(extend("x-required" = true))]
    pub(crate) cron: Option<At<CronText>>,
    /// Whose clock `cron` means.
    #[schemars(extend("default" = built_in::TIME_ZONE))]
    pub(crate) time_zone: Option<At<ZoneText>>,
    /// How long it lasts.
    #[schemars(extend("x-required" = true))]
    pub(crate) lasts: Option<At<DurationText>>,
}
