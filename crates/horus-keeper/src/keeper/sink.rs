//! One slot's output: from its FIFO into its log files.
//!
//! Bytes go from pipe to file inside the kernel and are never only in our memory, so a SIGKILL of the keeper loses
//! none: the file's length says how far the last one came. A file is only ended after a newline; near its limit the
//! sink looks ahead (a copy, by `tee`) for the newline at which to end. When the disk refuses, the output is thrown away and
//! counted, because a program must not block on a full disk; once a second the disk is tried again.

use crate::crash_point::crash_point;
use crate::logs::{MAX_LOG_FILES, MIN_LOG_BYTES, rotated};
use crate::protocol::LogSpec;
use horus_sys::pipe::{self, Moved, Peeker};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// How far the sink looks ahead for a newline at once, in bytes.
const LOOK_AHEAD: usize = 16 * 1024;
/// Bytes copied at once where the kernel cannot move them itself.
const COPY_BUFFER: usize = 4 * 1024;
/// A line longer than this many times the file limit is cut.
const HARD_CEILING: u64 = 2;
/// How often a refusing disk is tried again, and a loss reported.
const RETRY: Duration = Duration::from_secs(1);

/// What a sink has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// A line was cut; so often by now.
    LineSplit { total: u64 },
    /// Output is being thrown away: so many bytes since it began.
    Dropped { bytes: u64, error: String },
    /// It is written again.
    Resumed { dropped: u64 },
}

/// What all sinks of a keeper share.
#[derive(Debug)]
pub(crate) struct Tools {
    peeker: Peeker,
    null: File,
    /// For systems and file systems without splice.
    buffer: Vec<u8>,
}

impl Tools {
    pub(crate) fn new() -> io::Result<Self> {
        let null = OpenOptions::new().write(true).open("/dev/null")?;
        Ok(Self { peeker: Peeker::new()?, null, buffer: vec![0; COPY_BUFFER] })
    }
}

/// Where one slot's output goes.
#[derive(Debug)]
pub(crate) struct Sink {
    spec: LogSpec,
    file: Option<File>,
    offset: u64,
    loss: Option<Loss>,
    splits: u64,
    splits_told: u64,
    tell_splits_at: Duration,
}

#[derive(Debug)]
struct Loss {
    bytes: u64,
    error: String,
    retry_at: Duration,
    report_at: Duration,
    /// The log must go on at the start of a line.
    inside_line: bool,
}

impl Sink {
    /// Opens nothing yet. Limits are brought into their bounds.
    pub(crate) fn new(mut spec: LogSpec) -> Self {
        spec.max_bytes = spec.max_bytes.max(MIN_LOG_BYTES);
        spec.keep = spec.keep.min(MAX_LOG_FILES);
        Self {
            spec,
            file: None,
            offset: 0,
            loss: None,
            splits: 0,
            splits_told: 0,
            tell_splits_at: Duration::ZERO,
        }
    }

    /// When it wants to be called again although nothing new may have come: a loss to report or a disk to try.
    pub(crate) fn due(&self) -> Option<Duration> {
        let loss = self.loss.as_ref().map(|loss| loss.retry_at.max(loss.report_at));
        let splits = (self.splits > self.splits_told).then_some(self.tell_splits_at);
        [loss, splits].into_iter().flatten().min()
    }

    /// Output thrown away and not yet accounted for in the log, in bytes, and why.
    pub(crate) fn lost(&self) -> Option<(u64, String)> {
        self.loss.as_ref().map(|loss| (loss.bytes, loss.error.clone()))
    }

    /// Goes on with the loss of a sink before, which is tried to be ended at once.
    pub(crate) fn go_on_losing(&mut self, bytes: u64, error: String) {
        let now = Duration::ZERO;
        // Whether the log was inside a line is not known; an empty line more does no harm.
        self.loss = Some(Loss { bytes, error, retry_at: now, report_at: now, inside_line: true });
    }

    /// What was asked for, within its bounds.
    pub(crate) fn spec(&self) -> &LogSpec {
        &self.spec
    }

    /// Where the current file is.
    pub(crate) fn path(&self) -> &Path {
        &self.spec.path
    }

