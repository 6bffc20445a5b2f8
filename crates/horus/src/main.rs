//! Horus, a self-healing watchdog supervisor.
//!
//! One program, three lives: the command line, the daemon that it starts and speaks to, and the keeper that is the
//! parent of every supervised process.
#![forbid(unsafe_code)]

mod cli;
mod daemon;

use std::process::ExitCode;

use cli::Invocation;

fn main() -> ExitCode {
    cli::guarded(|| match cli::invocation(std::env::args_os()) {
        Invocation::Run(args) => daemon::run(args),
        Invocation::Keep(args) => daemon::keep(args),
        Invocation::Rehearse(place, args) => daemon::handover::rehearse(&place, &args),
        Invocation::Over(status) => status.into(),
    })
}
