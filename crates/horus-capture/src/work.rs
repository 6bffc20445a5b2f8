//! A capture, part by part, within the wall limit: what is not there in time is missing, and the rest is said.

use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use horus_sys::clock::monotonic;
use horus_sys::fact::{Fact, Missing};
use horus_sys::facts::{self, ProcessFacts};
use horus_sys::process::identify;
use jiff::Timestamp;

use crate::document::{Document, NativeThread, Python, SCHEMA};
use crate::kernel::{self, Kernel};
use crate::limits::CAPTURE_WALL;
use crate::{native, phrase, python};

enum Part {
    Kernel(Box<Kernel>),
    Python(Option<Python>, Vec<String>),
    Native(Vec<NativeThread>, Vec<String>),
}

/// Looks at a process. Never fails, never stops the process, and takes [`CAPTURE_WALL`] at most: a reader that hangs is left
/// behind, so the caller should end soon after.
pub fn capture(pid: i32) -> Document {
    capture_about(pid, None)
}

/// The same, and the phrase is about this thread of it: somebody knows already which one is stuck. One that has ended is said to be
/// missing, and the phrase is about whatever [`capture`] would choose.
pub fn capture_about(pid: i32, thread: Option<i32>) -> Document {
    let began = monotonic();
    let at = Timestamp::now();
    let start_time = identify(pid).ok().flatten().map(|found| found.start_time);
    let before = image(pid);
    let (tell, told) = channel();
    let started = std::thread::Builder::new().name("read".to_owned()).spawn(move || read(pid, thread, &tell));
    let mut document = empty(pid, start_time, at);
    match started {
        Ok(_handle) => collect(&told, began, &mut document),
        Err(error) => document.missing.push(format!("no evidence: {error}")),
    }
    let now = image(pid);
    let still_there = identify(pid).ok().flatten().map(|found| found.start_time);
    let ended = "process: not there any more";
    if start_time.is_none() || still_there != start_time {
        document.missing.push(ended.to_owned());
        if still_there.is_some() {
            // Its number belongs to somebody else now: whose memory it was that was read, nobody knows.
            forget(&mut document);
        }
    } else {
        match became(before, now, pid) {
            Became::Same => {}
            Became::Ended => document.missing.push(ended.to_owned()),
            Became::Another => {
                document.missing.push("process: it became another program meanwhile".to_owned());
                forget(&mut document);
            }
        }
    }
    if let Some(thread) = thread {
        if document.threads.iter().any(|found| found.tid == thread) {
            document.thread = Some(thread);
        } else if !document.threads.is_empty() {
            document.missing.push(format!("thread {thread}: not there any more"));
        }
    }
    (document.phrase, document.place) = phrase::of(&document);
    document.peak_bytes = horus_sys::memory::own_peak();
    document.took_ms = monotonic().saturating_sub(began).as_secs_f64() * 1_000.0;
    document
}

/// What the kernel gave a program when it was loaded, with random bytes in it: another program, or the same once more, has others.
/// Empty: it has no memory, because it ends. `None`: we may not look, and then nothing else of it can be read either.
fn image(pid: i32) -> Option<Vec<u8>> {
    const BYTES_MAX: u64 = 4_096;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(format!("/proc/{pid}/auxv"))
        .and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes));
    match read.map_err(|error| Missing::from(&error)) {
        // Newer kernels refuse to open it when there is no memory any more, older ones have nothing to say in it.
        Ok(_) | Err(Missing::Gone) => Some(bytes),
        Err(_) => None,
    }
}

/// What has become of a program between two looks at what it was loaded with.
fn became(before: Option<Vec<u8>>, now: Option<Vec<u8>>, pid: i32) -> Became {
    let is_over = |process: &ProcessFacts| matches!(process.state, 'Z' | 'X');
    let is_emptied = before.as_ref().is_some_and(|before| !before.is_empty())
        && now.as_ref().is_some_and(|now| now.is_empty());
    if is_emptied || facts::process(pid).as_known().is_some_and(is_over) {
        return Became::Ended;
    }
    match before.zip(now) {
        Some((before, now)) if before != now => Became::Another,
        _ => Became::Same,
    }
}

enum Became {
    Same,
    /// It has a number and a start time until it is reaped, and nothing more.
    Ended,
    /// By exec.
    Another,
}

