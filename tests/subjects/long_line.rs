//! Writes one line of `--bytes` (100 MB) without a newline, then an ordinary one, then works.

#![forbid(unsafe_code)]

use std::io::{self, Write as _};

const PIECE: usize = 100_000;

use horus_tests::subject::{Beat, Options, Triggers};

fn main() -> io::Result<()> {
    let options = Options::from_command_line();
    let triggers = Triggers::of(&options);
    let bytes =
        options.number("--bytes").and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(100_000_000);
    let mut out = io::stdout().lock();
    let piece = "x".repeat(PIECE);
    for _ in 0..bytes / PIECE {
        out.write_all(piece.as_bytes())?;
    }
    writeln!(out, "\nthe long line is over")?;
    out.flush()?;
    drop(out);
    let mut beat = Beat::at(options.port())?;
    while !triggers.strikes("exit") {
        beat.turn();
    }
    Ok(())
}
