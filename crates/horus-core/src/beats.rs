//! The loop axis: what an instance's beats say about its loop.
//!
//! Think of a lighthouse keeper with a stopwatch. What is measured is the *age* of the last fresh tick: it grows for as
//! long as a fault lasts, whatever is sampled when. What was heard instead of a beat only decides what the silence
//! is called: nobody answers (silent), somebody answers with a tick that stands still (lying), or the way to the
//! program is broken (unreachable) and nothing is known about it.
//!
//! Rejected: counting "N bad probes in a row". It judges the prober's rhythm, not the program, and resets itself.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::command::MemorySource;
use crate::observation::{Beat, ProbeFault};
use crate::plan::{BeatKind, BeatPlan};
use crate::time::{Human, Mono};
use crate::verdict::LoopAxis;

/// All beat sources of one instance. Ages end with the instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beats {
    sources: BTreeMap<BeatKind, Source>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    fingerprint: u64,
    gap: Duration,
    pub(crate) last_fresh: Option<Mono>,
    pub(crate) last_heard: Option<Mono>,
    /// Its first tick was heard.
    first_tick: Option<Mono>,
    pub(crate) tick: Option<u64>,
    pub(crate) loop_lag_ms: Option<f64>,
    /// Fresh ticks so far; saturates.
    fresh: u32,
    /// The last probe's fault, if the last thing heard was one.
    pub(crate) fault: Option<(ProbeFault, String)>,
    /// The strongest evidence against the program since the last fresh tick.
    strongest: Option<ProbeFault>,
    /// An earlier life had heard nothing fresh of it since then: taken up with the first word that is no fresh tick.
    silent_before: Option<Mono>,
    /// The tick at which an earlier life saw it stand was heard again.
    confirmed: bool,
}

/// What a source's silence is to be called once it is long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Silence {
    /// Nothing is known about the loop.
    Unreachable,
    /// Nobody answers.
    Silent,
    /// Somebody answers, the tick stands still.
    Lying,
}

impl Beats {
    /// One track for each source of the plan.
    pub(crate) fn new(plans: &[BeatPlan]) -> Self {
        let mut beats = Self::default();
        beats.retune(plans);
        beats
    }

    /// Keeps what is known of sources that stay what they were, forgets the others.
    pub(crate) fn retune(&mut self, plans: &[BeatPlan]) {
        let listens = |source: &Source| plans.iter().any(|plan| plan.fingerprint() == source.fingerprint);
        self.sources.retain(|_, source| listens(source));
        for plan in plans {
            let fingerprint = plan.fingerprint();
            self.sources.entry(plan.kind()).or_insert(Source { fingerprint, ..Source::default() });
        }
    }

    /// An adopted instance: the silence of those sources whose tick was known to move counts from now. False if there
    /// is none of them: nothing is known to move.
    #[must_use]
    pub(crate) fn assume_moving(&mut self, now: Mono, moved: &[u64]) -> bool {
        for source in self.sources.values_mut().filter(|source| moved.contains(&source.fingerprint)) {
            source.last_fresh = Some(now);
            source.fresh = 2;
        }
        self.last_fresh().is_some()
    }

    /// An earlier life has witnessed a silence of this source, which counts from `since`, if it counts at all. One that is asked has to be heard first;
    /// of one that speaks by itself the silence is all that can be heard.
    pub(crate) fn take_up(&mut self, remembered: &MemorySource, since: Option<Mono>) {
        let of_it = |(_, source): &(&BeatKind, &mut Source)| source.fingerprint == remembered.source;
        let Some((kind, source)) = self.sources.iter_mut().find(of_it) else { return };
        if !source.moves() {
            return;
        }
        // However long ago: a tick that stands where it stood is none.
        source.tick = remembered.tick;
        let Some(since) = since else { return };
        source.strongest = remembered.strongest;
        match kind {
            BeatKind::Notify | BeatKind::Log => source.last_fresh = Some(since),
            BeatKind::Http | BeatKind::Tcp | BeatKind::File | BeatKind::Exec => {
                source.silent_before = Some(since)
            }
        }
    }

