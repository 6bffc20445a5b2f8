//! The journal as it grows: followed over the real socket, across any number of lives of Horus.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use horus_api::{Client, EventLine, EventQuery};
use horus_core::event::What;
use horus_core::record::Recorded;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Between two tries to reach a Horus that is not there.
const PAUSE: Duration = Duration::from_millis(20);

/// Longest text of one event in a dump.
const BRIEF_MAX: usize = 230;

/// All events so far.
#[derive(Clone, Debug)]
pub struct Journal {
    events: watch::Receiver<Arc<Vec<Recorded>>>,
    _follower: Arc<Follower>,
}

#[derive(Debug)]
struct Follower(JoinHandle<()>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Journal {
    /// Follows the Horus at `socket`, and whichever comes after it.
    pub fn follow(socket: PathBuf) -> Self {
        let (sender, events) = watch::channel(Arc::default());
        let follower = tokio::spawn(async move {
            let client = Client::new(socket);
            loop {
                pump(&client, &sender).await;
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { events, _follower: Arc::new(Follower(follower)) }
    }

    /// What has happened so far, in order.
    pub fn all(&self) -> Arc<Vec<Recorded>> {
        Arc::clone(&self.events.borrow())
    }

    /// The number of the last event.
    pub fn last(&self) -> u64 {
        self.all().last().map_or(0, |event| event.seq)
    }

    /// Waits for the first event after number `after` that `is_it`.
    pub async fn wait(
        &self,
        after: u64,
        within: Duration,
        is_it: impl Fn(&Recorded) -> bool,
    ) -> Option<Recorded> {
        let mut events = self.events.clone();
        let found = |events: &Arc<Vec<Recorded>>| {
            events.iter().find(|event| event.seq > after && is_it(event)).cloned()
        };
        let waiting = events.wait_for(|events| found(events).is_some());
        let events = tokio::time::timeout(within, waiting).await.ok()?.ok()?;
        found(&events)
    }

    /// One aligned line per event.
    pub fn dump(&self) -> String {
        let events = self.all();
        let Some(first) = events.first() else { return "the journal is empty\n".into() };
        let start = first.at;
        events.iter().fold(String::new(), |mut text, event| {
            let after = event.at.duration_since(start).as_millis();
            let incident = event.event.incident.map(|id| id.to_string()).unwrap_or_default();
            let run = event.event.generation.map(|run| run.to_string()).unwrap_or_default();
            let (seq, subject, what) = (event.seq, &event.event.subject, brief(&event.event.what));
            text += &format!("{seq:>4} {after:>7} ms  {subject:<12} {run:<4} {incident:<7} {what}\n");
            text
        })
    }
}

async fn pump(client: &Client, sender: &watch::Sender<Arc<Vec<Recorded>>>) {
    let after = sender.borrow().last().map_or(0, |event| event.seq);
    let query = EventQuery { after: Some(after), limit: horus_api::EVENTS_MAX, ..EventQuery::default() };
    let Ok(mut stream) = client.follow_events(&query).await else { return };
    while let Ok(Some(EventLine::Event(event))) = stream.next().await {
        sender.send_modify(|events| {
            if events.last().is_none_or(|last| last.seq < event.seq) {
                Arc::make_mut(events).push(event);
            }
        });
    }
}

/// An event on one line, for people who look for the cause of a failed test.
pub fn brief(what: &What) -> String {
    let mut text = match serde_json::to_value(what) {
        Ok(serde_json::Value::Object(object)) => {
            let parts = object.into_iter().map(|(word, facts)| format!("{word} {facts}"));
            parts.collect::<Vec<_>>().join(" ")
        }
        other => format!("{other:?}"),
    };
    if let Some((cut, _)) = text.char_indices().nth(BRIEF_MAX) {
        text.truncate(cut);
    }
    text
}
