//! One life of the daemon: everything is opened, wired to the owner of the engine, and closed again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use horus_alert::SinkHealth;
use horus_core::event::What;
use horus_core::observation::Input;
use horus_core::plan::{CgroupPlan, DaemonPlan};
use horus_keeper::Home;
use horus_probe::{HostWatch, Senses};
use horus_store::{Restored, Store, StoreOptions, Transaction};
use jiff::Timestamp;
use tokio::sync::{Mutex, mpsc, watch};

use super::config::Config;
use super::dead_man::{Chain, DeadMan, Looks};
use super::directories::Directories;
use super::evidence;
use super::fd_store::FdStore;
use super::foreign::{self, Foreign};
use super::handover::arrival::{self, Arrival};
use super::handover::departure::{Ship, depart};
use super::handover::upgrader::Upgrader;
use super::handover::{self, door};
use super::keeper_link::{KeeperLink, KeeperPlace};
use super::kernel_view::KernelLook;
use super::owner::{Call, Owner, Parts, Pause};
use super::places::Places;
use super::preflight::{self, Level};
use super::run_error::RunError;
use super::signals::{Signals, obey_signals, spawn_reaper};
use super::sinks::{Sinks, StoreOutbox};
use super::systemd::Manager;
use super::waking::{Past, about_horus, believed_alive, tell_of_last_words, wake_engine};
use super::watchman::{self, Pulse};
use super::{backend, journal, reload, self_limits, test_hook};
use crate::cli::RunArgs;

/// Observations that wait for the loop. Probes wait when it is full.
const INPUTS_MAX: usize = 4_096;

/// Calls of the API that wait for the loop.
const CALLS_MAX: usize = 256;

/// How long the journal may take when Horus leaves.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// Runs until everything has ended, or until Horus leaves.
pub(super) async fn serve(
    arguments: &RunArgs,
    config: Config,
    executable: PathBuf,
    mut arrival: Option<Arrival>,
    directories: &Directories,
) -> Result<(), RunError> {
    let system = |what| move |source| RunError::System { what, source };
    // What can fail comes first: a program on trial that fails here has touched nothing of what it was handed.
    let signals = Signals::hear().map_err(system("signals cannot be watched"))?;
    handover::hear_signals();
    test_hook::place("upgrade.arrived");
    let (inputs, mut inputs_taken) = mpsc::channel(INPUTS_MAX);
    let (calls, mut calls_taken) = mpsc::channel(CALLS_MAX);
    let (outbox_changes, _) = watch::channel(0_u64);
    let (committed_sender, committed) = watch::channel(0_u64);
    let daemon = config.plan.daemon.clone();
    let plan_of_daemon = daemon.clone();
    let config_path = arguments.config.clone();
    let socket =
        arguments.socket.clone().unwrap_or_else(|| daemon.run_directory.join(horus_api::SOCKET_NAME));

    let options = store_options(daemon.retention, &inputs, &outbox_changes, committed_sender);
    let (store, restored) = Store::open(&daemon.state_directory, options).map_err(RunError::Store)?;
    let live = journal::broadcast(store.clone(), committed);
    spawn_reaper(daemon.run_directory.clone()).map_err(system("SIGCHLD cannot be watched"))?;
    let pulse = Arc::new(Pulse::default());
    let watchman = watchman::watch(Arc::clone(&pulse), calls.clone());
    let watchman = watchman.map_err(system("the watchman cannot be started"))?;
    let fd_store = FdStore::wake(Manager::of_process(), &daemon.run_directory, arrival.is_some())
        .map_err(system("the thread for the fd store cannot be started"))?;
    let listener = match arrival.as_mut().and_then(|arrival| arrival.listener(&socket)) {
        Some(listener) => listener,
        None => horus_api::bind(&socket).await.map_err(RunError::Socket)?,
    };
    let listener = Arc::new(listener);

    // What an upgrade executes if nobody names another.
    let usual = match &arrival {
        Some(arrival) => arrival.home().to_owned(),
        None => handover::home_of_other().unwrap_or_else(|| executable.clone()),
    };
    let place = KeeperPlace {
        run_directory: daemon.run_directory.clone(),
        executable: executable.clone(),
        home: home(daemon.cgroup),
    };
    let looks = Arc::new(Looks::default());
    let outbox =
        Arc::new(StoreOutbox { store: store.clone(), changes: outbox_changes, looks: Arc::clone(&looks) });
    let unaccounted = believed_alive(&restored);
    let chain = Chain { pulse: Arc::clone(&pulse), store: store.clone(), looks, calls: calls.clone() };
    let kernel_look = KernelLook::start(inputs.clone());
    let parts = Parts {
        engine: wake_engine(
            &restored,
            &store,
            &config.plan,
            beginning(arrival.as_ref()),
            &already_over(&restored, arrival.is_some()),
        ),
        config,
        config_path: config_path.clone(),
        keeper: KeeperLink::new(place),
        senses: Senses::new(inputs.clone(), directories.notify.clone()),
        sinks: Sinks::new(outbox, sink_reports(&inputs)),
        store: store.clone(),
        evidence: evidence::room(directories.evidence.clone()),
        inputs,
        unaccounted,
        pulse,
        dead_man: DeadMan::new(chain),
        fd_store,
        foreign: Foreign::new(foreign::remembered(&restored)),
        kernel_look,
    };
    tell_of_last_words(&store, &directories.evidence);
    let _host = HostWatch::start(parts.inputs.clone());
    let mut owner = Owner::new(parts);
    let report = arrival.as_ref().map_or_else(arrival::no_report, Arrival::report);
    let (report, reported) = watch::channel(report);
    match arrival {
        Some(arrival) => arrival.settle(&mut owner, report.clone()),
        None => tell_of_a_death(&owner),
    }
    let (door, porter) = door::new();
    let upgrader = Arc::new(Upgrader {
        calls: calls.clone(),
        config: config_path.clone(),
        home: usual.clone(),
        door: door.clone(),
        report,
        turn: Mutex::default(),
    });
    let backend = backend::Daemon {
        calls: calls.clone(),
        store: store.clone(),
        live,
        config_path: config_path.clone(),
        evidence_directory: directories.evidence.clone(),
        started_at: Timestamp::now(),
        upgrader: Arc::clone(&upgrader),
    };
    let limits = horus_api::Limits::default();
    let api = tokio::spawn(porter.serve(Arc::clone(&listener), Arc::new(backend), limits));
    drop(tokio::spawn(reload::follow_file(config_path.clone(), calls.clone())));
    drop(tokio::spawn(self_limits::watch(calls.clone())));
    let places = Places::of(directories.files().chain([socket]), directories.keeper_lock());
    drop(tokio::spawn(places.watch(Arc::clone(&upgrader), calls.clone())));
    drop(tokio::spawn(look_around(plan_of_daemon, calls.clone())));
    let mut leaving = obey_signals(signals, calls, config_path, upgrader);
    let ship = Ship { directories, listener, executable, home: usual, report: reported };
    tracing::info!(program = %handover::Program::of_process(), pid = std::process::id(), "Horus runs");
    owner.begin();
    loop {
        tokio::select! {
            pause = owner.run(&mut inputs_taken, &mut calls_taken) => match pause {
                Pause::HandOver(ticket) => depart(&mut owner, &mut inputs_taken, &ship, ticket).await,
                Pause::Finished => break,
            },
            left = &mut leaving => {
                if left.is_ok() {
                    leave(store).await;
                }
                return Ok(());
            }
        }
    }
    drop(watchman);
    ship.listener.withdraw();
    door.close();
    owner.finish().await;
    let _ = api.await;
    Ok(())
}

