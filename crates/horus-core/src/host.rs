//! What the engine does about the machine, and about all services at once: the fleet guard, the time of day, pressure, the
//! canary, maintenance windows, the record of the detectors.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::bell::StormNews;
use crate::detectors::tally;
use crate::engine::Engine;
use crate::event::{Outcome, What};
use crate::guard::{Change, SETTLE};
use crate::ids::{IncidentId, ServiceName};
use crate::maintenance::Turned;
use crate::notice::{IncidentKind, Story};
use crate::observation::HostObservation;
use crate::plan::Severity;
use crate::reason::{Reason, Rule};
use crate::service::{Phase, Service};
use crate::time::{Human, Mono};
use crate::turn::Turn;

/// Waiting below this share of the time is ordinary.
pub const PRESSURE_MIN: f64 = 0.2;

/// From this share on limits are stretched as far as they ever are.
pub const PRESSURE_FULL: f64 = 0.8;

/// Limits are stretched to so many per cent at most.
pub const SLOW_PERCENT_MAX: u32 = 400;

/// Limits are stretched in steps of so many per cent, so that a wavering pressure does not make them waver.
const SLOW_PERCENT_STEP: u32 = 50;

/// A common cause that comes back within this time is the same one.
pub const SAME_CAUSE_WITHIN: Duration = Duration::from_secs(15 * 60);

/// A demoted detector gets another chance when its mistakes have become old: looked at so often.
pub const WEIGH_AGAIN: Duration = Duration::from_secs(3600);

/// Detail of the incident about a broken prober; that of a common cause has none.
const CANARY: &str = "prober";

impl Engine {
    pub(crate) fn observe_host(&mut self, turn: &mut Turn<'_>, observation: HostObservation) {
        match observation {
            HostObservation::Suspended { slept } => {
                let text = format!("the machine was suspended for {}", Human(slept));
                self.settle_all(turn, Reason::new(Rule::Suspended, text));
            }
            HostObservation::ClockStepped { by_ms } => {
                let direction = if by_ms < 0 { "back" } else { "forward" };
                let by = Human(Duration::from_millis(by_ms.unsigned_abs()));
                let text = format!("the clock was set {direction} by {by}");
                // The engine's clock does not move with it: nothing has to be judged anew, only calendars follow.
                let reason = Reason::new(Rule::ClockStepped, text);
                turn.record("horus", None, None, What::Host { reason });
            }
            HostObservation::Pressure { cpu, memory, io } => self.feel_pressure(turn, cpu, memory, io),
            HostObservation::Canary { fault } => self.hear_canary(turn, fault),
        }
    }

    /// Everybody is let settle: nothing is killed, and every silence is measured anew.
    fn settle_all(&mut self, turn: &mut Turn<'_>, reason: Reason) {
        turn.record("horus", None, None, What::Host { reason });
        turn.shared.guard.close(turn.now, SETTLE);
        for service in self.services.values_mut() {
            service.judge_anew(turn.now);
        }
    }

    fn feel_pressure(&mut self, turn: &mut Turn<'_>, cpu: f64, memory: f64, io: f64) {
        let worst = [cpu, memory, io].into_iter().filter(|share| share.is_finite()).fold(0.0, f64::max);
        let percent = slow_percent(worst);
        if percent == self.slow_percent {
            return;
        }
        self.slow_percent = percent;
        let share = |share: f64| (share.clamp(0.0, 1.0) * 100.0).round();
        let (cpu, memory, io) = (share(cpu), share(memory), share(io));
        let text = format!(
            "programs wait {cpu} % of the time for a processor, {memory} % for memory, {io} % for disks: limits are \
             stretched to {percent} %"
        );
        turn.record("horus", None, None, What::Host { reason: Reason::new(Rule::HostPressure, text) });
        for service in self.services.values_mut() {
            service.feel_pressure(turn.now, percent);
            service.due = Some(turn.now);
        }
    }

