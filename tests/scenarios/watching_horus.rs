//! Who watches the watchman: a Horus that panics, hangs or is replaced harms nobody, and says what happened.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::Duration;

use horus_core::event::What;
use horus_sys::files::{Durability, write_atomic};
use horus_sys::process::is_alive;
use horus_sys::signal::Signal;
use horus_tests::{FAILSAFE, Options, Rig};
use tokio::net::UnixDatagram;

use crate::{hanger, is_start, rig, rig_with};

const KEYS: &str = "deadline = \"5s\"\n";

const SIGABRT: i32 = 6;

/// How long a test waits for something that must not come.
const QUIET: Duration = Duration::from_secs(3);

/// A rig whose Horus has trouble where and when a test wants it, with more variables.
async fn troubled(variables: &[(&str, String)]) -> (Rig, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut environment = vec![("HORUS_TEST_TROUBLE".to_owned(), folder.path().display().to_string())];
    environment.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    (rig_with(Options { environment, ..Options::default() }).await, folder)
}

/// Makes it so, and waits until it is.
async fn trouble(folder: &tempfile::TempDir, place: &str, what: &str) {
    let file = folder.path().join(place);
    write_atomic(&file, what.as_bytes(), Durability::ThisBoot).unwrap();
    let taking = async {
        while file.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(FAILSAFE, taking).await.is_ok(), "nobody passes {place}");
}

fn about_an_earlier_life(what: &What) -> bool {
    matches!(what, What::Horus { text } if text.starts_with("an earlier Horus"))
}

/// The evidence that an event about an earlier life names.
fn evidence(what: &What) -> String {
    let What::Horus { text } = what else { panic!("{what:?}") };
    let path = text.rsplit("evidence: ").next().unwrap();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A package upgrade renames another file over the program while it runs; then the keeper dies.
#[tokio::test]
async fn invariant_g6_a_keeper_is_started_also_after_the_program_was_replaced() {
    let mut rig = rig().await;
    let program = rig.room.path("horus");
    std::fs::copy(rig.program("horus"), &program).unwrap();
    rig.use_program(program.clone());
    let config = hanger(&rig, "bot", KEYS);
    rig.run(&config).await;
    let child = rig.ready("bot").await;
    let next = rig.room.path("horus.new");
    std::fs::copy(rig.program("horus"), &next).unwrap();
    std::fs::rename(&next, &program).unwrap();

    let old = rig.keeper();
    rig.signal(&old, Signal::KILL);
    rig.gone(&old).await;
    let returning = async {
        while rig.find_keeper().is_none_or(|keeper| keeper == old) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(FAILSAFE, returning).await.is_ok(), "there is no keeper any more");
    assert!(is_alive(&child));
    // The new keeper is obeyed, not only there.
    let stop = rig.cli(&["stop", "bot"]).await;
    assert_eq!(stop.code, 0, "{}{}", stop.out, stop.err);
    assert!(!is_alive(&child));
    assert_eq!(rig.count("bot", is_start), 1);
    rig.end().await;
}

/// A panic is never swallowed: not in the loop, not in a task of the runtime, not in a thread.
#[tokio::test]
async fn invariant_g6_a_panic_anywhere_ends_horus_and_no_child() {
    let (mut rig, folder) = troubled(&[]).await;
    let config = hanger(&rig, "bot", KEYS);
    rig.run(&config).await;
    let child = rig.ready("bot").await;
    for place in ["loop", "task", "thread"] {
        let last = rig.journal.last();
        trouble(&folder, place, "panic").await;
        let status = rig.ended().await;
        assert_eq!(status.signal(), Some(SIGABRT), "{place}: {status}");
        assert!(is_alive(&child), "{place}");
        rig.start().await;
        let told = rig.after(last, "horus", "last words", about_an_earlier_life).await;
        let evidence = evidence(&told.event.what);
        assert!(evidence.contains(&format!("a test asked for a panic at {place}")), "{evidence}");
        assert!(evidence.contains("test_hook::place"), "the stack is there: {evidence}");
        rig.after(last, "bot", "adoption", |what| matches!(what, What::Adopted { .. })).await;
        assert_eq!(rig.process("bot").await, child);
    }
    assert_eq!(rig.count("bot", is_start), 1);
    assert_eq!(rig.count("horus", about_an_earlier_life), 3, "each is told once");
    assert!(rig.log().contains("FATAL this is a bug in horus"));
    rig.end().await;
}

/// The judge's loop stands still: Horus ends itself, says where it stood, and the next one goes on.
#[tokio::test]
async fn invariant_g6_a_horus_that_hangs_is_given_up_and_no_child_with_it() {
    let limit = Duration::from_secs(2);
    let limit_ms = limit.as_millis().to_string();
    let (mut rig, folder) = troubled(&[("HORUS_TEST_HUNG_AFTER_MS", limit_ms)]).await;
    let config = hanger(&rig, "bot", KEYS);
    rig.run(&config).await;
    let child = rig.ready("bot").await;

    // Stopped for longer than the limit: no time in which the loop could have turned.
    let horus = rig.horus();
    rig.signal(&horus, Signal::STOP);
    tokio::time::sleep(limit + QUIET).await;
    rig.signal(&horus, Signal::CONT);
    rig.status_until("bot", "seen again", |status| status.pid == Some(child.pid)).await;
    tokio::time::sleep(limit).await;
    assert_eq!(rig.horus(), horus, "it has not ended itself");

    let last = rig.journal.last();
    trouble(&folder, "loop", "block").await;
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let status = rig.ended().await;
    let took = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap() - since;
    assert_eq!(status.signal(), Some(SIGABRT), "{status}");
    assert!(took >= limit / 2, "given up after {took:?} already");
    assert!(is_alive(&child));
    rig.start().await;
    let told = rig.after(last, "horus", "last words", about_an_earlier_life).await;
    let evidence = evidence(&told.event.what);
    assert!(evidence.contains("test_hook::stand_still"), "where the loop stood: {evidence}");
    let json: serde_json::Value = serde_json::from_str(&evidence).unwrap();
    let threads = json["threads"]["known"].as_array().unwrap();
    assert!(threads.iter().any(|thread| thread["name"] == "horus-watchman"), "all threads: {evidence}");
    assert_eq!(rig.process("bot").await, child);
    assert_eq!(rig.count("bot", is_start), 1);
    rig.end().await;
}

/// What a service manager heard.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn new(folder: &Path) -> (Self, String) {
        let path = folder.join("notify");
        (Self { socket: UnixDatagram::bind(&path).unwrap() }, path.display().to_string())
    }

    /// Waits for the next message that holds this.
    async fn hears(&self, text: &str) {
        let hearing = async { while !self.next().await.contains(text) {} };
        assert!(tokio::time::timeout(FAILSAFE, hearing).await.is_ok(), "never said: {text}");
    }

    async fn next(&self) -> String {
        let mut bytes = [0; 1_024];
        let length = self.socket.recv(&mut bytes).await.unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// Nothing that holds this is said for a while.
    async fn does_not_hear(&self, text: &str) {
        let hearing = async { while !self.next().await.contains(text) {} };
        assert!(tokio::time::timeout(QUIET, hearing).await.is_err(), "said: {text}");
    }

    fn forget(&self) {
        let mut bytes = [0; 1_024];
        while self.socket.try_recv(&mut bytes).is_ok() {}
    }
}

