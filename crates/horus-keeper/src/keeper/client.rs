//! The one client: bytes in, lines out; events in, bytes out. Never waits, never grows without bound.

use crate::protocol::{Event, MAX_LINE, MAX_OUTGOING};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Most bytes taken from the client in one turn of the loop.
const READ_A_TURN: usize = 64 * 1024;
/// Buffers larger than this are given back when empty.
const KEEP_CAPACITY: usize = 16 * 1024;

/// Why a client was dropped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("it closed the connection")]
    Closed,
    #[error("it does not read: {0} bytes wait for it")]
    Slow(usize),
    #[error("it sent a line longer than {MAX_LINE} bytes")]
    LongLine,
    #[error("its connection failed")]
    Io(#[from] io::Error),
}

#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    /// The process that connected; never signalled by us.
    pub(crate) pid: i32,
    incoming: Vec<u8>,
    /// Up to here `incoming` has been handed out as lines.
    taken: usize,
    /// Up to here it was searched for a newline.
    searched: usize,
    outgoing: Vec<u8>,
    sent: usize,
}

impl Client {
    pub(crate) fn new(stream: UnixStream, pid: i32) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, pid, incoming: Vec::new(), taken: 0, searched: 0, outgoing: Vec::new(), sent: 0 })
    }

    /// Takes what has come, up to a limit; nothing while lines of the last time still wait to be carried out, so that a
    /// client that floods waits in its own socket buffer.
    pub(crate) fn receive(&mut self) -> Result<(), ClientError> {
        if self.incoming.get(self.searched..).is_some_and(|rest| rest.contains(&b'\n')) {
            return Ok(());
        }
        let before = self.incoming.len();
        let mut chunk = [0; 8 * 1024];
        while self.incoming.len() < before + READ_A_TURN {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(count) => self.incoming.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The next whole line, newline left out.
    pub(crate) fn next_line(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let unseen = self.incoming.get(self.searched..).unwrap_or_default();
        if let Some(at) = unseen.iter().position(|byte| *byte == b'\n') {
            let end = self.searched + at;
            let line = self.incoming.get(self.taken..end).unwrap_or_default().to_vec();
            self.taken = end + 1;
            self.searched = self.taken;
            return Ok(Some(line));
        }
        self.incoming.drain(..self.taken);
        self.taken = 0;
        self.searched = self.incoming.len();
        if self.incoming.len() >= MAX_LINE {
            return Err(ClientError::LongLine);
        }
        if self.incoming.is_empty() && self.incoming.capacity() > KEEP_CAPACITY {
            self.incoming = Vec::new();
        }
        Ok(None)
    }

    /// Queues an event and sends what the socket takes.
    pub(crate) fn send(&mut self, event: &Event) -> Result<(), ClientError> {
        serde_json::to_writer(&mut self.outgoing, event).map_err(io::Error::from)?;
        self.outgoing.push(b'\n');
        self.flush()
    }

    /// Sends what the socket takes. Errors when too much waits.
    pub(crate) fn flush(&mut self) -> Result<(), ClientError> {
        while let Some(rest) = self.outgoing.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let waiting = self.outgoing.len() - self.sent;
                    return if waiting > MAX_OUTGOING { Err(ClientError::Slow(waiting)) } else { Ok(()) };
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.outgoing.clear();
        self.outgoing.shrink_to(KEEP_CAPACITY);
        self.sent = 0;
        Ok(())
    }

    /// Whether something waits to be sent.
    pub(crate) fn is_behind(&self) -> bool {
        !self.outgoing.is_empty()
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
