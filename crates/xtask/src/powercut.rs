//! `cargo xtask powercut`: a machine under emulation loses its power while Horus works on it (`tests/powercut`), as often as one likes.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::shell;

/// How many cuts.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// So many times the power is cut, all of them on one disk
    #[arg(long, value_name = "N", default_value_t = 10)]
    cuts: u64,
    /// When it is cut and what the disk loses; one is chosen if not given
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

/// Builds and runs it; its exit code is ours. Where there can be no such machine it says so and is content.
pub(crate) fn powercut(options: &Options) -> Result<ExitCode> {
    let root = shell::root()?;
    let mut cargo = shell::cargo(&root);
    // One machine at a time: each takes a processor.
    cargo.args([
        "test",
        "--package",
        "horus-tests",
        "--test",
        "powercut",
        "--",
        "--nocapture",
        "--test-threads=1",
    ]);
    cargo.env("HORUS_POWER_CUTS", options.cuts.to_string());
    if let Some(seed) = options.seed {
        cargo.env("HORUS_SEED", seed.to_string());
    }
    let status = cargo.status().context("cargo cannot be started")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
