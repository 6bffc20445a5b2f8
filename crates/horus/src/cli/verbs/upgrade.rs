//! `upgrade`: asks the daemon to become another program, and waits until that program says how it went.
//!
//! The answer of the old program comes before the change, for nobody answers during it. So the outcome is asked of whoever
//! opens the door again: the same process, as a new program, or as the old one if that could not go on.

use std::path::PathBuf;
use std::time::Duration;

use horus_api::{AskStep, AskStream, Client, ClientError, ProblemKind, UpgradeReport};
use horus_core::command::Answer;
use tokio::time::Instant;

use super::show::json;
use crate::cli::args::UpgradeArgs;
use crate::cli::exit::ExitStatus;
use crate::cli::fault::Fault;
use crate::cli::output::Output;
use crate::cli::render::text::clean;

/// How long the change may take, with its keeper: longer than the daemon's own patience with that.
const OUTCOME_MAX: Duration = Duration::from_secs(90);

/// Pause between two questions for the outcome.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(super) async fn upgrade(
    client: &Client,
    args: &UpgradeArgs,
    output: &Output,
) -> Result<ExitStatus, Fault> {
    let executable = args.binary.as_ref().map(std::path::absolute).transpose();
    let executable: Option<PathBuf> = executable.map_err(|error| {
        Fault::new(ExitStatus::NoInput, "the program's path is not understood", "name it whole")
            .because(&error)
    })?;
    let before = client.upgrade_report().await.map_err(too_old)?;
    let steps = client.upgrade(executable.as_deref(), args.dry_run).await?;
    let answer = follow(steps, output).await;
    match answer {
        Ok(Answer::Done(text)) if args.dry_run => {
            if args.json {
                output.data(json(&serde_json::json!({ "dry_run": true, "text": text }), true)?)?;
            } else {
                output.data(format!("{}\n", clean(&text)))?;
            }
            return Ok(ExitStatus::Done);
        }
        Ok(Answer::Done(text)) => output.note(&format!("{}\n", clean(&text)))?,
        Ok(Answer::Refused { why, hint }) => {
            return Err(Fault::new(ExitStatus::Failed, clean(&why), hint));
        }
        Ok(Answer::Failed(text)) => {
            return Err(Fault::new(ExitStatus::Failed, clean(&text), "horus events --service horus"));
        }
        // It may be changing already; its report tells.
        Err(ClientError::Broken { .. } | ClientError::NotUnderstood { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let report = outcome(client, &before).await?;
    tell(&report, args.json, output)
}

/// A daemon that does not know the word is as good as none, for whoever wants another.
fn too_old(error: ClientError) -> Fault {
    match error {
        ClientError::Problem(problem) if problem.kind == ProblemKind::NoSuchPath => Fault::new(
            ExitStatus::NoDaemon,
            "the horus that runs is too old to become another program",
            "start it anew, which its services do not notice: systemctl restart horus",
        ),
        error => error.into(),
    }
}

/// Shows the steps as they come, up to the answer.
async fn follow(mut steps: AskStream, output: &Output) -> Result<Answer, ClientError> {
    loop {
        match steps.next().await? {
            AskStep::Answer(answer) => return Ok(answer),
            AskStep::Progress(progress) => {
                // Who does not read stderr still gets the outcome.
                let _ = output.note(&format!("{}\n", clean(&progress.text)));
            }
        }
    }
}

/// Waits until one more try is over.
async fn outcome(client: &Client, before: &UpgradeReport) -> Result<UpgradeReport, Fault> {
    let end = Instant::now() + OUTCOME_MAX;
    let mut last_error = None;
    while Instant::now() < end {
        match client.upgrade_report().await {
            Ok(report) if report.pid != before.pid => {
                return Err(Fault::new(
                    ExitStatus::Failed,
                    format!("the new program died, and Horus was started anew as {}", clean(&report.program)),
                    "horus events --service horus",
                ));
            }
            Ok(report) if report.tries > before.tries && !report.under_way => return Ok(report),
            Ok(_) => last_error = None,
            // Nobody listens only if the process has died.
            Err(error) => last_error = Some(error),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    match last_error {
        Some(error) => Err(error.into()),
        None => Err(Fault::new(
            ExitStatus::Failed,
            format!("the upgrade was not over after {} s", OUTCOME_MAX.as_secs()),
            "horus events --service horus",
        )),
    }
}

fn tell(report: &UpgradeReport, as_json: bool, output: &Output) -> Result<ExitStatus, Fault> {
    let outcome = report.last.as_ref();
    let upgraded = outcome.is_some_and(|outcome| outcome.upgraded);
    let text = outcome.map_or("nothing is known of it", |outcome| outcome.text.as_str());
    if as_json {
        output.data(json(report, true)?)?;
        return Ok(if upgraded { ExitStatus::Done } else { ExitStatus::Failed });
    }
    if upgraded {
        output.data(format!("{}\n", clean(text)))?;
        return Ok(ExitStatus::Done);
    }
    let hint = outcome.and_then(|outcome| outcome.hint.clone());
    Err(Fault::new(
        ExitStatus::Failed,
        clean(text),
        hint.unwrap_or_else(|| "horus events --service horus".into()),
    ))
}
