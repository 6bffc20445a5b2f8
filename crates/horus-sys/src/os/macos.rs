//! macOS: kqueue, libproc, sysctl. What it lacks is said in [`survey`], with what is lost by it.

use crate::call::{check, retry};
use crate::clock;
use crate::fact::{Fact, Missing};
use crate::peer::{Credentials, Received};
use crate::pipe::{Moved, own, read_some};
use crate::poll::{Interest, MAX_EVENTS, Ready};
use crate::process::{Handle, ProcessId, Row};
use crate::reap::WaitStatus;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[path = "macos/facts.rs"]
pub(crate) mod facts;
#[path = "macos/memory.rs"]
pub(crate) mod memory;
#[path = "macos/sample.rs"]
pub(crate) mod sample;

/// Largest argument area that the kernel hands out, in bytes.
const MAX_ARGUMENTS: usize = 1 << 20;

pub(crate) fn survey() -> Vec<(&'static str, Option<&'static str>)> {
    vec![
        ("pidfd", Some("signals go by pid after a check of the start time: a window of microseconds")),
        ("pidfd_info", Some("the exit status of an adopted child is unknown")),
        ("subreaper", Some("orphans go to launchd; strays are found by session, group and environment")),
        (
            "splice",
            Some("output passes through memory: a SIGKILL of the keeper may lose one buffer of 4 KiB"),
        ),
        ("pressure", Some("the kernel tells no pressure")),
        ("datagram_credentials", Some("the sender of a datagram is not known")),
    ]
}

// ---- time -------------------------------------------------------------------------------------------------------

/// `mach_absolute_time`. The names mislead: `CLOCK_MONOTONIC` counts sleep on macOS.
pub(crate) fn monotonic() -> Duration {
    clock::read(libc::CLOCK_UPTIME_RAW)
}

/// `mach_continuous_time`: the same oscillator, sleep included. Not `CLOCK_MONOTONIC`, which follows the slewing of the
/// time of day, so that its distance to the other would grow without any sleep.
pub(crate) fn since_boot() -> Duration {
    clock::read(libc::CLOCK_MONOTONIC_RAW)
}

pub(crate) fn boot_id() -> io::Result<String> {
    let mut text = [0_u8; 64];
    let mut length = text.len();
    let name = c"kern.bootsessionuuid".as_ptr();
    // SAFETY: room for `length` bytes, and the name is NUL-terminated.
    check(unsafe {
        libc::sysctlbyname(name, text.as_mut_ptr().cast(), &raw mut length, std::ptr::null_mut(), 0)
    })?;
    let text = text.get(..length).unwrap_or_default();
    Ok(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
}

pub(crate) fn errno_place() -> *mut libc::c_int {
    // SAFETY: takes nothing and returns this thread's errno.
    unsafe { libc::__error() }
}

// ---- processes ----------------------------------------------------------------------------------------------------

fn information(pid: i32) -> io::Result<Option<libc::proc_bsdinfo>> {
    // SAFETY: an all-zero proc_bsdinfo is valid, it holds only numbers.
    let mut found: libc::proc_bsdinfo = unsafe { std::mem::zeroed() };
    let size = i32::try_from(size_of::<libc::proc_bsdinfo>()).unwrap_or(0);
    // Argument 1 asks for zombies too; older systems ignore it.
    // SAFETY: room for `size` bytes.
    let count = unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDTBSDINFO, 1, (&raw mut found).cast(), size) };
    if count == size {
        return Ok(Some(found));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        error => Err(error),
    }
}

pub(crate) fn row(pid: i32) -> io::Result<Option<Row>> {
    let Some(found) = information(pid)? else { return Ok(None) };
    // SAFETY: a plain system call; -1 for a process that is gone is no session of anybody.
    let session = unsafe { libc::getsid(pid) };
    let number = |value: u32| i32::try_from(value).unwrap_or(0);
    Ok(Some(Row {
        id: ProcessId { pid, start_time: found.pbi_start_tvsec * 1_000_000 + found.pbi_start_tvusec },
        parent: number(found.pbi_ppid),
        group: number(found.pbi_pgid),
        session,
        state: match found.pbi_status {
            libc::SZOMB => b'Z',
            libc::SSTOP => b'T',
            libc::SRUN => b'R',
            _ => b'S',
        },
        // A zombie has no task; a task ends with its last thread, so there are no living threads of a zombie.
        threads: 1,
    }))
}

