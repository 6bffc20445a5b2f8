//! The engine: one place that holds all state, one function that changes it.
//!
//! [`Engine::step`] takes an instant and an input and answers with commands. It does no I/O, reads no clock, and the
//! same inputs give the same commands; [`Engine::next_deadline`] says when to come back if nothing happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::command::{Answer, Command, Memory, MemoryIncident, MemorySilence};
use crate::event::{Outcome, What};
use crate::explain::Explanation;
use crate::guard::{LATENESS_MIN, SETTLE};
use crate::ids::{Generation, MonitorName, ServiceName};
use crate::incidents::Incidents;
use crate::monitors::Monitor;
use crate::notice::{IncidentKind, Story};
use crate::observation::{Input, Observation, OperatorRequest};
use crate::plan::{Mode, Plan, ServicePlan, Severity};
use crate::reason::{Reason, Rule};
use crate::service::{Facts, Phase, Service, StopCause, TICKETS_MAX, Wanted, Why};
use crate::status::{STATUS_SCHEMA, SinkStatus, StatusReport};
use crate::time::Mono;
use crate::transition::Trigger;
use crate::turn::{Shared, Turn};

/// Lateness of the engine's own wake-ups below this is ordinary scheduling.
pub const OWN_LATENESS_MIN: Duration = Duration::from_secs(1);

/// Services that left the plan and are remembered.
pub const LEFT_KEPT_MAX: usize = 4096;

/// Whatever is due and not done is looked at again after this time.
pub const LOOK_AGAIN_MIN: Duration = Duration::from_secs(1);

/// What an earlier life of Horus remembered about a service.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// Which service.
    pub service: ServiceName,
    /// What it remembered.
    pub memory: Memory,
    /// How long ago that was written, by the time of day.
    pub elapsed: Duration,
    /// The same for [`Memory::silent`], by a clock that nobody sets. `None`: not known, as after a boot.
    pub away: Option<Duration>,
}

/// The judge and everything that it knows.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) shared: Shared,
    host: String,
    pub(crate) services: BTreeMap<ServiceName, Service>,
    /// Services that left the plan and still live.
    leaving: BTreeSet<ServiceName>,
    pub(crate) monitors: BTreeMap<MonitorName, Monitor>,
    /// What is known of services that are not in the plan: from an earlier life, or because they left.
    remembered: BTreeMap<ServiceName, (Remembered, Option<Mono>)>,
    /// Open incidents of an earlier life, of what is no service: taken over by their monitors.
    orphans: BTreeMap<String, Vec<MemoryIncident>>,
    /// Runs that the keeper knows of, of services that are not in the plan.
    floors: BTreeMap<ServiceName, Generation>,
    /// What takes the place of a service of that name as soon as it has left: somebody else is to start it.
    successors: BTreeMap<ServiceName, ServicePlan>,
    /// Incidents about Horus itself.
    pub(crate) own: Incidents,
    /// Limits are stretched to so many per cent, because the whole machine is short of something.
    pub(crate) slow_percent: u32,
    store_fault: Option<String>,
    dead_sinks: BTreeMap<String, String>,
    /// When the common cause that is told of is over, if it does not come back.
    pub(crate) common_over_at: Option<Mono>,
    /// Since when Horus's own prober fails; when that is over, if it does not fail again.
    pub(crate) canary_since: Option<Mono>,
    pub(crate) canary_over_at: Option<Mono>,
    /// When the record of the detectors is looked at again, because one is demoted.
    pub(crate) weigh_again_at: Option<Mono>,
    /// When something that concerns all services is due.
    common_due: Option<Mono>,
    /// When the next step is due at the latest.
    expected: Option<Mono>,
}

impl Engine {
    /// An engine without a plan. `seed` decides all jitter; `incidents` is how many were ever opened on this state
    /// directory; `remembered` is what an earlier life wrote down.
    pub fn new(seed: u64, incidents: u64, remembered: Vec<Remembered>) -> Self {
        Self::with_orphans(seed, incidents, remembered, BTreeMap::new())
    }

