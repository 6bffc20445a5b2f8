//! Named places at which a test can make this process die as if by `kill -9`.
//!
//! `HORUS_KEEPER_TEST_DIE_AT=name` is for tests only: it lets them hit every crash window of the protocol for certain
//! instead of by luck. It harms nobody in production: whoever can set the keeper's environment can kill it as well.

use horus_sys::process;
use std::sync::OnceLock;

/// The environment variable that names the place.
pub(crate) const VARIABLE: &str = "HORUS_KEEPER_TEST_DIE_AT";

/// Dies here if a test asked for it.
pub(crate) fn crash_point(name: &str) {
    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var(VARIABLE).ok());
    if wanted.as_deref() == Some(name) {
        process::die_as_if_killed();
    }
}
