//! Units of systemd and launchd: programs that somebody else starts, judged like services and healed by their own manager.
//!
//! ```text
//!   judge (as for every service) --> "restart" --> the manager:  systemctl restart UNIT | launchctl kickstart -k
//!          ^                                            |
//!          +--- what the manager shows of it <----------+   a run that ended, a run that began, or why there is none
//! ```
//!
//! A unit is a service whose start is not Horus's affair. It is started for three reasons only: a restart of ours ended it, a
//! person asked, or it *failed* (its manager has given it up) and may be healed. A unit that is stopped was stopped by
//! somebody who may: that is told, and left so. One that its manager is about to start again is waited for. And when Horus
//! ends, or the unit leaves the plan, the program stays as it is.
//!
//! Rejected: a monitor with a healer of its own. It would need the ledgers, the breaker, the guard, holds and evidence a
//! second time; here they are the same code.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::Answer;
use crate::event::Outcome;
use crate::ids::ProcessId;
use crate::notice::{IncidentKind, Story};
use crate::observation::{Declared, Exit, UnitState};
use crate::plan::Severity;
use crate::reason::{Reason, Rule};
use crate::service::{Facts, Goal, Phase, Running, Service, StopCause, Wanted, Why};
use crate::time::Human;
use crate::transition::Trigger;
use crate::turn::Turn;

/// Who starts a service, and is asked to end it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// Horus, by its keeper.
    #[default]
    Keeper,
    /// A service manager, as one of its units.
    Unit(Unit),
}

impl Owner {
    /// Horus starts it.
    pub fn is_keeper(&self) -> bool {
        *self == Self::Keeper
    }
}

/// A program that a service manager runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unit {
    /// Which manager.
    pub manager: UnitManager,
    /// The machine's, or that of the user who runs Horus.
    pub scope: UnitScope,
    /// `postgresql.service`; for launchd the label.
    pub name: String,
}

impl std::fmt::Display for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// A service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnitManager {
    /// systemd
    Systemd,
    /// launchd
    Launchd,
}

/// Whose manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnitScope {
    /// The machine's.
    System,
    /// The user's (`systemctl --user`, `gui/UID`).
    User,
}

/// What is asked of the manager in place of a soft signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnitOrder {
    /// End it, and start it again.
    Restart,
    /// End it.
    Stop,
}

impl UnitOrder {
    /// The word that stands where the name of a signal stands for other services.
    pub fn word(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Stop => "stop",
        }
    }

    /// The order of that word. No signal has such a name.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Restart, Self::Stop].into_iter().find(|order| order.word() == word)
    }
}

/// What of a unit outlasts this life of Horus.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MemoryUnit {
    /// The main process of the run that is remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessId>,
    /// It is Horus, asked by a person, who stopped it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
}

/// What is known of a unit beside its run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Foreign {
    /// Why there is no run. `None`: there is one, or nothing was heard yet.
    pub(crate) state: Option<UnitState>,
    /// A restart of ours or a person's word asks for the next start.
    pub(crate) summoned: bool,
    /// It was stopped through Horus: whoever ends the hold or the stop wants it back.
    pub(crate) stopped: bool,
}

/// Signals by which a manager ends a program that it was told to stop. systemd calls these ends clean, too.
const CLEAN_SIGNALS: [i32; 4] = [1, 2, 13, 15];

impl Service {
    /// The unit that this service is, if Horus does not start it itself.
    pub(crate) fn unit(&self) -> Option<&Unit> {
        match &self.plan.owner {
            Owner::Keeper => None,
            Owner::Unit(unit) => Some(unit),
        }
    }

    /// What ends it softly: a signal, or an order for its manager.
    pub(crate) fn soft_signal(&self, cause: StopCause) -> String {
        if self.unit().is_none() {
            return self.plan.stop.signal.clone();
        }
        let wants_down = self.tickets.iter().any(|(_, goal, _)| *goal == Goal::Down);
        let rises =
            cause == StopCause::Kill || (self.wanted == Wanted::Up && self.hold.is_none() && !wants_down);
        let order = if rises { UnitOrder::Restart } else { UnitOrder::Stop };
        order.word().to_owned()
    }

    /// Its manager shows no run of it, and why.
    pub(crate) fn hear_unit(&mut self, turn: &mut Turn<'_>, state: UnitState) {
        if self.unit().is_none() || self.alive().is_some() {
            return;
        }
        // What an earlier life of Horus knew to run does not run any more.
        (self.remembered_instance, self.remembered_start) = (None, false);
        self.foreign.state = Some(state);
        self.react(turn, Trigger::Reconsider, Facts::None);
    }

    /// A run of the unit is there: who started it had the right to.
    pub(crate) fn welcome(&mut self, turn: &mut Turn<'_>) {
        if self.unit().is_none() {
            return;
        }
        if matches!(self.wanted, Wanted::Down(why) if why != Why::Removed) {
            self.wanted = Wanted::Up;
        }
        (self.delay, self.launch_reason) = (None, None);
        self.note_unit_runs(turn);
    }

    /// A run of it lives: whatever kept it down is over.
    pub(crate) fn note_unit_runs(&mut self, turn: &mut Turn<'_>) {
        if self.unit().is_none() {
            return;
        }
        self.foreign = Foreign::default();
        let how = "its unit runs again";
        self.incidents.close_kind(turn, IncidentKind::MonitorDown, Outcome::CameBackAlone, how);
    }

