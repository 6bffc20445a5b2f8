//! The one source of chance: everything in a simulated world is drawn from here, in an order that only the seed decides.
//!
//! SplitMix64 with a few shapes on top. Only integer arithmetic and the four exact floating point operations are used (no
//! `ln`, no `powf` of the platform), so that a seed means the same on every machine.

/// A seeded generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same draws.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 even bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A generator of its own, whose draws do not disturb this one's.
    pub fn fork(&mut self) -> Self {
        Self(self.bits())
    }

    /// Even in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True with probability `share`.
    pub fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// Even in `0..count`; 0 if there is nothing to choose from.
    pub fn below(&mut self, count: u64) -> u64 {
        if count == 0 { 0 } else { self.bits() % count }
    }

    /// Even between both bounds, which are included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// Between both bounds, each doubling as likely as the next: small and large magnitudes occur alike.
    pub fn magnitude(&mut self, low: u64, high: u64) -> u64 {
        let (low, high) = (low.max(1), high.max(1));
        let doublings = u64::from((high / low).max(1).ilog2()) + 1;
        let floor = low.saturating_mul(1 << self.below(doublings).min(62));
        self.between(floor.min(high), floor.saturating_mul(2).min(high))
    }

    /// The wait for something that happens every `mean` on average, without memory.
    pub fn wait(&mut self, mean: u64) -> u64 {
        let share = 1.0 - self.unit();
        (-natural_log(share) * mean as f64) as u64
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        choices.get(usize::try_from(self.below(choices.len() as u64)).unwrap_or_default())
    }
}

/// The natural logarithm of a number in (0, 1], by exact operations only.
fn natural_log(value: f64) -> f64 {
    let (mut mantissa, mut halvings) = (value.max(f64::MIN_POSITIVE), 0.0);
    while mantissa < 0.5 {
        mantissa *= 2.0;
        halvings += 1.0;
    }
    // ln m = 2 atanh((m - 1) / (m + 1)); for m in [0.5, 1] twelve terms are more than a double holds.
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let (mut term, mut sum) = (ratio, 0.0);
    for odd in 0..12_u32 {
        sum += term / f64::from(2 * odd + 1);
        term *= ratio * ratio;
    }
    2.0 * sum - halvings * std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_have_the_asked_mean_and_no_memory() {
        let mut random = Random::new(1);
        let waits: Vec<u64> = (0..200_000).map(|_| random.wait(1_000_000)).collect();
        let mean = waits.iter().sum::<u64>() / waits.len() as u64;
        assert!((990_000..1_010_000).contains(&mean), "{mean}");
        let longer = waits.iter().filter(|wait| **wait > 1_000_000).count() as f64 / waits.len() as f64;
        assert!((longer - 0.3679).abs() < 0.005, "{longer}");
    }

    #[test]
    fn the_logarithm_is_right() {
        for value in [1.0, 0.75, 0.5, 0.1, 1e-6, 1e-16_f64] {
            assert!((natural_log(value) - value.ln()).abs() < 1e-12, "{value}");
        }
    }
}
