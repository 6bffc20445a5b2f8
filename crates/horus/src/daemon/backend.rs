//! The daemon as the API sees it.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use horus_api::{
    API_SCHEMA, AlertsReport, AskStep, Backend, Debt, DebtsReport, EVENTS_MAX, EventQuery, EventsReport,
    HealthReport, IncidentReport, IncidentsReport, Problem, ProblemKind, ReloadReport, RuleReport,
    UpgradeReport, VersionReport,
};
use horus_core::event::{Event, What};
use horus_core::explain::Explanation;
use horus_core::ids::{IncidentId, ServiceName, SinkName};
use horus_core::observation::OperatorRequest;
use horus_core::plan::Plan;
use horus_core::record::{IncidentRecord, Recorded};
use horus_core::status::StatusReport;
use horus_keeper::logs::{self, Follower};
use horus_store::{Store, Transaction};
use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::handover::upgrader::Upgrader;
use super::owner::{Call, log_path};
use super::{journal, reload, sinks};

/// Bytes of a log that are looked through for its last lines.
const LOG_TAIL_BYTES_MAX: usize = 4 << 20;

/// How long the answer to a noted rule waits for the disk.
const RULE_STORED_WITHIN: Duration = Duration::from_secs(2);

/// How often a followed log is looked at.
const LOG_LOOK_EVERY: Duration = Duration::from_millis(200);

/// Chunks of a followed log that wait for a slow reader.
const LOG_CHUNKS_MAX: usize = 16;

/// What the API needs.
pub(super) struct Daemon {
    pub(super) calls: mpsc::Sender<Call>,
    pub(super) store: Store,
    pub(super) live: broadcast::Sender<Arc<Recorded>>,
    pub(super) config_path: PathBuf,
    pub(super) evidence_directory: PathBuf,
    pub(super) started_at: Timestamp,
    pub(super) upgrader: Arc<Upgrader>,
}

impl Daemon {
    async fn call<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Call) -> Result<T, Problem> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(make(reply)).await.map_err(|_| Problem::shutting_down())?;
        answer.await.map_err(|_| Problem::shutting_down())
    }

    async fn log_of(&self, service: &ServiceName) -> Result<PathBuf, Problem> {
        let plan: Arc<Plan> = self.call(Call::Plan).await?;
        if plan.services.contains_key(service) {
            return Ok(log_path(&plan, service));
        }
        let known: Vec<&str> = plan.services.keys().map(ServiceName::as_str).collect();
        Err(Problem::no_such_service(service.as_str(), &known.join(", ")))
    }

    async fn tail(&self, path: PathBuf, lines: usize) -> Result<Bytes, Problem> {
        let reading = tokio::task::spawn_blocking(move || logs::tail(&path, lines, LOG_TAIL_BYTES_MAX));
        let lines = reading.await.map_err(|error| internal(error.to_string()))?;
        let text: String = lines.into_iter().flat_map(|line| [line, "\n".to_owned()]).collect();
        Ok(text.into())
    }
}

fn internal(detail: String) -> Problem {
    Problem::new(ProblemKind::Internal, detail, "horus status")
}

impl Backend for Daemon {
    fn version(&self) -> impl Future<Output = VersionReport> + Send {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let report = VersionReport {
            schema: API_SCHEMA,
            version,
            pid: std::process::id(),
            started_at: self.started_at,
        };
        std::future::ready(report)
    }

    async fn health(&self) -> HealthReport {
        let faults = match tokio::time::timeout(Duration::from_secs(2), self.call(Call::Health)).await {
            Ok(Ok(faults)) => faults,
            Ok(Err(problem)) => vec![problem.detail],
            Err(_) => vec!["the judge's loop does not answer".into()],
        };
        HealthReport { schema: API_SCHEMA, healthy: faults.is_empty(), faults }
    }

    async fn status(&self) -> Result<StatusReport, Problem> {
        self.call(Call::Status).await
    }

    async fn explain(&self, service: ServiceName) -> Result<Option<Explanation>, Problem> {
        self.call(|reply| Call::Explain(service, reply)).await
    }

    async fn ask(&self, request: OperatorRequest) -> Result<mpsc::Receiver<AskStep>, Problem> {
        let plan: Arc<Plan> = self.call(Call::Plan).await?;
        if !plan.services.contains_key(request.service()) {
            let known: Vec<&str> = plan.services.keys().map(ServiceName::as_str).collect();
            return Err(Problem::no_such_service(request.service().as_str(), &known.join(", ")));
        }
        self.call(|reply| Call::Ask(request, reply)).await
    }

    async fn events(&self, query: EventQuery) -> Result<EventsReport, Problem> {
        let newest_first = query.after.is_none();
        let query = horus_store::EventQuery {
            subject: query.subject,
            incident: query.incident,
            after_seq: query.after,
            before_seq: None,
            limit: u32::try_from(query.limit.min(EVENTS_MAX)).unwrap_or(u32::MAX),
            newest_first,
        };
        let mut events = journal::read(&self.store, move |reader| reader.events(&query)).await?;
        if newest_first {
            events.reverse();
        }
        Ok(EventsReport { schema: API_SCHEMA, events })
    }

    fn live_events(&self) -> broadcast::Receiver<Arc<Recorded>> {
        self.live.subscribe()
    }

