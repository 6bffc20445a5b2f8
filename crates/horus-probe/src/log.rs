//! The log beat: a line of the service's output that matches.
//!
//! The keeper writes `NAME.log` and rotates it; the follower reads behind it like `tail -F`. It stays on the file that
//! it has open until that is read to its end, and only then goes to the new one of the same name. It looks four times a
//! second: cheaper than a watch per file, and it works on every file system.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use regex::bytes::{Regex, RegexBuilder};

use crate::blocking::OneAtATime;
use crate::file::{FILE_LOOKS, file_fault, open_regular};
use crate::limits::{
    FILE_TIMEOUT, LOG_BEHIND_BYTES_MAX, LOG_BYTES_PER_LOOK, LOG_FILES_PER_LOOK, LOG_LINE_BYTES_MAX,
    PATTERN_BYTES_MAX,
};
use crate::sign::Miss;

/// Which file, whatever its name is now.
type FileKey = (u64, u64);

fn key_of(path: &Path) -> io::Result<(FileKey, u64)> {
    let meta = std::fs::metadata(path)?;
    Ok(((meta.dev(), meta.ino()), meta.len()))
}

/// Where following starts: lines that are there already belong to an earlier run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogStart {
    path: PathBuf,
    seen: Option<(FileKey, u64)>,
}

impl LogStart {
    /// The present end of the log; its beginning if it does not exist yet.
    pub(crate) fn at_end_of(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: key_of(path).ok() }
    }
}

#[derive(Debug)]
struct Open {
    file: File,
    key: FileKey,
    offset: u64,
}

/// Reads a log as it grows, through rotation and truncation, in bounded memory.
#[derive(Debug)]
pub(crate) struct Follower {
    start: LogStart,
    open: Option<Open>,
    line: Vec<u8>,
    /// Bytes were skipped because the follower was too far behind.
    pub(crate) skipped_bytes: u64,
}

impl Follower {
    pub(crate) fn new(start: LogStart) -> Self {
        Self { start, open: None, line: Vec::new(), skipped_bytes: 0 }
    }

    /// Reads at most [`LOG_BYTES_PER_LOOK`] of what is new and hands each whole line (without its end, cut to
    /// [`LOG_LINE_BYTES_MAX`]) to `each`.
    pub(crate) fn look(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let mut budget = LOG_BYTES_PER_LOOK;
        for _ in 0..LOG_FILES_PER_LOOK {
            if self.open.is_none() {
                self.open = Some(self.open_at_start()?);
                self.line.clear();
            }
            let Some(open) = &mut self.open else { return Ok(()) };
            let length = open.file.metadata()?.len();
            if length < open.offset {
                // Truncated in place: what is there now is new.
                open.offset = 0;
                self.line.clear();
            }
            if length - open.offset > LOG_BEHIND_BYTES_MAX {
                let target = length - LOG_BYTES_PER_LOOK as u64;
                self.skipped_bytes += target - open.offset;
                open.offset = target;
                self.line.clear();
            }
            let want = usize::try_from(length - open.offset).unwrap_or(usize::MAX).min(budget);
            let mut chunk = Vec::new();
            open.file.seek(SeekFrom::Start(open.offset))?;
            (&open.file).take(want as u64).read_to_end(&mut chunk)?;
            open.offset += chunk.len() as u64;
            budget -= chunk.len();
            split_lines(&mut self.line, &chunk, &mut each);
            let at_end = chunk.len() == want && budget > 0;
            if !at_end || !self.was_rotated() {
                return Ok(());
            }
            // Read to its end, and another file has the name now: on to that one, from its beginning.
            self.open = None;
            self.start.seen = None;
        }
        Ok(())
    }

    fn was_rotated(&self) -> bool {
        match (&self.open, key_of(&self.start.path)) {
            (Some(open), Ok((key, _))) => open.key != key,
            _ => false,
        }
    }

    fn open_at_start(&self) -> io::Result<Open> {
        let file = open_regular(&self.start.path)?;
        let meta = file.metadata()?;
        let key = (meta.dev(), meta.ino());
        let offset = match self.start.seen {
            Some((seen, length)) if seen == key => length,
            _ => 0,
        };
        Ok(Open { file, key, offset })
    }
}

fn split_lines(line: &mut Vec<u8>, chunk: &[u8], each: &mut impl FnMut(&[u8])) {
    for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
        let (content, ended) = match piece.strip_suffix(b"\n") {
            Some(content) => (content, true),
            None => (piece, false),
        };
        let room = LOG_LINE_BYTES_MAX - line.len();
        line.extend_from_slice(&content[..content.len().min(room)]);
        if ended {
            each(line.strip_suffix(b"\r").unwrap_or(line));
            line.clear();
        }
    }
}

/// `heartbeat.log`.
#[derive(Debug)]
pub(crate) struct LogProbe {
    looks: OneAtATime<Result<Look, Miss>>,
    /// Only one look is ever under way, so the lock is never waited for.
    follower: Arc<Mutex<Follower>>,
    pattern: Regex,
}

/// What one look at the log found.
#[derive(Debug)]
struct Look {
    matching: u64,
    skipped_bytes: u64,
}

