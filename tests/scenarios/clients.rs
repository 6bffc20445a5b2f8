//! The clients for other languages: their own tests under every interpreter that is found, and programs that use them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use horus_core::verdict::LoopAxis;
use horus_sys::process::is_alive;
use horus_tests::{FAILSAFE, Rig, skipped};
use tokio::process::Command;

use crate::{is_kill, is_recovery, millis, rig, service, struck, taken, triggers};

const PYTHON_CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/python");

/// The oldest Python that the client is written for.
const PYTHON_MIN: (u32, u32) = (3, 9);
const PYTHON_NEWEST_KNOWN: u32 = 15;

const DEADLINE_MS: i64 = 2_000;

/// Two seconds without a tick are a fault.
const KEYS: &str = "heartbeat.notify = true\nready = \"notify\"\ndeadline = \"2s\"\nstartup = \"30s\"\nkills = { prove = \"5s\" }\n";

/// Every Python that the client is for, one of each version: in the `PATH`, and what pyenv has.
pub(crate) async fn pythons() -> BTreeMap<(u32, u32), PathBuf> {
    let mut candidates: Vec<PathBuf> = vec!["python3".into()];
    candidates.extend((PYTHON_MIN.1..=PYTHON_NEWEST_KNOWN).map(|minor| format!("python3.{minor}").into()));
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pyenv"));
    let pyenv = std::env::var_os("PYENV_ROOT").map(PathBuf::from).or(home);
    let versions = pyenv.and_then(|pyenv| std::fs::read_dir(pyenv.join("versions")).ok());
    candidates.extend(versions.into_iter().flatten().flatten().map(|entry| entry.path().join("bin/python3")));
    let mut found = BTreeMap::new();
    for candidate in candidates {
        if let Some(version) = python_version(&candidate).await
            && version >= PYTHON_MIN
        {
            found.entry(version).or_insert(candidate);
        }
    }
    found
}

async fn python_version(python: &Path) -> Option<(u32, u32)> {
    let ask = "import asyncio, sys; print(sys.version_info[0], sys.version_info[1])";
    #[expect(clippy::disallowed_methods, reason = "asks an interpreter for its version")]
    let answer = Command::new(python).args(["-c", ask]).output().await.ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    let (major, minor) = text.trim().split_once(' ')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[tokio::test]
async fn the_python_client_passes_its_own_tests_under_every_python() {
    let pythons = pythons().await;
    if pythons.is_empty() {
        return skipped("the Python client", "no python3 of version 3.9 or later");
    }
    for (version, python) in pythons {
        #[expect(clippy::disallowed_methods, reason = "an interpreter that runs the client's tests")]
        let mut tests = Command::new(&python);
        tests.args(["-B", "-m", "unittest", "discover", "-s", "tests"]).current_dir(PYTHON_CLIENT);
        let output = tokio::time::timeout(FAILSAFE, tests.kill_on_drop(true).output()).await;
        let output = output.unwrap_or_else(|_| panic!("the tests under {version:?} do not end")).unwrap();
        assert!(output.status.success(), "{version:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A service that uses the Python client. `None`: there is no Python here.
async fn beating(rig: &Rig, words: &[&str]) -> Option<String> {
    let python = rig.python().await?;
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/subjects/beating.py");
    let triggers = triggers(rig, "bot");
    let mut command = vec![python.as_str(), "-B", program, "--triggers", &triggers];
    command.extend(words);
    Some(service("bot", &command, &format!("{KEYS}env = {{ PYTHONPATH = \"{PYTHON_CLIENT}/src\" }}")))
}

#[tokio::test]
async fn a_loop_that_beats_by_the_python_client_is_found_when_it_blocks() {
    let mut rig = rig().await;
    let Some(config) = beating(&rig, &["asyncio"]).await else {
        return skipped("the Python client on asyncio", "no python3");
    };
    rig.run(&config).await;
    let old = rig.ready("bot").await;
    let beats = rig.status_until("bot", "ticking", |now| now.beats[0].tick > Some(3)).await;
    assert_eq!(beats.loop_axis.is, LoopAxis::Beating, "{}", beats.loop_axis.because);
    let since = struck(&rig, "bot", "block").await;
    let kill = rig.first("bot", "kill", is_kill).await;
    let took = millis(since, kill.at);
    assert!(took <= 2 * DEADLINE_MS + 1_000, "decided after {took} ms");
    rig.first("bot", "recovery", is_recovery).await;
    rig.ready_after(kill.seq, "bot").await;
    assert!(!is_alive(&old));
    assert_eq!(rig.count("bot", is_kill), 1);
    rig.end().await;
}

/// The main loop ticks on; the tick of the program stands still, because its worker does.
#[tokio::test]
async fn a_worker_that_stands_still_is_found_and_named() {
    let mut rig = rig().await;
    let Some(config) = beating(&rig, &["threads"]).await else {
        return skipped("the Python client with threads", "no python3");
    };
    rig.run(&config).await;
    rig.ready("bot").await;
    rig.status_until("bot", "ticking", |now| now.beats[0].tick > Some(3)).await;
    struck(&rig, "bot", "block").await;
    rig.first("bot", "kill", is_kill).await;
    rig.first("bot", "recovery", is_recovery).await;
    rig.end().await;
}

/// A declared step of three deadlines blocks the whole loop, and nobody is signalled for it.
#[tokio::test]
async fn a_step_that_was_declared_by_the_python_client_is_waited_for() {
    let mut rig = rig().await;
    let Some(config) = beating(&rig, &["asyncio", "--step", "8"]).await else {
        return skipped("a declared step in Python", "no python3");
    };
    rig.run(&config).await;
    let process = rig.ready("bot").await;
    let before = rig.status_until("bot", "ticking", |now| now.beats[0].tick > Some(3)).await;
    rig.room.trigger("bot/step");
    taken(&rig, "bot", "step").await;
    let end = before.up_for_ms.unwrap() + 8_000;
    let after = rig
        .status_until("bot", "the step is over", |now| {
            now.up_for_ms >= Some(end) && now.beats[0].tick > before.beats[0].tick.map(|tick| tick + 3)
        })
        .await;
    assert_eq!(after.loop_axis.is, LoopAxis::Beating, "{}", after.loop_axis.because);
    assert_eq!(rig.process("bot").await, process);
    rig.assert_never_signalled("bot");
    rig.end().await;
}
