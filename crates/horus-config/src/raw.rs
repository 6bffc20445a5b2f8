//! The file as it is written, nothing more: every key optional, every leaf with its place, nothing judged.
//!
//! The documentation of each field is what a person reads: it becomes the description in the JSON Schema (so an
//! editor shows it) and the line in `docs/reference/config.md`. Defaults are taken from `defaults`, never typed twice.
//!
//! There is no `flatten`, `untagged` or internally tagged enum here: they buffer, and what is buffered has lost its
//! span. Where one of several things may stand (`check.http`, `check.tcp`) each is an optional key of its own and the
//! check says if there are none or two.

mod policy;
mod products;
mod texts;
mod times;

use std::collections::BTreeMap;

use horus_core::agent::Agent;
use horus_core::foreign::UnitScope;
use horus_core::plan::{FileTick, Mode, Ready, Severity};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::at::At;
use crate::defaults as built_in;
use crate::words::duration_text as text;

pub(crate) use policy::{RawDefaults, RawKills, RawLimits, RawLog, RawRestart, RawStop, RawTreeLimits};
pub(crate) use products::{RawCounter, RawExpect, RawFunnel, RawProgress, RawValue};
pub(crate) use texts::{
    AccountText, CommandText, CronText, DurationText, PathText, PercentText, RetryText, SecretText, SizeText,
    Text, ZoneText,
};
pub(crate) use times::{RawMaintenance, RawSchedule};

/// A table whose keys are names chosen by the person who writes the file.
pub(crate) type Named<T> = BTreeMap<At<String>, At<T>>;

/// `watchdog.toml`: what Horus starts, what it watches and whom it tells.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "watchdog.toml")]
pub(crate) struct RawFile {
    /// The version of this format. Always 1; a later Horus that reads another format will say so instead of guessing.
    #[schemars(extend("x-required" = true, "minimum" = 1, "maximum" = 1))]
    pub(crate) version: Option<At<u32>>,
    /// Settings of Horus itself.
    pub(crate) daemon: Option<RawDaemon>,
    /// What holds for every service that does not say otherwise.
    pub(crate) defaults: Option<RawDefaults>,
    /// Programs that Horus starts and owns, by name (`a-z`, `0-9`, `_`, `-`).
    pub(crate) service: Named<RawService>,
    /// Things that Horus only watches, by name.
    pub(crate) monitor: Named<RawMonitor>,
    /// Times in which a person works on services, by name: nothing is signalled by a rule, and messages make no noise.
    pub(crate) maintenance: Named<RawMaintenance>,
    /// Where alerts go, by name. Without one, alerts are only printed and kept in the journal.
    pub(crate) sink: Named<RawSink>,
}

/// Settings of Horus itself.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table [daemon]")]
pub(crate) struct RawDaemon {
    /// `"enforce"`: judge and act. `"observe"`: judge, record, say what would have been done, signal nothing.
    #[schemars(with = "Option<ModeWord>", extend("default" = "enforce"))]
    pub(crate) mode: Option<At<Mode>>,
    /// Where the database, evidence and logs live. Default: `/var/lib/horus` for root, else `$XDG_STATE_HOME/horus`
    /// or `~/.local/state/horus`: the places that are backed up and survive a reboot. One Horus per directory.
    pub(crate) state_directory: Option<At<PathText>>,
    /// Where sockets and slot files live. Default: `/run/horus` for root (`/var/run/horus` on macOS), else
    /// `$XDG_RUNTIME_DIR/horus` or `run` in the state directory. Keep it short: the address of a unix socket has at most 100 bytes.
    pub(crate) run_directory: Option<At<PathText>>,
    /// The name of this machine in alerts. Default: its host name.
    pub(crate) host: Option<At<Text>>,
    /// How long journal rows and evidence are kept. A month answers "was this so before the last release?" and stays
    /// far below a gigabyte.
    #[schemars(extend("default" = text(built_in::RETENTION)))]
    pub(crate) retention: Option<At<DurationText>>,
    /// Where each service gets a control group (cgroup v2) of its own, so that no grandchild escapes a stop. `"auto"`:
    /// beside the unit, in a scope `horus-services.scope`, if Horus is a service of systemd. `"none"`: nowhere, process
    /// groups and a walk of the tree are used. Or a delegated directory.
    #[schemars(extend("default" = "auto"))]
    pub(crate) cgroup: Option<At<PathText>>,
    /// A URL that gets a `POST` as long as all of Horus works: its loop turns, its journal is written, its alerts are on
    /// their way. Somebody who notices when the requests stop (a dead-man switch) tells what Horus itself cannot: that
    /// it, or its machine, is gone. Default: none.
    pub(crate) ping: Option<At<RawPing>>,
    /// The program that `horus upgrade` executes. Default: the path by which Horus was started, which is what the service
    /// manager starts after a reboot as well.
    pub(crate) executable: Option<At<PathText>>,
}

