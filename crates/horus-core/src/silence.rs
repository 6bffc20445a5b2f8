//! A silence that outlives Horus: what was witnessed of it counts, the absence of the witness does not.
//!
//! ```text
//!   fresh tick              Horus dies          the next one adopts
//!       |---- witnessed ----|---- nobody there ----|---- witnessed ----|
//!       |        3 s        :       counts 0       :        4 s        |   age 7 s
//! ```
//!
//! Without this a Horus that dies (or is upgraded) once per deadline would begin each silence anew and never judge anybody. The age is
//! written down in eighths of its limit from half of the deadline on, so that a death costs an eighth and a healthy service costs
//! nothing. What is written is a claim about one process and one tick, and the next life believes as little of it as it can:
//!
//! - of another process, by other limits, or after an absence that is longer than the deadline (or not known), it is dropped;
//! - of a source that is asked it is taken up when the first answer is no fresh tick, and not before;
//! - the last thing that was heard may not have reached the disk. So no restart comes before this life has listened for a whole
//!   deadline itself ([`Veto::Unwitnessed`](crate::decision::Veto::Unwitnessed)), unless the very tick of the record was heard again,
//!   or the life before ended by handing over, when everything was on disk. A Horus that cannot live for one deadline tells, and does
//!   not restart.
//!
//! Rejected: to count the absence when the tick is unchanged. It stood, but whether the program was stopped, suspended, starved or
//! had declared a pause meanwhile nobody has seen; the price of not counting is a verdict that comes later by the absence.

use std::time::Duration;

use crate::command::MemorySilence;
use crate::engine::OWN_LATENESS_MIN;
use crate::ids::Instance;
use crate::observation::Declared;
use crate::plan::{ServicePlan, fingerprint};
use crate::service::{Phase, Service};
use crate::spell::Track;
use crate::steps::LongStep;
use crate::time::Mono;

/// An age is written down each time that it has grown by its limit divided by this.
const STEPS: u32 = 8;

/// No more steps than these are written down: at twice the limit everything that is due was done.
const STEPS_MAX: u32 = 2 * STEPS;

/// An absence up to this is one that a handover takes.
const HANDOVER_MAX: Duration = Duration::from_secs(5);

/// What an earlier life knew of the instance that lived, until the keeper says whether it does.
#[derive(Clone, Debug, Default)]
pub(crate) struct RememberedInstance {
    /// When it was started.
    pub(crate) since: Mono,
    /// Its first fresh tick was seen.
    pub(crate) was_ready: bool,
    /// The sources that were seen to move (fingerprints).
    pub(crate) moved: Vec<u64>,
    pub(crate) silent: Option<RememberedSilence>,
    /// The step that it is in.
    pub(crate) step: Option<LongStep>,
}

/// A record as it was read, and how old it was then.
#[derive(Clone, Debug)]
pub(crate) struct RememberedSilence {
    pub(crate) record: MemorySilence,
    /// How old it was. `None`: not known.
    pub(crate) away: Option<Duration>,
    pub(crate) read_at: Mono,
}

/// How long `age` has become, in eighths of `limit`, counted from `least` on.
fn steps(age: Duration, limit: Duration, least: Duration) -> u32 {
    let step = limit / STEPS;
    if age < least || step.is_zero() {
        return 0;
    }
    u32::try_from(age.as_nanos() / step.as_nanos()).unwrap_or(STEPS_MAX).min(STEPS_MAX)
}

/// A number for the limits that silences are judged by. What they listen to has numbers of its own.
fn rules(plan: &ServicePlan) -> u64 {
    let work = plan.progress.values().map(|work| (&work.counter, work.stalled.as_millis()));
    let (deadline, startup, limit) = (plan.deadline.as_millis(), plan.startup.as_millis(), plan.kills.limit);
    fingerprint(&format!("{deadline} {startup} {limit} {:?}", work.collect::<Vec<_>>()))
}

impl Service {
    /// What this life has witnessed of the waits that go on, if they are at least that old.
    pub(crate) fn witnessed(&self, now: Mono, least: Duration) -> Option<MemorySilence> {
        let mut silence = MemorySilence {
            process: self.alive()?.process,
            rules: rules(&self.plan),
            sources: Vec::new(),
            work: Vec::new(),
            waited: None,
            declined: Vec::new(),
            handed_over: false,
            written: None,
        };
        match &self.phase {
            Phase::Starting { watched_since, .. } => {
                silence.waited = Some(now.since(*watched_since)).filter(|waited| *waited >= least);
            }
            Phase::Running(_) | Phase::Condemned { .. } if self.declared != Declared::Halted => {
                silence.sources =
                    self.beats.silences(|fresh| now.since(self.charged_from(fresh, now)), least);
                silence.work = self.counters.standstills(now, self.work_since(), &self.plan.progress);
                silence.work.retain(|work| work.age >= least);
                silence.declined = self.declined_so_far();
            }
            _ => {}
        }
        let empty = silence.sources.is_empty() && silence.work.is_empty() && silence.waited.is_none();
        (!empty).then_some(silence)
    }

    /// From this age on a silence is worth being written down: not in the ordinary gap between two signs.
    pub(crate) fn witness_from(&self) -> Duration {
        let limits = self.limits();
        limits.late.min(limits.deadline / 4 * 3)
    }

