//! G1, G8, G9: who may be signalled at all.

use horus_core::ids::Generation;
use horus_core::observation::Declared;
use horus_core::plan::Mode;
use horus_core::reason::{Reason, Rule};
use horus_core::time::Human;
use std::time::Duration;

use super::work::is_for_work;
use super::{Fate, Register, Scene, Witness, is_judgement};
use crate::programs::{Condition, Process};
use crate::world::options::nanos;
use crate::world::queue::{Nanos, SECOND};

fn human(nanos: Nanos) -> Human {
    Human(Duration::from_nanos(nanos))
}

impl Witness {
    /// A soft signal was ordered.
    pub(super) fn sees_signal(
        &mut self,
        scene: &Scene<'_>,
        place: usize,
        generation: Generation,
        reason: &Reason,
    ) {
        if is_judgement(reason.rule) {
            if is_for_work(reason) {
                self.invariant_g1_moving_work_is_never_signalled(scene, place, generation, reason);
            } else {
                self.invariant_g1_life_is_never_signalled(scene, place, generation, reason);
                self.invariant_g1_an_absence_of_horus_proves_nothing(scene, place);
            }
            self.invariant_g2_kills_are_bounded(scene, place);
            self.invariant_g3_one_at_a_time(scene, place);
            self.invariant_g4_evidence_and_notice_come_first(scene, place, generation);
            self.invariant_g5_what_is_held_is_left_alone(scene, place, "signalled by the judge");
            self.invariant_g8_no_restart_for_a_value_fault(scene, place, reason);
            self.invariant_g9_observe_signals_nothing(scene, place, reason);
            self.invariant_no_restart_inside_a_window(scene, place, reason);
            self.counts_kill(scene, place, reason);
        } else {
            self.invariant_g6_no_signal_without_an_order(scene, place, reason);
            self.counts.signals_by_order += 1;
        }
        let seen = &mut self.seen[place];
        seen.signalled = Some(generation);
        seen.sentence = None;
        self.hang_ends(scene, place, Fate::Ended);
    }

    /// A program that showed life within its deadline, or never had the chance to, is never signalled by the judge.
    ///
    /// Two views, both independent of the engine: what was *delivered* (no fresh sign within the deadline, nothing declared
    /// that is still in force, at least one fresh sign ever), and what is *true* (a loop that has turned all the while,
    /// for longer than a beat needs to be heard, is not hung).
    fn invariant_g1_life_is_never_signalled(
        &mut self,
        scene: &Scene<'_>,
        place: usize,
        generation: Generation,
        reason: &Reason,
    ) {
        const NAME: &str = "invariant_g1_life_is_never_signalled";
        let (now, subject) = (scene.now, Self::name(scene, place));
        let Some(plan) = scene.plan_of(place) else { return };
        let (deadline, seen) = (nanos(plan.deadline), &self.seen[place]);
        let fresh = seen.last_fresh.map(|fresh| seen.heard.fresh.unwrap_or(fresh));
        let since_fresh = fresh.map(|at| now.saturating_sub(at));
        let heard = match since_fresh {
            // Its start is overdue, and its loop is dead.
            None if seen.is_proven_dead(now, deadline) => None,
            None => Some("it never showed a fresh tick: its start is not done".to_owned()),
            Some(age) if age < deadline => Some(format!("a fresh tick was heard {} ago", human(age))),
            Some(_) if seen.declared == Declared::Halted => {
                Some("it has said that it stopped itself on purpose".to_owned())
            }
            Some(_) if seen.excused_until() > now => Some("it has declared a long step".to_owned()),
            Some(_) => None,
        };
        let truth = scene.places[place].process.as_ref().filter(|process| process.generation == generation);
        let well = truth.and_then(|process| truly_well(process, plan, now));
        let hung = truth.is_some_and(|process| process.hangs(now));
        self.counts_judged(hung, well.is_some());
        if let Some(why) = heard.or(well) {
            let text =
                format!("{why}; the deadline is {}; it is signalled because: {reason}", human(deadline));
            self.broken(scene, NAME, &subject, text);
        }
    }

