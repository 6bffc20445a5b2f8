//! Looks at threads that are cheap enough to be taken every second of every process.
//!
//! [`crate::facts`] is the thorough examination before something is done; this is the pulse. A look is one small file or
//! one system call, without a lock, a stop or any other effect on whom it looks at. Each answers for itself: a thread that
//! ended between two looks is [`Missing::Gone`](crate::fact::Missing::Gone), and a place where we may not look is
//! [`Missing::Denied`](crate::fact::Missing::Denied), which is neither rest nor silence.
//!
//! ```text
//!   usage    how long it ran, how long it queued for a processor     readable for everybody
//!   stand    its state, and since when the thread exists             readable for everybody
//!   call     the system call it is in, to the argument               needs the right to trace
//!   sockets  all TCP sockets of the machine, in one dump             readable for everybody (of this network namespace)
//! ```
//!
//! A pid is lent: whoever compares two looks has to see the same [`Stand::start_time`] on both sides of them.

use crate::fact::Fact;
use std::collections::HashMap;
use std::net::SocketAddr;

/// Most thread ids of one process that are told.
pub const MAX_THREADS: usize = 4_096;
/// Most descriptors of one process that are looked at.
pub const MAX_DESCRIPTORS: usize = 4_096;
/// Most watched descriptors of one epoll set that are told.
pub const MAX_INTEREST: usize = 4_096;
/// Most sockets of the machine that are told.
pub const MAX_SOCKETS: usize = 65_536;

/// What a thread has had of the processors since it began. Two equal readings mean that it did not run in between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on a processor, in nanoseconds.
    pub cpu_ns: u64,
    /// Time spent ready to run, waiting for a processor, in nanoseconds. Zero where the system does not tell.
    pub wait_ns: u64,
    /// How many times it was given a processor. Zero where the system does not tell.
    pub runs: u64,
}

/// How a thread stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    /// The kernel's letter: R, S, D, T, t, Z, X, I.
    pub state: u8,
    /// When it began, in the unit of [`crate::process::ProcessId::start_time`].
    pub start_time: u64,
    /// How often it waited for a page of its memory to be read from a disk, where that is counted for each thread.
    pub major_faults: Option<u64>,
}

/// What the status of a thread tells beyond that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// How often it gave up its processor of its own will: to wait for something.
    pub voluntary_switches: u64,
    /// Who traces it, if anybody does.
    pub tracer: Option<i32>,
}

/// A system call in progress. Two equal ones without any time on a processor in between are the same call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Its number on this architecture.
    pub number: i64,
    /// The six argument registers, as they are.
    pub arguments: [u64; 6],
    /// The stack pointer.
    pub stack: u64,
    /// The program counter.
    pub program: u64,
}

impl Call {
    /// Its name, if it is one of those in which programs usually wait.
    pub fn name(&self) -> Option<&'static str> {
        crate::os::sample::call_name(self.number)
    }

    /// Whether a 32-bit program made it: its numbers mean other calls than those of [`Call::name`].
    pub fn is_foreign(&self) -> bool {
        self.stack != 0 && self.stack <= u64::from(u32::MAX)
    }

    /// The first argument as a descriptor.
    pub fn descriptor(&self) -> Option<i32> {
        self.arguments.first().and_then(|argument| i32::try_from(*argument).ok())
    }

    /// The argument at this place as a timeout in milliseconds, as `poll` and `epoll_wait` take it: negative means for ever.
    pub fn milliseconds(&self, place: usize) -> Option<i32> {
        // The register is wider than the argument; what is above its 32 bits is not defined.
        self.arguments.get(place).map(|argument| (*argument as u32).cast_signed())
    }
}

/// A file that is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// The device that it is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

/// What an open descriptor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Descriptor {
    /// A socket, by its inode: the key of [`sockets`].
    Socket(u64),
    /// A set of descriptors that are waited for together.
    Epoll,
    /// A pipe or a FIFO without a name, by its inode.
    Pipe(u64),
    /// Anything else, as the system names it: a path, or a kind.
    Other(String),
}

