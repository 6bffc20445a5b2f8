//! A delegated cgroup v2 directory: the one tree from which no process escapes by forking. All of it is files, so
//! this compiles everywhere and simply finds nothing on a system without cgroups.

use crate::files::read_limited;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longest control file that is read: `cgroup.procs` of some 100,000 processes.
const MAX_CONTROL_FILE: usize = 1 << 20;

/// One cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// An existing cgroup v2 directory in which we may make sub-cgroups. Errors say what is missing.
    pub fn open_root(path: &Path) -> io::Result<Self> {
        if !path.join("cgroup.procs").is_file() || !path.join("cgroup.subtree_control").is_file() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "not a cgroup v2 directory"));
        }
        let probe = path.join(format!("horus-probe-{}", std::process::id()));
        fs::create_dir(&probe)?;
        fs::remove_dir(&probe)?;
        Ok(Self { path: path.to_owned() })
    }

    /// The cgroup at this path, which may be there or not.
    pub fn existing(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The sub-cgroup of this name, made if absent.
    pub fn child(&self, name: &str) -> io::Result<Self> {
        let path = self.path.join(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(Self { path }),
        }
    }

    /// Moves a process in; its future children are born there.
    pub fn add(&self, pid: i32) -> io::Result<()> {
        self.control("cgroup.procs", &pid.to_string())
    }

    /// Who is in it, sub-cgroups left out.
    pub fn residents(&self) -> io::Result<Vec<i32>> {
        Ok(self.read("cgroup.procs")?.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Who is in it and below: a program may make groups of its own.
    pub fn members(&self) -> io::Result<Vec<i32>> {
        let mut pids = self.residents()?;
        members_below(&self.path, 0, &mut pids);
        Ok(pids)
    }

    /// The controllers that may be enabled for its sub-cgroups.
    pub fn controllers(&self) -> io::Result<Vec<String>> {
        Ok(self.read("cgroup.controllers")?.split_whitespace().map(str::to_owned).collect())
    }

    /// The controllers that are enabled for its sub-cgroups.
    pub fn enabled(&self) -> io::Result<Vec<String>> {
        Ok(self.read("cgroup.subtree_control")?.split_whitespace().map(str::to_owned).collect())
    }

    /// Enables a controller for its sub-cgroups. Refused (EBUSY) while anybody is in it and not below.
    pub fn enable(&self, controller: &str) -> io::Result<()> {
        self.control("cgroup.subtree_control", &format!("+{controller}"))
    }

    /// Whether anybody is in it or below; zombies do not count.
    pub fn is_populated(&self) -> io::Result<bool> {
        Ok(self.read("cgroup.events")?.lines().any(|line| line == "populated 1"))
    }

    /// SIGKILL to everybody in it and below, at once, frozen or forking. Linux 5.14+.
    pub fn kill(&self) -> io::Result<()> {
        self.control("cgroup.kill", "1")
    }

    /// Removes it with its (empty) sub-cgroups.
    pub fn remove(&self) -> io::Result<()> {
        remove_below(&self.path, 0)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn read(&self, file: &str) -> io::Result<String> {
        let bytes = read_limited(&self.path.join(file), MAX_CONTROL_FILE)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// One value into a control file, in one write. Never waits where the kernel knows how not to: a smaller limit of
    /// memory is then reached in time, and not before the write ends.
    pub(crate) fn control(&self, file: &str, text: &str) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_NONBLOCK);
        options.open(self.path.join(file))?.write_all(text.as_bytes())
    }
}

/// Groups below groups below groups.
const DEEPEST: usize = 32;

fn members_below(path: &Path, depth: usize, pids: &mut Vec<i32>) {
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.flatten().filter(|_| depth < DEEPEST) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // It may be gone by now.
            pids.extend(Cgroup::existing(&entry.path()).residents().unwrap_or_default());
            members_below(&entry.path(), depth + 1, pids);
        }
    }
}

fn remove_below(path: &Path, depth: usize) -> io::Result<()> {
    if depth < DEEPEST {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                remove_below(&entry.path(), depth + 1)?;
            }
        }
    }
    fs::remove_dir(path)
}
