//! Whether each worker of a multi-threaded runtime turns.
//!
//! The lag of the runtime says nothing about one worker: while one is stuck in a synchronous call, the others run every timer. And a task cannot be
//! pinned to a worker, so none can stand for it. What can be measured from outside of the runtime:
//!
//! ```text
//!   a thread of its own, four times a second
//!     resting?   the runtime counts how often a worker went to rest: it rests, or has rested since     --> it turns
//!     turning?   tasks are thrown into the common queue, and each notes the worker that it ran on      --> it turns
//!     neither    its lag grows
//! ```
//!
//! A worker that is stuck does neither. One that is full of work does not rest, but takes from the common queue every few dozen tasks. So
//! the lag is an upper bound: of a worker that is full for long, others may have taken all probes for a while.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::serve::ServeError;

/// How often the workers are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A worker that turned within this is not called stuck.
pub(crate) const TURNING_WITHIN: Duration = Duration::from_secs(2);

/// Workers beyond this are not looked at.
pub const MAX_WORKERS: usize = 256;

/// When each worker was last seen to turn.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    seen: OnceLock<Seen>,
    /// Somebody looks at them.
    looked_at: AtomicBool,
}

#[derive(Debug)]
struct Seen {
    origin: Instant,
    /// Microseconds after `origin`.
    turned_us: Box<[AtomicU64]>,
}

impl Seen {
    fn turned(&self, worker: usize) {
        if let Some(at) = self.turned_us.get(worker) {
            at.fetch_max(self.us(Instant::now()), Ordering::Relaxed);
        }
    }

    fn us(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX)
    }
}

impl Workers {
    /// How long ago each worker was last seen to turn, at most. Empty: nobody looks.
    pub(crate) fn lags(&self, now: Instant) -> Vec<Duration> {
        let Some(seen) = self.seen.get().filter(|_| self.looked_at.load(Ordering::Relaxed)) else {
            return Vec::new();
        };
        let now = seen.us(now);
        let lag = |at: &AtomicU64| Duration::from_micros(now.saturating_sub(at.load(Ordering::Relaxed)));
        seen.turned_us.iter().map(lag).collect()
    }
}

/// Looks at the workers as long as it lives. See [`crate::Beat::watch_workers`].
#[derive(Debug)]
#[must_use = "the workers are looked at until this is dropped"]
pub struct WorkerWatch {
    _stop: Sender<()>,
    shared: Arc<crate::Shared>,
}

impl Drop for WorkerWatch {
    fn drop(&mut self) {
        self.shared.workers.looked_at.store(false, Ordering::Relaxed);
    }
}

pub(crate) fn watch(shared: &Arc<crate::Shared>, runtime: Handle) -> Result<WorkerWatch, ServeError> {
    let count = runtime.metrics().num_workers().min(MAX_WORKERS);
    let fresh =
        || Seen { origin: Instant::now(), turned_us: (0..count).map(|_| AtomicU64::new(0)).collect() };
    let seen = shared.workers.seen.get_or_init(fresh);
    (0..count).for_each(|worker| seen.turned(worker));
    let (stop, stopped) = mpsc::channel();
    let looked = Arc::clone(shared);
    std::thread::Builder::new()
        .name("heartbeat-workers".to_owned())
        .spawn(move || {
            let mut rests = vec![None; count];
            // Nothing is ever sent: the other end goes away.
            while matches!(stopped.recv_timeout(LOOK_EVERY), Err(RecvTimeoutError::Timeout)) {
                look(&looked, &runtime, &mut rests);
            }
        })
        .map_err(|source| ServeError::Thread { source })?;
    shared.workers.looked_at.store(true, Ordering::Relaxed);
    Ok(WorkerWatch { _stop: stop, shared: Arc::clone(shared) })
}

fn look(shared: &Arc<crate::Shared>, runtime: &Handle, rests: &mut [Option<u64>]) {
    let Some(seen) = shared.workers.seen.get() else { return };
    let metrics = runtime.metrics();
    let mut restless = 0;
    for (worker, before) in rests.iter_mut().enumerate() {
        // Odd while it rests; it grows with each rest and with each end of one.
        let now = metrics.worker_park_unpark_count(worker);
        if now % 2 == 1 || before.is_some_and(|before| before != now) {
            seen.turned(worker);
        } else {
            restless += 1;
        }
        *before = Some(now);
    }
    // This thread is no worker, so these go into the common queue, from which all of them take.
    for _ in 0..(2 * restless).min(2 * MAX_WORKERS) {
        let shared = Arc::clone(shared);
        drop(runtime.spawn(async move {
            if let (Some(worker), Some(seen)) = (tokio::runtime::worker_index(), shared.workers.seen.get()) {
                seen.turned(worker);
            }
        }));
    }
}
