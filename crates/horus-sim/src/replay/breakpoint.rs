//! Where a run is to stop.

use std::fmt;
use std::time::Duration;

use horus_core::ids::IncidentId;
use horus_core::reason::Rule;
use horus_core::transition::PhaseKind;
use horus_core::verdict::Verdict;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::answer::clock;
use super::prompt::PromptError;
use super::step::{COMMAND_KINDS, State, Step, Transition};

/// So many breakpoints at most: each is looked at after each step.
pub const BREAKPOINTS_MAX: usize = 64;

/// What a step has to be for a run to stop after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breakpoint {
    /// Any state change of a service or monitor.
    Subject(String),
    /// A service gets this verdict.
    Verdict(Verdict, Option<String>),
    /// A service gets into this phase.
    Phase(PhaseKind, Option<String>),
    /// Anything is done about this incident.
    Incident(IncidentId),
    /// Anything is done by this rule.
    Rule(Rule, Option<String>),
    /// The engine gives a command of this kind.
    Command(&'static str, Option<String>),
    /// The engine records an event of this kind, in the word of the format.
    Event(String, Option<String>),
    /// So much time has passed since the beginning.
    At(Duration),
}

/// A breakpoint, in the words of [`fmt::Display`].
pub(super) fn parse(words: &[&str]) -> Result<Breakpoint, PromptError> {
    let usage = || PromptError::Usage { of: "break" };
    let (kind, rest) = words.split_first().ok_or_else(usage)?;
    if let Some(command) = COMMAND_KINDS.iter().find(|command| *command == kind) {
        return Ok(Breakpoint::Command(command, subject(rest)?));
    }
    let (what, rest) = rest.split_first().ok_or_else(usage)?;
    let breakpoint = match *kind {
        "verdict" => Breakpoint::Verdict(word("verdict", what)?, subject(rest)?),
        "rule" => Breakpoint::Rule(word("rule", what)?, subject(rest)?),
        "phase" => Breakpoint::Phase(phase(what)?, subject(rest)?),
        "event" => Breakpoint::Event((*what).to_owned(), subject(rest)?),
        "service" | "monitor" if rest.is_empty() => Breakpoint::Subject((*what).to_owned()),
        "incident" if rest.is_empty() => {
            let unknown = || PromptError::NoSuch {
                what: "incident id",
                said: (*what).to_owned(),
                known: "H-7F3K".into(),
            };
            Breakpoint::Incident(IncidentId::parse(what).ok_or_else(unknown)?)
        }
        "command" if rest.len() <= 1 => {
            let known = || COMMAND_KINDS.join(", ");
            let unknown =
                || PromptError::NoSuch { what: "command", said: (*what).to_owned(), known: known() };
            let command = COMMAND_KINDS.iter().find(|command| *command == what).ok_or_else(unknown)?;
            Breakpoint::Command(command, subject(rest)?)
        }
        "at" => Breakpoint::At(duration(&words[1..].join(" "))?),
        _ => return Err(usage()),
    };
    Ok(breakpoint)
}

fn subject(rest: &[&str]) -> Result<Option<String>, PromptError> {
    match rest {
        [] => Ok(None),
        [name] => Ok(Some((*name).to_owned())),
        _ => Err(PromptError::Usage { of: "break" }),
    }
}

/// One of the words of an enum, as it is serialised.
fn word<T: DeserializeOwned>(what: &'static str, said: &str) -> Result<T, PromptError> {
    serde_json::from_value(Value::String(said.to_owned())).map_err(|error| {
        let text = error.to_string();
        let known = text.split_once("expected one of ").map_or(text.as_str(), |(_, known)| known);
        PromptError::NoSuch { what, said: said.to_owned(), known: known.replace('`', "") }
    })
}

fn phase(said: &str) -> Result<PhaseKind, PromptError> {
    let known = || PhaseKind::ALL.map(PhaseKind::word).join(", ");
    let found = PhaseKind::ALL.into_iter().find(|phase| phase.word() == said);
    found.ok_or_else(|| PromptError::NoSuch { what: "phase", said: said.to_owned(), known: known() })
}

