//! Sinks: one worker each, fed from the store's outbox.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use horus_alert::http::install_tls_provider;
use horus_alert::pace::Jitter;
use horus_alert::{
    Client, HttpSink, Letterhead, Outbox, Printer, Route, Worker, WorkerHandle, test_sink, wall_clock,
};
use horus_api::SinkTest;
use horus_core::ids::{IncidentId, SinkName};
use horus_core::notice::{IncidentKind, Notice};
use horus_core::outbox::{Delivery, OutboxItem};
use horus_core::plan::{Plan, Secret, Severity};
use horus_store::Store;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::watch;

use super::dead_man::Looks;

/// The sink that stands in when none is configured: alerts are printed on standard error.
pub(super) const TERMINAL: &str = "terminal";

/// So long the disk may take to know that a message is about to be sent.
const BEGIN_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long workers may take to send what is due when Horus ends.
pub(super) const DRAIN_MAX: Duration = Duration::from_secs(5);

/// The store's outbox, as the workers see it.
pub(super) struct StoreOutbox {
    pub(super) store: Store,
    pub(super) changes: watch::Sender<u64>,
    /// For whoever wants to know that workers look for work.
    pub(super) looks: Arc<Looks>,
}

impl Outbox for StoreOutbox {
    async fn due(&self, sink: &SinkName) -> Option<OutboxItem> {
        self.looks.looked();
        self.store.due(sink, Timestamp::now())
    }

    async fn begin(&self, sink: &SinkName, incident: IncidentId) {
        let mut changes = self.changes.subscribe();
        self.store.begin(sink, incident);
        let on_disk =
            async { while !self.store.has_begun(sink, incident) && changes.changed().await.is_ok() {} };
        // An alert does not wait for a disk: then a kill at the wrong instant may cost a second message without a mark.
        let _late = tokio::time::timeout(BEGIN_WAIT_MAX, on_disk).await;
    }

    async fn settle(&self, sink: &SinkName, incident: IncidentId, version: u32, delivery: Delivery) {
        self.store.settle(sink, incident, version, delivery, Timestamp::now());
    }

    async fn next_due_at(&self, sink: &SinkName) -> Option<Timestamp> {
        self.store.next_due_at(sink)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// All sinks of the plan in force.
pub(super) struct Sinks {
    outbox: Arc<StoreOutbox>,
    report: horus_alert::worker::Report,
    workers: Vec<WorkerHandle>,
    /// From which severity on each sink is told.
    levels: BTreeMap<SinkName, Severity>,
    testable: BTreeMap<SinkName, Arc<HttpSink>>,
}

impl Sinks {
    pub(super) fn new(outbox: Arc<StoreOutbox>, report: horus_alert::worker::Report) -> Self {
        let (workers, levels, testable) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self { outbox, report, workers, levels, testable }
    }

    /// Follows a plan: old workers end (what they had not delivered stays in the outbox), new ones start.
    pub(super) fn follow(&mut self, plan: &Plan, secrets: &BTreeMap<SinkName, Secret>) {
        self.workers.clear();
        self.levels.clear();
        self.testable.clear();
        let letterhead = Letterhead { host: plan.daemon.host.clone(), time_zone: TimeZone::system() };
        for (name, sink) in &plan.sinks {
            let Some(secret) = secrets.get(name) else { continue };
            match make_sink(sink, secret, letterhead.clone()) {
                Ok(http) => {
                    self.levels.insert(name.clone(), sink.severity);
                    self.testable.insert(name.clone(), Arc::new(http.clone()));
                    self.start(name.clone(), http);
                }
                Err(error) => {
                    let fault = Some(error);
                    (self.report)(horus_alert::SinkHealth { sink: name.clone(), fault });
                }
            }
        }
        if plan.sinks.is_empty()
            && let Ok(name) = SinkName::parse(TERMINAL)
        {
            self.levels.insert(name.clone(), Severity::Info);
            self.start(name, Printer::new(std::io::stderr(), letterhead, wall_clock()));
        }
    }

    fn start<S: horus_alert::Sink>(&mut self, name: SinkName, sink: S) {
        let worker = Worker {
            name,
            sink,
            outbox: Arc::clone(&self.outbox),
            clock: wall_clock(),
            jitter: Jitter::random(),
            report: Arc::clone(&self.report),
        };
        self.workers.push(worker.start());
    }

    /// The sinks that a notice goes to. A sink is not told of its own death.
    pub(super) fn route(&self, notice: &Notice, dead_sink: Option<&str>) -> Vec<SinkName> {
        let levels = self.levels.iter();
        levels
            .filter(|(_, level)| **level <= notice.severity)
            .filter(|(name, _)| notice.kind != IncidentKind::SinkDead || dead_sink != Some(name.as_str()))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// What `horus alerts test` needs; sending is done elsewhere, off the loop.
    pub(super) fn testable(&self, only: Option<&SinkName>) -> Vec<(SinkName, Arc<HttpSink>)> {
        let chosen = self.testable.iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
        chosen.map(|(name, sink)| (name.clone(), Arc::clone(sink))).collect()
    }

    /// Sends what is due and can be sent at once, then ends.
    pub(super) async fn drain(&mut self) {
        let stopping: Vec<_> =
            self.workers.drain(..).map(|worker| tokio::spawn(worker.stop(DRAIN_MAX))).collect();
        for task in stopping {
            let _ = task.await;
        }
    }
}

fn make_sink(
    sink: &horus_core::plan::SinkPlan,
    secret: &Secret,
    letterhead: Letterhead,
) -> Result<HttpSink, String> {
    install_tls_provider();
    let route =
        Route::new(sink.kind, secret, sink.mention.as_deref()).map_err(|error| super::chain(&error))?;
    let client = Client::new().map_err(|error| super::chain(&error))?;
    Ok(HttpSink::new(route, secret, client, letterhead, wall_clock()))
}

/// Sends one test message to each and says what came back.
pub(super) async fn test(sinks: Vec<(SinkName, Arc<HttpSink>)>) -> Vec<SinkTest> {
    let trials: Vec<_> = sinks
        .into_iter()
        .map(|(name, sink)| {
            tokio::spawn(async move {
                let trial = test_sink(&name, sink.as_ref(), Timestamp::now()).await;
                SinkTest { sink: name, delivered: trial.is_delivered(), detail: trial.to_string() }
            })
        })
        .collect();
    let mut tests = Vec::new();
    for trial in trials {
        tests.extend(trial.await);
    }
    tests
}

#[cfg(test)]
mod crash;
