//! Every fault of an HTTP beat, against a server that misbehaves on purpose.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use horus_core::observation::ProbeFault;
use horus_core::plan::{BeatKind, BeatPlan};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bench::{Bench, PATIENCE, http_beat, myself, name};

/// A server whose every connection follows a script. It ends with the test.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) connections: Arc<AtomicU32>,
    _task: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start<Script, Run>(script: Script) -> Self
    where
        Script: Fn(u32, TcpStream) -> Run + Send + 'static,
        Run: Future<Output = ()> + Send + 'static,
    {
        Self::start_at("127.0.0.1:0", script).await
    }

    pub(crate) async fn start_at<Script, Run>(at: &str, script: Script) -> Self
    where
        Script: Fn(u32, TcpStream) -> Run + Send + 'static,
        Run: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let connections = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&connections);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut running = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                running.spawn(script(counted.fetch_add(1, Ordering::SeqCst), stream));
            }
        });
        Self { address, connections, _task: task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/beat", self.address)
    }
}

/// Reads one request; `false` at the end of the connection.
pub(crate) async fn read_request(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.contains("user-agent: horus/") && head.contains("connection: keep-alive"), "{head}");
    true
}

pub(crate) async fn answer(stream: &mut TcpStream, status: &str, body: &str) {
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let _ = stream.write_all(text.as_bytes()).await;
}

/// Sends the same bytes to whoever asks and then keeps the connection open.
async fn says(bytes: Vec<u8>) -> Server {
    let bytes = Arc::new(bytes);
    Server::start(move |_, mut stream| {
        let bytes = Arc::clone(&bytes);
        async move {
            if read_request(&mut stream).await {
                let _ = stream.write_all(&bytes).await;
            }
            std::future::pending::<()>().await;
        }
    })
    .await
}

async fn first_miss(url: &str, timeout_ms: u64) -> (ProbeFault, String) {
    let mut bench = Bench::new();
    bench.watch(myself(), vec![BeatPlan::Http(http_beat(url, 60_000, timeout_ms))]);
    bench.next_miss().await
}

const LONG: u64 = 20_000;

