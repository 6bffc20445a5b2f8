//! Silences that go on while Horus dies, is upgraded, and comes back.

use std::time::Duration;

use horus_core::event::What;
use horus_core::ids::{Instance, ProcessId};
use horus_core::notice::{IncidentKind, Story};
use horus_core::observation::{Beat, Observation};
use horus_core::plan::{BeatKind, BeatPlan, ServicePlan};
use horus_core::verdict::Verdict;

use super::work::{HOUR, one, with_work};
use super::{hangs_after_100, ticks};
use crate::rig::{Behaviour, Doing, Rig, SECOND, name, service};

fn lies_after_100(age: u64) -> Doing {
    if age <= 100 { Doing::Ticks } else { Doing::Lies }
}

fn is_stuck(what: &What) -> bool {
    matches!(what, What::IncidentOpened { kind: IncidentKind::Stuck, .. })
}

fn verdict(rig: &Rig) -> Verdict {
    rig.engine.status(rig.now).services[0].verdict
}

/// Seconds after the last tick at which it was signalled.
fn signalled_after(rig: &Rig, last_tick: u64) -> u64 {
    assert!(!rig.signals.is_empty(), "it is signalled");
    let (at, _) = &rig.signals[0];
    at.since(rig.begun()).as_secs() - last_tick
}

/// Lives of so many seconds, one second apart, until somebody is signalled or an hour has passed.
fn short_lives(rig: &mut Rig, seconds: u64) {
    for _ in 0..3600 / (seconds + 1) {
        rig.run(seconds);
        if !rig.signals.is_empty() {
            return;
        }
        rig.next_life(SECOND);
    }
}

#[test]
fn invariant_g4_a_horus_that_dies_within_every_deadline_still_judges() {
    for lives in [7, 8, 9] {
        let mut rig = one(service(), hangs_after_100);
        rig.run(100);
        short_lives(&mut rig, lives);
        assert_eq!(
            rig.count(is_stuck),
            1,
            "lives of {lives} s: one incident, and no second for the same silence"
        );
        let told = rig.stories();
        assert!(matches!(told[..], [Story::StuckObserved { .. }]), "lives of {lives} s: {told:?}");
        assert!(rig.signals.is_empty(), "no life of {lives} s has listened for a whole deadline");
        rig.run(11);
        assert_eq!(rig.signals.len(), 1, "and the first that has restarts it");
    }
}

#[test]
fn invariant_g4_a_tick_that_is_heard_to_stand_where_it_stood_is_acted_upon_by_any_life() {
    let mut rig = one(service(), lies_after_100);
    rig.run(101);
    short_lives(&mut rig, 8);
    let after = signalled_after(&rig, 101);
    // Twenty seconds of silence; each death costs its second and what was not written down.
    assert!((20..=20 + 6 * 3).contains(&after), "{after} s");
}

#[test]
fn a_horus_that_lives_an_eighth_longer_than_half_a_deadline_gets_on() {
    let mut rig = one(service(), lies_after_100);
    rig.run(101);
    short_lives(&mut rig, 7);
    assert!(signalled_after(&rig, 101) < 60);
}

#[test]
fn invariant_g1_an_absence_of_horus_proves_nothing() {
    for doing in [hangs_after_100 as Behaviour, lies_after_100] {
        for away in [11 * SECOND, 7 * HOUR] {
            let mut rig = one(service(), doing);
            rig.run(100 + 18);
            rig.next_life(away);
            assert_ne!(verdict(&rig), Verdict::Silent);
            rig.run(9);
            assert!(matches!(verdict(&rig), Verdict::Slow), "{:?}", verdict(&rig));
            rig.run(9);
            assert!(rig.signals.is_empty(), "everything began anew {away:?} later");
            rig.run(4);
            assert_eq!(rig.signals.len(), 1);
        }
    }
}

#[test]
fn a_tick_that_stands_is_not_charged_for_an_absence() {
    let mut rig = one(service(), lies_after_100);
    rig.run(101 + 10);
    rig.next_life(9 * SECOND);
    rig.run(5);
    assert!(rig.signals.is_empty(), "it stood for 24 s, and was seen to for 15");
    rig.run(6);
    assert_eq!(rig.signals.len(), 1);
}

#[test]
fn invariant_g1_who_came_back_while_nobody_looked_is_well() {
    let mut rig = one(service(), |age| if (101..=118).contains(&age) { Doing::Hangs } else { Doing::Ticks });
    rig.run(100 + 18);
    rig.next_life(2 * SECOND);
    rig.run(3600);
    assert!(rig.signals.is_empty());
    assert_eq!(verdict(&rig), Verdict::Healthy);
    assert_eq!(rig.engine.open_incidents(), []);
}

#[test]
fn invariant_g6_a_silence_is_handed_over_as_it_stands() {
    // The first tick that stands still is a fresh one: it has changed.
    let forms: [(Behaviour, u64); 2] = [(hangs_after_100, 100), (lies_after_100, 101)];
    for (before, (doing, silent_from)) in
        [3, 8, 12, 18].into_iter().flat_map(|at| forms.map(|form| (at, form)))
    {
        let mut rig = one(service(), doing);
        rig.run(silent_from + before);
        rig.hand_over(SECOND / 2);
        rig.run(40);
        let after = signalled_after(&rig, silent_from);
        assert!(
            (20..=21).contains(&after),
            "handed over after {before} s of silence, signalled after {after} s"
        );
        assert_eq!(rig.count(is_stuck), 1);
    }
}

