//! How the program ends, in the codes of sysexits(3).

use std::process::ExitCode;

/// The outcome of a command, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExitStatus {
    /// It was done.
    Done,
    /// The thing asked for failed.
    Failed,
    /// The command line is wrong.
    Usage,
    /// A file that was named is not what it should be.
    BadData,
    /// A file that was named cannot be read.
    NoInput,
    /// No daemon answers.
    NoDaemon,
    /// A bug in Horus.
    Bug,
    /// The configuration is wrong.
    BadConfig,
}

impl ExitStatus {
    /// The number that the shell sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 64,
            Self::BadData => 65,
            Self::NoInput => 66,
            Self::NoDaemon => 69,
            Self::Bug => 70,
            Self::BadConfig => 78,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}
