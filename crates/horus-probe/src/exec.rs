//! The exec beat: a command that exits 0. As good as the command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use horus_core::plan::{ExecBeat, LaunchPlan};
use horus_core::time::Human;
use horus_sys::reap::WaitStatus;
use horus_sys::spawn::{ExecOutcome, Output, run_with_deadline};
use tokio::sync::Semaphore;

use crate::blocking::OneAtATime;
use crate::file::hash;
use crate::limits::{EXEC_OUTPUT_BYTES_MAX, EXEC_PROBES_MAX};
use crate::sign::{Miss, Sign};
use crate::text::{detail, one_line};

static EXEC_PLACES: Semaphore = Semaphore::const_new(EXEC_PROBES_MAX);

/// How much longer than its timeout a run is waited for: killing the group takes time too.
const KILL_PATIENCE: Duration = Duration::from_secs(2);

/// Where and with what a probe command runs. As Horus's own user, not as the service's.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Surroundings {
    directory: PathBuf,
    environment: Vec<(OsString, OsString)>,
}

impl Surroundings {
    /// Those of the service.
    pub(crate) fn of_service(launch: &LaunchPlan) -> Self {
        let pair = |(name, value): (&String, &horus_core::plan::Secret)| (name.into(), value.expose().into());
        Self {
            directory: launch.directory.clone(),
            environment: launch.environment.iter().map(pair).collect(),
        }
    }

    /// Those of a monitor: nothing of Horus's own environment but what every program needs.
    pub(crate) fn plain() -> Self {
        const PASSED_ON: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"];
        let pair = |name: &str| Some((name.into(), std::env::var_os(name)?));
        Self { directory: "/".into(), environment: PASSED_ON.into_iter().filter_map(pair).collect() }
    }
}

impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// `heartbeat.exec` and `check.exec`.
#[derive(Debug)]
pub(crate) struct ExecProbe {
    command: Arc<[OsString]>,
    timeout: Duration,
    seq: bool,
    surroundings: Arc<Surroundings>,
    runs: OneAtATime<ExecOutcome>,
}

impl ExecProbe {
    pub(crate) fn new(beat: &ExecBeat, surroundings: Arc<Surroundings>) -> Self {
        Self {
            command: beat.command.iter().map(OsString::from).collect(),
            timeout: beat.timeout,
            seq: beat.seq,
            surroundings,
            runs: OneAtATime::new(&EXEC_PLACES, "probe command"),
        }
    }

    pub(crate) async fn poll(&mut self) -> Result<Sign, Miss> {
        let (command, surroundings, timeout) =
            (Arc::clone(&self.command), Arc::clone(&self.surroundings), self.timeout);
        let run = move || {
            let directory: &Path = &surroundings.directory;
            run_with_deadline(&command, &surroundings.environment, directory, timeout, EXEC_OUTPUT_BYTES_MAX)
        };
        let outcome = self.runs.run(self.timeout + KILL_PATIENCE, run).await?;
        self.judge(outcome)
    }

    fn judge(&self, outcome: ExecOutcome) -> Result<Sign, Miss> {
        match outcome {
            ExecOutcome::Finished { status: WaitStatus::Code(0), output, .. } if self.seq => tick_of(&output),
            ExecOutcome::Finished { status: WaitStatus::Code(0), .. } => Ok(Sign::default()),
            ExecOutcome::Finished { status, output, .. } => {
                let how = match status {
                    WaitStatus::Code(code) => format!("exit code {code}"),
                    WaitStatus::Signal { number, .. } => format!("ended by signal {number}"),
                };
                Err(Miss::not_a_beat(detail(&format!("{how}{}", said(&output)))))
            }
            ExecOutcome::TimedOut { output, gone } => {
                let left = if gone { "" } else { ", and cannot be killed" };
                let timeout = Human(self.timeout);
                Err(Miss::no_answer(detail(&format!("not done in {timeout}{left}{}", said(&output)))))
            }
            ExecOutcome::NotStarted { error } => {
                Err(Miss::prober(detail(&format!("the probe command does not start: {error}"))))
            }
        }
    }
}

/// The first line of the output: as a number if it is one, else as a number made of it.
fn tick_of(output: &Output) -> Result<Sign, Miss> {
    let text = String::from_utf8_lossy(&output.bytes);
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() {
        return Err(Miss::not_a_beat("exit code 0, but the first line of the output, the tick, is empty"));
    }
    Ok(Sign::tick(line.parse().unwrap_or_else(|_| hash(line.as_bytes()))))
}

fn said(output: &Output) -> String {
    match one_line(&String::from_utf8_lossy(&output.bytes), 120) {
        line if line.is_empty() => String::new(),
        line => format!(": {line}"),
    }
}

#[cfg(test)]
mod tests {
    use horus_core::observation::ProbeFault;

    use super::*;

    fn probe(script: &str, timeout_ms: u64, seq: bool) -> ExecProbe {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let timeout = Duration::from_millis(timeout_ms);
        let beat = ExecBeat { command, every: Duration::from_secs(1), timeout, seq };
        ExecProbe::new(&beat, Arc::new(Surroundings::plain()))
    }

    #[tokio::test]
    async fn an_exit_code_of_zero_is_a_beat_and_its_first_line_the_tick() {
        assert_eq!(probe("exit 0", 20_000, false).poll().await, Ok(Sign::default()));
        assert_eq!(probe("echo 41; echo 9", 20_000, true).poll().await, Ok(Sign::tick(41)));
        let one = probe("echo block a1", 20_000, true).poll().await.unwrap();
        let two = probe("echo block a2", 20_000, true).poll().await.unwrap();
        assert_ne!(one, two);
        assert_eq!(probe("true", 20_000, true).poll().await.unwrap_err().fault, ProbeFault::NotABeat);
        let failed = probe("echo no space left; exit 3", 20_000, false).poll().await.unwrap_err();
        assert_eq!(
            (failed.fault, failed.detail.as_str()),
            (ProbeFault::NotABeat, "exit code 3: no space left")
        );
    }

    #[tokio::test]
    async fn a_command_that_cannot_start_is_the_probers_fault() {
        let beat = ExecBeat {
            command: vec!["/no/such/program".into()],
            every: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            seq: false,
        };
        let miss = ExecProbe::new(&beat, Arc::new(Surroundings::plain())).poll().await.unwrap_err();
        assert_eq!(miss.fault, ProbeFault::Prober, "{}", miss.detail);
    }

    #[tokio::test]
    async fn a_timeout_kills_the_whole_group() {
        // The grandchild and its sibling hold a FIFO open: only when both are dead does its reader come to the end.
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("alive");
        let script = format!("mkfifo {0}; (sleep 600 > {0}) & (sleep 600 > {0}) & wait", fifo.display());
        let path = fifo.clone();
        let reader = tokio::task::spawn_blocking(move || {
            let mut nothing = Vec::new();
            // The FIFO appears when the script runs; until then opening says "no such file".
            let mut file = loop {
                if let Ok(file) = std::fs::File::open(&path) {
                    break file;
                }
                std::thread::yield_now();
            };
            std::io::Read::read_to_end(&mut file, &mut nothing).map(|_| ())
        });
        let miss = probe(&script, 300, false).poll().await.unwrap_err();
        assert_eq!(miss.fault, ProbeFault::NoAnswer, "{}", miss.detail);
        let ended = tokio::time::timeout(Duration::from_secs(20), reader).await;
        ended.expect("the grandchildren must be dead, or the FIFO stays open").unwrap().unwrap();
    }
}
