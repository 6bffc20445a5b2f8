//! The clock is set: times of a calendar are neither lost nor doubled by that.

use horus_core::calendar::Calendar;
use horus_core::event::What;
use horus_core::notice::Story;
use horus_core::observation::Input;
use horus_core::plan::{MaintenancePlan, When};

use super::hangs_after_100;
use super::work::{finishes, job, one};
use crate::rig::{Doing, Rig, SECOND, service};

#[expect(clippy::unwrap_used, reason = "the text is right")]
fn wall(rig: &mut Rig, text: &str) {
    rig.step(Input::Wall(text.parse().unwrap()));
}

#[expect(clippy::unwrap_used, reason = "the text is right")]
fn hourly() -> Calendar {
    Calendar::parse("17 * * * *", "UTC").unwrap()
}

#[test]
fn a_clock_that_was_fast_by_hours_takes_no_runs_with_it() {
    let mut rig = one(job(When::Cron(hourly()), false), finishes);
    wall(&mut rig, "2026-11-22T12:16:50Z");
    rig.run(100);
    assert_eq!(rig.starts.len(), 1);
    wall(&mut rig, "2026-11-22T02:16:50Z");
    rig.run(100);
    assert_eq!(rig.starts.len(), 2, "the run of 02:17 is met");
    // A correction by seconds serves nothing twice.
    wall(&mut rig, "2026-11-22T02:16:55Z");
    rig.run(100);
    assert_eq!(rig.starts.len(), 2);
}

#[test]
fn a_missed_time_beside_one_that_is_due_is_made_up_for_by_that() {
    let mut rig = one(job(When::Cron(hourly()), true), finishes);
    wall(&mut rig, "2026-11-22T12:10:00Z");
    rig.run(5);
    // The machine slept through 12:17 and 13:17; the latter is met, a little late.
    wall(&mut rig, "2026-11-22T13:20:00Z");
    rig.run(100);
    assert_eq!(rig.starts.len(), 1);
    let told = |story: &&Story| matches!(story, Story::RunMissed { .. });
    assert_eq!(rig.stories().into_iter().filter(told).count(), 1, "{:?}", rig.stories());
    assert_eq!(rig.count(|what| matches!(what, What::RunSkipped { .. })), 0);
}

#[test]
fn a_clock_that_is_set_back_into_an_earlier_window_is_in_that_window() {
    let mut rig = one(service(), hangs_after_100);
    let when = Calendar::parse("0 * * * *", "UTC").unwrap_or_else(|_| hourly());
    let window = MaintenancePlan { services: Vec::new(), when, lasts: 50 * 60 * SECOND };
    rig.change_plan(|plan| drop(plan.maintenance.insert("backup".into(), window.clone())));
    wall(&mut rig, "2026-11-22T20:29:00Z");
    rig.run(60);
    wall(&mut rig, "2026-11-22T18:37:00Z");
    rig.run(600);
    assert!(rig.signals.is_empty(), "18:37 to 18:47 is inside the window of 18:00");
    rig.run(600);
    assert!(!rig.signals.is_empty(), "it ends at 18:50");
}

#[test]
fn a_clock_that_is_set_back_by_hours_serves_no_time_of_the_day_twice() {
    let mut rig = one(job(super::work::daily_at_six(), false), finishes);
    wall(&mut rig, "2026-11-22T05:59:50Z");
    rig.run(100);
    assert_eq!(rig.starts.len(), 1);
    wall(&mut rig, "2026-11-22T03:00:00Z");
    rig.run(4 * 3600);
    assert_eq!(rig.starts.len(), 1);
}

/// Late again and again: nobody is given time to settle for that any more, and a restart that was decided before is not carried out all the
/// same.
#[test]
fn who_was_condemned_before_horus_was_late_is_judged_anew() {
    let mut rig = one(service(), |age| if age < 1500 { Doing::Ticks } else { Doing::Hangs });
    for _ in 0..30 {
        rig.run(30);
        rig.now = rig.now + 10 * SECOND;
        rig.step(Input::Wake);
    }
    // The store does not answer: the signal waits for it.
    rig.confirms = false;
    while rig.kills() == 0 {
        rig.run(1);
    }
    assert_eq!(rig.signals, []);
    rig.now = rig.now + 60 * SECOND;
    rig.step(Input::Wake);
    assert_eq!(rig.signals, [], "it may have come back while nobody listened");
    rig.run(60);
    assert_eq!(rig.kills(), 2, "it has not");
    assert!(!rig.signals.is_empty());
}
