//! One scenario's Horus: started, asked, killed, started again, and looked after when the test fails.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use horus_api::Client;
use horus_core::event::What;
use horus_core::ids::ServiceName;
use horus_core::record::Recorded;
use horus_core::status::ServiceStatus;
use horus_sys::files::{Durability, write_atomic};
use horus_sys::process::{ProcessId, identify, is_alive};
use horus_sys::signal::{Signal, send};
use tokio::process::{Child, Command};

use crate::room::MARK;
use crate::{Binaries, FAILSAFE, Journal, Room, Said, Sinks, pressure};

/// Lines of the daemon's own log that a failed test prints.
const LOG_LINES: usize = 60;

/// How a scenario differs from the usual.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// More lines for `[daemon]`.
    pub daemon: String,
    /// More variables for the daemon.
    pub environment: Vec<(String, String)>,
    /// Instead of the Discord and the Slack of the rig.
    pub sinks: Option<String>,
}

/// What a command line program did.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its exit code.
    pub code: i32,
    /// Data.
    pub out: String,
    /// The rest.
    pub err: String,
}

/// See the module.
#[derive(Debug)]
pub struct Rig {
    /// Where it plays.
    pub room: Room,
    /// Who is told.
    pub sinks: Sinks,
    /// What happens.
    pub journal: Journal,
    /// Speaks to the daemon.
    pub client: Client,
    binaries: Binaries,
    options: Options,
    pressure: Vec<(String, String)>,
    program: PathBuf,
    launcher: Vec<String>,
    horus: Option<Child>,
}