/// A dead-man switch: exactly one of `url_env` and `url_file`, and how often.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { url_env = \"HORUS_PING_URL\", every = \"1m\" }"
)]
pub(crate) struct RawPing {
    /// An environment variable of Horus that holds the URL. Default: none; then `url_file` names it.
    pub(crate) url_env: Option<At<Text>>,
    /// A file that holds the URL and that only its owner may read (`chmod 600`). Default: none; then `url_env` names it.
    pub(crate) url_file: Option<At<PathText>>,
    /// How often, from `1s` to `1d`. Set the patience of the other side to three times as much: one request may be lost.
    #[schemars(extend("default" = text(built_in::PING_EVERY)))]
    pub(crate) every: Option<At<DurationText>>,
    // Known only to be refused with a better word than "unknown key".
    #[schemars(skip)]
    pub(crate) url: Option<At<SecretText>>,
}

/// One program that Horus starts and owns.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table [service.NAME]")]
pub(crate) struct RawService {
    /// Program and arguments. A text is split at blanks as a shell would, quotes included, but no shell runs: for pipes
    /// and variables write `["sh", "-c", "..."]`. The program is looked up in the child's `PATH`.
    #[schemars(extend("x-required" = true))]
    pub(crate) command: Option<At<CommandText>>,
    /// Working directory. Default: the folder of this file.
    pub(crate) directory: Option<At<PathText>>,
    /// Environment of the program, over `env_file`, over what is inherited. Values are taken as they stand: nothing in
    /// them is expanded. They are never printed.
    pub(crate) env: BTreeMap<At<String>, At<SecretText>>,
    /// A file of `KEY=VALUE` lines (at most 64 KiB) for the environment. Default: none.
    pub(crate) env_file: Option<At<PathText>>,
    /// Variables that are passed on from Horus's own environment. The short list keeps Horus's secrets out of its
    /// children and makes a start by hand and one at boot the same.
    #[schemars(extend("default" = built_in::INHERIT_ENV))]
    pub(crate) inherit_env: Option<At<Vec<At<Text>>>>,
    /// Run as this user. Needs Horus to be root. Default: as Horus itself.
    pub(crate) user: Option<At<AccountText>>,
    /// Run as this group. Needs Horus to be root. Default: the user's own.
    pub(crate) group: Option<At<AccountText>>,
    /// Resource limits. Default: inherited.
    pub(crate) limits: Option<RawLimits>,
    /// What only one service of the machine may use at a time: `"repo:FOLDER"` (a git repository with all its work
    /// trees), `"path:FILE"` (a file, folder or device), `"name:WORD"` (anything else). It is started when nobody of this
    /// user's Horuses holds any of them, and holds them until the last process of its tree is gone. Default: none.
    pub(crate) exclusive: Option<At<Vec<At<Text>>>>,
    /// Files that its output goes to.
    pub(crate) log: Option<RawLog>,
    /// Services that must be ready before this one is started. Default: none; independent ones start side by side.
    pub(crate) after: Option<At<Vec<At<Text>>>>,
    /// Names under which it can be held and resumed together with others: `horus hold --group trading`. Default: none.
    pub(crate) groups: Option<At<Vec<At<Text>>>>,
    /// What makes it ready for those `after` it: its first fresh tick (`"tick"`), `READY=1` on its notify socket
    /// (`"notify"`), or that its process was started (`"process"`). `"notify"` is what systemd calls `Type=notify`: the program is
    /// given a socket, and promises no beats with it (that is `heartbeat.notify`). Default: `"tick"` if there is a heartbeat,
    /// else `"process"`.
    #[schemars(with = "Option<ReadyWord>")]
    pub(crate) ready: Option<At<Ready>>,
    /// How it is stopped.
    pub(crate) stop: Option<RawStop>,
    /// Ways in which the program shows that its loop turns. Without any it is judged by its process alone, and a hang
    /// is not seen.
    pub(crate) heartbeat: Option<RawHeartbeat>,
    /// `"python"`, `"node"`: Horus puts an agent into the program that beats from its event loop, without a line of code in it. Brings
    /// `heartbeat.notify` with it if no heartbeat is declared. See `docs/guides/agents.md`. Default: none.
    #[schemars(with = "Option<AgentWord>")]
    pub(crate) agent: Option<At<Agent>>,
    /// No fresh tick for so long is a fault. Half a minute is long for an event loop and short for the person who is
    /// woken; set it to what your program's longest honest pause is, times two.
    #[schemars(extend("default" = text(built_in::DEADLINE)))]
    pub(crate) deadline: Option<At<DurationText>>,
    /// Cap on waiting for the first fresh tick. Startup ends with that tick, not with this time: past it Horus alerts,
    /// it does not kill. Two minutes cover a cold start with a model or a database to load.
    #[schemars(extend("default" = text(built_in::STARTUP)))]
    pub(crate) startup: Option<At<DurationText>>,
    /// When it is started again after it ended by itself.
    pub(crate) restart: Option<RawRestart>,
    /// Limits on restarts that Horus decides on.
    pub(crate) kills: Option<RawKills>,
    /// `true`: never signal this one, only record what would have been done. The same as `mode = "observe"`.
    #[schemars(extend("default" = false))]
    pub(crate) observe: Option<At<bool>>,
    /// `"enforce"` or `"observe"`, for this service. `[daemon] mode = "observe"` outranks it. Default: as `observe`.
    #[schemars(with = "Option<ModeWord>")]
    pub(crate) mode: Option<At<Mode>>,
    /// Start it when Horus starts; for a job: follow its `schedule` from then on.
    #[schemars(extend("default" = true))]
    pub(crate) autostart: Option<At<bool>>,
    /// `false`: do not look at its process from outside. Otherwise the kernel is asked every second whether its loop turns, and where it
    /// is stuck if not: see `docs/concepts/sampler.md`. Needs nothing of the program.
    #[schemars(extend("default" = true))]
    pub(crate) sampler: Option<At<bool>>,
    /// Makes it a job: a program that is started at these times and has to *finish*. There is only ever one run at a time: a
    /// time that comes while the last run goes on is skipped. A run that takes too long, and a time that was missed, are told.
    /// A run that fails is told and waits for its next time (`restart.on` is `"never"` for a job unless its own table says
    /// otherwise); it needs no heartbeat.
    pub(crate) schedule: Option<At<RawSchedule>>,
    /// Work that a healthy program cannot help moving, by name. Its standstill while the program declares neither `"idle"`
    /// nor `"busy"` is a hang, and a restart is the lawful answer. What depends on the world (a market, a customer) belongs
    /// into `value`, whose standstill is told and never answered by a restart.
    pub(crate) progress: Named<RawProgress>,
    /// Counters that it shows over HTTP beside its beats, by the name by which `progress`, `value` and `funnel` know them: metrics of a
    /// page of Prometheus, or numbers in any JSON. That they can be read is no sign of life; see `docs/concepts/probes.md`.
    pub(crate) counter: Named<RawCounter>,
    /// How long each step of a batch may take, by the name that the program gives it: `step = { load = "20m", train = "6h" }`. The
    /// program says `X_HORUS_STEP=train` over its notify socket when it comes to one; until its time is over nothing is overdue.
    /// Past it a person is told, with what the program does meanwhile; nothing is restarted for it.
    pub(crate) step: BTreeMap<At<String>, At<DurationText>>,
    /// Products whose absence is worth an alert (and never a restart), by name.
    pub(crate) value: Named<RawValue>,
    /// Chains of counters where each stage feeds the next, by name. A blocked one is worth an alert, never a restart.
    pub(crate) funnel: Named<RawFunnel>,
    /// What it has to have at hand to be of use ("at least one slot"), by name. Too little of it is worth an alert, never a
    /// restart.
    pub(crate) expect: Named<RawExpect>,
}

