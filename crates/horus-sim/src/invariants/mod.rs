//! The guarantees, checked after every step of the engine.
//!
//! A [`Witness`] stands beside the engine. It hears every input that Horus gets and sees every command that it gives, and it
//! knows the truth about the programs, which the engine does not. Each guarantee is a function of its own, named
//! `invariant_...`; the first one that is broken ends the run. None of them asks the engine what it believes: a judge that
//! is its own witness proves nothing.
//!
//! Where a guarantee has a number in it (a deadline, an excuse, a doubling of patience), the number is worked out here anew,
//! from the plan and from what was delivered.

pub(crate) mod book;
mod detection;
mod duties;
mod jobs;
mod kills;
mod life;
pub(crate) mod lives;
mod people;
pub(crate) mod seen;
mod telling;
mod work;

use std::collections::BTreeMap;
use std::time::Duration;

use horus_core::command::Command;
use horus_core::event::{Event, What};
use horus_core::ids::{IncidentId, ServiceName};
use horus_core::notice::Story;
use horus_core::observation::{Declared, HostObservation, Input, Observation};
use horus_core::plan::{MaintenancePlan, Plan, ServicePlan};
use horus_core::reason::Rule;
use horus_core::verdict::Verdict;
use jiff::Timestamp;

use crate::host::Host;
use crate::world::Place;
use crate::world::options::nanos;
use crate::world::queue::Nanos;
pub(crate) use book::{Book, Entry, Open};
pub(crate) use detection::{Check, Fate, Register};
pub(crate) use people::Ticket;
use seen::Seen;

/// A guarantee that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Name of the function that found it.
    pub invariant: &'static str,
    /// The service, or `horus`.
    pub subject: String,
    /// What happened, with its numbers.
    pub text: String,
    /// Nanoseconds since the world began.
    pub at: u64,
}

/// What the witness looks at besides inputs and commands: the truth.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) now: Nanos,
    pub(crate) plan: &'a Plan,
    pub(crate) places: &'a [Place],
    pub(crate) names: &'a BTreeMap<ServiceName, usize>,
    pub(crate) host: &'a Host,
}

impl Scene<'_> {
    pub(crate) fn place(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// A maintenance window is going on for it, by the time of day and the plan; at least a moment from its ends.
    pub(crate) fn is_in_a_window(&self, place: usize) -> bool {
        let margin = Duration::from_secs(2);
        let earlier = |wall: Timestamp| wall.checked_sub(margin).ok();
        self.has_window(place, |window| window.lasts.saturating_sub(margin), earlier)
    }

    /// One goes on, or has ended within `since`.
    pub(crate) fn was_in_a_window(&self, place: usize, since: Duration) -> bool {
        self.has_window(place, |window| window.lasts.saturating_add(since), Some)
    }

    /// A window of it began within `back` before now, and no later than `until`.
    fn has_window(
        &self,
        place: usize,
        back: impl Fn(&MaintenancePlan) -> Duration,
        until: impl Fn(Timestamp) -> Option<Timestamp>,
    ) -> bool {
        let Some(name) = self.places.get(place).map(|place| &place.name) else { return false };
        let Some(wall) = self.host.timestamp(self.now).filter(|_| !self.plan.maintenance.is_empty()) else {
            return false;
        };
        let windows = self.plan.maintenance.values();
        windows.filter(|window| window.services.is_empty() || window.services.contains(name)).any(|window| {
            let earliest = wall.checked_sub(back(window)).ok();
            let began = earliest.and_then(|earliest| window.when.next_after(earliest));
            began.is_some_and(|began| until(wall).is_some_and(|until| began <= until))
        })
    }

    pub(crate) fn plan_of(&self, place: usize) -> Option<&horus_core::plan::ServicePlan> {
        self.plan.services.get(&self.places.get(place)?.name)
    }
}

/// What was counted on the way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) kills: u64,
    pub(crate) kills_of_hung: u64,
    pub(crate) kills_of_healthy: u64,
    pub(crate) signals_by_order: u64,
    pub(crate) incidents: u64,
    pub(crate) notices: u64,
    pub(crate) proofs: u64,
    pub(crate) breakers: u64,
    pub(crate) kills_forgotten: u64,
    pub(crate) runs: u64,
    pub(crate) skipped: u64,
    pub(crate) kills_of_stalled: u64,
    pub(crate) stalls: u64,
    pub(crate) stalls_seen: u64,
}

