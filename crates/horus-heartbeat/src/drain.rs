//! An orderly end: what the program still has to do when it is asked to stop.
//!
//! Horus asks by the soft signal of `stop.signal` (SIGTERM) and waits for `stop.grace`; after that the whole tree is killed. There is no other call
//! for a checkpoint: the signal is what every supervisor sends, and a program that answers it is stopped well by all of them.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout_at};

use crate::{Beat, Busy};

/// Hears the request to stop. See [`Beat::drain_within`].
#[derive(Debug)]
pub struct Drain {
    beat: Beat,
    term: Signal,
    interrupt: Signal,
    longest: Duration,
}

/// The program was asked to stop and has so long to put its things in order. The beat says `STOPPING=1` and that it is busy meanwhile.
#[derive(Debug)]
pub struct Draining {
    ends: Instant,
    _busy: Busy,
}

impl Beat {
    /// From now on SIGTERM and SIGINT do not end the program: [`Drain::asked`] resolves instead, and then there is `longest` (shorter than
    /// `stop.grace`) to finish what must not be lost. Then return from `main`.
    ///
    /// ```no_run
    /// # async fn work() {}
    /// # async fn keep_what_is_open() {}
    /// # async fn example(beat: horus_heartbeat::Beat) -> std::io::Result<()> {
    /// let mut drain = beat.drain_within(std::time::Duration::from_secs(8))?;
    /// tokio::select! {
    ///     () = work() => {}
    ///     draining = drain.asked() => {
    ///         let _in_time = draining.run(keep_what_is_open()).await.is_some();
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The signals cannot be heard, or there is no runtime here.
    pub fn drain_within(&self, longest: Duration) -> io::Result<Drain> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(io::Error::other("signals are heard from within a tokio runtime"));
        }
        let (term, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Drain { beat: self.clone(), term, interrupt, longest })
    }
}

impl Drain {
    /// Resolves when the program is asked to stop.
    pub async fn asked(&mut self) -> Draining {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        self.beat.stopping();
        let busy = self.beat.busy(self.longest);
        Draining { ends: Instant::now() + self.longest, _busy: busy }
    }
}

impl Draining {
    /// What is left of the time.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }

    /// Does this within the time that is left. `None`: it did not end in time and was dropped.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.ends, work).await.ok()
    }
}
