//! The text of a page of Prometheus: which series it has, and where they stand.
//!
//! Read as Prometheus reads it: one bad line, and nothing of the page is believed, because a page that was cut or mixed up
//! half-way is no measurement. Version 0.0.4 of the text format, and what OpenMetrics adds to it (`# EOF`, exemplars).
//!
//! Own code, because the crates that parse this format are lenient about bad lines or build a tree of the whole page; here
//! a page of megabytes is passed through for a handful of series, and a fault has to name its line.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use horus_core::metric::{Metric, is_label_name, is_metric_name, unquote};

use crate::limits::{LABELS_MAX, SERIES_MAX};

/// The series of one metric, by their labels.
pub(crate) type Series = BTreeMap<u64, f64>;

/// What a page says of each metric that was asked for: its series, or why they are no counter. In the order asked.
pub(crate) type Found = Vec<Result<Series, String>>;

/// What a metric was said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gauge,
    Summary,
    Other,
}

/// Reads a page. An error is about the page as a whole and names the line.
pub(crate) fn read(page: &[u8], wanted: &[&Metric]) -> Result<Found, String> {
    let text = std::str::from_utf8(page).map_err(|error| {
        let line = page[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line} is no UTF-8")
    })?;
    let mut found: Found = wanted.iter().map(|_| Ok(Series::new())).collect();
    let mut kinds = HashMap::new();
    let mut labels = Vec::new();
    for (at, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let line = line.trim_matches([' ', '\t']);
        let fault = |why: &str| format!("line {} {why}", at + 1);
        if let Some(comment) = line.strip_prefix('#') {
            if let Some((name, kind)) = type_of(comment)
                && wanted.iter().any(|metric| metric.name() == name)
            {
                kinds.insert(name, (kind, at + 1));
            }
        } else if !line.is_empty() {
            labels.clear();
            let (name, value) = sample(line, &mut labels).map_err(fault)?;
            for (metric, found) in wanted.iter().zip(&mut found) {
                if metric.name() == name {
                    let value_of = |asked: &str| {
                        let label = labels.iter().find(|(label, _): &&(&str, String)| *label == asked);
                        label.map(|(_, value)| value.as_str())
                    };
                    if metric.matches(value_of) {
                        take(found, kinds.get(name).copied(), identity(&mut labels.clone()), value, at + 1);
                    }
                }
            }
        }
    }
    for (metric, found) in wanted.iter().zip(&mut found) {
        if found.as_ref().is_ok_and(Series::is_empty) {
            *found = Err(format!("the page has no {metric}"));
        }
    }
    Ok(found)
}

fn take(
    found: &mut Result<Series, String>,
    kind: Option<(Kind, usize)>,
    identity: u64,
    value: f64,
    line: usize,
) {
    let Ok(series) = found else { return };
    let full = series.len() >= SERIES_MAX && !series.contains_key(&identity);
    let why = match kind {
        Some((Kind::Gauge, typed)) => format!("it is a gauge (line {typed}), whose rise is no progress"),
        Some((Kind::Summary, typed)) => {
            format!("it is a summary (line {typed}); its `_count` and `_sum` are counters")
        }
        _ if full => format!("more than {SERIES_MAX} series match"),
        _ if !value.is_finite() || value < 0.0 => format!("line {line} says {value}, which no counter does"),
        _ => {
            *series.entry(identity).or_insert(0.0) += value;
            return;
        }
    };
    *found = Err(why);
}

/// `TYPE name kind`
fn type_of(comment: &str) -> Option<(&str, Kind)> {
    let mut words = comment.split_ascii_whitespace();
    if words.next()? != "TYPE" {
        return None;
    }
    let (name, kind) = (words.next()?, words.next()?);
    let kind = match kind {
        // What these of OpenMetrics count does not only grow either.
        "gauge" | "info" | "stateset" | "gaugehistogram" => Kind::Gauge,
        "summary" => Kind::Summary,
        _ => Kind::Other,
    };
    Some((name, kind))
}

/// `name{label="value",...} number [time] [# exemplar]`
fn sample<'a>(line: &'a str, labels: &mut Vec<(&'a str, String)>) -> Result<(&'a str, f64), &'static str> {
    let end = line.find(['{', ' ', '\t']).ok_or("has no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_metric_name(name) {
        return Err("does not begin with the name of a metric");
    }
    rest = rest.trim_start_matches([' ', '\t']);
    if let Some(inner) = rest.strip_prefix('{') {
        rest = read_labels(inner, labels)?;
    }
    // What stands behind a `#` is an example of OpenMetrics, and no part of the number.
    let number = rest.split_once(" #").map_or(rest, |(number, _)| number);
    let mut words = number.split_ascii_whitespace();
    let value = words.next().and_then(|word| word.parse().ok()).ok_or("has no number behind its name")?;
    if words.next().is_some_and(|time| time.parse::<f64>().is_err()) {
        return Err("has something behind its number that is no time");
    }
    if words.next().is_some() {
        return Err("has something behind its time");
    }
    Ok((name, value))
}

