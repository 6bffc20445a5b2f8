//! Colour, which never says anything that the words do not say too.

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    /// A person may be needed.
    Bad,
    /// Worth a look.
    Look,
    /// As it should be.
    Good,
    /// Not running, on purpose.
    Quiet,
    /// A heading.
    Head,
    /// Beside the point.
    Dim,
    /// As it is.
    Plain,
}

/// With colour, or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    /// With colour?
    pub(crate) const fn new(colour: bool) -> Self {
        Self { colour }
    }

    /// With colour?
    pub(crate) fn colour(self) -> bool {
        self.colour
    }

    /// The text, painted. Lay it out before: escape codes have no width, but bytes.
    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Bad => "1;31",
            Paint::Look => "33",
            Paint::Good => "32",
            Paint::Quiet => "36",
            Paint::Head => "1",
            Paint::Dim => "2",
            Paint::Plain => "",
        };
        if self.colour && !code.is_empty() && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}
