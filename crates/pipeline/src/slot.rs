//! A slot is a window of time that owes the reader one publication.
//!
//! ```text
//!        slot A            slot B            slot C
//!  ├─────────────────┼─────────────────┼─────────────────┤   every = 30 s, aligned to the epoch
//!  due here          due here          due here
//! ```
//!
//! A slot is named by its start and nothing else, so two runs of the program that never met agree on which slot it is.
//! A slot becomes due at its start. When the program was away for several, only the one that contains "now" is made
//! up; the others are recorded as missed. Catching up on all of them would answer an outage with a flood.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

/// Shortest slot: the name of a slot has whole seconds.
pub const SHORTEST_SLOT: Duration = Duration::from_secs(1);
/// Longest slot: a publication a month. Anything above is more likely a wrong unit than a plan.
pub const LONGEST_SLOT: Duration = Duration::from_secs(31 * 24 * 3600);

/// The length of every slot, in whole seconds, between [`SHORTEST_SLOT`] and [`LONGEST_SLOT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotLength {
    seconds: i64,
}

/// Why a duration cannot be the length of a slot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotLengthError {
    /// Not a duration at all, such as `30` without a unit.
    #[error("`{0}` is not a duration; write it with a unit, such as 30s, 5m or 1h")]
    NotADuration(String),
    /// Half a second cannot be named by a whole second.
    #[error("{0:?} is not a whole number of seconds")]
    NotWholeSeconds(Duration),
    /// Outside of the bounds.
    #[error("{0:?} is not between 1s and 744h")]
    OutOfBounds(Duration),
}

impl SlotLength {
    /// Checks `length`.
    pub fn new(length: Duration) -> Result<Self, SlotLengthError> {
        if length.subsec_nanos() != 0 {
            return Err(SlotLengthError::NotWholeSeconds(length));
        }
        if !(SHORTEST_SLOT..=LONGEST_SLOT).contains(&length) {
            return Err(SlotLengthError::OutOfBounds(length));
        }
        let seconds = i64::try_from(length.as_secs()).map_err(|_| SlotLengthError::OutOfBounds(length))?;
        Ok(Self { seconds })
    }

    /// The slot that contains `now`.
    #[must_use]
    pub fn slot_at(self, now: Timestamp) -> Slot {
        let second = now.as_second().div_euclid(self.seconds) * self.seconds;
        Slot::from_second(second).unwrap_or(Slot(Timestamp::MIN))
    }

    /// The slots between `last` and `current` that nothing was done for, or `None` when there are none.
    ///
    /// `last` may come from a run with another slot length; only starts on today's grid are counted.
    #[must_use]
    pub fn missed_between(self, last: Slot, current: Slot) -> Option<Missed> {
        let first = (last.second().div_euclid(self.seconds) + 1) * self.seconds;
        let final_start = current.second() - self.seconds;
        if first > final_start {
            return None;
        }
        let count = (final_start - first).div_euclid(self.seconds) + 1;
        Some(Missed {
            first: Slot::from_second(first)?,
            last: Slot::from_second(final_start)?,
            count: u64::try_from(count).ok()?,
        })
    }

    /// How long until the slot after the one that contains `now` is due.
    #[must_use]
    pub fn until_next(self, now: Timestamp) -> Duration {
        let into_slot = now.as_second().rem_euclid(self.seconds);
        Duration::from_secs(u64::try_from(self.seconds - into_slot).unwrap_or(1))
    }
}

impl std::str::FromStr for SlotLength {
    type Err = SlotLengthError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let not_a_duration = || SlotLengthError::NotADuration(text.chars().take(40).collect());
        let signed: jiff::SignedDuration = text.parse().map_err(|_| not_a_duration())?;
        Self::new(Duration::try_from(signed).map_err(|_| not_a_duration())?)
    }
}

impl fmt::Display for SlotLength {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}s", self.seconds)
    }
}

/// One slot, named by its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(Timestamp);

