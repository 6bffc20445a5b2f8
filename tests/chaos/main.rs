//! Chaos: fifty programs under load, while Horus, its keeper, or both are killed again and again, at random instants and at every
//! named place of their protocol.
//!
//! Afterwards nobody has died and nobody lived twice, each line that somebody wrote is in the files once, each exit code is right or
//! known to be unknown, whoever was held is held, and each alert has come. The programs keep books of their own lives, so that
//! Horus is not asked whether Horus was right.
//!
//! `cargo xtask chaos --kills N [--seed S]`; `cargo test` does [`KILLS`].

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it expects")]

mod books;
mod fleet;
mod killer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use books::{Book, Tally, told};
use fleet::Member;
use horus_core::ids::{IncidentId, SinkName};
use horus_core::record::Recorded;
use horus_sys::reap::peek_any;
use horus_sys::subreaper::become_one;
use horus_tests::{FAILSAFE, Options, Rig, measured, name};
use killer::Killer;
use tokio::process::Child;
use tokio::time::Instant;

/// So many if nobody says how many.
const KILLS: u64 = 100;

/// Each incident is told to both.
const SINKS: usize = 2;

/// After so many blows everything must have got on.
const BLOWS_A_LOOK: u64 = 20;

/// Between two looks whether everything is there.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long the end of it all may take: alerts are sent at the pace that the sinks allow.
const SETTLES_WITHIN: Duration = Duration::from_secs(300);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[tokio::test]
async fn chaos_nobody_dies_nobody_doubles_nothing_is_lost() {
    let kills = number("HORUS_CHAOS_KILLS").unwrap_or(KILLS);
    let seed = number("HORUS_SEED").unwrap_or_else(|| jiff::Timestamp::now().as_millisecond().unsigned_abs());
    eprintln!("chaos: {kills} kills, seed {seed}");
    let members = fleet::members();
    if Rig::new(env!("CARGO_BIN_EXE_survivor"), Options::default()).await.python().await.is_none() {
        horus_tests::skipped("chaos", "python3 is needed: it stands in for the service manager");
        return;
    }
    become_one().known().expect("orphans come to this process");
    let reaper = tokio::spawn(reap());
    let (mut rig, mut store) = begin(&members).await;
    let mut killer = Killer::new(seed);
    let began = Instant::now();
    let mut blows = 0;
    while killer.done.kills() < kills {
        killer.strike(&mut rig).await;
        blows += 1;
        if blows % BLOWS_A_LOOK == 0 {
            gets_on(&rig).await;
            eprintln!("chaos: {} kills after {} s", killer.done.kills(), began.elapsed().as_secs());
        }
    }
    let took = began.elapsed();

    gets_on(&rig).await;
    let mut tally = Tally::default();
    // They go on being born and ending: who was there before that look has not ended after it without writing it down.
    let before = Book::of(&rig);
    let alive = alive(&rig);
    let book = Book::of(&rig);
    tally.count_lives(&before, &book, &members, &alive);
    let (events, told) = settle(&rig, &book).await;
    still_held(&rig, &members, &mut tally).await;
    tally.count_alerts(&rig, &told);
    tally.count_exits(&book, &Book::of(&rig), &events);
    reaper.abort();
    store.kill().await.unwrap();
    rig.stop().await;
    tally.count_lines(&rig, &Book::of(&rig), &members);

    let done = &killer.done;
    let figures = format!(
        "seed {seed}: {} kills in {:.0} s ({} of Horus, {} of the keeper, {} times both; {} at a named place, {} panics, {} \
         upgrades, {} keepers stopped); {} programs lived {} lives; {} ends, {} of them seen by nobody; {} lines; {} alerts, {} of them \
         repeated; {} faults",
        done.kills(),
        took.as_secs_f64(),
        done.horus,
        done.keeper,
        done.both,
        done.windows,
        done.panics,
        done.upgrades,
        done.stopped,
        members.len(),
        tally.lives,
        tally.ends,
        tally.unseen.len(),
        tally.lines,
        tally.alerts,
        tally.repeated_alerts,
        tally.faults.len()
    );
    measured("chaos", &figures);
    assert_eq!(done.refused, [""; 0], "seed {seed}: upgrades that did not come about");
    assert_eq!(done.missed, [""; 0], "seed {seed}: places that nobody passed");
    assert!(tally.faults.is_empty(), "seed {seed}: {:#?}", &tally.faults[..tally.faults.len().min(40)]);
    assert!(tally.lines > 20_000 && tally.ends > 0 && tally.alerts > 0, "nothing happened: {tally:?}");
}

