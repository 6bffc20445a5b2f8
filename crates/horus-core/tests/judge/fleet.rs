//! Many at once, and the machine below them.

use horus_core::Remembered;
use horus_core::event::What;
use horus_core::ids::ServiceName;
use horus_core::notice::Story;
use horus_core::observation::{HostObservation, Input, OperatorRequest};
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

fn stories_of<'a>(rig: &'a Rig, service: &str) -> Vec<&'a Story> {
    rig.told.iter().filter(|(_, notice)| notice.subject == service).map(|(_, notice)| &notice.story).collect()
}

#[test]
fn who_waits_for_others_and_is_in_nobodys_message_waits_in_the_open() {
    // Two have a common cause; long after its message was written a third one hangs, while one of the two is on trial.
    let later: Behaviour = |age| if age <= 400 { Doing::Ticks } else { Doing::Hangs };
    let mut rig = fleet(3, |n| if n < 2 { hangs_after_100 } else { later });
    rig.run(400 + 60);
    let common = rig.stories().into_iter().find_map(|story| match story {
        Story::CommonCause { services, .. } => Some(services.clone()),
        _ => None,
    });
    assert_eq!(common.unwrap_or_default(), ["a", "b"]);
    let signalled = |service: &str| rig.signals.iter().any(|(_, text)| text.starts_with(service));
    assert!(!signalled("c"), "it has to wait: {:?}", rig.signals);
    let [Story::StuckObserved { because, .. }] = stories_of(&rig, "c")[..] else {
        panic!("{:?}", stories_of(&rig, "c"))
    };
    assert!(because.contains("waits"), "{because}");
    let waits =
        |service| stories_of(&rig, service).iter().any(|it| matches!(it, Story::StuckObserved { .. }));
    assert!(!waits("a") && !waits("b"), "they are in the message");
}

#[test]
fn who_hangs_while_everybody_is_let_settle_is_told_of_by_its_own_restart() {
    let mut rig = fleet(1, |_| hangs_after_100);
    rig.run(115);
    rig.step(Input::Host(HostObservation::Suspended { slept: 519 * SECOND }));
    rig.run(40);
    assert_eq!(terms(&rig), 1);
    let waits = rig.stories().iter().any(|story| matches!(story, Story::StuckObserved { .. }));
    assert!(!waits, "it waited for a moment only: {:?}", rig.stories());
}

#[test]
fn a_common_cause_that_was_away_for_a_quarter_of_an_hour_is_over() {
    let gap: Behaviour = |age| if (101..130).contains(&age) { Doing::Hangs } else { Doing::Ticks };
    let mut rig = fleet(4, |_| gap);
    rig.run(200);
    let at = |rig: &Rig, wanted: fn(&What) -> bool| {
        rig.events.iter().find(|(_, subject, what)| subject == "horus" && wanted(what)).map(|(at, ..)| *at)
    };
    let opened = at(&rig, |what| matches!(what, What::GuardOpened { .. })).unwrap();
    assert_eq!(at(&rig, |what| matches!(what, What::IncidentClosed { .. })), None, "it may come again");
    rig.run(1000);
    let closed = at(&rig, |what| matches!(what, What::IncidentClosed { .. })).unwrap();
    assert_eq!(closed.since(opened), 900 * SECOND);
}

#[test]
fn a_cause_is_remembered_for_twenty_minutes() {
    // Both fell silent at 100 s; one was healed and proven long before the other's patience is at its end.
    for (deadline, common) in [(600, true), (1500, false)] {
        let slow = ServicePlan { deadline: deadline * SECOND, ..service() };
        let mut rig = Rig::new(&[("a", service(), hangs_after_100), ("b", slow, hangs_after_100)]);
        rig.run(125);
        assert_eq!(terms(&rig), 1);
        rig.behaviour.insert(name("a"), ticks);
        rig.run(u64::from(deadline));
        let told = rig.stories().iter().any(|story| matches!(story, Story::CommonCause { .. }));
        assert_eq!(told, common, "after {deadline} s");
    }
}

#[test]
fn who_is_judged_by_nothing_does_not_dilute_a_common_cause() {
    for held in [false, true] {
        let mut services: Vec<(&str, ServicePlan, Behaviour)> =
            NAMES.iter().map(|name| (*name, service(), ticks as Behaviour)).collect();
        for (_, plan, doing) in services.iter_mut().skip(2) {
            // Eighteen of twenty have no beat, or do not run.
            (plan.autostart, *doing) = (!held, |_| Doing::Nothing);
            if !held {
                plan.beats.clear();
            }
        }
        let mut rig = Rig::new(&services);
        rig.run(100);
        for text in ["a", "b"] {
            rig.behaviour.insert(name(text), |_| Doing::Hangs);
        }
        rig.run(25);
        assert_eq!(terms(&rig), 0, "held: {held}; two of the two that are judged: {:?}", rig.signals);
    }
}

