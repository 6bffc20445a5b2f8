//! Evidence bundles, as whoever asks can read them.
//!
//! The daemon says where they are; they are read here, with that person's rights. A bundle holds what was read from a
//! program that went wrong, so it is read like anything else from outside: bounded, and cleaned by whoever shows it.

use std::fs::File;
use std::io::{self, Read as _};
use std::time::Duration;

use horus_api::IncidentReport;
use horus_capture::Document;
use horus_capture::document::{NativeThread, Python};
use horus_core::time::Human;
use horus_sys::fact::{Fact, Missing};
use horus_sys::facts::{HostPressure, LimitFacts, Load, ProcessFacts, SocketFacts, ThreadFacts};
use jiff::Timestamp;
use serde::Deserialize;

/// Most bundles of one incident that are shown: the newest.
const BUNDLES_MAX: usize = 16;

/// The longest bundle that is read, in bytes; Horus writes none of more than half of it.
const BUNDLE_BYTES_MAX: u64 = 2 << 20;

/// The files of an incident that are worth reading, the oldest first.
pub(crate) fn newest(report: &IncidentReport) -> &[String] {
    let skip = report.evidence.len().saturating_sub(BUNDLES_MAX);
    report.evidence.get(skip..).unwrap_or_default()
}

/// The bytes of one bundle, or why they cannot be had, in words.
pub(crate) fn read(path: &str) -> Result<Vec<u8>, String> {
    let bytes = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(BUNDLE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    bytes().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "not kept any more".to_owned(),
        io::ErrorKind::PermissionDenied => "only the user of horus, or root, may read it".to_owned(),
        _ => error.to_string(),
    })
}

/// What is read of a bundle. Fields that an older Horus did not write are missing.
#[derive(Debug, Deserialize)]
pub(crate) struct Bundle {
    phrase: String,
    pub(crate) at: Timestamp,
    pub(crate) stage: String,
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
    pub(crate) changed: Vec<Change>,
    #[serde(default)]
    pub(crate) last_lines: Vec<String>,
}

/// What changed shortly before.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Change {
    pub(crate) at: Timestamp,
    pub(crate) subject: String,
    pub(crate) what: String,
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

impl Bundle {
    /// The bundle, or why it is none.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("not understood ({error})"))
    }

    /// What was seen, as text. The lines of the program's output are not in it.
    pub(crate) fn seen(self) -> String {
        let unmoved = self.unmoved_ms.map(Duration::from_millis);
        let mut text = document(self).render(false);
        if let Some(unmoved) = unmoved {
            let since = Human(unmoved);
            text += &format!("the same function, place in the kernel and CPU time for {since}\n");
        }
        text
    }
}

impl Change {
    /// How long before this moment.
    pub(crate) fn before(&self, at: Timestamp) -> Human {
        Human(Duration::try_from(at.duration_since(self.at)).unwrap_or_default())
    }
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
