//! Killing everything that came from a slot, and knowing that it is gone.
//!
//! One pass: stop whoever is there, look again for those who forked meanwhile, then kill all of them; passes repeat,
//! ever slower, until one finds nobody. Groups are stopped and killed as groups, because that is one step in the kernel
//! and no fork slips through. With a cgroup the kernel does it all at once and the pass only confirms. A pass never waits;
//! the loop comes back when it is due.
//!
//! A look at the process table takes longer than some processes live: a chain in which everyone forks a successor and
//! ends may never be seen. It betrays itself otherwise: its dead are reaped by us. So "gone" needs a look that finds
//! nobody *and* that no orphan we did not kill was reaped since the look before.

use crate::keeper::Keeper;
use crate::keeper::slot::{Phase, Slot};
use crate::keeper::tree::{self, Clues};
use crate::protocol::{Event, Generation, MAX_NAMED_SURVIVORS, Scope};
use horus_sys::clock;
use horus_sys::process::{ProcessId, Row, Table};
use horus_sys::signal::{self, SendError, Signal};
use std::collections::BTreeSet;
use std::time::Duration;

/// How often one pass looks for processes that were forked while it stopped the others.
const SWEEPS_A_PASS: usize = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// After this long the client is told who does not go.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// A kill in progress.
#[derive(Debug)]
pub(crate) struct Kill {
    pub(crate) generation: Generation,
    /// When the next pass is due.
    pub(crate) next: Duration,
    killed: BTreeSet<ProcessId>,
    /// The keeper's count of strange orphans at the last pass; `None` before the first.
    strange_orphans: Option<u64>,
    began: Duration,
    pause: Duration,
    told: bool,
}

/// Who was found and stopped.
#[derive(Debug, Default)]
struct Living {
    processes: Vec<ProcessId>,
    groups: BTreeSet<i32>,
}

impl Kill {
    /// Whether this kill has hit that pid.
    pub(crate) fn has_killed(&self, pid: i32) -> bool {
        self.killed.iter().any(|process| process.pid == pid)
    }

    pub(crate) fn new(generation: Generation) -> Self {
        let now = clock::monotonic();
        Self {
            generation,
            next: now,
            killed: BTreeSet::new(),
            strange_orphans: None,
            began: now,
            pause: FIRST_PAUSE,
            told: false,
        }
    }
}

impl Keeper {
    /// Everybody of a slot who lives. What is found besides the main process is remembered.
    pub(crate) fn members(&mut self, index: usize, table: &Table) -> Vec<Row> {
        let mut reapers = table.lineage(self.me.pid);
        if let Some(client) = &self.client {
            reapers.extend(table.lineage(client.pid));
        }
        let others = self.slots.iter().enumerate().filter(|(other, _)| *other != index);
        let others = others.filter_map(|(_, slot)| slot.as_ref()?.main()).map(|main| main.pid).collect();
        let Some(slot) = self.slots.get_mut(index).and_then(Option::as_mut) else { return Vec::new() };
        let in_cgroup = slot.cgroup.as_ref().and_then(|cgroup| cgroup.members().ok()).unwrap_or_default();
        let clues = Clues {
            run_directory: self.directory.path(),
            slot: &slot.name,
            fifo: &slot.directory.fifo(),
            main: slot.last_main,
            known: &slot.strays,
            in_cgroup: &in_cgroup,
            earliest_start: slot.earliest_start,
            others: &others,
            reapers: &reapers,
            everywhere: matches!(slot.phase, Phase::Unreadable { .. }),
        };
        let found = tree::members(table, &clues);
        slot.strays = found.iter().map(|row| row.id).filter(|id| Some(*id) != slot.last_main).collect();
        found
    }

