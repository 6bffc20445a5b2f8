//! Whatever bytes arrive, what Horus makes of them keeps its promises.
//!
//! A target is a function of bytes. It gives them to a parser of Horus and checks what the rest of the house relies on:
//! not only that nothing panics, but that limits hold, that what was written reads back, that one bad row costs no other
//! and that no secret is shown.
//!
//! ```text
//!   bytes ──┬── as they are ────────────────────────────> parser ──> promises
//!           ├── edit a real example (`mutate`) ─────────> parser ──> promises
//!           └── dream a well-typed value (`dream`) ─────> writer, parser or engine ──> promises
//! ```
//!
//! The same functions run under `cargo test` for some seconds with random bytes, and under `cargo xtask fuzz` for as long
//! as one likes, where libFuzzer is led by the coverage. Examples lie in `tests/__fuzz__/TARGET/corpus`, inputs that once
//! broke a promise in `tests/__fuzz__/TARGET/crashes`; both are tried first, always.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "only the tests of this crate call it, and a broken promise has to fail loudly"
)]

pub mod capture;
pub mod config;
pub mod counters;
pub mod dream;
pub mod engine;
pub mod heartbeat;
pub mod journal;
pub mod keeper;
pub mod mutate;
pub mod notify;
pub mod proc_text;
pub mod recording;
pub mod seeds;
pub mod source;

use jiff::Timestamp;

/// The time of day in all targets: a failing input must fail tomorrow, too.
pub fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a year that there is")
}

/// Asserts that a text from outside may be shown: one line, nothing that moves a cursor or turns the reading order.
pub fn assert_showable(text: &str, what: &str) {
    let harmful = |character: &char| {
        character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let found = text.chars().find(harmful);
    assert!(found.is_none(), "{what} holds {found:?}: {text:?}");
}
