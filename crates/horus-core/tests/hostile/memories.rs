//! What the next life of Horus knows, whenever this one is ended.

use super::*;

/// Another life, which has not heard of the keeper yet.
fn next_life(hand: &ByHand) -> ByHand {
    ByHand::with_memory(hand.plan.services["bot"].clone(), hand.memory(), SECOND)
}

#[test]
fn what_was_known_of_a_run_is_known_until_the_keeper_has_spoken() {
    let before = ByHand::running(service());
    assert_eq!(before.memory().moved.len(), 1);
    // A life that ends before it has heard of the run, and one that was told something meanwhile.
    let mut short = next_life(&before);
    short.ask(hold(false));
    let memory = short.memory();
    assert!(memory.hold.is_some() && memory.was_ready && memory.started.is_some());
    assert_eq!(memory.moved, before.memory().moved);
    let mut next = ByHand::with_memory(service(), Memory { hold: None, ..memory }, SECOND);
    next.adopt_and_reconcile(1);
    next.hang(21);
    assert_eq!(next.count(|what| matches!(what, What::KillDecided { .. })), 1, "its tick was known to move");
}

#[test]
fn a_run_that_has_never_ticked_is_not_remembered_as_one_that_has() {
    let mut first = ByHand::new(service());
    first.spawned();
    first.pass(5);
    let mut next = next_life(&first);
    next.adopt_and_reconcile(1);
    next.hang(55);
    assert_eq!(next.signals(), 0, "it may still be starting");
}

#[test]
fn who_was_started_by_hand_is_started_by_the_next_life_and_nobody_else() {
    for (by_hand, starts) in [(true, 1), (false, 0)] {
        let plan = horus_core::plan::ServicePlan { autostart: false, ..service() };
        let mut hand = ByHand::new(plan.clone());
        if by_hand {
            hand.ask(start());
        } else {
            hand.ask(hold(false));
            hand.ask(OperatorRequest::Resume { service: name("bot"), reason: None });
        }
        let mut next = next_life(&hand);
        next.step(Input::Reconciled);
        assert_eq!(next.starts(), starts, "by hand: {by_hand}");
    }
}

#[test]
fn a_stop_is_answered_when_it_is_known_that_there_is_nothing_to_stop() {
    let mut next = next_life(&ByHand::running(service()));
    let stop = next.ask(OperatorRequest::Stop(name("bot")));
    assert_eq!(ticket_of(&next, stop), None, "the keeper has not said yet whether it runs");
    next.step(Input::Reconciled);
    assert!(matches!(ticket_of(&next, stop), Some(Answer::Done(_))));
    let again = next.ask(OperatorRequest::Stop(name("bot")));
    assert!(matches!(ticket_of(&next, again), Some(Answer::Done(_))));
}

#[test]
fn nights_are_counted_across_restarts_of_horus_and_over_after_two_quiet_days() {
    // It beats every five minutes; at midnight it stands still for forty.
    let mut plan = service();
    let Some(BeatPlan::Http(http)) = plan.beats.first_mut() else { unreachable!() };
    http.every = 300 * SECOND;
    (plan.deadline, plan.startup) = (HOUR, HOUR);
    let mut hand = ByHand::running(plan);
    let mut tick = 100;
    let mut live = |hand: &mut ByHand, beats: u64| {
        for _ in 0..beats {
            hand.pass(300);
            tick += 1;
            let heard = beat(hand, HTTP, tick);
            hand.see(heard);
        }
    };
    let told =
        |hand: &ByHand| hand.told().iter().filter(|it| matches!(it.story, Story::Recurs { .. })).count();
    for night in 1..=3 {
        live(&mut hand, 280);
        assert_eq!(told(&hand), 0, "before night {night}");
        hand.pass(7 * 300);
        live(&mut hand, 1);
        if night < 3 {
            hand = next_life(&hand);
            hand.adopt_and_reconcile(1);
        }
    }
    assert_eq!(told(&hand), 1);
    live(&mut hand, 2 * 288 - 2);
    assert_eq!(hand.engine.open_incidents().len(), 1, "it may come again tonight");
    live(&mut hand, 3);
    assert_eq!(hand.engine.open_incidents(), []);
}
