//! The configuration as the daemon needs it: a plan with its secrets, or a list of faults; and what differs between two.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use horus_api::{API_SCHEMA, ReloadFault, ReloadReport};
use horus_config::{Environment, Fault, FileFacts, SystemEnvironment, UserFacts, Weight};
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

/// Files that are followed; more than these are read when a person reloads, or when one of these changes.
const FILES_MAX: usize = 4096;

/// The machine, and which of its files were asked for: the file itself, `env_file`s, `url_file`s.
#[derive(Debug, Default)]
struct Reader {
    files: RefCell<BTreeSet<PathBuf>>,
}

impl Environment for Reader {
    fn variable(&self, name: &str) -> Option<String> {
        SystemEnvironment.variable(name)
    }

    fn look(&self, path: &Path) -> io::Result<FileFacts> {
        SystemEnvironment.look(path)
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut files = self.files.borrow_mut();
        if files.len() < FILES_MAX {
            files.insert(path.to_owned());
        }
        SystemEnvironment.read(path, limit)
    }

    fn user_id(&self) -> u32 {
        SystemEnvironment.user_id()
    }

    fn user(&self, name_or_number: &str) -> Option<UserFacts> {
        SystemEnvironment.user(name_or_number)
    }

    fn group(&self, name_or_number: &str) -> Option<u32> {
        SystemEnvironment.group(name_or_number)
    }

    fn host_name(&self) -> Option<String> {
        SystemEnvironment.host_name()
    }

    fn current_directory(&self) -> PathBuf {
        SystemEnvironment.current_directory()
    }
}

/// Reads and checks the file. Blocks. Warnings are logged; faults are all there is if there are any.
pub(super) fn load(path: &Path) -> Result<Config, Vec<Fault>> {
    load_noting(path).0
}

/// The same, with every file that was read for it.
pub(super) fn load_noting(path: &Path) -> (Result<Config, Vec<Fault>>, BTreeSet<PathBuf>) {
    let reader = Reader::default();
    let config = load_by(path, &reader);
    (config, reader.files.into_inner())
}

fn load_by(path: &Path, reader: &Reader) -> Result<Config, Vec<Fault>> {
    let loaded = horus_config::load(path, reader);
    for warning in loaded.warnings.iter().filter(|warning| warning.weight == Weight::Warning) {
        tracing::warn!("{warning}");
    }
    let checked = loaded.into_result()?;
    let secrets = horus_config::resolve_secrets(&checked, reader);
    let ping = horus_config::resolve_ping(&checked, reader);
    match (secrets, ping) {
        (Ok(secrets), Ok(ping)) => Ok(Config { plan: checked.plan, secrets, ping }),
        (secrets, ping) => Err([secrets.err(), ping.err()].into_iter().flatten().flatten().collect()),
    }
}

/// What a plan changed, or would.
#[derive(Clone, Debug)]
pub(super) struct Applied {
    diff: horus_config::PlanDiff,
    /// Those whose secret is another one; the plan does not hold it.
    secrets: Vec<String>,
}

impl Applied {
    pub(super) fn between(old: &Plan, new: &Plan, secrets: Vec<String>) -> Self {
        Self { diff: horus_config::diff(old, new), secrets }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.diff.is_empty() && self.secrets.is_empty()
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
        if !self.diff.is_empty() || self.secrets.is_empty() {
            self.diff.fmt(f)?;
        }
        for (number, of) in self.secrets.iter().enumerate() {
            let line = if number == 0 && self.diff.is_empty() { "" } else { "\n" };
            write!(f, "{line}{of}: its secret has changed; it is used from now on")?;
        }
        Ok(())
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
