//! The body of an answer to `heartbeat.http`.
//!
//! Promised: a body is a beat within all limits or a miss with a short reason; numbers are finite; what was left out is
//! said in a bounded number of lines; every text from outside may be shown.

use std::sync::OnceLock;
use std::time::Duration;

use horus_core::observation::{Beat, Declared, Observation, ProbeFault};
use horus_core::plan::HttpBeat;
use horus_probe::fuzz::beat_json;
use horus_probe::limits::{
    BODY_BYTES_MAX, BUSY_MAX, DETAIL_CHARACTERS_MAX, PROGRESS_NAME_BYTES_MAX, PROGRESS_NAMES_MAX,
};

use crate::source::Source;
use crate::{assert_showable, mutate, now, seeds};

/// Lines about what was left out of one beat. They are told once, but they are kept until then.
const LEFT_OUT_MAX: usize = 2 * PROGRESS_NAMES_MAX + 8;

const WORDS: [&str; 22] = [
    "seq",
    "progress",
    "state",
    "gauges",
    "loop_lag_ms",
    "busy_until_ms",
    "schema",
    "ok",
    "busy",
    "idle",
    "halted",
    "a",
    "orders",
    "",
    "812",
    "1e400",
    "\u{1b}[2J",
    "line\nbreak",
    "\u{202e}",
    "a/b",
    "~",
    "a-name-that-is-longer-than-the-sixty-four-bytes-that-a-name-may-have-here",
];

/// Our own pointers, one level deeper, and odd ones.
fn beats() -> [HttpBeat; 3] {
    let beat = |root: &str| HttpBeat {
        url: "http://127.0.0.1:1/".into(),
        every: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        seq: Some(format!("{root}/seq")),
        progress: Some(format!("{root}/progress")),
        state: Some(format!("{root}/state")),
        lag: Some(format!("{root}/loop_lag_ms")),
        gauges: Some(format!("{root}/gauges")),
    };
    let odd =
        HttpBeat { seq: None, progress: Some(String::new()), gauges: Some(String::new()), ..beat("/a~1b/0") };
    [beat(""), beat("/stats"), odd]
}

/// Any bytes.
pub fn check_bytes(bytes: &[u8]) {
    let body = &bytes[..bytes.len().min(BODY_BYTES_MAX)];
    for beat in beats() {
        let (observation, left_out) = beat_json(body, &beat, now());
        assert!(left_out.len() <= LEFT_OUT_MAX, "{} lines about what was left out", left_out.len());
        for line in &left_out {
            assert_showable(line, "what was left out");
            assert!(line.chars().count() <= DETAIL_CHARACTERS_MAX, "{line:?}");
        }
        match observation {
            Observation::Beat { beat, .. } => check_beat(&beat),
            Observation::NoBeat { fault, detail, .. } => {
                assert_eq!(fault, ProbeFault::NotABeat, "somebody answered");
                assert!(!detail.is_empty() && detail.chars().count() <= DETAIL_CHARACTERS_MAX, "{detail:?}");
                assert_showable(&detail, "the reason of a miss");
            }
            other => panic!("a body became {other:?}"),
        }
    }
}

/// A real example, edited as JSON or as text.
pub fn check_edited(bytes: &[u8]) {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let seeds = seeds::of(&SEEDS, "heartbeat_bytes");
    let mut source = Source::new(bytes);
    let as_text = source.once_in(4);
    check_bytes(&if as_text {
        mutate::text(&mut source, seeds, &WORDS)
    } else {
        mutate::json(&mut source, seeds, &WORDS)
    });
}

fn check_beat(beat: &Beat) {
    assert!(beat.loop_lag_ms.is_none_or(|lag| lag.is_finite() && lag >= 0.0), "{:?}", beat.loop_lag_ms);
    assert!(beat.progress.len() <= PROGRESS_NAMES_MAX && beat.gauges.len() <= PROGRESS_NAMES_MAX);
    for name in beat.progress.keys().chain(beat.gauges.keys()) {
        assert!((1..=PROGRESS_NAME_BYTES_MAX).contains(&name.len()), "{name:?}");
        assert_showable(name, "the name of a counter");
    }
    assert!(beat.gauges.values().all(|gauge| gauge.is_finite()), "{:?}", beat.gauges);
    if let Some(Declared::Busy(left)) = beat.declared {
        assert!(left <= BUSY_MAX && !left.is_zero(), "busy for {left:?}");
    }
    let written = serde_json::to_string(beat).expect("a beat is JSON");
    let read: Beat = serde_json::from_str(&written).expect("a written beat can be read");
    assert_eq!(&read, beat, "a beat changes when it is recorded: {written}");
}