    /// The same, with the open incidents of monitors (by their names), which go on.
    pub fn with_orphans(
        seed: u64,
        incidents: u64,
        remembered: Vec<Remembered>,
        orphans: BTreeMap<String, Vec<MemoryIncident>>,
    ) -> Self {
        let remembered = remembered.into_iter().map(|item| (item.service.clone(), (item, None))).collect();
        Self {
            shared: Shared::new(seed, incidents),
            host: String::new(),
            services: BTreeMap::new(),
            leaving: BTreeSet::new(),
            monitors: BTreeMap::new(),
            remembered,
            orphans,
            floors: BTreeMap::new(),
            successors: BTreeMap::new(),
            own: Incidents::new("horus"),
            slow_percent: 100,
            store_fault: None,
            dead_sinks: BTreeMap::new(),
            common_over_at: None,
            canary_since: None,
            canary_over_at: None,
            weigh_again_at: None,
            common_due: None,
            expected: None,
        }
    }

    /// Takes one input at one instant and answers with what is to be done, in order.
    #[must_use]
    pub fn step(&mut self, now: Mono, input: Input) -> Vec<Command> {
        let late = self.expected.map_or(Duration::ZERO, |expected| now.since(expected));
        let touched = touched(&input);
        let mut shared = std::mem::replace(&mut self.shared, Shared::empty());
        let mut turn = Turn { now, commands: Vec::new(), shared: &mut shared };
        if late >= OWN_LATENESS_MIN {
            self.excuse(&mut turn, late);
        }
        self.take(&mut turn, input);
        if let Some(service) = touched.and_then(|name| self.services.get_mut(&name)) {
            service.due = Some(now);
        }
        self.look_at_due(&mut turn);
        self.tend_common(&mut turn);
        let commands = turn.commands;
        self.shared = shared;
        self.common_due = self.common_due(now);
        self.leave_nothing_overdue(now);
        self.expected = self.next_deadline();
        commands
    }

