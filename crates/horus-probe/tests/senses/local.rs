//! File, log, TCP and exec beats through the senses.

use std::io::Write as _;
use std::time::Duration;

use horus_core::observation::ProbeFault;
use horus_core::plan::{BeatKind, BeatPlan, ExecBeat, FileBeat, FileTick, LogBeat, TcpBeat};
use tokio::net::TcpListener;

use crate::bench::{Bench, myself};

const EVERY: Duration = Duration::from_millis(20);

#[tokio::test]
async fn a_file_that_is_rewritten_beats() {
    let mut bench = Bench::new();
    let path = bench.dir.path().join("beat");
    bench.watch(
        myself(),
        vec![BeatPlan::File(FileBeat { path: path.clone(), every: EVERY, look_at: FileTick::Content })],
    );
    assert_eq!(bench.next_miss().await, (ProbeFault::NotABeat, "no such file".into()));
    let mut ticks = std::collections::BTreeSet::new();
    for n in 0..3 {
        let temporary = path.with_extension("new");
        std::fs::File::create(&temporary).unwrap().write_all(format!("{n}").as_bytes()).unwrap();
        std::fs::rename(&temporary, &path).unwrap();
        // An earlier look may still be in the queue: read on until the number changes.
        while !matches!(bench.next().await, horus_core::observation::Observation::Beat { beat, .. } if ticks.insert(beat.tick))
        {
        }
    }
    assert_eq!(ticks.len(), 3);
}

#[tokio::test]
async fn a_matching_line_beats_and_an_old_one_does_not() {
    let mut bench = Bench::new();
    let mut log = std::fs::File::create(bench.log_path()).unwrap();
    writeln!(log, "tick from the run before").unwrap();
    bench.watch(myself(), vec![BeatPlan::Log(LogBeat { pattern: "^tick".into() })]);
    writeln!(log, "nothing").unwrap();
    writeln!(log, "tick 1\ntick 2").unwrap();
    let beat = bench.next_beat().await;
    assert_eq!((beat.source, beat.tick), (BeatKind::Log, None));
    std::fs::rename(bench.log_path(), bench.dir.path().join("bot.log.1")).unwrap();
    let mut log = std::fs::File::create(bench.log_path()).unwrap();
    writeln!(log, "tick 3").unwrap();
    assert_eq!(bench.next_beat().await.source, BeatKind::Log);
    assert!(bench.now().is_none());
}

#[tokio::test]
async fn a_connect_is_a_beat_without_a_tick() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let timeout = Duration::from_secs(20);
    let mut bench = Bench::new();
    bench.watch(myself(), vec![BeatPlan::Tcp(TcpBeat { address, every: EVERY, timeout })]);
    let beat = bench.next_beat().await;
    assert_eq!((beat.source, beat.tick), (BeatKind::Tcp, None));
    drop(listener);
    loop {
        // Connects that were under way may still succeed.
        if let horus_core::observation::Observation::NoBeat { fault, .. } = bench.next().await {
            assert_eq!(fault, ProbeFault::NoPath);
            break;
        }
    }
}

#[tokio::test]
async fn a_command_beats_in_the_services_own_surroundings() {
    let mut bench = Bench::new();
    let command = ["sh", "-c", "echo 5 > here; cat here"].map(str::to_owned).to_vec();
    let timeout = Duration::from_secs(20);
    bench.watch(myself(), vec![BeatPlan::Exec(ExecBeat { command, every: EVERY, timeout, seq: true })]);
    assert_eq!(bench.next_beat().await.tick, Some(5));
    assert!(bench.dir.path().join("here").exists());
}

#[tokio::test]
async fn a_source_that_cannot_work_says_so_each_time() {
    let mut bench = Bench::new();
    bench.watch(myself(), vec![BeatPlan::Log(LogBeat { pattern: "(".into() })]);
    let (fault, detail) = bench.next_miss().await;
    assert!(fault == ProbeFault::Prober && detail.contains("bad pattern"), "{detail}");
}
