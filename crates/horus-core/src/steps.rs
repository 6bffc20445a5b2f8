//! Steps of a batch: a program that has no loop says which step it is in, and the plan says how long each may take.
//!
//! While a step is within its limit nothing is overdue. Past it a person is told, with what the program is seen to do meanwhile; nothing is
//! restarted for it.

use std::time::Duration;

use crate::command::MemoryStep;
use crate::event::{StepTaken, What};
use crate::look::SAID_EVERY_MIN;
use crate::notice::{IncidentKind, Story};
use crate::plan::Severity;
use crate::service::{Phase, Service};
use crate::spell::{Declined, Fault, Track};
use crate::time::{Human, Mono};
use crate::turn::Turn;
use crate::value::{Stalled, StandsStill};

/// Longest name of a step that is kept, in characters.
pub const STEP_NAME_CHARACTERS_MAX: usize = 64;

/// Why a step that takes too long is only told.
const TOLD_ONLY: &str = "a step that takes longer than declared is no proof that it is stuck";

/// The step that a program said it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LongStep {
    pub(crate) name: String,
    pub(crate) since: Mono,
}

impl Service {
    /// It says which step it is in now; `None`: in none. The same word again does not begin it anew.
    pub(crate) fn hear_step(&mut self, turn: &mut Turn<'_>, name: Option<String>) {
        if self.step.as_ref().map(|step| &step.name) == name.as_ref() {
            return;
        }
        let before = self.step.take();
        self.step = name.map(|name| LongStep { name, since: turn.now });
        self.stepped_at = Some(turn.now);
        let took = |before: LongStep| StepTaken { took: turn.now.since(before.since), name: before.name };
        self.step_unnoted = Some(before.map(took));
        self.note_step(turn);
        if matches!(self.phase, Phase::Starting { .. }) && self.beats.hear_ready(turn.now) {
            // Whoever is in its first step has started.
            let by = "it said which step it is in".to_owned();
            self.fresh_tick(turn, by, Duration::ZERO);
        }
        self.work_moved(turn);
    }

    /// Writes down which step it is in. Whoever changes it many times a second fills no journal: the last one counts.
    pub(crate) fn note_step(&mut self, turn: &mut Turn<'_>) {
        if self.step_note_due().is_some_and(|due| due <= turn.now)
            && let Some(after) = self.step_unnoted.take()
        {
            self.step_noted_at = Some(turn.now);
            self.dirty = true;
            let step = self.step.as_ref().map(|step| step.name.clone());
            self.record(turn, None, What::StepBegun { step, after });
        }
    }

    /// When the step that it is in will be written down, if it is not yet.
    pub(crate) fn step_note_due(&self) -> Option<Mono> {
        self.step_unnoted.as_ref()?;
        Some(self.step_noted_at.map_or(Mono::default(), |at| at + SAID_EVERY_MIN))
    }

    /// How long the step that it is in may take, as it is in force.
    pub(crate) fn step_limit(&self) -> Option<Duration> {
        let step = self.step.as_ref()?;
        self.plan.steps.get(&step.name).map(|limit| self.stretched(*limit))
    }

    /// Which step it is in is all that it ever says: no tick of it is missing, not even between two steps.
    pub(crate) fn speaks_in_steps(&self) -> bool {
        self.stepped_at.is_some() && !self.beats.used_to_move()
    }

    /// It is in a step that may last.
    pub(crate) fn is_within_step(&self, now: Mono) -> bool {
        let Some(step) = &self.step else { return false };
        self.step_limit().is_some_and(|limit| now.since(step.since) < limit)
    }

    /// When the step that it is in has to be over.
    pub(crate) fn step_ends(&self) -> Option<Mono> {
        Some(self.step.as_ref()?.since + self.step_limit()?)
    }

    /// The step that it is in, if that takes too long.
    pub(crate) fn overdue_step(&self, now: Mono) -> Option<Stalled> {
        let (step, limit) = (self.step.as_ref()?, self.step_limit()?);
        let age = now.since(step.since);
        let what = StandsStill::Step(step.name.clone());
        (age >= limit).then_some(Stalled { what, age, limit, moved: true })
    }

    /// A step takes longer than declared: told once, with what the program does meanwhile, and left alone. Weak signs that stand still are no
    /// proof: a download by `recv` moves none of them.
    pub(crate) fn is_slow_step(&mut self, turn: &mut Turn<'_>, fault: &Fault) -> bool {
        let is_step =
            fault.track == Track::Work && self.stalled(turn.now).is_some_and(|stalled| stalled.is_step());
        if !is_step {
            return false;
        }
        let declined = Declined::Table(TOLD_ONLY);
        let Some(incident) = self.incidents.find(IncidentKind::Stuck) else { return true };
        if self.work_spell.has_declined(declined) {
            return true;
        }
        let (id, asked) = (incident.id, incident.needs_you);
        self.work_spell.declined.push(declined);
        let what = format!("restart it, but {}", declined.words());
        self.record(turn, Some(id), What::WouldHave { what, reason: fault.reason() });
        if !asked {
            let doing = self.counters.activity().words(turn.now);
            let step = self.step.as_ref().map(|step| step.name.clone());
            let (running, finish) = (fault.age, fault.limit);
            let story = Story::RunOverdue { running, finish, skipped: 0, doing, step };
            self.incidents.tell(turn, id, Severity::Warning, false, true, story);
            self.dirty = true;
        }
        true
    }

    /// The step that it is in, in words.
    pub(crate) fn step_words(&self, now: Mono) -> Option<String> {
        let step = self.step.as_ref()?;
        let lasts = Human(now.since(step.since));
        Some(match self.step_limit() {
            Some(limit) => format!("in the step `{}` for {lasts}, {} are allowed", step.name, Human(limit)),
            None => format!("in the step `{}` for {lasts}; the plan sets no limit for it", step.name),
        })
    }

    pub(crate) fn remember_step(&self, now: Mono) -> Option<MemoryStep> {
        let step = self.step.as_ref()?;
        Some(MemoryStep { name: step.name.clone(), age: now.since(step.since) })
    }
}
