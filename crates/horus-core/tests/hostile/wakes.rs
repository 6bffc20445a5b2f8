//! Who is woken, and when: between two observations the engine lives by its own due times alone. Here nothing is heard, so that
//! whatever is missed is missed because nobody asked to be woken for it.

use horus_core::calendar::Calendar;
use horus_core::observation::HostObservation;
use horus_core::plan::{ExpectPlan, MaintenancePlan, ProgressPlan, ServicePlan};

use super::*;

/// More wakes than this before something happens are a fault.
const WAKES_BEFORE_MAX: usize = 10_000;

/// Sleeps from due time to due time until it has come about: after how long.
fn after(hand: &mut ByHand, come_about: impl Fn(&ByHand) -> bool) -> Duration {
    let (start, mut wakes) = (hand.now, 0);
    while !come_about(hand) {
        let due = hand.engine.next_deadline();
        assert!(due.is_some(), "nobody wants to be woken any more");
        hand.now = due.unwrap_or_default().max(hand.now);
        hand.step(Input::Wake);
        wakes += 1;
        assert!(wakes < WAKES_BEFORE_MAX, "it never came about");
    }
    hand.now.since(start)
}

/// Sleeps for so long: how often it was woken.
fn sleep(hand: &mut ByHand, time: Duration) -> usize {
    let (end, mut wakes) = (hand.now + time, 0);
    while let Some(due) = hand.engine.next_deadline().filter(|due| *due <= end) {
        hand.now = due.max(hand.now);
        hand.step(Input::Wake);
        wakes += 1;
        assert!(wakes < WAKES_BEFORE_MAX);
    }
    hand.now = end;
    wakes
}

fn happened(wanted: impl Fn(&What) -> bool) -> impl Fn(&ByHand) -> bool {
    move |hand| hand.count(&wanted) > 0
}

fn captured(hand: &ByHand, wanted: CaptureStage) -> bool {
    hand.log.iter().any(|command| matches!(command, Command::Capture { stage, .. } if *stage == wanted))
}

fn opened(kind: IncidentKind) -> impl Fn(&ByHand) -> bool {
    happened(move |what| matches!(what, What::IncidentOpened { kind: opened, .. } if *opened == kind))
}

/// Patient enough that its loop is in nobody's way.
fn patient() -> ServicePlan {
    ServicePlan { deadline: 12 * HOUR, ..service() }
}

fn with_work(plan: ServicePlan) -> ServicePlan {
    let work = ProgressPlan { counter: "filled".into(), stalled: 60 * SECOND };
    ServicePlan { progress: BTreeMap::from([("fills".to_owned(), work)]), ..plan }
}

#[test]
fn each_step_towards_a_restart_comes_at_its_time() {
    let mut hand = ByHand::running(service());
    let silent = miss(&hand, ProbeFault::NoAnswer);
    hand.see(silent);
    let start = hand.now;
    assert_eq!(after(&mut hand, |hand| captured(hand, CaptureStage::Early)), SECOND * 5 / 2);
    after(&mut hand, |hand| captured(hand, CaptureStage::Second));
    assert_eq!(hand.now.since(start), 5 * SECOND);
    after(&mut hand, opened(IncidentKind::Stuck));
    assert_eq!(hand.now.since(start), 10 * SECOND);
    after(&mut hand, happened(|what| matches!(what, What::KillDecided { .. })));
    assert_eq!(hand.now.since(start), 20 * SECOND);
}

#[test]
fn a_bound_of_a_value_is_noticed_although_nothing_is_heard() {
    let bound = 290 * SECOND;
    let value = ValuePlan { counter: "filled".into(), stale: bound, dead: Some(2 * bound) };
    let plan = ServicePlan { values: BTreeMap::from([("orders".to_owned(), value)]), ..patient() };
    let mut hand = ByHand::running(plan);
    let start = hand.now;
    let told = |count| move |hand: &ByHand| hand.told().len() >= count;
    let first = after(&mut hand, told(1));
    assert!(first <= bound && first + 5 * SECOND >= bound, "{first:?}");
    after(&mut hand, told(2));
    assert_eq!(hand.now.since(start), first + bound);
}

