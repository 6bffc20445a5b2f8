//! A world for one engine, in which nothing is real: a keeper that obeys at once, a store that confirms at once, and
//! programs that do what a drill says. Time jumps from one thing that is due to the next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use horus_core::Engine;
use horus_core::command::Command;
use horus_core::ids::{Generation, Instance, MonitorName, ProcessId, ServiceName};
use horus_core::observation::{
    Beat, Declared, Exit, Finding, HostObservation, Input, KernelView, KernelWord, LoopSeen,
    MonitorObservation, Observation, OperatorRequest, ProbeFault,
};
use horus_core::plan::{BeatPlan, Plan, ServicePlan};
use horus_core::time::Mono;
use jiff::Timestamp;

use super::traces::Traces;

/// An engine that asks for more steps than this in one situation is stopped: something does not end.
pub(crate) const STEPS_MAX: u64 = 4_000_000;

/// A program beats so many times within its shortest limit. Nothing that is measured depends on it: a fault begins right
/// after a beat.
const BEATS_IN_A_LIMIT: u32 = 5;

/// Never more often than this.
const PACE_MIN: Duration = Duration::from_millis(10);

/// How often it is told what the kernel shows.
const VIEW_EVERY: Duration = Duration::from_secs(5);

/// The seed of the engine's jitter: a selftest is the same every time.
const SEED: u64 = 7;

/// The time of day at which every sandbox begins, a Thursday.
const BEGINS_AT_SECONDS: i64 = 1_767_268_800;

/// What a program's beat sources show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shows {
    /// Its loop turns.
    Ticks,
    /// Its loop is dead, and something in it still answers: what a source then says depends on the source.
    OldTick,
    /// Whoever asks hears this.
    Nothing(ProbeFault),
    /// It ends.
    Ends(Exit),
}

/// How a program behaves.
#[derive(Clone, Debug)]
pub(crate) struct Conduct {
    pub(crate) shows: Shows,
    /// Counters that stand still; all others of the plan move with every beat.
    pub(crate) still: BTreeSet<String>,
    /// Gauges that show something else than what the plan asks for.
    pub(crate) gauges: BTreeMap<String, f64>,
    pub(crate) declared: Option<Declared>,
    /// Where a capture sees its loop.
    pub(crate) seen: Option<LoopSeen>,
}

impl Conduct {
    /// Everything is well.
    pub(crate) fn well() -> Self {
        let (still, gauges) = (BTreeSet::new(), BTreeMap::new());
        Self { shows: Shows::Ticks, still, gauges, declared: None, seen: None }
    }

    /// Well, but for what its sources show.
    pub(crate) fn shows(shows: Shows) -> Self {
        Self { shows, ..Self::well() }
    }
}

/// What becomes of a program that is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It ends.
    Obeys,
    /// Only SIGKILL ends it.
    Resists,
    /// Not even that, for so many tries.
    Survives(u32),
}

/// A program: well at first, perhaps ill from a certain age on.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) well: Conduct,
    pub(crate) ill: Conduct,
    /// The age at which it falls ill.
    pub(crate) falls_ill: Option<Duration>,
    /// So many of its runs fall ill.
    pub(crate) ill_runs: u32,
    /// It cannot be started.
    pub(crate) start_fault: Option<String>,
    /// What it needs for itself is held: by whom.
    pub(crate) lock_held: Option<String>,
    pub(crate) ending: Ending,
    /// So many processes outlive it.
    pub(crate) strays: u32,
}

impl Program {
    /// Well for ever.
    pub(crate) fn well() -> Self {
        let (well, ill) = (Conduct::well(), Conduct::well());
        let (falls_ill, start_fault, lock_held) = (None, None, None);
        let (ending, strays) = (Ending::Obeys, 0);
        Self { well, ill, falls_ill, ill_runs: u32::MAX, start_fault, lock_held, ending, strays }
    }

    /// Well until this age, in every run.
    pub(crate) fn ill_from(age: Duration, ill: Conduct) -> Self {
        Self { falls_ill: Some(age), ill, ..Self::well() }
    }
}

/// A running program.
#[derive(Clone, Debug)]
struct Living {
    instance: Instance,
    tick: u64,
    next: Mono,
    falls_ill: Option<Mono>,
    ill: bool,
    kills: u32,
}

