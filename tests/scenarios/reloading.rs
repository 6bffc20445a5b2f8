//! G12: bad configuration changes nothing that runs; a good one changes what differs, and nothing else.

use horus_alert::fake::Fake;
use horus_core::event::{DeathCause, What};
use horus_sys::files::{Durability, write_atomic};
use horus_sys::process::is_alive;
use horus_sys::signal::{Signal, send};
use horus_tests::Options;

use crate::{hanger, is_exit, rig, rig_with};

const KEYS: &str = "deadline = \"2s\"\n";

fn is_loaded(what: &What) -> bool {
    matches!(what, What::PlanLoaded { .. })
}

#[tokio::test]
async fn invariant_g12_a_bad_file_changes_nothing_and_all_its_faults_are_told() {
    let mut rig = rig().await;
    let good = hanger(&rig, "one", KEYS) + &hanger(&rig, "two", KEYS);
    rig.run(&good).await;
    let before = (rig.ready("one").await, rig.ready("two").await);
    let plans = rig.count("horus", is_loaded);
    let bad = good.replace("[service.two]", "[service.two]\nafter = [\"nobody\"]\nstrange = true")
        + "[monitor.page]\ncheck.http = { url = \"gopher://x\" }\n";
    // The rewrite is seen by the file watch as well: whoever reads it first, nothing may change.
    rig.write(&bad);
    let reload = rig.cli(&["reload"]).await;
    assert_eq!(reload.code, 78, "{}{}", reload.out, reload.err);
    let text = format!("{}{}", reload.out, reload.err);
    for fault in ["nobody", "strange", "gopher"] {
        assert!(text.contains(fault), "`{fault}` is not told:\n{text}");
    }
    assert!(text.contains("watchdog.toml:"), "file and line: {text}");
    rig.first(
        "horus",
        "word about the file",
        |what| matches!(what, What::Horus { text } if text.contains("nothing was changed")),
    )
    .await;
    let status = rig.cli(&["status"]).await;
    assert_eq!(status.code, 0, "a broken file keeps nobody from looking: {}", status.err);
    assert!(!rig.client.health().await.unwrap().healthy, "the daemon says that its file is broken");
    assert_eq!((rig.process("one").await, rig.process("two").await), before);
    assert_eq!(rig.count("horus", is_loaded), plans, "no plan came into force");
    rig.write(&good);
    let reload = rig.cli(&["reload"]).await;
    assert_eq!(reload.code, 0, "{}{}", reload.out, reload.err);
    assert!(rig.client.health().await.unwrap().healthy);
    assert_eq!((rig.process("one").await, rig.process("two").await), before);
    rig.end().await;
}

#[tokio::test]
async fn invariant_g12_only_what_differs_is_changed() {
    let mut rig = rig().await;
    let (one, two, three) =
        (hanger(&rig, "one", KEYS), hanger(&rig, "two", KEYS), hanger(&rig, "three", KEYS));
    rig.run(&format!("{one}{two}")).await;
    let (first, second) = (rig.ready("one").await, rig.ready("two").await);

    // Another policy touches nobody. `--dry-run` says so, and does nothing.
    let policy = two.replace("deadline = \"2s\"", "deadline = \"7s\"");
    rig.write(&format!("{one}{policy}"));
    let dry = rig.cli(&["reload", "--dry-run"]).await;
    assert_eq!(dry.code, 0, "{}{}", dry.out, dry.err);
    assert!(dry.out.contains("two") && !dry.out.contains("one"), "{}", dry.out);
    let reload = rig.cli(&["reload"]).await;
    assert_eq!(reload.code, 0, "{}{}", reload.out, reload.err);
    assert_eq!(rig.status("two").await.deadline_ms, 7_000);
    assert_eq!((rig.process("one").await, rig.process("two").await), (first, second));

    // Another command restarts this service alone, by SIGHUP.
    let last = rig.journal.last();
    let command = policy.replace("\"--talk\"", "\"--talk\",\"--again\"");
    rig.write(&format!("{one}{command}"));
    rig.signal(&rig.horus(), Signal::HUP);
    let exit = rig.after(last, "two", "planned exit", is_exit).await;
    assert!(
        matches!(exit.event.what, What::Exited { cause: DeathCause::Planned, .. }),
        "{:?}",
        exit.event.what
    );
    let new = rig.ready_after(exit.seq, "two").await;
    assert_ne!(new, second);
    assert_eq!(rig.process("one").await, first);

    // The file alone, written beside and renamed as editors do: one service more, one less.
    let last = rig.journal.last();
    rig.write(&format!("{one}{three}"));
    rig.after(last, "horus", "plan", is_loaded).await;
    rig.ready_after(last, "three").await;
    rig.gone(&new).await;
    assert_eq!(rig.process("one").await, first);
    assert!(is_alive(&first));
    assert_eq!(rig.sinks.first_lines(), Vec::<String>::new(), "what a person changed is no news");
    rig.end().await;
}

fn is_planned(what: &What) -> bool {
    matches!(what, What::Exited { cause: DeathCause::Planned, .. })
}

