//! The store in a process of its own that is killed at any instant, or whose disk is full for real.
#![expect(clippy::unwrap_used, reason = "a test: what is not as expected ends it")]

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use horus_core::command::Memory;
use horus_core::event::{Event, What};
use horus_core::ids::{Generation, IncidentId, ServiceName, SinkName};
use horus_core::notice::{IncidentKind, Notice, Story};
use horus_core::plan::Severity;
use horus_store::{EventQuery, Restored, Store, StoreOptions, Transaction};
use jiff::Timestamp;

/// The state directory of the child.
const DIRECTORY: &str = "HORUS_STORE_TEST_DIRECTORY";
/// Transactions that the child has on the way at most.
const IN_FLIGHT: u64 = 40;
const ROUNDS: u64 = 20;
const PATIENCE: Duration = Duration::from_secs(60);

fn event(text: String) -> Event {
    Event { subject: "horus".into(), generation: None, incident: None, what: What::Horus { text } }
}

/// Transaction number `n` (from 0): two events, a notice and a memory that all carry its number.
fn numbered(n: u64) -> Transaction {
    let notice = Notice {
        incident: IncidentId::nth(0),
        version: u32::try_from(n + 1).unwrap(),
        subject: "trading".into(),
        kind: IncidentKind::Stuck,
        severity: Severity::Warning,
        needs_you: false,
        loud: false,
        within: None,
        story: Story::Halted,
    };
    let memory = Memory { version: 1, generation: Generation(n), ..Memory::default() };
    Transaction {
        at: Timestamp::now(),
        events: vec![event(format!("{n} a")), event(format!("{n} b"))],
        notices: vec![(SinkName::parse("ops").unwrap(), notice)],
        memories: vec![(ServiceName::parse("trading").unwrap(), memory)],
        confirm: vec![IncidentId::nth(n)],
        digest: Vec::new(),
    }
}

enum Said {
    Stored(IncidentId, bool),
    Health(Option<String>),
}

fn options(said: Sender<Said>) -> StoreOptions {
    let health = said.clone();
    StoreOptions {
        on_stored: Box::new(move |incident, persisted| drop(said.send(Said::Stored(incident, persisted)))),
        on_health: Box::new(move |fault| drop(health.send(Said::Health(fault)))),
        ..StoreOptions::default()
    }
}

/// The child: commits numbered transactions for ever and says which are durable.
#[test]
#[ignore = "run by the tests below, in a process of its own"]
fn child_that_commits() {
    let directory = std::env::var_os(DIRECTORY).unwrap();
    let (sender, said) = channel();
    let (store, restored) = Store::open(Path::new(&directory), options(sender)).unwrap();
    let first = (restored.next_seq - 1) / 2;
    let mut next = first;
    for acknowledged in first.. {
        while next < acknowledged + IN_FLIGHT {
            store.commit(numbered(next));
            next += 1;
        }
        let Said::Stored(incident, true) = said.recv_timeout(PATIENCE).unwrap() else { panic!("degraded") };
        assert_eq!(incident, IncidentId::nth(acknowledged));
        println!("\nack {acknowledged}");
    }
}

/// The child: commits until the disk is full, and on until it has room again.
#[test]
#[ignore = "run by the tests below, in a process of its own"]
fn child_with_a_full_disk() {
    let directory = std::env::var_os(DIRECTORY).unwrap();
    let (sender, said) = channel();
    let (store, _) = Store::open(Path::new(&directory), options(sender)).unwrap();
    for n in 0.. {
        store.commit(numbered(n));
        match said.recv_timeout(PATIENCE).unwrap() {
            Said::Stored(..) => {}
            Said::Health(fault) => {
                println!("\nfault {fault:?}");
                for n in n + 1..=n + 100 {
                    store.commit(numbered(n));
                }
                println!("\ncommitted {}", n + 101);
                break;
            }
        }
    }
    loop {
        match said.recv_timeout(PATIENCE).unwrap() {
            Said::Stored(..) => {}
            Said::Health(fault) => {
                assert_eq!(fault, None);
                break;
            }
        }
    }
    assert!(store.close(PATIENCE));
    println!("\nclosed");
}

