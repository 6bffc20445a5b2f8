//! `never-traded` and `hang-7h` (b): alive, on time, and useless. Told, never restarted (G8).

use horus_core::event::What;
use horus_core::notice::IncidentKind;
use horus_core::plan::Severity;
use horus_core::verdict::{LoopAxis, ValueAxis};
use horus_tests::skipped;

use crate::{bot, rig, struck};

const KEYS: &str = "deadline = \"2s\"\nstartup = \"30s\"\n\
                    value.orders = { counter = \"orders\", stale = \"3s\", dead = \"6s\" }\n\
                    funnel.entry = { stages = [\"signals\", \"orders\"], blocked_after = 8 }\n";

#[tokio::test]
async fn never_traded_is_told_and_nothing_is_restarted() {
    let mut rig = rig().await;
    let Some(config) = bot(&rig, &["--no-orders"], KEYS).await else {
        return skipped("never-traded", "no python3");
    };
    rig.run(&config).await;
    let process = rig.ready("bot").await;
    let opened = |kind| move |what: &What| matches!(what, What::IncidentOpened { kind: opened, .. } if *opened == kind);
    rig.first("bot", "value incident", opened(IncidentKind::Valueless)).await;
    rig.first("bot", "funnel incident", opened(IncidentKind::FunnelBlocked)).await;
    let said = rig.told("bot runs but has produced no orders for").await;
    assert!(
        said.full_text().contains("I did not restart it: a restart does not cure this."),
        "{}",
        said.full_text()
    );
    let said = rig.told("bot runs, but its work stops before orders").await;
    assert!(said.full_text().contains("signals went up by"), "{}", said.full_text());
    // One ladder: from stale to dead it is told again, as critical.
    let status = rig.status_until("bot", "dead", |now| now.value.is == ValueAxis::Dead).await;
    assert_eq!(
        status.loop_axis.is,
        LoopAxis::Beating,
        "alive and useful are two axes: {}",
        status.loop_axis.because
    );
    let incidents = rig.client.incidents(true, 10).await.unwrap().incidents;
    let value = incidents.iter().find(|incident| incident.kind == IncidentKind::Valueless).unwrap();
    assert!(value.severity >= Severity::Warning);
    assert_eq!(rig.process("bot").await, process);
    assert_eq!(rig.count("bot", crate::is_start), 1, "zero restarts");
    rig.assert_never_signalled("bot");
    rig.end().await;
}

#[tokio::test]
async fn hang_7h_of_one_stage_is_found_by_its_counter_and_not_restarted() {
    let mut rig = rig().await;
    let Some(config) = bot(&rig, &[], KEYS).await else { return skipped("hang-7h (b)", "no python3") };
    rig.run(&config).await;
    let process = rig.ready("bot").await;
    rig.status_until("bot", "useful", |now| {
        now.value.is == ValueAxis::Fresh && now.value.because.contains("grew")
    })
    .await;
    assert_eq!(rig.sinks.first_lines(), Vec::<String>::new(), "a bot that trades is not talked about");
    struck(&rig, "bot", "stall").await;
    rig.told("bot runs, but its work stops before orders").await;
    rig.told("bot runs but has produced no orders for").await;
    let status = rig.status("bot").await;
    assert_eq!(status.loop_axis.is, LoopAxis::Beating, "its loop lives: {}", status.loop_axis.because);
    assert_eq!(rig.process("bot").await, process);
    rig.assert_never_signalled("bot");
    rig.end().await;
}

/// A bot that never got a slot to trade with: it ticks, it is on time, and it can never earn a cent.
#[tokio::test]
async fn an_empty_inventory_is_told_and_nothing_is_restarted() {
    let mut rig = rig().await;
    let keys =
        "deadline = \"2s\"\nstartup = \"30s\"\nexpect.slots = { gauge = \"slots\", within = \"2s\" }\n";
    let Some(config) = bot(&rig, &["--slots", "0"], keys).await else {
        return skipped("zero-slots", "no python3");
    };
    rig.run(&config.replace("state = \"/state\"", "state = \"/state\", gauges = \"/gauges\"")).await;
    let process = rig.ready("bot").await;
    let is_empty = |what: &What| matches!(what, What::IncidentOpened { kind: IncidentKind::Expectation, .. });
    let opened = rig.first("bot", "incident", is_empty).await;
    let said = rig.told("bot has had too little to do for").await;
    assert!(said.first_line().contains("0 slots"), "{}", said.first_line());
    assert!(said.full_text().contains("slots is 0; at least 1 is right."), "{}", said.full_text());
    assert!(
        said.full_text().contains("I did not restart it: a restart does not cure this."),
        "{}",
        said.full_text()
    );

    struck(&rig, "bot", "fill").await;
    let closed =
        rig.after(opened.seq, "bot", "end", |what| matches!(what, What::IncidentClosed { .. })).await;
    assert_eq!(closed.event.incident, opened.event.incident);
    assert_eq!(rig.process("bot").await, process);
    assert_eq!(rig.count("bot", crate::is_start), 1, "zero restarts");
    rig.assert_never_signalled("bot");
    rig.end().await;
}
