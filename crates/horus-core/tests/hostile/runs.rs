//! What is heard of another run, of a run that never came about, and of one that will not end.

use horus_core::plan::{Ready, ServicePlan};

use super::*;

/// The second run ticks; the first has ended.
fn in_its_second_run() -> ByHand {
    let mut hand = ByHand::running(service());
    hand.exited_and_started_again();
    for tick in 1..=3 {
        let heard = beat(&hand, HTTP, tick);
        hand.second(heard);
    }
    assert_eq!(hand.generation(), Generation(2));
    hand
}

#[test]
fn what_is_heard_of_an_earlier_run_changes_nothing() {
    let phases: [fn(&mut ByHand); 5] = [
        |_| {},
        |hand| {
            hand.ask(OperatorRequest::Stop(name("bot")));
        },
        |hand| {
            // Its grace is over.
            hand.ask(OperatorRequest::Stop(name("bot")));
            hand.pass(6);
        },
        |hand| {
            // On its way, and not begun.
            *hand = ByHand::running(service());
            hand.exited();
        },
        |hand| {
            // Begun, and not ready.
            *hand = ByHand::running(service());
            hand.exited_and_started_again();
        },
    ];
    for phase in phases {
        nothing_of_an_earlier_run_is_heard(phase);
    }
}

fn nothing_of_an_earlier_run_is_heard(come_to: fn(&mut ByHand)) {
    let generation = Generation(1);
    let late = [
        Observation::StartLost { generation },
        Observation::SpawnFailed { generation, error: "no such file".into() },
        Observation::Exited { generation, exit: Exit::Code(1), strays: 0 },
        Observation::Gone { generation, killed: 1 },
        Observation::SignalFailed { generation, error: "not permitted".into() },
        busy(generation, 99, HOUR),
        Observation::NoBeat { generation, source: HTTP, fault: ProbeFault::NoAnswer, detail: "late".into() },
        Observation::SaidReady { generation },
        Observation::SaidStopping { generation },
        Observation::SaidStatus { generation, text: "late".into() },
        Observation::AskedForTime { generation, extend: HOUR },
        Observation::Captured { generation, stage: CaptureStage::Early, finding: Default::default() },
    ];
    for observation in late {
        let mut hand = in_its_second_run();
        come_to(&mut hand);
        hand.step(Input::Wake);
        let (before, said) = (hand.engine.status(hand.now), hand.log.len());
        hand.see(observation.clone());
        assert_eq!(hand.log[said..], [], "{observation:?}");
        assert_eq!(hand.engine.status(hand.now), before, "{observation:?}");
    }
}

#[test]
fn a_run_that_was_given_up_is_ended_when_it_comes_about_after_all() {
    let mut hand = in_its_second_run();
    let process = horus_core::ids::ProcessId { pid: 77, start_time: 3 };
    hand.see(Observation::Spawned(horus_core::ids::Instance { generation: Generation(1), process }));
    let ended = |command: &Command| matches!(command, Command::KillTree { generation, .. } if *generation == Generation(1));
    assert!(hand.log.iter().any(ended));
    assert_eq!(hand.engine.status(hand.now).services[0].pid, Some(100), "the one that is meant runs on");
}

#[test]
fn a_start_that_was_lost_with_its_keeper_is_nobodys_fault() {
    let lost: [fn(Generation) -> Observation; 3] = [
        |generation| Observation::StartLost { generation },
        |generation| Observation::Exited { generation, exit: Exit::Unknown, strays: 0 },
        |generation| Observation::Exited { generation, exit: Exit::Code(125), strays: 0 },
    ];
    for lost in lost {
        let mut hand = ByHand::new(service());
        let seen = lost(hand.generation());
        hand.see(seen);
        assert_eq!((hand.starts(), hand.memory().exits_unproven), (2, 0), "started again at once");
        assert_eq!(hand.engine.open_incidents(), []);
    }
    // The same words about a run that lived are an exit like any other.
    for exit in [Exit::Unknown, Exit::Code(125)] {
        let mut hand = ByHand::running(service());
        hand.ended(exit);
        assert_eq!(hand.memory().exits_unproven, 1);
    }
}

#[test]
fn what_cannot_be_signalled_is_told_with_the_reason() {
    let mut hand = ByHand::running(service());
    hand.ask(OperatorRequest::Stop(name("bot")));
    hand.pass(6);
    assert!(hand.told().is_empty());
    let generation = hand.generation();
    hand.see(Observation::SignalFailed { generation, error: "not permitted".into() });
    let said = |notice: &&horus_core::notice::Notice| matches!(&notice.story, Story::WillNotDie { detail, .. } if detail == "not permitted");
    assert_eq!(hand.told().iter().filter(|it| said(it)).count(), 1);
}

