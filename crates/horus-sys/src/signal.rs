//! Signals, sent only to the process that was meant: by pid *and* start time, through a pidfd where there is one.

use crate::call::check;
use crate::process::ProcessId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::str::FromStr;

/// A signal number that this system has. Reads as `SIGTERM`, `TERM` or `15`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

/// The largest signal number, real-time signals included.
const LAST: i32 = if cfg!(target_os = "linux") { 64 } else { 31 };

const NAMES: [(&str, i32); 29] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("SYS", libc::SIGSYS),
];

/// A text that names no signal of this system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a signal; write it as SIGTERM, TERM or 15")]
pub struct NotASignal(pub String);

/// Why a signal was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The process ended, or its pid belongs to another process by now.
    #[error("process {0} is not there any more")]
    Gone(ProcessId),
    /// Never signalled: pid 1 and below, and the caller itself.
    #[error("refused to signal pid {0}")]
    Protected(i32),
    /// The system said no.
    #[error("cannot signal process {process}")]
    Failed {
        /// Whom.
        process: ProcessId,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Signal {
    /// Ask to end.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// End, without being asked.
    pub const KILL: Self = Self(libc::SIGKILL);
    /// Stop running until [`Signal::CONT`].
    pub const STOP: Self = Self(libc::SIGSTOP);
    /// Go on.
    pub const CONT: Self = Self(libc::SIGCONT);
    /// End and leave a core or, in Go and Java, a stack dump.
    pub const QUIT: Self = Self(libc::SIGQUIT);
    /// The terminal is gone.
    pub const HUP: Self = Self(libc::SIGHUP);
    /// `SIGUSR1`.
    pub const USR1: Self = Self(libc::SIGUSR1);
    /// For programs to agree on; Horus takes it as "become the new program".
    pub const USR2: Self = Self(libc::SIGUSR2);
    /// Ctrl-C.
    pub const INT: Self = Self(libc::SIGINT);
    /// Nobody reads what we write.
    pub const PIPE: Self = Self(libc::SIGPIPE);
    /// A file would grow beyond the limit.
    pub const XFSZ: Self = Self(libc::SIGXFSZ);
    /// A child changed state.
    pub const CHLD: Self = Self(libc::SIGCHLD);

    /// The signal of this number, if the system has it.
    pub fn new(number: i32) -> Option<Self> {
        (1..=LAST).contains(&number).then_some(Self(number))
    }

    /// The number, as the kernel knows it.
    pub fn number(self) -> i32 {
        self.0
    }

    /// Reads `SIGTERM`, `TERM` (any case) or `15`.
    pub fn parse(text: &str) -> Result<Self, NotASignal> {
        let upper = text.trim().to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let by_name = NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        by_name.or_else(|| upper.parse().ok()).and_then(Self::new).ok_or_else(|| NotASignal(text.to_owned()))
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl FromStr for Signal {
    type Err = NotASignal;
    fn from_str(text: &str) -> Result<Self, NotASignal> {
        Self::parse(text)
    }
}

impl Serialize for Signal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(self.0)
    }
}

impl<'de> Deserialize<'de> for Signal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i32::deserialize(deserializer)?;
        Self::new(number).ok_or_else(|| serde::de::Error::custom(format!("{number} is not a signal")))
    }
}

fn protected(pid: i32) -> bool {
    pid <= 1 || u32::try_from(pid).is_ok_and(|pid| pid == std::process::id())
}

/// Sends `signal` to exactly this process. On Linux the pidfd pins the process between check and send; on macOS a
/// window of microseconds stays between the check of the start time and `kill`.
pub fn send(process: &ProcessId, signal: Signal) -> Result<(), SendError> {
    if protected(process.pid) {
        return Err(SendError::Protected(process.pid));
    }
    match crate::os::send_signal(process, signal.0) {
        Ok(true) => Ok(()),
        Ok(false) => Err(SendError::Gone(*process)),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(SendError::Gone(*process)),
        Err(source) => Err(SendError::Failed { process: *process, source }),
    }
}

