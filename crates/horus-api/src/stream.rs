//! Answers that grow: a writer on our side, a body on hyper's, a few lines of room between them.
//!
//! A reader that stops reading fills the room. The writer waits for [`Limits::follower_stall`], then says so in a
//! last line, for which a place was kept free from the beginning. A reader that wakes up learns what happened; one that
//! does not loses its connection a little later ([`crate::stall`]). Rejected: dropping lines from the middle (a reader
//! would not know what it missed), and unbounded room.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::server::Limits;

/// Lines between the writer and the socket.
const ROOM_LINES: usize = 64;

/// The connection that a request came by.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    /// Cancelled when Horus is ending.
    pub(crate) closing: CancellationToken,
    /// The bounds in force.
    pub(crate) limits: Limits,
}

/// The body of a growing answer.
struct Growing {
    lines: mpsc::Receiver<Bytes>,
}

impl hyper::body::Body for Growing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.lines.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

/// Why nothing more can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwritable {
    /// The reader went away.
    Gone,
    /// The reader does not read.
    Stalled,
}

/// The writing end of a growing answer.
pub(crate) struct LineWriter {
    lines: mpsc::Sender<Bytes>,
    last: Option<mpsc::OwnedPermit<Bytes>>,
    connection: Connection,
    _place: Option<OwnedSemaphorePermit>,
}

impl LineWriter {
    /// A writer and the body that it fills. `place` is a follower's place among [`Limits::followers_max`]; a request
    /// that is carried out needs none.
    pub(crate) fn new(connection: Connection, place: Option<OwnedSemaphorePermit>) -> (Self, Body) {
        let (lines, receiver) = mpsc::channel(ROOM_LINES + 1);
        // A new channel has room; `None` cannot happen.
        let last = lines.clone().try_reserve_owned().ok();
        let body = Body::new(Growing { lines: receiver });
        (Self { lines, last, connection, _place: place }, body)
    }

    /// Writes, waiting for room as long as a reader may stall.
    pub(crate) async fn write(&self, line: Bytes) -> Result<(), Unwritable> {
        match timeout(self.connection.limits.follower_stall, self.lines.send(line)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_closed)) => Err(Unwritable::Gone),
            Err(_elapsed) => Err(Unwritable::Stalled),
        }
    }

    /// The bounds in force.
    pub(crate) fn limits(&self) -> &Limits {
        &self.connection.limits
    }

    /// Returns when the reader has gone away.
    pub(crate) async fn gone(&self) {
        self.lines.closed().await;
    }

    /// Returns when Horus is ending.
    pub(crate) async fn closing(&self) {
        self.connection.closing.cancelled().await;
    }

    /// Writes a last line, for which there is always room, and ends the answer.
    pub(crate) fn finish(self, last_line: Bytes) {
        if let Some(last) = self.last {
            last.send(last_line);
        }
    }
}
