//! One worker per sink: takes what is due, sends it, settles it, and knows when to leave the sink alone.
//!
//! ```text
//!            ┌──────────── wait: gate, budget, next due, a change, an order ◄───────────┐
//!            ▼                                                                          │
//!   gate open? ─no─────────────────────────────────────────────────────────────────────►│
//!      │yes                                                                             │
//!   due? ─nothing──────────────────────────────────────────────────────────────────────►│
//!      │item (newest version)                                                           │
//!   post, ring or edit? ─► post, ring: written down that it is begun
//!      │
//!   send ─► delivered: settle                      dead: settle, gate 1 h, tell others ►│
//!           retry: settle for later, gate ────────────────────────────────────────────►│
//!           form refused: once more as plain text
//!           message gone or too old: posted anew
//! ```
//!
//! Two waits are kept apart. The *gate* is the sink's: while it is closed nothing is sent there at all. An item's own
//! time is in the outbox and always later than the gate that the same failure closed, so an item that fails again and
//! again lets the others pass.
//!
//! The outbox is the memory that survives; the worker's own (gate, failures in a row, what it delivered) is only
//! about manners, and may be lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use horus_core::ids::{IncidentId, SinkName};
use horus_core::outbox::{Delivery, Move, OutboxItem};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::WallClock;
use crate::outbox::Outbox;
use crate::pace::{Budget, Jitter};
use crate::sink::{Answer, Form, RETRY_AFTER_MAX, Sink, Verdict};

/// A dead sink is tried again after this time.
pub const DEAD_PROBE_AFTER: Duration = Duration::from_secs(3600);

/// A message that needs nobody is given up after this time, if it was tried.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3600);

/// A message that needs somebody is given up after this time, if it was tried.
pub const GIVE_UP_URGENT_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);

/// The outbox is looked at after this time at the latest, whatever clocks and wake-ups do.
pub const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// A delivered message that the outbox offers again is not sent again; the outbox is given this time to write.
pub const UNSETTLED_WAIT: Duration = Duration::from_secs(5);

/// So many delivered messages are remembered for that.
const REMEMBERED_MAX: usize = 64;

/// A sink stopped or started taking messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkHealth {
    /// Which sink.
    pub sink: SinkName,
    /// `None`: it takes messages. `Some`: why it does not, without its URL.
    pub fault: Option<String>,
}

/// Told of each change of a sink's health, and of the first success. Must not block.
pub type Report = Arc<dyn Fn(SinkHealth) + Send + Sync>;

/// The parts of a worker.
pub struct Worker<O, S> {
    /// The sink's name.
    pub name: SinkName,
    /// The sink itself.
    pub sink: S,
    /// Where its messages are.
    pub outbox: Arc<O>,
    /// For lateness and for the times at which the outbox is told to try again.
    pub clock: WallClock,
    /// For waits between tries.
    pub jitter: Jitter,
    /// Who is told when the sink dies or lives.
    pub report: Report,
}

impl<O: Outbox, S: Sink> Worker<O, S> {
    /// Starts the worker as a task.
    pub fn start(self) -> WorkerHandle {
        let (orders, receiver) = watch::channel(Orders::default());
        let name = self.name.clone();
        let task = tokio::spawn(Shift::new(self, receiver).run());
        WorkerHandle { name, orders, task }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    drain: bool,
    retries: u64,
}

/// A running worker. Dropping it stops the worker at once.
#[derive(Debug)]
pub struct WorkerHandle {
    name: SinkName,
    orders: watch::Sender<Orders>,
    task: JoinHandle<()>,
}

impl WorkerHandle {
    /// The sink's name.
    pub fn name(&self) -> &SinkName {
        &self.name
    }

    /// Opens the gate: what is due is sent now, even to a dead sink. For a reload, or a person who asks.
    pub fn retry_now(&self) {
        self.orders.send_modify(|orders| orders.retries = orders.retries.wrapping_add(1));
    }

