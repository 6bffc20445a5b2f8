//! After a death that nobody asked for: count, delay, name the pattern; and after a recovery: say it, prove it.

use std::time::Duration;

use crate::command::Answer;
use crate::event::{Outcome, What};
use crate::notice::{IncidentKind, Story};
use crate::observation::{Declared, Exit};
use crate::plan::{RestartOn, Severity};
use crate::reason::{Reason, Rule};
use crate::service::{Goal, LastWords, Phase, Service, Wanted, Why};
use crate::time::Human;
use crate::turn::Turn;

/// A service without beats cannot prove its health. It is taken as proven when it has outlived its last restart
/// delay so many times (and `kills.prove`).
pub(crate) const OUTLIVED_DELAYS: u32 = 10;

/// A hang that begins later in a life than half of this need not be outlived twice: its ledger would never be closed.
pub(crate) const OUTLIVE_MAX: Duration = Duration::from_secs(3600);

/// The same for what hangs at the same age every time: a habit of hours has to be outlived for a few of them.
pub(crate) const HABIT_MAX: Duration = Duration::from_secs(6 * 3600);

/// So long an alert waits for the last line of the program's output.
pub(crate) const LAST_WORDS_WAIT_MAX: Duration = Duration::from_secs(2);

/// Incidents that last until the service has worked for long enough.
const ENDED_BY_PROOF: [IncidentKind; 4] =
    [IncidentKind::Stuck, IncidentKind::Exit, IncidentKind::CrashLoop, IncidentKind::SameAge];

impl Service {
    /// The exits ledger and the restart policy.
    pub(crate) fn count_exit(&mut self, turn: &mut Turn<'_>, exit: Exit, lifetime: Duration) {
        if self.unit().is_some() {
            self.count_unit_exit(turn, exit, lifetime);
            return;
        }
        // Who says that it stopped itself on purpose has not finished, however well it ends.
        if self.ends_well(exit) && self.declared != Declared::Halted {
            self.finish_run(turn, lifetime);
            self.close_stuck_by_exit(turn);
            return;
        }
        self.exits.record(turn.now, lifetime);
        let ended = format!("{} {} after {}", self.name, exit.verb(), Human(lifetime));
        self.answer(turn, Goal::Up, &Answer::Failed(ended));
        self.close_stuck_by_exit(turn);
        if matches!(self.wanted, Wanted::Down(_)) {
            return;
        }
        if self.declared == Declared::Halted {
            self.halt(turn);
            return;
        }
        let stays = match self.plan.restart.on {
            RestartOn::Always => false,
            RestartOn::Failure => exit.is_clean(),
            RestartOn::Never => true,
        };
        if stays {
            self.leave_down(turn, exit, lifetime);
            return;
        }
        let reason = Reason::new(Rule::Exit, exit.to_string());
        let delay = self.delay_next_start(turn, &reason);
        self.name_crash_loop(turn, exit, delay);
        self.name_same_age(turn, exit);
    }

    /// A hang that was not acted on has ended with the instance.
    pub(crate) fn close_stuck_by_exit(&mut self, turn: &mut Turn<'_>) {
        if self.last_hang.is_none() && self.incidents.find(IncidentKind::Stuck).is_some_and(|i| !i.needs_you)
        {
            let how = "the process ended";
            self.incidents.close_kind(turn, IncidentKind::Stuck, Outcome::Superseded, how);
        }
        self.incidents.close_kind(turn, IncidentKind::ProbePath, Outcome::Superseded, "the process ended");
        self.end_view(turn, Outcome::Superseded, "the process ended");
    }

    pub(crate) fn halt(&mut self, turn: &mut Turn<'_>) {
        self.wanted = Wanted::Down(Why::Halted);
        // A run that has stopped itself is over, whoever starts the next one.
        self.job.began = None;
        let reason = Reason::new(Rule::Halted, "it said that it stopped itself on purpose, and ended");
        let (generation, severity) = (Some(self.generation), Severity::Critical);
        let id = self.incidents.open(turn, generation, IncidentKind::Halted, "", severity, &reason);
        if self.incidents.find(IncidentKind::Halted).is_some_and(|incident| !incident.told) {
            self.incidents.tell(turn, id, severity, true, true, Story::Halted);
        }
        self.incidents.close_kind(turn, IncidentKind::Exit, Outcome::Superseded, "halted");
    }

    fn leave_down(&mut self, turn: &mut Turn<'_>, exit: Exit, lifetime: Duration) {
        let waits = self.plan.schedule.is_some();
        self.wanted = Wanted::Down(if waits { Why::NotDue } else { Why::Completed });
        self.job.began = None;
        let Some(incident) = self.incidents.find(IncidentKind::Exit) else { return };
        let id = incident.id;
        if exit.is_clean() {
            self.incidents.close(turn, id, Outcome::CameBackAlone, "it ended as it should", None);
        } else {
            let story = Story::ExitStaysDown { exit: exit.to_string(), lifetime, last_line: None };
            let until = turn.now + LAST_WORDS_WAIT_MAX;
            self.last_words = Some(LastWords { incident: id, story, until });
        }
    }

