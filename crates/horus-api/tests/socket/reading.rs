//! What can be read, and over which socket.

use super::*;

#[tokio::test]
async fn every_reading_path_answers() {
    let stage = Stage::plain().await;
    in_time(async {
        assert_eq!(stage.client.version().await.unwrap().version, "0.1.0");
        assert!(stage.client.health().await.unwrap().healthy);
        assert_eq!(stage.client.status().await.unwrap().services.len(), 2);
        assert_eq!(stage.client.service(&name("trading")).await.unwrap().pid, Some(4711));
        assert_eq!(stage.client.incidents(false, 10).await.unwrap().incidents.len(), 2);
        assert_eq!(stage.client.incidents(true, 10).await.unwrap().incidents.len(), 1);
        let story = stage.client.incident(IncidentId::nth(0)).await.unwrap();
        assert_eq!((story.events.len(), story.deliveries.len(), story.evidence.len()), (1, 1, 1));
        let mut logs = stage.client.logs(&name("trading"), 5, false).await.unwrap();
        assert_eq!(logs.next().await.unwrap().unwrap(), "trading 5\n\u{fffd}\n");
        assert_eq!(logs.next().await.unwrap(), None);
        let debts = stage.client.debts().await.unwrap().debts;
        assert_eq!((debts.len(), debts[0].times, debts[0].newest), (1, 2, IncidentId::nth(2)), "{debts:?}");
        let tests = stage.client.alerts_test(None).await.unwrap();
        assert_eq!(tests.sinks[0].sink.as_str(), "ops");
        let reload = stage.client.reload(true).await.unwrap();
        assert!(reload.dry_run && reload.faults[0].place.ends_with(":3:7"));
    })
    .await;
}

#[tokio::test]
async fn an_ill_daemon_says_so_with_its_status_code_too() {
    let stage = Stage::set(Script { healthy: false, ..Script::default() }, Limits::default()).await;
    in_time(async {
        assert!(stage.get("/healthz").await.starts_with("HTTP/1.1 503"));
        assert_eq!(stage.client.health().await.unwrap().faults, ["the state directory takes no writes"]);
    })
    .await;
}

#[tokio::test]
async fn every_answer_carries_its_schema() {
    let stage = Stage::plain().await;
    in_time(async {
        for path in [
            "/healthz",
            "/api/v1/version",
            "/api/v1/status",
            "/api/v1/services/trading",
            "/api/v1/events",
            "/api/v1/incidents",
            "/api/v1/nope",
        ] {
            assert!(stage.get(path).await.contains("\"schema\":1"), "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_socket_is_for_its_owner_only_and_goes_with_the_server() {
    let mut stage = Stage::plain().await;
    let mode = std::fs::metadata(&stage.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    stage.end.take().unwrap().send(()).unwrap();
    in_time(&mut stage.served).await.unwrap();
    assert!(!stage.socket.exists());
    assert!(matches!(stage.client.status().await, Err(ClientError::NoDaemon { .. })));
}

#[tokio::test]
async fn a_dead_socket_is_replaced_a_living_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("horus.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(matches!(Client::new(&socket).status().await, Err(ClientError::NoDaemon { .. })));
    let listener = bind(&socket).await.unwrap();
    assert!(matches!(bind(&socket).await, Err(BindError::InUse { .. })));
    drop(listener);
    std::fs::create_dir(&socket).unwrap();
    assert!(matches!(bind(&socket).await, Err(BindError::NotASocket { .. })));
    let long = directory.path().join("x".repeat(120));
    assert!(matches!(bind(&long).await, Err(BindError::PathTooLong { .. })));
}
