//! What a service does when time passes, and what it does with each observation.

use std::time::Duration;

use crate::command::Command;
use crate::event::{Outcome, What};
use crate::ids::Generation;
use crate::memory::REMEMBER_EVERY;
use crate::notice::{IncidentKind, Story};
use crate::observation::{Beat, CaptureStage, Declared, Exit, Observation};
use crate::own_word::OWN_WORD_HOLDS;
use crate::plan::{Ready, Severity};
use crate::reason::{Reason, Rule};
use crate::service::{Facts, Phase, Service};
use crate::spell::Track;
use crate::time::{Human, Mono};
use crate::transition::Trigger;
use crate::turn::Turn;

/// The longest time that a program can ask for at once (`EXTEND_TIMEOUT_USEC`, `busy_until_ms`).
pub(crate) const EXTENSION_MAX: Duration = Duration::from_secs(2 * 3600);

/// With this code a child ends whose keeper died before it let it run.
pub(crate) const EXIT_GATE_CLOSED: i32 = 125;

/// A program's own status line is written to the journal at most this often; status always shows the newest.
pub(crate) const SAID_EVERY_MIN: Duration = Duration::from_secs(10);

/// The startup cap doubles with each start that passed it, so many times at most.
pub(crate) const STARTUP_DOUBLINGS_MAX: u32 = 5;

/// The earliest of the instants that it is given.
#[derive(Default)]
struct Earliest(Option<Mono>);

impl Earliest {
    fn push(&mut self, at: Mono) {
        self.0 = Some(self.0.map_or(at, |earliest| earliest.min(at)));
    }

    fn extend(&mut self, all: impl IntoIterator<Item = Mono>) {
        all.into_iter().for_each(|at| self.push(at));
    }
}

impl Service {
    /// Takes one observation. Observations about an earlier run are dropped.
    pub(crate) fn observe(&mut self, turn: &mut Turn<'_>, observation: Observation) {
        use Observation as O;
        match observation {
            O::Adopted(instance) => self.adopted(turn, instance),
            O::Spawned(instance) if instance.generation == self.generation => self.spawned(turn, instance),
            // Nobody disowns what another manager runs: the next look of ours at it tells how it stands.
            O::Spawned(_) if self.unit().is_some() => {}
            O::Spawned(instance) => self.disown(turn, instance),
            O::StartLost { generation } if generation == self.generation => self.lose_start(turn),
            O::Blocked { generation, by } if generation == self.generation => {
                self.react(turn, Trigger::Blocked, Facts::Failure(by));
            }
            O::SpawnFailed { generation, error } if generation == self.generation => {
                self.react(turn, Trigger::SpawnFailed, Facts::Failure(error));
            }
            // Its keeper died between its record and its gate: it never ran, and nobody is to blame.
            O::Exited { generation, exit: Exit::Unknown | Exit::Code(EXIT_GATE_CLOSED), strays: 0 }
                if generation == self.generation && matches!(self.phase, Phase::Launching { .. }) =>
            {
                self.lose_start(turn);
            }
            O::Exited { generation, exit, strays } if generation == self.generation => {
                let trigger = if strays > 0 { Trigger::ExitedWithStrays } else { Trigger::Exited };
                self.react(turn, trigger, Facts::Death { exit, strays });
            }
            O::Gone { generation, killed } if generation == self.generation => self.gone(turn, killed),
            O::Unit { state } => self.hear_unit(turn, state),
            O::SignalFailed { generation, error }
                if generation == self.generation && self.unit().is_some() =>
            {
                self.react(turn, Trigger::Refused, Facts::Failure(error));
            }
            O::SignalFailed { generation, error } if generation == self.generation => {
                self.react(turn, Trigger::Undead, Facts::Failure(error));
            }
            O::Beat { generation, beat } if self.watches(generation) => self.hear(turn, &beat),
            O::NoBeat { generation, source, fault, detail } if self.watches(generation) => {
                self.beats.miss(source, fault, detail);
            }
            O::SaidReady { generation } if self.watches(generation) => self.hear_ready(turn),
            O::SaidStopping { generation }
            | O::SaidStuck { generation }
            | O::SaidStatus { generation, .. }
            | O::SaidStep { generation, .. }
            | O::AskedForTime { generation, .. }
                if !self.watches(generation) => {}
            O::SaidStopping { .. } => {}
            O::SaidStuck { .. } => self.hear_own_word(turn.now),
            O::SaidStatus { text, .. } => self.hear_status(turn, text),
            O::SaidStep { step, .. } => self.hear_step(turn, step),
            O::AskedForTime { extend, .. } => {
                self.extended_until = self.extended_until.max(Some(self.grant(turn.now, extend)));
            }
            O::KernelView { generation, view } if self.watches(generation) => self.hear_view(turn.now, view),
            O::Counts { generation, counts, unread } if self.watches(generation) => {
                self.counters.hear_counted(turn.now, &counts, unread, &self.plan);
                self.work_moved(turn);
            }
            O::Activity { generation, activity } if self.watches(generation) => {
                self.counters.hear_activity(turn.now, &activity, &self.plan);
                self.work_moved(turn);
            }
            O::Captured { generation, stage, finding } if self.asked_for(generation, stage) => {
                self.captured(turn, generation, stage, finding);
            }
            O::StartLost { .. }
            | O::Blocked { .. }
            | O::SpawnFailed { .. }
            | O::Exited { .. }
            | O::Gone { .. }
            | O::SignalFailed { .. }
            | O::Beat { .. }
            | O::NoBeat { .. }
            | O::SaidReady { .. }
            | O::KernelView { .. }
            | O::Counts { .. }
            | O::Activity { .. }
            | O::Captured { .. } => {}
        }
    }

