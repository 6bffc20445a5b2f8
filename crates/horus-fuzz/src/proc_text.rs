//! What /proc and the socket dump of the kernel say. A program chooses parts of it, a container may mount something else over it.
//!
//! Promised: whatever the bytes, every parser ends, keeps its limits, and says the same thing of the same bytes; what it made
//! sense of can be written down and read again; no control group leads out of its tree; a dump tells no more sockets than it
//! has room for, and none without an inode; no line of `maps` becomes two, whatever a path in it says.

use bolero::TypeGenerator;
use horus_sys::memory::{MAX_REGIONS, Region};
use horus_sys::sample::{Descriptor, MAX_INTEREST, Usage};
use horus_sys::{elf, proc_text};

use crate::source::Source;
use crate::{mutate, seeds};

/// The smallest message of a dump that tells a socket, in bytes.
const SOCKET_BYTES_MIN: usize = 16 + 72;

const WORDS: [&str; 26] = [
    "7f00-7f10 r-xp 00000000 fe:01 4711    /",
    "-",
    "\u{7f}ELF\u{2}\u{1}",
    ".go.buildinfo\0",
    "running",
    "-1 ",
    "0x",
    "0xffffffffffffffff",
    "18446744073709551616",
    "9223372036854775808",
    " 0 0 0",
    "(",
    ") ",
    "TracerPid:\t",
    "voluntary_ctxt_switches:\t",
    "\n",
    "\0",
    "socket:[",
    "pipe:[",
    "]",
    "anon_inode:[eventpoll]",
    "tfd: ",
    " events: 19",
    "0::/",
    "freezer:/",
    "/../",
];

/// A thread's place in a system call.
#[derive(Clone, Debug, TypeGenerator)]
pub struct Place {
    number: u32,
    arguments: [u64; 6],
    registers: (u64, u64),
}

/// A line of `maps`, as the kernel writes one.
#[derive(Clone, Debug, TypeGenerator)]
pub struct Mapping {
    start: u64,
    bytes: u64,
    offset: u64,
    executable: bool,
    identity: (u32, u32, u64),
    /// Characters of its path, the first of which may be said again very often.
    path: Option<(u16, Vec<u8>)>,
}

/// The mappings of a process: any bytes.
fn check_maps(bytes: &[u8]) -> Vec<Region> {
    let regions = proc_text::maps(bytes).expect("nothing fails to be read");
    let lines = bytes.split(|byte| *byte == b'\n').count();
    assert!(regions.len() <= MAX_REGIONS.min(lines), "{} mappings in {lines} lines", regions.len());
    for region in &regions {
        assert!(region.start < region.end, "{region:?}");
        assert!(region.path.as_ref().is_none_or(|path| path.starts_with("/")), "{region:?}");
    }
    regions
}

/// Well-made lines are read as they are, one by one, but for those that are too long.
pub fn check_mappings(mappings: &[Mapping]) {
    let mut text = Vec::new();
    let mut expected = Vec::new();
    for mapping in mappings {
        let (start, end) = (mapping.start, mapping.start.saturating_add(mapping.bytes));
        let (major, minor, inode) = mapping.identity;
        let rights = if mapping.executable { "r-xp" } else { "rw-p" };
        let mut line =
            format!("{start:x}-{end:x} {rights} {:08x} {major:02x}:{minor:02x} {inode} ", mapping.offset)
                .into_bytes();
        let path = mapping.path.as_ref().map(|(again, rest)| {
            let rest = rest.iter().copied().filter(|byte| (0x20..0x7f).contains(byte));
            let first = std::iter::repeat_n(b'a', usize::from(*again) % (2 * proc_text::MAX_MAPS_LINE));
            std::iter::once(b'/').chain(first).chain(rest).collect::<Vec<u8>>()
        });
        line.extend_from_slice(path.as_deref().unwrap_or_default());
        if start < end && line.len() < proc_text::MAX_MAPS_LINE {
            let path = path.map(|path| String::from_utf8_lossy(&path).into_owned().into());
            let (offset, executable) = (mapping.offset, mapping.executable);
            expected.push(Region { start, end, offset, executable, identity: mapping.identity, path });
        }
        text.extend_from_slice(&line);
        text.push(b'\n');
    }
    assert_eq!(check_maps(&text), expected);
}

/// Any bytes, given to every parser.
pub fn check_bytes(bytes: &[u8]) {
    if let Some(Some(usage)) = proc_text::usage(bytes) {
        let text = format!("{} {} {}\n", usage.cpu_ns, usage.wait_ns, usage.runs);
        assert_eq!(proc_text::usage(text.as_bytes()), Some(Some(usage)));
        assert_ne!(usage, Usage::default(), "a kernel that does not count was taken for a thread at rest");
    }
    let _ = proc_text::stand(bytes);
    assert!(proc_text::status(bytes).is_none_or(|status| status.tracer.is_none_or(|tracer| tracer > 0)));
    if let Some(Some(call)) = proc_text::call(bytes) {
        assert!(call.number >= 0);
        let _ =
            (call.name(), call.descriptor(), call.is_foreign(), call.milliseconds(3), call.milliseconds(9));
    }
    if let Descriptor::Other(name) = proc_text::descriptor(bytes) {
        // A byte that is no text becomes three.
        assert!(name.len() <= 3 * proc_text::MAX_LINK);
    }
    assert!(proc_text::interest(bytes).len() <= MAX_INTEREST);
    let groups = proc_text::freezers(bytes);
    for path in [groups.first, groups.second].into_iter().flatten() {
        assert!(path.starts_with('/') && path.split('/').all(|part| part != ".."), "{path:?}");
    }
    let mut told = 0;
    let _ = proc_text::dump(bytes, |inode, _| {
        assert_ne!(inode, 0);
        told += 1;
    });
    assert!(told <= bytes.len() / SOCKET_BYTES_MIN, "{told} sockets in {} bytes", bytes.len());
    let _ = check_maps(bytes);
    assert_eq!(is_go(bytes), is_go(bytes), "the same file was of two minds");
}

/// The bytes as a program's file.
fn is_go(bytes: &[u8]) -> bool {
    let mut reads = 0;
    let read = |at: u64, into: &mut [u8]| {
        reads += 1;
        assert!(into.len() <= (elf::MAX_SECTIONS * 64).max(elf::MAX_NAMES), "{} bytes wanted", into.len());
        let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        let length = rest.len().min(into.len());
        into.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        Ok(length)
    };
    let found = elf::is_go(read).expect("nothing fails to be read");
    assert!(reads <= 3, "{reads} reads");
    found
}

/// A real example, edited.
pub fn check_edited(bytes: &[u8]) {
    static SEEDS: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    check_bytes(&mutate::text(&mut Source::new(bytes), seeds::of(&SEEDS, "proc_bytes"), &WORDS));
}

/// A well-made place is read as it is.
pub fn check_place(place: &Place) {
    let [a, b, c, d, e, f] = place.arguments;
    let (stack, program) = place.registers;
    let text =
        format!("{} {a:#x} {b:#x} {c:#x} {d:#x} {e:#x} {f:#x} {stack:#x} {program:#x}\n", place.number);
    let call = proc_text::call(text.as_bytes()).flatten().expect("a well-made place");
    assert_eq!((call.number, call.arguments), (i64::from(place.number), place.arguments));
    assert_eq!((call.stack, call.program), place.registers);
}
