//! Foreign units: what their managers show, as observations; and what the judge wants, as orders for the managers.
//!
//! ```text
//!   owner of the engine --- orders, units ---> worker (one task; blocks elsewhere) ---> systemctl, launchctl
//!          ^                                      |
//!          +------------- looks, answers ---------+
//! ```
//!
//! The worker does one thing after the other, so a look that comes after an answer was made after that order: nothing is
//! concluded from an older one. A run is known by pid and start time. Its end is told before the next run is; and because it is
//! remembered with the service, the next Horus knows the same run again.

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::foreign::{Owner as UnitOwner, Unit, UnitManager, UnitOrder, UnitScope};
use horus_core::ids::{Generation, Instance, ProcessId, ServiceName};
use horus_core::observation::{Exit, Observation, UnitState};
use horus_core::plan::Plan;
use horus_service::foreign::{self, End, ForeignUnit, Order, Rest, Shown};
use horus_service::{Manager, Scope, SystemRunner};
use horus_store::Restored;
use horus_sys::{process, user};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::owner::Owner;

/// How often the managers are asked how their units stand.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// After an order it is asked more often, for so long.
const EAGER_EVERY: Duration = Duration::from_millis(250);
const EAGER_FOR: Duration = Duration::from_secs(5);

/// A manager that is being reloaded may refuse to answer. One that has refused so often cannot be asked.
const REFUSALS_MAX: u32 = 3;

/// Orders and answers that wait. Each unit has at most a few at a time.
const CHANNEL_MAX: usize = 1_024;

type Units = BTreeMap<ServiceName, Unit>;

/// What the worker tells.
#[derive(Debug)]
pub(super) enum Told {
    /// How these stand.
    Looked(Vec<(ServiceName, Unit, Seen)>),
    /// What became of an order.
    Ordered { given: Given, outcome: Result<(), String> },
}

/// An order on its way.
#[derive(Clone, Debug)]
pub(super) struct Given {
    service: ServiceName,
    unit: Unit,
    generation: Generation,
    order: Order,
    /// The run that is meant.
    process: Option<ProcessId>,
}

/// One look at one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    process: Option<ProcessId>,
    /// Why there is none.
    state: UnitState,
    ended: Option<(i32, Exit)>,
}

/// What the loop knows of one unit.
#[derive(Debug)]
struct Known {
    unit: Unit,
    /// The run that was told to the engine.
    instance: Option<Instance>,
    /// The run of which an earlier life of Horus knew, until the first look.
    remembered: Option<Instance>,
    /// The last look.
    seen: Option<Seen>,
    /// What was told of it since its last run.
    told: Option<UnitState>,
    /// A start that the engine waits for.
    awaited: Option<Awaited>,
    /// Orders without an answer.
    orders: u32,
}

/// A start that the engine waits for.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    generation: Generation,
    /// The manager was asked. Else it was at it already.
    ordered: bool,
}

/// The loop's end.
#[derive(Debug)]
pub(super) struct Foreign {
    pub(super) news: mpsc::Receiver<Told>,
    orders: mpsc::Sender<Given>,
    units: watch::Sender<Units>,
    known: BTreeMap<ServiceName, Known>,
    remembered: BTreeMap<ServiceName, Instance>,
}

impl Foreign {
    /// Begins to look, as soon as there is something to look at. `remembered`: the runs of which an earlier life knew.
    pub(super) fn new(remembered: BTreeMap<ServiceName, Instance>) -> Self {
        let (told, news) = mpsc::channel(CHANNEL_MAX);
        let (orders, taken) = mpsc::channel(CHANNEL_MAX);
        let (units, followed) = watch::channel(Units::new());
        drop(tokio::spawn(work(followed, taken, told)));
        Self { news, orders, units, known: BTreeMap::new(), remembered }
    }

    /// From now on the units of this plan are looked at.
    pub(super) fn follow(&mut self, plan: &Plan) {
        let units: Units = plan
            .services
            .iter()
            .filter_map(|(name, service)| match &service.owner {
                UnitOwner::Keeper => None,
                UnitOwner::Unit(unit) => Some((name.clone(), unit.clone())),
            })
            .collect();
        self.known.retain(|name, known| units.get(name) == Some(&known.unit));
        for (name, unit) in &units {
            let remembered = self.remembered.remove(name);
            self.known.entry(name.clone()).or_insert_with(|| Known {
                unit: unit.clone(),
                instance: None,
                remembered,
                seen: None,
                told: None,
                awaited: None,
                orders: 0,
            });
        }
        self.units.send_if_modified(|before| {
            let changed = *before != units;
            *before = units;
            changed
        });
    }

