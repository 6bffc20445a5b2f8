//! How much of the time somebody who could work had to wait, as the kernel measures it.
//!
//! The judge is told when it matters and when it no longer does, not every ten seconds: a figure that wanders between
//! 1 and 5 % is nobody's news.

use horus_core::observation::HostObservation;
use horus_sys::fact::{Fact, Missing};
use horus_sys::facts::{self, HostPressure};

/// From this share of waiting on, a machine is under pressure.
const HIGH: f64 = 0.2;

/// A change by this much is worth telling while it is, or when it is no longer.
const CHANGE: f64 = 0.1;

/// The shares of the last ten seconds in which somebody waited: for a processor, for memory, for disks.
type Shares = [f64; 3];

/// Compares each reading with what was told last.
#[derive(Debug, Default)]
pub(super) struct PressureWatch {
    told: Shares,
    blind: bool,
}

impl PressureWatch {
    /// What the judge should hear of this reading, if anything.
    pub(super) fn look(&mut self, seen: HostPressure) -> Option<HostObservation> {
        let now = match shares(seen) {
            Ok(now) => {
                self.blind = false;
                now
            }
            Err(why) => {
                if !self.blind {
                    self.blind = true;
                    tracing::info!(?why, "the pressure on this machine is not observed");
                }
                // What was told is about ten seconds that are over. It is taken back; without it there is no news.
                Shares::default()
            }
        };
        let matters = self.told.iter().zip(now).any(|(told, now)| matters(*told, now));
        matters.then(|| {
            self.told = now;
            let [cpu, memory, io] = now;
            HostObservation::Pressure { cpu, memory, io }
        })
    }
}

fn matters(told: f64, now: f64) -> bool {
    let rose = now >= HIGH && told < HIGH;
    rose || (told.max(now) >= HIGH && (told - now).abs() >= CHANGE)
}

/// All three, or why one of them cannot be seen.
fn shares(seen: HostPressure) -> Result<Shares, Missing> {
    let share = |pressure: Fact<facts::Pressure>| match pressure {
        Fact::Known(pressure) => Ok((pressure.some_avg10 / 100.0).clamp(0.0, 1.0)),
        Fact::Missing(why) => Err(why),
    };
    Ok([share(seen.cpu)?, share(seen.memory)?, share(seen.io)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(percent: [f64; 3]) -> HostPressure {
        let known = |some_avg10| Fact::Known(facts::Pressure { some_avg10, full_avg10: None });
        let [cpu, memory, io] = percent;
        HostPressure { cpu: known(cpu), memory: known(memory), io: known(io) }
    }

    fn hear(watch: &mut PressureWatch, percent: [f64; 3]) -> Option<[i64; 3]> {
        match watch.look(reading(percent))? {
            HostObservation::Pressure { cpu, memory, io } => {
                Some([cpu, memory, io].map(|share| (share * 100.0).round() as i64))
            }
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn a_calm_machine_is_never_told() {
        let mut watch = PressureWatch::default();
        for percent in [0.0, 3.0, 19.9, 0.0, 15.0] {
            assert_eq!(hear(&mut watch, [percent, 0.0, percent / 2.0]), None, "{percent}");
        }
    }

    #[test]
    fn pressure_is_told_when_it_comes_changes_and_goes() {
        let mut watch = PressureWatch::default();
        assert_eq!(hear(&mut watch, [19.0, 0.0, 0.0]), None);
        assert_eq!(hear(&mut watch, [21.0, 1.0, 2.0]), Some([21, 1, 2]), "it came");
        assert_eq!(hear(&mut watch, [30.0, 1.0, 2.0]), None);
        assert_eq!(hear(&mut watch, [32.0, 1.0, 2.0]), Some([32, 1, 2]), "it changed");
        assert_eq!(hear(&mut watch, [32.0, 25.0, 2.0]), Some([32, 25, 2]), "another one came");
        assert_eq!(hear(&mut watch, [2.0, 20.0, 2.0]), Some([2, 20, 2]), "one went");
        assert_eq!(hear(&mut watch, [2.0, 19.0, 2.0]), None, "it does not flutter around the threshold");
        assert_eq!(hear(&mut watch, [2.0, 21.0, 2.0]), None);
        assert_eq!(hear(&mut watch, [2.0, 9.0, 2.0]), Some([2, 9, 2]), "all is well");
        assert_eq!(hear(&mut watch, [2.0, 0.0, 2.0]), None, "said once");
        assert_eq!(hear(&mut watch, [2.0, 0.0, 60.0]), Some([2, 0, 60]));
        assert_eq!(hear(&mut watch, [2.0, 0.0, 15.0]), Some([2, 0, 15]));
        assert_eq!(
            hear(&mut watch, [2.0, 0.0, 21.0]),
            Some([2, 0, 21]),
            "it is back, however small the change"
        );
    }

    #[test]
    fn what_cannot_be_seen_is_not_told_and_takes_back_what_was() {
        let unseen = || HostPressure {
            cpu: Fact::Known(facts::Pressure { some_avg10: 90.0, full_avg10: None }),
            memory: Fact::Missing(Missing::Unsupported),
            io: Fact::Missing(Missing::Unsupported),
        };
        let mut watch = PressureWatch::default();
        assert_eq!(watch.look(unseen()), None);
        assert_eq!(hear(&mut watch, [90.0, 0.0, 0.0]), Some([90, 0, 0]));
        let back = HostObservation::Pressure { cpu: 0.0, memory: 0.0, io: 0.0 };
        assert_eq!(watch.look(unseen()), Some(back));
        assert_eq!(watch.look(unseen()), None);
    }

    #[test]
    fn nonsense_of_the_kernel_stays_a_share() {
        let mut watch = PressureWatch::default();
        assert_eq!(hear(&mut watch, [250.0, -3.0, 0.0]), Some([100, 0, 0]));
        assert_eq!(hear(&mut watch, [100.0, f64::NAN, 0.0]), None);
    }

    /// This very machine, if its kernel tells.
    #[test]
    fn the_kernel_of_this_machine_is_understood() {
        match shares(facts::pressure()) {
            Ok(shares) => assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "{shares:?}"),
            Err(why) => assert_eq!(why, Missing::Unsupported),
        }
    }
}
