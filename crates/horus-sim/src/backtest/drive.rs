//! One policy, driven over a history: the real engine, recorded lives, and a keeper that obeys.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use horus_core::Engine;
use horus_core::command::Command;
use horus_core::event::{Event, What};
use horus_core::ids::{Generation, IncidentId, Instance, ProcessId, ServiceName};
use horus_core::notice::{IncidentKind, Notice, Story};
use horus_core::observation::{CaptureStage, Exit, Finding, Input, Observation};
use horus_core::plan::{Plan, ServicePlan, Severity};
use horus_core::time::Mono;
use horus_core::verdict::Verdict;

use super::lives::{Ending, Happened, History, Life};
use super::player::{Played, Player};

/// A program ends so long after a signal.
pub const ENDS_AFTER: Duration = Duration::from_millis(100);

/// A start takes so long.
pub const STARTS_AFTER: Duration = Duration::from_millis(20);

/// Ticks are thinned out to so many in the shortest limit.
pub const TICKS_PER_LIMIT: u32 = 5;

/// The seed of the engine's jitter.
const SEED: u64 = 0x4852_5553;

/// Patterns that are kept per service.
const NAMED_MAX: usize = 16;

/// By what a history is judged.
#[derive(Clone, Copy, Debug)]
pub enum Policy<'a> {
    /// By one plan from the beginning to the end.
    Fixed(&'a Plan),
    /// By the plans of that time; what was not recorded is judged by another one.
    Recorded {
        /// By this one.
        otherwise: &'a Plan,
    },
}

/// What came of it, by service.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub(super) services: BTreeMap<ServiceName, Doings>,
}

/// What one policy did to one service.
#[derive(Clone, Debug, Default)]
pub(super) struct Doings {
    pub(super) kills: Vec<KillSeen>,
    pub(super) forbidden: u32,
    pub(super) told: BTreeMap<IncidentId, (IncidentKind, Severity)>,
    pub(super) breaker_opened: Vec<Mono>,
    pub(super) named: Vec<String>,
    pub(super) starts: u32,
    /// By life and its last fresh tick: after how long there was a verdict.
    pub(super) verdicts: BTreeMap<(usize, Mono), Duration>,
    /// How far each life was played: its last fresh tick.
    pub(super) reached: BTreeMap<usize, Mono>,
}

/// A kill, and where in which life it was.
#[derive(Clone, Debug)]
pub(super) struct KillSeen {
    pub(super) at: Mono,
    pub(super) run: Generation,
    pub(super) age: Duration,
    pub(super) reason: String,
    pub(super) number: u32,
    pub(super) limit: u32,
    pub(super) life: usize,
    pub(super) recorded: Mono,
}

/// Something that the keeper does a little later.
#[derive(Clone, Debug)]
enum Later {
    Spawned(ServiceName, Generation),
    Ended(ServiceName, Generation, Exit),
    Gone(ServiceName, Generation),
}

struct Drive<'a> {
    history: &'a History,
    candidate: Option<&'a Plan>,
    plan: Plan,
    otherwise: &'a Plan,
    engine: Engine,
    now: Mono,
    later: BTreeMap<(Mono, u64), Later>,
    count: u64,
    playing: BTreeMap<ServiceName, Player>,
    /// The last life that each service was given.
    given: BTreeMap<ServiceName, usize>,
    outcome: Outcome,
}

/// Drives one policy from the beginning of a history to its end.
pub fn drive(history: &History, policy: &Policy<'_>) -> Outcome {
    let (candidate, otherwise) = match policy {
        Policy::Fixed(plan) => (Some(*plan), *plan),
        Policy::Recorded { otherwise } => (None, *otherwise),
    };
    let mut plan = Plan { daemon: otherwise.daemon.clone(), ..Plan::default() };
    plan.maintenance.clone_from(&otherwise.maintenance);
    let mut drive = Drive {
        history,
        candidate,
        plan,
        otherwise,
        engine: Engine::new(SEED, 0, Vec::new()),
        now: history.start,
        later: BTreeMap::new(),
        count: 0,
        playing: BTreeMap::new(),
        given: BTreeMap::new(),
        outcome: Outcome::default(),
    };
    drive.step(Input::Wall(history.from));
    drive.follow_plan();
    drive.step(Input::Reconciled);
    drive.run();
    drive.outcome
}

