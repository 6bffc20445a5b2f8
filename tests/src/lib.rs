//! End-to-end scenarios against real processes: the house in which they play.
//!
//! ```text
//!   Rig --+-- Room      a folder with a short name, free ports, and a mark by which every process of it is known
//!         +-- horus     the real program, started, killed and started again
//!         +-- Journal   every event, followed over the real socket; tests wait on it and on nothing else
//!         +-- Sinks     a Discord and a Slack that enforce the documented limits
//!         +-- subjects  programs that go wrong in one known way each, when a test drops a file
//! ```
//!
//! No test sleeps for a length of time and hopes: each waits for an event, with a failsafe. A test that fails prints the
//! journal and the daemon's log. Whatever happens, no process with the room's mark survives the test.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a rig that cannot go on fails the test and says why"
)]

mod binaries;
mod journal;
mod pressure;
mod rig;
mod room;
mod sinks;
pub mod subject;

pub use binaries::Binaries;
pub use journal::{Journal, brief};
pub use rig::{Options, Output, Rig, name};
pub use room::Room;
pub use sinks::{Said, Sinks};

use std::time::Duration;

/// The failsafe of every wait: far longer than anything takes, also on a machine that is busy with other things.
pub const FAILSAFE: Duration = Duration::from_secs(60);

/// Says on standard error that a scenario cannot be played here, and why.
pub fn skipped(name: &str, reason: &str) {
    eprintln!("SKIPPED: {name}: {reason}");
}

/// Says a figure that whoever runs the tests may want to read; nothing is asserted of it.
pub fn measured(name: &str, figure: &str) {
    eprintln!("MEASURED: {name}: {figure}");
}
