//! A slot whose records cannot be read: torn, written by a version that we do not know, or refused by the disk.
//!
//! Its program may live, and starting a second one is the worst that a keeper can do. So nothing is started blindly: each
//! start first looks at *every* process of the machine for the slot's marks, and at its cgroup, and is refused while
//! anybody is found. When nobody is, the records are put aside and the slot is free. Where exactly one process is found
//! that founded a session and bears the marks, it is the program, and the slot is as good as new.
//!
//! A process that shows its marks to nobody (it wiped its environment, dropped its output and founded a session, or
//! forbids its own user to look) is not found without a cgroup. A child of ours that may not be looked at counts as found.

use crate::keeper::Keeper;
use crate::keeper::slot::Phase;
use crate::keeper::starting::Refusal;
use crate::keeper::tree;
use crate::protocol::{MAX_NAMED_SURVIVORS, StartStep};
use crate::slots::StateRecord;
use horus_sys::process::ProcessId;
use std::io;

impl Keeper {
    /// Makes an unreadable slot free, or says who stands in the way.
    pub(crate) fn take_back(&mut self, index: usize) -> Result<(), Refusal> {
        if !matches!(self.slot(index).map(|slot| &slot.phase), Some(Phase::Unreadable { .. })) {
            return Ok(());
        }
        // What could not be read for want of a descriptor or of a mounted disk may be readable now.
        self.adopt(index);
        let Some(Phase::Unreadable { why }) = self.slot(index).map(|slot| &slot.phase) else { return Ok(()) };
        let why = why.clone();
        let found = self.find_everybody(index).map_err(|error| refusal(&why, &error))?;
        if !found.is_empty() {
            let names: Vec<String> =
                found.iter().take(MAX_NAMED_SURVIVORS).map(|process| process.pid.to_string()).collect();
            return Err(refusal(&why, &format!("processes {} may be its program", names.join(", "))));
        }
        self.put_aside(index).map_err(|error| refusal(&why, &format!("and cannot be put aside: {error}")))
    }

    /// Everybody who bears the marks of an unreadable slot or sits in its cgroup, and every child of ours that cannot be
    /// examined.
    pub(crate) fn find_everybody(&mut self, index: usize) -> Result<Vec<ProcessId>, String> {
        let table = self.read_table().ok_or("the process table cannot be read either")?;
        let mut found: Vec<ProcessId> = self.members(index, &table).iter().map(|row| row.id).collect();
        let populated = self.slot(index).and_then(|slot| slot.cgroup.as_ref()?.is_populated().ok());
        if found.is_empty() && populated == Some(true) {
            return Err("its cgroup is not empty".to_owned());
        }
        let parents = [Some(self.me.pid), self.client.as_ref().map(|client| client.pid)];
        let known: Vec<ProcessId> = self
            .slots
            .iter()
            .flatten()
            .flat_map(|slot| slot.main().into_iter().chain(slot.strays.clone()))
            .collect();
        let hidden = tree::hidden_children(&table, &parents.into_iter().flatten().collect::<Vec<_>>());
        found.extend(hidden.into_iter().filter(|process| !known.contains(process)));
        Ok(found)
    }

    /// Looks for the one process that can only be the slot's program: the founder of a session that bears the slot's
    /// marks. If there is exactly one, the slot has a record again. `error` is why it has none.
    pub(crate) fn recognise(&mut self, index: usize, error: &io::Error) {
        // A disk that refuses may let us read later; what it holds is better than a guess.
        if error.kind() != io::ErrorKind::InvalidData {
            return;
        }
        let Some(table) = self.read_table() else { return };
        let founders = self.members(index, &table).into_iter().filter(|row| row.session == row.id.pid);
        let [founder] = founders.collect::<Vec<_>>()[..] else { return };
        let Some(slot) = self.slot(index) else { return };
        let Some(generation) = tree::marked_run(founder.id.pid, &slot.name, self.directory.path()) else {
            return;
        };
        let record = StateRecord { generation, process: founder.id, boot_id: self.boot_id.clone() };
        let (name, directory) = (slot.name.clone(), slot.directory.clone());
        if directory.set_aside().and_then(|()| directory.write_state(&record)).is_err() {
            return;
        }
        let text = format!("slot {name}: {error}; process {} was recognised by its marks", founder.id.pid);
        self.remark(text);
        if let Err(error) = self.try_adopt(index) {
            self.complain(&format!("slot {name} cannot be taken over: {error}"));
        }
    }

    /// Frees every unreadable slot of which nobody lives.
    pub(crate) fn settle_unreadable(&mut self) {
        for index in self.indices() {
            let is_unreadable = self.slot(index).is_some_and(|slot| slot.unreadable().is_some());
            if is_unreadable && self.find_everybody(index).is_ok_and(|found| found.is_empty()) {
                let _ = self.put_aside(index);
            }
        }
    }

    /// Nobody of it lives: what cannot be read may go.
    fn put_aside(&mut self, index: usize) -> io::Result<()> {
        let Some(slot) = self.slot_mut(index) else { return Ok(()) };
        slot.generation = slot.directory.newest_run();
        slot.directory.set_aside()?;
        slot.phase = Phase::Empty;
        let text = format!("slot {}: nobody of it lives, so its records were put aside", slot.name);
        self.complain(&text);
        Ok(())
    }
}

fn refusal(why: &str, what: &str) -> Refusal {
    Refusal::new(StartStep::Record, format!("{why}; {what}"))
}
