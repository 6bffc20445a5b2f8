//! The main loop: turn, tick, wait. Everything that Horus watches is moved here and nowhere else.
//!
//! ```text
//!   loop { signal? ─▶ fault on purpose? ─▶ one turn ─▶ counters, snapshot, status ─▶ tick ─▶ wait or go on }
//! ```
//!
//! The tick is the last act of an iteration, so it vouches for all of it. The loop turns at least twice a second even when
//! nothing is due, and while it waits between two attempts on a full disk.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use horus_heartbeat::fault::{self, Crash, FaultKind, FaultPlan};
use horus_heartbeat::{Beat, Counter, Gauge};
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::item::Stage;
use crate::journal::{Closed, ItemSummary, Journal, JournalError, MissedSummary};
use crate::slot::SlotLength;
use crate::web::{ITEMS_LIMIT, SNAPSHOT_SCHEMA, Snapshot, Web};
use crate::work::{Pipeline, Turn, TurnError, chain_of};

/// The longest wait between two turns of the loop, and so between two ticks.
pub const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// The wait after a first failure; it doubles up to [`RETRY_LONGEST`].
pub const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest wait between two attempts. There is no last attempt.
pub const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// How to run.
#[derive(Debug)]
pub struct Options {
    /// Where the HTTP endpoints listen.
    pub listen: SocketAddr,
    /// The length of a slot.
    pub every: SlotLength,
    /// Where the `once` marker of a fault goes.
    pub state: PathBuf,
    /// What goes wrong on purpose.
    pub fault: Option<CheckedFault>,
}

/// A fault plan that this service knows how to carry out.
#[derive(Debug, Clone)]
pub struct CheckedFault {
    plan: FaultPlan,
    stage: Option<Stage>,
}

/// A fault that this service does not have.
#[derive(Debug, thiserror::Error)]
pub enum FaultRefused {
    /// No such stage.
    #[error("no stage is called `{0}`; there are gather, synthesise, format, deliver, distribute")]
    NoSuchStage(String),
    /// A fault of a newer library.
    #[error("this service does not know the fault `{0}`")]
    Unknown(String),
}

impl CheckedFault {
    /// Checks that `plan` can be carried out here.
    pub fn new(plan: FaultPlan) -> Result<Self, FaultRefused> {
        let stage = match &plan.kind {
            FaultKind::StallStage(name) => {
                Some(Stage::from_name(name).ok_or_else(|| FaultRefused::NoSuchStage(name.clone()))?)
            }
            FaultKind::Hang
            | FaultKind::Lie
            | FaultKind::Crash(_)
            | FaultKind::SlowStart(_)
            | FaultKind::Deaf
            | FaultKind::StopBeat => None,
            _ => return Err(FaultRefused::Unknown(plan.to_string())),
        };
        Ok(Self { plan, stage })
    }
}

