//! Jobs: services that are started at their times and have to *finish*.
//!
//! Between two runs a job is wanted down ("waits for its time"). A time that comes while the last run still goes on is
//! skipped, never doubled; a time that passes while nothing could be started is missed, said so, and made up for once if
//! the plan says so. A run that takes too long is told and left alone: whether it hangs is for its beats to say.

use jiff::Timestamp;

use crate::event::{Outcome, What};
use crate::maintenance::at_mono;
use crate::notice::{IncidentKind, Story};
use crate::observation::Exit;
use crate::plan::{SchedulePlan, Severity, When};
use crate::reason::{Reason, Rule};
use crate::service::{Facts, Service, Wanted, Why};
use crate::time::{Human, Mono};
use crate::transition::Trigger;
use crate::turn::Turn;

/// Missed times are counted up to this.
pub const MISSED_COUNT_MAX: u32 = 1000;

/// A remembered time that lies further ahead than this was written by a clock that was wrong.
pub const AHEAD_MAX: std::time::Duration = std::time::Duration::from_secs(25 * 3600);

/// Where a job stands in its schedule.
#[derive(Clone, Debug, Default)]
pub(crate) struct Job {
    /// The next time, on the engine's clock.
    pub(crate) next: Option<Mono>,
    /// When its last run was begun.
    pub(crate) started: Option<Mono>,
    /// The last time of the calendar that was served, skipped or found missed.
    pub(crate) slot: Option<Timestamp>,
    /// Times that came while the present run went on.
    skipped: u32,
    /// Times that passed while nobody could start it, not told yet.
    missed: u32,
}

impl Service {
    /// The time of day is known or was set, or the plan has changed: when is it started next?
    pub(crate) fn set_job_clock(&mut self, now: Mono, wall: Option<Timestamp>) {
        let Some(schedule) = &self.plan.schedule else {
            self.job = Job::default();
            return;
        };
        match (&schedule.when, wall) {
            (When::Every(every), _) => {
                self.job.next = Some(self.job.started.map_or(now, |started| (started + *every).max(now)));
            }
            (When::Cron(_), None) => self.job.next = None,
            (When::Cron(calendar), Some(wall)) => {
                let trusted =
                    |slot: &Timestamp| slot.duration_since(wall).unsigned_abs() <= AHEAD_MAX || *slot < wall;
                let from = *self.job.slot.get_or_insert(wall);
                let mut from = if trusted(&from) { from } else { wall };
                let mut missed = 0;
                let mut next = calendar.next_after(from);
                while let Some(at) = next.filter(|at| *at <= wall && missed < MISSED_COUNT_MAX) {
                    (missed, from) = (missed + 1, at);
                    next = calendar.next_after(from);
                }
                if missed >= MISSED_COUNT_MAX {
                    from = wall;
                    next = calendar.next_after(wall);
                }
                self.job.slot = Some(from);
                self.job.missed = self.job.missed.saturating_add(missed);
                self.job.next = next.map(|at| at_mono(now, wall, at));
            }
        }
        self.due = Some(now);
    }

    /// Does what is due of its schedule.
    pub(crate) fn tend_job(&mut self, turn: &mut Turn<'_>) {
        let Some(schedule) = self.plan.schedule.clone() else { return };
        if self.job.missed > 0 && turn.shared.reconciled {
            self.tell_missed(turn, &schedule);
        }
        if self.job.next.is_some_and(|at| at <= turn.now) {
            self.meet_time(turn, &schedule);
        }
        self.look_at_run(turn, &schedule);
    }

    /// When its schedule has to be looked at.
    pub(crate) fn job_due(&self) -> Option<Mono> {
        let schedule = self.plan.schedule.as_ref()?;
        let told = self.incidents.find(IncidentKind::RunOverdue).is_some();
        let overdue = self.alive().filter(|_| !told).map(|alive| alive.since + schedule.finish);
        self.job.next.into_iter().chain(overdue).min()
    }

    /// Its time has come.
    fn meet_time(&mut self, turn: &mut Turn<'_>, schedule: &SchedulePlan) {
        let now = turn.now;
        let wall = turn.shared.wall_at(now);
        match &schedule.when {
            When::Every(every) => self.job.next = Some(now + *every),
            When::Cron(calendar) => {
                self.job.slot = wall;
                let next = wall.and_then(|wall| Some((wall, calendar.next_after(wall)?)));
                self.job.next = next.map(|(wall, at)| at_mono(now, wall, at));
            }
        }
        self.dirty = true;
        let skip = |text: String| Some(Reason::new(Rule::Schedule, text));
        let reason = match (&self.hold, self.wanted) {
            (Some(hold), _) => skip(format!("it is held: {}", hold.reason)),
            (None, Wanted::Up) => skip("its last run has not ended".into()),
            (None, Wanted::Down(Why::NotDue | Why::Completed)) if self.is_at_rest() => None,
            (None, Wanted::Down(Why::NotDue | Why::Completed)) => skip("its last run has not ended".into()),
            (None, Wanted::Down(why)) => skip(why.words().into()),
        };
        match reason {
            Some(reason) => self.skip_run(turn, reason, schedule),
            None => self.begin_run(turn, Reason::new(Rule::Schedule, "its time has come")),
        }
    }

