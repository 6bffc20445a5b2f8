//! What a new keeper finds: slots of a dead one, whose programs may live on.

use crate::keeper::sink::Sink;
use crate::keeper::slot::{Phase, Slot};
use crate::keeper::starting::open_fifo;
use crate::keeper::{Keeper, Kind};
use crate::protocol::{ExitStatus, Generation, MAX_SLOTS};
use crate::slots::{ExitRecord, SlotName, StateRecord, Witness};
use horus_sys::clock;
use horus_sys::process::{self, Handle};
use std::io;

impl Keeper {
    /// Reads every slot on disk. A slot that cannot be read is left alone and complained about: better an unwatched
    /// program than one started twice.
    pub(crate) fn adopt_all(&mut self) -> io::Result<()> {
        for name in self.directory.slot_names()? {
            if self.slots.len() >= MAX_SLOTS {
                self.complain("more slots on disk than a keeper takes; the rest is left alone");
                break;
            }
            if let Err(error) = self.adopt(name.clone()) {
                self.complain(&format!("slot {name} cannot be taken over: {error}"));
            }
        }
        Ok(())
    }

    fn adopt(&mut self, name: SlotName) -> io::Result<()> {
        let directory = self.directory.slot(&name);
        let generation = directory.generation()?;
        let state = directory.state()?;
        let mut slot = Slot::new(name, directory);
        slot.earliest_start = 0;
        if let Some(record) = generation {
            slot.generation = record.generation;
            slot.sink = Some(Sink::new(record.log));
        }
        slot.cgroup = self.cgroup.as_ref().and_then(|root| root.child(&format!("slot-{}", slot.name)).ok());
        let index = self.insert(slot);
        let poller = &self.poller;
        if let Some(slot) = self.slots.get_mut(index).and_then(Option::as_mut)
            && slot.sink.is_some()
        {
            open_fifo(slot, index, poller)?;
        }
        match state {
            Some(state) if state.boot_id == self.boot_id => self.adopt_process(index, &state)?,
            Some(_) => self.forget_other_boot(index)?,
            None => self.recall_end(index),
        }
        self.drain(index);
        Ok(())
    }

    fn adopt_process(&mut self, index: usize, state: &StateRecord) -> io::Result<()> {
        let handle = Handle::open(state.process)?;
        let poller = &self.poller;
        let Some(slot) = self.slots.get_mut(index).and_then(Option::as_mut) else { return Ok(()) };
        slot.adopted = true;
        slot.generation = state.generation.max(slot.generation);
        slot.last_main = Some(state.process);
        match handle {
            Some(main) if process::is_alive(&state.process) => {
                poller.watch(&main, Kind::Process.token(index))?;
                slot.phase = Phase::Running { main };
            }
            Some(main) => {
                let now = clock::monotonic();
                slot.phase = Phase::Ending { main, since: now, look_at: now };
            }
            None => return self.adopt_dead(index, state),
        }
        Ok(())
    }

    /// It ended and was reaped while no keeper looked. Horus may have recorded how; if not, nobody knows.
    fn adopt_dead(&mut self, index: usize, state: &StateRecord) -> io::Result<()> {
        let Some(slot) = self.slot_mut(index) else { return Ok(()) };
        let recorded =
            slot.directory.exit(state.generation)?.filter(|record| record.process == state.process);
        let status = recorded.as_ref().map_or(ExitStatus::Unknown, |record| record.status);
        if recorded.is_none() {
            slot.directory.write_exit(&ExitRecord {
                generation: state.generation,
                process: state.process,
                status,
                witness: Witness::Nobody,
            })?;
        }
        slot.directory.remove_state()?;
        slot.phase = Phase::Ended { process: Some(state.process), status };
        Ok(())
    }

    /// Pids of an earlier boot mean nothing now; the count of runs goes on.
    fn forget_other_boot(&mut self, index: usize) -> io::Result<()> {
        self.slot(index).map_or(Ok(()), |slot| slot.directory.remove_state())
    }

    /// No `state`: the newest run ended in order, or never got past its gate.
    fn recall_end(&mut self, index: usize) {
        let Some(slot) = self.slot_mut(index) else { return };
        if slot.generation == Generation(0) {
            return;
        }
        if let Ok(Some(record)) = slot.directory.exit(slot.generation) {
            slot.adopted = true;
            slot.last_main = Some(record.process);
            slot.phase = Phase::Ended { process: Some(record.process), status: record.status };
        }
    }
}
