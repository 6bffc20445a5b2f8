//! Reloading: by request, by SIGHUP, and when the file changes. A bad file changes nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use horus_api::{Problem, ReloadReport};
use notify::{RecursiveMode, Watcher};
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::config::{self, Config};
use super::owner::Call;

/// Editors write in several steps; the file is read when it has been quiet for so long.
const QUIET: Duration = Duration::from_millis(500);

/// One reload at a time: two may not apply in another order than they read.
static RELOADING: Mutex<()> = Mutex::const_new(());

/// Reads the file and follows it, or only says what would change.
pub(super) async fn reload(
    path: PathBuf,
    calls: &mpsc::Sender<Call>,
    dry_run: bool,
) -> Result<ReloadReport, Problem> {
    let _turn = RELOADING.lock().await;
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

/// Watches the folder of the file (editors rename) and says when something happened to the file. `None`: the system
/// does not let us; SIGHUP and `horus reload` still work.
pub(super) fn watch_file(path: &Path) -> Option<(notify::RecommendedWatcher, watch::Receiver<u64>)> {
    let (changed, changes) = watch::channel(0_u64);
    // The name that was given, and the file that a link leads to.
    let mut places = vec![path.to_owned()];
    places.extend(std::fs::canonicalize(path).ok().filter(|target| target.file_name() != path.file_name()));
    let names: Vec<_> = places.iter().filter_map(|place| place.file_name().map(ToOwned::to_owned)).collect();
    let tell = move |event: notify::Result<notify::Event>| {
        let ours = event.is_ok_and(|event| {
            !event.kind.is_access()
                && event.paths.iter().any(|path| names.iter().any(|name| path.file_name() == Some(name)))
        });
        if ours {
            changed.send_modify(|count| *count += 1);
        }
    };
    let watcher = notify::recommended_watcher(tell).and_then(|mut watcher| {
        for place in &places {
            let folder =
                place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    });
    match watcher {
        Ok(watcher) => Some((watcher, changes)),
        Err(error) => {
            tracing::warn!(%error, "the configuration file is not watched; use `horus reload`");
            None
        }
    }
}

/// Reloads whenever the file has changed and been quiet for a moment.
pub(super) async fn follow_file(path: PathBuf, mut changes: watch::Receiver<u64>, calls: mpsc::Sender<Call>) {
    while changes.changed().await.is_ok() {
        while tokio::time::timeout(QUIET, changes.changed()).await.is_ok_and(|changed| changed.is_ok()) {}
        // A file that is gone for a moment is an editor at work, not an order to stop everything.
        if path.exists() && reload(path.clone(), &calls, false).await.is_err() {
            return;
        }
    }
}
