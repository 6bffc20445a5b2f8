//! Signals to Horus, and the ends of processes that were left to it.

use std::path::PathBuf;
use std::sync::Arc;

use horus_sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::handover::upgrader::Upgrader;
use super::owner::Call;
use super::reload;
use super::systemd::{self, Wish};

/// Reaps what a dead keeper left to us, and records how it ended.
pub(super) fn spawn_reaper(run_directory: PathBuf) -> std::io::Result<()> {
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

/// Signals that mean nothing to Horus (yet) and whose default is death. A script that sends one means well. One that came
/// while the process changed its program waits, and would be lost here: `arrived`.
pub(super) fn ignore_strays(arrived: bool) {
    let strays = [Signal::parse("USR1").ok(), Some(Signal::USR2).filter(|_| !arrived)];
    for signal in strays.into_iter().flatten() {
        if let Err(error) = horus_sys::signal::ignore(signal) {
            tracing::warn!(%signal, %error, "this signal would end Horus");
        }
    }
}

/// Signals that Horus obeys. From now on they are kept until somebody acts on them.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    upgrade: tokio::signal::unix::Signal,
}

impl Signals {
    /// Hears them. Before the program is ready: an early one must not end it.
    pub(super) fn hear() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }
}

/// SIGTERM ends everything in order, unless systemd sends it to start Horus anew; so does SIGINT. A second one leaves at
/// once; SIGQUIT leaves; SIGHUP reloads; SIGUSR2 upgrades. Resolves when Horus is to leave without stopping anything.
pub(super) fn obey_signals(
    signals: Signals,
    calls: mpsc::Sender<Call>,
    config_path: PathBuf,
    upgrader: Arc<Upgrader>,
) -> tokio::sync::oneshot::Receiver<()> {
    let Signals { mut terminate, mut interrupt, mut quit, mut hangup, mut upgrade } = signals;
    let (leave, leaving) = tokio::sync::oneshot::channel();
    drop(tokio::spawn(async move {
        let mut told_to_end = false;
        loop {
            tokio::select! {
                _ = terminate.recv() => {
                    if !told_to_end && tokio::task::spawn_blocking(systemd::wish).await.ok() == Some(Wish::Restart) {
                        tracing::info!("systemd starts Horus anew");
                        break;
                    }
                }
                _ = interrupt.recv() => {}
                _ = quit.recv() => break,
                _ = hangup.recv() => {
                    let _ = reload::reload(config_path.clone(), &calls, false).await;
                    continue;
                }
                // Nobody waits for its answer: it is in the log and the journal.
                _ = upgrade.recv() => {
                    drop(upgrader.begin(None, false));
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
    leaving
}
