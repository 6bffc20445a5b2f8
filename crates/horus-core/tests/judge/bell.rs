//! When a person is disturbed, and how often.

use std::collections::BTreeSet;

use horus_core::ids::{IncidentId, MonitorName};
use horus_core::notice::{IncidentKind, Notice, Story};
use horus_core::observation::{Exit, Input, MonitorObservation, ProbeFault};
use horus_core::plan::{MonitorCheck, MonitorPlan, ServicePlan, TcpBeat};

use super::{is_signalled, one, ticks};
use crate::rig::{Behaviour, Doing, Rig, SECOND, name, service};

fn rung(rig: &Rig) -> Vec<&Notice> {
    rig.told.iter().map(|(_, notice)| notice).filter(|notice| notice.loud).collect()
}

/// When who rang of what, for whoever reads of a failure.
fn brief(rig: &Rig) -> Vec<String> {
    let begun = rig.begun();
    let loud = rig.told.iter().filter(|(_, notice)| notice.loud);
    let line = |at: horus_core::time::Mono, notice: &Notice| {
        let story: String = format!("{:?}", notice.story).chars().take(60).collect();
        format!(
            "{:?} {} {} needs you: {} {story}",
            at.since(begun),
            notice.incident,
            notice.subject,
            notice.needs_you
        )
    };
    loud.map(|(at, notice)| line(*at, notice)).collect()
}

fn crashes(_age: u64) -> Doing {
    Doing::Exits(Exit::Code(1))
}

fn hangs(_age: u64) -> Doing {
    Doing::Hangs
}

/// Fifty services that are well, and then, one after the other within half a minute, are not.
fn fifty_that(fall: Behaviour) -> (Rig, Vec<String>) {
    let names: Vec<String> = (0..50).map(|number| format!("svc-{number:02}")).collect();
    let services: Vec<(&str, ServicePlan, Behaviour)> =
        names.iter().map(|name| (&**name, service(), ticks as Behaviour)).collect();
    let mut rig = Rig::new(&services);
    rig.run(400);
    assert_eq!(rung(&rig), Vec::<&Notice>::new());
    for several in names.chunks(2) {
        for one in several {
            rig.behaviour.insert(name(one), fall);
        }
        rig.run(1);
    }
    (rig, names)
}

fn are_well_again(rig: &mut Rig, names: &[String]) {
    for one in names {
        rig.behaviour.insert(name(one), ticks);
    }
    rig.run(2 * 3600);
    assert_eq!(rig.engine.open_incidents(), Vec::<IncidentId>::new());
}

#[test]
fn fifty_that_crash_within_half_a_minute_ring_three_times_at_most_and_each_is_named() {
    let (mut rig, names) = fifty_that(crashes);
    rig.run(1800);
    let loud = rung(&rig);
    assert!((1..=2).contains(&loud.len()), "{:#?}", brief(&rig));
    assert!(loud.iter().all(|notice| notice.needs_you));
    let newest = rig.told.iter().rev().find_map(|(_, notice)| match &notice.story {
        Story::Storm { members, more: 0 } => Some(members),
        _ => None,
    });
    let named: BTreeSet<&str> = newest.unwrap().iter().map(|member| &*member.subject).collect();
    assert_eq!(named, names.iter().map(String::as_str).collect());
    are_well_again(&mut rig, &names);
    assert!(rung(&rig).len() <= 3, "{:#?}", brief(&rig));
    let last = rig.told.iter().rfind(|(_, notice)| notice.kind == IncidentKind::Storm);
    assert!(matches!(last, Some((_, Notice { story: Story::Over { .. }, loud: true, .. }))), "{last:?}");
}

#[test]
fn fifty_that_hang_within_half_a_minute_ring_three_times_at_most() {
    let (mut rig, names) = fifty_that(hangs);
    rig.run(1800);
    assert!((1..=3).contains(&rung(&rig).len()), "{:#?}", brief(&rig));
    are_well_again(&mut rig, &names);
    assert!(rung(&rig).len() <= 3, "{:#?}", brief(&rig));
}

#[test]
fn what_the_storm_rings_for_is_within_it_and_has_no_noise_of_its_own() {
    let (rig, _) = fifty_that(crashes);
    let storm = rig.told.iter().find(|(_, notice)| notice.kind == IncidentKind::Storm).unwrap().1.incident;
    let others = rig.told.iter().filter(|(_, notice)| notice.kind == IncidentKind::CrashLoop);
    let own: Vec<&Notice> = others.map(|(_, notice)| notice).collect();
    let alone = own.iter().filter(|notice| notice.within.is_none()).count();
    assert!((1..=2).contains(&alone), "{alone} rang before it was a storm");
    assert!(own.iter().filter(|notice| notice.within.is_some()).all(|notice| !notice.loud));
    assert!(own.iter().filter_map(|notice| notice.within).all(|within| within == storm));
}

