//! What a run leaves behind when it is asked to: a recording that lives again, and the last lines of its story.

use std::collections::VecDeque;

use horus_core::event::{Event, What};
use horus_core::observation::Input;
use horus_core::time::Mono;

use super::queue::{MS, Nanos};
use crate::recording::{self, Birth, Line};

/// Lines of the story that are kept, unless more are asked for.
pub const LINES_KEPT_MAX: usize = 60;

/// A run's traces.
#[derive(Debug, Default)]
pub struct Log {
    on: bool,
    keep: usize,
    /// The recording, as a file would hold it.
    pub recording: Vec<u8>,
    /// The last lines of the story, oldest first.
    pub lines: VecDeque<String>,
}

impl Log {
    pub(crate) fn new(keep: usize) -> Self {
        Self { on: keep > 0, keep, ..Self::default() }
    }

    pub(crate) fn born(&mut self, birth: &Birth) {
        if self.on {
            self.write(&Line::Born { born: birth.clone() });
        }
    }

    pub(crate) fn told(&mut self, at: Mono, input: &Input) {
        if self.on {
            self.write(&recording::told(at, input));
        }
    }

    fn write(&mut self, line: &Line) {
        // A vector takes every byte, and every input has a written form.
        if let Err(error) = recording::write_line(&mut self.recording, line) {
            self.lines.push_back(format!("the recording is incomplete: {error}"));
        }
    }

    /// Something happened in the world that no input tells.
    pub(crate) fn happened(&mut self, now: Nanos, subject: &str, text: impl FnOnce() -> String) {
        if self.on {
            self.line(now, subject, '.', &text());
        }
    }

    /// The engine wrote something down.
    pub(crate) fn event(&mut self, now: Nanos, event: &Event) {
        if !self.on {
            return;
        }
        let (sign, text) = match &event.what {
            What::Judged { from, to, reason } => {
                (':', format!("{:<12} -> {:<12} {reason}", from.word(), to.word()))
            }
            What::Told { version, story, .. } => ('!', format!("told v{version} {story:?}")),
            other => (' ', format!("{other:?}")),
        };
        self.line(now, &event.subject, sign, &text);
    }

    fn line(&mut self, now: Nanos, subject: &str, sign: char, text: &str) {
        if self.lines.len() >= self.keep {
            self.lines.pop_front();
        }
        let (seconds, rest) = (now / (1000 * MS), now % (1000 * MS) / MS);
        let cut: String = text.chars().take(200).collect();
        self.lines.push_back(format!("{seconds:>8}.{rest:03}  {subject:<6} {sign} {cut}"));
    }
}
