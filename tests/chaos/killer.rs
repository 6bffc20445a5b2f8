//! Who is killed, and when: a die with a seed.

use std::time::Duration;

use horus_sys::files::{Durability, write_atomic};
use horus_sys::lock::read_holder;
use horus_sys::process::{ProcessId, environment, identify, is_alive};
use horus_sys::signal::{Signal, send};
use horus_tests::Rig;

/// Places at which the keeper dies by itself, as if by `kill -9`, when the fleet takes it there. Those of its upgrade have
/// tests of their own.
const KEEPER_WINDOWS: [&str; 11] = [
    "start.after-gen",
    "start.after-fork",
    "start.after-state",
    "start.after-gate",
    "exit.before-record",
    "exit.after-record",
    "exit.after-reap",
    "exit.after-remove",
    "pump.after-splice",
    "rotate.after-rename",
    "loop.turn",
];

/// The same in Horus.
const HORUS_WINDOWS: [&str; 1] = ["attach.after-spawn"];

/// What a test can make Horus do in its loop.
const TROUBLES: [&str; 2] = ["die", "panic"];

/// How long it is waited for a window to be passed.
const WINDOW_MAX: Duration = Duration::from_secs(60);

const KEEPER_VARIABLE: &str = "HORUS_KEEPER_TEST_DIE_AT";
const HORUS_VARIABLE: &str = "HORUS_TEST_DIE_AT";

/// xorshift64*: small, seeded, the same everywhere.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

/// What was done so far.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// SIGKILLs to Horus, deaths at its windows included.
    pub(crate) horus: u64,
    /// The same of the keeper.
    pub(crate) keeper: u64,
    /// Of these: both within the same millisecond or so.
    pub(crate) both: u64,
    /// Deaths at a named place.
    pub(crate) windows: u64,
    /// Panics in the loop.
    pub(crate) panics: u64,
    /// Keepers that were stopped with SIGSTOP.
    pub(crate) stopped: u64,
    /// Upgrades, to the same program: the process goes on, everything in it is anew.
    pub(crate) upgrades: u64,
    /// Upgrades that did not come about, and why.
    pub(crate) refused: Vec<String>,
    /// Windows that nobody passed in time.
    pub(crate) missed: Vec<&'static str>,
}

impl Done {
    /// All deaths.
    pub(crate) fn kills(&self) -> u64 {
        self.horus + self.keeper
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Killer {
    /// What was done.
    pub(crate) done: Done,
    dice: Dice,
    window: usize,
}

impl Killer {
    pub(crate) fn new(seed: u64) -> Self {
        Self { done: Done::default(), dice: Dice(seed | 1), window: 0 }
    }

    /// One blow, and a Horus that is started again, as a service manager would.
    pub(crate) async fn strike(&mut self, rig: &mut Rig) {
        match self.dice.below(100) {
            0..=33 => self.kill_horus(rig).await,
            34..=60 => self.kill_keeper(rig).await,
            61..=84 => {
                self.kill_keeper(rig).await;
                self.kill_horus(rig).await;
                self.done.both += 1;
            }
            85..=94 => self.strike_at_a_window(rig).await,
            95..=97 => self.upgrade(rig).await,
            98 => self.trouble(rig).await,
            _ => self.stop_keeper(rig).await,
        }
        let longest = if self.dice.below(2) == 0 { 200 } else { 1_500 };
        self.pause(longest).await;
    }

    /// An instant that the seed has chosen.
    async fn pause(&mut self, below_ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.dice.below(below_ms))).await;
    }

    async fn kill_horus(&mut self, rig: &mut Rig) {
        rig.kill_horus().await;
        self.done.horus += 1;
        if self.dice.below(2) == 0 {
            self.pause(300).await;
        }
        rig.launch();
    }

    async fn kill_keeper(&mut self, rig: &Rig) {
        if let Some(keeper) = keeper(rig)
            && send(&keeper, Signal::KILL).is_ok()
        {
            self.done.keeper += 1;
        }
    }

