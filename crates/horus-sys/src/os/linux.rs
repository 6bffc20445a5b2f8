//! Linux: pidfd, /proc, epoll, splice.

use crate::call::{check, retry};
use crate::clock;
use crate::fact::Fact;
use crate::pipe::{Moved, own, read_some};
use crate::poll::{Interest, MAX_EVENTS, Ready, milliseconds};
use crate::process::{Handle, ProcessId, Row};
use crate::reap::WaitStatus;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[path = "linux/facts.rs"]
pub(crate) mod facts;
#[path = "linux/memory.rs"]
pub(crate) mod memory;
#[path = "linux/peer.rs"]
mod peer;
#[path = "linux/sample.rs"]
pub(crate) mod sample;
#[path = "linux/sockets.rs"]
mod sockets;

pub(crate) use peer::{enable_credentials, peer_credentials, recv_with_credentials};

/// Longest environment that is searched for a marker, in bytes.
const MAX_ENVIRONMENT: u64 = 256 * 1024;

pub(crate) fn survey() -> Vec<(&'static str, Option<&'static str>)> {
    let me = crate::process::own_pid();
    let pidfd = pidfd_open(me);
    let exit_info = pidfd.as_ref().is_ok_and(|pidfd| get_info(std::os::fd::AsFd::as_fd(pidfd), 0).is_ok());
    let missing = |present: bool, loss| (!present).then_some(loss);
    vec![
        ("pidfd", missing(pidfd.is_ok(), "the kernel is older than 5.3: exits cannot be watched")),
        (
            "pidfd_info",
            missing(exit_info, "the exit status of an adopted child may stay unknown (Linux 6.15)"),
        ),
        ("subreaper", None),
        ("splice", None),
        ("pressure", missing(Path::new("/proc/pressure/cpu").exists(), "the kernel tells no pressure (PSI)")),
    ]
}

// ---- time -------------------------------------------------------------------------------------------------------

pub(crate) fn monotonic() -> Duration {
    clock::read(libc::CLOCK_MONOTONIC)
}

pub(crate) fn since_boot() -> Duration {
    clock::read(libc::CLOCK_BOOTTIME)
}

pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

pub(crate) fn errno_place() -> *mut libc::c_int {
    // SAFETY: takes nothing and returns this thread's errno.
    unsafe { libc::__errno_location() }
}

// ---- processes ----------------------------------------------------------------------------------------------------

pub(crate) fn row(pid: i32) -> io::Result<Option<Row>> {
    read_row(&format!("/proc/{pid}/stat"))
}

pub(crate) fn all_rows() -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut path = String::with_capacity(32);
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        path.clear();
        path.push_str("/proc/");
        path.push_str(pid);
        path.push_str("/stat");
        // One that vanished meanwhile is no error; one that cannot be read (hidepid) is not ours either.
        if let Ok(Some(row)) = read_row(&path) {
            rows.push(row);
        }
    }
    Ok(rows)
}

fn read_row(path: &str) -> io::Result<Option<Row>> {
    let mut buffer = [0; 1_024];
    let read = File::open(path).and_then(|file| file.read_at(&mut buffer, 0));
    match read {
        Ok(length) => parse_row(buffer.get(..length).unwrap_or_default())
            .map(Some)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("cannot understand {path}"))),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// `pid (name) state ppid pgrp session ...`; the name may hold spaces and parentheses, so count from the last one.
fn parse_row(line: &[u8]) -> Option<Row> {
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(line.get(close + 2..)?).ok()?;
    let pid = std::str::from_utf8(line.split(|byte| *byte == b' ').next()?).ok()?.parse().ok()?;
    let mut fields = text.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    let threads = fields.nth(13)?.parse().ok()?; // field 20
    let start_time = fields.nth(1)?.parse().ok()?; // field 22
    Some(Row { id: ProcessId { pid, start_time }, parent, group, session, state, threads })
}

pub(crate) fn environment(pid: i32) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(format!("/proc/{pid}/environ"))?.take(MAX_ENVIRONMENT).read_to_end(&mut content)?;
    Ok(content)
}

pub(crate) fn has_output_on(pid: i32, path: &Path) -> bool {
    ["1", "2"]
        .iter()
        .any(|number| fs::read_link(format!("/proc/{pid}/fd/{number}")).is_ok_and(|link| link == path))
}

