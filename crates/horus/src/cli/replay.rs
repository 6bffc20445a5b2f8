//! `horus replay FILE`: a recording of an engine's inputs, lived again.
//!
//! All of the work is in [`horus_sim::replay`]; this is its way to a terminal, to a pipe and to a script. At a terminal
//! an instruction that is none is told, and the next one is read. A script ends at the first that is none, so that
//! whoever runs it can rely on what it printed.

use std::io::{self, BufRead, IsTerminal, Read};

use horus_sim::replay::{
    Answer, Instruction, LoadError, Prompt, PromptError, Session, Transition, load, script,
};
use serde::Serialize;

use super::args::ReplayArgs;
use super::exit::ExitStatus;
use super::fault::Fault;
use super::output::Output;
use super::render::text::clean;

/// Version of what `horus replay --json` prints.
const REPLAY_SCHEMA: u32 = 1;

/// A longer line on stdin is no instruction.
const LINE_BYTES_MAX: usize = 4_096;

/// So much is gathered before it is written.
const CHUNK_BYTES: usize = 64 << 10;

/// One line of `--json`.
#[derive(Serialize)]
struct Row<T> {
    schema: u32,
    #[serde(flatten)]
    data: T,
}

/// Replays, in one of three ways.
///
/// # Errors
/// [`Fault`]
pub(super) fn replay(args: &ReplayArgs, output: &Output) -> Result<ExitStatus, Fault> {
    // Before the file is read: a long recording takes its time.
    let instructions = args.script.as_deref().map(script).transpose().map_err(refused)?;
    let lines = load(&args.file).map_err(|error| unusable(&error))?;
    let mut session = Session::new(lines).map_err(|error| {
        let hint = "a recording begins with a line {\"born\": ...}: is this one?";
        Fault::new(ExitStatus::BadData, "the recording cannot be replayed", hint).because(&error)
    })?;
    if args.transitions {
        transitions(&mut session, args.json, output)?;
        return Ok(ExitStatus::Done);
    }
    let mut prompt = Prompt::new(session);
    match instructions {
        None => converse(prompt, args.json, output)?,
        Some(instructions) => {
            if let Done::Refused(error) = follow(&mut prompt, &instructions, args.json, output)? {
                return Err(refused(error));
            }
        }
    }
    Ok(ExitStatus::Done)
}

fn unusable(error: &LoadError) -> Fault {
    let status = match error {
        LoadError::NoFile { .. } => ExitStatus::NoInput,
        LoadError::NoRecording { .. } => ExitStatus::BadData,
    };
    let mut fault = Fault::new(status, error.to_string(), error.hint());
    if let Fault::Said(said) = &mut fault {
        said.causes = error.causes().iter().map(|cause| clean(cause)).collect();
    }
    fault
}

/// An instruction that was not carried out, where nobody is there to type another.
fn refused(error: PromptError) -> Fault {
    let status = if error.is_usage() { ExitStatus::Usage } else { ExitStatus::Failed };
    Fault::new(status, error.to_string(), error.hint())
}

/// Every state change, as it comes.
fn transitions(session: &mut Session, as_json: bool, output: &Output) -> Result<(), Fault> {
    let mut text = String::new();
    let mut outcome = Ok(());
    session.history(session.steps(), |transition| {
        if outcome.is_ok() {
            outcome = line(transition, as_json).and_then(|line| {
                text += &line;
                if text.len() < CHUNK_BYTES {
                    return Ok(());
                }
                output.data(std::mem::take(&mut text)).map_err(Fault::from)
            });
        }
    });
    outcome?;
    Ok(output.data(text)?)
}

fn line(transition: &Transition, as_json: bool) -> Result<String, Fault> {
    if as_json { json(transition) } else { Ok(shown(&transition.line())) }
}

fn json(data: impl Serialize) -> Result<String, Fault> {
    let row = Row { schema: REPLAY_SCHEMA, data };
    match serde_json::to_string(&row) {
        Ok(text) => Ok(text + "\n"),
        Err(error) => {
            let fault =
                Fault::new(ExitStatus::Bug, "the data cannot be written as JSON", "please report this");
            Err(fault.because(&error))
        }
    }
}

/// Each line cleaned: a recording holds what programs have said.
fn shown(text: &str) -> String {
    text.lines().map(|line| clean(line) + "\n").collect()
}

fn tell(answer: &Answer, as_json: bool, output: &Output) -> Result<(), Fault> {
    let text = if as_json { json(answer)? } else { shown(&answer.text()) };
    Ok(output.data(text)?)
}

/// How far instructions were carried out.
enum Done {
    /// All of them.
    All,
    /// Up to a `quit`.
    Over,
    /// Up to one that was refused.
    Refused(PromptError),
}

/// Carries out instructions and shows each answer, as it comes.
fn follow(
    prompt: &mut Prompt,
    instructions: &[Instruction],
    as_json: bool,
    output: &Output,
) -> Result<Done, Fault> {
    for instruction in instructions {
        match prompt.obey(instruction) {
            Ok(Answer::Quit) => return Ok(Done::Over),
            Ok(answer) => tell(&answer, as_json, output)?,
            Err(error) => return Ok(Done::Refused(error)),
        }
    }
    Ok(Done::All)
}

/// Instructions from stdin, line by line, until it ends.
fn converse(mut prompt: Prompt, as_json: bool, output: &Output) -> Result<(), Fault> {
    let stdin = io::stdin();
    let person = stdin.is_terminal();
    if person {
        output.note("`help` lists the instructions, `quit` ends\n")?;
        follow(&mut prompt, &[Instruction::Where], as_json, output)?;
    }
    loop {
        if person {
            output.note(&format!("{}/{}> ", prompt.session().step().step, prompt.session().steps()))?;
        }
        let Some(typed) = read_line(&mut stdin.lock())? else { break };
        let done = match script(&typed) {
            Ok(instructions) => follow(&mut prompt, &instructions, as_json, output)?,
            Err(error) => Done::Refused(error),
        };
        match done {
            Done::All => {}
            Done::Over => return Ok(()),
            Done::Refused(error) if person => {
                let (what, hint) = (clean(&error.to_string()), clean(&error.hint()));
                output.note(&format!("error: {what}\nhint: {hint}\n"))?;
            }
            Done::Refused(error) => return Err(refused(error)),
        }
    }
    if person {
        output.note("\n")?;
    }
    Ok(())
}

/// One line. `None`: there are no more.
fn read_line(from: &mut impl BufRead) -> Result<Option<String>, Fault> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    let count = Read::take(from, limit + 1).read_until(b'\n', &mut bytes).map_err(|error| {
        Fault::new(ExitStatus::Failed, "the instructions cannot be read", "give them with --script")
            .because(&error)
    })?;
    if count > LINE_BYTES_MAX {
        return Err(refused(PromptError::TooLong { limit: LINE_BYTES_MAX }));
    }
    Ok((count > 0).then(|| String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_up_to_a_limit() {
        let mut from = &b"step\ncontinue"[..];
        assert_eq!(read_line(&mut from).unwrap().as_deref(), Some("step\n"));
        assert_eq!(read_line(&mut from).unwrap().as_deref(), Some("continue"));
        assert!(read_line(&mut from).unwrap().is_none());
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        assert!(read_line(&mut long.as_slice()).is_err());
    }

    #[test]
    fn what_a_terminal_would_obey_is_not_shown() {
        assert_eq!(shown("a\u{1b}[2J\nb\n"), "a\u{fffd}[2J\nb\n");
    }
}
