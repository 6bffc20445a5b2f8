//! Sources of beats that change, contradict each other or say little.

use super::*;

fn log_beat(pattern: &str) -> BeatPlan {
    BeatPlan::Log(horus_core::plan::LogBeat { pattern: pattern.into() })
}

fn with_beats(beats: Vec<BeatPlan>) -> horus_core::plan::ServicePlan {
    notify_and_http(&beats)
}

/// A service whose log beat was heard twice.
fn running_on_its_log() -> ByHand {
    let mut hand = ByHand::new(with_beats(vec![log_beat("tick")]));
    hand.spawned();
    for _ in 0..3 {
        let Observation::Beat { generation, mut beat } = beat(&hand, NOTIFY, 0) else { unreachable!() };
        beat.source = BeatKind::Log;
        hand.second(Observation::Beat { generation, beat });
    }
    hand
}

#[test]
fn ready_and_nothing_more_turns_a_firewalled_probe_into_a_kill() {
    // READY=1 at the start and http beats from then on: the most ordinary mix of the two.
    let mut hand = ByHand::new(with_beats(vec![BeatPlan::Notify, service().beats[0].clone()]));
    hand.spawned();
    let generation = hand.generation();
    hand.second(Observation::SaidReady { generation });
    for tick in 0..60 {
        let heard = beat(&hand, HTTP, tick);
        hand.second(heard);
    }
    assert_eq!(
        hand.told().len(),
        0,
        "a source that only ever said READY does not contradict: {:?}",
        hand.told()
    );
    for _ in 0..600 {
        let heard = miss(&hand, ProbeFault::NoPath);
        hand.second(heard);
    }
    assert_eq!(hand.signals(), 0);
}

#[test]
fn another_pattern_for_the_same_kind_of_beat_kills_what_runs() {
    let mut hand = running_on_its_log();
    hand.change(|plan| plan.services.get_mut("bot").unwrap().beats = vec![log_beat("typo")]);
    hand.pass(600);
    assert_eq!(hand.signals(), 0, "reloaded");
    let memory = running_on_its_log().memory();
    let mut next = ByHand::with_memory(with_beats(vec![log_beat("typo")]), memory, SECOND);
    next.adopt_and_reconcile(1);
    next.pass(600);
    assert_eq!(next.signals(), 0, "changed while Horus was away");
}

#[test]
fn a_longer_deadline_does_not_save_what_is_condemned() {
    let mut hand = ByHand::running(service());
    hand.auto = false;
    hand.hang(21);
    hand.change(|plan| plan.services.get_mut("bot").unwrap().deadline = 600 * SECOND);
    hand.auto = true;
    hand.answer_captures();
    hand.pass(30);
    assert_eq!(hand.signals(), 0, "silent for less than a minute, 20 min are allowed");
}

#[test]
fn without_beats_from_now_on_a_start_never_ends() {
    let mut hand = ByHand::new(service());
    let asked = hand.ask(start());
    hand.spawned();
    hand.change(|plan| plan.services.get_mut("bot").unwrap().beats.clear());
    hand.pass(2);
    assert!(matches!(ticket_of(&hand, asked), Some(Answer::Done(_))), "its process lives, more is not asked");
}

#[test]
fn a_death_after_an_adoption_is_told_as_healed_twice() {
    let mut first = ByHand::running(service());
    first.exited_and_started_again();
    let (one, two) = (beat(&first, HTTP, 1), beat(&first, HTTP, 2));
    first.second(one);
    first.second(two);
    let mut next = ByHand::with_memory(service(), first.memory(), SECOND);
    next.adopt_and_reconcile(2);
    next.exited();
    next.pass(2);
    next.spawned();
    for tick in 0..60 {
        let heard = beat(&next, HTTP, tick);
        next.second(heard);
    }
    let healed = next.told().iter().filter(|n| matches!(n.story, Story::ExitHealed { .. })).count();
    assert_eq!(healed, 1, "{:?}", next.told());
}

#[test]
fn the_first_beat_after_a_long_step_is_taken_for_a_disagreement() {
    let mut hand = ByHand::running(with_beats(vec![BeatPlan::Notify, service().beats[0].clone()]));
    let generation = hand.generation();
    hand.see(Observation::AskedForTime { generation, extend: 60 * SECOND });
    hand.pass(58);
    for tick in 0..20 {
        let heard = beat(&hand, NOTIFY, tick);
        hand.second(heard);
        let heard = beat(&hand, HTTP, 100 + tick);
        hand.see(heard);
    }
    assert_eq!(hand.told().len(), 0, "{:?}", hand.told());
}

