//! Named places at which a test can make this process die as if by `kill -9`.
//!
//! `HORUS_KEEPER_TEST_DIE_AT=name` (the keeper) and `HORUS_TEST_DIE_AT=name` (Horus) are for tests only: it lets them hit every crash window of the protocol for certain
//! instead of by luck. With `..._HANG_AT` the keeper turns round for ever at that place instead. It harms nobody in production: whoever can set the keeper's environment can kill it as well.

use horus_sys::process;
use std::sync::OnceLock;

/// The environment variable that names the place.
const VARIABLE: &str = "HORUS_KEEPER_TEST_DIE_AT";

/// Where the keeper hangs instead.
const HANG_VARIABLE: &str = "HORUS_KEEPER_TEST_HANG_AT";
/// The place in Horus. Not under the prefix that Horus passes on to its keeper.
const HORUS_VARIABLE: &str = "HORUS_TEST_DIE_AT";

/// Dies here, or hangs, if a test asked for it. For the keeper.
pub(crate) fn crash_point(name: &str) {
    static DIE: OnceLock<Option<String>> = OnceLock::new();
    static HANG: OnceLock<Option<String>> = OnceLock::new();
    if is_wanted(&DIE, VARIABLE, name) {
        process::die_as_if_killed();
    }
    while is_wanted(&HANG, HANG_VARIABLE, name) {
        std::hint::spin_loop();
    }
}

/// The same for code that runs in Horus.
pub(crate) fn crash_point_of_horus(name: &str) {
    static DIE: OnceLock<Option<String>> = OnceLock::new();
    if is_wanted(&DIE, HORUS_VARIABLE, name) {
        process::die_as_if_killed();
    }
}

fn is_wanted(wanted: &OnceLock<Option<String>>, variable: &str, name: &str) -> bool {
    wanted.get_or_init(|| std::env::var(variable).ok()).as_deref() == Some(name)
}
