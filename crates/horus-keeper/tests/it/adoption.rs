//! The keeper dies; its children do not, and the next one takes them over.

use crate::support::{Client, Place, exe, name, until};
use horus_keeper::hold_fifos;
use horus_keeper::protocol::{Event, ExitStatus, SlotState, StartStep};
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
        SlotState::Ended { process: Some(process), status: ExitStatus::Code(17), out_of_memory: None }
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
        let settings =
            GenerationRecord { generation, log, cgroup: None, exclusive: Vec::new(), counts: None };
        directory.write_generation(&settings).unwrap();
        directory.write_state(&StateRecord { generation, process, boot_id: boot_id.to_owned() }).unwrap();
    }
    let mut client = place.attach();
    assert_eq!(client.state("other-boot"), SlotState::Empty);
    // A moment is given to whoever may know how it ended.
    assert_eq!(client.state("reused"), SlotState::Ending(reused));
    client.wait("Exited", |event| matches!(event, Event::Exited { status: ExitStatus::Unknown, .. }));
    assert_eq!(client.kill_tree("reused", 4), 0, "and the test itself was not killed");
    client.run(place.shell("other-boot", 5, "exit 0"));
}

/// Makes a child live under an unreadable record, with the script's own strays beside it.
fn torn(place: &Place, script: &str, tear: &str) -> process::ProcessId {
    let mut client = place.attach();
    let runs = place.path("runs").display().to_string();
    let process = client.run(place.shell("bot", 7, &format!("echo run >> {runs}; {script}")));
    until("the script", || place.path("ready").exists().then_some(()));
    client.kill_keeper();
    std::fs::write(place.directory().slot(&name("bot")).path().join("state"), tear).unwrap();
    process
}

fn refused(client: &mut Client, place: &Place, generation: u64) -> String {
    client.start(place.shell("bot", generation, "exit 0"));
    match client.wait("StartFailed", |event| matches!(event, Event::StartFailed { .. })) {
        Event::StartFailed { step: StartStep::Record | StartStep::Busy, error, .. } => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn invariant_g6_a_torn_record_of_a_living_program_never_starts_a_second() {
    for tear in ["", "horus-state 1\n{\"gener", "horus-state 99\n{}\n"] {
        let place = Place::new();
        // A second session of the slot: which of the two is the program, nobody can tell. It says itself that it has begun.
        let ready = place.path("ready");
        let script = format!("setsid sh -c 'touch {}; exec sleep 1000' & exec sleep 1000", ready.display());
        let process = torn(&place, &script, tear);
        let mut client = place.attach();
        assert_eq!(client.hello.slots, []);
        assert_eq!(client.hello.unreadable[0].slot, name("bot"), "{tear:?}");
        for generation in [8, 9, 100] {
            let error = refused(&mut client, &place, generation);
            assert!(error.contains(&process.pid.to_string()), "{error}");
        }
        // The next keeper knows no better.
        client.kill_keeper();
        let mut client = place.attach();
        refused(&mut client, &place, 101);
        assert!(process::is_alive(&process));
        // Killed on request by its marks, it leaves a free slot, and the count of runs goes on.
        assert!(client.kill_tree("bot", 7) >= 2);
        client.run(place.shell("bot", 101, &format!("echo run >> {}", place.path("runs").display())));
        client.exited("bot");
        let slot = place.directory().slot(&name("bot"));
        assert_eq!(std::fs::read_to_string(slot.path().join("state.bad")).unwrap(), tear);
        assert_eq!(std::fs::read_to_string(place.path("runs")).unwrap(), "run\nrun\n");
    }
}

#[test]
fn a_program_under_a_torn_record_is_recognised_by_its_marks_and_goes_on() {
    let place = Place::new();
    let ready = place.path("ready").display().to_string();
    let go = place.path("go").display().to_string();
    let script = format!("touch {ready}; while [ ! -e {go} ]; do sleep 0.01; done; echo last words; exit 5");
    let process = torn(&place, &script, "");
    let mut client = place.attach();
    assert_eq!(client.state("bot"), SlotState::Running(process));
    assert_eq!(client.hello.slots[0].generation.0, 7);
    assert!(client.hello.remarks[0].contains("recognised by its marks"), "{:?}", client.hello.remarks);
    refused(&mut client, &place, 8);
    std::fs::write(go, "").unwrap();
    client.exited("bot");
    assert_eq!(place.log_text("bot"), "last words\n");
}

#[test]
fn lost_log_settings_let_the_program_go_on_and_lose_no_line() {
    let place = Place::new();
    let mut client = place.attach();
    let go = place.path("go").display().to_string();
    let script = format!("while [ ! -e {go} ]; do sleep 0.01; done; echo last words; exit 5");
    let process = client.run(place.shell("bot", 1, &script));
    client.kill_keeper();
    let slot = place.directory().slot(&name("bot"));
    std::fs::write(slot.path().join("gen"), "").unwrap();
    let mut client = place.attach();
    assert_eq!(client.state("bot"), SlotState::Running(process));
    std::fs::write(go, "").unwrap();
    client.exited("bot");
    assert_eq!(std::fs::read_to_string(slot.path().join("rescued.log")).unwrap(), "last words\n");
    client.run(place.shell("bot", 2, "echo new"));
    client.exited("bot");
    assert_eq!(place.log_text("bot"), "new\n");
}

#[test]
fn records_of_another_boot_stand_in_nobodys_way_readable_or_not() {
    let place = Place::new();
    let directory = place.directory();
    directory.write_boot_id("another boot").unwrap();
    for (slot, tear) in [("torn", ""), ("foreign", "horus-state 99\n{}\n")] {
        let slot = directory.slot(&name(slot));
        horus_sys::files::ensure_private_dir(slot.path()).unwrap();
        std::fs::write(slot.path().join("state"), tear).unwrap();
        std::fs::write(slot.path().join("gen"), tear).unwrap();
        std::fs::write(slot.path().join("exit.41"), tear).unwrap();
    }
    let mut client = place.attach();
    assert_eq!(client.hello.unreadable, []);
    assert_eq!(directory.boot_id(), Some(horus_sys::clock::boot_id().unwrap()));
    for slot in ["torn", "foreign"] {
        assert_eq!(client.state(slot), SlotState::Empty);
        client.run(place.shell(slot, 42, "exit 0"));
        client.exited(slot);
    }
}

#[test]
fn a_torn_or_foreign_record_of_nobody_is_put_aside_at_the_next_start() {
    let place = Place::new();
    let directory = place.directory();
    let slot = directory.slot(&crate::support::name("torn"));
    horus_sys::files::ensure_private_dir(slot.path()).unwrap();
    std::fs::write(slot.path().join("state"), "horus-state 9\n{}\n").unwrap();
    std::fs::create_dir(directory.slots().join("Not A Slot")).unwrap();
    let mut client = place.attach();
    assert!(client.hello.slots.is_empty());
    assert_eq!(client.hello.unreadable.len(), 1);
    client.run(place.shell("bot", 1, "exit 0"));
    client.run(place.shell("torn", 1, "exit 0"));
    let words = std::fs::read_to_string(directory.log()).unwrap();
    assert!(words.contains("slot torn cannot be taken over"), "{words}");
}
