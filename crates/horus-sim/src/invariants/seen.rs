//! What was delivered to Horus about a service: the signs of life that it *had*, whatever it made of them.

use std::time::Duration;

use horus_core::command::MemorySilence;
use horus_core::ids::{Generation, IncidentId};
use horus_core::observation::{Beat, Declared, KernelView, KernelWord};
use horus_core::plan::{BeatKind, BeatPlan, ServicePlan};

use super::lives::Heard;
use super::work::WorkSeen;
use crate::world::options::nanos;
use crate::world::queue::Nanos;

/// The longest time that a program may ask for at once, counted from its last fresh sign.
const EXTENSION_MAX: Nanos = 2 * crate::world::queue::HOUR;

/// A proof that was not renewed for so long is none: as long as a view counts, and as a decision takes.
const PROOF_LASTS: Nanos = crate::world::queue::MINUTE;

/// One source of beats, as it was heard.
#[derive(Clone, Debug)]
pub(crate) struct SourceSeen {
    kind: BeatKind,
    fingerprint: u64,
    tick: Option<u64>,
    /// The last tick that was heard of it in any life of Horus.
    known: Option<u64>,
    pub(crate) fresh: u32,
    last_fresh: Option<Nanos>,
}

impl SourceSeen {
    /// It was seen to move: a number that has changed, or more than one bare sign.
    fn moves(&self) -> bool {
        self.fresh >= 2 || (self.fresh > 0 && self.tick.is_some())
    }
}

/// A kill on its way: which of its conditions are met.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sentence {
    pub(crate) generation: Generation,
    pub(crate) evidence: bool,
    pub(crate) told: bool,
    pub(crate) confirm: Option<(IncidentId, Nanos)>,
    pub(crate) stored: bool,
    /// As many as the guard's share were red when it was decided, and somebody was waited for.
    pub(crate) not_alone: bool,
    /// The breaker was open when it was decided, since then: a person may close it before the signal.
    pub(crate) breaker_open: Option<Nanos>,
}

/// What Horus was told about the run that lives.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) generation: Generation,
    /// Horus knows of a living process.
    pub(crate) alive: bool,
    pub(crate) sources: Vec<SourceSeen>,
    /// Silence counts from here at the earliest; no bound begins before it.
    pub(crate) judged_from: Nanos,
    /// What stands still since before then is held against nobody. Limits that shrink do not move it.
    pub(crate) held_from: Nanos,
    pub(crate) last_fresh: Option<Nanos>,
    /// Fresh without a gap over the deadline since then.
    pub(crate) steady_from: Nanos,
    busy_until: Nanos,
    extended_until: Nanos,
    pub(crate) declared: Declared,
    /// A fresh tick of this run was heard, or an earlier life of Horus remembered one.
    pub(crate) ready: bool,
    pub(crate) sentence: Option<Sentence>,
    /// The run that a signal was sent to in this life of Horus.
    pub(crate) signalled: Option<Generation>,
    /// Orders of people and plans that lead to a signal, and how many of them were used up.
    pub(crate) wishes: u32,
    pub(crate) wishes_met: u32,
    /// The end that its next start has to keep a distance to: when, and the least delay.
    pub(crate) backoff: Option<(Nanos, Nanos)>,
    /// A run of a job ended as it should then.
    pub(crate) finished_at: Option<Nanos>,
    /// The last verdict was one of a fault.
    pub(crate) red: bool,
    /// One that a restart may cure: not that of a probe whose own path fails.
    pub(crate) at_fault: bool,
    /// For its work that stands still, not for its loop.
    by_work: bool,
    /// When the silence began for which it was first judged so.
    pub(crate) onset: Option<Nanos>,
    /// The kernel showed it stuck: when that was last told, and for how long it had lasted.
    stuck: Option<(Nanos, Nanos)>,
    /// Its declared work.
    pub(crate) work: WorkSeen,
    /// What was heard of this run in all lives of Horus.
    pub(crate) heard: Heard,
}

impl Seen {
    pub(crate) fn new(plan: Option<&ServicePlan>) -> Self {
        let mut seen = Self {
            generation: Generation::default(),
            alive: false,
            sources: Vec::new(),
            judged_from: 0,
            held_from: 0,
            last_fresh: None,
            steady_from: 0,
            busy_until: 0,
            extended_until: 0,
            declared: Declared::Ok,
            ready: false,
            sentence: None,
            signalled: None,
            wishes: 0,
            wishes_met: 0,
            backoff: None,
            finished_at: None,
            red: false,
            at_fault: false,
            by_work: false,
            onset: None,
            stuck: None,
            work: WorkSeen::default(),
            heard: Heard::default(),
        };
        seen.listen(plan.map_or(&[], |plan| &plan.beats));
        seen
    }

