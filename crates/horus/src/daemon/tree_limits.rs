//! Limits of whole trees: asked of the keeper, and known only by its answer.
//!
//! They are said at each start, at each reload that changes them, and again to every keeper that we meet, so there is
//! nothing to be remembered. Whether the kernel keeps one depends on the machine and on where a program was started.
//! What is not kept stops nobody: it is told once in the journal and always in the status.

use std::collections::BTreeMap;

use horus_core::event::What;
use horus_core::ids::ServiceName;
use horus_core::plan::Plan;
use horus_core::status::{LimitStatus, StatusReport};
use horus_core::tree::{TreeLimit, TreeLimits};
use horus_keeper::protocol::{CAN_LIMIT, Request, SlotName};
use horus_sys::cgroup_limits::{GroupLimit, GroupLimits, Limited};

use super::owner::{Owner, slot_of};

/// Why nothing is limited by a keeper that does not know how.
const OLD_KEEPER: &str = "its keeper is of an older version: horus upgrade";

/// What is known of each service.
#[derive(Debug, Default)]
pub(super) struct TreeLimitsKnown {
    services: BTreeMap<ServiceName, Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Other limits were asked for since, or a start.
    waits: bool,
    /// Of each limit: `None` if it is in force, else why not.
    limits: BTreeMap<TreeLimit, Option<String>>,
}

impl TreeLimitsKnown {
    /// Takes an answer in; what was not known to be refused for this reason.
    fn learn(&mut self, service: &ServiceName, limited: Limited) -> Vec<(TreeLimit, String)> {
        let before = self.services.remove(service).unwrap_or_default().limits;
        let mut known = BTreeMap::new();
        known.extend(limited.applied.into_iter().filter_map(limit).map(|limit| (limit, None)));
        let mut news = Vec::new();
        for refused in limited.refused {
            let Some(limit) = limit(refused.limit) else { continue };
            if before.get(&limit) != Some(&Some(refused.why.clone())) {
                news.push((limit, refused.why.clone()));
            }
            known.insert(limit, Some(refused.why));
        }
        self.services.insert(service.clone(), Known { waits: false, limits: known });
        news
    }

    /// Something was asked whose answer is to come.
    fn wait(&mut self, service: &ServiceName) {
        self.services.entry(service.clone()).or_default().waits = true;
    }

    /// Forgets services that are in the plan no longer.
    fn follow(&mut self, plan: &Plan) {
        self.services.retain(|service, _| plan.services.contains_key(service));
    }

    /// Says in a report what is in force for the programs that run.
    pub(super) fn tell(&self, report: &mut StatusReport) {
        for service in report.services.iter_mut().filter(|service| service.pid.is_some()) {
            let known = self.services.get(&service.name).filter(|known| !known.waits);
            let Some(Known { limits: known, .. }) = known else { continue };
            for status in &mut service.tree_limits {
                let found = known.get(&status.limit);
                status.enforced = found.map(Option::is_none);
                status.because = found.cloned().flatten();
            }
            // One that was taken out of the plan and could not be lifted.
            let lingering = known.iter().filter_map(|(limit, why)| Some((*limit, why.clone()?)));
            for (limit, why) in lingering {
                if service.tree_limits.iter().all(|status| status.limit != limit) {
                    service.tree_limits.push(LimitStatus {
                        limit,
                        value: "not limited any more".to_owned(),
                        enforced: Some(false),
                        because: Some(why),
                    });
                }
            }
        }
    }
}

fn limit(limit: GroupLimit) -> Option<TreeLimit> {
    match limit {
        GroupLimit::Memory => Some(TreeLimit::Memory),
        GroupLimit::Tasks => Some(TreeLimit::Tasks),
        GroupLimit::Cpu => Some(TreeLimit::Cpu),
        GroupLimit::Unknown => None,
    }
}

