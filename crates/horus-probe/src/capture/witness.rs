//! The witness: a short-lived child that reads the stacks and tasks of a program, because that is no work for a daemon.
//!
//! It is this same program, as `horus capture PID --json`, in its own process group, with limits of its own and a last one here:
//! whatever the foreign memory does to it, only it dies, and the kernel's view stands. What it says is foreign text: secrets are
//! hidden in it, and only the few fields that are known are believed.

use std::ffi::OsString;
use std::path::Path;

use horus_core::ids::ProcessId;
use horus_core::time::Human;
use horus_sys::reap::WaitStatus;
use horus_sys::spawn::{ExecOutcome, run_with_deadline};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::capture::redact::Redactor;
use crate::limits::{
    DETAIL_CHARACTERS_MAX, WITNESS_BYTES_MAX, WITNESS_PHRASE_CHARACTERS_MAX, WITNESS_REASONS_MAX,
    WITNESS_TIMEOUT,
};
use crate::text::{harmless, one_line};

/// The version of what a witness says.
const SCHEMA: u32 = 1;

/// How deep its lists may be nested.
const DEPTH_MAX: usize = 16;

/// What a witness said. Its own view of threads and sockets is left out: the bundle has one already.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Testimony {
    schema: u32,
    start_time: Option<u64>,
    /// Where the program stands.
    pub(crate) phrase: String,
    /// The thread that it is about, if one was asked for and was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) thread: Option<i32>,
    /// The function in it, to be compared between captures.
    pub(crate) place: Option<String>,
    /// What it did not see.
    #[serde(skip_serializing)]
    pub(crate) missing: Vec<String>,
    took_ms: f64,
    #[serde(default)]
    python: Value,
    #[serde(default)]
    native: Value,
    #[serde(default)]
    limits: Value,
}

/// Asks `program` about a process, and about this thread of it. Blocks, for [`WITNESS_TIMEOUT`] at most. The error is for people.
pub(crate) fn ask(
    program: &Path,
    main: ProcessId,
    thread: Option<i32>,
    redactor: &Redactor,
) -> Result<Testimony, String> {
    let mut words: Vec<OsString> =
        vec![program.into(), "capture".into(), "--json".into(), main.pid.to_string().into()];
    if let Some(thread) = thread {
        words.extend(["--thread".into(), thread.to_string().into()]);
    }
    let said = match run_with_deadline(&words, &[], Path::new("/"), WITNESS_TIMEOUT, WITNESS_BYTES_MAX) {
        ExecOutcome::Finished { status: WaitStatus::Code(0), output, .. } if output.dropped == 0 => {
            output.bytes
        }
        ExecOutcome::Finished { status: WaitStatus::Code(0), .. } => {
            return Err("it said too much".to_owned());
        }
        ExecOutcome::Finished { status, .. } => return Err(format!("it ended early ({status:?})")),
        ExecOutcome::TimedOut { .. } => return Err(format!("killed after {}", Human(WITNESS_TIMEOUT))),
        ExecOutcome::NotStarted { error } => return Err(format!("not started ({error})")),
    };
    understood(&said, main, redactor)
}

fn understood(said: &[u8], main: ProcessId, redactor: &Redactor) -> Result<Testimony, String> {
    let mut testimony: Testimony =
        serde_json::from_slice(said).map_err(|error| one_line(&error.to_string(), DETAIL_CHARACTERS_MAX))?;
    if testimony.schema != SCHEMA {
        return Err(format!("it speaks version {}, and {SCHEMA} is understood", testimony.schema));
    }
    if testimony.start_time != Some(main.start_time) {
        return Err("the process is not there any more".to_owned());
    }
    let short = |text: &str, most| one_line(&redactor.line(text), most);
    testimony.phrase = short(&testimony.phrase, WITNESS_PHRASE_CHARACTERS_MAX);
    testimony.place = testimony.place.map(|place| short(&place, WITNESS_PHRASE_CHARACTERS_MAX));
    testimony.missing.truncate(WITNESS_REASONS_MAX);
    for reason in &mut testimony.missing {
        *reason = short(reason, DETAIL_CHARACTERS_MAX);
    }
    for value in [&mut testimony.python, &mut testimony.native, &mut testimony.limits] {
        clean(value, redactor, DEPTH_MAX);
    }
    Ok(testimony)
}

