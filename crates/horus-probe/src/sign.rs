//! What one look yields: a sign of life, or the reason why there is none.

use std::collections::BTreeMap;

use horus_core::ids::Generation;
use horus_core::observation::{Beat, Declared, Observation, ProbeFault};
use horus_core::plan::BeatKind;

use crate::limits::PROGRESS_NAME_BYTES_MAX;
use crate::text::harmless;

/// A beat, before it is known which source and which run it belongs to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sign {
    pub(crate) tick: Option<u64>,
    pub(crate) progress: BTreeMap<String, u64>,
    pub(crate) declared: Option<Declared>,
    pub(crate) lag_ms: Option<f64>,
    pub(crate) gauges: BTreeMap<String, f64>,
}

impl Sign {
    /// A sign that carries a tick and nothing else.
    pub(crate) fn tick(tick: u64) -> Self {
        Self { tick: Some(tick), ..Self::default() }
    }

    pub(crate) fn into_observation(self, generation: Generation, source: BeatKind) -> Observation {
        let Self { tick, progress, declared, lag_ms: loop_lag_ms, gauges } = self;
        let beat = Beat { source, tick, progress, declared, gauges, loop_lag_ms };
        Observation::Beat { generation, beat }
    }
}

/// May a counter or gauge have this name? It stands in alerts and on terminals.
pub(crate) fn name_fits(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= PROGRESS_NAME_BYTES_MAX
        && name.chars().all(|character| harmless(character) == character)
}

/// Why a look yielded nothing usable.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Miss {
    pub(crate) fault: ProbeFault,
    /// For people. Never holds a secret part of a URL.
    pub(crate) detail: String,
}

impl Miss {
    pub(crate) fn new(fault: ProbeFault, detail: impl Into<String>) -> Self {
        Self { fault, detail: detail.into() }
    }

    pub(crate) fn prober(detail: impl Into<String>) -> Self {
        Self::new(ProbeFault::Prober, detail)
    }

    pub(crate) fn no_path(detail: impl Into<String>) -> Self {
        Self::new(ProbeFault::NoPath, detail)
    }

    pub(crate) fn not_a_beat(detail: impl Into<String>) -> Self {
        Self::new(ProbeFault::NotABeat, detail)
    }

    pub(crate) fn no_answer(detail: impl Into<String>) -> Self {
        Self::new(ProbeFault::NoAnswer, detail)
    }

    pub(crate) fn into_observation(self, generation: Generation, source: BeatKind) -> Observation {
        Observation::NoBeat { generation, source, fault: self.fault, detail: self.detail }
    }
}