    /// The keeper that was to start it is gone; its run number may be taken.
    fn lose_start(&mut self, turn: &mut Turn<'_>) {
        self.blocked = None;
        self.react(turn, Trigger::StartLost, Facts::None);
    }

    /// A start that was given up has come about after all: nobody may run beside the run that is meant.
    fn disown(&self, turn: &mut Turn<'_>, instance: crate::ids::Instance) {
        let (service, generation) = (self.name.clone(), instance.generation);
        let reason = Reason::new(Rule::Strays, format!("run {generation} was given up before it started"));
        turn.push(Command::KillTree { service, generation, reason });
    }

    /// Was this run the last one that ended by itself?
    pub(crate) fn has_died(&self, generation: Generation) -> bool {
        self.last_death.as_ref().is_some_and(|last| last.generation == generation)
    }

    /// Was this capture asked for? The last words of a run come when the next one has begun already.
    fn asked_for(&self, generation: Generation, stage: CaptureStage) -> bool {
        match stage {
            CaptureStage::Exit => self.has_died(generation) || self.dumped == Some(generation),
            CaptureStage::Early | CaptureStage::Second | CaptureStage::Verdict => {
                generation == self.generation
            }
        }
    }

    /// Is this run alive and watched?
    fn watches(&self, generation: Generation) -> bool {
        generation == self.generation && self.alive().is_some()
    }

    fn hear(&mut self, turn: &mut Turn<'_>, beat: &Beat) {
        if let Some(declared) = beat.declared {
            self.end_declared(turn.now, declared);
            self.declared = declared;
            self.busy_until = match declared {
                Declared::Busy(left) => Some(self.grant(turn.now, left)),
                Declared::Ok | Declared::Idle | Declared::Halted => None,
            };
            if declared != Declared::Halted {
                let (kind, outcome) = (IncidentKind::Halted, Outcome::CameBackAlone);
                self.incidents.close_kind(turn, kind, outcome, "it works again");
            }
        }
        if self.declared == Declared::Idle {
            self.idle_at = Some(turn.now);
        }
        let before = self.beats.last_fresh();
        self.counters.hear(turn.now, beat, &self.plan);
        self.work_moved(turn);
        if self.beats.hear(turn.now, beat) {
            let by = match beat.tick {
                Some(tick) => format!("{} tick moved to {tick}", beat.source.word()),
                None => format!("{} beat", beat.source.word()),
            };
            let gap = before.map_or(Duration::ZERO, |before| turn.now.since(before));
            self.fresh_tick(turn, by, gap);
        }
    }

    /// It says that its long step or its pause is over. Its silence counts from that word: the next tick is yet to come.
    fn end_declared(&mut self, now: Mono, declared: Declared) {
        let over = match (self.declared, declared) {
            (Declared::Busy(_), Declared::Busy(_)) | (Declared::Idle, Declared::Idle) => false,
            (Declared::Busy(_) | Declared::Idle, _) => true,
            (Declared::Ok | Declared::Halted, _) => false,
        };
        if matches!(declared, Declared::Busy(_) | Declared::Idle) && (over || self.declared_from.is_none()) {
            if over {
                self.end_declared_stretch(now);
            }
            self.declared_from = Some(now);
            return;
        }
        if over {
            self.end_declared_stretch(now);
        }
    }

