//! A place in a recording that can be moved in both directions.

use horus_core::Engine;
use horus_core::command::Command;
use horus_core::status::StatusReport;

use super::breakpoint::Breakpoint;
use super::step::{CommandView, Glance, InputView, Step, Transition, transitions};
use super::tape::Tape;
use crate::recording::{Line, RecordingError, instant};

/// So many engines are kept on the way, at most. When there are more, every other one is dropped.
pub const CHECKPOINTS_MAX: usize = 64;

/// Steps between two checkpoints, at first. Doubles whenever there are too many.
const CHECKPOINT_EVERY_MIN: usize = 256;

/// An engine that has taken the first `taken` lines.
#[derive(Clone, Debug)]
struct Cursor {
    engine: Engine,
    taken: usize,
}

/// What a session has cost so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Lines that an engine has taken, repeated ones included.
    pub lived: u64,
    /// Engines that are kept.
    pub checkpoints: usize,
}

impl Cursor {
    /// Before the first line. No input ever reaches this engine: the first line is a birth.
    fn unborn() -> Self {
        Self { engine: Engine::new(0, 0, Vec::new()), taken: 0 }
    }

    /// Takes the next line, if there is one.
    fn advance(&mut self, tape: &Tape) -> Vec<Command> {
        let Some(line) = tape.line(self.taken + 1) else { return Vec::new() };
        self.taken += 1;
        match line {
            Line::Born { born } => {
                self.engine = born.engine();
                Vec::new()
            }
            Line::Told { at_ns, input } => self.engine.step(instant(*at_ns), input.clone()),
        }
    }

    fn status(&self, tape: &Tape) -> StatusReport {
        self.engine.status(tape.instant(self.taken))
    }
}

/// Engines on the way, evenly spaced, never more than [`CHECKPOINTS_MAX`].
#[derive(Debug)]
struct Checkpoints {
    kept: Vec<Cursor>,
    every: usize,
}

impl Checkpoints {
    fn new() -> Self {
        Self { kept: vec![Cursor::unborn()], every: CHECKPOINT_EVERY_MIN }
    }

    /// Keeps the cursor, if it is far enough from the last one that is kept.
    fn offer(&mut self, cursor: &Cursor) {
        let last = self.kept.last().map_or(0, |kept| kept.taken);
        if cursor.taken < last + self.every {
            return;
        }
        if self.kept.len() >= CHECKPOINTS_MAX {
            let mut number = 0_usize;
            self.kept.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.every *= 2;
            return self.offer(cursor);
        }
        self.kept.push(cursor.clone());
    }

    /// The last one that has not taken more than so many lines.
    fn before(&self, taken: usize) -> Option<&Cursor> {
        let count = self.kept.partition_point(|kept| kept.taken <= taken);
        self.kept.get(count.checked_sub(1)?)
    }
}

/// Where a run has stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// At breakpoints: their places in the list.
    Hit(Vec<usize>),
    /// At the last step (or, backwards, at the first).
    End,
}

/// A recording that is lived again.
#[derive(Debug)]
pub struct Session {
    tape: Tape,
    cursor: Cursor,
    checkpoints: Checkpoints,
    /// The step that was taken last.
    step: Step,
    /// The states after it.
    glance: Glance,
    /// See [`Cost`].
    lived: u64,
}

impl Session {
    /// A session that has taken the first line, the birth.
    ///
    /// # Errors
    /// The lines do not begin with a birth.
    pub fn new(lines: Vec<Line>) -> Result<Self, RecordingError> {
        let tape = Tape::new(lines)?;
        let mut cursor = Cursor::unborn();
        let (step, glance) = look(&tape, &mut cursor, &Glance::default());
        Ok(Self { tape, cursor, checkpoints: Checkpoints::new(), step, glance, lived: 1 })
    }

    /// How many steps there are.
    pub fn steps(&self) -> usize {
        self.tape.len()
    }

    /// The step that was taken last.
    pub fn step(&self) -> &Step {
        &self.step
    }

    /// How many lives of Horus were recorded, and in which of them this is, from 1.
    pub fn life(&self) -> (usize, usize) {
        (self.tape.life_number(self.cursor.taken), self.tape.lives())
    }

    /// The time of day, if the engine was told it.
    pub fn wall(&self) -> Option<jiff::Timestamp> {
        self.tape.wall(self.cursor.taken)
    }

    /// Everything that `horus status` would have shown here.
    pub fn status(&self) -> StatusReport {
        self.cursor.status(&self.tape)
    }

    /// When the engine wants to be woken, counted from the beginning of the recording.
    pub fn next_deadline(&self) -> Option<std::time::Duration> {
        let due = self.cursor.engine.next_deadline()?;
        Some(self.step.elapsed + due.since(self.tape.instant(self.cursor.taken)))
    }

    /// The same after another step.
    pub fn status_at(&mut self, step: usize) -> StatusReport {
        self.reach(step.clamp(1, self.steps())).status(&self.tape)
    }

