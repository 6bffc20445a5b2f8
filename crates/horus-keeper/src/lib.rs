//! The keeper: parent of all children, pump of their output.
//!
//! `horus keep` is one small single-threaded process. It starts programs when Horus asks, moves their output into
//! rotated files, writes down how they ended, kills whole trees, and decides nothing. Horus may die at any instant:
//! the keeper goes on. The keeper may die at any instant: the children go on, and the next keeper adopts them.
//!
//! ```text
//!   Horus --- keeper.sock (JSON lines) --- keeper --- fork, gate --- child
//!     |                                      |                         |
//!     | holds every FIFO too                 +---- splice <-- FIFO <---+ stdout, stderr
//!     | reaps what a dead keeper left        +---- slots/NAME/{gen, state, exit.GEN}
//! ```
//!
//! Where to read: [`protocol`] is what is said over the socket, [`slots`] what is on disk, [`attach`] how Horus finds
//! or starts the keeper, [`observe`] how others look at it, [`replace`] how a hung one is ended, [`run`] the keeper itself, [`logs`] how its log files are read. The crash windows are listed
//! in `docs/design/001-one-keeper.md`.

#![forbid(unsafe_code)]

pub mod logs;
pub mod protocol;
pub mod slots;

mod attach;
mod crash_point;
mod home;
mod keeper;
mod orphans;
mod replace;

pub use attach::{ATTACH_DEADLINE, AttachError, Attached, attach, attach_at, observe};
pub use home::Home;
pub use keeper::run;
pub use orphans::{FifoHold, hold_fifos, reap_orphans, record_exit};
pub use replace::{ReplaceError, Replaced, replace};
