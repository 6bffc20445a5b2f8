//! Counters that are read beside the beats (`counter.*`): a page of Prometheus, or any JSON.
//!
//! ```text
//!   one URL ──> one reading ──> several counters ──> each only ever grows
//! ```
//!
//! A reading is no sign of life, and that there is none is no sign of death: such a page is mostly served by a thread of its
//! own. Growth is taken series by series and then summed up, as Prometheus' `sum(rate())` does it: a series that falls was
//! reset (its worker was started again), which is the base of the next comparison, and neither progress nor a fall of the sum.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use horus_core::metric::{CounterPlan, CounterRead, Metric};
use horus_core::observation::Observation;
use hyper::StatusCode;
use hyper::body::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use crate::exposition::{self, Series};
use crate::http::HttpAsker;
use crate::limits::{COUNTED_JSON_BYTES_MAX, METRICS_BYTES_MAX, SERIES_MAX};
use crate::outlet::{Closed, ServiceOutlet};
use crate::pace::{Haste, Pace};
use crate::sign::Miss;
use crate::text;

/// Counters that are read from one answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Page {
    pub(crate) url: String,
    every: Duration,
    timeout: Duration,
    /// All of a page are of one kind: another kind asks for another answer.
    metrics: bool,
    counters: BTreeMap<String, CounterRead>,
}

impl Page {
    /// Those of a plan, so that nothing is asked twice for what one answer says.
    pub(crate) fn all(plan: &BTreeMap<String, CounterPlan>) -> Vec<Self> {
        let mut pages: Vec<Self> = Vec::new();
        for (name, CounterPlan { url, read, every, timeout }) in plan {
            let metrics = matches!(read, CounterRead::Metric(_));
            let same = |page: &&mut Self| {
                page.url == *url
                    && page.every == *every
                    && page.timeout == *timeout
                    && page.metrics == metrics
            };
            match pages.iter_mut().find(same) {
                Some(page) => drop(page.counters.insert(name.clone(), read.clone())),
                None => {
                    let counters = BTreeMap::from([(name.clone(), read.clone())]);
                    let (url, every, timeout) = (url.clone(), *every, *timeout);
                    pages.push(Self { url, every, timeout, metrics, counters });
                }
            }
        }
        pages
    }
}

/// One counter, as it is told on.
#[derive(Clone, Debug, Default)]
struct Tally {
    last: Series,
    total: f64,
    told: Option<u64>,
}

impl Tally {
    /// Where it stands: greater than before if and only if one of its series has grown.
    fn take(&mut self, new: Series) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "rounding down is meant; the cast saturates"
        )]
        let whole = |number: f64| number as u64;
        let Some(told) = self.told else {
            self.total = new.values().sum();
            self.last = new;
            return *self.told.insert(whole(self.total));
        };
        // A series that is new has counted from zero.
        let grown: f64 =
            new.iter().map(|(id, value)| (value - self.last.get(id).copied().unwrap_or(0.0)).max(0.0)).sum();
        if self.last.len().saturating_add(new.len()) > 2 * SERIES_MAX {
            // One that has gone and comes back would count as new: better than a memory without end.
            self.last.clear();
        }
        self.last.extend(new);
        if grown <= 0.0 {
            return told;
        }
        self.total += grown;
        // However little it was, it has moved.
        *self.told.insert(whole(self.total).max(told.saturating_add(1)))
    }
}

/// What one reading says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Reading {
    pub(crate) counts: BTreeMap<String, u64>,
    pub(crate) unread: BTreeMap<String, String>,
}

/// Turns answers into counters that only grow.
#[derive(Debug)]
pub(crate) struct Reader {
    page: Page,
    tallies: BTreeMap<String, Tally>,
}

impl Reader {
    pub(crate) fn new(page: Page) -> Self {
        Self { page, tallies: BTreeMap::new() }
    }

    /// Takes an answer, or the reason why there is none.
    pub(crate) fn take(&mut self, answer: Result<&[u8], &Miss>) -> Reading {
        let read = match answer {
            Err(miss) => Err(miss.detail.clone()),
            Ok(body) if self.page.metrics => self.metrics(body),
            Ok(body) => self.numbers(body),
        };
        let names: Vec<String> = self.page.counters.keys().cloned().collect();
        let mut reading = Reading::default();
        let found = match read {
            Ok(found) => found,
            Err(why) => names.iter().map(|_| Err(why.clone())).collect(),
        };
        for (name, found) in names.into_iter().zip(found) {
            match found {
                Ok(series) => {
                    let count = self.tallies.entry(name.clone()).or_default().take(series);
                    reading.counts.insert(name, count);
                }
                Err(why) => drop(reading.unread.insert(name, text::detail(&why))),
            }
        }
        reading
    }

