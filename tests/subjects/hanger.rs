//! Works, until it is told to hang: then its one loop blocks in `recv` on a connection that never answers.

#![forbid(unsafe_code)]

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use horus_tests::subject::{Beat, Options, Triggers};

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
        if triggers.strikes("exit") {
            writeln!(io::stdout(), "leaving with 3")?;
            return Err(io::Error::other("told to exit"));
        }
    }
}

fn hang() -> io::Result<()> {
    let exchange = TcpListener::bind(("127.0.0.1", 0))?;
    let mut connection = TcpStream::connect(exchange.local_addr()?)?;
    connection.read_exact(&mut [0])
}
