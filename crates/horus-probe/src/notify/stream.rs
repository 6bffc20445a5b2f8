//! The stream door: the same words as on the notify socket, for runtimes that have no unix datagrams (Node).
//!
//! A listening socket beside that of the datagrams. A message is `KEY=VALUE` lines, ended by an empty line, so that a stream has
//! edges as datagrams have. The kernel says who connected, and the same people are believed. Messages go into the one queue that the
//! listener reads, so there is one place that judges what was said.
//!
//! ```text
//!   connection --+
//!   connection --+--> queue (bounded) --> Listener (notify/mod.rs), which also reads the datagrams
//!   connection --+
//! ```
//!
//! Whoever is slow or silent costs a descriptor and a task, and there are only so many: the next one takes the place of the one that
//! has been silent for longest, first of those that never said anything whole. Rejected: a time limit on silence, because a program
//! that is blocked for an hour is silent, and has to find its connection when it comes back.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use horus_core::ids::ServiceName;
use jiff::Timestamp;
use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::datagram::Datagram;
use super::{Audience, Heard, Standing, standing};
use crate::limits::{DATAGRAM_BYTES_MAX, NOTIFY_PAUSE, STREAM_CONNECTIONS_MAX};
use crate::outlet::{Closed, Counters};
use crate::task::start;

/// How much is read at once.
const CHUNK_BYTES: usize = 1 << 10;
/// After this the system is asked again for a connection that it could not give.
const ACCEPT_AGAIN: Duration = Duration::from_millis(500);

/// A listening socket and the task that serves it.
#[derive(Debug)]
pub(super) struct Door {
    path: PathBuf,
    listener: Arc<UnixListener>,
    _task: JoinSet<()>,
}

/// What a door needs of the notify point.
#[derive(Clone, Debug)]
pub(super) struct Hall {
    pub(super) service: ServiceName,
    pub(super) audience: watch::Receiver<Audience>,
    pub(super) heard: mpsc::Sender<Heard>,
    pub(super) counters: Arc<Counters>,
}

impl Door {
    /// Where a service's stream socket is.
    pub(super) fn path_of(directory: &Path, service: &ServiceName) -> PathBuf {
        directory.join(format!("{service}.conn"))
    }

    /// Binds it, in place of any earlier one. No longer a path than that of the datagrams.
    pub(super) fn bind(directory: &Path, owner: Option<u32>, hall: Hall) -> io::Result<Self> {
        let path = Self::path_of(directory, &hall.service);
        let temporary = directory.join(format!("{}.conn~", hall.service));
        super::remove_leftover(&temporary)?;
        let listener = std::os::unix::net::UnixListener::bind(&temporary)?;
        super::put_in_place(&temporary, &path, owner)?;
        Self::over(listener, path, hall)
    }

    /// Goes on with a socket that an earlier program of this process has bound. Who has connected since waits in it.
    pub(super) fn inherit(directory: &Path, socket: OwnedFd, hall: Hall) -> io::Result<Self> {
        let path = Self::path_of(directory, &hall.service);
        Self::over(std::os::unix::net::UnixListener::from(socket), path, hall)
    }

    fn over(listener: std::os::unix::net::UnixListener, path: PathBuf, hall: Hall) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = Arc::new(UnixListener::from_std(listener)?);
        let (served, name, counters) =
            (Arc::clone(&listener), format!("{} notify stream", hall.service), Arc::clone(&hall.counters));
        let task = start(name, counters, move || serve(Arc::clone(&served), hall.clone()));
        Ok(Self { path, listener, _task: task })
    }

    /// The path and the socket, for a Horus that becomes another program and passes it on.
    pub(super) fn place(&self) -> (&Path, BorrowedFd<'_>) {
        (&self.path, self.listener.as_fd())
    }

    /// Removes the name of the socket.
    pub(super) fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A connection from outside of its task.
#[derive(Debug)]
struct Guest {
    handle: AbortHandle,
    /// Milliseconds since the door was opened; 0: it has said nothing whole yet.
    spoke: Arc<AtomicU64>,
}

