//! How much room there is where files are kept, and whether it is a disk at all.

use crate::call::{check, path as c_path};
use std::io;
use std::path::Path;

/// The file system that a path is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that we may still write.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Nothing can be written, whoever asks.
    pub read_only: bool,
    /// It is gone after a reboot. `None`: this system does not say.
    pub in_memory: Option<bool>,
}

/// Asks the file system of `path`.
///
/// # Errors
/// If there is no such path, or the file system does not answer.
#[expect(clippy::unnecessary_cast, reason = "the fields have other widths on other systems")]
pub fn space(path: &Path) -> io::Result<Space> {
    let name = c_path(path)?;
    // SAFETY: all zeros is a valid statvfs.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `name` ends with NUL, `found` is a place for the answer.
    check(unsafe { libc::statvfs(name.as_ptr(), &raw mut found) })?;
    let block = found.f_frsize as u64;
    Ok(Space {
        free_bytes: (found.f_bavail as u64).saturating_mul(block),
        total_bytes: (found.f_blocks as u64).saturating_mul(block),
        read_only: found.f_flag as u64 & libc::ST_RDONLY as u64 != 0,
        in_memory: in_memory(&name),
    })
}

#[cfg(target_os = "linux")]
fn in_memory(name: &std::ffi::CStr) -> Option<bool> {
    // SAFETY: all zeros is a valid statfs.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `name` ends with NUL, `found` is a place for the answer.
    check(unsafe { libc::statfs(name.as_ptr(), &raw mut found) }).ok()?;
    Some(matches!(found.f_type, libc::TMPFS_MAGIC | RAMFS_MAGIC))
}

/// From `linux/magic.h`; the libc crate does not have it.
#[cfg(target_os = "linux")]
const RAMFS_MAGIC: libc::__fsword_t = 0x8584_58f6;

#[cfg(not(target_os = "linux"))]
fn in_memory(_name: &std::ffi::CStr) -> Option<bool> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_has_room_and_nowhere_is_an_error() {
        let root = space(Path::new("/")).unwrap();
        assert!(root.total_bytes >= root.free_bytes && root.total_bytes > 0, "{root:?}");
        assert_eq!(space(Path::new("/no/such/place")).unwrap_err().kind(), io::ErrorKind::NotFound);
        #[cfg(target_os = "linux")]
        assert_eq!(space(Path::new("/dev/shm")).unwrap().in_memory, Some(true));
    }
}
