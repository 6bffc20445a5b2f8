//! The control groups of the slots: `HOME/slot-NAME`, one each, from the first start to the end of the slot's last process.
//!
//! In a scope of our own the keeper lives in `HOME/keeper` and enables the controllers that limits need; nobody may be in
//! the scope's own group then. In a group where others live (the unit's, the root) nothing is enabled: groups there serve
//! to find and to kill. See `home.rs` for where HOME is.

use crate::keeper::Keeper;
use crate::keeper::slot::Slot;
use crate::protocol::SlotName;
use horus_sys::cgroup::Cgroup;
use horus_sys::cgroup_home::{Place, place_of};
use std::io;
use std::path::Path;

/// What limits need.
const WANTED_CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];
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

impl Slot {
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
