//! G4: every permanent fault reaches its verdict within its bound, whatever the phase of the probes.
//!
//! The register knows when each program truly began to hang. Its bound is worked out here:
//!
//! ```text
//!   start = the latest of: the hang itself; the last sign that was still on its way; the plan, the adoption or the pardon
//!           from which silence counts; the end of what the program had declared
//!   bound = deadline in force (doubled for each unproven kill) + longest poll + 1 s      ready programs
//!           twice that deadline + poll + 1 s                                             a helper goes on beating
//!           startup cap (doubled for each start that passed it) + 1 s                    programs that never were ready
//! ```
//!
//! Time in which Horus itself got no processor is added: it is charged to nobody.

use std::time::Duration;

use horus_core::notice::IncidentKind;
use horus_core::plan::{BeatPlan, ServicePlan};

use super::{Scene, Witness};
use crate::world::options::{Mishap, nanos};
use crate::world::queue::{Nanos, SECOND};

/// What is waited for beyond twice the deadline: evidence, the store, a second for each.
pub(super) const ACT_SLACK: Nanos = 18 * SECOND;

/// Whether a maintenance window still goes on is looked at so often.
const WINDOW_LOOK: Nanos = 30 * SECOND;

/// What became of a hang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It lasts, and nobody has seen it.
    Unseen,
    /// It was seen.
    Seen,
    /// It came back by itself before its bound.
    Healed,
    /// Its process ended, or was told to, before its bound.
    Ended,
}

/// A program that truly hangs.
#[derive(Clone, Debug)]
pub(crate) struct Hang {
    pub(crate) place: usize,
    pub(crate) process: u32,
    pub(crate) how: Mishap,
    pub(crate) began: Nanos,
    /// Lateness of Horus before it began.
    late_before: Nanos,
    pub(crate) fate: Fate,
    /// It has not healed, and its process lives.
    lasts: bool,
}

/// All hangs of a world, and what its clocks went through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Register {
    pub(crate) hangs: Vec<Hang>,
    /// By how much Horus came late so far.
    pub(crate) lateness: Nanos,
    /// How much of that it has excused.
    pub(crate) excused: Nanos,
    /// Time in which it truly got no processor.
    pub(crate) starved: Nanos,
    /// Time in which the machine was suspended: ages that went through a file count it.
    pub(crate) slept: Nanos,
    /// Ages that went through a file are not to be trusted any more.
    pub(crate) clock_was_set: bool,
    /// The last time that it was.
    clock_set_at: Nanos,
    /// Delays of detection over their bounds, in thousandths.
    pub(crate) delays: Vec<u32>,
    /// Limits are stretched to so many per cent, since then. 0: not stretched yet.
    slow: (u64, Nanos),
    /// Something last happened to the machine that lets everybody settle.
    settled_at: Nanos,
}

/// After a suspend, a clock step or a standstill of Horus nothing is killed for so long.
pub(super) const SETTLE: Nanos = 30 * SECOND;
/// Own lateness from which on everybody is let settle.
const SETTLES_FROM: Nanos = 5 * SECOND;

impl Register {
    /// Everybody waits for such a share of the time: limits are stretched, in seven steps from a fifth to four fifths.
    pub(crate) fn feels_pressure(&mut self, now: Nanos, share: f64) {
        let over = ((share - 0.2) / 0.6).clamp(0.0, 1.0);
        let step = (0..=6_u32).rev().find(|step| over * 6.0 + 1e-9 >= f64::from(*step)).unwrap_or(0);
        let percent = 100 + u64::from(step) * 50;
        if percent != self.percent() {
            self.slow = (percent, now);
        }
    }

    /// Limits are stretched to so many per cent.
    pub(crate) fn percent(&self) -> u64 {
        self.slow.0.max(100)
    }

    /// Whoever had seen them is gone: the next Horus has to see them itself.
    pub(crate) fn unsees(&mut self) {
        for hang in self.hangs.iter_mut().filter(|hang| hang.fate == Fate::Seen) {
            hang.fate = if hang.lasts { Fate::Unseen } else { Fate::Seen };
        }
    }

    /// When limits were last stretched, or shrank. 0: never.
    pub(super) fn pressed_at(&self) -> Nanos {
        self.slow.1
    }

    /// Something last happened to the machine then that lets everybody settle.
    pub(super) fn settled(&self) -> Nanos {
        self.settled_at
    }

    /// The time of day is set.
    pub(crate) fn clock_is_set(&mut self, now: Nanos) {
        (self.clock_was_set, self.clock_set_at) = (true, now);
    }

    /// Nothing is killed for a while.
    pub(crate) fn settles(&mut self, now: Nanos) {
        self.settled_at = now;
    }

    /// Horus was late, and says so.
    pub(crate) fn is_late(&mut self, now: Nanos, late: Nanos) {
        self.lateness += late;
        // The grace of longer limits runs on the same clock as everything that Horus charges.
        if self.slow.1 > 0 {
            self.slow.1 += late;
        }
        if late >= SETTLES_FROM {
            self.settles(now);
        }
    }
}

