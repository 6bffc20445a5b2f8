//! The plan: what a checked `watchdog.toml` asks for, with every default filled in.
//!
//! `horus-config` makes it, the engine and the executors read it, nobody changes it. Two plans compare equal when
//! nothing has to be done; [`ServicePlan::launch`] holds exactly what cannot change under a running process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::calendar::Calendar;
use crate::exclusive::Exclusive;
use crate::foreign::Owner;
use crate::ids::{GroupName, MonitorName, ServiceName, SinkName};
use crate::metric::CounterPlan;
use crate::tree::TreeLimits;

/// Everything that Horus was asked to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Settings of Horus itself.
    pub daemon: DaemonPlan,
    /// Programs that Horus starts and owns.
    pub services: BTreeMap<ServiceName, ServicePlan>,
    /// Things that Horus only watches.
    pub monitors: BTreeMap<MonitorName, MonitorPlan>,
    /// Where alerts go.
    pub sinks: BTreeMap<SinkName, SinkPlan>,
    /// Times in which a person works on services, by name.
    #[serde(default)]
    pub maintenance: BTreeMap<String, MaintenancePlan>,
}

/// Does Horus act, or only say what it would do?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Judge and act.
    #[default]
    Enforce,
    /// Judge, record, signal nothing.
    Observe,
}

/// Settings of Horus itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DaemonPlan {
    /// Enforce, or observe everything.
    pub mode: Mode,
    /// Where the database, evidence and logs live.
    pub state_directory: PathBuf,
    /// Where sockets and slot files live; must not survive a reboot with stale content, but may.
    pub run_directory: PathBuf,
    /// Name of this machine in alerts.
    pub host: String,
    /// How long journal rows and evidence are kept.
    pub retention: Duration,
    /// Where each service gets a control group of its own.
    pub cgroup: CgroupPlan,
    /// Where Horus says that it works, to somebody who notices when it stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ping: Option<PingPlan>,
    /// What an upgrade executes, if not the path by which Horus was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<PathBuf>,
}

/// A sign of life to somebody outside of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingPlan {
    /// Where its URL comes from.
    pub secret: SecretSource,
    /// How often.
    pub every: Duration,
}

impl Default for DaemonPlan {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            state_directory: PathBuf::from("state"),
            run_directory: PathBuf::from("run"),
            host: "localhost".into(),
            retention: Duration::from_secs(30 * 24 * 3600),
            cgroup: CgroupPlan::None,
            ping: None,
            executable: None,
        }
    }
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// Who starts it.
    #[serde(default, skip_serializing_if = "Owner::is_keeper")]
    pub owner: Owner,
    /// What is started, and how. A change here takes effect by a restart.
    pub launch: LaunchPlan,
    /// What its whole tree may use. A change here takes effect at once.
    #[serde(default, skip_serializing_if = "TreeLimits::is_none")]
    pub tree: TreeLimits,
    /// Services that must be ready before this one is started.
    pub after: Vec<ServiceName>,
    /// By which names it can be ordered about together with others. Says nothing about its health.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupName>,
    /// What "ready" means.
    pub ready: Ready,
    /// Ways in which the program shows that its loop turns. Empty: judged by its process alone.
    pub beats: Vec<BeatPlan>,
    /// No fresh tick for so long is a fault.
    pub deadline: Duration,
    /// Cap on waiting for the first fresh tick.
    pub startup: Duration,
    /// How it is stopped.
    pub stop: StopPlan,
    /// What follows when it ends by itself.
    pub restart: RestartPlan,
    /// Limits on restarts that Horus decides on.
    pub kills: KillPlan,
    /// Never signal this one, only record what would have been done.
    pub observe: bool,
    /// Start it when Horus starts.
    pub autostart: bool,
    /// Look at its process from outside, as the kernel shows it.
    pub sampler: bool,
    /// Products whose absence is worth an alert, by name.
    pub values: BTreeMap<String, ValuePlan>,
    /// Chains of counters where each stage feeds the next, by name.
    pub funnels: BTreeMap<String, FunnelPlan>,
    /// Work that has to move while the program does not declare itself idle, by name. Its standstill is a fault.
    #[serde(default)]
    pub progress: BTreeMap<String, ProgressPlan>,
    /// What it ought to have to work on after its start, by name.
    #[serde(default)]
    pub expects: BTreeMap<String, ExpectPlan>,
    /// Counters that are read over HTTP beside its beats, by the name under which they are known from then on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, CounterPlan>,
    /// How long each step of its work may take, by the name that the program gives it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<String, Duration>,
    /// It is a job: started at these times, and it has to finish.
    #[serde(default)]
    pub schedule: Option<SchedulePlan>,
}

