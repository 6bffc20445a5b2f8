//! The fleet guard: self-suspicion.
//!
//! When many instruments fail at once, a pilot suspects the power supply before the engines. If several services turn red in
//! one window, or the machine has just come back from somewhere, the likeliest explanation is not that all of them hang:
//! it is something that they share, or the observer. So nothing is killed for a while, one thing is said of all of them, and
//! what is still red afterwards is restarted *one at a time*, the next one only when the last one is proven or has failed
//! (guarantee G3).
//!
//! ```text
//!            share is red                   still red when the hold is over
//!    open ----------------->  closed  -------------------------------------->  one at a time
//!     ^                         |                                                    |
//!     +---- fewer are red ------+------------------ fewer are red, nobody on trial --+
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::decision::Veto;
use crate::ids::ServiceName;
use crate::reason::{Reason, Rule};
use crate::time::{Human, Mono};

/// This share of the watched services is too many at once, in per cent.
pub const SHARE_PERCENT: u32 = 30;

/// So many are the least that is too many.
pub const SHARE_MIN: u32 = 2;

/// Silences that began within this time of each other began at once.
pub const WINDOW: Duration = Duration::from_secs(60);

/// The same for services that were restarted meanwhile without a proof.
pub const TRICKLE: Duration = Duration::from_secs(300);

/// Whoever was red is compared with those that turn red later for so long: deadlines differ, the cause does not.
pub const KEEP: Duration = Duration::from_secs(20 * 60);

/// Those who turn red so soon after the others are in the same message: with polls of seconds nobody is red at the same instant.
pub const GATHER: Duration = Duration::from_secs(2);

/// Bounds of the time in which nothing is killed: two deadlines of the slowest red service, within these.
pub const HOLD_MIN: Duration = Duration::from_secs(30);
/// See [`HOLD_MIN`].
pub const HOLD_MAX: Duration = Duration::from_secs(600);

/// A trial that failed says that restarts do not cure this: so long is waited until the next one, twice as long after each
/// further failure.
pub const TRIAL_HOLD_MIN: Duration = Duration::from_secs(300);
/// See [`TRIAL_HOLD_MIN`].
pub const TRIAL_HOLD_MAX: Duration = Duration::from_secs(3600);

/// After a suspend, a clock step or its own long standstill Horus lets everybody settle for so long.
pub const SETTLE: Duration = Duration::from_secs(30);

/// Own lateness from which on everybody is let settle.
pub const LATENESS_MIN: Duration = Duration::from_secs(5);

/// The guard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    red: BTreeMap<ServiceName, Red>,
    /// Services that are judged at present.
    watched: u32,
    state: State,
    /// Restarted one at a time, and neither proven nor failed.
    trial: Option<Trial>,
    /// Trials that failed since one was proven or the guard was open.
    failures: u32,
    /// Since when, and when last, everybody was let settle.
    settling_since: Option<Mono>,
    settled_at: Option<Mono>,
    /// The message about a common cause is written then, of all who are red by then.
    tell_at: Option<Mono>,
    /// Who is in it.
    told: BTreeSet<ServiceName>,
    /// Something has changed since it was last tended.
    pub(crate) changed: bool,
}

/// A service past its deadline.
#[derive(Clone, Copy, Debug)]
struct Red {
    /// When its silence began.
    onset: Mono,
    /// Its own time until a restart.
    act: Duration,
    /// It is still past its deadline: neither came back nor was restarted.
    stands: bool,
    /// It was restarted, and that is not proven.
    unproven: bool,
    /// Nor has it failed, which it will have by then: whatever the guard was when it was restarted, if others turn out to have the
    /// same cause, it is on trial for them.
    awaited_until: Option<Mono>,
}

