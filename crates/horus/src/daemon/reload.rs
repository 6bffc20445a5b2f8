//! Reloading: by request, by SIGHUP, and when the file changes. A bad file changes nothing.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
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
    let loaded = tokio::task::spawn_blocking(move || config::load(&reading)).await;
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

async fn stamp(path: PathBuf) -> Option<Stamp> {
    let reading = tokio::task::spawn_blocking(move || {
        test_hook::place("thread");
        std::fs::metadata(path).ok()
    });
    let found = reading.await.ok().flatten()?;
    Some(Stamp { inode: found.ino(), length: found.len(), changed: (found.ctime(), found.ctime_nsec()) })
}

/// Reloads whenever the file has changed and then been quiet for a moment.
///
/// The file is looked at, not watched by the kernel: a watch is on the whole folder (editors rename), and a folder in
/// which a service writes its own files would wake Horus with every one of its writes.
pub(super) async fn follow_file(path: PathBuf, calls: mpsc::Sender<Call>) {
    let mut taken = stamp(path.clone()).await;
    let mut seen = taken;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        test_hook::place("task");
        let now = stamp(path.clone()).await;
        let quiet = now == seen;
        seen = now;
        // A file that is gone for a moment is an editor at work, not an order to stop everything.
        if !quiet || now.is_none() || now == taken {
            continue;
        }
        taken = now;
        if reload(path.clone(), &calls, false).await.is_err() {
            return;
        }
    }
}
