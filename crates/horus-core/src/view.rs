//! What the kernel shows of a program, and what is made of it.
//!
//! A sampler outside looks at every process once a second (`docs/concepts/sampler.md`). What it sees has three uses here:
//!
//! - next to a missed tick it is a proof: the restart comes at the deadline, and not at twice that;
//! - whoever is stopped, frozen, in a wait that no signal ends or waiting for its memory is spared, whatever else speaks against it;
//! - where nothing beats, or where a helper thread goes on beating over a dead loop, it is told to a person. Nothing is restarted
//!   for it alone: a look from outside does not know what the program means to do.
//!
//! What is told stays told until the loop was seen to turn for a while: a program that is stuck now and then is one incident.

use std::time::Duration;

use crate::decision::{Action, Decision, Outside};
use crate::event::Outcome;
use crate::notice::{IncidentKind, Story};
use crate::observation::{CaptureStage, KernelView, KernelWord, LoopSeen};
use crate::plan::Severity;
use crate::reason::{Reason, Rule};
use crate::service::{Phase, Service};
use crate::spell::Seen;
use crate::status::KernelStatus;
use crate::time::Mono;
use crate::turn::Turn;
use crate::verdict::Verdict;

/// A view that was not renewed for so long says nothing any more: whoever looks has stopped to.
pub(crate) const VIEW_STALE: Duration = Duration::from_secs(30);

/// What is told waits for the evidence so long.
const EVIDENCE_WAIT_MAX: Duration = Duration::from_secs(5);

/// A loop that burns CPU may be at work: where nothing beats that is told after so many deadlines.
const SPINNING_DEADLINES: u32 = 6;

/// An incident is over when nothing was wrong for so many deadlines, and for at least [`CALM_MIN`].
const CALM_DEADLINES: u32 = 6;
/// See [`CALM_DEADLINES`].
const CALM_MIN: Duration = Duration::from_secs(60);

/// What was last seen of one instance from outside, and what was done about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outlook {
    newest: Option<(Mono, KernelView)>,
    /// Evidence was asked for then, to go with what is told.
    asked_at: Option<Mono>,
    /// Its loop turns since then, after something that was told.
    calm_since: Option<Mono>,
}

impl Outlook {
    pub(crate) fn excuse(&mut self, now: Mono, late: Duration) {
        let marks =
            [self.newest.as_mut().map(|(at, _)| at), self.asked_at.as_mut(), self.calm_since.as_mut()];
        for at in marks.into_iter().flatten() {
            *at = (*at + late).min(now);
        }
    }

    /// The newest view, as long as it is one.
    fn view(&self, now: Mono) -> Option<&KernelView> {
        let (at, view) = self.newest.as_ref()?;
        (now.since(*at) < VIEW_STALE).then_some(view)
    }

    /// Who holds it, or may at any moment.
    pub(crate) fn held(&self, now: Mono) -> Option<&str> {
        self.view(now)?.held.as_deref()
    }
}

/// Whether a decision rests on the kernel's view, and on nothing that is missed.
fn rests_on_view(decision: Decision) -> bool {
    match decision.verdict {
        Verdict::Stopped | Verdict::Paused | Verdict::Uninterruptible | Verdict::Thrashing => true,
        Verdict::Undrained => true,
        Verdict::Blocked | Verdict::Spinning => decision.action == Action::Tell,
        _ => false,
    }
}

impl Service {
    pub(crate) fn hear_view(&mut self, now: Mono, view: KernelView) {
        self.outlook.newest = Some((now, view));
    }

    /// What is seen from outside: by captures that are compared, and by the kernel's view.
    pub(crate) fn outside(&self, now: Mono) -> Outside {
        let proof = self.proof();
        let Some(view) = self.outlook.view(now) else { return proof };
        match view.word {
            KernelWord::Stopped => return Outside::Stopped,
            KernelWord::Paused => return Outside::Paused,
            KernelWord::Uninterruptible => return Outside::Uninterruptible,
            KernelWord::Thrashing => return Outside::Thrashing,
            _ => {}
        }
        // Who was met at home since then was not stuck in one call all the while.
        let since = self.outlook.newest.as_ref().map(|(at, _)| at.before(view.lasted)).unwrap_or_default();
        let home = |seen: &Seen| seen.finding.seen == Some(LoopSeen::Home) && seen.at >= since;
        // Captures speak about a silence. Where something beats, or nothing ever does, there is none.
        let silent = self.age(now).is_none_or(|age| age >= self.limits().late) && self.beats.has_sources();
        let met = silent && self.spell.findings.last().is_some_and(home);
        let starts = matches!(self.phase, Phase::Starting { .. });
        let proven = view.held.is_none() && view.lasted >= self.limits().deadline;
        match view.word {
            _ if met => Outside::Home,
            KernelWord::Blocked | KernelWord::Frozen if proven && view.alone => Outside::Blocked,
            // Beside a missed tick only the whole process proves it; what is only told needs no proof.
            KernelWord::Spinning if proven && (view.alone || (!silent && !starts)) => Outside::Spinning,
            _ if silent && proof != Outside::None => proof,
            KernelWord::Blocked | KernelWord::Frozen if proven => Outside::Beside,
            KernelWord::Undrained if proven => Outside::Undrained,
            KernelWord::Away | KernelWord::Spinning => Outside::Away,
            KernelWord::Alive => Outside::Turning,
            _ => Outside::None,
        }
    }

