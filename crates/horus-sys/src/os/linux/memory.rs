//! Memory of other processes: `process_vm_readv`, /proc/PID/maps, /proc/PID/map_files.

use crate::limits::{Limit, Resource, set};
use crate::memory::{MAX_REGIONS, Region};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

/// Longest line of a maps file that is understood, in bytes: a path has at most 4,096.
const MAX_LINE: u64 = 8 * 1_024;

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
    let mut reader = BufReader::new(File::open(format!("/proc/{pid}/maps"))?);
    let mut regions = Vec::new();
    let mut line = Vec::new();
    while regions.len() < MAX_REGIONS {
        line.clear();
        if reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        regions.extend(parse(&String::from_utf8_lossy(&line)));
    }
    Ok(regions)
}

/// `start-end perms offset major:minor inode   path`
fn parse(line: &str) -> Option<Region> {
    let mut fields = line.trim_end_matches('\n').splitn(6, ' ');
    let hexadecimal = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    let offset = hexadecimal(fields.next()?)?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let device = |text| u32::from_str_radix(text, 16).ok();
    let inode = fields.next()?.parse().ok()?;
    let path = fields.next().map(str::trim_start).filter(|path| path.starts_with('/'));
    Some(Region {
        start: hexadecimal(start)?,
        end: hexadecimal(end)?,
        offset,
        executable: permissions.contains('x'),
        identity: (device(major)?, device(minor)?, inode),
        path: path.map(PathBuf::from),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_understood_or_passed_over() {
        let line = "7f00-7f10 r-xp 00001000 fe:01 4711                       /usr/lib/lib c.so (deleted)\n";
        let region = parse(line).unwrap();
        assert_eq!(
            (region.start, region.end, region.offset, region.executable),
            (0x7f00, 0x7f10, 0x1000, true)
        );
        assert_eq!(region.identity, (0xfe, 1, 4_711));
        assert_eq!(region.path.unwrap().to_str().unwrap(), "/usr/lib/lib c.so (deleted)");
        assert_eq!(parse("7f00-7f10 rw-p 00000000 00:00 0 \n").unwrap().path, None);
        assert_eq!(parse("7f00-7f10 rw-p 00000000 00:00 0    [stack]\n").unwrap().path, None);
        assert!(parse("nonsense").is_none());
    }
}