#[test]
fn after_a_restart_of_horus_what_a_storm_rang_for_rings_again_as_one() {
    let (mut rig, _) = fifty_that(crashes);
    rig.run(60);
    let before = rung(&rig).len();
    rig.next_life(SECOND);
    rig.run(600);
    let since = rung(&rig).len() - before;
    assert!((1..=2).contains(&since), "the storm is forgotten, and those in it are not: {since}");
}

#[test]
fn who_is_healed_within_the_grace_rings_for_nobody() {
    let mut rig = one(|age| if age >= 100 { Doing::Hangs } else { Doing::Ticks });
    rig.run(150);
    assert!(rig.count(is_signalled) > 0);
    rig.behaviour.insert(name("bot"), ticks);
    rig.run(3600);
    assert!(rig.stories().iter().any(|story| matches!(story, Story::StuckRestarting { .. })));
    assert!(rig.stories().iter().any(|story| matches!(story, Story::StuckHealed { .. })));
    assert_eq!(rung(&rig), Vec::<&Notice>::new());
}

#[test]
fn who_is_not_healed_within_the_grace_rings_once() {
    let mut rig = one(|age| if age >= 100 { Doing::Hangs } else { Doing::Ticks });
    rig.run(105);
    rig.behaviour.insert(name("bot"), |age| if age >= 100 { Doing::Hangs } else { Doing::Unreachable });
    rig.run(100);
    let restarting = |notice: &&Notice| matches!(notice.story, Story::StuckRestarting { .. });
    assert_eq!(rung(&rig).into_iter().filter(restarting).count(), 0, "{:#?}", brief(&rig));
    rig.run(20);
    assert_eq!(rung(&rig).into_iter().filter(restarting).count(), 1, "{:#?}", brief(&rig));
}

#[expect(clippy::unwrap_used, reason = "a test says what it expects")]
fn monitor() -> MonitorName {
    MonitorName::parse("router").unwrap()
}

fn monitored() -> Rig {
    let mut rig = one(ticks);
    let check = MonitorCheck::Tcp(TcpBeat { address: "127.0.0.1:1".into(), every: SECOND, timeout: SECOND });
    rig.change_plan(|plan| {
        plan.monitors.insert(monitor(), MonitorPlan { check, down_after: 5 * SECOND });
    });
    rig
}

fn answers(rig: &mut Rig, up: bool, seconds: u64) {
    for _ in 0..seconds {
        let observation = if up {
            MonitorObservation::Up { took: SECOND }
        } else {
            MonitorObservation::Down { fault: ProbeFault::NoPath, detail: "connection refused".into() }
        };
        rig.step(Input::Monitor(monitor(), observation));
        rig.run(1);
    }
}

fn incidents(rig: &Rig) -> Vec<IncidentId> {
    let mut all: Vec<IncidentId> = rig.told.iter().map(|(_, notice)| notice.incident).collect();
    all.dedup();
    all
}

#[test]
fn what_comes_back_within_a_quarter_of_an_hour_is_the_same_incident() {
    let mut rig = monitored();
    answers(&mut rig, false, 10);
    answers(&mut rig, true, 14 * 60);
    answers(&mut rig, false, 10);
    assert_eq!(incidents(&rig).len(), 1);
    let versions: Vec<u32> = rig.told.iter().map(|(_, notice)| notice.version).collect();
    assert_eq!(versions, [1, 2, 3], "one message, which goes on");
    assert_eq!(rung(&rig).len(), 1);
    // It has come back once: now half an hour is soon.
    answers(&mut rig, true, 29 * 60);
    answers(&mut rig, false, 10);
    assert_eq!(incidents(&rig).len(), 1);
    answers(&mut rig, true, 61 * 60);
    answers(&mut rig, false, 10);
    assert_eq!(incidents(&rig).len(), 2);
    assert_eq!(rung(&rig).len(), 2);
}

#[test]
fn what_flaps_for_an_hour_rings_three_times_at_most() {
    for (down, up) in [(10, 10), (60, 60), (30, 16 * 60), (600, 300)] {
        let mut rig = monitored();
        for _ in 0..3600 / (down + up) {
            answers(&mut rig, false, down);
            answers(&mut rig, true, up);
        }
        let loud = rung(&rig).len();
        assert!((1..=3).contains(&loud), "{down} s down, {up} s up: {loud}");
    }
    let flapping: [Behaviour; 4] = [
        |age| if age >= 5 { Doing::Exits(Exit::Code(1)) } else { Doing::Ticks },
        |age| if age >= 129 { Doing::Exits(Exit::Code(1)) } else { Doing::Ticks },
        |age| if age >= 400 { Doing::Exits(Exit::Code(1)) } else { Doing::Ticks },
        |age| if age >= 100 { Doing::Hangs } else { Doing::Ticks },
    ];
    for (number, behaviour) in flapping.into_iter().enumerate() {
        let mut rig = one(behaviour);
        rig.run(3600);
        assert!(rung(&rig).len() <= 3, "{number}: {:#?}", rung(&rig));
    }
}
