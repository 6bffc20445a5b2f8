//! Descriptors that are kept free for what cannot wait: a person who connects, a record that has to be written, evidence.
//!
//! Whatever is held for long and could be done without asks first. The kernel gives out the lowest free number, so the number of a new
//! descriptor tells how many are left.

use crate::limits::{self, Resource};
use std::fs::File;
use std::os::fd::AsRawFd;

/// Most descriptors that are kept free.
const RESERVE_MAX: u64 = 64;
/// Under a low limit it is this part of it.
const RESERVE_PART: u64 = 4;

/// Whether only the reserve is left of what this process may have open.
pub fn are_scarce() -> bool {
    let Ok(limit) = limits::get(Resource::OpenFiles) else { return false };
    // A refusal is what scarcity looks like, too.
    let lowest = File::open("/dev/null").ok().and_then(|file| u64::try_from(file.as_raw_fd()).ok());
    lowest.is_none_or(|lowest| is_in_reserve(lowest, limit.soft))
}

fn is_in_reserve(number: u64, limit: u64) -> bool {
    number >= limit - (limit / RESERVE_PART).min(RESERVE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_or_sixty_four_are_kept() {
        for (number, limit, scarce) in [
            (47, 64, false),
            (48, 64, true),
            (959, 1_024, false),
            (960, 1_024, true),
            (0, u64::MAX, false),
            (0, 0, true),
        ] {
            assert_eq!(is_in_reserve(number, limit), scarce, "{number} of {limit}");
        }
        assert!(!are_scarce(), "a test has few open");
    }
}
