//! `cargo xtask fuzz [TARGET] [--minutes N]`: the targets of `crates/horus-fuzz`, for longer than a test run lasts.
//!
//! Led by coverage where the machine can build that: the stable compiler puts counters into every branch when it is asked
//! by flags, and libFuzzer comes as C++ source with bolero. So all that is needed is a C++ compiler; without one the same
//! targets are tried with random bytes. What libFuzzer learns is kept below the target directory, for the next time.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::shell::{self, cargo};

/// Options of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only targets whose names begin so: config, notify, heartbeat, journal, recording, keeper, engine
    target: Option<String>,
    /// How long, over all targets
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// Try random bytes, even where coverage could lead
    #[arg(long)]
    random: bool,
}

/// Counters in each branch and each comparison, for libFuzzer; and every arithmetic overflow is a find.
const GUIDED: &str = "--cfg fuzzing --cfg fuzzing_libfuzzer -Cdebug-assertions -Coverflow-checks -Copt-level=1 \
    -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0";

/// Longest input, in bytes; the same as in `tests/fuzz.rs`.
const BYTES_MAX: u32 = 2_048;

/// An input that takes longer than so many seconds is a find.
const INPUT_SECONDS_MAX: u32 = 20;

/// Most memory, in MiB.
const MEMORY_MIB_MAX: u32 = 2_048;

/// Runs the targets, one after the other. Fails if one of them has found something.
pub(crate) fn fuzz(options: &Options) -> Result<ExitCode> {
    let root = shell::root()?;
    let folder = shell::target_directory(&root)?.join("fuzz");
    let guided = if options.random { None } else { guided(&root, &folder) };
    let program = match &guided {
        Some(program) => program.clone(),
        None => built(cargo(&root).args(BUILD))?,
    };
    let list = shell::read(shell::command(&program).args(["--list", "--format", "terse"]))?;
    let begins = options.target.as_deref().unwrap_or_default();
    let targets: Vec<&str> = list.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let chosen: Vec<&str> = targets.iter().copied().filter(|target| target.starts_with(begins)).collect();
    if chosen.is_empty() {
        bail!("no target begins with `{begins}`; there are {}", targets.join(", "));
    }
    let seconds = (options.minutes * 60 / chosen.len() as u64).max(1);
    let mut found = Vec::new();
    for target in chosen {
        println!(
            "{target}: {seconds} s, {}",
            if guided.is_some() { "led by coverage" } else { "random bytes" }
        );
        let room = folder.join("found").join(target);
        let mut run = shell::command(&program);
        run.args(["--exact", target, "--nocapture", "--test-threads=1"]);
        if guided.is_some() {
            lead(&mut run, &root, &room, target, seconds)?;
        } else {
            run.current_dir(root.join("crates/horus-fuzz"))
                .env("BOLERO_RANDOM_TEST_TIME_MS", (seconds * 1_000).to_string());
        }
        let status = shell::stream(&mut run, |_, line| eprintln!("{line}"))?;
        if !status.success() {
            found.push((target, room));
        }
    }
    for (target, room) in &found {
        println!("FOUND: {target}: see above; inputs in {}", room.display());
        println!(
            "  mend it, and keep the input: crates/horus-fuzz/tests/__fuzz__/{target}/crashes/name-says-the-fault"
        );
    }
    println!("{} targets have found something", found.len());
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const BUILD: [&str; 7] = [
    "test",
    "--package",
    "horus-fuzz",
    "--test",
    "fuzz",
    "--no-run",
    "--message-format=json-render-diagnostics",
];

/// The program with counters in it. `None`, after saying so: it cannot be built here.
fn guided(root: &Path, folder: &Path) -> Option<PathBuf> {
    let mut build = cargo(root);
    // With a target named, the flags are not for build scripts and macros, which run without libFuzzer.
    let host = shell::read(shell::command("rustc").arg("-vV")).ok()?;
    let host = host.lines().find_map(|line| line.strip_prefix("host: "))?;
    build
        .args(BUILD)
        .args(["--target", host])
        .env("RUSTFLAGS", GUIDED)
        .env("CARGO_TARGET_DIR", folder.join("guided"));
    match built(&mut build) {
        Ok(program) => Some(program),
        Err(error) => {
            println!("coverage cannot lead here ({error:#}): a C++ compiler is needed; trying random bytes");
            None
        }
    }
}

/// Builds and finds the test program.
fn built(build: &mut Command) -> Result<PathBuf> {
    let messages = shell::read(build)?;
    let program =
        messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
            (message["target"]["name"] == "fuzz")
                .then(|| message["executable"].as_str().map(PathBuf::from))?
        });
    program.context("cargo names no test program")
}

/// Arguments of libFuzzer: where it keeps what it learns, the committed examples, and its limits.
fn lead(run: &mut Command, root: &Path, room: &Path, target: &str, seconds: u64) -> Result<()> {
    std::fs::create_dir_all(room.join("learned"))?;
    let examples = root.join("crates/horus-fuzz/tests/__fuzz__").join(target);
    let mut folders = vec!["learned".to_owned()];
    let mut add = |folder: PathBuf| {
        // The arguments are split at spaces: a checkout below such a path goes without examples.
        folders
            .extend(folder.to_str().filter(|text| folder.is_dir() && !text.contains(' ')).map(str::to_owned));
    };
    add(examples.join("corpus"));
    add(examples.join("crashes"));
    if target == "config_bytes" {
        add(root.join("tests/configs/valid"));
        add(root.join("tests/configs/invalid"));
    }
    let limits = format!(
        "-max_total_time={seconds} -max_len={BYTES_MAX} -timeout={INPUT_SECONDS_MAX} -rss_limit_mb={MEMORY_MIB_MAX} \
        -artifact_prefix=./ -print_final_stats=1 -verbosity=0"
    );
    run.current_dir(room).env("BOLERO_LIBFUZZER_ARGS", format!("{} {limits}", folders.join(" ")));
    Ok(())
}
