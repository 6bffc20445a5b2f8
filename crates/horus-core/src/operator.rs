//! What a person asks of a service. The answer comes when it is true, not when it is begun.

use std::time::Duration;

use crate::command::{Answer, Command};
use crate::event::What;
use crate::observation::OperatorRequest;
use crate::reason::{Reason, Rule};
use crate::service::{Facts, Goal, Hold, Phase, Service, StopCause, Wanted, Why};
use crate::transition::Trigger;
use crate::turn::Turn;

impl Service {
    /// A person asked for something. The answer comes when it is true, not when it is begun.
    pub(crate) fn ask(&mut self, turn: &mut Turn<'_>, ticket: u64, request: OperatorRequest) {
        match request {
            OperatorRequest::Start(_) => self.ask_start(turn, ticket, false),
            OperatorRequest::Restart(_) => self.ask_start(turn, ticket, true),
            OperatorRequest::Stop(_) => {
                self.note_request(turn, "stop", None);
                self.ask_stop(turn, ticket);
            }
            OperatorRequest::Hold { reason, expires_in, stop, .. } => {
                self.note_request(turn, "hold", Some(reason.clone()));
                self.set_hold(turn, ticket, reason, expires_in, stop);
            }
            OperatorRequest::Resume { reason, .. } => self.resume(turn, ticket, reason),
        }
    }

    fn ask_start(&mut self, turn: &mut Turn<'_>, ticket: u64, again: bool) {
        if let Some(hold) = &self.hold {
            let why = format!("{} is held: {}", self.name, hold.reason);
            let hint = format!("horus resume {}", self.name);
            turn.push(Command::Answer { ticket, answer: Answer::Refused { why, hint } });
            return;
        }
        let request = if again { "restart" } else { "start" };
        self.note_request(turn, request, None);
        self.answer(turn, Goal::Down, &Answer::Failed("overtaken by a start".into()));
        self.wanted = Wanted::Up;
        self.delay = None;
        self.dirty = true;
        let reason = Reason::new(Rule::Operator, format!("a person asked for a {request}"));
        self.launch_reason = Some(reason.clone());
        if !again && matches!(self.phase, Phase::Running(_) | Phase::Condemned { .. }) {
            self.launch_reason = None;
            let done = format!("{} is running already", self.name);
            turn.push(Command::Answer { ticket, answer: Answer::Done(done) });
            return;
        }
        self.foreign.summoned = self.unit().is_some();
        self.wait_for(turn.now, ticket, Goal::Up);
        self.ask_for_lock_again(turn.now);
        if again {
            self.react(turn, Trigger::WantRestart, Facts::Because(StopCause::Planned, reason));
        } else {
            self.react(turn, Trigger::WantUp, Facts::None);
        }
    }

    fn ask_stop(&mut self, turn: &mut Turn<'_>, ticket: u64) {
        self.answer(turn, Goal::Up, &Answer::Failed("overtaken by a stop".into()));
        self.wanted = Wanted::Down(Why::Operator);
        self.dirty = true;
        turn.shared.guard.end_trial(&self.name);
        if self.is_at_rest() && !self.is_unknown(turn) {
            self.react(turn, Trigger::WantDown, Facts::None);
            let done = format!("{} is down, it has no process", self.name);
            turn.push(Command::Answer { ticket, answer: Answer::Done(done) });
            return;
        }
        self.wait_for(turn.now, ticket, Goal::Down);
        let reason = Reason::new(Rule::Operator, "a person asked for a stop");
        self.react(turn, Trigger::WantDown, Facts::Because(StopCause::Planned, reason));
    }

    fn set_hold(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: u64,
        reason: String,
        expires_in: Option<Duration>,
        stop: bool,
    ) {
        self.hold = Some(Hold {
            reason: reason.clone(),
            since: turn.now,
            until: expires_in.map(|left| turn.now + left),
        });
        self.dirty = true;
        self.record(turn, None, What::HoldSet { reason, expires_in });
        self.spare(turn, "it is held now");
        turn.shared.guard.end_trial(&self.name);
        if stop && (!self.is_at_rest() || self.is_unknown(turn)) {
            // The hold lasts longer than this stop: whether it is started again is decided when the hold ends.
            self.wait_for(turn.now, ticket, Goal::Down);
            let reason = Reason::new(Rule::Held, "a person asked for a hold with a stop");
            self.react(turn, Trigger::WantDown, Facts::Because(StopCause::Planned, reason));
            return;
        }
        self.react(turn, Trigger::Reconsider, Facts::None);
        let what = match self.alive() {
            None if matches!(self.phase, Phase::Launching { .. }) => {
                format!(
                    "{} is held; a start was on its way before, what comes of it keeps running",
                    self.name
                )
            }
            Some(alive) => {
                format!("{} is held; {} keeps running and is not touched", self.name, alive.process)
            }
            None if self.is_unknown(turn) => {
                format!("{} is held; the keeper has not said yet whether it runs", self.name)
            }
            None => format!("{} is held; it has no process", self.name),
        };
        turn.push(Command::Answer { ticket, answer: Answer::Done(what) });
    }

    fn resume(&mut self, turn: &mut Turn<'_>, ticket: u64, reason: Option<String>) {
        self.note_request(turn, "resume", reason);
        let mut done = Vec::new();
        if self.hold.take().is_some() {
            self.record(turn, None, What::HoldEnded { how: "lifted by a person".into() });
            done.push("its hold is lifted");
        }
        if self.kills.is_open() {
            let reason = Reason::new(Rule::Operator, "a person closed it");
            self.record(turn, None, What::BreakerClosed { reason });
            done.push("its breaker is closed");
        }
        self.kills.forgive();
        turn.shared.guard.end_trial(&self.name);
        turn.shared.record_changed = true;
        self.spell.may_decline_again();
        self.work_spell.may_decline_again();
        if matches!(self.wanted, Wanted::Down(Why::Halted | Why::Operator | Why::Completed)) {
            self.wanted = match self.plan.schedule {
                Some(_) => Wanted::Down(Why::NotDue),
                None => Wanted::Up,
            };
            done.push("it is wanted up");
        }
        self.delay = None;
        self.dirty = true;
        self.react(turn, Trigger::Reconsider, Facts::None);
        self.relaunch_if_pending(turn);
        let what = if done.is_empty() { "nothing was held".to_owned() } else { done.join(", ") };
        turn.push(Command::Answer { ticket, answer: Answer::Done(format!("{}: {what}", self.name)) });
    }
}