    fn hear_canary(&mut self, turn: &mut Turn<'_>, fault: Option<String>) {
        let kind = IncidentKind::CommonCause;
        match &fault {
            Some(heard) => {
                let what = format!("Horus's own prober hears nothing, not even of itself: {heard}");
                let reason = Reason::new(Rule::Canary, what.clone());
                let known = self.own.find_detail(kind, CANARY).is_some();
                let id = self.own.open(turn, None, kind, CANARY, Severity::Warning, &reason);
                if !known {
                    let of = u32::try_from(self.services.len()).unwrap_or(u32::MAX);
                    let story = Story::CommonCause { what, services: Vec::new(), of };
                    self.own.tell(turn, id, Severity::Warning, false, true, story);
                }
            }
            None => {
                if let Some(since) = self.canary_since.take() {
                    // What it did not hear meanwhile proves nothing. One that fails again soon is the same incident.
                    self.canary_over_at = Some(turn.now + SAME_CAUSE_WITHIN);
                    let late = turn.now.since(since);
                    for service in self.services.values_mut().filter(|service| service.is_asked_by_network())
                    {
                        service.excuse(turn.now, late);
                        service.due = Some(turn.now);
                    }
                }
            }
        }
        if fault.is_some() {
            self.canary_over_at = None;
            self.canary_since.get_or_insert(turn.now);
        }
        turn.shared.canary = fault;
    }

    fn end_canary(&mut self, turn: &mut Turn<'_>) {
        if self.canary_over_at.is_none_or(|at| at > turn.now) {
            return;
        }
        self.canary_over_at = None;
        if let Some(id) = self.own.find_detail(IncidentKind::CommonCause, CANARY).map(|incident| incident.id)
        {
            self.own.close(turn, id, Outcome::CameBackAlone, "the prober works again", None);
        }
    }

    /// The time of day is known, or was set.
    pub(crate) fn set_wall(&mut self, turn: &mut Turn<'_>, wall: Timestamp) {
        turn.shared.wall = Some((turn.now, wall));
        turn.shared.maintenance.set_clock(turn.now, Some(wall));
        for service in self.services.values_mut().filter(|service| service.plan.schedule.is_some()) {
            service.set_job_clock(turn.now, Some(wall));
        }
    }

    /// What concerns all services at once, after each of them was looked at.
    pub(crate) fn tend_common(&mut self, turn: &mut Turn<'_>) {
        self.tend_maintenance(turn);
        self.end_common_cause(turn);
        self.end_canary(turn);
        self.tend_guard(turn);
        self.own.ring_if_due(turn);
        self.tend_storm(turn);
        let again = self.weigh_again_at.is_some_and(|at| at <= turn.now);
        if std::mem::take(&mut turn.shared.record_changed) || again {
            self.weigh_detectors(turn);
            self.weigh_again_at = (!turn.shared.demoted.is_empty()).then(|| turn.now + WEIGH_AGAIN);
        }
    }

    /// When something of that is due by itself.
    pub(crate) fn common_due(&self, now: Mono) -> Option<Mono> {
        let guard = self.shared.guard.due(now).into_iter();
        let due =
            guard.chain(self.shared.maintenance.due()).chain(self.own.due()).chain(self.shared.bell.due());
        due.chain(self.common_over_at).chain(self.canary_over_at).chain(self.weigh_again_at).min()
    }

    /// A common cause that does not come back for a while is over. One that does is the same incident, without new noise.
    fn end_common_cause(&mut self, turn: &mut Turn<'_>) {
        if self.common_over_at.is_none_or(|at| at > turn.now) {
            return;
        }
        self.common_over_at = None;
        if let Some(id) = self.own.find_detail(IncidentKind::CommonCause, "").map(|incident| incident.id) {
            turn.shared.bell.end_common_cause();
            self.own.close(turn, id, Outcome::CameBackAlone, "most services show life again", None);
            self.unmute_all(turn);
        }
    }

