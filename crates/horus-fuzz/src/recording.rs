//! Recordings of what an engine was told.
//!
//! Promised: any bytes are a recording or an error that names the line; what was written reads back equal, so that a
//! replay is the same life.

use std::sync::OnceLock;

use horus_core::observation::Input;
use horus_sim::recording::{self, Birth, Line, RecordingError};

use crate::dream::dream;
use crate::source::Source;
use crate::{mutate, seeds};

const LINES_MAX: usize = 12;
const WORDS: [&str; 24] = [
    "born",
    "version",
    "seed",
    "incidents",
    "remembered",
    "orphans",
    "note",
    "at_ns",
    "input",
    "wake",
    "service",
    "plan_changed",
    "beat",
    "generation",
    "tick",
    "source",
    "http",
    "took_ms",
    "wall",
    "host",
    "suspended",
    "reconciled",
    "{\"at_ns\":1,\"input\":\"wake\"}\n",
    "{\"born\":{\"version\":1,\"seed\":1,\"incidents\":0}}\n",
];

/// Any bytes.
pub fn check_bytes(bytes: &[u8]) {
    match recording::read(&mut &bytes[..]) {
        Ok(lines) => {
            assert!(matches!(lines.first(), Some(Line::Born { .. })));
            check_lines(&lines);
        }
        Err(
            RecordingError::Read { line, .. }
            | RecordingError::Malformed { line, .. }
            | RecordingError::TooLong { line },
        ) => {
            let there_are = bytes.split(|byte| *byte == b'\n').count();
            assert!((1..=there_are).contains(&line), "line {line} of {there_are}");
        }
        Err(RecordingError::Version(version)) => assert_ne!(version, recording::RECORDING_VERSION),
        Err(RecordingError::Unborn) => {}
    }
}

/// A real example, edited as text.
pub fn check_edited(bytes: &[u8]) {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    check_bytes(&mutate::text(&mut Source::new(bytes), seeds::of(&SEEDS, "recording_bytes"), &WORDS));
}

/// Dreamed inputs, recorded.
pub fn check_dreamed(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let birth: Option<Birth> = dream(&mut source);
    let birth =
        Birth { version: recording::RECORDING_VERSION, ..birth.unwrap_or_else(|| Birth::first(1, "")) };
    let mut lines = vec![Line::Born { born: birth }];
    while !source.is_empty() && lines.len() < LINES_MAX {
        let at_ns = source.number();
        if let Some(input) = dream::<Input>(&mut source) {
            lines.push(Line::Told { at_ns, input });
        }
    }
    check_lines(&lines);
}

fn check_lines(lines: &[Line]) {
    let mut file = Vec::new();
    for line in lines {
        recording::write_line(&mut file, line).expect("a vector takes all");
    }
    assert_eq!(file.iter().filter(|byte| **byte == b'\n').count(), lines.len(), "one line for each input");
    let read = recording::read(&mut file.as_slice());
    let read = read.unwrap_or_else(|error| panic!("{error}: {error:?}\n{}", String::from_utf8_lossy(&file)));
    for (read, written) in read.iter().zip(lines) {
        assert_eq!(read, written, "a line changes when it is read");
    }
    assert_eq!(read.len(), lines.len());
}
