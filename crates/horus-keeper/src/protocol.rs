//! What Horus and the keeper say to each other: JSON, one object a line, over a unix stream socket.
//!
//! The keeper speaks first: [`Event::Hello`] lists every slot, so a client that lost its connection (or its life) needs
//! no other memory. After that the client sends [`Request`]s and the keeper sends [`Event`]s, each naming slot and
//! generation; there is no other correlation. State is repeated, not replayed: an event that a dying client missed is
//! in the next Hello.
//!
//! Versions: a new field, request or event does not change the version; an unknown request is answered by
//! [`Event::Rejected`], an unknown event reads as [`Event::Unknown`], unknown fields are skipped. Only a change of
//! meaning, or a new word inside an old message, raises the number. Each side knows a range, [`PROTOCOLS`], of which the
//! oldest is always the one before the newest at least. The keeper greets in its oldest, so the head of Hello (`event`,
//! `protocol`, `protocols`, `process`, `keeper_version`) can be read by whoever ever spoke to a keeper.

use horus_sys::cgroup_limits::{GroupLimits, Limited};
use horus_sys::launch::{Identity, Step};
use horus_sys::process::ProcessId;
use horus_sys::reap::WaitStatus;
use horus_sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

mod text;
mod versions;

pub use crate::slots::SlotName;
pub use text::Text;
pub use versions::{FormatVersions, PROTOCOLS, Versions};

/// Longest line either side sends or accepts, newline included, in bytes.
pub const MAX_LINE: usize = 4 * 1024 * 1024;
/// Most bytes the keeper holds for a client that does not read; then it drops the client.
pub const MAX_OUTGOING: usize = 4 * 1024 * 1024;
/// Most slots of one keeper.
pub const MAX_SLOTS: usize = 4_096;

/// One run of a slot's program. Grows with every start, across restarts of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Asked by the client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Start a program in a slot that is empty or ended. Answered by `Started` or `StartFailed`.
    Start(Box<StartSpec>),
    /// Send a signal. Answered by `Signalled` or `SignalFailed`.
    Signal {
        /// The slot.
        slot: SlotName,
        /// The run that is meant; a newer one is never hit.
        generation: Generation,
        /// Which signal, as a number.
        signal: Signal,
        /// To whom.
        scope: Scope,
    },
    /// Kill everything that came from this slot and still lives, whatever it did to hide. Answered by `Gone` when the
    /// last of it was seen gone, and by `KillStuck` while it takes long.
    KillTree {
        /// The slot.
        slot: SlotName,
        /// Its newest run.
        generation: Generation,
    },
    /// Other limits for the whole tree of a slot, at once. Answered by `Limited`. For a keeper that says [`CAN_LIMIT`].
    Adjust {
        /// The slot.
        slot: SlotName,
        /// All of them; what is `None` is lifted.
        tree: GroupLimits,
    },
    /// Forget a slot whose program has ended: its records and its FIFO are removed. Answered by `Forgotten`.
    Forget {
        /// The slot.
        slot: SlotName,
    },
    /// End the keeper. Answered by `Rejected` if it will not.
    Shutdown {
        /// What about living children.
        mode: ShutdownMode,
    },
    /// Become another program in the same process, with all children. Answered by the end of the connection and a Hello
    /// with one more in `upgrades`, or by `UpgradeRefused`.
    Upgrade {
        /// Absolute path of the new program, which has the verb `keep`.
        executable: PathBuf,
    },
    /// Are you there? Answered by `Pong`.
    Ping {
        /// Comes back unchanged.
        token: u64,
    },
    /// Something a newer client knows.
    #[serde(other)]
    Unknown,
}

/// Who gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The main process.
    Main,
    /// Its process group.
    Group,
    /// Everything that came from the slot.
    Tree,
}

/// When the keeper may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShutdownMode {
    /// Only if no child lives.
    IfIdle,
    /// At once. Living children go on without a parent of ours; the next keeper adopts them.
    Leave,
}

