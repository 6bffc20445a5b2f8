//! What a reviewer reads: one line for each transition.
//!
//! ```text
//! 16:18:06      bot       * hangs                                       the world
//! 16:18:11      bot       = healthy -> slow    [silent] no fresh ...    a verdict
//! 16:18:26      bot         running -> condemned [silent] ...           a phase
//! 16:18:26      bot       ! H-5T64 stuck opened ...                     an incident
//! 16:18:26      bot       > stuck restarting: ...                       what a person is told
//! ```
//!
//! What repeats itself is folded: two rounds are shown, then how often and until when. Rounds are compared without their
//! numbers, so that jitter does not hide a repetition.

use std::time::Duration;

use horus_core::command::Answer;
use horus_core::event::{DeathCause, Event, What};
use horus_core::notice::{Notice, Story};
use horus_core::reason::Reason;
use horus_core::time::Human;
use jiff::Timestamp;
use serde_json::Value;

use super::span::time_of_day;

/// The longest round that is folded, in lines.
const ROUND_MAX: usize = 24;

/// Rounds that are shown before the rest is folded.
const ROUNDS_SHOWN: usize = 2;

/// So many equal rounds are folded.
const ROUNDS_FOLDED_MIN: usize = 4;

/// `H-7F3K`
const INCIDENT_ID_LENGTH: usize = 6;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The scenario did something to the world.
    World,
    /// A process went from one phase to another, or was signalled.
    Phase,
    /// A verdict changed.
    Verdict,
    /// An incident was opened or closed.
    Incident,
    /// A person is told something.
    Told,
    /// A person is answered.
    Answer,
    /// Anything else that was written down.
    Note,
}

impl Mark {
    fn sign(self) -> char {
        match self {
            Self::World => '*',
            Self::Phase => ' ',
            Self::Verdict => '=',
            Self::Incident => '!',
            Self::Told => '>',
            Self::Answer => '<',
            Self::Note => '-',
        }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Since the beginning.
    pub at: Duration,
    /// Whom it is about.
    pub subject: String,
    /// What it is.
    pub mark: Mark,
    /// What happened: "healthy -> slow".
    pub what: String,
    /// By which rule; may be empty.
    pub rule: String,
    /// Why, with its numbers; may be empty.
    pub why: String,
}

impl Line {
    pub(super) fn new(at: Duration, subject: &str, mark: Mark, what: impl Into<String>) -> Self {
        let (subject, what) = (subject.to_owned(), what.into());
        Self { at, subject, mark, what, rule: String::new(), why: String::new() }
    }

    fn because(mut self, reason: &Reason) -> Self {
        self.rule = reason.rule.word().to_owned();
        self.why.clone_from(&reason.text);
        self
    }

