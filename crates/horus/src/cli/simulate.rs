//! `horus simulate`: a configuration, tried on what was recorded. The work is in [`horus_sim::backtest`]; this is its way
//! from a file or a state directory to a table.

use std::fmt::Write;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use horus_config::{Checked, Loaded, SystemEnvironment, load};
use horus_core::plan::Plan;
use horus_core::time::Human;
use horus_sim::backtest::lives::{History, HistoryError};
use horus_sim::backtest::{
    Baseline, HEALTHY_AGAIN_WITHIN, Hang, HealthyAgain, Kill, Report, ServiceReport, backtest, heard,
};
use horus_store::{DigestError, read_digest};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::args::{HeardArgs, Place, SimulateArgs};
use super::exit::ExitStatus;
use super::fault::Fault;
use super::locate;
use super::output::Output;
use super::render::check::{render_findings, render_findings_plain};
use super::render::style::{Paint, Style};
use super::render::text::{Cell, Table, clean, count};

/// Kills, and hangs, that are listed per service; `--json` has all.
const LISTED_MAX: usize = 12;

/// A detection that moves by less is the same.
const MOVED_MIN_MS: u64 = 500;

/// Tries the configuration of `--config`.
///
/// # Errors
/// [`Fault`]
pub(super) fn simulate(place: &Place, args: &SimulateArgs, output: &Output) -> Result<ExitStatus, Fault> {
    let Some(plan) = candidate(place, output)? else { return Ok(ExitStatus::BadConfig) };
    let history = history(&args.heard, &plan)?;
    let report = backtest(&history, &plan);
    let text = if args.json { json(&report)? } else { render(&report, &TimeZone::system(), output.style) };
    output.data(text)?;
    Ok(ExitStatus::Done)
}

/// The plan of the configuration; its faults are shown as `horus check` shows them.
pub(super) fn candidate(place: &Place, output: &Output) -> Result<Option<Plan>, Fault> {
    let file = locate::config(place, &SystemEnvironment)?;
    let Loaded { faults, checked, .. } = load(&file, &SystemEnvironment);
    if let Some(Checked { plan, .. }) = checked {
        return Ok(Some(plan));
    }
    output.note(&if output.live {
        render_findings(&faults, output.width, output.note_style)
    } else {
        render_findings_plain(&faults)
    })?;
    output.note(&format!("hint: mend the file, then look at it with `horus check {}`\n", file.display()))?;
    Ok(None)
}

/// What was heard, from where it was asked for.
pub(super) fn history(args: &HeardArgs, plan: &Plan) -> Result<History, Fault> {
    let (rows, unknown) = match &args.journal {
        Some(file) => from_file(file)?,
        None => from_state(args.state.as_deref().unwrap_or(&plan.daemon.state_directory), args.since)?,
    };
    History::of(&rows, unknown).map_err(|error| {
        let hint = match (&args.journal, &error) {
            (Some(_), _) => "a recording of a Horus that had a service to watch is needed",
            (None, HistoryError::Empty) => {
                "let Horus run with it for a day, or look further back: --since 90d"
            }
            (None, HistoryError::NoLives) => "was any service started? look at `horus status`",
        };
        Fault::new(ExitStatus::Failed, error.to_string(), hint)
    })
}

type Rows = (Vec<horus_core::digest::Row>, u64);

fn from_file(file: &Path) -> Result<Rows, Fault> {
    let opened = std::fs::File::open(file).map_err(|error| {
        let message = format!("{} cannot be read", file.display());
        Fault::new(ExitStatus::NoInput, message, "name another file: --journal FILE").because(&error)
    })?;
    let read = heard::read(&mut BufReader::new(opened)).map_err(|error| {
        let hint = "a digest begins with {\"digest\":1, a recording with {\"born\":";
        Fault::new(ExitStatus::BadData, format!("{} cannot be used", file.display()), hint).because(&error)
    })?;
    Ok((read.rows, read.unknown))
}

fn from_state(directory: &Path, since: Duration) -> Result<Rows, Fault> {
    let from = Timestamp::now().checked_sub(since).unwrap_or(Timestamp::MIN);
    let read = read_digest(directory, from).map_err(|error| {
        let hint = match &error {
            DigestError::Nothing(_) => "start Horus there once, or name another directory: --state DIR",
            DigestError::TooOld(_) => {
                "start this Horus there once: it brings the database up to date and begins to record"
            }
            DigestError::Unreadable { .. } => "run this as the user of horus, or as root",
            DigestError::Foreign(_) => "name the state directory of Horus: --state DIR",
        };
        let fault = Fault::new(ExitStatus::NoInput, error.to_string(), hint);
        match std::error::Error::source(&error) {
            Some(source) => fault.because(source),
            None => fault,
        }
    })?;
    Ok((read.rows, read.unknown))
}

