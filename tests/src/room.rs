//! A place of its own for each scenario: a folder with a short name (unix sockets have short addresses), ports that no
//! other scenario has, and a mark that every process of it carries.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use horus_sys::process::{ProcessId, Table, environment};
use horus_sys::signal::{Signal, send};

/// The variable that carries the mark.
pub(crate) const MARK: &str = "SCENARIO";

/// Below the range from which the system takes ports for outgoing connections, so that none is taken while it is free
/// for a moment between two runs of a program.
const PORTS: std::ops::Range<u16> = 20_000..31_000;

/// See the module.
#[derive(Debug)]
pub struct Room {
    folder: tempfile::TempDir,
    ports: std::sync::Mutex<Vec<File>>,
}

impl Room {
    /// An empty room.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("h-").rand_bytes(6).tempdir_in("/tmp").unwrap();
        std::fs::create_dir(folder.path().join("triggers")).unwrap();
        Self { folder, ports: std::sync::Mutex::default() }
    }

    /// A path in the room.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The room's mark: its own path.
    pub fn mark(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// A port that nobody listens at and no other scenario is given while this room lives.
    pub fn port(&self) -> u16 {
        let locks = Path::new("/tmp/horus-scenario-ports");
        std::fs::create_dir_all(locks).unwrap();
        let first = u16::try_from(std::process::id() % u32::from(PORTS.end - PORTS.start)).unwrap();
        for port in (PORTS.start + first..PORTS.end).chain(PORTS) {
            let Ok(lock) = File::create(locks.join(port.to_string())) else { continue };
            if lock.try_lock().is_ok() && std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
                self.ports.lock().unwrap().push(lock);
                return port;
            }
        }
        panic!("no port is free in {PORTS:?}");
    }

    /// Drops a file that tells a subject to go wrong.
    pub fn trigger(&self, name: &str) {
        File::create(self.path("triggers").join(name)).unwrap();
    }

    /// All processes that carry the mark, zombies left out: they have ended.
    pub fn processes(&self) -> Vec<ProcessId> {
        let mark = self.mark();
        let table = Table::read().unwrap();
        let ours = |pid: i32| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            holds(&command, mark.as_bytes()) || holds(&environment(pid).unwrap_or_default(), mark.as_bytes())
        };
        let living = table.rows().iter().filter(|row| !row.is_gone());
        living.filter(|row| ours(row.id.pid)).map(|row| row.id).collect()
    }

    /// Waits until no process carries the mark; what is left after the failsafe is named.
    pub async fn is_empty(&self, within: Duration) -> Result<(), Vec<String>> {
        let end = tokio::time::Instant::now() + within;
        loop {
            let left = self.processes();
            if left.is_empty() {
                return Ok(());
            }
            if tokio::time::Instant::now() > end {
                return Err(left.iter().map(described).collect());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends whatever carries the mark, keeper and all.
    pub fn clear(&self) {
        // A process that is being started while the table is read is met in the next round.
        for _ in 0..100 {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            for process in left {
                let _ = send(&process, Signal::KILL);
            }
            crate::subject::rest(Duration::from_millis(10));
        }
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.clear();
    }
}

fn described(process: &ProcessId) -> String {
    let command = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
    format!("{process}: {}", String::from_utf8_lossy(&command).replace('\0', " "))
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
