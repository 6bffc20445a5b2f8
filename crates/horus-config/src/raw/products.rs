//! What a service is there for: work that has to move, products, funnels, inventories.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{DurationText, Text};
use crate::at::At;
use crate::defaults as built_in;

/// Work that has to move: its standstill is a hang, and Horus kills and restarts for it, within the limits of `kills`.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { counter = \"cycles\", stalled = \"5m\" }"
)]
pub(crate) struct RawProgress {
    /// Name of the progress counter. `horus.output` (bytes printed), `horus.cpu` (milliseconds used by its tree, from 1 % of a
    /// processor on) and `horus.io` (bytes read and written by its tree) are counted by Horus from outside, for programs that count nothing.
    #[schemars(extend("x-required" = true))]
    pub(crate) counter: Option<At<Text>>,
    /// No increase for so long, while it declares neither `"idle"` nor `"busy"`, is a hang of this stage. Set it to the
    /// longest honest pause between two increases, times two.
    #[schemars(extend("x-required" = true))]
    pub(crate) stalled: Option<At<DurationText>>,
}

/// A product whose absence is worth an alert. It is never answered by a restart: that the world buys nothing today is no
/// fault of the program.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { counter = \"orders_filled\", stale = \"24h\" }"
)]
pub(crate) struct RawValue {
    /// Name of the progress counter. `horus.output` (bytes printed), `horus.cpu` (milliseconds used by its tree, from 1 % of a
    /// processor on) and `horus.io` (bytes read and written by its tree) are counted by Horus from outside, for programs that count nothing.
    #[schemars(extend("x-required" = true))]
    pub(crate) counter: Option<At<Text>>,
    /// No increase for so long: warning.
    #[schemars(extend("x-required" = true))]
    pub(crate) stale: Option<At<DurationText>>,
    /// No increase for so long: critical. Default: never.
    pub(crate) dead: Option<At<DurationText>>,
}

/// A counter that is read over HTTP: exactly one of `metric` and `pointer`.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { url = \"http://127.0.0.1:9100/metrics\", metric = \"orders_total\" }"
)]
pub(crate) struct RawCounter {
    /// `http://host:port/path`. Counters of one page (with the same `every` and `timeout`) are read with one request.
    #[schemars(extend("x-required" = true))]
    pub(crate) url: Option<At<Text>>,
    /// A counter of a page of Prometheus, `"orders_total"`, or `'orders_total{side="buy",venue!="paper"}'`: the sum of all series
    /// that match. A gauge is refused: that it rises again is no progress. Default: none; then `pointer` says where it is.
    pub(crate) metric: Option<At<Text>>,
    /// JSON pointer to a number that only grows: `"/stats/orders"`. Default: none; then `metric` names it.
    pub(crate) pointer: Option<At<Text>>,
    /// How often it is read. Default: a quarter of the shortest `stalled` or `stale` that names it, but within 1 s and 15 s.
    pub(crate) every: Option<At<DurationText>>,
    /// Deadline of one reading, connect included. Default: as `every`, at most 5 s: nobody is judged by it.
    pub(crate) timeout: Option<At<DurationText>>,
}

/// Counters in the order in which work passes through them.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { stages = [\"signals\", \"orders\"] }")]
pub(crate) struct RawFunnel {
    /// Counter names, first stage first. At least two.
    #[schemars(extend("x-required" = true))]
    pub(crate) stages: Option<At<Vec<At<Text>>>>,
    /// A stage that moved by so much while the next stood still is blocked. Five lets a filter refuse a few in a row.
    #[schemars(extend("default" = built_in::BLOCKED_AFTER))]
    pub(crate) blocked_after: Option<At<u64>>,
}

/// An inventory that may not be empty.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { gauge = \"slots\", min = 1, within = \"2m\" }"
)]
pub(crate) struct RawExpect {
    /// Name of the gauge; a counter of that name counts, too.
    #[schemars(extend("x-required" = true))]
    pub(crate) gauge: Option<At<Text>>,
    /// The least that is right. One: that there is anything at all.
    #[schemars(extend("default" = built_in::EXPECT_MIN))]
    pub(crate) min: Option<At<f64>>,
    /// So long may it be less, counted from readiness and from each fall below `min`. Two minutes let a program fill up
    /// after its start and wake nobody for a gap between two orders.
    #[schemars(extend("default" = crate::words::duration_text(built_in::EXPECT_WITHIN)))]
    pub(crate) within: Option<At<DurationText>>,
}
