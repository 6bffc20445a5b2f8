//! The ends that neither Horus nor its keeper is there to see, and the words that would be lost with them.
//!
//! A process whose keeper was killed is a child of Horus; if that was killed too, of init, for good. So each run has a pidfd here, by
//! which the kernel tells how it ended even if others have reaped it; while there is no keeper they are asked, and what they tell is
//! written down ([`horus_keeper::record_exit`]) for the next keeper. And because Horus dies as well, systemd keeps copies in its fd
//! store, and of each FIFO, so that last words are not lost with their last reader:
//!
//! ```text
//!   FDNAME=fifo.SLOT               as long as there is the service
//!   FDNAME=run.GENERATION.SLOT     as long as the run lasts
//! ```
//!
//! It hands all of them to the next Horus. Without systemd (and on macOS) all that is known only while one of the two lives.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use horus_core::ids::{Instance, ServiceName};
use horus_keeper::FifoHold;
use horus_keeper::protocol::{Generation, SlotName};
use horus_sys::process::{Handle, ProcessId};
use horus_sys::{clock, descriptors, passed, process};

use super::owner::slot_of;
use super::systemd::Manager;

const FIFO: &str = "fifo.";
const RUN: &str = "run.";

/// So many changes wait for a manager that does not listen. Each says all that is to be kept, so that one that found no room is made
/// up for by the next.
const CHANGES_MAX: usize = 16;

/// After so many refusals in a row a life gives up: the manager has no room, or allows none.
const REFUSALS_MAX: u32 = 16;

/// How often pidfds are asked while nobody else can know how their processes end.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// A keeper waits at least so long for what we know before it calls an end unknown.
const ASK_ON: Duration = Duration::from_millis(400);

/// Speaks to the thread that does it: the judge waits for nobody.
#[derive(Debug)]
pub(super) struct FdStore {
    changes: SyncSender<Change>,
}

#[derive(Debug)]
enum Change {
    /// All that is to be kept from now on; there is a keeper.
    Keep { slots: Vec<SlotName>, runs: BTreeMap<String, ProcessId> },
    /// There is no keeper.
    Alone,
}

impl FdStore {
    /// Takes over what was kept, and writes down how runs ended in the meantime, before there is a keeper that would call it unknown.
    /// After an upgrade (`upgraded`) nothing is handed back; it only stays kept.
    ///
    /// # Errors
    /// If no thread is to be had.
    pub(super) fn wake(manager: &'static Manager, run_directory: &Path, upgraded: bool) -> io::Result<Self> {
        let (mut kept, mut runs) = (BTreeMap::new(), BTreeMap::new());
        for (name, descriptor) in passed::take() {
            kept.extend(place(descriptor.as_fd()).map(|place| (name.clone(), place)));
            if name.starts_with(RUN) {
                runs.insert(name, descriptor);
            }
        }
        if !kept.is_empty() {
            tracing::info!(descriptors = kept.len(), "the service manager has kept descriptors for us");
        }
        let run_directory = run_directory.to_owned();
        let fifos = FifoHold::default();
        let mut room = Room { manager, run_directory, fifos, runs, kept, upgraded, refusals: 0, alone: None };
        room.ask_all();
        let (changes, heard) = mpsc::sync_channel(CHANGES_MAX);
        std::thread::Builder::new().name("horus-fd-store".into()).spawn(move || room.run(&heard))?;
        Ok(Self { changes })
    }

    /// From now on the FIFOs of these slots are kept, and these runs.
    pub(super) fn follow(&self, slots: &[SlotName], processes: &BTreeMap<ServiceName, Instance>) {
        let run = |(service, instance): (&ServiceName, &Instance)| {
            let process = ProcessId { pid: instance.process.pid, start_time: instance.process.start_time };
            Some((format!("{RUN}{}.{}", instance.generation.0, slot_of(service)?), process))
        };
        self.say(Change::Keep { slots: slots.to_vec(), runs: processes.iter().filter_map(run).collect() });
    }

    /// There is no keeper: its duty to see how runs end is ours.
    pub(super) fn keeper_lost(&self) {
        self.say(Change::Alone);
    }

    fn say(&self, change: Change) {
        if self.changes.try_send(change).is_err() {
            tracing::warn!("the service manager does not take descriptors: ends may stay unknown");
        }
    }
}

/// The thread's own.
struct Room {
    manager: &'static Manager,
    run_directory: PathBuf,
    fifos: FifoHold,
    /// The pidfd of each run whose end is not known yet.
    runs: BTreeMap<String, OwnedFd>,
    /// What the manager keeps, by name, and which file it is.
    kept: BTreeMap<String, Place>,
    /// The program before us in this process had things kept of which we do not know.
    upgraded: bool,
    refusals: u32,
    /// Until then, runs are asked again and again. `None`: until there is a keeper.
    alone: Option<Duration>,
}

