//! What the keeper says, as observations; and the comparison of what it has with what the engine believes.
//!
//! One function serves the first start, a lost connection, a new keeper and a new Horus: [`reconcile`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use horus_core::event::What;
use horus_core::ids::{Generation, Instance, ProcessId, ServiceName};
use horus_core::observation::{Exit, Input, Observation};
use horus_keeper::protocol::{
    Event, ExitStatus, Hello, OutOfMemory, Request, Scope, SlotName, SlotState, SlotView, StartStep,
};
use horus_sys::launch::Step;
use horus_sys::signal::Signal;

use super::handover::arrival;
use super::owner::{Owner, Stranger, slot_of};
use super::tree_limits;

/// A process of a service that the plan no longer has may end by itself for so long.
const STRANGER_GRACE: Duration = Duration::from_secs(10);

fn process(id: horus_sys::process::ProcessId) -> ProcessId {
    ProcessId { pid: id.pid, start_time: id.start_time }
}

fn exit(status: ExitStatus, out_of_memory: Option<OutOfMemory>) -> Exit {
    match (status, out_of_memory) {
        (_, Some(OutOfMemory { limit })) => Exit::OutOfMemory { limit_bytes: limit },
        (ExitStatus::Code(code), None) => Exit::Code(code),
        (ExitStatus::Signal { number, .. }, None) => Exit::Signal(number),
        (ExitStatus::NotExecuted { .. }, None) => Exit::Code(horus_sys::launch::EXIT_NOT_EXECUTED),
        (ExitStatus::Unknown, None) => Exit::Unknown,
    }
}

fn service_of(slot: &SlotName) -> Option<ServiceName> {
    ServiceName::parse(slot.as_str()).ok()
}

/// Brings the engine's belief in line with what the keeper has.
pub(super) fn reconcile(owner: &mut Owner, hello: Hello) {
    tracing::info!(keeper = hello.process.pid, slots = hello.slots.len(), "attached to the keeper");
    for text in remarks(&hello) {
        if owner.keeper.is_news(&text) {
            note(owner, text);
        }
    }
    owner.keeper_abilities.clone_from(&hello.can);
    let believed: BTreeMap<ServiceName, Generation> = owner.engine.living().into_iter().collect();
    let mut accounted = BTreeSet::new();
    for view in hello.slots {
        let Some(service) = service_of(&view.slot) else { continue };
        let generation = Generation(view.generation.0);
        owner.engine.raise_generation(&service, generation);
        let is_ours = owner.service_plan(&service).is_some_and(|plan| plan.owner.is_keeper());
        if !is_ours && !believed.contains_key(&service) {
            end_stranger(owner, &service, &view);
            continue;
        }
        // An empty slot knows the number of a run that never came about.
        let known = view.state != SlotState::Empty;
        if known && believed.get(&service).is_none_or(|believed| *believed == generation) {
            accounted.insert(service.clone());
        }
        reconcile_slot(owner, &service, generation, view.state, believed.contains_key(&service));
    }
    for (service, generation) in believed {
        if !accounted.contains(&service) {
            account_for_missing(owner, &service, generation);
        }
    }
    owner.unaccounted.clear();
    owner.hold_fifos();
    owner.step(Input::Reconciled);
}

/// What the keeper found wrong on disk.
fn remarks(hello: &Hello) -> Vec<String> {
    let unreadable = hello.unreadable.iter().map(|found| {
        format!(
            "{}: its records cannot be read ({}); it is not started while a process of it is found",
            found.slot, found.why
        )
    });
    hello.remarks.iter().cloned().chain(unreadable).collect()
}