/// The world.
pub(crate) struct Sandbox {
    engine: Engine,
    pub(crate) now: Mono,
    plan: Plan,
    programs: BTreeMap<ServiceName, Program>,
    runs: BTreeMap<ServiceName, u32>,
    living: BTreeMap<ServiceName, Living>,
    monitors: BTreeMap<MonitorName, (bool, Mono)>,
    reports: VecDeque<Input>,
    next_pid: i32,
    next_ticket: u64,
    pub(crate) steps: u64,
    pub(crate) traces: Traces,
    /// When a program first fell ill.
    pub(crate) fell_ill: Option<Mono>,
    slept: Duration,
    /// The most exits within the crash-loop window that the engine has seen.
    pub(crate) most_exits: u32,
}

impl Sandbox {
    /// An engine with this plan, whose programs are all well.
    pub(crate) fn new(plan: Plan) -> Self {
        let mut sandbox = Self {
            engine: Engine::new(SEED, 0, Vec::new()),
            now: Mono::from_origin(Mono::ORIGIN_BEFORE_START),
            plan: Plan::default(),
            programs: BTreeMap::new(),
            runs: BTreeMap::new(),
            living: BTreeMap::new(),
            monitors: BTreeMap::new(),
            reports: VecDeque::new(),
            next_pid: 100,
            next_ticket: 1,
            steps: 0,
            traces: Traces::default(),
            fell_ill: None,
            slept: Duration::ZERO,
            most_exits: 0,
        };
        sandbox.step(Input::Wall(sandbox.time_of_day()));
        sandbox.step(Input::Reconciled);
        sandbox.plan = plan;
        sandbox
    }

    /// How the program of a service behaves, from its next run on; before [`Self::begin`], from the first.
    pub(crate) fn program(mut self, service: &ServiceName, program: Program) -> Self {
        self.programs.insert(service.clone(), program);
        self
    }

    /// The plan comes into force.
    pub(crate) fn begin(mut self) -> Self {
        let plan = self.plan.clone();
        self.change_plan(plan);
        self
    }

    /// Another plan comes into force.
    pub(crate) fn change_plan(&mut self, plan: Plan) {
        self.monitors = plan.monitors.keys().map(|name| (name.clone(), (true, self.now))).collect();
        self.plan = plan.clone();
        self.step(Input::PlanChanged(Box::new(plan)));
    }

    /// A well program behaves like this from now on.
    pub(crate) fn behave(&mut self, service: &ServiceName, conduct: Conduct) {
        self.programs.entry(service.clone()).or_insert_with(Program::well).well = conduct;
        if let Some(living) = self.living.get_mut(service) {
            living.next = self.now;
        }
    }

    /// The kernel shows this of the instance for so long.
    pub(crate) fn see(&mut self, service: &ServiceName, word: KernelWord, time: Duration) {
        let begun = self.now;
        while self.now.since(begun) < time && self.steps < STEPS_MAX {
            let Some(generation) = self.living.get(service).map(|living| living.instance.generation) else {
                return;
            };
            let lasted = self.now.since(begun);
            let phrase = format!("{} in the selftest", word.word());
            let view = KernelView { word, lasted, alone: true, thread: None, held: None, phrase };
            self.step(Input::Service(service.clone(), Observation::KernelView { generation, view }));
            self.run(VIEW_EVERY);
        }
    }

    /// `WATCHDOG=trigger`.
    pub(crate) fn says_that_it_hangs(&mut self, service: &ServiceName) {
        if let Some(generation) = self.living.get(service).map(|living| living.instance.generation) {
            self.step(Input::Service(service.clone(), Observation::SaidStuck { generation }));
        }
    }

    /// Whether a monitor sees what it should.
    pub(crate) fn set_monitor(&mut self, name: &MonitorName, up: bool) {
        self.monitors.insert(name.clone(), (up, self.now));
    }

