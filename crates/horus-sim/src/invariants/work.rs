//! Declared work: its standstill is told within its bound, restarts are for what was declared and used to move, and only a move of
//! the work proves such a restart. What a loop does says nothing about it, in either direction.
//!
//! Its age only grows while its counter is heard, so everything here is looked at when something is heard:
//!
//! ```text
//!   from  = the latest of: its last move that was heard; the first time its counter was heard in this run; the start, the
//!           plan or the pardon from which it is judged; the end of what the program had declared
//!   stood = when its counter was last heard, less `from`
//!   told within the limit in force (doubled for each unproven kill, stretched under pressure) + 1 s; acted upon, or told why
//!   not, at twice that
//! ```

use horus_core::ids::Generation;
use horus_core::notice::IncidentKind;
use horus_core::observation::{Beat, Declared};
use horus_core::plan::{BeatPlan, ProgressPlan};
use horus_core::reason::{Reason, Rule};
use horus_core::time::Human;
use std::time::Duration;

use super::detection::{ACT_SLACK, SETTLE};
use super::seen::Seen;
use super::{Scene, Witness};
use crate::world::options::nanos;
use crate::world::queue::{Nanos, SECOND};

/// Whoever was spared is not condemned again for so long.
const SPARED_MAX: Nanos = 30 * SECOND;

/// What was heard of the declared work of the run that lives. Worlds declare one kind of work per service.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkSeen {
    count: Option<u64>,
    first: Option<Nanos>,
    pub(crate) moved: Option<Nanos>,
    /// The same, in whatever life of Horus.
    ever: Option<Nanos>,
    /// An earlier life has written down that it had moved.
    pub(super) remembered: bool,
    pub(crate) heard: Option<Nanos>,
    /// It was last heard that it has nothing to do.
    idle: Nanos,
    /// It was first heard then that it has stood for twice its limit.
    overdue: Option<Nanos>,
}

impl WorkSeen {
    /// What the next life of Horus may know of the same run. Its standstill counts from when that hears it.
    pub(super) fn of_earlier_lives(&self) -> Self {
        Self { count: self.count, ever: self.ever, ..Self::default() }
    }

    /// A beat was delivered.
    pub(crate) fn hear(&mut self, now: Nanos, beat: &Beat, work: &ProgressPlan) {
        if beat.declared == Some(Declared::Idle) {
            self.idle = now;
        }
        let Some(count) = beat.progress.get(&work.counter).copied() else { return };
        if self.count.is_some_and(|before| count > before) {
            (self.moved, self.ever) = (Some(now), Some(now));
        }
        self.first.get_or_insert(now);
        (self.count, self.heard) = (Some(count), Some(now));
    }

    /// Horus was late: what it did not look at counts for nobody.
    pub(crate) fn excuse(&mut self, moved: impl Fn(Nanos) -> Nanos) {
        for at in [&mut self.first, &mut self.moved, &mut self.ever, &mut self.heard, &mut self.overdue] {
            *at = at.map(&moved);
        }
        self.idle = moved(self.idle);
    }
}

impl Seen {
    /// Since when its work stands, as far as a bound can begin with it.
    fn work_stands_since(&self) -> Option<Nanos> {
        // What an earlier life has witnessed of the loop says nothing about the work.
        self.work_stands_from(self.judged_from.max(self.heard.adopted_at.unwrap_or_default()))
    }

    /// Since when its work stands, as far as anything can be held against it from an instant on.
    pub(crate) fn work_stands_from(&self, earliest: Nanos) -> Option<Nanos> {
        // What moved in an earlier life stands from when this one has heard it.
        let moved = self.work.moved.max(self.work.first)?;
        Some(moved.max(earliest).max(self.excused_until()).max(self.work.idle))
    }

    /// For how long its work was heard to stand.
    fn work_stood(&self) -> Option<Nanos> {
        Some(self.work.heard?.saturating_sub(self.work_stands_since()?))
    }
}

impl Witness {
    /// A limit of declared work, as it is in force; `None` while it is not clear which one is.
    fn limit_of_work(&self, scene: &Scene<'_>, place: usize) -> Option<Nanos> {
        let plan = scene.plan_of(place)?;
        let work = plan.progress.values().next()?;
        let limit = self.stretched(scene, place, nanos(work.stalled));
        let poll = plan.beats.iter().map(BeatPlan::every).max().map_or(0, nanos);
        let relaxed = self.register.pressed_at() + nanos(plan.deadline.max(work.stalled)) + poll + SECOND;
        (relaxed <= scene.now || self.register.pressed_at() == 0).then_some(limit)
    }

