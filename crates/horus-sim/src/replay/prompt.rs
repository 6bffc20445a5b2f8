//! Words in, answers out: what stands between a person (or a script) and a session.

use std::collections::VecDeque;

use super::answer::{Answer, BreakpointView, Place, ServiceLine};
use super::breakpoint::{BREAKPOINTS_MAX, Breakpoint};
use super::diff::{diff, flat};
use super::instruction::{Instruction, Target};
use super::session::{Session, Stop};

/// So many inputs are listed at most, before and after here each.
const LIST_MAX: usize = 500;

/// So many state changes are shown at most; `horus replay FILE --transitions` shows all.
const HISTORY_MAX: usize = 5_000;

/// Why an instruction was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// There is no such instruction.
    #[error("'{said}' is no instruction")]
    Unknown {
        /// What was typed.
        said: String,
    },
    /// There is, and it is typed otherwise.
    #[error("`{of}` is typed otherwise")]
    Usage {
        /// Which.
        of: &'static str,
    },
    /// A word that is not one of those that it could be.
    #[error("'{said}' is no {what}")]
    NoSuch {
        /// What it should have been.
        what: &'static str,
        /// What was typed.
        said: String,
        /// What it could have been. Empty: nothing.
        known: String,
    },
    /// A limit.
    #[error("more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The line is longer than an instruction can be.
    #[error("a line of more than {limit} bytes is no instruction")]
    TooLong {
        /// The limit.
        limit: usize,
    },
}

impl PromptError {
    /// What to type instead.
    pub fn hint(&self) -> String {
        match self {
            Self::NoSuch { what, known, .. } if known.is_empty() => format!("there is no {what} here at all"),
            Self::NoSuch { known, .. } => format!("it can be: {known}"),
            Self::TooMany { what: "breakpoints", .. } => "`delete N` or `delete all` makes room".into(),
            Self::Usage { of } => usage(of),
            Self::Unknown { .. } | Self::TooMany { .. } | Self::TooLong { .. } => {
                "`help` lists all instructions".into()
            }
        }
    }

    /// Could it be seen without the recording that it is wrong?
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::NoSuch { what: "step" | "service or monitor" | "breakpoint", .. })
    }
}

/// The lines of the help about one instruction.
fn usage(of: &str) -> String {
    let lines = super::answer::HELP.lines();
    let about: Vec<&str> = lines.map(str::trim).filter(|line| line.starts_with(of)).collect();
    let forms = about.iter().filter_map(|line| line.split("  ").next());
    forms.collect::<Vec<_>>().join(", or ")
}

/// A session and its breakpoints.
#[derive(Debug)]
pub struct Prompt {
    session: Session,
    breakpoints: Vec<(usize, Breakpoint)>,
    /// The number of the last breakpoint that was set: numbers are not used twice.
    numbered: usize,
}

