//! What a program does, counted from outside: output, processor time, bytes read and written.
//!
//! These are weak signs. That they move does not say that the program does what it is there for, and not even that its loop
//! turns: a retry storm uses CPU, a helper thread prints. But a program that prints nothing, uses nothing and moves nothing does
//! nothing, and for one that knows nothing of Horus that is often all that can be known.
//!
//! All processes of the program's tree and of its session count. A process that begins and ends between two looks is not seen, nor is
//! one that has left both.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use horus_core::ids::{Generation, ProcessId, ServiceName};
use horus_core::observation::Activity;
use horus_sys::process::Table;
use horus_sys::sample::process_usage;

use crate::limits::ACTIVITY_PROCESSES_MAX;

/// Less than this share of one processor is what a program uses that waits: it does not count.
const IDLE_CPU_SHARE: u32 = 100;

/// One program to count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Which run.
    pub generation: Generation,
    /// Its main process.
    pub process: ProcessId,
    /// Where its output goes, if Horus owns that.
    pub log: Option<PathBuf>,
}

/// What was counted of one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// Whose.
    pub service: ServiceName,
    /// Which run.
    pub generation: Generation,
    /// The counters.
    pub activity: Activity,
}

/// Counts for all programs. Each look reads the process table once.
#[derive(Debug, Default)]
pub struct Counter {
    programs: BTreeMap<ServiceName, Program>,
}

#[derive(Debug)]
struct Program {
    subject: Subject,
    log: LogSize,
    used: HashMap<horus_sys::process::ProcessId, Used>,
    total: Activity,
}

#[derive(Clone, Copy, Debug, Default)]
struct Used {
    cpu_ns: u64,
    io_bytes: Option<u64>,
}

/// The size of a log that the keeper rotates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct LogSize {
    file: Option<(u64, u64)>,
    bytes: u64,
}

impl LogSize {
    fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Self { file: Some((meta.dev(), meta.ino())), bytes: meta.len() })
    }

    /// How much was written since. Of a file that was rotated away, at least one byte, and what is in the new one.
    fn grown(&self, now: &Self) -> u64 {
        if self.file == now.file && self.bytes <= now.bytes {
            now.bytes - self.bytes
        } else {
            now.bytes.max(1)
        }
    }
}

impl Program {
    fn new(subject: Subject) -> Self {
        let log = subject.log.as_deref().and_then(LogSize::of).unwrap_or_default();
        let total = Activity { output_bytes: subject.log.as_ref().map(|_| 0), cpu_ms: None, io_bytes: None };
        Self { subject, log, used: HashMap::new(), total }
    }

    /// One look. What could not be read in it is not told: it did not stand still for that.
    fn look(&mut self, table: Option<&Table>, passed: Duration) -> Activity {
        if let Some(now) = self.subject.log.as_deref().and_then(LogSize::of) {
            let grown = if self.log.file.is_none() { now.bytes } else { self.log.grown(&now) };
            let total = self.total.output_bytes.get_or_insert(0);
            *total = total.saturating_add(grown);
            self.log = now;
        }
        let (cpu, io) = table.map_or((false, false), |table| self.look_at_tree(table, passed));
        Activity {
            output_bytes: self.total.output_bytes,
            cpu_ms: self.total.cpu_ms.filter(|_| cpu),
            io_bytes: self.total.io_bytes.filter(|_| io),
        }
    }

    /// Whether processor time, and bytes, were read of every process of the tree.
    fn look_at_tree(&mut self, table: &Table, passed: Duration) -> (bool, bool) {
        let main = self.subject.process;
        let main = horus_sys::process::ProcessId { pid: main.pid, start_time: main.start_time };
        let first = self.used.is_empty();
        let tree = table.closure(|row| row.id == main || row.session == main.pid, |_| false);
        let mut now = HashMap::new();
        let (mut cpu_ns, mut io_bytes) = (None::<u64>, None::<u64>);
        let few = tree.len() <= ACTIVITY_PROCESSES_MAX;
        let mut all = (few, few);
        for row in tree.iter().filter(|row| !row.is_gone()).take(ACTIVITY_PROCESSES_MAX) {
            let Some(usage) = process_usage(row.id.pid).known() else {
                all = (false, false);
                continue;
            };
            let used = Used { cpu_ns: usage.cpu_ns, io_bytes: usage.io_bytes.known() };
            // What it had used before the first look is not counted.
            let before = self.used.get(&row.id).copied();
            let before = before.unwrap_or(if first { used } else { Used::default() });
            let cpu = cpu_ns.get_or_insert(0);
            *cpu = cpu.saturating_add(used.cpu_ns.saturating_sub(before.cpu_ns));
            match used.io_bytes {
                Some(bytes) => {
                    let io = io_bytes.get_or_insert(0);
                    *io = io.saturating_add(bytes.saturating_sub(before.io_bytes.unwrap_or(0)));
                }
                None => all.1 = false,
            }
            now.insert(row.id, used);
        }
        if now.is_empty() {
            // It has ended, or it may not be looked at.
            return (false, false);
        }
        self.used = now;
        if let Some(grown) = cpu_ns {
            let total = self.total.cpu_ms.get_or_insert(0);
            let idle = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX) / u64::from(IDLE_CPU_SHARE);
            if grown >= idle && grown > 0 {
                *total = total.saturating_add((grown / 1_000_000).max(1));
            }
        }
        if let Some(grown) = io_bytes {
            let total = self.total.io_bytes.get_or_insert(0);
            *total = total.saturating_add(grown);
        }
        all
    }
}

