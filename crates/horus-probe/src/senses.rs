//! Who is being watched, and by which tasks.
//!
//! One task per source: a source that hangs hangs alone. The owner of [`Senses`] (the daemon's loop) calls plain methods;
//! none of them waits. Tasks end when they are dropped or when nobody takes their observations any more; one that
//! panics is started again and says that it was blind.

use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use horus_core::ids::{Generation, MonitorName, ProcessId, ServiceName};
use horus_core::observation::{Input, Observation};
use horus_core::plan::{BeatKind, BeatPlan, LaunchPlan, MonitorPlan, ServicePlan};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::beat::{Setting, poll_beat};
use crate::counted::{Page, read_counters};
use crate::exec::Surroundings;
use crate::log::LogStart;
use crate::monitor::watch_monitor;
use crate::notify::{NotifyError, NotifyPoint};
use crate::outlet::{Counts, MonitorOutlet, Outlet, ServiceOutlet};
use crate::pace::Haste;
use crate::sign::Miss;
use crate::task::start;
use crate::text;

/// All probes of one Horus. Its methods must be called inside a tokio runtime.
#[derive(Debug)]
pub struct Senses {
    outlet: Outlet,
    notify_directory: PathBuf,
    services: BTreeMap<ServiceName, Watched>,
    monitors: BTreeMap<MonitorName, WatchedMonitor>,
    notify: BTreeMap<ServiceName, NotifyPoint>,
}

#[derive(Debug)]
struct Watched {
    generation: Generation,
    main: ProcessId,
    surroundings: Arc<Surroundings>,
    log_path: PathBuf,
    haste: watch::Sender<Haste>,
    sources: Vec<RunningSource>,
    pages: Vec<RunningPage>,
}

/// One page of counters and its task. Dropping it ends the task.
#[derive(Debug)]
struct RunningPage {
    page: Page,
    _task: JoinSet<()>,
}

/// One polled source and its task. Dropping it ends the task.
#[derive(Debug)]
struct RunningSource {
    plan: BeatPlan,
    _task: JoinSet<()>,
}

#[derive(Debug)]
struct WatchedMonitor {
    plan: MonitorPlan,
    _haste: watch::Sender<Haste>,
    _task: JoinSet<()>,
}

impl Senses {
    /// Nobody is watched yet. Observations go to `inputs`; sockets are made in `notify_directory`, which must exist
    /// and be reachable by the users that the services run as.
    pub fn new(inputs: mpsc::Sender<Input>, notify_directory: PathBuf) -> Self {
        Self {
            outlet: Outlet::new(inputs),
            notify_directory,
            services: BTreeMap::new(),
            monitors: BTreeMap::new(),
            notify: BTreeMap::new(),
        }
    }

    /// Where the notify socket of a service is, bound or not: its `NOTIFY_SOCKET`.
    pub fn notify_address(&self, service: &ServiceName) -> PathBuf {
        NotifyPoint::path_of(&self.notify_directory, service)
    }

    /// Where the notify stream of a service is, the same for runtimes without datagrams: its `HORUS_NOTIFY_STREAM`. `None`:
    /// there is none.
    pub fn stream_address(&self, service: &ServiceName) -> Option<PathBuf> {
        let (path, _) = self.notify.get(service)?.stream()?;
        Some(path.to_owned())
    }

    /// Binds the notify socket before the program is started, in place of that of an earlier run. What comes in
    /// until [`Senses::watch`] is kept. `owner`: the user id that the service runs as, if it is not ours.
    ///
    /// # Errors
    /// [`NotifyError`]: the program can be started all the same, but its pushed beats will not be heard.
    pub fn prepare_notify(
        &mut self,
        service: &ServiceName,
        owner: Option<u32>,
    ) -> Result<PathBuf, NotifyError> {
        let point = NotifyPoint::bind(&self.notify_directory, service, owner, &self.outlet)?;
        self.notify.insert(service.clone(), point);
        Ok(self.notify_address(service))
    }

    /// The notify sockets, for a Horus that becomes another program and passes them on: whose, where, and the socket itself.
    pub fn notify_sockets(&self) -> impl Iterator<Item = (&ServiceName, &Path, BorrowedFd<'_>)> {
        self.notify.iter().filter(|(_, point)| point.is_alive()).map(|(service, point)| {
            let (path, socket) = point.place();
            (service, path, socket)
        })
    }