#[test]
fn a_trial_is_over_when_a_person_takes_it_in_hand() {
    let hold = |stop| {
        move |service| OperatorRequest::Hold { service, reason: "debugging".into(), expires_in: None, stop }
    };
    let requests: [&dyn Fn(ServiceName) -> OperatorRequest; 3] =
        [&hold(false), &hold(true), &OperatorRequest::Stop];
    for request in requests {
        let mut rig = fleet(3, |_| hangs_after_100);
        rig.run(145);
        assert_eq!(terms(&rig), 1, "the first of three is tried");
        let tried = name(rig.signals[0].1.split(' ').next().unwrap_or_default());
        rig.behaviour.insert(tried.clone(), ticks);
        rig.run(20);
        assert_eq!(terms(&rig), 1, "it is not proven yet");
        let request = request(tried);
        rig.ask(request.clone());
        let before = terms(&rig);
        rig.run(30);
        assert_eq!(
            terms(&rig),
            before + 1,
            "{request:?}: there is nothing left to wait for: {:?}",
            rig.signals
        );
    }
}

#[test]
fn an_open_breaker_is_no_trial_that_others_wait_for() {
    let hangs_at_30: Behaviour = |age| if age <= 30 { Doing::Ticks } else { Doing::Hangs };
    let mut rig = Rig::new(&[("a", service(), hangs_after_100), ("b", service(), ticks)]);
    while !rig.engine.status(rig.now).services[0].breaker_open {
        rig.run(10);
    }
    let remembered = |(service, memory): (&_, &horus_core::command::Memory)| {
        let (service, memory) = (Clone::clone(service), memory.clone());
        Remembered { service, memory, elapsed: SECOND, away: Some(SECOND) }
    };
    let remembered = rig.memories.iter().map(remembered).collect();
    let mut next = Rig::adopting(&[("a", service(), ticks), ("b", service(), hangs_at_30)], remembered);
    next.run(60);
    assert_eq!(terms(&next), 1, "{:?}", next.stories());
}

#[test]
fn a_long_standstill_of_horus_lets_everybody_settle_and_a_short_one_does_not() {
    for (late, signals) in [(2, 1), (10, 0)] {
        let mut rig = fleet(1, |_| hangs_after_100);
        rig.run(115);
        rig.now = rig.now + late * SECOND;
        rig.step(Input::Wake);
        rig.run(20);
        assert_eq!(terms(&rig), signals, "late by {late} s");
        rig.run(20);
        assert_eq!(terms(&rig), 1);
    }
}

fn press(rig: &mut Rig, cpu: f64) {
    rig.step(Input::Host(HostObservation::Pressure { cpu, memory: 0.0, io: 0.0 }));
}

#[test]
fn limits_that_shrink_in_the_middle_of_a_silence_condemn_nobody_at_once() {
    let deadline_ms = |rig: &Rig| rig.engine.status(rig.now).services[0].deadline_ms;
    let mut rig = fleet(1, |_| hangs_after_100);
    rig.run(95);
    press(&mut rig, 0.9);
    assert_eq!(deadline_ms(&rig), 40_000);
    rig.run(30);
    press(&mut rig, 0.0);
    rig.run(9);
    assert_eq!(terms(&rig), 0, "silent for 34 s, and ten of them under the limit of this machine at rest");
    rig.run(3);
    assert_eq!(terms(&rig), 1);

    // A pressure that wavers grants this once in a silence, and once more in the next.
    let mut rig = fleet(1, |_| hangs_after_100);
    rig.run(95);
    for cpu in [0.9, 0.0, 0.9, 0.0] {
        press(&mut rig, cpu);
        rig.run(6);
    }
    rig.run(10);
    assert_eq!(terms(&rig), 1);
    // Who is not silent is judged by the shorter limits at once.
    let mut rig = fleet(1, |_| ticks);
    rig.run(95);
    press(&mut rig, 0.9);
    press(&mut rig, 0.0);
    assert_eq!(deadline_ms(&rig), 10_000);
}

#[test]
fn a_restart_on_trial_is_no_record_of_its_detector_and_a_lone_one_is() {
    let forgiven = |rig: &Rig, service: &str| {
        rig.memories[&name(service)].kills.iter().map(|kill| kill.forgiven).collect::<Vec<_>>()
    };
    let mut rig = fleet(1, |_| hangs_after_100);
    rig.run(125);
    assert_eq!(forgiven(&rig, "a"), [false]);
    let mut rig = fleet(3, |_| hangs_after_100);
    rig.run(145);
    let tried = rig.signals[0].1.split(' ').next().unwrap_or_default().to_owned();
    assert_eq!(forgiven(&rig, &tried), [true], "whatever they share, it was not its own hang");
}

#[test]
fn a_share_is_of_those_who_are_left_to_judge() {
    // Two of ten are their own affair; when a person has stopped six of the others they are two of four.
    let mut rig = fleet(10, |n| if n < 2 { hangs_after_100 } else { ticks });
    rig.run(112);
    for text in &NAMES[4..] {
        if rig.alive.contains_key(&name(text)) {
            rig.ask(OperatorRequest::Stop(name(text)));
        }
    }
    let before = terms(&rig);
    rig.run(15);
    assert_eq!(terms(&rig), before, "{:?}", rig.signals);
}

