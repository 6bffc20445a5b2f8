//! Data as it is: whatever can be serialised becomes a kind and `key=value` words, in the names of the format.
//!
//! A debugger that had sentences of its own for each kind of event would be wrong, or silent, about the newest ones;
//! this is generic, and so it cannot be.

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::time::Human;
use serde::Serialize;
use serde_json::{Map, Value};

/// More facts of one thing are not shown on a line.
const FACTS_MAX: usize = 16;

/// A longer text is cut on a line. `--json` has all of it.
const TEXT_CHARS_MAX: usize = 160;

/// Deeper things are shown as `{...}`.
const DEPTH_MAX: usize = 6;

/// Kind and content of an externally tagged enum's value.
pub(super) fn tagged(value: &impl Serialize) -> (String, Value) {
    match serde_json::to_value(value) {
        Ok(Value::String(kind)) => (kind, Value::Null),
        Ok(Value::Object(map)) if map.len() == 1 => match map.into_iter().next() {
            Some((kind, content)) => (kind, content),
            None => (String::new(), Value::Null),
        },
        Ok(other) => (String::new(), other),
        Err(error) => (String::new(), Value::String(error.to_string())),
    }
}

/// `key=value` words of a content; `kind` in front of a key is left out, and so is the key `without`.
pub(super) fn facts(kind: &str, content: &Value, without: &str) -> String {
    let mut words = Vec::new();
    match content {
        Value::Object(map) => {
            for (key, value) in sorted(map).filter(|(key, _)| *key != without) {
                flatten(if key == kind { "" } else { key }, value, 0, &mut words);
            }
        }
        other => flatten("", other, 0, &mut words),
    }
    let more = words.len().saturating_sub(FACTS_MAX);
    words.truncate(FACTS_MAX);
    if more > 0 {
        words.push(format!("({more} more)"));
    }
    words.join(" ")
}

fn flatten(path: &str, value: &Value, depth: usize, words: &mut Vec<String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Null => {}
        Value::Object(map) if depth >= DEPTH_MAX && !map.is_empty() => words.push(word(path, "{...}")),
        Value::Object(map) => {
            let mut entries = map.iter();
            if let (Some((kind, content @ (Value::Object(_) | Value::Array(_)))), None) =
                (entries.next(), entries.next())
            {
                // Most likely the value of an enum: its kind is a value, not a name.
                words.push(word(path, kind));
                flatten("", content, depth + 1, words);
                return;
            }
            for (key, value) in sorted(map) {
                flatten(&below(key), value, depth + 1, words);
            }
        }
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            let items: Vec<String> = items.iter().map(|item| scalar("", item)).collect();
            if !items.is_empty() {
                words.push(word(path, &cut(&items.join(","))));
            }
        }
        Value::Array(items) => words.push(word(path, &format!("[{} items]", items.len()))),
        scalar_value => words.push(word(path, &scalar(path, scalar_value))),
    }
}

/// By name, whatever order `serde_json` was built to keep.
fn sorted(map: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    map.iter().collect::<BTreeMap<_, _>>().into_iter()
}

fn word(path: &str, value: &str) -> String {
    let path = path.strip_suffix("_ms").unwrap_or(path);
    let value = if value.contains(' ') { format!("\"{value}\"") } else { value.to_owned() };
    // Names of counters are the program's own.
    let path = one_line(path);
    if path.is_empty() { value } else { format!("{path}={value}") }
}

/// One value without structure. A length of time is written as people read it, without a gap.
pub(super) fn scalar(path: &str, value: &Value) -> String {
    match value {
        Value::String(text) => cut(&one_line(text)),
        Value::Number(number) if path.ends_with("_ms") => match number.as_u64() {
            Some(millis) => Human(Duration::from_millis(millis)).to_string().replace(' ', ""),
            None => number.to_string(),
        },
        other => other.to_string(),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// A text of the world on one line, without what a terminal would obey.
pub(super) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn data_reads_as_words() {
        let beat = json!({"generation": 1, "beat": {"source": "http", "tick": 7, "progress": {"filled": 3}}});
        assert_eq!(facts("beat", &beat, ""), "progress.filled=3 source=http tick=7 generation=1");
        let told = json!({"version": 2, "story": {"stuck_restarting": {"kill": 1, "stuck_for_ms": 12_400}}});
        assert_eq!(facts("told", &told, ""), "story=stuck_restarting kill=1 stuck_for=12.4s version=2");
        assert_eq!(
            facts("x", &json!({"detail": "no answer\nin 2 s", "none": null}), ""),
            "detail=\"no answer in 2 s\""
        );
    }

    #[test]
    fn nothing_grows_without_a_bound() {
        let many: serde_json::Map<String, Value> =
            (0..100).map(|n| (format!("k{n:03}"), json!("x".repeat(1000)))).collect();
        assert!(facts("", &Value::Object(many), "").len() < 16 * 200);
        let deep = (0..100).fold(json!({"a": 1, "b": 2}), |inner, _| json!({"a": inner, "b": 1}));
        assert!(facts("", &deep, "").contains("{...}"));
    }
}