impl ServicePlan {
    /// It is given a notify socket: its beats come by it, or its word that it is ready. A program learns of the socket by its
    /// environment, so it can only be given one at its start.
    pub fn is_notified(&self) -> bool {
        self.ready == Ready::Notify || self.beats.contains(&BeatPlan::Notify)
    }

    /// Its start is over when it says `READY=1`, and there is no beat to judge it by afterwards.
    pub fn is_ready_by_word_alone(&self) -> bool {
        self.ready == Ready::Notify && self.beats.is_empty()
    }

    /// A service with Horus's own defaults: judged by its process alone, as no beat is declared.
    pub fn plain(command: Vec<String>) -> Self {
        let seconds = Duration::from_secs;
        Self {
            owner: Owner::Keeper,
            launch: LaunchPlan {
                command,
                directory: PathBuf::from("/"),
                environment: BTreeMap::new(),
                user: None,
                group: None,
                limits: Limits::default(),
                exclusive: Vec::new(),
                log: LogPlan::default(),
                agent: None,
            },
            tree: TreeLimits::default(),
            after: Vec::new(),
            groups: Vec::new(),
            ready: Ready::Process,
            beats: Vec::new(),
            deadline: seconds(30),
            startup: seconds(60),
            stop: StopPlan { signal: "SIGTERM".into(), grace: seconds(10) },
            restart: RestartPlan {
                on: RestartOn::Failure,
                first: Duration::ZERO,
                next: seconds(1),
                max: seconds(300),
                crash_loop: 5,
                within: seconds(600),
            },
            kills: KillPlan { limit: 3, prove: seconds(300), retry: Some(seconds(6 * 3600)), daily: 24 },
            observe: false,
            autostart: true,
            sampler: true,
            values: BTreeMap::new(),
            funnels: BTreeMap::new(),
            progress: BTreeMap::new(),
            expects: BTreeMap::new(),
            counters: BTreeMap::new(),
            steps: BTreeMap::new(),
            schedule: None,
        }
    }
}

/// Where the control groups of the services are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<String>", into = "Option<String>")]
pub enum CgroupPlan {
    /// Beside the unit, if Horus is a service of systemd; else nowhere.
    Auto,
    /// Nowhere: process groups and a walk of the tree do.
    #[default]
    None,
    /// In this directory.
    At(PathBuf),
}

impl From<Option<String>> for CgroupPlan {
    fn from(text: Option<String>) -> Self {
        match text.as_deref() {
            None => Self::None,
            Some("auto") => Self::Auto,
            Some(path) => Self::At(path.into()),
        }
    }
}

impl From<CgroupPlan> for Option<String> {
    fn from(plan: CgroupPlan) -> Self {
        match plan {
            CgroupPlan::None => None,
            CgroupPlan::Auto => Some("auto".to_owned()),
            CgroupPlan::At(path) => Some(path.to_string_lossy().into_owned()),
        }
    }
}

