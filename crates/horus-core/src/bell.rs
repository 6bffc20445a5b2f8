//! When a person is disturbed: a message is sent at once, a noise is a decision of its own.
//!
//! ```text
//!   may it ring?  the first time; when a person is needed; at the end of what needed one       (incidents.rs)
//!        |
//!        +-- a window of maintenance        -> when the window is over, if it is still so
//!        +-- it may heal by itself          -> after HEAL_GRACE, if it is still so
//!        +-- a common cause is known        -> never, unless a person is needed: that was told of for all
//!        +-- another subject has just rung  -> the storm rings for all of them, once
//!        +-- this subject has rung enough   -> when its oldest noise is an hour old, if it is still so
//!        +-- otherwise                      -> now
//! ```
//!
//! Nothing is lost by silence: the message is there in each case, and what did not ring in its time rings later unless it is over.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::ids::IncidentId;
use crate::notice::StormMember;
use crate::time::Mono;

/// What is being healed makes no noise before.
pub(crate) const HEAL_GRACE: Duration = Duration::from_secs(90);

/// The same trouble of the same subject again within this time is the same incident; with each return the time doubles.
pub(crate) const SAME_WITHIN: Duration = Duration::from_secs(15 * 60);

/// At most to this.
pub(crate) const SAME_WITHIN_MAX: Duration = Duration::from_secs(4 * 3600);

/// Noises of one subject within [`RATION_WITHIN`].
pub(crate) const RATION: usize = 3;

/// A noise is counted for so long.
pub(crate) const RATION_WITHIN: Duration = Duration::from_secs(3600);

/// Two subjects that want to ring within this time are one storm.
pub(crate) const STORM_WITHIN: Duration = Duration::from_secs(30);

/// A storm takes up others for so long after the last one.
pub(crate) const STORM_GROWS: Duration = Duration::from_secs(5 * 60);

/// The message of a storm changes at most so often: a sink that cannot edit gets each change as a message.
pub(crate) const STORM_TOLD_EVERY: Duration = Duration::from_secs(60);

/// Noises that are remembered.
const RUNG_MAX: usize = 256;

/// Incidents that a storm follows. Of more it knows the number only.
const MEMBERS_MAX: usize = 200;

/// Who has rung, and what is one storm.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bell {
    /// Oldest first.
    rung: VecDeque<Rung>,
    storm: Option<Storm>,
    common: Option<Common>,
}

/// The incident by which a person was told of all that has a common cause.
#[derive(Clone, Debug)]
struct Common {
    id: IncidentId,
    /// Whom it names.
    services: Vec<String>,
    changed: bool,
}

/// A noise that was made.
#[derive(Clone, Debug)]
struct Rung {
    at: Mono,
    /// It is not over.
    open: bool,
    caller: Caller,
}

/// Who wants to ring.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) incident: IncidentId,
    pub(crate) member: StormMember,
}

/// What came of the wish to ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ring {
    Now,
    /// Not before, and only if it still is so.
    At(Mono),
    /// This incident rings for it, or has.
    Within(IncidentId),
}

/// Trouble of several subjects at once, which is one incident for whoever reads of it.
#[derive(Clone, Debug)]
struct Storm {
    id: IncidentId,
    grew_at: Mono,
    told_at: Option<Mono>,
    rang_at: Option<Mono>,
    members: BTreeMap<IncidentId, StormMember>,
    /// Those beyond [`MEMBERS_MAX`].
    more: u32,
    /// A person is needed by one more, and nothing has rung for a while.
    needed_anew: bool,
    changed: bool,
}

/// What is to be told of the storm.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StormNews {
    pub(crate) id: IncidentId,
    pub(crate) members: Vec<StormMember>,
    pub(crate) more: u32,
    /// It may ring although it rang before.
    pub(crate) anew: bool,
}

