//! Who a process is, and who belongs to whom.
//!
//! A pid is a coat-check number: it is handed to somebody else once its owner has gone. The pair of pid and start
//! time is the owner. Everything that signals, adopts or reports speaks of [`ProcessId`], never of a bare pid.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A process of this boot, told apart from any later owner of the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The kernel's number for it.
    pub pid: i32,
    /// Linux: clock ticks after boot (`/proc/PID/stat`, field 22). macOS: microseconds since 1970.
    pub start_time: u64,
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.pid, self.start_time)
    }
}

/// One line of the process table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Who.
    pub id: ProcessId,
    /// Pid of the parent (after the death of the real one: of the reaper that took over).
    pub parent: i32,
    /// Process group.
    pub group: i32,
    /// Session.
    pub session: i32,
    /// The kernel's letter: R, S, D, T, t, Z, X, I.
    pub state: u8,
    /// Threads that still live; a zombie leader may have some.
    pub threads: u32,
}

impl Row {
    /// Whether nothing of it runs any more. A leader that called `pthread_exit` shows as a zombie while its other
    /// threads work on: that is alive.
    pub fn is_gone(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }

    /// Stopped by a signal or a tracer.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }
}

/// A handle that keeps meaning the same process (a pidfd on Linux) and becomes readable in a
/// [`crate::poll::Poller`] when it ends.
#[derive(Debug)]
pub struct Handle {
    id: ProcessId,
    pub(crate) descriptor: Option<OwnedFd>,
}

impl Handle {
    /// Opens the process if it is still there, dead but unreaped included; `None` if it is gone or another one.
    pub fn open(id: ProcessId) -> io::Result<Option<Self>> {
        Ok(crate::os::open_handle(&id)?.map(|descriptor| Self { id, descriptor }))
    }

    /// For one that is gone already: it means nobody else, and never becomes readable.
    pub fn of_gone(id: ProcessId) -> Self {
        Self { id, descriptor: None }
    }

    /// Whom it means.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// The pidfd, where there is one.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor.as_ref().map(AsFd::as_fd)
    }

    /// The pidfd itself.
    pub fn into_descriptor(self) -> Option<OwnedFd> {
        self.descriptor
    }

    /// The wait status of a process that is *not* our child, once its parent has reaped it. Linux 6.15+; elsewhere
    /// always `None`.
    pub fn status_after_reap(&self) -> Option<crate::reap::WaitStatus> {
        self.descriptor.as_ref().and_then(|descriptor| crate::os::status_after_reap(descriptor.as_fd()))
    }
}

/// The same of a pidfd that somebody kept for us.
pub fn status_of(pidfd: BorrowedFd<'_>) -> Option<crate::reap::WaitStatus> {
    crate::os::status_after_reap(pidfd)
}

/// Who has this pid now; `None` if nobody (a zombie counts as somebody: its pid is taken).
pub fn identify(pid: i32) -> io::Result<Option<ProcessId>> {
    Ok(row(pid)?.map(|row| row.id))
}

/// The table line of one pid.
pub fn row(pid: i32) -> io::Result<Option<Row>> {
    if pid <= 0 { Ok(None) } else { crate::os::row(pid) }
}

/// Whether exactly this process runs: same pid, same start time, not a zombie (unless threads of it live).
/// An unreadable process table counts as alive: the safe side for everyone who asks.
pub fn is_alive(process: &ProcessId) -> bool {
    match row(process.pid) {
        Ok(Some(row)) => row.id == *process && !row.is_gone(),
        Ok(None) => false,
        Err(_) => true,
    }
}

/// The pid of the caller's parent.
pub fn parent_of_self() -> i32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::getppid() }
}

/// The caller's own pid.
pub fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(i32::MAX)
}

/// Names this process in process lists, at most 15 bytes of it. Best effort.
pub fn name_self(name: &str) {
    crate::os::name_self(name);
}

/// Ends the calling thread only, as `pthread_exit` does; called by the first thread it leaves a zombie leader. For tests.
pub fn end_this_thread() -> ! {
    crate::os::end_this_thread();
    loop {
        std::thread::park();
    }
}

