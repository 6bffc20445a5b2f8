//! What the sampler knows of a process, in one word, with where and for how long. An observation, never a decision.

use std::fmt;
use std::time::Duration;

use horus_core::observation::{KernelView, KernelWord};
use horus_core::time::Human;
use horus_sys::fact::Missing;
use horus_sys::sample::Call;

use super::take::Queue;

/// The one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    /// Too few looks so far.
    Learning,
    /// A loop is known and comes home: it waits for events and takes them.
    Alive,
    /// The process has never been seen waiting for events. It may sleep, compute or work in batches: no opinion.
    NoLoop,
    /// Its loop has not been met at home for improbably long. A suspicion, no proof.
    Away,
    /// Its loop is stuck in one and the same call, without a nanosecond of processor time.
    Blocked,
    /// Its loop uses or wants a processor all the time, never sleeps and never comes home. Honest work looks the same.
    Spinning,
    /// Its wait should have ended by itself and did not.
    Frozen,
    /// Its loop lives, but bytes or connections that it wants to hear of are not taken.
    Undrained,
    /// Stopped by a signal or by a tracer.
    Stopped,
    /// Its control group is frozen (`docker pause`).
    Paused,
    /// In a wait of the kernel that no signal ends.
    Uninterruptible,
    /// It waits again and again for pages of its memory to be read back from a disk, and does not come home meanwhile.
    Thrashing,
    /// It cannot be looked at. Neither healthy nor hung.
    NoEvidence,
    /// The process has ended.
    Gone,
}

impl Word {
    /// The word itself, as it stands in texts and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Learning => "learning",
            Self::Alive => "alive",
            Self::NoLoop => "no loop",
            Self::Away => "away",
            Self::Blocked => "blocked",
            Self::Spinning => "spinning",
            Self::Frozen => "frozen",
            Self::Undrained => "undrained",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Uninterruptible => "uninterruptible",
            Self::Thrashing => "thrashing",
            Self::NoEvidence => "no evidence",
            Self::Gone => "gone",
        }
    }

    /// Whether it says that the loop does not do its work, by facts and not by statistics.
    pub fn is_death(self) -> bool {
        matches!(self, Self::Blocked | Self::Spinning | Self::Frozen | Self::Undrained)
    }

    /// Whether it says that the program is not to blame: somebody else holds it.
    pub fn is_held(self) -> bool {
        matches!(self, Self::Stopped | Self::Paused)
    }
}

/// Which loop of the process the word is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose {
    /// The thread that was last seen at home in it.
    pub thread: u64,
    /// It is the main thread.
    pub main: bool,
}

/// Where it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The call.
    pub call: Call,
    /// On what, if that is known: the other end of a connection, a path.
    pub subject: Option<String>,
}

/// A wait for pages of memory, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// How many were read from a disk.
    pub pages: u64,
    /// For how long, as far as it was looked at closely.
    pub lasted: Duration,
}

impl fmt::Display for Paging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waits for its memory: {} pages were read from disk", self.pages)?;
        if self.lasted > Duration::ZERO { write!(f, " in {}", Human(self.lasted)) } else { Ok(()) }
    }
}

/// What is known of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// In one word.
    pub word: Word,
    /// Which of its loops.
    pub whose: Option<Whose>,
    /// Where that one is.
    pub place: Option<Place>,
    /// For how long, in time in which it could have run: waiting for a processor, sleep of the machine and absence of the
    /// sampler are not counted.
    pub lasted: Duration,
    /// Processor time that it used meanwhile.
    pub cpu: Duration,
    /// It waits for pages of its memory now.
    pub paging: Option<Paging>,
    /// How long ago a loop of the process was seen at home, if ever.
    pub home_seen: Option<Duration>,
    /// Who traces it. A traced process may be held at any moment, so nothing is proven of it.
    pub tracer: Option<i32>,
    /// What lies unread, for [`Word::Undrained`].
    pub queue: Option<Queue>,
    /// Nobody of it waits for events, which says nothing of a runtime that hands the wait from thread to thread.
    pub hands_over: bool,
    /// Why it cannot be looked at, for [`Word::NoEvidence`].
    pub missing: Option<Missing>,
}

impl View {
    /// Nothing but a word.
    pub fn plain(word: Word) -> Self {
        Self {
            word,
            whose: None,
            place: None,
            lasted: Duration::ZERO,
            cpu: Duration::ZERO,
            paging: None,
            home_seen: None,
            tracer: None,
            queue: None,
            hands_over: false,
            missing: None,
        }
    }

