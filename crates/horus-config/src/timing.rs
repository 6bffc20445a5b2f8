//! The effective timing table: every number that decides when Horus acts on a service, and where it comes from.

use std::fmt;
use std::time::Duration;

use horus_core::ids::ServiceName;
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::words::duration_text;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It stands in the service's own table, in this line.
    Service {
        /// Name of the file, without its folder.
        file: String,
        /// Line, from 1.
        line: usize,
    },
    /// It stands in `[defaults]`, in this line.
    Defaults {
        /// Name of the file, without its folder.
        file: String,
        /// Line, from 1.
        line: usize,
    },
    /// Horus's own number.
    BuiltIn,
    /// Computed from other values, like this.
    Derived(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { file, line } => write!(f, "{file}:{line}"),
            Self::Defaults { file, line } => write!(f, "[defaults] {file}:{line}"),
            Self::BuiltIn => f.write_str("built in"),
            Self::Derived(how) => f.write_str(how),
        }
    }
}

/// A value of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// A length of time.
    Time(Duration),
    /// A number of something.
    Count(u64),
    /// Not at all.
    Never,
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(duration) => f.pad(&duration_text(*duration)),
            Self::Count(count) => f.pad(&count.to_string()),
            Self::Never => f.pad("never"),
        }
    }
}

impl Serialize for Amount {
    /// `{"text": "1m 30s", "milliseconds": 90000}`, `{"text": "3", "count": 3}`, `{"text": "never"}`
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut fields = out.serialize_struct("Amount", 2)?;
        fields.serialize_field("text", &self.to_string())?;
        match self {
            Self::Time(duration) => {
                fields.serialize_field(
                    "milliseconds",
                    &u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
                )?;
            }
            Self::Count(count) => fields.serialize_field("count", count)?,
            Self::Never => {}
        }
        fields.end()
    }
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TimingRow {
    /// Which service.
    pub service: ServiceName,
    /// What: a key of the file (`kills.prove`), or `detection (proof)`, `detection (absence)`.
    pub what: String,
    /// How much.
    pub amount: Amount,
    /// Where it comes from.
    pub origin: Origin,
}