impl<'a> Drive<'a> {
    fn run(&mut self) {
        let mut happened = self.history.happened.iter().peekable();
        let mut enters: Vec<(Mono, ServiceName)> = self
            .history
            .services
            .keys()
            .filter_map(|name| Some((self.history.enters(name)?, name.clone())))
            .collect();
        enters.sort();
        let mut enters = enters.into_iter().peekable();
        loop {
            let world = [happened.peek().map(|(at, _)| *at), enters.peek().map(|(at, _)| *at)];
            let later = self.later.keys().next().map(|(at, _)| *at);
            let playing = self.playing.values_mut().filter_map(Player::next_at).min();
            let due = self.engine.next_deadline();
            let next = world.into_iter().flatten().chain(later).chain(playing).chain(due).min();
            let Some(next) = next.filter(|next| *next <= self.history.end) else { break };
            self.now = self.after_what_nobody_saw(next.max(self.now));
            while let Some((_, name)) = enters.next_if(|(at, _)| *at <= self.now) {
                self.enter(name);
            }
            while let Some((_, what)) = happened.next_if(|(at, _)| *at <= self.now) {
                self.happen(what);
            }
            self.do_later();
            self.play();
            if self.engine.next_deadline().is_some_and(|due| due <= self.now) {
                self.step(Input::Wake);
            }
        }
    }

    /// In times in which nobody looked, nobody looks now either; the engine finds itself late.
    fn after_what_nobody_saw(&self, at: Mono) -> Mono {
        let index = self.history.unobserved.partition_point(|(from, _)| *from < at);
        let span = index.checked_sub(1).and_then(|index| self.history.unobserved.get(index));
        span.map_or(at, |(_, to)| at.max(*to))
    }

    fn enter(&mut self, name: ServiceName) {
        let plan = self.plan.services.get(&name).or_else(|| self.otherwise.services.get(&name)).cloned();
        if let Some(plan) = plan {
            self.plan.services.insert(name, plan);
            self.follow_plan();
        }
    }

    fn happen(&mut self, what: &Happened) {
        match what {
            Happened::Planned(name, plan) if self.candidate.is_none() => {
                let entered = self.history.enters(name).is_some_and(|at| at <= self.now);
                self.plan.services.insert(name.clone(), (**plan).clone());
                if entered {
                    self.follow_plan();
                }
            }
            Happened::Planned(name, _) => {
                // It may come back after it had left.
                let entered = self.history.enters(name).is_some_and(|at| at <= self.now);
                if entered && !self.plan.services.contains_key(name) {
                    self.enter(name.clone());
                }
            }
            Happened::Unplanned(name) => {
                self.plan.services.remove(name);
                self.follow_plan();
            }
            Happened::Mode(mode) if self.candidate.is_none() => {
                self.plan.daemon.mode = *mode;
                self.follow_plan();
            }
            Happened::Mode(_) => {}
            Happened::Host(seen) => self.step(Input::Host(seen.clone())),
            Happened::Asked(request) => {
                self.count += 1;
                let (ticket, request) = (self.count, request.clone());
                self.step(Input::Operator { ticket, request });
            }
        }
    }

    /// The plan as far as the history has come: a service enters it when it was first heard of.
    fn follow_plan(&mut self) {
        let entered: BTreeSet<ServiceName> = self
            .plan
            .services
            .keys()
            .filter(|name| self.history.enters(name).is_some_and(|at| at <= self.now))
            .cloned()
            .collect();
        let mut plan = self.plan.clone();
        plan.services.retain(|name, _| entered.contains(name));
        for service in plan.services.values_mut() {
            service.after.retain(|name| entered.contains(name));
        }
        self.step(Input::PlanChanged(Box::new(plan)));
    }