impl LogProbe {
    pub(crate) fn new(pattern: &str, start: LogStart) -> Result<Self, Miss> {
        let pattern = RegexBuilder::new(pattern)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX)
            .build()
            .map_err(|error| Miss::prober(format!("bad pattern: {error}")))?;
        let looks = OneAtATime::new(&FILE_LOOKS, "look at the log");
        Ok(Self { looks, follower: Arc::new(Mutex::new(Follower::new(start))), pattern })
    }

    /// How many new lines match.
    pub(crate) async fn poll(&mut self) -> Result<u64, Miss> {
        let (follower, pattern) = (Arc::clone(&self.follower), self.pattern.clone());
        let look = move || {
            let mut follower = follower.lock().unwrap_or_else(PoisonError::into_inner);
            let mut matching = 0;
            follower
                .look(|line| matching += u64::from(pattern.is_match(line)))
                .map_err(|error| file_fault(&error))?;
            Ok(Look { matching, skipped_bytes: std::mem::take(&mut follower.skipped_bytes) })
        };
        let look = self.looks.run(FILE_TIMEOUT, look).await??;
        if look.skipped_bytes > 0 {
            let bytes = look.skipped_bytes;
            tracing::warn!(bytes, "a log grows faster than it can be matched; a part was skipped");
        }
        Ok(look.matching)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;

    use super::*;

    struct Log {
        dir: tempfile::TempDir,
    }

    impl Log {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap() }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("bot.log")
        }

        fn write(&self, text: impl AsRef<[u8]>) {
            let mut file = OpenOptions::new().append(true).create(true).open(self.path()).unwrap();
            file.write_all(text.as_ref()).unwrap();
        }

        fn rotate(&self) {
            std::fs::rename(self.path(), self.dir.path().join("bot.log.1")).unwrap();
        }

        fn follower(&self) -> Follower {
            Follower::new(LogStart::at_end_of(&self.path()))
        }
    }

    fn lines(follower: &mut Follower) -> Vec<String> {
        let mut all = Vec::new();
        follower.look(|line| all.push(String::from_utf8_lossy(line).into_owned())).unwrap();
        all
    }

    #[test]
    fn only_new_whole_lines_are_seen() {
        let log = Log::new();
        log.write("old\n");
        let mut follower = log.follower();
        assert!(lines(&mut follower).is_empty());
        log.write("one\r\ntw");
        assert_eq!(lines(&mut follower), ["one"]);
        log.write("o\n\n");
        assert_eq!(lines(&mut follower), ["two", ""]);
    }

    #[test]
    fn a_rotation_loses_no_line_and_shows_none_twice() {
        let log = Log::new();
        log.write("old\n");
        let mut follower = log.follower();
        lines(&mut follower);
        log.write("last of the old\n");
        log.rotate();
        assert_eq!(lines(&mut follower), ["last of the old"], "the new file need not be there yet");
        log.write("first of the new\n");
        assert_eq!(lines(&mut follower), ["first of the new"]);
        log.write("a\n");
        log.rotate();
        log.write("b\n");
        assert_eq!(lines(&mut follower), ["a", "b"]);
    }

    #[test]
    fn a_log_that_appears_later_or_is_truncated_is_read_from_its_beginning() {
        let log = Log::new();
        let mut follower = log.follower();
        assert_eq!(follower.look(|_| ()).unwrap_err().kind(), io::ErrorKind::NotFound);
        log.write("first, quite long\n");
        assert_eq!(lines(&mut follower), ["first, quite long"]);
        OpenOptions::new().write(true).truncate(true).open(log.path()).unwrap();
        log.write("anew\n");
        assert_eq!(lines(&mut follower), ["anew"]);
    }

    #[test]
    fn an_endless_line_and_a_flood_cost_bounded_memory() {
        let log = Log::new();
        log.write("");
        let mut follower = log.follower();
        log.write(vec![b'x'; 3 * LOG_BYTES_PER_LOOK]);
        log.write("\nend\n");
        let mut longest = 0;
        let mut count = 0;
        for _ in 0..5 {
            follower
                .look(|line| {
                    longest = longest.max(line.len());
                    count += 1;
                })
                .unwrap();
            assert!(follower.line.capacity() <= 2 * LOG_LINE_BYTES_MAX);
        }
        assert_eq!((count, longest), (2, LOG_LINE_BYTES_MAX));
        let sparse = OpenOptions::new().write(true).open(log.path()).unwrap();
        sparse.set_len(10 * LOG_BEHIND_BYTES_MAX).unwrap();
        follower.look(|_| ()).unwrap();
        assert!(follower.skipped_bytes > 8 * LOG_BEHIND_BYTES_MAX);
    }

    #[tokio::test]
    async fn matching_lines_are_counted_and_a_bad_pattern_is_the_probers_fault() {
        let log = Log::new();
        log.write("tick 0\n");
        let mut probe = LogProbe::new(r"^tick \d+$", LogStart::at_end_of(&log.path())).unwrap();
        assert_eq!(probe.poll().await, Ok(0));
        log.write(b"tick 1\nnoise\n\xff tick\ntick 2\n");
        assert_eq!(probe.poll().await, Ok(2));
        assert!(LogProbe::new("(", LogStart::at_end_of(&log.path())).is_err());
        assert!(LogProbe::new("\\w{1000}{1000}", LogStart::at_end_of(&log.path())).is_err());
    }
}
