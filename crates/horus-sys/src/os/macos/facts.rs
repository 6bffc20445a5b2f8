//! Facts from libproc. Threads and sockets of other processes need task ports or private calls: they are missing here.

use crate::fact::{Fact, Missing};
use crate::facts::{HostPressure, LimitFacts, ProcessFacts, SocketFacts, ThreadFacts};
use crate::redact;
use std::io;

pub(crate) fn threads(_pid: i32) -> io::Result<Vec<ThreadFacts>> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn sockets(_pid: i32) -> io::Result<Vec<SocketFacts>> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn process(pid: i32) -> io::Result<ProcessFacts> {
    let row = super::row(pid)?.ok_or(io::ErrorKind::NotFound)?;
    // SAFETY: an all-zero proc_taskinfo is valid, it holds only numbers.
    let mut found: libc::proc_taskinfo = unsafe { std::mem::zeroed() };
    let size = i32::try_from(size_of::<libc::proc_taskinfo>()).unwrap_or(0);
    // SAFETY: room for `size` bytes.
    let count = unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDTASKINFO, 0, (&raw mut found).cast(), size) };
    let known = count == size;
    let denied = || Fact::Missing(Missing::Denied);
    Ok(ProcessFacts {
        resident_bytes: if known { Fact::Known(found.pti_resident_size) } else { denied() },
        open_files: open_files(pid).map_or_else(denied, Fact::Known),
        threads: if known { u32::try_from(found.pti_threadnum).unwrap_or(0) } else { 0 },
        state: char::from(row.state),
        command_line: Fact::from(command_line(pid)),
        tracer: Fact::Missing(Missing::Unsupported),
    })
}

fn open_files(pid: i32) -> Option<u64> {
    // SAFETY: a null buffer asks for the size only.
    let bytes = unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDLISTFDS, 0, std::ptr::null_mut(), 0) };
    let each = size_of::<libc::proc_fdinfo>();
    usize::try_from(bytes).ok().filter(|bytes| *bytes > 0).and_then(|bytes| u64::try_from(bytes / each).ok())
}

/// The arguments need the same area as the environment; only the program's path is asked for here.
fn command_line(pid: i32) -> io::Result<Vec<String>> {
    let mut path = vec![0_u8; 4_096];
    let room = u32::try_from(path.len()).unwrap_or(0);
    // SAFETY: room for so many bytes.
    let length = unsafe { libc::proc_pidpath(pid, path.as_mut_ptr().cast(), room) };
    if length <= 0 {
        return Err(io::Error::last_os_error());
    }
    path.truncate(usize::try_from(length).unwrap_or(0));
    Ok(redact::command_line(&[String::from_utf8_lossy(&path)]))
}

pub(crate) fn limits(_pid: i32) -> io::Result<Vec<LimitFacts>> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn pressure() -> HostPressure {
    let none = || Fact::Missing(Missing::Unsupported);
    HostPressure { cpu: none(), memory: none(), io: none() }
}
