//! The daemon: wires the rooms together and owns the engine. `run` reads as a table of contents.

mod agents;
mod backend;
mod boot_clock;
mod changes;
mod config;
mod dead_man;
mod digest;
mod directories;
mod evidence;
mod exclusive;
pub(crate) mod executable;
mod fd_store;
mod foreign;
pub(crate) mod handover;
mod host;
mod journal;
mod keeper_link;
mod keeper_news;
mod kernel_view;
mod last_words;
mod launch;
mod log_sink;
mod owner;
mod places;
pub(crate) mod preflight;
mod reload;
mod run_error;
mod self_limits;
mod serve;
mod signals;
mod sinks;
mod systemd;
mod test_hook;
mod tree_limits;
mod waking;
mod watchman;

use std::ffi::OsString;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use crate::cli::{ExitStatus, KeepArgs, RunArgs};

use directories::Directories;
use handover::arrival::{self, Arrival};
use log_sink::LogSink;
use run_error::RunError;

/// Threads for blocking work (captures, file looks, reads of the journal).
const BLOCKING_THREADS_MAX: usize = 64;

/// The body of `horus run`.
pub(crate) fn run(arguments: RunArgs) -> ExitCode {
    start_log();
    last_words::take_panics();
    let outcome = try_run(&arguments);
    LogSink::of_process().flush();
    match outcome {
        Ok(()) => ExitStatus::Done.into(),
        Err(error) => {
            // A program on trial gives the process back to the one before it, if there is one.
            arrival::go_back(&run_error::sentence(&error));
            run_error::complain(error).into()
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
    let system = |what| move |source| RunError::System { what, source };
    // Before anything else happens to the file.
    let _ = handover::Program::of_process();
    let arrival = Arrival::take().map_err(RunError::Handover)?;
    let executable = match &arrival {
        Some(arrival) => arrival.executable().to_owned(),
        None => executable::own_path().map_err(system("the path of this program is not known"))?,
    };
    signals::ignore_strays(arrival.is_some());
    let (config, files) = config::load_noting(&arguments.config);
    let config = config.map_err(RunError::Config)?;
    reload::follow(files, true);
    let directories =
        Directories::take(&config.plan.daemon, arrival.as_ref().map(Arrival::locks).unwrap_or_default())?;
    last_words::keep_in(&directories.evidence);
    if arrival.is_none() {
        handover::give_way_if_it_dies_again(&config.plan.daemon.state_directory);
    }
    let _ = horus_sys::subreaper::become_one();
    let _ = horus_sys::limits::raise_open_files();
    // One thread: what blocks goes to the blocking pool, and a beat that wakes a second thread costs more than its judgement.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("horus")
        .enable_all()
        .build()
        .map_err(system("the runtime cannot be started"))?;
    runtime.block_on(serve::serve(arguments, config, executable, arrival, &directories))?;
    // Blocking threads that hang on a dead disk or probe must not keep us.
    runtime.shutdown_background();
    Ok(())
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
