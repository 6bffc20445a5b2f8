//! The development commands: `cargo xtask run | test | check | bench`.
//!
//! ```text
//!   run     build, then become Horus with the shipped watchdog.toml
//!   test    what tests need, all of them, what was skipped and why, one closing line
//!   check   everything that can be judged without running the programs; with --cross, for macOS
//!   bench   whole processes against a bare fork+exec supervisor, in one run
//!   fuzz    the targets of horus-fuzz, for as long as one likes
//!   planted deliberate faults in a copy of the judge: does a test notice each?
//!   package .deb, .rpm, tarballs, Homebrew formula, checksums
//!   chaos   Horus and its keeper are killed again and again, and nobody may notice: --kills N, --seed S
//!   soak    programs that are well beside a stress, and nobody is touched: --seconds S, --services N, --stress N
//!   powercut  a machine under emulation loses its power, and what its disk had not promised: --cuts N, --seed S
//!   sim     a swarm of simulated worlds: --days N, --seeds N, --seed S, --jobs J
//! ```
//!
//! They need Rust and a C compiler; whatever else they would like is used where it is there, and its absence is said.
//! This program is not part of Horus: it may print, start processes and give up with `anyhow`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a development command speaks to a terminal")]

mod bench;
mod chaos;
mod check;
mod fuzz;
mod package;
mod planted;
mod powercut;
mod run;
mod setup;
mod shell;
mod sim;
mod soak;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Development commands of Horus.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build Horus and its two services, and supervise them with the shipped watchdog.toml
    Run,
    /// Install what the tests need where that is allowed, run all of them, say what was skipped
    Test(test::Options),
    /// Everything that can be judged without running the programs
    Check(check::Options),
    /// Measure whole processes against a bare fork+exec supervisor
    Bench(bench::Options),
    /// Try the parsers and the judge with inputs that nobody thought of
    Fuzz(fuzz::Options),
    /// Make what people install: packages, tarballs with checksums, manual pages and completions
    Package(package::Options),
    /// Plant deliberate faults in a copy of the judge and see which test notices each
    Planted(planted::Options),
    /// Kill Horus and its keeper again and again while fifty programs work, and count what was lost
    Chaos(chaos::Options),
    /// Watch programs that are well beside a stress of processors, and fail if anybody is touched
    Soak(soak::Options),
    /// Cut the power of a machine under emulation again and again, and look for what was promised
    Powercut(powercut::Options),
    /// Let the judge live through simulated worlds in which everything fails, and check every guarantee after every step
    Sim(sim::Options),
}

fn main() -> ExitCode {
    let outcome = match CommandLine::parse().verb {
        Verb::Run => run::run(),
        Verb::Test(options) => test::test(&options),
        Verb::Check(options) => check::check(&options),
        Verb::Bench(options) => bench::bench(&options),
        Verb::Fuzz(options) => fuzz::fuzz(&options),
        Verb::Package(options) => package::package(&options),
        Verb::Planted(options) => planted::planted(&options),
        Verb::Chaos(options) => chaos::chaos(&options),
        Verb::Soak(options) => soak::soak(&options),
        Verb::Powercut(options) => powercut::powercut(&options),
        Verb::Sim(options) => sim::sim(&options),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
