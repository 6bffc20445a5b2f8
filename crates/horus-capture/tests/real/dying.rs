//! Programs that end, or become another one, while they are read.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use horus_sys::clock::monotonic;

use crate::subject::{PATIENCE, Subject, compiled_from, pythons, skipped};
use crate::witness::goes_on;

const HERD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/herd.py");

#[test]
fn two_hundred_that_are_killed_at_any_moment_harm_nobody() {
    const TIMES: u32 = 200;
    // Later than any capture of them takes, if the machine is not loaded.
    const LATEST_US: u64 = 60_000;
    let Some(python) = pythons("two_hundred_that_are_killed").pop() else { return };
    let mut herd =
        Command::new(python).arg(HERD).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut orders, mut answers) = (herd.stdin.take().unwrap(), BufReader::new(herd.stdout.take().unwrap()));
    let mut answer = |order: &str, orders: &mut dyn std::io::Write| {
        orders.write_all(order.as_bytes()).unwrap();
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    };
    assert_eq!(answer("", &mut orders), "ready");
    let (mut whole, mut seed) = (0, 88_172_645_463_325_252_u64);
    for _ in 0..TIMES {
        let pid: i32 = answer("fork\n", &mut orders).parse().unwrap();
        let looking = std::thread::spawn(move || horus_capture::capture(pid));
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        std::thread::park_timeout(Duration::from_micros(seed % LATEST_US));
        assert_eq!(answer("kill\n", &mut orders), "ended");
        let document = looking.join().unwrap();
        let is_gone = document.missing.iter().any(|reason| reason == "process: not there any more");
        let tasks = document.python.map_or(0, |python| python.tasks.len());
        assert!(is_gone || tasks > 0, "neither gone nor read: {:?}", document.missing);
        whole += u32::from(!is_gone);
    }
    assert!(whole < TIMES, "none of them was killed while it was read");
    drop(orders);
    herd.wait().unwrap();
}

#[test]
fn a_program_that_becomes_another_one_is_not_mixed_up() {
    let folder = tempfile::tempdir().unwrap();
    let both = ["python3.11", "trader"].map(|name| compiled_from("hostile.c", folder.path(), name));
    let [Some(one), Some(other)] = both else {
        return skipped("a_program_that_becomes", "no C compiler").unwrap_or_default();
    };
    let (first, second) = (one.to_str().unwrap(), other.to_str().unwrap());
    let mut subject = Subject::start(&one, &["exec", "0", first, second]).ready();
    let end = monotonic() + PATIENCE;
    let mut changed = 0;
    while changed < 5 {
        let document = horus_capture::capture(subject.pid());
        if document.missing.iter().any(|reason| reason == "process: it became another program meanwhile") {
            changed += 1;
            assert!(document.phrase.is_empty() && document.python.is_none(), "{}", document.render(true));
            assert!(document.native.is_empty() && document.place.is_none());
        }
        assert!(monotonic() < end, "it was never seen to change");
    }
    goes_on(&mut subject);
}
