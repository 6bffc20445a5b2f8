//! Loop lag, measured by the runtime against itself: a task plans to wake at a moment and compares it with
//! the moment it really woke. Busy or blocked workers wake it late.
//!
//! ```text
//!   planned |....sleep....|            planned wake stands in an atomic, so a reader outside of the runtime sees a
//!   woken   |.......sleep.......|      lateness that is still growing, not only those that are over
//!           lag -----------^---^
//! ```
//!
//! The worst lag of the last one to two windows is reported, not the latest: a stall of 2 s between two polls
//! must not vanish.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::Shared;

/// How often the meter wakes.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// How many samples make a window (5 s).
const WINDOW_SAMPLES: u32 = 20;

/// "No meter runs", in the place of a planned wake.
const NOT_PLANNED: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct Meter {
    origin: Instant,
    /// Microseconds after `origin` at which the meter wants to wake.
    planned_us: AtomicU64,
    worst_us: AtomicU64,
    worst_before_us: AtomicU64,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
            planned_us: AtomicU64::new(NOT_PLANNED),
            worst_us: AtomicU64::new(0),
            worst_before_us: AtomicU64::new(0),
        }
    }

    /// Milliseconds, to a tenth.
    pub(crate) fn lag_ms(&self, now: Instant) -> Option<f64> {
        let planned_us = self.planned_us.load(Ordering::Relaxed);
        if planned_us == NOT_PLANNED {
            return None;
        }
        let growing_us = self.since_origin_us(now).saturating_sub(planned_us);
        let worst_us =
            self.worst_us.load(Ordering::Relaxed).max(self.worst_before_us.load(Ordering::Relaxed));
        #[expect(
            clippy::cast_precision_loss,
            reason = "a lag that loses precision here is longer than 285 years"
        )]
        let tenths = (growing_us.max(worst_us) / 100) as f64;
        Some(tenths / 10.0)
    }

    fn since_origin_us(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.origin).as_micros()).unwrap_or(NOT_PLANNED - 1)
    }
}

/// Runs the meter until its task is aborted. Must run in the runtime that is to be measured.
pub(crate) async fn run(shared: Arc<Shared>) {
    let _gone = NotPlannedOnDrop(Arc::clone(&shared));
    let meter = &shared.meter;
    let mut sample = 0_u32;
    loop {
        let planned = Instant::now() + SAMPLE_EVERY;
        meter.planned_us.store(meter.since_origin_us(planned), Ordering::Relaxed);
        tokio::time::sleep_until(planned).await;
        let late = Instant::now().saturating_duration_since(planned);
        let late_us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        sample += 1;
        if sample == WINDOW_SAMPLES {
            sample = 0;
            let worst = meter.worst_us.swap(late_us, Ordering::Relaxed);
            meter.worst_before_us.store(worst, Ordering::Relaxed);
        } else {
            meter.worst_us.fetch_max(late_us, Ordering::Relaxed);
        }
        shared.sampled();
    }
}

/// A meter that was stopped must not look like a lag that grows for ever.
struct NotPlannedOnDrop(Arc<Shared>);

impl Drop for NotPlannedOnDrop {
    fn drop(&mut self) {
        self.0.meter.planned_us.store(NOT_PLANNED, Ordering::Relaxed);
    }
}