impl Slot {
    /// The slot that starts at this second since 1970, or `None` outside of the calendar.
    #[must_use]
    pub fn from_second(second: i64) -> Option<Self> {
        Timestamp::from_second(second).ok().map(Self)
    }

    /// The start in seconds since 1970: how the journal stores a slot.
    #[must_use]
    pub fn second(self) -> i64 {
        self.0.as_second()
    }

    /// The start.
    #[must_use]
    pub fn start(self) -> Timestamp {
        self.0
    }

    /// The start as it stands in file names: `20261122t092730z`. Sorting the names sorts by time.
    #[must_use]
    pub fn stamp(self) -> String {
        self.0.strftime("%Y%m%dt%H%M%Sz").to_string()
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

/// Slots that passed while nobody was there to serve them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// The earliest.
    pub first: Slot,
    /// The latest; it is before the slot that is made up.
    pub last: Slot,
    /// How many, both ends included.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_stamp_is_sortable_and_safe_in_a_file_name() {
        let slot = "30s".parse::<SlotLength>().unwrap().slot_at("2026-11-22T09:27:59.9Z".parse().unwrap());
        assert_eq!(slot.stamp(), "20261122t092730z");
    }

    #[test]
    fn lengths_without_a_unit_or_out_of_bounds_are_refused_with_a_hint() {
        let message = |text: &str| text.parse::<SlotLength>().unwrap_err().to_string();
        assert_eq!(message("30"), "`30` is not a duration; write it with a unit, such as 30s, 5m or 1h");
        assert_eq!(message("1500ms"), "1.5s is not a whole number of seconds");
        assert_eq!(message("0s"), "0ns is not between 1s and 744h");
        assert!(message("-30s").contains("not a duration"));
        assert!(message("1000h").contains("not between"));
        assert!(message("𝟛𝟘s").contains("not a duration"));
    }

    #[test]
    fn a_night_away_misses_all_but_the_current_slot() {
        let every = SlotLength::new(Duration::from_secs(60)).unwrap();
        let last = every.slot_at(at(600));
        let current = every.slot_at(at(600 + 5 * 60 + 7));
        let missed = every.missed_between(last, current).unwrap();
        assert_eq!((missed.first.second(), missed.last.second(), missed.count), (660, 840, 4));
        assert_eq!(every.missed_between(last, every.slot_at(at(661))), None);
    }

    proptest! {
        #[test]
        fn a_slot_contains_its_moment(second in -1_000_000_000_i64..100_000_000_000, length in 1_u64..2_678_400) {
            let every = SlotLength::new(Duration::from_secs(length)).unwrap();
            let slot = every.slot_at(at(second));
            prop_assert!(slot.second() <= second);
            prop_assert!(second < slot.second() + i64::try_from(length).unwrap());
            prop_assert_eq!(slot.second().rem_euclid(i64::try_from(length).unwrap()), 0);
            prop_assert_eq!(every.slot_at(slot.start()), slot, "the start belongs to its own slot");
            let next = every.slot_at(at(second) + every.until_next(at(second)));
            prop_assert!(next > slot, "after the wait the next slot is due");
            prop_assert_eq!(next.second(), slot.second() + i64::try_from(length).unwrap());
        }

        #[test]
        fn served_and_missed_slots_add_up(start in 0_i64..4_000_000_000, gap in 0_i64..5_000, length in 1_u64..5_000) {
            let every = SlotLength::new(Duration::from_secs(length)).unwrap();
            let last = every.slot_at(at(start));
            let current = every.slot_at(at(start + gap * i64::try_from(length).unwrap()));
            let missed = every.missed_between(last, current).map_or(0, |missed| missed.count);
            prop_assert_eq!(missed, u64::try_from(gap).unwrap().saturating_sub(1));
        }

        #[test]
        fn names_sort_like_time(one in 0_i64..4_000_000_000, other in 0_i64..4_000_000_000) {
            let (one, other) = (Slot::from_second(one).unwrap(), Slot::from_second(other).unwrap());
            prop_assert_eq!(one.cmp(&other), one.stamp().cmp(&other.stamp()));
        }
    }
}