/// Where signs of life come from. Several may stand side by side.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { http = { url = \"...\" } }")]
pub(crate) struct RawHeartbeat {
    /// Polled over HTTP; the best source for a program that can answer.
    pub(crate) http: Option<At<RawHttpBeat>>,
    /// `true`: pushed over a unix datagram socket (the sd_notify protocol; programs written for systemd work unchanged).
    #[schemars(extend("default" = false))]
    pub(crate) notify: Option<At<bool>>,
    /// A file that the program touches or rewrites.
    pub(crate) file: Option<At<RawFileBeat>>,
    /// A line of its output that matches.
    pub(crate) log: Option<At<RawLogBeat>>,
    /// A TCP connect. Proves only that the kernel accepts.
    pub(crate) tcp: Option<At<RawTcpBeat>>,
    /// A command that exits 0.
    pub(crate) exec: Option<At<RawExecBeat>>,
}

/// `GET url` returns 200 and, if any pointer is set, JSON.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { url = \"http://127.0.0.1:7801/heartbeat\" }"
)]
pub(crate) struct RawHttpBeat {
    /// `http://host:port/path`. No TLS and no password: a beat stays on the machine.
    #[schemars(extend("x-required" = true))]
    pub(crate) url: Option<At<Text>>,
    /// Poll period. Default: a tenth of the deadline, but within 250 ms and 5 s: ten chances before the deadline, and
    /// never so often that the watching is felt.
    pub(crate) every: Option<At<DurationText>>,
    /// Deadline of one poll, connect included. Default: two polls, at most 2 s: on the same machine a slower answer is
    /// itself a sign.
    pub(crate) timeout: Option<At<DurationText>>,
    /// JSON pointer to the tick, the number that only moves when the program's own loop moved. Without it a 200 counts
    /// as a beat, and a 200 proves little.
    pub(crate) seq: Option<At<Text>>,
    /// JSON pointer to an object of counters. Needed by `progress`, `value` and `funnel`.
    pub(crate) progress: Option<At<Text>>,
    /// JSON pointer to an object of gauges (numbers that may fall), or to a list of those names in `progress` that are
    /// gauges, as `horus-heartbeat` writes it: `gauges = "/gauges"`. Used by `expect`.
    pub(crate) gauges: Option<At<Text>>,
    /// JSON pointer to the declared state (`"ok"`, `"busy"`, `"idle"`, `"halted"`).
    pub(crate) state: Option<At<Text>>,
    /// JSON pointer to the loop lag in milliseconds.
    pub(crate) lag: Option<At<Text>>,
}

