//! What a service is there for: values, funnels and inventories. Alerts only, never a restart.

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::activity;
use horus_core::plan::{BeatPlan, ExpectPlan, FunnelPlan, HttpBeat, ValuePlan};

use super::beats::Beat;
use super::calendar::Job;
use super::{Check, Subject};
use crate::at::{At, Span};
use crate::defaults;
use crate::fault::Code;
use crate::raw::RawHttpBeat;
use crate::words::duration_text;

/// Stages of one funnel.
const STAGES_MAX: usize = 32;

impl Check<'_> {
    pub(super) fn values(
        &mut self,
        subject: &Subject<'_>,
        beats: &[Beat],
        job: Option<&Job>,
    ) -> BTreeMap<String, ValuePlan> {
        let mut plans = BTreeMap::new();
        for (name, at) in &subject.raw.value {
            let raw = &at.value;
            let path = [subject.table, subject.name.as_str(), "value", name.value.as_str()];
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
            if let (Some((stale, span)), Some(job)) = (stale, job)
                && stale < job.longest
            {
                self.findings
                    .report(
                        Code::AlwaysFires,
                        span,
                        format!(
                            "`{}` would be called stale before the next run of `{}` has done its work",
                            name.value, subject.name
                        ),
                    )
                    .label(format!("two starts are up to {} apart", duration_text(job.longest)))
                    .help(format!(
                        "write `stale = \"{}\"` or more",
                        duration_text(job.longest + job.plan.finish)
                    ));
            } else if let Some((stale, span)) = stale {
                self.read_often_enough(beats, &name.value, stale, span);
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
                let path = [subject.table, subject.name.as_str(), "funnel", name.value.as_str(), "stages"];
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

    pub(super) fn expects(
        &mut self,
        subject: &Subject<'_>,
        beats: &[Beat],
        job: Option<&Job>,
    ) -> BTreeMap<String, ExpectPlan> {
        let mut plans = BTreeMap::new();
        for (name, at) in &subject.raw.expect {
            let raw = &at.value;
            self.part_name("expect", name);
            let Some(gauge_at) = &raw.gauge else {
                let path = [subject.table, subject.name.as_str(), "expect", name.value.as_str(), "gauge"];
                self.missing(
                    &path,
                    &name.span,
                    "write `gauge = \"slots\"`: the name under which the program reports it",
                );
                continue;
            };
            let gauge = self.text(gauge_at, "gauge");
            if let Some(gauge) = &gauge {
                self.gauge_exists(subject, beats, gauge, &gauge_at.span);
            }
            let min = raw.min.as_ref().map_or(defaults::EXPECT_MIN, |at| self.least(&name.value, at));
            let within = raw.within.as_ref().map_or(Some(defaults::EXPECT_WITHIN), |at| {
                let within = self.time(at, "within")?;
                self.passes_in_a_run(job, &name.value, ("within", within), &at.span);
                Some(within)
            });
            if let (Some(gauge), Some(within)) = (gauge, within) {
                plans.insert(name.value.clone(), ExpectPlan { gauge, min, within });
            }
        }
        plans
    }

    fn least(&mut self, name: &str, at: &At<f64>) -> f64 {
        self.number(at.value.is_finite(), at, "`min` has to be a finite number".to_owned());
        if at.value <= 0.0 {
            self.findings
                .report(
                    Code::NeverFires,
                    &at.span,
                    format!("`{name}` may be empty: nothing is ever less than {}", at.value),
                )
                .label("can never be missed, unless it falls below zero")
                .help("`min = 1`: that there is anything at all");
        }
        at.value
    }

    /// A bound below the time between two reads is passed by a healthy program.
    fn read_often_enough(&mut self, beats: &[Beat], name: &str, stale: Duration, span: &Span) {
        if let Some(every) = slowest_read(beats)
            && stale < every
        {
            self.findings
                .report(
                    Code::AlwaysFires,
                    span,
                    format!(
                        "`{name}` is read every {}, so it would be called stale ({}) before each read",
                        duration_text(every),
                        duration_text(stale)
                    ),
                )
                .label("shorter than a poll")
                .help(format!("write `stale = \"{}\"` or more", duration_text(every.saturating_mul(3))));
        }
    }

    /// A run that takes longer than `finish` is told: what only passes after that comes too late to be of use.
    pub(super) fn passes_in_a_run(
        &mut self,
        job: Option<&Job>,
        name: &str,
        (key, bound): (&str, Duration),
        span: &Span,
    ) {
        if let Some(job) = job.filter(|job| job.plan.finish <= bound) {
            self.findings
                .report(
                    Code::LateThreshold,
                    span,
                    format!(
                        "`{key}` ({}) of `{name}` only passes in a run of which a person was told {} after its start",
                        duration_text(bound),
                        duration_text(job.plan.finish)
                    ),
                )
                .label("longer than a run may take")
                .also(&job.finish_span, "told then")
                .help(format!("make `{key}` shorter than `finish`, or leave it out"));
        }
    }

    /// Counters come from `progress` of a beat over HTTP, from `X_HORUS_PROGRESS` on the notify socket, or from where `counter` says.
    pub(super) fn counter_exists(
        &mut self,
        subject: &Subject<'_>,
        beats: &[Beat],
        counter: &str,
        span: &Span,
    ) {
        if activity::is_own(counter) {
            self.own_counter_exists(counter, span);
            return;
        }
        if subject.raw.counter.keys().any(|name| name.value == counter) {
            return;
        }
        let heartbeat = subject.raw.heartbeat.as_ref().and_then(|raw| raw.http.as_ref());
        if heartbeat.is_some_and(|at| at.value.progress.is_some())
            || carries(beats, |http| http.progress.is_some())
        {
            return;
        }
        let help = "add `progress = \"/progress\"` to `heartbeat.http`, or `heartbeat.notify = true` and X_HORUS_PROGRESS, or a `counter` \
                    of this name that says where it is read";
        self.nobody_declares(subject, ("counter", counter, "progress"), span, "would never move", help);
    }

    /// What Horus counts itself, from outside.
    fn own_counter_exists(&mut self, counter: &str, span: &Span) {
        if activity::COUNTERS.contains(&counter) {
            return;
        }
        let known = activity::COUNTERS.map(|counter| format!("`{counter}`")).join(", ");
        let fault = self.findings.report(Code::NoCounter, span, format!("Horus counts no `{counter}`"));
        fault.label("would never move").help(format!("what it counts from outside is {known}"));
    }

    /// Gauges come from `gauges` or `progress` of a beat over HTTP, or from `X_HORUS_GAUGE` on the notify socket.
    fn gauge_exists(&mut self, subject: &Subject<'_>, beats: &[Beat], gauge: &str, span: &Span) {
        let heartbeat = subject.raw.heartbeat.as_ref().and_then(|raw| raw.http.as_ref());
        let written = |raw: &RawHttpBeat| raw.gauges.is_some() || raw.progress.is_some();
        let planned = |http: &HttpBeat| http.gauges.is_some() || http.progress.is_some();
        if heartbeat.is_some_and(|at| written(&at.value)) || carries(beats, planned) {
            return;
        }
        let help =
            "add `gauges = \"/gauges\"` to `heartbeat.http`, or `heartbeat.notify = true` and X_HORUS_GAUGE";
        self.nobody_declares(subject, ("gauge", gauge, "gauges"), span, "would never be seen", help);
    }

    fn nobody_declares(
        &mut self,
        subject: &Subject<'_>,
        (what, name, key): (&str, &str, &str),
        span: &Span,
        label: &str,
        help: &str,
    ) {
        if self.was_cut(&[subject.table, subject.name.as_str(), "heartbeat"]) {
            return;
        }
        let fault = self.findings.report(
            Code::NoCounter,
            span,
            format!("no heartbeat of `{}` can declare the {what} `{name}`", subject.name),
        );
        fault.label(label).help(help);
        if let Some(http) = subject.raw.heartbeat.as_ref().and_then(|raw| raw.http.as_ref()) {
            fault.also(&http.span, format!("no `{key}` here"));
        }
    }

    /// Names of parts follow the rules of service names, so that they can stand in metrics and alerts.
    pub(super) fn part_name(&mut self, table: &str, name: &At<String>) {
        let parsed = horus_core::ids::ServiceName::parse(&name.value);
        self.name(table, name, parsed);
    }
}

/// Does a beat bring numbers along? One over HTTP does if it `has` them.
fn carries(beats: &[Beat], has: impl Fn(&HttpBeat) -> bool) -> bool {
    beats.iter().any(|beat| match &beat.plan {
        BeatPlan::Http(http) => has(http),
        BeatPlan::Notify => true,
        _ => false,
    })
}

/// How often numbers are read, if they only come by polls.
fn slowest_read(beats: &[Beat]) -> Option<Duration> {
    let pushed = beats.iter().any(|beat| beat.plan == BeatPlan::Notify);
    let polled = beats.iter().filter(|beat| matches!(beat.plan, BeatPlan::Http(_)));
    polled.map(|beat| beat.plan.every()).max().filter(|_| !pushed)
}

pub(super) fn with<'a>(path: &[&'a str], key: &'a str) -> Vec<&'a str> {
    path.iter().copied().chain([key]).collect()
}