    fn with(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    /// The line without its time.
    pub fn text(&self) -> String {
        let rule = if self.rule.is_empty() { String::new() } else { format!("[{}] ", self.rule) };
        format!("{:<10} {} {:<28} {rule}{}", self.subject, self.mark.sign(), self.what, self.why)
            .trim_end()
            .to_owned()
    }

    /// The text without its numbers and identifiers.
    fn shape(&self) -> String {
        let (text, mut shape) = (self.text(), String::new());
        for word in text.split(' ') {
            let named = word.starts_with("H-") && word.len() == INCIDENT_ID_LENGTH;
            let word = if named { "H-" } else { word };
            shape
                .extend(word.split(|c: char| c.is_ascii_digit() || c == '.').filter(|part| !part.is_empty()));
            shape.push(' ');
        }
        shape
    }
}

/// The line of a journal row. `phase`: the phase that the service was in by the rows before.
pub(super) fn of_event(at: Duration, event: &Event, phase: &mut String) -> Option<Line> {
    let subject = event.subject.as_str();
    let mut enter = |to: &str| {
        let from = std::mem::replace(phase, to.to_owned());
        Line::new(at, subject, Mark::Phase, format!("{from} -> {to}"))
    };
    let note = |what: &str| Line::new(at, subject, Mark::Note, what);
    let incident = |what: String| {
        let id = event.incident.map(|id| format!("{id} ")).unwrap_or_default();
        Line::new(at, subject, Mark::Incident, format!("{id}{what}"))
    };
    Some(match &event.what {
        What::StartAsked { reason } => enter("launching").because(reason),
        What::Started { process } => enter("starting").with(format!("{process}")),
        What::Adopted { process } => enter("adopted").with(format!("{process}")),
        What::BecameReady { took, by } => enter("running").with(format!("after {}, by {by}", Human(*took))),
        What::KillDecided { reason, kill, limit } => {
            let line = enter("condemned").because(reason);
            let why = format!("{} (kill {kill} of {limit})", line.why);
            line.with(why)
        }
        What::Signalled { signal, tree, reason } => {
            let whom = if *tree { "its whole tree" } else { "it" };
            let line = enter("stopping").because(reason);
            let why = format!("{signal} to {whom}: {}", line.why);
            line.with(why)
        }
        What::Exited { exit, lifetime, cause } => {
            let whose = match cause {
                DeathCause::Itself => "by itself",
                DeathCause::Kill => "killed by us",
                DeathCause::Planned => "planned",
            };
            enter("down").with(format!("{exit} after {}, {whose}", Human(*lifetime)))
        }
        What::Delayed { delay, reason } => {
            let line = enter("backoff").because(reason);
            let why = format!("for {}; {}", Human(*delay), line.why);
            line.with(why)
        }
        What::Judged { from, to, reason } => {
            let what = format!("{} -> {}", from.word(), to.word());
            Line::new(at, subject, Mark::Verdict, what).because(reason)
        }
        What::IncidentOpened { kind, severity, reason } => {
            incident(format!("{} opened", kind.word())).because(reason).also(&word(severity))
        }
        What::IncidentClosed { outcome, lasted } => {
            incident("closed".to_owned()).with(format!("{} after {}", word(outcome), Human(*lasted)))
        }
        What::Folded { into } => incident("folded".to_owned()).with(format!("told of by {into}")),
        What::WouldHave { what, reason } => note("would have").because(reason).also(what),
        What::EvidenceCaptured { stage, finding } => {
            let seen =
                if finding.phrase.is_empty() { finding.missing.join(", ") } else { finding.phrase.clone() };
            let last = finding.last_lines.last().map(|line| format!("last line: {line}"));
            let parts: Vec<String> =
                Some(seen).into_iter().chain(last).filter(|part| !part.is_empty()).collect();
            note(&format!("evidence ({})", word(stage))).with(parts.join("; "))
        }
        What::Told { .. } => return None,
        other => {
            let (what, why) = phrase(&serde_json::to_value(other).unwrap_or_default());
            note(&what).with(why)
        }
    })
}

impl Line {
    fn also(mut self, more: &str) -> Self {
        self.why = format!("{more}: {}", self.why);
        self
    }
}

/// The line of a message.
pub(super) fn of_notice(at: Duration, notice: &Notice) -> Line {
    let mut how = vec![word(&notice.severity)];
    how.push(if notice.loud { "loud".into() } else { "quiet".into() });
    if notice.needs_you {
        how.push("needs you".into());
    }
    let what = format!("{} {} ({})", notice.incident, notice.kind.word(), how.join(", "));
    let (story, numbers) = story_phrase(&notice.story);
    Line::new(at, &notice.subject, Mark::Told, what)
        .with(format!("{story}: {numbers}").trim_end_matches(": "))
}

fn story_phrase(story: &Story) -> (String, String) {
    phrase(&serde_json::to_value(story).unwrap_or_default())
}

/// The line of an answer to a person.
pub(super) fn of_answer(at: Duration, answer: &Answer) -> Line {
    let (what, why) = match answer {
        Answer::Done(text) => ("done", text.clone()),
        Answer::Refused { why, hint } => ("refused", format!("{why}; hint: {hint}")),
        Answer::Failed(text) => ("failed", text.clone()),
    };
    Line::new(at, "operator", Mark::Answer, what).with(why)
}

/// The stored word of a unit variant.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

/// A stored variant as a phrase: its word, and its fields with their numbers as people say them. What this crate has
/// never heard of is shown, too.
fn phrase(value: &Value) -> (String, String) {
    match value {
        Value::String(word) => (word.replace('_', " "), String::new()),
        Value::Object(map) => match map.iter().next() {
            Some((word, Value::Object(fields))) => {
                let fields: Vec<String> =
                    fields.iter().filter_map(|(key, value)| field(key, value)).collect();
                (word.replace('_', " "), fields.join("; "))
            }
            Some((word, value)) => (word.replace('_', " "), plain(value)),
            None => (String::new(), String::new()),
        },
        other => (String::new(), plain(other)),
    }
}

fn field(key: &str, value: &Value) -> Option<String> {
    if value.is_null() {
        return None;
    }
    if let (Some(name), Some(millis)) = (key.strip_suffix("_ms"), value.as_u64()) {
        return Some(format!("{} {}", name.replace('_', " "), Human(Duration::from_millis(millis))));
    }
    Some(format!("{} {}", key.replace('_', " "), plain(value)))
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" | "),
        Value::Object(fields) => match (fields.get("rule"), fields.get("text")) {
            (Some(rule), Some(text)) => format!("[{}] {}", plain(rule), plain(text)),
            _ => fields.iter().filter_map(|(key, value)| field(key, value)).collect::<Vec<_>>().join(", "),
        },
        other => other.to_string(),
    }
}

