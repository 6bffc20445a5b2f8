//! What people see, pinned.

use std::time::Duration;

use horus_api::{API_SCHEMA, IncidentReport};
use horus_config::{Environment, FileFacts, UserFacts};
use horus_core::event::{DeathCause, Event, Outcome, What};
use horus_core::ids::{Generation, IncidentId, MonitorName, ProcessId, ServiceName, SinkName};
use horus_core::notice::{IncidentKind, Story};
use horus_core::observation::{CaptureStage, Exit, Finding};
use horus_core::outbox::DeliveryState;
use horus_core::plan::{BeatKind, Mode, Severity};
use horus_core::proof::Standing;
use horus_core::reason::{Reason, Rule};
use horus_core::record::{IncidentRecord, Recorded};
use horus_core::status::{
    AxisStatus, BeatStatus, HoldStatus, LimitStatus, MonitorStatus, STATUS_SCHEMA, ServiceStatus, SinkStatus,
    StatusReport,
};
use horus_core::tree::TreeLimit;
use horus_core::verdict::{LoopAxis, ProcessAxis, ProgressAxis, ValueAxis, Verdict};
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

use super::check::{render_findings, render_findings_plain, render_proofs, render_timing, render_verdict};
use super::events::{render_debts, render_event, render_incidents};
use super::incident::render_incident;
use super::service::render_service;
use super::status::render_status;
use super::style::Style;
use super::text::columns;

const PLAIN: Style = Style::new(false);
const COLOUR: Style = Style::new(true);

fn axis<T>(is: T, because: &str) -> AxisStatus<T> {
    AxisStatus { is, because: because.into() }
}

fn healthy(name: &str) -> ServiceStatus {
    ServiceStatus {
        name: ServiceName::parse(name).unwrap(),
        verdict: Verdict::Healthy,
        because: "fresh tick 0.4 s ago".into(),
        wanted: "up".into(),
        phase: "running".into(),
        process: axis(ProcessAxis::Running, "pid 4712 since 2 h 3 min"),
        loop_axis: axis(LoopAxis::Beating, "fresh tick 0.4 s ago, deadline 10 s"),
        progress: axis(ProgressAxis::Advancing, "bars moved 0.4 s ago"),
        value: axis(ValueAxis::Fresh, "orders moved 3 min ago, stale after 24 h"),
        observe: false,
        hold: None,
        pid: Some(4712),
        generation: 7,
        up_for_ms: Some(7_380_000),
        next_start_in_ms: None,
        deadline_ms: 10_000,
        kills_unproven: 0,
        kills_limit: 3,
        kills_today: 0,
        breaker_open: false,
        exits_recent: 0,
        beats: vec![BeatStatus {
            source: BeatKind::Http,
            fresh_ms: Some(400),
            heard_ms: Some(400),
            tick: Some(812),
            loop_lag_ms: Some(3.2),
            fault: None,
        }],
        kernel: None,
        tree_limits: Vec::new(),
        groups: Vec::new(),
        said: Some("replaying bar 812".into()),
        incidents: Vec::new(),
    }
}

fn silent() -> ServiceStatus {
    ServiceStatus {
        verdict: Verdict::Silent,
        because: "no fresh tick for 12.4 s, deadline 10 s; no answer in 2 s from the heartbeat address"
            .into(),
        loop_axis: axis(LoopAxis::Silent, "no fresh tick for 12.4 s, deadline 10 s"),
        progress: axis(ProgressAxis::Stalled, "bars moved 12.6 s ago"),
        kills_unproven: 1,
        kills_today: 2,
        incidents: vec![IncidentId::nth(7)],
        beats: vec![BeatStatus {
            source: BeatKind::Http,
            fresh_ms: Some(12_400),
            heard_ms: None,
            tick: Some(811),
            loop_lag_ms: None,
            fault: Some("no answer in 2 s".into()),
        }],
        ..healthy("trading")
    }
}

