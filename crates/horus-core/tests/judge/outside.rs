//! Weak signs: what Horus counts from outside of programs that say nothing.

use std::collections::BTreeMap;

use horus_core::activity::{self, CPU, OUTPUT};
use horus_core::event::What;
use horus_core::notice::Story;
use horus_core::observation::{Activity, Beat, Observation};
use horus_core::plan::{BeatKind, ProgressPlan, Ready, ServicePlan, ValuePlan};
use horus_core::verdict::{ProgressAxis, Verdict};

use super::work::{every, job, one};
use super::{hangs_after_100, ticks};
use crate::rig::{Doing, Rig, SECOND, name, service};

fn silent(_age: u64) -> Doing {
    Doing::Nothing
}

/// Nothing beats for it; it has to print something every minute.
fn printer() -> ServicePlan {
    let work = ProgressPlan { counter: OUTPUT.into(), stalled: 60 * SECOND };
    let progress = BTreeMap::from([("output".to_owned(), work)]);
    ServicePlan { beats: Vec::new(), ready: Ready::Process, progress, ..service() }
}

/// It has printed and used so much.
fn does(rig: &mut Rig, output: u64, cpu_ms: u64) {
    let Some((instance, _)) = rig.alive.get(&name("bot")) else { return };
    let generation = instance.generation;
    let activity = Activity { output_bytes: Some(output), cpu_ms: Some(cpu_ms), io_bytes: None };
    rig.observe(&name("bot"), Observation::Activity { generation, activity });
}

#[test]
fn who_stops_printing_is_restarted_if_that_was_declared_and_it_used_to() {
    let mut rig = one(printer(), silent);
    for look in 0..20 {
        does(&mut rig, look * 100, 0);
        rig.run(5);
    }
    assert_eq!(rig.engine.status(rig.now).services[0].verdict, Verdict::Unknown);
    for _ in 0..22 {
        does(&mut rig, 1_900, 0);
        rig.run(5);
    }
    assert!(rig.signals.is_empty(), "{:?}", rig.signals);
    for _ in 0..6 {
        does(&mut rig, 1_900, 0);
        rig.run(5);
    }
    assert_eq!(rig.signals.len(), 1, "at twice its limit");
    let Story::StuckRestarting { how, .. } = rig.stories()[0] else { panic!("{:?}", rig.stories()) };
    assert!(how.contains("`horus.output` has not moved for"), "{how}");
}

#[test]
fn nobody_is_restarted_for_output_that_was_never_seen_or_is_not_looked_at() {
    let mut never = one(printer(), silent);
    for _ in 0..200 {
        does(&mut never, 0, 0);
        never.run(5);
    }
    assert!(never.signals.is_empty(), "it never printed: that it does not proves nothing");
    let mut unseen = one(printer(), silent);
    for look in 0..20 {
        does(&mut unseen, look * 100, 0);
        unseen.run(5);
    }
    unseen.run(3600);
    assert!(unseen.signals.is_empty(), "nobody has looked since");
}

#[test]
fn weak_signs_excuse_no_silence() {
    let work = ProgressPlan { counter: CPU.into(), stalled: 600 * SECOND };
    let plan = ServicePlan { progress: BTreeMap::from([("cpu".to_owned(), work)]), ..service() };
    let mut rig = one(plan, hangs_after_100);
    for second in 0..160 {
        does(&mut rig, second, second * 10);
        rig.run(1);
    }
    assert_eq!(rig.signals.len(), 1, "its loop is silent, whatever CPU it burns");
}

#[test]
fn a_program_cannot_speak_for_what_horus_counts() {
    let value = ValuePlan { counter: OUTPUT.into(), stale: 100 * SECOND, dead: None };
    let plan = ServicePlan { values: BTreeMap::from([("output".to_owned(), value)]), ..service() };
    let mut rig = one(plan, ticks);
    for tick in 0..200 {
        let generation = rig.alive[&name("bot")].0.generation;
        let progress = BTreeMap::from([(OUTPUT.to_owned(), tick)]);
        let beat = Beat {
            source: BeatKind::Http,
            tick: None,
            progress,
            declared: None,
            gauges: BTreeMap::new(),
            loop_lag_ms: None,
        };
        rig.observe(&name("bot"), Observation::Beat { generation, beat });
        rig.run(1);
    }
    assert!(matches!(rig.stories()[..], [Story::Valueless { .. }]), "{:?}", rig.stories());
    assert!(rig.signals.is_empty());
    assert_ne!(rig.engine.status(rig.now).services[0].progress.is, ProgressAxis::Advancing);
}

#[test]
fn a_run_that_takes_too_long_is_told_with_what_it_does_meanwhile() {
    let mut rig = one(job(every(1), false), silent);
    rig.run(3600 + 1);
    for look in 0..61 {
        does(&mut rig, look.min(3), 0);
        rig.run(5);
    }
    let Story::RunOverdue { doing: Some(doing), .. } = rig.stories()[0] else {
        panic!("{:?}", rig.stories())
    };
    assert_eq!(doing, "has done nothing at all for 4 min 40 s");
    assert!(rig.signals.is_empty());
    assert_eq!(rig.count(|what| matches!(what, What::KillDecided { .. })), 0);
}

#[test]
fn who_says_enough_by_itself_is_not_counted() {
    assert_eq!(activity::look_every(&service()), None);
    assert_eq!(activity::look_every(&printer()), Some(*activity::NAMED_EVERY.end()));
    let opaque = ServicePlan { progress: BTreeMap::new(), ..printer() };
    assert_eq!(activity::look_every(&opaque), Some(activity::OPAQUE_EVERY));
}
