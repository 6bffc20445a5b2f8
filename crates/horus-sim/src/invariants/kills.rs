//! G2, G3, G4: how often, how many at a time, and what has to come first. And: only proof resets a ledger.

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::ids::{Generation, IncidentId};
use horus_core::plan::RestartPlan;
use horus_core::reason::Reason;
use horus_core::time::Human;

use super::seen::Seen;
use super::work::is_for_work;
use super::{Scene, Witness};
use crate::world::options::nanos;
use crate::world::queue::{MS, Nanos, SECOND};

/// A store that has not confirmed by then is taken as degraded.
const STORE_WAIT_MAX: Nanos = 5 * SECOND;

/// Ages that went through a file are whole milliseconds.
const ROUNDING: Nanos = 20 * MS;

/// Silences whose beginnings lie no further apart than this have one cause, while who was restarted for it is not proven.
const TRICKLE: Nanos = 300 * SECOND;

/// Restarts by the judge that are neither proven nor have failed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    trials: BTreeMap<usize, Trial>,
}

/// A restart whose outcome is awaited.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// When the silence began that it was restarted for.
    onset: Nanos,
    /// The last sign that any life of Horus heard before that.
    heard: Nanos,
    /// As many as the guard's share were red when it was restarted.
    common: bool,
    /// Without any outcome it has failed by then.
    until: Nanos,
}

impl Witness {
    /// Unproven kills are bounded by the limit; with the breaker open at most one per `kills.retry`; and per day.
    pub(super) fn invariant_g2_kills_are_bounded(&mut self, scene: &Scene<'_>, place: usize) {
        const NAME: &str = "invariant_g2_kills_are_bounded";
        let Some(plan) = scene.plan_of(place) else { return };
        let (now, ledger) = (scene.now, &self.book.ledgers[place]);
        let today = ledger.kills_of_the_day(now.saturating_add(self.register.slept));
        let tried = self.seen[place].sentence.as_ref().and_then(|sentence| sentence.breaker_open);
        let breaker_open = tried.or(ledger.breaker_open);
        let opened = breaker_open.max(ledger.kills.last().copied());
        let retry = plan.kills.retry.map(nanos);
        let fault = if let Some(since) = breaker_open.and(opened) {
            match retry {
                None => Some("the breaker is open, and no further try is allowed".to_owned()),
                Some(retry)
                    if !self.register.clock_was_set
                        && now.saturating_sub(since) + self.register.slept + ROUNDING < retry =>
                {
                    let waited = Human(Duration::from_nanos(now.saturating_sub(since)));
                    Some(format!(
                        "the breaker is open, and only {waited} have passed of {}",
                        Human(Duration::from_nanos(retry))
                    ))
                }
                Some(_) => None,
            }
        } else if ledger.unproven >= plan.kills.limit {
            Some(format!(
                "{} kills are unproven, the limit is {}, and no breaker is open",
                ledger.unproven, plan.kills.limit
            ))
        } else if today >= plan.kills.daily as usize && !self.register.clock_was_set {
            Some(format!("{today} kills within a day, the limit is {}", plan.kills.daily))
        } else {
            None
        };
        if let Some(text) = fault {
            let subject = Self::name(scene, place);
            self.broken(scene, NAME, &subject, text);
        }
    }

    pub(super) fn counts_kill(&mut self, scene: &Scene<'_>, place: usize, reason: &Reason) {
        let (now, stalled) = (scene.now, is_for_work(reason));
        self.change_ledger(place, |ledger| {
            ledger.kills.retain(|at| now.saturating_sub(*at) < 2 * crate::world::queue::DAY);
            ledger.kills.push(now);
            ledger.unproven += 1;
            ledger.stalled = stalled;
        });
    }

