//! A new program for the same process: the keeper executes another file and stays the parent of its children.
//!
//! ```text
//!   asked -> nothing half done? -> the new file, tried out, says what it reads -> handover -> exec -> adopt
//! ```
//!
//! What is on disk is enough for any keeper to go on, so the handover holds only what would be lost: the open sockets (who
//! connects meanwhile waits in their queue), the FIFOs (their content lives as long as somebody holds them), and what was
//! seen of strays. A handover that cannot be read costs just that. Until the exec everything can be undone, and a file that
//! does not run or does not understand our records is found before it; what dies after it is a dead keeper like any other.

use crate::crash_point::crash_point;
use crate::keeper::slot::{Phase, Slot};
use crate::keeper::{Keeper, killing};
use crate::orphans::is_at;
use crate::protocol::{Event, FormatVersions, PROTOCOLS, SlotName, Versions};
use crate::slots;
use horus_sys::limits::Limit;
use horus_sys::process::ProcessId;
use horus_sys::reap::WaitStatus;
use horus_sys::spawn::{self, ExecOutcome};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

/// Names the descriptor of the handover to the new program.
const HANDOVER_VARIABLE: &str = "HORUS_KEEP_HANDOVER";
/// Asks a program to say what it understands, and to end.
const VERSIONS_VARIABLE: &str = "HORUS_KEEP_VERSIONS";
/// The handovers that this build reads; it writes the newest.
const HANDOVERS: Versions = Versions { oldest: 1, newest: 1 };
/// How long a new program may take to say its versions. All slots wait for it, their output in their pipes.
const TRIAL_MAX: Duration = Duration::from_secs(2);
/// Longest answer of it, and longest handover, in bytes.
const ANSWER_MAX: usize = 64 * 1024;
const HANDOVER_MAX: u64 = 64 * 1024 * 1024;

/// What a program says of itself when it is tried out.
#[derive(Debug, Serialize, Deserialize)]
struct Announcement {
    program: String,
    protocols: Versions,
    formats: Vec<FormatVersions>,
    handovers: Versions,
}

/// What only the process knows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Handover {
    version: u32,
    /// How often this process has changed its program by now.
    pub(crate) upgrades: u32,
    listener: RawFd,
    view: RawFd,
    given_open_files: (u64, u64),
    slots: BTreeMap<SlotName, HandedSlot>,
    #[serde(skip)]
    sockets: Option<(UnixListener, UnixListener)>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct HandedSlot {
    fifo: Option<RawFd>,
    adopted: bool,
    last_main: Option<ProcessId>,
    strays: Vec<ProcessId>,
    earliest_start: u64,
    /// Output thrown away and not yet accounted for in the log.
    lost: Option<(u64, String)>,
}

/// Says what this build understands, if that is all that is asked of it.
pub(crate) fn announce() -> bool {
    if std::env::var_os(VERSIONS_VARIABLE).is_none() {
        return false;
    }
    let announcement = Announcement {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        protocols: PROTOCOLS,
        formats: slots::formats(),
        handovers: HANDOVERS,
    };
    // Who asks and does not listen gets no second answer.
    let _ = serde_json::to_writer(io::stdout(), &announcement);
    true
}

impl Handover {
    /// What the program before us left, if there was one in this process. An error means that it cannot be used.
    pub(crate) fn take() -> Option<io::Result<Self>> {
        let number = std::env::var_os(HANDOVER_VARIABLE)?;
        crash_point("upgrade.after-exec");
        Some(Self::read(number.to_str().unwrap_or_default()))
    }

    fn read(number: &str) -> io::Result<Self> {
        let bad = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let number = number.parse().map_err(|_| bad(format!("`{number}` is no descriptor")))?;
        let mut file = File::from(spawn::inherit(number)?);
        file.rewind()?;
        let mut handover: Self = serde_json::from_reader(file.take(HANDOVER_MAX))?;
        if !HANDOVERS.contains(handover.version) {
            return Err(bad(format!("it is version {}, and this build reads {HANDOVERS}", handover.version)));
        }
        let socket = |number| spawn::inherit(number).map(UnixListener::from);
        handover.sockets = Some((socket(handover.listener)?, socket(handover.view)?));
        Ok(handover)
    }

