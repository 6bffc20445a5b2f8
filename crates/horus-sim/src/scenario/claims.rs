//! What a scenario is for, checked by the machine.
//!
//! A snapshot can be made anew with one command. These claims stand in the scenario itself, in front of the reviewer.

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::plan::Plan;
use serde::Deserialize;
use serde::de::Error as _;

use super::lines::{Line, Mark};
use super::span::{parse_span, span_text};
use super::{Run, service};

/// The `[expect]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Restarts that the judge decided on and carried out, of all services.
    pub kills: Count,
    /// The same of single services.
    #[serde(default)]
    pub kills_of: BTreeMap<String, Count>,
    /// What people are told of: kinds of incidents, in the order in which they are first told.
    pub alerts: Vec<String>,
    /// Messages, new versions counted.
    pub messages: Option<Count>,
    /// Starts after the first one of each service.
    pub restarts: Option<Count>,
    /// The same of single services.
    #[serde(default)]
    pub restarts_of: BTreeMap<String, Count>,
    /// Signals of any kind and for any reason.
    pub signals: Option<Count>,
    /// Verdicts that have to come in time, by service.
    #[serde(default)]
    pub detected: BTreeMap<String, Detected>,
    /// Incidents that are open at the end: "bot stuck". Not said: none.
    #[serde(default)]
    pub open: Vec<String>,
    /// Services that run at the end.
    #[serde(default)]
    pub up: Vec<String>,
    /// Services that do not run at the end.
    #[serde(default)]
    pub down: Vec<String>,
    /// Texts that have to be in the lines.
    #[serde(default)]
    pub shows: Vec<String>,
    /// Texts that may not be in any line.
    #[serde(default)]
    pub never: Vec<String>,
}

/// A verdict that has to come in time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detected {
    /// The verdict.
    #[serde(rename = "as")]
    pub verdict: String,
    /// After the first thing that happens to the service and contains this text.
    pub after: String,
    /// So soon.
    #[serde(deserialize_with = "span")]
    pub within: Duration,
}

fn span<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    parse_span(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is no span such as \"21s\"")))
}

/// How many: `3`, `"<= 3"`, `">= 1"` or `"1 to 3"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    least: u64,
    most: u64,
}

impl Count {
    fn holds(self, number: u64) -> bool {
        (self.least..=self.most).contains(&number)
    }