    /// A person asks for something.
    pub(crate) fn ask(&mut self, request: OperatorRequest) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.step(Input::Operator { ticket, request });
    }

    /// The time of day of this instant.
    pub(crate) fn time_of_day(&self) -> Timestamp {
        let passed = self.now.since(Mono::from_origin(Mono::ORIGIN_BEFORE_START));
        let begins = Timestamp::from_second(BEGINS_AT_SECONDS).unwrap_or_default();
        begins.checked_add(passed.saturating_add(self.slept)).unwrap_or(Timestamp::MAX)
    }

    /// The machine sleeps: the time of day goes on, the engine's clock does not.
    pub(crate) fn sleep(&mut self, slept: Duration) {
        self.slept = self.slept.saturating_add(slept);
        self.step(Input::Host(HostObservation::Suspended { slept }));
        self.step(Input::Wall(self.time_of_day()));
    }

    /// The time passes for Horus, and for nobody else: it was late.
    pub(crate) fn oversleep(&mut self, late: Duration) {
        self.now = self.now + late;
        for living in self.living.values_mut() {
            living.next = living.next.max(self.now);
        }
        self.step(Input::Wake);
    }

    /// Tells the engine something, and everything that follows from its commands at the same instant.
    pub(crate) fn step(&mut self, input: Input) {
        self.reports.push_back(input);
        while let Some(input) = self.reports.pop_front() {
            self.steps += 1;
            for command in self.engine.step(self.now, input) {
                self.traces.take(self.now, &command);
                self.obey(command);
            }
        }
    }

    /// Lets so much time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Lets time pass until something is so, for at most so long. Was it?
    pub(crate) fn run_until(&mut self, at_most: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + at_most;
        loop {
            if done(self) {
                return true;
            }
            let next = self.next_due();
            if self.steps >= STEPS_MAX || next.is_none_or(|next| next > end) {
                self.now = self.now.max(end);
                return done(self);
            }
            self.now = next.unwrap_or(end).max(self.now);
            self.let_the_world_turn();
            if self.engine.next_deadline().is_some_and(|due| due <= self.now) {
                self.step(Input::Wake);
            }
        }
    }

    fn next_due(&self) -> Option<Mono> {
        let programs =
            self.living.values().flat_map(|living| [Some(living.next), living.falls_ill]).flatten();
        let monitors = self.monitors.values().map(|(_, next)| *next);
        programs.chain(monitors).chain(self.engine.next_deadline()).min()
    }

    fn let_the_world_turn(&mut self) {
        let due =
            |living: &Living| living.next <= self.now || living.falls_ill.is_some_and(|at| at <= self.now);
        let names: Vec<_> =
            self.living.iter().filter(|(_, living)| due(living)).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.live(&name);
        }
        let monitors: Vec<_> = self.monitors.iter().filter(|(_, (_, next))| *next <= self.now).collect();
        let monitors: Vec<_> = monitors.into_iter().map(|(name, (up, _))| (name.clone(), *up)).collect();
        for (name, up) in monitors {
            self.ask_monitor(&name, up);
        }
    }

    fn ask_monitor(&mut self, name: &MonitorName, up: bool) {
        let every = self.plan.monitors.get(name).map_or(Duration::from_secs(60), |plan| plan.check.every());
        self.monitors.insert(name.clone(), (up, self.now + every.max(PACE_MIN)));
        let said = if up {
            MonitorObservation::Up { took: Duration::from_millis(5) }
        } else {
            MonitorObservation::Down { fault: ProbeFault::NoAnswer, detail: "no answer (selftest)".into() }
        };
        self.step(Input::Monitor(name.clone(), said));
    }

    /// A program's beat is due, or it falls ill.
    fn live(&mut self, name: &ServiceName) {
        let (Some(living), Some(plan)) = (self.living.get_mut(name), self.plan.services.get(name)) else {
            return;
        };
        let program = self.programs.get(name).cloned().unwrap_or_else(Program::well);
        living.next = self.now + pace(plan);
        let turns_ill = living.falls_ill.take_if(|at| *at <= self.now).is_some();
        if turns_ill {
            living.ill = true;
            // The last beat of a well program comes right now, so that what follows is measured from here; one that ends
            // does so at once.
            self.fell_ill.get_or_insert(self.now);
        }
        let conduct = if living.ill && !turns_ill { &program.ill } else { &program.well };
        let ends = if turns_ill { &program.ill.shows } else { &conduct.shows };
        if let Shows::Ends(exit) = *ends {
            self.end(name, exit, program.strays);
            return;
        }
        if conduct.shows == Shows::Ticks {
            living.tick += 1;
        }
        let (generation, tick) = (living.instance.generation, living.tick);
        let said: Vec<_> =
            plan.beats.iter().filter_map(|beat| say(plan, beat, conduct, generation, tick)).collect();
        for observation in said {
            self.step(Input::Service(name.clone(), observation));
        }
    }

    fn end(&mut self, name: &ServiceName, exit: Exit, strays: u32) {
        if let Some(living) = self.living.remove(name) {
            let generation = living.instance.generation;
            self.step(Input::Service(name.clone(), Observation::Exited { generation, exit, strays }));
            let status = self.engine.status(self.now);
            let exits = status.services.iter().map(|status| status.exits_recent).max();
            self.most_exits = self.most_exits.max(exits.unwrap_or_default());
        }
    }

    fn report(&mut self, service: &ServiceName, observation: Observation) {
        self.reports.push_back(Input::Service(service.clone(), observation));
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Start { service, generation, .. } => self.start(&service, generation),
            Command::Signal { service, generation, .. } => {
                if self.ending(&service) == Ending::Obeys && self.living.remove(&service).is_some() {
                    let exit = Exit::Signal(15);
                    self.report(&service, Observation::Exited { generation, exit, strays: 0 });
                }
            }
            Command::KillTree { service, generation, .. } => self.kill(&service, generation),
            Command::Capture { service, generation, stage, .. } => {
                let finding = self.finding(&service);
                self.report(&service, Observation::Captured { generation, stage, finding });
            }
            Command::Confirm { incident } => {
                self.reports.push_back(Input::IncidentStored { incident, persisted: true });
            }
            Command::Watch { .. }
            | Command::Hasten { .. }
            | Command::Unwatch { .. }
            | Command::Record(_)
            | Command::Tell(_)
            | Command::Remember { .. }
            | Command::Answer { .. }
            | Command::Finished => {}
        }
    }

    fn ending(&self, service: &ServiceName) -> Ending {
        self.programs.get(service).map_or(Ending::Obeys, |program| program.ending)
    }

    fn start(&mut self, service: &ServiceName, generation: Generation) {
        let program = self.programs.get(service).cloned().unwrap_or_else(Program::well);
        if let Some(error) = program.start_fault {
            self.report(service, Observation::SpawnFailed { generation, error });
            return;
        }
        if let Some(by) = program.lock_held {
            self.report(service, Observation::Blocked { generation, by });
            return;
        }
        self.next_pid = self.next_pid.saturating_add(1);
        let instance = Instance { generation, process: ProcessId { pid: self.next_pid, start_time: 1 } };
        let runs = self.runs.entry(service.clone()).or_default();
        *runs = runs.saturating_add(1);
        let falls_ill = program.falls_ill.filter(|_| *runs <= program.ill_runs).map(|age| self.now + age);
        let first = self.plan.services.get(service).map_or(PACE_MIN, pace);
        let next = self.now + first;
        let living = Living { instance, tick: 0, next, falls_ill, ill: false, kills: 0 };
        self.living.insert(service.clone(), living);
        self.report(service, Observation::Spawned(instance));
    }

    fn kill(&mut self, service: &ServiceName, generation: Generation) {
        let ending = self.ending(service);
        if let Some(living) = self.living.get_mut(service) {
            living.kills = living.kills.saturating_add(1);
            if matches!(ending, Ending::Survives(tries) if living.kills <= tries) {
                return;
            }
            self.living.remove(service);
            let exit = Exit::Signal(9);
            self.report(service, Observation::Exited { generation, exit, strays: 0 });
        }
        self.report(service, Observation::Gone { generation, killed: 1 });
    }

    fn finding(&self, service: &ServiceName) -> Finding {
        let program = self.programs.get(service);
        let ill = self.living.get(service).is_some_and(|living| living.ill);
        let seen = program.and_then(|program| if ill { program.ill.seen } else { program.well.seen });
        let passed = u64::try_from(self.now.since_origin().as_nanos()).unwrap_or(u64::MAX);
        // Blocked: not a nanosecond between two captures. Everybody else uses some.
        let cpu_ns = if seen == Some(LoopSeen::Blocked) { 1 } else { passed };
        let place = seen.map(|seen| match seen {
            LoopSeen::Home => "epoll_wait".to_owned(),
            LoopSeen::Blocked => "recvfrom".to_owned(),
            LoopSeen::Spinning => "running".to_owned(),
        });
        Finding {
            phrase: "seen in the selftest".into(),
            place,
            cpu_ns: Some(cpu_ns),
            seen,
            ..Finding::default()
        }
    }
}

