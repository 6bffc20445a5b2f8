//! The one task that owns the engine.
//!
//! Everything else sends it inputs and carries out its commands. One turn: take what has come, step the engine for
//! each input, put the records of each step into one transaction of the store, then carry out the rest in order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use horus_api::{AskStep, Progress};
use horus_core::Engine;
use horus_core::command::{Answer, Command};
use horus_core::event::{Event, What};
use horus_core::explain::Explanation;
use horus_core::foreign::UnitOrder;
use horus_core::ids::{Generation, Instance, ServiceName, SinkName};
use horus_core::notice::{Notice, Story};
use horus_core::observation::{Input, Observation, OperatorRequest};
use horus_core::plan::{Plan, Secret, ServicePlan};
use horus_core::status::StatusReport;
use horus_core::time::Mono;
use horus_keeper::FifoHold;
use horus_keeper::protocol::{Request, Scope, SlotName};
use horus_probe::{EvidenceRoom, Senses};
use horus_store::{Store, Transaction};
use horus_sys::clock;
use horus_sys::signal::Signal;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::changes::Changes;
use super::config::{Applied, Config};
use super::dead_man::DeadMan;
use super::digest::Diary;
use super::fd_store::FdStore;
use super::foreign::Foreign;
use super::handover::arrival::{self, Arrived};
use super::handover::departure::Ticket;
use super::host::Clocks;
use super::keeper_link::{KeeperLink, News};
use super::kernel_view::{Counted, KernelLook, Wanted};
use super::sinks::Sinks;
use super::systemd::{Duties, Manager};
use super::tree_limits::{self, TreeLimitsKnown};
use super::watchman::Pulse;
use super::{boot_clock, evidence, foreign, keeper_news, launch, test_hook};

/// Inputs that are taken in one turn before anything else is looked at.
pub(super) const INPUTS_PER_TURN: usize = 256;

/// The longest time without a look at the clock.
const IDLE_MAX: Duration = Duration::from_secs(3600);

/// How often it is looked whether what keeps the process from becoming another program is over.
const DEPARTURE_LOOK_EVERY: Duration = Duration::from_millis(20);

/// Progress lines that wait for a slow reader; more are left out.
const PROGRESS_MAX: usize = 64;

/// How long an answer waits for the disk. Longer than a busy disk takes, shorter than a person waits.
const ANSWER_STORED_WITHIN: Duration = Duration::from_secs(2);

/// What the API and the signals ask of the owner.
pub(super) enum Call {
    Status(oneshot::Sender<StatusReport>),
    Explain(ServiceName, oneshot::Sender<Option<Explanation>>),
    Plan(oneshot::Sender<Arc<Plan>>),
    Ask(OperatorRequest, oneshot::Sender<mpsc::Receiver<AskStep>>),
    Apply {
        config: Box<Config>,
        dry_run: bool,
        reply: oneshot::Sender<Applied>,
    },
    /// The file was read and refused.
    ConfigRefused(String),
    Testable(Option<SinkName>, oneshot::Sender<Vec<(SinkName, Arc<horus_alert::HttpSink>)>>),
    Health(oneshot::Sender<Vec<String>>),
    /// Only to see that the loop turns.
    Turn,
    /// Something about Horus itself, for the journal.
    Note(String),
    /// Become another program, which was tried out.
    HandOver(Box<Ticket>),
    ShutDown,
}

/// A person who waits for the outcome of a request.
struct Asker {
    service: ServiceName,
    steps: mpsc::Sender<AskStep>,
    grace: Duration,
    startup: Duration,
}

/// The parts that the owner is made of.
pub(super) struct Parts {
    pub(super) engine: Engine,
    pub(super) config: Config,
    pub(super) config_path: PathBuf,
    pub(super) keeper: KeeperLink,
    pub(super) senses: Senses,
    pub(super) sinks: Sinks,
    pub(super) store: Store,
    pub(super) evidence: Arc<EvidenceRoom>,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) unaccounted: BTreeMap<ServiceName, Generation>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) dead_man: DeadMan,
    pub(super) fd_store: FdStore,
    pub(super) foreign: Foreign,
    pub(super) kernel_look: KernelLook,
}

