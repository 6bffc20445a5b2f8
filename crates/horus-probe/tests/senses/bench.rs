//! One set of senses and the engine's end of the channel.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use horus_core::ids::{Generation, MonitorName, ProcessId, ServiceName};
use horus_core::observation::{Beat, Input, MonitorObservation, Observation, ProbeFault};
use horus_core::plan::{
    BeatPlan, HttpBeat, KillPlan, LaunchPlan, Limits, LogPlan, MonitorCheck, MonitorPlan, Ready, RestartOn,
    RestartPlan, Secret, ServicePlan, StopPlan,
};
use horus_core::tree::TreeLimits;
use horus_probe::Senses;
use tokio::sync::mpsc;

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const GENERATION: Generation = Generation(7);

pub(crate) struct Bench {
    pub(crate) senses: Senses,
    inputs: mpsc::Receiver<Input>,
    pub(crate) dir: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let (sender, inputs) = mpsc::channel(64);
        let dir = tempfile::tempdir().unwrap();
        Self { senses: Senses::new(sender, dir.path().to_owned()), inputs, dir }
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.dir.path().join("bot.log")
    }

    /// Watches the service `bot` with these sources.
    pub(crate) fn watch(&mut self, main: ProcessId, beats: Vec<BeatPlan>) {
        self.watch_as("bot", main, beats);
    }

    pub(crate) fn watch_as(&mut self, service: &str, main: ProcessId, beats: Vec<BeatPlan>) {
        let plan = service_plan(self.dir.path(), beats);
        let log = self.log_path();
        self.senses.watch(&name(service), GENERATION, main, &plan, &log);
    }

    /// The next observation of any service.
    pub(crate) async fn next(&mut self) -> Observation {
        match tokio::time::timeout(PATIENCE, self.inputs.recv()).await.expect("nothing was observed") {
            Some(Input::Service(_, observation)) => observation,
            other => panic!("expected an observation, got {other:?}"),
        }
    }

    pub(crate) async fn next_monitor(&mut self) -> MonitorObservation {
        match tokio::time::timeout(PATIENCE, self.inputs.recv()).await.expect("nothing was observed") {
            Some(Input::Monitor(_, observation)) => observation,
            other => panic!("expected an observation, got {other:?}"),
        }
    }

    pub(crate) async fn next_beat(&mut self) -> Beat {
        match self.next().await {
            Observation::Beat { generation: GENERATION, beat } => beat,
            other => panic!("expected a beat, got {other:?}"),
        }
    }

    pub(crate) async fn next_miss(&mut self) -> (ProbeFault, String) {
        match self.next().await {
            Observation::NoBeat { generation: GENERATION, fault, detail, .. } => (fault, detail),
            other => panic!("expected a miss, got {other:?}"),
        }
    }

    /// What is in the queue now.
    pub(crate) fn now(&mut self) -> Option<Input> {
        self.inputs.try_recv().ok()
    }

    /// The engine goes away.
    pub(crate) fn listen_no_more(&mut self) {
        self.inputs.close();
    }

    pub(crate) async fn monitor(&mut self, check: MonitorCheck) -> MonitorObservation {
        let monitor = MonitorName::parse("venue").unwrap();
        let plan = MonitorPlan { check, down_after: Duration::from_secs(1) };
        self.senses.monitor(&monitor, &plan);
        let seen = self.next_monitor().await;
        self.senses.unmonitor(&monitor);
        seen
    }
}

pub(crate) fn name(service: &str) -> ServiceName {
    ServiceName::parse(service).unwrap()
}

/// This test process itself: a fine main process where it does not matter.
pub(crate) fn myself() -> ProcessId {
    let id = horus_sys::process::identify(horus_sys::process::own_pid()).unwrap().unwrap();
    ProcessId { pid: id.pid, start_time: id.start_time }
}

pub(crate) fn http_beat(url: &str, every_ms: u64, timeout_ms: u64) -> HttpBeat {
    HttpBeat {
        url: url.to_owned(),
        every: Duration::from_millis(every_ms),
        timeout: Duration::from_millis(timeout_ms),
        seq: Some("/seq".into()),
        progress: Some("/progress".into()),
        state: None,
        lag: None,
        gauges: None,
    }
}

pub(crate) fn service_plan(directory: &Path, beats: Vec<BeatPlan>) -> ServicePlan {
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".into());
    ServicePlan {
        owner: horus_core::foreign::Owner::Keeper,
        launch: LaunchPlan {
            command: vec!["bot".into()],
            directory: directory.to_owned(),
            environment: BTreeMap::from([("PATH".to_owned(), Secret::new(path))]),
            user: None,
            group: None,
            limits: Limits::default(),
            exclusive: Vec::new(),
            agent: None,
            log: LogPlan::default(),
        },
        tree: TreeLimits::default(),
        after: vec![],
        groups: Vec::new(),
        ready: Ready::Tick,
        beats,
        deadline: Duration::from_secs(10),
        startup: Duration::from_secs(60),
        stop: StopPlan { signal: "SIGTERM".into(), grace: Duration::from_secs(5) },
        restart: RestartPlan {
            on: RestartOn::Failure,
            first: Duration::ZERO,
            next: Duration::from_secs(1),
            max: Duration::from_secs(300),
            crash_loop: 5,
            within: Duration::from_secs(600),
        },
        kills: KillPlan { limit: 3, prove: Duration::from_secs(300), retry: None, daily: 10 },
        observe: false,
        autostart: true,
        sampler: true,
        values: BTreeMap::new(),
        funnels: BTreeMap::new(),
        progress: BTreeMap::new(),
        expects: BTreeMap::new(),
        counters: BTreeMap::new(),
        steps: BTreeMap::new(),
        schedule: None,
    }
}