    /// All that used to move were heard to stand where an earlier life saw them stand.
    pub(crate) fn stands_confirmed(&self) -> bool {
        let mut moving = self.sources.values().filter(|source| source.moves()).peekable();
        moving.peek().is_some() && moving.all(|source| source.confirmed)
    }

    /// The sources whose tick used to move and that are silent for at least so long.
    pub(crate) fn silences(&self, age: impl Fn(Mono) -> Duration, least: Duration) -> Vec<MemorySource> {
        let silent = self.sources.values().filter(|source| source.moves()).filter_map(|source| {
            let age = age(source.silent_before.or(source.last_fresh)?);
            let (tick, strongest) = (source.tick, source.strongest);
            (age >= least).then_some(MemorySource { source: source.fingerprint, tick, strongest, age })
        });
        silent.collect()
    }

    /// The last fresh signs of those that used to move.
    pub(crate) fn moving_since(&self) -> impl Iterator<Item = Mono> {
        let moving = self.sources.values().filter(|source| source.moves());
        moving.filter_map(|source| source.silent_before.or(source.last_fresh))
    }

    /// The sources whose tick was seen to move.
    pub(crate) fn moved(&self) -> Vec<u64> {
        self.sources.values().filter(|source| source.moves()).map(|source| source.fingerprint).collect()
    }

    /// The longest gap between two fresh ticks that is usual: the longest one lately, forgotten slowly.
    pub(crate) fn usual_gap(&self) -> Duration {
        self.sources
            .values()
            .filter(|source| source.moves())
            .map(|source| source.gap)
            .max()
            .unwrap_or_default()
    }

    /// The sources that have a say about when the beats stopped: those that were seen to move. One that never beat, or
    /// only ever said that it is ready, neither contradicts the others nor speaks for them.
    fn voices(&self) -> impl Iterator<Item = (BeatKind, &Source)> {
        let any = self.used_to_move();
        let voices = self.sources.iter().filter(move |(_, source)| source.moves() || !any);
        voices.filter(|(_, source)| source.last_fresh.is_some()).map(|(kind, source)| (*kind, source))
    }

    pub(crate) fn sources(&self) -> impl Iterator<Item = (BeatKind, &Source)> {
        self.sources.iter().map(|(kind, source)| (*kind, source))
    }