    /// What a decision that rests on the kernel's view says, with its numbers.
    pub(crate) fn view_reason(&self, now: Mono, decision: Decision) -> Option<Reason> {
        let view = self.outlook.view(now).filter(|_| rests_on_view(decision))?;
        Some(Reason::new(Rule::KernelView, format!("{}; {}", view.phrase, decision.because)))
    }

    /// What the kernel shows, for an alert about a silence: where it is stuck.
    pub(crate) fn view_place(&self, now: Mono) -> Option<String> {
        use KernelWord as W;
        let view = self.outlook.view(now)?;
        let tells = matches!(view.word, W::Blocked | W::Spinning | W::Frozen | W::Uninterruptible | W::Away);
        tells.then(|| view.phrase.clone())
    }

    /// The thread that stands there, if it is another one than the main thread.
    pub(crate) fn stuck_thread(&self, now: Mono) -> Option<u64> {
        use KernelWord as W;
        let view = self.outlook.view(now)?;
        // Who was only not met may rest, while others do the work.
        let stands =
            matches!(view.word, W::Blocked | W::Spinning | W::Frozen | W::Uninterruptible | W::Thrashing);
        view.thread.filter(|_| stands)
    }

    pub(crate) fn view_status(&self, now: Mono) -> Option<KernelStatus> {
        let view = self.alive().and(self.outlook.view(now))?;
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let (word, phrase) = (view.word, view.phrase.clone());
        Some(KernelStatus { word, phrase, lasted_ms: millis(view.lasted) })
    }

    /// Tells what only the kernel shows, once; and its end. True if the decision is about nothing else.
    pub(crate) fn judge_view(&mut self, turn: &mut Turn<'_>, decision: Decision) -> bool {
        if !rests_on_view(decision) {
            self.calm_down(turn);
            return false;
        }
        self.outlook.calm_since = None;
        if self.is_view_due(turn.now, decision) {
            self.tell_view(turn, decision);
        }
        true
    }

    /// It has lasted for long enough, by the limits in force.
    fn is_view_due(&self, now: Mono, decision: Decision) -> bool {
        let Some(view) = self.outlook.view(now) else { return false };
        let deadline = self.limits().deadline;
        let limit = match decision.verdict {
            Verdict::Spinning => deadline.saturating_mul(SPINNING_DEADLINES),
            _ => deadline,
        };
        let declared = self.excused_until().is_some_and(|until| until > now) || self.is_within_step(now);
        view.lasted >= limit && (!declared || view.held.is_some())
    }

    fn tell_view(&mut self, turn: &mut Turn<'_>, decision: Decision) {
        let Some(reason) = self.view_reason(turn.now, decision) else { return };
        let Some(view) = self.outlook.view(turn.now).cloned() else { return };
        let (generation, severity) = (Some(self.generation), Severity::Warning);
        let id = self.incidents.open(turn, generation, IncidentKind::KernelView, "", severity, &reason);
        if self.incidents.find(IncidentKind::KernelView).is_some_and(|incident| incident.told) {
            return;
        }
        let Some(asked) = self.outlook.asked_at else {
            self.outlook.asked_at = Some(turn.now);
            self.capture(turn, CaptureStage::Second);
            return;
        };
        let place = self.spell.findings.iter().rev().find(|seen| seen.at >= asked);
        if place.is_none() && turn.now < asked + EVIDENCE_WAIT_MAX {
            return;
        }
        let place = place.map(|seen| seen.finding.phrase.clone()).filter(|phrase| !phrase.is_empty());
        let (verdict, because) = (decision.verdict, decision.because.to_owned());
        let story = Story::KernelView { verdict, lasted: view.lasted, seen: view.phrase, place, because };
        self.incidents.tell(turn, id, severity, false, true, story);
        self.dirty = true;
    }

    /// Nothing is wrong. What was told is over when that has lasted; not to see anything is not to see it well.
    fn calm_down(&mut self, turn: &mut Turn<'_>) {
        let Some(incident) = self.incidents.find(IncidentKind::KernelView) else {
            self.outlook.asked_at = None;
            return;
        };
        if !incident.told {
            // Over before anybody was told.
            self.outlook.asked_at = None;
            self.end_view(turn, Outcome::CameBackAlone, "it was over at once");
            return;
        }
        if self.outlook.view(turn.now).is_none_or(|view| view.word != KernelWord::Alive) {
            self.outlook.calm_since = None;
            return;
        }
        let since = *self.outlook.calm_since.get_or_insert(turn.now);
        if turn.now >= since + self.calm_takes() {
            self.outlook.asked_at = None;
            self.end_view(turn, Outcome::CameBackAlone, "its loop turns again");
        }
    }

    fn calm_takes(&self) -> Duration {
        self.plan.deadline.saturating_mul(CALM_DEADLINES).max(CALM_MIN)
    }

    /// Something is being told, or was.
    pub(crate) fn tells_view(&self) -> bool {
        self.outlook.asked_at.is_some()
    }

    /// What was told of this instance is over.
    pub(crate) fn end_view(&mut self, turn: &mut Turn<'_>, outcome: Outcome, how: &str) {
        self.incidents.close_kind(turn, IncidentKind::KernelView, outcome, how);
    }

    /// When it has to be looked at again for the sake of what the kernel shows.
    pub(crate) fn view_due(&self, now: Mono) -> Option<Mono> {
        let stale = self.outlook.newest.as_ref().map(|(at, _)| *at + VIEW_STALE);
        let waits = self.outlook.asked_at.map(|at| at + EVIDENCE_WAIT_MAX);
        let calm = self.outlook.calm_since.map(|at| at + self.calm_takes());
        [stale, waits, calm].into_iter().flatten().filter(|at| *at > now).min()
    }
}