/// A file that changes as long as the program lives.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { path = \"bot.beat\" }")]
pub(crate) struct RawFileBeat {
    /// The file.
    #[schemars(extend("x-required" = true))]
    pub(crate) path: Option<At<PathText>>,
    /// How often it is looked at. Default: as for `http`.
    pub(crate) every: Option<At<DurationText>>,
    /// What has to change: `"mtime"` (the modification time) or `"content"` (its first 4 KiB).
    #[schemars(with = "Option<FileTickWord>", extend("default" = "mtime"))]
    pub(crate) look_at: Option<At<FileTick>>,
}

/// A line of the program's output that shows that its loop turned.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { pattern = \"tick\" }")]
pub(crate) struct RawLogBeat {
    /// A line that matches this regular expression counts.
    #[schemars(extend("x-required" = true))]
    pub(crate) pattern: Option<At<Text>>,
}

/// A TCP connect.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { address = \"127.0.0.1:5432\" }")]
pub(crate) struct RawTcpBeat {
    /// `host:port`
    #[schemars(extend("x-required" = true))]
    pub(crate) address: Option<At<Text>>,
    /// Poll period. Default: as for `http`.
    pub(crate) every: Option<At<DurationText>>,
    /// Deadline of one connect. Default: as for `http`.
    pub(crate) timeout: Option<At<DurationText>>,
}