pub(crate) fn all_rows() -> io::Result<Vec<Row>> {
    let mut pids = vec![0_i32; 4_096];
    let filled = loop {
        let bytes = i32::try_from(pids.len() * size_of::<i32>()).unwrap_or(i32::MAX);
        // SAFETY: room for so many bytes.
        let count = unsafe { libc::proc_listallpids(pids.as_mut_ptr().cast(), bytes) };
        let count = usize::try_from(check(count)?).unwrap_or(0);
        if count < pids.len() {
            break count;
        }
        pids.resize(pids.len() * 2, 0);
    };
    // Other users' processes may be unreadable: they are not ours.
    Ok(pids
        .into_iter()
        .take(filled)
        .filter(|pid| *pid > 0)
        .filter_map(|pid| row(pid).ok().flatten())
        .collect())
}

/// `KERN_PROCARGS2`: a count, the program's path, padding, so many arguments, then the environment.
pub(crate) fn environment(pid: i32) -> io::Result<Vec<u8>> {
    let mut name = [libc::CTL_KERN, libc::KERN_PROCARGS2, pid];
    let mut area = vec![0_u8; MAX_ARGUMENTS];
    let mut length = area.len();
    let none = std::ptr::null_mut();
    // SAFETY: a name of three numbers and room for `length` bytes.
    check(unsafe { libc::sysctl(name.as_mut_ptr(), 3, area.as_mut_ptr().cast(), &raw mut length, none, 0) })?;
    area.truncate(length);
    Ok(after_arguments(&area).unwrap_or_default())
}

pub(super) fn after_arguments(area: &[u8]) -> Option<Vec<u8>> {
    let (count, rest) = area.split_first_chunk::<4>()?;
    let path_end = rest.iter().position(|byte| *byte == 0)?;
    let rest = rest.get(path_end..)?;
    let start = rest.iter().position(|byte| *byte != 0)?;
    let mut rest = rest.get(start..)?;
    for _ in 0..i32::from_ne_bytes(*count) {
        let end = rest.iter().position(|byte| *byte == 0)?;
        rest = rest.get(end + 1..)?;
    }
    Some(rest.to_vec())
}

/// Not told by any cheap call.
pub(crate) fn has_output_on(_pid: i32, _path: &Path) -> bool {
    false
}

pub(crate) fn open_handle(process: &ProcessId) -> io::Result<Option<Option<OwnedFd>>> {
    Ok(row(process.pid)?.is_some_and(|row| row.id == *process).then_some(None))
}

pub(crate) fn send_signal(process: &ProcessId, signal: i32) -> io::Result<bool> {
    if row(process.pid)?.is_none_or(|row| row.id != *process) {
        return Ok(false);
    }
    // SAFETY: a plain system call on numbers.
    check(unsafe { libc::kill(process.pid, signal) })?;
    Ok(true)
}

pub(crate) fn status_after_reap(_descriptor: BorrowedFd<'_>) -> Option<WaitStatus> {
    None
}

pub(crate) fn name_self(_name: &str) {}

/// A process ends with its first thread's task; there is nothing to imitate.
pub(crate) fn end_this_thread() {}