/// How often a program beats.
fn pace(plan: &ServicePlan) -> Duration {
    let stalls = plan.progress.values().map(|work| work.stalled);
    let shortest = stalls.chain([plan.deadline, plan.startup]).min().unwrap_or(plan.deadline);
    (shortest / BEATS_IN_A_LIMIT).max(PACE_MIN)
}

/// Does this source carry a number that only moves when the loop does?
pub(crate) fn carries_tick(beat: &BeatPlan) -> bool {
    match beat {
        BeatPlan::Http(http) => http.seq.is_some(),
        BeatPlan::Exec(exec) => exec.seq,
        BeatPlan::Notify | BeatPlan::File(_) => true,
        BeatPlan::Log(_) | BeatPlan::Tcp(_) => false,
    }
}

/// Does this source carry progress counters?
pub(crate) fn carries_counters(beat: &BeatPlan) -> bool {
    match beat {
        BeatPlan::Http(http) => http.progress.is_some(),
        BeatPlan::Notify => true,
        BeatPlan::File(_) | BeatPlan::Log(_) | BeatPlan::Tcp(_) | BeatPlan::Exec(_) => false,
    }
}

/// Does this source carry gauges?
fn carries_gauges(beat: &BeatPlan) -> bool {
    match beat {
        BeatPlan::Http(http) => http.gauges.is_some(),
        BeatPlan::Notify => true,
        BeatPlan::File(_) | BeatPlan::Log(_) | BeatPlan::Tcp(_) | BeatPlan::Exec(_) => false,
    }
}

