//! The two that are compared: Horus with its keeper, and the bare fork+exec loop.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use horus_sys::files::{Durability, read_limited, write_atomic};
use horus_sys::process::{self, ProcessId};
use horus_sys::signal::{self, Signal};

use super::arena::Arena;
use crate::shell;

/// How long Horus may take to end all its children.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// How often a wait for something that has no event looks again.
const LOOK: Duration = Duration::from_millis(50);

/// Longest `/proc` file that is read, in bytes.
const PROC_BYTES_MAX: usize = 64 << 10;

/// The built programs.
pub(crate) struct Programs {
    pub(crate) horus: PathBuf,
    pub(crate) subject: PathBuf,
}

/// What a supervisor costs, all its processes together, its children not counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Proportional and resident memory, in KiB.
    pub(crate) pss_kib: u64,
    pub(crate) rss_kib: u64,
    /// User and system time since the start.
    pub(crate) cpu: Duration,
    /// Voluntary context switches since the start, threads that ended not counted.
    pub(crate) wakeups: u64,
}

/// A Horus of its own, with its keeper. Ends with this value.
pub(crate) struct Horus {
    child: Child,
    folder: PathBuf,
    program: PathBuf,
}

impl Horus {
    /// Starts Horus on these services.
    pub(crate) fn start(programs: &Programs, arena: &Arena, services: &str) -> Result<Self> {
        let folder = arena.folder().join("h");
        std::fs::create_dir(&folder)?;
        let config = format!(
            "version = 1\n[daemon]\nstate_directory = \"state\"\nrun_directory = \"run\"\n{services}"
        );
        write_atomic(&folder.join("watchdog.toml"), config.as_bytes(), Durability::ThisBoot)?;
        let child = run(&programs.horus, &folder)?;
        Ok(Self { child, folder, program: programs.horus.clone() })
    }

    /// SIGKILL, as by the kernel when memory ran out, and another one in the same place.
    pub(crate) fn die_and_come_back(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        // What the last one wrote is not what is waited for.
        std::fs::remove_file(self.folder.join("horus.log"))?;
        self.child = run(&self.program, &self.folder)?;
        Ok(())
    }

    /// How often this text stands in what Horus wrote.
    pub(crate) fn said(&self, text: &str) -> usize {
        let log = std::fs::read_to_string(self.folder.join("horus.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains(text)).count()
    }

    /// The files of a service's output, the oldest first.
    pub(crate) fn logs(&self, service: &str) -> Vec<PathBuf> {
        let folder = self.folder.join("state/logs");
        let rotated = (1..=100).rev().map(|number| folder.join(format!("{service}.log.{number}")));
        rotated.chain([folder.join(format!("{service}.log"))]).filter(|path| path.exists()).collect()
    }

    /// Horus itself and its keeper.
    pub(crate) fn pids(&self) -> Result<Vec<i32>> {
        let run = self.folder.join("run");
        let keeper = pid_with_arguments(&["keep".as_bytes(), run.as_os_str().as_encoded_bytes()])?;
        Ok(vec![i32::try_from(self.child.id())?, keeper.context("no keeper runs")?])
    }

    /// The last lines that Horus wrote, for an error.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.folder.join("horus.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(10).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Asks Horus to end everything and waits for it.
    pub(crate) fn stop(mut self, arena: &mut Arena) -> Result<()> {
        send(i32::try_from(self.child.id())?, Signal::TERM)?;
        let end = horus_sys::clock::monotonic() + STOP_LIMIT;
        while horus_sys::clock::monotonic() < end {
            if self.child.try_wait()?.is_some() {
                std::fs::remove_dir_all(&self.folder)?;
                return Ok(());
            }
            arena.pass(LOOK);
        }
        bail!("Horus still runs {STOP_LIMIT:?} after SIGTERM")
    }
}

fn run(program: &Path, folder: &Path) -> Result<Child> {
    let output = std::fs::File::create(folder.join("horus.log"))?;
    let mut horus = shell::command(program);
    horus.current_dir(folder).args(["run", "--config", "watchdog.toml"]).env_remove("HORUS_SOCKET");
    horus.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    horus.spawn().with_context(|| program.display().to_string())
}

impl Drop for Horus {
    fn drop(&mut self) {
        // Only after a failure; in order, `stop` has done it. The subjects end with the arena.
        let keeper = self.pids().ok().and_then(|pids| pids.get(1).copied());
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(keeper) = keeper {
            let _ = send(keeper, Signal::KILL);
        }
    }
}

/// The bare loop. Ends with this value.
pub(crate) struct Bare(Child);

impl Bare {
    pub(crate) fn start(programs: &Programs, arena: &Arena, count: usize) -> Result<Self> {
        let mut bare = shell::command(&programs.subject);
        bare.arg("bare").arg(arena.socket()).args(["bare", &count.to_string()]).stdin(Stdio::null());
        Ok(Self(bare.spawn()?))
    }

    pub(crate) fn pids(&self) -> Result<Vec<i32>> {
        Ok(vec![i32::try_from(self.0.id())?])
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `[service.NAME]` for many subjects.
pub(crate) fn services(names: &[String], mut body: impl FnMut(usize, &str) -> String) -> String {
    let mut text = String::new();
    for (index, name) in names.iter().enumerate() {
        let _ = writeln!(text, "[service.{name}]\n{}", body(index, name));
    }
    text
}

/// Ends a subject, as the kernel would if memory ran out.
pub(crate) fn kill(pid: i32) -> Result<()> {
    send(pid, Signal::KILL)
}

fn send(pid: i32, signal: Signal) -> Result<()> {
    let id: ProcessId = process::identify(pid)?.with_context(|| format!("pid {pid} is gone"))?;
    Ok(signal::send(&id, signal)?)
}

/// What these processes cost together.
pub(crate) fn cost(pids: &[i32]) -> Result<Cost> {
    let mut sum = Cost::default();
    for pid in pids {
        let memory = proc_file(&format!("{pid}/smaps_rollup"))?;
        sum.pss_kib += field(&memory, "Pss:").context("no Pss")?;
        sum.rss_kib += field(&memory, "Rss:").context("no Rss")?;
        sum.cpu += cpu(&proc_file(&format!("{pid}/stat"))?).context("no times")?;
        for thread in std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            let status = thread.path().join("status");
            let status = read_limited(&status, PROC_BYTES_MAX).unwrap_or_default();
            sum.wakeups += field(&String::from_utf8_lossy(&status), "voluntary_ctxt_switches:").unwrap_or(0);
        }
    }
    Ok(sum)
}

fn proc_file(name: &str) -> Result<String> {
    let path = Path::new("/proc").join(name);
    let bytes = read_limited(&path, PROC_BYTES_MAX).with_context(|| path.display().to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// utime and stime, fields 14 and 15 of `/proc/PID/stat`, in the kernel's fixed hundredths for user space.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

fn pid_with_arguments(wanted: &[&[u8]]) -> Result<Option<i32>> {
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(line) = read_limited(&entry.path().join("cmdline"), PROC_BYTES_MAX) else { continue };
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        if wanted.iter().all(|word| words.contains(word)) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_past_a_name_with_brackets() {
        let stat = "77 (a) b) S 1 77 77 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 1 0 100 1000 10";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn our_own_cost_can_be_told() {
        let own = i32::try_from(std::process::id()).unwrap();
        let cost = cost(&[own]).unwrap();
        assert!(cost.pss_kib > 0 && cost.rss_kib >= cost.pss_kib);
    }
}