/// Everything needed to start a program. Nothing is inherited.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct StartSpec {
    /// Where.
    pub slot: SlotName,
    /// Which run; must be above every earlier one of the slot.
    pub generation: Generation,
    /// The command. A first word without a slash is looked for in the `PATH` of `environment`.
    pub argv: Vec<Text>,
    /// The whole environment. The keeper adds `HORUS_SLOT` and `HORUS_RUN`, by which it finds strays.
    pub environment: Vec<(Text, Text)>,
    /// Absolute working directory.
    pub directory: PathBuf,
    /// Run as somebody else; only root may.
    #[serde(default)]
    pub user: Option<Identity>,
    /// Resource limits of each process.
    #[serde(default)]
    pub limits: Limits,
    /// Limits of the whole tree, which hold before the program runs where they can be kept at all; `Limited` tells. A
    /// keeper that does not say [`CAN_LIMIT`] in its Hello skips them.
    #[serde(default, skip_serializing_if = "GroupLimits::is_none")]
    pub tree: GroupLimits,
    /// Where the output goes.
    pub log: LogSpec,
    /// What nobody else may hold while anything of the slot lives, at most [`MAX_EXCLUSIVE`]. A keeper that does not say
    /// [`CAN_LOCK`] in its Hello skips this.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclusive: Vec<Exclusive>,
}

/// Something that only one slot of the machine may hold at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exclusive {
    /// What it is, for people.
    pub key: String,
    /// The lock file that stands for it, in a directory of its own user.
    pub lock: PathBuf,
}

/// Per-process resource limits; what is `None` stays as the keeper got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Open descriptors.
    pub open_files: Option<u64>,
    /// Address space in bytes.
    pub memory: Option<u64>,
    /// Processes of the same user.
    pub processes: Option<u64>,
    /// Size of a core file in bytes.
    pub core: Option<u64>,
    /// Size of any written file in bytes.
    pub file_size: Option<u64>,
    /// CPU time in seconds.
    pub cpu: Option<u64>,
}

/// Where and how much output is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// Absolute path of the current file; older ones are `PATH.1`, `PATH.2`, ... with growing age.
    pub path: PathBuf,
    /// Size after which the next newline starts a new file, at least [`crate::logs::MIN_LOG_BYTES`].
    pub max_bytes: u64,
    /// How many older files are kept, at most [`crate::logs::MAX_LOG_FILES`].
    pub keep: u32,
}

