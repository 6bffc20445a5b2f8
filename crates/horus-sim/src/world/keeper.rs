//! The keeper: starts, ends and knows the programs, outlives Horus, and may die itself. Mirrors `daemon/keeper_news.rs`.

use std::collections::{BTreeMap, VecDeque};

use horus_core::ids::{Generation, Instance, ProcessId, ServiceName};
use horus_core::observation::{Exit, Input, Observation};

use super::World;
use super::queue::{Event, Happening, KeeperEvent, MS, Nanos, SECOND};
use crate::invariants::lives::Written;
use crate::programs::Process;

/// With this code a child ends whose keeper died before it let it run.
const EXIT_GATE_CLOSED: i32 = 125;
/// A kill that takes longer is reported.
const STUCK_AFTER: Nanos = 10 * SECOND;
/// A process of a service that the plan no longer has may end by itself for so long.
const STRANGER_GRACE: Nanos = 10 * SECOND;

/// What the keeper knows of one service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    /// The last run that it has recorded.
    pub(crate) generation: Generation,
    state: SlotState,
    /// A kill of the tree is in progress.
    killing: bool,
    /// Children that outlived the last run.
    strays: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SlotState {
    #[default]
    Empty,
    Starting,
    Running,
    Ended {
        exit: Exit,
        serial: u32,
    },
}

impl Slot {
    pub(crate) fn is_starting(&self) -> bool {
        self.state == SlotState::Starting
    }
}

#[derive(Clone, Copy, Debug)]
enum Request {
    Start(usize, Generation),
    Signal(usize, Generation),
    Kill(usize, Generation),
}

/// The keeper and the link to it.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    /// Which keeper; events of an earlier one are void.
    serial: u32,
    link: bool,
    attaching: bool,
    /// Requests that wait for a link.
    waiting: VecDeque<Request>,
    /// News arrives in the order in which it was sent.
    news_at: Nanos,
    /// Which link: what was on its way over an earlier one is lost.
    links: u32,
    /// The runs that an earlier life of Horus believed alive, and which of their beats it had seen move.
    pub(super) unaccounted: BTreeMap<ServiceName, Believed>,
}

impl Keeper {
    pub(crate) fn is_attached(&self) -> bool {
        self.link
    }

    fn believes(&self, name: &ServiceName, generation: Generation) -> bool {
        self.unaccounted.get(name).is_some_and(|believed| believed.generation == generation)
    }

    /// Horus is gone: its requests and its link with it.
    pub(super) fn lose_link(&mut self) {
        (self.link, self.attaching) = (false, false);
        self.links += 1;
        self.waiting.clear();
    }
}

/// What an earlier life of Horus believed of a run.
#[derive(Clone, Debug)]
pub(crate) struct Believed {
    pub(super) generation: Generation,
    pub(super) moved: Option<Vec<u64>>,
    /// What was written down of its silence.
    pub(super) written: Option<Written>,
}

fn instance(process: &Process) -> Instance {
    let pid = i32::try_from(process.serial).unwrap_or(1);
    Instance { generation: process.generation, process: ProcessId { pid, start_time: process.started } }
}

impl World {
    // --- requests ---

    pub(super) fn ask_start(&mut self, place: usize, generation: Generation) {
        self.request(Request::Start(place, generation));
    }

    pub(super) fn ask_signal(&mut self, place: usize, generation: Generation) {
        self.request(Request::Signal(place, generation));
    }

    pub(super) fn ask_kill(&mut self, place: usize, generation: Generation) {
        self.request(Request::Kill(place, generation));
    }

    fn request(&mut self, request: Request) {
        if !self.keeper.link {
            self.keeper.waiting.push_back(request);
            return;
        }
        match request {
            Request::Start(place, generation) => self.start(place, generation),
            Request::Signal(place, generation) => self.soft_signal(place, generation),
            Request::Kill(place, generation) => self.kill_tree(place, generation),
        }
    }

