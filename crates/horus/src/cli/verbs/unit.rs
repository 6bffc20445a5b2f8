//! Horus as a service of the system: `status --service`, and what systemd and makers of packages call.

use clap::CommandFactory;
use horus_service::{
    Account, Lack, Manager, RunError, Scope, ServiceStatus, State, StopPost, Swept, SystemRunner, Target,
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
use crate::daemon::preflight::Check;

/// Version of what `horus status --service --json` prints.
const SERVICE_SCHEMA: u32 = 1;

/// `horus status --service --json`
#[derive(Serialize)]
struct ServicesReport<'a> {
    schema: u32,
    services: &'a [ServiceStatus],
}

pub(super) fn status(args: &StatusArgs, output: &Output) -> Result<ExitStatus, Fault> {
    let mut unheard = Vec::new();
    let services = services_of(&Account::of_process(), |error| unheard.push(error));
    let services = services.map_err(|error| no_answer(&error))?;
    for error in unheard {
        output.note(&format!("{error}\n"))?;
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

/// The services that may be meant, whether they are there or not. A manager that is there and does not answer is passed over.
///
/// # Errors
/// There is no manager.
fn services_of(account: &Account, mut unheard: impl FnMut(RunError)) -> Result<Vec<ServiceStatus>, RunError> {
    let manager = Manager::of_this_system();
    // Root's own manager runs on few machines, and nobody else's services are root's business.
    let scopes = if account.uid == 0 { &[Scope::System][..] } else { &[Scope::User, Scope::System] };
    let mut services = Vec::new();
    for scope in scopes {
        match ask(Target { manager, scope: *scope }, account, &mut SystemRunner) {
            Ok(status) => services.push(status),
            Err(error @ RunError::NotStarted { .. }) => return Err(error),
            Err(error) => unheard(error),
        }
    }
    Ok(services)
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
    row("kept", status.kept_descriptors.map(|kept| kept_of(kept, status.keeps_at_most)), Paint::Plain);
    row("file", status.file.as_ref().map(|file| file.display().to_string()), Paint::Plain);
    if status.needs_reload == Some(true) {
        row("hint", Some("the file was changed: systemctl daemon-reload".to_owned()), Paint::Look);
    }
    row("program", replaced(status), Paint::Look);
    for lack in &status.lacks {
        row("lacks", Some(format!("{}: {}; {}", lack.setting, lack.loss, lack.hint())), Paint::Look);
    }
    format!("{} ({})\n{}", style.paint(Paint::Head, &status.unit), status.target, table.render(2, style))
}

fn kept_of(kept: u64, most: Option<u64>) -> String {
    match most {
        Some(0) => "nothing: the unit allows no descriptors".to_owned(),
        Some(most) => format!("{kept} of at most {most} descriptors"),
        None => format!("{kept} descriptors"),
    }
}

/// Another program stands where the manager would take it than the one that runs.
fn replaced(status: &ServiceStatus) -> Option<String> {
    let program = status.program.as_ref().filter(|_| status.runs_another == Some(true))?;
    let text = "is not the file that runs; `horus upgrade` goes over to it, a restart does too";
    Some(format!("{} {text}", program.display()))
}

/// What of the service itself is not as it should be, for `horus doctor`.
pub(super) fn examine() -> Vec<Check> {
    let nobody = "nobody starts Horus again after a crash or a reboot";
    let services = match services_of(&Account::of_process(), |_| {}) {
        Ok(services) => services,
        Err(error) => {
            let hint = "have it started by what starts services here";
            return vec![Check::warn("service", format!("{nobody}: {error}"), hint)];
        }
    };
    let installed = services.iter().filter(|status| status.state != State::NotInstalled);
    let checks: Vec<Check> = installed.flat_map(examine_one).collect();
    if checks.is_empty() {
        let reason = format!("{nobody}: it is not installed as a service");
        return vec![Check::warn("service", reason, "horus install --dry-run")];
    }
    checks
}

fn examine_one(status: &ServiceStatus) -> Vec<Check> {
    let (unit, target) = (&status.unit, status.target);
    let warn = |reason: String, hint: &str| Check::warn("service", format!("{target}: {reason}"), hint);
    let mut checks = Vec::new();
    if status.enabled == Some(false) {
        checks.push(warn(format!("{unit} is not started after a reboot"), "horus install"));
    }
    if let Some(text) = replaced(status) {
        checks.push(warn(text, "horus upgrade"));
    }
    let lack = |lack: &Lack| warn(format!("no {}: {}", lack.setting, lack.loss), lack.hint());
    checks.extend(status.lacks.iter().map(lack));
    if checks.is_empty() {
        checks.push(Check::ok("service", format!("{unit} is there, the {target}")));
    }
    checks
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
            keeps_at_most: Some(8_192),
            program: Some("/usr/local/bin/horus".into()),
            runs_another: Some(true),
            lacks: vec![Lack { setting: "WatchdogSec=30s", loss: "a Horus that hangs is not replaced" }],
        };
        insta::assert_snapshot!(render(&status, Style::new(false)), @"
        horus.service (systemd service of the machine)
        state     running (active, running, since Sun 2026-11-22 10:00:00 UTC)
        says      3 services, 3 healthy
        pid       4711
        restarts  1 restart
        start     starts by itself
        watchdog  has to beat every 30 s
        kept      6 of at most 8192 descriptors
        file      /etc/systemd/system/horus.service
        hint      the file was changed: systemctl daemon-reload
        program   /usr/local/bin/horus is not the file that runs; `horus upgrade` goes over to it, a restart does too
        lacks     WatchdogSec=30s: a Horus that hangs is not replaced; horus install
        ");
        let told: Vec<String> = examine_one(&status).iter().map(Check::to_string).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[1].ends_with("(hint: horus install)"), "{told:?}");
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
            keeps_at_most: None,
            runs_another: None,
            lacks: Vec::new(),
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
