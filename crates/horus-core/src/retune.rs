//! The plan changes under a service that runs.
//!
//! What can be changed in place is changed in place; the instance is replaced only when what it was started with has changed. Whatever
//! it is judged by from now on is judged from now on: nothing that was lawful under the old plan is held against it.

use crate::command::Command;
use crate::event::Outcome;
use crate::notice::IncidentKind;
use crate::plan::ServicePlan;
use crate::reason::{Reason, Rule};
use crate::service::{Facts, Phase, Service, StopCause, Wanted, Why};
use crate::transition::Trigger;
use crate::turn::Turn;

impl Service {
    /// The plan of this service has changed. What runs is touched only if its launch has.
    pub(crate) fn retune(&mut self, turn: &mut Turn<'_>, plan: ServicePlan) {
        let launch_changed = plan.launch != self.plan.launch || plan.is_notified() != self.plan.is_notified();
        let beats_changed = plan.beats != self.plan.beats;
        let rules_changed = beats_changed
            || plan.deadline != self.plan.deadline
            || plan.kills != self.plan.kills
            || plan.progress != self.plan.progress
            || plan.counters != self.plan.counters
            || plan.steps != self.plan.steps;
        let observe_changed = plan.observe != self.plan.observe;
        let when = |plan: &ServicePlan| plan.schedule.as_ref().map(|schedule| schedule.when.clone());
        if when(&plan) != when(&self.plan) {
            // Other times: none of them was missed before anybody knew of them.
            (self.job.slot, self.job.missed) = (None, 0);
        }
        if plan.counters != self.plan.counters {
            self.counters.forget_counted();
        }
        self.plan = plan;
        if self.plan.schedule.is_none() {
            for kind in [IncidentKind::RunOverdue, IncidentKind::RunMissed] {
                self.incidents.close_kind(turn, kind, Outcome::Superseded, "it is no job any more");
            }
        }
        self.counters.retune(turn.now, &self.plan);
        self.set_job_clock(turn.now, turn.shared.wall_at(turn.now));
        if rules_changed {
            // What was lawful under the old rules is not held against it.
            self.judged_since = turn.now;
            self.spare(turn, "the plan it was judged by has changed");
        }
        if rules_changed || observe_changed {
            self.spell.may_decline_again();
            self.work_spell.may_decline_again();
        }
        if beats_changed {
            self.change_beats(turn);
        }
        if matches!(self.wanted, Wanted::Down(Why::NotAutostart | Why::NotDue)) && self.plan.autostart {
            self.wanted = Wanted::by_default(&self.plan);
        }
        if self.alive().is_some() {
            turn.push(Command::Watch { service: self.name.clone(), generation: self.generation });
        }
        self.relaunch_pending |= launch_changed;
        self.react(turn, Trigger::Reconsider, Facts::None);
        self.relaunch_if_pending(turn);
        self.dirty = true;
    }

    /// What runs was started by an older plan: a fresh instance is wanted, as soon as one may be.
    pub(crate) fn relaunch_if_pending(&mut self, turn: &mut Turn<'_>) {
        // A job takes the new command with its next run.
        let may = self.hold.is_none() && self.plan.schedule.is_none();
        if self.relaunch_pending && may && self.wanted == Wanted::Up && self.alive().is_some() {
            let reason = Reason::new(Rule::Reload, "its command, environment or limits changed in the plan");
            self.launch_reason = Some(reason.clone());
            let facts = Facts::Because(StopCause::Planned, reason);
            self.react(turn, Trigger::WantRestart, facts);
        }
    }

    /// Other sources of beats. If none of those that are left was ever heard, the first fresh tick is awaited anew:
    /// nothing is known to move.
    fn change_beats(&mut self, turn: &mut Turn<'_>) {
        self.beats.retune(&self.plan.beats);
        let how = "its heartbeat was changed in the plan";
        self.incidents.close_kind(turn, IncidentKind::ProbePath, Outcome::Superseded, how);
        if !self.beats.has_sources() {
            self.react(turn, Trigger::FirstTick, Facts::By("no beat is asked for any more".into()));
            self.end_loop_spell(turn);
        }
        if let Phase::Running(running) = &self.phase
            && self.beats.has_sources()
            && self.beats.last_fresh().is_none()
        {
            self.phase = Phase::Starting { alive: running.alive, watched_since: turn.now };
            self.start_overdue = false;
            self.end_loop_spell(turn);
        }
    }

    /// It is in the plan again while it stops.
    pub(crate) fn rejoin(&mut self) {
        let default = Wanted::by_default(&self.plan);
        self.wanted = self.before_removal.take().unwrap_or(default);
    }

    /// The plan no longer has it.
    pub(crate) fn remove(&mut self, turn: &mut Turn<'_>) {
        self.before_removal = Some(self.wanted);
        turn.shared.guard.end_trial(&self.name);
        self.wanted = Wanted::Down(Why::Removed);
        if self.unit().is_some() {
            // It was never ours to stop.
            self.phase = Phase::Down;
            turn.shared.ready.remove(self.name.as_str());
            turn.push(Command::Unwatch { service: self.name.clone() });
        }
        let reason = Reason::new(Rule::Reload, Why::Removed.words());
        self.react(turn, Trigger::WantDown, Facts::Because(StopCause::Planned, reason));
        for id in self.incidents.ids() {
            self.incidents.close(turn, id, Outcome::Removed, "it left the plan", None);
        }
    }
}
