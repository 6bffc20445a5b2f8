//! The last steps of the old program: everything on disk, everything named, then exec. Until that, all can be undone.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use horus_api::{Listener, Spot, UpgradeReport};
use horus_core::observation::Input;
use horus_keeper::protocol::Text;
use horus_sys::limits::{self, Resource};
use horus_sys::{process, signal, spawn};
use tokio::sync::{mpsc, oneshot, watch};

use super::record::{HANDOVERS, Identity, Record, Socket, VARIABLE};
use super::trust::Found;
use super::{HELD, Program, pending};
use crate::daemon::directories::Directories;
use crate::daemon::log_sink::LogSink;
use crate::daemon::owner::Owner;
use crate::daemon::systemd::Manager;
use crate::daemon::test_hook;

/// How long the disk may take to have everything.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// How long a program that is just being started may keep the process from changing its own.
pub(super) const HALF_DONE_MAX: Duration = Duration::from_secs(5);

/// The order to become another program, once it has been tried out.
#[derive(Debug)]
pub(in crate::daemon) struct Ticket {
    pub(super) found: Found,
    pub(super) to: Program,
    /// There is a copy of this program to go back to.
    pub(super) former: bool,
    /// Why it did not come about. Nothing is sent if it does.
    pub(super) reply: oneshot::Sender<String>,
    /// By the clock of this process: what is half done is not waited for any longer.
    pub(super) latest: Duration,
}

impl Ticket {
    /// Whether something that only this process knows is worth waiting for.
    pub(in crate::daemon) fn may_wait(&self) -> bool {
        horus_sys::clock::monotonic() < self.latest
    }

    /// It does not come about.
    pub(in crate::daemon) fn refuse(self, why: String) {
        // Who has gone away has seen enough.
        let _ = self.reply.send(why);
    }
}

/// What of this process the next program needs, besides what the judge's loop has.
pub(in crate::daemon) struct Ship<'a> {
    pub(in crate::daemon) directories: &'a Directories,
    pub(in crate::daemon) listener: Arc<Listener>,
    pub(in crate::daemon) executable: PathBuf,
    pub(in crate::daemon) home: PathBuf,
    pub(in crate::daemon) report: watch::Receiver<UpgradeReport>,
}

/// Becomes the program of the ticket. Returns only if that is not possible, and then everything is as before.
pub(in crate::daemon) async fn depart(
    owner: &mut Owner,
    inputs: &mut mpsc::Receiver<Input>,
    ship: &Ship<'_>,
    ticket: Ticket,
) {
    let why = match lay_down(owner, inputs).await {
        Ok(()) => change(owner, ship, &ticket),
        Err(why) => why,
    };
    ticket.refuse(why);
}

/// Everything that was heard is judged, everything that was judged is on disk.
async fn lay_down(owner: &mut Owner, inputs: &mut mpsc::Receiver<Input>) -> Result<(), String> {
    let limit = inputs.len();
    for _ in 0..limit {
        let Ok(input) = inputs.try_recv() else { break };
        owner.step(input);
    }
    owner.remember_all();
    if let Some(fault) = owner.store.fault() {
        return Err(format!(
            "the state directory takes no writes, and what is remembered would be lost: {fault}"
        ));
    }
    let store = owner.store.clone();
    let flushed = tokio::task::spawn_blocking(move || store.flush(FLUSH_MAX)).await;
    test_hook::place("upgrade.after-flush");
    match flushed {
        Ok(true) => Ok(()),
        _ => Err(format!(
            "the state directory has not taken what is remembered within {} s",
            FLUSH_MAX.as_secs()
        )),
    }
}