    /// Tells what waited for the last line, when it has come or the wait is over.
    pub(crate) fn tell_last_words(&mut self, turn: &mut Turn<'_>, heard: Option<Option<String>>) {
        let Some(mut words) = self.last_words.take() else { return };
        if heard.is_none() && words.until > turn.now {
            self.last_words = Some(words);
            return;
        }
        if let Story::CrashLoop { last_line, .. } | Story::ExitStaysDown { last_line, .. } = &mut words.story
        {
            *last_line = heard.flatten();
        }
        self.incidents.tell(turn, words.incident, Severity::Critical, true, true, words.story);
        self.dirty = true;
    }

    pub(crate) fn name_crash_loop(&mut self, turn: &mut Turn<'_>, exit: Exit, next_in: Duration) {
        let within = self.plan.restart.within;
        let exits = self.exits.recent(turn.now, within);
        if exits < self.plan.restart.crash_loop || self.incidents.find(IncidentKind::CrashLoop).is_some() {
            return;
        }
        let text = format!("{exits} exits within {}", Human(within));
        let reason = Reason::new(Rule::CrashLoop, text);
        let (generation, severity) = (Some(self.generation), Severity::Critical);
        let id = self.incidents.open(turn, generation, IncidentKind::CrashLoop, "", severity, &reason);
        match self.incidents.find(IncidentKind::SameAge).map(|incident| incident.id) {
            // The same deaths, told of already, and with more to say.
            Some(into) => self.record(turn, Some(id), What::Folded { into }),
            None => {
                let story =
                    Story::CrashLoop { exits, within, exit: exit.to_string(), next_in, last_line: None };
                let until = turn.now + LAST_WORDS_WAIT_MAX;
                self.last_words = Some(LastWords { incident: id, story, until });
            }
        }
        self.incidents.close_kind(turn, IncidentKind::Exit, Outcome::Superseded, "part of a crash loop");
    }

    pub(crate) fn name_same_age(&mut self, turn: &mut Turn<'_>, exit: Exit) {
        let Some(every) = self.exits.same_age() else { return };
        if self.incidents.find(IncidentKind::SameAge).is_some() {
            return;
        }
        let deaths = u32::try_from(crate::ledger::SAME_AGE_DEATHS).unwrap_or(u32::MAX);
        let reason = Reason::new(Rule::SameAge, format!("{deaths} deaths in a row after {}", Human(every)));
        let (generation, severity) = (Some(self.generation), Severity::Critical);
        let id = self.incidents.open(turn, generation, IncidentKind::SameAge, "", severity, &reason);
        let story = Story::SameAge { deaths, every, exit: exit.to_string() };
        let loud = self.incidents.find(IncidentKind::CrashLoop).is_none_or(|incident| !incident.told);
        self.incidents.tell(turn, id, severity, true, loud, story);
    }

    /// The first fresh tick after a fault: recovered, not yet proven.
    pub(crate) fn recover(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        self.recovers_at = None;
        for kind in [IncidentKind::StartOverdue, IncidentKind::StartFailed, IncidentKind::Halted] {
            if kind != IncidentKind::Halted || self.declared != Declared::Halted {
                self.incidents.close_kind(turn, kind, Outcome::CameBackAlone, "it is running");
            }
        }
        let healed = self.last_hang.is_some();
        if let Some(hang) = self.last_hang.take() {
            let down_for = now.since(hang.first_sign);
            let incident = self.incidents.find(IncidentKind::Stuck).cloned();
            self.record(
                turn,
                incident.as_ref().map(|incident| incident.id),
                What::Recovered { after: down_for },
            );
            if let Some(incident) = incident.filter(|incident| incident.told) {
                let (stuck_for, how, place) = (hang.stuck_for, hang.how, hang.place);
                let story = Story::StuckHealed { stuck_for, down_for, how, place };
                self.incidents.tell(turn, incident.id, Severity::Warning, false, false, story);
            }
        }
        self.end_stuck_unhealed(turn, healed);
        // A job has not come back by being started again: it has to finish.
        let is_job = self.plan.schedule.is_some();
        let ended = self.incidents.find(IncidentKind::Exit).filter(|incident| !incident.answered && !is_job);
        if let Some(id) = ended.map(|incident| incident.id)
            && let Some(last) = self.last_death.clone()
        {
            let down_for = now.since(last.at);
            self.record(turn, Some(id), What::Recovered { after: down_for });
            let (exit, lifetime, last_line) = (last.exit.to_string(), last.lifetime, last.last_line);
            let story = Story::ExitHealed { exit, lifetime, down_for, last_line };
            self.incidents.tell(turn, id, Severity::Info, false, false, story);
        }
        self.dirty = true;
    }

