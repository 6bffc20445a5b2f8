//! Limits of a whole tree: in force or not is told as it is, changed in place, and an end for want of memory is named.
//!
//! The groups are plain files here: that the kernel keeps its limits is shown by `tests/machine/limits.sh`.

use horus_core::event::{DeathCause, What};
use horus_core::observation::Exit;
use horus_core::tree::TreeLimit;
use horus_sys::files::{Durability, write_atomic};
use horus_sys::process::is_alive;
use horus_sys::signal::Signal;
use horus_tests::{Options, Rig};

use crate::{is_exit, is_start, rig, rig_with, service};

const SLEEP: [&str; 2] = ["sleep", "1000"];

/// A rig whose services have groups that take limits of memory, and of nothing else.
async fn rig_with_groups(services: &[&str]) -> Rig {
    let rig = rig_with(Options { daemon: "cgroup = \"groups\"".into(), ..Options::default() }).await;
    write(&rig, "groups/cgroup.procs", "");
    write(&rig, "groups/cgroup.subtree_control", "");
    for service in services {
        let files = [("cgroup.procs", ""), ("cgroup.events", "populated 0\n"), ("memory.max", "max\n")];
        for (file, content) in files {
            write(&rig, &format!("groups/slot-{service}/{file}"), content);
        }
    }
    rig
}

fn write(rig: &Rig, path: &str, text: &str) {
    let path = rig.room.path(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    write_atomic(&path, text.as_bytes(), Durability::ThisBoot).unwrap();
}

fn refusals(rig: &Rig) -> usize {
    rig.count("horus", |what| matches!(what, What::Horus { text } if text.contains("is not enforced")))
}

#[tokio::test]
async fn a_limit_that_nobody_keeps_stops_nobody_and_is_told() {
    let mut rig = rig().await;
    let limited = |limits: &str| service("bot", &SLEEP, &format!("limits.tree = {{ {limits} }}"));
    rig.run(&limited("memory = \"64MiB\", tasks = 9")).await;
    let status = rig.status_until("bot", "told", |status| {
        status.tree_limits.iter().all(|limit| limit.enforced.is_some())
    });
    let status = status.await;
    let of: Vec<_> = status.tree_limits.iter().map(|limit| (limit.limit, limit.enforced)).collect();
    assert_eq!(of, [(TreeLimit::Memory, Some(false)), (TreeLimit::Tasks, Some(false))]);
    let bot = rig.process("bot").await;
    let shown = rig.cli(&["status", "bot"]).await;
    assert!(shown.out.contains("64 MiB, NOT enforced: it has no control group"), "{}", shown.out);
    let json = rig.cli(&["status", "bot", "--json"]).await;
    assert!(
        json.out.contains("\"enforced\": false") || json.out.contains("\"enforced\":false"),
        "{}",
        json.out
    );
    assert_eq!(refusals(&rig), 2, "once for each");

    // Another start says nothing new.
    let last = rig.journal.last();
    rig.signal(&bot, Signal::KILL);
    let exit = rig.after(last, "bot", "exit", is_exit).await;
    assert!(matches!(exit.event.what, What::Exited { exit: Exit::Signal(9), .. }), "unknown stays unknown");
    let bot = rig.ready_after(exit.seq, "bot").await;
    rig.status_until("bot", "told again", |status| status.tree_limits.iter().all(|l| l.enforced.is_some()))
        .await;
    assert_eq!(refusals(&rig), 2);

    // A change touches nobody.
    let starts = rig.count("bot", is_start);
    rig.write(&limited("memory = \"128MiB\""));
    let dry = rig.cli(&["reload", "--dry-run"]).await;
    assert!(dry.out.contains("bot: takes effect at once (limits.tree)"), "{}{}", dry.out, dry.err);
    assert_eq!(rig.cli(&["reload"]).await.code, 0);
    let status = rig.status_until("bot", "changed", |status| status.tree_limits.len() == 1).await;
    assert_eq!(status.tree_limits[0].value, "128 MiB");
    assert_eq!((rig.process("bot").await, rig.count("bot", is_start)), (bot, starts));
    assert!(is_alive(&bot));
    rig.end().await;
}

#[tokio::test]
async fn a_limit_is_changed_in_place_and_by_a_reload_that_nobody_saw() {
    let mut rig = rig_with_groups(&["bot"]).await;
    let limited = |limit: &str| service("bot", &SLEEP, &format!("limits.tree.memory = \"{limit}\""));
    let file = rig.room.path("groups/slot-bot/memory.max");
    // A plain file keeps what stood behind a shorter value: all of these have nine digits.
    let kept = || std::fs::read_to_string(&file).unwrap().trim().to_owned();
    rig.run(&limited("100MiB")).await;
    let in_force = |value: &'static str| {
        move |status: &horus_core::status::ServiceStatus| {
            status.tree_limits.iter().any(|limit| limit.enforced == Some(true) && limit.value == value)
        }
    };
    rig.status_until("bot", "in force", in_force("100 MiB")).await;
    let bot = rig.process("bot").await;
    rig.write(&limited("200MiB"));
    assert_eq!(rig.cli(&["reload"]).await.code, 0);
    rig.status_until("bot", "in force", in_force("200 MiB")).await;
    assert_eq!(kept(), (200_u64 << 20).to_string());
    // The next Horus finds another file, the same program, and the group as it was.
    rig.kill_horus().await;
    rig.write(&limited("300MiB"));
    rig.start().await;
    rig.status_until("bot", "in force", in_force("300 MiB")).await;
    assert_eq!(kept(), (300_u64 << 20).to_string());
    assert_eq!(rig.process("bot").await, bot);
    assert_eq!(refusals(&rig), 0);
    rig.end().await;
}

#[tokio::test]
async fn an_end_for_want_of_memory_is_named_and_counts_as_a_crash() {
    let mut rig = rig_with_groups(&["bot"]).await;
    rig.run(&service("bot", &SLEEP, "limits.tree.memory = \"512MiB\"\n")).await;
    let bot = rig.ready("bot").await;
    write(&rig, "groups/slot-bot/memory.events", "oom 1\noom_kill 2\n");
    let last = rig.journal.last();
    rig.signal(&bot, Signal::KILL);
    let exit = rig.after(last, "bot", "exit", is_exit).await;
    let What::Exited { exit: how, cause, .. } = exit.event.what else { panic!("{exit:?}") };
    assert_eq!((how, cause), (Exit::OutOfMemory { limit_bytes: Some(512 << 20) }, DeathCause::Itself));
    rig.ready_after(exit.seq, "bot").await;
    let words = "killed by the kernel for want of memory (limit 512 MiB)";
    let events = rig.cli(&["events", "--service", "bot"]).await;
    assert!(events.out.contains(&format!("was {words}")), "{}", events.out);
    let said = rig.told("ended by itself").await;
    assert!(format!("{said:?}").contains(words), "{said:?}");
    assert_eq!(rig.status("bot").await.exits_recent, 1);
    // What was counted in that run is nothing to the next.
    let bot = rig.process("bot").await;
    let last = rig.journal.last();
    rig.signal(&bot, Signal::KILL);
    let exit = rig.after(last, "bot", "exit", is_exit).await;
    assert!(matches!(exit.event.what, What::Exited { exit: Exit::Signal(9), .. }), "{exit:?}");
    rig.end().await;
}
