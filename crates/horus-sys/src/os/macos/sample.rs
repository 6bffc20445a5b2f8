//! Looks by libproc: the processor time and the state of each thread. Which call it waits in is told to a debugger only, so
//! on this system no wait is ever proven, and whoever asks is told so.

use crate::call::check;
use crate::fact::Fact;
use crate::sample::{
    Call, Descriptor, Interest, ProcessUsage, Program, Socket, Stand, Status, ThreadIds, Usage,
};
use std::collections::HashMap;
use std::io;

/// `PROC_PIDLISTTHREADS` of `sys/proc_info.h`.
const LIST_THREADS: libc::c_int = 6;

pub(crate) fn threads(pid: i32, limit: usize) -> io::Result<ThreadIds> {
    // One more than asked for: so that "there are more" is seen.
    let mut ids = vec![0_u64; limit.saturating_add(1)];
    let room = i32::try_from(ids.len() * size_of::<u64>()).unwrap_or(i32::MAX);
    // SAFETY: room for `room` bytes.
    let bytes = unsafe { libc::proc_pidinfo(pid, LIST_THREADS, 0, ids.as_mut_ptr().cast(), room) };
    if bytes <= 0 {
        return Err(io::Error::last_os_error());
    }
    ids.truncate(usize::try_from(bytes).unwrap_or(0) / size_of::<u64>());
    let more = ids.len() > limit;
    ids.truncate(limit);
    Ok(ThreadIds { ids, more })
}

fn information(pid: i32, thread: u64) -> io::Result<libc::proc_threadinfo> {
    // SAFETY: an all-zero proc_threadinfo is valid, it holds only numbers.
    let mut found: libc::proc_threadinfo = unsafe { std::mem::zeroed() };
    let size = i32::try_from(size_of::<libc::proc_threadinfo>()).unwrap_or(0);
    // SAFETY: room for `size` bytes.
    let count =
        unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDTHREADINFO, thread, (&raw mut found).cast(), size) };
    if count == size { Ok(found) } else { Err(io::Error::last_os_error()) }
}

pub(crate) fn usage(pid: i32, thread: u64) -> io::Result<Usage> {
    let found = information(pid, thread)?;
    Ok(Usage { cpu_ns: found.pth_user_time.saturating_add(found.pth_system_time), wait_ns: 0, runs: 0 })
}

pub(crate) fn process_usage(pid: i32) -> io::Result<ProcessUsage> {
    // SAFETY: an all-zero rusage_info_v2 is valid, it holds only numbers.
    let mut found: libc::rusage_info_v2 = unsafe { std::mem::zeroed() };
    // SAFETY: room for what that flavour writes.
    check(unsafe { libc::proc_pid_rusage(pid, libc::RUSAGE_INFO_V2, (&raw mut found).cast()) })?;
    let units = found.ri_user_time.saturating_add(found.ri_system_time);
    let io_bytes = found.ri_diskio_bytesread.saturating_add(found.ri_diskio_byteswritten);
    Ok(ProcessUsage { cpu_ns: nanoseconds(units), io_bytes: Fact::Known(io_bytes) })
}

/// The system counts the time of a process in units of its own clock: nanoseconds on Intel, 125/3 of one on Apple's processors.
fn nanoseconds(units: u64) -> u64 {
    let mut base = libc::mach_timebase_info { numer: 0, denom: 0 };
    // SAFETY: room for two numbers.
    #[expect(deprecated, reason = "the crate that libc points to is one more dependency for one call")]
    let refused = unsafe { libc::mach_timebase_info(&raw mut base) } != 0;
    if refused || base.denom == 0 {
        return units;
    }
    let scaled = u128::from(units) * u128::from(base.numer) / u128::from(base.denom);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

pub(crate) fn stand(pid: i32, thread: u64) -> io::Result<Stand> {
    let state = match information(pid, thread)?.pth_run_state {
        libc::TH_STATE_RUNNING => b'R',
        libc::TH_STATE_STOPPED | libc::TH_STATE_HALTED => b'T',
        libc::TH_STATE_UNINTERRUPTIBLE => b'D',
        _ => b'S',
    };
    // Threads have no start of their own here: that of the process guards against a pid that was lent again.
    let row = super::row(pid)?.ok_or(io::ErrorKind::NotFound)?;
    // The system counts page-ins of whole processes only.
    Ok(Stand { state, start_time: row.id.start_time, major_faults: None })
}

pub(crate) fn name(pid: i32) -> io::Result<String> {
    let mut text = [0_u8; 64];
    let room = u32::try_from(text.len()).unwrap_or(0);
    // SAFETY: room for so many bytes.
    let length = check(unsafe { libc::proc_name(pid, text.as_mut_ptr().cast(), room) })?;
    let text = text.get(..usize::try_from(length).unwrap_or(0)).unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

pub(crate) fn call_name(_number: i64) -> Option<&'static str> {
    None
}

fn not_told<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn status(_pid: i32, _thread: u64) -> io::Result<Status> {
    not_told()
}

pub(crate) fn call(_pid: i32, _thread: u64) -> io::Result<Option<Call>> {
    not_told()
}

pub(crate) fn frozen(_pid: i32) -> io::Result<bool> {
    not_told()
}

pub(crate) fn program(_pid: i32) -> io::Result<Program> {
    not_told()
}

pub(crate) fn is_go(_pid: i32) -> io::Result<bool> {
    not_told()
}

pub(crate) fn descriptor(_pid: i32, _number: i32) -> io::Result<Descriptor> {
    not_told()
}

pub(crate) fn descriptors(_pid: i32, _limit: usize) -> io::Result<Vec<(i32, Descriptor)>> {
    not_told()
}

pub(crate) fn interest(_pid: i32, _epoll: i32) -> io::Result<Vec<Interest>> {
    not_told()
}

pub(crate) fn sockets() -> io::Result<HashMap<u64, Socket>> {
    not_told()
}
