//! Thresholds out of what was recorded.
//!
//! A deadline has to lie above what a healthy program does on its worst day and below what a person is willing to wait.
//! The first of the two can be measured. Every proposal comes with the numbers that it was made of and with what it would
//! have done to the recording ([`crate::backtest`]); where there is too little to measure, there is no proposal.
//!
//! | proposal | the largest of |
//! | --- | --- |
//! | `deadline` | [`DEADLINE_OVER_LONGEST`] x the longest gap between two ticks, [`DEADLINE_OVER_P999`] x the 99.9th percentile, two and a half polls, [`DEADLINE_MIN`] |
//! | `startup` | [`STARTUP_OVER_LONGEST`] x the longest start, twice the 99th percentile, [`STARTUP_MIN`] |
//! | `progress.NAME.stalled` | [`STALLED_OVER_LONGEST`] x the longest pause of the counter, the proposed deadline |
//!
//! and then the next length that a person would write. A gap of more than [`HANG_OVER_P999`] times the 99.9th percentile is
//! taken for a hang that ended by itself, not for health: a deadline that allows it would never find it again. Such gaps
//! are listed. Gaps in a declared pause or long step count for nothing, and neither does time in which nobody looked.

use std::time::Duration;

use horus_core::digest::{Gaps, Quantile};
use horus_core::ids::ServiceName;
use horus_core::observation::Declared;
use horus_core::plan::{BeatPlan, Plan, ServicePlan};
use horus_core::time::{Human, Mono};
use serde::Serialize;

use crate::backtest::lives::{History, Life, Said, Sound, Stretch};
use crate::backtest::{ServiceReport, backtest};

/// Version of the JSON.
pub const TUNING_SCHEMA: u32 = 1;

/// The deadline over the longest healthy gap.
pub const DEADLINE_OVER_LONGEST: f64 = 1.5;
/// The deadline over the 99.9th percentile of gaps.
pub const DEADLINE_OVER_P999: f64 = 3.0;
/// The shortest deadline that is proposed.
pub const DEADLINE_MIN: Duration = Duration::from_secs(2);
/// The startup cap over the longest start.
pub const STARTUP_OVER_LONGEST: f64 = 1.5;
/// The shortest startup cap that is proposed.
pub const STARTUP_MIN: Duration = Duration::from_secs(10);
/// The limit of a standstill over the longest pause of its counter.
pub const STALLED_OVER_LONGEST: f64 = 2.0;
/// A gap of more than so many times the 99.9th percentile is no healthy one.
pub const HANG_OVER_P999: u64 = 20;
/// ... and neither is it shorter than this.
pub const HANG_MIN: Duration = Duration::from_secs(60);
/// Fewer gaps say nothing about one in a thousand.
pub const GAPS_MIN: u64 = 1_000;
/// A shorter time has not seen a night.
pub const OBSERVED_MIN: Duration = Duration::from_secs(24 * 3600);
/// Fewer starts say nothing about the next one.
pub const STARTS_MIN: u64 = 3;
/// Fewer moves of a counter say nothing about its pauses.
pub const MOVES_MIN: u64 = 100;
/// Hangs that are listed.
pub const HANGS_MAX: usize = 32;

/// Lengths that people write, in seconds.
const NICE: [u64; 24] = [
    2, 3, 5, 8, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600, 900, 1200, 1800, 2700, 3600, 5400,
    7200,
];

/// Why nothing can be proposed at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TuneError {
    /// The configuration does not have it.
    #[error("there is no service {0} in the configuration")]
    Unknown(ServiceName),
    /// Nothing was recorded of it.
    #[error("nothing was recorded of {0}")]
    NothingHeard(ServiceName),
    /// It shows no beats.
    #[error("{0} has no heartbeat, so there is nothing to measure a deadline on")]
    NoBeats(ServiceName),
    /// There is too little.
    #[error(
        "too little was recorded of {service}: {ticks} gaps between ticks (at least {GAPS_MIN}) in {observed} (at least {least})"
    )]
    TooLittle {
        /// Of which.
        service: ServiceName,
        /// Gaps that were measured.
        ticks: u64,
        /// In how long.
        observed: String,
        /// How long it has to be.
        least: String,
    },
}