    /// When [`Engine::step`] has to be called at the latest, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Mono> {
        let services = self.services.values().filter_map(|service| service.due);
        let monitors = self.monitors.values().filter_map(Monitor::due);
        services.chain(monitors).chain(self.common_due).min()
    }

    /// Services of the keeper that have (or are about to have) a process, with its run. The shell compares this with what the keeper
    /// has, after the keeper was lost.
    pub fn living(&self) -> Vec<(ServiceName, Generation)> {
        let services = self.services.values().filter(|service| service.unit().is_none());
        let living = services.filter(|service| !service.is_at_rest());
        living.map(|service| (service.name.clone(), service.generation)).collect()
    }

    /// Whether it is a unit of somebody else, as far as the engine is: one that takes a name over waits for the other to end.
    pub fn is_unit(&self, service: &ServiceName) -> bool {
        self.services.get(service).is_some_and(|service| service.unit().is_some())
    }

    /// The number of the next run of a service that this engine did not start.
    pub fn next_generation(&self, service: &ServiceName) -> Generation {
        self.services.get(service).map(Service::highest).unwrap_or_default().next()
    }

    /// What every service must not forget, at this instant: for a Horus that is about to become another program.
    pub fn memories(&self, now: Mono) -> Vec<(ServiceName, Memory)> {
        let memories = self.services.values().map(|service| {
            let mut memory = service.memory(now);
            if let Some(silent) = service.witnessed(now, Duration::ZERO) {
                memory.silent = Some(MemorySilence { handed_over: true, ..silent });
            }
            (service.name.clone(), memory)
        });
        memories.collect()
    }

    /// Identifiers of all open incidents.
    pub fn open_incidents(&self) -> Vec<crate::ids::IncidentId> {
        let services = self.services.values().flat_map(|service| service.incidents.ids());
        services.chain(self.own.ids()).collect()
    }

    /// The last generation of a service, as far as the engine knows. The shell raises it if the keeper knows of a later.
    pub fn raise_generation(&mut self, service: &ServiceName, at_least: Generation) {
        match self.services.get_mut(service) {
            Some(service) => service.raise_generation(at_least),
            None => {
                if self.floors.len() < LEFT_KEPT_MAX || self.floors.contains_key(service) {
                    let floor = self.floors.entry(service.clone()).or_default();
                    *floor = at_least.max(*floor);
                }
            }
        }
    }

    /// Everything that `horus status` shows, at one instant.
    pub fn status(&self, now: Mono) -> StatusReport {
        let observe = self.shared.mode == Mode::Observe;
        let services = self.services.values();
        StatusReport {
            schema: STATUS_SCHEMA,
            host: self.host.clone(),
            mode: self.shared.mode,
            services: services.map(|service| service.status(now, &self.shared.ready, observe)).collect(),
            monitors: self.monitors.values().map(|monitor| monitor.status(now)).collect(),
            store_fault: self.store_fault.clone(),
            dead_sinks: self
                .dead_sinks
                .iter()
                .map(|(name, fault)| SinkStatus { name: name.clone(), fault: fault.clone() })
                .collect(),
        }
    }

    /// What is known of one service, and what would have to happen for something to be done. `None`: there is no such service.
    pub fn explain(&self, now: Mono, service: &str) -> Option<Explanation> {
        Some(self.services.get(service)?.explain(now, &self.shared))
    }

    fn take(&mut self, turn: &mut Turn<'_>, input: Input) {
        match input {
            Input::Wake => {}
            Input::PlanChanged(plan) => self.change_plan(turn, *plan),
            Input::KeeperLost => turn.shared.reconciled = false,
            Input::Reconciled => self.reconciled(turn),
            Input::Service(name, observation) => self.observe(turn, &name, observation),
            Input::Monitor(name, observation) => {
                if let Some(monitor) = self.monitors.get_mut(&name) {
                    monitor.observe(turn, observation);
                }
            }
            Input::Operator { ticket, request } => self.operator(turn, ticket, request),
            Input::IncidentStored { incident, .. } => {
                for service in self.services.values_mut() {
                    if matches!(&service.phase, Phase::Condemned { sentence, .. } if sentence.told && sentence.incident == incident)
                    {
                        service.execute(turn);
                        service.due = Some(turn.now);
                    }
                }
            }
            Input::StoreHealth { fault } => self.store_health(turn, fault),
            Input::SinkHealth { sink, fault } => self.sink_health(turn, &sink, fault),
            Input::Wall(wall) => self.set_wall(turn, wall),
            Input::Host(observation) => self.observe_host(turn, observation),
            Input::ShutDown => self.shut_down(turn),
        }
    }

    /// Horus itself was late: that time is held against nobody.
    fn excuse(&mut self, turn: &mut Turn<'_>, late: Duration) {
        turn.record("horus", None, None, What::OwnLateness { late });
        for service in self.services.values_mut() {
            service.excuse(turn.now, late);
        }
        if late >= LATENESS_MIN {
            turn.shared.guard.close(turn.now, SETTLE);
            for service in self.services.values_mut() {
                // What it was condemned for was seen before: it may have come back, and nobody listened.
                service.spare(turn, "Horus itself was late between the decision and the signal");
            }
        }
    }

    fn look_at_due(&mut self, turn: &mut Turn<'_>) {
        // Readiness of one may start others, the end of one may let others end: two rounds settle a chain link, and
        // the loop ends because each round needs a change of `ready`, which holds each service once.
        for _ in 0..=self.services.len() {
            let now = turn.now;
            for service in self.services.values_mut() {
                if service.due.is_some_and(|due| due <= now) {
                    service.look(turn);
                }
            }
            self.continue_shut_down(turn);
            if !std::mem::take(&mut turn.shared.ready_changed) {
                break;
            }
            for service in self.services.values_mut() {
                if matches!(service.phase, Phase::Waiting) {
                    service.due = Some(now);
                }
            }
        }
        for monitor in self.monitors.values_mut() {
            if monitor.due.is_some_and(|due| due <= turn.now) {
                monitor.look(turn);
            }
            monitor.incidents.ring_if_due(turn);
        }
        self.drop_the_left(turn);
    }

    /// A look that leaves its own due time behind would make the loop spin, and the spinning would be taken for
    /// lateness, which excuses everybody: whatever is still due is looked at again a little later.
    fn leave_nothing_overdue(&mut self, now: Mono) {
        let services = self.services.values_mut().map(|service| &mut service.due);
        for due in services.chain(self.monitors.values_mut().map(|monitor| &mut monitor.due)) {
            if due.is_some_and(|due| due <= now) {
                *due = Some(now + LOOK_AGAIN_MIN);
            }
        }
        if self.common_due.is_some_and(|due| due <= now) {
            self.common_due = Some(now + LOOK_AGAIN_MIN);
        }
    }

    fn drop_the_left(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        let gone: Vec<ServiceName> = self
            .leaving
            .iter()
            .filter(|name| self.services.get(*name).is_none_or(Service::is_at_rest))
            .cloned()
            .collect();
        for name in gone {
            self.leaving.remove(&name);
            if let Some(service) = self.services.remove(&name) {
                // It may come back: its hold, its ledgers and its run numbers are not to start anew.
                let memory = service.memory(now);
                if self.remembered.len() < LEFT_KEPT_MAX {
                    self.floors.insert(name.clone(), service.highest());
                    let item =
                        Remembered { service: name.clone(), memory, elapsed: Duration::ZERO, away: None };
                    self.remembered.insert(name.clone(), (item, Some(now)));
                }
            }
            if let Some(plan) = self.successors.remove(&name) {
                self.add_service(turn, name, plan);
            }
        }
    }

    fn observe(&mut self, turn: &mut Turn<'_>, name: &ServiceName, observation: Observation) {
        let is_end = matches!(observation, Observation::Exited { .. } | Observation::Gone { .. });
        if let Some(service) = self.services.get_mut(name) {
            service.observe(turn, observation);
        }
        if is_end {
            self.services.values_mut().for_each(|service| service.ask_for_lock_again(turn.now));
        }
    }

    fn change_plan(&mut self, turn: &mut Turn<'_>, plan: Plan) {
        if turn.shared.mode != plan.daemon.mode {
            turn.shared.mode = plan.daemon.mode;
            for service in self.services.values_mut() {
                service.spell.may_decline_again();
                service.work_spell.may_decline_again();
                service.due = Some(turn.now);
            }
        }
        self.host.clone_from(&plan.daemon.host);
        for (name, service) in &mut self.services {
            if !plan.services.contains_key(name) && !self.leaving.contains(name) {
                service.remove(turn);
                service.due = Some(turn.now);
                self.leaving.insert(name.clone());
            }
        }
        self.successors.clear();
        for (name, service_plan) in plan.services {
            if self.leaving.remove(&name) {
                self.services.entry(name.clone()).and_modify(Service::rejoin);
            }
            match self.services.get_mut(&name) {
                Some(service) if service.plan == service_plan => {}
                Some(service) if service.plan.owner != service_plan.owner => {
                    service.remove(turn);
                    service.due = Some(turn.now);
                    self.leaving.insert(name.clone());
                    self.successors.insert(name, service_plan);
                }
                Some(service) => {
                    service.retune(turn, service_plan);
                    service.due = Some(turn.now);
                }
                None => self.add_service(turn, name, service_plan),
            }
        }
        self.change_monitors(turn, plan.monitors);
        let wall = turn.shared.wall_at(turn.now);
        let ended = turn.shared.maintenance.retune(&plan.maintenance, turn.now, wall);
        self.note_windows(turn, ended);
        let gone = |sink: &&String| !plan.sinks.keys().any(|name| name.as_str() == sink.as_str());
        for sink in self.dead_sinks.keys().filter(gone).cloned().collect::<Vec<_>>() {
            self.sink_health(turn, &sink, None);
        }
        turn.shared.ready_changed = true;
    }

    fn add_service(&mut self, turn: &mut Turn<'_>, name: ServiceName, plan: ServicePlan) {
        let mut service = Service::new(name.clone(), plan, turn.now);
        (service.slow_percent, service.slow_target) = (self.slow_percent, self.slow_percent);
        if let Some((item, left_at)) = self.remembered.remove(&name) {
            let away = left_at.map_or(Duration::ZERO, |at| turn.now.since(at));
            service.restore(
                turn.now,
                &item.memory,
                item.elapsed + away,
                item.away.map(|before| before + away),
            );
        }
        if let Some(floor) = self.floors.remove(&name) {
            service.raise_generation(floor);
        }
        service.set_job_clock(turn.now, turn.shared.wall_at(turn.now));
        service.due = Some(turn.now);
        service.react(turn, Trigger::Reconsider, Facts::None);
        turn.shared.record_changed = true;
        self.services.insert(name, service);
    }

    fn change_monitors(
        &mut self,
        turn: &mut Turn<'_>,
        plans: BTreeMap<MonitorName, crate::plan::MonitorPlan>,
    ) {
        for (name, monitor) in &mut self.monitors {
            if plans.get(name).is_none_or(|plan| *plan != monitor.plan) {
                monitor.remove(turn);
            }
        }
        self.monitors.retain(|name, monitor| plans.get(name).is_some_and(|plan| *plan == monitor.plan));
        for (name, plan) in plans {
            if let std::collections::btree_map::Entry::Vacant(place) = self.monitors.entry(name.clone()) {
                let open = self.orphans.remove(name.as_str()).unwrap_or_default();
                place.insert(Monitor::with_open(name, plan, &open, turn.now));
            }
        }
    }

    fn reconciled(&mut self, turn: &mut Turn<'_>) {
        turn.shared.reconciled = true;
        for service in self.services.values_mut() {
            if service.unit().is_some() {
                // The keeper knows nothing of it.
                continue;
            }
            service.miss_the_run(turn.now);
            service.remembered_instance = None;
            service.remembered_start = false;
            if service.is_at_rest() {
                // Who waits to hear that it is down hears it now.
                service.react(turn, Trigger::Reconsider, Facts::None);
            }
            service.due = Some(turn.now);
        }
        self.resume_trial(turn);
    }

    fn operator(&mut self, turn: &mut Turn<'_>, ticket: u64, request: OperatorRequest) {
        let name = request.service().clone();
        let Some(service) = self.services.get_mut(&name).filter(|_| !self.leaving.contains(&name)) else {
            let why = format!("there is no service '{name}'");
            let answer = Answer::Refused { why, hint: "horus status".into() };
            turn.push(Command::Answer { ticket, answer });
            return;
        };
        let starts = matches!(request, OperatorRequest::Start(_) | OperatorRequest::Restart(_));
        if turn.shared.shutting_down && starts {
            let (why, hint) = ("Horus is ending".to_owned(), "horus run".to_owned());
            turn.push(Command::Answer { ticket, answer: Answer::Refused { why, hint } });
            return;
        }
        if service.tickets.len() >= TICKETS_MAX {
            let why = format!("{TICKETS_MAX} requests wait for '{name}' already");
            turn.push(Command::Answer {
                ticket,
                answer: Answer::Refused { why, hint: "horus status".into() },
            });
            return;
        }
        service.due = Some(turn.now);
        service.ask(turn, ticket, request);
    }

    fn store_health(&mut self, turn: &mut Turn<'_>, fault: Option<String>) {
        let kind = IncidentKind::Store;
        match &fault {
            Some(text) => {
                let reason = Reason::new(Rule::Store, text.clone());
                let id = self.own.open(turn, None, kind, "", Severity::Critical, &reason);
                if self.own.find(kind).is_some_and(|incident| !incident.told) {
                    let story = Story::StoreTrouble { fault: text.clone() };
                    self.own.tell(turn, id, Severity::Critical, true, true, story);
                }
            }
            None => {
                let how = "the state directory takes writes again";
                self.own.close_kind(turn, kind, Outcome::CameBackAlone, how);
            }
        }
        self.store_fault = fault;
    }

    fn sink_health(&mut self, turn: &mut Turn<'_>, sink: &str, fault: Option<String>) {
        let kind = IncidentKind::SinkDead;
        match fault {
            Some(fault) => {
                let reason = Reason::new(Rule::Sink, fault.clone());
                let id = self.own.open(turn, None, kind, sink, Severity::Critical, &reason);
                if self.own.find_detail(kind, sink).is_some_and(|incident| !incident.told) {
                    let story = Story::SinkDead { sink: sink.to_owned(), fault: fault.clone() };
                    self.own.tell(turn, id, Severity::Critical, true, true, story);
                }
                self.dead_sinks.insert(sink.to_owned(), fault);
            }
            None => {
                self.dead_sinks.remove(sink);
                if let Some(id) = self.own.find_detail(kind, sink).map(|incident| incident.id) {
                    self.own.close(turn, id, Outcome::CameBackAlone, "it takes messages again", None);
                }
            }
        }
    }

    fn shut_down(&mut self, turn: &mut Turn<'_>) {
        turn.shared.shutting_down = true;
        turn.record(
            "horus",
            None,
            None,
            What::Horus { text: "told to end; services are stopped first".into() },
        );
    }

    /// Ends services whose dependents are gone; says when all are.
    fn continue_shut_down(&mut self, turn: &mut Turn<'_>) {
        if !turn.shared.shutting_down {
            return;
        }
        // Before the keeper has answered nobody knows what still lives from an earlier life of Horus.
        let ours = |service: &&Service| service.unit().is_none();
        if !turn.shared.reconciled && self.services.values().filter(ours).any(Service::is_remembered) {
            return;
        }
        let holding_on: BTreeSet<ServiceName> = self
            .services
            .values()
            .filter(|service| service.unit().is_none() && !service.is_at_rest())
            .flat_map(|service| service.plan.after.iter().cloned())
            .collect();
        for (name, service) in &mut self.services {
            // What others have started goes on.
            if holding_on.contains(name) || service.unit().is_some() {
                continue;
            }
            if service.wanted == Wanted::Up {
                service.wanted = Wanted::Down(Why::ShutDown);
            } else if service.is_at_rest() {
                continue;
            }
            let facts =
                Facts::Because(StopCause::Planned, Reason::new(Rule::ShutDown, Why::ShutDown.words()));
            service.react(turn, Trigger::WantDown, facts);
            service.look(turn);
        }
        if self.services.values().filter(ours).all(Service::is_at_rest) {
            turn.push(Command::Finished);
        }
    }
}

/// The service that an input is about.
fn touched(input: &Input) -> Option<ServiceName> {
    match input {
        Input::Service(name, _) => Some(name.clone()),
        Input::Operator { request, .. } => Some(request.service().clone()),
        Input::Wake
        | Input::PlanChanged(_)
        | Input::KeeperLost
        | Input::Reconciled
        | Input::Monitor(..)
        | Input::IncidentStored { .. }
        | Input::StoreHealth { .. }
        | Input::SinkHealth { .. }
        | Input::Wall(_)
        | Input::Host(_)
        | Input::ShutDown => None,
    }
}
