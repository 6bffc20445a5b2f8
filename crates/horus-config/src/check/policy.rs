//! When Horus acts on a service, and how far it may go.

use std::time::Duration;

use horus_core::plan::{DaemonPlan, KillPlan, Mode, RestartOn, RestartPlan, StopPlan};

use super::{Check, Sourced, Subject};
use crate::at::At;
use crate::defaults as built_in;
use crate::fault::Code;
use crate::raw::{DurationText, RetryText, Text};
use crate::words::{SIGNALS, duration_text, nearest};

/// Beyond this a count is a typing error.
const COUNT_MAX: u32 = 10_000;

/// The policy of one service, every value with its history.
pub(super) struct Policy {
    pub(super) deadline: Sourced<Duration>,
    pub(super) startup: Sourced<Duration>,
    pub(super) signal: Sourced<String>,
    pub(super) grace: Sourced<Duration>,
    pub(super) on: Sourced<RestartOn>,
    pub(super) first: Sourced<Duration>,
    pub(super) next: Sourced<Duration>,
    pub(super) max: Sourced<Duration>,
    pub(super) crash_loop: Sourced<u32>,
    pub(super) within: Sourced<Duration>,
    pub(super) limit: Sourced<u32>,
    pub(super) prove: Sourced<Duration>,
    pub(super) retry: Sourced<Option<Duration>>,
    pub(super) daily: Sourced<u32>,
    pub(super) observe: bool,
    pub(super) autostart: bool,
    pub(super) sampler: bool,
}

impl Policy {
    pub(super) fn stop_plan(&self) -> StopPlan {
        StopPlan { signal: self.signal.value.clone(), grace: self.grace.value }
    }

    pub(super) fn restart_plan(&self) -> RestartPlan {
        RestartPlan {
            on: self.on.value,
            first: self.first.value,
            next: self.next.value,
            max: self.max.value,
            crash_loop: self.crash_loop.value,
            within: self.within.value,
        }
    }

    pub(super) fn kill_plan(&self) -> KillPlan {
        KillPlan {
            limit: self.limit.value,
            prove: self.prove.value,
            retry: self.retry.value,
            daily: self.daily.value,
        }
    }
}

/// A key of a table that stands in the service and in `[defaults]`.
macro_rules! both {
    ($subject:expr, $table:ident, $key:ident) => {
        (
            $subject.raw.$table.as_ref().and_then(|table| table.$key.as_ref()),
            $subject.defaults.$table.as_ref().and_then(|table| table.$key.as_ref()),
        )
    };
}

type Both<'a, T> = (Option<&'a At<T>>, Option<&'a At<T>>);

