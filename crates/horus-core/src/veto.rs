//! What forbids a restart that is due, and what is done instead.
//!
//! A veto is asked for last, when the restart is decided, and again right before the signal. The weightiest speaks first: a person's
//! word, then what the program says of itself, then doubts about what was seen, then everybody else's troubles. Each is heeded in its
//! own way: some are told, some ask for a person, some only wait; and each only once in a spell, however often it is met.

use std::time::Duration;

use crate::decision::{Instead, Veto};
use crate::event::What;
use crate::ids::IncidentId;
use crate::notice::{IncidentKind, Story};
use crate::observation::Declared;
use crate::plan::{Mode, Severity};
use crate::reason::Rule;
use crate::service::{LAUNCH_WAIT_MAX, Service, UNDEAD_AFTER};
use crate::spell::{Declined, Fault, Track};
use crate::time::{Human, Mono};
use crate::turn::{Shared, Turn};

/// So long (a deadline, within these) nobody who was spared is condemned again.
pub(crate) const SPARED_MIN: Duration = Duration::from_secs(1);
/// See [`SPARED_MIN`].
pub(crate) const SPARED_MAX: Duration = Duration::from_secs(30);

impl Service {
    /// What forbids a restart by this rule, the weightiest first.
    pub(crate) fn veto(
        &self,
        now: Mono,
        shared: &Shared,
        track: Track,
        rule: Rule,
    ) -> Option<(Veto, String)> {
        let say = |veto: Veto| Some((veto, veto.because().to_owned()));
        if let Some(hold) = &self.hold {
            return Some((Veto::Held, format!("it is held: {}", hold.reason)));
        }
        if self.observes(shared) {
            return Some((Veto::Observed, "observe mode".to_owned()));
        }
        if self.declared == Declared::Halted {
            return say(Veto::Halted);
        }
        if !self.used_to_move(now, track, rule) {
            return say(Veto::NeverMoved);
        }
        if self.excused_until().is_some_and(|until| until > now) {
            return Some((Veto::Declared, "it declared a long step".to_owned()));
        }
        let newest = self.spell.findings.iter().chain(&self.work_spell.findings).max_by_key(|seen| seen.at);
        if let Some(why) = newest.and_then(|seen| seen.finding.stopped.as_ref()) {
            return Some((Veto::Stopped, format!("its silence proves nothing: {why}")));
        }
        if let Some(who) = self.outlook.held(now) {
            return Some((Veto::Stopped, format!("its silence proves nothing: {who}")));
        }
        if let Some(fault) = shared.canary.as_ref().filter(|_| self.is_asked_by_network()) {
            return Some((Veto::ObserverVoid, format!("Horus's own prober is broken: {fault}")));
        }
        if self.heard_out_at(track).is_some_and(|at| now < at) {
            let heard = Human(now.since(self.witnessed_since));
            return Some((
                Veto::Unwitnessed,
                format!("Horus has just begun, and listened to it for {heard} only"),
            ));
        }
        if let Some(window) = shared.maintenance.covers(self.name.as_str()) {
            return Some((Veto::Maintenance, format!("the maintenance window '{window}' is going on")));
        }
        if let Some((veto, reason)) = shared.guard.forbids(&self.name, now) {
            return Some((veto, reason.text));
        }
        if shared.demoted.contains(&rule) {
            return Some((Veto::Demoted, format!("the detector '{}' was wrong too often", rule.word())));
        }
        None
    }

    /// So long a restart may take to be proven, or to fail, before it counts as failed.
    pub(crate) fn trial_term(&self) -> Duration {
        let end = self.plan.stop.grace.saturating_add(UNDEAD_AFTER);
        let start = self.startup_cap().saturating_add(LAUNCH_WAIT_MAX);
        end.saturating_add(start).saturating_add(self.proof_takes().saturating_mul(2))
    }

    /// Only against something that used to move does absence count.
    pub(crate) fn used_to_move(&self, now: Mono, track: Track, rule: Rule) -> bool {
        match track {
            Track::Loop => self.beats.used_to_move() || matches!(rule, Rule::StartOverdue | Rule::OwnWord),
            Track::Work => self.stalled(now).is_some_and(|stalled| stalled.moved),
        }
    }

