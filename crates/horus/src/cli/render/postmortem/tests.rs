use horus_api::{API_SCHEMA, IncidentReport};
use horus_core::event::{DeathCause, Event};
use horus_core::ids::{Generation, IncidentId, ProcessId, SinkName};
use horus_core::notice::{IncidentKind, Story};
use horus_core::observation::{Exit, Finding};
use horus_core::plan::Severity;
use horus_core::reason::Reason;
use horus_core::record::IncidentRecord;
use horus_core::verdict::Verdict;
use jiff::tz::Offset;

use super::*;

fn id() -> IncidentId {
    IncidentId::nth(7)
}

fn zone() -> TimeZone {
    TimeZone::fixed(Offset::constant(1))
}

fn at(after_ms: u64) -> Timestamp {
    let first: Timestamp = "2026-11-22T15:18:08.500Z".parse().unwrap();
    first + Duration::from_millis(after_ms)
}

fn row(seq: u64, after_ms: u64, subject: &str, incident: Option<IncidentId>, what: What) -> Recorded {
    let generation = (subject != "horus").then_some(Generation(7));
    Recorded { seq, at: at(after_ms), event: Event { subject: subject.into(), generation, incident, what } }
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

fn silent() -> Reason {
    Reason::new(Rule::Silent, "no fresh tick for 10.2 s, deadline 10 s")
}

fn captured(stage: CaptureStage, finding: Finding) -> What {
    What::EvidenceCaptured { stage, finding }
}

fn delivery(sink: &str) -> DeliveryState {
    DeliveryState {
        sink: SinkName::parse(sink).unwrap(),
        incident: id(),
        wanted_version: 2,
        delivered_version: Some(2),
        delivered_at: Some(at(31_500)),
        attempts: 0,
        last_error: None,
        refused: false,
    }
}

fn told(version: u32, story: Story) -> What {
    What::Told { version, story, within: None }
}

/// A hang that a restart cured, with a program that writes Markdown into its log.
fn healed() -> (IncidentReport, Vec<Recorded>) {
    let stuck = Duration::from_millis(10_200);
    let verdict = Finding {
        missing: vec!["no native stacks: ptrace is not permitted".into()],
        last_lines: vec!["# not a heading".into(), "``` @everyone \u{1b}[2J".into()],
        ..finding("waiting on recv from 10.0.0.7:443 in place_order (bot.py:98)")
    };
    let restarting = Story::StuckRestarting {
        stuck_for: stuck,
        how: "no fresh tick".into(),
        place: None,
        kill: 1,
        limit: 3,
    };
    let cured = Story::StuckHealed {
        stuck_for: stuck,
        down_for: Duration::from_millis(31_600),
        how: "no fresh tick".into(),
        place: None,
    };
    let signal = |signal: &str, tree| What::Signalled { signal: signal.into(), tree, reason: silent() };
    let opened =
        What::IncidentOpened { kind: IncidentKind::Stuck, severity: Severity::Warning, reason: silent() };
    let closed =
        What::IncidentClosed { outcome: Outcome::HealedByRestart, lasted: Duration::from_millis(322_300) };
    let whats = [
        (0, captured(CaptureStage::Early, finding("waiting in futex for 2.4 s"))),
        (2_500, captured(CaptureStage::Second, finding("waiting in futex for 4.9 s"))),
        (7_700, What::Judged { from: Verdict::Slow, to: Verdict::Silent, reason: silent() }),
        (7_700, opened),
        (7_810, captured(CaptureStage::Verdict, verdict)),
        (7_820, What::KillDecided { reason: silent(), kill: 1, limit: 3 }),
        (7_820, told(1, restarting)),
        (7_850, signal("SIGTERM", false)),
        (27_850, signal("SIGKILL", true)),
        (
            27_860,
            What::Exited {
                exit: Exit::Signal(9),
                lifetime: Duration::from_secs(7_380),
                cause: DeathCause::Kill,
            },
        ),
        (27_870, What::VerifiedGone { killed: 2 }),
        (27_900, What::Started { process: ProcessId { pid: 4790, start_time: 2 } }),
        (29_100, What::Recovered { after: Duration::from_millis(31_600) }),
        (29_100, told(2, cured)),
        (330_000, What::Proven { after: Duration::from_secs(300) }),
        (330_000, closed),
    ];
    let events =
        (810..).zip(whats).map(|(seq, (after, what))| row(seq, after, "trading", Some(id()), what)).collect();
    let around = vec![
        row(700, 0, "trading", None, What::SaidStatus { text: "too loud for a report".into() }),
        row(
            800,
            0,
            "horus",
            None,
            What::PlanLoaded { summary: "trading: its command [new](http://evil)".into() },
        ),
        row(
            801,
            0,
            "trading",
            Some(IncidentId::nth(3)),
            What::WouldHave { what: "another incident".into(), reason: silent() },
        ),
        row(
            900,
            340_000,
            "horus",
            None,
            What::Host { reason: Reason::new(Rule::Suspended, "after it was over") },
        ),
    ];
    let report = IncidentReport {
        schema: API_SCHEMA,
        incident: IncidentRecord {
            id: id(),
            subject: "trading".into(),
            kind: IncidentKind::Stuck,
            severity: Severity::Warning,
            reason: silent().text,
            opened_at: at(7_700),
            closed_at: Some(at(330_000)),
            outcome: Some(Outcome::HealedByRestart),
        },
        events,
        deliveries: vec![
            delivery("ops"),
            DeliveryState {
                delivered_version: Some(1),
                delivered_at: Some(at(9_820)),
                attempts: 3,
                last_error: Some("status 500 | <html>".into()),
                ..delivery("night")
            },
            DeliveryState { delivered_version: None, delivered_at: None, ..delivery("slack") },
            DeliveryState { refused: true, delivered_version: None, delivered_at: None, ..delivery("old") },
        ],
        evidence: vec!["/var/lib/horus/evidence/trading-7-verdict.json".into()],
    };
    (report, around)
}

fn bundle() -> Captured {
    Captured {
        path: "/var/lib/horus/evidence/trading-7-verdict.json".into(),
        content: Ok(Content {
            stage: "verdict".into(),
            at: at(7_800),
            seen: "4711 waiting on recv\n  place_order (bot.py:98)\n".into(),
            changed: vec![
                serde_json::from_str(
                    r#"{"at":"2026-11-22T15:17:00Z","subject":"horus","what":"plan in force: `rm -rf`"}"#,
                )
                .unwrap(),
            ],
            last_lines: vec!["# not a heading".into(), "``` @everyone".into()],
        }),
    }
}

fn rendered(report: &IncidentReport, around: &[Recorded], bundles: &[Captured]) -> String {
    let now = at(400_000);
    render_postmortem(&Postmortem { report, around, whole: true, bundles, now, zone: &zone() })
}

#[test]
fn the_report_of_a_healed_hang() {
    let (report, around) = healed();
    let text = rendered(&report, &around, &[bundle()]);
    for absent in ["too loud", "another incident", "after it was over", "\u{1b}", "<html>", "](http://"] {
        assert!(!text.contains(absent), "{absent:?} in {text}");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn the_report_of_what_is_not_over_and_not_known_says_so() {
    let (mut report, _) = healed();
    report.incident.closed_at = None;
    report.incident.outcome = None;
    report.events.clear();
    report.deliveries.clear();
    let torn = Captured { path: "/x".into(), content: Err("not kept any more".into()) };
    insta::assert_snapshot!(rendered(&report, &[], &[torn]));
}

#[test]
fn a_noted_rule_is_in_the_report_and_what_is_no_surprise_owes_none() {
    let (mut report, _) = healed();
    let noted = What::RuleNoted { text: "a test with `sleep`".into() };
    report.events.push(row(900, 390_000, "trading", Some(id()), noted));
    let text = rendered(&report, &[], &[]);
    assert!(text.ends_with("- 2026-11-22 16:24:38: a test with \\`sleep\\`\n"), "{text}");
    report.events.pop();
    report.incident.outcome = Some(Outcome::CameBackAlone);
    assert!(rendered(&report, &[], &[]).contains("Nothing is owed"), "{text}");
}

/// Rows that speak for another explanation are never called ruled out, whatever was decided.
#[test]
fn a_sign_of_another_cause_is_not_ruled_out() {
    let (report, mut around) = healed();
    let judged = |to| What::Judged { from: Verdict::Slow, to, reason: Reason::new(Rule::Silent, "numbers") };
    let host = |rule| What::IncidentOpened {
        kind: IncidentKind::CommonCause,
        severity: Severity::Warning,
        reason: Reason::new(rule, "x"),
    };
    let guard = What::GuardClosed {
        reason: Reason::new(Rule::CommonCause, "5 of 8"),
        services: vec![horus_core::ids::ServiceName::parse("trading").unwrap()],
    };
    around.extend([
        row(802, 0, "horus", None, What::Host { reason: Reason::new(Rule::HostPressure, "busy") }),
        row(803, 0, "horus", Some(IncidentId::nth(4)), host(Rule::Canary)),
        row(804, 0, "horus", None, guard),
        row(805, 0, "trading", None, judged(Verdict::ProbePath)),
        row(806, 0, "trading", None, judged(Verdict::Starved)),
        row(807, 0, "trading", None, judged(Verdict::Stopped)),
        row(808, 0, "trading", None, judged(Verdict::Busy)),
        row(809, 0, "trading", None, What::OperatorAsked { request: "restart".into(), reason: None }),
    ]);
    let text = rendered(&report, &around, &[]);
    let doubted = Doubt::ALL.into_iter().filter(|doubt| doubt.concerns(IncidentKind::Stuck));
    for doubt in doubted {
        assert!(text.contains(&format!("- **not ruled out**: {}\n", doubt.claim())), "{doubt:?} in {text}");
    }
    assert!(!text.contains("**ruled out**"), "{text}");
}

#[test]
fn an_exit_that_horus_did_not_order_is_told_apart_from_its_own_signals() {
    let (mut report, _) = healed();
    report.incident.kind = IncidentKind::Exit;
    report.events.retain(|row| !matches!(row.event.what, What::KillDecided { .. } | What::Signalled { .. }));
    for row in &mut report.events {
        if let What::Exited { cause, .. } = &mut row.event.what {
            *cause = DeathCause::Itself;
        }
    }
    let text = rendered(&report, &[], &[]);
    assert!(text.contains("- no sign of it: ended by Horus."), "{text}");
    let reason = Reason::new(Rule::Operator, "a person asked for a stop");
    let signal = What::Signalled { signal: "SIGTERM".into(), tree: false, reason };
    let text = rendered(&report, &[row(809, 100, "trading", None, signal)], &[]);
    assert!(text.contains("- **not ruled out**: ended by Horus"), "{text}");
}

#[test]
fn a_long_story_keeps_its_beginning_and_its_end() {
    let (mut report, _) = healed();
    let last = report.events.pop().unwrap();
    for number in 0..1_000_u64 {
        let what = What::Judged { from: Verdict::Slow, to: Verdict::Silent, reason: silent() };
        report.events.push(row(1_000 + number, 30_000 + number, "trading", Some(id()), what));
    }
    report.events.push(Recorded { seq: 3_000, ..last });
    let text = rendered(&report, &[], &[]);
    assert!(text.contains("776 rows are left out here"), "{text}");
    assert!(text.contains("incident closed after"), "{text}");
    assert!(text.lines().filter(|line| line.starts_with("| 16:")).count() == 2 * ROWS_EACH_END_MAX);
}
