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
    let activity = Activity { output_bytes: Some(output), cpu_ms: Some(cpu_ms), io_bytes: Some(0) };
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
    rig.run(1);
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

/// A batch that says which step it is in, and nothing else.
fn batch() -> ServicePlan {
    let steps = BTreeMap::from([("load".to_owned(), 300 * SECOND), ("train".to_owned(), 3600 * SECOND)]);
    let heartbeat = vec![horus_core::plan::BeatPlan::Notify];
    ServicePlan { beats: heartbeat, ready: Ready::Tick, steps, ..service() }
}

fn says(rig: &mut Rig, step: &str) {
    let generation = rig.alive[&name("bot")].0.generation;
    let step = Some(step).filter(|step| !step.is_empty()).map(str::to_owned);
    rig.observe(&name("bot"), Observation::SaidStep { generation, step });
}

/// It goes on for so long, and is seen to do something every five seconds, or nothing.
fn goes_on(rig: &mut Rig, seconds: u64, works: bool) {
    let begun = rig.now;
    for look in 0..seconds / 5 {
        let so_far = if works {
            1_000_000 + begun.since(horus_core::time::Mono::default()).as_secs() + look
        } else {
            7
        };
        does(rig, 0, so_far);
        rig.run(5);
    }
}

#[test]
fn a_step_that_takes_too_long_and_does_nothing_is_told_with_that_and_left_alone() {
    let mut rig = one(batch(), silent);
    rig.run(20);
    says(&mut rig, "load");
    goes_on(&mut rig, 200, true);
    assert!(rig.told.is_empty(), "{:?}", rig.stories());
    goes_on(&mut rig, 3600, false);
    assert!(rig.signals.is_empty(), "weak signs that stand still prove nothing");
    let [Story::RunOverdue { step: Some(step), doing: Some(doing), .. }] = &rig.stories()[..] else {
        panic!("{:?}", rig.stories())
    };
    assert_eq!((step.as_str(), doing.as_str()), ("load", "has done nothing at all for 1 min 40 s"));
}

#[test]
fn a_step_that_takes_too_long_and_works_is_told_once_and_left_alone() {
    let mut rig = one(batch(), silent);
    rig.run(5);
    says(&mut rig, "load");
    goes_on(&mut rig, 3 * 3600, true);
    assert!(rig.signals.is_empty(), "{:?}", rig.signals);
    assert!(matches!(rig.stories()[..], [Story::RunOverdue { step: Some(_), .. }]), "{:?}", rig.stories());
    says(&mut rig, "train");
    goes_on(&mut rig, 60, true);
    assert_eq!(rig.engine.open_incidents(), [], "the next step has begun");
    assert_eq!(rig.count(|what| matches!(what, What::StepBegun { .. })), 2);
}

#[test]
fn a_step_is_never_ended_by_what_nobody_has_seen() {
    let mut rig = one(batch(), silent);
    rig.run(5);
    says(&mut rig, "load");
    rig.run(24 * 3600);
    assert!(rig.signals.is_empty(), "nobody counts what it does");
    assert!(matches!(rig.stories()[..], [Story::RunOverdue { step: Some(_), .. }]), "{:?}", rig.stories());
}

#[test]
fn who_only_speaks_in_steps_owes_no_tick_and_a_step_without_a_limit_may_last() {
    let mut rig = one(batch(), silent);
    rig.run(5);
    says(&mut rig, "evaluate");
    goes_on(&mut rig, 24 * 3600, false);
    assert!(rig.signals.is_empty() && rig.told.is_empty(), "{:?}", rig.stories());
    let known = rig.engine.explain(rig.now, "bot").unwrap().known;
    assert!(known.iter().any(|known| known.says.contains("sets no limit")), "{known:?}");
}

#[test]
fn a_change_of_step_many_times_a_second_is_written_down_every_ten_seconds() {
    let mut rig = one(batch(), silent);
    rig.run(5);
    for round in 0..300 {
        says(&mut rig, ["load", "train", ""][round % 3]);
    }
    let count = |rig: &Rig| rig.count(|what| matches!(what, What::StepBegun { .. }));
    assert_eq!(count(&rig), 1);
    rig.run(60);
    assert_eq!(count(&rig), 2, "the last word, when its time had come");
    assert_eq!(rig.count(|what| matches!(what, What::StepBegun { step: None, .. })), 1);
}

#[test]
fn between_two_steps_no_tick_is_missing_either() {
    let mut rig = one(batch(), silent);
    let generation = rig.alive[&name("bot")].0.generation;
    rig.observe(&name("bot"), Observation::SaidReady { generation });
    rig.run(5);
    says(&mut rig, "load");
    rig.run(60);
    says(&mut rig, "");
    rig.run(3600);
    assert!(rig.signals.is_empty() && rig.told.is_empty(), "{:?}", rig.stories());
}

#[test]
fn what_is_seen_from_outside_may_rest_while_a_step_may_last() {
    let work = ProgressPlan { counter: CPU.into(), stalled: 60 * SECOND };
    let plan = ServicePlan { progress: BTreeMap::from([("cpu".to_owned(), work)]), ..batch() };
    let mut rig = one(plan, silent);
    rig.run(5);
    says(&mut rig, "load");
    goes_on(&mut rig, 30, true);
    goes_on(&mut rig, 200, false);
    assert!(rig.signals.is_empty() && rig.told.is_empty(), "{:?}", rig.stories());
    says(&mut rig, "upload");
    goes_on(&mut rig, 110, false);
    assert!(rig.signals.is_empty(), "the next step owes nothing for the time of the last: {:?}", rig.signals);
    goes_on(&mut rig, 20, false);
    assert_eq!(rig.signals.len(), 1, "no limit was declared for this step, and one for its work");
}

#[test]
fn a_loop_that_ticks_is_judged_by_its_tick_in_a_step_as_well() {
    let plan = ServicePlan { steps: BTreeMap::from([("train".to_owned(), 3600 * SECOND)]), ..service() };
    let mut rig = one(plan, hangs_after_100);
    rig.run(50);
    says(&mut rig, "train");
    rig.run(110);
    assert_eq!(rig.signals.len(), 1, "its tick used to move");
}