/// What is started. All of it is fixed while an instance lives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaunchPlan {
    /// Program and arguments; the program is looked up in the child's `PATH`.
    pub command: Vec<String>,
    /// Working directory.
    pub directory: PathBuf,
    /// The whole environment apart from what Horus adds (`NOTIFY_SOCKET`, `HORUS_*`). Values may be secret: they are
    /// never printed.
    #[serde(serialize_with = "names_only", deserialize_with = "without_values")]
    pub environment: BTreeMap<String, Secret>,
    /// Run as this user (name or number). `None`: as Horus itself.
    pub user: Option<String>,
    /// Run as this group. `None`: the user's own.
    pub group: Option<String>,
    /// Resource limits of each process.
    pub limits: Limits,
    /// What no other service may use while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclusive: Vec<Exclusive>,
    /// Where the output goes and how much of it is kept.
    pub log: LogPlan,
    /// Who beats for it from inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent>,
}

fn names_only<S: serde::Serializer>(map: &BTreeMap<String, Secret>, out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(map.keys())
}

/// What was written without its values is read without them: a recorded plan is for judging, not for starting.
fn without_values<'de, D: serde::Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Secret>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    Ok(names.into_iter().map(|name| (name, Secret::new(String::new()))).collect())
}

/// Resource limits of each process (`setrlimit`). `None`: inherited. Those of the whole tree are [`TreeLimits`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Address space of each process, bytes.
    pub memory_bytes: Option<u64>,
    /// Open files.
    pub open_files: Option<u64>,
    /// Processes of the user.
    pub processes: Option<u64>,
    /// Size of a core dump, bytes.
    pub core_bytes: Option<u64>,
}

/// Output files: `NAME.log`, `NAME.log.1` ...
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlan {
    /// A file is rotated at the first line end after so many bytes.
    pub max_bytes: u64,
    /// How many rotated files are kept beside the current one.
    pub keep: u32,
}

impl Default for LogPlan {
    fn default() -> Self {
        Self { max_bytes: 16 << 20, keep: 4 }
    }
}

/// What makes a service ready, so that those `after` it may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// Its first fresh tick.
    Tick,
    /// `READY=1` on its notify socket (which also counts as the first tick of what beats there). Promises no beats.
    Notify,
    /// Its process was started.
    Process,
}

/// One source of beats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BeatPlan {
    /// Polled over HTTP.
    Http(HttpBeat),
    /// Pushed over a unix datagram socket (the sd_notify protocol).
    Notify,
    /// The modification time or content of a file.
    File(FileBeat),
    /// A line of its output that matches.
    Log(LogBeat),
    /// A TCP connect. Proves only that the kernel accepts.
    Tcp(TcpBeat),
    /// A command that exits 0.
    Exec(ExecBeat),
}

impl BeatPlan {
    /// How often a sign is to be expected from the source itself; zero for pushed ones.
    pub fn every(&self) -> Duration {
        match self {
            Self::Http(beat) => beat.every,
            Self::File(beat) => beat.every,
            Self::Tcp(beat) => beat.every,
            Self::Exec(beat) => beat.every,
            Self::Notify | Self::Log(_) => Duration::ZERO,
        }
    }

    /// What it listens to: a number that stays the same while only its timing changes, also across restarts of Horus.
    pub fn fingerprint(&self) -> u64 {
        let what = match self {
            Self::Http(beat) => format!("http {} {:?}", beat.url, beat.seq),
            Self::Notify => "notify".to_owned(),
            Self::File(beat) => format!("file {:?} {:?}", beat.path, beat.look_at),
            Self::Log(beat) => format!("log {}", beat.pattern),
            Self::Tcp(beat) => format!("tcp {}", beat.address),
            Self::Exec(beat) => format!("exec {:?} {}", beat.command, beat.seq),
        };
        fingerprint(&what)
    }

    /// The word for this source in config, status and reasons.
    pub fn kind(&self) -> BeatKind {
        match self {
            Self::Http(_) => BeatKind::Http,
            Self::Notify => BeatKind::Notify,
            Self::File(_) => BeatKind::File,
            Self::Log(_) => BeatKind::Log,
            Self::Tcp(_) => BeatKind::Tcp,
            Self::Exec(_) => BeatKind::Exec,
        }
    }
}

