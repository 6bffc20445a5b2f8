//! Whole trees: strays are counted, killed and seen gone, however they hide.

use crate::support::{Place, exe, kill, name, until};
use horus_keeper::protocol::{Event, Generation, Request, Scope, SlotState};
use horus_sys::process::{self, ProcessId};
use horus_sys::signal::Signal;

/// Pids that a script wrote into a file, one a line, once there are so many.
fn pids(place: &Place, file: &str, count: usize) -> Vec<ProcessId> {
    until("the pids", || {
        let text = std::fs::read_to_string(place.path(file)).unwrap_or_default();
        let found: Vec<ProcessId> = text
            .lines()
            .filter_map(|line| process::identify(line.trim().parse().ok()?).ok().flatten())
            .collect();
        (found.len() >= count).then_some(found)
    })
}

/// Children in all forms of hiding: in the group, own session, double-forked, without environment, without output.
fn hiders(place: &Place) -> String {
    let file = place.path("pids").display().to_string();
    format!(
        "sleep 1000 & echo $! >> {file}
         setsid sh -c 'echo $$ >> {file}; exec sleep 1000' &
         (setsid sh -c 'sleep 1000 & echo $! >> {file}' &)
         (setsid sh -c 'exec env -i sh -c \"echo \\$\\$ >> {file}; exec sleep 1000\"' &)
         (setsid sh -c 'exec >/dev/null 2>&1; sh -c \"sleep 1000 & echo \\$! >> {file}\"' &)
         sh -c 'kill -STOP $$' & echo $! >> {file}
         "
    )
}

#[test]
fn every_descendant_is_killed_and_seen_gone_while_the_main_process_lives() {
    let place = Place::new();
    let mut client = place.attach();
    let main = client.run(place.shell("bot", 1, &format!("{} exec sleep 1000", hiders(&place))));
    let neighbour = client.run(place.shell("neighbour", 1, "exec sleep 1000"));
    let hidden = pids(&place, "pids", 6);
    let killed = client.kill_tree("bot", 1);
    assert!(killed >= 7, "{killed} were killed");
    for process in hidden.iter().chain([&main]) {
        assert!(!process::is_alive(process), "{process} lives");
    }
    assert!(process::is_alive(&neighbour));
    client.exited("bot");
    assert_eq!(client.kill_tree("bot", 1), 0, "a second kill finds nobody");
}

#[test]
fn strays_of_an_ended_program_are_counted_killed_and_seen_gone() {
    let place = Place::new();
    let mut client = place.attach();
    let file = place.path("pids").display().to_string();
    client.run(place.shell(
        "bot",
        1,
        &format!("{} while [ $(wc -l < {file}) -lt 6 ]; do :; done", hiders(&place)),
    ));
    let Event::Exited { strays, .. } = client.exited("bot") else { unreachable!() };
    let hidden = pids(&place, "pids", 6);
    // A shell on its way out may be met as well.
    assert!(strays >= 6, "{strays} were left");
    let killed = client.kill_tree("bot", 1);
    assert!(killed >= 6, "{killed} were killed");
    for process in &hidden {
        assert!(!process::is_alive(process), "{process} lives");
    }
}

#[test]
fn strays_are_found_by_a_keeper_that_never_saw_them_born() {
    let place = Place::new();
    let mut client = place.attach();
    let file = place.path("pids").display().to_string();
    let script = format!("(setsid sh -c 'sleep 1000 & echo $! >> {file}' &) ; sleep 0.2");
    client.run(place.shell("bot", 1, &script));
    client.exited("bot");
    let hidden = pids(&place, "pids", 1);
    client.kill_keeper();
    let mut client = place.attach();
    assert!(matches!(client.state("bot"), SlotState::Ended { .. }));
    assert_eq!(client.kill_tree("bot", 1), 1);
    assert!(!process::is_alive(&hidden[0]));
}

#[test]
fn a_fork_storm_ends() {
    let place = Place::new();
    let mut client = place.attach();
    // Eight chains in which everyone forks a successor and ends: no pid lives long enough to be shot singly.
    let file = place.path("pids").display().to_string();
    let storm =
        format!("f() {{ echo x >> {file}; (f &) ; }}; for i in 1 2 3 4 5 6 7 8; do f; done; exec sleep 1000");
    client.run(place.shell("bot", 1, &storm));
    until("a storm", || (std::fs::metadata(place.path("pids")).ok()?.len() > 100).then_some(()));
    client.kill_tree("bot", 1);
    let size = std::fs::metadata(place.path("pids")).unwrap().len();
    client.so_far();
    assert_eq!(std::fs::metadata(place.path("pids")).unwrap().len(), size, "somebody still forks");
    assert!(place.marked_but_for_the_keeper().is_empty());
}

