//! Jobs: each of their times is met, told as missed, or told as skipped; none is met that has not come; a run that takes too long
//! is told and left alone. That no two runs live at once is G6, that none is killed for being slow is G1.

use horus_core::ids::Generation;
use horus_core::notice::IncidentKind;
use horus_core::plan::When;
use horus_core::reason::{Reason, Rule};

use super::{Check, Scene, Witness};
use crate::world::options::nanos;
use crate::world::queue::{Nanos, SECOND};

/// So long after a time, and after Horus can act on it, something must have become of it.
const MET_WITHIN: Nanos = 5 * SECOND;

/// What is known of a job's times.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobSeen {
    /// A time came then, and nothing has become of it yet.
    owed: Option<Nanos>,
    /// Times that came since a run was last begun by the schedule, in this life of Horus.
    times: u32,
    /// It was told that one run makes up for times that were missed.
    made_up: bool,
    /// A run was begun by the schedule then, in this life of Horus.
    begun: Option<Nanos>,
    /// A run that the schedule began lives, since then, and was not told as overdue.
    run: Option<(Generation, Nanos)>,
}

impl Witness {
    /// A time of a job has come; `again` by a clock that was set back.
    pub(crate) fn a_time_has_come(&mut self, now: Nanos, place: usize, again: bool) {
        let job = &mut self.jobs[place];
        if !again {
            job.owed.get_or_insert(now);
        }
        job.times = job.times.saturating_add(1);
    }

    /// Each time is started, told as missed, or told as skipped. `there_since`: Horus is there, its keeper answers, since then.
    pub(crate) fn check_time(
        &mut self,
        scene: &Scene<'_>,
        place: usize,
        there_since: Option<Nanos>,
    ) -> Check {
        let Some(owed) = self.jobs[place].owed else { return Check::Over };
        if scene.plan_of(place).is_none_or(|plan| plan.schedule.is_none()) {
            self.jobs[place].owed = None;
            return Check::Over;
        }
        let Some(there_since) = there_since else { return Check::At(scene.now + 30 * SECOND) };
        let due = owed.max(there_since) + MET_WITHIN;
        if scene.now < due {
            return Check::At(due);
        }
        let subject = Self::name(scene, place);
        let text =
            format!("a time came at {:.3} s, and nothing has become of it", owed as f64 / SECOND as f64);
        self.broken(scene, "invariant_each_time_of_a_job_is_met_or_told", &subject, text);
        Check::Over
    }

    /// Something has become of the times that came so far.
    pub(super) fn a_time_is_met(&mut self, scene: &Scene<'_>, place: usize) {
        self.owes_no_time(place);
        self.begins_to_count(place, scene.now);
    }

    /// No time that came so far is waited for.
    pub(crate) fn owes_no_time(&mut self, place: usize) {
        self.jobs[place].owed = None;
    }

    /// The next time of a job that is due so often counts from then.
    pub(crate) fn begins_to_count(&mut self, place: usize, from: Nanos) {
        self.counted_from = Some((place, from));
    }

    /// It is told that times were missed, and whether one run makes up for them.
    pub(super) fn sees_missed_times(&mut self, scene: &Scene<'_>, place: usize, catches_up: bool) {
        self.a_time_is_met(scene, place);
        self.counts.skipped += 1;
        self.jobs[place].made_up |= catches_up;
    }

    /// A run is begun only when a time has come, or when one that was missed is made up for. It is written down when it is begun;
    /// it may have to wait for the keeper, or for other services, until it is started.
    pub(super) fn invariant_a_job_runs_at_its_times_only(&mut self, scene: &Scene<'_>, place: usize) {
        let Some(schedule) = scene.plan_of(place).and_then(|plan| plan.schedule.as_ref()) else { return };
        self.a_time_is_met(scene, place);
        let job = &mut self.jobs[place];
        let made_up = std::mem::take(&mut job.made_up);
        // What makes up for another one moves no time.
        let before = if made_up { job.begun } else { job.begun.replace(scene.now) };
        let times = if made_up { job.times } else { std::mem::take(&mut job.times) };
        let Some(before) = before.filter(|before| *before < scene.now) else { return };
        let fault = match &schedule.when {
            _ if made_up && !schedule.catch_up => "a missed time is made up for, and that was not asked for",
            _ if made_up => return,
            When::Cron(_) if times == 0 => "no time of its calendar has come",
            When::Every(every) if before + nanos(*every) > scene.now + SECOND => {
                "its time has not come again"
            }
            When::Cron(_) | When::Every(_) => return,
        };
        let (subject, before) = (Self::name(scene, place), before as f64 / SECOND as f64);
        let text = format!("{fault}; the run before was begun at {before:.3} s");
        self.broken(scene, "invariant_a_job_runs_at_its_times_only", &subject, text);
    }

    /// A run is started: by the schedule, without a delay that an earlier run has earned.
    pub(super) fn sees_run_started(
        &mut self,
        scene: &Scene<'_>,
        place: usize,
        generation: Generation,
        reason: &Reason,
    ) {
        if matches!(reason.rule, Rule::Schedule | Rule::RunMissed) {
            self.jobs[place].run = Some((generation, scene.now));
            self.seen[place].backoff = None;
        }
    }

    /// A run that takes longer than it may is told, and goes on. Looked at whenever something is heard of its job.
    pub(super) fn invariant_an_overlong_run_is_told(&mut self, scene: &Scene<'_>, place: usize) {
        let Some((generation, began)) = self.jobs[place].run else { return };
        let Some(schedule) = scene.plan_of(place).and_then(|plan| plan.schedule.as_ref()) else { return };
        let lives = self.seen[place].alive && self.seen[place].generation == generation;
        if !lives
            || scene.now < began.saturating_add(nanos(schedule.finish)) + MET_WITHIN + self.register.starved
        {
            return;
        }
        self.jobs[place].run = None;
        if !self.book.has_open(place, &[IncidentKind::RunOverdue]) {
            let subject = Self::name(scene, place);
            let text = format!(
                "run {generation} was begun at {:.3} s and may take {:?}",
                began as f64 / 1e9,
                schedule.finish
            );
            self.broken(scene, "invariant_an_overlong_run_is_told", &subject, text);
        }
    }

    /// A run has ended as it should: that is the proof of a job.
    pub(super) fn sees_run_finished(&mut self, scene: &Scene<'_>, place: usize) {
        self.counts.runs += 1;
        self.jobs[place].run = None;
        self.seen[place].finished_at = Some(scene.now);
        self.seen[place].backoff = None;
        self.trial_ends(place);
        self.change_ledger(place, |ledger| {
            (ledger.exits_unproven, ledger.unproven, ledger.breaker_open) = (0, 0, None);
        });
    }

    /// Another Horus: when it begins its runs anew is judged by its own times. What was never written down is owed by nobody.
    pub(super) fn forget_times(&mut self) {
        for job in &mut self.jobs {
            (job.begun, job.times, job.run, job.made_up) = (None, 0, None, false);
        }
    }
}
