//! Notify sockets with real senders.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use horus_core::observation::{Beat, Input, Observation};
use horus_core::plan::{BeatKind, BeatPlan};
use tokio::time::Instant;

use crate::bench::{Bench, GENERATION, PATIENCE, http_beat, myself, name};
use crate::http::{Server, answer, read_request};
use crate::subject::Subject;

fn beats() -> Vec<BeatPlan> {
    vec![BeatPlan::Notify]
}

fn send(bench: &Bench, text: &str) {
    let socket = UnixDatagram::unbound().unwrap();
    socket.send_to(text.as_bytes(), bench.senses.notify_address(&name("bot"))).unwrap();
}

#[tokio::test]
async fn what_the_program_says_is_observed_also_what_it_said_before_it_was_watched() {
    let mut bench = Bench::new();
    let socket = bench.senses.prepare_notify(&name("bot"), None).unwrap();
    assert_eq!(socket, bench.senses.notify_address(&name("bot")));
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let text = "READY=1\nSTATUS=warm\nEXTEND_TIMEOUT_USEC=3000000\nWATCHDOG=1\nX_HORUS_SEQ=41\nX_HORUS_PROGRESS=orders:2";
    let mut program = Subject::sender(&socket, text, 1);
    program.wait_for("sent");
    bench.watch(program.id(), beats());
    let generation = GENERATION;
    assert_eq!(bench.next().await, Observation::SaidReady { generation });
    assert_eq!(bench.next().await, Observation::AskedForTime { generation, extend: Duration::from_secs(3) });
    assert_eq!(bench.next().await, Observation::SaidStatus { generation, text: "warm".into() });
    let Beat { source, tick, progress, .. } = bench.next_beat().await;
    assert_eq!((source, tick, progress["orders"]), (BeatKind::Notify, Some(41), 2));
}

/// A socket that goes from one program of the process to the next: what is sent waits in it until its run is known.
#[tokio::test]
async fn what_is_said_at_a_socket_that_was_handed_on_is_heard() {
    let mut bench = Bench::new();
    let socket = bench.senses.prepare_notify(&name("bot"), None).unwrap();
    bench.watch(myself(), beats());
    assert!(!bench.senses.expects_a_program());
    let mut sockets = bench.senses.notify_sockets();
    let (service, path, descriptor) = sockets.next().unwrap();
    assert_eq!((service, path), (&name("bot"), socket.as_path()));
    let handed = descriptor.try_clone_to_owned().unwrap();
    drop(sockets);
    bench.senses.inherit_notify(&name("bot"), handed).unwrap();
    assert!(bench.senses.expects_a_program());
    send(&bench, "READY=1");
    bench.watch(myself(), beats());
    assert_eq!(bench.next().await, Observation::SaidReady { generation: GENERATION });
}

