//! Real `pipeline` processes for tests: started in a folder of their own, watched through their events, gone at the end.

#![expect(dead_code, reason = "each test program uses a part of this")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// No test waits longer for one event. A failsafe, not a measure.
pub(crate) const FAILSAFE: Duration = Duration::from_secs(60);

/// One slot that outlasts every test.
pub(crate) const LONG_SLOT: &str = "744h";

/// A folder with `out` and `state`.
pub(crate) struct Place {
    root: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// `pipeline VERB --out .. --state .. --every ..`
    #[expect(clippy::disallowed_methods, reason = "a test starts the program under test")]
    pub(crate) fn command(&self, verb: &str, every: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipeline"));
        command.current_dir(self.root.path()).arg(verb);
        if verb != "items" {
            command.args(["--out", "out", "--every", every]);
        }
        command.args(["--state", "state"]).env_remove("NOTIFY_SOCKET").env_remove("RUST_LOG");
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn once(&self) -> Output {
        self.command("once", LONG_SLOT).output().unwrap()
    }

    pub(crate) fn run(&self, every: &str, arguments: &[&str]) -> Running {
        let mut command = self.command("run", every);
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        Running::start(command)
    }

    pub(crate) fn files(&self, folder: &str) -> Vec<String> {
        names_in(&self.path("out").join(folder))
    }
}

pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A process that runs, and is killed when the test ends.
pub(crate) struct Running {
    child: Child,
    events: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (send, events) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, events, seen: Vec::new() }
    }

    /// Waits for an event that contains `text`, and returns its line.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            match self.events.recv_timeout(FAILSAFE) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("no event with {text:?}; there were:\n{}", self.seen.join("\n")),
            }
        }
    }

    /// The next event, or `None` at the end of the process.
    pub(crate) fn next_event(&mut self) -> Option<String> {
        match self.events.recv_timeout(FAILSAFE) {
            Ok(line) => Some(line),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
            Err(error) => panic!("{error}: neither an event nor an end"),
        }
    }

    /// Waits for the endpoint and returns its address.
    pub(crate) fn address(&mut self) -> SocketAddr {
        let line = self.wait_for("listening");
        let address = line.split("address=").nth(1).unwrap().split(' ').next().unwrap();
        address.parse().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        #[expect(clippy::disallowed_methods, reason = "the shell's kill needs no unsafe code here")]
        let status = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end by itself: the event stream ends with the process.
    pub(crate) fn exit(mut self) -> (ExitStatus, Vec<String>) {
        loop {
            match self.events.recv_timeout(FAILSAFE) {
                Ok(line) => self.seen.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("{error}: it does not end; there were:\n{}", self.seen.join("\n")),
            }
        }
        (self.child.wait().unwrap(), std::mem::take(&mut self.seen))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `GET path`: the status line and the body, or what went wrong within `limit`.
pub(crate) fn get_within(
    address: SocketAddr,
    path: &str,
    limit: Duration,
) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Ok((head.lines().next().unwrap().to_owned(), body.to_owned()))
}

pub(crate) fn get_json(address: SocketAddr, path: &str) -> serde_json::Value {
    let (status, body) = get_within(address, path, FAILSAFE).unwrap();
    assert_eq!(status, "HTTP/1.1 200 OK");
    serde_json::from_str(&body).unwrap()
}

/// Asks for the beat until `wanted` holds for it. Each question is answered by the loop, so this does not spin on a dead one.
pub(crate) fn beat_until(
    address: SocketAddr,
    wanted: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    #[expect(clippy::disallowed_methods, reason = "the failsafe of a test")]
    let start = std::time::Instant::now();
    loop {
        let beat = get_json(address, "/heartbeat");
        if wanted(&beat) {
            return beat;
        }
        assert!(start.elapsed() < FAILSAFE, "the beat never became what was wanted: {beat}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
