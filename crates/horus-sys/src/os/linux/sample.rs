//! Looks by /proc and by netlink. Everything is read into a buffer on the stack: a look of a thread allocates nothing.

use super::facts::{name_of, odd};
use crate::call::check;
use crate::fact::Fact;
use crate::pipe::own;
use crate::proc_text::{self, Dump};
use crate::sample::{
    Call, Descriptor, Interest, MAX_INTEREST, MAX_SOCKETS, ProcessUsage, Program, Socket, Stand, Status,
    ThreadIds, Usage,
};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};

/// Room for one small file of /proc. The longest is `status`, of some 1,500 bytes (more with many processors, at its end).
const SMALL: usize = 4_096;

/// Longest `fdinfo` of an epoll set, and longest `cgroup`, in bytes.
const LONG: u64 = 128 * MAX_INTEREST as u64;

/// Where control groups are mounted by custom: the freezer of version 1, and version 2 alone or beside it.
const FREEZER: &str = "/sys/fs/cgroup/freezer";
const UNIFIED: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// How long the kernel may take for one part of a dump, and how many parts there may be.
static DUMP_TIMEOUT: libc::timeval = libc::timeval { tv_sec: 1, tv_usec: 0 };
const MAX_DUMP_PARTS: usize = 16_384;

fn small<T>(path: &str, parse: impl FnOnce(&[u8]) -> Option<T>) -> io::Result<T> {
    let mut buffer = [0; SMALL];
    let length = File::open(path)?.read_at(&mut buffer, 0)?;
    if length == 0 {
        // A thread that ended between the opening and the reading.
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    parse(buffer.get(..length).unwrap_or_default()).ok_or_else(|| odd(path))
}

fn long(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONG).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(crate) fn threads(pid: i32, limit: usize) -> io::Result<ThreadIds> {
    let mut found = ThreadIds::default();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if found.ids.len() >= limit {
            found.more = true;
            break;
        }
        found.ids.push(id);
    }
    Ok(found)
}

pub(crate) fn usage(pid: i32, thread: u64) -> io::Result<Usage> {
    let counted = small(&format!("/proc/{pid}/task/{thread}/schedstat"), proc_text::usage);
    match counted {
        Ok(usage) => usage.ok_or_else(|| io::ErrorKind::Unsupported.into()),
        // A kernel without it has the thread, and no such file in it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let there = fs::exists(format!("/proc/{pid}/task/{thread}/stat"))?;
            Err(if there { io::ErrorKind::Unsupported.into() } else { error })
        }
        Err(error) => Err(error),
    }
}

pub(crate) fn process_usage(pid: i32) -> io::Result<ProcessUsage> {
    let ticks = small(&format!("/proc/{pid}/stat"), proc_text::cpu_ticks)?;
    // SAFETY: takes a number and returns one.
    let a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let a_second = u64::try_from(a_second).ok().filter(|ticks| *ticks > 0).unwrap_or(100);
    let io_bytes = Fact::from(small(&format!("/proc/{pid}/io"), proc_text::io_bytes));
    Ok(ProcessUsage { cpu_ns: ticks.saturating_mul(1_000_000_000 / a_second), io_bytes })
}

pub(crate) fn stand(pid: i32, thread: u64) -> io::Result<Stand> {
    small(&format!("/proc/{pid}/task/{thread}/stat"), proc_text::stand)
}

pub(crate) fn status(pid: i32, thread: u64) -> io::Result<Status> {
    small(&format!("/proc/{pid}/task/{thread}/status"), proc_text::status)
}

pub(crate) fn call(pid: i32, thread: u64) -> io::Result<Option<Call>> {
    small(&format!("/proc/{pid}/task/{thread}/syscall"), proc_text::call)
}

pub(crate) fn call_name(number: i64) -> Option<&'static str> {
    name_of(number)
}

pub(crate) fn name(pid: i32) -> io::Result<String> {
    small(&format!("/proc/{pid}/comm"), |text| Some(String::from_utf8_lossy(text).trim_end().to_owned()))
}

pub(crate) fn frozen(pid: i32) -> io::Result<bool> {
    let groups = proc_text::freezers(&long(&format!("/proc/{pid}/cgroup"))?);
    let mut asked = false;
    if let Some(group) = &groups.first
        && let Ok(state) = long(&format!("{FREEZER}{group}/freezer.state"))
    {
        asked = true;
        if state.starts_with(b"FROZEN") || state.starts_with(b"FREEZING") {
            return Ok(true);
        }
    }
    if let Some(group) = &groups.second {
        let read = UNIFIED.iter().find_map(|root| long(&format!("{root}{group}/cgroup.events")).ok());
        // The root of the tree has no such file: it cannot be frozen.
        asked |= read.is_some() || group == "/";
        if read.is_some_and(|events| events.split(|byte| *byte == b'\n').any(|line| line == b"frozen 1")) {
            return Ok(true);
        }
    }
    if asked { Ok(false) } else { Err(io::ErrorKind::Unsupported.into()) }
}

