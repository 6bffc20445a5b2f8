//! What has to be right before Horus can be relied on: asked by `horus doctor`, and by Horus itself at its start.
//!
//! None of it keeps Horus from starting. A watchdog on a full disk is better than none, and one that tells of it is better
//! still; what it cannot do without (its locks, its configuration, its socket) it finds out by using it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use horus_core::plan::DaemonPlan;
use horus_core::time::Human;
use horus_sys::disk::{Space, space};
use horus_sys::facility::{self, Facility};
use horus_sys::files::{Durability, write_atomic};
use horus_sys::limits::{self, Resource};
use horus_sys::{clock, lock};
use jiff::Timestamp;
use serde::Serialize;

/// Less room than this is too little for a day of journal and evidence.
const FREE_MIN: u64 = 100 << 20;

/// Less than this is little on a disk that is nearly full, because others write to it as well.
const FREE_SHARED_MIN: u64 = 1 << 30;

/// From here on a disk is nearly full: so much is free, in per cent.
const FREE_PERCENT_MIN: u64 = 5;

/// A disk that takes longer to write one small file for certain makes every record late.
const WRITE_MAX: Duration = Duration::from_secs(1);

/// Fewer descriptors are not enough for a hundred services.
const FILES_MIN: u64 = 1_024;

/// 2026-01-01: a clock before it is not set.
const CLOCK_MIN: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// How it stands with one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Horus does without, or will not for long.
    Warn,
    /// Something that Horus promises cannot be kept.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// A stable word.
    pub(crate) name: String,
    pub(crate) level: Level,
    /// What was seen.
    pub(crate) reason: String,
    /// What to do, if there is something.
    pub(crate) hint: Option<String>,
}

impl Check {
    pub(crate) fn ok(name: &str, reason: impl Into<String>) -> Self {
        Self { name: name.to_owned(), level: Level::Ok, reason: reason.into(), hint: None }
    }

    pub(crate) fn warn(name: &str, reason: impl Into<String>, hint: impl Into<String>) -> Self {
        let (level, hint) = (Level::Warn, Some(hint.into()));
        Self { name: name.to_owned(), level, reason: reason.into(), hint }
    }

    pub(crate) fn fail(name: &str, reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { level: Level::Fail, ..Self::warn(name, reason, hint) }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)?;
        self.hint.iter().try_for_each(|hint| write!(f, " (hint: {hint})"))
    }
}

/// Looks at the machine as this plan needs it. Blocks, for as long as the disk does.
pub(crate) fn examine(daemon: &DaemonPlan) -> Vec<Check> {
    let mut checks = vec![clock_is_set(Timestamp::now())];
    checks.extend(folder("state_directory", &daemon.state_directory, true));
    checks.extend(folder("run_directory", &daemon.run_directory, false));
    checks.push(open_files());
    checks.push(ping(daemon));
    checks.extend(facility::survey().into_iter().filter_map(|surveyed| match surveyed.facility {
        Facility::Present => None,
        Facility::Missing(loss) => {
            let text = format!("this system has no {}", surveyed.name);
            Some(Check::warn("system", text, loss))
        }
    }));
    checks
}

/// Who runs in this run directory, if anybody says so.
pub(crate) fn running(daemon: &DaemonPlan) -> Check {
    match lock::read_holder(&daemon.run_directory.join("lock")) {
        Some(holder) if super::directories::lives(holder.pid) => {
            Check::ok("daemon", format!("{holder} works here"))
        }
        _ => Check::ok("daemon", "no horus works here at the moment"),
    }
}

fn clock_is_set(now: Timestamp) -> Check {
    if now < CLOCK_MIN {
        let hint = "set it, such as by: timedatectl set-ntp true";
        return Check::fail("clock", format!("it says {now}, before this program was written"), hint);
    }
    Check::ok("clock", format!("it says {now}"))
}

fn folder(name: &str, path: &Path, durable: bool) -> Vec<Check> {
    let shown = path.display();
    // One that is not there yet is made at the start, where its first parent that is there allows it.
    let there = path.ancestors().find(|folder| folder.is_dir()).map(Path::to_path_buf);
    let Some(there) = there else {
        return vec![Check::fail(name, format!("{shown}: there is no such place"), "create it")];
    };
    let mut checks = vec![match space(&there) {
        Ok(found) => room(name, path, found),
        Err(error) => Check::warn(name, format!("{shown}: its disk does not answer: {error}"), "df"),
    }];
    if checks.iter().all(|check| check.level != Level::Fail) {
        checks.push(write_probe(name, &there, durable));
    }
    checks
}