pub(super) fn json<T: Serialize>(data: &T) -> Result<String, Fault> {
    serde_json::to_string_pretty(data).map(|text| text + "\n").map_err(|error| {
        Fault::new(ExitStatus::Bug, "the data cannot be written as JSON", "please report this")
            .because(&error)
    })
}

fn human(ms: u64) -> Human {
    Human(Duration::from_millis(ms))
}

fn moment(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The whole report for a person.
pub(super) fn render(report: &Report, zone: &TimeZone, style: Style) -> String {
    let lasted = Duration::try_from(report.to.duration_since(report.from)).unwrap_or_default();
    let against = match report.baseline {
        Baseline::Recorded => "old: the plans of that time",
        Baseline::Candidate => {
            "the plans of that time were not recorded: old and new are both this configuration"
        }
    };
    let (from, to, lasted) = (moment(report.from, zone), moment(report.to, zone), Human(lasted));
    let mut out = format!("heard from {from} to {to} ({lasted}); {against}\n");
    if report.unobserved_ms > 0 {
        let _ = writeln!(out, "nobody looked for {} of it", human(report.unobserved_ms));
    }
    if report.missing_rows > 0 {
        let _ = writeln!(
            out,
            "{} are missing",
            count(usize::try_from(report.missing_rows).unwrap_or(usize::MAX), "row")
        );
    }
    out.push('\n');
    let mut table = Table::default();
    let head = ["SERVICE", "LIVES", "KILLS", "OF HEALTHY", "HANGS SEEN", "ALERTS", "BREAKER"];
    table.row(head.iter().map(|word| Cell::new(word, Paint::Dim)).collect(), String::new());
    for service in &report.services {
        table.row(cells(service), details(service, zone));
    }
    if !report.services.is_empty() {
        out += &table.render(2, style);
    }
    for (service, why) in &report.left_out {
        let _ = writeln!(out, "{service}: left out, {}", clean(why));
    }
    out
}

fn cells(service: &ServiceReport) -> Vec<Cell> {
    let ServiceReport { old, new, .. } = service;
    let seen =
        |which: fn(&Hang) -> Option<u64>| service.hangs.iter().filter(|hang| which(hang).is_some()).count();
    let worse = |bad: bool| if bad { Paint::Bad } else { Paint::Plain };
    let change = |old: usize, new: usize| format!("{old} -> {new}");
    let alerts = change(usize(old.alerts_in_all()), usize(new.alerts_in_all()));
    vec![
        Cell::new(service.service.as_str(), Paint::Head),
        Cell::new(service.lives.to_string(), Paint::Plain),
        Cell::new(change(old.kills.len(), new.kills.len()), worse(new.kills.len() > old.kills.len())),
        Cell::new(change(old.healthy_killed(), new.healthy_killed()), worse(new.healthy_killed() > 0)),
        Cell::new(change(seen(|hang| hang.old_ms), seen(|hang| hang.new_ms)), Paint::Plain),
        Cell::new(alerts, Paint::Plain),
        Cell::new(change(old.breaker_opened.len(), new.breaker_opened.len()), Paint::Plain),
    ]
}

fn usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What stands below a service's row.
pub(super) fn details(service: &ServiceReport, zone: &TimeZone) -> String {
    let mut out = String::new();
    for kill in service.new.kills.iter().take(LISTED_MAX) {
        out += &format!("  {}\n", clean(&kill_line(kill, zone)));
    }
    more(&mut out, service.new.kills.len(), "kill");
    for hang in service.hangs.iter().take(LISTED_MAX) {
        out += &format!("  {}\n", hang_line(hang, zone));
    }
    more(&mut out, service.hangs.len(), "hang");
    for (side, word) in [(&service.old, "old"), (&service.new, "new")] {
        for named in &side.named {
            out += &format!("  {word}: {}\n", clean(named));
        }
        if side.forbidden > 0 {
            let times = count(usize(side.forbidden), "restart");
            out += &format!("  {word}: {times} decided and not done (observe mode, a hold, a pardon)\n");
        }
    }
    let kinds = service.old.alerts.keys().chain(service.new.alerts.keys());
    let kinds: std::collections::BTreeSet<&String> = kinds.collect();
    let of = |side: &horus_sim::backtest::Side, kind: &String| side.alerts.get(kind).copied().unwrap_or(0);
    let changes: Vec<String> = kinds
        .into_iter()
        .map(|kind| format!("{kind} {} -> {}", of(&service.old, kind), of(&service.new, kind)))
        .collect();
    if !changes.is_empty() {
        out += &format!("  alerts: {}\n", changes.join(", "));
    }
    out
}

fn more(out: &mut String, number: usize, noun: &str) {
    if number > LISTED_MAX {
        *out += &format!("  and {} more (--json lists all)\n", count(number - LISTED_MAX, noun));
    }
}

fn kill_line(kill: &Kill, zone: &TimeZone) -> String {
    let what = if kill.probation { "probation".to_owned() } else { format!("kill {}", kill.number) };
    let after = match kill.healthy_again {
        HealthyAgain::After { ms } => format!("A HEALTHY ONE: it ticked again {} later", human(ms)),
        HealthyAgain::No => {
            format!("it was not seen to tick within the next {}", Human(HEALTHY_AGAIN_WITHIN))
        }
        HealthyAgain::Unknown => "how it would have gone on was not recorded".to_owned(),
    };
    let (at, age) = (moment(kill.at, zone), human(kill.age_ms));
    format!("{at}  {what} at the age of {age}: {}; {after}", kill.reason)
}

fn hang_line(hang: &Hang, zone: &TimeZone) -> String {
    let seen = |ms: Option<u64>, met: bool| match ms {
        Some(ms) => format!("seen after {}", human(ms)),
        None if met => "not seen".to_owned(),
        None => "did not come to it".to_owned(),
    };
    let gain = match (hang.old_ms, hang.new_ms) {
        (Some(old), Some(new)) if old.abs_diff(new) < MOVED_MIN_MS => " (the same)".to_owned(),
        (Some(old), Some(new)) if new < old => format!(" ({} sooner)", human(old - new)),
        (Some(old), Some(new)) => format!(" ({} later)", human(new - old)),
        _ => String::new(),
    };
    let end = hang.came_back_after_ms.map_or_else(
        || "lasted until it was ended".to_owned(),
        |ms| format!("ended by itself after {}", human(ms)),
    );
    let (since, old, new) =
        (moment(hang.since, zone), seen(hang.old_ms, hang.old_met), seen(hang.new_ms, hang.new_met));
    format!("{since}  silent, {end}: {old} -> {new}{gain}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../horus-sim/recordings");

    fn plan(deadline: &str) -> Plan {
        let text = format!(
            "version = 1\n[service.bot]\ncommand = [\"/bin/true\"]\nheartbeat.http = {{ url = \"http://127.0.0.1:1/\", every = \"5s\", \
             seq = \"/seq\" }}\ndeadline = \"{deadline}\"\nkills.retry = \"never\"\n"
        );
        let loaded = horus_config::parse(&text, Path::new("watchdog.toml"), &SystemEnvironment);
        loaded.into_result().unwrap_or_else(|faults| panic!("{faults:?}")).plan
    }

    fn shown(name: &str, deadline: &str) -> String {
        let plan = plan(deadline);
        let journal = Some(Path::new(RECORDINGS).join(name));
        let args = HeardArgs { journal, since: Duration::from_secs(1), state: None };
        let history = history(&args, &plan).unwrap_or_else(|fault| panic!("{fault:?}"));
        render(&backtest(&history, &plan), &TimeZone::UTC, Style::new(false))
    }

    #[test]
    fn the_129_second_incident_as_a_table() {
        insta::assert_snapshot!(shown("kill-129-a.jsonl", "20s"));
        insta::assert_snapshot!(shown("kill-129-b.jsonl", "20s"));
    }

    #[test]
    fn the_seven_hour_hang_as_a_table() {
        insta::assert_snapshot!(shown("hang-7h-c.jsonl", "60s"));
    }

    #[test]
    fn what_cannot_be_replayed_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let said = |args: HeardArgs| match history(&args, &plan("20s")) {
            Err(Fault::Said(said)) => said.render().replace(&directory.path().display().to_string(), "DIR"),
            other => panic!("{other:?}"),
        };
        let state = || HeardArgs {
            journal: None,
            since: Duration::from_secs(60),
            state: Some(directory.path().into()),
        };
        let file = |name: &str| HeardArgs { journal: Some(directory.path().join(name)), ..state() };
        let mut all = said(state());
        all += &said(file("nothing.jsonl"));
        let (store, _) =
            horus_store::Store::open(directory.path(), horus_store::StoreOptions::default()).unwrap();
        all += &said(state());
        assert!(store.close(Duration::from_secs(30)));
        all += &said(file(horus_store::DATABASE_FILE));
        insta::assert_snapshot!(all);
    }
}
