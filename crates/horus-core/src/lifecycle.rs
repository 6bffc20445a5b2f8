//! The steps of the transition table, carried out: from rest to life and back.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::beats::Beats;
use crate::command::{Answer, Command};
use crate::event::{DeathCause, Outcome, What};
use crate::ids::{IncidentId, Instance, ServiceName};
use crate::notice::{IncidentKind, Story};
use crate::observation::{CaptureStage, Declared, Exit};
use crate::own_word::OwnWord;
use crate::plan::{Ready, Severity};
use crate::reason::{Reason, Rule};
use crate::service::{
    Alive, Facts, Goal, LAUNCH_WAIT_MAX, LastDeath, PROCESS_ONLY_SETTLE, Phase, Running, Service, StopCause,
    UNDEAD_AFTER, Wanted, Why,
};
use crate::silence::RememberedInstance;
use crate::spell::Spell;
use crate::time::{Human, Mono};
use crate::transition::Trigger;
use crate::turn::Turn;
use crate::view::Outlook;

impl Service {
    // --- from rest to life ---

    /// Why it may not be started now, by precedence.
    pub(crate) fn stays_down(&self) -> Option<Reason> {
        if let Some(hold) = &self.hold {
            return Some(Reason::new(Rule::Held, format!("held: {}", hold.reason)));
        }
        match self.wanted {
            Wanted::Up => None,
            Wanted::Down(why) => Some(Reason::new(
                match why {
                    Why::Operator => Rule::Operator,
                    Why::Halted => Rule::Halted,
                    Why::Removed => Rule::Reload,
                    Why::ShutDown => Rule::ShutDown,
                    Why::NotDue => Rule::Schedule,
                    Why::NotAutostart | Why::Completed => Rule::Wanted,
                },
                why.words(),
            )),
        }
    }

