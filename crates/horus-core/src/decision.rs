//! The decision table: from where a service stands on each axis to a verdict and an action.
//!
//! [`decide`] is a function of five small values and nothing else: no time, no plan, no ledger. Time has already spoken (the
//! axes are functions of ages); ledgers and people speak afterwards ([`Veto`]). So the whole product can be enumerated,
//! printed (`docs/reference/decisions.md`) and tested cell by cell.
//!
//! What a restart needs stands here once: a fresh tick is missing *and* the loop is proven dead; or a tick that used to
//! move is missing for twice as long; or declared work stands still. Nothing in the value column leads to a restart
//! (guarantee G8), and no cell restarts a program whose loop was seen at home or whose declared work advances.

use serde::{Deserialize, Serialize};

use crate::verdict::{LoopAxis, ProcessAxis, ProgressAxis, ValueAxis, Verdict};

/// What is seen of a running program from outside: by captures that are compared, and by the kernel's view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outside {
    /// Nothing that could be used: not looked, no rights, no loop, or the captures differ.
    #[default]
    None,
    /// Its loops come home, as the kernel shows. Says nothing about a tick that is missed.
    Turning,
    /// Alive: a capture met its main thread at home in its poll call.
    Home,
    /// Not met at home for improbably long: a suspicion.
    Away,
    /// Dead: in one call, and not a nanosecond of CPU.
    Blocked,
    /// Dead: CPU burnt outside of its poll call.
    Spinning,
    /// One of its loops is dead while another one comes home.
    Beside,
    /// Its loop lives, but takes no work.
    Undrained,
    /// Stopped, by a signal or by a tracer.
    Stopped,
    /// Its control group is frozen.
    Paused,
    /// In a wait of the kernel that no signal ends.
    Uninterruptible,
    /// Its memory does not fit: it waits for pages to be read back.
    Thrashing,
}

impl Outside {
    /// All values.
    pub const ALL: [Self; 12] = [
        Self::None,
        Self::Turning,
        Self::Home,
        Self::Away,
        Self::Blocked,
        Self::Spinning,
        Self::Beside,
        Self::Undrained,
        Self::Stopped,
        Self::Paused,
        Self::Uninterruptible,
        Self::Thrashing,
    ];

    /// The value's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Turning => "turning",
            Self::Home => "home",
            Self::Away => "away",
            Self::Blocked => "blocked",
            Self::Spinning => "spinning",
            Self::Beside => "beside",
            Self::Undrained => "undrained",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Uninterruptible => "uninterruptible",
            Self::Thrashing => "thrashing",
        }
    }

    /// A proof that the loop does not turn.
    pub fn is_death(self) -> bool {
        matches!(self, Self::Blocked | Self::Spinning)
    }

    /// Nothing that is heard or not heard of it is its own doing, and no restart would help.
    pub fn is_held(self) -> bool {
        matches!(self, Self::Stopped | Self::Paused | Self::Uninterruptible | Self::Thrashing)
    }
}

/// Where a service stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Axes {
    /// Is there a process?
    pub process: ProcessAxis,
    /// Does its loop turn? While it starts: `silent` when the startup cap has passed.
    pub loop_axis: LoopAxis,
    /// Does its declared work move?
    pub progress: ProgressAxis,
    /// Does it produce?
    pub value: ValueAxis,
    /// What is seen from outside.
    pub outside: Outside,
}

impl Axes {
    /// The whole product.
    pub fn all() -> impl Iterator<Item = Self> {
        ProcessAxis::ALL.into_iter().flat_map(|process| {
            LoopAxis::ALL.into_iter().flat_map(move |loop_axis| {
                ProgressAxis::ALL.into_iter().flat_map(move |progress| {
                    ValueAxis::ALL.into_iter().flat_map(move |value| {
                        Outside::ALL.into_iter().map(move |outside| Self {
                            process,
                            loop_axis,
                            progress,
                            value,
                            outside,
                        })
                    })
                })
            })
        })
    }
}

