//! Doors to the parsers that read what a program says about itself, for fuzzing. No part of this crate's interface.

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::ids::Generation;
use horus_core::metric::CounterPlan;
use horus_core::observation::{Declared, Observation};
use horus_core::plan::{BeatKind, HttpBeat};
use jiff::Timestamp;

use crate::beat_json;
use crate::counted::{Page, Reader, Reading};
use crate::notify::datagram::Datagram;

/// Reads the body of an answer as `heartbeat.http` does: what is told to the engine, and what was left out.
pub fn beat_json(body: &[u8], beat: &HttpBeat, now: Timestamp) -> (Observation, Vec<String>) {
    let generation = Generation(1);
    match beat_json::read(body, &beat.into(), now) {
        Ok(reading) => (reading.sign.into_observation(generation, BeatKind::Http), reading.left_out),
        Err(miss) => (miss.into_observation(generation, BeatKind::Http), Vec::new()),
    }
}

/// Reads the answers of one page as `counter.*` does, one after the other: what is told to the engine of each.
pub fn counters(plan: &BTreeMap<String, CounterPlan>, answers: &[&[u8]]) -> Vec<Observation> {
    let mut all = Vec::new();
    for page in Page::all(plan) {
        let mut reader = Reader::new(page);
        all.extend(answers.iter().map(|answer| {
            let Reading { counts, unread } = reader.take(Ok(answer));
            Observation::Counts { generation: Generation(1), counts, unread }
        }));
    }
    all
}

/// What several datagrams that were read in one wake-up say together.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// `STATUS=`
    pub status: Option<String>,
    /// `EXTEND_TIMEOUT_USEC=`
    pub extend: Option<Duration>,
    /// `MAINPID=`
    pub main_pid: Option<i32>,
    /// It is a beat.
    pub beat: bool,
    /// `X_HORUS_SEQ=`
    pub seq: Option<u64>,
    /// `X_HORUS_LAG_MS=`
    pub lag_ms: Option<f64>,
    /// `X_HORUS_STATE=`
    pub declared: Option<Declared>,
    /// `X_HORUS_PROGRESS=`
    pub progress: BTreeMap<String, u64>,
    /// `X_HORUS_GAUGE=`
    pub gauges: BTreeMap<String, f64>,
    /// Entries of the two that were left out.
    pub left_out: u32,
}

/// Reads datagrams as `heartbeat.notify` does, each with all others of the same wake-up.
pub fn notify<'a>(datagrams: impl IntoIterator<Item = &'a [u8]>, now: Timestamp) -> Said {
    let mut all = Datagram::default();
    for datagram in datagrams {
        all.merge(Datagram::parse(datagram, now));
    }
    Said {
        status: all.status,
        extend: all.extend,
        main_pid: all.main_pid,
        beat: all.beat,
        seq: all.seq,
        lag_ms: all.lag_ms,
        declared: all.declared,
        progress: all.progress,
        gauges: all.gauges,
        left_out: all.left_out,
    }
}
