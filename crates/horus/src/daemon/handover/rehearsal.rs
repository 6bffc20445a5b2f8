//! The new program is tried out before it gets anything: it loads the whole configuration, opens the database for reading,
//! looks at the keeper, and says what it can read of what the old one writes.
//!
//! It is the new program that judges, because only it knows what it needs; the old one compares the ranges, because only it
//! knows what it writes. Nothing is touched meanwhile: the keeper is observed, not connected to, the database is read.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use horus_core::command::MEMORY_VERSION;
use horus_keeper::protocol::{FormatVersions, PROTOCOLS, Versions};
use horus_keeper::{AttachError, slots};
use horus_sys::reap::WaitStatus;
use horus_sys::spawn::{ExecOutcome, run_with_deadline};
use serde::{Deserialize, Serialize};

use super::program::Program;
use super::record::{self, HANDOVERS};
use crate::cli::{ExitStatus, RehearseArgs};
use crate::daemon::{chain, config, test_hook};

/// The versions of a rehearsal's answer that this build reads; it gives the newest.
const REHEARSALS: Versions = Versions { oldest: 1, newest: 1 };

/// How long a new program may take.
const REHEARSAL_MAX: Duration = Duration::from_secs(20);

/// Longest answer that is read, in bytes.
const ANSWER_MAX: usize = 256 * 1024;

/// Longest words of a program that failed that are told, in characters.
const WORDS_MAX: usize = 300;

/// So many faults are told; the rest is counted.
const FAULTS_TOLD_MAX: usize = 5;

/// What the service manager has given to Horus alone.
const OURS_ALONE: [&str; 4] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS"];

/// What a program says of itself when it is tried out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rehearsal {
    /// Version of this answer.
    rehearsal: u32,
    pub(super) program: Program,
    /// Languages of the keeper's socket.
    protocols: Versions,
    /// Records of the keeper.
    formats: Vec<FormatVersions>,
    /// What a service must not forget.
    memories: Versions,
    /// Schemas of the database.
    databases: Versions,
    handovers: Versions,
    /// Why it could not run here, one sentence each.
    faults: Vec<String>,
}

/// Where the Horus works that is to be replaced.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) config: PathBuf,
    pub(super) state_directory: PathBuf,
    pub(super) run_directory: PathBuf,
}

/// The body of `horus rehearse`: says as JSON what this build reads, and what keeps it from running here.
pub(crate) fn rehearse(place: &crate::cli::Place, arguments: &RehearseArgs) -> ExitCode {
    let mut faults = Vec::new();
    let place = place.config.as_ref().map(|config| Place {
        config: config.clone(),
        state_directory: arguments.state_dir.clone(),
        run_directory: arguments.run_dir.clone(),
    });
    match place {
        Some(place) => look_around(&place, &mut faults),
        None => faults.push("no configuration was named".into()),
    }
    let only = |version| Versions { oldest: version, newest: version };
    let rehearsal = Rehearsal {
        rehearsal: REHEARSALS.newest,
        program: Program::of_process().clone(),
        protocols: PROTOCOLS,
        formats: slots::formats(),
        memories: only(MEMORY_VERSION),
        databases: databases(),
        handovers: HANDOVERS,
        faults,
    };
    let mut out = std::io::stdout().lock();
    let said = serde_json::to_writer(&mut out, &rehearsal).is_ok() && writeln!(out).is_ok();
    if said && rehearsal.faults.is_empty() { ExitStatus::Done.into() } else { ExitStatus::Failed.into() }
}

fn databases() -> Versions {
    // Older ones are brought to the newest when they are opened.
    Versions { oldest: 0, newest: u32::try_from(horus_store::SCHEMA_VERSION).unwrap_or(u32::MAX) }
}

