//! `incident ID --evidence`: the bundles of an incident, for people.
//!
//! The daemon says where they are; they are read here, by whoever asks, with that person's rights. A bundle holds what was
//! read from a program that went wrong, so it is read like anything else from outside: bounded, and shown without control
//! characters.

use std::fs::File;
use std::io::{self, Read as _};

use horus_api::IncidentReport;
use horus_capture::Document;
use horus_capture::document::{NativeThread, Python};
use horus_sys::fact::{Fact, Missing};
use horus_sys::facts::{HostPressure, LimitFacts, Load, ProcessFacts, SocketFacts, ThreadFacts};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::exit::ExitStatus;
use crate::cli::fault::Fault;
use crate::cli::output::Output;
use crate::cli::render::style::{Paint, Style};
use crate::cli::render::text::clean;

/// Most bundles of one incident that are shown: the newest.
const BUNDLES_MAX: usize = 16;

/// The longest bundle that is read, in bytes; Horus writes none of more than half of it.
const BUNDLE_BYTES_MAX: u64 = 2 << 20;

/// What is read of a bundle. Fields that an older Horus did not write are missing.
#[derive(Debug, Deserialize)]
struct Bundle {
    phrase: String,
    at: Timestamp,
    stage: String,
    #[serde(default)]
    missing: Vec<String>,
    place: Option<String>,
    thread: Option<i32>,
    main: Main,
    process: Fact<ProcessFacts>,
    pressure: HostPressure,
    load: Fact<Load>,
    #[serde(default)]
    threads: Vec<ThreadFacts>,
    #[serde(default)]
    sockets: Vec<SocketFacts>,
    stacks: Option<Stacks>,
    unmoved_ms: Option<u64>,
    #[serde(default)]
    left_out: usize,
    #[serde(default)]
    changed: Vec<Change>,
    #[serde(default)]
    last_lines: Vec<String>,
}

/// What changed shortly before.
#[derive(Clone, Debug, Deserialize)]
struct Change {
    at: Timestamp,
    subject: String,
    what: String,
}

#[derive(Debug, Deserialize)]
struct Main {
    pid: i32,
}

/// What a witness said.
#[derive(Debug, Deserialize)]
struct Stacks {
    #[serde(default)]
    took_ms: f64,
    python: Option<Python>,
    native: Option<Vec<NativeThread>>,
    limits: Option<Fact<Vec<LimitFacts>>>,
}

pub(super) fn evidence(report: &IncidentReport, as_json: bool, output: &Output) -> Result<ExitStatus, Fault> {
    if report.evidence.is_empty() {
        output.note("nothing was captured for this incident\n")?;
        return Ok(ExitStatus::Done);
    }
    let skip = report.evidence.len().saturating_sub(BUNDLES_MAX);
    let mut status = ExitStatus::Done;
    let mut all = Vec::new();
    for path in report.evidence.iter().skip(skip) {
        match read(path) {
            Ok(bytes) if as_json => all.extend(serde_json::from_slice::<Value>(&bytes).ok()),
            Ok(bytes) => output.data(shown(path, &bytes, output.style))?,
            Err(error) => {
                status = ExitStatus::Failed;
                let why = match error.kind() {
                    io::ErrorKind::NotFound => "not kept any more".to_owned(),
                    io::ErrorKind::PermissionDenied => {
                        "only the user of horus, or root, may read it".to_owned()
                    }
                    _ => error.to_string(),
                };
                output.note(&format!("{}: {}\n", clean(path), clean(&why)))?;
            }
        }
    }
    if as_json {
        output.data(super::show::json(&all, true)?)?;
    }
    Ok(status)
}

fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(BUNDLE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// One bundle as text; what cannot be understood is said, and the file can still be looked at.
fn shown(path: &str, bytes: &[u8], style: Style) -> String {
    let bundle: Bundle = match serde_json::from_slice(bytes) {
        Ok(bundle) => bundle,
        Err(error) => return format!("{}: not understood ({})\n\n", clean(path), clean(&error.to_string())),
    };
    let title = format!("{} {}", bundle.stage, bundle.at.strftime("%Y-%m-%d %H:%M:%S UTC"));
    let mut text = format!("{}\n{}\n", style.paint(Paint::Head, &clean(&title)), clean(path));
    let (unmoved, lines) = (bundle.unmoved_ms, bundle.last_lines.clone());
    let (at, changed) = (bundle.at, bundle.changed.clone());
    text += &document(bundle).render(false);
    if let Some(unmoved) = unmoved {
        let since = horus_core::time::Human(std::time::Duration::from_millis(unmoved));
        text += &format!("the same function, place in the kernel and CPU time for {since}\n");
    }
    if !changed.is_empty() {
        text += "changed in the five minutes before:\n";
    }
    for Change { at: then, subject, what } in &changed {
        let ago = std::time::Duration::try_from(at.duration_since(*then)).unwrap_or_default();
        let ago = horus_core::time::Human(ago);
        text += &format!("  {ago} before: {}: {}\n", clean(subject), clean(what));
    }
    for line in &lines {
        text += &format!("  | {}\n", clean(line));
    }
    text + "\n"
}

fn document(bundle: Bundle) -> Document {
    let stacks = bundle.stacks;
    let took_ms = stacks.as_ref().map_or(0.0, |stacks| stacks.took_ms);
    let (python, native, limits) =
        stacks.map_or((None, None, None), |stacks| (stacks.python, stacks.native, stacks.limits));
    Document {
        schema: horus_capture::document::SCHEMA,
        pid: bundle.main.pid,
        start_time: None,
        at: bundle.at,
        took_ms,
        peak_bytes: 0,
        phrase: bundle.phrase,
        thread: bundle.thread,
        place: bundle.place,
        missing: bundle.missing,
        python,
        native: native.unwrap_or_default(),
        process: bundle.process,
        threads: bundle.threads,
        sockets: bundle.sockets,
        limits: limits.unwrap_or(Fact::Missing(Missing::Gone)),
        pressure: bundle.pressure,
        load: bundle.load,
        left_out: bundle.left_out,
    }
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