    /// One message for all who are in trouble at once.
    fn tend_storm(&mut self, turn: &mut Turn<'_>) {
        if let Some(StormNews { id, members, more, anew }) = turn.shared.bell.news(turn.now) {
            let count = members.len() + more as usize;
            let reason = Reason::new(Rule::Storm, format!("{count} are in trouble at once"));
            let (kind, severity) = (IncidentKind::Storm, Severity::Critical);
            self.own.open_as(turn, id, kind, severity, &reason);
            let needs_you = members.iter().any(|member| member.needs_you);
            let story = Story::Storm { members, more };
            // That there is trouble in many places was said already.
            let known = self.own.find_detail(IncidentKind::CommonCause, "").is_some_and(|common| common.told);
            let rings = if anew && needs_you {
                self.own.tell_anew(turn, id, severity, needs_you, story)
            } else {
                self.own.tell(turn, id, severity, needs_you, !known, story)
            };
            if rings {
                turn.shared.bell.storm_rang(turn.now);
            }
        }
        if let Some((id, services)) = turn.shared.bell.common_news() {
            let (of, severity) = (turn.shared.guard.watched(), Severity::Critical);
            let what = format!("{} of {of} services are in trouble", services.len());
            let story = Story::CommonCause { what, services, of };
            self.own.tell(turn, id, severity, false, false, story);
        }
        if let Some(id) = turn.shared.bell.end_storm() {
            self.own.close(turn, id, Outcome::CameBackAlone, "all of them are well again", None);
            self.unmute_all(turn);
        }
    }

    fn tend_maintenance(&mut self, turn: &mut Turn<'_>) {
        if turn.shared.maintenance.due().is_none_or(|due| due > turn.now) {
            return;
        }
        let wall = turn.shared.wall_at(turn.now);
        let turned = turn.shared.maintenance.tend(turn.now, wall);
        self.note_windows(turn, turned);
    }

    /// What kept noises back is over: what is still so makes them now.
    fn unmute_all(&mut self, turn: &mut Turn<'_>) {
        for service in self.services.values_mut() {
            service.incidents.unmute(turn);
            // Whoever is down is not looked at for long: the next life has to know what was told.
            service.remember_if_due(turn);
        }
        self.monitors.values_mut().for_each(|monitor| monitor.incidents.unmute(turn));
        self.own.unmute(turn);
    }

    pub(crate) fn note_windows(&mut self, turn: &mut Turn<'_>, turned: Vec<Turned>) {
        for change in turned {
            let what = match change {
                Turned::Began(name, lasts) => What::MaintenanceBegan { name, lasts },
                Turned::Ended(name) => {
                    // What is still wrong is judged, and told, as if nobody had been there.
                    for service in self.services.values_mut() {
                        service.due = Some(turn.now);
                    }
                    self.unmute_all(turn);
                    What::MaintenanceEnded { name }
                }
            };
            turn.record("horus", None, None, what);
        }
    }

    fn tend_guard(&mut self, turn: &mut Turn<'_>) {
        let due = turn.shared.guard.due(turn.now).is_some_and(|due| due <= turn.now);
        if !turn.shared.guard.changed && !due && !turn.shared.guard.suspects() {
            return;
        }
        let judged = |service: &&Service| {
            let by_something = service.beats.has_sources() || !service.plan.progress.is_empty();
            by_something && matches!(service.phase, Phase::Running(_) | Phase::Condemned { .. })
        };
        let watched = self.services.values().filter(judged).count();
        // Who is stopped meanwhile makes the rest a larger share.
        turn.shared.guard.count_watched(u32::try_from(watched).unwrap_or(u32::MAX));
        if !turn.shared.guard.changed && !due {
            return;
        }
        self.end_trial(turn);
        match turn.shared.guard.tend(turn.now) {
            Some(change) => self.guard_turned(turn, change),
            // A trial may have ended: the next one is to be considered.
            None if turn.shared.guard.on_trial().is_none() => {
                for name in turn.shared.guard.standing() {
                    if let Some(service) = self.services.get_mut(&name) {
                        service.due = Some(turn.now);
                    }
                }
            }
            None => {}
        }
    }

    /// An earlier life of Horus has restarted somebody and not seen a proof: nobody else is restarted before that.
    pub(crate) fn resume_trial(&self, turn: &mut Turn<'_>) {
        let unproven = self.services.values().filter(|service| service.alive().is_some());
        let unproven = unproven.filter_map(|service| Some((service.kills.last_unproven()?, service)));
        if let Some((at, service)) = unproven.max_by_key(|(at, _)| *at) {
            let until = at + service.trial_term();
            if until > turn.now && !service.kills.is_open() {
                turn.shared.guard.resume_trial(&service.name, until);
            }
        }
    }

