//! A random world. What it says may be late, repeated or about the wrong run, but it never lies about the living run:
//! so a shadow of the truth is enough to check the guarantees after every step.

#![expect(clippy::expect_used, clippy::panic, reason = "a broken guarantee has to fail loudly")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use horus_core::Engine;
use horus_core::command::Command;
use horus_core::event::What;
use horus_core::ids::{Generation, IncidentId, Instance, ProcessId, ServiceName};
use horus_core::notice::Story;
use horus_core::observation::{
    Beat, CaptureStage, Declared, Exit, Finding, Input, MonitorObservation, Observation, OperatorRequest,
    ProbeFault,
};
use horus_core::plan::{BeatKind, BeatPlan, Mode, Plan, RestartOn, ServicePlan};
use horus_core::reason::{Reason, Rule};
use horus_core::time::Mono;
use proptest::prelude::*;

use crate::by_hand::{WAKES_MAX, monitor, monitor_plan};
use crate::rig::{SECOND, name, service};

const NAMES: [&str; 3] = ["a", "b", "c"];
/// Seconds of good behaviour after which every request must have been answered.
const QUIET: u64 = 240;

/// One thing that happens. The first number says to which service.
#[derive(Clone, Debug)]
enum Happens {
    Time { seconds: u64, meets_due: bool },
    Beats { who: usize, fresh: bool, notify: bool, declared: u8 },
    Misses { who: usize, fault: u8 },
    Ready { who: usize },
    AsksForTime { who: usize, seconds: u64 },
    Dies { who: usize, code: i32, strays: u32 },
    KeeperAnswers { who: usize, well: bool },
    Repeats { who: usize, what: u8, off: u64 },
    Evidence { who: usize, stage: u8 },
    Stored,
    Person { who: usize, wish: u8, seconds: u64 },
    PlanChanges { who: usize, how: u8 },
    Monitor { up: bool },
    Disk { well: bool },
    End,
}

fn happens() -> impl Strategy<Value = Happens> {
    let who = 0..NAMES.len();
    prop_oneof![
        6 => (0..40_u64, prop::bool::weighted(0.8)).prop_map(|(seconds, meets_due)| Happens::Time { seconds, meets_due }),
        10 => (who.clone(), prop::bool::weighted(0.7), any::<bool>(), 0..12_u8)
            .prop_map(|(who, fresh, notify, declared)| Happens::Beats { who, fresh, notify, declared }),
        8 => (who.clone(), 0..5_u8).prop_map(|(who, fault)| Happens::Misses { who, fault }),
        1 => who.clone().prop_map(|who| Happens::Ready { who }),
        1 => (who.clone(), 0..100_u64).prop_map(|(who, seconds)| Happens::AsksForTime { who, seconds }),
        2 => (who.clone(), 0..2, 0..2_u32).prop_map(|(who, code, strays)| Happens::Dies { who, code, strays }),
        10 => (who.clone(), prop::bool::weighted(0.9)).prop_map(|(who, well)| Happens::KeeperAnswers { who, well }),
        4 => (who.clone(), 0..8_u8, 0..3_u64).prop_map(|(who, what, off)| Happens::Repeats { who, what, off }),
        5 => (who.clone(), 0..4_u8).prop_map(|(who, stage)| Happens::Evidence { who, stage }),
        4 => Just(Happens::Stored),
        4 => (who.clone(), 0..7_u8, 0..60_u64).prop_map(|(who, wish, seconds)| Happens::Person { who, wish, seconds }),
        2 => (who, 0..12_u8).prop_map(|(who, how)| Happens::PlanChanges { who, how }),
        1 => any::<bool>().prop_map(|up| Happens::Monitor { up }),
        1 => any::<bool>().prop_map(|well| Happens::Disk { well }),
        1 => prop::bool::weighted(0.05).prop_map(|end| if end { Happens::End } else { Happens::Stored }),
    ]
}

/// What is true of one service, whatever the engine believes.
#[derive(Debug, Default)]
struct Truth {
    /// Asked for and not answered.
    starting: Option<Generation>,
    living: Option<Generation>,
    last: Generation,
    strays: bool,
    signalled: bool,
    tick: u64,
    /// The tick that the judge heard last of this run.
    heard: Option<u64>,
    last_fresh: Option<Mono>,
    asked_until: Option<Mono>,
    decided: Option<Generation>,
    killed: BTreeSet<Generation>,
    kills: u64,
    allowances: u64,
    held: bool,
    a_person_was_here: bool,
}