    pub(crate) fn has_sources(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Takes a beat; true if it is fresh. The first tick of an instance is only a mark to compare with: a still tick
    /// behind a friendly answer must not end the startup.
    #[must_use]
    pub(crate) fn hear(&mut self, now: Mono, beat: &Beat) -> bool {
        let Some(source) = self.sources.get_mut(&beat.source) else { return false };
        let fresh = match (beat.tick, source.tick) {
            (None, None) => true,
            // A source that carries a tick beats by it alone: a helper thread's bare beat does not hide a still one.
            (None, Some(_)) => false,
            (Some(_), None) => source.fresh > 0,
            (Some(new), Some(old)) => new != old,
        };
        source.last_heard = Some(now);
        source.fault = None;
        if beat.tick.is_some() {
            source.first_tick.get_or_insert(now);
        }
        source.confirmed |= !fresh && source.silent_before.is_some() && beat.tick == source.tick;
        source.tick = beat.tick.or(source.tick);
        source.loop_lag_ms = beat.loop_lag_ms.or(source.loop_lag_ms);
        if fresh {
            let gap = source.last_fresh.map_or(Duration::ZERO, |before| now.since(before));
            source.gap = gap.max(source.gap / 8 * 7);
            source.last_fresh = Some(now);
            source.fresh = source.fresh.saturating_add(1);
            source.strongest = None;
            (source.silent_before, source.confirmed) = (None, false);
        }
        source.go_on_being_silent();
        fresh
    }

    /// A source that has no more to say than "I am ready" counts as a first tick. False if there is no such source.
    #[must_use]
    pub(crate) fn hear_ready(&mut self, now: Mono) -> bool {
        let Some(source) = self.sources.get_mut(&BeatKind::Notify) else { return false };
        source.last_heard = Some(now);
        source.last_fresh = Some(now);
        source.strongest = None;
        true
    }

    pub(crate) fn miss(&mut self, kind: BeatKind, fault: ProbeFault, detail: String) {
        let Some(source) = self.sources.get_mut(&kind) else { return };
        source.strongest = source.strongest.max(Some(fault));
        source.fault = Some((fault, detail));
        if fault != ProbeFault::Prober {
            source.go_on_being_silent();
        }
    }

    /// Time in which Horus itself did not look is not held against the program.
    pub(crate) fn excuse(&mut self, now: Mono, late: Duration) {
        for source in self.sources.values_mut() {
            source.last_fresh = source.last_fresh.map(|at| (at + late).min(now));
            source.last_heard = source.last_heard.map(|at| (at + late).min(now));
            source.first_tick = source.first_tick.map(|at| (at + late).min(now));
            source.silent_before = source.silent_before.map(|at| (at + late).min(now));
        }
    }

    /// The last fresh tick of any source.
    pub(crate) fn last_fresh(&self) -> Option<Mono> {
        self.sources.values().filter_map(|source| source.last_fresh).max()
    }

    /// A source that has moved before: only against such a one does absence count.
    pub(crate) fn used_to_move(&self) -> bool {
        self.sources.values().any(Source::moves)
    }

    /// Where the loop stands, given how long it has been without a fresh tick.
    pub(crate) fn axis(
        &self,
        now: Mono,
        age: Duration,
        late_after: Duration,
        deadline: Duration,
    ) -> LoopAxis {
        if self.last_fresh().is_none() {
            LoopAxis::Unknown
        } else if age < late_after.min(deadline) {
            LoopAxis::Beating
        } else if age < deadline {
            LoopAxis::Late
        } else {
            match self.voices().map(|(kind, source)| source.silence(kind, now, deadline)).max() {
                Some(Silence::Lying) => LoopAxis::Lying,
                Some(Silence::Silent) => LoopAxis::Silent,
                Some(Silence::Unreachable) | None => LoopAxis::Unreachable,
            }
        }
    }

    /// A source that is silent past `limit` (counted from `since` at the earliest) while another one beats, with what it
    /// says.
    pub(crate) fn disagreement(&self, now: Mono, since: Mono, limit: Duration) -> Option<String> {
        let stale = |source: &Source| source.last_fresh.is_some_and(|at| now.since(at.max(since)) >= limit);
        let beating = self.voices().find(|(_, source)| !stale(source))?.0;
        let still = |source: &Source| {
            let long = source.first_tick.is_some_and(|at| now.since(at.max(since)) >= limit);
            long && !source.moves() && source.last_heard.is_some_and(|at| now.since(at) < limit)
        };
        // Its tick never moved, so its silence proves nothing; but it answers, and another one speaks for it.
        if let Some((kind, source)) = self.sources.iter().find(|(_, source)| still(source)) {
            let tick = source.tick.unwrap_or_default();
            return Some(format!(
                "{}: tick never moved from {tick} while {} beats",
                kind.word(),
                beating.word()
            ));
        }
        let (kind, source) = self.voices().find(|(_, source)| stale(source))?;
        let age = Human(now.since(source.last_fresh?));
        Some(format!("{} silent for {age} while {} beats", kind.word(), beating.word()))
    }

    /// What is heard instead of a fresh tick, as a sentence fragment.
    pub(crate) fn heard(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        for (kind, source) in &self.sources {
            parts.push(match (&source.fault, source.last_heard, source.tick) {
                (Some((_, detail)), _, _) => format!("{}: {detail}", kind.word()),
                (None, Some(_), Some(tick)) => format!("{}: tick stands still at {tick}", kind.word()),
                (None, Some(_), None) => format!("{}: nothing since", kind.word()),
                (None, None, _) => format!("{}: nothing yet", kind.word()),
            });
        }
        parts.join(", ")
    }
}

impl Source {
    /// It was heard, and it was no fresh tick: what an earlier life has witnessed counts.
    fn go_on_being_silent(&mut self) {
        self.last_fresh = self.silent_before.take().or(self.last_fresh);
    }

    /// A tick is compared with the one before; a beat without one has to have come twice.
    fn moves(&self) -> bool {
        self.fresh >= if self.tick.is_some() { 1 } else { 2 }
    }

