//! Programs that know nothing of Horus, with an agent that it puts into them.

use std::collections::BTreeSet;
use std::path::Path;

use horus_core::event::What;
use horus_core::observation::CaptureStage;
use horus_core::status::ServiceStatus;
use horus_core::verdict::{LoopAxis, Verdict};
use horus_sys::files::{Durability, write_atomic};
use horus_sys::process::is_alive;
use horus_tests::{FAILSAFE, Rig, skipped};
use tokio::process::Command;

use crate::clients::pythons;
use crate::{is_exit, is_kill, is_recovery, rig, service, struck, triggers};

const SUBJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/subjects/unaware.py");

/// Two seconds without a tick are a fault. No heartbeat is declared: the agent brings it.
const KEYS: &str = "agent = \"python\"\ndeadline = \"2s\"\nstartup = \"30s\"\nkills = { prove = \"5s\" }\n";

fn unaware(rig: &Rig, name: &str, python: &str, words: &[&str], keys: &str) -> String {
    let triggers = triggers(rig, name);
    let command = [&[python, "-B", SUBJECT, "--triggers", &triggers][..], words].concat();
    service(name, &command, keys)
}

fn ticks(now: &ServiceStatus) -> bool {
    now.verdict == Verdict::Healthy && now.beats.first().is_some_and(|beat| beat.tick > Some(3))
}

/// Where the folder of an agent is.
fn folder(rig: &Rig, agent: &str) -> std::path::PathBuf {
    rig.room.path("r-notify").join("agents").join(agent)
}

#[tokio::test]
async fn an_agent_beats_from_the_loop_of_every_python() {
    let pythons = pythons().await;
    if pythons.is_empty() {
        return skipped("the Python agent", "no python3 of version 3.9 or later");
    }
    let mut rig = rig().await;
    let name = |(major, minor): &(u32, u32)| format!("bot-{major}-{minor}");
    let services = pythons.iter().map(|(version, python)| {
        unaware(&rig, &name(version), &python.display().to_string(), &["loop"], KEYS)
    });
    let services: String = services.collect();
    rig.run(&services).await;
    for version in pythons.keys() {
        let bot = name(version);
        rig.ready(&bot).await;
        let status = rig.status_until(&bot, "ticking", ticks).await;
        assert!(status.beats[0].loop_lag_ms.is_some(), "{bot}: {:?}", status.beats);
        rig.assert_never_signalled(&bot);
    }
    rig.end().await;
}

#[tokio::test]
async fn a_loop_that_blocks_is_restarted_by_its_agent_alone_and_the_place_is_named() {
    let mut rig = rig().await;
    let Some(python) = rig.python().await else {
        return skipped("a blocked loop with the Python agent", "no python3");
    };
    rig.run(&unaware(&rig, "bot", &python, &["loop"], KEYS)).await;
    let old = rig.ready("bot").await;
    rig.status_until("bot", "ticking", ticks).await;
    struck(&rig, "bot", "block").await;
    let kill = rig.first("bot", "kill", is_kill).await;
    let captured = |what: &What| matches!(what, What::EvidenceCaptured { stage: CaptureStage::Verdict, .. });
    let evidence = rig.first("bot", "evidence", captured).await;
    let What::EvidenceCaptured { finding, .. } = &evidence.event.what else { unreachable!() };
    if cfg!(target_os = "linux") {
        assert!(finding.phrase.contains("ask_the_exchange (unaware.py:"), "the place is named: {finding:?}");
    }
    rig.first("bot", "recovery", is_recovery).await;
    rig.ready_after(kill.seq, "bot").await;
    assert!(!is_alive(&old));
    assert_eq!(rig.count("bot", is_kill), 1);
    rig.end().await;
}

#[tokio::test]
async fn a_uvloop_beats_and_is_restarted_when_it_blocks() {
    let mut rig = rig().await;
    let Some(python) = rig.python().await else { return skipped("the agent on uvloop", "no python3") };
    if !succeeds(&python, &["-c", "import uvloop"]).await {
        return skipped("the agent on uvloop", "no uvloop");
    }
    rig.run(&unaware(&rig, "bot", &python, &["uvloop"], KEYS)).await;
    rig.ready("bot").await;
    let status = rig.status_until("bot", "ticking", ticks).await;
    assert!(status.beats[0].loop_lag_ms.is_some(), "{:?}", status.beats);
    struck(&rig, "bot", "block").await;
    rig.first("bot", "kill", is_kill).await;
    rig.first("bot", "recovery", is_recovery).await;
    rig.end().await;
}

