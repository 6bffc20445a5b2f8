//! Two ledgers, never mixed: *exits* (it ended by itself) and *kills* (we ended it).
//!
//! Exits are answered by ever slower restarts, without an end. Kills are hypotheses: each doubles the patience for the
//! next one, and after a few that were not followed by proof the breaker opens and killing stops. Only proof
//! (fresh ticks for long enough) clears a ledger, never mere uptime: the watchdog that killed a healthy program
//! every 129 s saw "uptime" between any two of its kills.

use std::collections::VecDeque;
use std::time::Duration;

use crate::command::{MemoryDeath, MemoryKill};
use crate::detectors::{RECORD_WINDOW, Turned};
use crate::plan::{KillPlan, RestartPlan};
use crate::random::Random;
use crate::reason::Rule;
use crate::time::{Human, Mono};

/// Deaths that are kept per service.
pub const DEATHS_KEPT_MAX: usize = 32;

/// Kills that are kept per service (a day's worth is needed; the daily limit is far below).
pub const KILLS_KEPT_MAX: usize = 256;

/// Deaths whose lifetimes differ by less than this share of the longest are of the same age.
pub const SAME_AGE_SHARE: f64 = 0.05;

/// So many deaths at the same age are named.
pub const SAME_AGE_DEATHS: usize = 3;

/// Shorter lives are crashes at the start, not deaths on a schedule.
pub const SAME_AGE_LIFETIME_MIN: Duration = Duration::from_secs(10);

/// The window of `kills.daily`.
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// Deaths that nobody asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExitLedger {
    /// Newest first.
    deaths: VecDeque<Death>,
    /// Deaths since the last proof: the exponent of the backoff.
    unproven: u32,
}

#[derive(Clone, Copy, Debug)]
struct Death {
    at: Mono,
    lifetime: Duration,
}

impl ExitLedger {
    pub(crate) fn record(&mut self, now: Mono, lifetime: Duration) {
        self.deaths.push_front(Death { at: now, lifetime });
        self.deaths.truncate(DEATHS_KEPT_MAX);
        self.unproven = self.unproven.saturating_add(1);
    }

    /// Deaths within the sliding window.
    pub(crate) fn recent(&self, now: Mono, within: Duration) -> u32 {
        let count = self.deaths.iter().take_while(|death| now.since(death.at) <= within).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    pub(crate) fn unproven(&self) -> u32 {
        self.unproven
    }

    /// How long to wait before the next start: `first`, then `next`, doubling up to `max`.
    pub(crate) fn delay(&self, plan: &RestartPlan, random: &mut Random) -> Duration {
        match self.unproven {
            0 | 1 => plan.first,
            n => {
                let doublings = (n - 2).min(31);
                random.jittered(plan.next.saturating_mul(1 << doublings).min(plan.max))
            }
        }
    }

    /// Mean lifetime of the last deaths, if they all came at the same age.
    pub(crate) fn same_age(&self) -> Option<Duration> {
        if self.deaths.len() < SAME_AGE_DEATHS {
            return None;
        }
        same_age(self.deaths.iter().take(SAME_AGE_DEATHS).map(|death| death.lifetime))
    }

    pub(crate) fn prove(&mut self) {
        self.unproven = 0;
    }

    pub(crate) fn remember(&self, now: Mono) -> Vec<MemoryDeath> {
        let deaths = self.deaths.iter().map(|d| MemoryDeath { age: now.since(d.at), lifetime: d.lifetime });
        deaths.collect()
    }

    pub(crate) fn restore(remembered: &[MemoryDeath], unproven: u32, now: Mono) -> Self {
        let deaths = remembered.iter().take(DEATHS_KEPT_MAX);
        let deaths = deaths.map(|d| Death { at: now.before(d.age), lifetime: d.lifetime }).collect();
        Self { deaths, unproven }
    }
}

/// The mean of some ages, if they differ by less than [`SAME_AGE_SHARE`].
fn same_age(ages: impl Iterator<Item = Duration> + Clone) -> Option<Duration> {
    let (shortest, longest) = (ages.clone().min()?, ages.clone().max()?);
    let same = longest - shortest <= longest.mul_f64(SAME_AGE_SHARE);
    let count = u32::try_from(ages.clone().count()).ok()?.max(1);
    (same && shortest >= SAME_AGE_LIFETIME_MIN).then(|| ages.sum::<Duration>() / count)
}

/// Kills by the judge, and the breaker that limits them.
#[derive(Clone, Debug, Default)]
pub(crate) struct KillLedger {
    /// Newest first.
    kills: VecDeque<Kill>,
    /// Kills since the last proof.
    unproven: u32,
    /// Open since.
    open: Option<Mono>,
}

#[derive(Clone, Copy, Debug)]
struct Kill {
    at: Mono,
    proven: bool,
    /// A person took the responsibility: it says nothing about the detector.
    forgiven: bool,
    /// Which detector asked for it.
    rule: Rule,
    /// How old the instance was when the hang began.
    onset: Duration,
}

/// May the judge kill?
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Allowance {
    /// Yes; it is the `number`-th unproven one.
    Allowed { number: u32 },
    /// No: this is where the breaker opens.
    OpensBreaker(String),
    /// No: it is open. The next try is allowed then, if ever.
    BreakerOpen { next: Option<Mono> },
}

impl KillLedger {
    pub(crate) fn allowance(&self, now: Mono, plan: &KillPlan) -> Allowance {
        if self.open.is_some() {
            // The alert said that it is left alone: the first retry counts from then, not from an old kill.
            let last = self.kills.front().map(|kill| kill.at).max(self.open).unwrap_or(now);
            // What hangs at the same age every time will do so again: a day has to pass.
            let next = plan.retry.map(|retry| last + self.same_onset().map_or(retry, |_| retry.max(DAY)));
            return match next {
                Some(next) if next <= now => Allowance::Allowed { number: self.unproven.saturating_add(1) },
                next => Allowance::BreakerOpen { next },
            };
        }
        if self.unproven >= plan.limit {
            let same = self.same_onset().map(|age| format!("; it hangs {} after each start", Human(age)));
            return Allowance::OpensBreaker(format!(
                "{} restarts did not cure it (limit {}){}",
                self.unproven,
                plan.limit,
                same.unwrap_or_default()
            ));
        }
        let today = self.today(now);
        let kept = u32::try_from(KILLS_KEPT_MAX).unwrap_or(u32::MAX);
        if today >= plan.daily.min(kept) {
            return Allowance::OpensBreaker(format!(
                "{today} restarts within {} (limit {})",
                Human(DAY),
                plan.daily
            ));
        }
        Allowance::Allowed { number: self.unproven.saturating_add(1) }
    }

