//! The keeper with real processes. Each test has its own run directory and leaves no process behind.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise, prints what it measured, and writes plain files"
)]

mod adoption;
mod crash_windows;
mod exclusive;
mod formats;
mod hung;
mod limits;
mod measures;
mod output;
mod protocol;
mod starting;
mod support;
mod taken_away;
mod torture;
mod trees;
mod upgrading;
mod versions;