/// Ends this process by SIGKILL: no destructor, no flush, no handler. For tests of crash safety.
pub fn die_as_if_killed() -> ! {
    loop {
        // SAFETY: a plain system call on numbers; it does not return.
        unsafe { libc::kill(own_pid(), libc::SIGKILL) };
    }
}

/// Whether `pid` descends from `of` now (a process is not its own descendant).
pub fn is_descendant(pid: i32, of: i32) -> io::Result<bool> {
    // The chain is short; a cycle is impossible in one snapshot, but we read several.
    const LONGEST_CHAIN: usize = 65_536;
    let mut current = pid;
    for _ in 0..LONGEST_CHAIN {
        match row(current)? {
            Some(row) if row.parent == of => return Ok(true),
            Some(row) if row.parent > 0 => current = row.parent,
            _ => return Ok(false),
        }
    }
    Ok(false)
}

/// Everybody who descends from `pid` now, zombies left out.
pub fn descendants(pid: i32) -> io::Result<Vec<ProcessId>> {
    let table = Table::read()?;
    let members = table.closure(|row| row.id.pid == pid, |_| false);
    Ok(members.into_iter().filter(|row| row.id.pid != pid && !row.is_gone()).map(|row| row.id).collect())
}

/// The environment of a process as `NAME=value` entries split by NUL, at most 256 KiB of it. Holds secrets: look for
/// one entry, never print or keep it.
pub fn environment(pid: i32) -> io::Result<Vec<u8>> {
    crate::os::environment(pid)
}

/// Whether descriptor 1 or 2 of the process is the file at `path`. `false` also when we may not look.
pub fn has_output_on(pid: i32, path: &std::path::Path) -> bool {
    crate::os::has_output_on(pid, path)
}

/// One snapshot of the whole process table, sorted by pid.
#[derive(Debug, Clone, Default)]
pub struct Table {
    rows: Vec<Row>,
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    Unknown,
    Member,
    Stranger,
}

impl Table {
    /// Reads it: some 5 microseconds a process on Linux.
    pub fn read() -> io::Result<Self> {
        let mut rows = crate::os::all_rows()?;
        rows.sort_unstable_by_key(|row| row.id.pid);
        Ok(Self { rows })
    }

    /// A table from given rows, for tests of tree logic.
    pub fn from_rows(mut rows: Vec<Row>) -> Self {
        rows.sort_unstable_by_key(|row| row.id.pid);
        Self { rows }
    }

    /// All lines.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The line of a pid.
    pub fn get(&self, pid: i32) -> Option<&Row> {
        self.position(pid).and_then(|at| self.rows.get(at))
    }

    /// Whether exactly this process is in the table and runs.
    pub fn is_alive(&self, process: &ProcessId) -> bool {
        self.get(process.pid).is_some_and(|row| row.id == *process && !row.is_gone())
    }

    /// The pid itself, its parent, and so on up to pid 1.
    pub fn lineage(&self, pid: i32) -> BTreeSet<i32> {
        let mut seen = BTreeSet::new();
        let mut current = pid;
        while current > 0 && seen.insert(current) {
            current = self.get(current).map_or(0, |row| row.parent);
        }
        seen
    }

    /// Everybody for whom `is_root` holds, and all their descendants. `is_barrier` (asked first) names processes
    /// that never belong, nor pass membership down from above.
    pub fn closure(
        &self,
        mut is_root: impl FnMut(&Row) -> bool,
        is_barrier: impl Fn(&Row) -> bool,
    ) -> Vec<Row> {
        let mut marks: Vec<Mark> = self
            .rows
            .iter()
            .map(|row| match row {
                row if is_barrier(row) => Mark::Stranger,
                row if is_root(row) => Mark::Member,
                _ => Mark::Unknown,
            })
            .collect();
        let mut path = Vec::new();
        for start in 0..self.rows.len() {
            let mut at = start;
            let verdict = loop {
                match marks.get(at).copied().unwrap_or(Mark::Stranger) {
                    Mark::Unknown => path.push(at),
                    decided => break decided,
                }
                // The length check ends a cycle, which a table read line by line could show.
                match self.parent_position(at) {
                    Some(parent) if path.len() <= self.rows.len() => at = parent,
                    _ => break Mark::Stranger,
                }
            };
            for decided in path.drain(..) {
                if let Some(mark) = marks.get_mut(decided) {
                    *mark = verdict;
                }
            }
        }
        self.rows.iter().zip(marks).filter(|(_, mark)| *mark == Mark::Member).map(|(row, _)| *row).collect()
    }

