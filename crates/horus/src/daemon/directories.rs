//! The folders of this Horus: made, private, and owned by one process at a time.

use std::io::ErrorKind;
use std::os::fd::{AsFd as _, BorrowedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use horus_core::plan::DaemonPlan;
use horus_sys::disk::space;
use horus_sys::files::ensure_private_dir;
use horus_sys::lock::{FileLock, LockError};

use super::run_error::RunError;

/// How long a lock may outlive its holder.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);

/// Where everything is. The locks hold as long as this value lives.
#[derive(Debug)]
pub(super) struct Directories {
    pub(super) evidence: PathBuf,
    /// Sockets of services that speak to us.
    pub(super) notify: PathBuf,
    /// `None`: the disk takes no writes, not even that of a lock.
    state_lock: Option<FileLock>,
    run_lock: FileLock,
}

/// Locks that an earlier program of this process held, by the numbers of their descriptors.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    pub(super) state: Option<RawFd>,
    pub(super) run: Option<RawFd>,
}

impl Directories {
    /// Makes them and takes their locks, or takes them over if an earlier program of this process held them.
    pub(super) fn take(daemon: &DaemonPlan, held: Held) -> Result<Self, RunError> {
        let evidence = daemon.state_directory.join("evidence");
        let notify = notify_directory(&daemon.run_directory);
        let logs = daemon.state_directory.join("logs");
        let state = &daemon.state_directory;
        for directory in [state, &evidence, &logs] {
            bear(state, prepare(directory))?;
        }
        prepare(&daemon.run_directory)?;
        prepare_for_others(&notify)?;
        // One owner of the state, and one of the keeper, whatever two configurations name.
        let state_lock = bear(state, lock(state, held.state))?;
        let run_lock = lock(&daemon.run_directory, held.run)?;
        Ok(Self { evidence, notify, state_lock, run_lock })
    }

    /// What has to stay where it is: without one of these somebody is not found.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        let locks = self.state_lock.iter().chain([&self.run_lock]).map(FileLock::path);
        locks.chain([self.notify.as_path()]).map(Path::to_owned)
    }

    /// Where the keeper's lock is.
    pub(super) fn keeper_lock(&self) -> PathBuf {
        self.run_lock.path().with_file_name("keeper.lock")
    }

    /// The locks of the state and of the run directory, for a Horus that becomes another program and passes them on.
    pub(super) fn locks(&self) -> (Option<BorrowedFd<'_>>, BorrowedFd<'_>) {
        (self.state_lock.as_ref().map(FileLock::as_fd), self.run_lock.as_fd())
    }
}

/// A state directory that is there and takes no writes keeps nobody from being supervised: the store goes on in memory, says
/// so, and tries again. What was not to be had is `None`.
fn bear<T>(state_directory: &Path, outcome: Result<T, RunError>) -> Result<Option<T>, RunError> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error @ RunError::Locked(LockError::Held { .. })) => Err(error),
        Err(error) if takes_no_writes(state_directory) => {
            tracing::error!("{}; it goes on without, nothing is kept", super::chain(&error));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn takes_no_writes(directory: &Path) -> bool {
    directory.is_dir() && space(directory).is_ok_and(|disk| disk.read_only || disk.free_bytes == 0)
}

/// Takes the lock of a directory. A holder that was just killed may need a moment to be gone.
fn lock(directory: &Path, held: Option<RawFd>) -> Result<FileLock, RunError> {
    let path = directory.join("lock");
    if let Some(number) = held {
        match FileLock::inherit(number, &path, "horus run") {
            Ok(lock) => return Ok(lock),
            // The file was taken away, which is why we are here, or another one is in its place.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => {}
            Err(error) => {
                let what = format!("the lock {} that was handed over", path.display());
                return Err(RunError::Directory { what, source: error.into() });
            }
        }
    }
    let deadline = horus_sys::clock::monotonic() + LOCK_WAIT_MAX;
    loop {
        match FileLock::try_acquire(&path, "horus run") {
            Ok(lock) => return Ok(lock),
            Err(LockError::Held { holder, .. })
                if horus_sys::clock::monotonic() < deadline
                    && !holder.as_ref().is_some_and(|holder| lives(holder.pid)) =>
            {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            Err(error) => return Err(RunError::Locked(error)),
        }
    }
}

/// A process that is there and not only waits to be reaped.
pub(super) fn lives(pid: i32) -> bool {
    horus_sys::process::row(pid).ok().flatten().is_some_and(|row| !row.is_gone())
}

/// Beside the run directory, which is ours alone: services that run as other users have to reach their sockets.
pub(super) fn notify_directory(run_directory: &Path) -> PathBuf {
    let mut name = run_directory.as_os_str().to_owned();
    name.push("-notify");
    PathBuf::from(name)
}

/// A directory that others may pass through, but not list or change. The sockets in it have modes of their own.
fn prepare_for_others(directory: &Path) -> Result<(), RunError> {
    prepare(directory)?;
    let passable = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(directory, passable)
        .map_err(|error| RunError::Directory { what: directory.display().to_string(), source: error.into() })
}

fn prepare(directory: &Path) -> Result<(), RunError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| RunError::Directory {
        what: directory.display().to_string(),
        source,
    };
    std::fs::create_dir_all(directory).map_err(|error| failed(error.into()))?;
    ensure_private_dir(directory).map_err(|error| failed(error.into()))
}
