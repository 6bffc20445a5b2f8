//! Keeper and probes of the small world: what becomes of a start and a signal, and what is heard of a program.

use std::time::Duration;

use horus_core::ids::{Generation, Instance, MonitorName, ProcessId, ServiceName};
use horus_core::observation::{Exit, Input, MonitorObservation, Observation, ProbeFault};
use horus_core::plan::BeatPlan;

use super::program::{Heard, Program, Trouble};
use super::world::{Plot, Watch, World};

impl World<'_> {
    pub(super) fn program(&mut self, service: &ServiceName) -> &mut Program {
        self.programs.entry(service.clone()).or_insert_with(Program::new)
    }

    pub(super) fn start(&mut self, service: &ServiceName, generation: Generation) {
        if self.held.contains(service) {
            self.run.broken.push(format!("{service} is started in spite of its hold"));
        }
        let (now, pid) = (self.now, self.next_pid);
        *self.run.starts.entry(service.to_string()).or_default() += 1;
        let program = self.program(service);
        if let Some(error) = program.start_fails.clone() {
            self.report(service, Observation::SpawnFailed { generation, error });
            return;
        }
        if program.life.is_some() {
            self.run.broken.push(format!("{service} runs twice"));
        }
        let instance = Instance { generation, process: ProcessId { pid, start_time: 1 } };
        let program = self.program(service);
        program.begin(instance, now);
        let habits = program.habits.clone();
        self.next_pid += 1;
        self.report(service, Observation::Spawned(instance));
        for (age, act) in habits {
            if age.is_zero() {
                self.act(service, &act);
            } else {
                self.plot(now + age, Plot::Habit { service: service.clone(), generation, act });
            }
        }
    }

    pub(super) fn signal(&mut self, service: &ServiceName, generation: Generation) {
        let now = self.now;
        let Some(life) = self.program(service).living(generation) else { return };
        let stopped = matches!(life.trouble, Some(Trouble::Stopped(_)));
        if life.ignores_term || stopped || life.unkillable.is_some_and(|until| until > now) {
            return;
        }
        let at = now + life.ends_in;
        let (service, exit) = (service.clone(), Exit::Signal(15));
        self.plot(at, Plot::Ends { service, generation, exit });
    }

    pub(super) fn kill_tree(&mut self, service: &ServiceName, generation: Generation) {
        let now = self.now;
        let mut killed = self.strays.remove(service).unwrap_or(0);
        if let Some(life) = self.program(service).living(generation) {
            if life.unkillable.is_some_and(|until| until > now) {
                return;
            }
            killed += 1 + std::mem::take(&mut life.leaves);
            self.finish(service, Exit::Signal(9));
        }
        self.report(service, Observation::Gone { generation, killed });
    }

    /// The instance ends.
    pub(super) fn finish(&mut self, service: &ServiceName, exit: Exit) {
        let program = self.program(service);
        let Some(life) = program.life.take() else { return };
        let (generation, strays) = (life.instance.generation, life.leaves);
        program.ended = Some((life.instance, exit));
        self.strays.insert(service.clone(), strays);
        self.report(service, Observation::Exited { generation, exit, strays });
    }

    pub(super) fn watch(&mut self, service: &ServiceName, generation: Generation) {
        self.watched += 1;
        let number = self.watched;
        let said_ready =
            self.watches.get(service).is_some_and(|old| old.generation == generation && old.said_ready);
        self.watches.insert(service.clone(), Watch { generation, number, fast: false, said_ready });
        let Some(plan) = self.plan.services.get(service) else { return };
        let beats = plan.beats.clone();
        let ready_at = self.programs.get(service).and_then(|program| program.life.as_ref()?.ready_at);
        for (source, beat) in beats.iter().enumerate() {
            let (service, watch) = (service.clone(), number);
            if matches!(beat, BeatPlan::Notify | BeatPlan::Log(_)) {
                if let Some(ready_at) = ready_at {
                    self.plot(ready_at.max(self.now), Plot::Push { service, source, watch });
                }
            } else {
                self.plot(self.now + beat.every(), Plot::Poll { service, source, watch });
            }
        }
    }

    /// The watch, if it is still this one.
    pub(super) fn watching(&self, service: &ServiceName, number: u64) -> Option<Watch> {
        self.watches.get(service).copied().filter(|watch| watch.number == number)
    }

    fn source(&self, service: &ServiceName, source: usize) -> Option<BeatPlan> {
        self.plan.services.get(service)?.beats.get(source).cloned()
    }

    pub(super) fn poll(&mut self, service: ServiceName, source: usize, watch: u64) {
        let (Some(watching), Some(plan)) = (self.watching(&service, watch), self.source(&service, source))
        else {
            return;
        };
        let timeout = match &plan {
            BeatPlan::Http(beat) => beat.timeout,
            BeatPlan::Tcp(beat) => beat.timeout,
            BeatPlan::Exec(beat) => beat.timeout,
            BeatPlan::File(_) | BeatPlan::Notify | BeatPlan::Log(_) => Duration::ZERO,
        };
        let every = if watching.fast { plan.every() / 2 } else { plan.every() };
        let mut next = self.now + every;
        let life = self.programs.get(&service).and_then(|program| program.life.as_ref());
        // While Horus stands still it asks nobody.
        if let Some(life) = life.filter(|_| self.late_until.is_none()) {
            let generation = watching.generation;
            match life.heard(&plan, self.now) {
                Heard::Beat(beat) => self.tell(&service, Observation::Beat { generation, beat }),
                Heard::Nothing { fault, detail, after_timeout } => {
                    let wait = if after_timeout { timeout } else { Duration::ZERO };
                    next = next.max(self.now + wait);
                    let (service, source) = (service.clone(), plan.kind());
                    self.plot(self.now + wait, Plot::Missed { service, source, fault, detail, watch });
                }
            }
        }
        self.plot(next, Plot::Poll { service, source, watch });
    }

    pub(super) fn push(&mut self, service: ServiceName, source: usize, watch: u64) {
        let (Some(watching), Some(plan)) = (self.watching(&service, watch), self.source(&service, source))
        else {
            return;
        };
        let Some(life) = self.programs.get(&service).and_then(|program| program.life.as_ref()) else {
            return;
        };
        let (next, pushed, generation) =
            (self.now + life.every(), life.pushed(&plan, self.now), watching.generation);
        if let Some(beat) = pushed {
            if plan == BeatPlan::Notify && !watching.said_ready {
                self.tell(&service, Observation::SaidReady { generation });
                if let Some(watch) = self.watches.get_mut(&service) {
                    watch.said_ready = true;
                }
            }
            self.tell(&service, Observation::Beat { generation, beat });
        }
        self.plot(next, Plot::Push { service, source, watch });
    }

    pub(super) fn watch_monitors(&mut self) {
        self.monitors_watch += 1;
        let watch = self.monitors_watch;
        let all: Vec<_> =
            self.plan.monitors.iter().map(|(name, plan)| (name.clone(), plan.check.every())).collect();
        for (monitor, every) in all {
            self.plot(self.now + every, Plot::MonitorPoll { monitor, watch });
        }
    }

    pub(super) fn poll_monitor(&mut self, monitor: MonitorName, watch: u64) {
        let Some(plan) = self.plan.monitors.get(&monitor).filter(|_| watch == self.monitors_watch) else {
            return;
        };
        let next = self.now + plan.check.every();
        let heard = match self.monitors.get(&monitor).cloned().flatten() {
            None => MonitorObservation::Up { took: Duration::from_millis(20) },
            Some(detail) => MonitorObservation::Down { fault: ProbeFault::NotABeat, detail },
        };
        if self.engine.is_some() && self.late_until.is_none() {
            self.queue.push_back(Input::Monitor(monitor.clone(), heard));
        }
        self.plot(next, Plot::MonitorPoll { monitor, watch });
    }
}
