//! G7: what a person is told of an incident comes in order, without gaps, and ends with an end.

use horus_core::event::{Event, What};
use horus_core::notice::{IncidentKind, Notice, Story};

use super::{Entry, Open, Scene, Witness};

impl Witness {
    /// Versions of the notices of one incident count up by one from 1; nothing is told of what is closed or was never opened.
    pub(super) fn invariant_g7_versions_have_no_gap(&mut self, scene: &Scene<'_>, notice: &Notice) {
        const NAME: &str = "invariant_g7_versions_have_no_gap";
        self.counts.notices += 1;
        let fault = match self.book.incidents.get(&notice.incident) {
            None => Some("it is not open".to_owned()),
            Some(open) if notice.version != open.version + 1 => {
                Some(format!("version {} was the last", open.version))
            }
            Some(_) => None,
        };
        if let Some(fault) = fault {
            let text = format!("{} version {}: {fault}; {:?}", notice.incident, notice.version, notice.story);
            self.broken(scene, NAME, &notice.subject, text);
        }
        let (id, version, ended) = (notice.incident, notice.version, notice.story.is_end());
        self.enter(Entry::Told { id, version, ended, needs_you: notice.needs_you });
        if let (Story::StuckRestarting { .. }, Some(place)) = (&notice.story, scene.place(&notice.subject)) {
            let told = self.restarts_told.entry(notice.incident).or_default();
            let again = told.contains(&notice.story);
            if !again {
                told.push(notice.story.clone());
            }
            // What was told in silence is told again to ring, long after it was carried out.
            let evidence = self.seen[place].sentence.as_ref().is_some_and(|sentence| sentence.evidence);
            if evidence || !again {
                self.invariant_g4_no_notice_without_evidence(scene, place);
            }
        }
    }

    /// A restart is told with evidence, or with the reason for its absence, before it.
    fn invariant_g4_no_notice_without_evidence(&mut self, scene: &Scene<'_>, place: usize) {
        let has_evidence = self.seen[place].sentence.as_mut().is_some_and(|sentence| {
            sentence.told = true;
            sentence.evidence
        });
        if !has_evidence {
            let (subject, text) = (Self::name(scene, place), "a restart is told without evidence".to_owned());
            self.broken(scene, "invariant_g4_no_notice_without_evidence", &subject, text);
        }
    }

    /// Follows the openings and closings of incidents.
    pub(super) fn sees_incident(&mut self, scene: &Scene<'_>, event: &Event) {
        let Some(id) = event.incident else { return };
        match &event.what {
            What::IncidentOpened { kind, .. } => {
                self.counts.incidents += 1;
                if self.book.incidents.contains_key(&id) {
                    let text = format!("{id} is opened, and it is open");
                    self.broken(scene, "invariant_g7_incidents_open_once", &event.subject, text);
                }
                let place = scene.place(&event.subject);
                // What came back may have to be told of anew, and need not.
                let version = self.book.closed.get(&id).copied().unwrap_or_default();
                let open = Open { place, kind: *kind, version, ended: version > 0, needs_you: false };
                self.enter(Entry::Opened { id, open });
                if let Some(place) = place {
                    if *kind == IncidentKind::StartOverdue {
                        self.trial_ends(place);
                    }
                    self.opens(scene, place, *kind);
                }
            }
            What::IncidentClosed { .. } => self.invariant_g7_the_end_is_told(scene, event),
            _ => {}
        }
    }

    /// Whoever was told of an incident is told of its end; an incident is closed once.
    fn invariant_g7_the_end_is_told(&mut self, scene: &Scene<'_>, event: &Event) {
        const NAME: &str = "invariant_g7_the_end_is_told";
        let Some(id) = event.incident else { return };
        let fault = match self.book.incidents.get(&id) {
            None => Some("it is closed, and it is not open"),
            Some(open) if open.version > 0 && !open.ended => Some("it is closed, and its end was not told"),
            Some(_) => None,
        };
        if let Some(fault) = fault {
            self.broken(scene, NAME, &event.subject, format!("{id}: {fault}"));
        }
        self.enter(Entry::Closed { id });
    }
}