struct World {
    engine: Engine,
    now: Mono,
    began: Mono,
    plan: Plan,
    truths: BTreeMap<ServiceName, Truth>,
    confirm: BTreeSet<IncidentId>,
    versions: BTreeMap<IncidentId, u32>,
    closed: BTreeSet<IncidentId>,
    asked: u64,
    answered: BTreeSet<u64>,
    finished: bool,
}

fn plan_of(index: usize) -> ServicePlan {
    let mut plan = service();
    match index {
        0 => plan.beats.push(BeatPlan::Notify),
        1 => plan.after = vec![name("a")],
        _ => plan.beats.clear(),
    }
    plan
}

impl World {
    fn new(services: usize) -> Self {
        let mut plan = Plan::default();
        for (index, text) in NAMES.iter().enumerate().take(services) {
            plan.services.insert(name(text), plan_of(index));
        }
        plan.monitors.insert(monitor(), monitor_plan());
        let now = Mono::from_origin(Mono::ORIGIN_BEFORE_START);
        let truths = NAMES.iter().map(|text| (name(text), Truth::default())).collect();
        let mut world = Self {
            engine: Engine::new(3, 0, Vec::new()),
            now,
            began: now,
            plan: plan.clone(),
            truths,
            confirm: BTreeSet::new(),
            versions: BTreeMap::new(),
            closed: BTreeSet::new(),
            asked: 0,
            answered: BTreeSet::new(),
            finished: false,
        };
        world.step(Input::PlanChanged(Box::new(plan)));
        world.step(Input::Reconciled);
        world
    }

    fn truth(&mut self, who: &ServiceName) -> &mut Truth {
        self.truths.get_mut(who).expect("only known names are used")
    }

    fn step(&mut self, input: Input) {
        if self.finished {
            return;
        }
        let commands = self.engine.step(self.now, input);
        self.check(&commands);
        for wakes in 0.. {
            if self.engine.next_deadline().is_none_or(|due| due > self.now) {
                break;
            }
            assert!(wakes < WAKES_MAX, "it is due again and again at the same instant: the daemon spins");
            let commands = self.engine.step(self.now, Input::Wake);
            self.check(&commands);
        }
        // The read model has to hold at any instant.
        assert!(self.engine.status(self.now).services.len() <= NAMES.len());
    }

    fn see(&mut self, who: &ServiceName, observation: Observation) {
        self.step(Input::Service(who.clone(), observation));
    }

    fn check(&mut self, commands: &[Command]) {
        for command in commands {
            match command {
                Command::Start { service, generation, .. } => self.check_start(service, *generation),
                Command::Signal { service, generation, reason, .. } => {
                    self.check_signal(service, *generation, reason);
                }
                Command::KillTree { service, generation, reason } => {
                    self.check_kill_tree(service, *generation, reason)
                }
                Command::Confirm { incident } => drop(self.confirm.insert(*incident)),
                Command::Answer { ticket, .. } => {
                    assert!(*ticket <= self.asked, "an answer without a request");
                    assert!(self.answered.insert(*ticket), "request {ticket} is answered twice");
                }
                Command::Tell(notice) => {
                    let version = self.versions.entry(notice.incident).or_default();
                    *version += 1;
                    assert_eq!(notice.version, *version, "a version is skipped or told twice");
                    assert!(!self.closed.contains(&notice.incident), "told after it was closed");
                    if let Story::StuckHealed { .. } = notice.story {
                        let truth = &self.truths[notice.subject.as_str()];
                        let beats = |plan: &ServicePlan| !plan.beats.is_empty();
                        if !self.plan.services.get(notice.subject.as_str()).is_some_and(beats) {
                            continue;
                        }
                        assert_eq!(truth.last_fresh, Some(self.now), "healed is said at a fresh tick");
                    }
                }
                Command::Record(event) => self.check_event(event),
                Command::Finished => {
                    self.finished = true;
                    assert_eq!(self.engine.living(), [], "finished, and something lives");
                }
                _ => {}
            }
        }
    }

    fn check_start(&mut self, who: &ServiceName, generation: Generation) {
        let truth = self.truth(who);
        assert!(!truth.held, "{who} is held and is started");
        assert!(truth.living.is_none() && truth.starting.is_none(), "{who} runs twice");
        assert!(generation > truth.last, "{who}: run {generation} repeats");
        (truth.starting, truth.last) = (Some(generation), generation);
        truth.signalled = false;
    }