    /// The first service that this one has to wait for. Only before its first start: a dependency that fails later
    /// does not keep this one down.
    pub(crate) fn waits_for<'a>(&'a self, ready: &BTreeSet<ServiceName>) -> Option<&'a ServiceName> {
        if self.launched_in_this_life {
            return None;
        }
        self.plan.after.iter().find(|name| !ready.contains(name.as_str()))
    }

    pub(crate) fn settle(&mut self, turn: &mut Turn<'_>) {
        let ending = || Reason::new(Rule::ShutDown, Why::ShutDown.words());
        if let Some(reason) = self.stays_down().or_else(|| turn.shared.shutting_down.then(ending)) {
            // The delay of a next start outlasts a hold: only a person's word or a proof ends it.
            self.blocked = None;
            self.phase = Phase::Down;
            if !self.is_unknown(turn) {
                let done = format!("{} is down, its process is gone", self.name);
                self.answer(turn, Goal::Down, &Answer::Done(done));
            }
            let why = format!("it stays down: {reason}");
            let hint = format!("horus resume {}", self.name);
            self.answer(turn, Goal::Up, &Answer::Refused { why, hint });
            if self.wanted == Wanted::Down(Why::Operator) {
                self.close_all(turn);
            }
            return;
        }
        self.answer(turn, Goal::Down, &Answer::Failed("overtaken by a start".into()));
        if !turn.shared.reconciled && self.unit().is_none() {
            self.phase = Phase::Waiting;
            return;
        }
        if self.is_left_to_its_manager(turn) {
            return;
        }
        if let Some((until, _)) = self.delay.as_ref().filter(|(until, _)| *until > turn.now) {
            self.phase = Phase::Backoff { until: *until };
            return;
        }
        if self.waits_for(&turn.shared.ready).is_some() || self.awaits_lock(turn.now) {
            self.phase = Phase::Waiting;
            return;
        }
        self.launch(turn);
    }

    /// An earlier life of Horus had a run of it, and the keeper has not said yet what became of that.
    pub(crate) fn is_unknown(&self, turn: &Turn<'_>) -> bool {
        (!turn.shared.reconciled || self.unit().is_some()) && self.is_remembered()
    }

    /// A run of an earlier life of Horus may live.
    pub(crate) fn is_remembered(&self) -> bool {
        self.remembered_instance.is_some() || self.remembered_start
    }

    pub(crate) fn launch(&mut self, turn: &mut Turn<'_>) {
        let default = || Reason::new(Rule::Wanted, "the plan wants it up");
        let reason =
            self.launch_reason.take().or(self.delay.take().map(|(_, why)| why)).unwrap_or_else(default);
        self.delay = None;
        self.launched_in_this_life = true;
        self.foreign.summoned = false;
        self.relaunch_pending = false;
        self.phase = Phase::Launching { overdue_at: Some(turn.now + LAUNCH_WAIT_MAX) };
        if !self.is_another_try() {
            self.highest = self.highest().next();
            self.generation = self.highest;
            self.dirty = true;
            self.record(turn, self.fault_incident(), What::StartAsked { reason: reason.clone() });
        }
        turn.push(Command::Start { service: self.name.clone(), generation: self.generation, reason });
    }

    pub(crate) fn count_failure(&mut self, turn: &mut Turn<'_>, error: String) {
        self.blocked = None;
        self.exits.record(turn.now, Duration::ZERO);
        turn.shared.guard.failed(&self.name, turn.now);
        let reason = Reason::new(Rule::StartFailed, error.clone());
        let (generation, severity) = (Some(self.generation), Severity::Critical);
        let id = self.incidents.open(turn, generation, IncidentKind::StartFailed, "", severity, &reason);
        self.record(turn, Some(id), What::StartFailed { error: error.clone() });
        let next_in = self.is_tried_again(turn).then(|| self.delay_next_start(turn, &reason));
        if self.incidents.find(IncidentKind::StartFailed).is_some_and(|incident| !incident.told) {
            let story = Story::StartFailed { error: error.clone(), next_in };
            self.incidents.tell(turn, id, severity, true, true, story);
        }
        self.answer(turn, Goal::Up, &Answer::Failed(error));
        self.phase = Phase::Down;
        self.settle(turn);
    }

    pub(crate) fn delay_next_start(&mut self, turn: &mut Turn<'_>, reason: &Reason) -> Duration {
        let delay = self.exits.delay(&self.plan.restart, &mut turn.shared.random);
        let again = Reason::new(Rule::Exit, format!("restart after: {reason}"));
        if !delay.is_zero() {
            self.record(turn, self.fault_incident(), What::Delayed { delay, reason: again.clone() });
        }
        self.delay = Some((turn.now + delay, again));
        self.dirty = true;
        delay
    }

    pub(crate) fn await_tick(&mut self, turn: &mut Turn<'_>, instance: Instance) {
        self.record(turn, self.fault_incident(), What::Started { process: instance.process });
        // It was about the path to another run.
        self.incidents.close_kind(turn, IncidentKind::ProbePath, Outcome::Superseded, "it was started anew");
        self.end_view(turn, Outcome::Superseded, "it was started anew");
        self.note_unit_runs(turn);
        self.begin_instance(turn, instance, turn.now);
        self.adopted = false;
        if self.plan.ready == Ready::Process {
            self.mark_ready(turn);
        }
        if !self.beats.has_sources() && !self.plan.is_ready_by_word_alone() {
            self.react(turn, Trigger::FirstTick, Facts::By("its process was started".into()));
        }
        self.enforce_wish(turn);
        self.relaunch_if_pending(turn);
    }

    pub(crate) fn adopt(&mut self, turn: &mut Turn<'_>, instance: Instance) {
        // What was remembered of another run says nothing about this one.
        let same = self.generation == instance.generation;
        self.generation = instance.generation;
        self.raise_generation(instance.generation);
        self.remembered_start = false;
        let remembered = self.remembered_instance.take().filter(|_| same);
        match remembered {
            None => self.welcome(turn),
            // What was wanted of this very run still is.
            Some(_) => self.note_unit_runs(turn),
        }
        let unknown = RememberedInstance { since: turn.now, ..RememberedInstance::default() };
        let RememberedInstance { since, was_ready, moved, silent, step } = remembered.unwrap_or(unknown);
        self.launched_in_this_life = true;
        // What lives and was not stopped is wanted, whoever started it.
        if matches!(self.wanted, Wanted::Down(Why::NotAutostart | Why::NotDue)) {
            self.wanted = Wanted::Up;
        }
        self.record(turn, None, What::Adopted { process: instance.process });
        self.begin_instance(turn, instance, since);
        self.stepped_at = step.as_ref().map(|step| step.since);
        self.step = step;
        self.adopted = true;
        let goes_on = match self.beats.has_sources() {
            // Who only ever says which step it is in has nothing that moves.
            true => was_ready && (self.beats.assume_moving(turn.now, &moved) || self.step.is_some()),
            false => was_ready || !self.plan.is_ready_by_word_alone(),
        };
        if goes_on {
            let alive = Alive { process: instance.process, since };
            self.phase =
                Phase::Running(Running { alive, ready_at: turn.now, steady_since: turn.now, proven: false });
            self.mark_ready(turn);
            if self.incidents.any() {
                self.recovers_on_tick = self.beats.has_sources();
                self.recovers_at = (!self.recovers_on_tick).then(|| turn.now + PROCESS_ONLY_SETTLE);
            }
            let done = format!("{} is running as {}", self.name, alive.process);
            self.answer(turn, Goal::Up, &Answer::Done(done));
        }
        if let Some(silent) = silent {
            self.take_up(turn.now, instance, silent);
        }
        self.enforce_wish(turn);
    }

    pub(crate) fn begin_instance(&mut self, turn: &mut Turn<'_>, instance: Instance, since: Mono) {
        self.blocked = None;
        self.beats = Beats::new(&self.plan.beats);
        self.counters.forget_instance();
        self.spell = Spell::default();
        self.work_spell = Spell::default();
        self.outlook = Outlook::default();
        self.idle_at = None;
        self.start_overdue = false;
        self.declared = Declared::Ok;
        self.own_word = OwnWord::default();
        self.busy_until = None;
        self.extended_until = None;
        (self.judged_since, self.witnessed_since) = (turn.now, turn.now);
        self.handed_over = false;
        self.declared_until = Mono::default();
        self.declared_from = None;
        self.declared_credit = Duration::ZERO;
        self.said = None;
        (self.step, self.stepped_at, self.step_unnoted) = (None, None, None);
        self.recovers_at = None;
        self.recovers_on_tick = false;
        let alive = Alive { process: instance.process, since };
        self.phase = Phase::Starting { alive, watched_since: turn.now };
        self.dirty = true;
        turn.push(Command::Watch { service: self.name.clone(), generation: self.generation });
    }

    /// A wish that came while the keeper was at work: to be down, or a hold with a stop.
    pub(crate) fn enforce_wish(&mut self, turn: &mut Turn<'_>) {
        let words = match self.wanted {
            Wanted::Down(why) => why.words(),
            Wanted::Up if turn.shared.shutting_down && self.unit().is_none() => Why::ShutDown.words(),
            Wanted::Up if self.tickets.iter().any(|(_, goal, _)| *goal == Goal::Down) => {
                Why::Operator.words()
            }
            Wanted::Up => return,
        };
        let facts = Facts::Because(StopCause::Planned, Reason::new(Rule::Operator, words));
        self.react(turn, Trigger::WantDown, facts);
    }

    pub(crate) fn mark_ready(&mut self, turn: &mut Turn<'_>) {
        if turn.shared.ready.insert(self.name.clone()) {
            turn.shared.ready_changed = true;
        }
    }

    pub(crate) fn become_ready(&mut self, turn: &mut Turn<'_>, by: String) {
        let Phase::Starting { alive, .. } = self.phase else { return };
        let now = turn.now;
        let took = now.since(alive.since);
        self.phase = Phase::Running(Running { alive, ready_at: now, steady_since: now, proven: false });
        self.overdue_starts = 0;
        self.dirty = true;
        self.record(turn, self.fault_incident(), What::BecameReady { took, by });
        // An adopted run may have said READY=1 long ago, to nobody who lives.
        if self.plan.ready != Ready::Notify || !self.beats.has_sources() || self.adopted {
            self.mark_ready(turn);
        }
        let done = format!("{} is running as {}, ready after {}", self.name, alive.process, Human(took));
        self.answer(turn, Goal::Up, &Answer::Done(done));
        if self.beats.has_sources() {
            self.recover(turn);
        } else {
            self.recovers_at = Some(now + PROCESS_ONLY_SETTLE);
        }
    }

    // --- from life to rest ---

    pub(crate) fn stop_softly(&mut self, turn: &mut Turn<'_>, cause: StopCause, reason: &Reason) {
        let Some(alive) = self.alive() else { return };
        let incident = self.incidents.find(IncidentKind::Stuck).map(|incident| incident.id);
        let incident = incident.filter(|_| cause == StopCause::Kill);
        let signal = self.soft_signal(cause);
        turn.push(Command::Signal {
            service: self.name.clone(),
            generation: self.generation,
            signal: signal.clone(),
            reason: reason.clone(),
        });
        self.record(turn, incident, What::Signalled { signal, tree: false, reason: reason.clone() });
        self.phase = Phase::Stopping { alive, cause, hard: false, until: turn.now + self.plan.stop.grace };
        turn.shared.ready.remove(self.name.as_str());
        self.recovers_at = None;
    }

    pub(crate) fn stop_hard(&mut self, turn: &mut Turn<'_>) {
        let Phase::Stopping { alive, cause, until, .. } = self.phase else { return };
        let text = format!("it did not end within {}", Human(self.plan.stop.grace));
        let rule = if cause == StopCause::Kill { Rule::Silent } else { Rule::Operator };
        self.phase = Phase::Stopping { alive, cause, hard: true, until: turn.now.max(until) + UNDEAD_AFTER };
        self.kill_tree(turn, Reason::new(rule, text));
    }

    pub(crate) fn kill_tree(&mut self, turn: &mut Turn<'_>, reason: Reason) {
        let what = What::Signalled { signal: "SIGKILL".into(), tree: true, reason: reason.clone() };
        let incident = self.incidents.find(IncidentKind::Stuck).map(|incident| incident.id);
        self.record(turn, incident, what);
        turn.push(Command::KillTree { service: self.name.clone(), generation: self.generation, reason });
    }

    pub(crate) fn report_undead(&mut self, turn: &mut Turn<'_>, facts: Facts) {
        // Before the grace is over nothing was killed yet, and a report between two tries is no reason for another.
        let due = match &self.phase {
            Phase::Stopping { hard: false, .. } => return,
            Phase::Stopping { until, .. } | Phase::Sweeping { until } => *until <= turn.now,
            _ => false,
        };
        let detail = match facts {
            Facts::Failure(error) => error,
            _ => "the kernel has not ended it".to_owned(),
        };
        let text = format!("still there {} after the kill: {detail}", Human(UNDEAD_AFTER));
        let reason = Reason::new(Rule::WillNotDie, text);
        let (generation, severity) = (Some(self.generation), Severity::Critical);
        let id = self.incidents.open(turn, generation, IncidentKind::WillNotDie, "", severity, &reason);
        if self.incidents.find(IncidentKind::WillNotDie).is_some_and(|incident| !incident.told) {
            let story = Story::WillNotDie { waited: UNDEAD_AFTER, detail };
            self.incidents.tell(turn, id, severity, true, true, story);
        }
        let failed = format!("{} does not end, not even by SIGKILL; Horus goes on trying", self.name);
        self.answer(turn, Goal::Down, &Answer::Failed(failed.clone()));
        self.answer(turn, Goal::Up, &Answer::Failed(failed));
        if !due {
            return;
        }
        let again = turn.now + UNDEAD_AFTER * 3;
        match &mut self.phase {
            Phase::Stopping { until, .. } | Phase::Sweeping { until } => *until = again,
            _ => {}
        }
        self.kill_tree(turn, reason);
    }

    pub(crate) fn bury(&mut self, turn: &mut Turn<'_>, exit: Exit, strays: u32) {
        let alive = self.alive();
        let lifetime = alive.map_or(Duration::ZERO, |alive| turn.now.since(alive.since));
        let cause = match &self.phase {
            Phase::Stopping { cause: StopCause::Kill, .. } => DeathCause::Kill,
            Phase::Stopping { cause: StopCause::Planned, .. } => DeathCause::Planned,
            _ => DeathCause::Itself,
        };
        let incident = match cause {
            DeathCause::Kill => self.incidents.find(IncidentKind::Stuck).map(|incident| incident.id),
            DeathCause::Planned => None,
            DeathCause::Itself if self.ends_well(exit) || self.is_orderly(exit) => None,
            DeathCause::Itself => Some(self.open_exit(turn, exit, lifetime)),
        };
        self.record(turn, incident, What::Exited { exit, lifetime, cause });
        if cause == DeathCause::Kill && self.plan.stop.asks_for_a_dump() {
            self.dumped = Some(self.generation);
            self.ask_for_last_words(turn, incident);
        }
        turn.push(Command::Unwatch { service: self.name.clone() });
        turn.shared.ready.remove(self.name.as_str());
        turn.shared.ready_changed = true;
        self.recovers_at = None;
        self.ended = self.ended.max(self.generation);
        self.dirty = true;
        turn.shared.guard.green(&self.name);
        if cause == DeathCause::Itself && !self.ends_well(exit) && !self.is_orderly(exit) {
            turn.shared.guard.failed(&self.name, turn.now);
        }
        if let Some(lasted) =
            self.incidents.close_kind(turn, IncidentKind::WillNotDie, Outcome::CameBackAlone, "gone")
        {
            self.record(turn, None, What::Recovered { after: lasted });
        }
        self.phase = Phase::Down;
        if cause == DeathCause::Itself {
            self.count_exit(turn, exit, lifetime);
        } else if cause == DeathCause::Kill {
            self.foreign.summoned = true;
            self.launch_reason = Some(Reason::new(Rule::Silent, "restart after a hang"));
        } else {
            self.foreign.stopped = true;
        }
        if strays > 0 {
            let text = format!("{strays} processes outlived their parent");
            self.phase = Phase::Sweeping { until: turn.now + UNDEAD_AFTER };
            self.kill_tree(turn, Reason::new(Rule::Strays, text));
        } else {
            self.settle(turn);
        }
    }

    /// A living process was found. The second report of one that has ended revives nobody.
    pub(crate) fn adopted(&mut self, turn: &mut Turn<'_>, instance: Instance) {
        if instance.generation > self.ended {
            self.react(turn, Trigger::Adopted, Facts::Instance(instance));
        }
    }

    /// The keeper tells of a start. The same holds.
    pub(crate) fn spawned(&mut self, turn: &mut Turn<'_>, instance: Instance) {
        if instance.generation > self.ended {
            self.react(turn, Trigger::Spawned, Facts::Instance(instance));
        }
    }

    pub(crate) fn gone(&mut self, turn: &mut Turn<'_>, killed: u32) {
        if self.alive().is_some() {
            // The whole tree is gone, so its main process is; how it ended was lost.
            self.react(turn, Trigger::Exited, Facts::Death { exit: Exit::Unknown, strays: 0 });
        }
        self.record(turn, self.fault_incident(), What::VerifiedGone { killed });
        self.react(turn, Trigger::Gone, Facts::None);
    }

    pub(crate) fn open_exit(&mut self, turn: &mut Turn<'_>, exit: Exit, lifetime: Duration) -> IncidentId {
        let reason = Reason::new(Rule::Exit, format!("{} after {}", exit.verb(), Human(lifetime)));
        let generation = Some(self.generation);
        let kind = IncidentKind::Exit;
        let id = match self.incidents.find(IncidentKind::CrashLoop) {
            Some(incident) => incident.id,
            None => self.incidents.open(turn, generation, kind, "", Severity::Info, &reason),
        };
        self.incidents.revive(id);
        let last = LastDeath { generation: self.generation, at: turn.now, exit, lifetime, last_line: None };
        self.last_death = Some(last);
        self.ask_for_last_words(turn, Some(id));
        id
    }

    fn ask_for_last_words(&self, turn: &mut Turn<'_>, incident: Option<IncidentId>) {
        let (service, generation) = (self.name.clone(), self.generation);
        let stage = CaptureStage::Exit;
        turn.push(Command::Capture { service, generation, stage, incident, thread: None });
    }
}
