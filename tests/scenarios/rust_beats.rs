//! `horus-heartbeat` in a real program on tokio, under a real Horus.

use horus_core::event::What;
use horus_core::notice::IncidentKind;
use horus_core::verdict::LoopAxis;

use crate::{is_exit, is_kill, rig, service, struck, subject, triggers};

const KEYS: &str = "deadline = \"5s\"\nstartup = \"30s\"\nstop = { grace = \"10s\" }\nheartbeat.notify = true\nsampler = false\n\
                    expect.workers = { gauge = \"workers_turning\", min = 3, within = \"1s\" }\n";

/// One worker of three sits in a synchronous call. The tick goes on, so nothing is restarted; that a worker is missing is told. And a stop is
/// answered by a program that first puts its things in order.
#[tokio::test]
async fn a_stuck_worker_is_told_and_a_stop_lets_the_program_keep_what_is_open() {
    let mut rig = rig().await;
    let kept = rig.room.path("kept");
    let (kept_word, folder) = (kept.display().to_string(), triggers(&rig, "bot"));
    let command = [subject!("tokio-worker"), "--triggers", &folder, "--kept", &kept_word];
    rig.run(&service("bot", &command, KEYS)).await;
    let process = rig.ready("bot").await;
    rig.status_until("bot", "beating", |now| now.loop_axis.is == LoopAxis::Beating).await;
    struck(&rig, "bot", "block").await;
    let is_missed =
        |what: &What| matches!(what, What::IncidentOpened { kind: IncidentKind::Expectation, .. });
    rig.first("bot", "a worker is missed", is_missed).await;
    let said = rig.told("bot has had too little to do for").await;
    assert!(said.full_text().contains("workers_turning is 2; at least 3 is right."), "{}", said.full_text());
    assert_eq!(
        rig.status("bot").await.loop_axis.is,
        LoopAxis::Beating,
        "its loop turns on the other workers"
    );
    assert_eq!(rig.process("bot").await, process);
    assert_eq!(rig.count("bot", is_kill), 0);

    let stop = rig.cli(&["stop", "bot"]).await;
    assert_eq!(stop.code, 0, "{}{}", stop.out, stop.err);
    let exit = rig.first("bot", "end", is_exit).await;
    assert!(matches!(&exit.event.what, What::Exited { .. }), "{:?}", exit.event.what);
    let text = rig.file(&kept).await;
    assert!(text.starts_with("kept ") && text.contains("in time: true"), "{text}");
    rig.end().await;
}