    fn check_signal(&mut self, who: &ServiceName, generation: Generation, reason: &Reason) {
        let (now, mode) = (self.now, self.plan.daemon.mode);
        let plan = self.plan.services.get(who).cloned();
        let truth = self.truth(who);
        match reason.rule {
            Rule::Silent | Rule::Lying => {
                let plan = plan.expect("what left the plan is not judged");
                assert!(!truth.held, "{who} is held and is killed");
                assert!(mode == Mode::Enforce && !plan.observe, "{who} is killed in observe mode");
                assert_eq!(truth.decided, Some(generation), "{who} is killed without a decision");
                assert!(truth.killed.insert(generation), "{who}: {generation} is killed twice");
                let life = truth.last_fresh.max(truth.asked_until.map(|until| until.min(now)));
                let age = life.map(|at| now.since(at));
                assert!(
                    age.is_none_or(|age| age >= plan.deadline),
                    "{who} lives ({age:?} old) and is killed"
                );
                truth.kills += 1;
                let span = u64::from(plan.kills.limit) * (truth.allowances + 1);
                let since = now.since(self.began).as_secs();
                let retries = since / plan.kills.retry.map_or(u64::MAX, |retry| retry.as_secs()) + 1;
                let kills = self.truth(who).kills;
                assert!(kills <= span + retries, "{who}: {kills} kills");
            }
            Rule::Operator | Rule::Held | Rule::Reload | Rule::ShutDown | Rule::Wanted | Rule::Halted => {
                assert!(truth.a_person_was_here, "{who} is stopped, and nobody asked");
            }
            other => panic!("{who} is signalled by rule {other:?}"),
        }
        self.truth(who).signalled = true;
    }

    fn check_kill_tree(&mut self, who: &ServiceName, generation: Generation, reason: &Reason) {
        let truth = self.truth(who);
        let fine = match reason.rule {
            Rule::Strays => truth.strays || truth.living != Some(generation),
            _ => truth.signalled || truth.strays,
        };
        assert!(fine, "{who}: SIGKILL without a soft signal before it: {reason:?}");
    }

    fn check_event(&mut self, event: &horus_core::event::Event) {
        if let (What::IncidentClosed { .. }, Some(id)) = (&event.what, event.incident) {
            assert!(self.closed.insert(id), "{id} is closed twice");
        }
        if let (What::IncidentOpened { .. }, Some(id)) = (&event.what, event.incident) {
            // What comes back soon is the same incident.
            self.closed.remove(&id);
        }
        let Some(truth) = self.truths.get_mut(event.subject.as_str()) else { return };
        match &event.what {
            What::KillDecided { .. } => truth.decided = event.generation,
            What::Proven { .. } => truth.allowances += 1,
            What::HoldEnded { .. } => truth.held = false,
            What::HoldSet { .. } => truth.held = true,
            _ => {}
        }
    }

    fn happen(&mut self, what: &Happens) {
        match *what {
            Happens::Time { seconds, meets_due } => self.pass(seconds, meets_due),
            Happens::Beats { who, fresh, notify, declared } => self.beat(who, fresh, notify, declared),
            Happens::Misses { who, fault } => self.miss(who, fault),
            Happens::Ready { who } => self.ready(who),
            Happens::AsksForTime { who, seconds } => self.ask_for_time(who, seconds),
            Happens::Dies { who, code, strays } => self.die(&name(NAMES[who]), Exit::Code(code), strays),
            Happens::KeeperAnswers { who, well } => self.keeper_answers(&name(NAMES[who]), well),
            Happens::Repeats { who, what, off } => self.repeat(&name(NAMES[who]), what, off),
            Happens::Evidence { who, stage } => self.evidence(&name(NAMES[who]), stage),
            Happens::Stored => {
                if let Some(incident) = self.confirm.pop_first() {
                    self.step(Input::IncidentStored { incident, persisted: true });
                }
            }
            Happens::Person { who, wish, seconds } => self.ask(who, wish, seconds),
            Happens::PlanChanges { who, how } => self.change_plan(who, how),
            Happens::Monitor { up } => {
                let (fault, detail) = (ProbeFault::NoPath, "refused".to_owned());
                let seen = if up {
                    MonitorObservation::Up { took: SECOND }
                } else {
                    MonitorObservation::Down { fault, detail }
                };
                self.step(Input::Monitor(monitor(), seen));
            }
            Happens::Disk { well } => {
                let fault = (!well).then(|| "no space".to_owned());
                self.step(Input::StoreHealth { fault: fault.clone() });
                self.step(Input::SinkHealth { sink: "ops".into(), fault });
            }
            Happens::End => {
                self.truths.values_mut().for_each(|truth| truth.a_person_was_here = true);
                self.step(Input::ShutDown);
            }
        }
    }