    /// `on_trial`: after a common cause, so that its outcome says little about the detector.
    pub(crate) fn record(&mut self, now: Mono, rule: Rule, onset: Duration, on_trial: bool) {
        self.kills.push_front(Kill { at: now, proven: false, forgiven: on_trial, rule, onset });
        self.kills.truncate(KILLS_KEPT_MAX);
        self.unproven = self.unproven.saturating_add(1);
    }

    pub(crate) fn today(&self, now: Mono) -> u32 {
        let count = self.kills.iter().take_while(|kill| now.since(kill.at) < DAY).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    pub(crate) fn unproven(&self) -> u32 {
        self.unproven
    }

    /// Mean age at which the hangs of the last unproven kills began, if it was the same every time.
    pub(crate) fn same_onset(&self) -> Option<Duration> {
        let unproven = usize::try_from(self.unproven).unwrap_or(usize::MAX).min(self.kills.len());
        if unproven < SAME_AGE_DEATHS {
            return None;
        }
        same_age(self.kills.iter().take(unproven).map(|kill| kill.onset))
    }

    /// Mean age at which the last hangs began, proven or not, if it was the same every time.
    pub(crate) fn habitual_onset(&self) -> Option<Duration> {
        let last = self.kills.iter().take(SAME_AGE_DEATHS);
        if last.clone().count() < SAME_AGE_DEATHS { None } else { same_age(last.map(|kill| kill.onset)) }
    }

    /// How old the instance was when the hang began that led to the last unproven kill.
    pub(crate) fn last_onset(&self) -> Option<Duration> {
        self.kills.front().filter(|_| self.unproven > 0).map(|kill| kill.onset)
    }

    /// When the last kill was, if no proof has followed.
    pub(crate) fn last_unproven(&self) -> Option<Mono> {
        self.kills.front().filter(|_| self.unproven > 0).map(|kill| kill.at)
    }

    /// What asked for the last kill.
    pub(crate) fn last_rule(&self) -> Option<Rule> {
        self.kills.front().map(|kill| kill.rule)
    }

    pub(crate) fn open_breaker(&mut self, now: Mono) {
        self.open.get_or_insert(now);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The restart cured: the next fault is judged with the plain deadline again.
    pub(crate) fn prove(&mut self) {
        // The newest one cured. Those before it did not, and if the breaker is open none did: it came back without us.
        if self.open.is_none()
            && self.unproven > 0
            && let Some(newest) = self.kills.front_mut()
        {
            newest.proven = true;
        }
        self.unproven = 0;
        self.open = None;
    }

    /// A person takes the responsibility: the count starts anew, the day's record stays.
    pub(crate) fn forgive(&mut self) {
        self.unproven = 0;
        self.open = None;
        for kill in &mut self.kills {
            kill.forgiven = true;
        }
    }

    /// How the kills of the last days turned out, for the record of their detectors.
    pub(crate) fn outcomes(&self, now: Mono) -> impl Iterator<Item = (Rule, Turned)> {
        let recent =
            self.kills.iter().enumerate().take_while(move |(_, kill)| now.since(kill.at) < RECORD_WINDOW);
        let judged = recent.filter(|(_, kill)| !kill.forgiven);
        judged.filter_map(|(index, kill)| {
            match (kill.proven, index > 0 || self.unproven == 0 || self.is_open()) {
                (true, _) => Some((kill.rule, Turned::Right)),
                (false, true) => Some((kill.rule, Turned::Wrong)),
                // The last one is on trial.
                (false, false) => None,
            }
        })
    }

    /// Each unproven kill doubles the deadline for the next, as often as kills are allowed at all.
    pub(crate) fn patience(&self, deadline: Duration, plan: &KillPlan) -> Duration {
        let doublings = self.unproven.min(plan.limit.saturating_sub(1)).min(10);
        deadline.saturating_mul(1 << doublings)
    }

    pub(crate) fn remember(&self, now: Mono) -> (Vec<MemoryKill>, Option<Duration>) {
        let kills = self
            .kills
            .iter()
            .map(|k| MemoryKill {
                age: now.since(k.at),
                proven: k.proven,
                forgiven: k.forgiven,
                rule: k.rule,
                onset: k.onset,
            })
            .collect();
        (kills, self.open.map(|since| now.since(since)))
    }

    pub(crate) fn restore(kills: &[MemoryKill], unproven: u32, open: Option<Duration>, now: Mono) -> Self {
        let kills: VecDeque<Kill> = kills
            .iter()
            .take(KILLS_KEPT_MAX)
            .map(|k| Kill {
                at: now.before(k.age),
                proven: k.proven,
                forgiven: k.forgiven,
                rule: k.rule,
                onset: k.onset,
            })
            .collect();
        Self { unproven, kills, open: open.map(|age| now.before(age)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn restart_plan() -> RestartPlan {
        RestartPlan {
            on: crate::plan::RestartOn::Always,
            first: Duration::ZERO,
            next: SECOND,
            max: 300 * SECOND,
            crash_loop: 5,
            within: 600 * SECOND,
        }
    }

    fn kill_plan() -> KillPlan {
        KillPlan { limit: 3, prove: 300 * SECOND, retry: Some(6 * 3600 * SECOND), daily: 24 }
    }

    fn at(seconds: u64) -> Mono {
        Mono::from_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn backoff_is_geometric_between_two_bounds_and_never_ends() {
        let mut ledger = ExitLedger::default();
        let mut random = Random::new(1);
        let mut delays = Vec::new();
        for n in 0..40 {
            ledger.record(at(n), SECOND);
            delays.push(ledger.delay(&restart_plan(), &mut random));
        }
        assert_eq!(delays[0], Duration::ZERO);
        for (n, pair) in delays[1..].windows(2).enumerate() {
            assert!(pair[1] <= 300 * SECOND, "delay {n} is over the bound");
        }
        assert!(delays[1] > 900 * Duration::from_millis(1) && delays[1] <= SECOND);
        assert!(delays[39] >= 270 * SECOND, "after many exits the delay stays near its bound");
        ledger.prove();
        assert_eq!(ledger.unproven(), 0);
    }

    #[test]
    fn deaths_at_a_constant_age_are_seen_and_others_are_not() {
        let mut ledger = ExitLedger::default();
        for (n, lifetime) in [129.0, 128.4, 129.6].into_iter().enumerate() {
            assert_eq!(ledger.same_age(), None);
            ledger.record(at(n as u64 * 139), Duration::from_secs_f64(lifetime));
        }
        assert_eq!(ledger.same_age(), Some(129 * SECOND));
        ledger.record(at(600), 60 * SECOND);
        assert_eq!(ledger.same_age(), None);
        let mut crashes = ExitLedger::default();
        for n in 0..3 {
            crashes.record(at(n), Duration::from_millis(20));
        }
        assert_eq!(crashes.same_age(), None, "dying at once is a crash loop, not a schedule");
    }

    #[test]
    fn the_breaker_opens_after_the_limit_and_allows_one_try_per_retry() {
        let (plan, mut ledger) = (kill_plan(), KillLedger::default());
        for n in 1..=3 {
            assert_eq!(ledger.allowance(at(n), &plan), Allowance::Allowed { number: n as u32 });
            ledger.record(at(n), Rule::Silent, SECOND * n as u32, false);
        }
        assert!(matches!(ledger.allowance(at(4), &plan), Allowance::OpensBreaker(_)));
        ledger.open_breaker(at(4));
        let retry = at(4) + 6 * 3600 * SECOND;
        assert_eq!(ledger.allowance(at(5), &plan), Allowance::BreakerOpen { next: Some(retry) });
        assert_eq!(ledger.allowance(retry, &plan), Allowance::Allowed { number: 4 });
        let never = KillPlan { retry: None, ..plan };
        assert_eq!(
            ledger.allowance(at(u64::MAX / 2_000_000_000), &never),
            Allowance::BreakerOpen { next: None }
        );
    }

    #[test]
    fn proven_kills_still_count_for_the_day() {
        let (plan, mut ledger) = (KillPlan { daily: 5, ..kill_plan() }, KillLedger::default());
        for n in 0..5 {
            assert!(matches!(ledger.allowance(at(n * 1000), &plan), Allowance::Allowed { number: 1 }));
            ledger.record(at(n * 1000), Rule::Silent, SECOND, false);
            ledger.prove();
        }
        assert!(matches!(ledger.allowance(at(5000), &plan), Allowance::OpensBreaker(_)));
        assert!(matches!(ledger.allowance(at(86_400 + 1), &plan), Allowance::Allowed { .. }));
    }

    #[test]
    fn each_unproven_kill_doubles_the_deadline() {
        let (plan, mut ledger) = (kill_plan(), KillLedger::default());
        let mut seen = Vec::new();
        for n in 0..4 {
            seen.push(ledger.patience(10 * SECOND, &plan).as_secs());
            ledger.record(at(n), Rule::Silent, SECOND, false);
        }
        assert_eq!(seen, [10, 20, 40, 40]);
    }

    #[test]
    fn a_kill_was_right_if_it_was_proven_and_wrong_if_another_had_to_follow() {
        let day = |days: u64| at(days * 86_400);
        let turned = |ledger: &KillLedger, days| -> Vec<Turned> {
            ledger.outcomes(day(days)).map(|(_, turned)| turned).collect()
        };
        let kill = |ledger: &mut KillLedger, days| ledger.record(day(days), Rule::Silent, SECOND, false);
        let mut ledger = KillLedger::default();
        kill(&mut ledger, 10);
        assert_eq!(turned(&ledger, 10), [], "it may still be proven");
        ledger.prove();
        assert_eq!(turned(&ledger, 10), [Turned::Right]);
        kill(&mut ledger, 12);
        kill(&mut ledger, 12);
        assert_eq!(turned(&ledger, 12), [Turned::Wrong, Turned::Right], "the last one may still be proven");
        ledger.open_breaker(day(12));
        assert_eq!(turned(&ledger, 12), [Turned::Wrong, Turned::Wrong, Turned::Right]);
        // It came back without us: none of them has cured.
        ledger.prove();
        assert_eq!(turned(&ledger, 16), [Turned::Wrong, Turned::Wrong, Turned::Right]);
        assert_eq!(turned(&ledger, 17), [Turned::Wrong, Turned::Wrong], "a week later it is history");
        // What a person took the responsibility for, and what was done after a common cause, is no record.
        ledger.forgive();
        ledger.record(day(18), Rule::Silent, SECOND, true);
        ledger.prove();
        assert_eq!(turned(&ledger, 18), []);
    }

    #[test]
    fn what_hangs_at_the_same_age_every_time_is_tried_again_after_a_day_only() {
        let (plan, mut ledger) = (kill_plan(), KillLedger::default());
        for (n, onset) in [64, 65, 63].into_iter().enumerate() {
            ledger.record(at(n as u64), Rule::Silent, onset * SECOND, false);
        }
        assert_eq!(ledger.same_onset(), Some(64 * SECOND));
        ledger.open_breaker(at(4));
        assert_eq!(
            ledger.allowance(at(6 * 3600 + 4), &plan),
            Allowance::BreakerOpen { next: Some(at(86_404)) }
        );
        assert!(matches!(ledger.allowance(at(86_404), &plan), Allowance::Allowed { number: 4 }));
    }
}
