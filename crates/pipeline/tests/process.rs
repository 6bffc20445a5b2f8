//! The program as its supervisor sees it: beats, signals, exit codes, faults on purpose, a disk that refuses.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use support::{FAILSAFE, LONG_SLOT, Place, Running, beat_until, get_json, get_within};

fn progress(beat: &serde_json::Value, name: &str) -> u64 {
    beat["progress"][name].as_u64().unwrap()
}

fn stderr_of(output: &std::process::Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_beat_moves_with_the_loop_and_counts_each_stage() {
    let place = Place::new();
    let mut running = place.run(LONG_SLOT, &[]);
    let address = running.address();
    let beat = beat_until(address, |beat| progress(beat, "published") == 1);
    for stage in ["gathered", "drafted", "validated", "staged"] {
        assert_eq!(progress(&beat, stage), 1, "{stage}");
    }
    assert_eq!((progress(&beat, "quarantined"), progress(&beat, "queue")), (0, 0));
    assert_eq!(beat["ready"], true);
    let seq = beat["seq"].as_u64().unwrap();
    beat_until(address, |beat| beat["seq"].as_u64().unwrap() > seq + 1);
    assert_eq!(get_json(address, "/healthz"), serde_json::json!({"status": "ok", "problem": null}));
    let items = get_json(address, "/v1/items");
    assert_eq!(items["items"].as_array().unwrap().len(), 1);
    assert_eq!(items["items"][0]["state"], "published");
    assert_eq!(get_within(address, "/nothing", FAILSAFE).unwrap().0, "HTTP/1.1 404 Not Found");
}

#[test]
fn each_slot_gets_one_publication_and_the_next_topic() {
    let place = Place::new();
    let mut running = place.run("1s", &[]);
    let address = running.address();
    beat_until(address, |beat| progress(beat, "published") >= 3);
    drop(running);
    let names = place.files("content");
    let mut slots: Vec<&str> = names.iter().map(|name| name.split('-').next().unwrap()).collect();
    slots.dedup();
    assert_eq!(slots.len(), names.len(), "one publication in a slot: {names:?}");
    assert_ne!(names[0].split_once('-').unwrap().1, names[1].split_once('-').unwrap().1);
}

#[test]
fn sigterm_ends_it_in_order_and_says_so() {
    let place = Place::new();
    let socket = UnixDatagram::bind(place.path("notify")).unwrap();
    socket.set_read_timeout(Some(FAILSAFE)).unwrap();
    let mut command = place.command("run", LONG_SLOT);
    command.args(["--listen", "127.0.0.1:0"]).env("NOTIFY_SOCKET", place.path("notify"));
    let mut running = Running::start(command);
    let wait_for = |wanted: &str| {
        let mut buffer = [0; 4096];
        loop {
            let length = socket.recv(&mut buffer).unwrap();
            if String::from_utf8_lossy(&buffer[..length]).contains(wanted) {
                return;
            }
        }
    };
    running.address();
    wait_for("READY=1");
    #[expect(clippy::disallowed_methods, reason = "the bound that is tested is wall time")]
    let asked = std::time::Instant::now();
    running.signal("TERM");
    wait_for("STOPPING=1");
    let (status, _) = running.exit();
    assert_eq!(status.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}

#[test]
fn a_hang_on_purpose_silences_the_beat_once() {
    let place = Place::new();
    let mut running = place.run(LONG_SLOT, &["--fault", "hang@300ms,once"]);
    let address = running.address();
    running.wait_for("fault on purpose");
    let error = get_within(address, "/heartbeat", Duration::from_millis(700)).unwrap_err();
    assert!(matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{error}");
    running.kill();
    let mut healed = place.run(LONG_SLOT, &["--fault", "hang@300ms,once"]);
    let address = healed.address();
    // More turns than fit before 300 ms, were the fault to strike again: each waits up to half a second.
    beat_until(address, |beat| beat["seq"].as_u64().unwrap() >= 9);
}

#[test]
fn a_stalled_stage_leaves_loop_and_beat_alive() {
    let place = Place::new();
    let mut running = place.run("1s", &["--fault", "stall-stage=format"]);
    let address = running.address();
    let beat = beat_until(address, |beat| progress(beat, "drafted") >= 2);
    assert_eq!(progress(&beat, "validated"), 0);
    assert!(progress(&beat, "queue") >= 2);
    assert!(place.files("content").is_empty());
}

#[test]
fn a_lie_answers_with_a_tick_that_stands_still() {
    let place = Place::new();
    let mut running = place.run("1s", &["--fault", "lie@1s"]);
    let address = running.address();
    running.wait_for("fault on purpose");
    let seq = get_json(address, "/heartbeat")["seq"].clone();
    assert_ne!(seq, 0);
    for _ in 0..4 {
        std::thread::park_timeout(Duration::from_millis(300));
        assert_eq!(get_json(address, "/heartbeat")["seq"], seq);
    }
}

#[test]
fn a_crash_on_purpose_has_the_agreed_code_and_strikes_once() {
    let place = Place::new();
    let (status, _) = place.run(LONG_SLOT, &["--fault", "crash,once"]).exit();
    assert_eq!(status.code(), Some(42));
    let mut healed = place.run(LONG_SLOT, &["--fault", "crash,once"]);
    healed.wait_for("stage=distribute");
}

#[test]
fn a_slow_start_answers_but_does_not_tick_and_obeys_sigterm() {
    let place = Place::new();
    let mut running = place.run(LONG_SLOT, &["--fault", "slow-start=60s"]);
    let address = running.address();
    running.wait_for("slow start");
    let beat = get_json(address, "/heartbeat");
    assert_eq!((&beat["seq"], &beat["ready"]), (&0.into(), &false.into()));
    running.signal("TERM");
    assert_eq!(running.exit().0.code(), Some(0));
}

#[test]
fn deaf_means_that_sigterm_is_ignored() {
    let place = Place::new();
    let mut running = place.run(LONG_SLOT, &["--fault", "deaf"]);
    let address = running.address();
    running.wait_for("fault on purpose");
    running.signal("TERM");
    running.wait_for("the signal is ignored");
    let seq = get_json(address, "/heartbeat")["seq"].as_u64().unwrap();
    beat_until(address, |beat| beat["seq"].as_u64().unwrap() > seq);
    running.kill();
}

#[test]
fn a_folder_that_refuses_holds_the_item_and_the_process_lives() {
    let place = Place::new();
    std::fs::File::create(place.path("out")).unwrap();
    let mut running = place.run(LONG_SLOT, &[]);
    let address = running.address();
    let beat =
        beat_until(address, |beat| beat["status"].as_str().unwrap_or("").starts_with("retrying: cannot"));
    assert_eq!((progress(&beat, "staged"), progress(&beat, "queue")), (1, 1));
    let seq = beat["seq"].as_u64().unwrap();
    beat_until(address, |beat| beat["seq"].as_u64().unwrap() > seq);
    assert_eq!(get_json(address, "/healthz")["status"], "degraded");
    std::fs::remove_file(place.path("out")).unwrap();
    running.wait_for("recovered");
    let beat = beat_until(address, |beat| progress(beat, "published") == 1);
    assert!(progress(&beat, "retries") >= 1);
    assert_eq!(place.files("content").len(), 1);
}

#[test]
fn a_state_directory_that_refuses_is_waited_for() {
    let place = Place::new();
    std::fs::File::create(place.path("state")).unwrap();
    let mut running = place.run(LONG_SLOT, &[]);
    let address = running.address();
    let beat =
        beat_until(address, |beat| beat["status"].as_str().unwrap_or("").starts_with("retrying: cannot"));
    assert_eq!(beat["ready"], false);
    std::fs::remove_file(place.path("state")).unwrap();
    beat_until(address, |beat| progress(beat, "published") == 1);
}

#[test]
fn live_is_refused_and_so_is_live_with_a_fault() {
    let place = Place::new();
    for (arguments, text) in [
        (vec!["--live"], "--live does not exist"),
        (vec!["--live", "--fault", "hang@20s"], "a fault on purpose never goes live"),
    ] {
        let output = place.command("run", LONG_SLOT).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(78));
        assert!(stderr_of(&output).contains(text), "{}", stderr_of(&output));
    }
    assert!(!place.path("state").exists(), "nothing was touched");
}

#[test]
fn wrong_usage_and_wrong_topics_have_their_own_codes() {
    let place = Place::new();
    for (arguments, text) in [
        (["--fault", "hnag@20s"], "no fault is called `hnag`"),
        (["--fault", "stall-stage=publish"], "no stage is called `publish`"),
        (["--every", "30"], "write it with a unit"),
        (["--listen", "nowhere"], "invalid value 'nowhere'"),
    ] {
        let mut command = place.command("run", LONG_SLOT);
        if arguments[0] == "--every" {
            command = place.command("run", arguments[1]);
        } else {
            command.args(arguments);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{}", stderr_of(&output));
        assert!(stderr_of(&output).contains(text), "{}", stderr_of(&output));
    }
    let output = place.command("once", LONG_SLOT).args(["--topics", "missing.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(stderr_of(&output).contains("cannot read the topics file missing.toml: No such file"));
}

#[test]
fn two_services_on_one_place_or_one_port_are_refused() {
    let place = Place::new();
    let mut running = place.run(LONG_SLOT, &[]);
    let address = running.address();
    running.wait_for("stage=distribute");
    let (status, events) = place.run(LONG_SLOT, &[]).exit();
    assert_eq!(status.code(), Some(1));
    assert!(events.iter().any(|line| line.contains("another process holds")), "{events:?}");
    let elsewhere = Place::new();
    let output =
        elsewhere.command("run", LONG_SLOT).args(["--listen", &address.to_string()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr_of(&output).contains("cannot listen on"), "{}", stderr_of(&output));
}

#[test]
fn once_prints_the_file_and_items_tells_the_story() {
    let place = Place::new();
    let empty = place.command("items", LONG_SLOT).output().unwrap();
    assert_eq!(empty.status.code(), Some(1));
    assert!(stderr_of(&empty).contains("there is no journal in state"));
    let output = place.once();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(place.path(printed.trim_end()).is_file(), "{printed}");
    let table = String::from_utf8(place.command("items", LONG_SLOT).output().unwrap().stdout).unwrap();
    assert!(table.contains("published    A process that lives is not a process that works"), "{table}");
    let json = place.command("items", LONG_SLOT).arg("--json").output().unwrap().stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((&json["schema"], &json["items"][0]["state"]), (&1.into(), &"published".into()));
}
