//! The little of Discord's and Slack's markup that occurs in what Horus sends, as HTML.
//!
//! Both directions are strict: every character that HTML obeys is written as an entity, and markup that is not known here is
//! shown as it is, so that what the service would make of it is looked up rather than guessed.

/// The text as text.
pub(super) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            character => out.push(character),
        }
    }
    out
}

/// Discord's Markdown: a backslash shows the next character, `` `code` ``, `**bold**`, `<@ID>`.
pub(super) fn discord(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut bold = false;
    while let Some(character) = rest.chars().next() {
        let after = rest.get(character.len_utf8()..).unwrap_or_default();
        let next = after.chars().next();
        rest = after;
        match character {
            '\\' if next.is_some_and(|next| next.is_ascii_punctuation()) => {
                let next_length = next.map_or(0, char::len_utf8);
                out += &html(after.get(..next_length).unwrap_or_default());
                rest = after.get(next_length..).unwrap_or_default();
            }
            '*' if next == Some('*') => {
                out += if bold { "</strong>" } else { "<strong>" };
                bold = !bold;
                rest = after.get(1..).unwrap_or_default();
            }
            '`' => match after.split_once('`') {
                Some((code, behind)) => {
                    out += &format!("<code>{}</code>", html(code));
                    rest = behind;
                }
                None => out.push('`'),
            },
            '<' => match mention(after) {
                Some((who, behind)) => {
                    out += &who;
                    rest = behind;
                }
                None => out += "&lt;",
            },
            character => out += &html(character.encode_utf8(&mut [0; 4])),
        }
    }
    if bold {
        out += "</strong>";
    }
    out
}

/// Slack's text: three entities, and `<@ID>` where it is markup.
pub(super) fn slack(text: &str, markup: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let after = rest.get(character.len_utf8()..).unwrap_or_default();
        rest = after;
        let entity = ["amp;", "lt;", "gt;"].into_iter().find(|entity| after.starts_with(entity));
        match (character, entity) {
            ('&', Some(entity)) => {
                out += &format!("&{entity}");
                rest = after.get(entity.len()..).unwrap_or_default();
            }
            ('<', _) if markup => match mention(after) {
                Some((who, behind)) => {
                    out += &who;
                    rest = behind;
                }
                None => out += "&lt;",
            },
            _ => out += &html(character.encode_utf8(&mut [0; 4])),
        }
    }
    out
}

/// What follows `<`: a mention of somebody, and what is behind it.
fn mention(text: &str) -> Option<(String, &str)> {
    let (id, behind) = text.strip_prefix('@')?.split_once('>')?;
    let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_id.then(|| ("<span class=\"mention\">@you</span>".to_owned(), behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_drawn_and_nothing_else_becomes_html() {
        assert_eq!(
            discord("**a** `b<c` \\*d\\* <@1> <b>"),
            "<strong>a</strong> <code>b&lt;c</code> *d* <span class=\"mention\">@you</span> &lt;b&gt;"
        );
        assert_eq!(discord("**a"), "<strong>a</strong>");
        assert_eq!(discord("<@x y> ` \\"), "&lt;@x y&gt; ` \\");
        assert_eq!(
            slack("&lt;b&gt; &amp; & <@U1>", true),
            "&lt;b&gt; &amp; &amp; <span class=\"mention\">@you</span>"
        );
        assert_eq!(slack("<@U1>", false), "&lt;@U1&gt;");
        assert_eq!(html("<script>\"'&"), "&lt;script&gt;&quot;&#39;&amp;");
    }
}