pub(crate) fn has_open(pid: i32, path: &Path, device: u64, inode: u64) -> Fact<bool> {
    let entries = match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(entries) => entries,
        Err(error) => return Fact::from(Err(error)),
    };
    // By name first: to look at any other file of it could hang us on the same dead disk.
    let named = entries.flatten().map(|entry| entry.path());
    let mut named = named.filter(|entry| fs::read_link(entry).is_ok_and(|link| link == path));
    let is_it = |entry| fs::metadata(entry).is_ok_and(|file| (file.dev(), file.ino()) == (device, inode));
    Fact::Known(named.any(is_it))
}

/// Where a file can be opened that the process has open and that was at `path` until it was removed.
pub(crate) fn removed_file_of(pid: i32, path: &Path) -> Option<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(" (deleted)");
    let shown = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().map(|entry| entry.path());
    shown.into_iter().find(|entry| fs::read_link(entry).is_ok_and(|link| link.as_os_str() == name))
}

fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call; the descriptor is close-on-exec.
    let number = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    Ok(own(i32::try_from(number).unwrap_or(-1)))
}

/// Opens first and compares then: whoever holds the pid after the opening is whom the descriptor means.
fn pinned(process: &ProcessId) -> io::Result<Option<OwnedFd>> {
    let descriptor = match pidfd_open(process.pid) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        result => result?,
    };
    Ok(row(process.pid)?.is_some_and(|row| row.id == *process).then_some(descriptor))
}

pub(crate) fn open_handle(process: &ProcessId) -> io::Result<Option<Option<OwnedFd>>> {
    Ok(pinned(process)?.map(Some))
}

pub(crate) fn send_signal(process: &ProcessId, signal: i32) -> io::Result<bool> {
    let Some(descriptor) = pinned(process)? else { return Ok(false) };
    let number = descriptor.as_raw_fd();
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: an open pidfd and no siginfo.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, number, signal, none, 0) })?;
    Ok(true)
}

/// `struct pidfd_info` of Linux 6.13, as far as it is used here (64 bytes, its first version).
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup_id: u64,
    pid: u32,
    thread_group: u32,
    parent: u32,
    ids: [u32; 8],
    exit_code: i32,
}

const PIDFD_GET_INFO: libc::c_ulong = 0xC040_FF0B;
const PIDFD_INFO_EXIT: u64 = 8;

fn get_info(pidfd: BorrowedFd<'_>, mask: u64) -> io::Result<PidfdInfo> {
    const { assert!(size_of::<PidfdInfo>() == 64, "the size is part of the ioctl's number") };
    let mut info = PidfdInfo { mask, ..PidfdInfo::default() };
    // SAFETY: the ioctl fills at most the 64 bytes that its number says.
    check(unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) })?;
    Ok(info)
}

pub(crate) fn status_after_reap(pidfd: BorrowedFd<'_>) -> Option<WaitStatus> {
    let info = get_info(pidfd, PIDFD_INFO_EXIT).ok()?;
    (info.mask & PIDFD_INFO_EXIT != 0).then(|| WaitStatus::from_raw(info.exit_code))
}

pub(crate) fn name_self(name: &str) {
    if let Ok(name) = std::ffi::CString::new(name) {
        // SAFETY: a NUL-terminated text; the kernel copies 16 bytes at most.
        let _ = unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    }
}

pub(crate) fn end_this_thread() {
    // SAFETY: the exit system call ends one thread; its stack is simply left.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

pub(crate) fn become_subreaper() -> io::Result<()> {
    // SAFETY: a plain system call on numbers.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })?;
    Ok(())
}

/// Gives every signal its default action. Asked of the kernel directly, because libc keeps signals 32 and 33 to itself
/// and an ancestor may have ignored them. Async-signal-safe.
pub(crate) fn default_all_signals() {
    // The kernel's own sigaction: handler (SIG_DFL is 0), flags, restorer and mask, all zero.
    let default = [0_u64; 4];
    for number in 1..=64 {
        let none = std::ptr::null_mut::<u64>();
        // SAFETY: a valid kernel sigaction with a mask of 8 bytes; SIGKILL and SIGSTOP just fail.
        let _ = unsafe { libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), none, 8) };
    }
}

