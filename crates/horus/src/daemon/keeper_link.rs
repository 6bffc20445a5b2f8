//! The connection to the keeper: attached off the loop, read and written by two small tasks, made anew when it breaks.
//!
//! The keeper may die at any instant and its children do not. So a lost connection is an ordinary event: the link
//! attaches again (which starts a new keeper if the old one is gone) and hands the new Hello to the loop, which
//! compares it with what the engine believes. Requests that are made in between wait in a bounded queue.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use horus_keeper::protocol::{Event, Hello, MAX_LINE, Request};
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
const PING_EVERY: Duration = Duration::from_secs(5);

/// A keeper that says nothing for so long is taken as hung.
const SILENCE_MAX: Duration = Duration::from_secs(16);

/// Pause between two tries to attach.
const ATTACH_PAUSE: Duration = Duration::from_millis(500);

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
    pub(super) cgroup: Option<PathBuf>,
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
    /// the next keeper has, and a start of its earlier wish would run unseen beside that.
    pub(super) fn lost(&mut self) {
        self.writer = None;
        self.waiting.retain(|request| !matches!(request, Request::Start(_)));
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

async fn keep_attached(place: KeeperPlace, news: mpsc::Sender<News>) {
    loop {
        let why = match attach(&place).await {
            Ok((hello, stream)) => converse(hello, stream, &news).await.to_string(),
            Err(why) => why,
        };
        if news.send(News::Lost(why)).await.is_err() {
            // The loop is gone, and so are we.
            return;
        }
        tokio::time::sleep(ATTACH_PAUSE).await;
    }
}

async fn attach(place: &KeeperPlace) -> Result<(Hello, UnixStream), String> {
    let KeeperPlace { run_directory, executable, cgroup } = place.clone();
    let attaching = move || horus_keeper::attach(&run_directory, &executable, cgroup.as_deref());
    let attached = match tokio::task::spawn_blocking(attaching).await {
        Ok(Ok(attached)) => attached,
        Ok(Err(error)) => return Err(super::chain(&error)),
        Err(error) => return Err(error.to_string()),
    };
    let stream = UnixStream::from_std(attached.stream).map_err(|error| error.to_string())?;
    Ok((attached.hello, stream))
}

/// Runs one connection until it ends, and says why.
async fn converse(hello: Hello, stream: UnixStream, news: &mpsc::Sender<News>) -> io::Error {
    let (reading, writing) = stream.into_split();
    let (writer, requests) = mpsc::channel(CHANNEL_MAX);
    if news.send(News::Attached { hello: Box::new(hello), writer }).await.is_err() {
        return given_up();
    }
    let (heard, last_heard) = watch::channel(Instant::now());
    let (pings, pinging) = mpsc::channel(1);
    tokio::select! {
        outcome = write_requests(writing, requests, pinging) => outcome.err().unwrap_or_else(given_up),
        outcome = read_events(reading, news, heard) => outcome.err().unwrap_or_else(given_up),
        silent = miss(last_heard, pings) => silent,
    }
}

/// Asks now and then whether the keeper is still there. Returns when it has been silent for too long.
async fn miss(last_heard: watch::Receiver<Instant>, pings: mpsc::Sender<Request>) -> io::Error {
    let mut token = 0;
    loop {
        tokio::time::sleep(PING_EVERY).await;
        if last_heard.borrow().elapsed() > SILENCE_MAX {
            let text = format!("it has said nothing for {} s", SILENCE_MAX.as_secs());
            return io::Error::new(io::ErrorKind::TimedOut, text);
        }
        token += 1;
        let _ = pings.try_send(Request::Ping { token });
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
    heard: watch::Sender<Instant>,
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
        heard.send_replace(Instant::now());
        if news.send(News::Said(Box::new(event))).await.is_err() {
            return Ok(());
        }
    }
}
