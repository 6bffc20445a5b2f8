//! Startup ends with the first fresh tick, not with a timer.

use horus_core::event::What;
use horus_core::notice::IncidentKind;

use crate::{beat, is_start, rig, service, subject};

/// A real minute: longer than any deadline of the service, and nothing happens to it.
#[tokio::test]
async fn a_start_of_sixty_seconds_is_waited_for() {
    let mut rig = rig().await;
    let port = rig.room.port();
    let keys = format!("{}deadline = \"1s\"\nstartup = \"2m\"\n", beat(port));
    let port = port.to_string();
    rig.run(&service("model", &[subject!("slow-starter"), "--start", "60000", "--port", &port], &keys)).await;
    let started = rig.first("model", "start", |what| matches!(what, What::Started { .. })).await;
    let process = rig.process("model").await;
    // Longer than the failsafe of one wait.
    rig.status_until("model", "30 s old", |now| now.up_for_ms >= Some(30_000)).await;
    let ready = rig.ready_after(started.seq, "model").await;
    assert_eq!(ready, process);
    let became = rig.first("model", "ready", |what| matches!(what, What::BecameReady { .. })).await;
    let What::BecameReady { took, .. } = &became.event.what else { unreachable!() };
    assert!(took.as_secs() >= 60, "{took:?}");
    assert_eq!(rig.count("model", is_start), 1);
    assert_eq!(rig.sinks.first_lines(), Vec::<String>::new());
    rig.assert_never_signalled("model");
    rig.end().await;
}

/// Past the cap it is told, and still not killed; its first tick ends the matter.
#[tokio::test]
async fn a_start_beyond_its_cap_is_told_and_not_killed() {
    let mut rig = rig().await;
    let port = rig.room.port();
    let keys = format!("{}deadline = \"1s\"\nstartup = \"2s\"\n", beat(port));
    let port = port.to_string();
    rig.run(&service("model", &[subject!("slow-starter"), "--start", "7000", "--port", &port], &keys)).await;
    let said = rig.told("model is not ready after").await;
    assert!(
        said.first_line().contains("Please look") || said.first_line().contains("Needs you"),
        "{}",
        said.first_line()
    );
    let process = rig.process("model").await;
    assert_eq!(rig.ready("model").await, process);
    let opened = rig.first("model", "incident", |what| matches!(what, What::IncidentOpened { .. })).await;
    assert!(matches!(opened.event.what, What::IncidentOpened { kind: IncidentKind::StartOverdue, .. }));
    rig.first("model", "end", |what| matches!(what, What::IncidentClosed { .. })).await;
    rig.told("model: over after").await;
    rig.assert_never_signalled("model");
    rig.end().await;
}
