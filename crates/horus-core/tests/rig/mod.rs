//! A hand-cranked world for the engine: one second at a time, a keeper that obeys at once, a store that confirms at once,
//! and a program that does what the test says.

#![expect(clippy::unwrap_used, reason = "a broken test rig has to fail loudly")]

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::Engine;
use horus_core::command::{Answer, Command, Memory};
use horus_core::event::What;
use horus_core::ids::{Generation, Instance, ProcessId, ServiceName};
use horus_core::notice::{Notice, Story};
use horus_core::observation::{
    Beat, Declared, Exit, Finding, Input, LoopSeen, Observation, OperatorRequest, ProbeFault,
};
use horus_core::plan::{
    BeatKind, BeatPlan, HttpBeat, Plan, Ready, RestartOn, RestartPlan, ServicePlan, StopPlan,
};
use horus_core::time::Mono;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// What a program does with its beat in a given second of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Its tick moves.
    Ticks,
    /// It answers with a tick that stands still.
    Lies,
    /// It takes connections and does not answer.
    Hangs,
    /// Nothing can be reached.
    Unreachable,
    /// Nothing is heard from the probe at all.
    Nothing,
    /// Its tick moves, and its counter `filled` with it.
    Works,
    /// It answers, its tick stands still, and it says that it has nothing to do.
    Idles,
    /// It ends.
    Exits(Exit),
}

/// What a service does, by the age of its instance in seconds.
pub(crate) type Behaviour = fn(u64) -> Doing;

pub(crate) struct Rig {
    pub(crate) engine: Engine,
    pub(crate) now: Mono,
    pub(crate) plan: Plan,
    pub(crate) events: Vec<(Mono, String, What)>,
    pub(crate) told: Vec<(Mono, Notice)>,
    pub(crate) answers: BTreeMap<u64, Answer>,
    pub(crate) memories: BTreeMap<ServiceName, Memory>,
    written: BTreeMap<ServiceName, Mono>,
    pub(crate) signals: Vec<(Mono, String)>,
    pub(crate) starts: Vec<(Mono, String)>,
    /// What each service does, by the age of its instance in seconds.
    pub(crate) behaviour: BTreeMap<ServiceName, Behaviour>,
    pub(crate) alive: BTreeMap<ServiceName, (Instance, Mono)>,
    pub(crate) ignores_term: bool,
    /// What captures say of who has stopped the programs.
    pub(crate) stopped: Option<String>,
    /// Where captures see the main loop.
    pub(crate) seen: Option<LoopSeen>,
    /// CPU time that main threads take from one capture to the next.
    pub(crate) cpu_step: u64,
    /// Captures that are asked for come back.
    pub(crate) captures: bool,
    /// The store says what it has stored.
    pub(crate) confirms: bool,
    /// What all programs show beside their counters.
    pub(crate) gauges: BTreeMap<String, f64>,
    pub(crate) finished: bool,
    ticks: u64,
    cpu: u64,
    next_pid: i32,
    next_ticket: u64,
}

