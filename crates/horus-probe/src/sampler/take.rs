//! What is put into the rules: numbers that somebody has read, at a time that somebody tells.

use std::time::Duration;

use horus_sys::fact::Fact;
use horus_sys::sample::{Call, Usage};

/// One look at a process.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// When, on a clock that stands still while the machine sleeps.
    pub at: Duration,
    /// Whoever looked was late, or the machine slept: the time since the last sample is charged to nobody.
    pub void: bool,
    /// The threads that were looked at.
    pub threads: Vec<ThreadSample>,
    /// Every thread of the process is among them: one that is not has ended.
    pub complete: bool,
    /// Whether its control group is frozen, if that was asked and told.
    pub frozen: Option<bool>,
    /// Who traces it, if that was asked and somebody does.
    pub tracer: Option<i32>,
    /// Which of the sets that loops wait on are still open, if that was asked and told.
    pub open_sets: Option<Vec<i32>>,
    /// Whether its runtime hands the wait from thread to thread, if that was asked and told.
    pub hands_over: Option<bool>,
    /// What lies in its sockets, unread or not accepted.
    pub queues: Vec<Queue>,
}

/// One look at a thread.
#[derive(Clone, Debug)]
pub struct ThreadSample {
    /// Which.
    pub thread: u64,
    /// What it has had of the processors. Read before anything else of it: whatever happens to the thread afterwards
    /// shows in the next reading.
    pub usage: Usage,
    /// The rest; absent from a cheap look.
    pub look: Option<Look>,
}

/// The expensive part of a look at a thread.
#[derive(Clone, Debug)]
pub struct Look {
    /// The kernel's letter.
    pub state: u8,
    /// The call it is in; known and `None` means that it runs.
    pub call: Fact<Option<Call>>,
    /// How often it gave up its processor of its own will, if that was asked and told.
    pub voluntary_switches: Option<u64>,
    /// How often it waited for a page of its memory to be read from a disk, if that is told.
    pub major_faults: Option<u64>,
}

/// What lies in a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The socket.
    pub inode: u64,
    /// Its descriptor in the process.
    pub descriptor: i32,
    /// Connections wait to be accepted; otherwise bytes wait to be read.
    pub listens: bool,
    /// A loop of the process asks to be told of it. Bytes in a socket that no loop watches may be left on purpose: a closed
    /// connection in a pool, a reader that was paused.
    pub watched: bool,
    /// How many connections, or bytes.
    pub waiting: u32,
}

/// What to look at next, and how closely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closely {
    /// All threads, not only those of the known loops.
    pub all_threads: bool,
    /// Whether the group is frozen, who traces, which sets are open.
    pub circumstances: bool,
}