    async fn incidents(&self, open_only: bool, limit: usize) -> Result<IncidentsReport, Problem> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let incidents = journal::read(&self.store, move |reader| reader.incidents(open_only, limit)).await?;
        Ok(IncidentsReport { schema: API_SCHEMA, incidents })
    }

    async fn incident(&self, id: IncidentId) -> Result<IncidentReport, Problem> {
        let found = journal::read(&self.store, move |reader| {
            let query = horus_store::EventQuery { incident: Some(id), ..horus_store::EventQuery::default() };
            Ok((reader.incident(id)?, reader.events(&query)?, reader.deliveries(id)?))
        });
        let (incident, events, deliveries) = found.await?;
        let incident = incident.ok_or_else(|| Problem::no_such_incident(&id.to_string()))?;
        let bundles = events.iter().filter_map(|row| match &row.event.what {
            What::EvidenceCaptured { finding, .. } => finding.bundle.clone(),
            _ => None,
        });
        let evidence = journal::evidence_paths(&self.evidence_directory, bundles);
        Ok(IncidentReport { schema: API_SCHEMA, incident, events, deliveries, evidence })
    }

    async fn debts(&self) -> Result<DebtsReport, Problem> {
        let unpaid = journal::read(&self.store, |reader| reader.debts()).await?;
        Ok(DebtsReport { schema: API_SCHEMA, debts: Debt::gather(unpaid) })
    }

    async fn note_rule(&self, id: IncidentId, text: String, drill: bool) -> Result<RuleReport, Problem> {
        let found = journal::read(&self.store, move |reader| Ok((reader.incident(id)?, reader.debts()?)));
        let (incident, unpaid) = found.await?;
        let incident = incident.ok_or_else(|| Problem::no_such_incident(&id.to_string()))?;
        // What came before it and is the same surprise is paid with it; what comes again owes anew.
        let same = |row: &&IncidentRecord| {
            row.id != id
                && (row.subject.as_str(), row.kind) == (incident.subject.as_str(), incident.kind)
                && row.opened_at <= incident.opened_at
        };
        let mut incidents = vec![id];
        incidents.extend(unpaid.iter().filter(same).filter(|_| !drill).map(|row| row.id));
        let event = |incident_id: &IncidentId| Event {
            subject: incident.subject.clone(),
            generation: None,
            incident: Some(*incident_id),
            what: What::RuleNoted { text: text.clone() },
        };
        let events = incidents.iter().map(event).collect();
        let store = self.store.clone();
        let writing = tokio::task::spawn_blocking(move || {
            store.commit(Transaction { at: Timestamp::now(), events, ..Transaction::default() });
            store
                .fault()
                .or_else(|| (!store.flush(RULE_STORED_WITHIN)).then(|| "the disk is slow".to_owned()))
        });
        let unsaved = writing.await.map_err(|error| internal(error.to_string()))?;
        Ok(RuleReport { schema: API_SCHEMA, incidents, unsaved })
    }

    async fn logs(&self, service: ServiceName, lines: usize) -> Result<Bytes, Problem> {
        let path = self.log_of(&service).await?;
        self.tail(path, lines).await
    }

    async fn follow_logs(
        &self,
        service: ServiceName,
        lines: usize,
    ) -> Result<mpsc::Receiver<Bytes>, Problem> {
        let path = self.log_of(&service).await?;
        // The follower stands at the end before the tail is read: a line may come twice, none is missed.
        let follower = Follower::from_end(&path);
        let tail = self.tail(path, lines).await?;
        let (sender, receiver) = mpsc::channel(LOG_CHUNKS_MAX);
        drop(tokio::spawn(follow(follower, tail, sender)));
        Ok(receiver)
    }

    async fn alerts_test(&self, sink: Option<SinkName>) -> Result<AlertsReport, Problem> {
        let chosen = self.call(|reply| Call::Testable(sink.clone(), reply)).await?;
        if chosen.is_empty() {
            let detail = match sink {
                Some(sink) => format!("there is no sink '{sink}' that works"),
                None => "no sink is configured: alerts are printed by the daemon".into(),
            };
            let hint = "add [sink.NAME] to watchdog.toml, then: horus reload";
            return Err(Problem::new(ProblemKind::NoSuchSink, detail, hint));
        }
        Ok(AlertsReport { schema: API_SCHEMA, sinks: sinks::test(chosen).await })
    }

    async fn reload(&self, dry_run: bool) -> Result<ReloadReport, Problem> {
        reload::reload(self.config_path.clone(), &self.calls, dry_run).await
    }

    async fn upgrade(
        &self,
        executable: Option<PathBuf>,
        dry_run: bool,
    ) -> Result<mpsc::Receiver<AskStep>, Problem> {
        Ok(self.upgrader.begin(executable, dry_run))
    }

    async fn upgrade_report(&self) -> UpgradeReport {
        self.upgrader.report()
    }
}

async fn follow(mut follower: Follower, tail: Bytes, sender: mpsc::Sender<Bytes>) {
    if !tail.is_empty() && sender.send(tail).await.is_err() {
        return;
    }
    while !sender.is_closed() {
        let reading = tokio::task::spawn_blocking(move || {
            let new = follower.read_new();
            (follower, new)
        });
        let Ok((back, new)) = reading.await else { return };
        follower = back;
        match new {
            Ok(new) if new.is_empty() => tokio::time::sleep(LOG_LOOK_EVERY).await,
            Ok(new) => {
                if sender.send(new.into()).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let _ = sender.send(format!("(the log cannot be read: {error})\n").into()).await;
                return;
            }
        }
    }
}
