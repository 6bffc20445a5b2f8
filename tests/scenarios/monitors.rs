//! What Horus only watches: told when it goes and when it comes back, never touched.

use horus_core::event::What;
use horus_core::notice::IncidentKind;

use crate::{beat, is_recovery, rig, service, subject};

#[tokio::test]
async fn monitors_that_go_down_and_come_back_are_told_of_together() {
    let mut rig = rig().await;
    let port = rig.room.port();
    let page = service(
        "page",
        &[subject!("hanger"), "--port", &port.to_string()],
        &format!("{}deadline = \"5s\"\n", beat(port)),
    );
    let watch = format!(
        "[monitor.site]\ncheck.http = {{ url = \"http://127.0.0.1:{port}/\", every = \"200ms\", timeout = \"400ms\" }}\n\
         down_after = \"1s\"\n[monitor.door]\ncheck.tcp = {{ address = \"127.0.0.1:{port}\", every = \"200ms\", \
         timeout = \"400ms\" }}\ndown_after = \"1s\"\n"
    );
    rig.run(&(page + &watch)).await;
    rig.ready("page").await;
    let stop = rig.cli(&["stop", "page"]).await;
    assert_eq!(stop.code, 0, "{}", stop.err);
    for name in ["site", "door"] {
        let down = |what: &What| matches!(what, What::IncidentOpened { kind: IncidentKind::MonitorDown, .. });
        rig.first(name, "incident", down).await;
        // The first one has a message of its own; with the other it is a storm.
        rig.sinks.mention(&[name, "refused"]).await.expect(name);
    }
    let said = rig.told("has been down for").await;
    assert!(said.full_text().contains("I only watch it"), "{}", said.full_text());
    let status = rig.client.status().await.unwrap();
    assert!(status.monitors.iter().all(|monitor| monitor.up == Some(false)), "{:?}", status.monitors);
    let start = rig.cli(&["start", "page"]).await;
    assert_eq!(start.code, 0, "{}", start.err);
    for name in ["site", "door"] {
        rig.first(name, "end", |what| matches!(what, What::IncidentClosed { .. })).await;
    }
    rig.told("horus: over after").await;
    assert_eq!(rig.count("page", is_recovery), 0, "a stop by a person is no fault");
    rig.end().await;
}