impl Prompt {
    /// A prompt without breakpoints.
    pub fn new(session: Session) -> Self {
        Self { session, breakpoints: Vec::new(), numbered: 0 }
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Carries out one instruction.
    ///
    /// # Errors
    /// There is no such step, subject or breakpoint.
    pub fn obey(&mut self, instruction: &Instruction) -> Result<Answer, PromptError> {
        let here = self.session.step().step;
        Ok(match instruction {
            Instruction::Step(count) => {
                for _ in 0..*count {
                    if !self.session.has_next() {
                        break;
                    }
                    self.session.forward();
                }
                self.place(Vec::new())
            }
            Instruction::Back(count) => {
                self.session.goto(here.saturating_sub(*count).max(1));
                self.place(Vec::new())
            }
            Instruction::Goto(target) => {
                let step = self.target(*target)?;
                self.session.goto(step);
                self.place(Vec::new())
            }
            Instruction::Continue => {
                let stop = self.session.run(&self.all());
                self.stopped(stop)
            }
            Instruction::Reverse => {
                let stop = self.session.run_back(&self.all());
                self.stopped(stop)
            }
            Instruction::Break(breakpoint) => self.set(breakpoint.clone())?,
            Instruction::Breakpoints => self.list_breakpoints(),
            Instruction::Delete(which) => self.delete(*which)?,
            Instruction::Diff(from, to) => self.diff(*from, *to)?,
            Instruction::Status(name) => self.status(name.as_deref())?,
            Instruction::Commands => {
                let step = self.session.step();
                Answer::Commands { step: here, input: step.input.clone(), commands: step.commands.clone() }
            }
            Instruction::Where => self.place(Vec::new()),
            Instruction::List(around) => self.inputs((*around).min(LIST_MAX)),
            Instruction::History(count) => self.history((*count).min(HISTORY_MAX)),
            Instruction::Help => Answer::Help,
            Instruction::Quit => Answer::Quit,
        })
    }

    fn all(&self) -> Vec<Breakpoint> {
        self.breakpoints.iter().map(|(_, breakpoint)| breakpoint.clone()).collect()
    }

    fn place(&self, hits: Vec<BreakpointView>) -> Answer {
        let (life, lives) = self.session.life();
        let place = Place {
            step: self.session.step().clone(),
            steps: self.session.steps(),
            life,
            lives,
            wall: self.session.wall(),
            next_deadline: self.session.next_deadline(),
            hits,
        };
        Answer::Place(Box::new(place))
    }

    fn stopped(&self, stop: Stop) -> Answer {
        let hits = match stop {
            Stop::End => Vec::new(),
            Stop::Hit(places) => {
                places.iter().filter_map(|place| self.breakpoints.get(*place)).map(view).collect()
            }
        };
        self.place(hits)
    }

    fn existing(&self, step: usize) -> Result<usize, PromptError> {
        let steps = self.session.steps();
        let no_step =
            || PromptError::NoSuch { what: "step", said: step.to_string(), known: format!("1 to {steps}") };
        (1..=steps).contains(&step).then_some(step).ok_or_else(no_step)
    }

    fn target(&self, target: Target) -> Result<usize, PromptError> {
        match target {
            Target::Step(step) => self.existing(step),
            Target::End => Ok(self.session.steps()),
            Target::At(elapsed) => Ok(self.session.step_at(elapsed).unwrap_or(self.session.steps())),
        }
    }

    fn set(&mut self, breakpoint: Breakpoint) -> Result<Answer, PromptError> {
        if self.breakpoints.len() >= BREAKPOINTS_MAX {
            return Err(PromptError::TooMany { what: "breakpoints", limit: BREAKPOINTS_MAX });
        }
        self.numbered += 1;
        self.breakpoints.push((self.numbered, breakpoint));
        Ok(self.list_breakpoints())
    }

    fn delete(&mut self, which: Option<usize>) -> Result<Answer, PromptError> {
        let numbers =
            self.breakpoints.iter().map(|(number, _)| number.to_string()).collect::<Vec<_>>().join(", ");
        let before = self.breakpoints.len();
        self.breakpoints.retain(|(number, _)| which.is_some_and(|which| which != *number));
        match which {
            Some(which) if before == self.breakpoints.len() => {
                Err(PromptError::NoSuch { what: "breakpoint", said: which.to_string(), known: numbers })
            }
            _ => Ok(self.list_breakpoints()),
        }
    }

    fn list_breakpoints(&self) -> Answer {
        Answer::Breakpoints { breakpoints: self.breakpoints.iter().map(view).collect() }
    }

    fn diff(&mut self, from: Option<usize>, to: Option<usize>) -> Result<Answer, PromptError> {
        let here = self.session.step().step;
        let to = self.existing(to.unwrap_or(here))?;
        let from = match from {
            Some(from) => self.existing(from)?,
            None => to.saturating_sub(1).max(1),
        };
        let [before, after] = [from, to].map(|step| self.session.status_at(step));
        let at = |step| self.session.input(step).map_or(std::time::Duration::ZERO, |(elapsed, _)| elapsed);
        let subjects = diff(&before, &after, at(from).abs_diff(at(to)));
        Ok(Answer::Diff { from, to, subjects })
    }

    fn status(&self, name: Option<&str>) -> Result<Answer, PromptError> {
        let report = self.session.status();
        let Some(name) = name else {
            let services = report.services.iter().map(ServiceLine::of_service);
            let subjects = services.chain(report.monitors.iter().map(ServiceLine::of_monitor)).collect();
            return Ok(Answer::Status { step: self.session.step().step, subjects });
        };
        let service = report.services.iter().find(|service| service.name.as_str() == name).map(flat);
        let monitor = || report.monitors.iter().find(|monitor| monitor.name.as_str() == name).map(flat);
        let step = self.session.step().step;
        match service.or_else(monitor) {
            Some(fields) => Ok(Answer::Subject { step, subject: name.to_owned(), fields }),
            None => {
                let services = report.services.iter().map(|service| service.name.to_string());
                let names: Vec<String> =
                    services.chain(report.monitors.iter().map(|monitor| monitor.name.to_string())).collect();
                let known = names.join(", ");
                Err(PromptError::NoSuch { what: "service or monitor", said: name.to_owned(), known })
            }
        }
    }

    fn inputs(&self, around: usize) -> Answer {
        let here = self.session.step().step;
        let last = here.saturating_add(around).min(self.session.steps());
        let steps = here.saturating_sub(around).max(1)..=last;
        let inputs =
            steps.filter_map(|step| self.session.input(step).map(|(elapsed, input)| (step, elapsed, input)));
        Answer::Inputs { here, inputs: inputs.collect() }
    }

    fn history(&mut self, count: usize) -> Answer {
        let mut transitions = VecDeque::new();
        let mut left_out = 0;
        let here = self.session.step().step;
        self.session.history(here, |transition| {
            transitions.push_back(transition.clone());
            if transitions.len() > count {
                transitions.pop_front();
                left_out += 1;
            }
        });
        Answer::History { left_out, transitions: transitions.into() }
    }
}

fn view((number, breakpoint): &(usize, Breakpoint)) -> BreakpointView {
    BreakpointView { number: *number, on: breakpoint.to_string() }
}
