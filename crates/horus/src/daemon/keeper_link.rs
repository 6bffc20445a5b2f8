//! The connection to the keeper: attached off the loop, read and written by two small tasks, made anew when it breaks.
//!
//! The keeper may die at any instant and its children do not. So a lost connection is an ordinary event: the link
//! attaches again (which starts a new keeper if the old one is gone) and hands the new Hello to the loop, which
//! compares it with what the engine believes. Requests that are made in between wait in a bounded queue.
//!
//! A keeper that lives and says nothing (stopped, turning in a loop, waiting for a dead disk) is ended and replaced: its
//! death costs its children nothing, its silence leaves them unwatched. A keeper of a language that this Horus does not
//! speak is left alone, with its children, and the refusal is said once.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use horus_keeper::protocol::{Event, Hello, MAX_LINE, Request};
use horus_keeper::{AttachError, Home, ReplaceError};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Requests that wait while there is no keeper.
const WAITING_REQUESTS_MAX: usize = 4_096;

/// Messages between the loop and the link's tasks.
const CHANNEL_MAX: usize = 1_024;

/// Remarks of the keeper that are remembered as told; beyond that they are told again.
const TOLD_MAX: usize = 256;

/// How long the keeper may take to end when it is told to.
const END_MAX: Duration = Duration::from_secs(1);

/// How often the keeper is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(2);

/// A keeper that says nothing for so long, of time in which we could have heard it, is taken as hung.
const SILENCE_MAX: Duration = Duration::from_secs(8);

/// A tick of ours that comes later than this tells of our own lateness (a stop, a suspend, a starved machine), which is
/// not the keeper's silence.
const LATENESS_MAX: Duration = Duration::from_millis(500);

/// So many attaches in a row that nobody answers (five seconds each) mean a keeper that hangs.
const SILENT_ATTACHES_MAX: u32 = 2;

/// Pause between two tries to attach, at first.
const ATTACH_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause: after failures that the next try will most likely meet again.
const ATTACH_PAUSE_MAX: Duration = Duration::from_secs(5);

/// What the keeper's side tells the loop.
#[derive(Debug)]
pub(super) enum News {
    /// A connection stands; this is what the keeper has.
    Attached { hello: Box<Hello>, writer: mpsc::Sender<Request> },
    /// The keeper said something.
    Said(Box<Event>),
    /// The connection broke, or could not be made. Another try follows.
    Lost(String),
}

/// How the keeper is found or started.
#[derive(Clone, Debug)]
pub(super) struct KeeperPlace {
    pub(super) run_directory: PathBuf,
    pub(super) executable: PathBuf,
    pub(super) home: Home,
}

/// The loop's end of the link.
#[derive(Debug)]
pub(super) struct KeeperLink {
    pub(super) news: mpsc::Receiver<News>,
    writer: Option<mpsc::Sender<Request>>,
    waiting: VecDeque<Request>,
    told: BTreeSet<String>,
    task: tokio::task::JoinHandle<()>,
}

impl KeeperLink {
    /// Begins to attach; the first [`News`] tells the outcome.
    pub(super) fn new(place: KeeperPlace) -> Self {
        let (sender, news) = mpsc::channel(CHANNEL_MAX);
        let task = tokio::spawn(keep_attached(place, sender));
        Self { news, writer: None, waiting: VecDeque::new(), told: BTreeSet::new(), task }
    }

    /// The last request: once it is out, no further keeper is looked for (or started).
    pub(super) async fn end(mut self, last: Request) {
        self.send(last);
        let ended = async {
            while let Some(news) = self.news.recv().await {
                match news {
                    // It was on its way when the end came.
                    News::Attached { writer, .. } => self.attached(writer),
                    News::Lost(_) => return,
                    News::Said(_) => {}
                }
            }
        };
        let _ = tokio::time::timeout(END_MAX, ended).await;
        self.task.abort();
    }

    /// The loop has taken the Hello in: requests go out from now on, those that waited first.
    pub(super) fn attached(&mut self, writer: mpsc::Sender<Request>) {
        self.writer = Some(writer);
        for request in std::mem::take(&mut self.waiting) {
            self.send(request);
        }
    }

