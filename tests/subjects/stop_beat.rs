//! Healthy for ever, but at `--age` milliseconds its beat falls silent: connections are taken and not answered.

#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::time::Duration;

use horus_tests::subject::{Beat, Options, TURN, Triggers};

fn main() -> io::Result<()> {
    let options = Options::from_command_line();
    let triggers = Triggers::of(&options);
    let mut beat = Beat::at(options.port())?;
    let age = options.millis("--age").unwrap_or(Duration::from_secs(2));
    let turns = u64::try_from(age.as_millis() / TURN.as_millis()).unwrap_or(u64::MAX);
    while !triggers.strikes("exit") {
        beat.turn();
        if beat.seq == turns {
            writeln!(io::stdout(), "the beat stops, the work goes on")?;
            beat.muted = true;
        }
    }
    Ok(())
}