    fn do_later(&mut self) {
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (service, observation) = match entry.remove() {
                Later::Spawned(service, generation) => (service.clone(), self.spawned(&service, generation)),
                Later::Ended(service, generation, exit) => {
                    if self.playing.get(&service).is_none_or(|player| player.generation != generation) {
                        continue;
                    }
                    self.playing.remove(&service);
                    (service, Observation::Exited { generation, exit, strays: 0 })
                }
                Later::Gone(service, generation) => (service, Observation::Gone { generation, killed: 1 }),
            };
            self.step(Input::Service(service, observation));
        }
    }

    fn spawned(&mut self, service: &ServiceName, generation: Generation) -> Observation {
        let lives = self.lives(service);
        let Some(index) = self.choose(service, lives) else {
            return Observation::SpawnFailed { generation, error: "nothing was recorded of it".into() };
        };
        let life = &lives[index];
        self.given.insert(service.clone(), index);
        if let Ending::StartFailed(error) = &life.ending {
            return Observation::SpawnFailed { generation, error: error.clone() };
        }
        let thin = self.plan.services.get(service).map_or(Duration::ZERO, thin);
        let player = Player::new(generation, self.now, index, life, lives.get(index + 1), thin);
        self.playing.insert(service.clone(), player);
        let pid = i32::try_from(self.count % 1_000_000 + 1).unwrap_or(1);
        let process = ProcessId { pid, start_time: self.count };
        Observation::Spawned(Instance { generation, process })
    }

    fn lives(&self, service: &ServiceName) -> &'a [Life] {
        let history: &'a History = self.history;
        history.services.get(service).map_or(&[], |recorded| &recorded.lives)
    }

    /// The life for a start at this moment.
    fn choose(&self, service: &ServiceName, lives: &[Life]) -> Option<usize> {
        let behind = lives.partition_point(|life| life.born <= self.now);
        let current = behind.checked_sub(1).filter(|index| lives[*index].until > self.now);
        let wanted = current.unwrap_or(behind);
        let unused = self.given.get(service).map_or(0, |given| given + 1);
        let index = wanted.max(unused);
        Some(index.min(lives.len().checked_sub(1)?))
    }

    fn play(&mut self) {
        let names: Vec<ServiceName> = self.playing.keys().cloned().collect();
        for name in names {
            let lives = self.lives(&name);
            let now = self.now;
            let Some(player) = self.playing.get_mut(&name) else { continue };
            if player.next_at().is_none_or(|at| at > now) {
                continue;
            }
            let generation = player.generation;
            let played = player.play(now, lives);
            let (index, last_fresh) = (player.index, player.last_fresh);
            self.given.insert(name.clone(), index);
            if let Some(last_fresh) = last_fresh {
                let reached = self.doings(&name).reached.entry(index).or_insert(last_fresh);
                *reached = last_fresh.max(*reached);
            }
            for played in played {
                match played {
                    Played::Says(observation) => self.step(Input::Service(name.clone(), observation)),
                    Played::Ends => {
                        self.playing.remove(&name);
                        let (exit, strays) = match &lives[index].ending {
                            Ending::Itself { exit, strays } => (*exit, *strays),
                            _ => (Exit::Unknown, 0),
                        };
                        let ended = Observation::Exited { generation, exit, strays };
                        self.step(Input::Service(name.clone(), ended));
                    }
                }
            }
        }
    }

    fn step(&mut self, input: Input) {
        let mut inputs = std::collections::VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for command in self.engine.step(self.now, input) {
                self.obey(command, &mut inputs);
            }
        }
    }

    fn obey(&mut self, command: Command, inputs: &mut std::collections::VecDeque<Input>) {
        match command {
            Command::Start { service, generation, .. } => {
                self.doings(&service).starts += 1;
                self.after(STARTS_AFTER, Later::Spawned(service, generation));
            }
            Command::Signal { service, generation, .. } => {
                self.after(ENDS_AFTER, Later::Ended(service, generation, Exit::Signal(15)));
            }
            Command::KillTree { service, generation, .. } => {
                self.after(ENDS_AFTER, Later::Ended(service.clone(), generation, Exit::Signal(9)));
                self.after(ENDS_AFTER, Later::Gone(service, generation));
            }
            Command::Capture { service, generation, stage, .. } => {
                let finding = self.capture(&service, stage);
                let captured = Observation::Captured { generation, stage, finding };
                inputs.push_back(Input::Service(service, captured));
            }
            Command::Confirm { incident } => {
                inputs.push_back(Input::IncidentStored { incident, persisted: true });
            }
            Command::Record(event) => self.note(*event),
            Command::Tell(notice) => self.hear_told(*notice),
            Command::Watch { .. }
            | Command::Hasten { .. }
            | Command::Unwatch { .. }
            | Command::Remember { .. }
            | Command::Answer { .. }
            | Command::Finished => {}
        }
    }

    fn after(&mut self, wait: Duration, later: Later) {
        self.count += 1;
        self.later.insert((self.now + wait, self.count), later);
    }

    fn capture(&mut self, service: &ServiceName, stage: CaptureStage) -> Finding {
        let now = self.now;
        match self.playing.get_mut(service) {
            Some(player) if stage != CaptureStage::Exit => player.capture(now),
            _ => Finding::default(),
        }
    }

    fn doings(&mut self, service: &ServiceName) -> &mut Doings {
        self.outcome.services.entry(service.clone()).or_default()
    }

    fn note(&mut self, event: Event) {
        let Ok(service) = ServiceName::parse(&event.subject) else { return };
        let (now, player) = (self.now, self.playing.get(&service));
        let place = player.map(|player| (player.index, player.recorded(now), now.since(player.born)));
        let silence =
            player.and_then(|player| Some((player.index, player.last_fresh?, player.last_fresh_heard?)));
        match event.what {
            What::KillDecided { reason, kill, limit } => {
                let (life, recorded, age) = place.unwrap_or_default();
                let run = event.generation.unwrap_or_default();
                let reason = reason.text;
                let seen = KillSeen { at: now, run, age, reason, number: kill, limit, life, recorded };
                self.doings(&service).kills.push(seen);
            }
            What::WouldHave { .. } => self.doings(&service).forbidden += 1,
            What::BreakerOpened { .. } => self.doings(&service).breaker_opened.push(now),
            // The incident may be open still from the hang before; the verdict is a new one each time.
            What::IncidentOpened { kind: IncidentKind::Stuck, .. }
            | What::Judged {
                to: Verdict::Silent | Verdict::Lying | Verdict::Blocked | Verdict::Spinning,
                ..
            } => {
                if let Some((life, last_fresh, heard)) = silence {
                    let delay = now.since(heard);
                    self.doings(&service).verdicts.entry((life, last_fresh)).or_insert(delay);
                }
            }
            _ => {}
        }
    }

    fn hear_told(&mut self, notice: Notice) {
        let Ok(service) = ServiceName::parse(&notice.subject) else { return };
        let doings = self.doings(&service);
        let told = doings.told.entry(notice.incident).or_insert((notice.kind, notice.severity));
        told.1 = told.1.max(notice.severity);
        if let Story::SameAge { deaths, every, .. } = notice.story
            && doings.named.len() < NAMED_MAX
        {
            let seconds = (every.as_secs_f64() * 10.0).round() / 10.0;
            doings.named.push(format!("dies every {seconds} s ({deaths} deaths in a row)"));
        }
    }
}

/// How far apart played ticks may be without any threshold noticing.
fn thin(plan: &ServicePlan) -> Duration {
    let stalls = plan.progress.values().map(|progress| progress.stalled);
    stalls.chain([plan.deadline]).min().unwrap_or_default() / TICKS_PER_LIMIT
}
