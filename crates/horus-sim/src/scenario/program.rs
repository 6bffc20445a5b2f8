//! A simulated program: what it shows to each probe at each instant, and what the kernel would show of it.
//!
//! Ticks and counters are functions of time, not events, so that a year of ticking costs nothing and the phase of a poll
//! can hide no tick. A program whose main loop stands still counts nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::ids::{Generation, Instance};
use horus_core::observation::{Beat, CaptureStage, Declared, Exit, Finding, LoopSeen, ProbeFault};
use horus_core::plan::{BeatKind, BeatPlan};
use horus_core::time::Mono;

use super::sentences::Habit;
use super::span::span_text;

/// Something that a program does.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Ticks(Duration),
    TicksAgain,
    Trouble(Trouble, Option<Duration>),
    Exits(Exit),
    Says(Declared),
    AsksForTime(Duration),
    Prints(String),
    Counts { counter: String, step: u64, every: Duration },
    Gauge(String, f64),
    IgnoresTerm,
    EndsIn(Duration),
    Leaves(u32),
    Unkillable(Duration),
}

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It accepts and never answers; nothing can be seen of its threads.
    Hangs,
    /// The same, and the kernel shows in which call.
    Blocks(String),
    /// The main loop stands in a call; another thread answers with the last tick.
    BlocksBehindAnAnswer(String),
    /// The main loop burns CPU.
    Spins(String),
    /// Somebody answers with the last tick; nothing can be seen of its threads.
    StillTick,
    /// It answers with an error.
    Status(u16),
    /// Nothing reaches it. It works.
    Unreachable,
    /// One of its probes does not reach it. It works.
    UnreachableBy(BeatKind),
    /// Somebody has stopped it.
    Stopped(String),
}

impl Trouble {
    /// The main loop stands still.
    fn freezes(&self) -> bool {
        !matches!(self, Self::Status(_) | Self::Unreachable | Self::UnreachableBy(_))
    }
}

/// What a probe hears.
#[derive(Clone, Debug)]
pub(super) enum Heard {
    Beat(Beat),
    Nothing { fault: ProbeFault, detail: String, after_timeout: bool },
}

/// One service's program: its habits, and its living instance.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) starts_after: Option<Duration>,
    pub(super) ticks_every: Duration,
    pub(super) habits: Vec<(Duration, Act)>,
    pub(super) start_fails: Option<String>,
    pub(super) life: Option<Life>,
    /// The last run that ended, and how, as the keeper remembers it.
    pub(super) ended: Option<(Instance, Exit)>,
    /// What it printed last; it outlives the instance, as a log does.
    pub(super) printed: Option<String>,
}

/// A living instance.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) instance: Instance,
    pub(super) since: Mono,
    /// The first tick comes then.
    pub(super) ready_at: Option<Mono>,
    every: Duration,
    /// Ticks up to `base_at`.
    base: u64,
    base_at: Mono,
    pub(super) trouble: Option<Trouble>,
    /// Which trouble this is, so that the end of an earlier one does not end a later one.
    pub(super) troubles: u64,
    trouble_since: Mono,
    counters: BTreeMap<String, Counter>,
    gauges: BTreeMap<String, f64>,
    declared: Declared,
    busy_until: Option<Mono>,
    pub(super) ignores_term: bool,
    pub(super) ends_in: Duration,
    pub(super) leaves: u32,
    /// No signal ends it before then.
    pub(super) unkillable: Option<Mono>,
}

#[derive(Clone, Debug)]
struct Counter {
    base: u64,
    base_at: Mono,
    step: u64,
    every: Duration,
}

