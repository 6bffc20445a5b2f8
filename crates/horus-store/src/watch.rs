//! The watch over the writer: a disk that neither works nor fails.
//!
//! An `fsync` may hang for seconds on a cheap disk, and for ever on a lost network mount. No error comes, so the writer
//! cannot help itself; this second thread does for it what it would do after an error: hand the notices to the sinks,
//! answer "not stored", say after a while that the disk does not answer. It touches no file.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use horus_core::ids::{IncidentId, SinkName};

use crate::backlog::Told;
use crate::limits::{STALL_FAULT, STALL_SERVE};
use crate::store::{Shared, State, StoreOptions};

/// With nothing to watch, this thread sleeps until it is woken (or so long).
const IDLE: Duration = Duration::from_secs(3600);

/// What the writer has taken and is writing.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) since: Instant,
    pub(crate) notices: Vec<Told>,
    pub(crate) confirms: Vec<IncidentId>,
    /// The watch has served them: the notices are in the outbox, the confirmations answered.
    pub(crate) served: bool,
}

pub(crate) fn watch(shared: &Shared, options: &StoreOptions) {
    let mut state = shared.lock();
    while !state.finished {
        let (serve, fault) = limits(shared);
        let pause = match &state.in_flight {
            None => IDLE,
            Some(in_flight) => {
                let elapsed = in_flight.since.elapsed();
                let waiting = !in_flight.served || state.backlog.is_urgent();
                let unsaid = elapsed >= fault && state.fault.is_none();
                if elapsed >= serve && (waiting || unsaid) {
                    state = help(shared, options, state, unsaid);
                    continue;
                }
                if elapsed < serve { serve - elapsed } else { fault.checked_sub(elapsed).unwrap_or(IDLE) }
            }
        };
        state = shared.watch.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Serves what waits for the disk, and what came since. Returns with the lock held again.
fn help<'a>(
    shared: &'a Shared,
    options: &StoreOptions,
    mut state: MutexGuard<'a, State>,
    is_fault: bool,
) -> MutexGuard<'a, State> {
    let State { in_flight, backlog, outbox, fault, .. } = &mut *state;
    let Some(in_flight) = in_flight else { return state };
    in_flight.served = true;
    let mut notices = std::mem::take(&mut in_flight.notices);
    notices.extend(backlog.notices.drain(..));
    let mut confirms = std::mem::take(&mut in_flight.confirms);
    confirms.extend(backlog.confirms.drain(..));
    notices.iter().for_each(|told| outbox.tell_unwritten(told, Err(())));
    let sinks: BTreeSet<SinkName> = notices.into_iter().map(|told| told.sink).collect();
    let news = is_fault.then(|| {
        let seconds = in_flight.since.elapsed().as_secs();
        format!("cannot write {}: the disk has not answered for {seconds} s", shared.path.display())
    });
    if news.is_some() {
        fault.clone_from(&news);
    }
    drop(state);
    if news.is_some() {
        (options.on_health)(news);
    }
    confirms.into_iter().for_each(|incident| (options.on_stored)(incident, false));
    sinks.iter().for_each(|sink| (options.on_outbox)(sink));
    shared.lock()
}

/// After how long the waiting is served, and after how long it is a fault.
fn limits(_shared: &Shared) -> (Duration, Duration) {
    #[cfg(test)]
    if _shared.faults.is_hasty() {
        return (STALL_SERVE / 20, STALL_FAULT / 50);
    }
    (STALL_SERVE, STALL_FAULT)
}
