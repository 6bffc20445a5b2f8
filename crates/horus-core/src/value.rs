//! Usefulness: counters that ought to grow, and funnels whose stages feed each other.
//!
//! A program may be alive, on time, green in all tests, and not have done its work for three weeks. That is measured
//! here and only ever told: no path leads from this module to a signal (guarantee G8). Ages belong to the service, not
//! to the instance: a restart makes a counter smaller, and nothing better.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::command::MemoryValue;
use crate::observation::Beat;
use crate::plan::{FunnelPlan, ValuePlan};
use crate::time::{Human, Mono};
use crate::verdict::ValueAxis;

/// Counters that are followed per service; more in a beat are ignored.
pub(crate) const COUNTERS_MAX: usize = 256;

/// The counters of one service.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    last: BTreeMap<String, u64>,
    /// When any counter last grew.
    moved: Option<Mono>,
    values: BTreeMap<String, Value>,
    funnels: BTreeMap<String, Funnel>,
}

#[derive(Debug)]
struct Value {
    /// The last increase; before the first one, since when it is watched.
    since: Mono,
    ever: bool,
}

#[derive(Debug, Default)]
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

impl Counters {
    /// Follows the values and funnels of a plan; keeps the ages of those that stay.
    pub(crate) fn retune(
        &mut self,
        now: Mono,
        values: &BTreeMap<String, ValuePlan>,
        funnels: &BTreeMap<String, FunnelPlan>,
    ) {
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
                *value = Value { since: now.before(memory.age), ever: true };
            }
        }
    }

    pub(crate) fn remember(&self, now: Mono) -> Vec<MemoryValue> {
        let values = self.values.iter();
        values.map(|(name, value)| MemoryValue { name: name.clone(), age: now.since(value.since) }).collect()
    }

    /// A new instance counts from zero again. What was ahead in a funnel stays ahead.
    pub(crate) fn forget_instance(&mut self) {
        self.last.clear();
        self.moved = None;
    }

    /// Takes the counters of a beat. A counter that is smaller than before was reset: that is no progress, but the
    /// base of the next comparison. True if any grew.
    pub(crate) fn hear(
        &mut self,
        now: Mono,
        beat: &Beat,
        values: &BTreeMap<String, ValuePlan>,
        funnels: &BTreeMap<String, FunnelPlan>,
    ) -> bool {
        let mut grown: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, count) in &beat.progress {
            if !self.last.contains_key(name) && self.last.len() >= COUNTERS_MAX {
                continue;
            }
            if let Some(before) = self.last.insert(name.clone(), *count)
                && *count > before
            {
                grown.insert(name, *count - before);
            }
        }
        if grown.is_empty() {
            return false;
        }
        self.moved = Some(now);
        for (name, plan) in values {
            if grown.contains_key(plan.counter.as_str()) {
                self.values.insert(name.clone(), Value { since: now, ever: true });
            }
        }
        for (name, plan) in funnels {
            let Some(funnel) = self.funnels.get_mut(name) else { continue };
            for (index, stage) in plan.stages.iter().enumerate() {
                if let Some(by) = grown.get(stage.as_str()) {
                    funnel.ahead[index] = funnel.ahead[index].saturating_add(*by);
                    if index > 0 {
                        funnel.ahead[index - 1] = 0;
                    }
                }
            }
        }
        true
    }

    pub(crate) fn moved_at(&self) -> Option<Mono> {
        self.moved
    }

    pub(crate) fn known(&self) -> bool {
        !self.last.is_empty()
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
    use crate::plan::BeatKind;

    fn beat(counts: &[(&str, u64)]) -> Beat {
        let progress = counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Beat { source: BeatKind::Http, tick: None, progress, declared: None, loop_lag_ms: None }
    }

    fn at(seconds: u64) -> Mono {
        Mono::from_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn a_reset_counter_is_no_progress() {
        let hour = Duration::from_secs(3600);
        let values = BTreeMap::from([(
            "orders".to_owned(),
            ValuePlan { counter: "filled".into(), stale: hour, dead: None },
        )]);
        let mut counters = Counters::default();
        counters.retune(at(0), &values, &BTreeMap::new());
        assert!(!counters.hear(at(1), &beat(&[("filled", 40)]), &values, &BTreeMap::new()));
        assert!(!counters.hear(at(3000), &beat(&[("filled", 0)]), &values, &BTreeMap::new()));
        assert_eq!(counters.overdue(at(3600), &values).len(), 1);
        assert!(counters.hear(at(3700), &beat(&[("filled", 1)]), &values, &BTreeMap::new()));
        assert!(counters.overdue(at(3701), &values).is_empty());
    }

    #[test]
    fn a_funnel_names_the_stage_that_lets_nothing_through() {
        let stages: Vec<String> = ["signals", "passed", "orders"].map(str::to_owned).to_vec();
        let funnels = BTreeMap::from([("entry".to_owned(), FunnelPlan { stages, blocked_after: 5 })]);
        let values = BTreeMap::new();
        let mut counters = Counters::default();
        counters.retune(at(0), &values, &funnels);
        let mut hear = |counts: &[(&str, u64)]| {
            counters.hear(at(1), &beat(counts), &values, &funnels);
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
}