impl Bell {
    /// May this ring? The answer is taken as given: what may ring does. `next`: the identifier of a new incident.
    pub(crate) fn ask(&mut self, now: Mono, caller: Caller, next: impl FnOnce() -> IncidentId) -> Ring {
        if let Some(id) = self.within_common(&caller) {
            return Ring::Within(id);
        }
        if let Some(id) = self.within_storm(now, &caller, next) {
            return Ring::Within(id);
        }
        if let Some(at) = self.rationed_until(now, &caller.member.subject) {
            return Ring::At(at);
        }
        self.rings(now, caller);
        Ring::Now
    }

    /// When this subject may ring again, if it has rung enough.
    fn rationed_until(&mut self, now: Mono, subject: &str) -> Option<Mono> {
        while self.rung.front().is_some_and(|rung| now.since(rung.at) >= RATION_WITHIN) {
            self.rung.pop_front();
        }
        let own = self.rung.iter().filter(|rung| rung.caller.member.subject == subject);
        let own: Vec<Mono> = own.map(|rung| rung.at).collect();
        let oldest = own.len().checked_sub(RATION).and_then(|index| own.get(index));
        oldest.map(|oldest| *oldest + RATION_WITHIN)
    }

    /// May this subject ring once more?
    pub(crate) fn has_noise_left(&mut self, now: Mono, subject: &str) -> bool {
        self.rationed_until(now, subject).is_none()
    }

    /// It does ring.
    pub(crate) fn rings(&mut self, now: Mono, caller: Caller) {
        if self.rung.len() >= RUNG_MAX {
            self.rung.pop_front();
        }
        self.rung.push_back(Rung { at: now, open: true, caller });
    }

    /// A person was told of a common cause, and of these services.
    pub(crate) fn has_common_cause(&mut self, id: IncidentId, services: Vec<String>) {
        self.common = Some(Common { id, services, changed: false });
    }

    pub(crate) fn end_common_cause(&mut self) {
        self.common = None;
    }

    /// All services that have to be named by the common cause, if one has joined them.
    pub(crate) fn common_news(&mut self) -> Option<(IncidentId, Vec<String>)> {
        let common = self.common.as_mut().filter(|common| common.changed)?;
        common.changed = false;
        Some((common.id, common.services.clone()))
    }

    fn within_common(&mut self, caller: &Caller) -> Option<IncidentId> {
        let common = self.common.as_mut().filter(|_| !caller.member.needs_you)?;
        let subject = &caller.member.subject;
        if !common.services.contains(subject) && common.services.len() < MEMBERS_MAX {
            common.services.push(subject.clone());
            common.changed = true;
        }
        Some(common.id)
    }

    fn within_storm(
        &mut self,
        now: Mono,
        caller: &Caller,
        next: impl FnOnce() -> IncidentId,
    ) -> Option<IncidentId> {
        let subject = &caller.member.subject;
        let recent = self.rung.iter().filter(|rung| {
            rung.open && rung.caller.member.subject != *subject && now.since(rung.at) < STORM_WITHIN
        });
        let recent: Vec<Caller> = recent.map(|rung| rung.caller.clone()).collect();
        match &self.storm {
            Some(storm) => {
                let follows = storm.members.contains_key(&caller.incident);
                let grows = now.since(storm.grew_at) < STORM_GROWS;
                if !follows && !grows && recent.is_empty() {
                    return None;
                }
            }
            None if recent.is_empty() => return None,
            None => {}
        }
        let storm = self.storm.get_or_insert_with(|| Storm::new(next(), now));
        for caller in recent {
            storm.take(caller);
        }
        let known = storm.members.get(&caller.incident).is_some_and(|member| member.needs_you);
        let quiet = storm.rang_at.is_none_or(|rang| now.since(rang) >= SAME_WITHIN);
        storm.needed_anew |= caller.member.needs_you && !known && quiet;
        storm.take(caller.clone());
        storm.grew_at = now;
        Some(storm.id)
    }

    /// Something was told of this incident.
    pub(crate) fn heard(&mut self, incident: IncidentId, needs_you: bool) {
        let Some(storm) = &mut self.storm else { return };
        let Some(member) = storm.members.get_mut(&incident) else { return };
        storm.changed |= member.needs_you != needs_you || member.over;
        (member.needs_you, member.over) = (needs_you, false);
    }