/// A fork, a spawned child and a program of its own: each turns a loop after that of the program is dead.
#[tokio::test]
async fn children_do_not_beat_for_their_parent() {
    let mut rig = rig().await;
    let Some(python) = rig.python().await else {
        return skipped("children of a program with an agent", "no python3");
    };
    rig.run(&unaware(&rig, "bot", &python, &["children"], KEYS)).await;
    rig.ready("bot").await;
    rig.status_until("bot", "ticking", ticks).await;
    struck(&rig, "bot", "block").await;
    rig.first("bot", "kill", is_kill).await;
    rig.first("bot", "recovery", is_recovery).await;
    rig.end().await;
}

/// The program's own beats are those that count: when they stop, the agent on the loop that still turns does not hide it.
#[tokio::test]
async fn a_program_that_beats_by_itself_is_believed_more_than_its_agent() {
    let mut rig = rig().await;
    let Some(python) = rig.python().await else { return skipped("an agent beside own beats", "no python3") };
    let config = unaware(&rig, "bot", &python, &["own"], &format!("{KEYS}heartbeat.notify = true\n"));
    rig.run(&config).await;
    rig.ready("bot").await;
    let own = |now: &ServiceStatus| now.beats[0].tick > Some(1003) && now.beats[0].loop_lag_ms.is_some();
    rig.status_until("bot", "beating by itself, with the lag of the agent", own).await;
    struck(&rig, "bot", "hush").await;
    let silent = |now: &ServiceStatus| matches!(now.loop_axis.is, LoopAxis::Silent | LoopAxis::Lying);
    let status = rig.status_until("bot", "silent", silent).await;
    assert!(status.beats[0].tick > Some(1000), "its own tick is the last one: {:?}", status.beats);
    rig.end().await;
}

/// Between two loops runs ordinary code that nothing vouches for, here for two deadlines at a time.
#[tokio::test]
async fn work_between_two_loops_is_waited_for() {
    let mut rig = rig().await;
    let Some(python) = rig.python().await else { return skipped("work between two loops", "no python3") };
    rig.run(&unaware(&rig, "bot", &python, &["--pause", "4.5", "parts"], KEYS)).await;
    let process = rig.ready("bot").await;
    rig.status_until("bot", "busy between two loops", |now| now.verdict == Verdict::Busy).await;
    rig.file(&rig.room.path("triggers/bot/worked")).await;
    rig.status_until("bot", "ticking in its last loop", ticks).await;
    assert_eq!(rig.process("bot").await, process);
    rig.assert_never_signalled("bot");
    rig.end().await;
}

#[tokio::test]
async fn a_program_that_becomes_another_one_keeps_its_agent() {
    let mut rig = rig().await;
    let Some(python) = rig.python().await else {
        return skipped("exec of a program with an agent", "no python3");
    };
    rig.run(&unaware(&rig, "bot", &python, &["again"], KEYS)).await;
    let process = rig.ready("bot").await;
    let over_deadline = |now: &ServiceStatus| ticks(now) && now.up_for_ms > Some(7_000);
    rig.status_until("bot", "ticking after its exec", over_deadline).await;
    assert_eq!(rig.process("bot").await, process);
    rig.assert_never_signalled("bot");
    struck(&rig, "bot", "block").await;
    rig.first("bot", "kill", is_kill).await;
    rig.end().await;
}

