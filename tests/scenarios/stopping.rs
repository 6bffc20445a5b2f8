//! A stop is done when the last process is gone, and said to be done not a moment earlier.

use std::path::PathBuf;

use horus_core::event::{DeathCause, What};
use horus_core::observation::CaptureStage;
use horus_sys::process::{ProcessId, identify, is_alive};
use horus_tests::Rig;

use crate::{beat, is_exit, is_signal, rig, service, subject, triggers};

const KEYS: &str = "deadline = \"5s\"\nstop = { grace = \"1s\" }\n";

/// A service with a family: a child and a double-forked grandchild in a session of its own.
fn family(rig: &Rig, program: &str) -> (String, PathBuf) {
    let folder = rig.room.path("family");
    std::fs::create_dir(&folder).unwrap();
    let port = rig.room.port();
    let (port_word, family) = (port.to_string(), folder.display().to_string());
    let triggers = triggers(rig, "bot");
    let command = [program, "--port", &port_word, "--family", &family, "--triggers", &triggers];
    (service("bot", &command, &format!("{}{KEYS}", beat(port))), folder)
}

async fn members(rig: &Rig, folder: &std::path::Path) -> Vec<ProcessId> {
    let mut members = Vec::new();
    for member in ["child", "orphan"] {
        let pid: i32 = rig.file(&folder.join(member)).await.trim().parse().unwrap();
        members.push(identify(pid).unwrap().expect("it lives"));
    }
    members
}

#[tokio::test]
async fn a_deaf_program_and_its_whole_family_are_gone_before_stop_answers() {
    let mut rig = rig().await;
    let (config, folder) = family(&rig, subject!("ignores-term"));
    rig.run(&config).await;
    let head = rig.ready("bot").await;
    let family = members(&rig, &folder).await;
    let stop = rig.cli(&["stop", "bot"]).await;
    // At this very moment, with no grace for stragglers.
    assert!(!is_alive(&head), "the head of the family lives");
    let left: Vec<_> = family.iter().filter(|member| is_alive(member)).collect();
    assert!(left.is_empty(), "stop has answered and {left:?} live");
    assert_eq!(stop.code, 0, "{}{}", stop.out, stop.err);

    let soft = rig.first("bot", "soft signal", is_signal).await;
    let hard = rig.after(soft.seq, "bot", "hard signal", is_signal).await;
    assert!(matches!(&soft.event.what, What::Signalled { signal, tree: false, .. } if signal == "SIGTERM"));
    assert!(matches!(&hard.event.what, What::Signalled { signal, tree: true, .. } if signal == "SIGKILL"));
    assert!(crate::millis(soft.at, hard.at) >= 950, "the grace was given");
    let exit = rig.first("bot", "exit", is_exit).await;
    assert!(
        matches!(exit.event.what, What::Exited { cause: DeathCause::Planned, .. }),
        "{:?}",
        exit.event.what
    );
    let status = rig.status("bot").await;
    assert_eq!((status.pid, status.wanted.as_str(), status.phase.as_str()), (None, "down", "down"));
    assert_eq!(rig.sinks.first_lines(), Vec::<String>::new(), "what a person asked for is no news");
    rig.end().await;
}

/// Horus dies between the soft signal and the hard one: the next one finishes the stop.
#[tokio::test]
async fn a_stop_is_finished_by_the_next_horus() {
    let mut rig = rig().await;
    let (config, folder) = family(&rig, subject!("ignores-term"));
    rig.run(&config).await;
    let head = rig.ready("bot").await;
    let family = members(&rig, &folder).await;
    let request = horus_core::observation::OperatorRequest::Stop(horus_tests::name("bot"));
    let asked = rig.client.ask(&request).await.unwrap();
    let soft = rig.first("bot", "soft signal", is_signal).await;
    rig.kill_horus().await;
    drop(asked);
    assert!(is_alive(&head), "the grace is not over");
    rig.start().await;
    rig.after(soft.seq, "bot", "exit", is_exit).await;
    rig.status_until("bot", "down", |now| now.phase == "down").await;
    assert!(!is_alive(&head) && family.iter().all(|member| !is_alive(member)), "somebody survived the stop");
    assert_eq!(rig.count("bot", crate::is_start), 1);
    assert_eq!(rig.status("bot").await.wanted, "down");
    rig.end().await;
}

