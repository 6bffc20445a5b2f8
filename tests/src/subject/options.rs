//! `--name value` and `--flag`, and files that a test drops to say "now".

use std::path::{Path, PathBuf};
use std::time::Duration;

/// The command line of a subject.
#[derive(Debug)]
pub struct Options(Vec<String>);

impl Options {
    /// Of this process.
    pub fn from_command_line() -> Self {
        Self(std::env::args().skip(1).collect())
    }

    /// Is the flag there?
    pub fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|word| word == flag)
    }

    /// The word after `name`.
    pub fn text(&self, name: &str) -> Option<&str> {
        let position = self.0.iter().position(|word| word == name)?;
        self.0.get(position + 1).map(String::as_str)
    }

    /// The number after `name`.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// The number of milliseconds after `name`.
    pub fn millis(&self, name: &str) -> Option<Duration> {
        self.number(name).map(Duration::from_millis)
    }

    /// `--port`; 0, which is any, if there is none.
    pub fn port(&self) -> u16 {
        self.number("--port").and_then(|port| u16::try_from(port).ok()).unwrap_or_default()
    }
}

/// A folder in which a test drops files: `NAME` strikes once and is taken away, `NAME-always` strikes in every run.
#[derive(Debug)]
pub struct Triggers(Option<PathBuf>);

impl Triggers {
    /// `--triggers FOLDER`.
    pub fn of(options: &Options) -> Self {
        Self(options.text("--triggers").map(PathBuf::from))
    }

    /// Is it time to go wrong in this way?
    pub fn strikes(&self, name: &str) -> bool {
        let Some(folder) = &self.0 else { return false };
        std::fs::remove_file(folder.join(name)).is_ok() || folder.join(format!("{name}-always")).exists()
    }
}

/// Leaves a mark that a test can wait for.
///
/// # Errors
/// The file cannot be written.
pub fn leave(path: &Path, text: &str) -> std::io::Result<()> {
    let half = path.with_extension("half");
    #[expect(
        clippy::disallowed_methods,
        reason = "a subject has no Horus crate to lean on; the rename makes it whole"
    )]
    std::fs::write(&half, text)?;
    std::fs::rename(half, path)
}