fn held() -> ServiceStatus {
    ServiceStatus {
        verdict: Verdict::Held,
        because: "held by a person".into(),
        wanted: "down".into(),
        phase: "down".into(),
        process: axis(ProcessAxis::Absent, "ended 5 min ago"),
        loop_axis: axis(LoopAxis::Unknown, "no process"),
        progress: axis(ProgressAxis::Unknown, "no process"),
        value: axis(ValueAxis::Unknown, "nothing declared"),
        hold: Some(HoldStatus {
            reason: "disk swap, see ticket 12".into(),
            for_ms: 300_000,
            left_ms: Some(6_900_000),
        }),
        pid: None,
        up_for_ms: None,
        beats: Vec::new(),
        said: None,
        ..healthy("importer")
    }
}

fn crashing() -> ServiceStatus {
    ServiceStatus {
        verdict: Verdict::CrashLooping,
        because: "5 exits within 10 min, the last with exit code 1".into(),
        phase: "backoff".into(),
        process: axis(ProcessAxis::Absent, "ended 3 s ago"),
        loop_axis: axis(LoopAxis::Unknown, "no process"),
        progress: axis(ProgressAxis::Unknown, "no process"),
        value: axis(ValueAxis::Unknown, "nothing declared"),
        pid: None,
        up_for_ms: None,
        next_start_in_ms: Some(77_000),
        exits_recent: 5,
        kills_unproven: 3,
        breaker_open: true,
        beats: Vec::new(),
        tree_limits: vec![
            LimitStatus {
                limit: TreeLimit::Memory,
                value: "512 MiB".into(),
                enforced: Some(false),
                because: Some("no memory controller in /sys/fs/cgroup/mine/slot-mailer".into()),
            },
            LimitStatus { limit: TreeLimit::Tasks, value: "200".into(), enforced: Some(true), because: None },
            LimitStatus::unknown((TreeLimit::Cpu, "150 % of a processor".into())),
        ],
        // A program must not be able to draw on the terminal.
        said: Some("\u{1b}[2Jhello\u{7}".into()),
        incidents: vec![IncidentId::nth(8), IncidentId::nth(9)],
        ..healthy("mailer-with-a-rather-long-name")
    }
}

fn report(services: Vec<ServiceStatus>) -> StatusReport {
    StatusReport {
        schema: STATUS_SCHEMA,
        host: "mini".into(),
        mode: Mode::Observe,
        services,
        monitors: Vec::new(),
        store_fault: None,
        dead_sinks: Vec::new(),
    }
}

fn troubled() -> StatusReport {
    StatusReport {
        mode: Mode::Enforce,
        monitors: vec![
            MonitorStatus {
                name: MonitorName::parse("router").unwrap(),
                up: Some(true),
                because: "answered in 12 ms".into(),
                for_ms: Some(86_400_000),
            },
            MonitorStatus {
                name: MonitorName::parse("venue").unwrap(),
                up: Some(false),
                because: "status 503, expected 200".into(),
                for_ms: Some(125_000),
            },
            MonitorStatus {
                name: MonitorName::parse("fresh").unwrap(),
                up: None,
                because: "first poll in 3 s".into(),
                for_ms: None,
            },
        ],
        store_fault: Some("No space left on device (os error 28)".into()),
        dead_sinks: vec![SinkStatus { name: "ops".into(), fault: "status 401".into() }],
        ..report(vec![crashing(), held(), healthy("pipeline"), silent()])
    }
}

fn fits(text: &str, width: usize) {
    for line in text.lines() {
        assert!(columns(line) <= width, "{} columns, {width} are there: {line}", columns(line));
    }
}

#[test]
fn status_of_an_ordinary_day_fits_into_80_columns() {
    let text = render_status(&report(vec![healthy("trading"), healthy("pipeline")]), 80, PLAIN);
    fits(&text, 80);
    insta::assert_snapshot!(text);
}

#[test]
fn status_with_one_silent_service_fits_into_80_columns() {
    let text = render_status(&report(vec![healthy("mailer"), silent(), healthy("pipeline")]), 80, PLAIN);
    fits(&text, 80);
    insta::assert_snapshot!(text);
}

#[test]
fn status_of_a_bad_day_is_worst_first() {
    let text = render_status(&troubled(), 120, PLAIN);
    fits(&text, 120);
    insta::assert_snapshot!(text);
}