pub(crate) fn name(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

/// Deadline 10 s, poll 1 s, startup 60 s, three kills, proof after 300 s.
pub(crate) fn service() -> ServicePlan {
    let plain = ServicePlan::plain(vec!["bot".into()]);
    ServicePlan {
        ready: Ready::Tick,
        beats: vec![BeatPlan::Http(HttpBeat {
            url: "http://127.0.0.1:1/".into(),
            every: SECOND,
            timeout: SECOND,
            seq: Some("/seq".into()),
            progress: Some("/progress".into()),
            state: None,
            lag: None,
            gauges: None,
        })],
        deadline: 10 * SECOND,
        stop: StopPlan { signal: "SIGTERM".into(), grace: 5 * SECOND },
        restart: RestartPlan { on: RestartOn::Always, ..plain.restart },
        ..plain
    }
}

impl Rig {
    pub(crate) fn new(services: &[(&str, ServicePlan, Behaviour)]) -> Self {
        Self::with_memory(services, Vec::new())
    }

    pub(crate) fn with_memory(
        services: &[(&str, ServicePlan, Behaviour)],
        remembered: Vec<horus_core::Remembered>,
    ) -> Self {
        let mut rig = Self::begin(services, remembered);
        rig.step(Input::Reconciled);
        rig
    }

    /// Horus comes back, and everybody has run on meanwhile.
    pub(crate) fn adopting(
        services: &[(&str, ServicePlan, Behaviour)],
        remembered: Vec<horus_core::Remembered>,
    ) -> Self {
        let mut rig = Self::begin(services, remembered);
        for (text, ..) in services {
            rig.next_pid += 1;
            let process = ProcessId { pid: rig.next_pid, start_time: 1 };
            let instance = Instance { generation: Generation(9), process };
            rig.alive.insert(name(text), (instance, rig.now));
            rig.observe(&name(text), Observation::Adopted(instance));
        }
        rig.step(Input::Reconciled);
        rig
    }

    /// Horus dies, and the next one finds everybody as it left them. `away`: for so long there is none.
    pub(crate) fn next_life(&mut self, away: Duration) {
        self.now = self.now + away;
        let remembered = self.memories.iter().map(|(service, memory)| {
            let elapsed = self.now.since(self.written[service]);
            let (service, memory) = (service.clone(), memory.clone());
            horus_core::Remembered { service, memory, elapsed, away: Some(elapsed) }
        });
        let opened = self.count(|what| matches!(what, What::IncidentOpened { .. }));
        self.engine = Engine::new(7, opened as u64, remembered.collect());
        self.step(Input::PlanChanged(Box::new(self.plan.clone())));
        for (service, (instance, _)) in self.alive.clone() {
            self.observe(&service, Observation::Adopted(instance));
        }
        self.step(Input::Reconciled);
    }

    /// The same, and the life before has said all that it knew.
    pub(crate) fn hand_over(&mut self, away: Duration) {
        for (service, memory) in self.engine.memories(self.now) {
            self.written.insert(service.clone(), self.now);
            self.memories.insert(service, memory);
        }
        self.next_life(away);
    }

    fn begin(services: &[(&str, ServicePlan, Behaviour)], remembered: Vec<horus_core::Remembered>) -> Self {
        let mut plan = Plan::default();
        let mut behaviour = BTreeMap::new();
        for (text, service, doing) in services {
            plan.services.insert(name(text), service.clone());
            behaviour.insert(name(text), *doing);
        }
        let mut rig = Self {
            engine: Engine::new(7, 0, remembered),
            now: Mono::from_origin(Mono::ORIGIN_BEFORE_START),
            plan: plan.clone(),
            events: Vec::new(),
            told: Vec::new(),
            answers: BTreeMap::new(),
            memories: BTreeMap::new(),
            written: BTreeMap::new(),
            signals: Vec::new(),
            starts: Vec::new(),
            behaviour,
            alive: BTreeMap::new(),
            ignores_term: false,
            stopped: None,
            seen: None,
            cpu_step: 0,
            captures: true,
            confirms: true,
            gauges: BTreeMap::new(),
            finished: false,
            ticks: 0,
            cpu: 1,
            next_pid: 100,
            next_ticket: 1,
        };
        rig.step(Input::PlanChanged(Box::new(plan)));
        rig
    }

    /// When this world began.
    pub(crate) fn begun(&self) -> Mono {
        Mono::from_origin(Mono::ORIGIN_BEFORE_START)
    }

    pub(crate) fn change_plan(&mut self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.plan);
        let plan = self.plan.clone();
        self.step(Input::PlanChanged(Box::new(plan)));
    }

    pub(crate) fn step(&mut self, input: Input) {
        for command in self.engine.step(self.now, input) {
            self.obey(command);
        }
    }

    pub(crate) fn observe(&mut self, service: &ServiceName, observation: Observation) {
        self.step(Input::Service(service.clone(), observation));
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Start { service, generation, .. } => {
                self.starts.push((self.now, service.to_string()));
                self.next_pid += 1;
                let instance =
                    Instance { generation, process: ProcessId { pid: self.next_pid, start_time: 1 } };
                assert!(!self.alive.contains_key(&service), "{service} runs twice");
                self.alive.insert(service.clone(), (instance, self.now));
                self.observe(&service, Observation::Spawned(instance));
            }
            Command::Signal { service, signal, .. } => {
                self.signals.push((self.now, format!("{service} {signal}")));
                if !self.ignores_term {
                    self.end(&service, Exit::Signal(15));
                }
            }
            Command::KillTree { service, generation, .. } => {
                self.signals.push((self.now, format!("{service} SIGKILL")));
                self.end(&service, Exit::Signal(9));
                self.observe(&service, Observation::Gone { generation, killed: 1 });
            }
            Command::Capture { service, generation, stage, thread, .. } if self.captures => {
                self.cpu += self.cpu_step;
                let who = thread.map_or("main thread".to_owned(), |thread| format!("thread {thread}"));
                let finding = Finding {
                    phrase: format!("{who} sleeps in recvfrom on 10.0.0.7:443"),
                    place: Some("recvfrom".into()),
                    cpu_ns: Some(self.cpu),
                    stopped: self.stopped.clone(),
                    seen: self.seen,
                    ..Finding::default()
                };
                self.observe(&service, Observation::Captured { generation, stage, finding });
            }
            Command::Record(event) => self.events.push((self.now, event.subject, event.what)),
            Command::Tell(notice) => self.told.push((self.now, *notice)),
            Command::Remember { service, memory } => {
                self.written.insert(service.clone(), self.now);
                drop(self.memories.insert(service, *memory));
            }
            Command::Confirm { incident } if self.confirms => {
                self.step(Input::IncidentStored { incident, persisted: true })
            }
            Command::Answer { ticket, answer } => drop(self.answers.insert(ticket, answer)),
            Command::Finished => self.finished = true,
            Command::Capture { .. } | Command::Confirm { .. } => {}
            Command::Watch { .. } | Command::Hasten { .. } | Command::Unwatch { .. } => {}
        }
    }

    pub(crate) fn end(&mut self, service: &ServiceName, exit: Exit) {
        if let Some((instance, _)) = self.alive.remove(service) {
            let generation = instance.generation;
            self.observe(service, Observation::Exited { generation, exit, strays: 0 });
        }
    }

    /// Lets the world turn for so many seconds.
    pub(crate) fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now + SECOND;
            let living: Vec<_> =
                self.alive.iter().map(|(name, (i, since))| (name.clone(), *i, *since)).collect();
            for (service, instance, since) in living {
                let age = self.now.since(since).as_secs();
                let doing = self.behaviour[&service](age);
                self.do_it(&service, instance.generation, doing);
            }
            while self.engine.next_deadline().is_some_and(|due| due <= self.now) {
                self.step(Input::Wake);
            }
        }
    }

    fn do_it(&mut self, service: &ServiceName, generation: Generation, doing: Doing) {
        self.ticks += 1;
        let gauges = self.gauges.clone();
        let declared = (doing == Doing::Idles).then_some(Declared::Idle).or(Some(Declared::Ok));
        let beat = |tick, progress| Observation::Beat {
            generation,
            beat: Beat {
                source: BeatKind::Http,
                tick: Some(tick),
                progress,
                declared,
                gauges,
                loop_lag_ms: None,
            },
        };
        let miss = |fault, detail: &str| Observation::NoBeat {
            generation,
            source: BeatKind::Http,
            fault,
            detail: detail.into(),
        };
        let counters = BTreeMap::from([("filled".to_owned(), 0)]);
        let working = BTreeMap::from([("filled".to_owned(), self.ticks)]);
        match doing {
            Doing::Ticks => self.observe(service, beat(self.ticks, counters)),
            Doing::Works => self.observe(service, beat(self.ticks, working)),
            Doing::Lies | Doing::Idles => self.observe(service, beat(1, counters)),
            Doing::Hangs => self.observe(service, miss(ProbeFault::NoAnswer, "no answer in 1 s")),
            Doing::Unreachable => self.observe(service, miss(ProbeFault::NoPath, "connection refused")),
            Doing::Nothing => {}
            Doing::Exits(exit) => self.end(service, exit),
        }
    }

    pub(crate) fn ask(&mut self, request: OperatorRequest) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.step(Input::Operator { ticket, request });
        ticket
    }

    /// Events of one kind.
    pub(crate) fn count(&self, wanted: impl Fn(&What) -> bool) -> usize {
        self.events.iter().filter(|(_, _, what)| wanted(what)).count()
    }

    pub(crate) fn kills(&self) -> usize {
        self.count(|what| matches!(what, What::KillDecided { .. }))
    }

    pub(crate) fn stories(&self) -> Vec<&Story> {
        self.told.iter().map(|(_, notice)| &notice.story).collect()
    }

    pub(crate) fn pid(&self, service: &str) -> Option<i32> {
        self.alive.get(&name(service)).map(|(instance, _)| instance.process.pid)
    }

    /// Position of the first event that fits.
    pub(crate) fn place(&self, wanted: impl Fn(&What) -> bool) -> Option<usize> {
        self.events.iter().position(|(_, _, what)| wanted(what))
    }
}
