//! Every limit of the senses, in one place.

use std::time::Duration;

/// The longest body of an answer that is read, in bytes. A longer one is no beat.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// The longest page of Prometheus that is read for its counters, in bytes.
pub const METRICS_BYTES_MAX: usize = 4 << 20;
/// The longest JSON that is read for its counters, in bytes. (A tree of it takes sixteen times as much memory.)
pub const COUNTED_JSON_BYTES_MAX: usize = 256 << 10;
/// How many series may make up one counter.
pub const SERIES_MAX: usize = 1_024;
/// How many labels one series may have.
pub const LABELS_MAX: usize = 64;
/// The longest head (status line and headers) of an answer, in bytes.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// How many headers an answer may have.
pub const HEADERS_MAX: usize = 64;
/// How many addresses of one host name are tried in one poll.
pub const ADDRESSES_MAX: usize = 4;
/// How many look-ups of host names may be under way at once, over all probes.
pub const NAME_LOOKUPS_MAX: usize = 8;
/// How many looks at files may be under way at once, over all probes.
pub const FILE_LOOKS_MAX: usize = 32;
/// How many probe commands may run at once, over all probes.
pub const EXEC_PROBES_MAX: usize = 8;
/// How much of a probe command's output is kept, in bytes.
pub const EXEC_OUTPUT_BYTES_MAX: usize = 4 << 10;
/// How many progress counters one beat may carry.
pub const PROGRESS_NAMES_MAX: usize = 64;
/// The longest name of a progress counter, in bytes.
pub const PROGRESS_NAME_BYTES_MAX: usize = 64;
/// The longest busy spell that one beat can declare.
pub const BUSY_MAX: Duration = Duration::from_secs(2 * 3600);
/// The longest extension that one `EXTEND_TIMEOUT_USEC=` can ask for.
pub const EXTEND_MAX: Duration = Duration::from_secs(2 * 3600);
/// The longest datagram on a notify socket, in bytes; the rest of a longer one is cut off.
pub const DATAGRAM_BYTES_MAX: usize = 4 << 10;
/// How many datagrams are read in one wake-up; what they say is reported once.
pub const DATAGRAMS_PER_WAKE: usize = 256;
/// How many connections one notify stream serves; the next one takes the place of the quietest.
pub const STREAM_CONNECTIONS_MAX: usize = 32;
/// How many messages of a notify stream wait to be weighed; a sender waits, or drops, beyond that.
pub const STREAM_MESSAGES_MAX: usize = 64;
/// The pause after a wake-up of a notify socket, so that a flood costs bounded work.
pub const NOTIFY_PAUSE: Duration = Duration::from_millis(20);
/// The longest status line, in characters.
pub const STATUS_CHARACTERS_MAX: usize = 256;
/// How often strangers on a notify socket are reported, at most.
pub const STRANGER_REPORT_EVERY: Duration = Duration::from_secs(60);
/// How much of a file's content is its tick, in bytes.
pub const FILE_TICK_BYTES: usize = 4 << 10;
/// A look at a file may take so long.
pub const FILE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a followed log is looked at.
pub const LOG_EVERY: Duration = Duration::from_millis(250);
/// How much of a log is read in one look, in bytes.
pub const LOG_BYTES_PER_LOOK: usize = 1 << 20;
/// How many rotations of a log are followed in one look.
pub const LOG_FILES_PER_LOOK: usize = 8;
/// A follower that is further behind than this, in bytes, jumps to the end and says so.
pub const LOG_BEHIND_BYTES_MAX: u64 = 16 << 20;
/// The longest log line that is matched, in bytes; the rest of a longer one is skipped.
pub const LOG_LINE_BYTES_MAX: usize = 64 << 10;
/// The largest compiled form of a log pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 1 << 20;
/// A hastened probe polls four times as often, but never more often than this.
pub const HASTENED_EVERY_MIN: Duration = Duration::from_millis(250);
/// Between two polls there is always at least this pause.
pub const POLL_PAUSE_MIN: Duration = Duration::from_millis(10);
/// A timeout that fired this much too late says that Horus was late, not the program.
pub const LATENESS_MAX: Duration = Duration::from_millis(500);
/// After a panic inside a probe it is started again after so long.
pub const PANIC_PAUSE: Duration = Duration::from_secs(5);
/// The longest detail of a fault, in characters.
pub const DETAIL_CHARACTERS_MAX: usize = 300;
/// One capture may take so long.
pub const CAPTURE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many captures may be under way at once.
pub const CAPTURES_MAX: usize = 4;
/// A witness, the child that reads stacks, is killed after so long. It ends by itself a little sooner.
pub const WITNESS_TIMEOUT: Duration = Duration::from_secs(4);
/// How much of what a witness says is taken, in bytes.
pub const WITNESS_BYTES_MAX: usize = 1 << 20;
/// The longest phrase of a witness, in characters.
pub const WITNESS_PHRASE_CHARACTERS_MAX: usize = 400;
/// How many of its reasons for not seeing something are kept.
pub const WITNESS_REASONS_MAX: usize = 16;
/// How many threads of a process are described.
pub const CAPTURE_THREADS_MAX: usize = 256;
/// How many sockets of a process are described.
pub const CAPTURE_SOCKETS_MAX: usize = 512;
/// The processes of one program's tree whose use is counted.
pub const ACTIVITY_PROCESSES_MAX: usize = 256;
/// How many log lines go into a bundle.
pub const CAPTURE_LINES_MAX: usize = 50;
/// The longest log line in a bundle, in characters.
pub const CAPTURE_LINE_CHARACTERS_MAX: usize = 1_000;
/// How much of the end of a log is read for them, in bytes.
pub const CAPTURE_TAIL_BYTES: u64 = 64 << 10;
/// The largest bundle, in bytes.
pub const EVIDENCE_BUNDLE_BYTES_MAX: usize = 1 << 20;
/// How many bundles are kept.
pub const EVIDENCE_FILES_MAX: usize = 1_000;
/// How many bytes of bundles are kept.
pub const EVIDENCE_BYTES_MAX: u64 = 256 << 20;
