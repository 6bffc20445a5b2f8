//! What a person is told.
//!
//! A [`Notice`] is data, not text: the wanted state of the message about one incident. `horus-alert` makes words of
//! it for each sink; a later notice about the same incident replaces one that was not delivered yet.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::IncidentId;
use crate::plan::Severity;
use crate::verdict::Verdict;

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
    /// It has less to work on than it ought to.
    Expectation,
    /// Several services turned red at once.
    CommonCause,
    /// A job has not finished in time.
    RunOverdue,
    /// A job was not started at its time.
    RunMissed,
    /// A detector was wrong too often.
    Demoted,
    /// The same stall, day after day at the same time.
    Recurrence,
    /// The kernel shows something wrong of which its beats say nothing.
    KernelView,
    /// Several services are in trouble at once, each in its own way.
    Storm,
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
            Self::Expectation => "expectation",
            Self::CommonCause => "common-cause",
            Self::RunOverdue => "run-overdue",
            Self::RunMissed => "run-missed",
            Self::Demoted => "demoted",
            Self::Recurrence => "recurrence",
            Self::KernelView => "kernel-view",
            Self::Storm => "storm",
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
    /// Another incident tells of this one, too: a sink that has no message about it needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<IncidentId>,
    /// What to say.
    pub story: Story,
}

/// One of those that are in trouble at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StormMember {
    /// The service or monitor.
    pub subject: String,
    /// What it suffers from.
    pub kind: IncidentKind,
    /// By what that was seen, for people; empty: that is not known any more.
    #[serde(default)]
    pub because: String,
    /// A person has to do something about it.
    pub needs_you: bool,
    /// It is well again.
    pub over: bool,
}

impl Story {
    /// It is being healed, and nobody has to hear of it unless that fails.
    pub(crate) fn may_heal(&self) -> bool {
        matches!(self, Self::StuckRestarting { .. })
    }

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
    /// The kernel shows something wrong of which its beats say nothing. Nothing is done.
    KernelView {
        /// What it was concluded to be.
        verdict: Verdict,
        /// For how long, in time in which it could have run.
        #[serde(rename = "lasted_ms", with = "crate::time::millis")]
        lasted: Duration,
        /// What the kernel shows: "blocked in recvfrom from 10.0.0.7:443 for 12 s, no CPU used since".
        seen: String,
        /// Where in its code, if the evidence tells.
        place: Option<String>,
        /// Why nothing is done, as a sentence fragment.
        because: String,
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
    /// It has less to work on than it ought to.
    NothingToWorkOn {
        /// The gauge (or counter).
        gauge: String,
        /// What it shows; `None`: it was never heard.
        #[serde(default)]
        is: Option<f64>,
        /// The least that is right.
        min: f64,
        /// Since when it is under that.
        #[serde(rename = "since_ms", with = "crate::time::millis")]
        since: Duration,
    },
    /// Several services turned red at once, or the machine itself is in trouble: nothing is restarted for now.
    CommonCause {
        /// What is suspected, as a sentence fragment: "5 of 8 services stopped answering within 40 s".
        what: String,
        /// The services that are red, by name.
        services: Vec<String>,
        /// How many services are watched.
        of: u32,
    },
    /// Several services are in trouble at once, each in its own way.
    Storm {
        /// Those who are, and those who were and are well again; in the order of their incidents' identifiers.
        members: Vec<StormMember>,
        /// How many there are beside these.
        #[serde(default)]
        more: u32,
    },
    /// A job has not finished in time.
    RunOverdue {
        /// Since its start.
        #[serde(rename = "running_ms", with = "crate::time::millis")]
        running: Duration,
        /// How long it may take.
        #[serde(rename = "finish_ms", with = "crate::time::millis")]
        finish: Duration,
        /// Times at which it was to be started again and was not, because it still runs.
        skipped: u32,
        /// What it does meanwhile, as far as that can be counted from outside: "printed 3 s ago, used no CPU for 20 min".
        #[serde(default, skip_serializing_if = "Option::is_none")]
        doing: Option<String>,
        /// It is this step of its work that takes too long; `None`: the run as a whole.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<String>,
    },
    /// A job was not started at its time.
    RunMissed {
        /// How many times passed.
        missed: u32,
        /// Why, as a sentence fragment: "it was held".
        because: String,
        /// It is made up for now.
        catches_up: bool,
    },
    /// It stalls every day at the same time, and comes back by itself.
    Recurs {
        /// How many days in a row.
        days: u64,
        /// The last stall.
        #[serde(rename = "lasted_ms", with = "crate::time::millis")]
        lasted: Duration,
    },
    /// A detector was wrong too often: it only tells from now on.
    Demoted {
        /// The detector's word ("silent").
        detector: String,
        /// Restarts that brought the service back for good.
        right: u32,
        /// Restarts that did not.
        wrong: u32,
    },
}
