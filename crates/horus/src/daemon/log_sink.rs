//! The daemon's own log, on standard error, in a way that cannot hold it up.
//!
//! Standard error may be a terminal that was stopped, a pipe that nobody reads, or closed. A log line is handed to a thread
//! of its own through a bounded channel; if that is full the line is dropped and counted. Losing a line is bad, a
//! watchdog that waits for its own log is worse (the journal in the database holds everything that matters).

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait for standard error.
const LINES_MAX: usize = 4_096;

/// How long the last lines may take when Horus ends.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Where the log goes.
#[derive(Clone, Debug)]
pub(super) struct LogSink {
    lines: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Line {
    Text(Vec<u8>),
    /// Everything before this was written.
    Mark(SyncSender<()>),
}

impl LogSink {
    /// The one sink of this process.
    pub(super) fn of_process() -> &'static LogSink {
        static SINK: OnceLock<LogSink> = OnceLock::new();
        SINK.get_or_init(|| {
            let (lines, taken) = sync_channel(LINES_MAX);
            let dropped = Arc::new(AtomicU64::new(0));
            let counter = Arc::clone(&dropped);
            let thread = std::thread::Builder::new().name("horus-log".into());
            // Without the thread the channel is closed and every line is dropped: Horus runs, silently.
            drop(thread.spawn(move || write_lines(&taken, &counter)));
            LogSink { lines, dropped }
        })
    }

    /// Waits for what was logged so far, but not for a reader who is not there.
    pub(super) fn flush(&self) {
        let (mark, written) = sync_channel(1);
        if self.lines.try_send(Line::Mark(mark)).is_ok() {
            let _: Result<(), RecvTimeoutError> = written.recv_timeout(FLUSH_MAX);
        }
    }
}

fn write_lines(taken: &Receiver<Line>, dropped: &AtomicU64) {
    while let Ok(line) = taken.recv() {
        let mut stderr = io::stderr().lock();
        let lost = dropped.swap(0, Ordering::Relaxed);
        // A closed standard error is nobody's fault; the next line may find it open again.
        if lost > 0 {
            let _ = writeln!(stderr, "(nobody read this log for a while: {lost} lines were dropped)");
        }
        match line {
            Line::Text(text) => drop(stderr.write_all(&text)),
            Line::Mark(mark) => {
                let _ = mark.try_send(());
            }
        }
    }
}

impl Write for LogSink {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match self.lines.try_send(Line::Text(text.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogSink {
    type Writer = LogSink;

    fn make_writer(&self) -> LogSink {
        self.clone()
    }
}
