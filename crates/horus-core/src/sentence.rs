//! Between the decision to restart and the first signal: evidence, alert, a last look, and everything that may still spare it.

use std::time::Duration;

use crate::command::Command;
use crate::decision::{Action, Axes, Veto, decide};
use crate::event::What;
use crate::judge::{EVIDENCE_WAIT_MAX, PLACES_MAX, STORE_WAIT_MAX};
use crate::notice::{IncidentKind, Story};
use crate::observation::{CaptureStage, Finding, LoopSeen};
use crate::plan::Severity;
use crate::reason::{Reason, Rule};
use crate::service::{Facts, LastHang, Phase, Service, StopCause};
use crate::spell::{Declined, Seen, Track};
use crate::time::Human;
use crate::transition::Trigger;
use crate::turn::Turn;
use crate::value::Stalled;
use crate::verdict::{LoopAxis, ProcessAxis};

impl Service {
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
        turn.shared.guard.end_trial(&self.name);
        self.spell_of(sentence.track).spared_at = Some(turn.now);
        self.phase = match sentence.watched_since {
            Some(watched_since) => Phase::Starting { alive: running.alive, watched_since },
            None => Phase::Running(running),
        };
    }

    /// Somebody has stopped it, on purpose or to debug it: its silence says nothing, and whoever did it is told.
    fn spare_the_stopped(&mut self, turn: &mut Turn<'_>, why: &str) {
        let Phase::Condemned { sentence, .. } = self.phase.clone() else { return };
        self.spare(turn, why);
        let declined = Declined::Veto(Veto::Stopped);
        if self.spell_of(sentence.track).has_declined(declined) {
            return;
        }
        self.spell_of(sentence.track).declined.push(declined);
        let because = format!("Its silence proves nothing: {why}.");
        self.tell_declined(turn, sentence.incident, sentence.stuck_for, sentence.how, because);
    }

    /// Drops the restart that was decided if anything has come about since that forbids it, or if it would not be decided on now:
    /// its limits have grown, it went idle, its work moves, its loop was seen at home.
    fn heed_late_veto(&mut self, turn: &mut Turn<'_>) {
        let Phase::Condemned { sentence, .. } = &self.phase else { return };
        if let Some((_, why)) = self.veto(turn.now, turn.shared, sentence.track, sentence.rule) {
            self.spare(turn, &why);
            return;
        }
        if sentence.rule == Rule::OwnWord {
            // A fresh tick would have pardoned it.
            return;
        }
        let mut axes = self.axes(turn.now);
        if sentence.watched_since.is_some() {
            axes = Axes { process: ProcessAxis::Starting, loop_axis: LoopAxis::Silent, ..axes };
        }
        let decision = decide(axes);
        let starts = sentence.watched_since.is_some();
        let still = match decision.action {
            Action::Restart if starts => true,
            Action::Restart | Action::RestartAtTwice if !starts => {
                let at_once = decision.action == Action::Restart;
                let fault = self.fault(turn.now, decision).filter(|fault| fault.track == sentence.track);
                fault.is_some_and(|fault| fault.age >= if at_once { fault.limit } else { fault.act })
            }
            Action::Nothing | Action::Watch | Action::Tell | Action::Restart | Action::RestartAtTwice => {
                false
            }
        };
        if !still {
            self.spare(turn, decision.because);
        }
    }

    /// Told once: it stopped itself on purpose, and still has a process.
    pub(crate) fn tell_halted(&mut self, turn: &mut Turn<'_>) {
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
    pub(crate) fn take_evidence(&mut self, turn: &mut Turn<'_>, stage: CaptureStage, mut finding: Finding) {
        if finding.phrase.is_empty() && finding.missing.is_empty() {
            finding.missing.push("the capture saw nothing".into());
        }
        let incident = self.seen_incident();
        let stopped = finding.stopped.clone();
        if incident.is_some() && (self.spell.opened || self.work_spell.opened || self.tells_view()) {
            self.record(turn, incident, What::EvidenceCaptured { stage, finding: finding.clone() });
        }
        // Captures look at the main loop; only the last one before a restart for the sake of work belongs to that.
        let track = match &self.phase {
            Phase::Condemned { sentence, .. } if stage == CaptureStage::Verdict => sentence.track,
            _ => Track::Loop,
        };
        let spell = self.spell_of(track);
        if finding.seen == Some(LoopSeen::Home) {
            // Who was at home in between is not proven dead by what was seen before.
            spell.findings.clear();
        }
        if stage == CaptureStage::Second {
            // Of several, the last two are compared.
            let again = spell.findings.iter().any(|seen| seen.stage == stage);
            spell.findings.retain(|seen| !again || seen.stage != CaptureStage::Early);
            for seen in spell.findings.iter_mut().filter(|seen| seen.stage == stage) {
                seen.stage = CaptureStage::Early;
            }
        }
        spell.findings.retain(|seen| seen.stage != stage);
        spell.findings.push(Seen { at: turn.now, stage, finding });
        if stage == CaptureStage::Verdict
            && let Some(why) = stopped
        {
            self.spare_the_stopped(turn, &why);
        }
        if stage == CaptureStage::Verdict {
            // The last look before the signal: what was proven has to hold still, and who is at home lives.
            self.heed_late_veto(turn);
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
        let seen = self.work_spell.findings.iter().chain(&self.spell.findings);
        let phrases = seen.rev().map(|seen| &seen.finding.phrase);
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
        self.heed_late_veto(turn);
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
        self.heed_late_veto(turn);
        let Phase::Condemned { sentence, .. } = self.phase.clone() else { return };
        let place = self.place();
        self.places.push(place.clone().unwrap_or_else(|| sentence.how.clone()));
        if self.places.len() > PLACES_MAX {
            self.places.remove(0);
        }
        let first_sign = turn.now.before(sentence.stuck_for);
        let (stuck_for, how) = (sentence.stuck_for, sentence.how);
        self.last_hang = Some(LastHang { first_sign, stuck_for, how, place });
        let onset = self.alive().map_or(Duration::ZERO, |alive| first_sign.since(alive.since));
        let on_trial = turn.shared.guard.on_trial() == Some(&self.name);
        self.kills.record(turn.now, sentence.rule, onset, on_trial);
        turn.shared.guard.killed(&self.name, turn.now + self.trial_term());
        if sentence.track == Track::Work {
            self.stalled_work = self.stalled(turn.now).and_then(Stalled::counter);
        }
        turn.shared.record_changed = true;
        self.dirty = true;
        self.react(turn, Trigger::EvidenceStored, Facts::Because(StopCause::Kill, sentence.reason));
    }
}
