//! A program that says itself that it hangs: `WATCHDOG=trigger`.
//!
//! systemd kills at that word. Here it takes the place of age and proof, and of nothing else: evidence and alert come first, everything
//! that forbids a restart forbids this one, it is counted among the kills (so three that cure nothing open the breaker), and a fresh
//! tick that comes after the word pardons. Who hangs does not tick: it is given the time in which its next tick would have come. Whoever ticks
//! on is alive, whatever else is wrong with it, and shows its word as its status.
//!
//! Only the main process is taken at its word (the probe sees to that): a child that inherited the socket cannot have its parent
//! killed. Nor can a program have itself talked about without end: its word is taken once in [`OWN_WORD_EVERY`].

use std::time::Duration;

use crate::reason::Rule;
use crate::service::{Phase, Running, Service};
use crate::spell::{Fault, Track};
use crate::time::Mono;
use crate::turn::Turn;

/// So often, at most, one run is taken at its word.
pub(crate) const OWN_WORD_EVERY: Duration = Duration::from_secs(10 * 60);

/// So long its word is stood by while something forbids the restart.
pub(crate) const OWN_WORD_HOLDS: Duration = Duration::from_secs(5 * 60);

/// What an instance says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OwnWord {
    /// It said so then, and no fresh tick has come since.
    pub(crate) said: Option<Mono>,
    /// Its word was last taken then.
    taken: Option<Mono>,
}

impl Service {
    /// Before it is ready it has not worked yet: its start has rules of its own.
    pub(crate) fn hear_own_word(&mut self, now: Mono) {
        let again = self.own_word.taken.is_none_or(|at| now.since(at) >= OWN_WORD_EVERY);
        if matches!(self.phase, Phase::Running(_)) && again {
            (self.own_word.said, self.own_word.taken) = (Some(now), Some(now));
        }
    }

    /// When it will be restarted at its word, if no fresh tick comes before. A program without a beat has no tick to wait for.
    pub(crate) fn own_word_due(&self) -> Option<Mono> {
        let said = self.own_word.said?;
        if self.plan.beats.is_empty() {
            return Some(said);
        }
        let limits = self.limits();
        let usual = self.beats.usual_gap();
        Some(said + limits.early.max(usual.saturating_add(usual / 2)).min(limits.deadline))
    }

    /// True: it stands by its word, and nothing else needs to be judged.
    pub(crate) fn judge_own_word(&mut self, turn: &mut Turn<'_>, running: Running) -> bool {
        let Some(due) = self.own_word_due() else { return false };
        if turn.now >= due + OWN_WORD_HOLDS {
            // Something forbade the restart for so long that the word says nothing about today.
            self.own_word.said = None;
            if !self.beats.used_to_move() {
                self.end_loop_spell(turn);
            }
            return false;
        }
        if turn.now < due {
            return false;
        }
        let limits = self.limits();
        let since = self.beats.last_fresh().unwrap_or(running.ready_at);
        let fault = Fault {
            track: Track::Loop,
            age: turn.now.since(since),
            limit: limits.deadline,
            act: limits.act,
            how: "it says itself that it hangs (WATCHDOG=trigger)".to_owned(),
            rule: Rule::OwnWord,
        };
        self.open_stuck(turn, &fault, true);
        self.consider_kill(turn, running, fault);
        true
    }
}
