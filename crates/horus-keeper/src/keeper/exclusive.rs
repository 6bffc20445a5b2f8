//! What only one slot of the machine may hold at a time, whichever keeper it belongs to.
//!
//! ```text
//!   flock, all or none -> read the note -> does its holder live? -> write ours -> fork -> note its pid -> gate -> ... -> tree gone
//! ```
//!
//! While a keeper lives, its `flock` is the truth: it falls when the last process of the tree was seen gone, and not before.
//! A dead keeper holds nothing, and its children go on; then the note is the truth. It names boot, process, slot and run
//! directory, so whoever gets the lock of a dead keeper looks for that process, for its cgroup and for anybody who bears
//! its marks, and lets go of the lock while one of them lives. The next keeper of that run directory takes the lock again
//! when it adopts the program; so does the same process after it became another program, as locks do not pass an `exec`.
//!
//! Where a lock may fall too early: both are dead, the main process has ended, and what it left behind wiped its
//! environment and has no cgroup; or somebody removed the lock file of a living holder.

use crate::keeper::Keeper;
use crate::keeper::slot::Slot;
use crate::keeper::starting::Refusal;
use crate::keeper::tree;
use crate::protocol::{Exclusive, MAX_EXCLUSIVE, SlotName, StartStep};
use horus_sys::cgroup::Cgroup;
use horus_sys::process::{self, ProcessId};
use horus_sys::{clock, files, lock};
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The first word and version of a note. Another version is not understood, and then nobody is taken for gone.
const NOTE_HEAD: &str = "horus-exclusive 1";
/// Longest note that is read, in bytes.
const MAX_NOTE: usize = 16 * 1024;
/// How often a lock is asked for that an adopted program ought to hold.
const RECLAIM_EVERY: Duration = Duration::from_millis(500);
/// After so many tries in vain a person is told.
const RECLAIMS_BEFORE_TOLD: u32 = 10;

/// Who holds a lock, for whoever finds it free although it is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    key: String,
    slot: SlotName,
    run_directory: PathBuf,
    boot_id: String,
    keeper: i32,
    /// The Horus it serves at the moment.
    #[serde(default)]
    horus: Option<i32>,
    /// The main process, once there is one.
    #[serde(default)]
    process: Option<ProcessId>,
    #[serde(default)]
    cgroup: Option<PathBuf>,
}

impl Note {
    fn holder(&self) -> String {
        match self.horus {
            Some(pid) => format!("service {} of horus pid {pid}", self.slot),
            None => format!("service {} of the keeper pid {}", self.slot, self.keeper),
        }
    }
}

/// A lock that is held.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
    note: Note,
}

impl Lock {
    fn sign(&self) -> io::Result<()> {
        let text = format!("{NOTE_HEAD}\n{}\n", serde_json::to_string(&self.note)?);
        self.file.write_all_at(text.as_bytes(), 0)?;
        self.file.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))
    }

    /// Gives it up: nobody of the tree lives.
    fn release(self) {
        // A note that stays is harmless: whoever it names is gone.
        let _ = self.file.set_len(0);
    }
}

/// Locks that an adopted program ought to hold and does not yet.
#[derive(Debug)]
pub(crate) struct Owed {
    locks: Vec<Exclusive>,
    process: ProcessId,
    tries: u32,
    pub(crate) next: Duration,
}

impl Owed {
    pub(crate) fn new(locks: Vec<Exclusive>, process: ProcessId) -> Self {
        Self { locks, process, tries: 0, next: Duration::ZERO }
    }
}

/// A try for one lock.
enum Tried {
    Ours(File),
    /// Whose note it bears, if that can be read.
    Busy(Option<Note>),
}

impl Keeper {
    /// Takes all locks of a slot, or none.
    pub(crate) fn take_locks(&mut self, index: usize, wanted: &[Exclusive]) -> Result<(), Refusal> {
        if wanted.len() > MAX_EXCLUSIVE {
            let error = format!("more than {MAX_EXCLUSIVE} exclusive locks");
            return Err(Refusal::new(StartStep::Request, error));
        }
        self.release_locks(index);
        let mut locks: Vec<Lock> = Vec::new();
        for exclusive in wanted {
            if locks.iter().any(|lock| lock.note.key == exclusive.key) {
                continue;
            }
            match self.take_lock(index, exclusive) {
                Ok(lock) => locks.push(lock),
                Err(refusal) => {
                    locks.into_iter().for_each(Lock::release);
                    return Err(refusal);
                }
            }
        }
        if let Some(slot) = self.slot_mut(index) {
            slot.locks = locks;
        }
        Ok(())
    }

