//! The file beat: a file that the program touches or rewrites.
//!
//! The tick is a number that changes when the file does. It says that somebody wrote, not who.

use std::fs::{File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use horus_core::plan::{FileBeat, FileTick};
use horus_core::time::Human;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::blocking::OneAtATime;
use crate::limits::{FILE_LOOKS_MAX, FILE_TICK_BYTES, FILE_TIMEOUT};
use crate::sign::{Miss, Sign};

pub(crate) static FILE_LOOKS: Semaphore = Semaphore::const_new(FILE_LOOKS_MAX);

/// `heartbeat.file`.
#[derive(Debug)]
pub(crate) struct FileProbe {
    path: PathBuf,
    look_at: FileTick,
    looks: OneAtATime<Result<Sign, Miss>>,
}

impl FileProbe {
    pub(crate) fn new(beat: &FileBeat) -> Self {
        let looks = OneAtATime::new(&FILE_LOOKS, "look at the file");
        Self { path: beat.path.clone(), look_at: beat.look_at, looks }
    }

    pub(crate) async fn poll(&mut self) -> Result<Sign, Miss> {
        let (path, look_at) = (self.path.clone(), self.look_at);
        self.looks.run(FILE_TIMEOUT, move || look(&path, look_at).map_err(|error| file_fault(&error))).await?
    }
}

fn look(path: &Path, look_at: FileTick) -> io::Result<Sign> {
    Ok(Sign::tick(match look_at {
        FileTick::Mtime => {
            let meta = regular(std::fs::metadata(path)?)?;
            // Nanoseconds since 1970. Only a change counts, so a wrap (in 2262) does no harm.
            let nanos = meta.mtime().wrapping_mul(1_000_000_000).wrapping_add(meta.mtime_nsec());
            nanos.cast_unsigned()
        }
        FileTick::Content => {
            let mut start = Vec::with_capacity(FILE_TICK_BYTES);
            open_regular(path)?.take(FILE_TICK_BYTES as u64).read_to_end(&mut start)?;
            hash(&start)
        }
    }))
}

/// A number that (all but certainly) differs when the bytes differ. Stable within one life of Horus, which is enough.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn regular(meta: Metadata) -> io::Result<Metadata> {
    if meta.is_file() {
        return Ok(meta);
    }
    Err(io::Error::other(if meta.is_dir() { "it is a directory" } else { "it is no regular file" }))
}

/// Opens a regular file and nothing else; a FIFO or a device does not block.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    const NONBLOCK: i32 = if cfg!(target_os = "linux") { 0o4000 } else { 0x4 };
    regular(std::fs::metadata(path)?)?;
    let file = OpenOptions::new().read(true).custom_flags(NONBLOCK).open(path)?;
    regular(file.metadata()?)?;
    Ok(file)
}

pub(crate) fn file_fault(error: &io::Error) -> Miss {
    match error.kind() {
        io::ErrorKind::NotFound => Miss::not_a_beat("no such file"),
        io::ErrorKind::PermissionDenied => Miss::prober("Horus may not read the file"),
        _ if error.raw_os_error().is_some() => Miss::prober(format!("cannot read the file: {error}")),
        _ => Miss::not_a_beat(error.to_string()),
    }
}

/// `check.file`: changed within `max_age`?
#[derive(Debug)]
pub(crate) struct FileAge {
    path: PathBuf,
    max_age: Duration,
    looks: OneAtATime<Result<(), Miss>>,
}

impl FileAge {
    pub(crate) fn new(path: &Path, max_age: Duration) -> Self {
        Self { path: path.to_owned(), max_age, looks: OneAtATime::new(&FILE_LOOKS, "look at the file") }
    }

    pub(crate) async fn poll(&mut self) -> Result<(), Miss> {
        let (path, max_age) = (self.path.clone(), self.max_age);
        self.looks.run(FILE_TIMEOUT, move || check_age(&path, max_age, Timestamp::now())).await?
    }
}

fn check_age(path: &Path, max_age: Duration, now: Timestamp) -> Result<(), Miss> {
    let meta = std::fs::metadata(path).map_err(|error| file_fault(&error))?;
    let changed = meta.modified().ok().and_then(|at| Timestamp::try_from(at).ok());
    let changed = changed.ok_or_else(|| Miss::prober("the file has no modification time"))?;
    // A time in the future (a clock that was set back) is an age of zero.
    let age = Duration::try_from(now.duration_since(changed)).unwrap_or_default();
    if age <= max_age {
        return Ok(());
    }
    Err(Miss::not_a_beat(format!("not changed for {}, at most {} is allowed", Human(age), Human(max_age))))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write plain files")]
mod tests {
    use horus_core::observation::ProbeFault;

    use super::*;

    fn probe(path: &Path, look_at: FileTick) -> FileProbe {
        FileProbe::new(&FileBeat { path: path.to_owned(), every: Duration::from_secs(1), look_at })
    }

    #[tokio::test]
    async fn a_tick_changes_exactly_when_the_file_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("beat");
        let mut by_time = probe(&path, FileTick::Mtime);
        let mut by_content = probe(&path, FileTick::Content);
        let missing = by_time.poll().await.unwrap_err();
        assert_eq!((missing.fault, missing.detail.as_str()), (ProbeFault::NotABeat, "no such file"));
        std::fs::write(&path, "1").unwrap();
        let touch = |second| {
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(second)).unwrap();
        };
        touch(1_000);
        let (time, content) = (by_time.poll().await.unwrap(), by_content.poll().await.unwrap());
        assert_eq!(by_time.poll().await.unwrap(), time);
        touch(1_001);
        assert_ne!(by_time.poll().await.unwrap(), time);
        assert_eq!(by_content.poll().await.unwrap(), content);
        std::fs::write(&path, "2").unwrap();
        assert_ne!(by_content.poll().await.unwrap(), content);
    }

    #[tokio::test]
    async fn a_fifo_or_a_directory_never_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let fifo = dir.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        for odd in [dir.path(), &socket, &fifo, Path::new("/dev/zero")] {
            for look_at in [FileTick::Content, FileTick::Mtime] {
                let miss = probe(odd, look_at).poll().await.unwrap_err();
                assert_eq!(miss.fault, ProbeFault::NotABeat, "{}: {}", odd.display(), miss.detail);
            }
        }
    }

    #[test]
    fn the_age_of_a_file_is_measured_on_the_wall_clock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report");
        let hour = Duration::from_secs(3600);
        assert_eq!(check_age(&path, hour, Timestamp::now()).unwrap_err().detail, "no such file");
        std::fs::write(&path, "x").unwrap();
        assert_eq!(check_age(&path, hour, Timestamp::now()), Ok(()));
        let later = Timestamp::now() + 2 * hour;
        let miss = check_age(&path, hour, later).unwrap_err();
        assert!(miss.detail.starts_with("not changed for 2 h"), "{}", miss.detail);
        assert_eq!(
            check_age(&path, hour, Timestamp::now() - 2 * hour),
            Ok(()),
            "a clock set back is no fault"
        );
    }
}
