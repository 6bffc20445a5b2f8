//! `cargo xtask check`: everything that can be judged without running the programs.
//!
//! All checks run, whatever the first ones say; the table at the end names each with its outcome. One that needs a tool
//! which is not there is skipped by name: silence would read as a pass. `--cross` is another list, about macOS.

mod crates;
mod cross;
mod licences;
mod spdx;
mod spelling;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::shell::{self, cargo};

/// What a check found.
pub(crate) enum Finding {
    /// Nothing. The text says what was looked at.
    Good(String),
    /// Why it could not look.
    Skipped(String),
    /// What has to be mended, one line each.
    Bad(Vec<String>),
}

impl Finding {
    /// Good, unless there is a fault.
    fn of(faults: Vec<String>, looked_at: impl Into<String>) -> Self {
        if faults.is_empty() { Self::Good(looked_at.into()) } else { Self::Bad(faults) }
    }
}

type Check = fn(&Path) -> Result<Finding>;

/// The cheap ones first, so that a slip of the pen is told before the compiler has warmed up.
const CHECKS: [(&str, Check); 10] = [
    ("format", format),
    ("tidy", tidy::check),
    ("crates", crates::check),
    ("unused dependencies", crates::unused),
    ("spelling", spelling::check),
    ("lock file", lock_file),
    ("licences and duplicates", licences::check),
    ("cargo-deny", deny),
    ("lints", lints),
    ("documentation", documentation),
];

/// What is to be looked at.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Instead of all this: type-check and link the workspace for macOS, from here
    #[arg(long)]
    cross: bool,
}

/// Runs all checks.
pub(crate) fn check(options: &Options) -> Result<ExitCode> {
    let root = shell::root()?;
    let checks: &[_] = if options.cross { &cross::CHECKS } else { &CHECKS };
    let mut findings = Vec::new();
    for (name, check) in checks {
        let finding = check(&root).unwrap_or_else(|error| Finding::Bad(vec![format!("{error:#}")]));
        findings.push((name, finding));
    }
    println!();
    let mut failed = false;
    for (name, finding) in &findings {
        match finding {
            Finding::Good(looked_at) => println!("ok       {name}: {looked_at}"),
            Finding::Skipped(why) => println!("skipped  {name}: {why}"),
            Finding::Bad(faults) => {
                failed = true;
                println!("FAILED   {name}");
                faults.iter().for_each(|fault| println!("           {fault}"));
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn format(root: &Path) -> Result<Finding> {
    if !shell::is_there(cargo(root).args(["fmt", "--version"])) {
        return Ok(Finding::Skipped("rustfmt is not installed: rustup component add rustfmt".into()));
    }
    shell::run(cargo(root).args(["fmt", "--all", "--", "--check"]))?;
    Ok(Finding::Good("rustfmt.toml".into()))
}

fn lints(root: &Path) -> Result<Finding> {
    if !shell::is_there(cargo(root).args(["clippy", "--version"])) {
        return Ok(Finding::Skipped("clippy is not installed: rustup component add clippy".into()));
    }
    let arguments = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    shell::run(cargo(root).args(arguments))?;
    Ok(Finding::Good("all targets, no warning".into()))
}

fn documentation(root: &Path) -> Result<Finding> {
    let mut doc = cargo(root);
    // A public page may lead to a private module: who works here reads the sources beside it.
    let flags = "-D warnings -A rustdoc::private_intra_doc_links";
    doc.env("RUSTDOCFLAGS", flags).args(["doc", "--workspace", "--no-deps", "--locked"]);
    shell::run(&mut doc)?;
    Ok(Finding::Good("builds, no warning, no dead link".into()))
}

fn lock_file(root: &Path) -> Result<Finding> {
    // The fetch is what the builds need anyway; afterwards they may do without a network.
    shell::run(cargo(root).args(["fetch", "--locked", "--quiet"]))?;
    Ok(Finding::Good("Cargo.lock is up to date".into()))
}

fn deny(root: &Path) -> Result<Finding> {
    if !shell::is_there(cargo(root).args(["deny", "--version"])) {
        let why = "cargo-deny is not installed; its part that needs no tool is the line above";
        return Ok(Finding::Skipped(why.into()));
    }
    // Advisories need a network beyond the registries: a step of the release, not of every check.
    shell::run(cargo(root).args(["deny", "--offline", "check", "licenses", "bans", "sources"]))?;
    Ok(Finding::Good("licences, bans, sources".into()))
}
