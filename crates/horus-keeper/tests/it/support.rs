//! A client for tests, a place to run in, and the certainty that nothing stays behind.

use horus_keeper::protocol::{
    Event, Generation, Hello, LogSpec, Request, Scope, SlotName, SlotState, StartSpec, Text,
};
use horus_keeper::slots::{ExitRecord, RUN_VARIABLE, RunDirectory};
use horus_sys::cgroup_limits::GroupLimits;
use horus_sys::process::{self, ProcessId, Table};
use horus_sys::signal::{self, Signal};
use horus_sys::{clock, poll};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A failsafe for a loaded machine, never a measure.
pub(crate) const FAILSAFE: Duration = Duration::from_secs(60);

pub(crate) fn exe() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_keeper-under-test"))
}

pub(crate) fn name(text: &str) -> SlotName {
    SlotName::try_from(text).unwrap()
}

/// Waits until `look` finds something. For things that send no event, such as the end of somebody else's process.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = clock::monotonic() + FAILSAFE;
    let poller = poll::Poller::new().unwrap();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(clock::monotonic() < deadline, "never came: {what}");
        poller.wait(&mut Vec::new(), Some(Duration::from_millis(2))).unwrap();
    }
}

/// A scratch directory with a run directory in it.
pub(crate) struct Place {
    scratch: tempfile::TempDir,
    pub(crate) run: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let run = std::fs::canonicalize(scratch.path()).unwrap().join("run");
        Self { scratch, run }
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.scratch.path().join(file)
    }

    pub(crate) fn log(&self, slot: &str) -> PathBuf {
        self.path(&format!("{slot}.log"))
    }

    pub(crate) fn log_text(&self, slot: &str) -> String {
        std::fs::read_to_string(self.log(slot)).unwrap_or_default()
    }

    pub(crate) fn directory(&self) -> RunDirectory {
        RunDirectory::prepare(&self.run).unwrap()
    }

    pub(crate) fn attach(&self) -> Client {
        Client::new(horus_keeper::attach(&self.run, exe(), None).unwrap())
    }

    /// Runs another verb of the test binary; its keeper dies at the named point, if one is given.
    pub(crate) fn role(&self, words: &[&str], die_at: Option<&str>) -> std::process::Child {
        self.role_with(words, die_at.map(|point| ("HORUS_KEEPER_TEST_DIE_AT", point)))
    }

    /// The same with any variable.
    pub(crate) fn role_with(&self, words: &[&str], variable: Option<(&str, &str)>) -> std::process::Child {
        std::process::Command::new(exe()).args(words).envs(variable).spawn().unwrap()
    }

    /// A client of a keeper that will die at the named point.
    pub(crate) fn attach_dying_at(&self, point: &str) -> Client {
        self.attach_with(("HORUS_KEEPER_TEST_DIE_AT", point))
    }

    /// A client of a keeper that was started with this variable.
    pub(crate) fn attach_with(&self, variable: (&str, &str)) -> Client {
        let words = ["attach", self.run.to_str().unwrap()];
        assert!(self.role_with(&words, Some(variable)).wait().unwrap().success());
        let client = self.attach();
        assert!(!client.spawned);
        client
    }

    /// Every process that this place is responsible for, except its newest keeper.
    pub(crate) fn marked_but_for_the_keeper(&self) -> Vec<ProcessId> {
        let holder = horus_sys::lock::read_holder(&self.directory().lock()).map_or(0, |holder| holder.pid);
        self.everybody().into_iter().filter(|process| process.pid != holder).collect()
    }

    pub(crate) fn spec(&self, slot: &str, generation: u64, argv: &[&str]) -> StartSpec {
        StartSpec {
            slot: name(slot),
            generation: Generation(generation),
            argv: argv.iter().map(|word| Text::from(*word)).collect(),
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            directory: "/".into(),
            user: None,
            limits: horus_keeper::protocol::Limits::default(),
            tree: GroupLimits::default(),
            log: LogSpec { path: self.log(slot), max_bytes: 10 << 20, keep: 3 },
            exclusive: Vec::new(),
        }
    }

    pub(crate) fn shell(&self, slot: &str, generation: u64, script: &str) -> StartSpec {
        self.spec(slot, generation, &["sh", "-c", script])
    }

    pub(crate) fn exit_record(&self, slot: &str, generation: u64) -> Option<ExitRecord> {
        self.directory().slot(&name(slot)).exit(Generation(generation)).unwrap()
    }

    /// Everything that carries this place's mark, and the keeper that holds its lock.
    fn everybody(&self) -> Vec<ProcessId> {
        let mark = format!("{RUN_VARIABLE}={}", self.run.display());
        let own = process::own_pid();
        let rows = Table::read().unwrap();
        let marked = |pid: i32| {
            process::environment(pid)
                .is_ok_and(|found| found.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes()))
                || std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|found| {
                    found
                        .windows(self.run.as_os_str().len())
                        .any(|part| part == self.run.as_os_str().as_encoded_bytes())
                })
        };
        rows.rows()
            .iter()
            .filter(|row| row.id.pid != own && !row.is_gone() && marked(row.id.pid))
            .map(|row| row.id)
            .collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for _ in 0..200 {
            let everybody = self.everybody();
            if everybody.is_empty() {
                return;
            }
            for process in everybody {
                let _ = signal::send(&process, Signal::KILL);
            }
        }
    }
}

