//! Work that has to move, inventories, jobs, maintenance, proofs of death.

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::calendar::Calendar;
use horus_core::event::What;
use horus_core::notice::{IncidentKind, Story};
use horus_core::observation::{Beat, Exit, Input, LoopSeen, Observation, OperatorRequest};
use horus_core::plan::{
    BeatKind, ExpectPlan, MaintenancePlan, ProgressPlan, RestartOn, SchedulePlan, ServicePlan, When,
};
use horus_core::reason::Rule;

use super::{hangs_after_100, ticks};
use crate::rig::{Behaviour, Doing, Rig, SECOND, name, service};

pub(super) const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn with_work() -> ServicePlan {
    let progress = BTreeMap::from([(
        "fills".to_owned(),
        ProgressPlan { counter: "filled".into(), stalled: 60 * SECOND },
    )]);
    ServicePlan { progress, ..service() }
}

pub(super) fn one(plan: ServicePlan, doing: Behaviour) -> Rig {
    Rig::new(&[("bot", plan, doing)])
}

#[test]
fn hang_7h_form_b_the_loop_lives_and_one_stage_is_stuck() {
    let mut rig = one(with_work(), |age| if age <= 300 { Doing::Works } else { Doing::Ticks });
    rig.run(300 + 60);
    let opened = |what: &What| matches!(what, What::IncidentOpened { kind: IncidentKind::Stuck, reason, .. } if reason.rule == Rule::Stalled);
    assert_eq!(rig.count(opened), 1, "at its limit");
    assert!(rig.signals.is_empty());
    rig.run(60);
    assert_eq!(rig.signals.len(), 1, "restarted at twice its limit");
    rig.run(5);
    let [Story::StuckRestarting { how, .. }, Story::StuckHealed { .. }] = &rig.stories()[..] else {
        panic!("{:?}", rig.stories())
    };
    assert!(how.contains("`filled` has not moved for 2 min"), "{how}");
}

#[test]
fn a_loop_that_ticks_does_not_pardon_stuck_work_and_work_that_moves_does() {
    let mut rig = one(with_work(), |age| if age <= 300 || age > 419 { Doing::Works } else { Doing::Ticks });
    rig.run(1000);
    assert!(rig.signals.is_empty(), "one second before the restart it moved");
    assert_eq!(rig.engine.open_incidents(), []);
    assert!(rig.told.is_empty(), "it healed alone: recorded and quiet");
}

#[test]
fn work_that_never_moved_is_told_and_not_restarted() {
    let mut rig = one(with_work(), ticks);
    rig.run(24 * 3600);
    assert!(rig.signals.is_empty());
    assert_eq!(rig.told.len(), 1, "{:?}", rig.stories());
}

#[test]
fn idle_by_declaration_is_not_stalled() {
    let mut rig = one(with_work(), |age| if age <= 300 { Doing::Works } else { Doing::Idles });
    rig.run(24 * 3600);
    assert!(rig.signals.is_empty());
    assert!(rig.told.is_empty(), "{:?}", rig.stories());
    // Back to work, it gets its whole limit again.
    rig.behaviour.insert(name("bot"), ticks);
    rig.run(59);
    assert_eq!(rig.engine.open_incidents(), []);
    rig.run(62);
    assert_eq!(rig.signals.len(), 1);
}

#[test]
fn work_that_hangs_again_and_again_ends_in_the_breaker() {
    // It works for ten minutes after each start and then stands still.
    let mut rig = one(with_work(), |age| if age <= 250 { Doing::Works } else { Doing::Ticks });
    rig.run(6 * 3600);
    assert_eq!(rig.kills(), 3);
    assert!(matches!(rig.stories().last(), Some(Story::BreakerOpen { .. })));
}

#[test]
fn a_proven_hang_is_restarted_at_the_deadline_and_not_at_twice() {
    let mut rig = one(service(), hangs_after_100);
    rig.seen = Some(LoopSeen::Blocked);
    rig.run(109);
    assert!(rig.signals.is_empty());
    rig.run(2);
    assert_eq!(rig.signals.len(), 1, "{:?}", rig.events);
}

#[test]
fn a_loop_at_home_is_told_of_and_left_alone() {
    let mut rig = one(service(), hangs_after_100);
    rig.seen = Some(LoopSeen::Home);
    rig.run(24 * 3600);
    assert!(rig.signals.is_empty());
    let [Story::StuckObserved { because, .. }] = &rig.stories()[..] else { panic!("{:?}", rig.stories()) };
    assert!(because.contains("at home"), "{because}");
}

