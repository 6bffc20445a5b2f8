//! Slack incoming webhooks, and what imitates them.
//!
//! `text` is what the notification shows; blocks are what the channel shows. All foreign text stands in `plain_text`
//! objects, which know no markup, and is escaped as Slack asks: `&`, `<` and `>` only. A message sent this way cannot
//! be changed afterwards, and Slack gives it no id.

use reqwest::Method;
use serde_json::{Value, json};
use url::Url;

use crate::sink::{Answer, Form, HttpRequest, HttpResponse, Verdict, by_status};
use crate::text::escape;
use crate::words::Message;

/// Slack's limit for the text of a section.
pub const SECTION_MAX: usize = 3000;

/// Slack splits a `text` that is longer than about this.
pub const TEXT_MAX: usize = 4000;

/// Slack's limit for the number of blocks; Horus sends at most four.
pub const BLOCKS_MAX: usize = 50;

/// A text in a context block.
const CONTEXT_MAX: usize = 1000;

/// The longest member id.
const MEMBER_ID_MAX: usize = 21;

const USER_AGENT: &str = concat!("horus/", env!("CARGO_PKG_VERSION"));

/// A Slack incoming webhook.
#[derive(Clone)]
pub struct Slack {
    url: Url,
    mention: Option<String>,
}

impl std::fmt::Debug for Slack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slack").field("mention", &self.mention).finish_non_exhaustive()
    }
}

impl Slack {
    /// Takes a webhook's URL and, to be mentioned, a member id (`U012AB3CD`).
    pub fn new(url: Url, mention: Option<&str>) -> Self {
        let is_member = |id: &&str| {
            id.starts_with(['U', 'W'])
                && id.len() <= MEMBER_ID_MAX
                && id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        };
        Self { url, mention: mention.filter(is_member).map(str::to_owned) }
    }

    /// Where requests go. The credential.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The request that sends a message.
    pub fn request(&self, message: &Message, form: Form) -> HttpRequest {
        let mention = self.mention.as_ref().filter(|_| message.needs_you).map(|id| format!("<@{id}>"));
        let tail = mention.as_ref().map(|mention| format!(" {mention}")).unwrap_or_default();
        let first = escaped(&message.first_line, TEXT_MAX - tail.len());
        let mut body = json!({ "mrkdwn": false, "unfurl_links": false, "unfurl_media": false });
        match form {
            Form::Rich => {
                body["text"] = format!("{first}{tail}").into();
                body["blocks"] = blocks(message, mention.as_deref());
            }
            Form::Plain => {
                let rest = format!("{}\n{}", message.detail_lines.join("\n"), message.footer);
                let room = TEXT_MAX.saturating_sub(first.len() + tail.len() + 1);
                body["text"] = format!("{first}{tail}\n{}", escaped(&rest, room)).into();
            }
        }
        HttpRequest {
            method: Method::POST,
            url: self.url.clone(),
            headers: vec![("content-type", "application/json".into()), ("user-agent", USER_AGENT.into())],
            body: body.to_string().into_bytes(),
        }
    }

    /// What a response means. Real Slack says `ok`; imitations say other things with a 2xx, a login page says HTML.
    pub fn classify(response: &HttpResponse) -> Answer {
        let verdict = by_status(response).unwrap_or_else(|| {
            let refused = response.json().is_some_and(|json| json.get("ok") == Some(&Value::Bool(false)));
            if refused {
                Verdict::Fallback { error: response.summary() }
            } else if response.is_page() {
                let error = format!("{} (is a proxy or a login page in between?)", response.summary());
                Verdict::Retry { after: None, error }
            } else {
                Verdict::Delivered { remote_id: None }
            }
        });
        verdict.into()
    }
}

fn blocks(message: &Message, mention: Option<&str>) -> Value {
    let section =
        |kind: &str, text: String| json!({ "type": "section", "text": { "type": kind, "text": text } });
    let mut blocks = vec![section("plain_text", escaped(&message.first_line, SECTION_MAX))];
    if let Some(mention) = mention {
        blocks.push(section("mrkdwn", mention.to_owned()));
    }
    if !message.detail_lines.is_empty() {
        blocks.push(section("plain_text", escaped(&message.detail_lines.join("\n"), SECTION_MAX)));
    }
    let footer = escaped(&format!("{} · {}", message.title, message.footer), CONTEXT_MAX);
    blocks.push(json!({ "type": "context", "elements": [{ "type": "plain_text", "text": footer }] }));
    blocks.into()
}

/// Slack's escape; and `@` parted from what follows, for imitations that look for names in any text.
fn escaped(text: &str, limit: usize) -> String {
    escape(text, limit, |_, character, _, out| match character {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '@' => out.push_str("@\u{200B}"),
        other => out.push(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_slack_names_is_escaped() {
        assert_eq!(escaped("a & b <!channel> *c* _d_", 100), "a &amp; b &lt;!channel&gt; *c* _d_");
        assert_eq!(escaped("<<<", 9), "&lt;&lt;…");
    }

    #[test]
    fn an_answer_is_read_as_the_documents_say() {
        let answer = |status, body: &str| {
            let (headers, received_at) = (Vec::new(), jiff::Timestamp::UNIX_EPOCH);
            Slack::classify(&HttpResponse { status, headers, body: body.into(), received_at }).verdict
        };
        let delivered = Verdict::Delivered { remote_id: None };
        assert_eq!(answer(200, "ok"), delivered);
        assert_eq!(answer(200, r#"{"success":true}"#), delivered);
        assert!(matches!(answer(200, r#"{"ok":false,"error":"invalid_auth"}"#), Verdict::Fallback { .. }));
        assert!(matches!(answer(200, "<html>"), Verdict::Retry { .. }));
        assert!(matches!(answer(400, "invalid_payload"), Verdict::Fallback { .. }));
        let dead = Verdict::Dead { error: "410 Gone: channel_is_archived".into() };
        assert_eq!(answer(410, "channel_is_archived"), dead);
        for status in [403, 404] {
            assert!(matches!(answer(status, "no_service"), Verdict::Dead { .. }), "{status}");
        }
        for status in [429, 500, 503] {
            assert!(matches!(answer(status, "rollup_error"), Verdict::Retry { .. }), "{status}");
        }
    }

    #[test]
    fn only_a_member_id_is_mentioned() {
        let slack = |mention| {
            Slack::new(Url::parse("https://hooks.slack.com/services/T/B/x").unwrap(), Some(mention))
        };
        assert_eq!(slack("U012AB3CD").mention.as_deref(), Some("U012AB3CD"));
        for wrong in ["!channel", "123456789012345678", "U012 AB", ""] {
            assert_eq!(slack(wrong).mention, None, "{wrong}");
        }
    }
}
