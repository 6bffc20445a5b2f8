//! `horus doctor`: is everything here that Horus needs, before it is needed?

use horus_config::{Checked, Fault as Finding, SystemEnvironment, load, resolve_ping, resolve_secrets};
use serde::Serialize;

use super::show::json;
use super::unit;
use crate::cli::args::{DoctorArgs, Place};
use crate::cli::exit::ExitStatus;
use crate::cli::fault::Fault;
use crate::cli::locate;
use crate::cli::output::Output;
use crate::cli::render::style::{Paint, Style};
use crate::cli::render::text::{Cell, Table, clean};
use crate::daemon::preflight::{Check, Level, examine, running};

/// Version of what `horus doctor --json` prints.
const DOCTOR_SCHEMA: u32 = 1;

/// `horus doctor --json`
#[derive(Serialize)]
struct DoctorReport {
    schema: u32,
    /// The worst of them.
    level: Level,
    checks: Vec<Check>,
}

pub(super) fn doctor(place: &Place, args: &DoctorArgs, output: &Output) -> Result<ExitStatus, Fault> {
    let file = locate::config(place, &SystemEnvironment)?;
    let loaded = load(&file, &SystemEnvironment);
    let shown = file.display().to_string();
    let mut checks = vec![configuration(&shown, &loaded.faults)];
    if let Some(checked) = &loaded.checked {
        checks.push(credentials(checked));
        checks.push(running(&checked.plan.daemon));
        checks.extend(examine(&checked.plan.daemon));
    }
    checks.extend(unit::examine());
    let level = checks.iter().map(|check| check.level).max().unwrap_or(Level::Ok);
    let status = if level == Level::Fail { ExitStatus::Failed } else { ExitStatus::Done };
    if args.json {
        output.data(json(&DoctorReport { schema: DOCTOR_SCHEMA, level, checks }, true)?)?;
    } else {
        output.data(render(&checks, output.style))?;
    }
    Ok(status)
}

fn configuration(file: &str, faults: &[Finding]) -> Check {
    match faults.len() {
        0 => Check::ok("configuration", format!("{file} has no faults")),
        count => {
            Check::fail("configuration", format!("{file} has {count} faults"), format!("horus check {file}"))
        }
    }
}

/// What the sinks and the ping need from outside of the file. A fault shows no secret.
fn credentials(checked: &Checked) -> Check {
    let mut faults = resolve_secrets(checked, &SystemEnvironment).err().unwrap_or_default();
    faults.extend(resolve_ping(checked, &SystemEnvironment).err().unwrap_or_default());
    let Some(first) = faults.first() else {
        return match checked.plan.sinks.len() {
            0 => Check::warn(
                "credentials",
                "there is no sink: nobody would be told",
                "add one, such as [sink.ops] discord = { url_env = \"HORUS_DISCORD_URL\" }",
            ),
            sinks => Check::ok("credentials", format!("the URLs of {sinks} sinks are there")),
        };
    };
    let hint = first.help.clone().unwrap_or_else(|| "horus check".into());
    Check::fail("credentials", first.message.clone(), hint)
}

fn render(checks: &[Check], style: Style) -> String {
    let mut table = Table::default();
    for check in checks {
        let (word, paint) = match check.level {
            Level::Ok => ("ok", Paint::Good),
            Level::Warn => ("warn", Paint::Look),
            Level::Fail => ("FAIL", Paint::Bad),
        };
        let cells = vec![
            Cell::new(&check.name, Paint::Head),
            Cell::new(word, paint),
            Cell::new(&check.reason, Paint::Plain),
        ];
        let hint = check.hint.as_ref().map_or_else(String::new, |hint| format!("  hint: {}\n", clean(hint)));
        table.row(cells, hint);
    }
    table.render(2, style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_seen_without_colour_and_says_what_to_do() {
        let checks = [
            Check::ok("clock", "it says now"),
            Check::warn("ping", "nobody would notice", "add one"),
            Check::fail("state_directory", "/s takes\n no writes", "ls -ld /s"),
        ];
        let text = render(&checks, Style::new(false));
        assert!(text.contains("FAIL") && text.contains("ls -ld /s") && text.contains("warn"), "{text}");
        assert_eq!(checks.iter().map(|check| check.level).max(), Some(Level::Fail));
    }
}