    fn parse(text: &str) -> Option<Self> {
        if let Some(most) = text.strip_prefix("<= ") {
            return Some(Self { least: 0, most: most.parse().ok()? });
        }
        if let Some(least) = text.strip_prefix(">= ") {
            return Some(Self { least: least.parse().ok()?, most: u64::MAX });
        }
        let (least, most) = text.split_once(" to ")?;
        Some(Self { least: least.parse().ok()?, most: most.parse().ok()? })
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.least, self.most) {
            (least, most) if least == most => write!(f, "{least}"),
            (0, most) => write!(f, "at most {most}"),
            (least, u64::MAX) => write!(f, "at least {least}"),
            (least, most) => write!(f, "{least} to {most}"),
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl serde::de::Visitor<'_> for Reader {
            type Value = Count;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("3, \"<= 3\", \">= 1\" or \"1 to 3\"")
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Count, E> {
                let number = u64::try_from(number).map_err(|_| E::custom("a count is not negative"))?;
                Ok(Count { least: number, most: number })
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Count, E> {
                Count::parse(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        from.deserialize_any(Reader)
    }
}

impl Claims {
    /// Claims about what is not there.
    pub(super) fn nonsense(&self, plan: &Plan) -> Vec<String> {
        let named = self.kills_of.keys().chain(self.restarts_of.keys()).chain(self.detected.keys());
        let unknown = named.chain(&self.up).chain(&self.down).filter(|name| service(plan, name).is_none());
        unknown.map(|name| format!("`expect`: there is no service `{name}`")).collect()
    }

    /// Each claim that does not hold, as a sentence.
    pub(super) fn check(&self, run: &Run) -> Vec<String> {
        let mut wrong: Vec<String> =
            run.broken.iter().map(|what| format!("the world broke: {what}")).collect();
        let mut count = |what: &str, claim: Count, number: u64| {
            if !claim.holds(number) {
                wrong.push(format!("{what}: {number}, expected {claim}"));
            }
        };
        let of = |map: &BTreeMap<String, u64>, name: &str| map.get(name).copied().unwrap_or(0);
        count("kills", self.kills, run.kills.values().sum());
        self.kills_of
            .iter()
            .for_each(|(name, claim)| count(&format!("kills of {name}"), *claim, of(&run.kills, name)));
        let restarts = |name: &str| of(&run.starts, name).saturating_sub(1);
        let all = run.starts.keys().map(|name| restarts(name)).sum();
        self.restarts.into_iter().for_each(|claim| count("restarts", claim, all));
        self.restarts_of
            .iter()
            .for_each(|(name, claim)| count(&format!("restarts of {name}"), *claim, restarts(name)));
        self.signals.into_iter().for_each(|claim| count("signals", claim, run.signals));
        self.messages.into_iter().for_each(|claim| count("messages", claim, run.messages));
        if run.told != self.alerts {
            wrong.push(format!("people are told of {:?}, expected {:?}", run.told, self.alerts));
        }
        let (mut open, mut expected) = (run.open.clone(), self.open.clone());
        open.sort();
        expected.sort();
        if open != expected {
            wrong.push(format!("open at the end: {open:?}, expected {expected:?}"));
        }
        self.check_ends(run, &mut wrong);
        self.check_texts(run, &mut wrong);
        for (name, detected) in &self.detected {
            wrong.extend(detected.check(name, run));
        }
        wrong
    }

    fn check_ends(&self, run: &Run, wrong: &mut Vec<String>) {
        let runs = |name: &String| run.up.contains(name);
        wrong.extend(
            self.up.iter().filter(|name| !runs(name)).map(|name| format!("{name} does not run at the end")),
        );
        wrong
            .extend(self.down.iter().filter(|name| runs(name)).map(|name| format!("{name} runs at the end")));
    }

    fn check_texts(&self, run: &Run, wrong: &mut Vec<String>) {
        let shown = |text: &String| {
            let lines = run.lines.iter().filter(|line| line.mark != Mark::World);
            lines.map(super::Line::text).any(|line| line.contains(text.as_str()))
        };
        wrong.extend(
            self.shows.iter().filter(|text| !shown(text)).map(|text| format!("no line shows \"{text}\"")),
        );
        wrong.extend(
            self.never.iter().filter(|text| shown(text)).map(|text| format!("a line shows \"{text}\"")),
        );
    }
}

impl Detected {
    fn check(&self, name: &str, run: &Run) -> Option<String> {
        let (word, within) = (&self.verdict, span_text(self.within));
        let about = |line: &&Line| line.mark == Mark::World && [name, "all"].contains(&line.subject.as_str());
        let Some(since) = run.lines.iter().filter(about).find(|line| line.what.contains(&self.after)) else {
            return Some(format!("detected: nothing that happens to {name} contains \"{}\"", self.after));
        };
        let since = since.at;
        let mut verdicts = run.lines.iter().filter(|line| line.mark == Mark::Verdict && line.subject == name);
        let found = verdicts.find(|line| line.at >= since && line.what.ends_with(&format!("-> {word}")));
        match found.map(|line| line.at - since) {
            Some(took) if took <= self.within => None,
            Some(took) => {
                Some(format!("{name} is called {word} after {}, expected within {within}", span_text(took)))
            }
            None => Some(format!("{name} is never called {word}, expected within {within}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_they_are_said() {
        let holds = |text: &str, number| Count::parse(text).unwrap().holds(number);
        assert!(holds("<= 3", 3) && !holds("<= 3", 4));
        assert!(holds(">= 1", 9) && !holds(">= 1", 0));
        assert!(holds("1 to 3", 2) && !holds("1 to 3", 4));
        assert_eq!(Count::parse("three"), None);
    }
}
