//! Work that may block for ever (a file on a dead network share), done beside the runtime and never twice at once.
//!
//! A blocked thread cannot be cancelled. So a probe whose last look has not come back does not start another one: it
//! says so and waits for the old one. The places bound how many threads can be lost in this way over all probes.

use std::time::Duration;

use horus_core::time::Human;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::sign::Miss;

/// At most one piece of blocking work under way.
#[derive(Debug)]
pub(crate) struct OneAtATime<T> {
    running: Option<JoinHandle<T>>,
    places: &'static Semaphore,
    what: &'static str,
}

impl<T: Send + 'static> OneAtATime<T> {
    pub(crate) fn new(places: &'static Semaphore, what: &'static str) -> Self {
        Self { running: None, places, what }
    }

    /// Runs `work`, or goes on waiting for the last one that did not come back.
    pub(crate) async fn run(
        &mut self,
        timeout: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Miss> {
        let until = Instant::now() + timeout;
        if self.running.is_none() {
            let Ok(Ok(place)) = timeout_at(until, self.places.acquire()).await else {
                return Err(Miss::prober(format!("{}: all places are taken by others that hang", self.what)));
            };
            self.running = Some(tokio::task::spawn_blocking(move || {
                let _place = place;
                work()
            }));
        }
        let Some(running) = &mut self.running else {
            return Err(Miss::prober("lost its own work"));
        };
        match timeout_at(until, running).await {
            Ok(done) => {
                self.running = None;
                done.map_err(|_| Miss::prober(format!("{}: failed inside Horus", self.what)))
            }
            Err(_) => Err(Miss::prober(format!("{}: not done in {}", self.what, Human(timeout)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    use super::*;

    static PLACES: Semaphore = Semaphore::const_new(2);

    #[tokio::test]
    async fn work_that_hangs_is_not_started_twice() {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let (release, hang) = mpsc::channel::<()>();
        let mut looks = OneAtATime::new(&PLACES, "look");
        let short = Duration::from_millis(30);
        let work = |hang: Option<mpsc::Receiver<()>>| {
            move || {
                STARTED.fetch_add(1, Ordering::SeqCst);
                hang.map(|hang| hang.recv());
                7
            }
        };
        assert!(looks.run(short, work(Some(hang))).await.is_err());
        assert!(looks.run(short, work(None)).await.is_err());
        assert_eq!(STARTED.load(Ordering::SeqCst), 1);
        release.send(()).unwrap();
        assert_eq!(looks.run(Duration::from_secs(20), work(None)).await, Ok(7));
        assert_eq!(STARTED.load(Ordering::SeqCst), 1);
        assert_eq!(looks.run(Duration::from_secs(20), work(None)).await, Ok(7));
        assert_eq!(STARTED.load(Ordering::SeqCst), 2);
    }
}