#[test]
fn each_silence_under_a_wavering_pressure_is_granted_the_longer_limits_once() {
    let mut rig = fleet(1, |_| ticks);
    rig.run(95);
    for silence in 1..=2 {
        press(&mut rig, 0.9);
        set_all(&mut rig, 1, |_| Doing::Hangs);
        rig.run(15);
        press(&mut rig, 0.0);
        rig.run(8);
        assert_eq!(terms(&rig), 0, "silence {silence}: 23 s, of which 15 were under pressure");
        set_all(&mut rig, 1, ticks);
        rig.run(60);
    }
    press(&mut rig, 0.9);
    set_all(&mut rig, 1, |_| Doing::Hangs);
    rig.run(15);
    press(&mut rig, 0.0);
    rig.run(11);
    assert_eq!(terms(&rig), 1, "a deadline after the pressure has gone");
}

#[test]
fn work_is_granted_the_longer_limits_of_a_pressure_too_and_once_in_a_standstill() {
    let work = horus_core::plan::ProgressPlan { counter: "filled".into(), stalled: 60 * SECOND };
    let progress = std::collections::BTreeMap::from([("fills".to_owned(), work)]);
    let mut rig = Rig::new(&[("a", ServicePlan { progress, ..service() }, |_| Doing::Works)]);
    rig.run(95);
    for standstill in 1..=2 {
        press(&mut rig, 0.9);
        set_all(&mut rig, 1, ticks);
        rig.run(100);
        press(&mut rig, 0.0);
        rig.run(50);
        assert_eq!(terms(&rig), 0, "standstill {standstill}: 150 s, of which 100 were under pressure");
        set_all(&mut rig, 1, |_| Doing::Works);
        rig.run(60);
    }
    press(&mut rig, 0.9);
    set_all(&mut rig, 1, ticks);
    rig.run(100);
    press(&mut rig, 0.0);
    rig.run(62);
    assert_eq!(terms(&rig), 1);
}

#[test]
fn who_is_in_the_message_about_a_common_cause_is_folded_into_it() {
    let mut rig = fleet(4, |_| hangs_after_100);
    rig.run(115);
    let folded: std::collections::BTreeSet<&str> = rig
        .events
        .iter()
        .filter(|(_, _, what)| matches!(what, What::Folded { .. }))
        .map(|(_, subject, _)| subject.as_str())
        .collect();
    assert_eq!(folded.into_iter().collect::<Vec<_>>(), &NAMES[..4]);
}

#[test]
fn a_trial_that_crashes_has_failed() {
    let mut rig = fleet(3, |_| hangs_after_100);
    rig.run(145);
    assert_eq!(terms(&rig), 1);
    let tried = name(rig.signals[0].1.split(' ').next().unwrap_or_default());
    rig.behaviour.insert(tried, |age| {
        if age < 20 { Doing::Ticks } else { Doing::Exits(horus_core::observation::Exit::Code(1)) }
    });
    rig.run(330);
    assert_eq!(terms(&rig), 2, "it can prove nothing any more: the next one is tried five minutes later");
}

/// Kills of seven days ago, all but an hour and a half, none of which has cured.
fn seven_wrong_days(count: usize) -> horus_core::command::Memory {
    let kill = horus_core::command::MemoryKill {
        age: 7 * 24 * 3600 * SECOND - 5400 * SECOND,
        proven: false,
        forgiven: false,
        rule: Rule::Silent,
        onset: 60 * SECOND,
    };
    let version = horus_core::command::MEMORY_VERSION;
    horus_core::command::Memory { version, kills: vec![kill; count], ..Default::default() }
}

#[test]
fn a_detector_gets_another_chance_when_its_mistakes_are_a_week_old() {
    let services: Vec<_> = NAMES.iter().take(3).map(|name| (*name, service(), ticks as Behaviour)).collect();
    for (kills, demoted) in [(2, 0), (3, 1)] {
        let remembered = NAMES.iter().take(3).map(|text| Remembered {
            service: name(text),
            memory: seven_wrong_days(kills),
            elapsed: SECOND,
            away: Some(SECOND),
        });
        let mut rig = Rig::with_memory(&services, remembered.collect());
        rig.run(3600);
        let count = |rig: &Rig, wanted: fn(&What) -> bool| rig.count(wanted);
        assert_eq!(count(&rig, |what| matches!(what, What::DetectorDemoted { .. })), demoted);
        assert_eq!(count(&rig, |what| matches!(what, What::DetectorTrusted { .. })), 0);
        rig.run(2 * 3600);
        assert_eq!(count(&rig, |what| matches!(what, What::DetectorTrusted { .. })), demoted);
        assert_eq!(rig.engine.open_incidents(), []);
    }
}

#[test]
fn who_is_only_observed_is_not_told_of_alone_beside_a_common_cause() {
    let watched = ServicePlan { observe: true, ..service() };
    let services: Vec<_> =
        NAMES.iter().take(4).map(|name| (*name, watched.clone(), hangs_after_100 as Behaviour)).collect();
    let mut rig = Rig::new(&services);
    rig.run(135);
    assert!(matches!(rig.stories()[..], [Story::CommonCause { .. }]), "{:?}", rig.stories());
}