/// One descriptor in an epoll set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// Its number in that process.
    pub descriptor: i32,
    /// Whether the loop wants to know when there is something to read or to accept.
    pub reads: bool,
}

/// A TCP socket of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// It waits for connections.
    pub listens: bool,
    /// This end.
    pub local: SocketAddr,
    /// The other end; `None` for one that listens.
    pub remote: Option<SocketAddr>,
    /// Bytes received and not read; for one that listens, connections not accepted.
    pub receive_queue: u32,
}

/// What a whole process has used since it began, all of its threads together, those that have ended included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Time on a processor, in nanoseconds. The kernel counts it in ticks of (usually) 10 ms.
    pub cpu_ns: u64,
    /// Bytes that it read and wrote: by `read` and `write` of any descriptor on Linux, from and to disks on macOS. Needs the
    /// right to trace it on Linux.
    pub io_bytes: Fact<u64>,
}

/// The threads of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThreadIds {
    /// Their ids, at most as many as were asked for.
    pub ids: Vec<u64>,
    /// There are more.
    pub more: bool,
}

/// The ids of the threads of a process, at most `limit` and at most [`MAX_THREADS`].
pub fn threads(pid: i32, limit: usize) -> Fact<ThreadIds> {
    Fact::from(crate::os::sample::threads(pid, limit.min(MAX_THREADS)))
}

/// What a thread has had of the processors. Missing as unsupported on a kernel that does not count it.
pub fn usage(pid: i32, thread: u64) -> Fact<Usage> {
    Fact::from(crate::os::sample::usage(pid, thread))
}

/// What a whole process has used.
pub fn process_usage(pid: i32) -> Fact<ProcessUsage> {
    Fact::from(crate::os::sample::process_usage(pid))
}

/// How a thread stands.
pub fn stand(pid: i32, thread: u64) -> Fact<Stand> {
    Fact::from(crate::os::sample::stand(pid, thread))
}

/// What its status tells.
pub fn status(pid: i32, thread: u64) -> Fact<Status> {
    Fact::from(crate::os::sample::status(pid, thread))
}

/// The system call it is in; `Known(None)` means that it runs, or is about to.
pub fn call(pid: i32, thread: u64) -> Fact<Option<Call>> {
    Fact::from(crate::os::sample::call(pid, thread))
}

/// Whether the control group of a process is frozen (`docker pause`), in either version of control groups.
pub fn frozen(pid: i32) -> Fact<bool> {
    Fact::from(crate::os::sample::frozen(pid))
}

/// The file that a process executes: another one after an `exec`.
pub fn program(pid: i32) -> Fact<Program> {
    Fact::from(crate::os::sample::program(pid))
}

/// Whether the Go linker made the program that a process executes.
pub fn is_go(pid: i32) -> Fact<bool> {
    Fact::from(crate::os::sample::is_go(pid))
}

/// What this descriptor of a process is.
pub fn descriptor(pid: i32, number: i32) -> Fact<Descriptor> {
    Fact::from(crate::os::sample::descriptor(pid, number))
}

/// The open descriptors of a process, at most `limit` and at most [`MAX_DESCRIPTORS`].
pub fn descriptors(pid: i32, limit: usize) -> Fact<Vec<(i32, Descriptor)>> {
    Fact::from(crate::os::sample::descriptors(pid, limit.min(MAX_DESCRIPTORS)))
}

/// What an epoll set of a process waits for.
pub fn interest(pid: i32, epoll: i32) -> Fact<Vec<Interest>> {
    Fact::from(crate::os::sample::interest(pid, epoll))
}

/// The name of a process, at most 15 bytes on Linux: for "who traces it".
pub fn name(pid: i32) -> Fact<String> {
    Fact::from(crate::os::sample::name(pid))
}