    /// Is there a step after this one?
    pub fn has_next(&self) -> bool {
        self.cursor.taken < self.steps()
    }

    /// Takes the next step. At the last one nothing happens.
    pub fn forward(&mut self) {
        if self.has_next() {
            (self.step, self.glance) = look(&self.tape, &mut self.cursor, &self.glance);
            self.lived += 1;
            self.checkpoints.offer(&self.cursor);
        }
    }

    /// Goes to just after a step, in either direction; to the first or the last, if there is no such step.
    pub fn goto(&mut self, step: usize) {
        let mut cursor = self.reach(step.clamp(1, self.steps()) - 1);
        let before =
            if cursor.taken == 0 { Glance::default() } else { Glance::of(cursor.status(&self.tape)) };
        (self.step, self.glance) = look(&self.tape, &mut cursor, &before);
        self.lived += 1;
        self.cursor = cursor;
    }

    /// An engine that has taken so many lines: from the nearest one that has taken fewer, which is a checkpoint or the
    /// one that is here.
    fn reach(&mut self, taken: usize) -> Cursor {
        let kept = self.checkpoints.before(taken);
        let here = Some(&self.cursor).filter(|cursor| cursor.taken <= taken);
        let nearest = kept.into_iter().chain(here).max_by_key(|cursor| cursor.taken);
        let mut cursor = nearest.cloned().unwrap_or_else(Cursor::unborn);
        while cursor.taken < taken {
            let _commands = cursor.advance(&self.tape);
            self.lived += 1;
            self.checkpoints.offer(&cursor);
        }
        cursor
    }

    /// What it has cost so far.
    pub fn cost(&self) -> Cost {
        Cost { lived: self.lived, checkpoints: self.checkpoints.kept.len() }
    }

    /// Steps until a breakpoint is hit, or to the end.
    pub fn run(&mut self, breakpoints: &[Breakpoint]) -> Stop {
        while self.has_next() {
            let before = self.step.elapsed;
            self.forward();
            let hits = hits(breakpoints, &self.step, before);
            if !hits.is_empty() {
                return Stop::Hit(hits);
            }
        }
        Stop::End
    }

    /// Goes back to the last step before this one that hits a breakpoint, or to the first.
    ///
    /// An engine does not run backwards, so everything before is lived again.
    pub fn run_back(&mut self, breakpoints: &[Breakpoint]) -> Stop {
        let here = self.cursor.taken;
        self.goto(1);
        let mut last = None;
        while self.cursor.taken + 1 < here {
            let before = self.step.elapsed;
            self.forward();
            let hits = hits(breakpoints, &self.step, before);
            if !hits.is_empty() {
                last = Some((self.cursor.taken, hits));
            }
        }
        let (step, stop) = last.map_or((1, Stop::End), |(step, hits)| (step, Stop::Hit(hits)));
        self.goto(step);
        stop
    }

    /// Gives the state changes of steps 1 to `last` to `each`, in order, and ends there.
    pub fn history(&mut self, last: usize, mut each: impl FnMut(&Transition)) {
        self.goto(1);
        self.step.transitions.iter().for_each(&mut each);
        while self.cursor.taken < last && self.has_next() {
            self.forward();
            self.step.transitions.iter().for_each(&mut each);
        }
    }

    /// What the engine was told in a step.
    pub fn input(&self, step: usize) -> Option<(std::time::Duration, InputView)> {
        Some((self.tape.elapsed(step), InputView::of(self.tape.line(step)?)))
    }

    /// The first step that is at least so far from the beginning.
    pub fn step_at(&self, elapsed: std::time::Duration) -> Option<usize> {
        self.tape.step_at(elapsed)
    }
}

/// Takes one step and looks at what it was.
fn look(tape: &Tape, cursor: &mut Cursor, before: &Glance) -> (Step, Glance) {
    let commands: Vec<CommandView> = cursor.advance(tape).iter().map(CommandView::of).collect();
    let (number, elapsed) = (cursor.taken, tape.elapsed(cursor.taken));
    let glance = Glance::of(cursor.status(tape));
    let left = match tape.line(number) {
        Some(Line::Born { .. }) => "this Horus ended; another one begins",
        _ => "it left the plan",
    };
    let transitions = transitions(number, elapsed, before, &glance, &commands, left);
    let input = tape.line(number).map(InputView::of);
    let input = input.unwrap_or_else(|| InputView {
        subject: String::new(),
        kind: "end".into(),
        facts: String::new(),
        incident: None,
    });
    (Step { step: number, elapsed, input, commands, transitions }, glance)
}

/// Which of the breakpoints a step hits.
fn hits(breakpoints: &[Breakpoint], step: &Step, before: std::time::Duration) -> Vec<usize> {
    let all = breakpoints.iter().enumerate();
    all.filter(|(_, breakpoint)| breakpoint.is_hit(step, before)).map(|(place, _)| place).collect()
}
