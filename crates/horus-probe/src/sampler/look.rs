//! Takes one look at one process: as much as the rules ask for, and no more.

use std::collections::BTreeSet;

use horus_core::ids::ProcessId;
use horus_sys::clock;
use horus_sys::fact::{Fact, Missing};
use horus_sys::sample::{self, Descriptor, Program, Stand};

use super::rules::{Machine, THREADS_MAX};
use super::take::{Closely, Look, Sample, ThreadSample};
use super::{gone, sys};

/// A look, and whether the pulse was enough.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) sample: Sample,
    pub(super) pulse: bool,
}

/// Who runs the threads of a process, read once for each program that it executes.
#[derive(Debug, Default)]
pub(super) struct Runtime {
    program: Option<Program>,
    hands_over: bool,
}

impl Runtime {
    /// Whether it hands the wait for events from thread to thread, as Go does. What cannot be read is left to the next look.
    fn hands_over(&mut self, pid: i32) -> Option<bool> {
        let program = sample::program(pid).known()?;
        if self.program != Some(program) {
            self.hands_over = sample::is_go(pid).known()?;
            self.program = Some(program);
        }
        Some(self.hands_over)
    }
}

pub(super) fn take(process: &ProcessId, machine: &Machine, runtime: &mut Runtime) -> Result<Taken, Missing> {
    let at = clock::monotonic();
    let pid = process.pid;
    let mut pulse = Vec::new();
    for thread in machine.pulse() {
        match sample::usage(pid, thread) {
            Fact::Known(usage) => pulse.push((thread, usage)),
            // Of a thread that ended; whether the process did is seen at the close look that this calls for.
            Fact::Missing(Missing::Gone) => {}
            Fact::Missing(missing) => return Err(missing),
        }
    }
    let closely = machine.closer(at, &pulse).or(pulse.is_empty().then_some(Closely::default()));
    let Some(closely) = closely else {
        let threads = pulse.into_iter().map(|(thread, usage)| ThreadSample { thread, usage, look: None });
        let sample = Sample { at, threads: threads.collect(), ..Sample::default() };
        return Ok(Taken { sample, pulse: true });
    };
    let mut sample = close(process, machine, closely, Sample { at, ..Sample::default() })?;
    if closely.circumstances || runtime.program.is_none() {
        sample.hands_over = runtime.hands_over(pid);
    }
    Ok(Taken { sample, pulse: false })
}

fn close(
    process: &ProcessId,
    machine: &Machine,
    closely: Closely,
    mut sample: Sample,
) -> Result<Sample, Missing> {
    let pid = process.pid;
    for thread in ids(pid, machine, closely, &mut sample)? {
        // The usage first: what the thread does afterwards shows in the next one.
        let usage = match sample::usage(pid, thread) {
            Fact::Known(usage) => usage,
            Fact::Missing(Missing::Gone) => continue,
            Fact::Missing(missing) => return Err(missing),
        };
        let look = look(pid, thread, machine.asks_for_switches(sample.at, thread, &usage));
        if look.is_some() {
            sample.threads.push(ThreadSample { thread, usage, look });
        }
    }
    if closely.circumstances {
        sample.frozen = sample::frozen(pid).known();
        let main = u64::try_from(pid).unwrap_or_default();
        sample.tracer = sample::status(pid, main).known().and_then(|status| status.tracer);
        sample.open_sets = open_sets(pid, machine);
    }
    // Last: if it is still the same process now, it was the same all the while.
    let main = u64::try_from(pid).unwrap_or_default();
    match sample::stand(pid, main) {
        // A first thread that ended leaves a process whose others may work on.
        Fact::Known(stand) if stand.start_time == process.start_time => match stand.state {
            b'Z' | b'X' if !horus_sys::process::is_alive(&sys(process)) => Err(Missing::Gone),
            _ => Ok(sample),
        },
        Fact::Known(_) => Err(Missing::Gone),
        Fact::Missing(missing) => Err(missing),
    }
}

/// Whom to look at. The main thread and those of the known loops are among them in any case.
fn ids(pid: i32, machine: &Machine, closely: Closely, sample: &mut Sample) -> Result<Vec<u64>, Missing> {
    let mut ids = machine.known_threads();
    if closely.all_threads {
        let all = match sample::threads(pid, THREADS_MAX) {
            Fact::Known(all) => all,
            Fact::Missing(missing) => return Err(missing),
        };
        sample.complete = !all.more;
        let known: BTreeSet<u64> = ids.iter().copied().collect();
        ids.extend(all.ids.into_iter().filter(|id| !known.contains(id)).take(THREADS_MAX));
    }
    Ok(ids)
}

/// `None` if the thread ended meanwhile.
fn look(pid: i32, thread: u64, switches: bool) -> Option<Look> {
    let Stand { state, major_faults, .. } = sample::stand(pid, thread).known()?;
    let call = sample::call(pid, thread);
    if gone(&call) {
        return None;
    }
    let status = if switches { sample::status(pid, thread).known() } else { None };
    let voluntary_switches = status.map(|status| status.voluntary_switches);
    Some(Look { state, call, voluntary_switches, major_faults })
}

/// Which of the sets that loops wait on are open; `None` if that is not told of all.
fn open_sets(pid: i32, machine: &Machine) -> Option<Vec<i32>> {
    let mut open = Vec::new();
    for set in machine.sets() {
        match sample::descriptor(pid, set) {
            Fact::Known(Descriptor::Epoll) => open.push(set),
            Fact::Known(Descriptor::Other(kind)) if kind.contains("io_uring") => open.push(set),
            Fact::Known(_) | Fact::Missing(Missing::Gone) => {}
            Fact::Missing(_) => return None,
        }
    }
    Some(open)
}