/// What follows, if nothing forbids it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[must_use]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Look closer: capture evidence, probe faster.
    Watch,
    /// Tell a person; touch nothing.
    Tell,
    /// Restart when the silence has lasted twice the deadline: absence is all there is.
    RestartAtTwice,
    /// Restart: absence, and a proof of death.
    Restart,
}

impl Action {
    /// The action's words in docs.
    pub fn words(self) -> &'static str {
        match self {
            Self::Nothing => "·",
            Self::Watch => "watch",
            Self::Tell => "tell",
            Self::RestartAtTwice => "restart at 2x",
            Self::Restart => "restart",
        }
    }
}

/// One cell of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[must_use]
pub struct Decision {
    /// What it is called.
    pub verdict: Verdict,
    /// What follows.
    pub action: Action,
    /// Why, without the numbers.
    pub because: &'static str,
}

fn cell(verdict: Verdict, action: Action, because: &'static str) -> Decision {
    Decision { verdict, action, because }
}

/// The table.
pub fn decide(axes: Axes) -> Decision {
    match axes.process {
        ProcessAxis::Absent => {
            cell(Verdict::Down, Action::Nothing, "no process: the exits ledger and the plan decide")
        }
        ProcessAxis::Stopping => cell(Verdict::Stopping, Action::Nothing, "it is on its way to its end"),
        ProcessAxis::Starting => decide_starting(axes),
        ProcessAxis::Running => decide_running(axes),
    }
}

/// A probe that has never passed cannot kill.
fn decide_starting(axes: Axes) -> Decision {
    let dead = axes.outside.is_death();
    let works = axes.progress == ProgressAxis::Advancing;
    match axes.loop_axis {
        LoopAxis::Silent if dead && !works => {
            let because = "the startup cap has passed, and the loop is proven dead";
            cell(Verdict::Starting, Action::Restart, because)
        }
        LoopAxis::Silent => {
            let because = "the startup cap has passed: the start is not done, or the probe is wrong";
            cell(Verdict::Starting, Action::Tell, because)
        }
        LoopAxis::Unknown | LoopAxis::Beating | LoopAxis::Late | LoopAxis::Lying | LoopAxis::Unreachable => {
            cell(Verdict::Starting, Action::Nothing, "startup ends with the first fresh tick")
        }
    }
}

fn decide_running(axes: Axes) -> Decision {
    // Declared work that stands still is a hang of its own, whatever the loop says.
    let stalled = axes.progress == ProgressAxis::Stalled;
    if axes.outside.is_held() {
        return decide_held(axes.outside);
    }
    match axes.loop_axis {
        LoopAxis::Unknown if stalled => decide_stalled(),
        LoopAxis::Unknown => decide_without_beats(axes),
        LoopAxis::Beating if stalled => decide_stalled(),
        LoopAxis::Beating => decide_beating(axes),
        LoopAxis::Late if stalled => decide_stalled(),
        LoopAxis::Late => cell(Verdict::Slow, Action::Watch, "half of the deadline without a fresh tick"),
        LoopAxis::Silent => decide_dead(Verdict::Silent, axes),
        LoopAxis::Lying if axes.progress == ProgressAxis::Idle => cell(
            Verdict::Idle,
            Action::Nothing,
            "it declares that it has nothing to do, so its tick may stand still",
        ),
        LoopAxis::Lying => decide_dead(Verdict::Lying, axes),
        LoopAxis::Unreachable => {
            if axes.outside.is_death() && axes.progress != ProgressAxis::Advancing {
                decide_proven(axes.outside, Action::RestartAtTwice)
            } else {
                let because = "the probe's own path fails: unreachable is not silent";
                cell(Verdict::ProbePath, Action::Tell, because)
            }
        }
    }
}

fn decide_stalled() -> Decision {
    cell(Verdict::WorkStalled, Action::RestartAtTwice, "declared work stands still, whatever the loop does")
}