/// What a program without a loop sees is what it sees without an agent: its modules, its path, its own `sitecustomize`, its children.
#[tokio::test]
async fn a_program_without_a_loop_does_not_notice_its_agent() {
    let pythons = pythons().await;
    if pythons.is_empty() {
        return skipped("a program without a loop and its agent", "no python3 of version 3.9 or later");
    }
    let mut rig = rig().await;
    let own = rig.room.path("own");
    std::fs::create_dir(&own).unwrap();
    write_atomic(&own.join("sitecustomize.py"), b"MARK = 'its own'\n", Durability::ThisBoot).unwrap();
    let (mut services, mut wanted) = (String::new(), Vec::new());
    for ((major, minor), python) in &pythons {
        for (how, path) in [("bare", None), ("own", Some(&own))] {
            let name = format!("{how}-{major}-{minor}");
            let out = rig.room.path(&name);
            let command =
                [&python.display().to_string(), "-B", SUBJECT, "--out", &out.display().to_string(), "look"];
            let path = path.map(|path| path.display().to_string());
            let env = path
                .as_ref()
                .map(|path| format!("env = {{ PYTHONPATH = \"{path}\" }}\n"))
                .unwrap_or_default();
            services += &service(&name, &command, &format!("{KEYS}restart = {{ on = \"never\" }}\n{env}"));
            wanted.push((name, python.clone(), path));
        }
    }
    rig.run(&services).await;
    for (name, python, path) in wanted {
        let with = rig.file(&rig.room.path(&name)).await;
        let exit = rig.first(&name, "its end", is_exit).await;
        assert!(format!("{:?}", exit.event.what).contains("Code(7)"), "{name}: {:?}", exit.event.what);
        let out = rig.room.path(&format!("{name}-without"));
        without_agent(&python, &out, path.as_deref()).await;
        assert_eq!(with, std::fs::read_to_string(&out).unwrap(), "{name}");
        assert_eq!(with.contains("its own"), path.is_some(), "{name}: {with}");
        assert!(!with.contains("asyncio"), "{name}: {with}");
    }
    rig.end().await;
}

/// The same program, started by nobody in particular.
async fn without_agent(python: &Path, out: &Path, path: Option<&str>) {
    #[expect(clippy::disallowed_methods, reason = "a program to compare with")]
    let mut command = Command::new(python);
    command
        .args(["-B", SUBJECT, "--out"])
        .arg(out)
        .arg("look")
        .env_remove("PYTHONPATH")
        .envs(path.map(|path| ("PYTHONPATH", path)));
    let status = tokio::time::timeout(FAILSAFE, command.kill_on_drop(true).status()).await;
    assert_eq!(status.unwrap().unwrap().code(), Some(7));
}

async fn succeeds(program: &str, words: &[&str]) -> bool {
    #[expect(clippy::disallowed_methods, reason = "asks an interpreter what it has")]
    let asked = Command::new(program).args(words).output().await;
    asked.is_ok_and(|output| output.status.success())
}

/// Without the key nothing of the agent is left: not in the program, and not on the disk.
#[tokio::test]
async fn an_agent_that_is_taken_out_leaves_nothing() {
    let mut rig = rig().await;
    let Some(python) = rig.python().await else { return skipped("an agent that is taken out", "no python3") };
    let with = unaware(&rig, "bot", &python, &["loop"], KEYS);
    rig.run(&with).await;
    let old = rig.ready("bot").await;
    let files: BTreeSet<_> =
        std::fs::read_dir(folder(&rig, "python")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(files, ["_horus_agent.py", "sitecustomize.py"].map(Into::into).into());
    let environment = |pid: i32| {
        String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/environ")).unwrap()).into_owned()
    };
    if cfg!(target_os = "linux") {
        assert!(environment(old.pid).contains("agents/python"));
    }
    let last = rig.journal.last();
    rig.write(&with.replace("agent = \"python\"\n", ""));
    let reload = rig.cli(&["reload"]).await;
    assert_eq!(reload.code, 0, "{}{}", reload.out, reload.err);
    let new = rig.ready_after(last, "bot").await;
    assert_ne!(old, new);
    if cfg!(target_os = "linux") {
        assert!(!environment(new.pid).contains("PYTHONPATH"));
    }
    assert!(!folder(&rig, "python").exists());
    rig.end().await;
}

/// `-I` keeps every variable out, and ours: the check says so, and so does `explain` of what runs.
#[tokio::test]
async fn a_python_that_takes_no_agent_is_named() {
    let mut rig = rig().await;
    let Some(python) = rig.python().await else { return skipped("an agent that is kept out", "no python3") };
    let command = [python.as_str(), "-I", "-B", SUBJECT, "loop"];
    rig.run(&service("bot", &command, KEYS)).await;
    let check = rig.cli(&["check"]).await;
    assert!(format!("{}{}", check.out, check.err).contains("is never loaded"), "{}{}", check.out, check.err);
    rig.status_until("bot", "started", |now| now.pid.is_some()).await;
    let explained = rig.cli(&["explain", "bot"]).await;
    assert!(explained.out.contains("keep it out"), "{}", explained.out);
    rig.assert_never_signalled("bot");
    rig.end().await;
}
