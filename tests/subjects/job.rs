//! Works for `--takes` milliseconds and is done, as a program that cron starts. The trigger `slow` makes it work until
//! `release` comes, `fail` makes it end with code 1.

#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use horus_tests::subject::{Options, TURN, Triggers, rest};

fn main() -> io::Result<ExitCode> {
    let options = Options::from_command_line();
    let triggers = Triggers::of(&options);
    let turns = options.millis("--takes").unwrap_or(Duration::ZERO).as_millis() / TURN.as_millis();
    for _ in 0..turns {
        rest(TURN);
        if triggers.strikes("slow") {
            writeln!(io::stdout(), "the report is long today")?;
            while !triggers.strikes("release") {
                rest(TURN);
            }
        }
        if triggers.strikes("fail") {
            writeln!(io::stdout(), "the ledger is locked")?;
            return Ok(ExitCode::FAILURE);
        }
    }
    writeln!(io::stdout(), "report written")?;
    Ok(ExitCode::SUCCESS)
}
