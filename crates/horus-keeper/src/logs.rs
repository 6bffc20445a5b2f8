//! Reading the log files that the keeper writes: the current one at `PATH`, older ones at `PATH.1`, `PATH.2`, ...
//!
//! The keeper renames at rotation and never rewrites, so an open file stays true: a reader finishes the file it has
//! open, finds by inode where that file now is in the row, and goes on with the next newer one.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Smallest size at which a log may be set to rotate, in bytes.
pub const MIN_LOG_BYTES: u64 = 4 * 1024;
/// Most rotated files kept beside the current one.
pub const MAX_LOG_FILES: u32 = 100;
/// Most bytes returned by one [`Follower::read_new`].
pub const MAX_READ: usize = 256 * 1024;

/// Missing files in a row after which the row of files is taken to end: a rotation in progress leaves one gap.
const MAX_GAP: u32 = 3;

/// So often the oldest file of a row is looked for, if the row moves meanwhile.
const OLDEST_TRIES: u32 = 16;

/// The ages at which there may be a file, newest first, given how to look. Ends after [`MAX_GAP`] misses.
fn ages(mut exists: impl FnMut(u32) -> bool) -> Vec<u32> {
    let (mut found, mut misses) = (Vec::new(), 0);
    for age in 0..=MAX_LOG_FILES {
        if exists(age) {
            found.push(age);
            misses = 0;
        } else {
            misses += 1;
            if misses == MAX_GAP {
                break;
            }
        }
    }
    found
}

/// The `age`-th older file of a log; 0 is the current one.
pub fn rotated(path: &Path, age: u32) -> PathBuf {
    if age == 0 {
        return path.to_owned();
    }
    let mut name = OsString::from(path);
    name.push(format!(".{age}"));
    PathBuf::from(name)
}

