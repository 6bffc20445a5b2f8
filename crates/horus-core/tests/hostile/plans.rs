//! A plan that is edited while things are going on, what is in nobody's plan, and the end of Horus itself.

use horus_core::ids::SinkName;
use horus_core::plan::{SecretSource, SinkKind, SinkPlan};

use super::*;

#[test]
fn a_sink_that_left_the_plan_is_not_dead_any_more() {
    let sink = SinkPlan {
        kind: SinkKind::Discord,
        severity: Severity::Warning,
        secret: SecretSource::Env("HORUS_URL".into()),
        mention: None,
    };
    let mut hand = ByHand::running(service());
    hand.change(|plan| {
        for text in ["night", "ops"] {
            plan.sinks.insert(SinkName::parse(text).unwrap(), sink.clone());
        }
    });
    for text in ["night", "ops"] {
        hand.step(Input::SinkHealth { sink: text.into(), fault: Some("HTTP 404".into()) });
    }
    hand.change(|plan| drop(plan.sinks.remove("night")));
    let dead: Vec<String> =
        hand.engine.status(hand.now).dead_sinks.into_iter().map(|sink| sink.name).collect();
    assert_eq!(dead, ["ops"]);
    assert_eq!(hand.engine.open_incidents().len(), 1);
}

#[test]
fn a_monitor_that_is_edited_begins_anew_and_the_others_go_on() {
    let mut hand = ByHand::new(service());
    hand.change(|plan| drop(plan.monitors.insert(monitor(), monitor_plan())));
    hand.monitor_down();
    hand.pass(10);
    let opened = |what: &What| matches!(what, What::IncidentOpened { kind: IncidentKind::MonitorDown, .. });
    let closed = |what: &What| matches!(what, What::IncidentClosed { .. });
    assert_eq!(hand.count(opened), 1);
    hand.change(|plan| plan.services.get_mut("bot").unwrap().deadline = 20 * SECOND);
    assert_eq!(hand.count(closed), 0, "it is down still");
    hand.change(|plan| plan.monitors.get_mut("venue").unwrap().down_after = 30 * SECOND);
    assert_eq!(hand.count(closed), 1, "what was told was told by another plan");
    assert_eq!(hand.engine.status(hand.now).monitors[0].up, None, "it was not asked yet");
}

#[test]
fn a_run_number_is_kept_for_a_service_that_is_not_in_the_plan_yet() {
    let mut hand = ByHand::new(service());
    hand.engine.raise_generation(&name("late"), Generation(41));
    hand.engine.raise_generation(&name("late"), Generation(7));
    let bot = hand.plan.services["bot"].clone();
    hand.change(|plan| drop(plan.services.insert(name("late"), bot)));
    let started = hand.log.iter().find_map(|command| match command {
        Command::Start { service, generation, .. } if service.as_str() == "late" => Some(*generation),
        _ => None,
    });
    assert_eq!(started, Some(Generation(42)));
}

#[test]
fn who_lives_is_known_by_its_run() {
    let mut hand = ByHand::new(service());
    hand.spawned();
    assert_eq!(hand.engine.living(), [(name("bot"), hand.generation())]);
}

#[test]
fn horus_does_not_end_before_it_knows_who_still_lives() {
    let mut hand = ByHand::with_memory(service(), ByHand::running(service()).memory(), SECOND);
    let finished = |hand: &ByHand| hand.log.contains(&Command::Finished);
    hand.step(Input::ShutDown);
    assert!(!finished(&hand), "an earlier life has left something running, and the keeper has not spoken");
    hand.adopt_and_reconcile(1);
    assert_eq!(hand.signals(), 1, "it is stopped");
    assert!(!finished(&hand));
    hand.exited();
    assert!(finished(&hand));
    // With nothing remembered there is nobody to wait for.
    let mut hand = ByHand::with_memory(service(), Memory::default(), SECOND);
    hand.step(Input::ShutDown);
    assert!(finished(&hand));
}

