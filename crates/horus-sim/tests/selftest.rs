//! The selftest, tested: whatever the judge can say has been heard from it, and a plan's blind spots are named.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use horus_core::calendar::Calendar;
use horus_core::ids::{MonitorName, ServiceName, SinkName};
use horus_core::plan::{
    BeatPlan, ExpectPlan, FunnelPlan, HttpBeat, KillPlan, LaunchPlan, Mode, MonitorCheck, MonitorPlan, Plan,
    ProgressPlan, Ready, RestartPlan, SchedulePlan, Secret, SecretSource, ServicePlan, Severity, SinkKind,
    SinkPlan, StopPlan, TcpBeat, ValuePlan, When,
};
use horus_core::time::Human;
use horus_sim::selftest::{Drill, DrillState, drill, prove};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn http() -> HttpBeat {
    HttpBeat {
        url: "http://127.0.0.1:1/".into(),
        every: SECOND,
        timeout: SECOND,
        seq: Some("/seq".into()),
        progress: Some("/progress".into()),
        state: Some("/state".into()),
        lag: None,
        gauges: Some("/gauges".into()),
    }
}

/// Deadline 7 s, so that no number of the selftest's own is taken for the plan's.
fn service() -> ServicePlan {
    let plain = ServicePlan::plain(vec!["bot".into(), "--token=hunter2".into()]);
    let environment = BTreeMap::from([("TOKEN".to_owned(), Secret::new("hunter2".into()))]);
    ServicePlan {
        launch: LaunchPlan { environment, ..plain.launch },
        ready: Ready::Tick,
        beats: vec![BeatPlan::Http(http())],
        deadline: 7 * SECOND,
        startup: 40 * SECOND,
        stop: StopPlan { signal: "SIGTERM".into(), grace: 5 * SECOND },
        kills: KillPlan { retry: None, ..plain.kills },
        ..plain
    }
}

fn plan(services: &[(&str, ServicePlan)]) -> Plan {
    let services = services.iter().map(|(name, plan)| (ServiceName::parse(name).unwrap(), plan.clone()));
    Plan { services: services.collect(), ..Plan::default() }
}

fn of<'a>(drills: &'a [Drill], detector: &str) -> &'a Drill {
    drills.iter().find(|drill| drill.detector == detector).unwrap()
}

fn table(drills: &[Drill]) -> String {
    let mut text = String::new();
    for drill in drills {
        let after =
            |time: Option<Duration>| time.map_or_else(|| "-".to_owned(), |time| Human(time).to_string());
        let state = format!("{:?}", drill.state);
        writeln!(
            text,
            "{:9} {:22} {state:10} {:>12} {:>9}  {}",
            drill.subject,
            drill.detector,
            after(drill.after),
            after(drill.restart_after),
            drill.text
        )
        .unwrap();
    }
    text
}

#[test]
fn everything_that_the_judge_can_say_was_heard_from_it() {
    let proof = prove();
    assert_eq!(proof.unproven(), []);
    assert_eq!(proof, prove(), "a selftest is the same every time");
}

#[test]
fn a_whole_plan_by_its_own_numbers() {
    let mut bot = service();
    bot.values.insert(
        "orders".into(),
        ValuePlan { counter: "filled".into(), stale: 10 * MINUTE, dead: Some(60 * MINUTE) },
    );
    let stages = ["signals", "filled"].map(Into::into).into();
    bot.funnels.insert("entry".into(), FunnelPlan { stages, blocked_after: 5 });
    bot.progress.insert("bars".into(), ProgressPlan { counter: "bars".into(), stalled: MINUTE });
    bot.expects.insert("slots".into(), ExpectPlan { gauge: "slots".into(), min: 1.0, within: 2 * MINUTE });
    let nightly = Calendar::parse("0 3 * * *", "UTC").unwrap();
    let schedule = SchedulePlan { when: When::Cron(nightly), finish: 30 * MINUTE, catch_up: true };
    let job = ServicePlan { beats: Vec::new(), schedule: Some(schedule), ..service() };
    let mut plan = plan(&[("backup", job), ("bot", bot), ("other", service())]);
    let check =
        MonitorCheck::Tcp(TcpBeat { address: "127.0.0.1:1".into(), every: 30 * SECOND, timeout: SECOND });
    plan.monitors.insert(MonitorName::parse("venue").unwrap(), MonitorPlan { check, down_after: 2 * MINUTE });
    let secret = SecretSource::Env("HORUS_DISCORD_URL".into());
    let sink = SinkPlan { kind: SinkKind::Discord, severity: Severity::Warning, secret, mention: None };
    plan.sinks.insert(SinkName::parse("ops").unwrap(), sink);
    let report = drill(&plan);
    assert_eq!(report.wrong().collect::<Vec<_>>(), [] as [&Drill; 0]);
    insta::assert_snapshot!(table(&report.drills));
    assert!(!serde_json::to_string(&report).unwrap().contains("hunter2"), "nothing of a launch is shown");
}

