//! Where the subjects report: a unix socket in a folder of its own, and what was heard on it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use horus_sys::clock::monotonic;

/// Reports that wait to be read: more than subjects ever live at once.
const REPORTS_MAX: usize = 4_096;

/// What is heard of a subject.
#[derive(Debug)]
enum Report {
    /// It began at `born` and waits for orders on the stream.
    Started { subject: Subject, orders: UnixStream },
    /// It did as it was told, at that instant.
    Done { name: String, at: Duration },
    /// Its socket was closed by the kernel: it is dead.
    Ended { name: String, pid: i32, at: Duration },
}

/// One life of a subject.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) pid: i32,
    /// When its first instruction ran.
    pub(crate) born: Duration,
}

/// The folder, the socket, and who lives.
pub(crate) struct Arena {
    folder: PathBuf,
    reports: Receiver<Report>,
    alive: BTreeMap<String, (Subject, UnixStream)>,
    /// Deaths and answers that nobody has asked for yet.
    ended: BTreeMap<i32, Duration>,
    done: BTreeMap<String, Duration>,
}

impl Arena {
    pub(crate) fn open() -> Result<Self> {
        // Not below the target directory: the address of a unix socket is short.
        let folder = std::env::temp_dir().join(format!("horus-bench-{}", std::process::id()));
        std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
        let listener = UnixListener::bind(folder.join("bench.sock"))?;
        let (sender, reports) = mpsc::sync_channel(REPORTS_MAX);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let sender = sender.clone();
                std::thread::spawn(move || listen(connection, &sender));
            }
        });
        let (alive, ended, done) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Self { folder, reports, alive, ended, done })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("bench.sock")
    }

    /// The life of `name` that is not `before`.
    pub(crate) fn next_life(&mut self, name: &str, before: i32, limit: Duration) -> Result<Subject> {
        let what = || format!("{name} was not started again within {limit:?}");
        self.until(limit, what, |arena| {
            arena.alive.get(name).map(|(subject, _)| subject.clone()).filter(|subject| subject.pid != before)
        })
    }

    /// Waits until that many live whose name begins so.
    pub(crate) fn wait_for(&mut self, prefix: &str, count: usize, limit: Duration) -> Result<Vec<Subject>> {
        let what = || format!("fewer than {count} subjects run after {limit:?}");
        self.until(limit, what, |arena| {
            let found: Vec<Subject> = arena.named(prefix);
            (found.len() >= count).then_some(found)
        })
    }

    /// Who lives now and has a name that begins so.
    pub(crate) fn named(&self, prefix: &str) -> Vec<Subject> {
        let all = self.alive.values().map(|(subject, _)| subject);
        all.filter(|subject| subject.name.starts_with(prefix)).cloned().collect()
    }

    /// Gives a subject an order; the instant at which it was carried out.
    pub(crate) fn order(&mut self, name: &str, order: &str, limit: Duration) -> Result<Duration> {
        let (_, orders) = self.alive.get_mut(name).with_context(|| format!("{name} does not live"))?;
        writeln!(orders, "{order}")?;
        self.until(limit, || format!("{name} does not obey"), |arena| arena.done.remove(name))
    }

    /// The instant at which that life ended.
    pub(crate) fn death(&mut self, pid: i32, limit: Duration) -> Result<Duration> {
        self.until(
            limit,
            || format!("pid {pid} still lives after {limit:?}"),
            |arena| arena.ended.remove(&pid),
        )
    }

    /// Lets time pass, and takes note of what is heard meanwhile.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = monotonic() + time;
        while self.hear(end).is_ok() {}
    }

    fn until<T>(
        &mut self,
        limit: Duration,
        what: impl Fn() -> String,
        mut found: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T> {
        let end = monotonic() + limit;
        loop {
            if let Some(found) = found(self) {
                return Ok(found);
            }
            if self.hear(end).is_err() {
                bail!(what());
            }
        }
    }

    fn hear(&mut self, end: Duration) -> Result<(), RecvTimeoutError> {
        match self.reports.recv_timeout(end.saturating_sub(monotonic()))? {
            Report::Started { subject, orders } => {
                self.alive.insert(subject.name.clone(), (subject, orders));
            }
            Report::Done { name, at } => {
                self.done.insert(name, at);
            }
            Report::Ended { name, pid, at } => {
                self.ended.insert(pid, at);
                if self.alive.get(&name).is_some_and(|(subject, _)| subject.pid == pid) {
                    self.alive.remove(&name);
                }
            }
        }
        Ok(())
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // Subjects end when their connection does; files of a bench are worth nothing afterwards.
        for (_, stream) in self.alive.values() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn listen(connection: UnixStream, reports: &SyncSender<Report>) {
    let Ok(orders) = connection.try_clone() else { return };
    let mut lines = BufReader::new(connection).lines().map_while(Result::ok);
    let Some(subject) = lines.next().and_then(|line| introduced(&line)) else { return };
    let (name, pid) = (subject.name.clone(), subject.pid);
    let mut alive = reports.send(Report::Started { subject, orders }).is_ok();
    for line in lines {
        let at = line.strip_prefix("done ").and_then(nanoseconds);
        if let (true, Some(at)) = (alive, at) {
            alive = reports.send(Report::Done { name: name.clone(), at }).is_ok();
        }
    }
    let _ = reports.send(Report::Ended { name, pid, at: monotonic() });
}

fn introduced(line: &str) -> Option<Subject> {
    let mut words = line.split(' ');
    let name = words.next()?.to_owned();
    let pid = words.next()?.parse().ok()?;
    Some(Subject { name, pid, born: nanoseconds(words.next()?)? })
}

fn nanoseconds(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_nanos)
}
