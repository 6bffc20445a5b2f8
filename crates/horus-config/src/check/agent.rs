//! `agent`: whether it could be loaded, and whether anybody would hear it.

use horus_core::agent::Agent;
use horus_core::plan::BeatPlan;

use super::beats::Beat;
use super::{Check, Subject};
use crate::fault::Code;

impl Check<'_> {
    pub(super) fn agent(&mut self, subject: &Subject<'_>, command: &[String]) -> Option<Agent> {
        let at = subject.raw.agent.as_ref()?;
        if let Some(option) = at.value.kept_out_by(command) {
            let (why, client) = match at.value {
                Agent::Python => (
                    "with it Python loads nothing at its start that it is not told of there",
                    "clients/python",
                ),
                Agent::Node => ("with it Node reads no file that it was not allowed to", "clients/node"),
            };
            self.findings
                .report(
                    Code::AgentNotLoaded,
                    &at.span,
                    format!("the agent of `{}` is never loaded: its command has `{option}`", subject.name),
                )
                .label("would never beat")
                .help(format!(
                    "{why}: take it out of the command, or let the program beat by itself: {client}"
                ));
        }
        Some(at.value)
    }

    /// The heartbeat that an agent brings with it.
    pub(super) fn beat_of_agent(subject: &Subject<'_>) -> Option<Beat> {
        let span = subject.raw.agent.as_ref()?.span.clone();
        Some(Beat { plan: BeatPlan::Notify, span, polling: None })
    }

    /// An agent speaks over the notify socket only.
    pub(super) fn agent_is_heard(&mut self, subject: &Subject<'_>, beats: &[Beat]) {
        let Some(at) = &subject.raw.agent else { return };
        if beats.iter().any(|beat| beat.plan == BeatPlan::Notify) {
            return;
        }
        self.findings
            .report(
                Code::Void,
                &at.span,
                format!(
                    "the agent of `{}` has nobody to speak to: it has no notify socket beside its other heartbeat",
                    subject.name
                ),
            )
            .label("void")
            .help("write `heartbeat.notify = true` as well, or leave `agent` out");
    }
}
