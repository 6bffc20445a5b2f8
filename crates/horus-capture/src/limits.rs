//! Every limit of a capture, in one place, and the fence around the process that makes it.

use std::io;
use std::time::Duration;

use horus_sys::limits::{Limit, Resource, get, set};

/// What a capture may take, from the outside: whoever started it kills it then.
pub const CAPTURE_KILLED_AFTER: Duration = Duration::from_secs(4);
/// When it stops reading by itself and says what it has.
pub const CAPTURE_WALL: Duration = Duration::from_secs(3);
/// CPU time of the process that captures, in seconds: one more than it can use within the wall limit.
pub const CAPTURE_CPU_SECONDS: u64 = 4;
/// Address space of the process that captures, in bytes. Files are mapped into it: those of a large program too.
pub const CAPTURE_MEMORY_BYTES: u64 = 1 << 30;
/// The longest document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 768 << 10;

/// Threads whose stacks are shown.
pub const THREADS_MAX: usize = 64;
/// Sockets that are shown.
pub const SOCKETS_MAX: usize = 256;
/// Frames shown of one stack; of a deeper one both ends are kept.
pub const FRAMES_MAX: usize = 64;
/// Longest text that is taken from the target, such as a name of a function, in bytes.
pub const TEXT_BYTES_MAX: usize = 512;

/// Files of an interpreter that are looked at before they are believed, and bytes of the largest that is.
pub(crate) const INTERPRETER_FILES_MAX: usize = 16;
pub(crate) const INTERPRETER_BYTES_MAX: u64 = 512 << 20;

/// Pages of the target that one walk reads, 4 KiB each.
pub(crate) const PAGES_MAX: usize = 8_192;
/// Entries of one dictionary that are looked at.
pub(crate) const DICT_ENTRIES_MAX: u64 = 65_536;
/// Slots of one set that are looked at.
pub(crate) const SET_SLOTS_MAX: u64 = 65_536;
/// Tasks that are looked at, and shown.
pub(crate) const TASKS_MAX: usize = 256;
/// Loops that are looked at.
pub(crate) const LOOPS_MAX: usize = 8;
/// Links of one chain of awaits.
pub(crate) const CHAIN_MAX: usize = 64;
/// Bytes of one table of line numbers.
pub(crate) const LINE_TABLE_BYTES_MAX: usize = 64 << 10;
/// A walk over a process that runs on may meet a torn list: it is tried again so often.
pub(crate) const WALKS_MAX: usize = 3;

/// Bytes of one native stack that are copied.
pub(crate) const STACK_BYTES_MAX: usize = 128 << 10;
/// Frames followed in one native stack.
pub(crate) const UNWIND_FRAMES_MAX: usize = 256;
/// Files whose unwind tables are read.
pub(crate) const MODULES_MAX: usize = 128;
/// Bytes of one section of such a file.
pub(crate) const SECTION_BYTES_MAX: u64 = 64 << 20;
/// Bytes of all sections together.
pub(crate) const SECTIONS_BYTES_MAX: u64 = 160 << 20;
/// Symbols looked at in one file.
pub(crate) const SYMBOLS_MAX: usize = 2_000_000;

/// Puts this process behind a fence: memory, CPU time, no core file, others first. For the process of the capture only; there is
/// no way back.
///
/// # Errors
/// If the system refuses a limit.
pub fn confine() -> io::Result<()> {
    horus_sys::memory::be_modest();
    for (resource, most) in [(Resource::Memory, CAPTURE_MEMORY_BYTES), (Resource::Cpu, CAPTURE_CPU_SECONDS)] {
        let hard = get(resource)?.hard.min(most);
        set(resource, Limit { soft: hard, hard })?;
    }
    Ok(())
}