    fn silence(&self, kind: BeatKind, now: Mono, deadline: Duration) -> Silence {
        let answers = self.last_heard.is_some_and(|heard| {
            now.since(heard) < deadline && self.last_fresh.is_some_and(|fresh| heard > fresh)
        });
        match kind {
            // Pushed, or written by the program itself: not to arrive is all that these can do.
            BeatKind::Notify | BeatKind::Log if answers => Silence::Lying,
            BeatKind::Notify | BeatKind::Log => Silence::Silent,
            // A file that is there and does not change: nobody writes it.
            BeatKind::File if answers => Silence::Silent,
            BeatKind::Http | BeatKind::Tcp | BeatKind::Exec if answers => Silence::Lying,
            // The check ran and said no, or did not end.
            BeatKind::Exec => match self.strongest {
                Some(ProbeFault::NoAnswer | ProbeFault::NotABeat) => Silence::Silent,
                _ => Silence::Unreachable,
            },
            BeatKind::Http | BeatKind::Tcp | BeatKind::File => match self.strongest {
                Some(ProbeFault::NoAnswer) => Silence::Silent,
                _ => Silence::Unreachable,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::HttpBeat;

    const D: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Mono {
        Mono::from_origin(Duration::from_secs(seconds))
    }

    fn http() -> Beats {
        Beats::new(&[BeatPlan::Http(HttpBeat {
            url: "http://127.0.0.1:1/".into(),
            every: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            seq: Some("/seq".into()),
            progress: None,
            state: None,
            lag: None,
            gauges: None,
        })])
    }

    fn beat(tick: Option<u64>) -> Beat {
        Beat {
            source: BeatKind::Http,
            tick,
            progress: BTreeMap::new(),
            declared: None,
            gauges: BTreeMap::new(),
            loop_lag_ms: None,
        }
    }

    #[test]
    fn a_still_tick_never_becomes_fresh() {
        let mut beats = http();
        for second in 0..100 {
            assert!(!beats.hear(at(second), &beat(Some(7))));
        }
        assert_eq!(beats.axis(at(100), D, D / 2, D), LoopAxis::Unknown);
        assert!(beats.hear(at(101), &beat(Some(8))));
        assert!(beats.used_to_move());
    }

    #[test]
    fn silence_is_named_by_the_strongest_evidence() {
        let moved = || {
            let mut beats = http();
            let _ = beats.hear(at(0), &beat(Some(1)));
            assert!(beats.hear(at(1), &beat(Some(2))));
            beats
        };
        let axis = |beats: &Beats| beats.axis(at(21), Duration::from_secs(20), D / 2, D);

        let mut refused = moved();
        refused.miss(BeatKind::Http, ProbeFault::NoPath, "connection refused".into());
        assert_eq!(axis(&refused), LoopAxis::Unreachable);

        // First no answer on a fresh connection, then the accept queue is full and connects time out: still silent.
        let mut hung = moved();
        hung.miss(BeatKind::Http, ProbeFault::NoAnswer, "no answer in 1 s".into());
        hung.miss(BeatKind::Http, ProbeFault::NoPath, "connect timed out".into());
        assert_eq!(axis(&hung), LoopAxis::Silent);

        let mut firewalled = moved();
        firewalled.miss(BeatKind::Http, ProbeFault::ReusedConnectionSilent, "no answer".into());
        firewalled.miss(BeatKind::Http, ProbeFault::NoPath, "connect timed out".into());
        assert_eq!(axis(&firewalled), LoopAxis::Unreachable);

        let mut liar = moved();
        for second in 2..21 {
            assert!(!liar.hear(at(second), &beat(Some(2))));
        }
        assert_eq!(axis(&liar), LoopAxis::Lying);
    }

    #[test]
    fn excused_time_is_not_charged() {
        let mut beats = http();
        let _ = beats.hear(at(0), &beat(Some(1)));
        assert!(beats.hear(at(1), &beat(Some(2))));
        beats.excuse(at(31), Duration::from_secs(29));
        assert_eq!(beats.last_fresh(), Some(at(30)));
    }
}
