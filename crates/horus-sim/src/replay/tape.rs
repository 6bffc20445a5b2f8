//! The lines of a recording, and how far each is from its beginning.

use std::time::Duration;

use horus_core::observation::Input;
use horus_core::time::Mono;
use jiff::{SignedDuration, Timestamp};

use crate::recording::{Line, RecordingError, instant};

/// A whole recording.
#[derive(Debug)]
pub(super) struct Tape {
    lines: Vec<Line>,
    lives: Vec<Life>,
}

/// From one birth to the next. Each life may have a clock of its own.
#[derive(Clone, Copy, Debug)]
struct Life {
    /// Lines before its birth.
    before: usize,
    /// The instant of its first input.
    first: Mono,
    /// From the beginning of the recording to that instant.
    offset: Duration,
}

impl Tape {
    pub(super) fn new(lines: Vec<Line>) -> Result<Self, RecordingError> {
        if !matches!(lines.first(), Some(Line::Born { .. })) {
            return Err(RecordingError::Unborn);
        }
        let mut tape = Self { lives: Vec::new(), lines: Vec::new() };
        let mut last: Option<Mono> = None;
        for (before, line) in lines.iter().enumerate() {
            match line {
                Line::Born { .. } => {
                    let first = first_instant(&lines[before..]).or(last).unwrap_or_default();
                    tape.lives.push(Life { before, first, offset: tape.offset(first, last) });
                }
                Line::Told { at_ns, .. } => last = Some(instant(*at_ns)),
            }
        }
        tape.lines = lines;
        Ok(tape)
    }

    /// How far a new life is from the beginning. A clock that goes on is believed; one that begins anew (its first
    /// instant is before the last one of the life before) says nothing about the time between, so none is counted.
    fn offset(&self, first: Mono, last: Option<Mono>) -> Duration {
        match (self.lives.last(), last) {
            (Some(life), Some(last)) => life.offset + first.max(last).since(life.first),
            _ => Duration::ZERO,
        }
    }

    /// How many steps there are.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// The line that this step takes, from 1.
    pub(super) fn line(&self, step: usize) -> Option<&Line> {
        self.lines.get(step.checked_sub(1)?)
    }

    fn life(&self, step: usize) -> Option<&Life> {
        let born = self.lives.partition_point(|life| life.before < step);
        self.lives.get(born.checked_sub(1)?)
    }

    /// Which life of Horus this is, from 1.
    pub(super) fn life_number(&self, step: usize) -> usize {
        self.lives.partition_point(|life| life.before < step)
    }

    /// How many lives there are.
    pub(super) fn lives(&self) -> usize {
        self.lives.len()
    }

    /// When a step is, by the engine's clock.
    pub(super) fn instant(&self, step: usize) -> Mono {
        match self.line(step) {
            Some(Line::Told { at_ns, .. }) => instant(*at_ns),
            _ => self.life(step).map(|life| life.first).unwrap_or_default(),
        }
    }

    /// From the beginning of the recording to a step.
    pub(super) fn elapsed(&self, step: usize) -> Duration {
        self.life(step).map_or(Duration::ZERO, |life| life.offset + self.instant(step).since(life.first))
    }

    /// The time of day at a step, if the engine of that life had been told it.
    pub(super) fn wall(&self, step: usize) -> Option<Timestamp> {
        let life = self.life(step)?;
        let told = self.lines.get(life.before..step)?.iter().rev().find_map(|line| match line {
            Line::Told { at_ns, input: Input::Wall(wall) } => Some((instant(*at_ns), *wall)),
            _ => None,
        });
        let (at, wall) = told?;
        let since = SignedDuration::try_from(self.instant(step).since(at)).ok()?;
        wall.checked_add(since).ok()
    }

    /// The first step that is at least so far from the beginning.
    pub(super) fn step_at(&self, elapsed: Duration) -> Option<usize> {
        (1..=self.len()).find(|step| self.elapsed(*step) >= elapsed)
    }
}

fn first_instant(lines: &[Line]) -> Option<Mono> {
    lines.iter().find_map(|line| match line {
        Line::Told { at_ns, .. } => Some(instant(*at_ns)),
        Line::Born { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Birth, told};

    fn at(seconds: u64) -> Line {
        told(Mono::from_origin(Duration::from_secs(seconds)), &Input::Wake)
    }

    fn born() -> Line {
        Line::Born { born: Birth::first(1, "") }
    }

    fn elapsed(lines: Vec<Line>) -> Vec<u64> {
        let tape = Tape::new(lines).unwrap();
        (1..=tape.len()).map(|step| tape.elapsed(step).as_secs()).collect()
    }

    #[test]
    fn time_counts_from_the_first_input_over_all_lives() {
        assert_eq!(elapsed(vec![born(), at(100), at(103)]), [0, 0, 3]);
        let goes_on = vec![born(), at(100), at(103), born(), at(110), at(111)];
        assert_eq!(elapsed(goes_on), [0, 0, 3, 10, 10, 11]);
        let anew = vec![born(), at(100), at(103), born(), at(100), at(105)];
        assert_eq!(elapsed(anew), [0, 0, 3, 3, 3, 8]);
        assert_eq!(elapsed(vec![born(), born(), at(100), born()]), [0, 0, 0, 0]);
    }

    #[test]
    fn the_time_of_day_is_counted_on_from_where_it_was_told() {
        let noon: Timestamp = "2026-07-01T12:00:00Z".parse().unwrap();
        let wall = told(Mono::from_origin(Duration::from_secs(100)), &Input::Wall(noon));
        let tape = Tape::new(vec![born(), wall, at(160), born(), at(200)]).unwrap();
        assert_eq!(tape.wall(1), None);
        assert_eq!(tape.wall(3).unwrap().to_string(), "2026-07-01T12:01:00Z");
        assert_eq!(tape.wall(5), None, "another life was not told it");
    }

    #[test]
    fn without_a_birth_there_is_no_tape() {
        assert!(Tape::new(Vec::new()).is_err());
        assert!(Tape::new(vec![at(1)]).is_err());
    }
}
