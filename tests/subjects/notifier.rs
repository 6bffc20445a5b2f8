//! Beats by datagrams, a hundred times a second, and writes numbered lines, `--lines` in each beat. What the notify socket
//! refuses is counted and left in the file `--refused`.

#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use horus_tests::subject::{Options, Triggers, leave, rest};

fn main() -> io::Result<()> {
    let options = Options::from_command_line();
    let triggers = Triggers::of(&options);
    let address = std::env::var_os("NOTIFY_SOCKET").map(PathBuf::from).unwrap_or_default();
    let lines = options.number("--lines").unwrap_or(1);
    let refused_file = options.text("--refused").map(PathBuf::from);
    let socket = UnixDatagram::unbound()?;
    let mut out = io::BufWriter::new(io::stdout());
    let (mut beat, mut line, mut refused) = (0_u64, 0_u64, 0_u64);
    while !triggers.strikes("exit") {
        beat += 1;
        let said = format!("READY=1\nWATCHDOG=1\nX_HORUS_SEQ={beat}");
        if let Err(error) = socket.send_to(said.as_bytes(), &address) {
            refused += 1;
            if let Some(file) = &refused_file {
                leave(file, &format!("{refused}: {error}"))?;
            }
        }
        for _ in 0..lines {
            line += 1;
            writeln!(out, "{} line {line:08}", std::process::id())?;
        }
        out.flush()?;
        rest(Duration::from_millis(10));
    }
    Ok(())
}