#[test]
fn strays_that_do_not_end_are_told_and_tried_again() {
    let mut hand = ByHand::running(service());
    let generation = hand.generation();
    hand.see(Observation::Exited { generation, exit: Exit::Code(1), strays: 2 });
    assert_eq!((hand.signals(), hand.starts()), (1, 1));
    let told = |hand: &ByHand| hand.told().iter().any(|it| matches!(it.story, Story::WillNotDie { .. }));
    hand.pass(5);
    hand.see(Observation::SaidStopping { generation });
    assert!(!told(&hand), "they have ten seconds");
    hand.pass(55);
    assert_eq!(hand.signals(), 3, "after ten seconds, and then every half a minute");
    assert!(told(&hand));
    assert_eq!(hand.starts(), 1, "nobody is started beside them");
}

#[test]
fn ready_by_its_own_word_lets_those_start_who_wait_for_it() {
    for (ready, starts) in [(Ready::Notify, 2), (Ready::Process, 2), (Ready::Tick, 1)] {
        let mut hand = ByHand::new(ServicePlan {
            ready,
            beats: vec![BeatPlan::Notify, service().beats[0].clone()],
            ..service()
        });
        let after = ServicePlan { after: vec![name("bot")], ..service() };
        hand.change(|plan| drop(plan.services.insert(name("late"), after)));
        assert_eq!(hand.starts(), 1);
        hand.spawned();
        assert_eq!(hand.starts(), if ready == Ready::Process { 2 } else { 1 });
        let generation = hand.generation();
        if ready == Ready::Notify {
            hand.see(Observation::SaidReady { generation });
        }
        assert_eq!(hand.starts(), starts, "{ready:?}");
    }
}

#[test]
fn what_it_says_of_itself_is_written_down_when_it_changes_and_not_too_often() {
    let mut hand = ByHand::running(service());
    let generation = hand.generation();
    let written = |hand: &ByHand| hand.count(|what| matches!(what, What::SaidStatus { .. }));
    let say =
        |hand: &mut ByHand, text: &str| hand.see(Observation::SaidStatus { generation, text: text.into() });
    say(&mut hand, "warm");
    assert_eq!(written(&hand), 1);
    hand.pass(60);
    say(&mut hand, "warm");
    assert_eq!(written(&hand), 1, "the same");
    say(&mut hand, "hot");
    say(&mut hand, "cold");
    assert_eq!(written(&hand), 2, "two in a moment are one");
}

#[test]
fn a_person_who_stops_it_ends_what_was_wrong_with_it() {
    let mut hand = ByHand::running(service());
    hand.hang(15);
    assert_eq!(hand.engine.open_incidents().len(), 1);
    hand.ask(OperatorRequest::Stop(name("bot")));
    hand.exited();
    assert_eq!(hand.engine.open_incidents(), []);
}

#[test]
fn who_leaves_the_plan_and_is_back_before_it_has_ended_is_started_again() {
    let mut hand = ByHand::running(service());
    let old = hand.plan.clone();
    hand.change(|plan| plan.services.clear());
    assert_eq!(hand.signals(), 1);
    hand.change(|plan| *plan = old);
    hand.exited();
    assert_eq!(hand.starts(), 2);
}

fn say(hand: &mut ByHand, declared: Declared) {
    let Observation::Beat { generation, mut beat } = beat(hand, HTTP, 2) else { unreachable!() };
    beat.declared = Some(declared);
    hand.second(Observation::Beat { generation, beat });
}

fn decided(hand: &ByHand) -> usize {
    hand.count(|what| matches!(what, What::KillDecided { .. }))
}

#[test]
fn the_end_of_a_long_step_is_where_the_next_silence_begins() {
    for word in [Declared::Busy(600 * SECOND), Declared::Idle] {
        let mut hand = ByHand::running(service());
        for _ in 0..60 {
            say(&mut hand, word);
        }
        say(&mut hand, Declared::Ok);
        hand.hang(18);
        assert_eq!(decided(&hand), 0, "{word:?} is over for 18 s");
        hand.hang(4);
        assert_eq!(decided(&hand), 1, "{word:?}");
    }
}

#[test]
fn words_that_change_over_a_still_tick_excuse_nobody_for_ever() {
    let words = [Declared::Busy(600 * SECOND), Declared::Ok];
    let mut hand = ByHand::running(service());
    for turn in 0..4 * 3600 / 5 {
        for _ in 0..5 {
            say(&mut hand, words[turn % 2]);
        }
    }
    assert_eq!(decided(&hand), 1, "its tick has stood still for four hours, the longest step is two");
}