    /// Whoever is on trial and can prove nothing any more has failed: it left, was stopped, or is held.
    fn end_trial(&self, turn: &mut Turn<'_>) {
        let Some(name) = turn.shared.guard.on_trial().cloned() else { return };
        let over = self.services.get(&name).is_none_or(|service| {
            service.hold.is_some() || (service.is_at_rest() && service.stays_down().is_some())
        });
        if over {
            turn.shared.guard.end_trial(&name);
        }
    }

    fn guard_turned(&mut self, turn: &mut Turn<'_>, change: Change) {
        let now = turn.now;
        let (reason, services) = (turn.shared.guard.reason(), turn.shared.guard.names());
        let kind = IncidentKind::CommonCause;
        match change {
            Change::Closed(hold) => {
                self.common_over_at = None;
                let id = self.own.open(turn, None, kind, "", Severity::Critical, &reason);
                let text = format!("{reason}; nothing is restarted for {}", Human(hold));
                let reason = Reason::new(Rule::CommonCause, text);
                turn.record(
                    "horus",
                    None,
                    Some(id),
                    What::GuardClosed { reason, services: services.clone() },
                );
            }
            Change::Gathered => self.tell_common_cause(turn, &reason, &services),
            Change::OneAtATime => {
                let still = match services.len() {
                    1 => "1 service still shows no life".to_owned(),
                    count => format!("{count} services still show no life"),
                };
                let text = format!("{still}; one is restarted at a time");
                let what = What::GuardClosed {
                    reason: Reason::new(Rule::CommonCause, text),
                    services: services.clone(),
                };
                turn.record("horus", None, None, what);
            }
            Change::Settled => {}
            Change::Opened => {
                let reason = Reason::new(Rule::CommonCause, "fewer services than the guard's share are red");
                turn.record("horus", None, None, What::GuardOpened { reason });
                self.common_over_at = Some(now + SAME_CAUSE_WITHIN);
            }
        }
        for service in self.services.values_mut() {
            if services.contains(&service.name) || matches!(change, Change::Opened | Change::Settled) {
                service.due = Some(now);
            }
        }
    }

    /// One message for all who are red. A cause that comes back soon is the same incident, without new noise.
    fn tell_common_cause(&mut self, turn: &mut Turn<'_>, reason: &Reason, services: &[ServiceName]) {
        let Some(incident) = self.own.find_detail(IncidentKind::CommonCause, "") else { return };
        let (id, untold) = (incident.id, !incident.told);
        if untold {
            let (what, of) = (reason.text.clone(), turn.shared.guard.watched());
            let names = services.iter().map(ToString::to_string).collect();
            let story = Story::CommonCause { what, services: names, of };
            self.own.tell(turn, id, Severity::Critical, false, true, story);
        }
        turn.shared.bell.has_common_cause(id, services.iter().map(ToString::to_string).collect());
        for service in services.iter().filter_map(|name| self.services.get(name)) {
            service.fold(turn, id);
        }
    }

    /// Which detectors may act, after a kill has turned out one way or the other.
    fn weigh_detectors(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        let outcomes = self.services.values().enumerate().flat_map(|(number, service)| {
            service.kills.outcomes(now).map(move |(rule, turned)| (number, rule, turned))
        });
        let precisions = tally(outcomes);
        let bad: BTreeSet<Rule> =
            precisions.iter().filter(|(_, record)| record.is_bad()).map(|(rule, _)| *rule).collect();
        let before = std::mem::replace(&mut turn.shared.demoted, bad.clone());
        for detector in bad.difference(&before).copied() {
            let record = &precisions[&detector];
            let (right, wrong) = (record.right, record.wrong);
            let text = format!("{wrong} of {} restarts by '{}' did not cure", right + wrong, detector.word());
            let reason = Reason::new(Rule::Demoted, text);
            let (kind, severity) = (IncidentKind::Demoted, Severity::Critical);
            let id = self.own.open(turn, None, kind, detector.word(), severity, &reason);
            turn.record("horus", None, Some(id), What::DetectorDemoted { detector, right, wrong });
            let story = Story::Demoted { detector: detector.word().to_owned(), right, wrong };
            self.own.tell(turn, id, severity, true, true, story);
        }
        for detector in before.difference(&bad).copied() {
            let reason = Reason::new(Rule::Demoted, "its record of the last 7 days is good enough again");
            turn.record("horus", None, None, What::DetectorTrusted { detector, reason });
            if let Some(id) = self.own.find_detail(IncidentKind::Demoted, detector.word()).map(|i| i.id) {
                self.own.close(turn, id, Outcome::CameBackAlone, "it may act again", None);
            }
            for service in self.services.values_mut() {
                service.spell.may_decline_again();
                service.work_spell.may_decline_again();
                service.due = Some(now);
            }
        }
    }
}

