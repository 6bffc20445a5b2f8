//! Keeps books about its own life, for whoever kills everything around it: when it began, each line that it has written, and with
//! which code it ended. A lock that the kernel holds for it says whether two of it live at once.
//!
//! `--name N --room FOLDER [--port P] [--rate LINES_PER_S] [--life MS --spread MS]`: without a life it lives until it is stopped.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use horus_tests::subject::{Beat, Options, TURN, rest};

fn main() -> io::Result<ExitCode> {
    let options = Options::from_command_line();
    let Some(name) = options.text("--name") else { return Err(io::Error::other("--name is missing")) };
    let Some(room) = options.text("--room").map(PathBuf::from) else {
        return Err(io::Error::other("--room is missing"));
    };
    let (pid, generation) = (std::process::id(), std::env::var("HORUS_GENERATION").unwrap_or_default());
    let mut book = File::options().append(true).open(room.join("book"))?;
    let lock = File::create(room.join(format!("{name}.lock")))?;
    let alone = lock.try_lock().is_ok();
    let begins = if alone { 'S' } else { 'D' };
    // One write each: several processes write to this book.
    book.write_all(format!("{begins} {name} {generation} {pid} 0 0\n").as_bytes())?;

    let mut lines = Lines::new(pid, &File::create(room.join(format!("{name}.{pid}.written")))?)?;
    let mut beat = options.text("--port").map(|_| Beat::at(options.port())).transpose()?;
    let life = options.millis("--life").map(|life| {
        let spread = options.number("--spread").unwrap_or_default().max(1);
        life + Duration::from_millis(u64::from(pid).wrapping_mul(2_654_435_761) % spread)
    });
    let rate = options.number("--rate").unwrap_or_default();
    let (began, mut asked) = (now(), 0);
    while life.is_none_or(|life| began.elapsed() < life) {
        match &mut beat {
            Some(beat) => beat.turn(),
            None => rest(TURN),
        }
        asked += rate * u64::try_from(TURN.as_millis()).unwrap_or_default();
        lines.write(asked / 1_000)?;
        asked %= 1_000;
    }
    lines.write(3)?;
    let code = u8::try_from(pid % 200).unwrap_or_default() + 1;
    book.write_all(format!("E {name} {generation} {pid} {code} {}\n", lines.count).as_bytes())?;
    Ok(ExitCode::from(code))
}

/// Numbered lines, and how many of them somebody has taken.
struct Lines {
    pid: u32,
    count: u64,
    written: File,
}

impl Lines {
    fn new(pid: u32, written: &File) -> io::Result<Self> {
        Ok(Self { pid, count: 0, written: written.try_clone()? })
    }

    fn write(&mut self, count: u64) -> io::Result<()> {
        if count == 0 {
            return Ok(());
        }
        let lines: String = (self.count..self.count + count).map(|n| format!("{} {n}\n", self.pid)).collect();
        io::stdout().write_all(lines.as_bytes())?;
        io::stdout().flush()?;
        self.count += count;
        self.written.write_all_at(format!("{:020}", self.count).as_bytes(), 0)
    }
}

#[expect(clippy::disallowed_methods, reason = "a subject measures its own life")]
fn now() -> Instant {
    Instant::now()
}
