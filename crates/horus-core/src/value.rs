//! Counters and gauges: what a program produces, what passes through it, what it has to work on, and what has to move.
//!
//! A program may be alive, on time, green in all tests, and not have done its work for three weeks. Values, funnels and
//! expectations measure that and are only ever told: no path leads from them to a signal (guarantee G8). Ages of values
//! belong to the service, not to the instance: a restart makes a counter smaller, and nothing better.
//!
//! *Work* (`progress.*`) is another matter: its standstill means that a part of the program hangs. Its ages belong to the
//! instance, and they only grow while the counter is heard: a beat that does not come says nothing about work.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::activity::Signs;
use crate::command::{MemoryValue, MemoryWork};
use crate::observation::{Activity, Beat};
use crate::plan::{BeatKind, ExpectPlan, FunnelPlan, ProgressPlan, ServicePlan, ValuePlan};
use crate::time::{Human, Mono};
use crate::verdict::ValueAxis;

/// Counters that are followed per service; more in a beat are ignored.
pub(crate) const COUNTERS_MAX: usize = 256;

/// The counters of one service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    /// By source: two of them may use one name for different things.
    last: BTreeMap<Teller, BTreeMap<String, u64>>,
    /// Why counters that the plan says where to read were not read the last time.
    unread: BTreeMap<String, String>,
    /// What Horus counts itself.
    activity: Signs,
    gauges: BTreeMap<String, f64>,
    /// When a counter that the plan names last grew.
    moved: Option<Mono>,
    values: BTreeMap<String, Value>,
    funnels: BTreeMap<String, Funnel>,
    work: BTreeMap<String, Work>,
    /// Standstills that an earlier life has heard, since when: taken up when the counter is first heard to stand there still.
    stood: Vec<(MemoryWork, Mono)>,
    /// Expectations that are not met, since when.
    missing: BTreeMap<String, Mono>,
}

/// Who has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Teller {
    /// Horus itself, from outside.
    Outside,
    /// The program, in a beat.
    Beat(BeatKind),
    /// The program, to whoever asks (`counter.*`).
    Asked,
}

/// Work that has to move, in this instance.
#[derive(Clone, Debug, Default)]
struct Work {
    /// Its counter was first heard.
    first: Option<Mono>,
    /// Its counter last grew.
    moved: Option<Mono>,
    /// Its counter was last heard.
    heard: Option<Mono>,
}

#[derive(Clone, Debug)]
struct Value {
    /// The last increase; before the first one, since when it is watched.
    since: Mono,
    ever: bool,
}

#[derive(Clone, Debug, Default)]
struct Funnel {
    /// How much each stage has grown since the stage after it last did.
    ahead: Vec<u64>,
}

/// Something to tell about usefulness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Overdue {
    pub(crate) name: String,
    pub(crate) counter: String,
    pub(crate) since: Duration,
    pub(crate) bound: Duration,
    pub(crate) dead: bool,
}

/// A stage that lets nothing through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    pub(crate) funnel: String,
    pub(crate) from: String,
    pub(crate) moved: u64,
    pub(crate) to: String,
}

/// What is declared to have to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StandsStill {
    /// A counter that does not grow.
    Counter(String),
    /// A step that does not end.
    Step(String),
}

impl Stalled {
    /// What stands still, and for how long.
    pub(crate) fn words(&self) -> String {
        let age = Human(self.age);
        match &self.what {
            StandsStill::Counter(name) => format!("`{name}` has not moved for {age}"),
            StandsStill::Step(name) => format!("its step `{name}` goes on for {age}"),
        }
    }

    /// The counter that does not grow.
    pub(crate) fn counter(self) -> Option<String> {
        match self.what {
            StandsStill::Counter(name) => Some(name),
            StandsStill::Step(_) => None,
        }
    }

    pub(crate) fn is_step(&self) -> bool {
        matches!(self.what, StandsStill::Step(_))
    }
}

/// Declared work that stands still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stalled {
    pub(crate) what: StandsStill,
    pub(crate) age: Duration,
    /// It had moved in this instance: only then does its standstill prove anything.
    pub(crate) moved: bool,
    /// The limit in force.
    pub(crate) limit: Duration,
}

