//! The program that `cargo xtask bench` puts under supervision, and the bare supervisor that it is compared with.
//!
//! ```text
//!   bench-subject stamp SOCKET NAME        tell the bench when the first instruction ran, then stand by
//!   bench-subject beat SOCKET NAME PORT    the same, and serve a heartbeat
//!   bench-subject lines SOCKET NAME COUNT  write COUNT lines of 100 bytes when ordered to, and say when somebody took the last
//!   bench-subject print COUNT              the same lines, at once, to whoever reads them
//!   bench-subject bare SOCKET NAME COUNT   fork+exec COUNT stamps; start the one again when it ends, at once
//! ```
//!
//! The standard library only: what is measured is the supervisor, not a runtime. A subject tells the bench over a unix
//! socket who it is and when it began, and takes orders there: `hang` (accepts, answers nothing) and `lie` (answers
//! 200, the tick stands still). When it dies, the socket closes: that is how the bench learns of the instant.
#![forbid(unsafe_code)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How often the tick moves, in milliseconds.
const TICK_MS: u64 = 100;

/// Longest request line and longest header that is read, in bytes.
const LINE_BYTES_MAX: u64 = 8 << 10;

/// What a subject does with a request. The tick at which it went wrong stands beside it.
const WELL: u64 = u64::MAX;

/// What has become of the subject.
struct Health {
    /// The tick at which it began to lie, or [`WELL`].
    lies_since: AtomicU64,
    /// The same for a hang.
    hangs_since: AtomicU64,
    born: Duration,
}

fn main() -> ExitCode {
    // The first act, before the arguments are looked at: this is the instant that counts.
    let born = horus_sys::clock::monotonic();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["stamp", socket, name] => stand_by(socket, name, born, None),
        ["beat", socket, name, port] => stand_by(socket, name, born, port.parse().ok()),
        ["lines", socket, name, count] => talk(socket, name, born, count.parse().unwrap_or(0)),
        ["print", count] => print(count.parse().unwrap_or(0)),
        ["bare", socket, name, count] => supervise(socket, name, count.parse().unwrap_or(1)),
        _ => return ExitCode::from(64),
    };
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn stand_by(socket: &str, name: &str, born: Duration, port: Option<u16>) -> std::io::Result<()> {
    let well = || AtomicU64::new(WELL);
    let health = Arc::new(Health { lies_since: well(), hangs_since: well(), born });
    if let Some(port) = port {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        let health = Arc::clone(&health);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let health = Arc::clone(&health);
                thread::spawn(move || answer(&connection, &health));
            }
        });
    }
    let mut bench = UnixStream::connect(socket)?;
    writeln!(bench, "{name} {} {}", std::process::id(), born.as_nanos())?;
    // Ends with the bench, so that nothing of it is left behind.
    for order in BufReader::new(bench.try_clone()?).lines() {
        let cell = match order?.as_str() {
            "hang" => &health.hangs_since,
            "lie" => &health.lies_since,
            _ => continue,
        };
        cell.store(health.tick(), Ordering::SeqCst);
        writeln!(bench, "done {}", horus_sys::clock::monotonic().as_nanos())?;
    }
    Ok(())
}

/// Lines that are written at once.
const LINES_A_WRITE: u64 = 640;

/// Numbered lines of 100 bytes with their ends: what is missing can be told, and which.
fn print(count: u64) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let mut first = 0;
    while first < count {
        let next = count.min(first + LINES_A_WRITE);
        let lines: String = (first..next).map(|number| format!("{number:012} {:.<86}\n", "")).collect();
        out.write_all(lines.as_bytes())?;
        first = next;
    }
    out.flush()
}

fn talk(socket: &str, name: &str, born: Duration, count: u64) -> std::io::Result<()> {
    let mut bench = UnixStream::connect(socket)?;
    writeln!(bench, "{name} {} {}", std::process::id(), born.as_nanos())?;
    for order in BufReader::new(bench.try_clone()?).lines() {
        if order? == "talk" {
            print(count)?;
            writeln!(bench, "done {}", horus_sys::clock::monotonic().as_nanos())?;
        }
    }
    Ok(())
}

impl Health {
    /// Moves by itself as long as it is asked: a main loop that turns ten times a second.
    fn tick(&self) -> u64 {
        let age = horus_sys::clock::monotonic().saturating_sub(self.born);
        u64::try_from(age.as_millis()).unwrap_or(0) / TICK_MS
    }
}

fn answer(connection: &TcpStream, health: &Health) {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    loop {
        line.clear();
        match reader.by_ref().take(LINE_BYTES_MAX).read_line(&mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if line.trim().is_empty() => {}
            Ok(_) => continue,
        }
        while health.hangs_since.load(Ordering::SeqCst) != WELL {
            thread::park();
        }
        let seq = health.tick().min(health.lies_since.load(Ordering::SeqCst));
        let body = format!("{{\"schema\":1,\"seq\":{seq},\"state\":\"ok\"}}");
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length:";
        let mut connection = connection;
        if write!(connection, "{head} {}\r\n\r\n{body}", body.len()).is_err() {
            return;
        }
    }
}

/// The least that can be called a supervisor: it starts, waits, and starts again.
#[expect(clippy::disallowed_methods, reason = "the bare baseline is a fork and an exec, and nothing else")]
fn supervise(socket: &str, name: &str, count: usize) -> std::io::Result<()> {
    let own = std::env::current_exe()?;
    let start = |index: usize| {
        let mut subject = std::process::Command::new(&own);
        subject.args(["stamp", socket, &format!("{name}{index}")]).spawn()
    };
    let mut first = start(0)?;
    let others: Vec<_> = (1..count).map(start).collect();
    while Path::new(socket).exists() {
        first.wait()?;
        first = start(0)?;
    }
    drop(others);
    Ok(())
}
