//! What is tried: real programs in known modes, and what has to be said and done about each.

use std::time::Duration;

use horus_core::verdict::Verdict;

/// In what a program is written, and by what it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    Asyncio,
    Uvloop,
    Threads,
    Node,
    TokioMulti,
    TokioCurrent,
    Go,
    C,
    Nginx,
}

impl Family {
    /// Its heading.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Asyncio => "Python, asyncio",
            Self::Uvloop => "Python, uvloop",
            Self::Threads => "Python, threads",
            Self::Node => "Node",
            Self::TokioMulti => "Rust, tokio with two workers",
            Self::TokioCurrent => "Rust, tokio on one thread",
            Self::Go => "Go",
            Self::C => "C, epoll",
            Self::Nginx => "nginx",
        }
    }

    /// In names of services.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Asyncio => "asyncio",
            Self::Uvloop => "uvloop",
            Self::Threads => "threads",
            Self::Node => "node",
            Self::TokioMulti => "tokio-multi",
            Self::TokioCurrent => "tokio-current",
            Self::Go => "go",
            Self::C => "c",
            Self::Nginx => "nginx",
        }
    }
}

/// What is true of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    Hung,
    Held,
    WorkDead,
    Busy,
    Slow,
    Idle,
    Healthy,
}

impl Truth {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Hung => "hung",
            Self::Held => "held by somebody",
            Self::WorkDead => "work dead",
            Self::Busy => "busy",
            Self::Slow => "slow",
            Self::Idle => "idle",
            Self::Healthy => "healthy",
        }
    }
}

/// How a program is brought into its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// It is told to, and says when it does.
    Order,
    /// The same, and then somebody wants to be served.
    OrderAndKnock,
    /// SIGSTOP.
    Stop,
    /// A tracer seizes and stops it.
    Trace,
    /// Its control group is frozen, by this version.
    Freeze(u8),
    /// Its control group may keep no more than a part of the memory that it is told to use; the rest goes to swap.
    Squeeze,
    /// It is what it is.
    Nothing,
}

impl Act {
    /// The program goes into its mode by itself, when it is told to.
    pub(crate) fn is_ordered(self) -> bool {
        matches!(self, Self::Order | Self::OrderAndKnock | Self::Squeeze)
    }

    /// Not every machine has it.
    pub(crate) fn may_be_missing(self) -> bool {
        matches!(self, Self::Trace | Self::Freeze(_) | Self::Squeeze)
    }
}

/// What Horus does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Did {
    Nothing,
    Told,
    Restarted,
}

impl Did {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Told => "told a person",
            Self::Restarted => "restarted it",
        }
    }
}

/// What has to come of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) did: Did,
    /// The word that led to it, which is one of these; of a program that is left alone: every word that was ever said.
    pub(crate) verdicts: &'static [Verdict],
    /// What the evidence names: the call, the other end, the function.
    pub(crate) place: &'static [&'static str],
}

impl Expected {
    const fn new(did: Did, verdicts: &'static [Verdict]) -> Self {
        Self { did, verdicts, place: &[] }
    }

    const fn at(self, place: &'static [&'static str]) -> Self {
        Self { place, ..self }
    }
}

const fn restarted(verdicts: &'static [Verdict]) -> Expected {
    Expected::new(Did::Restarted, verdicts)
}

const fn told(verdicts: &'static [Verdict]) -> Expected {
    Expected::new(Did::Told, verdicts)
}

const fn left(verdicts: &'static [Verdict]) -> Expected {
    Expected::new(Did::Nothing, verdicts)
}

/// One program in one mode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode {
    pub(crate) family: Family,
    /// The word on its command line.
    pub(crate) word: &'static str,
    /// For people.
    pub(crate) what: &'static str,
    pub(crate) truth: Truth,
    pub(crate) act: Act,
    /// It keeps a processor busy.
    pub(crate) burns: bool,
    /// Its counter of work has to move.
    pub(crate) counts: bool,
    /// For how long it is watched if it is to be left alone: it takes so long until it is over.
    pub(crate) takes: Duration,
    /// What comes of it when it beats, and when nothing beats.
    pub(crate) beating: Option<Expected>,
    pub(crate) blind: Option<Expected>,
}

impl Mode {
    const fn new(family: Family, word: &'static str, truth: Truth, what: &'static str) -> Self {
        let act = match truth {
            Truth::Healthy | Truth::Idle => Act::Nothing,
            _ => Act::Order,
        };
        Self {
            family,
            word,
            what,
            truth,
            act,
            burns: false,
            counts: false,
            takes: Duration::ZERO,
            beating: None,
            blind: None,
        }
    }

    const fn beating(self, expected: Expected) -> Self {
        Self { beating: Some(expected), ..self }
    }

