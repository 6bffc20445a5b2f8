//! Telling about usefulness: values past their bounds, blocked funnels, empty inventories. Alerts only; nothing here
//! signals (G8).

use crate::event::Outcome;
use crate::notice::{IncidentKind, Story};
use crate::plan::Severity;
use crate::reason::{Reason, Rule};
use crate::service::{Phase, Service};
use crate::time::Human;
use crate::turn::Turn;

impl Service {
    /// Looks at values and funnels of a running instance.
    pub(crate) fn judge_usefulness(&mut self, turn: &mut Turn<'_>) {
        if !self.plan.values.is_empty() || self.incidents.any() {
            self.judge_values(turn);
        }
        if !self.plan.funnels.is_empty() || self.incidents.any() {
            self.judge_funnels(turn);
        }
        if !self.plan.expects.is_empty() || self.incidents.any() {
            self.judge_expectations(turn);
        }
    }

    fn judge_expectations(&mut self, turn: &mut Turn<'_>) {
        let Phase::Running(running) = &self.phase else { return };
        let since = running.ready_at.max(self.judged_since);
        let missing = self.counters.missing(turn.now, since, &self.plan.expects);
        for lack in &missing {
            if self.incidents.find_detail(IncidentKind::Expectation, &lack.name).is_some() {
                continue;
            }
            let is = lack.is.map_or("was never heard".to_owned(), |is| format!("is {is}"));
            let text =
                format!("{} {is}, at least {} is expected, for {}", lack.gauge, lack.min, Human(lack.since));
            let reason = Reason::new(Rule::Expect, text);
            let (generation, kind) = (Some(self.generation), IncidentKind::Expectation);
            let id = self.incidents.open(turn, generation, kind, &lack.name, Severity::Warning, &reason);
            let (gauge, is, min, since) = (lack.gauge.clone(), lack.is, lack.min, lack.since);
            let story = Story::NothingToWorkOn { gauge, is, min, since };
            self.incidents.tell(turn, id, Severity::Warning, false, true, story);
            self.dirty = true;
        }
        let over: Vec<_> = self
            .incidents
            .all()
            .filter(|incident| incident.kind == IncidentKind::Expectation)
            // A fresh start proves nothing: it has to be heard that there is enough.
            .filter(|incident| {
                let plan = self.plan.expects.get(&incident.detail);
                plan.is_none_or(|plan| self.counters.is_stocked(plan))
            })
            .map(|incident| incident.id)
            .collect();
        for id in over {
            self.incidents.close(turn, id, Outcome::CameBackAlone, "it has something to work on", None);
            self.dirty = true;
        }
    }

    fn judge_values(&mut self, turn: &mut Turn<'_>) {
        let overdue = self.counters.overdue(turn.now, &self.plan.values);
        for late in &overdue {
            let text = format!(
                "{}: no increase for {}, bound {}",
                late.counter,
                Human(late.since),
                Human(late.bound)
            );
            let reason = Reason::new(Rule::Value, text);
            let severity = if late.dead { Severity::Critical } else { Severity::Warning };
            let known = self.incidents.find_detail(IncidentKind::Valueless, &late.name);
            if known.is_some_and(|incident| incident.told && incident.severity >= severity) {
                continue;
            }
            let (generation, kind) = (Some(self.generation), IncidentKind::Valueless);
            let id = self.incidents.open(turn, generation, kind, &late.name, severity, &reason);
            let story = Story::Valueless {
                value: late.name.clone(),
                counter: late.counter.clone(),
                since: late.since,
                bound: late.bound,
            };
            self.incidents.tell(turn, id, severity, late.dead, true, story);
            self.dirty = true;
        }
        let over: Vec<_> = self
            .incidents
            .all()
            .filter(|incident| incident.kind == IncidentKind::Valueless)
            .filter(|incident| !overdue.iter().any(|late| late.name == incident.detail))
            .map(|incident| incident.id)
            .collect();
        for id in over {
            self.incidents.close(turn, id, Outcome::CameBackAlone, "it produces again", None);
            self.dirty = true;
        }
    }

    fn judge_funnels(&mut self, turn: &mut Turn<'_>) {
        let blocked = self.counters.blocked(&self.plan.funnels);
        let detail = |funnel: &str, to: &str| format!("{funnel}/{to}");
        for stage in &blocked {
            let name = detail(&stage.funnel, &stage.to);
            if self.incidents.find_detail(IncidentKind::FunnelBlocked, &name).is_some() {
                continue;
            }
            let text = format!("`{}` moved by {}, `{}` by 0", stage.from, stage.moved, stage.to);
            let reason = Reason::new(Rule::Funnel, text);
            let (generation, kind) = (Some(self.generation), IncidentKind::FunnelBlocked);
            let id = self.incidents.open(turn, generation, kind, &name, Severity::Warning, &reason);
            let story = Story::FunnelBlocked {
                funnel: stage.funnel.clone(),
                from: stage.from.clone(),
                moved: stage.moved,
                to: stage.to.clone(),
            };
            self.incidents.tell(turn, id, Severity::Warning, false, true, story);
            self.dirty = true;
        }
        let over: Vec<_> = self
            .incidents
            .all()
            .filter(|incident| incident.kind == IncidentKind::FunnelBlocked)
            .filter(|incident| {
                !blocked.iter().any(|stage| detail(&stage.funnel, &stage.to) == incident.detail)
            })
            .map(|incident| incident.id)
            .collect();
        for id in over {
            self.incidents.close(turn, id, Outcome::CameBackAlone, "work passes through again", None);
            self.dirty = true;
        }
    }
}
