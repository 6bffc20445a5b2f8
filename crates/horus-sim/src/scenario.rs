//! Scenarios: what happened in the field, told so that anybody can review it.
//!
//! ```text
//!   about, config, timeline, until, expect            scenarios/NAME.toml
//!        |
//!        v
//!   small world: programs, keeper, probes, store, host, people -- inputs --> horus_core::Engine
//!        ^                                                                        |
//!        +------------------------------- commands -------------------------------+
//!        |
//!        v
//!   one aligned line for each transition              compared with its snapshot
//!   claims                                            checked by the machine
//! ```
//!
//! The snapshot shows *all* that happened, so that a reviewer sees a change of behaviour as a change of text. The claims
//! say what the scenario is *for*, so that a snapshot that is made anew cannot silently lose it. The configuration is a
//! real `watchdog.toml`, read by the real reader; the engine is the one that the daemon runs. Only the world is made up,
//! and it is the same on every machine: no clock, no seed but a constant one, no file.
//!
//! Rejected: scenarios as code (only programmers review them, and each grows its own little world), and a language of
//! numbers and enums (`fault = { kind = 3 }`: nobody notices when it says something else than was meant).

mod claims;
mod fate;
mod lines;
mod program;
mod senses;
mod sentences;
mod span;
mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

use horus_config::{Environment, FileFacts, UserFacts};
use horus_core::ids::ServiceName;
use horus_core::plan::Plan;
use jiff::Timestamp;
use serde::Deserialize;
use toml::Spanned;

pub use claims::Claims;
pub use lines::{Line, Mark};
pub use sentences::{GRAMMAR, Subject};
pub use world::Run;

use sentences::{Deed, Names};
use span::{Clock, parse_span};

/// Longest scenario file, in bytes.
pub const FILE_BYTES_MAX: usize = 64 << 10;

/// Entries of one timeline, repetitions counted.
pub const ENTRIES_MAX: usize = 10_000;

/// Longest simulated time.
pub const UNTIL_MAX: Duration = Duration::from_secs(400 * 24 * 3600);

/// When a scenario begins that does not say.
const BEGINS: &str = "2026-03-02T00:00:00Z";

/// One scenario, understood.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name: that of its file.
    pub name: String,
    /// What happened in the field.
    pub about: String,
    /// Who reported it, if it was somebody else's supervisor.
    pub reported: Vec<String>,
    /// What has to come out.
    pub claims: Claims,
    begins: Timestamp,
    plan: Plan,
    steps: Vec<Step>,
    until: Duration,
}

/// One thing that happens at one instant.
#[derive(Clone, Debug)]
struct Step {
    /// Since the beginning.
    at: Duration,
    /// Whom it is about, as it was written.
    subject: String,
    /// As it was written.
    words: String,
    deed: Deed,
}

/// What is wrong with a scenario file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub file: String,
    /// The line in it, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// What is allowed there.
    pub allowed: Vec<String>,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)?;
        self.allowed.iter().try_for_each(|form| write!(f, "\n    allowed: {form}"))
    }
}

impl std::error::Error for Fault {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScenario {
    about: Spanned<String>,
    #[serde(default)]
    reported: Vec<String>,
    begins: Option<Spanned<String>>,
    config: Spanned<String>,
    timeline: Vec<Spanned<toml::Table>>,
    until: Spanned<String>,
    expect: Spanned<Claims>,
}

impl Scenario {
    /// Reads a scenario. `file` is its path, for its name and for what is said about faults.
    ///
    /// # Errors
    /// All faults that could be told apart, each with its line and with what is allowed there.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Vec<Fault>> {
        let mut reader = Reader { file, text, faults: Vec::new() };
        let scenario = reader.scenario();
        match scenario {
            Some(scenario) if reader.faults.is_empty() => Ok(scenario),
            _ => Err(reader.faults),
        }
    }

    /// Lives it through.
    pub fn run(&self) -> Run {
        world::run(self)
    }

    /// The whole run as text: what a reviewer reads.
    pub fn story(&self, run: &Run) -> String {
        let mut text = format!("{}\n", self.name);
        for line in self.about.trim().lines() {
            text.push_str(&format!("  {}\n", line.trim()));
        }
        for report in &self.reported {
            text.push_str(&format!("  reported: {report}\n"));
        }
        text.push('\n');
        text.push_str(&lines::render(&run.lines, self.begins, self.until));
        text
    }

    /// Claims that do not hold, each as a sentence. Empty: the scenario came out as it should.
    pub fn disappointments(&self, run: &Run) -> Vec<String> {
        self.claims.check(run)
    }
}