/// Somebody else holds it, or the kernel does: its silence proves nothing, and a restart would not help.
fn decide_held(outside: Outside) -> Decision {
    match outside {
        Outside::Paused => {
            cell(Verdict::Paused, Action::Tell, "its control group is frozen: nothing of it runs")
        }
        Outside::Uninterruptible => {
            cell(Verdict::Uninterruptible, Action::Tell, "it waits in the kernel where no signal ends it")
        }
        Outside::Thrashing => cell(
            Verdict::Thrashing,
            Action::Tell,
            "its memory does not fit and is read back from disk, page by page: it goes on, slowly",
        ),
        _ => cell(Verdict::Stopped, Action::Tell, "somebody has stopped it: its silence proves nothing"),
    }
}

/// Nothing beats: what the kernel shows is all that is known. It is told, and nothing is restarted for it alone.
fn decide_without_beats(axes: Axes) -> Decision {
    if axes.progress == ProgressAxis::Advancing {
        return cell(Verdict::Unknown, Action::Nothing, "there is no beat to judge by");
    }
    match axes.outside {
        Outside::Blocked | Outside::Beside => {
            cell(Verdict::Blocked, Action::Tell, "a loop of it is stuck in one call, and nothing beats")
        }
        Outside::Spinning => cell(
            Verdict::Spinning,
            Action::Tell,
            "its loop burns CPU and turns no more; honest work looks the same, and nothing beats",
        ),
        Outside::Undrained => cell(Verdict::Undrained, Action::Tell, "its loop lives, but takes no work"),
        Outside::Away => cell(Verdict::Slow, Action::Watch, "its loop was not met at home for long"),
        Outside::Turning => {
            cell(Verdict::Healthy, Action::Nothing, "its loop comes home, as the kernel shows; nothing beats")
        }
        _ => cell(Verdict::Unknown, Action::Nothing, "there is no beat to judge by"),
    }
}

fn decide_dead(verdict: Verdict, axes: Axes) -> Decision {
    if axes.progress == ProgressAxis::Advancing {
        let because = "declared work advances while the tick stands still: the tick may be wrong";
        return cell(verdict, Action::Tell, because);
    }
    match axes.outside {
        Outside::Home => cell(verdict, Action::Tell, "its loop was seen at home: it lives"),
        proof if proof.is_death() => decide_proven(proof, Action::Restart),
        _ => cell(verdict, Action::RestartAtTwice, "a tick that used to move is missing"),
    }
}

fn decide_proven(proof: Outside, action: Action) -> Decision {
    match proof {
        Outside::Spinning => cell(Verdict::Spinning, action, "its loop burns CPU and turns no more"),
        _ => cell(Verdict::Blocked, action, "its loop is stuck in one call"),
    }
}

/// Fresh ticks are life, in their own scope: a helper thread that beats says nothing about a loop that is stuck.
fn decide_beating(axes: Axes) -> Decision {
    match (axes.value, axes.progress) {
        (ValueAxis::Stale | ValueAxis::Dead, _) => {
            cell(Verdict::Valueless, Action::Tell, "alive is not useful, and no restart makes it so")
        }
        (ValueAxis::Unknown | ValueAxis::Fresh, ProgressAxis::Blocked) => {
            cell(Verdict::WorkStalled, Action::Tell, "a stage of its funnel lets nothing through")
        }
        (ValueAxis::Unknown | ValueAxis::Fresh, ProgressAxis::Idle) => {
            cell(Verdict::Idle, Action::Nothing, "it declares that it has nothing to do")
        }
        (ValueAxis::Unknown | ValueAxis::Fresh, ProgressAxis::Unknown | ProgressAxis::Stalled) => {
            match axes.outside {
                Outside::Blocked | Outside::Beside => cell(
                    Verdict::Blocked,
                    Action::Tell,
                    "a loop of it is stuck in one call, although its beats are fresh",
                ),
                Outside::Undrained => cell(Verdict::Undrained, Action::Tell, "it beats, but takes no work"),
                _ => cell(Verdict::Healthy, Action::Nothing, "fresh ticks within the deadline"),
            }
        }
        (ValueAxis::Unknown | ValueAxis::Fresh, ProgressAxis::Advancing) => {
            cell(Verdict::Healthy, Action::Nothing, "fresh ticks within the deadline")
        }
    }
}

