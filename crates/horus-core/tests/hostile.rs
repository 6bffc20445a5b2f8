//! The judge against an enemy: each test is named after a fault that a reader could build into it, and one lets a random
//! world (late, lying, repeated and reordered observations, impatient people, changing plans) loose on the engine and
//! checks the guarantees after every step.

#[expect(dead_code, reason = "the rig is shared; this file drives the engine by hand for the most part")]
mod rig;

#[path = "hostile/by_hand.rs"]
mod by_hand;
#[path = "hostile/hangs.rs"]
mod hangs;
#[path = "hostile/memories.rs"]
mod memories;
#[path = "hostile/plans.rs"]
mod plans;
#[path = "hostile/runs.rs"]
mod runs;
#[path = "hostile/sources.rs"]
mod sources;
#[path = "hostile/wakes.rs"]
mod wakes;
#[path = "hostile/words.rs"]
mod words;
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
    let said = hand.told().iter().any(|notice| matches!(notice.story, Story::BreakerOpen { kills: 1, .. }));
    assert!(said, "one restart in this day, and that was proven: {:?}", hand.told());
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
