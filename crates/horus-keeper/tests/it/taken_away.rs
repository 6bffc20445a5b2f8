//! The run directory is taken away while programs live. Nobody dies, nobody is started twice, and the next keeper finds everything.

use crate::support::{Client, Place, until};
use horus_keeper::protocol::{Event, ExitStatus, SlotState};
use horus_sys::lock::FileLock;
use horus_sys::process;

/// Writes a number whenever the file `go` has a line more, and ends with 42 at the fourth.
fn counter(place: &Place) -> String {
    let go = place.path("go").display().to_string();
    format!(
        "echo $$ >> {ran}; n=0; while [ $n -lt 4 ]; do m=$(wc -l < {go}); while [ $n -lt $m ]; do n=$((n+1)); echo $n; done; \
         sleep 0.01; done; exit 42",
        ran = place.path("ran").display()
    )
}

/// Has the program write its next number, and waits until that is in the log.
fn next_number(place: &Place, number: usize) {
    std::fs::write(place.path("go"), "\n".repeat(number)).unwrap();
    let expected: String = (1..=number).map(|number| format!("{number}\n")).collect();
    until("the next number", || (place.log_text("bot") == expected).then_some(()));
}

fn status_of(client: &mut Client) -> ExitStatus {
    match client.exited("bot") {
        Event::Exited { status, .. } => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_run_directory_that_was_taken_away_is_made_anew() {
    let place = Place::new();
    std::fs::write(place.path("go"), "").unwrap();
    let mut client = place.attach();
    let program = client.run(place.shell("bot", 1, &counter(&place)));
    next_number(&place, 1);
    std::fs::remove_dir_all(&place.run).unwrap();
    client.so_far();
    next_number(&place, 2);

    // Another Horus finds the same keeper.
    let keeper = client.hello.process;
    let client = place.attach();
    assert_eq!((client.spawned, client.hello.process), (false, keeper));
    assert_eq!(client.state("bot"), SlotState::Running(program));
    assert!(client.hello.remarks.iter().any(|text| text.contains("was taken away")), "{:?}", client.hello);

    // And so does another keeper with the program, whose output has no name any more.
    client.kill_keeper();
    until("the keeper's death", || (!process::is_alive(&keeper)).then_some(()));
    let mut client = place.attach();
    assert!(client.spawned);
    assert_eq!(client.state("bot"), SlotState::Running(program));
    next_number(&place, 3);

    std::fs::write(place.path("go"), "\n\n\n\n").unwrap();
    let status = status_of(&mut client);
    assert!(matches!(status, ExitStatus::Code(42) | ExitStatus::Unknown), "{status:?}");
    assert_eq!(place.log_text("bot"), "1\n2\n3\n4\n");
    std::fs::remove_file(place.log("bot")).unwrap();
    client.run(place.shell("bot", 2, "echo again"));
    assert_eq!(status_of(&mut client), ExitStatus::Code(0));
    assert_eq!(place.log_text("bot"), "again\n");
    assert_eq!(std::fs::read_to_string(place.path("ran")).unwrap().lines().count(), 1);
}

#[test]
fn the_next_run_has_a_fifo_with_a_name() {
    let place = Place::new();
    let mut client = place.attach();
    client.run(place.shell("bot", 1, "sleep 1000"));
    std::fs::remove_dir_all(&place.run).unwrap();
    client.so_far();
    client.kill_tree("bot", 1);
    // The next run of the same slot has a FIFO of its own.
    client.run(place.shell("bot", 2, "echo second"));
    client.wait("Exited", |event| {
        matches!(event, Event::Exited { generation, status: ExitStatus::Code(0), .. } if generation.0 == 2)
    });
    assert_eq!(place.log_text("bot"), "second\n");
}

#[test]
fn a_keeper_that_nobody_asks_looks_by_itself() {
    let place = Place::new();
    let mut client = place.attach();
    let program = client.run(place.shell("bot", 1, "sleep 1000"));
    let keeper = client.hello.process;
    drop(client.into_stream());
    std::fs::remove_dir_all(&place.run).unwrap();
    until("the lock", || horus_sys::lock::read_holder(&place.run.join("keeper.lock")).map(drop));
    let client = place.attach();
    assert_eq!((client.spawned, client.hello.process), (false, keeper));
    assert_eq!(client.state("bot"), SlotState::Running(program));
}

#[test]
fn who_finds_another_keeper_there_leaves_it_alone() {
    let place = Place::new();
    let mut client = place.attach();
    client.run(place.shell("bot", 1, "sleep 1000"));
    std::fs::remove_dir_all(&place.run).unwrap();
    let directory = place.directory();
    let other = FileLock::try_acquire(&directory.lock(), "another keeper").unwrap();
    client.so_far();
    assert!(!directory.socket().exists(), "two keepers at one socket");
    // That one is gone again.
    drop(other);
    client.so_far();
    assert!(directory.socket().exists());
}