/// What forbids a restart that the table asks for. In the order of precedence: the first that holds is the one that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Veto {
    /// A person's hold.
    Held,
    /// It is only observed.
    Observed,
    /// It stopped itself on purpose.
    Halted,
    /// Its tick was never seen to move: its absence proves little.
    NeverMoved,
    /// It declared a long step, or asked for time.
    Declared,
    /// Somebody has stopped or traced it.
    Stopped,
    /// Horus's own prober is broken.
    ObserverVoid,
    /// Horus itself has just begun: it has not heard for a whole deadline whether it is silent.
    Unwitnessed,
    /// A person works on it by plan.
    Maintenance,
    /// A common cause is suspected, or the machine has just come back.
    CommonCause,
    /// Another service is being restarted after a common cause, and is not proven yet.
    OneAtATime,
    /// This detector was wrong too often.
    Demoted,
    /// Restarts do not cure it, or the day's limit is reached.
    Breaker,
}

/// What a veto does with the restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Instead {
    /// The silence goes on to be judged; nothing is told.
    Wait,
    /// A person is told what was seen and why nothing is done.
    Tell,
    /// A person is told that they are needed.
    Ask,
}

impl Veto {
    /// All vetoes, in the order of precedence.
    pub const ALL: [Self; 13] = [
        Self::Held,
        Self::Observed,
        Self::Halted,
        Self::NeverMoved,
        Self::Declared,
        Self::Stopped,
        Self::ObserverVoid,
        Self::Unwitnessed,
        Self::Maintenance,
        Self::CommonCause,
        Self::OneAtATime,
        Self::Demoted,
        Self::Breaker,
    ];

    /// What is done instead of the restart.
    pub fn instead(self) -> Instead {
        match self {
            Self::Declared
            | Self::ObserverVoid
            | Self::Maintenance
            | Self::CommonCause
            | Self::OneAtATime => Instead::Wait,
            Self::Held
            | Self::Observed
            | Self::NeverMoved
            | Self::Stopped
            | Self::Unwitnessed
            | Self::Demoted => Instead::Tell,
            Self::Halted | Self::Breaker => Instead::Ask,
        }
    }

    /// The veto's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Observed => "observed",
            Self::Halted => "halted",
            Self::NeverMoved => "never-moved",
            Self::Declared => "declared",
            Self::Stopped => "stopped",
            Self::ObserverVoid => "observer-void",
            Self::Unwitnessed => "unwitnessed",
            Self::Maintenance => "maintenance",
            Self::CommonCause => "common-cause",
            Self::OneAtATime => "one-at-a-time",
            Self::Demoted => "demoted",
            Self::Breaker => "breaker",
        }
    }

    /// Why it forbids a restart.
    pub fn because(self) -> &'static str {
        match self {
            Self::Held => "a person's order outranks every rule",
            Self::Observed => "observe mode signals nothing",
            Self::Halted => "what stopped itself on purpose is never restarted",
            Self::NeverMoved => "only against a tick that used to move does absence count",
            Self::Declared => "it said that it would take so long",
            Self::Stopped => "somebody has stopped or traced it: its silence proves nothing",
            Self::ObserverVoid => "Horus's own prober is broken: what it does not hear proves nothing",
            Self::Unwitnessed => "Horus has just begun, and has not listened to it for a whole deadline yet",
            Self::Maintenance => "a person works on it, by plan",
            Self::CommonCause => "several turned red at once, or the machine has just come back",
            Self::OneAtATime => "after a common cause one is restarted at a time, and has to be proven first",
            Self::Demoted => "this detector was wrong too often",
            Self::Breaker => "restarts do not cure it, or the day's limit is reached",
        }
    }
}
