//! Texts from outside, made fit to be shown: one line, no control characters, cut to a limit.

use crate::limits::DETAIL_CHARACTERS_MAX;

/// The first line of `raw`, at most `characters` long, with control characters replaced by spaces.
pub(crate) fn one_line(raw: &str, characters: usize) -> String {
    let line = raw.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let mut text: String = line.trim().chars().take(characters).map(harmless).collect();
    if line.trim().chars().nth(characters).is_some() {
        text.push('…');
    }
    text
}

/// Replaces what could move a cursor, reverse the reading order or hide text.
pub(crate) fn harmless(character: char) -> char {
    match character {
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => ' ',
        other if other.is_control() => ' ',
        other => other,
    }
}

/// A detail of a fault.
pub(crate) fn detail(raw: &str) -> String {
    one_line(raw, DETAIL_CHARACTERS_MAX)
}

/// An error with its sources, in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    const LINKS_MAX: usize = 8;
    let mut text = error.to_string();
    let mut source = error.source();
    for _ in 0..LINKS_MAX {
        let Some(inner) = source else { break };
        let said = inner.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = inner.source();
    }
    detail(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_from_outside_is_one_harmless_line() {
        assert_eq!(one_line("\n  ready\x1b[31m!\r\nmore", 64), "ready [31m!");
        assert_eq!(one_line("a\u{202e}b", 64), "a b");
        assert_eq!(one_line("abcdef", 3), "abc…");
        assert_eq!(one_line("", 3), "");
    }
}