    /// Whether this run is one of a unit.
    pub(super) fn has(&self, service: &ServiceName, generation: Generation) -> bool {
        let instance = self.known.get(service).and_then(|known| known.instance);
        instance.is_some_and(|instance| instance.generation == generation)
    }

    /// Gives an order. A channel that is full means a worker that hangs: the same as a manager that says no.
    fn give(&mut self, service: &ServiceName, generation: Generation, order: Order) -> Result<(), String> {
        let known = self.known.get_mut(service).ok_or("it is no unit of the plan any more")?;
        let process = known.instance.map(|instance| instance.process);
        let given = Given { service: service.clone(), unit: known.unit.clone(), generation, order, process };
        self.orders.try_send(given).map_err(|_| "its manager does not take orders".to_owned())?;
        known.orders += 1;
        Ok(())
    }
}

/// The runs of units that an earlier life of Horus believed alive.
pub(super) fn remembered(restored: &Restored) -> BTreeMap<ServiceName, Instance> {
    let runs = restored.memories.iter().filter_map(|item| {
        let process = item.memory.unit.as_ref()?.process?;
        Some((item.service.clone(), Instance { generation: item.memory.generation, process }))
    });
    runs.collect()
}

// --- the loop's side ---

/// The judge wants a run. One that is there, or on its way, is taken; else its manager is asked.
pub(super) fn start(owner: &mut Owner, service: &ServiceName, generation: Generation) {
    let Some(known) = owner.foreign.known.get_mut(service) else {
        let error = "it is no unit of the plan any more".to_owned();
        owner.observe(service, Observation::SpawnFailed { generation, error });
        return;
    };
    let ended = known.instance.is_none();
    let on_its_way = known.seen.as_ref().is_some_and(|seen| {
        (ended && seen.process.is_some()) || (seen.process.is_none() && seen.state == UnitState::Returning)
    });
    known.awaited = Some(Awaited { generation, ordered: !on_its_way });
    if !on_its_way {
        order_start(owner, service, generation);
    }
}

fn order_start(owner: &mut Owner, service: &ServiceName, generation: Generation) {
    if let Err(error) = owner.foreign.give(service, generation, Order::Start) {
        fail_start(owner, service, generation, error);
    }
}

/// The judge, or a person, wants a run to end.
pub(super) fn end(owner: &mut Owner, service: &ServiceName, generation: Generation, order: UnitOrder) {
    let order = match order {
        UnitOrder::Restart => Order::Restart,
        UnitOrder::Stop => Order::Stop,
    };
    order_or_report(owner, service, generation, order);
}

/// The time for ending is over.
pub(super) fn kill(owner: &mut Owner, service: &ServiceName, generation: Generation) {
    order_or_report(owner, service, generation, Order::Kill);
}

fn order_or_report(owner: &mut Owner, service: &ServiceName, generation: Generation, order: Order) {
    if let Err(error) = owner.foreign.give(service, generation, order) {
        owner.observe(service, Observation::SignalFailed { generation, error });
    }
}

fn fail_start(owner: &mut Owner, service: &ServiceName, generation: Generation, error: String) {
    if let Some(known) = owner.foreign.known.get_mut(service) {
        known.awaited = None;
        known.told = None;
    }
    owner.observe(service, Observation::SpawnFailed { generation, error });
}

/// The worker said something.
pub(super) fn heard(owner: &mut Owner, told: Told) {
    match told {
        Told::Looked(all) => {
            for (service, unit, seen) in all {
                // A look may be older than the plan.
                if owner.foreign.known.get(&service).is_some_and(|known| known.unit == unit) {
                    take(owner, &service, seen);
                }
            }
        }
        Told::Ordered { given, outcome } => {
            let Given { service, unit, generation, order, .. } = given;
            let Some(known) = owner.foreign.known.get_mut(&service).filter(|known| known.unit == unit) else {
                return;
            };
            known.orders = known.orders.saturating_sub(1);
            let Err(why) = outcome else { return };
            tracing::warn!(%service, %unit, ?order, why, "the manager refused");
            match order {
                Order::Start if known.awaited.is_some_and(|awaited| awaited.generation == generation) => {
                    fail_start(owner, &service, generation, why);
                }
                Order::Start => {}
                Order::Restart | Order::Stop | Order::Kill => {
                    owner.observe(&service, Observation::SignalFailed { generation, error: why });
                }
            }
        }
    }
}

