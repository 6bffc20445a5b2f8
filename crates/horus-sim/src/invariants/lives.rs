//! A silence over several lives of Horus: what each of them witnessed adds up, what none of them saw counts for nothing.
//!
//! ```text
//!   life 1           life 2            life 3
//!   |--- 4 s ---|    |--- 6 s ---|     |--- 5 s ... a restart is due at 2 x deadline of these 15 s
//!               no Horus         no Horus
//! ```
//!
//! The witness keeps its own sum. What Horus is allowed to go on from is what it wrote down, and that in turn has to be what it saw,
//! but for the last eighth of a limit and what the disk had not taken yet.

use horus_core::command::MemorySilence;
use horus_core::plan::BeatPlan;
use horus_core::time::Human;
use std::time::Duration;

use super::seen::Seen;
use super::{Scene, Witness};
use crate::world::options::nanos;
use crate::world::queue::{Nanos, SECOND};

/// What an earlier life had written down of a silence.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) record: MemorySilence,
    /// When, and when that was by the clock that counts sleep.
    pub(crate) at: Nanos,
    /// How long ago that is, for Horus; `None`: it cannot know.
    pub(crate) away: Option<Nanos>,
}

/// What Horus has heard of a run in all of its lives.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    /// The last fresh sign, in whatever life.
    pub(crate) fresh: Option<Nanos>,
    /// This life listens since then.
    pub(crate) from: Nanos,
    /// For so long earlier lives have listened since that sign.
    before: Nanos,
    /// How many those were.
    lives: u64,
    /// The sign came after the last record that reached the disk: what goes on is an older silence.
    stale: bool,
    /// It was found by this life then.
    pub(crate) adopted_at: Option<Nanos>,
    /// Other limits are in force since then.
    pub(crate) rules_from: Nanos,
}

impl Heard {
    /// Of this silence, as far as anybody listened.
    fn listened(&self, now: Nanos) -> Nanos {
        self.before + now.saturating_sub(self.from.max(self.fresh.unwrap_or_default()))
    }

    /// A fresh sign was heard.
    pub(crate) fn freshens(&mut self, now: Nanos) {
        (self.fresh, self.before, self.lives, self.stale) = (Some(now), 0, 0, false);
    }

    /// Horus is gone.
    pub(crate) fn life_ends(&mut self, now: Nanos) {
        self.before = self.listened(now);
        self.lives += 1;
        self.from = now;
    }

    /// Time in which Horus was there and did not look.
    pub(crate) fn excuse(&mut self, moved: impl Fn(Nanos) -> Nanos) {
        self.fresh = self.fresh.map(&moved);
        self.from = moved(self.from);
        self.adopted_at = self.adopted_at.map(moved);
    }
}

impl Seen {
    /// It goes on from what an earlier life had written down, as far as that may be believed.
    pub(crate) fn goes_on(&mut self, now: Nanos, start_time: u64, written: &Written, deadline: Nanos) {
        self.heard.stale = self.heard.fresh.is_some_and(|fresh| fresh > written.at);
        let same = written.record.process.start_time == start_time && self.heard.rules_from <= written.at;
        if !same || !self.ready {
            return;
        }
        self.knows_ticks(&written.record);
        self.work.remembered = written.record.work.iter().any(|work| work.moved);
        let away = written.away.map(|away| away.max(now.saturating_sub(written.at)));
        let Some(away) = away.filter(|away| *away <= deadline) else { return };
        let charged = if away < SECOND { away } else { 0 };
        let since = self.goes_on_from(&written.record, now.saturating_sub(charged));
        if let Some(since) = since {
            (self.last_fresh, self.judged_from) = (Some(since), since);
        }
    }
}

impl Witness {
    /// Nobody is restarted for a silence of which not enough was witnessed, whatever time went by.
    pub(super) fn invariant_g1_an_absence_of_horus_proves_nothing(
        &mut self,
        scene: &Scene<'_>,
        place: usize,
    ) {
        let Some(plan) = scene.plan_of(place) else { return };
        let heard = self.seen[place].heard;
        // An absence below a second is ordinary, as is any other lateness.
        let listened = heard.listened(scene.now) + (heard.lives + 1) * SECOND;
        let proven = self.seen[place].is_proven_dead(scene.now, nanos(plan.deadline));
        let deadlines = if heard.stale || proven { 1 } else { 2 };
        if listened < nanos(plan.deadline) * deadlines {
            let (listened, deadline) = (Human(Duration::from_nanos(listened)), Human(plan.deadline));
            let text = format!(
                "signalled after {listened} in which anybody listened, in {} lives; the deadline is {deadline}",
                heard.lives + 1
            );
            let subject = Self::name(scene, place);
            self.broken(scene, "invariant_g1_an_absence_of_horus_proves_nothing", &subject, text);
        }
    }

    /// Horus is killed: what it had witnessed of each silence is on the disk, but for an eighth of a limit, `lag` for the disk, and
    /// what is too short to be worth it.
    pub(crate) fn invariant_g6_what_was_witnessed_is_written_down(
        &mut self,
        scene: &Scene<'_>,
        place: usize,
        written: Option<&MemorySilence>,
        lag: Nanos,
    ) {
        use horus_core::observation::Declared;
        let seen = &self.seen[place];
        let calm = self.register.pressed_at() == 0 && seen.declared == Declared::Ok;
        let watched = seen.alive && seen.ready && seen.ticks_or_beats_moved() && seen.signalled.is_none();
        if !calm || !watched || seen.excused_until() > 0 {
            return;
        }
        let limit = self.patience(scene, place);
        let age = scene.now.saturating_sub(seen.silent_since()).min(limit * 2);
        // Before the first answer of a life nothing is known to be silent in it.
        let poll = scene
            .plan_of(place)
            .map_or(0, |plan| plan.beats.iter().map(BeatPlan::every).max().map_or(0, nanos));
        let lost = limit / 8 + poll + lag + 2 * SECOND;
        let record = written.map_or(0, |record| seen.youngest(record));
        if age > limit / 4 * 3 + lost && record + lost < age {
            let human = |nanos: Nanos| Human(Duration::from_nanos(nanos));
            let text = format!("silent for {}, and {} of that are written down", human(age), human(record));
            let subject = Self::name(scene, place);
            self.broken(scene, "invariant_g6_what_was_witnessed_is_written_down", &subject, text);
        }
    }
}
