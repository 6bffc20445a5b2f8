//! Discord webhooks.
//!
//! One `content` line (the push text) and one embed. Two properties of the service shape this file. An unversioned
//! URL, which is what people paste, is served by API v6, deprecated: it is rewritten to v10. And without
//! `?wait=true` a message that was *not* saved is answered like one that was: so it is always asked for, and a 200
//! without a message id (a captive portal) is not taken for a delivery.

use horus_core::outbox::Move;
use reqwest::Method;
use serde_json::{Value, json};
use url::Url;

use crate::sink::{Answer, BadSink, Form, HttpRequest, HttpResponse, Sending, Verdict, by_status};
use crate::text::{clean, escape};
use crate::words::Message;

/// Discord's own limit for `content`.
pub const CONTENT_MAX: usize = 2000;

/// Discord's own limit for an embed's title.
pub const EMBED_TITLE_MAX: usize = 256;

/// Discord's own limit for an embed's description.
pub const DESCRIPTION_MAX: usize = 4096;

/// Horus's limit for a footer (Discord's is 2048): title, description and footer stay below Discord's sum of 6000.
pub const EMBED_FOOTER_MAX: usize = 512;

/// Discord's limit for the texts of all embeds of a message together.
pub const EMBEDS_SUM_MAX: usize = 6000;

const _: () = assert!(EMBED_TITLE_MAX + DESCRIPTION_MAX + EMBED_FOOTER_MAX <= EMBEDS_SUM_MAX);

/// The message makes no push notification.
pub const FLAG_SUPPRESS_NOTIFICATIONS: u32 = 1 << 12;

/// The service asks for this form; another is blocked at its edge.
pub const USER_AGENT: &str =
    concat!("DiscordBot (", env!("CARGO_PKG_REPOSITORY"), ", ", env!("CARGO_PKG_VERSION"), ")");

/// The longest user id, in digits (a 64-bit number).
const USER_ID_MAX: usize = 20;

/// The longest error message of Discord that is repeated, in UTF-16 units.
const MESSAGE_MAX: usize = 160;

/// Unknown webhook; invalid webhook token. Whatever the status.
const DEAD_CODES: [i64; 2] = [10_015, 50_027];

/// Unknown message (somebody deleted it); edits to messages older than an hour are limited.
const ANEW_CODES: [i64; 2] = [10_008, 30_046];

/// A Discord webhook.
#[derive(Clone)]
pub struct Discord {
    url: Url,
    mention: Option<String>,
}

impl std::fmt::Debug for Discord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Discord").field("mention", &self.mention).finish_non_exhaustive()
    }
}

