//! From a JSON body to a sign, by JSON pointers.
//!
//! Only a missing or unreadable *tick* makes an answer worthless. Everything else (progress, gauges, state, lag) is
//! decoration: what cannot be read of it is left out and told once, because a fresh tick is life whatever stands beside it.

use std::time::Duration;

use horus_core::observation::Declared;
use horus_core::plan::HttpBeat;
use jiff::Timestamp;
use serde_json::Value;

use crate::limits::{BUSY_MAX, PROGRESS_NAME_BYTES_MAX, PROGRESS_NAMES_MAX};
use crate::sign::{Miss, Sign, name_fits};
use crate::text::one_line;

/// Where in the JSON the parts are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pointers {
    pub(crate) seq: Option<String>,
    pub(crate) progress: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) lag: Option<String>,
    pub(crate) gauges: Option<String>,
}

impl From<&HttpBeat> for Pointers {
    fn from(beat: &HttpBeat) -> Self {
        let HttpBeat { seq, progress, state, lag, gauges, .. } = beat.clone();
        Self { seq, progress, state, lag, gauges }
    }
}

impl Pointers {
    fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

/// What was read, and what was left out of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reading {
    pub(crate) sign: Sign,
    /// For people, to be told once.
    pub(crate) left_out: Vec<String>,
}

/// Reads a body. `now` is the wall clock, which `busy_until_ms` refers to.
pub(crate) fn read(body: &[u8], pointers: &Pointers, now: Timestamp) -> Result<Reading, Miss> {
    if pointers.is_empty() {
        return Ok(Reading::default());
    }
    let json: Value = serde_json::from_slice(body).map_err(|error| {
        let start = one_line(&String::from_utf8_lossy(&body[..body.len().min(256)]), 60);
        Miss::not_a_beat(format!("the answer is not JSON ({error}); it starts with '{start}'"))
    })?;
    let mut reading = Reading::default();
    if let Some(pointer) = &pointers.seq {
        reading.sign.tick = Some(tick(&json, pointer)?);
    }
    if let Some(pointer) = &pointers.progress {
        match json.pointer(pointer) {
            Some(Value::Object(counters)) => read_progress(counters, &mut reading),
            Some(_) => reading.left_out.push(format!("progress: '{pointer}' is no object")),
            None => reading.left_out.push(format!("progress: there is no '{pointer}'")),
        }
    }
    if let Some(pointer) = &pointers.gauges {
        match json.pointer(pointer) {
            Some(Value::Object(gauges)) => {
                read_gauges(gauges.iter().map(|(name, value)| (name.as_str(), Some(value))), &mut reading);
            }
            Some(Value::Array(names)) => {
                let counters = pointers.progress.as_ref().and_then(|pointer| json.pointer(pointer));
                let named = names.iter().filter_map(Value::as_str);
                read_gauges(named.map(|name| (name, counters.and_then(|all| all.get(name)))), &mut reading);
            }
            Some(_) => {
                reading.left_out.push(format!("gauges: '{pointer}' is no object and no list of names"))
            }
            // A program that has none need not say so.
            None => {}
        }
    }
    if let Some(pointer) = &pointers.state {
        read_state(&json, pointer, now, &mut reading);
    }
    if let Some(pointer) = &pointers.lag {
        match json.pointer(pointer) {
            Some(Value::Null) => {}
            Some(value) => match value.as_f64().filter(|lag| lag.is_finite() && *lag >= 0.0) {
                Some(lag) => reading.sign.lag_ms = Some(lag),
                None => reading.left_out.push(format!("lag: '{pointer}' is no number of milliseconds")),
            },
            None => reading.left_out.push(format!("lag: there is no '{pointer}'")),
        }
    }
    Ok(reading)
}

fn tick(json: &Value, pointer: &str) -> Result<u64, Miss> {
    let value =
        json.pointer(pointer).ok_or_else(|| Miss::not_a_beat(format!("the answer has no '{pointer}'")))?;
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => whole(other),
    };
    number.ok_or_else(|| {
        let shown = one_line(&value.to_string(), 40);
        Miss::not_a_beat(format!("'{pointer}' is no counter but {shown}"))
    })
}

