//! Signals to Horus, and the ends of processes that were left to it.

use std::path::PathBuf;

use horus_sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

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

/// Signals that mean nothing to Horus and whose default is death. A script that sends one means well.
pub(super) fn ignore_strays() {
    for name in ["USR1", "USR2"] {
        if let Ok(signal) = Signal::parse(name)
            && let Err(error) = horus_sys::signal::ignore(signal)
        {
            tracing::warn!(%signal, %error, "this signal would end Horus");
        }
    }
}

/// SIGTERM ends everything in order, unless systemd sends it to start Horus anew; so does SIGINT. A second one leaves at
/// once; SIGQUIT leaves; SIGHUP reloads. Resolves when Horus is to leave without stopping anything.
pub(super) fn spawn_signals(
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
