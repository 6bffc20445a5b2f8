//! Laying out text: columns, wrapped paragraphs, short lengths of time.
//!
//! Everything that came from a supervised program or from the network goes through [`clean`] before it is shown: a
//! status line must not be able to move the cursor.

use std::time::Duration;

use super::style::{Paint, Style};

/// The text without what a terminal would obey: each control character becomes a replacement character, line breaks
/// and tabs become spaces.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            // Also the marks that make text run backwards, which can turn a harmless line into another one.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// How many columns the text takes. Every character counts as one: the house's own words are all narrow.
pub(crate) fn columns(text: &str) -> usize {
    text.chars().count()
}

/// The text in at most `width` columns, cut with an ellipsis.
pub(crate) fn fit(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// The text in lines of at most `width` columns; `first` stands before the first line, as many spaces before the
/// others. A word that is longer than a line is broken.
pub(crate) fn wrap(text: &str, first: &str, width: usize) -> String {
    let indent = columns(first);
    let room = width.saturating_sub(indent).max(10);
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word = word.to_owned();
        loop {
            let line = lines.last_mut().map_or(0, |line| columns(line));
            let gap = usize::from(line > 0);
            if line + gap + columns(&word) <= room {
                if let Some(last) = lines.last_mut() {
                    last.extend((gap > 0).then_some(' '));
                    last.push_str(&word);
                }
                break;
            }
            if line > 0 {
                lines.push(String::new());
                continue;
            }
            let head: String = word.chars().take(room).collect();
            word = word.chars().skip(room).collect();
            if let Some(last) = lines.last_mut() {
                *last = head;
            }
            lines.push(String::new());
        }
    }
    let pad = " ".repeat(indent);
    let mut out = String::new();
    for (number, line) in lines.iter().enumerate() {
        out += if number == 0 { first } else { &pad };
        out += line;
        while out.ends_with(' ') {
            out.pop();
        }
        out.push('\n');
    }
    out
}

/// A length of time in at most six columns: `0.4s`, `12s`, `3m`, `2h05m`, `3d04h`, `412d`.
pub(crate) fn brief(milliseconds: u64) -> String {
    let seconds = milliseconds / 1_000;
    match seconds {
        0 if milliseconds < 100 => "0s".into(),
        0..10 if !milliseconds.is_multiple_of(1_000) => {
            format!("{}.{}s", seconds, milliseconds % 1_000 / 100)
        }
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        86_400..8_640_000 => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A length of time as people say it.
pub(crate) fn human(milliseconds: u64) -> String {
    horus_core::time::Human(Duration::from_millis(milliseconds)).to_string()
}

/// `1 service`, `3 services`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// One cell of a table.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    /// A cell; its text is cleaned.
    pub(crate) fn new(text: impl AsRef<str>, paint: Paint) -> Self {
        Self { text: clean(text.as_ref()), paint }
    }
}

/// Rows with aligned columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    rows: Vec<(Vec<Cell>, String)>,
}

impl Table {
    /// Adds a row, and lines that follow it as they are.
    pub(crate) fn row(&mut self, cells: Vec<Cell>, below: String) {
        self.rows.push((cells, below));
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for (cells, _) in &self.rows {
            widths.resize(widths.len().max(cells.len()), 0);
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(columns(&cell.text));
            }
        }
        widths
    }

    /// Columns that the table takes with `gap` spaces between them.
    pub(crate) fn width(&self, gap: usize) -> usize {
        let widths = self.widths();
        widths.iter().sum::<usize>() + gap * widths.len().saturating_sub(1)
    }

    /// The table; trailing spaces are left out.
    pub(crate) fn render(&self, gap: usize, style: Style) -> String {
        let widths = self.widths();
        let mut out = String::new();
        for (cells, below) in &self.rows {
            let last = cells.iter().rposition(|cell| !cell.text.is_empty());
            for (number, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                if last.is_none_or(|last| number > last) {
                    break;
                }
                out += &style.paint(cell.paint, &cell.text);
                if Some(number) != last {
                    out += &" ".repeat(width - columns(&cell.text) + gap);
                }
            }
            out.push('\n');
            out += below;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_not_shown() {
        assert_eq!(clean("a\u{1b}[2J\nb\u{202e}c"), "a\u{fffd}[2J b\u{fffd}c");
    }

    #[test]
    fn lengths_of_time_fit_into_six_columns() {
        for (milliseconds, text) in [
            (0, "0s"),
            (99, "0s"),
            (400, "0.4s"),
            (9_950, "9.9s"),
            (12_430, "12s"),
            (59_999, "59s"),
            (129_000, "2m"),
            (7_380_000, "2h03m"),
            (86_400_000, "1d00h"),
            (8_640_000_000, "100d"),
        ] {
            assert_eq!(brief(milliseconds), text);
            assert!(columns(text) <= 6);
        }
    }

    #[test]
    fn paragraphs_keep_their_indent_and_long_words_are_broken() {
        assert_eq!(wrap("one two three", "-> ", 13), "-> one two\n   three\n");
        assert_eq!(wrap(&"x".repeat(25), "", 10), format!("{0}\n{0}\nxxxxx\n", "x".repeat(10)));
        assert_eq!(wrap("", "-> ", 20), "->\n");
    }

    #[test]
    fn tables_align_without_trailing_spaces() {
        let mut table = Table::default();
        let cell = |text: &str| Cell::new(text, Paint::Plain);
        table.row(vec![cell("a"), cell("long"), cell("")], String::new());
        table.row(vec![cell("bbb"), cell("c"), cell("d")], "below\n".into());
        assert_eq!(table.render(2, Style::new(false)), "a    long\nbbb  c     d\nbelow\n");
        assert_eq!(table.width(2), 12);
    }
}
