//! Monitors: things that Horus only watches. The same probes as for services, but the answer is up or down.

use std::sync::Arc;

use horus_core::observation::MonitorObservation;
use horus_core::plan::{MonitorCheck, MonitorPlan};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::exec::{ExecProbe, Surroundings};
use crate::file::FileAge;
use crate::https::HttpCheck;
use crate::outlet::{Closed, MonitorOutlet};
use crate::pace::{Haste, Pace};
use crate::sign::Miss;
use crate::tcp::TcpProbe;
use crate::text;

#[derive(Debug)]
enum Check {
    Http(HttpCheck),
    Tcp(TcpProbe),
    File(FileAge),
    Exec(ExecProbe),
    /// It cannot be asked at all, and this is why.
    Broken(Miss),
}

impl Check {
    fn new(check: &MonitorCheck) -> Self {
        let made = match check {
            MonitorCheck::Http { url, timeout, status, .. } => {
                HttpCheck::new(url, *timeout, *status).map(Self::Http)
            }
            MonitorCheck::Tcp(beat) => TcpProbe::new(beat).map(Self::Tcp),
            MonitorCheck::File { path, max_age, .. } => Ok(Self::File(FileAge::new(path, *max_age))),
            MonitorCheck::Exec(beat) => Ok(Self::Exec(ExecProbe::new(beat, Arc::new(Surroundings::plain())))),
        };
        made.unwrap_or_else(Self::Broken)
    }

    async fn poll(&mut self) -> Result<(), Miss> {
        match self {
            Self::Http(check) => check.poll().await,
            Self::Tcp(probe) => probe.poll().await.map(|_sign| ()),
            Self::File(age) => age.poll().await,
            Self::Exec(probe) => probe.poll().await.map(|_sign| ()),
            Self::Broken(miss) => Err(miss.clone()),
        }
    }
}

/// Asks for ever, until nobody listens.
pub(crate) async fn watch_monitor(
    outlet: MonitorOutlet,
    plan: MonitorPlan,
    haste: watch::Receiver<Haste>,
) -> Closed {
    let mut check = Check::new(&plan.check);
    let mut pace = Pace::new(plan.check.every(), ("monitor", outlet.monitor.as_str()), haste);
    loop {
        pace.wait().await;
        let started = Instant::now();
        let seen = match check.poll().await {
            Ok(()) => MonitorObservation::Up { took: started.elapsed() },
            Err(Miss { fault, detail }) => MonitorObservation::Down { fault, detail: text::detail(&detail) },
        };
        if let Err(closed) = outlet.tell(seen, pace.period()).await {
            return closed;
        }
    }
}