#[test]
fn what_the_last_capture_contradicts_is_not_proven() {
    let mut rig = one(service(), hangs_after_100);
    rig.seen = Some(LoopSeen::Blocked);
    rig.run(109);
    rig.seen = None;
    rig.run(10);
    assert!(rig.signals.is_empty(), "the capture of the verdict saw nothing: back to waiting");
    rig.run(2);
    assert_eq!(rig.signals.len(), 1, "by absence, at twice the deadline");
}

#[test]
fn an_overdue_start_is_ended_by_a_proof_of_death_only() {
    let mut rig = one(service(), |_| Doing::Hangs);
    rig.seen = Some(LoopSeen::Spinning);
    rig.run(3600);
    assert!(rig.signals.is_empty(), "its CPU time stands still: that is no spinning");
    let mut rig = one(service(), |_| Doing::Hangs);
    rig.seen = Some(LoopSeen::Blocked);
    rig.run(61);
    assert!(rig.signals.is_empty());
    rig.run(5);
    assert_eq!(rig.signals.len(), 1);
    // The next start gets twice the time.
    rig.run(118);
    assert_eq!(rig.signals.len(), 1);
    rig.run(10);
    assert_eq!(rig.signals.len(), 2);
    rig.run(24 * 3600);
    assert!(rig.kills() <= 3 + 4, "the breaker bounds this, too: {}", rig.kills());
}

#[test]
fn zero_inventory_is_degraded_and_told() {
    let expects = BTreeMap::from([(
        "slots".to_owned(),
        ExpectPlan { gauge: "slots".into(), min: 1.0, within: 120 * SECOND },
    )]);
    let mut rig = one(ServicePlan { expects, ..service() }, ticks);
    rig.gauges = BTreeMap::from([("slots".to_owned(), 0.0)]);
    rig.run(120);
    assert!(rig.told.is_empty());
    rig.run(5);
    let [Story::NothingToWorkOn { is: Some(is), .. }] = &rig.stories()[..] else {
        panic!("{:?}", rig.stories())
    };
    assert!(is.abs() < f64::EPSILON);
    rig.run(3600);
    assert!(rig.signals.is_empty());
    // A restart resets the clock of the expectation and proves nothing.
    rig.ask(OperatorRequest::Restart(name("bot")));
    rig.run(60);
    assert_eq!(rig.engine.open_incidents().len(), 1);
    rig.gauges = BTreeMap::from([("slots".to_owned(), 4.0)]);
    rig.run(5);
    assert_eq!(rig.engine.open_incidents(), []);
}

#[test]
fn a_stall_that_turns_out_to_be_idleness_is_over() {
    let mut rig = one(with_work(), |age| match age {
        0..=300 => Doing::Works,
        301..=370 => Doing::Ticks,
        _ => Doing::Idles,
    });
    rig.run(370);
    assert_eq!(rig.engine.open_incidents().len(), 1, "past its limit");
    rig.run(10);
    assert_eq!(rig.engine.open_incidents(), []);
}

#[test]
fn a_loop_that_comes_back_ends_nothing_while_its_work_still_stands() {
    // Its work stands still, then its loop as well; the loop turns again before anything was done, the work does not.
    let plan = ServicePlan { deadline: 50 * SECOND, ..with_work() };
    let mut rig = one(plan, |age| match age {
        0..=100 => Doing::Works,
        161..=212 => Doing::Lies,
        _ => Doing::Ticks,
    });
    rig.run(212);
    let stuck = rig.engine.open_incidents();
    assert_eq!(stuck.len(), 1);
    rig.run(4);
    assert_eq!(rig.engine.open_incidents(), stuck, "its work has not moved");
    rig.run(10);
    assert_eq!(rig.signals.len(), 1);
}

#[test]
fn who_works_while_its_tick_stands_still_is_told_of_and_not_restarted() {
    let mut rig = one(with_work(), |_| Doing::Works);
    rig.run(100);
    rig.behaviour.insert(name("bot"), |_| Doing::Nothing);
    let beat = |rig: &mut Rig, filled: u64| {
        let (generation, progress) =
            (rig.alive[&name("bot")].0.generation, BTreeMap::from([("filled".to_owned(), filled)]));
        let beat = Beat {
            source: BeatKind::Http,
            tick: Some(1),
            progress,
            declared: None,
            gauges: BTreeMap::new(),
            loop_lag_ms: None,
        };
        rig.observe(&name("bot"), Observation::Beat { generation, beat });
        rig.run(1);
    };
    for second in 0..600 {
        beat(&mut rig, 1_000_000 + second);
    }
    assert!(rig.signals.is_empty(), "the tick may be wrong: {:?}", rig.signals);
    assert_eq!(rig.told.len(), 1, "{:?}", rig.stories());
    // And when the work stands still as well, it hangs.
    for _ in 0..60 {
        beat(&mut rig, 2_000_000);
    }
    assert_eq!(rig.signals.len(), 1);
}

