//! What the kernel says about a process right now: evidence before anything is touched. Reading has no side effect on
//! the process (no ptrace, no stop). Whatever is not there is [`Fact::Missing`] with the reason: another user's
//! process shows its threads but not their system calls, and that must not read as "no system call".

use crate::fact::Fact;
use serde::{Deserialize, Serialize};
use std::io;

/// Most threads described per process.
pub const MAX_THREADS: usize = 1_024;
/// Most sockets described per process.
pub const MAX_SOCKETS: usize = 4_096;
/// Longest command line kept, in bytes, before redaction.
pub const MAX_COMMAND_LINE: usize = 4_096;

/// One thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadFacts {
    /// Thread id.
    pub tid: i32,
    /// Its name, at most 15 bytes on Linux.
    pub name: String,
    /// The kernel's letter: R running, S sleeping, D uninterruptible, T stopped, t traced, Z zombie.
    pub state: char,
    /// The kernel function it waits in, such as `futex_do_wait`.
    pub wait_channel: Fact<String>,
    /// The system call it is in; `Known(None)` means that it runs in user space.
    pub system_call: Fact<Option<SystemCall>>,
    /// CPU time used, in nanoseconds.
    pub cpu_ns: Fact<u64>,
    /// Time spent runnable but waiting for a CPU, in nanoseconds.
    pub runqueue_wait_ns: Fact<u64>,
}

/// A system call in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemCall {
    /// Its number on this architecture.
    pub number: i64,
    /// Its name, if it is one of those in which programs usually wait.
    pub name: Option<String>,
    /// The six argument registers, as they are.
    pub arguments: [u64; 6],
    /// Stack pointer and program counter.
    pub registers: (u64, u64),
}

/// One socket of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketFacts {
    /// The descriptor it has there.
    pub descriptor: i32,
    /// `tcp`, `tcp6`, `udp`, `udp6` or `unix`.
    pub protocol: String,
    /// Address and port, or the path of a unix socket.
    pub local: String,
    /// The other end, if there is one.
    pub remote: Option<String>,
    /// Such as `ESTABLISHED` or `LISTEN`.
    pub state: String,
    /// Bytes received and not read; for a listener, connections not accepted.
    pub receive_queue: u64,
    /// Bytes sent and not acknowledged.
    pub send_queue: u64,
}

/// The process as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFacts {
    /// Resident memory, in bytes.
    pub resident_bytes: Fact<u64>,
    /// Open descriptors.
    pub open_files: Fact<u64>,
    /// Threads.
    pub threads: u32,
    /// The kernel's letter of the main thread.
    pub state: char,
    /// The command line, secrets hidden.
    pub command_line: Fact<Vec<String>>,
    /// Pid of a tracer, if one is attached; a traced process may be stopped for good reason.
    pub tracer: Fact<Option<i32>>,
}

/// One resource limit of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitFacts {
    /// Its name, as the kernel writes it: `Max open files`.
    pub name: String,
    /// What applies; `None`: no limit.
    pub soft: Option<u64>,
    /// What the soft one may be raised to; `None`: no limit.
    pub hard: Option<u64>,
}

/// How much of the last ten seconds somebody (`some`) or everybody (`full`) waited for a resource, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Pressure {
    /// At least one task waited.
    pub some_avg10: f64,
    /// All tasks waited; not told for the CPU by older kernels.
    pub full_avg10: Option<f64>,
}

/// Pressure of the whole host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostPressure {
    /// Waiting for a CPU.
    pub cpu: Fact<Pressure>,
    /// Waiting for memory.
    pub memory: Fact<Pressure>,
    /// Waiting for storage.
    pub io: Fact<Pressure>,
}

/// Load averages over 1, 5 and 15 minutes, in runnable tasks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// The three averages.
    pub averages: [f64; 3],
}

/// All threads of a process, the main thread first.
pub fn threads(pid: i32) -> Fact<Vec<ThreadFacts>> {
    Fact::from(crate::os::facts::threads(pid))
}

/// All sockets of a process, in the order of descriptors.
pub fn sockets(pid: i32) -> Fact<Vec<SocketFacts>> {
    Fact::from(crate::os::facts::sockets(pid))
}

/// The process as a whole.
pub fn process(pid: i32) -> Fact<ProcessFacts> {
    Fact::from(crate::os::facts::process(pid))
}

/// The resource limits of a process. Linux; missing elsewhere.
pub fn limits(pid: i32) -> Fact<Vec<LimitFacts>> {
    Fact::from(crate::os::facts::limits(pid))
}

/// How hard the host is pressed. Linux with PSI; missing elsewhere.
pub fn pressure() -> HostPressure {
    crate::os::facts::pressure()
}

/// The load averages.
pub fn load() -> Fact<Load> {
    let mut averages = [0.0; 3];
    // SAFETY: room for three numbers.
    let count = unsafe { libc::getloadavg(averages.as_mut_ptr(), 3) };
    Fact::from(if count == 3 {
        Ok(Load { averages })
    } else {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn our_own_threads_sockets_and_memory_are_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let _client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let me = crate::process::own_pid();
        let sockets = sockets(me).known().unwrap();
        let listening = sockets
            .iter()
            .find(|socket| socket.state == "LISTEN" && socket.local.ends_with(&format!(":{port}")));
        assert_eq!(listening.unwrap().receive_queue, 1, "one connection waits to be accepted");
        let threads = threads(me).known().unwrap();
        assert_eq!(threads.first().unwrap().tid, me);
        assert!(threads.iter().all(|thread| thread.cpu_ns.as_known().is_some()));
        let facts = process(me).known().unwrap();
        assert!(facts.resident_bytes.known().unwrap() > 100_000);
        assert!(facts.open_files.known().unwrap() > 2);
        assert!(!facts.command_line.known().unwrap().is_empty());
        let limits = limits(me).known().unwrap();
        let open_files = limits.iter().find(|limit| limit.name == "Max open files").unwrap();
        let own = crate::limits::get(crate::limits::Resource::OpenFiles).unwrap();
        assert_eq!(open_files.soft, Some(own.soft));
        assert!(load().known().unwrap().averages[0] >= 0.0);
    }

    #[test]
    fn a_process_that_is_not_there_is_gone_not_empty() {
        let gone = Fact::Missing(crate::fact::Missing::Gone);
        assert_eq!(threads(i32::MAX).map(|_| ()), gone);
        assert_eq!(process(i32::MAX).map(|_| ()), Fact::Missing(crate::fact::Missing::Gone));
    }
}
