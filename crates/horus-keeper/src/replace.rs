//! Ending a keeper that does not answer, so that an ordinary [`crate::attach`] starts the next one.
//!
//! A hung keeper (stopped, turning in a loop, waiting for a dead disk) holds the lock for ever, and without it nobody may
//! start another. Its death costs its children nothing: that is what the slot records are for. So it is killed, once it is
//! certain who it is: the note in the lock names pid and start time, and the process has the lock file open.

use crate::crash_point::crash_point_of_horus;
use crate::slots::RunDirectory;
use horus_sys::clock;
use horus_sys::fact::Fact;
use horus_sys::facts;
use horus_sys::lock::{self, FileLock, Holder, LockError};
use horus_sys::poll::Poller;
use horus_sys::process::{self, Handle, ProcessId};
use horus_sys::signal::{self, SendError, Signal};
use std::io;
use std::path::Path;
use std::time::Duration;

/// How the keeper signs its lock.
pub(crate) const KEEPER_SIGNATURE: &str = "horus keep";
/// How long a killed keeper may take to be gone before it is called stuck.
const GONE_PATIENCE: Duration = Duration::from_secs(2);

/// A keeper that was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// Which one.
    pub keeper: ProcessId,
    /// What it was doing, for people: `stopped`, `running`, `in uninterruptible sleep in nfs_wait`.
    pub doing: String,
}

/// Why nobody was ended.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// The run directory or its lock is unusable.
    #[error("the keeper's lock is unusable")]
    Lock(#[source] io::Error),
    /// Nobody holds the lock: there is no keeper to end.
    #[error("no keeper holds the lock")]
    Free,
    /// The lock is held by somebody who is not certainly the keeper.
    #[error("the lock is held by {}, which is not certainly the keeper: {why}", holder.as_ref().map_or_else(|| "an unknown process".to_owned(), Holder::to_string))]
    Uncertain {
        /// What the lock says.
        holder: Option<Holder>,
        /// What speaks against it.
        why: &'static str,
    },
    /// It may not be signalled.
    #[error("the keeper cannot be killed")]
    Signal(#[source] SendError),
    /// It was killed and does not go: the kernel does not let it. Its lock falls when it does.
    #[error("the keeper (pid {}) was killed and is stuck in the kernel, {doing}", keeper.pid)]
    Stuck {
        /// Which one.
        keeper: ProcessId,
        /// Where.
        doing: String,
    },
}

/// Kills the keeper of `run_dir`, whatever it is doing, and waits until it is gone; its children are not touched. Only for
/// a keeper that has been silent for too long: a healthy one would lose nothing either, but there is no use in it. Blocks
/// for some seconds at most.
pub fn replace(run_dir: &Path) -> Result<Replaced, ReplaceError> {
    let directory = RunDirectory::existing(run_dir).map_err(ReplaceError::Lock)?;
    let holder = match FileLock::try_acquire(&directory.lock(), "horus, looking for a keeper") {
        Ok(_) => return Err(ReplaceError::Free),
        Err(LockError::Held { holder, .. }) => holder,
        Err(LockError::Io { source, .. }) => return Err(ReplaceError::Lock(source)),
    };
    let keeper = certain(&directory, holder)?;
    let doing = describe(&keeper);
    // Opened before the kill: it tells when the process is gone.
    let handle = Handle::open(keeper).map_err(ReplaceError::Lock)?;
    match signal::send(&keeper, Signal::KILL) {
        Ok(()) | Err(SendError::Gone(_)) => {}
        Err(error) => return Err(ReplaceError::Signal(error)),
    }
    crash_point_of_horus("replace.after-kill");
    if is_gone(&keeper, handle.as_ref()) {
        Ok(Replaced { keeper, doing })
    } else {
        Err(ReplaceError::Stuck { keeper, doing: describe(&keeper) })
    }
}

/// The holder of the lock, if it is the keeper beyond doubt.
fn certain(directory: &RunDirectory, holder: Option<Holder>) -> Result<ProcessId, ReplaceError> {
    let Some(known) = holder.clone() else {
        return Err(ReplaceError::Uncertain { holder, why: "the lock does not say who holds it" });
    };
    let uncertain = |why| Err(ReplaceError::Uncertain { holder: holder.clone(), why });
    if known.program != KEEPER_SIGNATURE {
        return uncertain("it does not call itself the keeper");
    }
    let Some(found) = process::identify(known.pid).map_err(ReplaceError::Lock)? else {
        return uncertain("that process is gone");
    };
    if known.start_time.is_some_and(|start_time| start_time != found.start_time) {
        return uncertain("that pid belongs to another process by now");
    }
    match (lock::has_open(&found, &directory.lock()), known.start_time) {
        (Fact::Known(true), _) | (Fact::Missing(_), Some(_)) => Ok(found),
        (Fact::Known(false), _) => uncertain("that process does not have the lock open"),
        (Fact::Missing(_), None) => uncertain("it cannot be examined, and the lock gives no start time"),
    }
}

/// What the process does, as far as the kernel tells.
fn describe(process: &ProcessId) -> String {
    let state = match process::row(process.pid) {
        Ok(Some(row)) if row.id == *process => row.state,
        Ok(_) => return "gone".to_owned(),
        Err(error) => return format!("unknown ({error})"),
    };
    let text = match state {
        b'T' => "stopped",
        b't' => "stopped by a debugger",
        b'D' => "in uninterruptible sleep",
        b'R' => "running",
        b'S' => "asleep",
        b'Z' | b'X' => "dead",
        _ => "in an unknown state",
    };
    let threads = facts::threads(process.pid).known().unwrap_or_default();
    let place = threads.into_iter().find(|thread| thread.tid == process.pid);
    match place
        .and_then(|thread| thread.wait_channel.known())
        .filter(|place| !matches!(place.as_str(), "" | "0"))
    {
        Some(place) => format!("{text} in {place}"),
        None => text.to_owned(),
    }
}

fn is_gone(keeper: &ProcessId, handle: Option<&Handle>) -> bool {
    let deadline = clock::monotonic() + GONE_PATIENCE;
    let Ok(poller) = Poller::new() else { return !process::is_alive(keeper) };
    // Gone already, or nothing to watch it by: the pauses below have to do.
    let watched = handle.is_some_and(|handle| poller.watch(handle, 0).is_ok());
    let pause = if watched { GONE_PATIENCE } else { Duration::from_millis(10) };
    while process::is_alive(keeper) && clock::monotonic() < deadline {
        let left = deadline.saturating_sub(clock::monotonic());
        if poller.wait(&mut Vec::new(), Some(pause.min(left))).is_err() {
            break;
        }
    }
    !process::is_alive(keeper)
}
