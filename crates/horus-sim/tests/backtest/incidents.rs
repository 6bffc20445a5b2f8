//! What the candidate does with the incidents, whatever its deadline.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::time::Duration;

use horus_core::ids::ServiceName;
use horus_core::plan::{
    BeatPlan, HttpBeat, KillPlan, Plan, ProgressPlan, Ready, RestartOn, RestartPlan, ServicePlan,
};
use horus_sim::backtest::lives::History;
use horus_sim::backtest::{HealthyAgain, Report, ServiceReport, backtest, heard};

use crate::generate::{BEAT_EVERY, LAST_BEAT, MISSED_BEATS, NOTICED, bot, path};

const SECOND: Duration = Duration::from_secs(1);

/// The defaults of the configuration, with this deadline.
pub(crate) fn plan(beats: Vec<BeatPlan>, deadline: u64) -> Plan {
    let deadline = SECOND * u32::try_from(deadline).unwrap();
    let plain = ServicePlan::plain(vec!["bot".into()]);
    let service = ServicePlan {
        ready: Ready::Tick,
        beats,
        deadline,
        restart: RestartPlan { on: RestartOn::Always, ..plain.restart },
        kills: KillPlan { prove: (deadline * 10).max(plain.kills.prove), ..plain.kills },
        ..plain
    };
    Plan { services: BTreeMap::from([(bot(), service)]), ..Plan::default() }
}

pub(crate) fn http() -> Vec<BeatPlan> {
    vec![BeatPlan::Http(HttpBeat {
        url: "http://127.0.0.1:1/".into(),
        every: 5 * SECOND,
        timeout: SECOND,
        seq: Some("/seq".into()),
        progress: Some("/progress".into()),
        state: None,
        lag: None,
        gauges: None,
    })]
}

fn replayed(name: &str, plan: &Plan) -> Report {
    let file = std::fs::File::open(path(name)).expect("HORUS_UPDATE=1 makes the recordings");
    let heard = heard::read(&mut BufReader::new(file)).unwrap();
    assert_eq!(heard.unknown, 0);
    backtest(&History::of(&heard.rows, 0).unwrap(), plan)
}

fn of_the_bot(report: &Report) -> &ServiceReport {
    let [service] = report.services.as_slice() else { panic!("{report:?}") };
    assert_eq!(service.service, ServiceName::parse("bot").unwrap());
    service
}

const DEADLINES: [u64; 8] = [5, 10, 15, 20, 30, 40, 45, 60];

#[test]
fn kill_129_a_is_killed_three_times_in_24_hours_at_most() {
    for deadline in DEADLINES {
        let mut plan = plan(http(), deadline);
        if let Some(service) = plan.services.get_mut("bot") {
            service.kills.retry = None;
        }
        let report = replayed("kill-129-a", &plan);
        let bot = of_the_bot(&report);
        assert_eq!(bot.lives, 622);
        let side = &bot.new;
        assert_eq!(side.kills.len(), 3, "deadline {deadline} s: {:?}", side.kills);
        assert_eq!(side.breaker_opened.len(), 1, "deadline {deadline} s");
        assert_eq!(side.starts, 4, "left running after the third");
        let seen: Vec<Option<u64>> = bot.hangs.iter().map(|hang| hang.new_ms).collect();
        // The patience doubles with each kill that cured nothing, as often as kills are allowed.
        let expected = [1, 2, 4, 4].map(|factor| Some(deadline * factor * 1000));
        assert_eq!(seen, expected, "deadline {deadline} s");
        // Nobody knows what would have become of an instance that was always killed at the same age.
        assert!(
            side.kills.iter().all(|kill| kill.healthy_again == HealthyAgain::Unknown),
            "{:?}",
            side.kills
        );
    }
}

#[test]
fn kill_129_a_with_probation_is_killed_three_times_and_once_in_six_hours_after_that() {
    for deadline in DEADLINES {
        let report = replayed("kill-129-a", &plan(http(), deadline));
        let (tries, unproven): (Vec<_>, Vec<_>) =
            of_the_bot(&report).new.kills.iter().partition(|kill| kill.probation);
        assert_eq!(unproven.len(), 3, "deadline {deadline} s");
        assert!(tries.len() <= 3, "deadline {deadline} s: {tries:?}");
        for pair in tries.windows(2) {
            assert!(
                pair[1].at.duration_since(pair[0].at).as_hours() >= 6,
                "deadline {deadline} s: {tries:?}"
            );
        }
    }
}

