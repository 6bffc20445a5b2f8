//! The kernel sampler against real programs. Each is brought into one condition, by itself, and the sampler has to find the word
//! for it; nobody tells it which.
//!
//! Subjects are small C programs (made by `cc`), Python programs, Node, and this very test program with a tokio runtime. A
//! test whose tool is not there is skipped, and says so by its name.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]
#![expect(clippy::print_stderr, reason = "the runner looks for tests that could not run")]

mod bench;
mod blocked;
mod healthy;
mod held;
mod subject;