    /// A common cause never takes down the fleet: beyond the guard's share, no second kill until the first is proven or failed.
    ///
    /// Red is who was judged to be at fault, in a way that asks for a restart, after it had shown that its tick moves: of a start
    /// that is never done nobody knows when it went wrong. To the share count all that are red, and whoever was restarted for a silence that began together with the newest of theirs; both
    /// kinds have to be waited for, and so has anybody who was restarted while as many were red.
    pub(super) fn invariant_g3_one_at_a_time(&mut self, scene: &Scene<'_>, place: usize) {
        let (common, waits) = self.waits_for_another(scene, place);
        // What was lawful when it was decided is carried out: a moment later somebody else may be well again.
        let decided = self.seen[place].sentence.as_ref().is_none_or(|sentence| sentence.not_alone);
        if let Some(text) = waits.filter(|_| decided) {
            let subject = Self::name(scene, place);
            self.broken(scene, "invariant_g3_one_at_a_time", &subject, text);
        }
        let seen = &self.seen[place];
        let onset = seen.onset.unwrap_or_else(|| seen.faulty_since());
        let until = scene.now + self.least_term(scene, place);
        // What earlier lives have witnessed of it may have been believed, all of it or some.
        let heard = seen.heard.fresh.map_or(onset, |fresh| fresh.min(onset));
        // Of a start that is never done nobody knows when it went wrong, so not with whom.
        if seen.ready || common {
            self.guard.trials.insert(place, Trial { onset, heard, common, until });
        }
    }

    /// Are as many as the guard's share red? And whom this restart has to wait for then, in words.
    pub(super) fn waits_for_another(&mut self, scene: &Scene<'_>, place: usize) -> (bool, Option<String>) {
        let now = scene.now;
        let watched = |seen: &&Seen| seen.alive && seen.ready && !seen.sources.is_empty();
        let watched = self.seen.iter().filter(watched).count();
        let red: Vec<usize> = (0..self.seen.len())
            .filter(|other| {
                let is_it = *other == place && self.seen[place].ready;
                is_it || self.seen[*other].asks_for_a_restart()
            })
            .collect();
        let onset = |seen: &Seen| seen.onset.unwrap_or_else(|| seen.faulty_since());
        let newest = red.iter().map(|other| onset(&self.seen[*other])).max().unwrap_or_default();
        self.guard.trials.retain(|other, trial| *other != place && trial.until > now);
        let near = |trial: &Trial| {
            newest.abs_diff(trial.onset) <= TRICKLE && newest.abs_diff(trial.heard) <= TRICKLE
        };
        let restarted = self.guard.trials.iter().filter(|(other, trial)| near(trial) && !red.contains(other));
        let count = red.len() + restarted.count();
        let common = count >= (watched * 3).div_ceil(10).max(2);
        let first = self.guard.trials.iter().find(|(_, trial)| trial.common || near(trial));
        let names: Vec<String> = red.iter().map(|place| Self::name(scene, *place)).collect();
        let waits = first.filter(|_| common).map(|(other, trial)| {
            format!(
                "{count} of {watched} are red ({}), and {}, silent from {}, is neither proven nor has it failed",
                names.join(", "),
                Self::name(scene, *other),
                Human(Duration::from_nanos(trial.onset))
            )
        });
        (common, waits)
    }

    /// So long a restart may at least take to be proven or to fail.
    fn least_term(&self, scene: &Scene<'_>, place: usize) -> Nanos {
        let Some(plan) = scene.plan_of(place) else { return 0 };
        let start = nanos(plan.startup) << self.overdue[place].min(5);
        nanos(plan.stop.grace) + start + 2 * nanos(plan.kills.prove)
    }

    /// Proven, or failed (its run has ended, is red again, did not start in time), or nobody will know (a person took it over).
    pub(super) fn trial_ends(&mut self, place: usize) {
        self.guard.trials.remove(&place);
    }

    pub(super) fn sees_confirm(&mut self, scene: &Scene<'_>, incident: IncidentId) {
        let place = self.book.incidents.get(&incident).and_then(|open| open.place);
        let sentence = place.and_then(|place| self.seen.get_mut(place)?.sentence.as_mut());
        if let Some(sentence) = sentence.filter(|sentence| sentence.confirm.is_none()) {
            sentence.confirm = Some((incident, scene.now));
        }
    }

