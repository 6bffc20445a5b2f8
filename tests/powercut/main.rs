//! Power cuts: a machine under emulation, on which Horus runs as a service, loses its power again and again, and what its disk had
//! not yet been asked to keep is lost with it, in whole or in part.
//!
//! ```text
//!   machine: boot -> Horus READY -> what is there? -> orders, each told on the serial line AFTER Horus has answered -> (cut)
//!   here:    ^------------------- SIGKILL at a random instant, writes behind the last flush lost by dice <-------------+
//! ```
//!
//! After each cut: the journal opens and is whole and none was put aside; each order that was answered holds and is in the
//! journal; nobody runs twice; who has to run, runs. Each second boot has the run directory on the disk instead of in
//! memory, so that Horus meets the records of a boot that is over.
//!
//! What it does not show: a disk that promises and does not keep, and a processor that stumbles while the power falls.
//!
//! The same machine has all controllers of cgroup v2: the limits of a tree are tried in it as well.
//!
//! `cargo xtask powercut --cuts N [--seed S]`; `cargo test` does none, for it takes minutes.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects")]

mod books;
mod dice;
mod disk;
mod machine;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use books::{Books, SERVICES};
use dice::Dice;
use disk::Fate;
use horus_tests::{Binaries, measured};
use machine::{Content, Machine, On};

/// One cut in so many comes before Horus is ready.
const EARLY_ONE_IN: u64 = 4;

/// Longest time between the first order and the cut.
const DRIVE_MAX: Duration = Duration::from_secs(15);

/// Longest time between the boot and an early cut.
const BOOT_MAX: Duration = Duration::from_secs(12);

/// Longest time for the limits of a tree, on a busy machine.
const LIMITS_MAX: Duration = Duration::from_secs(900);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Where cargo puts what it builds, and the programs.
fn target() -> (PathBuf, Binaries) {
    let subject = env!("CARGO_BIN_EXE_hanger");
    let folder = Path::new(subject).ancestors().nth(2).unwrap();
    (folder.to_path_buf(), Binaries::beside(subject))
}

fn configuration(on_disk: bool) -> String {
    let run = if on_disk { "run_directory = \"/var/lib/horus-run\"\n" } else { "" };
    let counter = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done";
    let mut text = format!(
        "version = 1\n[daemon]\nhost = \"machine\"\n{run}\
         [service.counter]\ncommand = [\"/bin/sh\", \"-c\", \"{counter}\"]\n\
         [service.job]\ncommand = [\"/bin/true\"]\nschedule = {{ every = \"5s\", finish = \"20s\" }}\n"
    );
    for (name, number) in SERVICES {
        text += &format!(
            "[service.{name}]\ncommand = [\"/bin/sleep\", \"10000{number}\"]\nstop = {{ grace = \"5s\" }}\n"
        );
    }
    text
}

/// What a run is made of.
struct PowerCuts {
    machine: Machine,
    horus: PathBuf,
    books: Books,
    dice: Dice,
    fate: Fate,
    boots: u64,
    early: u64,
    ready_s: Vec<f64>,
}

#[test]
fn nothing_that_was_answered_is_lost_in_a_power_cut() {
    let test = "nothing_that_was_answered_is_lost_in_a_power_cut";
    let Some(cuts) = number("HORUS_POWER_CUTS") else {
        horus_tests::skipped(test, "it takes minutes: cargo xtask powercut");
        return;
    };
    let seed = number("HORUS_SEED").unwrap_or_else(|| jiff::Timestamp::now().as_millisecond().unsigned_abs());
    eprintln!("powercut: {cuts} cuts, seed {seed}");
    let (target, binaries) = target();
    let Some(machine) = Machine::new(test, &target) else { return };
    let mut run = PowerCuts {
        machine,
        horus: binaries.path("horus"),
        books: Books::new(),
        dice: Dice::new(seed),
        fate: Fate::default(),
        boots: 0,
        early: 0,
        ready_s: Vec::new(),
    };
    for cut in 0..cuts {
        // The first boot installs; an early cut would leave nothing to look at.
        let early = cut > 0 && run.dice.below(EARLY_ONE_IN) == 0;
        run.boot_and_cut(seed, early);
        eprintln!(
            "powercut: cut {} of {cuts}{}: {} orders answered so far; {:?}",
            cut + 1,
            if early { ", before Horus was ready" } else { "" },
            run.books.answered.len(),
            run.fate
        );
    }
    run.last_boot(seed);
    let PowerCuts { books, fate, early, boots, ready_s, .. } = &run;
    let figures = format!(
        "seed {seed}: {cuts} cuts ({early} before Horus was ready), {boots} boots; {} orders asked, {} of them answered with a \
         reason, 0 of these lost; {} writes, {} flushes, {} writes unpromised at a cut, {} of them lost; Horus ready {:.1} s after \
         the kernel's start (slowest)",
        books.asked,
        books.answered.len(),
        fate.writes,
        fate.flushes,
        fate.unpromised,
        fate.lost,
        ready_s.iter().copied().fold(0.0, f64::max),
    );
    if cuts > 0 {
        measured("power cuts", &figures);
    }
    assert!(cuts == 0 || !books.answered.is_empty() && fate.unpromised > 0, "nothing was at stake");
}