#[test]
fn an_empty_inventory_is_noticed_although_nothing_is_heard() {
    let slots = ExpectPlan { gauge: "slots".into(), min: 1.0, within: 120 * SECOND };
    let plan = ServicePlan { expects: BTreeMap::from([("slots".to_owned(), slots)]), ..patient() };
    let mut hand = ByHand::running(plan);
    let told = after(&mut hand, opened(IncidentKind::Expectation));
    assert!(told <= 120 * SECOND && told + 5 * SECOND >= 120 * SECOND, "{told:?}");
}

#[test]
fn a_hold_ends_when_it_was_to_end() {
    let mut hand = ByHand::running(service());
    let (reason, expires_in) = ("debugging".to_owned(), Some(60 * SECOND));
    hand.ask(OperatorRequest::Hold { service: name("bot"), reason, expires_in, stop: true });
    hand.exited();
    let starts = hand.starts();
    assert_eq!(after(&mut hand, |hand| hand.starts() > starts), 60 * SECOND);
}

#[test]
fn what_has_no_beat_recovers_and_is_proven_by_the_clock() {
    let mut hand = ByHand::running(ServicePlan { beats: Vec::new(), ..service() });
    hand.exited_and_started_again();
    let start = hand.now;
    assert_eq!(after(&mut hand, happened(|what| matches!(what, What::Recovered { .. }))), 5 * SECOND);
    after(&mut hand, happened(|what| matches!(what, What::Proven { .. })));
    assert_eq!(hand.now.since(start), 300 * SECOND);
}

#[test]
fn a_maintenance_window_begins_and_ends_at_its_times() {
    let mut hand = ByHand::running(patient());
    let when = Calendar::parse("0 3 * * *", "UTC").unwrap();
    let window = MaintenancePlan { services: Vec::new(), when, lasts: HOUR };
    hand.change(|plan| drop(plan.maintenance.insert("backup".into(), window)));
    hand.step(Input::Wall("2026-11-22T02:59:00Z".parse().unwrap()));
    let began = happened(|what| matches!(what, What::MaintenanceBegan { .. }));
    let ended = happened(|what| matches!(what, What::MaintenanceEnded { .. }));
    assert_eq!(after(&mut hand, began), 60 * SECOND);
    assert_eq!(after(&mut hand, ended), HOUR);
}

#[test]
fn a_prober_that_works_for_a_quarter_of_an_hour_is_well_again() {
    let mut hand = ByHand::running(patient());
    hand.step(Input::Host(HostObservation::Canary { fault: Some("no answer in 2 s".into()) }));
    sleep(&mut hand, 60 * SECOND);
    hand.step(Input::Host(HostObservation::Canary { fault: None }));
    assert_eq!(hand.engine.open_incidents().len(), 1, "it may fail again soon: that is the same trouble");
    assert_eq!(after(&mut hand, |hand| hand.engine.open_incidents().is_empty()), 900 * SECOND);
}

#[test]
fn an_engine_with_nothing_to_do_sleeps() {
    // It said that it needs two hours; until then there is nothing to look at.
    let extend = 2 * HOUR;
    let mut hand = ByHand::running(with_work(service()));
    let generation = hand.generation();
    hand.see(Observation::AskedForTime { generation, extend });
    let wakes = sleep(&mut hand, extend - 60 * SECOND);
    assert!(wakes <= 4, "woken {wakes} times");
    // Ages of values are written down once a minute.
    let value = ValuePlan { counter: "filled".into(), stale: 24 * HOUR, dead: Some(72 * HOUR) };
    let slots = ExpectPlan { gauge: "slots".into(), min: 1.0, within: 60 * SECOND };
    let mut hand = ByHand::running(ServicePlan {
        values: BTreeMap::from([("orders".to_owned(), value)]),
        expects: BTreeMap::from([("slots".to_owned(), slots)]),
        ..patient()
    });
    let wakes = sleep(&mut hand, HOUR);
    assert!(wakes <= 64, "woken {wakes} times");
}