    /// Told what the kernel shows of it.
    pub(crate) fn views(&mut self, now: Nanos, view: &KernelView) {
        let lasted = u64::try_from(view.lasted.as_nanos()).unwrap_or(Nanos::MAX);
        self.stuck = (view.word == KernelWord::Blocked).then_some((now, lasted));
    }

    /// It was shown stuck for a whole deadline, and not otherwise since: a restart needs no second deadline.
    pub(crate) fn is_proven_dead(&self, now: Nanos, deadline: Nanos) -> bool {
        self.stuck.is_some_and(|(at, lasted)| lasted >= deadline && now.saturating_sub(at) <= PROOF_LASTS)
    }

    /// Follows these sources; those that stay what they were keep what was heard.
    pub(crate) fn listen(&mut self, beats: &[BeatPlan]) {
        let old = std::mem::take(&mut self.sources);
        self.sources = beats
            .iter()
            .map(|beat| {
                let (kind, fingerprint) = (beat.kind(), beat.fingerprint());
                let kept = old.iter().find(|source| source.fingerprint == fingerprint).cloned();
                kept.unwrap_or(SourceSeen {
                    kind,
                    fingerprint,
                    tick: None,
                    known: None,
                    fresh: 0,
                    last_fresh: None,
                })
            })
            .collect();
        self.last_fresh = self.sources.iter().filter_map(|source| source.last_fresh).max();
    }

    /// A process of this run is there.
    pub(crate) fn begin(&mut self, now: Nanos, generation: Generation, plan: Option<&ServicePlan>) {
        let (wishes, wishes_met) = (self.wishes, self.wishes_met);
        let known: Vec<_> = self.sources.iter().map(|source| (source.fingerprint, source.known)).collect();
        let (heard, work, same) = (self.heard, self.work.of_earlier_lives(), self.generation == generation);
        *self = Self::new(plan);
        if same {
            (self.heard, self.work) = (heard, work);
            for source in &mut self.sources {
                source.known =
                    known.iter().find(|(of, _)| *of == source.fingerprint).and_then(|(_, tick)| *tick);
            }
        }
        (self.heard.rules_from, self.heard.from) = (heard.rules_from, now);
        (self.wishes, self.wishes_met) = (wishes, wishes_met);
        (self.generation, self.alive) = (generation, true);
        self.begin_anew(now);
    }

    /// An earlier life of Horus had heard these sources move.
    pub(crate) fn remember(&mut self, now: Nanos, moved: &[u64]) {
        self.heard.adopted_at = Some(now);
        for source in self.sources.iter_mut().filter(|source| moved.contains(&source.fingerprint)) {
            (source.fresh, source.last_fresh) = (2, Some(now));
            (self.ready, self.last_fresh) = (true, Some(now));
        }
    }

    /// Where its ticks stood is known from such a record.
    pub(crate) fn knows_ticks(&mut self, record: &MemorySilence) {
        for kept in &record.sources {
            let of_it = |source: &&mut SourceSeen| source.fingerprint == kept.source && source.moves();
            if let Some(source) = self.sources.iter_mut().find(of_it) {
                source.tick = kept.tick;
            }
        }
    }

    /// Since when the whole of it counts as silent by such a record: `None` if one of those that used to move is not in it.
    pub(crate) fn goes_on_from(&self, record: &MemorySilence, until: Nanos) -> Option<Nanos> {
        let youngest = self.youngest(record);
        (youngest > 0).then(|| until.saturating_sub(youngest))
    }

    /// The age of the youngest silence of those that used to move; 0 if one of them is not silent by that record.
    pub(crate) fn youngest(&self, record: &MemorySilence) -> Nanos {
        let moving = self.sources.iter().filter(|source| source.moves());
        let ages = moving.map(|source| {
            let kept = record.sources.iter().find(|kept| kept.source == source.fingerprint);
            kept.map_or(0, |kept| nanos(kept.age))
        });
        ages.min().unwrap_or_default()
    }

    /// Any of its sources was seen to move.
    pub(crate) fn ticks_or_beats_moved(&self) -> bool {
        self.sources.iter().any(SourceSeen::moves)
    }

