//! The running program: one loop that plays the tape, saves, shows and ticks; the beat beside it; faults on
//! purpose.
//!
//! Order of a start: answer HTTP (`ready: false`, tick 0), lock and reconcile the state, refill the
//! indicators, `READY=1`, loop. Order of a stop (SIGTERM, SIGINT): finish the step, save, `STOPPING=1`, exit
//! 0. Books that contradict themselves or a disk that does not take the record do not end the program: it
//! stays, halted, and says why, because a restart would not help.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use horus_heartbeat::fault::{CRASH_EXIT_CODE, Crash, FaultKind, FaultPlan, hang};
use horus_heartbeat::{Beat, Beating, Counter, Gauge, ServeError};
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{error, info, warn};

use crate::engine::{Engine, EngineError, Stage};
use crate::pages::Pages;
use crate::store::{Recovered, Store, StoreError, Tally};
use crate::tape::{Tape, TapeError};

/// The loop turns at least so often, however slowly the tape is played: the tick must not depend on
/// `--speed`.
const LONGEST_TURN: Duration = Duration::from_millis(250);

/// Seconds of tape in one turn at most; what is overdue beyond that is played late, not skipped.
const STEPS_PER_TURN: u32 = 50;

/// Between two snapshots. What happens in between is in the journal.
const SAVE_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) listen: SocketAddr,
    /// Seconds of tape in one second.
    pub(crate) speed: f64,
    pub(crate) state: PathBuf,
    pub(crate) fault: Option<Fault>,
}

/// A plan whose stage is known to exist.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    plan: FaultPlan,
    stage: Option<Stage>,
}

impl Fault {
    pub(crate) fn new(plan: FaultPlan) -> Result<Self, String> {
        let stage = match &plan.kind {
            FaultKind::StallStage(name) => Some(name.parse()?),
            _ => None,
        };
        Ok(Self { plan, stage })
    }
}

