//! Horus in the world: its lives, its steps, and what it does with the engine's commands. Mirrors `daemon/owner.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::command::{BootTime, Command, MEMORY_VERSION};
use horus_core::event::What;
use horus_core::ids::{Generation, ServiceName};
use horus_core::observation::{CaptureStage, Finding, Input, Observation};
use horus_core::time::Mono;

use super::keeper::Believed;
use super::options::nanos;
use super::queue::{Event, MS, Nanos, SECOND};
use super::store::Transaction;
use super::{Probe, WAKES_MAX, World};
use crate::invariants::lives::Written;
use crate::recording::{Birth, RECORDING_VERSION, RememberedService};

/// Beats and the like that wait while Horus gets no processor; what comes later is lost, as in a full channel. What the keeper and
/// the machine say waits for its turn, however long that takes: they hold it back themselves.
const INBOX_MAX: usize = 4_096;

/// The engine's instant for an instant of the world.
pub(crate) fn mono(now: Nanos) -> Mono {
    Mono::from_origin(Mono::ORIGIN_BEFORE_START) + Duration::from_nanos(now)
}

impl World {
    /// Tells Horus something: now, or when it gets a processor again, or never if it is not there.
    pub(crate) fn tell(&mut self, input: Input) {
        if self.engine.is_none() {
            return;
        }
        if self.now < self.host.asleep_until {
            let is_lossy = matches!(
                input,
                Input::Service(
                    _,
                    Observation::Beat { .. } | Observation::NoBeat { .. } | Observation::KernelView { .. }
                )
            );
            if !is_lossy || self.inbox.len() < INBOX_MAX {
                self.inbox.push_back(input);
            }
            return;
        }
        self.empty_inbox();
        self.step(input);
    }

    /// What waited while Horus got no processor.
    pub(crate) fn empty_inbox(&mut self) {
        if self.inbox.is_empty() || self.now < self.host.asleep_until {
            return;
        }
        if self.random.chance(0.5) {
            // Whether the timer or the channel is served first is not decided by anybody.
            self.step(Input::Wake);
        }
        while let Some(input) = self.inbox.pop_front() {
            // Who got no processor did not read the clock before it got one.
            let fresh = self.host.timestamp(self.now).filter(|_| matches!(input, Input::Wall(_)));
            self.step(fresh.map_or(input, Input::Wall));
        }
    }

    /// An observation about a service, to be delivered in `after`.
    pub(crate) fn tell_later(&mut self, after: Nanos, input: Input) {
        let event = Event::Arrives { life: self.life, input: Box::new(input) };
        self.queue.push(self.now + after, event);
    }

    /// One step of the engine, and what follows from it.
    pub(crate) fn step(&mut self, input: Input) {
        if self.witness.violation.is_some() {
            return;
        }
        self.step_once(input);
        for wakes in 0.. {
            let due = self.engine.as_ref().and_then(|engine| engine.next_deadline());
            if due.is_none_or(|due| due > mono(self.now)) {
                break;
            }
            if wakes >= WAKES_MAX {
                let text = "it is due again and again at the same instant: the daemon spins".to_owned();
                self.witness.broken(&scene!(self), "invariant_g10_the_loop_does_not_spin", "horus", text);
                return;
            }
            self.step_once(Input::Wake);
        }
        self.plan_wake();
    }

    fn plan_wake(&mut self) {
        let due = self.engine.as_ref().and_then(|engine| engine.next_deadline());
        let origin = Mono::ORIGIN_BEFORE_START;
        self.wake_at = due.map(|due| {
            let at = super::options::nanos(due.since_origin().saturating_sub(origin));
            at + u64::from(self.life.wrapping_mul(0x9E37) ^ (self.steps as u32)) % (2 * MS)
        });
    }

    fn step_once(&mut self, input: Input) {
        self.steps += 1;
        self.log.told(mono(self.now), &input);
        if input == Input::KeeperLost {
            self.forget_waiting_starts();
        }
        let expected = self.engine.as_ref().and_then(|engine| engine.next_deadline());
        self.witness
            .comes_late(self.now, expected.map(|due| super::options::nanos(mono(self.now).since(due))));
        self.witness.hears(&scene!(self), &input);
        let Some(engine) = &mut self.engine else { return };
        let mut commands = engine.step(mono(self.now), input);
        if let Some(shim) = self.run.shim {
            let living: Vec<(ServiceName, Generation)> = self
                .places
                .iter()
                .filter_map(|place| Some((place.name.clone(), place.process.as_ref()?.generation)))
                .collect();
            shim(&mut commands, &Probe { step: self.steps, living: &living });
        }
        if commands.is_empty() {
            return;
        }
        self.carry_out_all(commands);
    }