/// Sends `signal` to a whole process group, in one step that no fork inside the group escapes. A group has no start time:
/// the caller vouches that somebody who cannot go away (an unreaped child, a process just stopped) holds the number.
pub fn send_to_group(group: i32, signal: Signal) -> Result<(), SendError> {
    // SAFETY: takes nothing and cannot fail.
    let own = unsafe { libc::getpgrp() };
    if protected(group) || group == own {
        return Err(SendError::Protected(group));
    }
    let named = ProcessId { pid: group, start_time: 0 };
    // SAFETY: a plain system call on numbers; a group id above 1 cannot mean "everybody".
    match check(unsafe { libc::kill(-group, signal.0) }) {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(SendError::Gone(named)),
        Err(source) => Err(SendError::Failed { process: named, source }),
    }
}

/// Ignores a signal in this process, for daemons: `SIGPIPE`, `SIGXFSZ`, `SIGHUP`. Children made by
/// [`crate::launch`] get the default back.
pub fn ignore(signal: Signal) -> io::Result<()> {
    // SAFETY: SIG_IGN is a valid disposition; no handler code is involved.
    let previous = unsafe { libc::signal(signal.0, libc::SIG_IGN) };
    if previous == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Holds these signals back: in this thread, in threads that it starts, and over an `exec` in the program that it becomes.
/// What comes waits until [`let_through`].
pub fn hold_back(signals: &[Signal]) -> io::Result<()> {
    change_mask(libc::SIG_BLOCK, signals)
}

/// Takes what [`hold_back`] did back, in this thread. What has waited comes at once.
pub fn let_through(signals: &[Signal]) -> io::Result<()> {
    change_mask(libc::SIG_UNBLOCK, signals)
}

fn change_mask(how: i32, signals: &[Signal]) -> io::Result<()> {
    // SAFETY: an all-zero set is a valid place for `sigemptyset` to write to.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a valid place.
    unsafe { libc::sigemptyset(&raw mut set) };
    for signal in signals {
        // SAFETY: `set` is valid, and every `Signal` is one that the system has.
        unsafe { libc::sigaddset(&raw mut set, signal.0) };
    }
    // SAFETY: a valid set; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_back_comes_when_it_is_let_through() {
        use std::sync::atomic::{AtomicBool, Ordering};
        static CAME: AtomicBool = AtomicBool::new(false);
        extern "C" fn note(_: i32) {
            CAME.store(true, Ordering::SeqCst);
        }
        let signal = Signal::parse("WINCH").unwrap();
        // SAFETY: the handler only stores to an atomic.
        unsafe { libc::signal(signal.number(), note as *const () as libc::sighandler_t) };
        hold_back(&[signal]).unwrap();
        // SAFETY: a signal to this very thread, which holds it back.
        assert_eq!(unsafe { libc::raise(signal.number()) }, 0);
        assert!(!CAME.load(Ordering::SeqCst));
        let_through(&[signal]).unwrap();
        assert!(CAME.load(Ordering::SeqCst));
    }

    #[test]
    fn every_spelling_is_read_and_printed() {
        for text in ["SIGTERM", "TERM", "term", "15", " sigterm "] {
            assert_eq!(Signal::parse(text), Ok(Signal::TERM), "{text}");
        }
        assert_eq!(Signal::TERM.to_string(), "SIGTERM");
        for (_, number) in NAMES {
            let signal = Signal::new(number).unwrap();
            assert_eq!(Signal::parse(&signal.to_string()), Ok(signal));
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_text() {
        for text in ["", "SIG", "0", "-9", "65", "SIGNOPE", "99999999999999"] {
            assert_eq!(Signal::parse(text), Err(NotASignal(text.to_owned())));
        }
    }

    #[test]
    fn init_everybody_and_self_are_never_signalled() {
        let me = i32::try_from(std::process::id()).unwrap();
        for pid in [1, 0, -1, i32::MIN, me] {
            let target = ProcessId { pid, start_time: 1 };
            assert!(matches!(send(&target, Signal::KILL), Err(SendError::Protected(_))), "{pid}");
            assert!(matches!(send_to_group(pid, Signal::KILL), Err(SendError::Protected(_))), "{pid}");
        }
    }

    #[test]
    fn a_start_time_that_does_not_match_is_gone() {
        let parent = crate::process::parent_of_self();
        let mut stranger = crate::process::identify(parent).unwrap().unwrap();
        stranger.start_time += 1;
        assert!(matches!(send(&stranger, Signal::CONT), Err(SendError::Gone(_) | SendError::Protected(1))));
    }
}
