//! `incident ID --evidence`: the bundles of an incident, for people, without control characters.

use horus_api::IncidentReport;
use serde_json::Value;

use crate::cli::bundle::{self, Bundle};
use crate::cli::exit::ExitStatus;
use crate::cli::fault::Fault;
use crate::cli::output::Output;
use crate::cli::render::style::{Paint, Style};
use crate::cli::render::text::clean;

pub(super) fn evidence(report: &IncidentReport, as_json: bool, output: &Output) -> Result<ExitStatus, Fault> {
    if report.evidence.is_empty() {
        output.note("nothing was captured for this incident\n")?;
        return Ok(ExitStatus::Done);
    }
    let mut status = ExitStatus::Done;
    let mut all = Vec::new();
    for path in bundle::newest(report) {
        match bundle::read(path) {
            Ok(bytes) if as_json => all.extend(serde_json::from_slice::<Value>(&bytes).ok()),
            Ok(bytes) => output.data(shown(path, &bytes, output.style))?,
            Err(why) => {
                status = ExitStatus::Failed;
                output.note(&format!("{}: {}\n", clean(path), clean(&why)))?;
            }
        }
    }
    if as_json {
        output.data(super::show::json(&all, true)?)?;
    }
    Ok(status)
}

/// One bundle as text; what cannot be understood is said, and the file can still be looked at.
fn shown(path: &str, bytes: &[u8], style: Style) -> String {
    let bundle = match Bundle::parse(bytes) {
        Ok(bundle) => bundle,
        Err(why) => return format!("{}: {}\n\n", clean(path), clean(&why)),
    };
    let title = format!("{} {}", bundle.stage, bundle.at.strftime("%Y-%m-%d %H:%M:%S UTC"));
    let mut text = format!("{}\n{}\n", style.paint(Paint::Head, &clean(&title)), clean(path));
    let (lines, at, changed) = (bundle.last_lines.clone(), bundle.at, bundle.changed.clone());
    text += &bundle.seen();
    if !changed.is_empty() {
        text += "changed in the five minutes before:\n";
    }
    for change in &changed {
        let (ago, subject, what) = (change.before(at), clean(&change.subject), clean(&change.what));
        text += &format!("  {ago} before: {subject}: {what}\n");
    }
    for line in &lines {
        text += &format!("  | {}\n", clean(line));
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUNDLE: &str = r#"{"schema":1,"service":"bot","phrase":"waiting on recv from 10.0.0.7:443 in place_order (bot.py:98), task execute-signal",
        "at":"2026-11-22T10:00:00Z","stage":"verdict","incident":null,"generation":3,"main":{"pid":4711,"start_time":9},
        "missing":["wait channels: permission"],"place":"recvfrom(5)","cpu_ns":1,
        "process":{"missing":"gone"},"pressure":{"cpu":{"missing":"unsupported"},"memory":{"missing":"unsupported"},"io":{"missing":"unsupported"}},
        "load":{"missing":"unsupported"},"threads":[],"sockets":[],
        "stacks":{"schema":1,"start_time":9,"phrase":"x","place":null,"took_ms":31.5,"native":null,"limits":null,
          "python":{"version":"3.11.7","threads":[],"loops":[],"tasks_counted":1,
            "tasks":[{"name":"execute-signal","state":"running","on_loop":0,"chain":[{"function":"place_order","file":"/b/bot.py","line":98}],"waits_on":null}]}},
        "unmoved_ms":12000,"left_out":0,
        "changed":[{"at":"2026-11-22T09:59:18Z","subject":"horus","what":"plan in force: bot: its command"}],"last_lines":["asking\u001b[31m the exchange"]}"#;

    #[test]
    fn a_bundle_is_readable() {
        let text = shown("/s/evidence/bot-3-verdict-x.json", BUNDLE.as_bytes(), Style::new(false));
        for part in [
            "verdict 2026-11-22 10:00:00 UTC\n/s/evidence/bot-3-verdict-x.json\n",
            "4711 waiting on recv from 10.0.0.7:443 in place_order (bot.py:98), task execute-signal\n",
            "task execute-signal runs on the loop now\n      place_order (bot.py:98)\n",
            "missing: wait channels: permission\n",
            "CPU time for 12 s\n",
            "changed in the five minutes before:\n  42 s before: horus: plan in force: bot: its command\n",
            "  | asking",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn a_bundle_of_the_first_version_has_no_stacks_and_a_torn_one_is_said() {
        let mut old: Value = serde_json::from_str(BUNDLE).unwrap();
        old.as_object_mut().unwrap().retain(|key, _| key != "stacks" && key != "unmoved_ms");
        let text = shown("/x", old.to_string().as_bytes(), Style::new(false));
        assert!(text.contains("4711 waiting on recv") && !text.contains("CPU time for"), "{text}");
        assert!(shown("/x", &BUNDLE.as_bytes()[..200], Style::new(false)).starts_with("/x: not understood"));
    }
}
