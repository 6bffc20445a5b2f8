//! What the kernel shows: a proof beside a silence, a shield for whoever is held, and a word to a person where nothing beats.

use std::time::Duration;

use horus_core::event::What;
use horus_core::explain::Worth;
use horus_core::notice::{IncidentKind, Story};
use horus_core::observation::{KernelView, KernelWord, LoopSeen, Observation};
use horus_core::plan::{Ready, ServicePlan};
use horus_core::verdict::Verdict;

use super::{hangs_after_100, ticks};
use crate::rig::{Behaviour, Doing, Rig, SECOND, name, service};

/// A service that nothing beats for.
fn opaque() -> ServicePlan {
    ServicePlan { beats: Vec::new(), ready: Ready::Process, ..service() }
}

fn silent(_age: u64) -> Doing {
    Doing::Nothing
}

fn one(plan: ServicePlan, doing: Behaviour) -> Rig {
    Rig::new(&[("bot", plan, doing)])
}

fn shows(word: KernelWord, lasted: u64) -> KernelView {
    let phrase = format!("{} for {lasted} s", word.word());
    KernelView { word, lasted: Duration::from_secs(lasted), alone: true, thread: None, held: None, phrase }
}

fn see(rig: &mut Rig, view: KernelView) {
    let Some((instance, _)) = rig.alive.get(&name("bot")) else { return };
    let generation = instance.generation;
    rig.observe(&name("bot"), Observation::KernelView { generation, view });
}

/// The kernel shows this, second after second, from so old an age on.
fn watch(rig: &mut Rig, word: KernelWord, from: u64, seconds: u64) {
    for second in 0..seconds {
        see(rig, shows(word, from + second));
        rig.run(1);
    }
}

fn verdict(rig: &Rig) -> Verdict {
    rig.engine.status(rig.now).services[0].verdict
}

fn told_of_views(rig: &Rig) -> usize {
    rig.stories().iter().filter(|story| matches!(story, Story::KernelView { .. })).count()
}

#[test]
fn what_nothing_beats_for_is_told_with_its_place_and_never_signalled() {
    let mut rig = one(opaque(), silent);
    assert_eq!(verdict(&rig), Verdict::Unknown);
    watch(&mut rig, KernelWord::Alive, 0, 20);
    assert_eq!(verdict(&rig), Verdict::Healthy);
    watch(&mut rig, KernelWord::Blocked, 10, 600);
    assert_eq!(verdict(&rig), Verdict::Blocked);
    assert!(rig.signals.is_empty(), "{:?}", rig.signals);
    assert_eq!(rig.told.len(), 1, "{:?}", rig.stories());
    let Story::KernelView { seen, place, lasted, verdict, .. } = rig.stories()[0] else { panic!() };
    assert_eq!((seen.as_str(), *verdict), ("blocked for 10 s", Verdict::Blocked));
    assert_eq!(*lasted, 10 * SECOND, "at the deadline");
    assert!(place.as_ref().unwrap().contains("recvfrom"), "the evidence says where");
    let captured = rig.place(|what| matches!(what, What::EvidenceCaptured { .. })).unwrap();
    assert!(captured < rig.place(|what| matches!(what, What::Told { .. })).unwrap());
}

#[test]
fn evidence_speaks_of_the_thread_that_is_stuck() {
    for (word, who) in [(KernelWord::Blocked, "thread 4712"), (KernelWord::Spinning, "thread 4712")] {
        let mut rig = one(opaque(), silent);
        for second in 0..600 {
            see(&mut rig, KernelView { thread: Some(4_712), ..shows(word, second) });
            rig.run(1);
        }
        let Story::KernelView { place, .. } = rig.stories()[0] else { panic!() };
        assert_eq!(place.as_deref(), Some(format!("{who} sleeps in recvfrom on 10.0.0.7:443").as_str()));
    }
}

#[test]
fn what_lasts_less_than_the_deadline_in_force_is_not_told() {
    let mut rig = one(opaque(), silent);
    for _ in 0..50 {
        watch(&mut rig, KernelWord::Blocked, 0, 10);
        watch(&mut rig, KernelWord::Alive, 0, 5);
    }
    assert!(rig.told.is_empty(), "{:?}", rig.stories());
}

#[test]
fn a_program_that_is_stuck_now_and_then_is_one_incident_and_ends_when_it_is_calm() {
    let mut rig = one(opaque(), silent);
    for _ in 0..20 {
        watch(&mut rig, KernelWord::Blocked, 10, 20);
        watch(&mut rig, KernelWord::Alive, 0, 30);
    }
    assert_eq!((rig.told.len(), told_of_views(&rig)), (1, 1), "{:?}", rig.stories());
    watch(&mut rig, KernelWord::Alive, 0, 62);
    assert!(matches!(rig.stories()[1], Story::Over { .. }), "{:?}", rig.stories());
    assert_eq!(rig.engine.open_incidents(), []);
}