/// A connection that reads events with a failsafe.
pub(crate) struct Client {
    pub(crate) hello: Hello,
    pub(crate) spawned: bool,
    stream: UnixStream,
    reader: BufReader<UnixStream>,
    held: Vec<Event>,
}

impl Client {
    pub(crate) fn new(attached: horus_keeper::Attached) -> Self {
        let stream = attached.stream;
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(FAILSAFE)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { hello: attached.hello, spawned: attached.spawned, stream, reader, held: Vec::new() }
    }

    pub(crate) fn send(&mut self, request: &Request) {
        let mut line = serde_json::to_vec(request).unwrap();
        line.push(b'\n');
        self.send_raw(&line);
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn start(&mut self, spec: StartSpec) {
        self.send(&Request::Start(Box::new(spec)));
    }

    /// Starts and waits until it runs.
    pub(crate) fn run(&mut self, spec: StartSpec) -> ProcessId {
        let wanted = (spec.slot.clone(), spec.generation);
        self.start(spec);
        match self.wait("Started", |event| matches!(event, Event::Started { slot, generation, .. } | Event::StartFailed { slot, generation, .. } if (slot.clone(), *generation) == wanted)) {
            Event::Started { process, .. } => process,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn exited(&mut self, wanted: &str) -> Event {
        self.wait("Exited", |event| matches!(event, Event::Exited { slot, .. } if slot.as_str() == wanted))
    }

    pub(crate) fn kill_tree(&mut self, slot: &str, generation: u64) -> u32 {
        self.send(&Request::KillTree { slot: name(slot), generation: Generation(generation) });
        match self
            .wait("Gone", |event| matches!(event, Event::Gone { slot: found, .. } if found.as_str() == slot))
        {
            Event::Gone { killed, .. } => killed,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn signal(&mut self, slot: &str, generation: u64, signal: Signal, scope: Scope) {
        self.send(&Request::Signal { slot: name(slot), generation: Generation(generation), signal, scope });
    }

    /// The next event, or `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no event came: {error}"),
        }
    }

    /// The first event that fits; others are kept for later waits.
    pub(crate) fn wait(&mut self, what: &str, fits: impl Fn(&Event) -> bool) -> Event {
        if let Some(at) = self.held.iter().position(&fits) {
            return self.held.remove(at);
        }
        loop {
            match self.next() {
                Some(event) if fits(&event) => return event,
                Some(event) => self.held.push(event),
                None => panic!("{what} never came; seen: {:?}", self.held),
            }
        }
    }

    /// All events up to the answer to a ping: what has happened so far.
    pub(crate) fn so_far(&mut self) -> Vec<Event> {
        self.send(&Request::Ping { token: 77 });
        self.wait("Pong", |event| *event == Event::Pong { token: 77 });
        std::mem::take(&mut self.held)
    }

    /// Reads until the keeper ends the connection, as it does when it becomes another program.
    pub(crate) fn wait_for_the_end(&mut self) {
        while let Some(event) = self.next() {
            assert!(!matches!(event, Event::UpgradeRefused { .. }), "{event:?}");
        }
    }

    /// Reads until the keeper has answered what was asked, or ended the connection.
    pub(crate) fn so_far_or_the_end(&mut self) {
        let mut ping = serde_json::to_vec(&Request::Ping { token: 78 }).unwrap();
        ping.push(b'\n');
        // It may have ended it already.
        let _ = self.stream.write_all(&ping);
        while self.next().is_some_and(|event| event != (Event::Pong { token: 78 })) {}
    }

    pub(crate) fn into_stream(self) -> UnixStream {
        self.stream
    }

    pub(crate) fn kill_keeper(&self) {
        kill(&self.hello.process);
    }

    pub(crate) fn state(&self, slot: &str) -> SlotState {
        self.hello.slots.iter().find(|view| view.slot.as_str() == slot).unwrap().state
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// SIGKILL, and wait until it is dead.
pub(crate) fn kill(process: &ProcessId) {
    let _ = signal::send(process, Signal::KILL);
    until("its death", || (!process::is_alive(process)).then_some(()));
}
