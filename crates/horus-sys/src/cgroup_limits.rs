//! What a control group may use, and what became of those who wanted more. All of it is files, so this compiles everywhere.
//!
//! A limit is kept only where its controller is enabled: then its file is there. So the file decides whether a limit is
//! in force, and not what somebody believes of the machine.
//!
//! Rejected: `memory.high`, below the limit. It slows a program down instead of ending it, and a program that crawls looks
//! like one that hangs.

use crate::cgroup::Cgroup;
use serde::{Deserialize, Serialize};
use std::io;

/// The kernel shares out processor time in periods of so many microseconds.
const PERIOD_MICROSECONDS: u64 = 100_000;
/// The word for "as much as there is".
const NO_LIMIT: &str = "max";

/// What the members of a group may use together. `None`: as much as there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupLimits {
    /// Memory in bytes. Without it the whole group is killed as one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tasks: Option<u64>,
    /// Processor time, per cent of one processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u32>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupLimit {
    /// [`GroupLimits::memory`].
    Memory,
    /// [`GroupLimits::tasks`].
    Tasks,
    /// [`GroupLimits::cpu_percent`].
    Cpu,
    /// One that a newer side knows.
    #[serde(other)]
    Unknown,
}

/// A limit that is not in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which.
    pub limit: GroupLimit,
    /// Why, for people.
    pub why: String,
}

/// What came of setting limits. One that was not asked for is in neither list, unless it could not be lifted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limited {
    /// In force.
    pub applied: Vec<GroupLimit>,
    /// Not in force.
    pub refused: Vec<Refused>,
}

/// How often something was refused or taken in a group, since the group was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupCounts {
    /// It was at its own limit of memory, with nothing left to give back.
    pub at_memory_limit: u64,
    /// Processes that the kernel killed for want of memory, its own or that of a group above.
    pub memory_kills: u64,
    /// A process or thread was refused because of its own limit.
    pub tasks_refused: u64,
}

/// Whether anybody lives in the group whose limits are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nobody yet: everything is set as it is asked.
    BeforeStart,
    /// Somebody: a limit by which they would be killed at once is not set.
    WhileRunning,
}

impl GroupLimits {
    /// Nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    fn asked(&self) -> Vec<GroupLimit> {
        let all = [
            (GroupLimit::Memory, self.memory.is_some()),
            (GroupLimit::Tasks, self.tasks.is_some()),
            (GroupLimit::Cpu, self.cpu_percent.is_some()),
        ];
        all.into_iter().filter(|(_, asked)| *asked).map(|(limit, _)| limit).collect()
    }
}

impl GroupLimit {
    fn file(self) -> &'static str {
        match self {
            Self::Memory => "memory.max",
            Self::Tasks => "pids.max",
            Self::Cpu | Self::Unknown => "cpu.max",
        }
    }

    fn controller(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Tasks => "pids",
            Self::Cpu | Self::Unknown => "cpu",
        }
    }
}

impl Limited {
    /// All that is asked is refused, for one reason.
    pub fn refused(limits: &GroupLimits, why: &str) -> Self {
        let refuse = |limit| Refused { limit, why: why.to_owned() };
        Self { applied: Vec::new(), refused: limits.asked().into_iter().map(refuse).collect() }
    }
}

impl GroupCounts {
    /// What was added since then.
    pub fn since(self, before: Self) -> Self {
        Self {
            at_memory_limit: self.at_memory_limit.saturating_sub(before.at_memory_limit),
            memory_kills: self.memory_kills.saturating_sub(before.memory_kills),
            tasks_refused: self.tasks_refused.saturating_sub(before.tasks_refused),
        }
    }
}

impl Cgroup {
    /// Sets all limits, and lifts those that are not asked for. Each by itself: one that is refused hinders no other.
    pub fn limit(&self, limits: &GroupLimits, moment: Moment) -> Limited {
        let cpu = limits.cpu_percent.map(|share| u64::from(share) * PERIOD_MICROSECONDS / 100);
        let all = [
            (GroupLimit::Memory, limits.memory, self.limit_memory(limits.memory, moment)),
            (GroupLimit::Tasks, limits.tasks, self.set(GroupLimit::Tasks, &or_none(limits.tasks))),
            (
                GroupLimit::Cpu,
                cpu,
                self.set(GroupLimit::Cpu, &format!("{} {PERIOD_MICROSECONDS}", or_none(cpu))),
            ),
        ];
        let mut limited = Limited::default();
        for (limit, asked, result) in all {
            match (asked, result) {
                (Some(_), Ok(())) => limited.applied.push(limit),
                (None, Ok(()) | Err(Refusal::NoController)) => {}
                (Some(_), Err(refusal)) => {
                    limited.refused.push(Refused { limit, why: self.words(limit, &refusal) })
                }
                (None, Err(refusal)) => {
                    let why = format!("it cannot be lifted: {}", self.words(limit, &refusal));
                    limited.refused.push(Refused { limit, why });
                }
            }
        }
        limited
    }

