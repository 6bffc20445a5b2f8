//! Captures of real programs that hang, work and lie.
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "the subjects of these tests are processes")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

mod dying;
mod hostile;
mod hung;
mod poisoned;
mod subject;
mod torn;
mod witness;