/// A restart that has to be proven before the next one.
#[derive(Clone, Debug)]
struct Trial {
    name: ServiceName,
    /// It counts as failed then.
    until: Mono,
    /// Who was red beside it when it was begun, for one cause as far as anybody could tell, and still is: they wait for its outcome.
    others: BTreeSet<ServiceName>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Open,
    /// `settles`: only to let everybody come to rest after a suspend or the like.
    Closed {
        until: Mono,
        settles: bool,
    },
    OneAtATime,
}

/// What tending the guard has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing is killed for so long.
    Closed(Duration),
    /// All who turned red together are known.
    Gathered,
    /// One at a time.
    OneAtATime,
    /// Kills are possible again.
    Opened,
    /// Everybody has had the time to come to rest.
    Settled,
}

impl Guard {
    /// A service is past its deadline, silent since `onset`, and will be restarted after `act` of silence.
    pub(crate) fn red(&mut self, name: &ServiceName, now: Mono, onset: Mono, act: Duration) {
        self.red.insert(name.clone(), Red { onset, act, stands: true, unproven: false, awaited_until: None });
        // Red again: its restart has failed.
        self.failed(name, now);
        self.changed = true;
    }

    /// It is being restarted. Whatever a person has said of it since that was decided: that has to be proven until then.
    pub(crate) fn killed(&mut self, name: &ServiceName, until: Mono) {
        if let Some(red) = self.red.get_mut(name) {
            red.unproven = true;
        }
        self.acted(name, until);
    }

    /// It is fine again, or there is nothing left to judge.
    pub(crate) fn green(&mut self, name: &ServiceName) {
        if let Some(red) = self.red.get_mut(name)
            && red.stands
        {
            red.stands = false;
            self.changed = true;
            if let Some(trial) = &mut self.trial {
                trial.others.remove(name);
            }
        }
    }

    /// Its restart has brought it back for good.
    pub(crate) fn proven(&mut self, name: &ServiceName) {
        if let Some(red) = self.red.get_mut(name) {
            red.unproven = false;
        }
        if self.end_trial(name) {
            self.failures = 0;
        }
    }

    /// Its restart has not: restarts do not cure this, so the next trial has to wait.
    pub(crate) fn failed(&mut self, name: &ServiceName, now: Mono) {
        if self.end_trial(name) {
            let doublings = self.failures.min(8);
            self.failures = self.failures.saturating_add(1);
            let hold = TRIAL_HOLD_MIN.saturating_mul(1 << doublings).min(TRIAL_HOLD_MAX);
            self.state = State::Closed { until: now + hold, settles: false };
        }
    }

    /// Its trial ends without an outcome: it was spared, stopped, is held, or left the plan.
    pub(crate) fn end_trial(&mut self, name: &ServiceName) -> bool {
        if let Some(red) = self.red.get_mut(name) {
            red.awaited_until = None;
        }
        let ends = self.trial.as_ref().is_some_and(|trial| trial.name == *name);
        if ends {
            self.trial = None;
            self.changed = true;
        }
        ends
    }

    /// A restart is decided. It has to be proven until then.
    pub(crate) fn acted(&mut self, name: &ServiceName, until: Mono) {
        if let Some(red) = self.red.get_mut(name) {
            red.awaited_until = Some(until);
        }
        if matches!(self.state, State::OneAtATime) {
            // The first one is waited for, even if somebody with a fault of his own was restarted meanwhile.
            let others =
                if self.is_common() { self.standing().into_iter().collect() } else { BTreeSet::new() };
            let trial = || Trial { name: name.clone(), until, others };
            self.trial = self.trial.take().filter(|trial| trial.name != *name).or_else(|| Some(trial()));
            self.changed = true;
        }
    }

    /// The same, begun in an earlier life of Horus.
    pub(crate) fn resume_trial(&mut self, name: &ServiceName, until: Mono) {
        if matches!(self.state, State::Open | State::OneAtATime) {
            self.state = State::OneAtATime;
            self.acted(name, until);
        }
    }

