//! What only one slot may hold: never by two at a time, whoever dies, and free as soon as the last of a tree is gone.

use crate::support::{Client, Place, exe, kill, name, until};
use horus_keeper::protocol::{CAN_LOCK, Event, Exclusive, Generation, Request, SlotState, StartSpec};
use horus_sys::process::{self, ProcessId};

fn with_lock(place: &Place, mut spec: StartSpec) -> StartSpec {
    let lock = place.path("locks").join("app.lock");
    spec.exclusive = vec![Exclusive { key: "repo:/srv/app".to_owned(), lock }];
    spec
}

/// Tries to start it and tells who stands in the way.
fn blocked(client: &mut Client, spec: StartSpec) -> String {
    let wanted = spec.slot.clone();
    client.start(spec);
    let answers = |event: &Event| matches!(event, Event::Started { slot, .. } | Event::StartFailed { slot, .. } | Event::Blocked { slot, .. } if *slot == wanted);
    match client.wait("an answer", answers) {
        Event::Blocked { key, holder, .. } => {
            assert_eq!(key, "repo:/srv/app");
            holder
        }
        other => panic!("{other:?}"),
    }
}

/// Starts it as soon as it may.
fn run_when_free(client: &mut Client, spec: &StartSpec) -> ProcessId {
    until("the lock", || {
        client.start(spec.clone());
        let wanted = spec.slot.clone();
        let answers = |event: &Event| matches!(event, Event::Started { slot, .. } | Event::StartFailed { slot, .. } | Event::Blocked { slot, .. } if *slot == wanted);
        match client.wait("an answer", answers) {
            Event::Started { process, .. } => Some(process),
            Event::Blocked { .. } => None,
            other => panic!("{other:?}"),
        }
    })
}

#[test]
fn two_slots_never_hold_the_same_thing_and_the_refused_run_is_still_free() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let (mut client, mut other) = (place.attach(), elsewhere.attach());
    assert!(client.hello.can.iter().any(|word| word == CAN_LOCK));
    client.run(with_lock(&place, place.shell("web", 1, "exec sleep 1000")));
    let us = process::own_pid();
    let beside = with_lock(&place, place.shell("worker", 1, "exec sleep 1000"));
    assert_eq!(blocked(&mut client, beside.clone()), format!("service web of horus pid {us}"));
    let far = with_lock(&place, elsewhere.shell("web", 1, "exec sleep 1000"));
    assert_eq!(blocked(&mut other, far), format!("service web of horus pid {us}"));
    assert_eq!(place.exit_record("worker", 1), None, "nothing of it was written down");
    assert_eq!(client.kill_tree("web", 1), 1);
    client.run(beside);
}

#[test]
fn a_lock_is_held_until_the_last_of_the_tree_is_gone() {
    let place = Place::new();
    let mut client = place.attach();
    client.run(with_lock(&place, place.shell("web", 1, "setsid sleep 1000 & exit 0")));
    assert!(matches!(client.exited("web"), Event::Exited { strays: 1, .. }));
    let worker = with_lock(&place, place.shell("worker", 1, "exec sleep 1000"));
    blocked(&mut client, worker.clone());
    assert_eq!(client.kill_tree("web", 1), 1);
    client.run(worker);
}

#[test]
fn what_never_ran_holds_nothing() {
    let place = Place::new();
    let mut client = place.attach();
    let mut broken = with_lock(&place, place.shell("web", 1, "exit 0"));
    broken.directory = "/no/such/directory".into();
    client.start(broken);
    client.wait("StartFailed", |event| matches!(event, Event::StartFailed { .. }));
    client.run(with_lock(&place, place.shell("worker", 1, "exec sleep 1000")));
}