    /// What was refused or taken in it so far; zero for what has no controller here.
    pub fn counts(&self) -> GroupCounts {
        let memory = self.read("memory.events").unwrap_or_default();
        // A group below with a limit of its own is not this group's limit. Linux 5.2.
        let own = self.read("memory.events.local").unwrap_or_else(|_| memory.clone());
        let tasks = self.read("pids.events").unwrap_or_default();
        GroupCounts {
            at_memory_limit: number_after(&own, "oom").unwrap_or(0),
            memory_kills: number_after(&memory, "oom_kill").unwrap_or(0),
            tasks_refused: number_after(&tasks, "max").unwrap_or(0),
        }
    }

    /// Its limit of memory, in bytes.
    pub fn memory_limit(&self) -> Option<u64> {
        self.read(GroupLimit::Memory.file()).ok()?.trim().parse().ok()
    }

    /// Its limit of processes and threads.
    pub fn tasks_limit(&self) -> Option<u64> {
        self.read(GroupLimit::Tasks.file()).ok()?.trim().parse().ok()
    }

    fn limit_memory(&self, asked: Option<u64>, moment: Moment) -> Result<(), Refusal> {
        if let (Some(asked), Moment::WhileRunning) = (asked, moment)
            && let Some(kept) = self.memory_that_stays().filter(|kept| *kept > asked)
        {
            return Err(Refusal::InUse(kept));
        }
        // Half of a tree that is dead is worse than none of it. First, so that there is no moment with the limit alone;
        // a kernel without it (before 4.19) kills one process at a time.
        let _ = self.control("memory.oom.group", if asked.is_some() { "1" } else { "0" });
        self.set(GroupLimit::Memory, &or_none(asked))
    }

    /// Memory in use that the kernel cannot take back without killing: all but the file cache. In bytes.
    fn memory_that_stays(&self) -> Option<u64> {
        let used: u64 = self.read("memory.current").ok()?.trim().parse().ok()?;
        let detail = self.read("memory.stat").unwrap_or_default();
        let cache = ["inactive_file", "active_file"].map(|name| number_after(&detail, name).unwrap_or(0));
        Some(used.saturating_sub(cache.iter().sum()))
    }

    fn set(&self, limit: GroupLimit, text: &str) -> Result<(), Refusal> {
        match self.control(limit.file(), text) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Refusal::NoController),
            Err(error) => Err(Refusal::Kernel(error)),
        }
    }

    fn words(&self, limit: GroupLimit, refusal: &Refusal) -> String {
        match refusal {
            Refusal::NoController => {
                format!("no {} controller in {}", limit.controller(), self.path().display())
            }
            Refusal::InUse(kept) => format!(
                "{} MiB are in use and would be killed at once; it holds from the next start on",
                kept >> 20
            ),
            Refusal::Kernel(error) => format!("{}: {error}", self.path().join(limit.file()).display()),
        }
    }
}

/// Why a limit was not set.
enum Refusal {
    NoController,
    InUse(u64),
    Kernel(io::Error),
}

fn or_none(value: Option<u64>) -> String {
    value.map_or_else(|| NO_LIMIT.to_owned(), |value| value.to_string())
}