    /// Who is on trial.
    pub(crate) fn on_trial(&self) -> Option<&ServiceName> {
        self.trial.as_ref().map(|trial| &trial.name)
    }

    /// Everybody is let settle: nothing is killed before then. A machine that comes back again and again gets [`HOLD_MAX`] in all
    /// and then no more until it has been quiet for as long: a hang must not hide behind it.
    pub(crate) fn close(&mut self, now: Mono, settle: Duration) {
        let quiet = self.settled_at.is_none_or(|at| now.since(at) >= HOLD_MAX);
        let since =
            *if quiet { self.settling_since.insert(now) } else { self.settling_since.get_or_insert(now) };
        self.settled_at = Some(now);
        if now.since(since) >= HOLD_MAX {
            return;
        }
        let end = now + settle;
        match &mut self.state {
            State::Closed { until, .. } => *until = end.max(*until),
            State::Open => self.state = State::Closed { until: end, settles: true },
            State::OneAtATime => self.state = State::Closed { until: end, settles: false },
        }
        self.changed = true;
    }

    /// Is anybody red, or was lately?
    pub(crate) fn suspects(&self) -> bool {
        !self.red.is_empty()
    }

    /// So many services are judged at present. Fewer of them may make a share of what was none.
    pub(crate) fn count_watched(&mut self, watched: u32) {
        self.changed |= self.watched != watched && !self.red.is_empty();
        self.watched = watched;
    }

    /// The number of red services from which on a common cause is suspected.
    pub(crate) fn share(&self) -> u32 {
        (self.watched.saturating_mul(SHARE_PERCENT)).div_ceil(100).max(SHARE_MIN)
    }

    /// Those that stand, and those whose silence began together with that of one who stands, whatever became of them since: with
    /// different deadlines one cause shows itself at different times.
    fn common(&self) -> impl Iterator<Item = (&ServiceName, &Red)> {
        let standing: Vec<Mono> = self.red.values().filter(|red| red.stands).map(|red| red.onset).collect();
        let near = move |red: &Red| {
            // A trickle of restarts of which none is proven has a cause, too.
            let window = if red.unproven { TRICKLE } else { WINDOW };
            standing.iter().any(|onset| onset.since(red.onset).max(red.onset.since(*onset)) <= window)
        };
        self.red.iter().filter(move |(_, red)| red.stands || near(red))
    }

    /// Of those with a common cause the one that was restarted before anybody suspected it, and is neither proven nor has failed.
    fn awaited(&self, now: Mono) -> Option<Trial> {
        let trials = self.common().filter_map(|(name, red)| {
            let until = red.awaited_until.filter(|until| *until > now && !red.stands)?;
            Some(Trial { name: name.clone(), until, others: BTreeSet::new() })
        });
        trials.max_by_key(|trial| trial.until)
    }

    fn count_red(&self) -> u32 {
        u32::try_from(self.common().count()).unwrap_or(u32::MAX)
    }

    pub(crate) fn is_common(&self) -> bool {
        !self.red.is_empty() && self.count_red() >= self.share()
    }

    /// Why a restart of this service may not be begun now.
    pub(crate) fn forbids(&self, name: &ServiceName, now: Mono) -> Option<(Veto, Reason)> {
        match &self.state {
            State::Open if self.is_common() => return Some((Veto::CommonCause, self.reason())),
            State::Closed { until, .. } => {
                let text = format!("nothing is restarted for {}", Human(until.since(now)));
                return Some((Veto::CommonCause, Reason::new(Rule::CommonCause, text)));
            }
            State::Open | State::OneAtATime => {}
        }
        let trial = self.trial.clone().or_else(|| self.awaited(now)).filter(|trial| trial.name != *name)?;
        let other = &trial.name;
        // Most are well again: whoever hangs by himself does not wait for a proof that takes an hour. After a restart of Horus
        // nobody knows who else was red.
        if self.red.contains_key(other) && !self.is_common() && !trial.others.contains(name) {
            return None;
        }
        let text = format!("{other} was restarted and is not proven yet: one at a time");
        Some((Veto::OneAtATime, Reason::new(Rule::CommonCause, text)))
    }