/// Makes this process as likely a victim of the out-of-memory killer as any other. Async-signal-safe: called between fork
/// and exec. Best effort: what was raised by somebody stronger may not be lowered, and /proc may not be there.
pub(crate) fn ordinary_oom_score() {
    let path = c"/proc/self/oom_score_adj".as_ptr();
    // SAFETY: a NUL-terminated path.
    let file = unsafe { libc::open(path, libc::O_WRONLY | libc::O_CLOEXEC) };
    if file >= 0 {
        // SAFETY: one byte of static memory into a descriptor that is ours.
        let _ = unsafe { libc::write(file, c"0".as_ptr().cast(), 1) };
        // SAFETY: ours, and not used again.
        let _ = unsafe { libc::close(file) };
    }
}

/// A file without a name, in memory, close-on-exec.
pub(crate) fn anonymous_file(name: &std::ffi::CStr) -> io::Result<File> {
    // SAFETY: a NUL-terminated name, only shown in /proc.
    Ok(own(check(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) })?).into())
}

pub(crate) fn own_program() -> io::Result<(OwnedFd, std::path::PathBuf)> {
    let program = OwnedFd::from(File::open("/proc/self/exe")?);
    let path = format!("/proc/self/fd/{}", program.as_raw_fd()).into();
    Ok((program, path))
}

/// Marks every descriptor from `first` up close-on-exec. Async-signal-safe: called between fork and exec.
pub(crate) fn close_on_exec_from(first: i32) {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: a plain system call on numbers.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    if done == 0 {
        return;
    }
    let mut limit = libc::rlimit { rlim_cur: 1_024, rlim_max: 1_024 };
    // SAFETY: a valid place for the answer.
    let _ = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    for number in first..i32::try_from(limit.rlim_cur.min(1 << 20)).unwrap_or(i32::MAX) {
        // SAFETY: harmless on numbers that are not open.
        let _ = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// Closes every descriptor from `first` up but two. Async-signal-safe: called between fork and exec.
pub(crate) fn close_others(first: i32, one: i32, other: i32) {
    let (low, high) = (one.min(other), one.max(other));
    for (from, to) in [(first, low - 1), (low + 1, high - 1), (high + 1, i32::MAX)] {
        if from > to {
            continue;
        }
        // SAFETY: a plain system call on numbers; nobody uses these descriptors any more in this process.
        let done = unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
        if done == 0 {
            continue;
        }
        let mut limit = libc::rlimit { rlim_cur: 1_024, rlim_max: 1_024 };
        // SAFETY: a valid place for the answer.
        let _ = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
        let end = i32::try_from(limit.rlim_cur.min(1 << 20)).unwrap_or(i32::MAX);
        for number in from..=to.min(end) {
            // SAFETY: as above; harmless on numbers that are not open.
            let _ = unsafe { libc::close(number) };
        }
    }
}

// ---- pipes --------------------------------------------------------------------------------------------------------

pub(crate) const CAN_PEEK: bool = true;

pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: room for two numbers.
    check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    Ok((own(ends[0]), own(ends[1])))
}

fn splice(from: i32, to: i32, offset: Option<&mut i64>, limit: usize) -> io::Result<Moved> {
    let offset = offset.map_or(std::ptr::null_mut(), std::ptr::from_mut);
    let flags = libc::SPLICE_F_NONBLOCK;
    // SAFETY: the offset is null or points to a live integer; the rest are numbers.
    match retry(|| unsafe { libc::splice(from, std::ptr::null_mut(), to, offset, limit, flags) }) {
        Ok(0) => Ok(Moved::Nothing),
        Ok(count) => Ok(Moved::Bytes(count.unsigned_abs())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Moved::Nothing),
        Err(error) => Err(error),
    }
}

pub(crate) fn move_to_file(
    pipe: BorrowedFd<'_>,
    file: &File,
    offset: &mut u64,
    limit: usize,
    buffer: &mut [u8],
) -> io::Result<Moved> {
    let mut position = i64::try_from(*offset).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    match splice(pipe.as_raw_fd(), file.as_raw_fd(), Some(&mut position), limit) {
        Ok(Moved::Bytes(count)) => {
            *offset += u64::try_from(count).unwrap_or(0);
            Ok(Moved::Bytes(count))
        }
        // A file system without splice: copy, and take from the pipe only what is safely in the file.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            copy_then_take(pipe, file, offset, limit, buffer)
        }
        result => result,
    }
}