/// The number of the line that begins with this name.
fn number_after(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{Durability, write_atomic};
    use std::fs;
    use std::path::Path;

    const ALL: GroupLimits =
        GroupLimits { memory: Some(512 << 20), tasks: Some(200), cpu_percent: Some(150) };
    const EVENTS: &str = "low 0\nhigh 0\nmax 7\noom 2\noom_kill 3\noom_group_kill 1\n";

    /// Files that take what is written, as the kernel's do; those of the named controllers only.
    fn group(at: &Path, controllers: &[&str]) -> Cgroup {
        for (file, content) in [
            ("memory.max", "max\n"),
            ("memory.oom.group", "0\n"),
            ("memory.current", "104857600\n"),
            ("memory.stat", "anon 52428800\ninactive_file 41943040\nactive_file 8388608\n"),
            ("memory.events", EVENTS),
            ("memory.events.local", "oom 1\noom_kill 9\n"),
            ("pids.max", "max\n"),
            ("pids.events", "max 5\n"),
            ("cpu.max", "max 100000\n"),
        ] {
            if controllers.iter().any(|name| file.starts_with(name)) {
                write_atomic(&at.join(file), content.as_bytes(), Durability::ThisBoot).unwrap();
            }
        }
        Cgroup::existing(at)
    }

    /// The kernel takes one write as one value; a file keeps the rest of what was there.
    fn first_word(at: &Path, file: &str) -> String {
        fs::read_to_string(at.join(file)).unwrap().lines().next().unwrap_or_default().to_owned()
    }

    #[test]
    fn each_limit_is_written_and_lifted_in_its_own_file() {
        let scratch = tempfile::tempdir().unwrap();
        let at = scratch.path();
        let group = group(at, &["memory", "pids", "cpu"]);
        let limited = group.limit(&ALL, Moment::BeforeStart);
        assert_eq!(limited.applied, [GroupLimit::Memory, GroupLimit::Tasks, GroupLimit::Cpu]);
        assert_eq!(limited.refused, []);
        let files = ["memory.max", "memory.oom.group", "pids.max", "cpu.max"];
        assert_eq!(files.map(|file| first_word(at, file)), ["536870912", "1", "200", "150000 100000"]);
        assert_eq!((group.memory_limit(), group.tasks_limit()), (Some(512 << 20), Some(200)));
        assert_eq!(group.limit(&GroupLimits::default(), Moment::WhileRunning), Limited::default());
        let lifted = files.map(|file| first_word(at, file).chars().take(3).collect::<String>());
        assert_eq!(lifted, ["max", "0", "max", "max"]);
    }

    #[test]
    fn a_limit_without_its_controller_is_refused_and_hinders_no_other() {
        let scratch = tempfile::tempdir().unwrap();
        let group = group(scratch.path(), &["pids"]);
        let limited = group.limit(&ALL, Moment::BeforeStart);
        assert_eq!(limited.applied, [GroupLimit::Tasks]);
        let why: Vec<_> =
            limited.refused.iter().map(|refused| (refused.limit, refused.why.as_str())).collect();
        let path = scratch.path().display();
        let expected = [
            (GroupLimit::Memory, format!("no memory controller in {path}")),
            (GroupLimit::Cpu, format!("no cpu controller in {path}")),
        ];
        assert_eq!(why, [0, 1].map(|n| (expected[n].0, expected[n].1.as_str())));
        // What is not asked for is not missed.
        assert_eq!(group.limit(&GroupLimits::default(), Moment::BeforeStart), Limited::default());
        assert_eq!(Limited::refused(&ALL, "no").refused.len(), 3);
    }

    #[test]
    fn no_limit_kills_who_lives_under_an_older_one() {
        let scratch = tempfile::tempdir().unwrap();
        let at = scratch.path();
        let group = group(at, &["memory"]);
        let limits = |mib: u64| GroupLimits { memory: Some(mib << 20), ..GroupLimits::default() };
        // 100 MiB are used, of which 48 are cache that can be given back.
        assert_eq!(group.limit(&limits(60), Moment::WhileRunning).applied, [GroupLimit::Memory]);
        let refused = group.limit(&limits(51), Moment::WhileRunning);
        assert_eq!(refused.applied, []);
        assert!(refused.refused[0].why.starts_with("52 MiB are in use"), "{refused:?}");
        assert_eq!(first_word(at, "memory.max"), (60 << 20).to_string(), "the older one stays");
        assert_eq!(group.limit(&limits(51), Moment::BeforeStart).applied, [GroupLimit::Memory]);
    }

    #[test]
    fn counts_are_those_of_its_own_limits_and_of_all_its_dead() {
        let scratch = tempfile::tempdir().unwrap();
        let counts = group(scratch.path(), &["memory", "pids"]).counts();
        assert_eq!(counts, GroupCounts { at_memory_limit: 1, memory_kills: 3, tasks_refused: 5 });
        let before = GroupCounts { at_memory_limit: 1, memory_kills: 1, tasks_refused: 9 };
        let since = GroupCounts { at_memory_limit: 0, memory_kills: 2, tasks_refused: 0 };
        assert_eq!(counts.since(before), since);
        fs::remove_file(scratch.path().join("memory.events.local")).unwrap();
        assert_eq!(Cgroup::existing(scratch.path()).counts().at_memory_limit, 2);
        let nothing = tempfile::tempdir().unwrap();
        assert_eq!(Cgroup::existing(nothing.path()).counts(), GroupCounts::default());
    }
}
