//! Asking `systemctl`, `loginctl` and `launchctl`. A trait, so that tests can write down what would be asked.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use horus_sys::reap::WaitStatus;
use horus_sys::spawn::{ExecOutcome, run_with_deadline};

use crate::plan::command_line;

/// Most output of a command that is kept, in bytes.
const OUTPUT_MAX: usize = 64 * 1024;

/// Where such programs are, whatever the PATH of the person says: some of this runs as root.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// What a person's environment says about how to reach their service manager.
const PASSED_ON: [&str; 5] = ["HOME", "USER", "LOGNAME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];

/// What a command said, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 0 for success; 128 and the number of the signal for one that was killed.
    pub code: i32,
    /// Standard output and error as they came.
    pub text: String,
}

impl Answer {
    /// Whether it succeeded.
    pub fn succeeded(&self) -> bool {
        self.code == 0
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The program is not there, or may not be started.
    #[error("`{command}` cannot be started")]
    NotStarted {
        /// As it would be typed.
        command: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It did not end.
    #[error("`{command}` did not end within {} s", within.as_secs())]
    TimedOut {
        /// As it would be typed.
        command: String,
        /// The time that it had.
        within: Duration,
    },
}

/// Runs commands.
pub trait Runner {
    /// Runs one to its end.
    ///
    /// # Errors
    /// [`RunError`]; a command that fails is an [`Answer`].
    fn run(&mut self, argv: &[String], within: Duration) -> Result<Answer, RunError>;

    /// Lets time pass before the next try.
    fn pause(&mut self, time: Duration);
}

/// The real one.
#[derive(Debug, Default)]
pub struct SystemRunner;

impl Runner for SystemRunner {
    fn run(&mut self, argv: &[String], within: Duration) -> Result<Answer, RunError> {
        let words: Vec<OsString> = argv.iter().map(OsString::from).collect();
        let passed =
            PASSED_ON.iter().filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
        let fixed = [("PATH", PATH), ("LC_ALL", "C"), ("SYSTEMD_COLORS", "0"), ("SYSTEMD_PAGER", "")];
        let fixed = fixed.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let environment: Vec<_> = passed.chain(fixed).collect();
        match run_with_deadline(&words, &environment, Path::new("/"), within, OUTPUT_MAX) {
            ExecOutcome::Finished { status, output, .. } => {
                let code = match status {
                    WaitStatus::Code(code) => code,
                    WaitStatus::Signal { number, .. } => 128 + number,
                };
                Ok(Answer { code, text: String::from_utf8_lossy(&output.bytes).into_owned() })
            }
            ExecOutcome::TimedOut { .. } => Err(RunError::TimedOut { command: command_line(argv), within }),
            ExecOutcome::NotStarted { error } => {
                Err(RunError::NotStarted { command: command_line(argv), source: error })
            }
        }
    }

    fn pause(&mut self, time: Duration) {
        let end = horus_sys::clock::monotonic() + time;
        // Parking may end early; the clock decides.
        while let Some(left) = end.checked_sub(horus_sys::clock::monotonic()).filter(|left| !left.is_zero()) {
            std::thread::park_timeout(left);
        }
    }
}
