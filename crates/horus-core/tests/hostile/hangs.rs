//! Hangs that are never seen, phases without an end, requests without an answer.

use super::*;

#[test]
fn a_hang_after_a_broken_path_is_never_acted_on() {
    let mut hand = ByHand::running(service());
    for _ in 0..25 {
        let heard = miss(&hand, ProbeFault::NoPath);
        hand.second(heard);
    }
    hand.hang(60);
    assert_eq!(hand.count(|what| matches!(what, What::KillDecided { .. })), 1);
}

#[test]
fn a_hang_after_a_disagreement_is_never_acted_on() {
    let mut hand = ByHand::running(notify_and_http(&[BeatPlan::Notify, service().beats[0].clone()]));
    for tick in 0..60 {
        let heard = beat(&hand, NOTIFY, tick);
        hand.second(heard);
    }
    hand.pass(60);
    assert_eq!(hand.count(|what| matches!(what, What::KillDecided { .. })), 1);
}

#[test]
fn two_sources_that_disagree_are_told_every_second() {
    let mut hand = ByHand::running(notify_and_http(&[BeatPlan::Notify, service().beats[0].clone()]));
    for tick in 0..600 {
        let path = miss(&hand, ProbeFault::NoPath);
        hand.see(path);
        let heard = beat(&hand, NOTIFY, tick);
        hand.second(heard);
    }
    assert_eq!(hand.told().len(), 1, "{:?}", hand.told().iter().take(4).collect::<Vec<_>>());
}

#[test]
fn a_source_that_replaces_the_moving_one_and_never_ticks_is_never_told() {
    let mut hand = ByHand::running(service());
    hand.change(|plan| {
        plan.services.get_mut("bot").unwrap().beats =
            vec![BeatPlan::Log(horus_core::plan::LogBeat { pattern: "typo".into() })];
    });
    hand.pass(600);
    assert!(!hand.told().is_empty(), "nothing judges this service any more, and nobody knows");
    assert_eq!(hand.signals(), 0);
}

#[test]
fn an_end_of_the_long_step_does_not_end_its_excuse() {
    let mut hand = ByHand::running(service());
    let long = busy(hand.generation(), 10, 2 * HOUR);
    hand.second(long);
    let Observation::Beat { generation, mut beat } = beat(&hand, HTTP, 11) else { unreachable!() };
    beat.declared = Some(Declared::Ok);
    hand.second(Observation::Beat { generation, beat });
    hand.hang(60);
    assert_eq!(hand.count(|what| matches!(what, What::KillDecided { .. })), 1);
}

#[test]
fn a_standing_tick_that_says_busy_is_excused_for_ever() {
    let mut hand = ByHand::running(service());
    for _ in 0..10 * 3600 {
        let lie = busy(hand.generation(), 2, 2 * HOUR);
        hand.second(lie);
    }
    let decided = hand.count(|what| matches!(what, What::KillDecided { .. }));
    assert_eq!(decided, 1, "no fresh tick for ten hours, the longest step is two");
}

#[test]
fn what_was_declined_in_observe_mode_is_never_done_after_it() {
    for global in [true, false] {
        let mut plan = service();
        plan.observe = !global;
        let mut hand = ByHand::running(plan);
        hand.change(|plan| plan.daemon.mode = if global { Mode::Observe } else { Mode::Enforce });
        hand.hang(60);
        hand.change(|plan| {
            plan.daemon.mode = Mode::Enforce;
            plan.services.get_mut("bot").unwrap().observe = false;
        });
        hand.hang(60);
        assert!(hand.signals() > 0, "global: {global}");
    }
}

#[test]
fn a_start_that_the_keeper_never_answers_is_waited_for_in_silence() {
    let mut hand = ByHand::new(service());
    let ticket = hand.ask(start());
    hand.pass(600);
    assert!(!hand.told().is_empty(), "launching for ten minutes, and nobody knows");
    assert!(ticket_of(&hand, ticket).is_some());
}

