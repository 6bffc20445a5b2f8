//! Memory of other processes: `process_vm_readv`, /proc/PID/maps, /proc/PID/map_files.

use crate::limits::{Limit, Resource, set};
use crate::memory::Region;
use crate::proc_text;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

/// How much others come first.
const NICE: libc::c_int = 10;

pub(crate) fn read(pid: i32, address: u64, into: &mut [u8]) -> io::Result<usize> {
    let beyond = |_| io::Error::from_raw_os_error(libc::EFAULT);
    let address = usize::try_from(address).map_err(beyond)?;
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: into.len() };
    // SAFETY: the local part is a valid buffer of that length; the remote one is only looked at by the kernel.
    let count = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(count).map_err(|_negative| io::Error::last_os_error())
}

pub(crate) fn regions(pid: i32) -> io::Result<Vec<Region>> {
    proc_text::maps(BufReader::new(File::open(format!("/proc/{pid}/maps"))?))
}

/// By the kernel's own link first: it names the mapped file also when it was deleted. It needs a capability; the path inside of
/// the root of that process does not, and is compared with what is mapped.
pub(crate) fn open_mapped(pid: i32, region: &Region) -> io::Result<File> {
    let link = format!("/proc/{pid}/map_files/{:x}-{:x}", region.start, region.end);
    let path = region.path.as_ref().ok_or(io::ErrorKind::NotFound)?;
    let within = format!("/proc/{pid}/root{}", path.display());
    open_same(&link, region).or_else(|_no_right| open_same(&within, region))
}

fn open_same(path: &str, region: &Region) -> io::Result<File> {
    // Nothing else is even opened: a device may take that for a request, and a FIFO would wait. What was exchanged in between
    // shows below.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let found = file.metadata()?;
    let device = (libc::major(found.dev()), libc::minor(found.dev()));
    let is_same = found.is_file() && (device.0, device.1, found.ino()) == region.identity;
    if is_same { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

pub(crate) fn be_modest() {
    // Best effort, all of it: a capture that is not modest is still a capture.
    let _ = set(Resource::Core, Limit { soft: 0, hard: 0 });
    // SAFETY: plain system calls on this process.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}