    pub(crate) fn is_asked_by_network(&self) -> bool {
        use crate::plan::BeatPlan;
        self.plan.beats.iter().any(|beat| matches!(beat, BeatPlan::Http(_) | BeatPlan::Tcp(_)))
    }

    /// Something forbids the restart.
    pub(crate) fn heed(&mut self, turn: &mut Turn<'_>, veto: Veto, why: String, fault: &Fault) {
        let declined = Declined::Veto(veto);
        if self.spell_of(fault.track).has_declined(declined) {
            return;
        }
        let guard = &turn.shared.guard;
        if guard.forbids(&self.name, turn.now).is_some_and(|(veto, _)| veto == Veto::CommonCause)
            && guard.tells_of(&self.name)
        {
            // One message tells of all of them, or will; what is left is told when the guard opens.
            return;
        }
        match (veto, veto.instead()) {
            // Who waits for others, and is in nobody's message, waits in the open.
            (Veto::CommonCause | Veto::OneAtATime, _) if !guard.tells_of(&self.name) => {
                let what = format!("restart it, but: {why}");
                self.decline(turn, fault, declined, what, format!("It waits: {why}."));
            }
            (_, Instead::Wait) => {}
            // A short wait: whoever was told of this fault knows enough.
            (Veto::Unwitnessed, _) if self.was_told_of_it() => {
                self.spell_of(fault.track).declined.push(declined)
            }
            (Veto::NeverMoved, _) if fault.track == Track::Loop => {
                self.spell_of(fault.track).declined.push(declined);
                let text = format!(
                    "{}; its tick was never seen to move, so its absence proves little",
                    fault.reason().text
                );
                self.tell_probe_path(turn, fault.age, text);
            }
            (_, Instead::Tell | Instead::Ask) => {
                let mut because = why.clone();
                if let Some(first) = because.get_mut(..1) {
                    first.make_ascii_uppercase();
                }
                let what = format!("restart it, but: {why}");
                self.decline(turn, fault, declined, what, format!("{because}."));
            }
        }
    }

    fn was_told_of_it(&self) -> bool {
        self.incidents.find(IncidentKind::Stuck).is_some_and(|incident| incident.told)
    }

    /// Nothing is to be signalled by a rule.
    pub(crate) fn observes(&self, shared: &Shared) -> bool {
        self.plan.observe || shared.mode == Mode::Observe
    }

    /// The restart was due and does not happen: written down, told once.
    pub(crate) fn decline(
        &mut self,
        turn: &mut Turn<'_>,
        fault: &Fault,
        declined: Declined,
        what: String,
        because: String,
    ) {
        let Some(incident) = self.incidents.find(IncidentKind::Stuck) else { return };
        let (id, asked) = (incident.id, incident.needs_you);
        self.spell_of(fault.track).declined.push(declined);
        self.record(turn, Some(id), What::WouldHave { what, reason: fault.reason() });
        if asked {
            // A person is needed already, for a weightier reason.
            return;
        }
        self.tell_declined(turn, id, fault.age, fault.how.clone(), because);
    }

    pub(crate) fn tell_declined(
        &mut self,
        turn: &mut Turn<'_>,
        id: IncidentId,
        stuck_for: Duration,
        how: String,
        because: String,
    ) {
        let story = Story::StuckObserved { because, stuck_for, how, place: self.place() };
        self.incidents.tell(turn, id, Severity::Warning, false, true, story);
        self.dirty = true;
    }

    /// Whoever was spared is not condemned again at once: no chain of decisions may turn as fast as its answers come.
    pub(crate) fn spared_until(&self, track: Track) -> Option<Mono> {
        let spell = match track {
            Track::Loop => &self.spell,
            Track::Work => &self.work_spell,
        };
        spell.spared_at.map(|at| at + self.plan.deadline.clamp(SPARED_MIN, SPARED_MAX))
    }
}