    fn metrics(&self, body: &[u8]) -> Result<exposition::Found, String> {
        let of_page = |read: &'_ CounterRead| match read {
            CounterRead::Metric(metric) => Some(metric.clone()),
            CounterRead::Pointer(_) => None,
        };
        let wanted: Vec<Metric> = self.page.counters.values().filter_map(of_page).collect();
        exposition::read(body, &wanted.iter().collect::<Vec<_>>())
            .map_err(|why| format!("the answer is no page of Prometheus: {why}"))
    }

    fn numbers(&self, body: &[u8]) -> Result<exposition::Found, String> {
        if body.len() > COUNTED_JSON_BYTES_MAX {
            return Err(format!("the JSON is longer than {} KiB", COUNTED_JSON_BYTES_MAX >> 10));
        }
        // Its error names line and column.
        let json: Value =
            serde_json::from_slice(body).map_err(|error| format!("the answer is no JSON: {error}"))?;
        let found = self.page.counters.values().map(|read| match read {
            CounterRead::Pointer(pointer) => number_at(&json, pointer),
            CounterRead::Metric(metric) => Err(format!("{metric} is not read from JSON")),
        });
        Ok(found.collect())
    }
}

fn number_at(json: &Value, pointer: &str) -> Result<Series, String> {
    let value = json.pointer(pointer).ok_or_else(|| format!("the answer has no '{pointer}'"))?;
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    match number.filter(|number: &f64| number.is_finite() && *number >= 0.0) {
        Some(number) => Ok(Series::from([(0, number)])),
        None => Err(format!("'{pointer}' is no counter but {}", text::one_line(&value.to_string(), 40))),
    }
}