/// A process of a service that is not in the plan.
pub(super) struct Stranger {
    pub(super) generation: horus_keeper::protocol::Generation,
    /// When its whole tree is killed. `None`: that was asked for.
    pub(super) kill_at: Option<Mono>,
}

/// Why the loop stopped to turn.
pub(super) enum Pause {
    /// Everything has ended.
    Finished,
    /// The process is to become another program. If that fails the loop goes on.
    HandOver(Ticket),
}

/// The owner of the engine.
pub(super) struct Owner {
    pub(super) engine: Engine,
    pub(super) plan: Arc<Plan>,
    secrets: BTreeMap<SinkName, Secret>,
    ping: Option<Secret>,
    config_path: PathBuf,
    config_fault: Option<String>,
    pub(super) keeper: KeeperLink,
    pub(super) senses: Senses,
    sinks: Sinks,
    pub(super) store: Store,
    evidence: Arc<EvidenceRoom>,
    inputs: mpsc::Sender<Input>,
    started: Duration,
    clocks: Clocks,
    diary: Diary,
    changes: Changes,
    pulse: Arc<Pulse>,
    duties: Duties,
    dead_man: DeadMan,
    pub(super) processes: BTreeMap<ServiceName, Instance>,
    /// Runs that an earlier life of Horus believed alive: if the keeper says that one has ended, its end was not
    /// accounted for yet.
    pub(super) unaccounted: BTreeMap<ServiceName, Generation>,
    pub(super) fifos: FifoHold,
    fd_store: FdStore,
    pub(super) foreign: Foreign,
    kernel_look: KernelLook,
    askers: BTreeMap<u64, Asker>,
    next_ticket: u64,
    /// Processes of services that are not in the plan: told to end, killed when their grace is over.
    pub(super) strangers: BTreeMap<SlotName, Stranger>,
    /// What the keeper does that an older one does not.
    pub(super) keeper_abilities: Vec<String>,
    /// What is in force of the limits of trees.
    pub(super) tree_limits: TreeLimitsKnown,
    /// Why there is no keeper.
    keeper_fault: Option<String>,
    /// The process is this program since an upgrade that is not over yet.
    pub(super) arrived: Option<Arrived>,
    /// The program that the process is to become.
    departing: Option<Box<Ticket>>,
    ending: bool,
    finished: bool,
}

