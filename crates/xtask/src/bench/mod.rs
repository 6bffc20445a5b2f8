//! `cargo xtask bench`: whole processes, measured from outside, beside the least that can be called a supervisor.
//!
//! A subject (`src/bin/bench-subject.rs`) reads the clock as its first act and tells the bench over a unix socket; the
//! socket closes when it dies. So both ends of each interval are the subject's, and Horus is measured as it is shipped,
//! under its ordinary settings. The bare baseline runs in the same minutes: on a shared machine only ratios travel.

mod arena;
mod measures;
mod stats;
mod supervisors;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::shell::{self, cargo};
use arena::Arena;
use measures::{Adopted, BOUND, DEADLINE, LINE_BYTES, Logged, POLL, Replaced, Seen, Watching};
use stats::{ms, seconds};
use supervisors::{Cost, Programs};

/// Options of `cargo xtask bench`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Fewer trials and shorter times: shows that it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Measure the debug build, which is faster to make and slower to run
    #[arg(long)]
    debug: bool,
}

/// Version of the JSON that is printed.
const SCHEMA: u32 = 1;

/// Children that a killed Horus leaves behind.
const LEFT_BEHIND: usize = 500;

/// Lines that are logged: 200 MB.
const LINES: u64 = 2_000_000;

/// Runs the measures and prints them.
pub(crate) fn bench(options: &Options) -> Result<ExitCode> {
    if !cfg!(target_os = "linux") {
        bail!("the bench reads /proc: it runs on Linux");
    }
    let programs = build(options)?;
    let mut arena = Arena::open()?;
    let (trials, hangs, time) =
        if options.quick { (30, 4, Duration::from_secs(10)) } else { (200, 20, Duration::from_secs(60)) };
    eprintln!("1/5 {trials} children are killed");
    let replaced = measures::replaced(&programs, &mut arena, trials)?;
    let mut watching = Vec::new();
    for children in [1, 50, 500] {
        eprintln!("2/5 {children} beat for {} s", time.as_secs());
        watching.push(measures::watching(&programs, &mut arena, children, time)?);
    }
    eprintln!("3/5 {hangs} children hang, one after the other");
    let seen = measures::seen(&programs, &mut arena, hangs)?;
    let (left_behind, lines) = if options.quick { (50, LINES / 10) } else { (LEFT_BEHIND, LINES) };
    eprintln!("4/5 Horus is killed while {left_behind} children live");
    let adopted = measures::adopted(&programs, &mut arena, left_behind)?;
    eprintln!("5/5 {lines} lines are written");
    let logged = measures::logged(&programs, &mut arena, lines)?;
    drop(arena);
    let mut report = report(options, &replaced, &watching, &seen, time);
    report["adopted"] = json!({
        "children": adopted.children,
        "took_s": adopted.took.as_secs_f64(),
        "died": adopted.died,
    });
    report["logged"] = json!({
        "lines": logged.lines,
        "bytes": logged.lines * LINE_BYTES,
        "horus_s": logged.horus.as_secs_f64(),
        "horus_cpu_s": logged.cpu.as_secs_f64(),
        "cat_s": logged.cat.as_secs_f64(),
        "ratio": ratio(logged.horus, logged.cat),
        "wrong": logged.wrong,
    });
    if options.json {
        println!("{report:#}");
    } else {
        print_tables(options, &replaced, &watching, &seen, time);
        print_rest(&adopted, &logged);
    }
    let kept = seen.signalled.max() <= BOUND && adopted.died == 0 && logged.wrong == 0;
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn build(options: &Options) -> Result<Programs> {
    let root = shell::root()?;
    let mut build = cargo(&root);
    build.args(["build", "-p", "horus", "-p", "xtask", "--bin", "horus", "--bin", "bench-subject"]);
    let profile = if options.debug { "debug" } else { "release" };
    if !options.debug {
        build.arg("--release");
    }
    shell::run(&mut build)?;
    let folder = shell::target_directory(&root)?.join(profile);
    Ok(Programs { horus: folder.join("horus"), subject: folder.join("bench-subject") })
}

fn report(
    options: &Options,
    replaced: &Replaced,
    watching: &[Watching],
    seen: &Seen,
    time: Duration,
) -> Value {
    let cost = |cost: &Cost| {
        json!({
            "pss_kib": cost.pss_kib,
            "rss_kib": cost.rss_kib,
            "cpu_s": cost.cpu.as_secs_f64(),
            "wakeups": cost.wakeups,
        })
    };
    let watching: Vec<Value> = watching
        .iter()
        .map(|row| json!({ "children": row.children, "horus": cost(&row.horus), "bare": cost(&row.bare) }))
        .collect();
    json!({
        "schema": SCHEMA,
        "quick": options.quick,
        "profile": if options.debug { "debug" } else { "release" },
        "replaced": {
            "horus": replaced.horus.json(),
            "bare": replaced.bare.json(),
            "median_ratio": ratio(replaced.horus.median(), replaced.bare.median()),
            "p99_ratio": ratio(replaced.horus.p99(), replaced.bare.p99()),
            "all_running_s": replaced.all_running.as_secs_f64(),
        },
        "watching": { "time_s": time.as_secs_f64(), "rows": watching },
        "hang": {
            "deadline_s": DEADLINE.as_secs_f64(),
            "poll_s": POLL.as_secs_f64(),
            "bound_s": BOUND.as_secs_f64(),
            "signalled": seen.signalled.json(),
            "replaced": seen.replaced.json(),
            "within_bound": seen.signalled.max() <= BOUND,
        },
    })
}

fn ratio(one: Duration, other: Duration) -> f64 {
    if other.is_zero() { 0.0 } else { one.as_secs_f64() / other.as_secs_f64() }
}

fn print_tables(options: &Options, replaced: &Replaced, watching: &[Watching], seen: &Seen, time: Duration) {
    let profile = if options.debug { "debug build: slower than what is shipped" } else { "release build" };
    println!("\nSIGKILL of a child to the first instruction of its replacement, ms ({profile})");
    println!("  {:<14} {:>7} {:>9} {:>9} {:>9}", "", "trials", "median", "p99", "max");
    for (name, trials) in [("horus", &replaced.horus), ("bare fork+exec", &replaced.bare)] {
        let (median, p99, max) = (ms(trials.median()), ms(trials.p99()), ms(trials.max()));
        println!("  {name:<14} {:>7} {median:>9} {p99:>9} {max:>9}", trials.count());
    }
    let (median, p99) = (
        ratio(replaced.horus.median(), replaced.bare.median()),
        ratio(replaced.horus.p99(), replaced.bare.p99()),
    );
    println!("  {:<14} {:>7} {:>8.1}x {:>8.1}x", "ratio", "", median, p99);
    println!(
        "  {} children ran {} s after the start of Horus",
        replaced.horus.count(),
        seconds(replaced.all_running)
    );

    println!(
        "\nWatching children that are asked for a beat each second, over {} s (with the keeper)",
        time.as_secs()
    );
    println!(
        "  {:<14} {:>8} {:>9} {:>9} {:>9} {:>12}",
        "", "children", "PSS MiB", "RSS MiB", "CPU s", "wakeups/s"
    );
    let mib = |kib: u64| kib as f64 / 1_024.0;
    for row in watching {
        for (name, cost) in [("horus", &row.horus), ("bare fork+exec", &row.bare)] {
            let wakeups = cost.wakeups as f64 / time.as_secs_f64();
            println!(
                "  {name:<14} {:>8} {:>9.1} {:>9.1} {:>9.2} {wakeups:>12.1}",
                row.children,
                mib(cost.pss_kib),
                mib(cost.rss_kib),
                cost.cpu.as_secs_f64(),
            );
        }
    }

    println!(
        "\nA hang, from the last sign of life, s (deadline {}, poll {})",
        seconds(DEADLINE),
        seconds(POLL)
    );
    println!("  {:<26} {:>7} {:>9} {:>9} {:>9}", "", "trials", "median", "max", "bound");
    let rows = [
        ("first signal", &seen.signalled, seconds(BOUND)),
        ("replacement runs", &seen.replaced, String::new()),
    ];
    for (name, trials, bound) in rows {
        let (median, max) = (seconds(trials.median()), seconds(trials.max()));
        println!("  {name:<26} {:>7} {median:>9} {max:>9} {bound:>9}", trials.count());
    }
    let verdict = if seen.signalled.max() <= BOUND { "kept" } else { "BROKEN" };
    println!("  The bound, 2 x deadline + poll + 1 s by absence alone, is {verdict}.");
}

fn print_rest(adopted: &Adopted, logged: &Logged) {
    let Adopted { children, took, died } = adopted;
    println!(
        "\nSIGKILL of Horus with {children} children: the next one has taken all over after {} s; {died} died",
        seconds(*took)
    );
    let megabytes = logged.lines * LINE_BYTES / 1_000_000;
    println!(
        "\n{megabytes} MB of lines of {LINE_BYTES} bytes, to files that are rotated: {} s, {} s of CPU, {} lines wrong; `cat` to one file: {} s ({:.1}x)",
        seconds(logged.horus),
        seconds(logged.cpu),
        logged.wrong,
        seconds(logged.cat),
        ratio(logged.horus, logged.cat)
    );
}
