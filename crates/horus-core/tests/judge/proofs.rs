//! What ends an incident, and what does not: an exit, a recovery, a proof.

use horus_core::event::What;
use horus_core::notice::{IncidentKind, Story};
use horus_core::observation::{Exit, OperatorRequest};

use super::{hangs_after_100, one, ticks};
use crate::rig::{Doing, Rig, name};

/// Three kills did not help: the breaker is open, the instance hangs and is left alone.
fn with_open_breaker() -> Rig {
    let mut rig = one(hangs_after_100);
    rig.run(3600);
    assert!(rig.engine.status(rig.now).services[0].breaker_open);
    rig
}

#[test]
fn an_exit_does_not_end_what_a_person_was_asked_about() {
    let mut rig = with_open_breaker();
    let asked = rig.engine.open_incidents();
    assert_eq!(asked.len(), 1);
    rig.behaviour.insert(name("bot"), ticks);
    rig.end(&name("bot"), Exit::Code(1));
    rig.run(10);
    assert!(rig.engine.open_incidents().contains(&asked[0]), "it is a new instance; nobody knows of what");
}

#[test]
fn a_kill_that_did_not_cure_is_not_called_right_by_a_later_proof() {
    let mut rig = with_open_breaker();
    // It comes back by itself, for good: that closes the breaker, and says nothing for the three restarts.
    rig.behaviour.insert(name("bot"), ticks);
    rig.run(8 * 3600);
    assert_eq!(rig.count(|what| matches!(what, What::BreakerClosed { .. })), 1);
    let right = |rig: &Rig| rig.memories[&name("bot")].kills.iter().filter(|kill| kill.proven).count();
    assert_eq!((rig.memories[&name("bot")].kills.len(), right(&rig)), (3, 0));
    // A crash is healed and proven, which is about the crash.
    let proofs = |rig: &Rig| rig.count(|what| matches!(what, What::Proven { .. }));
    let before = proofs(&rig);
    rig.end(&name("bot"), Exit::Code(1));
    rig.run(600);
    assert_eq!(proofs(&rig), before + 1);
    assert_eq!(right(&rig), 0);
}

fn opened(rig: &Rig, wanted: IncidentKind) -> usize {
    rig.count(|what| matches!(what, What::IncidentOpened { kind, .. } if *kind == wanted))
}

/// Ends it five times, after lives that have nothing in common.
fn crash_five_times(rig: &mut Rig) {
    for life in [5, 20, 50, 100, 30] {
        assert_eq!(opened(rig, IncidentKind::CrashLoop), 0, "not before the fifth");
        rig.run(life);
        rig.end(&name("bot"), Exit::Code(1));
    }
    assert_eq!(opened(rig, IncidentKind::CrashLoop), 1);
}

#[test]
fn a_crash_loop_waits_a_moment_for_the_last_line_and_not_for_ever() {
    let mut rig = one(ticks);
    rig.captures = false;
    crash_five_times(&mut rig);
    let told =
        |rig: &Rig| rig.stories().iter().filter(|story| matches!(story, Story::CrashLoop { .. })).count();
    assert_eq!(told(&rig), 0, "its last line may still come");
    rig.run(3);
    assert_eq!(told(&rig), 1);
}

#[test]
fn a_pattern_in_deaths_that_were_told_of_makes_no_new_noise() {
    let mut rig = one(ticks);
    crash_five_times(&mut rig);
    for _ in 0..3 {
        rig.run(30);
        let left = rig.engine.status(rig.now).services[0].next_start_in_ms.map_or(0, |ms| ms / 1000 + 1);
        rig.run(left + 60);
        let age = rig.now.since(rig.alive[&name("bot")].1).as_secs();
        rig.run(200 - age);
        rig.end(&name("bot"), Exit::Code(1));
    }
    let same_age = rig.told.iter().find(|(_, notice)| matches!(notice.story, Story::SameAge { .. }));
    let (_, notice) = same_age.unwrap();
    assert!(!notice.loud && notice.needs_you);
    // Alone it is loud.
    let mut rig = one(|age| if age < 129 { Doing::Ticks } else { Doing::Exits(Exit::Signal(15)) });
    rig.run(400);
    let same_age = rig.told.iter().find(|(_, notice)| matches!(notice.story, Story::SameAge { .. }));
    assert!(same_age.unwrap().1.loud);
}

#[test]
fn a_hang_that_a_person_ends_by_a_restart_was_ended_by_a_person() {
    let mut rig = one(hangs_after_100);
    rig.run(112);
    assert_eq!(rig.engine.open_incidents().len(), 1);
    rig.ask(OperatorRequest::Restart(name("bot")));
    rig.run(20);
    assert_eq!(rig.engine.open_incidents(), []);
    assert_eq!(rig.kills(), 0);
}
