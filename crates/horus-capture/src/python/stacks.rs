//! Python stacks by py-spy, without a stop: a thread that moves meanwhile gives a stack of two moments, one that hangs does not
//! move. Whether one did is told by its CPU time before and after.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use object::read::ReadCache;
use object::{Object as _, ObjectSection as _};
use py_spy::config::LockingStrategy;
use py_spy::{Config, PythonSpy, StackTrace};

use super::Interpreter;
use crate::document::{Frame, Python, PythonThread};
use crate::limits::{
    FRAMES_MAX, INTERPRETER_BYTES_MAX, INTERPRETER_FILES_MAX, SECTION_BYTES_MAX, TEXT_BYTES_MAX, THREADS_MAX,
};

pub(super) fn read(pid: i32) -> Result<Interpreter, String> {
    vet(pid)?;
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

/// py-spy opens the files of an interpreter by their names and believes their tables. What stands there now may be a FIFO, which
/// would wait for a writer, a device, which may take the opening for a request, or a file that asks for more memory than there is.
fn vet(pid: i32) -> Result<(), String> {
    let mut paths = BTreeSet::from([PathBuf::from(format!("/proc/{pid}/exe"))]);
    let regions = horus_sys::memory::regions(pid).unwrap_or_default();
    for path in regions.into_iter().filter(|region| region.executable).filter_map(|region| region.path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if name.starts_with("libpython") && paths.len() < INTERPRETER_FILES_MAX {
            paths.insert(PathBuf::from(format!("/proc/{pid}/root{}", path.display())));
        }
    }
    for path in &paths {
        // What is not there cannot be opened either.
        let Ok(there) = std::fs::metadata(path) else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !there.is_file() {
            return Err(cut(format!("{name} is no file any more")));
        }
        if there.len() > INTERPRETER_BYTES_MAX {
            return Err(cut(format!("{name} is too large to be an interpreter")));
        }
        reserved(path).map_err(|why| cut(format!("{name}: {why}")))?;
    }
    Ok(())
}

/// The room that an interpreter's file reserves is copied as a whole, on its word alone.
fn reserved(path: &Path) -> Result<(), String> {
    const WORD: u64 = 8;
    const HIGHEST_ADDRESS: u64 = 1 << 47;
    let Ok(file) = File::open(path) else { return Ok(()) };
    let cache = ReadCache::new(file);
    // What is no such file at all is refused by whoever reads it.
    let Ok(elf) = object::File::parse(&cache) else { return Ok(()) };
    let is_copied = |name: &str| name == ".bss" || name.contains("PyRuntime");
    let mut has_room = false;
    for section in elf.sections().filter(|section| section.name().is_ok_and(is_copied)) {
        if section.size() > SECTION_BYTES_MAX || section.address() > HIGHEST_ADDRESS {
            return Err("its sections are where none can be".to_owned());
        }
        has_room |= section.size() >= WORD;
    }
    // Without any it would make a table of nothing, at no address.
    if !has_room {
        return Err("it has no data of its own".to_owned());
    }
    Ok(())
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