    fn pass(&mut self, seconds: u64, meets_due: bool) {
        let end = self.now + Duration::from_secs(seconds);
        while meets_due && let Some(due) = self.engine.next_deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.step(Input::Wake);
            if self.finished {
                return;
            }
        }
        self.now = end;
        self.step(Input::Wake);
    }

    fn beat(&mut self, who: usize, fresh: bool, notify: bool, declared: u8) {
        let (who, now) = (name(NAMES[who]), self.now);
        let source = if notify { BeatKind::Notify } else { BeatKind::Http };
        let known = |plan: &ServicePlan| plan.beats.iter().any(|beat| beat.kind() == source);
        let counts = self.plan.services.get(&who).is_some_and(known);
        let truth = self.truth(&who);
        let Some(generation) = truth.living else { return };
        let declared = match declared {
            0 => Some(Declared::Busy(30 * SECOND)),
            1 => Some(Declared::Idle),
            2 => Some(Declared::Halted),
            3 | 4 => Some(Declared::Ok),
            _ => None,
        };
        truth.tick += u64::from(fresh);
        let tick = (!notify).then_some(truth.tick);
        // The tick may have moved while nobody heard it, by a beat that the plan does not know.
        if counts && (notify || truth.heard.is_some_and(|heard| heard != truth.tick)) {
            truth.last_fresh = Some(now);
        }
        if counts && !notify {
            truth.heard = Some(truth.tick);
        }
        let progress = BTreeMap::from([("filled".to_owned(), truth.tick / 3)]);
        let beat = Beat { source, tick, progress, declared, gauges: BTreeMap::new(), loop_lag_ms: None };
        self.see(&who, Observation::Beat { generation, beat });
    }

    fn miss(&mut self, who: usize, fault: u8) {
        let who = name(NAMES[who]);
        let Some(generation) = self.truth(&who).living else { return };
        let fault = match fault {
            0 => ProbeFault::Prober,
            1 => ProbeFault::NoPath,
            2 => ProbeFault::NotABeat,
            3 => ProbeFault::ReusedConnectionSilent,
            _ => ProbeFault::NoAnswer,
        };
        let (source, detail) = (BeatKind::Http, "nothing".to_owned());
        self.see(&who, Observation::NoBeat { generation, source, fault, detail });
    }

    fn ready(&mut self, who: usize) {
        let (who, now) = (name(NAMES[who]), self.now);
        // Only who was given a notify socket can say so.
        let counts = |plan: &ServicePlan| plan.beats.contains(&BeatPlan::Notify);
        let counts = self.plan.services.get(&who).is_some_and(counts);
        let truth = self.truth(&who);
        let Some(generation) = truth.living else { return };
        if counts {
            truth.last_fresh = Some(now);
        }
        self.see(&who, Observation::SaidReady { generation });
    }

    fn ask_for_time(&mut self, who: usize, seconds: u64) {
        let (who, now) = (name(NAMES[who]), self.now);
        let truth = self.truth(&who);
        let Some(generation) = truth.living else { return };
        let extend = Duration::from_secs(seconds);
        self.see(&who, Observation::AskedForTime { generation, extend });
        let truth = self.truth(&who);
        truth.asked_until = truth.asked_until.max(Some(now + extend));
    }

    fn die(&mut self, who: &ServiceName, exit: Exit, strays: u32) {
        let truth = self.truth(who);
        let Some(generation) = truth.living.take() else { return };
        (truth.last_fresh, truth.asked_until, truth.heard) = (None, None, None);
        truth.strays = strays > 0;
        self.see(who, Observation::Exited { generation, exit, strays });
    }

    /// The keeper does what it was last asked to do.
    fn keeper_answers(&mut self, who: &ServiceName, well: bool) {
        let truth = self.truth(who);
        if let Some(generation) = truth.starting.take() {
            if well {
                truth.living = Some(generation);
                (truth.last_fresh, truth.asked_until, truth.heard) = (None, None, None);
                let process = ProcessId { pid: 100, start_time: generation.0 };
                self.see(who, Observation::Spawned(Instance { generation, process }));
            } else {
                self.see(who, Observation::SpawnFailed { generation, error: "exec".into() });
            }
        } else if truth.living.is_some() && truth.signalled {
            self.die(who, Exit::Signal(15), u32::from(!well));
        } else if truth.strays {
            truth.strays = false;
            let generation = truth.last;
            self.see(who, Observation::Gone { generation, killed: 1 });
        }
    }

    /// Late, repeated and misdirected news. None of it is about the living run.
    fn repeat(&mut self, who: &ServiceName, what: u8, off: u64) {
        let truth = self.truth(who);
        let run = match off {
            0 => truth.last.0.wrapping_sub(1),
            1 => truth.last.0 + 7,
            _ => truth.last.0,
        };
        let generation = Generation(run);
        if truth.living == Some(generation) || truth.starting == Some(generation) {
            return;
        }
        let process = ProcessId { pid: 100, start_time: run };
        let seen = match what {
            0 if run <= truth.last.0 => Observation::Spawned(Instance { generation, process }),
            1 => Observation::SpawnFailed { generation, error: "late".into() },
            2 => Observation::Exited { generation, exit: Exit::Unknown, strays: 0 },
            3 if !truth.strays => Observation::Gone { generation, killed: 0 },
            4 => Observation::SignalFailed { generation, error: "late".into() },
            5 => Observation::SaidReady { generation },
            6 => Observation::AskedForTime { generation, extend: SECOND },
            _ => {
                let (stage, finding) = (CaptureStage::Verdict, Finding::default());
                Observation::Captured { generation, stage, finding }
            }
        };
        self.see(who, seen);
    }

    fn evidence(&mut self, who: &ServiceName, stage: u8) {
        let generation = self.truth(who).last;
        let stage = match stage {
            0 => CaptureStage::Early,
            1 => CaptureStage::Second,
            2 => CaptureStage::Exit,
            _ => CaptureStage::Verdict,
        };
        self.see(who, Observation::Captured { generation, stage, finding: Finding::default() });
    }

    fn ask(&mut self, who: usize, wish: u8, seconds: u64) {
        let who = name(NAMES[who]);
        let (service, reason) = (who.clone(), "a test".to_owned());
        let expires_in = (seconds > 20).then(|| Duration::from_secs(seconds));
        let request = match wish {
            0 | 1 => OperatorRequest::Start(service),
            2 => OperatorRequest::Stop(service),
            3 => OperatorRequest::Restart(service),
            4 => OperatorRequest::Hold { service, reason, expires_in, stop: false },
            5 => OperatorRequest::Hold { service, reason, expires_in, stop: true },
            _ => OperatorRequest::Resume { service, reason: None },
        };
        let truth = self.truth(&who);
        truth.a_person_was_here = true;
        truth.allowances += u64::from(matches!(request, OperatorRequest::Resume { .. }));
        if self.finished {
            return;
        }
        self.asked += 1;
        self.step(Input::Operator { ticket: self.asked, request });
    }

    fn change_plan(&mut self, who: usize, how: u8) {
        let index = who;
        let who = name(NAMES[who]);
        self.truth(&who).a_person_was_here = true;
        if how == 0 {
            self.plan.services.remove(&who);
            self.plan.services.values_mut().for_each(|service| service.after.retain(|name| *name != who));
        } else if how == 1 {
            let mut plan = plan_of(index);
            plan.after.retain(|name| self.plan.services.contains_key(name));
            self.plan.services.entry(who).or_insert(plan);
        } else if how == 2 {
            let other = if self.plan.daemon.mode == Mode::Observe { Mode::Enforce } else { Mode::Observe };
            self.plan.daemon.mode = other;
        } else if let Some(service) = self.plan.services.get_mut(&who) {
            match how {
                3 => service.deadline = 3 * SECOND,
                4 => service.deadline = 30 * SECOND,
                5 => service.beats = vec![BeatPlan::Notify],
                6 => service.beats = plan_of(1).beats,
                7 => service.beats.clear(),
                8 => service.observe = !service.observe,
                9 => service.launch.command.push("--more".into()),
                10 => service.restart.on = RestartOn::Failure,
                _ => service.autostart = !service.autostart,
            }
        }
        self.step(Input::PlanChanged(Box::new(self.plan.clone())));
    }

    /// Everybody behaves: what was asked is done, programs tick, holds are lifted, all are wanted up.
    fn be_quiet(&mut self) {
        for index in 0..NAMES.len() {
            self.ask(index, 6, 0);
            self.ask(index, 0, 0);
        }
        for _ in 0..QUIET {
            self.pass(1, true);
            for (index, text) in NAMES.iter().enumerate() {
                let who = name(text);
                self.keeper_answers(&who, true);
                self.evidence(&who, 3);
                self.happen(&Happens::Stored);
                self.beat(index, true, false, 9);
                self.beat(index, true, true, 9);
            }
            if self.finished {
                return;
            }
        }
        assert_eq!(self.answered.len() as u64, self.asked, "requests without an answer");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_input_sequence_breaks_a_guarantee(
        services in 1..=NAMES.len(),
        story in prop::collection::vec(happens(), 1..160),
    ) {
        let mut world = World::new(services);
        for what in &story {
            world.happen(what);
        }
        world.be_quiet();
    }
}
