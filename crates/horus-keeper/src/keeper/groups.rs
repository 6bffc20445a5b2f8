//! The control groups of the slots: `HOME/slot-NAME`, one each, from the first start to the end of the slot's last process.
//!
//! In a scope of our own the keeper lives in `HOME/keeper` and enables the controllers that limits need; nobody may be in
//! the scope's own group then. In a group where others live (the unit's, the root) nothing is enabled: groups there serve
//! to find and to kill. See `home.rs` for where HOME is.
//!
//! Limits are written before the program enters, so there is no moment without them. They are in no record: the kernel
//! keeps them as long as the group is there, whoever dies, and the client says them again to each keeper that it meets.

use crate::keeper::Keeper;
use crate::keeper::slot::Slot;
use crate::protocol::{Event, ExitStatus, OutOfMemory, SlotName};
use horus_sys::cgroup::Cgroup;
use horus_sys::cgroup_home::{Place, place_of};
use horus_sys::cgroup_limits::{GroupCounts, GroupLimits, Limited, Moment};
use horus_sys::signal::Signal;
use std::io;
use std::path::Path;

/// What limits need.
const WANTED_CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];
/// Why nothing is limited where there are no groups.
const NO_GROUP: &str = "it has no control group";
/// Our own place in a scope.
const OWN_GROUP: &str = "keeper";

impl Keeper {
    /// Takes the directory that we were given into use.
    pub(crate) fn open_groups(&mut self) {
        let Some(path) = self.arguments.cgroup.clone() else { return };
        let root = match Cgroup::open_root(&path) {
            Ok(root) => root,
            Err(error) => {
                self.remark(format!("cgroup {} is unusable: {error}", path.display()));
                return;
            }
        };
        let place = place_of(&path);
        let moved = if place == Place::OurScope { self.move_into(&root) } else { Ok(()) };
        if let Err(error) = &moved {
            self.remark(format!("cgroup {} cannot be entered: {error}", path.display()));
        }
        if place != Place::Inhabited && moved.is_ok() {
            self.controllers = enable(&root);
        }
        self.cgroup = Some(root);
    }

    /// Moves us, and whoever founded the scope, out of its own group.
    fn move_into(&self, scope: &Cgroup) -> io::Result<()> {
        let own = scope.child(OWN_GROUP)?;
        own.add(self.me.pid)?;
        for pid in scope.residents()? {
            // It may have ended meanwhile.
            let _ = own.add(pid);
        }
        Ok(())
    }

    /// The group of a slot that is adopted: the one it was started in, if that is still there, else one of its name here.
    pub(crate) fn group_of(&self, name: &SlotName, recorded: Option<&Path>) -> Option<Cgroup> {
        let recorded = recorded.filter(|path| path.is_dir()).map(Cgroup::existing);
        recorded.or_else(|| self.cgroup.as_ref()?.child(&group_name(name)).ok())
    }

    /// Makes the group of a slot that is to be started.
    pub(crate) fn make_group(&mut self, index: usize) {
        let Some(name) = self.slot(index).map(|slot| group_name(&slot.name)) else { return };
        let made = self.cgroup.as_ref().map(|root| root.child(&name)).transpose();
        match made {
            Ok(group) => {
                if let Some(slot) = self.slot_mut(index) {
                    slot.cgroup = group;
                }
            }
            Err(error) => self.degraded(index, &format!("no cgroup for it: {error}")),
        }
    }
}

impl Keeper {
    /// Sets the limits of a slot whose program does not run yet, and notes where the counts of its group stand.
    pub(crate) fn limit_before_start(&mut self, index: usize, limits: &GroupLimits) {
        let Some(slot) = self.slot_mut(index) else { return };
        let group = slot.cgroup.as_ref();
        let limited = group.map_or_else(
            || Limited::refused(limits, NO_GROUP),
            |group| group.limit(limits, Moment::BeforeStart),
        );
        slot.counts = group.map(Cgroup::counts);
        slot.limits = (*limits, limited);
    }

    /// Sets other limits. Nobody is killed by them at this moment.
    pub(crate) fn limit_while_running(&mut self, index: usize, limits: &GroupLimits) {
        let Some(slot) = self.slot_mut(index) else { return };
        // A program that was adopted may have been started where there were no groups.
        let inside = |group: &&Cgroup| {
            let main = slot.main();
            main.is_none_or(|main| group.members().is_ok_and(|pids| pids.contains(&main.pid)))
        };
        let limited = slot.cgroup.as_ref().filter(inside).map_or_else(
            || Limited::refused(limits, NO_GROUP),
            |group| group.limit(limits, Moment::WhileRunning),
        );
        slot.limits = (*limits, limited);
    }

    /// Says what is in force.
    pub(crate) fn tell_limits(&mut self, index: usize) {
        let Some(slot) = self.slot(index) else { return };
        let (tree, limited) = slot.limits.clone();
        let (slot, generation) = (slot.name.clone(), slot.generation);
        self.tell(Event::Limited { slot, generation, tree, limited });
    }

    /// A run ended whose tree could not make all the processes and threads that it wanted.
    pub(crate) fn tell_refused_tasks(&mut self, index: usize) {
        let Some((group, before)) = self.slot(index).and_then(Slot::counted) else { return };
        let refused = group.counts().since(before).tasks_refused;
        if let (Some(limit), 1..) = (group.tasks_limit(), refused) {
            let text = format!(
                "its tree may have {limit} tasks (limits.tree.tasks); {refused} more were refused in this run"
            );
            self.degraded(index, &text);
        }
    }
}

impl Slot {
    fn counted(&self) -> Option<(&Cgroup, GroupCounts)> {
        Some((self.cgroup.as_ref()?, self.counts?))
    }

    /// Whether the kernel ended it for want of memory. SIGKILL says little by itself: it also counts what was killed in the
    /// group in this run, and a kill of ours is none of that.
    pub(crate) fn out_of_memory(&self, status: ExitStatus) -> Option<OutOfMemory> {
        let killed = matches!(status, ExitStatus::Signal { number, .. } if number == Signal::KILL.number());
        let (group, before) = self.counted().filter(|_| killed && self.kill.is_none())?;
        let since = group.counts().since(before);
        let own = || group.memory_limit().filter(|_| since.at_memory_limit > 0);
        (since.memory_kills > 0).then(|| OutOfMemory { limit: own() })
    }

    /// Whether anybody is in its group or below; `false` without one.
    pub(crate) fn has_inhabited_group(&self) -> bool {
        self.cgroup.as_ref().is_some_and(|group| group.is_populated().unwrap_or(false))
    }
}

fn group_name(name: &SlotName) -> String {
    format!("slot-{name}")
}

/// Enables what there is of the controllers, each by itself; what is in force then.
fn enable(root: &Cgroup) -> Vec<String> {
    let available = root.controllers().unwrap_or_default();
    for controller in WANTED_CONTROLLERS.iter().filter(|wanted| available.iter().any(|name| name == *wanted))
    {
        let _ = root.enable(controller);
    }
    root.enabled().unwrap_or_default()
}
