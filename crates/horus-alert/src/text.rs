//! Texts from outside, made harmless.
//!
//! Service output, error texts and names are written by programs that Horus does not trust. Before one of them
//! becomes part of a message it passes [`clean`] (one line, nothing invisible, a known length); before it is sent it
//! passes the sink's own escape through [`escape`]. The order matters: an invisible character that is taken out after
//! escaping could join `@` and `everyone` again.
//!
//! Lengths are UTF-16 code units. The services do not document whether they count code points or UTF-16 units; the
//! latter is never the smaller number, so what fits here fits there.

const ELLIPSIS: char = '…';

/// So many marks on top of one character are kept.
const MARKS_MAX: usize = 3;

/// The length of `text` in UTF-16 code units.
pub(crate) fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// `text` as one line of at most `limit` units: white space collapsed, control, direction-changing and invisible
/// characters removed, piles of combining marks cut.
pub(crate) fn clean(text: &str, limit: usize) -> String {
    // A hostile text may be megabytes long: nothing behind this can become visible.
    let horizon = limit.saturating_mul(8).saturating_add(64);
    let mut out = String::new();
    let mut space = false;
    let mut marks = 0;
    let mut rest = text.chars();
    for character in rest.by_ref().take(horizon) {
        if character.is_whitespace() {
            space = !out.is_empty();
            continue;
        }
        if is_invisible(character) {
            continue;
        }
        marks = if is_mark(character) { marks + 1 } else { 0 };
        if marks > MARKS_MAX {
            continue;
        }
        if std::mem::take(&mut space) {
            out.push(' ');
        }
        out.push(character);
    }
    if rest.next().is_some() {
        out.push(ELLIPSIS);
    }
    cut(&out, limit)
}

/// The beginning of `text` that has at most `limit` units, the last of them an ellipsis if something is missing.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    escape(text, limit, |_, character, _, out| out.push(character))
}

/// Escapes `text` so that the result has at most `limit` units. `write` is given the characters before and after as
/// well and appends the escaped form; an escape sequence is kept whole or left out, never cut.
pub(crate) fn escape(
    text: &str,
    limit: usize,
    write: impl Fn(Option<char>, char, Option<char>, &mut String),
) -> String {
    let mut out = String::with_capacity(text.len());
    // Where the text ends if an ellipsis has to follow.
    let mut keep = 0;
    let mut length = 0;
    let mut before = None;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let start = out.len();
        let after = characters.peek().copied();
        write(before, character, after, &mut out);
        before = Some(character);
        length += units(&out[start..]);
        if length > limit {
            out.truncate(keep);
            if limit > 0 {
                out.push(ELLIPSIS);
            }
            return out;
        }
        // A mark belongs to the character before it: never end between the two.
        if length < limit && !after.is_some_and(is_mark) {
            keep = out.len();
        }
    }
    out
}

fn is_mark(character: char) -> bool {
    matches!(character,
        '\u{0300}'..='\u{036F}' | '\u{0483}'..='\u{0489}' | '\u{0591}'..='\u{05BD}' | '\u{0610}'..='\u{061A}'
        | '\u{064B}'..='\u{065F}' | '\u{0E31}' | '\u{0E34}'..='\u{0E3A}' | '\u{0E47}'..='\u{0E4E}'
        | '\u{1AB0}'..='\u{1AFF}' | '\u{1DC0}'..='\u{1DFF}' | '\u{200D}' | '\u{20D0}'..='\u{20FF}'
        | '\u{FE00}'..='\u{FE0F}' | '\u{FE20}'..='\u{FE2F}' | '\u{1F3FB}'..='\u{1F3FF}')
}

fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}' | '\u{180E}'
            | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
            | '\u{2800}' | '\u{3164}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}'
            | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hostile_line_becomes_one_plain_line() {
        assert_eq!(clean("  a\r\n\tb\u{1b}[31m\u{0}c ", 100), "a b[31mc");
        assert_eq!(clean("user\u{202E}txt.exe", 100), "usertxt.exe");
        assert_eq!(clean("@every\u{200B}one", 100), "@everyone");
        assert_eq!(clean(&format!("e{}", "\u{301}".repeat(50)), 100), "e\u{301}\u{301}\u{301}");
    }

    #[test]
    fn a_cut_is_marked_and_splits_no_character() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 5), "abcd…");
        assert_eq!(cut("ab👍👍", 5), "ab👍…");
        assert_eq!(cut("ab👍👍", 4), "ab…");
        assert_eq!(cut("abe\u{301}x", 4), "ab…");
        assert_eq!(cut("abc", 0), "");
    }

    #[test]
    fn a_megabyte_is_not_read_to_its_end() {
        let text = "\u{200B}".repeat(1 << 20);
        assert_eq!(clean(&text, 10), "…");
    }

    proptest! {
        #[test]
        fn never_longer_than_the_limit(text in "\\PC{0,60}", limit in 0_usize..40) {
            let cleaned = clean(&text, limit);
            prop_assert!(units(&cleaned) <= limit);
            prop_assert!(!cleaned.chars().any(|c| c.is_control()));
            let doubled = escape(&text, limit, |_, c, _, out| { out.push('\\'); out.push(c); });
            prop_assert!(units(&doubled) <= limit);
        }
    }
}