    /// Goes on with a notify socket that an earlier program of this process has bound, at the same place.
    ///
    /// # Errors
    /// [`NotifyError`]: it cannot be read. The next [`Senses::watch`] binds another.
    pub fn inherit_notify(&mut self, service: &ServiceName, socket: OwnedFd) -> Result<(), NotifyError> {
        let point = NotifyPoint::inherit(&self.notify_directory, service, socket, &self.outlet)?;
        self.notify.insert(service.clone(), point);
        Ok(())
    }

    /// The same for the notify streams: listening sockets. Connections are made anew by whoever is connected.
    pub fn notify_streams(&self) -> impl Iterator<Item = (&ServiceName, &Path, BorrowedFd<'_>)> {
        let alive = self.notify.iter().filter(|(_, point)| point.is_alive());
        alive.filter_map(|(service, point)| point.stream().map(|(path, socket)| (service, path, socket)))
    }

    /// Goes on with a notify stream of a service whose notify socket was inherited before.
    pub fn inherit_stream(&mut self, service: &ServiceName, socket: OwnedFd) {
        if let Some(point) = self.notify.get_mut(service) {
            point.inherit_stream(&self.notify_directory, socket);
        }
    }

    /// Where the notify stream of a service would be.
    pub fn stream_place(&self, service: &ServiceName) -> PathBuf {
        NotifyPoint::stream_path_of(&self.notify_directory, service)
    }

    /// Whether some socket listens for a program that is just being started. What that says is kept in this process only.
    pub fn expects_a_program(&self) -> bool {
        self.notify.values().any(NotifyPoint::expects_a_program)
    }

    /// Watches a run with every source of its plan. For a run that is watched already, sources whose plan did not
    /// change go on undisturbed (connection, place in the log), the others are replaced.
    pub fn watch(
        &mut self,
        service: &ServiceName,
        generation: Generation,
        main: ProcessId,
        plan: &ServicePlan,
        log_path: &Path,
    ) {
        let surroundings = Arc::new(Surroundings::of_service(&plan.launch));
        let old = self.services.remove(service).filter(|old| {
            (old.generation, old.main) == (generation, main)
                && old.surroundings == surroundings
                && old.log_path == log_path
        });
        let (haste, mut kept, mut kept_pages) = match old {
            Some(old) => (old.haste, old.sources, old.pages),
            None => (watch::Sender::default(), Vec::new(), Vec::new()),
        };
        let outlet = ServiceOutlet { outlet: self.outlet.clone(), service: service.clone(), generation };
        let setting = Setting {
            outlet: outlet.clone(),
            surroundings: Arc::clone(&surroundings),
            log: LogStart::at_end_of(log_path),
        };
        let polled = plan.beats.iter().filter(|beat| beat.kind() != BeatKind::Notify);
        let sources = polled
            .map(|beat| {
                let same = kept.iter().position(|running| running.plan == *beat);
                same.map(|at| kept.swap_remove(at))
                    .unwrap_or_else(|| start_source(setting.clone(), beat.clone(), &haste))
            })
            .collect();
        let pages = Page::all(&plan.counters).into_iter().map(|page| {
            let same = kept_pages.iter().position(|running| running.page == page);
            same.map(|at| kept_pages.swap_remove(at)).unwrap_or_else(|| start_page(&outlet, page))
        });
        let pages = pages.collect();
        if plan.is_notified() {
            self.listen(outlet, main, owner_of(&plan.launch));
        } else {
            self.listen_for_nobody(service);
        }
        let log_path = log_path.to_owned();
        let watched = Watched { generation, main, surroundings, log_path, haste, sources, pages };
        self.services.insert(service.clone(), watched);
    }

    /// Ends all probes of a service. Its notify socket stays bound and is drained, so that no program hangs in a send.
    pub fn unwatch(&mut self, service: &ServiceName) {
        self.services.remove(service);
        self.listen_for_nobody(service);
    }

    /// Forgets a service altogether; its notify socket is removed.
    pub fn forget(&mut self, service: &ServiceName) {
        self.services.remove(service);
        if let Some(point) = self.notify.remove(service) {
            point.remove();
        }
    }