fn periods(since: Mono, now: Mono, every: Duration) -> u64 {
    let count = now.since(since).as_nanos() / every.as_nanos().max(1);
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl Program {
    /// It starts at once and ticks every second, until the scenario says something else.
    pub(super) fn new() -> Self {
        Self {
            starts_after: Some(Duration::ZERO),
            ticks_every: Duration::from_secs(1),
            habits: Vec::new(),
            start_fails: None,
            life: None,
            ended: None,
            printed: None,
        }
    }

    pub(super) fn learn(&mut self, habit: &Habit) {
        match habit {
            Habit::Starts { after, every } => {
                self.starts_after = *after;
                self.ticks_every = *every;
            }
            Habit::AtAge(age, act) => self.habits.push((*age, act.clone())),
            Habit::Well => self.habits.clear(),
            Habit::StartFails(error) => self.start_fails.clone_from(error),
        }
    }

    pub(super) fn begin(&mut self, instance: Instance, now: Mono) {
        let ready_at = self.starts_after.map(|after| now + after);
        self.life = Some(Life {
            instance,
            since: now,
            ready_at,
            every: self.ticks_every,
            base: 1,
            base_at: ready_at.unwrap_or(now),
            trouble: None,
            troubles: 0,
            trouble_since: now,
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            declared: Declared::Ok,
            busy_until: None,
            ignores_term: false,
            ends_in: Duration::ZERO,
            leaves: 0,
            unkillable: None,
        });
    }

    pub(super) fn living(&mut self, generation: Generation) -> Option<&mut Life> {
        self.life.as_mut().filter(|life| life.instance.generation == generation)
    }

    /// What a capture finds.
    pub(super) fn finding(&self, stage: CaptureStage, now: Mono) -> Finding {
        let mut finding = match &self.life {
            Some(life) if stage != CaptureStage::Exit => life.finding(now),
            _ => Finding::default(),
        };
        finding.last_lines.extend(self.printed.clone());
        finding
    }
}

impl Life {
    fn ready(&self, now: Mono) -> bool {
        self.ready_at.is_some_and(|at| at <= now)
    }

    pub(super) fn stands_still(&self) -> bool {
        self.trouble.as_ref().is_some_and(Trouble::freezes)
    }

    pub(super) fn every(&self) -> Duration {
        self.every
    }

    fn tick(&self, now: Mono) -> u64 {
        if self.stands_still() { self.base } else { self.base + periods(self.base_at, now, self.every) }
    }

    fn count(&self, counter: &Counter, now: Mono) -> u64 {
        if self.stands_still() {
            return counter.base;
        }
        counter.base + counter.step * periods(counter.base_at, now, counter.every)
    }

    /// Ticks and counts up to now are kept; what follows counts from now.
    fn settle(&mut self, now: Mono) {
        (self.base, self.base_at) = (self.tick(now), now.max(self.base_at));
        let counts: Vec<u64> = self.counters.values().map(|counter| self.count(counter, now)).collect();
        for (counter, count) in self.counters.values_mut().zip(counts) {
            (counter.base, counter.base_at) = (count, now);
        }
    }

    /// A loop that goes on shows it at once: its next tick comes with the end of the step that held it up.
    pub(super) fn enter(&mut self, trouble: Option<Trouble>, now: Mono) {
        self.settle(now);
        let goes_on = self.stands_still() && !trouble.as_ref().is_some_and(Trouble::freezes);
        self.base += u64::from(goes_on);
        self.trouble = trouble;
        self.trouble_since = now;
        self.troubles += 1;
    }

    pub(super) fn tick_every(&mut self, every: Duration, now: Mono) {
        self.enter(None, now);
        self.every = every;
    }

    pub(super) fn set_counter(&mut self, name: &str, step: u64, every: Duration, now: Mono) {
        let known = self.counters.get(name);
        let base = known.map_or(0, |counter| self.count(counter, now));
        self.counters.insert(name.to_owned(), Counter { base, base_at: now, step, every });
    }

    pub(super) fn set_gauge(&mut self, name: &str, value: f64) {
        self.gauges.insert(name.to_owned(), value);
    }

    pub(super) fn declare(&mut self, declared: Declared, now: Mono) {
        self.busy_until = match declared {
            Declared::Busy(span) => Some(now + span),
            Declared::Ok | Declared::Idle | Declared::Halted => None,
        };
        self.declared = declared;
    }

    fn declared(&self, now: Mono) -> Declared {
        match (self.declared, self.busy_until) {
            (Declared::Busy(_), Some(until)) if until > now => Declared::Busy(until.since(now)),
            (Declared::Busy(_), _) => Declared::Ok,
            (declared, _) => declared,
        }
    }

    fn beat(&self, plan: &BeatPlan, now: Mono) -> Beat {
        let http = if let BeatPlan::Http(http) = plan { Some(http) } else { None };
        let carries_tick = match plan {
            BeatPlan::Http(http) => http.seq.is_some(),
            BeatPlan::Exec(exec) => exec.seq,
            BeatPlan::File(_) => true,
            BeatPlan::Tcp(_) | BeatPlan::Notify | BeatPlan::Log(_) => false,
        };
        let counts = self.counters.iter().map(|(name, counter)| (name.clone(), self.count(counter, now)));
        Beat {
            source: plan.kind(),
            tick: carries_tick.then(|| self.tick(now)),
            progress: if http.is_some_and(|http| http.progress.is_some()) {
                counts.collect()
            } else {
                BTreeMap::new()
            },
            declared: http.and_then(|http| http.state.as_ref()).map(|_| self.declared(now)),
            gauges: if http.is_some_and(|http| http.gauges.is_some()) {
                self.gauges.clone()
            } else {
                BTreeMap::new()
            },
            loop_lag_ms: None,
        }
    }

    /// What a poll hears.
    pub(super) fn heard(&self, plan: &BeatPlan, now: Mono) -> Heard {
        let nothing = |fault, detail: &str, after_timeout| Heard::Nothing {
            fault,
            detail: detail.to_owned(),
            after_timeout,
        };
        let network = matches!(plan, BeatPlan::Http(_) | BeatPlan::Tcp(_));
        if !self.ready(now) {
            return match plan {
                BeatPlan::File(_) => nothing(ProbeFault::NoPath, "no such file", false),
                BeatPlan::Exec(_) => nothing(ProbeFault::NotABeat, "exit status 1", false),
                _ => nothing(ProbeFault::NoPath, "connection refused", false),
            };
        }
        let beat = || Heard::Beat(self.beat(plan, now));
        match &self.trouble {
            None | Some(Trouble::StillTick | Trouble::BlocksBehindAnAnswer(_)) => beat(),
            Some(Trouble::Unreachable) if network => nothing(ProbeFault::NoPath, "connect timed out", true),
            Some(Trouble::UnreachableBy(kind)) if *kind == plan.kind() => {
                nothing(ProbeFault::NoPath, "connect timed out", true)
            }
            Some(Trouble::Unreachable | Trouble::UnreachableBy(_)) => beat(),
            Some(Trouble::Status(status)) => match plan {
                BeatPlan::Http(_) => nothing(ProbeFault::NotABeat, &format!("status {status}"), false),
                _ => beat(),
            },
            // The kernel accepts for a program that hangs, and a file that nobody writes is still there.
            Some(Trouble::Hangs | Trouble::Blocks(_) | Trouble::Spins(_) | Trouble::Stopped(_)) => match plan
            {
                BeatPlan::Tcp(_) | BeatPlan::File(_) => beat(),
                BeatPlan::Http(http) => {
                    let detail = format!("no answer in {}", span_text(http.timeout));
                    nothing(ProbeFault::NoAnswer, &detail, true)
                }
                BeatPlan::Exec(_) | BeatPlan::Notify | BeatPlan::Log(_) => {
                    nothing(ProbeFault::NoAnswer, "no answer in time", true)
                }
            },
        }
    }

    /// What it pushes at a tick, if its loop turns.
    pub(super) fn pushed(&self, plan: &BeatPlan, now: Mono) -> Option<Beat> {
        let lost = matches!(&self.trouble, Some(Trouble::UnreachableBy(kind)) if *kind == plan.kind());
        (self.ready(now) && !self.stands_still() && !lost).then(|| self.beat(plan, now))
    }

    fn finding(&self, now: Mono) -> Finding {
        let age = now.since(self.since);
        let stuck = now.since(self.trouble_since);
        // An honest program spends a hundredth of its time; a stuck one nothing, a spinning one all of it.
        let worked = (age - stuck.min(age)).div_f64(100.0);
        let nanos = |cpu: Duration| u64::try_from(cpu.as_nanos()).ok();
        let mut finding = Finding { cpu_ns: nanos(age.div_f64(100.0)), ..Finding::default() };
        match &self.trouble {
            None | Some(Trouble::Status(_) | Trouble::Unreachable | Trouble::UnreachableBy(_)) => {
                finding.phrase = "main thread waits for work in epoll_wait".into();
                finding.place = Some("epoll_wait".into());
                finding.seen = Some(LoopSeen::Home);
            }
            Some(Trouble::Hangs | Trouble::StillTick) => {
                finding.cpu_ns = None;
                finding.missing.push("its threads: no rights to look at them".into());
            }
            Some(Trouble::Blocks(place) | Trouble::BlocksBehindAnAnswer(place)) => {
                finding.phrase = format!("main thread stands in {place} since {}", span_text(stuck));
                finding.place = Some(place.clone());
                finding.cpu_ns = nanos(worked);
                finding.seen = Some(LoopSeen::Blocked);
            }
            Some(Trouble::Spins(place)) => {
                finding.phrase = format!("main thread burns CPU in {place} since {}", span_text(stuck));
                finding.place = Some(place.clone());
                finding.cpu_ns = nanos(worked + stuck);
                finding.seen = Some(LoopSeen::Spinning);
            }
            Some(Trouble::Stopped(by)) => {
                finding.phrase = format!("stopped by {by}");
                finding.stopped = Some(format!("it is stopped by {by}"));
                finding.cpu_ns = nanos(worked);
            }
        }
        finding
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use horus_core::ids::ProcessId;

    fn at(seconds: u64) -> Mono {
        Mono::from_origin(Duration::from_secs(seconds))
    }

    fn life() -> Life {
        let mut program = Program::new();
        let process = ProcessId { pid: 7, start_time: 1 };
        program.begin(Instance { generation: Generation(1), process }, at(0));
        program.life.unwrap()
    }

    #[test]
    fn a_loop_that_stands_still_counts_nothing() {
        let mut life = life();
        life.set_counter("orders", 2, Duration::from_secs(10), at(0));
        assert_eq!(life.tick(at(20)), 21);
        life.enter(Some(Trouble::Hangs), at(20));
        assert_eq!(life.tick(at(500)), 21);
        assert_eq!(life.count(&life.counters["orders"], at(500)), 4);
        life.enter(None, at(500));
        assert_eq!(life.tick(at(500)), 22, "it goes on with a tick");
        assert_eq!(life.tick(at(503)), 25);
        assert_eq!(life.count(&life.counters["orders"], at(510)), 6);
    }

    #[test]
    fn a_blocked_loop_spends_nothing_and_a_spinning_one_everything() {
        let spent = |trouble: Trouble| {
            let mut life = life();
            life.enter(Some(trouble), at(100));
            let cpu = |now| life.finding(at(now)).cpu_ns.unwrap();
            cpu(150) - cpu(110)
        };
        assert_eq!(spent(Trouble::Blocks("recvfrom".into())), 0);
        assert_eq!(spent(Trouble::Spins("json".into())), 40_000_000_000);
    }

    #[test]
    fn what_is_declared_ends_by_itself() {
        let mut life = life();
        life.declare(Declared::Busy(Duration::from_secs(60)), at(10));
        assert_eq!(life.declared(at(30)), Declared::Busy(Duration::from_secs(40)));
        assert_eq!(life.declared(at(70)), Declared::Ok);
    }
}