    /// A number that changes with what [`Self::witnessed`] has to say, in coarse steps.
    pub(crate) fn witnessed_steps(&self, now: Mono) -> u64 {
        let mut sum = 0_u64;
        let mut add = |steps: u32| sum = sum.wrapping_mul(u64::from(STEPS_MAX) + 1) + u64::from(steps);
        match &self.phase {
            Phase::Starting { watched_since, .. } => {
                let cap = self.startup_cap();
                add(steps(now.since(*watched_since), cap, cap / STEPS).min(STEPS));
            }
            Phase::Running(_) | Phase::Condemned { .. } if self.declared != Declared::Halted => {
                let (deadline, least) = (self.limits().deadline, self.witness_from());
                for fresh in self.beats.moving_since() {
                    add(steps(now.since(self.charged_from(fresh, now)), deadline, least));
                }
                for work in self.counters.standstills(now, self.work_since(), &self.plan.progress) {
                    let plans = self.plan.progress.values();
                    let limit =
                        plans.filter(|plan| plan.counter == work.counter).map(|plan| plan.stalled).min();
                    let limit = self.stretched(limit.unwrap_or_default());
                    add(steps(work.age, limit, (limit / 2).max(least)));
                }
            }
            _ => {}
        }
        sum
    }

    /// When the age of the silence that goes on will have grown by another step.
    pub(crate) fn next_step_at(&self, now: Mono) -> Option<Mono> {
        let (since, limit, least, most) = match &self.phase {
            Phase::Starting { watched_since, .. } => {
                let cap = self.startup_cap();
                (*watched_since, cap, cap / STEPS, STEPS)
            }
            Phase::Running(_) | Phase::Condemned { .. } => {
                let since = self.silent_since(now)?;
                let since = self.excused_until().map_or(since, |until| since.max(until));
                (since, self.limits().deadline, self.witness_from(), STEPS_MAX)
            }
            _ => return None,
        };
        let next = steps(now.since(since), limit, Duration::ZERO) + 1;
        let at = since + (limit / STEPS * next).max(least);
        (next <= most && at > now).then_some(at)
    }

    /// Since when a source whose last fresh sign came then is charged.
    fn charged_from(&self, fresh: Mono, now: Mono) -> Mono {
        let since = (fresh + self.declared_credit).max(self.judged_since);
        self.excused_until().map_or(since, |until| since.max(until)).min(now)
    }

    /// What was told already of why nothing is restarted.
    fn declined_so_far(&self) -> Vec<String> {
        let here = [&self.spell, &self.work_spell].into_iter().flat_map(|spell| &spell.declined);
        let mut words: Vec<String> = here.map(|declined| declined.words().to_owned()).collect();
        words.extend(self.spell.declined_before.iter().cloned());
        words.sort_unstable();
        words.dedup();
        words
    }

    /// The instance that was found is the one that an earlier life had watched: its waits go on.
    pub(crate) fn take_up(&mut self, now: Mono, instance: Instance, silent: RememberedSilence) {
        let RememberedSilence { record, away, read_at } = silent;
        if record.process != instance.process || record.rules != rules(&self.plan) {
            return;
        }
        // However long ago: what a person was told of this process is known to them.
        self.spell.declined_before.clone_from(&record.declined);
        self.work_spell.declined_before.clone_from(&record.declined);
        let away = away.map(|away| away + now.since(read_at));
        let Some(away) = away.filter(|away| *away <= self.limits().deadline) else {
            record.sources.iter().for_each(|source| self.beats.take_up(source, None));
            return;
        };
        // As with lateness of its own: what is below a second is ordinary.
        let charged = if away < OWN_LATENESS_MIN { away } else { Duration::ZERO };
        let began = |age: Duration| now.before(age.saturating_add(charged));
        if let (Phase::Starting { watched_since, .. }, Some(waited)) = (&mut self.phase, record.waited) {
            *watched_since = began(waited);
        }
        if !matches!(self.phase, Phase::Running(_)) {
            return;
        }
        for source in &record.sources {
            self.beats.take_up(source, Some(began(source.age)));
        }
        for work in record.work {
            let since = began(work.age);
            self.counters.take_up(work, since);
        }
        let ages = record.sources.iter().map(|source| source.age);
        let longest = ages.chain(self.counters.longest_taken_up(now)).max().unwrap_or_default();
        self.judged_since = began(longest);
        self.handed_over = record.handed_over && away <= HANDOVER_MAX;
    }

    /// No restart of an instance that was found before then: until then this life has not listened to it for a whole deadline.
    pub(crate) fn heard_out_at(&self, track: Track) -> Option<Mono> {
        let known = self.handed_over || self.beats.stands_confirmed();
        let listens = self.adopted && track == Track::Loop && !known;
        listens.then(|| self.witnessed_since + self.limits().deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_counted_in_eighths_from_where_they_matter() {
        let steps = |age| steps(Duration::from_secs(age), Duration::from_secs(80), Duration::from_secs(40));
        assert_eq!([0, 39, 40, 49, 50, 160, 10_000].map(steps), [0, 0, 4, 4, 5, 16, 16]);
    }
}
