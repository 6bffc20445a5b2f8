//! G5, G6: what a person has ordered, and that nothing runs twice.

use horus_core::command::Answer;
use horus_core::ids::Generation;
use horus_core::observation::OperatorRequest;
use horus_core::reason::Reason;

use super::{Scene, Witness};
use crate::world::options::nanos;
use crate::world::queue::{Nanos, SECOND};

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    pub(crate) place: usize,
    /// "Done" means that no process is left.
    pub(crate) stops: bool,
    /// It has to be answered by then.
    pub(crate) until: Nanos,
}

impl Witness {
    /// A person's request is about to be delivered.
    pub(super) fn hears_wish(&mut self, scene: &Scene<'_>, ticket: u64, request: &OperatorRequest) {
        let Some(place) = scene.place(request.service().as_str()) else { return };
        let now = scene.now;
        let stops = matches!(request, OperatorRequest::Stop(_) | OperatorRequest::Hold { stop: true, .. });
        self.tickets
            .insert(ticket, Ticket { place, stops, until: now.saturating_add(longest_answer(scene, place)) });
        if scene.plan_of(place).is_none() {
            return;
        }
        self.seen[place].wishes += 1;
        self.trial_ends(place);
        let held = self.book.ledgers[place].held(now);
        match request {
            OperatorRequest::Start(_) | OperatorRequest::Restart(_) if !held => {
                self.seen[place].backoff = None;
                self.change_ledger(place, |ledger| (ledger.stopped, ledger.halted) = (false, false));
            }
            OperatorRequest::Start(_) | OperatorRequest::Restart(_) => {}
            OperatorRequest::Stop(_) => self.change_ledger(place, |ledger| ledger.stopped = true),
            OperatorRequest::Hold { expires_in, .. } => {
                let until = expires_in.map(|left| now.saturating_add(nanos(left)));
                self.change_ledger(place, |ledger| ledger.hold = Some(until));
            }
            OperatorRequest::Resume { .. } => {
                let doubled = self.book.ledgers[place].unproven > 0;
                let seen = &mut self.seen[place];
                seen.backoff = None;
                if doubled {
                    seen.limits_shrink(now);
                }
                self.change_ledger(place, |ledger| {
                    (ledger.hold, ledger.stopped, ledger.halted) = (None, false, false);
                    (ledger.unproven, ledger.breaker_open) = (0, None);
                });
            }
        }
    }

    /// A start was ordered.
    pub(super) fn sees_start(&mut self, scene: &Scene<'_>, place: usize, generation: Generation) {
        self.invariant_g6_one_instance(scene, place, generation);
        self.invariant_g5_what_is_held_is_left_alone(scene, place, "started");
        self.invariant_g5_what_was_stopped_stays_down(scene, place);
        self.invariant_g2_backoff_resets_by_proof_only(scene, place);
        self.seen[place].generation = generation;
        self.seen[place].alive = false;
        self.seen[place].sentence = None;
        self.seen[place].work = super::work::WorkSeen::default();
    }

    /// No two live instances of one service, and no run number twice.
    fn invariant_g6_one_instance(&mut self, scene: &Scene<'_>, place: usize, generation: Generation) {
        let truth = &scene.places[place];
        let fault = if let Some(process) = &truth.process {
            Some(format!("run {} lives", process.generation))
        } else if truth.slot.is_starting() {
            Some("the keeper is starting a run".to_owned())
        } else if generation <= truth.slot.generation {
            Some(format!("the keeper has seen run {} before", truth.slot.generation))
        } else {
            None
        };
        if let Some(text) = fault {
            let subject = Self::name(scene, place);
            self.broken(
                scene,
                "invariant_g6_one_instance",
                &subject,
                format!("run {generation} is started: {text}"),
            );
        }
    }

    /// A signal that is not the judge's follows from an order: a request, a plan, the end of Horus.
    pub(super) fn invariant_g6_no_signal_without_an_order(
        &mut self,
        scene: &Scene<'_>,
        place: usize,
        reason: &Reason,
    ) {
        let seen = &mut self.seen[place];
        let ledger = &self.book.ledgers[place];
        let ordered = seen.wishes > seen.wishes_met || ledger.stopped || ledger.halted;
        seen.wishes_met = seen.wishes;
        if !ordered {
            let subject = Self::name(scene, place);
            let text = format!("it is signalled, and nobody has asked for it: {reason:?}");
            self.broken(scene, "invariant_g6_no_signal_without_an_order", &subject, text);
        }
    }

    /// A held service is neither started nor signalled by a rule.
    pub(super) fn invariant_g5_what_is_held_is_left_alone(
        &mut self,
        scene: &Scene<'_>,
        place: usize,
        what: &str,
    ) {
        if self.book.ledgers[place].held(scene.now) && !self.register.clock_was_set {
            let subject = Self::name(scene, place);
            self.broken(
                scene,
                "invariant_g5_what_is_held_is_left_alone",
                &subject,
                format!("it is held, and {what}"),
            );
        }
    }

    /// What a person has stopped, and what has halted itself, is not started by a rule.
    fn invariant_g5_what_was_stopped_stays_down(&mut self, scene: &Scene<'_>, place: usize) {
        let ledger = &self.book.ledgers[place];
        let why = match (ledger.stopped, ledger.halted) {
            (true, _) => "a person has stopped it",
            (_, true) => "it has stopped itself on purpose",
            _ => return,
        };
        let subject = Self::name(scene, place);
        self.broken(
            scene,
            "invariant_g5_what_was_stopped_stays_down",
            &subject,
            format!("it is started, and {why}"),
        );
    }

    /// Each request is answered once; "it is down" is said only when the process is gone.
    pub(super) fn invariant_g5_answers_are_true(&mut self, scene: &Scene<'_>, number: u64, answer: &Answer) {
        const NAME: &str = "invariant_g5_answers_are_true";
        let Some(ticket) = self.tickets.remove(&number) else {
            self.broken(
                scene,
                NAME,
                "horus",
                format!("request {number} is answered twice, or was never made"),
            );
            return;
        };
        let truth = &scene.places[ticket.place];
        let lives = truth.process.as_ref().filter(|_| ticket.stops);
        if let (Answer::Done(text), Some(process)) = (answer, lives)
            && text.contains("is down")
        {
            let subject = Self::name(scene, ticket.place);
            self.broken(scene, NAME, &subject, format!("'{text}', and run {} lives", process.generation));
        }
    }

    /// Nobody waits for ever.
    pub(crate) fn invariant_g5_every_request_is_answered(&mut self, scene: &Scene<'_>) {
        let late = self.tickets.iter().find(|(_, ticket)| ticket.until < scene.now);
        if let Some((number, ticket)) = late.map(|(number, ticket)| (*number, *ticket)) {
            let subject = Self::name(scene, ticket.place);
            let text = format!("request {number} has no answer");
            self.broken(scene, "invariant_g5_every_request_is_answered", &subject, text);
        }
    }
}

/// The sum of all that may lawfully happen before a request is answered.
fn longest_answer(scene: &Scene<'_>, place: usize) -> Nanos {
    let Some(plan) = scene.plan_of(place) else { return 5 * SECOND };
    let start = nanos(plan.startup).saturating_mul(32);
    start + nanos(plan.stop.grace) + 120 * SECOND
}