#[test]
fn limits_of_a_tree_are_kept_where_the_kernel_has_the_controllers() {
    let test = "limits_of_a_tree_are_kept_where_the_kernel_has_the_controllers";
    if number("HORUS_POWER_CUTS").is_none() {
        horus_tests::skipped(test, "it takes minutes: cargo xtask powercut");
        return;
    }
    let (target, binaries) = target();
    let Some(machine) = Machine::new(test, &target) else { return };
    let horus = binaries.path("horus");
    let run = "sh /run/machine/limits.sh; echo \"%% end $?\"\n";
    let payload = [
        ("before", Content::Text(include_str!("before"))),
        ("run", Content::Text(run)),
        ("watchdog.toml", Content::Text("version = 1\n")),
        ("limits.sh", Content::Text(include_str!("../machine/limits.sh"))),
        ("horus", Content::Program(&horus)),
    ];
    let mut on = machine.on(&payload);
    let end = on.next(Some(LIMITS_MAX));
    assert_eq!(end.as_deref(), Some("end 0"), "{}\n{}", on.said.join("\n"), machine.console());
    // Skipping is for machines without the controllers: this one has them.
    assert!(on.said.iter().any(|line| line == "limits: passed"), "{}", on.said.join("\n"));
}

impl PowerCuts {
    fn on(&mut self, last: bool) -> On {
        let order = self.books.number.to_string();
        let (running, configuration) = (self.books.running(), configuration(self.boots % 2 == 1));
        let mut payload = vec![
            ("before", Content::Text(include_str!("before"))),
            ("run", Content::Text(include_str!("run"))),
            ("order", Content::Text(&order)),
            ("running", Content::Text(&running)),
            ("watchdog.toml", Content::Text(&configuration)),
        ];
        if self.boots == 0 {
            payload.extend([("first", Content::Text("")), ("horus", Content::Program(&self.horus))]);
        }
        if last {
            payload.push(("last", Content::Text("")));
        }
        self.boots += 1;
        self.machine.on(&payload)
    }

    fn boot_and_cut(&mut self, seed: u64, early: bool) {
        let mut on = self.on(false);
        if early {
            self.early += 1;
            self.wait_for(&mut on, "boot", seed);
            self.pass(&mut on, BOOT_MAX);
        } else {
            self.look(&mut on, "drive", seed);
            self.pass(&mut on, DRIVE_MAX);
        }
        self.fate.add(self.machine.cut(&mut on, &mut self.dice));
        for word in on.rest() {
            self.hear(&word);
        }
    }

    fn last_boot(&mut self, seed: u64) {
        let mut on = self.on(true);
        self.look(&mut on, "end", seed);
    }

    /// Hears what is said for a time that the seed has chosen.
    fn pass(&mut self, on: &mut On, most: Duration) {
        let most_ms = u64::try_from(most.as_millis()).unwrap();
        let end = horus_sys::clock::monotonic() + Duration::from_millis(self.dice.below(most_ms));
        loop {
            let left = end.saturating_sub(horus_sys::clock::monotonic());
            if left.is_zero() {
                return;
            }
            if let Some(word) = on.next(Some(left)) {
                self.hear(&word);
            }
        }
    }

    fn hear(&mut self, word: &str) {
        self.books.hear(word);
        if let Some(at) = word.strip_prefix("ready ") {
            self.ready_s.extend(at.parse::<f64>());
        }
    }

    fn wait_for(&mut self, on: &mut On, wanted: &str, seed: u64) -> BTreeMap<String, String> {
        let mut look = BTreeMap::new();
        loop {
            let Some(word) = on.next(None) else {
                panic!(
                    "seed {seed}: no `{wanted}` comes:\n{}\n{}",
                    on.said.join("\n"),
                    self.machine.console()
                )
            };
            self.hear(&word);
            let (key, value) = word.split_once(' ').unwrap_or((&word, ""));
            if key == "fault" {
                on.next(Some(Duration::from_secs(20)));
                panic!("seed {seed}: {value}\n{}\n{}", on.said.join("\n"), self.machine.console());
            }
            look.insert(key.to_owned(), value.to_owned());
            if key == wanted {
                return look;
            }
        }
    }

    /// What the machine shows before it goes on has to be what was promised.
    fn look(&mut self, on: &mut On, until: &str, seed: u64) {
        let look = self.wait_for(on, until, seed);
        let faults = self.books.compare(&look);
        assert!(faults.is_empty(), "seed {seed}, boot {}: {faults:#?}\n{}", self.boots, on.said.join("\n"));
    }
}
