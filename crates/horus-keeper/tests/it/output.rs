//! Output: nothing lost, no line split, nobody blocked.

use crate::support::{Place, exe, name, until};
use horus_keeper::logs::{Follower, rotated, tail};
use horus_keeper::protocol::Event;
use horus_sys::process;

fn all_files(place: &Place, slot: &str) -> Vec<String> {
    (0..=100).rev().filter_map(|age| std::fs::read_to_string(rotated(&place.log(slot), age)).ok()).collect()
}

#[test]
fn rotation_splits_and_loses_no_line_and_a_follower_sees_them_all() {
    const LINES: u64 = 60_000;
    let place = Place::new();
    let mut client = place.attach();
    let mut follower = Follower::from_end(&place.log("bot"));
    let mut spec = place.spec("bot", 1, &[exe().to_str().unwrap(), "lines", &LINES.to_string(), "4099"]);
    spec.log.max_bytes = 64 * 1024;
    spec.log.keep = 100;
    let process = client.run(spec);
    let mut followed = Vec::new();
    while process::is_alive(&process) {
        followed.extend(follower.read_new().unwrap());
    }
    client.exited("bot");
    loop {
        let bytes = follower.read_new().unwrap();
        if bytes.is_empty() {
            break;
        }
        followed.extend(bytes);
    }
    let files = all_files(&place, "bot");
    assert!(files.len() > 20, "{} files", files.len());
    for file in &files {
        assert!(file.is_empty() || file.ends_with('\n'), "a file ends inside a line");
        assert!(file.len() < 64 * 1024 + 200, "{} bytes", file.len());
    }
    let joined = files.concat();
    let mut count = 0;
    for (number, line) in joined.lines().enumerate() {
        assert!(line.starts_with(&format!("line {number} ")), "{number}: {line}");
        count += 1;
    }
    assert_eq!(count, LINES);
    assert_eq!(follower.gaps(), 0);
    assert!(followed == joined.as_bytes(), "the follower saw {} of {} bytes", followed.len(), joined.len());
    assert_eq!(tail(&place.log("bot"), 1, 1_000), [joined.lines().last().unwrap()]);
}

#[test]
fn a_hundred_megabytes_without_newline_are_cut_counted_and_bounded() {
    let place = Place::new();
    let mut client = place.attach();
    let mut spec = place.spec("bot", 1, &[exe().to_str().unwrap(), "monster", "100000000"]);
    spec.log.max_bytes = 1 << 20;
    spec.log.keep = 2;
    client.run(spec);
    client.exited("bot");
    const SPLITS: u64 = 100_000_000 / (2 << 20);
    client.wait("all cuts", |event| matches!(event, Event::LineSplit { total: SPLITS, .. }));
    let files = all_files(&place, "bot");
    assert_eq!(files.len(), 3);
    assert!(files.iter().all(|file| file.len() <= (2 << 20) + 8));
    assert_eq!(tail(&place.log("bot"), 1, 100), ["the end"]);
}

#[test]
fn a_flood_delays_nobody_else() {
    let place = Place::new();
    let mut client = place.attach();
    let mut flood = place.spec("flood", 1, &["yes"]);
    flood.log.max_bytes = 1 << 20;
    client.run(flood);
    for generation in 1..=20 {
        client.run(place.shell("bot", generation, "echo here"));
        client.exited("bot");
    }
    assert_eq!(place.log_text("bot"), "here\n".repeat(20));
    client.kill_tree("flood", 1);
    let size: usize = all_files(&place, "flood").iter().map(String::len).sum();
    assert!(size > 100_000 && size < 5 << 20, "{size}");
}

#[test]
fn a_disk_that_refuses_blocks_nobody_and_is_told() {
    let place = Place::new();
    let mut client = place.attach();
    // A file where a directory should be refuses root as well.
    std::fs::write(place.path("logs"), "").unwrap();
    let mut spec = place.shell(
        "bot",
        1,
        "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done; exec sleep 1000",
    );
    spec.log.path = place.path("logs/bot.log");
    let process = client.run(spec);
    let dropped = client.wait("OutputDropped", |event| matches!(event, Event::OutputDropped { .. }));
    assert!(matches!(dropped, Event::OutputDropped { bytes, .. } if bytes > 0));
    // More than a pipe holds is printed, so reaching its sleep proves that it was not blocked.
    until("the sleep", || {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", process.pid)).unwrap();
        (name.trim() == "sleep").then_some(())
    });
    std::fs::remove_file(place.path("logs")).unwrap();
    let resumed = client.wait("OutputResumed", |event| matches!(event, Event::OutputResumed { .. }));
    assert_eq!(resumed, Event::OutputResumed { slot: name("bot"), dropped: 318_890 });
    let text = std::fs::read_to_string(place.path("logs/bot.log")).unwrap();
    assert!(text.starts_with("[horus] 318890 bytes of output were dropped: "), "{text}");
    client.kill_tree("bot", 1);
}

#[test]
fn two_slots_cannot_share_a_log() {
    let place = Place::new();
    let mut client = place.attach();
    client.run(place.shell("bot", 1, "exit 0"));
    let mut spec = place.shell("twin", 1, "exit 0");
    spec.log.path = place.log("bot");
    client.start(spec);
    client.wait(
        "refusal",
        |event| matches!(event, Event::StartFailed { error, .. } if error == "slot bot has the same log"),
    );
}

#[test]
fn strays_may_go_on_printing() {
    let place = Place::new();
    let mut client = place.attach();
    client.run(place.shell("bot", 1, "(sleep 0.3; echo late) & echo early"));
    client.exited("bot");
    until("late", || (place.log_text("bot") == "early\nlate\n").then_some(()));
}