/// The last `lines` lines, oldest first, reading at most the last `max_bytes` across rotated files. Bytes that are
/// not UTF-8 are replaced. A log that is not there has no lines; a first line cut by `max_bytes` is left out unless it is all
/// there is.
pub fn tail(path: &Path, lines: usize, max_bytes: usize) -> Vec<String> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut whole = true;
    let mut last = None;
    for age in ages(|age| rotated(path, age).exists()) {
        let room = max_bytes.saturating_sub(bytes.len());
        if room == 0 || count_lines(&bytes) > lines {
            whole = false;
            break;
        }
        let Ok(file) = File::open(rotated(path, age)) else { continue };
        let Ok((found, mut older, complete)) = read_end(file, room) else { continue };
        if last == Some(found) {
            continue; // renamed while we read: the same file again
        }
        last = Some(found);
        older.append(&mut bytes);
        bytes = older;
        if !complete {
            whole = false;
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut found: Vec<&str> = text.strip_suffix('\n').unwrap_or(&text).split('\n').collect();
    if text.is_empty() {
        return Vec::new();
    }
    if !whole && found.len() > 1 && found.len() <= lines {
        found.remove(0);
    }
    let skip = found.len().saturating_sub(lines);
    found.into_iter().skip(skip).map(str::to_owned).collect()
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// Which file it is, its last `room` bytes, and whether that is all of it.
fn read_end(mut file: File, room: usize) -> io::Result<((u64, u64), Vec<u8>, bool)> {
    let metadata = file.metadata()?;
    let start = metadata.len().saturating_sub(u64::try_from(room).unwrap_or(u64::MAX));
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(metadata.len() - start).read_to_end(&mut bytes)?;
    Ok((identity(&metadata), bytes, start == 0))
}

/// Reads what is added to a log, across rotations, without losing or repeating a byte as long as it is asked more
/// often than files fall off the end of the row.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    current: Option<Open>,
    lost: u64,
}

#[derive(Debug)]
struct Open {
    file: File,
    identity: (u64, u64),
    offset: u64,
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let identity = identity(&file.metadata()?);
        Ok(Self { file, identity, offset: 0 })
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Follower {
    /// Follows from the present end on. The log need not exist yet.
    pub fn from_end(path: &Path) -> Self {
        // In the middle of a rotation the newest file is the first older one.
        let mut current = Open::at(path).or_else(|_| Open::at(&rotated(path, 1))).ok();
        if let Some(open) = &mut current {
            open.offset = open.file.metadata().map_or(0, |metadata| metadata.len());
        }
        Self { path: path.to_owned(), current, lost: 0 }
    }

    /// Follows from the beginning of the current file on.
    pub fn from_start(path: &Path) -> Self {
        Self { path: path.to_owned(), current: Open::at(path).ok(), lost: 0 }
    }

    /// How often this follower came too late and files were gone that it had not read.
    pub fn gaps(&self) -> u64 {
        self.lost
    }

    /// What is new, at most [`MAX_READ`] bytes; empty if nothing is. Never waits.
    pub fn read_new(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // One step per file in the row, at most: a log that rotates faster than we read must not keep us here.
        for _ in 0..=MAX_LOG_FILES {
            // There was no log: whatever is there by now is new.
            if self.current.is_none() {
                self.current = oldest(&self.path)?;
            }
            let Some(open) = &mut self.current else { break };
            // Where the file stands in the row is asked *before* reading to its end: what is not the current file any
            // more gets no more lines, so its end is final.
            let place = place_of(&self.path, open.identity);
            let length = open.file.metadata()?.len();
            if length < open.offset {
                open.offset = 0; // somebody emptied it
            }
            let room = MAX_READ - bytes.len();
            open.file.seek(SeekFrom::Start(open.offset))?;
            let read = (&open.file).take(u64::try_from(room).unwrap_or(0)).read_to_end(&mut bytes)?;
            open.offset += u64::try_from(read).unwrap_or(0);
            if bytes.len() == MAX_READ {
                break;
            }
            match place {
                Place::Current => break,
                Place::Rotated(age) => match Open::at(&rotated(&self.path, age - 1)) {
                    // Ours moves before its successor does: if it is still there, this is the successor. If not, there
                    // was another rotation in between: look again.
                    Ok(next) => {
                        if is_at(&rotated(&self.path, age), open.identity) {
                            self.current = Some(next);
                        }
                    }
                    // The keeper is between the rename and the new file.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) => return Err(error),
                },
                Place::Nowhere => {
                    self.lost += 1;
                    self.current = None;
                }
            }
        }
        Ok(bytes)
    }
}

enum Place {
    Current,
    Rotated(u32),
    Nowhere,
}

/// Upwards, as files only ever move up: one that is renamed while we look is met again one further.
fn place_of(path: &Path, wanted: (u64, u64)) -> Place {
    let mut place = Place::Nowhere;
    ages(|age| {
        let found = fs::metadata(rotated(path, age)).map(|metadata| identity(&metadata));
        if found.as_ref().is_ok_and(|found| *found == wanted) && matches!(place, Place::Nowhere) {
            place = if age == 0 { Place::Current } else { Place::Rotated(age) };
        }
        found.is_ok() && matches!(place, Place::Nowhere)
    });
    place
}

fn is_at(path: &Path, wanted: (u64, u64)) -> bool {
    fs::metadata(path).is_ok_and(|found| identity(&found) == wanted)
}

/// The oldest file of the row. Whether there is an older one is asked once more when it is open: a rotation in between may have
/// put a younger one into its place. `None`: there is none, or the row moves too fast to tell; then the next look finds it.
fn oldest(path: &Path) -> io::Result<Option<Open>> {
    let exists = |age: u32| rotated(path, age).exists();
    for _ in 0..OLDEST_TRIES {
        let Some(age) = ages(exists).last().copied() else { return Ok(None) };
        match Open::at(&rotated(path, age)) {
            Ok(open) if !(1..=MAX_GAP).any(|more| exists(age + more)) => return Ok(Some(open)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn append(path: &Path, text: &str) {
        File::options().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn rotate(path: &Path) {
        for age in (0..5).rev() {
            let _ = fs::rename(rotated(path, age), rotated(path, age + 1));
        }
    }

    #[test]
    fn the_tail_reaches_into_older_files_and_no_further() {
        let scratch = tempfile::tempdir().unwrap();
        let log = scratch.path().join("bot.log");
        assert!(tail(&log, 10, 1_000).is_empty());
        append(&log, "1\n2\n");
        rotate(&log);
        append(&log, "3\n\u{fffd}4\n");
        assert_eq!(tail(&log, 3, 1_000), ["2", "3", "\u{fffd}4"]);
        assert_eq!(tail(&log, 10, 1_000), ["1", "2", "3", "\u{fffd}4"]);
        assert_eq!(tail(&log, 0, 1_000), [""; 0]);
        // The newest seven bytes hold "4" whole and, with the newline before it, "3" cut off.
        assert_eq!(tail(&log, 10, 7), ["\u{fffd}4"]);
        append(&log, "no newline yet");
        assert_eq!(tail(&log, 1, 1_000), ["no newline yet"]);
        fs::rename(&log, rotated(&log, 9)).unwrap();
        assert_eq!(tail(&log, 1, 1_000), ["2"], "a rotation in progress hides the current file only");
    }

    #[test]
    fn a_follower_loses_and_repeats_nothing_over_many_rotations() {
        let scratch = tempfile::tempdir().unwrap();
        let log = scratch.path().join("bot.log");
        let mut follower = Follower::from_end(&log);
        assert!(follower.read_new().unwrap().is_empty());
        let mut expected = String::new();
        let mut seen = Vec::new();
        for round in 0..40 {
            for line in 0..3 {
                let text = format!("line {round}.{line}\n");
                append(&log, &text);
                expected.push_str(&text);
            }
            // Zero to three rotations between two reads.
            if round % 2 == 0 {
                rotate(&log);
            }
            if round % 7 == 0 {
                seen.extend(follower.read_new().unwrap());
            }
            if round % 7 == 3 {
                seen.extend(follower.read_new().unwrap());
            }
        }
        seen.extend(follower.read_new().unwrap());
        assert_eq!(String::from_utf8(seen).unwrap(), expected);
        assert_eq!(follower.gaps(), 0);
    }

    #[test]
    fn a_follower_that_comes_into_a_rotation_begins_with_the_oldest_file() {
        for round in 0..500 {
            let scratch = tempfile::tempdir().unwrap();
            let log = scratch.path().join("bot.log");
            let mut follower = Follower::from_end(&log);
            append(&log, "0\n");
            let both = std::sync::Arc::new(std::sync::Barrier::new(2));
            let writer = std::thread::spawn({
                let (log, both) = (log.clone(), std::sync::Arc::clone(&both));
                move || {
                    both.wait();
                    for number in 1..5 {
                        rotate(&log);
                        append(&log, &format!("{number}\n"));
                    }
                }
            });
            both.wait();
            // Each round comes a little later into the rotations than the one before.
            for turn in 0..round * 20 {
                std::hint::black_box(turn);
            }
            let mut seen = follower.read_new().unwrap();
            writer.join().unwrap();
            seen.extend(follower.read_new().unwrap());
            assert_eq!(String::from_utf8(seen).unwrap(), "0\n1\n2\n3\n4\n", "round {round}");
            assert_eq!(follower.gaps(), 0);
        }
    }

    #[test]
    fn coming_too_late_is_counted() {
        let scratch = tempfile::tempdir().unwrap();
        let log = scratch.path().join("bot.log");
        append(&log, "a\n");
        let mut follower = Follower::from_end(&log);
        fs::remove_file(&log).unwrap();
        append(&log, "b\n");
        assert_eq!(follower.read_new().unwrap(), b"b\n");
        assert_eq!(follower.gaps(), 1);
        File::options().write(true).truncate(true).open(&log).unwrap();
        append(&log, "c\n");
        follower.read_new().unwrap();
    }
}
