//! Jobs whose time passed while nobody could start them, and maintenance windows that are edited or overtaken by the clock.

use horus_core::Remembered;
use horus_core::calendar::Calendar;
use horus_core::event::What;
use horus_core::notice::Story;
use horus_core::observation::{Input, OperatorRequest};
use horus_core::plan::{MaintenancePlan, ServicePlan};

use super::hangs_after_100;
use super::work::{HOUR, daily_at_six, every, finishes, job, one};
use crate::rig::{Behaviour, Doing, Rig, SECOND, name, service};

/// The next life of Horus, so long after this one wrote something down. No process has lived on.
fn next_life(rig: &Rig, plan: ServicePlan, doing: Behaviour, seconds: u32) -> Rig {
    let memory = rig.memories[&name("bot")].clone();
    let remembered =
        Remembered { service: name("bot"), memory, elapsed: seconds * SECOND, away: Some(seconds * SECOND) };
    Rig::with_memory(&[("bot", plan, doing)], vec![remembered])
}

fn missed(rig: &Rig) -> Vec<u32> {
    let missed = rig.stories().into_iter().filter_map(|story| match story {
        Story::RunMissed { missed, .. } => Some(*missed),
        _ => None,
    });
    missed.collect()
}

#[expect(clippy::unwrap_used, reason = "the text is right")]
fn wall(rig: &mut Rig, text: &str) {
    rig.step(Input::Wall(text.parse().unwrap()));
}

/// It has run at six on the 22nd.
fn after_its_run() -> Rig {
    let mut rig = one(job(daily_at_six(), false), finishes);
    wall(&mut rig, "2026-11-22T05:59:00Z");
    rig.run(200);
    assert_eq!(rig.starts.len(), 1);
    rig
}

#[test]
fn a_time_that_passed_ten_minutes_ago_is_met_and_an_earlier_one_is_missed() {
    for (back_at, starts, told) in [("06:09:30", 1, vec![]), ("06:11:00", 0, vec![1])] {
        let mut next = next_life(&after_its_run(), job(daily_at_six(), false), finishes, 24 * 3600);
        wall(&mut next, &format!("2026-11-23T{back_at}Z"));
        next.run(5);
        assert_eq!((next.starts.len(), missed(&next)), (starts, told), "back at {back_at}");
    }
}

#[test]
fn a_time_that_a_wrong_clock_has_served_is_met_all_the_same() {
    // For a moment the clock said 2027, and the run of that day was noted as served.
    let mut rig = one(job(daily_at_six(), false), finishes);
    wall(&mut rig, "2027-03-01T05:59:00Z");
    rig.run(200);
    wall(&mut rig, "2026-11-22T05:59:00Z");
    rig.run(200);
    assert_eq!(rig.starts.len(), 2, "a day in the future does not put off those of a whole winter");
}

#[test]
fn what_a_person_wanted_down_has_missed_nothing() {
    let mut rig = after_its_run();
    let (reason, expires_in) = ("moving".to_owned(), None);
    rig.ask(OperatorRequest::Hold { service: name("bot"), reason, expires_in, stop: false });
    let mut next = next_life(&rig, job(daily_at_six(), true), finishes, 75 * 3600);
    wall(&mut next, "2026-11-25T09:00:00Z");
    next.run(10);
    assert_eq!((next.starts.len(), missed(&next)), (0, vec![]));
    assert_eq!(next.count(|what| matches!(what, What::RunSkipped { .. })), 1, "it is written down");
}

#[test]
fn missed_times_are_told_and_not_made_up_for_unless_that_is_wanted() {
    let mut next = next_life(&after_its_run(), job(daily_at_six(), false), finishes, 75 * 3600);
    wall(&mut next, "2026-11-25T09:00:00Z");
    next.run(10);
    assert_eq!((next.starts.len(), missed(&next)), (0, vec![3]));
}

#[test]
fn a_run_that_was_cut_off_with_the_machine_is_told() {
    let works: Behaviour = |_| Doing::Nothing;
    let mut rig = one(job(every(1), false), works);
    rig.run(60);
    assert_eq!(rig.starts.len(), 1);
    let next = next_life(&rig, job(every(1), false), works, 30);
    assert_eq!(missed(&next), [1], "{:?}", next.stories());
    // One that had finished was not.
    let mut rig = one(job(every(1), false), finishes);
    rig.run(100);
    let next = next_life(&rig, job(every(1), false), finishes, 30);
    assert_eq!(missed(&next), [] as [u32; 0]);
}