/// A command that is run again and again.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { command = [\"bot\", \"alive\"] }")]
pub(crate) struct RawExecBeat {
    /// Program and arguments; exit status 0 is a beat.
    #[schemars(extend("x-required" = true))]
    pub(crate) command: Option<At<CommandText>>,
    /// Poll period. Default: as for `http`, but at least 1 s, because a process is dearer than a request.
    pub(crate) every: Option<At<DurationText>>,
    /// Deadline of one run; its whole process group is killed after it. Default: as for `http`.
    pub(crate) timeout: Option<At<DurationText>>,
    /// The first line of the output is a tick and has to change.
    #[schemars(extend("default" = false))]
    pub(crate) seq: Option<At<bool>>,
}

/// Something that Horus only watches.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table [monitor.NAME]")]
pub(crate) struct RawMonitor {
    /// How it is asked: exactly one of `http`, `tcp`, `file`, `exec`. Exactly one of `check`, `unit` and `label` has to be
    /// there.
    pub(crate) check: Option<At<RawCheck>>,
    /// Bad for so long is worth an alert. Default: four polls, so that one lost answer wakes nobody.
    pub(crate) down_after: Option<At<DurationText>>,
    /// Makes it a *foreign unit*: a program that systemd runs (`"postgresql.service"`), judged like a service. The keys
    /// below are for those only; `[defaults]` does not hold for them. Default: none.
    pub(crate) unit: Option<At<Text>>,
    /// The same for launchd: `"com.example.agent"`. Default: none.
    pub(crate) label: Option<At<Text>>,
    /// Whose systemd: the machine's (`"system"`) or that of the user who runs Horus (`"user"`).
    #[schemars(with = "Option<UnitScopeWord>", extend("default" = "system"))]
    pub(crate) scope: Option<At<UnitScope>>,
    /// Which domain of launchd: the machine's (`"system"`) or that of the user who runs Horus (`"gui"`).
    #[schemars(with = "Option<UnitDomainWord>", extend("default" = "system"))]
    pub(crate) domain: Option<At<UnitDomain>>,
    /// `false`: it is watched, and what is wrong with it is told. `true`: one that hangs is restarted and one that failed is
    /// started, by its own manager, within the limits of `kills` and `restart`.
    #[schemars(extend("default" = false))]
    pub(crate) heal: Option<At<bool>>,
    /// Where its signs of life come from, as for a service. `notify` is its manager's; `log` is for systemd, and looks at
    /// its journal. Default: none, then a hang is not seen.
    pub(crate) heartbeat: Option<RawHeartbeat>,
    /// No fresh tick for so long is a fault.
    #[schemars(extend("default" = text(built_in::DEADLINE)))]
    pub(crate) deadline: Option<At<DurationText>>,
    /// Cap on waiting for the first fresh tick of a run.
    #[schemars(extend("default" = text(built_in::STARTUP)))]
    pub(crate) startup: Option<At<DurationText>>,
    /// How long its manager may take to end it, before it is asked to kill the whole unit. Longer than what the unit itself
    /// allows (systemd: `TimeoutStopSec`, 90 s if nothing else was said).
    #[schemars(extend("default" = text(built_in::UNIT_GRACE)))]
    pub(crate) grace: Option<At<DurationText>>,
    /// Delays before one that failed is started, and what is called a crash loop. `on` is its manager's.
    pub(crate) restart: Option<RawRestart>,
    /// Limits on restarts that Horus decides on.
    pub(crate) kills: Option<RawKills>,
}