    /// Work that stands past its limit has a verdict, and past twice its limit it is acted upon or told. Looked at whenever
    /// something is heard of its service.
    pub(super) fn looks_at_work(&mut self, scene: &Scene<'_>, place: usize) {
        let seen = &self.seen[place];
        let ended = seen.signalled == Some(seen.generation);
        let paused = seen.declared == Declared::Halted || seen.excused_until() > scene.now;
        let stood = seen.work_stood().filter(|_| seen.alive && seen.ready && !ended && !paused);
        let Some(limit) = self.limit_of_work(scene, place) else { return };
        let (Some(stood), Some(heard)) = (stood, seen.work.heard) else {
            self.seen[place].work.overdue = None;
            return;
        };
        if stood >= limit && scene.now >= heard + SECOND {
            self.invariant_g4_stalled_work_reaches_its_verdict(scene, place, stood, limit);
        }
        let overdue = &mut self.seen[place].work.overdue;
        if stood < limit.saturating_mul(2) {
            *overdue = None;
            return;
        }
        let since = *overdue.get_or_insert(heard);
        self.invariant_g4_no_stalled_work_stays_untold(scene, place, since);
    }

    fn invariant_g4_stalled_work_reaches_its_verdict(
        &mut self,
        scene: &Scene<'_>,
        place: usize,
        stood: Nanos,
        limit: Nanos,
    ) {
        if self.seen[place].red || self.book.has_open(place, &[IncidentKind::Stuck]) {
            return;
        }
        let (stood, limit) = (Human(Duration::from_nanos(stood)), Human(Duration::from_nanos(limit)));
        let text =
            format!("its work was heard to stand for {stood}, the limit is {limit}, and it is not judged so");
        let subject = Self::name(scene, place);
        self.broken(scene, "invariant_g4_stalled_work_reaches_its_verdict", &subject, text);
    }

    fn invariant_g4_no_stalled_work_stays_untold(&mut self, scene: &Scene<'_>, place: usize, since: Nanos) {
        // A loop that stands by now is judged first, and told at twice its own deadline.
        let slack = ACT_SLACK + SPARED_MAX + 2 * self.patience(scene, place);
        let settled = self.register.settled() + SETTLE;
        if scene.now < since.max(settled).saturating_add(slack)
            || self.was_in_a_window(scene, place, 2 * slack)
        {
            return;
        }
        if !self.is_told(place) {
            let since = Human(Duration::from_nanos(scene.now.saturating_sub(since)));
            let text = format!("its work stands past twice its limit for {since}, and nobody was told");
            let subject = Self::name(scene, place);
            self.broken(scene, "invariant_g4_no_stalled_work_stays_untold", &subject, text);
        }
    }

    /// Only work that was declared, that used to move in this run, and that was heard to stand for twice its limit, is restarted
    /// for its standstill; never work that moves.
    pub(super) fn invariant_g1_moving_work_is_never_signalled(
        &mut self,
        scene: &Scene<'_>,
        place: usize,
        generation: Generation,
        reason: &Reason,
    ) {
        let (seen, now) = (&self.seen[place], scene.now);
        let human = |nanos: Nanos| Human(Duration::from_nanos(nanos));
        let declared = scene.plan_of(place).and_then(|plan| plan.progress.values().next());
        let truth = scene.places[place].process.as_ref().filter(|process| process.generation == generation);
        let moves = truth.and_then(|process| process.work_moves_since());
        let fault = match (declared, seen.work.ever) {
            (None, _) => Some("no work of it is declared".to_owned()),
            (Some(_), None) => Some("its work was never heard to move in this run".to_owned()),
            (Some(_), Some(_)) if seen.declared == Declared::Halted => {
                Some("it has said that it stopped itself on purpose".to_owned())
            }
            (Some(_), Some(_)) if seen.excused_until() > now => {
                Some("it has declared a long step".to_owned())
            }
            (Some(work), Some(moved)) if now.saturating_sub(moved) < 2 * nanos(work.stalled) => {
                Some(format!("its work was heard to move {} ago", human(now - moved)))
            }
            (Some(_), Some(_)) => moves
                .filter(|since| seen.work.heard.is_some_and(|heard| heard > *since))
                .map(|since| format!("its work has moved for {}, and that was heard", human(now - since))),
        };
        self.counts_judged(truth.is_some_and(|process| process.work_stands(now)), fault.is_some());
        self.counts.kills_of_stalled += 1;
        if let Some(why) = fault {
            let subject = Self::name(scene, place);
            let text = format!("{why}; it is signalled because: {reason}");
            self.broken(scene, "invariant_g1_moving_work_is_never_signalled", &subject, text);
        }
    }

    /// Whoever was restarted because its work stood still is proven by work that moves, not by a loop that turns.
    pub(super) fn invariant_g2_a_stall_is_proven_by_moving(&mut self, scene: &Scene<'_>, place: usize) {
        let ledger = &self.book.ledgers[place];
        let declared = scene.plan_of(place).is_some_and(|plan| !plan.progress.is_empty());
        if declared && ledger.unproven > 0 && ledger.stalled && self.seen[place].work.moved.is_none() {
            let text =
                "it was restarted because its work stood still; its work has not moved since".to_owned();
            let subject = Self::name(scene, place);
            self.broken(scene, "invariant_g2_a_stall_is_proven_by_moving", &subject, text);
        }
    }
}

/// Is this a restart for work that stands still?
pub(super) fn is_for_work(reason: &Reason) -> bool {
    reason.rule == Rule::Stalled
}
