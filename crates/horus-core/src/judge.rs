//! The judge: from ages to a decision.
//!
//! ```text
//!   fresh tick      early            late              deadline                2 x deadline
//!       |------------|----------------|-------------------|--------------------------|
//!                 capture          capture            verdict, incident,       restart, if absence
//!                 (silent)         probe faster       evidence on disk         is all there is
//! ```
//!
//! A kill needs absence against a tick that used to move, for twice the deadline (no death channel exists yet that
//! could prove it sooner), no sign of life since, and no veto: startup, a declared long step, somebody who has
//! stopped it, a hold, observe mode, the breaker. Between the decision and the first signal stand the evidence and the
//! alert: both are on disk before anything is touched (guarantee G4), and a fresh tick in that time pardons.

use std::time::Duration;

use crate::command::Command;
use crate::event::{Outcome, What};
use crate::ledger::Allowance;
use crate::notice::{IncidentKind, Story};
use crate::observation::{CaptureStage, Declared, Finding};
use crate::plan::{Mode, Severity};
use crate::reason::{Reason, Rule};
use crate::service::{Facts, LastHang, Phase, Running, Sentence, Service, StopCause};
use crate::time::{Human, Mono};
use crate::transition::Trigger;
use crate::turn::Turn;
use crate::verdict::LoopAxis;

/// Evidence that has not come by then is given up; healing does not wait for it.
pub(crate) const EVIDENCE_WAIT_MAX: Duration = Duration::from_secs(10);

/// A store that has not confirmed by then is taken as degraded; healing does not wait for it.
pub(crate) const STORE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Places of hangs that are kept for the breaker's alert.
pub(crate) const PLACES_MAX: usize = 8;

/// One stretch without a fresh tick: what was already done about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spell {
    pub(crate) early: bool,
    pub(crate) second: bool,
    /// Past the deadline, and written down.
    pub(crate) opened: bool,
    /// The restart was due and did not happen (observe, hold, breaker): said once.
    pub(crate) declined: bool,
    pub(crate) findings: Vec<(CaptureStage, Finding)>,
}

/// The thresholds in force.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) early: Duration,
    pub(crate) late: Duration,
    pub(crate) deadline: Duration,
    pub(crate) act: Duration,
}

impl Service {
    /// Thresholds with the deadline doubled for each unproven kill. The early ones keep clear of the poll period, so
    /// that an ordinary gap between two polls is not taken for a beginning hang.
    pub(crate) fn limits(&self) -> Limits {
        let deadline = self.kills.patience(self.plan.deadline, &self.plan.kills);
        let poll = self.plan.beats.iter().map(crate::plan::BeatPlan::every).max().unwrap_or_default();
        // What is usual for this program is no suspicion: sd_notify asks for a beat at half of the deadline.
        let poll = poll.max(self.beats.usual_gap().min(deadline));
        let early = (deadline / 4).max(poll.saturating_add(poll / 4)).min(deadline);
        let late = (deadline / 2).max(poll.saturating_add(poll / 2)).min(deadline);
        Limits { early, late, deadline, act: deadline.saturating_mul(2) }
    }

    /// Since when a fresh tick is missing; time that the program asked for does not count.
    pub(crate) fn silent_since(&self, now: Mono) -> Option<Mono> {
        let fresh = self.beats.last_fresh()?.max(self.judged_since);
        Some(self.excused_until().map_or(fresh, |until| fresh.max(until)).min(now))
    }

    /// Two sources that contradict each other, in words.
    pub(crate) fn disagreement(&self, now: Mono) -> Option<String> {
        let since = self.excused_until().map_or(self.judged_since, |until| until.max(self.judged_since));
        self.beats.disagreement(now, since, self.limits().act)
    }

    /// Nothing is overdue before then.
    pub(crate) fn excused_until(&self) -> Option<Mono> {
        self.busy_until.max(self.extended_until)
    }

    /// Age of the last fresh sign, charged.
    pub(crate) fn age(&self, now: Mono) -> Option<Duration> {
        self.silent_since(now).map(|since| now.since(since))
    }

