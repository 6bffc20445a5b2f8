//! What this Horus leaves behind when it ends itself: a file of evidence, and then an abort.
//!
//! A panic in a task of the runtime is swallowed by the runtime: a Horus whose link to the keeper has panicked would go on
//! without a keeper and without a word. A watchdog that works by half is worse than one that is started anew, because
//! its children live under the keeper and the next Horus takes them over. So every panic, in whatever thread, ends here,
//! and so does a judge's loop that stands still (see `watchman`).
//!
//! The one who ends the process must not hang on a dead disk: evidence is written by a thread of its own, and waited for
//! no longer than [`WRITE_MAX`].

use std::backtrace::Backtrace;
use std::io::Write as _;
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use horus_sys::files::{Durability, read_limited, write_atomic};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::log_sink::LogSink;

/// How long the evidence may take to be written.
const WRITE_MAX: Duration = Duration::from_secs(3);

/// Longest evidence that is read back, in bytes.
const READ_MAX: usize = 4 * 1024 * 1024;

/// Longest stack and message that are kept, in bytes.
const TEXT_MAX: usize = 256 * 1024;

/// So many files about Horus itself are kept; the evidence room has a limit for all together.
const FILES_MAX: usize = 20;

/// Ending of a file that nobody was told of yet. Afterwards it is `json`, as all evidence.
const UNTOLD: &str = "untold";

/// Version of the file.
const SCHEMA: u32 = 1;

/// Where evidence goes, once there is such a place.
static ROOM: OnceLock<PathBuf> = OnceLock::new();

/// Why a Horus ended itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LastWords {
    schema: u32,
    at: Timestamp,
    version: String,
    pid: u32,
    /// For people, one sentence.
    what: String,
    thread: Option<String>,
    stack: Option<String>,
    /// All threads, as the kernel sees them.
    threads: serde_json::Value,
}

impl LastWords {
    /// Words about now and this process.
    pub(super) fn now(what: String) -> Self {
        let threads = horus_sys::facts::threads(horus_sys::process::own_pid());
        Self {
            schema: SCHEMA,
            at: Timestamp::now(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            what: cut(what),
            thread: None,
            stack: None,
            threads: serde_json::to_value(threads).unwrap_or_default(),
        }
    }

    /// The same, with the stack of the thread that is to blame.
    pub(super) fn with_stack(self, thread: &str, stack: Option<String>) -> Self {
        Self { thread: Some(thread.to_owned()), stack: stack.map(cut), ..self }
    }

    /// Says them, writes them down, and ends this process. Whoever started it starts the next one.
    pub(super) fn say_and_abort(self) -> ! {
        let what = self.what.clone();
        self.say();
        // A program on trial gives the process back to the one before it.
        super::handover::arrival::go_back(&what);
        std::process::abort()
    }

    fn say(self) {
        let mut log = LogSink::of_process().clone();
        let stack = self.stack.as_deref().unwrap_or("(no stack)");
        // The log never waits and never fails; who cannot read it has the file.
        let _ = writeln!(log, "{} FATAL {}\n{stack}", self.at, self.what);
        let (done, written) = sync_channel(1);
        let writing = move || {
            let place = ROOM.get().and_then(|room| self.write(room).ok());
            let _ = done.try_send(place);
        };
        if std::thread::Builder::new().name("horus-last-words".into()).spawn(writing).is_ok()
            && let Ok(Some(place)) = written.recv_timeout(WRITE_MAX)
        {
            let _ = writeln!(log, "evidence of it: {}", place.display());
        }
        LogSink::of_process().flush();
    }

    fn write(&self, room: &Path) -> std::io::Result<PathBuf> {
        let stamp = self.at.strftime("%Y%m%dT%H%M%SZ");
        let path = room.join(format!("self-{stamp}-{}.{UNTOLD}", self.pid));
        write_atomic(&path, &serde_json::to_vec_pretty(self)?, Durability::PowerLoss)?;
        Ok(path)
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_MAX));
    text
}

