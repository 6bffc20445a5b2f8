//! Notify streams with real senders.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use horus_core::observation::Observation;
use horus_core::plan::BeatPlan;
use horus_probe::limits::STREAM_CONNECTIONS_MAX;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

use crate::bench::{Bench, GENERATION, PATIENCE, myself, name};
use crate::subject::Subject;

fn beats() -> Vec<BeatPlan> {
    vec![BeatPlan::Notify]
}

fn bound(bench: &mut Bench) -> PathBuf {
    bench.senses.prepare_notify(&name("bot"), None).unwrap();
    bench.senses.stream_address(&name("bot")).unwrap()
}

async fn say(stream: &mut UnixStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// Reads until the other side hangs up.
async fn hung_up(stream: &mut UnixStream) -> bool {
    let mut bytes = [0; 16];
    matches!(timeout(PATIENCE, stream.read(&mut bytes)).await, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn messages_are_taken_whole_however_they_come_in() {
    let mut bench = Bench::new();
    let path = bound(&mut bench);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    bench.watch(myself(), beats());
    let mut stream = UnixStream::connect(&path).await.unwrap();
    for piece in ["WATCHDOG=1\nX_HOR", "US_SEQ=4", "1\n", "\nREADY=1\n\nX_HORUS_SEQ=4"] {
        say(&mut stream, piece).await;
        tokio::task::yield_now().await;
    }
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.push(bench.next().await);
    }
    assert!(seen.contains(&Observation::SaidReady { generation: GENERATION }), "{seen:?}");
    let tick = |seen: &Observation| matches!(seen, Observation::Beat { beat, .. } if beat.tick == Some(41));
    assert!(seen.iter().any(tick), "{seen:?}");
    say(&mut stream, "2\n\n").await;
    assert_eq!(bench.next_beat().await.tick, Some(42));
}

#[tokio::test]
async fn a_stranger_who_connects_is_counted_and_not_believed() {
    let mut bench = Bench::new();
    let path = bound(&mut bench);
    let program = Subject::sleep();
    bench.watch(program.id(), beats());
    let mut stream = UnixStream::connect(&path).await.unwrap();
    say(&mut stream, "READY=1\nWATCHDOG=1\n\n").await;
    let start = Instant::now();
    while bench.senses.counts().strangers == 0 {
        assert!(start.elapsed() < PATIENCE, "the stranger was not noticed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(bench.now().is_none(), "a stranger's word must not be observed");
}

#[tokio::test]
async fn who_talks_without_end_is_hung_up_and_harms_nobody() {
    let mut bench = Bench::new();
    let path = bound(&mut bench);
    bench.watch(myself(), beats());
    let mut endless = UnixStream::connect(&path).await.unwrap();
    let flood = "x".repeat(64 << 10);
    // It may be hung up before all is written.
    let _ = timeout(PATIENCE, endless.write_all(flood.as_bytes())).await;
    assert!(hung_up(&mut endless).await);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    say(&mut stream, "X_HORUS_SEQ=1\n\n").await;
    assert_eq!(bench.next_beat().await.tick, Some(1));
}

#[tokio::test]
async fn silent_connections_cost_nobody_who_speaks() {
    let mut bench = Bench::new();
    let path = bound(&mut bench);
    bench.watch(myself(), beats());
    let mut stream = UnixStream::connect(&path).await.unwrap();
    say(&mut stream, "X_HORUS_SEQ=1\n\n").await;
    assert_eq!(bench.next_beat().await.tick, Some(1));
    let mut silent = Vec::new();
    for _ in 0..STREAM_CONNECTIONS_MAX + 4 {
        silent.push(UnixStream::connect(&path).await.unwrap());
    }
    assert!(hung_up(&mut silent[0]).await, "the oldest of those that never spoke makes room");
    say(&mut stream, "X_HORUS_SEQ=2\n\n").await;
    assert_eq!(bench.next_beat().await.tick, Some(2));
}

/// A listening socket that goes from one program of the process to the next: who connects meanwhile waits in it.
#[tokio::test]
async fn who_connects_to_a_stream_that_was_handed_on_is_heard() {
    let mut bench = Bench::new();
    let path = bound(&mut bench);
    let datagrams = bench.senses.notify_sockets().next().unwrap().2.try_clone_to_owned().unwrap();
    let mut streams = bench.senses.notify_streams();
    let (service, place, listener) = streams.next().unwrap();
    assert_eq!((service, place), (&name("bot"), path.as_path()));
    let listener = listener.try_clone_to_owned().unwrap();
    drop(streams);
    bench.senses.inherit_notify(&name("bot"), datagrams).unwrap();
    let mut stream = UnixStream::connect(&path).await.unwrap();
    say(&mut stream, "READY=1\n\n").await;
    bench.senses.inherit_stream(&name("bot"), listener);
    bench.watch(myself(), beats());
    assert_eq!(bench.next().await, Observation::SaidReady { generation: GENERATION });
    bench.senses.forget(&name("bot"));
    assert!(!path.exists());
}