    /// The incident is closed.
    pub(crate) fn over(&mut self, incident: IncidentId) {
        for rung in self.rung.iter_mut().filter(|rung| rung.caller.incident == incident) {
            rung.open = false;
        }
        let Some(storm) = &mut self.storm else { return };
        if let Some(member) = storm.members.get_mut(&incident) {
            storm.changed |= !member.over;
            (member.over, member.needs_you) = (true, false);
        }
    }

    /// The storm that rings for this incident.
    pub(crate) fn storm_of(&self, incident: IncidentId) -> Option<IncidentId> {
        let storm = self.storm.as_ref()?;
        storm.members.contains_key(&incident).then_some(storm.id)
    }

    /// When there may be news of the storm.
    pub(crate) fn due(&self) -> Option<Mono> {
        let storm = self.storm.as_ref().filter(|storm| storm.changed)?;
        Some(storm.told_at.map_or(storm.grew_at, |told| told + STORM_TOLD_EVERY))
    }

    /// What is to be told of the storm now.
    pub(crate) fn news(&mut self, now: Mono) -> Option<StormNews> {
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        let storm = self.storm.as_mut()?;
        if storm.is_over() {
            // Its end says that.
            return None;
        }
        let anew = std::mem::take(&mut storm.needed_anew);
        storm.changed = false;
        storm.told_at = Some(now);
        let members = storm.members.values().cloned().collect();
        Some(StormNews { id: storm.id, members, more: storm.more, anew })
    }

    /// The storm has rung.
    pub(crate) fn storm_rang(&mut self, now: Mono) {
        if let Some(storm) = &mut self.storm {
            storm.rang_at = Some(now);
        }
    }

    /// The storm, if nobody in it is in trouble any more. It is forgotten by that.
    pub(crate) fn end_storm(&mut self) -> Option<IncidentId> {
        self.storm.take_if(|storm| storm.is_over()).map(|storm| storm.id)
    }
}

impl Storm {
    fn new(id: IncidentId, now: Mono) -> Self {
        Self {
            id,
            grew_at: now,
            told_at: None,
            rang_at: None,
            members: BTreeMap::new(),
            more: 0,
            needed_anew: false,
            changed: true,
        }
    }

    fn is_over(&self) -> bool {
        self.members.values().all(|member| member.over)
    }