    /// A hang that no kill has ended: another restart did, or it ended while no Horus was there.
    fn end_stuck_unhealed(&mut self, turn: &mut Turn<'_>, healed: bool) {
        // That its loop turns does not end a standstill of its work.
        let goes_on = self.spell.opened || self.work_spell.opened || self.stalled(turn.now).is_some();
        let Some(incident) = self.incidents.find(IncidentKind::Stuck) else { return };
        if healed || goes_on || incident.needs_you || incident.answered {
            return;
        }
        let id = incident.id;
        if self.adopted {
            let story = Story::CameBack { away_for: turn.now.since(incident.opened) };
            let story = (incident.told).then_some(story);
            self.incidents.close(turn, id, Outcome::CameBackAlone, "it came back by itself", story);
        } else {
            let how = "it was restarted, and beats again";
            self.incidents.close(turn, id, Outcome::EndedByOperator, how, None);
        }
    }

    /// Is there anything that proof would end?
    fn has_to_be_proven(&self) -> bool {
        self.exits.unproven() > 0
            || self.kills.unproven() > 0
            || self.kills.is_open()
            || self.incidents.all().any(|incident| ENDED_BY_PROOF.contains(&incident.kind))
    }

    /// How long the instance has to be steady until the last restart counts as a cure.
    pub(crate) fn proof_takes(&self) -> Duration {
        let plain = self.plan.kills.prove;
        let same_age = self.incidents.find(IncidentKind::SameAge).and_then(|_| self.exits.same_age());
        let outlive = if self.beats.has_sources() {
            Duration::ZERO
        } else {
            let doublings = self.exits.unproven().saturating_sub(2).min(31);
            let delay = self.plan.restart.next.saturating_mul(1 << doublings).min(self.plan.restart.max);
            delay.saturating_mul(OUTLIVED_DELAYS)
        };
        // Whatever dies or hangs at the same age has to outlive that age twice before anything is called cured.
        let onset = self.kills.last_onset().unwrap_or_default().saturating_mul(2).min(OUTLIVE_MAX);
        // A habit is not cured before it is outlived, however late in a life it shows itself.
        let habit = self.kills.habitual_onset().filter(|_| self.kills.unproven() > 0);
        let habit = habit.unwrap_or_default().saturating_mul(2).min(HABIT_MAX);
        plain
            .max(outlive)
            .max(onset)
            .max(habit)
            .max(same_age.unwrap_or_default().saturating_mul(2).min(crate::ledger::DAY))
    }

    /// When proof is due, if it is.
    pub(crate) fn proof_due(&self) -> Option<crate::time::Mono> {
        // A job proves itself by finishing, not by its age.
        if self.plan.schedule.is_some() {
            return None;
        }
        match &self.phase {
            Phase::Running(running)
                if (!running.proven || self.kills.is_open()) && self.has_to_be_proven() =>
            {
                Some(running.steady_since + self.proof_takes())
            }
            _ => None,
        }
    }

    /// Fresh ticks for long enough: the last restart cured.
    pub(crate) fn prove_if_due(&mut self, turn: &mut Turn<'_>) {
        let Some(due) = self.proof_due() else { return };
        // Silence proves nothing: the last fresh tick has to lie past the bound, not only the clock.
        let seen = if self.beats.has_sources() { self.beats.last_fresh() } else { Some(turn.now) };
        if self.spell.opened || self.work_spell.opened || seen.is_none_or(|seen| seen < due) {
            return;
        }
        // Nothing is proven in the middle of a silence, however old the last proof of life is allowed to be.
        if self.beats.has_sources() && self.loop_axis(turn.now) != crate::verdict::LoopAxis::Beating {
            return;
        }
        // Whoever was restarted because its work stood still has to show that it moves.
        let stalled = self.kills.last_rule() == Some(Rule::Stalled) && self.kills.unproven() > 0;
        let moves = |counter: &String| self.counters.work_moves(counter, &self.plan.progress);
        if stalled && !self.stalled_work.as_ref().is_none_or(moves) {
            return;
        }
        // A breaker that the day's limit opened would only open again.
        if self.kills.is_open() && self.kills.today(turn.now) >= self.plan.kills.daily {
            return;
        }
        let after = self.proof_takes();
        let ended = self.incidents.all().filter(|incident| ENDED_BY_PROOF.contains(&incident.kind));
        let ended: Vec<_> = ended.map(|incident| incident.id).collect();
        for incident in &ended {
            self.record(turn, Some(*incident), What::Proven { after });
        }
        if ended.is_empty() {
            self.record(turn, None, What::Proven { after });
        }
        if self.kills.is_open() {
            let reason = Reason::new(Rule::Proof, format!("fresh ticks for {}", Human(after)));
            self.record(turn, None, What::BreakerClosed { reason });
        }
        self.kills.prove();
        turn.shared.record_changed = true;
        turn.shared.guard.proven(&self.name);
        self.exits.prove();
        self.places.clear();
        let how = format!("it has worked for {} without a fault", Human(after));
        for id in ended {
            self.incidents.close(turn, id, Outcome::HealedByRestart, &how, None);
        }
        if let Phase::Running(running) = &mut self.phase {
            running.proven = true;
        }
        self.dirty = true;
    }
}
