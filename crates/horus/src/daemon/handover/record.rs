//! What one program tells the next in the same process: the descriptors that it leaves open, and what they are.
//!
//! JSON in a file without a name, whose number is in [`VARIABLE`]. It names the process that it is meant for, so that a
//! variable that strays into another process means nothing there. Fields are only added within a version.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::RawFd;
use std::path::PathBuf;

use horus_api::Spot;
use horus_core::ids::{ProcessId as ServiceProcess, ServiceName};
use horus_keeper::protocol::{SlotName, Text, Versions};
use horus_sys::process::{self, ProcessId};
use horus_sys::spawn;
use serde::{Deserialize, Serialize};

use super::program::Program;

/// Names the descriptor of the record to the new program.
pub(super) const VARIABLE: &str = "HORUS_HANDOVER";

/// The records that this build reads; it writes the newest.
pub(super) const HANDOVERS: Versions = Versions { oldest: 1, newest: 1 };

/// Longest record, in bytes: five thousand services and more.
const RECORD_MAX: u64 = 16 * 1024 * 1024;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) version: u32,
    /// Whom it is meant for.
    pub(super) process: ProcessId,
    /// Upgrades that this process has seen to their end before this one.
    pub(super) tries: u32,
    pub(super) from: Identity,
    pub(super) to: Identity,
    /// The former program has it from one that could not go on, and why.
    #[serde(default)]
    pub(super) failed: Option<String>,
    /// What an upgrade takes if nobody names another: the path by which the first program was started.
    pub(super) home: PathBuf,
    /// The words of the command line, without the program.
    pub(super) words: Vec<Text>,
    /// `None`: the disk did not take even a lock.
    pub(super) state_lock: Option<RawFd>,
    pub(super) run_lock: RawFd,
    pub(super) api: Socket,
    pub(super) notify: BTreeMap<ServiceName, Socket>,
    /// The notify streams. Earlier programs had none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) streams: BTreeMap<ServiceName, Socket>,
    pub(super) fifos: BTreeMap<SlotName, RawFd>,
    /// The former program's file, by which it can be executed again.
    #[serde(default)]
    pub(super) former: Option<RawFd>,
    /// Who lived when it was written.
    pub(super) services: BTreeMap<ServiceName, ServiceProcess>,
}

/// A program and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) path: PathBuf,
    #[serde(flatten)]
    pub(super) program: Program,
}

/// A socket and the file that it is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Socket {
    pub(super) descriptor: RawFd,
    pub(super) path: PathBuf,
    pub(super) spot: Spot,
}

/// What is read before anything else, whatever the version.
#[derive(Deserialize)]
struct Head {
    version: u32,
    process: ProcessId,
}

impl Record {
    /// Into a file whose number the next program is told.
    pub(super) fn write(&self) -> io::Result<File> {
        let mut file = spawn::anonymous_file()?;
        file.write_all(&serde_json::to_vec(self)?)?;
        Ok(file)
    }

    /// What the program before this one left, if there was one in this process.
    pub(super) fn take() -> Option<io::Result<Self>> {
        let number = std::env::var_os(VARIABLE)?;
        let number = number.to_str().and_then(|number| number.parse().ok());
        let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("{VARIABLE} is no descriptor"));
        match number.ok_or_else(bad).and_then(Self::inherit) {
            Ok(None) => None,
            Ok(Some(record)) => Some(Ok(record)),
            Err(error) => Some(Err(error)),
        }
    }

    fn inherit(number: RawFd) -> io::Result<Option<Self>> {
        let mut file = File::from(spawn::inherit(number)?);
        file.rewind()?;
        let mut bytes = Vec::new();
        file.take(RECORD_MAX).read_to_end(&mut bytes)?;
        Self::read(&bytes, process::identify(process::own_pid())?)
    }

    fn read(bytes: &[u8], own: Option<ProcessId>) -> io::Result<Option<Self>> {
        let head: Head = serde_json::from_slice(bytes)?;
        if Some(head.process) != own {
            return Ok(None);
        }
        if !HANDOVERS.contains(head.version) {
            let what = format!("it is version {}, and this build reads {HANDOVERS}", head.version);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(Some(serde_json::from_slice(bytes)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: ProcessId = ProcessId { pid: 4711, start_time: 99 };

    /// A record of version 1 as it was first written. It is never changed: a program that is taken back must read it.
    const GOLDEN: &str = include_str!("handover-1.json");

    #[test]
    fn the_record_of_each_version_is_read() {
        let record = Record::read(GOLDEN.as_bytes(), Some(OWN)).unwrap().unwrap();
        assert_eq!((record.version, record.tries, record.state_lock, record.run_lock), (1, 2, Some(7), 8));
        assert_eq!(record.to.program.to_string(), "0.2.0 (build 3f2a91c07be4)");
        assert_eq!(record.words, [Text::from("run"), Text(vec![47, 255])]);
        assert_eq!(record.notify.len() + record.fifos.len() + record.services.len(), 3);
        let written = serde_json::to_value(&record).unwrap();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(GOLDEN).unwrap());
    }

    #[test]
    fn a_record_for_another_process_or_of_another_version_is_not_used() {
        let stranger = ProcessId { start_time: 98, ..OWN };
        assert!(Record::read(GOLDEN.as_bytes(), Some(stranger)).unwrap().is_none());
        assert!(Record::read(GOLDEN.as_bytes(), None).unwrap().is_none());
        let later = GOLDEN.replace("\"version\": 1,", "\"version\": 2,");
        let error = Record::read(later.as_bytes(), Some(OWN)).unwrap_err();
        assert!(error.to_string().contains("it is version 2"), "{error}");
        assert!(Record::read(b"{", Some(OWN)).is_err());
    }
}
