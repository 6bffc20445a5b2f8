//! A plan: typed steps in their order. It can be read, compared and written as JSON; it does nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

/// The program that starts services on this system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Manager {
    /// Linux.
    Systemd,
    /// macOS.
    Launchd,
}

impl Manager {
    /// The one of this system.
    pub fn of_this_system() -> Self {
        if std::env::consts::OS == "macos" { Self::Launchd } else { Self::Systemd }
    }
}

/// Whose service it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The machine's: runs as root, from boot on.
    System,
    /// One user's: runs while that user is logged in, or lingers.
    User,
}

/// What is installed where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// By whom it is started.
    pub manager: Manager,
    /// Whose it is.
    pub scope: Scope,
}

impl Target {
    /// The name by which the manager knows it.
    pub fn unit(self) -> &'static str {
        match (self.manager, self.scope) {
            (Manager::Systemd, _) => crate::systemd::UNIT,
            (Manager::Launchd, Scope::System) => crate::launchd::DAEMON_LABEL,
            (Manager::Launchd, Scope::User) => crate::launchd::AGENT_LABEL,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match (self.manager, self.scope) {
            (Manager::Systemd, Scope::System) => "systemd service of the machine",
            (Manager::Systemd, Scope::User) => "systemd service of this user",
            (Manager::Launchd, Scope::System) => "launchd daemon of the machine",
            (Manager::Launchd, Scope::User) => "launchd agent of this user",
        })
    }
}

/// What is still to be done, and what a person should know about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// For which service.
    pub target: Target,
    /// In this order. Empty: nothing is to be done.
    pub steps: Vec<Step>,
    /// Sentences for people: what stays, what ends, what else they may want.
    pub notes: Vec<String>,
}

impl Plan {
    pub(crate) fn new(target: Target) -> Self {
        Self { target, steps: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn step(&mut self, why: impl Into<String>, action: Action) {
        self.steps.push(Step { why: why.into(), action });
    }

    pub(crate) fn run(&mut self, why: impl Into<String>, argv: &[&str], within: Duration) {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        self.step(why, Action::Run { argv, within, attempts: Attempts::Once });
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What it is good for.
    pub why: String,
    /// The thing itself.
    #[serde(flatten)]
    pub action: Action,
}

/// A thing that can be done. Each may be done again without harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// A directory and its parents, unless they are there.
    MakeDirectory {
        /// Which.
        path: PathBuf,
    },
    /// A file, whole or not at all, unless it is just so. Mode 0644: none of them holds a secret.
    WriteFile {
        /// Which.
        path: PathBuf,
        /// All of it.
        content: String,
    },
    /// A file, unless it is gone.
    RemoveFile {
        /// Which.
        path: PathBuf,
    },
    /// A directory of Horus with everything in it, unless it is gone. Symbolic links are not followed.
    RemoveTree {
        /// Which.
        path: PathBuf,
    },
    /// A command that has to succeed.
    Run {
        /// Program and arguments.
        argv: Vec<String>,
        /// How long it may take.
        #[serde(rename = "within_ms", serialize_with = "milliseconds")]
        within: Duration,
        /// How often it is tried.
        attempts: Attempts,
    },
    /// A question that is asked until the answer is right.
    WaitUntil {
        /// Program and arguments.
        argv: Vec<String>,
        /// Which answer.
        until: Until,
        /// How long in all.
        #[serde(rename = "within_ms", serialize_with = "milliseconds")]
        within: Duration,
    },
}

/// How often a command is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Attempts {
    /// It works or the plan ends.
    Once,
    /// Its failure is none: it only tidies up.
    OnceAndNeverMind,
    /// Again, ever slower, while it ends with this code.
    WhileItEndsWith(i32),
}

/// The answer that is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// The command fails: what it asks for is gone.
    Fails,
    /// It succeeds.
    Succeeds,
    /// It succeeds and prints this somewhere.
    Prints(String),
}

