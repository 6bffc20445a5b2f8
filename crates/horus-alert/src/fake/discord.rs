//! Discord's rules for a message from a webhook (resources/webhook and resources/message of its documentation).

use serde_json::{Value, json};

use super::length;
use super::serve::Ruling;

const KNOWN: &[&str] =
    &["content", "username", "avatar_url", "tts", "embeds", "allowed_mentions", "flags", "thread_name"];

/// `SUPPRESS_EMBEDS`, `SUPPRESS_NOTIFICATIONS`.
const FLAGS: u64 = 1 << 2 | 1 << 12;

const SILENT: u64 = 1 << 12;

/// Fields of a change (`PATCH`); of `flags` only SUPPRESS_EMBEDS may be changed.
const CHANGEABLE: &[&str] = &["content", "embeds", "allowed_mentions", "flags", "attachments"];

/// Of which message the path of a request speaks.
pub(super) fn message_of(path: &str) -> Option<&str> {
    path.split_once("/messages/").map(|(_, id)| id)
}

/// A change of a message that is there: `before` is what it is now. The body of the answer is in the ruling's place of a
/// new message's.
pub(super) fn changed(before: &Value, change: &Value) -> Result<Value, String> {
    let Value::Object(fields) = change else { return Err("not an object".into()) };
    if let Some(unknown) = fields.keys().find(|key| !CHANGEABLE.contains(&key.as_str())) {
        return Err(format!("{unknown} cannot be changed"));
    }
    if change["flags"].as_u64().is_some_and(|flags| flags & SILENT != 0) {
        return Err("silence cannot be changed".into());
    }
    let Value::Object(mut message) = before.clone() else { return Err("no message".into()) };
    message.extend(fields.clone());
    let message = Value::Object(message);
    form(&message).map(|()| message)
}

pub(super) fn rule(method: &str, path: &str, headers: &[(String, String)], body: &[u8]) -> Ruling {
    let header =
        |name: &str| headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str());
    if !header("user-agent").starts_with("DiscordBot (http") {
        return reject(
            403,
            "<html><title>Access denied</title></html>".into(),
            "User-Agent is not DiscordBot (url, version)",
        );
    }
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let (segments, expected) = match segments.as_slice() {
        [rest @ .., "messages", id] if id.bytes().all(|b| b.is_ascii_digit()) => (rest, "PATCH"),
        _ => (segments.as_slice(), "POST"),
    };
    if method != expected {
        return coded(405, 0, "405: Method Not Allowed", "neither POST nor PATCH of a message");
    }
    match segments {
        ["api", "v10", "webhooks", id, token]
            if !token.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) => {}
        ["api", "v10", ..] => return coded(404, 0, "404: Not Found", "not a webhook's path"),
        _ => return coded(400, 50_041, "Invalid API version provided", "not /api/v10/"),
    }
    if !header("content-type").starts_with("application/json") {
        return coded(400, 50_109, "Expected \"Content-Type\" header to be application/json", "content type");
    }
    let Ok(Value::Object(_)) = serde_json::from_slice(body) else {
        return coded(400, 50_109, "The request body contains invalid JSON.", "not a JSON object");
    };
    let message: Value = serde_json::from_slice(body).unwrap_or_default();
    if expected == "PATCH" {
        // Nobody is notified of a change.
        return Ruling::Accept { pings: Vec::new(), loud: false };
    }
    match form(&message) {
        Err(why) if why == "empty" => coded(400, 50_006, "Cannot send an empty message", "empty"),
        Err(why) => coded(400, 50_035, "Invalid Form Body", &why),
        Ok(()) => Ruling::Accept {
            pings: pings(&message),
            loud: message["flags"].as_u64().unwrap_or_default() & SILENT == 0,
        },
    }
}

/// The body of a 200: the message as it was saved.
pub(super) fn saved(id: &str, message: &Value) -> String {
    let Value::Object(mut saved) = message.clone() else {
        return String::new();
    };
    saved.insert("id".into(), id.into());
    saved.insert("type".into(), 0.into());
    saved.insert("channel_id".into(), "223456789012345678".into());
    saved.insert("webhook_id".into(), "123456789012345678".into());
    Value::Object(saved).to_string()
}

fn form(message: &Value) -> Result<(), String> {
    if let Some(unknown) =
        message.as_object().and_then(|fields| fields.keys().find(|key| !KNOWN.contains(&key.as_str())))
    {
        return Err(format!("unknown field {unknown}"));
    }
    let content = text(message, "content", 2000)?;
    let embeds = match &message["embeds"] {
        Value::Null => &[],
        Value::Array(embeds) => embeds.as_slice(),
        _ => return Err("embeds is no list".into()),
    };
    if embeds.len() > 10 {
        return Err("more than 10 embeds".into());
    }
    let mut sum = 0;
    for embed in embeds {
        sum += embed_length(embed)?;
    }
    if sum > 6000 {
        return Err(format!("embeds of {sum} characters together"));
    }
    if content == 0 && sum == 0 {
        return Err("empty".into());
    }
    match &message["flags"] {
        Value::Null => {}
        flags if flags.as_u64().is_some_and(|flags| flags & !FLAGS == 0) => {}
        other => return Err(format!("flags {other}")),
    }
    allowed_mentions(&message["allowed_mentions"])
}