impl Counter {
    /// Counts for these programs from now on, and for nobody else. What is known of a run stays.
    pub fn follow<'a>(&mut self, subjects: impl Iterator<Item = (&'a ServiceName, &'a Subject)>) {
        let mut wanted = BTreeSet::new();
        for (service, subject) in subjects {
            wanted.insert(service);
            if self.programs.get(service).is_none_or(|known| known.subject != *subject) {
                self.programs.insert(service.clone(), Program::new(subject.clone()));
            }
        }
        self.programs.retain(|service, _| wanted.contains(service));
    }

    /// One look at each program for which `is_due`; `passed` since the last look at it. What was counted before the first look is not
    /// told, so the first one says zero.
    pub fn look(&mut self, mut is_due: impl FnMut(&ServiceName) -> Option<Duration>) -> Vec<Count> {
        let due: Vec<_> =
            self.programs.iter_mut().filter_map(|(name, of)| Some((is_due(name)?, name, of))).collect();
        if due.is_empty() {
            return Vec::new();
        }
        let table = Table::read().ok();
        let counts = due.into_iter().map(|(passed, service, program)| {
            let activity = program.look(table.as_ref(), passed);
            let (service, generation) = (service.clone(), program.subject.generation);
            Count { service, generation, activity }
        });
        counts.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use horus_sys::process::{identify, own_pid};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn counter(log: &Path) -> Counter {
        let process = identify(own_pid()).unwrap().unwrap();
        let process = ProcessId { pid: process.pid, start_time: process.start_time };
        let subject = Subject { generation: Generation(1), process, log: Some(log.to_owned()) };
        let mut counter = Counter::default();
        counter.follow([(&ServiceName::parse("bot").unwrap(), &subject)].into_iter());
        counter
    }

    fn look(counter: &mut Counter) -> Activity {
        counter.look(|_| Some(SECOND)).pop().unwrap().activity
    }

    #[test]
    fn output_is_counted_through_a_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bot.log");
        let write = |text: &str| {
            std::fs::File::options().append(true).create(true).open(&path).unwrap().write_all(text.as_bytes())
        };
        write("of an earlier run\n").unwrap();
        let mut counter = counter(&path);
        assert_eq!(look(&mut counter).output_bytes, Some(0), "what an earlier run wrote is not this one's");
        write("twelve bytes").unwrap();
        assert_eq!(look(&mut counter).output_bytes, Some(12));
        std::fs::rename(&path, directory.path().join("bot.log.1")).unwrap();
        write("four").unwrap();
        assert_eq!(look(&mut counter).output_bytes, Some(16));
        assert_eq!(look(&mut counter).output_bytes, Some(16), "nothing was written");
    }

    #[test]
    fn work_moves_the_counters_of_a_process_and_rest_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let mut counter = counter(&directory.path().join("none.log"));
        let first = look(&mut counter);
        assert_eq!(first.cpu_ms, Some(0));
        let mut sum = 0_u64;
        let worked = (0..1_000).any(|round| {
            sum = (0..2_000_000_u64).fold(sum, |sum, n| sum.wrapping_mul(31).wrapping_add(n ^ round));
            look(&mut counter).cpu_ms > Some(0)
        });
        assert!(worked, "{sum}");
        let before = look(&mut counter).io_bytes.unwrap();
        std::fs::read("/proc/self/status").map(|text| assert!(!text.is_empty())).unwrap_or_default();
        assert!(look(&mut counter).io_bytes.unwrap() > before);
    }
}