/// Starts `test` of this binary in a shell that has done `before`.
fn start(test: &str, before: &str, directory: &Path) -> (Child, Lines<BufReader<ChildStdout>>) {
    #[expect(clippy::disallowed_methods, reason = "a test that kills its own child")]
    let mut command = Command::new("sh");
    let script = format!("{before} exec \"$0\" --exact {test} --ignored --nocapture");
    command.arg("-c").arg(script).arg(std::env::current_exe().unwrap()).env(DIRECTORY, directory);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

/// Every transaction up to the last one found is there as a whole, and nothing else is.
fn transactions_found(directory: &Path) -> u64 {
    let (store, restored): (Store, Restored) = Store::open(directory, StoreOptions::default()).unwrap();
    assert_eq!((&restored.note, &restored.fault), (&None, &None));
    let reader = store.reader().unwrap();
    let mut seen = 0;
    loop {
        let found = reader.events(&EventQuery { after_seq: Some(seen), ..EventQuery::default() }).unwrap();
        if found.is_empty() {
            break;
        }
        for recorded in found {
            seen += 1;
            let text = format!("{} {}", (seen - 1) / 2, if seen % 2 == 1 { "a" } else { "b" });
            assert_eq!((recorded.seq, recorded.event.what), (seen, What::Horus { text }));
        }
    }
    assert_eq!(seen % 2, 0, "half a transaction");
    let count = seen / 2;
    if count > 0 {
        assert_eq!(
            restored.memories[0].memory.generation,
            Generation(count - 1),
            "the memory of the same step"
        );
        assert_eq!(u64::from(store.pending()[0].wanted_version), count, "the notice of the same step");
    }
    assert_eq!(restored.next_seq, seen + 1);
    assert!(store.close(PATIENCE));
    count
}

#[test]
fn a_kill_at_any_instant_loses_nothing_that_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut before = 0;
    for round in 0..ROUNDS {
        let (mut child, lines) = start("child_that_commits", "", directory.path());
        let mut acknowledged = None;
        // After so many acknowledgements the kill falls anywhere into the next commits.
        let enough = before + 1 + round * 7;
        for line in lines {
            let line = line.unwrap();
            let Some(number) = line.strip_prefix("ack ") else { continue };
            let number: u64 = number.parse().unwrap();
            if number >= enough && acknowledged.is_none_or(|last| last < enough) {
                child.kill().unwrap();
            }
            acknowledged = Some(number);
        }
        assert!(!child.wait().unwrap().success(), "it was killed");
        let acknowledged = acknowledged.unwrap();
        assert!(acknowledged >= enough, "the child ended by itself after {acknowledged}");
        let found = transactions_found(directory.path());
        assert!(found > acknowledged, "round {round}: {acknowledged} was acknowledged, {found} are there");
        before = found;
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_disk_that_is_really_full_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    // With the signal ignored, a write beyond the limit is an error; only the soft limit is set, so it can be lifted.
    let before = "trap '' XFSZ; ulimit -S -f 600;";
    let (mut child, mut lines) = start("child_with_a_full_disk", before, directory.path());
    let mut wait_for = |start: &str| {
        let found = lines.by_ref().map(Result::unwrap).find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("the child ended without '{start}'"))
    };
    assert!(wait_for("fault ").contains("cannot write"));
    let committed = wait_for("committed ");
    #[expect(clippy::disallowed_methods, reason = "lifts the limit of its own child")]
    let mut lift = Command::new("prlimit");
    let lifted =
        lift.args(["--fsize=unlimited:unlimited", "--pid", &child.id().to_string()]).status().unwrap();
    assert!(lifted.success());
    wait_for("closed");
    assert!(child.wait().unwrap().success());
    let found = transactions_found(directory.path());
    assert_eq!(committed, format!("committed {found}"));
}
