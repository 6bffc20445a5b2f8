//! `horus incident ID`: the story of one fault, from its first sign to its proven end.

use horus_api::IncidentReport;
use horus_core::event::What;
use horus_core::outbox::DeliveryState;
use horus_core::record::Recorded;
use horus_core::time::Human;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::events::{local, state};
use super::style::{Paint, Style};
use super::text::{clean, wrap};
use crate::cli::words;

/// Columns of the names on the left.
const LABEL: usize = 10;

/// Columns of an offset: `+ 2 min 10 s`.
const OFFSET: usize = 13;

/// The story, in at most `width` columns. `now` tells how long an open incident lasts already.
pub(crate) fn render_incident(
    report: &IncidentReport,
    now: Timestamp,
    zone: &TimeZone,
    width: usize,
    style: Style,
) -> String {
    let row = &report.incident;
    let paint = if row.closed_at.is_some() { Paint::Good } else { Paint::Bad };
    let mut out = format!(
        "{}  {}: {}  ({})\n",
        style.paint(paint, &row.id.to_string()),
        style.paint(Paint::Head, &clean(&row.subject)),
        words::about(row.kind),
        words::severity_word(row.severity),
    );
    let mut line = |label: &str, text: &str| out += &wrap(&clean(text), &format!("  {label:LABEL$}"), width);
    line("because", &row.reason);
    line("opened", &local(row.opened_at, zone));
    line("state", &state(row, now));
    out += &timeline(&report.events, zone, width, style);
    out += &evidence(report, width, style);
    out += &deliveries(&report.deliveries, zone, width, style);
    out
}

fn heading(text: &str, style: Style) -> String {
    format!("\n{}\n", style.paint(Paint::Head, text))
}

/// Times of day, and how long after the first sign.
fn timeline(events: &[Recorded], zone: &TimeZone, width: usize, style: Style) -> String {
    let Some(first) = events.iter().map(|event| event.at).min() else {
        return heading("timeline", style) + "  the journal has no events of it any more\n";
    };
    let zoned = first.to_zoned(zone.clone());
    let mut out = heading(&format!("timeline, from {}", zoned.strftime("%Y-%m-%d (UTC%:z)")), style);
    let mut day = zoned.date();
    for event in events {
        let at = event.at.to_zoned(zone.clone());
        if at.date() != day {
            day = at.date();
            out += &format!("  {day}\n");
        }
        let after = Human(event.at.duration_since(first).try_into().unwrap_or_default());
        let offset = format!("+ {after}");
        let stamp = at.strftime("%H:%M:%S%.3f");
        let text = wrap(
            &clean(&words::sentence(&event.event.what)),
            &format!("  {stamp}  {offset:OFFSET$} "),
            width,
        );
        out += &text;
    }
    out
}

/// What was seen before anything was touched, and where it is kept.
fn evidence(report: &IncidentReport, width: usize, style: Style) -> String {
    let mut out = String::new();
    let findings: Vec<_> = report
        .events
        .iter()
        .filter_map(|event| match &event.event.what {
            What::EvidenceCaptured { stage, finding } => Some((stage, finding)),
            _ => None,
        })
        .collect();
    // Each capture holds the last lines of its moment; those of the newest are enough here, the files have all.
    let lines_of = findings.iter().rposition(|(_, finding)| !finding.last_lines.is_empty());
    for (number, (stage, finding)) in findings.into_iter().enumerate() {
        let stage = format!("  {:15} ", words::stage_word(*stage));
        out += &wrap(&clean(&words::seen(finding)), &stage, width);
        for missing in &finding.missing {
            out += &wrap(&clean(missing), "                  not seen: ", width);
        }
        for line in finding.last_lines.iter().filter(|_| lines_of == Some(number)) {
            out += &wrap(&clean(line), "                  | ", width);
        }
    }
    for file in &report.evidence {
        // Not wrapped: a path is copied.
        out += &format!("  {}\n", clean(file));
    }
    if out.is_empty() { out } else { heading("evidence", style) + &out }
}

fn deliveries(deliveries: &[DeliveryState], zone: &TimeZone, width: usize, style: Style) -> String {
    let mut out = heading("told", style);
    if deliveries.is_empty() {
        return out + "  nobody: no sink takes incidents of this severity\n";
    }
    for delivery in deliveries {
        out += &wrap(
            &clean(&delivery_words(delivery, zone)),
            &format!("  {:LABEL$}", delivery.sink.as_str()),
            width,
        );
    }
    out
}

fn delivery_words(delivery: &DeliveryState, zone: &TimeZone) -> String {
    let at = delivery.delivered_at.map_or_else(String::new, |at| format!(" at {}", local(at, zone)));
    let wanted = delivery.wanted_version;
    let mut words = match delivery.delivered_version {
        _ if delivery.refused => format!("refused for good (message {wanted})"),
        Some(version) if version >= wanted => format!("acknowledged{at} (message {version})"),
        Some(version) => format!("message {version} acknowledged{at}, message {wanted} is on its way"),
        None => format!("message {wanted} is on its way"),
    };
    match delivery.attempts {
        0 => {}
        1 => words += ", 1 failed try",
        tries => words += &format!(", {tries} failed tries"),
    }
    if let Some(error) = &delivery.last_error {
        words += &format!("; last error: {error}");
    }
    words
}
