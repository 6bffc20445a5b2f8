//! What is known of a service, from which source, and what would have to happen for Horus to act.
//!
//! The judge's own words, read at one instant: nothing here decides anything. Three classes of evidence are told apart, as everywhere:
//! signs of *life*, proofs of *death*, and *absence*, which is neither.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::decision::{Action, decide};
use crate::ids::ServiceName;
use crate::ledger::Allowance;
use crate::observation::{Declared, KernelWord};
use crate::plan::BeatKind;
use crate::service::{Phase, Service};
use crate::spell::Track;
use crate::time::{Human, Mono};
use crate::turn::Shared;
use crate::verdict::{LoopAxis, Verdict};

/// Version of [`Explanation`].
pub const EXPLANATION_SCHEMA: u32 = 1;

/// Everything that speaks for or against a service at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Version of this format.
    pub schema: u32,
    /// Which service.
    pub service: ServiceName,
    /// What is concluded.
    pub verdict: Verdict,
    /// Why.
    pub because: String,
    /// What is known, and from whom.
    pub known: Vec<Known>,
    /// What Horus would do next, and when.
    pub next: Vec<Foreseen>,
    /// What forbids a restart at this instant, whatever else is seen.
    pub forbids: Vec<String>,
}

/// What one piece of evidence is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Worth {
    /// A sign of life.
    Life,
    /// A proof of death.
    Death,
    /// Something that is missing: it proves little by itself.
    Absence,
    /// Somebody else holds it: nothing that is missed is its own doing.
    Held,
    /// Neither for nor against it.
    Neutral,
}

/// One piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// What it is worth.
    pub worth: Worth,
    /// Who says it: "process", "http", "kernel", "counter orders".
    pub source: String,
    /// What it says.
    pub says: String,
}

/// Something that Horus would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreseen {
    /// In how long, if nothing changes. `None`: not by time alone.
    pub in_ms: Option<u64>,
    /// On which condition.
    pub when: String,
    /// What it would do.
    pub what: String,
}

fn known(worth: Worth, source: impl Into<String>, says: impl Into<String>) -> Known {
    Known { worth, source: source.into(), says: says.into() }
}

fn foreseen(after: Option<Duration>, when: impl Into<String>, what: impl Into<String>) -> Foreseen {
    let in_ms = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    Foreseen { in_ms, when: when.into(), what: what.into() }
}

impl Service {
    pub(crate) fn explain(&self, now: Mono, shared: &Shared) -> Explanation {
        let (verdict, reason) = self.conclude(now, &shared.ready);
        Explanation {
            schema: EXPLANATION_SCHEMA,
            service: self.name.clone(),
            verdict,
            because: reason.text,
            known: self.all_known(now),
            next: self.all_foreseen(now),
            forbids: self.all_that_forbids(now, shared),
        }
    }

    fn all_known(&self, now: Mono) -> Vec<Known> {
        let Some(alive) = self.alive() else {
            let last = self.last_death.as_ref().map(|last| {
                format!("none; the last one {} {} ago", last.exit.verb(), Human(now.since(last.at)))
            });
            return vec![known(Worth::Neutral, "process", last.unwrap_or_else(|| "none".into()))];
        };
        let lives = format!("{} has been alive for {}", alive.process, Human(now.since(alive.since)));
        let mut all = vec![known(Worth::Neutral, "process", lives)];
        self.add_beats(now, &mut all);
        self.add_kernel(now, &mut all);
        self.add_work(now, &mut all);
        if let Some(step) = self.step_words(now) {
            all.push(known(Worth::Neutral, "its own word", step));
        }
        if let Some(does) = self.counters.activity().words(now) {
            all.push(known(Worth::Neutral, "from outside", format!("{does} (weak signs)")));
        }
        match self.declared {
            Declared::Ok => {}
            Declared::Busy(_) => all.push(known(Worth::Neutral, "its own word", "it is in a long step")),
            Declared::Idle => all.push(known(Worth::Neutral, "its own word", "it has nothing to do")),
            Declared::Halted => {
                all.push(known(Worth::Neutral, "its own word", "it has stopped itself on purpose"));
            }
        }
        if let Some(until) = self.excused_until().filter(|until| *until > now) {
            let left = Human(until.since(now));
            all.push(known(Worth::Neutral, "its own word", format!("nothing is overdue for another {left}")));
        }
        for seen in &self.spell.findings {
            let says = if seen.finding.phrase.is_empty() {
                seen.finding.missing.join("; ")
            } else {
                seen.finding.phrase.clone()
            };
            let ago = Human(now.since(seen.at));
            all.push(known(Worth::Neutral, format!("capture {ago} ago"), says));
        }
        if self.slow_percent > 100 {
            let says = format!("the whole machine waits: every limit is {} % of its own", self.slow_percent);
            all.push(known(Worth::Neutral, "machine", says));
        }
        all
    }

