//! What has to be done to get from one plan to another, and, as important, what is left alone.

use std::collections::BTreeMap;
use std::fmt;

use horus_core::ids::{MonitorName, ServiceName, SinkName};
use horus_core::plan::{BeatPlan, Plan, ServicePlan};
use serde::Serialize;

/// One thing of both plans that is not the same in them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed<N> {
    /// Its name.
    pub name: N,
    /// The keys that changed.
    pub keys: Vec<&'static str>,
}

/// The difference of two plans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PlanDiff {
    /// Services that are new.
    pub added: Vec<ServiceName>,
    /// Services that are no longer asked for.
    pub removed: Vec<ServiceName>,
    /// Services of which something changed that is fixed while an instance lives; all their changed keys.
    pub restart_needed: Vec<Changed<ServiceName>>,
    /// Services of which only the judging or the limits of the tree changed: it takes effect at once, in place.
    pub policy_only: Vec<Changed<ServiceName>>,
    /// Monitors that are new, changed or gone.
    pub monitors: Vec<MonitorName>,
    /// Sinks that are new, changed or gone.
    pub sinks: Vec<SinkName>,
    /// Maintenance windows that are new, changed or gone.
    pub maintenance: Vec<String>,
    /// Settings of Horus that take effect at once.
    pub daemon: Vec<&'static str>,
    /// Settings of Horus that need a restart of Horus.
    pub daemon_needs_restart: Vec<&'static str>,
}

impl PlanDiff {
    /// Is there nothing to do?
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What has to be done to get from `old` to `new`.
pub fn diff(old: &Plan, new: &Plan) -> PlanDiff {
    let mut found = PlanDiff {
        added: new.services.keys().filter(|name| !old.services.contains_key(*name)).cloned().collect(),
        removed: old.services.keys().filter(|name| !new.services.contains_key(*name)).cloned().collect(),
        monitors: unequal(&old.monitors, &new.monitors),
        sinks: unequal(&old.sinks, &new.sinks),
        maintenance: unequal(&old.maintenance, &new.maintenance),
        ..PlanDiff::default()
    };
    let (before, after) = (&old.daemon, &new.daemon);
    found.daemon = changed(&[
        ("mode", before.mode == after.mode),
        ("host", before.host == after.host),
        ("retention", before.retention == after.retention),
        ("ping", before.ping == after.ping),
        ("executable", before.executable == after.executable),
    ]);
    found.daemon_needs_restart = changed(&[
        ("state_directory", before.state_directory == after.state_directory),
        ("run_directory", before.run_directory == after.run_directory),
        ("cgroup", before.cgroup == after.cgroup),
    ]);
    for (name, after) in &new.services {
        let Some(before) = old.services.get(name) else {
            continue;
        };
        let launch = launch_changes(before, after);
        let policy = policy_changes(before, after);
        if !launch.is_empty() {
            found.restart_needed.push(Changed { name: name.clone(), keys: [launch, policy].concat() });
        } else if !policy.is_empty() {
            found.policy_only.push(Changed { name: name.clone(), keys: policy });
        }
    }
    found
}

fn changed(keys: &[(&'static str, bool)]) -> Vec<&'static str> {
    keys.iter().filter(|(_, same)| !same).map(|(key, _)| *key).collect()
}

fn unequal<N: Ord + Clone, T: PartialEq>(old: &BTreeMap<N, T>, new: &BTreeMap<N, T>) -> Vec<N> {
    let changed_or_new =
        new.iter().filter(|(name, plan)| old.get(*name) != Some(*plan)).map(|(name, _)| name);
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    let mut names: Vec<N> = changed_or_new.chain(gone).cloned().collect();
    names.sort();
    names
}

fn launch_changes(before: &ServicePlan, after: &ServicePlan) -> Vec<&'static str> {
    let (old, new) = (&before.launch, &after.launch);
    changed(&[
        ("command", old.command == new.command),
        ("directory", old.directory == new.directory),
        ("env", old.environment == new.environment),
        ("user", old.user == new.user),
        ("group", old.group == new.group),
        ("limits", old.limits == new.limits),
        ("exclusive", old.exclusive == new.exclusive),
        ("unit", before.owner == after.owner),
        ("log", old.log == new.log),
        ("agent", old.agent == new.agent),
        ("notify socket", before.is_notified() == after.is_notified()),
    ])
}

fn policy_changes(before: &ServicePlan, after: &ServicePlan) -> Vec<&'static str> {
    let polled = |plan: &ServicePlan| -> Vec<BeatPlan> {
        plan.beats.iter().filter(|beat| **beat != BeatPlan::Notify).cloned().collect()
    };
    changed(&[
        ("limits.tree", before.tree == after.tree),
        ("after", before.after == after.after),
        ("groups", before.groups == after.groups),
        ("ready", before.ready == after.ready),
        ("heartbeat", polled(before) == polled(after)),
        ("deadline", before.deadline == after.deadline),
        ("startup", before.startup == after.startup),
        ("stop", before.stop == after.stop),
        ("restart", before.restart == after.restart),
        ("kills", before.kills == after.kills),
        ("observe", before.observe == after.observe),
        ("autostart", before.autostart == after.autostart),
        ("sampler", before.sampler == after.sampler),
        ("schedule", before.schedule == after.schedule),
        ("progress", before.progress == after.progress),
        ("counter", before.counters == after.counters),
        ("step", before.steps == after.steps),
        ("value", before.values == after.values),
        ("funnel", before.funnels == after.funnels),
        ("expect", before.expects == after.expects),
    ])
}

impl fmt::Display for PlanDiff {
    /// One line for each thing; `nothing changed` if there is none. No line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        lines.extend(self.added.iter().map(|name| format!("+ {name}: new, will be started")));
        lines.extend(
            self.removed.iter().map(|name| format!("- {name}: no longer asked for, will be stopped")),
        );
        for Changed { name, keys } in &self.restart_needed {
            lines.push(format!("! {name}: takes effect by a restart ({})", keys.join(", ")));
        }
        for Changed { name, keys } in &self.policy_only {
            lines.push(format!("~ {name}: takes effect at once ({})", keys.join(", ")));
        }
        lines.extend(self.monitors.iter().map(|name| format!("~ monitor {name}: takes effect at once")));
        lines.extend(self.sinks.iter().map(|name| format!("~ sink {name}: takes effect at once")));
        lines.extend(
            self.maintenance.iter().map(|name| format!("~ maintenance {name}: takes effect at once")),
        );
        if !self.daemon.is_empty() {
            lines.push(format!("~ daemon: takes effect at once ({})", self.daemon.join(", ")));
        }
        if !self.daemon_needs_restart.is_empty() {
            let keys = self.daemon_needs_restart.join(", ");
            lines.push(format!("! daemon: takes effect when Horus is started again ({keys})"));
        }
        if lines.is_empty() {
            lines.push("nothing changed".to_owned());
        }
        f.write_str(&lines.join("\n"))
    }
}
