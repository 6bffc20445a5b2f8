//! The keeper becomes the new program, too: after Horus, because a new Horus speaks to an old keeper and not always the other
//! way round.
//!
//! Pure: it has no clock and no connection. What the keeper does is in docs/design/004-keeper-versions.md.

use std::time::Duration;

use horus_core::time::Mono;
use horus_sys::process::ProcessId;

/// The keeper is asked again after so long: something was just starting or ending.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How long all of it may take. A fleet in which something always starts or ends keeps the old keeper, which is no harm.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the keeper says that it has something half done.
const HALF_DONE: &str = "just starting or ending";

/// How far the keeper is.
#[derive(Debug)]
pub(super) struct KeeperPart {
    state: State,
    until: Mono,
}

#[derive(Debug, PartialEq)]
enum State {
    /// There was no keeper yet.
    Waiting,
    /// It was asked, when it was this process and had changed its program so often.
    Asked { process: ProcessId, upgrades: u32 },
    /// It will be asked again.
    Again { at: Mono },
    /// Nothing is asked of it any more.
    Over,
}

/// What is to be done now.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// Ask it to become the new program.
    Ask,
    /// It is over, and this is what became of it.
    Over(String),
}

impl KeeperPart {
    pub(super) fn new(now: Mono) -> Self {
        Self { state: State::Waiting, until: now + PATIENCE }
    }

    /// There is nothing to ask of it: it was never told of the new program.
    pub(super) fn nothing_to_do(now: Mono) -> Self {
        Self { state: State::Over, until: now }
    }

    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// When [`KeeperPart::tend`] has something to do at the latest.
    pub(super) fn next(&self) -> Option<Mono> {
        match self.state {
            State::Waiting | State::Asked { .. } => Some(self.until),
            State::Again { at } => Some(at.min(self.until)),
            State::Over => None,
        }
    }

    /// A connection to the keeper stands.
    pub(super) fn attached(&mut self, process: ProcessId, upgrades: u32) -> Step {
        match self.state {
            State::Asked { process: asked, upgrades: before } if asked == process && upgrades > before => {
                self.over("keeper upgraded".into())
            }
            // Whoever started it took the new program.
            State::Asked { process: asked, .. } if asked != process => {
                self.over(format!("the keeper was started anew (pid {})", process.pid))
            }
            State::Waiting | State::Again { .. } | State::Asked { .. } => {
                self.state = State::Asked { process, upgrades };
                Step::Ask
            }
            State::Over => Step::Nothing,
        }
    }

    /// It does not want to.
    pub(super) fn refused(&mut self, now: Mono, why: &str) -> Step {
        match self.state {
            State::Asked { .. } if why.contains(HALF_DONE) && now + ASK_AGAIN < self.until => {
                self.state = State::Again { at: now + ASK_AGAIN };
                Step::Nothing
            }
            State::Asked { .. } => self.over(format!("the keeper stays as it is: {why}")),
            State::Waiting | State::Again { .. } | State::Over => Step::Nothing,
        }
    }

    /// Time has passed. `keeper`: who it is, and how often it has changed its program.
    pub(super) fn tend(&mut self, now: Mono, keeper: Option<(ProcessId, u32)>) -> Step {
        if self.is_over() {
            return Step::Nothing;
        }
        if now >= self.until {
            return self.over("the keeper stays as it is: it has not answered in time".into());
        }
        match (&self.state, keeper) {
            (State::Again { at }, Some((process, upgrades))) if now >= *at => {
                self.state = State::Asked { process, upgrades };
                Step::Ask
            }
            _ => Step::Nothing,
        }
    }

    fn over(&mut self, text: String) -> Step {
        self.state = State::Over;
        Step::Over(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEPER: ProcessId = ProcessId { pid: 50, start_time: 1 };
    const OTHER: ProcessId = ProcessId { pid: 51, start_time: 2 };

    fn start() -> (KeeperPart, Mono) {
        let now = Mono::from_origin(Mono::ORIGIN_BEFORE_START);
        (KeeperPart::new(now), now)
    }

    #[test]
    fn it_is_asked_once_it_is_there_and_believed_once_it_says_so() {
        let (mut part, now) = start();
        assert_eq!(part.tend(now + ASK_AGAIN, None), Step::Nothing);
        assert_eq!(part.attached(KEEPER, 3), Step::Ask);
        assert_eq!(part.tend(now + ASK_AGAIN, Some((KEEPER, 3))), Step::Nothing);
        assert_eq!(part.attached(KEEPER, 4), Step::Over("keeper upgraded".into()));
        assert_eq!((part.attached(KEEPER, 4), part.next()), (Step::Nothing, None));
    }

    #[test]
    fn a_connection_that_broke_for_another_reason_is_no_upgrade() {
        let (mut part, _) = start();
        assert_eq!(part.attached(KEEPER, 3), Step::Ask);
        assert_eq!(part.attached(KEEPER, 3), Step::Ask);
        assert_eq!(part.attached(OTHER, 0), Step::Over("the keeper was started anew (pid 51)".into()));
    }

    #[test]
    fn what_is_half_done_is_waited_for_and_not_for_ever() {
        let (mut part, mut now) = start();
        let busy = "slot bot is just starting or ending: ask again";
        assert_eq!(part.attached(KEEPER, 0), Step::Ask);
        let mut asked = 0;
        let told = loop {
            match part.refused(now, busy) {
                Step::Nothing => {}
                step => break step,
            }
            assert_eq!(part.next(), Some(now + ASK_AGAIN));
            assert_eq!(part.tend(now, Some((KEEPER, 0))), Step::Nothing);
            now = now + ASK_AGAIN;
            assert_eq!(part.tend(now, Some((KEEPER, 0))), Step::Ask);
            asked += 1;
        };
        assert_eq!(told, Step::Over(format!("the keeper stays as it is: {busy}")));
        assert_eq!(asked, 59);
    }

    #[test]
    fn any_other_refusal_is_final() {
        let (mut part, now) = start();
        assert_eq!(part.refused(now, "a late echo"), Step::Nothing);
        assert_eq!(part.attached(KEEPER, 0), Step::Ask);
        let told = Step::Over("the keeper stays as it is: it cannot be executed".into());
        assert_eq!(part.refused(now, "it cannot be executed"), told);
        assert_eq!(part.refused(now, "it cannot be executed"), Step::Nothing);
    }

    #[test]
    fn a_keeper_that_says_nothing_is_left_alone_in_the_end() {
        let (mut part, now) = start();
        assert_eq!(part.attached(KEEPER, 0), Step::Ask);
        assert_eq!(part.next(), Some(now + PATIENCE));
        let told = "the keeper stays as it is: it has not answered in time";
        assert_eq!(part.tend(now + PATIENCE, None), Step::Over(told.into()));
    }
}