#[tokio::test]
async fn a_stranger_is_counted_and_not_believed() {
    let mut bench = Bench::new();
    bench.senses.prepare_notify(&name("bot"), None).unwrap();
    let program = Subject::sleep();
    bench.watch(program.id(), beats());
    // This process is the parent of the program, and no descendant of it.
    send(&bench, "READY=1\nWATCHDOG=1");
    let start = Instant::now();
    while bench.senses.counts().strangers == 0 {
        assert!(start.elapsed() < PATIENCE, "the stranger was not noticed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(bench.now().is_none(), "a stranger's word must not be observed");
    // And the program itself is heard: the same words from the main process.
    bench.watch(myself(), beats());
    send(&bench, "STOPPING=1\nRELOADING=1");
    assert_eq!(bench.next().await, Observation::SaidStopping { generation: GENERATION });
    assert_eq!(
        bench.next().await,
        Observation::SaidStatus { generation: GENERATION, text: "reloading".into() }
    );
}

#[tokio::test]
async fn a_descendant_is_believed() {
    let mut bench = Bench::new();
    bench.senses.prepare_notify(&name("bot"), None).unwrap();
    bench.watch(myself(), beats());
    let _child = Subject::sender(&bench.senses.notify_address(&name("bot")), "WATCHDOG=1", 1);
    let beat = bench.next_beat().await;
    assert_eq!((beat.source, beat.tick), (BeatKind::Notify, None));
}

#[tokio::test]
async fn an_adopted_run_gets_its_socket_back() {
    let mut bench = Bench::new();
    bench.watch(myself(), beats());
    send(&bench, &format!("STATUS={}", "x".repeat(5_000)));
    match bench.next().await {
        Observation::SaidStatus { text, .. } => assert_eq!(text.chars().count(), 257),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_earlier_run_speaks_into_the_void() {
    let mut bench = Bench::new();
    let path = bench.senses.prepare_notify(&name("bot"), None).unwrap();
    let old = UnixDatagram::unbound().unwrap();
    old.connect(&path).unwrap();
    bench.senses.prepare_notify(&name("bot"), None).unwrap();
    bench.watch(myself(), beats());
    // The first socket is closed as soon as its task is gone.
    let start = Instant::now();
    while old.send(b"WATCHDOG=1").is_ok() {
        assert!(start.elapsed() < PATIENCE, "the socket of the earlier run is still read");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    send(&bench, "X_HORUS_SEQ=1");
    assert_eq!(bench.next_beat().await.tick, Some(1));
    bench.senses.forget(&name("bot"));
    assert!(!path.exists());
}

#[tokio::test]
async fn a_flood_delays_no_http_probe_and_is_merged() {
    const FLOOD: u32 = 20_000;
    let server = Server::start(|_, mut stream| async move {
        let mut seq = 0;
        while read_request(&mut stream).await {
            seq += 1;
            answer(&mut stream, "200 OK", &format!(r#"{{"seq":{seq}}}"#)).await;
        }
    })
    .await;
    let mut bench = Bench::new();
    bench.senses.prepare_notify(&name("bot"), None).unwrap();
    bench.watch(myself(), vec![BeatPlan::Notify, BeatPlan::Http(http_beat(&server.url(), 50, 10_000))]);
    let _flood =
        Subject::sender(&bench.senses.notify_address(&name("bot")), "WATCHDOG=1\nX_HORUS_SEQ=$", FLOOD);
    let mut last_http = Instant::now();
    let mut longest = Duration::ZERO;
    let mut merged = 0_u32;
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < 2 * PATIENCE, "the flood does not end");
        let beat = bench.next_beat().await;
        if beat.source == BeatKind::Http {
            longest = longest.max(last_http.elapsed());
            last_http = Instant::now();
        } else {
            merged += 1;
            if beat.tick == Some(u64::from(FLOOD - 1)) {
                break;
            }
        }
    }
    assert!(longest < Duration::from_secs(1), "an HTTP probe was delayed by {longest:?}");
    assert!(merged < FLOOD / 10, "{merged} observations for {FLOOD} datagrams");
    assert_eq!(bench.senses.counts().datagrams, u64::from(FLOOD));
}

#[tokio::test]
async fn a_socket_that_nobody_watches_is_drained() {
    let mut bench = Bench::new();
    let socket = bench.senses.prepare_notify(&name("bot"), None).unwrap();
    bench.senses.unwatch(&name("bot"));
    let mut program = Subject::sender(&socket, "WATCHDOG=1", 5_000);
    tokio::task::spawn_blocking(move || program.wait_for("sent")).await.unwrap();
    assert!(!matches!(bench.now(), Some(Input::Service(..))));
}

#[tokio::test]
async fn a_reload_a_failure_and_a_wish_are_shown_as_status() {
    let mut bench = Bench::new();
    bench.watch(myself(), beats());
    let shown = [
        ("RELOADING=1\nMONOTONIC_USEC=5", "reloading"),
        ("READY=1", "ready again after a reload"),
        ("STATUS=cannot write\nERRNO=28", "cannot write (No space left on device (os error 28))"),
        (
            "WATCHDOG=trigger\nSTATUS=lost its peer",
            "it says itself that it hangs (WATCHDOG=trigger): lost its peer",
        ),
    ];
    for (said, status) in shown {
        send(&bench, said);
        let text = loop {
            match bench.next().await {
                Observation::SaidStatus { text, .. } => break text,
                Observation::SaidReady { .. } => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(text, status);
    }
    assert_eq!(
        bench.next().await,
        Observation::SaidStuck { generation: GENERATION },
        "its main process says so"
    );
}

/// It inherited the socket, and may not have its parent restarted.
#[tokio::test]
async fn a_child_that_says_that_it_hangs_speaks_for_itself_alone() {
    let mut bench = Bench::new();
    let socket = bench.senses.prepare_notify(&name("bot"), None).unwrap();
    bench.watch(myself(), beats());
    let mut child = Subject::sender(&socket, "WATCHDOG=trigger", 1);
    tokio::task::spawn_blocking(move || child.wait_for("sent")).await.unwrap();
    send(&bench, "STOPPING=1");
    let mut shown = None;
    loop {
        match bench.next().await {
            Observation::SaidStatus { text, .. } => shown = Some(text),
            Observation::SaidStopping { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    let shown = match shown {
        Some(shown) => shown,
        None => match bench.next().await {
            Observation::SaidStatus { text, .. } => text,
            other => panic!("{other:?}"),
        },
    };
    assert!(shown.contains("not its main one"), "{shown}");
    assert!(bench.now().is_none());
}

/// `systemd-notify` sends `BARRIER=1` with a pipe after what it has to say, and fails if nobody closes the other end.
#[tokio::test]
async fn the_tool_of_systemd_itself_is_heard_and_its_barrier_answered() {
    let mut bench = Bench::new();
    let socket = bench.senses.prepare_notify(&name("bot"), None).unwrap();
    bench.watch(myself(), beats());
    #[expect(clippy::disallowed_methods, reason = "a test runs a real sender")]
    let mut tool = std::process::Command::new("systemd-notify");
    tool.args(["--ready", "--status=warm", "WATCHDOG=1"]).env("NOTIFY_SOCKET", &socket);
    let running = tokio::task::spawn_blocking(move || tool.output());
    let output =
        match tokio::time::timeout(PATIENCE, running).await.expect("the barrier is answered").unwrap() {
            Err(error) => return eprintln!("SKIPPED: systemd-notify as a sender: {error}"),
            Ok(output) => output,
        };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(bench.next().await, Observation::SaidReady { generation: GENERATION });
    assert_eq!(bench.next().await, Observation::SaidStatus { generation: GENERATION, text: "warm".into() });
    assert_eq!(bench.next_beat().await.source, BeatKind::Notify);
}

/// Passes so many descriptors of a pipe with each of many datagrams; its end tells that all copies were closed.
const STORES: &str = "import array, os, socket, sys\n\
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
    r, w = os.pipe()\n\
    for count in (1, 2, 40, 200):\n\
    \x20   for _ in range(50):\n\
    \x20       fds = array.array('i', [w] * count)\n\
    \x20       s.sendmsg([b'FDSTORE=1\\nFDNAME=x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)], 0, sys.argv[1])\n\
    os.close(w)\n\
    os.read(r, 1)\n\
    print('closed', flush=True)\n\
    sys.stdin.read()";

#[tokio::test]
async fn descriptors_that_are_passed_are_closed_however_many() {
    let mut bench = Bench::new();
    let socket = bench.senses.prepare_notify(&name("bot"), None).unwrap();
    bench.watch(myself(), beats());
    #[expect(clippy::disallowed_methods, reason = "a test makes its own subjects")]
    let mut python = std::process::Command::new("python3");
    if !python.arg("--version").output().is_ok_and(|output| output.status.success()) {
        return eprintln!("SKIPPED: descriptors that are passed: no python3");
    }
    #[expect(clippy::disallowed_methods, reason = "a test makes its own subjects")]
    let mut python = std::process::Command::new("python3");
    let mut sender = Subject::start(python.args(["-c", STORES]).arg(&socket));
    let closed = tokio::task::spawn_blocking(move || sender.wait_for("closed"));
    tokio::time::timeout(PATIENCE, closed).await.expect("a descriptor was kept").unwrap();
    send(&bench, "WATCHDOG=1");
    assert_eq!(bench.next_beat().await.source, BeatKind::Notify, "and what is said afterwards is heard");
}
