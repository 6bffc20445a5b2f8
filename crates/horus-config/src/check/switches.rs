//! Switches that contradict each other, and thresholds that another setting keeps from ever being reached.

use horus_core::plan::{DaemonPlan, Mode, RestartOn};

use super::beats::Beat;
use super::calendar::Job;
use super::policy::Policy;
use super::{Check, Subject};
use crate::fault::Code;
use crate::words::duration_text as text;

impl Check<'_> {
    pub(super) fn judge_switches(
        &mut self,
        subject: &Subject<'_>,
        policy: &Policy,
        beats: &[Beat],
        job: Option<&Job>,
        daemon: &DaemonPlan,
    ) {
        if let Some(job) = job {
            self.judge_job(subject, policy, beats, job);
        } else {
            self.never_but_killed(subject, policy, beats);
        }
        self.limits_of_nothing(subject, policy, daemon);
    }

    fn judge_job(&mut self, subject: &Subject<'_>, policy: &Policy, beats: &[Beat], job: &Job) {
        let name = &subject.name;
        let finish = job.plan.finish;
        if finish > job.shortest {
            self.findings
                .report(
                    Code::Overlap,
                    &job.finish_span,
                    format!(
                        "a run of `{name}` may take {}, but the next one is due after {}: it would be skipped",
                        text(finish),
                        text(job.shortest)
                    ),
                )
                .label("longer than the time to the next start")
                .help("there is only ever one run at a time: make `finish` shorter, or start it less often");
        }
        if let (RestartOn::Always, Some(span)) = (policy.on.value, &policy.on.span) {
            self.findings
                .report(
                    Code::Contradiction,
                    span,
                    format!("`{name}` has a schedule and is to be started again whenever it ends"),
                )
                .label("would run without a pause")
                .also(&job.span, "the schedule")
                .help("leave `on` out (a run that fails waits for its next time), or write \"failure\"");
        }
        if !policy.autostart {
            self.findings
                .report(
                    Code::Void,
                    &job.span,
                    format!("the schedule of `{name}` is not followed: `autostart = false`"),
                )
                .label("void until `horus start`")
                .help("leave `autostart` out: a job is started by its schedule, not together with Horus");
        }
        let Some(deadline) = subject.raw.deadline.as_ref() else {
            return;
        };
        if beats.is_empty()
            && !self.was_cut(&["service", name.as_str(), "heartbeat"])
            && subject.raw.heartbeat.is_none()
        {
            self.findings
                .report(
                    Code::Void,
                    &deadline.span,
                    format!("`{name}` has a deadline, but no heartbeat that could miss it"),
                )
                .label("void")
                .also(&job.finish_span, "what judges a run")
                .help("add a `heartbeat`, or leave `deadline` out: a run that takes longer than `finish` is told");
        } else {
            self.passes_in_a_run(
                Some(job),
                name.as_str(),
                ("deadline", policy.deadline.value),
                &deadline.span,
            );
        }
    }

    /// `restart` is about ends, `kills` about hangs; who writes "never" may have meant both.
    fn never_but_killed(&mut self, subject: &Subject<'_>, policy: &Policy, beats: &[Beat]) {
        let Some(span) = policy.on.span.as_ref().filter(|_| policy.on.value == RestartOn::Never) else {
            return;
        };
        if policy.observe || beats.is_empty() {
            return;
        }
        self.once(
            Code::NeverButKilled,
            span,
            format!("`{}` is not restarted when it ends, but still killed and restarted when it hangs", subject.name),
            "only about ends",
            "if nothing may ever be restarted, write `observe = true`; for a program that has to finish there is `schedule`".to_owned(),
        );
    }

    fn limits_of_nothing(&mut self, subject: &Subject<'_>, policy: &Policy, daemon: &DaemonPlan) {
        if !policy.observe || daemon.mode == Mode::Observe {
            return;
        }
        let Some(kills) = &subject.raw.kills else {
            return;
        };
        let places = [
            kills.limit.as_ref().map(|at| &at.span),
            kills.prove.as_ref().map(|at| &at.span),
            kills.retry.as_ref().map(|at| &at.span),
            kills.daily.as_ref().map(|at| &at.span),
        ];
        let Some(span) = places.into_iter().flatten().min_by_key(|span| span.start) else {
            return;
        };
        self.findings
            .report(
                Code::Void,
                span,
                format!("`{}` is only observed, so there are no kills to limit", subject.name),
            )
            .label("void")
            .help("leave `kills` out, or write `mode = \"enforce\"`");
    }
}
