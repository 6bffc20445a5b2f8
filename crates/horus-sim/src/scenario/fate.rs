//! What befalls the small world: the timeline's deeds, and what was set on its way before.

use std::time::Duration;

use horus_core::ids::ServiceName;
use horus_core::observation::{HostObservation, Input, Observation, OperatorRequest};

use super::Step;
use super::lines::{Line, Mark};
use super::program::Act;
use super::sentences::{Deed, Habit, HorusDeed, HostDeed, Pressure, StoreDeed};
use super::world::{Plot, World};

/// How often the machine is looked at while something is wrong with it.
const HOST_LOOK_EVERY: Duration = Duration::from_secs(10);

impl World<'_> {
    pub(super) fn happen(&mut self, plot: Plot) {
        match plot {
            Plot::Poll { service, source, watch } => self.poll(service, source, watch),
            Plot::Push { service, source, watch } => self.push(service, source, watch),
            Plot::Missed { service, source, fault, detail, watch } => {
                if let Some(watching) = self.watching(&service, watch) {
                    let generation = watching.generation;
                    self.tell(&service, Observation::NoBeat { generation, source, fault, detail });
                }
            }
            Plot::Ends { service, generation, exit } => {
                if self.program(&service).living(generation).is_some() {
                    self.finish(&service, exit);
                }
            }
            Plot::TroubleEnds { service, generation, trouble } => {
                let now = self.now;
                let life = self.program(&service).living(generation).filter(|life| life.troubles == trouble);
                if let Some(life) = life {
                    life.enter(None, now);
                    self.note(service.as_str(), Mark::World, "works again");
                }
            }
            Plot::Habit { service, generation, act } => {
                if self.program(&service).living(generation).is_some() {
                    self.note(service.as_str(), Mark::World, "does as each instance does at that age");
                    self.act(&service, &act);
                }
            }
            Plot::MonitorPoll { monitor, watch } => self.poll_monitor(monitor, watch),
            Plot::HostLook => self.look_at_host(),
            Plot::Rebirth => {
                self.note("horus", Mark::World, "is started again");
                self.be_born();
            }
            Plot::KeeperBack => {
                self.note("horus", Mark::World, "has its keeper again");
                self.reconcile();
            }
            Plot::Awake => {
                self.late_until = None;
                self.queue.push_back(Input::Wake);
            }
        }
    }

    pub(super) fn take(&mut self, step: &Step) {
        let words = &step.words;
        let line = Line::new(self.at(), &step.subject, Mark::World, words);
        // What is said of all is shown once.
        if self.run.lines.last() != Some(&line) {
            self.run.lines.push(line);
        }
        match &step.deed {
            Deed::Habit(service, habit) => self.learn(service, habit),
            Deed::Act(service, act) => {
                if self.program(service).life.is_none() {
                    self.run
                        .broken
                        .push(format!("\"{words}\" is said of {service}, which does not run then"));
                    return;
                }
                self.act(service, act);
            }
            Deed::Monitor(monitor, heard) => drop(self.monitors.insert(monitor.clone(), heard.clone())),
            Deed::Ask(request) => self.ask(request),
            Deed::Host(deed) => self.befall_host(*deed),
            Deed::Horus(deed) => self.befall_horus(*deed),
            Deed::Store(deed) => {
                self.store = *deed;
                self.tell_store();
            }
            Deed::Sink(sink, fault) => {
                match fault {
                    Some(fault) => drop(self.dead_sinks.insert(sink.clone(), fault.clone())),
                    None => drop(self.dead_sinks.remove(sink)),
                }
                let (sink, fault) = (sink.clone(), fault.clone());
                self.queue.push_back(Input::SinkHealth { sink, fault });
            }
            Deed::Reload(plan) => {
                self.plan = (**plan).clone();
                self.queue.push_back(Input::PlanChanged(plan.clone()));
                self.watch_monitors();
            }
            Deed::BadReload(faults) => {
                for fault in faults {
                    self.note("horus", Mark::Note, format!("refuses the new configuration: {fault}"));
                }
            }
        }
    }

    pub(super) fn tell_store(&mut self) {
        let fault = (self.store == StoreDeed::Full).then(|| "no space left on the device".to_owned());
        self.queue.push_back(Input::StoreHealth { fault });
    }

    fn learn(&mut self, service: &ServiceName, habit: &Habit) {
        self.program(service).learn(habit);
    }

    fn ask(&mut self, request: &OperatorRequest) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        if self.engine.is_none() {
            self.run.broken.push("a person asks while no Horus runs".into());
        }
        self.queue.push_back(Input::Operator { ticket, request: request.clone() });
    }

    pub(super) fn act(&mut self, service: &ServiceName, act: &Act) {
        let now = self.now;
        let program = self.program(service);
        if let Act::Prints(text) = act {
            program.printed = Some(text.clone());
        }
        let Some(life) = &mut program.life else { return };
        let generation = life.instance.generation;
        match act {
            Act::Ticks(every) => life.tick_every(*every, now),
            Act::TicksAgain => life.enter(None, now),
            Act::Trouble(trouble, lasts) => {
                life.enter(Some(trouble.clone()), now);
                let trouble = life.troubles;
                if let Some(lasts) = lasts {
                    let service = service.clone();
                    self.plot(now + *lasts, Plot::TroubleEnds { service, generation, trouble });
                }
            }
            Act::Exits(exit) => self.finish(service, *exit),
            Act::Says(declared) => life.declare(*declared, now),
            Act::AsksForTime(extend) => {
                self.tell(service, Observation::AskedForTime { generation, extend: *extend });
            }
            Act::Prints(_) => {}
            Act::Counts { counter, step, every } => life.set_counter(counter, *step, *every, now),
            Act::Gauge(gauge, value) => life.set_gauge(gauge, *value),
            Act::IgnoresTerm => life.ignores_term = true,
            Act::EndsIn(span) => life.ends_in = *span,
            Act::Leaves(count) => life.leaves = *count,
            Act::Unkillable(span) => life.unkillable = Some(now + *span),
        }
    }

    fn befall_horus(&mut self, deed: HorusDeed) {
        match deed {
            HorusDeed::Killed(away) => self.kill_horus(away),
            HorusDeed::Late(late) => {
                self.late_until = Some(self.now + late);
                self.plot(self.now + late, Plot::Awake);
            }
            HorusDeed::KeeperLost(away) => {
                self.keeper_lost = true;
                self.queue.push_back(Input::KeeperLost);
                self.plot(self.now + away, Plot::KeeperBack);
            }
            HorusDeed::Ends => self.queue.push_back(Input::ShutDown),
        }
    }

    fn kill_horus(&mut self, away: Duration) {
        self.engine = None;
        self.queue.clear();
        self.watches.clear();
        self.monitors_watch += 1;
        self.late_until = None;
        self.plot(self.now + away, Plot::Rebirth);
    }

    fn befall_host(&mut self, deed: HostDeed) {
        match deed {
            HostDeed::Suspended(slept) => {
                self.slept += slept;
                self.note("host", Mark::World, "wakes up");
                self.queue.push_back(Input::Host(HostObservation::Suspended { slept }));
            }
            HostDeed::ClockSet { by, back } => {
                let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
                let by_ms = if back { -millis } else { millis };
                self.clock_set_ms = self.clock_set_ms.saturating_add(by_ms);
                self.queue.push_back(Input::Host(HostObservation::ClockStepped { by_ms }));
                self.queue.push_back(Input::Wall(self.wall()));
            }
            HostDeed::Pressed { by, share, lasts } => {
                self.pressures.insert(by as u8, (by, share, self.now + lasts));
                self.begin_host_looks();
            }
            HostDeed::CanarySilent(lasts) => {
                self.canary_until = Some(self.now + lasts);
                self.begin_host_looks();
            }
            HostDeed::Rebooted(away) => {
                for program in self.programs.values_mut() {
                    (program.life, program.ended) = (None, None);
                }
                self.phases.clear();
                self.kill_horus(away);
            }
        }
    }

    fn begin_host_looks(&mut self) {
        if !std::mem::replace(&mut self.host_looks, true) {
            self.plot(self.now, Plot::HostLook);
        }
    }

    /// Tells how the machine is, every few seconds while something is wrong with it, and once when it is over.
    fn look_at_host(&mut self) {
        let now = self.now;
        let share = |by: Pressure, world: &Self| {
            world
                .pressures
                .get(&(by as u8))
                .map_or(0.0, |(_, share, until)| if *until > now { *share } else { 0.0 })
        };
        let (cpu, memory, io) =
            (share(Pressure::Processor, self), share(Pressure::Memory, self), share(Pressure::Disk, self));
        if !self.pressures.is_empty() && self.engine.is_some() {
            self.queue.push_back(Input::Host(HostObservation::Pressure { cpu, memory, io }));
        }
        if let Some(until) = self.canary_until.filter(|_| self.engine.is_some()) {
            let fault = (until > now).then(|| "no answer in 1 s".to_owned());
            self.queue.push_back(Input::Host(HostObservation::Canary { fault }));
        }
        self.pressures.retain(|_, (.., until)| *until > now);
        self.canary_until = self.canary_until.filter(|until| *until > now);
        self.host_looks = !self.pressures.is_empty() || self.canary_until.is_some();
        if self.host_looks {
            let ends = self.pressures.values().map(|(.., until)| *until).chain(self.canary_until).min();
            let next = (now + HOST_LOOK_EVERY).min(ends.unwrap_or(now + HOST_LOOK_EVERY));
            self.plot(next, Plot::HostLook);
        }
    }
}
