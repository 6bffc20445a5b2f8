//! `check`, `init`, `reload`, `alerts test`, `completions`: looking after Horus itself.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use horus_api::{AlertsReport, Client, ReloadReport};
use horus_config::{
    Fault as Finding, Loaded, SystemEnvironment, TimingRow, Weight, load, resolve_secrets, starter,
};
use horus_core::ids::ServiceName;
use horus_core::plan::ServicePlan;
use horus_core::proof::Standing;
use serde::Serialize;

use super::show::json;
use crate::cli::args::{
    AlertsTestArgs, CheckArgs, CommandLine, CompletionsArgs, InitArgs, Place, ReloadArgs,
};
use crate::cli::exit::ExitStatus;
use crate::cli::fault::Fault;
use crate::cli::locate;
use crate::cli::output::Output;
use crate::cli::recorded;
use crate::cli::render::check::{
    render_findings, render_findings_plain, render_proofs, render_timing, render_verdict,
};
use crate::cli::render::style::Paint;
use crate::cli::render::text::{Cell, Table, clean};

/// Version of what `horus check --json` prints.
const CHECK_SCHEMA: u32 = 1;

/// `horus check --json`
#[derive(Serialize)]
struct CheckReport<'a> {
    schema: u32,
    file: String,
    usable: bool,
    faults: &'a [Finding],
    warnings: &'a [Finding],
    timing: &'a [TimingRow],
    proofs: &'a [Standing],
}

pub(super) fn check(place: &Place, args: &CheckArgs, output: &Output) -> Result<ExitStatus, Fault> {
    let file = match &args.file {
        Some(file) => file.clone(),
        None => locate::config(place, &SystemEnvironment)?,
    };
    let Loaded { faults, mut warnings, checked } = load(&file, &SystemEnvironment);
    if let Some(checked) = &checked {
        // A secret may be missing where a file is checked and be there where it is run.
        let missing = resolve_secrets(checked, &SystemEnvironment).err().unwrap_or_default();
        warnings.extend(missing.into_iter().map(Finding::into_warning));
        warnings.extend(recorded::contradictions(checked, args.state.as_deref(), output)?);
    }
    let status = if faults.is_empty() { ExitStatus::Done } else { ExitStatus::BadConfig };
    let timing = checked.as_ref().map_or(&[][..], |checked| &checked.timing);
    let proofs: Vec<Standing> =
        checked.iter().flat_map(|checked| &checked.plan.services).map(of_service).collect();
    let shown = file.display().to_string();
    if args.json {
        let (usable, schema) = (faults.is_empty(), CHECK_SCHEMA);
        let (faults, warnings, proofs) = (&faults, &warnings, &proofs);
        let report = CheckReport { schema, file: shown, usable, faults, warnings, timing, proofs };
        output.data(json(&report, true)?)?;
        return Ok(status);
    }
    for findings in [&faults, &warnings] {
        output.note(&if output.live {
            render_findings(findings, output.width, output.note_style)
        } else {
            render_findings_plain(findings)
        })?;
    }
    output.data(render_timing(timing, output.style))?;
    // A script gets one line for each; a person no line that is broken anywhere.
    output.data(render_proofs(&proofs, if output.live { output.width } else { usize::MAX }))?;
    let plan = checked.as_ref().map(|checked| &checked.plan);
    let sizes = plan.map(|plan| [plan.services.len(), plan.monitors.len(), plan.sinks.len()]);
    let real = warnings.iter().filter(|finding| finding.weight == Weight::Warning).count();
    output.note(&render_verdict(&shown, faults.len(), real, sizes))?;
    Ok(status)
}

fn of_service((name, plan): (&ServiceName, &ServicePlan)) -> Standing {
    Standing::of(name, plan)
}

pub(super) fn init(args: &InitArgs, output: &Output) -> Result<ExitStatus, Fault> {
    let file = &args.file;
    if let Err(error) = write_new(file, starter().as_bytes()) {
        let hint = match error.kind() {
            io::ErrorKind::AlreadyExists => format!("horus check {}", file.display()),
            _ => "name another file: horus init FILE".into(),
        };
        let message = format!("{} cannot be written", file.display());
        return Err(Fault::new(ExitStatus::Failed, message, hint).because(&error));
    }
    let shown = file.display();
    output.data(format!("{shown} written; describe your programs in it, then: horus check {shown}\n"))?;
    Ok(ExitStatus::Done)
}

/// Never over a file that is there.
fn write_new(file: &Path, content: &[u8]) -> io::Result<()> {
    let mut opened = std::fs::OpenOptions::new().write(true).create_new(true).open(file)?;
    opened.write_all(content)?;
    opened.sync_all()
}

pub(super) fn completions(args: &CompletionsArgs, output: &Output) -> Result<ExitStatus, Fault> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut CommandLine::command(), "horus", &mut script);
    output.data(script)?;
    Ok(ExitStatus::Done)
}

pub(super) async fn alerts_test(
    client: &Client,
    args: &AlertsTestArgs,
    output: &Output,
) -> Result<ExitStatus, Fault> {
    let report = client.alerts_test(args.sink.as_ref().map(|sink| sink.as_str())).await?;
    let failed = report.sinks.iter().any(|sink| !sink.delivered);
    let status = if failed { ExitStatus::Failed } else { ExitStatus::Done };
    if args.json {
        output.data(json(&report, true)?)?;
        return Ok(status);
    }
    output.data(render_alerts(&report, output))?;
    if report.sinks.is_empty() {
        return Err(Fault::new(
            ExitStatus::Failed,
            "there is no sink: nobody would be told",
            "add one to the configuration, such as [sink.ops] discord = { url_env = \"HORUS_DISCORD_URL\" }, and horus reload",
        ));
    }
    Ok(status)
}

fn render_alerts(report: &AlertsReport, output: &Output) -> String {
    let mut table = Table::default();
    for sink in &report.sinks {
        let (word, paint) = if sink.delivered { ("delivered", Paint::Good) } else { ("FAILED", Paint::Bad) };
        let cells = vec![
            Cell::new(sink.sink.as_str(), Paint::Head),
            Cell::new(word, paint),
            Cell::new(&sink.detail, Paint::Plain),
        ];
        table.row(cells, String::new());
    }
    table.render(2, output.style)
}

pub(super) async fn reload(client: &Client, args: &ReloadArgs, output: &Output) -> Result<ExitStatus, Fault> {
    let report = client.reload(args.dry_run).await?;
    let status = if report.faults.is_empty() { ExitStatus::Done } else { ExitStatus::BadConfig };
    if args.json {
        output.data(json(&report, true)?)?;
        return Ok(status);
    }
    output.data(render_changes(&report))?;
    if report.faults.is_empty() {
        return Ok(status);
    }
    for fault in &report.faults {
        let help = fault.help.as_ref().map_or_else(String::new, |help| format!(" (help: {help})"));
        let line = clean(&format!("{}: error: {}{help}", fault.place, fault.message));
        output.note(&format!("{line}\n"))?;
    }
    Err(Fault::new(status, "the configuration has faults; nothing was changed", "horus check"))
}

fn render_changes(report: &ReloadReport) -> String {
    if !report.faults.is_empty() {
        return String::new();
    }
    let lines: String = report.changes.iter().map(|change| format!("  {}\n", clean(change))).collect();
    match (report.changes.is_empty(), report.applied) {
        (true, _) => "nothing has changed\n".into(),
        (false, true) => format!("in force:\n{lines}"),
        (false, false) => format!("would change (this was a dry run):\n{lines}"),
    }
}