/// What a person is to be told of, although nothing lasts of it.
fn already_over(restored: &Restored, arrived: bool) -> Vec<Past> {
    let store = restored.note.clone().map(Past::fresh_start);
    let former = handover::tell_of_other().filter(|_| !arrived).map(Past::former_program);
    store.into_iter().chain(former).collect()
}

/// How this life begins, for the journal.
fn beginning(arrival: Option<&Arrival>) -> String {
    let (program, pid) = (handover::Program::of_process(), std::process::id());
    arrival.map_or_else(|| format!("started, version {program}, pid {pid}"), Arrival::sentence)
}

/// An earlier process may have died while it changed its program.
fn tell_of_a_death(owner: &Owner) {
    if let Some(text) = handover::tell_of_a_death(&owner.plan.daemon.state_directory) {
        tracing::error!("{text}");
        owner.note(What::Horus { text });
    }
}

/// Says what of the machine is not as Horus needs it. A disk that does not answer delays nobody but this.
async fn look_around(daemon: DaemonPlan, calls: mpsc::Sender<Call>) {
    let checks = tokio::task::spawn_blocking(move || preflight::examine(&daemon)).await.unwrap_or_default();
    // That there is no ping is a choice: `horus doctor` speaks of it, every start need not.
    let wrong = checks.into_iter().filter(|check| check.level != Level::Ok && check.name != "ping");
    let told: Vec<String> = wrong.map(|check| check.to_string()).collect();
    if !told.is_empty() {
        let _ = calls
            .send(Call::Note(format!("this machine is not as horus needs it: {}", told.join("; "))))
            .await;
    }
}

/// Ends without stopping anything.
async fn leave(store: Store) {
    let text = "Horus leaves; the services go on under the keeper, the next Horus takes them over";
    tracing::warn!("{text}");
    Manager::of_process().stopping(text);
    let events = vec![about_horus(text.into())];
    store.commit(Transaction { at: Timestamp::now(), events, ..Transaction::default() });
    let flushed = tokio::task::spawn_blocking(move || store.flush(FLUSH_MAX)).await;
    if !matches!(flushed, Ok(true)) {
        tracing::error!("the last events could not be written to the state directory");
    }
}

/// Where the keeper makes the groups of the services.
fn home(plan: CgroupPlan) -> Home {
    match plan {
        CgroupPlan::Auto => Home::found(),
        CgroupPlan::None => Home::None,
        CgroupPlan::At(path) => Home::At(path),
    }
}

fn store_options(
    retention: Duration,
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

fn sink_reports(inputs: &mpsc::Sender<Input>) -> horus_alert::worker::Report {
    let inputs = inputs.clone();
    Arc::new(move |health: SinkHealth| {
        let SinkHealth { sink, fault } = health;
        if inputs.try_send(Input::SinkHealth { sink: sink.to_string(), fault }).is_err() {
            tracing::error!(%sink, "the health of this sink could not be told to the judge");
        }
    })
}