    /// `true`: polls at once, then four times as fast (but not faster than
    /// [`crate::limits::HASTENED_EVERY_MIN`]). `false`: as usual.
    pub fn hasten(&mut self, service: &ServiceName, fast: bool) {
        if let Some(watched) = self.services.get(service) {
            watched.haste.send_modify(|haste| *haste = Haste { fast, nudges: haste.nudges.wrapping_add(1) });
        }
    }

    /// Watches a monitor; nothing happens if it is watched by this very plan already.
    pub fn monitor(&mut self, monitor: &MonitorName, plan: &MonitorPlan) {
        if self.monitors.get(monitor).is_some_and(|watched| watched.plan == *plan) {
            return;
        }
        let haste = watch::Sender::new(Haste::default());
        let outlet = MonitorOutlet { outlet: self.outlet.clone(), monitor: monitor.clone() };
        let (plan_of_task, hastened, counters) =
            (plan.clone(), haste.clone(), Arc::clone(&self.outlet.counters));
        let task = start(monitor.as_str().to_owned(), counters, move || {
            watch_monitor(outlet.clone(), plan_of_task.clone(), hastened.subscribe())
        });
        self.monitors
            .insert(monitor.clone(), WatchedMonitor { plan: plan.clone(), _haste: haste, _task: task });
    }

    /// Ends the probe of a monitor.
    pub fn unmonitor(&mut self, monitor: &MonitorName) {
        self.monitors.remove(monitor);
    }

    /// Readings of the senses' own counters.
    pub fn counts(&self) -> Counts {
        self.outlet.counters.read()
    }

    fn listen(&mut self, outlet: ServiceOutlet, main: ProcessId, owner: impl FnOnce() -> Option<u32>) {
        let service = outlet.service.clone();
        let bound = self.notify.get(&service).is_some_and(NotifyPoint::is_alive);
        if !bound && let Err(error) = self.prepare_notify(&service, owner()) {
            // An adopted run, whose socket went with the last Horus.
            let detail = text::chain(&error);
            tracing::error!(%service, error = detail, "pushed beats will not be heard");
            let blind = Miss::prober(detail).into_observation(outlet.generation, BeatKind::Notify);
            tell_soon(outlet, blind);
            return;
        }
        if let Some(point) = self.notify.get(&service) {
            point.listen_for(outlet, main.pid);
        }
    }

    fn listen_for_nobody(&self, service: &ServiceName) {
        if let Some(point) = self.notify.get(service) {
            point.listen_for_nobody();
        }
    }
}

/// The user that a program runs as, if the plan names one.
fn owner_of(launch: &LaunchPlan) -> impl FnOnce() -> Option<u32> + use<> {
    let user = launch.user.clone();
    move || {
        let name = user?;
        let known = || horus_sys::user::lookup_user(&name).ok().flatten().map(|user| user.uid);
        name.parse().ok().or_else(known)
    }
}

impl Drop for Senses {
    fn drop(&mut self) {
        self.notify.values().for_each(NotifyPoint::remove);
    }
}

fn start_source(setting: Setting, plan: BeatPlan, haste: &watch::Sender<Haste>) -> RunningSource {
    let name = format!("{} {}", setting.outlet.service, plan.kind().word());
    let counters = Arc::clone(&setting.outlet.outlet.counters);
    let hastened = haste.subscribe();
    let plan_of_task = plan.clone();
    let task =
        start(name, counters, move || poll_beat(setting.clone(), plan_of_task.clone(), hastened.clone()));
    RunningSource { plan, _task: task }
}

fn start_page(outlet: &ServiceOutlet, page: Page) -> RunningPage {
    let name = format!("{} counters", outlet.service);
    let counters = Arc::clone(&outlet.outlet.counters);
    let (outlet, page_of_task) = (outlet.clone(), page.clone());
    let task = start(name, counters, move || read_counters(outlet.clone(), page_of_task.clone()));
    RunningPage { page, _task: task }
}

/// Tells one observation from a place that may not wait.
fn tell_soon(outlet: ServiceOutlet, observation: Observation) {
    let patience = std::time::Duration::from_secs(5);
    drop(tokio::spawn(async move { outlet.tell(observation, patience).await }));
}