/// All lines, repetitions folded.
pub(super) fn render(lines: &[Line], begins: Timestamp, until: Duration) -> String {
    let shapes: Vec<String> = lines.iter().map(Line::shape).collect();
    let clock = |at: Duration| clock_text(at, begins, until);
    let (mut text, mut next) = (String::new(), 0);
    while next < lines.len() {
        let (round, rounds) = repetition(&shapes[next..]);
        let shown = if rounds >= ROUNDS_FOLDED_MIN { round * ROUNDS_SHOWN } else { 1 };
        for line in &lines[next..next + shown] {
            text.push_str(&format!("{}  {}\n", clock(line.at), line.text()));
        }
        next += shown;
        if rounds >= ROUNDS_FOLDED_MIN {
            let more = rounds - ROUNDS_SHOWN;
            next += round * more;
            let last = clock(lines[next - 1].at);
            let these = if round == 1 { "line".to_owned() } else { format!("{round} lines") };
            text.push_str(&format!(
                "    ... the last {these} {more} more times, until {}\n",
                last.trim_end()
            ));
        }
    }
    text.push_str(&format!("{}  end\n", clock(until)));
    text
}

/// The shortest round that `shapes` begins with, and how often it comes in a row.
fn repetition(shapes: &[String]) -> (usize, usize) {
    for round in 1..=ROUND_MAX.min(shapes.len() / ROUNDS_FOLDED_MIN) {
        let rounds = shapes.chunks_exact(round).take_while(|chunk| *chunk == &shapes[..round]).count();
        if rounds >= ROUNDS_FOLDED_MIN {
            return (round, rounds);
        }
    }
    (1, 1)
}

fn clock_text(at: Duration, begins: Timestamp, until: Duration) -> String {
    let day = Duration::from_secs(24 * 3600);
    let offset = time_of_day(begins);
    let since_midnight = offset + at;
    let days = since_midnight.as_secs() / day.as_secs();
    let seconds = since_midnight.as_secs() % day.as_secs();
    let time = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let millis = since_midnight.subsec_millis();
    let time = if millis == 0 { format!("{time}    ") } else { format!("{time}.{millis:03}") };
    if offset + until > day { format!("day {:<2} {time}", days + 1) } else { time }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seconds: u64, what: &str) -> Line {
        Line::new(Duration::from_secs(seconds), "bot", Mark::Note, what)
    }

    #[test]
    fn what_repeats_itself_is_folded_whatever_its_numbers() {
        let mut lines = vec![line(0, "start")];
        for n in 0..10 {
            lines.push(line(10 + n * 10, &format!("dies after {n} s")));
            lines.push(line(11 + n * 10, "starts"));
        }
        lines.push(line(200, "is well"));
        let begins = "2026-03-02T16:00:00Z".parse().unwrap();
        let text = render(&lines, begins, Duration::from_secs(300));
        let shown: Vec<&str> = text.lines().collect();
        assert_eq!(shown.len(), 1 + 4 + 1 + 1 + 1, "{text}");
        assert_eq!(shown[5], "    ... the last 2 lines 8 more times, until 16:01:41");
        assert!(shown[6].starts_with("16:03:20"), "{text}");
    }

    #[test]
    fn what_does_not_repeat_is_shown_whole() {
        let lines: Vec<Line> = ["a", "b", "a", "c", "a", "d"].iter().map(|what| line(1, what)).collect();
        let text = render(&lines, Timestamp::UNIX_EPOCH, Duration::from_secs(9));
        assert_eq!(text.lines().count(), 7, "{text}");
    }
}