    /// One pass of the kill in progress in this slot.
    pub(crate) fn kill_pass(&mut self, index: usize) {
        let Some(mut kill) = self.slot_mut(index).and_then(|slot| slot.kill.take()) else { return };
        if let Some(cgroup) = self.slot(index).and_then(|slot| slot.cgroup.as_ref()) {
            // Best effort (Linux 5.14): the walk below finds who is left.
            let _ = cgroup.kill();
        }
        let living = self.stop_all(index);
        // Groups first: their members are stopped, so the numbers are theirs.
        for group in living.groups {
            let _ = signal::send_to_group(group, Signal::KILL);
        }
        for process in &living.processes {
            // Whoever is gone by now was killed with its group and reaped by whoever adopted it: it was stopped, so it
            // cannot have ended by itself.
            let _ = signal::send(process, Signal::KILL);
            kill.killed.insert(*process);
        }
        let quiet = kill.strange_orphans.replace(self.strange_orphans) == Some(self.strange_orphans);
        // A group that is inhabited although we see nobody: somebody is just being born, or dies.
        let ended = self.slot(index).is_none_or(|slot| slot.main().is_none() && !slot.has_inhabited_group());
        if living.processes.is_empty() && ended && quiet {
            self.finish_kill(index, &kill);
            return;
        }
        let now = clock::monotonic();
        if now.saturating_sub(kill.began) > STUCK_AFTER && !kill.told {
            kill.told = true;
            self.tell_stuck(index, kill.generation, living.processes);
        }
        kill.next = now + kill.pause;
        kill.pause = (kill.pause * 2).min(LONGEST_PAUSE);
        if let Some(slot) = self.slot_mut(index) {
            slot.kill = Some(kill);
        }
    }

    fn tell_stuck(&mut self, index: usize, generation: Generation, living: Vec<ProcessId>) {
        let Some(slot) = self.slot(index).map(|slot| slot.name.clone()) else { return };
        let survivors = living.into_iter().take(MAX_NAMED_SURVIVORS).collect();
        self.tell(Event::KillStuck { slot, generation, survivors });
    }

    /// Stops everybody, so that nobody forks away from under the kill; who was found at the last look.
    fn stop_all(&mut self, index: usize) -> Living {
        let mut stopped = BTreeSet::new();
        let mut living = Living::default();
        for _ in 0..SWEEPS_A_PASS {
            let Some(table) = self.read_table() else { break };
            let members = self.members(index, &table);
            living.processes = members.iter().map(|row| row.id).collect();
            let mut news = false;
            for row in members {
                if !stopped.insert(row.id) {
                    continue;
                }
                news = true;
                // A stopped process keeps its group's number from being reused; all of the group is of its session,
                // and all of its session came from the slot.
                if signal::send(&row.id, Signal::STOP).is_ok() && living.groups.insert(row.group) {
                    let _ = signal::send_to_group(row.group, Signal::STOP);
                }
            }
            if !news {
                break;
            }
        }
        living
    }

    fn finish_kill(&mut self, index: usize, kill: &Kill) {
        let Some(slot) = self.slot_mut(index) else { return };
        slot.strays.clear();
        if let Some(cgroup) = slot.cgroup.take() {
            // It is made again at the next start; a busy one (zombies elsewhere) just stays.
            let _ = cgroup.remove();
        }
        let killed = u32::try_from(kill.killed.len()).unwrap_or(u32::MAX);
        let event = Event::Gone { slot: slot.name.clone(), generation: kill.generation, killed };
        self.release_locks(index);
        if self.start_what_waited(index) {
            return;
        }
        self.tell(event);
    }

    /// Sends a signal to the main process, its group or the whole tree; to how many.
    pub(crate) fn send_signal(&mut self, index: usize, signal: Signal, scope: Scope) -> Result<u32, String> {
        let main = self.slot(index).and_then(Slot::main);
        let gone = || "the main process has ended".to_owned();
        match scope {
            Scope::Main => {
                signal::send(&main.ok_or_else(gone)?, signal).map(|()| 1).map_err(|error| chain(&error))
            }
            Scope::Group => {
                let main = main.ok_or_else(gone)?;
                // Unreaped, its pid is its own: for our child until we reap it, for an adopted one if it lives.
                if !horus_sys::process::is_alive(&main) {
                    return Err(gone());
                }
                signal::send_to_group(main.pid, signal).map(|()| 1).map_err(|error| chain(&error))
            }
            Scope::Tree => {
                let table = self.read_table().ok_or_else(|| "cannot read the process table".to_owned())?;
                let mut sent = 0;
                for row in self.members(index, &table) {
                    match signal::send(&row.id, signal) {
                        Ok(()) => sent += 1,
                        Err(SendError::Gone(_)) => {}
                        Err(error) => return Err(chain(&error)),
                    }
                }
                if sent == 0 { Err("nothing of it lives".to_owned()) } else { Ok(sent) }
            }
        }
    }

    pub(crate) fn read_table(&mut self) -> Option<Table> {
        match Table::read() {
            Ok(table) => Some(table),
            Err(error) => {
                self.complain(&format!("cannot read the process table: {error}"));
                None
            }
        }
    }
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
