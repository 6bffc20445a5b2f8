//! Reloading: by request, by SIGHUP, and when a file changes that the configuration is made of. A bad file changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use horus_api::{Problem, ReloadReport};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::config::{self, Config};
use super::owner::Call;
use super::systemd::Manager;
use super::test_hook;

/// How often the file is looked at. Editors write in several steps: it is read when two looks saw the same.
const LOOK_EVERY: Duration = Duration::from_millis(700);

/// One reload at a time: two may not apply in another order than they read.
static RELOADING: Mutex<()> = Mutex::const_new(());

/// The files that the configuration was last read from.
static FOLLOWED: std::sync::Mutex<BTreeSet<PathBuf>> = std::sync::Mutex::new(BTreeSet::new());

/// Follows these files from now on. Of a configuration with a fault perhaps not all were read.
pub(super) fn follow(files: BTreeSet<PathBuf>, all: bool) {
    let mut followed = FOLLOWED.lock().unwrap_or_else(PoisonError::into_inner);
    if all {
        *followed = files;
    } else {
        followed.extend(files);
    }
}

/// Reads the file and follows it, or only says what would change.
pub(super) async fn reload(
    path: PathBuf,
    calls: &mpsc::Sender<Call>,
    dry_run: bool,
) -> Result<ReloadReport, Problem> {
    let _turn = RELOADING.lock().await;
    let manager = Manager::of_process();
    if dry_run {
        return read_and_apply(path, calls, dry_run).await;
    }
    manager.reloading();
    let report = read_and_apply(path, calls, dry_run).await;
    manager.reloaded();
    report
}

async fn read_and_apply(
    path: PathBuf,
    calls: &mpsc::Sender<Call>,
    dry_run: bool,
) -> Result<ReloadReport, Problem> {
    let reading = path.clone();
    let loaded = tokio::task::spawn_blocking(move || {
        let (config, files) = config::load_noting(&reading);
        follow(files, config.is_ok());
        config
    });
    let loaded = loaded.await;
    let config = match loaded {
        Ok(Ok(config)) => config,
        Ok(Err(faults)) => {
            if !dry_run {
                let refused = Call::ConfigRefused(config::summary(&path, &faults));
                calls.send(refused).await.map_err(|_| Problem::shutting_down())?;
            }
            return Ok(config::refused(dry_run, &faults));
        }
        Err(error) => {
            let kind = horus_api::ProblemKind::Internal;
            return Err(Problem::new(kind, format!("the file could not be read: {error}"), "horus check"));
        }
    };
    apply(config, calls, dry_run).await
}

async fn apply(config: Config, calls: &mpsc::Sender<Call>, dry_run: bool) -> Result<ReloadReport, Problem> {
    let (reply, answer) = oneshot::channel();
    let call = Call::Apply { config: Box::new(config), dry_run, reply };
    calls.send(call).await.map_err(|_| Problem::shutting_down())?;
    let applied = answer.await.map_err(|_| Problem::shutting_down())?;
    Ok(applied.report(dry_run))
}

/// What tells one state of a file from another. A link counts as what it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

/// All files that the configuration is made of, and how they are. `None`: it is not there.
type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some(Stamp { inode: found.ino(), length: found.len(), changed: (found.ctime(), found.ctime_nsec()) })
}

/// How the followed files are. `None`: nobody could look.
async fn look(path: PathBuf) -> Option<Stamps> {
    let reading = tokio::task::spawn_blocking(move || {
        test_hook::place("thread");
        let mut files = FOLLOWED.lock().unwrap_or_else(PoisonError::into_inner).clone();
        files.insert(path);
        files.into_iter().map(|path| (path.clone(), stamp(&path))).collect()
    });
    reading.await.ok()
}

/// Reloads whenever a file that the configuration is made of has changed and then all have been quiet for a moment: the file
/// itself, and the `env_file`s and `url_file`s that it names.
///
/// They are looked at, not watched by the kernel: docs/design/007-following-files.md.
pub(super) async fn follow_file(path: PathBuf, calls: mpsc::Sender<Call>) {
    let mut taken = look(path.clone()).await.unwrap_or_default();
    let mut seen = taken.clone();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        test_hook::place("task");
        let Some(now) = look(path.clone()).await else { continue };
        let quiet = now == seen;
        seen = now;
        // A file that is gone for a moment is an editor at work, not an order to stop everything. One that is followed since the
        // last reading counts as changed: it may have been, since it was read.
        let is_there = seen.get(&path).is_some_and(Option::is_some);
        let changed = seen.iter().any(|(file, stamp)| taken.get(file).is_none_or(|before| before != stamp));
        if !quiet || !is_there || !changed {
            continue;
        }
        taken = seen.clone();
        if reload(path.clone(), &calls, false).await.is_err() {
            return;
        }
    }
}
