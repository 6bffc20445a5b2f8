//! Random SIGKILLs of Horus, of the keeper, and of both, while programs print numbered lines and are restarted at once, and
//! the keeper becomes another program again and again.

use crate::support::{Place, exe, name, until};
use horus_keeper::hold_fifos;
use horus_keeper::logs::rotated;
use horus_keeper::protocol::{ExitStatus, SlotState};
use horus_sys::lock::read_holder;
use horus_sys::poll::Poller;
use horus_sys::process::{self, ProcessId};
use horus_sys::signal::{self, Signal};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::time::Duration;

const SLOTS: u64 = 3;
const KILLS: u64 = 60;
/// After so many kills the programs must have got on.
const KILLS_A_LOOK: u64 = 5;

/// xorshift64*: small, seeded, the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

fn pause(microseconds: u64) {
    let poller = Poller::new().unwrap();
    poller.wait(&mut Vec::new(), Some(Duration::from_micros(microseconds))).unwrap();
}

fn keeper_of(place: &Place) -> Option<ProcessId> {
    let holder = read_holder(&place.directory().lock()).filter(|holder| holder.program == "horus keep")?;
    process::identify(holder.pid).ok().flatten()
}

fn horus_of(place: &Place) -> Option<ProcessId> {
    let pid = std::fs::read_to_string(place.path("horus.pid")).ok()?;
    process::identify(pid.parse().ok()?).ok().flatten()
}

fn start_manager(place: &Place) -> Child {
    let ledger = place.path("ledger").display().to_string();
    place.role(&["manager", place.run.to_str().unwrap(), &ledger, &SLOTS.to_string()], None)
}

fn entries_in_ledger(place: &Place) -> u64 {
    std::fs::read_to_string(place.path("ledger")).unwrap_or_default().lines().count() as u64
}

#[derive(Default)]
struct Tally {
    starts: u64,
    ends: u64,
    double_starts: u64,
    lines: u64,
    lost: u64,
    doubled: u64,
    unknown_exits: u64,
    wrong_exits: u64,
}

fn count(place: &Place) -> Tally {
    let mut tally = Tally::default();
    let mut living: BTreeMap<String, String> = BTreeMap::new();
    let mut expected: BTreeMap<(String, u64), (u64, i32)> = BTreeMap::new();
    let mut runs: BTreeSet<(String, u64)> = BTreeSet::new();
    for line in std::fs::read_to_string(place.path("ledger")).unwrap().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (slot, generation, pid) = (words[1].to_owned(), words[2].parse().unwrap(), words[3].to_owned());
        if words[0] == "S" {
            tally.starts += 1;
            tally.double_starts += u64::from(!runs.insert((slot.clone(), generation)));
            tally.double_starts += u64::from(living.insert(slot, pid).is_some());
        } else {
            tally.ends += 1;
            assert_eq!(living.remove(&slot), Some(pid));
            expected.insert((slot, generation), (words[4].parse().unwrap(), words[5].parse().unwrap()));
        }
    }
    let mut seen: BTreeMap<(String, u64), Vec<u64>> = BTreeMap::new();
    for slot in 0..SLOTS {
        for age in (0..=100).rev() {
            let log = rotated(&place.path(&format!("slot-{slot}.log")), age);
            for line in std::fs::read_to_string(log).unwrap_or_default().lines() {
                let words: Vec<&str> = line.split(' ').collect();
                assert!(words.len() == 6 && words[5].len() == 40, "a garbled line: {line}");
                seen.entry((words[0].to_owned(), words[1].parse().unwrap()))
                    .or_default()
                    .push(words[4].parse().unwrap());
                tally.lines += 1;
            }
        }
    }
    for ((slot, generation), (lines, code)) in &expected {
        let found = seen.remove(&(slot.clone(), *generation)).unwrap_or_default();
        let distinct: BTreeSet<u64> = found.iter().copied().collect();
        tally.lost += lines - distinct.len() as u64;
        tally.doubled += found.len() as u64 - distinct.len() as u64;
        match place.exit_record(slot, *generation).map(|record| record.status) {
            Some(ExitStatus::Code(found)) if found == *code => {}
            Some(ExitStatus::Unknown) => tally.unknown_exits += 1,
            // Only the newest records are kept.
            None if expected.contains_key(&(slot.clone(), generation + 16)) => {}
            None => tally.unknown_exits += 1,
            Some(_) => tally.wrong_exits += 1,
        }
    }
    tally
}

#[test]
fn sixty_random_kills_lose_no_line_and_start_nothing_twice() {
    let seed = std::env::var("HORUS_TORTURE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let kills =
        std::env::var("HORUS_TORTURE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    println!("HORUS_TORTURE_SEED={seed} HORUS_TORTURE_KILLS={kills}");
    let mut dice = Dice(seed);
    let place = Place::new();
    let mut manager = start_manager(&place);
    let names: Vec<_> = (0..SLOTS).map(|number| name(&format!("slot-{number}"))).collect();
    until("all slots", || hold_fifos(&place.run, &names).ok().filter(|hold| hold.len() == names.len()));
    // Stands for the manager's descriptor store: last words survive when Horus and keeper die at once.
    let _hold = hold_fifos(&place.run, &names).unwrap();
    let upgrades = || std::fs::read(place.path("upgrades")).unwrap_or_default().len();
    until("the first upgrade", || (upgrades() > 0).then_some(()));
    let mut kills_of = [0; 2];
    let mut entries = 0;
    for kill in 0..kills {
        // However busy the machine is, there is something new to be killed in: two starts or ends for each kill.
        if kill % KILLS_A_LOOK == 0 {
            until("progress", || (entries_in_ledger(&place) > entries + 2 * KILLS_A_LOOK).then_some(()));
            entries = entries_in_ledger(&place);
        }
        // Half of the kills come within the first milliseconds after the one before, in the middle of starting.
        pause(dice.below(if kill % 2 == 0 { 8_000 } else { 200_000 }));
        let whom = dice.below(3);
        let targets = [
            (whom != 0).then(|| keeper_of(&place)).flatten(),
            (whom != 1).then(|| horus_of(&place)).flatten(),
        ];
        for (target, kills) in targets.iter().zip(&mut kills_of) {
            *kills += u64::from(target.is_some_and(|target| signal::send(&target, Signal::KILL).is_ok()));
        }
    }
    let [keeper_kills, horus_kills] = kills_of;
    manager.kill().unwrap();
    manager.wait().unwrap();
    if let Some(horus) = horus_of(&place) {
        crate::support::kill(&horus);
    }
    until("the end of all programs", || {
        let client = place.attach();
        let ended = |state| matches!(state, SlotState::Empty | SlotState::Ended { .. });
        client.hello.slots.iter().all(|view| ended(view.state)).then_some(())
    });
    let tally = count(&place);
    println!(
        "kills: horus {horus_kills}, keeper {keeper_kills}; upgrades {}; starts {}, ends {}, double starts {}; lines {}, lost {}, doubled {}; \
         exits unknown {}, wrong {}",
        upgrades(),
        tally.starts,
        tally.ends,
        tally.double_starts,
        tally.lines,
        tally.lost,
        tally.doubled,
        tally.unknown_exits,
        tally.wrong_exits,
    );
    assert!(
        horus_kills > kills / 4 && keeper_kills > kills / 4 && tally.starts > kills,
        "too tame to prove anything"
    );
    assert_eq!(tally.starts, tally.ends, "every program that started came to its own end");
    assert_eq!((tally.double_starts, tally.lost, tally.doubled, tally.wrong_exits), (0, 0, 0, 0));
    assert!(exe().exists());
}