#[test]
fn what_is_over_before_anybody_was_told_leaves_nothing() {
    let mut rig = one(opaque(), silent);
    rig.captures = false;
    watch(&mut rig, KernelWord::Blocked, 10, 3);
    assert_eq!(rig.engine.open_incidents().len(), 1, "it waits for the evidence");
    watch(&mut rig, KernelWord::Alive, 0, 1);
    assert_eq!(rig.engine.open_incidents(), []);
    rig.run(60);
    assert!(rig.told.is_empty());
    // Evidence that does not come is not waited for.
    watch(&mut rig, KernelWord::Blocked, 10, 7);
    let Story::KernelView { place: None, .. } = rig.stories()[0] else { panic!("{:?}", rig.stories()) };
}

#[test]
fn not_to_see_it_is_not_to_see_it_well() {
    let mut rig = one(opaque(), silent);
    watch(&mut rig, KernelWord::Blocked, 10, 20);
    assert_eq!(told_of_views(&rig), 1);
    for word in [KernelWord::NoEvidence, KernelWord::NoLoop, KernelWord::Learning] {
        watch(&mut rig, word, 0, 300);
    }
    rig.run(300);
    assert_eq!(verdict(&rig), Verdict::Unknown, "nobody looks any more");
    assert_eq!(rig.told.len(), 1, "{:?}", rig.stories());
}

#[test]
fn invariant_g1_a_helper_that_beats_over_a_dead_loop_is_told_and_not_killed() {
    let mut rig = one(service(), ticks);
    rig.run(30);
    watch(&mut rig, KernelWord::Blocked, 0, 300);
    assert_eq!(verdict(&rig), Verdict::Blocked);
    assert!(rig.signals.is_empty(), "{:?}", rig.signals);
    assert_eq!((rig.told.len(), told_of_views(&rig)), (1, 1), "{:?}", rig.stories());
    assert_eq!(rig.told[0].1.kind, IncidentKind::KernelView);
}

#[test]
fn a_loop_that_burns_cpu_and_beats_is_no_dead_loop() {
    let mut rig = one(service(), ticks);
    rig.run(30);
    watch(&mut rig, KernelWord::Spinning, 0, 300);
    assert_eq!(verdict(&rig), Verdict::Healthy);
    assert!(rig.told.is_empty() && rig.signals.is_empty());
    // Where nothing beats it is told, but late: honest work looks the same.
    let mut rig = one(opaque(), silent);
    watch(&mut rig, KernelWord::Spinning, 0, 59);
    assert!(rig.told.is_empty());
    watch(&mut rig, KernelWord::Spinning, 59, 5);
    assert_eq!(told_of_views(&rig), 1);
}

/// Node has loops beside its main one that come home. A long computation is no call that it is stuck in, and is told as late as any.
#[test]
fn a_loop_that_burns_cpu_beside_one_that_comes_home_is_spinning_and_not_stuck_in_a_call() {
    let mut rig = one(opaque(), silent);
    for second in 10..59 {
        see(&mut rig, KernelView { alone: false, ..shows(KernelWord::Spinning, second) });
        rig.run(1);
    }
    assert_eq!(verdict(&rig), Verdict::Spinning);
    assert!(rig.told.is_empty(), "before six deadlines: {:?}", rig.stories());
    for second in 59..80 {
        see(&mut rig, KernelView { alone: false, ..shows(KernelWord::Spinning, second) });
        rig.run(1);
    }
    assert_eq!(told_of_views(&rig), 1, "{:?}", rig.stories());
    assert!(rig.signals.is_empty(), "{:?}", rig.signals);
}

#[test]
fn scenario_hang_7h_seen_by_the_kernel_is_ended_at_the_deadline() {
    let bound = |views: bool| {
        let mut rig = one(service(), hangs_after_100);
        // The captures themselves prove nothing here.
        rig.seen = None;
        rig.run(100);
        let last_tick = rig.now;
        for second in 0..30 {
            if views && rig.kills() == 0 {
                see(&mut rig, shows(KernelWord::Blocked, second));
            }
            rig.run(1);
        }
        let decided =
            rig.events.iter().find(|(_, _, what)| matches!(what, What::KillDecided { .. })).unwrap();
        let What::KillDecided { reason, .. } = &decided.2 else { panic!() };
        (decided.0.since(last_tick), reason.text.clone())
    };
    let (by_absence, _) = bound(false);
    let (by_proof, reason) = bound(true);
    assert!(by_absence >= 20 * SECOND, "{by_absence:?}");
    assert!(by_proof <= 12 * SECOND, "{by_proof:?}");
    assert!(reason.contains("blocked for"), "{reason}");
}

#[test]
fn another_loop_that_comes_home_is_no_proof() {
    let mut rig = one(service(), hangs_after_100);
    rig.seen = None;
    rig.run(100);
    for second in 0..19 {
        see(&mut rig, KernelView { alone: false, ..shows(KernelWord::Blocked, second) });
        rig.run(1);
    }
    assert_eq!(rig.kills(), 0, "absence is all there is");
    rig.run(5);
    assert_eq!(rig.kills(), 1);
}