    /// There is no keeper at the moment. Starts that wait are forgotten: the engine will ask again when it knows what
    /// the next keeper has, and a start of its earlier wish would run unseen beside that. So are limits, which every
    /// keeper is told that has the program.
    pub(super) fn lost(&mut self) {
        self.writer = None;
        self.waiting.retain(|request| !matches!(request, Request::Start(_) | Request::Adjust { .. }));
    }

    /// Gives this connection up; the next one begins with a Hello that tells how things really are.
    pub(super) fn reconnect(&mut self) {
        self.writer = None;
    }

    /// Whether this remark was not told yet: every Hello repeats them all.
    pub(super) fn is_news(&mut self, text: &str) -> bool {
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        self.told.insert(text.to_owned())
    }

    pub(super) fn is_attached(&self) -> bool {
        self.writer.is_some()
    }

    /// Sends a request, or queues it until there is a keeper. Never waits.
    pub(super) fn send(&mut self, request: Request) {
        let request = match &self.writer {
            Some(writer) => match writer.try_send(request) {
                Ok(()) => return,
                Err(
                    mpsc::error::TrySendError::Closed(request) | mpsc::error::TrySendError::Full(request),
                ) => {
                    // A keeper that does not take what it is told is as good as none: the next Hello sets it right.
                    self.writer = None;
                    request
                }
            },
            None => request,
        };
        if self.waiting.len() < WAITING_REQUESTS_MAX {
            self.waiting.push_back(request);
        } else {
            tracing::error!("too many requests wait for the keeper; one is dropped");
        }
    }
}

/// How a connection, or the try to get one, came to its end.
#[derive(Debug)]
enum Ended {
    /// The keeper hangs: it was connected and has been silent for too long.
    Hung,
    /// Nobody answered.
    Unanswered(String),
    /// Anything else.
    Broken(String),
}

async fn keep_attached(place: KeeperPlace, news: mpsc::Sender<News>) {
    let mut told = None;
    let mut unanswered = 0;
    let mut pause = ATTACH_PAUSE;
    loop {
        let ended = match attach(&place).await {
            Ok((hello, stream)) => {
                (told, unanswered, pause) = (None, 0, ATTACH_PAUSE);
                converse(hello, stream, &news).await
            }
            Err(ended) => ended,
        };
        let why = match ended {
            Ended::Hung => {
                let silence = format!("it has said nothing for {} s", SILENCE_MAX.as_secs());
                replace(&place, &silence).await
            }
            Ended::Unanswered(why) => {
                unanswered += 1;
                if unanswered % SILENT_ATTACHES_MAX == 0 { replace(&place, &why).await } else { why }
            }
            Ended::Broken(why) => why,
        };
        // The same reason again is no news, and would fill the journal.
        if told.as_ref() != Some(&why) {
            told = Some(why.clone());
            if news.send(News::Lost(why)).await.is_err() {
                return;
            }
        }
        if news.is_closed() {
            // The loop is gone, and so are we.
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(ATTACH_PAUSE_MAX);
    }
}

async fn attach(place: &KeeperPlace) -> Result<(Hello, UnixStream), Ended> {
    let KeeperPlace { run_directory, executable, home } = place.clone();
    let attaching = move || horus_keeper::attach_at(&run_directory, &executable, &home);
    let attached = match tokio::task::spawn_blocking(attaching).await {
        Ok(Ok(attached)) => attached,
        Ok(Err(error @ AttachError::Unresponsive { .. })) => {
            return Err(Ended::Unanswered(super::chain(&error)));
        }
        Ok(Err(error)) => return Err(Ended::Broken(super::chain(&error))),
        Err(error) => return Err(Ended::Broken(error.to_string())),
    };
    let stream = UnixStream::from_std(attached.stream).map_err(|error| Ended::Broken(error.to_string()))?;
    Ok((attached.hello, stream))
}

/// Ends a keeper that hangs; the next attach starts another. Says what came of it.
async fn replace(place: &KeeperPlace, why: &str) -> String {
    let run_directory = place.run_directory.clone();
    let replacing = move || horus_keeper::replace(&run_directory);
    match tokio::task::spawn_blocking(replacing).await {
        Ok(Ok(replaced)) => format!(
            "{why}; the keeper (pid {}, {}) was ended and is replaced, its services go on",
            replaced.keeper.pid, replaced.doing
        ),
        Ok(Err(ReplaceError::Free)) => why.to_owned(),
        Ok(Err(error)) => format!("{why}; {}", super::chain(&error)),
        Err(error) => format!("{why}; {error}"),
    }
}

/// Runs one connection until it ends, and says why.
async fn converse(hello: Hello, stream: UnixStream, news: &mpsc::Sender<News>) -> Ended {
    let (reading, writing) = stream.into_split();
    let (writer, requests) = mpsc::channel(CHANNEL_MAX);
    if news.send(News::Attached { hello: Box::new(hello), writer }).await.is_err() {
        return Ended::Broken(given_up().to_string());
    }
    let (heard, last_heard) = watch::channel(());
    let (pings, pinging) = mpsc::channel(1);
    let outcome = tokio::select! {
        outcome = write_requests(writing, requests, pinging) => outcome,
        outcome = read_events(reading, news, heard) => outcome,
        () = miss(last_heard, pings) => return Ended::Hung,
    };
    Ended::Broken(outcome.err().unwrap_or_else(given_up).to_string())
}

/// Asks now and then whether the keeper is still there. Returns when it has been silent for too long.
async fn miss(mut last_heard: watch::Receiver<()>, pings: mpsc::Sender<Request>) {
    let mut silence = Silence::default();
    let mut token = 0;
    loop {
        let asked = Instant::now();
        token += 1;
        let _ = pings.try_send(Request::Ping { token });
        tokio::time::sleep(PING_EVERY).await;
        // A closed channel means that the reader is gone, which ends the connection anyway.
        let heard = last_heard.has_changed().unwrap_or(false);
        last_heard.mark_unchanged();
        if silence.tick(asked.elapsed(), heard) {
            return;
        }
    }
}

/// How long the keeper has said nothing, counted in our own ticks that came in time.
#[derive(Debug, Default)]
struct Silence(Duration);

impl Silence {
    /// A tick took so long, and something was heard in it or not. `true`: the keeper hangs.
    fn tick(&mut self, took: Duration, heard: bool) -> bool {
        if heard {
            self.0 = Duration::ZERO;
        } else if took <= PING_EVERY + LATENESS_MAX {
            self.0 += took;
        }
        self.0 >= SILENCE_MAX
    }
}

fn given_up() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was given up to ask anew")
}

