//! Programs that hang: the phrase names the call, the peer, the function, the line and the task.

use std::io::{BufRead as _, Read as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use horus_capture::document::{NativeThread, TaskState};

use crate::subject::{BOT, Subject, compiled, line, python, pythons, skipped};

#[test]
fn a_blocked_loop_is_named_with_its_peer_its_line_and_its_task() {
    for python in pythons("a_blocked_loop") {
        let bot = |mode: &str| Subject::start(&python, &[BOT, mode]).ready();
        for (mode, call, place) in [
            ("recv", "waiting on recv from 127.0.0.1:", "place_order"),
            ("http", "waiting on recv from 127.0.0.1:", "ask_price"),
            ("lock", "waiting on a lock or another thread", "take_lock"),
            ("busy", "running", "spin"),
            ("regex", "running", "match"),
        ] {
            let subject = bot(mode);
            let place = format!(" in {place} (bot.py:{}), task execute-signal", line(mode));
            // Both in one phrase: the thread was on its way there when the first of its halves was read.
            let document = subject.until_all(&[call, &place]);
            let python = document.python.unwrap();
            let running: Vec<_> =
                python.tasks.iter().filter(|task| task.state == TaskState::Running).collect();
            assert_eq!(running.len(), 1, "{:?}", python.tasks);
            let first = python.tasks.iter().find(|task| task.name == "Task-1").unwrap();
            assert_eq!(first.waits_on.as_deref(), Some("task execute-signal"));
            let awaiting = first.chain.first().map(|frame| frame.line as usize);
            assert_eq!(awaiting, Some(line("awaits")), "{first:?}");
            assert_eq!(python.loops.len(), 1);
        }
    }
}

#[test]
fn a_loop_beside_the_main_thread_is_the_one_that_is_named() {
    for python in pythons("a_loop_beside") {
        let subject = Subject::start(&python, &[BOT, "side"]).ready();
        let place = format!(" in place_order (bot.py:{}), task execute-signal", line("recv"));
        let document = subject.until_all(&["waiting on recv from 127.0.0.1:", &place]);
        let python = document.python.unwrap();
        let thread = python.loops.first().and_then(|found| found.thread);
        let side = python.threads.iter().find(|found| Some(found.ident) == thread).unwrap();
        assert_ne!(side.tid, Some(subject.pid()));
    }
}

#[test]
fn the_lag_of_a_loop_tells_a_blocked_one_from_a_healthy_one() {
    for python in pythons("the_lag_of_a_loop") {
        let blocked = Subject::start(&python, &[BOT, "recv"]).ready();
        let end = horus_sys::clock::monotonic() + crate::subject::PATIENCE;
        loop {
            let found = blocked.until(", task execute-signal").python.unwrap().loops.remove(0);
            // The hang may have begun in the turn that took the last timer: then what it made ready has waited since.
            let is_late = found.lag_ms.is_some_and(|lag| lag > 500.0);
            if is_late || (found.timers == Some(0) && found.ready > Some(0)) {
                break;
            }
            assert!(horus_sys::clock::monotonic() < end, "its lag grows: {found:?}");
        }
        let healthy = Subject::start(&python, &[BOT, "idle"]).ready();
        let document = healthy.until("the loop waits for events");
        let found = document.python.unwrap().loops.remove(0);
        // A timer each 20 ms: on a busy machine it is late, but not by the time that the other one was blocked.
        assert!(found.lag_ms.is_none_or(|lag| lag < 10_000.0), "{found:?}");
    }
}

#[test]
fn two_tasks_that_wait_for_each_other_are_both_named() {
    for python in pythons("two_tasks") {
        let subject = Subject::start(&python, &[BOT, "deadlock"]).ready();
        let place = format!("take_both (bot.py:{})", line("deadlock"));
        let phrase =
            format!("the loop waits for events; waiting: task left in {place}, task right in {place}");
        let document = subject.until(&phrase);
        let tasks = document.python.unwrap().tasks;
        let left = tasks.iter().find(|task| task.name == "left").unwrap();
        let functions: Vec<&str> = left.chain.iter().map(|frame| frame.function.as_str()).collect();
        assert_eq!(functions.first(), Some(&"take_both"));
        assert_eq!(functions.last(), Some(&"Lock.acquire"), "{functions:?}");
    }
}

#[test]
fn work_in_a_thread_leaves_the_loop_alive() {
    for python in pythons("work_in_a_thread") {
        let subject = Subject::start(&python, &[BOT, "thread"]).ready();
        let document = subject.until("waiting: task to-thread in to_thread (threads.py:");
        let threads = document.python.unwrap().threads;
        let worker = threads
            .iter()
            .find(|thread| thread.frames.iter().any(|frame| frame.function == "sleep_in_thread"));
        assert!(worker.is_some(), "{threads:?}");
    }
}

#[test]
fn python_without_asyncio_and_of_other_versions_has_its_stack() {
    for minor in 8..=13 {
        let Some(python) = python(minor) else {
            skipped::<()>("python_without_asyncio", &format!("no Python 3.{minor}"));
            continue;
        };
        let subject = Subject::start(&python, &[BOT, "plain"]).ready();
        let place = format!(" in place_order (bot.py:{})", line("recv"));
        let document = subject.until_all(&["waiting on recv from 127.0.0.1:", &place]);
        let unread = document.missing.iter().any(|missing| missing.contains("only 3.11 to 3.13"));
        assert_eq!(unread, minor < 11, "{:?}", document.missing);
    }
}

#[test]
fn a_healthy_program_is_looked_at_and_goes_on() {
    let Some(python) = pythons("a_healthy_program").pop() else { return };
    let mut subject = Subject::start(&python, &[BOT, "healthy"]).ready();
    let pid = subject.pid();
    let watch = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while watch.load(std::sync::atomic::Ordering::Relaxed) {
                let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
                let field =
                    |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
                assert!(!field("State:").starts_with(['T', 't']), "it was stopped");
                assert_eq!(field("TracerPid:"), "0");
            }
        });
        for _ in 0..20 {
            assert_eq!(horus_capture::capture(pid).pid, pid);
        }
        watch.store(false, std::sync::atomic::Ordering::Relaxed);
        watcher.join().unwrap();
    });
    // What it printed meanwhile is in the pipe: only what comes after these lines was printed after the captures.
    let mut line = String::new();
    for _ in 0..200 {
        line.clear();
        subject.output.read_line(&mut line).unwrap();
        assert_eq!(line, "tick\n");
    }
    assert!(subject.child.try_wait().unwrap().is_none());
}

