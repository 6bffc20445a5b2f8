//! An item is one publication on its way, and its state says how far it got.
//!
//! ```text
//!          gather         synthesise       format          deliver        distribute
//!  queued ───────▶ researched ───▶ drafted ───▶ validated ───▶ staged ───────────▶ published
//!     │                │              │             │             │
//!     └────────────────┴──────────────┴─────────────┴─────────────┴──▶ quarantined(reason)
//! ```
//!
//! Each arrow is one transaction in the journal, made after the work of its stage is done. A stage that was cut short
//! runs again from the same inputs and gives the same bytes, so "again" is never "twice".

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::slot::Slot;

/// How far an item got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The slot is open and has its topic.
    Queued,
    /// The claims and their sources are collected.
    Researched,
    /// A generator tier has written the text.
    Drafted,
    /// The article stands as Markdown and passed every validator.
    Validated,
    /// The page is rendered; the exact bytes to publish are fixed in the journal.
    Staged,
    /// The sink acknowledged. Final.
    Published,
    /// It must not be published, and the reason is recorded. Final.
    Quarantined,
}

/// The work that leads from one state to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Collects the claims and resolves their sources.
    Gather,
    /// Lets the first generator tier that can write the draft.
    Synthesise,
    /// Lays the draft out as an article and validates it.
    Format,
    /// Renders the page and fixes the bytes.
    Deliver,
    /// Publishes into the output folder.
    Distribute,
}

impl State {
    /// Every state, in order.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Researched,
        Self::Drafted,
        Self::Validated,
        Self::Staged,
        Self::Published,
        Self::Quarantined,
    ];

    /// The stage that works on an item in this state; `None` for the final ones.
    #[must_use]
    pub fn stage(self) -> Option<Stage> {
        match self {
            Self::Queued => Some(Stage::Gather),
            Self::Researched => Some(Stage::Synthesise),
            Self::Drafted => Some(Stage::Format),
            Self::Validated => Some(Stage::Deliver),
            Self::Staged => Some(Stage::Distribute),
            Self::Published | Self::Quarantined => None,
        }
    }

    /// The word that the journal, the API and the progress counters use.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Researched => "researched",
            Self::Drafted => "drafted",
            Self::Validated => "validated",
            Self::Staged => "staged",
            Self::Published => "published",
            Self::Quarantined => "quarantined",
        }
    }

    /// The state with this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 5] =
        [Self::Gather, Self::Synthesise, Self::Format, Self::Deliver, Self::Distribute];

    /// The name that logs, the beat and `--fault stall-stage=NAME` use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gather => "gather",
            Self::Synthesise => "synthesise",
            Self::Format => "format",
            Self::Deliver => "deliver",
            Self::Distribute => "distribute",
        }
    }

    /// The state that this stage leads to.
    #[must_use]
    pub fn leads_to(self) -> State {
        match self {
            Self::Gather => State::Researched,
            Self::Synthesise => State::Drafted,
            Self::Format => State::Validated,
            Self::Deliver => State::Staged,
            Self::Distribute => State::Published,
        }
    }

    /// The stage with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The identity of one publication: 32 hexadecimal digits, a hash of the topic's content and the slot.
///
/// It is the same in every run of the program, which is how a restarted pipeline recognises its own publication in the
/// output folder even when the journal was lost.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// Derives the id. `topic_digest` is [`crate::topic::Topic::digest`].
    #[must_use]
    pub fn derive(topic_digest: &str, slot: Slot) -> Self {
        Self(digest_of(&["pipeline-run-1", topic_digest, &slot.second().to_string()]))
    }

    /// An id that was read back from the journal or from a publication.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The first 128 bits of the SHA-256 of `parts`, each preceded by its length so that no two lists collide.
pub(crate) fn digest_of(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_of_stages_visits_each_state_once_and_ends_published() {
        let mut state = State::Queued;
        let mut visited = vec![state];
        while let Some(stage) = state.stage() {
            state = stage.leads_to();
            visited.push(state);
        }
        assert_eq!(visited, State::ALL[..6]);
    }

    #[test]
    fn words_and_names_read_back() {
        for state in State::ALL {
            assert_eq!(State::from_word(state.word()), Some(state));
        }
        for stage in Stage::ALL {
            assert_eq!(Stage::from_name(stage.name()), Some(stage));
        }
        assert_eq!(State::from_word("done"), None);
    }

    #[test]
    fn the_run_id_depends_on_topic_and_slot_only() {
        let slot = |second| Slot::from_second(second).unwrap();
        assert_eq!(RunId::derive("a", slot(30)), RunId::derive("a", slot(30)));
        assert_ne!(RunId::derive("a", slot(30)), RunId::derive("a", slot(60)));
        assert_ne!(RunId::derive("a", slot(30)), RunId::derive("b", slot(30)));
        assert_ne!(digest_of(&["ab", "c"]), digest_of(&["a", "bc"]), "boundaries between parts count");
        assert_eq!(RunId::derive("a", slot(30)).as_str().len(), 32);
    }
}