/// The labels up to their closing brace; what stands behind it.
fn read_labels<'a>(text: &'a str, labels: &mut Vec<(&'a str, String)>) -> Result<&'a str, &'static str> {
    let blanks: [char; 2] = [' ', '\t'];
    let mut rest = text.trim_start_matches(blanks);
    loop {
        if let Some(behind) = rest.strip_prefix('}') {
            return Ok(behind);
        }
        let (label, value) = rest.split_once('=').ok_or("has a label without a value")?;
        let label = label.trim_matches(blanks);
        if !is_label_name(label) {
            return Err("has a label whose name is none");
        }
        let quoted = value.trim_start_matches(blanks).strip_prefix('"');
        let (value, behind) =
            quoted.and_then(unquote).ok_or("has a value of a label that is not in quotes")?;
        if labels.len() == LABELS_MAX {
            return Err("has too many labels");
        }
        labels.push((label, value));
        rest = behind.trim_start_matches(blanks);
        match rest.strip_prefix(',') {
            Some(next) => rest = next.trim_start_matches(blanks),
            None if rest.starts_with('}') => {}
            None => return Err("has labels that do not end"),
        }
    }
}

/// One number for one set of labels, in whatever order they stand.
fn identity(labels: &mut [(&str, String)]) -> u64 {
    labels.sort_unstable();
    let mut hasher = DefaultHasher::new();
    labels.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn metric(text: &str) -> Metric {
        Metric::parse(text).unwrap()
    }

    fn sum(page: &str, text: &str) -> Result<f64, String> {
        let found = read(page.as_bytes(), &[&metric(text)])?;
        found.into_iter().next().unwrap().map(|series| series.values().sum())
    }

    const PAGE: &str = "# HELP orders_total Orders \\ placed.\n# TYPE orders_total counter\n\
        orders_total{side=\"buy\",venue=\"a\"} 3\r\norders_total{venue=\"b\", side=\"buy\",} 4.5 1395066363000\n\
        \torders_total { side=\"sell\" }  1e1\n\n# TYPE open gauge\nopen 7\n# TYPE wait summary\n\
        wait{quantile=\"0.5\"} 0.1\nwait_count 9\nodd{a=\"\\\"}\\\\\\n\"} 1\nnothing NaN\nbelow -1\nmuch +Inf\n\
        with_total 5 # {trace=\"x\"} 0.67 1\n# EOF\n";

    #[test]
    fn a_page_is_read_and_its_series_are_summed_up() {
        assert_eq!(sum(PAGE, "orders_total"), Ok(17.5));
        assert_eq!(sum(PAGE, r#"orders_total{side="buy"}"#), Ok(7.5));
        assert_eq!(sum(PAGE, r#"orders_total{side="buy",venue!="a"}"#), Ok(4.5));
        assert_eq!(sum(PAGE, r#"orders_total{venue=""}"#), Ok(10.0));
        assert_eq!(sum(PAGE, r#"odd{a="\"}\\\n"}"#), Ok(1.0));
        assert_eq!(sum(PAGE, "wait_count"), Ok(9.0));
        assert_eq!(sum(PAGE, "with_total"), Ok(5.0));
        let series = |page: &str| read(page.as_bytes(), &[&metric("a")]).unwrap().remove(0).unwrap();
        assert_eq!(series("a{b=\"1\",c=\"2\"} 1"), series("a{c=\"2\",b=\"1\"} 1"), "order means nothing");
    }

    #[test]
    fn what_is_no_counter_says_why() {
        let why = |text: &str| sum(PAGE, text).unwrap_err();
        assert!(why("open").contains("gauge (line 7)"), "{}", why("open"));
        assert!(why("wait").contains("`_count`"));
        assert!(why("nothing").contains("line 13 says NaN"), "{}", why("nothing"));
        assert!(why("below").contains("says -1") && why("much").contains("says inf"));
        assert_eq!(why("absent{a=\"b\"}"), "the page has no absent{a=\"b\"}");
        let many: String = (0..=SERIES_MAX).map(|n| format!("a{{n=\"{n}\"}} 1\n")).collect();
        assert!(sum(&many, "a").unwrap_err().contains("series match"));
        assert_eq!(sum(&many, "a{n=\"7\"}"), Ok(1.0));
    }

    #[test]
    fn a_bad_line_spoils_the_page_and_is_named() {
        let why = |line: &str| sum(&format!("a 1\n{line}\n"), "a").unwrap_err();
        for line in [
            "a",
            "a x",
            "9 1",
            "{b=\"1\"} 2",
            "a{b} 1",
            "a{b=1} 1",
            "a{b=\"1\" 1",
            "a{b=\"1} 1",
            "a{b=\"1\"c=\"2\"} 1",
            "a{b-c=\"1\"} 1",
            "a 1 x",
            "a 1 2 3",
            "<html>",
            "a{b=\"1\"}",
            "a{=\"1\"} 1",
            "a{,} 1",
        ] {
            assert!(why(line).starts_with("line 2 "), "{line}: {}", why(line));
        }
        assert!(why(&format!("a{{{}}} 1", "b=\"1\",".repeat(LABELS_MAX + 1))).contains("too many"));
        assert_eq!(read(b"a 1\na\xff 2\n", &[&metric("a")]).unwrap_err(), "line 2 is no UTF-8");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(page in "(\\PC|\n|\"|\\{|\\}|a|=| ){0,400}") {
            let _ = read(page.as_bytes(), &[&metric("a"), &metric("a{b=\"c\"}")]);
        }

        #[test]
        fn a_value_of_a_label_is_read_back_whatever_it_is(value in "\\PC{0,40}|[\\\\\"\n}]{0,8}") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let text = format!("a{{b=\"{escaped}\"}}");
            prop_assert_eq!(sum(&format!("x 1\n{text} 3\n"), &metric(&text).to_string()), Ok(3.0));
        }
    }
}