    /// A beat was delivered. True if it was a fresh sign of life.
    pub(crate) fn hear(&mut self, now: Nanos, beat: &Beat, deadline: Duration) -> bool {
        if let Some(declared) = beat.declared {
            let paused = matches!(self.declared, Declared::Busy(_) | Declared::Idle);
            if paused && std::mem::discriminant(&self.declared) != std::mem::discriminant(&declared) {
                // The next turn of its loop is yet to come.
                (self.judged_from, self.held_from) = (self.judged_from.max(now), self.held_from.max(now));
            }
            self.declared = declared;
            self.busy_until = match declared {
                Declared::Busy(left) => self.granted(now, left),
                Declared::Ok | Declared::Idle | Declared::Halted => 0,
            };
            if declared != Declared::Ok && !self.at_fault {
                // What it declares is no silence: whatever is held against it begins later.
                self.onset = None;
            }
        }
        let Some(source) = self.sources.iter_mut().find(|source| source.kind == beat.source) else {
            return false;
        };
        let fresh = match (beat.tick, source.tick) {
            (None, before) => before.is_none(),
            (Some(_), None) => source.fresh > 0,
            (Some(new), Some(old)) => new != old,
        };
        // The first tick of a life counts for fresh where nothing was written down; it is one only if it has moved.
        let moved = beat.tick.is_none() || beat.tick != source.known;
        source.known = beat.tick.or(source.known);
        source.tick = beat.tick.or(source.tick);
        if fresh {
            source.fresh = source.fresh.saturating_add(1);
            source.last_fresh = Some(now);
            self.freshen(now, deadline);
            if moved {
                self.heard.freshens(now);
            }
        }
        fresh
    }

    /// Its tick was seen to move.
    pub(crate) fn ticks_moved(&self) -> bool {
        self.sources.iter().any(|source| source.kind == BeatKind::Http && source.fresh > 0)
    }

    /// READY=1 was delivered.
    pub(crate) fn hear_ready(&mut self, now: Nanos, deadline: Duration) {
        if let Some(source) = self.sources.iter_mut().find(|source| source.kind == BeatKind::Notify) {
            source.last_fresh = Some(now);
            self.freshen(now, deadline);
            self.heard.freshens(now);
        }
    }

    fn freshen(&mut self, now: Nanos, deadline: Duration) {
        if !self.ready || self.last_fresh.is_none_or(|last| now - last > nanos(deadline)) {
            self.steady_from = now;
        }
        (self.ready, self.last_fresh) = (true, Some(now));
        // A loop that turns says nothing about work.
        self.onset = self.onset.filter(|_| self.by_work);
    }

    /// It asks for time.
    pub(crate) fn grant(&mut self, now: Nanos, extend: Duration) {
        self.extended_until = self.extended_until.max(self.granted(now, extend));
    }

    fn granted(&self, now: Nanos, extend: Duration) -> Nanos {
        let bound = self.last_fresh.unwrap_or(now).saturating_add(EXTENSION_MAX);
        now.saturating_add(nanos(extend)).min(bound)
    }

    /// Since when a fresh sign of it is missing, as far as anything can be held against it.
    pub(crate) fn silent_since(&self) -> Nanos {
        self.last_fresh.unwrap_or_default().max(self.judged_from).max(self.excused_until())
    }

    /// Other limits are in force: no bound begins before now, but its silence began when it did.
    pub(crate) fn limits_shrink(&mut self, now: Nanos) {
        self.onset.get_or_insert(self.faulty_since());
        self.judged_from = now;
    }

    /// Since when that is missing for which it is judged to be at fault.
    pub(crate) fn faulty_since(&self) -> Nanos {
        let work = self.work_stands_from(self.held_from).filter(|_| self.by_work);
        work.unwrap_or_else(|| self.silent_since())
    }

    /// It is judged to be at fault in a way that a restart may cure, or not; for its work, or for its loop.
    pub(crate) fn judged(&mut self, at_fault: bool, by_work: bool) {
        if by_work != self.by_work {
            self.onset = None;
        }
        (self.at_fault, self.by_work) = (at_fault, by_work);
        if at_fault && self.onset.is_none() {
            self.onset = Some(self.faulty_since());
        }
    }

    /// It was judged to be at fault in a way that a restart is the answer to, and its tick was seen to move before.
    pub(crate) fn asks_for_a_restart(&self) -> bool {
        let halted = self.declared == Declared::Halted;
        self.alive
            && self.ready
            && self.at_fault
            && !halted
            && if self.by_work {
                self.work.moved.is_some() || self.work.remembered
            } else {
                self.sources.iter().any(SourceSeen::moves)
            }
    }

    /// Nothing is overdue before then.
    pub(crate) fn excused_until(&self) -> Nanos {
        self.busy_until.max(self.extended_until)
    }

    /// What lies before proves nothing.
    pub(crate) fn begin_anew(&mut self, now: Nanos) {
        (self.judged_from, self.steady_from, self.held_from) = (now, now, now);
    }

    /// Horus was late: what it did not look at counts for nobody.
    pub(crate) fn excuse(&mut self, now: Nanos, late: Nanos) {
        let moved = |at: Nanos| at.saturating_add(late).min(now);
        self.work.excuse(moved);
        self.heard.excuse(moved);
        self.last_fresh = self.last_fresh.map(moved);
        for source in &mut self.sources {
            source.last_fresh = source.last_fresh.map(moved);
        }
        for at in [&mut self.judged_from, &mut self.held_from, &mut self.steady_from] {
            *at = moved(*at);
        }
        for until in [&mut self.busy_until, &mut self.extended_until] {
            *until += if *until > 0 { late } else { 0 };
        }
    }
}