#[test]
fn time_in_which_horus_stood_still_is_charged_to_no_work() {
    let mut rig = one(with_work(), |age| if age <= 100 { Doing::Works } else { Doing::Ticks });
    rig.run(130);
    rig.now = rig.now + 100 * SECOND;
    rig.step(Input::Wake);
    rig.run(25);
    assert_eq!(rig.engine.open_incidents(), [], "it has stood still for 55 s that anybody has seen");
    rig.run(10);
    assert_eq!(rig.engine.open_incidents().len(), 1);
    assert!(rig.signals.is_empty());
}

#[test]
fn an_overdue_start_that_asks_for_time_is_not_ended_by_a_proof_of_death() {
    let mut rig = one(service(), |_| Doing::Hangs);
    rig.seen = Some(LoopSeen::Blocked);
    rig.run(61);
    let generation = rig.alive[&name("bot")].0.generation;
    let extend = 300 * SECOND;
    rig.observe(&name("bot"), Observation::AskedForTime { generation, extend });
    rig.run(290);
    assert!(rig.signals.is_empty(), "{:?}", rig.signals);
    rig.run(120);
    assert_eq!(rig.signals.len(), 1);
}

// --- jobs ---

pub(super) fn job(when: When, catch_up: bool) -> ServicePlan {
    let schedule = Some(SchedulePlan { when, finish: 300 * SECOND, catch_up });
    let mut plan = ServicePlan { schedule, beats: Vec::new(), ..service() };
    plan.restart.on = RestartOn::Never;
    plan
}

pub(super) fn every(hours: u32) -> When {
    When::Every(HOUR * hours)
}

#[expect(clippy::unwrap_used, reason = "the text is right")]
pub(super) fn daily_at_six() -> When {
    When::Cron(Calendar::parse("0 6 * * *", "UTC").unwrap())
}

pub(super) fn finishes(age: u64) -> Doing {
    if age < 60 { Doing::Nothing } else { Doing::Exits(Exit::Code(0)) }
}

fn count_finished(rig: &Rig) -> usize {
    rig.count(|what| matches!(what, What::RunFinished { .. }))
}

#[test]
fn a_job_runs_at_its_times_and_finishes_in_silence() {
    let mut rig = one(job(every(1), false), finishes);
    rig.run(24 * 3600 - 1);
    assert_eq!((rig.starts.len(), count_finished(&rig)), (24, 24));
    assert!(rig.told.is_empty() && rig.signals.is_empty());
    assert_eq!(
        rig.count(|what| matches!(what, What::IncidentOpened { .. })),
        0,
        "nor is it written down as one"
    );
    assert_eq!(rig.engine.open_incidents(), []);
}

#[test]
fn a_job_follows_the_calendar_once_the_time_of_day_is_known() {
    let mut rig = one(job(daily_at_six(), false), finishes);
    rig.run(3600);
    assert!(rig.starts.is_empty(), "nobody has said what time it is");
    rig.step(Input::Wall("2026-11-22T05:00:00Z".parse().unwrap()));
    rig.run(3599);
    assert!(rig.starts.is_empty());
    rig.run(2);
    assert_eq!(rig.starts.len(), 1);
    // The clock is set back by half an hour: the run of six o'clock is not repeated.
    rig.step(Input::Wall("2026-11-22T05:30:02Z".parse().unwrap()));
    rig.run(3600);
    assert_eq!(rig.starts.len(), 1);
    rig.run(24 * 3600);
    assert_eq!(rig.starts.len(), 2);
}

#[test]
fn a_run_that_takes_too_long_is_told_once_and_the_next_one_is_skipped() {
    let mut rig = one(job(every(1), false), |_| Doing::Nothing);
    rig.run(3 * 3600 + 10);
    assert_eq!(rig.starts.len(), 1);
    assert!(rig.signals.is_empty());
    assert!(
        matches!(rig.stories()[0], Story::RunOverdue { skipped: 0, doing: None, .. }),
        "{:?}",
        rig.stories()
    );
    assert!(matches!(rig.stories()[1], Story::RunOverdue { skipped: 1, .. }));
    assert_eq!(rig.told.len(), 2);
    assert_eq!(rig.count(|what| matches!(what, What::RunSkipped { .. })), 3);
    rig.end(&name("bot"), Exit::Code(0));
    assert_eq!(rig.engine.open_incidents(), []);
}

