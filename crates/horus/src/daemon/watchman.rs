//! Who watches the watchman: a thread that sees whether the judge's loop turns, and ends a Horus whose loop does not.
//!
//! ```text
//!   loop:      turn  turn  turn  . . . . . . . . . . . . . . . .
//!   watchman:    ok    ok    ?     asked  late: logged    hung: evidence, abort
//!                            +--- LATE ---+------- HUNG --+
//! ```
//!
//! A plain thread, outside the runtime, that takes no lock of anybody and waits for nobody. An idle loop sleeps for up to an
//! hour, so one that has not turned is asked to; only one that does not even do that is late. What is held against the
//! loop is time in which it could have turned: not a sleep of the machine (the clock does not count it), not a time in
//! which the whole process was stopped or starved (then the watchman itself was late), not a wait for a processor.
//!
//! The abort is a restart: children live under the keeper, and the next Horus takes them over. systemd's own watchdog
//! (`systemd::Duties`) does the same from outside, for the day on which even this thread stands still.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use horus_core::time::Human;
use horus_sys::facts;
use horus_sys::self_stack::Subject;
use horus_sys::{clock, process};
use tokio::sync::mpsc;

use super::last_words::LastWords;
use super::owner::Call;
use super::test_hook;

/// How often the loop is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A loop that has not turned for so long is logged.
const LATE: Duration = Duration::from_secs(6);

/// A loop that has not turned for so long hangs. Everything that it does is bounded far below; a restart takes one second.
const HUNG: Duration = Duration::from_secs(20);

/// How long the loop's thread may take to say where it stands: names are looked up in a large file, perhaps on a slow disk.
const STACK_MAX: Duration = Duration::from_secs(10);

/// What the loop shows of itself.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    turns: AtomicU64,
}

impl Pulse {
    /// The loop has turned.
    pub(super) fn turned(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has.
    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }
}

/// The running thread. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Watchman {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Drop for Watchman {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
    }
}

/// Begins to watch the loop, which runs on the calling thread.
pub(super) fn watch(pulse: Arc<Pulse>, calls: mpsc::Sender<Call>) -> std::io::Result<Watchman> {
    let subject = Subject::this_thread()?;
    let ended = Arc::new(AtomicBool::new(false));
    let hung_after = test_hook::hung_after().unwrap_or(HUNG);
    let shift =
        Shift { pulse, calls, subject, ended: Arc::clone(&ended), patience: Patience::new(hung_after) };
    let thread = std::thread::Builder::new().name("horus-watchman".into()).spawn(move || shift.run())?;
    Ok(Watchman { ended, thread })
}

struct Shift {
    pulse: Arc<Pulse>,
    calls: mpsc::Sender<Call>,
    subject: Subject,
    ended: Arc<AtomicBool>,
    patience: Patience,
}

impl Shift {
    fn run(mut self) {
        let look_every = LOOK_EVERY.min(self.patience.hung_after / 4);
        let (mut last, mut waited) = (clock::monotonic(), Duration::ZERO);
        loop {
            std::thread::park_timeout(look_every);
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            let now = clock::monotonic();
            let passed = now.saturating_sub(std::mem::replace(&mut last, now));
            // Reading what the kernel counts is dear, and needed only once the loop is late.
            let excused = match self.patience.is_late() {
                true => self.excuse(&mut waited),
                false => Excuse::None,
            };
            let look = Look { turns: self.pulse.turns(), passed: passed.min(look_every * 2), excused };
            match self.patience.look(look) {
                Finding::Turns => {}
                // A full channel is full of calls that turn the loop as well.
                Finding::Idle => drop(self.calls.try_send(Call::Turn)),
                Finding::Late(stood) => {
                    tracing::warn!("the judge's loop has not turned for {}", Human(stood))
                }
                Finding::Again(stood) => {
                    tracing::warn!("the judge's loop turns again, after {}", Human(stood));
                }
                Finding::Hung(stood) => self.give_up(stood),
            }
        }
    }

    /// What of the last moments is not to be held against the loop.
    fn excuse(&self, waited: &mut Duration) -> Excuse {
        let threads = facts::threads(process::own_pid()).known().unwrap_or_default();
        // The loop runs on the first thread.
        let Some(own) = threads.first() else { return Excuse::None };
        if matches!(own.state, 'T' | 't') {
            return Excuse::Stopped;
        }
        let total = own.runqueue_wait_ns.as_known().copied().map(Duration::from_nanos).unwrap_or_default();
        let before = std::mem::replace(waited, total);
        // The first look has nothing to compare with.
        let since = if before.is_zero() { Duration::ZERO } else { total.saturating_sub(before) };
        Excuse::Starved(since)
    }

