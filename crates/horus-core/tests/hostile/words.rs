//! What is told: too often, never, or wrongly; and numbers at their extremes.

use super::*;

#[test]
fn after_a_failed_probation_the_last_word_is_healed() {
    let mut rig = Rig::new(&[("bot", service(), |age| if age <= 20 { Doing::Ticks } else { Doing::Hangs })]);
    rig.run(26 * 3600);
    assert_eq!(rig.kills(), 4);
    let last = rig.told.iter().rev().find(|(_, notice)| notice.kind == IncidentKind::Stuck).unwrap();
    assert!(last.1.needs_you, "it hangs, the breaker is open, and the channel says {:?}", last.1.story);
}

#[test]
fn a_restart_of_horus_leaves_the_message_at_restarting() {
    let mut hand = ByHand::running(service());
    hand.hang(25);
    let mut next = ByHand::with_memory(service(), hand.memory(), SECOND);
    next.step(Input::Reconciled);
    next.spawned();
    for tick in 0..400 {
        let heard = beat(&next, HTTP, tick);
        next.second(heard);
    }
    assert_eq!(next.engine.open_incidents(), []);
    assert!(!next.told().is_empty(), "the channel still says 'restarting'");
}

#[test]
fn a_stop_of_what_is_condemned_leaves_the_message_at_restarting() {
    let mut hand = ByHand::running(service());
    hand.auto = false;
    hand.hang(21);
    hand.answer_captures();
    assert_eq!(hand.told().len(), 1);
    hand.ask(OperatorRequest::Restart(name("bot")));
    hand.exited();
    hand.spawned();
    for tick in 0..400 {
        let heard = beat(&hand, HTTP, tick);
        hand.second(heard);
    }
    assert_eq!(hand.told().len(), 2, "its end is told: {:?}", hand.told());
}

#[test]
fn a_dead_value_is_not_told_after_a_restart_of_horus() {
    let mut plan = service();
    let value = ValuePlan { counter: "filled".into(), stale: HOUR, dead: Some(2 * HOUR) };
    plan.values = BTreeMap::from([("orders".to_owned(), value)]);
    let mut hand = ByHand::running(plan.clone());
    for tick in 10..4000 {
        let heard = beat(&hand, HTTP, tick);
        hand.second(heard);
    }
    assert_eq!(hand.told().len(), 1);
    let mut next = ByHand::with_memory(plan, hand.memory(), SECOND);
    next.adopt_and_reconcile(1);
    for tick in 10..4000 {
        let heard = beat(&next, HTTP, tick);
        next.second(heard);
    }
    assert!(next.told().iter().any(|notice| notice.severity == Severity::Critical), "{:?}", next.told());
}

#[test]
fn a_hold_drops_the_sentence_with_the_words_of_a_pardon() {
    let mut hand = ByHand::running(service());
    hand.auto = false;
    hand.hang(21);
    hand.ask(hold(false));
    let lies = |what: &What| matches!(what, What::WouldHave { reason, .. } if reason.text.contains("fresh tick came"));
    assert_eq!(hand.count(lies), 0, "no tick came");
}

#[test]
fn an_unmet_start_is_told_as_overdue_because_horus_was_away() {
    let mut hand = ByHand::new(service());
    hand.spawned();
    hand.pass(5);
    let mut next = ByHand::with_memory(service(), hand.memory(), 600 * SECOND);
    next.adopt_and_reconcile(1);
    next.pass(2);
    assert_eq!(next.told().len(), 0, "nobody has asked it yet");
}

#[test]
fn a_signal_that_cannot_be_delivered_is_sent_again_without_a_pause() {
    let mut hand = ByHand::running(service());
    hand.ask(OperatorRequest::Stop(name("bot")));
    hand.pass(6);
    let before = hand.signals();
    for _ in 0..50 {
        let generation = hand.generation();
        hand.see(Observation::SignalFailed { generation, error: "not permitted".into() });
    }
    assert!(hand.signals() <= before + 1, "{} kills at one instant", hand.signals() - before);
}

#[test]
fn a_soft_signal_that_fails_is_told_as_a_survived_kill() {
    let mut hand = ByHand::running(service());
    hand.ask(OperatorRequest::Stop(name("bot")));
    let generation = hand.generation();
    hand.see(Observation::SignalFailed { generation, error: "no such process".into() });
    assert!(hand.told().is_empty(), "no SIGKILL was sent yet: {:?}", hand.told());
}

#[test]
fn absurd_numbers_from_the_disk_overflow() {
    let mut incident = {
        let mut hand = ByHand::running(service());
        hand.hang(25);
        hand.memory().incidents.remove(0)
    };
    (incident.version, incident.age) = (u32::MAX, Duration::MAX);
    let memory = Memory {
        version: 1,
        generation: Generation(u64::MAX),
        kills_unproven: u32::MAX,
        exits_unproven: u32::MAX,
        overdue_starts: u32::MAX,
        breaker_open: Some(Duration::MAX),
        incidents: vec![incident],
        ..Memory::default()
    };
    let mut hand = ByHand::with_memory(service(), memory, Duration::MAX);
    hand.step(Input::Reconciled);
    hand.spawned();
    let (one, two) = (beat(&hand, HTTP, 1), beat(&hand, HTTP, 2));
    hand.second(one);
    hand.second(two);
    hand.hang(25);
    hand.pass(60);
    hand.exited();
}

#[test]
fn absurd_durations_in_the_plan_overflow() {
    for absurd in [Duration::MAX, Duration::ZERO] {
        let mut plan = service();
        let Some(BeatPlan::Http(http)) = plan.beats.first_mut() else { unreachable!() };
        http.every = absurd;
        (plan.deadline, plan.startup, plan.stop.grace) = (absurd, absurd, absurd);
        (plan.restart.first, plan.restart.next, plan.restart.max) = (absurd, absurd, absurd);
        (plan.kills.prove, plan.kills.retry) = (absurd, Some(absurd));
        let mut hand = ByHand::running(plan);
        hand.hang(5);
        for _ in 0..4 {
            hand.exited();
            hand.spawned();
        }
        hand.pass(5);
    }
}

#[test]
fn late_captures_of_a_dead_run_are_harmless() {
    let mut hand = ByHand::running(service());
    for stage in [CaptureStage::Early, CaptureStage::Second, CaptureStage::Verdict, CaptureStage::Exit] {
        hand.see(Observation::Captured { generation: Generation(1), stage, finding: Default::default() });
        hand.see(Observation::Captured { generation: Generation(9), stage, finding: Default::default() });
    }
    assert_eq!(hand.signals(), 0);
}
