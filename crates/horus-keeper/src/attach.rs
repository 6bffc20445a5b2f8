//! How Horus comes to its keeper: find the living one, or start one, without a gap in which two could be started.
//!
//! The lock decides. Whoever holds it is the keeper, or is about to be: a Horus that gets it starts `horus keep` and
//! hands the lock down by inheritance, so it is held from before the fork until the keeper's end. A Horus that does
//! not get it connects.

use crate::crash_point::crash_point_of_horus;
use crate::home::Home;
use crate::protocol::{Event, Hello, MAX_LINE, PROTOCOLS, Versions};
use crate::slots::RunDirectory;
use horus_sys::clock;
use horus_sys::files::PrivateDirError;
use horus_sys::lock::{self, FileLock, Holder, LockError};
use horus_sys::poll::Poller;
use horus_sys::process::ProcessId;
use horus_sys::{peer, spawn, user};
use serde::Deserialize;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long all of [`attach`] may take.
pub const ATTACH_DEADLINE: Duration = Duration::from_secs(5);
/// How long one connection may be silent before another is tried: it may lead to a dying keeper's socket.
const HELLO_PATIENCE: Duration = Duration::from_secs(1);
/// Most keepers started in one [`attach`]; a keeper that dies at once will do so again.
const MAX_SPAWNS: u32 = 3;
/// Size above which the keeper's own log is set aside when a new keeper starts, in bytes.
const MAX_KEEPER_LOG: u64 = 256 * 1024;
/// Variables of our own environment that the keeper gets; all others may hold secrets.
const PASSED_PREFIX: &str = "HORUS_KEEPER_";