    fn take_lock(&mut self, index: usize, exclusive: &Exclusive) -> Result<Lock, Refusal> {
        let failed = |error: &dyn std::fmt::Display| {
            let text = format!("lock {} of {}: {error}", exclusive.lock.display(), exclusive.key);
            Refusal::new(StartStep::Record, text)
        };
        let blocked = |holder| Refusal::Blocked { key: exclusive.key.clone(), holder };
        let file = match attempt(&exclusive.lock).map_err(|error| failed(&error))? {
            Tried::Ours(file) => file,
            Tried::Busy(note) => {
                let somebody = || "somebody who has not said who it is".to_owned();
                return Err(blocked(note.map_or_else(somebody, |note| note.holder())));
            }
        };
        let left = read_note(&file).map_err(|error| {
            let path = exclusive.lock.display();
            blocked(format!("somebody whose note cannot be read ({error}); if nobody uses it, remove {path}"))
        })?;
        if let Some(left) = left
            && let Some(survivor) = self.survivor(index, &left)
        {
            return Err(blocked(format!("{}, which is gone; {survivor} is not", left.holder())));
        }
        let note = self.note(index, exclusive, None).ok_or_else(|| failed(&"the slot vanished"))?;
        let lock = Lock { file, path: exclusive.lock.clone(), note };
        lock.sign().map_err(|error| failed(&error))?;
        Ok(lock)
    }

    /// Who lives of a holder whose keeper is gone. Nobody of our own slot: that one is known better than by a note.
    fn survivor(&mut self, index: usize, left: &Note) -> Option<String> {
        let ours = self.slot(index).is_some_and(|slot| slot.name == left.slot)
            && self.directory.path() == left.run_directory;
        if ours || left.boot_id != self.boot_id {
            return None;
        }
        if let Some(main) = left.process.filter(process::is_alive) {
            return Some(format!("its process {}", main.pid));
        }
        let cgroup = left.cgroup.as_deref().map(Cgroup::existing);
        if let Some(cgroup) = cgroup.filter(|cgroup| cgroup.is_populated().unwrap_or(false)) {
            return Some(format!("somebody in its cgroup {}", cgroup.path().display()));
        }
        // A holder that never got as far as a process has left nobody.
        left.process?;
        let table = self.read_table()?;
        let bears_marks = |pid: i32| tree::marked_run(pid, &left.slot, &left.run_directory).is_some();
        let found = table.rows().iter().find(|row| !row.is_gone() && bears_marks(row.id.pid));
        found.map(|row| format!("its process {}", row.id.pid))
    }

    fn note(&self, index: usize, exclusive: &Exclusive, process: Option<ProcessId>) -> Option<Note> {
        let slot = self.slot(index)?;
        Some(Note {
            key: exclusive.key.clone(),
            slot: slot.name.clone(),
            run_directory: self.directory.path().to_owned(),
            boot_id: self.boot_id.clone(),
            keeper: self.me.pid,
            horus: self.client.as_ref().map(|client| client.pid),
            process,
            cgroup: slot.cgroup.as_ref().map(|cgroup| cgroup.path().to_owned()),
        })
    }

    /// Writes the child's pid into the notes. Without that a lock would not outlive us, so the child must not run.
    pub(crate) fn sign_locks(&mut self, index: usize, process: ProcessId) -> io::Result<()> {
        let Some(slot) = self.slot_mut(index) else { return Ok(()) };
        let cgroup = slot.cgroup.as_ref().map(|cgroup| cgroup.path().to_owned());
        slot.locks.iter_mut().try_for_each(|lock| {
            lock.note.process = Some(process);
            lock.note.cgroup.clone_from(&cgroup);
            lock.sign()
        })
    }

    /// Another Horus is served now: whoever waits for a lock of ours should be told of that one.
    pub(crate) fn name_client_in_locks(&mut self) {
        let horus = self.client.as_ref().map(|client| client.pid);
        for lock in self.slots.iter_mut().flatten().flat_map(|slot| &mut slot.locks) {
            lock.note.horus = horus;
            let _ = lock.sign();
        }
    }

    /// Nobody of the slot lives: what it held is free.
    pub(crate) fn release_locks(&mut self, index: usize) {
        let Some(slot) = self.slot_mut(index) else { return };
        slot.owed = None;
        std::mem::take(&mut slot.locks).into_iter().for_each(Lock::release);
    }

    /// Takes the locks of an adopted program again. Somebody may have one of them for an instant, to see that it lives.
    pub(crate) fn reclaim_locks(&mut self, index: usize) {
        let Some(mut owed) = self.slot_mut(index).and_then(|slot| slot.owed.take()) else { return };
        let mut left = Vec::new();
        for exclusive in std::mem::take(&mut owed.locks) {
            match self.reclaim(index, &exclusive, owed.process) {
                Ok(lock) => {
                    if let Some(slot) = self.slot_mut(index) {
                        slot.locks.push(lock);
                    }
                }
                Err(error) => {
                    if owed.tries == RECLAIMS_BEFORE_TOLD {
                        self.degraded(
                            index,
                            &format!("it runs without its lock on {}: {error}", exclusive.key),
                        );
                    }
                    left.push(exclusive);
                }
            }
        }
        if left.is_empty() {
            return;
        }
        owed.locks = left;
        owed.tries = owed.tries.saturating_add(1);
        owed.next = clock::monotonic() + RECLAIM_EVERY;
        if let Some(slot) = self.slot_mut(index) {
            slot.owed = Some(owed);
        }
    }

