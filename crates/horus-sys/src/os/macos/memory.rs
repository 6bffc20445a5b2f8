//! Memory of other processes needs a task port, which only a signed debugger or root gets: it is missing here.

use crate::limits::{Limit, Resource, set};
use crate::memory::Region;
use std::fs::File;
use std::io;

pub(crate) fn read(_pid: i32, _address: u64, _into: &mut [u8]) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn regions(_pid: i32) -> io::Result<Vec<Region>> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn open_mapped(_pid: i32, _region: &Region) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(crate) fn be_modest() {
    // Best effort: a capture that leaves a core file is still a capture.
    let _ = set(Resource::Core, Limit { soft: 0, hard: 0 });
}
