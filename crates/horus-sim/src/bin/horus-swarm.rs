//! Runs a swarm of simulated worlds: `horus-swarm [--days N] [--seeds N] [--seed S] [--jobs J] [--short | --ages] [--lines N]`.
//!
//! Ends with 1 if a guarantee was broken; the recording of each failing seed is left in the working directory.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a development command speaks to a terminal")]

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Instant;

use horus_sim::report;
use horus_sim::swarm::{Swarm, recording_name};
use horus_sim::world::log::LINES_KEPT_MAX;
use horus_sim::world::options::{Length, Options};

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok((swarm, lines)) => run(&swarm, lines),
        Err(why) => {
            eprintln!(
                "error: {why}\n\nhint: horus-swarm [--days N] [--seeds N] [--seed S] [--jobs J] [--short | --ages] [--lines N]"
            );
            ExitCode::from(64)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<(Swarm, usize), String> {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let mut swarm = Swarm { first: 1, seeds: None, service_days: None, jobs: cores, length: Length::Long };
    let mut lines = LINES_KEPT_MAX;
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let value = words.next().ok_or_else(|| format!("{word} wants a number"))?;
            value.parse().map_err(|_| format!("{word} wants a number, not '{value}'"))
        };
        match word.as_str() {
            "--days" => swarm.service_days = Some(number()?),
            "--seeds" => swarm.seeds = Some(number()?),
            "--seed" => swarm.first = number()?,
            "--jobs" => {
                let jobs = usize::try_from(number()?).ok().and_then(NonZeroUsize::new);
                swarm.jobs = jobs.ok_or("--jobs wants at least 1")?;
            }
            "--lines" => lines = usize::try_from(number()?).unwrap_or(LINES_KEPT_MAX).max(1),
            "--short" => swarm.length = Length::Short,
            "--ages" => swarm.length = Length::Ages,
            other => return Err(format!("'{other}' is not known")),
        }
    }
    if swarm.seeds.is_none() && swarm.service_days.is_none() {
        swarm.seeds = Some(1);
    }
    Ok((swarm, lines))
}

fn run(swarm: &Swarm, lines: usize) -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "how long a swarm takes is real time")]
    let began = Instant::now();
    let harvest = swarm.run();
    let took = began.elapsed();
    for failure in &harvest.failures {
        print!("{}", report::choices(&Options::of(failure.seed, swarm.length)));
        let again = swarm.one(failure.seed, lines);
        println!("{}", report::failure(failure, &again));
        let path = recording_name(failure.seed);
        #[expect(clippy::disallowed_methods, reason = "a file for people to look at; half of one is no harm")]
        match std::fs::write(&path, &again.log.recording) {
            Ok(()) => println!("  look at it with: horus replay {}\n", path.display()),
            Err(error) => eprintln!("error: {} cannot be written: {error}", path.display()),
        }
    }
    print!("{}", report::summary(&harvest, took));
    if harvest.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
