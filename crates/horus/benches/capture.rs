//! What a capture costs: whole child processes, as the daemon starts them, beside the least that a child can cost.
//!
//! `cargo bench -p horus --bench capture`. The baseline runs in the same minutes: on a shared machine only ratios travel.
#![expect(clippy::disallowed_methods, reason = "the subjects of a bench are processes")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot measure ends")]
#![expect(clippy::print_stdout, reason = "figures are printed")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use horus_sys::clock::monotonic;

/// Captures of each subject.
const TRIALS: usize = 40;

const SUBJECTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../horus-capture/tests/real");

fn main() {
    if !cfg!(target_os = "linux") {
        return println!("other processes' memory cannot be read here");
    }
    let folder = tempfile::tempdir().unwrap();
    let bot = format!("{SUBJECTS}/bot.py");
    let native = folder.path().join("trader");
    let compiler = ["-O1", "-rdynamic", "-pthread", "-o"];
    let source = format!("{SUBJECTS}/native.c");
    let made = Command::new("cc").args(compiler).arg(&native).arg(source).stderr(Stdio::null()).status();
    let bare = trials(&mut || {
        Command::new("/bin/true").status().unwrap();
        (0.0, 0)
    });
    println!("{:<34} {:>11} {:>11} {:>9} {:>11}", "", "whole, ms", "reading, ms", "ratio", "peak, MiB");
    println!("{:<34} {:>11.2}", "a child that does nothing", bare.whole_ms);
    for (name, program, words) in [
        ("Python, blocked, 3 tasks", Path::new("python3"), vec![bot.as_str(), "recv"]),
        ("Python, 1,000 tasks", Path::new("python3"), vec![bot.as_str(), "many", "1000"]),
        ("native, mutex deadlock", native.as_path(), vec![]),
    ] {
        if program == native && !made.as_ref().is_ok_and(std::process::ExitStatus::success) {
            println!("{name:<34} skipped: no C compiler");
            continue;
        }
        let mut subject = ready(Command::new(program).args(words));
        let pid = subject.id().to_string();
        let cost = trials(&mut || captured(&pid));
        let ratio = cost.whole_ms / bare.whole_ms.max(0.001);
        let peak = cost.peak_bytes >> 20;
        println!("{name:<34} {:>11.2} {:>11.2} {ratio:>8.1}x {peak:>11}", cost.whole_ms, cost.reading_ms);
        subject.kill().unwrap();
        subject.wait().unwrap();
    }
}

/// Medians, and the highest peak.
struct Cost {
    whole_ms: f64,
    reading_ms: f64,
    peak_bytes: u64,
}

fn trials(run: &mut dyn FnMut() -> (f64, u64)) -> Cost {
    let (mut whole, mut reading, mut peak_bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..TRIALS {
        let began = monotonic();
        let (reading_ms, peak) = run();
        whole.push((monotonic() - began).as_secs_f64() * 1_000.0);
        reading.push(reading_ms);
        peak_bytes = peak_bytes.max(peak);
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    Cost { whole_ms: median(whole), reading_ms: median(reading), peak_bytes }
}

/// One capture: how long it read, by its own account, and its peak.
fn captured(pid: &str) -> (f64, u64) {
    let said = Command::new(env!("CARGO_BIN_EXE_horus")).args(["capture", "--json", pid]).output().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert!(document["phrase"].as_str().is_some_and(|phrase| !phrase.is_empty()), "{document}");
    (document["took_ms"].as_f64().unwrap(), document["peak_bytes"].as_u64().unwrap())
}

fn ready(command: &mut Command) -> Child {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.ends_with("ready\n") {
        assert!(output.read_line(&mut line).unwrap() > 0, "the subject ended: {line}");
    }
    // Nobody reads what it may still say: the subjects of this bench say nothing more.
    child
}