/// Reads one file and collects its faults.
struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn fault(&mut self, at: usize, message: impl Into<String>, allowed: &[&str]) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let file = self.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let allowed = allowed.iter().map(|form| (*form).to_owned()).collect();
        self.faults.push(Fault { file, line, message: message.into(), allowed });
    }

    fn scenario(&mut self) -> Option<Scenario> {
        if self.text.len() > FILE_BYTES_MAX {
            self.fault(0, format!("the file is longer than {FILE_BYTES_MAX} bytes"), &[]);
            return None;
        }
        let raw: RawScenario = match toml::from_str(self.text) {
            Ok(raw) => raw,
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                let keys = ["about, reported, begins, config, timeline, until, [expect]"];
                self.fault(at, error.message().trim_end().to_owned(), &keys);
                return None;
            }
        };
        if raw.about.get_ref().trim().is_empty() {
            self.fault(raw.about.span().start, "`about` says what happened, with its numbers", &[]);
        }
        let begins = self.begins(raw.begins.as_ref())?;
        let plan = self.plan(raw.config.get_ref(), raw.config.span().start)?;
        let steps = self.timeline(&raw, &plan, begins);
        let until = self.until(&raw.until, begins, steps.last().map_or(Duration::ZERO, |step| step.at))?;
        let name = self.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let place = raw.expect.span().start;
        let claims = raw.expect.into_inner();
        for message in claims.nonsense(&plan) {
            self.fault(place, message, &[]);
        }
        let (about, reported) = (raw.about.into_inner(), raw.reported);
        Some(Scenario { name, about, reported, claims, begins, plan, steps, until })
    }

    fn begins(&mut self, raw: Option<&Spanned<String>>) -> Option<Timestamp> {
        let (text, at) = raw.map_or((BEGINS, 0), |raw| (raw.get_ref().as_str(), raw.span().start));
        match text.parse() {
            Ok(begins) => Some(begins),
            Err(_) => {
                self.fault(
                    at,
                    format!("`begins` is no time: \"{text}\""),
                    &["begins = \"2026-03-02T16:00:00Z\""],
                );
                None
            }
        }
    }

    fn until(&mut self, raw: &Spanned<String>, begins: Timestamp, last: Duration) -> Option<Duration> {
        let mut clock = Clock::new(begins);
        clock.advance(last);
        match clock.read(raw.get_ref()) {
            Some(until) if until >= last && until <= UNTIL_MAX => Some(until),
            Some(_) => {
                self.fault(raw.span().start, "`until` lies before the last entry, or after 400 days", &[]);
                None
            }
            None => {
                self.fault(raw.span().start, "`until` is no time", &span::FORMS);
                None
            }
        }
    }

    fn plan(&mut self, text: &str, at: usize) -> Option<Plan> {
        match load_plan(text) {
            Ok(plan) => Some(plan),
            Err(faults) => {
                for fault in faults {
                    self.fault(at, format!("`config`: {fault}"), &[]);
                }
                None
            }
        }
    }

    fn timeline(&mut self, raw: &RawScenario, plan: &Plan, begins: Timestamp) -> Vec<Step> {
        let (mut clock, mut steps) = (Clock::new(begins), Vec::new());
        let names = Names::new(plan);
        for entry in &raw.timeline {
            let (table, place) = (entry.get_ref(), entry.span().start);
            let Some(at) = self.entry_time(table, place, &mut clock) else { continue };
            let Some((every, times)) = self.repetition(table, place) else { continue };
            let subjects = table.iter().filter(|(key, _)| !["at", "every", "times"].contains(&key.as_str()));
            let mut said = 0;
            for (subject, value) in subjects {
                said += 1;
                for (words, deed) in self.deeds(&names, raw.config.get_ref(), (subject, value), place) {
                    for turn in 0..times {
                        let (subject, words, deed) = (subject.clone(), words.clone(), deed.clone());
                        steps.push(Step { at: at + every * turn, subject, words, deed });
                    }
                }
            }
            if said == 0 {
                self.fault(
                    place,
                    "the entry says nothing of anybody",
                    &["{ at = \"5s\", NAME = \"hangs\" }"],
                );
            }
            if steps.len() > ENTRIES_MAX {
                self.fault(place, format!("more than {ENTRIES_MAX} entries"), &[]);
                break;
            }
        }
        // What an instance is like has to be known before it is started.
        steps.sort_by_key(|step| (step.at, !matches!(step.deed, Deed::Habit(..))));
        steps
    }

    fn entry_time(&mut self, table: &toml::Table, place: usize, clock: &mut Clock) -> Option<Duration> {
        let text = table.get("at").and_then(toml::Value::as_str);
        let at = text.and_then(|text| clock.read(text));
        match (text, at) {
            (Some(_), Some(at)) if at >= clock.last() => {
                clock.advance(at);
                Some(at)
            }
            (Some(text), Some(_)) => {
                self.fault(place, format!("\"{text}\" lies before the entry above it"), &[]);
                None
            }
            _ => {
                let said = text.unwrap_or("nothing");
                self.fault(place, format!("`at` is no time: \"{said}\""), &span::FORMS);
                None
            }
        }
    }

    fn repetition(&mut self, table: &toml::Table, place: usize) -> Option<(Duration, u32)> {
        let every = table.get("every").map(|value| value.as_str().and_then(parse_span));
        let times = table.get("times").map(|value| value.as_integer().and_then(|n| u32::try_from(n).ok()));
        match (every, times) {
            (None, None) => Some((Duration::ZERO, 1)),
            (Some(Some(every)), Some(Some(times))) if times > 0 && times as usize <= ENTRIES_MAX => {
                Some((every, times))
            }
            _ => {
                let form = ["{ at = \"00:00\", every = \"24h\", times = 11, NAME = \"hangs for 4m\" }"];
                self.fault(place, "`every` and `times` come together: how often, and how many times", &form);
                None
            }
        }
    }

    fn deeds(
        &mut self,
        names: &Names,
        config: &str,
        (subject, value): (&str, &toml::Value),
        place: usize,
    ) -> Vec<(String, Deed)> {
        let Some(text) = value.as_str() else {
            self.fault(place, format!("`{subject}` takes a sentence in quotes"), &[]);
            return Vec::new();
        };
        if subject == "config" {
            return self.reload(config, text);
        }
        let Some(kind) = names.subject(subject) else {
            let message =
                format!("there is no `{subject}` in the configuration, and it is no word of scenarios");
            self.fault(place, message, &[&names.listed()]);
            return Vec::new();
        };
        let mut deeds = Vec::new();
        for sentence in text.split(';').map(str::trim) {
            match names.deeds(&kind, sentence) {
                Some(found) => deeds.extend(found.into_iter().map(|deed| (sentence.to_owned(), deed))),
                None => {
                    let message = format!("`{subject}`: \"{sentence}\" is not understood");
                    self.fault(place, message, &kind.forms());
                }
            }
        }
        deeds
    }

    /// A whole configuration, or what is laid over the first one. A bad one is a lawful thing to happen.
    fn reload(&mut self, config: &str, text: &str) -> Vec<(String, Deed)> {
        let whole = if text.contains("version") { text.to_owned() } else { overlay(config, text) };
        let words =
            text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
        match load_plan(&whole) {
            Ok(plan) => vec![(words, Deed::Reload(Box::new(plan)))],
            Err(faults) => vec![(words, Deed::BadReload(faults))],
        }
    }
}

