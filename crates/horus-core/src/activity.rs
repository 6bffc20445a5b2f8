//! Weak signs of life: what a program prints, uses and moves, as Horus counts it from outside.
//!
//! They are counters like those of a beat, under names that no program can take, and may be declared as values and as work that
//! has to move. They excuse no silence: a helper thread prints, a retry storm uses CPU. Their *absence* says more: who prints nothing,
//! uses nothing and moves nothing does nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::observation::Activity;
use crate::plan::ServicePlan;
use crate::time::{Human, Mono};

/// Bytes that it has printed.
pub const OUTPUT: &str = "horus.output";
/// Milliseconds of processor time of its tree.
pub const CPU: &str = "horus.cpu";
/// Bytes that its tree has read and written.
pub const IO: &str = "horus.io";

/// All of them.
pub const COUNTERS: [&str; 3] = [OUTPUT, CPU, IO];

/// What begins so is counted by Horus.
const PREFIX: &str = "horus.";

/// How often a program is looked at whose plan names one of these counters, or steps: a quarter of the shortest limit, but within these bounds.
pub const NAMED_EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(5);

/// How often one is looked at of which nothing else is heard.
pub const OPAQUE_EVERY: Duration = Duration::from_secs(30);

/// Counts that were not renewed for so long say nothing any more.
const STALE: Duration = Duration::from_secs(90);

/// Who does nothing for less than this only waits.
const QUIET_MIN: Duration = Duration::from_secs(60);

/// Whether Horus counts what has this name, and no program does.
pub fn is_own(counter: &str) -> bool {
    counter.starts_with(PREFIX)
}

/// How often its weak signs are looked at, if at all: where its plan names them, and where there is little else.
pub fn look_every(plan: &ServicePlan) -> Option<Duration> {
    let values = plan.values.values().map(|value| (&value.counter, value.stale));
    let work = plan.progress.values().map(|work| (&work.counter, work.stalled));
    let stages = plan.funnels.values().flat_map(|funnel| &funnel.stages).map(|stage| (stage, Duration::MAX));
    let named =
        values.chain(work).chain(stages).filter(|(counter, _)| is_own(counter)).map(|(_, limit)| limit);
    if let Some(shortest) = named.chain(plan.steps.values().copied()).min() {
        return Some((shortest / 4).clamp(*NAMED_EVERY.start(), *NAMED_EVERY.end()));
    }
    (plan.schedule.is_some() || plan.beats.is_empty()).then_some(OPAQUE_EVERY)
}

/// The counters by their names.
pub(crate) fn counts(activity: &Activity) -> BTreeMap<String, u64> {
    let all = [(OUTPUT, activity.output_bytes), (CPU, activity.cpu_ms), (IO, activity.io_bytes)];
    all.into_iter().filter_map(|(name, count)| Some((name.to_owned(), count?))).collect()
}

/// When each sign last moved, in one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signs {
    last: Activity,
    /// The last look read all of its use.
    whole: bool,
    began: Option<Mono>,
    heard: Option<Mono>,
    output: Option<Mono>,
    cpu: Option<Mono>,
    io: Option<Mono>,
}

impl Signs {
    pub(crate) fn hear(&mut self, now: Mono, new: &Activity) {
        let old = self.last;
        let grew = |old: Option<u64>, new: Option<u64>| new.is_some_and(|new| new > old.unwrap_or(0));
        if grew(old.output_bytes, new.output_bytes) {
            self.output = Some(now);
        }
        if grew(old.cpu_ms, new.cpu_ms) {
            self.cpu = Some(now);
        }
        if grew(old.io_bytes, new.io_bytes) {
            self.io = Some(now);
        }
        // What was not read this time has not stood still.
        self.last = Activity {
            output_bytes: new.output_bytes.or(old.output_bytes),
            cpu_ms: new.cpu_ms.or(old.cpu_ms),
            io_bytes: new.io_bytes.or(old.io_bytes),
        };
        self.whole = new.cpu_ms.is_some() && new.io_bytes.is_some();
        self.began.get_or_insert(now);
        self.heard = Some(now);
    }

