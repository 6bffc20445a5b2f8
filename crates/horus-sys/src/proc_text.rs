//! What /proc and the kernel's socket dump say, taken without trust.
//!
//! The texts come from the kernel, but a program chooses parts of them (its name, its paths, its control group), a container
//! may mount something else over /proc, and other kernels write other fields. So nothing here indexes, adds or allocates by
//! what a text claims, and what is not understood is `None`. Pure: the same on every system, and open to the fuzzer.

use crate::memory::{MAX_REGIONS, Region};
use crate::sample::{Call, Descriptor, Interest, MAX_INTEREST, Socket, Stand, Status, Usage};
use std::io::{self, BufRead, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// Longest name of a file behind a descriptor that is kept, in bytes.
pub const MAX_LINK: usize = 4_096;

/// Longest line of `maps` that is understood, in bytes. A path has at most 4,096, and four for each line break in it.
pub const MAX_MAPS_LINE: usize = 8 * 1_024;

/// Most bytes of `maps` that are read: [`MAX_REGIONS`] of them with long paths.
pub const MAX_MAPS: u64 = 64 << 20;

fn words(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

fn number<T: std::str::FromStr>(word: &[u8]) -> Option<T> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// `0x...`
fn hexadecimal(word: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(word).ok()?.strip_prefix("0x")?, 16).ok()
}

/// `cpu_ns wait_ns runs`. All zero is what a kernel says that does not count: a thread that exists has run.
pub fn usage(text: &[u8]) -> Option<Option<Usage>> {
    let mut words = words(text);
    let mut next = || number(words.next()?);
    let usage = Usage { cpu_ns: next()?, wait_ns: next()?, runs: next()? };
    Some((usage != Usage::default()).then_some(usage))
}

/// `pid (name) state ...`, the major faults in field 12 and the start in field 22; the name may hold anything, so the fields count from
/// its end.
pub fn stand(text: &[u8]) -> Option<Stand> {
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let mut words = words(text.get(close + 1..)?);
    let state = *words.next()?.first()?;
    let major_faults = number(words.nth(8)?)?;
    let start_time = number(words.nth(9)?)?;
    Some(Stand { state, start_time, major_faults: Some(major_faults) })
}

/// The processor time in `stat` of a process, in ticks: fields 14 and 15.
pub fn cpu_ticks(text: &[u8]) -> Option<u64> {
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let mut words = words(text.get(close + 1..)?).skip(11);
    let mut next = || number::<u64>(words.next()?);
    Some(next()?.saturating_add(next()?))
}

/// The lines of `maps`, in their order, at most [`MAX_REGIONS`]. What is not understood is passed over, and so is a line that is too
/// long: as a whole, because what stands in its middle was chosen by whoever named a file.
///
/// # Errors
/// Those of the reader.
pub fn maps(reader: impl BufRead) -> io::Result<Vec<Region>> {
    let mut reader = reader.take(MAX_MAPS);
    let mut regions = Vec::new();
    let mut line = Vec::new();
    while regions.len() < MAX_REGIONS {
        line.clear();
        if reader.by_ref().take(MAX_MAPS_LINE as u64).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.len() == MAX_MAPS_LINE && !line.ends_with(b"\n") {
            reader.skip_until(b'\n')?;
        } else {
            regions.extend(mapping(&String::from_utf8_lossy(&line)));
        }
    }
    Ok(regions)
}

/// `start-end perms offset major:minor inode   path`
fn mapping(line: &str) -> Option<Region> {
    let mut fields = line.trim_end_matches('\n').splitn(6, ' ');
    let hexadecimal = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = fields.next()?.split_once('-')?;
    let (start, end) = (hexadecimal(start)?, hexadecimal(end)?);
    let permissions = fields.next()?;
    let offset = hexadecimal(fields.next()?)?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let device = |text| u32::from_str_radix(text, 16).ok();
    let inode = fields.next()?.parse().ok()?;
    let path = fields.next().map(str::trim_start).filter(|path| path.starts_with('/'));
    let identity = (device(major)?, device(minor)?, inode);
    let executable = permissions.contains('x');
    let region = Region { start, end, offset, executable, identity, path: path.map(PathBuf::from) };
    (start < end).then_some(region)
}

/// What `io` counts of reads and writes, in bytes.
pub fn io_bytes(text: &[u8]) -> Option<u64> {
    let field = |name: &[u8]| {
        let mut lines = text.split(|byte| *byte == b'\n');
        number::<u64>(words(lines.find_map(|line| line.strip_prefix(name))?).next()?)
    };
    Some(field(b"rchar:")?.saturating_add(field(b"wchar:")?))
}

/// The lines of `status` that are of use here.
pub fn status(text: &[u8]) -> Option<Status> {
    let field = |name: &[u8]| {
        // The first line is the name of the program, with line breaks escaped: it cannot imitate another line.
        let mut lines = text.split(|byte| *byte == b'\n');
        words(lines.find_map(|line| line.strip_prefix(name))?).next()
    };
    let tracer: i32 = number(field(b"TracerPid:")?)?;
    Some(Status {
        voluntary_switches: number(field(b"voluntary_ctxt_switches:")?)?,
        tracer: (tracer > 0).then_some(tracer),
    })
}

/// `running`, or `NUMBER arg0..arg5 sp pc` in hexadecimal, or `-1 sp pc` for a thread that is blocked outside of a call (in a
/// page fault, for one). The outer `None` is a text that is none of these.
pub fn call(text: &[u8]) -> Option<Option<Call>> {
    let mut words = words(text);
    let first = words.next()?;
    if first == b"running" {
        return Some(None);
    }
    let called: i64 = number(first)?;
    if called < 0 {
        return Some(None);
    }
    let mut next = || hexadecimal(words.next()?);
    let mut arguments = [0; 6];
    for argument in &mut arguments {
        *argument = next()?;
    }
    Some(Some(Call { number: called, arguments, stack: next()?, program: next()? }))
}

/// Where a link in `fd/` leads.
pub fn descriptor(link: &[u8]) -> Descriptor {
    let inode = |kind: &[u8]| number(link.strip_prefix(kind)?.strip_suffix(b"]")?);
    if let Some(inode) = inode(b"socket:[") {
        return Descriptor::Socket(inode);
    }
    if let Some(inode) = inode(b"pipe:[") {
        return Descriptor::Pipe(inode);
    }
    if link == b"anon_inode:[eventpoll]" {
        return Descriptor::Epoll;
    }
    let kept = link.get(..link.len().min(MAX_LINK)).unwrap_or_default();
    Descriptor::Other(String::from_utf8_lossy(kept).into_owned())
}

/// The lines `tfd: N events: HEX ...` of the `fdinfo` of an epoll set.
pub fn interest(text: &[u8]) -> Vec<Interest> {
    /// EPOLLIN and EPOLLRDNORM.
    const READS: u64 = 0x41;
    let line = |line: &[u8]| {
        let mut words = words(line.strip_prefix(b"tfd:")?);
        let descriptor = number(words.next()?)?;
        let mask = words.skip_while(|word| *word != b"events:").nth(1)?;
        let mask = u64::from_str_radix(std::str::from_utf8(mask).ok()?, 16).ok()?;
        Some(Interest { descriptor, reads: mask & READS != 0 })
    };
    text.split(|byte| *byte == b'\n').filter_map(line).take(MAX_INTEREST).collect()
}

/// In which control groups a process is, as far as a freezer acts there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freezers {
    /// In the freezer of version 1.
    pub first: Option<String>,
    /// In the one tree of version 2.
    pub second: Option<String>,
}

