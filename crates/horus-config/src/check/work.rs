//! Work that has to move. Here a standstill leads to a kill, so each threshold is held against what a healthy program
//! does: it is read only so often, it pauses, and some of what it counts does not depend on it.

use std::collections::BTreeMap;

use horus_core::plan::{BeatPlan, ProgressPlan, ValuePlan};

use super::beats::Beat;
use super::calendar::Job;
use super::products::{slowest_read, with};
use super::{Check, Subject};
use crate::at::At;
use crate::defaults::DETECTION_SLACK;
use crate::fault::Code;
use crate::raw::DurationText;
use crate::timing::{Amount, TimingRow};
use crate::words::{duration_text as text, seconds_text};

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
            let path = ["service", subject.name.as_str(), "progress", name.value.as_str()];
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
                self.judge_progress(subject, beats, (&name.value, &plan), at, values);
                self.outlives_a_run(job, &name.value, ("stalled", stalled), &at.span);
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

    fn judge_progress(
        &mut self,
        subject: &Subject<'_>,
        beats: &[Beat],
        (name, plan): (&str, &ProgressPlan),
        at: &At<DurationText>,
        values: &BTreeMap<String, ValuePlan>,
    ) {
        let ProgressPlan { counter, stalled } = plan;
        if let Some(every) = slowest_read(beats)
            && *stalled < every.saturating_mul(2)
        {
            let (kind, consequence) = if *stalled <= every {
                (
                    format!(
                        "this would kill a healthy `{}` about every {}",
                        subject.name,
                        seconds_text(*stalled + DETECTION_SLACK)
                    ),
                    format!(
                        "a standstill of {} is a hang, so `{name}` stands still before each read",
                        text(*stalled)
                    ),
                )
            } else {
                (
                    format!("one lost answer would condemn a healthy `{}`", subject.name),
                    format!(
                        "with it `{name}` stands still for {}, and {} are a hang",
                        text(every.saturating_mul(2)),
                        text(*stalled)
                    ),
                )
            };
            self.findings
                .report(
                    Code::DeadlineTooShort,
                    &at.span,
                    format!("{kind}: `{counter}` is read every {}, and {consequence}", text(every)),
                )
                .label("shorter than two polls")
                .help(format!(
                    "write `stalled = \"{}\"` or more, or poll faster",
                    text(every.saturating_mul(3))
                ));
        }
        let dead = values
            .iter()
            .filter(|(_, value)| value.counter == *counter)
            .find_map(|(name, value)| value.dead.filter(|dead| dead < stalled).map(|dead| (name, dead)));
        if let Some((value, dead)) = dead {
            self.findings
                .report(
                    Code::StalledLate,
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
        let Some(http) =
            heartbeat.filter(|at| !declares && at.value.state.is_none() && at.value.progress.is_some())
        else {
            return;
        };
        if self.was_cut(&["service", subject.name.as_str(), "heartbeat"]) {
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