    pub(crate) fn loop_axis(&self, now: Mono) -> LoopAxis {
        let limits = self.limits();
        self.age(now).map_or(LoopAxis::Unknown, |age| self.beats.axis(now, age, limits.late, limits.deadline))
    }

    /// A fresh tick was heard, the one before `gap` ago.
    pub(crate) fn fresh_tick(&mut self, turn: &mut Turn<'_>, by: String, gap: Duration) {
        self.react(turn, Trigger::FirstTick, Facts::By(by));
        self.react(turn, Trigger::FreshTick, Facts::None);
        if let Phase::Running(running) = &mut self.phase
            && gap > self.plan.deadline
        {
            // Patience grows with each kill, the measure of "steady" does not.
            running.steady_since = turn.now;
        }
        let spell = std::mem::take(&mut self.spell);
        if spell.second {
            turn.push(Command::Hasten { service: self.name.clone(), fast: false });
        }
        if let Phase::Running(running) = &mut self.phase
            && spell.opened
        {
            running.steady_since = turn.now;
            running.proven = false;
            self.came_back(turn);
        }
        if std::mem::take(&mut self.recovers_on_tick) {
            self.recover(turn);
        }
        if self.incidents.find(IncidentKind::ProbePath).is_some() {
            self.close_probe_path(turn);
        }
    }

    /// It was silent past its deadline and came back without our help.
    fn came_back(&mut self, turn: &mut Turn<'_>) {
        if let Some(incident) = self.incidents.find(IncidentKind::Stuck)
            && self.last_hang.is_none()
            && !incident.needs_you
        {
            let (id, away_for) = (incident.id, turn.now.since(incident.opened));
            let story = (incident.version > 0).then_some(Story::CameBack { away_for });
            self.incidents.close(turn, id, Outcome::CameBackAlone, "it came back by itself", story);
        }
        self.close_probe_path(turn);
        self.dirty = true;
    }

    /// The probe path is well when a tick came through it and no source contradicts another.
    fn close_probe_path(&mut self, turn: &mut Turn<'_>) {
        if self.disagreement(turn.now).is_none() {
            let (kind, outcome) = (IncidentKind::ProbePath, Outcome::CameBackAlone);
            self.incidents.close_kind(turn, kind, outcome, "the probe works again");
        }
    }

    /// Looks at a running instance.
    pub(crate) fn judge_running(&mut self, turn: &mut Turn<'_>, running: Running) {
        let (now, limits) = (turn.now, self.limits());
        if self.declared == Declared::Halted {
            self.tell_halted(turn);
            return;
        }
        let Some(age) = self.age(now) else { return };
        if age >= limits.early && !self.spell.early {
            self.spell.early = true;
            self.capture(turn, CaptureStage::Early);
        }
        if age >= limits.late && !self.spell.second {
            self.spell.second = true;
            self.capture(turn, CaptureStage::Second);
            turn.push(Command::Hasten { service: self.name.clone(), fast: true });
        }
        match self.loop_axis(now) {
            LoopAxis::Unknown | LoopAxis::Late => {}
            LoopAxis::Beating => self.judge_disagreement(turn, limits),
            LoopAxis::Unreachable if age >= limits.act => self.open_probe_path(turn, age),
            LoopAxis::Unreachable => {}
            // It says that it has nothing to do, so its tick may stand still; it says so within its deadline.
            LoopAxis::Lying if self.declared == Declared::Idle => {}
            LoopAxis::Silent | LoopAxis::Lying => {
                self.open_stuck(turn, age, limits);
                if age >= limits.act && !self.spell.declined {
                    self.consider_kill(turn, running, age, limits);
                }
            }
        }
    }

    fn judge_disagreement(&mut self, turn: &mut Turn<'_>, limits: Limits) {
        match self.disagreement(turn.now) {
            Some(text) => self.tell_probe_path(turn, limits.act, text),
            None => self.close_probe_path(turn),
        }
    }

    fn open_probe_path(&mut self, turn: &mut Turn<'_>, age: Duration) {
        let heard = self.beats.heard();
        self.tell_probe_path(turn, age, heard);
    }