#[test]
fn a_start_of_what_is_overdue_is_never_answered() {
    let mut hand = ByHand::new(service());
    hand.spawned();
    hand.pass(100);
    let asked = hand.ask(start());
    hand.pass(200);
    assert!(ticket_of(&hand, asked).is_some(), "start");
    let asked = hand.ask(OperatorRequest::Restart(name("bot")));
    hand.exited();
    hand.spawned();
    hand.pass(1000);
    assert!(ticket_of(&hand, asked).is_some(), "restart");
}

#[test]
fn a_start_of_what_is_condemned_and_pardoned_is_never_answered() {
    let mut hand = ByHand::running(service());
    hand.auto = false;
    hand.hang(21);
    let asked = hand.ask(start());
    let fresh = beat(&hand, HTTP, 99);
    hand.second(fresh);
    hand.pass(60);
    assert!(ticket_of(&hand, asked).is_some());
}

#[test]
fn a_start_that_is_answered_by_an_adoption_is_never_answered() {
    let mut plan = service();
    plan.beats.clear();
    let mut hand = ByHand::new(plan);
    let asked = hand.ask(start());
    hand.adopted(1);
    hand.pass(60);
    assert!(ticket_of(&hand, asked).is_some());
}

#[test]
fn a_restart_of_what_will_not_die_is_never_answered() {
    let mut hand = ByHand::running(service());
    let asked = hand.ask(OperatorRequest::Restart(name("bot")));
    hand.pass(600);
    assert!(ticket_of(&hand, asked).is_some());
}

#[test]
fn a_hold_with_a_stop_while_launching_stops_nothing() {
    let mut hand = ByHand::new(service());
    let asked = hand.ask(hold(true));
    hand.spawned();
    assert_eq!(hand.signals(), 1);
    hand.exited();
    assert!(matches!(ticket_of(&hand, asked), Some(Answer::Done(_))));
}

#[test]
fn a_start_during_the_end_runs_after_the_end() {
    let mut hand = ByHand::running(service());
    hand.step(Input::ShutDown);
    hand.exited();
    assert!(hand.log.contains(&Command::Finished));
    let starts = hand.starts();
    let asked = hand.ask(start());
    assert!(matches!(ticket_of(&hand, asked), Some(Answer::Refused { .. })));
    let bot = hand.plan.services["bot"].clone();
    hand.change(|plan| drop(plan.services.insert(name("late"), bot)));
    assert_eq!(hand.starts(), starts, "nothing is started while Horus ends");
}

#[test]
fn a_second_report_of_a_start_revives_the_dead() {
    let mut plan = service();
    plan.beats.clear();
    plan.restart.first = 60 * SECOND;
    let mut hand = ByHand::new(plan);
    hand.spawned();
    hand.exited();
    hand.spawned();
    assert_eq!(hand.engine.living(), [], "that run has ended");
}

#[test]
fn a_tree_that_is_gone_is_killed_for_ever_if_its_exit_was_lost() {
    let mut hand = ByHand::running(service());
    hand.ask(OperatorRequest::Stop(name("bot")));
    hand.pass(6);
    let generation = hand.generation();
    hand.see(Observation::Gone { generation, killed: 1 });
    assert_eq!(hand.engine.living(), []);
}

#[test]
fn a_completed_job_runs_again_when_horus_restarts() {
    let mut plan = service();
    plan.restart.on = RestartOn::Failure;
    let mut hand = ByHand::running(plan.clone());
    hand.ended(Exit::Code(0));
    let mut next = ByHand::with_memory(plan, hand.memory(), SECOND);
    next.step(Input::Reconciled);
    assert_eq!(next.starts(), 0, "it ended as it should; a new Horus is no reason to do the job twice");
}

#[test]
fn what_was_remembered_of_an_earlier_run_is_not_believed_of_the_next_one() {
    // Run 1 had ticked; it ended, run 2 was started, and Horus was killed before it had written that down.
    let hand = ByHand::running(service());
    let mut next = ByHand::with_memory(service(), hand.memory(), SECOND);
    let process = horus_core::ids::ProcessId { pid: 200, start_time: 9 };
    next.see(Observation::Adopted(horus_core::ids::Instance { generation: Generation(2), process }));
    next.step(Input::Reconciled);
    next.hang(55);
    assert_eq!(next.signals(), 0, "its startup of 60 s is not over, whatever run 1 had shown");
}