#[test]
fn a_main_thread_that_was_met_at_home_in_the_silence_outweighs_a_shorter_block() {
    let mut rig = one(service(), hangs_after_100);
    rig.seen = Some(LoopSeen::Home);
    rig.run(100);
    for _ in 0..120 {
        see(&mut rig, shows(KernelWord::Blocked, 10_000));
        rig.run(1);
    }
    assert_eq!(rig.kills(), 0, "it was at home since the block is said to have begun");
}

#[test]
fn invariant_g1_whoever_is_held_by_somebody_else_is_told_and_not_killed() {
    for (word, is) in [
        (KernelWord::Stopped, Verdict::Stopped),
        (KernelWord::Paused, Verdict::Paused),
        (KernelWord::Uninterruptible, Verdict::Uninterruptible),
        (KernelWord::Thrashing, Verdict::Thrashing),
    ] {
        for plan in [service(), opaque()] {
            let mut rig = one(plan, hangs_after_100);
            rig.run(100);
            watch(&mut rig, word, 0, 600);
            assert_eq!(verdict(&rig), is);
            assert!(rig.signals.is_empty(), "{word:?}: {:?}", rig.signals);
            assert_eq!((rig.told.len(), told_of_views(&rig)), (1, 1), "{word:?}: {:?}", rig.stories());
        }
    }
}

#[test]
fn a_program_that_was_let_go_and_stays_silent_is_restarted() {
    let mut rig = one(service(), hangs_after_100);
    rig.run(100);
    watch(&mut rig, KernelWord::Stopped, 0, 60);
    assert_eq!(rig.kills(), 0);
    watch(&mut rig, KernelWord::NoLoop, 0, 30);
    assert_eq!(rig.kills(), 1);
}

#[test]
fn a_traced_program_is_not_killed() {
    let mut rig = one(service(), hangs_after_100);
    rig.run(100);
    for second in 0..300 {
        let held = Some("it is traced by pid 7".to_owned());
        see(&mut rig, KernelView { held, ..shows(KernelWord::Blocked, second) });
        rig.run(1);
    }
    assert_eq!(rig.kills(), 0);
    let Story::StuckObserved { because, .. } = rig.stories()[0] else { panic!("{:?}", rig.stories()) };
    assert!(because.contains("traced by pid 7"), "{because}");
}

#[test]
fn a_view_of_an_earlier_run_or_an_old_one_is_none() {
    let mut rig = one(opaque(), silent);
    let generation = horus_core::ids::Generation(77);
    let view = shows(KernelWord::Blocked, 100);
    rig.observe(&name("bot"), Observation::KernelView { generation, view });
    rig.run(20);
    assert_eq!(verdict(&rig), Verdict::Unknown);
    see(&mut rig, shows(KernelWord::Alive, 1));
    assert_eq!(verdict(&rig), Verdict::Healthy);
    rig.run(29);
    assert_eq!(verdict(&rig), Verdict::Healthy);
    rig.run(2);
    assert_eq!(verdict(&rig), Verdict::Unknown);
}

#[test]
fn an_incident_ends_with_the_instance_that_it_was_about() {
    let mut rig = one(opaque(), silent);
    watch(&mut rig, KernelWord::Undrained, 10, 20);
    assert_eq!(told_of_views(&rig), 1);
    rig.ask(horus_core::observation::OperatorRequest::Restart(name("bot")));
    rig.run(1);
    assert_eq!(rig.engine.open_incidents(), []);
    assert!(matches!(rig.stories()[1], Story::Over { .. }));
}

#[test]
fn an_explanation_sorts_what_is_known_by_its_worth() {
    let mut rig = one(service(), hangs_after_100);
    rig.run(106);
    see(&mut rig, shows(KernelWord::Blocked, 5));
    let told = rig.engine.explain(rig.now, "bot").unwrap();
    let of = |worth: Worth| -> Vec<&str> {
        told.known.iter().filter(|known| known.worth == worth).map(|known| known.source.as_str()).collect()
    };
    assert_eq!(told.verdict, Verdict::Slow);
    assert_eq!((of(Worth::Death), of(Worth::Absence)), (vec!["kernel"], vec!["http"]));
    let dues: Vec<Option<u64>> = told.next.iter().map(|next| next.in_ms).collect();
    assert_eq!(dues, [Some(4_000), Some(14_000)], "{:?}", told.next);
    assert!(told.forbids.is_empty(), "{:?}", told.forbids);
    assert!(rig.engine.explain(rig.now, "nobody").is_none());
    let waits = Duration::from_millis(dues[0].unwrap());
    rig.run(waits.as_secs());
    assert_eq!(verdict(&rig), Verdict::Silent, "and so it comes about");
}