    fn tell_probe_path(&mut self, turn: &mut Turn<'_>, since: Duration, heard: String) {
        if self.incidents.find(IncidentKind::ProbePath).is_some() {
            return;
        }
        let reason = Reason::new(Rule::ProbePath, format!("no fresh tick for {}; {heard}", Human(since)));
        let (generation, severity) = (Some(self.generation), Severity::Warning);
        let id = self.incidents.open(turn, generation, IncidentKind::ProbePath, "", severity, &reason);
        self.incidents.tell(turn, id, severity, false, true, Story::ProbePath { since, heard });
        self.dirty = true;
    }

    fn capture(&self, turn: &mut Turn<'_>, stage: CaptureStage) {
        turn.push(Command::Capture {
            service: self.name.clone(),
            generation: self.generation,
            stage,
            incident: self.incidents.find(IncidentKind::Stuck).map(|incident| incident.id),
        });
    }

    /// What the silence looks like, as a reason.
    pub(crate) fn hang_reason(&self, now: Mono, age: Duration) -> Reason {
        let rule = match self.loop_axis(now) {
            LoopAxis::Lying => Rule::Lying,
            LoopAxis::Unreachable => Rule::ProbePath,
            LoopAxis::Unknown | LoopAxis::Beating | LoopAxis::Late | LoopAxis::Silent => Rule::Silent,
        };
        let limits = self.limits();
        let (age, deadline) = (Human(age), Human(limits.deadline));
        Reason::new(rule, format!("no fresh tick for {age}, deadline {deadline}; {}", self.beats.heard()))
    }

    fn open_stuck(&mut self, turn: &mut Turn<'_>, age: Duration, limits: Limits) {
        if self.spell.opened {
            return;
        }
        self.spell.opened = true;
        let reason = self.hang_reason(turn.now, age.max(limits.deadline));
        let (generation, severity) = (Some(self.generation), Severity::Warning);
        let id = self.incidents.open(turn, generation, IncidentKind::Stuck, "", severity, &reason);
        for (stage, finding) in self.spell.findings.clone() {
            self.record(turn, Some(id), What::EvidenceCaptured { stage, finding });
        }
        self.dirty = true;
    }

    fn consider_kill(&mut self, turn: &mut Turn<'_>, running: Running, age: Duration, limits: Limits) {
        let Some(incident) = self.incidents.find(IncidentKind::Stuck) else { return };
        let (id, how) = (incident.id, self.beats.heard());
        let mut reason = self.hang_reason(turn.now, age);
        reason.text = format!("{}; twice the deadline is {}", reason.text, Human(limits.act));
        if !self.beats.used_to_move() {
            self.spell.declined = true;
            let text =
                format!("{}; its tick was never seen to move, so its absence proves little", reason.text);
            self.tell_probe_path(turn, age, text);
            return;
        }
        if let Some(hold) = &self.hold {
            let what = format!("restart it, were it not held: {}", hold.reason);
            let because = format!("It is held: {}.", hold.reason);
            self.decline(turn, id, what, reason);
            self.tell_declined(turn, id, age, how, because);
            return;
        }
        if self.observes(turn) {
            self.decline(turn, id, "restart it, were it not in observe mode".into(), reason);
            self.tell_declined(turn, id, age, how, "Observe mode.".into());
            return;
        }
        match self.kills.allowance(turn.now, &self.plan.kills) {
            Allowance::Allowed { number } => {
                let sentence = Sentence {
                    reason: reason.clone(),
                    incident: id,
                    stuck_for: age,
                    how,
                    number,
                    told: false,
                    until: turn.now + EVIDENCE_WAIT_MAX,
                };
                let limit = self.plan.kills.limit;
                self.record(turn, Some(id), What::KillDecided { reason, kill: number, limit });
                self.sentence = Some((running, sentence));
                self.react(turn, Trigger::KillDecided, Facts::None);
            }
            Allowance::OpensBreaker(why) => self.open_breaker(turn, id, why, how),
            Allowance::BreakerOpen { .. } => {
                // Also after a try that seemed to cure: the last word must not be "healed".
                if self.incidents.find(IncidentKind::Stuck).is_some_and(|incident| !incident.needs_you) {
                    self.tell_breaker(turn, id, how);
                }
            }
        }
    }