#[test]
fn a_deadlock_in_c_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = compiled(folder.path(), "trader") else {
        return skipped("a_deadlock_in_c", "no C compiler").unwrap_or_default();
    };
    let document = Subject::start(program, &[]).ready().until(" in rebalance (trader)");
    if cfg!(target_arch = "x86_64") {
        assert_eq!(document.phrase, "waiting on a lock or another thread in rebalance (trader)");
    }
}

#[test]
fn a_blocked_runtime_of_rust_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "hung::as_a_subject",
        "--nocapture",
        "--include-ignored",
        "--test-threads",
        "1",
    ]);
    let subject = Subject::run(command.env("HORUS_TEST_SUBJECT", &address));
    let (_connection, _) = listener.accept().unwrap();
    if cfg!(target_arch = "x86_64") {
        // A test runs in a thread of its own: no phrase about the main thread, but its frames are there.
        let end = horus_sys::clock::monotonic() + crate::subject::PATIENCE;
        loop {
            let document = horus_capture::capture(subject.pid());
            let named = |thread: &&NativeThread| {
                let names = thread.frames.iter().filter_map(|frame| frame.function.as_deref());
                names.filter(|name| name.contains("hung::rebalance_blocking")).count() > 0
            };
            if let Some(thread) = document.native.iter().find(named) {
                return is_about(subject.pid(), thread.tid, &address);
            }
            assert!(horus_sys::clock::monotonic() < end, "{}", document.render(true));
        }
    }
}

/// Whoever knows which thread is stuck is told where that one stands.
fn is_about(pid: i32, tid: i32, peer: &str) {
    let document = horus_capture::capture_about(pid, Some(tid));
    assert_eq!((document.thread, document.threads[1].tid), (Some(tid), tid));
    let (phrase, text) = (&document.phrase, document.render(false));
    assert!(phrase.starts_with(&format!("waiting on recv from {peer} in ")), "{phrase}");
    assert!(phrase.contains("hung::") && phrase.contains(", thread "), "{phrase}");
    assert!(text.contains(", the one that the phrase is about\n"), "{text}");
    let ended = horus_capture::capture_about(pid, Some(i32::MAX));
    assert_eq!(ended.thread, None);
    assert!(
        ended.missing.contains(&format!("thread {}: not there any more", i32::MAX)),
        "{:?}",
        ended.missing
    );
    assert_eq!(ended.phrase, horus_capture::capture(pid).phrase);
}

/// Not a test of its own: the program that the one above looks at.
#[test]
fn as_a_subject() {
    let Some(address) = std::env::var("HORUS_TEST_SUBJECT").ok() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(rebalance_blocking(&address));
}

/// The mistake that everybody makes once.
#[inline(never)]
async fn rebalance_blocking(address: &str) {
    let mut connection = TcpStream::connect(address).unwrap();
    let read = connection.read(&mut [0; 1]).unwrap();
    std::hint::black_box(read);
}

#[test]
fn a_node_that_opens_a_fifo_is_named_by_its_native_stack() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().is_ok_and(|status| status.success());
    let script = format!("console.log('ready'); require('fs').readFileSync({:?})", fifo.to_str().unwrap());
    if !made || Command::new("node").arg("--version").output().is_err() {
        return skipped("a_node_that_opens", "no node").unwrap_or_default();
    }
    let subject = Subject::start("node", &["-e", &script]).ready();
    let document = subject.until("the opening of a file");
    if cfg!(target_arch = "x86_64") {
        // The names of its 90 MB take their time; a build that is not optimised may be late with them, and says so.
        let late = document.missing.iter().any(|missing| missing.starts_with("native stacks: not done"));
        let seen = document.native.first().is_some_and(|main| main.frames.len() > 3);
        assert!(seen || late, "{}", document.render(true));
    }
}