/// Proposals with their reasons.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tuning {
    /// Version of this shape.
    pub schema: u32,
    /// Of which service.
    pub service: ServiceName,
    /// Time in which it was heard to tick, milliseconds.
    pub observed_ms: u64,
    /// Gaps between fresh ticks.
    pub gaps: Spread,
    /// Gaps that were taken for hangs which ended by themselves, milliseconds, the longest first.
    pub hangs_ms: Vec<u64>,
    /// From the start to the first fresh tick.
    pub starts: Option<Spread>,
    /// What to write.
    pub proposals: Vec<Proposal>,
    /// What cannot be said, and why.
    pub refused: Vec<String>,
    /// The plan of that time against the proposals, on this recording.
    pub effect: Option<ServiceReport>,
}

/// A distribution in a few numbers, milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// How many.
    pub n: u64,
    /// Half of them are shorter.
    pub p50_ms: u64,
    /// Of a hundred, ninety-nine are.
    pub p99_ms: u64,
    /// Of a thousand, nine hundred and ninety-nine are.
    pub p999_ms: u64,
    /// The longest.
    pub max_ms: u64,
}

/// One line for the configuration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Proposal {
    /// Which key.
    pub key: String,
    /// What it is now, milliseconds.
    pub now_ms: u64,
    /// What it could be, milliseconds.
    pub proposed_ms: u64,
    /// The arithmetic.
    pub because: String,
}

/// What was measured.
#[derive(Debug, Default)]
struct Measured {
    gaps: Gaps,
    /// The exact length of gaps between two stretches, and the longest of each stretch.
    long: Vec<u64>,
    observed: Duration,
    starts: Vec<u64>,
}

/// What a service showed of itself while it was well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Gaps between fresh ticks, without what is taken for hangs that ended by themselves.
    pub gaps: Spread,
    /// From the start to the first fresh tick.
    pub starts: Option<Spread>,
}

/// What was recorded of a service. `None`: nothing.
pub fn shown(history: &History, service: &ServiceName) -> Option<Shown> {
    let measured = measure(history, &history.services.get(service)?.lives);
    Some(Shown { gaps: healthy(&measured).0, starts: spread(&measured.starts) })
}

/// Proposes thresholds for one service of `plan`.
///
/// # Errors
/// [`TuneError`]: nothing can be said about its deadline.
pub fn tune(history: &History, plan: &Plan, service: &ServiceName) -> Result<Tuning, TuneError> {
    let current = plan.services.get(service).ok_or_else(|| TuneError::Unknown(service.clone()))?;
    if current.beats.is_empty() {
        return Err(TuneError::NoBeats(service.clone()));
    }
    let recorded = history.services.get(service).filter(|recorded| !recorded.lives.is_empty());
    let lives = &recorded.ok_or_else(|| TuneError::NothingHeard(service.clone()))?.lives;
    let measured = measure(history, lives);
    let (ticks, observed) = (measured.gaps.count(), measured.observed);
    if ticks < GAPS_MIN || observed < OBSERVED_MIN {
        let (observed, least) = (Human(observed).to_string(), Human(OBSERVED_MIN).to_string());
        return Err(TuneError::TooLittle { service: service.clone(), ticks, observed, least });
    }
    let (gaps, hangs_ms) = healthy(&measured);
    let starts = spread(&measured.starts);
    let (mut proposals, mut refused) = (vec![deadline(current, &gaps)], Vec::new());
    match &starts {
        Some(starts) if starts.n >= STARTS_MIN => proposals.push(startup(current, starts)),
        _ => refused.push(format!(
            "startup: {} starts were seen from their begin to their first tick, at least {STARTS_MIN} are needed",
            measured.starts.len()
        )),
    }
    stalls(current, lives, &mut proposals, &mut refused);
    let effect = effect(history, plan, service, &proposals);
    Ok(Tuning {
        schema: TUNING_SCHEMA,
        service: service.clone(),
        observed_ms: whole_ms(observed),
        gaps,
        hangs_ms,
        starts,
        proposals,
        refused,
        effect,
    })
}

