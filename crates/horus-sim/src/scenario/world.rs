//! The small world of a scenario: programs, keeper, probes, store, host and people around the real engine.
//!
//! ```text
//!   timeline --+
//!   agenda ----+--> the next instant --> inputs --> Engine::step --> commands --> agenda, lines
//!   engine ----+
//! ```
//!
//! Everybody obeys at once: the keeper starts and reports in the same instant, the store confirms, answers take no time
//! and silence takes the probe's timeout. Delays of those kinds are the swarm's business; here a reviewer should be able
//! to compute each line in his head.
//!
//! Two clocks: `now` is the engine's, which stands still while the machine is suspended; the time of a line is the true
//! one, which does not, and is not set either.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use horus_core::command::{Command, Memory, MemoryIncident};
use horus_core::event::{Event, What};
use horus_core::ids::{Generation, IncidentId, MonitorName, ServiceName};
use horus_core::notice::Notice;
use horus_core::observation::{Exit, Input, Observation, ProbeFault};
use horus_core::plan::{BeatKind, Plan};
use horus_core::reason::Rule;
use horus_core::time::Mono;
use horus_core::{Engine, Remembered};
use jiff::Timestamp;

use super::Scenario;
use super::lines::{self, Line, Mark};
use super::program::{Act, Program};
use super::sentences::{Deed, Pressure, StoreDeed};

/// The seed of every scenario: its jitter is part of its snapshot.
const SEED: u64 = 7;

/// The first pid that is handed out.
const FIRST_PID: i32 = 101;

/// Inputs that one instant may cause. More is a loop between engine and world.
const INPUTS_PER_INSTANT_MAX: u32 = 100_000;

/// Lines that are kept. More is no scenario that anybody reviews.
const LINES_MAX: usize = 200_000;

/// What came out of a scenario.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Everything that happened, in its order.
    pub lines: Vec<Line>,
    /// What may never happen in any world: a second instance, a start in spite of a hold.
    pub broken: Vec<String>,
    /// Kills by the judge, by service.
    pub kills: BTreeMap<String, u64>,
    /// Starts, by service.
    pub starts: BTreeMap<String, u64>,
    /// Signals of any kind.
    pub signals: u64,
    /// Messages to people, new versions counted.
    pub messages: u64,
    /// Kinds of incidents of which people were told, in the order of the first time.
    pub told: Vec<String>,
    /// Incidents that are open at the end: "bot stuck".
    pub open: Vec<String>,
    /// Services that run at the end.
    pub up: Vec<String>,
}

/// Something that will happen.
#[derive(Clone, Debug)]
pub(super) enum Plot {
    Poll { service: ServiceName, source: usize, watch: u64 },
    Push { service: ServiceName, source: usize, watch: u64 },
    Missed { service: ServiceName, source: BeatKind, fault: ProbeFault, detail: String, watch: u64 },
    Ends { service: ServiceName, generation: Generation, exit: Exit },
    TroubleEnds { service: ServiceName, generation: Generation, trouble: u64 },
    Habit { service: ServiceName, generation: Generation, act: Act },
    MonitorPoll { monitor: MonitorName, watch: u64 },
    HostLook,
    Rebirth,
    KeeperBack,
    Awake,
}

/// How a run is watched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    pub(super) generation: Generation,
    pub(super) number: u64,
    pub(super) fast: bool,
    pub(super) said_ready: bool,
}

/// An open incident, as the store knows it.
#[derive(Clone, Debug)]
pub(super) struct Open {
    subject: String,
    opened: Mono,
    memory: MemoryIncident,
}