#[tokio::test]
async fn a_service_manager_hears_that_horus_is_ready_turns_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (manager, address) = Manager::new(folder.path());
    let limit_us = "1500000".to_owned();
    let variables = [("NOTIFY_SOCKET", address), ("WATCHDOG_USEC", limit_us)];
    let (mut rig, trouble_folder) = troubled(&variables).await;
    // No service: nothing but the duty makes the loop turn.
    rig.write("");
    rig.launch();
    // Once, as long as it stays true.
    manager.hears("STATUS=0 of 0 services run").await;
    manager.hears("READY=1").await;
    assert!(rig.client.status().await.is_ok(), "ready is said when the API answers");
    for _ in 0..5 {
        let beating = tokio::time::timeout(Duration::from_millis(1_500), manager.hears("WATCHDOG=1"));
        assert!(beating.await.is_ok(), "a beat is missing: systemd would kill a healthy Horus");
    }
    let reload = rig.cli(&["reload"]).await;
    assert_eq!(reload.code, 0, "{}{}", reload.out, reload.err);
    manager.hears("RELOADING=1\nMONOTONIC_USEC=").await;
    manager.hears("READY=1").await;

    // The loop alone may say it: when it stands, nobody else does.
    trouble(&trouble_folder, "loop", "block").await;
    manager.forget();
    manager.does_not_hear("WATCHDOG=1").await;
    rig.kill_horus().await;

    manager.forget();
    rig.start().await;
    manager.hears("READY=1").await;
    rig.end().await;
    manager.hears("STOPPING=1").await;
}