#[test]
fn a_run_that_was_begun_and_never_asked_for_is_due_and_one_that_was_asked_for_may_have_run() {
    let works: Behaviour = |_| Doing::Nothing;
    let mut rig = one(job(every(1), false), works);
    rig.run(60);
    let mut memory = rig.memories[&name("bot")].clone();
    assert!(memory.may_live() && memory.job_running.is_some(), "{memory:?}");
    // There was no keeper, so that nothing was asked for; or a failed run waited to be tried again.
    memory.started = None;
    let life = |memory: &horus_core::command::Memory| {
        let remembered = Remembered {
            service: name("bot"),
            memory: memory.clone(),
            elapsed: 30 * SECOND,
            away: Some(30 * SECOND),
        };
        let mut next = Rig::with_memory(&[("bot", job(every(1), false), works)], vec![remembered]);
        next.run(10);
        (next.starts.len(), missed(&next))
    };
    assert_eq!(life(&memory), (1, vec![]), "it is met a little late");
    // Asked for, and what became of it was not heard: it is never run twice.
    memory.starting = true;
    assert!(memory.may_live());
    assert_eq!(life(&memory), (0, vec![1]));
}

/// Whoever ended a run has ended it: neither a keeper that comes back nor another Horus begins it again.
#[test]
fn a_run_that_a_person_ended_is_not_begun_again() {
    let works: Behaviour = |_| Doing::Nothing;
    let mut rig = one(job(every(1), false), works);
    rig.run(60);
    rig.ask(OperatorRequest::Stop(name("bot")));
    rig.run(60);
    rig.ask(OperatorRequest::Resume { service: name("bot"), reason: None });
    rig.run(10);
    rig.step(Input::KeeperLost);
    rig.step(Input::Reconciled);
    rig.run(10);
    assert_eq!(rig.starts.len(), 1, "its next time is in an hour");
    let mut next = next_life(&rig, job(every(1), false), works, 30);
    next.run(10);
    assert_eq!((next.starts.len(), missed(&next)), (0, vec![]));
}

#[test]
fn a_job_with_other_times_has_missed_none_of_them() {
    let mut rig = after_its_run();
    wall(&mut rig, "2026-11-22T07:00:00Z");
    let mut next = next_life(&rig, job(daily_at_six(), false), finishes, 60);
    wall(&mut next, "2026-11-22T07:01:00Z");
    // From now on every ten minutes: those since six o'clock were nobody's.
    let often = Calendar::parse("*/10 * * * *", "UTC");
    next.change_plan(|plan| {
        for service in plan.services.values_mut() {
            *service =
                job(horus_core::plan::When::Cron(often.clone().unwrap_or_else(|_| unreachable!())), false);
        }
    });
    next.run(5);
    assert_eq!((next.starts.len(), missed(&next)), (0, vec![]));
    next.run(600);
    assert_eq!(next.starts.len(), 1);
}

#[expect(clippy::unwrap_used, reason = "the text is right")]
fn backup() -> MaintenancePlan {
    let when = Calendar::parse("0 3 * * *", "UTC").unwrap();
    MaintenancePlan { services: Vec::new(), when, lasts: HOUR }
}

/// Half an hour of maintenance has passed; it hangs.
fn in_maintenance() -> Rig {
    let mut rig = one(service(), hangs_after_100);
    rig.change_plan(|plan| drop(plan.maintenance.insert("backup".into(), backup())));
    wall(&mut rig, "2026-11-22T02:59:00Z");
    rig.run(1800);
    assert!(rig.signals.is_empty());
    rig
}

fn windows_ended(rig: &Rig) -> usize {
    rig.count(|what| matches!(what, What::MaintenanceEnded { .. }))
}

#[test]
fn a_window_goes_on_through_an_edit_and_ends_when_it_leaves_the_plan() {
    let mut rig = in_maintenance();
    let noon = MaintenancePlan { when: Calendar::parse("0 12 * * *", "UTC").unwrap(), ..backup() };
    rig.change_plan(|plan| drop(plan.maintenance.insert("other".into(), noon)));
    rig.change_plan(|plan| drop(plan.maintenance.remove("other")));
    rig.run(60);
    assert_eq!(windows_ended(&rig), 0);
    assert!(rig.signals.is_empty());
    rig.change_plan(|plan| plan.maintenance.clear());
    rig.run(5);
    assert_eq!(windows_ended(&rig), 1);
    assert_eq!(rig.signals.len(), 1, "what is still wrong is healed");
}

#[test]
fn a_window_ends_with_the_clock_of_the_wall() {
    // The machine slept, or the clock was set: by the wall the hour is over.
    let mut rig = in_maintenance();
    wall(&mut rig, "2026-11-22T03:45:00Z");
    rig.run(5);
    assert_eq!(windows_ended(&rig), 0, "a quarter of an hour is left");
    wall(&mut rig, "2026-11-22T04:00:00Z");
    rig.run(5);
    assert_eq!(windows_ended(&rig), 1);
    let mut rig = in_maintenance();
    wall(&mut rig, "2026-11-22T02:30:00Z");
    rig.run(5);
    assert_eq!(windows_ended(&rig), 1, "by the wall it has not begun");
}

