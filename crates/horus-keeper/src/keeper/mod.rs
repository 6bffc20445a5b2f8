//! The keeper itself: one thread, one loop.
//!
//! ```text
//!   wait -> ended programs -> exec reports -> orphans -> client -> timers -> output -> wait
//! ```
//!
//! Every turn does a bounded amount for each slot, so one that floods its log delays the others by at most one turn.
//! The loop is level-triggered and each handler tolerates being called for nothing.

mod adopting;
mod arguments;
mod client;
mod ending;
mod exclusive;
mod groups;
mod killing;
mod leftovers;
mod observers;
mod requests;
mod restoring;
mod sink;
mod slot;
mod starting;
mod talking;
mod tree;
mod unreadable;
mod upgrading;

use crate::crash_point::crash_point;
use crate::protocol::{Event, SlotName};
use crate::replace::KEEPER_SIGNATURE;
use crate::slots::RunDirectory;
use arguments::Arguments;
use client::Client;
use horus_sys::cgroup::Cgroup;
use horus_sys::limits::{self, Limit};
use horus_sys::lock::FileLock;
use horus_sys::poll::{Interest, Poller, Ready, SignalPipe};
use horus_sys::process::{self, ProcessId, Table};
use horus_sys::signal::{self, Signal};
use horus_sys::{clock, subreaper};
use observers::Observers;
use sink::{Note, Tools};
use slot::{Phase, Slot};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::time::Duration;
use upgrading::Handover;

/// Most bytes of one slot's output moved in one turn.
const PUMP_A_TURN: usize = 256 * 1024;
/// Most orphans reaped in one turn.
const REAP_A_TURN: usize = 256;
/// Most requests carried out in one turn.
const REQUESTS_A_TURN: usize = 32;
/// Most connections taken in one turn.
const ACCEPTS_A_TURN: usize = 16;
/// Most lines the keeper writes to its own log in its life.
const MAX_COMPLAINTS: u32 = 1_000;

const TOKEN_LISTENER: u64 = u64::MAX;
const TOKEN_CLIENT: u64 = u64::MAX - 1;
const TOKEN_SIGNALS: u64 = u64::MAX - 2;
const TOKEN_VIEW: u64 = u64::MAX - 3;
const TOKEN_OBSERVER: u64 = u64::MAX - 4;
/// Tokens below this one are of slots.
const TOKENS_OF_SLOTS: u64 = TOKEN_OBSERVER;

/// What of a slot is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Output,
    Process,
    Report,
}

impl Kind {
    pub(crate) fn token(self, index: usize) -> u64 {
        let kind = match self {
            Self::Output => 0,
            Self::Process => 1,
            Self::Report => 2,
        };
        (u64::try_from(index).unwrap_or(0) << 2) | kind
    }

    fn parse(token: u64) -> (Self, usize) {
        let kind = match token & 3 {
            0 => Self::Output,
            1 => Self::Process,
            _ => Self::Report,
        };
        (kind, usize::try_from(token >> 2).unwrap_or(usize::MAX))
    }
}

