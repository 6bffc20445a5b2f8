//! The socket: who may connect, how many, for how long, and how it all ends.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backend::Backend;
use crate::problem::{Problem, ProblemKind};
use crate::routes::router;
use crate::stall::Impatient;
use crate::stream::Connection;

/// Longest path of a unix socket that every system takes, in bytes (macOS 104, Linux 108, one for the end).
const SOCKET_PATH_MAX: usize = 103;

/// Pause after a failed `accept` (too many open files): it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections beyond the limit that are told so at the same time.
const TURNED_AWAY_MAX: usize = 16;

/// Every bound of the server. The defaults are meant for use; tests shrink them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at the same time. One more is told so and closed.
    pub connections_max: usize,
    /// Streams at the same time, so that followers never take the place of a person who wants to stop something.
    pub followers_max: usize,
    /// Longest body of a request, bytes.
    pub body_bytes_max: usize,
    /// A body must have arrived after so long.
    pub body_patience: Duration,
    /// A request's head must have arrived after so long; also how long a connection may idle.
    pub head_patience: Duration,
    /// Longest head of a request, bytes.
    pub head_bytes_max: usize,
    /// How long the daemon may take for an answer that is only read.
    pub backend_patience: Duration,
    /// How long it may take to have tried every sink, or to have read and followed a configuration.
    pub work_patience: Duration,
    /// A follower that takes nothing for so long is dropped, and told so in a last line.
    pub follower_stall: Duration,
    /// How long it has to read that line. The connection of a peer that still reads nothing, whatever it asked for, is
    /// closed.
    pub last_line_patience: Duration,
    /// A silent stream shows by an empty line, so often, that it is alive.
    pub alive_every: Duration,
    /// When Horus ends, open answers may take so long.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 64,
            followers_max: 32,
            body_bytes_max: 64 << 10,
            body_patience: Duration::from_secs(5),
            head_patience: Duration::from_secs(10),
            head_bytes_max: 32 << 10,
            backend_patience: Duration::from_secs(10),
            work_patience: Duration::from_secs(60),
            follower_stall: Duration::from_secs(15),
            last_line_patience: Duration::from_secs(10),
            alive_every: Duration::from_secs(15),
            drain: Duration::from_secs(2),
        }
    }
}

/// Why the socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The system allows about a hundred bytes.
    #[error(
        "the socket path {path} is {length} bytes long, more than the {SOCKET_PATH_MAX} that a socket may have"
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// Another process answers there.
    #[error("another process listens at {path}")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{path} exists and is no socket")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// What was handed over is not the socket that is there.
    #[error("the socket at {path} is not the one that was handed over")]
    Replaced {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot listen at {path}")]
    System {
        /// The path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Which file a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spot {
    /// The device.
    pub device: u64,
    /// The file on it.
    pub inode: u64,
}

impl Spot {
    /// What is at `path` now; a link counts as itself. `None`: nothing that can be seen.
    pub fn of(path: &Path) -> Option<Self> {
        let found = std::fs::symlink_metadata(path).ok()?;
        Some(Self { device: found.dev(), inode: found.ino() })
    }
}

/// A socket that listens. Its file is removed when this is dropped, if it still is ours.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    spot: Option<Spot>,
}

impl Listener {
    /// Goes on listening on a socket that an earlier program of this process has bound, and whose file was at `spot` then.
    /// Whoever has connected meanwhile waits in its queue.
    ///
    /// # Errors
    /// It is no such socket, or another file is at `path` by now: [`bind`] a new one.
    pub fn inherit(socket: OwnedFd, path: &Path, spot: Spot) -> Result<Self, BindError> {
        let system = |source| BindError::System { path: path.into(), source };
        let socket = std::os::unix::net::UnixListener::from(socket);
        let address = socket.local_addr().map_err(system)?;
        if address.as_pathname() != Some(path) || Spot::of(path) != Some(spot) {
            return Err(BindError::Replaced { path: path.into() });
        }
        socket.set_nonblocking(true).map_err(system)?;
        let socket = UnixListener::from_std(socket).map_err(system)?;
        Ok(Self { socket, path: path.into(), spot: Some(spot) })
    }

    /// Where its file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which file that was when it was bound.
    pub fn spot(&self) -> Option<Spot> {
        self.spot
    }