    /// What is suspected, with its numbers.
    pub(crate) fn reason(&self) -> Reason {
        let red = self.count_red();
        let onsets = || self.common().map(|(_, red)| red.onset);
        let (first, last) = (onsets().min().unwrap_or_default(), onsets().max().unwrap_or_default());
        let (watched, within) = (self.watched.max(red), Human(last.since(first).max(Duration::from_secs(1))));
        let text = format!("{red} of {watched} services stopped showing life within {within}");
        Reason::new(Rule::CommonCause, text)
    }

    /// The services that a common cause is suspected of, by name.
    pub(crate) fn names(&self) -> Vec<ServiceName> {
        self.common().map(|(name, _)| name.clone()).collect()
    }

    /// Is somebody told of this one by the common cause, or will soon be?
    pub(crate) fn tells_of(&self, name: &ServiceName) -> bool {
        let soon = matches!(self.state, State::Open | State::Closed { settles: true, .. });
        soon || self.tell_at.is_some() || self.told.contains(name)
    }

    /// Those that wait for what the guard allows.
    pub(crate) fn standing(&self) -> Vec<ServiceName> {
        self.red.iter().filter(|(_, red)| red.stands).map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn watched(&self) -> u32 {
        self.watched.max(self.count_red())
    }

    /// Does what is due.
    pub(crate) fn tend(&mut self, now: Mono) -> Option<Change> {
        self.changed = false;
        if let Some(trial) = self.trial.clone()
            && trial.until <= now
        {
            self.failed(&trial.name, now);
        }
        let keep = |red: &Red| KEEP.max(red.act.saturating_mul(2));
        let awaited = |red: &Red| red.awaited_until.is_some_and(|until| until > now);
        self.red.retain(|_, red| red.stands || awaited(red) || now.since(red.onset) < keep(red));
        let common = self.is_common();
        let change = match self.state {
            State::Open if common => {
                let slowest = self.red.values().filter(|red| red.stands).map(|red| red.act).max();
                let hold = slowest.unwrap_or_default().clamp(HOLD_MIN, HOLD_MAX);
                self.state = State::Closed { until: now + hold, settles: false };
                self.tell_at = Some(now + GATHER);
                Some(Change::Closed(hold))
            }
            _ if self.tell_at.is_some_and(|at| at <= now) => {
                self.tell_at = None;
                self.told = self.names().into_iter().collect();
                Some(Change::Gathered)
            }
            State::Closed { until, settles: true } if until <= now => {
                // Whoever is red after the rest is judged as ever.
                self.state = State::Open;
                self.changed = common;
                Some(Change::Settled)
            }
            State::Closed { until, settles: false } if until <= now && (common || self.trial.is_some()) => {
                self.state = State::OneAtATime;
                self.trial = self.trial.take().or_else(|| self.awaited(now));
                Some(Change::OneAtATime)
            }
            State::Closed { until, settles: false } if until <= now => {
                self.state = State::Open;
                Some(Change::Opened)
            }
            State::OneAtATime if self.trial.is_none() && !common => {
                self.state = State::Open;
                Some(Change::Opened)
            }
            State::OneAtATime if self.trial.is_none() => {
                // Who stands by now may share the cause of one that was restarted earlier, and is not proven yet.
                self.trial = self.awaited(now);
                None
            }
            State::Open | State::Closed { .. } | State::OneAtATime => None,
        };
        if matches!(self.state, State::Open) {
            self.failures = 0;
            self.tell_at = None;
            self.told.clear();
        }
        change
    }

    /// When it has to be tended, if nothing happens.
    pub(crate) fn due(&self, now: Mono) -> Option<Mono> {
        let state = match self.state {
            State::Closed { until, .. } => Some(until),
            State::Open if self.changed => Some(now),
            State::Open | State::OneAtATime => None,
        };
        let trial = self.trial.as_ref().map(|trial| trial.until);
        state.into_iter().chain(trial).chain(self.tell_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u32) -> ServiceName {
        ServiceName::parse(&format!("s{number}")).unwrap()
    }

    fn at(seconds: u64) -> Mono {
        Mono::from_origin(Duration::from_secs(seconds))
    }

    const ACT: Duration = Duration::from_secs(20);
    const TERM: u64 = 5000;

    fn guard(watched: u32) -> Guard {
        Guard { watched, ..Guard::default() }
    }

    /// Red at once.
    fn red(guard: &mut Guard, number: u32, now: u64) {
        guard.red(&name(number), at(now), at(now - 10), ACT);
    }

    fn act(guard: &mut Guard, number: u32, now: u64) {
        assert_eq!(guard.forbids(&name(number), at(now)), None);
        guard.acted(&name(number), at(now + TERM));
        guard.green(&name(number));
    }

    /// It has closed, and who turned red together is known.
    fn tell_of_a_common_cause(guard: &mut Guard, now: u64) {
        assert!(matches!(guard.tend(at(now)), Some(Change::Closed(_))));
        assert_eq!(guard.due(at(now)), Some(at(now) + GATHER));
        assert_eq!(guard.tend(at(now) + GATHER), Some(Change::Gathered));
    }

    /// The second of three that were red together waits for the first, also when two are no common cause any more.
    #[test]
    fn whoever_was_red_beside_a_trial_waits_for_its_outcome() {
        let mut guard = guard(7);
        for (number, onset) in [(1, 4000), (2, 2600), (3, 2400)] {
            guard.red(&name(number), at(4100), at(onset), ACT);
        }
        tell_of_a_common_cause(&mut guard, 4100);
        assert_eq!(guard.tend(at(4200)), Some(Change::OneAtATime));
        act(&mut guard, 1, 4200);
        assert!(!guard.is_common());
        assert!(matches!(guard.forbids(&name(2), at(4201)), Some((Veto::OneAtATime, _))));
        // Not if it was well again in between.
        guard.green(&name(2));
        guard.red(&name(2), at(4700), at(4690), ACT);
        assert_eq!(guard.forbids(&name(2), at(4700)), None);
    }

    #[test]
    fn the_share_is_thirty_per_cent_and_at_least_two() {
        let shares: Vec<u32> = [1, 2, 6, 7, 10, 11, 50].map(|watched| guard(watched).share()).to_vec();
        assert_eq!(shares, [2, 2, 2, 3, 3, 4, 15]);
    }

    #[test]
    fn one_red_service_of_two_is_its_own_affair_and_two_are_not() {
        let mut guard = guard(2);
        red(&mut guard, 1, 100);
        assert_eq!(guard.tend(at(100)), None);
        assert_eq!(guard.forbids(&name(1), at(100)), None);
        red(&mut guard, 2, 130);
        assert!(guard.forbids(&name(1), at(130)).is_some(), "even before it was tended");
        assert_eq!(guard.tend(at(130)), Some(Change::Closed(HOLD_MIN)));
        assert_eq!(guard.tend(at(132)), Some(Change::Gathered));
        assert_eq!(guard.due(at(130)), Some(at(160)));
    }

    /// Polls come one after the other: one message tells of all, and who turns red later is not in it.
    #[test]
    fn whoever_turns_red_within_moments_is_in_the_same_message() {
        let mut guard = guard(6);
        red(&mut guard, 1, 100);
        red(&mut guard, 2, 100);
        assert_eq!(guard.tend(at(100)), Some(Change::Closed(HOLD_MIN)));
        red(&mut guard, 3, 101);
        assert_eq!(guard.tend(at(101)), None);
        assert_eq!(guard.tend(at(102)), Some(Change::Gathered));
        assert_eq!(guard.names(), [name(1), name(2), name(3)]);
        red(&mut guard, 4, 104);
        let told: Vec<bool> = (1..=4).map(|number| guard.tells_of(&name(number))).collect();
        assert_eq!(told, [true, true, true, false]);
    }

    #[test]
    fn afterwards_one_is_on_trial_at_a_time() {
        let mut guard = guard(3);
        for number in 1..=3 {
            red(&mut guard, number, 100);
        }
        tell_of_a_common_cause(&mut guard, 100);
        assert_eq!(guard.tend(at(130)), Some(Change::OneAtATime));
        act(&mut guard, 1, 130);
        assert!(matches!(guard.forbids(&name(2), at(131)), Some((Veto::OneAtATime, _))));
        // Two are red still, and the first has to be proven, however long that takes.
        assert_eq!(guard.tend(at(1000)), None);
        assert!(guard.forbids(&name(2), at(1000)).is_some());
        guard.proven(&name(1));
        act(&mut guard, 2, 1001);
        // One is red: fewer than the share, but somebody is on trial.
        guard.red.remove(name(1).as_str());
        assert_eq!(guard.tend(at(2000)), None);
        assert!(guard.forbids(&name(3), at(2000)).is_some());
        guard.proven(&name(2));
        assert_eq!(guard.tend(at(2200)), Some(Change::Opened));
    }

    #[test]
    fn who_is_on_trial_is_not_forgotten_by_a_suspend() {
        let mut guard = guard(3);
        for number in 1..=3 {
            red(&mut guard, number, 100);
        }
        tell_of_a_common_cause(&mut guard, 100);
        let _ = guard.tend(at(130));
        act(&mut guard, 1, 130);
        guard.close(at(140), SETTLE);
        assert_eq!(guard.tend(at(170)), Some(Change::OneAtATime));
        assert!(matches!(guard.forbids(&name(2), at(171)), Some((Veto::OneAtATime, _))));
    }

    #[test]
    fn a_trial_without_an_outcome_has_a_term() {
        let mut guard = guard(3);
        for number in 1..=3 {
            red(&mut guard, number, 100);
        }
        tell_of_a_common_cause(&mut guard, 100);
        let _ = guard.tend(at(130));
        act(&mut guard, 1, 130);
        assert_eq!(guard.due(at(131)), Some(at(130 + TERM)));
        assert_eq!(guard.tend(at(130 + TERM)), None);
        assert_eq!(guard.on_trial(), None);
        assert!(guard.forbids(&name(2), at(130 + TERM)).is_some(), "it counts as failed");
        assert_eq!(guard.tend(at(130 + TERM + 300)), Some(Change::OneAtATime));
        assert_eq!(guard.forbids(&name(2), at(130 + TERM + 300)), None);
    }

    #[test]
    fn a_trial_that_fails_makes_the_next_one_wait_ever_longer() {
        let mut guard = guard(4);
        for number in 1..=4 {
            red(&mut guard, number, 100);
        }
        tell_of_a_common_cause(&mut guard, 100);
        let mut now = 130;
        for (number, hold) in [(1, 300), (2, 600), (3, 1200), (1, 2400), (2, 3600), (3, 3600)] {
            assert_eq!(guard.tend(at(now)), Some(Change::OneAtATime));
            act(&mut guard, number, now);
            red(&mut guard, number, now + 50);
            assert!(guard.forbids(&name(4), at(now + 50 + hold - 1)).is_some(), "after failure {number}");
            now += 50 + hold;
            assert_eq!(guard.due(at(now - 1)), Some(at(now)));
        }
    }

    #[test]
    fn one_cause_over_different_deadlines_is_one_cause() {
        // The network goes at 100 s; the deadlines are 10 s, 2 min and 10 min. The first was restarted long before the last is red.
        let mut guard = guard(5);
        for (number, deadline) in [(1, 10), (2, 120)] {
            guard.red(&name(number), at(100 + deadline), at(100), ACT);
            if number == 1 {
                assert_eq!(guard.forbids(&name(number), at(130)), None);
                guard.green(&name(number));
            }
        }
        assert!(guard.is_common(), "the second of two that fell silent together");
        // And what began a quarter of an hour later is another matter.
        guard.green(&name(2));
        guard.red(&name(3), at(1010), at(1000), ACT);
        assert!(!guard.is_common());
    }

    #[test]
    fn who_was_restarted_before_the_cause_was_known_to_be_common_is_waited_for() {
        let mut guard = guard(4);
        red(&mut guard, 1, 100);
        act(&mut guard, 1, 110);
        guard.killed(&name(1), at(110 + TERM));
        guard.red(&name(2), at(200), at(95), ACT);
        tell_of_a_common_cause(&mut guard, 200);
        assert_eq!(guard.tend(at(230)), Some(Change::OneAtATime));
        assert!(matches!(guard.forbids(&name(2), at(231)), Some((Veto::OneAtATime, _))));
        guard.proven(&name(1));
        assert_eq!(guard.forbids(&name(2), at(500)), None);
    }

    #[test]
    fn the_first_on_trial_is_waited_for_although_another_was_restarted_meanwhile() {
        let mut guard = guard(3);
        for number in 1..=3 {
            red(&mut guard, number, 100);
        }
        tell_of_a_common_cause(&mut guard, 100);
        let _ = guard.tend(at(130));
        act(&mut guard, 1, 130);
        guard.acted(&name(2), at(140 + TERM));
        assert_eq!(guard.on_trial(), Some(&name(1)));
        guard.acted(&name(1), at(150 + TERM));
        assert_eq!(guard.due(at(150)), Some(at(150 + TERM)), "its own term begins anew");
    }

    #[test]
    fn a_restart_whose_term_has_passed_is_waited_for_by_nobody() {
        let mut guard = guard(4);
        red(&mut guard, 1, 100);
        act(&mut guard, 1, 110);
        guard.killed(&name(1), at(150));
        for number in 2..=3 {
            red(&mut guard, number, 200);
        }
        tell_of_a_common_cause(&mut guard, 200);
        assert_eq!(guard.tend(at(230)), Some(Change::OneAtATime));
        assert_eq!(guard.on_trial(), None);
    }

    #[test]
    fn a_trial_that_takes_longer_than_its_silence_is_remembered_is_known_to_be_one_of_those() {
        let mut guard = guard(4);
        for number in 1..=2 {
            red(&mut guard, number, 100);
        }
        tell_of_a_common_cause(&mut guard, 100);
        let _ = guard.tend(at(130));
        act(&mut guard, 1, 130);
        guard.killed(&name(1), at(130 + TERM));
        guard.green(&name(2));
        let later = 130 + KEEP.as_secs() + 60;
        assert_eq!(guard.tend(at(later)), None);
        red(&mut guard, 3, later);
        assert_eq!(guard.on_trial(), Some(&name(1)));
        assert_eq!(guard.forbids(&name(3), at(later)), None, "alone, and of another cause");
    }

    #[test]
    fn a_machine_that_wavers_for_ever_does_not_hold_the_guard_for_ever() {
        let mut guard = guard(1);
        let mut closed = 0;
        for step in 0..600 {
            guard.close(at(step * 20), SETTLE);
            let _ = guard.tend(at(step * 20));
            closed += u64::from(guard.forbids(&name(1), at(step * 20)).is_some());
        }
        assert!((20..40).contains(&closed), "{closed} of 600");
        guard.close(at(600 * 20 + 600), SETTLE);
        assert!(
            guard.forbids(&name(1), at(600 * 20 + 600)).is_some(),
            "after ten quiet minutes it may again"
        );
    }
}
