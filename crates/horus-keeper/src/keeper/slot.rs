//! One slot as the keeper holds it.

use crate::keeper::exclusive::{Lock, Owed};
use crate::keeper::killing::Kill;
use crate::keeper::sink::Sink;
use crate::protocol::{
    ExitStatus, Generation, OutOfMemory, SlotName, SlotState, SlotView, StartSpec, UnreadableSlot,
};
use crate::slots::SlotDirectory;
use horus_sys::cgroup::Cgroup;
use horus_sys::cgroup_limits::{GroupCounts, GroupLimits, Limited};
use horus_sys::launch::{Failed, Report};
use horus_sys::process::{Handle, ProcessId};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A slot: one program after the other under one name.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) name: SlotName,
    pub(crate) directory: SlotDirectory,
    pub(crate) generation: Generation,
    pub(crate) phase: Phase,
    pub(crate) adopted: bool,
    /// Open from the first start to the end of the slot, so that strays of an ended run never block.
    pub(crate) fifo: Option<OwnedFd>,
    /// Whether the loop waits for it.
    pub(crate) fifo_watched: bool,
    pub(crate) sink: Option<Sink>,
    pub(crate) cgroup: Option<Cgroup>,
    /// The limits that were last asked for, and what is in force of them.
    pub(crate) limits: (GroupLimits, Limited),
    /// What its group had counted before the newest run.
    pub(crate) counts: Option<GroupCounts>,
    pub(crate) kill: Option<Kill>,
    /// What it holds for itself, from before its program runs until nobody of its tree lives.
    pub(crate) locks: Vec<Lock>,
    pub(crate) owed: Option<Owed>,
    /// A start that waits until nobody of an earlier life is left.
    pub(crate) pending: Option<Box<StartSpec>>,
    /// The main process of the newest run, ended or not.
    pub(crate) last_main: Option<ProcessId>,
    /// What else came from the slot and was alive at the last look.
    pub(crate) strays: Vec<ProcessId>,
    /// Nothing of this slot is older than this start time; 0 if unknown.
    pub(crate) earliest_start: u64,
}

/// How the newest run stands.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Nothing has run in this boot.
    Empty,
    /// Past the gate; its exec is not reported yet, or is reported failed and its end is awaited.
    Starting { main: Handle, report: Report, failed: Option<Failed> },
    /// The program runs.
    Running { main: Handle },
    /// A process that is not our child ended; its status is still to be learned.
    Ending { main: Handle, since: Duration, look_at: Duration },
    /// What is on disk about it cannot be read: its program may well live. Nothing is started in it blindly.
    Unreadable { why: String },
    /// It ended.
    Ended { process: Option<ProcessId>, status: ExitStatus, out_of_memory: Option<OutOfMemory> },
}

impl Slot {
    pub(crate) fn new(name: SlotName, directory: SlotDirectory) -> Self {
        Self {
            name,
            directory,
            generation: Generation(0),
            phase: Phase::Empty,
            adopted: false,
            fifo: None,
            fifo_watched: false,
            sink: None,
            cgroup: None,
            limits: (GroupLimits::default(), Limited::default()),
            counts: None,
            kill: None,
            locks: Vec::new(),
            owed: None,
            pending: None,
            last_main: None,
            strays: Vec::new(),
            earliest_start: u64::MAX,
        }
    }

    /// The main process, if it is not known to have ended.
    pub(crate) fn main(&self) -> Option<ProcessId> {
        match &self.phase {
            Phase::Starting { main, .. } | Phase::Running { main } | Phase::Ending { main, .. } => {
                Some(main.id())
            }
            Phase::Empty | Phase::Unreadable { .. } | Phase::Ended { .. } => None,
        }
    }

    /// When the slot wants to be looked at although nothing has happened.
    pub(crate) fn due(&self) -> Option<Duration> {
        let ending = match &self.phase {
            Phase::Ending { look_at, .. } => Some(*look_at),
            Phase::Empty
            | Phase::Starting { .. }
            | Phase::Running { .. }
            | Phase::Unreadable { .. }
            | Phase::Ended { .. } => None,
        };
        let kill = self.kill.as_ref().map(|kill| kill.next);
        let sink = self.sink.as_ref().and_then(Sink::due);
        let owed = self.owed.as_ref().map(|owed| owed.next);
        [ending, kill, sink, owed].into_iter().flatten().min()
    }

    /// What is wrong with its records, if it is that kind of slot.
    pub(crate) fn unreadable(&self) -> Option<UnreadableSlot> {
        match &self.phase {
            Phase::Unreadable { why } => Some(UnreadableSlot { slot: self.name.clone(), why: why.clone() }),
            Phase::Empty
            | Phase::Starting { .. }
            | Phase::Running { .. }
            | Phase::Ending { .. }
            | Phase::Ended { .. } => None,
        }
    }

    /// How it stands; `None` if nobody knows.
    pub(crate) fn view(&self) -> Option<SlotView> {
        let state = match &self.phase {
            Phase::Unreadable { .. } => return None,
            Phase::Empty => SlotState::Empty,
            Phase::Starting { main, .. } => SlotState::Starting(main.id()),
            Phase::Running { main } => SlotState::Running(main.id()),
            Phase::Ending { main, .. } => SlotState::Ending(main.id()),
            Phase::Ended { process, status, out_of_memory } => {
                SlotState::Ended { process: *process, status: *status, out_of_memory: *out_of_memory }
            }
        };
        let (slot, generation) = (self.name.clone(), self.generation);
        Some(SlotView { slot, generation, state, adopted: self.adopted })
    }
}