/// An expectation that is not met.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Missing {
    pub(crate) name: String,
    pub(crate) gauge: String,
    pub(crate) is: Option<f64>,
    pub(crate) min: f64,
    pub(crate) since: Duration,
}

impl Work {
    /// Its counter is heard for the first time in this life: it stands where it stood, or has moved meanwhile.
    fn go_on(&mut self, now: Mono, count: u64, stood: Option<&(MemoryWork, Mono)>) {
        let Some((stood, since)) = stood else { return };
        match count.cmp(&stood.count) {
            Ordering::Equal => {
                self.first = Some(*since);
                self.moved = self.moved.or(stood.moved.then_some(*since));
            }
            Ordering::Greater => self.moved = Some(now),
            // Counted from zero again: nothing is known of it.
            Ordering::Less => {}
        }
    }
}

impl Counters {
    /// Follows what a plan names; keeps the ages of what stays.
    pub(crate) fn retune(&mut self, now: Mono, plan: &ServicePlan) {
        let ServicePlan { values, funnels, progress, expects, .. } = plan;
        self.work.retain(|name, _| progress.contains_key(name));
        for name in progress.keys() {
            self.work.entry(name.clone()).or_default();
        }
        self.missing.retain(|name, _| expects.contains_key(name));
        self.values.retain(|name, _| values.contains_key(name));
        for name in values.keys() {
            self.values.entry(name.clone()).or_insert(Value { since: now, ever: false });
        }
        self.funnels.retain(|name, _| funnels.contains_key(name));
        for (name, plan) in funnels {
            let funnel = self.funnels.entry(name.clone()).or_default();
            funnel.ahead.resize(plan.stages.len(), 0);
        }
    }

    pub(crate) fn restore(&mut self, now: Mono, remembered: &[MemoryValue]) {
        for memory in remembered {
            if let Some(value) = self.values.get_mut(&memory.name) {
                *value = Value { since: now.before(memory.age), ever: memory.ever };
            }
        }
    }

    pub(crate) fn remember(&self, now: Mono) -> Vec<MemoryValue> {
        let values = self.values.iter().map(|(name, value)| {
            let (name, age) = (name.clone(), now.since(value.since));
            MemoryValue { name, age, ever: value.ever }
        });
        values.collect()
    }

    /// A new instance counts from zero again. What was ahead in a funnel stays ahead.
    pub(crate) fn forget_instance(&mut self) {
        self.last.clear();
        self.unread.clear();
        self.gauges.clear();
        self.activity = Signs::default();
        self.moved = None;
        self.work.values_mut().for_each(|work| *work = Work::default());
        self.stood.clear();
        self.missing.clear();
    }

    /// Time in which Horus itself did not look is not held against the program.
    pub(crate) fn excuse(&mut self, now: Mono, late: Duration) {
        for work in self.work.values_mut() {
            for at in [&mut work.first, &mut work.moved, &mut work.heard].into_iter().flatten() {
                *at = (*at + late).min(now);
            }
        }
        self.activity.excuse(now, late);
        let stood = self.stood.iter_mut().map(|(_, since)| since);
        for since in self.missing.values_mut().chain(stood) {
            *since = (*since + late).min(now);
        }
    }

    /// Takes the counters of a beat. A counter that is smaller than before was reset: that is no progress, but the
    /// base of the next comparison. True if any grew.
    pub(crate) fn hear(&mut self, now: Mono, beat: &Beat, plan: &ServicePlan) -> bool {
        self.hear_gauges(beat);
        self.hear_counts(now, Teller::Beat(beat.source), &beat.progress, plan)
    }

    /// Takes counters that were read beside the beats, and why others were not. What was not read does not stand still.
    pub(crate) fn hear_counted(
        &mut self,
        now: Mono,
        counts: &BTreeMap<String, u64>,
        unread: BTreeMap<String, String>,
        plan: &ServicePlan,
    ) {
        for name in counts.keys() {
            self.unread.remove(name);
        }
        self.unread.extend(unread);
        self.unread.retain(|name, _| plan.counters.contains_key(name));
        self.hear_counts(now, Teller::Asked, counts, plan);
    }

