//! A distribution of gaps in a few numbers.
//!
//! Eight buckets for each doubling of the length, like an HDR histogram with three significant bits: a gap is known to
//! one part in eight, from a millisecond to centuries, by whole numbers only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Buckets per doubling.
const PER_DOUBLING: u64 = 8;

/// Counts of gaps by length.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u16, u32)>", into = "Vec<(u16, u32)>")]
pub struct Gaps(BTreeMap<u16, u32>);

/// A quantile: not less than this share of all gaps is at most so long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantile(pub f64);

impl From<Vec<(u16, u32)>> for Gaps {
    fn from(pairs: Vec<(u16, u32)>) -> Self {
        let mut gaps = Self::default();
        for (bucket, count) in pairs {
            let sum = gaps.0.entry(bucket).or_insert(0);
            *sum = sum.saturating_add(count);
        }
        gaps
    }
}

impl From<Gaps> for Vec<(u16, u32)> {
    fn from(gaps: Gaps) -> Self {
        gaps.0.into_iter().collect()
    }
}

impl Gaps {
    /// None were counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.0.values().map(|count| u64::from(*count)).sum()
    }

    /// Counts one gap.
    pub fn add(&mut self, ms: u64) {
        let count = self.0.entry(bucket(ms)).or_insert(0);
        *count = count.saturating_add(1);
    }

    /// Counts all that another one has counted.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, more) in &other.0 {
            let count = self.0.entry(*bucket).or_insert(0);
            *count = count.saturating_add(*more);
        }
    }

    /// The length under which `share` of all gaps lie, milliseconds: the upper end of its bucket, so never too short.
    /// `None` if there are none.
    pub fn quantile(&self, share: Quantile) -> Option<u64> {
        let all = self.count();
        let rank = ((all as f64) * share.0.clamp(0.0, 1.0)).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in &self.0 {
            seen += u64::from(*count);
            if seen >= rank.max(1) {
                return Some(upper(*bucket));
            }
        }
        None
    }

    /// The gaps, shortest first, each as the middle of its bucket, milliseconds.
    pub fn lengths(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(|(bucket, count)| {
            let middle = lower(*bucket).midpoint(upper(*bucket));
            std::iter::repeat_n(middle, usize::try_from(*count).unwrap_or(usize::MAX))
        })
    }
}

fn bucket(ms: u64) -> u16 {
    if ms < PER_DOUBLING {
        return u16::try_from(ms).unwrap_or(0);
    }
    let doubling = u64::from(63 - ms.leading_zeros());
    let part = (ms >> (doubling - 3)) & (PER_DOUBLING - 1);
    u16::try_from((doubling - 2) * PER_DOUBLING + part).unwrap_or(u16::MAX)
}

fn lower(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < PER_DOUBLING {
        return bucket;
    }
    let (doubling, part) = (bucket / PER_DOUBLING + 2, bucket % PER_DOUBLING);
    (PER_DOUBLING + part).checked_shl(u32::try_from(doubling - 3).unwrap_or(u32::MAX)).unwrap_or(u64::MAX)
}

fn upper(bucket: u16) -> u64 {
    lower(bucket.saturating_add(1)).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_known_to_one_part_in_eight() {
        for ms in (0..3000).chain([10_000, 129_000, 25_200_000, u64::from(u32::MAX)]) {
            let (low, high) = (lower(bucket(ms)), upper(bucket(ms)));
            assert!(low <= ms && ms <= high, "{ms} is not in {low}..={high}");
            assert!(high - low <= ms / 8, "{ms}: {low}..={high} is too wide");
        }
    }

    #[test]
    fn what_two_have_counted_is_the_sum_of_both() {
        let (mut one, mut other) = (Gaps::default(), Gaps::default());
        (1..=10).for_each(|ms| one.add(ms));
        (6..=20).for_each(|ms| other.add(ms));
        one.merge(&other);
        assert_eq!(one.count(), 25);
        assert_eq!(one.lengths().filter(|ms| *ms == 7).count(), 2);
    }

    #[test]
    fn quantiles_are_never_too_short() {
        let mut gaps = Gaps::default();
        (1..=1000).for_each(|ms| gaps.add(ms));
        let at = |share| gaps.quantile(Quantile(share)).unwrap();
        assert!((500..=575).contains(&at(0.5)), "{}", at(0.5));
        assert!((990..=1130).contains(&at(0.99)), "{}", at(0.99));
        assert_eq!(Gaps::default().quantile(Quantile(0.5)), None);
        assert_eq!(gaps.count(), 1000);
        assert_eq!(gaps.lengths().count(), 1000);
    }
}
