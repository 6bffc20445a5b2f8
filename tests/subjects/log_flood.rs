//! Writes lines as fast as anybody takes them, for ever, while its loop works.

#![forbid(unsafe_code)]

use std::io::{self, Write as _};

use horus_tests::subject::{Beat, Options, Triggers};

fn main() -> io::Result<()> {
    let options = Options::from_command_line();
    let triggers = Triggers::of(&options);
    let mut beat = Beat::at(options.port())?;
    std::thread::spawn(|| {
        let line = "the quick brown fox jumps over the lazy dog, again and again and again and again\n";
        let flood = line.repeat(500);
        while io::stdout().write_all(flood.as_bytes()).is_ok() {}
    });
    while !triggers.strikes("exit") {
        beat.turn();
    }
    Ok(())
}