    const fn blind(self, expected: Expected) -> Self {
        Self { blind: Some(expected), ..self }
    }

    const fn burns(self) -> Self {
        Self { burns: true, ..self }
    }

    const fn counts(self) -> Self {
        Self { counts: true, ..self }
    }

    const fn takes(self, takes: Duration) -> Self {
        Self { takes, ..self }
    }

    const fn act(self, act: Act) -> Self {
        Self { act, ..self }
    }

    /// Hung in a call: proven, restarted where a tick is missed (by the proof, or by absence if that is late), told where nothing
    /// beats.
    const fn blocks(
        family: Family,
        word: &'static str,
        what: &'static str,
        at: &'static [&'static str],
    ) -> Self {
        Self::new(family, word, Truth::Hung, what)
            .beating(restarted(&[Verdict::Blocked, Verdict::Silent]).at(at))
            .blind(told(&[Verdict::Blocked]).at(at))
    }

    /// Hung in a computation.
    const fn spins(
        family: Family,
        word: &'static str,
        what: &'static str,
        at: &'static [&'static str],
    ) -> Self {
        Self::new(family, word, Truth::Hung, what)
            .burns()
            .beating(restarted(&[Verdict::Spinning, Verdict::Silent]).at(at))
            .blind(told(&[Verdict::Spinning]).at(at))
    }

    /// Somebody else holds it: told, and never restarted.
    const fn held(family: Family, word: &'static str, what: &'static str, verdict: Verdict) -> Self {
        let verdicts = match verdict {
            Verdict::Stopped => &[Verdict::Stopped],
            Verdict::Paused => &[Verdict::Paused],
            Verdict::Thrashing => &[Verdict::Thrashing],
            _ => &[Verdict::Uninterruptible],
        };
        Self::new(family, word, Truth::Held, what).beating(told(verdicts)).blind(told(verdicts))
    }

    /// Well, whatever it looks like for a while.
    const fn well(family: Family, word: &'static str, truth: Truth, what: &'static str) -> Self {
        Self::new(family, word, truth, what).beating(left(WELL)).blind(left(WELL))
    }
}

const WELL: &[Verdict] = &[Verdict::Healthy, Verdict::Slow, Verdict::Starved];
/// A beat at half of the deadline, and a block of 3 s: now and then its deadline passes, and nothing is done.
const SLOW: &[Verdict] =
    &[Verdict::Slow, Verdict::Healthy, Verdict::Starved, Verdict::Silent, Verdict::Lying];
const NO_LOOP: &[Verdict] = &[Verdict::Unknown];

/// A mode, with or without beats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) mode: Mode,
    pub(crate) beats: bool,
    pub(crate) expected: Expected,
}

impl Case {
    /// Its service's name.
    pub(crate) fn name(&self) -> String {
        let blind = if self.beats { "" } else { "-blind" };
        format!("{}-{}{blind}", self.mode.family.word(), self.mode.word)
    }

    /// Its deadline. Those that burn have a shorter one: they take turns on the processors.
    pub(crate) fn deadline(&self) -> Duration {
        let seconds = match (self.mode.burns, self.beats) {
            (false, _) => 5,
            (true, true) => 2,
            (true, false) => 1,
        };
        Duration::from_secs(seconds)
    }
}

/// All cases.
pub(crate) fn all() -> Vec<Case> {
    let both = |mode: &Mode| {
        let mode = *mode;
        let case = |beats| move |expected| Case { mode, beats, expected };
        [mode.beating.map(case(true)), mode.blind.map(case(false))]
    };
    MODES.iter().flat_map(both).flatten().collect()
}

use Family as F;
use Truth as T;
use Verdict as V;