/// `/proc/PID/cgroup`: lines of `NUMBER:CONTROLLERS:PATH`. A path that leads out of the tree is left out.
pub fn freezers(text: &[u8]) -> Freezers {
    let mut found = Freezers::default();
    for line in String::from_utf8_lossy(text).lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
            continue;
        }
        if number == "0" && controllers.is_empty() {
            found.second = Some(path.to_owned());
        } else if controllers.split(',').any(|controller| controller == "freezer") {
            found.first = Some(path.to_owned());
        }
    }
    found
}

/// The length of the message header of netlink.
const HEADER: usize = 16;

/// What one datagram of a socket dump said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dump {
    /// More follow.
    Goes,
    /// That was the last one.
    Done,
    /// The kernel refused, with this error number.
    Refused(i32),
}

/// Reads one datagram of an answer to `SOCK_DIAG_BY_FAMILY`, in the byte order of this machine.
pub fn dump(mut bytes: &[u8], mut each: impl FnMut(u64, Socket)) -> Dump {
    const ERROR: u16 = 2;
    const DONE: u16 = 3;
    while let Some((header, rest)) = bytes.split_at_checked(HEADER) {
        let Some(length) = word(header, 0).and_then(|length| usize::try_from(length).ok()) else { break };
        let kind = header.get(4..6).and_then(|two| Some(u16::from_ne_bytes(two.try_into().ok()?)));
        match kind {
            Some(DONE) => return Dump::Done,
            Some(ERROR) => {
                return Dump::Refused(word(rest, 0).map_or(0, |code| code.cast_signed().wrapping_neg()));
            }
            _ => {}
        }
        // A length shorter than its own header would never end.
        let Some(body) = length.checked_sub(HEADER).and_then(|length| rest.get(..length)) else { break };
        if let Some((inode, socket)) = socket(body) {
            each(inode, socket);
        }
        let Some(next) = bytes.get(length.next_multiple_of(4)..) else { break };
        bytes = next;
    }
    Dump::Goes
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// `struct inet_diag_msg`: four bytes of family and state, ports and addresses in network order, then the queues and the inode.
fn socket(body: &[u8]) -> Option<(u64, Socket)> {
    const LISTENS: u8 = 10;
    let (family, state) = (*body.first()?, *body.get(1)?);
    let port = |at: usize| Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| -> Option<IpAddr> {
        Some(match i32::from(family) {
            libc::AF_INET => Ipv4Addr::from(<[u8; 4]>::try_from(body.get(at..at + 4)?).ok()?).into(),
            libc::AF_INET6 => {
                Ipv6Addr::from(<[u8; 16]>::try_from(body.get(at..at + 16)?).ok()?).to_canonical()
            }
            _ => return None,
        })
    };
    let remote = SocketAddr::new(address(24)?, port(6)?);
    let listens = state == LISTENS;
    let socket = Socket {
        listens,
        local: SocketAddr::new(address(8)?, port(4)?),
        remote: (!listens && remote.port() != 0).then_some(remote),
        receive_queue: word(body, 56)?,
    };
    let inode = u64::from(word(body, 68)?);
    (inode != 0).then_some((inode, socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_understood_or_passed_over() {
        let line = "7f00-7f10 r-xp 00001000 fe:01 4711                       /usr/lib/lib c.so (deleted)\n";
        let region = mapping(line).unwrap();
        assert_eq!(
            (region.start, region.end, region.offset, region.executable),
            (0x7f00, 0x7f10, 0x1000, true)
        );
        assert_eq!(region.identity, (0xfe, 1, 4_711));
        assert_eq!(region.path.unwrap().to_str().unwrap(), "/usr/lib/lib c.so (deleted)");
        assert_eq!(mapping("7f00-7f10 rw-p 00000000 00:00 0 \n").unwrap().path, None);
        assert_eq!(mapping("7f00-7f10 rw-p 00000000 00:00 0    [stack]\n").unwrap().path, None);
        assert!(mapping("nonsense").is_none());
        assert!(mapping("7f10-7f10 rw-p 00000000 00:00 0 \n").is_none(), "of no length");
    }

    #[test]
    fn the_middle_of_a_long_line_of_maps_is_no_line() {
        let real = "7f00-7f10 r-xp 00001000 fe:01 4711 /lib\n";
        let forged = "1-2 r-xp 0 fe:01 5 /etc/shadow";
        for length in MAX_MAPS_LINE - 100..MAX_MAPS_LINE + 100 {
            let head = "7f20-7f30 r-xp 0 fe:01 6 /";
            let text = format!("{head}{}{forged}\n{real}", "a".repeat(length - head.len()));
            let regions = maps(text.as_bytes()).unwrap();
            assert!(regions.iter().all(|region| region.start >= 0x7f00), "{length}: {regions:?}");
            assert_eq!(regions.last().unwrap().start, 0x7f00, "{length}");
        }
    }

    #[test]
    fn a_kernel_that_does_not_count_is_not_a_thread_at_rest() {
        assert_eq!(usage(b"12 3 4\n"), Some(Some(Usage { cpu_ns: 12, wait_ns: 3, runs: 4 })));
        assert_eq!(usage(b"0 0 0\n"), Some(None));
        assert_eq!(usage(b"12 3"), None);
        assert_eq!(usage(b""), None);
    }

    #[test]
    fn a_name_cannot_pretend_to_be_a_state() {
        let text = b"7 (a) R 1 (x) S 1 7 7 0 -1 4194560 1 0 55 0 1 2 0 0 20 0 1 0 987 1 2 3";
        assert_eq!(stand(text), Some(Stand { state: b'S', start_time: 987, major_faults: Some(55) }));
        assert_eq!(stand(b"7 (a) S 1 7"), None);
    }

    #[test]
    fn what_a_process_has_used_is_read() {
        let text = b"7 (a) 1) S 1 7 7 0 -1 4194560 1 0 0 0 31 11 5 6 20 0 1 0 987 1 2 3";
        assert_eq!(cpu_ticks(text), Some(42));
        assert_eq!(cpu_ticks(b"7 (a) S 1 7"), None);
        assert_eq!(io_bytes(b"rchar: 40\nwchar: 2\nsyscr: 9\n"), Some(42));
        assert_eq!(io_bytes(b"rchar: 40\n"), None);
    }

    #[test]
    fn a_call_is_read_to_its_last_register() {
        let text = b"45 0x7 0x7ffd0 0x400 0x0 0x0 0x0 0x7ffc1000 0x7f0012\n";
        let call_in = call(text).unwrap().unwrap();
        assert_eq!((call_in.number, call_in.descriptor(), call_in.program), (45, Some(7), 0x7f_0012));
        assert_eq!(call(b"running\n"), Some(None));
        assert_eq!(call(b"-1 0x7ffc1000 0x7f0012\n"), Some(None));
        assert_eq!(call(b"45 0x7\n"), None);
        let forever = Call { arguments: [3, 0, 0, 0xffff_ffff, 0, 0], ..call_in };
        assert_eq!(forever.milliseconds(3), Some(-1));
    }

    #[test]
    fn status_descriptors_interest_and_freezers_are_read() {
        let text = b"Name:\ta\nTracerPid:\t12\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t9\n";
        assert_eq!(status(text), Some(Status { voluntary_switches: 5, tracer: Some(12) }));
        assert_eq!(descriptor(b"socket:[42]"), Descriptor::Socket(42));
        assert_eq!(descriptor(b"anon_inode:[eventpoll]"), Descriptor::Epoll);
        assert_eq!(descriptor(b"/tmp/socket:[42]"), Descriptor::Other("/tmp/socket:[42]".into()));
        let text = b"pos:\t0\nflags:\t02\ntfd:        5 events:       19 data:                5  pos:0 ino:1 sdev:2\n\
            tfd:        6 events:        4 data: 6\n";
        let expected =
            vec![Interest { descriptor: 5, reads: true }, Interest { descriptor: 6, reads: false }];
        assert_eq!(interest(text), expected);
        let text = b"6:cpu,freezer:/a\n1:name=systemd:/b\n0::/c\n";
        assert_eq!(freezers(text), Freezers { first: Some("/a".into()), second: Some("/c".into()) });
        assert_eq!(freezers(b"0::/../../etc\n"), Freezers::default());
    }

    #[test]
    fn a_dump_ends_whatever_its_lengths_claim() {
        let mut message = vec![0; HEADER];
        message[..4].copy_from_slice(&0_u32.to_ne_bytes());
        assert_eq!(dump(&message, |_, _| ()), Dump::Goes);
        message[..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(dump(&message, |_, _| ()), Dump::Goes);
        message[4] = 3;
        assert_eq!(dump(&message, |_, _| ()), Dump::Done);
    }
}