/// A `systemctl` that says what a test wants.
fn fake_systemctl(folder: &Path, body: &str) {
    let program = folder.join("systemctl");
    let script = format!("#!/bin/sh\necho \"$@\" >> \"$0.asked\"\n{body}\n");
    write_atomic(&program, script.as_bytes(), Durability::ThisBoot).unwrap();
    let file = File::open(program).unwrap();
    file.set_permissions(std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn invariant_g6_a_restart_by_systemd_leaves_the_services_running_and_a_stop_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let variables = [
        ("PATH", path),
        ("INVOCATION_ID", "0123456789abcdef".to_owned()),
        ("HORUS_UNIT", "horus-test.service".to_owned()),
    ];
    let (mut rig, _trouble) = troubled(&variables).await;
    let config = hanger(&rig, "bot", KEYS);
    fake_systemctl(folder.path(), "echo ' 308 horus-test.service restart running'");
    rig.run(&config).await;
    let child = rig.ready("bot").await;

    rig.signal(&rig.horus(), Signal::TERM);
    let status = rig.ended().await;
    assert!(status.success(), "{status}");
    assert!(is_alive(&child), "a restart of Horus is no restart of its services");
    rig.start().await;
    rig.first("bot", "adoption", |what| matches!(what, What::Adopted { .. })).await;
    assert_eq!(rig.process("bot").await, child);
    let left = |what: &What| matches!(what, What::Horus { text } if text.starts_with("Horus leaves"));
    assert_eq!(rig.count("horus", left), 1, "it is in the journal");
    let asked = std::fs::read_to_string(folder.path().join("systemctl.asked")).unwrap();
    assert_eq!(asked, "list-jobs --no-legend --plain --full -- horus-test.service\n");

    // A systemctl that hangs is not waited for; what it would have said is taken for a stop.
    fake_systemctl(folder.path(), "exec sleep 1000");
    rig.end().await;
    assert!(!is_alive(&child));
}

/// The other side of a dead-man switch.
struct DeadManSwitch {
    heard: tokio::sync::watch::Receiver<Vec<String>>,
    status: std::sync::Arc<std::sync::atomic::AtomicU16>,
    url: String,
}

/// The part of the URL that nobody may see.
const TOKEN: &str = "9f8e7d6c-5b4a-4321-token";

impl DeadManSwitch {
    async fn new() -> Self {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/ping/{TOKEN}", listener.local_addr().unwrap());
        let (sender, heard) = tokio::sync::watch::channel(Vec::new());
        let status = std::sync::Arc::new(std::sync::atomic::AtomicU16::new(200));
        let answers = std::sync::Arc::clone(&status);
        drop(tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = vec![0; 4_096];
                let length = stream.read(&mut bytes).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&bytes[..length]).into_owned();
                let status = answers.load(std::sync::atomic::Ordering::SeqCst);
                let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
                sender.send_modify(|heard| heard.push(request));
            }
        }));
        Self { heard, status, url }
    }

    async fn is_pinged(&self) {
        let mut heard = self.heard.clone();
        let before = heard.borrow_and_update().len();
        let hearing = heard.wait_for(|heard| heard.len() > before);
        assert!(tokio::time::timeout(FAILSAFE, hearing).await.is_ok(), "no ping comes");
    }

    async fn is_not_pinged(&self) {
        let mut heard = self.heard.clone();
        let before = heard.borrow_and_update().len();
        let hearing = heard.wait_for(|heard| heard.len() > before);
        assert!(
            tokio::time::timeout(QUIET, hearing).await.is_err(),
            "a ping comes: {:?}",
            self.heard.borrow()
        );
    }
}

async fn logged(rig: &Rig, text: &str) {
    let reading = async {
        while !rig.log().contains(text) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(FAILSAFE, reading).await.is_ok(), "the log never says {text:?}");
}

/// Somebody outside hears of Horus only while the whole chain works, and the URL is seen nowhere.
#[tokio::test]
async fn a_dead_man_switch_is_pinged_only_while_everything_works() {
    let switch = DeadManSwitch::new().await;
    let folder = tempfile::tempdir().unwrap();
    let environment = vec![
        ("PING_URL".to_owned(), switch.url.clone()),
        ("HORUS_TEST_TROUBLE".to_owned(), folder.path().display().to_string()),
        ("HORUS_LOG".to_owned(), "debug".to_owned()),
    ];
    let daemon = "ping = { url_env = \"PING_URL\", every = \"1s\" }".to_owned();
    let mut rig = rig_with(Options { daemon, environment, ..Options::default() }).await;
    let config = hanger(&rig, "bot", KEYS);
    rig.run(&config).await;
    switch.is_pinged().await;
    switch.is_pinged().await;
    let request = switch.heard.borrow()[0].clone();
    assert!(
        request.starts_with(&format!("POST /ping/{TOKEN}")) && request.contains("works, for"),
        "{request}"
    );

    switch.status.store(503, std::sync::atomic::Ordering::SeqCst);
    logged(&rig, "the dead-man ping could not be sent: status 503").await;
    switch.status.store(200, std::sync::atomic::Ordering::SeqCst);
    logged(&rig, "the dead-man ping is sent again").await;

    // Nothing can be written: everything else works, and that is not enough.
    if let Some(holder) = rig.hold_database().await {
        logged(&rig, "is held back: nothing can be written").await;
        switch.is_not_pinged().await;
        drop(holder);
        switch.is_pinged().await;
    }
    // The loop stands still.
    trouble(&folder, "loop", "block").await;
    switch.is_not_pinged().await;
    rig.kill_horus().await;
    rig.start().await;
    switch.is_pinged().await;

    let said = rig.cli(&["events"]).await.out + &rig.cli(&["status", "--json"]).await.out + &rig.log();
    let said = said + &rig.journal.dump() + &rig.cli(&["doctor", "--json"]).await.out;
    assert!(said.contains("dead-man ping") && !said.contains(TOKEN), "the URL is seen");
    rig.end().await;
}
