//! Interpreters whose own structures are rings, lead nowhere or have impossible lengths, and programs that pretend to be one.

use crate::subject::{Subject, compiled_from, pythons, skipped};
use crate::witness::{ask, goes_on};

const POISON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/poison.py");
const HOSTILE: &str = "hostile.c";

#[test]
fn a_poisoned_interpreter_gives_a_reason_and_goes_on() {
    for python in pythons("a_poisoned_interpreter") {
        // Where it is poisoned, and what has to be said to be missing for it, if anything must.
        for (mode, missing) in [
            ("mask", Some("asyncio tasks")),
            ("table", Some("asyncio tasks")),
            ("itself", None),
            ("nowhere", Some("asyncio tasks")),
            ("name", None),
            ("lines", None),
            ("function", None),
            ("modules", None),
            ("log", Some("asyncio tasks")),
            ("threads", Some("Python stacks")),
            ("frames", Some("Python stacks")),
        ] {
            let mut subject = Subject::start(&python, &[POISON, mode]).ready();
            let document = ask(subject.pid()).document();
            assert!(!document.threads.is_empty(), "{mode}: the kernel's view stands");
            let is_said = |what: &str| document.missing.iter().any(|reason| reason.contains(what));
            assert!(missing.is_none_or(is_said), "{python:?} {mode}: {}", document.render(true));
            goes_on(&mut subject);
        }
    }
}

#[test]
fn a_chain_of_a_hundred_thousand_awaits_is_cut() {
    for python in pythons("a_chain_of_a_hundred_thousand") {
        let mut subject = Subject::start(&python, &[POISON, "chain", "100000"]).ready();
        let document = ask(subject.pid()).document();
        let tasks = document.python.as_ref().map(|python| python.tasks.as_slice()).unwrap_or_default();
        let longest = tasks.iter().map(|task| task.chain.len()).max();
        assert!(longest.is_none_or(|longest| longest > 10), "{}", document.render(true));
        assert!(longest.is_some() || !document.missing.is_empty());
        goes_on(&mut subject);
    }
}

#[test]
fn a_program_that_pretends_to_be_an_interpreter_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = compiled_from(HOSTILE, folder.path(), "python3.11") else {
        return skipped("a_program_that_pretends", "no C compiler").unwrap_or_default();
    };
    for mode in ["ring", "huge", "noise", "zero"] {
        let mut subject = Subject::start(&program, &[mode]).ready();
        let document = ask(subject.pid()).document();
        let found = document.python.as_ref();
        assert!(found.is_none_or(|python| python.tasks.is_empty()), "{mode}: {found:?}");
        let is_said = document
            .missing
            .iter()
            .any(|reason| reason.contains("Python stacks") || reason.contains("asyncio tasks"));
        assert!(is_said, "{mode}: {:?}", document.missing);
        goes_on(&mut subject);
    }
}

#[test]
fn thousands_of_threads_are_counted_and_a_few_shown() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = compiled_from(HOSTILE, folder.path(), "crowd") else {
        return skipped("thousands_of_threads", "no C compiler").unwrap_or_default();
    };
    let mut subject = Subject::start(&program, &["threads", "3000"]).ready();
    let document = ask(subject.pid()).document();
    assert!((64..=1_024).contains(&document.threads.len()), "{}", document.threads.len());
    let is_said = |reason: &String| reason.starts_with("threads: only");
    assert!(document.missing.iter().any(is_said), "{:?}", document.missing);
    goes_on(&mut subject);
}

#[test]
fn a_native_stack_of_a_hundred_megabytes_is_read_at_its_top() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = compiled_from(HOSTILE, folder.path(), "diver") else {
        return skipped("a_native_stack_of", "no C compiler").unwrap_or_default();
    };
    let mut subject = Subject::start(&program, &["stack", "104857600"]).ready();
    let document = ask(subject.pid()).document();
    if cfg!(target_arch = "x86_64") {
        let dives = document.native.iter().flat_map(|thread| &thread.frames);
        let dives = dives.filter(|frame| frame.function.as_deref() == Some("dive")).count();
        assert!((10..=256).contains(&dives), "{dives}: {}", document.render(true));
    }
    goes_on(&mut subject);
}
