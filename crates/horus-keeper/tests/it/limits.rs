//! Limits of a whole tree. The kernel's own files are stood in for by plain ones, since most machines that run tests have
//! no controllers to give; that the kernel keeps its limits is for `tests/machine/limits.sh`.

use crate::support::{Client, Place, exe, kill, name, until};
use horus_keeper::protocol::{CAN_LIMIT, Event, ExitStatus, OutOfMemory, Request, SlotState, StartSpec};
use horus_sys::cgroup_limits::{GroupLimit, GroupLimits, Limited};
use horus_sys::process::ProcessId;
use horus_sys::signal::{self, Signal};
use std::path::PathBuf;

const LIMIT: u64 = 512 << 20;
const LIMITS: GroupLimits = GroupLimits { memory: Some(LIMIT), tasks: Some(200), cpu_percent: None };

/// A directory of groups with one for the slot `bot`, in which the controllers of memory and tasks are enabled.
struct Groups {
    place: Place,
}

impl Groups {
    fn new() -> Self {
        let groups = Self { place: Place::new() };
        std::fs::create_dir_all(groups.of_bot()).unwrap();
        for file in ["cgroup.procs", "cgroup.subtree_control"] {
            std::fs::write(groups.home().join(file), "").unwrap();
        }
        for (file, content) in [
            ("cgroup.procs", ""),
            ("cgroup.events", "populated 0\n"),
            ("memory.max", "max"),
            ("memory.oom.group", "0"),
            ("memory.current", "9000000"),
            // Of an earlier run.
            ("memory.events", "oom 3\noom_kill 5\n"),
            ("pids.max", "max"),
            ("pids.events", "max 4\n"),
        ] {
            groups.write(file, content);
        }
        groups
    }

    fn home(&self) -> PathBuf {
        self.place.path("groups")
    }

    fn of_bot(&self) -> PathBuf {
        self.home().join("slot-bot")
    }

    fn write(&self, file: &str, content: &str) {
        std::fs::write(self.of_bot().join(file), content).unwrap();
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.of_bot().join(file)).unwrap().trim().to_owned()
    }

    fn attach(&self) -> Client {
        Client::new(horus_keeper::attach(&self.place.run, exe(), Some(&self.home())).unwrap())
    }

    /// A program that says what its group allowed when it began, and lives.
    fn limited(&self) -> StartSpec {
        let script = format!("cat {0}/memory.max {0}/pids.max; exec sleep 1000", self.of_bot().display());
        StartSpec { tree: LIMITS, ..self.place.shell("bot", 1, &script) }
    }
}

fn limits_told(client: &mut Client) -> Limited {
    let told = client.wait("Limited", |event| matches!(event, Event::Limited { .. }));
    let Event::Limited { slot, limited, .. } = told else { unreachable!() };
    assert_eq!(slot, name("bot"));
    limited
}

fn adjust(client: &mut Client, tree: GroupLimits) -> Limited {
    client.send(&Request::Adjust { slot: name("bot"), tree });
    limits_told(client)
}

fn end_of(client: &mut Client) -> (ExitStatus, Option<OutOfMemory>) {
    let Event::Exited { status, out_of_memory, .. } = client.exited("bot") else { unreachable!() };
    (status, out_of_memory)
}

fn killed_by(process: &ProcessId) -> ExitStatus {
    signal::send(process, Signal::KILL).unwrap();
    ExitStatus::Signal { number: Signal::KILL.number(), core_dumped: false }
}

#[test]
fn limits_of_a_tree_hold_before_its_program_runs_and_are_changed_in_place() {
    let groups = Groups::new();
    let mut client = groups.attach();
    assert!(client.hello.can.iter().any(|word| word == CAN_LIMIT));
    let process = client.run(groups.limited());
    let both = [GroupLimit::Memory, GroupLimit::Tasks];
    assert_eq!(limits_told(&mut client).applied, both);
    until("its words", || (groups.place.log_text("bot").len() > 9).then_some(()));
    assert!(groups.place.log_text("bot").starts_with(&LIMIT.to_string()), "it ran before it was limited");
    assert_eq!(groups.read("cgroup.procs"), process.pid.to_string());

    let tree = GroupLimits { memory: Some(900_000_000), cpu_percent: Some(50), tasks: Some(999) };
    let limited = adjust(&mut client, tree);
    assert_eq!(limited.applied, both);
    assert_eq!(limited.refused.iter().map(|refused| refused.limit).collect::<Vec<_>>(), [GroupLimit::Cpu]);
    assert_eq!((groups.read("memory.max"), groups.read("pids.max")), ("900000000".into(), "999".into()));
    let tree = GroupLimits { memory: Some(8_000_000), ..LIMITS };
    assert!(adjust(&mut client, tree).refused[0].why.contains("are in use"), "it would have been killed");

    // Another keeper finds the group as it is, and is told the limits again.
    client.kill_keeper();
    let mut client = groups.attach();
    assert_eq!(client.state("bot"), SlotState::Running(process));
    assert_eq!(groups.read("memory.max"), "900000000");
    assert_eq!(adjust(&mut client, LIMITS).applied, both);
    assert_eq!(groups.read("memory.max"), LIMIT.to_string());
    client.kill_tree("bot", 1);
}

