//! G7: what happened is told, whatever became of the network and of Horus in between.

use horus_alert::fake::Fault;
use horus_core::event::What;
use horus_core::notice::IncidentKind;
use horus_sys::signal::Signal;
use horus_tests::{Rig, skipped};

use crate::{hanger, is_kill, is_recovery, rig, struck};

const KEYS: &str = "deadline = \"1s\"\nkills = { prove = \"5s\" }\n";

async fn one_hang(rig: &Rig) {
    struck(rig, "bot", "hang").await;
    rig.first("bot", "kill", is_kill).await;
    rig.first("bot", "recovery", is_recovery).await;
}

async fn running() -> Rig {
    let mut rig = rig().await;
    let config = hanger(&rig, "bot", KEYS);
    rig.run(&config).await;
    rig.ready("bot").await;
    rig
}

/// Bad answers of every kind that passes: the message arrives in the end, and Slack was never kept waiting.
#[tokio::test]
async fn invariant_g7_a_network_that_comes_and_goes_delays_and_loses_nothing() {
    let rig = running().await;
    rig.sinks.discord.script([
        Fault::Reset,
        Fault::ServerError,
        Fault::BadGatewayPage,
        Fault::RateLimitedPage { after_s: 1 },
        Fault::RateLimited { after_s: 0.5 },
    ]);
    one_hang(&rig).await;
    rig.told("bot was stuck, I restarted it, working again").await;
    let lines = rig.sinks.slack.accepted();
    assert!(
        lines.iter().any(|said| said.first_line().contains("I am restarting it now")),
        "Slack had to wait"
    );
    rig.end().await;
}

/// Discord takes the request and never answers; Horus is killed; the next one delivers.
#[tokio::test]
async fn invariant_g7_an_alert_outlives_a_hanging_sink_and_the_death_of_horus() {
    let mut rig = running().await;
    rig.sinks.discord.script([Fault::Hang; 8]);
    one_hang(&rig).await;
    rig.sinks.discord.wait_for_requests(1).await.unwrap();
    assert_eq!(rig.sinks.discord.accepted().len(), 0);
    rig.kill_horus().await;
    rig.sinks.discord.clear_script();
    rig.start().await;
    rig.told("bot was stuck, I restarted it, working again").await;
    rig.end().await;
}

/// A network that was away for ten minutes: the message says how late it is.
#[tokio::test]
async fn invariant_g7_a_late_message_says_so() {
    let mut rig = running().await;
    if rig.python().await.is_none() {
        return skipped("a late message", "no python3");
    }
    rig.sinks.discord.script([Fault::Hang; 8]);
    one_hang(&rig).await;
    rig.sinks.discord.wait_for_requests(1).await.unwrap();
    rig.kill_horus().await;
    rig.sinks.discord.clear_script();
    // Ten minutes pass: everything in the outbox is that much older.
    rig.with_database("rows.execute('UPDATE outbox SET happened_ms = happened_ms - 600000')").await;
    rig.start().await;
    let discord = rig.sinks.discord.wait_for(1).await.unwrap();
    let line = discord[0].first_line();
    assert!(line.starts_with("(late: happened ") && line.contains("bot was stuck"), "{line}");
    rig.end().await;
}

/// A deleted webhook is dead: the other sink says so, and everything goes on.
#[tokio::test]
async fn a_deleted_webhook_is_told_through_the_other_sink() {
    let rig = running().await;
    rig.sinks.discord.set_deleted(true);
    let child = rig.process("bot").await;
    rig.signal(&child, Signal::KILL);
    rig.first("bot", "recovery", is_recovery).await;
    let dead = |what: &What| matches!(what, What::IncidentOpened { kind: IncidentKind::SinkDead, .. });
    rig.first("horus", "dead sink", dead).await;
    let told = said_at_slack(&rig, "horus cannot bring alerts to discord any more").await;
    assert!(told.contains("404"), "{told}");
    assert!(said_at_slack(&rig, "bot ended by itself").await.contains("signal 9"));
    let status = rig.client.status().await.unwrap();
    assert_eq!(status.dead_sinks.len(), 1, "{:?}", status.dead_sinks);
    let test = rig.cli(&["alerts", "test"]).await;
    assert_eq!(test.code, 1, "one of two sinks is dead: {}{}", test.out, test.err);
    let both = format!("{}{}", test.out, test.err);
    assert!(both.contains("discord") && both.contains("slack") && both.contains("404"), "{both}");
    rig.end().await;
}

async fn said_at_slack(rig: &Rig, text: &str) -> String {
    let looking = async {
        loop {
            let found = rig.sinks.slack.accepted().into_iter().find(|said| said.full_text().contains(text));
            if let Some(found) = found {
                return found.full_text();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(horus_tests::FAILSAFE, looking).await;
    found.unwrap_or_else(|_| panic!("Slack does not hear {text:?}"))
}

/// Every answer of a webhook that will not pass by itself: a clear word to the person who tests it, nothing else moves.
#[tokio::test]
async fn webhooks_that_answer_badly_are_named_by_alerts_test() {
    let rig = running().await;
    let child = rig.process("bot").await;
    for (fault, says) in [
        (Fault::Unauthorized, "401"),
        (Fault::NotFound, "404"),
        (Fault::RateLimited { after_s: 2.0 }, "429"),
        (Fault::ServerError, "500"),
        (Fault::LoginPage, "page"),
        (Fault::EndlessBody, "400"),
        (Fault::Redirect, "302"),
        (Fault::Reset, ""),
        (Fault::Hang, "no answer"),
    ] {
        // A form that is refused is tried once more as plain text, so the fault has to last.
        rig.sinks.discord.script([fault; 2]);
        let test = rig.cli(&["alerts", "test", "discord"]).await;
        assert_eq!(test.code, 1, "{fault:?}: {}{}", test.out, test.err);
        let both = format!("{}{}", test.out, test.err);
        assert!(both.to_lowercase().contains(says), "{fault:?}: {both}");
        assert!(!both.contains(horus_alert::fake::CANARY), "{both}");
        assert!(!both.contains("panicked"), "{both}");
        rig.sinks.discord.clear_script();
    }
    let test = rig.cli(&["alerts", "test"]).await;
    assert_eq!(test.code, 0, "{}{}", test.out, test.err);
    rig.told("this is a test, alerts from mini arrive here").await;
    assert_eq!(rig.process("bot").await, child);
    rig.end().await;
}
