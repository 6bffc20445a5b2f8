//! Bundles on disk: one JSON file per capture, whole or absent, readable by its owner alone, the newest kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use horus_core::ids::{Generation, IncidentId, ProcessId, ServiceName};
use horus_core::observation::CaptureStage;
use horus_sys::fact::Fact;
use horus_sys::facts::{HostPressure, Load, ProcessFacts, SocketFacts, ThreadFacts};
use horus_sys::files::{Durability, ensure_private_dir, write_atomic};
use jiff::Timestamp;
use serde::Serialize;

use crate::capture::witness::Testimony;
use crate::limits::{EVIDENCE_BUNDLE_BYTES_MAX, EVIDENCE_BYTES_MAX, EVIDENCE_FILES_MAX};

/// The version of the file format. A reader ignores fields that it does not know.
pub(crate) const SCHEMA: u32 = 1;

/// What is written. The first lines are for people, the rest for comparison.
#[derive(Debug, Serialize)]
pub(crate) struct Bundle {
    pub(crate) schema: u32,
    pub(crate) service: ServiceName,
    pub(crate) phrase: String,
    pub(crate) at: Timestamp,
    pub(crate) stage: CaptureStage,
    pub(crate) incident: Option<IncidentId>,
    pub(crate) generation: Generation,
    pub(crate) main: ProcessId,
    pub(crate) missing: Vec<String>,
    /// The thread that the kernel's view had found stuck, if that is not the main one and it is still there: the phrase is about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thread: Option<i32>,
    pub(crate) place: Option<String>,
    pub(crate) cpu_ns: Option<u64>,
    pub(crate) process: Fact<ProcessFacts>,
    pub(crate) pressure: HostPressure,
    pub(crate) load: Fact<Load>,
    pub(crate) threads: Vec<ThreadFacts>,
    pub(crate) sockets: Vec<SocketFacts>,
    /// What the witness said: stacks, tasks, limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stacks: Option<Testimony>,
    /// For how many milliseconds the place, the CPU time and the function are known to be the same. `None`: they moved, or this is
    /// the first look at this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unmoved_ms: Option<u64>,
    /// The functions of the look before and of this one, if they differ: it moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) moved: Option<String>,
    /// Threads and sockets that were left out to keep the file small.
    pub(crate) left_out: usize,
    /// What changed in the last minutes, of the service and of what it may feel: the oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) changed: Vec<Change>,
    pub(crate) last_lines: Vec<String>,
}

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// The service, or `horus` for Horus and the machine.
    pub subject: String,
    /// What, as a sentence.
    pub what: String,
}

impl Bundle {
    fn file_name(&self) -> String {
        let stage = match self.stage {
            CaptureStage::Early => "early",
            CaptureStage::Second => "second",
            CaptureStage::Verdict => "verdict",
            CaptureStage::Exit => "exit",
        };
        let at = self.at.strftime("%Y%m%dT%H%M%S%3fZ");
        format!("{}-{}-{stage}-{at}.json", self.service, self.generation.0)
    }

    /// As JSON that fits: when it does not, threads and sockets are halved until it does.
    fn fitting_json(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let json = serde_json::to_vec_pretty(self)?;
            if json.len() <= EVIDENCE_BUNDLE_BYTES_MAX {
                return Ok(json);
            }
            if self.threads.len() + self.sockets.len() <= 1 {
                if self.stacks.as_mut().is_some_and(Testimony::shorten) {
                    self.left_out += 1;
                    continue;
                }
                return Ok(json);
            }
            let before = self.threads.len() + self.sockets.len();
            self.threads.truncate(self.threads.len().div_ceil(2));
            self.sockets.truncate(self.sockets.len() / 2);
            self.left_out += before - self.threads.len() - self.sockets.len();
        }
    }

    /// Writes the bundle into `directory` and returns its file name. A verdict's bundle also survives a power cut.
    pub(crate) fn write(&mut self, directory: &Path) -> io::Result<String> {
        ensure_private_dir(directory).map_err(io::Error::other)?;
        let json = self.fitting_json()?;
        let durability = match self.stage {
            CaptureStage::Verdict => Durability::PowerLoss,
            CaptureStage::Early | CaptureStage::Second | CaptureStage::Exit => Durability::ThisBoot,
        };
        let name = self.file_name();
        write_atomic(&directory.join(&name), &json, durability)?;
        Ok(name)
    }
}

/// Removes the oldest bundles beyond the limits. Returns how many went.
pub(crate) fn keep_newest(directory: &Path) -> io::Result<usize> {
    keep_newest_of(directory, EVIDENCE_FILES_MAX, EVIDENCE_BYTES_MAX)
}

fn keep_newest_of(directory: &Path, files_max: usize, bytes_max: u64) -> io::Result<usize> {
    // Even a directory that somebody filled by hand is read in bounded time; the next call goes on.
    const ENTRIES_MAX: usize = 20_000;
    let mut bundles: Vec<(SystemTime, PathBuf, u64)> = fs::read_dir(directory)?
        .take(ENTRIES_MAX)
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let meta = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?;
            let is_bundle = path.extension().is_some_and(|extension| extension == "json");
            is_bundle.then(|| Some((meta.modified().ok()?, path, meta.len())))?
        })
        .collect();
    bundles.sort_by(|one, other| other.cmp(one));
    let mut bytes = 0_u64;
    let mut removed = 0;
    for (position, (_, path, length)) in bundles.iter().enumerate() {
        bytes = bytes.saturating_add(*length);
        // The newest stays whatever its size.
        if position > 0 && (position >= files_max || bytes > bytes_max) {
            fs::remove_file(path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write plain files")]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_the_newest_bundles_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let make = |n: u64| {
            let path = dir.path().join(format!("bot-{n}-early-x.json"));
            std::fs::write(&path, vec![b'x'; 100]).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(n)).unwrap();
        };
        std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
        (0..10).for_each(make);
        assert_eq!(keep_newest_of(dir.path(), 6, 10_000).unwrap(), 4);
        assert_eq!(keep_newest_of(dir.path(), 6, 250).unwrap(), 4);
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["bot-8-early-x.json", "bot-9-early-x.json", "notes.txt"]);
        assert_eq!(keep_newest_of(dir.path(), 6, 1).unwrap(), 1, "the newest stays");
    }
}