    fn reclaim(&self, index: usize, exclusive: &Exclusive, process: ProcessId) -> Result<Lock, String> {
        let file = match attempt(&exclusive.lock).map_err(|error| error.to_string())? {
            Tried::Ours(file) => file,
            Tried::Busy(note) => {
                return Err(note.map_or_else(|| "somebody has it".to_owned(), |note| note.holder()));
            }
        };
        let note = self.note(index, exclusive, Some(process)).ok_or("the slot vanished")?;
        let lock = Lock { file, path: exclusive.lock.clone(), note };
        lock.sign().map_err(|error| error.to_string())?;
        Ok(lock)
    }
}

impl Slot {
    /// What it holds, or ought to hold.
    pub(crate) fn exclusive(&self) -> Vec<Exclusive> {
        let held = |lock: &Lock| Exclusive { key: lock.note.key.clone(), lock: lock.path.clone() };
        let owed = self.owed.iter().flat_map(|owed| owed.locks.iter().cloned());
        self.locks.iter().map(held).chain(owed).collect()
    }

    /// An adopted program runs: these locks are its own.
    pub(crate) fn owe_locks(&mut self, locks: Vec<Exclusive>) {
        self.owed = self.main().filter(|_| !locks.is_empty()).map(|main| Owed::new(locks, main));
    }
}

fn attempt(path: &Path) -> io::Result<Tried> {
    if let Some(directory) = path.parent() {
        files::ensure_private_dir(directory).map_err(io::Error::other)?;
    }
    let file = lock::open_lock_file(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Tried::Busy(read_note(&file).ok().flatten())),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let (ours, named) = (file.metadata()?, std::fs::metadata(path)?);
    if (ours.dev(), ours.ino()) != (named.dev(), named.ino()) {
        // Removed and made anew between open and lock: somebody else may have that one.
        return Ok(Tried::Busy(None));
    }
    Ok(Tried::Ours(file))
}

/// The note in a lock file; `None` if nobody has left one.
fn read_note(file: &File) -> io::Result<Option<Note>> {
    let mut bytes = vec![0; MAX_NOTE];
    let length = file.read_at(&mut bytes, 0)?;
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let text = std::str::from_utf8(bytes.get(..length).unwrap_or_default()).map_err(|_| bad("not text"))?;
    if text.is_empty() {
        return Ok(None);
    }
    // Written over a longer one and not yet cut: what is left of that one stands behind.
    let mut lines = text.split('\n');
    if lines.next() != Some(NOTE_HEAD) {
        return Err(bad("of another version"));
    }
    serde_json::from_str(lines.next().unwrap_or_default()).map(Some).map_err(|_| bad("cut short"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = concat!(
        "horus-exclusive 1\n",
        r#"{"key":"repo:/srv/app","slot":"web","run_directory":"/run/horus","boot_id":"b","keeper":12,"horus":4711,"#,
        r#""process":{"pid":13,"start_time":977},"cgroup":null}"#,
        "\n"
    );

    fn note() -> Note {
        Note {
            key: "repo:/srv/app".to_owned(),
            slot: SlotName::try_from("web").unwrap(),
            run_directory: "/run/horus".into(),
            boot_id: "b".to_owned(),
            keeper: 12,
            horus: Some(4711),
            process: Some(ProcessId { pid: 13, start_time: 977 }),
            cgroup: None,
        }
    }

    #[test]
    fn a_note_is_written_as_it_was_ever_read() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("lock");
        let Ok(Tried::Ours(file)) = attempt(&path) else { panic!("the lock is free") };
        file.write_all_at(&[b'x'; 900], 0).unwrap();
        let lock = Lock { file, path: path.clone(), note: note() };
        lock.sign().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), GOLDEN);
        assert_eq!(read_note(&lock.file).unwrap(), Some(note()));
        let Ok(Tried::Busy(Some(found))) = attempt(&path) else { panic!("the lock is held") };
        assert_eq!(found.holder(), "service web of horus pid 4711");
        lock.release();
        let Ok(Tried::Ours(file)) = attempt(&path) else { panic!("the lock is free again") };
        assert_eq!(read_note(&file).unwrap(), None);
        file.write_all_at(b"horus-exclusive 2\n{}\n", 0).unwrap();
        assert!(read_note(&file).is_err(), "a note of tomorrow is not taken for none");
    }
}