    fn start(&mut self, place: usize, generation: Generation) {
        let fails = !self.calm && self.random.chance(self.places[place].habits.start_fails);
        let slot = &mut self.places[place].slot;
        if matches!(slot.state, SlotState::Starting | SlotState::Running) || slot.killing {
            let what = KeeperEvent::Busy { service: place, generation };
            self.queue.push(self.now, Event::Keeper { keeper: self.keeper.serial, what });
            return;
        }
        if generation <= slot.generation {
            let error = format!("run {generation} is not above run {}", slot.generation);
            self.news(place, Observation::SpawnFailed { generation, error });
            return;
        }
        slot.generation = generation;
        if fails {
            slot.state = SlotState::Empty;
            let error = "exec: not found".to_owned();
            self.news(place, Observation::SpawnFailed { generation, error });
            return;
        }
        slot.state = SlotState::Starting;
        let takes = self.random.magnitude(MS, 300 * MS);
        let what = KeeperEvent::Forked { service: place, generation };
        self.queue.push(self.now + takes, Event::Keeper { keeper: self.keeper.serial, what });
    }

    fn soft_signal(&mut self, place: usize, generation: Generation) {
        let grace = self
            .plan
            .services
            .get(&self.places[place].name)
            .map_or(SECOND, |plan| super::options::nanos(plan.stop.grace));
        let Some(process) = &mut self.places[place].process else { return };
        if process.generation != generation {
            return;
        }
        process.dying = true;
        let hung = process.hangs(self.now) && self.random.chance(0.5);
        if process.ignores_term || hung {
            return;
        }
        let takes = self.random.magnitude(5 * MS, (grace / 10 * 12).max(10 * MS));
        let (process, what) = (process.serial, Happening::Dies { signal: 15 });
        self.queue.push(self.now + takes, Event::Program { service: place, process, what });
    }

    fn kill_tree(&mut self, place: usize, generation: Generation) {
        let slot = &mut self.places[place].slot;
        if slot.generation != generation || slot.killing {
            return;
        }
        slot.killing = true;
        let takes = self.random.between(5 * MS, 300 * MS);
        let is_starting = slot.is_starting();
        match &mut self.places[place].process {
            Some(process) => {
                process.dying = true;
                let after = takes + if self.calm { 0 } else { process.dies_slowly };
                let (process, what) = (process.serial, Happening::Dies { signal: 9 });
                self.queue.push(self.now + after, Event::Program { service: place, process, what });
                let what = KeeperEvent::Stuck { service: place, generation };
                self.queue.push(self.now + STUCK_AFTER, Event::Keeper { keeper: self.keeper.serial, what });
            }
            None if is_starting => {}
            None => self.sweep_soon(place, takes),
        }
    }

    pub(super) fn sweep_soon(&mut self, place: usize, after: Nanos) {
        let event = Event::Program { service: place, process: 0, what: Happening::StraysGone };
        self.queue.push(self.now + after, event);
    }

    /// There is no keeper at the moment: the engine will ask for starts again when it knows what the next one has.
    pub(super) fn forget_waiting_starts(&mut self) {
        self.keeper.waiting.retain(|request| !matches!(request, Request::Start(..)));
    }

    // --- what happens at the keeper ---

    /// The last stray of a tree is gone.
    pub(super) fn strays_gone(&mut self, place: usize) {
        let slot = &mut self.places[place].slot;
        if !slot.killing || self.places[place].process.is_some() {
            return;
        }
        let slot = &mut self.places[place].slot;
        let (generation, killed) = (slot.generation, slot.strays + 1);
        (slot.killing, slot.strays) = (false, 0);
        self.news(place, Observation::Gone { generation, killed });
    }

    /// The main process has ended.
    pub(super) fn process_ended(&mut self, place: usize, process: &Process, exit: Exit) {
        let slot = &mut self.places[place].slot;
        slot.state = SlotState::Ended { exit, serial: process.serial };
        slot.strays = if slot.killing { 0 } else { process.strays };
        let (strays, generation, killing) = (slot.strays, process.generation, slot.killing);
        self.news(place, Observation::Exited { generation, exit, strays });
        if killing {
            // Mostly its main process was the last one.
            let after = if self.random.chance(0.9) { 0 } else { self.random.between(MS, 200 * MS) };
            self.sweep_soon(place, after);
        }
    }