    /// Whether the next word is its manager's, or that of whoever stopped it; then it stays down, or waits.
    pub(crate) fn is_left_to_its_manager(&mut self, turn: &mut Turn<'_>) -> bool {
        if self.unit().is_none() || self.foreign.summoned {
            return false;
        }
        match &self.foreign.state {
            None | Some(UnitState::Returning) => {
                self.phase = Phase::Waiting;
                true
            }
            Some(UnitState::Stopped) if self.foreign.stopped => false,
            Some(UnitState::Failed { .. }) if !self.observes(turn.shared) => false,
            Some(UnitState::Stopped | UnitState::Failed { .. } | UnitState::Absent { .. }) => {
                self.phase = Phase::Down;
                self.tell_unit_down(turn);
                true
            }
        }
    }

    /// Whether a start that failed is tried again by Horus.
    pub(crate) fn is_tried_again(&self, turn: &Turn<'_>) -> bool {
        self.unit().is_none()
            || (matches!(self.foreign.state, Some(UnitState::Failed { .. })) && !self.observes(turn.shared))
    }

    /// Told once, whatever else is heard of it before it runs again.
    fn tell_unit_down(&mut self, turn: &mut Turn<'_>) {
        let heard = self.unit_words();
        let failed = format!("{}: {heard}", self.name);
        self.answer(turn, Goal::Up, &Answer::Failed(failed));
        let kind = IncidentKind::MonitorDown;
        if self.incidents.find(kind).is_some() {
            return;
        }
        self.incidents.close_kind(turn, IncidentKind::Exit, Outcome::Superseded, "its unit is down");
        let (reason, severity) = (Reason::new(Rule::MonitorDown, heard.clone()), Severity::Critical);
        let id = self.incidents.open(turn, Some(self.generation), kind, "", severity, &reason);
        let since = self.last_death.as_ref().map_or(Duration::ZERO, |last| turn.now.since(last.at));
        self.incidents.tell(turn, id, severity, false, true, Story::MonitorDown { since, heard });
        self.dirty = true;
    }

    /// Why there is no run of it, for people.
    pub(crate) fn unit_words(&self) -> String {
        let name = self.unit().map(|unit| unit.name.as_str()).unwrap_or_default();
        match &self.foreign.state {
            None => format!("what {name} does is not known yet"),
            Some(UnitState::Returning) => format!("{name} is being started by its own manager"),
            Some(UnitState::Stopped) => {
                format!("{name} is inactive: it was stopped or has ended, and not through Horus")
            }
            Some(UnitState::Failed { how }) => format!("{name} has failed: {how}"),
            Some(UnitState::Absent { why }) => format!("{name} cannot be watched: {why}"),
        }
    }

    /// Whether this end of a unit is one that its manager was asked for.
    pub(crate) fn is_orderly(&self, exit: Exit) -> bool {
        let signal = matches!(exit, Exit::Signal(number) if CLEAN_SIGNALS.contains(&number));
        self.unit().is_some() && (signal || exit.is_clean())
    }

    /// A run of the unit ended by itself. What follows is its manager's affair, unless that gives it up.
    pub(crate) fn count_unit_exit(&mut self, turn: &mut Turn<'_>, exit: Exit, lifetime: Duration) {
        let ended = format!("{} ended with {exit} after {}", self.name, Human(lifetime));
        self.answer(turn, Goal::Up, &Answer::Failed(ended));
        self.close_stuck_by_exit(turn);
        if self.is_orderly(exit) || matches!(self.wanted, Wanted::Down(_)) {
            return;
        }
        self.exits.record(turn.now, lifetime);
        if self.declared == Declared::Halted {
            self.halt(turn);
            return;
        }
        let delay = if self.observes(turn.shared) {
            Duration::ZERO
        } else {
            let reason = Reason::new(Rule::Exit, exit.to_string());
            self.delay_next_start(turn, &reason)
        };
        self.name_crash_loop(turn, exit, delay);
        self.name_same_age(turn, exit);
    }

    /// Its manager refused what was asked: nothing was touched, and what runs goes on as it was. A restart that was refused
    /// counts as one that did not cure, so there are no more of them than of others.
    pub(crate) fn take_back(&mut self, turn: &mut Turn<'_>, error: String) {
        let Phase::Stopping { alive, cause, hard, .. } = self.phase else { return };
        if hard {
            self.report_undead(turn, Facts::Failure(error));
            return;
        }
        let now = turn.now;
        self.phase = if self.beats.has_sources() && self.beats.last_fresh().is_none() {
            Phase::Starting { alive, watched_since: now }
        } else {
            self.mark_ready(turn);
            Phase::Running(Running { alive, ready_at: now, steady_since: now, proven: false })
        };
        (self.foreign.summoned, self.launch_reason) = (false, None);
        if matches!(self.wanted, Wanted::Down(Why::Operator)) {
            self.wanted = Wanted::Up;
        }
        self.dirty = true;
        let failed = Answer::Failed(format!("{} is as it was: {error}", self.name));
        self.answer(turn, Goal::Down, &failed);
        self.answer(turn, Goal::Up, &failed);
        turn.shared.guard.end_trial(&self.name);
        (self.spell.spared_at, self.work_spell.spared_at) = (Some(now), Some(now));
        let hang = self.last_hang.take().filter(|_| cause == StopCause::Kill);
        let stuck = self.incidents.find(IncidentKind::Stuck).map(|incident| incident.id);
        if let (Some(hang), Some(incident)) = (hang, stuck) {
            let because = format!("A restart was refused: {error}.");
            self.tell_declined(turn, incident, hang.stuck_for, hang.how, because);
        }
    }

    pub(crate) fn remember_unit(&self) -> Option<MemoryUnit> {
        let process = self.alive().map(|alive| alive.process);
        self.unit().map(|_| MemoryUnit { process, stopped: self.foreign.stopped })
    }
}
