//! What needs no right to trace: threads, sockets, limits, pressure.

use horus_sys::fact::{Fact, Missing};
use horus_sys::facts::{
    self, HostPressure, LimitFacts, Load, MAX_THREADS, ProcessFacts, SocketFacts, ThreadFacts,
};

use crate::limits::SOCKETS_MAX;

/// What the kernel says.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    pub(crate) process: Fact<ProcessFacts>,
    pub(crate) threads: Vec<ThreadFacts>,
    pub(crate) sockets: Vec<SocketFacts>,
    pub(crate) limits: Fact<Vec<LimitFacts>>,
    pub(crate) pressure: HostPressure,
    pub(crate) load: Fact<Load>,
    pub(crate) left_out: usize,
    pub(crate) missing: Vec<String>,
}

/// Asks the kernel.
pub(crate) fn look(pid: i32) -> Kernel {
    let (threads, sockets) = (facts::threads(pid), facts::sockets(pid));
    let (process, limits) = (facts::process(pid), facts::limits(pid));
    let mut missing = Vec::new();
    note("threads", &threads, &mut missing);
    if let Some(main) = threads.as_known().and_then(|threads| threads.first()) {
        note("system calls", &main.system_call, &mut missing);
        note("wait channels", &main.wait_channel, &mut missing);
    }
    note("sockets", &sockets, &mut missing);
    note("limits", &limits, &mut missing);
    let shown = threads.as_known().map_or(0, Vec::len);
    if let Some(process) = process.as_known()
        && shown >= MAX_THREADS
        && process.threads as usize > shown
    {
        missing.push(format!("threads: only {shown} of {} are looked at", process.threads));
    }
    let mut sockets = sockets.known().unwrap_or_default();
    let left_out = sockets.len().saturating_sub(SOCKETS_MAX);
    sockets.truncate(SOCKETS_MAX);
    Kernel {
        process,
        threads: threads.known().unwrap_or_default(),
        sockets,
        limits,
        pressure: facts::pressure(),
        load: facts::load(),
        left_out,
        missing,
    }
}

fn note<T>(what: &str, fact: &Fact<T>, missing: &mut Vec<String>) {
    match fact {
        Fact::Known(_) => {}
        Fact::Missing(Missing::Denied) => missing.push(format!("{what}: permission")),
        Fact::Missing(why) => missing.push(format!("{what}: {why}")),
    }
}
