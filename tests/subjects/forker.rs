//! Has a child and a grandchild that was forked twice and leads its own session; ends at SIGTERM and leaves them.

#![forbid(unsafe_code)]

use std::io;

use horus_tests::subject::{Beat, Options, Triggers, family};

fn main() -> io::Result<()> {
    let options = Options::from_command_line();
    if family::live_as_member(&options)? {
        return Ok(());
    }
    let triggers = Triggers::of(&options);
    family::found(&options)?;
    let mut beat = Beat::at(options.port())?;
    while !triggers.strikes("exit") {
        beat.turn();
    }
    Ok(())
}
