//! The configuration as the daemon needs it: a plan with its secrets, or a list of faults; and what differs between two.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use horus_api::{API_SCHEMA, ReloadFault, ReloadReport};
use horus_config::{Fault, SystemEnvironment, Weight};
use horus_core::ids::SinkName;
use horus_core::plan::{Plan, Secret};

/// A plan with what it needs from elsewhere.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) plan: Plan,
    pub(super) secrets: BTreeMap<SinkName, Secret>,
    /// The URL of the dead-man ping.
    pub(super) ping: Option<Secret>,
}

/// Reads and checks the file. Blocks. Warnings are logged; faults are all there is if there are any.
pub(super) fn load(path: &Path) -> Result<Config, Vec<Fault>> {
    let loaded = horus_config::load(path, &SystemEnvironment);
    for warning in loaded.warnings.iter().filter(|warning| warning.weight == Weight::Warning) {
        tracing::warn!("{warning}");
    }
    let checked = loaded.into_result()?;
    let secrets = horus_config::resolve_secrets(&checked, &SystemEnvironment);
    let ping = horus_config::resolve_ping(&checked, &SystemEnvironment);
    match (secrets, ping) {
        (Ok(secrets), Ok(ping)) => Ok(Config { plan: checked.plan, secrets, ping }),
        (secrets, ping) => Err([secrets.err(), ping.err()].into_iter().flatten().flatten().collect()),
    }
}

/// What a plan changed, or would.
#[derive(Clone, Debug)]
pub(super) struct Applied {
    diff: horus_config::PlanDiff,
}

impl Applied {
    pub(super) fn between(old: &Plan, new: &Plan) -> Self {
        Self { diff: horus_config::diff(old, new) }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.diff.is_empty()
    }

    pub(super) fn report(&self, dry_run: bool) -> ReloadReport {
        let changes = if self.is_nothing() {
            Vec::new()
        } else {
            self.to_string().lines().map(str::to_owned).collect()
        };
        ReloadReport { schema: API_SCHEMA, dry_run, applied: !dry_run, changes, faults: Vec::new() }
    }
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.diff.fmt(f)
    }
}

/// Faults as the API tells them.
pub(super) fn refused(dry_run: bool, faults: &[Fault]) -> ReloadReport {
    let faults = faults.iter().map(|fault| ReloadFault {
        place: format!("{}:{}:{}", fault.file, fault.line, fault.column),
        message: fault.message.clone(),
        help: fault.help.clone(),
    });
    ReloadReport {
        schema: API_SCHEMA,
        dry_run,
        applied: false,
        changes: Vec::new(),
        faults: faults.collect(),
    }
}

/// Faults as one line for the journal.
pub(super) fn summary(path: &Path, faults: &[Fault]) -> String {
    let first = faults.first().map(ToString::to_string).unwrap_or_default();
    let (path, count) = (path.display(), faults.len());
    format!("{path} has {count} faults, nothing was changed; the first: {first}; see: horus check {path}")
}