#[test]
fn status_too_wide_for_the_terminal_is_stacked() {
    let text = render_status(&troubled(), 60, PLAIN);
    fits(&text, 60);
    insta::assert_snapshot!(text);
}

#[test]
fn status_of_nothing_is_said() {
    insta::assert_snapshot!(render_status(&report(Vec::new()), 80, PLAIN));
}

#[test]
fn colour_adds_nothing_but_colour() {
    for width in [60, 80, 120] {
        let painted = render_status(&troubled(), width, COLOUR);
        assert!(painted.contains("\u{1b}[1;31m"));
        assert_eq!(without_codes(&painted), render_status(&troubled(), width, PLAIN));
    }
    assert_eq!(without_codes(&render_service(&silent(), 80, COLOUR)), render_service(&silent(), 80, PLAIN));
}

fn without_codes(text: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in text.chars() {
        match c {
            '\u{1b}' => inside = true,
            'm' if inside => inside = false,
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out
}

#[test]
fn nothing_that_a_program_says_reaches_the_terminal_raw() {
    let mut service = crashing();
    service.because = "\u{1b}]0;owned\u{7}".into();
    let mut report = report(vec![service.clone()]);
    report.store_fault = Some("\u{9b}31m".into());
    for text in [render_status(&report, 80, PLAIN), render_service(&service, 80, PLAIN)] {
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }
}

#[test]
fn one_service_with_every_reason() {
    let text = [silent(), held(), crashing()].map(|service| render_service(&service, 80, PLAIN)).join("\n");
    fits(&text, 80);
    insta::assert_snapshot!(text);
}

/// 16:18:06 in a zone that is one hour ahead.
fn zone() -> TimeZone {
    TimeZone::fixed(Offset::constant(1))
}

fn at(after_ms: i64) -> Timestamp {
    let first: Timestamp = "2026-11-22T15:18:08.500Z".parse().unwrap();
    first + Duration::from_millis(u64::try_from(after_ms).unwrap())
}

fn happened(seq: u64, after_ms: i64, what: What) -> Recorded {
    Recorded {
        seq,
        at: at(after_ms),
        event: Event {
            subject: "trading".into(),
            generation: Some(Generation(7)),
            incident: Some(IncidentId::nth(7)),
            what,
        },
    }
}

fn finding(phrase: &str) -> Finding {
    Finding {
        stopped: None,
        phrase: phrase.into(),
        bundle: None,
        missing: Vec::new(),
        place: None,
        cpu_ns: None,
        seen: None,
        last_lines: Vec::new(),
    }
}

fn healed() -> IncidentReport {
    let silent = || Reason::new(Rule::Silent, "no fresh tick for 10.2 s, deadline 10 s");
    let old = ProcessId { pid: 4711, start_time: 1 };
    let new = ProcessId { pid: 4790, start_time: 2 };
    let verdict = Finding {
        missing: vec!["no Python stacks: ptrace is not permitted".into()],
        last_lines: vec!["bar 811 done".into(), "\u{1b}[31mwaiting for the venue\u{1b}[0m".into()],
        ..finding("waiting in futex for 9.8 s, no CPU used since")
    };
    let whats = [
        (
            0,
            What::EvidenceCaptured {
                stage: CaptureStage::Early,
                finding: finding("waiting in futex for 2.4 s"),
            },
        ),
        (
            2_500,
            What::EvidenceCaptured {
                stage: CaptureStage::Second,
                finding: finding("waiting in futex for 4.9 s"),
            },
        ),
        (7_700, What::Judged { from: Verdict::Slow, to: Verdict::Silent, reason: silent() }),
        (
            7_700,
            What::IncidentOpened { kind: IncidentKind::Stuck, severity: Severity::Warning, reason: silent() },
        ),
        (7_810, What::EvidenceCaptured { stage: CaptureStage::Verdict, finding: verdict }),
        (7_820, What::KillDecided { reason: silent(), kill: 1, limit: 3 }),
        (
            7_820,
            What::Told {
                version: 1,
                story: Story::StuckRestarting {
                    stuck_for: Duration::from_millis(10_200),
                    how: "no fresh tick".into(),
                    place: None,
                    kill: 1,
                    limit: 3,
                },
                within: None,
            },
        ),
        (7_850, What::Signalled { signal: "SIGTERM".into(), tree: false, reason: silent() }),
        (
            27_850,
            What::Signalled {
                signal: "SIGKILL".into(),
                tree: true,
                reason: Reason::new(Rule::Silent, "still there after 20 s"),
            },
        ),
        (
            27_860,
            What::Exited {
                exit: Exit::Signal(9),
                lifetime: Duration::from_secs(7_380),
                cause: DeathCause::Kill,
            },
        ),
        (27_870, What::VerifiedGone { killed: 2 }),
        (27_900, What::Started { process: new }),
        (29_100, What::BecameReady { took: Duration::from_millis(1_200), by: "http tick 1".into() }),
        (29_100, What::Recovered { after: Duration::from_millis(31_600) }),
        // Past midnight.
        (30_000_000, What::Proven { after: Duration::from_secs(300) }),
        (
            30_000_000,
            What::IncidentClosed { outcome: Outcome::HealedByRestart, lasted: Duration::from_secs(29_992) },
        ),
    ];
    let mut events: Vec<Recorded> =
        (810..).zip(whats).map(|(seq, (after, what))| happened(seq, after, what)).collect();
    events[8].event.what = What::Signalled {
        signal: "SIGKILL".into(),
        tree: true,
        reason: Reason::new(Rule::Silent, format!("{old} is still there after 20 s")),
    };
    let delivery = |sink: &str| DeliveryState {
        sink: SinkName::parse(sink).unwrap(),
        incident: IncidentId::nth(7),
        wanted_version: 2,
        delivered_version: Some(2),
        delivered_at: Some(at(29_400)),
        attempts: 0,
        last_error: None,
        refused: false,
    };
    IncidentReport {
        schema: API_SCHEMA,
        incident: IncidentRecord {
            id: IncidentId::nth(7),
            subject: "trading".into(),
            kind: IncidentKind::Stuck,
            severity: Severity::Warning,
            reason: "no fresh tick for 10.2 s, deadline 10 s".into(),
            opened_at: at(7_700),
            closed_at: Some(at(30_000_000)),
            outcome: Some(Outcome::HealedByRestart),
        },
        events,
        deliveries: vec![
            delivery("ops"),
            DeliveryState {
                delivered_version: Some(1),
                attempts: 3,
                last_error: Some("status 500".into()),
                ..delivery("night")
            },
            DeliveryState { delivered_version: None, delivered_at: None, ..delivery("slack") },
            DeliveryState {
                refused: true,
                delivered_version: None,
                delivered_at: None,
                attempts: 1,
                last_error: Some("status 404: the webhook is gone".into()),
                ..delivery("old")
            },
        ],
        evidence: vec!["/var/lib/horus/evidence/trading-7-verdict.txt".into()],
    }
}

#[test]
fn the_story_of_a_healed_hang() {
    let text = render_incident(&healed(), at(40_000_000), &zone(), 100, PLAIN);
    fits(&text, 100);
    insta::assert_snapshot!(text);
}

#[test]
fn the_story_of_an_open_incident_that_nobody_was_told() {
    let mut report = healed();
    report.incident.closed_at = None;
    report.incident.outcome = None;
    report.incident.severity = Severity::Critical;
    report.events.clear();
    report.deliveries.clear();
    report.evidence.clear();
    insta::assert_snapshot!(render_incident(&report, at(19_700), &zone(), 80, PLAIN));
}

#[test]
fn a_long_story_fits_into_80_columns() {
    fits(&render_incident(&healed(), at(40_000_000), &zone(), 80, PLAIN), 80);
}

#[test]
fn events_are_one_line_each() {
    let mut lines: String = healed().events.iter().map(|event| render_event(event, &zone(), PLAIN)).collect();
    let said = What::SaidStatus { text: "two\nlines\u{1b}[2J".into() };
    let mut event = happened(900, 0, said);
    event.event.incident = None;
    event.event.subject = "mailer-with-a-rather-long-name".into();
    lines += &render_event(&event, &zone(), PLAIN);
    assert_eq!(lines.lines().count(), healed().events.len() + 1);
    insta::assert_snapshot!(lines);
}

#[test]
fn incidents_are_a_table() {
    let closed = healed().incident;
    let open = IncidentRecord {
        id: IncidentId::nth(8),
        subject: "importer".into(),
        kind: IncidentKind::Valueless,
        severity: Severity::Critical,
        closed_at: None,
        outcome: None,
        ..closed.clone()
    };
    insta::assert_snapshot!(render_incidents(&[open, closed], at(19_700), &zone(), PLAIN));
}

#[test]
fn debts_are_a_table_the_oldest_first() {
    let oldest = healed().incident;
    let again = IncidentRecord { id: IncidentId::nth(9), opened_at: at(40_000_000), ..oldest.clone() };
    let other = IncidentRecord { id: IncidentId::nth(8), kind: IncidentKind::Valueless, ..oldest.clone() };
    let debts = horus_api::Debt::gather(vec![oldest, other, again]);
    assert_eq!(debts.len(), 2);
    insta::assert_snapshot!(render_debts(&debts, at(400_000_000), PLAIN));
}

/// A machine on which everything is where it should be.
struct Machine;

impl Environment for Machine {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "PATH").then(|| "/usr/bin".into())
    }
    fn look(&self, _: &std::path::Path) -> std::io::Result<FileFacts> {
        Ok(FileFacts { owner: 1000, mode: 0o755, directory: false })
    }
    fn read(&self, _: &std::path::Path, _: u64) -> std::io::Result<Vec<u8>> {
        Ok(Vec::new())
    }
    fn user_id(&self) -> u32 {
        1000
    }
    fn user(&self, _: &str) -> Option<UserFacts> {
        None
    }
    fn group(&self, _: &str) -> Option<u32> {
        None
    }
    fn host_name(&self) -> Option<String> {
        Some("mini".into())
    }
    fn current_directory(&self) -> std::path::PathBuf {
        "/srv".into()
    }
}

