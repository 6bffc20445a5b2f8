//! Many seeds, on all processors: what a run of one seed cannot show, a swarm of them does.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::invariants::Violation;
use crate::world::options::Length;
use crate::world::queue::DAY;
use crate::world::{Outcome, Run, Tally};

/// Seeds that broke a guarantee and are kept; after so many the swarm stops.
pub const FAILURES_MAX: usize = 10;

/// Threads of a swarm.
pub const JOBS_MAX: usize = 64;

/// How many worlds, and how long.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// The first seed; the others follow.
    pub first: u64,
    /// So many seeds, if given.
    pub seeds: Option<u64>,
    /// Until so many days of services were lived through, if given.
    pub service_days: Option<u64>,
    /// Threads.
    pub jobs: NonZeroUsize,
    /// Short or long lives.
    pub length: Length,
}

/// A seed that broke a guarantee.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// What was broken.
    pub violation: Violation,
}

/// What a swarm saw.
#[derive(Clone, Debug, Default)]
pub struct Harvest {
    /// Sums over all seeds.
    pub tally: Tally,
    /// Seeds that broke a guarantee, lowest first.
    pub failures: Vec<Failure>,
}

impl Swarm {
    /// Runs until enough seeds or days were lived through, or [`FAILURES_MAX`] seeds have failed.
    pub fn run(&self) -> Harvest {
        let next = AtomicU64::new(self.first);
        let harvest = Mutex::new(Harvest::default());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.get().min(JOBS_MAX) {
                scope.spawn(|| self.work(&next, &harvest));
            }
        });
        let mut harvest = harvest.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        harvest.failures.sort_by_key(|failure| failure.seed);
        harvest
    }

    fn work(&self, next: &AtomicU64, harvest: &Mutex<Harvest>) {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if self.seeds.is_some_and(|seeds| seed.wrapping_sub(self.first) >= seeds) {
                return;
            }
            let outcome = self.one(seed, 0);
            let mut harvest = harvest.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            harvest.tally.add(&outcome.tally);
            if let Some(violation) = outcome.violation {
                harvest.failures.push(Failure { seed, violation });
            }
            let lived = harvest.tally.service_days();
            if harvest.failures.len() >= FAILURES_MAX
                || self.service_days.is_some_and(|days| lived >= days as f64)
            {
                return;
            }
        }
    }

    /// One seed; with everything written down, if asked for.
    pub fn one(&self, seed: u64, record: usize) -> Outcome {
        Run { seed, length: self.length, record, shim: None }.live()
    }
}

impl Tally {
    /// Adds what another world saw.
    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.seeds, other.seeds),
            (&mut self.steps, other.steps),
            (&mut self.kills, other.kills),
            (&mut self.kills_of_hung, other.kills_of_hung),
            (&mut self.kills_of_healthy, other.kills_of_healthy),
            (&mut self.signals_by_order, other.signals_by_order),
            (&mut self.hangs, other.hangs),
            (&mut self.seen, other.seen),
            (&mut self.healed, other.healed),
            (&mut self.ended, other.ended),
            (&mut self.open, other.open),
            (&mut self.incidents, other.incidents),
            (&mut self.notices, other.notices),
            (&mut self.proofs, other.proofs),
            (&mut self.breakers, other.breakers),
            (&mut self.runs, other.runs),
            (&mut self.skipped, other.skipped),
            (&mut self.kills_of_stalled, other.kills_of_stalled),
            (&mut self.stalls, other.stalls),
            (&mut self.stalls_seen, other.stalls_seen),
            (&mut self.lives, other.lives),
            (&mut self.kills_forgotten, other.kills_forgotten),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
        self.service_nanos += other.service_nanos;
        self.delays.extend_from_slice(&other.delays);
    }

    /// Days of all services together.
    pub fn service_days(&self) -> f64 {
        self.service_nanos as f64 / DAY as f64
    }

    /// The delay of detection over its bound that so large a share of the hangs stayed under, from 0 to 1.
    pub fn delay_at(&self, share: f64) -> Option<f64> {
        let mut delays = self.delays.clone();
        delays.sort_unstable();
        let last = delays.len().checked_sub(1)?;
        let place = (last as f64 * share) as usize;
        delays.get(place).map(|thousandths| f64::from(*thousandths) / 1000.0)
    }
}

/// Where the recording of a failing seed is kept.
pub fn recording_name(seed: u64) -> PathBuf {
    PathBuf::from(format!("seed-{seed}.recording"))
}
