//! Who is still there from an earlier life of a slot that is to be started: named first, then ended, then the slot is started.
//!
//! Whatever the marks of a slot are on was started by a keeper of this run directory. Whoever bore them when this keeper began
//! and is not known as the slot's program came from a life that nobody has a record of: the records were lost, or the
//! program ended while nobody looked and left others behind. All processes are asked once, when the keeper begins, since nobody new
//! can come from a life that is over but as their child. Who sits in the slot's group is asked at each start.

use crate::keeper::Keeper;
use crate::keeper::killing::Kill;
use crate::keeper::tree;
use crate::protocol::{Event, LeftBehind, MAX_NAMED_SURVIVORS, StartSpec};
use crate::slots::SlotName;
use horus_sys::fact::Fact;
use horus_sys::facts::{self, ProcessFacts};
use horus_sys::process::{self, ProcessId};
use std::collections::BTreeMap;

/// Longest command that is named, in characters.
const MAX_COMMAND: usize = 200;

impl Keeper {
    /// Writes down who bears the marks of a slot of ours at this moment.
    pub(crate) fn notice_the_marked(&mut self) {
        let Some(table) = self.read_table() else { return };
        let ours = table.lineage(self.me.pid);
        let mut marked: BTreeMap<SlotName, Vec<ProcessId>> = BTreeMap::new();
        for row in table.rows().iter().filter(|row| !row.is_gone() && !ours.contains(&row.id.pid)) {
            if let Some(slot) = tree::marked_slot(row.id.pid, self.directory.path()) {
                marked.entry(slot).or_default().push(row.id);
            }
        }
        self.marked = marked;
    }

    /// If somebody of an earlier life is there: names them, ends them, and keeps the start for afterwards. `true`: so it is.
    pub(crate) fn sweep_first(&mut self, index: usize, spec: &StartSpec) -> bool {
        let mut found = self.marked.remove(&spec.slot).unwrap_or_default();
        let group = self.group_of(&spec.slot, None);
        let pids = group.as_ref().and_then(|group| group.members().ok()).unwrap_or_default();
        found.extend(pids.into_iter().filter_map(|pid| process::identify(pid).ok().flatten()));
        found.retain(process::is_alive);
        found.sort_unstable();
        found.dedup();
        if found.is_empty() {
            return false;
        }
        let processes = found.iter().take(MAX_NAMED_SURVIVORS);
        let processes =
            processes.map(|process| LeftBehind { process: *process, command: command(process.pid) });
        let (processes, generation) = (processes.collect(), spec.generation);
        self.tell(Event::Leftovers { slot: spec.slot.clone(), generation, processes });
        if let Some(slot) = self.slot_mut(index) {
            slot.cgroup = slot.cgroup.take().or(group);
            slot.strays.extend(found);
            slot.pending = Some(Box::new(spec.clone()));
            slot.kill = Some(Kill::new(generation));
        }
        self.kill_pass(index);
        true
    }

    /// Nobody is left: now the start that waited for it. `false`: none did.
    pub(crate) fn start_what_waited(&mut self, index: usize) -> bool {
        let Some(spec) = self.slot_mut(index).and_then(|slot| slot.pending.take()) else { return false };
        self.start(*spec);
        true
    }

    /// Whoever asked for these starts is gone; the next client asks anew.
    pub(crate) fn forget_what_waits(&mut self) {
        self.slots.iter_mut().flatten().for_each(|slot| slot.pending = None);
    }
}

fn command(pid: i32) -> String {
    match facts::process(pid) {
        Fact::Known(ProcessFacts { command_line: Fact::Known(words), .. }) => {
            words.join(" ").chars().take(MAX_COMMAND).collect()
        }
        _ => String::new(),
    }
}
