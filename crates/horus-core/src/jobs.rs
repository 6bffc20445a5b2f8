//! Jobs: services that are started at their times and have to *finish*.
//!
//! Between two runs a job is wanted down ("waits for its time"). A time that comes while the last run still goes on is
//! skipped, never doubled; a time that passes while nothing could be started is missed, said so, and made up for once if
//! the plan says so. A run that takes too long is told and left alone: whether it hangs is for its beats to say.

use jiff::Timestamp;

use crate::calendar::Calendar;
use crate::event::{Outcome, What};
use crate::maintenance::at_mono;
use crate::notice::{IncidentKind, Story};
use crate::observation::Exit;
use crate::plan::{SchedulePlan, Severity, When};
use crate::reason::{Reason, Rule};
use crate::service::{Facts, Phase, Service, Wanted, Why};
use crate::time::{Human, Mono};
use crate::transition::Trigger;
use crate::turn::Turn;

/// Missed times are counted up to this.
pub const MISSED_COUNT_MAX: u32 = 1000;

/// A time that passed no longer ago than this is not missed: it is met now.
pub const LATE_MAX: std::time::Duration = std::time::Duration::from_secs(10 * 60);

/// A remembered time that lies further ahead than this was written by a clock that was wrong; so was one with another time of the
/// calendar before it.
pub const AHEAD_MAX: std::time::Duration = std::time::Duration::from_secs(25 * 3600);

/// Was this time served, and the clock set back a little since? Then it is not served again.
fn lies_just_ahead(calendar: &Calendar, wall: Timestamp, slot: Timestamp) -> bool {
    let second = calendar.next_after(wall).and_then(|first| calendar.next_after(first));
    slot.duration_since(wall).unsigned_abs() <= AHEAD_MAX && second.is_none_or(|second| slot < second)
}