    /// What of it the judge is told. `None`: the process has ended, which others tell.
    pub fn told(&self) -> Option<KernelView> {
        let word = match self.word {
            Word::Learning => KernelWord::Learning,
            Word::Alive => KernelWord::Alive,
            Word::NoLoop => KernelWord::NoLoop,
            Word::Away => KernelWord::Away,
            Word::Blocked => KernelWord::Blocked,
            Word::Spinning => KernelWord::Spinning,
            Word::Frozen => KernelWord::Frozen,
            Word::Undrained => KernelWord::Undrained,
            Word::Stopped => KernelWord::Stopped,
            Word::Paused => KernelWord::Paused,
            Word::Uninterruptible => KernelWord::Uninterruptible,
            Word::Thrashing => KernelWord::Thrashing,
            Word::NoEvidence => KernelWord::NoEvidence,
            Word::Gone => return None,
        };
        let traced = self.tracer.map(|tracer| format!("it is traced by pid {tracer}"));
        let paging = self.paging.map(|paging| format!("it {paging}"));
        let held = if self.word.is_held() { Some(self.to_string()) } else { traced.or(paging) };
        // Another loop that came home meanwhile says that the process as a whole does something.
        let alone = self.home_seen.is_none_or(|ago| ago >= self.lasted);
        let thread = self.whose.filter(|whose| !whose.main).map(|whose| whose.thread);
        Some(KernelView { word, lasted: self.lasted, alone, thread, held, phrase: self.to_string() })
    }

    /// It is in this call.
    pub fn is_in(&self, call: &str) -> bool {
        self.place.as_ref().is_some_and(|place| place.call.name() == Some(call))
    }

    /// It says that the loop does not do its work, and nobody may be holding it.
    pub fn is_proof(&self) -> bool {
        self.word.is_death() && self.tracer.is_none()
    }

    fn write_place(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = &self.place else { return Ok(()) };
        match place.call.name() {
            Some(name) => write!(f, " in {name}")?,
            None => write!(f, " in system call {}", place.call.number)?,
        }
        let Some(subject) = &place.subject else { return Ok(()) };
        let manner = match place.call.name().unwrap_or_default() {
            "read" | "readv" | "pread64" | "recvfrom" | "recvmsg" => "from",
            "write" | "writev" | "pwrite64" | "sendto" | "sendmsg" | "connect" => "to",
            _ => "on",
        };
        write!(f, " {manner} {subject}")
    }

    fn write_whose(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.whose {
            Some(Whose { thread, main: false }) => {
                write!(f, ", in a loop beside the main one (thread {thread})")
            }
            _ => Ok(()),
        }
    }
}

/// One phrase for a person: `blocked in recvfrom from 10.0.0.7:443 for 12 s, no CPU used since`.
impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasted = Human(self.lasted);
        match self.word {
            Word::Learning => f.write_str("not known yet"),
            Word::Alive if self.hands_over => f.write_str("its threads run; Go shows no loop beside them"),
            Word::NoLoop if self.hands_over => {
                f.write_str("all of its threads rest, and none waits for events, as Go may: no opinion")
            }
            Word::Alive => f.write_str("its loop comes home"),
            Word::NoLoop => f.write_str("no loop was ever seen: no opinion"),
            Word::Gone => f.write_str("the process has ended"),
            Word::Blocked => {
                f.write_str("blocked")?;
                self.write_place(f)?;
                write!(f, " for {lasted}, no CPU used since")?;
                self.write_whose(f)
            }
            Word::Uninterruptible => {
                f.write_str("waits in the kernel where no signal ends it")?;
                self.write_place(f)?;
                write!(f, ", for {lasted}")
            }
            Word::Thrashing => {
                match self.paging {
                    Some(paging) => write!(f, "{paging}")?,
                    None => write!(f, "waits for its memory for {lasted}")?,
                }
                self.write_whose(f)
            }
            Word::Spinning => {
                write!(
                    f,
                    "on or waiting for a processor without a pause for {lasted} of CPU time, away from its loop"
                )?;
                self.write_whose(f)
            }
            Word::Frozen => {
                write!(f, "its wait should have ended {lasted} ago, and it did not run")?;
                self.write_whose(f)
            }
            Word::Away => {
                write!(f, "not met in its loop for {lasted}")?;
                if self.place.is_some() {
                    f.write_str("; now")?;
                    self.write_place(f)?;
                }
                self.write_whose(f)
            }
            Word::Undrained => match self.queue {
                Some(Queue { listens: true, waiting, descriptor, .. }) => write!(
                    f,
                    "its loop lives, but accepts none of {waiting} connections on descriptor {descriptor} for {lasted}"
                ),
                Some(Queue { waiting, descriptor, .. }) => write!(
                    f,
                    "its loop lives, but leaves {waiting} bytes on descriptor {descriptor} unread for {lasted}"
                ),
                None => write!(f, "its loop lives, but takes no work for {lasted}"),
            },
            Word::Stopped => match self.tracer {
                Some(tracer) => write!(f, "stopped by its tracer (pid {tracer}) for {lasted}"),
                None => write!(f, "stopped by a signal for {lasted}"),
            },
            Word::Paused => write!(f, "its control group is frozen for {lasted}"),
            Word::NoEvidence => match &self.missing {
                Some(Missing::Denied) => f.write_str("no evidence: permission"),
                Some(missing) => write!(f, "no evidence: {missing}"),
                None => f.write_str("no evidence"),
            },
        }
    }
}