    pub(super) fn keeper_does(&mut self, keeper: u32, what: KeeperEvent) {
        match what {
            KeeperEvent::Forked { .. } | KeeperEvent::Stuck { .. } | KeeperEvent::Busy { .. }
                if keeper != self.keeper.serial => {}
            KeeperEvent::Forked { service, generation } => self.forked(service, generation),
            KeeperEvent::Stuck { service, generation } => {
                let truth = &self.places[service];
                if truth.slot.killing
                    && truth.process.as_ref().is_some_and(|process| process.generation == generation)
                {
                    let error = "still alive after SIGKILL".to_owned();
                    self.news(service, Observation::SignalFailed { generation, error });
                }
            }
            KeeperEvent::KillStranger { service, generation } => {
                if !self.plan.services.contains_key(&self.places[service].name) {
                    self.kill_tree(service, generation);
                }
            }
            KeeperEvent::Busy { service, generation } => {
                // It has a process that we do not know of: ask anew what there is.
                let error = "a process has not ended".to_owned();
                let failed = Observation::SpawnFailed { generation, error };
                self.tell(Input::Service(self.places[service].name.clone(), failed));
                self.link_breaks();
            }
            KeeperEvent::Dies => {
                self.again(self.options.rates.keeper_dies, Event::Keeper { keeper: 0, what });
                if !self.calm {
                    self.keeper_dies();
                }
            }
            KeeperEvent::LinkBreaks => {
                self.again(self.options.rates.link_breaks, Event::Keeper { keeper: 0, what });
                if !self.calm {
                    self.link_breaks();
                }
            }
            KeeperEvent::Attached => self.attached(keeper),
        }
    }

