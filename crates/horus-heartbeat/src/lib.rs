//! What a supervised Rust program links, so that Horus can tell *working* from merely *existing*.
//!
//! A beat is one sign of life; the **tick** (`seq`) inside it is the part that is hard to fake: it moves only
//! when the program's own main loop turned. An endpoint that answers 200 over a dead loop shows a tick that
//! stands still.
//!
//! ```no_run
//! use std::time::Duration;
//! use horus_heartbeat::Beat;
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let beat = Beat::from_env();                              // reads NOTIFY_SOCKET, WATCHDOG_USEC
//!     let _beating = beat.serve("127.0.0.1:7801".parse()?)?;    // GET /heartbeat
//!     let filled = beat.counter("orders_filled");
//!     beat.ready();                                             // READY=1, once the start is really done
//!     loop {
//!         tokio::time::sleep(Duration::from_millis(100)).await; // the work of one turn
//!         filled.increment();
//!         beat.tick();                                          // last, so that it vouches for the turn
//!     }
//! }
//! ```
//!
//! # What proves what
//!
//! | sign | moved by | proves | does not prove |
//! | --- | --- | --- | --- |
//! | `seq` by [`Beat::tick`] | your loop | that loop turned | that it did anything useful |
//! | `seq` by [`Beat::tick_from_runtime`] | a timer task | the async runtime schedules | that any task of yours runs |
//! | `loop_lag_ms` | a timer task, planned against real wake time | how late the runtime is, now | as above |
//! | `worker_lag_ms` by [`Beat::watch_workers`] | a thread beside the runtime | that each worker rests or takes tasks | that they are your tasks |
//! | `progress` | your work | that stage produced something | |
//! | a 200 | the endpoint's task | the endpoint's task runs | anything else |
//!
//! # Where the endpoint runs
//!
//! [`Beat::serve`] answers from your runtime: when the runtime is blocked, the beat goes silent too, and
//! silence is honest. That is the default. [`Beat::serve_from_thread`] answers from a thread of its own: it
//! goes on while your loop hangs, with a tick that stands still and a lag that grows, so Horus learns *that*
//! the loop is dead without having to ask whether the network is. Choose it when one turn of the loop may
//! rightly block for long. A few read-only pages can stand beside the beat ([`Beat::serve_with`]); a program
//! with its own HTTP server calls [`Beat::attach`] and serves [`Beat::answer`] itself.
//!
//! Everything is bounded: [`MAX_NAMES`], [`MAX_CONNECTIONS`], [`MAX_HEADER_BYTES`], [`MAX_BUSY`]. Nothing
//! here panics, blocks the caller or fails the program: a beat that cannot be sent is counted
//! (`notify_dropped`) and forgotten.

#![forbid(unsafe_code)]

mod drain;
pub mod fault;
mod meter;
mod names;
mod notify;
mod report;
mod serve;
mod workers;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use crate::drain::{Drain, Draining};
pub use crate::names::{Counter, Gauge, MAX_NAME_BYTES, MAX_NAMES};
pub use crate::report::{Report, SCHEMA, State};
pub use crate::serve::{Beating, MAX_CONNECTIONS, MAX_HEADER_BYTES, ServeError};
pub use crate::workers::{MAX_WORKERS, WorkerWatch};

use crate::meter::Meter;
use crate::names::Names;
use crate::notify::Notifier;
use crate::workers::{TURNING_WITHIN, Workers};

/// The longest step that [`Beat::busy`] can declare; a longer wish is cut to this.
pub const MAX_BUSY: Duration = Duration::from_secs(2 * 60 * 60);

/// The gauge of [`Beat::watch_workers`].
pub const WORKERS_TURNING: &str = "workers_turning";

/// The longest status text that is kept, in bytes; the rest is cut off.
pub const MAX_STATUS_BYTES: usize = 256;

/// The program's beat. Cheap to clone; all clones are the same beat.
#[derive(Clone, Debug)]
pub struct Beat {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    seq: AtomicU64,
    ready: AtomicBool,
    muted: AtomicBool,
    from_runtime: AtomicBool,
    pub(crate) meter: Meter,
    pub(crate) workers: Workers,
    names: Names,
    declared: Mutex<Declared>,
    pub(crate) notifier: Option<Notifier>,
}