async fn write_requests(
    mut stream: OwnedWriteHalf,
    mut requests: mpsc::Receiver<Request>,
    mut pings: mpsc::Receiver<Request>,
) -> io::Result<()> {
    loop {
        let request = tokio::select! {
            request = requests.recv() => request,
            Some(ping) = pings.recv() => Some(ping),
        };
        let Some(request) = request else { break };
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
    }
    // The loop has dropped its end: this connection is over.
    Ok(())
}

async fn read_events(
    stream: OwnedReadHalf,
    news: &mpsc::Sender<News>,
    heard: watch::Sender<()>,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        let length = (&mut stream).take(limit).read_until(b'\n', &mut line).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.last() != Some(&b'\n') {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long or was cut"));
        }
        let event: Event = serde_json::from_slice(&line)?;
        heard.send_replace(());
        if news.send(News::Said(Box::new(event))).await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks_until_hung(ticks: &[(Duration, bool)]) -> Option<usize> {
        let mut silence = Silence::default();
        ticks.iter().position(|(took, heard)| silence.tick(*took, *heard))
    }

    #[test]
    fn silence_is_counted_in_ticks_that_came_in_time() {
        let (quiet, heard) = ((PING_EVERY, false), (PING_EVERY, true));
        assert_eq!(ticks_until_hung(&[quiet; 9]), Some(3), "eight seconds");
        assert_eq!(ticks_until_hung(&[quiet, quiet, quiet, heard, quiet, quiet, quiet]), None);
        // We were stopped, suspended or starved for an hour: that says nothing about the keeper.
        let late = (Duration::from_secs(3_600), false);
        assert_eq!(ticks_until_hung(&[late; 100]), None);
        assert_eq!(ticks_until_hung(&[quiet, quiet, late, quiet, quiet]), Some(4));
    }
}
