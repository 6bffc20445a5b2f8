//! Times as people write them: `90s`, `1h30m`, `16:18:06`, `day 3 00:00`.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a time may look like.
pub(super) const FORMS: [&str; 3] = [
    "\"90s\", \"1h30m\", \"3d\": since the beginning",
    "\"16:18:06\", \"16:18\": the next time of that clock (UTC), not before the entry above",
    "\"day 3 06:00\": the beginning is on day 1",
];

/// Reads `250ms`, `90s`, `1h30m`, `7d`.
pub(super) fn parse_span(text: &str) -> Option<Duration> {
    let (mut rest, mut total) = (text, Duration::ZERO);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(letters);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        let count: f64 = number.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(count * seconds).ok()?)?;
        rest = next;
    }
    Some(total)
}

/// Writes a span as people say it: `8m39s`.
pub(super) fn span_text(span: Duration) -> String {
    horus_core::time::Human(span).to_string()
}

/// Reads times of a timeline in their order.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    /// From midnight to the beginning.
    offset: Duration,
    last: Duration,
}

impl Clock {
    pub(super) fn new(begins: Timestamp) -> Self {
        Self { offset: time_of_day(begins), last: Duration::ZERO }
    }

    /// The time that was read last, since the beginning.
    pub(super) fn last(&self) -> Duration {
        self.last
    }

    pub(super) fn advance(&mut self, to: Duration) {
        self.last = to;
    }

    /// The time since the beginning that a text means.
    pub(super) fn read(&self, text: &str) -> Option<Duration> {
        if let Some(rest) = text.strip_prefix("day ") {
            let (day, time) = rest.split_once(' ')?;
            let day: u32 = day.parse().ok()?;
            return (DAY * day.checked_sub(1)? + read_time(time)?).checked_sub(self.offset);
        }
        if text.contains(':') {
            let time = read_time(text)?;
            // In whole days after the first midnight, at or after the entry above.
            let last = self.offset + self.last;
            let days = u32::try_from(last.as_secs() / DAY.as_secs()).ok()?;
            let today = DAY * days + time;
            let next = if today >= last { today } else { today + DAY };
            return next.checked_sub(self.offset);
        }
        parse_span(text)
    }
}

fn read_time(text: &str) -> Option<Duration> {
    let mut parts = text.split(':');
    let (hours, minutes) = (parts.next()?.parse::<u64>().ok()?, parts.next()?.parse::<u64>().ok()?);
    let seconds = parts.next().map_or(Some(0.0), |part| part.parse::<f64>().ok())?;
    let fits = hours < 24 && minutes < 60 && (0.0..60.0).contains(&seconds) && parts.next().is_none();
    fits.then(|| Duration::from_secs(hours * 3600 + minutes * 60) + Duration::from_secs_f64(seconds))
}

/// From midnight (UTC) to an instant.
pub(super) fn time_of_day(at: Timestamp) -> Duration {
    let time = at.to_zoned(TimeZone::UTC).time();
    let seconds = i64::from(time.hour()) * 3600 + i64::from(time.minute()) * 60 + i64::from(time.second());
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_they_are_said() {
        let read = |text| parse_span(text).map(|span| span.as_millis());
        assert_eq!(read("90s"), Some(90_000));
        assert_eq!(read("1h30m"), Some(5_400_000));
        assert_eq!(read("250ms"), Some(250));
        assert_eq!(read("0.5s"), Some(500));
        for wrong in ["", "90", "s", "9x", "1h-", "1e99d", "90 s"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_of_day_come_in_their_order() {
        let mut clock = Clock::new("2026-03-02T16:00:00Z".parse().unwrap());
        let at = |clock: &Clock, text: &str| clock.read(text).map(|at| at.as_secs());
        assert_eq!(at(&clock, "16:18:06"), Some(18 * 60 + 6));
        assert_eq!(at(&clock, "00:00"), Some(8 * 3600), "after midnight");
        assert_eq!(at(&clock, "day 2 16:00"), Some(86_400));
        assert_eq!(at(&clock, "day 1 15:00"), None, "before the beginning");
        clock.advance(Duration::from_secs(8 * 3600));
        assert_eq!(at(&clock, "00:00"), Some(8 * 3600), "at the entry above");
        assert_eq!(at(&clock, "25:00"), None);
    }
}
