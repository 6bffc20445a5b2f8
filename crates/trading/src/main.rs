//! Supervised service: signals from recorded market data, traded on paper.
//!
//! Reading order: `tape` (the market), `bars`, `indicators`, `score`, `gates`, `venue`, `ledger`, `store`,
//! then `engine`, which makes one step of them, and `service`, which turns the loop under supervision.

#![forbid(unsafe_code)]

mod bars;
mod derive;
mod engine;
mod gates;
mod indicators;
mod ledger;
mod pages;
mod score;
mod service;
mod store;
mod tape;
mod units;
mod venue;

use std::fs::File;
use std::io::{self, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use horus_heartbeat::fault::FaultPlan;
use tracing_subscriber::EnvFilter;

use crate::service::{Fault, Options, chain};
use crate::tape::Tape;

/// sysexits: done wrong on the command line.
const EXIT_USAGE: u8 = 64;
/// sysexits: the input is not what it should be.
const EXIT_DATA: u8 = 65;
/// sysexits: something that is needed is not available.
const EXIT_UNAVAILABLE: u8 = 69;
/// sysexits: asked for something that must not be.
const EXIT_CONFIG: u8 = 78;

/// Signals from recorded market data, traded on paper. No order leaves this program.
#[derive(Parser)]
#[command(name = "trading", version, about)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Play the market and trade it on paper, until SIGTERM
    Run(RunArguments),
    /// Look at the recorded market, or derive it anew
    #[command(subcommand)]
    Tape(TapeVerb),
}

#[derive(clap::Args)]
struct RunArguments {
    /// Where the market comes from
    #[arg(long, value_enum, default_value_t = Feed::Tape)]
    feed: Feed,
    /// Where the heartbeat and the public pages are served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7801")]
    listen: SocketAddr,
    /// Seconds of tape played in one second (0.01 to 1000)
    #[arg(long, default_value = "1", value_parser = parse_speed)]
    speed: f64,
    /// Where positions, cash and the journal are kept
    #[arg(long, value_name = "DIR", default_value = "trading-state")]
    state: PathBuf,
    /// Go wrong on purpose: hang@20s, stall-stage=NAME@20s, lie@20s, crash@20s, crash=panic@20s,
    /// crash=abort@20s, slow-start=60s, deaf, stop-beat@129s; with `,once` not again after a restart
    #[arg(long, value_name = "KIND[@AFTER]", env = "TRADING_FAULT")]
    fault: Option<FaultPlan>,
    /// Refused: there is no live mode
    #[arg(long)]
    live: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Feed {
    /// The recording that is built in, in a loop
    Tape,
}

#[derive(Subcommand)]
enum TapeVerb {
    /// Say what is on the built-in tape
    Info,
    /// Derive a tape from recorded events (see data/README.md) and print it
    Derive {
        /// The events, one JSON object a line
        input: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let usage = error.use_stderr();
            // If even this cannot be printed, there is nobody to tell.
            let _ = error.print();
            return if usage { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.verb {
        Verb::Run(arguments) => run(arguments),
        Verb::Tape(TapeVerb::Info) => match Tape::recorded() {
            Ok(tape) => print(&tape.describe()),
            Err(error) => fail(EXIT_DATA, &chain(&error)),
        },
        Verb::Tape(TapeVerb::Derive { input }) => derive_tape(&input),
    }
}

fn run(arguments: RunArguments) -> ExitCode {
    let RunArguments { feed: Feed::Tape, listen, speed, state, fault, live } = arguments;
    if live && fault.is_some() {
        return fail(
            EXIT_CONFIG,
            "a fault on purpose is refused in live mode\nhint: leave out --live, and --fault or TRADING_FAULT",
        );
    }
    if live {
        return fail(
            EXIT_CONFIG,
            "there is no live mode: this program trades a recording, on paper\nhint: leave out --live",
        );
    }
    let fault = match fault.map(Fault::new).transpose() {
        Ok(fault) => fault,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    start_log();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(service::run(Options { listen, speed, state, fault })),
        Err(error) => return fail(EXIT_UNAVAILABLE, &format!("the runtime does not start: {error}")),
    };
    outcome.unwrap_or_else(|error| fail(EXIT_UNAVAILABLE, &chain(&error)))
}

fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .compact()
        .with_target(false)
        .with_ansi(false)
        .init();
}

fn derive_tape(input: &Path) -> ExitCode {
    let file = match File::open(input) {
        Ok(file) => file,
        Err(error) => return fail(EXIT_DATA, &format!("{}: {error}", input.display())),
    };
    match derive::derive(BufReader::new(file)) {
        Ok(text) => print(&text),
        Err(error) => fail(EXIT_DATA, &format!("{}: {}", input.display(), chain(&error))),
    }
}

fn print(text: &str) -> ExitCode {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of a pipe went away: not our failure, and nobody to tell.
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(code: u8, what: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "trading: {what}");
    ExitCode::from(code)
}

fn parse_speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.01..=1000.0).contains(&speed) { Ok(speed) } else { Err("must be from 0.01 to 1000".to_owned()) }
}
