//! Where observations come from: rows of a digest in a file, or a full recording that is digested here.
//!
//! ```text
//! {"digest":1,"note":"where it comes from"}
//! {"at_ms":1790000000000,"clock_ms":0,"service":"bot","generation":1,"what":"spawned"}
//! ```

use std::io::{self, BufRead, Write};

use horus_core::digest::{DIGEST_VERSION, Digest, Row};
use horus_core::observation::Input;
use horus_core::time::Mono;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::recording::{self, LINE_BYTES_MAX, LINES_MAX, Line, RecordingError};

/// What was heard, as rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// In the order in which they were made.
    pub rows: Vec<Row>,
    /// Rows that are not understood and left out.
    pub unknown: u64,
}

/// The first line of a file of rows.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    digest: u32,
    #[serde(default)]
    note: String,
}

/// Why a file of observations cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HeardError {
    /// It is a full recording with a fault.
    #[error("the recording cannot be used")]
    Recording(#[from] RecordingError),
    /// The digest is of another version.
    #[error("the digest has version {0}; this Horus reads version {DIGEST_VERSION}")]
    Version(u32),
    /// It could not be read.
    #[error("line {line} could not be read")]
    Read {
        /// Which, from 1.
        line: usize,
        /// What the system said.
        source: io::Error,
    },
    /// Neither a digest nor a recording.
    #[error("it begins neither like a digest nor like a recording")]
    Neither,
    /// It is too long.
    #[error("line {0} is over a limit ({LINE_BYTES_MAX} bytes a line, {LINES_MAX} lines)")]
    TooLong(usize),
}

/// Reads a file of either kind.
///
/// # Errors
/// [`HeardError`]
pub fn read(from: &mut impl BufRead) -> Result<Heard, HeardError> {
    let first = line(from, 1)?.unwrap_or_default();
    if let Ok(head) = serde_json::from_slice::<Head>(&first) {
        if head.digest != DIGEST_VERSION {
            return Err(HeardError::Version(head.digest));
        }
        return read_rows(from);
    }
    if !first.starts_with(b"{\"born\"") {
        return Err(HeardError::Neither);
    }
    let lines = recording::read(&mut io::Read::chain(first.as_slice(), from))?;
    Ok(Heard { rows: digested(&lines), unknown: 0 })
}

fn line(from: &mut impl BufRead, number: usize) -> Result<Option<Vec<u8>>, HeardError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
    let mut limited = io::Read::take(&mut *from, limit + 1);
    let count =
        limited.read_until(b'\n', &mut bytes).map_err(|source| HeardError::Read { line: number, source })?;
    match count {
        0 => Ok(None),
        count if count > LINE_BYTES_MAX || number > LINES_MAX => Err(HeardError::TooLong(number)),
        _ => Ok(Some(bytes)),
    }
}

fn read_rows(from: &mut impl BufRead) -> Result<Heard, HeardError> {
    let mut heard = Heard::default();
    for number in 2.. {
        let Some(bytes) = line(from, number)? else { break };
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice(&bytes) {
            Ok(row) => heard.rows.push(row),
            Err(_) => heard.unknown += 1,
        }
    }
    Ok(heard)
}

/// Writes rows as a file that [`read`] takes.
///
/// # Errors
/// Those of the writer.
pub fn write(out: &mut impl Write, note: &str, rows: &[Row]) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &Head { digest: DIGEST_VERSION, note: note.into() })?;
    out.write_all(b"\n")?;
    for row in rows {
        serde_json::to_writer(&mut *out, row)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// The digest of a full recording. Signals are no inputs: the engine is run once more, and gives the same again.
pub fn digested(lines: &[Line]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut living = None;
    let mut anchor = (Mono::default(), Timestamp::UNIX_EPOCH);
    let wall =
        |anchor: (Mono, Timestamp), at: Mono| anchor.1.checked_add(at.since(anchor.0)).unwrap_or(anchor.1);
    let mut last = Mono::default();
    for line in lines {
        match line {
            Line::Born { born } => {
                if let Some((_, mut digest)) = living.replace((born.engine(), Digest::new())) {
                    end(&mut digest, last, wall(anchor, last), &mut rows);
                }
            }
            Line::Told { at_ns, input } => {
                let Some((engine, digest)) = &mut living else { continue };
                last = recording::instant(*at_ns);
                if let Input::Wall(time) = input {
                    anchor = (last, *time);
                }
                let time = wall(anchor, last);
                digest.take(last, time, input);
                for command in engine.step(last, input.clone()) {
                    digest.commanded(last, time, &command);
                }
                rows.extend(digest.drain());
            }
        }
    }
    if let Some((_, mut digest)) = living {
        end(&mut digest, last, wall(anchor, last), &mut rows);
    }
    rows
}

fn end(digest: &mut Digest, now: Mono, wall: Timestamp, rows: &mut Vec<Row>) {
    digest.finish(now, wall);
    rows.extend(digest.drain());
}
