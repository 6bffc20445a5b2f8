//! The judge: from ages to a decision.
//!
//! ```text
//!   fresh tick      early            late              deadline                2 x deadline
//!       |------------|----------------|-------------------|--------------------------|
//!                 capture          capture            verdict, incident,       restart, if absence
//!                 (silent)         probe faster       evidence on disk         is all there is
//! ```
//!
//! Ages become a place on each axis, [`crate::decision`] makes a verdict and an action of them, and what may forbid a restart
//! is asked last ([`crate::veto`]). There are two tracks, judged apart: the *loop* (its fresh tick) and declared *work* (a counter that has
//! to move); life on one says nothing about the other. Between the decision and the first signal stand the evidence and
//! the alert: both are on disk before anything is touched (guarantee G4), and a sign of life on the same track pardons.

use std::time::Duration;

use crate::activity;
use crate::command::Command;
use crate::decision::{Action, Axes, Decision, Outside, decide};
use crate::event::{Outcome, What};
use crate::ids::IncidentId;
use crate::ledger::Allowance;
use crate::notice::{IncidentKind, Story};
use crate::observation::{CaptureStage, Declared, LoopSeen};
use crate::plan::{ProgressPlan, Severity};
use crate::reason::{Reason, Rule};
use crate::service::{Facts, Phase, Running, Sentence, Service};
use crate::spell::{Declined, Fault, Limits, Spell, Track};
use crate::time::{Human, Mono};
use crate::transition::Trigger;
use crate::turn::Turn;
use crate::value::Stalled;
use crate::verdict::{LoopAxis, Verdict};

/// Evidence that has not come by then is given up; healing does not wait for it.
pub(crate) const EVIDENCE_WAIT_MAX: Duration = Duration::from_secs(10);

/// A store that has not confirmed by then is taken as degraded; healing does not wait for it.
pub(crate) const STORE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Places of hangs that are kept for the breaker's alert.
pub(crate) const PLACES_MAX: usize = 8;

/// A silence that may not be ended, because of what was seen, is looked at again after a deadline, and not more often.
pub(crate) const LOOK_AGAIN_MIN: Duration = Duration::from_secs(60);

/// The pause doubles from look to look up to this.
pub(crate) const LOOK_AGAIN_MAX: Duration = Duration::from_secs(3600);

impl Service {
    /// Thresholds with the deadline doubled for each unproven kill, and stretched while the whole machine is short of
    /// something. The early ones keep clear of the poll period, so that an ordinary gap between two polls is not taken
    /// for a beginning hang.
    pub(crate) fn limits(&self) -> Limits {
        let deadline = self.stretched(self.plan.deadline);
        let poll = self.plan.beats.iter().map(crate::plan::BeatPlan::every).max().unwrap_or_default();
        // What is usual for this program is no suspicion: sd_notify asks for a beat at half of the deadline.
        let poll = poll.max(self.beats.usual_gap().min(deadline));
        let early = (deadline / 4).max(poll.saturating_add(poll / 4)).min(deadline);
        let late = (deadline / 2).max(poll.saturating_add(poll / 2)).min(deadline);
        Limits { early, late, deadline, act: deadline.saturating_mul(2) }
    }

    /// A limit of the plan, as it is in force.
    pub(crate) fn stretched(&self, limit: Duration) -> Duration {
        let patient = self.kills.patience(limit, &self.plan.kills);
        // The ordinary case is worth its branch: this is asked several times at every step.
        if self.slow_percent == 100 { patient } else { patient.saturating_mul(self.slow_percent) / 100 }
    }

    /// Since when a fresh tick is missing; time that the program asked for does not count.
    pub(crate) fn silent_since(&self, now: Mono) -> Option<Mono> {
        if self.speaks_in_steps() {
            return None;
        }
        let fresh = (self.beats.last_fresh()? + self.declared_credit).max(self.judged_since);
        Some(self.excused_until().map_or(fresh, |until| fresh.max(until)).min(now))
    }

