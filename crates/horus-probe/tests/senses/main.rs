//! The senses against real sockets, files and processes.
//!
//! Senders of datagrams are this very test program, started again with a task in its environment (see [`subject`]); the
//! other subjects are shells. The tests need nothing that a bare Debian does not have.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod bench;
mod capture;
mod counters;
mod http;
#[cfg(target_os = "linux")]
mod kernel;
mod local;
mod monitors;
mod notify;
mod stream;
mod subject;
