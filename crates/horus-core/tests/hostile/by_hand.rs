//! One service, driven by hand: nothing is obeyed unless the test says so.

#![expect(clippy::unwrap_used, reason = "a broken test has to fail loudly")]

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::command::{Answer, Command, Memory};
use horus_core::event::What;
use horus_core::ids::{Generation, Instance, MonitorName, ProcessId};
use horus_core::notice::Notice;
use horus_core::observation::{
    Beat, CaptureStage, Declared, Exit, Finding, Input, MonitorObservation, Observation, OperatorRequest,
    ProbeFault,
};
use horus_core::plan::{BeatKind, BeatPlan, MonitorCheck, MonitorPlan, Plan, ServicePlan, TcpBeat};
use horus_core::time::Mono;
use horus_core::{Engine, Remembered};

use crate::rig::{SECOND, name, service};

/// Wakes at one instant after which a due time that stays in the past is a fault.
pub(crate) const WAKES_MAX: usize = 16;

pub(crate) struct ByHand {
    pub(crate) engine: Engine,
    pub(crate) now: Mono,
    pub(crate) plan: Plan,
    pub(crate) log: Vec<Command>,
    /// Captures and confirmations are answered at once.
    pub(crate) auto: bool,
    next_ticket: u64,
}

impl ByHand {
    /// Reconciled: the start was asked.
    pub(crate) fn new(plan: ServicePlan) -> Self {
        let mut hand = Self::with(plan, Vec::new());
        hand.step(Input::Reconciled);
        hand
    }

    /// An earlier life wrote `memory`; not reconciled yet.
    pub(crate) fn with_memory(plan: ServicePlan, memory: Memory, elapsed: Duration) -> Self {
        Self::with(plan, vec![Remembered { service: name("bot"), memory, elapsed, away: Some(elapsed) }])
    }

    fn with(service: ServicePlan, remembered: Vec<Remembered>) -> Self {
        let plan = Plan { services: BTreeMap::from([(name("bot"), service)]), ..Plan::default() };
        let mut hand = Self {
            engine: Engine::new(7, 0, remembered),
            now: Mono::from_origin(Mono::ORIGIN_BEFORE_START),
            plan: plan.clone(),
            log: Vec::new(),
            auto: true,
            next_ticket: 1,
        };
        hand.step(Input::PlanChanged(Box::new(plan)));
        hand
    }

    /// Started, and its tick was seen to move on each of its sources.
    pub(crate) fn running(plan: ServicePlan) -> Self {
        let kinds: Vec<BeatKind> = plan.beats.iter().map(BeatPlan::kind).collect();
        let mut hand = Self::new(plan);
        hand.spawned();
        for tick in [0, 1, 2] {
            hand.pass(1);
            for kind in &kinds {
                if *kind != BeatKind::Log {
                    let heard = beat(&hand, *kind, tick);
                    hand.see(heard);
                }
            }
        }
        hand
    }

    pub(crate) fn step(&mut self, input: Input) {
        let commands = self.engine.step(self.now, input);
        self.log.extend(commands.iter().cloned());
        if self.auto {
            for command in commands {
                self.answer_one(command);
            }
        }
    }

    fn answer_one(&mut self, command: Command) {
        match command {
            Command::Capture { generation, stage, .. } if stage != CaptureStage::Exit => {
                self.see(Observation::Captured { generation, stage, finding: Finding::default() });
            }
            Command::Confirm { incident } => self.step(Input::IncidentStored { incident, persisted: true }),
            _ => {}
        }
    }

    /// Brings the evidence that the verdict waits for.
    pub(crate) fn answer_captures(&mut self) {
        let (generation, stage) = (self.generation(), CaptureStage::Verdict);
        self.see(Observation::Captured { generation, stage, finding: Finding::default() });
    }

    pub(crate) fn see(&mut self, observation: Observation) {
        self.step(Input::Service(name("bot"), observation));
    }

    /// A second later this is seen.
    pub(crate) fn second(&mut self, observation: Observation) {
        self.now = self.now + SECOND;
        self.see(observation);
        self.wake();
    }

    fn wake(&mut self) {
        for _ in 0..WAKES_MAX {
            if self.engine.next_deadline().is_none_or(|due| due > self.now) {
                return;
            }
            self.step(Input::Wake);
        }
    }

