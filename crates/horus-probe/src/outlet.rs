//! The one way out of a probe: a bounded channel to the engine.
//!
//! When the engine does not keep up, a probe waits for at most its own period and then drops the observation: an old
//! one is worth nothing, and the next poll makes a new one. Both are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use horus_core::ids::{Generation, MonitorName, ServiceName};
use horus_core::observation::{Input, MonitorObservation, Observation};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// What the senses have counted since they were made.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) told: AtomicU64,
    pub(crate) waited: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) strangers: AtomicU64,
    pub(crate) datagrams: AtomicU64,
    pub(crate) panics: AtomicU64,
}

/// A reading of the senses' own counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Observations that reached the engine's queue.
    pub told: u64,
    /// Times that a probe found the queue full and waited.
    pub waited: u64,
    /// Observations that were dropped because the queue stayed full.
    pub dropped: u64,
    /// Datagrams from processes that are not the service's.
    pub strangers: u64,
    /// Datagrams read from notify sockets.
    pub datagrams: u64,
    /// Panics inside probes; each was restarted.
    pub panics: u64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            told: get(&self.told),
            waited: get(&self.waited),
            dropped: get(&self.dropped),
            strangers: get(&self.strangers),
            datagrams: get(&self.datagrams),
            panics: get(&self.panics),
        }
    }
}

/// Nobody listens any more: the probe ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// The sending half that every probe has.
#[derive(Clone, Debug)]
pub(crate) struct Outlet {
    inputs: mpsc::Sender<Input>,
    pub(crate) counters: Arc<Counters>,
}

impl Outlet {
    pub(crate) fn new(inputs: mpsc::Sender<Input>) -> Self {
        Self { inputs, counters: Arc::default() }
    }

    async fn tell(&self, input: Input, patience: Duration) -> Result<(), Closed> {
        let input = match self.inputs.try_send(input) {
            Ok(()) => {
                Counters::add(&self.counters.told);
                return Ok(());
            }
            Err(TrySendError::Closed(_)) => return Err(Closed),
            Err(TrySendError::Full(input)) => input,
        };
        Counters::add(&self.counters.waited);
        match tokio::time::timeout(patience, self.inputs.reserve()).await {
            Ok(Ok(permit)) => {
                permit.send(input);
                Counters::add(&self.counters.told);
                Ok(())
            }
            Ok(Err(_)) => Err(Closed),
            Err(_) => {
                Counters::add(&self.counters.dropped);
                Ok(())
            }
        }
    }
}

/// An outlet for what is seen of one run of a service.
#[derive(Clone, Debug)]
pub(crate) struct ServiceOutlet {
    pub(crate) outlet: Outlet,
    pub(crate) service: ServiceName,
    pub(crate) generation: Generation,
}

impl ServiceOutlet {
    pub(crate) async fn tell(&self, observation: Observation, patience: Duration) -> Result<(), Closed> {
        self.outlet.tell(Input::Service(self.service.clone(), observation), patience).await
    }
}

/// An outlet for what is seen of a monitor.
#[derive(Clone, Debug)]
pub(crate) struct MonitorOutlet {
    pub(crate) outlet: Outlet,
    pub(crate) monitor: MonitorName,
}

impl MonitorOutlet {
    pub(crate) async fn tell(&self, seen: MonitorObservation, patience: Duration) -> Result<(), Closed> {
        self.outlet.tell(Input::Monitor(self.monitor.clone(), seen), patience).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_is_waited_for_and_then_the_observation_is_dropped_and_counted() {
        let (inputs, mut engine) = mpsc::channel(1);
        let outlet = Outlet::new(inputs);
        let patience = Duration::from_secs(1);
        outlet.tell(Input::Wake, patience).await.unwrap();
        outlet.tell(Input::Wake, patience).await.unwrap();
        let counts = outlet.counters.read();
        assert_eq!((counts.told, counts.waited, counts.dropped), (1, 1, 1));
        engine.recv().await.unwrap();
        outlet.tell(Input::Wake, patience).await.unwrap();
        drop(engine);
        assert_eq!(outlet.tell(Input::Wake, patience).await, Err(Closed));
        assert_eq!(outlet.counters.read().told, 2);
    }
}
