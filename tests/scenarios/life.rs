//! G1: whoever shows life, declares a long step, or was not looked at in time, is never signalled by the judge.

use std::time::Duration;

use horus_core::event::What;
use horus_core::notice::IncidentKind;
use horus_core::verdict::Verdict;
use horus_sys::process::is_alive;
use horus_sys::signal::Signal;
use horus_tests::skipped;

use crate::{hanger, is_exit, is_kill, is_recovery, is_start, millis, rig, struck};

const KEYS: &str = "deadline = \"1s\"\nkills = { prove = \"5s\" }\n";

/// `slow-cycle`: four seconds in one step under a deadline of one, declared.
#[tokio::test]
async fn invariant_g1_a_declared_long_step_is_waited_for() {
    let mut rig = rig().await;
    let config = hanger(&rig, "bot", KEYS);
    rig.run(&config).await;
    let process = rig.ready("bot").await;
    let since = rig.journal.last();
    struck(&rig, "bot", "busy").await;
    rig.status_until("bot", "busy", |now| now.verdict == Verdict::Busy).await;
    rig.status_until("bot", "healthy again", |now| now.verdict == Verdict::Healthy).await;
    let up = rig.status("bot").await.up_for_ms.unwrap();
    rig.status_until("bot", "3 s older", |now| now.up_for_ms >= Some(up + 3_000)).await;
    assert_eq!(rig.process("bot").await, process);
    rig.assert_never_signalled("bot");
    let opened = |what: &What| matches!(what, What::IncidentOpened { .. });
    assert_eq!(rig.count("bot", opened), 0, "nothing happened, after {since}");
    rig.end().await;
}

/// While programs wait for a processor, a late one is starved, not hung: all limits are four times as long, and what hangs
/// past these is restarted all the same.
#[tokio::test]
async fn invariant_g1_on_a_starved_machine_limits_are_stretched() {
    let mut rig = rig().await;
    if !rig.can_press() {
        return skipped("starved", "no C compiler");
    }
    let config = hanger(&rig, "bot", KEYS);
    rig.press(90);
    rig.run(&config).await;
    let stretched =
        |what: &What| matches!(what, What::Host { reason } if reason.text.contains("stretched to 400 %"));
    rig.first("horus", "pressure", stretched).await;
    rig.ready("bot").await;
    let since = struck(&rig, "bot", "hang").await;
    let starved = |what: &What| matches!(what, What::Judged { to: Verdict::Starved, .. });
    let late = rig.first("bot", "starved", starved).await;
    let kill = rig.first("bot", "kill", is_kill).await;
    assert!(late.seq < kill.seq);
    let took = millis(since, kill.at);
    assert!(
        (8_000 - 400..=8_000 + 200 + 1_000).contains(&took),
        "twice four deadlines of 1 s, not {took} ms"
    );
    rig.first("bot", "recovery", is_recovery).await;
    rig.end().await;
}

/// `laptop-lid`, as far as one process can play it: Horus itself is stopped for longer than every deadline.
#[tokio::test]
async fn invariant_g1_the_lateness_of_horus_is_not_charged() {
    let mut rig = rig().await;
    let config = hanger(&rig, "one", KEYS) + &hanger(&rig, "two", KEYS);
    rig.run(&config).await;
    let before = (rig.ready("one").await, rig.ready("two").await);
    let horus = rig.horus();
    for _ in 0..3 {
        rig.signal(&horus, Signal::STOP);
        // The length of the sleep is what this scenario is about.
        tokio::time::sleep(Duration::from_secs(3)).await;
        rig.signal(&horus, Signal::CONT);
        let up = rig.status("one").await.up_for_ms.unwrap();
        rig.status_until("one", "a second older", |now| now.up_for_ms >= Some(up + 1_000)).await;
    }
    assert_eq!((rig.process("one").await, rig.process("two").await), before);
    rig.assert_never_signalled("one");
    rig.assert_never_signalled("two");
    // A real hang is found all the same.
    struck(&rig, "one", "hang").await;
    rig.first("one", "kill", is_kill).await;
    rig.first("one", "recovery", is_recovery).await;
    rig.end().await;
}

/// `kill-switch-fights-keepalive`: what stops itself on purpose stays down, for the next Horus too.
#[tokio::test]
async fn halted_on_purpose_is_never_started_again() {
    let mut rig = rig().await;
    let config = hanger(&rig, "bot", KEYS);
    rig.run(&config).await;
    let process = rig.ready("bot").await;
    struck(&rig, "bot", "halt").await;
    let exit = rig.first("bot", "exit", is_exit).await;
    assert!(!is_alive(&process));
    let said = rig.told("bot stopped itself on purpose. I leave it so. Needs you.").await;
    assert!(said.full_text().contains("horus restart bot"), "{}", said.full_text());
    rig.kill_horus().await;
    rig.start().await;
    let opened = |what: &What| matches!(what, What::IncidentOpened { kind: IncidentKind::Halted, .. });
    assert_eq!(rig.count("bot", opened), 1);
    let status = rig.status_until("bot", "halted", |now| now.verdict == Verdict::Halted).await;
    assert_eq!(status.pid, None);
    assert_eq!(rig.count("bot", is_start), 1);
    // Only a person undoes it.
    let restart = rig.cli(&["restart", "bot"]).await;
    assert_eq!(restart.code, 0, "{}{}", restart.out, restart.err);
    rig.ready_after(exit.seq, "bot").await;
    rig.end().await;
}

/// Somebody stops a program to look at it: it is silent, and that is nobody's fault.
#[tokio::test]
async fn a_program_that_somebody_has_stopped_is_told_of_and_left_alone() {
    let mut rig = rig().await;
    let config = hanger(&rig, "bot", KEYS);
    rig.run(&config).await;
    let process = rig.ready("bot").await;
    rig.signal(&process, Signal::STOP);
    let view = |what: &What| matches!(what, What::IncidentOpened { kind: IncidentKind::KernelView, .. });
    rig.first("bot", "incident", view).await;
    let said = rig.told("bot has been stopped").await;
    assert!(said.full_text().contains("its silence proves nothing"), "{}", said.full_text());
    rig.status_until("bot", "stopped", |now| now.verdict == Verdict::Stopped).await;
    rig.signal(&process, Signal::CONT);
    rig.status_until("bot", "healthy again", |now| now.verdict == Verdict::Healthy).await;
    assert_eq!(rig.process("bot").await, process);
    assert_eq!(rig.count("bot", |what| matches!(what, What::Signalled { .. })), 0);
    rig.end().await;
}