    fn forked(&mut self, place: usize, generation: Generation) {
        let slot = &self.places[place].slot;
        if slot.generation != generation || slot.state != SlotState::Starting {
            return;
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        self.places[place].slot.state = SlotState::Running;
        self.places[place].slot.strays = 0;
        self.begin_program(place, serial, generation);
        if let Some(process) = &self.places[place].process {
            let spawned = Observation::Spawned(instance(process));
            self.news(place, spawned);
        }
        if self.places[place].slot.killing {
            self.places[place].slot.killing = false;
            self.kill_tree(place, generation);
        }
    }

    /// What it was about to start never runs; what runs, runs on.
    fn keeper_dies(&mut self) {
        self.log.happened(self.now, "keeper", || "dies".into());
        self.keeper.serial += 1;
        for place in &mut self.places {
            place.slot.killing = false;
            if place.slot.state == SlotState::Starting {
                let closed = SlotState::Ended { exit: Exit::Code(EXIT_GATE_CLOSED), serial: 0 };
                place.slot.state = if self.random.chance(0.5) { SlotState::Empty } else { closed };
            }
        }
        self.link_breaks();
    }

    /// The machine started anew: nothing runs, the records of the runs are of another boot.
    pub(crate) fn keeper_after_reboot(&mut self) {
        self.keeper.serial += 1;
        self.keeper.lose_link();
        for place in &mut self.places {
            let generation = place.slot.generation;
            place.slot = Slot { generation, ..Slot::default() };
        }
    }

    // --- the link ---

    fn news(&mut self, place: usize, observation: Observation) {
        if !self.keeper.link {
            return;
        }
        let takes = self.random.between(0, if self.calm { MS } else { self.options.rates.news_take });
        self.keeper.news_at = self.keeper.news_at.max(self.now + takes);
        let twice = !self.calm && self.random.chance(self.options.rates.news_repeated);
        let name = self.places[place].name.clone();
        let links = self.keeper.links;
        for _ in 0..1 + u32::from(twice) {
            let input = Box::new(Input::Service(name.clone(), observation.clone()));
            self.queue.push(self.keeper.news_at, Event::News { links, input });
        }
    }

    /// News arrives, if the link that it came over still stands.
    pub(super) fn news_arrives(&mut self, links: u32, input: Input) {
        if links == self.keeper.links && self.keeper.link {
            self.tell(input);
        }
    }

    fn link_breaks(&mut self) {
        if !self.keeper.link {
            return;
        }
        self.keeper.link = false;
        self.keeper.links += 1;
        self.log.happened(self.now, "keeper", || "cannot be reached".into());
        self.tell(Input::KeeperLost);
        self.keeper_attaches_soon();
    }

    pub(super) fn keeper_attaches_soon(&mut self) {
        if std::mem::replace(&mut self.keeper.attaching, true) {
            return;
        }
        let after = self.random.magnitude(5 * MS, if self.calm { 100 * MS } else { 60 * SECOND });
        let keeper = self.life;
        self.queue.push(self.now + after, Event::Keeper { keeper, what: KeeperEvent::Attached });
    }

    fn attached(&mut self, life: u32) {
        if life != self.life || !self.keeper.attaching || self.engine.is_none() {
            return;
        }
        if self.now < self.host.asleep_until {
            let at = self.host.asleep_until;
            self.queue.push(at, Event::Keeper { keeper: life, what: KeeperEvent::Attached });
            return;
        }
        self.empty_inbox();
        (self.keeper.link, self.keeper.attaching) = (true, false);
        self.keeper.news_at = self.now;
        let hello: Vec<Slot> = self.places.iter().map(|place| place.slot.clone()).collect();
        for request in std::mem::take(&mut self.keeper.waiting) {
            self.request(request);
        }
        self.reconcile(&hello);
    }

    /// Brings the engine's belief in line with what the keeper has.
    fn reconcile(&mut self, hello: &[Slot]) {
        let Some(engine) = &self.engine else { return };
        let believed: BTreeMap<ServiceName, Generation> = engine.living().into_iter().collect();
        let mut accounted = Vec::new();
        for (place, slot) in
            hello.iter().enumerate().filter(|(_, slot)| slot.generation > Generation::default())
        {
            let name = self.places[place].name.clone();
            if let Some(engine) = &mut self.engine {
                engine.raise_generation(&name, slot.generation);
            }
            let is_believed = believed.get(&name);
            if !self.plan.services.contains_key(&name) && is_believed.is_none() {
                self.end_stranger(place, slot);
                continue;
            }
            if slot.state != SlotState::Empty
                && is_believed.is_none_or(|believed| *believed == slot.generation)
            {
                accounted.push(name.clone());
            }
            self.reconcile_slot(place, slot, is_believed.is_some());
        }
        for (name, generation) in believed.into_iter().filter(|(name, _)| !accounted.contains(name)) {
            self.tell(Input::Service(name.clone(), Observation::StartLost { generation }));
            let gone = Observation::Exited { generation, exit: Exit::Unknown, strays: 0 };
            self.tell(Input::Service(name, gone));
        }
        self.keeper.unaccounted.clear();
        self.there_since = self.now;
        self.tell(Input::Reconciled);
    }

    fn reconcile_slot(&mut self, place: usize, slot: &Slot, believed: bool) {
        let (name, generation) = (self.places[place].name.clone(), slot.generation);
        match slot.state {
            SlotState::Empty => {}
            SlotState::Starting | SlotState::Running => {
                // A program that is between its fork and its gate has its number already.
                let (pid, start_time) = (i32::try_from(self.next_serial).unwrap_or(1), self.now);
                let unborn = Instance { generation, process: ProcessId { pid, start_time } };
                let found = self.places[place].process.as_ref().map_or(unborn, instance);
                self.tell(Input::Service(name.clone(), Observation::Adopted(found)));
                self.remember_moved(place, &name, found);
            }
            SlotState::Ended { exit, serial } => {
                let unaccounted = self.keeper.believes(&name, generation);
                if unaccounted && serial > 0 {
                    let process = ProcessId { pid: i32::try_from(serial).unwrap_or(1), start_time: 0 };
                    self.tell(Input::Service(
                        name.clone(),
                        Observation::Adopted(Instance { generation, process }),
                    ));
                }
                if believed || unaccounted {
                    self.tell(Input::Service(name, Observation::Exited { generation, exit, strays: 0 }));
                }
            }
        }
    }

    /// What the disk said of the beats of an adopted run is known to Horus.
    fn remember_moved(&mut self, place: usize, name: &ServiceName, found: Instance) {
        let known = self.keeper.unaccounted.get(name);
        let Some(known) = known.filter(|believed| believed.generation == found.generation) else { return };
        let Some(moved) = &known.moved else { return };
        let deadline = self.witness.patience(&super::scene!(self), place);
        let seen = &mut self.witness.seen[place];
        seen.remember(self.now, moved);
        if let Some(written) = &known.written {
            seen.goes_on(self.now, found.process.start_time, written, deadline);
        }
    }

    /// A process of a service that is not in the plan: the daemon ends it by itself.
    fn end_stranger(&mut self, place: usize, slot: &Slot) {
        if self.places[place].process.is_none() {
            return;
        }
        self.soft_signal(place, slot.generation);
        let what = KeeperEvent::KillStranger { service: place, generation: slot.generation };
        self.queue.push(self.now + STRANGER_GRACE, Event::Keeper { keeper: self.keeper.serial, what });
    }
}
