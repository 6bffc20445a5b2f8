//! The model itself: what is done with lives that were cut, with times in which nobody looked, with stalls that ended.

use horus_core::digest::{Entry, Row};
use horus_core::ids::{Generation, Instance, ProcessId};
use horus_core::observation::{Exit, Input, Observation, ProbeFault};
use horus_core::plan::BeatKind;
use horus_core::reason::Rule;
use horus_sim::backtest::lives::{Ending, History, HistoryError};
use horus_sim::backtest::{Baseline, HealthyAgain, ServiceReport, backtest};

use crate::generate::Scribe;
use crate::incidents::{http, plan};

const HOUR: u64 = 3_600_000;

fn tick_from_to(scribe: &mut Scribe, from: u64, to: u64) {
    for ms in (from..to).step_by(1000) {
        scribe.ticks(ms);
    }
}

fn silent_from_to(scribe: &mut Scribe, from: u64, to: u64) {
    let (generation, source, fault) = (Generation(1), BeatKind::Http, ProbeFault::NoAnswer);
    for ms in (from..to).step_by(1000) {
        let detail = "no answer in 1 s".to_owned();
        scribe.hear(ms, Observation::NoBeat { generation, source, fault, detail });
    }
}

fn replay(history: &History, deadline: u64) -> ServiceReport {
    backtest(history, &plan(http(), deadline)).services.remove(0)
}

#[test]
fn a_stall_that_ended_by_itself_is_the_killing_of_a_healthy_one() {
    let mut scribe = Scribe::new(None);
    scribe.spawn(0);
    tick_from_to(&mut scribe, 1000, HOUR);
    silent_from_to(&mut scribe, HOUR, HOUR + 45_000);
    tick_from_to(&mut scribe, HOUR + 45_000, 2 * HOUR);
    let history = History::of(&scribe.finish(2 * HOUR), 0).unwrap();
    let strict = replay(&history, 20);
    let [kill] = strict.new.kills.as_slice() else { panic!("{:?}", strict.new) };
    assert!(matches!(kill.healthy_again, HealthyAgain::After { ms: 1..=6000 }), "{kill:?}");
    assert_eq!(strict.new.healthy_killed(), 1);
    let patient = replay(&history, 30);
    assert!(patient.new.kills.is_empty());
    assert_eq!(patient.hangs.len(), 1, "past its deadline, so a verdict; not past twice of it");
    assert_eq!(patient.hangs[0].came_back_after_ms, Some(46_000));
    assert!(replay(&history, 60).hangs.is_empty());
}

#[test]
fn the_plan_of_that_time_is_what_the_candidate_is_compared_with() {
    let mut scribe = Scribe::new(Some(plan(http(), 10)));
    scribe.spawn(0);
    tick_from_to(&mut scribe, 1000, HOUR);
    silent_from_to(&mut scribe, HOUR, HOUR + 20_000);
    scribe.signal(HOUR + 20_000, Rule::Silent);
    scribe.exit(HOUR + 20_100, Exit::Signal(15));
    scribe.spawn(HOUR + 20_200);
    tick_from_to(&mut scribe, HOUR + 21_000, 2 * HOUR);
    let history = History::of(&scribe.finish(2 * HOUR), 0).unwrap();
    let lives = &history.services["bot"].lives;
    assert_eq!(lives[0].ending, Ending::Judged(Rule::Silent));
    let report = backtest(&history, &plan(http(), 30));
    assert_eq!(report.baseline, Baseline::Recorded);
    let bot = &report.services[0];
    assert_eq!((bot.old.kills.len(), bot.new.kills.len()), (1, 1), "a censored hang stays silent");
    let [hang] = bot.hangs.as_slice() else { panic!("{:?}", bot.hangs) };
    let (old, new) = (hang.old_ms.unwrap(), hang.new_ms.unwrap());
    assert!((10_000..=11_100).contains(&old) && (30_000..=31_100).contains(&new), "{old} {new}");
    assert_eq!(bot.new.kills[0].healthy_again, HealthyAgain::Unknown);
}

