//! Python stacks by py-spy, without a stop: a thread that moves meanwhile gives a stack of two moments, one that hangs does not
//! move. Whether one did is told by its CPU time before and after.

use py_spy::config::LockingStrategy;
use py_spy::{Config, PythonSpy, StackTrace};

use super::Interpreter;
use crate::document::{Frame, Python, PythonThread};
use crate::limits::{FRAMES_MAX, TEXT_BYTES_MAX, THREADS_MAX};

pub(super) fn read(pid: i32) -> Result<Interpreter, String> {
    let config = Config { blocking: LockingStrategy::NonBlocking, full_filenames: true, ..Config::default() };
    let mut spy = PythonSpy::new(pid, &config).map_err(|error| said(&error))?;
    let stacks = spy.get_stack_traces().map_err(|error| said(&error))?;
    let version = &spy.version;
    let threads = stacks.into_iter().take(THREADS_MAX).map(thread).collect();
    let python = Python {
        version: format!("{}.{}.{}", version.major, version.minor, version.patch),
        threads,
        ..Python::default()
    };
    Ok(Interpreter {
        major: version.major,
        minor: version.minor,
        modules: spy.addresses.imports_modules_address as u64,
        python,
    })
}

/// The innermost cause: the outer ones say what py-spy was about to do.
fn said(error: &impl std::fmt::Display) -> String {
    cut(format!("{error:#}"))
}

fn thread(stack: StackTrace) -> PythonThread {
    let frames = shorten(stack.frames, |frame| Frame {
        function: cut(frame.name),
        file: cut(frame.filename),
        line: u32::try_from(frame.line).unwrap_or_default(),
    });
    PythonThread {
        tid: stack.os_thread_id.and_then(|tid| i32::try_from(tid).ok()),
        ident: stack.thread_id,
        name: stack.thread_name.map(cut),
        owns_gil: stack.owns_gil,
        frames,
    }
}

/// Both ends of a deep stack: where it is, and who began it.
fn shorten<T, U>(mut stack: Vec<T>, change: impl FnMut(T) -> U) -> Vec<U> {
    let excess = stack.len().saturating_sub(FRAMES_MAX);
    if excess > 0 {
        stack.drain(FRAMES_MAX / 2..FRAMES_MAX / 2 + excess);
    }
    stack.into_iter().map(change).collect()
}

fn cut(mut text: String) -> String {
    if let Some(end) = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at)) {
        text.truncate(end);
    }
    text
}