fn measure(history: &History, lives: &[Life]) -> Measured {
    let mut measured = Measured::default();
    for life in lives {
        // The judge measures on the source that ticked last; the busiest one comes nearest to that.
        let ticks = |stream: &[Stretch]| -> u64 {
            stream
                .iter()
                .map(
                    |stretch| {
                        if let Sound::Fresh(ticks) = &stretch.what { u64::from(ticks.count) } else { 0 }
                    },
                )
                .sum()
        };
        if let Some(stream) = life.streams.values().max_by_key(|stream| ticks(stream)) {
            measure_stream(history, life, stream, &mut measured);
        }
        if let Some(first) = life.first_fresh().filter(|_| life.whole) {
            measured.starts.push(whole_ms(first.since(life.born)));
        }
    }
    measured
}

fn measure_stream(history: &History, life: &Life, stream: &[Stretch], measured: &mut Measured) {
    let mut before: Option<Mono> = None;
    for stretch in stream {
        let Sound::Fresh(ticks) = &stretch.what else { continue };
        if let Some(from) = before.filter(|from| counts(history, life, *from, stretch.from)) {
            let gap = stretch.from.since(from);
            measured.gaps.add(whole_ms(gap));
            measured.long.push(whole_ms(gap));
            measured.observed += gap;
        }
        measured.gaps.merge(&ticks.gaps);
        measured.long.push(ticks.longest_ms);
        measured.observed += Duration::from_millis(ticks.lasted_ms);
        before = Some(stretch.to);
    }
}

/// Nobody was away in this gap, and it was not announced.
fn counts(history: &History, life: &Life, from: Mono, to: Mono) -> bool {
    let seen = !history.unobserved.iter().any(|(away, back)| *away < to && from < *back);
    let mut announced = false;
    for (at, said) in life.said.iter().filter(|(at, _)| *at <= to) {
        match said {
            Said::Declares(Declared::Ok) if *at <= from => announced = false,
            Said::Declares(Declared::Busy(_) | Declared::Idle | Declared::Halted) => announced = true,
            Said::AskedForTime(extend) => announced |= *at + *extend > from,
            _ => {}
        }
    }
    seen && !announced
}

/// The distribution without what is taken for hangs, and those.
fn healthy(measured: &Measured) -> (Spread, Vec<u64>) {
    let at = |share| measured.gaps.quantile(Quantile(share)).unwrap_or(0);
    let limit = at(0.999).saturating_mul(HANG_OVER_P999).max(whole_ms(HANG_MIN));
    let (mut hangs, healthy): (Vec<u64>, Vec<u64>) = measured.long.iter().partition(|gap| **gap > limit);
    hangs.sort_unstable_by(|a, b| b.cmp(a));
    hangs.truncate(HANGS_MAX);
    let max_ms = healthy.into_iter().max().unwrap_or(0);
    let (n, p50_ms, p99_ms, p999_ms) = (measured.gaps.count(), at(0.5), at(0.99), at(0.999));
    // A bucket ends above its longest gap; the longest of all is exact.
    let [p50_ms, p99_ms, p999_ms] = [p50_ms, p99_ms, p999_ms].map(|ms| ms.min(max_ms));
    (Spread { n, p50_ms, p99_ms, p999_ms, max_ms }, hangs)
}

fn spread(lengths: &[u64]) -> Option<Spread> {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable();
    let at = |per_mille: usize| {
        let rank = (sorted.len() * per_mille).div_ceil(1000).max(1);
        sorted.get(rank - 1).copied()
    };
    let n = u64::try_from(sorted.len()).unwrap_or(u64::MAX);
    Some(Spread { n, p50_ms: at(500)?, p99_ms: at(990)?, p999_ms: at(999)?, max_ms: *sorted.last()? })
}

