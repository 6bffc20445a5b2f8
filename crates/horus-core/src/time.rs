//! The engine's own clock.
//!
//! The judge never asks what time it is: every step is told. [`Mono`] counts nanoseconds since an arbitrary origin
//! and never runs backwards. The shell puts the origin long before its own start, so that ages which began in an
//! earlier life of Horus ("no order for 70 h") can be written down as ordinary instants.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An instant on the engine's monotonic clock: nanoseconds since an arbitrary origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mono(u64);

impl Mono {
    /// How long before its own start the shell places the origin: ages up to this long survive a restart of Horus.
    pub const ORIGIN_BEFORE_START: Duration = Duration::from_secs(400 * 24 * 3600);

    /// The instant `since_origin` after the origin. Saturates at the end of time (584 years).
    pub fn from_origin(since_origin: Duration) -> Self {
        Self(u64::try_from(since_origin.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The time since the origin.
    pub fn since_origin(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// How long ago `earlier` was; zero if it lies in the future.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The instant `age` before this one; the origin if that would lie before it.
    pub fn before(self, age: Duration) -> Mono {
        Mono(self.0.saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;
    fn add(self, later: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(later.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Mono {
    type Output = Duration;
    fn sub(self, earlier: Mono) -> Duration {
        self.since(earlier)
    }
}

/// Durations in stored and wire formats: whole milliseconds, in fields whose names end in `_ms`.
pub mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    fn count(duration: Duration) -> u64 {
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
    }

    /// Writes whole milliseconds.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u64(count(*duration))
    }

    /// Reads whole milliseconds.
    ///
    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }

    /// The same for `Option<Duration>`.
    pub mod option {
        use super::{Deserialize, Deserializer, Duration, Serializer, count};

        /// Writes whole milliseconds or null.
        ///
        /// # Errors
        /// Those of the serializer.
        pub fn serialize<S: Serializer>(duration: &Option<Duration>, out: S) -> Result<S::Ok, S::Error> {
            match duration {
                Some(duration) => out.serialize_some(&count(*duration)),
                None => out.serialize_none(),
            }
        }

        /// Reads whole milliseconds or null.
        ///
        /// # Errors
        /// Those of the deserializer.
        pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
            Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
        }
    }
}

/// A duration as people read it: `12.4 s`, `3 min 10 s`, `7 h 2 min`, `3 d 4 h`.
///
/// Two units at most; below ten minutes tenths of a second are kept only under one minute.
#[derive(Clone, Copy, Debug)]
pub struct Human(pub Duration);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let two = |f: &mut fmt::Formatter<'_>, big: u64, big_unit: &str, small: u64, small_unit: &str| {
            if small == 0 {
                write!(f, "{big} {big_unit}")
            } else {
                write!(f, "{big} {big_unit} {small} {small_unit}")
            }
        };
        match seconds {
            0 if self.0.as_millis() == 0 => write!(f, "0 s"),
            0 if self.0.as_millis() < 100 => write!(f, "{} ms", self.0.as_millis()),
            0..60 => {
                let tenths = self.0.as_millis() / 100;
                if tenths.is_multiple_of(10) {
                    write!(f, "{} s", tenths / 10)
                } else {
                    write!(f, "{}.{} s", tenths / 10, tenths % 10)
                }
            }
            60..3600 => two(f, seconds / 60, "min", seconds % 60, "s"),
            3600..86_400 => two(f, seconds / 3600, "h", seconds % 3600 / 60, "min"),
            _ => two(f, seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_speech() {
        let text = |millis| Human(Duration::from_millis(millis)).to_string();
        assert_eq!(text(0), "0 s");
        assert_eq!(text(40), "40 ms");
        assert_eq!(text(99), "99 ms");
        assert_eq!(text(100), "0.1 s");
        assert_eq!(text(900), "0.9 s");
        assert_eq!(text(12_430), "12.4 s");
        assert_eq!(text(129_000), "2 min 9 s");
        assert_eq!(text(7 * 3_600_000 + 120_000), "7 h 2 min");
        assert_eq!(text(504 * 3_600_000), "21 d");
        assert_eq!(text(53 * 3_600_000), "2 d 5 h");
    }

    #[test]
    fn ages_of_a_year_survive_a_restart_of_horus() {
        let (start, year) = (Mono::from_origin(Mono::ORIGIN_BEFORE_START), Duration::from_secs(365 * 86_400));
        assert_eq!(start.since(start.before(year)), year);
    }

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        let origin = Mono::default();
        assert_eq!(origin.before(Duration::from_secs(1)), origin);
        assert_eq!(origin.since(origin + Duration::from_secs(5)), Duration::ZERO);
        assert_eq!((origin + Duration::from_secs(5)) - origin, Duration::from_secs(5));
        assert_eq!((origin + Duration::MAX).since(origin), Duration::from_nanos(u64::MAX));
    }
}