    /// The limit on open files that the first program of this process was given.
    pub(crate) fn given_open_files(&self) -> Limit {
        Limit { soft: self.given_open_files.0, hard: self.given_open_files.1 }
    }

    /// The sockets, open all the time.
    pub(crate) fn sockets(&mut self) -> Option<(UnixListener, UnixListener)> {
        self.sockets.take()
    }

    /// The slot's FIFO, if it is still the one on disk.
    pub(crate) fn fifo(&mut self, slot: &Slot) -> Option<OwnedFd> {
        let number = self.slots.get_mut(&slot.name)?.fifo.take()?;
        let file = File::from(spawn::inherit(number).ok()?);
        is_at(&file, &slot.directory.fifo()).then(|| file.into())
    }

    /// Gives a slot that was read from disk what only the process knew.
    pub(crate) fn remind(&mut self, slot: &mut Slot) {
        let Some(handed) = self.slots.remove(&slot.name) else { return };
        // A program of ours stays one: nobody but us waits for it.
        slot.adopted = handed.adopted;
        slot.last_main = slot.last_main.or(handed.last_main);
        slot.strays = handed.strays;
        slot.earliest_start = handed.earliest_start;
        if let (Some(sink), Some((bytes, error))) = (&mut slot.sink, handed.lost) {
            sink.go_on_losing(bytes, error);
        }
    }
}

impl Keeper {
    /// Becomes the program at `executable`; does not return if that works. Else everything is as before.
    pub(crate) fn upgrade(&mut self, executable: &Path) {
        let Err(error) = self.try_upgrade(executable);
        self.complain(&format!("it stays as it is and does not become {}: {error}", executable.display()));
        self.tell(Event::UpgradeRefused { error });
    }

    fn try_upgrade(&mut self, executable: &Path) -> Result<Infallible, String> {
        if !executable.is_absolute() {
            return Err("the path of the new program is not absolute".to_owned());
        }
        let is_half_done = |slot: &&Slot| {
            matches!(slot.phase, Phase::Starting { .. } | Phase::Ending { .. }) || slot.kill.is_some()
        };
        if let Some(slot) = self.slots.iter().flatten().find(is_half_done) {
            return Err(format!("slot {} is just starting or ending: ask again", slot.name));
        }
        self.try_out(executable)?;
        let file =
            self.write_handover().map_err(|error| format!("the handover cannot be written: {error}"))?;
        crash_point("upgrade.after-handover");
        let keep: Vec<BorrowedFd<'_>> =
            [self.lock.as_fd(), self.listener.as_fd(), self.observers.as_fd(), file.as_fd()]
                .into_iter()
                .chain(self.slots.iter().flatten().filter_map(|slot| slot.fifo.as_ref()).map(AsFd::as_fd))
                .collect();
        let arguments = self.arguments.words(self.lock.as_fd().as_raw_fd());
        let ours = |name: &OsString| name == HANDOVER_VARIABLE || name == VERSIONS_VARIABLE;
        let mut environment: Vec<(OsString, OsString)> =
            std::env::vars_os().filter(|(name, _)| !ours(name)).collect();
        environment.push((HANDOVER_VARIABLE.into(), file.as_raw_fd().to_string().into()));
        crash_point("upgrade.before-exec");
        let error = spawn::become_program(executable, &arguments, &environment, &keep);
        Err(format!("it cannot be executed: {error}"))
    }