#[test]
fn signals_reach_the_main_process_the_group_or_the_tree() {
    let place = Place::new();
    let mut client = place.attach();
    let file = place.path("pids").display().to_string();
    let script = format!(
        "trap 'echo main' USR1
         sh -c 'trap \"echo group\" USR1; echo $$ >> {file}; while :; do sleep 0.01; done' &
         setsid sh -c 'trap \"echo tree\" USR1; echo $$ >> {file}; while :; do sleep 0.01; done' &
         echo $$ >> {file}
         while :; do sleep 0.01; done"
    );
    client.run(place.shell("bot", 1, &script));
    pids(&place, "pids", 3);
    let usr1 = Signal::parse("USR1").unwrap();
    let seen = |word: &str, times: usize| {
        until(word, || (place.log_text("bot").matches(word).count() >= times).then_some(()));
    };
    client.signal("bot", 1, usr1, Scope::Main);
    seen("main", 1);
    // The short sleeps die of USR1 in the wider scopes; the shells' traps still run.
    client.signal("bot", 1, usr1, Scope::Group);
    seen("main", 2);
    seen("group", 1);
    client.signal("bot", 1, usr1, Scope::Tree);
    seen("main", 3);
    seen("group", 2);
    seen("tree", 1);
    client.signal("bot", 9, usr1, Scope::Tree);
    client.wait("refusal", |event| matches!(event, Event::SignalFailed { generation: Generation(9), .. }));
    client.kill_tree("bot", 1);
    client.signal("bot", 1, usr1, Scope::Main);
    client.wait("refusal", |event| matches!(event, Event::SignalFailed { generation: Generation(1), .. }));
}

#[test]
fn a_stopped_main_process_is_no_exit_and_dies_of_a_kill() {
    let place = Place::new();
    let mut client = place.attach();
    let process = client.run(place.shell("bot", 1, "kill -STOP $$; exit 5"));
    until("the stop", || process::row(process.pid).unwrap().unwrap().is_stopped().then_some(()));
    assert_eq!(client.so_far(), []);
    assert_eq!(client.kill_tree("bot", 1), 1);
}

#[test]
fn a_slot_is_forgotten_only_when_nothing_of_it_lives() {
    let place = Place::new();
    let mut client = place.attach();
    let forget = Request::Forget { slot: name("bot") };
    client.run(place.shell("bot", 1, "exec sleep 1000"));
    client.send(&forget);
    client.wait("refusal", |event| matches!(event, Event::Rejected { .. }));
    client.kill_tree("bot", 1);
    client.exited("bot");
    client.run(place.shell("bot", 2, "sleep 1000 & exit 0"));
    client.exited("bot");
    client.send(&forget);
    client
        .wait("refusal", |event| matches!(event, Event::Rejected { error } if error.contains("1 processes")));
    client.kill_tree("bot", 2);
    client.send(&forget);
    client.wait("Forgotten", |event| matches!(event, Event::Forgotten { .. }));
    assert!(!place.run.join("slots/bot").exists());
    client.run(place.shell("bot", 1, "exit 0"));
}

#[test]
fn what_an_earlier_life_left_is_named_and_ended_before_a_start() {
    let place = Place::new();
    let mut client = place.attach();
    let file = place.path("pids").display().to_string();
    let script = format!("setsid sh -c 'echo $$ >> {file}; exec sleep 1000' & exec sleep 1001");
    let main = client.run(place.shell("bot", 1, &script));
    let neighbour = client.run(place.shell("neighbour", 1, "exec sleep 1000"));
    let left = pids(&place, "pids", 1)[0];
    client.kill_keeper();
    kill(&main);
    // Even its records are gone.
    std::fs::remove_dir_all(place.run.join("slots/bot")).unwrap();
    let mut client = place.attach();
    let ran = place.path("ran").display().to_string();
    // A zombie is no life.
    let look = format!("grep -q 'State:.[^Z]' /proc/{}/status && echo alive > {ran}", left.pid);
    client.start(place.shell("bot", 1, &format!("{look}; exec sleep 1000")));
    let found = client.wait("Leftovers", |event| matches!(event, Event::Leftovers { .. }));
    let Event::Leftovers { slot, processes, .. } = found else { unreachable!() };
    assert_eq!((slot, processes.len(), processes[0].process), (name("bot"), 1, left));
    assert!(processes[0].command.contains("sleep 1000"), "{processes:?}");
    client.wait("Started", |event| matches!(event, Event::Started { .. }));
    assert!(!process::is_alive(&left) && process::is_alive(&neighbour));
    assert!(!std::path::Path::new(&ran).exists(), "two lives at a time");
    // Once: the next start finds nobody.
    client.kill_tree("bot", 1);
    client.exited("bot");
    client.run(place.shell("bot", 2, "exec sleep 1000"));
    assert!(!client.so_far().iter().any(|event| matches!(event, Event::Leftovers { .. })));
}

#[test]
fn with_a_cgroup_nobody_escapes() {
    let root = std::path::Path::new("/sys/fs/cgroup/unified");
    let Ok(root) = horus_sys::cgroup::Cgroup::open_root(root) else {
        println!("skipped: no cgroup v2 directory of ours here");
        return;
    };
    let group = root.child(&format!("horus-test-{}", process::own_pid())).unwrap();
    let place = Place::new();
    let mut client =
        crate::support::Client::new(horus_keeper::attach(&place.run, exe(), Some(group.path())).unwrap());
    assert!(client.hello.cgroup);
    let file = place.path("pids").display().to_string();
    // No mark, no session, no parent, no output: only the cgroup knows it.
    let script = format!(
        "(setsid sh -c 'exec env -i sh -c \"exec >/dev/null 2>&1; sleep 1000 & echo \\$! >> {file}\"' &) ; sleep 0.3"
    );
    client.run(place.shell("bot", 1, &script));
    let Event::Exited { strays, .. } = client.exited("bot") else { unreachable!() };
    assert_eq!(strays, 1);
    let hidden = pids(&place, "pids", 1);
    assert!(client.kill_tree("bot", 1) <= 1, "the kernel killed it before the walk, or the walk did");
    assert!(!process::is_alive(&hidden[0]));
    drop(client);
    drop(place);
    until("an empty cgroup", || group.remove().ok());
}
