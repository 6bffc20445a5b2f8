//! What this system can and cannot do, as a list that `horus doctor` prints and the keeper says in its greeting.

use serde::{Deserialize, Serialize};

/// Whether the system offers something Horus would use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Facility {
    /// It is there and used.
    Present,
    /// It is not; the text says what Horus does instead and what is lost by it.
    Missing(String),
}

/// One line of [`survey`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surveyed {
    /// A stable word, such as `splice`.
    pub name: String,
    /// There or not.
    pub facility: Facility,
}

/// Asks the system, cheaply and without side effects, for everything Horus would like to use.
pub fn survey() -> Vec<Surveyed> {
    crate::os::survey()
        .into_iter()
        .map(|(name, missing)| Surveyed {
            name: name.to_owned(),
            facility: missing.map_or(Facility::Present, |loss| Facility::Missing(loss.to_owned())),
        })
        .collect()
}