    fn add_beats(&self, now: Mono, all: &mut Vec<Known>) {
        let late = self.limits().late;
        for (kind, source) in self.beats.sources() {
            let fresh = source.last_fresh.map(|at| now.since(at));
            let mut says = match fresh {
                Some(age) => format!("fresh tick {} ago", Human(age)),
                None => "no fresh tick yet".to_owned(),
            };
            if let (BeatKind::Notify, None, Some(agent)) = (kind, source.tick, self.plan.launch.agent) {
                says.push_str(&format!("; {}", agent.may_be_mute()));
            }
            if let Some(tick) = source.tick {
                says.push_str(&format!(", at {tick}"));
            }
            if let Some(lag) = source.loop_lag_ms {
                says.push_str(&format!(", loop lag {lag:.1} ms"));
            }
            if let Some((_, detail)) = &source.fault {
                says.push_str(&format!("; last heard: {detail}"));
            }
            let worth = if fresh.is_some_and(|age| age < late) { Worth::Life } else { Worth::Absence };
            all.push(known(worth, kind.word(), says));
        }
        if !self.beats.has_sources() {
            all.push(known(Worth::Neutral, "beats", "none is declared"));
        }
    }

    fn add_kernel(&self, now: Mono, all: &mut Vec<Known>) {
        let Some(view) = self.view_status(now) else {
            let says = if self.plan.sampler { "not looked yet" } else { "not asked (sampler = false)" };
            all.push(known(Worth::Neutral, "kernel", says));
            return;
        };
        let worth = match view.word {
            _ if self.outlook.held(now).is_some() => Worth::Held,
            KernelWord::Alive => Worth::Life,
            KernelWord::Blocked | KernelWord::Frozen | KernelWord::Spinning | KernelWord::Undrained => {
                Worth::Death
            }
            KernelWord::Away => Worth::Absence,
            KernelWord::Uninterruptible
            | KernelWord::Thrashing
            | KernelWord::Stopped
            | KernelWord::Paused => Worth::Held,
            KernelWord::Learning | KernelWord::NoLoop | KernelWord::NoEvidence => Worth::Neutral,
        };
        all.push(known(worth, "kernel", view.phrase));
    }

    fn add_work(&self, now: Mono, all: &mut Vec<Known>) {
        if let Some(at) = self.counters.moved_at() {
            let age = now.since(at);
            let worth = if age < self.limits().deadline { Worth::Life } else { Worth::Neutral };
            all.push(known(worth, "counters", format!("one of them moved {} ago", Human(age))));
        }
        for (counter, why) in self.counters.unread() {
            let says = format!("cannot be read, which says nothing about the work: {why}");
            all.push(known(Worth::Neutral, format!("counter {counter}"), says));
        }
        for standing in self.counters.standstills(now, self.work_since(), &self.plan.progress) {
            let (counter, age) = (standing.counter, Human(standing.age));
            all.push(known(Worth::Absence, format!("counter {counter}"), format!("stands still for {age}")));
        }
        let (value, because) = self.counters.axis(now, &self.plan.values);
        if !self.plan.values.is_empty() {
            all.push(known(Worth::Neutral, "value", format!("{}: {because}", value.word())));
        }
    }

