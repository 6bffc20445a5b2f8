//! What a person can type.

use std::time::Duration;

use super::breakpoint::{self, Breakpoint, duration};
use super::prompt::PromptError;

/// A script may hold so many instructions.
pub const SCRIPT_INSTRUCTIONS_MAX: usize = 1_000;

/// A longer line is not read.
pub(super) const INSTRUCTION_BYTES_MAX: usize = 4_096;

/// Inputs shown before and after here, if it is not said how many.
const LIST_DEFAULT: usize = 5;

/// State changes shown, if it is not said how many.
const HISTORY_DEFAULT: usize = 20;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Go on by so many steps.
    Step(usize),
    /// Go back by so many steps.
    Back(usize),
    /// Go on to the next breakpoint.
    Continue,
    /// Go back to the last breakpoint.
    Reverse,
    /// Go to a step.
    Goto(Target),
    /// Set a breakpoint.
    Break(Breakpoint),
    /// Show the breakpoints.
    Breakpoints,
    /// Delete one breakpoint, or all.
    Delete(Option<usize>),
    /// What changed: in this step, since a step, or between two.
    Diff(Option<usize>, Option<usize>),
    /// How everything is here, or one service with every field.
    Status(Option<String>),
    /// What this step asked for.
    Commands,
    /// Which step this is.
    Where,
    /// The inputs around here.
    List(usize),
    /// The last state changes up to here.
    History(usize),
    /// What can be typed.
    Help,
    /// Enough.
    Quit,
}

/// Where to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To this step.
    Step(usize),
    /// To the first step that is so far from the beginning.
    At(Duration),
    /// To the last step.
    End,
}

impl Instruction {
    /// Reads one instruction. `None`: nothing was typed, or a comment (`# ...`).
    ///
    /// # Errors
    /// It is none, with a hint at what is.
    pub fn parse(text: &str) -> Result<Option<Self>, PromptError> {
        if text.len() > INSTRUCTION_BYTES_MAX {
            return Err(PromptError::TooLong { limit: INSTRUCTION_BYTES_MAX });
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let Some((verb, rest)) = words.split_first().filter(|(verb, _)| !verb.starts_with('#')) else {
            return Ok(None);
        };
        Self::of(verb, rest).map(Some)
    }

    fn of(verb: &str, rest: &[&str]) -> Result<Self, PromptError> {
        Ok(match (verb, rest) {
            ("step" | "s", [] | [_]) => Self::Step(number("step", rest, 1)?),
            ("back" | "b", [] | [_]) => Self::Back(number("back", rest, 1)?),
            ("continue" | "c", []) => Self::Continue,
            ("reverse" | "r", []) => Self::Reverse,
            ("goto" | "g", [_, ..]) => Self::Goto(target(rest)?),
            ("break", []) => Self::Breakpoints,
            ("break", rest) => Self::Break(breakpoint::parse(rest)?),
            ("delete", ["all"]) => Self::Delete(None),
            ("delete", [_]) => Self::Delete(Some(number("delete", rest, 0)?)),
            ("diff" | "d", []) => Self::Diff(None, None),
            ("diff" | "d", [_]) => Self::Diff(Some(number("diff", rest, 0)?), None),
            ("diff" | "d", [_, _]) => {
                Self::Diff(Some(number("diff", &rest[..1], 0)?), Some(number("diff", &rest[1..], 0)?))
            }
            ("status", []) => Self::Status(None),
            ("status", [name]) => Self::Status(Some((*name).to_owned())),
            ("commands", []) => Self::Commands,
            ("where" | "w", []) => Self::Where,
            ("list" | "l", [] | [_]) => Self::List(number("list", rest, LIST_DEFAULT)?),
            ("history" | "h", [] | [_]) => Self::History(number("history", rest, HISTORY_DEFAULT)?),
            ("help" | "?", _) => Self::Help,
            ("quit" | "q" | "exit", []) => Self::Quit,
            _ => {
                let known = VERBS.iter().find(|known| **known == verb);
                return Err(match known {
                    Some(of) => PromptError::Usage { of },
                    None => PromptError::Unknown { said: verb.to_owned() },
                });
            }
        })
    }
}

/// The long form of every instruction.
const VERBS: [&str; 15] = [
    "step", "back", "continue", "reverse", "goto", "break", "delete", "diff", "status", "commands", "where",
    "list", "history", "help", "quit",
];

fn number(of: &'static str, rest: &[&str], default: usize) -> Result<usize, PromptError> {
    match rest {
        [] => Ok(default),
        [text, ..] => text.parse().map_err(|_| PromptError::Usage { of }),
    }
}

fn target(rest: &[&str]) -> Result<Target, PromptError> {
    match rest {
        ["end"] => Ok(Target::End),
        ["start"] => Ok(Target::Step(1)),
        [step] if step.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Target::Step(number("goto", rest, 1)?))
        }
        _ => Ok(Target::At(duration(&rest.join(" "))?)),
    }
}

/// Reads a script: instructions between `;` or line ends.
///
/// # Errors
/// The first that is none, or there are more than [`SCRIPT_INSTRUCTIONS_MAX`].
pub fn script(text: &str) -> Result<Vec<Instruction>, PromptError> {
    let mut instructions = Vec::new();
    for part in text.split([';', '\n']) {
        if let Some(instruction) = Instruction::parse(part)? {
            if instructions.len() >= SCRIPT_INSTRUCTIONS_MAX {
                return Err(PromptError::TooMany { what: "instructions", limit: SCRIPT_INSTRUCTIONS_MAX });
            }
            instructions.push(instruction);
        }
    }
    Ok(instructions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_instructions_between_semicolons() {
        let wanted = [
            Instruction::Step(1),
            Instruction::Goto(Target::At(Duration::from_secs(90))),
            Instruction::Goto(Target::Step(12)),
            Instruction::Diff(Some(3), Some(9)),
            Instruction::Status(Some("bot".into())),
            Instruction::Quit,
        ];
        assert_eq!(
            script("step; goto 1m 30s ;;goto 12\n# not this\ndiff 3 9; status bot; q").unwrap(),
            wanted
        );
        assert_eq!(script("").unwrap(), []);
    }

    #[test]
    fn what_is_no_instruction_is_refused() {
        let said = |text: &str| Instruction::parse(text).unwrap_err();
        assert_eq!(said("jump"), PromptError::Unknown { said: "jump".into() });
        assert_eq!(said("step soon"), PromptError::Usage { of: "step" });
        assert_eq!(said("goto"), PromptError::Usage { of: "goto" });
        assert_eq!(said(&"x".repeat(5_000)), PromptError::TooLong { limit: INSTRUCTION_BYTES_MAX });
        let many = "step;".repeat(SCRIPT_INSTRUCTIONS_MAX + 1);
        assert!(matches!(script(&many), Err(PromptError::TooMany { .. })));
    }

    #[test]
    fn every_verb_is_in_the_help() {
        let help = super::super::answer::HELP;
        for verb in VERBS {
            assert!(help.lines().any(|line| line.trim_start().starts_with(verb)), "{verb}");
        }
    }
}
