//! What systemd runs after Horus has ended, however it ended (`ExecStopPost`).
//!
//! With `KillMode=process` systemd ends Horus and nobody else, so that a crash harms no program. The price: a Horus that
//! hangs while it is told to stop leaves its programs behind. So after a *stop* everybody who is still in the unit's group
//! or in the scope beside it is ended here. After a crash or for a restart nobody is touched: the next Horus takes them over.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use horus_sys::cgroup_home::Unit;
use horus_sys::files::read_limited;
use horus_sys::process::{ProcessId, identify, is_alive};
use horus_sys::signal::{Signal, send};

use crate::job::{Job, JobError, job_of};
use crate::plan::Scope;
use crate::runner::Runner;

/// Where systemd puts the processes of `Exec...Post=` of a unit with `Delegate=`: ourselves.
const OWN_GROUP: &str = ".control";
/// Largest list of processes or mounts that is read, in bytes.
const LIST_BYTES_MAX: usize = 1 << 20;
/// Groups below groups below groups.
const DEPTH_MAX: usize = 16;
/// Between SIGTERM and SIGKILL. Short: `TimeoutStopSec` counts for this too, and the programs have had all of it once already.
const GRACE: Duration = Duration::from_secs(2);
/// How long SIGKILL is repeated: somebody may fork faster than we look.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What was done.
#[derive(Debug, PartialEq, Eq)]
pub enum StopPost {
    /// It was no stop: whoever is there stays.
    LeftAlone(Option<Job>),
    /// It was a stop: the group was emptied.
    Swept(Swept),
}

/// Who was ended after a stop.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Everybody who was found.
    pub found: BTreeSet<ProcessId>,
    /// Who is still there: they hang in the kernel.
    pub left: BTreeSet<ProcessId>,
}

/// Ends what a stopped Horus left behind; does nothing after a crash or for a restart.
///
/// # Errors
/// It is not run by systemd, or the group cannot be read, or systemd does not say what it is about to do: then nobody is
/// touched.
pub fn stop_post(scope: Scope, runner: &mut dyn Runner) -> Result<StopPost, StopPostError> {
    let (group, unit) = own_unit()?;
    match job_of(scope, &unit, runner)? {
        Some(Job::Stop) => {
            let groups: Vec<PathBuf> =
                Unit::of_process().and_then(|unit| unit.scope()).into_iter().chain([group]).collect();
            sweep(&groups, runner).map(StopPost::Swept).map_err(StopPostError::Group)
        }
        other => Ok(StopPost::LeftAlone(other)),
    }
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum StopPostError {
    /// Nobody but systemd calls this.
    #[error("this is no service of systemd")]
    NoUnit,
    /// See there.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The group cannot be read.
    #[error("the group of the service cannot be read")]
    Group(#[source] io::Error),
}

fn own_unit() -> Result<(PathBuf, String), StopPostError> {
    let read = |path: &str| {
        let bytes = read_limited(Path::new(path), LIST_BYTES_MAX).map_err(StopPostError::Group)?;
        Ok::<_, StopPostError>(String::from_utf8_lossy(&bytes).into_owned())
    };
    let (own, mounts) = (read("/proc/self/cgroup")?, read("/proc/self/mountinfo")?);
    unit_group(&own, &mounts).ok_or(StopPostError::NoUnit)
}

/// The directory of the unit's group and the unit's name, from `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn unit_group(own: &str, mounts: &str) -> Option<(PathBuf, String)> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let path = path.strip_suffix(&format!("/{OWN_GROUP}")).unwrap_or(path).strip_prefix('/')?;
    let unit = path.rsplit('/').next().filter(|name| name.ends_with(".service"))?;
    let mount = mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then(|| place.split(' ').nth(4))?
    })?;
    Some((Path::new(mount).join(path), unit.to_owned()))
}

fn sweep(groups: &[PathBuf], runner: &mut dyn Runner) -> io::Result<Swept> {
    let mut swept = Swept::default();
    let (soft, hard) = (signal("SIGTERM")?, signal("SIGKILL")?);
    let mut told = BTreeSet::new();
    for (with, looks) in [(soft, GRACE), (hard, PATIENCE)] {
        for _ in 0..looks.as_millis() / LOOK_AGAIN.as_millis() {
            swept.left = there(groups)?;
            if swept.left.is_empty() {
                return Ok(swept);
            }
            for process in &swept.left {
                // Softly once; hard as often as it takes.
                if with == hard || told.insert(*process) {
                    // Gone meanwhile: good.
                    let _ = send(process, with);
                }
            }
            swept.found.extend(&swept.left);
            runner.pause(LOOK_AGAIN);
        }
    }
    swept.left = there(groups)?;
    Ok(swept)
}

fn signal(name: &str) -> io::Result<Signal> {
    name.parse().map_err(|error| io::Error::new(io::ErrorKind::Unsupported, format!("{error}")))
}

/// Who lives in the groups, ourselves left out. Listed twice: a number that was given to somebody else between the two
/// looks is not in the second list, or is that of a newcomer, who belongs here too.
fn there(groups: &[PathBuf]) -> io::Result<BTreeSet<ProcessId>> {
    let mut pids = BTreeSet::new();
    for group in groups {
        members(group, 0, &mut pids)?;
    }
    let found: Vec<ProcessId> = pids.iter().filter_map(|pid| identify(*pid).ok().flatten()).collect();
    let mut still = BTreeSet::new();
    for group in groups {
        members(group, 0, &mut still)?;
    }
    let own = horus_sys::process::own_pid();
    let ours = |process: &ProcessId| process.pid != own && still.contains(&process.pid) && is_alive(process);
    Ok(found.into_iter().filter(ours).collect())
}

fn members(group: &Path, depth: usize, pids: &mut BTreeSet<i32>) -> io::Result<()> {
    let list = match read_limited(&group.join("cgroup.procs"), LIST_BYTES_MAX) {
        Ok(list) => list,
        // The group went with its last process.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound) => return Ok(()),
        Err(error) if depth > 0 && error.raw_os_error() == Some(NO_DEVICE) => return Ok(()),
        Err(error) => return Err(error),
    };
    pids.extend(String::from_utf8_lossy(&list).lines().filter_map(|line| line.parse::<i32>().ok()));
    if depth == DEPTH_MAX {
        return Ok(());
    }
    for entry in fs::read_dir(group)?.flatten() {
        let is_group = entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.file_name() != OWN_GROUP;
        if is_group {
            members(&entry.path(), depth + 1, pids)?;
        }
    }
    Ok(())
}

/// ENODEV: the group was removed while it was read.
const NO_DEVICE: i32 = 19;

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                          41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_unit_is_known_by_its_group() {
        let own = "1:name=systemd:/x\n0::/system.slice/horus.service/.control\n";
        let path = PathBuf::from("/sys/fs/cgroup/unified/system.slice/horus.service");
        assert_eq!(unit_group(own, MOUNTS), Some((path, "horus.service".to_owned())));
        for elsewhere in ["0::/\n", "0::/user.slice/session-1.scope\n", "9:name=systemd:/a.service\n"] {
            assert_eq!(unit_group(elsewhere, MOUNTS), None, "{elsewhere}");
        }
    }

    #[test]
    fn a_group_that_is_gone_is_empty() {
        assert_eq!(there(&["/sys/fs/cgroup/no/such.service".into()]).unwrap(), BTreeSet::new());
    }
}
