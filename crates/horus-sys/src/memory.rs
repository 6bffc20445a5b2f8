//! Reading another process's memory: no ptrace, no stop, no side effect on it. It runs on meanwhile, so what was read is a
//! photograph with a moving subject: whoever follows a pointer from here has to distrust it.
//!
//! Linux: `process_vm_readv`, which needs the right to trace the process (the same user, or `CAP_SYS_PTRACE`) and does not
//! trace it. Elsewhere it is missing, and says so.

use std::fs::File;
use std::io;
use std::path::PathBuf;

/// Most mappings read of one process.
pub const MAX_REGIONS: usize = 65_536;

/// A mapping of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Its first address.
    pub start: u64,
    /// The address behind its last.
    pub end: u64,
    /// Where it begins in the mapped file, in bytes.
    pub offset: u64,
    /// Whether code may run in it.
    pub executable: bool,
    /// Device (major, minor) and inode of the mapped file.
    pub identity: (u32, u32, u64),
    /// The mapped file, in the name space of that process; `None` for anonymous memory and the kernel's own pages.
    pub path: Option<PathBuf>,
}

/// Reads from `address` on; how many bytes came. Fewer than asked for where the mapping ends.
///
/// # Errors
/// `PermissionDenied` without the right to look, `ESRCH` if it is gone, `EFAULT` if nothing is mapped there.
pub fn read(pid: i32, address: u64, into: &mut [u8]) -> io::Result<usize> {
    crate::os::memory::read(pid, address, into)
}

/// The mappings of a process, in the order of their addresses, at most [`MAX_REGIONS`].
///
/// # Errors
/// As [`read`].
pub fn regions(pid: i32) -> io::Result<Vec<Region>> {
    crate::os::memory::regions(pid)
}

/// Opens the file that is mapped there, and no other one: a file that was put in its place is refused.
///
/// # Errors
/// `NotFound` when the file is gone or replaced, `PermissionDenied` without the right to look.
pub fn open_mapped(pid: i32, region: &Region) -> io::Result<File> {
    crate::os::memory::open_mapped(pid, region)
}

/// The most memory that this process has had resident at one time, in bytes; zero if the system does not say.
pub fn own_peak() -> u64 {
    // SAFETY: an all-zero rusage is valid, it holds only numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid place for the answer.
    let asked = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let unit = if cfg!(target_os = "macos") { 1 } else { 1_024 };
    if asked == 0 { u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(unit) } else { 0 }
}

/// Forbids this process to leave a core file, and asks the system for little of the machine: others come first.
pub fn be_modest() {
    crate::os::memory::be_modest();
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn our_own_memory_and_mappings_are_read() {
        let me = crate::process::own_pid();
        let secret = *b"read from outside";
        let mut copy = [0; 17];
        let address = secret.as_ptr().addr() as u64;
        assert_eq!(read(me, address, &mut copy).unwrap(), 17);
        assert_eq!(copy, secret);
        assert!((1 << 20..1 << 40).contains(&own_peak()), "{}", own_peak());
        assert_eq!(read(me, 8, &mut copy).unwrap_err().raw_os_error(), Some(libc::EFAULT));
        let here = our_own_memory_and_mappings_are_read as *const () as usize as u64;
        let regions = regions(me).unwrap();
        let ours = regions.iter().find(|region| (region.start..region.end).contains(&here)).unwrap();
        assert!(ours.executable && ours.path.is_some(), "{ours:?}");
        let mut magic = [0; 4];
        open_mapped(me, ours).unwrap().read_exact(&mut magic).unwrap();
        assert_eq!(&magic, b"\x7fELF");
        let other = Region { identity: (0, 0, 1), start: 1, end: 2, ..ours.clone() };
        assert!(open_mapped(me, &other).is_err(), "another file in its place is refused");
    }
}