impl Service {
    /// The pressure has changed. When limits shrink in the middle of a silence, the longer ones stay in force for another
    /// deadline: what was gathered while everybody waited must not condemn at once. Once for each silence, so that a wavering
    /// pressure hides no hang.
    fn feel_pressure(&mut self, now: Mono, percent: u32) {
        self.slow_target = percent;
        let silent = self.age(now).is_some_and(|age| age >= self.plan.deadline / 2);
        if percent >= self.slow_percent {
            self.slow_percent = percent;
            self.slow_since = None;
        } else if (silent || !self.plan.progress.is_empty()) && !self.slow_kept {
            self.slow_kept = true;
            self.slow_since = Some(now);
        } else if self.slow_since.is_none() {
            self.slow_percent = percent;
        }
    }

    /// Until then the longer limits stay in force, by the plan of this moment.
    pub(crate) fn slow_until(&self) -> Option<Mono> {
        let longest = self.plan.progress.values().map(|work| work.stalled).max().unwrap_or_default();
        self.slow_since.map(|since| since + self.plan.deadline.max(longest))
    }

    /// It has shown life: the next silence may be granted the same.
    pub(crate) fn end_slow_grace(&mut self) {
        self.slow_kept = false;
        if self.slow_since.take().is_some() {
            self.slow_percent = self.slow_target;
        }
    }

    pub(crate) fn end_slowness(&mut self, now: Mono) {
        if self.slow_until().is_some_and(|until| until <= now) {
            self.slow_since = None;
            self.slow_percent = self.slow_target;
        }
    }

    /// Every silence is measured anew: what lies before proves nothing.
    pub(crate) fn judge_anew(&mut self, now: Mono) {
        self.judged_since = now;
        for spell in [&mut self.spell, &mut self.work_spell] {
            (spell.early, spell.second, spell.third) = (false, false, false);
            spell.findings.clear();
        }
        if let Phase::Starting { watched_since, .. } = &mut self.phase {
            *watched_since = now;
        }
        if let Phase::Running(running) | Phase::Condemned { running, .. } = &mut self.phase {
            running.steady_since = now;
        }
        self.due = Some(now);
    }

    /// Its hang is told of by the common cause.
    fn fold(&self, turn: &mut Turn<'_>, into: IncidentId) {
        if let Some(id) = self.incidents.find(IncidentKind::Stuck).map(|incident| incident.id) {
            self.record(turn, Some(id), What::Folded { into });
        }
    }
}

/// To how many per cent limits are stretched when everybody waits for such a share of the time.
fn slow_percent(share: f64) -> u32 {
    let over = ((share - PRESSURE_MIN) / (PRESSURE_FULL - PRESSURE_MIN)).clamp(0.0, 1.0);
    let steps = (SLOW_PERCENT_MAX - 100) / SLOW_PERCENT_STEP;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and a handful of steps; NaN becomes 0"
    )]
    let step = (over * f64::from(steps) + 1e-9).floor() as u32;
    100 + step * SLOW_PERCENT_STEP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_stretched_in_steps_up_to_four_times() {
        let percents = [0.0, 0.2, 0.29, 0.3, 0.5, 0.8, 1.0, f64::NAN].map(slow_percent);
        assert_eq!(percents, [100, 100, 100, 150, 250, 400, 400, 100]);
    }
}
