//! What only one service may use at a time: a repository, a device, anything with a name.
//!
//! The keeper holds the locks, from before a program runs until the last process of its tree is gone; here is only what a
//! service does while somebody else holds one of its own. Waiting is neither an exit nor a failed start: nothing is counted
//! and no delay grows. It asks again when a tree of this Horus has ended, and every [`RETRY`] in case the holder belongs
//! to another Horus. An attempt that was refused never ran, so the next one bears the same run number and is not told again.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::Answer;
use crate::event::What;
use crate::reason::{Reason, Rule};
use crate::service::{Goal, Phase, Service};
use crate::time::Mono;
use crate::turn::Turn;

/// How often a service asks for a lock that somebody else holds.
pub const RETRY: Duration = Duration::from_secs(2);

/// One thing that a service wants for itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exclusive {
    /// A git repository, with all its work trees. The path of any folder in it.
    Repo(PathBuf),
    /// A file, folder or device, however many names it has.
    Path(PathBuf),
    /// Something that has no path.
    Name(String),
}

impl fmt::Display for Exclusive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repo(path) => write!(f, "repo:{}", path.display()),
            Self::Path(path) => write!(f, "path:{}", path.display()),
            Self::Name(name) => write!(f, "name:{name}"),
        }
    }
}

/// A start that was refused because of a lock.
#[derive(Clone, Debug)]
pub(crate) struct Blocked {
    /// When it is tried again at the latest.
    pub(crate) until: Mono,
    /// What it waits for, and who has that.
    pub(crate) by: String,
}

impl Service {
    /// The keeper did not start it: somebody holds what it needs.
    pub(crate) fn await_lock(&mut self, turn: &mut Turn<'_>, by: String) {
        let reason = Reason::new(Rule::Exclusive, by.clone());
        if self.blocked.as_ref().is_none_or(|before| before.by != by) {
            self.record(turn, None, What::Delayed { delay: RETRY, reason: reason.clone() });
        }
        self.launch_reason = Some(Reason::new(Rule::Exclusive, format!("it {by}")));
        let answer = Answer::Failed(format!("{} {by}; it is started when that is free", self.name));
        self.answer(turn, Goal::Up, &answer);
        self.blocked = Some(Blocked { until: turn.now + RETRY, by });
        self.phase = Phase::Down;
        self.settle(turn);
    }

    /// Whether it has to wait for a lock at this instant.
    pub(crate) fn awaits_lock(&self, now: Mono) -> bool {
        self.blocked.as_ref().is_some_and(|blocked| blocked.until > now)
    }

    /// Some tree has ended: what it held is free.
    pub(crate) fn ask_for_lock_again(&mut self, now: Mono) {
        if let (Some(blocked), Phase::Waiting) = (&mut self.blocked, &self.phase) {
            blocked.until = now;
            self.due = Some(now);
        }
    }

    /// The start that goes on is another try of one that was refused because of a lock.
    pub(crate) fn is_another_try(&self) -> bool {
        self.blocked.is_some() && self.generation == self.highest()
    }
}