    /// Removes its file: who connects from now on finds nobody, instead of waiting for somebody who ends.
    pub fn withdraw(&self) {
        if self.spot.is_some() && self.spot == Spot::of(&self.path) {
            // If it fails, the next start finds a socket that nobody answers and removes it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// Listens at `path`, with mode 0600. A socket that nobody answers is replaced.
///
/// # Errors
/// [`BindError`]
pub async fn bind(path: &Path) -> Result<Listener, BindError> {
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_MAX {
        return Err(BindError::PathTooLong { path: path.into(), length });
    }
    let system = |source| BindError::System { path: path.into(), source };
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket { path: path.into() });
        }
        Ok(_) => match UnixStream::connect(path).await {
            Ok(_) => return Err(BindError::InUse { path: path.into() }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(system)?;
            }
            Err(error) => return Err(system(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(system(error)),
    }
    let socket = UnixListener::bind(path).map_err(system)?;
    let listener = Listener { socket, path: path.into(), spot: Spot::of(path) };
    // Between these two calls the mode depends on the umask; the check of each peer does not.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(system)?;
    Ok(listener)
}

/// May a process of user `peer` speak to a Horus that runs as user `own`? Itself and root may.
fn admits(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

/// Serves until `ended`, then lets open answers finish for [`Limits::drain`]. A caller that keeps the listener can serve
/// again; meanwhile those who connect wait.
pub async fn serve<B: Backend>(
    listener: impl Into<Arc<Listener>> + Send,
    backend: Arc<B>,
    limits: Limits,
    ended: impl Future<Output = ()> + Send,
) {
    let listener = listener.into();
    let router = router(backend, limits);
    let closing = CancellationToken::new();
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let standing = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
    let full = turned_away(too_many(limits.connections_max));
    let mut connections = JoinSet::new();
    let mut refused = false;
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.socket.accept() => match accepted {
                Ok((stream, _)) => {
                    refused = false;
                    let connection = Connection { closing: closing.clone(), limits };
                    if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                        connections.spawn(converse(stream, router.clone(), connection, place));
                    } else if let Ok(place) = Arc::clone(&standing).try_acquire_owned() {
                        connections.spawn(converse(stream, full.clone(), connection, place));
                    }
                    // Beyond that a connection is closed without a word.
                }
                Err(error) => {
                    if !std::mem::replace(&mut refused, true) {
                        tracing::warn!(%error, "the API socket accepts no connection; it is tried again");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    closing.cancel();
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, drained).await.is_err() {
        tracing::warn!("API connections were cut after {:?}", limits.drain);
    }
}

fn too_many(limit: usize) -> Problem {
    Problem::new(
        ProblemKind::TooMany,
        format!("{limit} connections are open, as many as are allowed"),
        "close some (horus logs -f, horus events -f) and try again",
    )
}

/// Answers everything with one problem.
fn turned_away(problem: Problem) -> axum::Router {
    axum::Router::new().fallback(move || std::future::ready(problem.clone()))
}

/// One connection, from the check of its peer to its end.
async fn converse(
    stream: UnixStream,
    router: axum::Router,
    connection: Connection,
    _place: OwnedSemaphorePermit,
) {
    let own = nix::unistd::geteuid().as_raw();
    let router = match stream.peer_cred() {
        Ok(peer) if admits(peer.uid(), own) => router,
        Ok(peer) => {
            tracing::warn!(peer = peer.uid(), "a stranger was turned away from the API socket");
            let detail = format!("user {} may not speak to a Horus of user {own}", peer.uid());
            turned_away(Problem::new(
                ProblemKind::NotPermitted,
                detail,
                "run it as the user of horus, or as root",
            ))
        }
        Err(error) => return tracing::warn!(%error, "the peer of an API connection is not known"),
    };
    let Connection { closing, limits } = connection.clone();
    let stream = Impatient::new(stream, limits.follower_stall + limits.last_line_patience);
    let service = TowerToHyperService::new(router.layer(axum::Extension(connection)));
    let conversation = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_patience)
        .max_buf_size(limits.head_bytes_max)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(conversation);
    tokio::select! {
        // An error here is the peer's: garbage, a reset, a head that never came. It has been answered where it could.
        _ = conversation.as_mut() => return,
        () = closing.cancelled() => conversation.as_mut().graceful_shutdown(),
    }
    let _ = conversation.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_user_and_root_are_admitted() {
        assert!(admits(1000, 1000));
        assert!(admits(0, 1000));
        assert!(admits(0, 0));
        assert!(!admits(1001, 1000));
        assert!(!admits(1000, 0), "a plain user may not speak to a Horus of root");
    }
}
