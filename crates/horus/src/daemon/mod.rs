//! The daemon: wires the rooms together and owns the engine. `run` reads as a table of contents.

mod backend;
mod config;
mod digest;
mod evidence;
mod host;
mod journal;
mod keeper_link;
mod keeper_news;
mod launch;
mod log_sink;
mod owner;
mod reload;
mod sinks;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use horus_alert::SinkHealth;
use horus_config::Fault;
use horus_core::command::MemoryIncident;
use horus_core::event::{Event, Outcome, What};
use horus_core::ids::{Generation, ServiceName};
use horus_core::notice::{Notice, Story};
use horus_core::observation::Input;
use horus_core::plan::Plan;
use horus_core::record::IncidentRecord;
use horus_core::{Engine, Remembered};
use horus_probe::{EvidenceRoom, HostWatch, Senses};
use horus_store::{Restored, Store, StoreOptions, Transaction};
use horus_sys::files::ensure_private_dir;
use horus_sys::lock::{FileLock, LockError};
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing_subscriber::EnvFilter;

use crate::cli::{ExitStatus, KeepArgs, RunArgs};

use config::Config;
use keeper_link::{KeeperLink, KeeperPlace};
use log_sink::LogSink;
use owner::{Call, Owner, Parts};
use sinks::{Sinks, StoreOutbox};

/// Observations that wait for the loop. Probes wait when it is full.
const INPUTS_MAX: usize = 4_096;

/// Calls of the API that wait for the loop.
const CALLS_MAX: usize = 256;

/// How long a lock may outlive its holder.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);

/// Threads for blocking work (captures, file looks, reads of the journal).
const BLOCKING_THREADS_MAX: usize = 64;