pub(crate) fn become_subreaper() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Gives every signal its default action. Async-signal-safe.
pub(crate) fn default_all_signals() {
    for number in 1..32 {
        // SAFETY: a default disposition; SIGKILL and SIGSTOP just fail.
        let _ = unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}

/// Marks every descriptor from `first` up close-on-exec. Async-signal-safe.
pub(crate) fn close_on_exec_from(first: i32) {
    // SAFETY: takes nothing and cannot fail.
    let limit = unsafe { libc::getdtablesize() };
    for number in first..limit {
        // SAFETY: harmless on numbers that are not open.
        let _ = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Closes every descriptor from `first` up but two. Async-signal-safe.
pub(crate) fn close_others(first: i32, one: i32, other: i32) {
    // SAFETY: takes nothing and cannot fail.
    let limit = unsafe { libc::getdtablesize() };
    for number in (first..limit).filter(|number| *number != one && *number != other) {
        // SAFETY: harmless on numbers that are not open; nobody uses them any more in this process.
        let _ = unsafe { libc::close(number) };
    }
}

/// Nobody tells by which name a removed file can be opened.
pub(crate) fn removed_file_of(_pid: i32, _path: &Path) -> Option<PathBuf> {
    None
}

/// `proc_pidfdinfo` would tell paths, not files; the start time in the lock's note has to do.
pub(crate) fn has_open(_pid: i32, _path: &Path, _device: u64, _inode: u64) -> Fact<bool> {
    Fact::Missing(Missing::Unsupported)
}

/// There is no such score.
pub(crate) fn ordinary_oom_score() {}

/// A file without a name, close-on-exec: made and removed at once.
pub(crate) fn anonymous_file(name: &std::ffi::CStr) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let name = format!("{}-{}", name.to_string_lossy(), crate::process::own_pid());
    let path = std::env::temp_dir().join(name);
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// No open file can be executed here.
pub(crate) fn own_program() -> io::Result<(OwnedFd, std::path::PathBuf)> {
    Err(io::ErrorKind::Unsupported.into())
}

// ---- pipes --------------------------------------------------------------------------------------------------------

pub(crate) const CAN_PEEK: bool = false;

pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: room for two numbers.
    check(unsafe { libc::pipe(ends.as_mut_ptr()) })?;
    let ends = (own(ends[0]), own(ends[1]));
    for end in [&ends.0, &ends.1] {
        crate::lock::set_inheritable(std::os::fd::AsFd::as_fd(end), false)?;
    }
    Ok(ends)
}

pub(crate) fn move_to_file(
    pipe: BorrowedFd<'_>,
    file: &File,
    offset: &mut u64,
    limit: usize,
    buffer: &mut [u8],
) -> io::Result<Moved> {
    let room = limit.min(buffer.len());
    let buffer = buffer.get_mut(..room).unwrap_or_default();
    let Moved::Bytes(count) = read_some(pipe, buffer)? else { return Ok(Moved::Nothing) };
    let bytes = buffer.get(..count).unwrap_or_default();
    file.write_all_at(bytes, *offset)?;
    *offset += u64::try_from(count).unwrap_or(0);
    Ok(Moved::Bytes(count))
}

pub(crate) fn discard(
    pipe: BorrowedFd<'_>,
    _sink: &File,
    limit: usize,
    buffer: &mut [u8],
) -> io::Result<Moved> {
    let room = limit.min(buffer.len());
    read_some(pipe, buffer.get_mut(..room).unwrap_or_default())
}

pub(crate) fn duplicate(_from: BorrowedFd<'_>, _to: BorrowedFd<'_>, _limit: usize) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

// ---- waiting ------------------------------------------------------------------------------------------------------

#[derive(Debug)]
pub(crate) struct Poller {
    queue: OwnedFd,
}

fn event(ident: usize, filter: i16, flags: u16, notes: u32, token: u64) -> libc::kevent {
    libc::kevent { ident, filter, flags, fflags: notes, data: 0, udata: token as *mut libc::c_void }
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: a plain system call.
        let queue = own(check(unsafe { libc::kqueue() })?);
        crate::lock::set_inheritable(std::os::fd::AsFd::as_fd(&queue), false)?;
        Ok(Self { queue })
    }

    fn submit(&self, change: &libc::kevent) -> io::Result<()> {
        let none = std::ptr::null_mut();
        // SAFETY: one valid change and no room for events.
        retry(|| unsafe { libc::kevent(self.queue.as_raw_fd(), change, 1, none, 0, std::ptr::null()) })?;
        Ok(())
    }

    fn set(&self, number: i32, filter: i16, flags: u16, token: u64) -> io::Result<()> {
        self.submit(&event(usize::try_from(number).unwrap_or(0), filter, flags, 0, token))
    }

    pub(crate) fn add(&self, descriptor: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.set(descriptor.as_raw_fd(), libc::EVFILT_READ, libc::EV_ADD, token)?;
        if interest == Interest::ReadWrite {
            self.set(descriptor.as_raw_fd(), libc::EVFILT_WRITE, libc::EV_ADD, token)?;
        }
        Ok(())
    }

    pub(crate) fn change(
        &self,
        descriptor: BorrowedFd<'_>,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        self.add(descriptor, token, interest)?;
        if interest == Interest::Read {
            self.forget_writing(descriptor)?;
        }
        Ok(())
    }

    pub(crate) fn remove(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        self.set(descriptor.as_raw_fd(), libc::EVFILT_READ, libc::EV_DELETE, 0)?;
        self.forget_writing(descriptor)
    }

    fn forget_writing(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        match self.set(descriptor.as_raw_fd(), libc::EVFILT_WRITE, libc::EV_DELETE, 0) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            result => result,
        }
    }

    /// Edge-triggered by nature: it must be registered before the process is checked, or an end in between is missed.
    pub(crate) fn watch(&self, process: &Handle, token: u64) -> io::Result<()> {
        let id = process.id();
        let ident = usize::try_from(id.pid).unwrap_or(0);
        match self.submit(&event(
            ident,
            libc::EVFILT_PROC,
            libc::EV_ADD | libc::EV_ONESHOT,
            libc::NOTE_EXIT,
            token,
        )) {
            // It is a zombie already (or gone): say so by an event of our own.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return self.announce(ident, token),
            result => result?,
        }
        if crate::process::is_alive(&id) { Ok(()) } else { self.announce(ident, token) }
    }

    fn announce(&self, ident: usize, token: u64) -> io::Result<()> {
        let flags = libc::EV_ADD | libc::EV_ONESHOT;
        self.submit(&event(ident, libc::EVFILT_USER, flags, 0, token))?;
        self.submit(&event(ident, libc::EVFILT_USER, 0, libc::NOTE_TRIGGER, token))
    }

    pub(crate) fn unwatch(&self, process: &Handle) -> io::Result<()> {
        let ident = usize::try_from(process.id().pid).unwrap_or(0);
        match self.submit(&event(ident, libc::EVFILT_PROC, libc::EV_DELETE, 0, 0)) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(()),
            result => result,
        }
    }

    pub(crate) fn wait(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        let mut events = [event(0, 0, 0, 0, 0); MAX_EVENTS];
        let room = i32::try_from(MAX_EVENTS).unwrap_or(i32::MAX);
        let limit = timeout.map(|timeout| libc::timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let queue = self.queue.as_raw_fd();
        // SAFETY: no changes, room for so many events, and a null or valid timeout.
        let count =
            check(unsafe { libc::kevent(queue, std::ptr::null(), 0, events.as_mut_ptr(), room, limit) })?;
        ready.extend(events.iter().take(usize::try_from(count).unwrap_or(0)).map(|event| Ready {
            token: event.udata as u64,
            readable: event.filter != libc::EVFILT_WRITE,
            writable: event.filter == libc::EVFILT_WRITE,
            hangup: event.flags & (libc::EV_EOF | libc::EV_ERROR) != 0,
        }));
        Ok(())
    }
}