    fn carry_out_all(&mut self, commands: Vec<Command>) {
        let mut transaction = Transaction::default();
        let mut actions = Vec::new();
        for command in commands {
            self.witness.sees(&scene!(self), &command);
            self.await_next_times();
            match command {
                Command::Record(event) => {
                    transaction.opened += u64::from(matches!(event.what, What::IncidentOpened { .. }));
                    self.log.event(self.now, &event);
                }
                Command::Tell(_) => {}
                Command::Remember { service, mut memory } => {
                    if let Some(silent) = memory.silent.as_mut().filter(|silent| silent.written.is_none()) {
                        silent.written = Some(self.boot_time());
                    }
                    transaction.memories.push((service, *memory));
                }
                Command::Confirm { incident } => transaction.confirms.push(incident),
                action => actions.push(action),
            }
        }
        transaction.entries.append(&mut self.witness.entries);
        let empty = transaction.memories.is_empty() && transaction.confirms.is_empty();
        if !(empty && transaction.opened == 0 && transaction.entries.is_empty()) {
            transaction.wall = self.host.wall(self.now);
            self.keep(transaction);
        }
        for action in actions {
            self.carry_out(action);
        }
    }

    /// The clock that nobody sets, and that goes on while the machine sleeps.
    fn boot_time(&self) -> BootTime {
        let since = Duration::from_nanos(self.now + self.witness.register.slept);
        BootTime { boot: "this".into(), since }
    }

    fn carry_out(&mut self, action: Command) {
        let place = |world: &Self, service: &ServiceName| world.names.get(service).copied();
        match action {
            Command::Start { service, generation, .. } => {
                if let Some(place) = place(self, &service) {
                    self.ask_start(place, generation);
                }
            }
            Command::Signal { service, generation, .. } => {
                if let Some(place) = place(self, &service) {
                    self.ask_signal(place, generation);
                }
            }
            Command::KillTree { service, generation, .. } => {
                if let Some(place) = place(self, &service) {
                    self.ask_kill(place, generation);
                }
            }
            Command::Watch { service, generation } => {
                if let Some(place) = place(self, &service) {
                    self.watch(place, generation);
                }
            }
            Command::Hasten { service, fast } => {
                if let Some(place) = place(self, &service) {
                    self.hasten(place, fast);
                }
            }
            Command::Unwatch { service } => {
                if let Some(place) = place(self, &service) {
                    self.unwatch(place);
                }
            }
            Command::Capture { service, generation, stage, .. } => self.capture(service, generation, stage),
            _ => {}
        }
    }

    /// A capture takes its time, may find nothing, may never come back.
    fn capture(&mut self, service: ServiceName, generation: Generation, stage: CaptureStage) {
        if self.random.chance(self.options.rates.captures_lost) && !self.calm {
            return;
        }
        let takes = self.random.between(5 * MS, self.options.rates.capture_takes.max(6 * MS));
        let mut finding = Finding::default();
        if self.random.chance(0.7) {
            finding.phrase = "main thread waits in recvfrom".into();
        }
        if stage == CaptureStage::Exit {
            finding.last_lines.push("error: lost the connection".into());
        }
        let observation = Observation::Captured { generation, stage, finding };
        self.tell_later(takes, Input::Service(service, observation));
    }

    // --- lives ---

    /// Horus is killed at this instant: what the store had not written is lost, and nobody probes.
    pub(crate) fn horus_dies(&mut self) {
        self.again(self.options.rates.horus_dies, Event::HorusDies);
        if self.engine.is_none() || self.calm {
            return;
        }
        self.end_life();
        let away = self.random.magnitude(50 * MS, self.options.rates.horus_away.max(60 * MS));
        self.queue.push(self.now + away, Event::HorusComes);
    }

    pub(crate) fn end_life(&mut self) {
        self.log.happened(self.now, "horus", || "is killed".into());
        self.look_at_what_is_written();
        self.engine = None;
        self.wake_at = None;
        self.inbox.clear();
        self.store.lose();
        self.keeper.lose_link();
        for place in 0..self.places.len() {
            self.unwatch(place);
            if let Some(process) = &mut self.places[place].process {
                // The next Horus reads the same socket, but what was said between two lives is lost.
                process.said_ready |= process.condition != crate::programs::Condition::Starting;
            }
        }
        let committed = std::mem::take(&mut self.store.book);
        self.witness.forgets(self.now, &committed);
        self.forget_unwritten_times();
        self.store.book = committed;
    }

