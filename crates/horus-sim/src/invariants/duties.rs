//! After faults have stopped: everything converges, or has asked for a person.

use horus_core::ids::ServiceName;
use horus_core::notice::IncidentKind;
use horus_core::status::{ServiceStatus, StatusReport};
use horus_core::verdict::Verdict;

use super::{Open, Scene, Witness};

impl Witness {
    /// Faults have stopped, people have resumed what they held, and the bound is over.
    pub(crate) fn invariant_everything_converges(&mut self, scene: &Scene<'_>, status: &StatusReport) {
        for service in &status.services {
            let Some(place) = scene.place(service.name.as_str()) else { continue };
            if let Some(fault) = self.unfinished(scene, place, service, status) {
                let others: Vec<String> = status
                    .services
                    .iter()
                    .map(|other| format!("{} {} {}", other.name, other.wanted, other.phase))
                    .collect();
                let text = format!(
                    "{fault}: {} {}, {}; {} ({})",
                    service.wanted,
                    service.phase,
                    service.verdict.word(),
                    service.because,
                    others.join(", ")
                );
                self.broken(scene, "invariant_everything_converges", service.name.as_str(), text);
            }
        }
        let lasts = |open: &Open| {
            let waits = open.place.is_some_and(|place| {
                let name = Self::name(scene, place);
                let service = status.services.iter().find(|service| service.name.as_str() == name);
                service.is_some_and(|service| self.is_excused(scene, place, service, status))
            });
            // A storm lasts as long as somebody in it is in trouble.
            let storms = open.kind == IncidentKind::Storm
                && self.book.incidents.values().any(|other| other.place.is_some());
            // What came back every day is over when it has not come for days.
            !open.needs_you && !waits && !storms && open.kind != IncidentKind::Recurrence
        };
        let open = self.book.incidents.iter().find(|(_, open)| lasts(open));
        if let Some((id, open)) = open.map(|(id, open)| (*id, open.clone())) {
            let subject = open.place.map_or("horus".into(), |place| Self::name(scene, place));
            let text = format!("{id} ({}) lasts, version {}", open.kind.word(), open.version);
            self.broken(scene, "invariant_every_incident_ends_or_asks_for_a_person", &subject, text);
        }
        self.invariant_g5_every_request_is_answered(scene);
    }

    /// What is still wrong with a service whose program behaves.
    fn unfinished(
        &self,
        scene: &Scene<'_>,
        place: usize,
        service: &ServiceStatus,
        status: &StatusReport,
    ) -> Option<&'static str> {
        let asks = self.book.open_of(place).any(|(_, open)| open.needs_you);
        if asks || service.wanted == "down" || self.is_excused(scene, place, service, status) {
            return None;
        }
        let plan = scene.plan_of(place)?;
        if plan.schedule.is_some() && scene.places[place].process.is_some() {
            // A run that goes on proves itself by finishing.
            return None;
        }
        let well = match service.verdict {
            Verdict::Healthy | Verdict::Idle | Verdict::Busy => true,
            Verdict::Unknown => plan.beats.is_empty(),
            _ => false,
        };
        if scene.places[place].process.is_none() {
            Some("it is wanted up and has no process")
        } else if !well {
            Some("its program behaves and it is not judged well")
        } else if service.kills_unproven > 0 || service.breaker_open {
            Some("its kills are not proven")
        } else if self.book.ledgers[place].exits_unproven > 0 {
            Some("its ends are not proven")
        } else {
            None
        }
    }

    /// Waits for one that is down by its policy or by order; or the limit of the day keeps its breaker from closing.
    fn is_excused(
        &self,
        scene: &Scene<'_>,
        place: usize,
        service: &ServiceStatus,
        status: &StatusReport,
    ) -> bool {
        let Some(plan) = scene.plan_of(place) else { return true };
        let rests = |name: &ServiceName| {
            let other = status.services.iter().find(|other| other.name == *name);
            other.is_some_and(|other| other.wanted == "down" || other.phase == "waiting")
        };
        let waits = service.phase == "waiting" && plan.after.iter().any(rests);
        waits || self.book.ledgers[place].kills_of_the_day(scene.now) >= plan.kills.daily as usize
    }
}
