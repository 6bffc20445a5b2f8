//! What the keeper leaves on disk, for its own successor and for Horus.
//!
//! ```text
//!   RUN/                 0700
//!     keeper.lock        flock: its holder is the keeper (or the Horus that is starting it)
//!     keeper.sock        0600
//!     keeper-view.sock   0600; who connects gets one Hello and disturbs nobody
//!     keeper.log         the keeper's last words
//!     boot               in which boot the records of living programs were written
//!     slots/NAME/
//!       gen              newest generation and log settings; written before the fork
//!       state            who runs; written before the gate opens, removed after the exit record
//!       exit.GEN         how that run ended; written before the reap
//!       out              FIFO: the program's stdout and stderr
//! ```
//!
//! Every record is written by rename: a reader sees all of it or none. The first line names kind and version, the
//! second is JSON. A record that cannot be read is not taken as absent, since its program may live: see
//! `keeper/unreadable.rs`. Records of an earlier boot speak of nobody who lives, readable or not.

use crate::protocol::{Exclusive, ExitStatus, FormatVersions, Generation, LogSpec, OutOfMemory, Versions};
use horus_sys::cgroup_limits::GroupCounts;
use horus_sys::files::{self, Durability, PrivateDirError};
use horus_sys::process::ProcessId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One kind of record. A new field needs no new version: unknown ones are skipped, missing ones have defaults. A change of
/// meaning does, and then the version before stays readable: see `docs/design/004-keeper-versions.md`.
#[derive(Debug, Clone, Copy)]
struct Format {
    kind: &'static str,
    versions: Versions,
}

const BOOT: Format = Format { kind: "horus-boot", versions: Versions { oldest: 1, newest: 1 } };
const GENERATION: Format = Format { kind: "horus-gen", versions: Versions { oldest: 1, newest: 1 } };
const STATE: Format = Format { kind: "horus-state", versions: Versions { oldest: 1, newest: 1 } };
const EXIT: Format = Format { kind: "horus-exit", versions: Versions { oldest: 1, newest: 1 } };

/// The records that this build reads.
pub fn formats() -> Vec<FormatVersions> {
    let known = [BOOT, GENERATION, STATE, EXIT];
    known.map(|Format { kind, versions }| FormatVersions { record: kind.to_owned(), versions }).to_vec()
}

/// Longest record that is read, in bytes.
const MAX_RECORD: usize = 64 * 1024;
/// Most characters of an explanation of what is wrong with a record.
const MAX_FAULT: usize = 300;
/// Longest slot name, in bytes.
pub const MAX_NAME: usize = 64;
/// Exit records kept per slot.
pub const KEEP_EXIT_RECORDS: u64 = 16;
/// The environment variable that marks whose child a process is: `NAME/GENERATION`.
pub const SLOT_VARIABLE: &str = "HORUS_SLOT";
/// How often a program has to beat, as systemd tells it.
pub(crate) const WATCHDOG_VARIABLE: &str = "WATCHDOG_USEC";
/// Which process is meant by it.
pub(crate) const WATCHDOG_PID_VARIABLE: &str = "WATCHDOG_PID";
/// The environment variable that marks which Horus: the run directory.
pub const RUN_VARIABLE: &str = "HORUS_RUN";

/// The name of a slot: `[a-z0-9_-]{1,64}`, so it can be a file name, a cgroup name and a word in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SlotName(String);

/// A text that is no slot name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a slot name: 1 to 64 of a-z, 0-9, _ and -", .0.escape_default())]
pub struct BadSlotName(String);

