//! What a person is told.
//!
//! A [`Notice`] is data, not text: the wanted state of the message about one incident. `horus-alert` makes words of
//! it for each sink; a later notice about the same incident replaces one that was not delivered yet.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::IncidentId;
use crate::plan::Severity;

/// What an incident is about. One service (or monitor, or Horus itself) has at most one open incident of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncidentKind {
    /// Its loop stopped.
    Stuck,
    /// Its process ended by itself.
    Exit,
    /// It ends again and again.
    CrashLoop,
    /// It dies at the same age every time.
    SameAge,
    /// It could not be started.
    StartFailed,
    /// Its start is not done.
    StartOverdue,
    /// Its probe path is broken.
    ProbePath,
    /// It produces nothing.
    Valueless,
    /// A stage of its funnel lets nothing through.
    FunnelBlocked,
    /// It would not die.
    WillNotDie,
    /// A monitor is down.
    MonitorDown,
    /// The state directory takes no writes.
    Store,
    /// A sink takes no messages.
    SinkDead,
    /// It stopped itself on purpose.
    Halted,
}

impl IncidentKind {
    /// The kind's word, as it is serialised.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stuck => "stuck",
            Self::Exit => "exit",
            Self::CrashLoop => "crash-loop",
            Self::SameAge => "same-age",
            Self::StartFailed => "start-failed",
            Self::StartOverdue => "start-overdue",
            Self::ProbePath => "probe-path",
            Self::Valueless => "valueless",
            Self::FunnelBlocked => "funnel-blocked",
            Self::WillNotDie => "will-not-die",
            Self::MonitorDown => "monitor-down",
            Self::Store => "store",
            Self::SinkDead => "sink-dead",
            Self::Halted => "halted",
        }
    }
}

/// The wanted state of the message about one incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// Which incident.
    pub incident: IncidentId,
    /// Counts up with each state of the same incident, from 1.
    pub version: u32,
    /// The service or monitor it is about; `horus` for Horus itself.
    pub subject: String,
    /// What it is about.
    pub kind: IncidentKind,
    /// How bad it is.
    pub severity: Severity,
    /// A person has to do something.
    pub needs_you: bool,
    /// May it make a noise? (A sink that can be silent is told so.)
    pub loud: bool,
    /// What to say.
    pub story: Story,
}

impl Story {
    /// Does it end the matter? What was told without such an end is ended by [`Story::Over`].
    pub fn is_end(&self) -> bool {
        matches!(
            self,
            Self::StuckHealed { .. } | Self::CameBack { .. } | Self::ExitHealed { .. } | Self::Over { .. }
        )
    }
}

