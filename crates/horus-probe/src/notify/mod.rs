//! The pushed beat: one unix datagram socket per service, the sd_notify protocol of systemd; and beside it a
//! [stream](stream) for runtimes that have no datagrams.
//!
//! The path goes into the child's environment, so the socket has to be there before the child is: it is bound first,
//! and only later told whose run it listens for. It is read all the time, also while nobody is to be listened to:
//! a full socket would block a program in the middle of its `sendto`, and a watchdog must never be what hangs it.
//!
//! The kernel says who sent each datagram. Only the main process, its descendants and its session are believed; a
//! stranger is counted and named once a minute. What a wake-up brings is merged into one beat, then there is a short
//! pause: a flood slows its sender and nobody else.

mod agent;
pub(crate) mod datagram;
mod stream;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use horus_core::ids::{Generation, ServiceName};
use horus_core::observation::{Beat, Observation};
use horus_core::plan::BeatKind;
use horus_sys::peer::{Received, enable_credentials, recv_with_credentials};
use jiff::Timestamp;
use tokio::io::Interest;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::limits::{
    DATAGRAM_BYTES_MAX, DATAGRAMS_PER_WAKE, NOTIFY_PAUSE, STRANGER_REPORT_EVERY, STREAM_MESSAGES_MAX,
};
use crate::outlet::{Closed, Counters, Outlet, ServiceOutlet};
use crate::task::start;
use agent::Voices;
use datagram::{Datagram, whole_lines};
use stream::{Door, Hall};

