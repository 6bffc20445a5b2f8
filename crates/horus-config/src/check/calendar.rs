//! Times of the calendar: jobs and maintenance. What comes out is a plan, and how far apart its times are: most mistakes
//! with calendars are mistakes about that.

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::calendar::{Calendar, CalendarError};
use horus_core::ids::ServiceName;
use horus_core::plan::{MaintenancePlan, SchedulePlan, When};
use jiff::Timestamp;

use super::{Check, Subject};
use crate::at::{At, Span};
use crate::defaults::TIME_ZONE;
use crate::fault::Code;
use crate::raw::{CronText, Named, RawFile, RawMaintenance, RawSchedule, ZoneText};
use crate::words::{duration_text as text, nearest};

/// Fields of a cron pattern: minute, hour, day of the month, month, weekday.
const FIELDS: usize = 5;
/// Longest pattern, in bytes: each of five fields as a list of all its values is shorter.
const PATTERN_BYTES_MAX: usize = 512;
/// How many times of a calendar are looked at to learn how far apart they are.
const TIMES_LOOKED_AT: usize = 400;
/// The same where one gap too many would refuse a file: a week of minutes.
const TIMES_LOOKED_AT_LONG: usize = 10_080;
/// From here on; any day would do, but it has to be the same one each time.
const LOOKED_AT_FROM: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// A schedule, with what its arithmetic needs.
pub(super) struct Job {
    pub(super) plan: SchedulePlan,
    /// Where its table stands.
    pub(super) span: Span,
    pub(super) finish_span: Span,
    /// The shortest time from one start to the next.
    pub(super) shortest: Duration,
    /// The longest.
    pub(super) longest: Duration,
}