    /// Nothing is to be signalled by a rule.
    pub(crate) fn observes(&self, turn: &Turn<'_>) -> bool {
        self.plan.observe || turn.shared.mode == Mode::Observe
    }

    fn tell_declined(
        &mut self,
        turn: &mut Turn<'_>,
        id: crate::ids::IncidentId,
        stuck_for: Duration,
        how: String,
        because: String,
    ) {
        let story = Story::StuckObserved { because, stuck_for, how, place: self.place() };
        self.incidents.tell(turn, id, Severity::Warning, false, true, story);
        self.dirty = true;
    }

    fn decline(&mut self, turn: &mut Turn<'_>, id: crate::ids::IncidentId, what: String, reason: Reason) {
        self.spell.declined = true;
        self.record(turn, Some(id), What::WouldHave { what, reason });
    }

    fn open_breaker(&mut self, turn: &mut Turn<'_>, id: crate::ids::IncidentId, why: String, how: String) {
        self.kills.open_breaker(turn.now);
        self.dirty = true;
        self.record(turn, Some(id), What::BreakerOpened { reason: Reason::new(Rule::Breaker, why) });
        self.tell_breaker(turn, id, how);
    }

    fn tell_breaker(&mut self, turn: &mut Turn<'_>, id: crate::ids::IncidentId, how: String) {
        let story = Story::BreakerOpen {
            kills: self.kills.unproven().max(self.kills.today(turn.now)),
            how,
            places: self.places.clone(),
            retry: self.plan.kills.retry,
        };
        self.incidents.tell(turn, id, Severity::Critical, true, true, story);
    }

    /// Evidence first: nothing is touched yet.
    pub(crate) fn condemn(&mut self, turn: &mut Turn<'_>) {
        let Some((running, sentence)) = self.sentence.take() else { return };
        self.phase = Phase::Condemned { running, sentence };
        self.capture(turn, CaptureStage::Verdict);
    }

    /// It showed life between the decision and the signal.
    pub(crate) fn pardon(&mut self, turn: &mut Turn<'_>) {
        self.spare(turn, "a fresh tick came before the signal");
    }

    /// Drops a restart that was decided and not begun.
    pub(crate) fn spare(&mut self, turn: &mut Turn<'_>, why: &str) {
        let Phase::Condemned { running, sentence } = self.phase.clone() else { return };
        let reason = Reason::new(sentence.reason.rule, format!("{why}: the restart is dropped"));
        let what = "restart it".to_owned();
        self.record(turn, Some(sentence.incident), What::WouldHave { what, reason });
        self.phase = Phase::Running(running);
    }

    /// Somebody has stopped it, on purpose or to debug it: its silence says nothing, and whoever did it is told.
    fn spare_the_stopped(&mut self, turn: &mut Turn<'_>, why: &str) {
        let Phase::Condemned { sentence, .. } = self.phase.clone() else { return };
        self.spare(turn, why);
        self.spell.declined = true;
        let because = format!("Its silence proves nothing: {why}.");
        self.tell_declined(turn, sentence.incident, sentence.stuck_for, sentence.how, because);
    }