/// A number that is not negative, rounded down.
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let number = value.as_f64().filter(|number| number.is_finite() && *number >= 0.0)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "rounding down is meant; the cast saturates"
        )]
        Some(number as u64)
    })
}

fn read_progress(counters: &serde_json::Map<String, Value>, reading: &mut Reading) {
    let Reading { sign, left_out } = reading;
    let mut bad = 0;
    for (name, value) in counters {
        if bad >= PROGRESS_NAMES_MAX || sign.progress.len() >= PROGRESS_NAMES_MAX {
            left_out.push(format!("progress: more than {PROGRESS_NAMES_MAX} names"));
            break;
        }
        match whole(value) {
            Some(number) if name_fits(name) => {
                sign.progress.insert(name.clone(), number);
                continue;
            }
            Some(_) => left_out.push(format!("progress: {}", no_name(name))),
            None => left_out.push(format!("progress: '{}' is no counter", shown(name))),
        }
        bad += 1;
    }
}

fn shown(name: &str) -> String {
    one_line(name, PROGRESS_NAME_BYTES_MAX)
}

fn no_name(name: &str) -> String {
    format!("the name '{}' is empty, too long or holds control characters", shown(name))
}

/// Quantities that may fall: an object of numbers, or (our own beat) a list of those names in `progress` that are no
/// counters. What is a gauge is taken out of the counters: that it rises again is no progress.
fn read_gauges<'a>(gauges: impl Iterator<Item = (&'a str, Option<&'a Value>)>, reading: &mut Reading) {
    let Reading { sign, left_out } = reading;
    let mut bad = 0;
    for (name, value) in gauges {
        if bad >= PROGRESS_NAMES_MAX || sign.gauges.len() >= PROGRESS_NAMES_MAX {
            left_out.push(format!("gauges: more than {PROGRESS_NAMES_MAX} names"));
            break;
        }
        sign.progress.remove(name);
        match value.and_then(Value::as_f64).filter(|number| number.is_finite()) {
            Some(number) if name_fits(name) => {
                sign.gauges.insert(name.to_owned(), number);
                continue;
            }
            Some(_) => left_out.push(format!("gauges: {}", no_name(name))),
            None => left_out.push(format!("gauges: '{}' is no number", shown(name))),
        }
        bad += 1;
    }
}

fn read_state(json: &Value, pointer: &str, now: Timestamp, reading: &mut Reading) {
    let Some(state) = json.pointer(pointer).and_then(Value::as_str) else {
        reading.left_out.push(format!("state: there is no text at '{pointer}'"));
        return;
    };
    let until_ms = pointer
        .rsplit_once('/')
        .and_then(|(parent, _)| json.pointer(&format!("{parent}/busy_until_ms")))
        .and_then(whole);
    reading.sign.declared = declared(state, until_ms, now);
    match (state, until_ms) {
        ("ok" | "idle" | "halted", _) | ("busy", Some(_)) => {}
        ("busy", None) => {
            reading.left_out.push("state: 'busy' without busy_until_ms counts for nothing".into())
        }
        _ => {
            let shown = one_line(state, 40);
            reading.left_out.push(format!("state: '{shown}' is not known and counts as 'ok'"));
        }
    }
}

