//! One notice of every story, with numbers as they occur. For rehearsals, tests, snapshots and the generated reference.

use std::time::Duration;

use horus_core::ids::IncidentId;
use horus_core::notice::{IncidentKind, Notice, StormMember, Story};
use horus_core::plan::Severity;
use horus_core::verdict::Verdict;

/// The key under which a story is serialised. One arm per story, so that a new story cannot be forgotten here.
pub fn key(story: &Story) -> &'static str {
    match story {
        Story::StuckRestarting { .. } => "stuck_restarting",
        Story::StuckObserved { .. } => "stuck_observed",
        Story::StuckHealed { .. } => "stuck_healed",
        Story::CameBack { .. } => "came_back",
        Story::BreakerOpen { .. } => "breaker_open",
        Story::ExitHealed { .. } => "exit_healed",
        Story::ExitStaysDown { .. } => "exit_stays_down",
        Story::CrashLoop { .. } => "crash_loop",
        Story::SameAge { .. } => "same_age",
        Story::StartFailed { .. } => "start_failed",
        Story::StartOverdue { .. } => "start_overdue",
        Story::ProbePath { .. } => "probe_path",
        Story::KernelView { .. } => "kernel_view",
        Story::Valueless { .. } => "valueless",
        Story::FunnelBlocked { .. } => "funnel_blocked",
        Story::WillNotDie { .. } => "will_not_die",
        Story::MonitorDown { .. } => "monitor_down",
        Story::Halted => "halted",
        Story::StoreTrouble { .. } => "store_trouble",
        Story::SinkDead { .. } => "sink_dead",
        Story::Over { .. } => "over",
        Story::Test => "test",
        Story::NothingToWorkOn { .. } => "nothing_to_work_on",
        Story::CommonCause { .. } => "common_cause",
        Story::Storm { .. } => "storm",
        Story::RunOverdue { .. } => "run_overdue",
        Story::RunMissed { .. } => "run_missed",
        Story::Recurs { .. } => "recurs",
        Story::Demoted { .. } => "demoted",
    }
}

/// How many stories there are: as many as [`key`] has arms.
pub const STORIES: usize = 29;

