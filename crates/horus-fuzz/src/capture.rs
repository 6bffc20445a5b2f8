//! The memory of another process, read by the walk over asyncio tasks. Whoever is watched may write anything into it.
//!
//! Promised: the walk comes to an end within its budget of pages, whatever the words point to, and shows no more tasks, loops and
//! links than it may. The same of the files that it has mapped: their sections, names and unwind tables, and a stack that is unwound
//! by them, may say anything.

use horus_capture::fuzz::{Heap, file, walk};

/// Any bytes are the memory, again and again, so that every pointer leads somewhere.
pub fn check_bytes(bytes: &[u8]) {
    walk(bytes, 8_192);
}

/// A heap that is well-made as far as it goes, with some words exchanged: the walk gets deep before it meets what is odd.
pub fn check_bent(input: &(u8, Vec<(u16, u64)>)) {
    let (minor, bends) = input;
    let mut heap = Heap::new(11 + u64::from(minor % 3));
    assert_eq!(heap.tasks(), Ok(1), "the heap is understood as it is made");
    for (place, word) in bends {
        heap.bend(usize::from(*place), *word);
    }
    // What it says does not matter any more: that it ends, and stays within its limits, does.
    let _ = heap.tasks();
}

/// Any bytes are a file and a stack.
pub fn check_file(bytes: &[u8]) {
    let (one, other) = bytes.split_at(bytes.len() / 2);
    let _ = (file::unwind(one, other), file::unwind(bytes, bytes));
}

/// A file that is well-made as far as it goes, with some bytes exchanged, and any stack.
pub fn check_bent_file(input: &(Vec<(u16, u8)>, Vec<u8>)) {
    let (bends, stack) = input;
    let mut bytes = file::small();
    for (place, byte) in bends {
        let place = usize::from(*place) % bytes.len();
        bytes.get_mut(place).into_iter().for_each(|there| *there = *byte);
    }
    let _ = file::unwind(&bytes, stack);
}