impl Check<'_> {
    pub(super) fn policy(&mut self, subject: &Subject<'_>, daemon: &DaemonPlan) -> Policy {
        let (raw, shared) = (subject.raw, subject.defaults);
        let deadline = (raw.deadline.as_ref(), shared.deadline.as_ref());
        let deadline = self.above_zero(deadline, "deadline", Sourced::built_in(built_in::DEADLINE));
        let startup = (raw.startup.as_ref(), shared.startup.as_ref());
        let startup = self.above_zero(startup, "startup", Sourced::built_in(built_in::STARTUP));
        let stop = built_in::stop();
        let restart = built_in::restart();
        let kills = built_in::kills(deadline.value);
        let derived_prove = if kills.prove > built_in::PROVE_MIN {
            format!("{} x deadline", built_in::PROVE_DEADLINES)
        } else {
            format!(
                "{} x deadline, at least {}",
                built_in::PROVE_DEADLINES,
                duration_text(built_in::PROVE_MIN)
            )
        };
        let (observe, autostart) = (self.observe(subject, daemon), self.autostart(subject));
        Policy {
            signal: self.signal(both!(subject, stop, signal), stop.signal),
            grace: self.zero_or_more(both!(subject, stop, grace), "grace", stop.grace),
            on: self.restart_on(subject, restart.on),
            first: self.zero_or_more(both!(subject, restart, first), "first", restart.first),
            next: self.above_zero(both!(subject, restart, next), "next", Sourced::built_in(restart.next)),
            max: self.above_zero(both!(subject, restart, max), "max", Sourced::built_in(restart.max)),
            crash_loop: self.count(both!(subject, restart, crash_loop), "crash_loop", 2, restart.crash_loop),
            within: self.above_zero(
                both!(subject, restart, within),
                "within",
                Sourced::built_in(restart.within),
            ),
            limit: self.count(both!(subject, kills, limit), "limit", 1, kills.limit),
            prove: self.above_zero(
                both!(subject, kills, prove),
                "prove",
                Sourced::derived(kills.prove, derived_prove),
            ),
            retry: self.retry(both!(subject, kills, retry), kills.retry),
            daily: self.count(both!(subject, kills, daily), "daily", 1, kills.daily),
            observe,
            autostart,
            sampler: Self::sampler(subject),
            deadline,
            startup,
        }
    }

    fn above_zero(
        &mut self,
        (own, shared): Both<'_, DurationText>,
        key: &str,
        fallback: Sourced<Duration>,
    ) -> Sourced<Duration> {
        self.pick(own, shared, fallback, |check, at| check.time(at, key))
    }

    fn zero_or_more(
        &mut self,
        (own, shared): Both<'_, DurationText>,
        key: &str,
        fallback: Duration,
    ) -> Sourced<Duration> {
        self.pick(own, shared, Sourced::built_in(fallback), |check, at| check.time_or_zero(at, key))
    }

    fn take<T: Copy>(&mut self, (own, shared): Both<'_, T>, fallback: T) -> Sourced<T> {
        self.pick(own, shared, Sourced::built_in(fallback), |_, at| Some(at.value))
    }

    fn count(&mut self, (own, shared): Both<'_, u32>, key: &str, least: u32, fallback: u32) -> Sourced<u32> {
        self.pick(own, shared, Sourced::built_in(fallback), |check, at| {
            let fine = (least..=COUNT_MAX).contains(&at.value);
            let fresh = !fine && !check.findings.has(Code::BadNumber, &at.span);
            if fresh {
                let fault = check
                    .findings
                    .report(Code::BadNumber, &at.span, format!("`{key}` is between {least} and {COUNT_MAX}"))
                    .label("out of bounds");
                if key == "limit" && at.value == 0 {
                    fault.help("a service that is never to be killed: `observe = true`");
                }
            }
            fine.then_some(at.value)
        })
    }

    fn signal(&mut self, (own, shared): Both<'_, Text>, fallback: String) -> Sourced<String> {
        self.pick(own, shared, Sourced::built_in(fallback), |check, at| {
            let upper = at.value.0.trim().to_ascii_uppercase();
            let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
            if SIGNALS.contains(&full.as_str()) {
                return Some(full);
            }
            if !check.findings.has(Code::BadSignal, &at.span) {
                let help = match (full.as_str(), nearest(&full, SIGNALS)) {
                    ("SIGKILL", _) => {
                        "SIGKILL follows by itself after `grace`; for no grace at all write `grace = \"0s\"`"
                            .into()
                    }
                    (_, Some(word)) => format!("did you mean `{word}`?"),
                    (_, None) => format!("one of {}", SIGNALS.join(", ")),
                };
                check
                    .findings
                    .report(Code::BadSignal, &at.span, "this is no soft signal")
                    .label("cannot be sent to ask for an end")
                    .help(help);
            }
            None
        })
    }

    fn retry(
        &mut self,
        (own, shared): Both<'_, RetryText>,
        fallback: Option<Duration>,
    ) -> Sourced<Option<Duration>> {
        self.pick(own, shared, Sourced::built_in(fallback), |check, at| {
            if at.value.0.trim() == "never" {
                return Some(None);
            }
            let text = At { value: DurationText(at.value.0.clone()), span: at.span.clone() };
            check.time(&text, "retry").map(Some)
        })
    }

    fn observe(&mut self, subject: &Subject<'_>, daemon: &DaemonPlan) -> bool {
        let (raw, shared) = (subject.raw, subject.defaults);
        self.both_modes(raw.observe.as_ref(), raw.mode.as_ref());
        let said = |observe: Option<&At<bool>>, mode: Option<&At<Mode>>| {
            let by_mode = mode.map(|at| (at.value == Mode::Observe, at.span.clone()));
            observe.map(|at| (at.value, at.span.clone())).or(by_mode)
        };
        let own = said(raw.observe.as_ref(), raw.mode.as_ref());
        if let (Mode::Observe, Some((false, span))) = (daemon.mode, &own) {
            self.findings
                .report(Code::Void, span, format!("`{}` is observed all the same", subject.name))
                .label("void")
                .help("`[daemon] mode = \"observe\"` outranks it: nothing is signalled");
        }
        own.or_else(|| said(shared.observe.as_ref(), shared.mode.as_ref()))
            .is_some_and(|(observe, _)| observe)
    }

    /// `observe` and `mode` are two spellings of one thing: both at once is one too many.
    pub(super) fn both_modes(&mut self, observe: Option<&At<bool>>, mode: Option<&At<Mode>>) {
        if let (Some(observe), Some(mode)) = (observe, mode) {
            let contradict = observe.value != (mode.value == Mode::Observe);
            let message = if contradict {
                "`observe` and `mode` contradict each other"
            } else {
                "`observe` and `mode` say the same thing twice"
            };
            self.findings
                .report(Code::Contradiction, &mode.span, message)
                .label("one of the two is enough")
                .also(&observe.span, "the other one")
                .help("keep `mode`");
        }
    }

    /// A job waits for its next time, whatever `[defaults]` says for services that are always there.
    fn restart_on(&mut self, subject: &Subject<'_>, fallback: RestartOn) -> Sourced<RestartOn> {
        let (own, shared) = both!(subject, restart, on);
        if self.is_job(subject) {
            let waits = Sourced::derived(RestartOn::Never, "a job waits for its next time");
            return self.pick(own, None, waits, |_, at| Some(at.value));
        }
        self.take((own, shared), fallback)
    }

    pub(super) fn sampler(subject: &Subject<'_>) -> bool {
        let shared = subject.defaults.sampler.as_ref();
        subject.raw.sampler.as_ref().or(shared).is_none_or(|at| at.value)
    }

    fn autostart(&mut self, subject: &Subject<'_>) -> bool {
        let shared = subject.defaults.autostart.as_ref();
        subject.raw.autostart.as_ref().or(shared).is_none_or(|at| at.value)
    }
}