fn deadline(current: &ServicePlan, gaps: &Spread) -> Proposal {
    let poll = current.beats.iter().map(BeatPlan::every).max().unwrap_or_default();
    let parts = [
        (
            times(gaps.max_ms, DEADLINE_OVER_LONGEST),
            format!("{DEADLINE_OVER_LONGEST} x the longest gap ({})", human(gaps.max_ms)),
        ),
        (
            times(gaps.p999_ms, DEADLINE_OVER_P999),
            format!("{DEADLINE_OVER_P999} x p99.9 ({})", human(gaps.p999_ms)),
        ),
        (poll.mul_f64(2.5), format!("2.5 polls of {}", Human(poll))),
        (DEADLINE_MIN, "the shortest that is proposed".to_owned()),
    ];
    proposal("deadline", current.deadline, parts.into())
}

fn startup(current: &ServicePlan, starts: &Spread) -> Proposal {
    let parts = [
        (
            times(starts.max_ms, STARTUP_OVER_LONGEST),
            format!("{STARTUP_OVER_LONGEST} x the longest start ({})", human(starts.max_ms)),
        ),
        (times(starts.p99_ms, 2.0), format!("2 x p99 ({})", human(starts.p99_ms))),
        (STARTUP_MIN, "the shortest that is proposed".to_owned()),
    ];
    proposal("startup", current.startup, parts.into())
}

fn stalls(current: &ServicePlan, lives: &[Life], proposals: &mut Vec<Proposal>, refused: &mut Vec<String>) {
    let deadline =
        proposals.first().map_or(Duration::ZERO, |proposal| Duration::from_millis(proposal.proposed_ms));
    for (name, progress) in &current.progress {
        let key = format!("progress.{name}.stalled");
        let (mut moves, mut longest) = (0_u64, 0_u64);
        for (_, said) in lives.iter().flat_map(|life| &life.said) {
            if let Said::Counters(counters) = said
                && let Some(counter) = counters.get(&progress.counter)
            {
                moves += u64::from(counter.moves);
                longest = longest.max(counter.longest_ms);
            }
        }
        if moves < MOVES_MIN {
            refused.push(format!(
                "{key}: the counter {} moved {moves} times, at least {MOVES_MIN} are needed",
                progress.counter
            ));
            continue;
        }
        let parts = vec![
            (
                times(longest, STALLED_OVER_LONGEST),
                format!("{STALLED_OVER_LONGEST} x the longest pause ({})", human(longest)),
            ),
            (deadline, "the proposed deadline".to_owned()),
        ];
        proposals.push(proposal(&key, progress.stalled, parts));
    }
}

/// The largest of the parts, and then the next length that a person would write.
fn proposal(key: &str, now: Duration, parts: Vec<(Duration, String)>) -> Proposal {
    let (least, because) = parts.into_iter().max_by_key(|(length, _)| *length).unwrap_or_default();
    let proposed_ms = whole_ms(nice(least));
    let because = format!("{because} is {}", Human(least));
    Proposal { key: key.to_owned(), now_ms: whole_ms(now), proposed_ms, because }
}

fn effect(
    history: &History,
    plan: &Plan,
    service: &ServiceName,
    proposals: &[Proposal],
) -> Option<ServiceReport> {
    let mut tuned = plan.services.get(service)?.clone();
    for proposal in proposals {
        let length = Duration::from_millis(proposal.proposed_ms);
        match proposal.key.as_str() {
            "deadline" => tuned.deadline = length,
            "startup" => tuned.startup = length,
            key => {
                for (name, progress) in &mut tuned.progress {
                    if key == format!("progress.{name}.stalled") {
                        progress.stalled = length;
                    }
                }
            }
        }
    }
    let mut candidate = plan.clone();
    candidate.services.retain(|name, _| name == service);
    candidate.services.insert(service.clone(), tuned);
    let mut alone = history.clone();
    alone.services.retain(|name, _| name == service);
    backtest(&alone, &candidate).services.pop()
}

fn nice(least: Duration) -> Duration {
    let seconds = least.as_secs() + u64::from(least.subsec_nanos() > 0);
    let hours = || seconds.div_ceil(3600) * 3600;
    Duration::from_secs(NICE.into_iter().find(|nice| *nice >= seconds).unwrap_or_else(hours))
}

fn times(ms: u64, factor: f64) -> Duration {
    Duration::from_millis(ms).mul_f64(factor)
}

fn human(ms: u64) -> Human {
    Human(Duration::from_millis(ms))
}

fn whole_ms(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