    /// A soft signal by the judge: what was true of its program.
    pub(super) fn counts_judged(&mut self, hung: bool, healthy: bool) {
        self.counts.kills += 1;
        self.counts.kills_of_hung += u64::from(hung);
        self.counts.kills_of_healthy += u64::from(healthy);
    }

    /// Restarts are for loops that hang, never for what they produce.
    fn invariant_g8_no_restart_for_a_value_fault(
        &mut self,
        scene: &Scene<'_>,
        place: usize,
        reason: &Reason,
    ) {
        let useless = matches!(reason.rule, Rule::Value | Rule::Funnel | Rule::Expect | Rule::ProbePath);
        if useless {
            let subject = Self::name(scene, place);
            self.broken(scene, "invariant_g8_no_restart_for_a_value_fault", &subject, format!("{reason:?}"));
        }
    }

    /// In observe mode nothing is ever signalled by a rule.
    fn invariant_g9_observe_signals_nothing(&mut self, scene: &Scene<'_>, place: usize, reason: &Reason) {
        let observes = scene.plan_of(place).is_none_or(|plan| plan.observe);
        if observes || scene.plan.daemon.mode == Mode::Observe {
            let subject = Self::name(scene, place);
            self.broken(scene, "invariant_g9_observe_signals_nothing", &subject, format!("{reason:?}"));
        }
    }

    /// While people work on it by plan, nothing is signalled by a rule.
    fn invariant_no_restart_inside_a_window(&mut self, scene: &Scene<'_>, place: usize, reason: &Reason) {
        // Into which window a clock that is set back leads is left open.
        if scene.is_in_a_window(place) && !self.register.clock_was_set {
            let subject = Self::name(scene, place);
            self.broken(scene, "invariant_no_restart_inside_a_window", &subject, format!("{reason:?}"));
        }
    }

    /// SIGKILL comes after a soft signal to the same run, or for what outlived one.
    pub(super) fn invariant_g9_sigkill_follows_a_signal(
        &mut self,
        scene: &Scene<'_>,
        place: usize,
        generation: Generation,
        reason: &Reason,
    ) {
        let living =
            scene.places[place].process.as_ref().is_some_and(|process| process.generation == generation);
        let lawful = match reason.rule {
            Rule::Strays => !living || self.seen[place].generation != generation,
            _ => !living || self.seen[place].signalled == Some(generation),
        };
        if !lawful {
            let subject = Self::name(scene, place);
            let text = format!("run {generation} lives and got no soft signal before: {reason:?}");
            self.broken(scene, "invariant_g9_sigkill_follows_a_signal", &subject, text);
        }
    }

    /// Horus was to look after itself so long ago, and did not: nobody is charged for that.
    pub(crate) fn comes_late(&mut self, now: Nanos, late: Option<Nanos>) {
        let Some(late) = late.filter(|late| *late >= SECOND) else { return };
        for seen in &mut self.seen {
            seen.excuse(now, late);
        }
        self.register.is_late(now, late);
    }

    /// Lateness that is excused was there: Horus got no time.
    pub(super) fn invariant_g1_lateness_is_own(&mut self, scene: &Scene<'_>, late: Nanos) {
        self.register.excused += late;
        let Register { excused, lateness, starved, .. } = self.register;
        if excused != lateness || excused > starved + SECOND {
            let (excused, lateness, starved) = (human(excused), human(lateness), human(starved));
            let text =
                format!("{excused} are excused, Horus was late by {lateness} and got no time for {starved}");
            self.broken(scene, "invariant_g1_lateness_is_own", "horus", text);
        }
    }
}

/// Why a process is truly well: its loop turns, and has for so long that a beat must have been heard.
fn truly_well(process: &Process, plan: &horus_core::plan::ServicePlan, now: Nanos) -> Option<String> {
    let poll = plan.beats.iter().map(|beat| nanos(beat.every())).max().unwrap_or_default();
    let heard_within = nanos(plan.deadline) + poll + process.period + SECOND;
    let for_long = now.saturating_sub(process.healed) > heard_within;
    match process.condition {
        Condition::Works | Condition::Idle
            if for_long && process.blocked_until < now.saturating_sub(heard_within) =>
        {
            Some(format!(
                "its loop has turned for {}, last {} ago",
                human(now - process.healed),
                human(now - process.last_turn(now))
            ))
        }
        _ => None,
    }
}
