//! Programs to look at. Each says `ready`, lives on in health, and falls ill when it reads a line. A subject ends when the test
//! drops it, also if the test fails.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use horus_core::ids::ProcessId;

const MODE: &str = "HORUS_TEST_MODE";
const PEER: &str = "HORUS_TEST_PEER";

pub(crate) struct Subject {
    pub(crate) child: Child,
    output: BufReader<ChildStdout>,
}

impl Drop for Subject {
    fn drop(&mut self) {
        // One that is stopped or frozen dies of this signal, too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "a test makes its own subjects")]
fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

impl Subject {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut subject = Self { child, output };
        subject.wait_for("ready");
        subject
    }

    /// The C program, which has a loop on epoll. `None` if there is no compiler.
    pub(crate) fn c(mode: &str) -> Option<Self> {
        Some(Self::start(command(compiled()?).arg(mode)))
    }

    /// The Python program, which has a loop of asyncio.
    pub(crate) fn python(mode: &str) -> Option<Self> {
        Self::python_with(mode, "")
    }

    pub(crate) fn python_with(mode: &str, peer: &str) -> Option<Self> {
        let script = file("subject.py");
        needs("python3", &["-c", "import asyncio"])
            .then(|| Self::start(command("python3").arg("-u").arg(script).arg(mode).env(PEER, peer)))
    }

    pub(crate) fn node(mode: &str) -> Option<Self> {
        let script = file("subject.js");
        needs("node", &["-e", "0"]).then(|| Self::start(command("node").arg(script).arg(mode)))
    }

    /// The Go program. `None` if there is no compiler.
    pub(crate) fn go_program() -> Option<Self> {
        Some(Self::start(&mut command(compiled_go()?)))
    }

    /// This test program, with a runtime of tokio inside.
    pub(crate) fn tokio(mode: &str) -> Self {
        let mut command = command(std::env::current_exe().unwrap());
        command.args(["--exact", "subject::as_tokio", "--nocapture", "--test-threads=1"]);
        Self::start(command.env(MODE, mode))
    }

    pub(crate) fn id(&self) -> ProcessId {
        let pid = i32::try_from(self.child.id()).unwrap();
        let id = horus_sys::process::identify(pid).unwrap().unwrap();
        ProcessId { pid: id.pid, start_time: id.start_time }
    }

    /// Lets the subject fall ill.
    pub(crate) fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = command("/bin/kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.unwrap().success());
    }

    /// Waits until the subject says this, and returns its line.
    pub(crate) fn wait_for(&mut self, word: &str) -> String {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            let length = self.output.read_line(&mut line).unwrap();
            assert_ne!(length, 0, "the subject ended before it said {word}");
        }
        line
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sampler/subjects").join(name)
}

/// Whether a tool is there; if not, the test that asks is skipped, by name.
fn needs(tool: &str, arguments: &[&str]) -> bool {
    let tried = command(tool).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let there = tried.is_ok_and(|status| status.success());
    if !there {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        eprintln!("SKIPPED: {test}: there is no {tool} here");
    }
    there
}

/// The C subject, compiled once.
fn compiled() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let made = PROGRAM.get_or_init(|| {
        if !needs("cc", &["--version"]) {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("subject");
        let status =
            command("cc").arg("-O1").arg("-pthread").arg("-o").arg(&program).arg(file("subject.c")).status();
        assert!(status.unwrap().success());
        Some((directory, program))
    });
    made.as_ref().map(|(_, program)| program.as_path())
}

/// The Go subject, compiled once.
fn compiled_go() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let made = PROGRAM.get_or_init(|| {
        if !needs("go", &["version"]) {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("subject-go");
        let mut go = command("go");
        go.args(["build", "-o"]).arg(&program).arg(file("subject.go"));
        go.env("GO111MODULE", "off").env("GOFLAGS", "").env("GOCACHE", directory.path().join("cache"));
        assert!(go.status().unwrap().success());
        Some((directory, program))
    });
    made.as_ref().map(|(_, program)| program.as_path())
}

/// Not a test: the body of [`Subject::tokio`].
#[test]
fn as_tokio() {
    let Ok(mode) = std::env::var(MODE) else { return };
    let runtime = match mode.as_str() {
        "current-recv" => tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        _ => tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap(),
    };
    runtime.block_on(async {
        let spawned = tokio::spawn(async move {
            let mut beat = tokio::time::interval(std::time::Duration::from_millis(20));
            println!("ready");
            let go = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            let told = std::sync::Arc::clone(&go);
            std::thread::spawn(move || {
                let _ = std::io::stdin().read_line(&mut String::new());
                told.store(true, std::sync::atomic::Ordering::SeqCst);
            });
            while !go.load(std::sync::atomic::Ordering::SeqCst) || mode == "healthy" {
                beat.tick().await;
            }
            match mode.as_str() {
                "spin" => loop {
                    std::hint::spin_loop();
                },
                _ => {
                    let (end, _other) = std::os::unix::net::UnixStream::pair().unwrap();
                    std::io::Read::read(&mut &end, &mut [0; 1]).unwrap();
                }
            }
        });
        spawned.await.unwrap();
    });
}
