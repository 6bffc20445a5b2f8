//! Upgrade in place: this process becomes another program and goes on with everything it has.
//!
//! ```text
//!   asked --> may it be run? --> tried out --> door shut --> memory on disk --> handover --> exec
//!                  |                 |                            |                |          |
//!                  +-----------------+----------- refused --------+----------------+----------+   nothing has changed
//!
//!   the new program:  takes over locks, sockets, FIFOs --> knows what the keeper has --> the keeper becomes it, too
//!                            |
//!                            +-- cannot start: executes the former program, which goes on and says why
//! ```
//!
//! An upgrade is a SIGKILL that keeps descriptors. It has no end of its own: what must not be lost is on disk or in the
//! keeper already, because Horus may be killed at any instant, and the new program wakes as after a kill. What the handover
//! adds is that nobody finds the house empty meanwhile: the locks stay held, and who connects or beats waits in a queue.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `trust` | whether a file may be executed by this Horus at all |
//! | `rehearsal` | the new program tries itself out, and what both sides can read of each other |
//! | `upgrader` | the procedure, up to the point at which the judge's loop stops |
//! | `departure` | the last steps of the old program |
//! | `record` | what one program tells the next |
//! | `arrival` | the first steps of the new one, and the way back |
//! | `keeper_part` | the keeper becomes the new program as well |
//! | `door` | the API, which can be shut for a moment without anybody being refused |
//!
//! docs/design/005-upgrade.md tells what was decided, and what was not.

pub(super) mod arrival;
pub(super) mod departure;
pub(super) mod door;
mod keeper_part;
mod pending;
mod program;
mod record;
mod rehearsal;
mod trust;
pub(super) mod upgrader;

pub(crate) use rehearsal::rehearse;

pub(super) use pending::{give_way_if_it_dies_again, home_of_other, tell_of_a_death, tell_of_other};
pub(super) use program::Program;

use horus_sys::signal::Signal;

/// Signals that wait while the process changes its program: neither program could do what they ask for.
const HELD: [Signal; 5] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR2];

/// From now on signals are heard: those that came while no program could hear them come first.
pub(super) fn hear_signals() {
    if let Err(error) = horus_sys::signal::let_through(&HELD) {
        tracing::error!(%error, "signals to Horus are not heard");
    }
}
