//! The child that captures, as Horus starts it: behind its own fence, and ended when it is late. What it does to its target is
//! looked at from here.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use horus_capture::Document;
use horus_capture::limits::{CAPTURE_MEMORY_BYTES, CAPTURE_WALL, DOCUMENT_BYTES_MAX, FRAMES_MAX, confine};
use horus_sys::clock::monotonic;

use crate::subject::{PATIENCE, Subject};

/// What a loaded machine adds to the wall limit.
const SLACK: Duration = Duration::from_secs(20);

/// Chains, tasks and names are cut there.
const CHAIN_MAX: usize = 64;
const TASKS_MAX: usize = 256;
const TEXT_MAX: usize = 1_024;

/// How a child that captured came to its end.
pub(crate) struct Told {
    pub(crate) status: ExitStatus,
    pub(crate) document: Option<Document>,
}

impl Told {
    /// What it said; it has to have said something, and within its limits.
    pub(crate) fn document(self) -> Document {
        let status = self.status;
        self.document.unwrap_or_else(|| panic!("it died of it: {status}"))
    }
}

/// Has a child look at this process. It ends in time, whatever it meets.
pub(crate) fn ask(pid: i32) -> Told {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said.json");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "witness::as_a_witness", "--nocapture", "--test-threads", "1"]);
    command.env("HORUS_TEST_TARGET", pid.to_string()).env("HORUS_TEST_SAID", &said);
    let began = monotonic();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if monotonic() - began > CAPTURE_WALL + SLACK {
            let _ = child.kill();
            panic!("a capture did not end");
        }
        std::thread::park_timeout(Duration::from_millis(2));
    };
    let json = std::fs::read(&said).ok();
    assert!(json.as_ref().is_none_or(|json| json.len() <= DOCUMENT_BYTES_MAX), "it said too much");
    let document = json.map(|json| serde_json::from_slice(&json).unwrap());
    document.iter().for_each(within_limits);
    Told { status, document }
}

fn within_limits(document: &Document) {
    assert!(document.peak_bytes < CAPTURE_MEMORY_BYTES, "{} bytes", document.peak_bytes);
    assert!(document.native.iter().all(|thread| thread.frames.len() <= 256));
    if let Some(python) = &document.python {
        assert!(python.threads.iter().all(|thread| thread.frames.len() <= FRAMES_MAX));
        assert!(python.tasks.len() <= TASKS_MAX);
        for task in &python.tasks {
            assert!(task.chain.len() <= CHAIN_MAX && task.name.len() <= TEXT_MAX, "{task:?}");
        }
    }
}

/// Whoever was looked at goes on as before: not stopped, not traced, and it still gets its turns.
pub(crate) fn goes_on(subject: &mut Subject) {
    let pid = subject.pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    assert!(!field("State:").starts_with(['T', 't', 'Z', 'X']), "{status}");
    assert_eq!(field("TracerPid:"), "0");
    let (before, end) = (turns(pid), monotonic() + PATIENCE);
    while turns(pid) <= before {
        assert!(monotonic() < end, "none of its threads runs any more");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    assert!(subject.child.try_wait().unwrap().is_none(), "it ended");
}

/// How often its first few threads have gone to sleep by themselves.
fn turns(pid: i32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let switches = |task: &Path| -> Option<u64> {
        let status = std::fs::read_to_string(task.join("status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse().ok()
    };
    tasks.flatten().take(4).filter_map(|task| switches(&task.path())).sum()
}

/// Not a test of its own: the child that the others start.
#[test]
fn as_a_witness() {
    let Some(target) = std::env::var("HORUS_TEST_TARGET").ok() else { return };
    confine().unwrap();
    let mut document = horus_capture::capture(target.parse().unwrap());
    std::fs::write(std::env::var("HORUS_TEST_SAID").unwrap(), document.to_json().unwrap()).unwrap();
    // As `horus capture` ends: a reader that hangs is left behind.
    std::process::exit(0);
}