#[test]
fn a_life_that_was_ended_by_plan_goes_on_in_the_next_one() {
    let mut scribe = Scribe::new(None);
    scribe.spawn(0);
    tick_from_to(&mut scribe, 1000, HOUR);
    scribe.signal(HOUR, Rule::Reload);
    scribe.exit(HOUR + 2000, Exit::Signal(15));
    scribe.spawn(HOUR + 3000);
    // A start of two minutes, which the candidate does not make.
    tick_from_to(&mut scribe, HOUR + 120_000, 2 * HOUR);
    scribe.exit(2 * HOUR, Exit::Code(1));
    scribe.spawn(2 * HOUR + 1000);
    tick_from_to(&mut scribe, 2 * HOUR + 5000, 3 * HOUR);
    let history = History::of(&scribe.finish(3 * HOUR), 0).unwrap();
    let bot = replay(&history, 10);
    assert!(bot.new.kills.is_empty(), "{:?}", bot.new.kills);
    assert_eq!(bot.new.starts, 2, "the reload is none, the crash is one");
    assert_eq!((bot.lives, bot.ended_by_itself), (3, 1));
}

#[test]
fn a_time_in_which_nobody_looked_is_held_against_nobody() {
    let mut scribe = Scribe::new(None);
    scribe.spawn(0);
    tick_from_to(&mut scribe, 1000, HOUR);
    let mut rows = scribe.finish(HOUR);
    // Another Horus, an hour later, finds it alive. Its clock begins anew.
    let mut second = Scribe::new(None);
    let process = ProcessId { pid: 4001, start_time: 0 };
    second.take(2 * HOUR, &Input::Reconciled);
    second.hear(2 * HOUR, Observation::Adopted(Instance { generation: Generation(1), process }));
    second.tick = 7200;
    second.resume(Generation(1));
    tick_from_to(&mut second, 2 * HOUR + 1000, 3 * HOUR);
    rows.extend(second.finish(3 * HOUR));
    let history = History::of(&rows, 0).unwrap();
    assert_eq!(history.services["bot"].lives.len(), 1);
    assert_eq!(history.unobserved_ms(), HOUR);
    let bot = replay(&history, 10);
    assert!(bot.new.kills.is_empty() && bot.hangs.is_empty(), "{bot:?}");
}

#[test]
fn what_a_running_horus_has_not_written_yet_is_no_silence() {
    let mut scribe = Scribe::new(None);
    scribe.spawn(0);
    tick_from_to(&mut scribe, 1000, HOUR + 200_000);
    let mut rows = scribe.finish(HOUR + 200_000);
    // Its stretch is open still, and a row of somebody else is newer.
    let open = rows.iter().rposition(|row| matches!(row.what, Entry::Ticks(_))).unwrap();
    rows.truncate(open);
    let newest = rows[0].clock_ms + HOUR + 200_000;
    rows.push(Row { clock_ms: newest, what: Entry::Reconciled, ..rows[0].clone() });
    let bot = replay(&History::of(&rows, 0).unwrap(), 10);
    assert!(bot.new.kills.is_empty() && bot.hangs.is_empty(), "{bot:?}");
}

#[test]
fn nothing_and_nobody_are_told_apart() {
    assert!(matches!(History::of(&[], 0), Err(HistoryError::Empty)));
    let rows = Scribe::new(Some(plan(http(), 10))).finish(HOUR);
    assert!(matches!(History::of(&rows, 0), Err(HistoryError::NoLives)));
}

#[test]
fn a_calm_day_is_few_rows_and_no_alert() {
    let mut scribe = Scribe::new(None);
    scribe.spawn(0);
    tick_from_to(&mut scribe, 1000, 24 * HOUR);
    let rows = scribe.finish(24 * HOUR);
    assert!(rows.len() < 300, "{} rows for a calm day", rows.len());
    let bot = replay(&History::of(&rows, 0).unwrap(), 10);
    assert_eq!((bot.new.kills.len(), bot.new.alerts_in_all(), bot.new.starts), (0, 0, 1));
}
