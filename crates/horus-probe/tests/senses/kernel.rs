//! Where a process is, as the kernel of Linux tells it.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use horus_core::ids::ProcessId;
use horus_core::observation::{CaptureStage, Finding};
use horus_probe::EvidenceRoom;
use tokio::time::Instant;

use crate::bench::PATIENCE;
use crate::capture::request;
use crate::subject::Subject;

impl Subject {
    /// A shell that runs this script in its own (main) thread.
    #[expect(clippy::disallowed_methods, reason = "a test makes its own subjects")]
    fn shell(script: &str) -> Self {
        Self::start(Command::new("/bin/bash").args(["-c", script]))
    }

    /// Connects and blocks in a read without a timeout.
    fn receiver(host: &str, port: u16) -> Self {
        Self::shell(&format!("exec 3<>/dev/tcp/{host}/{port}; echo connected; read -r line <&3"))
    }

    /// Uses one CPU.
    fn spinner() -> Self {
        Self::shell("echo spinning; while :; do :; done")
    }

    fn signal(&self, name: &str) {
        #[expect(clippy::disallowed_methods, reason = "a test makes its own subjects")]
        let sent =
            Command::new("/bin/kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.unwrap().success());
    }
}

/// Captures until the subject is where it will stay.
async fn settled(room: &std::sync::Arc<EvidenceRoom>, main: ProcessId, dir: &Path, word: &str) -> Finding {
    let start = Instant::now();
    loop {
        let finding = room.capture(main, request(dir, CaptureStage::Early)).await;
        if finding.phrase.contains(word) {
            return finding;
        }
        assert!(start.elapsed() < PATIENCE, "{finding:?}");
    }
}

#[tokio::test]
async fn a_blocked_receive_names_the_call_and_the_peer_and_twice_the_same_place() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut subject = Subject::receiver("127.0.0.1", address.port());
    let _connection = listener.accept().unwrap();
    subject.wait_for("connected");
    std::fs::File::create(dir.path().join("bot.log")).unwrap();
    let room = EvidenceRoom::new(dir.path().join("evidence"));
    let first = settled(&room, subject.id(), dir.path(), &address.to_string()).await;
    assert!(first.phrase.starts_with("main thread sleeps in read on 127.0.0.1:"), "{}", first.phrase);
    assert_eq!(first.missing, Vec::<String>::new());
    let second = room.capture(subject.id(), request(dir.path(), CaptureStage::Second)).await;
    assert!(first.place.is_some() && first.place == second.place);
    assert!(first.cpu_ns.is_some() && first.cpu_ns == second.cpu_ns);
    assert!(second.phrase.contains(", no CPU used for 0."), "{}", second.phrase);
}

#[tokio::test]
async fn sleeping_stopped_and_spinning_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let room = EvidenceRoom::new(dir.path().join("evidence"));
    let sleeper = Subject::sleep();
    settled(&room, sleeper.id(), dir.path(), "a sleep of its own").await;
    sleeper.signal("STOP");
    settled(&room, sleeper.id(), dir.path(), "stopped by SIGSTOP").await;
    let mut spinner = Subject::spinner();
    spinner.wait_for("spinning");
    let finding = settled(&room, spinner.id(), dir.path(), "main thread is running (").await;
    assert!(finding.cpu_ns.unwrap() > 0);
}