/// FNV-1a: what is stored must not change with the compiler.
pub(crate) fn fingerprint(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Which kind of beat source an observation came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BeatKind {
    /// `heartbeat.http`
    Http,
    /// `heartbeat.notify`
    Notify,
    /// `heartbeat.file`
    File,
    /// `heartbeat.log`
    Log,
    /// `heartbeat.tcp`
    Tcp,
    /// `heartbeat.exec`
    Exec,
}

impl BeatKind {
    /// The word used in config and reasons.
    pub fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Notify => "notify",
            Self::File => "file",
            Self::Log => "log",
            Self::Tcp => "tcp",
            Self::Exec => "exec",
        }
    }
}

/// `heartbeat.http`: `GET url` returns 200 and, if any pointer is set, JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpBeat {
    /// `http://host:port/path`; TLS is for monitors, not for a beat on the same machine.
    pub url: String,
    /// Poll period.
    pub every: Duration,
    /// Deadline of one poll, connect included.
    pub timeout: Duration,
    /// JSON pointer to the tick. `None`: a 200 counts as a beat.
    pub seq: Option<String>,
    /// JSON pointer to an object of counters.
    pub progress: Option<String>,
    /// JSON pointer to the declared state (`"ok"`, `"busy"`, `"idle"`, `"halted"`).
    pub state: Option<String>,
    /// JSON pointer to the loop lag in milliseconds.
    pub lag: Option<String>,
    /// JSON pointer to an object of gauges.
    #[serde(default)]
    pub gauges: Option<String>,
}

/// `heartbeat.file`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileBeat {
    /// The file.
    pub path: PathBuf,
    /// How often it is looked at.
    pub every: Duration,
    /// What has to change to count as a tick.
    pub look_at: FileTick,
}

/// What of a file is its tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileTick {
    /// The modification time.
    Mtime,
    /// The content (first 4 KiB).
    Content,
}

/// `heartbeat.log`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogBeat {
    /// A line of the service's output that matches this regular expression counts.
    pub pattern: String,
}

/// `heartbeat.tcp`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpBeat {
    /// `host:port`
    pub address: String,
    /// Poll period.
    pub every: Duration,
    /// Deadline of one connect.
    pub timeout: Duration,
}

/// `heartbeat.exec`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecBeat {
    /// Program and arguments; exit status 0 is a beat, the first line of its output is the tick if `seq` is set.
    pub command: Vec<String>,
    /// Poll period.
    pub every: Duration,
    /// Deadline of one run; its whole process group is killed after it.
    pub timeout: Duration,
    /// The output is a tick and has to change.
    pub seq: bool,
}

/// How a service is stopped: soft signal, grace, then SIGKILL for the whole tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopPlan {
    /// Name of the soft signal.
    pub signal: String,
    /// How long it may take to end by itself.
    pub grace: Duration,
}

impl StopPlan {
    /// Runtimes such as Go's and Java's answer this signal by saying where all of their threads stand.
    pub fn asks_for_a_dump(&self) -> bool {
        self.signal == "SIGQUIT"
    }
}

/// When an ended program is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RestartOn {
    /// Whatever way it ended.
    Always,
    /// Unless it ended with exit code 0.
    Failure,
    /// Not at all.
    Never,
}

/// The exits ledger's limits: first restart, then geometric backoff, for ever slower, never given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPlan {
    /// After which ends.
    pub on: RestartOn,
    /// Delay before the first restart.
    pub first: Duration,
    /// Delay before the second; doubles from there.
    pub next: Duration,
    /// The delay never exceeds this.
    pub max: Duration,
    /// So many exits within `within` are a crash loop (an alert; the restarts go on, slowly).
    pub crash_loop: u32,
    /// The sliding window in which exits are counted.
    pub within: Duration,
}

/// The kills ledger's limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillPlan {
    /// Unproven kills until the breaker opens.
    pub limit: u32,
    /// Fresh ticks for so long prove that a restart cured. `None` in the file: ten deadlines, at least 5 min.
    pub prove: Duration,
    /// With the breaker open, at most one kill per this. `None`: never.
    pub retry: Option<Duration>,
    /// Kills per 24 h, proven or not, until the breaker opens.
    pub daily: u32,
}