    /// Moves up to about `budget` bytes. `true`: there may be more.
    pub(crate) fn pump(
        &mut self,
        fifo: BorrowedFd<'_>,
        tools: &mut Tools,
        budget: usize,
        now: Duration,
        notes: &mut Vec<Note>,
    ) -> bool {
        let mut left = budget;
        if self.loss.is_none() {
            self.check_file();
        }
        let mut more = true;
        while more && left > 0 {
            match self.step(fifo, tools, left, now, notes) {
                Ok(Moved::Bytes(count)) => left = left.saturating_sub(count.max(1)),
                Ok(Moved::Nothing) => more = false,
                Err(error) => self.begin_loss(&error, now),
            }
        }
        if self.splits > self.splits_told && now >= self.tell_splits_at {
            self.splits_told = self.splits;
            self.tell_splits_at = now + RETRY;
            notes.push(Note::LineSplit { total: self.splits });
        }
        more
    }

    fn step(
        &mut self,
        fifo: BorrowedFd<'_>,
        tools: &mut Tools,
        budget: usize,
        now: Duration,
        notes: &mut Vec<Note>,
    ) -> io::Result<Moved> {
        if self.loss.is_some() {
            return Ok(self.lose(fifo, tools, budget, now, notes));
        }
        let wanted = self.wanted(fifo, tools, budget)?;
        let file = self.file.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let moved = pipe::move_to_file(fifo, file, &mut self.offset, wanted, &mut tools.buffer)?;
        crash_point("pump.after-splice");
        Ok(moved)
    }

    /// How many bytes may go into the current file next; ends the file first if it is time.
    fn wanted(&mut self, fifo: BorrowedFd<'_>, tools: &mut Tools, budget: usize) -> io::Result<usize> {
        if self.file.is_none() {
            self.open()?;
        }
        let limit = self.spec.max_bytes;
        if self.offset < limit {
            return Ok(budget.min(usize::try_from(limit - self.offset).unwrap_or(budget)));
        }
        if pipe::waiting(fifo)? == 0 {
            return Ok(1); // nothing to move: do not end a file for nothing
        }
        let ends_line = self.last_byte()? == Some(b'\n');
        let ceiling = limit * HARD_CEILING;
        if ends_line || self.offset >= ceiling {
            self.splits += u64::from(!ends_line);
            self.rotate()?;
            return Ok(budget.min(usize::try_from(limit).unwrap_or(budget)));
        }
        let room = usize::try_from(ceiling - self.offset).unwrap_or(LOOK_AHEAD).min(LOOK_AHEAD);
        let mut buffer = vec![0; room];
        let seen = tools.peeker.peek(fifo, &mut buffer)?;
        // Without peeking (macOS) go on byte by byte: slow, but only for the rest of one line per file.
        Ok(seen.map_or(1, |seen| {
            seen.iter().position(|byte| *byte == b'\n').map_or(seen.len().max(1), |at| at + 1)
        }))
    }

    fn last_byte(&self) -> io::Result<Option<u8>> {
        let (Some(file), Some(before)) = (&self.file, self.offset.checked_sub(1)) else { return Ok(None) };
        let mut byte = [0];
        Ok((file.read_at(&mut byte, before)? == 1).then_some(byte[0]))
    }