fn reconcile_slot(
    owner: &mut Owner,
    service: &ServiceName,
    generation: Generation,
    state: SlotState,
    believed: bool,
) {
    match state {
        SlotState::Empty => {}
        SlotState::Starting(id) | SlotState::Running(id) | SlotState::Ending(id) => {
            let instance = Instance { generation, process: process(id) };
            owner.processes.insert(service.clone(), instance);
            owner.observe(service, Observation::Adopted(instance));
            tree_limits::say(owner, service);
        }
        SlotState::Ended { process: id, status, out_of_memory } => {
            // It ended while nobody listened. Whoever believed it alive has to be told, whether that is this
            // engine or an earlier life of Horus.
            let unaccounted = owner.unaccounted.get(service) == Some(&generation);
            if unaccounted && let Some(id) = id {
                let instance = Instance { generation, process: process(id) };
                owner.observe(service, Observation::Adopted(instance));
            }
            if believed || unaccounted {
                let exit = exit(status, out_of_memory);
                owner.observe(service, Observation::Exited { generation, exit, strays: 0 });
            }
        }
    }
}

fn account_for_missing(owner: &mut Owner, service: &ServiceName, generation: Generation) {
    owner.observe(service, Observation::StartLost { generation });
    owner.observe(service, Observation::Exited { generation, exit: Exit::Unknown, strays: 0 });
}

/// A slot of a service that is not in the plan: removed while no Horus was there.
fn end_stranger(owner: &mut Owner, service: &ServiceName, view: &SlotView) {
    let (slot, generation) = (view.slot.clone(), view.generation);
    if !matches!(view.state, SlotState::Running(_) | SlotState::Starting(_) | SlotState::Ending(_)) {
        owner.keeper.send(Request::Forget { slot });
        return;
    }
    let text = format!("{service} is not in the plan and still runs: it is stopped");
    tracing::warn!("{text}");
    owner.note(What::Horus { text });
    if let Ok(signal) = Signal::parse("SIGTERM") {
        owner.keeper.send(Request::Signal { slot: slot.clone(), generation, signal, scope: Scope::Main });
    }
    let kill_at = Some(owner.now() + STRANGER_GRACE);
    owner.strangers.insert(slot, Stranger { generation, kill_at });
}

/// Kills the trees of strangers whose grace is over.
pub(super) fn kill_strangers(owner: &mut Owner) {
    let now = owner.now();
    for (slot, stranger) in &mut owner.strangers {
        if stranger.kill_at.is_some_and(|at| at <= now) {
            stranger.kill_at = None;
            let (slot, generation) = (slot.clone(), stranger.generation);
            owner.keeper.send(Request::KillTree { slot, generation });
        }
    }
}

/// A stranger has ended: what it left behind is killed, then its slot is forgotten.
fn stranger_ended(owner: &mut Owner, slot: &SlotName, strays: u32) {
    let Some(stranger) = owner.strangers.get_mut(slot) else { return };
    let (slot, generation) = (slot.clone(), stranger.generation);
    if strays > 0 {
        stranger.kill_at = None;
        owner.keeper.send(Request::KillTree { slot, generation });
        return;
    }
    owner.strangers.remove(&slot);
    note(owner, format!("{slot} has ended; it is not in the plan"));
    owner.keeper.send(Request::Forget { slot });
}

