//! Would this go round in circles? Kills that cure nothing, restarts that nobody counts.

use std::time::Duration;

use horus_core::ledger::DEATHS_KEPT_MAX;
use horus_core::plan::RestartOn;

use super::policy::Policy;
use super::{Check, Subject};
use crate::fault::Code;
use crate::words::{duration_text as text, seconds_text};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// More kills in a day than this, one every half hour, are a loop: nobody would call each of them a cure.
const KILLS_A_DAY_MAX: u64 = 48;
/// More kills in a row that cured nothing than this are no hypothesis any more.
const LIMIT_MAX: u32 = 10;
/// The engine doubles a deadline no oftener than this.
const DOUBLINGS_MAX: u32 = 10;
/// The engine shortens a delay by at most a tenth, so that many services do not start in step.
const JITTER: u32 = 10;

impl Check<'_> {
    pub(super) fn judge_kills(&mut self, subject: &Subject<'_>, policy: &Policy) {
        let (deadline, prove) = (policy.deadline.value, policy.prove.value);
        if prove < deadline.saturating_mul(2)
            && let Some(span) = &policy.prove.span
        {
            // Life for `prove`, then a hang that is seen by absence, then the next start.
            let period = prove + deadline.saturating_mul(2);
            let a_day = (DAY.as_secs() / period.as_secs().max(1)).max(1);
            self.once(
                Code::ProveTooShort,
                span,
                format!(
                    "`{}` would be called cured before the same hang could be seen again: {} of ticks, but a hang is only \
                     certain after {}",
                    subject.name,
                    text(prove),
                    text(deadline.saturating_mul(2))
                ),
                "a proven kill does not count for the breaker",
                format!(
                    "a hang that comes back every {} would be killed up to {} times a day: write `prove = \"{}\"` or more",
                    text(period),
                    a_day.min(u64::from(policy.daily.value)),
                    text(crate::defaults::prove(deadline))
                ),
            );
        }
        self.judge_retry(subject, policy);
        let (limit, daily) = (&policy.limit, &policy.daily);
        if let (true, Some(span)) = (daily.value < limit.value, daily.span.as_ref().or(limit.span.as_ref())) {
            self.once(
                Code::WrongOrder,
                span,
                format!("`daily` ({}) opens the breaker before `limit` ({}) can", daily.value, limit.value),
                "smaller than `limit`",
                "`daily` counts proven kills too: make it larger than `limit`".to_owned(),
            );
        }
        self.judge_daily(subject, policy);
        self.judge_limit(subject, policy);
    }

    /// With the breaker open, `retry` is all that stands between two kills.
    fn judge_retry(&mut self, subject: &Subject<'_>, policy: &Policy) {
        let (Some(retry), Some(span)) = (policy.retry.value, &policy.retry.span) else {
            return;
        };
        let prove = policy.prove.value;
        let a_day = DAY.as_secs() / retry.as_secs().max(1);
        let help = "write `retry = \"6h\"`, or \"never\"".to_owned();
        if retry < prove {
            self.once(
                Code::RetryTooShort,
                span,
                format!(
                    "the next try with the breaker open ({}) would come before the last one can be proven ({})",
                    text(retry),
                    text(prove)
                ),
                "shorter than `prove`",
                help,
            );
        } else if a_day > KILLS_A_DAY_MAX {
            self.once(
                Code::KillLoop,
                span,
                format!(
                    "with the breaker open this would still kill `{}` about every {}: {a_day} a day, none of them a cure",
                    subject.name,
                    seconds_text(retry)
                ),
                "a kill loop",
                help,
            );
        }
    }

    /// Proven kills close the breaker again, so only `daily` stops a hang that comes back after each proof.
    fn judge_daily(&mut self, subject: &Subject<'_>, policy: &Policy) {
        let (deadline, prove) = (policy.deadline.value, policy.prove.value);
        let period = prove + deadline;
        let a_day = DAY.as_secs() / period.as_secs().max(1);
        if a_day.min(u64::from(policy.daily.value)) <= KILLS_A_DAY_MAX {
            return;
        }
        let Some(span) = policy.daily.span.as_ref().or(policy.prove.span.as_ref()) else {
            return;
        };
        self.once(
            Code::KillLoop,
            span,
            format!(
                "this would kill `{}` about every {} if a hang comes back each time: {} of ticks prove the kill, {} without \
                 one are the next; {a_day} a day, and `daily` allows {}",
                subject.name,
                seconds_text(period),
                seconds_text(prove),
                seconds_text(deadline),
                policy.daily.value
            ),
            "a kill loop",
            format!("write `daily = {}` or less: then the breaker opens and a person is asked", crate::defaults::KILLS_DAILY),
        );
    }

    fn judge_limit(&mut self, subject: &Subject<'_>, policy: &Policy) {
        let limit = policy.limit.value;
        let Some(span) = policy.limit.span.as_ref().filter(|_| limit > LIMIT_MAX) else {
            return;
        };
        let doublings = |kill: u32| kill.min(limit - 1).min(DOUBLINGS_MAX);
        let down = (0..limit).fold(Duration::ZERO, |sum, kill| {
            sum.saturating_add(policy.deadline.value.saturating_mul(1 << doublings(kill)))
        });
        self.once(
            Code::LateBreaker,
            span,
            format!(
                "`{}` would be killed {limit} times in vain before a person is asked: each kill doubles its deadline of {}, so \
                 it would be down for {} by then",
                subject.name,
                text(policy.deadline.value),
                text(down)
            ),
            "after three that cured nothing, restarting is not the cure",
            format!("write `limit = {}`", crate::defaults::KILLS_LIMIT),
        );
    }

    pub(super) fn judge_restart(&mut self, policy: &Policy) {
        for (key, delay) in [("first", &policy.first), ("next", &policy.next)] {
            if delay.value <= policy.max.value {
                continue;
            }
            let Some(span) = delay.span.clone().or_else(|| policy.max.span.clone()) else {
                continue;
            };
            let message = format!(
                "`restart.{key}` ({}) is longer than `restart.max` ({})",
                text(delay.value),
                text(policy.max.value)
            );
            if self.findings.has(Code::WrongOrder, &span) {
                continue;
            }
            let fault = self.findings.report(Code::WrongOrder, &span, message);
            fault.label("the delay never exceeds `max`").help("the delays grow: first <= next <= max");
            if let Some(max) = policy.max.span.as_ref().filter(|max| **max != span) {
                fault.also(max, "max");
            }
        }
        self.judge_crash_loop(policy);
    }

    fn judge_crash_loop(&mut self, policy: &Policy) {
        if policy.on.value == RestartOn::Never {
            return;
        }
        let (ends, within) = (policy.crash_loop.value, policy.within.value);
        let Some(span) = policy.crash_loop.span.as_ref().or(policy.within.span.as_ref()) else {
            return;
        };
        let kept = u32::try_from(DEATHS_KEPT_MAX).unwrap_or(u32::MAX);
        let fastest = fastest_ends(policy, ends.min(kept));
        let (message, label) = if ends > kept {
            (
                format!("a crash loop of {ends} ends is never seen: Horus remembers the last {kept}"),
                "more than are remembered",
            )
        } else if fastest > within {
            (
                format!(
                    "a crash loop is never seen: with the delays between its restarts {ends} ends take at least {}, and only those within {} count",
                    text(fastest),
                    text(within)
                ),
                "too many, or too short a window",
            )
        } else {
            return;
        };
        let help = format!(
            "write `crash_loop = {}` and `within = \"{}\"`",
            crate::defaults::CRASH_LOOP,
            text(
                crate::defaults::CRASH_LOOP_WITHIN
                    .max(fastest_ends(policy, crate::defaults::CRASH_LOOP).saturating_mul(2))
            )
        );
        self.once(Code::NeverFires, span, message, label, help);
    }
}

/// How long so many ends take if each start ends at once: `first`, then `next`, doubling up to `max`, each a tenth shorter.
/// Whole seconds.
fn fastest_ends(policy: &Policy, ends: u32) -> Duration {
    let delays = (0..ends.saturating_sub(2)).map(|doublings| {
        let delay = policy.next.value.saturating_mul(1 << doublings.min(31)).min(policy.max.value);
        delay - delay / JITTER
    });
    let sum = delays.fold(policy.first.value, Duration::saturating_add);
    Duration::from_secs(sum.as_secs())
}