impl RawMonitor {
    /// It is a program that a service manager runs.
    pub(crate) fn is_unit(&self) -> bool {
        self.unit.is_some() || self.label.is_some()
    }
}

/// A domain of launchd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnitDomain {
    /// The machine's.
    System,
    /// The user's.
    Gui,
}

/// How a monitor is asked.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { http = { url = \"...\" } }")]
pub(crate) struct RawCheck {
    /// `GET url` returns the expected status.
    pub(crate) http: Option<At<RawHttpCheck>>,
    /// A TCP connect succeeds.
    pub(crate) tcp: Option<At<RawTcpCheck>>,
    /// A file changed within `max_age`.
    pub(crate) file: Option<At<RawFileCheck>>,
    /// A command exits 0.
    pub(crate) exec: Option<At<RawExecCheck>>,
}

/// `GET url` returns the expected status.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { url = \"https://example.com/ok\" }")]
pub(crate) struct RawHttpCheck {
    /// `http://` or `https://`.
    #[schemars(extend("x-required" = true))]
    pub(crate) url: Option<At<Text>>,
    /// Poll period. Polite to a stranger's server, and still an answer within minutes.
    #[schemars(extend("default" = text(built_in::MONITOR_EVERY)))]
    pub(crate) every: Option<At<DurationText>>,
    /// Deadline of one poll: a wide-area request with a handshake may honestly take seconds.
    #[schemars(extend("default" = text(built_in::MONITOR_TIMEOUT)))]
    pub(crate) timeout: Option<At<DurationText>>,
    /// Expected status code.
    #[schemars(extend("default" = built_in::MONITOR_STATUS))]
    pub(crate) status: Option<At<u16>>,
}

/// A TCP connect succeeds.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { address = \"10.0.0.7:5432\" }")]
pub(crate) struct RawTcpCheck {
    /// `host:port`
    #[schemars(extend("x-required" = true))]
    pub(crate) address: Option<At<Text>>,
    /// Poll period.
    #[schemars(extend("default" = text(built_in::MONITOR_EVERY)))]
    pub(crate) every: Option<At<DurationText>>,
    /// Deadline of one connect.
    #[schemars(extend("default" = text(built_in::MONITOR_TIMEOUT)))]
    pub(crate) timeout: Option<At<DurationText>>,
}

/// A file changed not long ago.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table such as { path = \"backup.tar\", max_age = \"26h\" }"
)]
pub(crate) struct RawFileCheck {
    /// The file.
    #[schemars(extend("x-required" = true))]
    pub(crate) path: Option<At<PathText>>,
    /// How often it is looked at.
    #[schemars(extend("default" = text(built_in::MONITOR_EVERY)))]
    pub(crate) every: Option<At<DurationText>>,
    /// Greatest age of its modification time.
    #[schemars(extend("x-required" = true))]
    pub(crate) max_age: Option<At<DurationText>>,
}

