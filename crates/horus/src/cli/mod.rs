//! The command line: words in, words out.
//!
//! ```text
//!   args --parse--> CommandLine --dispatch--> verbs --Client--> daemon
//!                                               |
//!                            render (pure) <----+----> Output: the one place that writes
//! ```
//!
//! A verb returns how the program ends, or a [`Fault`] that says what to type next. Only [`Output`] prints, only
//! [`ExitStatus`] knows the numbers, and everything in `render` can be tested without a terminal.

pub(crate) mod args;
mod bundle;
mod drill;
mod exit;
mod fault;
mod locate;
mod output;
mod recorded;
mod render;
mod replay;
mod selftest;
mod simulate;
mod tune;
mod verbs;
pub(crate) mod words;

#[cfg(test)]
mod reference;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;

pub(crate) use args::{KeepArgs, Place, RehearseArgs, RunArgs};
pub(crate) use exit::ExitStatus;

use args::CommandLine;
use fault::Fault;
use output::Output;

/// What is left to do after the command line was read.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Be the daemon.
    Run(RunArgs),
    /// Be the keeper.
    Keep(KeepArgs),
    /// Say whether this program could take over.
    Rehearse(Place, RehearseArgs),
    /// Nothing: it was done, or it failed.
    Over(ExitStatus),
}

/// Reads the command line and does what it asks, apart from being the daemon or the keeper.
pub(crate) fn invocation(arguments: impl IntoIterator<Item = OsString>) -> Invocation {
    let output = Output::of_process();
    let outcome = match CommandLine::try_parse_from(arguments) {
        Ok(line) => verbs::dispatch(line, &output),
        Err(error) => refused(&error),
    };
    outcome.unwrap_or_else(|fault| Invocation::Over(tell(fault, &output).unwrap_or(ExitStatus::Done)))
}

/// Help and version are no faults; anything else that clap says is.
fn refused(error: &clap::Error) -> Result<Invocation, Fault> {
    error.print()?;
    Ok(Invocation::Over(if error.use_stderr() { ExitStatus::Usage } else { ExitStatus::Done }))
}

/// Shows a fault on stderr. `Err`: the reader has gone, and so do we.
fn tell(fault: Fault, output: &Output) -> Result<ExitStatus, Fault> {
    match fault {
        Fault::ClosedPipe => Err(Fault::ClosedPipe),
        Fault::Said(said) => {
            output.note(&said.render())?;
            Ok(said.status)
        }
    }
}

/// Runs `main`; a panic in it is a bug of Horus and ends with the exit code for that.
pub(crate) fn guarded(main: impl FnOnce() -> ExitCode) -> ExitCode {
    catch_unwind(AssertUnwindSafe(main)).unwrap_or_else(|_panic| {
        let message = "this is a bug in horus";
        let hint = "please report it, with the lines above and what you did";
        let fault = Fault::new(ExitStatus::Bug, message, hint);
        // If nobody reads stderr, the exit code still says it.
        tell(fault, &Output::of_process()).unwrap_or(ExitStatus::Bug).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_bug_and_says_so() {
        let code = guarded(|| panic!("on purpose"));
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(70)));
    }
}