/// Where a job stands in its schedule.
#[derive(Clone, Debug, Default)]
pub(crate) struct Job {
    /// The next time, on the engine's clock.
    pub(crate) next: Option<Mono>,
    /// When its last run was begun.
    pub(crate) started: Option<Mono>,
    /// The present run was begun then, whatever restarts it has seen since.
    pub(crate) began: Option<Mono>,
    /// That is what an earlier life of Horus remembered, and the keeper has not said yet what became of it.
    pub(crate) remembered: bool,
    /// The last time of the calendar that was served, skipped or found missed.
    pub(crate) slot: Option<Timestamp>,
    /// Times that came while the present run went on.
    skipped: u32,
    /// Times that passed while nobody could start it, not told yet.
    pub(crate) missed: u32,
    /// A run that was going on has been lost with the machine: not told yet.
    cut_off: bool,
    /// It was told that this run takes too long.
    overdue_told: bool,
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
                let trusted = |slot: &Timestamp| *slot <= wall || lies_just_ahead(calendar, wall, *slot);
                // The first one is remembered, too: Horus may be restarted before it.
                self.dirty |= self.job.slot.is_none();
                let from = *self.job.slot.get_or_insert(wall);
                let mut from = if trusted(&from) { from } else { wall };
                let mut missed = 0;
                let mut next = calendar.next_after(from);
                let too_late =
                    |at: &Timestamp| *at <= wall && wall.duration_since(*at).unsigned_abs() > LATE_MAX;
                while let Some(at) = next.filter(|at| too_late(at) && missed < MISSED_COUNT_MAX) {
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
        if turn.shared.shutting_down {
            // What comes now is missed, and the next life of Horus says so.
            return;
        }
        if (self.job.missed > 0 || self.job.cut_off) && turn.shared.reconciled {
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
        let told = self.job.overdue_told;
        let overdue = self.run_began().filter(|_| !told).map(|began| began + schedule.finish);
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
        self.job.began = Some(turn.now);
        self.job.overdue_told = false;
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
        // The first skipped time is news.
        if self.job.skipped != 1 {
            return;
        }
        match self.run_began().filter(|_| self.alive().is_some()) {
            Some(began) => {
                let running = turn.now.since(began);
                self.tell_long_run(turn, running, schedule, Severity::Warning);
            }
            None => {
                let because = match (&self.phase, self.waits_for(&turn.shared.ready)) {
                    (Phase::Waiting, Some(name)) => format!("it still waits for {name} to be ready"),
                    _ => self.blocked.as_ref().map_or_else(
                        || "its last run has not come about".to_owned(),
                        |blocked| format!("it still {}", blocked.by),
                    ),
                };
                self.tell_run_missed(turn, 1, because, false);
            }
        }
    }

    /// When the present run was begun. One that a person started counts from its process.
    fn run_began(&self) -> Option<Mono> {
        let alive = self.alive()?.since;
        Some(self.job.began.map_or(alive, |began| began.min(alive)))
    }

    fn look_at_run(&mut self, turn: &mut Turn<'_>, schedule: &SchedulePlan) {
        let Some(began) = self.run_began() else { return };
        let running = turn.now.since(began);
        if running >= schedule.finish && !self.job.overdue_told {
            self.job.overdue_told = true;
            self.tell_long_run(turn, running, schedule, Severity::Critical);
        }
    }

    fn tell_long_run(
        &mut self,
        turn: &mut Turn<'_>,
        running: std::time::Duration,
        schedule: &SchedulePlan,
        severity: Severity,
    ) {
        let (finish, skipped) = (schedule.finish, self.job.skipped);
        let doing = self.counters.activity().words(turn.now);
        let mut text = format!("it runs for {}, {} are allowed", Human(running), Human(finish));
        if let Some(doing) = &doing {
            text.push_str(&format!("; it {doing}"));
        }
        let reason = Reason::new(Rule::RunOverdue, text);
        let generation = Some(self.generation);
        let id = self.incidents.open(turn, generation, IncidentKind::RunOverdue, "", severity, &reason);
        let needs_you = severity == Severity::Critical || self.job.overdue_told;
        self.incidents.tell(
            turn,
            id,
            severity,
            needs_you,
            true,
            Story::RunOverdue { running, finish, skipped, doing, step: None },
        );
        self.dirty = true;
    }

    fn tell_missed(&mut self, turn: &mut Turn<'_>, schedule: &SchedulePlan) {
        let cut_off = std::mem::take(&mut self.job.cut_off);
        let missed = std::mem::take(&mut self.job.missed).saturating_add(u32::from(cut_off));
        self.dirty = true;
        let free = self.hold.is_none() && matches!(self.wanted, Wanted::Down(Why::NotDue | Why::Completed));
        let catches_up = schedule.catch_up && free && self.is_at_rest();
        let because = if cut_off {
            "a run was cut off with the machine or with Horus"
        } else {
            "Horus was not running or the machine slept"
        };
        if free || self.wanted == Wanted::Up {
            self.tell_run_missed(turn, missed, because.to_owned(), catches_up);
        } else {
            // A person wanted it down: nothing was missed.
            let reason = Reason::new(Rule::RunMissed, because);
            self.record(turn, None, What::RunSkipped { reason });
        }
        // What is due right now makes up for it.
        if catches_up && self.job.next.is_none_or(|at| at > turn.now) {
            self.begin_run(turn, Reason::new(Rule::RunMissed, "a missed time is made up for"));
        }
    }

    fn tell_run_missed(&mut self, turn: &mut Turn<'_>, missed: u32, because: String, catches_up: bool) {
        let times = if missed == 1 { "time" } else { "times" };
        let reason = Reason::new(Rule::RunMissed, format!("{missed} {times} passed: {because}"));
        let (generation, severity) = (Some(self.generation), Severity::Warning);
        let id = self.incidents.open(turn, generation, IncidentKind::RunMissed, "", severity, &reason);
        self.incidents.tell(
            turn,
            id,
            severity,
            false,
            true,
            Story::RunMissed { missed, because, catches_up },
        );
    }

    /// The keeper's processes are known: a run that was going on and is not there was cut off. One that was begun and never asked
    /// for, because there was no keeper or because a failed one waited to be tried again, is due now.
    pub(crate) fn miss_the_run(&mut self, now: Mono) {
        if !std::mem::take(&mut self.job.remembered) {
            // A run that was begun in this life has an end of its own, whoever ended it.
            return;
        }
        let waits = matches!(self.wanted, Wanted::Down(Why::NotDue));
        if waits && self.is_at_rest() && self.job.began.take().is_some() {
            self.job.cut_off = self.is_remembered();
            if !self.job.cut_off {
                self.job.next = Some(now);
            }
            self.dirty = true;
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
        self.job.began = None;
        if self.kills.unproven() > 0 {
            self.record(turn, None, What::Proven { after: took });
            self.kills.prove();
            turn.shared.record_changed = true;
        }
        self.places.clear();
        turn.shared.guard.proven(&self.name);
        if self.incidents.find(IncidentKind::Stuck).is_some() {
            let how = "a run has finished well";
            self.incidents.close_kind(turn, IncidentKind::Stuck, Outcome::HealedByRestart, how);
        }
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
