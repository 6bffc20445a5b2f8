//! Says its last words and ends: at once, or after `--after` milliseconds, with `--code`.

#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use horus_tests::subject::{Options, rest};

fn main() -> io::Result<ExitCode> {
    let options = Options::from_command_line();
    rest(options.millis("--after").unwrap_or(Duration::ZERO));
    writeln!(io::stdout(), "{}", options.text("--words").unwrap_or("KeyError: 'feed_url'"))?;
    let code = options.number("--code").and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}
