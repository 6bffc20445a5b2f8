//! What will happen, in the order of its instants. There are no ticks: the world jumps from one event to the next.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use horus_core::ids::Generation;
use horus_core::observation::Input;

/// Nanoseconds since the world began. The engine's clock is this, moved by a constant.
pub type Nanos = u64;

/// One millisecond.
pub const MS: Nanos = 1_000_000;
/// One second.
pub const SECOND: Nanos = 1_000 * MS;
/// One minute.
pub const MINUTE: Nanos = 60 * SECOND;
/// One hour.
pub const HOUR: Nanos = 60 * MINUTE;
/// One day.
pub const DAY: Nanos = 24 * HOUR;

/// Something that will happen.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The answer of a poll that was sent at `asked` is there, or would be.
    Poll { service: usize, source: usize, watch: u32, asked: Nanos },
    /// A program's loop pushes a beat.
    Push { service: usize, process: u32, epoch: u32 },
    /// Somebody looks at a program from outside, for the `count`-th time.
    View { service: usize, process: u32, epoch: u32, count: u32 },
    /// Something in the life of a program.
    Program { service: usize, process: u32, what: Happening },
    /// Something arrives at Horus, if it is still the same life.
    Arrives { life: u32, input: Box<Input> },
    /// News of the keeper arrives over a link.
    News { links: u32, input: Box<Input> },
    /// The keeper does something on its own time.
    Keeper { keeper: u32, what: KeeperEvent },
    /// The store writes what waits.
    Commit { life: u32 },
    /// The disk, a sink, the host or a person.
    Store { fails: bool },
    /// A sink stops or starts taking messages.
    Sink { fails: bool },
    /// The machine.
    Host(HostEvent),
    /// A person does something.
    Person,
    /// A person changes the plan.
    Reload,
    /// Horus is killed.
    HorusDies,
    /// The next Horus begins.
    HorusComes,
    /// A hang ought to have been seen by now.
    CheckHang { hang: usize },
    /// A time of a job's calendar has come.
    Due { service: usize, calendar: u32 },
    /// Something ought to have become of a job's time by now.
    CheckTime { service: usize },
    /// Faults stop.
    Calm,
    /// People look at what is still open, for the `round`-th time.
    Tidy { round: u32 },
}

/// Something in the life of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    /// Its loop turns for the first time.
    Ready,
    /// The next thing that goes wrong (or is just unusual) with it.
    Mishap,
    /// What went wrong is over.
    Heals { epoch: u32 },
    /// A run of a job has done what it was started for.
    Finishes,
    /// Its work moves again.
    WorkMoves { epoch: u32 },
    /// It ends by itself.
    Ends { code: i32 },
    /// It obeys a signal, or the kernel ends it.
    Dies { signal: i32 },
    /// The last stray is gone.
    StraysGone,
}

/// Something the keeper does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeeperEvent {
    /// It has forked: the program runs from now on.
    Forked { service: usize, generation: Generation },
    /// A kill takes long.
    Stuck { service: usize, generation: Generation },
    /// The grace of a program that is not in the plan is over.
    KillStranger { service: usize, generation: Generation },
    /// It was asked for a start while the last run has not ended.
    Busy { service: usize, generation: Generation },
    /// It dies.
    Dies,
    /// The link to it breaks.
    LinkBreaks,
    /// A new link stands; it says what it has.
    Attached,
}

/// Something about the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostEvent {
    /// Everything begins to be late.
    Starves,
    /// It is over.
    Calms,
    /// Horus alone gets no time.
    StarvesHorus,
    /// It gets time again.
    HorusRuns,
    /// The lid is closed and opened.
    Suspends,
    /// Somebody sets the clock.
    StepsClock,
    /// The machine starts anew.
    Reboots,
    /// Something that all programs need stalls.
    SharedStall,
    /// It is midnight, and something that all programs need is slow then.
    Midnight,
}

#[derive(Debug)]
struct Entry {
    at: Nanos,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    // The heap gives its greatest first, which is to be the earliest; of two at one instant the older.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// All that will happen.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Entry>,
    number: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Nanos, event: Event) {
        self.number += 1;
        self.heap.push(Entry { at, number: self.number, event });
    }

    pub(crate) fn next_at(&self) -> Option<Nanos> {
        self.heap.peek().map(|entry| entry.at)
    }

    pub(crate) fn pop(&mut self) -> Option<(Nanos, Event)> {
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }
}
