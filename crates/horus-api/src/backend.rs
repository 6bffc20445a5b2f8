//! What the API needs of the daemon.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Bytes;
use horus_core::explain::Explanation;
use horus_core::ids::{IncidentId, ServiceName, SinkName};
use horus_core::observation::OperatorRequest;
use horus_core::record::Recorded;
use horus_core::status::StatusReport;
use tokio::sync::{broadcast, mpsc};

use crate::problem::Problem;
use crate::wire::{
    AlertsReport, AskStep, DebtsReport, EventQuery, EventsReport, HealthReport, IncidentReport,
    IncidentsReport, ReloadReport, RuleReport, UpgradeReport, VersionReport,
};

/// The daemon, as the API sees it.
///
/// Every method is called concurrently. The API itself bounds how many calls there are, how long it waits for the
/// ones that only read, and what becomes of readers that do not read; the daemon bounds the channels that it returns.
pub trait Backend: Send + Sync + 'static {
    /// Which Horus this is.
    fn version(&self) -> impl Future<Output = VersionReport> + Send;

    /// Is Horus itself well?
    fn health(&self) -> impl Future<Output = HealthReport> + Send;

    /// Everything at this instant.
    fn status(&self) -> impl Future<Output = Result<StatusReport, Problem>> + Send;

    /// What is known of one service, and what would have to happen for Horus to act. `None`: there is none of that name.
    fn explain(
        &self,
        service: ServiceName,
    ) -> impl Future<Output = Result<Option<Explanation>, Problem>> + Send;

    /// Asks for something. The channel yields any number of [`AskStep::Progress`] and then one [`AskStep::Answer`],
    /// once the outcome was *verified* (a stop: the pid is gone). A reader that goes away withdraws nothing: the
    /// request is carried out, the sender only finds the channel closed.
    fn ask(
        &self,
        request: OperatorRequest,
    ) -> impl Future<Output = Result<mpsc::Receiver<AskStep>, Problem>> + Send;

    /// Events from the journal, oldest first: with `after` the first `limit` behind it, else the newest `limit`.
    fn events(&self, query: EventQuery) -> impl Future<Output = Result<EventsReport, Problem>> + Send;

    /// Events as they are written to the journal, in its order, each after it can be read there. Capacity:
    /// [`crate::LIVE_EVENTS_MAX`]. A follower that misses some reads them from the journal.
    fn live_events(&self) -> broadcast::Receiver<Arc<Recorded>>;

    /// Incidents, newest first.
    fn incidents(
        &self,
        open_only: bool,
        limit: usize,
    ) -> impl Future<Output = Result<IncidentsReport, Problem>> + Send;

    /// One incident's whole story.
    fn incident(&self, id: IncidentId) -> impl Future<Output = Result<IncidentReport, Problem>> + Send;

    /// Surprises without a rule.
    fn debts(&self) -> impl Future<Output = Result<DebtsReport, Problem>> + Send;

    /// Notes what was done against an incident, and answers when that is on disk. `drill`: it was one, so nothing is
    /// paid for but itself.
    fn note_rule(
        &self,
        id: IncidentId,
        text: String,
        drill: bool,
    ) -> impl Future<Output = Result<RuleReport, Problem>> + Send;

    /// The last `lines` lines of a service's output, each ended by a newline; fewer if they are very long.
    fn logs(&self, service: ServiceName, lines: usize)
    -> impl Future<Output = Result<Bytes, Problem>> + Send;

    /// The same, and then whatever the service writes. The sender waits while the channel is full (the output is in
    /// files, nothing is lost) and ends when it is closed.
    fn follow_logs(
        &self,
        service: ServiceName,
        lines: usize,
    ) -> impl Future<Output = Result<mpsc::Receiver<Bytes>, Problem>> + Send;

    /// Sends a test message to one sink, or to all, and waits for what they say.
    fn alerts_test(
        &self,
        sink: Option<SinkName>,
    ) -> impl Future<Output = Result<AlertsReport, Problem>> + Send;

    /// Reads the configuration again and follows it, or only says what would change. Faults of the file are part of
    /// the report, not a [`Problem`].
    fn reload(&self, dry_run: bool) -> impl Future<Output = Result<ReloadReport, Problem>> + Send;

    /// Tries another program out, and becomes it unless `dry_run`. `executable`: another than the configured one. The
    /// answer comes *before* the change; how that went is in [`Backend::upgrade_report`], which the new program gives.
    fn upgrade(
        &self,
        executable: Option<PathBuf>,
        dry_run: bool,
    ) -> impl Future<Output = Result<mpsc::Receiver<AskStep>, Problem>> + Send;

    /// How the last upgrade went.
    fn upgrade_report(&self) -> impl Future<Output = UpgradeReport> + Send;
}
