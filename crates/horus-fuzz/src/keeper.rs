//! What Horus and the keeper say to each other, and what the keeper leaves on disk.
//!
//! Promised: a line is understood, unknown or an error; what was understood is written as one line that means the same; a
//! record is whole, absent or an error of bounded length; a request shows no environment when it is printed.

use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::OnceLock;

use horus_keeper::protocol::{Event, Generation, Hello, Request, StartSpec};
use horus_keeper::slots::{ExitRecord, GenerationRecord, RunDirectory, SlotDirectory, SlotName, StateRecord};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dream::dream;
use crate::source::Source;
use crate::{mutate, seeds};

/// Longest error about a record, in bytes: it goes to a log and to people.
const ERROR_BYTES_MAX: usize = 1_000;
const CANARY: &str = "c4n4ry-5eed";
const WORDS: [&str; 36] = [
    "request",
    "event",
    "start",
    "signal",
    "kill_tree",
    "forget",
    "shutdown",
    "ping",
    "hello",
    "started",
    "exited",
    "gone",
    "slot",
    "bot",
    "../x",
    "generation",
    "process",
    "pid",
    "start_time",
    "status",
    "code",
    "strays",
    "argv",
    "environment",
    "directory",
    "log",
    "path",
    "max_bytes",
    "keep",
    "token",
    "mode",
    "leave",
    "if_idle",
    "horus-state 1\n",
    "horus-gen 1\n",
    "horus-exit 1\n",
];

/// Any bytes, as a line of either side.
pub fn check_line(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<Request>(bytes) {
        if let Request::Start(spec) = &request {
            check_discreet(spec);
        }
        check_round(&request);
    }
    if let Ok(event) = serde_json::from_slice::<Event>(bytes) {
        check_round(&event);
    }
}

/// A real line, edited.
pub fn check_edited(bytes: &[u8]) {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let seeds = seeds::of(&SEEDS, "keeper_lines");
    let mut source = Source::new(bytes);
    let as_text = source.once_in(4);
    check_line(&if as_text {
        mutate::text(&mut source, seeds, &WORDS)
    } else {
        mutate::json(&mut source, seeds, &WORDS)
    });
}

/// Dreamed parts of the language, put into their places.
pub fn check_dreamed(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    if let Some(spec) = dream::<StartSpec>(&mut source) {
        check_discreet(&spec);
        check_round(&Request::Start(Box::new(spec)));
    }
    if let Some(hello) = dream::<Hello>(&mut source) {
        check_round(&Event::Hello(hello));
    }
    let slot = slot();
    if let Some(record) = dream::<GenerationRecord>(&mut source) {
        slot.write_generation(&record).expect("the directory takes writes");
        assert_eq!(slot.generation().expect("it was just written"), Some(record));
    }
    if let Some(record) = dream::<StateRecord>(&mut source) {
        slot.write_state(&record).expect("the directory takes writes");
        assert_eq!(slot.state().expect("it was just written"), Some(record));
    }
    if let Some(record) = dream::<ExitRecord>(&mut source) {
        slot.write_exit(&record).expect("the directory takes writes");
        let read = slot.exit(record.generation).expect("it was just written");
        assert_eq!(read.as_ref(), Some(&record));
        std::fs::remove_file(slot.path().join(format!("exit.{}", record.generation)))
            .expect("it was just written");
    }
}

/// Any bytes, as each of the records of a slot.
pub fn check_records(bytes: &[u8]) {
    let slot = slot();
    let put = |name: &str| {
        let mut file = std::fs::File::create(slot.path().join(name)).expect("the directory takes writes");
        file.write_all(bytes).expect("the directory takes writes");
    };
    put("gen");
    check_record(slot.generation(), |record| slot.write_generation(record), || slot.generation());
    put("state");
    check_record(slot.state(), |record| slot.write_state(record), || slot.state());
    put("exit.1");
    check_record(
        slot.exit(Generation(1)),
        |record| slot.write_exit(&ExitRecord { generation: Generation(1), ..record.clone() }),
        || slot.exit(Generation(1)),
    );
}

/// A real record, edited.
pub fn check_edited_records(bytes: &[u8]) {
    static SEEDS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    check_records(&mutate::text(&mut Source::new(bytes), seeds::of(&SEEDS, "keeper_records"), &WORDS));
}

fn check_record<T: PartialEq + std::fmt::Debug + Serialize>(
    read: std::io::Result<Option<T>>,
    write: impl Fn(&T) -> std::io::Result<()>,
    again: impl Fn() -> std::io::Result<Option<T>>,
) {
    match read {
        Ok(None) => panic!("a record that is there is taken for absent"),
        Ok(Some(record)) => {
            write(&record).expect("the directory takes writes");
            assert!(again().is_ok_and(|read| read.is_some()), "{record:?} is not read back");
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.len() <= ERROR_BYTES_MAX, "an error of {} bytes: {text:.200}", text.len());
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }
}

/// One directory for the whole run: each input writes over what was there.
fn slot() -> &'static SlotDirectory {
    static SLOT: OnceLock<(tempfile::TempDir, SlotDirectory)> = OnceLock::new();
    let (_, slot) = SLOT.get_or_init(|| {
        let scratch = tempfile::tempdir().expect("a directory for the test");
        let run = RunDirectory::prepare(&scratch.path().join("run")).expect("a run directory");
        let slot = run.slot(&SlotName::try_from("bot").expect("a name"));
        std::fs::DirBuilder::new().mode(0o700).create(slot.path()).expect("a slot directory");
        (scratch, slot)
    });
    slot
}

fn check_round<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(said: &T) {
    let line = serde_json::to_string(said).expect("what was understood can be said");
    assert!(!line.contains('\n'), "one object, one line");
    let heard: T = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(&heard, said, "said and heard differ: {line}");
}

/// Values of the environment may be secret.
fn check_discreet(spec: &StartSpec) {
    let mut spec = spec.clone();
    spec.environment.iter_mut().for_each(|(_, value)| *value = CANARY.into());
    spec.environment.push(("TOKEN".into(), CANARY.into()));
    let shown = format!("{spec:?}");
    assert!(!shown.contains(CANARY), "{shown}");
}