#[test]
fn time_in_which_horus_stood_still_is_charged_to_no_start_and_no_inventory() {
    let mut hand = ByHand::new(service());
    hand.spawned();
    let (reason, expires_in) = ("for a moment".to_owned(), Some(50 * SECOND));
    hand.ask(OperatorRequest::Hold { service: name("bot"), reason, expires_in, stop: false });
    hand.pass(45);
    // It was to be awake at 50 s and was so at 75.
    hand.now = hand.now + 30 * SECOND;
    hand.step(Input::Wake);
    hand.pass(8);
    assert!(hand.told().is_empty(), "for 25 s of its minute nobody could have heard it");
    hand.pass(5);
    assert_eq!(hand.told().len(), 1);

    // The age of a value is written down every minute, so that an hour of standing still is noticed.
    let value = ValuePlan { counter: "filled".into(), stale: 24 * HOUR, dead: None };
    let slots = horus_core::plan::ExpectPlan { gauge: "slots".into(), min: 1.0, within: HOUR };
    let mut hand = ByHand::running(ServicePlan {
        values: BTreeMap::from([("orders".to_owned(), value)]),
        expects: BTreeMap::from([("slots".to_owned(), slots)]),
        deadline: 12 * HOUR,
        ..service()
    });
    hand.pass(1800);
    hand.now = hand.now + HOUR;
    hand.step(Input::Wake);
    hand.pass(1700);
    assert!(hand.told().is_empty(), "{:?}", hand.told());
    hand.pass(300);
    assert_eq!(hand.told().len(), 1);
}

#[test]
fn a_standstill_ends_when_there_is_nothing_left_to_judge_it_by() {
    let mut hand = ByHand::running(service());
    hand.hang(15);
    assert_eq!(hand.engine.open_incidents().len(), 1);
    hand.change(|plan| plan.services.get_mut("bot").unwrap().beats.clear());
    assert_eq!(hand.engine.open_incidents(), []);
}

#[test]
fn ready_by_its_own_word_is_not_ready_by_a_tick() {
    let beats = vec![BeatPlan::Notify, service().beats[0].clone()];
    let mut hand = ByHand::new(ServicePlan { ready: Ready::Notify, beats, ..service() });
    let after = ServicePlan { after: vec![name("bot")], ..service() };
    hand.change(|plan| drop(plan.services.insert(name("late"), after)));
    hand.spawned();
    for tick in 1..10 {
        let heard = beat(&hand, HTTP, tick);
        hand.second(heard);
    }
    assert_eq!(hand.starts(), 1, "it ticks, and has not said that it is ready");
    let generation = hand.generation();
    hand.see(Observation::SaidReady { generation });
    assert_eq!(hand.starts(), 2);
}

/// What systemd calls `Type=notify`: it says that it is ready, and promises no beats.
#[test]
fn ready_by_its_own_word_alone_is_a_start_and_no_promise() {
    let by_word = || ServicePlan { ready: Ready::Notify, beats: vec![], startup: SECOND * 30, ..service() };
    let late = ServicePlan { after: vec![name("bot")], ..service() };
    let mut hand = ByHand::new(by_word());
    hand.change(|plan| drop(plan.services.insert(name("late"), late)));
    hand.spawned();
    hand.pass(29);
    let phase = |hand: &ByHand| hand.engine.status(hand.now).services[0].phase.clone();
    assert_eq!((phase(&hand).as_str(), hand.starts()), ("starting", 1));
    hand.pass(2);
    let overdue = hand
        .told()
        .iter()
        .any(|told| matches!(&told.story, Story::StartOverdue { heard, .. } if heard.contains("READY=1")));
    assert!(overdue, "{:?}", hand.told());
    let generation = hand.generation();
    hand.see(Observation::SaidReady { generation });
    assert_eq!((phase(&hand).as_str(), hand.starts()), ("running", 2));
    hand.pass(3600);
    let open = hand.engine.status(hand.now).services[0].incidents.clone();
    assert_eq!(open, [], "its silence says nothing");
    assert_eq!(hand.signals(), 0);

    // An earlier Horus knew that it was ready; or did not, and then its word may have been lost.
    for (said, phases) in [(true, ["running", "running"]), (false, ["starting", "running"])] {
        let mut earlier = ByHand::new(by_word());
        earlier.spawned();
        let generation = earlier.generation();
        if said {
            earlier.see(Observation::SaidReady { generation });
        }
        let mut hand = ByHand::with_memory(by_word(), earlier.memory(), SECOND);
        hand.adopt_and_reconcile(generation.0);
        assert_eq!(phase(&hand), phases[0], "{said}");
        hand.pass(31);
        assert_eq!(phase(&hand), phases[1], "{said}");
        assert!(hand.told().is_empty(), "{:?}", hand.told());
    }
}

