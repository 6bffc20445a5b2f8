//! `cargo xtask sim`: a swarm of simulated worlds around the real judge, for as many simulated days as one likes.
//!
//! The work is done by `horus-swarm` of `horus-sim`, compiled with a profile of its own: a swarm in an unoptimised build is ten
//! times as slow, and the release profile takes minutes to link.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::shell;

/// The profile in the root `Cargo.toml`.
const PROFILE: &str = "sim";

/// What to simulate.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Until so many days of services were lived through
    #[arg(long, value_name = "N")]
    days: Option<u64>,
    /// So many seeds
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Threads; one for each processor if not given
    #[arg(long, value_name = "J")]
    jobs: Option<u64>,
    /// Short lives: many seeds in little time
    #[arg(long)]
    short: bool,
    /// Polls of minutes: weeks and months of each service, for very many days
    #[arg(long, conflicts_with = "short")]
    ages: bool,
    /// Lines of the story of a seed that failed
    #[arg(long, value_name = "N")]
    lines: Option<u64>,
}

/// Builds the swarm and runs it; its exit code is ours.
pub(crate) fn sim(options: &Options) -> Result<ExitCode> {
    let root = shell::root()?;
    let mut cargo = shell::cargo(&root);
    cargo.args(["run", "--quiet", "--profile", PROFILE, "-p", "horus-sim", "--bin", "horus-swarm", "--"]);
    cargo.args(["--seed", &options.seed.to_string()]);
    let numbers = [
        ("--days", options.days),
        ("--seeds", options.seeds),
        ("--jobs", options.jobs),
        ("--lines", options.lines),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            cargo.args([name, &number.to_string()]);
        }
    }
    if options.short {
        cargo.arg("--short");
    }
    if options.ages {
        cargo.arg("--ages");
    }
    let status = cargo.status().context("cargo cannot be started")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
