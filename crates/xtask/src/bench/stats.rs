//! Numbers from trials: order statistics, because the mean of latencies describes none of them.

use std::time::Duration;

use serde_json::{Value, json};

/// The trials of one measure, sorted.
#[derive(Clone, Debug)]
pub(crate) struct Trials(Vec<Duration>);

impl Trials {
    pub(crate) fn new(mut trials: Vec<Duration>) -> Self {
        trials.sort();
        Self(trials)
    }

    /// The smallest trial that at least `share` of a hundred do not exceed (nearest rank); zero without trials.
    pub(crate) fn percentile(&self, share: usize) -> Duration {
        let rank = (self.0.len() * share).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }

    pub(crate) fn p99(&self) -> Duration {
        self.percentile(99)
    }

    pub(crate) fn max(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn json(&self) -> Value {
        let ms = |duration: Duration| duration.as_secs_f64() * 1_000.0;
        json!({
            "trials": self.0.len(),
            "min_ms": ms(self.0.first().copied().unwrap_or_default()),
            "median_ms": ms(self.median()),
            "p99_ms": ms(self.p99()),
            "max_ms": ms(self.max()),
        })
    }
}

/// `2.41`, in milliseconds.
pub(crate) fn ms(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64() * 1_000.0)
}

/// `5.25`, in seconds.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_trials() {
        let trials = Trials::new((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!(trials.median(), Duration::from_millis(100));
        assert_eq!(trials.p99(), Duration::from_millis(198));
        assert_eq!(trials.max(), Duration::from_millis(200));
        assert_eq!(Trials::new(vec![]).p99(), Duration::ZERO);
        assert_eq!(Trials::new(vec![Duration::from_millis(7)]).p99(), Duration::from_millis(7));
    }
}