    fn give_up(&self, stood: Duration) -> ! {
        let what = format!(
            "the judge's loop has not turned for {}; Horus ends itself to be started anew",
            Human(stood)
        );
        // Without the stack first: to ask for it is the last thing that may be done in a process that lives.
        let words = LastWords::now(what);
        let stack = self.subject.last_words(STACK_MAX);
        words.with_stack("horus", stack).say_and_abort()
    }
}

/// One look at the loop.
#[derive(Clone, Copy, Debug)]
struct Look {
    turns: u64,
    /// Since the last look; never much more than the pause between two: what is beyond was no time for the loop either.
    passed: Duration,
    excused: Excuse,
}

#[derive(Clone, Copy, Debug)]
enum Excuse {
    None,
    /// It was stopped by a signal or by a debugger.
    Stopped,
    /// It wanted to run for so long and was not let.
    Starved(Duration),
}

#[must_use]
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// It turned.
    Turns,
    /// It did not, which is no fault of one that was not asked.
    Idle,
    /// It was asked and has not for too long. Said once.
    Late(Duration),
    /// It was late and turns again.
    Again(Duration),
    Hung(Duration),
}

/// How much the loop is trusted. Pure: it has no clock.
#[derive(Debug)]
struct Patience {
    hung_after: Duration,
    turns: u64,
    stood: Duration,
    told: bool,
}

impl Patience {
    fn new(hung_after: Duration) -> Self {
        Self { hung_after, turns: 0, stood: Duration::ZERO, told: false }
    }

    fn is_late(&self) -> bool {
        self.stood >= self.late_after() / 2
    }

    fn late_after(&self) -> Duration {
        LATE.min(self.hung_after / 2)
    }

    fn look(&mut self, look: Look) -> Finding {
        if look.turns != self.turns {
            self.turns = look.turns;
            let stood = std::mem::take(&mut self.stood);
            return if std::mem::take(&mut self.told) { Finding::Again(stood) } else { Finding::Turns };
        }
        self.stood += match look.excused {
            Excuse::None => look.passed,
            Excuse::Stopped => Duration::ZERO,
            Excuse::Starved(wait) => look.passed.saturating_sub(wait),
        };
        if self.stood >= self.hung_after {
            Finding::Hung(self.stood)
        } else if self.stood >= self.late_after() && !std::mem::replace(&mut self.told, true) {
            Finding::Late(self.stood)
        } else {
            Finding::Idle
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = LOOK_EVERY;

    fn stands(patience: &mut Patience, excused: Excuse) -> Finding {
        patience.look(Look { turns: 0, passed: PAUSE, excused })
    }

    #[test]
    fn a_loop_that_stands_is_asked_then_late_then_hung() {
        let mut patience = Patience::new(HUNG);
        let findings: Vec<Finding> = (0..10).map(|_| stands(&mut patience, Excuse::None)).collect();
        assert_eq!(findings[..2], [Finding::Idle, Finding::Idle]);
        assert_eq!(findings[2], Finding::Late(LATE));
        assert_eq!(findings[3..9], [const { Finding::Idle }; 6]);
        assert_eq!(findings[9], Finding::Hung(HUNG));
    }

    #[test]
    fn one_turn_is_enough() {
        let mut patience = Patience::new(HUNG);
        for turns in 1..100 {
            for _ in 0..4 {
                let finding = patience.look(Look { turns, passed: PAUSE, excused: Excuse::None });
                assert!(!matches!(finding, Finding::Hung(_)));
            }
        }
        let finding = patience.look(Look { turns: 100, passed: PAUSE, excused: Excuse::None });
        assert_eq!(finding, Finding::Again(LATE));
    }

    #[test]
    fn stopped_and_starved_time_is_not_the_loops_fault() {
        let mut patience = Patience::new(HUNG);
        for _ in 0..1_000 {
            assert_eq!(stands(&mut patience, Excuse::Stopped), Finding::Idle);
            assert_eq!(stands(&mut patience, Excuse::Starved(PAUSE)), Finding::Idle);
        }
        // Half of the time it could have run.
        let half =
            (0..).find(|_| matches!(stands(&mut patience, Excuse::Starved(PAUSE / 2)), Finding::Hung(_)));
        assert_eq!(half, Some(19));
    }
}
