//! Named pipes, and moving their content without ever holding it in our memory.
//!
//! ```text
//!   child --write--> FIFO --splice--> log file        bytes are in the kernel or in the file, never only in us
//!                      \---tee--> scratch --read-->   a copy to look at; the original stays in the FIFO
//! ```
//!
//! Everybody opens the FIFO read-write: nobody ever sees end-of-file or a broken pipe, whoever dies.

use crate::call::{self, check, retry};
use crate::process::{self, ProcessId};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// What one attempt to move bytes came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes, at least one.
    Bytes(usize),
    /// The pipe is empty.
    Nothing,
}

/// Makes the FIFO at `path` (0600) unless it is there. Something else of that name is an error.
pub fn make_fifo(path: &Path) -> io::Result<()> {
    let name = call::path(path)?;
    // SAFETY: `name` is a NUL-terminated path.
    match check(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if std::fs::symlink_metadata(path)?.file_type().is_fifo() {
                Ok(())
            } else {
                Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something that is not a FIFO"))
            }
        }
        Err(error) => Err(error),
    }
}

/// Opens a FIFO to read from it and to keep its content alive. Non-blocking.
pub fn open_reader(path: &Path) -> io::Result<OwnedFd> {
    open_fifo(path, libc::O_NONBLOCK)
}

/// Opens the FIFO that a living process has open and that was at `path` until somebody removed it. `None`: it has no such thing, or the
/// system does not show it (macOS).
///
/// # Errors
/// If it is there and cannot be opened.
pub fn reader_of(process: &ProcessId, path: &Path) -> io::Result<Option<OwnedFd>> {
    let Some(shown) = crate::os::removed_file_of(process.pid, path) else { return Ok(None) };
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(shown)?;
    let is_it = file.metadata()?.file_type().is_fifo() && process::is_alive(process);
    Ok(is_it.then(|| file.into()))
}

/// Opens a FIFO as a child's output: its own open file description, so that nobody's flags leak into another.
pub fn open_writer(path: &Path) -> io::Result<OwnedFd> {
    open_fifo(path, 0)
}

fn open_fifo(path: &Path, flags: i32) -> io::Result<OwnedFd> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags | libc::O_NOFOLLOW).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        Ok(file.into())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a FIFO"))
    }
}

/// Gives a FIFO to the user who will write to it, so that re-opening `/dev/stdout` works there.
pub fn give_to(descriptor: BorrowedFd<'_>, uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: the descriptor is open for the duration of the borrow.
    check(unsafe { libc::fchown(descriptor.as_raw_fd(), uid, gid) })?;
    Ok(())
}

/// An anonymous pipe, close-on-exec; `(read end, write end)`, the read end non-blocking if asked.
pub fn anonymous(nonblocking_read: bool) -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = crate::os::pipe()?;
    if nonblocking_read {
        set_nonblocking(read.as_fd())?;
    }
    Ok((read, write))
}

/// Makes reads and writes return instead of waiting.
pub fn set_nonblocking(descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let number = descriptor.as_raw_fd();
    // SAFETY: the descriptor is open for the duration of the borrow.
    let flags = check(unsafe { libc::fcntl(number, libc::F_GETFL) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(number, libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    Ok(())
}

/// How many bytes wait in a pipe.
pub fn waiting(pipe: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD stores an int.
    check(unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Moves up to `limit` bytes from the pipe into `file` at `offset`, which advances. On Linux the bytes stay in the kernel;
/// where that is not possible they pass through `buffer`, and a SIGKILL between the read and the write loses at most
/// one buffer.
pub fn move_to_file(
    pipe: BorrowedFd<'_>,
    file: &File,
    offset: &mut u64,
    limit: usize,
    buffer: &mut [u8],
) -> io::Result<Moved> {
    crate::os::move_to_file(pipe, file, offset, limit, buffer)
}

/// Throws up to `limit` bytes of the pipe away.
pub fn discard(pipe: BorrowedFd<'_>, sink: &File, limit: usize, buffer: &mut [u8]) -> io::Result<Moved> {
    crate::os::discard(pipe, sink, limit, buffer)
}

/// A second, private pipe used to look at the content of a FIFO without taking it.
#[derive(Debug)]
pub struct Peeker {
    ends: Option<(OwnedFd, OwnedFd)>,
}

impl Peeker {
    /// One is enough for any number of pipes. Costs two descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self { ends: if crate::os::CAN_PEEK { Some(anonymous(true)?) } else { None } })
    }

    /// Copies what waits in the pipe, up to `buffer`, and leaves it there. `None`: this system cannot peek.
    pub fn peek<'b>(&mut self, pipe: BorrowedFd<'_>, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        let Some((read, write)) = &self.ends else { return Ok(None) };
        let copied = crate::os::duplicate(pipe, write.as_fd(), buffer.len())?;
        let mut filled = 0;
        while filled < copied {
            let Some(rest) = buffer.get_mut(filled..copied) else { break };
            match read_some(read.as_fd(), rest)? {
                Moved::Bytes(count) => filled += count,
                Moved::Nothing => break,
            }
        }
        Ok(buffer.get(..filled))
    }
}

/// One read of a non-blocking descriptor. End-of-file is `Nothing` too.
pub fn read_some(from: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Moved> {
    // SAFETY: the buffer is valid for writes of its length.
    match retry(|| unsafe { libc::read(from.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) }) {
        Ok(0) => Ok(Moved::Nothing),
        Ok(count) => Ok(Moved::Bytes(count.unsigned_abs())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Moved::Nothing),
        Err(error) => Err(error),
    }
}

/// One write; how many bytes were taken.
pub fn write_some(to: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes are valid for reads of their length.
    let count = retry(|| unsafe { libc::write(to.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })?;
    Ok(count.unsigned_abs())
}

/// Adopts a raw descriptor number that the caller owns.
pub(crate) fn own(number: i32) -> OwnedFd {
    // SAFETY: only called with numbers that the kernel has just returned to us.
    unsafe { OwnedFd::from_raw_fd(number) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn bytes_move_to_the_offset_and_peeking_takes_nothing() {
        let directory = std::env::temp_dir().join(format!("horus-sys-pipe-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("out");
        make_fifo(&path).unwrap();
        make_fifo(&path).unwrap();
        let reader = open_reader(&path).unwrap();
        let writer = open_writer(&path).unwrap();
        let log = directory.join("log");
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&log).unwrap();
        let mut buffer = [0; 64];
        let mut offset = 0;
        let moved = move_to_file(reader.as_fd(), &file, &mut offset, 100, &mut buffer).unwrap();
        assert_eq!(moved, Moved::Nothing);

        assert_eq!(write_some(writer.as_fd(), b"one\ntwo\n").unwrap(), 8);
        assert_eq!(waiting(reader.as_fd()).unwrap(), 8);
        if let Some(seen) = Peeker::new().unwrap().peek(reader.as_fd(), &mut [0; 5]).unwrap() {
            assert_eq!(seen, b"one\nt");
        }
        assert_eq!(waiting(reader.as_fd()).unwrap(), 8);
        let moved = move_to_file(reader.as_fd(), &file, &mut offset, 4, &mut buffer).unwrap();
        assert_eq!((moved, offset), (Moved::Bytes(4), 4));
        let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
        assert_eq!(discard(reader.as_fd(), &null, 100, &mut buffer).unwrap(), Moved::Bytes(4));
        let mut text = String::new();
        File::open(&log).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\n");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