    fn position(&self, pid: i32) -> Option<usize> {
        self.rows.binary_search_by_key(&pid, |row| row.id.pid).ok()
    }

    /// The parent's place, unless the pid in the parent field is younger than the child (a reused number).
    fn parent_position(&self, at: usize) -> Option<usize> {
        let child = self.rows.get(at)?;
        let parent = self.position(child.parent)?;
        (self.rows.get(parent)?.id.start_time <= child.id.start_time).then_some(parent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(pid: i32, parent: i32, start_time: u64) -> Row {
        let id = ProcessId { pid, start_time };
        Row { id, parent, group: pid, session: pid, state: b'S', threads: 1 }
    }

    fn pids(rows: &[Row]) -> Vec<i32> {
        rows.iter().map(|row| row.id.pid).collect()
    }

    #[test]
    fn a_tree_is_its_roots_and_all_below_except_behind_a_barrier() {
        let table = Table::from_rows(vec![
            line(1, 0, 0),
            line(10, 1, 1),
            line(20, 10, 2),
            line(30, 20, 3),
            line(40, 30, 4),
            line(50, 10, 2),
        ]);
        assert_eq!(pids(&table.closure(|row| row.id.pid == 20, |_| false)), [20, 30, 40]);
        assert_eq!(pids(&table.closure(|row| row.id.pid == 10, |row| row.id.pid == 30)), [10, 20, 50]);
        assert_eq!(table.lineage(40), BTreeSet::from([1, 10, 20, 30, 40]));
    }

    #[test]
    fn a_parent_younger_than_its_child_is_a_reused_pid() {
        let table = Table::from_rows(vec![line(10, 1, 100), line(20, 10, 5)]);
        assert_eq!(pids(&table.closure(|row| row.id.pid == 10, |_| false)), [10]);
    }

    #[test]
    fn a_cycle_in_a_torn_table_ends() {
        let table = Table::from_rows(vec![line(10, 20, 5), line(20, 10, 5), line(30, 20, 5)]);
        assert!(table.closure(|_| false, |_| false).is_empty());
        assert_eq!(pids(&table.closure(|row| row.id.pid == 20, |_| false)), [10, 20, 30]);
    }

    #[test]
    fn a_chain_of_five_thousand_is_walked_once() {
        let rows = (0..5_000).map(|n| line(100 + n, 99 + n, u64::from(n.unsigned_abs()))).collect();
        assert_eq!(Table::from_rows(rows).closure(|row| row.id.pid == 100, |_| false).len(), 5_000);
    }

    #[test]
    fn a_zombie_leader_with_living_threads_is_not_gone() {
        let mut row = line(10, 1, 1);
        (row.state, row.threads) = (b'Z', 3);
        assert!(!row.is_gone());
        row.threads = 1;
        assert!(row.is_gone());
    }

    #[test]
    fn we_are_alive_and_our_former_self_is_not() {
        let me = identify(own_pid()).unwrap().unwrap();
        assert!(is_alive(&me));
        assert!(!is_alive(&ProcessId { start_time: me.start_time + 1, ..me }));
        assert!(is_descendant(own_pid(), parent_of_self()).unwrap());
        assert!(Table::read().unwrap().is_alive(&me));
        assert_eq!(identify(0).unwrap(), None);
        assert_eq!(identify(-1).unwrap(), None);
    }
}