/// What the program said about itself. The loudest wins: halted, then busy, then idle.
#[derive(Debug, Default)]
struct Declared {
    halted: bool,
    idle: u32,
    busy: Vec<(u64, Instant)>,
    next_busy: u64,
    status: Option<String>,
    steps: Vec<(u64, String)>,
    next_step: u64,
}

impl Beat {
    /// The beat of a program that a supervisor started: pushes to `NOTIFY_SOCKET` when it is set, at half of
    /// `WATCHDOG_USEC` (once a second when that is not set). Without a socket it is only pulled.
    #[must_use]
    pub fn from_env() -> Self {
        Self::with_notifier(Notifier::from_env())
    }

    /// A beat that is only pulled.
    #[must_use]
    pub fn new() -> Self {
        Self::with_notifier(None)
    }

    /// A beat that pushes sd_notify datagrams to `socket` every `every` (between 100 ms and 10 s) while it is
    /// attached.
    #[must_use]
    pub fn with_socket(socket: impl Into<PathBuf>, every: Duration) -> Self {
        Self::with_notifier(Notifier::at(socket.into(), every))
    }

    fn with_notifier(notifier: Option<Notifier>) -> Self {
        Self {
            shared: Arc::new(Shared {
                seq: AtomicU64::new(0),
                ready: AtomicBool::new(false),
                muted: AtomicBool::new(false),
                from_runtime: AtomicBool::new(false),
                meter: Meter::new(),
                workers: Workers::default(),
                names: Names::default(),
                declared: Mutex::default(),
                notifier,
            }),
        }
    }

    /// Says that the main loop has turned once more. Call it at the end of each turn, and nowhere else.
    pub fn tick(&self) {
        self.shared.seq.fetch_add(1, Ordering::Relaxed);
    }

    /// Lets the lag meter's timer task move the tick (four times a second), for programs that have no main
    /// loop of their own. It proves that the runtime schedules, and nothing about your tasks: prefer
    /// [`Beat::tick`].
    pub fn tick_from_runtime(&self) {
        self.shared.from_runtime.store(true, Ordering::Relaxed);
    }

    /// A progress counter: it only grows. The same name gives the same counter. Characters outside
    /// `[A-Za-z0-9_.-]` become `_`. Beyond [`MAX_NAMES`] names the handle still works but is not reported;
    /// `names_dropped` in the beat says so.
    #[must_use]
    pub fn counter(&self, name: &str) -> Counter {
        self.shared.names.counter(name)
    }

    /// A gauge: a number that may fall, such as open slots. Reported among `progress` and listed in `gauges`.
    #[must_use]
    pub fn gauge(&self, name: &str) -> Gauge {
        self.shared.names.gauge(name)
    }

    /// Says once that the start is done: `READY=1`, and `ready` in the pulled beat.
    pub fn ready(&self) {
        if !self.shared.ready.swap(true, Ordering::Relaxed) {
            self.shared.push("READY=1\n");
        }
    }

    /// One line for people: `STATUS=`, and `status` in the pulled beat.
    pub fn status(&self, text: &str) {
        let text = one_line(text);
        self.shared.push(&format!("STATUS={text}\n"));
        self.shared.declared().status = Some(text);
    }

    /// Declares a step that may rightly take until `longest` from now (at most [`MAX_BUSY`]). The declaration
    /// ends when the guard is dropped or when its time is over, whichever is first: a hang inside a busy step
    /// is still found.
    #[must_use = "the declaration ends when this guard is dropped"]
    pub fn busy(&self, longest: Duration) -> Busy {
        let longest = longest.min(MAX_BUSY);
        let id = {
            let mut declared = self.shared.declared();
            let id = declared.next_busy;
            declared.next_busy += 1;
            declared.busy.push((id, Instant::now() + longest));
            id
        };
        // At once, since a step that blocks the runtime leaves no time for the next periodic datagram.
        let until_ms = report::unix_ms_after(longest);
        let extend_us = longest.as_micros();
        self.shared.push(&format!(
            "EXTEND_TIMEOUT_USEC={extend_us}\nX_HORUS_STATE=busy\nX_HORUS_BUSY_UNTIL_MS={until_ms}\n"
        ));
        Busy { shared: Arc::clone(&self.shared), id }
    }

