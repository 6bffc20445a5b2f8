//! The beat as its two readers see it: over real HTTP, and through a real datagram socket.

#![expect(clippy::unwrap_used, reason = "a test helper that fails is a test that fails")]

use std::net::SocketAddr;
use std::time::Duration;

use horus_heartbeat::{Beat, Beating, MAX_CONNECTIONS, MAX_HEADER_BYTES, Report, ServeError, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixDatagram};

/// For things that must happen; never waited for in full by a test that passes.
const FAILSAFE: Duration = Duration::from_secs(20);

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn address(beating: &Beating) -> SocketAddr {
    beating.local_addr().unwrap()
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(FAILSAFE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

async fn get(address: SocketAddr) -> Report {
    let answer = ask(address, "GET /heartbeat HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    serde_json::from_str(body).unwrap()
}

#[tokio::test]
async fn the_pulled_beat_has_the_agreed_shape() {
    let beat = Beat::new();
    let beating = beat.serve(any_port()).unwrap();
    beat.counter("orders_filled").add(12);
    beat.gauge("slots").set(3);
    for _ in 0..812 {
        beat.tick();
    }
    let answer =
        ask(address(&beating), "GET /heartbeat HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let mut body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert!(body["loop_lag_ms"].as_f64().unwrap() >= 0.0);
    body["loop_lag_ms"] = 3.1.into();
    let expected = serde_json::json!({
        "schema": 1, "seq": 812, "loop_lag_ms": 3.1, "state": "ok", "ready": false,
        "progress": {"orders_filled": 12, "slots": 3}, "gauges": ["slots"], "pid": std::process::id(),
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_busy_step_tells_its_end_in_unix_milliseconds() {
    let beat = Beat::new();
    let beating = beat.serve(any_port()).unwrap();
    let _busy = beat.busy(Duration::from_secs(30));
    let report = get(address(&beating)).await;
    assert_eq!(report.state, State::Busy);
    let year_2020_ms = 1_577_836_800_000;
    assert!(report.busy_until_ms.unwrap() > year_2020_ms);
}

#[tokio::test]
async fn other_paths_methods_and_noise_get_answers_and_hurt_nobody() {
    let beat = Beat::new();
    let beating = beat.serve(any_port()).unwrap();
    let at = address(&beating);
    let close = "Host: x\r\nConnection: close\r\n\r\n";
    assert!(ask(at, &format!("GET / HTTP/1.1\r\n{close}")).await.starts_with("HTTP/1.1 404"));
    assert!(ask(at, &format!("POST /heartbeat HTTP/1.1\r\n{close}")).await.starts_with("HTTP/1.1 405"));
    assert!(ask(at, &format!("HEAD /heartbeat HTTP/1.1\r\n{close}")).await.ends_with("\r\n\r\n"));
    assert!(ask(at, "\x16\x03\x01 noise\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    let long = format!("GET /heartbeat HTTP/1.1\r\nX: {}\r\n{close}", "y".repeat(2 * MAX_HEADER_BYTES));
    let mut stream = TcpStream::connect(at).await.unwrap();
    // The server may answer and close while we are still writing; either way it must not accept the request.
    let _ = stream.write_all(long.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(FAILSAFE, stream.read_to_end(&mut answer)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(get(at).await.seq, 0);
}

#[tokio::test]
async fn a_program_can_show_pages_of_its_own_beside_the_beat() {
    let beat = Beat::new();
    let pages = |path: &str| (path == "/v1/gates").then(|| "[]".to_owned());
    let beating = beat.serve_with(any_port(), pages).unwrap();
    let close = "Host: x\r\nConnection: close\r\n\r\n";
    let answer = ask(address(&beating), &format!("GET /v1/gates?all HTTP/1.1\r\n{close}")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\n[]"), "{answer}");
    assert!(
        ask(address(&beating), &format!("GET /v2 HTTP/1.1\r\n{close}")).await.starts_with("HTTP/1.1 404")
    );
    assert_eq!(get(address(&beating)).await.seq, 0);
}

#[tokio::test]
async fn a_keep_alive_poller_sees_the_tick_move() {
    let beat = Beat::new();
    let beating = beat.serve(any_port()).unwrap();
    let mut stream = TcpStream::connect(address(&beating)).await.unwrap();
    for expected in 1..=3_u64 {
        beat.tick();
        stream.write_all(b"GET /heartbeat HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut seen = String::new();
        let needle = format!("\"seq\":{expected},");
        while !seen.contains(&needle) {
            let mut part = [0; 1024];
            let n = tokio::time::timeout(FAILSAFE, stream.read(&mut part)).await.unwrap().unwrap();
            assert!(n > 0, "closed after {seen}");
            seen.push_str(std::str::from_utf8(&part[..n]).unwrap());
        }
    }
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_a_freed_seat_is_used_again() {
    let beat = Beat::new();
    let beating = beat.serve(any_port()).unwrap();
    let at = address(&beating);
    let mut held = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        held.push(TcpStream::connect(at).await.unwrap());
    }
    let mut extra = TcpStream::connect(at).await.unwrap();
    let closed = tokio::time::timeout(FAILSAFE, extra.read(&mut [0; 16])).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    drop(held);
    tokio::time::timeout(FAILSAFE, async {
        loop {
            let mut stream = TcpStream::connect(at).await.unwrap();
            let sent = stream.write_all(b"GET /heartbeat HTTP/1.0\r\n\r\n").await;
            let mut answer = String::new();
            if sent.is_ok()
                && stream.read_to_string(&mut answer).await.is_ok()
                && answer.contains("\"seq\":0")
            {
                break;
            }
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_it() {
    let beat = Beat::new();
    let beating = beat.serve(any_port()).unwrap();
    let error = beat.serve(address(&beating)).unwrap_err();
    assert_eq!(error.to_string(), format!("the beat endpoint cannot listen on {}", address(&beating)));
    assert!(beat.serve_from_thread(address(&beating)).is_err());
}

#[test]
fn outside_of_a_runtime_it_is_an_error_not_a_panic() {
    assert!(Beat::new().attach().is_err());
    assert!(Beat::new().serve(any_port()).is_err());
}

/// Runs a beat in a current-thread runtime that is then blocked, and gives what a stranger sees meanwhile.
fn while_blocked(start: impl FnOnce(&Beat) -> Beating + Send + 'static, look: impl FnOnce(SocketAddr)) {
    let (told, hear) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let app = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let beat = Beat::new();
            let beating = start(&beat);
            beat.tick();
            // One turn, so that the lag meter has made its first plan.
            tokio::time::sleep(Duration::from_millis(1)).await;
            told.send(address(&beating)).unwrap();
            // The hang: a synchronous wait inside of the runtime.
            let _ = released.recv();
        });
    });
    look(hear.recv_timeout(FAILSAFE).unwrap());
    drop(release);
    app.join().unwrap();
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn in_the_runtime_a_hang_is_silence() {
    while_blocked(
        |beat| beat.serve(any_port()).unwrap(),
        |at| {
            let answer = block_on(async { tokio::time::timeout(Duration::from_millis(700), get(at)).await });
            assert!(answer.is_err(), "a blocked runtime answered: {answer:?}");
        },
    );
}

#[test]
fn from_a_thread_a_hang_shows_a_still_tick_and_a_growing_lag() {
    while_blocked(
        |beat| beat.serve_from_thread(any_port()).unwrap(),
        |at| {
            block_on(async {
                let mut lag_ms = 0.0;
                let grown = tokio::time::timeout(FAILSAFE, async {
                    while lag_ms < 300.0 {
                        let report = get(at).await;
                        assert_eq!(report.seq, 1);
                        lag_ms = report.loop_lag_ms.unwrap();
                    }
                });
                grown.await.expect("the lag of a blocked runtime grows");
            });
        },
    );
}

#[tokio::test]
async fn the_endpoint_thread_ends_with_its_guard() {
    let beat = Beat::new();
    let beating = beat.serve_from_thread(any_port()).unwrap();
    let at = address(&beating);
    assert_eq!(get(at).await.seq, 0);
    drop(beating);
    tokio::time::timeout(FAILSAFE, async { while TcpStream::connect(at).await.is_ok() {} }).await.unwrap();
}

#[tokio::test]
async fn a_muted_beat_says_nothing() {
    let beat = Beat::new();
    let beating = beat.serve(any_port()).unwrap();
    get(address(&beating)).await;
    beat.mute();
    assert!(tokio::time::timeout(Duration::from_millis(300), get(address(&beating))).await.is_err());
}

#[tokio::test]
async fn the_runtime_can_be_the_loop() {
    let beat = Beat::new();
    beat.tick_from_runtime();
    let _beating = beat.attach().unwrap();
    tokio::time::timeout(FAILSAFE, async {
        while beat.report().seq < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

struct Receiver {
    socket: UnixDatagram,
    path: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

impl Receiver {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        Self { socket: UnixDatagram::bind(&path).unwrap(), path, _dir: dir }
    }

    async fn next(&self) -> String {
        let mut datagram = vec![0; 65536];
        let n = tokio::time::timeout(FAILSAFE, self.socket.recv(&mut datagram)).await.unwrap().unwrap();
        String::from_utf8(datagram[..n].to_vec()).unwrap()
    }
}

#[tokio::test]
async fn only_a_tick_that_moved_is_vouched_for() {
    let receiver = Receiver::new();
    let beat = Beat::with_socket(&receiver.path, Duration::from_millis(100));
    beat.counter("orders_filled").add(12);
    beat.gauge("slots").set(3);
    let _beating = beat.attach().unwrap();
    let first = receiver.next().await;
    assert!(
        first.contains("X_HORUS_GAUGE=slots:3\n") && !first.contains("X_HORUS_PROGRESS=slots"),
        "what may fall is no counter: {first}"
    );
    assert!(!first.contains("WATCHDOG=1"), "nothing has turned yet: {first}");
    assert!(
        first.contains("X_HORUS_SEQ=0\n") && first.contains("X_HORUS_PROGRESS=orders_filled:12\n"),
        "{first}"
    );
    beat.tick();
    let second = receiver.next().await;
    assert!(second.starts_with("WATCHDOG=1\nX_HORUS_SEQ=1\n"), "{second}");
    assert!(second.contains("X_HORUS_LAG_MS="), "{second}");
    let third = receiver.next().await;
    assert!(
        !third.contains("WATCHDOG=1") && third.contains("X_HORUS_SEQ=1\n"),
        "the loop stands still: {third}"
    );
    let _idle = beat.idle();
    let fourth = receiver.next().await;
    assert!(fourth.contains("WATCHDOG=1\n") && fourth.contains("X_HORUS_STATE=idle\n"), "{fourth}");
    let _busy = beat.busy(Duration::from_secs(60));
    receiver.next().await;
    let fifth = receiver.next().await;
    assert!(fifth.contains("X_HORUS_STATE=busy\nX_HORUS_BUSY_UNTIL_MS="), "{fifth}");
}

#[tokio::test]
async fn the_life_of_a_program_is_told_in_order() {
    let receiver = Receiver::new();
    let beat = Beat::with_socket(&receiver.path, Duration::from_secs(1));
    beat.status("warming up\nREADY=1");
    assert_eq!(receiver.next().await, "STATUS=warming up READY=1\n");
    beat.ready();
    beat.ready();
    assert_eq!(receiver.next().await, "READY=1\n");
    let _busy = beat.busy(Duration::from_secs(5));
    let busy = receiver.next().await;
    let said = "EXTEND_TIMEOUT_USEC=5000000\nX_HORUS_STATE=busy\nX_HORUS_BUSY_UNTIL_MS=";
    assert!(busy.starts_with(said), "and READY=1 was sent once: {busy}");
    beat.halted("loss limit");
    assert_eq!(receiver.next().await, "X_HORUS_STATE=halted\n");
    assert_eq!(receiver.next().await, "STATUS=loss limit\n");
    beat.stopping();
    assert_eq!(receiver.next().await, "STOPPING=1\n");
}

#[tokio::test]
async fn a_receiver_that_never_reads_does_not_block_the_program() {
    let receiver = Receiver::new();
    let beat = Beat::with_socket(&receiver.path, Duration::from_secs(10));
    for n in 0..5000 {
        beat.status(&format!("{n}"));
    }
    assert!(beat.report().notify_dropped > 0, "the socket's queue must have been full");
    assert_eq!(Beat::with_socket("/no/such/socket", Duration::from_secs(1)).report().seq, 0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_abstract_socket_is_an_address_too() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("horus-heartbeat-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let socket = std::os::unix::net::UnixDatagram::bind_addr(&address).unwrap();
    socket.set_read_timeout(Some(FAILSAFE)).unwrap();
    Beat::with_socket(format!("@{name}"), Duration::from_secs(1)).ready();
    let mut datagram = [0; 64];
    let n = socket.recv(&mut datagram).unwrap();
    assert_eq!(&datagram[..n], b"READY=1\n");
}

/// One worker of two in a synchronous call: timers and the endpoint go on, and only its own lag grows.
#[test]
fn a_stuck_worker_is_seen_beside_others_that_turn() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
    let beat = Beat::new();
    let (_watch, release) = runtime.block_on(async {
        let watch = beat.watch_workers().unwrap();
        let until = |turning: u64| {
            let beat = beat.clone();
            async move {
                while beat.report().progress.get(horus_heartbeat::WORKERS_TURNING) != Some(&turning) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), until(3)).await.expect("all of them turn");
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        drop(tokio::spawn(async move {
            let _ = blocked.recv();
        }));
        tokio::time::timeout(Duration::from_secs(60), until(2)).await.expect("one of them is stuck");
        let report = beat.report();
        assert_eq!(report.worker_lag_ms.len(), 3);
        assert_eq!(report.worker_lag_ms.iter().filter(|lag| **lag > 2_000.0).count(), 1, "{report:?}");
        assert_eq!(report.gauges, [horus_heartbeat::WORKERS_TURNING]);
        (watch, release)
    });
    drop(release);
    runtime.block_on(async {
        let all = async {
            while beat.report().worker_lag_ms.iter().any(|lag| *lag > 2_000.0) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), all).await.expect("it came back");
    });
}

/// Workers that never rest are not stuck: each takes a probe among its tasks.
#[test]
fn workers_that_are_full_of_work_turn() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let beat = Beat::new();
    runtime.block_on(async {
        let _watch = beat.watch_workers().unwrap();
        let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let busy: Vec<_> = (0..16)
            .map(|_| {
                let over = std::sync::Arc::clone(&over);
                tokio::spawn(async move {
                    while !over.load(std::sync::atomic::Ordering::Relaxed) {
                        std::hint::black_box((0..1_000).fold(0_u64, |sum, n| sum ^ n));
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        // Again and again each of them is seen to turn, though neither rests.
        for round in 0..8 {
            let mut waiting = [true; 2];
            let each = async {
                let mut before = beat.report().worker_lag_ms;
                while waiting.contains(&true) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    let now = beat.report().worker_lag_ms;
                    let turned = now.iter().zip(&before).map(|(now, before)| now < before);
                    waiting.iter_mut().zip(turned).for_each(|(waits, turned)| *waits &= !turned);
                    before = now;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), each)
                .await
                .unwrap_or_else(|_| panic!("round {round}"));
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        for task in busy {
            task.await.unwrap();
        }
    });
    assert_eq!(beat.report().worker_lag_ms, Vec::<f64>::new(), "nobody looks any more");
}

#[test]
fn workers_are_looked_at_from_within_a_runtime() {
    assert!(matches!(Beat::new().watch_workers(), Err(ServeError::NoRuntime)));
    assert!(Beat::new().drain_within(Duration::from_secs(1)).is_err());
}

#[tokio::test]
async fn steps_are_told_the_innermost_first() {
    let receiver = Receiver::new();
    let beat = Beat::with_socket(&receiver.path, Duration::from_secs(10));
    let outer = beat.step("train\nWATCHDOG=1");
    assert_eq!(receiver.next().await, "X_HORUS_STEP=train WATCHDOG=1\n");
    let inner = beat.step("save");
    assert_eq!(receiver.next().await, "X_HORUS_STEP=save\n");
    drop(inner);
    assert_eq!(receiver.next().await, "X_HORUS_STEP=train WATCHDOG=1\n");
    drop(outer);
    assert_eq!(receiver.next().await, "X_HORUS_STEP=\n");
}