    /// The next window in turn: a Horus, or a keeper, that dies there by itself.
    async fn strike_at_a_window(&mut self, rig: &mut Rig) {
        let all = KEEPER_WINDOWS.len() + HORUS_WINDOWS.len();
        let window = self.window % all;
        self.window += 1;
        let (variable, name) = match KEEPER_WINDOWS.get(window) {
            Some(name) => (KEEPER_VARIABLE, *name),
            None => (HORUS_VARIABLE, HORUS_WINDOWS[window - KEEPER_WINDOWS.len()]),
        };
        rig.kill_horus().await;
        self.done.horus += 1;
        self.kill_keeper(rig).await;
        rig.environment().push((variable.into(), name.into()));
        rig.launch();
        let reached = if variable == KEEPER_VARIABLE {
            let reached = self.keeper_dies(rig).await;
            self.done.keeper += u64::from(reached);
            rig.kill_horus().await;
            self.done.horus += 1;
            // It, or the one that came after it, would die there again.
            self.kill_keeper(rig).await;
            reached
        } else {
            rig.ended().await;
            self.done.horus += 1;
            true
        };
        if reached {
            self.done.windows += 1;
        } else {
            self.done.missed.push(name);
        }
        rig.environment().retain(|(known, _)| known != variable);
        rig.launch();
    }

    /// Waits until a keeper that knows of the window has come and is gone again. One that the last Horus had just begun, and that
    /// nobody could name yet when it was killed, does not know of it.
    async fn keeper_dies(&mut self, rig: &Rig) -> bool {
        let end = tokio::time::Instant::now() + WINDOW_MAX;
        let mut seen: Option<ProcessId> = None;
        while tokio::time::Instant::now() < end {
            match (seen, keeper(rig)) {
                (Some(seen), _) if !is_alive(&seen) => return true,
                (None, Some(found)) if knows_of_a_window(&found) => seen = Some(found),
                (None, Some(_)) => self.kill_keeper(rig).await,
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        false
    }

    /// The judge's loop dies, or panics, which ends Horus as well.
    async fn trouble(&mut self, rig: &mut Rig) {
        let trouble = TROUBLES[usize::try_from(self.dice.below(2)).unwrap()];
        write_atomic(&rig.room.path("trouble/loop"), trouble.as_bytes(), Durability::ThisBoot).unwrap();
        rig.ended().await;
        self.done.horus += 1;
        self.done.panics += u64::from(trouble == "panic");
        rig.launch();
    }

    /// Horus becomes its own program anew, and the keeper after it.
    async fn upgrade(&mut self, rig: &Rig) {
        // One that has just been started answers a little later.
        rig.status_until("loud-0", "answered for", |_| true).await;
        let said = rig.cli(&["upgrade"]).await;
        if said.code == 0 {
            self.done.upgrades += 1;
        } else {
            self.done.refused.push(said.err);
        }
    }

    /// The keeper stands still; Horus has to notice, end it and start another.
    async fn stop_keeper(&mut self, rig: &Rig) {
        let Some(old) = keeper(rig) else { return };
        if send(&old, Signal::STOP).is_err() {
            return;
        }
        rig.gone(&old).await;
        self.done.stopped += 1;
        self.done.keeper += 1;
    }
}

fn knows_of_a_window(keeper: &ProcessId) -> bool {
    let environment = environment(keeper.pid).unwrap_or_default();
    environment.windows(KEEPER_VARIABLE.len()).any(|part| part == KEEPER_VARIABLE.as_bytes())
}

/// The keeper that has the lock.
fn keeper(rig: &Rig) -> Option<ProcessId> {
    let holder =
        read_holder(&rig.room.path("r/keeper.lock")).filter(|holder| holder.program == "horus keep")?;
    let process = identify(holder.pid).ok().flatten()?;
    holder.start_time.is_none_or(|time| time == process.start_time).then_some(process)
}
