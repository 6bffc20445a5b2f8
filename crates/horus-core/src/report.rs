//! Conclusions and the read model: from a service's state to words with reasons.

use std::collections::BTreeSet;

use crate::decision::{Action, Decision, decide};
use crate::event::What;
use crate::ids::ServiceName;
use crate::notice::IncidentKind;
use crate::observation::Declared;
use crate::reason::{Reason, Rule};
use crate::service::{Phase, Service, StopCause, Wanted, Why};
use crate::status::{AxisStatus, BeatStatus, HoldStatus, LimitStatus, ServiceStatus};
use crate::time::{Human, Mono};
use crate::verdict::{LoopAxis, ProcessAxis, ProgressAxis, Verdict};

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Service {
    /// The verdict alone, cheap: it is asked at every step. Total over all phases and axes.
    pub(crate) fn verdict_is(&self, now: Mono) -> Verdict {
        match &self.phase {
            Phase::Down if self.hold.is_some() => Verdict::Held,
            Phase::Down if self.wanted == Wanted::Down(Why::Halted) => Verdict::Halted,
            Phase::Down | Phase::Waiting => Verdict::Down,
            Phase::Backoff { .. } => self.crashing().unwrap_or(Verdict::Down),
            Phase::Launching { .. } if self.blocked.is_some() => Verdict::Down,
            Phase::Launching { .. } => self.crashing().unwrap_or(Verdict::Starting),
            Phase::Starting { .. } => self.crashing().unwrap_or(Verdict::Starting),
            Phase::Running(_) | Phase::Condemned { .. } => self.verdict_running(now).0,
            Phase::Stopping { .. } | Phase::Sweeping { .. } => Verdict::Stopping,
        }
    }

    /// The verdict with its reason.
    pub(crate) fn conclude(&self, now: Mono, ready: &BTreeSet<ServiceName>) -> (Verdict, Reason) {
        (self.verdict_is(now), self.reason_is(now, ready))
    }

    fn reason_is(&self, now: Mono, ready: &BTreeSet<ServiceName>) -> Reason {
        let wanted = |text: String| Reason::new(Rule::Wanted, text);
        if let (Some(blocked), Phase::Waiting | Phase::Launching { .. }) = (&self.blocked, &self.phase) {
            return Reason::new(Rule::Exclusive, blocked.by.clone());
        }
        match &self.phase {
            Phase::Down => {
                let otherwise = || match self.unit() {
                    None => wanted("not started yet".into()),
                    Some(_) => Reason::new(Rule::MonitorDown, self.unit_words()),
                };
                let mut reason = self.stays_down().unwrap_or_else(otherwise);
                if let Some(next) = self.job.next.filter(|_| reason.rule == Rule::Schedule) {
                    reason.text = format!("{}: next in {}", reason.text, Human(next.since(now)));
                }
                reason
            }
            Phase::Waiting if self.unit().is_some() => wanted(self.unit_words()),
            Phase::Waiting => {
                let waits = self.waits_for(ready).map_or("the keeper", |name| name.as_str());
                Reason::new(Rule::After, format!("waits for {waits} to be ready"))
            }
            Phase::Backoff { until } => {
                let left = Human(until.since(now));
                let why = self.delay.as_ref().map_or("restart", |(_, reason)| reason.text.as_str());
                Reason::new(Rule::Exit, format!("next start in {left}; {why}"))
            }
            Phase::Launching { .. } if self.unit().is_some() => wanted("its manager is starting it".into()),
            Phase::Launching { .. } if self.crashing().is_some() => self.crash_reason(now),
            Phase::Launching { .. } => wanted("the keeper is starting it".into()),
            Phase::Starting { alive, .. } => {
                if self.crashing().is_some() {
                    return self.crash_reason(now);
                }
                let (age, cap) = (Human(now.since(alive.since)), Human(self.startup_cap()));
                let text = format!("no {} for {age}, cap {cap}; {}", self.awaited(), self.heard_of_start());
                Reason::new(Rule::StartOverdue, text)
            }
            Phase::Running(_) | Phase::Condemned { .. } => self.reason_running(now),
            Phase::Stopping { hard: false, until, cause, .. } if self.unit().is_some() => {
                let text = format!("its manager was asked to end it, {} left", Human(until.since(now)));
                Reason::new(self.stop_rule(*cause), text)
            }
            Phase::Stopping { hard, until, cause, .. } => {
                let left = Human(until.since(now));
                let text = if *hard {
                    "the whole tree is being killed".to_owned()
                } else {
                    format!("{} sent, {left} of grace left", self.plan.stop.signal)
                };
                Reason::new(self.stop_rule(*cause), text)
            }
            Phase::Sweeping { .. } => Reason::new(Rule::Strays, "what it left behind is being killed"),
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

    fn crash_reason(&self, now: Mono) -> Reason {
        let within = self.plan.restart.within;
        let exits = self.exits.recent(now, within);
        Reason::new(Rule::CrashLoop, format!("{exits} exits within {}", Human(within)))
    }

    /// The table's word for a running instance, with what the program says of itself.
    fn verdict_running(&self, now: Mono) -> (Verdict, Decision) {
        let decision = decide(self.axes(now));
        let verdict = match decision.verdict {
            // Its tick may stand still: it said so.
            _ if self.declared == Declared::Halted => Verdict::Halted,
            Verdict::Slow if self.slow_percent > 100 => Verdict::Starved,
            // Measured anew after the machine came back: not well before a tick has come.
            Verdict::Healthy if self.spell.opened => Verdict::Slow,
            Verdict::Healthy | Verdict::Idle | Verdict::Valueless | Verdict::WorkStalled => {
                if decision.action != Action::RestartAtTwice && self.disagreement(now).is_some() {
                    Verdict::ProbePath
                } else if matches!(decision.verdict, Verdict::Healthy | Verdict::Idle)
                    && self.excused_until().is_some_and(|until| until > now)
                {
                    Verdict::Busy
                } else {
                    decision.verdict
                }
            }
            other => other,
        };
        (verdict, decision)
    }

    fn reason_running(&self, now: Mono) -> Reason {
        if self.age(now).is_none() && self.beats.has_sources() {
            return Reason::new(Rule::Wanted, "its process lives; no fresh tick was heard yet");
        }
        let (verdict, decision) = self.verdict_running(now);
        if let Some(reason) = self.view_reason(now, decision).filter(|_| verdict == decision.verdict) {
            return reason;
        }
        let plain = |text: &str| Reason::new(Rule::Proof, text);
        match verdict {
            Verdict::ProbePath if decision.verdict != Verdict::ProbePath => {
                Reason::new(Rule::ProbePath, self.disagreement(now).unwrap_or_default())
            }
            Verdict::Halted => Reason::new(Rule::Halted, "it says that it stopped itself on purpose"),
            Verdict::Valueless => Reason::new(Rule::Value, self.counters.axis(now, &self.plan.values).1),
            Verdict::WorkStalled if decision.action == Action::Tell => {
                Reason::new(Rule::Funnel, self.blocked_text().unwrap_or_default())
            }
            Verdict::Busy => {
                let left = self.excused_until().map(|until| until.since(now)).unwrap_or_default();
                plain(&format!("it declared a long step, {} left", Human(left)))
            }
            Verdict::Idle | Verdict::Healthy => plain(decision.because),
            Verdict::Slow if !self.beats.has_sources() => plain(decision.because),
            Verdict::Unknown => {
                let text = "its process lives; it has no beat to judge by";
                let seen = self.view_status(now).map(|view| format!("{text}; the kernel: {}", view.phrase));
                Reason::new(Rule::Wanted, seen.unwrap_or_else(|| text.to_owned()))
            }
            _ => {
                let mut reason = self.hang_reason(now, decision);
                if verdict == Verdict::Starved {
                    reason =
                        Reason::new(Rule::HostPressure, format!("{}; the whole machine waits", reason.text));
                }
                if self.kills.is_open() {
                    reason.text.push_str("; the breaker is open");
                }
                reason
            }
        }
    }

    fn blocked_text(&self) -> Option<String> {
        let blocked = self.counters.blocked(&self.plan.funnels);
        let first = blocked.first()?;
        Some(format!("`{}` moved by {}, `{}` by 0", first.from, first.moved, first.to))
    }

    /// The process axis without its numbers.
    pub(crate) fn process_is(&self) -> ProcessAxis {
        match &self.phase {
            Phase::Down | Phase::Waiting | Phase::Backoff { .. } => ProcessAxis::Absent,
            Phase::Launching { .. } | Phase::Starting { .. } => ProcessAxis::Starting,
            Phase::Running(_) | Phase::Condemned { .. } => ProcessAxis::Running,
            Phase::Stopping { .. } | Phase::Sweeping { .. } => ProcessAxis::Stopping,
        }
    }

    /// The progress axis without its numbers.
    pub(crate) fn progress_is(&self, now: Mono) -> ProgressAxis {
        if self.alive().is_none() {
            return ProgressAxis::Unknown;
        }
        if self.declared == Declared::Idle {
            return ProgressAxis::Idle;
        }
        if self.stalled(now).is_some() {
            return ProgressAxis::Stalled;
        }
        if self.counters.is_blocked(&self.plan.funnels) {
            return ProgressAxis::Blocked;
        }
        match self.counters.moved_at() {
            Some(at) if now.since(at) < self.limits().deadline => ProgressAxis::Advancing,
            _ => ProgressAxis::Unknown,
        }
    }

    fn process_axis(&self, now: Mono) -> AxisStatus<ProcessAxis> {
        let is = self.process_is();
        let because = match (self.alive(), &self.last_death) {
            (Some(alive), _) => format!("{} for {}", alive.process, Human(now.since(alive.since))),
            (None, Some(last)) => format!("{} {} ago", last.exit.verb(), Human(now.since(last.at))),
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
        let is = self.progress_is(now);
        let moved = self.counters.moved_at().map(|at| Human(now.since(at)));
        let because = match (is, moved) {
            _ if self.alive().is_none() => "no process".to_owned(),
            (ProgressAxis::Idle, _) => "declared".to_owned(),
            (ProgressAxis::Stalled, _) => self.stalled(now).map_or(String::new(), |stalled| {
                format!("{}, limit {}", stalled.words(), Human(stalled.limit))
            }),
            (ProgressAxis::Blocked, _) => self.blocked_text().unwrap_or_default(),
            (ProgressAxis::Advancing, Some(ago)) => format!("a declared counter moved {ago} ago"),
            (ProgressAxis::Unknown, Some(ago)) => format!("a declared counter last moved {ago} ago"),
            (ProgressAxis::Unknown, None) if self.step.is_some() => self.step_words(now).unwrap_or_default(),
            (ProgressAxis::Unknown | ProgressAxis::Advancing, None) if self.counters.known() => {
                "no declared counter has moved".to_owned()
            }
            (ProgressAxis::Unknown | ProgressAxis::Advancing, None) => "no counter is heard".to_owned(),
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
            next_start_in_ms: self.next_start().map(|at| millis(at.since(now))),
            deadline_ms: millis(self.limits().deadline),
            kills_unproven: self.kills.unproven(),
            kills_limit: self.plan.kills.limit,
            kills_today: self.kills.today(now),
            breaker_open: self.kills.is_open(),
            exits_recent: self.exits.recent(now, self.plan.restart.within),
            beats: self.beat_status(now),
            kernel: self.view_status(now),
            tree_limits: self.plan.tree.told().map(LimitStatus::unknown).collect(),
            groups: self.plan.groups.clone(),
            said: self.said.clone(),
            incidents: self.incidents.ids(),
        }
    }

    /// When it is started next, if that is known: after a delay, or at the next time of a job.
    fn next_start(&self) -> Option<Mono> {
        match &self.phase {
            Phase::Backoff { until } => Some(*until),
            Phase::Down if self.stays_down().is_some_and(|why| why.rule == Rule::Schedule) => self.job.next,
            _ => None,
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
