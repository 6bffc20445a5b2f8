//! The judge against an enemy: each test is named after a fault that a reader could build into it, and one lets a random
//! world (late, lying, repeated and reordered observations, impatient people, changing plans) loose on the engine and
//! checks the guarantees after every step.

#[expect(dead_code, reason = "the rig is shared; this file drives the engine by hand for the most part")]
mod rig;

#[path = "hostile/by_hand.rs"]
mod by_hand;
#[path = "hostile/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use by_hand::{ByHand, beat, busy, miss, monitor, monitor_plan, notify_and_http, ticket_of};
use horus_core::command::{Answer, Command, Memory};
use horus_core::event::What;
use horus_core::ids::Generation;
use horus_core::notice::{IncidentKind, Story};
use horus_core::observation::{
    CaptureStage, Declared, Exit, Input, Observation, OperatorRequest, ProbeFault,
};
use horus_core::plan::{BeatKind, BeatPlan, Mode, RestartOn, Severity, ValuePlan};
use rig::{Doing, Rig, SECOND, name, service};

const HTTP: BeatKind = BeatKind::Http;
const NOTIFY: BeatKind = BeatKind::Notify;
const HOUR: Duration = Duration::from_secs(3600);

fn start() -> OperatorRequest {
    OperatorRequest::Start(name("bot"))
}

fn hold(stop: bool) -> OperatorRequest {
    OperatorRequest::Hold { service: name("bot"), reason: "debugging".into(), expires_in: None, stop }
}

// --- (6) due times: spinning, sleeping through ---

#[test]
fn a_monitor_that_stays_down_makes_the_daemon_spin() {
    let mut hand = ByHand::new(service());
    hand.change(|plan| drop(plan.monitors.insert(monitor(), monitor_plan())));
    for _ in 0..20 {
        hand.now = hand.now + SECOND;
        hand.monitor_down();
    }
    assert!(hand.engine.next_deadline().is_none_or(|due| due > hand.now), "due in the past after its look");
}

#[test]
fn a_monitor_that_stays_down_excuses_every_hang_as_own_lateness() {
    let mut hand = ByHand::running(service());
    hand.change(|plan| drop(plan.monitors.insert(monitor(), monitor_plan())));
    for second in 0..120 {
        hand.now = hand.now + SECOND;
        hand.monitor_down();
        let fine = second < 20;
        let heard = if fine { beat(&hand, HTTP, 100 + second) } else { miss(&hand, ProbeFault::NoAnswer) };
        hand.see(heard);
    }
    assert_eq!(hand.count(|what| matches!(what, What::OwnLateness { .. })), 0, "nobody was late");
    assert_eq!(hand.count(|what| matches!(what, What::KillDecided { .. })), 1);
}

#[test]
fn a_stop_soon_after_the_start_of_a_beatless_service_spins() {
    let mut plan = service();
    plan.beats.clear();
    plan.stop.grace = 60 * SECOND;
    let mut hand = ByHand::new(plan);
    hand.spawned();
    hand.ask(OperatorRequest::Stop(name("bot")));
    hand.pass(10);
    assert!(hand.engine.next_deadline().is_some_and(|due| due > hand.now), "due in the past after its look");
}

// --- (1) healthy programs that are signalled ---

#[test]
fn a_source_that_never_beat_turns_a_firewalled_probe_into_a_kill() {
    // heartbeat.log whose pattern never matched beside heartbeat.http whose path gets blocked: the program is healthy.
    let mut plan = service();
    plan.beats.push(BeatPlan::Log(horus_core::plan::LogBeat { pattern: "never".into() }));
    let mut hand = ByHand::running(plan);
    for _ in 0..600 {
        let heard = miss(&hand, ProbeFault::NoPath);
        hand.second(heard);
    }
    assert_eq!(hand.signals(), 0);
}

#[test]
fn an_adopted_program_whose_beat_was_changed_meanwhile_is_killed() {
    // Horus is stopped, the file is edited from http to notify, Horus starts: the program has no socket to beat on.
    let memory = ByHand::running(service()).memory();
    let mut plan = service();
    plan.beats = vec![BeatPlan::Notify];
    let mut hand = ByHand::with_memory(plan, memory, 10 * SECOND);
    hand.adopt_and_reconcile(1);
    hand.pass(600);
    assert_eq!(hand.signals(), 0);
}