const GOOD: &str = r#"version = 1
[daemon]
state_directory = "/srv/state"
run_directory = "/srv/run"
[service.trading]
command = ["/usr/bin/trading", "run"]
directory = "/srv"
deadline = "10s"
heartbeat.http = { url = "http://127.0.0.1:7801/heartbeat", seq = "/seq" }
[service.opaque]
command = ["/usr/bin/opaque"]
"#;

const BAD: &str = r#"version = 1
[service.trading]
command = ["trading"]
deadlin = "10s"
startup = "soon"
"#;

#[test]
fn the_timing_table_says_where_each_number_comes_from() {
    let loaded = horus_config::parse(GOOD, std::path::Path::new("/srv/watchdog.toml"), &Machine);
    assert!(loaded.faults.is_empty(), "{:?}", loaded.faults);
    let checked = loaded.checked.unwrap();
    let timing = render_timing(&checked.timing, PLAIN);
    let proofs: Vec<Standing> =
        checked.plan.services.iter().map(|(name, plan)| Standing::of(name, plan)).collect();
    let timing = timing + &render_proofs(&proofs, usize::MAX);
    let verdict = render_verdict("watchdog.toml", 0, loaded.warnings.len(), Some([2, 0, 0]));
    insta::assert_snapshot!(timing + &verdict);
}

#[test]
fn findings_are_drawn_for_people_and_listed_for_editors() {
    let loaded = horus_config::parse(BAD, std::path::Path::new("watchdog.toml"), &Machine);
    let drawn = render_findings(&loaded.faults, 80, PLAIN);
    assert!(!drawn.contains('\u{1b}'), "{drawn:?}");
    let listed = render_findings_plain(&loaded.faults);
    assert_eq!(listed.lines().count(), loaded.faults.len());
    insta::assert_snapshot!(format!("{drawn}\n{listed}\n{}", render_verdict("watchdog.toml", 2, 0, None)));
}
