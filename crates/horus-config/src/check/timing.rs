//! Arithmetic on what came out: would these numbers hurt a healthy program? And the table of all of them.

use std::time::Duration;

use horus_core::ids::ServiceName;
use horus_core::plan::{RestartOn, When};

use super::beats::{Beat, Polling};
use super::calendar::Job;
use super::policy::Policy;
use super::{Check, Sourced, Subject, Table};
use crate::at::Span;
use crate::defaults::DETECTION_SLACK;
use crate::fault::Code;
use crate::timing::{Amount, Origin, TimingRow};
use crate::words::{duration_text as text, seconds_text};

impl Check<'_> {
    pub(super) fn judge_timing(&mut self, subject: &Subject<'_>, policy: &Policy, beats: &[Beat]) {
        for beat in beats {
            if let Some(polling) = &beat.polling {
                self.judge_polling(subject, policy, polling, &beat.span);
            }
        }
        self.judge_kills(subject, policy);
        self.judge_restart(policy);
        let (deadline, startup) = (&policy.deadline, &policy.startup);
        if startup.value < deadline.value {
            let span = startup.span.clone().or(deadline.span.clone()).unwrap_or_else(|| subject.span.clone());
            self.once(
                Code::StartupShort,
                &span,
                format!(
                    "`{}` has less time for its first tick ({}) than between two later ones ({})",
                    subject.name,
                    text(startup.value),
                    text(deadline.value)
                ),
                "the alert \"does not get ready\" would come too soon",
                format!("write `startup = \"{}\"` or more", text(deadline.value * 2)),
            );
        }
        if let (true, Some(span)) = (policy.grace.value.is_zero(), &policy.grace.span) {
            self.once(
                Code::NoGrace,
                span,
                format!("`{}` is killed at once: {} has no effect", subject.name, policy.signal.value),
                "no time to flush or to close",
                "write `grace = \"10s\"`, or as long as its slowest clean end takes".to_owned(),
            );
        }
    }

    fn judge_polling(&mut self, subject: &Subject<'_>, policy: &Policy, polling: &Polling, beat: &Span) {
        let (deadline, every) = (policy.deadline.value, polling.every.value);
        let timeout = polling.timeout.as_ref().map_or(Duration::ZERO, |timeout| timeout.value);
        let span = policy.deadline.span.clone().or_else(|| polling.every.span.clone());
        let span = span.unwrap_or_else(|| beat.clone());
        let name = &subject.name;
        if deadline >= every.saturating_mul(2) {
            if deadline < every.saturating_mul(2) + timeout {
                self.once(
                    Code::OneLostPoll,
                    &span,
                    format!(
                        "one lost answer makes `{name}` look silent: two polls of {} and a timeout of {} are {}, the deadline is {}",
                        text(every),
                        text(timeout),
                        text(every.saturating_mul(2) + timeout),
                        text(deadline)
                    ),
                    "short for these polls",
                    format!("poll faster: `every = \"{}\"`", text(crate::defaults::poll(deadline))),
                );
            }
            return;
        }
        // Without a fresh sign for twice the deadline, absence alone is enough for a kill.
        let (kind, consequence) = if deadline.saturating_mul(2) <= every {
            (
                format!(
                    "this would kill a healthy `{name}` about every {}",
                    seconds_text(deadline.saturating_mul(2) + DETECTION_SLACK)
                ),
                format!(
                    "it is asked every {}, but 2 x {} without a sign are enough for a kill, and within {} it is carried out",
                    seconds_text(every),
                    seconds_text(deadline),
                    seconds_text(DETECTION_SLACK)
                ),
            )
        } else if deadline <= every {
            (
                format!("this would call a healthy `{name}` silent"),
                format!(
                    "it is asked every {}, so its last sign is older than {} before each poll",
                    text(every),
                    text(deadline)
                ),
            )
        } else {
            (
                format!("one lost answer would condemn a healthy `{name}`"),
                format!(
                    "it is asked every {}; with one answer lost its last sign is {} old, the deadline is {}",
                    text(every),
                    text(every.saturating_mul(2)),
                    text(deadline)
                ),
            )
        };
        let fault = self.findings.report(Code::DeadlineTooShort, &span, format!("{kind}: {consequence}"));
        fault.label("shorter than two polls").help(format!(
            "write `deadline = \"{}\"` or more, or poll at least every {}",
            text(every.saturating_mul(2) + timeout),
            text(crate::defaults::poll(deadline))
        ));
        if let Some(every) = polling.every.span.as_ref().filter(|every| **every != span) {
            fault.also(every, "the poll");
        }
    }

    /// Says it once for each place: a default is read for every service.
    pub(super) fn once(&mut self, code: Code, span: &Span, message: String, label: &str, help: String) {
        if !self.findings.has(code, span) {
            self.findings.report(code, span, message).label(label).help(help);
        }
    }

    pub(super) fn tabulate(
        &mut self,
        service: &ServiceName,
        policy: &Policy,
        beats: &[Beat],
        job: Option<&Job>,
    ) {
        let finish = job.map(|job| self.origin(Table::Own, &job.finish_span));
        let mut rows = Rows { service, rows: &mut self.timing };
        rows.time("deadline", &policy.deadline);
        let mut slowest = Duration::ZERO;
        for beat in beats {
            let kind = beat.plan.kind().word();
            let Some(polling) = &beat.polling else {
                continue;
            };
            slowest = slowest.max(polling.every.value);
            rows.time(&format!("heartbeat.{kind}.every"), &polling.every);
            if let Some(timeout) = &polling.timeout {
                rows.time(&format!("heartbeat.{kind}.timeout"), timeout);
            }
        }
        rows.time("startup", &policy.startup);
        if !beats.is_empty() {
            let seen =
                |deadlines: u32| policy.deadline.value.saturating_mul(deadlines) + slowest + DETECTION_SLACK;
            let poll = if slowest.is_zero() { "" } else { " + poll" };
            rows.derived("detection (proof)", seen(1), format!("deadline{poll} + 1s"));
            rows.derived("detection (absence)", seen(2), format!("2 x deadline{poll} + 1s"));
        }
        rows.time("stop.grace", &policy.grace);
        if policy.on.value != RestartOn::Never {
            rows.time("restart.first", &policy.first);
            rows.time("restart.next", &policy.next);
            rows.time("restart.max", &policy.max);
        }
        rows.count("restart.crash_loop", &policy.crash_loop);
        rows.time("restart.within", &policy.within);
        rows.count("kills.limit", &policy.limit);
        rows.time("kills.prove", &policy.prove);
        let retry = policy.retry.value.map_or(Amount::Never, Amount::Time);
        rows.push("kills.retry", retry, policy.retry.origin.clone());
        rows.count("kills.daily", &policy.daily);
        if let (Some(job), Some(finish)) = (job, finish) {
            let (key, how) = match &job.plan.when {
                When::Every(_) => ("schedule.every", "counted from the start before".to_owned()),
                When::Cron(calendar) => ("schedule.cron", format!("the shortest gap of {calendar}")),
            };
            rows.derived(key, job.shortest, how);
            rows.push("schedule.finish", Amount::Time(job.plan.finish), finish);
        }
    }
}

struct Rows<'a> {
    service: &'a ServiceName,
    rows: &'a mut Vec<TimingRow>,
}

impl Rows<'_> {
    fn push(&mut self, what: &str, amount: Amount, origin: Origin) {
        self.rows.push(TimingRow { service: self.service.clone(), what: what.to_owned(), amount, origin });
    }

    fn time(&mut self, what: &str, value: &Sourced<Duration>) {
        self.push(what, Amount::Time(value.value), value.origin.clone());
    }

    fn derived(&mut self, what: &str, value: Duration, how: String) {
        self.push(what, Amount::Time(value), Origin::Derived(how));
    }

    fn count(&mut self, what: &str, value: &Sourced<u32>) {
        self.push(what, Amount::Count(u64::from(value.value)), value.origin.clone());
    }
}