/// What a check of a hang found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Nothing more to look at.
    Over,
    /// Look again then.
    At(Nanos),
}

impl Witness {
    /// A program begins to hang. The number of the hang, if it can be seen at all by the beats of its plan.
    pub(crate) fn hang_begins(&mut self, scene: &Scene<'_>, place: usize, how: Mishap) -> Option<usize> {
        let plan = scene.plan_of(place)?;
        let process = scene.places[place].process.as_ref()?.serial;
        if plan.beats.is_empty() {
            return None;
        }
        let late_before = self.register.lateness;
        let hang =
            Hang { place, process, how, began: scene.now, late_before, fate: Fate::Unseen, lasts: true };
        self.register.hangs.push(hang);
        Some(self.register.hangs.len() - 1)
    }

    /// It hangs no more.
    pub(crate) fn hang_ends(&mut self, scene: &Scene<'_>, place: usize, fate: Fate) {
        let hang = scene.places[place].process.as_ref().and_then(|process| process.hang);
        let Some(hang) = hang.and_then(|hang| self.register.hangs.get_mut(hang)) else { return };
        hang.lasts = false;
        if hang.fate == Fate::Unseen {
            hang.fate = fate;
        }
    }

    /// A verdict of a fault was reached about this service.
    pub(super) fn detects(&mut self, scene: &Scene<'_>, place: usize) {
        let Some(number) = scene.places[place].process.as_ref().and_then(|process| process.hang) else {
            return;
        };
        let Some(hang) = self.register.hangs.get(number).filter(|hang| hang.fate == Fate::Unseen).cloned()
        else {
            return;
        };
        let Some((start, bound)) = self.bound(scene, &hang) else { return };
        let waited = scene.now.saturating_sub(start);
        self.register
            .delays
            .push(u32::try_from(waited.saturating_mul(1000) / bound.max(1)).unwrap_or(u32::MAX));
        if waited > bound {
            self.late(scene, number, start, bound);
        }
        self.register.hangs[number].fate = Fate::Seen;
    }

    /// An incident was opened: a start that is overdue is a hang that was seen.
    pub(super) fn opens(&mut self, scene: &Scene<'_>, place: usize, kind: IncidentKind) {
        if matches!(kind, IncidentKind::StartOverdue | IncidentKind::Stuck | IncidentKind::ProbePath) {
            self.detects(scene, place);
        }
    }

    /// From when a hang is charged, and how long it may take to be seen. `None`: Horus does not know of the process.
    pub(crate) fn bound(&self, scene: &Scene<'_>, hang: &Hang) -> Option<(Nanos, Nanos)> {
        let (plan, seen) = (scene.plan_of(hang.place)?, &self.seen[hang.place]);
        if !seen.alive || seen.sources.is_empty() {
            return None;
        }
        let late = self.register.lateness.saturating_sub(hang.late_before);
        let start = hang.began.saturating_add(late).max(seen.judged_from).max(seen.excused_until());
        if !seen.ready {
            let cap = nanos(plan.startup) << self.overdue[hang.place].min(5);
            return Some((start, cap + SECOND));
        }
        let patience = self.patience(scene, hang.place);
        let poll = plan.beats.iter().map(BeatPlan::every).max().map_or(0, nanos);
        if hang.how == Mishap::Helped && !seen.ticks_moved() {
            // A source that never moved neither contradicts another one nor speaks for it.
            return None;
        }
        let deadlines = if hang.how == Mishap::Helped { 2 } else { 1 };
        let bound = patience * deadlines + poll + SECOND;
        // What an earlier life has witnessed counts when the first poll has been answered: half a deadline is time enough for it.
        let found = seen.heard.adopted_at.unwrap_or_default();
        let start = start.max(found.saturating_sub(patience / 2));
        // Polls before the hang may have been lost: then the last turn of the loop is heard of long after it.
        let start = start.max(seen.last_fresh.unwrap_or_default().saturating_sub(poll));
        // Limits that shrink in the middle of a silence stay in force for another deadline.
        let relaxed = self.register.slow.1 + slow_grace(plan) + poll + SECOND;
        Some((start.max(relaxed.saturating_sub(bound)), bound))
    }

    /// The deadline in force: doubled for each unproven kill, as often as kills are allowed at all.
    pub(crate) fn patience(&self, scene: &Scene<'_>, place: usize) -> Nanos {
        scene.plan_of(place).map_or(Nanos::MAX, |plan| self.stretched(scene, place, nanos(plan.deadline)))
    }

    /// A limit of the plan, as it is in force.
    pub(super) fn stretched(&self, scene: &Scene<'_>, place: usize, limit: Nanos) -> Nanos {
        let Some(plan) = scene.plan_of(place) else { return Nanos::MAX };
        let doublings = self.book.ledgers[place].unproven.min(plan.kills.limit.saturating_sub(1)).min(10);
        limit.saturating_mul(1 << doublings) / 100 * self.register.percent()
    }

