//! Hold outranks every rule (G5), observe mode signals nobody (G9).

use horus_core::event::What;
use horus_core::verdict::Verdict;
use horus_sys::process::is_alive;
use horus_sys::signal::Signal;
use horus_tests::Options;

use crate::{hanger, is_exit, is_recovery, is_start, rig, rig_with, struck};

const KEYS: &str = "deadline = \"1s\"\nkills = { prove = \"5s\" }\n";

#[tokio::test]
async fn a_hold_survives_the_death_of_horus_and_of_the_service() {
    let mut rig = rig().await;
    let config = hanger(&rig, "held", KEYS) + &hanger(&rig, "free", KEYS);
    rig.run(&config).await;
    let (held, _) = (rig.ready("held").await, rig.ready("free").await);
    let no_reason = rig.cli(&["hold", "held"]).await;
    assert_eq!(no_reason.code, 64, "a hold needs a reason: {}", no_reason.err);
    let hold = rig.cli(&["hold", "held", "--reason", "migrating the ledger"]).await;
    assert_eq!(hold.code, 0, "{}{}", hold.out, hold.err);
    rig.first("held", "hold", |what| matches!(what, What::HoldSet { .. })).await;

    rig.kill_horus().await;
    assert!(is_alive(&held), "no child dies with Horus");
    let lived_before = rig.journal.last();
    rig.start().await;
    rig.after(lived_before, "held", "adoption", |what| matches!(what, What::Adopted { .. })).await;
    assert_eq!(rig.status("held").await.hold.unwrap().reason, "migrating the ledger");

    // It dies and stays dead; the neighbour dies after it and is healed: there was time enough to break the hold.
    rig.signal(&held, Signal::KILL);
    let exit = rig.after(lived_before, "held", "exit", is_exit).await;
    rig.signal(&rig.process("free").await, Signal::KILL);
    rig.after(exit.seq, "free", "recovery", is_recovery).await;
    assert_eq!(rig.count("held", is_start), 1, "started under a hold");
    let status = rig.status("held").await;
    assert_eq!((status.pid, status.verdict), (None, Verdict::Held), "{}", status.because);
    let start = rig.cli(&["start", "held"]).await;
    assert_eq!(start.code, 1, "a start under a hold is refused: {}{}", start.out, start.err);
    assert!(start.err.contains("migrating the ledger"), "{}", start.err);

    let resume = rig.cli(&["resume", "held", "--reason", "done"]).await;
    assert_eq!(resume.code, 0, "{}{}", resume.out, resume.err);
    rig.after(exit.seq, "held", "start", is_start).await;
    rig.ready_after(exit.seq, "held").await;
    rig.end().await;
}

#[tokio::test]
async fn a_hung_service_under_a_hold_is_told_about_and_not_touched() {
    let mut rig = rig().await;
    let config = hanger(&rig, "held", KEYS);
    rig.run(&config).await;
    let process = rig.ready("held").await;
    let hold = rig.cli(&["hold", "held", "--reason", "debugging"]).await;
    assert_eq!(hold.code, 0, "{}{}", hold.out, hold.err);
    struck(&rig, "held", "hang").await;
    let would = rig.first("held", "decline", |what| matches!(what, What::WouldHave { .. })).await;
    assert!(matches!(&would.event.what, What::WouldHave { what, .. } if what.contains("debugging")));
    // Whoever holds it wants to know that it hangs.
    rig.told("held has been stuck for").await;
    rig.assert_never_signalled("held");
    assert!(is_alive(&process));
    rig.end().await;
}

async fn observed(daemon: &str, keys: &str) {
    let mut rig = rig_with(Options { daemon: daemon.into(), ..Options::default() }).await;
    let config = hanger(&rig, "bot", &format!("{KEYS}{keys}"));
    rig.run(&config).await;
    let process = rig.ready("bot").await;
    struck(&rig, "bot", "hang").await;
    rig.first("bot", "what it would have done", |what| matches!(what, What::WouldHave { .. })).await;
    let said = rig.told("bot has been stuck for").await;
    assert!(said.first_line().contains("I leave it alone."), "{}", said.first_line());
    let up = rig.status("bot").await.up_for_ms.unwrap();
    rig.status_until("bot", "6 deadlines older", |now| now.up_for_ms >= Some(up + 6_000)).await;
    assert_eq!(rig.process("bot").await, process);
    rig.assert_never_signalled("bot");
    assert_eq!(rig.count("bot", is_start), 1);
    assert_eq!(rig.count("bot", |what| matches!(what, What::WouldHave { .. })), 1, "said once");
    rig.end().await;
}

#[tokio::test]
async fn an_observed_service_is_never_signalled() {
    observed("", "observe = true\n").await;
}

#[tokio::test]
async fn in_observe_mode_nothing_is_ever_signalled() {
    observed("mode = \"observe\"", "").await;
}