#[test]
fn a_hold_says_what_becomes_of_the_process() {
    let remembered = ByHand::running(service()).memory();
    let unknown = ByHand::with_memory(service(), remembered, SECOND);
    let mut stopped = ByHand::running(service());
    stopped.ask(OperatorRequest::Stop(name("bot")));
    stopped.exited();
    let held = [
        (unknown, "the keeper has not said yet whether it runs"),
        (ByHand::new(service()), "a start was on its way before, what comes of it keeps running"),
        (ByHand::running(service()), "keeps running and is not touched"),
        (stopped, "it has no process"),
        (ByHand::with_memory(service(), Memory::default(), SECOND), "it has no process"),
    ];
    for (mut hand, said) in held {
        let ticket = hand.ask(hold(false));
        let Some(Answer::Done(text)) = ticket_of(&hand, ticket) else { panic!("no answer: {said}") };
        assert!(text.contains(said), "{text:?}, and not {said:?}");
    }
}

#[test]
fn who_comes_back_halted_is_still_halted_and_is_not_starting_any_more() {
    let halted = |hand: &ByHand, tick| {
        let Observation::Beat { generation, mut beat } = beat(hand, HTTP, tick) else { unreachable!() };
        beat.declared = Some(Declared::Halted);
        Observation::Beat { generation, beat }
    };
    let mut hand = ByHand::running(service());
    let heard = halted(&hand, 3);
    hand.second(heard);
    hand.ask(OperatorRequest::Restart(name("bot")));
    hand.exited_and_started_again();
    hand.pass(61);
    let open = |hand: &ByHand| hand.memory().incidents.iter().map(|it| it.kind).collect::<Vec<_>>();
    assert_eq!(open(&hand), [IncidentKind::Halted, IncidentKind::StartOverdue]);
    for tick in 1..10 {
        let heard = halted(&hand, tick);
        hand.second(heard);
    }
    assert_eq!(open(&hand), [IncidentKind::Halted]);
    assert_eq!(hand.told().iter().filter(|it| matches!(it.story, Story::Halted)).count(), 1, "and not again");
}

#[test]
fn a_late_ready_of_an_earlier_run_makes_nobody_ready() {
    let mut hand =
        ByHand::new(ServicePlan { ready: Ready::Notify, beats: vec![BeatPlan::Notify], ..service() });
    hand.spawned();
    hand.see(Observation::SaidReady { generation: Generation(1) });
    hand.exited_and_started_again();
    let phase = |hand: &ByHand| hand.engine.status(hand.now).services[0].phase.clone();
    let starting = phase(&hand);
    hand.see(Observation::SaidReady { generation: Generation(1) });
    assert_eq!(phase(&hand), starting);
    hand.see(Observation::SaidReady { generation: Generation(2) });
    assert_ne!(phase(&hand), starting);
}

#[test]
fn a_late_capture_of_an_earlier_run_speaks_for_nobody() {
    let mut hand = in_its_second_run();
    hand.hang(12);
    let finding = horus_core::observation::Finding {
        seen: Some(horus_core::observation::LoopSeen::Home),
        stopped: Some("it is stopped by SIGSTOP".into()),
        ..Default::default()
    };
    let (generation, stage) = (Generation(1), CaptureStage::Second);
    hand.see(Observation::Captured { generation, stage, finding });
    hand.hang(9);
    assert_eq!(decided(&hand), 1, "the one before was at home; this one hangs");
}

#[test]
fn a_kill_of_the_whole_tree_says_whose_doing_it_is() {
    use horus_core::reason::Rule;
    let rules = |hand: &ByHand| {
        let rule = |command: &Command| match command {
            Command::KillTree { reason, .. } => Some(reason.rule),
            _ => None,
        };
        hand.log.iter().filter_map(rule).collect::<Vec<_>>()
    };
    let mut hand = ByHand::running(service());
    hand.hang(30);
    assert_eq!(rules(&hand), [Rule::Silent]);
    let mut hand = ByHand::running(service());
    hand.ask(OperatorRequest::Stop(name("bot")));
    hand.pass(6);
    assert_eq!(rules(&hand), [Rule::Operator]);
}

#[test]
fn a_time_that_comes_while_the_last_run_is_swept_up_is_skipped() {
    let when = horus_core::plan::When::Every(60 * SECOND);
    let schedule = horus_core::plan::SchedulePlan { when, finish: HOUR, catch_up: false };
    let mut hand = ByHand::new(ServicePlan { schedule: Some(schedule), beats: Vec::new(), ..service() });
    hand.pass(1);
    hand.spawned();
    let generation = hand.generation();
    hand.pass(30);
    hand.see(Observation::Exited { generation, exit: Exit::Code(0), strays: 2 });
    hand.pass(40);
    assert_eq!((hand.starts(), hand.count(|what| matches!(what, What::RunSkipped { .. }))), (1, 1));
    hand.see(Observation::Gone { generation, killed: 2 });
    hand.pass(10);
    assert_eq!(hand.starts(), 1, "what was skipped is not made up for a moment later");
    hand.pass(60);
    assert_eq!(hand.starts(), 2);
}
