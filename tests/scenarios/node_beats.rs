//! Programs in Node: with the client over the stream door, and with an agent that Horus puts into them.

use std::path::Path;

use horus_core::event::What;
use horus_core::status::ServiceStatus;
use horus_core::verdict::Verdict;
use horus_sys::process::is_alive;
use horus_tests::{FAILSAFE, Rig, skipped};
use tokio::process::Command;

use crate::{is_exit, is_kill, is_recovery, rig, service, struck, triggers};

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/node");
const SUBJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/subjects/unaware.js");

/// The oldest Node that client and agent are written for.
const NODE_MIN: u32 = 18;

/// Two seconds without a tick are a fault.
const KEYS: &str = "deadline = \"2s\"\nstartup = \"30s\"\nkills = { prove = \"5s\" }\n";

/// Where Node is. `None`: there is none that is new enough.
async fn node() -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "asks an interpreter where it is, and for its version")]
    let mut ask = Command::new("node");
    let asked =
        ask.args(["-p", "process.execPath + ' ' + parseInt(process.versions.node)"]).output().await.ok()?;
    let text = String::from_utf8(asked.stdout).ok()?;
    let (path, version) = text.trim().rsplit_once(' ')?;
    (version.parse::<u32>().ok()? >= NODE_MIN).then(|| path.to_owned())
}

/// A service that runs the subject in this way.
fn subject(rig: &Rig, node: &str, words: &[&str], keys: &str) -> String {
    let triggers = triggers(rig, "bot");
    let (how, more) = words.split_first().unwrap();
    let command = [&[node, SUBJECT, how, &triggers][..], more].concat();
    service("bot", &command, &format!("{KEYS}{keys}"))
}

fn ticks(now: &ServiceStatus) -> bool {
    let beat = now.beats.first();
    now.verdict == Verdict::Healthy
        && beat.is_some_and(|beat| beat.tick > Some(3) && beat.loop_lag_ms.is_some())
}

#[tokio::test]
async fn the_node_client_passes_its_own_tests() {
    let Some(node) = node().await else {
        return skipped("the Node client", "no node of version 18 or later");
    };
    #[expect(clippy::disallowed_methods, reason = "an interpreter that runs the client's tests")]
    let mut tests = Command::new(node);
    tests
        .args(["--test", "test/"])
        .current_dir(CLIENT)
        .env_remove("NODE_OPTIONS")
        .env_remove("HORUS_NOTIFY_STREAM");
    let output = tokio::time::timeout(FAILSAFE, tests.kill_on_drop(true).output()).await;
    let output = output.unwrap_or_else(|_| panic!("the tests do not end")).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Its start ends with READY=1, its counter is seen, a declared step is waited for, and a loop that blocks is restarted.
#[tokio::test]
async fn a_loop_that_beats_by_the_node_client_is_waited_for_and_found() {
    let mut rig = rig().await;
    let Some(node) = node().await else { return skipped("a life with the Node client", "no node") };
    let keys = "heartbeat.notify = true\nready = \"notify\"\nvalue.turns = { counter = \"turns\", stale = \"24h\", dead = \"72h\" }\n";
    rig.run(&subject(&rig, &node, &["client", CLIENT], keys)).await;
    let old = rig.ready("bot").await;
    let works = |now: &ServiceStatus| ticks(now) && now.value.because.contains("turns grew");
    rig.status_until("bot", "healthy and at work", works).await;
    // Two and a half deadlines in one call.
    struck(&rig, "bot", "step").await;
    rig.status_until("bot", "busy", |now| now.verdict == Verdict::Busy).await;
    rig.status_until("bot", "healthy after the step", works).await;
    rig.assert_never_signalled("bot");
    struck(&rig, "bot", "block").await;
    let kill = rig.first("bot", "kill", is_kill).await;
    rig.first("bot", "recovery", is_recovery).await;
    rig.ready_after(kill.seq, "bot").await;
    assert!(!is_alive(&old));
    assert_eq!(rig.count("bot", is_kill), 1);
    rig.end().await;
}

#[tokio::test]
async fn an_agent_beats_from_a_node_loop_and_children_do_not_beat_for_it() {
    let mut rig = rig().await;
    let Some(node) = node().await else { return skipped("the Node agent", "no node") };
    rig.run(&subject(&rig, &node, &["children"], "agent = \"node\"\n")).await;
    let old = rig.ready("bot").await;
    rig.status_until("bot", "ticking", ticks).await;
    struck(&rig, "bot", "block").await;
    let kill = rig.first("bot", "kill", is_kill).await;
    rig.first("bot", "recovery", is_recovery).await;
    rig.ready_after(kill.seq, "bot").await;
    assert!(!is_alive(&old));
    rig.end().await;
}

/// Horus dies and is started again: the program finds the new one at the same place, and nobody is restarted for it.
#[tokio::test]
async fn a_node_loop_goes_on_beating_for_the_next_horus() {
    let mut rig = rig().await;
    let Some(node) = node().await else { return skipped("the Node agent and a death of Horus", "no node") };
    rig.run(&subject(&rig, &node, &["loop"], "agent = \"node\"\n")).await;
    let process = rig.ready("bot").await;
    rig.status_until("bot", "ticking", ticks).await;
    rig.kill_horus().await;
    rig.start().await;
    let before = rig.status_until("bot", "ticking again", ticks).await.beats[0].tick;
    rig.status_until("bot", "ticking on", |now| now.beats[0].tick > before.map(|tick| tick + 3)).await;
    assert_eq!(rig.process("bot").await, process);
    rig.assert_never_signalled("bot");
    rig.end().await;
}

/// What a program sees is what it sees without an agent: its options, its modules, its children, its end.
#[tokio::test]
async fn a_node_program_does_not_notice_its_agent() {
    let mut rig = rig().await;
    let Some(node) = node().await else { return skipped("a Node program and its agent", "no node") };
    let out = rig.room.path("with");
    let env = "env = { NODE_OPTIONS = \"--no-warnings\" }\nrestart = { on = \"never\" }\nagent = \"node\"\n";
    rig.run(&subject(&rig, &node, &["look", &out.display().to_string()], env)).await;
    let with = rig.file(&out).await;
    let exit = rig.first("bot", "its end", is_exit).await;
    assert!(
        matches!(&exit.event.what, What::Exited { .. })
            && format!("{:?}", exit.event.what).contains("Code(7)"),
        "{exit:?}"
    );
    let without = rig.room.path("without");
    look(&node, &without).await;
    assert_eq!(with, std::fs::read_to_string(&without).unwrap());
    assert!(with.contains("--no-warnings"), "{with}");
    rig.end().await;
}

/// The same program, started by nobody in particular.
async fn look(node: &str, out: &Path) {
    #[expect(clippy::disallowed_methods, reason = "a program to compare with")]
    let mut command = Command::new(node);
    command.args([SUBJECT, "look", "/nowhere"]).arg(out).env("NODE_OPTIONS", "--no-warnings");
    let status = tokio::time::timeout(FAILSAFE, command.kill_on_drop(true).status()).await;
    assert_eq!(status.unwrap().unwrap().code(), Some(7));
}