/// Peek, write, then take exactly what was written. A death in between writes bytes twice, but loses none.
fn copy_then_take(
    pipe: BorrowedFd<'_>,
    file: &File,
    offset: &mut u64,
    limit: usize,
    buffer: &mut [u8],
) -> io::Result<Moved> {
    let room = limit.min(buffer.len());
    let buffer = buffer.get_mut(..room).unwrap_or_default();
    let mut peeker = crate::pipe::Peeker::new()?;
    let seen = peeker.peek(pipe, buffer)?.map_or(0, <[u8]>::len);
    if seen == 0 {
        return Ok(Moved::Nothing);
    }
    let written = file.write_at(buffer.get(..seen).unwrap_or_default(), *offset)?;
    let mut left = written;
    while left > 0 {
        match read_some(pipe, buffer.get_mut(..left).unwrap_or_default())? {
            Moved::Bytes(count) => left -= count.min(left),
            Moved::Nothing => break,
        }
    }
    *offset += u64::try_from(written).unwrap_or(0);
    Ok(if written == 0 { Moved::Nothing } else { Moved::Bytes(written) })
}

pub(crate) fn discard(
    pipe: BorrowedFd<'_>,
    sink: &File,
    limit: usize,
    _buffer: &mut [u8],
) -> io::Result<Moved> {
    splice(pipe.as_raw_fd(), sink.as_raw_fd(), None, limit)
}

/// Copies from one pipe into another without taking; 0 if there is nothing.
pub(crate) fn duplicate(from: BorrowedFd<'_>, to: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    // SAFETY: plain numbers.
    match retry(|| unsafe { libc::tee(from, to, limit, libc::SPLICE_F_NONBLOCK) }) {
        Ok(count) => Ok(count.unsigned_abs()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}

// ---- waiting ------------------------------------------------------------------------------------------------------

#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: a plain system call.
        Ok(Self { epoll: own(check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?) })
    }

    pub(crate) fn add(&self, descriptor: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, descriptor, token, interest)
    }

    pub(crate) fn change(
        &self,
        descriptor: BorrowedFd<'_>,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, descriptor, token, interest)
    }

    pub(crate) fn remove(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, descriptor, 0, Interest::Read)
    }

    pub(crate) fn watch(&self, process: &Handle, token: u64) -> io::Result<()> {
        let descriptor = process.descriptor().ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        self.add(descriptor, token, Interest::Read)
    }

    pub(crate) fn unwatch(&self, process: &Handle) -> io::Result<()> {
        process.descriptor().map_or(Ok(()), |descriptor| self.remove(descriptor))
    }

    fn control(
        &self,
        operation: i32,
        descriptor: BorrowedFd<'_>,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        let events = match interest {
            Interest::Read => libc::EPOLLIN,
            Interest::ReadWrite => libc::EPOLLIN | libc::EPOLLOUT,
        };
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: token };
        let (epoll, descriptor) = (self.epoll.as_raw_fd(), descriptor.as_raw_fd());
        // SAFETY: `event` is valid for the call.
        check(unsafe { libc::epoll_ctl(epoll, operation, descriptor, &raw mut event) })?;
        Ok(())
    }

    pub(crate) fn wait(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MAX_EVENTS];
        let room = i32::try_from(MAX_EVENTS).unwrap_or(i32::MAX);
        let epoll = self.epoll.as_raw_fd();
        // SAFETY: room for so many events.
        let count =
            check(unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), room, milliseconds(timeout)) })?;
        ready.extend(events.iter().take(usize::try_from(count).unwrap_or(0)).map(|event| {
            let flags = event.events.cast_signed();
            let hangup = flags & (libc::EPOLLHUP | libc::EPOLLERR | libc::EPOLLRDHUP) != 0;
            Ready {
                token: event.u64,
                readable: flags & libc::EPOLLIN != 0 || hangup,
                writable: flags & libc::EPOLLOUT != 0,
                hangup,
            }
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let line =
            b"42 (a) b (c)) S 7 8 9 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 5 0 777 1000 20 18446744073709551615";
        let row = parse_row(line).unwrap();
        assert_eq!((row.id.pid, row.id.start_time), (42, 777));
        assert_eq!((row.parent, row.group, row.session, row.state, row.threads), (7, 8, 9, b'S', 5));
        assert_eq!(parse_row(b"42 (cut"), None);
        assert_eq!(parse_row(b""), None);
    }
}
