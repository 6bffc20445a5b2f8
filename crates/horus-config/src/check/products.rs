//! What a service is there for: values and funnels. Alerts only, never a restart.

use std::collections::BTreeMap;

use horus_core::plan::{BeatPlan, FunnelPlan, ValuePlan};

use super::beats::Beat;
use super::{Check, Subject};
use crate::at::{At, Span};
use crate::defaults;
use crate::fault::Code;
use crate::words::duration_text;

/// Stages of one funnel.
const STAGES_MAX: usize = 32;

impl Check<'_> {
    pub(super) fn values(&mut self, subject: &Subject<'_>, beats: &[Beat]) -> BTreeMap<String, ValuePlan> {
        let mut plans = BTreeMap::new();
        for (name, at) in &subject.raw.value {
            let raw = &at.value;
            let path = ["service", subject.name.as_str(), "value", name.value.as_str()];
            self.part_name("value", name);
            let counter = match &raw.counter {
                Some(at) => self.text(at, "counter").inspect(|counter| {
                    self.counter_exists(subject, beats, counter, &at.span);
                }),
                None => {
                    let help =
                        "write `counter = \"orders_filled\"`: the name under which the program counts it";
                    self.missing(&with(&path, "counter"), &name.span, help);
                    None
                }
            };
            let stale = match &raw.stale {
                Some(at) => self.time(at, "stale").map(|duration| (duration, &at.span)),
                None => {
                    self.missing(&with(&path, "stale"), &name.span, "write `stale = \"24h\"`");
                    None
                }
            };
            let dead =
                raw.dead.as_ref().and_then(|at| self.time(at, "dead").map(|duration| (duration, &at.span)));
            if let (Some((stale, stale_span)), Some((dead, dead_span))) = (stale, dead)
                && dead <= stale
            {
                self.findings
                    .report(
                        Code::WrongOrder,
                        dead_span,
                        format!("`{}` would be dead before it is stale", name.value),
                    )
                    .label(format!("{} is not longer than {}", duration_text(dead), duration_text(stale)))
                    .also(stale_span, "stale")
                    .help("`stale` warns, `dead` is critical and comes later");
            }
            if let (Some(counter), Some((stale, _))) = (counter, stale) {
                let dead = dead.map(|(duration, _)| duration);
                plans.insert(name.value.clone(), ValuePlan { counter, stale, dead });
            }
        }
        plans
    }

    pub(super) fn funnels(&mut self, subject: &Subject<'_>, beats: &[Beat]) -> BTreeMap<String, FunnelPlan> {
        let mut plans = BTreeMap::new();
        for (name, at) in &subject.raw.funnel {
            self.part_name("funnel", name);
            let raw = &at.value;
            let Some(list) = &raw.stages else {
                let path = ["service", subject.name.as_str(), "funnel", name.value.as_str(), "stages"];
                self.missing(&path, &name.span, "write `stages = [\"signals\", \"orders\"]`");
                continue;
            };
            let stages = self.words(list, "stages");
            if list.value.len() < 2 || list.value.len() > STAGES_MAX {
                self.findings
                    .report(Code::BadFunnel, &list.span, format!("a funnel has 2 to {STAGES_MAX} stages"))
                    .label(format!("this has {}", list.value.len()))
                    .help(
                        "each stage is a counter that feeds the next: [\"signals\", \"passed\", \"orders\"]",
                    );
            } else if let Some(first) = stages.first() {
                self.counter_exists(subject, beats, &first.value, &list.span);
            }
            for (index, stage) in stages.iter().enumerate() {
                if let Some(before) = stages[..index].iter().find(|other| other.value == stage.value) {
                    self.findings
                        .report(
                            Code::BadFunnel,
                            &stage.span,
                            format!("the stage `{}` stands twice", stage.value),
                        )
                        .label("again")
                        .also(&before.span, "first here");
                }
            }
            let blocked_after = raw.blocked_after.as_ref().map_or(defaults::BLOCKED_AFTER, |at| {
                self.number(at.value > 0, at, "`blocked_after` is at least 1".to_owned());
                at.value
            });
            let stages = stages.into_iter().map(|stage| stage.value).collect();
            plans.insert(name.value.clone(), FunnelPlan { stages, blocked_after });
        }
        plans
    }

    /// Counters come from `progress` of a beat over HTTP, or from `X_HORUS_PROGRESS` on the notify socket.
    fn counter_exists(&mut self, subject: &Subject<'_>, beats: &[Beat], counter: &str, span: &Span) {
        let declares = |beat: &Beat| match &beat.plan {
            BeatPlan::Http(http) => http.progress.is_some(),
            BeatPlan::Notify => true,
            _ => false,
        };
        let heartbeat = subject.raw.heartbeat.as_ref();
        let unread = heartbeat
            .is_some_and(|raw| raw.http.as_ref().is_some_and(|at| at.value.progress.is_some()))
            || self.was_cut(&["service", subject.name.as_str(), "heartbeat"]);
        if beats.iter().any(declares) || unread {
            return;
        }
        let fault = self.findings.report(
            Code::NoCounter,
            span,
            format!("no heartbeat of `{}` can declare the counter `{counter}`", subject.name),
        );
        fault
            .label("would never move")
            .help("add `progress = \"/progress\"` to `heartbeat.http`, or `heartbeat.notify = true` and X_HORUS_PROGRESS");
        if let Some(http) = heartbeat.and_then(|raw| raw.http.as_ref()) {
            fault.also(&http.span, "no `progress` here");
        }
    }

    /// Names of values and funnels follow the rules of service names, so that they can stand in metrics and alerts.
    fn part_name(&mut self, table: &str, name: &At<String>) {
        let parsed = horus_core::ids::ServiceName::parse(&name.value);
        self.name(table, name, parsed);
    }
}

fn with<'a>(path: &[&'a str], key: &'a str) -> Vec<&'a str> {
    path.iter().copied().chain([key]).collect()
}