#[test]
fn a_manually_started_service_is_stopped_when_horus_restarts() {
    let mut plan = service();
    plan.autostart = false;
    let mut hand = ByHand::new(plan.clone());
    hand.ask(start());
    hand.spawned();
    let (one, two) = (beat(&hand, HTTP, 1), beat(&hand, HTTP, 2));
    hand.second(one);
    hand.second(two);
    let mut next = ByHand::with_memory(plan, hand.memory(), SECOND);
    next.adopt_and_reconcile(1);
    assert_eq!(next.signals(), 0, "the next Horus adopts it");
}

#[test]
fn a_long_step_that_is_declared_after_the_verdict_does_not_save() {
    for ask in [
        Observation::AskedForTime { generation: Generation(1), extend: 600 * SECOND },
        busy(Generation(1), 2, 600 * SECOND),
    ] {
        let mut hand = ByHand::running(service());
        hand.auto = false;
        hand.hang(21);
        assert_eq!(hand.count(|what| matches!(what, What::KillDecided { .. })), 1);
        hand.see(ask);
        hand.auto = true;
        hand.answer_captures();
        hand.pass(30);
        assert_eq!(hand.signals(), 0, "it asked for time before anything was touched");
    }
}

#[test]
fn a_long_step_is_used_up_while_horus_is_suspended() {
    let mut hand = ByHand::running(notify_and_http(&[BeatPlan::Notify]));
    hand.see(Observation::AskedForTime { generation: Generation(1), extend: 60 * SECOND });
    hand.pass(1);
    hand.now = hand.now + 300 * SECOND;
    hand.step(Input::Wake);
    hand.pass(5);
    assert_eq!(hand.count(|what| matches!(what, What::KillDecided { .. })), 0, "55 s of its minute are left");
}

#[test]
fn a_program_that_halted_itself_is_killed_and_started_again() {
    let mut hand = ByHand::running(service());
    let halted = |hand: &ByHand| {
        let Observation::Beat { generation, mut beat } = beat(hand, HTTP, 2) else { unreachable!() };
        beat.declared = Some(Declared::Halted);
        Observation::Beat { generation, beat }
    };
    for _ in 0..120 {
        let heard = halted(&hand);
        hand.second(heard);
    }
    assert_eq!(hand.signals(), 0, "halted is never restarted");
}

#[test]
fn a_shortened_deadline_is_held_against_the_past() {
    // Legal under the old deadline of 60 s; the new one has not had its time yet.
    let mut plan = service();
    plan.deadline = 60 * SECOND;
    plan.beats = vec![BeatPlan::Notify];
    let mut hand = ByHand::running(plan);
    hand.pass(29);
    hand.change(|plan| plan.services.get_mut("bot").unwrap().deadline = 10 * SECOND);
    hand.pass(5);
    assert_eq!(hand.count(|what| matches!(what, What::KillDecided { .. })), 0);
}

#[test]
fn a_sentence_outlives_the_switch_to_observe_mode() {
    for global in [true, false] {
        let mut hand = ByHand::running(service());
        hand.auto = false;
        hand.hang(21);
        hand.change(|plan| {
            plan.daemon.mode = if global { Mode::Observe } else { Mode::Enforce };
            plan.services.get_mut("bot").unwrap().observe = !global;
        });
        hand.auto = true;
        hand.answer_captures();
        hand.pass(60);
        assert_eq!(hand.signals(), 0, "in observe mode nothing is ever signalled (global: {global})");
    }
}

#[test]
fn a_stray_confirmation_signals_before_the_evidence() {
    let mut hand = ByHand::running(service());
    hand.auto = false;
    hand.hang(21);
    let incident = hand.engine.open_incidents()[0];
    hand.step(Input::IncidentStored { incident, persisted: true });
    assert_eq!(hand.signals(), 0, "no evidence, no alert yet");
}

// --- (2) kill loops ---

#[test]
fn silence_is_taken_for_proof() {
    // The patience doubles, `prove` does not: with a fifth kill allowed, one tick and a long silence "prove" the cure.
    let mut plan = service();
    plan.deadline = 60 * SECOND;
    plan.kills.limit = 6;
    plan.kills.prove = 600 * SECOND;
    let mut rig = Rig::new(&[("bot", plan, |age| if age <= 3 { Doing::Ticks } else { Doing::Hangs })]);
    rig.run(24 * 3600);
    assert_eq!(rig.count(|what| matches!(what, What::Proven { .. })), 0, "three ticks are no proof");
    assert!(rig.kills() <= 6 + 4, "{}", rig.kills());
}

