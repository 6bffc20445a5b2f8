//! One message on one phone.

use horus_core::plan::SinkKind;
use serde_json::Value;

use super::Preview;
use super::markup::{discord, html, slack};

/// The message in a frame of a phone's width. `scheme`: `light` or `dark`.
pub(super) fn phone(preview: &Preview, scheme: &str) -> String {
    let (kind, lock, chat) = match preview.kind {
        SinkKind::Discord => {
            ("discord", discord(word(&preview.body, "content")), discord_chat(&preview.body))
        }
        SinkKind::Slack => ("slack", slack(word(&preview.body, "text"), true), slack_chat(&preview.body)),
        SinkKind::Webhook => ("other", html(&preview.first_line), raw(&preview.body)),
    };
    let noise = preview.noise();
    let needs = if preview.needs_you { ", needs you" } else { "" };
    let sink = html(&preview.sink);
    format!(
        "<section class=\"phone {kind} {scheme}\">\n<div class=\"kind\">{sink}, {scheme}, {noise}{needs}</div>\n\
         <div class=\"lock\"><b>Horus</b><span>{lock}</span></div>\n{chat}</section>\n"
    )
}

fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn who(name: &str) -> String {
    format!("<div class=\"who\"><i>H</i>Horus <em>{name}</em> <small>14:35</small></div>\n")
}

fn discord_chat(body: &Value) -> String {
    let mut out = format!("<div class=\"chat\">{}", who("APP"));
    out += &format!("<div class=\"text\">{}</div>\n", discord(word(body, "content")));
    for embed in body.get("embeds").and_then(Value::as_array).into_iter().flatten() {
        let colour = embed.get("color").and_then(Value::as_u64).unwrap_or(0x88_8888);
        out += &format!("<div class=\"embed\" style=\"border-color:#{:06x}\">", colour & 0xff_ffff);
        out += &format!("<b>{}</b>", discord(word(embed, "title")));
        if let Some(text) = embed.get("description").and_then(Value::as_str) {
            out += &format!("<div>{}</div>", discord(text));
        }
        for field in embed.get("fields").and_then(Value::as_array).into_iter().flatten() {
            out += &format!(
                "<div><strong>{}</strong>\n{}</div>",
                discord(word(field, "name")),
                discord(word(field, "value"))
            );
        }
        if let Some(footer) = embed.get("footer") {
            out += &format!("<small>{}</small>", html(word(footer, "text")));
        }
        out += "</div>\n";
    }
    out + "</div>\n"
}

fn slack_chat(body: &Value) -> String {
    let mut out = format!("<div class=\"chat\">{}", who("APP"));
    let blocks = body.get("blocks").and_then(Value::as_array);
    if blocks.is_none() {
        out += &format!("<div class=\"block\">{}</div>\n", slack(word(body, "text"), true));
    }
    for block in blocks.into_iter().flatten() {
        let is_context = word(block, "type") == "context";
        let class = if is_context { "context" } else { "block" };
        let own = block.get("text").into_iter();
        let elements = block.get("elements").and_then(Value::as_array).into_iter().flatten();
        for text in own.chain(elements) {
            let markup = word(text, "type") == "mrkdwn";
            out += &format!("<div class=\"{class}\">{}</div>\n", slack(word(text, "text"), markup));
        }
    }
    out + "</div>\n"
}

fn raw(body: &Value) -> String {
    format!("<pre>{}</pre>\n", html(&serde_json::to_string_pretty(body).unwrap_or_default()))
}