#[test]
fn a_second_report_of_an_adoption_revives_the_dead() {
    let mut plan = service();
    plan.beats.clear();
    plan.restart.first = 60 * SECOND;
    let mut hand = ByHand::new(plan);
    hand.spawned();
    hand.exited();
    hand.adopted(1);
    assert_eq!(hand.engine.living(), [], "that run has ended");
}

#[test]
fn a_beat_at_half_the_deadline_as_sd_notify_asks_for_floods_the_journal() {
    // WATCHDOG_USEC is the deadline, and the protocol says: beat at half of it.
    let mut hand = ByHand::running(with_beats(vec![BeatPlan::Notify]));
    for tick in 0..100 {
        hand.pass(4);
        let heard = beat(&hand, NOTIFY, tick);
        hand.second(heard);
    }
    let judged = hand.count(|what| matches!(what, What::Judged { .. }));
    assert!(judged <= 4, "{judged} verdicts in a hundred ordinary beats");
    let captures = hand.log.iter().filter(|command| matches!(command, Command::Capture { .. })).count();
    assert!(captures <= 4, "{captures} captures of a healthy program");
}

#[test]
fn a_ready_that_is_said_without_a_socket_is_half_a_tick() {
    // It used to close the incident and forget the spell, while the age went on.
    let mut hand = ByHand::running(service());
    hand.hang(15);
    let opened = hand.engine.open_incidents();
    assert_eq!(opened.len(), 1);
    let generation = hand.generation();
    hand.see(Observation::SaidReady { generation });
    assert_eq!(hand.engine.open_incidents(), opened, "its beat is http, and http is silent");
}

fn seconds_until_kill(
    hand: &mut ByHand,
    mut each: impl FnMut(&ByHand) -> Option<Observation>,
) -> Option<u64> {
    (1..=60).find(|_| {
        match each(hand) {
            Some(seen) => hand.second(seen),
            None => hand.pass(1),
        }
        hand.count(|what| matches!(what, What::KillDecided { .. })) > 0
    })
}

#[test]
fn a_first_tick_after_bare_beats_is_a_sign_of_life() {
    let mut hand = ByHand::running(with_beats(vec![BeatPlan::Notify]));
    hand.pass(8);
    let Observation::Beat { generation, mut beat } = beat(&hand, NOTIFY, 0) else { unreachable!() };
    beat.tick = Some(7);
    hand.second(Observation::Beat { generation, beat });
    assert_eq!(seconds_until_kill(&mut hand, |_| None), Some(20));
}

#[test]
fn a_check_that_says_no_or_hangs_is_silence_and_one_that_cannot_be_run_is_not() {
    let exec = horus_core::plan::ExecBeat {
        command: vec!["check".into()],
        every: SECOND,
        timeout: SECOND,
        seq: false,
    };
    for (fault, killed) in
        [(ProbeFault::NoAnswer, Some(20)), (ProbeFault::NotABeat, Some(20)), (ProbeFault::NoPath, None)]
    {
        let mut hand = ByHand::new(with_beats(vec![BeatPlan::Exec(exec.clone())]));
        hand.spawned();
        for _ in 0..3 {
            let Observation::Beat { generation, mut beat } = beat(&hand, HTTP, 0) else { unreachable!() };
            (beat.source, beat.tick) = (BeatKind::Exec, None);
            hand.second(Observation::Beat { generation, beat });
        }
        let heard = |hand: &ByHand| {
            let (generation, source) = (hand.generation(), BeatKind::Exec);
            Some(Observation::NoBeat { generation, source, fault, detail: "exit status 1".into() })
        };
        assert_eq!(seconds_until_kill(&mut hand, heard), killed, "{fault:?}");
    }
}

#[test]
fn a_file_that_nobody_writes_is_silence_and_one_that_is_gone_is_a_broken_path() {
    let file = horus_core::plan::FileBeat {
        path: "/run/bot.beat".into(),
        every: SECOND,
        look_at: horus_core::plan::FileTick::Mtime,
    };
    for (gone, killed) in [(false, Some(20)), (true, None)] {
        let mut hand = ByHand::new(with_beats(vec![BeatPlan::File(file.clone())]));
        hand.spawned();
        let written = |hand: &ByHand, tick| {
            let Observation::Beat { generation, mut beat } = beat(hand, HTTP, tick) else { unreachable!() };
            beat.source = BeatKind::File;
            Observation::Beat { generation, beat }
        };
        for tick in 1..=3 {
            let seen = written(&hand, tick);
            hand.second(seen);
        }
        let heard = |hand: &ByHand| {
            let (generation, source, fault) = (hand.generation(), BeatKind::File, ProbeFault::NoPath);
            let missing = Observation::NoBeat { generation, source, fault, detail: "no such file".into() };
            Some(if gone { missing } else { written(hand, 3) })
        };
        assert_eq!(seconds_until_kill(&mut hand, heard), killed, "gone: {gone}");
    }
}

