//! Named places at which a test can make this Horus die, panic or stand still.
//!
//! `HORUS_TEST_TROUBLE` names a folder. A file in it that is called as a place (such as `loop`) is taken away when the
//! place is passed, and what it says happens there: `die`, `panic` or `block`. So a test chooses the moment: after a child
//! has become ready, say. Without the variable a place costs one look at a constant. It harms nobody in production: whoever
//! can set the environment of Horus can kill it as well. It is not passed on to the keeper, which has places of its own.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use horus_sys::process;

/// The environment variable that names the folder.
pub(super) const FOLDER: &str = "HORUS_TEST_TROUBLE";

/// The environment variable that says after how many milliseconds a loop that stands still is given up.
const HUNG_AFTER: &str = "HORUS_TEST_HUNG_AFTER_MS";

/// The environment variable that says after how many milliseconds a program that is tried out is given up.
const REHEARSAL_MAX: &str = "HORUS_TEST_REHEARSAL_MAX_MS";

/// Has trouble here if a test asked for it.
#[expect(clippy::panic, reason = "a test asked for it")]
pub(super) fn place(name: &str) {
    static WANTED: OnceLock<Option<PathBuf>> = OnceLock::new();
    let Some(folder) = WANTED.get_or_init(|| std::env::var_os(FOLDER).map(PathBuf::from)) else { return };
    let file = folder.join(name);
    let Ok(trouble) = std::fs::read_to_string(&file) else { return };
    let _ = std::fs::remove_file(&file);
    match trouble.trim() {
        "die" => process::die_as_if_killed(),
        "panic" => panic!("a test asked for a panic at {name}"),
        _ => stand_still(),
    }
}

/// The limit that a test wants instead of the usual one.
pub(super) fn hung_after() -> Option<Duration> {
    millis(HUNG_AFTER)
}

/// The same, for a program that is tried out.
pub(super) fn rehearsal_max() -> Option<Duration> {
    millis(REHEARSAL_MAX)
}

fn millis(name: &str) -> Option<Duration> {
    std::env::var(name).ok()?.parse().ok().map(Duration::from_millis)
}

#[inline(never)]
fn stand_still() {
    loop {
        std::thread::park();
    }
}