    fn end_declared_stretch(&mut self, now: Mono) {
        self.declared_until = now;
        // Only what it declared is not charged: whoever flips between two words over a still tick is not excused for ever.
        let from = self.declared_from.take().unwrap_or(now).max(self.beats.last_fresh().unwrap_or_default());
        self.declared_credit = self.declared_credit.saturating_add(now.since(from));
        if matches!(self.declared, Declared::Busy(_)) {
            self.declared_credit = self.declared_credit.min(EXTENSION_MAX);
        }
    }

    fn hear_ready(&mut self, turn: &mut Turn<'_>) {
        // Where its beats come another way READY=1 says nothing about those.
        if self.beats.hear_ready(turn.now) || self.plan.is_ready_by_word_alone() {
            self.fresh_tick(turn, "READY=1".into(), Duration::ZERO);
        }
        if self.plan.ready == Ready::Notify {
            self.mark_ready(turn);
        }
    }

    fn hear_status(&mut self, turn: &mut Turn<'_>, text: String) {
        if self.said.as_deref() != Some(text.as_str()) {
            if self.said_at.is_none_or(|at| turn.now.since(at) >= SAID_EVERY_MIN) {
                self.said_at = Some(turn.now);
                self.record(turn, None, What::SaidStatus { text: text.clone() });
            }
            self.said = Some(text);
        }
    }

    /// Until when it may take its time: what it asks for, but never longer than [`EXTENSION_MAX`] after its last fresh
    /// tick. A program whose tick stands still and that says "busy" again and again is not excused for ever.
    fn grant(&self, now: Mono, extend: Duration) -> Mono {
        let bound = self.beats.last_fresh().unwrap_or(now) + EXTENSION_MAX;
        (now + extend).min(bound)
    }

    /// Time in which Horus itself did not look is held against nobody, and proves nothing.
    pub(crate) fn excuse(&mut self, now: Mono, late: Duration) {
        self.beats.excuse(now, late);
        self.counters.excuse(now, late);
        self.outlook.excuse(now, late);
        for until in [&mut self.busy_until, &mut self.extended_until].into_iter().flatten() {
            *until = *until + late;
        }
        let marks = [
            &mut self.judged_since,
            &mut self.witnessed_since,
            &mut self.declared_until,
            &mut self.start_looked_at,
        ];
        let step = self.step.as_mut().map(|step| &mut step.since);
        for since in marks.into_iter().chain(step).chain(&mut self.stepped_at) {
            *since = (*since + late).min(now);
        }
        self.idle_at = self.idle_at.map(|at| (at + late).min(now));
        match &mut self.phase {
            Phase::Running(running) | Phase::Condemned { running, .. } => {
                running.steady_since = (running.steady_since + late).min(now);
            }
            Phase::Starting { watched_since, .. } => *watched_since = (*watched_since + late).min(now),
            _ => {}
        }
    }

    /// Work counts from here at the earliest: what it declared, or was not asked, is not held against it.
    pub(crate) fn work_since(&self) -> Mono {
        let excused = self.excused_until().unwrap_or_default().max(self.declared_until);
        self.judged_since.max(excused).max(self.idle_at.unwrap_or_default())
    }

    /// Time has passed, or something has changed: do what is due.
    pub(crate) fn look(&mut self, turn: &mut Turn<'_>) {
        self.expire_hold(turn);
        self.end_slowness(turn.now);
        self.tend_job(turn);
        self.note_step(turn);
        self.look_at_phase(turn);
        self.end_recurrence(turn);
        if self.recovers_at.is_some_and(|at| at <= turn.now) && matches!(self.phase, Phase::Running(_)) {
            self.recover(turn);
        }
        self.prove_if_due(turn);
        self.tell_last_words(turn, None);
        self.expire_tickets(turn);
        self.note_verdict(turn);
        self.incidents.ring_if_due(turn);
        self.remember_if_due(turn);
        self.due = self.next_due(turn.now);
    }

    fn expire_hold(&mut self, turn: &mut Turn<'_>) {
        let expired = |hold: &crate::service::Hold| hold.until.is_some_and(|until| until <= turn.now);
        if self.hold.as_ref().is_some_and(expired) {
            self.hold = None;
            self.dirty = true;
            self.spell.may_decline_again();
            self.work_spell.may_decline_again();
            self.record(turn, None, What::HoldEnded { how: "it expired".into() });
            self.launch_reason = Some(Reason::new(Rule::Held, "the hold expired"));
            self.react(turn, Trigger::Reconsider, Facts::None);
            self.relaunch_if_pending(turn);
        }
    }

