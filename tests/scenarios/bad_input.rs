//! Bad input: each kind gets a clear word where a person looks, and disturbs nothing else.

use std::os::unix::fs::PermissionsExt as _;

use horus_core::event::What;
use horus_core::notice::{IncidentKind, Story};
use horus_core::status::ServiceStatus;
use horus_core::verdict::Verdict;
use horus_tests::skipped;

use crate::{beat, bot, hanger, is_kill, is_start, rig, service, struck, subject, triggers};

fn opened(kind: IncidentKind) -> impl Fn(&What) -> bool {
    move |what| matches!(what, What::IncidentOpened { kind: opened, .. } if *opened == kind)
}

const RESTARTS: &str = "restart = { next = \"200ms\", max = \"2s\", crash_loop = 4 }\n";

#[tokio::test]
async fn commands_that_cannot_run_are_named_and_tried_ever_more_slowly() {
    let mut rig = rig().await;
    let good = hanger(&rig, "good", "deadline = \"2s\"\n");
    let not_executable = rig.room.path("notes.txt");
    std::fs::File::create(&not_executable).unwrap();
    std::fs::set_permissions(&not_executable, std::fs::Permissions::from_mode(0o644)).unwrap();
    let garbled = rig.room.path("garbled");
    horus_sys::files::write_atomic(
        &garbled,
        b"\x7fELF but not really",
        horus_sys::files::Durability::ThisBoot,
    )
    .unwrap();
    std::fs::set_permissions(&garbled, std::fs::Permissions::from_mode(0o755)).unwrap();
    // It is there when the file is checked, and gone when it is started: the start has to say so.
    let gone = rig.room.path("gone");
    std::os::unix::fs::symlink(subject!("hanger"), &gone).unwrap();
    let config = good
        + &service("gone", &[&gone.display().to_string()], RESTARTS)
        + &service("closed", &[&not_executable.display().to_string()], RESTARTS)
        + &service("garbled", &[&garbled.display().to_string()], RESTARTS);
    let config = config + &hanger(&rig, "homeless", &format!("directory = \"nowhere\"\n{RESTARTS}"));
    std::fs::remove_file(&gone).unwrap();
    rig.run(&config).await;
    for (name, says) in
        [("gone", "not found"), ("closed", "not executable"), ("garbled", "ormat"), ("homeless", "nowhere")]
    {
        let failed = rig.first(name, "failed start", |what| matches!(what, What::StartFailed { .. })).await;
        let What::StartFailed { error } = &failed.event.what else { unreachable!() };
        assert!(error.contains(says), "{name}: {error}");
        // The first one has a message of its own, the others are named together.
        let said = rig.sinks.mention(&[name, says]).await.expect(name);
        assert!(said.first_line().contains("Needs you."), "{}", said.first_line());
    }
    let said = rig.told("horus has ").await;
    assert!(said.first_line().contains("services in trouble at once. Needs you."), "{}", said.first_line());
    let said = rig.told("could not be started").await;
    assert!(said.full_text().contains("The program itself did not run."), "{}", said.full_text());
    // Ever slower, never given up.
    rig.status_until("gone", "fifth try", |now| now.generation >= 5).await;
    let events = rig.journal.all();
    let delays: Vec<u128> = events
        .iter()
        .filter(|event| event.event.subject == "gone")
        .filter_map(|event| match &event.event.what {
            What::Delayed { delay, .. } => Some(delay.as_millis()),
            _ => None,
        })
        .collect();
    assert!(delays.windows(2).all(|pair| pair[0] < pair[1] || pair[1] > 1_500), "{delays:?}");
    // It heals when the program comes back.
    std::os::unix::fs::symlink(subject!("crasher"), &gone).unwrap();
    rig.first("gone", "start", |what| matches!(what, What::Started { .. })).await;
    assert_eq!(rig.status("good").await.verdict, Verdict::Healthy);
    assert_eq!(rig.count("good", is_start), 1);
    rig.end().await;
}

