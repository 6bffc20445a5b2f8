//! What the kernel shows of programs, where their beats say nothing: no beats at all, or a helper thread's.
//!
//! Told with the place, and never restarted: a look from outside does not know what a program means to do.

use horus_core::event::What;
use horus_core::notice::IncidentKind;
use horus_core::observation::KernelWord;
use horus_core::status::ServiceStatus;
use horus_core::verdict::{LoopAxis, Verdict};
use horus_tests::{Rig, skipped};

use crate::{bot_silent, is_kill, is_recovery, rig, service, struck, triggers};

const LIAR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/subjects/liar.py");

/// The helper thread of the liar beats ten times a second.
const LIAR_KEYS: &str =
    "heartbeat.notify = true\nready = \"notify\"\ndeadline = \"2s\"\nstop = { grace = \"5s\" }\n";

fn is_view(what: &What) -> bool {
    matches!(what, What::IncidentOpened { kind: IncidentKind::KernelView, .. })
}

async fn liar(rig: &Rig, words: &[&str], keys: &str) -> Option<String> {
    let python = rig.python().await?;
    let triggers = triggers(rig, "bot");
    let mut command = vec![python.as_str(), "-B", LIAR, "--triggers", &triggers];
    command.extend(words);
    Some(service("bot", &command, &format!("{LIAR_KEYS}{keys}")))
}

/// No heartbeat is configured, and nothing of the program knows of Horus.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_loop_that_blocks_is_named_where_nothing_beats_and_left_alone() {
    let mut rig = rig().await;
    let Some(config) = bot_silent(&rig, &[], "deadline = \"2s\"\n").await else {
        return skipped("a blocked loop without any beat", "no python3");
    };
    rig.run(&config).await;
    let turning = |now: &ServiceStatus| now.verdict == Verdict::Healthy;
    let status = rig.status_until("bot", "healthy, as the kernel shows", turning).await;
    assert_eq!(status.loop_axis.is, LoopAxis::Unknown, "nothing beats: {}", status.loop_axis.because);
    let explained = rig.cli(&["explain", "bot"]).await;
    assert_eq!(explained.code, 0, "{}{}", explained.out, explained.err);
    assert!(explained.out.contains("comes home"), "{}", explained.out);

    struck(&rig, "bot", "block").await;
    rig.first("bot", "incident", is_view).await;
    let said = rig.told("bot has been stuck for").await;
    assert!(said.full_text().contains("(bot.py:"), "the place is named: {}", said.full_text());
    assert!(said.full_text().contains("ask_the_exchange"), "{}", said.full_text());
    assert!(said.full_text().contains("recv"), "the call is named: {}", said.full_text());
    assert!(said.full_text().contains("I leave it alone"), "{}", said.full_text());
    rig.status_until("bot", "blocked", |now| now.verdict == Verdict::Blocked).await;
    let explained = rig.cli(&["explain", "bot"]).await;
    assert!(explained.out.contains("blocked in recv"), "{}", explained.out);
    rig.assert_never_signalled("bot");
    rig.end().await;
}

/// Every beat is on time, and the loop is dead.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_liar_is_told_of_without_a_counter_and_not_restarted() {
    let mut rig = rig().await;
    let Some(config) = liar(&rig, &[], "").await else { return skipped("a liar", "no python3") };
    rig.run(&config).await;
    let process = rig.ready("bot").await;
    let seen = |now: &ServiceStatus| {
        now.verdict == Verdict::Healthy
            && now.kernel.as_ref().is_some_and(|kernel| kernel.word == KernelWord::Alive)
    };
    rig.status_until("bot", "healthy, and seen to turn", seen).await;

    struck(&rig, "bot", "block").await;
    rig.first("bot", "incident", is_view).await;
    let said = rig.told("bot has been stuck for").await;
    assert!(said.full_text().contains("although its beats are fresh"), "{}", said.full_text());
    assert!(said.full_text().contains("(liar.py:"), "the place is named: {}", said.full_text());
    let status = rig.status_until("bot", "blocked", |now| now.verdict == Verdict::Blocked).await;
    assert_eq!(status.loop_axis.is, LoopAxis::Beating, "it goes on beating: {}", status.loop_axis.because);
    assert_eq!(rig.process("bot").await, process);
    rig.assert_never_signalled("bot");
    rig.end().await;
}

/// The counter is declared as work that no outside world can hold up: its standstill is a hang.
#[tokio::test]
async fn a_liar_with_a_counter_is_restarted() {
    let mut rig = rig().await;
    let keys = "progress.turns = { counter = \"turns\", stalled = \"2s\" }\nkills = { prove = \"5s\" }\n";
    let Some(config) = liar(&rig, &["--counter"], keys).await else {
        return skipped("a liar with a counter", "no python3");
    };
    rig.run(&config).await;
    let process = rig.ready("bot").await;
    rig.status_until("bot", "healthy", |now| now.verdict == Verdict::Healthy).await;
    struck(&rig, "bot", "block").await;
    let kill = rig.first("bot", "kill", is_kill).await;
    rig.first("bot", "recovery", is_recovery).await;
    assert_ne!(rig.ready_after(kill.seq, "bot").await, process);
    assert_eq!(rig.count("bot", is_kill), 1);
    rig.end().await;
}
