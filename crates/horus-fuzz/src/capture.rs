//! The memory of another process, read by the walk over asyncio tasks. Whoever is watched may write anything into it.
//!
//! Promised: the walk comes to an end within its budget of pages, whatever the words point to, and shows no more tasks, loops and
//! links than it may.

use horus_capture::fuzz::{Heap, walk};

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
