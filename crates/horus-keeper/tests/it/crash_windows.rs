//! Each window of the protocol in which the keeper can die, hit for certain. The list is that of
//! `docs/design/001-one-keeper.md`.

use crate::support::{Place, exe, until};
use horus_keeper::protocol::{ExitStatus, Generation, SlotState};
use horus_sys::process;

/// What must be true when the next keeper has taken over.
enum Then {
    /// The program was never executed; a new run may start.
    NeverRan,
    /// It runs, once.
    Runs,
    /// It ended with this status; `Unknown` is allowed only where it says so.
    Ended { or_unknown: bool },
}

fn window(point: &str, then: &Then) {
    let place = Place::new();
    let mut client = place.attach_dying_at(point);
    let ran = place.path("ran").display().to_string();
    let ends = matches!(then, Then::Ended { .. });
    let rest = if ends { "exit 42" } else { "exec sleep 1000" };
    client.start(place.shell("bot", 1, &format!("echo $$ >> {ran}; echo line; {rest}")));
    let keeper = client.hello.process;
    until("the keeper's death", || (!process::is_alive(&keeper)).then_some(()));
    let mut client = place.attach();
    assert!(client.spawned, "{point}");
    let runs = || std::fs::read_to_string(&ran).unwrap_or_default().lines().count();
    assert_eq!(client.hello.slots[0].generation, Generation(1), "{point}");
    match then {
        Then::NeverRan => {
            until("its end without a trace", || place.marked_but_for_the_keeper().is_empty().then_some(()));
            assert_eq!(runs(), 0, "{point}: the program ran");
            until("a settled slot", || {
                client = place.attach();
                matches!(
                    client.state("bot"),
                    SlotState::Empty
                        | SlotState::Ended { status: ExitStatus::Unknown | ExitStatus::Code(125), .. }
                )
                .then_some(())
            });
        }
        Then::Runs => {
            assert!(
                matches!(client.state("bot"), SlotState::Running(_)),
                "{point}: {:?}",
                client.state("bot")
            );
            until("its line", || (place.log_text("bot") == "line\n").then_some(()));
            assert_eq!(runs(), 1, "{point}");
            client.kill_tree("bot", 1);
            client.exited("bot");
        }
        Then::Ended { or_unknown } => {
            let status = until("its status", || {
                client = place.attach();
                match client.state("bot") {
                    SlotState::Ended { status, .. } => Some(status),
                    _ => None,
                }
            });
            assert!(
                status == ExitStatus::Code(42) || (*or_unknown && status == ExitStatus::Unknown),
                "{point}: {status:?}"
            );
            assert_eq!(runs(), 1, "{point}");
            assert_eq!(place.log_text("bot"), "line\n", "{point}");
        }
    }
    client.run(place.shell("bot", 2, &format!("echo $$ >> {ran}")));
    client.exited("bot");
    let expected = if matches!(then, Then::NeverRan) { 1 } else { 2 };
    assert_eq!(runs(), expected, "{point}: the slot is usable");
}

#[test]
fn window_after_the_generation_is_written() {
    window("start.after-gen", &Then::NeverRan);
}

#[test]
fn window_after_the_fork_before_the_state_is_written() {
    window("start.after-fork", &Then::NeverRan);
}

#[test]
fn window_after_the_state_is_written_before_the_gate_opens() {
    window("start.after-state", &Then::NeverRan);
}

#[test]
fn window_after_the_gate_is_opened() {
    window("start.after-gate", &Then::Runs);
}

#[test]
fn window_after_output_was_moved() {
    window("pump.after-splice", &Then::Ended { or_unknown: true });
}

#[test]
fn window_after_the_end_before_the_record() {
    window("exit.before-record", &Then::Ended { or_unknown: true });
}

#[test]
fn window_after_the_record_before_the_reap() {
    window("exit.after-record", &Then::Ended { or_unknown: false });
}

#[test]
fn window_after_the_reap_before_the_state_is_removed() {
    window("exit.after-reap", &Then::Ended { or_unknown: false });
}

#[test]
fn window_after_the_state_is_removed_before_the_client_is_told() {
    window("exit.after-remove", &Then::Ended { or_unknown: false });
}

#[test]
fn window_between_the_renames_of_a_rotation() {
    let place = Place::new();
    let mut client = place.attach_dying_at("rotate.after-rename");
    let mut spec = place.spec("bot", 1, &[exe().to_str().unwrap(), "lines", "3000", "1000"]);
    spec.log.max_bytes = 32 * 1024;
    spec.log.keep = 50;
    client.start(spec);
    let keeper = client.hello.process;
    until("the keeper's death", || (!process::is_alive(&keeper)).then_some(()));
    until("all lines", || {
        let _client = place.attach();
        let text: String = (0..50)
            .rev()
            .filter_map(|age| {
                std::fs::read_to_string(horus_keeper::logs::rotated(&place.log("bot"), age)).ok()
            })
            .collect();
        let whole =
            text.lines().enumerate().all(|(number, line)| line.starts_with(&format!("line {number} ")));
        assert!(whole || !text.ends_with('\n'), "a line is lost, doubled or out of order");
        (text.lines().count() == 3_000).then_some(())
    });
}

#[test]
fn window_in_horus_after_the_keeper_is_spawned() {
    let place = Place::new();
    let words = ["attach", place.run.to_str().unwrap()];
    let status = place.role_with(&words, Some(("HORUS_TEST_DIE_AT", "attach.after-spawn"))).wait().unwrap();
    assert!(!status.success());
    // The half-made keeper went on alone, with the lock.
    let client = place.attach();
    assert!(!client.spawned);
}

#[test]
fn window_in_horus_after_a_hung_keeper_is_killed() {
    let place = Place::new();
    let mut client = place.attach();
    let child = client.run(place.shell("bot", 1, "exec sleep 1000"));
    let keeper = client.hello.process;
    horus_sys::signal::send(&keeper, horus_sys::signal::Signal::STOP).unwrap();
    let words = ["replace", place.run.to_str().unwrap()];
    let status = place.role_with(&words, Some(("HORUS_TEST_DIE_AT", "replace.after-kill"))).wait().unwrap();
    assert!(!status.success());
    until("the keeper's death", || (!process::is_alive(&keeper)).then_some(()));
    let client = place.attach();
    assert!(client.spawned);
    assert_eq!(client.state("bot"), SlotState::Running(child));
}
