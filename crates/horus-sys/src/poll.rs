//! Waiting for many things at once in one thread: epoll on Linux, kqueue on macOS, level-triggered. And the classic
//! self-pipe, which turns signals into bytes that such a loop can wait for.

use crate::call::check;
use crate::pipe::{self, Moved};
use crate::process::Handle;
use crate::signal::Signal;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// Most events returned by one wait; the rest comes with the next.
pub const MAX_EVENTS: usize = 256;

/// One thing that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The number given when it was added.
    pub token: u64,
    /// Something can be read, or (a watched process) it ended.
    pub readable: bool,
    /// Something can be written.
    pub writable: bool,
    /// The other side closed, or an error waits.
    pub hangup: bool,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Data to read.
    Read,
    /// Data to read, or room to write.
    ReadWrite,
}

/// The set of things waited for.
#[derive(Debug)]
pub struct Poller(crate::os::Poller);

impl Poller {
    /// An empty set.
    pub fn new() -> io::Result<Self> {
        crate::os::Poller::new().map(Self)
    }

    /// Adds a descriptor. It leaves the set by [`Poller::remove`] or when its last copy is closed.
    pub fn add(&self, descriptor: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.0.add(descriptor, token, interest)
    }

    /// Changes what a descriptor is waited for.
    pub fn change(&self, descriptor: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.0.change(descriptor, token, interest)
    }

    /// Takes a descriptor out.
    pub fn remove(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        self.0.remove(descriptor)
    }

    /// Becomes readable when the process ends; at once if it has ended. Errors with `ESRCH` if it is not there.
    pub fn watch(&self, process: &Handle, token: u64) -> io::Result<()> {
        self.0.watch(process, token)
    }

    /// Forgets a watched process.
    pub fn unwatch(&self, process: &Handle) -> io::Result<()> {
        self.0.unwatch(process)
    }

    /// Waits until something is ready or the time is over (`None`: for ever), and puts it into `ready`. A signal ends
    /// the wait early, with nothing ready.
    pub fn wait(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        ready.clear();
        match self.0.wait(ready, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }
}

/// Milliseconds for a system call, rounded up so that a wait never ends before its deadline.
pub(crate) fn milliseconds(timeout: Option<Duration>) -> i32 {
    timeout.map_or(-1, |timeout| i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX))
}

static WAKE: AtomicI32 = AtomicI32::new(-1);

/// Signals as bytes in a pipe. One per process, for its whole life.
#[derive(Debug)]
pub struct SignalPipe {
    read: OwnedFd,
}

extern "C" fn on_signal(number: libc::c_int) {
    let byte = u8::try_from(number).unwrap_or(0);
    let pipe = WAKE.load(Ordering::Relaxed);
    let errno = crate::os::errno_place();
    // SAFETY: the place of errno is valid for this thread's life.
    let saved = unsafe { *errno };
    // SAFETY: write is async-signal-safe; a full pipe means that a wake-up is due anyway.
    let _ = unsafe { libc::write(pipe, (&raw const byte).cast(), 1) };
    // SAFETY: as above; the interrupted code must not see our errno.
    unsafe { *errno = saved };
}

impl SignalPipe {
    /// From now on each of these signals puts its number into the pipe. `SIGCHLD` comes for ended children only, not
    /// for stopped ones. Errors if there is such a pipe already.
    pub fn listen(signals: &[Signal]) -> io::Result<Self> {
        let (read, write) = pipe::anonymous(true)?;
        pipe::set_nonblocking(write.as_fd())?;
        // The write end is never closed: the handler may use it at any time.
        let number = std::os::fd::IntoRawFd::into_raw_fd(write);
        if WAKE.compare_exchange(-1, number, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            drop(pipe::own(number));
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "this process has a signal pipe"));
        }
        for signal in signals {
            // SAFETY: an all-zero sigaction is valid.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            action.sa_sigaction = on_signal as *const () as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART | libc::SA_NOCLDSTOP;
            // SAFETY: the handler only calls what is async-signal-safe and keeps errno.
            check(unsafe { libc::sigaction(signal.number(), &raw const action, std::ptr::null_mut()) })?;
        }
        Ok(Self { read })
    }

    /// The signals since the last call, each once.
    pub fn take(&self) -> io::Result<Vec<Signal>> {
        let mut signals = Vec::new();
        let mut buffer = [0; 256];
        while let Moved::Bytes(count) = pipe::read_some(self.read.as_fd(), &mut buffer)? {
            for signal in buffer.iter().take(count).filter_map(|byte| Signal::new(i32::from(*byte))) {
                if !signals.contains(&signal) {
                    signals.push(signal);
                }
            }
        }
        Ok(signals)
    }
}

impl AsFd for SignalPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

/// Waits until one descriptor is readable (`true`) or the time is over. For code that owns no loop.
pub fn wait_readable(descriptor: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    let mut entry = libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd.
    match check(unsafe { libc::poll(&raw mut entry, 1, milliseconds(Some(timeout))) }) {
        Ok(count) => Ok(count > 0),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}
