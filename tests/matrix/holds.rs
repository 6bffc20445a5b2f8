//! Those who hold a program, or want something of it: a tracer, a freezer, a client that waits.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use horus_sys::process::ProcessId;
use horus_sys::signal::{Signal, send};
use tokio::io::AsyncBufReadExt as _;
use tokio::process::{Child, Command};

use crate::cases::Act;
use crate::programs::Programs;

/// What lets go when it is dropped.
#[derive(Debug)]
pub(crate) enum Hold {
    Nobody,
    Stopped(ProcessId),
    Tracer(Child),
    Frozen(Freezer),
    Squeezed { _by: Squeezer },
    Client { _waits: TcpStream },
}

impl Hold {
    /// Takes hold of the process. `Err`: why that cannot be had here.
    pub(crate) async fn take(
        act: Act,
        process: &ProcessId,
        programs: &Programs,
        port: u16,
    ) -> Result<Self, String> {
        match act {
            Act::Order | Act::Squeeze | Act::Nothing => Ok(Self::Nobody),
            Act::OrderAndKnock => {
                let client = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
                Ok(Self::Client { _waits: client })
            }
            Act::Stop => {
                send(process, Signal::STOP).map_err(|error| error.to_string())?;
                Ok(Self::Stopped(*process))
            }
            Act::Trace => trace(programs.c(), process).await.map(Self::Tracer),
            Act::Freeze(version) => Freezer::new(version, process).map(Self::Frozen),
        }
    }

    /// From now on it may keep little memory. What it has stays.
    pub(crate) fn squeeze(process: &ProcessId, folder: &Path) -> Result<Self, String> {
        Squeezer::new(process, folder).map(|by| Self::Squeezed { _by: by })
    }

    /// Lets go, so that the program can be ended like any other.
    pub(crate) async fn let_go(&mut self) {
        match self {
            Self::Stopped(process) => {
                let _ = send(process, Signal::CONT);
            }
            Self::Tracer(tracer) => {
                let _ = tracer.kill().await;
            }
            Self::Frozen(freezer) => freezer.thaw(),
            Self::Nobody | Self::Client { .. } | Self::Squeezed { .. } => {}
        }
    }
}

async fn trace(program: &Path, process: &ProcessId) -> Result<Child, String> {
    #[expect(clippy::disallowed_methods, reason = "a tracer, which ends with its standard input")]
    let mut command = Command::new(program);
    command.args(["trace", &process.pid.to_string()]).kill_on_drop(true);
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut tracer = spawned.map_err(|error| error.to_string())?;
    let mut said = String::new();
    let out = tracer.stdout.as_mut().ok_or("no output")?;
    let read = tokio::io::BufReader::new(out).read_line(&mut said).await;
    match read {
        Ok(_) if said.trim() == "traced" => Ok(tracer),
        other => Err(format!("this machine lets nobody be traced ({other:?})")),
    }
}

/// A control group of one case.
#[derive(Debug)]
pub(crate) struct Freezer {
    folder: PathBuf,
    switch: PathBuf,
    thaw: &'static str,
}

impl Freezer {
    #[expect(clippy::disallowed_methods, reason = "a control file is no file")]
    fn new(version: u8, process: &ProcessId) -> Result<Self, String> {
        let places: &[(&str, &str, &str, &'static str)] = if version == 1 {
            &[("/sys/fs/cgroup/freezer", "freezer.state", "FROZEN", "THAWED")]
        } else {
            &[
                ("/sys/fs/cgroup/unified", "cgroup.freeze", "1", "0"),
                ("/sys/fs/cgroup", "cgroup.freeze", "1", "0"),
            ]
        };
        let mut why = format!("no freezer of version {version}");
        for (root, switch, freeze, thaw) in places {
            let folder = Path::new(root).join(format!("horus-matrix-{}", process.pid));
            if let Err(error) = fs::create_dir(&folder) {
                why = format!("{root}: {error}");
                continue;
            }
            let freezer = Self { switch: folder.join(switch), folder, thaw };
            let froze = fs::metadata(&freezer.switch)
                .and_then(|_| fs::write(freezer.folder.join("cgroup.procs"), process.pid.to_string()))
                .and_then(|()| fs::write(&freezer.switch, freeze));
            match froze {
                Ok(()) => return Ok(freezer),
                Err(error) => why = format!("{root}: {error}"),
            }
        }
        Err(why)
    }

    #[expect(clippy::disallowed_methods, reason = "a control file is no file")]
    fn thaw(&self) {
        let _ = fs::write(&self.switch, self.thaw);
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.thaw();
        remove_group(&self.folder);
    }
}

fn remove_group(folder: &Path) {
    for _ in 0..200 {
        if fs::remove_dir(folder).is_ok() {
            return;
        }
        horus_tests::subject::rest(std::time::Duration::from_millis(20));
    }
}

/// What a squeezed program may keep, in bytes, and the swap that takes the rest.
const KEEPS_BYTES: u64 = 64 << 20;
const SWAP_BYTES: u64 = 512 << 20;

/// A control group with little memory, and swap of its own.
#[derive(Debug)]
pub(crate) struct Squeezer {
    group: PathBuf,
    swap: PathBuf,
    swaps: bool,
}

impl Squeezer {
    #[expect(clippy::disallowed_methods, reason = "a control file is no file")]
    fn new(process: &ProcessId, folder: &Path) -> Result<Self, String> {
        let mut squeezer = Self { group: PathBuf::new(), swap: folder.join("swap"), swaps: false };
        let mut why = "no control group for memory".to_owned();
        for (root, switch) in
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]
        {
            let group = Path::new(root).join(format!("horus-matrix-{}", process.pid));
            if let Err(error) = fs::create_dir(&group) {
                why = format!("{root}: {error}");
                continue;
            }
            let squeezed = fs::metadata(group.join(switch))
                .and_then(|_| fs::write(group.join(switch), KEEPS_BYTES.to_string()));
            if let Err(error) = squeezed {
                remove_group(&group);
                why = format!("{root}: {error}");
                continue;
            }
            squeezer.group = group;
            break;
        }
        if squeezer.group.as_os_str().is_empty() {
            return Err(why);
        }
        squeezer.add_swap()?;
        let procs = squeezer.group.join("cgroup.procs");
        fs::write(procs, process.pid.to_string()).map_err(|error| error.to_string())?;
        Ok(squeezer)
    }

    fn add_swap(&mut self) -> Result<(), String> {
        // A file with holes is no swap.
        let size = format!("{SWAP_BYTES}");
        run("fallocate", &["-l", &size], &self.swap)?;
        fs::set_permissions(&self.swap, fs::Permissions::from_mode(0o600))
            .map_err(|error| error.to_string())?;
        run("mkswap", &[], &self.swap)?;
        run("swapon", &[], &self.swap)?;
        self.swaps = true;
        Ok(())
    }
}

impl Drop for Squeezer {
    fn drop(&mut self) {
        remove_group(&self.group);
        // A file that is still in use stays, for whoever wonders what the system swaps to.
        if !self.swaps || run("swapoff", &[], &self.swap).is_ok() {
            let _ = fs::remove_file(&self.swap);
        }
    }
}

fn run(program: &str, words: &[&str], path: &Path) -> Result<(), String> {
    #[expect(clippy::disallowed_methods, reason = "a tool of the system, which ends at once")]
    let output = std::process::Command::new(program).args(words).arg(path).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{program}: {error}")),
    }
}