    fn take(&mut self, caller: Caller) {
        self.changed = true;
        if self.members.len() < MEMBERS_MAX || self.members.contains_key(&caller.incident) {
            self.members.insert(caller.incident, caller.member);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice::IncidentKind;

    const STORM: u64 = 1000;

    fn at(seconds: u64) -> Mono {
        Mono::from_origin(Duration::from_secs(1_000_000 + seconds))
    }

    fn caller(subject: &str, incident: u64) -> Caller {
        let member = StormMember {
            subject: subject.to_owned(),
            kind: IncidentKind::CrashLoop,
            because: String::new(),
            needs_you: true,
            over: false,
        };
        Caller { incident: IncidentId::nth(incident), member }
    }

    fn ask(bell: &mut Bell, seconds: u64, subject: &str, incident: u64) -> Ring {
        bell.ask(at(seconds), caller(subject, incident), || IncidentId::nth(STORM))
    }

    #[test]
    fn one_subject_rings_three_times_an_hour_and_then_when_the_oldest_is_forgotten() {
        let mut bell = Bell::default();
        for number in 0..3 {
            assert_eq!(ask(&mut bell, number * 600, "bot", number), Ring::Now);
        }
        assert_eq!(ask(&mut bell, 1800, "bot", 3), Ring::At(at(3600)));
        assert_eq!(ask(&mut bell, 1800, "other", 4), Ring::Now, "its own affair");
        assert_eq!(ask(&mut bell, 3600, "bot", 5), Ring::Now);
        assert_eq!(ask(&mut bell, 3700, "bot", 6), Ring::At(at(4200)));
    }

    #[test]
    fn two_subjects_at_once_are_a_storm_which_takes_up_who_comes_after_them_and_ends_when_all_are_well() {
        let mut bell = Bell::default();
        assert_eq!(ask(&mut bell, 0, "a", 0), Ring::Now);
        let storm = Ring::Within(IncidentId::nth(STORM));
        assert_eq!(ask(&mut bell, 29, "b", 1), storm);
        let news = bell.news(at(29)).unwrap();
        assert_eq!(news.members.iter().map(|member| &*member.subject).collect::<Vec<_>>(), ["a", "b"]);
        assert!(news.anew, "of b nobody was told");
        bell.storm_rang(at(29));
        assert_eq!(ask(&mut bell, 31, "c", 2), storm);
        assert_eq!(bell.news(at(31)), None, "not so soon");
        let news = bell.news(at(89)).unwrap();
        assert_eq!((news.members.len(), news.anew), (3, false), "it has just rung");
        assert_eq!(ask(&mut bell, 328, "d", 3), storm, "it grows as long as it grew lately");
        assert_eq!(ask(&mut bell, 640, "e", 4), Ring::Now, "it has settled");
        assert_eq!(ask(&mut bell, 1000, "a", 0), storm, "who belongs to it does so for good");
        for number in [0, 1, 2, 3] {
            assert_eq!(bell.end_storm(), None);
            bell.over(IncidentId::nth(number));
        }
        assert_eq!(bell.storm_of(IncidentId::nth(1)), Some(IncidentId::nth(STORM)));
        assert_eq!(bell.end_storm(), Some(IncidentId::nth(STORM)));
        assert_eq!((bell.end_storm(), bell.due()), (None, None));
    }

    #[test]
    fn what_is_over_makes_no_storm_with_what_comes_next() {
        let mut bell = Bell::default();
        assert_eq!(ask(&mut bell, 0, "a", 0), Ring::Now);
        bell.over(IncidentId::nth(0));
        assert_eq!(ask(&mut bell, 10, "b", 1), Ring::Now);
    }

    #[test]
    fn a_person_who_is_needed_by_another_later_hears_of_it_but_not_within_a_quarter_of_an_hour() {
        let mut bell = Bell::default();
        let _ = ask(&mut bell, 0, "a", 0);
        let _ = ask(&mut bell, 1, "b", 1);
        assert!(bell.news(at(1)).unwrap().anew);
        bell.storm_rang(at(1));
        let _ = ask(&mut bell, 200, "c", 2);
        assert!(!bell.news(at(200)).unwrap().anew, "it is named in the message");
        let _ = ask(&mut bell, 901, "b", 1);
        assert!(!bell.news(at(901)).unwrap().anew, "that it needs somebody is known");
        let _ = ask(&mut bell, 902, "d", 3);
        assert!(bell.news(at(961)).unwrap().anew);
    }

    #[test]
    fn what_has_a_common_cause_is_named_there_and_rings_only_if_a_person_is_needed() {
        let mut bell = Bell::default();
        let common = IncidentId::nth(77);
        bell.has_common_cause(common, vec!["a".into()]);
        let calm = |subject: &str, incident| {
            let caller = caller(subject, incident);
            Caller { member: StormMember { needs_you: false, ..caller.member }, ..caller }
        };
        let next = || IncidentId::nth(STORM);
        assert_eq!(bell.ask(at(0), calm("a", 0), next), Ring::Within(common));
        assert_eq!(bell.common_news(), None);
        assert_eq!(bell.ask(at(0), calm("b", 1), next), Ring::Within(common));
        assert_eq!(bell.common_news(), Some((common, vec!["a".into(), "b".into()])));
        assert_eq!(ask(&mut bell, 1, "c", 2), Ring::Now);
        bell.end_common_cause();
        assert_eq!(bell.ask(at(100), calm("b", 1), next), Ring::Now);
    }

    #[test]
    fn a_storm_of_thousands_is_counted() {
        let mut bell = Bell::default();
        for number in 0..1000 {
            let _ = ask(&mut bell, 0, &format!("bot-{number}"), number);
        }
        let news = bell.news(at(0)).unwrap();
        assert_eq!((news.members.len(), news.more), (MEMBERS_MAX, 1000 - MEMBERS_MAX as u32));
    }
}