    /// Two sources that contradict each other, in words.
    pub(crate) fn disagreement(&self, now: Mono) -> Option<String> {
        // Who has nothing to do may keep its tick still, whatever else beats.
        let since = self.judged_since.max(self.declared_until).max(self.idle_at.unwrap_or_default());
        let since = self.excused_until().map_or(since, |until| until.max(since));
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

    /// Where it stands on each axis.
    pub(crate) fn axes(&self, now: Mono) -> Axes {
        Axes {
            process: self.process_is(),
            loop_axis: self.loop_axis(now),
            progress: self.progress_is(now),
            value: self.counters.value_is(now, &self.plan.values),
            outside: self.outside(now),
        }
    }

    /// What the captures of this stretch prove, taken together. Two that are compared were asked for a quarter of the deadline
    /// apart; they may come a little closer together than that.
    pub(crate) fn proof(&self) -> Outside {
        let findings = &self.spell.findings;
        let Some(last) = findings.last() else { return Outside::None };
        if last.finding.seen == Some(LoopSeen::Home) {
            return Outside::Home;
        }
        let apart = self.limits().deadline / 5;
        let before = findings.iter().rev().find(|seen| last.at.since(seen.at) >= apart);
        let Some(before) = before else { return Outside::None };
        let (a, b) = (&before.finding, &last.finding);
        match (a.seen, b.seen, a.cpu_ns, b.cpu_ns) {
            (Some(LoopSeen::Blocked), Some(LoopSeen::Blocked), Some(was), Some(is))
                if was == is && a.place.is_some() && a.place == b.place =>
            {
                Outside::Blocked
            }
            (Some(LoopSeen::Spinning), Some(LoopSeen::Spinning), Some(was), Some(is)) if is > was => {
                Outside::Spinning
            }
            _ => Outside::None,
        }
    }

    /// Declared work that stands still for longer than its limit in force.
    pub(crate) fn stalled(&self, now: Mono) -> Option<Stalled> {
        if self.plan.progress.is_empty() {
            return self.overdue_step(now);
        }
        let within = self.is_within_step(now);
        let since = self.work_since();
        let seen_since = since.max(self.stepped_at.unwrap_or_default());
        let judged = |plan: &ProgressPlan, moved: bool| {
            let seen_from_outside = activity::is_own(&plan.counter);
            // A step that may last may move nothing that is seen from outside, and nothing that it never moved.
            let may_rest = within && (seen_from_outside || !moved);
            let since = if seen_from_outside { seen_since } else { since };
            (!may_rest).then(|| (since, self.stretched(plan.stalled)))
        };
        let work = self.counters.stalled(now, &self.plan.progress, judged);
        // A counter that used to move and stands still says more than a step that takes its time.
        if work.as_ref().is_some_and(|work| work.moved) {
            return work;
        }
        self.overdue_step(now).or(work)
    }

    /// A fresh tick was heard, the one before `gap` ago.
    pub(crate) fn fresh_tick(&mut self, turn: &mut Turn<'_>, by: String, gap: Duration) {
        self.declared_credit = Duration::ZERO;
        self.own_word.said = None;
        if self.plan.progress.is_empty() {
            self.end_slow_grace();
        }
        self.show_life(turn, Track::Loop);
        self.react(turn, Trigger::FirstTick, Facts::By(by));
        if let Phase::Running(running) = &mut self.phase
            && gap > self.plan.deadline
        {
            // Patience grows with each kill, the measure of "steady" does not.
            running.steady_since = turn.now;
        }
        let spell = std::mem::take(&mut self.spell);
        if spell.late {
            turn.push(Command::Hasten { service: self.name.clone(), fast: false });
            self.note_stall(turn, gap);
        }
        if spell.opened {
            self.came_back(turn);
        }
        if std::mem::take(&mut self.recovers_on_tick) {
            self.recover(turn);
        }
        if self.incidents.find(IncidentKind::ProbePath).is_some() {
            self.close_probe_path(turn);
        }
    }

    /// Declared work has moved.
    pub(crate) fn work_moved(&mut self, turn: &mut Turn<'_>) {
        if self.counters.moved_at() == Some(turn.now) {
            self.end_slow_grace();
        }
        if self.work_spell.opened && self.stalled(turn.now).is_none() {
            self.show_life(turn, Track::Work);
            self.work_spell = Spell::default();
            self.came_back(turn);
        }
    }

    /// A sign of life pardons whoever was condemned for the lack of it.
    fn show_life(&mut self, turn: &mut Turn<'_>, track: Track) {
        if matches!(&self.phase, Phase::Condemned { sentence, .. } if sentence.track == track) {
            self.react(turn, Trigger::FreshTick, Facts::None);
        }
    }

    /// It was silent past its deadline and came back without our help.
    fn came_back(&mut self, turn: &mut Turn<'_>) {
        if let Phase::Running(running) = &mut self.phase {
            running.steady_since = turn.now;
            running.proven = false;
        }
        self.dirty = true;
        if self.spell.opened || self.work_spell.opened {
            return;
        }
        turn.shared.guard.green(&self.name);
        if let Some(incident) = self.incidents.find(IncidentKind::Stuck)
            && self.last_hang.is_none()
            && !incident.needs_you
            // One that was healed by a restart waits for its proof.
            && !incident.answered
        {
            let (id, away_for) = (incident.id, turn.now.since(incident.opened));
            let story = (incident.told).then_some(Story::CameBack { away_for });
            self.incidents.close(turn, id, Outcome::CameBackAlone, "it came back by itself", story);
        }
        self.close_probe_path(turn);
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
        let now = turn.now;
        if self.declared == Declared::Halted {
            self.end_loop_spell(turn);
            self.work_spell = Spell::default();
            turn.shared.guard.green(&self.name);
            self.tell_halted(turn);
            return;
        }
        self.look_closer(turn);
        if self.judge_own_word(turn, running) {
            return;
        }
        let decision = decide(self.axes(now));
        self.end_work_spell(turn);
        if self.judge_view(turn, decision) {
            return;
        }
        match decision.action {
            Action::Nothing | Action::Watch => {
                if decision.verdict == Verdict::Idle && self.spell.opened {
                    // Its tick stands still because it has nothing to do, by its own word.
                    self.end_loop_spell(turn);
                }
                if self.loop_axis(now) == LoopAxis::Beating {
                    self.judge_disagreement(turn);
                }
            }
            Action::Tell => self.tell_decision(turn, decision),
            Action::RestartAtTwice | Action::Restart => {
                let Some(fault) = self.fault(now, decision) else { return };
                let is_step =
                    fault.track == Track::Work && self.stalled(now).is_some_and(|stalled| stalled.is_step());
                let proves = !is_step && self.used_to_move(now, fault.track, fault.rule);
                self.open_stuck(turn, &fault, proves);
                if self.is_slow_step(turn, &fault) {
                    return;
                }
                let due = if decision.action == Action::Restart { fault.limit } else { fault.act };
                if fault.age >= due {
                    self.consider_kill(turn, running, fault);
                }
            }
        }
    }

    /// The captures and the faster probes of a beginning silence.
    fn look_closer(&mut self, turn: &mut Turn<'_>) {
        let limits = self.limits();
        let Some(age) = self.age(turn.now) else { return };
        if age >= limits.early && !self.spell.early {
            self.spell.early = true;
            self.capture(turn, CaptureStage::Early);
        }
        if age >= limits.late && !self.spell.late {
            self.spell.late = true;
            turn.push(Command::Hasten { service: self.name.clone(), fast: true });
        }
        if age >= limits.second() && !self.spell.second {
            self.spell.second = true;
            self.capture(turn, CaptureStage::Second);
        }
        // Whatever delayed the first two: a proof needs two that lie far enough apart.
        if age >= limits.third() && !self.spell.third {
            self.spell.third = true;
            if self.proof() == Outside::None {
                self.capture(turn, CaptureStage::Second);
            }
        }
        // What was seen once may have changed: who was at home may have left, who held it may have let go.
        self.look_again(turn);
    }

    /// When a long silence is looked at once more, because what was seen of it forbids a restart.
    pub(crate) fn look_again_at(&self) -> Option<Mono> {
        let findings = self.spell.findings.iter().chain(&self.work_spell.findings);
        let last = findings.max_by_key(|seen| seen.at)?;
        let opened = self.spell.opened || self.work_spell.opened;
        let forbids = last.finding.seen == Some(LoopSeen::Home) || last.finding.stopped.is_some();
        let asked = self.spell.asked_again_at.map_or(last.at, |at| at.max(last.at));
        let starts = self.start_overdue && matches!(self.phase, Phase::Starting { .. });
        let pause = self.limits().deadline.max(LOOK_AGAIN_MIN).saturating_mul(1 << self.spell.looks.min(8));
        ((forbids && opened) || starts).then(|| asked + pause.min(LOOK_AGAIN_MAX.max(self.plan.deadline)))
    }

    pub(crate) fn look_again(&mut self, turn: &mut Turn<'_>) {
        if self.look_again_at().is_some_and(|at| at <= turn.now) {
            self.capture(turn, CaptureStage::Second);
            self.spell.asked_again_at = Some(turn.now);
            self.spell.looks = self.spell.looks.saturating_add(1);
        }
    }

    /// What is told, and touches nothing. Values and funnels are told by [`crate::usefulness`].
    fn tell_decision(&mut self, turn: &mut Turn<'_>, decision: Decision) {
        let Some(age) = self.age(turn.now) else { return };
        match self.loop_axis(turn.now) {
            LoopAxis::Unreachable => {
                if age >= self.limits().act {
                    let heard = self.beats.heard();
                    self.tell_probe_path(turn, age, heard);
                }
            }
            LoopAxis::Silent | LoopAxis::Lying => {
                let Some(fault) = self.fault(turn.now, decision) else { return };
                self.open_stuck(turn, &fault, false);
                let declined = Declined::Table(decision.because);
                if age >= fault.act && !self.spell.has_declined(declined) {
                    let because = format!("A restart would be wrong: {}.", decision.because);
                    let what = format!("restart it, but {}", decision.because);
                    self.decline(turn, &fault, declined, what, because);
                }
            }
            LoopAxis::Beating => self.judge_disagreement(turn),
            LoopAxis::Unknown | LoopAxis::Late => {}
        }
    }

    fn judge_disagreement(&mut self, turn: &mut Turn<'_>) {
        match self.disagreement(turn.now) {
            Some(text) => self.tell_probe_path(turn, self.limits().act, text),
            None => {
                // Ages that were set anew are no ticks: one has to have come since it was told.
                let told = self.incidents.find(IncidentKind::ProbePath).map(|incident| incident.opened);
                if told.is_some_and(|told| self.beats.last_fresh().is_some_and(|fresh| fresh > told)) {
                    self.close_probe_path(turn);
                }
            }
        }
    }

    pub(crate) fn tell_probe_path(&mut self, turn: &mut Turn<'_>, since: Duration, heard: String) {
        if self.incidents.find(IncidentKind::ProbePath).is_some() {
            return;
        }
        let reason = Reason::new(Rule::ProbePath, format!("no fresh tick for {}; {heard}", Human(since)));
        let (generation, severity) = (Some(self.generation), Severity::Warning);
        let id = self.incidents.open(turn, generation, IncidentKind::ProbePath, "", severity, &reason);
        self.incidents.tell(turn, id, severity, false, true, Story::ProbePath { since, heard });
        self.dirty = true;
    }

    pub(crate) fn capture(&self, turn: &mut Turn<'_>, stage: CaptureStage) {
        turn.push(Command::Capture {
            service: self.name.clone(),
            generation: self.generation,
            stage,
            incident: self.seen_incident(),
            thread: self.stuck_thread(turn.now),
        });
    }

    /// The incident that what is seen of a living instance belongs to.
    pub(crate) fn seen_incident(&self) -> Option<IncidentId> {
        let kinds = [IncidentKind::Stuck, IncidentKind::KernelView];
        kinds.into_iter().find_map(|kind| self.incidents.find(kind)).map(|incident| incident.id)
    }

    /// The standstill that a decision is about.
    pub(crate) fn fault(&self, now: Mono, decision: Decision) -> Option<Fault> {
        if decision.verdict == Verdict::WorkStalled {
            let stalled = self.stalled(now)?;
            let (limit, mut how) = (stalled.limit, stalled.words());
            let act = limit.saturating_mul(2);
            if let Some(does) = self.counters.activity().words(now).filter(|_| stalled.is_step()) {
                how.push_str(&format!("; it {does}"));
            }
            return Some(Fault {
                track: Track::Work,
                age: stalled.age,
                limit,
                act,
                how,
                rule: Rule::Stalled,
            });
        }
        let (limits, age) = (self.limits(), self.age(now)?);
        let rule = match self.loop_axis(now) {
            LoopAxis::Lying => Rule::Lying,
            // Refused, and stuck as well: that it cannot be asked is not why it is restarted.
            LoopAxis::Unreachable if matches!(decision.verdict, Verdict::Blocked | Verdict::Spinning) => {
                Rule::Silent
            }
            LoopAxis::Unreachable => Rule::ProbePath,
            LoopAxis::Unknown | LoopAxis::Beating | LoopAxis::Late | LoopAxis::Silent => Rule::Silent,
        };
        let how = self.beats.heard();
        Some(Fault { track: Track::Loop, age, limit: limits.deadline, act: limits.act, how, rule })
    }

    /// What the silence looks like, as a reason.
    pub(crate) fn hang_reason(&self, now: Mono, decision: Decision) -> Reason {
        let fault = self.fault(now, decision);
        fault.map_or_else(|| Reason::new(Rule::Silent, decision.because), |fault| fault.reason())
    }

    pub(crate) fn spell_of(&mut self, track: Track) -> &mut Spell {
        match track {
            Track::Loop => &mut self.spell,
            Track::Work => &mut self.work_spell,
        }
    }

    /// A stall that was written down and is none any more, without the work having moved: it went idle, or is excused.
    fn end_work_spell(&mut self, turn: &mut Turn<'_>) {
        if self.work_spell.opened && self.stalled(turn.now).is_none() {
            self.work_spell = Spell::default();
            self.came_back(turn);
        }
    }

    /// There is nothing left by which its loop could be judged.
    pub(crate) fn end_loop_spell(&mut self, turn: &mut Turn<'_>) {
        if std::mem::take(&mut self.spell).opened {
            self.came_back(turn);
        }
    }

    /// `counts`: it is a restart that is asked for, against something that used to move. Only such a silence is held against
    /// what all services share.
    pub(crate) fn open_stuck(&mut self, turn: &mut Turn<'_>, fault: &Fault, counts: bool) {
        if counts && !self.spell_of(fault.track).red {
            self.spell_of(fault.track).red = true;
            turn.shared.guard.red(&self.name, turn.now, turn.now.before(fault.age), fault.act);
        }
        if self.spell_of(fault.track).opened {
            return;
        }
        self.spell_of(fault.track).opened = true;
        let (generation, severity) = (Some(self.generation), Severity::Warning);
        let id = self.incidents.open(turn, generation, IncidentKind::Stuck, "", severity, &fault.reason());
        if self.incidents.find(IncidentKind::Stuck).is_some_and(|incident| !incident.told) {
            // Nobody was told of this one: what an earlier life has told was about another.
            self.spell_of(fault.track).declined_before.clear();
        }
        for seen in self.spell.findings.clone() {
            let (stage, finding) = (seen.stage, seen.finding);
            self.record(turn, Some(id), What::EvidenceCaptured { stage, finding });
        }
        if fault.track == Track::Work {
            self.capture(turn, CaptureStage::Second);
        }
        self.dirty = true;
    }

    pub(crate) fn consider_kill(&mut self, turn: &mut Turn<'_>, running: Running, fault: Fault) {
        let Some(id) = self.incidents.find(IncidentKind::Stuck).map(|incident| incident.id) else { return };
        if self.spared_until(fault.track).is_some_and(|until| turn.now < until) {
            return;
        }
        let mut reason = fault.reason();
        if fault.rule == Rule::OwnWord {
            // Neither its age nor a proof: its own word is the reason.
        } else if fault.age >= fault.act {
            reason.text = format!("{}; twice that is {}", reason.text, Human(fault.act));
        } else {
            let proof = match self.proof() {
                Outside::None => self.view_place(turn.now).unwrap_or_default(),
                _ => "proven by two captures".to_owned(),
            };
            reason.text = format!("{}; {proof}", reason.text);
        }
        match self.veto(turn.now, turn.shared, fault.track, fault.rule) {
            Some((veto, why)) => self.heed(turn, veto, why, &fault),
            None => self.decide_kill(turn, running, id, fault, reason),
        }
    }

    fn decide_kill(
        &mut self,
        turn: &mut Turn<'_>,
        running: Running,
        id: IncidentId,
        fault: Fault,
        reason: Reason,
    ) {
        match self.kills.allowance(turn.now, &self.plan.kills) {
            Allowance::Allowed { number } => {
                let mut reason = reason;
                if self.kills.is_open() {
                    reason.text.push_str("; one try, the breaker stays open");
                }
                let sentence = Sentence {
                    reason: reason.clone(),
                    incident: id,
                    track: fault.track,
                    rule: fault.rule,
                    watched_since: match self.phase {
                        Phase::Starting { watched_since, .. } => Some(watched_since),
                        _ => None,
                    },
                    stuck_for: fault.age,
                    how: fault.how,
                    number,
                    told: false,
                    until: turn.now + EVIDENCE_WAIT_MAX,
                };
                turn.shared.guard.acted(&self.name, turn.now + self.trial_term());
                let limit = self.plan.kills.limit;
                self.record(turn, Some(id), What::KillDecided { reason, kill: number, limit });
                self.sentence = Some((running, sentence));
                self.react(turn, Trigger::KillDecided, Facts::None);
            }
            Allowance::OpensBreaker(why) => self.open_breaker(turn, id, why, fault.how),
            Allowance::BreakerOpen { .. } => {
                // Also after a try that seemed to cure: the last word must not be "healed".
                if self.incidents.find(IncidentKind::Stuck).is_some_and(|incident| !incident.needs_you) {
                    self.tell_breaker(turn, id, fault.how);
                }
            }
        }
    }

    /// The proof of death of a program whose start is overdue: the only thing that may end it.
    pub(crate) fn judge_overdue_start(&mut self, turn: &mut Turn<'_>, since: Mono) {
        let axes = Axes { loop_axis: LoopAxis::Silent, ..self.axes(turn.now) };
        let decision = decide(axes);
        if decision.action != Action::Restart {
            return;
        }
        let Some(alive) = self.alive() else { return };
        let (age, limit) = (turn.now.since(since), self.plan.startup);
        let how = format!("its start is not done; {}", decision.because);
        // Proven by captures: `act` lies beyond its age.
        let act = age.saturating_add(limit);
        let fault = Fault { track: Track::Loop, age, limit, act, how, rule: Rule::StartOverdue };
        self.open_stuck(turn, &fault, true);
        let running = Running { alive, ready_at: turn.now, steady_since: turn.now, proven: false };
        self.consider_kill(turn, running, fault);
    }

    fn open_breaker(&mut self, turn: &mut Turn<'_>, id: IncidentId, why: String, how: String) {
        self.kills.open_breaker(turn.now);
        turn.shared.record_changed = true;
        self.dirty = true;
        self.record(turn, Some(id), What::BreakerOpened { reason: Reason::new(Rule::Breaker, why) });
        self.tell_breaker(turn, id, how);
    }

    fn tell_breaker(&mut self, turn: &mut Turn<'_>, id: IncidentId, how: String) {
        let story = Story::BreakerOpen {
            // Opened by the limit of unproven ones, or by the day's.
            kills: match self.kills.unproven() {
                unproven if unproven >= self.plan.kills.limit => unproven,
                _ => self.kills.today(turn.now),
            },
            how,
            places: self.places.clone(),
            retry: self.plan.kills.retry,
        };
        self.incidents.tell(turn, id, Severity::Critical, true, true, story);
    }
}