/// Why the keeper could not begin, or had to end.
#[derive(Debug, thiserror::Error)]
enum KeeperError {
    #[error("usage: keep --run-dir DIR --lock-fd N [--cgroup PATH]: {0}")]
    Usage(String),
    #[error("cannot use the run directory")]
    RunDirectory(#[source] horus_sys::files::PrivateDirError),
    #[error("cannot {what}")]
    Io {
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

fn doing<T>(what: &'static str, result: io::Result<T>) -> Result<T, KeeperError> {
    result.map_err(|source| KeeperError::Io { what, source })
}

/// The body of `horus keep`: takes over the lock, adopts what lives, and serves until told to end. `arguments` are
/// those after the verb. Call it first thing in `main`, before any thread or runtime exists.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    if upgrading::announce() {
        return ExitCode::SUCCESS;
    }
    let result = Arguments::parse(arguments).and_then(Keeper::begin).and_then(|mut keeper| {
        loop {
            if doing("go on", keeper.turn())? {
                return Ok(());
            }
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "keeper {}: {}", std::process::id(), killing::chain(&error));
            match error {
                KeeperError::Usage(_) => ExitCode::from(64),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// All state of the process.
#[derive(Debug)]
pub(crate) struct Keeper {
    directory: RunDirectory,
    boot_id: String,
    me: ProcessId,
    /// Where our program was, as told in Hello.
    executable: Option<String>,
    /// Where the groups of the slots are.
    cgroup: Option<Cgroup>,
    controllers: Vec<String>,
    inherited_open_files: Limit,
    /// Held for life; its fall tells everybody that we are gone.
    lock: FileLock,
    arguments: Arguments,
    /// How often this process has become another program.
    upgrades: u32,
    listener: UnixListener,
    signals: SignalPipe,
    poller: Poller,
    tools: Tools,
    client: Option<Client>,
    observers: Observers,
    /// By index, which is part of the poll tokens; a forgotten slot leaves a hole.
    slots: Vec<Option<Slot>>,
    names: BTreeMap<SlotName, usize>,
    /// Work is left over from this turn: do not sleep before the next.
    busy: bool,
    /// SIGTERM came: end when nobody needs us.
    leaving: bool,
    complaints: u32,
    /// Told in every Hello.
    remarks: Vec<String>,
    /// Who bore the marks of a slot when we began, by slot; looked at once, before the slot's first start.
    marked: BTreeMap<SlotName, Vec<ProcessId>>,
    /// How many orphans were reaped that no kill had hit and no look had seen.
    strange_orphans: u64,
}

impl Keeper {
    fn begin(arguments: Arguments) -> Result<Self, KeeperError> {
        for signal in [Signal::PIPE, Signal::XFSZ, Signal::HUP, Signal::INT] {
            doing("ignore a signal", signal::ignore(signal))?;
        }
        let directory = RunDirectory::prepare(&arguments.run_dir).map_err(KeeperError::RunDirectory)?;
        let lock = doing(
            "take over the lock",
            FileLock::inherit(arguments.lock, &directory.lock(), KEEPER_SIGNATURE),
        )?;
        process::name_self("horus-keeper");
        // Not fatal: without it (macOS) orphans go to pid 1 and are found by their papers only.
        let _ = subreaper::become_one();
        let mut remarks = Vec::new();
        let mut handover = Self::take_handover(&mut remarks);
        let given = doing("raise the limit on open files", limits::raise_open_files())?;
        let inherited_open_files = handover.as_ref().map_or(given, Handover::given_open_files);
        let signals = doing("listen for signals", SignalPipe::listen(&[Signal::CHLD, Signal::TERM]))?;
        let poller = doing("make a poller", Poller::new())?;
        let (listener, view) = match handover.as_mut().and_then(Handover::sockets) {
            Some(sockets) => sockets,
            None => (
                doing("listen", talking::listen(&directory.socket()))?,
                doing("listen", talking::listen(&directory.view_socket()))?,
            ),
        };
        doing("poll", poller.add(listener.as_fd(), TOKEN_LISTENER, Interest::Read))?;
        doing("poll", poller.add(view.as_fd(), TOKEN_VIEW, Interest::Read))?;
        doing("poll", poller.add(signals.as_fd(), TOKEN_SIGNALS, Interest::Read))?;
        let me = doing("identify itself", process::identify(process::own_pid()))?;
        let mut keeper = Self {
            boot_id: doing("read the boot id", clock::boot_id())?,
            me: me.unwrap_or(ProcessId { pid: process::own_pid(), start_time: 0 }),
            executable: std::env::current_exe().ok().map(|path| path.display().to_string()),
            cgroup: None,
            controllers: Vec::new(),
            inherited_open_files,
            lock,
            arguments,
            upgrades: handover.as_ref().map_or(0, |handover| handover.upgrades),
            listener,
            signals,
            poller,
            tools: doing("open /dev/null", Tools::new())?,
            client: None,
            observers: Observers::new(view),
            slots: Vec::new(),
            names: BTreeMap::new(),
            busy: true,
            leaving: false,
            complaints: 0,
            remarks,
            marked: BTreeMap::new(),
            strange_orphans: 0,
            directory,
        };
        keeper.open_groups();
        keeper.notice_boot();
        doing("read the slots", keeper.adopt_all(handover))?;
        keeper.notice_the_marked();
        Ok(keeper)
    }

    /// One turn of the loop. `true`: the keeper's work is done.
    fn turn(&mut self) -> io::Result<bool> {
        crash_point("loop.turn");
        let mut ready = Vec::new();
        self.poller.wait(&mut ready, self.patience())?;
        self.busy = false;
        self.handle_ends(&ready);
        if ready.iter().any(|event| event.token == TOKEN_SIGNALS) {
            let signals = self.signals.take()?;
            self.leaving |= signals.contains(&Signal::TERM);
        }
        self.busy |= self.reap_children(REAP_A_TURN);
        if ready.iter().any(|event| event.token == TOKEN_VIEW) {
            self.admit_observers();
        }
        self.observers.serve(clock::monotonic());
        if ready.iter().any(|event| event.token == TOKEN_LISTENER) {
            self.accept();
        }
        if ready.iter().any(|event| event.token == TOKEN_CLIENT) {
            self.receive();
        }
        if self.serve() {
            return Ok(true);
        }
        if self.client.is_none() {
            self.keep_directory();
        }
        self.handle_timers();
        for event in ready.iter().filter(|event| event.token < TOKENS_OF_SLOTS) {
            if let (Kind::Output, index) = Kind::parse(event.token) {
                self.pump(index, PUMP_A_TURN);
            }
        }
        self.flush();
        Ok(self.leaving && self.client.is_none() && self.is_idle())
    }

    /// How long the loop may sleep.
    fn patience(&self) -> Option<Duration> {
        if self.busy {
            return Some(Duration::ZERO);
        }
        let now = clock::monotonic();
        let alone = self.client.is_none().then(|| now + restoring::LOOK_EVERY);
        let due = self.slots.iter().flatten().filter_map(Slot::due).chain(self.observers.due());
        Some(due.chain(alone).min()?.saturating_sub(now))
    }

    /// Ended programs first: what they wrote before goes into the log, and their end to the client, at once. All that
    /// ended in this turn share one look at the process table.
    fn handle_ends(&mut self, ready: &[Ready]) {
        let mut table: Option<Table> = None;
        for event in ready.iter().filter(|event| event.token < TOKENS_OF_SLOTS) {
            match Kind::parse(event.token) {
                (Kind::Report, index) => self.on_report(index),
                (Kind::Process, index) => self.on_ended(index, &mut table),
                (Kind::Output, _) => {}
            }
        }
    }

    fn handle_timers(&mut self) {
        let now = clock::monotonic();
        let due: Vec<usize> = self
            .indices()
            .filter(|index| self.slot(*index).and_then(Slot::due).is_some_and(|due| due <= now))
            .collect();
        for index in due {
            self.look_for_status(index);
            if self.slot(index).and_then(|slot| slot.owed.as_ref()).is_some_and(|owed| owed.next <= now) {
                self.reclaim_locks(index);
            }
            if self.slot(index).and_then(|slot| slot.kill.as_ref()).is_some_and(|kill| kill.next <= now) {
                self.kill_pass(index);
            }
            if self.slot(index).and_then(|slot| slot.sink.as_ref()?.due()).is_some_and(|due| due <= now) {
                self.pump(index, PUMP_A_TURN);
            }
        }
    }

    /// Moves output of one slot, and tells what happened to it.
    pub(crate) fn pump(&mut self, index: usize, budget: usize) {
        let mut notes = Vec::new();
        let Some(slot) = self.slots.get_mut(index).and_then(Option::as_mut) else { return };
        if let (Some(fifo), Some(sink)) = (&slot.fifo, &mut slot.sink) {
            sink.pump(fifo.as_fd(), &mut self.tools, budget, clock::monotonic(), &mut notes);
        }
        let slot = slot.name.clone();
        for note in notes {
            let slot = slot.clone();
            self.tell(match note {
                Note::LineSplit { total } => Event::LineSplit { slot, total },
                Note::Dropped { bytes, error } => Event::OutputDropped { slot, bytes, error },
                Note::Resumed { dropped } => Event::OutputResumed { slot, dropped },
            });
        }
    }

    // ---- slots ------------------------------------------------------------------------------------------------

    pub(crate) fn slot(&self, index: usize) -> Option<&Slot> {
        self.slots.get(index).and_then(Option::as_ref)
    }

    pub(crate) fn slot_mut(&mut self, index: usize) -> Option<&mut Slot> {
        self.slots.get_mut(index).and_then(Option::as_mut)
    }

    pub(crate) fn indices(&self) -> std::ops::Range<usize> {
        0..self.slots.len()
    }

    pub(crate) fn find(&self, name: &SlotName) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// Puts a slot into a hole or at the end; its index.
    pub(crate) fn insert(&mut self, slot: Slot) -> usize {
        let index = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        self.names.insert(slot.name.clone(), index);
        match self.slots.get_mut(index) {
            Some(hole) => *hole = Some(slot),
            None => self.slots.push(Some(slot)),
        }
        index
    }

    /// Whether no program of any slot lives.
    pub(crate) fn is_idle(&self) -> bool {
        self.slots.iter().flatten().all(|slot| {
            slot.main().is_none() && slot.kill.is_none() && !matches!(slot.phase, Phase::Unreadable { .. })
        })
    }
}