#[tokio::test]
async fn a_program_that_ends_at_once_is_a_crash_loop_and_never_given_up() {
    let mut rig = rig().await;
    let good = hanger(&rig, "good", "deadline = \"2s\"\n");
    rig.run(&(good + &service("rss", &[subject!("crasher"), "--code", "7"], RESTARTS))).await;
    rig.first("rss", "crash loop", opened(IncidentKind::CrashLoop)).await;
    let said = rig.told("rss keeps crashing").await;
    assert!(said.first_line().contains("Needs you."), "{}", said.first_line());
    assert!(said.full_text().contains("exit code 7"), "{}", said.full_text());
    assert!(said.full_text().contains("KeyError"), "its last words: {}", said.full_text());
    assert!(said.full_text().contains("then ever more slowly"), "{}", said.full_text());
    let tries = rig.status("rss").await.generation;
    // While the keeper starts it once more it is starting; in between it is what it is.
    let loops_on = |now: &ServiceStatus| now.generation >= tries + 2 && now.verdict == Verdict::CrashLooping;
    rig.status_until("rss", "still crash-looping, two tries later", loops_on).await;
    assert_eq!(rig.count("rss", opened(IncidentKind::CrashLoop)), 1, "said once");
    assert_eq!(rig.count("rss", opened(IncidentKind::SameAge)), 0, "to die at once is no schedule");
    rig.assert_never_signalled("rss");
    assert_eq!(rig.count("good", is_start), 1);
    rig.end().await;
}

/// A program that is not to be started again stays down, and a person is told if it did not end well.
#[tokio::test]
async fn a_restart_policy_is_followed() {
    let mut rig = rig().await;
    let done = [subject!("crasher"), "--code", "0", "--words", "no more topics"];
    let failed = [subject!("crasher"), "--code", "5", "--words", "the disk is on fire"];
    let config = service("done", &done, "restart = { on = \"failure\" }\n")
        + &service("failed", &failed, "restart = { on = \"never\" }\n");
    rig.run(&config).await;
    let said = rig.told("failed ended by itself and stays down, as its settings say. Needs you.").await;
    assert!(said.full_text().contains("exit code 5"), "{}", said.full_text());
    assert!(said.full_text().contains("the disk is on fire"), "its last words: {}", said.full_text());
    assert!(said.full_text().contains("horus start failed"), "{}", said.full_text());
    rig.first("done", "end", |what| matches!(what, What::IncidentClosed { .. })).await;
    for name in ["done", "failed"] {
        assert_eq!(rig.count(name, is_start), 1, "{name}");
        assert_eq!(rig.status(name).await.pid, None);
    }
    let lines = rig.sinks.first_lines();
    assert!(!lines.iter().any(|line| line.contains("done")), "who ended as he should is no news: {lines:?}");
    rig.end().await;
}

/// 100 MB without a newline: bounded on disk, bounded in memory, and the next line is whole.
#[tokio::test]
async fn a_line_of_a_hundred_megabytes_is_survived() {
    let mut rig = rig().await;
    let (port, folder) = (rig.room.port(), triggers(&rig, "poet"));
    let port_word = port.to_string();
    let command = [subject!("long-line"), "--port", &port_word, "--triggers", &folder];
    let keys = format!("{}deadline = \"2s\"\nlog = {{ max_size = \"1MiB\", keep = 2 }}\n", beat(port));
    let config = hanger(&rig, "good", "deadline = \"2s\"\n") + &service("poet", &command, &keys);
    rig.run(&config).await;
    let good = rig.ready("good").await;
    rig.ready("poet").await;
    let output = rig.output("poet");
    assert!(output.lines().any(|line| line == "the long line is over"), "{} bytes", output.len());
    let bytes: u64 = std::fs::read_dir(rig.room.path("s/logs"))
        .unwrap()
        .flatten()
        .filter(|file| file.file_name().to_string_lossy().starts_with("poet"))
        .map(|file| file.metadata().map_or(0, |found| found.len()))
        .sum();
    assert!(bytes <= 4 << 20, "{bytes} bytes on disk");
    let logs = rig.cli(&["logs", "poet", "-n", "5"]).await;
    assert_eq!(logs.code, 0, "{}", logs.err);
    assert!(logs.out.contains("the long line is over"), "{} bytes", logs.out.len());
    rig.room.trigger("poet/exit");
    rig.first("poet", "recovery", crate::is_recovery).await;
    assert_eq!(rig.process("good").await, good);
    rig.assert_never_signalled("poet");
    rig.end().await;
}