/// A product whose absence is worth an alert (and never a restart).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValuePlan {
    /// Name of the progress counter.
    pub counter: String,
    /// No increase for so long: warning.
    pub stale: Duration,
    /// No increase for so long: critical.
    pub dead: Option<Duration>,
}

/// Counters in the order in which work passes through them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunnelPlan {
    /// Counter names, first stage first. At least two.
    pub stages: Vec<String>,
    /// A stage that moved by so much while the next stood still is blocked.
    pub blocked_after: u64,
}

/// Work that has to move. The difference to a [`ValuePlan`]: here a standstill means that the program hangs, and a
/// restart is a lawful answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressPlan {
    /// Name of the progress counter.
    pub counter: String,
    /// No increase for so long, while it declares neither "idle" nor "busy", is a hang of this stage.
    pub stalled: Duration,
}

/// An inventory that may not be empty: "at least one slot within two minutes of the start".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExpectPlan {
    /// Name of the gauge; a counter of that name counts, too.
    pub gauge: String,
    /// The least that is right.
    pub min: f64,
    /// From readiness, and from each fall under `min`, so long is allowed.
    pub within: Duration,
}

/// When a job is started, and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulePlan {
    /// When.
    pub when: When,
    /// A run has to finish within so long of its start.
    pub finish: Duration,
    /// A time that passed while nothing could be started is made up for, once.
    pub catch_up: bool,
}

/// Times at which a job is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// So often, counted from the start before.
    Every(Duration),
    /// By the calendar.
    Cron(Calendar),
}

/// A time in which a person works on services: nothing is signalled by a rule, and messages make no noise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenancePlan {
    /// For these services. Empty: for all.
    pub services: Vec<ServiceName>,
    /// When it begins.
    pub when: Calendar,
    /// How long it lasts.
    pub lasts: Duration,
}

/// Something that Horus only watches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MonitorPlan {
    /// How it is asked.
    pub check: MonitorCheck,
    /// Bad for so long is worth an alert.
    pub down_after: Duration,
}

/// How a monitor is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MonitorCheck {
    /// `check.http`
    Http {
        /// `http://` or `https://`.
        url: String,
        /// Poll period.
        every: Duration,
        /// Deadline of one poll.
        timeout: Duration,
        /// Expected status code.
        status: u16,
    },
    /// `check.tcp`
    Tcp(TcpBeat),
    /// `check.file`: the file must have changed within `max_age`.
    File {
        /// The file.
        path: PathBuf,
        /// How often it is looked at.
        every: Duration,
        /// Greatest age of its modification time.
        max_age: Duration,
    },
    /// `check.exec`
    Exec(ExecBeat),
}

impl MonitorCheck {
    /// The poll period.
    pub fn every(&self) -> Duration {
        match self {
            Self::Http { every, .. } | Self::File { every, .. } => *every,
            Self::Tcp(beat) => beat.every,
            Self::Exec(beat) => beat.every,
        }
    }
}

/// How bad a thing is. Ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a record; nothing to do.
    Info,
    /// Look when you can.
    Warning,
    /// A person is needed.
    Critical,
}

/// Where alerts go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SinkPlan {
    /// What speaks there.
    pub kind: SinkKind,
    /// Only incidents at least this bad.
    pub severity: Severity,
    /// Where the secret URL comes from.
    pub secret: SecretSource,
    /// The person to mention when one is needed (a Discord user id).
    pub mention: Option<String>,
}

/// The service at the other end of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkKind {
    /// A Discord webhook.
    Discord,
    /// A Slack incoming webhook.
    Slack,
    /// Any URL that takes JSON by POST.
    Webhook,
}

/// Where a secret comes from. Never from the config file itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    /// An environment variable of the daemon.
    Env(String),
    /// A file that only its owner may read.
    File(PathBuf),
}

/// A text that appears in no output: `Debug` and `Display` print `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself. Only for the call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl std::fmt::Display for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