fn room(name: &str, path: &Path, found: Space) -> Check {
    let (shown, free_mib) = (path.display(), found.free_bytes >> 20);
    if found.read_only {
        let hint = format!("mount it so that it can be written, or set another {name} in [daemon]");
        return Check::fail(name, format!("{shown} is on a disk that is mounted read-only"), hint);
    }
    let percent = found.free_bytes.saturating_mul(100) / found.total_bytes.max(1);
    // A small file system in memory is small on purpose.
    let little = found.free_bytes < FREE_MIN && found.total_bytes > 4 * FREE_MIN;
    if found.free_bytes == 0 {
        let reason = format!("{shown}: the disk is full");
        return Check::fail(name, reason, "make room: horus keeps no history until then");
    }
    if little || (percent < FREE_PERCENT_MIN && found.free_bytes < FREE_SHARED_MIN) {
        let reason = format!("{shown}: only {free_mib} MiB ({percent} %) are free");
        return Check::warn(name, reason, "make room before the journal stops");
    }
    let memory = if found.in_memory == Some(true) { ", in memory: empty after a reboot" } else { "" };
    Check::ok(name, format!("{shown}: {free_mib} MiB are free{memory}"))
}

fn write_probe(name: &str, folder: &Path, durable: bool) -> Check {
    let shown = folder.display();
    let probe: PathBuf = folder.join(format!(".horus-probe-{}", std::process::id()));
    let durability = if durable { Durability::PowerLoss } else { Durability::ThisBoot };
    let start = clock::monotonic();
    let written = write_atomic(&probe, b"horus looks whether it may write here\n", durability);
    let took = clock::monotonic().saturating_sub(start);
    let _ = std::fs::remove_file(&probe);
    match written {
        Ok(()) if took > WRITE_MAX => {
            let reason = format!("{shown}: one small file took {}", Human(took));
            Check::warn(name, reason, "a slow disk makes every record late; is it a network disk?")
        }
        Ok(()) => Check::ok(name, format!("{shown} takes writes")),
        Err(error) => {
            let hint = format!("is it yours? set another {name} in [daemon], or: ls -ld {shown}");
            Check::fail(name, format!("{shown} takes no writes: {error}"), hint)
        }
    }
}

fn open_files() -> Check {
    match limits::get(Resource::OpenFiles) {
        Ok(limit) if limit.hard < FILES_MIN => {
            let reason = format!("at most {} descriptors", limit.hard);
            Check::warn("open_files", reason, "LimitNOFILE=65536 in the unit, or: ulimit -Hn")
        }
        Ok(limit) => Check::ok("open_files", format!("up to {} descriptors", limit.hard)),
        Err(error) => Check::warn("open_files", format!("the limit is not known: {error}"), "ulimit -n"),
    }
}

fn ping(daemon: &DaemonPlan) -> Check {
    match &daemon.ping {
        Some(ping) => Check::ok("ping", format!("somebody hears of Horus every {}", Human(ping.every))),
        None => Check::warn(
            "ping",
            "nobody would notice if this machine were gone",
            "[daemon] ping = { url_env = \"HORUS_PING_URL\" }, with the URL of a dead-man switch",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_is_seen() {
        assert_eq!(clock_is_set(Timestamp::UNIX_EPOCH).level, Level::Fail);
        assert_eq!(clock_is_set(Timestamp::now()).level, Level::Ok);
    }

    #[test]
    fn a_full_and_a_read_only_disk_are_failures_and_a_scarce_one_a_warning() {
        let disk = |free_mib: u64, total_mib: u64| Space {
            free_bytes: free_mib << 20,
            total_bytes: total_mib << 20,
            read_only: false,
            in_memory: Some(false),
        };
        let level = |found| room("state_directory", Path::new("/s"), found).level;
        assert_eq!(level(disk(0, 1_000)), Level::Fail);
        assert_eq!(level(Space { read_only: true, ..disk(500, 1_000) }), Level::Fail);
        assert_eq!(level(disk(90, 1_000)), Level::Warn);
        assert_eq!(level(disk(900, 100_000)), Level::Warn);
        assert_eq!(level(disk(4_000, 100_000)), Level::Ok);
        assert_eq!(level(disk(60, 64)), Level::Ok, "small on purpose");
        assert_eq!(level(disk(50_000, 100_000)), Level::Ok);
    }

    #[test]
    fn a_folder_to_be_made_is_judged_by_its_parent_and_left_as_it_is() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("not/there/yet");
        let checks = folder("state_directory", &path, true);
        assert_eq!(checks.len(), 2, "{checks:?}");
        assert!(checks.iter().all(|check| check.level == Level::Ok), "{checks:?}");
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0, "the probe is gone");
    }

    #[test]
    fn a_file_in_the_way_takes_no_writes() {
        let checks = folder("state_directory", Path::new("/proc/1"), false);
        assert_eq!(checks.last().unwrap().level, Level::Fail, "{checks:?}");
    }
}
