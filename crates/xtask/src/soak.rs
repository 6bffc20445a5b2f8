//! `cargo xtask soak`: programs that are well, idle, busy and slow, beside a stress of four times the processors, while Horus itself is
//! stopped for 20 s. Fails if anybody is signalled, restarted or told of as hung (`tests/matrix/soak.rs`).

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{setup, shell};

/// How much of it.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// For so long
    #[arg(long, value_name = "S", default_value_t = 260)]
    seconds: u64,
    /// So many programs
    #[arg(long, value_name = "N", default_value_t = 40)]
    services: u64,
    /// So many that burn a processor; four for each processor if not given
    #[arg(long, value_name = "N")]
    stress: Option<u64>,
}

/// Builds and runs it; its exit code is ours.
pub(crate) fn soak(options: &Options) -> Result<ExitCode> {
    let root = shell::root()?;
    let target = shell::target_directory(&root)?;
    let mut cargo = shell::cargo(&root);
    for missing in [setup::python(), setup::languages()].into_iter().filter_map(Result::err) {
        println!("missing: {missing}");
    }
    match setup::uvloop(&target) {
        Ok(packages) => {
            cargo.env("HORUS_TEST_PYTHON_PACKAGES", packages);
        }
        Err(missing) => println!("missing: {missing}"),
    }
    cargo.args([
        "test",
        "--package",
        "horus-tests",
        "--test",
        "matrix",
        "--",
        "--ignored",
        "--nocapture",
        "soak",
    ]);
    cargo.env("HORUS_SOAK_SECONDS", options.seconds.to_string());
    cargo.env("HORUS_SOAK_SERVICES", options.services.to_string());
    if let Some(stress) = options.stress {
        cargo.env("HORUS_SOAK_STRESS", stress.to_string());
    }
    let status = cargo.status().context("cargo cannot be started")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