#[tokio::test]
async fn a_rotated_secret_is_taken_from_its_file_and_restarts_whoever_has_it_and_nobody_else() {
    let mut rig = rig().await;
    let secrets = rig.room.path("bot.env");
    let say = |value: &str| {
        write_atomic(&secrets, format!("TOKEN={value}\n").as_bytes(), Durability::ThisBoot).unwrap()
    };
    say("first");
    let keys = format!("{KEYS}env_file = \"{}\"\n", secrets.display());
    let one = hanger(&rig, "one", &keys).replace("\"--talk\"", "\"--talk\",\"--say-variable\",\"TOKEN\"");
    rig.run(&format!("{one}{}", hanger(&rig, "two", KEYS))).await;
    let (first, other) = (rig.ready("one").await, rig.ready("two").await);

    let last = rig.journal.last();
    say("second");
    let exit = rig.after(last, "one", "planned exit", is_planned).await;
    assert_ne!(rig.ready_after(exit.seq, "one").await, first);
    assert_eq!(rig.process("two").await, other);
    let output = rig.output("one");
    assert!(output.contains("TOKEN is first") && output.contains("TOKEN is second"), "{output}");

    // Gone: that is a fault, which is told, and nobody is touched. And back.
    let (last, before) = (rig.journal.last(), rig.process("one").await);
    std::fs::remove_file(&secrets).unwrap();
    let refused = |what: &What| matches!(what, What::Horus { text } if text.contains("nothing was changed"));
    rig.after(last, "horus", "word about the file", refused).await;
    assert!(!rig.client.health().await.unwrap().healthy);
    say("second");
    let healed = async {
        while !rig.client.health().await.unwrap().healthy {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(horus_tests::FAILSAFE, healed).await.is_ok(), "the fault is not taken back");
    assert_eq!((rig.process("one").await, rig.process("two").await), (before, other));
    rig.end().await;
}

#[tokio::test]
async fn the_file_of_a_webhook_is_followed_so_an_address_can_be_changed() {
    let sinks = "[sink.discord]\ndiscord = { url_env = \"DISCORD_URL\" }\nseverity = \"info\"\n\
                 [sink.slack]\nslack = { url_file = \"slack.url\" }\nseverity = \"info\"\n";
    let mut rig = rig_with(Options { sinks: Some(sinks.into()), ..Options::default() }).await;
    let former = Fake::start().await.unwrap();
    let file = rig.room.path("slack.url");
    let say = |url: String| write_atomic(&file, url.as_bytes(), Durability::ThisBoot).unwrap();
    say(former.slack_url());
    rig.run(&hanger(&rig, "bot", KEYS)).await;
    let child = rig.ready("bot").await;

    let last = rig.journal.last();
    say(rig.sinks.slack.slack_url());
    rig.after(last, "horus", "the plan with the new address", is_loaded).await;
    assert_eq!(rig.process("bot").await, child, "its programs have nothing to do with it");
    send(&child, Signal::KILL).unwrap();
    rig.told("bot ended by itself").await;
    assert!(former.accepted().is_empty(), "something went to the former address");
    rig.end().await;
}

/// As an orchestrator puts a configuration into its place: the file is a link into a folder that is a link, and that one is
/// exchanged. Between two of those the file is not there, then it is half of one.
#[tokio::test]
async fn a_file_behind_links_that_vanishes_or_is_half_written_is_followed_with_patience() {
    let mut rig = rig().await;
    let (one, two) = (hanger(&rig, "one", KEYS), hanger(&rig, "two", KEYS));
    rig.run(&one).await;
    let first = rig.ready("one").await;
    rig.write(&format!("{one}{two}"));
    let second_text = std::fs::read_to_string(rig.config()).unwrap();
    rig.ready("two").await;

    let (config, room) = (rig.config(), rig.room.path("v1"));
    let put = |folder: &std::path::Path, text: &str| {
        std::fs::create_dir_all(folder).unwrap();
        write_atomic(&folder.join("watchdog.toml"), text.as_bytes(), Durability::ThisBoot).unwrap();
    };
    put(&room, &second_text);
    let data = rig.room.path("..data");
    std::os::unix::fs::symlink(&room, &data).unwrap();
    // Gone for longer than two looks: nothing is stopped for that.
    std::fs::remove_file(&config).unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    std::os::unix::fs::symlink(data.join("watchdog.toml"), &config).unwrap();

    let last = rig.journal.last();
    let next = rig.room.path("v2");
    put(&next, &second_text.replace("deadline = \"2s\"", "deadline = \"7s\""));
    let exchange = |to: &std::path::Path| {
        let link = rig.room.path("..new");
        std::os::unix::fs::symlink(to, &link).unwrap();
        std::fs::rename(&link, &data).unwrap();
    };
    exchange(&next);
    rig.after(last, "horus", "plan", is_loaded).await;
    assert_eq!(rig.status("one").await.deadline_ms, 7_000);

    let last = rig.journal.last();
    let half = rig.room.path("v3");
    put(&half, &second_text[..second_text.len() - 10]);
    exchange(&half);
    let refused = |what: &What| matches!(what, What::Horus { text } if text.contains("nothing was changed"));
    rig.after(last, "horus", "word about the file", refused).await;
    exchange(&room);
    rig.after(last, "horus", "plan", is_loaded).await;
    assert_eq!(rig.status("one").await.deadline_ms, 2_000);
    assert_eq!(rig.process("one").await, first);
    assert!(is_alive(&first));
    rig.end().await;
}
