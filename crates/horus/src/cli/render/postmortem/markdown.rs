//! Text from outside, as Markdown that says exactly that.
//!
//! A log line must not become a heading, a link, a picture that is fetched or a mention that wakes somebody. In running text
//! every character that Markdown or HTML obeys is escaped; what the readers of a forge look for behind our back
//! (`@name`, `#12`, `://`) is broken by a joiner of no width. Lines of a program stand in a fence that is longer than any
//! in them.

use crate::cli::render::text::clean;

/// A text from outside in running text is cut behind so many characters.
const INLINE_MAX: usize = 600;

/// Lines of one block; the rest is counted.
const BLOCK_LINES_MAX: usize = 160;

/// A line of a block is cut behind so many characters.
const BLOCK_LINE_MAX: usize = 400;

/// Takes no room and keeps what stands around it together: no mention, number or address is recognised across it.
const JOINER: char = '\u{2060}';

/// The text in one line of running text, also in a cell of a table.
pub(super) fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let cleaned = clean(text);
    let mut characters = cleaned.trim().chars().filter(|c| !is_invisible(*c)).peekable();
    let mut kept = 0;
    while let Some(character) = characters.next() {
        if kept == INLINE_MAX {
            out.push('…');
            break;
        }
        kept += 1;
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '|' | '~' | '$' | '^' | '=' => {
                out.extend(['\\', character]);
            }
            '!' if characters.peek() == Some(&'[') => out += "\\!",
            '@' => out.extend(['@', JOINER]),
            '#' => out.extend(['\\', '#', JOINER]),
            ':' if characters.peek() == Some(&'/') => out.extend([':', JOINER]),
            '.' if out.ends_with("www") || out.ends_with("WWW") => out.extend([JOINER, '.']),
            character => out.push(character),
        }
    }
    out
}

/// Lines as they are, each cleaned for a terminal.
pub(super) fn block<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    let mut body = String::new();
    let mut left_out = 0_usize;
    for (number, line) in lines.into_iter().enumerate() {
        if number >= BLOCK_LINES_MAX {
            left_out += 1;
            continue;
        }
        let line = clean(line);
        let shown: String = line.chars().filter(|c| !is_invisible(*c)).take(BLOCK_LINE_MAX).collect();
        body += shown.trim_end();
        if line.chars().count() > BLOCK_LINE_MAX {
            body.push('…');
        }
        body.push('\n');
    }
    if left_out > 0 {
        body += &format!("({left_out} more lines)\n");
    }
    let fence = "`".repeat(longest_run(&body, '`').saturating_add(1).max(3));
    format!("{fence}text\n{body}{fence}\n")
}

fn longest_run(text: &str, wanted: char) -> usize {
    let (mut longest, mut run) = (0_usize, 0_usize);
    for character in text.chars() {
        run = if character == wanted { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

/// Takes no room on the screen, and could join what was broken apart.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_is_obeyed() {
        for (text, harmless) in [
            ("KeyError: 'feed_url'", "KeyError: 'feed\\_url'"),
            ("**bold** `code`", "\\*\\*bold\\*\\* \\`code\\`"),
            ("[x](http://evil)", "\\[x\\](http:\u{2060}//evil)"),
            ("![x](y)", "\\!\\[x\\](y)"),
            ("<img src=x>", "&lt;img src\\=x&gt;"),
            ("&lt;", "&amp;lt;"),
            ("@everyone", "@\u{2060}everyone"),
            ("@\u{200b}everyone", "@\u{2060}everyone"),
            ("fixes #12", "fixes \\#\u{2060}12"),
            ("www.evil.example", "www\u{2060}.evil.example"),
            ("a | b\nc", "a \\| b c"),
            ("\u{1b}[2J", "\u{fffd}\\[2J"),
        ] {
            assert_eq!(inline(text), harmless);
        }
    }

    #[test]
    fn a_long_text_is_cut_and_no_escape_is_torn() {
        let text = inline(&"_".repeat(INLINE_MAX + 5));
        assert_eq!(text, format!("{}…", "\\_".repeat(INLINE_MAX)));
    }

    #[test]
    fn no_line_ends_its_block() {
        let text = block(["````", "## heading", "a\u{1b}[0mb"]);
        assert_eq!(text, "`````text\n````\n## heading\na\u{fffd}[0mb\n`````\n");
        let many: Vec<String> = (0..BLOCK_LINES_MAX + 3).map(|number| number.to_string()).collect();
        assert!(block(many.iter().map(String::as_str)).ends_with("(3 more lines)\n```\n"));
        let long = block(["x".repeat(BLOCK_LINE_MAX + 1).as_str()]);
        assert!(long.contains("x…\n"), "{long}");
    }
}