/// How long the socket waits for a full queue to the engine.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why a service has no notify socket.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The path does not fit into a socket address (about 100 bytes).
    #[error("the path of the notify socket is too long: {path}")]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// The socket could not be made.
    #[error("cannot make the notify socket {path}")]
    Io {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// For whom the socket listens.
#[derive(Clone, Debug)]
enum Audience {
    /// The program is about to be started; what it says is kept.
    Soon,
    /// This run.
    Run(ServiceOutlet, i32),
    /// Nobody; what is said is thrown away.
    Nobody,
}

/// A bound socket and the task that reads it.
#[derive(Debug)]
pub(crate) struct NotifyPoint {
    path: PathBuf,
    socket: Arc<Socket>,
    audience: watch::Sender<Audience>,
    hall: Hall,
    /// `None`: there is none.
    door: Option<Door>,
    _task: JoinSet<()>,
}

impl NotifyPoint {
    /// Where a service's socket is.
    pub(crate) fn path_of(directory: &Path, service: &ServiceName) -> PathBuf {
        directory.join(format!("{service}.sock"))
    }

    /// Binds the socket, in place of any earlier one. `owner`: the user that the service runs as, if not ours.
    pub(crate) fn bind(
        directory: &Path,
        service: &ServiceName,
        owner: Option<u32>,
        outlet: &Outlet,
    ) -> Result<Self, NotifyError> {
        const ADDRESS_BYTES_MAX: usize = 100;
        let path = Self::path_of(directory, service);
        let temporary = directory.join(format!("{service}.sock~"));
        if temporary.as_os_str().len() > ADDRESS_BYTES_MAX {
            return Err(NotifyError::TooLong { path });
        }
        let socket = bind_at(&path, &temporary, owner)
            .map_err(|source| NotifyError::Io { path: path.clone(), source })?;
        let mut point = Self::read_from(socket, path, service, outlet);
        point.open(Door::bind(directory, owner, point.hall.clone()));
        Ok(point)
    }

    /// Goes on with a stream socket, too, that an earlier program of this process has bound.
    pub(crate) fn inherit_stream(&mut self, directory: &Path, socket: OwnedFd) {
        self.open(Door::inherit(directory, socket, self.hall.clone()));
    }

    fn open(&mut self, door: io::Result<Door>) {
        match door {
            Ok(door) => self.door = Some(door),
            Err(error) => {
                // Programs that send datagrams do not notice.
                tracing::error!(service = %self.hall.service, %error, "it has no notify stream");
            }
        }
    }

    /// The stream's path and socket, if there is one.
    pub(crate) fn stream(&self) -> Option<(&Path, BorrowedFd<'_>)> {
        self.door.as_ref().map(Door::place)
    }

    /// Where a service's stream socket is.
    pub(crate) fn stream_path_of(directory: &Path, service: &ServiceName) -> PathBuf {
        Door::path_of(directory, service)
    }

    /// Goes on with a socket that an earlier program of this process has bound. What was sent meanwhile waits in it.
    pub(crate) fn inherit(
        directory: &Path,
        service: &ServiceName,
        socket: OwnedFd,
        outlet: &Outlet,
    ) -> Result<Self, NotifyError> {
        let path = Self::path_of(directory, service);
        let socket = Socket::over(UnixDatagram::from(socket));
        let socket = socket.map_err(|source| NotifyError::Io { path: path.clone(), source })?;
        Ok(Self::read_from(socket, path, service, outlet))
    }

    fn read_from(socket: Socket, path: PathBuf, service: &ServiceName, outlet: &Outlet) -> Self {
        let (audience, told) = watch::channel(Audience::Soon);
        let socket = Arc::new(socket);
        let read = Arc::clone(&socket);
        let (owner, counters) = (service.clone(), Arc::clone(&outlet.counters));
        let (heard, from_streams) = mpsc::channel(STREAM_MESSAGES_MAX);
        let from_streams = Arc::new(Mutex::new(from_streams));
        let hall =
            Hall { service: service.clone(), audience: told.clone(), heard, counters: Arc::clone(&counters) };
        let task = start(format!("{service} notify"), Arc::clone(&counters), move || {
            let listener = Listener {
                service: owner.clone(),
                socket: Arc::clone(&read),
                audience: told.clone(),
                counters: Arc::clone(&counters),
                from_streams: Arc::clone(&from_streams),
                reloads: false,
                refused: (None, [false; 3]),
                heard: Vec::new(),
                voices: Voices::default(),
                strangers: Strangers::default(),
            };
            listener.listen()
        });
        Self { path, socket, audience, hall, door: None, _task: task }
    }

    /// The path and the socket, for a Horus that becomes another program and passes it on.
    pub(crate) fn place(&self) -> (&Path, BorrowedFd<'_>) {
        (&self.path, self.socket.read.as_fd())
    }

    /// Whether it keeps what a program says that is about to be known: only this process has it.
    pub(crate) fn expects_a_program(&self) -> bool {
        matches!(*self.audience.borrow(), Audience::Soon)
    }

    pub(crate) fn listen_for(&self, run: ServiceOutlet, main_pid: i32) {
        self.audience.send_replace(Audience::Run(run, main_pid));
    }

    pub(crate) fn listen_for_nobody(&self) {
        self.audience.send_replace(Audience::Nobody);
    }

    /// Whether the task is still there; it ends when the engine is gone.
    pub(crate) fn is_alive(&self) -> bool {
        !self.audience.is_closed()
    }

    /// Removes the name of the socket.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_file(&self.path);
        self.door.iter().for_each(Door::remove);
    }
}

/// One socket under two descriptors: the runtime's, which says when there is something to read, and ours, which can
/// tell the sender.
#[derive(Debug)]
struct Socket {
    ready: tokio::net::UnixDatagram,
    read: UnixDatagram,
}

impl Socket {
    fn over(socket: UnixDatagram) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let read = socket.try_clone()?;
        Ok(Self { ready: tokio::net::UnixDatagram::from_std(socket)?, read })
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        self.ready.try_io(Interest::READABLE, || recv_with_credentials(&self.read, buffer))
    }
}

fn bind_at(path: &Path, temporary: &Path, owner: Option<u32>) -> io::Result<Socket> {
    remove_leftover(temporary)?;
    let socket = UnixDatagram::bind(temporary)?;
    match enable_credentials(&socket) {
        // macOS names no sender; the mode of the socket is all the protection there.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
        result => result?,
    }
    put_in_place(temporary, path, owner)?;
    Socket::over(socket)
}

