//! Backtests: what other thresholds would have done with what was heard.
//!
//! A recording says what a program did *under the policy of that time*. Another policy kills at another moment, and from
//! there on the recording is about a world that did not happen. What stays true is how each instance behaved at each age.
//! So a recording is cut into lives, and the candidate, the real [`horus_core::Engine`], plays them like a jukebox:
//!
//! ```text
//!   recorded      |--- life 1 --------x (killed)  |--- life 2 ------------------------
//!                 0   ticks ... silence           0   ticks ...
//!   candidate     |--- life 1 ------------x       |--- life 2 ------
//!                        by age, until the candidate itself ends it
//! ```
//!
//! The model:
//! - Each start that the candidate makes gets the recorded life that was current at that time, or the next one if there is
//!   none or if the candidate has ended that one already; the last one again if there is no other. It is played by age.
//! - A life that ended by itself ends at that age.
//! - A life that the judge of that time cut short stays as it was when it was cut: silence stays silence, and work that
//!   stood still stands still, until the candidate decides. (A censored hang: nobody knows when it would have ended.)
//! - A life that was ended by plan (a reload, a stop, the end of Horus) while it was beating goes on beating until the
//!   next life shows its first tick, and goes on with that one. Orders of people are given to the candidate at their times.
//! - Times in which Horus did not run or was late are held against nobody, as in life.
//! - A program obeys a signal after [`drive::ENDS_AFTER`], and a start takes [`drive::STARTS_AFTER`].
//!
//! Its limits, said plainly:
//! - A fault outside (an exchange that is down) is replayed with the life it was seen in. That a restart into the same fault
//!   would have hung again is not known, and the next life is taken as it was.
//! - What depends on the hour of the day moves when the candidate starts a life earlier or later than it was recorded.
//! - Evidence is given only as often as it was recorded: a candidate that acts on proof of death sees less proof than
//!   it would have collected itself, so its delays are at worst too long.
//! - Within a stretch of the digest the order of gaps is not known (`horus_core::digest`); the longest stands in the middle.
//!   Ticks that come more often than five times a deadline are thinned out; no gap near a threshold is touched.
//! - Monitors and sinks are not replayed.
//!
//! Rejected: replaying the inputs as they are against another plan. The first kill that differs makes every later input one
//! about a run that the candidate never started, and the backtest ends there without saying so.

use std::collections::BTreeMap;

use horus_core::ids::ServiceName;
use horus_core::plan::Plan;
use jiff::Timestamp;
use serde::Serialize;

pub mod drive;
mod ending;
pub mod heard;
pub mod lives;
mod player;

use drive::{Outcome, Policy, drive};
pub use ending::{HEALTHY_AGAIN_WITHIN, Hang, HealthyAgain, Kill};
use lives::History;

/// Version of the report's JSON.
pub const REPORT_SCHEMA: u32 = 1;

/// What two policies make of the same history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Version of this shape.
    pub schema: u32,
    /// The first moment that was recorded.
    pub from: Timestamp,
    /// The last one.
    pub to: Timestamp,
    /// What the candidate is compared with.
    pub baseline: Baseline,
    /// Time in which nobody looked (Horus did not run, or was late), milliseconds.
    pub unobserved_ms: u64,
    /// Rows that could not be written in their time, or are not understood.
    pub missing_rows: u64,
    /// By service.
    pub services: Vec<ServiceReport>,
    /// Services of which nothing can be said, and why.
    pub left_out: BTreeMap<ServiceName, String>,
}

/// What the candidate is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Baseline {
    /// The plans that were in force while it was recorded.
    Recorded,
    /// The recording holds no plans: the candidate itself.
    Candidate,
}

/// One service under two policies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServiceReport {
    /// Which.
    pub service: ServiceName,
    /// Lives that were recorded.
    pub lives: u32,
    /// Of those, how many ended by themselves.
    pub ended_by_itself: u32,
    /// Under the plan of that time.
    pub old: Side,
    /// Under the candidate.
    pub new: Side,
    /// Hangs: those that were cut short in the recording, and every silence that one of the two found worth a verdict.
    pub hangs: Vec<Hang>,
}

/// One policy's doings.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Side {
    /// Restarts that the judge decided on, in order.
    pub kills: Vec<Kill>,
    /// Kills that observe mode, a hold or a demotion forbade.
    pub forbidden: u32,
    /// Alerts by kind: incidents of which a person was told.
    pub alerts: BTreeMap<String, u32>,
    /// When the breaker opened.
    pub breaker_opened: Vec<Timestamp>,
    /// Patterns that were named: "dies every 129 s".
    pub named: Vec<String>,
    /// Starts.
    pub starts: u32,
}

impl Side {
    /// Alerts of all kinds.
    pub fn alerts_in_all(&self) -> u32 {
        self.alerts.values().sum()
    }

    /// Kills after which the recording shows the same instance healthy.
    pub fn healthy_killed(&self) -> usize {
        self.kills.iter().filter(|kill| matches!(kill.healthy_again, HealthyAgain::After { .. })).count()
    }
}

/// Replays a history under the recorded plans and under `candidate`.
///
/// The same history and candidate give the same report.
pub fn backtest(history: &History, candidate: &Plan) -> Report {
    let baseline = if history.has_plans() { Baseline::Recorded } else { Baseline::Candidate };
    let old_policy = match baseline {
        Baseline::Recorded => Policy::Recorded { otherwise: candidate },
        Baseline::Candidate => Policy::Fixed(candidate),
    };
    let old = drive(history, &old_policy);
    let new = drive(history, &Policy::Fixed(candidate));
    let mut left_out = BTreeMap::new();
    for name in candidate.services.keys().filter(|name| !history.services.contains_key(*name)) {
        left_out.insert(name.clone(), "nothing was recorded of it".to_owned());
    }
    let mut services = Vec::new();
    for (name, recorded) in &history.services {
        if !candidate.services.contains_key(name) {
            left_out.insert(name.clone(), "the candidate does not have it".to_owned());
            continue;
        }
        if recorded.lives.is_empty() {
            left_out.insert(name.clone(), "it did not run while it was recorded".to_owned());
            continue;
        }
        services.push(service_report(history, name, &old, &new));
    }
    Report {
        schema: REPORT_SCHEMA,
        from: history.from,
        to: history.to(),
        baseline,
        unobserved_ms: history.unobserved_ms(),
        missing_rows: history.missing_rows,
        services,
        left_out,
    }
}

fn service_report(history: &History, name: &ServiceName, old: &Outcome, new: &Outcome) -> ServiceReport {
    let recorded = &history.services[name];
    let count = |wanted: &dyn Fn(&lives::Life) -> bool| {
        u32::try_from(recorded.lives.iter().filter(|life| wanted(life)).count()).unwrap_or(u32::MAX)
    };
    ServiceReport {
        service: name.clone(),
        lives: count(&|_| true),
        ended_by_itself: count(&|life| matches!(life.ending, lives::Ending::Itself { .. })),
        old: old.side(history, name),
        new: new.side(history, name),
        hangs: ending::hangs(history, name, old, new),
    }
}
