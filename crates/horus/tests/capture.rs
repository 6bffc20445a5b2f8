//! `horus capture` as a process: within its limits, in JSON and in words, of programs that live and of some that do not.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test says what it expects")]
#![expect(clippy::disallowed_methods, reason = "the subjects of these tests are processes")]

use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

fn capture(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_horus")).arg("capture").args(words).output().unwrap()
}

/// A shell that waits for its input.
struct Shell(Child);

impl Shell {
    fn start() -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read line; exit 7"]).stdin(Stdio::piped()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_program_is_looked_at_in_words_and_in_json_and_goes_on() {
    let mut shell = Shell::start();
    let pid = shell.pid();
    let end = horus_sys::clock::monotonic() + std::time::Duration::from_secs(60);
    let document = loop {
        let said = capture(&["--json", &pid]);
        assert!(said.status.success() && said.stderr.is_empty(), "{said:?}");
        let document: Value = serde_json::from_slice(&said.stdout).unwrap();
        // It may still be on its way to its place.
        if document["phrase"].as_str().unwrap().contains("recv from a pipe") {
            break document;
        }
        assert!(horus_sys::clock::monotonic() < end, "{document}");
    };
    assert_eq!(document["schema"], 1);
    assert_eq!(document["pid"].to_string(), pid);
    assert!(document["limits"]["known"].as_array().is_some_and(|limits| limits.len() > 5), "{document}");
    let said = capture(&[&pid]);
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.starts_with(&format!("{pid} waiting on recv from a pipe")), "{text}");
    assert!(text.contains("nothing was stopped"), "{text}");
    let said = capture(&["--json", "--thread", "1", &pid]);
    let other: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!((&other["phrase"], &other["thread"]), (&document["phrase"], &Value::Null));
    assert_eq!(other["missing"].as_array().unwrap().last().unwrap(), "thread 1: not there any more");
    let said = capture(&["--json", "--thread", &pid, &pid]);
    assert_eq!(serde_json::from_slice::<Value>(&said.stdout).unwrap()["thread"].to_string(), pid);
    // What it waits for comes: it was not harmed.
    drop(shell.0.stdin.take());
    assert_eq!(shell.0.wait().unwrap().code(), Some(7));
}

#[test]
fn a_process_that_is_not_there_is_said() {
    for pid in ["2147483647", "0", "-1", "me"] {
        let said = capture(&["--json", "--", pid]);
        let code = if pid == "2147483647" { 1 } else { 64 };
        assert_eq!(said.status.code(), Some(code), "{said:?}");
        assert!(said.stdout.is_empty(), "{said:?}");
    }
}