/// Why the service could not run on.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Signals cannot be received.
    #[error("cannot receive signals")]
    Signals(#[source] std::io::Error),
    /// The beat cannot start.
    #[error("the beat cannot start")]
    Beat(#[source] horus_heartbeat::ServeError),
    /// Trying again cannot help.
    #[error("the pipeline cannot run")]
    Fatal(#[source] TurnError),
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(pipeline: Pipeline, options: Options) -> Result<ExitCode, ServiceError> {
    let mut signals = Signals::new()?;
    let beat = Beat::from_env();
    let _beating = beat.attach().map_err(ServiceError::Beat)?;
    let (show, shown) = watch::channel(Arc::new(Snapshot { schema: SNAPSHOT_SCHEMA, ..Snapshot::default() }));
    let listen_error = |source| ServiceError::Listen { address: options.listen, source };
    let web = Web::bind(options.listen, beat.clone(), shown).await.map_err(listen_error)?;
    tracing::info!(address = %web.address().map_err(listen_error)?, every = %options.every, "listening");
    let serving = tokio::spawn(web.serve());
    let mut service = Service::new(pipeline, options, beat, show);
    let ended = service.turn_until_stopped(&mut signals).await;
    serving.abort();
    ended
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, ServiceError> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(ServiceError::Signals)?,
            interrupt: signal(SignalKind::interrupt()).map_err(ServiceError::Signals)?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }
}

struct Service {
    pipeline: Pipeline,
    options: Options,
    beat: Beat,
    counters: Counters,
    show: watch::Sender<Arc<Snapshot>>,
    started: Instant,
    retry: Retry,
    /// A slot that stays empty is told until the next one has its topic.
    concern: Option<String>,
    /// Something changed that people are shown.
    news: bool,
    faults: Faults,
}

/// What the fault on purpose did so far.
#[derive(Debug, Default)]
struct Faults {
    decided: bool,
    stalled: Option<Stage>,
    deaf: bool,
    lying: bool,
}

struct Counters {
    gathered: Counter,
    drafted: Counter,
    validated: Counter,
    staged: Counter,
    published: Counter,
    quarantined: Counter,
    missed: Counter,
    retries: Counter,
    queue: Gauge,
}

impl Counters {
    fn new(beat: &Beat) -> Self {
        Self {
            gathered: beat.counter("gathered"),
            drafted: beat.counter("drafted"),
            validated: beat.counter("validated"),
            staged: beat.counter("staged"),
            published: beat.counter("published"),
            quarantined: beat.counter("quarantined"),
            missed: beat.counter("missed"),
            retries: beat.counter("retries"),
            queue: beat.gauge("queue"),
        }
    }

    fn count(&self, turn: &Turn) {
        match turn {
            Turn::Opened { newly_invalid, .. } | Turn::Closed { newly_invalid, .. } => {
                self.quarantined.add(*newly_invalid);
            }
            Turn::Missed(missed) => self.missed.add(missed.count),
            Turn::Advanced(Stage::Gather) => self.gathered.increment(),
            Turn::Advanced(Stage::Synthesise) => self.drafted.increment(),
            Turn::Advanced(Stage::Format) => self.validated.increment(),
            Turn::Advanced(Stage::Deliver) => self.staged.increment(),
            Turn::Advanced(Stage::Distribute) => self.published.increment(),
            Turn::Quarantined(_) => self.quarantined.increment(),
            Turn::Nothing => (),
        }
    }
}

/// Waiting between attempts: doubling, bounded, ended by the first success.
#[derive(Debug, Default)]
struct Retry {
    failures: u32,
    not_before: Option<Instant>,
    problem: Option<String>,
}

impl Retry {
    fn failed(&mut self, now: Instant, problem: String) {
        self.not_before = Some(now + wait_after(self.failures));
        self.failures = self.failures.saturating_add(1);
        self.problem = Some(problem);
    }

    fn waits(&self, now: Instant) -> bool {
        self.not_before.is_some_and(|moment| now < moment)
    }
}

/// What people are shown: the newest items and gaps, and how many items are on their way.
fn look(journal: &Journal) -> Result<(Vec<ItemSummary>, Vec<MissedSummary>, u64), JournalError> {
    Ok((journal.newest(ITEMS_LIMIT)?, journal.missed(ITEMS_LIMIT)?, journal.queue_length()?))
}

/// The wait after the failure with this number, counted from 0.
fn wait_after(failures: u32) -> Duration {
    RETRY_FIRST.saturating_mul(2_u32.saturating_pow(failures)).min(RETRY_LONGEST)
}

/// What the loop does after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
enum Next {
    GoOn,
    Wait(Duration),
    Crash,
}

impl Service {
    fn new(pipeline: Pipeline, options: Options, beat: Beat, show: watch::Sender<Arc<Snapshot>>) -> Self {
        let counters = Counters::new(&beat);
        Self {
            pipeline,
            options,
            beat,
            counters,
            show,
            started: Instant::now(),
            retry: Retry::default(),
            concern: None,
            news: true,
            faults: Faults::default(),
        }
    }

    async fn turn_until_stopped(&mut self, signals: &mut Signals) -> Result<ExitCode, ServiceError> {
        let mut wait = self.slow_start();
        loop {
            tokio::select! {
                biased;
                () = signals.stop() => {
                    if self.faults.deaf {
                        tracing::warn!("fault on purpose: the signal is ignored");
                        continue;
                    }
                    tracing::info!("stopping");
                    self.beat.stopping();
                    return Ok(ExitCode::SUCCESS);
                }
                () = tokio::time::sleep(wait) => (),
            }
            match self.iterate()? {
                Next::GoOn => wait = Duration::ZERO,
                Next::Wait(longest) => wait = longest,
                Next::Crash => return Ok(ExitCode::from(fault::CRASH_EXIT_CODE)),
            }
            // A loop of ready work would otherwise starve the endpoints of this one thread.
            tokio::task::yield_now().await;
        }
    }

    /// One iteration, up to and including the tick.
    fn iterate(&mut self) -> Result<Next, ServiceError> {
        if let Some(next) = self.strike() {
            return Ok(next);
        }
        let next = self.work()?;
        self.tell();
        self.beat.tick();
        Ok(next)
    }

    fn work(&mut self) -> Result<Next, ServiceError> {
        let now = Timestamp::now();
        let idle = Next::Wait(LONGEST_WAIT.min(self.options.every.until_next(now)));
        if self.retry.waits(Instant::now()) {
            return Ok(idle);
        }
        match self.pipeline.turn(now, self.faults.stalled) {
            Ok(turn) => {
                if self.retry.failures > 0 {
                    tracing::info!(attempts = self.retry.failures, "recovered");
                }
                self.news |= self.retry.failures > 0 || turn != Turn::Nothing;
                self.retry = Retry::default();
                self.counters.count(&turn);
                self.note_concern(&turn);
                self.beat.ready();
                Ok(if turn == Turn::Nothing { idle } else { Next::GoOn })
            }
            Err(error) if error.is_fatal() => Err(ServiceError::Fatal(error)),
            Err(error) => {
                let problem = chain_of(&error);
                self.retry.failed(Instant::now(), problem);
                self.news = true;
                self.counters.retries.increment();
                let problem = self.retry.problem.as_deref().unwrap_or_default();
                tracing::warn!(
                    problem,
                    attempt = self.retry.failures,
                    "a step failed and will be tried again"
                );
                Ok(idle)
            }
        }
    }

    fn note_concern(&mut self, turn: &Turn) {
        match turn {
            Turn::Opened { .. } => self.concern = None,
            Turn::Closed { slot, outcome: Closed::Empty, .. } => {
                self.concern = Some(format!("the slot {slot} stays empty: no topic is fit to print"));
            }
            _ => (),
        }
    }

    /// Leaves a snapshot for the endpoints and one line for the beat, when there is news.
    fn tell(&mut self) {
        if !std::mem::take(&mut self.news) {
            return;
        }
        let problem = self.retry.problem.clone().or_else(|| self.concern.clone());
        let before = Arc::clone(&self.show.borrow());
        let mut snapshot = Snapshot { schema: SNAPSHOT_SCHEMA, problem, ..Snapshot::default() };
        match self.pipeline.open_journal().map(look) {
            Some(Ok((items, missed, queue))) => {
                self.counters.queue.set(queue);
                (snapshot.items, snapshot.missed) = (items, missed);
            }
            // A journal that cannot be read now leaves what was known; the problem says the rest.
            Some(Err(_)) | None => {
                (snapshot.items, snapshot.missed) = (before.items.clone(), before.missed.clone());
            }
        }
        let status = match (&self.retry.problem, &self.concern) {
            (Some(problem), _) => format!("retrying: {problem}"),
            (None, Some(concern)) => concern.clone(),
            (None, None) => {
                format!(
                    "{} published, {} on the way",
                    self.counters.published.get(),
                    self.counters.queue.get()
                )
            }
        };
        self.beat.status(&status);
        self.show.send_replace(Arc::new(snapshot));
    }

    /// How long the first turn is held back on purpose.
    fn slow_start(&mut self) -> Duration {
        let Some(fault) = &self.options.fault else { return Duration::ZERO };
        let FaultKind::SlowStart(time) = fault.plan.kind else { return Duration::ZERO };
        if self.claim() {
            tracing::warn!(seconds = time.as_secs(), "fault on purpose: slow start");
            time
        } else {
            Duration::ZERO
        }
    }

    /// Carries out the fault on purpose when its time has come. `Some` takes the place of the turn.
    fn strike(&mut self) -> Option<Next> {
        if self.faults.lying {
            return Some(Next::Wait(LONGEST_WAIT));
        }
        let plan = self.options.fault.as_ref()?.plan.clone();
        let slow_start = matches!(plan.kind, FaultKind::SlowStart(_));
        if self.faults.decided || slow_start || !plan.is_due(self.started.elapsed()) || !self.claim() {
            return None;
        }
        tracing::warn!(fault = %plan, "fault on purpose");
        match plan.kind {
            FaultKind::Hang => fault::hang(),
            FaultKind::Crash(Crash::Exit) => return Some(Next::Crash),
            FaultKind::Crash(Crash::Panic) => {
                #[expect(clippy::panic, reason = "the fault that was asked for")]
                {
                    panic!("fault on purpose: crash=panic");
                }
            }
            FaultKind::Crash(Crash::Abort) => std::process::abort(),
            FaultKind::Lie => {
                self.faults.lying = true;
                return Some(Next::Wait(LONGEST_WAIT));
            }
            FaultKind::StallStage(_) => {
                self.faults.stalled = self.options.fault.as_ref().and_then(|fault| fault.stage);
            }
            FaultKind::Deaf => self.faults.deaf = true,
            FaultKind::StopBeat => self.beat.mute(),
            _ => (),
        }
        None
    }

    /// Asks once whether the fault may strike. A marker that cannot be written means no: it might strike for ever.
    fn claim(&mut self) -> bool {
        let Some(fault) = &self.options.fault else { return false };
        self.faults.decided = true;
        // The marker needs its directory also when the journal, which makes it as well, was not opened yet.
        if let Err(error) = crate::disk::make_directory(&self.options.state) {
            tracing::warn!(problem = chain_of(&error), "no place for the marker of the fault");
        }
        match fault.plan.claim(&self.options.state) {
            Ok(first) => first,
            Err(error) => {
                tracing::warn!(problem = %error, "the fault's marker cannot be written, so the fault does not strike");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_and_is_bounded() {
        let seconds: Vec<u64> = (0..8).map(|failures| wait_after(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(wait_after(u32::MAX), RETRY_LONGEST);
    }

    #[test]
    fn a_fault_at_an_unknown_stage_is_refused_with_the_names() {
        let message = CheckedFault::new("stall-stage=publish".parse().unwrap()).unwrap_err().to_string();
        assert_eq!(
            message,
            "no stage is called `publish`; there are gather, synthesise, format, deliver, distribute"
        );
        for stage in Stage::ALL {
            CheckedFault::new(format!("stall-stage={stage}").parse().unwrap()).unwrap();
        }
    }
}