/// Two programs that are taken for one would be worse than no evidence.
fn forget(document: &mut Document) {
    document.python = None;
    document.native.clear();
    document.threads.clear();
    document.sockets.clear();
}

fn empty(pid: i32, start_time: Option<u64>, at: Timestamp) -> Document {
    let none = || Fact::Missing(Missing::Unsupported);
    Document {
        schema: SCHEMA,
        pid,
        start_time,
        at,
        took_ms: 0.0,
        peak_bytes: 0,
        phrase: String::new(),
        thread: None,
        place: None,
        missing: Vec::new(),
        python: None,
        native: Vec::new(),
        process: Fact::Missing(Missing::Gone),
        threads: Vec::new(),
        sockets: Vec::new(),
        limits: Fact::Missing(Missing::Gone),
        pressure: horus_sys::facts::HostPressure { cpu: none(), memory: none(), io: none() },
        load: Fact::Missing(Missing::Unsupported),
        left_out: 0,
    }
}

fn read(pid: i32, thread: Option<i32>, tell: &Sender<Part>) {
    let mut kernel = kernel::look(pid);
    let asked = kernel.threads.iter().position(|found| Some(found.tid) == thread);
    // Only so many stacks are read, the first ones.
    if let Some(from_second) =
        asked.filter(|position| *position > 0).and_then(|position| kernel.threads.get_mut(1..=position))
    {
        from_second.rotate_right(1);
    }
    let threads = kernel.threads.clone();
    // Whoever has stopped listening has what it needs.
    let _ = tell.send(Part::Kernel(Box::new(kernel)));
    let tell_native = tell.clone();
    let unwinding = std::thread::Builder::new().name("unwind".to_owned()).spawn(move || {
        let mut missing = Vec::new();
        let look = AssertUnwindSafe(|| native::look(pid, &threads, &mut missing));
        let native = catch_unwind(look).unwrap_or_default();
        let _ = tell_native.send(Part::Native(native, missing));
    });
    let mut missing = Vec::new();
    if let Err(error) = unwinding {
        missing.push(format!("native stacks: {error}"));
    }
    let python = if looks_like_python(pid) {
        let looked = catch_unwind(AssertUnwindSafe(|| python::look(pid, &mut missing)));
        looked.unwrap_or_else(|_panic| {
            missing.push("Python stacks: the reader gave up".to_owned());
            None
        })
    } else {
        None
    };
    let _ = tell.send(Part::Python(python, missing));
}

/// Does it have a file of an interpreter mapped? Asking every process for one would cost more than all the rest.
fn looks_like_python(pid: i32) -> bool {
    let regions = horus_sys::memory::regions(pid).unwrap_or_default();
    regions.iter().any(|region| {
        let name = region.path.as_ref().and_then(|path| path.file_name());
        name.is_some_and(|name| name.to_string_lossy().contains("python"))
    })
}

fn collect(told: &Receiver<Part>, began: Duration, document: &mut Document) {
    let mut awaited = vec!["threads and sockets", "Python stacks", "native stacks"];
    while !awaited.is_empty() {
        let left = (began + CAPTURE_WALL).saturating_sub(monotonic());
        let name = match told.recv_timeout(left) {
            Ok(Part::Kernel(kernel)) => {
                let Kernel { process, threads, sockets, limits, pressure, load, left_out, missing } = *kernel;
                (document.process, document.threads, document.sockets) = (process, threads, sockets);
                (document.limits, document.pressure, document.load) = (limits, pressure, load);
                document.left_out += left_out;
                document.missing.extend(missing);
                "threads and sockets"
            }
            Ok(Part::Python(python, missing)) => {
                document.python = python;
                document.missing.extend(missing);
                "Python stacks"
            }
            Ok(Part::Native(native, missing)) => {
                document.native = native;
                document.missing.extend(missing);
                "native stacks"
            }
            Err(RecvTimeoutError::Timeout) => {
                let late = |name: &&str| format!("{name}: not done in {} s", CAPTURE_WALL.as_secs());
                document.missing.extend(awaited.iter().map(late));
                return;
            }
            Err(RecvTimeoutError::Disconnected) => {
                document.missing.extend(awaited.iter().map(|name| format!("{name}: the reader gave up")));
                return;
            }
        };
        awaited.retain(|other| *other != name);
    }
}
