//! Starting programs, and how they end.

use crate::support::{Place, name, until};
use horus_keeper::protocol::{Event, ExitStatus, Generation, Request, StartStep, Text};
use horus_keeper::slots::Witness;
use horus_sys::launch::{Identity, Step};

fn status_of(event: Event) -> ExitStatus {
    match event {
        Event::Exited { status, .. } => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_program_runs_and_its_code_and_output_arrive() {
    let place = Place::new();
    let mut client = place.attach();
    assert!(client.spawned);
    let process = client.run(place.shell("bot", 1, "echo out; echo err >&2; exit 42"));
    let event = client.exited("bot");
    let expected = Event::Exited {
        slot: name("bot"),
        generation: Generation(1),
        process,
        status: ExitStatus::Code(42),
        strays: 0,
        out_of_memory: None,
    };
    assert_eq!(event, expected);
    assert_eq!(place.log_text("bot"), "out\nerr\n", "all output is in the log when the exit is told");
    let record = place.exit_record("bot", 1).unwrap();
    assert_eq!((record.status, record.witness), (ExitStatus::Code(42), Witness::Keeper));
    assert_eq!(place.directory().slot(&name("bot")).state().unwrap(), None);
}

#[test]
fn a_signal_is_told_from_a_code() {
    let place = Place::new();
    let mut client = place.attach();
    client.run(place.shell("bot", 1, "kill -9 $$"));
    assert_eq!(status_of(client.exited("bot")), ExitStatus::Signal { number: 9, core_dumped: false });
    client.run(place.shell("bot", 2, "exit 137"));
    assert_eq!(status_of(client.exited("bot")), ExitStatus::Code(137));
}

#[test]
fn what_cannot_start_says_which_step_and_why() {
    let place = Place::new();
    std::fs::write(place.path("plain"), "x").unwrap();
    std::fs::write(place.path("no-shebang"), "x").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.path("no-shebang"), executable).unwrap();
    let plain = place.path("plain").display().to_string();
    let garbage = place.path("no-shebang").display().to_string();
    let mut client = place.attach();
    let mut missing_directory = place.spec("bot", 5, &["true"]);
    missing_directory.directory = "/no/such".into();
    let mut nul = place.spec("bot", 6, &["true"]);
    nul.argv.push(Text(b"a\0b".to_vec()));
    let mut relative = place.spec("bot", 7, &["true"]);
    relative.log.path = "bot.log".into();
    for (spec, step, error) in [
        (
            place.spec("bot", 1, &["no-such"]),
            StartStep::Resolve,
            "no-such: not found in PATH (/usr/bin:/bin)",
        ),
        (place.spec("bot", 2, &["/usr"]), StartStep::Resolve, "/usr: is a directory"),
        (place.spec("bot", 3, &[&plain]), StartStep::Resolve, "plain: not executable"),
        (place.spec("bot", 4, &[&garbage]), StartStep::Child(Step::Execute), "Exec format error"),
        (missing_directory, StartStep::Child(Step::Directory), "No such file or directory"),
        (nul, StartStep::Request, "NUL"),
        (relative, StartStep::Request, "absolute"),
        (place.spec("bot", 8, &[]), StartStep::Request, "the command is empty"),
    ] {
        client.start(spec);
        let Event::StartFailed { step: found, error: text, .. } =
            client.wait("StartFailed", |event| matches!(event, Event::StartFailed { .. }))
        else {
            unreachable!()
        };
        assert_eq!(found, step, "{text}");
        assert!(text.contains(error), "{text}");
    }
    let record = place.exit_record("bot", 4).unwrap();
    assert!(matches!(record.status, ExitStatus::NotExecuted { step: Step::Execute, .. }));
    client.run(place.shell("bot", 9, "exit 0"));
    assert_eq!(status_of(client.exited("bot")), ExitStatus::Code(0), "the slot is usable after all that");
    assert_eq!(client.so_far(), [], "and nothing else was said");
}

#[test]
fn a_slot_runs_one_program_at_a_time_and_never_an_old_request() {
    let place = Place::new();
    let mut client = place.attach();
    client.run(place.shell("bot", 5, "exec sleep 1000"));
    for (generation, step) in [(6, StartStep::Busy), (5, StartStep::Busy)] {
        client.start(place.shell("bot", generation, "exit 0"));
        let event = client.wait("StartFailed", |event| matches!(event, Event::StartFailed { .. }));
        assert!(matches!(event, Event::StartFailed { step: found, .. } if found == step), "{event:?}");
    }
    assert_eq!(client.kill_tree("bot", 5), 1);
    client.start(place.shell("bot", 5, "exit 0"));
    let event = client.wait("StartFailed", |event| matches!(event, Event::StartFailed { .. }));
    assert!(matches!(event, Event::StartFailed { step: StartStep::Request, .. }), "{event:?}");
}

#[test]
fn the_child_inherits_nothing_it_should_not() {
    let place = Place::new();
    let mut client = place.attach();
    let script = "ls /proc/self/fd | tr '\\n' ' '; echo; env | sort; grep -E 'Sig(Blk|Ign)' /proc/self/status; \
        ps -o pid=,pgid=,sid= -p $$ | tr -s ' '; echo $$; pwd; ulimit -n; readlink /proc/self/fd/0";
    let mut spec = place.shell("bot", 1, script);
    spec.environment.push(("HORUS_SLOT".into(), "forged/1".into()));
    spec.environment.push(("ODD".into(), Text(b"\xff".to_vec())));
    spec.environment.push(("WATCHDOG_USEC".into(), "30000000".into()));
    spec.environment.push(("WATCHDOG_PID".into(), "1".into()));
    spec.directory = "/usr".into();
    spec.limits.open_files = Some(77);
    let process = client.run(spec);
    client.exited("bot");
    let text = String::from_utf8_lossy(&std::fs::read(place.log("bot")).unwrap()).into_owned();
    let pid = process.pid;
    let run = place.run.display();
    assert!(text.starts_with("0 1 2 3 \n"), "descriptors (3 is ls's own): {text}");
    assert!(
        text.contains(&format!(
            "HORUS_RUN={run}\nHORUS_SLOT=bot/1\nODD=\u{fffd}\nPATH=/usr/bin:/bin\nPWD=/usr\n"
        )),
        "{text}"
    );
    assert!(text.contains(&format!("WATCHDOG_PID={pid}\nWATCHDOG_USEC=30000000\n")), "{text}");
    assert!(!text.contains("WATCHDOG_PID=1\n"), "{text}");
    assert!(text.contains("SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"), "{text}");
    assert!(text.contains(&format!("{pid} {pid} {pid}\n{pid}\n/usr\n77\n/dev/null\n")), "{text}");
}

#[test]
fn a_program_may_open_dev_stdout_again_also_as_another_user() {
    let place = Place::new();
    let mut client = place.attach();
    let mut spec =
        place.shell("bot", 1, "echo one; echo two > /dev/stdout; echo three > /dev/stderr; id -u; id -G");
    let root = horus_sys::user::effective_uid() == 0;
    if root {
        spec.user = Some(Identity { uid: 65_534, gid: 65_534, groups: vec![65_534, 100] });
    }
    client.run(spec);
    assert_eq!(status_of(client.exited("bot")), ExitStatus::Code(0));
    let text = place.log_text("bot");
    assert!(text.starts_with("one\ntwo\nthree\n"), "{text}");
    if root {
        assert!(text.ends_with("65534\n65534 100\n"), "{text}");
    }
}

#[test]
fn limits_are_set_and_one_that_cannot_be_is_named() {
    let place = Place::new();
    let mut client = place.attach();
    let mut spec = place.shell("bot", 1, "ulimit -c; ulimit -v; ulimit -f");
    spec.limits.core = Some(0);
    spec.limits.memory = Some(1 << 30);
    spec.limits.file_size = Some(1 << 20);
    client.run(spec);
    client.exited("bot");
    assert_eq!(place.log_text("bot"), "0\n1048576\n2048\n");
}

#[cfg(target_os = "linux")]
#[test]
fn children_get_the_limits_of_horus_and_not_its_privileges() {
    let place = Place::new();
    assert!(place.role(&["attach-as-a-daemon", place.run.to_str().unwrap()], None).wait().unwrap().success());
    let mut client = place.attach();
    let keeper = client.hello.process.pid;
    let of_keeper = |file: &str| std::fs::read_to_string(format!("/proc/{keeper}/{file}")).unwrap();
    assert_eq!(of_keeper("oom_score_adj").trim(), "321", "the keeper is as protected as its Horus");
    client.run(place.shell("bot", 1, "ulimit -Sn; cat /proc/self/oom_score_adj"));
    client.exited("bot");
    assert_eq!(place.log_text("bot"), "300\n0\n");
    // Also after the keeper has raised its limit and become another program.
    client.send(&Request::Upgrade { executable: crate::support::exe().into() });
    let mut client = {
        client.wait_for_the_end();
        place.attach()
    };
    client.run(place.shell("bot", 2, "ulimit -Sn"));
    client.exited("bot");
    assert_eq!(place.log_text("bot"), "300\n0\n300\n");
}

#[test]
fn many_slots_at_once_each_tell_their_own_end() {
    const SLOTS: i32 = 100;
    let place = Place::new();
    let mut client = place.attach();
    for number in 0..SLOTS {
        client.start(place.shell(&format!("bot-{number}"), 1, &format!("echo {number}; exit {number}")));
    }
    for number in 0..SLOTS {
        let slot = format!("bot-{number}");
        assert_eq!(status_of(client.exited(&slot)), ExitStatus::Code(number));
        assert_eq!(place.log_text(&slot), format!("{number}\n"));
    }
}

#[test]
fn a_zombie_leader_with_living_threads_is_not_an_exit() {
    let place = Place::new();
    let mut client = place.attach();
    let process = client.run(place.spec("bot", 1, &[crate::support::exe().to_str().unwrap(), "leaderless"]));
    until("the leader's end", || {
        let row = horus_sys::process::row(process.pid).unwrap().unwrap();
        (row.state == b'Z').then_some(())
    });
    assert!(horus_sys::process::is_alive(&process));
    assert_eq!(client.so_far(), [], "no exit was told");
    client.send(&Request::KillTree { slot: name("bot"), generation: Generation(1) });
    let status = status_of(client.exited("bot"));
    assert_eq!(status, ExitStatus::Signal { number: 9, core_dumped: false });
    client.wait("Gone", |event| matches!(event, Event::Gone { killed: 1, .. }));
}
