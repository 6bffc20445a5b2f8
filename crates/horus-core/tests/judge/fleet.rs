//! Many at once, and the machine below them.

use horus_core::event::What;
use horus_core::notice::Story;
use horus_core::observation::{HostObservation, Input};
use horus_core::plan::ServicePlan;
use horus_core::reason::Rule;

use super::{hangs_after_100, ticks};
use crate::rig::{Behaviour, Doing, Rig, SECOND, name, service};

const NAMES: [&str; 20] =
    ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"];

fn fleet(count: usize, doing: impl Fn(usize) -> Behaviour) -> Rig {
    let services: Vec<(&str, ServicePlan, Behaviour)> =
        NAMES.iter().take(count).enumerate().map(|(n, name)| (*name, service(), doing(n))).collect();
    Rig::new(&services)
}

fn set_all(rig: &mut Rig, count: usize, doing: Behaviour) {
    for text in NAMES.iter().take(count) {
        rig.behaviour.insert(name(text), doing);
    }
}

fn terms(rig: &Rig) -> usize {
    rig.signals.iter().filter(|(_, text)| text.ends_with("SIGTERM")).count()
}

#[test]
fn invariant_g3_a_common_cause_kills_nobody_and_is_told_once() {
    // The network of all of them goes away for five minutes; all come back by themselves.
    let mut rig = fleet(10, |_| ticks);
    rig.run(200);
    set_all(&mut rig, 10, |_| Doing::Hangs);
    rig.run(15);
    assert_eq!(rig.signals, []);
    let [Story::CommonCause { services, of, .. }] = &rig.stories()[..] else { panic!("{:?}", rig.stories()) };
    assert_eq!((services.len(), *of), (10, 10));
    // One is tried, and does not become ready: that is held against restarts, not against the others.
    rig.run(285);
    assert_eq!(terms(&rig), 1, "{:?}", rig.signals);
    set_all(&mut rig, 10, ticks);
    rig.run(7200);
    assert_eq!(terms(&rig), 1);
    assert_eq!(rig.engine.open_incidents(), []);
    assert_eq!(rig.count(|what| matches!(what, What::GuardOpened { .. })), 1);
    // Told: the common cause and its end, the one restart, its slow start, its success. The nine others say nothing.
    assert!(rig.told.len() <= 6, "{:?}", rig.stories());
}

#[test]
fn invariant_g3_the_second_is_restarted_when_the_first_is_proven() {
    // All hang; whoever is restarted is cured.
    let mut rig = fleet(4, |_| ticks);
    rig.run(100);
    let hangs_if_old: Behaviour = |age| if age >= 100 { Doing::Hangs } else { Doing::Ticks };
    set_all(&mut rig, 4, hangs_if_old);
    rig.run(22);
    assert_eq!(terms(&rig), 0, "the guard holds");
    rig.run(30);
    assert_eq!(terms(&rig), 1, "after the hold, one");
    for text in NAMES.iter().take(4) {
        let cured = rig.alive[&name(text)].0.generation.0 > 1;
        rig.behaviour.insert(name(text), if cured { ticks } else { |_| Doing::Hangs });
    }
    rig.run(270);
    assert_eq!(terms(&rig), 1, "the first is not proven yet");
    rig.run(40);
    assert_eq!(terms(&rig), 2, "it is now");
}

#[test]
fn two_of_ten_are_their_own_affair() {
    let mut rig = fleet(10, |n| if n < 2 { hangs_after_100 } else { ticks });
    rig.run(125);
    assert_eq!(terms(&rig), 2);
    assert_eq!(rig.count(|what| matches!(what, What::GuardClosed { .. })), 0);
}

#[test]
fn laptop_lid_nobody_is_killed_on_waking_up() {
    let mut rig = fleet(1, |_| |age| if (101..118).contains(&age) { Doing::Hangs } else { Doing::Ticks });
    rig.run(115);
    // 15 s of silence, then the lid closes for 519 s; the engine's clock stands still meanwhile.
    rig.step(Input::Host(HostObservation::Suspended { slept: 519 * SECOND }));
    rig.run(600);
    assert_eq!(rig.signals, []);
    assert_eq!(rig.told, []);
}

#[test]
fn a_hang_that_outlives_a_suspend_is_healed() {
    let mut rig = fleet(1, |_| hangs_after_100);
    rig.run(115);
    rig.step(Input::Host(HostObservation::Suspended { slept: 519 * SECOND }));
    rig.run(19);
    assert_eq!(terms(&rig), 0, "everybody is let settle");
    rig.run(15);
    assert_eq!(terms(&rig), 1);
}

#[test]
fn under_pressure_everything_takes_longer_and_is_called_starved() {
    let slow: Behaviour = |age| if age < 100 || age % 30 == 0 { Doing::Ticks } else { Doing::Hangs };
    let mut rig = fleet(1, |_| slow);
    rig.run(95);
    rig.step(Input::Host(HostObservation::Pressure { cpu: 0.9, memory: 0.0, io: 0.1 }));
    rig.run(1000);
    assert_eq!(rig.signals, [], "half a minute between two ticks, on a machine where everybody waits");
    let starved =
        |what: &What| matches!(what, What::Judged { to: horus_core::verdict::Verdict::Starved, .. });
    assert!(rig.count(starved) > 0);
    rig.step(Input::Host(HostObservation::Pressure { cpu: 0.0, memory: 0.0, io: 0.0 }));
    rig.run(1000);
    assert!(terms(&rig) > 0, "the same gaps on an idle machine are hangs");
}

#[test]
fn a_broken_prober_proves_nothing() {
    let mut rig = fleet(3, |_| hangs_after_100);
    rig.run(90);
    rig.step(Input::Host(HostObservation::Canary { fault: Some("no answer in 2 s".into()) }));
    rig.run(3600);
    assert_eq!(rig.signals, []);
    rig.step(Input::Host(HostObservation::Canary { fault: None }));
    set_all(&mut rig, 3, ticks);
    rig.run(1200);
    assert_eq!(rig.signals, []);
    assert_eq!(rig.engine.open_incidents(), []);
}

#[test]
fn a_detector_that_is_mostly_wrong_only_tells() {
    // Four services whose beats stop a minute after each start, whatever is done: restarts cure nothing.
    let never_cured: Behaviour = |age| if age < 60 { Doing::Ticks } else { Doing::Hangs };
    let mut rig = fleet(20, |n| if n < 1 { never_cured } else { ticks });
    for late in &NAMES[1..4] {
        // Not at once: that would be a common cause.
        rig.run(1200);
        rig.behaviour.insert(name(late), never_cured);
    }
    rig.run(4 * 3600);
    let demoted = |what: &What| matches!(what, What::DetectorDemoted { detector: Rule::Silent, wrong, .. } if *wrong >= 8);
    assert_eq!(rig.count(demoted), 1, "{:?}", rig.signals);
    let before = terms(&rig);
    rig.behaviour.insert(name("j"), |_| Doing::Hangs);
    rig.run(3600);
    assert_eq!(terms(&rig), before, "it tells, and does not act");
    let told = rig.told.iter().filter(|(_, notice)| notice.subject == "j");
    let [Story::StuckObserved { because, .. }] =
        told.map(|(_, notice)| &notice.story).collect::<Vec<_>>()[..]
    else {
        panic!("{:?}", rig.stories())
    };
    assert!(because.contains("wrong too often"), "{because}");
}