/// Watches one world.
#[derive(Debug)]
pub(crate) struct Witness {
    pub(crate) seen: Vec<Seen>,
    pub(crate) book: Book,
    /// What was told of restarts, by incident: it may be told again, to make the noise that was not made.
    pub(crate) restarts_told: BTreeMap<IncidentId, Vec<Story>>,
    /// Changes of this step, for the store.
    pub(crate) entries: Vec<Entry>,
    pub(crate) register: Register,
    /// Starts in a row that passed the cap, which doubles with each.
    pub(crate) overdue: Vec<u32>,
    pub(crate) tickets: BTreeMap<u64, Ticket>,
    pub(crate) guard: kills::Guard,
    /// The times of jobs.
    pub(crate) jobs: Vec<jobs::JobSeen>,
    /// The next time of this job, if it is due so often, counts from then.
    pub(crate) counted_from: Option<(usize, Nanos)>,
    pub(crate) violation: Option<Violation>,
    pub(crate) counts: Counts,
}

impl Witness {
    pub(crate) fn new(places: usize, plan: &Plan, names: &BTreeMap<ServiceName, usize>) -> Self {
        let mut seen = vec![Seen::new(None); places];
        for (name, place) in names {
            seen[*place] = Seen::new(plan.services.get(name));
        }
        Self {
            seen,
            book: Book::new(places),
            restarts_told: BTreeMap::new(),
            entries: Vec::new(),
            register: Register::default(),
            overdue: vec![0; places],
            tickets: BTreeMap::new(),
            guard: kills::Guard::default(),
            counted_from: None,
            jobs: vec![jobs::JobSeen::default(); places],
            violation: None,
            counts: Counts::default(),
        }
    }

