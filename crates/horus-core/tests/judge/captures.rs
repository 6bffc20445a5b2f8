//! Captures: which of them are compared, and what is done when the newest one says something else.

use horus_core::event::What;
use horus_core::observation::{CaptureStage, LoopSeen};

use super::{hangs_after_100, one, ticks};
use crate::rig::{Rig, name};

/// It hangs from the 101st second on; its early capture comes after 2.5 s of that, the second after 5 s.
fn seen(first: Option<LoopSeen>) -> Rig {
    let mut rig = one(hangs_after_100);
    rig.seen = first;
    rig.run(104);
    rig
}

#[test]
fn of_several_captures_the_last_two_are_compared() {
    // Nothing was to be seen at first; the second and the third look, at the deadline, find it in the same place.
    let mut rig = seen(None);
    rig.seen = Some(LoopSeen::Blocked);
    rig.run(8);
    assert_eq!(rig.signals.len(), 1, "proven at the deadline, and not by absence at twice that");
}

#[test]
fn two_captures_that_agree_are_proof_enough() {
    let mut rig = seen(Some(LoopSeen::Blocked));
    rig.run(3);
    // The third is not needed, so nobody waits for it.
    rig.captures = false;
    rig.run(4);
    assert_eq!(rig.kills(), 1);
}

#[test]
fn a_capture_that_saw_nothing_says_so_and_only_that_one() {
    let mut rig = one(hangs_after_100);
    rig.run(125);
    let empty =
        |what: &What| matches!(what, What::EvidenceCaptured { finding, .. } if !finding.missing.is_empty());
    assert!(rig.count(|what| matches!(what, What::EvidenceCaptured { .. })) > 0);
    assert_eq!(rig.count(empty), 0, "{:?}", rig.events);
}

#[test]
fn who_was_at_home_is_looked_at_again_and_healed_when_it_is_not() {
    let mut rig = one(hangs_after_100);
    rig.seen = Some(LoopSeen::Home);
    rig.run(1000);
    assert!(rig.signals.is_empty(), "it waits for work");
    rig.seen = Some(LoopSeen::Blocked);
    rig.run(3600);
    assert!(!rig.signals.is_empty(), "what was seen a quarter of an hour ago protects nobody for ever");
}

#[test]
fn who_was_stopped_is_looked_at_again_and_healed_when_it_was_let_go() {
    let mut rig = one(hangs_after_100);
    rig.stopped = Some("it is stopped by SIGSTOP or a debugger".into());
    rig.run(1000);
    assert!(rig.signals.is_empty());
    rig.stopped = None;
    rig.run(3600);
    assert!(!rig.signals.is_empty());
}

#[test]
fn a_long_silence_that_is_left_alone_is_looked_at_ever_more_rarely() {
    let mut rig = one(hangs_after_100);
    rig.seen = Some(LoopSeen::Home);
    rig.run(100 + 24 * 3600);
    let looks = rig.count(|what| matches!(what, What::EvidenceCaptured { stage: CaptureStage::Second, .. }));
    assert!((20..=40).contains(&looks), "{looks} looks in a day: about one an hour");
    // The next silence is a new one.
    rig.behaviour.insert(name("bot"), ticks);
    rig.run(10);
    rig.seen = Some(LoopSeen::Blocked);
    rig.behaviour.insert(name("bot"), |_| crate::rig::Doing::Hangs);
    rig.run(22);
    assert_eq!(rig.signals.len(), 1);
}

#[test]
fn who_is_at_home_is_told_of_when_a_restart_would_have_been_due_and_once() {
    let mut rig = one(hangs_after_100);
    rig.seen = Some(LoopSeen::Home);
    rig.run(119);
    assert!(rig.told.is_empty(), "{:?}", rig.stories());
    rig.run(2);
    assert_eq!(rig.told.len(), 1);
    rig.run(600);
    assert_eq!(rig.told.len(), 1);
}