    /// Sends what is due and can be sent without waiting, then ends; after `deadline` it ends anyway. What was not
    /// acknowledged stays in the outbox. True if it ended by itself.
    pub async fn stop(mut self, deadline: Duration) -> bool {
        self.orders.send_modify(|orders| orders.drain = true);
        let drained = tokio::time::timeout(deadline, &mut self.task).await.is_ok();
        if !drained {
            tracing::warn!(sink = %self.name, "the sink did not take its last messages in time; they stay in the outbox");
        }
        drained
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the loop does next.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Look for another message.
    Again,
    /// Nothing can be done for so long, unless something changes.
    Wait(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    /// Nothing was delivered yet.
    Unknown,
    Good,
    Dead,
}

/// A worker at work.
struct Shift<O, S> {
    worker: Worker<O, S>,
    orders: watch::Receiver<Orders>,
    /// Nothing is sent before.
    gate: Option<Instant>,
    failures: u32,
    health: Health,
    budget: Budget,
    /// Newest last.
    delivered: VecDeque<(IncidentId, Timestamp, u32, Delivery)>,
}

impl<O: Outbox, S: Sink> Shift<O, S> {
    fn new(worker: Worker<O, S>, orders: watch::Receiver<Orders>) -> Self {
        let delivered = VecDeque::new();
        Self {
            worker,
            orders,
            gate: None,
            failures: 0,
            health: Health::Unknown,
            budget: Budget::default(),
            delivered,
        }
    }

    async fn run(mut self) {
        let mut changes = self.worker.outbox.changes();
        let mut retries = self.orders.borrow().retries;
        loop {
            changes.borrow_and_update();
            let orders = *self.orders.borrow_and_update();
            if orders.retries != retries {
                retries = orders.retries;
                self.gate = None;
            }
            match self.step().await {
                Next::Again => {}
                Next::Wait(_) if orders.drain => return,
                Next::Wait(wait) => {
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = changed(&mut changes) => {}
                        outcome = self.orders.changed() => if outcome.is_err() { return },
                    }
                }
            }
        }
    }

    /// Sends at most one message.
    async fn step(&mut self) -> Next {
        let worker = &self.worker;
        if let Some(gate) = self.gate {
            let left = gate.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return Next::Wait(left);
            }
            self.gate = None;
        }
        let Some(item) = worker.outbox.due(&worker.name).await else {
            return Next::Wait(self.until_next().await);
        };
        if let Some(delivery) = self.already_delivered(&item) {
            self.settle(&item, delivery).await;
            return Next::Wait(UNSETTLED_WAIT);
        }
        if let Some(error) = self.expired(&item) {
            self.settle(&item, Delivery::Refused { error }).await;
            return self.unless_unsettled(&item).await;
        }
        if let Some(wait) = self.budget.wait(Instant::now(), item.notice.needs_you) {
            return Next::Wait(wait);
        }
        let (how, answer) = self.attempt(&item).await;
        let delivery = self.conclude(&item, how, answer);
        let refused = matches!(delivery, Delivery::Refused { .. });
        self.settle(&item, delivery).await;
        if refused { self.unless_unsettled(&item).await } else { Next::Again }
    }

    /// A final answer that the outbox could not write must not become a busy loop.
    async fn unless_unsettled(&self, item: &OutboxItem) -> Next {
        let again = self.worker.outbox.due(&self.worker.name).await;
        let same = again.is_some_and(|again| {
            again.notice.incident == item.notice.incident && again.notice.version == item.notice.version
        });
        if same { Next::Wait(UNSETTLED_WAIT) } else { Next::Again }
    }

    /// Tries it as the item's state asks; as a new message if the old one cannot be changed any more.
    async fn attempt(&mut self, item: &OutboxItem) -> (Move, Answer) {
        let how = item.next_move(self.worker.sink.edits());
        let answer = self.attempt_as(item, how).await;
        let Verdict::Anew { error } = &answer.verdict else { return (how, answer) };
        tracing::info!(sink = %self.worker.name, incident = %item.notice.incident, error, "a message cannot be changed any more: a new one takes its place");
        let answer = self.attempt_as(item, Move::Post).await;
        (Move::Post, answer)
    }

    /// Tries the usual form, and once the plain one if the service does not like the first.
    async fn attempt_as(&mut self, item: &OutboxItem, how: Move) -> Answer {
        if how.posts() {
            self.worker.outbox.begin(&self.worker.name, item.notice.incident).await;
        }
        self.budget.spend(Instant::now());
        let answer = self.worker.sink.deliver(item, how, Form::Rich).await;
        let Verdict::Fallback { error } = answer.verdict else {
            return answer;
        };
        tracing::warn!(sink = %self.worker.name, incident = %item.notice.incident, error, "the sink refused a message's form");
        self.budget.spend(Instant::now());
        let answer = self.worker.sink.deliver(item, how, Form::Plain).await;
        match answer.verdict {
            Verdict::Fallback { error } => Answer { verdict: Verdict::Refused { error }, ..answer },
            _ => answer,
        }
    }