#[test]
fn a_monitor_is_down_when_it_was_down_for_long_enough() {
    let mut hand = ByHand::new(service());
    hand.change(|plan| drop(plan.monitors.insert(monitor(), monitor_plan())));
    hand.spawned();
    hand.monitor_down();
    assert_eq!(after(&mut hand, opened(IncidentKind::MonitorDown)), 5 * SECOND);
}

#[test]
fn a_pause_that_was_usual_a_moment_ago_is_no_suspicion() {
    let mut hand = ByHand::running(service());
    for (tick, pause) in [(10, 6), (11, 1), (12, 1)] {
        hand.pass(pause);
        let heard = beat(&hand, HTTP, tick);
        hand.see(heard);
    }
    hand.log.clear();
    // Six seconds, forgotten by an eighth twice, and a quarter more.
    let looked = after(&mut hand, |hand| captured(hand, CaptureStage::Early));
    assert_eq!(looked, SECOND * 6 * 49 / 64 * 5 / 4);
}

#[test]
fn an_overdue_start_is_looked_at_twice_at_once_and_then_rarely() {
    let mut hand = ByHand::new(service());
    hand.spawned();
    let start = hand.now;
    after(&mut hand, |hand| captured(hand, CaptureStage::Early));
    assert_eq!(hand.now.since(start), 60 * SECOND);
    after(&mut hand, |hand| captured(hand, CaptureStage::Second));
    assert_eq!(hand.now.since(start), SECOND * 125 / 2);
    hand.log.clear();
    assert_eq!(after(&mut hand, |hand| captured(hand, CaptureStage::Second)), 60 * SECOND);
}

#[test]
fn an_ordinary_gap_between_two_polls_is_no_suspicion() {
    let mut plan = service();
    let Some(BeatPlan::Http(http)) = plan.beats.first_mut() else { unreachable!() };
    http.every = 6 * SECOND;
    let mut hand = ByHand::running(plan);
    assert_eq!(after(&mut hand, |hand| captured(hand, CaptureStage::Early)), SECOND * 15 / 2);
}

#[test]
fn a_maintenance_window_is_met_by_a_horus_that_wakes_late() {
    let mut hand = ByHand::running(patient());
    let when = Calendar::parse("0 3 * * *", "UTC").unwrap();
    let window = MaintenancePlan { services: Vec::new(), when, lasts: HOUR };
    hand.change(|plan| drop(plan.maintenance.insert("backup".into(), window)));
    hand.step(Input::Wall("2026-11-22T02:59:00Z".parse().unwrap()));
    let began = |hand: &ByHand| hand.count(|what| matches!(what, What::MaintenanceBegan { .. }));
    let ended = |hand: &ByHand| hand.count(|what| matches!(what, What::MaintenanceEnded { .. }));
    for (sleep, seen) in [(63 * SECOND, (1, 0)), (HOUR, (1, 1))] {
        hand.now = hand.now + sleep;
        hand.step(Input::Wake);
        assert_eq!((began(&hand), ended(&hand)), seen);
    }
}

#[test]
fn who_was_spared_is_judged_again_a_deadline_later() {
    let mut hand = ByHand::running(service());
    let silent = miss(&hand, ProbeFault::NoAnswer);
    hand.see(silent);
    hand.auto = false;
    let decided =
        |count| move |hand: &ByHand| hand.count(|what| matches!(what, What::KillDecided { .. })) == count;
    after(&mut hand, decided(1));
    hand.ask(hold(false));
    hand.ask(OperatorRequest::Resume { service: name("bot"), reason: None });
    assert_eq!(after(&mut hand, decided(2)), 10 * SECOND, "not at once, and nobody has to be heard for it");
}
