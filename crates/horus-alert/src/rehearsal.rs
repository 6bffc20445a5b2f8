//! The rehearsal: every story in a sink's own wire format, measured against what the service takes, and not sent.
//!
//! An alert that its sink refuses is found out on the night on which it is needed. So each story is put into the very
//! request that a worker would send, once with numbers as they occur and once with every text of it grown beyond all
//! limits, in both forms; the bodies are measured here by the services' documented limits and not by the code that keeps
//! to them.

use horus_core::ids::{IncidentId, SinkName};
use horus_core::notice::{Notice, Story};
use horus_core::outbox::{Move, OutboxItem};
use horus_core::plan::{Secret, Severity, SinkKind};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::samples;
use crate::sink::{BadSink, Form, Route, Sending};
use crate::text::units;

/// So many faults are told; one of them is enough to look.
pub const FAULTS_MAX: usize = 8;

/// What every text of a story is grown to: longer than any limit, with all that a service could take for markup.
const MONSTROUS: &str = "@everyone <@123456789012345678> <!channel> ``` # > [a](http://b) & \u{202e}👩‍👩‍👧‍👦 ";
const MONSTROUS_TIMES: usize = 200;

/// Discord's limits, in UTF-16 units: content, title, description, footer, and all of an embed together.
const DISCORD: [usize; 5] = [2000, 256, 4096, 2048, 6000];
/// Slack's limits: text, characters of a text object, blocks.
const SLACK: [usize; 3] = [4000, 3000, 50];
/// What a webhook may be sent, in bytes.
const WEBHOOK_BYTES: usize = 20_000;

/// What a rehearsal has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rehearsal {
    /// Stories that were rendered.
    pub stories: usize,
    /// Stories that are bad enough for this sink to be told, by their usual severity.
    pub heard: usize,
    /// Bodies that were measured.
    pub bodies: usize,
    /// Bytes of the largest one.
    pub largest_bytes: usize,
    /// What the service would refuse, at most [`FAULTS_MAX`].
    pub faults: Vec<String>,
}

/// Renders every story for a sink of this kind. No secret is needed: the URL is a made-up one.
///
/// # Errors
/// If the made-up URL is none for this kind; then this crate is at fault.
pub fn rehearse(
    kind: SinkKind,
    severity: Severity,
    mention: Option<&str>,
    host: &str,
) -> Result<Rehearsal, BadSink> {
    let url = match kind {
        SinkKind::Discord => "https://discord.com/api/webhooks/1/rehearsal",
        SinkKind::Slack => "https://hooks.slack.com/services/T0/B0/rehearsal",
        SinkKind::Webhook => "https://localhost/rehearsal",
    };
    let route = Route::new(kind, &Secret::new(url.into()), mention)?;
    let mut rehearsal = Rehearsal::default();
    for notice in samples::notices() {
        rehearsal.stories += 1;
        rehearsal.heard += usize::from(notice.severity >= severity);
        for (size, notice) in [("", notice.clone()), (", with huge texts", monstrous(&notice))] {
            let moves = if route.edits() { &[Move::Post, Move::Ring, Move::Edit][..] } else { &[Move::Post] };
            for (how, form) in moves.iter().flat_map(|how| [(*how, Form::Rich), (*how, Form::Plain)]) {
                let body = body(&route, notice.clone(), host, how, form);
                rehearsal.bodies += 1;
                rehearsal.largest_bytes = rehearsal.largest_bytes.max(body.len());
                if let Err(fault) = measure(kind, &body)
                    && rehearsal.faults.len() < FAULTS_MAX
                {
                    let story = samples::key(&notice.story);
                    rehearsal.faults.push(format!("{story} ({form:?}{size}): {fault}"));
                }
            }
        }
    }
    Ok(rehearsal)
}

fn body(route: &Route, notice: Notice, host: &str, how: Move, form: Form) -> Vec<u8> {
    let Ok(sink) = SinkName::parse("rehearsal") else { return Vec::new() };
    let now = Timestamp::UNIX_EPOCH;
    let item = OutboxItem {
        sink,
        notice: Notice { incident: IncidentId::nth(0), ..notice },
        happened_at: now,
        opened_at: now,
        delivered_version: None,
        remote_id: Some("1".into()),
        in_doubt: true,
        attempts: 0,
    };
    route.request(&Sending { item: &item, host, time_zone: &TimeZone::UTC, now, how, form }).body
}

/// The same story with every text grown. What cannot be grown stays as it is.
fn monstrous(notice: &Notice) -> Notice {
    let text = MONSTROUS.repeat(MONSTROUS_TIMES);
    let grown = serde_json::to_value(&notice.story).ok().map(|story| match story {
        // A story without numbers is a word, and words are not grown.
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(key, value)| (key, grow(value, &text))).collect())
        }
        word => word,
    });
    let story: Option<Story> = grown.and_then(|story| serde_json::from_value(story).ok());
    let mut notice = notice.clone();
    notice.subject = text;
    if let Some(story) = story {
        notice.story = story;
    }
    notice
}