pub(crate) fn program(pid: i32) -> io::Result<Program> {
    // The link leads to the file also when its name is gone.
    let found = fs::metadata(format!("/proc/{pid}/exe"))?;
    Ok(Program { device: found.dev(), inode: found.ino() })
}

pub(crate) fn is_go(pid: i32) -> io::Result<bool> {
    let file = File::open(format!("/proc/{pid}/exe"))?;
    crate::elf::is_go(|at, into| file.read_at(into, at))
}

pub(crate) fn descriptor(pid: i32, number: i32) -> io::Result<Descriptor> {
    let link = fs::read_link(format!("/proc/{pid}/fd/{number}"))?.into_os_string().into_vec();
    Ok(proc_text::descriptor(&link))
}

pub(crate) fn descriptors(pid: i32, limit: usize) -> io::Result<Vec<(i32, Descriptor)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.take(limit) {
        let entry = entry?;
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that was closed meanwhile is no error.
        if let Ok(link) = fs::read_link(entry.path()) {
            found.push((number, proc_text::descriptor(link.as_os_str().as_bytes())));
        }
    }
    Ok(found)
}

pub(crate) fn interest(pid: i32, epoll: i32) -> io::Result<Vec<Interest>> {
    Ok(proc_text::interest(&long(&format!("/proc/{pid}/fdinfo/{epoll}"))?))
}

pub(crate) fn sockets() -> io::Result<HashMap<u64, Socket>> {
    let mut found = HashMap::new();
    // A kernel without one of the two families refuses only that one.
    let first = dump(libc::AF_INET, &mut found);
    let second = dump(libc::AF_INET6, &mut found);
    first.or(second).map(|()| found)
}

/// `SOCK_DIAG_BY_FAMILY` with `NLM_F_REQUEST | NLM_F_DUMP`: all TCP sockets of one family.
fn dump(family: i32, found: &mut HashMap<u64, Socket>) -> io::Result<()> {
    const LENGTH: usize = 72;
    const BY_FAMILY: u16 = 20;
    const REQUEST_DUMP: u16 = 0x301;
    /// Not those that wait to be forgotten and not half a handshake: there may be very many, and nobody waits on them.
    const STATES: u32 = !(1 << 6 | 1 << 3 | 1 << 12);
    let mut request = [0_u8; LENGTH];
    let fields: [(usize, &[u8]); 6] = [
        (0, &72_u32.to_ne_bytes()),
        (4, &BY_FAMILY.to_ne_bytes()),
        (6, &REQUEST_DUMP.to_ne_bytes()),
        (16, &[u8::try_from(family).unwrap_or(0)]),
        (17, &[libc::IPPROTO_TCP as u8]),
        (20, &STATES.to_ne_bytes()),
    ];
    for (at, bytes) in fields {
        if let Some(place) = request.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
    let socket = diagnosis_socket()?;
    // SAFETY: the request is LENGTH bytes long.
    check(unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), LENGTH, 0) })?;
    let mut buffer = vec![0_u8; 32 << 10];
    for _ in 0..MAX_DUMP_PARTS {
        // SAFETY: room for as many bytes as the buffer has.
        let length =
            check(unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) })?;
        let bytes = buffer.get(..length.unsigned_abs()).unwrap_or_default();
        let said = proc_text::dump(bytes, |inode, socket| {
            if found.len() < MAX_SOCKETS {
                found.insert(inode, socket);
            }
        });
        match said {
            Dump::Goes if !bytes.is_empty() => {}
            Dump::Goes | Dump::Done => return Ok(()),
            Dump::Refused(code) => return Err(io::Error::from_raw_os_error(code)),
        }
    }
    Ok(())
}

fn diagnosis_socket() -> io::Result<OwnedFd> {
    // SAFETY: plain numbers.
    let number = unsafe {
        libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_SOCK_DIAG)
    };
    let socket: OwnedFd = own(check(number)?);
    let size = libc::socklen_t::try_from(size_of::<libc::timeval>()).unwrap_or(0);
    // SAFETY: a valid timeval of `size` bytes.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const DUMP_TIMEOUT).cast(),
            size,
        )
    })?;
    Ok(socket)
}