    /// Before the first signal: the decision, the evidence (or why there is none), the notice, and the store's word that
    /// both are kept, for which five seconds are waited.
    pub(super) fn invariant_g4_evidence_and_notice_come_first(
        &mut self,
        scene: &Scene<'_>,
        place: usize,
        generation: Generation,
    ) {
        let missing = match &self.seen[place].sentence {
            Some(sentence) if sentence.generation == generation => {
                let waited = sentence.confirm.map(|(_, at)| scene.now.saturating_sub(at));
                if !sentence.evidence {
                    Some("no evidence was captured and no reason is given")
                } else if !sentence.told {
                    Some("no notice was put into the outbox")
                } else if !sentence.stored && waited.is_none_or(|waited| waited < STORE_WAIT_MAX) {
                    Some("the store has not confirmed the notice")
                } else {
                    None
                }
            }
            _ => Some("no decision was written down"),
        };
        if let Some(text) = missing {
            let subject = Self::name(scene, place);
            self.broken(scene, "invariant_g4_evidence_and_notice_come_first", &subject, text.to_owned());
        }
    }

    /// Something is called proven: it has to be true.
    pub(super) fn sees_proof(&mut self, scene: &Scene<'_>, place: usize) {
        self.counts.proofs += 1;
        self.trial_ends(place);
        self.invariant_g2_a_stall_is_proven_by_moving(scene, place);
        self.invariant_g2_proof_is_fresh_ticks(scene, place);
        if self.book.ledgers[place].unproven > 0 {
            // The patience that is gone with this proof was in force until now.
            self.seen[place].limits_shrink(scene.now);
        }
        let day_is_full = scene.plan_of(place).is_some_and(|plan| {
            self.book.ledgers[place].kills_of_the_day(scene.now) >= plan.kills.daily as usize
        });
        self.change_ledger(place, |ledger| {
            ledger.exits_unproven = 0;
            if !day_is_full {
                ledger.breaker_open = None;
            }
            ledger.unproven = 0;
        });
    }

    /// Fresh ticks for `prove`, without a gap over the deadline; never mere uptime.
    fn invariant_g2_proof_is_fresh_ticks(&mut self, scene: &Scene<'_>, place: usize) {
        let (Some(plan), seen) = (scene.plan_of(place), &self.seen[place]) else { return };
        if plan.schedule.is_some() && seen.finished_at == Some(scene.now) {
            // A job proves itself by finishing.
            return;
        }
        let prove = nanos(plan.kills.prove);
        let until = if plan.beats.is_empty() { Some(scene.now) } else { seen.last_fresh };
        let shown = until.map_or(0, |until| until.saturating_sub(seen.steady_from));
        if !seen.alive || shown + ROUNDING < prove {
            let (shown, prove) = (Human(Duration::from_nanos(shown)), Human(plan.kills.prove));
            let subject = Self::name(scene, place);
            let text = format!("called proven after {shown} of fresh ticks; {prove} are asked for");
            self.broken(scene, "invariant_g2_proof_is_fresh_ticks", &subject, text);
        }
    }

    /// An end that nobody asked for was counted.
    pub(super) fn sees_exit(&mut self, scene: &Scene<'_>, place: usize) {
        self.trial_ends(place);
        self.change_ledger(place, |ledger| ledger.exits_unproven = ledger.exits_unproven.saturating_add(1));
        let count = self.book.ledgers[place].exits_unproven;
        if let Some(plan) = scene.plan_of(place) {
            self.seen[place].backoff = Some((scene.now, least_delay(&plan.restart, count)));
        }
    }

    /// The delay before the next start grows with every end since the last proof, and nothing but proof makes it small.
    pub(super) fn invariant_g2_backoff_resets_by_proof_only(&mut self, scene: &Scene<'_>, place: usize) {
        let Some((since, delay)) = self.seen[place].backoff.take() else { return };
        let waited = scene.now.saturating_sub(since);
        if waited + ROUNDING < delay {
            let (waited, delay) = (Human(Duration::from_nanos(waited)), Human(Duration::from_nanos(delay)));
            let count = self.book.ledgers[place].exits_unproven;
            let subject = Self::name(scene, place);
            let text =
                format!("started {waited} after its end; {count} ends are unproven, so at least {delay}");
            self.broken(scene, "invariant_g2_backoff_resets_by_proof_only", &subject, text);
        }
    }
}

/// The least delay after the `count`-th unproven end: a tenth of it is jitter.
fn least_delay(plan: &RestartPlan, count: u32) -> Nanos {
    match count {
        0 | 1 => nanos(plan.first),
        n => {
            let doublings = (n - 2).min(31);
            nanos(plan.next.saturating_mul(1 << doublings).min(plan.max)) / 10 * 9
        }
    }
}
