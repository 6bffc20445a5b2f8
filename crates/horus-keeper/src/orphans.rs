//! What Horus does for its keeper: hold the FIFOs, so that last words survive the keeper's death, and reap what a
//! dead keeper left behind, so that exit statuses survive it too.

use crate::protocol::{Generation, SlotName};
use crate::slots::{ExitRecord, RunDirectory, StateRecord, Witness};
use horus_sys::files::PrivateDirError;
use horus_sys::{descriptors, pipe, process, reap};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Records how orphaned children of a dead keeper ended, then reaps them; also reaps the dead keeper and other
/// orphans. For the Horus process, which must be a subreaper, on each `SIGCHLD` and once after attaching. Children of
/// [`horus_sys::spawn`] are left to their waiters. Returns how many were reaped.
pub fn reap_orphans(run_dir: &Path) -> io::Result<usize> {
    let mut states = None;
    reap::take_orphans(|pid, status| {
        let states = states.get_or_insert_with(|| read_states(run_dir));
        let Some((directory, state)) = states.iter().find(|(_, state)| state.process.pid == pid) else {
            return true;
        };
        // A zombie keeps its pid, so a matching start time is the same process.
        if process::identify(pid).ok().flatten() != Some(state.process) {
            return true;
        }
        if matches!(directory.exit(state.generation), Ok(Some(_))) {
            return true;
        }
        let record = ExitRecord {
            generation: state.generation,
            process: state.process,
            status: status.into(),
            witness: Witness::Subreaper,
            // The next keeper looks at the group.
            out_of_memory: None,
        };
        // Unrecorded it stays a zombie, and the next call tries again.
        directory.write_exit(&record).is_ok()
    })
}

/// Writes down how a run ended that neither the keeper nor Horus was there to see, told by the kernel through a pidfd that the service
/// manager has kept. For Horus, before it attaches: the next keeper then finds it. False if there was nothing to write.
///
/// # Errors
/// If the records cannot be read or written.
pub fn record_exit(
    run_dir: &Path,
    slot: &SlotName,
    run: Generation,
    status: reap::WaitStatus,
) -> io::Result<bool> {
    let directory = RunDirectory::prepare(run_dir).map_err(io::Error::other)?.slot(slot);
    let Some(state) = directory.state()?.filter(|state| state.generation == run) else { return Ok(false) };
    if directory.exit(run)?.is_some() {
        return Ok(false);
    }
    let (process, status) = (state.process, status.into());
    let record =
        ExitRecord { generation: run, process, status, witness: Witness::Pidfd, out_of_memory: None };
    directory.write_exit(&record)?;
    Ok(true)
}

fn read_states(run_dir: &Path) -> Vec<(crate::slots::SlotDirectory, StateRecord)> {
    let Ok(directory) = RunDirectory::prepare(run_dir) else { return Vec::new() };
    let names = directory.slot_names().unwrap_or_default();
    names
        .iter()
        .map(|name| directory.slot(name))
        .filter_map(|slot| slot.state().ok().flatten().map(|state| (slot, state)))
        .collect()
}

/// FIFOs held open by Horus. Dropping it lets go.
#[derive(Debug, Default)]
pub struct FifoHold {
    held: BTreeMap<SlotName, File>,
    /// Those that could not be held at the last try.
    failed: BTreeSet<SlotName>,
}

impl FifoHold {
    /// Holds exactly these slots' FIFOs from now on: opens what is new, closes what is not asked for any more. A slot
    /// without a FIFO yet is skipped; call again when it has started. Returns the slots that cannot be held any more, each once.
    pub fn update(
        &mut self,
        run_dir: &Path,
        slots: &[SlotName],
    ) -> Result<Vec<(SlotName, io::Error)>, PrivateDirError> {
        let directory = RunDirectory::prepare(run_dir)?;
        self.failed.retain(|name| slots.contains(name));
        // A slot that was forgotten and started anew has another FIFO: hold that one.
        self.held.retain(|name, file| slots.contains(name) && is_at(file, &directory.slot(name).fifo()));
        let mut failed = Vec::new();
        for name in slots {
            if self.held.contains_key(name) {
                continue;
            }
            let path = directory.slot(name).fifo();
            let opened = if descriptors::are_scarce() { Err(scarce()) } else { pipe::open_reader(&path) };
            match opened {
                Ok(descriptor) => {
                    self.failed.remove(name);
                    self.held.insert(name.clone(), descriptor.into());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if self.failed.insert(name.clone()) => failed.push((name.clone(), error)),
                Err(_) => {}
            }
        }
        Ok(failed)
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = (&SlotName, &File)> {
        self.held.iter()
    }

    /// Goes on holding what an earlier program of this process has held, if that still is the slot's FIFO.
    pub fn take_over(&mut self, run_dir: &Path, slot: SlotName, fifo: OwnedFd) -> bool {
        let file = File::from(fifo);
        let is_it = RunDirectory::existing(run_dir)
            .is_ok_and(|directory| is_at(&file, &directory.slot(&slot).fifo()));
        if is_it {
            self.held.insert(slot, file);
        }
        is_it
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

/// What is left of the descriptors is for what cannot be done without.
fn scarce() -> io::Error {
    io::Error::other("too few descriptors are left (LimitNOFILE, ulimit -n)")
}

/// Whether the open file is the one at this path.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let place = |found: &Metadata| (found.dev(), found.ino());
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(named)) => place(&ours) == place(&named),
        _ => false,
    }
}

/// Holds the FIFOs of these slots; see [`FifoHold::update`].
pub fn hold_fifos(run_dir: &Path, slots: &[SlotName]) -> Result<FifoHold, PrivateDirError> {
    let mut hold = FifoHold::default();
    hold.update(run_dir, slots)?;
    Ok(hold)
}
