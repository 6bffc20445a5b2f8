//! Units that somebody else starts: judged like services, ended by their manager, and left to whoever has the right to stop them.

#[expect(dead_code, reason = "shared with the tests that are hostile")]
#[path = "hostile/by_hand.rs"]
mod by_hand;
#[expect(dead_code, reason = "shared with the other tests")]
mod rig;

use std::time::Duration;

use by_hand::{ByHand, beat, ticket_of};
use horus_core::command::{Answer, Command};
use horus_core::event::What;
use horus_core::foreign::{Owner, Unit, UnitManager, UnitScope};
use horus_core::ids::{Generation, Instance, ProcessId};
use horus_core::notice::{IncidentKind, Story};
use horus_core::observation::{Exit, Input, Observation, OperatorRequest, UnitState};
use horus_core::plan::{BeatKind, ServicePlan};
use rig::{name, service};

fn unit() -> ServicePlan {
    let unit = Unit { manager: UnitManager::Systemd, scope: UnitScope::System, name: "db.service".into() };
    let mut plan = ServicePlan { owner: Owner::Unit(unit), ..service() };
    plan.stop.grace = Duration::from_secs(100);
    plan
}

fn watched() -> ServicePlan {
    ServicePlan { observe: true, ..unit() }
}

fn instance(number: u64) -> Instance {
    let pid = i32::try_from(100 + number).unwrap_or(100);
    Instance { generation: Generation(number), process: ProcessId { pid, start_time: number } }
}

/// Found running, and its tick was seen to move.
fn running(plan: ServicePlan) -> ByHand {
    let mut hand = ByHand::new(plan);
    assert_eq!(hand.starts(), 0, "how it stands was not known yet");
    hand.see(Observation::Adopted(instance(1)));
    ticks(&mut hand, 5);
    hand
}

fn ticks(hand: &mut ByHand, seconds: u64) {
    for _ in 0..seconds {
        let seconds_of_all = hand.now.since(horus_core::time::Mono::default()).as_secs();
        let heard = beat(hand, BeatKind::Http, seconds_of_all);
        hand.second(heard);
    }
}

fn rests(hand: &mut ByHand, state: UnitState) {
    hand.see(Observation::Unit { state });
}

fn failed() -> UnitState {
    UnitState::Failed { how: "exit-code".into() }
}

fn seen(hand: &ByHand) -> (String, String) {
    let status = hand.engine.status(hand.now).services.remove(0);
    (status.phase, status.because)
}

/// The orders for its manager, in their order.
fn orders(hand: &ByHand) -> Vec<&str> {
    let orders = hand.log.iter().filter_map(|command| match command {
        Command::Signal { signal, .. } => Some(signal.as_str()),
        Command::KillTree { .. } => Some("kill"),
        Command::Start { .. } => Some("start"),
        _ => None,
    });
    orders.collect()
}

fn downs(hand: &ByHand) -> usize {
    hand.told().iter().filter(|notice| matches!(notice.story, Story::MonitorDown { .. })).count()
}

#[test]
fn invariant_g4_a_unit_that_hangs_is_restarted_by_its_manager_after_evidence_and_alert() {
    let mut hand = running(unit());
    hand.hang(25);
    assert_eq!(orders(&hand), ["restart"]);
    let place = |wanted: &dyn Fn(&Command) -> bool| hand.log.iter().position(wanted);
    let evidence = place(&|it| matches!(it, Command::Capture { .. }));
    let confirmed = place(&|it| matches!(it, Command::Confirm { .. }));
    let signal = place(&|it| matches!(it, Command::Signal { .. }));
    assert!(evidence < confirmed && confirmed < signal, "{evidence:?} {confirmed:?} {signal:?}");
    hand.ended(Exit::Signal(15));
    assert_eq!(orders(&hand), ["restart", "start"], "which its manager is at already");
    hand.see(Observation::Spawned(instance(2)));
    ticks(&mut hand, 3);
    assert!(hand.told().iter().any(|notice| matches!(notice.story, Story::StuckHealed { .. })));
    assert_eq!((seen(&hand).0.as_str(), hand.memory().kills_unproven), ("running", 1));
}

#[test]
fn invariant_g2_a_unit_that_hangs_again_and_again_opens_the_breaker() {
    let mut hand = running(unit());
    for run in 2..20 {
        hand.hang(200);
        if !matches!(seen(&hand).0.as_str(), "stopping") {
            break;
        }
        hand.ended(Exit::Signal(15));
        hand.see(Observation::Spawned(instance(run)));
        ticks(&mut hand, 3);
    }
    assert_eq!(orders(&hand).iter().filter(|order| **order == "restart").count(), 3);
    assert_eq!(hand.count(|what| matches!(what, What::BreakerOpened { .. })), 1);
}

