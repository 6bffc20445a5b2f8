//! Horus as a service of the system: `status --service`, and what systemd and makers of packages call.

use clap::CommandFactory;
use horus_service::{
    Account, Manager, RunError, Scope, ServiceStatus, State, StopPost, Swept, SystemRunner, Target,
    status as ask,
};
use serde::Serialize;

use super::install::no_answer;
use super::show::json;
use crate::cli::args::{CommandLine, ManualArgs, StatusArgs, StopPostArgs};
use crate::cli::exit::ExitStatus;
use crate::cli::fault::Fault;
use crate::cli::output::Output;
use crate::cli::render::style::{Paint, Style};
use crate::cli::render::text::{Cell, Table, count};

/// Version of what `horus status --service --json` prints.
const SERVICE_SCHEMA: u32 = 1;

/// `horus status --service --json`
#[derive(Serialize)]
struct ServicesReport<'a> {
    schema: u32,
    services: &'a [ServiceStatus],
}

pub(super) fn status(args: &StatusArgs, output: &Output) -> Result<ExitStatus, Fault> {
    let account = Account::of_process();
    let manager = Manager::of_this_system();
    // Root's own manager runs on few machines, and nobody else's services are root's business.
    let scopes = if account.uid == 0 { &[Scope::System][..] } else { &[Scope::User, Scope::System] };
    let mut services = Vec::new();
    for scope in scopes {
        match ask(Target { manager, scope: *scope }, &account, &mut SystemRunner) {
            Ok(status) => services.push(status),
            Err(error @ RunError::NotStarted { .. }) => return Err(no_answer(&error)),
            Err(error) => output.note(&format!("{error}\n"))?,
        }
    }
    let installed = |status: &&ServiceStatus| status.state != State::NotInstalled;
    if args.json {
        output.data(json(&ServicesReport { schema: SERVICE_SCHEMA, services: &services }, true)?)?;
    } else {
        for status in services.iter().filter(installed) {
            output.data(render(status, output.style))?;
        }
    }
    if services.iter().any(|status| status.state == State::Running) {
        return Ok(ExitStatus::Done);
    }
    if services.iter().any(|status| installed(&status)) || args.json {
        return Ok(ExitStatus::NoDaemon);
    }
    Err(Fault::new(ExitStatus::NoDaemon, "Horus is not installed as a service", "horus install --dry-run"))
}

fn render(status: &ServiceStatus, style: Style) -> String {
    let (word, paint) = match status.state {
        State::Running => ("running", Paint::Good),
        State::Changing => ("changing", Paint::Look),
        State::Stopped => ("stopped", Paint::Quiet),
        State::Failed => ("FAILED", Paint::Bad),
        State::NotInstalled => ("not installed", Paint::Dim),
    };
    let mut table = Table::default();
    let mut row = |name: &str, value: Option<String>, paint| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            table.row(vec![Cell::new(name, Paint::Dim), Cell::new(value, paint)], String::new());
        }
    };
    let since = status.since.as_ref().map_or_else(String::new, |since| format!(", since {since}"));
    row("state", Some(format!("{word} ({}{since})", status.detail)), paint);
    row("says", status.says.clone(), Paint::Plain);
    row("pid", status.pid.map(|pid| pid.to_string()), Paint::Plain);
    let restarts = |number: u64| count(usize::try_from(number).unwrap_or(usize::MAX), "restart");
    row("restarts", status.restarts.map(restarts), Paint::Plain);
    let enabled = |yes| if yes { "starts by itself" } else { "does not start by itself: horus install" };
    row("start", status.enabled.map(|yes| enabled(yes).to_owned()), Paint::Plain);
    let beat = |milliseconds: u64| match milliseconds {
        0 => "none: a hung Horus would not be noticed".to_owned(),
        some => format!("has to beat every {} s", some / 1_000),
    };
    row("watchdog", status.watchdog_ms.map(beat), Paint::Plain);
    row("kept", status.kept_descriptors.map(|kept| format!("{kept} descriptors")), Paint::Plain);
    row("file", status.file.as_ref().map(|file| file.display().to_string()), Paint::Plain);
    if status.needs_reload == Some(true) {
        row("hint", Some("the file was changed: systemctl daemon-reload".to_owned()), Paint::Look);
    }
    format!("{} ({})\n{}", style.paint(Paint::Head, &status.unit), status.target, table.render(2, style))
}

