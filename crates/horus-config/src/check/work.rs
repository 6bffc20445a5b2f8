//! Work that has to move. Here a standstill leads to a kill, so a program has to be able to say that it has nothing to do, and
//! the kill has to be tried before a person is woken. (How often a counter is read does not matter: the engine takes its
//! age at the reads, so between two of them nothing stands still.)

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::plan::{BeatPlan, ProgressPlan, Ready, ValuePlan};

use super::beats::Beat;
use super::calendar::Job;
use super::products::with;
use super::{Check, Subject};
use crate::at::At;
use crate::fault::Code;
use crate::raw::{DurationText, RawHttpBeat};
use crate::timing::{Amount, TimingRow};
use crate::words::duration_text as text;

impl Check<'_> {
    pub(super) fn progress(
        &mut self,
        subject: &Subject<'_>,
        beats: &[Beat],
        job: Option<&Job>,
        values: &BTreeMap<String, ValuePlan>,
    ) -> BTreeMap<String, ProgressPlan> {
        let mut plans = BTreeMap::new();
        for (name, at) in &subject.raw.progress {
            let raw = &at.value;
            let path = [subject.table, subject.name.as_str(), "progress", name.value.as_str()];
            self.part_name("progress", name);
            if raw.counter.is_none() {
                let help = "write `counter = \"cycles\"`: the name under which the program counts it";
                self.missing(&with(&path, "counter"), &name.span, help);
            }
            if raw.stalled.is_none() {
                self.missing(&with(&path, "stalled"), &name.span, "write `stalled = \"5m\"`");
            }
            let counter = raw.counter.as_ref().and_then(|at| {
                self.text(at, "counter")
                    .inspect(|counter| self.counter_exists(subject, beats, counter, &at.span))
            });
            let stalled = raw.stalled.as_ref().and_then(|at| Some((self.time(at, "stalled")?, at)));
            if let (Some(counter), Some((stalled, at))) = (counter, stalled) {
                let plan = ProgressPlan { counter, stalled };
                self.judge_progress(&plan, at, values);
                self.passes_in_a_run(job, &name.value, ("stalled", stalled), &at.span);
                self.timing.push(TimingRow {
                    service: subject.name.clone(),
                    what: format!("progress.{}.stalled", name.value),
                    amount: Amount::Time(stalled),
                    origin: self.origin(super::Table::Own, &at.span),
                });
                plans.insert(name.value.clone(), plan);
            }
        }
        if !plans.is_empty() {
            self.can_declare_idle(subject, beats);
        }
        plans
    }

    /// How long each step of a batch may take.
    pub(super) fn steps(
        &mut self,
        subject: &Subject<'_>,
        beats: &[Beat],
        ready: Ready,
        job: Option<&Job>,
    ) -> BTreeMap<String, Duration> {
        let mut plans = BTreeMap::new();
        for (name, at) in &subject.raw.step {
            self.part_name("step", name);
            let Some(limit) = self.time(at, &name.value) else { continue };
            self.passes_in_a_run(job, &name.value, ("step", limit), &at.span);
            self.timing.push(TimingRow {
                service: subject.name.clone(),
                what: format!("step.{}", name.value),
                amount: Amount::Time(limit),
                origin: self.origin(super::Table::Own, &at.span),
            });
            plans.insert(name.value.clone(), limit);
        }
        let says = ready == Ready::Notify || beats.iter().any(|beat| beat.plan == BeatPlan::Notify);
        if let Some(name) = subject.raw.step.keys().next().filter(|_| !says)
            && !self.was_cut(&[subject.table, subject.name.as_str(), "heartbeat"])
        {
            self.findings
                .report(
                    Code::NoCounter,
                    &name.span,
                    format!("`{}` has no way to say which step it is in", subject.name),
                )
                .label("would never begin")
                .help("add `heartbeat.notify = true` (or `ready = \"notify\"`): the program sends X_HORUS_STEP over that socket");
        }
        plans
    }

    fn judge_progress(
        &mut self,
        ProgressPlan { counter, stalled }: &ProgressPlan,
        at: &At<DurationText>,
        values: &BTreeMap<String, ValuePlan>,
    ) {
        let dead = values
            .iter()
            .filter(|(_, value)| value.counter == *counter)
            .find_map(|(name, value)| value.dead.filter(|dead| dead < stalled).map(|dead| (name, dead)));
        if let Some((value, dead)) = dead {
            self.findings
                .report(
                    Code::LateThreshold,
                    &at.span,
                    format!(
                        "`value.{value}` calls `{counter}` dead after {}, but only after {} is its standstill a hang",
                        text(dead),
                        text(*stalled)
                    ),
                )
                .label("longer than `dead`")
                .help("a person would be woken before Horus has tried a restart: make `stalled` shorter than `dead`");
        }
    }

    /// A program with nothing to do stands still, and has to be able to say so.
    fn can_declare_idle(&mut self, subject: &Subject<'_>, beats: &[Beat]) {
        let declares = beats.iter().any(|beat| match &beat.plan {
            BeatPlan::Http(http) => http.state.is_some(),
            BeatPlan::Notify => true,
            _ => false,
        });
        let heartbeat = subject.raw.heartbeat.as_ref().and_then(|raw| raw.http.as_ref());
        let counts = |at: &At<RawHttpBeat>| at.value.progress.is_some() || !subject.raw.counter.is_empty();
        let Some(http) = heartbeat.filter(|at| !declares && at.value.state.is_none() && counts(at)) else {
            return;
        };
        if self.was_cut(&[subject.table, subject.name.as_str(), "heartbeat"]) {
            return;
        }
        self.findings
            .report(
                Code::CannotDeclareIdle,
                &http.span,
                format!("`{}` cannot say that it is idle, and would be killed for having nothing to do", subject.name),
            )
            .label("no `state` here")
            .help("add `state = \"/state\"`; if its counters never rest, `\"ok\"` is all that it has to say there");
    }
}