impl Discord {
    /// Reads a webhook's URL, with or without an API version. A `thread_id` is kept.
    ///
    /// # Errors
    /// If the path is not that of a webhook.
    pub fn new(mut url: Url, mention: Option<&str>) -> Result<Self, BadSink> {
        let segments: Vec<&str> = url.path().split('/').filter(|segment| !segment.is_empty()).collect();
        let after_version = match segments.as_slice() {
            ["api", version, rest @ ..] if is_version(version) => rest,
            ["api", rest @ ..] => rest,
            _ => return Err(BadSink::NotDiscord),
        };
        // `/slack` or `/github` may follow: other body formats of the same webhook.
        let ["webhooks", id, token, ..] = after_version else {
            return Err(BadSink::NotDiscord);
        };
        if !id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadSink::NotDiscord);
        }
        let path = format!("/api/v10/webhooks/{id}/{token}");
        let thread = url.query_pairs().find(|(name, _)| name == "thread_id").map(|(_, id)| id.into_owned());
        url.set_path(&path);
        url.query_pairs_mut().clear().append_pair("wait", "true");
        if let Some(thread) = thread {
            url.query_pairs_mut().append_pair("thread_id", &thread);
        }
        let is_user = |id: &&str| {
            !id.is_empty() && id.len() <= USER_ID_MAX && id.bytes().all(|byte| byte.is_ascii_digit())
        };
        Ok(Self { url, mention: mention.filter(is_user).map(str::to_owned) })
    }

    /// Where requests go. The credential.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The request that brings a message there, changes the one that is there, or puts a loud line beside it.
    pub fn request(&self, message: &Message, sending: &Sending<'_>) -> HttpRequest {
        let changed = sending.item.remote_id.as_ref().filter(|_| sending.how == Move::Edit);
        let mention = self.mention.as_ref().filter(|_| message.needs_you);
        let tail = mention.map(|id| format!(" <@{id}>")).unwrap_or_default();
        let room = CONTENT_MAX - tail.len();
        let mut body = json!({
            // Always: without it the service reads mentions out of the text.
            "allowed_mentions": match mention {
                Some(id) => json!({ "users": [id] }),
                None => json!({ "parse": [] }),
            },
        });
        match sending.form {
            // The message that it stands beside has the rest, and is found by the incident's name.
            _ if sending.how == Move::Ring => {
                let footer = escaped(&message.footer, room - 4 * crate::words::FIRST_LINE_MAX);
                let first = escaped(&message.first_line, 3 * crate::words::FIRST_LINE_MAX);
                body["content"] = format!("{first}{tail}\n-# {footer}").into();
            }
            Form::Rich => {
                body["content"] = format!("{}{tail}", escaped(&message.first_line, room)).into();
                body["embeds"] = json!([embed(message)]);
            }
            Form::Plain => {
                let text = plain(message);
                let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
                let rest = escaped(rest, room.saturating_sub(4 * crate::words::FIRST_LINE_MAX));
                let first = escaped(first, 3 * crate::words::FIRST_LINE_MAX);
                body["content"] = format!("{first}{tail}\n{rest}").into();
                if changed.is_some() {
                    // What the message had in its rich form.
                    body["embeds"] = json!([]);
                }
            }
        }
        if message.silent && changed.is_none() {
            body["flags"] = FLAG_SUPPRESS_NOTIFICATIONS.into();
        }
        HttpRequest {
            method: if changed.is_some() { Method::PATCH } else { Method::POST },
            url: changed.map_or_else(|| self.url.clone(), |id| self.message_url(id)),
            headers: vec![("content-type", "application/json".into()), ("user-agent", USER_AGENT.into())],
            body: body.to_string().into_bytes(),
        }
    }

    /// Of a message that the webhook has posted.
    fn message_url(&self, id: &str) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(["messages", id]);
        }
        let thread = self.url.query_pairs().filter(|(name, _)| name == "thread_id");
        let query: String =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(thread).finish();
        url.set_query(Some(query.as_str()).filter(|query| !query.is_empty()));
        url
    }

    /// What a response means.
    pub fn classify(response: &HttpResponse) -> Answer {
        let spent = response.header("x-ratelimit-remaining").is_some_and(|left| left.trim() == "0");
        Answer { pause: response.reset_after().filter(|_| spent), ..verdict(response).into() }
    }
}

fn verdict(response: &HttpResponse) -> Verdict {
    let json = response.json();
    let coded = json.as_ref().and_then(|json| {
        let (message, code) = (json.get("message")?.as_str()?, json.get("code")?);
        Some(format!("{} {} ({code})", response.status, clean(message, MESSAGE_MAX)))
    });
    let code = json.as_ref().and_then(|json| json.get("code")?.as_i64());
    if response.status >= 400 && code.is_some_and(|code| DEAD_CODES.contains(&code)) {
        return Verdict::Dead { error: coded.unwrap_or_else(|| response.summary()) };
    }
    if response.status >= 400 && code.is_some_and(|code| ANEW_CODES.contains(&code)) {
        return Verdict::Anew { error: coded.unwrap_or_else(|| response.summary()) };
    }
    if let Some(verdict) = by_status(response) {
        return verdict.map_error(|general| coded.unwrap_or(general));
    }
    let remote_id = json.as_ref().and_then(|json| json.get("id")?.as_str()).map(|id| clean(id, 64));
    let acknowledged = response.status == 204 || remote_id.is_some() || response.body.starts_with(b"{");
    if acknowledged {
        Verdict::Delivered { remote_id }
    } else {
        let error =
            format!("{} (no message came back: is a proxy or a login page in between?)", response.summary());
        Verdict::Retry { after: None, error }
    }
}