#[test]
fn a_unit_that_somebody_else_stopped_is_told_once_and_left_so() {
    let mut hand = running(unit());
    hand.ended(Exit::Signal(15));
    assert_eq!(seen(&hand).0, "waiting", "its manager has the next word");
    for _ in 0..100 {
        rests(&mut hand, UnitState::Stopped);
        hand.pass(20);
    }
    assert_eq!((orders(&hand).len(), downs(&hand)), (0, 1));
    assert!(seen(&hand).1.contains("db.service is inactive"), "{:?}", seen(&hand));
    assert_eq!(hand.memory().exits_unproven, 0, "an end that was asked for is no fault");
    // Whoever starts it again has the right to; nobody stops it.
    hand.see(Observation::Adopted(instance(2)));
    ticks(&mut hand, 3);
    assert_eq!((seen(&hand).0.as_str(), orders(&hand).len()), ("running", 0));
    assert!(hand.engine.open_incidents().is_empty());
}

#[test]
fn what_its_own_manager_restarts_is_not_restarted_by_us() {
    let mut hand = running(unit());
    for run in 2..4 {
        hand.ended(Exit::Code(1));
        rests(&mut hand, UnitState::Returning);
        hand.pass(60);
        assert_eq!(seen(&hand).0, "waiting");
        hand.see(Observation::Adopted(instance(run)));
        ticks(&mut hand, 3);
    }
    assert_eq!((orders(&hand).len(), downs(&hand)), (0, 0));
    assert_eq!(hand.memory().exits_unproven, 2, "its ends are counted");
    assert_eq!(seen(&hand).0, "running");
}

#[test]
fn one_that_its_manager_gave_up_is_started_by_ever_rarer_tries() {
    let mut hand = running(unit());
    hand.ended(Exit::Code(1));
    rests(&mut hand, failed());
    hand.pass(2);
    assert_eq!(orders(&hand), ["start"]);
    for _ in 0..8 {
        let generation = hand.generation();
        hand.see(Observation::SpawnFailed { generation, error: "Access denied".into() });
        rests(&mut hand, failed());
        hand.pass(600);
    }
    let told = hand.told().iter().filter(|it| matches!(it.story, Story::StartFailed { .. })).count();
    assert_eq!((orders(&hand).len(), told), (9, 1), "one try in at most five minutes, told once");
    hand.pass(290);
    assert_eq!(orders(&hand).len(), 9, "no second start while the first is not answered");
}

#[test]
fn invariant_g9_a_unit_that_is_only_watched_is_never_touched() {
    let mut hand = running(watched());
    hand.hang(100);
    assert_eq!(orders(&hand).len(), 0);
    assert!(hand.told().iter().any(|it| matches!(it.story, Story::StuckObserved { .. })));
    hand.ended(Exit::Code(1));
    rests(&mut hand, failed());
    hand.pass(1000);
    assert_eq!((orders(&hand).len(), downs(&hand)), (0, 1));
}

#[test]
fn a_manager_that_refuses_is_asked_three_times_and_told_of() {
    let mut hand = running(unit());
    for _ in 0..400 {
        hand.hang(5);
        if seen(&hand).0 == "stopping" {
            let generation = hand.generation();
            hand.see(Observation::SignalFailed { generation, error: "Access denied".into() });
            assert_eq!(seen(&hand).0, "running", "nothing was touched");
        }
    }
    assert_eq!(orders(&hand), ["restart"; 3], "no storm");
    let because = |story: &Story| matches!(story, Story::StuckObserved { because, .. } if because.contains("Access denied"));
    assert!(hand.told().iter().any(|it| because(&it.story)), "{:#?}", hand.told());
    // A person who asks hears it, too.
    let ticket = hand.ask(OperatorRequest::Stop(name("bot")));
    let generation = hand.generation();
    hand.see(Observation::SignalFailed { generation, error: "Access denied".into() });
    assert!(matches!(ticket_of(&hand, ticket), Some(Answer::Failed(why)) if why.contains("Access denied")));
    assert_eq!(seen(&hand).0, "running");
}

#[test]
fn invariant_g5_a_unit_that_is_held_is_not_touched_and_what_we_stopped_comes_back_with_the_resume() {
    let mut hand = running(unit());
    let hold =
        |stop| OperatorRequest::Hold { service: name("bot"), reason: "work".into(), expires_in: None, stop };
    hand.ask(hold(false));
    hand.hang(100);
    assert_eq!(orders(&hand).len(), 0);
    let ticket = hand.ask(hold(true));
    assert_eq!(orders(&hand), ["stop"]);
    hand.ended(Exit::Signal(15));
    rests(&mut hand, UnitState::Stopped);
    assert!(matches!(ticket_of(&hand, ticket), Some(Answer::Done(_))));
    hand.pass(100);
    assert_eq!((orders(&hand).len(), downs(&hand)), (1, 0));
    hand.ask(OperatorRequest::Resume { service: name("bot"), reason: None });
    assert_eq!(orders(&hand), ["stop", "start"]);
}

