//! A file becomes a tape, or an error that says what to do about it.

use std::error::Error as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use horus_core::observation::Input;
use serde::Deserialize;
use serde_json::Value;

use crate::recording::{self, Birth, LINE_BYTES_MAX, Line, RECORDING_VERSION, RecordingError};

/// Why a file cannot be lived again.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is none, or it may not be read.
    #[error("{} cannot be read", path.display())]
    NoFile {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no whole recording of this version.
    #[error("{} cannot be replayed", path.display())]
    NoRecording {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and in which line.
        source: RecordingError,
        /// What exactly is not understood in that line, as far as it can be told.
        detail: Option<String>,
    },
}

impl LoadError {
    /// Why, outermost first.
    pub fn causes(&self) -> Vec<String> {
        match self {
            Self::NoFile { source, .. } => vec![source.to_string()],
            Self::NoRecording { source, detail, .. } => {
                let below = || source.source().map(ToString::to_string);
                [Some(source.to_string()), detail.clone().or_else(below)].into_iter().flatten().collect()
            }
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> String {
        let Self::NoRecording { path, source, .. } = self else {
            return "name the file of a recording: horus replay FILE".into();
        };
        let path = path.display();
        match source {
            RecordingError::Version(version) if *version > RECORDING_VERSION => {
                format!(
                    "it was written by a newer Horus (version {version}): replay it with that one, or a later"
                )
            }
            RecordingError::Version(_) => "it was written by an older Horus: replay it with that one".into(),
            RecordingError::Malformed { line, source } if *line > 1 => {
                let whole = line - 1;
                let what = if source.is_eof() {
                    "it was cut off there"
                } else {
                    "it is damaged there, or of another Horus"
                };
                format!("{what}: `head -n {whole} {path}` gives the part before")
            }
            RecordingError::Malformed { .. } | RecordingError::Unborn => {
                "a recording begins with a line {\"born\": ...}: is this one?".into()
            }
            RecordingError::Read { .. } => "does its disk work? copy the file and try that".into(),
            RecordingError::TooLong { line } => {
                format!("if that line is whole, `head -n {} {path}` gives the part before it", line - 1)
            }
        }
    }
}

/// Reads the recording in a file.
///
/// # Errors
/// [`LoadError`], with the file, the line and a hint.
pub fn load(path: &Path) -> Result<Vec<Line>, LoadError> {
    let no_file = |source| LoadError::NoFile { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(no_file)?;
    if file.metadata().map_err(no_file)?.is_dir() {
        return Err(no_file(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    read(BufReader::new(file)).map_err(|source| {
        let detail = match &source {
            RecordingError::Malformed { line, .. } => explain(path, *line),
            _ => None,
        };
        LoadError::NoRecording { path: path.to_path_buf(), source, detail }
    })
}

/// The same as [`recording::read`]; and a recording whose birth is of another version is called that, whatever else has
/// changed in it.
fn read(mut from: impl BufRead) -> Result<Vec<Line>, RecordingError> {
    let mut first = Vec::new();
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    let mut limited = Read::take(&mut from, limit + 1);
    limited.read_until(b'\n', &mut first).map_err(|source| RecordingError::Read { line: 1, source })?;
    if let Ok(Versioned { born: Version { version } }) = serde_json::from_slice(&first)
        && version != RECORDING_VERSION
    {
        return Err(RecordingError::Version(version));
    }
    recording::read(&mut first.as_slice().chain(from))
}

/// As much of a first line as every version has.
#[derive(Deserialize)]
struct Versioned {
    born: Version,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// What is wrong with a line. That it fits no kind of line is known; here its kind is guessed from its keys.
fn explain(path: &Path, line: usize) -> Option<String> {
    let mut file = BufReader::new(File::open(path).ok()?);
    let mut bytes = Vec::new();
    for _ in 0..line {
        bytes.clear();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        Read::take(&mut file, limit).read_until(b'\n', &mut bytes).ok()?;
    }
    let value: Value = match serde_json::from_slice(&bytes) {
        Ok(value) => value,
        // Its own line number is always 1, and would be taken for that of the file.
        Err(error) => return Some(error.to_string().replace(" at line 1 column ", " at column ")),
    };
    let told = value.get("at_ns").zip(value.get("input"));
    match (value.get("born"), told) {
        (Some(born), _) => Birth::deserialize(born).err().map(|error| error.to_string()),
        (None, Some((at, input))) => {
            let at = u64::deserialize(at).err().map(|error| format!("at_ns: {error}"));
            at.or_else(|| Input::deserialize(input).err().map(|error| error.to_string()))
        }
        (None, None) => Some("it has neither `born` nor `at_ns` with `input`".into()),
    }
}