/// One look at one unit, compared with what the engine was told.
fn take(owner: &mut Owner, service: &ServiceName, seen: Seen) {
    let next = owner.engine.next_generation(service);
    let Some(known) = owner.foreign.known.get_mut(service) else { return };
    let lives = |instance: &Instance| {
        let Instance { process: ProcessId { pid, start_time }, .. } = *instance;
        process::is_alive(&process::ProcessId { pid, start_time })
    };
    if matches!(seen.state, UnitState::Absent { .. }) && known.instance.as_ref().is_some_and(lives) {
        // Its manager does not say, or cannot be asked. What was seen to live still does.
        return;
    }
    known.seen = Some(seen.clone());
    if let Some(before) = known.remembered.take() {
        // Of an earlier life: the same run goes on, or its end is told before anything else.
        known.instance = Some(before);
        owner.processes.insert(service.clone(), before);
        owner.observe(service, Observation::Adopted(before));
    }
    tell_end(owner, service, &seen);
    let Some(known) = owner.foreign.known.get_mut(service) else { return };
    match seen.process {
        Some(_) if known.instance.is_some() => {}
        Some(process) => {
            let awaited = known.awaited.take().map(|awaited| awaited.generation);
            let instance = Instance { generation: awaited.unwrap_or(next), process };
            known.instance = Some(instance);
            known.told = None;
            owner.processes.insert(service.clone(), instance);
            let observation = match awaited {
                Some(_) => Observation::Spawned(instance),
                None => Observation::Adopted(instance),
            };
            owner.observe(service, observation);
        }
        None => tell_rest(owner, service, &seen.state),
    }
}

/// The run that the engine knows is not the one that is there.
fn tell_end(owner: &mut Owner, service: &ServiceName, seen: &Seen) {
    let Some(known) = owner.foreign.known.get_mut(service) else { return };
    let Some(instance) = known.instance.filter(|instance| seen.process != Some(instance.process)) else {
        return;
    };
    (known.instance, known.told) = (None, None);
    let exit = seen.ended.filter(|(pid, _)| *pid == instance.process.pid || *pid == 0);
    let exit = exit.map_or(Exit::Unknown, |(_, exit)| exit);
    owner.observe(service, Observation::Exited { generation: instance.generation, exit, strays: 0 });
}

fn tell_rest(owner: &mut Owner, service: &ServiceName, state: &UnitState) {
    let Some(known) = owner.foreign.known.get_mut(service) else { return };
    // Made before an order that is on its way: what it shows is about to change.
    if known.orders > 0 {
        return;
    }
    let settled = *state != UnitState::Returning;
    if let Some(awaited) = known.awaited.as_mut().filter(|awaited| settled && !awaited.ordered) {
        // It was on its way, and has not come.
        awaited.ordered = true;
        let generation = awaited.generation;
        order_start(owner, service, generation);
        return;
    }
    let failed = known.awaited.filter(|_| settled).map(|awaited| awaited.generation);
    if known.told.as_ref() != Some(state) {
        known.told = Some(state.clone());
        owner.observe(service, Observation::Unit { state: state.clone() });
    }
    if let Some(generation) = failed {
        let error = match state {
            UnitState::Failed { how } => format!("its manager started it, and it failed: {how}"),
            UnitState::Absent { why } => why.clone(),
            UnitState::Stopped | UnitState::Returning => {
                "its manager was asked to start it and did not".into()
            }
        };
        fail_start(owner, service, generation, error);
    }
}

// --- the worker's side ---

async fn work(
    mut units: watch::Receiver<Units>,
    mut orders: mpsc::Receiver<Given>,
    told: mpsc::Sender<Told>,
) {
    let mut refusals = BTreeMap::new();
    let mut eager_until = Instant::now();
    loop {
        let now = Instant::now();
        let every = if now < eager_until { EAGER_EVERY } else { LOOK_EVERY };
        let given = if units.borrow_and_update().is_empty() {
            // Nothing to look at.
            tokio::select! {
                given = orders.recv() => Some(given),
                changed = units.changed() => if changed.is_ok() { continue } else { return },
            }
        } else {
            tokio::select! {
                given = timeout_at(now + every, orders.recv()) => given.ok(),
                changed = units.changed() => if changed.is_ok() { None } else { return },
            }
        };
        match given {
            Some(None) => return,
            Some(Some(given)) => {
                eager_until = Instant::now() + EAGER_FOR;
                let outcome = order(given.clone()).await;
                if told.send(Told::Ordered { given, outcome }).await.is_err() {
                    return;
                }
            }
            None => {}
        }
        let all = units.borrow_and_update().clone();
        if told.send(Told::Looked(look(all, &mut refusals).await)).await.is_err() {
            return;
        }
        // Many orders in a row are not many looks in a row.
        sleep_until(now + EAGER_EVERY / 10).await;
    }
}