/// Why the daemon did not start, or how it ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The configuration has faults.
    #[error("the configuration has {} faults", .0.len())]
    Config(Vec<Fault>),
    /// A directory cannot be used.
    #[error("{what} cannot be used")]
    Directory {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another Horus works on the state directory.
    #[error("another Horus works on this state or run directory")]
    Locked(#[source] horus_sys::lock::LockError),
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    Store(#[source] horus_store::OpenError),
    /// The API socket cannot be made.
    #[error("the API socket cannot be made")]
    Socket(#[source] horus_api::BindError),
    /// The system refused something basic.
    #[error("{what}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl RunError {
    fn hint(&self) -> &'static str {
        match self {
            Self::Config(_) => "horus check",
            Self::Directory { .. } => {
                "set state_directory and run_directory in [daemon] to folders of your own"
            }
            Self::Locked(_) => {
                "`horus status` speaks to the one that runs; another needs a state_directory and a run_directory of its own"
            }
            Self::Store(_) => "look at the state directory: does it exist, is it yours?",
            Self::Socket(horus_api::BindError::InUse { .. }) => {
                "stop what listens there, or set another run_directory"
            }
            Self::Socket(_) => "set a shorter run_directory in [daemon]",
            Self::System { .. } => "see the limits of this user: ulimit -a",
        }
    }
}

/// The body of `horus run`.
pub(crate) fn run(arguments: RunArgs) -> ExitCode {
    start_log();
    let outcome = try_run(&arguments);
    LogSink::of_process().flush();
    match outcome {
        Ok(()) => ExitStatus::Done.into(),
        Err(error) => complain(error).into(),
    }
}

/// Says why Horus does not run and what to do. A closed standard error changes only who reads it.
fn complain(error: RunError) -> ExitStatus {
    let mut stderr = std::io::stderr().lock();
    match error {
        RunError::Config(faults) => {
            for fault in faults {
                let _ = writeln!(stderr, "{:?}", miette::Report::new(fault));
            }
            let _ = writeln!(stderr, "hint: mend the file, then look at it with `horus check`");
            ExitStatus::BadConfig
        }
        error => {
            let _ = writeln!(stderr, "error: {}", chain(&error));
            let _ = writeln!(stderr, "\nhint: {}", error.hint());
            ExitStatus::Failed
        }
    }
}

/// Own log: standard error, by level of `HORUS_LOG` (default `info`), without colour unless it is a terminal.
fn start_log() {
    let filter = EnvFilter::try_from_env("HORUS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let colour = terminal && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_writer(LogSink::of_process().clone());
    // Its own complaints would go to standard error and panic where that is closed.
    let log = log.log_internal_errors(false).with_env_filter(filter).with_ansi(colour).with_target(false);
    // Fails only if there is a log already.
    let _ = log.try_init();
}

/// Runs the daemon until it is told to end.
fn try_run(arguments: &RunArgs) -> Result<(), RunError> {
    let config = config::load(&arguments.config).map_err(RunError::Config)?;
    let daemon = config.plan.daemon.clone();
    let evidence_directory = daemon.state_directory.join("evidence");
    let notify_directory = notify_directory(&daemon.run_directory);
    let logs = daemon.state_directory.join("logs");
    for directory in [&daemon.state_directory, &daemon.run_directory, &evidence_directory, &logs] {
        prepare(directory)?;
    }
    prepare_for_others(&notify_directory)?;
    // One owner of the state, and one of the keeper, whatever two configurations name.
    let _state_lock = lock(&daemon.state_directory)?;
    let _run_lock = lock(&daemon.run_directory)?;
    let _ = horus_sys::subreaper::become_one();
    let _ = horus_sys::limits::raise_open_files();
    let system = |what| move |source| RunError::System { what, source };
    // One thread: what blocks goes to the blocking pool, and a beat that wakes a second thread costs more than its judgement.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("horus")
        .enable_all()
        .build()
        .map_err(system("the runtime cannot be started"))?;
    let executable = std::env::current_exe().map_err(system("the path of this program is not known"))?;
    runtime.block_on(serve(arguments, config, executable, evidence_directory, notify_directory))?;
    // Blocking threads that hang on a dead disk or probe must not keep us.
    runtime.shutdown_background();
    Ok(())
}

/// Takes the lock of a directory. A holder that was just killed may need a moment to be gone.
fn lock(directory: &Path) -> Result<FileLock, RunError> {
    let deadline = horus_sys::clock::monotonic() + LOCK_WAIT_MAX;
    loop {
        match FileLock::try_acquire(&directory.join("lock"), "horus run") {
            Ok(lock) => return Ok(lock),
            Err(LockError::Held { holder, .. })
                if horus_sys::clock::monotonic() < deadline
                    && !holder.as_ref().is_some_and(|holder| lives(holder.pid)) =>
            {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            Err(error) => return Err(RunError::Locked(error)),
        }
    }
}

/// A process that is there and not only waits to be reaped.
fn lives(pid: i32) -> bool {
    horus_sys::process::row(pid).ok().flatten().is_some_and(|row| !row.is_gone())
}

/// Beside the run directory, which is ours alone: services that run as other users have to reach their sockets.
fn notify_directory(run_directory: &Path) -> PathBuf {
    let mut name = run_directory.as_os_str().to_owned();
    name.push("-notify");
    PathBuf::from(name)
}

/// A directory that others may pass through, but not list or change. The sockets in it have modes of their own.
fn prepare_for_others(directory: &Path) -> Result<(), RunError> {
    prepare(directory)?;
    let passable = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(directory, passable)
        .map_err(|error| RunError::Directory { what: directory.display().to_string(), source: error.into() })
}

fn prepare(directory: &Path) -> Result<(), RunError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| RunError::Directory {
        what: directory.display().to_string(),
        source,
    };
    std::fs::create_dir_all(directory).map_err(|error| failed(error.into()))?;
    ensure_private_dir(directory).map_err(|error| failed(error.into()))
}

async fn serve(
    arguments: &RunArgs,
    config: Config,
    executable: PathBuf,
    evidence_directory: PathBuf,
    notify_directory: PathBuf,
) -> Result<(), RunError> {
    let system = |what| move |source| RunError::System { what, source };
    let (inputs, inputs_taken) = mpsc::channel(INPUTS_MAX);
    let (calls, calls_taken) = mpsc::channel(CALLS_MAX);
    let (outbox_changes, _) = watch::channel(0_u64);
    let (committed_sender, committed) = watch::channel(0_u64);
    let daemon = config.plan.daemon.clone();
    let config_path = arguments.config.clone();
    let socket =
        arguments.socket.clone().unwrap_or_else(|| daemon.run_directory.join(horus_api::SOCKET_NAME));

    let options = store_options(daemon.retention, &inputs, &outbox_changes, committed_sender);
    let (store, restored) = Store::open(&daemon.state_directory, options).map_err(RunError::Store)?;
    let live = journal::broadcast(store.clone(), committed);
    let listener = horus_api::bind(&socket).await;
    let listener = listener.map_err(RunError::Socket)?;

    let place =
        KeeperPlace { run_directory: daemon.run_directory.clone(), executable, cgroup: daemon.cgroup };
    spawn_reaper(place.run_directory.clone()).map_err(system("SIGCHLD cannot be watched"))?;
    let outbox = Arc::new(StoreOutbox { store: store.clone(), changes: outbox_changes });
    let unaccounted = believed_alive(&restored);
    let parts = Parts {
        engine: wake_engine(&restored, &store, &config.plan),
        config,
        config_path: config_path.clone(),
        keeper: KeeperLink::new(place),
        senses: Senses::new(inputs.clone(), notify_directory),
        sinks: Sinks::new(outbox, sink_reports(&inputs)),
        store: store.clone(),
        evidence: EvidenceRoom::new(evidence_directory.clone()),
        inputs,
        unaccounted,
    };
    let _host = HostWatch::start(parts.inputs.clone());
    let owner = Owner::new(parts);
    let backend = backend::Daemon {
        calls: calls.clone(),
        store,
        live,
        config_path: config_path.clone(),
        evidence_directory,
        started_at: Timestamp::now(),
    };
    let (end, ended) = watch::channel(false);
    let mut api_end = ended.clone();
    let api_ended = async move { drop(api_end.wait_for(|ended| *ended).await) };
    let limits = horus_api::Limits::default();
    let api = tokio::spawn(horus_api::serve(listener, Arc::new(backend), limits, api_ended));
    drop(tokio::spawn(reload::follow_file(config_path.clone(), calls.clone())));
    let signals = spawn_signals(calls, config_path).map_err(system("signals cannot be watched"))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "Horus runs");
    tokio::select! {
        owner = owner.run(inputs_taken, calls_taken) => {
            let _ = end.send(true);
            owner.finish().await;
            let _ = api.await;
        }
        left = signals => {
            if left.is_ok() {
                tracing::warn!("Horus leaves; the services go on under the keeper, the next Horus takes them over");
            }
        }
    }
    Ok(())
}

fn store_options(
    retention: std::time::Duration,
    inputs: &mpsc::Sender<Input>,
    outbox_changes: &watch::Sender<u64>,
    committed: watch::Sender<u64>,
) -> StoreOptions {
    let (health, stored, changes) = (inputs.clone(), inputs.clone(), outbox_changes.clone());
    StoreOptions {
        retention,
        // The writer's thread may not wait. A full channel means a loop that is behind: a lost confirmation costs
        // the engine its patience with the store, a lost health report is repeated with the next change.
        on_health: Box::new(move |fault| drop(health.try_send(Input::StoreHealth { fault }))),
        on_stored: Box::new(move |incident, persisted| {
            drop(stored.try_send(Input::IncidentStored { incident, persisted }));
        }),
        on_outbox: Box::new(move |_| changes.send_modify(|count| *count += 1)),
        on_commit: Box::new(move |seq| {
            // Nobody follows: no fault.
            let _ = committed.send(seq);
        }),
    }
}

/// The engine with what an earlier life remembered. Open incidents go on where their subject does; the others end here,
/// and whoever was told of them is told of that.
fn wake_engine(restored: &Restored, store: &Store, plan: &Plan) -> Engine {
    let remembered = restored.memories.iter().map(|memory| Remembered {
        service: memory.service.clone(),
        memory: memory.memory.clone(),
        elapsed: memory.age,
    });
    let mut remembered: Vec<Remembered> = remembered.collect();
    for item in remembered.iter_mut().filter(|item| !plan.services.contains_key(&item.service)) {
        // They end below; if the service comes back, they do not.
        item.memory.incidents.clear();
        item.memory.hang = None;
    }
    let planned = remembered.iter().filter(|item| plan.services.contains_key(&item.service));
    let kept: Vec<_> =
        planned.flat_map(|item| item.memory.incidents.iter().map(|incident| incident.id)).collect();
    let text = format!("started, version {}, pid {}", env!("CARGO_PKG_VERSION"), std::process::id());
    let mut transaction =
        Transaction { at: Timestamp::now(), events: vec![about_horus(text)], ..Transaction::default() };
    transaction.events.extend(restored.note.clone().map(about_horus));
    let mut orphans: BTreeMap<String, Vec<MemoryIncident>> = BTreeMap::new();
    for record in restored.open_incidents.iter().filter(|record| !kept.contains(&record.id)) {
        let age = transaction.at.duration_since(record.opened_at).unsigned_abs();
        if plan.monitors.keys().any(|name| name.as_str() == record.subject) {
            orphans.entry(record.subject.clone()).or_default().push(remembered_incident(record, age));
        } else {
            end_orphan(record, age, plan, &mut transaction);
        }
    }
    store.commit(transaction);
    let seed = Timestamp::now().as_nanosecond().unsigned_abs() as u64 ^ u64::from(std::process::id());
    Engine::with_orphans(seed, restored.next_incident_number, remembered, orphans)
}

fn remembered_incident(record: &IncidentRecord, age: Duration) -> MemoryIncident {
    MemoryIncident {
        id: record.id,
        kind: record.kind,
        detail: String::new(),
        // The store counts on from what was told.
        version: 1,
        age,
        severity: record.severity,
        needs_you: false,
        answered: false,
        muted: None,
    }
}

fn end_orphan(record: &IncidentRecord, lasted: Duration, plan: &Plan, transaction: &mut Transaction) {
    transaction.events.push(Event {
        subject: record.subject.clone(),
        generation: None,
        incident: Some(record.id),
        what: What::IncidentClosed { outcome: Outcome::Superseded, lasted },
    });
    let story = Story::Over { lasted, how: "Horus was restarted; what still lasts is told anew".into() };
    for (sink, _) in plan.sinks.iter().filter(|(_, sink)| sink.severity <= record.severity) {
        let notice = Notice {
            incident: record.id,
            version: 1,
            subject: record.subject.clone(),
            kind: record.kind,
            severity: record.severity,
            needs_you: false,
            loud: false,
            story: story.clone(),
        };
        transaction.notices.push((sink.clone(), notice));
    }
}

fn about_horus(text: String) -> Event {
    Event { subject: "horus".into(), generation: None, incident: None, what: What::Horus { text } }
}

/// The runs that an earlier life of Horus believed alive.
fn believed_alive(restored: &Restored) -> BTreeMap<ServiceName, Generation> {
    let alive = restored.memories.iter().filter(|memory| memory.memory.started.is_some());
    alive.map(|memory| (memory.service.clone(), memory.memory.generation)).collect()
}

fn sink_reports(inputs: &mpsc::Sender<Input>) -> horus_alert::worker::Report {
    let inputs = inputs.clone();
    Arc::new(move |health: SinkHealth| {
        let SinkHealth { sink, fault } = health;
        if inputs.try_send(Input::SinkHealth { sink: sink.to_string(), fault }).is_err() {
            tracing::error!(%sink, "the health of this sink could not be told to the judge");
        }
    })
}

/// Reaps what a dead keeper left to us, and records how it ended.
fn spawn_reaper(run_directory: PathBuf) -> std::io::Result<()> {
    let mut children = signal(SignalKind::child())?;
    drop(tokio::spawn(async move {
        loop {
            let directory = run_directory.clone();
            let reaping = move || horus_keeper::reap_orphans(&directory);
            if let Ok(Err(error)) = tokio::task::spawn_blocking(reaping).await {
                tracing::warn!(%error, "ended processes could not be reaped");
            }
            if children.recv().await.is_none() {
                return;
            }
        }
    }));
    Ok(())
}

/// SIGTERM and SIGINT end everything in order, a second one leaves at once; SIGQUIT leaves; SIGHUP reloads. Resolves
/// when Horus is to leave without stopping anything.
fn spawn_signals(
    calls: mpsc::Sender<Call>,
    config_path: PathBuf,
) -> std::io::Result<tokio::sync::oneshot::Receiver<()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (mut quit, mut hangup) = (signal(SignalKind::quit())?, signal(SignalKind::hangup())?);
    let (leave, leaving) = tokio::sync::oneshot::channel();
    drop(tokio::spawn(async move {
        let mut told_to_end = false;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = quit.recv() => break,
                _ = hangup.recv() => {
                    let _ = reload::reload(config_path.clone(), &calls, false).await;
                    continue;
                }
            }
            if told_to_end || calls.send(Call::ShutDown).await.is_err() {
                break;
            }
            told_to_end = true;
            tracing::info!("ending; services are stopped first (once more to leave them running)");
        }
        let _ = leave.send(());
    }));
    Ok(leaving)
}

/// The body of `horus keep`.
pub(crate) fn keep(arguments: KeepArgs) -> ExitCode {
    let mut words: Vec<OsString> = vec!["--run-dir".into(), arguments.run_dir.into()];
    words.extend(arguments.lock_fd.into_iter().flat_map(|fd| ["--lock-fd".into(), fd.to_string().into()]));
    words.extend(arguments.cgroup.into_iter().flat_map(|path| ["--cgroup".into(), path.into()]));
    horus_keeper::run(words)
}

/// An error with all its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
