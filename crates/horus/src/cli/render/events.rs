//! `horus events` and `horus incidents`: one line each.

use horus_api::Debt;
use horus_core::record::{IncidentRecord, Recorded};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::style::{Paint, Style};
use super::text::{Cell, Table, brief, clean, fit};
use crate::cli::words;

/// Columns of the name.
const NAME: usize = 12;

/// `2026-11-22 16:18:06.412`
pub(crate) fn local(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// One event on one line. Not cut to the terminal: it is also read through `grep`.
pub(crate) fn render_event(event: &Recorded, zone: &TimeZone, style: Style) -> String {
    let incident = event.event.incident.map_or_else(String::new, |id| format!("  [{id}]"));
    let name = format!("{:NAME$}", fit(&clean(&event.event.subject), NAME));
    format!(
        "{}  {}  {}{}\n",
        style.paint(Paint::Dim, &local(event.at, zone)),
        style.paint(Paint::Head, &name),
        clean(&words::sentence(&event.event.what)),
        style.paint(Paint::Dim, &incident),
    )
}

/// A table of incidents, newest first.
pub(crate) fn render_incidents(
    incidents: &[IncidentRecord],
    now: Timestamp,
    zone: &TimeZone,
    style: Style,
) -> String {
    let mut table = Table::default();
    let heads = ["ID", "OPENED", "SEVERITY", "ABOUT", "STATE"];
    table.row(heads.iter().map(|head| Cell::new(head, Paint::Dim)).collect(), String::new());
    for row in incidents {
        let paint = if row.closed_at.is_some() { Paint::Plain } else { Paint::Bad };
        let opened = row.opened_at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
        let cells = vec![
            Cell::new(row.id.to_string(), paint),
            Cell::new(opened, Paint::Plain),
            Cell::new(words::severity_word(row.severity), Paint::Plain),
            Cell::new(format!("{}: {}", row.subject, words::about(row.kind)), Paint::Head),
            Cell::new(state(row, now), paint),
        ];
        table.row(cells, String::new());
    }
    table.render(2, style)
}

/// A table of surprises without a rule, oldest first.
pub(crate) fn render_debts(debts: &[Debt], now: Timestamp, style: Style) -> String {
    let mut table = Table::default();
    let heads = ["ID", "AGE", "TIMES", "ABOUT", "LAST"];
    table.row(heads.iter().map(|head| Cell::new(head, Paint::Dim)).collect(), String::new());
    for debt in debts {
        let row = &debt.oldest;
        let age = now.duration_since(row.opened_at).as_millis();
        let last = if debt.newest == row.id { String::new() } else { debt.newest.to_string() };
        let cells = vec![
            Cell::new(row.id.to_string(), Paint::Bad),
            Cell::new(brief(u64::try_from(age).unwrap_or(0)), Paint::Plain),
            Cell::new(debt.times.to_string(), Paint::Plain),
            Cell::new(format!("{}: {}", row.subject, words::about(row.kind)), Paint::Head),
            Cell::new(last, Paint::Plain),
        ];
        table.row(cells, String::new());
    }
    table.render(2, style)
}

/// "open for 12 s", "healed by a restart after 22 s".
pub(crate) fn state(row: &IncidentRecord, now: Timestamp) -> String {
    let length = |end: Timestamp| {
        let length = end.duration_since(row.opened_at);
        horus_core::time::Human(length.try_into().unwrap_or_default())
    };
    match (row.closed_at, row.outcome) {
        (None, _) => format!("open for {}", length(now)),
        (Some(end), Some(outcome)) => format!("{} after {}", words::outcome(outcome), length(end)),
        (Some(end), None) => format!("closed after {}", length(end)),
    }
}