/// The limits in the keeper's words.
fn asked(limits: TreeLimits) -> GroupLimits {
    let TreeLimits { memory_bytes, tasks, cpu_percent } = limits;
    GroupLimits { memory: memory_bytes, tasks, cpu_percent }
}

/// What a start asks for.
pub(super) fn for_start(owner: &mut Owner, service: &ServiceName, limits: TreeLimits) -> GroupLimits {
    let limits = asked(limits);
    owner.tree_limits.wait(service);
    if !limits.is_none() && !owner.keeper_can(CAN_LIMIT) {
        learn(owner, service, Limited::refused(&limits, OLD_KEEPER));
    }
    limits
}

/// The keeper says what is in force of what was asked. Of limits that are not wanted any more it says nothing new: the
/// answer about those that are is on its way.
pub(super) fn heard(owner: &mut Owner, slot: &SlotName, tree: &GroupLimits, limited: Limited) {
    let Ok(service) = ServiceName::parse(slot.as_str()) else { return };
    if owner.service_plan(&service).is_some_and(|plan| asked(plan.tree) == *tree) {
        learn(owner, &service, limited);
    }
}

/// The plan has changed: whoever runs gets its new limits, in place.
pub(super) fn changed(owner: &mut Owner, old: &Plan) {
    let plan = owner.plan.clone();
    owner.tree_limits.follow(&plan);
    for (service, new) in &plan.services {
        if old.services.get(service).is_some_and(|old| old.tree != new.tree) {
            say(owner, service);
        }
    }
}

/// A keeper was met that has a run of this service: it may have another group, and the limits another value.
pub(super) fn say(owner: &mut Owner, service: &ServiceName) {
    let Some(plan) = owner.service_plan(service) else { return };
    let tree = asked(plan.tree);
    if !owner.processes.contains_key(service) {
        return;
    }
    if owner.keeper_can(CAN_LIMIT) {
        if let Some(slot) = slot_of(service) {
            owner.tree_limits.wait(service);
            owner.keeper.send(Request::Adjust { slot, tree });
        }
    } else {
        learn(owner, service, Limited::refused(&tree, OLD_KEEPER));
    }
}

fn learn(owner: &mut Owner, service: &ServiceName, limited: Limited) {
    let values: BTreeMap<_, _> =
        owner.service_plan(service).into_iter().flat_map(|plan| plan.tree.told()).collect();
    for (limit, why) in owner.tree_limits.learn(service, limited) {
        let value = values.get(&limit).map(|value| format!(" ({value})")).unwrap_or_default();
        let text = format!("{service}: limits.tree.{}{value} is not enforced: {why}", limit.word());
        tracing::warn!("{text}");
        owner.note(What::Horus { text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use horus_sys::cgroup_limits::Refused;

    fn refused(why: &str) -> Limited {
        let refused = vec![Refused { limit: GroupLimit::Memory, why: why.to_owned() }];
        Limited { applied: vec![GroupLimit::Tasks], refused }
    }

    #[test]
    fn a_refusal_is_news_once_until_its_reason_changes() {
        let bot = ServiceName::parse("bot").unwrap();
        let mut known = TreeLimitsKnown::default();
        let news = |why: &str| vec![(TreeLimit::Memory, why.to_owned())];
        assert_eq!(known.learn(&bot, refused("no group")), news("no group"));
        assert_eq!(known.learn(&bot, refused("no group")), []);
        assert_eq!(known.learn(&bot, refused("no controller")), news("no controller"));
        let all = Limited { applied: vec![GroupLimit::Memory, GroupLimit::Unknown], refused: Vec::new() };
        assert_eq!(known.learn(&bot, all), []);
        assert_eq!(known.services[&bot].limits, BTreeMap::from([(TreeLimit::Memory, None)]));
        known.wait(&bot);
        assert!(known.services[&bot].waits, "nothing is called in force until the answer comes");
        assert_eq!(known.learn(&bot, refused("no controller")), news("no controller"));
    }
}