    /// Draws the conclusions for the sink; returns those for the item.
    fn conclude(&mut self, item: &OutboxItem, how: Move, answer: Answer) -> Delivery {
        let (sink, incident) = (&self.worker.name, item.notice.incident);
        self.gate = answer.pause.map(|pause| Instant::now() + pause.min(RETRY_AFTER_MAX));
        match answer.verdict {
            Verdict::Delivered { remote_id } => {
                tracing::debug!(%sink, %incident, version = item.notice.version, "delivered");
                self.lives();
                if how == Move::Ring { Delivery::Rang } else { Delivery::Delivered { remote_id } }
            }
            Verdict::Refused { error } | Verdict::Fallback { error } | Verdict::Anew { error } => {
                tracing::error!(%sink, %incident, error, "the sink refuses a message in any form");
                // Who refuses a message can be reached.
                self.lives();
                Delivery::Refused { error }
            }
            Verdict::Retry { after, error } => {
                // A limit is no failure: it says itself how long to wait.
                self.failures = self.failures.saturating_add(u32::from(after.is_none()));
                if self.failures.is_power_of_two() {
                    tracing::warn!(%sink, %incident, failures = self.failures, error, "not delivered, will be tried again");
                }
                let gate =
                    after.unwrap_or_else(|| self.worker.jitter.wait(self.failures)).min(RETRY_AFTER_MAX);
                self.gate = Some(Instant::now() + gate);
                // A limit is the sink's affair; anything else may be the item's, so that others get their turn first.
                let own =
                    if after.is_some() { Duration::ZERO } else { self.worker.jitter.wait(item.attempts + 1) };
                // A change may be made twice: there is no doubt about it.
                let in_doubt = answer.in_doubt && how.posts() || item.in_doubt;
                Delivery::RetryAt { at: self.wall_after(gate + own), error, in_doubt }
            }
            Verdict::Dead { error } => {
                self.dies(&error);
                self.gate = Some(Instant::now() + DEAD_PROBE_AFTER);
                // Due at once for whoever opens the gate: a reload, or the next Horus.
                Delivery::RetryAt { at: self.wall_after(Duration::ZERO), error, in_doubt: item.in_doubt }
            }
        }
    }

    fn lives(&mut self) {
        self.failures = 0;
        if self.health != Health::Good {
            self.health = Health::Good;
            (self.worker.report)(SinkHealth { sink: self.worker.name.clone(), fault: None });
        }
    }

    fn dies(&mut self, error: &str) {
        if self.health != Health::Dead {
            self.health = Health::Dead;
            tracing::error!(sink = %self.worker.name, error, "the sink is dead");
            (self.worker.report)(SinkHealth {
                sink: self.worker.name.clone(),
                fault: Some(error.to_owned()),
            });
        }
    }

    async fn settle(&mut self, item: &OutboxItem, delivery: Delivery) {
        let (incident, version) = (item.notice.incident, item.notice.version);
        if matches!(delivery, Delivery::Delivered { .. }) && self.already_delivered(item).is_none() {
            if self.delivered.len() == REMEMBERED_MAX {
                self.delivered.pop_front();
            }
            self.delivered.push_back((incident, item.opened_at, version, delivery.clone()));
        }
        self.worker.outbox.settle(&self.worker.name, incident, version, delivery).await;
    }

    fn already_delivered(&self, item: &OutboxItem) -> Option<Delivery> {
        let key = (item.notice.incident, item.opened_at, item.notice.version);
        self.delivered
            .iter()
            .find(|(incident, at, version, _)| (*incident, *at, *version) == key)
            .map(|(.., d)| d.clone())
    }

    /// Only what was tried is given up: after a long pause of Horus everything gets its chance.
    fn expired(&self, item: &OutboxItem) -> Option<String> {
        let limit = if item.notice.needs_you { GIVE_UP_URGENT_AFTER } else { GIVE_UP_AFTER };
        let age =
            Duration::try_from((self.worker.clock)().duration_since(item.happened_at)).unwrap_or_default();
        let expired = item.attempts > 0 && age > limit;
        expired.then(|| format!("given up after {} tries", item.attempts))
    }

    async fn until_next(&self) -> Duration {
        let worker = &self.worker;
        let Some(at) = worker.outbox.next_due_at(&worker.name).await else {
            return LOOK_AGAIN_AFTER;
        };
        let wait = Duration::try_from(at.duration_since((worker.clock)())).unwrap_or_default();
        // Never zero: two clocks may differ by a hair about what "due" means.
        wait.clamp(Duration::from_millis(10), LOOK_AGAIN_AFTER)
    }

    fn wall_after(&self, wait: Duration) -> Timestamp {
        let now = (self.worker.clock)();
        let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::ZERO);
        now.checked_add(wait).unwrap_or(now)
    }
}

/// An outbox that is gone changes no more.
async fn changed(changes: &mut watch::Receiver<u64>) {
    if changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
