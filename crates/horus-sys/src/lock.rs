//! A lock that its holder cannot forget to release: `flock` on an open file description. It is inherited over `fork`
//! and `exec` and falls with the last holder, however that one died.

use crate::call::{check, retry};
use crate::fact::Fact;
use crate::files;
use crate::process::{self, ProcessId};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Longest note about the holder that is read back, in bytes.
const MAX_NOTE: usize = 256;

/// Who says to hold a lock. Only a hint for people: the lock itself is the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its pid.
    pub pid: i32,
    /// Its start time, which tells it from a later owner of the pid; older programs did not write it.
    pub start_time: Option<u64>,
    /// What it called itself.
    pub program: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {})", self.program, self.pid)
    }
}

/// Why a lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error("{path} is locked by {}", holder.as_ref().map_or_else(|| "another process".to_owned(), Holder::to_string))]
    Held {
        /// Which lock.
        path: PathBuf,
        /// By whom, if the file says so.
        holder: Option<Holder>,
    },
    /// The system said no.
    #[error("cannot lock {path}")]
    Io {
        /// Which lock.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A held lock. Dropping it gives up *our* copy; the lock falls when no process has one.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    path: PathBuf,
}

impl FileLock {
    /// Takes the lock at `path` (made if absent, 0600) or says who has it. Never waits.
    pub fn try_acquire(path: &Path, program: &str) -> Result<Self, LockError> {
        let io_error = |source| LockError::Io { path: path.to_owned(), source };
        let file = open_lock_file(path).map_err(io_error)?;
        if !flock(&file).map_err(io_error)? {
            return Err(LockError::Held { path: path.to_owned(), holder: read_holder(path) });
        }
        let lock = Self { file, path: path.to_owned() };
        // Only a hint: a full disk must not keep Horus from starting.
        let _ = lock.sign(program);
        Ok(lock)
    }

    /// Takes over a lock that a parent handed down as descriptor `number`. Errors unless that descriptor is the file
    /// at `path` and holds (or can take) the lock.
    pub fn inherit(number: RawFd, path: &Path, program: &str) -> io::Result<Self> {
        // SAFETY: F_GETFD on any number is harmless and tells whether it is open.
        check(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
        // SAFETY: the number is open, and by contract of the command line it is ours.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(number) });
        set_inheritable(file.as_fd(), false)?;
        let (ours, named) = (file.metadata()?, std::fs::metadata(path)?);
        if (ours.dev(), ours.ino()) != (named.dev(), named.ino()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the inherited descriptor is not the lock file",
            ));
        }
        if !flock(&file)? {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "another process holds the lock"));
        }
        let lock = Self { file, path: path.to_owned() };
        let _ = lock.sign(program);
        Ok(lock)
    }

    /// Whether its path still leads to it. If not, somebody took the file away, and another process can take a new one.
    pub fn is_at_its_path(&self) -> bool {
        let named =
            std::fs::symlink_metadata(&self.path).and_then(|named| Ok((named, self.file.metadata()?)));
        named.is_ok_and(|(named, ours)| (ours.dev(), ours.ino()) == (named.dev(), named.ino()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn sign(&self, program: &str) -> io::Result<()> {
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        let me = process::own_pid();
        let note = match process::identify(me) {
            Ok(Some(ProcessId { pid, start_time })) => format!("{pid} {start_time} {program}\n"),
            Ok(None) | Err(_) => format!("{me} {program}\n"),
        };
        file.write_all(note.as_bytes())
    }
}

impl AsFd for FileLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Opens the file of a lock at `path`, made if absent, 0600; nothing of it is changed and no link is followed.
pub fn open_lock_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Where the locks of this user are that all its programs share; not made. Gone with a restart of the machine, or older than
/// that and then of no meaning.
pub fn machine_directory() -> PathBuf {
    let us = crate::user::effective_uid();
    if us == 0 {
        let lock = Path::new("/run/lock");
        return if lock.is_dir() { lock.join("horus") } else { "/var/run/horus-locks".into() };
    }
    // By the user, and only then by the variable: who is started without a session must meet the same locks.
    let of_session = Path::new("/run/user").join(us.to_string());
    let of_variable =
        || std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let directory = Some(of_session).filter(|path| path.is_dir()).or_else(of_variable);
    directory.map_or_else(|| format!("/tmp/horus-locks-{us}").into(), |path| path.join("horus-locks"))
}

/// What the lock file says about its holder: `PID START_TIME PROGRAM`, or `PID PROGRAM` from older programs. `None` when
/// it says nothing readable.
pub fn read_holder(path: &Path) -> Option<Holder> {
    let content = files::read_limited(path, MAX_NOTE).ok()?;
    let text = String::from_utf8(content).ok()?;
    let (pid, rest) = text.trim().split_once(' ')?;
    let timed = rest.split_once(' ').and_then(|(time, program)| Some((time.parse().ok()?, program)));
    let (start_time, program) = timed.map_or((None, rest), |(time, program)| (Some(time), program));
    Some(Holder { pid: pid.parse().ok()?, start_time, program: program.to_owned() })
}

/// Whether a descriptor of this process is the file at `path`. A copy of a lock's descriptor holds the lock.
pub fn has_open(process: &ProcessId, path: &Path) -> Fact<bool> {
    let found = std::fs::canonicalize(path).and_then(|path| Ok((std::fs::metadata(&path)?, path)));
    match found {
        Ok((found, path)) => crate::os::has_open(process.pid, &path, found.dev(), found.ino()),
        Err(error) => Fact::from(Err(error)),
    }
}

/// Whether a descriptor stays open over `exec`.
pub fn set_inheritable(descriptor: BorrowedFd<'_>, inheritable: bool) -> io::Result<()> {
    let flags = if inheritable { 0 } else { libc::FD_CLOEXEC };
    // SAFETY: the descriptor is open for the duration of the borrow.
    check(unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, flags) })?;
    Ok(())
}

fn flock(file: &File) -> io::Result<bool> {
    let number = file.as_raw_fd();
    // SAFETY: the descriptor is open for the duration of the borrow.
    match retry(|| unsafe { libc::flock(number, libc::LOCK_EX | libc::LOCK_NB) }) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_of_both_kinds_are_read() {
        let path = std::env::temp_dir().join(format!("horus-sys-note-{}", std::process::id()));
        for (note, start_time) in [("41 horus keep\n", None), ("41 977 horus keep\n", Some(977))] {
            files::write_atomic(&path, note.as_bytes(), files::Durability::ThisBoot).unwrap();
            let holder = Holder { pid: 41, start_time, program: "horus keep".to_owned() };
            assert_eq!(read_holder(&path), Some(holder));
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_second_taker_is_told_who_has_it() {
        let path = std::env::temp_dir().join(format!("horus-sys-lock-{}", std::process::id()));
        let first = FileLock::try_acquire(&path, "horus run").unwrap();
        let error = FileLock::try_acquire(&path, "horus run").unwrap_err();
        let expected = format!("{} is locked by horus run (pid {})", path.display(), std::process::id());
        assert_eq!(error.to_string(), expected);
        let holder = read_holder(&path).unwrap();
        let me = process::identify(process::own_pid()).unwrap().unwrap();
        assert_eq!((holder.pid, holder.start_time), (me.pid, Some(me.start_time)));
        assert_ne!(has_open(&me, &path), Fact::Known(false));
        assert_ne!(has_open(&me, Path::new("/dev/full")), Fact::Known(true));
        drop(first);
        FileLock::try_acquire(&path, "horus run").unwrap();
        std::fs::remove_file(path).unwrap();
    }
}
