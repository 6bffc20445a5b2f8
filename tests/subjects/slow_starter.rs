//! Takes its time: nothing listens for `--start` milliseconds, then it works.

#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::time::Duration;

use horus_tests::subject::{Beat, Options, Triggers, rest};

fn main() -> io::Result<()> {
    let options = Options::from_command_line();
    let triggers = Triggers::of(&options);
    writeln!(io::stdout(), "loading the model")?;
    rest(options.millis("--start").unwrap_or(Duration::from_secs(60)));
    writeln!(io::stdout(), "the model is loaded")?;
    let mut beat = Beat::at(options.port())?;
    while !triggers.strikes("exit") {
        beat.turn();
    }
    Ok(())
}