async fn serve(listener: Arc<UnixListener>, hall: Hall) -> Closed {
    let opened = Instant::now();
    let mut tasks = JoinSet::new();
    let mut guests: Vec<Guest> = Vec::new();
    loop {
        tokio::select! {
            () = hall.heard.closed() => return Closed,
            Some(_) = tasks.join_next() => guests.retain(|guest| !guest.handle.is_finished()),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    guests.retain(|guest| !guest.handle.is_finished());
                    if guests.len() >= STREAM_CONNECTIONS_MAX {
                        dismiss_the_quietest(&mut guests, &hall.service);
                        // Whoever knocks all the time waits; the others speak meanwhile.
                        tokio::time::sleep(NOTIFY_PAUSE).await;
                    }
                    let spoke = Arc::new(AtomicU64::new(0));
                    let handle = tasks.spawn(attend(stream, hall.clone(), Arc::clone(&spoke), opened));
                    guests.push(Guest { handle, spoke });
                }
                Err(error) => {
                    tracing::debug!(service = %hall.service, %error, "no connection to the notify stream");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }
}

fn dismiss_the_quietest(guests: &mut Vec<Guest>, service: &ServiceName) {
    let quietest =
        (0..guests.len()).min_by_key(|at| guests.get(*at).map(|guest| guest.spoke.load(Ordering::Relaxed)));
    if let Some(at) = quietest {
        tracing::debug!(%service, "too many connections to the notify stream; the quietest one is closed");
        guests.remove(at).handle.abort();
    }
}

/// One connection, to its end.
async fn attend(mut stream: UnixStream, hall: Hall, spoke: Arc<AtomicU64>, opened: Instant) {
    let sender = stream.peer_cred().ok().and_then(|peer| peer.pid()).filter(|pid| *pid > 0);
    let at_first = {
        let audience = hall.audience.borrow().clone();
        standing(sender, &audience)
    };
    let mut unread = Vec::new();
    let mut chunk = [0_u8; CHUNK_BYTES];
    while let Ok(length @ 1..) = stream.read(&mut chunk).await {
        unread.extend_from_slice(chunk.get(..length).unwrap_or_default());
        while let Some(message) = first_message(&mut unread) {
            let since = u64::try_from(opened.elapsed().as_millis()).unwrap_or(u64::MAX);
            spoke.store(since.max(1), Ordering::Relaxed);
            let heard = Heard {
                sender,
                standing: standing_now(sender, at_first, &hall),
                said: Datagram::parse(&message, Timestamp::now()),
            };
            // While the queue is full the sender waits, or drops, and nobody else does.
            if hall.heard.send(heard).await.is_err() {
                return;
            }
        }
        if unread.len() > DATAGRAM_BYTES_MAX {
            let service = &hall.service;
            tracing::warn!(%service, sender, bytes = DATAGRAM_BYTES_MAX, "a message on the notify stream is too long; it is hung up");
            return;
        }
    }
}

/// Who has ended since it connected was whose it was then.
fn standing_now(sender: Option<i32>, at_first: Standing, hall: &Hall) -> Standing {
    let audience = hall.audience.borrow().clone();
    match standing(sender, &audience) {
        Standing::Stranger if !matches!(audience, Audience::Nobody) => at_first,
        known => known,
    }
}

/// Takes the first whole message out of what was read: everything before the first empty line.
fn first_message(unread: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = unread.windows(2).position(|pair| pair == b"\n\n")?;
    let rest = unread.split_off(end + 2);
    Some(std::mem::replace(unread, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_with_an_empty_line() {
        let mut unread = b"A=1\nB=2\n\nC=3\n\n\n\nD".to_vec();
        assert_eq!(first_message(&mut unread).unwrap(), b"A=1\nB=2\n\n");
        assert_eq!(first_message(&mut unread).unwrap(), b"C=3\n\n");
        assert_eq!(first_message(&mut unread).unwrap(), b"\n\n", "nothing, said aloud");
        assert_eq!(first_message(&mut unread), None);
        assert_eq!(unread, b"D");
    }

    #[tokio::test]
    async fn the_quietest_goes_first() {
        let mut tasks = JoinSet::new();
        let mut guest = |spoke: u64| Guest {
            handle: tasks.spawn(std::future::pending()),
            spoke: Arc::new(AtomicU64::new(spoke)),
        };
        let mut guests: Vec<Guest> = [500, 0, 20, 0].map(&mut guest).into();
        let left = |guests: &[Guest]| {
            guests.iter().map(|guest| guest.spoke.load(Ordering::Relaxed)).collect::<Vec<_>>()
        };
        let service = ServiceName::parse("bot").unwrap();
        dismiss_the_quietest(&mut guests, &service);
        assert_eq!(left(&guests), [500, 20, 0], "of those that never spoke the oldest");
        dismiss_the_quietest(&mut guests, &service);
        dismiss_the_quietest(&mut guests, &service);
        assert_eq!(left(&guests), [500]);
        drop::<JoinSet<()>>(tasks);
    }
}