    /// Says that a guarantee is broken. The first one counts: what follows from it is noise.
    pub(crate) fn broken(&mut self, scene: &Scene<'_>, invariant: &'static str, subject: &str, text: String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { invariant, subject: subject.to_owned(), text, at: scene.now });
        }
    }

    /// The name of a place, for texts.
    pub(crate) fn name(scene: &Scene<'_>, place: usize) -> String {
        scene.places.get(place).map_or_else(String::new, |place| place.name.to_string())
    }

    /// Applies a change to the book and keeps it for the store.
    pub(crate) fn enter(&mut self, entry: Entry) {
        self.book.apply(&entry);
        self.entries.push(entry);
    }

    /// Changes the ledger of a service.
    pub(crate) fn change_ledger(&mut self, place: usize, change: impl FnOnce(&mut book::Ledger)) {
        let Some(ledger) = self.book.ledgers.get(place) else { return };
        let mut ledger = Box::new(ledger.clone());
        change(&mut ledger);
        self.enter(Entry::Ledger { place, ledger });
    }

    /// Something is about to be told to Horus.
    pub(crate) fn hears(&mut self, scene: &Scene<'_>, input: &Input) {
        match input {
            Input::Service(name, observation) => {
                if let Some(place) = scene.place(name.as_str()) {
                    self.hears_of(scene, place, observation);
                }
            }
            Input::IncidentStored { incident, .. } => {
                for sentence in self.seen.iter_mut().filter_map(|seen| seen.sentence.as_mut()) {
                    sentence.stored |= sentence.confirm.is_some_and(|(id, _)| id == *incident);
                }
            }
            Input::Operator { ticket, request } => self.hears_wish(scene, *ticket, request),
            Input::Host(observation) => self.hears_of_host(scene.now, observation),
            Input::ShutDown => self.seen.iter_mut().for_each(|seen| seen.wishes += 1),
            _ => {}
        }
    }

    fn hears_of_host(&mut self, now: Nanos, observation: &HostObservation) {
        match observation {
            // The engine's clock does not move with that of the day.
            HostObservation::ClockStepped { .. } => {}
            HostObservation::Suspended { .. } => {
                self.register.settles(now);
                self.seen.iter_mut().for_each(|seen| seen.begin_anew(now));
            }
            HostObservation::Pressure { cpu, memory, io } => {
                self.register.feels_pressure(now, cpu.max(*memory).max(*io));
            }
            HostObservation::Canary { fault: Some(_) } => {}
            HostObservation::Canary { fault: None } => {
                self.seen.iter_mut().for_each(|seen| seen.begin_anew(now))
            }
        }
    }

    fn hears_of(&mut self, scene: &Scene<'_>, place: usize, observation: &Observation) {
        use Observation as O;
        let plan = scene.plan_of(place);
        let deadline = plan.map_or(std::time::Duration::ZERO, |plan| plan.deadline);
        self.invariant_an_overlong_run_is_told(scene, place);
        self.looks_at_work(scene, place);
        let (now, seen) = (scene.now, &mut self.seen[place]);
        match observation {
            O::Spawned(instance) | O::Adopted(instance)
                if !(seen.alive && seen.generation == instance.generation) =>
            {
                seen.begin(now, instance.generation, plan);
            }
            O::KernelView { generation, view } if seen.alive && *generation == seen.generation => {
                seen.views(now, view);
            }
            O::Beat { generation, beat } if seen.alive && *generation == seen.generation => {
                let _ = seen.hear(now, beat, deadline);
                if let Some(work) = plan.and_then(|plan| plan.progress.values().next()) {
                    seen.work.hear(now, beat, work);
                }
            }
            O::SaidReady { generation } if seen.alive && *generation == seen.generation => {
                seen.hear_ready(now, deadline);
            }
            O::AskedForTime { generation, extend } if seen.alive && *generation == seen.generation => {
                seen.grant(now, *extend);
            }
            O::Exited { generation, .. } if *generation == seen.generation => {
                let halted =
                    seen.alive && seen.declared == Declared::Halted && seen.signalled != Some(*generation);
                seen.alive = false;
                if halted && plan.is_some() && !self.book.ledgers[place].held(now) {
                    self.change_ledger(place, |ledger| ledger.halted = true);
                }
            }
            O::Gone { generation, .. } if *generation == seen.generation => seen.alive = false,
            _ => {}
        }
    }

    /// The plan that is followed from now on. The clocks of whatever is judged by other rules begin anew.
    pub(crate) fn plan_changes(&mut self, scene: &Scene<'_>, new: &Plan) {
        let mode = new.daemon.mode != scene.plan.daemon.mode;
        let mut changed = Vec::new();
        for (place, truth) in scene.places.iter().enumerate() {
            let (old, now_plan) = (scene.plan.services.get(&truth.name), new.services.get(&truth.name));
            let seen = &mut self.seen[place];
            if old != now_plan || mode {
                seen.wishes += 1;
                if is_judged_anew(old, now_plan) {
                    (seen.heard.rules_from, seen.held_from) = (scene.now, scene.now);
                    // Whoever is at fault already stays so since when it was.
                    (seen.onset, seen.judged_from) = (seen.onset.filter(|_| seen.at_fault), scene.now);
                } else {
                    seen.limits_shrink(scene.now);
                }
                seen.backoff = None;
                changed.push(place);
            }
            let Some(plan) = now_plan else { continue };
            if old.is_none_or(|old| old.beats != plan.beats) {
                seen.listen(&plan.beats);
                if seen.last_fresh.is_none() {
                    seen.ready = plan.beats.is_empty();
                }
            }
        }
        changed.into_iter().for_each(|place| self.trial_ends(place));
    }

    /// A command was given.
    pub(crate) fn sees(&mut self, scene: &Scene<'_>, command: &Command) {
        match command {
            Command::Start { service, generation, reason } => {
                if let Some(place) = scene.place(service.as_str()) {
                    self.sees_run_started(scene, place, *generation, reason);
                    self.sees_start(scene, place, *generation);
                }
            }
            Command::Signal { service, generation, reason, .. } => {
                if let Some(place) = scene.place(service.as_str()) {
                    self.sees_signal(scene, place, *generation, reason);
                }
            }
            Command::KillTree { service, generation, reason } => {
                if let Some(place) = scene.place(service.as_str()) {
                    self.invariant_g9_sigkill_follows_a_signal(scene, place, *generation, reason);
                }
            }
            Command::Confirm { incident } => self.sees_confirm(scene, *incident),
            Command::Remember { service, memory } => {
                if let Some(place) = scene.place(service.as_str()) {
                    if memory.overdue_starts > self.overdue[place] {
                        // It did not start in time: that is an outcome, too.
                        self.trial_ends(place);
                    }
                    self.overdue[place] = memory.overdue_starts;
                    if memory.job_started.is_some_and(|age| age.is_zero()) {
                        self.invariant_a_job_runs_at_its_times_only(scene, place);
                    }
                }
            }
            Command::Answer { ticket, answer } => self.invariant_g5_answers_are_true(scene, *ticket, answer),
            Command::Tell(notice) => self.invariant_g7_versions_have_no_gap(scene, notice),
            Command::Record(event) => self.sees_event(scene, event),
            _ => {}
        }
    }

    fn sees_event(&mut self, scene: &Scene<'_>, event: &Event) {
        self.sees_incident(scene, event);
        let Some(place) = scene.place(&event.subject) else {
            if let What::OwnLateness { late } = &event.what {
                self.invariant_g1_lateness_is_own(scene, nanos(*late));
            }
            return;
        };
        let now = scene.now;
        match &event.what {
            What::Judged { to, reason, .. } => self.sees_verdict(scene, place, *to, reason.rule),
            What::KillDecided { .. } => {
                let generation = event.generation.unwrap_or_default();
                let breaker_open = self.book.ledgers[place].breaker_open;
                let not_alone = self.waits_for_another(scene, place).1.is_some();
                let sentence = seen::Sentence { generation, breaker_open, not_alone, ..Default::default() };
                self.seen[place].sentence = Some(sentence);
            }
            What::EvidenceCaptured { stage: horus_core::observation::CaptureStage::Verdict, .. } => {
                if let Some(sentence) = &mut self.seen[place].sentence {
                    sentence.evidence = true;
                }
            }
            // Red again, under the word by which it was called before.
            What::Stalled { lasted, reason }
                if reason.rule == Rule::Silent && nanos(*lasted) >= self.patience(scene, place) =>
            {
                self.trial_ends(place);
            }
            What::Proven { .. } => self.sees_proof(scene, place),
            What::BreakerOpened { .. } => {
                self.counts.breakers += 1;
                // Red again, and that by its breaker's word only if the word for it did not change.
                self.trial_ends(place);
                self.change_ledger(place, |ledger| ledger.breaker_open = Some(now));
            }
            What::BreakerClosed { .. } => self.change_ledger(place, |ledger| ledger.breaker_open = None),
            // A job that stopped itself on purpose has not done its work, however well it ended.
            What::Exited { exit, .. }
                if exit.is_clean()
                    && is_job(scene, place)
                    && self.seen[place].declared != Declared::Halted =>
            {
                self.trial_ends(place);
            }
            What::Exited { cause: horus_core::event::DeathCause::Itself, .. } => self.sees_exit(scene, place),
            What::RunFinished { .. } => self.sees_run_finished(scene, place),
            What::RunSkipped { .. } => {
                self.counts.skipped += 1;
                self.a_time_is_met(scene, place);
            }
            What::Told { story: Story::RunMissed { catches_up, .. }, .. } => {
                self.sees_missed_times(scene, place, *catches_up);
            }
            What::StartFailed { .. } => self.sees_exit(scene, place),
            What::HoldEnded { .. } => self.change_ledger(place, |ledger| ledger.hold = None),
            _ => {}
        }
    }

    fn sees_verdict(&mut self, scene: &Scene<'_>, place: usize, to: Verdict, rule: Rule) {
        let red = matches!(
            to,
            Verdict::Silent
                | Verdict::Lying
                | Verdict::ProbePath
                | Verdict::Blocked
                | Verdict::Spinning
                | Verdict::WorkStalled
        );
        self.seen[place].red = red;
        let curable = match to {
            // The same word for a funnel that lets nothing through, which no restart is asked for.
            Verdict::WorkStalled => scene.plan_of(place).is_some_and(|plan| plan.funnels.is_empty()),
            // What only the kernel shows is told, and nothing is restarted for it.
            _ => to != Verdict::ProbePath && rule != Rule::KernelView,
        };
        let by_work = to == Verdict::WorkStalled && curable;
        self.counts.stalls_seen += u64::from(by_work);
        self.seen[place].judged(red && curable, by_work);
        if self.seen[place].at_fault {
            self.trial_ends(place);
        }
        if red {
            self.detects(scene, place);
        }
    }

    /// Horus was killed: what was not on disk is forgotten, and whoever waited for an answer knows it.
    pub(crate) fn forgets(&mut self, now: Nanos, committed: &Book) {
        let kills = |book: &Book| book.ledgers.iter().map(|ledger| ledger.kills.len() as u64).sum::<u64>();
        self.counts.kills_forgotten += kills(&self.book).saturating_sub(kills(committed));
        self.book.clone_from(committed);
        self.entries.clear();
        self.tickets.clear();
        for seen in &mut self.seen {
            (seen.sentence, seen.signalled, seen.backoff) = (None, None, None);
            // The next Horus may carry out again what the last one had begun.
            seen.wishes_met = 0;
            if seen.alive {
                seen.heard.life_ends(now);
            }
            seen.alive = false;
            (seen.red, seen.at_fault) = (false, false);
        }
        self.guard = kills::Guard::default();
        self.forget_times();
        self.register.feels_pressure(now, 0.0);
        self.register.unsees();
    }
}

/// Other rules: what was lawful under the old ones is not held against it.
fn is_judged_anew(old: Option<&ServicePlan>, new: Option<&ServicePlan>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return true };
    old.beats != new.beats
        || old.deadline != new.deadline
        || old.kills != new.kills
        || old.progress != new.progress
}

fn is_job(scene: &Scene<'_>, place: usize) -> bool {
    scene.plan_of(place).is_some_and(|plan| plan.schedule.is_some())
}

/// A rule by which the judge itself decides on a restart.
pub(crate) fn is_judgement(rule: Rule) -> bool {
    !matches!(
        rule,
        Rule::Operator
            | Rule::Held
            | Rule::Reload
            | Rule::ShutDown
            | Rule::Wanted
            | Rule::Halted
            | Rule::Strays
            | Rule::WillNotDie
            | Rule::Maintenance
            | Rule::Schedule
            | Rule::RunOverdue
            | Rule::KernelView
    )
}
