//! Why Horus does not run, and what to type next.

use std::io::Write;

use horus_config::Fault;

use super::chain;
use crate::cli::ExitStatus;

/// Why the daemon did not start, or how it ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The configuration has faults.
    #[error("the configuration has {} faults", .0.len())]
    Config(Vec<Fault>),
    /// A directory cannot be used.
    #[error("{what} cannot be used")]
    Directory {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another Horus works on the state directory.
    #[error("another Horus works on this state or run directory")]
    Locked(#[source] horus_sys::lock::LockError),
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    Store(#[source] horus_store::OpenError),
    /// The API socket cannot be made.
    #[error("the API socket cannot be made")]
    Socket(#[source] horus_api::BindError),
    /// The program before this one, in the same process, left something that is of no use.
    #[error("what the program before this one handed over cannot be used")]
    Handover(#[source] std::io::Error),
    /// The system refused something basic.
    #[error("{what}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl RunError {
    fn hint(&self) -> &'static str {
        match self {
            Self::Config(_) => "horus check",
            Self::Directory { .. } => {
                "set state_directory and run_directory in [daemon] to folders of your own"
            }
            Self::Locked(_) => {
                "`horus status` speaks to the one that runs; another needs a state_directory and a run_directory of its own"
            }
            Self::Store(_) => "look at the state directory: does it exist, is it yours?",
            Self::Socket(horus_api::BindError::InUse { .. }) => {
                "stop what listens there, or set another run_directory"
            }
            Self::Socket(_) => "set a shorter run_directory in [daemon]",
            Self::Handover(_) => "start Horus again; the services go on under the keeper",
            Self::System { .. } => "see the limits of this user: ulimit -a",
        }
    }
}

/// All of it on one line.
pub(super) fn sentence(error: &RunError) -> String {
    match error {
        RunError::Config(faults) => {
            let first = faults.first().map(ToString::to_string).unwrap_or_default();
            format!("{error}; the first: {first}")
        }
        error => chain(error),
    }
}

/// Says why Horus does not run and what to do. A closed standard error changes only who reads it.
pub(super) fn complain(error: RunError) -> ExitStatus {
    let mut stderr = std::io::stderr().lock();
    match error {
        RunError::Config(faults) => {
            for fault in faults {
                let _ = writeln!(stderr, "{:?}", miette::Report::new(fault));
            }
            let _ = writeln!(stderr, "hint: mend the file, then look at it with `horus check`");
            ExitStatus::BadConfig
        }
        error => {
            let _ = writeln!(stderr, "error: {}", chain(&error));
            let _ = writeln!(stderr, "\nhint: {}", error.hint());
            ExitStatus::Failed
        }
    }
}