#[test]
fn without_a_group_limits_are_refused_and_the_program_runs() {
    let place = Place::new();
    let mut client = place.attach();
    let spec = StartSpec { tree: LIMITS, ..place.shell("bot", 1, "exec sleep 1000") };
    let process = client.run(spec);
    let refused = Limited::refused(&LIMITS, "it has no control group");
    assert_eq!(limits_told(&mut client), refused);
    assert_eq!(adjust(&mut client, LIMITS), refused);
    assert_eq!(
        adjust(&mut client, GroupLimits::default()),
        Limited::default(),
        "nothing asked, nothing missed"
    );
    assert!(horus_sys::process::is_alive(&process));
    client.kill_tree("bot", 1);
    client.run(place.shell("other", 1, "exec sleep 1000"));
    assert!(!client.so_far().iter().any(|event| matches!(event, Event::Limited { .. })), "nobody asked");
}

#[test]
fn whoever_was_adopted_outside_of_its_group_is_not_called_limited() {
    let groups = Groups::new();
    let mut client = groups.place.attach();
    client.run(groups.place.shell("bot", 1, "exec sleep 1000"));
    client.kill_keeper();
    let mut client = groups.attach();
    assert!(client.hello.cgroup);
    assert_eq!(adjust(&mut client, LIMITS), Limited::refused(&LIMITS, "it has no control group"));
    assert_eq!(groups.read("memory.max"), "max");
    client.kill_tree("bot", 1);
}

#[test]
fn a_kill_for_want_of_memory_is_told_from_any_other() {
    let limit = Some(OutOfMemory { limit: Some(LIMIT) });
    for (events, expected) in [
        ("oom 4\noom_kill 6\n", limit),
        ("oom 3\noom_kill 6\n", Some(OutOfMemory { limit: None })),
        // Somebody else's SIGKILL: what the group counted was counted in an earlier run.
        ("oom 3\noom_kill 5\n", None),
    ] {
        let groups = Groups::new();
        let mut client = groups.attach();
        let process = client.run(groups.limited());
        groups.write("memory.events", events);
        groups.write("pids.events", "max 4\n");
        let status = killed_by(&process);
        assert_eq!(end_of(&mut client), (status, expected), "{events:?}");
        let record = groups.place.exit_record("bot", 1).unwrap();
        assert_eq!((record.status, record.out_of_memory), (status, expected));
        // Whoever comes later hears the same.
        drop(client);
        let client = groups.attach();
        let process = Some(process);
        assert_eq!(client.state("bot"), SlotState::Ended { process, status, out_of_memory: expected });
    }
}

#[test]
fn a_kill_of_ours_is_none_of_the_kernel_s() {
    let groups = Groups::new();
    let mut client = groups.attach();
    client.run(groups.limited());
    // A helper of it was killed some time ago; it lived on, and hung.
    groups.write("memory.events", "oom 3\noom_kill 6\n");
    client.kill_tree("bot", 1);
    assert_eq!(end_of(&mut client).1, None);
}

#[test]
fn a_kill_for_want_of_memory_is_known_although_no_keeper_was_there() {
    let groups = Groups::new();
    let mut reaper = groups.place.role(&["reaper", groups.place.run.to_str().unwrap()], None);
    until("the small Horus", || groups.place.path("ready").exists().then_some(()));
    // It started a keeper that knows of no groups.
    let client = groups.place.attach();
    client.kill_keeper();
    let mut client = groups.attach();
    let process = client.run(groups.limited());
    client.kill_keeper();
    groups.write("memory.events", "oom 4\noom_kill 6\n");
    kill(&process);
    let mut client = groups.attach();
    let ended = match client.state("bot") {
        SlotState::Ended { status, out_of_memory, .. } => (status, out_of_memory),
        _ => end_of(&mut client),
    };
    assert_eq!(ended.1, Some(OutOfMemory { limit: Some(LIMIT) }), "{ended:?}");
    reaper.kill().unwrap();
    reaper.wait().unwrap();
}

#[test]
fn tasks_that_were_refused_are_told_at_the_end_of_the_run() {
    let groups = Groups::new();
    let mut client = groups.attach();
    let process = client.run(groups.limited());
    groups.write("pids.events", "max 11\n");
    killed_by(&process);
    end_of(&mut client);
    let told = client.wait("Degraded", |event| matches!(event, Event::Degraded { .. }));
    let Event::Degraded { error, .. } = told else { unreachable!() };
    assert_eq!(error, "its tree may have 200 tasks (limits.tree.tasks); 7 more were refused in this run");
}
