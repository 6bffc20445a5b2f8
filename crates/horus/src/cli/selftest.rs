//! `horus selftest`: fires everything once, in a sandbox, and names what cannot fire.
//!
//! Three parts: the judge's own words, the detectors of somebody's plan, the sinks of that plan. None needs a daemon, and
//! nothing is started, signalled or (without `--send`) sent. Secrets are only asked for whether they are there.

use std::time::Duration;

use horus_alert::http::install_tls_provider;
use horus_alert::rehearsal::rehearse;
use horus_alert::{Client, HttpSink, Letterhead, Route, test_sink, wall_clock};
use horus_config::{Checked, Loaded, SystemEnvironment, load, resolve_secrets};
use horus_core::ids::SinkName;
use horus_core::plan::{Plan, Secret, SinkPlan};
use horus_sim::selftest::{DrillReport, Proof, drill, prove};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::args::{Place, SelftestArgs};
use super::exit::ExitStatus;
use super::fault::Fault;
use super::locate;
use super::output::Output;
use super::render::check::{render_findings, render_findings_plain};
use super::render::selftest::{
    SinkRow, render_drills, render_outcome, render_sinks, render_sums, render_words,
};

/// Version of what `horus selftest --json` prints.
const SELFTEST_SCHEMA: u32 = 1;

/// A sink that has not answered a test message by then is given up.
const SEND_MAX: Duration = Duration::from_secs(60);

/// `horus selftest --json`
#[derive(Serialize)]
struct SelftestReport<'a> {
    schema: u32,
    passed: bool,
    judge: &'a Proof,
    file: Option<String>,
    plan: Option<&'a DrillReport>,
    sinks: &'a [SinkRow],
}

/// Tests.
///
/// # Errors
/// [`Fault`]
pub(super) async fn selftest(
    place: &Place,
    args: &SelftestArgs,
    output: &Output,
) -> Result<ExitStatus, Fault> {
    let checked = if args.rules { None } else { Some(usable(place, output)?) };
    let proof = prove();
    let plan = checked.as_ref().map(|(_, checked)| drill(&checked.plan));
    let sinks = match &checked {
        Some((_, checked)) => sinks(checked, args.send).await?,
        None => Vec::new(),
    };
    let passed = proof.unproven().is_empty()
        && plan.as_ref().is_none_or(|plan| plan.wrong().next().is_none())
        && sinks.iter().all(|sink| sink.faults.is_empty() && sink.delivered != Some(false));
    let status = if passed { ExitStatus::Done } else { ExitStatus::Failed };
    if args.json {
        let (schema, judge, file) = (SELFTEST_SCHEMA, &proof, checked.map(|(file, _)| file));
        let report = SelftestReport { schema, passed, judge, file, plan: plan.as_ref(), sinks: &sinks };
        let text = serde_json::to_string_pretty(&report).map_err(|error| {
            Fault::new(ExitStatus::Bug, "the data cannot be written as JSON", "please report this")
                .because(&error)
        })?;
        output.data(text + "\n")?;
        return Ok(status);
    }
    let mut text =
        if args.rules { render_words(&proof, output.style) } else { render_sums(&proof, output.style) };
    if let Some(plan) = &plan {
        text += &format!("\n{}", render_drills(plan, output.style));
    }
    if !sinks.is_empty() {
        text += &format!("\n{}", render_sinks(&sinks, output.style));
    }
    output.data(text)?;
    output.note(&render_outcome(&proof, plan.as_ref()))?;
    Ok(status)
}

/// The plan, or the faults of its file.
fn usable(place: &Place, output: &Output) -> Result<(String, Checked), Fault> {
    let file = locate::config(place, &SystemEnvironment)?;
    let shown = file.display().to_string();
    let Loaded { faults, checked, .. } = load(&file, &SystemEnvironment);
    match checked {
        Some(checked) if faults.is_empty() => Ok((shown, checked)),
        _ => {
            output.note(&if output.live {
                render_findings(&faults, output.width, output.note_style)
            } else {
                render_findings_plain(&faults)
            })?;
            Err(Fault::new(
                ExitStatus::BadConfig,
                format!("{shown} has faults: there is no plan to test"),
                format!("horus check {shown}"),
            ))
        }
    }
}

async fn sinks(checked: &Checked, send: bool) -> Result<Vec<SinkRow>, Fault> {
    let plan = &checked.plan;
    let mut rows = Vec::new();
    for (name, sink) in &plan.sinks {
        let mut row = rehearsed(plan, name, sink)?;
        let secret = secret(checked, name);
        row.secret = match &secret {
            Ok(secret) => match Route::new(sink.kind, secret, sink.mention.as_deref()) {
                Ok(_) => "its URL is there".to_owned(),
                Err(error) => error.to_string(),
            },
            Err(missing) => format!("not found here: {missing}"),
        };
        if send {
            let answer = trial(plan, name, sink, secret).await;
            row.delivered = Some(answer.is_ok());
            row.answer = Some(answer.unwrap_or_else(|fault| fault));
        }
        rows.push(row);
    }
    Ok(rows)
}

/// The URL of one sink, whatever is missing for the others.
fn secret(checked: &Checked, name: &SinkName) -> Result<Secret, String> {
    let mut alone = checked.clone();
    alone.plan.sinks.retain(|other, _| other == name);
    let secrets = resolve_secrets(&alone, &SystemEnvironment).map_err(|faults| {
        let told: Vec<_> = faults.iter().map(|fault| fault.message.clone()).collect();
        told.join("; ")
    })?;
    secrets.into_values().next().ok_or_else(|| "it names none".to_owned())
}

fn rehearsed(plan: &Plan, name: &SinkName, sink: &SinkPlan) -> Result<SinkRow, Fault> {
    let found =
        rehearse(sink.kind, sink.severity, sink.mention.as_deref(), &plan.daemon.host).map_err(|error| {
            Fault::new(ExitStatus::Bug, "the rehearsal has no sink to play", "please report this")
                .because(&error)
        })?;
    Ok(SinkRow {
        sink: name.to_string(),
        kind: sink.kind,
        heard: found.heard,
        stories: found.stories,
        bodies: found.bodies,
        largest_bytes: found.largest_bytes,
        faults: found.faults,
        secret: String::new(),
        delivered: None,
        answer: None,
    })
}

/// One marked test message by the real way. What the sink said; `Err` if it did not take it.
async fn trial(
    plan: &Plan,
    name: &SinkName,
    sink: &SinkPlan,
    secret: Result<Secret, String>,
) -> Result<String, String> {
    let secret = secret.map_err(|missing| format!("not sent: {missing}"))?;
    install_tls_provider();
    let route = Route::new(sink.kind, &secret, sink.mention.as_deref()).map_err(|error| error.to_string())?;
    let client = Client::new().map_err(|error| error.to_string())?;
    let letterhead = Letterhead { host: plan.daemon.host.clone(), time_zone: TimeZone::system() };
    let http = HttpSink::new(route, &secret, client, letterhead, wall_clock());
    let trial = tokio::time::timeout(SEND_MAX, test_sink(name, &http, Timestamp::now()))
        .await
        .map_err(|_| "no answer".to_owned())?;
    if trial.is_delivered() { Ok(trial.to_string()) } else { Err(trial.to_string()) }
}
