//! `cargo xtask chaos`: fifty programs under load while Horus, its keeper or both are killed (`tests/chaos`), as often as one likes.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{setup, shell};

/// How much chaos.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// So many deaths of Horus and its keeper
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    kills: u64,
    /// Who is killed when; one is chosen if not given
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

/// Builds and runs it; its exit code is ours.
pub(crate) fn chaos(options: &Options) -> Result<ExitCode> {
    let root = shell::root()?;
    // It stands in for the service manager.
    setup::python().map_err(anyhow::Error::msg)?;
    let mut cargo = shell::cargo(&root);
    cargo.args(["test", "--package", "horus-tests", "--test", "chaos", "--", "--nocapture"]);
    cargo.env("HORUS_CHAOS_KILLS", options.kills.to_string());
    if let Some(seed) = options.seed {
        cargo.env("HORUS_SEED", seed.to_string());
    }
    let status = cargo.status().context("cargo cannot be started")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
