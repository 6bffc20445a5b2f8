//! Resource limits of a process.

use crate::call::check;
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::OnceLock;

/// What can be limited per process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Open file descriptors.
    OpenFiles,
    /// Address space, in bytes. Not resident memory; macOS accepts it and does little with it.
    Memory,
    /// Processes of the same user, system-wide.
    Processes,
    /// Size of a core file, in bytes.
    Core,
    /// Size of any file it writes, in bytes.
    FileSize,
    /// CPU time, in seconds.
    Cpu,
}

/// A pair of limits; `u64::MAX` is "none".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What applies.
    pub soft: u64,
    /// What the soft one may be raised to.
    pub hard: u64,
}

impl Resource {
    /// The word used in configuration and errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenFiles => "open_files",
            Self::Memory => "memory",
            Self::Processes => "processes",
            Self::Core => "core",
            Self::FileSize => "file_size",
            Self::Cpu => "cpu",
        }
    }

    pub(crate) fn number(self) -> i32 {
        // The constants are unsigned in glibc and signed elsewhere.
        #[cfg_attr(
            not(all(target_os = "linux", target_env = "gnu")),
            expect(clippy::unnecessary_cast, reason = "the type differs between systems")
        )]
        let number = match self {
            Self::OpenFiles => libc::RLIMIT_NOFILE as i32,
            Self::Memory => libc::RLIMIT_AS as i32,
            Self::Processes => libc::RLIMIT_NPROC as i32,
            Self::Core => libc::RLIMIT_CORE as i32,
            Self::FileSize => libc::RLIMIT_FSIZE as i32,
            Self::Cpu => libc::RLIMIT_CPU as i32,
        };
        number
    }
}

/// Reads a limit of this process.
pub fn get(resource: Resource) -> io::Result<Limit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    check(unsafe { libc::getrlimit(resource.number() as _, &raw mut limit) })?;
    Ok(Limit { soft: limit.rlim_cur, hard: limit.rlim_max })
}

/// Sets a limit of this process.
pub fn set(resource: Resource, limit: Limit) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: `limit` is a valid rlimit.
    check(unsafe { libc::setrlimit(resource.number() as _, &raw const limit) })?;
    Ok(())
}

/// Most descriptors a Horus process asks for; more would only make a leak slower to see.
pub const WANTED_OPEN_FILES: u64 = 65_536;

static GIVEN_OPEN_FILES: OnceLock<Limit> = OnceLock::new();

/// The limit on open files that this process was given, whether it was raised since or not: what children should get.
pub fn given_open_files() -> io::Result<Limit> {
    GIVEN_OPEN_FILES.get().map_or_else(|| get(Resource::OpenFiles), |given| Ok(*given))
}

/// Raises the soft limit on open files towards the hard one; the limit as it was given, for children.
pub fn raise_open_files() -> io::Result<Limit> {
    let before = get(Resource::OpenFiles)?;
    let given = *GIVEN_OPEN_FILES.get_or_init(|| before);
    let soft = before.hard.min(WANTED_OPEN_FILES).max(before.soft);
    set(Resource::OpenFiles, Limit { soft, hard: before.hard })?;
    Ok(given)
}