/// Which file a descriptor means.
type Place = (u64, u64);

impl Room {
    fn run(mut self, changes: &Receiver<Change>) {
        loop {
            let asks = self.alone.is_none_or(|until| clock::monotonic() < until);
            let change = if asks {
                changes.recv_timeout(ASK_EVERY)
            } else {
                changes.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match change {
                Ok(Change::Alone) => self.alone = None,
                Ok(Change::Keep { slots, runs }) => {
                    if self.alone.is_none() {
                        self.alone = Some(clock::monotonic() + ASK_ON);
                    }
                    self.ask_all();
                    self.follow(&slots, &runs);
                }
                Err(RecvTimeoutError::Timeout) => self.ask_all(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Writes down the ends that the kernel knows by now.
    fn ask_all(&mut self) {
        let run_directory = &self.run_directory;
        self.runs.retain(|name, pidfd| {
            let Some((slot, run)) = run_named(name) else { return false };
            let Some(status) = process::status_of(pidfd.as_fd()) else { return true };
            match horus_keeper::record_exit(run_directory, &slot, run, status) {
                Ok(true) => tracing::info!(%slot, "ended while no keeper was there; the kernel knows how"),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%slot, %error, "how it ended is known and cannot be written down")
                }
            }
            false
        });
    }

    fn follow(&mut self, slots: &[SlotName], runs: &BTreeMap<String, ProcessId>) {
        self.runs.retain(|name, _| runs.contains_key(name));
        for (name, process) in runs {
            if !self.runs.contains_key(name)
                && !descriptors::are_scarce()
                && let Some(pidfd) = Handle::open(*process).ok().flatten().and_then(Handle::into_descriptor)
            {
                self.runs.insert(name.clone(), pidfd);
            }
        }
        if self.manager.keeps() {
            self.keep_all(slots, runs);
        }
    }

    fn keep_all(&mut self, slots: &[SlotName], runs: &BTreeMap<String, ProcessId>) {
        // What cannot be opened is told by the judge, who holds the same.
        drop(self.fifos.update(&self.run_directory, slots));
        let fifos = self.fifos.iter();
        let fifos: BTreeMap<String, BorrowedFd<'_>> =
            fifos.map(|(slot, fifo)| (format!("{FIFO}{slot}"), fifo.as_fd())).collect();
        let manager = self.manager;
        self.kept.retain(|name, kept| {
            let stays = match fifos.get(name) {
                Some(fifo) => place(*fifo).is_none_or(|there| there == *kept),
                None => runs.contains_key(name),
            };
            stays || !manager.forget(name)
        });
        let pidfds = self.runs.iter().map(|(name, pidfd)| (name.clone(), pidfd.as_fd()));
        let new = fifos.into_iter().chain(pidfds).filter(|(name, _)| !self.kept.contains_key(name));
        // A copy of each, since what is kept is written down meanwhile.
        let new: Vec<(String, OwnedFd)> = new
            .filter_map(|(name, descriptor)| Some((name, descriptor.try_clone_to_owned().ok()?)))
            .collect();
        for (name, descriptor) in new {
            if self.refusals < REFUSALS_MAX {
                self.keep(name, descriptor.as_fd());
            }
        }
    }

    fn keep(&mut self, name: String, descriptor: BorrowedFd<'_>) {
        if self.upgraded {
            // Else the same would be kept twice.
            self.manager.forget(&name);
        }
        match self.manager.keep(&name, descriptor) {
            Ok(()) => {
                self.refusals = 0;
                self.kept.extend(place(descriptor).map(|place| (name, place)));
            }
            Err(error) => {
                self.refusals += 1;
                tracing::warn!(name, %error, "the service manager does not keep this descriptor");
            }
        }
    }
}

fn place(descriptor: BorrowedFd<'_>) -> Option<Place> {
    let file = File::from(descriptor.try_clone_to_owned().ok()?);
    file.metadata().ok().map(|found| (found.dev(), found.ino()))
}

fn run_named(name: &str) -> Option<(SlotName, Generation)> {
    let (run, slot) = name.strip_prefix(RUN)?.split_once('.')?;
    Some((SlotName::try_from(slot.to_owned()).ok()?, Generation(run.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_a_name_that_reads_back() {
        let (slot, run) = run_named("run.17.feed-eu").unwrap();
        assert_eq!((slot.as_str(), run), ("feed-eu", Generation(17)));
        for foreign in ["fifo.bot", "run.bot", "run.x.bot", "run.1.", "stored", ""] {
            assert!(run_named(foreign).is_none(), "{foreign}");
        }
    }
}
