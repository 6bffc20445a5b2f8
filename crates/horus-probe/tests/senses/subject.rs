//! Processes to look at. A subject ends when the test drops it, also if the test fails.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use horus_core::ids::ProcessId;

const TARGET: &str = "HORUS_TEST_TARGET";
const TEXT: &str = "HORUS_TEST_TEXT";
const COUNT: &str = "HORUS_TEST_COUNT";

pub(crate) struct Subject {
    pub(crate) child: Child,
    output: BufReader<ChildStdout>,
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Subject {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    #[expect(clippy::disallowed_methods, reason = "a test makes its own subjects")]
    pub(crate) fn sleep() -> Self {
        Self::start(Command::new("/bin/sleep").arg("600"))
    }

    /// Sends `text` to the datagram socket `count` times, and then lives on. `$` in it becomes the number of the datagram.
    #[expect(clippy::disallowed_methods, reason = "a test makes its own subjects")]
    pub(crate) fn sender(socket: &Path, text: &str, count: u32) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "subject::as_a_sender", "--nocapture", "--test-threads=1"]);
        Self::start(command.env(TARGET, socket).env(TEXT, text).env(COUNT, count.to_string()))
    }

    pub(crate) fn id(&self) -> ProcessId {
        let pid = i32::try_from(self.child.id()).unwrap();
        let id = horus_sys::process::identify(pid).unwrap().unwrap();
        ProcessId { pid: id.pid, start_time: id.start_time }
    }

    /// Waits until the subject says this.
    pub(crate) fn wait_for(&mut self, word: &str) {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert_ne!(
                self.output.read_line(&mut line).unwrap(),
                0,
                "the subject ended before it said {word}"
            );
        }
    }
}

/// Not a test: the body of [`Subject::sender`].
#[test]
fn as_a_sender() {
    let Ok(target) = std::env::var(TARGET) else { return };
    let count: u32 = std::env::var(COUNT).unwrap().parse().unwrap();
    let text = std::env::var(TEXT).unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    for n in 0..count {
        socket.send_to(text.replace('$', &n.to_string()).as_bytes(), &target).unwrap();
    }
    println!("sent");
    wait_for_the_end();
}

/// The test's end of the pipe closes when the test is over, however it ends.
fn wait_for_the_end() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