/// A command exits 0.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { command = [\"pg_isready\"] }")]
pub(crate) struct RawExecCheck {
    /// Program and arguments; exit status 0 is good.
    #[schemars(extend("x-required" = true))]
    pub(crate) command: Option<At<CommandText>>,
    /// Poll period.
    #[schemars(extend("default" = text(built_in::MONITOR_EVERY)))]
    pub(crate) every: Option<At<DurationText>>,
    /// Deadline of one run; its whole process group is killed after it.
    #[schemars(extend("default" = text(built_in::MONITOR_TIMEOUT)))]
    pub(crate) timeout: Option<At<DurationText>>,
}

/// Where alerts go: exactly one of `discord`, `slack`, `webhook`.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table [sink.NAME]")]
pub(crate) struct RawSink {
    /// A Discord webhook.
    pub(crate) discord: Option<At<RawSecret>>,
    /// A Slack incoming webhook.
    pub(crate) slack: Option<At<RawSecret>>,
    /// Any URL that takes JSON by POST.
    pub(crate) webhook: Option<At<RawSecret>>,
    /// Only incidents at least this bad: `"info"`, `"warning"` or `"critical"`. Information is for the journal; a
    /// warning is worth a message.
    #[schemars(with = "Option<SeverityWord>", extend("default" = "warning"))]
    pub(crate) severity: Option<At<Severity>>,
    /// Whom to mention when a person is needed: a Discord user id or a Slack member id. Default: nobody.
    pub(crate) mention: Option<At<Text>>,
}

/// Where the secret URL comes from: exactly one of the two. Never from this file.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { url_env = \"HORUS_DISCORD_URL\" }")]
pub(crate) struct RawSecret {
    /// An environment variable of Horus that holds the URL.
    pub(crate) url_env: Option<At<Text>>,
    /// A file that holds the URL and that only its owner may read (`chmod 600`).
    pub(crate) url_file: Option<At<PathText>>,
    // Known only to be refused with a better word than "unknown key".
    #[schemars(skip)]
    pub(crate) url: Option<At<SecretText>>,
}

macro_rules! words {
    ($name:ident: $($word:ident = $text:literal),+) => {
        /// The schema of an enum of the plan, which does not know of schemas itself.
        #[derive(JsonSchema)]
        #[schemars(inline)]
        #[expect(dead_code, reason = "only its schema is used; `schema_words_are_the_words_of_the_plan` compares")]
        pub(crate) enum $name {
            $(#[schemars(rename = $text)] $word,)+
        }

        impl $name {
            #[cfg(test)]
            pub(crate) const ALL: &[&str] = &[$($text),+];
        }
    };
}
pub(crate) use words;

words!(ModeWord: Enforce = "enforce", Observe = "observe");
words!(ReadyWord: Tick = "tick", Notify = "notify", Process = "process");
words!(AgentWord: Python = "python", Node = "node");
words!(FileTickWord: Mtime = "mtime", Content = "content");
words!(UnitScopeWord: System = "system", User = "user");
words!(UnitDomainWord: System = "system", Gui = "gui");
words!(SeverityWord: Info = "info", Warning = "warning", Critical = "critical");

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts<T: serde::de::DeserializeOwned>(words: &[&str]) {
        for word in words {
            let value = serde_json::Value::String((*word).to_owned());
            assert!(serde_json::from_value::<T>(value).is_ok(), "{word}");
        }
        assert!(serde_json::from_value::<T>(serde_json::Value::String("nonsense".into())).is_err());
    }

    #[test]
    fn schema_words_are_the_words_of_the_plan() {
        accepts::<Mode>(ModeWord::ALL);
        accepts::<Ready>(ReadyWord::ALL);
        accepts::<Agent>(AgentWord::ALL);
        accepts::<FileTick>(FileTickWord::ALL);
        accepts::<UnitScope>(UnitScopeWord::ALL);
        accepts::<UnitDomain>(UnitDomainWord::ALL);
        accepts::<Severity>(SeverityWord::ALL);
        accepts::<horus_core::plan::RestartOn>(policy::RestartWord::ALL);
    }
}