/// All TCP sockets of this machine that are connected, connecting or listening, by inode, at most [`MAX_SOCKETS`].
/// Those of other network namespaces are not among them.
pub fn sockets() -> Fact<HashMap<u64, Socket>> {
    Fact::from(crate::os::sample::sockets())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::fact::Missing;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd as _;

    fn own_thread() -> u64 {
        // SAFETY: takes nothing and returns a number.
        let id = unsafe { libc::gettid() };
        id.unsigned_abs().into()
    }

    #[test]
    fn a_thread_that_waits_is_seen_at_rest_and_its_call_to_the_argument() {
        let (end, mut other) = std::os::unix::net::UnixStream::pair().unwrap();
        let number = end.as_raw_fd();
        let (tell, told) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn(move || {
            tell.send(own_thread()).unwrap();
            std::io::Read::read(&mut &end, &mut [0; 1]).unwrap()
        });
        let (me, thread) = (crate::process::own_pid(), told.recv().unwrap());
        let call = loop {
            let found = call(me, thread).known().unwrap();
            if let Some(call) = found.filter(|call| matches!(call.name(), Some("read" | "recvfrom"))) {
                break call;
            }
        };
        assert_eq!((call.descriptor(), call.is_foreign()), (Some(number), false));
        let before = usage(me, thread).known().unwrap();
        assert_eq!(super::call(me, thread), Fact::Known(Some(call)));
        assert_eq!(usage(me, thread), Fact::Known(before), "it did not run");
        assert_eq!(stand(me, thread).known().unwrap().state, b'S');
        assert!(matches!(descriptor(me, number), Fact::Known(Descriptor::Socket(_))));
        std::io::Write::write_all(&mut other, b"x").unwrap();
        waiter.join().unwrap();
        while usage(me, thread) != Fact::Missing(Missing::Gone) {}
        assert_eq!(stand(me, thread), Fact::Missing(Missing::Gone));
    }

    #[test]
    fn the_machine_s_sockets_are_told_with_their_queues() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let me = crate::process::own_pid();
        let inode = |number| match descriptor(me, number) {
            Fact::Known(Descriptor::Socket(inode)) => inode,
            other => panic!("{other:?}"),
        };
        let sockets = sockets().known().unwrap();
        let listening = &sockets[&inode(listener.as_raw_fd())];
        assert_eq!((listening.listens, listening.local, listening.receive_queue), (true, address, 1));
        let connected = &sockets[&inode(client.as_raw_fd())];
        assert_eq!((connected.listens, connected.remote), (false, Some(address)));
        let own = descriptors(me, 1_000).known().unwrap();
        assert!(own.iter().any(|(number, _)| *number == listener.as_raw_fd()));
    }

    #[test]
    fn an_epoll_set_tells_what_it_waits_for() {
        let poller = crate::poll::Poller::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let me = crate::process::own_pid();
        let epoll = descriptors(me, 1_000).known().unwrap();
        let sets: Vec<i32> =
            epoll.iter().filter(|(_, what)| *what == Descriptor::Epoll).map(|(number, _)| *number).collect();
        assert!(!sets.is_empty(), "{epoll:?}");
        poller.add(std::os::fd::AsFd::as_fd(&listener), 1, crate::poll::Interest::Read).unwrap();
        let watched = |set: &i32| interest(me, *set).known().unwrap_or_default();
        let mine = Interest { descriptor: listener.as_raw_fd(), reads: true };
        assert!(sets.iter().any(|set| watched(set).contains(&mine)));
    }

    #[test]
    fn nobody_is_gone_and_we_ourselves_are_not_frozen() {
        let me = crate::process::own_pid();
        assert!(matches!(frozen(me), Fact::Known(false) | Fact::Missing(Missing::Unsupported)));
        assert_eq!(threads(i32::MAX, 10), Fact::Missing(Missing::Gone));
        assert_eq!(frozen(i32::MAX), Fact::Missing(Missing::Gone));
        assert_eq!(status(me, own_thread()).known().unwrap().tracer, None);
        assert_eq!((is_go(me), program(i32::MAX)), (Fact::Known(false), Fact::Missing(Missing::Gone)));
        assert_eq!(program(me), program(me));
        let all = threads(me, 10).known().unwrap();
        assert!(all.ids.contains(&own_thread()) || all.more);
    }
}