fn remove_leftover(temporary: &Path) -> io::Result<()> {
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Nobody finds a socket before it is its owner's alone.
fn put_in_place(temporary: &Path, path: &Path, owner: Option<u32>) -> io::Result<()> {
    fs::set_permissions(temporary, fs::Permissions::from_mode(0o600))?;
    if let Some(owner) = owner {
        std::os::unix::fs::chown(temporary, Some(owner), None)?;
    }
    fs::rename(temporary, path)
}

/// A datagram and what is known of its sender. Known at once: the next datagram may be a barrier, after which the
/// sender ends, and then nobody can say any more whose child it was.
#[derive(Debug)]
struct Heard {
    sender: Option<i32>,
    standing: Standing,
    said: Datagram,
}

/// Whose process the sender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Own,
    Stranger,
    /// It is not known yet who will be the main process; this is the sender's session.
    InSession(i32),
}

#[derive(Debug)]
struct Listener {
    service: ServiceName,
    socket: Arc<Socket>,
    audience: watch::Receiver<Audience>,
    counters: Arc<Counters>,
    /// What came in over streams.
    from_streams: Arc<Mutex<mpsc::Receiver<Heard>>>,
    /// It said `RELOADING=1`, and not `READY=1` since.
    reloads: bool,
    /// What this run was told that Horus does not do.
    refused: (Option<Generation>, [bool; 3]),
    /// Read, and not handed on yet.
    heard: Vec<Heard>,
    voices: Voices,
    strangers: Strangers,
}

impl Listener {
    async fn listen(mut self) -> Closed {
        let streams = Arc::clone(&self.from_streams);
        let mut streams = streams.lock().await;
        loop {
            let mut audience = self.audience.clone();
            tokio::select! {
                // What was said before an audience came is told to it first.
                biased;
                changed = audience.changed() => {
                    self.audience = audience;
                    if changed.is_err() {
                        return Closed;
                    }
                }
                ready = self.socket.ready.readable() => {
                    if let Err(error) = ready {
                        tracing::error!(service = %self.service, %error, "the notify socket is broken");
                        return Closed;
                    }
                    let audience = self.audience.borrow().clone();
                    let batch = read_batch(&self.socket, &self.service, &audience);
                    self.counters.datagrams.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    self.heard.extend(batch);
                }
                Some(heard) = streams.recv() => self.heard.push(heard),
            }
            // Also when datagrams never end.
            self.heard.extend(std::iter::from_fn(|| streams.try_recv().ok()).take(STREAM_MESSAGES_MAX));
            if let Err(closed) = self.pass_on().await {
                return closed;
            }
        }
    }

    /// Hands on what was read, to whoever is the audience now.
    async fn pass_on(&mut self) -> Result<(), Closed> {
        let audience = self.audience.borrow().clone();
        match audience {
            Audience::Soon => {
                let excess = self.heard.len().saturating_sub(DATAGRAMS_PER_WAKE);
                self.heard.drain(..excess);
                // Nothing can be concluded yet, so there is no hurry.
                tokio::time::sleep(NOTIFY_PAUSE).await;
                Ok(())
            }
            Audience::Nobody => {
                self.heard.clear();
                tokio::time::sleep(NOTIFY_PAUSE).await;
                Ok(())
            }
            Audience::Run(outlet, main_pid) => {
                let all = std::mem::take(&mut self.heard);
                if all.is_empty() {
                    return Ok(());
                }
                self.voices.of_run(outlet.generation);
                let said = self.believe(all, main_pid);
                self.say_what_is_refused(&said, outlet.generation, main_pid);
                let said = self.follow_reload(said);
                for observation in observations(said, &outlet) {
                    outlet.tell(observation, PATIENCE).await?;
                }
                tokio::time::sleep(NOTIFY_PAUSE).await;
                Ok(())
            }
        }
    }

