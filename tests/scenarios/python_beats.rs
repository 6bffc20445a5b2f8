//! A life with the client for Python: it is healthy and seen to work, declares a long step, and hangs right after it.

use horus_core::event::What;
use horus_core::observation::CaptureStage;
use horus_core::status::ServiceStatus;
use horus_core::verdict::Verdict;
use horus_sys::process::is_alive;
use horus_tests::skipped;

use crate::{is_kill, is_recovery, rig, service, struck, triggers};

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/python/src");

/// Three seconds without a tick are a fault; `READY=1` ends the start.
const KEYS: &str = "heartbeat.notify = true\nready = \"notify\"\ndeadline = \"3s\"\nstartup = \"60s\"\n\
                    kills = { prove = \"10s\" }\nstop = { grace = \"5s\" }\n\
                    value.turns = { counter = \"turns\", stale = \"24h\", dead = \"72h\" }\n";

fn healthy(now: &ServiceStatus) -> bool {
    now.verdict == Verdict::Healthy && now.value.because.contains("turns grew")
}

/// The step is declared to take ten minutes and takes a second. What is left of the ten minutes excuses nobody.
#[tokio::test]
async fn a_python_loop_that_hangs_after_a_declared_step_is_named_and_restarted() {
    let mut rig = rig().await;
    let Some(python) = rig.python().await else {
        return skipped("a hang after a declared step in Python", "no python3");
    };
    let subject = concat!(env!("CARGO_MANIFEST_DIR"), "/subjects/beating.py");
    let triggers = triggers(&rig, "bot");
    let command = [&python, "-B", subject, "--triggers", &triggers, "asyncio", "--step", "1"];
    rig.run(&service("bot", &command, &format!("{KEYS}env = {{ PYTHONPATH = \"{CLIENT}\" }}"))).await;
    let old = rig.ready("bot").await;
    let status = rig.status_until("bot", "healthy and at work", healthy).await;
    let heard = status.beats.first().unwrap();
    assert!(heard.tick.is_some() && heard.loop_lag_ms.is_some(), "its tick and its lag: {heard:?}");
    let shown = rig.cli(&["status", "bot"]).await;
    assert!(shown.out.contains("turns grew"), "its counter: {}", shown.out);

    struck(&rig, "bot", "step").await;
    rig.status_until("bot", "busy", |now| now.verdict == Verdict::Busy).await;
    rig.status_until("bot", "healthy after the step", healthy).await;
    rig.assert_never_signalled("bot");

    struck(&rig, "bot", "block").await;
    let kill = rig.first("bot", "kill", is_kill).await;
    let captured = |what: &What| matches!(what, What::EvidenceCaptured { stage: CaptureStage::Verdict, .. });
    let evidence = rig.first("bot", "evidence", captured).await;
    let What::EvidenceCaptured { finding, .. } = &evidence.event.what else { unreachable!() };
    if cfg!(target_os = "linux") {
        assert!(finding.phrase.contains("(beating.py:"), "the place is named: {finding:?}");
    }
    rig.first("bot", "recovery", is_recovery).await;
    let new = rig.ready_after(kill.seq, "bot").await;
    assert_ne!(old, new);
    assert!(!is_alive(&old), "the blocked process is gone");
    rig.status_until("bot", "healthy again", healthy).await;
    assert_eq!(rig.count("bot", is_kill), 1);
    rig.end().await;
}