#[test]
fn absence_takes_one_deadline_to_be_told_and_two_to_be_acted_on_and_proof_takes_one() {
    let drills = drill(&plan(&[("bot", service())])).drills;
    for (detector, restart) in [("silent", 14), ("lying", 14), ("blocked", 7), ("spinning", 7)] {
        let found = of(&drills, detector);
        assert_eq!(
            (found.after, found.restart_after),
            (Some(7 * SECOND), Some(restart * SECOND)),
            "{detector}"
        );
    }
    assert_eq!(of(&drills, "unreachable").restart_after, None, "unreachable is not silent");
}

#[test]
fn a_threshold_that_no_fault_reaches_is_named() {
    let mut slow = service();
    slow.restart = RestartPlan { first: MINUTE, next: 10 * MINUTE, within: 5 * MINUTE, ..slow.restart };
    let report = drill(&plan(&[("bot", slow)]));
    let never = of(&report.drills, "crash loop");
    assert_eq!(never.state, DrillState::Never);
    assert!(never.text.contains("at most 2 exits within 5 min, 5 are needed"), "{}", never.text);
    assert_eq!(report.wrong().collect::<Vec<_>>(), [never]);
}

#[test]
fn a_counter_that_no_beat_carries_is_a_false_alarm() {
    let mut bot = service();
    bot.beats = vec![BeatPlan::Http(HttpBeat { progress: None, ..http() })];
    bot.values.insert("orders".into(), ValuePlan { counter: "filled".into(), stale: MINUTE, dead: None });
    let report = drill(&plan(&[("bot", bot)]));
    assert_eq!(of(&report.drills, "valueless").state, DrillState::FalseAlarm);
}

#[test]
fn what_a_plan_cannot_see_is_said_and_is_no_fault_of_the_selftest() {
    let tcp = BeatPlan::Tcp(TcpBeat { address: "127.0.0.1:1".into(), every: SECOND, timeout: SECOND });
    let bare = ServicePlan { beats: vec![tcp], ..service() };
    let page = ServicePlan { beats: vec![BeatPlan::Http(HttpBeat { seq: None, ..http() })], ..service() };
    let blind = ServicePlan { beats: Vec::new(), ..service() };
    for (service, detectors) in
        [(bare, &["silent", "lying"][..]), (page, &["lying"]), (blind, &["silent", "lying", "start overdue"])]
    {
        let report = drill(&plan(&[("bot", service)]));
        for detector in detectors {
            assert_eq!(of(&report.drills, detector).state, DrillState::Blind, "{detector}");
        }
        assert_eq!(report.wrong().count(), 0, "{}", table(&report.drills));
    }
}

#[test]
fn nothing_is_restarted_in_observe_mode() {
    let mut plan = plan(&[("bot", service())]);
    plan.daemon.mode = Mode::Observe;
    let report = drill(&plan);
    assert_eq!(of(&report.drills, "silent").state, DrillState::Fired);
    assert!(report.drills.iter().all(|drill| drill.restart_after.is_none()), "{}", table(&report.drills));
    assert_eq!(of(&report.drills, "breaker").state, DrillState::Blind);
}