/// Lays the keys of one TOML text over those of another. What is no TOML stays what it is: the reader will say so.
fn overlay(base: &str, over: &str) -> String {
    fn merge(base: &mut toml::Table, over: toml::Table) {
        for (key, value) in over {
            match (base.get_mut(&key), value) {
                (Some(toml::Value::Table(below)), toml::Value::Table(above)) => merge(below, above),
                (_, value) => drop(base.insert(key, value)),
            }
        }
    }
    match (base.parse::<toml::Table>(), over.parse::<toml::Table>()) {
        (Ok(mut base), Ok(over)) => {
            merge(&mut base, over);
            base.to_string()
        }
        _ => over.to_owned(),
    }
}

fn load_plan(text: &str) -> Result<Plan, Vec<String>> {
    let loaded = horus_config::parse(text, Path::new("/scenario/watchdog.toml"), &Nowhere);
    match loaded.into_result() {
        Ok(checked) => Ok(checked.plan),
        Err(faults) => Err(faults.iter().map(ToString::to_string).collect()),
    }
}

/// A machine on which every folder exists and nothing else is known.
struct Nowhere;

impl Environment for Nowhere {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }
    fn look(&self, _: &Path) -> std::io::Result<FileFacts> {
        Ok(FileFacts { owner: 1000, mode: 0o700, directory: true })
    }
    fn read(&self, _: &Path, _: u64) -> std::io::Result<Vec<u8>> {
        Err(std::io::ErrorKind::NotFound.into())
    }
    fn user_id(&self) -> u32 {
        1000
    }
    fn user(&self, _: &str) -> Option<UserFacts> {
        None
    }
    fn group(&self, _: &str) -> Option<u32> {
        None
    }
    fn host_name(&self) -> Option<String> {
        Some("mini".into())
    }
    fn current_directory(&self) -> PathBuf {
        PathBuf::from("/scenario")
    }
}

/// A service of the plan by its text.
fn service(plan: &Plan, text: &str) -> Option<ServiceName> {
    plan.services.keys().find(|name| name.as_str() == text).cloned()
}