fn pushes() -> ServicePlan {
    ServicePlan { beats: vec![BeatPlan::Notify], ..service() }
}

fn push(rig: &mut Rig) {
    let (instance, _) = rig.alive[&name("bot")];
    let beat = Beat {
        source: BeatKind::Notify,
        tick: None,
        progress: std::collections::BTreeMap::new(),
        declared: None,
        gauges: std::collections::BTreeMap::new(),
        loop_lag_ms: None,
    };
    rig.observe(&name("bot"), Observation::Beat { generation: instance.generation, beat });
}

#[test]
fn invariant_g1_a_program_that_pushes_into_the_absences_of_horus_is_told_of_and_lives() {
    // It beats every nine seconds, and Horus is dead whenever it does.
    let mut rig = one(pushes(), |_| Doing::Nothing);
    for _ in 0..3 {
        rig.run(1);
        push(&mut rig);
    }
    for _ in 0..400 {
        rig.run(8);
        rig.next_life(SECOND);
    }
    assert!(rig.signals.is_empty(), "no life has listened to it for a deadline");
    assert!(matches!(rig.stories()[..], [Story::StuckObserved { .. }]), "{:?}", rig.stories());
    push(&mut rig);
    rig.run(1);
    assert_eq!(rig.engine.open_incidents(), [], "one beat that is heard ends it");
}

#[test]
fn invariant_g1_the_silence_of_one_process_is_not_that_of_another() {
    let mut rig = one(service(), hangs_after_100);
    rig.run(100 + 18);
    let (instance, since) = rig.alive[&name("bot")];
    let process = ProcessId { start_time: instance.process.start_time + 1, ..instance.process };
    rig.alive.insert(name("bot"), (Instance { process, ..instance }, since));
    rig.next_life(SECOND);
    rig.run(9);
    assert_eq!(verdict(&rig), Verdict::Slow, "the same pid, and another program");
}

#[test]
fn what_was_lawful_under_other_limits_is_not_held_against_it_by_the_next_life() {
    let plan = ServicePlan { deadline: 60 * SECOND, ..service() };
    let mut rig = one(plan, hangs_after_100);
    rig.run(100 + 50);
    rig.plan.services.insert(name("bot"), service());
    rig.next_life(SECOND);
    rig.run(9);
    assert_eq!(verdict(&rig), Verdict::Slow, "nine seconds under the new deadline");
}

#[test]
fn a_standstill_of_work_goes_on_while_horus_dies() {
    let mut rig = one(with_work(), |age| if age <= 300 { Doing::Works } else { Doing::Ticks });
    rig.run(300);
    short_lives(&mut rig, 45);
    let after = signalled_after(&rig, 300);
    assert!((120..=160).contains(&after), "{after} s");
    let mut moves = one(with_work(), |age| if age <= 300 || age > 331 { Doing::Works } else { Doing::Ticks });
    moves.run(300);
    for _ in 0..100 {
        moves.run(31);
        moves.next_life(SECOND);
    }
    assert!(moves.signals.is_empty(), "it moves in each absence, and a little after");
}

#[test]
fn a_start_that_is_never_done_is_told_of_although_horus_dies() {
    let mut rig = one(service(), |_| Doing::Unreachable);
    rig.run(1);
    for _ in 0..8 {
        rig.run(19);
        rig.next_life(SECOND);
    }
    assert!(matches!(rig.stories()[..], [Story::StartOverdue { .. }]), "{:?}", rig.stories());
}

#[test]
fn what_was_told_of_a_silence_is_not_told_again_by_each_life() {
    let mut rig = one(ServicePlan { observe: true, ..service() }, hangs_after_100);
    rig.run(100 + 30);
    for away in [1, 2, 3] {
        rig.next_life(away * SECOND);
        rig.run(9);
    }
    assert!(matches!(rig.stories()[..], [Story::StuckObserved { .. }]), "{:?}", rig.stories());
}

#[test]
fn a_healthy_program_has_nothing_written_down_of_its_gaps() {
    let mut rig = one(service(), ticks);
    rig.run(1000);
    let before = rig.memories[&name("bot")].clone();
    assert_eq!(before.silent, None);
    let mut slow = one(service(), |age| if age % 4 == 0 || age < 3 { Doing::Ticks } else { Doing::Nothing });
    slow.run(1000);
    assert_eq!(slow.memories[&name("bot")].silent, None);
    let mut still = one(service(), hangs_after_100);
    still.run(100 + 8);
    let silent = still.memories[&name("bot")].silent.clone().unwrap();
    assert_eq!(silent.sources.len(), 1);
    assert!(silent.sources[0].age >= Duration::from_millis(7_500), "{silent:?}");
}

#[test]
fn what_was_told_of_one_silence_keeps_nobody_from_being_told_of_the_next() {
    let plan = ServicePlan { observe: true, ..with_work() };
    let mut rig =
        one(plan, |age| if age <= 300 || (425..=430).contains(&age) { Doing::Works } else { Doing::Ticks });
    rig.run(421);
    assert!(matches!(rig.stories()[..], [Story::StuckObserved { .. }]), "{:?}", rig.stories());
    // The next life hears its work move, and that is the end of it.
    rig.next_life(SECOND);
    rig.run(200);
    let told = rig.stories().into_iter().filter(|story| matches!(story, Story::StuckObserved { .. })).count();
    assert_eq!(told, 2, "{:?}", rig.stories());
}
