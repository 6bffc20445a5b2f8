//! What has changed between two states: only that, field by field, in the names of `horus status --json`.

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::status::StatusReport;
use serde::Serialize;
use serde_json::Value;

use super::facts::scalar;

/// The field of Horus itself.
const HORUS: &str = "horus";

/// All changes of one service or monitor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SubjectDiff {
    /// Which; `horus` for Horus itself.
    pub subject: String,
    /// Its changes, in the order of the names.
    pub changes: Vec<Change>,
}

/// One field that changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Which, as a path: `loop.is`, `beats[0].tick`.
    pub field: String,
    /// What it was. `null`: it was not there.
    pub from: Value,
    /// What it is. `null`: it is not there any more.
    pub to: Value,
}

impl Change {
    /// Old and new, as they are shown.
    pub(super) fn texts(&self) -> [String; 2] {
        [&self.from, &self.to].map(|value| match value {
            Value::Null => "-".into(),
            value => scalar(&self.field, value),
        })
    }
}

/// What is different in `after`. An age that has only grown or shrunk by the time that has passed between, `apart`, is no
/// change; neither is a text of the same words with other numbers ("fresh tick 2 s ago"): what matters of those numbers
/// has fields of its own.
pub fn diff(before: &StatusReport, after: &StatusReport, apart: Duration) -> Vec<SubjectDiff> {
    let [mut before, after] = [before, after].map(fields);
    let mut subjects = Vec::new();
    for (subject, new) in after {
        let old = before.remove(&subject).unwrap_or_default();
        let changes = changes(&old, &new, apart);
        if !changes.is_empty() {
            subjects.push(SubjectDiff { subject, changes });
        }
    }
    for (subject, old) in before {
        let changes = changes(&old, &Fields::new(), apart);
        subjects.push(SubjectDiff { subject, changes });
    }
    subjects.sort_by(|a, b| a.subject.cmp(&b.subject));
    subjects
}

type Fields = BTreeMap<String, Value>;

/// The fields of each subject.
fn fields(report: &StatusReport) -> BTreeMap<String, Fields> {
    let services = report.services.iter().map(|status| (status.name.to_string(), flat(status)));
    let monitors = report.monitors.iter().map(|status| (status.name.to_string(), flat(status)));
    let own = Fields::from([
        ("mode".to_owned(), serde_json::to_value(report.mode).unwrap_or_default()),
        ("store_fault".to_owned(), report.store_fault.clone().map_or(Value::Null, Value::String)),
    ]);
    let dead = report
        .dead_sinks
        .iter()
        .map(|sink| (format!("dead_sinks.{}", sink.name), Value::String(sink.fault.clone())));
    let own = own.into_iter().chain(dead).filter(|(_, value)| !value.is_null()).collect();
    services.chain(monitors).chain([(HORUS.to_owned(), own)]).collect()
}

/// All scalars of something, by their paths.
pub(super) fn flat(status: &impl Serialize) -> Fields {
    let mut out = Fields::new();
    flatten(String::new(), serde_json::to_value(status).unwrap_or_default(), &mut out);
    out
}

fn flatten(path: String, value: Value, out: &mut Fields) {
    match value {
        Value::Null => {}
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                flatten(path, value, out);
            }
        }
        Value::Array(items) => {
            for (place, item) in items.into_iter().enumerate() {
                flatten(format!("{path}[{place}]"), item, out);
            }
        }
        scalar => drop(out.insert(path, scalar)),
    }
}

fn changes(old: &Fields, new: &Fields, apart: Duration) -> Vec<Change> {
    let paths: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let value = |of: &Fields, path: &str| of.get(path).cloned().unwrap_or_default();
    let all = paths.into_iter().map(|path| Change {
        field: path.clone(),
        from: value(old, path),
        to: value(new, path),
    });
    let real =
        |change: &Change| change.from != change.to && !is_mere_age(change, apart) && !is_same_words(change);
    all.filter(real).collect()
}

/// An age that has done nothing but get older. Both ends are rounded to milliseconds, so one is forgiven.
fn is_mere_age(change: &Change, apart: Duration) -> bool {
    let (Some(from), Some(to)) = (change.from.as_u64(), change.to.as_u64()) else { return false };
    let apart = u64::try_from(apart.as_millis()).unwrap_or(u64::MAX);
    change.field.ends_with("_ms") && from.abs_diff(to).abs_diff(apart) <= 1
}

/// A reason that only counts on.
fn is_same_words(change: &Change) -> bool {
    let (Value::String(from), Value::String(to)) = (&change.from, &change.to) else { return false };
    change.field.ends_with("because") && words(from).eq(words(to))
}

/// The words of a text, without numbers and units of time.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_length = |word: &&str| {
        let word = word.trim_matches([',', ';']);
        word.parse::<f64>().is_ok() || ["ms", "s", "min", "h", "d"].contains(&word)
    };
    text.split_whitespace().filter(move |word| !is_length(word))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(value: Value) -> Fields {
        let mut out = Fields::new();
        flatten(String::new(), value, &mut out);
        out
    }

    #[test]
    fn only_what_changed_is_shown_and_growing_older_is_no_change() {
        let old = of(
            json!({"phase": "running", "up_for_ms": 1000, "beats": [{"tick": 1}], "pid": 7, "deadline_ms": 10}),
        );
        let new =
            of(json!({"phase": "running", "up_for_ms": 3001, "beats": [{"tick": 2}], "deadline_ms": 20}));
        let changes = changes(&old, &new, Duration::from_secs(2));
        let fields: Vec<&str> = changes.iter().map(|change| change.field.as_str()).collect();
        assert_eq!(fields, ["beats[0].tick", "deadline_ms", "pid"]);
        assert_eq!(changes[2].texts(), ["7", "-"]);
    }

    #[test]
    fn a_reason_that_only_counts_on_is_no_change() {
        let changed = |from: &str, to: &str| {
            let [old, new] = [from, to].map(|text| of(json!({"loop": {"because": text}})));
            !changes(&old, &new, Duration::ZERO).is_empty()
        };
        assert!(!changed("fresh tick 59 s ago, deadline 10 s", "fresh tick 1 min 2 s ago, deadline 10 s"));
        assert!(changed("fresh tick 9 s ago", "no fresh tick for 10 s"));
        assert!(changed("pid 9 for 2 s", "no process"));
    }
}
