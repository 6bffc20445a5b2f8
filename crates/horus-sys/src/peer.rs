//! Who is at the other end of a unix socket, as the kernel vouches for it.

use crate::call::retry;
use crate::fact::Fact;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

/// A process and its user, as the kernel saw them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// Who connected or sent; 0 if the system does not say.
    pub pid: i32,
    /// Its effective user id.
    pub uid: u32,
    /// Its effective group id.
    pub gid: u32,
}

/// A datagram and its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// How many bytes of the buffer were filled.
    pub length: usize,
    /// Whether the datagram was longer than the buffer.
    pub truncated: bool,
    /// Who sent it.
    pub sender: Fact<Credentials>,
}

/// Who connected to (or listens at) the other end.
pub fn peer_credentials(stream: &UnixStream) -> io::Result<Credentials> {
    crate::os::peer_credentials(stream)
}

/// Asks the kernel to attach the sender's credentials to each datagram. Call it before the socket's name is known to
/// anybody: earlier datagrams carry none. Unsupported on macOS.
pub fn enable_credentials(socket: &UnixDatagram) -> io::Result<()> {
    crate::os::enable_credentials(socket)
}

/// Receives one datagram with its sender. Blocks or not as the socket does.
pub fn recv_with_credentials(socket: &UnixDatagram, buffer: &mut [u8]) -> io::Result<Received> {
    crate::os::recv_with_credentials(socket, buffer)
}

/// Reads one line, newline left out, and not one byte more: whatever follows stays in the socket for the caller's
/// own reader. A line longer than `max_line` is [`io::ErrorKind::FileTooLarge`]; silence until the deadline is
/// [`io::ErrorKind::TimedOut`]; the end of the stream is [`io::ErrorKind::UnexpectedEof`].
pub fn read_line_exactly(stream: &UnixStream, max_line: usize, timeout: Duration) -> io::Result<Vec<u8>> {
    const WINDOW: usize = 16 * 1024;
    let deadline = crate::clock::monotonic() + timeout;
    let mut line = Vec::new();
    let mut buffer = vec![0; WINDOW];
    loop {
        let left = deadline.saturating_sub(crate::clock::monotonic());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if !crate::poll::wait_readable(std::os::fd::AsFd::as_fd(stream), left)? {
            continue;
        }
        let seen = match receive(stream, &mut buffer, libc::MSG_PEEK) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(seen) => seen,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let newline = buffer.get(..seen).and_then(|seen| seen.iter().position(|byte| *byte == b'\n'));
        let take = newline.map_or(seen, |at| at + 1);
        let taken = receive(stream, buffer.get_mut(..take).unwrap_or_default(), 0)?;
        line.extend_from_slice(buffer.get(..taken).unwrap_or_default());
        if line.len() > max_line {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("a line longer than {max_line} bytes"),
            ));
        }
        if newline.is_some() && taken == take {
            line.pop();
            return Ok(line);
        }
    }
}

fn receive(stream: &UnixStream, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
    let socket = stream.as_raw_fd();
    let flags = flags | libc::MSG_DONTWAIT;
    // SAFETY: the buffer is valid for writes of its length.
    let count = retry(|| unsafe { libc::recv(socket, buffer.as_mut_ptr().cast(), buffer.len(), flags) })?;
    Ok(count.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_line_is_taken_and_the_next_bytes_are_left() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let long = "x".repeat(40_000);
        let writer = std::thread::spawn(move || {
            theirs.write_all(format!("{long}\nrest").as_bytes()).unwrap();
        });
        let line = read_line_exactly(&ours, 50_000, Duration::from_secs(20)).unwrap();
        assert_eq!(line.len(), 40_000);
        writer.join().unwrap();
        let mut rest = String::new();
        ours.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "rest");
    }

    #[test]
    fn silence_floods_and_the_end_are_told_apart() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let kind = |max, ms| read_line_exactly(&ours, max, Duration::from_millis(ms)).unwrap_err().kind();
        assert_eq!(kind(10, 10), io::ErrorKind::TimedOut);
        theirs.write_all(&[b'x'; 100]).unwrap();
        assert_eq!(kind(10, 20_000), io::ErrorKind::FileTooLarge);
        drop(theirs);
        assert_eq!(kind(10, 20_000), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn the_peer_is_us() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = peer_credentials(&ours).unwrap();
        assert_eq!((peer.pid, peer.uid), (crate::process::own_pid(), crate::user::effective_uid()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_datagram_names_its_sender_and_says_when_it_was_cut() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        enable_credentials(&ours).unwrap();
        theirs.send(b"WATCHDOG=1").unwrap();
        let mut buffer = [0; 4];
        let received = recv_with_credentials(&ours, &mut buffer).unwrap();
        assert_eq!((received.length, received.truncated), (4, true));
        assert_eq!(received.sender.known().unwrap().pid, crate::process::own_pid());
        assert_eq!(&buffer, b"WATC");
    }
}
