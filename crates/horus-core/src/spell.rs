//! A spell: one stretch without a sign of life, and what was already done about it.
//!
//! Whatever the judge does about a silence it does once. A spell remembers that; with the first sign of life it is thrown away as
//! a whole, so that nothing of one silence is ever held against the program in the next one (a list of "what to reset when it comes
//! back" would be the list in which something is forgotten). Each track has its own.

use std::time::Duration;

use crate::decision::Veto;
use crate::observation::{CaptureStage, Finding};
use crate::reason::{Reason, Rule};
use crate::time::{Human, Mono};

/// What is judged: the loop, or declared work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Track {
    Loop,
    Work,
}

/// One stretch without a sign of life: what was already done about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spell {
    pub(crate) early: bool,
    pub(crate) late: bool,
    pub(crate) second: bool,
    pub(crate) third: bool,
    /// Past the deadline, and written down.
    pub(crate) opened: bool,
    /// The fleet guard knows of it.
    pub(crate) red: bool,
    /// The restart was due and did not happen, for these reasons: each is said once.
    pub(crate) declined: Vec<Declined>,
    /// The same of an earlier life of Horus, in words.
    pub(crate) declined_before: Vec<String>,
    /// A restart that was decided was dropped then.
    pub(crate) spared_at: Option<Mono>,
    pub(crate) findings: Vec<Seen>,
    /// Captures that were asked for because an earlier one forbids a restart, or proves nothing yet.
    pub(crate) looks: u32,
    /// The last of them was asked for then.
    pub(crate) asked_again_at: Option<Mono>,
}

impl Spell {
    /// Was this said already, by this life or an earlier one?
    pub(crate) fn has_declined(&self, declined: Declined) -> bool {
        self.declined.contains(&declined)
            || self.declined_before.iter().any(|words| words == declined.words())
    }

    /// What forbade a restart has changed: it may be said again.
    pub(crate) fn may_decline_again(&mut self) {
        self.declined.clear();
        self.declined_before.clear();
    }
}

/// Why a restart was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Declined {
    /// The table asks for no restart.
    Table(&'static str),
    Veto(Veto),
}

impl Declined {
    /// The same in words that can be kept.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Table(because) => because,
            Self::Veto(veto) => veto.word(),
        }
    }
}

/// A capture that came back.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Mono,
    pub(crate) stage: CaptureStage,
    pub(crate) finding: Finding,
}

/// The thresholds in force.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) early: Duration,
    pub(crate) late: Duration,
    pub(crate) deadline: Duration,
    pub(crate) act: Duration,
}

impl Limits {
    /// The second capture comes a quarter of the deadline after the first.
    pub(crate) fn second(&self) -> Duration {
        self.late.max(self.early.saturating_add(self.deadline / 4))
    }

    /// Another one, if those two have proven nothing.
    pub(crate) fn third(&self) -> Duration {
        self.deadline.max(self.second().saturating_add(self.deadline / 4))
    }

    /// All ages at which the judge does something.
    pub(crate) fn ages(&self) -> [Duration; 6] {
        [self.early, self.late, self.second(), self.deadline, self.third(), self.act]
    }
}

/// A standstill on one track, with its numbers.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) track: Track,
    pub(crate) age: Duration,
    pub(crate) limit: Duration,
    pub(crate) act: Duration,
    /// What was seen.
    pub(crate) how: String,
    pub(crate) rule: Rule,
}

impl Fault {
    /// The numbers as a sentence fragment.
    pub(crate) fn reason(&self) -> Reason {
        let (age, limit) = (Human(self.age), Human(self.limit));
        let text = match self.track {
            Track::Loop if self.rule == Rule::OwnWord => self.how.clone(),
            Track::Loop => format!("no fresh tick for {age}, deadline {limit}; {}", self.how),
            Track::Work => format!("{}, limit {limit}", self.how),
        };
        Reason::new(self.rule, text)
    }
}