fn look_around(place: &Place, faults: &mut Vec<String>) {
    match config::load(&place.config) {
        Ok(config) => {
            let daemon = &config.plan.daemon;
            for (key, wanted, used) in [
                ("state_directory", &daemon.state_directory, &place.state_directory),
                ("run_directory", &daemon.run_directory, &place.run_directory),
            ] {
                if wanted != used {
                    let (wanted, used) = (wanted.display(), used.display());
                    faults.push(format!(
                        "the configuration wants the {key} {wanted}, and Horus works in {used}: that takes a stop and a start"
                    ));
                }
            }
        }
        Err(found) => {
            faults
                .push(format!("the configuration does not load: {}", config::summary(&place.config, &found)));
        }
    }
    match horus_store::schema_of(&place.state_directory) {
        Ok(Some(found)) if !databases().contains(found) => {
            let newest = databases().newest;
            faults.push(format!(
                "the database was written by a newer Horus (schema {found}, this one knows {newest})"
            ));
        }
        Ok(_) => {}
        Err(error) => faults.push(format!("the database: {}", chain(&error))),
    }
    // One that is not there, is silent or cannot be looked at yet is started or replaced; one of another language is not.
    if let Err(error @ (AttachError::Protocol { .. } | AttachError::Strange(_))) =
        horus_keeper::observe(&place.run_directory)
    {
        faults.push(chain(&error));
    }
    if let Err(error) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
        faults.push(format!("the runtime cannot be started: {error}"));
    }
}

/// Tries a program out and says what it is, or why it must not take over. Blocks.
pub(super) fn try_out(executable: &Path, place: &Place) -> Result<Program, String> {
    let words: Vec<OsString> = [
        executable.as_os_str(),
        "rehearse".as_ref(),
        "--config".as_ref(),
        place.config.as_os_str(),
        "--run-dir".as_ref(),
        place.run_directory.as_os_str(),
        "--state-dir".as_ref(),
        place.state_directory.as_os_str(),
    ]
    .map(OsString::from)
    .to_vec();
    let ours = |name: &OsString| OURS_ALONE.iter().any(|ours| name == ours) || name == record::VARIABLE;
    let environment: Vec<_> = std::env::vars_os().filter(|(name, _)| !ours(name)).collect();
    // Where a relative path of the configuration leads from.
    let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let limit = test_hook::rehearsal_max().unwrap_or(REHEARSAL_MAX);
    let outcome = run_with_deadline(&words, &environment, &folder, limit, ANSWER_MAX);
    understand(outcome, limit)
}

fn understand(outcome: ExecOutcome, limit: Duration) -> Result<Program, String> {
    let (status, bytes) = match outcome {
        ExecOutcome::Finished { status, output, .. } => (status, output.bytes),
        ExecOutcome::TimedOut { .. } => {
            return Err(format!("tried out, it had not ended after {} s", limit.as_secs_f32()));
        }
        ExecOutcome::NotStarted { error } => return Err(format!("it cannot be run: {error}")),
    };
    let text = String::from_utf8_lossy(&bytes);
    // What else it printed, warnings perhaps, came before.
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let answer = serde_json::from_str::<Rehearsal>(last);
    match (status, answer) {
        (WaitStatus::Code(_), Ok(answer)) if !answer.faults.is_empty() => Err(told(&answer.faults)),
        (WaitStatus::Code(0), Ok(answer)) => answer.suits(),
        (WaitStatus::Code(0), Err(_)) => {
            Err(format!("tried out, it did not answer as Horus does: {}", brief(last)))
        }
        (WaitStatus::Code(code), _) => Err(format!("tried out, it ended with code {code}: {}", brief(last))),
        (WaitStatus::Signal { number, .. }, _) => {
            Err(format!("tried out, it was ended by signal {number}: {}", brief(last)))
        }
    }
}

fn told(faults: &[String]) -> String {
    let shown: Vec<String> = faults.iter().take(FAULTS_TOLD_MAX).map(|fault| brief(fault)).collect();
    let more = faults.len().saturating_sub(FAULTS_TOLD_MAX);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    format!("tried out, it says: {}{more}", shown.join("; "))
}

/// Words of a program that is not ours yet, for one line of a person's.
fn brief(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_MAX).collect();
    if clean.trim().is_empty() { "it said nothing".into() } else { clean.trim().to_owned() }
}

