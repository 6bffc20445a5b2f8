//! `status`, `explain`, `logs`, `events`, `incidents`, `incident`: reading, and nothing else.

use std::time::Duration;

use horus_api::{
    API_SCHEMA, Client, EVENTS_MAX, EndWhy, EventLine, EventQuery, INCIDENTS_MAX, LOG_LINES_MAX,
    ServiceReport,
};
use horus_core::record::Recorded;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::cli::args::{EventsArgs, ExplainArgs, IncidentArgs, IncidentsArgs, LogsArgs, StatusArgs};
use crate::cli::exit::ExitStatus;
use crate::cli::fault::Fault;
use crate::cli::output::Output;
use crate::cli::render::events::{render_debts, render_event, render_incidents};
use crate::cli::render::explain::render_explanation;
use crate::cli::render::incident::render_incident;
use crate::cli::render::service::render_service;
use crate::cli::render::status::render_status;

/// How often `status --watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Cursor home; then the rest of the screen is emptied after the new text, so that nothing flickers.
const HOME: &str = "\u{1b}[H";

pub(super) async fn status(client: &Client, args: &StatusArgs, output: &Output) -> Result<ExitStatus, Fault> {
    loop {
        let text = status_text(client, args, output).await?;
        if !args.watch {
            output.data(text)?;
            return Ok(ExitStatus::Done);
        }
        if output.screen && !args.json {
            let lines: String = text.lines().map(|line| format!("{line}\u{1b}[K\n")).collect();
            output.data(format!("{HOME}{lines}\u{1b}[J"))?;
        } else {
            output.data(format!("{text}\n"))?;
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

async fn status_text(client: &Client, args: &StatusArgs, output: &Output) -> Result<String, Fault> {
    let StatusArgs { name, json: as_json, watch, .. } = args;
    match name {
        Some(name) => {
            let service = client.service(name).await?;
            if *as_json {
                return json(&ServiceReport { schema: API_SCHEMA, service }, !watch);
            }
            Ok(render_service(&service, output.width, output.style))
        }
        None => {
            let report = client.status().await?;
            if *as_json {
                return json(&report, !watch);
            }
            Ok(render_status(&report, output.width, output.style))
        }
    }
}

pub(super) async fn explain(
    client: &Client,
    args: &ExplainArgs,
    output: &Output,
) -> Result<ExitStatus, Fault> {
    let explanation = client.explain(&args.name).await?;
    let text = if args.json {
        json(&explanation, true)?
    } else {
        render_explanation(&explanation, output.width, output.style)
    };
    output.data(text)?;
    Ok(ExitStatus::Done)
}

/// Data as JSON: over several lines for people, on one for streams. Ends with a line break.
pub(super) fn json<T: Serialize>(data: &T, pretty: bool) -> Result<String, Fault> {
    let text = if pretty { serde_json::to_string_pretty(data) } else { serde_json::to_string(data) };
    match text {
        Ok(text) => Ok(text + "\n"),
        Err(error) => {
            Err(Fault::new(ExitStatus::Bug, "the data cannot be written as JSON", "please report this")
                .because(&error))
        }
    }
}

pub(super) async fn logs(client: &Client, args: &LogsArgs, output: &Output) -> Result<ExitStatus, Fault> {
    at_most("-n", args.lines, LOG_LINES_MAX)?;
    let mut pieces = client.logs(&args.name, args.lines, args.follow).await?;
    while let Some(piece) = pieces.next().await? {
        output.data(&piece)?;
    }
    Ok(ExitStatus::Done)
}

/// A row of `horus events --json`.
#[derive(Serialize)]
struct EventRow<'a> {
    schema: u32,
    #[serde(flatten)]
    event: &'a Recorded,
}

pub(super) async fn events(client: &Client, args: &EventsArgs, output: &Output) -> Result<ExitStatus, Fault> {
    at_most("-n", args.number, EVENTS_MAX)?;
    let query = EventQuery {
        after: None,
        limit: args.number,
        subject: args.service.clone(),
        incident: args.incident,
    };
    let zone = TimeZone::system();
    let show = |event: &Recorded| -> Result<(), Fault> {
        let line = if args.json {
            json(&EventRow { schema: API_SCHEMA, event }, false)?
        } else {
            render_event(event, &zone, output.style)
        };
        Ok(output.data(line)?)
    };
    if !args.follow {
        let report = client.events(&query).await?;
        report.events.iter().try_for_each(show)?;
        return Ok(ExitStatus::Done);
    }
    let mut stream = client.follow_events(&query).await?;
    loop {
        match stream.next().await? {
            Some(EventLine::Event(event)) => show(&event)?,
            Some(EventLine::End(end)) => {
                let status = match end.why {
                    EndWhy::ShuttingDown => ExitStatus::NoDaemon,
                    EndWhy::TooSlow | EndWhy::Fault => ExitStatus::Failed,
                };
                return Err(Fault::new(status, end.detail, "horus events -f"));
            }
            None => return Err(Fault::new(ExitStatus::NoDaemon, "horus went away", "horus status")),
        }
    }
}

pub(super) async fn incidents(
    client: &Client,
    args: &IncidentsArgs,
    output: &Output,
) -> Result<ExitStatus, Fault> {
    if args.debt {
        return debts(client, args.json, output).await;
    }
    at_most("-n", args.number, INCIDENTS_MAX)?;
    let report = client.incidents(args.open, args.number).await?;
    if args.json {
        output.data(json(&report, true)?)?;
    } else if report.incidents.is_empty() {
        output.note(if args.open { "no incident is open\n" } else { "no incidents\n" })?;
    } else {
        let zone = TimeZone::system();
        output.data(render_incidents(&report.incidents, Timestamp::now(), &zone, output.style))?;
    }
    Ok(ExitStatus::Done)
}

async fn debts(client: &Client, as_json: bool, output: &Output) -> Result<ExitStatus, Fault> {
    let report = client.debts().await?;
    if as_json {
        output.data(json(&report, true)?)?;
    } else if report.debts.is_empty() {
        output.note("nothing is owed: every surprise has its rule\n")?;
    } else {
        output.data(render_debts(&report.debts, Timestamp::now(), output.style))?;
        output.note("hint: horus incident ID --rule TEXT, when there is a rule or a test against it\n")?;
    }
    Ok(ExitStatus::Done)
}

pub(super) async fn incident(
    client: &Client,
    args: &IncidentArgs,
    output: &Output,
) -> Result<ExitStatus, Fault> {
    if let Some(text) = &args.rule {
        return note_rule(client, args, text, output).await;
    }
    let report = client.incident(args.id).await?;
    if args.evidence {
        return super::evidence::evidence(&report, args.json, output);
    }
    if args.report {
        return super::postmortem::postmortem(client, &report, output).await;
    }
    let text = if args.json {
        json(&report, true)?
    } else {
        render_incident(&report, Timestamp::now(), &TimeZone::system(), output.width, output.style)
    };
    output.data(text)?;
    Ok(ExitStatus::Done)
}

async fn note_rule(
    client: &Client,
    args: &IncidentArgs,
    text: &str,
    output: &Output,
) -> Result<ExitStatus, Fault> {
    let report = client.note_rule(args.id, text).await?;
    if args.json {
        output.data(json(&report, true)?)?;
    } else {
        let ids: Vec<String> = report.incidents.iter().map(ToString::to_string).collect();
        output.data(format!("noted for {}\n", ids.join(", ")))?;
    }
    match report.unsaved {
        None => Ok(ExitStatus::Done),
        Some(why) => Err(Fault::new(
            ExitStatus::Failed,
            format!("the note is not on disk ({why}) and may end with this horus"),
            "horus doctor",
        )),
    }
}

/// A number that would be cut in silence is refused instead.
fn at_most(option: &str, number: usize, most: usize) -> Result<(), Fault> {
    if number <= most {
        return Ok(());
    }
    Err(Fault::new(
        ExitStatus::Usage,
        format!("{option} {number} is more than the {most} that are answered at once"),
        format!("{option} {most}"),
    ))
}
