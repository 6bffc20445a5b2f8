//! Where every service stands, asked for all of them at once: a hundred who each ask by themselves are more than Horus answers.

use std::sync::Arc;
use std::time::Duration;

use horus_api::Client;
use horus_core::status::ServiceStatus;
use horus_sys::process::{ProcessId, identify};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Between two questions.
const EVERY: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub(crate) struct Board {
    newest: watch::Receiver<Arc<Vec<ServiceStatus>>>,
    asker: JoinHandle<()>,
}

impl Drop for Board {
    fn drop(&mut self) {
        self.asker.abort();
    }
}

impl Board {
    /// Asks from now on.
    pub(crate) fn new(client: Client) -> Self {
        let (sender, newest) = watch::channel(Arc::default());
        let asker = tokio::spawn(async move {
            loop {
                if let Ok(report) = client.status().await {
                    sender.send_replace(Arc::new(report.services));
                }
                tokio::time::sleep(EVERY).await;
            }
        });
        Self { newest, asker }
    }

    /// What was last heard of everybody.
    pub(crate) fn all(&self) -> Arc<Vec<ServiceStatus>> {
        Arc::clone(&self.newest.borrow())
    }

    /// What was last heard of a service.
    pub(crate) fn of(&self, service: &str) -> Option<ServiceStatus> {
        self.newest.borrow().iter().find(|status| status.name.as_str() == service).cloned()
    }

    /// Its process.
    pub(crate) fn process(&self, service: &str) -> Result<ProcessId, String> {
        let pid =
            self.of(service).and_then(|status| status.pid).ok_or(format!("{service} has no process"))?;
        identify(pid).ok().flatten().ok_or(format!("{service}: {pid} is gone"))
    }

    /// Waits until its status is such; else what it was at last.
    pub(crate) async fn until(
        &self,
        service: &str,
        within: Duration,
        holds: impl Fn(&ServiceStatus) -> bool,
    ) -> Result<(), String> {
        let mut newest = self.newest.clone();
        let such = |all: &Arc<Vec<ServiceStatus>>| {
            all.iter().any(|status| status.name.as_str() == service && holds(status))
        };
        if let Ok(Ok(_)) = tokio::time::timeout(within, newest.wait_for(such)).await {
            return Ok(());
        }
        let last = self.of(service).map(|status| (status.verdict, status.because, status.kernel));
        Err(format!("{service} is not as awaited; last: {last:?}"))
    }
}