    fn look_at_phase(&mut self, turn: &mut Turn<'_>) {
        match &self.phase {
            Phase::Down => {}
            Phase::Launching { overdue_at } if overdue_at.is_some_and(|at| at <= turn.now) => {
                self.miss_the_keeper(turn);
            }
            Phase::Launching { .. } => {}
            Phase::Waiting => self.react(turn, Trigger::Reconsider, Facts::None),
            Phase::Backoff { until } if *until <= turn.now => {
                self.react(turn, Trigger::Reconsider, Facts::None);
            }
            Phase::Backoff { .. } => {}
            Phase::Starting { .. } => self.look_at_start(turn),
            Phase::Running(running) => {
                let running = *running;
                self.judge_running(turn, running);
                self.judge_usefulness(turn);
            }
            Phase::Condemned { .. } => self.hurry(turn),
            Phase::Stopping { hard, until, .. } if *until <= turn.now => {
                let trigger = if *hard { Trigger::Undead } else { Trigger::GraceOver };
                self.react(turn, trigger, Facts::None);
            }
            Phase::Stopping { .. } => {}
            Phase::Sweeping { until } if *until <= turn.now => self.react(turn, Trigger::Undead, Facts::None),
            Phase::Sweeping { .. } => {}
        }
    }

    /// The cap on waiting for the first fresh tick; doubled for each start in a row that passed it.
    pub(crate) fn startup_cap(&self) -> Duration {
        self.plan.startup.saturating_mul(1 << self.overdue_starts.min(STARTUP_DOUBLINGS_MAX))
    }

    /// When the start will be overdue.
    fn overdue_at(&self, since: Mono) -> Mono {
        let cap = since + self.startup_cap();
        self.excused_until().map_or(cap, |until| cap.max(until))
    }

    /// The keeper was asked for a start and says nothing. Nothing else can be done than to say so: a second start could
    /// be one too many.
    fn miss_the_keeper(&mut self, turn: &mut Turn<'_>) {
        self.phase = Phase::Launching { overdue_at: None };
        let heard = match self.unit() {
            None => "the keeper has not answered".to_owned(),
            Some(unit) => format!("{unit} has no main process yet"),
        };
        self.tell_overdue(turn, crate::service::LAUNCH_WAIT_MAX, heard);
    }

    fn look_at_start(&mut self, turn: &mut Turn<'_>) {
        let Phase::Starting { watched_since, .. } = &self.phase else { return };
        let since = *watched_since;
        if !self.start_overdue {
            if turn.now < self.overdue_at(since) {
                return;
            }
            if self.adopted && self.plan.is_ready_by_word_alone() {
                // It may have said so while there was no Horus to hear it.
                let by = "an earlier Horus started it; whether it has said READY=1 is not known";
                self.react(turn, Trigger::FirstTick, Facts::By(by.into()));
                return;
            }
            self.start_overdue = true;
            turn.shared.guard.failed(&self.name, turn.now);
            self.tell_overdue(turn, turn.now.since(since), self.heard_of_start());
        }
        self.look_closer_at_start(turn);
        self.judge_overdue_start(turn, since);
    }

    /// What was heard of it instead of its first fresh tick.
    pub(crate) fn heard_of_start(&self) -> String {
        match self.plan.is_ready_by_word_alone() {
            true => "it has not said READY=1".into(),
            false => self.beats.heard(),
        }
    }