    pub(crate) fn excuse(&mut self, now: Mono, late: Duration) {
        let all = [&mut self.began, &mut self.heard, &mut self.output, &mut self.cpu, &mut self.io];
        for at in all.into_iter().flatten() {
            *at = (*at + late).min(now);
        }
    }

    fn fresh(&self, now: Mono) -> Option<Mono> {
        self.heard.filter(|heard| now.since(*heard) < STALE)
    }

    /// For how long it has been seen to do nothing at all. `None`: not looked at lately, or its use cannot be counted.
    pub(crate) fn quiet_for(&self, now: Mono) -> Option<Duration> {
        let (heard, began) = (self.fresh(now)?, self.began?);
        if !self.whole {
            return None;
        }
        let moved = [self.output, self.cpu, self.io].into_iter().flatten().max().unwrap_or(began);
        Some(heard.since(moved))
    }

    /// What it does, in words: "printed 3 s ago, used CPU 1 s ago, read or wrote 8 s ago", or "has done nothing at all for 20 min".
    pub(crate) fn words(&self, now: Mono) -> Option<String> {
        self.fresh(now)?;
        if let Some(quiet) = self.quiet_for(now).filter(|quiet| *quiet >= QUIET_MIN) {
            return Some(format!("has done nothing at all for {}", Human(quiet)));
        }
        let watched = now.since(self.began?);
        let of = |known: bool, at: Option<Mono>, did: &str, none: &str| match at {
            _ if !known => None,
            Some(at) => Some(format!("{did} {} ago", Human(now.since(at)))),
            None => Some(format!("{none} for {}", Human(watched))),
        };
        let parts = [
            of(self.last.output_bytes.is_some(), self.output, "printed", "printed nothing"),
            of(self.last.cpu_ms.is_some(), self.cpu, "used CPU", "used no CPU"),
            of(self.last.io_bytes.is_some(), self.io, "read or wrote", "read and wrote nothing"),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::from_origin(Duration::from_secs(seconds))
    }

    fn activity(output: u64, cpu: u64, io: u64) -> Activity {
        Activity { output_bytes: Some(output), cpu_ms: Some(cpu), io_bytes: Some(io) }
    }

    #[test]
    fn who_does_nothing_at_all_is_quiet_and_who_is_not_looked_at_is_not() {
        let mut signs = Signs::default();
        assert_eq!(signs.quiet_for(at(0)), None);
        signs.hear(at(10), &activity(0, 0, 0));
        signs.hear(at(20), &activity(0, 7, 0));
        signs.hear(at(60), &activity(0, 7, 0));
        assert_eq!(signs.quiet_for(at(60)), Some(Duration::from_secs(40)));
        assert_eq!(
            signs.words(at(60)).unwrap(),
            "printed nothing for 50 s, used CPU 40 s ago, read and wrote nothing for 50 s"
        );
        signs.hear(at(90), &activity(0, 7, 0));
        assert_eq!(signs.words(at(95)).unwrap(), "has done nothing at all for 1 min 10 s");
        assert_eq!(signs.quiet_for(at(200)), None, "nobody has looked since");
        signs.hear(at(210), &Activity { output_bytes: Some(0), cpu_ms: None, io_bytes: None });
        assert_eq!(signs.quiet_for(at(210)), None, "output alone does not show that it does nothing");
    }

    #[test]
    fn whoever_looks_too_late_charges_nothing() {
        let mut signs = Signs::default();
        signs.hear(at(10), &activity(0, 5, 0));
        signs.excuse(at(30), Duration::from_secs(20));
        signs.hear(at(31), &activity(0, 5, 0));
        assert_eq!(signs.quiet_for(at(31)), Some(Duration::from_secs(1)));
    }
}
