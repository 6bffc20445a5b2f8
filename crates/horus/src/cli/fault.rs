//! What a person reads when a command did not work: what is wrong, why, and what to type next.

use std::error::Error;
use std::io;

use horus_api::{ClientError, ProblemKind};

use super::exit::ExitStatus;
use super::render::text::clean;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The reader of our output has seen enough (`horus events | head`). Not worth a word.
    ClosedPipe,
    /// Worth several.
    Said(Box<Said>),
}

/// A fault for people.
#[derive(Debug)]
pub(crate) struct Said {
    /// How the program ends.
    pub(crate) status: ExitStatus,
    /// What is wrong.
    pub(crate) message: String,
    /// Why, outermost first.
    pub(crate) causes: Vec<String>,
    /// What to type next.
    pub(crate) hint: String,
}

impl Fault {
    /// A fault with its hint.
    pub(crate) fn new(status: ExitStatus, message: impl Into<String>, hint: impl Into<String>) -> Self {
        let said = Said { status, message: message.into(), causes: Vec::new(), hint: hint.into() };
        Self::Said(Box::new(said))
    }

    /// Adds an error and everything below it as causes.
    #[must_use]
    pub(crate) fn because(mut self, error: &dyn Error) -> Self {
        if let Self::Said(said) = &mut self {
            let mut cause = Some(error);
            while let Some(error) = cause {
                said.causes.push(clean(&error.to_string()));
                cause = error.source();
            }
        }
        self
    }
}

impl Said {
    /// `error: ...`, causes, `hint: ...`; each ends its line.
    pub(crate) fn render(&self) -> String {
        let causes: String = self.causes.iter().map(|cause| format!("  because: {cause}\n")).collect();
        format!("error: {}\n{causes}\nhint: {}\n", clean(&self.message), clean(&self.hint))
    }
}

impl From<io::Error> for Fault {
    /// The error of a write to our own output.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::ClosedPipe;
        }
        Self::new(ExitStatus::Failed, "the output cannot be written", "is the disk full?").because(&error)
    }
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        let (status, hint) = match &error {
            ClientError::NoDaemon { .. } => {
                (ExitStatus::NoDaemon, "start it with `horus run`, or name another socket with --socket PATH")
            }
            ClientError::NotPermitted { .. } => {
                (ExitStatus::NoDaemon, "run this as the user of horus, or as root")
            }
            ClientError::Silent { .. } => {
                (ExitStatus::NoDaemon, "it may be hung or stopped: look at its own log, then start it again")
            }
            ClientError::Broken { .. } => {
                (ExitStatus::NoDaemon, "was it stopped? `horus status` shows whether it answers")
            }
            ClientError::NotUnderstood { .. } => (
                ExitStatus::Failed,
                "compare `horus --version` with the version that runs, and restart the older",
            ),
            ClientError::Problem(problem) => {
                let status = match problem.kind {
                    ProblemKind::Internal => ExitStatus::Bug,
                    ProblemKind::ShuttingDown => ExitStatus::NoDaemon,
                    _ => ExitStatus::Failed,
                };
                return Self::new(status, problem.detail.clone(), problem.hint.clone());
            }
        };
        let fault = Self::new(status, error.to_string(), hint);
        match error.source() {
            Some(source) => fault.because(source),
            None => fault,
        }
    }
}