#[test]
fn what_was_told_in_silence_is_told_aloud_when_the_window_is_over() {
    let mut rig = one(service(), |_| Doing::Unreachable);
    rig.change_plan(|plan| drop(plan.maintenance.insert("backup".into(), backup())));
    wall(&mut rig, "2026-11-22T02:59:59Z");
    rig.run(600);
    let loud = |rig: &Rig| rig.told.iter().map(|(_, notice)| notice.loud).collect::<Vec<_>>();
    assert_eq!(loud(&rig), [false], "{:?}", rig.stories());
    rig.run(3600);
    assert_eq!(loud(&rig), [false, true], "{:?}", rig.stories());
}

#[test]
fn the_first_time_of_a_calendar_is_remembered_before_it_has_come() {
    let mut rig = one(job(daily_at_six(), false), finishes);
    rig.run(10);
    wall(&mut rig, "2026-11-22T05:00:00Z");
    rig.run(1);
    assert!(rig.starts.is_empty());
    let mut next = next_life(&rig, job(daily_at_six(), false), finishes, 75 * 3600);
    wall(&mut next, "2026-11-25T08:00:00Z");
    next.run(10);
    assert_eq!(missed(&next), [4], "those of four mornings");
}

#[test]
fn a_time_that_comes_while_a_job_waits_for_another_service_says_for_whom() {
    let waits = ServicePlan { after: vec![name("feed")], ..job(every(1), false) };
    let mut rig = Rig::new(&[("bot", waits, finishes), ("feed", service(), |_| Doing::Unreachable)]);
    rig.run(2 * 3600);
    let said = rig.stories().into_iter().find_map(|story| match story {
        Story::RunMissed { because, .. } => Some(because.clone()),
        _ => None,
    });
    assert_eq!(said.as_deref(), Some("it still waits for feed to be ready"));
}

#[test]
fn a_skipped_time_asks_for_nobody_before_the_run_takes_too_long() {
    let asks = |rig: &Rig| rig.told.iter().map(|(_, notice)| notice.needs_you).collect::<Vec<_>>();
    let mut patient = job(every(1), false);
    let Some(schedule) = &mut patient.schedule else { unreachable!() };
    schedule.finish = 5400 * SECOND;
    let mut rig = one(patient, |_| Doing::Nothing);
    rig.run(3700);
    assert_eq!(asks(&rig), [false], "its next time came and was skipped; it may run for 90 min");
    rig.run(1800);
    assert_eq!(asks(&rig), [false, true]);
    // The other way round: who was asked is not told by the skip that nothing is needed.
    let mut rig = one(job(every(1), false), |_| Doing::Nothing);
    rig.run(3700);
    assert_eq!(asks(&rig), [true, true]);
}

#[test]
fn a_run_that_finishes_well_has_proven_the_restart_before_it() {
    let mut plan = job(every(1), false);
    (plan.beats, plan.restart.on) = (service().beats, horus_core::plan::RestartOn::Failure);
    let mut rig = one(plan, hangs_after_100);
    rig.run(125);
    assert_eq!((rig.kills(), rig.starts.len()), (1, 2));
    let unproven = |rig: &Rig| rig.engine.status(rig.now).services[0].kills_unproven;
    assert_eq!(unproven(&rig), 1);
    rig.behaviour.insert(name("bot"), |age| {
        if age < 60 { Doing::Ticks } else { Doing::Exits(horus_core::observation::Exit::Code(0)) }
    });
    rig.run(100);
    assert_eq!(unproven(&rig), 0);
    assert_eq!(rig.engine.open_incidents(), []);
}

#[test]
fn what_was_told_aloud_after_a_window_is_remembered_as_told() {
    let mut rig = one(service(), |_| Doing::Unreachable);
    rig.change_plan(|plan| drop(plan.maintenance.insert("backup".into(), backup())));
    wall(&mut rig, "2026-11-22T02:59:59Z");
    let muted = |rig: &Rig| rig.memories[&name("bot")].incidents[0].muted.is_some();
    rig.run(600);
    assert!(muted(&rig));
    rig.run(3600);
    assert!(!muted(&rig), "the next Horus would say it once more");
}

#[test]
fn a_job_that_waits_says_when_it_is_started_next() {
    let mut rig = one(job(daily_at_six(), false), finishes);
    wall(&mut rig, "2026-11-22T05:59:00Z");
    let next = |rig: &Rig| rig.engine.status(rig.now).services[0].next_start_in_ms;
    assert_eq!(next(&rig), Some(60_000));
    rig.ask(OperatorRequest::Stop(name("bot")));
    assert_eq!(next(&rig), None, "whoever was stopped is not started");
}
