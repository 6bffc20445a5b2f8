//! What the machine can refuse: room, rights, processes. Horus goes on, says so, and blames nobody.

use std::path::{Path, PathBuf};
use std::time::Duration;

use horus_core::event::What;
use horus_core::verdict::Verdict;
use horus_sys::files::{Durability, write_atomic};
use horus_sys::process::is_alive;
use horus_sys::signal::Signal;
use horus_tests::{FAILSAFE, Options, Rig, skipped};
use tokio::process::Command;

use crate::{hanger, is_recovery, is_start, rig, rig_with, service, subject, triggers};

const KEYS: &str = "deadline = \"5s\"\n";

/// A small disk in memory, mounted for as long as this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`: mounting takes rights that we do not have.
    async fn mount(at: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let options = format!("size={size},mode=700");
        let mounted = tool("mount", &["-t", "tmpfs", "-o", &options, "horus-test", path(&at)]).await;
        mounted.then(|| Self(at))
    }

    async fn remount(&self, how: &str) {
        assert!(tool("mount", &["-o", &format!("remount,{how}"), path(&self.0)]).await, "remount,{how}");
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let file = self.0.join("filler");
        let mut filler = std::fs::File::create(&file).unwrap();
        let block = [7_u8; 4096];
        while std::io::Write::write_all(&mut filler, &block).is_ok() {}
        while std::io::Write::write_all(&mut filler, &block[..1]).is_ok() {}
        file
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        #[expect(clippy::disallowed_methods, reason = "a tool that ends at once")]
        let unmounting = std::process::Command::new("umount").args(["-l", path(&self.0)]).status();
        drop(unmounting);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs a tool of the system; false if it is not here or says no.
async fn tool(name: &str, words: &[&str]) -> bool {
    #[expect(clippy::disallowed_methods, reason = "a tool that ends at once")]
    let output = Command::new(name).args(words).output().await;
    output.is_ok_and(|output| output.status.success())
}

/// Waits until the daemon's own log holds this text.
async fn logged(rig: &Rig, text: &str) {
    let reading = async {
        while !rig.log().contains(text) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(FAILSAFE, reading).await.is_ok(), "the log never says {text:?}");
}

/// The disk of the state directory is read-only when Horus starts: services run, a person is told, and when it can be written
/// everything is as usual.
#[tokio::test]
async fn a_read_only_state_directory_keeps_nothing_from_running() {
    let mut rig = rig().await;
    let config = hanger(&rig, "bot", KEYS);
    let Some(disk) = SmallDisk::mount(rig.room.path("s"), "8m").await else {
        return skipped("read-only state directory", "mounting takes root");
    };
    disk.remount("ro").await;
    rig.write(&config);
    rig.launch();
    let status =
        rig.status_until("bot", "runs", |status| status.pid.is_some() && status.phase == "running").await;
    rig.told("cannot write its records").await;
    logged(&rig, "state_directory").await;

    disk.remount("rw").await;
    let journal = rig.first("bot", "ready", |what| matches!(what, What::BecameReady { .. }));
    journal.await;
    assert_eq!(rig.status("bot").await.pid, status.pid, "nobody was restarted for it");
    assert_eq!(rig.count("bot", is_start), 1, "what happened meanwhile is in the journal, once");
    rig.end().await;
    drop(disk);
}

/// The disk of state and logs is full: nothing blocks, what is healed is healed, and it ends when there is room.
#[tokio::test]
async fn a_full_disk_of_state_and_logs_stops_nobody() {
    let mut rig = rig().await;
    let config = hanger(&rig, "bot", KEYS);
    let Some(disk) = SmallDisk::mount(rig.room.path("s"), "4m").await else {
        return skipped("full disk", "mounting takes root");
    };
    rig.run(&config).await;
    let child = rig.ready("bot").await;
    let filler = disk.fill();
    // It writes to a full disk and is not held up by it; it dies, and is started again, all without a journal.
    rig.signal(&child, Signal::KILL);
    rig.told("cannot write its records").await;
    let next =
        rig.status_until("bot", "up again", |status| status.pid.is_some_and(|pid| pid != child.pid)).await;

    let last = rig.journal.last();
    std::fs::remove_file(filler).unwrap();
    rig.after(last, "bot", "recovery", is_recovery).await;
    assert_eq!(rig.status("bot").await.pid, next.pid);
    assert_eq!(rig.count("bot", is_start), 2, "each start is in the journal, once");
    rig.end().await;
    drop(disk);
}

/// A database that cannot be used is kept aside, and a person is told that a history has ended.
#[tokio::test]
async fn a_damaged_database_is_kept_and_told_of() {
    let mut rig = rig().await;
    let config = hanger(&rig, "bot", KEYS);
    rig.run(&config).await;
    let child = rig.ready("bot").await;
    rig.kill_horus().await;
    for old in ["horus.db-wal", "horus.db-shm"] {
        let _ = std::fs::remove_file(rig.room.path("s").join(old));
    }
    write_atomic(&rig.room.path("s/horus.db"), b"no database", Durability::ThisBoot).unwrap();
    rig.launch();
    rig.told("records begin anew; the old ones are kept").await;
    let kept = |what: &What| matches!(what, What::Horus { text } if text.contains("horus.db.corrupt-"));
    rig.first("horus", "where it is kept", kept).await;
    let incidents = rig.cli(&["incidents"]).await.out;
    assert!(incidents.contains("horus: "), "{incidents}");
    assert_eq!(rig.process("bot").await, child, "nothing was started anew for it");
    rig.end().await;
}

/// A start that the kernel refuses (no process left) is no fault of the program: it is told, and tried again.
#[tokio::test]
async fn without_a_process_left_nothing_starts_and_nobody_is_killed() {
    let group = PathBuf::from(format!("/sys/fs/cgroup/pids/horus-test-{}", std::process::id()));
    if std::fs::create_dir(&group).is_err() || !group.join("pids.max").exists() {
        return skipped("no process left", "no pids controller that we may use");
    }
    let mut rig = rig().await;
    let config = hanger(&rig, "one", KEYS) + &hanger(&rig, "two", &format!("{KEYS}autostart = false\n"));
    rig.run(&config).await;
    let one = rig.ready("one").await;
    let keeper = rig.keeper();
    set(&group.join("cgroup.procs"), &keeper.pid.to_string());
    set(&group.join("pids.max"), "0");

    let last = rig.journal.last();
    let starting = rig.cli(&["start", "two"]).await;
    assert_ne!(starting.code, 0, "{}{}", starting.out, starting.err);
    let refused = rig.after(last, "two", "refusal", |what| matches!(what, What::StartFailed { .. })).await;
    assert!(format!("{:?}", refused.event.what).contains("temporarily unavailable"), "{refused:?}");
    assert!(is_alive(&one));
    rig.assert_never_signalled("one");
    rig.assert_never_signalled("two");

    set(&group.join("pids.max"), "max");
    rig.ready("two").await;
    rig.end().await;
    let _ = std::fs::remove_dir(group);
}

fn set(file: &Path, text: &str) {
    let mut opened = std::fs::File::options().write(true).open(file).unwrap();
    std::io::Write::write_all(&mut opened, text.as_bytes()).unwrap();
}

/// What Horus needs of the machine is asked before it is needed.
#[tokio::test]
async fn the_doctor_names_what_is_wrong_and_what_to_do() {
    let rig = rig().await;
    rig.write("");
    let well = rig.cli(&["doctor", "--json"]).await;
    assert_eq!(well.code, 0, "{}{}", well.out, well.err);
    let report: serde_json::Value = serde_json::from_str(&well.out).unwrap();
    let levels: Vec<&str> =
        report["checks"].as_array().unwrap().iter().map(|check| check["level"].as_str().unwrap()).collect();
    assert!(levels.len() > 6 && !levels.contains(&"fail"), "{report:#}");
    assert!(!rig.room.path("s").exists(), "a look changes nothing");

    let daemon = "host = \"mini\"\n[daemon.ping]\nurl_env = \"NO_SUCH_VARIABLE\"\n".to_owned();
    let sick =
        rig_with(Options { daemon: daemon.replace("host = \"mini\"\n", ""), ..Options::default() }).await;
    sick.write("");
    let said = sick.cli(&["doctor"]).await;
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    assert!(said.out.contains("FAIL") && said.out.contains("NO_SUCH_VARIABLE"), "{}", said.out);
    assert!(said.out.contains("hint: start Horus with `NO_SUCH_VARIABLE` set"), "{}", said.out);
}

/// Somebody removes the run directory and the sockets of the services: all of it is made anew, beats that had nowhere to go are heard
/// again, and the next Horus finds everybody. Nobody is touched.
#[tokio::test]
async fn invariant_g6_a_run_directory_that_is_taken_away_costs_no_child() {
    let mut rig = rig().await;
    let triggers = triggers(&rig, "talker");
    let command = [subject!("notifier"), "--triggers", &triggers];
    let talker = service("talker", &command, "heartbeat.notify = true\ndeadline = \"20s\"\n");
    let config = hanger(&rig, "bot", KEYS) + &talker;
    rig.run(&config).await;
    let (bot, talker) = (rig.ready("bot").await, rig.ready("talker").await);
    let (horus, keeper) = (rig.horus(), rig.keeper());

    let last = rig.journal.last();
    for directory in ["r", "r-notify"] {
        std::fs::remove_dir_all(rig.room.path(directory)).unwrap();
    }
    let anew = |what: &What| matches!(what, What::Horus { text } if text.starts_with("upgraded"));
    rig.after(last, "horus", "a new beginning", anew).await;
    assert_eq!((rig.horus(), rig.keeper()), (horus, keeper));
    for (name, process) in [("bot", bot), ("talker", talker)] {
        rig.status_until(name, "beats", |now| {
            now.verdict == Verdict::Healthy && now.pid == Some(process.pid)
        })
        .await;
    }
    let told = rig.journal.all();
    let told = told
        .iter()
        .any(|event| matches!(&event.event.what, What::Horus { text } if text.contains("taken away")));
    assert!(told, "a person can read why");

    // Both die, and their successors find everybody.
    let last = rig.journal.last();
    rig.signal(&keeper, Signal::KILL);
    rig.kill_horus().await;
    rig.start().await;
    for (name, process) in [("bot", bot), ("talker", talker)] {
        rig.after(last, name, "adoption", |what| matches!(what, What::Adopted { .. })).await;
        assert_eq!(rig.process(name).await, process);
        assert_eq!(rig.count(name, is_start), 1);
        rig.assert_never_signalled(name);
    }
    rig.end().await;
}

/// Somebody removes the state directory: what is remembered is written anew, so a hold outlives that and the death of Horus.
#[tokio::test]
async fn invariant_g10_a_hold_outlives_a_state_directory_that_is_taken_away() {
    let mut rig = rig().await;
    let config = hanger(&rig, "bot", KEYS);
    rig.run(&config).await;
    let child = rig.ready("bot").await;
    assert_eq!(rig.cli(&["hold", "bot", "--reason", "my own test"]).await.code, 0);

    let last = rig.journal.last();
    std::fs::remove_dir_all(rig.room.path("s")).unwrap();
    let anew = |what: &What| matches!(what, What::Horus { text } if text.starts_with("upgraded"));
    rig.after(last, "horus", "a new beginning", anew).await;
    rig.kill_horus().await;
    rig.start().await;
    let status = rig.status_until("bot", "is watched", |now| now.pid == Some(child.pid)).await;
    assert_eq!(status.hold.map(|hold| hold.reason), Some("my own test".to_owned()));
    assert_eq!(rig.count("bot", is_start), 1, "the journal of before is there");
    rig.end().await;
}

/// A limit on open files that is far too low for so many services: some of them are not started and a person reads why, nobody is
/// started twice, and Horus and its keeper go on being reached.
#[tokio::test]
async fn with_too_few_descriptors_horus_still_answers_and_its_keeper_is_found() {
    const SERVICES: usize = 30;
    let mut rig = rig().await;
    let names: Vec<String> = (0..SERVICES).map(|number| format!("s{number:02}")).collect();
    let config: String = names.iter().map(|name| service(name, &["sleep", "1000"], "")).collect();
    rig.launch_by(["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"].map(String::from).to_vec());
    rig.run(&config).await;
    rig.first("s00", "ready", |what| matches!(what, What::BecameReady { .. })).await;
    let refusal =
        |what: &What| matches!(what, What::StartFailed { error, .. } if error.contains("descriptors"));
    // Starts run side by side: whom it meets is not said.
    let refused = rig.journal.wait(0, FAILSAFE, |event| refusal(&event.event.what)).await;
    assert!(refused.is_some(), "nobody was refused");
    let said = rig.cli(&["status"]).await;
    assert!(said.out.contains("s00") && said.out.contains("s29"), "{}{}", said.out, said.err);

    // And the next Horus finds the keeper and everybody who runs.
    let (keeper, child) = (rig.keeper(), rig.process("s00").await);
    let last = rig.journal.last();
    rig.kill_horus().await;
    rig.start().await;
    rig.after(last, "s00", "adoption", |what| matches!(what, What::Adopted { .. })).await;
    assert_eq!((rig.keeper(), rig.process("s00").await), (keeper, child));
    let lines = rig.log().lines().count();
    assert!(lines < 40 * SERVICES, "{lines} lines in the log");
    rig.end().await;
}
