//! What /proc and the socket dump of the kernel say. A program chooses parts of it, a container may mount something else over it.
//!
//! Promised: whatever the bytes, every parser ends, keeps its limits, and says the same thing of the same bytes; what it made
//! sense of can be written down and read again; no control group leads out of its tree; a dump tells no more sockets than it
//! has room for, and none without an inode.

use bolero::TypeGenerator;
use horus_sys::proc_text;
use horus_sys::sample::{Descriptor, MAX_INTEREST, Usage};

use crate::source::Source;
use crate::{mutate, seeds};

/// The smallest message of a dump that tells a socket, in bytes.
const SOCKET_BYTES_MIN: usize = 16 + 72;

const WORDS: [&str; 22] = [
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
