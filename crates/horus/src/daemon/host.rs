//! What the machine does to everybody, told to the engine before it judges anything by its time.

use horus_core::observation::{HostObservation, Input};
use horus_core::time::Human;
use horus_probe::ClockWatch;
use horus_sys::clock;

/// Looks at the clocks before each step of the engine.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    watch: ClockWatch,
}

impl Clocks {
    /// What has to be told before the next step; usually nothing. At the very first one it is the time of day.
    pub(super) fn look(&mut self) -> Vec<Input> {
        let told = clock::together().map(|now| self.watch.look(now)).unwrap_or_default();
        for input in &told {
            log(input);
        }
        told
    }
}

fn log(input: &Input) {
    match input {
        Input::Host(HostObservation::Suspended { slept }) => {
            tracing::info!("the machine slept for {}", Human(*slept));
        }
        Input::Host(HostObservation::ClockStepped { by_ms }) => {
            let by = Human(std::time::Duration::from_millis(by_ms.unsigned_abs()));
            let direction = if *by_ms < 0 { "back" } else { "forward" };
            tracing::warn!("the clock of this machine was set {direction} by {by}");
        }
        _ => {}
    }
}
