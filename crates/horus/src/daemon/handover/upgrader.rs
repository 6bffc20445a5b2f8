//! The procedure of an upgrade, up to the point at which the judge's loop is asked to stop. One at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use horus_api::{AskStep, Progress, UpgradeOutcome, UpgradeReport};
use horus_core::command::Answer;
use horus_core::plan::DaemonPlan;
use horus_sys::clock;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::Program;
use super::departure::{HALF_DONE_MAX, Ticket};
use super::door::Door;
use super::pending;
use super::rehearsal::{self, Place};
use super::trust::{self, Found};
use crate::daemon::owner::Call;

/// Lines of progress that wait for a slow reader, and the answer.
const STEPS_MAX: usize = 8;

/// What an upgrade needs to know of this Horus.
#[derive(Debug)]
pub(in crate::daemon) struct Upgrader {
    pub(in crate::daemon) calls: mpsc::Sender<Call>,
    pub(in crate::daemon) config: PathBuf,
    /// What is executed if nobody names another.
    pub(in crate::daemon) home: PathBuf,
    pub(in crate::daemon) door: Door,
    pub(in crate::daemon) report: watch::Sender<UpgradeReport>,
    pub(in crate::daemon) turn: Mutex<()>,
}

/// Why there is no upgrade.
#[derive(Debug)]
struct Refusal {
    why: String,
    hint: String,
}

impl Refusal {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), hint: "horus upgrade --dry-run tells whether it is mended".into() }
    }
}

/// A program that may be executed and can go on.
struct Prepared {
    found: Found,
    to: Program,
    /// See [`Ticket::former`].
    former: bool,
}

impl Upgrader {
    /// Begins; the channel tells how it goes. Its answer comes before the change, of which [`Upgrader::report`] tells.
    pub(in crate::daemon) fn begin(
        self: &Arc<Self>,
        executable: Option<PathBuf>,
        dry_run: bool,
    ) -> mpsc::Receiver<AskStep> {
        let (steps, taken) = mpsc::channel(STEPS_MAX);
        let upgrader = Arc::clone(self);
        drop(tokio::spawn(async move { upgrader.upgrade(executable, dry_run, steps).await }));
        taken
    }

    /// How the last one went.
    pub(in crate::daemon) fn report(&self) -> UpgradeReport {
        self.report.borrow().clone()
    }

    async fn upgrade(&self, executable: Option<PathBuf>, dry_run: bool, steps: mpsc::Sender<AskStep>) {
        let under_way = || Answer::Refused {
            why: "an upgrade is under way already".into(),
            hint: "horus events -f --service horus".into(),
        };
        // The keeper's part of the last one may still go on.
        let free = self.turn.try_lock().ok().filter(|_| !self.report.borrow().under_way);
        let Some(_turn) = free else {
            let _ = steps.send(AskStep::Answer(under_way())).await;
            return;
        };
        if !dry_run {
            self.report.send_modify(|report| report.under_way = true);
        }
        let (named, prepared) = match self.call(Call::Plan).await {
            Ok(plan) => {
                let named = self.which(executable, &plan.daemon);
                let mut prepared = self.prepare(&named, &plan.daemon, &steps).await;
                if !dry_run && let Ok(prepared) = &mut prepared {
                    let state_directory = plan.daemon.state_directory.clone();
                    let keeping = move || pending::keep_former(&state_directory);
                    prepared.former = tokio::task::spawn_blocking(keeping).await.unwrap_or(false);
                }
                (named, prepared)
            }
            Err(refusal) => (self.home.clone(), Err(refusal)),
        };
        let outcome = match prepared {
            Ok(prepared) if dry_run => {
                let text = format!(
                    "{} would become {} ({}); nothing was changed",
                    Program::of_process(),
                    prepared.to,
                    named.display()
                );
                let _ = steps.send(AskStep::Answer(Answer::Done(text))).await;
                return;
            }
            Ok(prepared) => {
                let to = prepared.to.to_string();
                let text = format!("{to} was tried out and takes over");
                let _ = steps.send(AskStep::Answer(Answer::Done(text))).await;
                // Whoever waits for this answer is served to the end before the door shuts.
                drop(steps);
                let why = self.hand_over(prepared).await;
                (to, Refusal::new(why))
            }
            Err(refusal) => {
                let answer = Answer::Refused { why: refusal.why.clone(), hint: refusal.hint.clone() };
                let _ = steps.send(AskStep::Answer(answer)).await;
                (named.display().to_string(), refusal)
            }
        };
        if !dry_run {
            self.refused(outcome.0, outcome.1).await;
        }
    }

    /// What is executed: what somebody names, what the configuration names, or what was started at first.
    fn which(&self, named: Option<PathBuf>, daemon: &DaemonPlan) -> PathBuf {
        let configured = || daemon.executable.as_ref().and_then(|path| std::path::absolute(path).ok());
        named.or_else(configured).unwrap_or_else(|| self.home.clone())
    }

    /// Looks at the program and tries it out.
    async fn prepare(
        &self,
        named: &Path,
        daemon: &DaemonPlan,
        steps: &mpsc::Sender<AskStep>,
    ) -> Result<Prepared, Refusal> {
        tell(steps, format!("looking at {}", named.display())).await;
        let path = named.to_owned();
        let found = blocking(move || trust::examine(&path)).await?;
        let place = Place {
            config: self.config.clone(),
            state_directory: daemon.state_directory.clone(),
            run_directory: daemon.run_directory.clone(),
        };
        tell(steps, format!("trying {} out", named.display())).await;
        let path = found.path.clone();
        let to = blocking(move || rehearsal::try_out(&path, &place)).await?;
        tell(steps, format!("{to} can take over")).await;
        Ok(Prepared { found, to, former: false })
    }

    /// Shuts the door and has the loop become the program. Returns only if that did not come about, with the reason.
    async fn hand_over(&self, prepared: Prepared) -> String {
        self.door.shut().await;
        let (reply, failed) = oneshot::channel();
        let Prepared { found, to, former } = prepared;
        let ticket = Ticket { found, to, former, reply, latest: clock::monotonic() + HALF_DONE_MAX };
        let ending = || "Horus is ending".to_owned();
        let why = match self.calls.send(Call::HandOver(Box::new(ticket))).await {
            Ok(()) => failed.await.unwrap_or_else(|_| ending()),
            Err(_) => ending(),
        };
        self.door.open();
        why
    }

    async fn refused(&self, to: String, refusal: Refusal) {
        let own = Program::of_process();
        let Refusal { why, hint } = refusal;
        let text = format!("not upgraded to {to}: {why}; {own} goes on");
        // An owner that has gone is ending, and nothing more is written.
        let _ = self.calls.send(Call::Note(text.clone())).await;
        self.report.send_modify(|report| {
            report.under_way = false;
            report.tries += 1;
            report.last = Some(UpgradeOutcome {
                upgraded: false,
                from: own.to_string(),
                to,
                services_kept: 0,
                keeper: None,
                text,
                hint: Some(hint),
            });
        });
    }

    async fn call<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Call) -> Result<T, Refusal> {
        let ending = || Refusal::new("Horus is ending");
        let (reply, answer) = oneshot::channel();
        self.calls.send(make(reply)).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())
    }
}

async fn tell(steps: &mpsc::Sender<AskStep>, text: String) {
    tracing::info!("upgrade: {text}");
    // Who does not read misses a line, and delays nobody.
    let _ = steps.try_send(AskStep::Progress(Progress { text, limit_ms: None }));
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(Refusal::new),
        Err(error) => Err(Refusal::new(error.to_string())),
    }
}