fn embed_length(embed: &Value) -> Result<usize, String> {
    let mut sum = text(embed, "title", 256)? + text(embed, "description", 4096)?;
    sum += text(&embed["footer"], "text", 2048)? + text(&embed["author"], "name", 256)?;
    let no_fields = Vec::new();
    let fields = embed["fields"].as_array().unwrap_or(&no_fields);
    if fields.len() > 25 {
        return Err("more than 25 fields".into());
    }
    for field in fields {
        sum += text(field, "name", 256)? + text(field, "value", 1024)?;
    }
    match &embed["color"] {
        Value::Null => {}
        color if color.as_u64().is_some_and(|color| color <= 0xFF_FFFF) => {}
        other => return Err(format!("color {other}")),
    }
    Ok(sum)
}

/// The length of a text field: inclusive limits, trimmed.
fn text(of: &Value, name: &str, limit: usize) -> Result<usize, String> {
    match &of[name] {
        Value::Null => Ok(0),
        Value::String(text) if length(text.trim()) <= limit => Ok(length(text.trim())),
        Value::String(text) => {
            Err(format!("{name} has {} characters, {limit} are allowed", length(text.trim())))
        }
        _ => Err(format!("{name} is no text")),
    }
}

/// Stricter than the service, which would use defaults that mention people.
fn allowed_mentions(allowed: &Value) -> Result<(), String> {
    let Some(fields) = allowed.as_object() else {
        return Err("allowed_mentions is missing".into());
    };
    if let Some(unknown) =
        fields.keys().find(|key| !["parse", "users", "roles", "replied_user"].contains(&key.as_str()))
    {
        return Err(format!("allowed_mentions.{unknown}"));
    }
    let users = strings(&allowed["users"])?;
    let parse = strings(&allowed["parse"])?;
    if parse.contains(&"users") && !users.is_empty() {
        return Err("allowed_mentions: parse and users exclude each other".into());
    }
    if users.len() > 100 || users.iter().any(|id| id.is_empty() || !id.bytes().all(|b| b.is_ascii_digit())) {
        return Err("allowed_mentions.users".into());
    }
    Ok(())
}

fn strings(list: &Value) -> Result<Vec<&str>, String> {
    match list {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => items.iter().map(|item| item.as_str().ok_or("not a text".into())).collect(),
        _ => Err("not a list".into()),
    }
}

/// Who gets a notification: what the content mentions and `allowed_mentions` lets through. Embeds notify nobody.
/// Like the server, it does not care about backslashes.
fn pings(message: &Value) -> Vec<String> {
    let content = message["content"].as_str().unwrap_or_default();
    let allowed = &message["allowed_mentions"];
    let parse = strings(&allowed["parse"]).unwrap_or_default();
    let users = strings(&allowed["users"]).unwrap_or_default();
    let mut pings: Vec<String> = Vec::new();
    for word in ["everyone", "here"] {
        if content.contains(&format!("@{word}")) && parse.contains(&"everyone") {
            pings.push(word.into());
        }
    }
    for id in mentioned(content) {
        let role = id.starts_with('&');
        let plain = id.trim_start_matches(['!', '&']);
        let through =
            if role { parse.contains(&"roles") } else { parse.contains(&"users") || users.contains(&plain) };
        if through {
            pings.push(if role { id.to_owned() } else { plain.to_owned() });
        }
    }
    pings
}

/// The inside of each `<@…>`.
fn mentioned(text: &str) -> impl Iterator<Item = &str> {
    text.split("<@").skip(1).filter_map(|rest| rest.split_once('>').map(|(id, _)| id))
}

/// The message is not there.
pub(super) fn unknown_message() -> Ruling {
    coded(404, 10_008, "Unknown Message", "no such message")
}

/// It was changed too often for its age.
pub(super) fn too_many_edits() -> Ruling {
    let text = "Maximum number of edits to messages older than 1 hour reached. Try again later";
    coded(400, 30_046, text, "changed too often")
}

pub(super) fn bad_change(why: &str) -> Ruling {
    coded(400, 50_035, "Invalid Form Body", why)
}

fn coded(status: u16, code: u32, message: &str, why: &str) -> Ruling {
    let body = json!({ "message": message, "code": code, "errors": { "_errors": [{ "message": why }] } });
    reject(status, body.to_string(), why)
}

fn reject(status: u16, body: String, why: &str) -> Ruling {
    Ruling::Reject { status, body, why: why.into() }
}
