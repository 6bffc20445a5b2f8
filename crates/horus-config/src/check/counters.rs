//! Counters that are read over HTTP beside the beats.

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::metric::{CounterPlan, CounterRead, Metric};
use horus_core::plan::{FunnelPlan, ProgressPlan, ValuePlan};

use super::products::with;
use super::{Check, Subject};
use crate::at::{At, Span};
use crate::defaults as built_in;
use crate::fault::Code;
use crate::raw::RawCounter;
use crate::words::duration_text;

/// What of a plan names counters.
pub(super) struct Named<'a> {
    pub(super) values: &'a BTreeMap<String, ValuePlan>,
    pub(super) funnels: &'a BTreeMap<String, FunnelPlan>,
    pub(super) progress: &'a BTreeMap<String, ProgressPlan>,
}

impl Named<'_> {
    fn is_named(&self, counter: &str) -> bool {
        let stages = self.funnels.values().flat_map(|funnel| &funnel.stages);
        self.limits(counter).next().is_some() || stages.into_iter().any(|stage| stage == counter)
    }

    /// The limits within which a counter has to move.
    fn limits(&self, counter: &str) -> impl Iterator<Item = Duration> {
        let values =
            self.values.values().filter(move |value| value.counter == counter).map(|value| value.stale);
        let work =
            self.progress.values().filter(move |work| work.counter == counter).map(|work| work.stalled);
        values.chain(work)
    }
}

impl Check<'_> {
    pub(super) fn counters(
        &mut self,
        subject: &Subject<'_>,
        named: &Named<'_>,
    ) -> BTreeMap<String, CounterPlan> {
        let mut plans = BTreeMap::new();
        for (name, at) in &subject.raw.counter {
            self.part_name("counter", name);
            if let Some(plan) = self.counter(subject, name, &at.value, named) {
                plans.insert(name.value.clone(), plan);
            }
        }
        plans
    }

    fn counter(
        &mut self,
        subject: &Subject<'_>,
        name: &At<String>,
        raw: &RawCounter,
        named: &Named<'_>,
    ) -> Option<CounterPlan> {
        let path = [subject.table, subject.name.as_str(), "counter", name.value.as_str()];
        if raw.url.is_none() {
            self.missing(&with(&path, "url"), &name.span, "write `url = \"http://127.0.0.1:9100/metrics\"`");
        }
        let url = raw.url.as_ref().and_then(|at| self.url(at, &["http"]));
        let places = [
            ("metric", raw.metric.as_ref().map(|at| &at.span)),
            ("pointer", raw.pointer.as_ref().map(|at| &at.span)),
        ];
        let message = format!("the counter `{}` needs one thing to read", name.value);
        self.exactly_one(&message, &path, &name.span, &places)?;
        let read = match &raw.metric {
            Some(at) => self.metric(at).map(CounterRead::Metric),
            None => self.pointer(raw.pointer.as_ref(), "pointer").map(CounterRead::Pointer),
        };
        let derived = built_in::counter_every(named.limits(&name.value).min());
        let every = match &raw.every {
            Some(at) => {
                let every = self.time(at, "every")?;
                self.is_read_in_time(&name.value, every, &at.span, named);
                every
            }
            None => derived,
        };
        let timeout = match &raw.timeout {
            Some(at) => self.time(at, "timeout")?,
            None => every.min(built_in::COUNTER_TIMEOUT_MAX),
        };
        if !named.is_named(&name.value) && !self.was_cut(&[subject.table, subject.name.as_str()]) {
            self.findings
                .report(Code::Void, &name.span, format!("nothing looks at the counter `{}`", name.value))
                .label("read for nothing")
                .help("name it in a `progress`, a `value` or a `funnel`");
        }
        Some(CounterPlan { url: url?, read: read?, every, timeout })
    }

    fn metric(&mut self, at: &At<crate::raw::Text>) -> Option<Metric> {
        match Metric::parse(&at.value.0) {
            Ok(metric) => Some(metric),
            Err(why) => {
                self.findings
                    .report(Code::BadMetric, &at.span, format!("`metric` {why}"))
                    .label("names no series")
                    .help("write it as Prometheus does, in '...' if it has labels: 'orders_total{side=\"buy\"}'");
                None
            }
        }
    }

    /// The age of a value goes on between two readings. (That of work is only taken at them.)
    fn is_read_in_time(&mut self, name: &str, every: Duration, span: &Span, named: &Named<'_>) {
        let values = named.values.iter().filter(|(_, value)| value.counter == name);
        let Some((value, stale)) =
            values.map(|(value, plan)| (value, plan.stale)).find(|(_, stale)| *stale < every)
        else {
            return;
        };
        self.findings
            .report(
                Code::AlwaysFires,
                span,
                format!(
                    "`{name}` is read every {}, so `value.{value}` would be called stale ({}) before each reading",
                    duration_text(every),
                    duration_text(stale)
                ),
            )
            .label("longer than `stale`")
            .help(format!("write `every = \"{}\"` or less", duration_text(stale / 4)));
    }
}
