//! A start that is refused because somebody else holds a lock: nobody's fault, told once, tried again.

#[expect(dead_code, reason = "shared with the tests that are hostile")]
#[path = "hostile/by_hand.rs"]
mod by_hand;
#[expect(dead_code, reason = "shared with the other tests")]
mod rig;

use by_hand::{ByHand, ticket_of};
use horus_core::command::{Answer, Command};
use horus_core::event::What;
use horus_core::ids::Generation;
use horus_core::observation::{Exit, Input, Observation, OperatorRequest};
use horus_core::plan::ServicePlan;
use horus_core::verdict::Verdict;
use rig::{name, service};

const WAITS: &str = "waits for repo:/srv/app, held by service web of horus pid 4711";

fn blocked(hand: &mut ByHand, by: &str) {
    let (generation, by) = (hand.generation(), by.to_owned());
    hand.see(Observation::Blocked { generation, by });
}

/// Asked for its start and refused.
fn waiting(plan: ServicePlan) -> ByHand {
    let mut hand = ByHand::new(plan);
    blocked(&mut hand, WAITS);
    hand
}

fn seen(hand: &ByHand) -> (String, Verdict, String) {
    let status = hand.engine.status(hand.now).services.remove(0);
    (status.phase, status.verdict, status.because)
}

#[test]
fn waiting_for_a_lock_is_no_failure_and_is_told_once() {
    let mut hand = waiting(service());
    let expected = ("waiting".to_owned(), Verdict::Down, WAITS.to_owned());
    for _ in 0..1000 {
        assert_eq!(seen(&hand), expected);
        let starts = hand.starts();
        hand.pass(2);
        assert_eq!(hand.starts(), starts + 1, "asked every two seconds");
        blocked(&mut hand, WAITS);
    }
    assert_eq!(hand.generation(), Generation(1), "a refused run never was");
    assert_eq!(hand.count(|what| matches!(what, What::StartAsked { .. })), 1);
    assert_eq!(hand.count(|what| matches!(what, What::Delayed { .. })), 1);
    // The first try told "starting" and that it is not.
    assert_eq!(hand.count(|what| matches!(what, What::Judged { .. })), 2);
    assert_eq!((hand.memory().exits_unproven, hand.engine.open_incidents()), (0, vec![]));
    hand.pass(2);
    hand.spawned();
    assert_eq!(hand.engine.status(hand.now).services[0].pid, Some(100));
    // What comes after it is counted anew.
    hand.exited();
    assert_eq!((hand.generation(), hand.memory().exits_unproven), (Generation(2), 1));
}

#[test]
fn another_holder_is_told_of() {
    let mut hand = waiting(service());
    hand.pass(2);
    let other = WAITS.replace("4711", "815");
    blocked(&mut hand, &other);
    assert_eq!(seen(&hand).2, other);
    assert_eq!(hand.count(|what| matches!(what, What::Delayed { .. })), 2);
}

#[test]
fn a_tree_that_ends_is_reason_to_ask_at_once() {
    let mut hand = waiting(service());
    hand.change(|plan| drop(plan.services.insert(name("web"), service())));
    let web = |observation| Input::Service(name("web"), observation);
    let starts = hand.starts();
    let generation = Generation(1);
    let process = horus_core::ids::ProcessId { pid: 200, start_time: 2 };
    hand.step(web(Observation::Spawned(horus_core::ids::Instance { generation, process })));
    hand.step(web(Observation::Exited { generation, exit: Exit::Code(0), strays: 0 }));
    let bots =
        |command: &Command| matches!(command, Command::Start { service, .. } if *service == name("bot"));
    assert!(hand.log.iter().rev().take(8).any(bots), "{:?}", hand.log);
    assert_eq!(hand.starts(), starts + 2, "each of them once");
}

#[test]
fn a_person_is_answered_and_a_hold_outranks_the_wait() {
    let mut hand = waiting(service());
    let ticket = hand.ask(OperatorRequest::Start(name("bot")));
    blocked(&mut hand, WAITS);
    let Some(Answer::Failed(why)) = ticket_of(&hand, ticket) else { panic!("{:?}", hand.log) };
    assert!(why.contains(WAITS), "{why}");
    let (service, reason) = (name("bot"), "debugging".to_owned());
    hand.ask(OperatorRequest::Hold { service, reason, expires_in: None, stop: false });
    let starts = hand.starts();
    hand.pass(60);
    assert_eq!((hand.starts(), seen(&hand).1), (starts, Verdict::Held));
}

#[test]
fn a_keeper_that_is_lost_meanwhile_may_have_used_the_run_number() {
    let mut hand = waiting(service());
    hand.pass(2);
    hand.step(Input::KeeperLost);
    hand.see(Observation::StartLost { generation: Generation(1) });
    hand.pass(10);
    hand.step(Input::Reconciled);
    assert_eq!(hand.generation(), Generation(2));
}
