//! What a new keeper finds: slots of a dead one, whose programs may live on.

use crate::keeper::ending::PATIENCE_GONE;
use crate::keeper::sink::Sink;
use crate::keeper::slot::{Phase, Slot};
use crate::keeper::starting::open_fifo;
use crate::keeper::upgrading::Handover;
use crate::keeper::{Keeper, Kind};
use crate::protocol::{Generation, LogSpec, MAX_SLOTS};
use crate::slots::{GenerationRecord, SlotName, StateRecord};
use horus_sys::clock;
use horus_sys::pipe;
use horus_sys::process::{self, Handle};
use std::io;
use std::time::Duration;

/// When it was gone before we came and nobody has left a status by then, it is unknown.
const PATIENCE_ADOPTED: Duration = Duration::from_millis(500);

/// Where the output of a program goes whose log settings were lost: a file of so many bytes in its slot directory.
const RESCUED_LOG: &str = "rescued.log";
const RESCUED_LOG_BYTES: u64 = 16 * 1024 * 1024;

impl Keeper {
    /// Are the records of this boot? Those of an earlier one speak of nobody who lives, readable or not: after a power
    /// cut files of length zero are nothing special.
    pub(crate) fn notice_boot(&mut self) {
        let written = self.directory.boot_id();
        if written.as_ref() == Some(&self.boot_id) {
            return;
        }
        if written.is_some() {
            for name in self.directory.slot_names().unwrap_or_default() {
                if let Err(error) = self.directory.slot(&name).set_aside() {
                    self.complain(&format!("slot {name} keeps records of an earlier boot: {error}"));
                }
            }
        }
        if let Err(error) = self.directory.write_boot_id(&self.boot_id) {
            self.remark(format!("the boot cannot be written down: {error}"));
        }
    }

    /// Reads every slot on disk. One that cannot be read stays in the way of a start.
    pub(crate) fn adopt_all(&mut self, mut handover: Option<Handover>) -> io::Result<()> {
        for name in self.directory.slot_names()? {
            if self.slots.len() >= MAX_SLOTS {
                self.remark(format!("more than {MAX_SLOTS} slots are on disk; the rest is left alone"));
                break;
            }
            let directory = self.directory.slot(&name);
            let mut slot = Slot::new(name, directory);
            // Before anything else opens it: what is in it must not be lost.
            slot.fifo = handover.as_mut().and_then(|handover| handover.fifo(&slot));
            let index = self.insert(slot);
            self.adopt(index);
            if let (Some(handover), Some(slot)) = (&mut handover, self.slot_mut(index)) {
                handover.remind(slot);
            }
        }
        Ok(())
    }

    /// Reads one slot from disk.
    pub(crate) fn adopt(&mut self, index: usize) {
        let Err(error) = self.try_adopt(index) else { return };
        if let Some(slot) = self.slot_mut(index) {
            let (name, why) = (slot.name.clone(), error.to_string());
            slot.adopted = true;
            slot.phase = Phase::Unreadable { why: why.clone() };
            self.complain(&format!("slot {name} cannot be taken over: {why}"));
            self.recognise(index, &error);
        }
    }

    pub(crate) fn try_adopt(&mut self, index: usize) -> io::Result<()> {
        let Some(name) = self.slot(index).map(|slot| slot.name.clone()) else { return Ok(()) };
        let directory = self.directory.slot(&name);
        let state = directory.state();
        let settings = match directory.generation() {
            // Without `state` nobody runs, and the next start writes new settings.
            Err(_) if matches!(state, Ok(None)) => None,
            Err(error) => Some(self.rescue(&name, &error)),
            Ok(settings) => settings,
        };
        let recorded = settings.as_ref().and_then(|settings| settings.cgroup.as_deref());
        let cgroup = self.group_of(&name, recorded);
        let poller = &self.poller;
        let Some(slot) = self.slots.get_mut(index).and_then(Option::as_mut) else { return Ok(()) };
        slot.earliest_start = 0;
        slot.cgroup = cgroup;
        slot.generation = directory.newest_run();
        let mut locks = Vec::new();
        if let Some(record) = settings {
            locks = record.exclusive;
            slot.counts = record.counts;
            slot.sink = Some(Sink::new(record.log));
            if slot.fifo.is_none()
                && let Ok(Some(state)) = &state
                && !slot.directory.fifo().exists()
            {
                slot.fifo = pipe::reader_of(&state.process, &slot.directory.fifo())?;
            }
            open_fifo(slot, index, poller)?;
        }
        match state? {
            Some(state) if state.boot_id == self.boot_id => self.adopt_process(index, &state)?,
            Some(_) => self.forget_other_boot(index)?,
            None => self.recall_end(index),
        }
        if let Some(slot) = self.slot_mut(index) {
            slot.owe_locks(locks);
            self.reclaim_locks(index);
        }
        self.drain(index);
        Ok(())
    }

    /// Its log settings are lost, and somebody may run: its output must go somewhere, or it would block.
    fn rescue(&mut self, name: &SlotName, error: &io::Error) -> GenerationRecord {
        let path = self.directory.slot(name).path().join(RESCUED_LOG);
        let text =
            format!("slot {name}: {error}; until its next start its output goes to {}", path.display());
        self.remark(text);
        GenerationRecord {
            generation: Generation(0),
            log: LogSpec { path, max_bytes: RESCUED_LOG_BYTES, keep: 1 },
            cgroup: None,
            exclusive: Vec::new(),
            counts: None,
        }
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

    /// It ended and was reaped while no keeper looked. Horus may have recorded how, or is about to: the kernel may have told it.
    fn adopt_dead(&mut self, index: usize, state: &StateRecord) -> io::Result<()> {
        let Some(slot) = self.slot_mut(index) else { return Ok(()) };
        // A record that cannot be read tells as little as none.
        let recorded = slot.directory.exit(state.generation).ok().flatten();
        let Some(record) = recorded.filter(|record| record.process == state.process) else {
            let now = clock::monotonic();
            let since = now.saturating_sub(PATIENCE_GONE.saturating_sub(PATIENCE_ADOPTED));
            slot.phase = Phase::Ending { main: Handle::of_gone(state.process), since, look_at: now };
            return Ok(());
        };
        slot.directory.remove_state()?;
        // Whoever recorded it without a keeper could not look at its group.
        let out_of_memory = record.out_of_memory.or_else(|| slot.out_of_memory(record.status));
        slot.phase = Phase::Ended { process: Some(state.process), status: record.status, out_of_memory };
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
            let (process, status) = (Some(record.process), record.status);
            slot.phase = Phase::Ended { process, status, out_of_memory: record.out_of_memory };
        }
    }
}
