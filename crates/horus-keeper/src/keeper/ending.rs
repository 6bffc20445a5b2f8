//! The end of a run: drain, look, record, reap, forget, tell, in this order. Whatever instant the keeper dies at, the
//! next one (or Horus, as reaper) finds either a zombie or an exit record.

use crate::crash_point::crash_point;
use crate::keeper::Keeper;
use crate::keeper::slot::Phase;
use crate::protocol::{Event, ExitStatus, OutOfMemory, StartStep};
use crate::slots::{ExitRecord, Witness};
use horus_sys::process::{self, ProcessId, Table};
use horus_sys::reap::{self, Peek, WaitStatus};
use horus_sys::{clock, pipe};
use std::os::fd::AsFd;
use std::time::Duration;

/// How soon to look again for the status of an adopted process, and how slow that becomes.
const FIRST_LOOK: Duration = Duration::from_millis(2);
/// When the process has been reaped and nobody has left a status by then, it is unknown.
pub(crate) const PATIENCE_GONE: Duration = Duration::from_secs(2);
/// When its reaper has not even come by then, it is unknown as well.
const PATIENCE_ZOMBIE: Duration = Duration::from_secs(10);

impl Keeper {
    /// The process of a slot is reported ended. `table`, if there is one, is a snapshot from after that moment.
    pub(crate) fn on_ended(&mut self, index: usize, table: &mut Option<Table>) {
        let Some(main) = self.slot(index).and_then(|slot| slot.main()) else { return };
        // An adopted process is reaped by others, and its pid may by now be that of another child of ours.
        let is_itself = matches!(process::identify(main.pid), Ok(Some(found)) if found == main);
        match reap::peek(main.pid) {
            Ok(Peek::Ended(status)) if is_itself => self.finish_child(index, main, status, table),
            Ok(Peek::Running) if is_itself => {}
            _ if process::is_alive(&main) => {}
            _ => self.begin_ending(index),
        }
    }

    /// A child of ours: its zombie gives the status and keeps its pid until we are done.
    fn finish_child(&mut self, index: usize, main: ProcessId, status: WaitStatus, table: &mut Option<Table>) {
        self.on_report(index); // the report may have come in the same turn
        let status = match self.slot(index).map(|slot| &slot.phase) {
            Some(Phase::Starting { failed: Some(failed), .. }) => {
                ExitStatus::NotExecuted { step: failed.step, errno: failed.errno }
            }
            _ => status.into(),
        };
        self.drain(index);
        let strays = self.count_strays(index, table);
        crash_point("exit.before-record");
        let out_of_memory = self.slot(index).and_then(|slot| slot.out_of_memory(status));
        self.record(index, main, status, out_of_memory, Witness::Keeper);
        crash_point("exit.after-record");
        if let Err(error) = reap::reap(main.pid) {
            self.complain(&format!("cannot reap {main}: {error}"));
        }
        crash_point("exit.after-reap");
        self.conclude(index, main, status, out_of_memory, strays);
    }

    /// Not our child (adopted from a dead keeper): somebody else reaps it and learns the status.
    fn begin_ending(&mut self, index: usize) {
        let poller = &self.poller;
        let Some(slot) = self.slots.get_mut(index).and_then(Option::as_mut) else { return };
        let now = clock::monotonic();
        match std::mem::replace(&mut slot.phase, Phase::Empty) {
            Phase::Starting { main, .. } | Phase::Running { main } => {
                let _ = poller.unwatch(&main); // it stays ready for ever
                slot.phase = Phase::Ending { main, since: now, look_at: now };
            }
            other => slot.phase = other,
        }
        self.drain(index);
        self.look_for_status(index);
    }

    /// Asks everywhere for the status of an adopted process that ended.
    pub(crate) fn look_for_status(&mut self, index: usize) {
        let now = clock::monotonic();
        let Some(slot) = self.slot(index) else { return };
        let Phase::Ending { main, since, .. } = &slot.phase else { return };
        let (id, waited) = (main.id(), now.saturating_sub(*since));
        let recorded =
            slot.directory.exit(slot.generation).ok().flatten().filter(|record| record.process == id);
        let from_kernel = main.status_after_reap();
        let patience = match process::identify(id.pid) {
            Ok(Some(present)) if present == id => PATIENCE_ZOMBIE,
            _ => PATIENCE_GONE,
        };
        let told = recorded.as_ref().and_then(|record| record.out_of_memory);
        let (status, witness) = match (recorded, from_kernel) {
            (Some(record), _) => (record.status, None),
            (None, Some(status)) => (status.into(), Some(Witness::Pidfd)),
            (None, None) if waited >= patience => (ExitStatus::Unknown, Some(Witness::Nobody)),
            (None, None) => {
                if let Some(Phase::Ending { look_at, .. }) = self.slot_mut(index).map(|slot| &mut slot.phase)
                {
                    *look_at = now + (waited / 2).max(FIRST_LOOK);
                }
                return;
            }
        };
        self.drain(index);
        let strays = self.count_strays(index, &mut None);
        let out_of_memory = told.or_else(|| self.slot(index)?.out_of_memory(status));
        if let Some(witness) = witness {
            self.record(index, id, status, out_of_memory, witness);
        }
        self.conclude(index, id, status, out_of_memory, strays);
    }