    fn all_foreseen(&self, now: Mono) -> Vec<Foreseen> {
        match &self.phase {
            Phase::Running(_) => self.foresee_running(now),
            Phase::Starting { watched_since, .. } => {
                let left = (*watched_since + self.startup_cap()).since(now);
                vec![
                    foreseen(None, format!("its {} is heard", self.awaited()), "it counts as ready"),
                    foreseen(
                        Some(left),
                        format!("no {} until then", self.awaited()),
                        "a person is told; it goes on running",
                    ),
                    foreseen(None, "its start is overdue and its loop is proven dead", "a restart"),
                ]
            }
            Phase::Condemned { .. } => {
                vec![foreseen(None, "the evidence is on disk and no sign of life comes before", "a restart")]
            }
            Phase::Backoff { until } => {
                vec![foreseen(Some(until.since(now)), "the delay is over", "it is started")]
            }
            Phase::Stopping { until, .. } => {
                vec![foreseen(
                    Some(until.since(now)),
                    "it has not ended until then",
                    "its whole tree is killed",
                )]
            }
            Phase::Down | Phase::Waiting | Phase::Launching { .. } | Phase::Sweeping { .. } => Vec::new(),
        }
    }

    fn foresee_running(&self, now: Mono) -> Vec<Foreseen> {
        let limits = self.limits();
        let mut next = Vec::new();
        if let Some(since) = self.silent_since(now) {
            let left = |age: Duration| Some((since + age).since(now));
            let silent = |age: Duration| format!("no fresh tick for {}", Human(age));
            if since + limits.early > now {
                next.push(foreseen(left(limits.early), silent(limits.early), "a first capture, in silence"));
            }
            if since + limits.deadline > now {
                let what = "a verdict and an incident; a restart, if its loop is proven dead";
                next.push(foreseen(left(limits.deadline), silent(limits.deadline), what));
            }
            if since + limits.act > now {
                let what = "a restart, unless it was seen at home, held, or its work advances";
                next.push(foreseen(left(limits.act), silent(limits.act), what));
            }
        } else {
            let what = if self.plan.sampler {
                "a person is told; without a beat it is never restarted for that"
            } else {
                "nothing: without a beat and the sampler only its end is seen"
            };
            let when = format!("the kernel shows its loop dead for {}", Human(limits.deadline));
            next.push(foreseen(None, when, what));
        }
        for plan in self.plan.progress.values() {
            let limit = self.stretched(plan.stalled);
            let age = self
                .counters
                .standstills(now, self.work_since(), &self.plan.progress)
                .into_iter()
                .find(|standing| standing.counter == plan.counter)
                .map(|standing| standing.age);
            let when = format!("`{}` does not move for {}", plan.counter, Human(limit.saturating_mul(2)));
            let left = age.map(|age| limit.saturating_mul(2).saturating_sub(age));
            next.push(foreseen(left, when, "a restart, if it used to move"));
        }
        if let Some(step) = &self.step
            && let Some(ends) = self.step_ends()
        {
            let when = format!("its step `{}` goes on", step.name);
            next.push(foreseen(Some(ends.since(now)), when, "a person is told; it goes on running"));
        }
        let decision = decide(self.axes(now));
        if decision.action == Action::Tell {
            next.push(foreseen(
                None,
                "it stays as it is",
                format!("a person is told, and no more: {}", decision.because),
            ));
        }
        next
    }

    fn all_that_forbids(&self, now: Mono, shared: &Shared) -> Vec<String> {
        if !matches!(self.phase, Phase::Running(_) | Phase::Condemned { .. } | Phase::Starting { .. }) {
            return Vec::new();
        }
        let mut forbids = Vec::new();
        let rule = match self.loop_axis(now) {
            LoopAxis::Lying => crate::reason::Rule::Lying,
            _ => crate::reason::Rule::Silent,
        };
        if let Some((veto, why)) = self.veto(now, shared, Track::Loop, rule) {
            forbids.push(format!("{}: {why}", veto.word()));
        }
        match self.kills.allowance(now, &self.plan.kills) {
            Allowance::Allowed { .. } => {}
            Allowance::OpensBreaker(why) => forbids.push(format!("breaker: {why}; it would open")),
            Allowance::BreakerOpen { next: Some(at) } => {
                let left = Human(at.since(now));
                forbids.push(format!("breaker: it is open, and allows one try in {left}"));
            }
            Allowance::BreakerOpen { next: None } => {
                forbids.push("breaker: it is open until `horus resume`".to_owned());
            }
        }
        forbids
    }
}
