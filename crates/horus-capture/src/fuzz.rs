//! For fuzz targets only: walks over a memory of somebody's dreams.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use crate::limits::PAGES_MAX;
use crate::memory::{Memory, Pages};
use crate::python::{Layout, tasks};

/// The same bytes again and again, at addresses from 4,096 to the end of a small world: every pointer of a dream leads somewhere.
struct Dream<'a> {
    bytes: &'a [u8],
    read: &'a Cell<usize>,
}

impl Memory for Dream<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> io::Result<usize> {
        self.read.set(self.read.get() + 1);
        let start = usize::try_from(address).map_err(io::Error::other)? % self.bytes.len().max(1);
        if self.bytes.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let dream = self.bytes.iter().copied().cycle().skip(start);
        into.iter_mut().zip(dream).for_each(|(to, from)| *to = from);
        Ok(into.len())
    }
}

/// Walks over `bytes` as if they were a heap of each known version, from a `sys.modules` at `modules`. Returns how many pages
/// were read, which never are more than the limit allows.
pub fn walk(bytes: &[u8], modules: u64) -> usize {
    let read = Cell::new(0);
    for minor in 11..=13 {
        read.set(0);
        let pages = Pages::new(Dream { bytes, read: &read });
        if let Some(layout) = Layout::of(3, minor) {
            // Whatever it says: that it comes to an end is what counts.
            let _ = tasks::census(&pages, layout, modules, Duration::ZERO);
        }
        assert!(read.get() <= PAGES_MAX, "{} pages", read.get());
    }
    read.get()
}
