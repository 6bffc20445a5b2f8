//! The keeper becomes another program, and its children do not notice; or it does not, and nothing has changed.

use crate::support::{Client, Place, exe, name, until};
use horus_keeper::protocol::{Event, ExitStatus, Request, SlotState};
use horus_keeper::slots::Witness;
use horus_sys::process::{self, ProcessId};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

fn upgrade(client: &mut Client, executable: impl Into<PathBuf>) {
    client.send(&Request::Upgrade { executable: executable.into() });
}

/// Asks for it, waits for the end of the connection, and is connected again.
fn upgraded(place: &Place, mut client: Client) -> Client {
    let upgrades = client.hello.upgrades;
    upgrade(&mut client, exe());
    client.wait_for_the_end();
    let client = place.attach();
    assert_eq!((client.hello.upgrades, client.spawned), (upgrades + 1, false));
    client
}

fn refusal(client: &mut Client) -> String {
    match client.wait("UpgradeRefused", |event| matches!(event, Event::UpgradeRefused { .. })) {
        Event::UpgradeRefused { error } => error,
        other => panic!("{other:?}"),
    }
}

/// A program that is a shell script.
fn script(place: &Place, file: &str, text: &str) -> PathBuf {
    let path = place.path(file);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Prints numbered lines until `go` is there, and ends with code 3.
fn talker(place: &Place) -> String {
    let go = place.path("go").display().to_string();
    format!(
        "i=0; while [ ! -e {go} ]; do echo line $i; i=$((i+1)); done; echo $i > {}; exit 3",
        place.path("count").display()
    )
}

fn assert_every_line_is_there(place: &Place) {
    let count: usize = std::fs::read_to_string(place.path("count")).unwrap().trim().parse().unwrap();
    let text: String = (0..=100)
        .rev()
        .filter_map(|age| std::fs::read_to_string(horus_keeper::logs::rotated(&place.log("bot"), age)).ok())
        .collect();
    assert_eq!(text.lines().count(), count, "lines are lost or doubled");
    assert!(text.lines().enumerate().all(|(number, line)| line == format!("line {number}")));
}

#[test]
fn invariant_g6_an_upgraded_keeper_is_the_same_process_with_the_same_children() {
    let place = Place::new();
    let mut client = place.attach();
    let keeper = client.hello.process;
    let mut spec = place.shell("bot", 1, &talker(&place));
    spec.log.keep = 100;
    let process = client.run(spec);
    // A stray in a session of its own that has dropped every mark but that it was seen.
    let escape = "setsid env -i sh -c 'exec >/dev/null 2>&1; exec sleep 1000' & sleep 0.2; exit 4";
    client.run(place.shell("left", 1, escape));
    let Event::Exited { strays, .. } = client.exited("left") else { unreachable!() };
    let idle = client.run(place.shell("idle", 1, "exec sleep 1000"));
    for upgrades in 1..=5 {
        client = upgraded(&place, client);
        assert_eq!(client.hello.upgrades, upgrades);
        assert_eq!(client.hello.process, keeper, "the same process");
        assert_eq!(
            (client.state("bot"), client.state("idle")),
            (SlotState::Running(process), SlotState::Running(idle))
        );
        assert!(
            client.hello.slots.iter().all(|view| !view.adopted),
            "they are its own children all the time"
        );
        assert_eq!(client.hello.remarks, Vec::<String>::new());
    }
    assert_eq!(client.kill_tree("left", 1), strays);
    std::fs::write(place.path("go"), "").unwrap();
    let Event::Exited { status, .. } = client.exited("bot") else { unreachable!() };
    assert_eq!(status, ExitStatus::Code(3), "a parent learns the status");
    assert_eq!(place.exit_record("bot", 1).unwrap().witness, Witness::Keeper);
    assert_every_line_is_there(&place);
    client.run(place.shell("bot", 2, "exit 0"));
    client.exited("bot");
}

#[test]
fn an_end_during_the_upgrade_is_told_with_its_status() {
    let place = Place::new();
    let mut client = place.attach();
    for round in 1..=20 {
        client.run(place.shell("bot", round, "echo words; exit 9"));
        upgrade(&mut client, exe());
        client.so_far_or_the_end();
        let status = until("its end", || {
            client = place.attach();
            match client.state("bot") {
                SlotState::Ended { status, .. } => Some(status),
                _ => None,
            }
        });
        assert_eq!(status, ExitStatus::Code(9));
    }
    assert_eq!(place.log_text("bot"), "words\n".repeat(20));
    assert!(client.hello.upgrades > 0, "not one of twenty came through");
}

#[test]
fn whoever_connects_during_the_upgrade_is_served_by_the_new_program() {
    let place = Place::new();
    let mut client = place.attach();
    // Takes its time both when it is tried out and when it is executed.
    let tried = place.path("tried").display().to_string();
    let text = format!("touch {tried}; sleep 0.3; exec {} \"$@\"", exe().display());
    upgrade(&mut client, script(&place, "slow", &text));
    until("the trial", || place.path("tried").exists().then_some(()));
    let waiting = UnixStream::connect(place.directory().socket()).unwrap();
    waiting.set_read_timeout(Some(crate::support::FAILSAFE)).unwrap();
    let mut line = String::new();
    BufReader::new(waiting).read_line(&mut line).unwrap();
    let Event::Hello(hello) = serde_json::from_str(&line).unwrap() else { panic!("{line}") };
    assert_eq!((hello.upgrades, hello.process), (1, client.hello.process));
}

#[test]
fn a_new_program_that_does_not_work_changes_nothing() {
    let place = Place::new();
    let mut client = place.attach();
    let (keeper, process) = (client.hello.process, client.run(place.shell("bot", 1, "exec sleep 1000")));
    let plain = place.path("plain");
    std::fs::write(&plain, "x").unwrap();
    let garbage = script(&place, "garbage", "");
    std::fs::write(&garbage, "no program at all").unwrap();
    let other_versions = r#"{"program":"9","protocols":{"oldest":8,"newest":9},"formats":[],"handovers":{"oldest":1,"newest":1}}"#;
    for (program, why) in [
        (PathBuf::from("horus"), "not absolute"),
        (place.path("missing"), "not found"),
        (plain, "not executable"),
        (garbage, "cannot be run"),
        (script(&place, "ends", "exit 64"), "ended with code 64"),
        (script(&place, "dies", "kill -SEGV $$"), "ended by signal 11"),
        (script(&place, "hangs", "exec sleep 1000"), "said nothing"),
        (script(&place, "lies", "echo hello"), "did not answer as a keeper"),
        (script(&place, "tomorrow", &format!("echo '{other_versions}'")), "speaks protocol 8 to 9"),
    ] {
        upgrade(&mut client, program);
        let error = refusal(&mut client);
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(client.so_far(), [], "and the connection goes on");
    let client = place.attach();
    assert_eq!((client.hello.process, client.hello.upgrades), (keeper, 0));
    assert_eq!(client.state("bot"), SlotState::Running(process));
}

#[test]
fn nothing_half_done_is_handed_over() {
    let place = Place::new();
    let mut client = place.attach();
    client.run(place.shell("bot", 1, "trap '' TERM; sleep 1000 & sleep 1000"));
    client.send(&Request::KillTree { slot: name("bot"), generation: horus_keeper::protocol::Generation(1) });
    upgrade(&mut client, exe());
    let error = refusal(&mut client);
    assert!(error.contains("slot bot is just starting or ending"), "{error}");
    client.wait("Gone", |event| matches!(event, Event::Gone { .. }));
    upgraded(&place, client);
}

/// The keeper dies in the middle: what the next one finds is what any dead keeper leaves.
fn window(point: &str) {
    let place = Place::new();
    let mut client = place.attach_dying_at(point);
    let keeper = client.hello.process;
    let mut spec = place.shell("bot", 1, &talker(&place));
    spec.log.keep = 100;
    let process: ProcessId = client.run(spec);
    let _hold = horus_keeper::hold_fifos(&place.run, &[name("bot")]).unwrap();
    upgrade(&mut client, exe());
    until("the keeper's death", || (!process::is_alive(&keeper)).then_some(()));
    let mut client = place.attach();
    assert!(client.spawned, "{point}");
    assert_eq!(client.state("bot"), SlotState::Running(process), "{point}");
    std::fs::write(place.path("go"), "").unwrap();
    client.exited("bot");
    assert_every_line_is_there(&place);
}

#[test]
fn window_after_the_handover_is_written() {
    window("upgrade.after-handover");
}

#[test]
fn window_before_the_new_program_is_executed() {
    window("upgrade.before-exec");
}

#[test]
fn window_in_the_new_program_before_it_took_anything_over() {
    window("upgrade.after-exec");
}
