//! The dead-man switch: somebody outside of this machine hears from Horus as long as all of it works, and tells when not.
//!
//! A watchdog cannot tell that its machine has lost its power. So the sign of life has to stop by itself, and it may not
//! be given by a part that happens to live: it is sent only when every link of the chain from an observation to an alert
//! has moved since the last one.
//!
//! ```text
//!   the judge's loop turned  ->  a write was committed  ->  an alert worker looked for work  ->  POST
//! ```
//!
//! The write is one row in place, made for this purpose: a quiet journal proves nothing, and must not grow by being asked.
//! A ping that fails is no alert of ours: the alert is the other side's to give. It is written to the journal when that
//! changes. The URL is a secret and appears nowhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use horus_alert::Route;
use horus_alert::http::{Client, Scrubber};
use horus_alert::sink::HttpRequest;
use horus_alert::worker::LOOK_AGAIN_AFTER;
use horus_core::plan::{PingPlan, Secret, SinkKind};
use horus_core::time::Human;
use horus_store::Store;
use horus_sys::clock;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::owner::Call;
use super::watchman::Pulse;

/// The first ping comes soon after the start, so that somebody who tries it sees it.
const FIRST_AFTER: Duration = Duration::from_secs(5);

/// How long a write may take to be proven.
const WRITE_MAX: Duration = Duration::from_secs(5);

/// How long the loop may take to turn when it is asked to.
const TURN_MAX: Duration = Duration::from_secs(5);

/// A worker that has nothing to do looks for work at least so often, twice over.
const WORKER_MAX: Duration = LOOK_AGAIN_AFTER.saturating_mul(2);

/// How long the other side may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// When an alert worker last looked for work.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// As of [`clock::monotonic`]; zero: never.
    last_ms: AtomicU64,
}

impl Looks {
    pub(super) fn looked(&self) {
        self.last_ms.store(now_ms(), Ordering::Relaxed);
    }

    fn age(&self) -> Option<Duration> {
        let last = self.last_ms.load(Ordering::Relaxed);
        (last > 0).then(|| Duration::from_millis(now_ms().saturating_sub(last)))
    }
}

fn now_ms() -> u64 {
    u64::try_from(clock::monotonic().as_millis()).unwrap_or(u64::MAX)
}

/// The links that have to hold.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) pulse: Arc<Pulse>,
    pub(super) store: Store,
    pub(super) looks: Arc<Looks>,
    pub(super) calls: mpsc::Sender<Call>,
}

/// The task that pings, if one is wanted.
#[derive(Debug)]
pub(super) struct DeadMan {
    chain: Chain,
    task: Option<JoinHandle<()>>,
}

impl Drop for DeadMan {
    fn drop(&mut self) {
        self.stop();
    }
}

impl DeadMan {
    pub(super) fn new(chain: Chain) -> Self {
        Self { chain, task: None }
    }

    /// Pings as the plan says from now on.
    pub(super) fn follow(&mut self, plan: Option<&PingPlan>, secret: Option<&Secret>) {
        self.stop();
        let (Some(plan), Some(secret)) = (plan, secret) else { return };
        match Switch::new(secret, plan.every, self.chain.clone()) {
            Ok(switch) => self.task = Some(tokio::spawn(switch.run())),
            Err(why) => tracing::error!("the dead-man ping cannot be sent: {why}"),
        }
    }

    /// Horus ends on purpose, or pings otherwise.
    pub(super) fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

struct Switch {
    route: Route,
    scrubber: Scrubber,
    client: Client,
    every: Duration,
    chain: Chain,
    started: Duration,
}

impl Switch {
    fn new(secret: &Secret, every: Duration, chain: Chain) -> Result<Self, &'static str> {
        // The other side is spoken to as a webhook is; what is wrong with its URL might repeat it.
        let route = Route::new(SinkKind::Webhook, secret, None).map_err(|_| "its URL is none")?;
        let client = Client::with_timeout(ANSWER_MAX).map_err(|_| "there is no HTTP client")?;
        let scrubber = Scrubber::new(secret, route.url());
        Ok(Self { route, scrubber, client, every, chain, started: clock::monotonic() })
    }

    async fn run(self) {
        let mut turns = self.chain.pulse.turns();
        let mut trouble: Option<String> = None;
        tokio::time::sleep(FIRST_AFTER.min(self.every)).await;
        loop {
            let outcome = match self.chain.hold(&mut turns).await {
                Ok(()) => self.send().await.map_err(|error| format!("could not be sent: {error}")),
                Err(link) => Err(format!("is held back: {link}")),
            };
            self.tell(&mut trouble, outcome.err()).await;
            tokio::time::sleep(self.every).await;
        }
    }

    async fn send(&self) -> Result<(), String> {
        let up = Human(clock::monotonic().saturating_sub(self.started));
        let body = format!("horus {} works, for {up}\n", env!("CARGO_PKG_VERSION"));
        let headers = vec![("content-type", "text/plain; charset=utf-8".to_owned())];
        let request = HttpRequest {
            method: horus_alert::sink::Method::POST,
            url: self.route.url().clone(),
            headers,
            body: body.into_bytes(),
        };
        match self.client.send(request, Timestamp::now).await {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
            Ok(answer) => Err(format!("status {}", answer.status)),
            Err(error) => Err(self.scrubber.scrub(error.to_string())),
        }
    }

    /// Changes are news, a state that lasts is not.
    async fn tell(&self, told: &mut Option<String>, trouble: Option<String>) {
        if *told == trouble {
            return;
        }
        let text = match &trouble {
            Some(trouble) => format!("the dead-man ping {trouble}"),
            None => "the dead-man ping is sent again".to_owned(),
        };
        *told = trouble;
        // A loop that takes no calls is what the ping is about.
        let _ = tokio::time::timeout(TURN_MAX, self.chain.calls.send(Call::Note(text))).await;
    }
}

impl Chain {
    /// All links have moved since the last time, or the name of the one that has not.
    async fn hold(&self, turns: &mut u64) -> Result<(), &'static str> {
        let before = std::mem::replace(turns, self.pulse.turns());
        if *turns == before && !self.turns_when_asked(before).await {
            return Err("the judge's loop does not turn");
        }
        let store = self.store.clone();
        if !tokio::task::spawn_blocking(move || store.prove(WRITE_MAX)).await.unwrap_or(false) {
            return Err("nothing can be written to the state directory");
        }
        match self.looks.age() {
            Some(age) if age <= WORKER_MAX => Ok(()),
            _ => Err("no alert is on its way: every sink is given up for now"),
        }
    }

    /// An idle loop sleeps, with every right.
    async fn turns_when_asked(&self, before: u64) -> bool {
        let asking = async {
            if self.calls.send(Call::Turn).await.is_err() {
                return false;
            }
            while self.pulse.turns() == before {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            true
        };
        tokio::time::timeout(TURN_MAX, asking).await.unwrap_or(false)
    }
}
