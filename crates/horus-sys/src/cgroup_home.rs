//! Where this process stands among the control groups, and where groups of its own may be.
//!
//! Under systemd a service has a group, the unit's. Groups of our own may be made in it (`Delegate=`), but as soon as a
//! controller is enabled there no process may be in it, and then systemd 252 cannot start the service in it again. So
//! whoever wants limits needs a group beside it: a scope. All of it is files; a system without cgroups has none.

use crate::files::read_limited;
use std::path::{Path, PathBuf};

/// Longest list of groups or mounts that is read, in bytes.
const MAX_LIST: usize = 1 << 20;
/// How the names of our scopes end.
const SCOPE_TAIL: &str = "-services.scope";

/// The service of systemd that a process belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name, such as `horus.service`.
    pub name: String,
    /// The directory of its group.
    pub group: PathBuf,
    /// It belongs to the manager of a user.
    pub of_user: bool,
}

impl Unit {
    /// The one that this process belongs to.
    pub fn of_process() -> Option<Self> {
        unit_in(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)
    }

    /// The name of the scope for its programs.
    pub fn scope_name(&self) -> String {
        format!("{}{SCOPE_TAIL}", self.name.trim_end_matches(".service"))
    }

    /// The slice that it is in, where its scope has to be too. `None`: in none.
    pub fn slice(&self) -> Option<&str> {
        self.group.parent()?.file_name()?.to_str().filter(|name| name.ends_with(".slice"))
    }

    /// The directory of the scope's group, whether that is there or not.
    pub fn scope(&self) -> Option<PathBuf> {
        self.slice()?;
        Some(self.group.parent()?.join(self.scope_name()))
    }
}

/// What a directory of groups is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A scope that was founded for our programs: all of it is ours.
    OurScope,
    /// The group of a service, or the root of all groups: no controller may be enabled in it.
    Inhabited,
    /// A directory that somebody has set aside for us.
    Given,
}

/// What this directory is.
pub fn place_of(path: &Path) -> Place {
    let last = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if last.ends_with(SCOPE_TAIL) {
        return Place::OurScope;
    }
    let is_root =
        || mount_in(&read("/proc/self/mountinfo").unwrap_or_default()).is_some_and(|(at, _)| at == path);
    if innermost_unit(path).is_some_and(|name| name.ends_with(".service")) || is_root() {
        Place::Inhabited
    } else {
        Place::Given
    }
}

fn read(path: &str) -> Option<String> {
    read_limited(Path::new(path), MAX_LIST).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Where cgroup v2 is mounted, and what of its tree.
fn mount_in(mounts: &str) -> Option<(PathBuf, &str)> {
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut fields = place.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        kind.starts_with("cgroup2 ").then(|| (PathBuf::from(at), root))
    })
}

fn is_unit(name: &str) -> bool {
    [".service", ".scope", ".slice"].iter().any(|kind| name.ends_with(kind))
}

fn innermost_unit(path: &Path) -> Option<&str> {
    path.iter().rev().filter_map(|name| name.to_str()).find(|name| is_unit(name))
}

fn unit_in(own: &str, mounts: &str) -> Option<Unit> {
    // The lines of the old hierarchies name other trees.
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (at, root) = mount_in(mounts)?;
    let path = Path::new(path).strip_prefix(root).ok()?;
    let name = innermost_unit(path).filter(|name| name.ends_with(".service"))?;
    let group = path.ancestors().find(|group| group.file_name().is_some_and(|last| last == name))?;
    let of_user = group.iter().any(|part| part.to_str().is_some_and(|part| part.starts_with("user@")));
    let name = name.to_owned();
    Some(Unit { of_user: of_user && !name.starts_with("user@"), group: at.join(group), name })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                          41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn a_service_is_known_by_its_group_wherever_groups_are_mounted() {
        let own = "3:cpu:/x\n0::/system.slice/horus.service/slot-bot\n";
        let unit = unit_in(own, MOUNTS).unwrap();
        assert_eq!(
            (unit.name.as_str(), unit.of_user, unit.slice()),
            ("horus.service", false, Some("system.slice"))
        );
        assert_eq!(unit.group, Path::new("/sys/fs/cgroup/unified/system.slice/horus.service"));
        let scope = Path::new("/sys/fs/cgroup/unified/system.slice/horus-services.scope");
        assert_eq!(unit.scope().as_deref(), Some(scope));

        let own = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/horus.service\n";
        let unit = unit_in(own, MOUNTS).unwrap();
        assert_eq!(
            (unit.name.as_str(), unit.of_user, unit.slice()),
            ("horus.service", true, Some("app.slice"))
        );

        for elsewhere in [
            "0::/\n",
            "0::/user.slice/user-1000.slice/session-1.scope\n",
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/tmux.scope\n",
            "9:name=systemd:/a.service\n",
        ] {
            assert_eq!(unit_in(elsewhere, MOUNTS), None, "{elsewhere}");
        }
        let inside = "41 31 0:38 /box /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let unit = unit_in("0::/box/system.slice/horus.service\n", inside).unwrap();
        assert_eq!(unit.group, Path::new("/sys/fs/cgroup/system.slice/horus.service"));
        assert_eq!(unit_in(own, ""), None, "a system without them");
    }

    #[test]
    fn only_what_is_ours_alone_is_taken_over() {
        for (path, place) in [
            ("/sys/fs/cgroup/system.slice/horus-services.scope", Place::OurScope),
            ("/sys/fs/cgroup/system.slice/horus.service", Place::Inhabited),
            ("/sys/fs/cgroup/system.slice/horus.service/part", Place::Inhabited),
            ("/sys/fs/cgroup/mine", Place::Given),
            ("/sys/fs/cgroup/user.slice/user@1000.service/app.slice/mine", Place::Given),
        ] {
            assert_eq!(place_of(Path::new(path)), place, "{path}");
        }
    }
}
