//! Whether our sockets and locks are still where everybody looks for them.
//!
//! Somebody cleans up below `/run`, and nothing seems to happen: what is open stays open. But nobody reaches Horus any more, beats that
//! are sent to a socket without a name are lost, and a second Horus would find no lock. The keeper makes its part of the run directory
//! anew by itself, the store its file; for all the rest there is a way that is tried at every upgrade: the process executes its own
//! program, which makes and binds what it does not find. No service is touched.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use horus_api::{AskStep, Spot};
use horus_core::command::Answer;
use tokio::sync::mpsc;

use super::handover::upgrader::Upgrader;
use super::owner::Call;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often it is tried again if the own program cannot be executed.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// What has to be there.
#[derive(Clone, Debug)]
pub(super) struct Places {
    ours: Vec<(PathBuf, Spot)>,
    keeper_lock: PathBuf,
}

impl Places {
    /// These files, as they are now.
    pub(super) fn of(files: impl IntoIterator<Item = PathBuf>, keeper_lock: PathBuf) -> Self {
        let ours = files.into_iter().filter_map(|path| Some((path.clone(), Spot::of(&path)?))).collect();
        Self { ours, keeper_lock }
    }

    /// The first that is gone, or is another file by now.
    fn missing(&self) -> Option<PathBuf> {
        self.ours.iter().find(|(path, spot)| Spot::of(path) != Some(*spot)).map(|(path, _)| path.clone())
    }

    /// Looks for ever.
    pub(super) async fn watch(self, upgrader: Arc<Upgrader>, calls: mpsc::Sender<Call>) {
        let mut told = false;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let places = self.clone();
            let look = move || (places.missing(), places.keeper_lock.exists());
            // A disk that does not answer holds up nobody but this.
            let Ok((Some(missing), keeper_is_back)) = tokio::task::spawn_blocking(look).await else {
                continue;
            };
            if !std::mem::replace(&mut told, true) {
                let text = format!(
                    "{} was taken away while Horus runs: it begins anew in place, no service is touched",
                    missing.display()
                );
                if calls.send(Call::Note(text)).await.is_err() {
                    return;
                }
            }
            // Without the keeper's lock the program that comes would start a second keeper.
            if keeper_is_back {
                begin_anew(&upgrader).await;
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
    }
}

/// Returns only if that did not come about.
async fn begin_anew(upgrader: &Arc<Upgrader>) {
    let mut steps = upgrader.begin(None, false);
    while let Some(step) = steps.recv().await {
        if let AskStep::Answer(Answer::Refused { why, .. }) = step {
            tracing::error!(why, "Horus cannot begin anew in place; it is tried again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_or_another_is_missed() {
        let folder = tempfile::tempdir().unwrap();
        let [stays, goes] = ["stays", "goes"].map(|name| folder.path().join(name));
        let file = |path: &PathBuf| std::fs::File::create(path).unwrap();
        // Kept open, so that no later file gets the same number.
        let _kept = [file(&stays), file(&goes)];
        let never = folder.path().join("never");
        let places = Places::of([stays, goes.clone(), never], folder.path().join("keeper.lock"));
        assert_eq!(places.missing(), None);
        std::fs::remove_file(&goes).unwrap();
        assert_eq!(places.missing(), Some(goes.clone()));
        file(&goes);
        assert_eq!(places.missing(), Some(goes));
    }
}
