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

/// What two captures, a quarter of the deadline apart, say of the main loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// Nothing: not looked, no rights, or the captures differ.
    #[default]
    None,
    /// Dead: the same call in both, and not a nanosecond of CPU between them.
    Blocked,
    /// Dead: CPU burnt outside of its poll call in both.
    Spinning,
    /// Alive: at home in its poll call.
    Home,
}

impl Proof {
    /// All values.
    pub const ALL: [Self; 4] = [Self::None, Self::Blocked, Self::Spinning, Self::Home];

    /// The value's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Blocked => "blocked",
            Self::Spinning => "spinning",
            Self::Home => "home",
        }
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
    /// What was seen from outside.
    pub proof: Proof,
}

impl Axes {
    /// The whole product.
    pub fn all() -> impl Iterator<Item = Self> {
        ProcessAxis::ALL.into_iter().flat_map(|process| {
            LoopAxis::ALL.into_iter().flat_map(move |loop_axis| {
                ProgressAxis::ALL.into_iter().flat_map(move |progress| {
                    ValueAxis::ALL.into_iter().flat_map(move |value| {
                        Proof::ALL.into_iter().map(move |proof| Self {
                            process,
                            loop_axis,
                            progress,
                            value,
                            proof,
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
    let dead = matches!(axes.proof, Proof::Blocked | Proof::Spinning);
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
    match axes.loop_axis {
        LoopAxis::Unknown if stalled => decide_stalled(),
        LoopAxis::Unknown => cell(Verdict::Unknown, Action::Nothing, "there is no beat to judge by"),
        LoopAxis::Beating if stalled => decide_stalled(),
        LoopAxis::Beating => decide_beating(axes.progress, axes.value),
        LoopAxis::Late if stalled => decide_stalled(),
        LoopAxis::Late => cell(Verdict::Slow, Action::Watch, "half of the deadline without a fresh tick"),
        LoopAxis::Silent => decide_dead(Verdict::Silent, axes),
        LoopAxis::Lying if axes.progress == ProgressAxis::Idle => cell(
            Verdict::Idle,
            Action::Nothing,
            "it declares that it has nothing to do, so its tick may stand still",
        ),
        LoopAxis::Lying => decide_dead(Verdict::Lying, axes),
        LoopAxis::Unreachable => match (axes.proof, axes.progress) {
            (
                Proof::Blocked | Proof::Spinning,
                ProgressAxis::Unknown | ProgressAxis::Idle | ProgressAxis::Stalled | ProgressAxis::Blocked,
            ) => decide_proven(axes.proof, Action::RestartAtTwice),
            (Proof::None | Proof::Home, _) | (_, ProgressAxis::Advancing) => cell(
                Verdict::ProbePath,
                Action::Tell,
                "the probe's own path fails: unreachable is not silent",
            ),
        },
    }
}

fn decide_stalled() -> Decision {
    cell(Verdict::WorkStalled, Action::RestartAtTwice, "declared work stands still, whatever the loop does")
}

fn decide_dead(verdict: Verdict, axes: Axes) -> Decision {
    match (axes.proof, axes.progress) {
        (_, ProgressAxis::Advancing) => cell(
            verdict,
            Action::Tell,
            "declared work advances while the tick stands still: the tick may be wrong",
        ),
        (Proof::Home, _) => cell(verdict, Action::Tell, "its loop was seen at home: it lives"),
        (Proof::Blocked | Proof::Spinning, _) => decide_proven(axes.proof, Action::Restart),
        (Proof::None, _) => cell(verdict, Action::RestartAtTwice, "a tick that used to move is missing"),
    }
}

fn decide_proven(proof: Proof, action: Action) -> Decision {
    match proof {
        Proof::Spinning => cell(Verdict::Spinning, action, "its loop burns CPU and turns no more"),
        Proof::None | Proof::Blocked | Proof::Home => {
            cell(Verdict::Blocked, action, "its loop is stuck in one call")
        }
    }
}

fn decide_beating(progress: ProgressAxis, value: ValueAxis) -> Decision {
    match (value, progress) {
        (ValueAxis::Stale | ValueAxis::Dead, _) => {
            cell(Verdict::Valueless, Action::Tell, "alive is not useful, and no restart makes it so")
        }
        (ValueAxis::Unknown | ValueAxis::Fresh, ProgressAxis::Blocked) => {
            cell(Verdict::WorkStalled, Action::Tell, "a stage of its funnel lets nothing through")
        }
        (ValueAxis::Unknown | ValueAxis::Fresh, ProgressAxis::Idle) => {
            cell(Verdict::Idle, Action::Nothing, "it declares that it has nothing to do")
        }
        (
            ValueAxis::Unknown | ValueAxis::Fresh,
            ProgressAxis::Unknown | ProgressAxis::Advancing | ProgressAxis::Stalled,
        ) => cell(Verdict::Healthy, Action::Nothing, "fresh ticks within the deadline"),
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
