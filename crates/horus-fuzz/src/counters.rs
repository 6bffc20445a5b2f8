//! The answers that `counter.*` reads.
//!
//! Promised: each counter is either read or said why not, in one short line that may be shown; and whatever the answers are, a
//! counter that is told on never falls.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use horus_core::metric::{CounterPlan, CounterRead, Metric};
use horus_core::observation::Observation;
use horus_probe::fuzz::counters;
use horus_probe::limits::DETAIL_CHARACTERS_MAX;

use crate::source::Source;
use crate::{assert_showable, mutate, seeds};

const WORDS: [&str; 18] = [
    "orders_total",
    "a",
    "{",
    "}",
    "=",
    "\"",
    "\\",
    "# TYPE",
    "counter",
    "gauge",
    "NaN",
    "+Inf",
    "-1",
    "1e308",
    "# EOF",
    "side=\"buy\"",
    "\u{1b}[2J",
    "\u{202e}",
];

fn plan(metrics: bool) -> BTreeMap<String, CounterPlan> {
    let metric = |text: &str| CounterRead::Metric(Metric::parse(text).expect("a metric"));
    let pointer = |text: &str| CounterRead::Pointer(text.to_owned());
    let reads = if metrics {
        [metric("orders_total"), metric("orders_total{side=\"buy\"}"), metric("a{b!=\"\"}")]
    } else {
        [pointer("/progress/orders"), pointer(""), pointer("/a~1b/0")]
    };
    let plans = reads.into_iter().zip(["x", "y", "z"]).map(|(read, name)| {
        let (every, timeout) = (Duration::from_secs(5), Duration::from_secs(2));
        (name.to_owned(), CounterPlan { url: "http://127.0.0.1:1/".into(), read, every, timeout })
    });
    plans.collect()
}

/// Any bytes, as several answers one after the other.
pub fn check_bytes(bytes: &[u8]) {
    // A byte that stands in no text ends an answer.
    let answers: Vec<&[u8]> = bytes.split(|byte| *byte == 0xFF).chain([bytes]).collect();
    for metrics in [true, false] {
        let plan = plan(metrics);
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for told in counters(&plan, &answers) {
            let written = serde_json::to_string(&told).expect("an observation is JSON");
            let read: Observation =
                serde_json::from_str(&written).expect("a written observation can be read");
            assert_eq!(read, told, "it changes when it is recorded");
            let Observation::Counts { counts, unread, .. } = told else { panic!("{told:?}") };
            assert!(plan.keys().all(|name| counts.contains_key(name) != unread.contains_key(name)));
            assert_eq!(counts.len() + unread.len(), plan.len());
            for why in unread.values() {
                assert_showable(why, "why a counter is not read");
                assert!(!why.is_empty() && why.chars().count() <= DETAIL_CHARACTERS_MAX + 1, "{why:?}");
            }
            for (name, count) in counts {
                let before = last.insert(name, count);
                assert!(
                    before.is_none_or(|before| before <= count),
                    "a counter fell from {before:?} to {count}"
                );
            }
        }
    }
}

/// Real pages, edited as text.
pub fn check_edited(bytes: &[u8]) {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let seeds = seeds::of(&SEEDS, "counters_bytes");
    let mut source = Source::new(bytes);
    let mut answers = mutate::text(&mut source, seeds, &WORDS);
    answers.push(0xFF);
    answers.extend(mutate::text(&mut source, seeds, &WORDS));
    check_bytes(&answers);
}
