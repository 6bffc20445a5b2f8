//! What is seen of the machine that everybody runs on, so that the judge can suspect it, and itself, before it
//! suspects a program.
//!
//! ```text
//!   three clocks ──> ClockWatch ──> slept, set, the time of day      at every turn of the loop that owns the engine
//!   /proc/pressure ─> Pressure ───> how much everybody waits    ┐
//!   own echo port ──> Canary ─────> can Horus ask at all?       ├──> one look every ten seconds, one task
//!   three clocks ──> a second look, for a loop that is idle     ┘
//! ```
//!
//! The clocks are compared where the engine is stepped, before the step: an engine that heard of a sleep only with the
//! next look would have judged a silence by then. Reading them costs less than a microsecond, so nothing has to wake
//! up for them. Rejected: a timer that the kernel cancels when the clock is set (Linux only, a descriptor more, and
//! the look that is made anyway sees the same at most ten seconds later).

mod canary;
mod clocks;
mod pressure;

use std::sync::Arc;
use std::time::Duration;

use horus_core::observation::{HostObservation, Input};
use horus_sys::{clock, facts};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::outlet::Closed;
use crate::task;

pub use clocks::ClockWatch;

use canary::Canary;
use pressure::PressureWatch;

/// How often pressure is read and the echo port is asked.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Looks at the machine until it is dropped.
#[derive(Debug)]
pub struct HostWatch {
    _task: JoinSet<()>,
}

impl HostWatch {
    /// Starts to look; what matters is sent to `inputs`. Must be called inside a runtime.
    pub fn start(inputs: mpsc::Sender<Input>) -> Self {
        let look = move || watch(inputs.clone());
        Self { _task: task::start("host".into(), Arc::default(), look) }
    }
}

async fn watch(inputs: mpsc::Sender<Input>) -> Closed {
    let (mut clocks, mut pressure, mut canary) =
        (ClockWatch::default(), PressureWatch::default(), Canary::default());
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let changed = clock::together().is_some_and(|now| !clocks.look(now).is_empty());
        // The loop looks at the clocks itself when it is woken.
        let woken = changed.then_some(Input::Wake);
        let pressed = pressure.look(facts::pressure()).map(Input::Host);
        let asked = canary.look().await.map(|fault| Input::Host(HostObservation::Canary { fault }));
        for input in [woken, pressed, asked].into_iter().flatten() {
            if inputs.send(input).await.is_err() {
                return Closed;
            }
        }
        if inputs.is_closed() {
            return Closed;
        }
    }
}