/// Said by the keeper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first line of every connection.
    Hello(Hello),
    /// The program runs.
    Started {
        /// Where.
        slot: SlotName,
        /// Which run.
        generation: Generation,
        /// Its main process.
        process: ProcessId,
    },
    /// It does not. Nothing is left of it.
    StartFailed {
        /// Where.
        slot: SlotName,
        /// Which run.
        generation: Generation,
        /// What was being done.
        step: StartStep,
        /// For people.
        error: String,
    },
    /// Before a start: processes of an earlier life of the slot were found, of which nobody has a record. They are ended
    /// first; `Started` or `StartFailed` follow.
    Leftovers {
        /// Where.
        slot: SlotName,
        /// Which run waits.
        generation: Generation,
        /// Some of them, at most [`MAX_NAMED_SURVIVORS`].
        processes: Vec<LeftBehind>,
    },
    /// What is in force of the limits of the whole tree: after a start that asked for some, and as the answer to `Adjust`.
    Limited {
        /// Where.
        slot: SlotName,
        /// Which run.
        generation: Generation,
        /// What was asked.
        tree: GroupLimits,
        /// What holds and what does not.
        #[serde(flatten)]
        limited: Limited,
    },
    /// Nothing was started, because somebody holds what the slot wants for itself. The run number is still free.
    Blocked {
        /// Where.
        slot: SlotName,
        /// Which run.
        generation: Generation,
        /// What is held.
        key: String,
        /// By whom, for people.
        holder: String,
    },
    /// The main process ended. All output it had written is in the log by now.
    Exited {
        /// Where.
        slot: SlotName,
        /// Which run.
        generation: Generation,
        /// Which process.
        process: ProcessId,
        /// How.
        status: ExitStatus,
        /// How many processes that came from this slot still live.
        strays: u32,
        /// The kernel killed it for want of memory; `None` also if nobody can know.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        out_of_memory: Option<OutOfMemory>,
    },
    /// The answer to `KillTree`: nothing of the slot lives.
    Gone {
        /// Where.
        slot: SlotName,
        /// Which run.
        generation: Generation,
        /// How many processes were killed for it.
        killed: u32,
    },
    /// A kill takes long; it goes on. Sent once.
    KillStuck {
        /// Where.
        slot: SlotName,
        /// Which run.
        generation: Generation,
        /// Some of those that do not go, at most [`MAX_NAMED_SURVIVORS`].
        survivors: Vec<ProcessId>,
    },
    /// A signal was sent.
    Signalled {
        /// Where.
        slot: SlotName,
        /// Which run.
        generation: Generation,
        /// Which signal.
        signal: Signal,
        /// To how many processes (a group counts as one).
        count: u32,
    },
    /// A signal was not sent.
    SignalFailed {
        /// Where.
        slot: SlotName,
        /// Which run.
        generation: Generation,
        /// Which signal.
        signal: Signal,
        /// Why.
        error: String,
    },
    /// The slot is no more.
    Forgotten {
        /// Which.
        slot: SlotName,
    },
    /// Output could not be written and was thrown away, so that the program would not block. At most once a second.
    OutputDropped {
        /// Where.
        slot: SlotName,
        /// How much since this began, in bytes.
        bytes: u64,
        /// Why.
        error: String,
    },
    /// Output is written again.
    OutputResumed {
        /// Where.
        slot: SlotName,
        /// How much was thrown away in between, in bytes.
        dropped: u64,
    },
    /// A line was so long that it had to be cut at a file's end. At most once a second.
    LineSplit {
        /// Where.
        slot: SlotName,
        /// How often in this slot, since the keeper began.
        total: u64,
    },
    /// Something works worse than asked; the program runs all the same.
    Degraded {
        /// Where.
        slot: SlotName,
        /// What and why.
        error: String,
    },
    /// A request was not understood or not allowed; nothing was done.
    Rejected {
        /// Why.
        error: String,
    },
    /// The answer to `Upgrade`: everything is as before.
    UpgradeRefused {
        /// Why.
        error: String,
    },
    /// The answer to `Ping`.
    Pong {
        /// As it came.
        token: u64,
    },
    /// Another client took over; this connection ends.
    Replaced,
    /// Something a newer keeper knows.
    #[serde(other)]
    Unknown,
}

/// In [`Hello::can`]: the keeper sets the limits of a tree.
pub const CAN_LIMIT: &str = "limit-trees";
/// In [`Hello::can`]: the keeper takes the locks of a start.
pub const CAN_LOCK: &str = "exclusive";
/// Most locks of one slot.
pub const MAX_EXCLUSIVE: usize = 16;
/// Most remarks in one [`Hello`].
pub const MAX_REMARKS: usize = 64;
/// Most survivors listed in [`Event::KillStuck`].
pub const MAX_NAMED_SURVIVORS: usize = 16;

/// Who the keeper is and what it keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The language of this line.
    pub protocol: u32,
    /// All that the keeper speaks; a keeper that does not say speaks this one only.
    #[serde(default)]
    pub protocols: Option<Versions>,
    /// The records that the keeper reads.
    #[serde(default)]
    pub formats: Vec<FormatVersions>,
    /// Its program version.
    pub keeper_version: String,
    /// The file it was executed from, as it was called then.
    #[serde(default)]
    pub executable: Option<String>,
    /// Itself.
    pub process: ProcessId,
    /// How often this process has become another program.
    #[serde(default)]
    pub upgrades: u32,
    /// Whether slots get a cgroup of their own.
    pub cgroup: bool,
    /// The directory of the slots' cgroups.
    #[serde(default)]
    pub home: Option<String>,
    /// The controllers that are enabled there.
    #[serde(default)]
    pub controllers: Vec<String>,
    /// What it does that its predecessors did not, where a client has to know: [`CAN_LOCK`], [`CAN_LIMIT`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub can: Vec<String>,
    /// Every slot it knows.
    pub slots: Vec<SlotView>,
    /// Slots whose records it cannot read. A program of theirs may live: a start is refused until nobody is found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<UnreadableSlot>,
    /// What it found wrong on disk when it began, for people; the worst is over, or is in `unreadable`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// A process that was left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftBehind {
    /// Which.
    pub process: ProcessId,
    /// Its command, secrets hidden; empty if that cannot be seen.
    pub command: String,
}