#[test]
fn who_others_need_is_stopped_after_them() {
    let mut rig = Rig::new(&[
        ("a", service(), |_| Doing::Ticks),
        ("z", horus_core::plan::ServicePlan { after: vec![name("a")], ..service() }, |_| Doing::Ticks),
    ]);
    rig.run(10);
    assert_eq!(rig.starts.len(), 2);
    rig.step(Input::ShutDown);
    rig.run(10);
    assert!(rig.finished);
    let order: Vec<&str> = rig.signals.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(order, ["z SIGTERM", "a SIGTERM"]);
}

type Edit = fn(&mut horus_core::plan::ServicePlan);

#[test]
fn an_edit_of_what_it_is_judged_by_begins_anew_and_any_other_edit_does_not() {
    let judged_by: [Edit; 3] = [
        |plan| plan.deadline = 11 * SECOND,
        |plan| plan.kills.prove = HOUR,
        |plan| {
            let work = horus_core::plan::ProgressPlan { counter: "filled".into(), stalled: HOUR };
            plan.progress.insert("fills".into(), work);
        },
    ];
    let others: [Edit; 3] =
        [|plan| plan.stop.grace = 7 * SECOND, |plan| plan.restart.max = HOUR, |plan| plan.values.clear()];
    for (edits, decided) in [(judged_by, 0), (others, 1)] {
        for (number, edit) in edits.into_iter().enumerate() {
            let mut hand = ByHand::running(service());
            hand.hang(15);
            hand.change(|plan| edit(plan.services.get_mut("bot").unwrap()));
            hand.hang(6);
            let kills = hand.count(|what| matches!(what, What::KillDecided { .. }));
            assert_eq!(kills, decided, "edit {number}");
        }
    }
}

#[test]
fn what_would_have_been_done_is_said_once_through_any_edit() {
    let mut hand = ByHand::running(horus_core::plan::ServicePlan { observe: true, ..service() });
    let would = |hand: &ByHand| hand.count(|what| matches!(what, What::WouldHave { .. }));
    hand.hang(30);
    assert_eq!(would(&hand), 1);
    assert!(hand.engine.status(hand.now).services[0].observe);
    for grace in 1..4 {
        hand.change(|plan| plan.services.get_mut("bot").unwrap().stop.grace = grace * SECOND);
        hand.hang(30);
    }
    assert_eq!(would(&hand), 1);
}

#[test]
fn a_restart_that_the_plan_asks_for_waits_for_the_end_of_a_hold() {
    let mut hand = ByHand::running(service());
    hand.ask(hold(false));
    hand.change(|plan| plan.services.get_mut("bot").unwrap().launch.command.push("--fast".into()));
    hand.pass(60);
    assert_eq!(hand.signals(), 0, "it is held");
    hand.ask(OperatorRequest::Resume { service: name("bot"), reason: None });
    assert_eq!(hand.signals(), 1);
}

#[test]
fn status_says_when_the_next_start_is() {
    let mut plan = service();
    plan.restart.first = 60 * SECOND;
    let mut hand = ByHand::running(plan);
    hand.exited();
    let next = |hand: &ByHand| hand.engine.status(hand.now).services[0].next_start_in_ms;
    let first = next(&hand).unwrap_or_default();
    assert!((48_000..=72_000).contains(&first), "{first}");
    hand.pass(10);
    assert_eq!(next(&hand), Some(first - 10_000));
}

#[test]
fn secrets_are_in_no_print_and_are_had_by_asking() {
    let secret = horus_core::plan::Secret::new("hunter2".into());
    assert_eq!(format!("{secret:?} {secret}"), "*** ***");
    assert_eq!(secret.expose(), "hunter2");
}

#[test]
fn a_name_may_be_as_long_as_is_said() {
    use horus_core::ids::{NAME_LENGTH_MAX, ServiceName};
    assert!(ServiceName::parse(&"a".repeat(NAME_LENGTH_MAX)).is_ok());
    assert!(ServiceName::parse(&"a".repeat(NAME_LENGTH_MAX + 1)).is_err());
}

