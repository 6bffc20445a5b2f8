//! What is so now, and what is wanted: all that a plan depends on. Made up in tests, looked at by [`survey`] for real.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use horus_sys::files::read_limited;

use crate::plan::{Manager, Scope, Target};
use crate::runner::{RunError, Runner};
use crate::trust::{PathEntry, chain_of};
use crate::{launchd, systemd};

/// Largest unit file or property list that is read, in bytes.
const UNIT_BYTES_MAX: usize = 256 * 1024;

/// How long a manager may take to say how things are.
pub(crate) const ASK_WITHIN: Duration = Duration::from_secs(10);

/// Whose session this is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Login name.
    pub name: String,
    /// Home directory.
    pub home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`: without it a user's systemd cannot be reached.
    pub runtime_directory: Option<PathBuf>,
}

impl Account {
    /// The one this process runs as, in its own words.
    pub fn of_process() -> Self {
        let text = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let uid = horus_sys::user::effective_uid();
        Self {
            uid,
            name: text("USER").or_else(|| text("LOGNAME")).unwrap_or_else(|| uid.to_string()),
            home: folder("HOME"),
            runtime_directory: folder("XDG_RUNTIME_DIR"),
        }
    }
}

/// A path, and every name on the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Absolute.
    pub path: PathBuf,
    /// See [`chain_of`].
    pub chain: Vec<PathEntry>,
}

impl Traced {
    /// Follows the path.
    ///
    /// # Errors
    /// One of the names on the way cannot be looked at.
    pub fn follow(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        Ok(Self { chain: chain_of(&path)?, path })
    }
}

/// What the service is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The program.
    pub executable: Traced,
    /// Its configuration.
    pub config: Traced,
    /// How long the programs together may take to end in order.
    pub stop_within: Duration,
    /// A user's service is to run without a session.
    pub linger: bool,
}

/// What is there now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Who asks.
    pub account: Account,
    /// The service manager runs.
    pub manager_runs: bool,
    /// What it knows and has.
    pub existing: Existing,
}

/// The service as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Existing {
    /// The unit file or property list that installing writes.
    pub file: Option<String>,
    /// One of the same name that came with a package.
    pub packaged: Option<(PathBuf, String)>,
    /// Settings that a person has put beside it, and that nobody else takes away.
    pub own_settings: Vec<PathBuf>,
    /// It is started with the machine or the session.
    pub enabled: bool,
    /// The manager has it: it runs, or is being started.
    pub active: bool,
    /// The user's services go on without a session.
    pub lingers: bool,
    /// Run directories in the usual place that are there.
    pub run_directories: Vec<PathBuf>,
    /// Some other Horus works in the first of them.
    pub run_directory_in_use: bool,
    /// The state directory, if it is in the usual place and there.
    pub state_directory: Option<PathBuf>,
}

/// Looks, and changes nothing.
///
/// # Errors
/// The manager cannot be asked.
pub fn survey(target: Target, mut account: Account, runner: &mut dyn Runner) -> Result<Facts, RunError> {
    // A variable that names a place where no manager is leads nowhere.
    account.runtime_directory = account.runtime_directory.filter(|folder| {
        target.manager != Manager::Systemd || folder.join("systemd").is_dir() || folder.join("bus").exists()
    });
    let manager_runs = match target.manager {
        Manager::Systemd => Path::new("/run/systemd/system").is_dir(),
        Manager::Launchd => true,
    };
    let reachable = manager_runs && (target.scope == Scope::System || account.runtime_directory.is_some())
        || target.manager == Manager::Launchd;
    let mut existing = Existing {
        file: unit_path(target, &account).and_then(|path| text_of(&path)),
        packaged: systemd::packaged_paths(target)
            .into_iter()
            .find_map(|path| text_of(&path).map(|text| (path, text))),
        run_directories: run_directories(target, &account).into_iter().filter(|path| path.is_dir()).collect(),
        state_directory: state_directory(target, &account).filter(|path| path.is_dir()),
        ..Existing::default()
    };
    let unit = existing.file.as_ref().or(existing.packaged.as_ref().map(|(_, text)| text));
    existing.own_settings = own_settings(target, &account, unit.map_or("", String::as_str));
    if reachable {
        match target.manager {
            Manager::Systemd => systemd::ask(target, &account, runner, &mut existing)?,
            Manager::Launchd => launchd::ask(target, &account, runner, &mut existing)?,
        }
    }
    let holder =
        existing.run_directories.first().and_then(|run| horus_sys::lock::read_holder(&run.join("lock")));
    let lives = |pid| horus_sys::process::row(pid).ok().flatten().is_some_and(|row| !row.is_gone());
    existing.run_directory_in_use = !existing.active && holder.is_some_and(|holder| lives(holder.pid));
    Ok(Facts { account, manager_runs, existing })
}

/// What stands beside the unit, and the variables that it reads, where they are there.
fn own_settings(target: Target, account: &Account, unit: &str) -> Vec<PathBuf> {
    let beside = unit_path(target, account).filter(|_| target.manager == Manager::Systemd);
    let beside = beside.map(|path| path.with_extension("service.d"));
    let variables = unit.lines().find_map(|line| line.strip_prefix("EnvironmentFile=-"));
    let variables = variables.map(|path| PathBuf::from(path.replace("%%", "%")));
    beside.into_iter().chain(variables).filter(|path| path.exists()).collect()
}

/// Where the unit or property list belongs.
pub(crate) fn unit_path(target: Target, account: &Account) -> Option<PathBuf> {
    match target.manager {
        Manager::Systemd => systemd::unit_path(target, account),
        Manager::Launchd => launchd::plist_path(target, account),
    }
}

/// Where Horus keeps its state if the configuration does not say.
fn state_directory(target: Target, account: &Account) -> Option<PathBuf> {
    match target.scope {
        Scope::System => Some(PathBuf::from("/var/lib/horus")),
        Scope::User => account.home.as_ref().map(|home| home.join(".local/state/horus")),
    }
}

/// Where its sockets and records of this boot are if the configuration does not say.
fn run_directories(target: Target, account: &Account) -> Vec<PathBuf> {
    let base = match (target.scope, target.manager, &account.runtime_directory) {
        (Scope::System, Manager::Systemd, _) => Path::new("/run"),
        (Scope::System, Manager::Launchd, _) => Path::new("/var/run"),
        (Scope::User, _, Some(base)) => base,
        (Scope::User, _, None) => return Vec::new(),
    };
    ["horus", "horus-notify"].map(|name| base.join(name)).into()
}

fn text_of(path: &Path) -> Option<String> {
    let bytes = read_limited(path, UNIT_BYTES_MAX).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
