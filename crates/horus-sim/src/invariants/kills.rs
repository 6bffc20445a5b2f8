//! G2, G3, G4: how often, how many at a time, and what has to come first. And: only proof resets a ledger.

use std::time::Duration;

use horus_core::ids::{Generation, IncidentId};
use horus_core::plan::RestartPlan;
use horus_core::time::Human;

use super::{Scene, Witness};
use crate::world::options::nanos;
use crate::world::queue::{MS, Nanos, SECOND};

/// A store that has not confirmed by then is taken as degraded.
const STORE_WAIT_MAX: Nanos = 5 * SECOND;

/// Ages that went through a file are whole milliseconds.
const ROUNDING: Nanos = 20 * MS;

/// What a common cause allows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    /// The service that was killed while many were red, until it is proven or has failed.
    on_trial: Option<(usize, Generation)>,
}

impl Witness {
    /// Unproven kills are bounded by the limit; with the breaker open at most one per `kills.retry`; and per day.
    pub(super) fn invariant_g2_kills_are_bounded(&mut self, scene: &Scene<'_>, place: usize) {
        const NAME: &str = "invariant_g2_kills_are_bounded";
        let Some(plan) = scene.plan_of(place) else { return };
        let (now, ledger) = (scene.now, &self.book.ledgers[place]);
        let today = ledger.kills_of_the_day(now.saturating_add(self.register.slept));
        let opened = ledger.breaker_open.max(ledger.kills.last().copied());
        let retry = plan.kills.retry.map(nanos);
        let fault = if let Some(since) = ledger.breaker_open.and(opened) {
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

    pub(super) fn counts_kill(&mut self, scene: &Scene<'_>, place: usize) {
        let now = scene.now;
        self.change_ledger(place, |ledger| {
            ledger.kills.retain(|at| now.saturating_sub(*at) < 2 * crate::world::queue::DAY);
            ledger.kills.push(now);
            ledger.unproven += 1;
        });
    }

    /// While many are red, one service at a time: no second kill until the first is proven or has failed.
    pub(super) fn invariant_g3_one_at_a_time(&mut self, scene: &Scene<'_>, place: usize) {
        if !scene.promises.guard {
            return;
        }
        let watched =
            self.seen.iter().filter(|seen| seen.alive && seen.ready && !seen.sources.is_empty()).count();
        let red = (0..self.seen.len()).filter(|place| self.past_deadline(scene, *place)).count();
        if red < (watched * 3).div_ceil(10).max(2) {
            return;
        }
        let generation = self.seen[place].generation;
        if let Some((other, _)) = self.guard.on_trial.filter(|(other, _)| *other != place) {
            let (subject, first) = (Self::name(scene, place), Self::name(scene, other));
            let text = format!("{red} of {watched} are red, and {first} is neither proven nor has it failed");
            self.broken(scene, "invariant_g3_one_at_a_time", &subject, text);
        }
        self.guard.on_trial = Some((place, generation));
    }

    fn past_deadline(&self, scene: &Scene<'_>, place: usize) -> bool {
        let seen = &self.seen[place];
        if !seen.alive || !seen.ready || seen.sources.is_empty() {
            return false;
        }
        let since =
            seen.last_fresh.unwrap_or(seen.judged_from).max(seen.judged_from).max(seen.excused_until());
        scene.now.saturating_sub(since) >= self.patience(scene, place)
    }

    /// Proven, or failed (its run has ended, is red again, did not start in time), or nobody will know (a person took it over).
    pub(super) fn trial_ends(&mut self, place: usize) {
        if self.guard.on_trial.is_some_and(|(other, _)| other == place) {
            self.guard.on_trial = None;
        }
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
        self.invariant_g2_proof_is_fresh_ticks(scene, place);
        if self.book.ledgers[place].unproven > 0 {
            // The patience that is gone with this proof was in force until now.
            self.seen[place].judged_from = scene.now;
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
