//! From the commands of one step to one transaction, and from the journal to those who follow it.

use std::path::PathBuf;
use std::sync::Arc;

use horus_api::{LIVE_EVENTS_MAX, Problem, ProblemKind};
use horus_core::record::Recorded;
use horus_store::{EventQuery, ReadError, Reader, Store};
use tokio::sync::{broadcast, watch};

/// Rows that are read at once for followers.
const FOLLOW_BATCH: u32 = 500;

/// Reads on a blocking thread, on a connection of its own.
pub(super) async fn read<T, Read>(store: &Store, read: Read) -> Result<T, Problem>
where
    T: Send + 'static,
    Read: FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
{
    let store = store.clone();
    let reading = tokio::task::spawn_blocking(move || read(&store.reader()?));
    let fault = |detail: String| Problem::new(ProblemKind::Internal, detail, "horus status");
    match reading.await {
        Ok(Ok(rows)) => Ok(rows),
        Ok(Err(error)) => Err(fault(super::chain(&error))),
        Err(error) => Err(fault(error.to_string())),
    }
}

/// Tells followers of each event once it can be read in the journal. Costs nothing while nobody follows.
pub(super) fn broadcast(
    store: Store,
    mut committed: watch::Receiver<u64>,
) -> broadcast::Sender<Arc<Recorded>> {
    let (sender, _) = broadcast::channel(LIVE_EVENTS_MAX);
    let live = sender.clone();
    drop(tokio::spawn(async move {
        let mut told = *committed.borrow();
        while committed.changed().await.is_ok() {
            let last = *committed.borrow_and_update();
            if live.receiver_count() == 0 {
                told = last;
                continue;
            }
            while told < last {
                let query =
                    EventQuery { after_seq: Some(told), limit: FOLLOW_BATCH, ..EventQuery::default() };
                let Ok(rows) = read(&store, move |reader| reader.events(&query)).await else { break };
                let Some(newest) = rows.last().map(|row| row.seq) else { break };
                told = newest;
                for row in rows {
                    // No receiver is no fault.
                    let _ = live.send(Arc::new(row));
                }
            }
            told = told.max(last);
        }
    }));
    sender
}

/// Evidence files that belong to these bundles.
pub(super) fn evidence_paths(
    directory: &std::path::Path,
    bundles: impl Iterator<Item = String>,
) -> Vec<String> {
    let paths = bundles.map(|bundle| -> PathBuf { directory.join(bundle) });
    paths.map(|path| path.display().to_string()).collect()
}