#[test]
fn a_failed_run_is_told_and_the_next_good_one_ends_the_matter() {
    let mut rig =
        one(job(every(1), false), |age| if age < 5 { Doing::Nothing } else { Doing::Exits(Exit::Code(3)) });
    rig.run(60);
    assert!(matches!(rig.stories()[..], [Story::ExitStaysDown { .. }]), "{:?}", rig.stories());
    assert_eq!(rig.starts.len(), 1, "it waits for its next time");
    rig.behaviour.insert(name("bot"), finishes);
    rig.run(3700);
    assert_eq!(rig.starts.len(), 2);
    assert!(matches!(rig.stories()[..], [_, Story::Over { .. }]), "{:?}", rig.stories());
    assert_eq!(rig.engine.open_incidents(), []);
}

#[test]
fn a_held_job_is_not_started_and_resumes_with_its_next_time() {
    let mut rig = one(job(every(1), false), finishes);
    rig.run(100);
    let (reason, expires_in) = ("moving".to_owned(), None);
    rig.ask(OperatorRequest::Hold { service: name("bot"), reason, expires_in, stop: false });
    rig.run(2 * 3600);
    assert_eq!(rig.starts.len(), 1);
    rig.ask(OperatorRequest::Resume { service: name("bot"), reason: None });
    rig.run(10);
    assert_eq!(rig.starts.len(), 1);
    rig.run(3600);
    assert_eq!(rig.starts.len(), 2);
    assert!(rig.told.is_empty());
}

#[test]
fn times_that_passed_while_horus_was_away_are_told_and_made_up_for_once() {
    let mut rig = one(job(daily_at_six(), true), finishes);
    rig.step(Input::Wall("2026-11-22T05:00:00Z".parse().unwrap()));
    rig.run(3700);
    assert_eq!(rig.starts.len(), 1);
    let memory = rig.memories[&name("bot")].clone();
    let remembered =
        horus_core::Remembered { service: name("bot"), memory, elapsed: 75 * HOUR, away: Some(75 * HOUR) };
    let mut next = Rig::with_memory(&[("bot", job(daily_at_six(), true), finishes)], vec![remembered]);
    next.step(Input::Wall("2026-11-25T09:01:40Z".parse().unwrap()));
    next.run(10);
    assert_eq!(next.starts.len(), 1, "once, for three missed times");
    assert!(
        matches!(next.stories()[..], [Story::RunMissed { missed: 3, catches_up: true, .. }]),
        "{:?}",
        next.stories()
    );
    next.run(3600);
    assert_eq!(next.engine.open_incidents(), []);
    assert_eq!(next.starts.len(), 1);
}

// --- maintenance ---

#[test]
fn in_a_maintenance_window_nothing_is_signalled_and_nothing_makes_noise() {
    let mut rig = one(service(), hangs_after_100);
    let when = Calendar::parse("0 3 * * *", "UTC").unwrap();
    let window = MaintenancePlan { services: Vec::new(), when, lasts: HOUR };
    rig.change_plan(|plan| drop(plan.maintenance.insert("backup".into(), window)));
    rig.step(Input::Wall("2026-11-22T02:59:00Z".parse().unwrap()));
    rig.run(60 + 3590);
    assert_eq!(rig.count(|what| matches!(what, What::MaintenanceBegan { .. })), 1);
    assert!(rig.signals.is_empty());
    assert!(rig.told.iter().all(|(_, notice)| !notice.loud), "{:?}", rig.told);
    rig.run(20);
    assert_eq!(rig.count(|what| matches!(what, What::MaintenanceEnded { .. })), 1);
    assert_eq!(rig.signals.len(), 1, "what is still wrong at the end is healed");
}

#[test]
fn midnight_stall_a_recurrence_is_reported_and_nobody_is_killed() {
    // Eleven nights in a row, several minutes at midnight; the deadline is ten.
    let mut plan = service();
    plan.deadline = 600 * SECOND;
    let mut rig = one(plan, |age| {
        let of_day = age % 86_400;
        if age > 1000 && of_day < 330 { Doing::Hangs } else { Doing::Ticks }
    });
    rig.run(11 * 86_400 + 1000);
    assert!(rig.signals.is_empty());
    let [Story::Recurs { days: 3, .. }] = &rig.stories()[..] else { panic!("{:?}", rig.stories()) };
    assert!(!rig.told[0].1.loud);
}