    /// Everything the process wrote before its end is in the pipe by now: move exactly that much, so that a stray that
    /// goes on writing cannot keep us here.
    pub(crate) fn drain(&mut self, index: usize) {
        let waiting =
            self.slot(index).and_then(|slot| slot.fifo.as_ref()).map(|fifo| pipe::waiting(fifo.as_fd()));
        if let Some(Ok(bytes)) = waiting
            && bytes > 0
        {
            self.pump(index, bytes);
        }
    }

    /// Who else of the slot lives: asked of its cgroup where it has one (one small file), else of the process table.
    fn count_strays(&mut self, index: usize, table: &mut Option<Table>) -> u32 {
        let main = self.slot(index).and_then(|slot| slot.last_main);
        let in_cgroup = self.slot(index).and_then(|slot| slot.cgroup.as_ref()?.members().ok());
        if let (Some(pids), Some(slot)) = (in_cgroup, self.slot_mut(index)) {
            let processes = pids.into_iter().filter_map(|pid| process::identify(pid).ok().flatten());
            slot.strays = processes.filter(|process| Some(*process) != main).collect();
            return u32::try_from(slot.strays.len()).unwrap_or(u32::MAX);
        }
        if table.is_none() {
            *table = self.read_table();
        }
        let members = table.as_ref().map_or_else(Vec::new, |table| self.members(index, table));
        u32::try_from(members.iter().filter(|row| Some(row.id) != main).count()).unwrap_or(u32::MAX)
    }

    fn record(
        &mut self,
        index: usize,
        process: ProcessId,
        status: ExitStatus,
        out_of_memory: Option<OutOfMemory>,
        witness: Witness,
    ) {
        let Some(slot) = self.slot(index) else { return };
        let record = ExitRecord { generation: slot.generation, process, status, witness, out_of_memory };
        if let Err(error) = slot.directory.write_exit(&record) {
            // The client is told all the same; only a keeper that dies now would lose it.
            self.degraded(index, &format!("its exit could not be recorded: {error}"));
        }
    }

    fn conclude(
        &mut self,
        index: usize,
        process: ProcessId,
        status: ExitStatus,
        out_of_memory: Option<OutOfMemory>,
        strays: u32,
    ) {
        let poller = &self.poller;
        let Some(slot) = self.slots.get_mut(index).and_then(Option::as_mut) else { return };
        let removed = slot.directory.remove_state();
        crash_point("exit.after-remove");
        let ended = Phase::Ended { process: Some(process), status, out_of_memory };
        match std::mem::replace(&mut slot.phase, ended) {
            Phase::Starting { main, report, .. } => {
                let _ = poller.remove(report.as_fd());
                let _ = poller.unwatch(&main);
            }
            Phase::Running { main } => drop(poller.unwatch(&main)),
            Phase::Empty | Phase::Ending { .. } | Phase::Unreadable { .. } | Phase::Ended { .. } => {}
        }
        let (slot, generation) = (slot.name.clone(), slot.generation);
        if strays == 0 {
            self.release_locks(index);
        }
        if let Err(error) = removed {
            self.degraded(index, &format!("its state record stays: {error}"));
        }
        self.tell(match status {
            ExitStatus::NotExecuted { step, errno } => {
                let error = horus_sys::launch::Failed { step, errno }.to_string();
                Event::StartFailed { slot, generation, step: StartStep::Child(step), error }
            }
            _ => Event::Exited { slot, generation, process, status, strays, out_of_memory },
        });
        self.tell_refused_tasks(index);
        // A kill in progress waited for this: look again in this turn, after the orphans were reaped.
        if let Some(kill) = self.slot_mut(index).and_then(|slot| slot.kill.as_mut()) {
            kill.next = clock::monotonic();
        }
    }

    /// Reaps every other child: orphans that became ours. Slots' own processes end in [`Keeper::on_ended`].
    pub(crate) fn reap_children(&mut self, limit: usize) -> bool {
        for _ in 0..limit {
            let Ok(Some((pid, _))) = reap::peek_any() else { return false };
            let owner = self.indices().find(|index| {
                self.slot(*index).and_then(|slot| slot.main()).is_some_and(|main| main.pid == pid)
            });
            match owner {
                Some(index) => {
                    self.on_ended(index, &mut None);
                    if matches!(reap::peek(pid), Ok(Peek::Ended(_))) {
                        return false; // it would be shown for ever; its pidfd will bring us back
                    }
                }
                None => {
                    let expected = self.slots.iter().flatten().any(|slot| {
                        slot.kill.as_ref().is_some_and(|kill| kill.has_killed(pid))
                            || slot.strays.iter().any(|stray| stray.pid == pid)
                    });
                    self.strange_orphans += u64::from(!expected);
                    let _ = reap::reap(pid);
                }
            }
        }
        true
    }
}
