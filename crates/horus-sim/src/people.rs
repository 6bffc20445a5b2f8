//! People: they stop, start, hold, resume, restart and reload, at bad moments; and they tidy up when all is calm.

use std::time::Duration;

use horus_core::observation::{Input, OperatorRequest};
use horus_core::plan::{BeatPlan, Mode, Plan, Ready, RestartOn};

use crate::world::World;
use crate::world::options;
use crate::world::queue::{Event, HOUR, SECOND};

impl World {
    /// A person asks for something, of a random service.
    pub(crate) fn a_person_asks(&mut self) {
        self.again(self.options.rates.person, Event::Person);
        if self.calm {
            return;
        }
        let place = usize::try_from(self.random.below(self.places.len() as u64)).unwrap_or_default();
        let service = self.places[place].name.clone();
        let reason = "a person works on it".to_owned();
        let expires_in =
            self.random.chance(0.6).then(|| Duration::from_nanos(self.random.magnitude(SECOND, 4 * HOUR)));
        let request = match self.random.below(9) {
            0 | 1 => OperatorRequest::Start(service),
            2 => OperatorRequest::Stop(service),
            3 | 4 => OperatorRequest::Restart(service),
            5 => OperatorRequest::Hold { service, reason, expires_in, stop: false },
            6 => OperatorRequest::Hold { service, reason, expires_in, stop: true },
            _ => OperatorRequest::Resume { service, reason: None },
        };
        self.ask_horus(request);
    }

    fn ask_horus(&mut self, request: OperatorRequest) {
        if !self.has_horus() {
            return;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.tell(Input::Operator { ticket, request });
        self.witness.invariant_g5_every_request_is_answered(&crate::world::scene!(self));
    }

    /// A person changes the plan, and Horus follows it (or the next one does).
    pub(crate) fn the_plan_changes(&mut self) {
        self.again(self.options.rates.reload, Event::Reload);
        if self.calm || self.now < self.host.asleep_until {
            return;
        }
        let mut plan = self.plan.clone();
        self.change(&mut plan);
        if plan == self.plan {
            return;
        }
        self.log.happened(self.now, "plan", || "changes".into());
        self.follow(plan);
    }

    fn follow(&mut self, plan: Plan) {
        self.empty_inbox();
        self.witness.plan_changes(&crate::world::scene!(self), &plan);
        self.plan = plan.clone();
        self.follow_calendars();
        self.tell(Input::PlanChanged(Box::new(plan)));
    }

    fn change(&mut self, plan: &mut Plan) {
        let place = usize::try_from(self.random.below(self.places.len() as u64)).unwrap_or_default();
        let name = self.places[place].name.clone();
        let original = self.options.plan.services.get(&name).cloned();
        let how = self.random.below(14);
        if how == 0 {
            plan.services.remove(&name);
            plan.services.values_mut().for_each(|service| service.after.retain(|other| *other != name));
            return;
        }
        if how == 1 {
            plan.daemon.mode = if plan.daemon.mode == Mode::Observe { Mode::Enforce } else { Mode::Observe };
            return;
        }
        let known: Vec<_> = plan.services.keys().cloned().collect();
        let Some(service) = plan.services.get_mut(&name) else {
            if let Some(mut original) = original {
                original.after.retain(|other| known.contains(other));
                plan.services.insert(name, original);
            }
            return;
        };
        if !service.progress.is_empty() && self.random.chance(0.2) {
            let twice = self.random.chance(0.6);
            service.progress.values_mut().for_each(|work| work.stalled *= 2);
            service.progress.retain(|_, _| twice);
            return;
        }
        match how {
            2 | 3 => service.deadline *= 2,
            4 => {
                let polls = service.beats.iter().map(BeatPlan::every).max().unwrap_or_default() * 2;
                let turns = Duration::from_nanos(self.places[place].habits.period * 6);
                service.deadline = (service.deadline / 2).max(polls + turns).max(Duration::from_secs(2));
            }
            5 => service.launch.command.push("--more".into()),
            6 => service.observe = !service.observe,
            7 => service.restart.on = RestartOn::Always,
            8 => service.kills.limit = u32::try_from(self.random.between(1, 5)).unwrap_or(3),
            9 => service.autostart = !service.autostart,
            10 => service.startup *= 2,
            11 => service.stop.grace = Duration::from_nanos(self.random.magnitude(SECOND, 30 * SECOND)),
            _ => self.change_beats(service, place),
        }
    }

    /// Its endpoint moves, or it gets other sources altogether.
    fn change_beats(&mut self, service: &mut horus_core::plan::ServicePlan, place: usize) {
        if let Some(BeatPlan::Http(http)) = service.beats.first_mut()
            && self.random.chance(0.7)
        {
            http.url.push('x');
            return;
        }
        let name = self.places[place].name.clone();
        let poll = self.poll_of(place);
        let other = options::service(&mut self.random, &name, poll, &[]);
        // Counters and declared states come over HTTP only: whoever loses it loses what is judged by them.
        service.beats = other.beats;
        service.deadline = service.deadline.max(other.deadline);
        service.startup = service.startup.max(other.startup);
        if service.ready == Ready::Notify && !service.beats.contains(&BeatPlan::Notify) {
            service.ready = Ready::Tick;
        }
        if !service.beats.iter().any(|beat| matches!(beat, BeatPlan::Http(_))) {
            service.values.clear();
            service.funnels.clear();
            service.progress.clear();
        }
    }

    /// Faults have stopped. People lift holds, want everything up, and restart what they were told about.
    pub(crate) fn people_tidy_up(&mut self, round: u32) {
        if round >= 2 && self.ends_early() {
            return;
        }
        if !self.has_horus() || self.now < self.host.asleep_until {
            // Nobody can be asked yet.
            self.queue.push(self.now + 10 * SECOND, Event::Tidy { round });
            return;
        }
        if round == 0 {
            let mut plan = self.plan.clone();
            plan.daemon.mode = Mode::Enforce;
            if plan != self.plan {
                self.follow(plan);
            }
        }
        for place in 0..self.places.len() {
            let service = self.places[place].name.clone();
            if !self.plan.services.contains_key(&service) {
                continue;
            }
            let told = self.witness.book.open_of(place).any(|(_, open)| open.version > 0 && !open.ended);
            if round == 0 {
                self.ask_horus(OperatorRequest::Resume { service: service.clone(), reason: None });
                self.ask_horus(OperatorRequest::Start(service));
            } else if told && round.is_multiple_of(4) && round <= 12 {
                self.ask_horus(OperatorRequest::Resume { service: service.clone(), reason: None });
                self.ask_horus(OperatorRequest::Restart(service));
            }
        }
    }
}
