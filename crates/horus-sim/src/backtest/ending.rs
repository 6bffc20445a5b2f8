//! From what was done to what it means.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use horus_core::ids::ServiceName;
use horus_core::plan::Severity;
use horus_core::time::Mono;
use jiff::Timestamp;
use serde::Serialize;

use super::Side;
use super::drive::{Doings, KillSeen, Outcome};
use super::lives::{Ending, History, Life};

/// A program that ticks again within this time of the moment at which it would have been killed was not dead.
pub const HEALTHY_AGAIN_WITHIN: Duration = Duration::from_secs(600);

/// A restart that a policy decided on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kill {
    /// When.
    pub at: Timestamp,
    /// Which start of the policy's own.
    pub run: u64,
    /// How old that instance was, milliseconds.
    pub age_ms: u64,
    /// Why, with the numbers.
    pub reason: String,
    /// Which unproven kill it is.
    pub number: u32,
    /// With the breaker open: one of the tries that are allowed, each announced.
    pub probation: bool,
    /// What the recording says of the same instance afterwards.
    pub healthy_again: HealthyAgain,
}

/// What became of an instance behind the moment at which another policy kills it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthyAgain {
    /// It ticked again: a healthy one would have been killed.
    After {
        /// After so many milliseconds.
        ms: u64,
    },
    /// It stayed silent for [`HEALTHY_AGAIN_WITHIN`], or until it ended.
    No,
    /// The recording was cut before.
    Unknown,
}

/// A silence, and when the two policies called it a hang.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hang {
    /// The last fresh tick before it, in the recording.
    pub since: Timestamp,
    /// It ended by itself after so many milliseconds. `None`: it lasted until the instance was ended, or lasts.
    pub came_back_after_ms: Option<u64>,
    /// Verdict of the plan of that time, so many milliseconds after the last fresh tick. `None`: there was none.
    pub old_ms: Option<u64>,
    /// The candidate's.
    pub new_ms: Option<u64>,
    /// The plan of that time came as far as this silence: it had not ended that instance before, and it had started it.
    pub old_met: bool,
    /// The same for the candidate.
    pub new_met: bool,
}

fn whole_ms(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

impl Outcome {
    /// What this policy did to one service.
    pub(super) fn side(&self, history: &History, service: &ServiceName) -> Side {
        let Some(doings) = self.services.get(service) else { return Side::default() };
        let lives = &history.services[service].lives;
        let mut alerts = BTreeMap::new();
        for (kind, severity) in doings.told.values() {
            if *severity > Severity::Info {
                *alerts.entry(kind.word().to_owned()).or_insert(0) += 1;
            }
        }
        Side {
            kills: doings.kills.iter().map(|seen| kill(history, lives, seen)).collect(),
            forbidden: doings.forbidden,
            alerts,
            breaker_opened: doings.breaker_opened.iter().map(|at| history.time_of(*at)).collect(),
            named: doings.named.clone(),
            starts: doings.starts,
        }
    }
}

fn kill(history: &History, lives: &[Life], seen: &KillSeen) -> Kill {
    Kill {
        at: history.time_of(seen.at),
        run: seen.run.0,
        age_ms: whole_ms(seen.age),
        reason: seen.reason.clone(),
        number: seen.number,
        probation: seen.number > seen.limit,
        healthy_again: lives
            .get(seen.life)
            .map_or(HealthyAgain::Unknown, |life| healthy_again(life, seen.recorded)),
    }
}

fn healthy_again(life: &Life, moment: Mono) -> HealthyAgain {
    match life.fresh_after(moment) {
        Some(at) if at.since(moment) <= HEALTHY_AGAIN_WITHIN => {
            HealthyAgain::After { ms: whole_ms(at.since(moment)) }
        }
        Some(_) => HealthyAgain::No,
        None if life.until.since(moment) >= HEALTHY_AGAIN_WITHIN => HealthyAgain::No,
        None if matches!(life.ending, Ending::Itself { .. }) => HealthyAgain::No,
        None => HealthyAgain::Unknown,
    }
}

/// Hangs that were cut short, and whatever one of the two policies found worth a verdict.
pub(super) fn hangs(history: &History, service: &ServiceName, old: &Outcome, new: &Outcome) -> Vec<Hang> {
    let lives = &history.services[service].lives;
    let none = BTreeMap::new();
    let verdicts = |outcome: &Outcome| -> BTreeMap<(usize, Mono), Duration> {
        outcome.services.get(service).map_or(&none, |doings: &Doings| &doings.verdicts).clone()
    };
    let reached = |outcome: &Outcome, key: (usize, Mono)| {
        let doings = outcome.services.get(service);
        doings.and_then(|doings| doings.reached.get(&key.0)).is_some_and(|last| *last >= key.1)
    };
    let met = |key: (usize, Mono)| (reached(old, key), reached(new, key));
    let (old, new) = (verdicts(old), verdicts(new));
    let cut = lives.iter().enumerate().filter(|(_, life)| {
        let ended =
            matches!(life.ending, Ending::Judged(_) | Ending::Planned(_) | Ending::Lasts | Ending::Unseen);
        ended && life.ends_silent()
    });
    let cut = cut.filter_map(|(index, life)| Some((index, life.last_fresh()?)));
    let all: BTreeSet<(usize, Mono)> = cut.chain(old.keys().copied()).chain(new.keys().copied()).collect();
    let hang = |key: (usize, Mono)| Hang {
        since: history.time_of(key.1),
        came_back_after_ms: lives
            .get(key.0)
            .and_then(|life| life.fresh_after(key.1))
            .map(|again| whole_ms(again.since(key.1))),
        old_ms: old.get(&key).copied().map(whole_ms),
        new_ms: new.get(&key).copied().map(whole_ms),
        old_met: met(key).0,
        new_met: met(key).1,
    };
    let hangs = all.into_iter().map(hang);
    // What neither of the two has come to (the breaker was open, and another instance ran on) says nothing about them.
    hangs.filter(|hang| hang.old_met || hang.new_met).collect()
}
