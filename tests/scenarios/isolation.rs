//! G10: one probe, sink or log that misbehaves delays nobody else's verdict.

use horus_alert::fake::Fault;
use horus_core::verdict::Verdict;

use horus_core::event::What;
use horus_core::notice::IncidentKind;
use horus_tests::skipped;

use crate::{beat, hanger, is_kill, is_recovery, millis, rig, service, struck, subject, triggers};

const KEYS: &str = "deadline = \"2s\"\nkills = { prove = \"5s\" }\n";

#[tokio::test]
async fn invariant_g10_black_holes_floods_and_a_hung_sink_delay_nobody() {
    let mut rig = rig().await;
    let mut config = hanger(&rig, "bot", KEYS);
    for mode in ["never", "drip", "huge", "garbage", "redirect", "error"] {
        let port = rig.room.port();
        let command = [subject!("black-hole"), "--mode", mode, "--port", &port.to_string()];
        config +=
            &service(&format!("hole-{mode}"), &command, &format!("{}{KEYS}startup = \"2s\"\n", beat(port)));
    }
    let port = rig.room.port();
    let folder = triggers(&rig, "flood");
    let command = [subject!("log-flood"), "--port", &port.to_string(), "--triggers", &folder];
    config += &service(
        "flood",
        &command,
        &format!("{}{KEYS}log = {{ max_size = \"1MiB\", keep = 2 }}\n", beat(port)),
    );
    rig.sinks.discord.script([Fault::Hang; 40]);
    rig.run(&config).await;
    let (old, flood) = (rig.ready("bot").await, rig.ready("flood").await);
    for mode in ["never", "drip", "huge", "garbage", "redirect", "error"] {
        rig.first(&format!("hole-{mode}"), "overdue start", |what| {
            matches!(what, horus_core::event::What::IncidentOpened { .. })
        })
        .await;
    }
    let since = struck(&rig, "bot", "hang").await;
    let kill = rig.first("bot", "kill", is_kill).await;
    let took = millis(since, kill.at);
    assert!(took <= 2 * 2_000 + 200 + 1_000, "decided after {took} ms");
    rig.first("bot", "recovery", is_recovery).await;
    assert_ne!(rig.process("bot").await, old);

    // Nobody else was touched, and each black hole is called by its name where a person looks.
    for (mode, heard) in [
        ("never", "no answer"),
        ("drip", "no answer"),
        ("huge", ""),
        ("garbage", ""),
        ("redirect", "302"),
        ("error", "500"),
    ] {
        let name = format!("hole-{mode}");
        let status = rig.status(&name).await;
        assert_eq!(status.verdict, Verdict::Starting, "{name}: {}", status.because);
        let fault = status.beats[0].fault.clone().unwrap_or_default();
        assert!(!fault.is_empty() && fault.contains(heard), "{name}: {fault:?}");
        rig.assert_never_signalled(&name);
    }
    assert_eq!(rig.process("flood").await, flood);
    rig.assert_never_signalled("flood");
    let folder = std::fs::read_dir(rig.room.path("s/logs")).unwrap();
    let logs = folder.flatten().filter(|file| file.file_name().to_string_lossy().starts_with("flood"));
    let bytes: u64 = logs.map(|file| file.metadata().map_or(0, |found| found.len())).sum();
    assert!(bytes <= 4 << 20, "a flood fills what its limits say: {bytes} bytes");
    rig.room.trigger("flood/exit");
    rig.end().await;
}

/// The database takes no writes: Horus goes on watching and healing, says so, and writes everything later.
#[tokio::test]
async fn a_database_that_takes_no_writes_stops_nobody() {
    let mut rig = rig().await;
    let config = hanger(&rig, "bot", KEYS);
    rig.run(&config).await;
    let old = rig.ready("bot").await;
    let Some(holder) = rig.hold_database().await else { return skipped("a locked database", "no python3") };
    struck(&rig, "bot", "hang").await;
    // Told from memory, while nothing can be written.
    rig.told("bot was stuck, I restarted it, working again").await;
    rig.told("horus cannot write its records. It goes on watching and healing. Needs you.").await;
    let new = rig.status_until("bot", "healed", |now| now.verdict == Verdict::Healthy).await;
    assert_ne!(new.pid, Some(old.pid));
    assert!(rig.client.status().await.unwrap().store_fault.is_some());
    assert_eq!(rig.count("bot", is_kill), 0, "the journal cannot know of it yet");
    drop(holder);
    rig.first("bot", "kill", is_kill).await;
    rig.first("bot", "recovery", is_recovery).await;
    let over = |what: &What| matches!(what, What::IncidentOpened { kind: IncidentKind::Store, .. });
    rig.first("horus", "trouble with the store", over).await;
    rig.told("horus: over after").await;
    rig.end().await;
}
