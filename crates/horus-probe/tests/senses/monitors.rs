//! Monitors: up or down, and no secrets in the words.

use std::time::Duration;

use horus_core::observation::{MonitorObservation, ProbeFault};
use horus_core::plan::{MonitorCheck, TcpBeat};

use crate::bench::Bench;
use crate::http::{Server, answer, read_request};

fn http(url: String, status: u16) -> MonitorCheck {
    MonitorCheck::Http { url, every: Duration::from_secs(60), timeout: Duration::from_secs(20), status }
}

#[tokio::test]
async fn a_status_is_compared_and_the_body_does_not_matter() {
    let server = Server::start(|_, mut stream| async move {
        read_request(&mut stream).await;
        answer(&mut stream, "204 No Content", "").await;
    })
    .await;
    let mut bench = Bench::new();
    assert!(matches!(bench.monitor(http(server.url(), 204)).await, MonitorObservation::Up { .. }));
    let down = bench.monitor(http(server.url(), 200)).await;
    let detail = "status 204".to_owned();
    assert_eq!(down, MonitorObservation::Down { fault: ProbeFault::NotABeat, detail });
}

#[tokio::test]
async fn https_faults_are_named_and_urls_are_not() {
    let server = Server::start(|_, mut stream| async move {
        // Not TLS at all.
        answer(&mut stream, "400 Bad Request", "").await;
        let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 64]).await;
    })
    .await;
    let mut bench = Bench::new();
    let url = format!("https://user:hunter2@{}/x?token=hunter2", server.address);
    let MonitorObservation::Down { fault, detail } = bench.monitor(http(url, 200)).await else {
        panic!("plain HTTP is no HTTPS")
    };
    assert_eq!(fault, ProbeFault::NotABeat, "{detail}");
    assert!(!detail.contains("hunter2"), "{detail}");
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://user:hunter2@{}/", free.local_addr().unwrap());
    drop(free);
    let MonitorObservation::Down { fault, detail } = bench.monitor(http(url, 200)).await else {
        panic!("nobody is there")
    };
    assert_eq!(fault, ProbeFault::NoPath, "{detail}");
    assert!(!detail.contains("hunter2"), "{detail}");
}

#[tokio::test]
async fn files_and_ports_are_monitored() {
    let mut bench = Bench::new();
    let path = bench.dir.path().join("report");
    let file = |path: &std::path::Path| MonitorCheck::File {
        path: path.to_owned(),
        every: Duration::from_secs(60),
        max_age: Duration::from_secs(3600),
    };
    assert!(matches!(bench.monitor(file(&path)).await, MonitorObservation::Down { .. }));
    std::fs::File::create(&path).unwrap();
    assert!(matches!(bench.monitor(file(&path)).await, MonitorObservation::Up { .. }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let beat = TcpBeat {
        address: listener.local_addr().unwrap().to_string(),
        every: Duration::from_secs(60),
        timeout: Duration::from_secs(20),
    };
    assert!(matches!(bench.monitor(MonitorCheck::Tcp(beat)).await, MonitorObservation::Up { .. }));
}