#[test]
fn a_prober_that_is_broken_excuses_only_those_whom_it_asks() {
    use horus_core::observation::HostObservation;
    for (beats, killed) in [(vec![BeatPlan::Notify], Some(20)), (service().beats, None)] {
        let mut hand = ByHand::running(with_beats(beats));
        let said = |hand: &ByHand| {
            hand.told().iter().filter(|notice| matches!(notice.story, Story::CommonCause { .. })).count()
        };
        hand.step(Input::Host(HostObservation::Canary { fault: Some("no answer in 2 s".into()) }));
        assert_eq!(said(&hand), 1);
        let heard = |hand: &ByHand| Some(miss(hand, ProbeFault::NoAnswer));
        assert_eq!(seconds_until_kill(&mut hand, heard), killed);
        hand.step(Input::Host(HostObservation::Canary { fault: Some("no answer in 2 s, still".into()) }));
        assert_eq!(said(&hand), 1, "once");
    }
}

fn verdict(hand: &ByHand) -> horus_core::verdict::Verdict {
    hand.engine.status(hand.now).services[0].verdict
}

fn told_of_its_path(hand: &ByHand) -> Vec<String> {
    let told = hand.told().into_iter().filter_map(|notice| match &notice.story {
        Story::ProbePath { heard, .. } => Some(heard.clone()),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_page_whose_tick_never_moves_is_told_of_while_another_source_beats() {
    for (answers_for, told) in [(600, 1), (1, 0)] {
        let mut hand = ByHand::new(with_beats(vec![BeatPlan::Notify, service().beats[0].clone()]));
        hand.spawned();
        for second in 0..120 {
            let heard = beat(&hand, NOTIFY, 0);
            hand.second(heard);
            if second < answers_for {
                let heard = beat(&hand, HTTP, 7);
                hand.see(heard);
            }
        }
        let said = told_of_its_path(&hand);
        assert_eq!(said.len(), told, "a page that does not answer any more says nothing: {said:?}");
        assert!(said.iter().all(|heard| heard.contains("tick never moved from 7")), "{said:?}");
        assert_eq!(hand.signals(), 0);
    }
}

#[test]
fn a_pushed_tick_that_stands_still_is_a_lie_and_one_that_does_not_come_is_silence() {
    use horus_core::verdict::Verdict;
    for (pushes, called) in [(true, Verdict::Lying), (false, Verdict::Silent)] {
        let mut hand = ByHand::new(with_beats(vec![BeatPlan::Notify]));
        hand.spawned();
        let ticked = |hand: &ByHand, tick| {
            let Observation::Beat { generation, mut beat } = beat(hand, NOTIFY, 0) else { unreachable!() };
            beat.tick = Some(tick);
            Observation::Beat { generation, beat }
        };
        for tick in 1..=3 {
            let heard = ticked(&hand, tick);
            hand.second(heard);
        }
        for _ in 0..12 {
            let heard = ticked(&hand, 3);
            if pushes { hand.second(heard) } else { hand.pass(1) }
        }
        assert_eq!(verdict(&hand), called);
    }
}

#[test]
fn what_cannot_be_reached_is_told_of_at_twice_the_deadline_and_not_before() {
    let mut hand = ByHand::running(service());
    for (seconds, told) in [(19, 0), (2, 1), (600, 1)] {
        for _ in 0..seconds {
            let heard = miss(&hand, ProbeFault::NoPath);
            hand.second(heard);
        }
        assert_eq!(told_of_its_path(&hand).len(), told);
    }
}

#[test]
fn who_answered_once_over_a_still_tick_and_then_hangs_is_silent() {
    use horus_core::verdict::Verdict;
    let mut hand = ByHand::running(service());
    let still = beat(&hand, HTTP, 2);
    hand.second(still);
    hand.hang(12);
    assert_eq!(verdict(&hand), Verdict::Silent);
}
