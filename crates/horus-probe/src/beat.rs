//! The polled beats of a service, each in its own task: look, tell, wait, for ever.

use std::sync::Arc;
use std::time::Duration;

use horus_core::observation::ProbeFault;
use horus_core::plan::{BeatKind, BeatPlan};
use tokio::sync::watch;

use crate::exec::{ExecProbe, Surroundings};
use crate::file::FileProbe;
use crate::http::HttpProbe;
use crate::limits::LOG_EVERY;
use crate::log::{LogProbe, LogStart};
use crate::outlet::{Closed, ServiceOutlet};
use crate::pace::{Haste, Pace};
use crate::sign::{Miss, Sign};
use crate::tcp::TcpProbe;
use crate::text;

/// What a polled source needs to know beside its plan.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) outlet: ServiceOutlet,
    pub(crate) surroundings: Arc<Surroundings>,
    pub(crate) log: LogStart,
}

#[derive(Debug)]
enum Source {
    Http(Box<HttpProbe>),
    File(FileProbe),
    Tcp(TcpProbe),
    Exec(ExecProbe),
    Log(LogProbe),
    /// It cannot work at all, and this is why.
    Broken(Miss),
}

impl Source {
    fn new(plan: &BeatPlan, setting: &Setting) -> Self {
        let made = match plan {
            BeatPlan::Http(beat) => HttpProbe::new(beat).map(|probe| Self::Http(Box::new(probe))),
            BeatPlan::File(beat) => Ok(Self::File(FileProbe::new(beat))),
            BeatPlan::Tcp(beat) => TcpProbe::new(beat).map(Self::Tcp),
            BeatPlan::Exec(beat) => Ok(Self::Exec(ExecProbe::new(beat, Arc::clone(&setting.surroundings)))),
            BeatPlan::Log(beat) => LogProbe::new(&beat.pattern, setting.log.clone()).map(Self::Log),
            BeatPlan::Notify => Err(Miss::prober("a notify socket is not polled")),
        };
        made.unwrap_or_else(Self::Broken)
    }

    /// One look. `None`: nothing to tell, which for a log is the rule.
    async fn poll(&mut self) -> Result<Option<Sign>, Miss> {
        match self {
            Self::Http(probe) => probe.poll().await.map(Some),
            Self::File(probe) => probe.poll().await.map(Some),
            Self::Tcp(probe) => probe.poll().await.map(Some),
            Self::Exec(probe) => probe.poll().await.map(Some),
            Self::Log(probe) => Ok((probe.poll().await? > 0).then(Sign::default)),
            Self::Broken(miss) => Err(miss.clone()),
        }
    }
}

fn period(plan: &BeatPlan) -> Duration {
    match plan.kind() {
        BeatKind::Log => LOG_EVERY,
        _ => plan.every(),
    }
}

/// Polls one source for ever, until nobody listens.
pub(crate) async fn poll_beat(setting: Setting, plan: BeatPlan, haste: watch::Receiver<Haste>) -> Closed {
    let outlet = &setting.outlet;
    let kind = plan.kind();
    let mut source = Source::new(&plan, &setting);
    let mut pace =
        Pace::new(period(&plan), (outlet.service.as_str(), kind.word(), outlet.generation.0), haste);
    // A log is looked at four times a second: the same trouble is told once, not each time.
    let mut told: Option<Miss> = None;
    loop {
        pace.wait().await;
        let observation = match source.poll().await {
            Ok(sign) => {
                told = None;
                sign.map(|sign| sign.into_observation(outlet.generation, kind))
            }
            Err(miss) if kind == BeatKind::Log && told.as_ref() == Some(&miss) => None,
            Err(miss) => {
                if miss.fault == ProbeFault::ReusedConnectionSilent {
                    // The path may be to blame: ask again over a fresh connection, now.
                    pace.at_once();
                }
                told = Some(miss.clone());
                let miss = Miss { detail: text::detail(&miss.detail), ..miss };
                Some(miss.into_observation(outlet.generation, kind))
            }
        };
        if let Some(observation) = observation
            && let Err(closed) = outlet.tell(observation, pace.period()).await
        {
            return closed;
        }
    }
}