    /// Says which step of its work a batch is in, for `step.*` of the configuration: until the guard is dropped, or for as long as is declared
    /// there, nothing is overdue. Steps may lie within each other; the innermost is told. Characters that would forge a line become
    /// spaces.
    #[must_use = "the step ends when this guard is dropped"]
    pub fn step(&self, name: &str) -> Step {
        let id = {
            let mut declared = self.shared.declared();
            let id = declared.next_step;
            declared.next_step += 1;
            declared.steps.push((id, one_line(name)));
            id
        };
        self.shared.push_step();
        Step { shared: Arc::clone(&self.shared), id }
    }

    /// Looks at each worker of this multi-threaded runtime, from a thread of its own: `worker_lag_ms` in the pulled beat, and the
    /// gauge `workers_turning`, how many of them have turned within the last 2 s. Take it for `expect.workers = { gauge =
    /// "workers_turning", min = 4 }`: a person is told of a worker that is stuck while the others go on; nothing is restarted for it. Workers beyond
    /// [`MAX_WORKERS`] are not looked at.
    ///
    /// # Errors
    /// The thread cannot be started, or there is no runtime here.
    pub fn watch_workers(&self) -> Result<WorkerWatch, ServeError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| ServeError::NoRuntime)?;
        workers::watch(&self.shared, runtime)
    }

    /// Declares an intended pause (nothing to do) for as long as the guard lives.
    #[must_use = "the declaration ends when this guard is dropped"]
    pub fn idle(&self) -> Idle {
        self.shared.declared().idle += 1;
        Idle { shared: Arc::clone(&self.shared) }
    }

    /// Declares that the program stopped itself on purpose and waits for a person. There is no way back in
    /// this process.
    pub fn halted(&self, why: &str) {
        self.shared.declared().halted = true;
        self.shared.push("X_HORUS_STATE=halted\n");
        self.status(why);
    }

    /// Says that an orderly stop has begun: `STOPPING=1`.
    pub fn stopping(&self) {
        self.shared.push("STOPPING=1\n");
    }

    /// The beat as it is now.
    #[must_use]
    pub fn report(&self) -> Report {
        self.shared.report()
    }

    /// The body of `GET /heartbeat`, for a program that serves it with its own HTTP server. Never resolves
    /// once the beat is [muted](Beat::mute).
    pub async fn answer(&self) -> String {
        if self.shared.muted.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.report().to_json()
    }

    /// Fault injection: from now on no question is answered and nothing is pushed, though the program is
    /// well.
    pub fn mute(&self) {
        self.shared.muted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Default for Beat {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    fn declared(&self) -> MutexGuard<'_, Declared> {
        // A panic elsewhere cannot leave these fields half-written in a way that matters.
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn seq(&self) -> u64 {
        self.seq.load(Ordering::Relaxed)
    }

    /// One sample of the lag meter was taken; in runtime-tick mode it is also the tick.
    pub(crate) fn sampled(&self) {
        if self.from_runtime.load(Ordering::Relaxed) {
            self.seq.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn report(&self) -> Report {
        let now = Instant::now();
        let (state, busy_until_ms, status) = {
            let declared = self.declared();
            let busy = declared.busy.iter().map(|(_, end)| *end).filter(|end| *end > now).max();
            let state = match (declared.halted, busy, declared.idle) {
                (true, _, _) => State::Halted,
                (false, Some(_), _) => State::Busy,
                (false, None, 1..) => State::Idle,
                (false, None, 0) => State::Ok,
            };
            let until = busy.filter(|_| state == State::Busy).map(|end| report::unix_ms_after(end - now));
            (state, until, declared.status.clone())
        };
        let (mut progress, mut gauges, names_dropped) = self.names.snapshot();
        let lags = self.workers.lags(now);
        if !lags.is_empty() {
            let turning = lags.iter().filter(|lag| **lag <= TURNING_WITHIN).count();
            progress.insert(WORKERS_TURNING.to_owned(), u64::try_from(turning).unwrap_or(u64::MAX));
            if !gauges.iter().any(|name| name == WORKERS_TURNING) {
                gauges.push(WORKERS_TURNING.to_owned());
            }
        }
        Report {
            schema: SCHEMA,
            seq: self.seq(),
            loop_lag_ms: self.meter.lag_ms(now),
            worker_lag_ms: lags.iter().map(|lag| (lag.as_secs_f64() * 10_000.0).round() / 10.0).collect(),
            state,
            busy_until_ms,
            ready: self.ready.load(Ordering::Relaxed),
            status,
            progress,
            gauges,
            pid: std::process::id(),
            names_dropped,
            notify_dropped: self.notifier.as_ref().map_or(0, Notifier::dropped),
        }
    }

    fn push_step(&self) {
        let innermost = self.declared().steps.last().map(|(_, name)| name.clone());
        self.push(&format!("X_HORUS_STEP={}\n", innermost.unwrap_or_default()));
    }

    fn push(&self, text: &str) {
        if let Some(notifier) = &self.notifier
            && !self.muted.load(Ordering::Relaxed)
        {
            notifier.send(text);
        }
    }

    /// One periodic datagram. `WATCHDOG=1` is in it only if the tick moved since `last_seq` or the program
    /// declared that it need not; the numbers always are, so a helper task's datagram cannot keep a dead loop
    /// alive. Returns the tick it told.
    pub(crate) fn push_beat(&self, last_seq: u64) -> u64 {
        let report = self.report();
        let vouched = report.seq != last_seq || report.state != State::Ok;
        self.push(&notify::beat_datagram(&report, vouched));
        report.seq
    }
}

/// Ends the busy declaration when dropped. See [`Beat::busy`].
#[derive(Debug)]
pub struct Busy {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.shared.declared().busy.retain(|(id, _)| *id != self.id);
    }
}

/// Ends the step when dropped. See [`Beat::step`].
#[derive(Debug)]
pub struct Step {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Step {
    fn drop(&mut self) {
        self.shared.declared().steps.retain(|(id, _)| *id != self.id);
        self.shared.push_step();
    }
}

/// Ends the idle declaration when dropped. See [`Beat::idle`].
#[derive(Debug)]
pub struct Idle {
    shared: Arc<Shared>,
}

impl Drop for Idle {
    fn drop(&mut self) {
        let mut declared = self.shared.declared();
        declared.idle = declared.idle.saturating_sub(1);
    }
}

/// Control characters would forge further lines of a datagram; they become spaces.
fn one_line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut cut = MAX_STATUS_BYTES.min(line.len());
    while !line.is_char_boundary(cut) {
        cut -= 1;
    }
    line.truncate(cut);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_cannot_forge_a_second_line_nor_grow_without_end() {
        assert_eq!(one_line("a\nWATCHDOG=1"), "a WATCHDOG=1");
        let long = one_line(&"ü".repeat(400));
        assert!(long.len() <= MAX_STATUS_BYTES && long.chars().all(|c| c == 'ü'));
    }

    #[tokio::test(start_paused = true)]
    async fn busy_ends_by_its_own_end_even_if_the_guard_lives() {
        let beat = Beat::new();
        let guard = beat.busy(Duration::from_secs(30));
        assert_eq!(beat.report().state, State::Busy);
        assert!(beat.report().busy_until_ms.is_some());
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(beat.report().state, State::Ok);
        assert_eq!(beat.report().busy_until_ms, None);
        drop(guard);
    }

    #[test]
    fn the_loudest_declaration_wins_and_guards_end_it() {
        let beat = Beat::new();
        let idle = beat.idle();
        assert_eq!(beat.report().state, State::Idle);
        let busy = beat.busy(Duration::from_secs(5));
        assert_eq!(beat.report().state, State::Busy);
        drop(busy);
        assert_eq!(beat.report().state, State::Idle);
        drop(idle);
        assert_eq!(beat.report().state, State::Ok);
        beat.halted("loss limit");
        let _busy = beat.busy(Duration::from_secs(5));
        assert_eq!(beat.report().state, State::Halted);
    }

    #[test]
    fn the_tick_moves_only_when_told() {
        let beat = Beat::new();
        let _ = beat.report();
        assert_eq!(beat.report().seq, 0);
        beat.tick();
        beat.clone().tick();
        assert_eq!(beat.report().seq, 2);
    }
}
