//! How fast a sink is spoken to: when to try again, and how many messages a minute.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use tokio::time::Instant;

/// The range of the first wait after a failed try.
pub const RETRY_FIRST: Duration = Duration::from_secs(1);

/// The range of the longest wait after a failed try.
pub const RETRY_LONGEST: Duration = Duration::from_secs(300);

/// No wait is shorter, whatever the dice say.
pub const RETRY_SHORTEST: Duration = Duration::from_millis(200);

/// Messages per [`BUDGET_WINDOW`] to one sink. Services do not publish their limits; this is below all reports.
pub const BUDGET: usize = 20;

/// So many of [`BUDGET`] are kept for messages that need somebody.
pub const BUDGET_RESERVED: usize = 5;

/// See [`BUDGET`].
pub const BUDGET_WINDOW: Duration = Duration::from_secs(60);

/// Waits with full jitter: after the n-th failure anything between nothing and `1 s * 2^n`, at most five minutes.
/// So a hundred Horuses that lost the same service do not return to it in step. Seeded: a test gets the same waits
/// every time. (SplitMix64; nothing here needs to be unpredictable.)
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// Waits that depend on the seed only.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// Waits that differ from process to process.
    pub fn random() -> Self {
        Self(std::hash::RandomState::new().build_hasher().finish())
    }

    /// The wait after `failures` failures in a row (from 1).
    pub fn wait(&mut self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let range = RETRY_FIRST.saturating_mul(1 << doublings).min(RETRY_LONGEST);
        // 53 bits: every value is exact in a float, and below one.
        let share = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        range.mul_f64(share).max(RETRY_SHORTEST)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// A sliding window over the messages sent.
#[derive(Debug, Default)]
pub struct Budget {
    sent: VecDeque<Instant>,
}

impl Budget {
    /// How long a message has to wait for its turn; `None`: not at all.
    pub fn wait(&mut self, now: Instant, needs_you: bool) -> Option<Duration> {
        while self.sent.front().is_some_and(|at| now.duration_since(*at) >= BUDGET_WINDOW) {
            self.sent.pop_front();
        }
        let limit = if needs_you { BUDGET } else { BUDGET - BUDGET_RESERVED };
        let over = self.sent.len().checked_sub(limit)?;
        let frees = *self.sent.get(over)? + BUDGET_WINDOW;
        Some(frees.duration_since(now))
    }

    /// A message was sent.
    pub fn spend(&mut self, now: Instant) {
        if self.sent.len() == BUDGET {
            self.sent.pop_front();
        }
        self.sent.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_spread_over_a_growing_range_that_ends() {
        let mut jitter = Jitter::seeded(7);
        for failures in 1..40_u32 {
            let range = Duration::from_secs(1_u64 << (failures - 1).min(20)).min(RETRY_LONGEST);
            let waits: Vec<_> = (0..200).map(|_| jitter.wait(failures)).collect();
            assert!(waits.iter().all(|wait| *wait >= RETRY_SHORTEST && *wait <= range));
            let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
            assert!(
                *least < range / 4 + RETRY_SHORTEST && *most > range * 3 / 4,
                "{failures}: {least:?}..{most:?}"
            );
        }
        assert_eq!(Jitter::seeded(1).wait(5), Jitter::seeded(1).wait(5));
    }

    #[tokio::test(start_paused = true)]
    async fn ordinary_messages_leave_room_for_urgent_ones() {
        let mut budget = Budget::default();
        let start = Instant::now();
        for _ in 0..BUDGET - BUDGET_RESERVED {
            assert_eq!(budget.wait(start, false), None);
            budget.spend(start);
        }
        assert_eq!(budget.wait(start, false), Some(BUDGET_WINDOW));
        for _ in 0..BUDGET_RESERVED {
            assert_eq!(budget.wait(start, true), None);
            budget.spend(start + Duration::from_secs(1));
        }
        assert_eq!(budget.wait(start, true), Some(BUDGET_WINDOW));
        let later = start + BUDGET_WINDOW;
        assert_eq!(budget.wait(later, false), None);
    }
}