/// Hides secrets in every text, and whatever could speak to a terminal.
fn clean(value: &mut Value, redactor: &Redactor, depth: usize) {
    match value {
        Value::String(text) => *text = redactor.line(text).chars().map(harmless).collect(),
        Value::Array(values) if depth > 0 => {
            values.iter_mut().for_each(|value| clean(value, redactor, depth - 1));
        }
        Value::Object(fields) if depth > 0 => {
            fields.values_mut().for_each(|value| clean(value, redactor, depth - 1));
        }
        Value::Array(_) | Value::Object(_) => *value = Value::Null,
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl Testimony {
    /// Does its phrase say more than the kernel does?
    pub(crate) fn says_where(&self) -> bool {
        !self.phrase.is_empty() && (self.place.is_some() || self.phrase.starts_with("the loop"))
    }

    /// What it does, to be compared with another look: a function, or the wait of a loop that has nothing to do.
    pub(crate) fn doing(&self) -> Option<String> {
        let is_home = self.phrase.starts_with("the loop waits for events");
        self.place.clone().or_else(|| is_home.then(|| "its wait for events".to_owned()))
    }

    /// Gives up the longest part of it. `false`: nothing is left to give up.
    pub(crate) fn shorten(&mut self) -> bool {
        [&mut self.native, &mut self.python].into_iter().any(|part| !std::mem::take(part).is_null())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use horus_core::plan::Secret;

    use super::*;

    const MAIN: ProcessId = ProcessId { pid: 7, start_time: 42 };

    fn document(phrase: &str) -> String {
        format!(
            r#"{{"schema":1,"pid":7,"start_time":42,"phrase":"{phrase}","place":"f (a.py:1)","missing":["tasks: hunter2"],
            "took_ms":1.5,"python":{{"tasks":[{{"name":"hunter2\u001b[31m"}}]}},"native":[1],"limits":null,"new":"x"}}"#
        )
    }

    fn said(script: &str) -> Result<Testimony, String> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("witness");
        std::io::Write::write_all(
            &mut std::fs::File::create(&program).unwrap(),
            format!("#!/bin/sh\n{script}\n").as_bytes(),
        )
        .unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        ask(&program, MAIN, None, &Redactor::new(&[Secret::new("hunter2".into())]))
    }

    #[test]
    fn what_is_said_is_believed_in_parts_and_hides_secrets() {
        let testimony = said(&format!("cat <<'END'\n{}\nEND", document("in hunter2\\n"))).unwrap();
        assert_eq!(
            (testimony.phrase.as_str(), testimony.missing.as_slice()),
            ("in ***", &["tasks: ***".to_owned()][..])
        );
        let kept = serde_json::to_string(&testimony).unwrap();
        assert!(!kept.contains("hunter") && !kept.contains("001b") && kept.contains("***"), "{kept}");
        let mut testimony = testimony;
        assert!(testimony.shorten() && testimony.shorten() && !testimony.shorten());
    }

    #[test]
    fn whatever_else_it_does_is_a_reason() {
        for (script, reason) in [
            ("kill -9 $$", "it ended early"),
            ("exit 3", "it ended early"),
            ("echo nonsense", "expected"),
            ("head -c 3000000 /dev/zero", "it said too much"),
            (
                "echo '{\"schema\":2,\"start_time\":42,\"phrase\":\"\",\"missing\":[],\"took_ms\":1}'",
                "version 2",
            ),
            (
                "echo '{\"schema\":1,\"start_time\":41,\"phrase\":\"\",\"missing\":[],\"took_ms\":1}'",
                "not there",
            ),
        ] {
            let error = said(script).unwrap_err();
            assert!(error.contains(reason), "{script}: {error}");
        }
        let gone = ask(Path::new("/no/such/program"), MAIN, None, &Redactor::new(&[])).unwrap_err();
        assert!(gone.starts_with("not started"), "{gone}");
    }

    #[test]
    fn a_witness_that_hangs_is_killed() {
        assert_eq!(said("while :; do :; done").unwrap_err(), "killed after 4 s");
    }
}