pub(super) struct World<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) engine: Option<Engine>,
    pub(super) plan: Plan,
    pub(super) begin: Mono,
    pub(super) now: Mono,
    pub(super) slept: Duration,
    pub(super) clock_set_ms: i64,
    pub(super) agenda: BTreeMap<(Mono, u64), Plot>,
    pub(super) plotted: u64,
    pub(super) queue: VecDeque<Input>,
    /// Horus stands still until then.
    pub(super) late_until: Option<Mono>,
    pub(super) keeper_lost: bool,
    pub(super) programs: BTreeMap<ServiceName, Program>,
    pub(super) watches: BTreeMap<ServiceName, Watch>,
    pub(super) watched: u64,
    pub(super) strays: BTreeMap<ServiceName, u32>,
    pub(super) monitors: BTreeMap<MonitorName, Option<String>>,
    pub(super) monitors_watch: u64,
    pub(super) store: StoreDeed,
    pub(super) dead_sinks: BTreeMap<String, String>,
    pub(super) memories: BTreeMap<ServiceName, (Memory, Mono)>,
    pub(super) held: BTreeSet<ServiceName>,
    pub(super) incidents: BTreeMap<IncidentId, Open>,
    /// Those about which people have a message.
    shown: BTreeSet<IncidentId>,
    pub(super) incidents_opened: u64,
    pub(super) pressures: BTreeMap<u8, (Pressure, f64, Mono)>,
    pub(super) canary_until: Option<Mono>,
    pub(super) host_looks: bool,
    pub(super) phases: BTreeMap<String, String>,
    pub(super) next_pid: i32,
    pub(super) next_ticket: u64,
    pub(super) finished: bool,
    pub(super) run: Run,
}

