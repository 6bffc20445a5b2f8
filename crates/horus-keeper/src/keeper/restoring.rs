//! The run directory was taken away while programs live: it is made anew from what this process knows.
//!
//! Somebody cleaned up, or a disk was changed under us. Nothing is noticed at first, as what is open stays open; but the next Horus
//! would find no lock, start a second keeper, and that one would take our programs for leftovers of an earlier life. So it is looked
//! whether the lock's path still leads to the lock: whenever Horus asks for a sign of life, and by ourselves while there is none.
//! A FIFO cannot be given its name again. Who writes to it is told by it (`pipe::reader_of`), and the next start makes a new one.

use crate::keeper::slot::{Phase, Slot};
use crate::keeper::{Keeper, TOKEN_LISTENER, TOKEN_VIEW, killing, talking};
use crate::replace::KEEPER_SIGNATURE;
use crate::slots::{ExitRecord, GenerationRecord, RunDirectory, StateRecord, Witness};
use horus_sys::files;
use horus_sys::lock::FileLock;
use horus_sys::poll::Interest;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// How often it is looked while no Horus asks for anything.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(2);

impl Keeper {
    /// Makes the run directory anew if it is not there any more.
    pub(crate) fn keep_directory(&mut self) {
        if self.lock.is_at_its_path() {
            return;
        }
        match self.restore() {
            Ok(true) => {
                self.remark(format!(
                    "{} was taken away while programs live, and was made anew",
                    self.directory.path().display()
                ));
            }
            // It is being taken away at this moment, or somebody is faster: the next look tells.
            Ok(false) => {}
            Err(error) => {
                self.complain(&format!("the run directory cannot be made anew: {}", killing::chain(&error)))
            }
        }
    }

    /// `false`: another keeper has the new one. Two would start everything twice, so we only keep what lives.
    fn restore(&mut self) -> io::Result<bool> {
        let directory = RunDirectory::prepare(&self.arguments.run_dir).map_err(io::Error::other)?;
        if directory != self.directory {
            return Err(io::Error::other(format!("{} is another place by now", directory.path().display())));
        }
        let Ok(lock) = FileLock::try_acquire(&directory.lock(), KEEPER_SIGNATURE) else { return Ok(false) };
        self.directory.write_boot_id(&self.boot_id)?;
        for index in self.indices() {
            if let Some(slot) = self.slot(index)
                && let Err(error) = slot.write_records(&self.boot_id)
            {
                let text = format!("slot {} is not written down anew: {error}", slot.name);
                self.complain(&text);
            }
        }
        let (listener, view) =
            (talking::listen(&directory.socket())?, talking::listen(&directory.view_socket())?);
        let _ = self.poller.remove(self.listener.as_fd());
        let _ = self.poller.remove(self.observers.as_fd());
        self.poller.add(listener.as_fd(), TOKEN_LISTENER, Interest::Read)?;
        self.poller.add(view.as_fd(), TOKEN_VIEW, Interest::Read)?;
        self.listener = listener;
        self.observers.listen_on(view);
        // The last step: whoever looks at the lock finds the rest.
        self.lock = lock;
        Ok(true)
    }
}

impl Slot {
    /// All its records, as they would be if they had not been taken away.
    fn write_records(&self, boot_id: &str) -> io::Result<()> {
        let Some(log) = self.sink.as_ref().map(|sink| sink.spec().clone()) else { return Ok(()) };
        files::ensure_private_dir(self.directory.path()).map_err(io::Error::other)?;
        let generation = self.generation;
        self.directory.write_generation(&GenerationRecord {
            generation,
            log,
            cgroup: self.cgroup.as_ref().map(|group| group.path().to_owned()),
            exclusive: self.exclusive(),
            counts: self.counts,
        })?;
        if let Phase::Ended { process: Some(process), status, out_of_memory } = &self.phase {
            let (process, status, out_of_memory) = (*process, *status, *out_of_memory);
            let witness = Witness::Keeper;
            let record = ExitRecord { generation, process, status, witness, out_of_memory };
            self.directory.write_exit(&record)?;
        }
        match self.main() {
            Some(process) => {
                self.directory.write_state(&StateRecord { generation, process, boot_id: boot_id.to_owned() })
            }
            None => Ok(()),
        }
    }
}
