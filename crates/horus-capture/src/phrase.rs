//! Where it stands, in one phrase for a person woken at night:
//! "waiting on recv from 10.0.0.7:443 in place_order (bot.py:98), task execute-signal".
//!
//! The thread that matters is the one that was asked for, else the one that runs the asyncio loop, else the main thread. The call is the kernel's word, the
//! function the innermost one of the program's own: nobody is helped by a line of the standard library.

use horus_sys::fact::Fact;
use horus_sys::facts::{SystemCall, ThreadFacts};

use crate::document::{Document, Frame, NativeFrame, Python, PythonThread, Task, TaskState};

/// How many waiting tasks are named.
const TASKS_NAMED: usize = 2;

/// The phrase, and the place in it; both empty if nothing can be said.
pub(crate) fn of(document: &Document) -> (String, Option<String>) {
    let python = document.python.as_ref();
    let runs = |python: &Python, task: &&Task| {
        task.state == TaskState::Running
            && (document.thread.is_none() || is_here(document, python, task.on_loop))
    };
    let running = python.and_then(|python| python.tasks.iter().find(|task| runs(python, task)));
    let chosen = python.and_then(|python| chosen_thread(document, python, running));
    let tid = document.thread.or(chosen.and_then(|thread| thread.tid)).unwrap_or(document.pid);
    let Some(thread) = document.threads.iter().find(|thread| thread.tid == tid) else {
        return (String::new(), None);
    };
    match thread.state {
        'T' | 't' => return ("stopped by a signal or a debugger".to_owned(), None),
        'Z' | 'X' => return ("dead, and not reaped yet".to_owned(), None),
        _ => {}
    }
    let doing = doing(thread, document);
    if let Some(python) = python
        && running.is_none()
        && !python.tasks.is_empty()
        && (document.thread.is_none()
            || (0..python.loops.len()).any(|found| is_here(document, python, found)))
        && is_polling(thread)
    {
        return (idle_loop(python), None);
    }
    let place = match chosen.map(|thread| own_frame(&thread.frames)) {
        Some(Some(frame)) => Some(shown(frame)),
        // An interpreter without a frame of Python says nothing; neither would its own C functions.
        Some(None) => None,
        None => native_place(document, tid),
    };
    let mut phrase = doing;
    if let Some(place) = &place {
        phrase = format!("{phrase} in {place}");
    }
    if let Some(task) = running {
        phrase = format!("{phrase}, task {}", task.name);
    } else if tid != document.pid {
        phrase = format!("{phrase}, thread {}", thread.name);
    }
    (phrase, place)
}

/// Whether the thread that was asked for runs this loop.
fn is_here(document: &Document, python: &Python, on_loop: usize) -> bool {
    let asked = python.threads.iter().find(|thread| thread.tid == document.thread);
    asked
        .is_some_and(|asked| python.loops.get(on_loop).is_some_and(|found| found.thread == Some(asked.ident)))
}

/// The thread that was asked for; if none was, that of the loop whose task runs, else of any loop, else the main thread.
fn chosen_thread<'a>(
    document: &Document,
    python: &'a Python,
    running: Option<&Task>,
) -> Option<&'a PythonThread> {
    if document.thread.is_some() {
        return python.threads.iter().find(|thread| thread.tid == document.thread);
    }
    let with_ident = |ident: u64| python.threads.iter().find(|thread| thread.ident == ident);
    let busy_loop = running.and_then(|task| python.loops.get(task.on_loop));
    busy_loop
        .or(python.loops.first())
        .and_then(|found| with_ident(found.thread?))
        .or_else(|| python.threads.iter().find(|thread| thread.tid == Some(document.pid)))
        // A thread whose number py-spy could not tell, if there is no choice.
        .or_else(|| python.threads.first().filter(|_| python.threads.len() == 1))
}

/// What the thread does, as the kernel says it.
fn doing(thread: &ThreadFacts, document: &Document) -> String {
    match &thread.system_call {
        Fact::Known(Some(call)) => format!("waiting on {}", subject(call, document)),
        Fact::Known(None) if thread.state == 'R' => "running".to_owned(),
        Fact::Known(None) => "in its own code".to_owned(),
        Fact::Missing(_) => match (thread.state, thread.wait_channel.as_known()) {
            ('R', _) => "running".to_owned(),
            (_, Some(channel)) if !channel.is_empty() => format!("waiting in the kernel function {channel}"),
            _ => "waiting".to_owned(),
        },
    }
}

fn name_of(call: &SystemCall) -> String {
    call.name.clone().unwrap_or_else(|| format!("system call {}", call.number))
}

fn is_polling(thread: &ThreadFacts) -> bool {
    const CALLS: [&str; 6] = ["epoll_wait", "epoll_pwait", "poll", "ppoll", "select", "pselect6"];
    let call = thread.system_call.as_known().and_then(Option::as_ref);
    call.is_some_and(|call| CALLS.contains(&name_of(call).as_str()))
}