/// Lives a scenario through.
pub(super) fn run(scenario: &Scenario) -> Run {
    let mut world = World::new(scenario);
    let habits =
        scenario.steps.iter().take_while(|step| step.at.is_zero() && matches!(step.deed, Deed::Habit(..)));
    let first = habits.count();
    scenario.steps[..first].iter().for_each(|step| world.take(step));
    world.be_born();
    world.live(first);
    world.end()
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let begin = Mono::from_origin(Mono::ORIGIN_BEFORE_START);
        Self {
            scenario,
            engine: None,
            plan: scenario.plan.clone(),
            begin,
            now: begin,
            slept: Duration::ZERO,
            clock_set_ms: 0,
            agenda: BTreeMap::new(),
            plotted: 0,
            queue: VecDeque::new(),
            late_until: None,
            keeper_lost: false,
            programs: BTreeMap::new(),
            watches: BTreeMap::new(),
            watched: 0,
            strays: BTreeMap::new(),
            monitors: BTreeMap::new(),
            monitors_watch: 0,
            store: StoreDeed::Works,
            dead_sinks: BTreeMap::new(),
            memories: BTreeMap::new(),
            held: BTreeSet::new(),
            incidents: BTreeMap::new(),
            shown: BTreeSet::new(),
            incidents_opened: 0,
            pressures: BTreeMap::new(),
            canary_until: None,
            host_looks: false,
            phases: BTreeMap::new(),
            next_pid: FIRST_PID,
            next_ticket: 1,
            finished: false,
            run: Run::default(),
        }
    }

    // --- time ---

    /// True time since the beginning.
    pub(super) fn at(&self) -> Duration {
        self.now.since(self.begin) + self.slept
    }

    /// The engine's instant of a true time.
    fn instant(&self, at: Duration) -> Mono {
        self.begin + at.saturating_sub(self.slept)
    }

    pub(super) fn wall(&self) -> Timestamp {
        let passed = i64::try_from(self.at().as_millis()).unwrap_or(i64::MAX);
        let shift = jiff::SignedDuration::from_millis(passed.saturating_add(self.clock_set_ms));
        self.scenario.begins.checked_add(shift).unwrap_or(self.scenario.begins)
    }

    pub(super) fn plot(&mut self, at: Mono, plot: Plot) {
        self.plotted += 1;
        self.agenda.insert((at, self.plotted), plot);
    }

    fn live(&mut self, mut next_step: usize) {
        loop {
            self.drain();
            let step = self.scenario.steps.get(next_step);
            let due = step.map(|step| self.instant(step.at).max(self.now));
            let plotted = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let awake = self.late_until.is_none();
            let wake = self.engine.as_ref().filter(|_| awake).and_then(Engine::next_deadline);
            let Some(next) = [due, plotted, wake].into_iter().flatten().min() else { break };
            if next > self.instant(self.scenario.until) || self.finished || self.run.lines.len() > LINES_MAX {
                break;
            }
            self.now = next.max(self.now);
            if due == Some(next)
                && let Some(step) = step
            {
                next_step += 1;
                self.take(step);
            } else if plotted == Some(next) {
                if let Some((_, plot)) = self.agenda.pop_first() {
                    self.happen(plot);
                }
            } else {
                self.queue.push_back(Input::Wake);
            }
        }
    }

    fn end(mut self) -> Run {
        self.run.open = self
            .incidents
            .values()
            .map(|open| format!("{} {}", open.subject, open.memory.kind.word()))
            .collect();
        let living = self.programs.iter().filter(|(_, program)| program.life.is_some());
        self.run.up = living.map(|(name, _)| name.to_string()).collect();
        self.run
    }

    // --- the engine ---

    /// Gives the engine everything that waits for it.
    fn drain(&mut self) {
        if self.late_until.is_some() {
            return;
        }
        let mut budget = INPUTS_PER_INSTANT_MAX;
        while let Some(input) = self.queue.pop_front() {
            let Some(engine) = &mut self.engine else { continue };
            let commands = engine.step(self.now, input);
            for command in commands {
                self.obey(command);
            }
            budget -= 1;
            if budget == 0 {
                self.run.broken.push("engine and world answer each other without an end".into());
                self.queue.clear();
                self.finished = true;
            }
        }
    }

    /// Something seen by a probe.
    pub(super) fn tell(&mut self, service: &ServiceName, observation: Observation) {
        if self.engine.is_some() {
            self.queue.push_back(Input::Service(service.clone(), observation));
        }
    }

    /// Something seen by the keeper.
    pub(super) fn report(&mut self, service: &ServiceName, observation: Observation) {
        if !self.keeper_lost {
            self.tell(service, observation);
        }
    }

    pub(super) fn be_born(&mut self) {
        let remembered = self.memories.iter().map(|(service, (memory, written))| Remembered {
            service: service.clone(),
            memory: memory.clone(),
            elapsed: self.now.since(*written),
            away: Some(self.now.since(*written)),
        });
        let mut orphans: BTreeMap<String, Vec<MemoryIncident>> = BTreeMap::new();
        let monitored = |open: &&Open| self.plan.monitors.keys().any(|name| name.as_str() == open.subject);
        for open in self.incidents.values().filter(monitored) {
            let memory = MemoryIncident { age: self.now.since(open.opened), ..open.memory.clone() };
            orphans.entry(open.subject.clone()).or_default().push(memory);
        }
        let engine = Engine::with_orphans(SEED, self.incidents_opened, remembered.collect(), orphans);
        self.engine = Some(engine);
        self.queue.clear();
        self.queue.push_back(Input::Wall(self.wall()));
        self.queue.push_back(Input::PlanChanged(Box::new(self.plan.clone())));
        self.end_the_incidents_of_nobody();
        self.reconcile();
        self.watch_monitors();
    }

    /// As the daemon does: what an earlier Horus found wrong with itself ends with it, and is told anew if it lasts.
    fn end_the_incidents_of_nobody(&mut self) {
        let known = |name: &str| {
            super::service(&self.plan, name).is_some()
                || self.plan.monitors.keys().any(|it| it.as_str() == name)
        };
        let gone: Vec<IncidentId> =
            self.incidents.iter().filter(|(_, open)| !known(&open.subject)).map(|(id, _)| *id).collect();
        for id in gone {
            if let Some(open) = self.incidents.remove(&id) {
                self.note(
                    &open.subject,
                    Mark::Incident,
                    format!("{id} closed with the Horus that opened it"),
                );
            }
        }
        if self.store != StoreDeed::Works {
            self.tell_store();
        }
        for (sink, fault) in self.dead_sinks.clone() {
            self.queue.push_back(Input::SinkHealth { sink, fault: Some(fault) });
        }
    }

    /// The keeper tells what it has.
    pub(super) fn reconcile(&mut self) {
        self.keeper_lost = false;
        let believed: BTreeMap<ServiceName, Generation> =
            self.engine.as_ref().map(Engine::living).unwrap_or_default().into_iter().collect();
        let started =
            |name: &ServiceName| self.memories.get(name).is_some_and(|(memory, _)| memory.may_live());
        let mut news = Vec::new();
        for (name, program) in &self.programs {
            if let Some(life) = &program.life {
                news.push((name.clone(), Observation::Adopted(life.instance)));
            } else if let Some((instance, exit)) = program.ended {
                let generation = instance.generation;
                let mine = believed.get(name) == Some(&generation);
                let missed =
                    self.memories.get(name).is_some_and(|(memory, _)| memory.generation == generation);
                if !mine && missed && started(name) {
                    news.push((name.clone(), Observation::Adopted(instance)));
                }
                if mine || (missed && started(name)) {
                    news.push((name.clone(), Observation::Exited { generation, exit, strays: 0 }));
                }
            }
        }
        for (name, observation) in news {
            self.tell(&name, observation);
        }
        self.queue.push_back(Input::Reconciled);
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Start { service, generation, .. } => self.start(&service, generation),
            Command::Signal { service, generation, reason, .. } => {
                self.run.signals += 1;
                if !ordered(reason.rule) {
                    *self.run.kills.entry(service.to_string()).or_default() += 1;
                    if self.held.contains(&service) {
                        self.run.broken.push(format!("{service} is killed in spite of its hold"));
                    }
                }
                self.signal(&service, generation);
            }
            Command::KillTree { service, generation, .. } => {
                self.run.signals += 1;
                self.kill_tree(&service, generation);
            }
            Command::Watch { service, generation } => self.watch(&service, generation),
            Command::Hasten { service, fast } => {
                if let Some(watch) = self.watches.get_mut(&service) {
                    watch.fast = fast;
                }
            }
            Command::Unwatch { service } => drop(self.watches.remove(&service)),
            Command::Capture { service, generation, stage, .. } => {
                let Some(program) = self.programs.get(&service) else { return };
                let finding = program.finding(stage, self.now);
                self.tell(&service, Observation::Captured { generation, stage, finding });
            }
            Command::Record(event) => self.record(&event),
            Command::Tell(notice) => self.show(&notice),
            Command::Remember { service, memory } => {
                if self.store != StoreDeed::Full {
                    self.memories.insert(service, (*memory, self.now));
                }
            }
            Command::Confirm { incident } => {
                if self.store != StoreDeed::Silent {
                    let persisted = self.store == StoreDeed::Works;
                    self.queue.push_back(Input::IncidentStored { incident, persisted });
                }
            }
            Command::Answer { answer, .. } => self.run.lines.push(lines::of_answer(self.at(), &answer)),
            Command::Finished => {
                self.note("horus", Mark::Note, "ends");
                self.finished = true;
            }
        }
    }

    pub(super) fn note(&mut self, subject: &str, mark: Mark, what: impl Into<String>) {
        let line = Line::new(self.at(), subject, mark, what);
        self.run.lines.push(line);
    }

    fn record(&mut self, event: &Event) {
        match (&event.what, event.incident) {
            (What::IncidentOpened { kind, severity, .. }, Some(id)) => {
                self.incidents_opened += 1;
                let memory = MemoryIncident {
                    id,
                    kind: *kind,
                    detail: String::new(),
                    version: 0,
                    age: Duration::ZERO,
                    severity: *severity,
                    needs_you: false,
                    answered: false,
                    muted: None,
                    rang: true,
                    rang_for_help: false,
                };
                let open = Open { subject: event.subject.clone(), opened: self.now, memory };
                self.incidents.insert(id, open);
            }
            (What::IncidentClosed { .. }, Some(id)) => drop(self.incidents.remove(&id)),
            (What::HoldSet { .. }, _) => self.held.extend(super::service(&self.plan, &event.subject)),
            (What::HoldEnded { .. }, _) => self.held.retain(|name| name.as_str() != event.subject),
            _ => {}
        }
        let at = self.at();
        let phase = self.phases.entry(event.subject.clone()).or_insert_with(|| "down".to_owned());
        self.run.lines.extend(lines::of_event(at, event, phase));
    }

    fn show(&mut self, notice: &Notice) {
        if let Some(open) = self.incidents.get_mut(&notice.incident) {
            open.memory.version = notice.version;
            open.memory.needs_you = notice.needs_you;
            open.memory.answered = notice.story.is_end();
        }
        // What another incident tells of begins no message.
        if notice.within.is_some() && !self.shown.contains(&notice.incident) {
            return;
        }
        self.shown.insert(notice.incident);
        self.run.messages += 1;
        let kind = notice.kind.word().to_owned();
        if !self.run.told.contains(&kind) {
            self.run.told.push(kind);
        }
        let line = lines::of_notice(self.at(), notice);
        self.run.lines.push(line);
    }
}

/// A signal that a person, the plan or the end of Horus asked for: no kill.
fn ordered(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::Operator | Rule::Held | Rule::Reload | Rule::ShutDown | Rule::Wanted | Rule::Maintenance
    )
}
