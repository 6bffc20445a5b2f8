//! Datagrams on a notify socket. Their sender is a child of ours, and may have gone mad.
//!
//! Promised: whatever arrives in one wake-up becomes one [`Said`] within all limits, with finite numbers and a status that
//! may be shown; a progress name is one that could be shown, too.

use bolero::TypeGenerator;
use horus_core::observation::Declared;
use horus_probe::fuzz::{Said, notify};
use horus_probe::limits::{
    BUSY_MAX, DATAGRAM_BYTES_MAX, EXTEND_MAX, PROGRESS_NAME_BYTES_MAX, PROGRESS_NAMES_MAX,
    STATUS_CHARACTERS_MAX,
};

use crate::source::Source;
use crate::{assert_showable, mutate, now, seeds};

const WORDS: [&str; 34] = [
    "READY=1\n",
    "WATCHDOG=1\n",
    "WATCHDOG=trigger\n",
    "STATUS=",
    "RELOADING=1\n",
    "STOPPING=1\n",
    "EXTEND_TIMEOUT_USEC=",
    "MAINPID=",
    "X_HORUS_SEQ=",
    "X_HORUS_LAG_MS=",
    "X_HORUS_STATE=busy\n",
    "X_HORUS_BUSY_UNTIL_MS=",
    "X_HORUS_PROGRESS=",
    "X_HORUS_GAUGE=",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "1e999",
    "nan",
    "inf",
    "-0",
    "0x10",
    ":",
    ",",
    "=",
    "\n",
    "\r\n",
    "\0",
    "\u{1b}[2J",
    "\u{202e}",
    "name:1",
    "a:b:2",
    "idle",
    "halted",
];

/// One line of a datagram.
#[derive(Clone, Debug, TypeGenerator)]
pub enum Line {
    Ready(bool),
    Watchdog,
    Status(String),
    Extend(u64),
    MainPid(i64),
    Seq(u64),
    Lag(f64),
    State(u8, Option<u64>),
    Progress(Vec<(u8, u64)>),
    OddProgress(String, i64),
    Foreign(String, String),
}

impl Line {
    fn text(&self) -> String {
        match self {
            Self::Ready(yes) => format!("READY={}", u8::from(*yes)),
            Self::Watchdog => "WATCHDOG=1".into(),
            Self::Status(text) => format!("STATUS={text}"),
            Self::Extend(microseconds) => format!("EXTEND_TIMEOUT_USEC={microseconds}"),
            Self::MainPid(pid) => format!("MAINPID={pid}"),
            Self::Seq(seq) => format!("X_HORUS_SEQ={seq}"),
            Self::Lag(lag) => format!("X_HORUS_LAG_MS={lag}"),
            Self::State(which, until) => {
                let state = ["ok", "busy", "idle", "halted", "dancing"][usize::from(*which) % 5];
                let until = until.map(|until| format!("\nX_HORUS_BUSY_UNTIL_MS={until}"));
                format!("X_HORUS_STATE={state}{}", until.unwrap_or_default())
            }
            Self::Progress(counters) => {
                let entries: Vec<_> =
                    counters.iter().map(|(name, value)| format!("n{name}:{value}")).collect();
                format!("X_HORUS_PROGRESS={}", entries.join(","))
            }
            Self::OddProgress(name, value) => format!("X_HORUS_PROGRESS={name}:{value}"),
            Self::Foreign(key, value) => format!("{key}={value}"),
        }
    }
}

/// Any bytes. Each byte 0xff begins a new datagram of the same wake-up.
pub fn check_bytes(bytes: &[u8]) {
    let datagrams = || {
        bytes.split(|byte| *byte == 0xff).map(|datagram| &datagram[..datagram.len().min(DATAGRAM_BYTES_MAX)])
    };
    let said = notify(datagrams(), now());
    check_limits(&said);
    assert_eq!(notify(datagrams(), now()), said, "the same datagrams say something else");
    // A datagram that says nothing changes nothing.
    assert_eq!(notify(datagrams().chain([&b"FDSTORE=1"[..]]), now()), said);
}

/// A real example, edited.
pub fn check_edited(bytes: &[u8]) {
    static SEEDS: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    check_bytes(&mutate::text(&mut Source::new(bytes), seeds::of(&SEEDS, "notify_bytes"), &WORDS));
}

/// Well-made lines: what they say is what is heard.
pub fn check_lines(lines: &[Line]) {
    let datagrams: Vec<String> = lines.iter().map(Line::text).collect();
    let apart = notify(datagrams.iter().map(String::as_bytes), now());
    check_limits(&apart);
    // Free texts may hold line breaks and so anything; all other lines say one thing each.
    if lines.iter().any(|line| matches!(line, Line::Status(_) | Line::Foreign(..) | Line::OddProgress(..))) {
        return;
    }
    let last = |wanted: fn(&Line) -> Option<u64>| lines.iter().rev().find_map(wanted);
    let seq = last(|line| if let Line::Seq(seq) = line { Some(*seq) } else { None });
    assert_eq!(apart.seq, seq, "the last tick is the one that counts");
    assert_eq!(apart.beat, seq.is_some() || lines.iter().any(|line| matches!(line, Line::Watchdog)));
    let asked = last(|line| if let Line::Extend(asked) = line { Some(*asked) } else { None });
    let asked = asked.map(|asked| std::time::Duration::from_micros(asked).min(EXTEND_MAX));
    assert_eq!(apart.extend, asked, "the last time that was asked for counts");
    let together = datagrams.join("\n");
    if together.len() <= DATAGRAM_BYTES_MAX {
        let together = notify([together.as_bytes()], now());
        assert_eq!((together.seq, together.beat, together.extend), (apart.seq, apart.beat, apart.extend));
        // Beyond the limit it depends on the order which names are kept.
        if apart.left_out + together.left_out == 0 {
            assert_eq!(together.progress, apart.progress, "one datagram or several");
        }
    }
}

fn check_limits(said: &Said) {
    if let Some(status) = &said.status {
        assert!(status.chars().count() <= STATUS_CHARACTERS_MAX + 1, "the status is too long");
        assert_showable(status, "the status");
    }
    assert!(said.extend.is_none_or(|extend| extend <= EXTEND_MAX), "{:?}", said.extend);
    assert!(said.main_pid.is_none_or(|pid| pid > 0), "{:?}", said.main_pid);
    assert!(said.lag_ms.is_none_or(|lag| lag.is_finite() && lag >= 0.0), "{:?}", said.lag_ms);
    assert!(said.beat || said.seq.is_none(), "a tick is a beat");
    assert!(said.progress.len() <= PROGRESS_NAMES_MAX && said.gauges.len() <= PROGRESS_NAMES_MAX);
    assert!(said.gauges.values().all(|gauge| gauge.is_finite()), "{:?}", said.gauges);
    for name in said.progress.keys().chain(said.gauges.keys()) {
        assert!((1..=PROGRESS_NAME_BYTES_MAX).contains(&name.len()), "{name:?}");
        assert_showable(name, "the name of a counter");
    }
    if let Some(Declared::Busy(left)) = said.declared {
        assert!(left <= BUSY_MAX && !left.is_zero(), "busy for {left:?}");
    }
}