/// A declared state. A busy spell without an end, or whose end is past, declares nothing.
pub(crate) fn declared(state: &str, busy_until_ms: Option<u64>, now: Timestamp) -> Option<Declared> {
    match state {
        "busy" => {
            let now_ms = u64::try_from(now.as_millisecond()).unwrap_or_default();
            let left_ms = busy_until_ms?.checked_sub(now_ms).filter(|left| *left > 0)?;
            Some(Declared::Busy(Duration::from_millis(left_ms).min(BUSY_MAX)))
        }
        "idle" => Some(Declared::Idle),
        "halted" => Some(Declared::Halted),
        _ => Some(Declared::Ok),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use horus_core::observation::ProbeFault;
    use proptest::prelude::*;

    use super::*;

    fn pointers() -> Pointers {
        let at = |text: &str| Some(text.to_owned());
        Pointers {
            seq: at("/seq"),
            progress: at("/progress"),
            state: at("/state"),
            lag: at("/loop_lag_ms"),
            gauges: at("/gauges"),
        }
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn read_text(text: &str) -> Result<Reading, Miss> {
        read(text.as_bytes(), &pointers(), now())
    }

    #[test]
    fn our_own_beat_is_read_whole() {
        let text = r#"{"schema":1,"seq":812,"loop_lag_ms":3.1,"state":"ok","progress":{"orders_filled":12}}"#;
        let Reading { sign, left_out } = read_text(text).unwrap();
        assert_eq!(sign.tick, Some(812));
        assert_eq!(sign.lag_ms, Some(3.1));
        assert_eq!(sign.declared, Some(Declared::Ok));
        assert_eq!(sign.progress, BTreeMap::from([("orders_filled".into(), 12)]));
        assert_eq!(left_out, Vec::<String>::new());
    }

    #[test]
    fn pointers_reach_deep_and_a_tick_may_be_a_text() {
        let deep = Pointers { seq: Some("/stats/loops/0".into()), ..Pointers::default() };
        let reading = read(br#"{"stats":{"loops":["42"]}}"#, &deep, now()).unwrap();
        assert_eq!(reading.sign, Sign::tick(42));
        let escaped = Pointers { seq: Some("/a~1b".into()), ..Pointers::default() };
        assert_eq!(read(br#"{"a/b":7.9}"#, &escaped, now()).unwrap().sign, Sign::tick(7));
    }

    #[test]
    fn only_a_bad_tick_makes_an_answer_worthless() {
        for text in
            ["", "<html>", "{}", r#"{"seq":null}"#, r#"{"seq":"x"}"#, r#"{"seq":-1}"#, r#"{"seq":{}}"#]
        {
            let miss = read_text(text).unwrap_err();
            assert_eq!(miss.fault, ProbeFault::NotABeat, "{text}");
            assert!(!miss.detail.is_empty());
        }
        let Reading { sign, left_out } =
            read_text(r#"{"seq":1,"progress":{"a":2.9,"b":-1,"c":"x"},"state":7,"loop_lag_ms":"?"}"#)
                .unwrap();
        assert_eq!(sign.progress, BTreeMap::from([("a".into(), 2)]));
        assert_eq!(left_out.len(), 4, "{left_out:?}");
    }

    #[test]
    fn states_are_promises_with_limits() {
        let state = |text: &str| read_text(&format!(r#"{{"seq":1,{text}}}"#)).unwrap().sign.declared;
        let now_ms = now().as_millisecond();
        assert_eq!(
            state(&format!(r#""state":"busy","busy_until_ms":{}"#, now_ms + 5_000)),
            Some(Declared::Busy(Duration::from_secs(5)))
        );
        assert_eq!(state(r#""state":"busy","busy_until_ms":99999999999999"#), Some(Declared::Busy(BUSY_MAX)));
        assert_eq!(state(r#""state":"busy","busy_until_ms":5"#), None);
        assert_eq!(state(r#""state":"busy""#), None);
        assert_eq!(state(r#""state":"idle""#), Some(Declared::Idle));
        assert_eq!(state(r#""state":"halted""#), Some(Declared::Halted));
        assert_eq!(state(r#""state":"dancing""#), Some(Declared::Ok));
    }

    #[test]
    fn without_pointers_any_body_is_a_beat_without_a_tick() {
        assert_eq!(read(b"pong", &Pointers::default(), now()).unwrap().sign, Sign::default());
    }

    #[test]
    fn a_thousand_counters_are_cut() {
        let many: Vec<String> = (0..1_000).map(|n| format!(r#""c{n}":{n}"#)).collect();
        let reading = read_text(&format!(
            r#"{{"seq":1,"state":"ok","loop_lag_ms":0,"progress":{{{}}}}}"#,
            many.join(",")
        ))
        .unwrap();
        assert_eq!(reading.sign.progress.len(), PROGRESS_NAMES_MAX);
        assert_eq!(reading.left_out.len(), 1);
    }

    #[test]
    fn names_that_could_hurt_a_terminal_and_endless_faults_are_left_out() {
        let reading = read_text(
            r#"{"seq":1,"state":"ok","loop_lag_ms":0,"progress":{"line\nbreak":1,"\u001b[2J":2,"fine":3},"gauges":{"\u202e":1}}"#,
        )
        .unwrap();
        assert_eq!(reading.sign.progress.into_keys().collect::<Vec<_>>(), ["fine"]);
        assert_eq!((reading.sign.gauges.len(), reading.left_out.len()), (0, 3));
        assert!(!reading.left_out.concat().contains(['\n', '\u{1b}', '\u{202e}']), "{:?}", reading.left_out);
        let bad: Vec<String> = (0..1_000).map(|n| format!(r#""c{n}":"x""#)).collect();
        let bad = bad.join(",");
        let text =
            format!(r#"{{"seq":1,"state":"ok","loop_lag_ms":0,"progress":{{{bad}}},"gauges":{{{bad}}}}}"#);
        assert_eq!(read_text(&text).unwrap().left_out.len(), 2 * (PROGRESS_NAMES_MAX + 1));
    }

    #[test]
    fn gauges_are_numbers_that_may_fall_and_no_counters() {
        let read = |gauges: &str| {
            let text =
                r#"{"seq":1,"state":"ok","loop_lag_ms":0,"progress":{"orders":12,"slots":3},"gauges":"#;
            let Reading { sign, left_out } = read_text(&format!("{text}{gauges}}}")).unwrap();
            assert_eq!(sign.tick, Some(1));
            (sign.gauges.into_iter().collect::<Vec<_>>(), sign.progress.len(), left_out)
        };
        let slots = |number: f64| vec![("slots".to_owned(), number)];
        assert_eq!(read(r#"{"slots":2.5}"#), (slots(2.5), 1, vec![]));
        assert_eq!(read(r#"{"slots":-1}"#), (slots(-1.0), 1, vec![]));
        // Our own beat: the numbers stand in `progress`, their names here.
        assert_eq!(read(r#"["slots"]"#), (slots(3.0), 1, vec![]));
        let (gauges, counters, left_out) = read(r#"{"a":"many","":1,"b":null}"#);
        assert_eq!((gauges.len(), counters, left_out.len()), (0, 2, 3));
        assert_eq!(read(r#"["nobody"]"#).2.len(), 1);
        assert_eq!(read("7").2.len(), 1);
        let many: Vec<String> = (0..1_000).map(|n| format!(r#""g{n}":{n}.5"#)).collect();
        let (gauges, _, left_out) = read(&format!("{{{}}}", many.join(",")));
        assert_eq!((gauges.len(), left_out.len()), (PROGRESS_NAMES_MAX, 1));
    }

    #[test]
    fn deep_nesting_is_refused_not_followed() {
        let text = "[".repeat(60_000);
        assert_eq!(read_text(&text).unwrap_err().fault, ProbeFault::NotABeat);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let _ = read(&body, &pointers(), now());
        }

        #[test]
        fn arbitrary_values_never_panic(seq in "\\PC{0,12}", n in any::<f64>(), state in "\\PC{0,12}", pointer in "\\PC{0,12}") {
            let json = serde_json::json!({"seq": seq, "progress": {"a": n, seq.clone(): n}, "state": state, "busy_until_ms": n, "gauges": {seq.clone(): n}});
            let odd = Pointers { seq: Some(pointer.clone()), state: Some(pointer), ..pointers() };
            let _ = read(json.to_string().as_bytes(), &pointers(), now());
            let _ = read(json.to_string().as_bytes(), &odd, now());
        }
    }
}
