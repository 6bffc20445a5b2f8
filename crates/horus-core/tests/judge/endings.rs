//! Ends of jobs that are neither a success nor a failure.

use std::collections::BTreeMap;

use horus_core::event::What;
use horus_core::notice::Story;
use horus_core::observation::{Beat, Declared, Exit, Observation, OperatorRequest};
use horus_core::plan::{BeatKind, ServicePlan};
use horus_core::verdict::Verdict;

use super::ticks;
use super::work::{every, job, one};
use crate::rig::{Doing, Rig, name, service};

fn halts(rig: &mut Rig) {
    let (tick, declared) = (Some(u64::MAX), Some(Declared::Halted));
    let (progress, gauges) = (BTreeMap::new(), BTreeMap::new());
    let beat = Beat { source: BeatKind::Http, tick, progress, declared, gauges, loop_lag_ms: None };
    let generation = rig.alive[&name("bot")].0.generation;
    rig.observe(&name("bot"), Observation::Beat { generation, beat });
    rig.end(&name("bot"), Exit::Code(0));
}

#[test]
fn a_job_that_halted_on_purpose_is_not_started_at_its_next_time_however_well_it_ended() {
    let mut rig = one(ServicePlan { beats: service().beats, ..job(every(1), true) }, ticks);
    rig.run(60);
    halts(&mut rig);
    rig.run(3 * 3600);
    assert_eq!(rig.starts.len(), 1, "halted is never started again by a rule, and a time that comes is one");
    assert_eq!(rig.count(|what| matches!(what, What::RunFinished { .. })), 0);
    assert_eq!(rig.count(|what| matches!(what, What::RunSkipped { .. })), 3, "each time is written down");
    assert!(matches!(rig.stories()[..], [Story::Halted]), "{:?}", rig.stories());
    assert!(rig.told[0].1.needs_you);
    // A person decides.
    rig.ask(OperatorRequest::Start(name("bot")));
    rig.run(60);
    assert_eq!(rig.starts.len(), 2);
}

#[test]
fn a_crash_loop_keeps_its_verdict_from_start_to_start() {
    let mut rig =
        one(service(), |age| if age < 2 { Doing::Unreachable } else { Doing::Exits(Exit::Code(1)) });
    rig.run(600);
    let verdicts = rig.events.iter().filter_map(|(_, _, what)| match what {
        What::Judged { to, .. } => Some(*to),
        _ => None,
    });
    let looping: Vec<Verdict> = verdicts.skip_while(|verdict| *verdict != Verdict::CrashLooping).collect();
    assert_eq!(looping, [Verdict::CrashLooping], "said once, and not taken back for each try");
}