    fn open(&mut self) -> io::Result<()> {
        if let Some(parent) = self.spec.path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.spec.path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the log is not a regular file"));
        }
        self.offset = metadata.len();
        self.file = Some(file);
        Ok(())
    }

    /// Somebody else may have emptied or removed the file: follow, rather than write into the void.
    fn check_file(&mut self) {
        let Some(file) = &self.file else { return };
        match file.metadata() {
            Ok(metadata) if metadata.nlink() == 0 => self.file = None,
            Ok(metadata) if metadata.len() < self.offset => self.offset = metadata.len(),
            _ => {}
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.spec.path;
        if self.spec.keep == 0 {
            fs::remove_file(path)?;
        }
        for age in (0..self.spec.keep).rev() {
            match fs::rename(rotated(path, age), rotated(path, age + 1)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        self.file = None;
        crash_point("rotate.after-rename");
        self.open()
    }

    fn begin_loss(&mut self, error: &io::Error, now: Duration) {
        let inside_line = !matches!(self.last_byte(), Ok(Some(b'\n') | None)) || self.offset == 0;
        let retry_at = now + RETRY;
        match &mut self.loss {
            Some(loss) => {
                loss.retry_at = retry_at;
                loss.error = error.to_string();
            }
            None => {
                self.loss =
                    Some(Loss { bytes: 0, error: error.to_string(), retry_at, report_at: now, inside_line })
            }
        }
    }

    /// Throws away, or tries the disk again when it is time.
    fn lose(
        &mut self,
        fifo: BorrowedFd<'_>,
        tools: &mut Tools,
        budget: usize,
        now: Duration,
        notes: &mut Vec<Note>,
    ) -> Moved {
        if self.loss.as_ref().is_some_and(|loss| now >= loss.retry_at)
            && let Err(error) = self.resume(fifo, tools, notes)
        {
            self.begin_loss(&error, now);
        }
        let Some(loss) = &mut self.loss else { return Moved::Bytes(1) };
        // The pipe and /dev/null do not fail; if they did, the FIFO would be all that blocks the program.
        let moved = pipe::discard(fifo, &tools.null, budget, &mut tools.buffer).unwrap_or(Moved::Nothing);
        if let Moved::Bytes(count) = moved {
            loss.bytes += u64::try_from(count).unwrap_or(0);
        }
        if loss.bytes > 0 && now >= loss.report_at {
            loss.report_at = now + RETRY;
            notes.push(Note::Dropped { bytes: loss.bytes, error: loss.error.clone() });
        }
        moved
    }

    /// Goes on at the start of a line, with a line that says what is missing.
    fn resume(&mut self, fifo: BorrowedFd<'_>, tools: &mut Tools, notes: &mut Vec<Note>) -> io::Result<()> {
        self.file = None;
        self.open()?;
        let Some(loss) = &mut self.loss else { return Ok(()) };
        let mut dropped = loss.bytes;
        let mut ahead = vec![0; LOOK_AHEAD];
        if loss.bytes > 0
            && let Some(seen) = tools.peeker.peek(fifo, &mut ahead)?
            && let Some(newline) = seen.iter().position(|byte| *byte == b'\n')
            && let Moved::Bytes(count) = pipe::discard(fifo, &tools.null, newline + 1, &mut tools.buffer)?
        {
            dropped += u64::try_from(count).unwrap_or(0);
            loss.bytes = dropped;
        }
        if dropped > 0 {
            let cut = if loss.inside_line && self.offset > 0 { "\n" } else { "" };
            let line = format!("{cut}[horus] {dropped} bytes of output were dropped: {}\n", loss.error);
            if let Some(file) = &self.file {
                file.write_all_at(line.as_bytes(), self.offset)?;
                self.offset += u64::try_from(line.len()).unwrap_or(0);
            }
            notes.push(Note::Resumed { dropped });
        }
        self.loss = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, OwnedFd};

    struct Bench {
        _scratch: tempfile::TempDir,
        log: std::path::PathBuf,
        reader: OwnedFd,
        writer: OwnedFd,
        tools: Tools,
        sink: Sink,
        notes: Vec<Note>,
        now: Duration,
    }

    impl Bench {
        fn new(max_bytes: u64, keep: u32) -> Self {
            let scratch = tempfile::tempdir().unwrap();
            let fifo = scratch.path().join("out");
            pipe::make_fifo(&fifo).unwrap();
            let log = scratch.path().join("logs/bot.log");
            let spec = LogSpec { path: log.clone(), max_bytes, keep };
            Self {
                reader: pipe::open_reader(&fifo).unwrap(),
                writer: pipe::open_writer(&fifo).unwrap(),
                tools: Tools::new().unwrap(),
                sink: Sink::new(spec),
                notes: Vec::new(),
                now: Duration::ZERO,
                _scratch: scratch,
                log,
            }
        }

        fn print(&mut self, text: &[u8]) {
            for part in text.chunks(16 * 1024) {
                assert_eq!(pipe::write_some(self.writer.as_fd(), part).unwrap(), part.len());
                self.pump();
            }
        }

        fn pump(&mut self) {
            while self.sink.pump(self.reader.as_fd(), &mut self.tools, 64 * 1024, self.now, &mut self.notes) {
            }
        }
    }

    fn content(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn files_end_at_a_newline_although_writes_do_not() {
        let mut bench = Bench::new(MIN_LOG_BYTES, 5);
        let all: String = (0..400).map(|n| format!("line {n:05} {}\n", "x".repeat(n % 50))).collect();
        for part in all.as_bytes().chunks(997) {
            bench.print(part);
        }
        let mut joined = String::new();
        for age in (0..=5).rev() {
            let text = content(&rotated(&bench.log, age));
            assert!(text.is_empty() || text.ends_with('\n'), "file {age} ends inside a line");
            assert!(text.len() < 5_000, "file {age} holds {} bytes", text.len());
            joined.push_str(&text);
        }
        assert_eq!(joined, all);
        assert!(content(&rotated(&bench.log, 1)).len() >= 4_096);
        assert_eq!(bench.notes, []);
    }

    #[test]
    fn a_monster_line_is_cut_at_twice_the_size_and_counted() {
        let mut bench = Bench::new(MIN_LOG_BYTES, 2);
        bench.print(&vec![b'x'; 30 * 1_024]);
        bench.print(b"\n");
        assert_eq!(bench.notes, [Note::LineSplit { total: 1 }], "told at most once a second");
        assert_eq!(bench.sink.due(), Some(RETRY));
        bench.now = RETRY;
        bench.pump();
        for age in 1..=2 {
            assert_eq!(content(&rotated(&bench.log, age)).len(), 8_192);
        }
        assert!(!rotated(&bench.log, 3).exists());
        assert_eq!(bench.notes.last(), Some(&Note::LineSplit { total: 3 }));
    }

    #[test]
    fn without_older_files_the_log_starts_over() {
        let mut bench = Bench::new(MIN_LOG_BYTES, 0);
        for n in 0..2_000 {
            bench.print(format!("{n}\n").as_bytes());
        }
        assert!(content(&bench.log).ends_with("1999\n"));
        assert!(content(&bench.log).len() < 4_200);
    }

    #[test]
    fn a_refusing_disk_drops_counts_reports_and_resumes_at_a_line() {
        let mut bench = Bench::new(MIN_LOG_BYTES, 2);
        // A file where the directory should be: every open fails, for root too.
        let parent = bench.log.parent().unwrap().to_owned();
        File::create(&parent).unwrap();
        bench.print(b"one\ntwo\n");
        bench.print(b"three\n");
        assert!(matches!(bench.notes.as_slice(), [Note::Dropped { bytes: 8, .. }]), "{:?}", bench.notes);
        bench.now = RETRY;
        bench.print(b"four\nfi");
        assert!(matches!(bench.notes.last(), Some(Note::Dropped { bytes: 21, .. })), "{:?}", bench.notes);
        fs::remove_file(&parent).unwrap();
        bench.now = RETRY * 2;
        bench.print(b"ve\nsix\n");
        assert_eq!(bench.notes.last(), Some(&Note::Resumed { dropped: 24 }));
        let text = content(&bench.log);
        assert!(text.starts_with("[horus] 24 bytes of output were dropped: "), "{text}");
        assert!(text.ends_with("\nsix\n"), "{text}");
    }

    #[test]
    fn a_loss_is_handed_on_and_accounted_for() {
        let mut bench = Bench::new(MIN_LOG_BYTES, 2);
        bench.print(b"one\n");
        bench.sink = Sink::new(bench.sink.spec.clone());
        bench.sink.go_on_losing(77, "No space left".to_owned());
        assert_eq!(bench.sink.lost(), Some((77, "No space left".to_owned())));
        bench.print(b"two\nthree\n");
        let text = content(&bench.log);
        assert!(text.contains("[horus] 81 bytes of output were dropped: No space left\nthree\n"), "{text}");
        assert_eq!(bench.sink.lost(), None);
    }

    #[test]
    fn an_emptied_or_removed_log_is_followed() {
        let mut bench = Bench::new(MIN_LOG_BYTES, 2);
        bench.print(b"one\n");
        File::options().write(true).truncate(true).open(&bench.log).unwrap();
        bench.print(b"two\n");
        assert_eq!(content(&bench.log), "two\n");
        fs::remove_file(&bench.log).unwrap();
        bench.print(b"three\n");
        assert_eq!(content(&bench.log), "three\n");
    }

    #[test]
    fn a_new_sink_goes_on_where_the_dead_one_stopped() {
        let mut bench = Bench::new(MIN_LOG_BYTES, 2);
        bench.print(b"half a li");
        bench.sink = Sink::new(bench.sink.spec.clone());
        bench.print(b"ne\n");
        assert_eq!(content(&bench.log), "half a line\n");
    }
}
