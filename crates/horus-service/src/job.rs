//! Why systemd stops a unit: because somebody wants it stopped, or because it is to be started again. The signal is the
//! same; only the manager's list of jobs tells.

use std::time::Duration;

use crate::plan::Scope;
use crate::runner::{RunError, Runner};
use crate::systemd::{owned, systemctl};

/// How long the manager may take to list its jobs.
const LIST_WITHIN: Duration = Duration::from_secs(5);

/// What systemd is about to do with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Stop it, for good or until the machine is up again.
    Stop,
    /// Stop it and start it again.
    Restart,
    /// Something else: a start, a reload.
    Other,
}

/// Why the job could not be told.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// No answer.
    #[error("systemd does not say what it is about to do")]
    Run(#[source] RunError),
    /// The wrong answer.
    #[error("systemd does not say what it is about to do: {0}")]
    Refused(String),
}

/// The job of a unit; `None` if there is none, as after a crash.
///
/// # Errors
/// [`JobError`]: then nothing is known.
pub fn job_of(scope: Scope, unit: &str, runner: &mut dyn Runner) -> Result<Option<Job>, JobError> {
    let argv = owned(&systemctl(scope, &["list-jobs", "--no-legend", "--plain", "--full"]));
    let answer = runner.run(&argv, LIST_WITHIN).map_err(JobError::Run)?;
    if !answer.succeeded() {
        return Err(JobError::Refused(answer.text.trim().to_owned()));
    }
    Ok(read(&answer.text, unit))
}

/// Lines such as `308 horus.service restart running`.
fn read(list: &str, unit: &str) -> Option<Job> {
    list.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let ours = words.next()? == unit;
        let kind = words.next()?;
        ours.then_some(match kind {
            "stop" => Job::Stop,
            "restart" | "try-restart" => Job::Restart,
            _ => Job::Other,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_told_from_a_restart_and_from_a_crash() {
        let list = "  1 shutdown.target start waiting\n308 horus.service restart running\n309 other.service stop running\n";
        assert_eq!(read(list, "horus.service"), Some(Job::Restart));
        assert_eq!(read(list, "other.service"), Some(Job::Stop));
        assert_eq!(read(list, "third.service"), None);
        assert_eq!(read("No jobs running.\n", "horus.service"), None);
    }
}