/// From now on evidence about Horus itself is kept in this folder.
pub(super) fn keep_in(room: &Path) {
    // A second life in one process does not exist.
    let _ = ROOM.set(room.to_owned());
}

/// From now on every panic, in every thread, is said, written down, and ends the process.
pub(super) fn take_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let stack = Backtrace::force_capture().to_string();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        LastWords::now(sentence(panic, &thread)).with_stack(&thread, Some(stack)).say_and_abort();
    }));
}

fn sentence(panic: &PanicHookInfo<'_>, thread: &str) -> String {
    let place = panic.location().map(ToString::to_string).unwrap_or_else(|| "an unknown place".into());
    let message = panic.payload_as_str().unwrap_or("(no message)");
    format!("this is a bug in horus: panic in thread {thread} at {place}: {message}")
}

/// What earlier lives left and nobody was told yet: a sentence each, and the file that [`told`] wants.
pub(super) fn untold(room: &Path) -> Vec<(PathBuf, String)> {
    let mut found = of_itself(room, UNTOLD);
    found.sort();
    let words = found.into_iter().map(|path| {
        let read = read_limited(&path, READ_MAX).ok();
        let words = read.and_then(|bytes| serde_json::from_slice::<LastWords>(&bytes).ok());
        let evidence = path.with_extension("json");
        let text = match words {
            Some(LastWords { at, version, pid, what, .. }) => format!(
                "an earlier Horus (version {version}, pid {pid}) ended itself at {at}: {what}; evidence: {}",
                evidence.display()
            ),
            None => {
                format!("an earlier Horus ended itself; what it wrote cannot be read: {}", evidence.display())
            }
        };
        (path, text)
    });
    words.collect()
}

/// This file was told of. Old ones beyond the limit go.
pub(super) fn told(room: &Path, path: &Path) {
    let _ = std::fs::rename(path, path.with_extension("json"));
    let mut kept = of_itself(room, "json");
    kept.sort();
    for old in kept.iter().rev().skip(FILES_MAX) {
        let _ = std::fs::remove_file(old);
    }
}

/// Files about Horus itself; their names sort by age.
fn of_itself(room: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(room).into_iter().flatten().flatten().map(|entry| entry.path());
    let ours = |path: &PathBuf| {
        let name = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("self-"));
        name && path.extension().is_some_and(|found| found == ending)
    };
    entries.filter(ours).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_told_once_and_kept() {
        let room = tempfile::tempdir().unwrap();
        assert_eq!(untold(room.path()), []);
        let words = LastWords::now("the loop stood still".into()).with_stack("horus", Some("main".into()));
        let path = words.write(room.path()).unwrap();
        assert!(words.threads.to_string().contains("\"tid\""), "{}", words.threads);
        let found = untold(room.path());
        let [(untold_path, text)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(*untold_path, path);
        assert!(text.contains("the loop stood still") && text.contains(".json"), "{text}");
        told(room.path(), &path);
        assert_eq!(untold(room.path()), []);
        assert!(path.with_extension("json").exists());
    }

    #[test]
    fn a_horus_that_ends_itself_again_and_again_does_not_fill_the_disk() {
        let room = tempfile::tempdir().unwrap();
        for pid in 0..FILES_MAX + 5 {
            let path = room.path().join(format!("self-20260101T000000Z-{pid:03}.{UNTOLD}"));
            write_atomic(&path, b"torn", Durability::ThisBoot).unwrap();
            told(room.path(), &path);
        }
        assert_eq!(of_itself(room.path(), "json").len(), FILES_MAX);
        assert!(room.path().join("self-20260101T000000Z-024.json").exists(), "the newest stay");
    }

    #[test]
    fn a_torn_file_is_told_of_too() {
        let room = tempfile::tempdir().unwrap();
        write_atomic(&room.path().join("self-x.untold"), b"{", Durability::ThisBoot).unwrap();
        assert!(untold(room.path())[0].1.contains("cannot be read"));
    }
}
