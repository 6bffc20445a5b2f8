//! Names and identities. Parsed once at the edge; everywhere else they are known to be good.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest name of a service, monitor or sink, in bytes.
pub const NAME_LENGTH_MAX: usize = 64;

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name may not be empty")]
    Empty,
    /// The text is longer than [`NAME_LENGTH_MAX`] bytes.
    #[error("a name may have at most {NAME_LENGTH_MAX} characters")]
    TooLong,
    /// The text holds a character that is neither `a-z`, `0-9`, `_` nor `-`, or starts with `-`.
    #[error("a name is made of a-z, 0-9, '_' and '-', and does not start with '-'")]
    BadCharacter,
}

fn checked(text: &str) -> Result<Arc<str>, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_LENGTH_MAX {
        return Err(NameError::TooLong);
    }
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if text.starts_with('-') || !text.bytes().all(good) {
        return Err(NameError::BadCharacter);
    }
    Ok(Arc::from(text))
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and makes it a name.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                checked(text).map(Self)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.to_string()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name! {
    /// A name under which several services are ordered about together: `groups = ["..."]`.
    GroupName
}

name! {
    /// The name of a `[service.NAME]`. Also names its slot directory, so it is a safe file name.
    ServiceName
}
name! {
    /// The name of a `[monitor.NAME]`.
    MonitorName
}
name! {
    /// The name of a `[sink.NAME]`.
    SinkName
}

/// Which run of a service this is: counts up by one with every start and never repeats, also across restarts of
/// Horus. Zero means "never started".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation of the next start.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// A process as the kernel knows it: the pid alone is reused, pid and start time together are not (within one boot).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process id.
    pub pid: i32,
    /// When the kernel started it, in the kernel's own unit (clock ticks since boot on Linux).
    pub start_time: u64,
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}", self.pid)
    }
}

/// One run of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Which run.
    pub generation: Generation,
    /// The main process of the run.
    pub process: ProcessId,
}

/// An incident's identifier, short enough to be typed from a phone: `H-7F3K`.
///
/// Crockford's base 32 (no I, L, O, U); parsing accepts lower case and the look-alikes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IncidentId(u32);

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl IncidentId {
    /// How many different identifiers there are. The engine hands them out in a scrambled order without repeating
    /// one before all were used.
    pub const COUNT: u32 = 1 << 20;

    /// The identifier of the `n`-th incident. Neighbours do not look alike, so that a typing error does not name the
    /// incident before.
    pub fn nth(n: u64) -> Self {
        // An odd factor modulo a power of two is a bijection: all 2^20 identifiers occur before one repeats.
        let scrambled = (n.wrapping_mul(0x9_E37B).wrapping_add(0x5_A3C1)) % u64::from(Self::COUNT);
        Self(u32::try_from(scrambled).unwrap_or_default())
    }

    /// Reads `H-7F3K`, `h-7f3k` or `7F3K`.
    pub fn parse(text: &str) -> Option<Self> {
        let body = text.strip_prefix("H-").or_else(|| text.strip_prefix("h-")).unwrap_or(text);
        if body.len() != 4 {
            return None;
        }
        body.bytes()
            .try_fold(0_u32, |value, byte| {
                let byte = match byte.to_ascii_uppercase() {
                    b'O' => b'0',
                    b'I' | b'L' => b'1',
                    other => other,
                };
                let digit = ALPHABET.iter().position(|&b| b == byte)?;
                Some(value * 32 + u32::try_from(digit).ok()?)
            })
            .map(Self)
    }
}

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "H-")?;
        for shift in [15, 10, 5, 0] {
            let digit = ALPHABET[(self.0 >> shift & 31) as usize];
            write!(f, "{}", char::from(digit))?;
        }
        Ok(())
    }
}

impl fmt::Debug for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for IncidentId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("'{text}' is no incident id (they look like H-7F3K)"))
    }
}

impl From<IncidentId> for String {
    fn from(id: IncidentId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_file_names() {
        assert!(ServiceName::parse("svc-rss_2").is_ok());
        assert_eq!(ServiceName::parse(""), Err(NameError::Empty));
        assert_eq!(ServiceName::parse("../etc"), Err(NameError::BadCharacter));
        assert_eq!(ServiceName::parse("-rf"), Err(NameError::BadCharacter));
        assert_eq!(ServiceName::parse(&"a".repeat(65)), Err(NameError::TooLong));
    }

    #[test]
    fn incident_ids_read_back_and_do_not_repeat() {
        let mut seen = std::collections::HashSet::new();
        for n in 0..100_000 {
            let id = IncidentId::nth(n);
            assert!(seen.insert(id), "{id} repeats at {n}");
            assert_eq!(IncidentId::parse(&id.to_string()), Some(id));
        }
        assert_eq!(IncidentId::parse("h-o1lz"), IncidentId::parse("H-011Z"));
        assert_eq!(IncidentId::parse("H-7F3"), None);
        assert_eq!(IncidentId::parse("H-7F3U"), None);
    }
}
