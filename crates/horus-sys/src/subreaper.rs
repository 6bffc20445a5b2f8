//! Becoming the reaper of one's orphaned descendants.

use crate::fact::Fact;

/// Asks the kernel that orphaned descendants become *our* children, not those of pid 1. Linux only; on macOS orphans
/// always go to launchd, and the answer is [`crate::fact::Missing::Unsupported`].
pub fn become_one() -> Fact<()> {
    Fact::from(crate::os::become_subreaper())
}
