//! Who may tick for a run: the program itself, or the agent that Horus has put into it (`agent = "python"`).
//!
//! A program that beats by itself knows more of itself than an agent does, and two tickers on one socket would cover for each
//! other. So an agent's ticks count until the program's own first tick, and of several agents (a shell that starts two Pythons)
//! only those of one process: the main one, or else the first that was heard, for as long as it lives.

use horus_core::ids::Generation;

use super::datagram::Datagram;

/// What is known of one run.
#[derive(Debug, Default)]
pub(super) struct Voices {
    run: Option<Generation>,
    /// The process that has beaten by itself: the main one for good, another one for as long as it lives.
    own: Option<i32>,
    /// The process whose agent is listened to.
    agent: Option<i32>,
}

impl Voices {
    /// Nothing is known of another run.
    pub(super) fn of_run(&mut self, run: Generation) {
        if self.run != Some(run) {
            *self = Self { run: Some(run), ..Self::default() };
        }
    }

    /// What of a datagram counts.
    pub(super) fn weigh(&mut self, sender: Option<i32>, main_pid: i32, said: Datagram) -> Datagram {
        if !said.agent {
            if said.beat && self.own != Some(main_pid) {
                self.own = sender.or(self.own);
            }
            return said;
        }
        // A helper that beat once and ended does not silence the agent of the program for ever.
        let beats_itself = self.own.is_some_and(|pid| pid == main_pid || lives(pid));
        if !beats_itself && self.is_the_agent(sender, main_pid) {
            return said;
        }
        Datagram { lag_ms: said.lag_ms.filter(|_| self.agent == sender), ..Datagram::default() }
    }

    fn is_the_agent(&mut self, sender: Option<i32>, main_pid: i32) -> bool {
        let settled = self.agent.filter(|pid| *pid == main_pid || lives(*pid));
        if settled.is_none() || sender == Some(main_pid) {
            self.agent = sender;
        }
        self.agent == sender
    }
}

fn lives(pid: i32) -> bool {
    horus_sys::process::row(pid).ok().flatten().is_some_and(|row| !row.is_gone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: i32 = i32::MAX;
    /// Nobody: above every pid that there can be.
    const GONE: i32 = i32::MAX - 1;

    fn agent(seq: u64) -> Datagram {
        Datagram { agent: true, beat: true, seq: Some(seq), lag_ms: Some(1.0), ..Datagram::default() }
    }

    fn own(seq: u64) -> Datagram {
        Datagram { agent: false, ..agent(seq) }
    }

    #[test]
    fn an_agent_ticks_until_the_program_does() {
        let mut voices = Voices::default();
        voices.of_run(Generation(1));
        assert_eq!(voices.weigh(Some(MAIN), MAIN, agent(7)).seq, Some(7));
        let ready = Datagram { ready: true, ..Datagram::default() };
        assert!(voices.weigh(Some(MAIN), MAIN, ready).ready);
        assert!(voices.weigh(Some(MAIN), MAIN, agent(8)).beat, "READY=1 is no beat");
        assert_eq!(voices.weigh(Some(MAIN), MAIN, own(1)).seq, Some(1));
        let after = voices.weigh(Some(MAIN), MAIN, agent(9));
        assert_eq!(
            (after.beat, after.seq, after.lag_ms),
            (false, None, Some(1.0)),
            "its lag still tells something"
        );
        voices.of_run(Generation(2));
        assert!(voices.weigh(Some(MAIN), MAIN, agent(1)).beat);
    }

    #[test]
    fn a_helper_that_beat_and_ended_does_not_silence_the_agent() {
        let us = i32::try_from(std::process::id()).unwrap();
        let mut voices = Voices::default();
        voices.weigh(Some(us), MAIN, own(1));
        assert!(!voices.weigh(Some(MAIN), MAIN, agent(1)).beat, "it lives, and may go on");
        voices.weigh(Some(GONE), MAIN, own(1));
        assert!(voices.weigh(Some(MAIN), MAIN, agent(2)).beat);
        voices.weigh(Some(MAIN), MAIN, own(2));
        voices.weigh(Some(GONE), MAIN, own(3));
        assert!(!voices.weigh(Some(MAIN), MAIN, agent(3)).beat, "the main process beats by itself");
    }

    #[test]
    fn of_several_agents_one_is_heard_and_the_main_process_first() {
        let us = i32::try_from(std::process::id()).unwrap();
        let mut voices = Voices::default();
        assert!(voices.weigh(Some(GONE), MAIN, agent(1)).beat);
        assert!(voices.weigh(Some(us), MAIN, agent(5)).beat, "the first one is gone");
        let other = voices.weigh(Some(GONE), MAIN, agent(2));
        assert_eq!((other.beat, other.lag_ms), (false, None));
        assert!(voices.weigh(Some(MAIN), MAIN, agent(1)).beat);
        assert!(!voices.weigh(Some(us), MAIN, agent(6)).beat);
    }
}