impl Check<'_> {
    /// Is it a job, even if its schedule could not be read?
    pub(super) fn is_job(&self, subject: &Subject<'_>) -> bool {
        subject.raw.schedule.is_some() || self.was_cut(&[subject.table, subject.name.as_str(), "schedule"])
    }

    pub(super) fn schedule(&mut self, subject: &Subject<'_>) -> Option<Job> {
        let At { value: raw, span } = subject.raw.schedule.as_ref()?;
        let path = [subject.table, subject.name.as_str(), "schedule"];
        let places = [
            ("every", raw.every.as_ref().map(|at| &at.span)),
            ("cron", raw.cron.as_ref().map(|at| &at.span)),
        ];
        let message = format!("the schedule of `{}` needs one way to say when", subject.name);
        let one = self.exactly_one(&message, &path, span, &places);
        let finish = match &raw.finish {
            Some(at) => self.time(at, "finish").map(|duration| (duration, at.span.clone())),
            None => {
                let help = "write `finish = \"20m\"`: the longest honest run, times two";
                self.missing(&[path[0], path[1], path[2], "finish"], span, help);
                None
            }
        };
        let when = self.when(raw);
        one?;
        let (when, (finish, finish_span)) = (when?, finish?);
        let (shortest, longest) = match &when {
            When::Every(every) => (*every, *every),
            When::Cron(calendar) => gaps(calendar).unwrap_or((Duration::MAX, Duration::MAX)),
        };
        let catch_up = raw.catch_up.as_ref().is_some_and(|at| at.value);
        let plan = SchedulePlan { when, finish, catch_up };
        Some(Job { plan, span: span.clone(), finish_span, shortest, longest })
    }

    fn when(&mut self, raw: &RawSchedule) -> Option<When> {
        if let Some(cron) = &raw.cron {
            return self.calendar(cron, raw.time_zone.as_ref()).map(When::Cron);
        }
        if let (Some(zone), Some(_)) = (&raw.time_zone, &raw.every) {
            self.findings
                .report(Code::Void, &zone.span, "`every` counts from the start before, in any time zone")
                .label("void")
                .help("`time_zone` belongs to `cron`");
        }
        if let (Some(catch_up), Some(_)) = (raw.catch_up.as_ref().filter(|at| at.value), &raw.every) {
            self.findings
                .report(
                    Code::Void,
                    &catch_up.span,
                    "with `every` a run that is overdue is begun at once in any case",
                )
                .label("void")
                .help("`catch_up` belongs to `cron`");
        }
        raw.every.as_ref().and_then(|at| self.time(at, "every")).map(When::Every)
    }

    /// Both faults at once: a pattern that is none, and a time zone that is none.
    fn calendar(&mut self, cron: &At<CronText>, zone: Option<&At<ZoneText>>) -> Option<Calendar> {
        let pattern = self.pattern(cron);
        let zone_name = match zone {
            Some(at) => self.time_zone(at),
            None => Some(TIME_ZONE),
        };
        // Both were good alone, so they are together.
        Calendar::parse(pattern?, zone_name?).ok()
    }

    fn pattern<'t>(&mut self, at: &'t At<CronText>) -> Option<&'t str> {
        let pattern = at.value.0.trim();
        let fields = pattern.split_whitespace().count();
        let (code, message) = if pattern.len() > PATTERN_BYTES_MAX {
            (Code::BadCalendar, format!("`cron` is longer than {PATTERN_BYTES_MAX} bytes"))
        } else if fields != FIELDS && !pattern.starts_with('@') {
            (Code::BadCalendar, format!("`cron` has {FIELDS} fields, not {fields}"))
        } else {
            match Calendar::parse(pattern, TIME_ZONE) {
                Ok(_) => return Some(pattern),
                Err(CalendarError::Never(_)) => {
                    (Code::NeverComes, format!("\"{pattern}\" never comes: no month has such a day"))
                }
                Err(CalendarError::Pattern(_, why)) => {
                    (Code::BadCalendar, format!("`cron` cannot be read: {why}"))
                }
                Err(error @ CalendarError::Zone(_)) => (Code::BadCalendar, error.to_string()),
            }
        };
        let label = if code == Code::NeverComes { "no such day" } else { "not a cron pattern" };
        self.findings
            .report(code, &at.span, message)
            .label(label)
            .help("minute, hour, day of the month, month, weekday: \"0 6 * * *\" is every day at six, \"*/15 9-17 * * MON-FRI\" every quarter of an hour in office hours");
        None
    }

    fn time_zone<'t>(&mut self, at: &'t At<ZoneText>) -> Option<&'t str> {
        let zone = at.value.0.trim();
        if Calendar::parse("0 0 * * *", zone).is_ok() {
            return Some(zone);
        }
        let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
        let help = match nearest(zone, known.iter().map(String::as_str)) {
            Some(word) => format!("did you mean `{word}`?"),
            None => "zones are named like \"Europe/Berlin\"; \"UTC\" is always known".to_owned(),
        };
        self.findings
            .report(Code::UnknownTimeZone, &at.span, "there is no such time zone on this machine")
            .label("unknown")
            .help(help);
        None
    }

    pub(super) fn maintenance(&mut self, raw: &RawFile) -> BTreeMap<String, MaintenancePlan> {
        let units = raw.monitor.iter().filter(|(_, monitor)| monitor.value.is_unit()).map(|(name, _)| name);
        let services: Vec<&str> = raw.service.keys().chain(units).map(|name| name.value.as_str()).collect();
        self.windows(&raw.maintenance, &services)
    }

    fn windows(&mut self, raw: &Named<RawMaintenance>, known: &[&str]) -> BTreeMap<String, MaintenancePlan> {
        let mut plans = BTreeMap::new();
        for (name, at) in raw {
            self.part_name("maintenance", name);
            let window = &at.value;
            let path = ["maintenance", name.value.as_str()];
            if window.cron.is_none() {
                self.missing(&[path[0], path[1], "cron"], &name.span, "write `cron = \"0 3 * * SUN\"`");
            }
            if window.lasts.is_none() {
                self.missing(&[path[0], path[1], "lasts"], &name.span, "write `lasts = \"1h\"`");
            }
            let services = self.maintained(name, window, known);
            let when = window.cron.as_ref().and_then(|cron| self.calendar(cron, window.time_zone.as_ref()));
            let lasts = window.lasts.as_ref().and_then(|at| Some((self.time(at, "lasts")?, &at.span)));
            let (Some(when), Some((lasts, lasts_span))) = (when, lasts) else {
                continue;
            };
            if covers_everything(&when, lasts) {
                let fault = self.findings.report(
                    Code::AlwaysMaintenance,
                    lasts_span,
                    format!(
                        "the maintenance `{}` would never end: it begins again before its {} are over",
                        name.value,
                        text(lasts)
                    ),
                );
                fault.label("nothing would ever be healed").help(
                    "make it shorter; for a service that is never to be signalled write `observe = true`",
                );
                if let Some(cron) = &window.cron {
                    fault.also(&cron.span, "begins again");
                }
            }
            plans.insert(name.value.clone(), MaintenancePlan { services, when, lasts });
        }
        plans
    }

    /// The services that a window is for. An empty list in the plan means all of them, so it may not come from a list that
    /// names none.
    fn maintained(&mut self, name: &At<String>, window: &RawMaintenance, known: &[&str]) -> Vec<ServiceName> {
        let Some(list) = &window.services else {
            return Vec::new();
        };
        if list.value.is_empty() {
            self.findings
                .report(
                    Code::MissingKey,
                    &list.span,
                    format!("the maintenance `{}` is for no service", name.value),
                )
                .label("names none")
                .help("leave `services` out for all of them");
        }
        let mut names = Vec::new();
        for at in &list.value {
            let service = at.value.0.as_str();
            if !known.contains(&service) && !self.was_cut(&["service", service]) {
                self.unknown_service(
                    format!(
                        "the maintenance `{}` is for `{}`, which does not exist",
                        name.value,
                        service.escape_debug()
                    ),
                    service,
                    &at.span,
                    known,
                );
            } else if let Ok(service) = ServiceName::parse(service)
                && !names.contains(&service)
            {
                names.push(service);
            }
        }
        names
    }
}