    /// What forbids the restart that was decided, if anything has come about since.
    pub(crate) fn veto(&self, turn: &Turn<'_>) -> Option<&'static str> {
        if self.hold.is_some() {
            Some("it is held now")
        } else if self.observes(turn) {
            Some("observe mode is on now")
        } else if self.declared == Declared::Halted {
            Some("it says that it stopped itself on purpose")
        } else if self.excused_until().is_some_and(|until| until > turn.now) {
            Some("it declared a long step")
        } else {
            None
        }
    }

    /// Told once: it stopped itself on purpose, and still has a process.
    fn tell_halted(&mut self, turn: &mut Turn<'_>) {
        if self.incidents.find(IncidentKind::Halted).is_some() {
            return;
        }
        let reason = Reason::new(Rule::Halted, "it says that it stopped itself on purpose");
        let (generation, severity) = (Some(self.generation), Severity::Critical);
        let id = self.incidents.open(turn, generation, IncidentKind::Halted, "", severity, &reason);
        self.incidents.tell(turn, id, severity, true, true, Story::Halted);
        self.dirty = true;
    }

    /// A capture of a living instance came back.
    pub(crate) fn take_evidence(&mut self, turn: &mut Turn<'_>, stage: CaptureStage, finding: Finding) {
        let incident = self.incidents.find(IncidentKind::Stuck).map(|incident| incident.id);
        let stopped = finding.stopped.clone();
        if self.spell.opened {
            self.record(turn, incident, What::EvidenceCaptured { stage, finding: finding.clone() });
        }
        if self.spell.early {
            self.spell.findings.retain(|(old, _)| *old != stage);
            self.spell.findings.push((stage, finding));
        }
        if stage == CaptureStage::Verdict
            && let Some(why) = stopped
        {
            self.spare_the_stopped(turn, &why);
        }
        if stage == CaptureStage::Verdict
            && let Phase::Condemned { sentence, .. } = &self.phase
            && !sentence.told
        {
            self.tell_restart(turn);
        }
    }

    /// The one phrase that says where it hangs: that of the newest capture which saw anything.
    pub(crate) fn place(&self) -> Option<String> {
        let phrases = self.spell.findings.iter().rev().map(|(_, finding)| &finding.phrase);
        phrases.into_iter().find(|phrase| !phrase.is_empty()).cloned()
    }

    /// The alert goes into the outbox; the signal waits for its confirmation.
    fn tell_restart(&mut self, turn: &mut Turn<'_>) {
        let place = self.place();
        let Phase::Condemned { sentence, .. } = &mut self.phase else { return };
        sentence.told = true;
        sentence.until = turn.now + STORE_WAIT_MAX;
        let sentence = sentence.clone();
        let story = Story::StuckRestarting {
            stuck_for: sentence.stuck_for,
            how: sentence.how,
            place,
            kill: sentence.number,
            limit: self.plan.kills.limit,
        };
        self.incidents.tell(turn, sentence.incident, Severity::Warning, false, true, story);
        self.dirty = true;
        turn.push(Command::Confirm { incident: sentence.incident });
    }

    /// Evidence or store keep us waiting for too long: say so and go on.
    pub(crate) fn hurry(&mut self, turn: &mut Turn<'_>) {
        if let Some(why) = self.veto(turn) {
            self.spare(turn, why);
        }
        let Phase::Condemned { sentence, .. } = &self.phase else { return };
        if turn.now < sentence.until {
            return;
        }
        if sentence.told {
            self.execute(turn);
        } else {
            let missing = vec![format!("no evidence within {}", Human(EVIDENCE_WAIT_MAX))];
            let finding = Finding { missing, ..Finding::default() };
            let incident = Some(sentence.incident);
            let stage = CaptureStage::Verdict;
            self.record(turn, incident, What::EvidenceCaptured { stage, finding });
            self.tell_restart(turn);
        }
    }

    /// Everything that has to come before the first signal has come.
    pub(crate) fn execute(&mut self, turn: &mut Turn<'_>) {
        if let Some(why) = self.veto(turn) {
            self.spare(turn, why);
        }
        let Phase::Condemned { sentence, .. } = self.phase.clone() else { return };
        let place = self.place();
        self.places.push(place.clone().unwrap_or_else(|| sentence.how.clone()));
        if self.places.len() > PLACES_MAX {
            self.places.remove(0);
        }
        let first_sign = turn.now.before(sentence.stuck_for);
        let (stuck_for, how) = (sentence.stuck_for, sentence.how);
        self.last_hang = Some(LastHang { first_sign, stuck_for, how, place });
        self.kills.record(turn.now);
        self.dirty = true;
        self.react(turn, Trigger::EvidenceStored, Facts::Because(StopCause::Kill, sentence.reason));
    }
}
