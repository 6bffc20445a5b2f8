//! The engine's own randomness: a seeded generator in its state, so that a run can be repeated exactly.

use std::time::Duration;

/// SplitMix64. Good enough for jitter, four lines, and the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// `duration`, less up to a tenth of it: jitter never makes a delay longer than its bound.
    pub(crate) fn jittered(&mut self, duration: Duration) -> Duration {
        let share = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        duration.saturating_sub(duration.mul_f64(share / 10.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of the reference implementation (Vigna, `splitmix64.c`) from seed 0.
    #[test]
    fn the_numbers_are_those_of_the_reference() {
        let mut random = Random::new(0);
        let numbers = [random.next(), random.next(), random.next()];
        assert_eq!(numbers, [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4, 0x06C4_5D18_8009_454F]);
    }

    #[test]
    fn jitter_takes_up_to_a_tenth_and_adds_nothing() {
        let (mut random, second) = (Random::new(7), Duration::from_secs(1));
        let jittered: Vec<Duration> = (0..1000).map(|_| random.jittered(second)).collect();
        let (least, most) = (jittered.iter().min(), jittered.iter().max());
        assert!(least.is_some_and(|least| (900..910).contains(&least.as_millis())), "{least:?}");
        assert!(most.is_some_and(|most| *most <= second && most.as_millis() >= 990), "{most:?}");
    }
}
