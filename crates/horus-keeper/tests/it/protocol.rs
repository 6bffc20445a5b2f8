//! The socket: garbage, floods, silence, newcomers.

use crate::support::{FAILSAFE, Place, exe, name, until};
use horus_keeper::protocol::{Event, MAX_LINE, MAX_OUTGOING, Request, ShutdownMode, SlotState};
use horus_keeper::{AttachError, attach};
use horus_sys::lock::FileLock;
use horus_sys::process;
use horus_sys::signal::{self, Signal};
use std::io::Write;

#[test]
fn garbage_is_rejected_and_the_next_request_is_served() {
    let place = Place::new();
    let mut client = place.attach();
    for garbage in
        [&b"\n"[..], b"{\n", b"\xff\xfe\0\n", b"{\"request\":\"start\"}\n", b"{\"request\":\"dance\"}\n"]
    {
        client.send_raw(garbage);
        client.wait("Rejected", |event| matches!(event, Event::Rejected { .. }));
    }
    client.send_raw(b"{\"request\":\"start\",\"slot\":\"../x\",\"generation\":1}\n");
    client
        .wait("Rejected", |event| matches!(event, Event::Rejected { error } if error.contains("slot name")));
    assert_eq!(client.so_far(), []);
}

#[test]
fn a_client_that_dies_mid_line_leaves_no_trace() {
    let place = Place::new();
    let mut client = place.attach();
    client.send_raw(b"{\"request\":\"shutdown\",\"mode\":\"leave\"");
    let keeper = client.hello.process;
    drop(client);
    let mut client = place.attach();
    assert!(!client.spawned);
    assert_eq!(client.hello.process, keeper);
    client.send_raw(b"}\n");
    client.wait("Rejected", |event| matches!(event, Event::Rejected { .. }));
}

#[test]
fn a_line_without_end_costs_the_connection_only() {
    let place = Place::new();
    let mut client = place.attach();
    let keeper = client.hello.process;
    client.send_raw(&vec![b'x'; MAX_LINE + 1]);
    until("the end of the connection", || client.next().is_none().then_some(()));
    assert_eq!(place.attach().hello.process, keeper);
}

#[test]
fn a_client_that_does_not_read_is_dropped_and_finds_its_state_in_the_next_hello() {
    let place = Place::new();
    let mut client = place.attach();
    let ping = serde_json::to_vec(&Request::Ping { token: u64::MAX }).unwrap();
    let mut burst = Vec::new();
    while burst.len() < 256 * 1024 {
        burst.extend_from_slice(&ping);
        burst.push(b'\n');
    }
    client.run(place.shell("bot", 1, "exec sleep 1000"));
    let mut stream = client.into_stream();
    stream.set_write_timeout(Some(FAILSAFE)).unwrap();
    let mut sent = 0;
    while stream.write_all(&burst).is_ok() {
        sent += burst.len();
        assert!(sent < 20 * MAX_OUTGOING, "never dropped");
    }
    let client = place.attach();
    assert!(!client.spawned);
    assert!(matches!(client.state("bot"), SlotState::Running(_)));
}

#[test]
fn a_newcomer_replaces_the_client_and_sees_everything() {
    let place = Place::new();
    let mut first = place.attach();
    let process = first.run(place.shell("bot", 7, "exec sleep 1000"));
    let mut second = place.attach();
    assert!(!second.spawned);
    assert_eq!(second.state("bot"), SlotState::Running(process));
    assert_eq!(second.hello.slots[0].generation.0, 7);
    first.wait("Replaced", |event| *event == Event::Replaced);
    assert_eq!(first.next(), None);
    assert_eq!(second.kill_tree("bot", 7), 1);
}

#[test]
fn an_end_that_nobody_heard_is_in_the_next_hello() {
    let place = Place::new();
    let mut client = place.attach();
    let process = client.run(place.shell("bot", 1, "sleep 0.1; exit 9"));
    drop(client);
    until("its end", || (!process::is_alive(&process)).then_some(()));
    until("its record", || place.exit_record("bot", 1));
    let client = place.attach();
    let ended = SlotState::Ended {
        process: Some(process),
        status: horus_keeper::protocol::ExitStatus::Code(9),
        out_of_memory: None,
    };
    assert_eq!(client.state("bot"), ended);
    assert!(!client.hello.slots[0].adopted);
}

#[test]
fn the_keeper_ends_when_asked_but_not_under_living_children() {
    let place = Place::new();
    let mut client = place.attach();
    let keeper = client.hello.process;
    client.run(place.shell("bot", 1, "exec sleep 1000"));
    client.send(&Request::Shutdown { mode: ShutdownMode::IfIdle });
    client.wait("Rejected", |event| matches!(event, Event::Rejected { .. }));
    client.kill_tree("bot", 1);
    client.send(&Request::Shutdown { mode: ShutdownMode::IfIdle });
    until("its end", || (!process::is_alive(&keeper)).then_some(()));
    let client = place.attach();
    assert!(client.spawned);
    assert!(matches!(client.state("bot"), SlotState::Ended { .. }));
}

#[test]
fn sigterm_ends_a_keeper_that_nobody_needs_and_no_other() {
    let place = Place::new();
    let mut client = place.attach();
    let keeper = client.hello.process;
    let child = client.run(place.shell("bot", 1, "exec sleep 1000"));
    signal::send(&keeper, Signal::TERM).unwrap();
    assert_eq!(client.so_far(), []);
    drop(client);
    assert_eq!(place.attach().hello.process, keeper);
    horus_sys::signal::send(&child, Signal::KILL).unwrap();
    until("its end", || (!process::is_alive(&keeper)).then_some(()));
}

#[test]
fn a_held_lock_without_a_keeper_is_named() {
    let place = Place::new();
    let directory = place.directory();
    let _lock = FileLock::try_acquire(&directory.lock(), "a test").unwrap();
    let error = attach(&place.run, exe(), None).unwrap_err();
    assert!(
        matches!(&error, AttachError::Unresponsive { holder: Some(holder), .. } if holder.program == "a test"),
        "{error}"
    );
}

#[test]
fn a_program_that_is_no_keeper_is_reported_with_its_last_words() {
    let place = Place::new();
    let error = attach(&place.run, "/bin/false".as_ref(), None).unwrap_err();
    assert!(matches!(error, AttachError::Dies { .. }), "{error}");
    let error = attach(&place.run, "/no/such".as_ref(), None).unwrap_err();
    assert!(matches!(error, AttachError::Spawn { .. }), "{error}");
    assert!(!place.attach().hello.slots.iter().any(|view| view.slot == name("bot")));
}
