//! `keep` runs the keeper; every other verb is a subject for it to keep, or a small Horus. Only for this crate's tests.

use std::ffi::OsStr;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let verb = arguments.next();
    let words: Vec<String> = match verb.as_deref().and_then(OsStr::to_str) {
        Some("keep") => return horus_keeper::run(arguments),
        _ => arguments.map(|word| word.to_string_lossy().into_owned()).collect(),
    };
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    match verb.as_deref().and_then(OsStr::to_str) {
        Some("leaderless") => leaderless(),
        Some("monster") => monster(number(0)),
        Some("lines") => lines(number(0), number(1)),
        _ => ExitCode::from(64),
    }
}

/// The first thread ends, another goes on: the process shows as a zombie and lives.
fn leaderless() -> ExitCode {
    std::thread::spawn(|| {
        loop {
            std::thread::park();
        }
    });
    horus_sys::process::end_this_thread()
}

/// One line of so many bytes, and a short one.
fn monster(mut bytes: u64) -> ExitCode {
    let chunk = [b'x'; 64 * 1024];
    let mut out = std::io::stdout().lock();
    while bytes > 0 {
        let count = usize::try_from(bytes).unwrap_or(usize::MAX).min(chunk.len());
        if out.write_all(chunk.get(..count).unwrap_or_default()).is_err() {
            return ExitCode::FAILURE;
        }
        bytes -= u64::try_from(count).unwrap_or(bytes);
    }
    match out.write_all(b"\nthe end\n").and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Numbered lines of different lengths, in writes that do not end where lines end.
fn lines(count: u64, size_of_write: u64) -> ExitCode {
    let size = usize::try_from(size_of_write).unwrap_or(1_000).max(1);
    let mut out = std::io::BufWriter::with_capacity(size, std::io::stdout().lock());
    for number in 0..count {
        let padding = usize::try_from(number % 61).unwrap_or(0);
        if writeln!(out, "line {number} {}", "x".repeat(padding)).is_err() {
            return ExitCode::FAILURE;
        }
    }
    match out.flush() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
