//! The keeper dies; its children do not, and the next one takes them over.

use crate::support::{Place, exe, until};
use horus_keeper::hold_fifos;
use horus_keeper::protocol::{Event, ExitStatus, SlotState};
use horus_keeper::slots::Witness;
use horus_sys::process;

fn joined(place: &Place, slot: &str) -> String {
    (0..=100)
        .rev()
        .filter_map(|age| std::fs::read_to_string(horus_keeper::logs::rotated(&place.log(slot), age)).ok())
        .collect()
}

#[test]
fn a_child_outlives_its_keeper_and_no_line_is_lost() {
    let place = Place::new();
    let mut client = place.attach();
    let script = "i=0; while [ $i -lt 100000 ]; do echo line $i; i=$((i+1)); done; exit 3";
    let process = client.run(place.shell("bot", 1, script));
    until("some output", || (!place.log_text("bot").is_empty()).then_some(()));
    let mut keepers = 0;
    while process::is_alive(&process) && keepers < 12 {
        client.kill_keeper();
        client = place.attach();
        assert!(client.spawned);
        match client.state("bot") {
            SlotState::Running(found) => assert_eq!(found, process),
            SlotState::Ending(_) | SlotState::Ended { .. } => break,
            other => panic!("{other:?}"),
        }
        assert!(client.hello.slots[0].adopted);
        keepers += 1;
    }
    assert!(keepers > 2, "{keepers}");
    if !matches!(client.state("bot"), SlotState::Ended { .. }) {
        let Event::Exited { status, .. } = client.exited("bot") else { unreachable!() };
        assert!(matches!(status, ExitStatus::Code(3) | ExitStatus::Unknown), "{status:?}");
    }
    let expected: String = (0..100_000).map(|number| format!("line {number}\n")).collect();
    assert_eq!(joined(&place, "bot"), expected);
}

#[test]
fn last_words_and_status_survive_when_horus_is_there() {
    let place = Place::new();
    // The small Horus of the test binary starts the keeper, is a subreaper, and records what it reaps.
    let mut reaper = place.role(&["reaper", place.run.to_str().unwrap()], None);
    until("the small Horus", || place.path("ready").exists().then_some(()));
    let mut client = place.attach();
    assert!(!client.spawned);
    let go = place.path("go").display().to_string();
    let script = format!("while [ ! -e {go} ]; do sleep 0.01; done; echo last words; exit 17");
    let process = client.run(place.shell("bot", 1, &script));
    let _hold = hold_fifos(&place.run, &[crate::support::name("bot")]).unwrap();
    client.kill_keeper();
    std::fs::write(place.path("go"), "").unwrap();
    until("its end", || (!process::is_alive(&process)).then_some(()));
    let record = until("its record", || place.exit_record("bot", 1));
    assert_eq!((record.status, record.witness), (ExitStatus::Code(17), Witness::Subreaper));
    assert_eq!(place.log_text("bot"), "");
    let client = place.attach();
    assert_eq!(
        client.state("bot"),
        SlotState::Ended { process: Some(process), status: ExitStatus::Code(17) }
    );
    assert_eq!(place.log_text("bot"), "last words\n");
    reaper.kill().unwrap();
    reaper.wait().unwrap();
}

#[test]
fn an_adopted_child_is_watched_killed_and_restarted_like_any_other() {
    let place = Place::new();
    let mut client = place.attach();
    let process = client.run(place.shell("bot", 1, "trap '' TERM; sleep 1000 & sleep 1000"));
    client.kill_keeper();
    let mut client = place.attach();
    assert_eq!(client.state("bot"), SlotState::Running(process));
    assert_eq!(client.kill_tree("bot", 1), 3);
    let Event::Exited { status, .. } = client.exited("bot") else { unreachable!() };
    assert!(
        matches!(status, ExitStatus::Signal { number: 9, .. } | ExitStatus::Unknown),
        "the truth or nothing: {status:?}"
    );
    client.run(place.spec("bot", 2, &[exe().to_str().unwrap(), "lines", "3", "1"]));
    let Event::Exited { status, .. } = client.exited("bot") else { unreachable!() };
    assert_eq!(status, ExitStatus::Code(0));
}

#[test]
fn a_record_of_another_boot_or_of_a_reused_pid_is_not_adopted() {
    use horus_keeper::protocol::Generation;
    use horus_keeper::slots::{GenerationRecord, StateRecord};
    let place = Place::new();
    let boot_id = horus_sys::clock::boot_id().unwrap();
    let me = process::identify(process::own_pid()).unwrap().unwrap();
    let reused = process::ProcessId { start_time: me.start_time + 1, ..me };
    for (slot, process, boot_id) in [("other-boot", me, "x"), ("reused", reused, boot_id.as_str())] {
        let directory = place.directory().slot(&crate::support::name(slot));
        horus_sys::files::ensure_private_dir(directory.path()).unwrap();
        let generation = Generation(4);
        let log = place.spec(slot, 4, &[]).log;
        directory.write_generation(&GenerationRecord { generation, log }).unwrap();
        directory.write_state(&StateRecord { generation, process, boot_id: boot_id.to_owned() }).unwrap();
    }
    let mut client = place.attach();
    assert_eq!(client.state("other-boot"), SlotState::Empty);
    assert_eq!(
        client.state("reused"),
        SlotState::Ended { process: Some(reused), status: ExitStatus::Unknown }
    );
    assert_eq!(client.kill_tree("reused", 4), 0, "and the test itself was not killed");
    client.run(place.shell("other-boot", 5, "exit 0"));
}

#[test]
fn a_torn_or_foreign_record_is_left_alone_and_the_rest_served() {
    let place = Place::new();
    let directory = place.directory();
    let slot = directory.slot(&crate::support::name("torn"));
    horus_sys::files::ensure_private_dir(slot.path()).unwrap();
    std::fs::write(slot.path().join("state"), "horus-state 9\n{}\n").unwrap();
    std::fs::create_dir(directory.slots().join("Not A Slot")).unwrap();
    let mut client = place.attach();
    assert!(client.hello.slots.is_empty());
    client.run(place.shell("bot", 1, "exit 0"));
    let words = std::fs::read_to_string(directory.log()).unwrap();
    assert!(words.contains("slot torn cannot be taken over"), "{words}");
}
