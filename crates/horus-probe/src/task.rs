//! Tasks that end when they are dropped, and that a panic does not end.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::limits::PANIC_PAUSE;
use crate::outlet::{Closed, Counters};

/// Runs a probe; if it panics, says so and runs it again after a pause. Dropping the set ends both tasks.
pub(crate) fn start<Probe, Run>(name: String, counters: Arc<Counters>, make: Probe) -> JoinSet<()>
where
    Probe: Fn() -> Run + Send + 'static,
    Run: Future<Output = Closed> + Send + 'static,
{
    let mut task = JoinSet::new();
    task.spawn(async move {
        loop {
            let mut probe = JoinSet::new();
            probe.spawn(make());
            match probe.join_next().await {
                Some(Err(error)) if error.is_panic() => {
                    Counters::add(&counters.panics);
                    tracing::error!(probe = name, "a probe failed inside Horus; it is started again");
                    tokio::time::sleep(PANIC_PAUSE).await;
                }
                _ => return,
            }
        }
    });
    task
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_panics_is_counted_and_started_again() {
        let counters = Arc::new(Counters::default());
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        let mut task = start("test".into(), Arc::clone(&counters), move || {
            let run = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                assert!(run >= 2, "the first two runs fail");
                Closed
            }
        });
        task.join_next().await.unwrap().unwrap();
        assert_eq!((runs.load(Ordering::SeqCst), counters.read().panics), (3, 2));
    }

    #[tokio::test]
    async fn a_dropped_task_is_gone() {
        let (alive, mut dead) = tokio::sync::mpsc::channel::<()>(1);
        let task = start("test".into(), Arc::default(), move || {
            let alive = alive.clone();
            async move {
                alive.closed().await;
                Closed
            }
        });
        drop(task);
        assert_eq!(dead.recv().await, None);
    }
}