pub(super) fn stop_post(args: &StopPostArgs, output: &Output) -> Result<ExitStatus, Fault> {
    let scope = if args.user { Scope::User } else { Scope::System };
    let hint = "this is for systemd: see ExecStopPost in the unit; to stop the service: systemctl stop horus";
    let done = horus_service::stop_post(scope, &mut SystemRunner).map_err(|error| {
        Fault::new(ExitStatus::Failed, "what Horus left behind was not looked for", hint).because(&error)
    })?;
    match done {
        StopPost::LeftAlone(_) => output.note("no stop: whoever runs goes on\n")?,
        StopPost::Swept(Swept { found, .. }) if found.is_empty() => {}
        StopPost::Swept(Swept { found, left }) => {
            let pids = |set: &std::collections::BTreeSet<_>| {
                let pids = set.iter().map(|process: &horus_sys::process::ProcessId| process.pid.to_string());
                pids.collect::<Vec<_>>().join(", ")
            };
            output.note(&format!("Horus had left processes behind; ended: {}\n", pids(&found)))?;
            if !left.is_empty() {
                let message = format!("these processes do not end: {}", pids(&left));
                return Err(Fault::new(
                    ExitStatus::Failed,
                    message,
                    "they hang in the kernel: look at dmesg",
                ));
            }
        }
    }
    Ok(ExitStatus::Done)
}

pub(super) fn manual(args: &ManualArgs, output: &Output) -> Result<ExitStatus, Fault> {
    let folder = &args.folder;
    let unwritable = |error: std::io::Error| {
        let message = format!("{} takes no manual pages", folder.display());
        Fault::new(ExitStatus::Failed, message, "name a folder that is yours").because(&error)
    };
    std::fs::create_dir_all(folder).map_err(unwritable)?;
    clap_mangen::generate_to(CommandLine::command(), folder).map_err(unwritable)?;
    output.note(&format!("manual pages written to {}\n", folder.display()))?;
    Ok(ExitStatus::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_shown_with_what_its_manager_says_and_nothing_else() {
        let mut status = ServiceStatus {
            target: Target { manager: Manager::Systemd, scope: Scope::System },
            unit: "horus.service".into(),
            state: State::Running,
            detail: "active, running".into(),
            file: Some("/etc/systemd/system/horus.service".into()),
            enabled: Some(true),
            pid: Some(4711),
            since: Some("Sun 2026-11-22 10:00:00 UTC".into()),
            restarts: Some(1),
            kept_descriptors: Some(6),
            watchdog_ms: Some(30_000),
            says: Some("3 services, 3 healthy".into()),
            needs_reload: Some(true),
        };
        insta::assert_snapshot!(render(&status, Style::new(false)), @"
        horus.service (systemd service of the machine)
        state     running (active, running, since Sun 2026-11-22 10:00:00 UTC)
        says      3 services, 3 healthy
        pid       4711
        restarts  1 restart
        start     starts by itself
        watchdog  has to beat every 30 s
        kept      6 descriptors
        file      /etc/systemd/system/horus.service
        hint      the file was changed: systemctl daemon-reload
        ");
        status = ServiceStatus {
            target: Target { manager: Manager::Launchd, scope: Scope::User },
            unit: "dev.horus.agent".into(),
            state: State::Stopped,
            detail: "not running, last ended with 78".into(),
            file: Some("/Users/ann/Library/LaunchAgents/dev.horus.agent.plist".into()),
            since: None,
            restarts: None,
            kept_descriptors: None,
            watchdog_ms: None,
            says: None,
            needs_reload: None,
            pid: None,
            ..status
        };
        insta::assert_snapshot!(render(&status, Style::new(false)), @"
        dev.horus.agent (launchd agent of this user)
        state  stopped (not running, last ended with 78)
        start  starts by itself
        file   /Users/ann/Library/LaunchAgents/dev.horus.agent.plist
        ");
    }
}