#[test]
fn a_person_starts_stops_and_restarts_it_through_its_manager() {
    let mut hand = ByHand::new(unit());
    rests(&mut hand, UnitState::Stopped);
    let start = hand.ask(OperatorRequest::Start(name("bot")));
    assert_eq!(orders(&hand), ["start"]);
    hand.spawned();
    ticks(&mut hand, 3);
    assert!(matches!(ticket_of(&hand, start), Some(Answer::Done(_))));
    hand.ask(OperatorRequest::Restart(name("bot")));
    hand.ended(Exit::Unknown);
    hand.spawned();
    ticks(&mut hand, 3);
    let stop = hand.ask(OperatorRequest::Stop(name("bot")));
    hand.ended(Exit::Unknown);
    rests(&mut hand, UnitState::Stopped);
    hand.pass(100);
    assert!(matches!(ticket_of(&hand, stop), Some(Answer::Done(_))));
    assert_eq!(orders(&hand), ["start", "restart", "start", "stop"]);
    assert!(hand.engine.open_incidents().is_empty(), "what a person asked for is no fault");
    // Somebody who starts it past Horus is not fought.
    let next = hand.engine.next_generation(&name("bot")).0;
    hand.see(Observation::Adopted(instance(next)));
    ticks(&mut hand, 3);
    assert_eq!((seen(&hand).0.as_str(), orders(&hand).len()), ("running", 4));
}

#[test]
fn neither_the_end_of_horus_nor_of_its_plan_stops_a_unit() {
    let mut hand = running(unit());
    hand.step(Input::ShutDown);
    hand.pass(1);
    assert!(hand.log.contains(&Command::Finished), "nobody waits for it");
    assert_eq!(orders(&hand).len(), 0);

    let mut hand = running(unit());
    hand.change(|plan| plan.services.clear());
    hand.pass(100);
    assert_eq!(orders(&hand).len(), 0);
    assert!(hand.engine.status(hand.now).services.is_empty());
}

#[test]
fn the_next_horus_knows_the_same_run_again_and_hears_of_its_end() {
    let mut before = running(unit());
    before.pass(3);
    let (memory, elapsed) = (before.memory(), Duration::from_secs(5));
    assert_eq!(memory.unit.as_ref().and_then(|unit| unit.process), Some(instance(1).process));
    let mut hand = ByHand::with_memory(unit(), memory.clone(), elapsed);
    hand.step(Input::Reconciled);
    hand.see(Observation::Adopted(instance(1)));
    assert_eq!(seen(&hand).0, "running", "its ticks were seen before");
    assert_eq!(orders(&hand).len(), 0);

    let mut hand = ByHand::with_memory(unit(), memory, elapsed);
    hand.step(Input::Reconciled);
    assert_eq!(seen(&hand).0, "waiting");
    hand.see(Observation::Adopted(instance(1)));
    hand.ended(Exit::Unknown);
    rests(&mut hand, UnitState::Stopped);
    assert_eq!((orders(&hand).len(), downs(&hand)), (0, 1));
}

#[test]
fn a_keeper_that_is_lost_means_nothing_to_a_unit() {
    let mut hand = running(unit());
    hand.step(Input::KeeperLost);
    assert!(hand.engine.living().is_empty(), "the keeper has none of it");
    hand.hang(25);
    hand.ended(Exit::Signal(15));
    assert_eq!(orders(&hand), ["restart", "start"]);
}

#[test]
fn a_service_that_becomes_a_unit_is_stopped_first() {
    let mut hand = ByHand::running(service());
    hand.change(|plan| {
        plan.services.insert(name("bot"), unit());
    });
    assert_eq!(orders(&hand).last(), Some(&"SIGTERM"));
    assert!(!hand.engine.is_unit(&name("bot")));
    hand.exited();
    hand.pass(2);
    assert!(hand.engine.is_unit(&name("bot")), "now it is");
    let starts = hand.starts();
    let next = hand.engine.next_generation(&name("bot"));
    assert!(next > Generation(1), "run numbers go on");
    hand.see(Observation::Adopted(Instance { generation: next, ..instance(9) }));
    ticks(&mut hand, 3);
    assert_eq!((seen(&hand).0.as_str(), hand.starts()), ("running", starts));
    // And back.
    hand.change(|plan| {
        plan.services.insert(name("bot"), service());
    });
    hand.pass(2);
    assert_eq!(hand.starts(), starts + 1);
    assert_eq!(orders(&hand).iter().filter(|order| **order == "stop").count(), 0, "the unit goes on");
}

#[test]
fn a_unit_that_cannot_be_watched_is_told_once_with_its_reason() {
    let mut hand = ByHand::new(unit());
    for _ in 0..50 {
        rests(&mut hand, UnitState::Absent { why: "systemd knows no unit of that name".into() });
        hand.pass(60);
    }
    assert_eq!((orders(&hand).len(), downs(&hand)), (0, 1));
    assert!(seen(&hand).1.contains("knows no unit"));
    assert_eq!(
        hand.count(|what| matches!(what, What::IncidentOpened { kind: IncidentKind::MonitorDown, .. })),
        1
    );
}
