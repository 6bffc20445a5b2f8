//! The two habits of every system call here: `-1` becomes an [`io::Error`], and `EINTR` is tried again.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A return value whose `-1` means "look at errno".
pub(crate) trait Failure: Copy {
    fn failed(self) -> bool;
}

macro_rules! minus_one_fails {
    ($($t:ty),*) => { $(impl Failure for $t { fn failed(self) -> bool { self == -1 } })* };
}
minus_one_fails!(i32, i64, isize);

/// Turns `-1` into the current `errno`.
pub(crate) fn check<T: Failure>(value: T) -> io::Result<T> {
    if value.failed() { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// Runs a call until it is not interrupted by a signal.
pub(crate) fn retry<T: Failure>(mut call: impl FnMut() -> T) -> io::Result<T> {
    loop {
        match check(call()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A path for the kernel; a NUL byte inside is [`io::ErrorKind::InvalidInput`].
pub(crate) fn path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the path holds a NUL byte"))
}
