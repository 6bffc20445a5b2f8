//! `cargo xtask test`: everything is built once, all tests run, what was skipped is named.
//!
//! A test that cannot run here says so on standard error, `SKIPPED: its name: why`, and passes: to the runner it is a
//! pass, here it is counted for what it is. With cargo-nextest the counts come from its JUnit report, without it from
//! the words of `cargo test`.

mod counts;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::shell::{self, Stream};
use crate::{setup, shell::cargo};
use counts::{Counts, Libtest};

/// Options of `cargo xtask test`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Use `cargo test` even where cargo-nextest is installed
    #[arg(long)]
    no_nextest: bool,
}

/// Runs all tests of the workspace.
pub(crate) fn test(options: &Options) -> Result<ExitCode> {
    let root = shell::root()?;
    let target = shell::target_directory(&root)?;
    let python = setup::python();
    let uvloop = setup::uvloop(&target);
    let languages = setup::languages();
    let uvloop_is_there = uvloop.clone().map(|_| ());
    let needs = [setup::process_tools(), python.clone(), setup::servers(), languages, uvloop_is_there];
    let missing: Vec<String> = needs.into_iter().filter_map(Result::err).collect();
    // All programs and all tests in one build: cargo then chooses one set of features, and nothing is built twice.
    shell::run(cargo(&root).args(["build", "--workspace", "--bins", "--tests"]))?;

    let runner = Runner {
        root: &root,
        programs: target.join("debug"),
        python_missing: python.err(),
        python_packages: uvloop.ok(),
    };
    let nextest = !options.no_nextest && shell::is_there(cargo(&root).args(["nextest", "--version"]));
    let mut counts = if nextest { runner.nextest()? } else { runner.libtest(&[])? };
    counts.add(runner.libtest(&["--doc"])?);
    close(&counts, &missing);
    Ok(if counts.failed == 0 && counts.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Runner<'a> {
    root: &'a Path,
    programs: PathBuf,
    python_missing: Option<String>,
    python_packages: Option<PathBuf>,
}

impl Runner<'_> {
    fn cargo(&self) -> std::process::Command {
        let mut cargo = cargo(self.root);
        // Snapshots are compared, never rewritten, whatever the shell of the person says.
        cargo.env("INSTA_UPDATE", "no").env_remove("HORUS_UPDATE");
        // Built a moment ago, with everything else: scenarios need not ask whether they are up to date.
        cargo.env("HORUS_TEST_BINARIES", &self.programs);
        if let Some(packages) = &self.python_packages {
            cargo.env("HORUS_TEST_PYTHON_PACKAGES", packages);
        }
        if let Some(why) = &self.python_missing {
            cargo.env("HORUS_SKIP_PYTHON", why);
        }
        cargo
    }

    /// One process for each test, and a report that says everything.
    fn nextest(&self) -> Result<Counts> {
        // Where .config/nextest.toml has it, wherever things are built.
        let report = self.root.join("target/nextest/ci/junit.xml");
        // A report of yesterday must not speak for today.
        let _ = std::fs::remove_file(&report);
        let mut ignored = 0;
        let mut nextest = self.cargo();
        nextest.args(["nextest", "run", "--workspace", "--profile", "ci", "--no-fail-fast"]);
        let status = shell::stream(&mut nextest, |_, line| {
            eprintln!("{line}");
            ignored = counts::nextest_skipped(line).unwrap_or(ignored);
        })?;
        let text = std::fs::read_to_string(&report)
            .with_context(|| format!("nextest ({status}) left no report at {}", report.display()))?;
        let mut counts = Counts::from_junit(&text);
        if ignored > 0 {
            let mut list = self.cargo();
            list.args(["nextest", "list", "--workspace", "--run-ignored", "only", "-T", "oneline"]);
            counts.skip_ignored(ignored, &shell::read(&mut list)?);
        }
        counts.must_agree_with(status.success(), "cargo nextest");
        Ok(counts)
    }

    /// `cargo test`, or its documentation tests.
    fn libtest(&self, which: &[&str]) -> Result<Counts> {
        let mut libtest = Libtest::default();
        let mut test = self.cargo();
        test.args(["test", "--workspace", "--no-fail-fast", "--color", "never"]).args(which);
        test.args(["--", "--show-output"]);
        let status = shell::stream(&mut test, |stream, line| {
            if libtest.hear(line) || stream == Stream::Stderr {
                eprintln!("{line}");
            }
        })?;
        let mut counts = libtest.counts();
        counts.must_agree_with(status.success(), "cargo test");
        Ok(counts)
    }
}

/// What was skipped and why, what failed, and the closing line, which is all that many readers look at.
fn close(counts: &Counts, missing: &[String]) {
    println!();
    for missing in missing {
        println!("missing: {missing}");
    }
    for skipped in &counts.reasons {
        println!("skipped: {skipped}");
    }
    for figure in &counts.figures {
        println!("measured: {figure}");
    }
    for failure in &counts.failures {
        println!("FAILED: {failure}");
    }
    println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
}
