//! Evidence about real processes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use horus_core::ids::{IncidentId, ProcessId};
use horus_core::observation::CaptureStage;
use horus_core::plan::Secret;
use horus_probe::{CaptureRequest, Change, EvidenceRoom};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::bench::{GENERATION, name};
use crate::subject::Subject;

pub(crate) fn request(dir: &Path, stage: CaptureStage) -> CaptureRequest {
    CaptureRequest {
        service: name("bot"),
        generation: GENERATION,
        stage,
        incident: Some(IncidentId::nth(3)),
        thread: None,
        changed: vec![Change {
            at: Timestamp::UNIX_EPOCH,
            subject: "bot".into(),
            what: "says hunter2\nand more".into(),
        }],
        log_path: dir.join("bot.log"),
        log_end: None,
        redact: vec![Secret::new("hunter2".into())],
    }
}

#[tokio::test]
async fn a_bundle_is_private_whole_and_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = std::fs::File::create(dir.path().join("bot.log")).unwrap();
    std::io::Write::write_all(
        &mut log,
        b"login with hunter2\nPOST https://discord.com/api/webhooks/1/hunter3\nlast\n",
    )
    .unwrap();
    let room = EvidenceRoom::new(dir.path().join("evidence"));
    let subject = Subject::sleep();
    let finding = room.capture(subject.id(), request(dir.path(), CaptureStage::Verdict)).await;
    let name = finding.bundle.clone().unwrap();
    assert!(name.starts_with("bot-7-verdict-") && name.ends_with("Z.json"), "{name}");
    let path = dir.path().join("evidence").join(name);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(path).unwrap();
    assert!(!text.contains("hunter"), "{text}");
    assert!(!format!("{finding:?}").contains("hunter"));
    assert_eq!(finding.last_lines, ["login with ***", "POST https://discord.com/***", "last"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["changed"][0]["what"], "says ***", "one line, without secrets");
    assert_eq!(json["incident"], IncidentId::nth(3).to_string());
    assert_eq!(json["phrase"], finding.phrase);
    assert_eq!(json["main"]["pid"], subject.id().pid);
}

#[tokio::test]
async fn a_dead_or_another_process_is_gone_and_the_log_remains() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = std::fs::File::create(dir.path().join("bot.log")).unwrap();
    std::io::Write::write_all(&mut log, b"panicked at 'x'\n").unwrap();
    let room = EvidenceRoom::new(dir.path().join("evidence"));
    let subject = Subject::sleep();
    let other = ProcessId { start_time: subject.id().start_time + 1, ..subject.id() };
    let finding = room.capture(other, request(dir.path(), CaptureStage::Second)).await;
    assert_eq!((finding.phrase.as_str(), finding.place.as_ref(), finding.cpu_ns), ("", None, None));
    assert_eq!(finding.missing, ["process: not there any more"]);
    let dead = subject.id();
    drop(subject);
    let finding = room.capture(dead, request(dir.path(), CaptureStage::Exit)).await;
    assert_eq!(finding.last_lines, ["panicked at 'x'"]);
    assert_eq!(finding.missing, Vec::<String>::new());
    assert!(finding.bundle.is_some());
}

#[tokio::test]
async fn without_a_place_to_write_the_finding_still_comes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::File::create(dir.path().join("evidence")).unwrap();
    let room = EvidenceRoom::new(dir.path().join("evidence"));
    let subject = Subject::sleep();
    let start = Instant::now();
    let finding = room.capture(subject.id(), request(dir.path(), CaptureStage::Verdict)).await;
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(finding.bundle, None);
    assert!(finding.missing.iter().any(|missing| missing.starts_with("bundle: not written")), "{finding:?}");
}