    /// A reload goes on until the next `READY=1`, which may come in another wake-up.
    fn follow_reload(&mut self, mut said: Datagram) -> Datagram {
        said.reloaded |= self.reloads && said.ready;
        self.reloads = said.reloading || (self.reloads && !said.ready);
        said
    }

    /// What Horus does not do is said once for each run, so that nobody waits for it.
    fn say_what_is_refused(&mut self, said: &Datagram, generation: Generation, main_pid: i32) {
        let main_pid_elsewhere = said.main_pid.is_some_and(|pid| pid != main_pid);
        let refusals = [
            (said.stores, "FDSTORE=1: Horus keeps no descriptors; what was passed is closed"),
            (
                main_pid_elsewhere,
                "MAINPID= names another process; it is not followed: the main process is the one that Horus started",
            ),
            (
                said.watchdog,
                "WATCHDOG_USEC= is not followed: the deadline is the plan's; for a long step there is EXTEND_TIMEOUT_USEC=",
            ),
        ];
        if self.refused.0 != Some(generation) {
            self.refused = (Some(generation), [false; 3]);
        }
        for (told, (asked, text)) in self.refused.1.iter_mut().zip(refusals) {
            if asked && !std::mem::replace(told, true) {
                tracing::warn!(service = %self.service, main_pid = said.main_pid, "{text}");
            }
        }
    }

    /// Merges what the service's own processes said; strangers are left out and counted.
    fn believe(&mut self, all: Vec<Heard>, main_pid: i32) -> Datagram {
        let mut merged = Datagram::default();
        for Heard { sender, standing, mut said } in all {
            let own = match standing {
                Standing::Own => true,
                Standing::Stranger => false,
                Standing::InSession(session) => {
                    session == main_pid || sender.is_some_and(|pid| belongs(pid, main_pid))
                }
            };
            if own {
                // A child that inherited the socket may not have its parent restarted. (macOS names nobody.)
                if said.trigger && sender != Some(main_pid) {
                    (said.trigger, said.trigger_of_other) = (false, true);
                }
                merged.merge(self.voices.weigh(sender, main_pid, said));
            } else {
                Counters::add(&self.counters.strangers);
                self.strangers.report(&self.service, sender.unwrap_or_default());
            }
        }
        merged
    }
}

/// Reads what is there, up to a limit; what is left wakes the task again.
fn read_batch(socket: &Socket, service: &ServiceName, audience: &Audience) -> Vec<Heard> {
    let mut buffer = [0_u8; DATAGRAM_BYTES_MAX];
    let mut standings = BTreeMap::new();
    let mut datagrams = Vec::new();
    for _ in 0..DATAGRAMS_PER_WAKE {
        let Received { length, truncated, sender } = match socket.receive(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                break;
            }
            // A signal, or memory trouble: look again at the next wake-up.
            Err(error) => {
                tracing::debug!(%service, %error, "a datagram could not be read");
                break;
            }
        };
        let bytes = buffer.get(..length).unwrap_or(&buffer);
        let bytes = if truncated { whole_lines(bytes) } else { bytes };
        if truncated {
            tracing::warn!(%service, bytes = DATAGRAM_BYTES_MAX, "a notify datagram was too long; the rest is cut off");
        }
        let sender = sender.known().map(|credentials| credentials.pid).filter(|pid| *pid > 0);
        let standing = *standings.entry(sender).or_insert_with(|| standing(sender, audience));
        let said = Datagram::parse(bytes, Timestamp::now());
        datagrams.push(Heard { sender, standing, said });
    }
    datagrams
}

fn standing(sender: Option<i32>, audience: &Audience) -> Standing {
    match (sender, audience) {
        (_, Audience::Nobody) => Standing::Stranger,
        // macOS does not name the sender.
        (None, _) => {
            if cfg!(target_os = "linux") {
                Standing::Stranger
            } else {
                Standing::Own
            }
        }
        (Some(pid), Audience::Run(_, main_pid)) if belongs(pid, *main_pid) => Standing::Own,
        (Some(_), Audience::Run(..)) => Standing::Stranger,
        (Some(pid), Audience::Soon) => Standing::InSession(session_of(pid).unwrap_or_default()),
    }
}