    /// What its start waits for.
    pub(crate) fn awaited(&self) -> &'static str {
        if self.plan.is_ready_by_word_alone() { "READY=1" } else { "first fresh tick" }
    }

    /// Only a proof of death may end an overdue start: two captures, a quarter of the deadline apart.
    fn look_closer_at_start(&mut self, turn: &mut Turn<'_>) {
        if !self.spell.early {
            self.spell.early = true;
            self.start_looked_at = turn.now;
            self.capture(turn, CaptureStage::Early);
        } else if !self.spell.second && turn.now >= self.second_look_at() {
            self.spell.second = true;
            self.capture(turn, CaptureStage::Second);
        } else if self.spell.second {
            self.look_again(turn);
        }
    }

    fn second_look_at(&self) -> Mono {
        self.start_looked_at + self.limits().deadline / 4
    }

    fn tell_overdue(&mut self, turn: &mut Turn<'_>, waited: Duration, heard: String) {
        let text = format!(
            "no {} for {}, cap {}; {heard}",
            self.awaited(),
            Human(waited),
            Human(self.startup_cap())
        );
        let reason = Reason::new(Rule::StartOverdue, text);
        self.overdue_starts = self.overdue_starts.saturating_add(1);
        self.dirty = true;
        let (generation, severity) = (Some(self.generation), Severity::Warning);
        let id = self.incidents.open(turn, generation, IncidentKind::StartOverdue, "", severity, &reason);
        if self.incidents.find(IncidentKind::StartOverdue).is_some_and(|incident| !incident.told) {
            self.incidents.tell(turn, id, severity, false, true, Story::StartOverdue { waited, heard });
        }
        let failed = format!("{} is not ready after {}: {}", self.name, Human(waited), reason.text);
        self.answer(turn, crate::service::Goal::Up, &crate::command::Answer::Failed(failed));
    }

    fn note_verdict(&mut self, turn: &mut Turn<'_>) {
        if self.verdict_is(turn.now) != self.verdict {
            let (verdict, reason) = self.conclude(turn.now, &turn.shared.ready);
            let from = std::mem::replace(&mut self.verdict, verdict);
            let incident = self.incidents.find(IncidentKind::Stuck).map(|incident| incident.id);
            self.record(turn, incident, What::Judged { from, to: verdict, reason });
        }
    }

    /// When it has to be looked at again, if nothing is heard until then.
    fn next_due(&self, now: Mono) -> Option<Mono> {
        let mut due = Earliest::default();
        due.extend(self.hold.as_ref().and_then(|hold| hold.until));
        due.extend(self.recovers_at.filter(|_| matches!(self.phase, Phase::Running(_))));
        due.extend(self.proof_due().filter(|at| !self.spell.opened && *at > now));
        due.extend(self.tickets.iter().map(|(_, _, until)| *until));
        due.extend(self.last_words.as_ref().map(|words| words.until));
        due.extend(self.job_due());
        due.extend(self.incidents.due());
        due.extend(self.slow_until());
        due.extend(self.next_step_at(now));
        due.extend(self.view_due(now));
        due.extend(self.step_ends().filter(|at| *at > now));
        due.extend(self.step_note_due());
        due.extend(self.heard_out_at(Track::Loop).filter(|at| *at > now && self.spell.opened));
        if self.incidents.find(IncidentKind::Recurrence).is_some() {
            due.extend(self.stalls.over_at());
        }
        match &self.phase {
            Phase::Down => {}
            Phase::Waiting => {
                due.extend(self.blocked.as_ref().map(|blocked| blocked.until).filter(|at| *at > now))
            }
            Phase::Launching { overdue_at } => due.extend(*overdue_at),
            Phase::Backoff { until } | Phase::Stopping { until, .. } | Phase::Sweeping { until } => {
                due.push(*until)
            }
            Phase::Starting { watched_since, .. } => {
                if !self.start_overdue {
                    due.push(self.overdue_at(*watched_since));
                } else if self.spell.early && !self.spell.second {
                    due.push(self.second_look_at());
                } else {
                    due.extend(self.look_again_at());
                }
            }
            Phase::Condemned { sentence, .. } => due.push(sentence.until),
            Phase::Running(_) => {
                due.extend(self.next_threshold(now));
                due.extend(
                    self.own_word_due()
                        .into_iter()
                        .flat_map(|at| [at, at + OWN_WORD_HOLDS])
                        .filter(|at| *at > now),
                );
                let spared = [Track::Loop, Track::Work].map(|track| self.spared_until(track));
                due.extend(spared.into_iter().flatten().filter(|at| *at > now));
                due.extend(self.counters.next_bound(now, &self.plan.values));
                due.extend(self.counters.next_missing(now, &self.plan.expects));
                if !self.plan.values.is_empty() {
                    due.push(self.remembered_at + REMEMBER_EVERY);
                }
            }
        }
        due.0
    }

    /// The next age at which the judge does something.
    fn next_threshold(&self, now: Mono) -> Option<Mono> {
        let since = self.silent_since(now)?;
        let since = self.excused_until().map_or(since, |until| since.max(until));
        let limits = self.limits();
        let mut next = Earliest::default();
        next.extend(limits.ages().into_iter().map(|age| since + age).filter(|at| *at > now));
        next.extend(self.look_again_at().map(|at| at.max(now)));
        if self.kills.is_open()
            && let crate::ledger::Allowance::BreakerOpen { next: Some(at) } =
                self.kills.allowance(now, &self.plan.kills)
        {
            next.push(at);
        }
        next.0
    }
}
