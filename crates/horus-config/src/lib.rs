//! `watchdog.toml`: parsed with spans, checked whole, turned into a plan.
//!
//! ```text
//!  text --read--> RawFile --check--> Checked { plan, timing } --resolve_secrets--> URLs of sinks
//!         |                   |
//!         +---- Fault --------+---->  Loaded: all of them at once, in the order of the file
//! ```
//!
//! Three types, three meanings. `RawFile` is what was written: every key optional, every leaf with its place.
//! [`Checked`] is what was meant: references found, numbers within bounds, defaults filled in, each with its origin.
//! [`Plan`] is what the rest of Horus reads, and knows of no file.
//!
//! A file with one fault changes nothing that runs, so a person has to see *all* faults at once: a second one that
//! shows only after the first is mended costs a second outage. The crate prints nothing; [`Fault`] is a
//! [`miette::Diagnostic`], a line of text and JSON.
//!
//! The machine is asked only through [`Environment`], so that a check is the same everywhere it should be.
#![forbid(unsafe_code)]

mod at;
mod check;
mod defaults;
mod diff;
mod environment;
mod fault;
mod history;
mod raw;
mod read;
mod schema;
mod secrets;
mod starter;
mod timing;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use horus_core::ids::{ServiceName, SinkName};
use horus_core::plan::Plan;

use crate::at::Span;
use crate::check::TimingPlaces;
use crate::fault::Findings;

pub use crate::diff::{Changed, PlanDiff, diff};
pub use crate::environment::{Environment, FileFacts, SystemEnvironment, UserFacts};
pub use crate::fault::{Code, Fault, Related, Weight};
pub use crate::history::{PauseHistory, StartHistory, lint_with_history, lint_with_pauses};
pub use crate::schema::{reference, schema};
pub use crate::secrets::{resolve_ping, resolve_secrets};
pub use crate::starter::starter;
pub use crate::timing::{Amount, Origin, TimingRow};

/// Longest file, in bytes: room for several thousand services.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// A file in which no fault was found.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What Horus was asked to do.
    pub plan: Plan,
    /// Every number that decides when Horus acts, and where it comes from; by service.
    pub timing: Vec<TimingRow>,
    file: PathBuf,
    /// The text, secrets blotted out: later faults point into it.
    text: Arc<str>,
    secret_places: BTreeMap<SinkName, Span>,
    ping_place: Span,
    timing_places: BTreeMap<ServiceName, TimingPlaces>,
}

impl Checked {
    /// For faults that show after the check.
    fn findings(&self) -> Findings {
        Findings::new(&self.file, &self.text)
    }

    /// Where the sink names its secret.
    fn secret_place(&self, sink: &SinkName) -> Span {
        self.secret_places.get(sink).cloned().unwrap_or(0..0)
    }

    /// Where the startup cap of the service stands.
    fn startup_place(&self, service: &ServiceName) -> Span {
        self.timing_places.get(service).map_or(0..0, |places| places.startup.clone())
    }

    /// Where its deadline stands.
    fn deadline_place(&self, service: &ServiceName) -> Span {
        self.timing_places.get(service).map_or(0..0, |places| places.deadline.clone())
    }
}

/// What came of a file.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What makes the file unusable, in its order. Empty exactly if `checked` is there.
    pub faults: Vec<Fault>,
    /// What works but is probably not meant, and advice.
    pub warnings: Vec<Fault>,
    /// What can be used.
    pub checked: Option<Checked>,
}

impl Loaded {
    /// The usable part, or else the faults. Warnings are dropped: show them before.
    ///
    /// # Errors
    /// All faults of the file.
    pub fn into_result(self) -> Result<Checked, Vec<Fault>> {
        self.checked.ok_or(self.faults)
    }

    fn refused(fault: Fault) -> Self {
        Self { faults: vec![fault], warnings: Vec::new(), checked: None }
    }
}

/// Reads and checks a file.
pub fn load(file: &Path, environment: &dyn Environment) -> Loaded {
    let refuse = |message: String| Loaded::refused(Fault::of_file(Code::Unreadable, file, message));
    let bytes = match environment.read(file, FILE_BYTES_MAX + 1) {
        Ok(bytes) => bytes,
        Err(error) => return refuse(format!("`{}` cannot be read: {error}", file.display())),
    };
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return refuse(format!("`{}` is longer than {}", file.display(), words::size_text(FILE_BYTES_MAX)));
    }
    match String::from_utf8(bytes) {
        Ok(text) => parse(&text, file, environment),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            refuse(format!("`{}` is no text: byte {at} is not UTF-8", file.display()))
        }
    }
}

/// Checks a text as if it stood in `file`. Relative paths in it start at the folder of `file`.
pub fn parse(text: &str, file: &Path, environment: &dyn Environment) -> Loaded {
    let mut findings = Findings::new(file, text);
    let outcome = read::read(text, &mut findings)
        .map(|reading| check::check(&reading.raw, &reading.cut, file, environment, &mut findings));
    let blotted: Arc<str> = findings.blotted().into();
    let (faults, warnings): (Vec<Fault>, Vec<Fault>) =
        findings.finish().into_iter().partition(|finding| finding.weight == Weight::Fault);
    let checked = outcome.filter(|_| faults.is_empty()).map(|outcome| Checked {
        plan: outcome.plan,
        timing: outcome.timing,
        file: file.to_path_buf(),
        text: blotted,
        secret_places: outcome.secret_places,
        ping_place: outcome.ping_place,
        timing_places: outcome.timing_places,
    });
    Loaded { faults, warnings, checked }
}
