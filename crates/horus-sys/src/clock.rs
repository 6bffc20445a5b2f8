//! Time for waiting and measuring. Two clocks, never mixed: [`monotonic`] stops while the machine sleeps,
//! [`since_boot`] does not; their difference is the time slept. Wall time is not here on purpose.

use std::io;
use std::time::Duration;

pub(crate) fn read(clock: libc::clockid_t) -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec for the kernel to fill.
    let result = unsafe { libc::clock_gettime(clock, &raw mut now) };
    debug_assert_eq!(result, 0, "the clocks used here always exist");
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}

/// Time since an arbitrary point of this boot. Never steps back, does not count suspend. Comparable between processes.
pub fn monotonic() -> Duration {
    crate::os::monotonic()
}

/// Time since boot, suspend included.
pub fn since_boot() -> Duration {
    crate::os::since_boot()
}

/// A text that is different after every boot of this machine. Errors when the system will not say.
pub fn boot_id() -> io::Result<String> {
    crate::os::boot_id()
}