/// Nothing waits from here on.
fn change(owner: &Owner, ship: &Ship<'_>, ticket: &Ticket) -> String {
    let path = &ticket.found.path;
    if !ticket.found.is_unchanged() {
        return format!("{} was changed while it was tried out: ask again", path.display());
    }
    let former = spawn::own_program().ok().map(|(file, _)| file);
    let written = record(owner, ship, ticket, former.as_ref()).and_then(|record| record.write());
    let file = match written {
        Ok(file) => file,
        Err(error) => return format!("what is to be handed over cannot be written down: {error}"),
    };
    let (state_lock, run_lock) = ship.directories.locks();
    let ours = [run_lock, ship.listener.as_fd(), file.as_fd()];
    let keep: Vec<BorrowedFd<'_>> = ours
        .into_iter()
        .chain(state_lock)
        .chain(former.as_ref().map(AsFd::as_fd))
        .chain(owner.senses.notify_sockets().map(|(_, _, socket)| socket))
        .chain(owner.senses.notify_streams().map(|(_, _, socket)| socket))
        .chain(owner.fifos.iter().map(|(_, fifo)| fifo.as_fd()))
        .collect();
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let state_directory = &owner.plan.daemon.state_directory;
    pending::begin(state_directory, &ticket.to, path, ticket.former);
    Manager::of_process().reloading();
    tracing::info!("becoming {}: {}", ticket.to, path.display());
    LogSink::of_process().flush();
    let raised = limits::get(Resource::OpenFiles);
    test_hook::place("upgrade.before-exec");
    lower_open_files();
    // What comes from here on waits for the new program.
    let _ = signal::hold_back(&HELD);
    let error = spawn::become_program(path, &words, &environment(&file), &keep);
    let _ = signal::let_through(&HELD);
    if let Ok(raised) = raised {
        let _ = limits::set(Resource::OpenFiles, raised);
    }
    Manager::of_process().reloaded();
    pending::end(state_directory);
    format!("it cannot be executed: {error}")
}

fn record(
    owner: &Owner,
    ship: &Ship<'_>,
    ticket: &Ticket,
    former: Option<&OwnedFd>,
) -> std::io::Result<Record> {
    let gone = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let own = process::identify(process::own_pid())?.ok_or_else(gone)?;
    let socket = |descriptor: BorrowedFd<'_>, path: &Path, spot: Option<Spot>| {
        let descriptor = descriptor.as_raw_fd();
        Some(Socket { descriptor, path: path.to_owned(), spot: spot? })
    };
    let listener = &ship.listener;
    let (state_lock, run_lock) = ship.directories.locks();
    let (notify, streams) = (owner.senses.notify_sockets(), owner.senses.notify_streams());
    let services = owner.processes.iter();
    Ok(Record {
        version: HANDOVERS.newest,
        process: own,
        tries: ship.report.borrow().tries,
        from: Identity { path: ship.executable.clone(), program: Program::of_process().clone() },
        to: Identity { path: ticket.found.path.clone(), program: ticket.to.clone() },
        failed: None,
        home: ship.home.clone(),
        words: std::env::args_os().skip(1).map(|word| Text(word.into_vec())).collect(),
        state_lock: state_lock.map(|lock| lock.as_raw_fd()),
        run_lock: run_lock.as_raw_fd(),
        api: socket(listener.as_fd(), listener.path(), listener.spot()).ok_or_else(gone)?,
        notify: notify
            .filter_map(|(service, path, descriptor)| {
                Some((service.clone(), socket(descriptor, path, Spot::of(path))?))
            })
            .collect(),
        streams: streams
            .filter_map(|(service, path, descriptor)| {
                Some((service.clone(), socket(descriptor, path, Spot::of(path))?))
            })
            .collect(),
        fifos: owner.fifos.iter().map(|(slot, fifo)| (slot.clone(), fifo.as_raw_fd())).collect(),
        former: former.map(AsRawFd::as_raw_fd),
        services: services.map(|(service, instance)| (service.clone(), instance.process)).collect(),
    })
}

/// The limit that we were given, not the one that we raised it to: the next program takes what it finds for what it was
/// given, and passes that on to the children.
pub(super) fn lower_open_files() {
    if let Ok(given) = limits::given_open_files() {
        let _ = limits::set(Resource::OpenFiles, given);
    }
}

/// Ours, with the number of the handover.
pub(super) fn environment(file: &File) -> Vec<(OsString, OsString)> {
    let others = std::env::vars_os().filter(|(name, _)| name != VARIABLE && name != pending::FELL_BACK);
    others.chain([(VARIABLE.into(), file.as_raw_fd().to_string().into())]).collect()
}

/// A word of a command line as the system takes it.
pub(super) fn to_word(text: &Text) -> OsString {
    OsStr::from_bytes(text.as_bytes()).to_owned()
}