/// The times of a calendar from a fixed day on, at most so many.
fn times(calendar: &Calendar, most: usize) -> impl Iterator<Item = Timestamp> + '_ {
    std::iter::successors(calendar.next_after(LOOKED_AT_FROM), |last| calendar.next_after(*last)).take(most)
}

/// The shortest and the longest time from one time of the calendar to the next. `None`: there are not two.
fn gaps(calendar: &Calendar) -> Option<(Duration, Duration)> {
    let mut found: Option<(Duration, Duration)> = None;
    let mut last = None;
    for time in times(calendar, TIMES_LOOKED_AT) {
        if let Some(last) = last.replace(time) {
            let gap = between(last, time);
            found =
                Some(found.map_or((gap, gap), |(shortest, longest)| (shortest.min(gap), longest.max(gap))));
        }
    }
    found
}

/// Is there no moment outside of these windows?
fn covers_everything(calendar: &Calendar, lasts: Duration) -> bool {
    let mut times = times(calendar, TIMES_LOOKED_AT_LONG);
    let Some(mut last) = times.next() else {
        return false;
    };
    times.all(|time| between(std::mem::replace(&mut last, time), time) <= lasts)
}

fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(pattern: &str) -> Calendar {
        Calendar::parse(pattern, "UTC").unwrap()
    }

    #[test]
    fn gaps_are_those_of_the_calendar() {
        let hours = |n: u64| Duration::from_secs(n * 3600);
        assert_eq!(gaps(&calendar("0 6 * * *")), Some((hours(24), hours(24))));
        assert_eq!(gaps(&calendar("0 6 * * MON-FRI")), Some((hours(24), hours(72))));
        assert_eq!(gaps(&calendar("0 6,18 * * *")), Some((hours(12), hours(12))));
        assert_eq!(gaps(&calendar("0 0 29 2 *")).map(|(shortest, _)| shortest), Some(hours(1461 * 24)));
    }

    #[test]
    fn only_what_leaves_no_moment_covers_everything() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        assert!(covers_everything(&calendar("0 3 * * *"), minutes(24 * 60)));
        assert!(!covers_everything(&calendar("0 3 * * *"), minutes(24 * 60 - 1)));
        // Every minute of the office hours: the gap of the night comes late.
        assert!(!covers_everything(&calendar("* 9-17 * * *"), minutes(60)));
        assert!(!covers_everything(&calendar("* * * * MON-FRI"), minutes(60)));
        assert!(covers_everything(&calendar("* * * * *"), minutes(1)));
    }
}
