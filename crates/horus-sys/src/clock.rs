//! Time for waiting and measuring. Two clocks, never mixed: [`monotonic`] stops while the machine sleeps,
//! [`since_boot`] does not; their difference is the time slept.
//!
//! The time of day is here for one purpose only: to be compared with those two. So it comes in one [`Reading`] with
//! them, and alone from nowhere.

use std::io;
use std::time::Duration;

/// How far apart the clocks of one [`Reading`] may have been read.
pub const TOGETHER_MAX: Duration = Duration::from_millis(10);

/// How often a reading that was interrupted is tried again.
const READING_ATTEMPTS_MAX: usize = 8;

/// All clocks at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// As of [`monotonic`]: without the time that the machine slept.
    pub awake: Duration,
    /// As of [`since_boot`]: with it.
    pub since_boot: Duration,
    /// The time of day, since the start of 1970 (UTC). Somebody may set it, forward or back, at any time.
    pub wall: Duration,
}

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

/// All clocks, read within [`TOGETHER_MAX`] of each other. `None` if that did not come about: this process was stopped
/// or suspended in the middle of each attempt, and clocks read apart would look like one that was set.
pub fn together() -> Option<Reading> {
    (0..READING_ATTEMPTS_MAX).find_map(|_| {
        // This clock goes on whatever happens, so it stands around the others.
        let since_boot = since_boot();
        let (awake, wall) = (monotonic(), read(libc::CLOCK_REALTIME));
        let took = crate::os::since_boot().saturating_sub(since_boot);
        (took <= TOGETHER_MAX).then_some(Reading { awake, since_boot, wall })
    })
}

/// A text that is different after every boot of this machine. Errors when the system will not say.
pub fn boot_id() -> io::Result<String> {
    crate::os::boot_id()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clocks_go_forward_at_the_same_pace() {
        let first = together().unwrap();
        let mut second = together().unwrap();
        while second.awake < first.awake + Duration::from_millis(5) {
            second = together().unwrap();
        }
        let (awake, since_boot) = (second.awake - first.awake, second.since_boot - first.since_boot);
        assert!(since_boot.abs_diff(awake) <= 2 * TOGETHER_MAX, "{first:?} {second:?}");
        assert!(first.since_boot + TOGETHER_MAX >= first.awake, "{first:?}");
        assert!(first.wall > Duration::from_secs(1_700_000_000), "{first:?}");
    }
}
