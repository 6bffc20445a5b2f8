//! Golden files: what is on disk at somebody's place today must be readable for ever, and what is written must not change
//! unnoticed. A file here is never edited; a new version of a record gets a new file beside the old one.

use crate::support::{Place, name};
use horus_keeper::protocol::{Exclusive, ExitStatus, Generation, LogSpec, OutOfMemory};
use horus_keeper::slots::{ExitRecord, GenerationRecord, StateRecord, Witness};
use horus_sys::cgroup_limits::GroupCounts;
use horus_sys::launch::Step;
use horus_sys::process::ProcessId;
use std::path::{Path, PathBuf};

const BOOT_ID: &str = "6c5ad1a3-2b0b-4a4e-9a3b-0c5f5e3f1d11";
const PROCESS: ProcessId = ProcessId { pid: 4711, start_time: 977 };
const RUN: Generation = Generation(41);

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(file)
}

/// Puts the golden file where the record belongs, and gives back where that is.
fn put(file: &str, at: PathBuf) -> PathBuf {
    std::fs::copy(golden(file), &at).unwrap();
    at
}

fn assert_written_as(file: &str, at: &Path) {
    let (expected, found) = (std::fs::read_to_string(golden(file)), std::fs::read_to_string(at));
    assert_eq!(found.unwrap(), expected.unwrap(), "{file}: is the version to be raised?");
}

#[test]
fn every_record_of_every_version_is_read_and_the_newest_written_so() {
    let place = Place::new();
    let directory = place.directory();
    let at = put("boot.1", directory.path().join("boot"));
    assert_eq!(directory.boot_id().as_deref(), Some(BOOT_ID));
    directory.write_boot_id(BOOT_ID).unwrap();
    assert_written_as("boot.1", &at);

    let slot = directory.slot(&name("bot"));
    horus_sys::files::ensure_private_dir(slot.path()).unwrap();
    let at = put("gen.1", slot.path().join("gen"));
    let log = LogSpec { path: "/var/lib/horus/logs/bot.log".into(), max_bytes: 16_777_216, keep: 5 };
    let record = GenerationRecord { generation: RUN, log, cgroup: None, exclusive: Vec::new(), counts: None };
    assert_eq!(slot.generation().unwrap(), Some(record.clone()));
    slot.write_generation(&record).unwrap();
    assert_written_as("gen.1", &at);

    // With all that a later build has added: who skips it reads the rest.
    let at = put("gen.1.limited", slot.path().join("gen"));
    let lock = Exclusive { key: "repo:/srv/app".to_owned(), lock: "/run/lock/horus/repo-1".into() };
    let counts = GroupCounts { at_memory_limit: 1, memory_kills: 2, tasks_refused: 3 };
    let cgroup = Some("/sys/fs/cgroup/system.slice/horus-services.scope/slot-bot".into());
    let record = GenerationRecord { cgroup, exclusive: vec![lock], counts: Some(counts), ..record };
    assert_eq!(slot.generation().unwrap(), Some(record.clone()));
    slot.write_generation(&record).unwrap();
    assert_written_as("gen.1.limited", &at);

    let at = put("state.1", slot.path().join("state"));
    let record = StateRecord { generation: RUN, process: PROCESS, boot_id: BOOT_ID.to_owned() };
    assert_eq!(slot.state().unwrap(), Some(record.clone()));
    slot.write_state(&record).unwrap();
    assert_written_as("state.1", &at);
}

#[test]
fn every_way_to_end_is_read_and_written_so() {
    let place = Place::new();
    let slot = place.directory().slot(&name("bot"));
    horus_sys::files::ensure_private_dir(slot.path()).unwrap();
    let signal = ExitStatus::Signal { number: 9, core_dumped: false };
    let not_executed = ExitStatus::NotExecuted { step: Step::Execute, errno: 2 };
    let limit = Some(OutOfMemory { limit: Some(536_870_912) });
    for (file, status, witness, out_of_memory) in [
        ("exit.1.code", ExitStatus::Code(3), Witness::Keeper, None),
        ("exit.1.signal", signal, Witness::Subreaper, None),
        ("exit.1.not_executed", not_executed, Witness::Pidfd, None),
        ("exit.1.unknown", ExitStatus::Unknown, Witness::Nobody, None),
        ("exit.1.out_of_memory", signal, Witness::Keeper, limit),
        ("exit.1.out_of_memory_machine", signal, Witness::Keeper, Some(OutOfMemory { limit: None })),
    ] {
        let at = put(file, slot.path().join("exit.41"));
        let record = ExitRecord { generation: RUN, process: PROCESS, status, witness, out_of_memory };
        assert_eq!(slot.exit(RUN).unwrap(), Some(record.clone()));
        slot.write_exit(&record).unwrap();
        assert_written_as(file, &at);
    }
}

#[test]
fn no_golden_file_is_forgotten() {
    let mut known: Vec<String> = horus_keeper::slots::formats()
        .iter()
        .flat_map(|format| {
            let kind = format.record.strip_prefix("horus-").unwrap().to_owned();
            (format.versions.oldest..=format.versions.newest).map(move |version| format!("{kind}.{version}"))
        })
        .collect();
    for entry in std::fs::read_dir(golden("")).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        known.retain(|version| !file.starts_with(version.as_str()));
    }
    assert_eq!(known, Vec::<String>::new(), "a version without a golden file");
}