    /// The counters that could not be read, and why.
    pub(crate) fn unread(&self) -> &BTreeMap<String, String> {
        &self.unread
    }

    /// They are read somewhere else from now on: what was read before is no base.
    pub(crate) fn forget_counted(&mut self) {
        self.last.remove(&Teller::Asked);
        self.unread.clear();
    }

    /// Takes what Horus has counted from outside. That it moves is a weak sign, and excuses no silence; that it stands still may be
    /// declared to be a fault like that of any other counter.
    pub(crate) fn hear_activity(&mut self, now: Mono, activity: &Activity, plan: &ServicePlan) {
        self.activity.hear(now, activity);
        self.hear_counts(now, Teller::Outside, &crate::activity::counts(activity), plan);
    }

    pub(crate) fn activity(&self) -> &Signs {
        &self.activity
    }

    fn hear_counts(
        &mut self,
        now: Mono,
        source: Teller,
        counts: &BTreeMap<String, u64>,
        plan: &ServicePlan,
    ) -> bool {
        let last = self.last.entry(source).or_default();
        let mut known = last.len();
        let mut grown: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, count) in counts {
            if source != Teller::Outside && crate::activity::is_own(name) {
                // A program does not speak for Horus.
                continue;
            }
            match last.get_mut(name) {
                Some(before) => {
                    if *count > *before {
                        grown.insert(name, *count - *before);
                    }
                    *before = *count;
                }
                None if known < COUNTERS_MAX => {
                    last.insert(name.clone(), *count);
                    known += 1;
                }
                None => {}
            }
        }
        self.hear_work(now, counts, &grown, &plan.progress);
        if grown.is_empty() {
            return false;
        }
        let ServicePlan { values, funnels, .. } = plan;
        let mut named = plan.progress.values().any(|work| grown.contains_key(work.counter.as_str()));
        for (name, plan) in values {
            if grown.contains_key(plan.counter.as_str()) {
                self.values.insert(name.clone(), Value { since: now, ever: true });
                named = true;
            }
        }
        for (name, plan) in funnels {
            let Some(funnel) = self.funnels.get_mut(name) else { continue };
            for (index, stage) in plan.stages.iter().enumerate() {
                if let Some(by) = grown.get(stage.as_str()) {
                    named = true;
                    funnel.ahead[index] = funnel.ahead[index].saturating_add(*by);
                    if index > 0 {
                        funnel.ahead[index - 1] = 0;
                    }
                }
            }
        }
        if named && source != Teller::Outside {
            self.moved = Some(now);
        }
        true
    }

    fn hear_gauges(&mut self, beat: &Beat) {
        for (name, value) in &beat.gauges {
            if self.gauges.len() < COUNTERS_MAX || self.gauges.contains_key(name) {
                self.gauges.insert(name.clone(), *value);
            }
        }
    }

    fn hear_work(
        &mut self,
        now: Mono,
        counts: &BTreeMap<String, u64>,
        grown: &BTreeMap<&str, u64>,
        plans: &BTreeMap<String, ProgressPlan>,
    ) {
        for (name, plan) in plans {
            let Some(work) = self.work.get_mut(name) else { continue };
            if let Some(count) = counts.get(&plan.counter).copied() {
                work.heard = Some(now);
                work.first.get_or_insert(now);
                work.go_on(now, count, self.stood.iter().find(|(stood, _)| stood.counter == plan.counter));
            }
            if grown.contains_key(plan.counter.as_str()) {
                work.moved = Some(now);
            }
        }
        self.stood.retain(|(stood, _)| !counts.contains_key(&stood.counter));
    }

    /// An earlier life has heard this work stand since then.
    pub(crate) fn take_up(&mut self, stood: MemoryWork, since: Mono) {
        if self.stood.len() < COUNTERS_MAX {
            self.stood.push((stood, since));
        }
    }

    /// The ages of what was taken up.
    pub(crate) fn longest_taken_up(&self, now: Mono) -> impl Iterator<Item = Duration> {
        self.stood.iter().map(move |(_, since)| now.since(*since))
    }

    /// How each declared work stands, for as long as it was heard to: `since` is the earliest that counts.
    pub(crate) fn standstills(
        &self,
        now: Mono,
        since: Mono,
        plans: &BTreeMap<String, ProgressPlan>,
    ) -> Vec<MemoryWork> {
        let stands = plans.iter().filter_map(|(name, plan)| {
            let work = self.work.get(name)?;
            let from = work.moved.or(work.first)?.max(since);
            let count = self.last.values().find_map(|last| last.get(&plan.counter)).copied()?;
            let (counter, moved) = (plan.counter.clone(), work.moved.is_some());
            Some(MemoryWork { counter, count, moved, age: work.heard?.min(now).since(from) })
        });
        stands.collect()
    }

    /// The work that has stood still the longest beyond its limit: `since` is the earliest that counts.
    pub(crate) fn stalled(
        &self,
        now: Mono,
        plans: &BTreeMap<String, ProgressPlan>,
        judged: impl Fn(&ProgressPlan, bool) -> Option<(Mono, Duration)>,
    ) -> Option<Stalled> {
        let stands = plans.iter().filter_map(|(name, plan)| {
            let work = self.work.get(name)?;
            let moved = work.moved.is_some();
            let (since, limit) = judged(plan, moved)?;
            let from = work.moved.or(work.first)?.max(since);
            let heard = work.heard?;
            let age = heard.min(now).since(from);
            let what = StandsStill::Counter(plan.counter.clone());
            (age >= limit).then_some(Stalled { what, age, limit, moved })
        });
        // What used to move proves something.
        stands.max_by_key(|stalled| (stalled.moved, stalled.age))
    }

    /// Has this counter of work moved in this instance? One that the plan no longer names proves nothing either way.
    pub(crate) fn work_moves(&self, counter: &str, plans: &BTreeMap<String, ProgressPlan>) -> bool {
        let named = plans.iter().find(|(_, plan)| plan.counter == counter);
        named.is_none_or(|(name, _)| self.work.get(name).is_some_and(|work| work.moved.is_some()))
    }

    /// Looks at what it has to work on. `since`: when it became ready.
    pub(crate) fn missing(
        &mut self,
        now: Mono,
        since: Mono,
        plans: &BTreeMap<String, ExpectPlan>,
    ) -> Vec<Missing> {
        let mut missing = Vec::new();
        for (name, plan) in plans {
            if self.is_stocked(plan) {
                self.missing.remove(name);
                continue;
            }
            let is = self.inventory(&plan.gauge);
            // What was never heard counts from readiness, what fell under its bound from then on.
            let from = *self.missing.entry(name.clone()).or_insert(if is.is_none() { since } else { now });
            let lasted = now.since(from.max(since));
            if lasted >= plan.within {
                let (name, gauge) = (name.clone(), plan.gauge.clone());
                missing.push(Missing { name, gauge, is, min: plan.min, since: lasted });
            }
        }
        missing
    }

    /// Is there enough to work on, as far as was heard in this instance?
    pub(crate) fn is_stocked(&self, plan: &ExpectPlan) -> bool {
        self.inventory(&plan.gauge).is_some_and(|is| is >= plan.min)
    }

    fn inventory(&self, gauge: &str) -> Option<f64> {
        let counted = || self.last.values().find_map(|last| last.get(gauge)).map(|count| *count as f64);
        self.gauges.get(gauge).copied().or_else(counted)
    }

    /// When an expectation that is not met becomes worth telling.
    pub(crate) fn next_missing(&self, now: Mono, plans: &BTreeMap<String, ExpectPlan>) -> Option<Mono> {
        let ends = plans.iter().filter_map(|(name, plan)| Some(*self.missing.get(name)? + plan.within));
        ends.filter(|at| *at > now).min()
    }

    /// The value axis without its numbers.
    pub(crate) fn value_is(&self, now: Mono, plans: &BTreeMap<String, ValuePlan>) -> ValueAxis {
        let mut worst = if plans.is_empty() { ValueAxis::Unknown } else { ValueAxis::Fresh };
        for (name, plan) in plans {
            let Some(value) = self.values.get(name) else { continue };
            let since = now.since(value.since);
            if plan.dead.is_some_and(|dead| since >= dead) {
                return ValueAxis::Dead;
            }
            if since >= plan.stale {
                worst = ValueAxis::Stale;
            }
        }
        worst
    }

    /// Does a stage of a funnel let nothing through?
    pub(crate) fn is_blocked(&self, plans: &BTreeMap<String, FunnelPlan>) -> bool {
        plans.iter().any(|(name, plan)| {
            let ahead = self.funnels.get(name).map(|funnel| funnel.ahead.as_slice()).unwrap_or_default();
            let stages = ahead.iter().take(plan.stages.len().saturating_sub(1));
            plan.blocked_after > 0 && stages.into_iter().any(|ahead| *ahead >= plan.blocked_after)
        })
    }

    pub(crate) fn moved_at(&self) -> Option<Mono> {
        self.moved
    }

    pub(crate) fn known(&self) -> bool {
        self.last.values().any(|last| !last.is_empty())
    }

    /// Values that are past a bound.
    pub(crate) fn overdue(&self, now: Mono, plans: &BTreeMap<String, ValuePlan>) -> Vec<Overdue> {
        let mut overdue = Vec::new();
        for (name, plan) in plans {
            let Some(value) = self.values.get(name) else { continue };
            let since = now.since(value.since);
            let dead = plan.dead.filter(|bound| since >= *bound);
            if let Some(bound) = dead.or((since >= plan.stale).then_some(plan.stale)) {
                let (name, counter) = (name.clone(), plan.counter.clone());
                overdue.push(Overdue { name, counter, since, bound, dead: dead.is_some() });
            }
        }
        overdue
    }

    /// When the next bound will be passed, if nothing grows.
    pub(crate) fn next_bound(&self, now: Mono, plans: &BTreeMap<String, ValuePlan>) -> Option<Mono> {
        let bounds = plans.iter().filter_map(|(name, plan)| Some((self.values.get(name)?.since, plan)));
        bounds
            .flat_map(|(since, plan)| [Some(since + plan.stale), plan.dead.map(|dead| since + dead)])
            .flatten()
            .filter(|at| *at > now)
            .min()
    }

    /// Stages that let nothing through.
    pub(crate) fn blocked(&self, plans: &BTreeMap<String, FunnelPlan>) -> Vec<Blocked> {
        let mut blocked = Vec::new();
        for (name, plan) in plans {
            let Some(funnel) = self.funnels.get(name) else { continue };
            for (index, pair) in plan.stages.windows(2).enumerate() {
                if plan.blocked_after > 0 && funnel.ahead[index] >= plan.blocked_after {
                    blocked.push(Blocked {
                        funnel: name.clone(),
                        from: pair[0].clone(),
                        moved: funnel.ahead[index],
                        to: pair[1].clone(),
                    });
                }
            }
        }
        blocked
    }

    /// The value axis with its reason.
    pub(crate) fn axis(&self, now: Mono, plans: &BTreeMap<String, ValuePlan>) -> (ValueAxis, String) {
        if plans.is_empty() {
            return (ValueAxis::Unknown, "no value is declared".into());
        }
        let overdue = self.overdue(now, plans);
        if let Some(worst) = overdue.iter().max_by_key(|overdue| (overdue.dead, overdue.since)) {
            let is = if worst.dead { ValueAxis::Dead } else { ValueAxis::Stale };
            let (name, since, bound) = (&worst.name, Human(worst.since), Human(worst.bound));
            return (is, format!("{name}: no increase for {since}, bound {bound}"));
        }
        let ages = plans.keys().filter_map(|name| Some((name, self.values.get(name)?)));
        let parts: Vec<String> = ages
            .map(|(name, value)| {
                let age = Human(now.since(value.since));
                if value.ever {
                    format!("{name} grew {age} ago")
                } else {
                    format!("{name} watched for {age}")
                }
            })
            .collect();
        (ValueAxis::Fresh, parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(counts: &[(&str, u64)]) -> Beat {
        let progress = counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Beat {
            source: BeatKind::Http,
            tick: None,
            progress,
            declared: None,
            gauges: BTreeMap::new(),
            loop_lag_ms: None,
        }
    }

    fn plain() -> ServicePlan {
        ServicePlan::plain(vec!["bot".into()])
    }

    fn at(seconds: u64) -> Mono {
        Mono::from_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn what_never_grew_is_not_said_to_have_grown_by_the_next_life() {
        let value = ValuePlan { counter: "filled".into(), stale: Duration::from_secs(3600), dead: None };
        let plan = ServicePlan { values: BTreeMap::from([("orders".to_owned(), value)]), ..plain() };
        let words = |counters: &Counters, now| counters.axis(at(now), &plan.values).1;
        let next = |counters: &Counters| {
            let mut next = Counters::default();
            next.retune(at(100), &plan);
            next.restore(at(100), &counters.remember(at(100)));
            next
        };
        let mut counters = Counters::default();
        counters.retune(at(0), &plan);
        counters.hear(at(10), &beat(&[("filled", 1)]), &plan);
        assert_eq!(words(&next(&counters), 100), "orders watched for 1 min 40 s");
        counters.hear(at(40), &beat(&[("filled", 2)]), &plan);
        assert_eq!(words(&next(&counters), 100), "orders grew 1 min ago");
    }

    #[test]
    fn a_reset_counter_is_no_progress() {
        let hour = Duration::from_secs(3600);
        let values = BTreeMap::from([(
            "orders".to_owned(),
            ValuePlan { counter: "filled".into(), stale: hour, dead: None },
        )]);
        let mut counters = Counters::default();
        let plan = ServicePlan { values: values.clone(), ..plain() };
        counters.retune(at(0), &plan);
        assert!(!counters.hear(at(1), &beat(&[("filled", 40)]), &plan));
        assert!(!counters.hear(at(3000), &beat(&[("filled", 0)]), &plan));
        assert_eq!(counters.overdue(at(3600), &values).len(), 1);
        assert!(counters.hear(at(3700), &beat(&[("filled", 1)]), &plan));
        assert!(counters.overdue(at(3701), &values).is_empty());
    }

    #[test]
    fn a_funnel_names_the_stage_that_lets_nothing_through() {
        let stages: Vec<String> = ["signals", "passed", "orders"].map(str::to_owned).to_vec();
        let funnels = BTreeMap::from([("entry".to_owned(), FunnelPlan { stages, blocked_after: 5 })]);
        let plan = ServicePlan { funnels: funnels.clone(), ..plain() };
        let mut counters = Counters::default();
        counters.retune(at(0), &plan);
        let mut hear = |counts: &[(&str, u64)]| {
            counters.hear(at(1), &beat(counts), &plan);
            counters.blocked(&funnels)
        };
        assert!(hear(&[("signals", 0), ("passed", 0), ("orders", 0)]).is_empty());
        assert!(hear(&[("signals", 4), ("passed", 0), ("orders", 0)]).is_empty());
        let blocked = hear(&[("signals", 11), ("passed", 0), ("orders", 0)]);
        assert_eq!(
            (blocked[0].from.as_str(), blocked[0].moved, blocked[0].to.as_str()),
            ("signals", 11, "passed")
        );
        assert!(hear(&[("signals", 11), ("passed", 1), ("orders", 0)]).is_empty());
    }

    #[test]
    fn work_ages_only_while_its_counter_is_heard() {
        let minute = Duration::from_secs(60);
        let progress = BTreeMap::from([(
            "cycles".to_owned(),
            ProgressPlan { counter: "cycles".into(), stalled: minute },
        )]);
        let plan = ServicePlan { progress: progress.clone(), ..plain() };
        let mut counters = Counters::default();
        counters.retune(at(0), &plan);
        let origin = at(0);
        assert!(!counters.hear(at(10), &beat(&[("cycles", 3)]), &plan));
        assert!(counters.hear(at(20), &beat(&[("cycles", 4)]), &plan));
        assert_eq!(
            counters.stalled(at(500), &progress, |plan, _| Some((origin, plan.stalled))),
            None,
            "nothing was heard since"
        );
        assert!(!counters.hear(at(79), &beat(&[("cycles", 4)]), &plan));
        assert_eq!(counters.stalled(at(79), &progress, |plan, _| Some((origin, plan.stalled))), None);
        assert!(!counters.hear(at(80), &beat(&[("cycles", 4)]), &plan));
        assert_eq!(
            counters
                .stalled(at(80), &progress, |plan, _| Some((origin, plan.stalled)))
                .map(|stalled| stalled.age),
            Some(minute)
        );
        assert_eq!(
            counters.stalled(at(80), &progress, |plan, _| Some((at(21), plan.stalled))),
            None,
            "excused until then"
        );
        counters.forget_instance();
        assert_eq!(counters.stalled(at(200), &progress, |plan, _| Some((origin, plan.stalled))), None);
    }

    #[test]
    fn the_axis_of_a_value_turns_at_its_bounds() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let value = ValuePlan { counter: "filled".into(), stale: hours(1), dead: Some(hours(2)) };
        let values = BTreeMap::from([("orders".to_owned(), value)]);
        let mut counters = Counters::default();
        counters.retune(at(0), &ServicePlan { values: values.clone(), ..plain() });
        let axis = [3599, 3600, 7199, 7200].map(|seconds| counters.value_is(at(seconds), &values));
        assert_eq!(axis, [ValueAxis::Fresh, ValueAxis::Stale, ValueAxis::Stale, ValueAxis::Dead]);
        assert_eq!(counters.value_is(at(7200), &BTreeMap::new()), ValueAxis::Unknown);
    }

    #[test]
    fn what_is_followed_of_a_beat_is_bounded() {
        let mut counters = Counters::default();
        let names: Vec<String> = (0..2 * COUNTERS_MAX).map(|number| format!("c{number:03}")).collect();
        let mut beat = beat(&names.iter().map(|name| (name.as_str(), 1)).collect::<Vec<_>>());
        beat.gauges = names.iter().map(|name| (name.clone(), 1.0)).collect();
        for _ in 0..2 {
            counters.hear(at(1), &beat, &plain());
            assert_eq!(counters.last[&Teller::Beat(BeatKind::Http)].len(), COUNTERS_MAX);
            assert_eq!(counters.gauges.len(), COUNTERS_MAX);
        }
        let (known, more) = (names[0].clone(), names[2 * COUNTERS_MAX - 1].clone());
        beat.gauges = BTreeMap::from([(known.clone(), 7.0), (more.clone(), 7.0)]);
        counters.hear(at(2), &beat, &plain());
        assert_eq!((counters.inventory(&known), counters.gauges.get(&more)), (Some(7.0), None));
    }

    #[test]
    fn an_inventory_has_to_be_there_in_time() {
        let minute = Duration::from_secs(60);
        let expects = BTreeMap::from([(
            "slots".to_owned(),
            ExpectPlan { gauge: "slots".into(), min: 1.0, within: minute },
        )]);
        let plan = ServicePlan { expects: expects.clone(), ..plain() };
        let mut counters = Counters::default();
        counters.retune(at(0), &plan);
        assert_eq!(counters.missing(at(59), at(0), &expects), [], "never heard, and not yet due");
        assert_eq!(counters.missing(at(60), at(0), &expects).len(), 1);
        let gauge = |counters: &mut Counters, value: f64| {
            let mut beat = beat(&[]);
            beat.gauges.insert("slots".into(), value);
            counters.hear(at(61), &beat, &plan);
        };
        gauge(&mut counters, 3.0);
        assert_eq!(counters.missing(at(61), at(0), &expects), []);
        gauge(&mut counters, 0.0);
        assert_eq!(counters.missing(at(70), at(0), &expects), [], "it fell under its bound just now");
        assert_eq!(counters.missing(at(130), at(0), &expects)[0].is, Some(0.0));
    }
}