async fn order(given: Given) -> Result<(), String> {
    let asking = move || {
        let (manager, unit) = speech(&given.unit);
        if !is_meant(manager, &unit, &given) {
            // The next look tells what has become of it.
            return Ok(());
        }
        foreign::order(manager, &unit, given.order, user::effective_uid(), &mut SystemRunner)
            .map_err(|error| super::chain(&error))
    };
    tokio::task::spawn_blocking(asking).await.unwrap_or_else(|error| Err(error.to_string()))
}

/// Whether a restart would meet the run that was judged. Orders are for a name: since the last look its manager may have started
/// another, which is nobody's to end.
fn is_meant(manager: Manager, unit: &ForeignUnit, given: &Given) -> bool {
    if !matches!(given.order, Order::Restart | Order::Kill) {
        return true;
    }
    let units = std::slice::from_ref(unit);
    match foreign::show(manager, units, user::effective_uid(), &mut SystemRunner) {
        Ok(shown) => shown.into_iter().next().is_none_or(|shown| match seen(shown).process {
            // A kill is also for what is left of a run whose main process is gone.
            None => given.order == Order::Kill,
            process => process == given.process,
        }),
        // Then the order will say why.
        Err(_) => true,
    }
}

/// A manager, and whose: what is asked in one go, and fails in one go.
type Group = (UnitManager, UnitScope);

/// Looks at all units. `refusals`: how often in a row each manager has not answered.
async fn look(units: Units, refusals: &mut BTreeMap<Group, u32>) -> Vec<(ServiceName, Unit, Seen)> {
    let mut groups: BTreeMap<Group, Vec<(ServiceName, Unit)>> = BTreeMap::new();
    for (service, unit) in units {
        groups.entry((unit.manager, unit.scope)).or_default().push((service, unit));
    }
    let mut all = Vec::new();
    for (group, members) in groups {
        let asked: Vec<ForeignUnit> = members.iter().map(|(_, unit)| speech(unit).1).collect();
        let manager = manager_of(group.0);
        let asking = move || {
            let shown = foreign::show(manager, &asked, user::effective_uid(), &mut SystemRunner);
            shown
                .map(|shown| shown.into_iter().map(seen).collect::<Vec<_>>())
                .map_err(|error| super::chain(&error))
        };
        let answer = tokio::task::spawn_blocking(asking).await.unwrap_or_else(|error| Err(error.to_string()));
        match answer {
            Ok(seen) => {
                refusals.remove(&group);
                all.extend(
                    members.into_iter().zip(seen).map(|((service, unit), seen)| (service, unit, seen)),
                );
            }
            Err(why) => {
                let count = refusals.entry(group).or_default();
                *count = count.saturating_add(1);
                if *count >= REFUSALS_MAX {
                    let gone =
                        || Seen { process: None, state: UnitState::Absent { why: why.clone() }, ended: None };
                    all.extend(members.into_iter().map(|(service, unit)| (service, unit, gone())));
                }
            }
        }
    }
    all
}

fn speech(unit: &Unit) -> (Manager, ForeignUnit) {
    let scope = match unit.scope {
        UnitScope::System => Scope::System,
        UnitScope::User => Scope::User,
    };
    (manager_of(unit.manager), ForeignUnit { scope, name: unit.name.clone() })
}

fn manager_of(manager: UnitManager) -> Manager {
    match manager {
        UnitManager::Systemd => Manager::Systemd,
        UnitManager::Launchd => Manager::Launchd,
    }
}

/// What was shown, with the identity of the process. One that is gone by now is about to be replaced or mourned: the next
/// look tells.
fn seen(shown: Shown) -> Seen {
    let ended = shown.ended.map(|(pid, end)| {
        let exit = match end {
            End::Code(code) => Exit::Code(code),
            End::Signal(number) => Exit::Signal(number),
        };
        (pid, exit)
    });
    let rest = match shown.rest {
        Rest::Stopped => UnitState::Stopped,
        Rest::Failed(how) => UnitState::Failed { how },
        Rest::Returning => UnitState::Returning,
        Rest::Absent(why) => UnitState::Absent { why },
    };
    let Some(pid) = shown.pid else { return Seen { process: None, state: rest, ended } };
    if pid == process::own_pid() {
        let why = "that is Horus itself".to_owned();
        return Seen { process: None, state: UnitState::Absent { why }, ended };
    }
    let (process, state) = match process::identify(pid) {
        Ok(Some(id)) => (Some(ProcessId { pid: id.pid, start_time: id.start_time }), UnitState::Returning),
        Ok(None) => (None, UnitState::Returning),
        Err(error) => (None, UnitState::Absent { why: format!("its process {pid} cannot be seen: {error}") }),
    };
    Seen { process, state, ended }
}
