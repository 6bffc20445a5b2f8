//! Slack's rules for an incoming webhook (Block Kit reference, error handling).

use serde_json::Value;

use super::length;
use super::serve::Ruling;

pub(super) fn rule(method: &str, headers: &[(String, String)], body: &[u8]) -> Ruling {
    let json =
        headers.iter().any(|(name, value)| name == "content-type" && value.starts_with("application/json"));
    if method != "POST" || !json {
        return reject("invalid_payload", "not a POST of application/json");
    }
    let Ok(message) = serde_json::from_slice::<Value>(body) else {
        return reject("invalid_payload", "not JSON");
    };
    let text = message["text"].as_str().unwrap_or_default();
    if text.is_empty() {
        return reject("no_text", "text is missing: nothing for the notification");
    }
    if length(text) > 40_000 {
        return reject("msg_too_long", "text above 40000");
    }
    match blocks(&message["blocks"]) {
        Err(why) => reject("invalid_blocks", &why),
        Ok(()) => Ruling::Accept { pings: pings(&message), loud: true },
    }
}

fn blocks(blocks: &Value) -> Result<(), String> {
    let blocks = match blocks {
        Value::Null => return Ok(()),
        Value::Array(blocks) => blocks,
        _ => return Err("blocks is no list".into()),
    };
    if blocks.len() > 50 {
        return Err("more than 50 blocks".into());
    }
    for block in blocks {
        match block["type"].as_str() {
            Some("section") => text_object(&block["text"], 3000)?,
            Some("header") => text_object(&block["text"], 150)?,
            Some("divider") => {}
            Some("context") => {
                let elements = block["elements"].as_array().ok_or("context without elements")?;
                if elements.is_empty() || elements.len() > 10 {
                    return Err("context with no or more than 10 elements".into());
                }
                elements.iter().try_for_each(|element| text_object(element, 3000))?;
            }
            other => return Err(format!("block type {other:?}")),
        }
    }
    Ok(())
}

fn text_object(object: &Value, limit: usize) -> Result<(), String> {
    if !matches!(object["type"].as_str(), Some("plain_text" | "mrkdwn")) {
        return Err("text object without type".into());
    }
    let text = object["text"].as_str().ok_or("text object without text")?;
    match length(text) {
        0 => Err("empty text object".into()),
        length if length > limit => Err(format!("text object of {length}, {limit} are allowed")),
        _ => Ok(()),
    }
}

/// Every `<@…>` and `<!…>` in the notification text and in markup; and bare names, as if somebody had switched
/// `link_names` on.
fn pings(message: &Value) -> Vec<String> {
    let mut texts = vec![message["text"].as_str().unwrap_or_default()];
    if let Some(blocks) = message["blocks"].as_array() {
        texts.extend(blocks.iter().filter_map(|block| block["text"]["text"].as_str()));
    }
    let mut pings: Vec<String> = Vec::new();
    for text in texts {
        for mark in ["<@", "<!"] {
            let inside = text.split(mark).skip(1).filter_map(|rest| rest.split_once('>'));
            pings.extend(inside.map(|(id, _)| id.to_owned()));
        }
        for name in ["channel", "here", "everyone"] {
            if text.contains(&format!("@{name}")) {
                pings.push(name.into());
            }
        }
    }
    pings.sort();
    pings.dedup();
    pings
}

fn reject(body: &str, why: &str) -> Ruling {
    Ruling::Reject { status: 400, body: body.into(), why: why.into() }
}