#[test]
fn a_plan_that_is_read_again_and_is_the_same_does_nothing() {
    let mut hand = ByHand::running(service());
    hand.step(Input::Wake);
    let before = hand.log.len();
    hand.change(|_| {});
    assert_eq!(hand.log[before..], []);
}

#[test]
fn what_a_person_has_stopped_stays_stopped_through_the_end_of_horus() {
    let mut hand = ByHand::running(service());
    hand.ask(OperatorRequest::Stop(name("bot")));
    hand.exited();
    hand.step(Input::ShutDown);
    assert!(hand.log.contains(&Command::Finished));
    let mut next = ByHand::with_memory(service(), hand.memory(), SECOND);
    next.step(Input::Reconciled);
    assert_eq!(next.starts(), 0);
}

#[test]
fn a_monitor_is_asked_as_often_as_its_plan_says() {
    use horus_core::plan::{ExecBeat, MonitorCheck, TcpBeat};
    let (every, timeout) = (7 * SECOND, SECOND);
    let checks = [
        MonitorCheck::Http { url: "http://127.0.0.1:1/".into(), every, timeout, status: 200 },
        MonitorCheck::Tcp(TcpBeat { address: "127.0.0.1:1".into(), every, timeout }),
        MonitorCheck::File { path: "/run/feed".into(), every, max_age: HOUR },
        MonitorCheck::Exec(ExecBeat { command: vec!["check".into()], every, timeout, seq: false }),
    ];
    assert_eq!(checks.map(|check| check.every()), [every; 4]);
}

#[test]
fn a_hold_ends_at_its_time_also_for_who_is_out_of_the_plan_meanwhile() {
    for (away, starts) in [(30, 0), (90, 1)] {
        let mut hand = ByHand::running(service());
        let (reason, expires_in) = ("debugging".to_owned(), Some(60 * SECOND));
        hand.ask(OperatorRequest::Hold { service: name("bot"), reason, expires_in, stop: true });
        hand.exited();
        let (old, before) = (hand.plan.clone(), hand.starts());
        hand.change(|plan| plan.services.clear());
        hand.pass(away);
        hand.change(|plan| *plan = old);
        hand.pass(1);
        assert_eq!(hand.starts() - before, starts, "back after {away} s");
    }
}

#[test]
fn the_journal_says_which_way_a_clock_was_set() {
    use horus_core::observation::HostObservation;
    for (by_ms, said) in [(-90_000, "back by 1 min 30 s"), (3_600_000, "forward by 1 h")] {
        let mut hand = ByHand::running(service());
        hand.step(Input::Host(HostObservation::ClockStepped { by_ms }));
        let says = |what: &What| matches!(what, What::Host { reason } if reason.text.ends_with(said));
        assert_eq!(hand.count(says), 1, "{said}: {:?}", hand.log.last());
    }
}

#[test]
fn an_edit_starts_nobody_whom_a_person_has_stopped() {
    let mut hand = ByHand::running(service());
    hand.ask(OperatorRequest::Stop(name("bot")));
    hand.exited();
    let starts = hand.starts();
    hand.change(|plan| plan.services.get_mut("bot").unwrap().deadline = 20 * SECOND);
    hand.pass(10);
    assert_eq!(hand.starts(), starts);
}

#[test]
fn status_says_what_is_heard_of_a_service_that_has_little_to_say() {
    let axes = |hand: &ByHand| {
        let service = hand.engine.status(hand.now).services.remove(0);
        (service.loop_axis.because, service.progress.because)
    };
    let mut hand = ByHand::running(horus_core::plan::ServicePlan { beats: Vec::new(), ..service() });
    hand.pass(1);
    assert_eq!(axes(&hand), ("no beat source is declared".into(), "no counter is heard".into()));
    let mut hand = ByHand::running(service());
    hand.pass(1);
    assert_eq!(axes(&hand).1, "no declared counter has moved");
}
