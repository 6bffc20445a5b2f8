//! The shipped `watchdog.toml`: trading and pipeline under supervision, as a person meets them first.

use std::path::{Path, PathBuf};

use horus_core::verdict::Verdict;
use horus_sys::files::{Durability, write_atomic};
use horus_sys::signal::Signal;
use horus_tests::{Rig, skipped};

use crate::{is_kill, is_recovery, rig};

fn shipped() -> Option<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("watchdog.toml");
    std::fs::read_to_string(file).ok()
}

/// The shipped file with ports, folders and programs of this room.
fn adapted(rig: &Rig, more: impl Fn(&str) -> String) -> Option<String> {
    let mut text = shipped()?;
    for (program, port) in [("trading", "7801"), ("pipeline", "7802")] {
        let free = rig.room.port().to_string();
        text = text.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{free}"));
        let listens = format!("[\"{}\", \"run\", \"--listen\", \"127.0.0.1:{free}\"", rig.program(program));
        let adapted = text.replace(&format!("[\"{program}\", \"run\""), &listens);
        assert_ne!(adapted, text, "the command of {program} was not found");
        text = adapted;
    }
    let text = without_places(&text);
    let head = format!(
        "[daemon]\nstate_directory = \"s\"\nrun_directory = \"r\"\nhost = \"mini\"\n[defaults.env]\nSCENARIO = \"{}\"\n",
        rig.room.mark()
    );
    let sinks = "[sink.discord]\ndiscord = { url_env = \"DISCORD_URL\" }\nseverity = \"info\"\n\
                 [sink.slack]\nslack = { url_env = \"SLACK_URL\" }\nseverity = \"info\"\n";
    Some(more(&format!("version = 1\n{head}{text}\n{sinks}")))
}

/// Without `version`, `[daemon]` and `[sink.*]`: those are the room's.
fn without_places(text: &str) -> String {
    let mut kept = true;
    let lines = text.lines().filter(|line| {
        if line.starts_with('[') {
            kept = !["[daemon", "[sink"].iter().any(|table| line.starts_with(table));
        }
        kept && !line.starts_with("version")
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn config(rig: &Rig, text: &str) -> PathBuf {
    let file = rig.config();
    write_atomic(&file, text.as_bytes(), Durability::ThisBoot).unwrap();
    file
}

#[tokio::test]
async fn the_shipped_file_supervises_trading_and_pipeline() {
    let mut rig = rig().await;
    let Some(text) = adapted(&rig, str::to_owned) else {
        return skipped("shipped watchdog.toml", "there is none yet");
    };
    config(&rig, &text);
    let check = rig.cli(&["check"]).await;
    assert_eq!(check.code, 0, "{}{}", check.out, check.err);
    rig.start().await;
    let (trading, pipeline) = (rig.ready("trading").await, rig.ready("pipeline").await);
    for name in ["trading", "pipeline"] {
        let status = rig
            .status_until(name, "healthy", |now| matches!(now.verdict, Verdict::Healthy | Verdict::Idle))
            .await;
        assert!(status.beats.iter().any(|beat| beat.tick.is_some()), "{name}: {:?}", status.beats);
        assert!(!status.progress.because.is_empty() && !status.value.because.is_empty());
    }
    let status = rig.cli(&["status"]).await;
    assert!(status.out.contains("trading") && status.out.contains("pipeline"), "{}", status.out);
    for (name, process) in [("trading", trading), ("pipeline", pipeline)] {
        rig.signal(&process, Signal::KILL);
        rig.first(name, "recovery", is_recovery).await;
        rig.told(&format!("{name} ended by itself, I started it again, working again")).await;
    }
    rig.end().await;
}

#[tokio::test]
async fn the_fault_switch_of_trading_lets_a_person_watch_the_healing() {
    let mut rig = rig().await;
    let faulty = |text: &str| {
        text.replacen("\"run\"", "\"run\", \"--fault\", \"hang@5s,once\"", 1)
            .replace("deadline = \"10s\"", "deadline = \"3s\"")
    };
    let Some(text) = adapted(&rig, faulty) else {
        return skipped("shipped watchdog.toml with a fault", "there is none yet");
    };
    config(&rig, &text);
    rig.start().await;
    let kill =
        rig.journal.wait(0, horus_tests::FAILSAFE, |event| is_kill(&event.event.what)).await.expect("a kill");
    let name = kill.event.subject.clone();
    rig.after(kill.seq, &name, "recovery", is_recovery).await;
    rig.told(&format!("{name} was stuck, I restarted it, working again")).await;
    assert_eq!(rig.count(&name, is_kill), 1, "once");
    rig.end().await;
}
