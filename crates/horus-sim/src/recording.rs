//! Recordings: every input that an engine got, with its instant, one JSON object a line.
//!
//! An engine is a function of its seed and its inputs, so this is all that is needed to live a run again, step by step,
//! under the same policies or under others. The first line says with what the engine was born; a later line of that kind
//! is a restart of Horus, which begins again from what it had remembered. Environments are recorded by their names only.
//!
//! ```text
//! {"born":{"version":1,"seed":7,"incidents":0,"remembered":[],"note":"swarm seed 7"}}
//! {"at_ns":34560000000000000,"input":{"plan_changed":{...}}}
//! {"at_ns":34560001000000000,"input":{"service":["bot",{"beat":{...}}]}}
//! ```

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::time::Duration;

use horus_core::command::{Memory, MemoryIncident};
use horus_core::ids::ServiceName;
use horus_core::observation::Input;
use horus_core::time::Mono;
use horus_core::{Engine, Remembered};
use serde::{Deserialize, Serialize};

/// The version that recordings are written with.
pub const RECORDING_VERSION: u32 = 1;

/// A longer line is no recording. The longest honest one holds a plan of some hundred services.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// More lines than these are not read: a recording is held in memory to step back in it.
pub const LINES_MAX: usize = 10_000_000;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// An engine begins.
    Born {
        /// With what.
        born: Birth,
    },
    /// It was told something.
    Told {
        /// When: nanoseconds since the origin of the engine's clock.
        at_ns: u64,
        /// What.
        input: Input,
    },
}

/// What an engine begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Birth {
    /// Version of the format.
    pub version: u32,
    /// The seed of its jitter.
    pub seed: u64,
    /// Incidents that were ever opened before.
    pub incidents: u64,
    /// What an earlier life remembered of its services.
    #[serde(default)]
    pub remembered: Vec<RememberedService>,
    /// Open incidents of its monitors.
    #[serde(default)]
    pub orphans: BTreeMap<String, Vec<MemoryIncident>>,
    /// For people: where the recording comes from and what it shows.
    #[serde(default)]
    pub note: String,
}

/// What was remembered of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RememberedService {
    /// Which.
    pub service: ServiceName,
    /// What.
    pub memory: Memory,
    /// How long ago it was written.
    #[serde(rename = "elapsed_ms", with = "horus_core::time::millis")]
    pub elapsed: Duration,
    /// The same by a clock that nobody sets, if it was known.
    #[serde(
        rename = "away_ms",
        with = "horus_core::time::millis::option",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub away: Option<Duration>,
}

impl Birth {
    /// A birth without a past.
    pub fn first(seed: u64, note: impl Into<String>) -> Self {
        let (version, note) = (RECORDING_VERSION, note.into());
        Self { version, seed, incidents: 0, remembered: Vec::new(), orphans: BTreeMap::new(), note }
    }

    /// The engine that is born.
    pub fn engine(&self) -> Engine {
        let remembered = self.remembered.iter().map(|item| Remembered {
            service: item.service.clone(),
            memory: item.memory.clone(),
            elapsed: item.elapsed,
            away: item.away,
        });
        Engine::with_orphans(self.seed, self.incidents, remembered.collect(), self.orphans.clone())
    }
}

/// What is wrong with a recording.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It could not be read.
    #[error("line {line} of the recording could not be read")]
    Read {
        /// Which, from 1.
        line: usize,
        /// What the system said.
        source: io::Error,
    },
    /// A line is not of this format.
    #[error("line {line} of the recording is not understood")]
    Malformed {
        /// Which, from 1.
        line: usize,
        /// Where and why.
        source: serde_json::Error,
    },
    /// It is of another version.
    #[error("the recording has version {0}; this Horus reads version {RECORDING_VERSION}")]
    Version(u32),
    /// It does not begin with a birth, or is empty.
    #[error("the recording does not begin with the birth of an engine")]
    Unborn,
    /// It is too long.
    #[error(
        "line {line} of the recording is over a limit ({LINE_BYTES_MAX} bytes a line, {LINES_MAX} lines)"
    )]
    TooLong {
        /// Which, from 1.
        line: usize,
    },
}

/// Writes one line.
///
/// # Errors
/// Those of the writer.
pub fn write_line(out: &mut impl Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// The line for an input at an instant.
pub fn told(at: Mono, input: &Input) -> Line {
    let at_ns = u64::try_from(at.since_origin().as_nanos()).unwrap_or(u64::MAX);
    Line::Told { at_ns, input: input.clone() }
}

/// The instant of a line.
pub fn instant(at_ns: u64) -> Mono {
    Mono::from_origin(Duration::from_nanos(at_ns))
}

/// Reads a whole recording and checks that it begins with a birth of this version.
///
/// # Errors
/// [`RecordingError`], which names the line.
pub fn read(from: &mut impl BufRead) -> Result<Vec<Line>, RecordingError> {
    let mut lines = Vec::new();
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        let mut limited = io::Read::take(&mut *from, limit + 1);
        let count = limited
            .read_until(b'\n', &mut bytes)
            .map_err(|source| RecordingError::Read { line: number, source })?;
        if count == 0 {
            break;
        }
        if count > LINE_BYTES_MAX || lines.len() >= LINES_MAX {
            return Err(RecordingError::TooLong { line: number });
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let line = serde_json::from_slice(&bytes)
            .map_err(|source| RecordingError::Malformed { line: number, source })?;
        if let Line::Born { born } = &line
            && born.version != RECORDING_VERSION
        {
            return Err(RecordingError::Version(born.version));
        }
        lines.push(line);
    }
    match lines.first() {
        Some(Line::Born { .. }) => Ok(lines),
        _ => Err(RecordingError::Unborn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let at = Mono::from_origin(Duration::from_millis(1500));
        let lines = [Line::Born { born: Birth::first(7, "a test") }, told(at, &Input::Wake)];
        let mut file = Vec::new();
        for line in &lines {
            write_line(&mut file, line).unwrap();
        }
        assert_eq!(read(&mut file.as_slice()).unwrap(), lines);
        assert_eq!(instant(1_500_000_000), at);
    }

    #[test]
    fn what_is_no_recording_is_named_with_its_line() {
        let wrong = |text: &str| read(&mut text.as_bytes()).unwrap_err().to_string();
        assert_eq!(wrong(""), "the recording does not begin with the birth of an engine");
        assert_eq!(
            wrong("{\"at_ns\":1,\"input\":\"wake\"}\n"),
            "the recording does not begin with the birth of an engine"
        );
        let born = "{\"born\":{\"version\":1,\"seed\":1,\"incidents\":0}}\n";
        assert_eq!(wrong(&format!("{born}\n{{}}\n")), "line 3 of the recording is not understood");
        assert!(wrong("{\"born\":{\"version\":9,\"seed\":1,\"incidents\":0}}\n").contains("version 9"));
    }
}