impl Rehearsal {
    /// Whether it reads what we write.
    fn suits(self) -> Result<Program, String> {
        let program = &self.program;
        let reads = |what: &str, theirs: Versions, ours: u32| match theirs.contains(ours) {
            true => Ok(()),
            false => Err(format!("version {program} reads {what} {theirs}, and this Horus writes {ours}")),
        };
        reads("rehearsals", Versions { oldest: self.rehearsal, newest: self.rehearsal }, REHEARSALS.newest)?;
        reads("handovers", self.handovers, HANDOVERS.newest)?;
        reads("memories of services", self.memories, MEMORY_VERSION)?;
        reads("databases", self.databases, databases().newest)?;
        if self.protocols.common(PROTOCOLS).is_none() {
            let theirs = self.protocols;
            return Err(format!("version {program} speaks protocol {theirs} to the keeper, not {PROTOCOLS}"));
        }
        for FormatVersions { record, versions } in slots::formats() {
            let theirs = self.formats.iter().find(|format| format.record == record);
            if !theirs.is_some_and(|theirs| theirs.versions.contains(versions.newest)) {
                return Err(format!("version {program} does not read `{record} {}`", versions.newest));
            }
        }
        Ok(self.program)
    }
}

#[cfg(test)]
mod tests {
    use horus_sys::spawn::Output;

    use super::*;

    const TOMORROW: Versions = Versions { oldest: 8, newest: 9 };

    fn ours() -> Rehearsal {
        Rehearsal {
            rehearsal: 1,
            program: Program { version: "2.0.0".into(), build: Some("b".into()) },
            protocols: PROTOCOLS,
            formats: slots::formats(),
            memories: Versions { oldest: 1, newest: MEMORY_VERSION },
            databases: databases(),
            handovers: HANDOVERS,
            faults: Vec::new(),
        }
    }

    fn answered(status: WaitStatus, text: &str) -> Result<Program, String> {
        let output = Output { bytes: text.into(), dropped: 0 };
        understand(ExecOutcome::Finished { status, output, elapsed: Duration::ZERO }, Duration::from_secs(20))
    }

    #[test]
    fn only_who_reads_what_we_write_may_take_over() {
        assert_eq!(ours().suits().unwrap().to_string(), "2.0.0 (build b)");
        for (change, word) in [
            ((|other| other.handovers = TOMORROW) as fn(&mut Rehearsal), "handovers 8 to 9"),
            (|other| other.protocols = TOMORROW, "protocol 8 to 9"),
            (|other| other.memories = TOMORROW, "memories of services"),
            (|other| other.databases.newest -= 1, "databases"),
            (|other| other.rehearsal = 2, "rehearsals 2"),
            (|other| drop(other.formats.pop()), "horus-exit 1"),
            (|other| other.formats[1].versions = TOMORROW, "horus-gen 1"),
        ] {
            let mut other = ours();
            change(&mut other);
            let error = other.suits().unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn what_a_program_says_is_told_in_plain_words() {
        let good = serde_json::to_string(&ours()).unwrap();
        assert!(answered(WaitStatus::Code(0), &format!("a warning\n{good}\n\n")).is_ok());
        let faulty = Rehearsal { faults: (0..7).map(|n| format!("fault {n}")).collect(), ..ours() };
        let faulty = serde_json::to_string(&faulty).unwrap();
        let why = answered(WaitStatus::Code(1), &faulty).unwrap_err();
        assert_eq!(why, "tried out, it says: fault 0; fault 1; fault 2; fault 3; fault 4; and 2 more");
        let killed = WaitStatus::Signal { number: 11, core_dumped: true };
        for (status, text, wanted) in [
            (WaitStatus::Code(3), "no\x1b[2J way\n", "tried out, it ended with code 3: no [2J way"),
            (killed, "", "tried out, it was ended by signal 11: it said nothing"),
            // It crashed after it had answered: not good enough.
            (killed, &good, "tried out, it was ended by signal 11"),
            (WaitStatus::Code(0), "hello", "tried out, it did not answer as Horus does: hello"),
            (WaitStatus::Code(2), &good, "tried out, it ended with code 2"),
        ] {
            let why = answered(status, text).unwrap_err();
            assert!(why.starts_with(wanted), "{why}");
        }
        let late = ExecOutcome::TimedOut { output: Output::default(), gone: true };
        let why = understand(late, Duration::from_secs(20)).unwrap_err();
        assert_eq!(why, "tried out, it had not ended after 20 s");
    }

    /// A field that a later build adds is no reason to refuse it.
    #[test]
    fn a_later_answer_with_more_in_it_is_read() {
        let mut later = serde_json::to_value(ours()).unwrap();
        later["more"] = serde_json::json!({ "of": "it" });
        assert!(answered(WaitStatus::Code(0), &later.to_string()).is_ok());
    }
}