/// Does this source carry what the program declares of itself?
pub(crate) fn carries_state(beat: &BeatPlan) -> bool {
    match beat {
        BeatPlan::Http(http) => http.state.is_some(),
        BeatPlan::Notify => true,
        BeatPlan::File(_) | BeatPlan::Log(_) | BeatPlan::Tcp(_) | BeatPlan::Exec(_) => false,
    }
}

/// What this source says of a program that behaves like this. `None`: it is not heard.
fn say(
    plan: &ServicePlan,
    source: &BeatPlan,
    conduct: &Conduct,
    generation: Generation,
    tick: u64,
) -> Option<Observation> {
    let no_beat = |fault| {
        let detail = "not heard (selftest)".to_owned();
        Observation::NoBeat { generation, source: source.kind(), fault, detail }
    };
    match (&conduct.shows, source) {
        (Shows::Ends(_), _) => return None,
        // A line is not written, a datagram is not sent.
        (Shows::Nothing(_), BeatPlan::Log(_) | BeatPlan::Notify) | (Shows::OldTick, BeatPlan::Log(_)) => {
            return None;
        }
        // Nothing has been written yet.
        (Shows::Nothing(_), BeatPlan::File(_)) if tick == 0 => return None,
        // The kernel accepts for a program that hangs, and a file keeps its last content.
        (Shows::Nothing(ProbeFault::NoAnswer), BeatPlan::Tcp(_)) | (Shows::Nothing(_), BeatPlan::File(_)) => {
        }
        (Shows::Nothing(fault), BeatPlan::Http(_) | BeatPlan::Tcp(_) | BeatPlan::Exec(_)) => {
            return Some(no_beat(*fault));
        }
        (Shows::Ticks | Shows::OldTick, _) => {}
    }
    let counters = if carries_counters(source) { counters(plan, conduct, tick) } else { BTreeMap::new() };
    let beat = Beat {
        source: source.kind(),
        tick: carries_tick(source).then_some(tick),
        progress: counters,
        declared: conduct.declared.filter(|_| carries_state(source)),
        gauges: if carries_gauges(source) { gauges(plan, conduct) } else { BTreeMap::new() },
        loop_lag_ms: None,
    };
    Some(Observation::Beat { generation, beat })
}

fn counters(plan: &ServicePlan, conduct: &Conduct, tick: u64) -> BTreeMap<String, u64> {
    let values = plan.values.values().map(|value| &value.counter);
    let stages = plan.funnels.values().flat_map(|funnel| &funnel.stages);
    let work = plan.progress.values().map(|work| &work.counter);
    let names = values.chain(stages).chain(work);
    names.map(|name| (name.clone(), if conduct.still.contains(name) { 1 } else { tick })).collect()
}

fn gauges(plan: &ServicePlan, conduct: &Conduct) -> BTreeMap<String, f64> {
    let shown = |gauge: &String, min: f64| conduct.gauges.get(gauge).copied().unwrap_or(min);
    plan.expects.values().map(|expect| (expect.gauge.clone(), shown(&expect.gauge, expect.min))).collect()
}