/// The keeper said something.
pub(super) fn heard(owner: &mut Owner, event: Event) {
    match event {
        Event::Started { slot, generation, process: id } => {
            let Some(service) = service_of(&slot).filter(|service| !owner.engine.is_unit(service)) else {
                return;
            };
            let instance = Instance { generation: Generation(generation.0), process: process(id) };
            owner.processes.insert(service.clone(), instance);
            owner.hold_fifos();
            owner.observe(&service, Observation::Spawned(instance));
        }
        Event::StartFailed { slot, generation, error, step } => {
            if step == StartStep::Busy {
                // It has a process that we do not know of: ask anew what there is.
                owner.keeper.reconnect();
            }
            let error = named(owner, &slot, step, error);
            tell(owner, &slot, |_| Observation::SpawnFailed { generation: Generation(generation.0), error });
        }
        Event::Leftovers { slot, processes, .. } => {
            let named: Vec<String> =
                processes.iter().map(|left| format!("pid {} ({})", left.process.pid, left.command)).collect();
            let named = named.join(", ");
            note(owner, format!("{slot}: left over from an earlier life, ended before its start: {named}"));
        }
        Event::Limited { slot, tree, limited, .. } => tree_limits::heard(owner, &slot, &tree, limited),
        Event::Blocked { slot, generation, key, holder } => {
            let by = format!("waits for {key}, held by {holder}");
            tell(owner, &slot, |_| Observation::Blocked { generation: Generation(generation.0), by });
        }
        Event::Exited { slot, generation, status, strays, out_of_memory, .. } => {
            stranger_ended(owner, &slot, strays);
            let (generation, exit) = (Generation(generation.0), exit(status, out_of_memory));
            tell(owner, &slot, |_| Observation::Exited { generation, exit, strays });
        }
        Event::Gone { slot, generation, killed } => {
            stranger_ended(owner, &slot, 0);
            tell(owner, &slot, |_| Observation::Gone { generation: Generation(generation.0), killed });
        }
        Event::KillStuck { slot, generation, survivors } => {
            let pids: Vec<String> = survivors.iter().map(|id| id.pid.to_string()).collect();
            let error = format!("still alive after SIGKILL: {}", pids.join(", "));
            tell(owner, &slot, |_| Observation::SignalFailed { generation: Generation(generation.0), error });
        }
        Event::SignalFailed { slot, signal, error, .. } => {
            // Mostly a race with the end of the process, which is told by itself; the grace covers the rest.
            tracing::warn!(%slot, %signal, error, "a signal was not delivered");
        }
        Event::OutputDropped { slot, bytes, error } => {
            note(
                owner,
                format!("{slot}: {bytes} bytes of output could not be written and were dropped: {error}"),
            );
        }
        Event::OutputResumed { slot, dropped } => {
            note(owner, format!("{slot}: output is written again; {dropped} bytes were dropped"));
        }
        Event::LineSplit { slot, total } => {
            note(owner, format!("{slot}: a line was too long for its log file and was cut ({total} so far)"));
        }
        Event::Degraded { slot, error } => note(owner, format!("{slot}: {error}")),
        Event::UpgradeRefused { error } => {
            if !arrival::keeper_refused(owner, &error) {
                note(owner, format!("the keeper stays as it is: {error}"));
            }
        }
        Event::Rejected { error } => {
            tracing::warn!(error, "the keeper rejected a request");
            // One that does not know the word: an old one.
            arrival::keeper_refused(owner, &error);
        }
        Event::Replaced => tracing::warn!("another Horus took the keeper over"),
        Event::Hello(_)
        | Event::Signalled { .. }
        | Event::Forgotten { .. }
        | Event::Pong { .. }
        | Event::Unknown => {}
    }
}

fn tell(owner: &mut Owner, slot: &SlotName, observation: impl FnOnce(&ServiceName) -> Observation) {
    // A unit of that name is another program: the slot is a stranger's.
    if let Some(service) = service_of(slot).filter(|service| !owner.engine.is_unit(service)) {
        let observation = observation(&service);
        owner.observe(&service, observation);
        debug_assert!(slot_of(&service).is_some());
    }
}

/// The child could not say which directory or program it was: it has no memory to make words from.
fn named(owner: &Owner, slot: &SlotName, step: StartStep, error: String) -> String {
    let Some(plan) = service_of(slot).and_then(|service| owner.service_plan(&service)) else { return error };
    match (step, plan.launch.command.first()) {
        (StartStep::Child(Step::Directory), _) => format!("{}: {error}", plan.launch.directory.display()),
        (StartStep::Child(Step::Execute), Some(program)) => format!("{program}: {error}"),
        _ => error,
    }
}

fn note(owner: &Owner, text: String) {
    tracing::warn!("{text}");
    owner.note(What::Horus { text });
}
