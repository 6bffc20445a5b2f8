//! Counters that a program shows to whoever asks: a metric of a page of Prometheus, or a number in some JSON.
//!
//! They are read beside the beats, and being read is no sign of life: such a page is mostly served by a thread of its own.
//! Only that a counter moves says something, and only where the plan names it.
//!
//! The way of writing a metric is Prometheus' own, `orders_total{side="buy"}`. Rejected: its regular expressions (`=~`) and
//! functions; what is to be summed up should be plain from the text.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Matchers that one metric may have.
const MATCHERS_MAX: usize = 16;
/// The longest metric, in bytes.
const METRIC_BYTES_MAX: usize = 512;

/// One counter that is read over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterPlan {
    /// `http://host:port/path`
    pub url: String,
    /// What of the answer it is.
    pub read: CounterRead,
    /// How often.
    pub every: Duration,
    /// Deadline of one reading, connect included.
    pub timeout: Duration,
}

/// What of an answer a counter is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CounterRead {
    /// The sum of these series of a page of Prometheus.
    Metric(Metric),
    /// The number at this JSON pointer.
    Pointer(String),
}

/// Which series: a name, and what their labels have to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Metric {
    name: String,
    matchers: Vec<Matcher>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Matcher {
    label: String,
    /// `=`; otherwise `!=`.
    equal: bool,
    value: String,
}

impl Metric {
    /// Reads `orders_total`, `orders_total{side="buy",venue!="paper"}`.
    ///
    /// # Errors
    /// What is wrong with the text, as the end of a sentence that begins with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > METRIC_BYTES_MAX {
            return Err(format!("is longer than {METRIC_BYTES_MAX} bytes"));
        }
        let text = text.trim();
        let (name, labels) = match text.split_once('{') {
            None => (text, None),
            Some((name, rest)) => {
                (name.trim_end(), Some(rest.strip_suffix('}').ok_or("has no `}` at its end")?))
            }
        };
        if !is_metric_name(name) {
            return Err("does not begin with the name of a metric".into());
        }
        let matchers = labels.map(parse_matchers).transpose()?.unwrap_or_default();
        Ok(Self { name: name.to_owned(), matchers })
    }

    /// Its name without labels.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a series of that name is meant, given the value of each label (empty: it has none).
    pub fn matches<'a>(&self, value_of: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.matchers.iter().all(|matcher| {
            let is = value_of(&matcher.label).unwrap_or_default();
            (is == matcher.value) == matcher.equal
        })
    }
}

fn parse_matchers(text: &str) -> Result<Vec<Matcher>, String> {
    let mut matchers = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if matchers.len() == MATCHERS_MAX {
            return Err(format!("has more than {MATCHERS_MAX} labels"));
        }
        let end = rest.find(['=', '!']).ok_or("has a label without a value")?;
        let (label, after) = rest.split_at(end);
        let label = label.trim();
        if !is_label_name(label) {
            return Err(format!("has `{label}`, which is no name of a label"));
        }
        let (equal, after) = match (after.strip_prefix("!="), after.strip_prefix('=')) {
            (Some(after), _) => (false, after),
            (None, Some(after)) if !after.starts_with('~') => (true, after),
            _ => return Err("compares a label by something else than `=` and `!=`".into()),
        };
        let quoted = after.trim_start().strip_prefix('"').ok_or("has a value that is not in quotes")?;
        let (value, after) = unquote(quoted).ok_or("has a value whose quotes do not end")?;
        matchers.push(Matcher { label: label.to_owned(), equal, value });
        rest = after.trim_start();
        if let Some(next) = rest.strip_prefix(',') {
            rest = next.trim_start();
        } else if !rest.is_empty() {
            return Err("has two labels without a comma between them".into());
        }
    }
    Ok(matchers)
}

/// What stands before the closing quote, and what after it. Escapes are those of the text format: `\\`, `\"`, `\n`.
pub fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                same @ ('\\' | '"') => value.push(same),
                // As Prometheus does: what is no escape stands for itself.
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
    None
}

/// May a metric be called so?
pub fn is_metric_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || matches!(first, b'_' | b':'))
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))
}

/// May a label be called so?
pub fn is_label_name(text: &str) -> bool {
    is_metric_name(text) && !text.contains(':')
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (nth, Matcher { label, equal, value }) in self.matchers.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let (before, sign) = (if nth == 0 { "{" } else { "," }, if *equal { "=" } else { "!=" });
            write!(f, "{before}{label}{sign}\"{value}\"")?;
        }
        if self.matchers.is_empty() { Ok(()) } else { f.write_str("}") }
    }
}

impl TryFrom<String> for Metric {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).map_err(|why| format!("the metric {why}"))
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> Self {
        metric.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_read_and_written_back() {
        for text in
            ["up", "a:b_total", r#"orders_total{side="buy",venue!="paper"}"#, r#"x{a="\\ \" \n",b=""}"#]
        {
            assert_eq!(Metric::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Metric::parse(r#" x { a = "1" , } "#).unwrap().to_string(), r#"x{a="1"}"#);
        assert_eq!(Metric::parse("x{}").unwrap(), Metric::parse("x").unwrap());
    }

    #[test]
    fn what_is_no_metric_says_why() {
        let why = |text: &str| Metric::parse(text).unwrap_err();
        assert!(why("").contains("name of a metric"));
        assert!(why("9x").contains("name of a metric"));
        assert!(why("a-b").contains("name of a metric"));
        assert!(why("a{b=\"c\"").contains('}'));
        assert!(why("a{b}").contains("without a value"));
        assert!(why("a{b=c}").contains("quotes"));
        assert!(why("a{b=\"c}").contains("quotes"));
        assert!(why("a{b=~\"c\"}").contains("something else"));
        assert!(why("a{b!~\"c\"}").contains("something else"));
        assert!(why("a{b:c=\"d\"}").contains("no name of a label"));
        assert!(why("a{b=\"c\" d=\"e\"}").contains("comma"));
        assert!(why(&"a".repeat(600)).contains("longer"));
        assert!(why(&format!("a{{{}}}", "b=\"\",".repeat(20))).contains("more than"));
    }

    #[test]
    fn a_label_that_a_series_does_not_have_is_empty() {
        let buys = |label: &str| (label == "side").then_some("buy");
        let matches = |text: &str| Metric::parse(text).unwrap().matches(buys);
        assert!(matches("x") && matches(r#"x{side="buy"}"#) && matches(r#"x{venue=""}"#));
        assert!(
            matches(r#"x{venue!="paper"}"#) && !matches(r#"x{side!="buy"}"#) && !matches(r#"x{venue="a"}"#)
        );
    }
}
