//! Maintenance windows: times by the calendar in which a person works on services. No rule signals, messages make no noise, and
//! what is still wrong at the end is judged as if nobody had been there.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::ids::ServiceName;
use crate::plan::MaintenancePlan;
use crate::time::Mono;

/// All windows of the plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct Maintenance {
    windows: BTreeMap<String, Window>,
}

#[derive(Clone, Debug)]
struct Window {
    plan: MaintenancePlan,
    /// It is going on until then.
    until: Option<Mono>,
    /// The same as a time of day.
    ends: Option<Timestamp>,
    next: Option<Mono>,
}

/// A window that began or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    Began(String, std::time::Duration),
    Ended(String),
}

impl Maintenance {
    /// Follows the windows of a plan. One that is going on and stays goes on.
    pub(crate) fn retune(
        &mut self,
        plans: &BTreeMap<String, MaintenancePlan>,
        now: Mono,
        wall: Option<Timestamp>,
    ) -> Vec<Turned> {
        let mut ended = Vec::new();
        self.windows.retain(|name, window| {
            let stays = plans.get(name) == Some(&window.plan);
            if !stays && window.until.is_some() {
                ended.push(Turned::Ended(name.clone()));
            }
            stays
        });
        for (name, plan) in plans {
            self.windows.entry(name.clone()).or_insert(Window {
                plan: plan.clone(),
                until: None,
                ends: None,
                next: None,
            });
        }
        self.set_clock(now, wall);
        ended
    }

    /// The time of day is known, or was set: the next times are computed anew. A window that began within its own length
    /// before now and is not known to be going on goes on for what is left of it.
    pub(crate) fn set_clock(&mut self, now: Mono, wall: Option<Timestamp>) {
        let Some(wall) = wall else { return };
        for window in self.windows.values_mut() {
            // The clock that does not count sleep may have left the window behind, and one that was set may have come into another.
            let mut goes_on = false;
            if let Some(ends) = window.ends.filter(|_| window.until.is_some()) {
                let began = ends.checked_sub(window.plan.lasts).unwrap_or(ends);
                goes_on = began <= wall && wall < ends;
                window.until = Some(if goes_on { at_mono(now, wall, ends) } else { now });
            }
            let earlier = wall.checked_sub(window.plan.lasts).unwrap_or(wall);
            let from = if goes_on { wall } else { earlier };
            window.next = window.plan.when.next_after(from).map(|at| at_mono(now, wall, at));
        }
    }

    /// Does what is due.
    pub(crate) fn tend(&mut self, now: Mono, wall: Option<Timestamp>) -> Vec<Turned> {
        let mut turned = Vec::new();
        for (name, window) in &mut self.windows {
            if window.until.is_some_and(|until| until <= now) {
                window.until = None;
                turned.push(Turned::Ended(name.clone()));
            }
            if let Some(next) = window.next.filter(|next| *next <= now) {
                let until = next + window.plan.lasts;
                if until > now {
                    if window.until.is_none() {
                        turned.push(Turned::Began(name.clone(), until.since(now)));
                    }
                    window.until = Some(until.max(window.until.unwrap_or(until)));
                    window.ends = wall.and_then(|wall| wall.checked_add(until.since(now)).ok());
                }
                window.next = wall
                    .and_then(|wall| Some((wall, window.plan.when.next_after(wall)?)))
                    .map(|(wall, at)| at_mono(now, wall, at));
            }
        }
        turned
    }

    pub(crate) fn due(&self) -> Option<Mono> {
        self.windows.values().flat_map(|window| [window.until, window.next]).flatten().min()
    }

    /// The window that is going on for this service.
    pub(crate) fn covers(&self, service: &str) -> Option<&str> {
        let covers = |plan: &MaintenancePlan| {
            plan.services.is_empty()
                || plan.services.iter().any(|name: &ServiceName| name.as_str() == service)
        };
        let going_on = self.windows.iter().filter(|(_, window)| window.until.is_some());
        going_on.into_iter().find(|(_, window)| covers(&window.plan)).map(|(name, _)| name.as_str())
    }
}

/// A time of day as an instant of the engine's clock; the past is now.
pub(crate) fn at_mono(now: Mono, wall: Timestamp, at: Timestamp) -> Mono {
    match std::time::Duration::try_from(at.duration_since(wall)) {
        Ok(ahead) => now + ahead,
        Err(_) => now.before(wall.duration_since(at).unsigned_abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Calendar;
    use std::time::Duration;

    fn at(seconds: u64) -> Mono {
        Mono::from_origin(Duration::from_secs(1_000_000 + seconds))
    }

    #[test]
    fn a_window_begins_and_ends_by_the_calendar_and_covers_its_services() {
        let when = Calendar::parse("0 3 * * *", "UTC").unwrap();
        let services = vec![ServiceName::parse("bot").unwrap()];
        let plan = MaintenancePlan { services, when, lasts: Duration::from_secs(3600) };
        let plans = BTreeMap::from([("backup".to_owned(), plan)]);
        let wall: Timestamp = "2026-11-22T02:00:00Z".parse().unwrap();
        let mut maintenance = Maintenance::default();
        assert_eq!(maintenance.retune(&plans, at(0), Some(wall)), []);
        assert_eq!(maintenance.due(), Some(at(3600)));
        assert_eq!(maintenance.tend(at(3599), Some(wall)), []);
        let three: Timestamp = "2026-11-22T03:00:00Z".parse().unwrap();
        let began = Turned::Began("backup".into(), Duration::from_secs(3600));
        assert_eq!(maintenance.tend(at(3600), Some(three)), [began]);
        assert_eq!(maintenance.covers("bot"), Some("backup"));
        assert_eq!(maintenance.covers("other"), None);
        assert_eq!(maintenance.due(), Some(at(7200)));
        let four: Timestamp = "2026-11-22T04:00:00Z".parse().unwrap();
        assert_eq!(maintenance.tend(at(7200), Some(four)), [Turned::Ended("backup".into())]);
        assert_eq!(maintenance.covers("bot"), None);
        assert_eq!(maintenance.due(), Some(at(3600 + 86_400)));
    }

    #[test]
    fn horus_that_starts_within_a_window_is_in_it() {
        let when = Calendar::parse("0 3 * * *", "UTC").unwrap();
        let plan = MaintenancePlan { services: vec![], when, lasts: Duration::from_secs(3600) };
        let plans = BTreeMap::from([("backup".to_owned(), plan)]);
        let wall: Timestamp = "2026-11-22T03:20:00Z".parse().unwrap();
        let mut maintenance = Maintenance::default();
        let _ = maintenance.retune(&plans, at(0), Some(wall));
        let began = Turned::Began("backup".into(), Duration::from_secs(2400));
        assert_eq!(maintenance.tend(at(0), Some(wall)), [began]);
        assert_eq!(maintenance.due(), Some(at(2400)));
    }
}