    /// A maintenance window goes on for it, or has ended within `since`: by itself, or because the clock was set.
    pub(super) fn was_in_a_window(&self, scene: &Scene<'_>, place: usize, since: Nanos) -> bool {
        let set = self.register.clock_was_set && scene.now < self.register.clock_set_at.saturating_add(since);
        (set && !scene.plan.maintenance.is_empty())
            || scene.was_in_a_window(place, Duration::from_nanos(since))
    }

    /// Was anybody told of it, or of something that all share?
    pub(super) fn is_told(&self, place: usize) -> bool {
        // What all share is told once for all of them.
        let common =
            |open: &super::Open| matches!(open.kind, IncidentKind::CommonCause | IncidentKind::Demoted);
        self.book.incidents.values().any(|open| {
            open.version > 0 && (open.place == Some(place) || (open.place.is_none() && common(open)))
        })
    }

    /// Looks at a hang whose bound is over, or was when the look was planned.
    pub(crate) fn check_hang(&mut self, scene: &Scene<'_>, number: usize, horus_is_there: bool) -> Check {
        let Some(hang) = self.register.hangs.get(number).cloned() else { return Check::Over };
        let truth = &scene.places[hang.place];
        let lasts = truth.process.as_ref().is_some_and(|process| {
            process.serial == hang.process && process.hang == Some(number) && !process.dying
        });
        if !lasts {
            return Check::Over;
        }
        let later = Check::At(scene.now + SECOND * 30);
        let Some((start, bound)) = self.bound(scene, &hang).filter(|_| horus_is_there) else { return later };
        match hang.fate {
            Fate::Unseen => {
                if scene.now < start + bound {
                    return Check::At(start + bound);
                }
                self.invariant_g4_verdict_within_its_bound(scene, number, start, bound);
                Check::At(scene.now + bound)
            }
            Fate::Seen => self.check_acted(scene, &hang, start),
            Fate::Healed | Fate::Ended => Check::Over,
        }
    }

    /// A permanent hang has a verdict of a fault, or (if the program never was ready) an incident about its start.
    fn invariant_g4_verdict_within_its_bound(
        &mut self,
        scene: &Scene<'_>,
        number: usize,
        start: Nanos,
        bound: Nanos,
    ) {
        let place = self.register.hangs[number].place;
        let kinds = [IncidentKind::StartOverdue, IncidentKind::Stuck, IncidentKind::ProbePath];
        if self.seen[place].red || self.book.has_open(place, &kinds) {
            self.register.hangs[number].fate = Fate::Seen;
            return;
        }
        self.late(scene, number, start, bound);
    }

    fn late(&mut self, scene: &Scene<'_>, number: usize, start: Nanos, bound: Nanos) {
        let place = self.register.hangs[number].place;
        let hang = &self.register.hangs[number];
        let seconds = |nanos: Nanos| nanos as f64 / SECOND as f64;
        let text = format!(
            "{:?} since {:.3} s, charged from {:.3} s, to be seen within {:.3} s, was not before {:.3} s",
            hang.how,
            seconds(hang.began),
            seconds(start),
            seconds(bound),
            seconds(scene.now),
        );
        let subject = Self::name(scene, place);
        self.broken(scene, "invariant_g4_verdict_within_its_bound", &subject, text);
    }

    /// At twice the deadline it is acted upon, or a person has been told why not.
    fn check_acted(&mut self, scene: &Scene<'_>, hang: &Hang, start: Nanos) -> Check {
        let plan = scene.plan_of(hang.place);
        let poll = plan.map_or(0, |plan| plan.beats.iter().map(BeatPlan::every).max().map_or(0, nanos));
        let settled = self.register.settled_at + SETTLE + poll + ACT_SLACK;
        let limit = if self.seen[hang.place].ready {
            2 * self.patience(scene, hang.place)
        } else {
            // Its sources have changed: the first tick is awaited anew.
            plan.map_or(0, |plan| nanos(plan.startup) << self.overdue[hang.place].min(5))
        };
        // What is still so at the end of a window is judged, and told, as if nobody had been there.
        if self.was_in_a_window(scene, hang.place, WINDOW_LOOK + poll + ACT_SLACK) {
            return Check::At(scene.now + WINDOW_LOOK);
        }
        let relaxed = self.register.slow.1 + 2 * plan.map_or(0, slow_grace) + poll + ACT_SLACK;
        let due = (start + limit + poll + ACT_SLACK).max(settled).max(relaxed);
        if scene.now < due {
            return Check::At(due);
        }
        let signalled = self.seen[hang.place].signalled == Some(self.seen[hang.place].generation);
        if !signalled && !self.is_told(hang.place) {
            let subject = Self::name(scene, hang.place);
            let text = format!("{:?} was seen, is neither acted upon nor told", hang.how);
            self.broken(scene, "invariant_g4_no_hang_stays_untold", &subject, text);
        }
        Check::Over
    }
}

/// Limits that shrink in the middle of a silence stay in force for so long.
fn slow_grace(plan: &ServicePlan) -> Nanos {
    let work = plan.progress.values().map(|work| work.stalled).max().unwrap_or_default();
    nanos(plan.deadline.max(work))
}
