//! Conclusions and the read model: from a service's state to words with reasons.

use std::collections::BTreeSet;

use crate::event::What;
use crate::ids::ServiceName;
use crate::notice::IncidentKind;
use crate::observation::Declared;
use crate::reason::{Reason, Rule};
use crate::service::{Phase, Service, StopCause, Wanted, Why};
use crate::status::{AxisStatus, BeatStatus, HoldStatus, ServiceStatus};
use crate::time::{Human, Mono};
use crate::verdict::{LoopAxis, ProcessAxis, ProgressAxis, ValueAxis, Verdict};

/// A counter that moved within so many deadlines counts as advancing.
pub(crate) const ADVANCING_DEADLINES: u32 = 10;

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Service {
    /// The verdict with its reason. Total over all phases and axes.
    pub(crate) fn conclude(&self, now: Mono, ready: &BTreeSet<ServiceName>) -> (Verdict, Reason) {
        let wanted = |text: String| Reason::new(Rule::Wanted, text);
        match &self.phase {
            Phase::Down => {
                let reason = self.stays_down().unwrap_or_else(|| wanted("not started yet".into()));
                let verdict = match reason.rule {
                    Rule::Held => Verdict::Held,
                    Rule::Halted => Verdict::Halted,
                    _ => Verdict::Down,
                };
                (verdict, reason)
            }
            Phase::Waiting => {
                let waits = self.waits_for(ready).map_or("the keeper", |name| name.as_str());
                (Verdict::Down, Reason::new(Rule::After, format!("waits for {waits} to be ready")))
            }
            Phase::Backoff { until } => {
                let left = Human(until.since(now));
                let why = self.delay.as_ref().map_or("restart", |(_, reason)| reason.text.as_str());
                (
                    self.crashing().unwrap_or(Verdict::Down),
                    Reason::new(Rule::Exit, format!("next start in {left}; {why}")),
                )
            }
            Phase::Launching { .. } => (Verdict::Starting, wanted("the keeper is starting it".into())),
            Phase::Starting { alive, .. } => {
                let (age, cap) = (Human(now.since(alive.since)), Human(self.startup_cap()));
                let text = format!("no first fresh tick for {age}, cap {cap}; {}", self.beats.heard());
                (self.crashing().unwrap_or(Verdict::Starting), Reason::new(Rule::StartOverdue, text))
            }
            Phase::Running(_) | Phase::Condemned { .. } => self.conclude_running(now),
            Phase::Stopping { hard, until, cause, .. } => {
                let left = Human(until.since(now));
                let text = if *hard {
                    "the whole tree is being killed".to_owned()
                } else {
                    format!("{} sent, {left} of grace left", self.plan.stop.signal)
                };
                (Verdict::Stopping, Reason::new(self.stop_rule(*cause), text))
            }
            Phase::Sweeping { .. } => {
                (Verdict::Stopping, Reason::new(Rule::Strays, "what it left behind is being killed"))
            }
        }
    }

    /// Whose doing its end is.
    fn stop_rule(&self, cause: StopCause) -> Rule {
        match (cause, self.wanted) {
            (StopCause::Kill, _) => Rule::Silent,
            (StopCause::Planned, Wanted::Down(Why::ShutDown)) => Rule::ShutDown,
            (StopCause::Planned, Wanted::Down(Why::Removed)) => Rule::Reload,
            (StopCause::Planned, _) => Rule::Operator,
        }
    }

    fn crashing(&self) -> Option<Verdict> {
        self.incidents.find(IncidentKind::CrashLoop).map(|_| Verdict::CrashLooping)
    }

    fn conclude_running(&self, now: Mono) -> (Verdict, Reason) {
        let Some(age) = self.age(now) else {
            return (
                Verdict::Unknown,
                Reason::new(Rule::Wanted, "its process lives; it has no beat to judge by"),
            );
        };
        let axis = self.loop_axis(now);
        let verdict = match axis {
            LoopAxis::Unknown => Verdict::Unknown,
            LoopAxis::Late => Verdict::Slow,
            LoopAxis::Silent => Verdict::Silent,
            LoopAxis::Lying if self.declared == Declared::Idle => return self.conclude_beating(now),
            LoopAxis::Lying => Verdict::Lying,
            LoopAxis::Unreachable => Verdict::ProbePath,
            LoopAxis::Beating => return self.conclude_beating(now),
        };
        let mut reason = self.hang_reason(now, age);
        if self.kills.is_open() {
            reason.text.push_str("; the breaker is open");
        }
        (verdict, reason)
    }

    fn conclude_beating(&self, now: Mono) -> (Verdict, Reason) {
        if let Some(disagreement) = self.disagreement(now) {
            return (Verdict::ProbePath, Reason::new(Rule::ProbePath, disagreement));
        }
        if self.declared == Declared::Halted {
            return (Verdict::Halted, Reason::new(Rule::Halted, "it says that it stopped itself on purpose"));
        }
        let (value, text) = self.counters.axis(now, &self.plan.values);
        if matches!(value, ValueAxis::Stale | ValueAxis::Dead) {
            return (Verdict::Valueless, Reason::new(Rule::Value, text));
        }
        if let Some(blocked) = self.counters.blocked(&self.plan.funnels).first() {
            let text = format!("`{}` moved by {}, `{}` by 0", blocked.from, blocked.moved, blocked.to);
            return (Verdict::WorkStalled, Reason::new(Rule::Funnel, text));
        }
        let busy = self.excused_until().filter(|until| *until > now);
        match (self.declared, busy) {
            (_, Some(until)) => {
                let text = format!("it declared a long step, {} left", Human(until.since(now)));
                (Verdict::Busy, Reason::new(Rule::Proof, text))
            }
            (Declared::Idle, None) => {
                (Verdict::Idle, Reason::new(Rule::Proof, "it declares that it has nothing to do"))
            }
            (Declared::Ok | Declared::Busy(_) | Declared::Halted, None) => {
                (Verdict::Healthy, Reason::new(Rule::Proof, "fresh ticks within the deadline"))
            }
        }
    }

    fn process_axis(&self, now: Mono) -> AxisStatus<ProcessAxis> {
        let is = match &self.phase {
            Phase::Down | Phase::Waiting | Phase::Backoff { .. } => ProcessAxis::Absent,
            Phase::Launching { .. } | Phase::Starting { .. } => ProcessAxis::Starting,
            Phase::Running(_) | Phase::Condemned { .. } => ProcessAxis::Running,
            Phase::Stopping { .. } | Phase::Sweeping { .. } => ProcessAxis::Stopping,
        };
        let because = match (self.alive(), &self.last_death) {
            (Some(alive), _) => format!("{} for {}", alive.process, Human(now.since(alive.since))),
            (None, Some(last)) => format!("ended with {} {} ago", last.exit, Human(now.since(last.at))),
            (None, None) => "no process".into(),
        };
        AxisStatus { is, because }
    }

    fn loop_status(&self, now: Mono) -> AxisStatus<LoopAxis> {
        let limits = self.limits();
        let because = match (self.alive(), self.age(now)) {
            (None, _) => "no process".into(),
            (Some(_), _) if !self.beats.has_sources() => "no beat source is declared".into(),
            (Some(_), None) => format!("no fresh tick yet; {}", self.beats.heard()),
            (Some(_), Some(age)) => {
                format!("fresh tick {} ago, deadline {}", Human(age), Human(limits.deadline))
            }
        };
        let is = if self.alive().is_some() { self.loop_axis(now) } else { LoopAxis::Unknown };
        AxisStatus { is, because }
    }

    fn progress_axis(&self, now: Mono) -> AxisStatus<ProgressAxis> {
        let window = self.plan.deadline.saturating_mul(ADVANCING_DEADLINES);
        let (is, because) = if self.alive().is_none() {
            (ProgressAxis::Unknown, "no process".to_owned())
        } else if let Some(blocked) = self.counters.blocked(&self.plan.funnels).first() {
            let text = format!("`{}` moved by {}, `{}` by 0", blocked.from, blocked.moved, blocked.to);
            (ProgressAxis::Stalled, text)
        } else if self.declared == Declared::Idle {
            (ProgressAxis::Idle, "declared".to_owned())
        } else {
            match self.counters.moved_at() {
                Some(at) if now.since(at) <= window => {
                    (ProgressAxis::Advancing, format!("a counter moved {} ago", Human(now.since(at))))
                }
                Some(at) => (ProgressAxis::Stalled, format!("no counter moved for {}", Human(now.since(at)))),
                None if self.counters.known() => {
                    (ProgressAxis::Unknown, "no counter has moved yet".to_owned())
                }
                None => (ProgressAxis::Unknown, "no counter is heard".to_owned()),
            }
        };
        AxisStatus { is, because }
    }

    /// Everything about this service at one instant.
    pub(crate) fn status(&self, now: Mono, ready: &BTreeSet<ServiceName>, observe: bool) -> ServiceStatus {
        let (verdict, reason) = self.conclude(now, ready);
        let (value, value_reason) = self.counters.axis(now, &self.plan.values);
        let alive = self.alive();
        ServiceStatus {
            name: self.name.clone(),
            verdict,
            because: reason.text,
            wanted: if self.wanted == Wanted::Up { "up".into() } else { "down".into() },
            phase: self.kind().word().into(),
            process: self.process_axis(now),
            loop_axis: self.loop_status(now),
            progress: self.progress_axis(now),
            value: AxisStatus { is: value, because: value_reason },
            observe: observe || self.plan.observe,
            hold: self.hold.as_ref().map(|hold| HoldStatus {
                reason: hold.reason.clone(),
                for_ms: millis(now.since(hold.since)),
                left_ms: hold.until.map(|until| millis(until.since(now))),
            }),
            pid: alive.map(|alive| alive.process.pid),
            generation: self.generation.0,
            up_for_ms: alive.map(|alive| millis(now.since(alive.since))),
            next_start_in_ms: match &self.phase {
                Phase::Backoff { until } => Some(millis(until.since(now))),
                _ => None,
            },
            deadline_ms: millis(self.limits().deadline),
            kills_unproven: self.kills.unproven(),
            kills_limit: self.plan.kills.limit,
            kills_today: self.kills.today(now),
            breaker_open: self.kills.is_open(),
            exits_recent: self.exits.recent(now, self.plan.restart.within),
            beats: self.beat_status(now),
            said: self.said.clone(),
            incidents: self.incidents.ids(),
        }
    }

    fn beat_status(&self, now: Mono) -> Vec<BeatStatus> {
        if self.alive().is_none() {
            return Vec::new();
        }
        let sources = self.beats.sources();
        let statuses = sources.map(|(source, heard)| BeatStatus {
            source,
            fresh_ms: heard.last_fresh.map(|at| millis(now.since(at))),
            heard_ms: heard.last_heard.map(|at| millis(now.since(at))),
            tick: heard.tick,
            loop_lag_ms: heard.loop_lag_ms,
            fault: heard.fault.as_ref().map(|(_, detail)| detail.clone()),
        });
        statuses.collect()
    }

    /// The words for what a person asked of it.
    pub(crate) fn note_request(
        &self,
        turn: &mut crate::turn::Turn<'_>,
        request: &str,
        reason: Option<String>,
    ) {
        self.record(turn, None, What::OperatorAsked { request: request.to_owned(), reason });
    }
}
