//! `horus check`: what is wrong with a file, and what it makes Horus do.

use std::fmt::Write;

use horus_config::{Fault, TimingRow};
use horus_core::proof::{Proof, Standing};
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};

use super::style::{Paint, Style};
use super::text::{Cell, Table, clean, count, wrap};

/// Findings with the lines that they are about, drawn for a person.
pub(crate) fn render_findings(findings: &[Fault], width: usize, style: Style) -> String {
    let theme = if style.colour() { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(width);
    let mut out = String::new();
    for finding in findings {
        if handler.render_report(&mut out, finding as &dyn Diagnostic).is_err() {
            // A report that cannot be drawn is still told.
            let _ = writeln!(out, "{finding}");
        }
        out.push('\n');
    }
    out
}

/// Findings on one line each, for editors and logs: `file:line:column: warning: message (help: ...)`.
pub(crate) fn render_findings_plain(findings: &[Fault]) -> String {
    let mut out = String::new();
    for finding in findings {
        let place = format!("{}:{}:{}", finding.file, finding.line, finding.column);
        let help = finding.help.as_ref().map_or_else(String::new, |help| format!(" (help: {help})"));
        let line = format!("{place}: {}: {}{help}", weight_word(finding), finding.message);
        out += &format!("{}\n", clean(&line));
    }
    out
}

fn weight_word(finding: &Fault) -> &'static str {
    match finding.weight {
        horus_config::Weight::Fault => "error",
        horus_config::Weight::Warning => "warning",
        horus_config::Weight::Advice => "advice",
    }
}

/// Every number that decides when Horus acts, and where it comes from; by service.
pub(crate) fn render_timing(rows: &[TimingRow], style: Style) -> String {
    let mut table = Table::default();
    let mut service = None;
    for row in rows {
        let first = service != Some(&row.service);
        service = Some(&row.service);
        let name = if first { row.service.as_str() } else { "" };
        let what = if row.what.starts_with("detection") { Paint::Head } else { Paint::Plain };
        let cells = vec![
            Cell::new(name, Paint::Head),
            Cell::new(&row.what, what),
            Cell::new(row.amount.to_string(), what),
            Cell::new(row.origin.to_string(), Paint::Dim),
        ];
        table.row(cells, String::new());
    }
    table.render(2, style)
}

/// What each service is looked at by, what that proves and what it does not, and what nobody would notice. One line each, if
/// there is room for it.
pub(crate) fn render_proofs(all: &[Standing], width: usize) -> String {
    let mut text = String::new();
    for Standing { service, sources, unseen } in all {
        text.push_str(&format!("{service}\n"));
        for Proof { source, proves, not, .. } in sources {
            text.push_str(&wrap(&format!("{source}: {proves}; does not prove: {not}"), "  ", width));
        }
        for line in unseen {
            text.push_str(&wrap(line, "  not seen: ", width));
        }
    }
    text
}

/// "watchdog.toml: no faults, 1 warning; 2 services, 0 monitors, 1 sink"
pub(crate) fn render_verdict(file: &str, faults: usize, warnings: usize, plan: Option<[usize; 3]>) -> String {
    let faults = if faults == 0 { "no faults".into() } else { count(faults, "fault") };
    let warnings = if warnings == 0 { String::new() } else { format!(", {}", count(warnings, "warning")) };
    let plan = plan.map_or_else(
        || "; nothing of it is used".into(),
        |[services, monitors, sinks]| {
            format!(
                "; {}, {}, {}",
                count(services, "service"),
                count(monitors, "monitor"),
                count(sinks, "sink")
            )
        },
    );
    format!("{file}: {faults}{warnings}{plan}\n")
}
