//! A hook for tests only: stand still at a named boundary, so that a test can kill the process exactly there.
//!
//! `PIPELINE_STOP_AT=intent pipeline run` writes `stopped at intent` to stderr when the boundary is reached and then
//! does nothing for ever. The test waits for the line and sends SIGKILL. Nothing else reads the variable, and a name
//! that does not exist is refused at the start, so a renamed boundary cannot make the test pass by never stopping.

use std::io::Write as _;

/// The environment variable.
pub const VARIABLE: &str = "PIPELINE_STOP_AT";

/// The boundaries between two steps, in the order in which a publication crosses them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// The slot and its item are in the journal.
    Opened,
    /// The research is in the journal.
    Researched,
    /// The draft is in the journal.
    Drafted,
    /// The article passed and is in the journal.
    Validated,
    /// The bytes to publish are in the journal.
    Staged,
    /// The intent to publish is in the journal; nothing is in the output folder yet.
    Intent,
    /// The page is written under its temporary name.
    PageWritten,
    /// The page has its name.
    PageRenamed,
    /// The article is written under its temporary name.
    ArticleWritten,
    /// The article has its name: it is published.
    ArticleRenamed,
    /// Index and feed list it.
    Listed,
    /// The marker is in the journal.
    Marked,
}

impl Boundary {
    /// Every boundary, in order.
    pub const ALL: [Self; 12] = [
        Self::Opened,
        Self::Researched,
        Self::Drafted,
        Self::Validated,
        Self::Staged,
        Self::Intent,
        Self::PageWritten,
        Self::PageRenamed,
        Self::ArticleWritten,
        Self::ArticleRenamed,
        Self::Listed,
        Self::Marked,
    ];

    /// The name in the variable.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Researched => "researched",
            Self::Drafted => "drafted",
            Self::Validated => "validated",
            Self::Staged => "staged",
            Self::Intent => "intent",
            Self::PageWritten => "page-written",
            Self::PageRenamed => "page-renamed",
            Self::ArticleWritten => "article-written",
            Self::ArticleRenamed => "article-renamed",
            Self::Listed => "listed",
            Self::Marked => "marked",
        }
    }
}

/// Where to stop, if anywhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StopAt(Option<Boundary>);

/// The variable names no boundary.
#[derive(Debug, thiserror::Error)]
#[error("{VARIABLE}={0} names no boundary; it is a hook for tests and should not be set")]
pub struct UnknownBoundary(String);

impl StopAt {
    /// Reads the variable.
    pub fn from_environment() -> Result<Self, UnknownBoundary> {
        let Some(name) = std::env::var_os(VARIABLE) else { return Ok(Self(None)) };
        let name = name.to_string_lossy();
        let boundary = Boundary::ALL.into_iter().find(|boundary| boundary.name() == name);
        boundary.map(|boundary| Self(Some(boundary))).ok_or_else(|| UnknownBoundary(name.into_owned()))
    }

    /// Returns, unless this is the place to stop.
    pub fn reached(self, boundary: Boundary) {
        if self.0 != Some(boundary) {
            return;
        }
        let mut stderr = std::io::stderr().lock();
        // A closed stderr must not turn the stop into an end.
        let _ = writeln!(stderr, "stopped at {}", boundary.name());
        drop(stderr);
        loop {
            std::thread::park();
        }
    }
}