    fn begin_run(&mut self, turn: &mut Turn<'_>, reason: Reason) {
        self.wanted = Wanted::Up;
        self.delay = None;
        self.job.started = Some(turn.now);
        self.job.skipped = 0;
        self.launch_reason = Some(reason);
        self.dirty = true;
        self.react(turn, Trigger::WantUp, Facts::None);
    }

    fn skip_run(&mut self, turn: &mut Turn<'_>, reason: Reason, schedule: &SchedulePlan) {
        if self.wanted == Wanted::Up {
            self.job.skipped = self.job.skipped.saturating_add(1);
        }
        self.record(turn, None, What::RunSkipped { reason });
        // The first skipped time is news, and says how long it has been running by now.
        if self.job.skipped == 1
            && let Some(alive) = self.alive()
        {
            self.tell_overdue_run(turn, turn.now.since(alive.since), schedule);
        }
    }

    fn look_at_run(&mut self, turn: &mut Turn<'_>, schedule: &SchedulePlan) {
        let Some(alive) = self.alive() else { return };
        let running = turn.now.since(alive.since);
        if running >= schedule.finish && self.incidents.find(IncidentKind::RunOverdue).is_none() {
            self.tell_overdue_run(turn, running, schedule);
        }
    }

    fn tell_overdue_run(
        &mut self,
        turn: &mut Turn<'_>,
        running: std::time::Duration,
        schedule: &SchedulePlan,
    ) {
        let (finish, skipped) = (schedule.finish, self.job.skipped);
        let text = format!("it runs for {}, {} are allowed", Human(running), Human(finish));
        let reason = Reason::new(Rule::RunOverdue, text);
        let (generation, severity) = (Some(self.generation), Severity::Critical);
        let id = self.incidents.open(turn, generation, IncidentKind::RunOverdue, "", severity, &reason);
        self.incidents.tell(turn, id, severity, true, true, Story::RunOverdue { running, finish, skipped });
        self.dirty = true;
    }

    fn tell_missed(&mut self, turn: &mut Turn<'_>, schedule: &SchedulePlan) {
        let missed = std::mem::take(&mut self.job.missed);
        self.dirty = true;
        let free = self.hold.is_none() && matches!(self.wanted, Wanted::Down(Why::NotDue | Why::Completed));
        let catches_up = schedule.catch_up && free && self.is_at_rest();
        let because = "Horus was not running or the machine slept".to_owned();
        let reason = Reason::new(Rule::RunMissed, format!("{missed} times passed: {because}"));
        if free || self.wanted == Wanted::Up {
            let (generation, severity) = (Some(self.generation), Severity::Warning);
            let id = self.incidents.open(turn, generation, IncidentKind::RunMissed, "", severity, &reason);
            let story = Story::RunMissed { missed, because, catches_up };
            self.incidents.tell(turn, id, severity, false, true, story);
        } else {
            // A person wanted it down: nothing was missed.
            self.record(turn, None, What::RunSkipped { reason: reason.clone() });
        }
        if catches_up {
            self.begin_run(turn, Reason::new(Rule::RunMissed, "a missed time is made up for"));
        }
    }

    /// It is a job, and this end is the one that is hoped for.
    pub(crate) fn ends_well(&self, exit: Exit) -> bool {
        self.plan.schedule.is_some() && exit.is_clean()
    }

    /// A run of a job has ended as it should.
    pub(crate) fn finish_run(&mut self, turn: &mut Turn<'_>, took: std::time::Duration) {
        self.record(turn, None, What::RunFinished { took });
        if self.wanted == Wanted::Up {
            self.wanted = Wanted::Down(Why::NotDue);
        }
        self.delay = None;
        self.exits.prove();
        let ended = [
            IncidentKind::RunOverdue,
            IncidentKind::RunMissed,
            IncidentKind::Exit,
            IncidentKind::CrashLoop,
            IncidentKind::SameAge,
            IncidentKind::StartFailed,
            IncidentKind::StartOverdue,
        ];
        for kind in ended {
            self.incidents.close_kind(turn, kind, Outcome::CameBackAlone, "a run has finished well");
        }
        self.dirty = true;
    }
}
