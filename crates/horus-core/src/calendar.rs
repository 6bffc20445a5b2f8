//! Times of the calendar: `0 6 * * *` in `Europe/Berlin`.
//!
//! The engine knows only its own clock. Where a plan speaks of times of day, the shell says what time it is
//! ([`crate::observation::Input::Wall`]), and this module says when the next one comes. Days with 23 or 25 hours are the library's
//! business: a time that a change of the clocks skips is taken at the change, one that comes twice is taken once.

use std::fmt;
use std::str::FromStr as _;

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// A cron pattern in a time zone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Calendar {
    pattern: String,
    zone: String,
    cron: Box<Cron>,
    time_zone: TimeZone,
}

/// Why a text is no calendar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// The pattern is not one that cron understands.
    #[error("'{0}' is no cron pattern: {1}")]
    Pattern(String, String),
    /// The time zone is not known on this machine.
    #[error("there is no time zone '{0}'")]
    Zone(String),
    /// It names no time that ever comes (the 31st of February).
    #[error("'{0}' never comes")]
    Never(String),
}

/// The stored form.
#[derive(Clone, Serialize, Deserialize)]
struct Written {
    pattern: String,
    zone: String,
}

impl Calendar {
    /// Reads a cron pattern (five fields: minute, hour, day, month, weekday) and the name of a time zone (`UTC`,
    /// `Europe/Berlin`).
    ///
    /// # Errors
    /// [`CalendarError`], which names what is wrong.
    pub fn parse(pattern: &str, zone: &str) -> Result<Self, CalendarError> {
        let bad =
            |error: croner::errors::CronError| CalendarError::Pattern(pattern.to_owned(), error.to_string());
        let cron = Cron::from_str(pattern).map_err(bad)?;
        let unknown = |_| CalendarError::Zone(zone.to_owned());
        let time_zone = if zone == "UTC" { TimeZone::UTC } else { TimeZone::get(zone).map_err(unknown)? };
        let cron = Box::new(cron);
        let calendar = Self { pattern: pattern.to_owned(), zone: zone.to_owned(), cron, time_zone };
        match calendar.next_after(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(calendar),
            None => Err(CalendarError::Never(pattern.to_owned())),
        }
    }

    /// The first time after `now`. `None`: none within the range of the calendar.
    pub fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        let zoned = now.to_zoned(self.time_zone.clone());
        self.cron.find_next_occurrence(&zoned, false).ok().map(|next| next.timestamp())
    }
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.pattern, self.zone)
    }
}

impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<Written> for Calendar {
    type Error = CalendarError;
    fn try_from(written: Written) -> Result<Self, CalendarError> {
        Self::parse(&written.pattern, &written.zone)
    }
}

impl From<Calendar> for Written {
    fn from(calendar: Calendar) -> Written {
        Written { pattern: calendar.pattern, zone: calendar.zone }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(pattern: &str, zone: &str, now: &str) -> String {
        let calendar = Calendar::parse(pattern, zone).unwrap();
        calendar.next_after(now.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn the_calendar_follows_its_zone() {
        assert_eq!(next("0 6 * * *", "UTC", "2026-11-22T05:59:59Z"), "2026-11-22T06:00:00Z");
        assert_eq!(next("0 6 * * *", "UTC", "2026-11-22T06:00:00Z"), "2026-11-23T06:00:00Z");
    }

    #[test]
    fn what_is_no_calendar_is_named() {
        assert!(matches!(Calendar::parse("0 25 * * *", "UTC"), Err(CalendarError::Pattern(..))));
        assert!(matches!(Calendar::parse("0 6 * * *", "Mars/Olympus"), Err(CalendarError::Zone(_))));
        assert!(Calendar::parse("0 0 31 2 *", "UTC").is_err());
    }
}