fn is_version(segment: &str) -> bool {
    segment
        .strip_prefix('v')
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

fn embed(message: &Message) -> Value {
    let mut embed = json!({
        "title": escaped(&message.title, EMBED_TITLE_MAX),
        "color": message.colour.rgb(),
        // A footer knows no markup: nothing to escape.
        "footer": { "text": message.footer },
    });
    if !message.detail_lines.is_empty() {
        embed["description"] = escaped(&message.detail_lines.join("\n"), DESCRIPTION_MAX).into();
    }
    embed
}

/// The whole message as lines.
fn plain(message: &Message) -> String {
    let mut lines = vec![message.first_line.as_str()];
    lines.extend(message.detail_lines.iter().map(String::as_str));
    lines.push(&message.footer);
    lines.join("\n")
}

/// Text that Discord shows as it is and that mentions nobody.
///
/// `@` is parted from what follows by a zero-width space: the server looks for mentions without regard to escapes.
/// An underscore inside a word marks nothing up and stays, since names are full of them and push texts show
/// backslashes.
fn escaped(text: &str, limit: usize) -> String {
    escape(text, limit, |before, character, after, out| {
        let word = |neighbour: Option<char>| neighbour.is_some_and(char::is_alphanumeric);
        let line_start = before.is_none_or(|before| before == '\n');
        let special = match character {
            '\\' | '*' | '~' | '`' | '|' | '<' | '>' | '[' | ']' => true,
            '_' => !(word(before) && word(after)),
            '#' | '-' | '+' => line_start,
            _ => false,
        };
        if special {
            out.push('\\');
        }
        out.push(character);
        if character == '@' {
            out.push('\u{200B}');
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discord(url: &str) -> Result<Discord, BadSink> {
        Discord::new(Url::parse(url).unwrap(), Some("123456789012345678"))
    }

    #[test]
    fn every_pasted_url_becomes_version_10_and_waits() {
        let want = "https://discord.com/api/v10/webhooks/12/tok-en_1?wait=true";
        for pasted in [
            "https://discord.com/api/webhooks/12/tok-en_1",
            "https://discord.com/api/v6/webhooks/12/tok-en_1/",
            "https://discord.com/api/v10/webhooks/12/tok-en_1?wait=false",
            "https://discord.com/api/webhooks/12/tok-en_1/slack",
        ] {
            assert_eq!(discord(pasted).unwrap().url().as_str(), want, "{pasted}");
        }
        let thread = discord("https://ptb.discord.com/api/webhooks/12/t?thread_id=99").unwrap();
        assert_eq!(
            thread.url().as_str(),
            "https://ptb.discord.com/api/v10/webhooks/12/t?wait=true&thread_id=99"
        );
        for wrong in [
            "https://discord.com/api/webhooks/12",
            "https://discord.com/webhooks/12/t",
            "https://discord.com/api/webhooks/x/t",
        ] {
            assert_eq!(discord(wrong).unwrap_err(), BadSink::NotDiscord, "{wrong}");
        }
    }

    #[test]
    fn markup_and_mentions_are_taken_out_and_names_stay_readable() {
        assert_eq!(escaped("svc_rss-2: 5 % in 3 s (ok)", 100), "svc_rss-2: 5 % in 3 s (ok)");
        assert_eq!(escaped("_a_ *b* `c` ||d|| ~~e~~", 100), r"\_a\_ \*b\* \`c\` \|\|d\|\| \~\~e\~\~");
        assert_eq!(escaped("<@123> @everyone", 100), "\\<@\u{200B}123\\> @\u{200B}everyone");
        assert_eq!(escaped("[a](http://b)\n# c\n- d", 100), "\\[a\\](http://b)\n\\# c\n\\- d");
        assert_eq!(escaped("****", 5), r"\*\*…");
    }

    #[test]
    fn an_answer_is_read_as_the_documents_say() {
        let answer = |status, body: &str| {
            Discord::classify(&HttpResponse {
                status,
                headers: Vec::new(),
                body: body.into(),
                received_at: jiff::Timestamp::UNIX_EPOCH,
            })
            .verdict
        };
        let delivered = |id: Option<&str>| Verdict::Delivered { remote_id: id.map(str::to_owned) };
        assert_eq!(answer(200, r#"{"id":"99","type":0}"#), delivered(Some("99")));
        assert_eq!(answer(204, ""), delivered(None));
        assert_eq!(answer(200, r#"{"content":"cut off in the mid"#), delivered(None));
        assert!(matches!(answer(200, "<html>log in"), Verdict::Retry { .. }));
        assert!(matches!(answer(200, ""), Verdict::Retry { .. }));
        let dead = answer(404, r#"{"message":"Unknown Webhook","code":10015}"#);
        assert_eq!(dead, Verdict::Dead { error: "404 Unknown Webhook (10015)".into() });
        assert!(matches!(
            answer(400, r#"{"message":"Invalid Webhook Token","code":50027}"#),
            Verdict::Dead { .. }
        ));
        for status in [301, 401, 403, 404, 410] {
            assert!(matches!(answer(status, "<html>"), Verdict::Dead { .. }), "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 520] {
            assert!(matches!(answer(status, "<html>"), Verdict::Retry { .. }), "{status}");
        }
        assert!(matches!(
            answer(400, r#"{"message":"Invalid Form Body","code":50035}"#),
            Verdict::Fallback { .. }
        ));
        assert!(matches!(answer(413, r#"{"message":"Too large","code":40005}"#), Verdict::Fallback { .. }));
    }
}