#[test]
fn a_night_of_suspension_is_taken_for_proof() {
    let mut hand = ByHand::running(service());
    hand.hang(25);
    hand.exited_and_started_again();
    let (one, two) = (beat(&hand, HTTP, 1), beat(&hand, HTTP, 2));
    hand.second(one);
    hand.second(two);
    hand.now = hand.now + 8 * HOUR;
    hand.step(Input::Wake);
    assert_eq!(hand.count(|what| matches!(what, What::Proven { .. })), 0, "nobody saw it tick");
}

#[test]
fn the_breaker_opens_and_kills_in_the_same_breath() {
    // `daily` opens it hours after the last kill; the retry is then due at once.
    let mut plan = service();
    plan.kills.daily = 1;
    let mut hand = ByHand::running(plan);
    hand.hang(25);
    hand.exited_and_started_again();
    for tick in 0..7 * 3600 {
        let heard = beat(&hand, HTTP, tick);
        hand.second(heard);
    }
    let before = hand.signals();
    hand.hang(60);
    assert_eq!(hand.count(|what| matches!(what, What::BreakerOpened { .. })), 1);
    assert_eq!(hand.signals(), before, "the alert says that it is left alone");
}

#[test]
fn a_limit_of_no_kills_kills_at_once() {
    let mut plan = service();
    plan.kills.limit = 0;
    let mut hand = ByHand::running(plan);
    hand.hang(60);
    assert_eq!(hand.signals(), 0);
}

#[test]
fn proof_closes_the_breaker_that_the_daily_limit_opened_and_the_alert_comes_back_all_day() {
    let mut rig = Rig::new(&[("bot", service(), |age| if age <= 310 { Doing::Ticks } else { Doing::Hangs })]);
    rig.behaviour.insert(name("bot"), |age| if age % 350 <= 310 { Doing::Ticks } else { Doing::Hangs });
    rig.run(24 * 3600);
    let told = rig.stories().iter().filter(|story| matches!(story, Story::BreakerOpen { .. })).count();
    assert!(told <= 5, "told {told} times");
}

#[test]
fn resuming_again_and_again_is_a_kill_loop() {
    let mut rig = Rig::new(&[("bot", service(), |age| if age <= 3 { Doing::Ticks } else { Doing::Hangs })]);
    for _ in 0..24 * 6 {
        rig.run(600);
        rig.ask(OperatorRequest::Resume { service: name("bot"), reason: None });
    }
    assert!(rig.kills() <= 24 + 4, "{} kills in a day, `daily` is 24", rig.kills());
}

#[test]
fn leaving_and_rejoining_the_plan_forgets_ledgers_hold_and_generation() {
    let mut hand = ByHand::running(service());
    hand.hang(25);
    hand.exited_and_started_again();
    hand.ask(hold(true));
    hand.exited();
    let generation = hand.generation();
    let old = hand.plan.clone();
    hand.change(|plan| plan.services.clear());
    let starts = hand.starts();
    hand.change(|plan| *plan = old);
    assert_eq!(hand.starts(), starts, "a hold survives a reload");
    assert!(hand.generation() >= generation, "generations never repeat");
    assert_eq!(hand.engine.status(hand.now).services[0].kills_unproven, 1);
}

#[test]
fn rejoining_while_it_stops_starts_what_a_person_stopped() {
    let mut hand = ByHand::running(service());
    hand.ask(OperatorRequest::Stop(name("bot")));
    let old = hand.plan.clone();
    hand.change(|plan| plan.services.clear());
    hand.change(|plan| *plan = old);
    let starts = hand.starts();
    hand.exited();
    assert_eq!(hand.starts(), starts);
}

// --- (3) hangs never seen, phases without an end, tickets without an answer ---

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

// --- (4) words ---

#[test]
fn after_a_failed_probation_the_last_word_is_healed() {
    let mut rig = Rig::new(&[("bot", service(), |age| if age <= 20 { Doing::Ticks } else { Doing::Hangs })]);
    rig.run(8 * 3600);
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

// --- (5) floods and extremes ---

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

// --- second round ---

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
