//! `WATCHDOG=trigger`: a program that says itself that it hangs.

use horus_core::event::What;
use horus_core::notice::Story;
use horus_core::observation::{Observation, OperatorRequest};
use horus_core::plan::{Ready, ServicePlan};
use horus_core::reason::Rule;

use super::work::one;
use super::{hangs_after_100, is_signalled, ticks};
use crate::rig::{Doing, Rig, name, service};

fn says_that_it_hangs(rig: &mut Rig) {
    let Some((instance, _)) = rig.alive.get(&name("bot")) else { return };
    let generation = instance.generation;
    rig.observe(&name("bot"), Observation::SaidStuck { generation });
}

fn is_own_word(what: &What) -> bool {
    matches!(what, What::KillDecided { reason, .. } if reason.rule == Rule::OwnWord)
}

#[test]
fn a_program_that_says_so_and_is_silent_is_restarted_long_before_its_deadline() {
    let mut rig = one(service(), hangs_after_100);
    rig.run(101);
    says_that_it_hangs(&mut rig);
    assert!(rig.signals.is_empty(), "its next tick may be on its way");
    rig.run(3);
    assert_eq!(rig.count(is_own_word), 1);
    assert_eq!(rig.signals.len(), 1, "after a quarter of its deadline, not at twice");
    let evidence = rig.place(|what| matches!(what, What::EvidenceCaptured { .. })).unwrap();
    assert!(evidence < rig.place(is_signalled).unwrap(), "evidence first");
    rig.run(10);
    let [Story::StuckRestarting { how, .. }, Story::StuckHealed { .. }] = &rig.stories()[..] else {
        panic!("{:?}", rig.stories())
    };
    assert_eq!(how, "it says itself that it hangs (WATCHDOG=trigger)");
}

#[test]
fn invariant_g1_whoever_ticks_on_is_alive_whatever_it_says() {
    let mut rig = one(service(), ticks);
    rig.run(100);
    for _ in 0..7200 {
        says_that_it_hangs(&mut rig);
        rig.run(1);
    }
    assert!(rig.signals.is_empty(), "{:?}", rig.signals);
    assert_eq!(rig.stories(), Vec::<&Story>::new(), "nor does it flood anybody");
}

#[test]
fn invariant_g2_its_word_makes_no_kill_loop() {
    // It works for 100 s after each start and then hangs and says so: whatever it says, three that cure nothing are enough.
    let mut rig = one(service(), hangs_after_100);
    for _ in 0..24 * 3600 {
        rig.run(1);
        let hangs =
            rig.alive.get(&name("bot")).is_some_and(|(_, since)| rig.now.since(*since).as_secs() > 100);
        if hangs {
            says_that_it_hangs(&mut rig);
        }
    }
    assert!(rig.kills() <= 3 + 4, "three, then at most one in six hours: {}", rig.kills());
    assert!(rig.stories().iter().any(|story| matches!(story, Story::BreakerOpen { .. })));
}

#[test]
fn a_hold_and_observe_mode_outrank_its_word() {
    let mut rig = one(ServicePlan { observe: true, ..service() }, hangs_after_100);
    rig.run(101);
    says_that_it_hangs(&mut rig);
    rig.run(9);
    assert!(rig.signals.is_empty(), "observe mode");
    let mut rig = one(service(), hangs_after_100);
    rig.run(101);
    let (service, reason) = (name("bot"), "looking at it".to_owned());
    rig.ask(OperatorRequest::Hold { service, reason, expires_in: None, stop: false });
    says_that_it_hangs(&mut rig);
    rig.run(60);
    assert!(rig.signals.is_empty(), "held");
}

#[test]
fn one_that_promises_no_beats_is_taken_at_its_word_at_once_and_only_when_ready() {
    let silent: fn(u64) -> Doing = |_| Doing::Nothing;
    let plan = ServicePlan { beats: Vec::new(), ready: Ready::Notify, ..service() };
    let mut rig = one(plan, silent);
    rig.run(5);
    says_that_it_hangs(&mut rig);
    rig.run(5);
    assert!(rig.signals.is_empty(), "its start has rules of its own");
    let generation = rig.alive[&name("bot")].0.generation;
    rig.observe(&name("bot"), Observation::SaidReady { generation });
    says_that_it_hangs(&mut rig);
    rig.run(1);
    assert_eq!(rig.signals.len(), 1);
}

#[test]
fn a_word_that_nobody_could_heed_is_forgotten() {
    let silent: fn(u64) -> Doing = |_| Doing::Nothing;
    let plan = ServicePlan { beats: Vec::new(), ready: Ready::Process, ..service() };
    let mut rig = one(plan, silent);
    rig.run(5);
    let (service, reason) = (name("bot"), "looking at it".to_owned());
    rig.ask(OperatorRequest::Hold { service: service.clone(), reason, expires_in: None, stop: false });
    says_that_it_hangs(&mut rig);
    rig.run(600);
    rig.ask(OperatorRequest::Resume { service, reason: None });
    rig.run(60);
    assert!(rig.signals.is_empty(), "ten minutes ago it hung, by its own word; nobody knows of today");
    assert_eq!(rig.engine.open_incidents(), []);
}
