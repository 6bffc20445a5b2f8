//! What a capture says, for people and for programs.

use horus_sys::fact::Fact;
use horus_sys::facts::{HostPressure, LimitFacts, Load, ProcessFacts, SocketFacts, ThreadFacts};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The version of the document. A reader ignores fields that it does not know.
pub const SCHEMA: u32 = 1;

/// One capture.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Document {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The process.
    pub pid: i32,
    /// When it was started, in the kernel's ticks: with the pid, which process is meant. `None`: there was none.
    pub start_time: Option<u64>,
    /// When it was looked at.
    pub at: Timestamp,
    /// How long looking took, in milliseconds.
    pub took_ms: f64,
    /// The most memory that the process that looked had resident at one time, in bytes.
    #[serde(default)]
    pub peak_bytes: u64,
    /// Where it stands, in one phrase. Empty if nothing can be said.
    pub phrase: String,
    /// The thread that was asked for, if it was one and it was there: the phrase is about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<i32>,
    /// The place that the phrase names, such as `place_order (bot.py:98)`: to be compared with another capture.
    pub place: Option<String>,
    /// What could not be seen, and why.
    pub missing: Vec<String>,
    /// What the interpreter says, if there is one.
    pub python: Option<Python>,
    /// Native stacks, the main thread first.
    pub native: Vec<NativeThread>,
    /// The process as a whole.
    pub process: Fact<ProcessFacts>,
    /// Its threads, the main thread first, then the one that was asked for.
    pub threads: Vec<ThreadFacts>,
    /// Its sockets and their queues.
    pub sockets: Vec<SocketFacts>,
    /// Its resource limits.
    pub limits: Fact<Vec<LimitFacts>>,
    /// What the machine is short of.
    pub pressure: HostPressure,
    /// The load averages.
    pub load: Fact<Load>,
    /// Threads, sockets, frames and tasks that were left out to keep this short.
    pub left_out: usize,
}

/// The view of a Python interpreter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Python {
    /// Such as `3.11.7`.
    pub version: String,
    /// Its threads that run Python code.
    pub threads: Vec<PythonThread>,
    /// Its asyncio loops.
    pub loops: Vec<Loop>,
    /// The tasks of all loops that have not ended.
    pub tasks: Vec<Task>,
    /// How many tasks the interpreter counts, also those that are not shown.
    pub tasks_counted: u64,
}

/// One thread of an interpreter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PythonThread {
    /// The kernel's number of it, if it is known.
    pub tid: Option<i32>,
    /// What `threading.get_ident()` says in it.
    pub ident: u64,
    /// Its name in `threading`.
    pub name: Option<String>,
    /// It holds the interpreter's lock.
    pub owns_gil: bool,
    /// Where it is, the innermost call first.
    pub frames: Vec<Frame>,
}

/// One call of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The function.
    pub function: String,
    /// The file, as the interpreter knows it.
    pub file: String,
    /// The line in it, from 1.
    pub line: u32,
}

/// One asyncio loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loop {
    /// Its class.
    pub class: String,
    /// By how many milliseconds its first timer is late; negative: due in so many. A healthy loop is late by next to nothing.
    pub lag_ms: Option<f64>,
    /// Why the lag is not known.
    pub lag_unknown: Option<String>,
    /// Timers that wait.
    pub timers: Option<u64>,
    /// Callbacks that are due and have not run.
    pub ready: Option<u64>,
    /// `threading.get_ident()` of the thread that runs it now.
    pub thread: Option<u64>,
}

/// One asyncio task that has not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// What it does.
    pub state: TaskState,
    /// Which of [`Python::loops`] it belongs to.
    pub on_loop: usize,
    /// Who awaits whom, the outermost call first. Of a running task only the first is known; the rest is on its thread's stack.
    pub chain: Vec<Frame>,
    /// What it waits for: a class and an address to be compared with another capture, or the name of a task.
    pub waits_on: Option<String>,
}

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// It has not begun.
    Created,
    /// It waits for something.
    Waiting,
    /// It runs on its loop's thread, now: nothing else can run there until it awaits.
    Running,
}

/// One native stack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NativeThread {
    /// The thread.
    pub tid: i32,
    /// Why there are no frames: a running thread has no place, and it was not stopped to give it one.
    pub unknown: Option<String>,
    /// Where it is, the innermost call first.
    pub frames: Vec<NativeFrame>,
}

/// One call in native code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NativeFrame {
    /// The function, if the file names it.
    pub function: Option<String>,
    /// The file that it is in, without its folder; empty if no file is mapped there.
    pub module: String,
    /// Where in that file's own addresses.
    pub address: u64,
    /// It is in the program itself, not in a library.
    pub own: bool,
}

impl Document {
    /// As JSON of at most [`crate::limits::DOCUMENT_BYTES_MAX`] bytes: what is longest is halved until it fits.
    ///
    /// # Errors
    /// None that is known; those of the serializer.
    pub fn to_json(&mut self) -> serde_json::Result<Vec<u8>> {
        loop {
            let json = serde_json::to_vec(self)?;
            if json.len() <= crate::limits::DOCUMENT_BYTES_MAX || !self.halve() {
                return Ok(json);
            }
        }
    }

    fn halve(&mut self) -> bool {
        fn cut<T>(list: &mut Vec<T>) -> usize {
            let before = list.len();
            list.truncate(before / 2);
            before - list.len()
        }
        let mut gone = cut(&mut self.threads) + cut(&mut self.sockets) + cut(&mut self.native);
        if let Some(python) = &mut self.python {
            gone += cut(&mut python.tasks) + cut(&mut python.threads);
        }
        self.left_out += gone;
        gone > 0
    }
}
