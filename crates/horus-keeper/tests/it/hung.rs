//! A keeper that hangs is ended, and nobody but it notices.

use crate::support::{Client, Place, until};
use horus_keeper::protocol::{Event, ExitStatus, SlotState};
use horus_keeper::{AttachError, ReplaceError, attach, replace};
use horus_sys::lock::FileLock;
use horus_sys::process::{self, ProcessId};
use horus_sys::signal::{self, Signal};

/// Prints numbered lines until the file `go` is there; then says how many, and ends.
fn talker(place: &Place) -> String {
    let go = place.path("go").display().to_string();
    format!(
        "i=0; while [ ! -e {go} ]; do echo line $i; i=$((i+1)); done; echo $i > $HORUS_SLOT_COUNT; exit 3"
    )
}

fn start_talkers(place: &Place, client: &mut Client, count: usize) -> Vec<ProcessId> {
    let talkers = (0..count).map(|number| {
        let mut spec = place.shell(&format!("bot-{number}"), 1, &talker(place));
        let count = place.path(&format!("count-{number}")).display().to_string();
        spec.environment.push(("HORUS_SLOT_COUNT".into(), count.as_str().into()));
        spec.log.keep = 100;
        client.run(spec)
    });
    talkers.collect()
}

fn assert_unharmed(place: &Place, client: &mut Client, talkers: &[ProcessId]) {
    for (number, process) in talkers.iter().enumerate() {
        assert_eq!(client.state(&format!("bot-{number}")), SlotState::Running(*process));
        assert!(process::is_alive(process));
    }
    std::fs::write(place.path("go"), "").unwrap();
    for number in 0..talkers.len() {
        let Event::Exited { status, .. } = client.exited(&format!("bot-{number}")) else { unreachable!() };
        assert!(matches!(status, ExitStatus::Code(3) | ExitStatus::Unknown), "{status:?}");
        let count: usize =
            std::fs::read_to_string(place.path(&format!("count-{number}"))).unwrap().trim().parse().unwrap();
        let log = place.log(&format!("bot-{number}"));
        let text: String = (0..=100)
            .rev()
            .filter_map(|age| std::fs::read_to_string(horus_keeper::logs::rotated(&log, age)).ok())
            .collect();
        assert_eq!(text.lines().count(), count, "lines are lost or doubled");
        for (number, line) in text.lines().enumerate() {
            assert_eq!(line, format!("line {number}"));
        }
    }
}

#[test]
fn invariant_g6_a_stopped_keeper_is_replaced_and_its_children_do_not_notice() {
    let place = Place::new();
    let mut client = place.attach();
    let talkers = start_talkers(&place, &mut client, 3);
    until("some output", || (place.log_text("bot-2").len() > 100_000).then_some(()));
    let keeper = client.hello.process;
    signal::send(&keeper, Signal::STOP).unwrap();
    let error = attach(&place.run, crate::support::exe(), None).unwrap_err();
    assert!(
        matches!(&error, AttachError::Unresponsive { holder: Some(holder), .. } if holder.pid == keeper.pid)
    );
    let replaced = replace(&place.run).unwrap();
    assert_eq!(replaced.keeper, keeper);
    assert!(replaced.doing.starts_with("stopped"), "{}", replaced.doing);
    assert!(!process::is_alive(&keeper));
    let mut client = place.attach();
    assert!(client.spawned);
    assert_unharmed(&place, &mut client, &talkers);
}

#[test]
fn invariant_g6_a_keeper_that_turns_round_in_the_middle_of_moving_output_is_replaced() {
    let place = Place::new();
    let mut client = place.attach_with(("HORUS_KEEPER_TEST_HANG_AT", "pump.after-splice"));
    let talkers = start_talkers(&place, &mut client, 1);
    let keeper = client.hello.process;
    until("some output", || (!place.log_text("bot-0").is_empty()).then_some(()));
    let replaced = replace(&place.run).unwrap();
    assert_eq!(replaced.keeper, keeper);
    assert!(replaced.doing.starts_with("running"), "{}", replaced.doing);
    let mut client = place.attach();
    assert!(client.spawned);
    assert_unharmed(&place, &mut client, &talkers);
}

#[test]
fn nobody_is_ended_who_is_not_certainly_the_keeper() {
    let place = Place::new();
    let lock = place.directory().lock();
    assert!(matches!(replace(&place.run), Err(ReplaceError::Free)));

    let _held = FileLock::try_acquire(&lock, "a test").unwrap();
    let error = replace(&place.run).unwrap_err();
    assert!(error.to_string().contains("does not call itself the keeper"), "{error}");

    // The note names somebody innocent, as after a crash and a reused pid.
    let mut innocent = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = i32::try_from(innocent.id()).unwrap();
    let ProcessId { start_time, .. } = process::identify(pid).unwrap().unwrap();
    let note = |text: String| {
        use std::io::{Seek, Write};
        let mut file = std::fs::File::options().write(true).truncate(true).open(&lock).unwrap();
        file.rewind().unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    for (text, why) in [
        (format!("{pid} horus keep\n"), "does not have the lock open"),
        (format!("{pid} {start_time} horus keep\n"), "does not have the lock open"),
        (format!("{pid} {} horus keep\n", start_time + 1), "belongs to another process"),
        (String::new(), "does not say who holds it"),
    ] {
        note(text);
        let error = replace(&place.run).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    assert!(innocent.try_wait().unwrap().is_none(), "an innocent process was killed");
    innocent.kill().unwrap();
    innocent.wait().unwrap();
}

#[test]
fn a_note_of_an_older_program_is_enough_where_the_lock_is_seen_open() {
    let place = Place::new();
    let mut client = place.attach();
    let child = client.run(place.shell("bot", 1, "exec sleep 1000"));
    let keeper = client.hello.process;
    signal::send(&keeper, Signal::STOP).unwrap();
    std::fs::write(place.directory().lock(), format!("{} horus keep\n", keeper.pid)).unwrap();
    assert_eq!(replace(&place.run).unwrap().keeper, keeper);
    assert_eq!(place.attach().state("bot"), SlotState::Running(child));
}