impl Owner {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            engine,
            config,
            config_path,
            keeper,
            senses,
            sinks,
            store,
            evidence,
            inputs,
            unaccounted,
            pulse,
            dead_man,
            fd_store,
            foreign,
            kernel_look,
        } = parts;
        let started = clock::monotonic();
        Self {
            engine,
            plan: Arc::new(config.plan),
            secrets: config.secrets,
            ping: config.ping,
            config_path,
            config_fault: None,
            keeper,
            senses,
            sinks,
            store,
            evidence,
            inputs,
            started,
            clocks: Clocks::default(),
            diary: Diary::default(),
            changes: Changes::default(),
            pulse,
            duties: Duties::new(Manager::of_process(), started),
            dead_man,
            processes: BTreeMap::new(),
            unaccounted,
            fifos: FifoHold::default(),
            fd_store,
            foreign,
            kernel_look,
            askers: BTreeMap::new(),
            next_ticket: 1,
            strangers: BTreeMap::new(),
            keeper_abilities: Vec::new(),
            tree_limits: TreeLimitsKnown::default(),
            keeper_fault: None,
            arrived: None,
            departing: None,
            ending: false,
            finished: false,
        }
    }

    /// The engine's time.
    pub(super) fn now(&self) -> Mono {
        let since_start = clock::monotonic().saturating_sub(self.started);
        Mono::from_origin(Mono::ORIGIN_BEFORE_START + since_start)
    }

    /// Takes up the plan. Before anything else.
    pub(super) fn begin(&mut self) {
        self.follow_plan();
        let plan = self.plan.as_ref().clone();
        self.step(Input::PlanChanged(Box::new(plan)));
        if self.store.fault().is_none() {
            // Ends what an earlier life said of the disk.
            self.step(Input::StoreHealth { fault: None });
        }
    }

    /// Runs until there is a reason to stop.
    pub(super) async fn run(
        &mut self,
        inputs: &mut mpsc::Receiver<Input>,
        calls: &mut mpsc::Receiver<Call>,
    ) -> Pause {
        let mut batch = Vec::with_capacity(INPUTS_PER_TURN);
        while !self.finished {
            if let Some(ticket) = self.ready_to_depart() {
                return Pause::HandOver(ticket);
            }
            self.show_life();
            let due = self.sleep_time();
            tokio::select! {
                Some(news) = self.keeper.news.recv() => self.keeper_news(news),
                Some(told) = self.foreign.news.recv() => foreign::heard(self, told),
                count = inputs.recv_many(&mut batch, INPUTS_PER_TURN), if !inputs.is_closed() => {
                    debug_assert!(count <= INPUTS_PER_TURN);
                    for input in batch.drain(..) {
                        self.step(input);
                    }
                }
                Some(call) = calls.recv() => self.answer_call(call),
                () = tokio::time::sleep(due) => {
                    self.step(Input::Wake);
                    keeper_news::kill_strangers(self);
                    arrival::tend(self);
                }
            }
        }
        Pause::Finished
    }

    /// The order to become another program, once nothing is half done that only this process knows of.
    fn ready_to_depart(&mut self) -> Option<Ticket> {
        let half_done = self.senses.expects_a_program();
        let ticket = self.departing.take_if(|ticket| !half_done || !ticket.may_wait())?;
        if self.ending {
            ticket.refuse("Horus is ending".into());
            return None;
        }
        Some(*ticket)
    }

    /// Writes down what every service must not forget, and all that was heard.
    pub(super) fn remember_all(&mut self) {
        let now = self.now();
        let memories = self.engine.memories(now).into_iter();
        let memories = memories.map(|(service, memory)| (service, boot_clock::stamp(memory))).collect();
        let digest = self.diary.finish(now);
        self.store.commit(Transaction { at: Timestamp::now(), memories, digest, ..Transaction::default() });
    }

    /// Shows those who watch the loop that it turns.
    fn show_life(&mut self) {
        test_hook::place("loop");
        self.pulse.turned();
        let now = clock::monotonic();
        let engine = &self.engine;
        let engine_now = Mono::from_origin(Mono::ORIGIN_BEFORE_START + now.saturating_sub(self.started));
        self.duties.turned(now, || summary(&engine.status(engine_now)));
    }

    fn sleep_time(&self) -> Duration {
        let strangers = self.strangers.values().filter_map(|stranger| stranger.kill_at);
        let upgrade = self.arrived.as_ref().and_then(Arrived::next);
        let next = self.engine.next_deadline().into_iter().chain(strangers).chain(upgrade).min();
        let idle_max = self.duties.sleep_max(clock::monotonic()).unwrap_or(IDLE_MAX);
        let idle_max = if self.departing.is_some() { DEPARTURE_LOOK_EVERY } else { idle_max };
        next.map_or(IDLE_MAX, |at| at.since(self.now())).min(idle_max)
    }

    fn keeper_news(&mut self, news: News) {
        match news {
            News::Attached { hello, writer } => {
                self.keeper.attached(writer);
                self.keeper_fault = None;
                let keeper = arrival::identity(&hello);
                keeper_news::reconcile(self, *hello);
                arrival::attached(self, keeper);
                self.duties.reconciled();
            }
            News::Said(event) => keeper_news::heard(self, *event),
            News::Lost(why) => {
                tracing::warn!("no keeper at the moment: {why}");
                self.keeper.lost();
                self.fd_store.keeper_lost();
                self.step(Input::KeeperLost);
                let text = format!("no keeper at the moment: {why}");
                self.note(What::Horus { text });
                self.keeper_fault = Some(why);
            }
        }
    }

    /// Writes an event about Horus itself.
    pub(super) fn note(&self, what: What) {
        let event = Event { subject: "horus".into(), generation: None, incident: None, what };
        self.store.commit(Transaction {
            at: Timestamp::now(),
            events: vec![event],
            ..Transaction::default()
        });
    }

    /// Steps the engine and carries out what it answers. It hears of a sleep and of a set clock first, so that it judges
    /// nothing by a time that it misunderstands.
    pub(super) fn step(&mut self, input: Input) {
        for told in self.clocks.look() {
            self.step_once(told);
        }
        self.step_once(input);
    }

    fn step_once(&mut self, input: Input) {
        let now = self.now();
        self.diary.hear(now, &input);
        let commands = self.engine.step(now, input);
        self.diary.obey(now, &commands);
        let mut transaction = Transaction { at: Timestamp::now(), ..Transaction::default() };
        let mut actions = Vec::new();
        for command in commands {
            match command {
                Command::Record(event) => {
                    self.tell_askers(&event);
                    log_event(&event);
                    self.changes.take(transaction.at, &event);
                    transaction.events.push(*event);
                }
                Command::Tell(notice) => self.route(*notice, &mut transaction),
                Command::Remember { service, memory } => {
                    transaction.memories.push((service, boot_clock::stamp(*memory)));
                }
                Command::Confirm { incident } => transaction.confirm.push(incident),
                action => actions.push(action),
            }
        }
        let Transaction { events, notices, memories, confirm, .. } = &transaction;
        let decided = !(events.is_empty() && notices.is_empty() && memories.is_empty() && confirm.is_empty());
        transaction.digest = self.diary.rows(now, decided);
        if decided || !transaction.digest.is_empty() {
            self.store.commit(transaction);
        }
        for action in actions {
            self.carry_out(action);
        }
    }

    fn route(&self, notice: Notice, transaction: &mut Transaction) {
        let dead = match &notice.story {
            Story::SinkDead { sink, .. } => Some(sink.clone()),
            _ => None,
        };
        for sink in self.sinks.route(&notice, dead.as_deref()) {
            transaction.notices.push((sink, notice.clone()));
        }
    }

    fn carry_out(&mut self, action: Command) {
        match action {
            Command::Start { service, generation, .. } => match self.service_plan(&service) {
                Some(plan) if !plan.owner.is_keeper() => foreign::start(self, &service, generation),
                _ => launch::start(self, &service, generation),
            },
            Command::Signal { service, generation, signal, .. } => match UnitOrder::parse(&signal) {
                Some(order) => foreign::end(self, &service, generation, order),
                None => self.signal(&service, generation, &signal),
            },
            Command::KillTree { service, generation, .. } if self.foreign.has(&service, generation) => {
                foreign::kill(self, &service, generation);
            }
            Command::KillTree { service, generation, .. } => {
                if let Some(slot) = slot_of(&service) {
                    self.keeper.send(Request::KillTree { slot, generation: to_keeper(generation) });
                }
            }
            Command::Watch { service, generation } => self.watch(&service, generation),
            Command::Hasten { service, fast } => {
                self.senses.hasten(&service, fast);
                self.kernel_look.hasten(&service, fast);
            }
            Command::Unwatch { service } => {
                if self.plan.services.contains_key(&service) {
                    self.senses.unwatch(&service);
                } else {
                    self.senses.forget(&service);
                }
                self.processes.remove(&service);
                self.kernel_look.forget(&service);
                self.keep_descriptors();
            }
            Command::Capture { service, generation, stage, incident, thread } => {
                let process = self.processes.get(&service).map(|instance| instance.process);
                let changed = self.changes.about(&service, Timestamp::now());
                let asked =
                    evidence::Asked { service, generation, stage, incident, thread, process, changed };
                evidence::capture(asked, &self.plan, &self.evidence, self.inputs.clone());
            }
            Command::Answer { ticket, answer } => {
                if let Some(asker) = self.askers.remove(&ticket) {
                    self.answer(asker, answer);
                }
            }
            Command::Finished => self.finished = true,
            // Part of the step's transaction already.
            Command::Record(_) | Command::Tell(_) | Command::Remember { .. } | Command::Confirm { .. } => {}
        }
    }

    /// Answers when what was done is on disk: whoever was told that a service is held has to find it held by the next Horus, too. What
    /// cannot be written is not remembered, and whoever asked has to know.
    fn answer(&self, asker: Asker, answer: Answer) {
        let store = self.store.clone();
        let task = move || {
            let fault = match store.fault() {
                Some(fault) => Some(fault),
                None if store.flush(ANSWER_STORED_WITHIN) => None,
                None => Some("the disk is slow".into()),
            };
            let answer = match (answer, fault) {
                (Answer::Done(text), Some(fault)) => {
                    Answer::Done(format!("{text}; it is NOT on disk ({fault}) and may end with this Horus"))
                }
                (answer, _) => answer,
            };
            let _ = asker.steps.try_send(AskStep::Answer(answer));
        };
        drop(tokio::task::spawn_blocking(task));
    }

    fn signal(&mut self, service: &ServiceName, generation: Generation, signal: &str) {
        match (slot_of(service), Signal::parse(signal)) {
            (Some(slot), Ok(signal)) => {
                let generation = to_keeper(generation);
                self.keeper.send(Request::Signal { slot, generation, signal, scope: Scope::Main });
            }
            // The config checks the name; if it is wrong all the same, the grace ends and the tree is killed.
            (_, outcome) => tracing::error!(%service, ?outcome, "the signal could not be sent"),
        }
    }

    fn watch(&mut self, service: &ServiceName, generation: Generation) {
        let Some(instance) = self.processes.get(service).filter(|instance| instance.generation == generation)
        else {
            return;
        };
        if let Some(plan) = self.plan.services.get(service) {
            let log = log_path(&self.plan, service);
            self.senses.watch(service, generation, instance.process, plan, &log);
            let counted = |every| Counted { every, log: (plan.owner.is_keeper()).then(|| log.clone()) };
            let wanted = Wanted {
                generation,
                process: instance.process,
                sampled: plan.sampler.then_some(plan.deadline),
                closely: false,
                counted: horus_core::activity::look_every(plan).map(counted),
            };
            self.kernel_look.watch(service, wanted);
        }
    }

    fn answer_call(&mut self, call: Call) {
        match call {
            Call::Status(reply) => drop(reply.send(self.status())),
            Call::Explain(service, reply) => {
                drop(reply.send(self.engine.explain(self.now(), service.as_str())));
            }
            Call::Plan(reply) => drop(reply.send(Arc::clone(&self.plan))),
            Call::Ask(request, reply) => self.ask(request, reply),
            Call::Apply { config, dry_run, reply } => {
                let applied = self.apply(*config, dry_run);
                let _ = reply.send(applied);
            }
            Call::ConfigRefused(text) => {
                tracing::error!("{text}");
                self.note(What::Horus { text: text.clone() });
                self.config_fault = Some(text);
            }
            Call::Testable(sink, reply) => drop(reply.send(self.sinks.testable(sink.as_ref()))),
            Call::Health(reply) => drop(reply.send(self.own_faults())),
            Call::Turn => {}
            Call::Note(text) => {
                tracing::warn!("{text}");
                self.note(What::Horus { text });
            }
            Call::HandOver(ticket) => self.departing = Some(ticket),
            Call::ShutDown => {
                self.ending = true;
                self.duties.ending(clock::monotonic());
                self.step(Input::ShutDown);
            }
        }
    }

    fn status(&self) -> StatusReport {
        let mut report = self.engine.status(self.now());
        self.tree_limits.tell(&mut report);
        report
    }

    fn own_faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self.config_fault.iter().cloned().collect();
        faults
            .extend(self.store.fault().map(|fault| format!("the state directory takes no writes: {fault}")));
        if !self.keeper.is_attached() {
            let why = self.keeper_fault.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            faults.push(format!("there is no keeper at the moment{why}"));
        }
        faults
    }

    fn ask(&mut self, request: OperatorRequest, reply: oneshot::Sender<mpsc::Receiver<AskStep>>) {
        let service = request.service().clone();
        // One place more than the progress lines may take: the answer always has room.
        let (steps, receiver) = mpsc::channel(PROGRESS_MAX + 1);
        if reply.send(receiver).is_err() {
            return;
        }
        let plan = self.plan.services.get(&service);
        let (grace, startup) =
            plan.map_or((Duration::ZERO, Duration::ZERO), |plan| (plan.stop.grace, plan.startup));
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.askers.insert(ticket, Asker { service, steps, grace, startup });
        self.step(Input::Operator { ticket, request });
    }

    fn tell_askers(&self, event: &Event) {
        for asker in self.askers.values().filter(|asker| asker.service.as_str() == event.subject) {
            if asker.steps.capacity() > 1
                && let Some(progress) = Progress::of(event, asker.grace, asker.startup)
            {
                let _ = asker.steps.try_send(AskStep::Progress(progress));
            }
        }
    }

    /// Follows another plan. Unchanged services are not touched.
    /// Whose secret is another one than it was.
    fn other_secrets(&self, new: &Config) -> Vec<String> {
        let known = new.secrets.iter().filter(|(sink, _)| self.secrets.contains_key(*sink));
        let others = known.filter(|(sink, secret)| self.secrets.get(*sink) != Some(secret));
        let mut others: Vec<String> = others.map(|(sink, _)| format!("sink {sink}")).collect();
        if new.ping.is_some() && self.ping.is_some() && new.ping != self.ping {
            others.push("daemon.ping".to_owned());
        }
        others
    }

    fn apply(&mut self, config: Config, dry_run: bool) -> Applied {
        let applied = Applied::between(&self.plan, &config.plan, self.other_secrets(&config));
        self.config_fault = None;
        if dry_run || applied.is_nothing() {
            return applied;
        }
        // These take effect with the next start of Horus; until then everything stays where it is.
        let mut config = config;
        let (new, old) = (&mut config.plan.daemon, &self.plan.daemon);
        new.state_directory.clone_from(&old.state_directory);
        new.run_directory.clone_from(&old.run_directory);
        new.cgroup.clone_from(&old.cgroup);
        let sinks_changed = config.plan.sinks != self.plan.sinks || config.secrets != self.secrets;
        let ping_changed = config.plan.daemon.ping != self.plan.daemon.ping || config.ping != self.ping;
        let old = std::mem::replace(&mut self.plan, Arc::new(config.plan));
        (self.secrets, self.ping) = (config.secrets, config.ping);
        if ping_changed {
            self.dead_man.follow(self.plan.daemon.ping.as_ref(), self.ping.as_ref());
        }
        for monitor in old.monitors.keys().filter(|name| !self.plan.monitors.contains_key(*name)) {
            self.senses.unmonitor(monitor);
        }
        for (monitor, plan) in &self.plan.monitors {
            self.senses.monitor(monitor, plan);
        }
        if sinks_changed {
            self.sinks.follow(&self.plan, &self.secrets);
        }
        self.foreign.follow(&self.plan);
        let summary = format!("{}: {applied}", self.config_path.display());
        self.note(What::PlanLoaded { summary });
        let plan = self.plan.as_ref().clone();
        self.step(Input::PlanChanged(Box::new(plan)));
        tree_limits::changed(self, &old);
        applied
    }

    fn follow_plan(&mut self) {
        for (monitor, plan) in &self.plan.monitors {
            self.senses.monitor(monitor, plan);
        }
        self.foreign.follow(&self.plan);
        self.sinks.follow(&self.plan, &self.secrets);
        self.dead_man.follow(self.plan.daemon.ping.as_ref(), self.ping.as_ref());
        let (services, monitors) = (self.plan.services.len(), self.plan.monitors.len());
        let summary = format!("{}: {services} services, {monitors} monitors", self.config_path.display());
        self.note(What::PlanLoaded { summary });
    }

    /// An observation about a service.
    pub(super) fn observe(&mut self, service: &ServiceName, observation: Observation) {
        self.step(Input::Service(service.clone(), observation));
    }

    /// The plan of a service, if it has one.
    pub(super) fn service_plan(&self, service: &ServiceName) -> Option<&ServicePlan> {
        self.plan.services.get(service)
    }

    /// Whether the keeper that is attached does what older ones do not.
    pub(super) fn keeper_can(&self, ability: &str) -> bool {
        self.keeper_abilities.iter().any(|word| word == ability)
    }

    /// The slots of all services that there are, or that were taken out of the plan and still run.
    fn slots(&self) -> Vec<SlotName> {
        let planned = self.plan.services.iter().filter(|(_, plan)| plan.owner.is_keeper());
        let running = self.processes.iter();
        let running = running.filter(|(name, instance)| !self.foreign.has(name, instance.generation));
        let services = planned.map(|(name, _)| name).chain(running.map(|(name, _)| name));
        services.collect::<BTreeSet<_>>().into_iter().filter_map(slot_of).collect()
    }

    /// Holds the FIFOs of all slots, so that last words survive the keeper's death; also those of services that do not run just now,
    /// which have theirs already when they are started again.
    pub(super) fn hold_fifos(&mut self) {
        let slots = self.slots();
        match self.fifos.update(&self.plan.daemon.run_directory, &slots) {
            Ok(failed) => {
                for (slot, error) in failed {
                    tracing::warn!(%slot, %error, "the output of this service is held by the keeper alone");
                }
            }
            Err(error) => tracing::warn!(error = super::chain(&error), "FIFOs are held by the keeper alone"),
        }
        self.keep_descriptors();
    }

    /// Has the descriptors kept that belong to what the keeper has started.
    fn keep_descriptors(&self) {
        let ours =
            self.processes.iter().filter(|(name, instance)| !self.foreign.has(name, instance.generation));
        let ours: BTreeMap<_, _> = ours.map(|(name, instance)| (name.clone(), *instance)).collect();
        self.fd_store.follow(&self.slots(), &ours);
    }

    /// The last duties, after everything has ended.
    pub(super) async fn finish(mut self) {
        let names: Vec<&str> = self.strangers.keys().map(SlotName::as_str).collect();
        let text = if names.is_empty() {
            "ended; no service is left running".to_owned()
        } else {
            format!("ended; still running, although not in the plan: {}", names.join(", "))
        };
        self.note(What::Horus { text });
        let digest = self.diary.finish(self.now());
        self.store.commit(Transaction { at: Timestamp::now(), digest, ..Transaction::default() });
        self.sinks.drain().await;
        let store = self.store.clone();
        let closed = tokio::task::spawn_blocking(move || store.close(Duration::from_secs(5))).await;
        if !matches!(closed, Ok(true)) {
            tracing::error!("the last events could not be written to the state directory");
        }
        self.keeper.end(Request::Shutdown { mode: horus_keeper::protocol::ShutdownMode::IfIdle }).await;
    }
}

/// Where the output of a service goes.
pub(super) fn log_path(plan: &Plan, service: &ServiceName) -> PathBuf {
    plan.daemon.state_directory.join("logs").join(format!("{service}.log"))
}

/// The keeper's word for a service. Both take the same names.
pub(super) fn slot_of(service: &ServiceName) -> Option<SlotName> {
    SlotName::try_from(service.to_string()).ok()
}

pub(super) fn to_keeper(generation: Generation) -> horus_keeper::protocol::Generation {
    horus_keeper::protocol::Generation(generation.0)
}

/// One line for `systemctl status`.
fn summary(report: &StatusReport) -> String {
    let running = report.services.iter().filter(|service| service.pid.is_some()).count();
    let held = report.services.iter().filter(|service| service.hold.is_some()).count();
    let (services, monitors) = (report.services.len(), report.monitors.len());
    let held = if held == 0 { String::new() } else { format!(", {held} held") };
    let fault = if report.store_fault.is_some() { "; the state directory takes no writes" } else { "" };
    format!("{running} of {services} services run{held}, {monitors} monitors{fault}")
}

fn log_event(event: &Event) {
    let sentence = crate::cli::words::sentence(&event.what);
    tracing::info!(target: "journal", "{}: {sentence}", event.subject);
}