fn session_of(pid: i32) -> Option<i32> {
    horus_sys::process::row(pid).ok().flatten().map(|row| row.session)
}

/// Is it the main process, a descendant, or in the session that the main process leads? (A grandchild whose parent
/// ended is no descendant any more, but nobody can join a session from outside.)
fn belongs(pid: i32, main_pid: i32) -> bool {
    pid == main_pid
        || session_of(pid) == Some(main_pid)
        || horus_sys::process::is_descendant(pid, main_pid).unwrap_or(false)
}

/// The line for people: its own, or what can be said instead of one.
fn status_line(said: &Datagram) -> Option<String> {
    let own = said.status.clone();
    let state = match said {
        Datagram { trigger: true, .. } => Some("it says itself that it hangs (WATCHDOG=trigger)"),
        Datagram { trigger_of_other: true, .. } => {
            Some("a process that is not its main one says that it hangs (WATCHDOG=trigger)")
        }
        Datagram { reloading: true, .. } => Some("reloading"),
        Datagram { reloaded: true, .. } => Some("ready again after a reload"),
        _ => None,
    };
    let line = match (own, state) {
        (Some(own), Some(state)) if said.trigger || said.trigger_of_other => Some(format!("{state}: {own}")),
        (own, state) => own.or(state.map(str::to_owned)),
    };
    match (line, said.errno) {
        (Some(line), Some(number)) => Some(format!("{line} ({})", io::Error::from_raw_os_error(number))),
        (None, Some(number)) => Some(io::Error::from_raw_os_error(number).to_string()),
        (line, None) => line,
    }
}

fn observations(mut said: Datagram, outlet: &ServiceOutlet) -> Vec<Observation> {
    let generation = outlet.generation;
    let service = &outlet.service;
    if said.trigger {
        tracing::warn!(%service, "WATCHDOG=trigger: the program says itself that it hangs");
    }
    if said.left_out > 0 {
        tracing::warn!(%service, entries = said.left_out, "X_HORUS_PROGRESS or X_HORUS_GAUGE entries cannot be read or are too many");
    }
    let mut all = Vec::new();
    if said.ready {
        all.push(Observation::SaidReady { generation });
    }
    if said.stopping {
        all.push(Observation::SaidStopping { generation });
    }
    if let Some(extend) = said.extend {
        all.push(Observation::AskedForTime { generation, extend });
    }
    if let Some(text) = status_line(&said) {
        all.push(Observation::SaidStatus { generation, text });
    }
    if let Some(step) = said.step.take() {
        if said.stepped && step.is_some() {
            all.push(Observation::SaidStep { generation, step: None });
        }
        all.push(Observation::SaidStep { generation, step });
    }
    let stuck = said.trigger.then_some(Observation::SaidStuck { generation });
    if said.beat {
        let Datagram { seq: tick, progress, declared, gauges, lag_ms: loop_lag_ms, .. } = said;
        let beat = Beat { source: BeatKind::Notify, tick, progress, declared, gauges, loop_lag_ms };
        all.push(Observation::Beat { generation, beat });
    }
    // After the beats of the same moment: what came before the word does not speak against it.
    all.extend(stuck);
    all
}

/// Processes that speak on a socket that is not theirs, told at most once a minute.
#[derive(Debug, Default)]
struct Strangers {
    told: Option<Instant>,
    untold: u64,
}

impl Strangers {
    fn report(&mut self, service: &ServiceName, pid: i32) {
        self.untold += 1;
        if self.told.is_some_and(|told| told.elapsed() < STRANGER_REPORT_EVERY) {
            return;
        }
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name = crate::text::one_line(&name, 16);
        tracing::warn!(%service, pid, name, datagrams = self.untold, "a stranger spoke on the notify socket; ignored");
        self.told = Some(Instant::now());
        self.untold = 0;
    }
}