#[tokio::test]
async fn what_an_ended_program_leaves_behind_is_swept_before_the_next_start() {
    let mut rig = rig().await;
    let (config, folder) = family(&rig, subject!("forker"));
    rig.run(&config).await;
    let head = rig.ready("bot").await;
    let family = members(&rig, &folder).await;
    rig.room.trigger("bot/exit");
    let gone = rig.first("bot", "sweep", |what| matches!(what, What::VerifiedGone { .. })).await;
    let next = rig.after(gone.seq, "bot", "next start", |what| matches!(what, What::Started { .. })).await;
    assert_eq!(
        rig.count("bot", |what| matches!(what, What::Started { .. })),
        2,
        "not started beside its strays"
    );
    assert!(family.iter().all(|member| !is_alive(member)), "strays live on");
    let new = rig.ready_after(next.seq, "bot").await;
    assert_ne!(new, head);
    rig.end().await;
}

#[tokio::test]
async fn stop_start_and_restart_answer_with_what_is_true() {
    let mut rig = rig().await;
    let config = crate::hanger(&rig, "bot", KEYS);
    rig.run(&config).await;
    let first = rig.ready("bot").await;
    let restart = rig.cli(&["restart", "bot"]).await;
    assert_eq!(restart.code, 0, "{}{}", restart.out, restart.err);
    let second = rig.process("bot").await;
    assert_ne!(first, second);
    assert!(!is_alive(&first));
    let stop = rig.cli(&["stop", "bot"]).await;
    assert_eq!(stop.code, 0, "{}{}", stop.out, stop.err);
    assert!(!is_alive(&second));
    // Stopped stays stopped, also for the next Horus.
    rig.kill_horus().await;
    rig.start().await;
    assert_eq!(rig.status("bot").await.wanted, "down");
    let start = rig.cli(&["start", "bot"]).await;
    assert_eq!(start.code, 0, "{}{}", start.out, start.err);
    assert!(is_alive(&rig.process("bot").await));
    rig.end().await;
}

/// A runtime that says where all of it stands when it is asked to: its answer is in the evidence of the end that follows.
#[tokio::test]
async fn the_dump_that_sigquit_asks_of_a_go_program_is_in_the_evidence() {
    let mut rig = rig().await;
    let program = rig.room.path("server");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/subjects/matrix/server.go");
    #[expect(clippy::disallowed_methods, reason = "a compiler, which ends by itself")]
    let mut go = tokio::process::Command::new("go");
    go.args(["build", "-o"]).arg(&program).arg(source).env("GO111MODULE", "off");
    go.env("GOCACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/go-cache"));
    if !go.output().await.is_ok_and(|built| built.status.success()) {
        return horus_tests::skipped("dump of a Go program", "no Go");
    }
    let (port, folder) = (rig.room.port(), triggers(&rig, "bot"));
    let command = [program.display().to_string(), "self".into(), folder.clone(), port.to_string()];
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let keys = "deadline = \"2s\"\nstop = { signal = \"SIGQUIT\", grace = \"10s\" }\n";
    rig.run(&service("bot", &command, &format!("{}{keys}", beat(port)))).await;
    rig.ready("bot").await;
    std::fs::File::create(std::path::Path::new(&folder).join("go")).unwrap();
    let exit = rig.first("bot", "exit", is_exit).await;
    let at_exit = |what: &What| matches!(what, What::EvidenceCaptured { stage: CaptureStage::Exit, .. });
    let evidence = rig.after(exit.seq, "bot", "last words", at_exit).await;
    let What::EvidenceCaptured { finding, .. } = &evidence.event.what else { unreachable!() };
    let has = |word: &str| finding.last_lines.iter().any(|line| line.contains(word));
    assert!(has("SIGQUIT: quit") && has("main.lockTheLedgerTwice"), "{:#?}", finding.last_lines);
    rig.end().await;
}
