//! Spelling, by `typos`: installed, or fetched from PyPI as a wheel that carries the program.

use std::path::Path;

use anyhow::Result;

use super::Finding;
use crate::{setup, shell};

/// What is fetched where none is installed.
const VERSION: &str = "1.52.0";

pub(super) fn check(root: &Path) -> Result<Finding> {
    let installed = shell::is_there(shell::command("typos").arg("--version"));
    let program = if installed {
        "typos".into()
    } else {
        match setup::from_pypi(&shell::target_directory(root)?, ("typos", VERSION), &[]) {
            Ok(program) => program,
            Err(why) => return Ok(Finding::Skipped(why)),
        }
    };
    shell::run(shell::command(program).current_dir(root).arg("--color=never"))?;
    Ok(Finding::Good("typos.toml holds the words that are right here".into()))
}
