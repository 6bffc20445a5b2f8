//! What the engine is told, kept small, on its way into the store.
//!
//! Rows go along with whatever is committed anyway. Only when nothing else is, they make a write of their own, after
//! [`ROWS_WAIT_MAX`] at the latest: a calm fleet costs one `fsync` in half a minute, and no beat costs any.

use std::time::Duration;

use horus_core::command::Command;
use horus_core::digest::{Digest, Row};
use horus_core::observation::Input;
use horus_core::time::Mono;
use jiff::Timestamp;

/// Rows wait for company so long.
const ROWS_WAIT_MAX: Duration = Duration::from_secs(30);

/// So many rows do not wait.
const ROWS_TOGETHER_MAX: usize = 256;

/// Writes down what is heard.
#[derive(Debug, Default)]
pub(super) struct Diary {
    digest: Digest,
    waiting_since: Option<Mono>,
}

impl Diary {
    /// The engine is told this, and answers with that.
    pub(super) fn hear(&mut self, now: Mono, input: &Input) {
        self.digest.take(now, Timestamp::now(), input);
    }

    /// What the engine answered.
    pub(super) fn obey(&mut self, now: Mono, commands: &[Command]) {
        if !commands.is_empty() {
            let wall = Timestamp::now();
            commands.iter().for_each(|command| self.digest.commanded(now, wall, command));
        }
    }

    /// The rows that are to be written now; all of them if there is `company`.
    pub(super) fn rows(&mut self, now: Mono, company: bool) -> Vec<Row> {
        if self.digest.pending() == 0 {
            return Vec::new();
        }
        let since = *self.waiting_since.get_or_insert(now);
        if company || self.digest.pending() >= ROWS_TOGETHER_MAX || now.since(since) >= ROWS_WAIT_MAX {
            self.waiting_since = None;
            return self.digest.drain();
        }
        Vec::new()
    }

    /// Horus ends: everything that is open.
    pub(super) fn finish(&mut self, now: Mono) -> Vec<Row> {
        self.digest.finish(now, Timestamp::now());
        self.digest.drain()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_wait_for_company_and_not_for_ever() {
        let start = Mono::from_origin(Mono::ORIGIN_BEFORE_START);
        let mut diary = Diary::default();
        diary.hear(start, &Input::Reconciled);
        assert!(diary.rows(start, false).is_empty());
        assert_eq!(diary.rows(start, true).len(), 2, "a beginning, and what was heard");
        diary.hear(start, &Input::KeeperLost);
        assert!(diary.rows(start, false).is_empty());
        assert_eq!(diary.rows(start + ROWS_WAIT_MAX, false).len(), 1);
        for _ in 0..ROWS_TOGETHER_MAX {
            diary.hear(start + ROWS_WAIT_MAX, &Input::KeeperLost);
        }
        assert_eq!(diary.rows(start + ROWS_WAIT_MAX, false).len(), ROWS_TOGETHER_MAX);
        assert_eq!(diary.finish(start + ROWS_WAIT_MAX).len(), 1);
    }
}