    /// What the next Horus will know of the silences that go on.
    fn look_at_what_is_written(&mut self) {
        let trouble =
            self.store.fails || self.now < self.store.failed_until || self.now < self.host.asleep_until;
        if trouble || !self.keeper.is_attached() {
            return;
        }
        for place in 0..self.places.len() {
            let written = self.store.memories.get(&self.places[place].name);
            let written = written.and_then(|kept| kept.memory.silent.clone());
            let lag = self.options.rates.commit_after;
            self.witness.invariant_g6_what_was_witnessed_is_written_down(
                &scene!(self),
                place,
                written.as_ref(),
                lag,
            );
        }
    }

    /// The next Horus begins, from what the store has.
    pub(crate) fn horus_comes(&mut self) {
        if self.engine.is_some() {
            return;
        }
        self.life += 1;
        let birth = self.birth();
        self.log.born(&birth);
        self.log.happened(self.now, "horus", || format!("begins its life number {}", self.life));
        self.end_orphans(&birth);
        self.engine = Some(birth.engine());
        let slept = self.witness.register.slept;
        let believed = |item: &RememberedService| {
            let memory = &item.memory;
            let moved = memory.was_ready.then(|| memory.moved.clone());
            let written = memory.silent.clone().map(|record| {
                let at = nanos(record.written.as_ref().map_or(Duration::ZERO, |written| written.since));
                let away = item.away.map(nanos);
                Written { record, at: at.saturating_sub(slept), away }
            });
            let believed = Believed { generation: memory.generation, moved, written };
            memory.may_live().then(|| (item.service.clone(), believed))
        };
        self.keeper.unaccounted = birth.remembered.iter().filter_map(believed).collect();
        self.remember_holds(&birth);
        let plan = self.plan.clone();
        let planned = &self.options.plan;
        let jobs = planned.services.values().any(|service| service.schedule.is_some());
        let calendars = jobs || !planned.maintenance.is_empty();
        self.step(Input::PlanChanged(Box::new(plan)));
        if calendars {
            self.tell_wall();
            self.await_regular_times();
        }
        if !self.store.fails {
            self.step(Input::StoreHealth { fault: None });
        }
        self.tell_pressure();
        self.keeper_attaches_soon();
        for hang in self.places.iter().filter_map(|place| place.process.as_ref()?.hang) {
            self.queue.push(self.now + SECOND, Event::CheckHang { hang });
        }
    }

    fn birth(&mut self) -> Birth {
        let (wall, boot) = (self.host.wall(self.now), self.boot_time());
        for (service, kept) in &mut self.store.memories {
            if !self.plan.services.contains_key(service) {
                // Its incidents end here, as those of everybody who is not in the plan.
                kept.memory.incidents.clear();
            }
        }
        let remembered = self.store.memories.iter().map(|(service, kept)| RememberedService {
            service: service.clone(),
            memory: kept.memory.clone(),
            elapsed: Duration::from_nanos(u64::try_from(wall - kept.wall).unwrap_or_default()),
            away: kept.memory.silent.as_ref().and_then(|silent| boot.since(silent.written.as_ref()?)),
        });
        Birth {
            version: RECORDING_VERSION,
            seed: self.random.bits(),
            incidents: self.store.incidents,
            remembered: remembered.collect(),
            orphans: BTreeMap::new(),
            note: format!("swarm seed {}", self.run.seed),
        }
    }

    /// Incidents whose subject is not remembered with them end here, as the daemon ends them.
    fn end_orphans(&mut self, birth: &Birth) {
        let planned = birth.remembered.iter().filter(|item| self.plan.services.contains_key(&item.service));
        let kept: Vec<_> =
            planned.flat_map(|item| item.memory.incidents.iter().map(|incident| incident.id)).collect();
        let orphans: Vec<_> =
            self.witness.book.incidents.keys().filter(|id| !kept.contains(id)).copied().collect();
        for id in orphans {
            self.witness.enter(crate::invariants::Entry::Closed { id });
        }
        let entries = std::mem::take(&mut self.witness.entries);
        let wall = self.host.wall(self.now);
        self.keep(Transaction { entries, wall, ..Transaction::default() });
    }

    /// Holds end by the wall clock while no Horus is there: whoever set it has moved their end, too.
    fn remember_holds(&mut self, birth: &Birth) {
        for item in birth.remembered.iter().filter(|item| item.memory.version == MEMORY_VERSION) {
            let Some(place) = self.names.get(&item.service).copied() else { continue };
            self.witness.overdue[place] = item.memory.overdue_starts;
            let left = item.memory.hold.as_ref().map(|hold| hold.left);
            let now = self.now;
            let ends = left.map(|left| {
                left.map(|left| now.saturating_add(super::options::nanos(left.saturating_sub(item.elapsed))))
            });
            self.witness.change_ledger(place, |ledger| ledger.hold = ends);
        }
    }
}
