//! Which versions one build understands: always a range, because an old keeper meets a new Horus at each upgrade, and a
//! new one an old one at each way back.

use serde::{Deserialize, Serialize};
use std::fmt;

/// From the oldest to the newest, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The oldest that is understood.
    pub oldest: u32,
    /// The newest, which is also what is spoken or written unless the other side knows only an older one.
    pub newest: u32,
}

/// The languages of the socket that this build speaks.
pub const PROTOCOLS: Versions = Versions { oldest: 1, newest: 1 };

/// The versions of one kind of record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormatVersions {
    /// The first word of the record, such as `horus-state`.
    pub record: String,
    /// What can be read.
    pub versions: Versions,
}

impl Versions {
    /// Whether this one is understood.
    pub fn contains(self, version: u32) -> bool {
        (self.oldest..=self.newest).contains(&version)
    }

    /// The newest that both sides know.
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest && newest >= other.oldest).then_some(newest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.oldest == self.newest {
            self.newest.fmt(f)
        } else {
            write!(f, "{} to {}", self.oldest, self.newest)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sides_speak_the_newest_that_both_know() {
        let range = |oldest, newest| Versions { oldest, newest };
        assert_eq!(range(1, 3).common(range(2, 5)), Some(3));
        assert_eq!(range(2, 5).common(range(1, 3)), Some(3));
        assert_eq!(range(1, 1).common(range(1, 9)), Some(1));
        assert_eq!(range(1, 2).common(range(3, 4)), None);
        assert_eq!(range(3, 4).common(range(1, 2)), None);
        assert_eq!((range(1, 2).to_string(), range(2, 2).to_string()), ("1 to 2".into(), "2".into()));
    }
}