impl SlotName {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SlotName {
    type Error = BadSlotName;
    fn try_from(mut name: String) -> Result<Self, BadSlotName> {
        let fits =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(fits) {
            return Ok(Self(name));
        }
        name.truncate(name.char_indices().nth(MAX_NAME).map_or(name.len(), |(at, _)| at));
        Err(BadSlotName(name))
    }
}

impl TryFrom<&str> for SlotName {
    type Error = BadSlotName;
    fn try_from(name: &str) -> Result<Self, BadSlotName> {
        Self::try_from(name.to_owned())
    }
}

impl From<SlotName> for String {
    fn from(name: SlotName) -> Self {
        name.0
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The run directory of one Horus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// Makes it, private, if it is not there. The path is made absolute and free of symbolic links: it is also the
    /// mark by which strays are recognised.
    pub fn prepare(path: &Path) -> Result<Self, PrivateDirError> {
        files::ensure_private_dir(path)?;
        let io_error = |source| PrivateDirError::Io { path: path.to_owned(), source };
        let directory = Self { path: fs::canonicalize(path).map_err(io_error)? };
        files::ensure_private_dir(&directory.slots())?;
        Ok(directory)
    }

    /// One that is there already: nothing is made or mended.
    pub fn existing(path: &Path) -> io::Result<Self> {
        fs::canonicalize(path).map(|path| Self { path })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// The lock.
    pub fn lock(&self) -> PathBuf {
        self.path.join("keeper.lock")
    }
    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.path.join("keeper.sock")
    }
    /// The socket at which anybody of the same user gets a Hello, and nothing else.
    pub fn view_socket(&self) -> PathBuf {
        self.path.join("keeper-view.sock")
    }
    /// Where the keeper's own errors go.
    pub fn log(&self) -> PathBuf {
        self.path.join("keeper.log")
    }
    /// The boot record.
    fn boot(&self) -> PathBuf {
        self.path.join("boot")
    }
    /// The boot in which a keeper last began here; `None` if nobody says so readably.
    pub fn boot_id(&self) -> Option<String> {
        read(&self.boot(), BOOT).ok().flatten().map(|BootRecord { boot_id }| boot_id)
    }
    /// Writes that down, so that it outlasts a power cut: it is what tells the records of an earlier boot.
    pub fn write_boot_id(&self, boot_id: &str) -> io::Result<()> {
        let record = BootRecord { boot_id: boot_id.to_owned() };
        write_lasting(&self.boot(), BOOT, &record, Durability::PowerLoss)
    }
    /// Where the slots are.
    pub fn slots(&self) -> PathBuf {
        self.path.join("slots")
    }

    /// One slot.
    pub fn slot(&self, name: &SlotName) -> SlotDirectory {
        SlotDirectory { path: self.slots().join(name.as_str()) }
    }

    /// The names of all slots on disk, sorted. What is no slot name is skipped.
    pub fn slot_names(&self) -> io::Result<Vec<SlotName>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.slots())? {
            if let Some(name) = entry?.file_name().to_str().and_then(|name| SlotName::try_from(name).ok()) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

/// The directory of one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotDirectory {
    path: PathBuf,
}

/// `boot`: in which boot the records beside it were written.
#[derive(Debug, Serialize, Deserialize)]
struct BootRecord {
    boot_id: String,
}

/// `gen`: which run is the newest, and where output goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRecord {
    /// The newest run.
    pub generation: Generation,
    /// Its log settings: strays of an ended run still write.
    pub log: LogSpec,
    /// The control group it was started in: the next keeper may have another home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
    /// What it holds: the next keeper takes these locks again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclusive: Vec<Exclusive>,
    /// What its group had counted before it was started: the next keeper tells by it what became of this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<GroupCounts>,
}

/// `state`: who runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateRecord {
    /// Which run.
    pub generation: Generation,
    /// Its main process.
    pub process: ProcessId,
    /// The boot in which pid and start time mean something.
    pub boot_id: String,
}

/// `exit.GEN`: how a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Which run.
    pub generation: Generation,
    /// Its main process.
    pub process: ProcessId,
    /// How.
    pub status: ExitStatus,
    /// Who saw it.
    pub witness: Witness,
    /// The kernel killed it for want of memory; `None` also if nobody knew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_of_memory: Option<OutOfMemory>,
}

/// Who learned how a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Witness {
    /// The keeper, as its parent.
    Keeper,
    /// Horus, as the reaper of a dead keeper's children.
    Subreaper,
    /// The kernel, asked through a pidfd after the reap.
    Pidfd,
    /// Nobody: the status is unknown.
    Nobody,
}