fn grow(value: Value, text: &str) -> Value {
    match value {
        Value::String(_) => text.into(),
        Value::Array(items) => items.into_iter().map(|item| grow(item, text)).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, grow(value, text))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

fn measure(kind: SinkKind, body: &[u8]) -> Result<(), String> {
    let json: Value =
        serde_json::from_slice(body).map_err(|error| format!("the body is no JSON: {error}"))?;
    match kind {
        SinkKind::Discord => measure_discord(&json),
        SinkKind::Slack => measure_slack(&json),
        SinkKind::Webhook if body.len() > WEBHOOK_BYTES => {
            Err(format!("{} bytes, {WEBHOOK_BYTES} are allowed", body.len()))
        }
        SinkKind::Webhook => Ok(()),
    }
}

/// The length of a text, which may be missing.
fn length(of: &Value, field: &str, limit: usize) -> Result<usize, String> {
    let length = of[field].as_str().map_or(0, units);
    if length > limit {
        Err(format!("{field} has {length} characters, {limit} are allowed"))
    } else {
        Ok(length)
    }
}

fn measure_discord(message: &Value) -> Result<(), String> {
    let [content, title, description, footer, together] = DISCORD;
    if length(message, "content", content)? == 0 {
        return Err("the content is empty: a phone shows nothing".into());
    }
    let mut sum = 0;
    for embed in message["embeds"].as_array().into_iter().flatten() {
        sum += length(embed, "title", title)? + length(embed, "description", description)?;
        sum += length(&embed["footer"], "text", footer)?;
    }
    if sum > together {
        return Err(format!("the embeds have {sum} characters, {together} are allowed"));
    }
    let allowed = &message["allowed_mentions"];
    let parses = allowed["parse"].as_array().is_some_and(|parse| !parse.is_empty());
    if !allowed.is_object() || parses {
        return Err("a text could mention somebody: allowed_mentions does not forbid it".into());
    }
    Ok(())
}

fn measure_slack(message: &Value) -> Result<(), String> {
    let [text, object, blocks_max] = SLACK;
    if length(message, "text", text)? == 0 {
        return Err("the text is empty: a phone shows nothing".into());
    }
    let blocks = message["blocks"].as_array().map_or(&[][..], Vec::as_slice);
    if blocks.len() > blocks_max {
        return Err(format!("{} blocks, {blocks_max} are allowed", blocks.len()));
    }
    for block in blocks {
        length(&block["text"], "text", object)?;
        for element in block["elements"].as_array().into_iter().flatten() {
            length(element, "text", object)?;
        }
    }
    if message["text"].as_str().is_some_and(|text| text.contains("<!")) {
        return Err("a text could call a whole channel".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_story_fits_into_every_sink_however_long_its_texts_are() {
        for kind in [SinkKind::Discord, SinkKind::Slack, SinkKind::Webhook] {
            let host = "h".repeat(10_000);
            let found = rehearse(kind, Severity::Warning, Some("123456789012345678"), &host).unwrap();
            assert_eq!(found.faults, [""; 0], "{kind:?}");
            // Two sizes, two forms; where a message can be changed, three moves.
            let each = if kind == SinkKind::Discord { 12 } else { 4 };
            assert_eq!((found.stories, found.bodies), (samples::STORIES, samples::STORIES * each));
            assert!(found.heard > 0 && found.heard < found.stories, "{}", found.heard);
            assert!(found.largest_bytes > 1_000, "the huge texts were not used");
        }
    }

    #[test]
    fn what_a_service_would_refuse_is_found() {
        let refused = |kind, body: Value| measure(kind, body.to_string().as_bytes()).unwrap_err();
        let long = "x".repeat(7_000);
        assert!(refused(SinkKind::Discord, json!({ "content": long })).contains("2000 are allowed"));
        assert!(refused(SinkKind::Discord, json!({ "content": "" })).contains("empty"));
        let calls = json!({ "content": "x", "allowed_mentions": { "parse": ["everyone"] } });
        assert!(refused(SinkKind::Discord, calls).contains("mention"));
        let embed = json!({ "title": "x".repeat(256), "description": "x".repeat(4_000) });
        let many = json!({ "content": "x", "embeds": [embed, embed], "allowed_mentions": { "parse": [] } });
        assert!(refused(SinkKind::Discord, many).contains("6000"));
        assert!(refused(SinkKind::Slack, json!({ "text": long })).contains("4000"));
        let section = json!({ "text": "x", "blocks": [{ "text": { "text": long } }] });
        assert!(refused(SinkKind::Slack, section).contains("3000"));
        assert!(refused(SinkKind::Slack, json!({ "text": "<!channel>" })).contains("channel"));
        assert!(
            refused(SinkKind::Webhook, json!({ "text": "x".repeat(30_000) })).contains("20000 are allowed")
        );
        assert!(measure(SinkKind::Webhook, b"{").unwrap_err().contains("no JSON"));
    }
}