/// Somebody else writes to a service's notify socket: that is not its beat.
#[tokio::test]
async fn a_strangers_datagram_keeps_no_dead_loop_alive() {
    let mut rig = rig().await;
    let Some(config) = bot(&rig, &["--notify"], "deadline = \"1s\"\nkills = { prove = \"5s\" }\n").await
    else {
        return skipped("a stranger's datagram", "no python3");
    };
    // Only pushed beats, so that nothing but the datagrams can vouch for it.
    let config: String = config
        .lines()
        .map(|line| if line.starts_with("heartbeat.http") { "heartbeat.notify = true" } else { line })
        .flat_map(|line| [line, "\n"])
        .collect();
    rig.run(&config).await;
    let old = rig.ready("bot").await;
    rig.status_until("bot", "ticking", |now| now.beats[0].tick > Some(20)).await;
    let variables = horus_sys::process::environment(old.pid).unwrap();
    let mut variables = variables.split(|byte| *byte == 0).filter_map(|text| std::str::from_utf8(text).ok());
    let socket = variables.find_map(|text| text.strip_prefix("NOTIFY_SOCKET=")).unwrap().to_owned();
    struck(&rig, "bot", "block").await;
    let stranger = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let lying = tokio::spawn(async move {
        for seq in 1_000_000_u64.. {
            let text = format!("WATCHDOG=1\nX_HORUS_SEQ={seq}\nEXTEND_TIMEOUT_USEC=600000000\n");
            if stranger.send_to(text.as_bytes(), &socket).is_err() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    rig.first("bot", "kill", is_kill).await;
    lying.abort();
    rig.first("bot", "recovery", crate::is_recovery).await;
    assert_ne!(rig.process("bot").await, old);
    rig.end().await;
}

/// `firewalled-probe`: the way to a working program breaks. The path is told, nobody is killed, and all is well when
/// it is mended.
#[tokio::test]
async fn a_firewalled_probe_is_told_and_kills_nobody() {
    let mut rig = rig().await;
    let config = hanger(&rig, "bot", "deadline = \"1s\"\n");
    rig.run(&config).await;
    let process = rig.ready("bot").await;
    struck(&rig, "bot", "hide").await;
    rig.first("bot", "word about the path", |what| {
        matches!(what, What::Told { story: Story::ProbePath { .. }, .. })
    })
    .await;
    let said = rig.told("bot has not been reachable for").await;
    assert!(said.first_line().contains("It may well be working"), "{}", said.first_line());
    assert!(said.full_text().contains("refused"), "{}", said.full_text());
    let up = rig.status("bot").await.up_for_ms.unwrap();
    let later =
        rig.status_until("bot", "five deadlines later", |now| now.up_for_ms >= Some(up + 5_000)).await;
    assert_eq!(later.verdict, Verdict::ProbePath, "{}", later.because);
    assert_eq!(rig.process("bot").await, process);
    rig.assert_never_signalled("bot");
    rig.end().await;
}

/// A reload that asks a healthy program at the wrong place: what never passed cannot kill.
#[tokio::test]
async fn a_heartbeat_that_is_moved_to_a_wrong_place_kills_nobody() {
    let mut rig = rig().await;
    let (good, nobody) = (rig.room.port(), rig.room.port());
    let good_word = good.to_string();
    let command = [subject!("hanger"), "--port", &good_word];
    let keys = "deadline = \"1s\"\nstartup = \"3s\"\n";
    rig.run(&service("bot", &command, &format!("{}{keys}", beat(good)))).await;
    let process = rig.ready("bot").await;
    rig.write(&service("bot", &command, &format!("{}{keys}", beat(nobody))));
    assert_eq!(rig.cli(&["reload"]).await.code, 0);
    let told = rig.first("bot", "word about it", |what| matches!(what, What::Told { .. })).await;
    let up = rig.status("bot").await.up_for_ms.unwrap();
    rig.status_until("bot", "five deadlines later", |now| now.up_for_ms >= Some(up + 5_000)).await;
    assert_eq!(rig.process("bot").await, process);
    rig.assert_never_signalled("bot");
    // Asked at the right place again, the matter is over.
    rig.write(&service("bot", &command, &format!("{}{keys}", beat(good))));
    assert_eq!(rig.cli(&["reload"]).await.code, 0);
    rig.after(told.seq, "bot", "end", |what| matches!(what, What::IncidentClosed { .. })).await;
    rig.status_until("bot", "healthy", |now| now.verdict == Verdict::Healthy).await;
    assert_eq!(rig.process("bot").await, process);
    rig.end().await;
}