impl SlotDirectory {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// The FIFO.
    pub fn fifo(&self) -> PathBuf {
        self.path.join("out")
    }

    fn exit_path(&self, generation: Generation) -> PathBuf {
        self.path.join(format!("exit.{generation}"))
    }

    /// Reads `gen`.
    pub fn generation(&self) -> io::Result<Option<GenerationRecord>> {
        read(&self.path.join("gen"), GENERATION)
    }
    /// Writes `gen`.
    pub fn write_generation(&self, record: &GenerationRecord) -> io::Result<()> {
        write(&self.path.join("gen"), GENERATION, record)
    }
    /// Reads `state`.
    pub fn state(&self) -> io::Result<Option<StateRecord>> {
        read(&self.path.join("state"), STATE)
    }
    /// Writes `state`.
    pub fn write_state(&self, record: &StateRecord) -> io::Result<()> {
        write(&self.path.join("state"), STATE, record)
    }
    /// Removes `state`; it is fine if there is none.
    pub fn remove_state(&self) -> io::Result<()> {
        absent_is_fine(fs::remove_file(self.path.join("state")))
    }
    /// Reads the exit record of a run.
    pub fn exit(&self, generation: Generation) -> io::Result<Option<ExitRecord>> {
        read(&self.exit_path(generation), EXIT)
    }
    /// Writes an exit record and drops the one that is now too old.
    pub fn write_exit(&self, record: &ExitRecord) -> io::Result<()> {
        write(&self.exit_path(record.generation), EXIT, record)?;
        match record.generation.0.checked_sub(KEEP_EXIT_RECORDS) {
            Some(old) => absent_is_fine(fs::remove_file(self.exit_path(Generation(old)))),
            None => Ok(()),
        }
    }
    /// Takes the record of a living program away, and puts what cannot be read aside under the name `NAME.bad`, for a
    /// person to look at. Only for who knows that nobody lives.
    pub fn set_aside(&self) -> io::Result<()> {
        let aside = |name: &str| {
            absent_is_fine(fs::rename(self.path.join(name), self.path.join(format!("{name}.bad"))))
        };
        if self.generation().is_err() {
            aside("gen")?;
        }
        if self.state().is_err() { aside("state") } else { self.remove_state() }
    }
    /// The newest run that anything here speaks of: runs are counted upwards for ever, whatever cannot be read.
    pub fn newest_run(&self) -> Generation {
        let by_record = self.generation().ok().flatten().map(|record| record.generation);
        let by_state = self.state().ok().flatten().map(|record| record.generation);
        let by_exit = fs::read_dir(&self.path).into_iter().flatten().flatten().filter_map(|entry| {
            entry.file_name().to_str()?.strip_prefix("exit.")?.parse().ok().map(Generation)
        });
        by_exit.chain(by_record).chain(by_state).max().unwrap_or_default()
    }
    /// Removes the slot and all its records.
    pub fn remove(&self) -> io::Result<()> {
        absent_is_fine(fs::remove_dir_all(&self.path))
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn write<T: Serialize>(path: &Path, format: Format, record: &T) -> io::Result<()> {
    write_lasting(path, format, record, Durability::ThisBoot)
}

fn write_lasting<T: Serialize>(
    path: &Path,
    format: Format,
    record: &T,
    lasting: Durability,
) -> io::Result<()> {
    let json = serde_json::to_string(record)?;
    let Format { kind, versions: Versions { newest, .. } } = format;
    files::write_atomic(path, format!("{kind} {newest}\n{json}\n").as_bytes(), lasting)
}

fn read<T: DeserializeOwned>(path: &Path, format: Format) -> io::Result<Option<T>> {
    let content = match files::read_limited(path, MAX_RECORD) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Err(bad(path, &error.to_string()))?,
        result => result?,
    };
    let text = String::from_utf8(content).map_err(|_| bad(path, "not text"))?;
    let (head, json) = text.split_once('\n').ok_or_else(|| bad(path, "cut short"))?;
    let Format { kind, versions } = format;
    let version = head.strip_prefix(kind).and_then(|rest| rest.strip_prefix(' '));
    match version.map(str::parse) {
        Some(Ok(version)) if versions.contains(version) => {}
        Some(Ok(version)) => {
            return Err(bad(path, &format!("it is version {version}, and this build reads {versions}")));
        }
        Some(Err(_)) | None => {
            return Err(bad(path, &format!("expected `{kind} {versions}`, found `{head}`")));
        }
    }
    serde_json::from_str(json).map(Some).map_err(|error| bad(path, &error.to_string()))
}

/// What the file says may be quoted in what is wrong with it: nothing of it reaches a terminal unescaped.
fn bad(path: &Path, what: &str) -> io::Error {
    let what: String = what.chars().take(MAX_FAULT).flat_map(char::escape_default).collect();
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_slot_names() {
        for good in ["a", "bot-1", "x_y", &"n".repeat(64)] {
            assert!(SlotName::try_from(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "A", "é", "a b", "a\0", "a\n", &"n".repeat(65)] {
            assert!(SlotName::try_from(bad).is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<SlotName>("\"../x\"").is_err());
    }

    #[test]
    fn a_reader_of_two_versions_takes_both_and_writes_the_newest() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("boot");
        let grown = Format { kind: "horus-boot", versions: Versions { oldest: 1, newest: 2 } };
        write(&path, BOOT, &BootRecord { boot_id: "b".to_owned() }).unwrap();
        assert_eq!(read::<BootRecord>(&path, grown).unwrap().unwrap().boot_id, "b");
        write(&path, grown, &BootRecord { boot_id: "c".to_owned() }).unwrap();
        assert_eq!(read::<BootRecord>(&path, grown).unwrap().unwrap().boot_id, "c");
        let said = read::<BootRecord>(&path, BOOT).unwrap_err().to_string();
        assert!(said.ends_with("boot: it is version 2, and this build reads 1"), "{said}");
    }

    #[test]
    fn records_come_back_and_a_strange_one_is_an_error_not_a_guess() {
        let scratch = tempfile::tempdir().unwrap();
        let run = RunDirectory::prepare(&scratch.path().join("run")).unwrap();
        let slot = run.slot(&SlotName::try_from("bot").unwrap());
        files::ensure_private_dir(slot.path()).unwrap();
        assert_eq!(slot.state().unwrap(), None);
        let process = ProcessId { pid: 7, start_time: 9 };
        let state = StateRecord { generation: Generation(3), process, boot_id: "b".to_owned() };
        slot.write_state(&state).unwrap();
        assert_eq!(slot.state().unwrap(), Some(state));
        for strange in ["", "horus-state 2\n{}\n", "horus-state 1\n{", "horus-gen 1\n{}\n"] {
            files::write_atomic(&slot.path().join("state"), strange.as_bytes(), Durability::ThisBoot)
                .unwrap();
            assert!(slot.state().is_err(), "{strange:?}");
        }
        let unprintable = format!("horus-exit 1\n{{\"\u{1b}]0;{}\":1}}\n", "long".repeat(999));
        files::write_atomic(&slot.path().join("exit.1"), unprintable.as_bytes(), Durability::ThisBoot)
            .unwrap();
        let said = slot.exit(Generation(1)).unwrap_err().to_string();
        assert!(!said.contains(char::is_control) && said.len() < 1000, "{said:?}");
        slot.remove_state().unwrap();
        slot.remove_state().unwrap();
        for generation in 1..=20 {
            let status = ExitStatus::Code(0);
            let (generation, witness) = (Generation(generation), Witness::Keeper);
            let record = ExitRecord { generation, process, status, witness, out_of_memory: None };
            slot.write_exit(&record).unwrap();
        }
        assert_eq!(slot.exit(Generation(4)).unwrap(), None);
        assert!(slot.exit(Generation(5)).unwrap().is_some());
        assert_eq!(run.slot_names().unwrap().len(), 1);
    }
}
