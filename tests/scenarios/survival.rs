//! G6, first version: whoever of Horus and the keeper is killed, no child dies, none runs twice, no line is lost.

use std::time::Duration;

use horus_core::event::What;
use horus_core::notice::IncidentKind;
use horus_sys::process::{ProcessId, is_alive};
use horus_sys::signal::Signal;
use horus_tests::Rig;

use crate::{hanger, is_kill, is_recovery, is_start, rig, struck};

const KEYS: &str = "deadline = \"2s\"\nkills = { prove = \"5s\" }\n";

fn is_adoption(what: &What) -> bool {
    matches!(what, What::Adopted { .. })
}

/// Waits until the child has written so many more lines than now.
async fn talks_on(rig: &Rig, lines: usize) {
    let wanted = rig.output("bot").lines().count() + lines;
    let talking = async {
        while rig.output("bot").lines().count() < wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(
        tokio::time::timeout(horus_tests::FAILSAFE, talking).await.is_ok(),
        "the child's output does not arrive"
    );
}

/// Each line that the process wrote is there, once, in order.
fn assert_no_line_is_lost(rig: &Rig, process: &ProcessId) {
    let output = rig.output("bot");
    let prefix = format!("{} line ", process.pid);
    let numbers: Vec<u64> = output
        .lines()
        .filter_map(|line| line.strip_prefix(&prefix))
        .map(|number| number.parse().unwrap_or_else(|_| panic!("a line was split: {number:?}")))
        .collect();
    assert!(numbers.len() > 20, "only {} lines", numbers.len());
    let gap = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert_eq!(gap, None, "lines are lost or doubled");
}

fn assert_one_child(rig: &Rig) {
    let hangers = rig.room.processes().into_iter().filter(|process| {
        let program = std::fs::read_link(format!("/proc/{}/exe", process.pid)).unwrap_or_default();
        program.ends_with("hanger")
    });
    assert_eq!(hangers.count(), 1, "the service runs twice");
}

#[tokio::test]
async fn invariant_g6_the_death_of_horus_is_not_noticed_by_its_children() {
    let mut rig = rig().await;
    let config = hanger(&rig, "bot", KEYS);
    rig.run(&config).await;
    let child = rig.ready("bot").await;
    for _ in 0..3 {
        let last = rig.journal.last();
        talks_on(&rig, 5).await;
        rig.kill_horus().await;
        assert!(is_alive(&child));
        // Its words are taken while no Horus is there.
        talks_on(&rig, 20).await;
        rig.start().await;
        rig.after(last, "bot", "adoption", is_adoption).await;
        assert_eq!(rig.process("bot").await, child);
        assert_one_child(&rig);
    }
    assert_eq!(rig.count("bot", is_start), 1);
    rig.assert_never_signalled("bot");
    assert_no_line_is_lost(&rig, &child);

    // And it is still watched and healed.
    let last = rig.journal.last();
    struck(&rig, "bot", "hang").await;
    rig.after(last, "bot", "kill", is_kill).await;
    rig.after(last, "bot", "recovery", is_recovery).await;
    assert_no_line_is_lost(&rig, &child);
    rig.end().await;
}

#[tokio::test]
async fn invariant_g6_the_death_of_the_keeper_is_not_noticed_by_its_children() {
    let mut rig = rig().await;
    let config = hanger(&rig, "bot", KEYS);
    rig.run(&config).await;
    let child = rig.ready("bot").await;
    talks_on(&rig, 5).await;
    let old = rig.keeper();
    rig.signal(&old, Signal::KILL);
    rig.gone(&old).await;
    talks_on(&rig, 30).await;
    assert_ne!(rig.keeper(), old, "there is a new keeper");
    assert!(is_alive(&child));
    assert_eq!(rig.process("bot").await, child);
    assert_one_child(&rig);
    assert_eq!(rig.count("bot", is_start), 1);
    assert_no_line_is_lost(&rig, &child);

    let last = rig.journal.last();
    struck(&rig, "bot", "hang").await;
    rig.after(last, "bot", "kill", is_kill).await;
    rig.after(last, "bot", "recovery", is_recovery).await;
    assert!(!is_alive(&child));
    assert_one_child(&rig);
    rig.end().await;
}

#[tokio::test]
async fn invariant_g6_the_death_of_both_is_not_noticed_by_their_children() {
    let mut rig = rig().await;
    let config = hanger(&rig, "bot", KEYS);
    rig.run(&config).await;
    let child = rig.ready("bot").await;
    talks_on(&rig, 5).await;
    let (last, keeper) = (rig.journal.last(), rig.keeper());
    rig.signal(&keeper, Signal::KILL);
    rig.kill_horus().await;
    rig.gone(&keeper).await;
    assert!(is_alive(&child));
    rig.start().await;
    rig.after(last, "bot", "adoption", is_adoption).await;
    assert_eq!(rig.process("bot").await, child);
    assert_one_child(&rig);
    talks_on(&rig, 30).await;
    assert_no_line_is_lost(&rig, &child);

    // An exit that the new keeper cannot have as its child is seen all the same.
    let last = rig.journal.last();
    rig.signal(&child, Signal::KILL);
    rig.after(last, "bot", "exit", crate::is_exit).await;
    rig.after(last, "bot", "recovery", is_recovery).await;
    assert_one_child(&rig);
    rig.end().await;
}

fn is_stuck(what: &What) -> bool {
    matches!(what, What::IncidentOpened { kind: IncidentKind::Stuck, .. })
}

#[tokio::test]
async fn invariant_g4_a_hang_is_judged_although_no_horus_lives_for_a_deadline() {
    const DEADLINE: Duration = Duration::from_secs(4);
    let mut rig = rig().await;
    let config = hanger(&rig, "bot", "deadline = \"4s\"\nkills = { prove = \"10s\" }\n");
    rig.run(&config).await;
    let child = rig.ready("bot").await;
    struck(&rig, "bot", "hang").await;
    let mut lives = 0;
    while rig.count("bot", is_stuck) == 0 {
        lives += 1;
        assert!(lives <= 10, "ten lives, and nobody has seen that it hangs");
        // Between a half and a whole of the deadline: how long a life lasts is the fault that is tried here.
        tokio::time::sleep(DEADLINE / 4 * 3).await;
        rig.kill_horus().await;
        rig.start().await;
    }
    assert!(lives > 1, "it was seen in one life");
    assert!(is_alive(&child), "no life has listened to it for a whole deadline");
    rig.assert_never_signalled("bot");
    // The next one is let live.
    rig.first("bot", "kill", is_kill).await;
    rig.first("bot", "recovery", is_recovery).await;
    assert_eq!((rig.count("bot", is_stuck), rig.count("bot", is_kill)), (1, 1));
    assert_one_child(&rig);
    rig.end().await;
}

/// It died while nobody looked: found out, told and healed by the next Horus.
#[tokio::test]
async fn invariant_g6_a_death_in_the_absence_of_horus_is_found() {
    let mut rig = rig().await;
    let config = hanger(&rig, "bot", KEYS);
    rig.run(&config).await;
    let child = rig.ready("bot").await;
    let last = rig.journal.last();
    rig.kill_horus().await;
    rig.signal(&child, Signal::KILL);
    rig.gone(&child).await;
    rig.start().await;
    let exit = rig.after(last, "bot", "exit", crate::is_exit).await;
    rig.after(exit.seq, "bot", "recovery", is_recovery).await;
    assert_eq!(rig.count("bot", crate::is_exit), 1, "told once");
    rig.told("bot ended by itself, I started it again, working again").await;
    assert_one_child(&rig);
    rig.end().await;
}
