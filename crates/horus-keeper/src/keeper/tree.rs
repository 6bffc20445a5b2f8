//! Who belongs to a slot.
//!
//! A process belongs if it is the main process or descends from it, sits in the slot's cgroup, was seen to belong
//! before, or is in the session or group that the main process founded. Those who ran away (fork twice, `setsid`, parent
//! dead) end up as children of a reaper: the keeper, or whoever took over from a dead one. Only such orphans are asked
//! for their papers: `HORUS_SLOT` and `HORUS_RUN` in their environment, or stdout on the slot's FIFO.
//!
//! Session and group numbers are pids and can be reused, so they count only while the main process is unreaped, or
//! while a member known by pid *and* start time still has that number and so keeps it taken.

use crate::protocol::Generation;
use crate::slots::{RUN_VARIABLE, SLOT_VARIABLE, SlotName};
use horus_sys::process::{self, ProcessId, Row, Table};
use std::collections::BTreeSet;
use std::path::Path;

/// What is known of a slot's processes.
#[derive(Debug)]
pub(crate) struct Clues<'a> {
    pub(crate) run_directory: &'a Path,
    pub(crate) slot: &'a SlotName,
    pub(crate) fifo: &'a Path,
    /// The newest main process, ended or not.
    pub(crate) main: Option<ProcessId>,
    /// Known to be of the slot at an earlier look.
    pub(crate) known: &'a [ProcessId],
    /// Pids in the slot's cgroup.
    pub(crate) in_cgroup: &'a [i32],
    /// Nothing that started before belongs.
    pub(crate) earliest_start: u64,
    /// Main processes of other slots: ours too, and known without asking for their papers.
    pub(crate) others: &'a BTreeSet<i32>,
    /// Never belong, and are the possible reapers of orphans: keeper, client, and all above them.
    pub(crate) reapers: &'a BTreeSet<i32>,
    /// Ask everybody for papers, not only orphans: the slot's records cannot be read, so nothing else is known.
    pub(crate) everywhere: bool,
}

/// Everybody of the slot who lives.
pub(crate) fn members(table: &Table, clues: &Clues<'_>) -> Vec<Row> {
    let known: BTreeSet<ProcessId> = clues.known.iter().copied().chain(clues.main).collect();
    let founded = clues.main.map(|main| main.pid).filter(|number| is_taken_by_member(table, *number, &known));
    let is_member = |row: &Row| {
        known.contains(&row.id)
            || clues.in_cgroup.contains(&row.id.pid)
            || founded.is_some_and(|number| row.session == number || row.group == number)
            || ((clues.everywhere || clues.reapers.contains(&row.parent))
                && !clues.others.contains(&row.id.pid)
                && row.id.start_time >= clues.earliest_start
                && has_papers(row, clues))
    };
    let is_barrier = |row: &Row| row.id.pid <= 1 || clues.reapers.contains(&row.id.pid);
    let mut found = table.closure(is_member, is_barrier);
    found.retain(|row| !row.is_gone());
    found
}

/// Living children of these parents whose papers cannot be seen: whose they are, nobody can tell.
pub(crate) fn hidden_children(table: &Table, parents: &[i32]) -> Vec<ProcessId> {
    let is_hidden = |row: &&Row| {
        parents.contains(&row.parent)
            && !row.is_gone()
            && process::environment(row.id.pid)
                .is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    };
    table.rows().iter().filter(is_hidden).map(|row| row.id).collect()
}

fn is_taken_by_member(table: &Table, number: i32, known: &BTreeSet<ProcessId>) -> bool {
    known.iter().any(|process| {
        table.get(process.pid).is_some_and(|row| {
            row.id == *process && (row.session == number || row.group == number || row.id.pid == number)
        })
    })
}

fn has_papers(row: &Row, clues: &Clues<'_>) -> bool {
    if row.is_gone() {
        return false;
    }
    let by_environment = process::environment(row.id.pid)
        .is_ok_and(|environment| is_marked(&environment, clues.slot, clues.run_directory));
    by_environment || process::has_output_on(row.id.pid, clues.fifo)
}

fn is_marked(environment: &[u8], slot: &SlotName, run_directory: &Path) -> bool {
    run_in(environment, slot, run_directory).is_some()
}

/// Which run of the slot the marks of this process name.
pub(crate) fn marked_run(pid: i32, slot: &SlotName, run_directory: &Path) -> Option<Generation> {
    let environment = process::environment(pid).ok()?;
    std::str::from_utf8(run_in(&environment, slot, run_directory)?).ok()?.parse().ok().map(Generation)
}