/// `90s`, `1h 30m`, `02:10:09.5`.
pub(super) fn duration(said: &str) -> Result<Duration, PromptError> {
    let parsed: Option<jiff::SignedDuration> = said.parse().ok();
    let length = parsed.and_then(|length| Duration::try_from(length).ok());
    length.ok_or_else(|| PromptError::NoSuch {
        what: "time since the beginning",
        said: said.to_owned(),
        known: "90s, 1h 30m, 02:10:09.5".into(),
    })
}

impl Breakpoint {
    /// Does the run stop after this step? `before`: how far the step before it was from the beginning.
    pub(super) fn is_hit(&self, step: &Step, before: Duration) -> bool {
        let of = |name: &Option<String>, subject: &str| name.as_deref().is_none_or(|name| name == subject);
        let changed = |fits: &dyn Fn(&Transition) -> bool| step.transitions.iter().any(fits);
        let mut commands = step.commands.iter();
        match self {
            Self::Subject(name) => changed(&|change| change.subject == *name),
            Self::Verdict(wanted, name) => changed(&|change| {
                of(name, &change.subject)
                    && verdict(&change.to) == Some(*wanted)
                    && verdict(&change.from) != Some(*wanted)
            }),
            Self::Phase(wanted, name) => changed(&|change| {
                let wanted = Some(wanted.word());
                of(name, &change.subject) && word_of(&change.to) == wanted && word_of(&change.from) != wanted
            }),
            Self::Incident(id) => {
                step.input.incident == Some(*id) || commands.any(|command| command.incident == Some(*id))
            }
            Self::Rule(rule, name) => {
                commands.any(|command| command.rule == Some(*rule) && of(name, &command.subject))
            }
            Self::Command(kind, name) => {
                commands.any(|command| command.kind == *kind && of(name, &command.subject))
            }
            Self::Event(kind, name) => {
                commands.any(|command| command.event.as_ref() == Some(kind) && of(name, &command.subject))
            }
            Self::At(elapsed) => before < *elapsed && step.elapsed >= *elapsed,
        }
    }
}

fn verdict(state: &State) -> Option<Verdict> {
    match state {
        State::Service { verdict, .. } => Some(*verdict),
        State::Absent | State::Monitor { .. } => None,
    }
}

fn word_of(state: &State) -> Option<&str> {
    match state {
        State::Service { phase, .. } => Some(phase),
        State::Absent | State::Monitor { .. } => None,
    }
}

impl fmt::Display for Breakpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, subject) = match self {
            Self::Subject(name) => (format!("service {name}"), &None),
            Self::Verdict(verdict, name) => (format!("verdict {}", verdict.word()), name),
            Self::Phase(phase, name) => (format!("phase {}", phase.word()), name),
            Self::Incident(id) => (format!("incident {id}"), &None),
            Self::Rule(rule, name) => (format!("rule {}", rule.word()), name),
            Self::Command(kind, name) => (format!("command {kind}"), name),
            Self::Event(kind, name) => (format!("event {kind}"), name),
            Self::At(elapsed) => (format!("at {}", clock(*elapsed)), &None),
        };
        match subject {
            Some(subject) => write!(f, "{text} {subject}"),
            None => f.write_str(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_what_is_shown() {
        for text in [
            "service bot",
            "verdict silent",
            "verdict work-stalled bot",
            "phase condemned",
            "incident H-7F3K",
            "rule breaker bot",
            "command signal",
            "event breaker_opened",
            "at 26:10:09.500",
        ] {
            let words: Vec<&str> = text.split(' ').collect();
            assert_eq!(parse(&words).unwrap().to_string(), text);
        }
        assert_eq!(parse(&["kill", "bot"]).unwrap(), Breakpoint::Command("kill", Some("bot".into())));
        assert_eq!(parse(&["at", "1h", "30m"]).unwrap(), Breakpoint::At(Duration::from_secs(5400)));
    }

    #[test]
    fn what_is_no_word_is_answered_with_the_words() {
        let said = |words: &[&str]| parse(words).unwrap_err();
        assert!(said(&["verdict", "dead"]).hint().contains("silent"));
        assert!(said(&["rule", "dead"]).hint().contains("breaker"));
        assert!(said(&["phase", "dead"]).hint().contains("condemned"));
        assert!(said(&["command", "dead"]).hint().contains("kill"));
        for words in
            [&["verdict"][..], &["service", "a", "b"], &["soon"], &["verdict", "silent", "a", "b"], &[]]
        {
            assert_eq!(said(words), PromptError::Usage { of: "break" });
        }
    }
}