/// Everybody runs, four of them are held.
async fn begin(members: &[Member]) -> (Rig, Child) {
    let mut rig = Rig::new(env!("CARGO_BIN_EXE_survivor"), Options::default()).await;
    for folder in ["trouble", "s", "r"] {
        std::fs::create_dir_all(rig.room.path(folder)).unwrap();
    }
    std::fs::File::create(rig.room.path("book")).unwrap();
    let trouble = rig.room.path("trouble").display().to_string();
    rig.environment().push(("HORUS_TEST_TROUBLE".into(), trouble));
    let store = keep_descriptors(&mut rig).await;
    let configuration = fleet::configuration(&rig);
    rig.run(&configuration).await;
    until("all have begun", || Book::of(&rig).lives.len() == members.len()).await;
    for member in members.iter().filter(|member| member.kind == fleet::Kind::Held) {
        let mut words = vec!["hold", &member.name, "--reason", "chaos"];
        words.extend(member.is_down().then_some("--stop"));
        let held = rig.cli(&words).await;
        assert_eq!(held.code, 0, "{}", held.err);
    }
    (rig, store)
}

/// A service manager's fd store, which is where descriptors are while neither Horus nor the keeper lives.
async fn keep_descriptors(rig: &mut Rig) -> Child {
    let python = rig.python().await.expect("there is Python: it was looked for");
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/chaos/fd_store.py").to_owned();
    let [notify, store] = ["notify.sock", "store.sock"].map(|name| rig.room.path(name).display().to_string());
    #[expect(clippy::disallowed_methods, reason = "stands in for the service manager")]
    let mut command = tokio::process::Command::new(&python);
    command.args([&program, "serve", &notify, &store]).kill_on_drop(true);
    let child = command.spawn().unwrap();
    until("the service manager listens", || std::fs::exists(&store).is_ok_and(|there| there)).await;
    rig.environment().push(("NOTIFY_SOCKET".into(), notify));
    rig.launch_by(vec![python, program, "launch".into(), store]);
    child
}

/// Horus answers, and the loud one is heard.
async fn gets_on(rig: &Rig) {
    let pid = Book::of(rig).lives["loud-0"][0].pid;
    let written = rig.room.path(&format!("loud-0.{pid}.written"));
    let count =
        || std::fs::read_to_string(&written).ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let wanted = count() + 20_000;
    until("the loud one goes on", || count() >= wanted).await;
    rig.status_until("loud-0", "watched", |now| now.pid == Some(pid)).await;
}

/// All ends of this book are in the journal, and of each incident both sinks have acknowledged what was to be told when the wait
/// began: some go on ending, and are told of anew. Gives the events, and the incidents that were waited for.
async fn settle(rig: &Rig, book: &Book) -> (Arc<Vec<Recorded>>, BTreeSet<IncidentId>) {
    let end = Instant::now() + SETTLES_WITHIN;
    let told = told(&rig.journal.all());
    let mut wanted: BTreeMap<(IncidentId, SinkName), u32> = BTreeMap::new();
    loop {
        let mut open = Vec::new();
        for id in &told {
            match rig.client.incident(*id).await {
                Ok(report) if report.deliveries.len() == SINKS => {
                    for at in report.deliveries {
                        let wanted = wanted.entry((*id, at.sink.clone())).or_insert(at.wanted_version);
                        if at.delivered_version < Some(*wanted) && !at.refused {
                            open.push(format!("{id}: {at:?}"));
                        }
                    }
                }
                other => open.push(format!("{id}: {other:?}")),
            }
        }
        let events = rig.journal.all();
        open.extend(book.missing_ends(&events));
        if open.is_empty() {
            return (events, told);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        assert!(Instant::now() < end, "it does not settle: {:#?}", &open[..open.len().min(20)]);
    }
}

async fn still_held(rig: &Rig, members: &[Member], tally: &mut Tally) {
    for member in members.iter().filter(|member| member.kind == fleet::Kind::Held) {
        let Ok(status) = rig.client.service(&name(&member.name)).await else {
            tally.faults.push(format!("{}: no status", member.name));
            continue;
        };
        if status.hold.is_none() || status.pid.is_some() == member.is_down() {
            tally.faults.push(format!("{}: hold {:?}, pid {:?}", member.name, status.hold, status.pid));
        }
    }
}

fn alive(rig: &Rig) -> BTreeSet<i32> {
    let is_ours =
        |pid: &i32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("survivor"));
    rig.room.processes().into_iter().map(|process| process.pid).filter(is_ours).collect()
}

/// What an init does: whoever has lost its parent is reaped at once.
async fn reap() {
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        while let Ok(Some((pid, _))) = peek_any() {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            // Others are waited for by whoever has started them.
            if !matches!(name.trim(), "survivor" | "horus-keeper") {
                break;
            }
            let _ = horus_sys::reap::reap(pid);
        }
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(FAILSAFE, waiting).await.is_ok(), "{what}: not within {FAILSAFE:?}");
}