fn milliseconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl fmt::Display for Action {
    /// As a person would type it, on one line.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeDirectory { path } => write!(out, "mkdir -p {}", shown(path)),
            Self::WriteFile { path, content } => {
                write!(out, "write {} ({} lines)", shown(path), content.lines().count())
            }
            Self::RemoveFile { path } => write!(out, "rm {}", shown(path)),
            Self::RemoveTree { path } => write!(out, "rm -r {}", shown(path)),
            Self::Run { argv, attempts, .. } => match attempts {
                Attempts::Once => out.write_str(&command_line(argv)),
                Attempts::OnceAndNeverMind => write!(out, "{} || true", command_line(argv)),
                Attempts::WhileItEndsWith(code) => {
                    write!(out, "{} (again while it ends with {code})", command_line(argv))
                }
            },
            Self::WaitUntil { argv, until, .. } => match until {
                Until::Fails => write!(out, "wait until this fails: {}", command_line(argv)),
                Until::Succeeds => write!(out, "wait until this succeeds: {}", command_line(argv)),
                Until::Prints(text) => write!(out, "wait until this says \"{text}\": {}", command_line(argv)),
            },
        }
    }
}

fn shown(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// A command as it would be typed into a shell.
pub(crate) fn command_line(argv: &[String]) -> String {
    argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Why nothing is planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The machine's service, asked for by somebody else than root.
    #[error("a service of the machine can only be changed by root")]
    NotRoot,
    /// The user's service, and no user manager.
    #[error(
        "the service manager of this user cannot be reached: XDG_RUNTIME_DIR is not set, or none runs there"
    )]
    NoUserManager {
        /// The user.
        name: String,
    },
    /// systemd does not run here.
    #[error("systemd does not run on this machine")]
    NoSystemd,
    /// The user has no home directory that is known.
    #[error("the home directory of this user is not known")]
    NoHome,
    /// Somebody else could put another program in the place of the one that root would run.
    #[error("root would run {path}, and others could change what that is: {}", .why.join("; "))]
    NotOurs {
        /// The program or configuration.
        path: PathBuf,
        /// In which places.
        why: Vec<String>,
        /// What to do.
        hint: String,
    },
    /// A path that unit files cannot carry.
    #[error("{} cannot stand in a unit file: {what}", path.display())]
    OddPath {
        /// Which.
        path: PathBuf,
        /// What is odd.
        what: &'static str,
    },
    /// There is a file of that name that Horus did not write.
    #[error("{} is there and was not written by horus", .0.display())]
    ForeignFile(PathBuf),
    /// It belongs to a package.
    #[error("the service belongs to a package: {}", .0.display())]
    Packaged(PathBuf),
}

impl Refusal {
    /// What to type next.
    pub fn hint(&self) -> String {
        match self {
            Self::NotRoot => "sudo horus install --system, or for yourself: horus install --user".into(),
            Self::NoUserManager { name } => format!(
                "log in as {name} (sudo and su start no user manager), or: sudo loginctl enable-linger {name}, then \
                 export XDG_RUNTIME_DIR=/run/user/$(id -u)"
            ),
            Self::NoSystemd => {
                "start `horus run` by what starts services here; a container can simply run it".into()
            }
            Self::NoHome => "set HOME".into(),
            Self::NotOurs { hint, .. } => hint.clone(),
            Self::OddPath { .. } => "choose a path of letters, digits and / . _ - + @".into(),
            Self::ForeignFile(path) => {
                let path = shown(path);
                format!("look at it, then: mv {path} {path}.old")
            }
            Self::Packaged(_) => "remove it as it came: apt remove horus, or: dnf remove horus".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_typed() {
        let words = ["rm", "a b", "it's", "", "/plain/path.toml"].map(str::to_owned);
        assert_eq!(command_line(&words), r"rm 'a b' 'it'\''s' '' /plain/path.toml");
    }
}