// ---- peers --------------------------------------------------------------------------------------------------------

pub(crate) fn peer_credentials(stream: &UnixStream) -> io::Result<Credentials> {
    let (mut uid, mut gid) = (u32::MAX, u32::MAX);
    let socket = stream.as_raw_fd();
    // SAFETY: two valid places.
    check(unsafe { libc::getpeereid(socket, &raw mut uid, &raw mut gid) })?;
    let mut pid: libc::pid_t = 0;
    let mut length = libc::socklen_t::try_from(size_of::<libc::pid_t>()).unwrap_or(0);
    let place = (&raw mut pid).cast();
    // SAFETY: room for a pid, and `length` says so. A failure leaves 0, which means "not told".
    let _ = unsafe { libc::getsockopt(socket, libc::SOL_LOCAL, libc::LOCAL_PEERPID, place, &raw mut length) };
    Ok(Credentials { pid, uid, gid })
}

pub(crate) fn enable_credentials(_socket: &UnixDatagram) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn recv_with_credentials(socket: &UnixDatagram, buffer: &mut [u8]) -> io::Result<Received> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: an all-zero msghdr is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    let socket = socket.as_raw_fd();
    // SAFETY: all pointers are valid for the call; without room for control messages passed descriptors are closed.
    let length = retry(|| unsafe { libc::recvmsg(socket, &raw mut message, 0) })?;
    Ok(Received {
        length: length.unsigned_abs(),
        truncated: message.msg_flags & libc::MSG_TRUNC != 0,
        sender: Fact::Missing(Missing::Unsupported),
    })
}