/// One notice of every story.
pub fn notices() -> Vec<Notice> {
    use IncidentKind as Kind;
    let calls = [
        ("trading", Kind::Stuck, Severity::Warning, false),
        ("trading", Kind::Stuck, Severity::Warning, false),
        ("trading", Kind::Stuck, Severity::Info, false),
        ("pipeline", Kind::Stuck, Severity::Info, false),
        ("trading", Kind::Stuck, Severity::Critical, true),
        ("pipeline", Kind::Exit, Severity::Info, false),
        ("pipeline", Kind::Exit, Severity::Critical, true),
        ("svc-rss", Kind::CrashLoop, Severity::Critical, true),
        ("trading", Kind::SameAge, Severity::Critical, true),
        ("svc-rss", Kind::StartFailed, Severity::Critical, true),
        ("agent-coder", Kind::StartOverdue, Severity::Warning, false),
        ("trading", Kind::ProbePath, Severity::Warning, false),
        ("pipeline", Kind::KernelView, Severity::Warning, false),
        ("trading", Kind::Valueless, Severity::Warning, false),
        ("trading", Kind::FunnelBlocked, Severity::Warning, false),
        ("svc-backup", Kind::WillNotDie, Severity::Critical, true),
        ("router", Kind::MonitorDown, Severity::Critical, false),
        ("trading", Kind::Halted, Severity::Critical, true),
        ("horus", Kind::Store, Severity::Critical, true),
        ("horus", Kind::SinkDead, Severity::Critical, true),
        ("svc-rss", Kind::CrashLoop, Severity::Info, false),
        ("horus", Kind::SinkDead, Severity::Info, false),
        ("trading", Kind::Expectation, Severity::Warning, false),
        ("horus", Kind::CommonCause, Severity::Critical, true),
        ("horus", Kind::Storm, Severity::Critical, true),
        ("svc-backup", Kind::RunOverdue, Severity::Warning, false),
        ("svc-backup", Kind::RunMissed, Severity::Warning, false),
        ("trading", Kind::Recurrence, Severity::Warning, false),
        ("trading", Kind::Demoted, Severity::Warning, false),
    ];
    let mut tales = troubles();
    tales.extend(surroundings());
    tales.extend(work_and_judgement());
    calls
        .into_iter()
        .zip(tales)
        .zip(1_u64..)
        .map(|(((subject, kind, severity, needs_you), story), number)| Notice {
            incident: IncidentId::nth(number),
            version: 1,
            subject: subject.into(),
            kind,
            severity,
            needs_you,
            loud: !matches!(severity, Severity::Info),
            within: None,
            story,
        })
        .collect()
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn troubles() -> Vec<Story> {
    let how = || "beats arrive, the tick stands still at 812".to_owned();
    let place = || Some("ws.recv() in feed.py:212, thread MainThread".to_owned());
    vec![
        Story::StuckRestarting {
            stuck_for: Duration::from_millis(12_430),
            how: how(),
            place: place(),
            kill: 1,
            limit: 3,
        },
        Story::StuckObserved {
            because: "Observe mode.".into(),
            stuck_for: seconds(21),
            how: "no beat".into(),
            place: None,
        },
        Story::StuckHealed { stuck_for: seconds(94), down_for: seconds(103), how: how(), place: place() },
        Story::CameBack { away_for: seconds(40) },
        Story::BreakerOpen {
            kills: 3,
            how: "no beat".into(),
            places: vec![
                "ws.recv() in feed.py:212".into(),
                "ws.recv() in feed.py:212".into(),
                "unknown".into(),
            ],
            retry: Some(seconds(6 * 3600)),
        },
        Story::ExitHealed {
            exit: "signal 9".into(),
            lifetime: seconds(7 * 3600 + 120),
            down_for: Duration::from_millis(2_100),
            last_line: Some("published week-12.html".into()),
        },
        Story::ExitStaysDown {
            exit: "exit code 0".into(),
            lifetime: seconds(129),
            last_line: Some("no more topics".into()),
        },
        Story::CrashLoop {
            exits: 5,
            within: seconds(240),
            exit: "exit code 1".into(),
            next_in: seconds(120),
            last_line: Some("KeyError: 'feed_url'".into()),
        },
        Story::SameAge { deaths: 3, every: seconds(129), exit: "signal 15".into() },
        Story::StartFailed { error: "/opt/svc-rss/run: permission denied".into(), next_in: Some(seconds(8)) },
        Story::StartOverdue { waited: seconds(60), heard: "connection refused at 127.0.0.1:8787".into() },
        Story::ProbePath { since: seconds(75), heard: "404 Not Found at http://127.0.0.1:8787/beat".into() },
        Story::KernelView {
            verdict: Verdict::Blocked,
            lasted: seconds(12),
            seen: "blocked in recvfrom from 10.0.0.7:443 for 12 s, no CPU used since".into(),
            place: Some("waiting on recv from 10.0.0.7:443 in place_order (bot.py:98)".into()),
            because: "a loop of it is stuck in one call, and nothing beats".into(),
        },
    ]
}

fn surroundings() -> Vec<Story> {
    vec![
        Story::Valueless {
            value: "orders".into(),
            counter: "orders_filled".into(),
            since: seconds(11_400),
            bound: seconds(2_460),
        },
        Story::FunnelBlocked {
            funnel: "decisions".into(),
            from: "signals_scored".into(),
            moved: 340,
            to: "gates_passed".into(),
        },
        Story::WillNotDie {
            waited: seconds(30),
            detail: "pid 4711 waits in the kernel: nfs_wait_bit_killable".into(),
        },
        Story::MonitorDown { since: seconds(184), heard: "no answer within 5 s".into() },
        Story::Halted,
        Story::StoreTrouble { fault: "No space left on device".into() },
        Story::SinkDead { sink: "ops".into(), fault: "404 Not Found: Unknown Webhook (10015)".into() },
        Story::Over { lasted: seconds(18 * 60), how: "you restarted it".into() },
        Story::Test,
    ]
}

fn member(subject: &str, kind: IncidentKind, because: &str, over: bool) -> StormMember {
    StormMember { subject: subject.into(), kind, because: because.into(), needs_you: !over, over }
}

fn work_and_judgement() -> Vec<Story> {
    vec![
        Story::NothingToWorkOn { gauge: "slots".into(), is: Some(0.0), min: 1.0, since: seconds(120) },
        Story::CommonCause {
            what: "5 of 8 services stopped answering within 40 s".into(),
            services: ["agent-coder", "agent-trader", "pipeline", "svc-rss", "trading"]
                .map(Into::into)
                .into(),
            of: 8,
        },
        Story::Storm {
            members: vec![
                member("agent-coder", IncidentKind::CrashLoop, "5 exits within 10 min", false),
                member("pipeline", IncidentKind::StartFailed, "/opt/pipeline/run: permission denied", false),
                member("svc-rss", IncidentKind::MonitorDown, "", true),
            ],
            more: 0,
        },
        Story::RunOverdue {
            running: seconds(50 * 60),
            finish: seconds(30 * 60),
            skipped: 2,
            doing: Some("has done nothing at all for 31 min".into()),
            step: None,
        },
        Story::RunMissed { missed: 1, because: "it was held: migrating".into(), catches_up: true },
        Story::Recurs { days: 3, lasted: seconds(200) },
        Story::Demoted { detector: "silent".into(), right: 1, wrong: 4 },
    ]
}