#[test]
fn invariant_g6_a_lock_outlives_horus_and_its_keeper() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let mut client = place.attach();
    let main = client.run(with_lock(&place, place.shell("web", 1, "exec sleep 1000")));
    client.kill_keeper();
    drop(client);
    // Nobody but the program itself is there to hold it.
    let mut other = elsewhere.attach();
    let far = with_lock(&place, elsewhere.shell("worker", 1, "exec sleep 1000"));
    let holder = blocked(&mut other, far.clone());
    assert!(holder.ends_with(&format!("which is gone; its process {} is not", main.pid)), "{holder}");
    // The next keeper takes it again, as does the program that a keeper becomes.
    let mut client = place.attach();
    assert_eq!(client.state("web"), SlotState::Running(main));
    until("the lock in its new hands", || {
        let holder = blocked(&mut other, far.clone());
        (holder == format!("service web of horus pid {}", process::own_pid())).then_some(())
    });
    client.send(&Request::Upgrade { executable: exe().into() });
    client.wait_for_the_end();
    let mut client = place.attach();
    blocked(&mut other, far.clone());
    assert_eq!(client.kill_tree("web", 1), 1);
    run_when_free(&mut other, &far);
}

#[test]
fn whoever_left_nobody_behind_holds_nothing_dead_as_it_is() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let mut client = place.attach();
    let main = client.run(with_lock(&place, place.shell("web", 1, "exec sleep 1000")));
    client.kill_keeper();
    let mut other = elsewhere.attach();
    let far = with_lock(&place, elsewhere.shell("worker", 1, "exec sleep 1000"));
    blocked(&mut other, far.clone());
    kill(&main);
    run_when_free(&mut other, &far);
}

#[test]
fn what_a_dead_program_of_a_dead_keeper_left_behind_still_holds_its_lock() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let mut client = place.attach();
    let pid = place.path("pid");
    let script = format!("setsid sh -c 'echo $$ > {}; exec sleep 1000' & exec sleep 1000", pid.display());
    let main = client.run(with_lock(&place, place.shell("web", 1, &script)));
    let stray = until("the stray", || {
        let text = std::fs::read_to_string(&pid).ok()?;
        process::identify(text.trim().parse().ok()?).ok().flatten()
    });
    client.kill_keeper();
    kill(&main);
    let mut other = elsewhere.attach();
    let far = with_lock(&place, elsewhere.shell("worker", 1, "exec sleep 1000"));
    let holder = blocked(&mut other, far.clone());
    assert!(holder.contains(&format!("its process {} is not", stray.pid)), "{holder}");
    kill(&stray);
    run_when_free(&mut other, &far);
}

#[test]
fn a_keeper_that_dies_while_it_starts_a_program_leaves_no_lock_without_a_program() {
    for point in ["start.after-gen", "start.after-fork", "start.after-state"] {
        let (place, elsewhere) = (Place::new(), Place::new());
        let mut client = place.attach_dying_at(point);
        client.start(with_lock(&place, place.shell("web", 1, "exec sleep 1000")));
        let keeper = client.hello.process;
        until("the keeper's death", || (!process::is_alive(&keeper)).then_some(()));
        let far = with_lock(&place, elsewhere.shell("worker", 1, "exec sleep 1000"));
        run_when_free(&mut elsewhere.attach(), &far);
    }
    let (place, elsewhere) = (Place::new(), Place::new());
    let mut client = place.attach_dying_at("start.after-gate");
    client.start(with_lock(&place, place.shell("web", 1, "exec sleep 1000")));
    let keeper = client.hello.process;
    until("the keeper's death", || (!process::is_alive(&keeper)).then_some(()));
    let mut other = elsewhere.attach();
    let holder = blocked(&mut other, with_lock(&place, elsewhere.shell("worker", 1, "exit 0")));
    assert!(holder.contains("which is gone; its process"), "{holder}");
    let mut client = place.attach();
    client.kill_tree("web", 1);
    client.send(&Request::Forget { slot: name("web") });
    client.wait("Forgotten", |event| matches!(event, Event::Forgotten { .. }));
    let spec = with_lock(&place, elsewhere.shell("worker", 1, "exec sleep 1000"));
    assert_eq!(spec.generation, Generation(1), "a refused run is still free");
    run_when_free(&mut other, &spec);
}
