//! Numbers, printed. Ignored by default, because they mean something on a quiet machine and a release build only:
//! `cargo test -p horus-keeper --release -- --ignored --nocapture measure`.

use crate::support::{Place, until};
use horus_keeper::protocol::Event;
use horus_sys::clock;
use horus_sys::signal::{self, Signal};
use std::time::Duration;

fn private_and_proportional_kib(pid: i32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let field = |name: &str| -> u64 {
        text.lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum()
    };
    (field("Private_"), field("Pss:"))
}

fn cpu_time_ns(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn describe(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!("{what}: median {:?}, p99 {:?}, worst {:?} of {}", at(50), at(99), at(100), times.len());
}

#[test]
#[ignore = "a measurement"]
fn measure_latency() {
    const TRIALS: u64 = 200;
    let place = Place::new();
    let mut client = place.attach();
    let (mut deaths, mut starts) = (Vec::new(), Vec::new());
    for generation in 1..=TRIALS {
        let before = clock::monotonic();
        let process = client.run(place.spec("bot", generation, &["sleep", "1000"]));
        starts.push(clock::monotonic() - before);
        // Until the program itself sleeps, its death would wait for its exec.
        until("its sleep", || {
            (horus_sys::process::row(process.pid).unwrap().unwrap().state == b'S').then_some(())
        });
        let before = clock::monotonic();
        signal::send(&process, Signal::KILL).unwrap();
        assert!(matches!(client.exited("bot"), Event::Exited { .. }));
        deaths.push(clock::monotonic() - before);
    }
    println!("processes on this machine: {}", horus_sys::process::Table::read().unwrap().rows().len());
    describe("request to Started", starts);
    describe("death to Exited", deaths);
}

#[test]
#[ignore = "a measurement"]
fn measure_memory_and_idle_cpu() {
    let place = Place::new();
    let mut client = place.attach();
    let keeper = client.hello.process.pid;
    let mut slots = 0;
    for wanted in [0, 1, 50, 500] {
        while slots < wanted {
            slots += 1;
            client.run(place.spec(&format!("bot-{slots}"), 1, &["sleep", "1000"]));
        }
        let (private, proportional) = private_and_proportional_kib(keeper);
        println!("{wanted} slots: PSS {proportional} KiB, private {private} KiB");
    }
    let before = cpu_time_ns(keeper);
    let poller = horus_sys::poll::Poller::new().unwrap();
    poller.wait(&mut Vec::new(), Some(Duration::from_secs(3))).unwrap();
    println!("CPU of an idle keeper with 500 slots over 3 s: {} ns", cpu_time_ns(keeper) - before);
}

#[test]
#[ignore = "a measurement"]
fn measure_the_kill_of_many_strays() {
    const STRAYS: usize = 5_000;
    let place = Place::new();
    let mut client = place.attach();
    let file = place.path("count").display().to_string();
    let script = format!(
        "i=0; while [ $i -lt {STRAYS} ]; do (setsid sleep 1000 &) ; i=$((i+1)); done; echo x > {file}; exec sleep 1000"
    );
    client.run(place.shell("bot", 1, &script));
    until("all strays", || place.path("count").exists().then_some(()));
    let before = clock::monotonic();
    let killed = client.kill_tree("bot", 1);
    println!("killed {killed} processes, each in its own session, in {:?}", clock::monotonic() - before);
    assert!(usize::try_from(killed).unwrap() > STRAYS);
}
