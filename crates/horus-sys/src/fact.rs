//! "Not observed" is a value. A [`Fact`] is known, or missing for a stated reason; nobody can mistake the second for
//! a zero.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;

/// Something that was asked of the system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact<T> {
    /// It was read.
    Known(T),
    /// It was not, and why.
    Missing(Missing),
}

/// Why a fact is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// This system, or this kernel, has no such thing.
    Unsupported,
    /// We lack the right to look.
    Denied,
    /// The process (or file) is not there any more.
    Gone,
    /// It was there and could not be understood or read; the text says what happened.
    Unreadable(String),
}

impl<T> Fact<T> {
    /// The value, if known.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Missing(_) => None,
        }
    }

    /// A view of the value, if known.
    pub fn as_known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Missing(_) => None,
        }
    }

    /// Changes the value and keeps the reason.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Self::Known(value) => Fact::Known(change(value)),
            Self::Missing(why) => Fact::Missing(why),
        }
    }
}

impl<T> From<io::Result<T>> for Fact<T> {
    fn from(result: io::Result<T>) -> Self {
        match result {
            Ok(value) => Self::Known(value),
            Err(error) => Self::Missing(Missing::from(&error)),
        }
    }
}

impl From<&io::Error> for Missing {
    fn from(error: &io::Error) -> Self {
        match (error.kind(), error.raw_os_error()) {
            (_, Some(libc::ESRCH)) | (io::ErrorKind::NotFound, _) => Self::Gone,
            (io::ErrorKind::PermissionDenied, _) => Self::Denied,
            (io::ErrorKind::Unsupported, _) | (_, Some(libc::ENOSYS)) => Self::Unsupported,
            _ => Self::Unreadable(error.to_string()),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported => f.write_str("this system does not have it"),
            Self::Denied => f.write_str("not permitted"),
            Self::Gone => f.write_str("not there any more"),
            Self::Unreadable(what) => write!(f, "unreadable: {what}"),
        }
    }
}