/// The call and whom it is about.
fn subject(call: &SystemCall, document: &Document) -> String {
    let name = name_of(call);
    let first = call.arguments.first().copied().unwrap_or_default();
    let on = |descriptor: u64| {
        i32::try_from(descriptor.cast_signed()).ok().and_then(|number| peer(number, document))
    };
    let verb = match name.as_str() {
        "recvfrom" | "recvmsg" | "read" | "readv" => "recv from",
        "sendto" | "sendmsg" | "write" | "writev" | "sendfile" => "send to",
        "connect" => "connect to",
        "accept" | "accept4" => "a connection to",
        "flock" | "fcntl" => "a lock of",
        "fsync" | "fdatasync" | "pread64" | "pwrite64" | "ioctl" | "splice" => name.as_str(),
        "futex" => return "a lock or another thread".to_owned(),
        "nanosleep" | "clock_nanosleep" => return "a sleep of its own".to_owned(),
        "wait4" | "waitid" => return "a child process".to_owned(),
        "open" | "openat" => return "the opening of a file".to_owned(),
        "epoll_wait" | "epoll_pwait" | "select" | "pselect6" => return "events".to_owned(),
        "poll" | "ppoll" => {
            let one = (call.arguments.get(1) == Some(&1)).then(|| polled(document.pid, first)).flatten();
            let peer = one.and_then(|number| peer(number, document));
            return peer.map_or_else(|| "events".to_owned(), |peer| format!("events of {peer}"));
        }
        _ => return name,
    };
    match on(first) {
        Some(peer) => format!("{verb} {peer}"),
        None => name,
    }
}

/// The descriptor in the first entry of what is polled.
fn polled(pid: i32, entries: u64) -> Option<i32> {
    let mut number = [0; 4];
    let count = horus_sys::memory::read(pid, entries, &mut number).ok()?;
    (count == number.len()).then(|| i32::from_ne_bytes(number))
}

/// What a descriptor is connected to.
fn peer(descriptor: i32, document: &Document) -> Option<String> {
    if let Some(socket) = document.sockets.iter().find(|socket| socket.descriptor == descriptor) {
        return Some(match &socket.remote {
            Some(remote) => remote.clone(),
            None if socket.local.is_empty() => format!("a {} socket", socket.protocol),
            None => format!("{} ({})", socket.local, socket.protocol),
        });
    }
    let link = std::fs::read_link(format!("/proc/{}/fd/{descriptor}", document.pid)).ok()?;
    let link: String = link.to_string_lossy().chars().filter(|c| !c.is_control()).take(120).collect();
    Some(match link.split_once(":[") {
        Some((kind, _)) => format!("a {kind} (descriptor {descriptor})"),
        None => link,
    })
}

/// A loop that waits for events is alive; what its tasks wait for may still be wrong.
fn idle_loop(python: &Python) -> String {
    let waiting = python.tasks.iter().filter(|task| task.state == TaskState::Waiting);
    // Whoever sleeps wakes by itself, a server waits for ever by profession, and who waits for a task that is shown too is not
    // the one to look at.
    let rests = |task: &&Task| {
        let last =
            task.chain.last().map_or("", |frame| frame.function.rsplit('.').next().unwrap_or_default());
        let on = task.waits_on.as_deref().unwrap_or_default();
        let on_others = on.starts_with("task ") || on.starts_with("_GatheringFuture");
        matches!(last, "sleep" | "serve_forever" | "__sleep0") || on_others
    };
    let named: Vec<String> = waiting
        .filter(|task| !rests(task))
        .filter_map(|task| {
            let frame = task.chain.iter().rev().find(|frame| is_own(&frame.file)).or(task.chain.last())?;
            Some(format!("task {} in {}", task.name, shown(frame)))
        })
        .take(TASKS_NAMED + 1)
        .collect();
    let mut text = "the loop waits for events".to_owned();
    for (position, task) in named.iter().take(TASKS_NAMED).enumerate() {
        text.push_str(if position == 0 { "; waiting: " } else { ", " });
        text.push_str(task);
    }
    if named.len() > TASKS_NAMED {
        text.push_str(" and others");
    }
    text
}

/// The innermost frame of the program's own code, else the innermost of all.
fn own_frame(frames: &[Frame]) -> Option<&Frame> {
    frames.iter().find(|frame| is_own(&frame.file)).or(frames.first())
}

/// Not of the standard library, not installed, not frozen into the interpreter.
fn is_own(file: &str) -> bool {
    let installed = file.contains("/site-packages/") || file.contains("/dist-packages/");
    let standard = ["/lib/python", "/lib64/python"].iter().any(|folder| file.contains(folder));
    !installed && !standard && !file.starts_with('<')
}

/// `place_order (bot.py:98)`
pub(crate) fn shown(frame: &Frame) -> String {
    let file = frame.file.rsplit('/').next().unwrap_or_default();
    let function = frame.function.rsplit('.').next().unwrap_or_default();
    format!("{function} ({file}:{})", frame.line)
}

/// The innermost function of the program itself that is not one of its language's library.
fn native_place(document: &Document, tid: i32) -> Option<String> {
    let thread = document.native.iter().find(|thread| thread.tid == tid)?;
    let frame = thread
        .frames
        .iter()
        .find(|frame| frame.own && frame.function.as_deref().is_some_and(is_own_function))?;
    Some(shown_native(frame))
}

fn is_own_function(name: &str) -> bool {
    const LIBRARIES: [&str; 12] = [
        "std::",
        "core::",
        "alloc::",
        "tokio::",
        "mio::",
        "hyper::",
        "parking_lot",
        "futures",
        "rustix::",
        "libc::",
        "_start",
        "__",
    ];
    let name = name.trim_start_matches(['<', '&', '*', '(']);
    let name = name.strip_prefix("mut ").unwrap_or(name);
    !LIBRARIES.iter().any(|library| name.starts_with(library))
}

/// `deadlock (trader)`
pub(crate) fn shown_native(frame: &NativeFrame) -> String {
    match &frame.function {
        Some(function) => format!("{function} ({})", frame.module),
        None if frame.module.is_empty() => format!("{:#x}", frame.address),
        None => format!("{}+{:#x}", frame.module, frame.address),
    }
}