/// All modes.
pub(crate) const MODES: &[Mode] = &[
    Mode::blocks(
        F::Asyncio,
        "recv",
        "`recv` without a timeout",
        &["recv from 127.0.0.1:", "ask_the_exchange (loops.py:"],
    ),
    Mode::blocks(
        F::Asyncio,
        "http",
        "HTTP without a timeout",
        &["recv from 127.0.0.1:", "fetch_the_order_book (loops.py:"],
    ),
    Mode::blocks(F::Asyncio, "flock", "a lock on a file", &["a lock of /", "lock_the_ledger (loops.py:"]),
    Mode::blocks(F::Asyncio, "pipe", "a full pipe", &["a pipe", "write_to_a_reader_who_left (loops.py:"]),
    Mode::blocks(F::Asyncio, "wait", "`subprocess.run`", &["a child process", "run_the_report (loops.py:"]),
    Mode::blocks(
        F::Asyncio,
        "gil",
        "C code keeps the interpreter locked",
        &["sleep_with_the_interpreter_locked (loops.py:"],
    ),
    Mode::blocks(
        F::Asyncio,
        "lock",
        "two threads, two locks",
        &["a lock", "take_two_locks_in_the_other_order (loops.py:"],
    ),
    Mode::blocks(
        F::Asyncio,
        "deaf",
        "`recv`, and SIGTERM is ignored",
        &["recv from 127.0.0.1:", "ask_the_exchange (loops.py:"],
    ),
    Mode::new(F::Asyncio, "liar", T::Hung, "`recv`, and a thread beats on")
        .beating(told(&[V::Blocked]).at(&["recv from 127.0.0.1:", "ask_the_exchange (loops.py:"]))
        .blind(told(&[V::Blocked]).at(&["recv from 127.0.0.1:", "ask_the_exchange (loops.py:"])),
    Mode::new(F::Asyncio, "liar-counts", T::Hung, "the same, with a declared counter of its turns")
        .counts()
        .beating(restarted(&[V::WorkStalled]).at(&["ask_the_exchange (loops.py:"])),
    Mode::spins(F::Asyncio, "busy", "computes for ever", &["compute_for_ever (loops.py:"]),
    Mode::spins(F::Asyncio, "regex", "a hopeless pattern", &["match_a_hopeless_pattern (loops.py:"]),
    Mode::new(F::Asyncio, "never", T::WorkDead, "a future that never resolves")
        .counts()
        .beating(restarted(&[V::WorkStalled]))
        .blind(left(WELL)),
    Mode::new(F::Asyncio, "async-lock", T::WorkDead, "a task locks twice")
        .counts()
        .beating(restarted(&[V::WorkStalled]))
        .blind(left(WELL)),
    Mode::new(F::Asyncio, "died", T::WorkDead, "the task of the work died")
        .counts()
        .beating(restarted(&[V::WorkStalled]))
        .blind(left(WELL)),
    Mode::new(F::Asyncio, "pool", T::WorkDead, "all threads of the pool are stuck")
        .counts()
        .beating(restarted(&[V::WorkStalled]))
        .blind(left(WELL)),
    Mode::new(F::Asyncio, "batch", T::Busy, "45 s of computing in one piece, declared")
        .takes(Duration::from_secs(60))
        .burns()
        .beating(left(&[V::Busy, V::Healthy, V::Slow]))
        .blind(told(&[V::Spinning])),
    Mode::new(F::Asyncio, "storm", T::Busy, "fails and tries again without a pause")
        .burns()
        .beating(left(WELL))
        .blind(told(&[V::Spinning])),
    Mode::well(F::Asyncio, "worker", T::Busy, "a thread computes beside the loop").burns().act(Act::Order),
    Mode::new(F::Asyncio, "slow", T::Slow, "blocks for 3 of 5 s").beating(left(SLOW)).blind(left(SLOW)),
    Mode::well(F::Asyncio, "idle", T::Idle, "waits for what does not come"),
    Mode::well(F::Asyncio, "healthy", T::Healthy, "20 turns a second"),
    Mode::held(F::Asyncio, "stopped", "SIGSTOP", V::Stopped).act(Act::Stop),
    Mode::held(F::Asyncio, "traced", "a tracer has stopped it", V::Stopped).act(Act::Trace),
    Mode::held(F::Asyncio, "frozen-1", "its control group of version 1 is frozen", V::Paused)
        .act(Act::Freeze(1)),
    Mode::held(F::Asyncio, "frozen-2", "its control group of version 2 is frozen", V::Paused)
        .act(Act::Freeze(2)),
    Mode::held(
        F::Asyncio,
        "thrash",
        "sweeps memory of which a quarter fits, the rest is in swap",
        V::Thrashing,
    )
    .beating(told(&[V::Thrashing, V::Silent]))
    .act(Act::Squeeze),
    Mode::blocks(
        F::Uvloop,
        "recv",
        "`recv` without a timeout",
        &["recv from 127.0.0.1:", "ask_the_exchange (loops.py:"],
    ),
    Mode::blocks(
        F::Uvloop,
        "lock",
        "two threads, two locks",
        &["a lock", "take_two_locks_in_the_other_order (loops.py:"],
    ),
    Mode::spins(F::Uvloop, "busy", "computes for ever", &["compute_for_ever (loops.py:"]),
    Mode::new(F::Uvloop, "slow", T::Slow, "blocks for 3 of 5 s").beating(left(SLOW)).blind(left(SLOW)),
    Mode::well(F::Uvloop, "idle", T::Idle, "waits for what does not come"),
    Mode::well(F::Uvloop, "healthy", T::Healthy, "20 turns a second"),
    Mode::new(F::Threads, "lock", T::Hung, "two writers, two locks; the main thread goes on")
        .beating(restarted(&[V::Silent, V::Lying]))
        .blind(left(NO_LOOP)),
    Mode::new(F::Threads, "sleep", T::Hung, "the main thread sleeps for an hour")
        .beating(restarted(&[V::Silent, V::Blocked]))
        .blind(left(NO_LOOP)),
    Mode::new(F::Threads, "healthy", T::Healthy, "20 turns a second")
        .beating(left(WELL))
        .blind(left(NO_LOOP)),
    Mode::blocks(F::Node, "exec", "`execSync`", &[]),
    Mode::blocks(F::Node, "fifo", "reads a FIFO that nobody writes", &[]),
    Mode::blocks(F::Node, "atomics", "`Atomics.wait`", &["a lock or another thread"]),
    Mode::spins(F::Node, "busy", "computes for ever", &[]),
    Mode::spins(F::Node, "regex", "a hopeless pattern", &[]),
    Mode::new(F::Node, "microtasks", T::Hung, "promises that never let go")
        .burns()
        .beating(restarted(&[V::Spinning, V::Silent]))
        .blind(told(&[V::Spinning])),
    Mode::new(F::Node, "never", T::WorkDead, "a promise that never resolves")
        .counts()
        .beating(restarted(&[V::WorkStalled]))
        .blind(left(WELL)),
    Mode::new(F::Node, "slow", T::Slow, "blocks for 3 of 5 s").beating(left(SLOW)).blind(left(SLOW)),
    Mode::well(F::Node, "idle", T::Idle, "a turn a second"),
    Mode::well(F::Node, "healthy", T::Healthy, "20 turns a second"),
    Mode::held(F::Node, "stopped", "SIGSTOP", V::Stopped).act(Act::Stop),
    Mode::blocks(F::TokioMulti, "block-one", "one worker in `recv`", &["from 127.0.0.1:"]),
    Mode::blocks(F::TokioMulti, "block-all", "all workers in `recv`", &["from 127.0.0.1:"]),
    Mode::blocks(F::TokioMulti, "mutex", "locks twice", &["a lock"]),
    Mode::spins(F::TokioMulti, "spin", "computes for ever", &[]),
    Mode::new(F::TokioMulti, "never", T::WorkDead, "a future that never resolves")
        .counts()
        .beating(restarted(&[V::WorkStalled]))
        .blind(left(WELL)),
    Mode::well(F::TokioMulti, "idle", T::Idle, "a turn a second"),
    Mode::well(F::TokioMulti, "healthy", T::Healthy, "20 turns a second"),
    Mode::blocks(F::TokioCurrent, "block-one", "its thread in `recv`", &["from 127.0.0.1:"]),
    Mode::blocks(F::TokioCurrent, "mutex", "locks twice", &["a lock"]),
    Mode::spins(F::TokioCurrent, "spin", "computes for ever", &[]),
    Mode::well(F::TokioCurrent, "healthy", T::Healthy, "20 turns a second"),
    Mode::new(F::Go, "handlers", T::Hung, "all handlers wait for one lock")
        .beating(restarted(&[V::Silent]))
        .blind(left(WELL)),
    Mode::new(F::Go, "self", T::Hung, "the working goroutine locks twice")
        .beating(restarted(&[V::Silent]))
        .blind(left(WELL)),
    Mode::well(F::Go, "one", T::Busy, "one goroutine computes for ever").burns().act(Act::Order),
    Mode::well(F::Go, "all", T::Busy, "as many goroutines as processors compute for ever")
        .burns()
        // Whoever computes there is made to take turns: others go on, more slowly, and no loop stands still.
        .act(Act::Order),
    Mode::well(F::Go, "healthy", T::Healthy, "20 turns a second"),
    Mode::blocks(
        F::C,
        "deadlock",
        "two threads, two locks",
        &["a lock or another thread", "lock_in_the_other_order"],
    ),
    Mode::blocks(F::C, "self-lock", "locks twice", &["a lock or another thread", "lock_twice"]),
    Mode::blocks(F::C, "read", "`read` from a pipe", &["a pipe", "read_what_nobody_writes"]),
    Mode::blocks(F::C, "pause", "`pause`", &["pause"]),
    Mode::blocks(F::C, "sleep", "sleeps for days", &["a sleep"]),
    Mode::spins(F::C, "spin", "computes for ever", &[]),
    Mode::new(F::C, "deaf", T::Hung, "accepts nobody, and somebody waits")
        .act(Act::OrderAndKnock)
        .beating(told(&[V::Undrained]))
        .blind(told(&[V::Undrained])),
    Mode::held(F::C, "vfork", "waits for a child that does not exec (state D)", V::Uninterruptible)
        .act(Act::Order),
    Mode::well(F::C, "idle", T::Idle, "waits for what does not come"),
    Mode::well(F::C, "healthy", T::Healthy, "20 turns a second"),
    Mode::well(F::Nginx, "idle", T::Idle, "nobody asks; where it beats: twice a second"),
];
