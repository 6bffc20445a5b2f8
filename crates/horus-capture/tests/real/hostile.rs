//! Programs that lie, grow, or end while they are looked at: a capture ends within its limits, says what it did not see, and harms
//! nobody.

use std::time::Duration;

use horus_capture::Document;
use horus_capture::document::PythonThread;
use horus_capture::limits::{CAPTURE_WALL, FRAMES_MAX};
use horus_sys::clock::monotonic;

use crate::subject::{BOT, PATIENCE, Subject, compiled, line, pythons, skipped};

/// The wall limit, and what a loaded machine adds to it.
const BOUND: Duration = Duration::from_secs(20);

/// Captures again until this holds: the subject may be on its way, and a starved machine may not come to an end in time.
fn until(subject: &Subject, what: &str, holds: impl Fn(&Document) -> bool) -> Document {
    let end = monotonic() + PATIENCE;
    loop {
        let began = monotonic();
        let document = horus_capture::capture(subject.pid());
        assert!(monotonic() - began < CAPTURE_WALL + BOUND);
        if holds(&document) {
            return document;
        }
        assert!(monotonic() < end, "{what}: {}", document.render(true));
    }
}

#[test]
fn a_deep_stack_is_shown_by_its_ends() {
    let Some(python) = pythons("a_deep_stack").pop() else { return };
    let subject = Subject::start(python, &[BOT, "deep", "3000"]).ready();
    until(&subject, "both ends of a deep stack, or why not", |document| {
        let Some(python) = &document.python else { return !document.missing.is_empty() };
        let deep = python.threads.iter().find(|thread| thread.frames.len() > 10);
        assert!(deep.is_none_or(|deep| deep.frames.len() <= FRAMES_MAX), "{deep:?}");
        let here = |found: &PythonThread| {
            found.frames.first().is_some_and(|frame| frame.line as usize == line("deep"))
        };
        deep.is_some_and(here)
    });
}

#[test]
fn very_many_tasks_are_counted_and_a_few_shown() {
    const TASKS: u64 = 100_000;
    for python in pythons("very_many_tasks") {
        let subject = Subject::start(&python, &[BOT, "many", &TASKS.to_string()]).ready();
        let counted =
            |document: &Document| document.python.as_ref().is_some_and(|python| python.tasks_counted > TASKS);
        let mut document = until(&subject, "many tasks are counted", counted);
        let shown = document.python.as_ref().map_or(0, |python| python.tasks.len());
        assert!((1..=256).contains(&shown), "{shown}");
        assert!(document.to_json().unwrap().len() <= horus_capture::limits::DOCUMENT_BYTES_MAX);
    }
}

#[test]
fn a_program_that_ends_meanwhile_is_gone_and_nothing_else() {
    let Some(python) = pythons("a_program_that_ends").pop() else { return };
    for delay_ms in [0, 1, 3, 10, 30, 100] {
        let mut subject = Subject::start(&python, &[BOT, "recv"]).ready();
        let pid = subject.pid();
        let looking = std::thread::spawn(move || horus_capture::capture(pid));
        // At some moment of the capture, which one does not matter.
        std::thread::park_timeout(Duration::from_millis(delay_ms));
        subject.child.kill().unwrap();
        subject.child.wait().unwrap();
        let document = looking.join().unwrap();
        assert_eq!(document.pid, pid);
    }
    let document = horus_capture::capture(i32::MAX);
    assert!(document.missing.contains(&"process: not there any more".to_owned()), "{:?}", document.missing);
    assert_eq!(document.phrase, "");
}

#[test]
fn what_only_looks_like_an_interpreter_gives_no_evidence() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = compiled(folder.path(), "python3.11") else {
        return skipped("what_only_looks_like", "no C compiler").unwrap_or_default();
    };
    let subject = Subject::start(program, &[]).ready();
    let began = monotonic();
    horus_capture::capture(subject.pid());
    assert!(monotonic() - began < CAPTURE_WALL + BOUND);
    let document = subject.until("waiting on a lock");
    let told = document.python.as_ref().is_none_or(|python| python.tasks.is_empty());
    assert!(told, "{:?}", document.python);
    assert!(
        document
            .missing
            .iter()
            .any(|missing| missing.contains("Python stacks") || missing.contains("asyncio"))
    );
}

#[test]
fn files_that_are_no_programs_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = compiled(folder.path(), "trader") else {
        return skipped("files_that_are_no_programs", "no C compiler").unwrap_or_default();
    };
    let elf = std::fs::read(&program).unwrap();
    let mut torn = elf.clone();
    // The header promises tables that are elsewhere now.
    torn.iter_mut().skip(24).take(40).for_each(|byte| *byte = 0xff);
    let bad: [(&str, &[u8]); 4] = [
        ("libpython3.11.so.1.0", &elf[..elf.len() / 3]),
        ("torn.so", &torn),
        ("text.so", &[b'#'; 8_192]),
        ("short.so", &elf[..70]),
    ];
    for (name, bytes) in bad {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let subject = Subject::start(&program, &[path.to_str().unwrap()]).ready();
        let began = monotonic();
        horus_capture::capture(subject.pid());
        assert!(monotonic() - began < CAPTURE_WALL + BOUND, "{name}");
        subject.until("waiting on pause");
    }
}