/// Reads one page for ever, until nobody listens.
pub(crate) async fn read_counters(outlet: ServiceOutlet, page: Page) -> Closed {
    // Nobody hastens it: a page costs the program more than a beat does.
    let (_, calm) = watch::channel(Haste::default());
    let mut pace =
        Pace::new(page.every, (outlet.service.as_str(), page.url.as_str(), outlet.generation.0), calm);
    let asker = HttpAsker::new(&page.url, page.timeout).map(|asker| {
        if page.metrics {
            asker.with_answers(METRICS_BYTES_MAX, "text/plain;version=0.0.4, */*;q=0.1")
        } else {
            asker.with_answers(COUNTED_JSON_BYTES_MAX, "application/json, */*;q=0.5")
        }
    });
    let mut asker = asker.map_err(Arc::new);
    let mut reader = Reader::new(page);
    let mut told = BTreeMap::new();
    loop {
        pace.wait().await;
        let answer: Result<Bytes, Miss> = match &mut asker {
            Ok(asker) => asker.ask(StatusCode::OK).await,
            Err(miss) => Err(miss.as_ref().clone()),
        };
        let Reading { counts, unread } = reader.take(answer.as_deref());
        if unread != told {
            for (counter, why) in unread.iter().filter(|(name, why)| told.get(*name) != Some(*why)) {
                tracing::warn!(service = %outlet.service, counter, why, "a counter cannot be read");
            }
            told.clone_from(&unread);
        }
        let observation = Observation::Counts { generation: outlet.generation, counts, unread };
        if let Err(closed) = outlet.tell(observation, pace.period()).await {
            return closed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(reads: &[(&str, CounterRead)]) -> Reader {
        let plan = reads.iter().map(|(name, read)| {
            let seconds = Duration::from_secs;
            let (every, timeout) = (seconds(5), seconds(2));
            let plan = CounterPlan { url: "http://127.0.0.1:1/".into(), read: read.clone(), every, timeout };
            ((*name).to_owned(), plan)
        });
        let mut pages = Page::all(&plan.collect());
        assert_eq!(pages.len(), 1);
        Reader::new(pages.remove(0))
    }

    fn metric(text: &str) -> CounterRead {
        CounterRead::Metric(Metric::parse(text).unwrap())
    }

    fn pointer(text: &str) -> CounterRead {
        CounterRead::Pointer(text.into())
    }

    #[test]
    fn one_answer_serves_all_that_stands_in_it() {
        let plan = |url: &str, read: CounterRead, every: u64| {
            let (every, timeout) = (Duration::from_secs(every), Duration::from_secs(2));
            CounterPlan { url: url.into(), read, every, timeout }
        };
        let plans = BTreeMap::from([
            ("a".to_owned(), plan("http://h/m", metric("a"), 5)),
            ("b".to_owned(), plan("http://h/m", metric("b"), 5)),
            ("c".to_owned(), plan("http://h/m", metric("c"), 9)),
            ("d".to_owned(), plan("http://h/m", pointer("/d"), 5)),
            ("e".to_owned(), plan("http://h/n", metric("e"), 5)),
        ]);
        let sizes: Vec<usize> = Page::all(&plans).iter().map(|page| page.counters.len()).collect();
        assert_eq!(sizes, [2, 1, 1, 1]);
    }

    #[test]
    fn a_reset_of_one_series_hides_no_growth_and_is_none() {
        let mut reader = page(&[("jobs", metric("jobs_total"))]);
        let mut count = |text: &str| reader.take(Ok(text.as_bytes())).counts["jobs"];
        assert_eq!(count("jobs_total{w=\"1\"} 100\njobs_total{w=\"2\"} 40\n"), 140);
        // One worker was started again and has done 3, the other has done 2 more.
        assert_eq!(count("jobs_total{w=\"1\"} 3\njobs_total{w=\"2\"} 42\n"), 142, "the reset is a base");
        assert_eq!(count("jobs_total{w=\"1\"} 4\njobs_total{w=\"2\"} 42\n"), 143);
        // One is gone for a while: neither a fall nor, when it is back, growth.
        assert_eq!(count("jobs_total{w=\"1\"} 4\n"), 143);
        assert_eq!(count("jobs_total{w=\"1\"} 4\njobs_total{w=\"2\"} 42\n"), 143);
        // A new one has counted from zero.
        assert_eq!(count("jobs_total{w=\"1\"} 4\njobs_total{w=\"3\"} 2\n"), 145);
        // All were reset.
        assert_eq!(count("jobs_total{w=\"1\"} 0\njobs_total{w=\"2\"} 0\njobs_total{w=\"3\"} 0\n"), 145);
        assert_eq!(count("jobs_total{w=\"1\"} 1\njobs_total{w=\"2\"} 0\njobs_total{w=\"3\"} 0\n"), 146);
    }

    #[test]
    fn however_little_it_grows_it_grows() {
        let mut reader = page(&[("busy", pointer("/busy_seconds"))]);
        let mut count = |text: &str| reader.take(Ok(text.as_bytes())).counts["busy"];
        assert_eq!(count(r#"{"busy_seconds":0.5}"#), 0);
        assert_eq!(count(r#"{"busy_seconds":0.5}"#), 0);
        assert_eq!(count(r#"{"busy_seconds":0.51}"#), 1);
        assert_eq!(count(r#"{"busy_seconds":"7.2"}"#), 7, "a text that holds a number is one");
        assert_eq!(count(r#"{"busy_seconds":1e300}"#), u64::MAX);
    }

    #[test]
    fn what_cannot_be_read_says_why_and_spoils_nothing_else() {
        let mut reader = page(&[("a", pointer("/a")), ("b", pointer("/b/0"))]);
        let Reading { counts, unread } = reader.take(Ok(br#"{"a":-1,"b":[3]}"#));
        assert_eq!(counts, BTreeMap::from([("b".to_owned(), 3)]));
        assert_eq!(unread["a"], "'/a' is no counter but -1");
        let reading = reader.take(Ok(b"{\"a\":1,\n\"b\":}"));
        assert!(reading.counts.is_empty() && reading.unread["b"].contains("line 2"), "{reading:?}");
        let reading = reader.take(Err(&Miss::no_path("connection refused")));
        assert_eq!(reading.unread.len(), 2);
        let deep = "[".repeat(100_000);
        assert_eq!(reader.take(Ok(deep.as_bytes())).unread.len(), 2);
        let mut reader = page(&[("a", metric("a"))]);
        let reading = reader.take(Ok(b"a 1\n<html>\n"));
        assert!(reading.unread["a"].contains("line 2"), "{reading:?}");
    }

    #[test]
    fn the_memory_for_series_has_an_end() {
        let mut reader = page(&[("a", metric("a"))]);
        for round in 0..5 {
            let page: String = (0..SERIES_MAX).map(|n| format!("a{{n=\"{round}-{n}\"}} 1\n")).collect();
            reader.take(Ok(page.as_bytes()));
        }
        assert!(reader.tallies["a"].last.len() <= 2 * SERIES_MAX);
        assert_eq!(reader.tallies["a"].told, Some(5 * SERIES_MAX as u64));
    }
}
