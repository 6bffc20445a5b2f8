//! Horus and its keeper are killed at arbitrary instants, again and again, while a child works, talks and is healed.

use std::time::Duration;

use horus_core::event::What;
use horus_sys::signal::Signal;

use crate::{hanger, is_recovery, rig, struck};

const ROUNDS: u32 = 12;

/// Small and good enough to choose instants; the seed is printed with a failure.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[tokio::test]
async fn invariant_g6_at_arbitrary_instants() {
    let seed = std::env::var("HORUS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| jiff::Timestamp::now().as_nanosecond().unsigned_abs() as u64 | 1);
    let mut chance = Chance(seed);
    let mut rig = rig().await;
    let config =
        hanger(&rig, "bot", "deadline = \"2s\"\nkills = { prove = \"5s\", limit = 100, daily = 1000 }\n");
    rig.run(&config).await;
    let child = rig.ready("bot").await;
    for round in 0..ROUNDS {
        let whom = chance.below(3);
        if whom != 1
            && let Some(keeper) = rig.find_keeper()
        {
            rig.signal(&keeper, Signal::KILL);
        }
        if whom != 0 {
            rig.kill_horus().await;
            rig.launch();
        }
        // An instant of the recovery of the other two, chosen by the seed.
        tokio::time::sleep(Duration::from_millis(chance.below(250))).await;
        let hangers = children(&rig);
        assert!(hangers.len() <= 1, "seed {seed}, round {round}: the service runs {} times", hangers.len());
        assert_eq!(hangers, [child], "seed {seed}, round {round}: the child died");
    }
    let last = rig.journal.last();
    let adopted = rig.status_until("bot", "watched again", |now| now.pid == Some(child.pid)).await;
    assert_eq!(adopted.generation, 1, "seed {seed}");
    struck(&rig, "bot", "hang").await;
    rig.after(last, "bot", "recovery", is_recovery).await;
    assert_eq!(children(&rig).len(), 1, "seed {seed}");
    let starts = rig.count("bot", |what| matches!(what, What::StartAsked { .. }));
    assert_eq!(starts, 2, "seed {seed}: one start and one restart");
    rig.end().await;
}

fn children(rig: &horus_tests::Rig) -> Vec<horus_sys::process::ProcessId> {
    let is_hanger =
        |pid: i32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("hanger"));
    rig.room.processes().into_iter().filter(|process| is_hanger(process.pid)).collect()
}
