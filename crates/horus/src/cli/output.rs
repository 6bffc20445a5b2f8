//! The only place of the command line that writes: data on stdout, the rest on stderr.

use std::io::{self, IsTerminal, Write};

use super::render::style::Style;

/// Width where the terminal does not tell.
const WIDTH_UNKNOWN: usize = 100;

/// Narrower than this nothing is laid out.
const WIDTH_MIN: usize = 40;

/// Where a command's words go, and how they may look there.
#[derive(Debug)]
pub(crate) struct Output {
    /// Look of what goes to stdout.
    pub(crate) style: Style,
    /// Look of what goes to stderr.
    pub(crate) note_style: Style,
    /// Columns of the terminal.
    pub(crate) width: usize,
    /// stdout is a terminal: it may be drawn over.
    pub(crate) screen: bool,
    /// stderr is a terminal: a line on it may be updated.
    pub(crate) live: bool,
}

impl Output {
    /// Asks the process's own descriptors and environment.
    pub(crate) fn of_process() -> Self {
        let wanted = colour_wanted(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let screen = io::stdout().is_terminal();
        let note = io::stderr().is_terminal();
        Self {
            style: Style::new(wanted && screen && !dumb),
            note_style: Style::new(wanted && note && !dumb),
            width: width(),
            screen: screen && !dumb,
            live: note && !dumb,
        }
    }

    /// Writes to stdout.
    ///
    /// # Errors
    /// Those of the write; a closed pipe among them.
    pub(crate) fn data(&self, text: impl AsRef<[u8]>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_ref())?;
        out.flush()
    }

    /// Writes to stderr.
    ///
    /// # Errors
    /// Those of the write.
    pub(crate) fn note(&self, text: &str) -> io::Result<()> {
        let mut out = io::stderr().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

/// <https://no-color.org>: any value but an empty one.
fn colour_wanted(is_set: impl Fn(&str) -> bool) -> bool {
    !is_set("NO_COLOR")
}

fn width() -> usize {
    let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let measured = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    told.or_else(measured).unwrap_or(WIDTH_UNKNOWN).max(WIDTH_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_color_is_obeyed() {
        assert!(colour_wanted(|_| false));
        assert!(!colour_wanted(|name| name == "NO_COLOR"));
    }
}