/// A slot of which nobody knows what it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableSlot {
    /// Its name.
    pub slot: SlotName,
    /// What is wrong with its records.
    pub why: String,
}

/// One slot, seen from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotView {
    /// Its name.
    pub slot: SlotName,
    /// The newest run; 0 if none was ever tried.
    pub generation: Generation,
    /// How that run stands.
    pub state: SlotState,
    /// Whether it was taken over from a keeper that died.
    pub adopted: bool,
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// No run, or one of an earlier boot.
    Empty,
    /// Between the gate and its program.
    Starting(ProcessId),
    /// It runs.
    Running(ProcessId),
    /// It ended under a dead keeper, and whoever reaped it has not said how yet.
    Ending(ProcessId),
    /// It ended.
    Ended {
        /// Which process; `None` if that is not known any more.
        process: Option<ProcessId>,
        /// How.
        status: ExitStatus,
        /// The kernel killed it for want of memory; `None` also if nobody can know.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        out_of_memory: Option<OutOfMemory>,
    },
}

/// The kernel killed a program for want of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutOfMemory {
    /// What its tree was allowed, in bytes, if that was too little. `None`: the machine had no more, or a group above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It called `exit`, 0 to 255.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// Which.
        number: i32,
        /// With a core.
        core_dumped: bool,
    },
    /// Its program was never executed.
    NotExecuted {
        /// What failed.
        step: Step,
        /// How.
        errno: i32,
    },
    /// It ended while nobody could look. Never guess.
    Unknown,
}

/// What a failed start was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartStep {
    /// The request itself makes no sense.
    Request,
    /// The slot is not free.
    Busy,
    /// The program was not found, is not executable, or is a directory.
    Resolve,
    /// Slot directory, FIFO or records.
    Record,
    /// `fork` and its pipes.
    Fork,
    /// In the child, between fork and exec.
    Child(Step),
}

impl From<WaitStatus> for ExitStatus {
    fn from(status: WaitStatus) -> Self {
        match status {
            WaitStatus::Code(code) => Self::Code(code),
            WaitStatus::Signal { number, core_dumped } => Self::Signal { number, core_dumped },
        }
    }
}

/// Environments hold secrets: only their names are shown.
impl fmt::Debug for StartSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arguments: Vec<_> = self.argv.iter().map(|word| String::from_utf8_lossy(&word.0)).collect();
        f.debug_struct("StartSpec")
            .field("slot", &self.slot)
            .field("generation", &self.generation)
            .field("argv", &horus_sys::redact::command_line(&arguments))
            .field("environment", &self.environment.iter().map(|(name, _)| (name, "***")).collect::<Vec<_>>())
            .field("directory", &self.directory)
            .field("user", &self.user)
            .field("limits", &self.limits)
            .field("tree", &self.tree)
            .field("log", &self.log)
            .field("exclusive", &self.exclusive)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round<T: Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
        serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
    }

    #[test]
    fn what_a_newer_side_says_is_unknown_and_no_error() {
        let request: Request = serde_json::from_str(r#"{"request":"teleport","to":"mars"}"#).unwrap();
        assert_eq!(request, Request::Unknown);
        let event: Event = serde_json::from_str(r#"{"event":"levitated","metres":3}"#).unwrap();
        assert_eq!(event, Event::Unknown);
        let ping: Request = serde_json::from_str(r#"{"request":"ping","token":1,"new":true}"#).unwrap();
        assert_eq!(ping, Request::Ping { token: 1 });
        for garbage in ["", "{", "[]", "null", r#"{"request":"start"}"#, r#"{"request":"ping","token":-1}"#] {
            assert!(serde_json::from_str::<Request>(garbage).is_err(), "{garbage}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let spec: StartSpec = serde_json::from_str(
            r#"{"slot":"bot","generation":1,"argv":["bot","--token","s3cr3t"],"environment":[["KEY","s3cr3t"]],
                "directory":"/","log":{"path":"/x","max_bytes":1,"keep":1}}"#,
        )
        .unwrap();
        assert!(!format!("{spec:?}").contains("s3cr3t"), "{spec:?}");
        assert_eq!(round(&Request::Start(Box::new(spec.clone()))), Request::Start(Box::new(spec)));
    }
}