#[test]
fn kill_129_b_is_not_killed_by_our_hand_and_the_pattern_is_named() {
    for deadline in DEADLINES {
        let report = replayed("kill-129-b", &plan(http(), deadline));
        let bot = of_the_bot(&report);
        // A deadline of 5 s with polls of 5 s is what `horus check` refuses; it acts at twice that all the same.
        assert!(bot.new.kills.is_empty(), "deadline {deadline} s: {:?}", bot.new.kills);
        assert!(bot.new.named.iter().any(|name| name.starts_with("dies every 129 s")), "{:?}", bot.new.named);
        assert!(bot.ended_by_itself > 600, "{}", bot.ended_by_itself);
    }
}

/// The verdict by 16:19:39, three missed beats after the last one.
fn hang_is_seen_within_its_bound(name: &str, plan: &Plan) {
    let report = replayed(name, plan);
    let bot = of_the_bot(&report);
    let deadline = plan.services["bot"].deadline;
    let hang = bot.hangs.first().unwrap_or_else(|| panic!("{name}: no hang: {bot:?}"));
    let verdict = hang.new_ms.unwrap_or_else(|| panic!("{name}: not seen: {bot:?}"));
    let bound = deadline + SECOND * u32::try_from(BEAT_EVERY).unwrap() + SECOND;
    assert!(u128::from(verdict) <= bound.as_millis(), "{name}: {verdict} ms, bound {bound:?}");
    assert_eq!(bot.new.kills.len(), 1, "{name}: {:?}", bot.new.kills);
    let kill = &bot.new.kills[0];
    let acted = kill.at.duration_since(hang.since).unsigned_abs();
    assert!(
        acted <= deadline * 2 + SECOND * u32::try_from(BEAT_EVERY).unwrap() + SECOND,
        "{name}: {acted:?}"
    );
    assert_eq!(kill.healthy_again, HealthyAgain::No, "{name}: seven hours of silence follow");
}

#[test]
fn hang_7h_a_is_seen_within_its_bound() {
    for deadline in [45, 60, BEAT_EVERY * MISSED_BEATS, 120, 300] {
        hang_is_seen_within_its_bound("hang-7h-a", &plan(vec![BeatPlan::Notify], deadline));
    }
}

#[test]
fn hang_7h_c_is_seen_within_its_bound() {
    for deadline in [45, 60, BEAT_EVERY * MISSED_BEATS, 120, 300] {
        hang_is_seen_within_its_bound("hang-7h-c", &plan(http(), deadline));
    }
}

#[test]
fn hang_7h_b_is_seen_by_the_counter_of_its_stage() {
    for stalled in [60, BEAT_EVERY * MISSED_BEATS, 300] {
        let mut plan = plan(http(), 60);
        let stalled = SECOND * u32::try_from(stalled).unwrap();
        if let Some(service) = plan.services.get_mut("bot") {
            let progress = ProgressPlan { counter: "orders_checked".into(), stalled };
            service.progress.insert("orders".into(), progress);
        }
        let report = replayed("hang-7h-b", &plan);
        let bot = of_the_bot(&report);
        let [kill, ..] = bot.new.kills.as_slice() else { panic!("stalled {stalled:?}: not seen: {bot:?}") };
        let stuck_since = report.from + Duration::from_secs(LAST_BEAT);
        let acted = kill.at.duration_since(stuck_since).unsigned_abs();
        let bound = stalled * 2 + SECOND * u32::try_from(BEAT_EVERY).unwrap() + SECOND;
        assert!(acted <= bound, "stalled {stalled:?}: {acted:?}, bound {bound:?}");
        assert!(acted.as_secs() < NOTICED - LAST_BEAT);
    }
}

#[test]
fn the_same_history_gives_the_same_report() {
    let plan = plan(http(), 20);
    assert_eq!(replayed("kill-129-b", &plan), replayed("kill-129-b", &plan));
}