/// What to say, with its numbers. Durations are lengths, not instants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Story {
    /// Stuck; a restart follows. `place` is the evidence's one phrase.
    StuckRestarting {
        /// Since when there was no fresh tick.
        #[serde(rename = "stuck_for_ms", with = "crate::time::millis")]
        stuck_for: Duration,
        /// What was seen ("beats arrive, the tick stands still at 812").
        how: String,
        /// Where it hangs, if the evidence tells.
        place: Option<String>,
        /// Which unproven kill this is.
        kill: u32,
        /// How many are allowed.
        limit: u32,
    },
    /// Stuck; nothing is done, for a reason.
    StuckObserved {
        /// Why nothing is done, as a sentence: "It is held: migrating."
        because: String,
        /// Since when there was no fresh tick.
        #[serde(rename = "stuck_for_ms", with = "crate::time::millis")]
        stuck_for: Duration,
        /// What was seen.
        how: String,
        /// Where it hangs, if the evidence tells.
        place: Option<String>,
    },
    /// It was stuck, was restarted and shows fresh ticks.
    StuckHealed {
        /// How long it was stuck before the restart.
        #[serde(rename = "stuck_for_ms", with = "crate::time::millis")]
        stuck_for: Duration,
        /// From the first sign to the fresh tick of the new instance.
        #[serde(rename = "down_for_ms", with = "crate::time::millis")]
        down_for: Duration,
        /// What was seen.
        how: String,
        /// Where it hung, if the evidence told.
        place: Option<String>,
    },
    /// It was silent and came back by itself.
    CameBack {
        /// How long.
        #[serde(rename = "away_for_ms", with = "crate::time::millis")]
        away_for: Duration,
    },
    /// Restarts do not cure it; it is left alone.
    BreakerOpen {
        /// Unproven kills so far.
        kills: u32,
        /// What was seen last.
        how: String,
        /// Evidence of each kill, oldest first.
        places: Vec<String>,
        /// When the next try is allowed. `None`: never.
        #[serde(rename = "retry_ms", with = "crate::time::millis::option", default)]
        retry: Option<Duration>,
    },
    /// It ended by itself and is running again.
    ExitHealed {
        /// How it ended: "signal 9".
        exit: String,
        /// How long it had lived.
        #[serde(rename = "lifetime_ms", with = "crate::time::millis")]
        lifetime: Duration,
        /// From the exit to the fresh tick of the new instance.
        #[serde(rename = "down_for_ms", with = "crate::time::millis")]
        down_for: Duration,
        /// The last line of its output.
        last_line: Option<String>,
    },
    /// It ended by itself and stays down by its restart policy.
    ExitStaysDown {
        /// How it ended.
        exit: String,
        /// How long it had lived.
        #[serde(rename = "lifetime_ms", with = "crate::time::millis")]
        lifetime: Duration,
        /// The last line of its output.
        last_line: Option<String>,
    },
    /// It ends again and again.
    CrashLoop {
        /// How many exits.
        exits: u32,
        /// In how long.
        #[serde(rename = "within_ms", with = "crate::time::millis")]
        within: Duration,
        /// The last one.
        exit: String,
        /// Delay until the next try.
        #[serde(rename = "next_in_ms", with = "crate::time::millis")]
        next_in: Duration,
        /// The last line of its output.
        last_line: Option<String>,
    },
    /// It dies at the same age every time.
    SameAge {
        /// How many deaths.
        deaths: u32,
        /// Mean lifetime.
        #[serde(rename = "every_ms", with = "crate::time::millis")]
        every: Duration,
        /// How the last one ended.
        exit: String,
    },
    /// It could not be started.
    StartFailed {
        /// What failed.
        error: String,
        /// Delay until the next try; `None`: no further try.
        #[serde(rename = "next_in_ms", with = "crate::time::millis::option", default)]
        next_in: Option<Duration>,
    },
    /// Its start is not done.
    StartOverdue {
        /// Since its start.
        #[serde(rename = "waited_ms", with = "crate::time::millis")]
        waited: Duration,
        /// What the probe hears instead of a beat.
        heard: String,
    },
    /// The probe fails, nothing is known about the program.
    ProbePath {
        /// Since the last fresh tick.
        #[serde(rename = "since_ms", with = "crate::time::millis")]
        since: Duration,
        /// What the probe hears.
        heard: String,
    },
    /// It runs but produces nothing.
    Valueless {
        /// Name of the value.
        value: String,
        /// Its counter.
        counter: String,
        /// Since the last increase.
        #[serde(rename = "since_ms", with = "crate::time::millis")]
        since: Duration,
        /// The bound that was passed.
        #[serde(rename = "bound_ms", with = "crate::time::millis")]
        bound: Duration,
    },
    /// A stage lets nothing through.
    FunnelBlocked {
        /// Name of the funnel.
        funnel: String,
        /// The stage that moved.
        from: String,
        /// By how much.
        moved: u64,
        /// The stage that did not.
        to: String,
    },
    /// SIGKILL did not end it.
    WillNotDie {
        /// Since the signal.
        #[serde(rename = "waited_ms", with = "crate::time::millis")]
        waited: Duration,
        /// What the kernel said.
        detail: String,
    },
    /// A monitor is down.
    MonitorDown {
        /// Since when.
        #[serde(rename = "since_ms", with = "crate::time::millis")]
        since: Duration,
        /// What was heard.
        heard: String,
    },
    /// The program said that it stopped itself on purpose.
    Halted,
    /// Horus cannot write its state; it goes on without.
    StoreTrouble {
        /// What the system said.
        fault: String,
    },
    /// A sink takes no messages.
    SinkDead {
        /// The sink.
        sink: String,
        /// What it said.
        fault: String,
    },
    /// It is over.
    Over {
        /// From opening to end.
        #[serde(rename = "lasted_ms", with = "crate::time::millis")]
        lasted: Duration,
        /// How it ended: "working again", "you restarted it".
        how: String,
    },
    /// `horus alerts test`.
    Test,
}
