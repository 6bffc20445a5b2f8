//! Where the groups of the services are.
//!
//! A service of systemd gets a scope beside its unit, `horus-services.scope`: there controllers can be enabled without
//! keeping systemd from starting Horus again, and it outlives Horus and keeper as long as anybody lives in it. A scope needs
//! a first process; a `sleep` founds it, the keeper moves in (and the founder into the keeper's group), the founder ends.
//! The next keeper finds the scope by its name and moves in as well. Without a scope (no `systemd-run`, no answer in time)
//! the unit's own group serves, without controllers.
//!
//! Rejected: starting the keeper through `systemd-run`. It works, and the lock passes through; but a bus that hangs would
//! hang the start, and a keeper that comes into a scope that is there already needs another way in anyway.

use horus_sys::cgroup::Cgroup;
use horus_sys::cgroup_home::Unit;
use horus_sys::poll::Poller;
use horus_sys::{clock, spawn};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a scope may take to appear. Much less than an attach may take in all.
const SCOPE_PATIENCE: Duration = Duration::from_secs(3);
/// How long one request for it may take before it is made again: the name may be that of a scope that is just going.
const ONE_REQUEST: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// The founder's life, in seconds: the keeper has moved in long before.
const FOUNDER_SECONDS: &str = "10";
/// Where systemd-run is.
const SYSTEMD_RUN: [&str; 2] = ["/usr/bin/systemd-run", "/bin/systemd-run"];
/// What it needs to find the manager of a user.
const USER_VARIABLES: [&str; 2] = ["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];

/// Where the groups of the services are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// Nowhere: process groups and a walk of the tree do.
    None,
    /// In this directory.
    At(PathBuf),
    /// In a scope beside this service of systemd.
    BesideUnit(Unit),
}

impl Home {
    /// What this machine has for us.
    pub fn found() -> Self {
        Unit::of_process().map_or(Self::None, Self::BesideUnit)
    }

    /// The directory, made if need be. `errors` is the keeper's log.
    pub(crate) fn settle(&self, errors: &File) -> Option<PathBuf> {
        match self {
            Self::None => None,
            Self::At(path) => Some(path.clone()),
            Self::BesideUnit(unit) => Some(scope(unit, errors).unwrap_or_else(|| unit.group.clone())),
        }
    }
}

fn is_inhabited(scope: &Path) -> bool {
    Cgroup::existing(scope).is_populated().unwrap_or(false)
}

fn scope(unit: &Unit, errors: &File) -> Option<PathBuf> {
    let scope = unit.scope()?;
    let end = clock::monotonic() + SCOPE_PATIENCE;
    let poller = Poller::new().ok()?;
    while clock::monotonic() < end {
        if is_inhabited(&scope) {
            return Some(scope);
        }
        found(unit, errors).ok()?;
        let asked = clock::monotonic();
        while clock::monotonic() < (asked + ONE_REQUEST).min(end) && !is_inhabited(&scope) {
            let _ = poller.wait(&mut Vec::new(), Some(LOOK_AGAIN));
        }
    }
    is_inhabited(&scope).then_some(scope)
}

/// Asks systemd for the scope. It is stopped after its service, which ends the programs in order.
fn found(unit: &Unit, errors: &File) -> io::Result<()> {
    let program = SYSTEMD_RUN.iter().map(Path::new).find(|path| path.exists());
    let program = program.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let mut words: Vec<OsString> = Vec::new();
    words.extend(unit.of_user.then(|| "--user".into()));
    words.extend(["--quiet", "--scope", "--collect"].map(OsString::from));
    words.push(format!("--unit={}", unit.scope_name()).into());
    words.extend(unit.slice().map(|slice| format!("--slice={slice}").into()));
    let before = format!("Before={}", unit.name);
    let description = format!("Description=Programs of {}", unit.name);
    for property in ["Delegate=yes", "TasksMax=infinity", &before, &description] {
        words.extend(["-p".into(), property.into()]);
    }
    words.extend(["--", "/bin/sleep", FOUNDER_SECONDS].map(OsString::from));
    let variables = USER_VARIABLES.iter().filter(|_| unit.of_user);
    let environment: Vec<(OsString, OsString)> =
        variables.filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect();
    let nothing = File::open("/dev/null")?;
    spawn::detached(program, &words, &environment, nothing.as_fd(), errors.try_clone()?)?;
    Ok(())
}
