//! `agent`: whether it could be loaded, and whether anybody would hear it.

use std::path::Path;

use horus_core::plan::{Agent, BeatPlan};

use super::beats::Beat;
use super::{Check, Subject};
use crate::fault::Code;

impl Check<'_> {
    pub(super) fn agent(&mut self, subject: &Subject<'_>, command: &[String]) -> Option<Agent> {
        let at = subject.raw.agent.as_ref()?;
        let kept_out = match at.value {
            Agent::Python => python_is_deaf(command),
        };
        if let Some(option) = kept_out {
            self.findings
                .report(
                    Code::AgentNotLoaded,
                    &at.span,
                    format!(
                        "the agent of `{}` is never loaded: its command has `-{option}`, and then {} reads no variables at its start",
                        subject.name,
                        at.value.word()
                    ),
                )
                .label("would never beat")
                .help(format!("take `-{option}` out of the command, or let the program beat by itself: clients/python"));
        }
        Some(at.value)
    }

    /// The heartbeat that an agent brings with it.
    pub(super) fn beat_of_agent(subject: &Subject<'_>) -> Option<Beat> {
        let span = subject.raw.agent.as_ref()?.span.clone();
        Some(Beat { plan: BeatPlan::Notify, span, polling: None })
    }

    /// An agent speaks over the notify socket only.
    pub(super) fn agent_is_heard(&mut self, subject: &Subject<'_>, beats: &[Beat]) {
        let Some(at) = &subject.raw.agent else { return };
        if beats.iter().any(|beat| beat.plan == BeatPlan::Notify) {
            return;
        }
        self.findings
            .report(
                Code::Void,
                &at.span,
                format!(
                    "the agent of `{}` has nobody to speak to: it has no notify socket beside its other heartbeat",
                    subject.name
                ),
            )
            .label("void")
            .help("write `heartbeat.notify = true` as well, or leave `agent` out");
    }
}

/// The option by which this command line of Python ignores `PYTHONPATH` or `sitecustomize`.
fn python_is_deaf(command: &[String]) -> Option<char> {
    let (program, words) = command.split_first()?;
    let name = Path::new(program).file_name()?.to_str()?;
    if !name.starts_with("python") {
        return None;
    }
    let mut words = words.iter();
    while let Some(letters) = words.next().and_then(|word| word.strip_prefix('-')) {
        if letters.starts_with('-') || letters.is_empty() {
            continue;
        }
        for (at, letter) in letters.char_indices() {
            match letter {
                'I' | 'E' | 'S' => return Some(letter),
                // What follows belongs to the program.
                'c' | 'm' => return None,
                // With a word of their own, here or next.
                'W' | 'X' => {
                    if at + 1 == letters.len() {
                        words.next();
                    }
                    break;
                }
                _ => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_options_of_the_interpreter_count() {
        let deaf = |line: &str| python_is_deaf(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        for line in [
            "python3 -I bot.py",
            "/usr/bin/python3.11 -uE bot.py",
            "python -W ignore -X dev -S bot.py",
            "python3 -Im bot",
        ] {
            assert!(deaf(line).is_some(), "{line}");
        }
        for line in [
            "python3 bot.py -I",
            "python3 -m bot -I",
            "python3 -c print(1) -E",
            "python3 -WI bot.py",
            "python3 -X IES bot.py",
            "bash -E bot.sh",
            "python3",
            "",
        ] {
            assert_eq!(deaf(line), None, "{line}");
        }
    }
}