/// A service's name.
pub fn name(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

impl Rig {
    /// A rig with nothing in it yet. `subject`: path of any subject, from `env!("CARGO_BIN_EXE_hanger")`.
    pub async fn new(subject: &str, options: Options) -> Self {
        let binaries = Binaries::beside(subject);
        let room = Room::new();
        let pressure = pressure::variables(&room.path("pressure"));
        let socket = room.path("r").join(horus_api::SOCKET_NAME);
        let journal = Journal::follow(socket.clone());
        let client = Client::new(socket);
        let (program, sinks) = (binaries.path("horus"), Sinks::start().await);
        Self {
            room,
            sinks,
            journal,
            client,
            binaries,
            options,
            pressure,
            program,
            launcher: Vec::new(),
            horus: None,
        }
    }

    /// Writes `watchdog.toml`: the usual head, then `services`.
    pub fn write(&self, services: &str) {
        let sinks = self.options.sinks.as_deref().unwrap_or(
            "[sink.discord]\ndiscord = { url_env = \"DISCORD_URL\" }\nseverity = \"info\"\n\
             [sink.slack]\nslack = { url_env = \"SLACK_URL\" }\nseverity = \"info\"\n",
        );
        let text = format!(
            "version = 1\n[daemon]\nstate_directory = \"s\"\nrun_directory = \"r\"\nhost = \"mini\"\n{}\n\
             [defaults]\nenv = {{ {MARK} = \"{}\" }}\n{sinks}\n{services}",
            self.options.daemon,
            self.room.mark(),
        );
        write_atomic(&self.config(), text.as_bytes(), Durability::ThisBoot).unwrap();
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.room.path("watchdog.toml")
    }

    /// Path of a program.
    pub fn program(&self, name: &str) -> String {
        self.binaries.path(name).display().to_string()
    }

    /// Starts Horus and waits until it answers.
    pub async fn start(&mut self) {
        self.launch();
        let after = self.journal.last();
        let started = |event: &Recorded| matches!(&event.event.what, What::Horus { text } if text.starts_with("started"));
        if self.journal.wait(after, FAILSAFE, started).await.is_none() {
            panic!("Horus does not run");
        }
    }

    /// Starts Horus with a configuration; see [`Rig::write`].
    pub async fn run(&mut self, services: &str) {
        self.write(services);
        self.start().await;
    }

    /// Starts the program without waiting for anything.
    pub fn launch(&mut self) {
        let log =
            std::fs::File::options().create(true).append(true).open(self.room.path("horus.log")).unwrap();
        let program = self.program.display().to_string();
        let words: Vec<&str> =
            self.launcher.iter().map(String::as_str).chain([program.as_str(), "run"]).collect();
        let mut command = self.command_of(words[0], &words[1..]);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).kill_on_drop(true);
        self.horus = Some(command.spawn().unwrap());
    }

    fn command(&self, words: &[&str]) -> Command {
        self.command_of(&self.program.display().to_string(), words)
    }

    fn command_of(&self, program: &str, words: &[&str]) -> Command {
        #[expect(clippy::disallowed_methods, reason = "the one place where scenarios start a program")]
        let mut command = Command::new(program);
        command.args(words).current_dir(self.room.path("")).env_remove("HORUS_SOCKET");
        command
            .env("HORUS_CONFIG", self.config())
            .env("HORUS_LOG", "info")
            .env("NO_COLOR", "1")
            .env("TZ", "UTC");
        command.env(MARK, self.room.mark());
        command.env("DISCORD_URL", self.sinks.discord.discord_url());
        command.env("SLACK_URL", self.sinks.slack.slack_url());
        command.env("WEBHOOK_URL", self.sinks.slack.webhook_url());
        command.envs(self.pressure.iter().map(|(name, value)| (name, value)));
        for (name, value) in &self.options.environment {
            // Of libraries there may be several.
            let ours = self.pressure.iter().find(|(ours, _)| ours == name && name == "LD_PRELOAD");
            command.env(name, ours.map_or(value.clone(), |(_, ours)| format!("{ours}:{value}")));
        }
        command
    }

    /// Runs `horus WORDS` as a person would.
    pub async fn cli(&self, words: &[&str]) -> Output {
        let running = self.command(words).stdin(Stdio::null()).output();
        let output = tokio::time::timeout(FAILSAFE, running).await.expect("the command ends").unwrap();
        Output {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    // === waiting ===

    /// The first event of `service` after number `after` that `is_it`.
    pub async fn after(
        &self,
        after: u64,
        service: &str,
        label: &str,
        is_it: impl Fn(&What) -> bool,
    ) -> Recorded {
        let ours = |event: &Recorded| event.event.subject == service && is_it(&event.event.what);
        match self.journal.wait(after, FAILSAFE, ours).await {
            Some(event) => event,
            None => panic!("{service}: no {label} after event {after}"),
        }
    }

    /// The first event of `service` that `is_it`.
    pub async fn first(&self, service: &str, label: &str, is_it: impl Fn(&What) -> bool) -> Recorded {
        self.after(0, service, label, is_it).await
    }

    /// Waits until the service is ready and gives its process.
    pub async fn ready(&self, service: &str) -> ProcessId {
        self.ready_after(0, service).await
    }

    /// The same, for the first time after that event.
    pub async fn ready_after(&self, after: u64, service: &str) -> ProcessId {
        self.after(after, service, "ready", |what| matches!(what, What::BecameReady { .. })).await;
        self.process(service).await
    }

    /// Waits for a file that a subject leaves, and reads it.
    pub async fn file(&self, path: &Path) -> String {
        let reading = async {
            loop {
                if let Ok(text) = std::fs::read_to_string(path) {
                    return text;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(FAILSAFE, reading)
            .await
            .unwrap_or_else(|_| panic!("{} does not come", path.display()))
    }

    /// Waits until both sinks have a message whose first line holds `text`; gives the one at Discord.
    pub async fn told(&self, text: &str) -> Said {
        match self.sinks.say(text).await {
            Some(said) => said,
            None => panic!("no alert says {text:?}; said were {:#?}", self.sinks.first_lines()),
        }
    }

    /// Waits until a condition on the status of a service holds.
    pub async fn status_until(
        &self,
        service: &str,
        label: &str,
        holds: impl Fn(&ServiceStatus) -> bool,
    ) -> ServiceStatus {
        let mut last = None;
        let end = tokio::time::Instant::now() + FAILSAFE;
        while tokio::time::Instant::now() < end {
            if let Ok(status) = self.client.service(&name(service)).await {
                if holds(&status) {
                    return status;
                }
                last = Some(status);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{service}: never {label}; last: {last:#?}");
    }

    // === looking ===

    /// Asks `horus explain` until it says this.
    pub async fn explained(&self, service: &str, text: &str) -> String {
        let mut explained = String::new();
        let end = tokio::time::Instant::now() + FAILSAFE;
        while tokio::time::Instant::now() < end {
            explained = self.cli(&["explain", service]).await.out;
            if explained.contains(text) {
                return explained;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("horus explain {service} never says {text:?}; the last time: {explained}");
    }

    /// Where the service stands.
    pub async fn status(&self, service: &str) -> ServiceStatus {
        match self.client.service(&name(service)).await {
            Ok(status) => status,
            Err(error) => panic!("no status of {service}: {error}"),
        }
    }

    /// The living process of a service.
    pub async fn process(&self, service: &str) -> ProcessId {
        let pid = self.status(service).await.pid.unwrap_or_else(|| panic!("{service} has no process"));
        identify(pid).unwrap().unwrap_or_else(|| panic!("{service}: {pid} is gone"))
    }

    /// How many events of `service` are such.
    pub fn count(&self, service: &str, is_it: impl Fn(&What) -> bool) -> usize {
        let events = self.journal.all();
        events.iter().filter(|event| event.event.subject == service && is_it(&event.event.what)).count()
    }

    /// Nothing was ever signalled by Horus to this service.
    pub fn assert_never_signalled(&self, service: &str) {
        let signalled = |what: &What| matches!(what, What::Signalled { .. } | What::KillDecided { .. });
        assert_eq!(self.count(service, signalled), 0, "{service} was signalled");
    }

    /// The output of a service so far, over all rotated files, the oldest first.
    pub fn output(&self, service: &str) -> String {
        let folder = self.room.path("s/logs");
        let rotated = (1..=64).rev().map(|number| folder.join(format!("{service}.log.{number}")));
        let files = rotated.chain([folder.join(format!("{service}.log"))]);
        files
            .filter_map(|file| std::fs::read(file).ok())
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .collect()
    }

    /// What Horus wrote about itself.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.room.path("horus.log")).unwrap_or_default()
    }

    /// A Python interpreter, not a script that looks for one. `None`: there is none.
    pub async fn python(&self) -> Option<String> {
        #[expect(clippy::disallowed_methods, reason = "asks an interpreter where it is")]
        let asked =
            Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().await.ok()?;
        let path = String::from_utf8(asked.stdout).ok()?.trim().to_owned();
        (asked.status.success() && !path.is_empty()).then_some(path)
    }

    /// Runs a Python program over the database while no Horus writes to it.
    pub async fn with_database(&self, program: &str) -> String {
        let python = self.python().await.expect("there is Python");
        let program =
            format!("import sqlite3\nrows = sqlite3.connect(\"s/horus.db\")\n{program}\nrows.commit()");
        #[expect(clippy::disallowed_methods, reason = "an interpreter that ends at once")]
        let running =
            Command::new(python).args(["-c", &program]).current_dir(self.room.path("")).output().await;
        let output = running.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Locks the database against writes until the child is dropped. `None`: there is no Python.
    pub async fn hold_database(&self) -> Option<Child> {
        let python = self.python().await?;
        let program = "import sqlite3, sys\nrows = sqlite3.connect('s/horus.db', isolation_level=None, timeout=10)\n\
                       rows.execute('BEGIN IMMEDIATE')\nopen('locked', 'w').close()\nsys.stdin.read()";
        #[expect(clippy::disallowed_methods, reason = "an interpreter that holds a lock")]
        let mut command = Command::new(python);
        command
            .args(["-c", program])
            .current_dir(self.room.path(""))
            .stdin(Stdio::piped())
            .kill_on_drop(true);
        let holder = command.spawn().unwrap();
        self.file(&self.room.path("locked")).await;
        Some(holder)
    }

    /// The keeper's process.
    pub fn keeper(&self) -> ProcessId {
        self.find_keeper().expect("there is a keeper")
    }

    /// The keeper's process, if there is one.
    pub fn find_keeper(&self) -> Option<ProcessId> {
        let keeps = |process: &ProcessId| {
            let command = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
            command.split(|byte| *byte == 0).nth(1) == Some(b"keep")
        };
        self.room.processes().into_iter().find(keeps)
    }

    // === acting ===

    /// From now on Horus is told that programs wait so much of the time for a processor, in per cent. At first: never.
    pub fn press(&self, percent: u32) {
        pressure::set(&self.room.path("pressure"), percent);
    }

    /// Is the pressure in the hand of the scenario? It takes a C compiler.
    pub fn can_press(&self) -> bool {
        !self.pressure.is_empty()
    }

    /// Sends a signal to a process.
    pub fn signal(&self, process: &ProcessId, signal: Signal) {
        send(process, signal).unwrap();
    }

    /// The daemon's process.
    pub fn horus(&self) -> ProcessId {
        let pid = self.horus.as_ref().and_then(Child::id).expect("Horus runs");
        identify(i32::try_from(pid).unwrap()).unwrap().expect("Horus runs")
    }

    /// SIGKILL to the daemon; returns when it is gone.
    pub async fn kill_horus(&mut self) {
        let mut horus = self.horus.take().expect("Horus runs");
        horus.kill().await.unwrap();
    }

    /// More variables for the next Horus.
    pub fn environment(&mut self) -> &mut Vec<(String, String)> {
        &mut self.options.environment
    }

    /// From now on Horus is started by this program, which becomes Horus: its arguments end with the command line.
    pub fn launch_by(&mut self, words: Vec<String>) {
        self.launcher = words;
    }

    /// From now on the program at this path is Horus.
    pub fn use_program(&mut self, path: PathBuf) {
        self.program = path;
    }

    /// Waits until the daemon has ended by itself, and says how.
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let mut horus = self.horus.take().expect("Horus runs");
        let ending = tokio::time::timeout(FAILSAFE, horus.wait()).await;
        ending.expect("Horus does not end").unwrap()
    }

    /// Waits until this process is gone.
    pub async fn gone(&self, process: &ProcessId) {
        let going = async {
            while is_alive(process) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(tokio::time::timeout(FAILSAFE, going).await.is_ok(), "{process} does not end");
    }

    /// The end of every scenario: SIGTERM to Horus, which stops everything; nothing with the room's mark is left, and no
    /// sink saw a message that breaks its rules.
    pub async fn end(mut self) {
        self.stop().await;
    }

    /// The same, and what it has left can still be looked at.
    pub async fn stop(&mut self) {
        let mut horus = self.horus.take().expect("Horus runs");
        let pid = i32::try_from(horus.id().expect("Horus runs")).unwrap();
        let process = identify(pid).unwrap().expect("Horus runs");
        send(&process, Signal::TERM).unwrap();
        match tokio::time::timeout(FAILSAFE, horus.wait()).await {
            Ok(status) => assert!(status.unwrap().success(), "Horus ended badly"),
            Err(_) => panic!("Horus does not end"),
        }
        if let Err(left) = self.room.is_empty(Duration::from_secs(20)).await {
            panic!("these processes survived the end of Horus: {left:#?}");
        }
        self.sinks.assert_no_rule_was_broken();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
            eprintln!("=== journal ===\n{}=== horus.log (its end) ===\n{tail}", self.journal.dump());
            eprintln!("=== alerts ===\n{:#?}", self.sinks.first_lines());
        }
        self.room.clear();
    }
}
