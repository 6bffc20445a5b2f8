//! One at a time: whose restart is waited for before the next one.

use horus_core::plan::{KillPlan, ServicePlan};

use super::ticks;
use crate::rig::{Behaviour, Doing, Rig, SECOND, name, service};

fn patient(deadline: u32) -> ServicePlan {
    let plan = service();
    let kills = KillPlan { prove: 3600 * SECOND, ..plan.kills };
    ServicePlan { deadline: deadline * SECOND, kills, ..plan }
}

#[test]
fn a_restart_for_the_same_cause_is_waited_for_although_a_third_silence_came_between() {
    let mut rig =
        Rig::new(&[("a", patient(10), ticks), ("b", patient(900), ticks), ("c", patient(100), ticks)]);
    let hangs: Behaviour = |_| Doing::Hangs;
    rig.run(100);
    rig.behaviour.insert(name("a"), hangs);
    rig.run(30);
    assert_eq!(rig.signals.len(), 1, "alone, and restarted; to be proven within the hour");
    rig.behaviour.insert(name("a"), ticks);
    rig.run(120);
    // Silent from minutes after the first: the same cause, as it seems.
    rig.behaviour.insert(name("b"), hangs);
    rig.run(1390);
    // Silent from much later, and back by itself: meanwhile the first one had nothing to do with the newest silence.
    rig.behaviour.insert(name("c"), hangs);
    rig.run(160);
    rig.behaviour.insert(name("c"), ticks);
    rig.run(400);
    assert_eq!(rig.signals.len(), 1, "the first is not proven yet: {:?}", rig.signals);
    rig.run(1700);
    assert_eq!(rig.signals.len(), 2, "and now it is: {:?}", rig.signals);
}