/// A connection to the keeper.
#[derive(Debug)]
pub struct Attached {
    /// The connection, just after the Hello line; non-blocking.
    pub stream: UnixStream,
    /// What the keeper said.
    pub hello: Hello,
    /// Whether this call started the keeper.
    pub spawned: bool,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The run directory is unusable.
    #[error("the run directory is unusable")]
    RunDirectory(#[source] PrivateDirError),
    /// The lock file is unusable.
    #[error("the keeper's lock is unusable")]
    Lock(#[source] LockError),
    /// `horus keep` could not be started.
    #[error("cannot start the keeper {program}")]
    Spawn {
        /// Which program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was started and ended, again and again.
    #[error("the keeper ends right after its start; its last words: {last_words}")]
    Dies {
        /// The end of `keeper.log`.
        last_words: String,
    },
    /// The lock is held and nobody answers: the keeper is stopped or stuck. See [`crate::replace`].
    #[error("the keeper does not answer ({}); last problem: {problem}", holder.as_ref().map_or_else(|| "unknown pid".to_owned(), Holder::to_string))]
    Unresponsive {
        /// Who holds the lock, if the lock file says so.
        holder: Option<Holder>,
        /// What the last try met.
        problem: String,
    },
    /// The keeper lives and speaks no version that we speak. It goes on without us: its children live and their output
    /// is kept, but nobody restarts or judges them.
    #[error(
        "the keeper (version {version}, pid {}) speaks protocol {theirs} and this Horus {PROTOCOLS}: the services go on \
         unwatched until a Horus of version {version} runs here",
        process.pid
    )]
    Protocol {
        /// What it speaks.
        theirs: Versions,
        /// Its program version.
        version: String,
        /// Itself.
        process: ProcessId,
    },
    /// Somebody answers, and not as a keeper does.
    #[error("what listens at the keeper's socket is no keeper: {0}")]
    Strange(String),
}

/// Connects to the keeper of `run_dir`, started as `exe keep ...` if none lives. Waits at most [`ATTACH_DEADLINE`].
/// Blocks, and forks: call it where that is allowed. The keeper becomes a child of this process but outlives it.
pub fn attach(run_dir: &Path, exe: &Path, cgroup: Option<&Path>) -> Result<Attached, AttachError> {
    attach_at(run_dir, exe, &cgroup.map_or(Home::None, |path| Home::At(path.to_owned())))
}

/// The same; a keeper that is started makes the groups of its slots at `home`.
pub fn attach_at(run_dir: &Path, exe: &Path, home: &Home) -> Result<Attached, AttachError> {
    let directory = RunDirectory::prepare(run_dir).map_err(AttachError::RunDirectory)?;
    let deadline = clock::monotonic() + ATTACH_DEADLINE;
    let mut spawns = 0;
    let mut problem = "no try yet".to_owned();
    let mut pause = Duration::from_millis(1);
    while clock::monotonic() < deadline {
        match FileLock::try_acquire(&directory.lock(), "horus, starting a keeper") {
            Ok(_) if spawns == MAX_SPAWNS => {
                return Err(AttachError::Dies { last_words: last_words(&directory) });
            }
            Ok(lock) => {
                start(&directory, exe, home, &lock)?;
                spawns += 1;
                crash_point_of_horus("attach.after-spawn");
            }
            Err(LockError::Held { .. }) => {}
            Err(error) => return Err(AttachError::Lock(error)),
        }
        match greet(&directory.socket(), deadline) {
            Ok((stream, hello)) => return Ok(Attached { stream, hello, spawned: spawns > 0 }),
            Err(Unheard::Final(error)) => return Err(error),
            Err(Unheard::Silent(error)) => problem = error.to_string(),
        }
        wait(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    Err(AttachError::Unresponsive { holder: lock::read_holder(&directory.lock()), problem })
}

fn start(directory: &RunDirectory, exe: &Path, home: &Home, lock: &FileLock) -> Result<(), AttachError> {
    let failed = |source| AttachError::Spawn { program: exe.display().to_string(), source };
    let mut arguments: Vec<OsString> = vec!["keep".into(), "--run-dir".into(), directory.path().into()];
    arguments.extend(["--lock-fd".into(), lock.as_fd().as_raw_fd().to_string().into()]);
    let errors = open_keeper_log(directory).map_err(failed)?;
    if let Some(cgroup) = home.settle(&errors) {
        arguments.extend(["--cgroup".into(), cgroup.into()]);
    }
    let environment: Vec<(OsString, OsString)> = std::env::vars_os()
        .filter(|(name, _)| name.to_str().is_some_and(|name| name.starts_with(PASSED_PREFIX)))
        .collect();
    spawn::detached(exe, &arguments, &environment, lock.as_fd(), errors).map_err(failed)?;
    Ok(())
}

fn open_keeper_log(directory: &RunDirectory) -> io::Result<File> {
    let path = directory.log();
    if fs::metadata(&path).is_ok_and(|found| found.len() > MAX_KEEPER_LOG) {
        fs::rename(&path, path.with_extension("log.1"))?;
    }
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn last_words(directory: &RunDirectory) -> String {
    let lines = crate::logs::tail(&directory.log(), 5, 4_096);
    if lines.is_empty() { "none".to_owned() } else { lines.join(" | ") }
}

/// What the keeper of `run_dir` says of itself and its slots. Disturbs neither it nor its client, and starts nothing.
pub fn observe(run_dir: &Path) -> Result<Hello, AttachError> {
    let silent = |error: io::Error, directory: Option<&RunDirectory>| AttachError::Unresponsive {
        holder: directory.and_then(|directory| lock::read_holder(&directory.lock())),
        problem: error.to_string(),
    };
    let directory = RunDirectory::existing(run_dir).map_err(|error| silent(error, None))?;
    match greet(&directory.view_socket(), clock::monotonic() + HELLO_PATIENCE) {
        Ok((_, hello)) => Ok(hello),
        Err(Unheard::Final(error)) => Err(error),
        Err(Unheard::Silent(error)) => Err(silent(error, Some(&directory))),
    }
}

/// Why no Hello was heard.
enum Unheard {
    /// Nobody spoke. Try again: the connection may have led to a dying keeper.
    Silent(io::Error),
    /// Somebody did, and another try would hear the same.
    Final(AttachError),
}

impl From<io::Error> for Unheard {
    fn from(error: io::Error) -> Self {
        Self::Silent(error)
    }
}

/// The part of Hello that every version can read, because none may change it.
#[derive(Deserialize)]
struct Head {
    event: String,
    protocol: u32,
    #[serde(default)]
    protocols: Option<Versions>,
    process: ProcessId,
    keeper_version: String,
}

fn greet(socket: &Path, deadline: Duration) -> Result<(UnixStream, Hello), Unheard> {
    let stream = UnixStream::connect(socket)?;
    stream.set_nonblocking(true)?;
    let server = peer::peer_credentials(&stream)?;
    if server.uid != user::effective_uid() && server.uid != 0 {
        return Err(Unheard::Final(AttachError::Strange(format!("it runs as user {}", server.uid))));
    }
    let patience = HELLO_PATIENCE.min(deadline.saturating_sub(clock::monotonic()));
    let line = peer::read_line_exactly(&stream, MAX_LINE, patience)?;
    understand(&line).map(|hello| (stream, hello)).map_err(Unheard::Final)
}

fn understand(line: &[u8]) -> Result<Hello, AttachError> {
    let strange = |error: serde_json::Error| AttachError::Strange(error.to_string());
    let head: Head = serde_json::from_slice(line).map_err(strange)?;
    if head.event != "hello" {
        return Err(AttachError::Strange("it did not begin with Hello".to_owned()));
    }
    let theirs = head.protocols.unwrap_or(Versions { oldest: head.protocol, newest: head.protocol });
    if theirs.common(PROTOCOLS).is_none() {
        let Head { keeper_version: version, process, .. } = head;
        return Err(AttachError::Protocol { theirs, version, process });
    }
    match serde_json::from_slice(line).map_err(strange)? {
        Event::Hello(hello) => Ok(hello),
        _ => Err(AttachError::Strange("it did not begin with Hello".to_owned())),
    }
}

/// A pause without `sleep`: nothing to wait for but time.
fn wait(pause: Duration) {
    if let Ok(poller) = Poller::new() {
        let _ = poller.wait(&mut Vec::new(), Some(pause));
    }
}