    /// Runs the new program just to hear what it understands: one that cannot even say that must not get our children.
    fn try_out(&self, executable: &Path) -> Result<(), String> {
        let run_dir = self.directory.path().as_os_str().to_owned();
        let words = [executable.into(), "keep".into(), "--run-dir".into(), run_dir];
        let environment = [(VERSIONS_VARIABLE.into(), "1".into())];
        let answer =
            match spawn::run_with_deadline(&words, &environment, Path::new("/"), TRIAL_MAX, ANSWER_MAX) {
                ExecOutcome::Finished { status: WaitStatus::Code(0), output, .. } => output.bytes,
                ExecOutcome::Finished { status: WaitStatus::Code(code), .. } => {
                    return Err(format!("tried out, it ended with code {code}"));
                }
                ExecOutcome::Finished { status: WaitStatus::Signal { number, .. }, .. } => {
                    return Err(format!("tried out, it was ended by signal {number}"));
                }
                ExecOutcome::TimedOut { .. } => {
                    return Err(format!("tried out, it said nothing for {} s", TRIAL_MAX.as_secs()));
                }
                ExecOutcome::NotStarted { error } => return Err(format!("it cannot be run: {error}")),
            };
        let theirs: Announcement = serde_json::from_slice(&answer)
            .map_err(|error| format!("tried out, it did not answer as a keeper: {error}"))?;
        theirs.suits()
    }

    fn write_handover(&self) -> io::Result<File> {
        let slots = self.slots.iter().flatten().map(|slot| {
            let handed = HandedSlot {
                fifo: slot.fifo.as_ref().map(AsRawFd::as_raw_fd),
                adopted: slot.adopted,
                last_main: slot.last_main,
                strays: slot.strays.clone(),
                earliest_start: slot.earliest_start,
                lost: slot.sink.as_ref().and_then(super::sink::Sink::lost),
            };
            (slot.name.clone(), handed)
        });
        let handover = Handover {
            version: HANDOVERS.newest,
            upgrades: self.upgrades.saturating_add(1),
            listener: self.listener.as_raw_fd(),
            view: self.observers.as_fd().as_raw_fd(),
            given_open_files: (self.inherited_open_files.soft, self.inherited_open_files.hard),
            slots: slots.collect(),
            sockets: None,
        };
        let mut file = spawn::anonymous_file()?;
        file.write_all(&serde_json::to_vec(&handover)?)?;
        Ok(file)
    }

    /// The handover, with what became of it said where it is of no use.
    pub(crate) fn take_handover(remarks: &mut Vec<String>) -> Option<Handover> {
        match Handover::take()? {
            Ok(handover) => Some(handover),
            Err(error) => {
                let text = format!(
                    "what the keeper's former program left cannot be used: {}",
                    killing::chain(&error)
                );
                let _ = writeln!(io::stderr(), "keeper: {text}");
                remarks.push(text);
                None
            }
        }
    }
}

impl Announcement {
    /// Whether it can take over from us.
    fn suits(&self) -> Result<(), String> {
        let Self { program, .. } = self;
        if !self.handovers.contains(HANDOVERS.newest) {
            return Err(format!(
                "version {program} reads handovers {}, not {}",
                self.handovers, HANDOVERS.newest
            ));
        }
        if self.protocols.common(PROTOCOLS).is_none() {
            return Err(format!("version {program} speaks protocol {}, not {PROTOCOLS}", self.protocols));
        }
        for FormatVersions { record, versions } in slots::formats() {
            let theirs = self.formats.iter().find(|format| format.record == record);
            if !theirs.is_some_and(|theirs| theirs.versions.contains(versions.newest)) {
                return Err(format!("version {program} does not read `{record} {}`", versions.newest));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOMORROW: Versions = Versions { oldest: 8, newest: 9 };

    #[test]
    fn only_who_reads_what_we_write_may_take_over() {
        let ours = || Announcement {
            program: "2.0.0".to_owned(),
            protocols: PROTOCOLS,
            formats: slots::formats(),
            handovers: HANDOVERS,
        };
        assert_eq!(ours().suits(), Ok(()));
        for (change, word) in [
            ((|other| other.handovers = TOMORROW) as fn(&mut Announcement), "handovers"),
            (|other| other.protocols = TOMORROW, "protocol"),
            (|other| drop(other.formats.pop()), "horus-exit 1"),
            (|other| other.formats[1].versions = TOMORROW, "horus-gen 1"),
        ] {
            let mut other = ours();
            change(&mut other);
            let error = other.suits().unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