    /// Nothing is heard for so many seconds; every due time is met.
    pub(crate) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now + SECOND;
            self.wake();
        }
    }

    /// Connections are taken and not answered, for so many seconds.
    pub(crate) fn hang(&mut self, seconds: u64) {
        for _ in 0..seconds {
            let heard = miss(self, ProbeFault::NoAnswer);
            self.second(heard);
        }
    }

    pub(crate) fn instance(&self) -> Instance {
        Instance { generation: self.generation(), process: ProcessId { pid: 100, start_time: 1 } }
    }

    pub(crate) fn spawned(&mut self) {
        self.see(Observation::Spawned(self.instance()));
    }

    pub(crate) fn adopted(&mut self, generation: u64) {
        let process = ProcessId { pid: 100, start_time: 1 };
        self.see(Observation::Adopted(Instance { generation: Generation(generation), process }));
    }

    pub(crate) fn adopt_and_reconcile(&mut self, generation: u64) {
        self.adopted(generation);
        self.step(Input::Reconciled);
    }

    pub(crate) fn ended(&mut self, exit: Exit) {
        let generation = self.generation();
        self.see(Observation::Exited { generation, exit, strays: 0 });
    }

    pub(crate) fn exited(&mut self) {
        self.ended(Exit::Signal(15));
    }

    pub(crate) fn exited_and_started_again(&mut self) {
        self.exited();
        self.spawned();
    }

    pub(crate) fn monitor_down(&mut self) {
        let (fault, detail) = (ProbeFault::NoPath, "refused".to_owned());
        self.step(Input::Monitor(monitor(), MonitorObservation::Down { fault, detail }));
    }

    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.plan);
        self.step(Input::PlanChanged(Box::new(self.plan.clone())));
    }

    pub(crate) fn ask(&mut self, request: OperatorRequest) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.step(Input::Operator { ticket, request });
        ticket
    }

    pub(crate) fn generation(&self) -> Generation {
        Generation(self.engine.status(self.now).services.first().unwrap().generation)
    }

    pub(crate) fn memory(&self) -> Memory {
        let last = self.log.iter().rev().find_map(|command| match command {
            Command::Remember { memory, .. } => Some(memory.as_ref().clone()),
            _ => None,
        });
        last.unwrap()
    }

    pub(crate) fn signals(&self) -> usize {
        let signal =
            |command: &&Command| matches!(command, Command::Signal { .. } | Command::KillTree { .. });
        self.log.iter().filter(signal).count()
    }

    pub(crate) fn starts(&self) -> usize {
        self.log.iter().filter(|command| matches!(command, Command::Start { .. })).count()
    }

    pub(crate) fn told(&self) -> Vec<&Notice> {
        let told = self.log.iter().filter_map(|command| match command {
            Command::Tell(notice) => Some(notice.as_ref()),
            _ => None,
        });
        told.collect()
    }

    pub(crate) fn count(&self, wanted: impl Fn(&What) -> bool) -> usize {
        let wanted = |command: &&Command| matches!(command, Command::Record(event) if wanted(&event.what));
        self.log.iter().filter(wanted).count()
    }
}

/// The answer to a request; a second one is a fault.
pub(crate) fn ticket_of(hand: &ByHand, wanted: u64) -> Option<&Answer> {
    let mut answers = hand.log.iter().filter_map(|command| match command {
        Command::Answer { ticket, answer } if *ticket == wanted => Some(answer),
        _ => None,
    });
    let answer = answers.next();
    assert_eq!(answers.next(), None, "answered twice");
    answer
}

fn plain(source: BeatKind, tick: Option<u64>) -> Beat {
    Beat {
        source,
        tick,
        progress: BTreeMap::new(),
        declared: None,
        gauges: BTreeMap::new(),
        loop_lag_ms: None,
    }
}

/// A beat; pushed ones carry no tick.
pub(crate) fn beat(hand: &ByHand, source: BeatKind, tick: u64) -> Observation {
    let mut beat = plain(source, (source != BeatKind::Notify).then_some(tick));
    beat.progress.insert("filled".to_owned(), 0);
    Observation::Beat { generation: hand.generation(), beat }
}

/// A tick that stands still with a word about a long step.
pub(crate) fn busy(generation: Generation, tick: u64, left: Duration) -> Observation {
    let mut beat = plain(BeatKind::Http, Some(tick));
    beat.declared = Some(Declared::Busy(left));
    Observation::Beat { generation, beat }
}

pub(crate) fn miss(hand: &ByHand, fault: ProbeFault) -> Observation {
    let (generation, source) = (hand.generation(), BeatKind::Http);
    Observation::NoBeat { generation, source, fault, detail: "nothing".into() }
}

pub(crate) fn notify_and_http(beats: &[BeatPlan]) -> ServicePlan {
    ServicePlan { beats: beats.to_vec(), ..service() }
}

pub(crate) fn monitor() -> MonitorName {
    MonitorName::parse("venue").unwrap()
}

pub(crate) fn monitor_plan() -> MonitorPlan {
    let check = TcpBeat { address: "127.0.0.1:1".into(), every: SECOND, timeout: SECOND };
    MonitorPlan { check: MonitorCheck::Tcp(check), down_after: 5 * SECOND }
}
