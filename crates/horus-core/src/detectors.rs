//! Detectors have a record: did the restarts that they asked for bring the service back for good?
//!
//! The record is not kept anywhere of its own. It is read off the kill ledgers of all services, which survive restarts of
//! Horus: a kill that was proven was right, one that was followed by another without a proof was wrong, and one that is neither
//! yet does not count. A detector that is mostly wrong, on several services, only tells from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::reason::Rule;

/// Kills older than this are history.
pub const RECORD_WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);

/// With fewer decided kills than this nothing is concluded.
pub const DECIDED_MIN: u32 = 8;

/// On fewer services than this it is not the detector.
pub const SERVICES_MIN: usize = 3;

/// How one kill turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    Right,
    Wrong,
}

/// The record of one detector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Precision {
    pub(crate) right: u32,
    pub(crate) wrong: u32,
    services: BTreeSet<usize>,
}

impl Precision {
    pub(crate) fn is_bad(&self) -> bool {
        self.right + self.wrong >= DECIDED_MIN
            && self.services.len() >= SERVICES_MIN
            && self.wrong > self.right
    }
}

/// Sums the outcomes of all services up. The number stands for the service.
pub(crate) fn tally(outcomes: impl Iterator<Item = (usize, Rule, Turned)>) -> BTreeMap<Rule, Precision> {
    let mut precisions: BTreeMap<Rule, Precision> = BTreeMap::new();
    for (service, rule, turned) in outcomes {
        let precision = precisions.entry(rule).or_default();
        match turned {
            Turned::Right => precision.right = precision.right.saturating_add(1),
            Turned::Wrong => {
                precision.wrong = precision.wrong.saturating_add(1);
                precision.services.insert(service);
            }
        }
    }
    precisions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(services: usize, wrong: u32, right: u32) -> Precision {
        let wrong = (0..wrong).map(|n| (n as usize % services, Rule::Silent, Turned::Wrong));
        let right = (0..right).map(|n| (n as usize % services, Rule::Silent, Turned::Right));
        tally(wrong.chain(right)).remove(&Rule::Silent).unwrap_or_default()
    }

    #[test]
    fn a_detector_is_demoted_by_many_mistakes_on_several_services() {
        assert!(outcomes(3, 8, 0).is_bad());
        assert!(outcomes(3, 5, 4).is_bad());
        assert!(!outcomes(3, 4, 4).is_bad(), "as often right as wrong");
        assert!(!outcomes(3, 7, 0).is_bad(), "too few");
        assert!(!outcomes(2, 20, 0).is_bad(), "two services may simply be broken");
        assert!(!outcomes(3, 8, 9).is_bad());
    }
}