#[tokio::test]
async fn a_beat_is_read_over_one_kept_connection() {
    let server = Server::start(|_, mut stream| async move {
        let mut seq = 0;
        while read_request(&mut stream).await {
            seq += 1;
            answer(&mut stream, "200 OK", &format!(r#"{{"seq":{seq},"progress":{{"orders":9}}}}"#)).await;
        }
    })
    .await;
    let mut bench = Bench::new();
    bench.watch(myself(), vec![BeatPlan::Http(http_beat(&server.url(), 20, LONG))]);
    for seq in 1..=5 {
        let beat = bench.next_beat().await;
        assert_eq!((beat.source, beat.tick, beat.progress["orders"]), (BeatKind::Http, Some(seq), 9));
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn localhost_needs_no_resolver_and_reaches_ipv6() {
    let Ok(probe) = TcpListener::bind("[::1]:0").await else { return };
    drop(probe);
    let server = Server::start_at("[::1]:0", |_, mut stream| async move {
        while read_request(&mut stream).await {
            answer(&mut stream, "200 OK", r#"{"seq":"3"}"#).await;
        }
    })
    .await;
    let port = server.address.rsplit_once(':').unwrap().1.to_owned();
    for url in [format!("http://localhost:{port}/"), format!("http://[::1]:{port}")] {
        let mut bench = Bench::new();
        bench.watch(myself(), vec![BeatPlan::Http(http_beat(&url, 60_000, LONG))]);
        assert_eq!(bench.next_beat().await.tick, Some(3), "{url}");
    }
}

#[tokio::test]
async fn refused_is_no_path() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(first_miss(&url, LONG).await, (ProbeFault::NoPath, "connection refused".into()));
}

#[tokio::test]
async fn accepted_and_silent_is_no_answer() {
    let server = says(Vec::new()).await;
    let (fault, detail) = first_miss(&server.url(), 200).await;
    assert_eq!((fault, detail.as_str()), (ProbeFault::NoAnswer, "no answer in 0.2 s"));
}

#[tokio::test]
async fn a_listener_that_never_accepts_is_no_answer_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    assert_eq!(first_miss(&url, 200).await.0, ProbeFault::NoAnswer);
}

#[tokio::test]
async fn answers_that_are_no_beats() {
    let head = |status: &str| format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes();
    let body =
        |text: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).into_bytes();
    let many_headers: String = (0..1_000).map(|n| format!("X-{n}: {n}\r\n")).collect();
    for (bytes, expected) in [
        (b"\x16\x03\x01 what?\r\n\r\n".to_vec(), "is not HTTP"),
        (head("404 Not Found"), "status 404"),
        (head("503 Service Unavailable"), "status 503"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec(),
            "redirect",
        ),
        (body("<html>hello</html>"), "is not JSON"),
        (body(r#"{"sequence":1}"#), "has no '/seq'"),
        (body(r#"{"seq":true}"#), "is no counter but true"),
        (format!("HTTP/1.1 200 OK\r\n{many_headers}\r\n").into_bytes(), ""),
        (format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1 << 20)).into_bytes(), ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n".to_vec(), "longer than 64 KiB"),
        (
            [
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA00000\r\n".to_vec(),
                vec![b' '; 10 << 20],
            ]
            .concat(),
            "longer than 64 KiB",
        ),
    ] {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let server = says(bytes).await;
        let (fault, detail) = first_miss(&server.url(), LONG).await;
        assert_eq!(fault, ProbeFault::NotABeat, "{shown}: {detail}");
        assert!(detail.contains(expected), "{shown}: {detail}");
    }
}

#[tokio::test]
async fn a_trickle_ends_at_the_one_timeout() {
    for (start, expected) in [
        ("HTTP/1.1 200 OK\r\nX: ", "no answer in 0.3 s"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", "answer not complete in 0.3 s ("),
    ] {
        let server = Server::start(move |_, mut stream| async move {
            read_request(&mut stream).await;
            let _ = stream.write_all(start.as_bytes()).await;
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let (fault, detail) = first_miss(&server.url(), 300).await;
        assert!(fault == ProbeFault::NoAnswer && detail.starts_with(expected), "{fault:?}: {detail}");
    }
}

#[tokio::test]
async fn a_reset_or_close_without_an_answer_is_somebody_alive() {
    for linger in [None, Some(Duration::ZERO)] {
        let server = Server::start(move |_, mut stream| async move {
            read_request(&mut stream).await;
            if linger.is_some() {
                stream.set_zero_linger().unwrap();
            }
        })
        .await;
        let (fault, detail) = first_miss(&server.url(), LONG).await;
        assert_eq!(fault, ProbeFault::NotABeat, "{detail}");
        assert!(detail.contains("the connection was"), "{detail}");
    }
    let server = Server::start(|_, mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"seq\"").await;
    })
    .await;
    let (fault, detail) = first_miss(&server.url(), LONG).await;
    assert!(fault == ProbeFault::NotABeat && detail.contains("after 6 bytes"), "{detail}");
}

#[tokio::test]
async fn a_kept_connection_that_falls_silent_is_asked_again_at_once_over_a_fresh_one() {
    // Each connection answers once and is silent from then on.
    let server = Server::start(|nth, mut stream| async move {
        read_request(&mut stream).await;
        answer(&mut stream, "200 OK", &format!(r#"{{"seq":{nth}}}"#)).await;
        std::future::pending::<()>().await;
    })
    .await;
    let mut bench = Bench::new();
    bench.watch(myself(), vec![BeatPlan::Http(http_beat(&server.url(), 2_000, 200))]);
    assert_eq!(bench.next_beat().await.tick, Some(0));
    assert_eq!(bench.next_miss().await.0, ProbeFault::ReusedConnectionSilent);
    let silent = Instant::now();
    assert_eq!(bench.next_beat().await.tick, Some(1));
    assert!(silent.elapsed() < Duration::from_millis(1_500), "not at the next period, but at once");
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_no_fault() {
    let server = Server::start(|nth, mut stream| async move {
        read_request(&mut stream).await;
        answer(&mut stream, "200 OK", &format!(r#"{{"seq":{nth}}}"#)).await;
    })
    .await;
    let mut bench = Bench::new();
    bench.watch(myself(), vec![BeatPlan::Http(http_beat(&server.url(), 30, LONG))]);
    for nth in 0..5 {
        assert_eq!(bench.next_beat().await.tick, Some(nth));
    }
}

#[tokio::test]
async fn haste_polls_at_once() {
    let server = Server::start(|_, mut stream| async move {
        let mut seq = 0;
        while read_request(&mut stream).await {
            seq += 1;
            answer(&mut stream, "200 OK", &format!(r#"{{"seq":{seq}}}"#)).await;
        }
    })
    .await;
    let mut bench = Bench::new();
    bench.watch(myself(), vec![BeatPlan::Http(http_beat(&server.url(), 3_600_000, LONG))]);
    assert_eq!(bench.next_beat().await.tick, Some(1));
    bench.senses.hasten(&name("bot"), true);
    assert_eq!(bench.next_beat().await.tick, Some(2));
    // The same plan again: the connection is kept, nothing is polled out of turn.
    bench.watch(myself(), vec![BeatPlan::Http(http_beat(&server.url(), 3_600_000, LONG))]);
    bench.senses.hasten(&name("bot"), true);
    assert_eq!(bench.next_beat().await.tick, Some(3));
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    // Another plan: a new task with a new connection.
    bench.watch(myself(), vec![BeatPlan::Http(http_beat(&server.url(), 3_600_001, LONG))]);
    assert_eq!(bench.next_beat().await.tick, Some(1));
}

/// A server that answers, and a receiver that yields once a connection was closed by the prober.
async fn server_that_tells_of_its_end() -> (Server, tokio::sync::mpsc::Receiver<()>) {
    let (closed, all_closed) = tokio::sync::mpsc::channel::<()>(1);
    let server = Server::start(move |_, mut stream| {
        let closed = closed.clone();
        async move {
            while read_request(&mut stream).await {
                answer(&mut stream, "200 OK", r#"{"seq":1}"#).await;
            }
            let _ = closed.send(()).await;
        }
    })
    .await;
    (server, all_closed)
}

#[tokio::test]
async fn an_unwatched_service_is_left_alone() {
    let (server, mut closed) = server_that_tells_of_its_end().await;
    let mut bench = Bench::new();
    bench.watch(myself(), vec![BeatPlan::Http(http_beat(&server.url(), 20, LONG))]);
    bench.next_beat().await;
    bench.senses.unwatch(&name("bot"));
    tokio::time::timeout(PATIENCE, closed.recv()).await.expect("the connection must be closed").unwrap();
}

#[tokio::test]
async fn a_probe_that_nobody_listens_to_ends_by_itself() {
    let (server, mut closed) = server_that_tells_of_its_end().await;
    let mut bench = Bench::new();
    bench.watch(myself(), vec![BeatPlan::Http(http_beat(&server.url(), 20, LONG))]);
    bench.next_beat().await;
    bench.listen_no_more();
    tokio::time::timeout(PATIENCE, closed.recv()).await.expect("the connection must be closed").unwrap();
    assert_eq!(bench.senses.counts().panics, 0);
}

#[tokio::test]
async fn a_black_hole_delays_no_other() {
    let hole = says(Vec::new()).await;
    let server = Server::start(|_, mut stream| async move {
        while read_request(&mut stream).await {
            answer(&mut stream, "200 OK", r#"{"seq":1}"#).await;
        }
    })
    .await;
    let mut bench = Bench::new();
    for n in 0..50 {
        bench.watch_as(
            &format!("hole-{n}"),
            myself(),
            vec![BeatPlan::Http(http_beat(&hole.url(), 20, 600_000))],
        );
    }
    bench.watch_as("bot", myself(), vec![BeatPlan::Http(http_beat(&server.url(), 20, LONG))]);
    for _ in 0..20 {
        bench.next_beat().await;
    }
}
