//! What ends an incident, and what does not: an exit, a recovery, a proof.

use horus_core::event::What;
use horus_core::notice::{IncidentKind, Story};
use horus_core::observation::{Beat, Exit, Observation, OperatorRequest};
use horus_core::plan::BeatKind;

use super::{hangs_after_100, one, ticks};
use crate::rig::{Doing, Rig, SECOND, name, service};

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

/// It hung at 101 s and was restarted; now it ticks.
fn restarted() -> Rig {
    let mut rig = one(hangs_after_100);
    rig.run(125);
    assert_eq!(rig.kills(), 1);
    rig.behaviour.insert(name("bot"), ticks);
    rig
}

#[test]
fn what_was_wrong_before_a_person_stopped_it_is_proven_away_all_the_same() {
    let ends: [fn(&mut Rig); 2] = [
        |rig| *rig = restarted(),
        |rig| {
            rig.run(20);
            rig.end(&name("bot"), Exit::Code(1));
        },
    ];
    for end in ends {
        let mut rig = one(ticks);
        end(&mut rig);
        rig.run(20);
        rig.ask(OperatorRequest::Stop(name("bot")));
        rig.run(20);
        assert_eq!(rig.engine.open_incidents(), [], "a person has taken it in hand");
        rig.ask(OperatorRequest::Start(name("bot")));
        rig.run(310);
        let memory = &rig.memories[&name("bot")];
        assert_eq!((memory.kills_unproven, memory.exits_unproven), (0, 0));
    }
}

#[test]
fn who_is_forgiven_before_its_proof_ends_its_incident_by_a_proof_all_the_same() {
    let mut rig = restarted();
    rig.run(20);
    rig.ask(OperatorRequest::Resume { service: name("bot"), reason: None });
    assert_eq!(rig.engine.open_incidents().len(), 1);
    rig.run(310);
    assert_eq!(rig.engine.open_incidents(), []);
}

#[test]
fn a_habit_that_was_cured_is_not_held_against_a_crash() {
    // Three times it hung two hours after its start; since then it works.
    let mut rig = one(|age| if age <= 7200 { Doing::Ticks } else { Doing::Hangs });
    while rig.kills() < 3 {
        rig.run(60);
    }
    rig.behaviour.insert(name("bot"), ticks);
    rig.run(5 * 3600);
    assert_eq!(rig.memories[&name("bot")].kills_unproven, 0);
    rig.end(&name("bot"), Exit::Code(1));
    rig.run(310);
    assert_eq!(rig.memories[&name("bot")].exits_unproven, 0, "five minutes, as ever");
}

#[test]
fn steady_is_measured_by_the_deadline_of_the_plan_however_patient_the_judge_has_become() {
    // After one restart the judge waits twice as long; a pause of 15 s in 10 s is not steady all the same.
    let mut rig = restarted();
    rig.behaviour
        .insert(name("bot"), |age| if (200..215).contains(&age) { Doing::Nothing } else { Doing::Ticks });
    let proofs = |rig: &Rig| rig.count(|what| matches!(what, What::Proven { .. }));
    let begun = rig.alive[&name("bot")].1;
    let age = rig.now.since(begun).as_secs();
    rig.run(215 + 295 - age);
    assert_eq!(proofs(&rig), 0, "five minutes from that pause on");
    rig.run(10);
    assert_eq!(proofs(&rig), 1);
}

#[test]
fn a_crash_after_a_standstill_that_was_cured_is_proven_by_ticks() {
    // Its work was restarted for once, and moved again for long enough. Since the crash its page shows no counter at all.
    let work = horus_core::plan::ProgressPlan { counter: "filled".into(), stalled: 60 * SECOND };
    let mut plan = service();
    plan.progress.insert("fills".into(), work);
    let mut rig = Rig::new(&[("bot", plan, |age| if age <= 300 { Doing::Works } else { Doing::Ticks })]);
    rig.run(425);
    assert_eq!(rig.kills(), 1);
    rig.behaviour.insert(name("bot"), |_| Doing::Works);
    rig.run(700);
    assert_eq!(rig.memories[&name("bot")].kills_unproven, 0);
    rig.end(&name("bot"), Exit::Code(1));
    rig.behaviour.insert(name("bot"), |_| Doing::Nothing);
    for tick in 1..=320 {
        let (generation, tick) = (rig.alive[&name("bot")].0.generation, Some(tick));
        let beat = Beat {
            source: BeatKind::Http,
            tick,
            progress: Default::default(),
            declared: None,
            gauges: Default::default(),
            loop_lag_ms: None,
        };
        rig.observe(&name("bot"), Observation::Beat { generation, beat });
        rig.run(1);
    }
    assert_eq!(rig.memories[&name("bot")].exits_unproven, 0);
}