#[derive(Debug, Error)]
pub(crate) enum ServiceError {
    #[error("the built-in tape is damaged")]
    Tape(#[from] TapeError),
    #[error("the service cannot be reached")]
    Serve(#[from] ServeError),
    #[error("the state cannot be used")]
    Store(#[from] StoreError),
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
}

/// What a turn of the loop did to the program.
#[derive(Debug)]
enum Turn {
    GoOn,
    Crash,
    Halt(EngineError),
}

struct Service {
    beat: Beat,
    _beating: Beating,
    pages: Arc<Mutex<Pages>>,
    numbers: Numbers,
    fault: ArmedFault,
}

/// Runs until a signal, a crash on purpose, or an error at the start.
pub(crate) async fn run(options: Options) -> Result<ExitCode, ServiceError> {
    let mut stop = Stop::new(&options)?;
    let pages = Arc::new(Mutex::new(Pages::idle("starting")));
    let beat = Beat::from_env();
    let shown = Arc::clone(&pages);
    let beating = beat.serve_with(options.listen, move |path| lock(&shown).find(path))?;
    let fault = ArmedFault {
        fault: options.fault.clone(),
        state: options.state.clone(),
        started: Instant::now(),
        struck: false,
    };
    let listen = beating.local_addr().unwrap_or(options.listen);
    let service = Service { numbers: Numbers::new(&beat), beat, _beating: beating, pages, fault };
    info!(%listen, state = %options.state.display(), speed = options.speed, "starting");

    let tape = Arc::new(Tape::recorded()?);
    let opened = Store::open(&options.state, Engine::fresh(&tape));
    let (store, recovered) = match opened {
        Ok(opened) => opened,
        Err(error @ (StoreError::Corrupt { .. } | StoreError::Books { .. })) => {
            return Ok(service.halt(&error, &mut stop).await);
        }
        Err(error) => return Err(error.into()),
    };
    report_recovery(&recovered);
    if let Some(time) = service.fault.slow_start() {
        tokio::select! {
            () = sleep(time) => (),
            () = stop.asked() => return Ok(service.farewell()),
        }
    }
    let mut engine = Engine::new(tape, recovered.snapshot);
    engine.warm_up();
    service.show(&engine);
    service.beat.ready();
    service.beat.status("trading on paper, from a recording");
    info!(slots = engine.slots(), next_second = engine.last().next().0, "ready");
    Ok(service.turn_until_stopped(engine, store, options.speed, &mut stop).await)
}

impl Service {
    async fn turn_until_stopped(
        mut self,
        mut engine: Engine,
        mut store: Store,
        speed: f64,
        stop: &mut Stop,
    ) -> ExitCode {
        let pace = Duration::from_secs_f64(1.0 / speed);
        let mut due = Instant::now();
        let mut saved = Instant::now();
        loop {
            let mut turn = self.strike(stop).await;
            let mut steps = 0;
            while due <= Instant::now() && steps < STEPS_PER_TURN && matches!(turn, Turn::GoOn) {
                if let Err(error) = engine.step(&mut store, self.fault.stuck_stage()) {
                    turn = Turn::Halt(error);
                }
                due += pace;
                steps += 1;
            }
            if steps == STEPS_PER_TURN {
                due = due.max(Instant::now());
            }
            if saved.elapsed() >= SAVE_EVERY && matches!(turn, Turn::GoOn) {
                saved = Instant::now();
                if let Err(error) = engine.save(&mut store) {
                    turn = Turn::Halt(error.into());
                }
            }
            match turn {
                Turn::GoOn => (),
                Turn::Crash => return ExitCode::from(CRASH_EXIT_CODE),
                Turn::Halt(error) => return self.halt(&error, stop).await,
            }
            if steps > 0 {
                self.show(&engine);
            }
            self.beat.tick();
            tokio::select! {
                biased;
                () = stop.asked() => break,
                () = sleep_until(due.min(Instant::now() + LONGEST_TURN)) => (),
            }
        }
        if let Err(error) = engine.save(&mut store) {
            // Everything that was acknowledged is in the journal all the same.
            warn!(error = &error as &dyn std::error::Error, "the last snapshot was not saved");
        }
        info!(fills = engine.ledger().fills, cash = %engine.ledger().cash, "saved");
        self.farewell()
    }

    /// Lets the fault strike if its time has come. Some faults do not return.
    async fn strike(&mut self, stop: &mut Stop) -> Turn {
        let Some(kind) = self.fault.due() else { return Turn::GoOn };
        warn!(fault = %kind_name(&kind), "fault on purpose");
        match kind {
            FaultKind::Hang => hang(),
            FaultKind::Lie => {
                // The loop is dead, the endpoint's task is not.
                stop.asked().await;
                Turn::GoOn
            }
            FaultKind::Crash(Crash::Exit) => Turn::Crash,
            #[expect(clippy::panic, reason = "the fault that was asked for")]
            FaultKind::Crash(Crash::Panic) => panic!("a panic on purpose"),
            FaultKind::Crash(Crash::Abort) => std::process::abort(),
            FaultKind::StopBeat => {
                self.beat.mute();
                Turn::GoOn
            }
            // These work by being asked about, see `ArmedFault` and `Stop`.
            _ => Turn::GoOn,
        }
    }

    fn show(&self, engine: &Engine) {
        self.numbers.show(engine);
        *lock(&self.pages) = Pages::of(engine);
    }

    /// Trades no more, but stays to say why, until a person stops it.
    async fn halt(&self, why: &(dyn std::error::Error + 'static), stop: &mut Stop) -> ExitCode {
        error!(error = why, "halted: a person has to look");
        self.beat.halted(&format!("halted: {}", chain(why)));
        *lock(&self.pages) = Pages::idle("halted");
        stop.asked().await;
        self.farewell()
    }

    fn farewell(&self) -> ExitCode {
        self.beat.stopping();
        info!("stopped");
        ExitCode::SUCCESS
    }
}

fn lock(pages: &Mutex<Pages>) -> std::sync::MutexGuard<'_, Pages> {
    pages.lock().unwrap_or_else(PoisonError::into_inner)
}

fn report_recovery(recovered: &Recovered) {
    let Recovered { snapshot, replayed, abandoned, torn } = recovered;
    let positions = snapshot.ledger.positions.len();
    info!(
        replayed,
        abandoned = abandoned.len(),
        torn,
        positions,
        fills = snapshot.ledger.fills,
        "reconciled"
    );
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

fn kind_name(kind: &FaultKind) -> FaultPlan {
    FaultPlan { kind: kind.clone(), after: Duration::ZERO, once: false }
}

/// What the beat tells of the engine. Counters go on over a restart; Horus sees no reset.
struct Numbers {
    bars: Counter,
    signals: Counter,
    passed: Counter,
    orders: Counter,
    orders_filled: Counter,
    slots: Gauge,
    open_positions: Gauge,
}

impl Numbers {
    fn new(beat: &Beat) -> Self {
        Self {
            bars: beat.counter("bars"),
            signals: beat.counter("signals"),
            passed: beat.counter("passed"),
            orders: beat.counter("orders"),
            orders_filled: beat.counter("orders_filled"),
            slots: beat.gauge("slots"),
            open_positions: beat.gauge("open_positions"),
        }
    }

    fn show(&self, engine: &Engine) {
        let Tally { bars, signals, passed, orders, orders_filled, .. } = engine.tally();
        self.bars.raise_to(bars);
        self.signals.raise_to(signals);
        self.passed.raise_to(passed);
        self.orders.raise_to(orders);
        self.orders_filled.raise_to(orders_filled);
        self.slots.set(engine.slots());
        self.open_positions.set(engine.ledger().positions.len() as u64);
    }
}

/// The fault of this run, and whether it has struck.
struct ArmedFault {
    fault: Option<Fault>,
    state: PathBuf,
    started: Instant,
    struck: bool,
}

impl ArmedFault {
    /// The fault, on the one turn on which it strikes.
    fn due(&mut self) -> Option<FaultKind> {
        let plan = &self.fault.as_ref()?.plan;
        if self.struck
            || matches!(plan.kind, FaultKind::Deaf | FaultKind::SlowStart(_))
            || !plan.is_due(self.started.elapsed())
        {
            return None;
        }
        let kind = plan.kind.clone();
        if self.claim() {
            self.struck = true;
            return Some(kind);
        }
        self.fault = None;
        None
    }

    fn claim(&self) -> bool {
        let Some(fault) = &self.fault else { return false };
        fault.plan.claim(&self.state).unwrap_or_else(|error| {
            warn!(
                error = &error as &dyn std::error::Error,
                "the fault's marker cannot be written, so it does not strike"
            );
            false
        })
    }

    fn slow_start(&self) -> Option<Duration> {
        match self.fault.as_ref()?.plan.kind {
            FaultKind::SlowStart(time) if self.claim() => Some(time),
            _ => None,
        }
    }

    fn stuck_stage(&self) -> Option<Stage> {
        self.fault.as_ref().filter(|_| self.struck)?.stage
    }
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    deaf: Option<Duration>,
    started: Instant,
    asked: bool,
}

impl Stop {
    fn new(options: &Options) -> Result<Self, ServiceError> {
        let listen = |kind| signal(kind).map_err(ServiceError::Signals);
        let deaf = options
            .fault
            .as_ref()
            .filter(|fault| fault.plan.kind == FaultKind::Deaf)
            .map(|fault| fault.plan.after);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            deaf,
            started: Instant::now(),
            asked: false,
        })
    }

    /// Waits until somebody asks the program to stop; at once if that has been.
    async fn asked(&mut self) {
        while !self.asked {
            tokio::select! {
                _ = self.terminate.recv() => {
                    self.asked = self.deaf.is_none_or(|after| self.started.elapsed() < after);
                    if !self.asked {
                        warn!(fault = "deaf", "fault on purpose: SIGTERM is ignored");
                    }
                }
                _ = self.interrupt.recv() => self.asked = true,
            }
        }
    }
}
