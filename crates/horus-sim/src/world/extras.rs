//! What a seed chooses beyond plain services: jobs with a schedule, maintenance windows, declared work. Each is drawn from a stream of
//! its own, so that a world without it is the same, draw for draw, as it was before it existed.

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::calendar::Calendar;
use horus_core::plan::{BeatPlan, MaintenancePlan, ProgressPlan, SchedulePlan, ServicePlan, When};

use super::options::{Habits, Mishap, Options, nanos, share};
use super::queue::{HOUR, MINUTE, MS, Nanos, SECOND};
use super::random::Random;

/// Tells the stream of jobs and windows from the others of a seed.
const JOBS: u64 = 0x00A1_1E57_0B5E_55ED;
/// That of declared work.
const WORK: u64 = 0x3047_1E57_0B5E_55ED;

/// That of the lives of Horus.
const LIVES: u64 = 0x11FE_1E57_0B5E_55ED;

/// The counter of declared work.
pub(super) const WORK_COUNTER: &str = "cycles";

/// The longest time between two runs.
const BETWEEN_RUNS_MAX: Nanos = 6 * HOUR;

/// What the runs of a job are like.
#[derive(Clone, Debug)]
pub struct Runs {
    /// A usual run takes up to so long.
    pub takes: Nanos,
    /// Share of runs that take longer than is allowed.
    pub overlong: f64,
}

/// Gives a seed's world what it has chosen beyond plain services.
pub(super) fn add_to(options: &mut Options) {
    let mut random = Random::new(options.seed ^ JOBS);
    if random.chance(0.2) {
        add_jobs(&mut random, options);
    }
    if random.chance(0.12) {
        add_windows(&mut random, options);
    }
    let mut random = Random::new(options.seed ^ WORK);
    if random.chance(0.15) {
        add_work(&mut random, options);
    }
    let mut random = Random::new(options.seed ^ LIVES);
    if random.chance(0.12) {
        add_short_lives(&mut random, options);
    }
}

/// Horus dies again and again, about once per deadline of one of its services.
fn add_short_lives(random: &mut Random, options: &mut Options) {
    let deadlines: Vec<Nanos> = options.plan.services.values().map(|plan| nanos(plan.deadline)).collect();
    let Some(deadline) = random.pick(&deadlines).copied() else { return };
    options.rates.horus_dies = Some(random.between(deadline / 2, deadline * 2));
    options.rates.horus_away = random.between(100 * MS, (deadline / 4).max(SECOND));
}

/// Some of the services have work that has to move.
fn add_work(random: &mut Random, options: &mut Options) {
    let span = options.span;
    for (plan, habits) in options.plan.services.values_mut().zip(&mut options.habits) {
        let counts = plan.beats.iter().any(|beat| matches!(beat, BeatPlan::Http(_)));
        if counts && plan.schedule.is_none() && random.chance(0.6) {
            declare_work(random, plan, habits, span);
        }
    }
}

fn declare_work(random: &mut Random, plan: &mut ServicePlan, habits: &mut Habits, span: Nanos) {
    let deadline = nanos(plan.deadline);
    let stalled = Duration::from_nanos(random.between(deadline * 3, deadline * 12));
    plan.progress =
        BTreeMap::from([(WORK_COUNTER.to_owned(), ProgressPlan { counter: WORK_COUNTER.into(), stalled })]);
    // The same verdict stands for a funnel that lets nothing through, which no restart is asked for.
    plan.funnels.clear();
    for mishap in [Mishap::WorkStalls, Mishap::WorkPauses] {
        habits.mishaps.push((mishap, span / random.between(1, 12)));
    }
    habits.idle_work = share(random, 0.5);
}

/// Times in which people work on some of the services, or on all.
fn add_windows(random: &mut Random, options: &mut Options) {
    let calendars = [
        ("*/30 * * * *", 30 * MINUTE),
        ("20 * * * *", HOUR),
        ("0 */6 * * *", 6 * HOUR),
        ("0 3 * * *", 24 * HOUR),
    ];
    for number in 0..random.between(1, 2) {
        let Some((pattern, between)) = random.pick(&calendars).copied() else { continue };
        let Ok(when) = Calendar::parse(pattern, "UTC") else { continue };
        let lasts = Duration::from_nanos(random.magnitude(MINUTE, between / 2));
        let some = random.chance(0.5);
        let services = options.plan.services.keys().filter(|_| some && random.chance(0.5)).cloned().collect();
        let window = MaintenancePlan { services, when, lasts };
        options.plan.maintenance.insert(format!("window{number}"), window);
    }
}

fn add_jobs(random: &mut Random, options: &mut Options) {
    let often = if random.chance(0.3) { 0.8 } else { 0.3 };
    for (plan, habits) in options.plan.services.values_mut().zip(&mut options.habits) {
        if random.chance(often) {
            let span = options.span.min(24 * BETWEEN_RUNS_MAX);
            become_a_job(random, plan, habits, span);
        }
    }
}

fn become_a_job(random: &mut Random, plan: &mut ServicePlan, habits: &mut Habits, span: Nanos) {
    let (when, between) = when(random, span);
    let takes = random.magnitude(SECOND, between / 2);
    let finish = random.between(takes + MINUTE, (between * 2).max(takes + 2 * MINUTE));
    let (finish, catch_up) = (Duration::from_nanos(finish), random.chance(0.5));
    plan.schedule = Some(SchedulePlan { when, finish, catch_up });
    // A product is looked at while a program runs: a job that mostly does not is judged by whether it finishes.
    plan.values.clear();
    plan.funnels.clear();
    habits.mishaps.retain(|(mishap, _)| *mishap != Mishap::Barren);
    habits.runs = Some(Runs { takes, overlong: share(random, 0.5) });
}

/// Times, and how far they lie apart.
fn when(random: &mut Random, span: Nanos) -> (When, Nanos) {
    let calendars = [
        ("*/10 * * * *", 10 * MINUTE),
        ("*/30 * * * *", 30 * MINUTE),
        ("17 * * * *", HOUR),
        ("5 */4 * * *", 4 * HOUR),
    ];
    let choice = random.pick(&calendars).copied().filter(|_| random.chance(0.6));
    let calendar =
        choice.and_then(|(pattern, between)| Some((Calendar::parse(pattern, "UTC").ok()?, between)));
    match calendar {
        Some((calendar, between)) => (When::Cron(calendar), between),
        None => {
            let every = random.magnitude(2 * MINUTE, (span / 4).clamp(3 * MINUTE, BETWEEN_RUNS_MAX));
            (When::Every(Duration::from_nanos(every)), every)
        }
    }
}
