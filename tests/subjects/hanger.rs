//! Works, until it is told to hang: then its one loop blocks in `recv` on a connection that never answers.

#![forbid(unsafe_code)]

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{SystemTime, UNIX_EPOCH};

use horus_tests::subject::{Beat, Options, TURN, Triggers, rest};

fn main() -> io::Result<()> {
    let options = Options::from_command_line();
    let triggers = Triggers::of(&options);
    let mut beat = Beat::at(options.port())?;
    if let Some(name) = options.text("--say-variable") {
        writeln!(io::stdout(), "{name} is {}", std::env::var(name).unwrap_or_default())?;
    }
    let talks = options.has("--talk");
    writeln!(io::stdout(), "hello from {}", std::process::id())?;
    loop {
        beat.turn();
        if talks {
            writeln!(io::stdout(), "{} line {:06}", std::process::id(), beat.seq)?;
        }
        if triggers.strikes("hang") {
            writeln!(io::stdout(), "asking the exchange for the order book")?;
            hang()?;
        }
        if triggers.strikes("halt") {
            // It stops itself on purpose: a loss limit, a person's switch.
            beat.declares = r#""state":"halted""#.into();
            turns(&mut beat, 50);
            writeln!(io::stdout(), "halted")?;
            return Ok(());
        }
        if triggers.strikes("busy") {
            // A step of four seconds, declared with a second to spare; the tick stands still.
            #[expect(clippy::disallowed_methods, reason = "the beat carries a time of day")]
            let until = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis()) + 5_000;
            beat.declares = format!(r#""state":"busy","busy_until_ms":{until}"#);
            for _ in 0..200 {
                beat.answer();
                rest(TURN);
            }
            beat.declares = r#""state":"ok""#.into();
        }
        if triggers.strikes("hide") {
            beat.hide();
        }
        if triggers.strikes("exit") {
            writeln!(io::stdout(), "leaving with 3")?;
            return Err(io::Error::other("told to exit"));
        }
    }
}

fn turns(beat: &mut Beat, count: u32) {
    for _ in 0..count {
        beat.turn();
    }
}

fn hang() -> io::Result<()> {
    let exchange = TcpListener::bind(("127.0.0.1", 0))?;
    let mut connection = TcpStream::connect(exchange.local_addr()?)?;
    connection.read_exact(&mut [0])
}