/// Which slot of this run directory the marks of this process name.
pub(crate) fn marked_slot(pid: i32, run_directory: &Path) -> Option<SlotName> {
    let environment = process::environment(pid).ok()?;
    let prefix = [SLOT_VARIABLE.as_bytes(), b"="].concat();
    let mark = environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(&prefix[..]))?;
    let slot = std::str::from_utf8(mark).ok()?.split('/').next()?;
    let slot = SlotName::try_from(slot).ok()?;
    is_marked(&environment, &slot, run_directory).then_some(slot)
}

fn run_in<'e>(environment: &'e [u8], slot: &SlotName, run_directory: &Path) -> Option<&'e [u8]> {
    use std::os::unix::ffi::OsStrExt;
    let value = |name: &str| {
        environment
            .split(|byte| *byte == 0)
            .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    };
    let run = value(SLOT_VARIABLE)?.strip_prefix(slot.as_str().as_bytes())?.strip_prefix(b"/")?;
    (value(RUN_VARIABLE) == Some(run_directory.as_os_str().as_bytes())).then_some(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(pid: i32, parent: i32, session: i32, start_time: u64) -> Row {
        let id = ProcessId { pid, start_time };
        Row { id, parent, group: session, session, state: b'S', threads: 1 }
    }

    fn found(rows: Vec<Row>, main: Option<(i32, u64)>, known: &[(i32, u64)], in_cgroup: &[i32]) -> Vec<i32> {
        let id = |(pid, start_time): (i32, u64)| ProcessId { pid, start_time };
        let slot = SlotName::try_from("bot").unwrap();
        let known: Vec<_> = known.iter().copied().map(id).collect();
        let reapers = BTreeSet::from([1, 5, 6]);
        let clues = Clues {
            run_directory: Path::new("/nowhere"),
            slot: &slot,
            fifo: Path::new("/nowhere/out"),
            main: main.map(id),
            known: &known,
            in_cgroup,
            earliest_start: 0,
            others: &BTreeSet::new(),
            reapers: &reapers,
            everywhere: false,
        };
        members(&Table::from_rows(rows), &clues).iter().map(|row| row.id.pid).collect()
    }

    #[test]
    fn descendants_and_session_belong_and_neighbours_do_not() {
        let rows = vec![
            line(1, 0, 1, 0),
            line(5, 1, 5, 1),
            line(20, 5, 20, 10),
            line(21, 20, 20, 11),
            line(22, 21, 22, 12),
            line(23, 5, 20, 13),
            line(30, 5, 30, 10),
            line(31, 30, 30, 11),
        ];
        assert_eq!(found(rows, Some((20, 10)), &[], &[]), [20, 21, 22, 23]);
    }

    #[test]
    fn a_reused_session_number_is_a_stranger() {
        // The main process 20@10 was reaped; another program got pid 20 and founded session 20.
        let rows = vec![line(5, 1, 5, 1), line(20, 7, 20, 99), line(21, 20, 20, 100)];
        assert_eq!(found(rows, Some((20, 10)), &[], &[]), [0; 0]);
    }

    #[test]
    fn a_known_stray_keeps_the_session_number_trustworthy() {
        let rows = vec![line(5, 1, 5, 1), line(23, 5, 20, 13), line(24, 5, 20, 14)];
        assert_eq!(found(rows.clone(), Some((20, 10)), &[(23, 13)], &[]), [23, 24]);
        assert_eq!(found(rows, Some((20, 10)), &[(23, 12)], &[]), [0; 0]);
    }

    #[test]
    fn the_cgroup_names_members_but_never_a_reaper() {
        let rows = vec![line(5, 1, 5, 1), line(6, 5, 6, 1), line(40, 1, 40, 2), line(41, 40, 40, 2)];
        assert_eq!(found(rows, None, &[], &[5, 6, 40]), [40, 41]);
    }

    #[test]
    fn papers_need_both_the_slot_and_the_run_directory() {
        let slot = SlotName::try_from("bot").unwrap();
        let marked =
            |text: &str| is_marked(text.replace(' ', "\0").as_bytes(), &slot, Path::new("/run/horus"));
        assert!(marked("A=1 HORUS_SLOT=bot/7 HORUS_RUN=/run/horus"));
        assert!(!marked("HORUS_SLOT=bot/7 HORUS_RUN=/run/other"));
        assert!(!marked("HORUS_SLOT=bot-2/7 HORUS_RUN=/run/horus"));
        assert!(!marked("XHORUS_SLOT=bot/7 HORUS_RUN=/run/horus"));
        assert!(!marked("HORUS_SLOT=bot/7"));
    }
}
